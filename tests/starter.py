"""A process that has imported the program and becomes what a test starts: imports are paid for once a worker.

Each start is a fork of it: a process of its own, with the command line, environment, folder, network and
pipes that were asked for. As the program it calls `connectsphere.main`, as the installed command does; it may
as well run a script that imports it. What the program starts it starts anew. On Linux only, where a worker
takes in orphans (leaks.py).
"""

from __future__ import annotations

import ctypes
import inspect
import json
import os
import runpy
import socket
import subprocess
import sys
import threading
import types
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
LONGEST = 200_000  # bytes of a request
LATE = {  # environment variables that neither Python nor the program reads before `main`
	"CONNECTSPHERE_HOME", "DISPLAY", "PULSE_SERVER", "PYTEST_CURRENT_TEST",
	"LD_LIBRARY_PATH", "QT_QPA_FONTDIR", "QT_QPA_PLATFORM_PLUGIN_PATH",  # OpenCV's import sets them
}  # fmt: skip
UNBUFFERED = {"PYTHONUNBUFFERED": "1"}
WITHIN = ("ip", "netns", "exec")
CLONE_NEWNET, CLONE_NEWNS, MS_SLAVE, MS_REC, MNT_DETACH = 0x40000000, 0x20000, 1 << 19, 1 << 14, 2


def early(environment: Mapping[str, str]) -> dict[str, str]:
	"""What may be read while Python starts and imports."""
	return {name: value for name, value in environment.items() if name not in LATE}


class Starter:
	"""The test's end of it."""

	def __init__(self) -> None:
		environment = {**os.environ, **UNBUFFERED}
		self._early = early(environment)
		self._end, ear = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
		self._lock = threading.Lock()
		with ear:
			self._process = subprocess.Popen(
				[sys.executable, __file__, str(ear.fileno())], cwd=ROOT, pass_fds=[ear.fileno()],
				env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
			)  # fmt: skip

	def can(self, command: Sequence[str], environment: Mapping[str, str]) -> bool:
		"""Whether it is this Python, and nothing that counts at its start is otherwise than here."""
		python, *what = command
		plain = what[0] == "-c" or what[:2] == ["-m", "connectsphere"] or what[0].endswith(".py")
		return python == sys.executable and plain and early(environment) == self._early

	def start(self, descriptors: Sequence[int], **asked: Any) -> int:
		"""The process id of what has been asked for; `descriptors` are to be its 0, 1 and 2."""
		with self._lock:
			socket.send_fds(self._end, [json.dumps(asked).encode()], descriptors)
			return int(self._end.recv(99))

	def close(self) -> None:
		self._end.close()
		self._process.communicate()


STARTERS: list[Starter] = []  # at most one, which the suite has started


class Forked(subprocess.Popen[Any]):
	"""A process that the starter has become."""

	def _execute_child(self, *given: Any) -> None:
		names = list(inspect.signature(subprocess.Popen._execute_child).parameters)[1:]  # type: ignore[attr-defined]
		asked = dict(zip(names, given, strict=True))
		pipes = [asked[name] for name in ("p2cread", "c2pwrite", "errwrite")]
		command, netns = apart(asked["args"])
		try:
			self.pid = STARTERS[0].start(
				[number if pipe == -1 else pipe for number, pipe in enumerate(pipes)],
				command=command[1:], environment=dict(asked["env"]), netns=netns,
				folder=str(asked["cwd"] or Path.cwd()),
			)  # fmt: skip
			self._child_created = True
		finally:
			self._close_pipe_fds(*(asked[name] for name in names if name[:3] in ("p2c", "c2p", "err")))  # type: ignore[attr-defined]


def apart(command: Sequence[str]) -> tuple[list[str], str]:
	"""A command, and the network namespace in which it is to run."""
	inside = tuple(command[: len(WITHIN)]) == WITHIN
	return list(command[len(WITHIN) + 1 :] if inside else command), command[len(WITHIN)] if inside else ""


def popen(command: Sequence[str], env: Mapping[str, str] | None = None, **options: Any) -> Any:
	"""`subprocess.Popen`, by a fork where nothing is lost by it."""
	env, words = {**(env or os.environ), **UNBUFFERED}, apart(command)[0]
	way = Forked if STARTERS and STARTERS[0].can(words, env) else subprocess.Popen
	return way(command, env=env, **options)


# -- in the process that becomes another -----------------------------------------------------------------


def asked_for(ear: socket.socket) -> dict[str, Any]:
	"""Fork at each request; returns what was asked for in the process that is to become it."""
	while True:
		data, given, _, _ = socket.recv_fds(ear, LONGEST, 3)
		if not data:
			os._exit(0)
		reader, writer = os.pipe()
		if not (between := os.fork()):
			if pid := os.fork():  # which this one leaves to the worker
				os.write(writer, b"%d" % pid)
				os._exit(0)
			for number, one in enumerate(given):
				os.dup2(one, number)
			for one in (*given, reader, writer):
				os.close(one)
			asked: dict[str, Any] = json.loads(data)
			return asked
		os.waitpid(between, 0)
		ear.send(os.read(reader, 99))
		for one in (*given, reader, writer):
			os.close(one)


def enter(netns: str) -> None:
	"""What `ip netns exec` does: its network, and the /sys that shows it."""
	libc = ctypes.CDLL(None, use_errno=True)

	def done(status: int) -> None:
		if status:
			raise OSError(ctypes.get_errno(), netns)

	with open(f"/run/netns/{netns}") as network:
		done(libc.setns(network.fileno(), CLONE_NEWNET))
	done(libc.unshare(CLONE_NEWNS))
	done(libc.mount(b"", b"/", b"none", MS_SLAVE | MS_REC, None))
	libc.umount2(b"/sys", MNT_DETACH)
	done(libc.mount(netns.encode(), b"/sys", b"sysfs", 0, None))


def run(command: Sequence[str]) -> None:
	"""The program, some code or a script, as Python runs it."""
	kind, *rest = command
	if kind == "-m":
		sys.argv, sys.path[0] = [cs.__file__, *rest[1:]], str(Path.cwd())
		sys.exit(cs.main())
	if kind == "-c":
		sys.argv, sys.path[0] = ["-c", *rest[1:]], ""
		sys.modules["__main__"] = types.ModuleType("__main__")
		exec(rest[0], vars(sys.modules["__main__"]))
	else:
		sys.argv, sys.path[0] = [kind, *rest], str(Path(kind).resolve().parent)
		runpy.run_path(kind, run_name="__main__")


if __name__ == "__main__":
	sys.path[0] = str(ROOT)
	import numpy  # noqa: F401 - which the program loads when it runs

	import connectsphere as cs

	with closing(socket.socket(fileno=int(sys.argv[1]))) as listening:
		wanted = asked_for(listening)
	os.environ.clear()
	os.environ.update(wanted["environment"])
	if wanted["netns"]:
		enter(wanted["netns"])
	os.chdir(wanted["folder"])
	run(wanted["command"])
