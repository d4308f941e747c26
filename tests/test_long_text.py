"""Whatever others write, of any length and script: the window's thread goes on, and paints nothing huge."""

from __future__ import annotations

import itertools
import re
import shutil
import statistics
import time
import tkinter as tk
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
from fake_call import FakeController
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st
from waiting import best_of, cheap
from window_driver import Driver, Open, opened, walk

import connectsphere as cs

if shutil.which("xdotool") is None:
	pytest.skip("needs xdotool", allow_module_level=True)

__all__ = ["opened"]  # a fixture
ALPHABETS = (
	"x", "W", "i", "汉字学习", "🦄", "👍🎉", "👩‍👩‍👧🇫🇷", "a\u0301\u0302", "a\u200d", "¾𠀀ﷺꙮ", "ภาษาไทย",
	"word ", "z\n", "\n", " ", "\t", "\u00a0", "if a:\n    b = 1\n", "https://example.org/", "http://a ",
	"مرحبا بالجميع ", "हिन्दी में लिखा ",
)  # fmt: skip
LETTERS = st.sampled_from(ALPHABETS) | st.text(min_size=1, max_size=20)
PIECES = st.lists(st.tuples(LETTERS, st.sampled_from([1, 9, 90, 900, 4_000])), min_size=1, max_size=5)
Pieces = list[tuple[str, int]]


def joined(pieces: Pieces) -> str:
	"""The text that these pieces make, each so many times."""
	return "".join(letters * many for letters, many in pieces)[:4_000]


NOW = time.time()


class Counting:
	"""A font whose letters are all 7 pixels wide, and how much it was asked to measure."""

	def __init__(self) -> None:
		self.letters = 0

	def measure(self, text: str) -> int:
		self.letters += len(text)
		return 7 * len(text)


@given(PIECES, st.integers(70, 700))
def test_what_is_measured_does_not_grow_faster_than_what_is_shown(pieces: Pieces, room: int) -> None:
	text, font = joined(pieces), Counting()
	lines = cs.wrapped(text, font, room, "\u00a0" * 3)  # type: ignore[arg-type]
	assert font.letters <= len(set(" ".join(lines))) + 1, "each character once"
	font = Counting()
	shown = cs.clipped(text, room, font.measure)
	assert 7 * len(shown) <= room and "\n" not in shown
	assert font.letters <= 20 * (room // 7 + 16), "little more than what there is room for"


@given(st.text(st.sampled_from(" \n\tab"), max_size=60))
@example(" " * 3_000 + "x" + " " * 900)
def test_a_message_keeps_how_its_first_line_is_indented(text: str) -> None:
	kept = cs.clean_text(text)
	assert kept.strip() == text.strip()
	assert not kept or kept.split("\n")[0] in text.rstrip().split("\n")


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch) -> list[float]:
	"""The CPU seconds that each callback of Tk takes."""
	spent: list[float] = []
	call = tk.CallWrapper.__call__

	def timed(self: Any, *args: Any) -> Any:
		began = time.thread_time()
		try:
			return call(self, *args)
		finally:
			spent.append(time.thread_time() - began)

	monkeypatch.setattr(tk.CallWrapper, "__call__", timed)
	return spent


def painted(root: tk.Tk) -> Iterator[tuple[int, str]]:
	"""The larger side of everything there is in a window, and what it is."""
	for widget in walk(root):
		yield max(widget.winfo_reqwidth(), widget.winfo_reqheight()), str(widget)
		for item in widget.find_all() if isinstance(widget, tk.Canvas) else ():
			left, top, right, foot = widget.bbox(item) or (0, 0, 0, 0)
			yield max(right - left, foot - top, *map(abs, (top, foot))), f"{widget.type(item)} of {widget}"
	kept = map(str, getattr(root, "drawn", {}).values())  # of windows before, all small
	for name in {*root.image_names()}.difference(kept):
		yield max(root.tk.getint(root.tk.call("image", side, name)) for side in ("width", "height")), name


def within_bounds(driver: Driver) -> None:
	assert max(painted(driver.root)) <= (16_100, "~"), max(painted(driver.root))


def told(call: FakeController, text: str, **more: Any) -> None:
	"""One more message."""
	chat = call.snapshot().chat
	call.change(
		chat=(*chat[-150:], cs.ChatLine(chat[-1].n + 1, "Bo", cs.clean_text(text) or "-", NOW, **more))
	)


