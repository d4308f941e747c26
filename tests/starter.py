"""A process that has imported the program and becomes what a test starts: imports are paid for once a worker.

Each start is a clone of it: a process of its own and a child of who asked, with the command line,
environment, folder, network and pipes that were asked for. As the program it calls `connectsphere.main`, as
the installed command does; it may as well run a script that imports it. A program that hosts has such a
process of its own from the beginning, which becomes its server; that one's becomes its mixer. On Linux only.
"""

from __future__ import annotations

import atexit
import ctypes
import fcntl
import gc
import importlib
import inspect
import json
import os
import platform
import runpy
import signal
import socket
import subprocess
import sys
import threading
import types
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

ROOT = Path(__file__).resolve().parent.parent
LONGEST = 200_000  # bytes of a request
MOST = 9  # descriptors in it
ROOM = 4_000  # bytes of a command line
LATE = {  # environment variables that neither Python nor the program reads before `main`
	"CONNECTSPHERE_HOME", "DISPLAY", "PULSE_SERVER", "PYTEST_CURRENT_TEST",
	"LD_LIBRARY_PATH", "QT_QPA_FONTDIR", "QT_QPA_PLATFORM_PLUGIN_PATH",  # OpenCV's import sets them
}  # fmt: skip
LATER = (  # what the program imports when it runs
	"cryptography.fernet", "cryptography.x509", "cv2", "numpy", "PIL.Image", "spake2", "ssl",
)  # fmt: skip
UNBUFFERED = {"PYTHONUNBUFFERED": "1"}
WITHIN = ("ip", "netns", "exec")
HOSTING = {"--host", "--serve", "--serve-child", "--standby"}  # what starts children
CLONE_NEWNET, CLONE_NEWNS, MS_SLAVE, MS_REC, MNT_DETACH = 0x40000000, 0x20000, 1 << 19, 1 << 14, 2
CLONE_PARENT, CLONE_CHILD_CLEARTID, CLONE_CHILD_SETTID, PR_GET_TID_ADDRESS = 0x8000, 0x200000, 0x1000000, 40
SYS_CLONE = {"x86_64": 56, "aarch64": 220}


def early(environment: Mapping[str, str]) -> dict[str, str]:
	"""What may be read while Python starts and imports, less where the program's children find it: here."""
	found = {name: value for name, value in environment.items() if name not in LATE}
	if found.pop("PYTHONSAFEPATH", ""):
		first, *others = found.pop("PYTHONPATH", "").split(os.pathsep)
		others = [folder for folder in others if Path(folder) != ROOT]  # where a child's child finds it again
		found |= {"PYTHONPATH": os.pathsep.join(others)} if others or Path(first) != ROOT else {}
	return found


class Starter:
	"""The end of who asks: `end` leads to the process, `environment` is what it began with."""

	def __init__(self, end: socket.socket, environment: Mapping[str, str]) -> None:
		self._end, self._early = end, early(environment)
		self._lock = threading.Lock()

	def can(self, command: Sequence[str], environment: Mapping[str, str]) -> bool:
		"""Whether it is this Python, and nothing that counts at its start is otherwise than here."""
		python, *what = command
		plain = what[:1] == ["-c"] or what[:2] == ["-m", "connectsphere"] or "".join(what[:1]).endswith(".py")
		return python == sys.executable and plain and early(environment) == self._early

	def start(self, descriptors: Sequence[int], **asked: Any) -> int:
		"""The process id of what has been asked for."""
		with self._lock:
			socket.send_fds(self._end, [json.dumps(asked).encode()], descriptors)
			return int(self._end.recv(99))

	def close(self) -> None:
		self._end.close()


class Apart(Starter):
	"""A process of a Python of its own."""

	def __init__(self) -> None:
		environment = {**os.environ, **UNBUFFERED}
		end, ear = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
		super().__init__(end, environment)
		with ear:
			self._process = subprocess.Popen(
				[sys.executable, __file__, str(ear.fileno()), " " * ROOM],
				cwd=ROOT, pass_fds=[ear.fileno()], env=environment,
				# as those who will ask want them: Python would seek in what was a file, and now is a pipe
				stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
			)  # fmt: skip

	def close(self) -> None:
		super().close()
		sys.stderr.write(self._process.communicate()[1].decode())


STARTERS: list[Starter] = []  # at most one, which the suite has started


class Forked(subprocess.Popen[Any]):
	"""A process that the starter becomes, where nothing is lost by it."""

	def _execute_child(self, *given: Any) -> None:
		names = list(inspect.signature(subprocess.Popen._execute_child).parameters)[1:]  # type: ignore[attr-defined]
		asked = dict(zip(names, given, strict=True))
		environment = dict(os.environ if asked["env"] is None else asked["env"])
		command, netns = apart(asked["args"])
		if not (STARTERS and STARTERS[0].can(command, environment)):
			return super()._execute_child(*given)  # type: ignore[misc]
		pipes = [asked[name] for name in ("p2cread", "c2pwrite", "errwrite")]
		pipes = [number if pipe == -1 else pipe for number, pipe in enumerate(pipes)]
		try:
			self.pid = STARTERS[0].start(
				[*pipes, *asked["pass_fds"]], numbers=[0, 1, 2, *asked["pass_fds"]],
				command=command[1:], environment=environment, netns=netns,
				folder=str(asked["cwd"] or Path.cwd()), session=asked["start_new_session"],
			)  # fmt: skip
			self._child_created = True
		finally:
			self._close_pipe_fds(*(asked[name] for name in names if name[:3] in ("p2c", "c2p", "err")))  # type: ignore[attr-defined]


