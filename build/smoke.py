"""Proves that built programs work: window, a killed host, a meeting across three network namespaces.

usage: smoke.py PROGRAM...   (as root; an .exe runs under Wine, with the environment that windows.sh sets)

Each program's window is opened, looked at and closed. Its host is killed, then the mixer: the meeting goes
on, and is heard again within 2 s. Then, on a LAN of three hosts, the first program hosts a meeting;
ConnectSphere from source and the last program find that by broadcast and join. Films and voices cross between
them all and are compared with what was sent, the voices one after another. At the end no process may be left.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import tempfile
import time
import wave
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tests"), str(ROOT)]

import numpy as np  # noqa: E402
import pictures  # noqa: E402
import sound  # noqa: E402
from headless import PROGRAM, Headless, environment, free_base  # noqa: E402
from lan import Lan  # noqa: E402
from screens import xvfb  # noqa: E402

SECONDS = 2  # of voice, said again and again
BOOT = 180.0  # Wine on a busy machine
PIECE = 2_000  # samples of voice that must be whole: a busy machine's clock slips between them
PATIENCE = 60.0
ALIKE = 0.9
TITLE = "ConnectSphere"
NO_DEVICES = ("--camera", "none", "--mic", "none", "--speaker", "none")


class Program:
	"""The built program, or the source: how it is started and how it names files."""

	def __init__(self, path: str) -> None:
		self.path = Path(path).resolve()
		self.wine = self.path.suffix == ".exe"
		# Python in Wine does not start with its output in a file: pipes lead there.
		wine = ("bash", "-c", 'exec wine "$0" "$@" > >(cat) 2> >(cat >&2)')
		self.command: Sequence[str] = (*wine, str(self.path)) if self.wine else (str(self.path),)

	def file(self, path: Path) -> str:
		"""`path` in the program's own words."""
		return "Z:" + str(path).replace("/", "\\") if self.wine else str(path)

	def settle(self) -> None:
		"""Wait until Wine's server has ended: it would go on in the network namespace that it began in."""
		if self.wine:
			subprocess.run(["wineserver", "-w"], check=True, timeout=60)

	def end(self) -> None:
		"""End what is left under Wine, where killing the first process spares the others."""
		if self.wine:
			subprocess.run(["wineserver", "-k"], check=False, timeout=60)

	def processes(self) -> list[str]:
		"""The processes of the program that run now."""
		listed = subprocess.run(["ps", "-eo", "pid,args"], capture_output=True, text=True, check=True)
		own = str(os.getpid())
		lines = [line.strip() for line in listed.stdout.splitlines()]
		names = (str(self.path), self.file(self.path))
		lines = [line for line in lines if line.split()[0] != own and "smoke" not in line]
		return [line for line in lines if any(name in line for name in names)]

	def kill(self, role: str) -> None:
		"""Kill the processes that were started with this option, as a task manager does."""
		found = [int(line.split()[0]) for line in self.processes() if role in line.split()]
		assert found, f"none is {role}: {self.processes()}"
		for pid in found:
			os.kill(pid, signal.SIGKILL)


class Source(Program):
	"""ConnectSphere from source, with this Python."""

	def __init__(self) -> None:
		super().__init__(sys.executable)
		self.command = PROGRAM


def say(text: str) -> None:
	"""Report a step."""
	print(f"  {text}", flush=True)


def write_voice(path: Path, seed: int) -> np.ndarray:
	"""A WAV file of something like speech; its samples."""
	samples = sound.speech_like(SECONDS, 16_000, seed)
	with wave.open(str(path), "wb") as out:
		out.setnchannels(1)
		out.setsampwidth(2)
		out.setframerate(16_000)
		out.writeframes(samples.tobytes())
	return samples


