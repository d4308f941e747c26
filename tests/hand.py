"""A hand on a display: what xdotool does, by its library; to start that takes as long as ten of its words."""

from __future__ import annotations

import ctypes
from collections.abc import Callable

FOCUSED = ctypes.c_ulong(0)  # whatever window has the mouse or the keyboard
HANDS: dict[str, Hand] = {}  # of displays that last, by their names


class Hand:
	"""Moves the mouse and presses keys of `display`."""

	def __init__(self, display: str) -> None:
		self._library = ctypes.CDLL("libxdo.so.3")
		self._library.xdo_new.restype = ctypes.c_void_p
		self._xdo = ctypes.c_void_p(self._library.xdo_new(display.encode()))
		assert self._xdo, display
		self._verbs: dict[str, Callable[[list[str], int, int], None]] = {
			"mousemove": lambda given, *_: self._call("move_mouse", *map(int, given), 0),
			"mousedown": lambda given, *_: self._call("mouse_down", FOCUSED, *map(int, given)),
			"mouseup": lambda given, *_: self._call("mouse_up", FOCUSED, *map(int, given)),
			"click": lambda given, delay, repeat: self._call(
				"click_window_multiple", FOCUSED, *map(int, given), repeat, 1000 * delay
			),
			"type": lambda given, delay, _: self._each("enter_text_window", given, delay),
			"key": lambda given, delay, _: self._each("send_keysequence_window", given, delay),
			"keydown": lambda given, delay, _: self._each("send_keysequence_window_down", given, delay),
			"keyup": lambda given, delay, _: self._each("send_keysequence_window_up", given, delay),
		}

	def close(self) -> None:
		self._library.xdo_free(self._xdo)

	def do(self, *words: str) -> None:
		"""What these words of xdotool say; the display has carried it out afterwards."""
		left = list(words)
		while left:
			verb, options = left.pop(0), {"--delay": 12, "--repeat": 1}
			while left and left[0] in options:
				name, value, *left = left
				options[name] = int(value)
			end = next((at for at, word in enumerate(left) if word in self._verbs), len(left))
			end = len(left) if verb == "type" else end  # a text may be such a word
			self._verbs[verb](left[:end], *options.values())
			del left[:end]
		self._call("get_mouse_location", *(ctypes.byref(ctypes.c_int()) for _ in range(3)))

	def _call(self, name: str, *given: object) -> None:
		status = getattr(self._library, f"xdo_{name}")(self._xdo, *given)
		assert status == 0, (name, given)

	def _each(self, name: str, given: list[str], delay: int) -> None:
		for one in given:
			self._call(name, FOCUSED, one.encode(), 1000 * delay)
