"""A hand on the real window: keys and clicks as by xdotool, and a walk over its widgets."""

from __future__ import annotations

import contextlib
import gc
import itertools
import re
import threading
import time
import tkinter as tk
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from fake_call import FakeBackend, FakeController
from hand import HANDS, Hand
from screens import KEPT

import connectsphere as cs

PATIENCE = 15.0
CLOCK = tk.Tcl()  # its timers run as long as this thread's events do, whatever becomes of a window


def rest(seconds: float) -> None:
	"""Let all windows live for a while; what waits for events takes no time of the processor."""
	over: list[bool] = []
	CLOCK.after(max(1, round(seconds * 1000)), over.append, True)
	while not over:
		CLOCK.dooneevent(0)


def mainloop(root: tk.Misc, windows: int = 0) -> None:
	"""Until no more windows are open: Tk counts those that are kept, too."""
	root.tk.mainloop(windows + sum(map(len, KEPT.values())))


tk.Misc.mainloop = mainloop  # type: ignore[method-assign]


class Lasting(tk.Tk):
	"""The Tk of a window, for the next one, too: a new Tk takes as long as all that the window shows."""

	CLASSES = (".", cs.KEYBOARD, "all", "Tk", "Text", "Entry", "Canvas", "Menu", "Toplevel")

	def __init__(self, display: str) -> None:
		super().__init__(screenName=display)
		self.drawn: dict[tuple[Any, ...], Any] = {}  # what was drawn for its windows: see `photo`
		self.shown = tk.Canvas(self)  # never seen: a picture that nothing shows goes to the display anew
		self._new = dict(self._habits())
		self._own = {*vars(self), "_own"}

	def _habits(self) -> Iterator[tuple[tuple[str, str], str]]:
		"""What keys and clicks do, and which virtual events they are, in all windows."""
		call, words = self.tk.call, self.tk.splitlist
		for name in self.CLASSES:
			for event in words(call("bind", name)):
				yield (name, event), str(call("bind", name, event))
		for event in words(call("event", "info")):
			yield ("", event), " ".join(map(str, words(call("event", "info", event))))

	def winfo_children(self) -> list[tk.Widget]:
		return [one for one in super().winfo_children() if one is not self.shown]

	def taken(self) -> Lasting:
		"""This without what the last test put in place of methods."""
		for name in {*vars(self)} - self._own:
			vars(self).pop(name)
		return self

	def emptied(self) -> Lasting:
		"""This without its window, as new."""
		call = self.tk.call
		for child in self.winfo_children():
			child.destroy()
		for key in self.tk.splitlist(call("wm", "protocol", ".")):
			call("wm", "protocol", ".", key, "")
		for key in ("-fullscreen", "-zoomed", "-topmost"):
			call("wm", "attributes", ".", key, 0)
		for words in (("title", "tk"), ("client", ""), ("minsize", 1, 1), ("geometry", "1x1+0+0")):
			call("wm", words[0], ".", *words[1:])
		call("bindtags", ".", (".", "Tk", "all"))
		call(".", "configure", "-background", "#d9d9d9", "-cursor", "")
		for what in ("PRIMARY", "CLIPBOARD"):
			call("selection", "clear", "-selection", what)
		commands = {*(self._tclCommands or ())} - {"tkerror", "exit"}
		for (name, event), does in {**dict.fromkeys(self._new, ""), **dict(self._habits())}.items():
			if does != (new := self._new.get((name, event), "")):
				commands.update(re.findall(r"\[(\d\w*) ", does))
				if name:
					call("bind", name, event, new)
					continue
				call("event", "delete", event)
				if new:
					call("event", "add", event, *new.split())
		for command in commands:
			self.tk.deletecommand(command)
		self._tclCommands = ["tkerror", "exit"]
		call("wm", "withdraw", ".")
		call("update")
		return self


def photo(look: cs.Look, draw: Callable[..., Any], *values: Any, draws: Any = cs.Look.photo) -> Any:
	"""As `look` does it; a small picture that a Tk has shown once is not made again for its next window."""
	if not isinstance(root := look.root, Lasting):
		return draws(look, draw, *values)
	drawn, key = root.drawn, (draw, values)
	if key in drawn and key not in look._photos:
		look._photos[key] = drawn[key]
		look._pixels += drawn[key].width() * drawn[key].height()
	found = draws(look, draw, *values)
	grip = look.px(5), look.px(28)  # of a scroll bar: ttk makes an element of that very picture, once
	wide, tall = found.width(), found.height()
	if key not in drawn and wide * tall < 40_000 and max(wide, tall) < 1_000 and values[:2] != grip:
		drawn[key] = found
		root.shown.create_image(0, 0, image=found)
	return found