def apart(command: Sequence[str]) -> tuple[list[str], str]:
	"""A command, and the network namespace in which it is to run."""
	inside = tuple(command[: len(WITHIN)]) == WITHIN
	return list(command[len(WITHIN) + 1 :] if inside else command), command[len(WITHIN)] if inside else ""


def popen(command: Sequence[str], env: Mapping[str, str] | None = None, **options: Any) -> Any:
	"""`subprocess.Popen`, by the starter where nothing is lost by it."""
	return Forked(command, env={**(env or os.environ), **UNBUFFERED}, **options)


def ran(command: Sequence[str], *, timeout: float, **options: Any) -> subprocess.CompletedProcess[str]:
	"""`subprocess.run`, with what is said as text, by the starter where nothing is lost by it."""
	pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
	with popen(command, **pipes, text=True, **options) as process:
		try:
			said, complained = process.communicate(timeout=timeout)
		except BaseException:
			process.kill()
			raise
	return subprocess.CompletedProcess(command, process.returncode, said, complained)


def clone_children_of(program: types.ModuleType) -> None:
	"""What the program starts it has the starter become, too."""
	starting = types.ModuleType("subprocess")
	vars(starting).update(vars(subprocess), Popen=Forked)
	vars(program)["subprocess"] = starting


# -- in the process that becomes another -----------------------------------------------------------------


def clone() -> int:
	"""As `os.fork`, but the new process is a child of this one's parent. This one has but one thread."""
	python, libc = ctypes.pythonapi, ctypes.PyDLL(None)
	where = ctypes.c_void_p()  # the C library keeps the number of its thread there
	libc.prctl(PR_GET_TID_ADDRESS, ctypes.byref(where))
	flags = CLONE_PARENT | CLONE_CHILD_SETTID | CLONE_CHILD_CLEARTID | signal.SIGCHLD
	python.PyOS_BeforeFork()
	pid = libc.syscall(SYS_CLONE[platform.machine()], flags, None, None, where, where)
	(python.PyOS_AfterFork_Parent if pid else python.PyOS_AfterFork_Child)()
	assert pid >= 0
	return int(pid)


def asked_for(ear: socket.socket) -> dict[str, Any]:
	"""Clone at each request; returns what was asked for in the process that is to become it."""
	while True:
		data, given, _, _ = socket.recv_fds(ear, LONGEST, MOST)
		if not data:
			os._exit(0)
		if pid := clone():
			ear.send(b"%d" % pid)
			for one in given:
				os.close(one)
			continue
		ear.close()
		asked: dict[str, Any] = json.loads(data)
		above = [fcntl.fcntl(one, fcntl.F_DUPFD, 100) for one in given]
		for one in given:
			os.close(one)
		for one, number in zip(above, asked["numbers"], strict=True):
			os.dup2(one, number)
			os.close(one)
		return asked


def called(words: Sequence[str]) -> None:
	"""Have /proc say these words in place of the room made for them."""
	begin, end = map(int, Path("/proc/self/stat").read_text().rpartition(")")[2].split()[45:47])
	begin += sum(len(os.fsencode(word)) + 1 for word in (sys.executable, *sys.orig_argv[1:3]))
	new = "\0".join(words).encode(errors="surrogateescape")[: end - begin - 1]
	ctypes.memset(begin, 0, end - begin)
	ctypes.memmove(begin, new, len(new))


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


def become(asked: Mapping[str, Any]) -> NoReturn:
	"""What was asked for, to its end."""
	command = asked["command"]
	os.environ.clear()
	os.environ.update(asked["environment"])
	if asked["netns"]:
		enter(asked["netns"])
	os.chdir(asked["folder"])
	if asked["session"]:
		os.setsid()
	if HOSTING.intersection(command):
		STARTERS.append(Starter(another(), os.environ))
		clone_children_of(cs)
	called(command)
	try:
		run(command)
		status = 0
	except SystemExit as ended:
		if not isinstance(ended.code, int):
			raise
		status = ended.code
	end(status)


def end(status: int) -> NoReturn:
	"""As Python ends, but what it has is not taken apart: whatever is touched of it would be copied first."""
	threading._shutdown()  # type: ignore[attr-defined]
	atexit._run_exitfuncs()
	try:
		for stream in (sys.stdout, sys.stderr):
			stream.flush()
	except (OSError, ValueError):
		sys.exit(status)  # which complains
	os._exit(status)


def another() -> socket.socket:
	"""An end that leads to a child of this process, which stays as this one is now."""
	end, ear = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
	if not os.fork():
		end.close()
		nowhere = os.open(os.devnull, os.O_RDWR)
		for number in (0, 1, 2):
			os.dup2(nowhere, number)
		os.close(nowhere)
		become(asked_for(ear))
	ear.close()
	return end


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
	import connectsphere as cs

	for name in LATER:
		importlib.import_module(name)
	called([])
	gc.collect()
	gc.freeze()
	become(asked_for(socket.socket(fileno=int(sys.argv[1]))))