class Side:
	"""One participant: program, film, voice, and what was heard."""

	def __init__(
		self, name: str, program: Program, lan: Lan, host: int, folder: Path, args: Sequence[str]
	) -> None:
		self.name, self.program = name, program
		folder = folder / name
		folder.mkdir()
		self.picture, self._heard = folder / "seen.png", folder / "heard.wav"
		film, voice = pictures.film(folder / "film.avi", 3, size=(320, 180)), folder / "voice.wav"
		self.film, self.voice = pictures.frames_of(film), write_voice(voice, host)
		devices = ("--camera", film), ("--mic", voice), ("--speaker", self._heard)
		options = [word for key, path in devices for word in (key, program.file(path))]
		self.began = time.monotonic()
		self.process = Headless(
			[*args, "--name", name, *options],
			folder / "home",
			netns=lan.namespace(host),
			program=program.command,
		)

	def join(self) -> None:
		"""Wait until it has joined, and show what the camera sees."""
		self.process.wait("joined", BOOT)
		say(f"{self.name} joined after {time.monotonic() - self.began:.1f} s")
		self.process.send(do="camera", on=True)

	def look(self, other: Side) -> None:
		"""What is seen is the other's film."""
		self.process.send(do="watch", streams={other.name: {"layer": 1, "fps": 15}})
		until = time.monotonic() + PATIENCE
		while True:
			self.process.send(
				do="snapshot", of=other.name, path=self.program.file(self.picture), ref=str(until)
			)
			with contextlib.suppress(AssertionError):
				self.process.wait("snapshot", 2)
				break
			assert time.monotonic() < until, f"{self.name} sees nothing of {other.name}"
		seen = pictures.grey(pictures.read_picture(self.picture))
		number, likeness = pictures.best_frame(seen, other.film)
		say(f"{self.name} sees frame {number} of {other.name}, alike by {likeness:.3f}")
		assert likeness >= ALIKE, "the picture is another"

	def speak(self, others: Sequence[Side]) -> None:
		"""Say the voice until all others have heard every part of it well, at whichever time."""
		since = {other: len(other.heard()) for other in others}  # to look through all costs seconds
		self.process.send(do="mic", on=True)
		until = time.monotonic() + PATIENCE
		while True:
			time.sleep(SECONDS + 0.5)
			matches = {o.name: sound.typical_match(self.voice, o.heard()[since[o] :], PIECE) for o in others}
			if min(matches.values()) >= ALIKE or time.monotonic() > until:
				break
		self.process.send(do="mic", on=False)
		for name, match in matches.items():
			say(f"{name} hears {self.name}, correlation {match:.3f}")
		assert min(matches.values()) >= ALIKE, "the sound is another"

	def heard(self) -> np.ndarray:
		"""All that the speaker has played."""
		with wave.open(str(self._heard), "rb") as file:
			return np.frombuffer(file.readframes(file.getnframes()), np.int16)

	def close(self) -> None:
		"""Leave."""
		self.process.close(15)
		assert "Traceback" not in self.process.errors(), self.process.errors()


def meet(cast: Sequence[Program], folder: Path) -> None:
	"""The first hosts; the others join on hosts of their own, with no address."""
	folder.mkdir()
	with Lan(len(cast)) as lan, contextlib.ExitStack() as ends:
		sides: list[Side] = []
		for name, program in zip(("Ana", "Ben", "Cleo"), cast, strict=False):
			options = () if sides else ("--host", "--title", "Smoke")
			side = Side(name, program, lan, len(sides) + 1, folder, options)
			ends.callback(side.close)
			side.join()
			sides.append(side)
		for side in sides:
			others = [other for other in sides if other is not side]
			for other in others:
				side.look(other)
			side.speak(others)


class ClientMessage(ctypes.Structure):
	"""XClientMessageEvent, padded to the size of an XEvent."""

	_fields_ = (
		("type", ctypes.c_int),
		("serial", ctypes.c_ulong),
		("send_event", ctypes.c_int),
		("display", ctypes.c_void_p),
		("window", ctypes.c_ulong),
		("message_type", ctypes.c_ulong),
		("format", ctypes.c_int),
		("data", ctypes.c_long * 5),
		("padding", ctypes.c_long * 24),
	)


def ask_to_close(display: str, window: int) -> None:
	"""What a window manager sends when its close button is pressed; no window manager runs here."""
	x11 = ctypes.CDLL("libX11.so.6")
	x11.XOpenDisplay.restype = ctypes.c_void_p
	x11.XInternAtom.restype = ctypes.c_ulong
	connection = ctypes.c_void_p(x11.XOpenDisplay(display.encode()))
	protocols, delete = (
		x11.XInternAtom(connection, name, 0) for name in (b"WM_PROTOCOLS", b"WM_DELETE_WINDOW")
	)
	message = ClientMessage(type=33, window=window, message_type=protocols, format=32)
	message.data[0] = delete
	x11.XSendEvent(connection, ctypes.c_ulong(window), 0, ctypes.c_long(0), ctypes.byref(message))
	x11.XCloseDisplay(connection)