cs.Look.photo = photo  # type: ignore[method-assign]


class NoStart:
	"""In place of the start window of who goes into a meeting at once: to draw it takes as long as that."""

	def __init__(self, loop: cs.WindowLoop) -> None:
		self.frame = tk.Frame(loop.root)

	def say(self, *_: object) -> None: ...
	def tick(self) -> None: ...
	def close(self) -> None: ...


class Driver:
	"""The window in this process, and a hand on its display."""

	def __init__(self, display: str, backend: Any, size: str = "1280x720", start: bool = True) -> None:
		"""`size` "" leaves it where the program puts it; without `start` it is empty until a meeting."""
		self.display, self.backend, self.over = display, backend, False
		self.faults: list[BaseException] = []
		self._hand = None if display in HANDS else Hand(display)
		kept = KEPT.get(display)
		self.root = kept.pop().taken() if kept else Lasting(display)
		self.root.report_callback_exception = lambda kind, fault, trace: self.faults.append(fault)
		with pytest.MonkeyPatch.context() as patch:
			if not start:
				patch.setattr(cs, "StartView", NoStart)
			self.loop = cs.WindowLoop(backend, self.root)
		self.root.deiconify()
		if size:
			self.root.geometry(f"{size}+0+0")
			self.hand("mousemove", "5", "5")
			wide = int(size.partition("x")[0])
			self.until(lambda: self.root.winfo_width() == wide, "the window has its size")
		self.until(self.root.winfo_viewable, "the window")
		self.pump(0.05)

	def pump(self, seconds: float) -> None:
		"""Let the window live for a while."""
		rest(seconds)
		self.root.update()
		assert not self.faults, self.faults

	def until(self, true: Callable[[], Any], what: str, seconds: float = PATIENCE) -> None:
		"""Let the window live until something is so."""
		end = time.monotonic() + seconds
		while not true():
			assert time.monotonic() < end, f"not in {seconds} s: {what}"
			self.pump(0.01)

	def hand(self, *words: str) -> None:
		"""One xdotool command, while the window goes on living; it has had its events afterwards."""
		busy = self.begin(words)
		while busy.is_alive():
			rest(0.003)
		with contextlib.suppress(tk.TclError):  # it may have been closed
			for _ in range(2):  # the display has carried out what came before this question
				self.root.winfo_pointerxy()
				self.root.update()

	def begin(self, *commands: tuple[str, ...]) -> threading.Thread:
		"""Let the hand do these commands of xdotool; the thread in which it does."""

		def work() -> None:
			for words in commands:
				(self._hand or HANDS[self.display]).do(*words)

		thread = threading.Thread(target=work, name="hand")
		thread.start()
		return thread

	def key(self, *keys: str) -> None:
		self.hand("key", *keys)
		self.pump(0.08)

	def command(self, *keys: str) -> None:
		"""Press keys that are commands: not while the messages are open, where letters are text."""
		if self.view.reading():
			self.key("Escape")
		self.key(*keys)

	def click(self, widget: tk.Misc, x: int | None = None, y: int | None = None, button: int = 1) -> None:
		"""Click a widget, in its middle or at a place within it."""
		self.root.update()
		at = (
			widget.winfo_rootx() + (widget.winfo_width() // 2 if x is None else x),
			widget.winfo_rooty() + (widget.winfo_height() // 2 if y is None else y),
		)
		self.hand("mousemove", str(at[0]), str(at[1]), "click", str(button))
		self.pump(0.08)

	def meet(self, people: int = 6, host: bool = False, **changes: Any) -> FakeController:
		"""Go into a meeting."""
		controller = FakeController(people, host, **changes)
		self.backend.controllers.append(controller)
		self.loop.enter(controller, mic=False, camera=False)
		self.until(lambda: self.view.stage.tiles and self.view.stage.canvas.winfo_ismapped(), "the stage")
		self.pump(0.1)
		return controller

	@property
	def view(self) -> cs.MainAppView:
		assert self.loop.view is not None
		return self.loop.view

	@property
	def start(self) -> cs.StartView:
		assert self.loop.start is not None
		return self.loop.start

	@property
	def closed(self) -> bool:
		"""Whether there is no window any more, or another has its Tk."""
		try:
			return self.over or not self.root.winfo_exists()
		except tk.TclError:
			return True

	def close(self) -> None:
		if not self.closed:
			kept = KEPT.get(self.display)
			if kept == []:
				self.root.destroy = lambda: kept.append(self.root.emptied())  # type: ignore[method-assign]
			self.loop.stop()
			vars(self.root).pop("destroy", None)
		self.over = True
		if self._hand:
			self._hand.close()
			self._hand = None
		assert not self.faults, self.faults

	def type(self, text: str, *then: str) -> None:
		"""Write into what has the keyboard, then press keys."""
		self.hand("type", "--delay", "2", text)
		if then:
			self.key(*then)

	def spot(self, view: Any, prefix: str) -> None:
		"""Click a place of a painted list by the beginning of its name."""
		found = lambda: next((one for one in view.actions if one.startswith(prefix)), "")  # noqa: E731
		if isinstance(view, cs.ListView):
			self.pump(0.05)  # it is laid out then
			self.until(lambda: found() or view._ended or view.scroll(40), f"{prefix} in sight")
		self.until(found, f"{prefix} in sight")
		if isinstance(view, cs.ListView) and middle(view, found())[1] > view.canvas.winfo_height() - 20:
			view.scroll(60)
		self.click(view.canvas, *middle(view, found()))

	def menu(self, words: str) -> None:
		"""Choose an entry of the menu that is open, by keyboard."""

		def menus() -> list[str]:
			grabs = self.root.tk.splitlist(self.root.tk.call("grab", "current"))
			return [str(one) for one in grabs if "menu" in str(one)]

		self.until(menus, "a menu")
		shown = self.root.nametowidget(menus()[0])
		labels = [
			str(shown.entrycget(at, "label")).strip() if shown.type(at) == "command" else ""
			for at in range(shown.index("end") + 1)
		]
		assert words in labels, labels
		while shown.index("active") is None or labels[shown.index("active")] != words:
			self.key("Down")
		self.key("Return")
		self.until(lambda: not menus(), "the menu is closed")

	def entries(self, key: int) -> dict[str, cs.Act]:
		"""What the menu of a person offers, by its words."""
		return {entry[0]: entry[1] for entry in self.view.actions.about(key) if entry}

	def button(self, parent: tk.Misc, index: int) -> None:
		"""Click one of the canvases packed in `parent`."""
		self.click([one for one in walk(parent) if isinstance(one, tk.Canvas)][index])


Open = Callable[..., Driver]


def middle(view: cs.Painted, name: str) -> tuple[int, int]:
	"""Where on its canvas the middle of what is called so lies."""
	left, top, right, foot = view.canvas.coords(name)
	return int(left + right) // 2, int(top + foot) // 2


def tops(view: cs.ListView) -> dict[Any, int]:
	"""The rows in sight and their upper edges."""
	return dict(zip(view.rows[view._at :], view._edges[:-1], strict=False))


@pytest.fixture
def opened(display: str) -> Iterator[Open]:
	"""Opens windows on false meetings: size, whether with the start window, settings."""
	drivers: list[Driver] = []

	def make(size: str = "1280x720", start: bool = True, **settings: Any) -> Driver:
		drivers.append(Driver(display, FakeBackend(6, settings), size, start))
		return drivers[-1]

	yield make
	while drivers:
		drivers.pop().close()
	gc.collect()  # Tk objects must end in the thread that made them


def overlaps(root: tk.Misc) -> list[str]:
	"""What overlaps its sibling, leaves its parent or is smaller than it asks to be."""
	found = []
	for parent in walk(root):
		boxes = []
		for child in parent.winfo_children():
			over = child.winfo_manager() == "place" and (parent is root or isinstance(child, tk.Frame))
			if isinstance(child, tk.Menu | tk.Toplevel) or over or not child.winfo_manager():
				continue  # menus, dialogs, windows of their own, and tooltips where the mouse happens to rest
			if not child.winfo_ismapped():
				if parent.winfo_ismapped():
					found.append(f"{child} has no room in {parent}")
				continue
			x, y, wide, tall = child.winfo_x(), child.winfo_y(), child.winfo_width(), child.winfo_height()
			if x < 0 or y < 0 or x + wide > parent.winfo_width() or y + tall > parent.winfo_height():
				found.append(f"{child} leaves {parent}: {x},{y} {wide}x{tall}")
			small = wide < child.winfo_reqwidth() or tall < child.winfo_reqheight()
			if small and isinstance(child, tk.Label | tk.Canvas):
				found.append(f"{child} is smaller than it asks for: {wide}x{tall}, {described(child)}")
			for name, (left, top, right, foot) in boxes:
				if isinstance(child, tk.Label) and child.winfo_manager() == "place":
					continue
				if x < right and left < x + wide and y < foot and top < y + tall:
					found.append(f"{child} overlaps {name}")
			boxes.append((str(child), (x, y, x + wide, y + tall)))
		if isinstance(parent, tk.Canvas) and parent.winfo_viewable():
			found += crossing_words(parent)
	return found


def states(driver: Driver) -> Iterator[str]:
	"""Go through the states of the window that show different controls; the name of each."""
	driver.until(lambda: driver.start.list.rows, "the list")
	for ask in (lambda: None, driver.start._ask_address, driver.start.settings):
		ask()
		driver.pump(0.12)
		yield ask.__name__
		driver.key("Escape")
	call = driver.meet(50, host=True, fingerprint="5a" * 32)
	call.fps = 1e-9  # what moves in the pictures is nobody's control
	view = driver.view
	ways: list[tuple[str, Callable[[], object]]] = [
		*((tab, lambda tab=tab: view.show_panel(tab)) for tab in ("messages", "attendees", "files")),
		*((name, lambda name=name: view.set_layout(name)) for name in ("speaker", "focus", "grid")),
		("pinned", lambda: view.stage.pin(1)),
		("shared screen", lambda: [view.stage.pin(None), call.change(presenter=3, new_host=True)]),
		("reconnecting", lambda: call.change(link="reconnecting")),
		("live again", lambda: call.change(link="live", presenter=0)),
		("two toasts", lambda: [view.toasts.add(f"Toast {n}", "info", "Look", stays=True) for n in (1, 2)]),
		("leaving", view.actions.ask_leave),
		(
			"removing",
			lambda: view.actions.ask_remove("Wolfeschlegelsteinhausenbergerdorff-Maximilian Alexander"),
		),
		("sharing", view.actions.share),
		("the class", view.flip_class),
		("giving", view.actions.give_app),
		("invitation", view.actions.invite),
		("settings", view.settings),
		*(
			(page, lambda page=page: view.dialog.choose(page))  # type: ignore[union-attr]
			for page in ("video", "look", "language", "keys", "audio")
		),
	]
	for name, go in ways:
		go()
		driver.pump(0.12)
		yield name


def crossing_words(canvas: tk.Canvas) -> list[str]:
	"""Which words on a canvas lie on others."""
	items = [item for item in canvas.find_all() if canvas.type(item) == "text" and canvas.bbox(item)]
	boxes = [(canvas.itemcget(item, "text"), canvas.bbox(item)) for item in items]
	return [
		f"“{one}” lies on “{other}” in {canvas}"
		for (one, a), (other, b) in itertools.combinations(boxes, 2)
		if min(a[2], b[2]) - max(a[0], b[0]) > 2 and min(a[3], b[3]) - max(a[1], b[1]) > 4
	]


def described(widget: tk.Misc) -> str:
	"""What it asks for, and the words on it."""
	words = [str(widget["text"])] if isinstance(widget, tk.Label) else written(widget)
	return f"{widget.winfo_reqwidth()}x{widget.winfo_reqheight()} {' '.join(words)!r}"


def written(widget: tk.Misc) -> list[str]:
	"""What a canvas in sight has written on it."""
	if not isinstance(widget, tk.Canvas) or not widget.winfo_ismapped():
		return []
	return [widget.itemcget(item, "text") for item in widget.find_all() if widget.type(item) == "text"]


def walk(widget: tk.Misc) -> Iterator[tk.Misc]:
	yield widget
	for child in widget.winfo_children():
		yield from walk(child)
