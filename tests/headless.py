"""The program's headless interface, as a test drives it: commands out, events in."""

from __future__ import annotations

import contextlib
import json
import os
import random
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from starter import popen

ROOT = Path(__file__).resolve().parent.parent
PROGRAM = (sys.executable, "-m", "connectsphere")
PATIENCE = 10.0

Event = dict[str, Any]


def environment(home: Path, extra: Mapping[str, str] | None = None) -> dict[str, str]:
	"""This process's environment with a home of its own, and with cached bytecode as users have it."""
	kept = {k: v for k, v in os.environ.items() if k not in ("PYTHONDONTWRITEBYTECODE", "CONNECTSPHERE_HOME")}
	return {**kept, "CONNECTSPHERE_HOME": str(home), "PYTHONUNBUFFERED": "1", **(extra or {})}


def free_base(address: str = "127.0.0.1") -> int:
	"""A base port whose five ports are free at `address` now."""
	while True:
		base = random.randrange(20_000, 32_000, 5)
		with contextlib.ExitStack() as stack, contextlib.suppress(OSError):
			for port, kind in ((base, 1), (base + 1, 1), (base + 2, 1), (base + 1_000, 2), (base + 2_000, 2)):
				stack.enter_context(socket.socket(type=kind)).bind((address, port))
			return base


class Headless:
	"""One participant in a process of its own, from the repository's root.

	`args` come before `--headless`; a host's server ends with it unless they say otherwise. `home` is its
	CONNECTSPHERE_HOME; `netns` names the network namespace it lives in. Every event is kept, in order.
	Without a `program` it may be a fork of one that has been imported: see starter.py.
	"""

	def __init__(
		self,
		args: Sequence[str],
		home: Path,
		*,
		netns: str | None = None,
		env: Mapping[str, str] | None = None,
		program: Sequence[str] = (),
	) -> None:
		home.mkdir(parents=True, exist_ok=True)
		self.home = home
		if "--host" in args and "--orphan-seconds" not in args:
			args = (*args, "--orphan-seconds", "0")  # nothing may outlive its test
		self.args = tuple(args)
		self.events: list[Event] = []
		self.garbage: list[str] = []
		self._taken: set[int] = set()
		self._ended = False
		self._changed = threading.Condition()
		self._came: list[float] = []  # when each event was read
		self._log = (home / "stderr.txt").open("ab")
		within = ("ip", "netns", "exec", netns) if netns else ()
		self.started_at = time.monotonic()
		start = subprocess.Popen[bytes] if program else popen
		self.process: subprocess.Popen[bytes] = start(
			[*within, *(program or PROGRAM), *args, "--headless"],
			cwd=ROOT,
			env=environment(home, env),
			stdin=subprocess.PIPE,
			stdout=subprocess.PIPE,
			stderr=self._log,
		)
		self._reader = threading.Thread(target=self._read, name=f"test-reader-{self.process.pid}")
		self._reader.start()

	def __repr__(self) -> str:
		return f"connectsphere {' '.join(self.args)} (process {self.process.pid}, home {self.home.name})"

	def _read(self) -> None:
		assert self.process.stdout is not None
		for line in self.process.stdout:
			try:
				event = json.loads(line)
				good = isinstance(event["event"], str) and isinstance(event["time"], int | float)
			except (ValueError, KeyError, TypeError):
				good = False
			with self._changed:
				if good:
					self.events.append(event)
					self._came.append(time.monotonic())
				else:
					self.garbage.append(line.decode(errors="replace"))
				self._changed.notify_all()
		with self._changed:
			self._ended = True
			self._changed.notify_all()

	def send(self, command: Mapping[str, Any] | None = None, /, **fields: Any) -> None:
		"""Give one command: `send({"do": "mic", "on": True})` or `send(do="mic", on=True)`."""
		self.send_raw(json.dumps({**(command or {}), **fields}).encode() + b"\n")

	def send_raw(self, data: bytes) -> None:
		"""Write bytes to its standard input as they are; a process that has ended takes none."""
		assert self.process.stdin is not None
		with contextlib.suppress(BrokenPipeError):
			self.process.stdin.write(data)
			self.process.stdin.flush()

	def wait(self, event: str, timeout: float = PATIENCE, **match: Any) -> Event:
		"""The oldest event of this name not returned before whose fields match; waits for it.

		A field matches when it is equal, or when the callable given for it says so. AssertionError
		after `timeout` seconds or when the process ends without it.
		"""
		until = time.monotonic() + timeout
		with self._changed:
			while (index := self._find(event, match)) is None:
				left = until - time.monotonic()
				if left <= 0 or self._ended:
					raise AssertionError(self._missing(event, match, timeout))
				self._changed.wait(left)
			self._taken.add(index)
			return self.events[index]

	def forget(self) -> None:
		"""What came so far is returned no more: a shared meeting has a past."""
		with self._changed:
			self._taken.update(range(len(self.events)))

	def seen(self, event: str, **match: Any) -> list[Event]:
		"""All events of this name so far whose fields match, returned before or not."""
		with self._changed:
			return [e for e in self.events if matches(e, event, match)]

	def seen_at(self, event: str) -> float:
		"""When the first event of this name was read, by time.monotonic."""
		with self._changed:
			return next(at for e, at in zip(self.events, self._came, strict=True) if e["event"] == event)

	def _find(self, event: str, match: Mapping[str, Any]) -> int | None:
		return next(
			(i for i, e in enumerate(self.events) if i not in self._taken and matches(e, event, match)), None
		)

	def _missing(self, event: str, match: Mapping[str, Any], timeout: float) -> str:
		why = f"it ended with status {self.process.poll()}" if self._ended else f"not within {timeout:g} s"
		lines = "\n  ".join(json.dumps(e) for e in self.events[-20:])
		said = f"last events:\n  {lines}\nstandard error:\n{self.errors()}"
		return f"{self}: no {event} {dict(match)}, {why}; {said}"

	def errors(self) -> str:
		"""What it has written to standard error."""
		return (self.home / "stderr.txt").read_text(encoding="utf-8", errors="replace")

	def hang_up(self) -> None:
		"""End its input, which means leave."""
		assert self.process.stdin is not None
		with contextlib.suppress(BrokenPipeError):
			self.process.stdin.close()

	def ask_to_end(self) -> None:
		"""End its input; a server alone does not read it and is terminated."""
		self.hang_up()
		if "--serve" in self.args:
			self.process.terminate()

	def close(self, timeout: float = 5.0) -> int:
		"""Leave and wait; who does not go within `timeout` seconds is terminated, then killed. The status."""
		self.ask_to_end()
		for stop in (self.process.terminate, self.process.kill):
			try:
				self.process.wait(timeout)
				break
			except subprocess.TimeoutExpired:
				stop()
		status = self.process.wait()
		self._reader.join()
		assert self.process.stdout is not None
		self.process.stdout.close()
		self._log.close()
		return status


def matches(event: Event, name: str, match: Mapping[str, Any]) -> bool:
	"""Whether an event has this name and these fields; a callable judges its field."""
	return event["event"] == name and all(
		k in event and (bool(want(event[k])) if callable(want) else event[k] == want)
		for k, want in match.items()
	)