Family = Callable[[Driver, FakeController, str], object]
FAMILIES: dict[str, Family] = {
	"chat": lambda _, call, text: told(call, text),
	"own": lambda _, call, text: told(call, text, own=True),
	"private": lambda _, call, text: told(call, text, to="Zuri Okafor"),
	"name": lambda _, call, text: call.change_person(2, name=text),
	"title": lambda _, call, text: call.change(title=text, host=text),
	"file": lambda _, call, text: call.change(files=(cs.FileEntry("f1", text, 1, text),)),
	"reason": lambda _, call, text: call.gui_queue.put({"event": "error", "reason": text}),
	"reaction": lambda _, call, text: call.gui_queue.put({"event": "reaction", "emoji": "👍", "from": text}),
	"joined": lambda _, call, text: call.gui_queue.put({"event": "join", "id": 90, "name": text}),
	"toast": lambda driver, _, text: driver.view.toasts.add(text, action=text[:40]),
	"menu": lambda driver, _, text: driver.loop.look.menu(driver.root, [(text, lambda: None)]),
	"tooltip": lambda driver, _, text: cs.Tooltip(driver.loop.look, driver.view.side.frame, text)._show(),
	"notice": lambda driver, _, text: driver.view.notice.show((text, "link", (text, lambda: None))),
	"dialog": lambda driver, _, text: cs.ConfirmDialog(
		driver.loop.look, text, text, (text[:100], "plain", lambda: None)
	).close(),
}  # fmt: skip


def cost(driver: Driver, act: Callable[[], object]) -> float:
	"""CPU seconds of this thread until the window shows what `act` changes."""
	began = time.thread_time()
	act()
	driver.view.tick()
	driver.root.update()
	return time.thread_time() - began


@pytest.mark.parametrize("scale", ["100", "150", "200"])
def test_any_text_costs_little_and_is_painted_small(scale: str, opened: Open, called: list[float]) -> None:
	driver = opened("1600x1000", scale=scale, start=False)
	call = driver.meet(2)
	call.fps = 0
	panels = {"name": "attendees", "file": "files"}

	def costs_little(family: Family, pieces: Pieces) -> bool:
		"""Whether such a message costs little CPU time, and each callback."""
		called.clear()
		spent = [cost(driver, partial(family, driver, call, f"{n}{joined(pieces)}")) for n in range(3)]
		return cheap(statistics.median(spent), 0.05) and cheap(max(called, default=0.0), 0.1)

	@settings(max_examples=4, report_multiple_bugs=False, suppress_health_check=list(HealthCheck))
	@given(PIECES)
	def any_text(pieces: Pieces) -> None:
		for name, family in FAMILIES.items():
			driver.view.show_panel(panels.get(name, "messages"))
			driver.pump(0.02)
			# a busy machine's caches may be cold
			assert any(costs_little(family, pieces) for _ in range(3)), name
			within_bounds(driver)

	any_text()


def history(text: str) -> tuple[cs.ChatLine, ...]:
	"""As much of a meeting's past as a newcomer is told."""
	return tuple(
		cs.ChatLine(n, "Bo" if n % 3 else "Ana", f"{n} {text}"[: cs.MAX_CHAT], NOW - 90 * (200 - n))
		for n in range(1, 201)
	)


@pytest.mark.parametrize("scale", ["100", "200"])
def test_a_history_costs_what_is_seen_of_it(scale: str, opened: Open, called: list[float]) -> None:
	driver = opened("1600x1000", scale=scale, start=False)
	call = driver.meet(2)
	call.fps = 0
	view = driver.view.chat.list

	@settings(max_examples=6, report_multiple_bugs=False, suppress_health_check=list(HealthCheck))
	@example([("🦄", 4_000)])
	@example([("\n", 3_990)])
	@example([("مرحبا", 800)])
	@given(PIECES)
	def any_history(pieces: Pieces) -> None:
		# a script seen for the first time loads its fonts
		assert best_of(3, lambda: cheap(whole_history(pieces), 0.1))

	def whole_history(pieces: Pieces) -> float:
		"""The costliest moment of being told it, scrolled through it and seen it change its width."""
		view.canvas.update()
		driver.view.chat.lines.cache_clear()
		call.change(chat=())
		driver.view.tick()
		called.clear()
		spent = [cost(driver, partial(call.change, chat=history(joined(pieces))))]
		driver.root.geometry("1500x960")
		driver.pump(0.05)
		for move in (
			partial(view.scroll, -900), *(partial(view.yview, "moveto", at) for at in (0.6, 0.0)),
			partial(view.scroll, 500), partial(view.yview, "moveto", 1.0),
		):  # fmt: skip
			spent.append(cost(driver, move))
			within_bounds(driver)
		driver.view.chat.fold(200)
		driver.root.geometry("1600x1000")
		driver.pump(0.05)
		within_bounds(driver)
		return max([*spent, *called])

	any_history()


def folds(driver: Driver) -> list[str]:
	return [name for name in driver.view.chat.list.actions if name.startswith("fold")]


def seen(driver: Driver) -> list[str]:
	"""The words of the list, from above."""
	canvas = driver.view.chat.list.canvas
	items = [(canvas.coords(one)[1], canvas.itemcget(one, "text")) for one in canvas.find_all() if
		canvas.type(one) == "text"]  # fmt: skip
	return [words for y, words in sorted(items) if 0 <= y < canvas.winfo_height()]