def show(program: Program, folder: Path, shot: Path) -> float:
	"""Open the window, photograph it and close it; the seconds until it was there."""
	with Lan(1) as lan, xvfb("1600x1000") as (display, _), contextlib.ExitStack() as ends:
		env = environment(folder, {"DISPLAY": display})
		began = time.monotonic()
		window = subprocess.Popen(
			["ip", "netns", "exec", lan.namespace(1), *program.command, "--new", *NO_DEVICES],
			env=env,
			stdin=subprocess.DEVNULL,
		)
		ends.callback(window.wait)
		ends.callback(window.kill)
		found = ""
		while not found:
			assert window.poll() is None, "the window's program ended"
			assert time.monotonic() - began < BOOT, "no window"
			time.sleep(0.05)
			search = ["xdotool", "search", "--onlyvisible", "--name", f"^{TITLE}$"]
			found = subprocess.run(search, env=env, capture_output=True, text=True).stdout.split("\n")[0]
		took = time.monotonic() - began
		colours = 0
		while colours <= 100:  # there before it is drawn
			assert time.monotonic() - began < BOOT, f"the window shows {colours} colours only"
			time.sleep(1)
			subprocess.run(["import", "-window", "root", str(shot)], env=env, check=True)
			blue, green, red = pictures.read_picture(shot).astype(np.uint32).T
			colours = len(np.unique(red << 16 | green << 8 | blue))  # as rows they take seconds
		ask_to_close(display, int(found))
		window.wait(20)
	return took


def outlive(program: Program, folder: Path) -> None:
	"""The program of a host is killed, then the mixer: its meeting goes on, until the next start ends it."""
	base, heard = free_base(), folder / "heard.wav"
	options = ("--bind", "127.0.0.1", "--port", str(base), "--orphan-seconds", "900", *NO_DEVICES)
	join = ("--join", f"127.0.0.1:{base}", *NO_DEVICES)
	with contextlib.ExitStack() as ends:

		def start(args: Sequence[str], home: str, of: Program) -> Headless:
			one = Headless(args, folder / home, program=of.command)
			ends.callback(one.close)
			return one

		def silence(since: float) -> float:
			return sound.longest_silence(heard, since - joined, time.time() - joined - 0.5)

		began = time.monotonic()
		start(("--host", *options), "host", program).wait("joined", BOOT)
		say(f"hosting after {time.monotonic() - began:.1f} s")
		speaks = start((*join, "--name", "Ben", "--mic", "tone"), "ben", Source())
		hears = start((*join, "--name", "Cleo", "--speaker", str(heard)), "cleo", Source())
		joined = hears.wait("joined", BOOT)["time"]
		speaks.wait("joined", BOOT)
		speaks.send(do="mic", on=True)
		hears.wait("speaking", PATIENCE, name="Ben")
		time.sleep(1)
		ends.callback(program.end)
		killed = time.time()
		program.kill("--host")
		hears.wait("host_away", PATIENCE)
		time.sleep(2)
		say(f"its program killed, the meeting was silent for {(gap := silence(killed)):.2f} s")
		assert gap < 1.0
		most = 4.0 if program.wine else 2.0  # Wine starts a process in 2 s
		for _ in range(3):  # the best counts: other work may run beside
			killed = time.time()
			program.kill("--mixer")
			time.sleep(most + 2)
			say(f"the mixer killed, it was silent for {(gap := silence(killed)):.2f} s")
			if gap < most:
				break
		assert 0.0 < gap < most
		subprocess.run(
			[*program.command, "--end"], env=environment(folder / "host"), check=True, stdin=subprocess.PIPE
		)
		for one in (speaks, hears):
			one.wait("ended", PATIENCE)


def check(program: Program, folder: Path) -> None:
	"""What one program does by itself."""
	print(f"{program.path.name}: {program.path.stat().st_size / 1e6:.1f} MB", flush=True)
	began = time.monotonic()
	said = subprocess.run(
		[*program.command, "--version"], capture_output=True, text=True, check=True, stdin=subprocess.PIPE
	)
	say(f"{said.stdout.strip()} said after {time.monotonic() - began:.1f} s")
	program.settle()
	shot = ROOT / "build" / "work" / f"window-{program.path.parent.name}.png"
	say(f"window after {show(program, folder / 'window', shot):.1f} s, seen in {shot}")
	program.settle()
	outlive(program, folder / "outlive")
	program.settle()


def check_all(programs: Sequence[Program]) -> None:
	"""Each by itself, then all in a meeting."""
	with tempfile.TemporaryDirectory() as name:
		folder = Path(name)
		for at, program in enumerate(programs):
			check(program, folder / str(at))
		first, source, last = programs[0], Source(), programs[-1]
		# all programs under Wine are in one network namespace, so there it hosts and joins in turn
		casts = [(first, source), (source, first)] if first.wine else [(first, source, last)]
		for at, cast in enumerate(casts):
			meet(cast, folder / f"meeting-{at}")
			first.settle()
	time.sleep(1)
	for program in programs:
		left = program.processes()
		assert not left, f"left running: {left}"
		print(f"{program.path.name} works", flush=True)


def main() -> int:
	"""Check the programs that the command line names."""
	programs = [Program(path) for path in sys.argv[1:]]
	try:
		check_all(programs)
	finally:
		for program in programs:
			program.end()
	return 0


if __name__ == "__main__":
	sys.exit(main())
