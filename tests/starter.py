"""A process that has imported the program and becomes it, as often as a test asks: imports are paid for once.

Each start is a fork of it: a process of its own, with the command line, environment, folder, network and
pipes that were asked for, that calls `connectsphere.main`, as the installed command does. The program's own
children are started by the program, anew. On Linux only, where a worker takes in orphans (leaks.py).
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LONGEST = 200_000  # bytes of a request
LATE = {  # environment variables that neither Python nor the program reads before `main`
	"CONNECTSPHERE_HOME", "DISPLAY", "PYTEST_CURRENT_TEST",
	"LD_LIBRARY_PATH", "QT_QPA_FONTDIR", "QT_QPA_PLATFORM_PLUGIN_PATH",  # OpenCV's import sets them
}  # fmt: skip
CLONE_NEWNET, CLONE_NEWNS, MS_SLAVE, MS_REC, MNT_DETACH = 0x40000000, 0x20000, 1 << 19, 1 << 14, 2


class Started:
	"""A process that the starter became: what tests use of `subprocess.Popen`."""

	def __init__(self, pid: int, stdin: int, stdout: int) -> None:
		self.pid, self.returncode = pid, None
		self.stdin, self.stdout = os.fdopen(stdin, "wb"), os.fdopen(stdout, "rb")
		self._lock = threading.Lock()

	returncode: int | None

	def poll(self) -> int | None:
		with self._lock:
			if self.returncode is None:
				pid, status = os.waitpid(self.pid, os.WNOHANG)
				if pid:
					self.returncode = os.waitstatus_to_exitcode(status)
			return self.returncode

	def wait(self, timeout: float | None = None) -> int:
		end, pause = time.monotonic() + (1e9 if timeout is None else timeout), 0.0005
		while (status := self.poll()) is None:
			if (left := end - time.monotonic()) <= 0:
				raise subprocess.TimeoutExpired(f"process {self.pid}", timeout or 0.0)
			pause = min(2 * pause, left, 0.05)
			time.sleep(pause)
		return status

	def send_signal(self, number: int) -> None:
		if self.poll() is None:
			os.kill(self.pid, number)

	def terminate(self) -> None:
		self.send_signal(signal.SIGTERM)

	def kill(self) -> None:
		self.send_signal(signal.SIGKILL)


class Starter:
	"""The test's end of it."""

	def __init__(self) -> None:
		environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
		self._environment = lasting(environment)
		self._end, ear = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
		self._lock = threading.Lock()
		with ear:
			self._process = subprocess.Popen(
				[sys.executable, __file__, str(ear.fileno())], cwd=ROOT, pass_fds=[ear.fileno()],
				env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
			)  # fmt: skip

	def can(self, environment: Mapping[str, str]) -> bool:
		"""Whether nothing that counts while Python starts and imports differs from where this one started."""
		return lasting(environment) == self._environment

	def start(
		self, args: Sequence[str], environment: Mapping[str, str], stderr: int, netns: str | None
	) -> Started:
		"""The program with these arguments; pipes to it and from it are open, and `stderr` is its own."""
		asked = json.dumps({"args": args, "environment": dict(environment), "netns": netns}).encode()
		(read_in, stdin), (stdout, write_out) = os.pipe(), os.pipe()
		try:
			with self._lock:
				socket.send_fds(self._end, [asked], [read_in, write_out, stderr])
				pid = int(self._end.recv(99))
		finally:
			os.close(read_in)
			os.close(write_out)
		return Started(pid, stdin, stdout)

	def close(self) -> None:
		self._end.close()
		self._process.communicate()


def lasting(environment: Mapping[str, str]) -> dict[str, str]:
	"""What is read while Python starts and imports."""
	return {name: value for name, value in environment.items() if name not in LATE}


# -- in the process that becomes the program -----------------------------------------------------------------


def asked_for(ear: socket.socket) -> list[str]:
	"""Fork at each request; returns the arguments in the process that becomes the program."""
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
			ear.close()
			return settle(**json.loads(data))
		os.waitpid(between, 0)
		ear.send(os.read(reader, 99))
		for one in (*given, reader, writer):
			os.close(one)


def settle(args: list[str], environment: dict[str, str], netns: str | None) -> list[str]:
	"""Take the environment and the network that were asked for."""
	os.environ.clear()
	os.environ.update(environment)
	if netns:
		enter(netns)
	return args


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


if __name__ == "__main__":
	sys.path[0] = str(ROOT)
	import connectsphere as cs

	with contextlib.closing(socket.socket(fileno=int(sys.argv[1]))) as ear:
		sys.argv[1:] = asked_for(ear)
	sys.argv[0] = cs.__file__
	sys.exit(cs.main())
