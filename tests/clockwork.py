"""Virtual time for real threads: one runs at a time, and when all of them wait, the time goes on.

`World.install` stands in for what the program takes from `time`, `threading`, `select`, `selectors`, `queue`,
and for its UDP ports. How long a wait lasts is decided by the system that the thread belongs to.
"""

from __future__ import annotations

import collections
import contextlib
import heapq
import itertools
import math
import operator
import queue
import select
import selectors
import socket
import threading
import time
from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any, Protocol

import pytest

import connectsphere as cs

HELD_BACK = operator.attrgetter("held_back")
CROSSING = 0.001  # seconds that a datagram takes
Ready = Callable[[], bool]


class System(Protocol):
	"""The computer of a thread: when a wait of so many seconds ends there."""

	def until(self, seconds: float) -> float: ...


class Over(BaseException):  # no part of the program may take it for its own
	"""The world has ended."""


def held_lock() -> threading.Lock:
	"""What lets one through at each release: in half the time of a semaphore."""
	lock = threading.Lock()
	lock.acquire()
	return lock


class Turn:
	"""A thread of this world."""

	def __init__(self, world: World, system: System, call: Callable[[], object]) -> None:
		self.world, self.system, self.call = world, system, call
		self.ready: Ready = lambda: True
		self.due = -math.inf
		self.over = False
		self.go = held_lock()
		self.thread = threading.Thread(target=self._run, daemon=True)

	def _run(self) -> None:
		self.go.acquire()
		with contextlib.suppress(Over):
			if not self.world.over:
				self.call()
		self.over = True
		self.world.give_back()


class World:
	"""The clock, the threads, and what is to happen at a time of its own."""

	def __init__(self) -> None:
		self.now, self.over = 1.0, False
		self.turns: list[Turn] = []
		self.current: Turn | None = None
		self.system: System | None = None  # of who is not a thread of this world
		self.back = held_lock()
		self.ports: dict[cs.Address, Port] = {}
		self._events: list[tuple[float, int, Callable[[], object]]] = []
		self._order = itertools.count(1)

	def here(self) -> System | None:
		"""Where this code runs."""
		return self.current.system if self.current else self.system

	def at(self, due: float, call: Callable[[], object]) -> None:
		"""Have that happen then."""
		heapq.heappush(self._events, (due, next(self._order), call))

	def start(self, system: System, call: Callable[[], object]) -> Turn:
		"""A thread there; it runs when others wait."""
		turn = Turn(self, system, call)
		self.turns.append(turn)
		turn.thread.start()
		return turn

	def wait(self, due: float, ready: Ready = lambda: False) -> bool:
		"""Let the others run until `ready`, or until it is `due`; whether it is ready."""
		me = self.current
		if me is None:
			while not ready() and self._step(due):
				pass
			return ready()
		me.ready, me.due = ready, due
		self.give_back()
		me.go.acquire()
		if self.over:
			raise Over
		return ready()

	def timed(self, seconds: float | None, ready: Ready) -> bool:
		"""A wait with the time limit of a thread's own system; None for none."""
		here = self.here()
		assert here
		return ready() or self.wait(math.inf if seconds is None else here.until(seconds), ready)

	def give_back(self) -> None:
		"""The others' turn; nobody waits for it in a world that has ended."""
		if not self.over:
			self.back.release()

	def _step(self, limit: float) -> bool:
		for place, turn in enumerate(self.turns):
			if turn.due <= self.now or turn.ready():
				del self.turns[place]  # whoever has had a turn comes after the others
				self._hand_over(turn)
				return True
		due = min((turn.due for turn in self.turns), default=math.inf)
		event = self._events[0][0] if self._events else math.inf
		if min(due, event) > limit:
			self.now = max(self.now, limit)
			return False
		self.now = max(self.now, min(due, event))
		if event <= due:
			heapq.heappop(self._events)[2]()
		return True

	def _hand_over(self, turn: Turn) -> None:
		self.current = turn
		turn.go.release()
		self.back.acquire()
		self.current = None
		if not turn.over:
			self.turns.append(turn)

	def end(self) -> None:
		"""No thread goes on."""
		self.over = True
		for turn in tuple(self.turns):
			turn.go.release()
			turn.thread.join(5)

	def install(self, patch: pytest.MonkeyPatch) -> None:
		"""Put this world under the program."""
		world = self

		class OfWorld:
			world = self

		patch.setattr(cs, "monotonic", lambda: world.now)
		stands_in: dict[ModuleType, dict[str, Any]] = {
			time: {"sleep": lambda seconds: world.timed(seconds, lambda: False)},
			threading: {
				"Thread": type("Thread", (Thread, OfWorld), {}),
				"Event": type("Event", (Event, OfWorld), {}),
				"Condition": type("Condition", (Condition, OfWorld), {}),
				"current_thread": lambda: world.current,
				"RLock": type("RLock", (Lock, OfWorld), {}),
			},
			select: {
				"select": lambda reads, _, __, seconds=None: (
					[reads] if world.timed(seconds, lambda: any(one.held_back for one in reads)) else [[]]
				)
			},
			socket: {"socketpair": lambda: (Bell(bell := []), Bell(bell))},
		}
		for module, names in stands_in.items():
			patch.setattr(cs, module.__name__, SimpleNamespace(**{**vars(module), **names}))
		for name, kind in (("Lock", Lock), ("SimpleQueue", SimpleQueue), ("DefaultSelector", Selector)):
			patch.setattr(cs, name, type(name, (kind, OfWorld), {}))
		for name in ("UdpPort", "udp_port"):
			patch.setattr(cs, name, type("Port", (Port, OfWorld), {}))


