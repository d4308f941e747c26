"""The real window under a display of its own, driven by real keys and clicks."""

from __future__ import annotations

import gc
import os
import shutil
import subprocess
import time
import tkinter as tk
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from fake_call import FakeBackend, FakeController, ad

import connectsphere as cs

if shutil.which("xdotool") is None:
    pytest.skip("needs xdotool", allow_module_level=True)


class Driver:
    """The window in this process, and a hand on its display."""

    def __init__(self, display: str, backend: FakeBackend, size: str) -> None:
        self.display, self.backend = display, backend
        self.faults: list[BaseException] = []
        self.root = tk.Tk(screenName=display)
        self.root.report_callback_exception = lambda kind, fault, trace: self.faults.append(fault)
        self.loop = cs.WindowLoop(backend, self.root)
        self.root.geometry(f"{size}+0+0")
        self.hand("mousemove", "5", "5")
        self.until(lambda: self.root.winfo_width() == int(size.partition("x")[0]), "the window has its size")
        self.pump(0.2)

    def pump(self, seconds: float) -> None:
        """Let the window live for a while."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.root.update()
            time.sleep(0.002)
        assert not self.faults, self.faults

    def until(self, true: Callable[[], Any], what: str, seconds: float = 5.0) -> None:
        """Let the window live until something is so."""
        end = time.monotonic() + seconds
        while not true():
            assert time.monotonic() < end, f"not in {seconds} s: {what}"
            self.pump(0.01)

    def hand(self, *words: str) -> None:
        """One xdotool command, while the window goes on living."""
        tool = subprocess.Popen(["xdotool", *words], env={**os.environ, "DISPLAY": self.display})
        while tool.poll() is None:
            self.root.update()
            time.sleep(0.002)
        assert tool.returncode == 0

    def key(self, *keys: str) -> None:
        self.hand("key", *keys)
        self.pump(0.1)

    def click(self, widget: tk.Misc, x: int | None = None, y: int | None = None, button: int = 1) -> None:
        """Click a widget, in its middle or at a place within it."""
        self.root.update()
        at = (
            widget.winfo_rootx() + (widget.winfo_width() // 2 if x is None else x),
            widget.winfo_rooty() + (widget.winfo_height() // 2 if y is None else y),
        )
        self.hand("mousemove", str(at[0]), str(at[1]))
        self.pump(0.05)
        self.hand("click", str(button))
        self.pump(0.1)

    def meet(self, people: int = 9, host: bool = False, **changes: Any) -> FakeController:
        """Go into a meeting."""
        controller = FakeController(people, host, **changes)
        self.loop.enter(controller, mic=False, camera=False)
        self.pump(0.5)
        return controller

    @property
    def view(self) -> cs.MainAppView:
        assert self.loop.view is not None
        return self.loop.view

    @property
    def start(self) -> cs.StartView:
        assert self.loop.start is not None
        return self.loop.start

    def close(self) -> None:
        self.loop.stop()
        assert not self.faults, self.faults


Open = Callable[..., Driver]


@pytest.fixture
def opened(display: str) -> Iterator[Open]:
    drivers: list[Driver] = []

    def make(size: str = "1280x720", **settings: Any) -> Driver:
        drivers.append(Driver(display, FakeBackend(9, settings), size))
        return drivers[-1]

    yield make
    while drivers:
        drivers.pop().close()
    gc.collect()  # Tk objects must end in the thread that made them


def last(controller: FakeController, do: str) -> Any:
    return next((c for c in reversed(controller.commands) if c["do"] == do), None)


def overlaps(root: tk.Misc) -> list[str]:
    """What overlaps its sibling, leaves its parent or is smaller than it asks to be."""
    found = []
    for parent in walk(root):
        boxes = []
        for child in parent.winfo_children():
            if isinstance(child, tk.Menu) or not child.winfo_ismapped() or child.winfo_class() == "Overlay":
                continue
            x, y, wide, tall = child.winfo_x(), child.winfo_y(), child.winfo_width(), child.winfo_height()
            if x < 0 or y < 0 or x + wide > parent.winfo_width() or y + tall > parent.winfo_height():
                found.append(f"{child} leaves {parent}: {x},{y} {wide}x{tall}")
            if isinstance(child, tk.Label) and (
                wide < child.winfo_reqwidth() or tall < child.winfo_reqheight()
            ):
                found.append(f"{child} is cut: {child['text']!r}")
            for name, (left, top, right, foot) in boxes:
                if isinstance(child, tk.Label) and child.winfo_manager() == "place":
                    continue
                if x < right and left < x + wide and y < foot and top < y + tall:
                    found.append(f"{child} overlaps {name}")
            boxes.append((str(child), (x, y, x + wide, y + tall)))
    return found


def walk(widget: tk.Misc) -> Iterator[tk.Misc]:
    yield widget
    for child in widget.winfo_children():
        yield from walk(child)


def test_keys_send_commands(opened: Open) -> None:
    driver = opened()
    call = driver.meet()
    for key, do in (("m", "mic"), ("v", "camera"), ("s", "share"), ("h", "hand")):
        driver.key(key)
        assert last(call, do) is not None, key
    driver.key("s")
    assert last(call, "share") == {"do": "share", "on": False}


def test_panel_keys_open_and_close_the_panel(opened: Open) -> None:
    driver = opened()
    driver.meet()
    driver.key("u")
    assert driver.view.attendees.frame.winfo_ismapped()
    driver.key("u")
    assert not driver.view.panel.frame.winfo_ismapped()
    driver.key("c")
    assert driver.view.chat.frame.winfo_ismapped()


def test_space_talks_only_while_held(opened: Open) -> None:
    driver = opened()
    call = driver.meet()
    driver.hand("keydown", "space")
    driver.until(lambda: last(call, "mic") == {"do": "mic", "on": True}, "talking")
    driver.pump(0.8)  # long enough for X to repeat the key as release and press
    assert [c for c in call.commands if c["do"] == "mic"] == [{"do": "mic", "on": True}]
    driver.hand("keyup", "space")
    driver.until(lambda: last(call, "mic") == {"do": "mic", "on": False}, "silent again")


def test_letters_are_text_in_the_composer(opened: Open) -> None:
    driver = opened()
    call = driver.meet()
    before = len(call.commands)
    driver.click(driver.view.chat.composer.entry)
    driver.hand("type", "my mum shares")
    driver.key("shift+Return")
    driver.hand("type", "2 lines")
    driver.key("Return")
    assert call.commands[before:] == [{"do": "chat", "text": "my mum shares\n2 lines"}]
    driver.key("ctrl+d")
    assert last(call, "mic") == {"do": "mic", "on": True}


def test_private_message_goes_to_one(opened: Open) -> None:
    driver = opened()
    call = driver.meet()
    driver.view.people.write_to("Jonas Weber")
    driver.pump(0.2)
    driver.hand("type", "hello")
    driver.key("Return")
    assert last(call, "private") == {"do": "private", "to": "Jonas Weber", "text": "hello"}


def test_raw_emoji_never_reach_tk(opened: Open) -> None:
    driver = opened()
    call = driver.meet()
    entry = driver.view.chat.composer.entry
    driver.click(entry)
    driver.root.clipboard_clear()
    driver.root.clipboard_append("good 👍🏽 dino 🦖")
    driver.key("ctrl+v")
    driver.pump(0.3)
    assert all(ord(char) < 0x1F000 for char in entry.get("1.0", "end"))
    driver.key("Return")
    assert last(call, "chat") == {"do": "chat", "text": "good 👍 dino :t-rex:"}


def test_reaction_is_picked_by_keyboard_and_floats(opened: Open) -> None:
    driver = opened()
    call = driver.meet()
    driver.key("r")
    driver.pump(0.2)
    driver.key("Right")
    driver.key("Return")
    assert last(call, "react") == {"do": "react", "emoji": "❤"}
    driver.until(lambda: driver.view.stage.canvas.find_withtag("react"), "a floating heart")
    driver.until(lambda: not driver.view.stage.canvas.find_withtag("react"), "the heart is gone")


def test_watch_asks_for_what_is_in_sight(opened: Open) -> None:
    driver = opened()
    call = driver.meet(30)
    streams = last(call, "watch")["streams"]
    seen = {person.name for person in call.snapshot().people if person.id in driver.view.stage.tiles}
    assert set(streams) <= seen and len(streams) < 16
    assert all(wish["fps"] == 15 and wish["layer"] in (1, 2) for wish in streams.values())
    driver.key("2")
    driver.until(
        lambda: any(w["layer"] == 3 for w in last(call, "watch")["streams"].values()), "a large speaker"
    )
    driver.key("3")
    driver.until(lambda: len(last(call, "watch")["streams"]) == 1, "only one in focus")


def test_pages_turn_and_pin_goes_to_focus(opened: Open) -> None:
    driver = opened()
    driver.meet(50)
    stage = driver.view.stage
    first = set(stage.tiles)
    assert stage.plan.pages > 3
    driver.click(driver.view.pager.canvas, x=driver.view.pager.canvas.winfo_width() - 5)
    assert stage.plan.page == 1 and not first & set(stage.tiles)
    driver.click(stage.canvas, x=5, y=5)
    driver.key("Next")
    assert stage.plan.page == 2
    driver.key("Prior", "Prior")
    assert set(stage.tiles) == first
    x, y, *_ = stage.tiles[min(first)].box
    driver.click(stage.canvas, x + 20, y + 60)
    driver.key("p")
    assert stage.plan.layout == "focus" and list(stage.tiles) == [min(first)]
    driver.key("p")
    assert stage.plan.layout == "grid" and set(stage.tiles) == first


def test_pictures_move_in_the_tiles(opened: Open) -> None:
    driver = opened()
    driver.meet()
    photo = driver.view.stage.tiles[1]._photo
    assert photo is not None

    def look() -> str:
        name = str(photo)
        return str(
            [driver.root.tk.call(name, "get", x, photo.height() // 2) for x in range(20, photo.width(), 9)]
        )

    seen = look()
    driver.until(lambda: look() != seen, "another picture")
    assert driver.view.stage.tiles[1]._photo is photo


def test_host_leaves_or_ends(opened: Open) -> None:
    driver = opened()
    call = driver.meet(host=True)
    driver.key("Escape")
    assert driver.view.dialog is not None and driver.view.dialog.open
    driver.key("Escape")
    assert not driver.view.dialog.open
    driver.key("Escape")
    driver.pump(0.2)
    driver.key("Tab")
    driver.key("Return")
    assert last(call, "end") == {"do": "end"}
    driver.until(lambda: driver.loop.start is not None, "back at the start window")
    assert "ended" in driver.start.trouble["text"]
    driver.until(lambda: call.closed, "the controller is closed")


def test_member_is_not_offered_host_tools(opened: Open) -> None:
    driver = opened()
    call = driver.meet()
    assert not driver.view.side.buttons["host"].canvas.winfo_ismapped()
    assert not driver.view.attendees.tools.winfo_manager()
    driver.key("Escape")
    driver.pump(0.2)
    driver.key("Return")
    assert last(call, "leave") == {"do": "leave"}


def test_file_is_accepted_and_declined(opened: Open) -> None:
    driver = opened()
    call = driver.meet()
    driver.view.show_panel("files")
    driver.pump(0.2)
    view = driver.view.files.list
    name, (x, y, wide, tall), _ = next(one for one in view.spots if one[0].startswith("download"))
    driver.click(view.canvas, x + wide // 2, y + tall // 2)
    assert last(call, "download") == {"do": "download", "file": "f1"}
    assert name == "downloadf1"


def test_mute_all_and_toast(opened: Open) -> None:
    driver = opened()
    call = driver.meet(host=True)
    driver.key("u")
    driver.pump(0.2)
    button = next(w for w in walk(driver.view.attendees.tools) if isinstance(w, tk.Canvas))
    driver.click(button)
    assert last(call, "mute") == {"do": "mute", "who": "all"}
    call.gui_queue.put(
        {"event": "device", "what": "camera", "state": "failed", "reason": "The camera was pulled out."}
    )
    driver.until(lambda: driver.view.stage.canvas.find_withtag("toast"), "a toast")


def test_start_lists_joins_and_asks_for_the_pin(opened: Open) -> None:
    driver = opened()
    driver.until(lambda: driver.start.list.rows, "the list")
    driver.start.backend.refusal = cs.Refused("wrong_pin", "That PIN is not right.")  # type: ignore[attr-defined]
    driver.click(driver.start.pin.canvas, x=30)
    driver.hand("type", "482913")
    driver.key("Return")
    driver.until(lambda: driver.start.trouble["text"], "the reason")
    assert driver.backend.calls[-1] == ("join", "192.168.1.20", 9000, "Zuri Okafor", "482913", False)
    assert driver.start.pin.value == ""
    driver.backend.refusal = None
    driver.hand("type", "111111")
    driver.click(driver.start.join.canvas)
    driver.until(lambda: driver.loop.view is not None, "in the meeting")


def test_start_joins_the_known_meeting_by_itself(opened: Open) -> None:
    driver = opened()
    driver.backend.known = ad(pin=False)
    driver.until(lambda: driver.loop.view is not None, "in the meeting")


def test_changed_host_is_a_loud_question(opened: Open) -> None:
    driver = opened()
    driver.backend.refusal = cs.Refused("host_changed", "The certificate is another one.")
    driver.start.refused("host_changed", "The certificate is another one.")
    driver.pump(0.3)
    driver.key("Return")
    assert driver.loop.view is None and not [c for c in driver.backend.calls if c[0] == "join"]


def test_hosting_from_the_start_window(opened: Open) -> None:
    driver = opened()
    driver.start._ask_host()
    driver.pump(0.3)
    driver.hand("type", "Chess")
    driver.key("Return")
    driver.until(lambda: driver.loop.view is not None, "in the meeting")
    assert ("host", "Zuri Okafor", "Chess", "auto") in driver.backend.calls


def test_settings_change_devices_and_palette(opened: Open) -> None:
    driver = opened()
    driver.meet()
    driver.view.settings()
    driver.pump(0.5)
    assert driver.view.dialog is not None
    for page in ("video", "look", "keys", "audio"):
        driver.view.dialog.choose(page)  # type: ignore[attr-defined]
        driver.pump(0.2)
    driver.view.dialog._restyled("palette", "light")  # type: ignore[attr-defined]
    driver.pump(0.3)
    assert driver.loop.look.palette is cs.LIGHT


@pytest.mark.parametrize(
    "size,scale", [("1440x880", "100"), ("1280x720", "100"), ("1024x600", "100"), ("1440x900", "150")]
)
def test_nothing_overlaps(opened: Open, size: str, scale: str) -> None:
    driver = opened(size, scale=scale)
    driver.pump(0.3)
    assert overlaps(driver.root) == []
    call = driver.meet(50, host=True)
    for tab in ("messages", "attendees", "files"):
        driver.view.show_panel(tab)
        driver.pump(0.2)
        assert overlaps(driver.root) == [], tab
    call.change(presenter=3, new_host=True)
    driver.pump(0.3)
    assert overlaps(driver.root) == []
    driver.view.settings()
    for page in ("audio", "video", "look", "keys"):
        driver.view.dialog.choose(page)  # type: ignore[union-attr]
        driver.pump(0.2)
        assert overlaps(driver.root) == [], page


def test_grid_fills_the_space() -> None:
    for count in range(1, 17):
        boxes = cs.grid_boxes(count, 960, 620, 12)
        assert len(boxes) == count
        for x, y, wide, tall in boxes:
            assert x >= 0 and y >= 0 and x + wide <= 960 and y + tall <= 620
            assert 1.3 <= wide / tall <= 2.01
    assert len({box[1] for box in cs.grid_boxes(9, 960, 620, 12)}) == 3


def test_every_emoji_and_icon_can_be_drawn() -> None:
    assert len(cs.emoji_shapes()) >= 60
    for char in cs.emoji_shapes():
        assert cs.draw_emoji(char, 24).getbbox()
    for name in cs.icon_shapes():
        assert cs.draw_icon(name, 20, "#FFFFFF").getbbox()


def test_plain_has_nothing_that_tk_chokes_on() -> None:
    assert (
        cs.plain("Ana 👩‍👩‍👧 🇫🇷 👍🏽 ❤️ é 李")
        == "Ana :woman: :regional_indicator_symbol_letter_f: :thumbs_up: :heart: é 李"
    )
