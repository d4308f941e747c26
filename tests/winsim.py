"""An imitated Windows in virtual time: until a process asks for 1 ms, its waits end with a tick of 15.6.

Whatever waits is that coarse: sleep, select, Condition, locks. So is `time.monotonic`, asked or not.
"""

from __future__ import annotations

import ctypes
import math
from types import SimpleNamespace
from typing import Any

import pytest
from clockwork import World

import connectsphere as cs

TICK = 1 / 64
LEAST = 1e-5  # what nothing takes less than
EXECUTION_SPEED, IGNORE_TIMER_RESOLUTION = 1, 4


class Windows:
	"""A process there: its clocks and waits, and the calls by which it asks for finer ones and to stay awake.

	`refuses`: whatever is asked for, waits stay coarse. `knows`: the throttling flags of this Windows.
	"""

	def __init__(
		self,
		refuses: bool = False,
		knows: int = EXECUTION_SPEED | IGNORE_TIMER_RESOLUTION,
		world: World | None = None,
	) -> None:
		self.refuses, self.knows, self.world = refuses, knows, world or World()
		self.periods = 0
		self.unthrottled = 0
		self.requests: dict[tuple[int, int], int] = {}
		self.made = 0
		self.always_fine = False  # on a system that knows no ticks
		self.power = cs.Power("win32")

	@property
	def now(self) -> float:
		"""The fine clock."""
		return self.world.now

	@now.setter
	def now(self, now: float) -> None:
		self.world.now = now

	@property
	def fine(self) -> bool:
		"""Whether waits are exact: asked for, and not ignored for a hidden window."""
		asked = self.periods > 0 and self.unthrottled == self.knows
		return self.always_fine or (asked and not self.refuses)

	def until(self, seconds: float) -> float:
		"""When a wait of so many seconds ends."""
		until = self.now + max(LEAST, seconds)
		return until if self.fine or seconds <= 0 else math.ceil(until / TICK) * TICK

	def wait(self, seconds: float) -> None:
		"""Let `seconds` pass, and more where the system has not been asked for fine timers."""
		self.world.wait(self.until(seconds))

	def install(self, patch: pytest.MonkeyPatch) -> cs.Power:
		"""Put it under the program: clocks, waits, and the libraries that Power calls."""
		world = self.world
		world.install(patch)
		world.system = self

		def here() -> Windows:
			system = world.here()
			assert isinstance(system, Windows)
			return system

		def coarse() -> float:
			return world.now if here().always_fine else math.floor(world.now / TICK) * TICK

		patch.setattr(cs.time, "monotonic", coarse)

		libraries = {
			"winmm": SimpleNamespace(
				timeBeginPeriod=lambda period: here().period(period, 1),
				timeEndPeriod=lambda period: here().period(period, -1),
			),
			"kernel32": SimpleNamespace(
				SetProcessInformation=lambda *arguments: here().throttle(*arguments),
				PowerCreateRequest=Create(self),
				PowerSetRequest=lambda handle, kind: here().ask(handle, kind, 1),
				PowerClearRequest=lambda handle, kind: here().ask(handle, kind, -1),
			),
		}
		patch.setattr(ctypes, "WinDLL", libraries.__getitem__, raising=False)
		need = SimpleNamespace(need=lambda *arguments: here().power.need(*arguments))
		patch.setattr(cs, "power", need)
		return self.power

	def period(self, period: int, by: int) -> None:
		"""timeBeginPeriod and timeEndPeriod."""
		assert period == 1
		self.periods += by
		assert self.periods >= 0

	def throttle(self, process: Any, kind: int, state: Any, size: int) -> int:
		"""SetProcessInformation: what is controlled and off is never throttled."""
		version, control, on = state
		assert (process.value, kind, version, on, size) == (2**64 - 1, 4, 1, 0, ctypes.sizeof(state))
		if control & ~self.knows:
			return 0
		self.unthrottled = control
		return 1

	def ask(self, handle: Any, kind: int, by: int) -> None:
		"""PowerSetRequest and PowerClearRequest."""
		count = self.requests.get((handle.value, kind), 0) + by
		assert 0 <= count <= 1
		self.requests[handle.value, kind] = count

	def awake(self) -> set[str]:
		"""What is kept from sleeping."""
		return {("display", "system")[kind] for (_, kind), count in self.requests.items() if count}


class Create:
	"""PowerCreateRequest, whose result is a handle."""

	restype: Any = None

	def __init__(self, system: Windows) -> None:
		self.system = system

	def __call__(self, context: bytes) -> int:
		"""A new request."""
		assert self.restype is ctypes.c_void_p and len(context) == 32 and context[:8] == b"\0\0\0\0\1\0\0\0"
		self.system.made += 1
		return 2**40 + self.system.made