def test_a_long_message_is_folded_read_and_copied_whole(opened: Open) -> None:
	driver = opened("1366x768", start=False)
	call = driver.meet(2)
	view = driver.view.chat.list
	told(call, "\n".join(f"line {n}" for n in range(400)))
	driver.until(lambda: folds(driver), "the folded message")
	assert "line 0" in seen(driver) and "line 60" not in seen(driver)
	driver.spot(view, "fold")
	driver.until(lambda: "line 21" in seen(driver), "more of it")
	read: list[str] = []
	while "Show less" not in seen(driver):
		read += [words for words in seen(driver) if words.startswith("line ") and words not in read]
		view.scroll(200)
		driver.pump(0.01)
		within_bounds(driver)
	read += [words for words in seen(driver) if words.startswith("line ") and words not in read]
	assert read == [f"line {n}" for n in range(400)], "every line comes by, in order"
	driver.click(view.canvas, 90, view.canvas.winfo_height() // 2)
	driver.key("ctrl+c")
	assert driver.root.clipboard_get() == call.snapshot().chat[-1].text
	driver.spot(view, "fold")
	assert "line 60" not in seen(driver)
	told(call, "and on")
	driver.until(lambda: "and on" in seen(driver), "what is said next")


def test_who_pages_up_misses_nothing(opened: Open) -> None:
	driver = opened("1366x768", start=False)
	call = driver.meet(2)
	view = driver.view.chat.list
	for count in (2, 3):
		call.change(chat=())
		driver.view.tick()
		call.change(chat=tuple(cs.ChatLine(n, "Bo", "x\n" * 17 + f"tail {n}", NOW) for n in range(count)))
		driver.view.tick()
		assert f"tail {count - 1}" in seen(driver), "the list begins at the newest message"
	call.change(
		chat=tuple(cs.ChatLine(n, "Bo", f"{n}\n" * (n * 7 % 13 + 1) + f"end {n}", NOW) for n in range(1, 201))
	)
	driver.until(lambda: "end 200" in seen(driver), "the newest message")
	ends: set[str] = set()
	while not re.search(r"Today|20\d\d-\d\d-\d\d", " ".join(seen(driver))):  # the day's line
		ends.update(words for words in seen(driver) if words.startswith("end"))
		before = seen(driver)[0]
		view.scroll(60 - view.canvas.winfo_height())
		driver.pump(0.01)
		assert before in seen(driver), "what stood above stands below"
	ends.update(words for words in seen(driver) if words.startswith("end"))
	assert len(ends) == 200


EMOJI = st.sampled_from(["👍", "❤", "🦄", "👍🏽", "👩‍👩‍👧", "🇫🇷", "1️⃣", "𠀀"])


def meant(text: str) -> str:
	"""What a message says into which `text` was pasted behind an emoji: of the first ones what is drawn."""
	shown = itertools.chain([True] * (cs.Composer.PICTURES - 1), itertools.repeat(False))
	said = lambda emoji: cs.emoji_key(emoji) or cs.plain(emoji)  # noqa: E731
	return cs.EMOJI_PATTERN.sub(lambda found: said(found[0]) if next(shown) else found[0], text)


def test_pasting_any_emoji_costs_little_and_loses_none(opened: Open) -> None:
	driver = opened("1366x768", start=False)
	driver.meet(2).fps = 0
	composer = driver.view.chat.composer
	driver.click(composer.entry)

	def paste(text: str) -> float:
		"""CPU seconds of pasting it into the middle of a draft."""
		composer.entry.delete("1.0", "end")
		composer.entry.insert("1.0", "<👍>")
		composer._changed()
		composer.entry.mark_set("insert", "1.2")
		driver.root.clipboard_clear()
		driver.root.clipboard_append(text)
		driver.root.update()
		return cost(driver, partial(composer.entry.event_generate, "<<Paste>>"))

	@settings(max_examples=12, report_multiple_bugs=False, suppress_health_check=list(HealthCheck))
	@example(["👍"], 4_000)
	@example(["🦄"], 4_000)
	@example(["👍", "x", "❤", "🦄\n"], 2_000)
	@given(st.lists(EMOJI | LETTERS, min_size=1, max_size=6), st.sampled_from([1, 30, 1_000]))
	def pasted(parts: list[str], many: int) -> None:
		text = ("".join(parts) * many)[:8_000]
		assume(not re.search("[\0\r\ue000-\uf8ff]", text))  # these are no letters
		assert best_of(3, lambda: cheap(paste(text), 0.05))
		assert composer.text() == f"<👍{meant(text)}>"
		assert composer.text("insert") == ">", "the cursor stands behind what was pasted"
		assert not cs.EMOJI_PATTERN.search(composer.entry.get("1.0", "end"))

	pasted()