class Thread:
	"""threading.Thread."""

	world: World

	def __init__(self, target: Callable[[], object], name: str = "", daemon: bool = True) -> None:
		self.name, self.ident, self._target = name, None, target
		self._turn: Turn | None = None

	def start(self) -> None:
		here = self.world.here()
		assert here
		self._turn = self.world.start(here, self._target)
		self.ident = id(self)

	def is_alive(self) -> bool:
		return self._turn is not None and not self._turn.over

	def join(self, seconds: float | None = None) -> None:
		self.world.timed(seconds, lambda: not self.is_alive())


class Lock:
	"""threading.Lock and RLock."""

	world: World

	def __init__(self) -> None:
		self._owner: object = None
		self._deep = 0

	def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
		me = self.world.current or self
		free = self.world.timed(None if timeout < 0 else timeout, lambda: self._owner in (None, me))
		self._owner, self._deep = me, self._deep + 1
		return free

	def release(self) -> None:
		self._deep -= 1
		self._owner = self._owner if self._deep else None

	def __enter__(self) -> bool:
		return self.acquire()

	def __exit__(self, *error: object) -> None:
		self.release()


class Event:
	"""threading.Event."""

	world: World

	def __init__(self) -> None:
		self._set = False

	def set(self) -> None:
		self._set = True

	def clear(self) -> None:
		self._set = False

	def is_set(self) -> bool:
		return self._set

	def wait(self, timeout: float | None = None) -> bool:
		return self.world.timed(timeout, self.is_set)


class Condition(Lock):
	"""threading.Condition."""

	def __init__(self) -> None:
		super().__init__()
		self._told = 0

	def notify_all(self) -> None:
		self._told += 1

	def wait(self, timeout: float | None = None) -> bool:
		before, deep = self._told, self._deep
		self._owner, self._deep = None, 0
		told = self.world.timed(timeout, lambda: self._told > before)
		self.acquire()
		self._deep = deep
		return told

	def wait_for(self, ready: Ready, timeout: float | None = None) -> bool:
		until = math.inf if timeout is None else self.world.now + timeout
		while not ready() and (left := until - self.world.now) > 0:
			self.wait(None if left == math.inf else left)
		return ready()


class SimpleQueue:
	"""queue.SimpleQueue."""

	world: World

	def __class_getitem__(cls, _: object) -> type:
		return cls

	def __init__(self) -> None:
		self._items: collections.deque[Any] = collections.deque()

	def put(self, item: Any) -> None:
		self._items.append(item)

	def empty(self) -> bool:
		return not self._items

	def get(self, block: bool = True, timeout: float | None = None) -> Any:
		if not self.world.timed(timeout if block else 0.0, lambda: bool(self._items)):
			raise queue.Empty
		return self._items.popleft()


class Bell:
	"""One end of a socketpair."""

	def __init__(self, rung: list[bytes]) -> None:
		self.held_back = rung

	def setblocking(self, on: bool) -> None:
		"""It never blocks."""

	def send(self, data: bytes) -> None:
		self.held_back.append(data)

	def recv(self, size: int) -> None:
		self.held_back.clear()

	def close(self) -> None:
		"""Nothing is held."""


class Selector:
	"""selectors.DefaultSelector."""

	world: World

	def __init__(self) -> None:
		self._known: dict[Any, selectors.SelectorKey] = {}

	def get_map(self) -> dict[Any, selectors.SelectorKey]:
		return self._known

	def register(self, what: Any, events: int, data: Any = None) -> None:
		self._known[what] = selectors.SelectorKey(what, 0, events, data)

	modify = register

	def unregister(self, what: Any) -> None:
		del self._known[what]

	def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
		self.world.timed(timeout, lambda: any(map(HELD_BACK, self._known)))
		return [(key, key.events) for what, key in self._known.items() if what.held_back]

	def close(self) -> None:
		self._known.clear()


class Port:
	"""UdpPort on a network where everything arrives, after CROSSING."""

	world: World
	_numbers = itertools.count(1)

	def __init__(
		self,
		bind: cs.Address | None = None,
		counters: object = None,
		connect: cs.Address | None = None,
		adopt: cs.Address | None = None,
		sound: bool = False,
		**_: Any,
	) -> None:
		self.sound, self._peer = sound, connect
		self.socket = SimpleNamespace(setsockopt=lambda *_: None)
		self.address = adopt or (bind if bind and bind[1] else ("10.0.0.1", next(self._numbers)))
		self.held_back: collections.deque[tuple[bytes, cs.Address]] = collections.deque()
		self.world.ports[self.address] = self

	def send(self, datagram: Any, address: cs.Address | None = None) -> bool:
		to = address or self._peer
		assert to
		if to in self.world.ports:
			arrived = self.world.ports[to].held_back
			what = bytes(datagram), self.address
			self.world.at(self.world.now + CROSSING, lambda: arrived.append(what))
		return True

	def send_frame(self, layout: Any, address: cs.Address | None = None, tail: bool = False) -> bool:
		view = memoryview(layout)
		size = cs.DATAGRAM
		return all(self.send(view[at : at + size], address) for at in range(0, len(view), size))

	def held(self) -> int:
		return 0

	def wait(self, seconds: float) -> bool:
		return self.world.timed(seconds, lambda: bool(self.held_back))

	def receive(self, most: int) -> list[tuple[memoryview, int, cs.Address]]:
		came = [self.held_back.popleft() for _ in range(min(most, len(self.held_back)))]
		return [(memoryview(data), len(data), source) for data, source in came]

	def close(self) -> None:
		self.world.ports.pop(self.address, None)
