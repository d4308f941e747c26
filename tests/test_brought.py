"""What people and their computers bring: PINs and addresses as typed, homes, streams, seats, devices."""

from __future__ import annotations

import contextlib
import ctypes
import locale
import logging
import os
import queue
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from headless import PROGRAM, ROOT, Headless, environment, free_base
from meetings import LOOPBACK

import connectsphere as cs

QUIET = ("--camera", "none", "--mic", "none", "--speaker", "none")
ALONE = "127.41.7.9"
SKIP = "OPENCV_AVFOUNDATION_SKIP_AUTH"


# -- PINs and addresses


@pytest.mark.parametrize(
	"typed",
	[
		*("482913", "482 913", "482-913", "482–913", "４８２９１３", "४८२९१३", "٤٨٢٩١٣", "۴۸۲۹۱۳", "৪৮২৯১৩"),
		*("\u200e482913\u200f", " 482\u00a0913\n"),
	],
)  # fmt: skip
def test_a_digit_is_a_digit(typed: str) -> None:
	assert cs.clean_pin(typed) == "482913"


@pytest.mark.parametrize("pin", ["sol 26", "12 apples", "a-b", "Käse"])
def test_other_pins_stay_as_they_are(pin: str) -> None:
	assert cs.clean_pin(f" {pin} ") == pin


@pytest.mark.parametrize(
	("typed", "place"),
	[
		("192.168.1.20", ("192.168.1.20", 9000)),
		(" 192.168.1.20 ", ("192.168.1.20", 9000)),
		("192,168,1,20", ("192.168.1.20", 9000)),
		("१९२.१६८.१.२०", ("192.168.1.20", 9000)),
		("١٩٢,١٦٨,١,٢٠:٩٠٠٥", ("192.168.1.20", 9005)),
		("192.168.1.20：9005", ("192.168.1.20", 9005)),
		("192.168.1.20 : 9005", ("192.168.1.20", 9005)),
		("\u200e192.168.1.20", ("192.168.1.20", 9000)),
		("lab-pc.local:9005", ("lab-pc.local", 9005)),
		("0T4N", ("0T4N", 9000)),
	],
)
def test_an_address_is_taken_as_people_type_it(typed: str, place: tuple[str, int]) -> None:
	assert cs.typed_place(typed) == place


@pytest.mark.parametrize("typed", ["", " ", ":9000", "a:b", "a:0", "a:64000", "a:1:2"])
def test_what_is_no_address(typed: str) -> None:
	with pytest.raises(ValueError):
		cs.typed_place(typed)


@pytest.mark.parametrize(
	("host", "address"),
	[
		("127.0.0.010", "127.0.0.10"),
		("010.000.000.001", "10.0.0.1"),
		("0x7f.0.0.1", ""),
		("127.1", ""),
		("2130706433", ""),
		("0x7f000001", ""),
		("1.2.3.4.5", ""),
		("256.1.1.1", ""),
	],
)
def test_numbers_are_decimal_or_refused(host: str, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
	monkeypatch.setattr(
		"socket.gethostbyname", lambda name: pytest.fail("a resolver reads it in its own way")
	)
	with contextlib.nullcontext() if address else pytest.raises(cs.Refused, match="cannot be found"):
		assert cs.resolve(host) == address


def test_a_name_that_somebody_has_is_no_code(monkeypatch: pytest.MonkeyPatch) -> None:
	"""One in a hundred names is a code, too: pc18, lab22, room14."""
	monkeypatch.setattr("socket.gethostbyname", {"pc18": "10.0.0.18"}.__getitem__)
	assert cs.code_address("pc18")
	assert cs.resolve("pc18") == "10.0.0.18"

	def unknown(name: str) -> str:
		raise OSError

	monkeypatch.setattr("socket.gethostbyname", unknown)
	assert cs.resolve("pc18") == cs.code_address("pc18")


# -- the PIN that nobody else sees


@pytest.mark.parametrize("content", ["482913\nmore\n", "482 913", "\ufeff482913\r\n"])
def test_a_pin_comes_from_a_file(content: str, tmp_path: Path) -> None:
	(tmp_path / "pin").write_text(content, "utf-8")
	options = cs.parse_options(["--serve", "--pin-file", str(tmp_path / "pin")])
	assert cs.clean_pin(options.pin) == "482913"


@pytest.mark.parametrize("args", [["--pin-file", "/nowhere"], ["--pin", "1", "--pin-file", "x"]])
def test_no_pin_is_no_meeting_without_one(args: list[str]) -> None:
	with pytest.raises(cs.UsageError):
		cs.parse_options(["--serve", *args])


def test_an_empty_file_is_no_pin(tmp_path: Path) -> None:
	(tmp_path / "pin").write_text("\n482913")
	with pytest.raises(cs.UsageError, match="empty"):
		cs.parse_options(["--serve", "--pin-file", str(tmp_path / "pin")])


def test_the_first_line_of_the_input_is_the_pin_and_the_rest_are_commands(
	meeting: Callable[..., Headless],
) -> None:
	base = str(free_base())
	server = meeting("--serve", "--bind", LOOPBACK, "--port", base, "--pin-file", "-")
	server.send_raw(b"482913\n")
	server.wait("serving")
	assert b"482913" not in Path(f"/proc/{server.process.pid}/cmdline").read_bytes()
	ana = meeting("--join", f"{LOOPBACK}:{base}", "--pin-file", "-", "--name", "Ana", *QUIET)
	ana.send_raw(b'482 913\n{"do":"chat","text":"hello","ref":1}\n')
	ana.wait("joined")
	ana.wait("chat", text="hello")


# -- streams


@pytest.mark.parametrize(
	("args", "redirect", "status"),
	[
		(["--version"], ">&-", 0),
		(["--version"], "> /dev/full", 1),
		(["--help"], "| true", 0),
		(["--list", "--bind", ALONE], "> /dev/full", 1),
		(["--list", "--bind", ALONE], "0<&- >&- 2>&-", 0),
		(["--join", f"{LOOPBACK}:1", "--headless", *QUIET], ">&- 0<&-", 1),
		(["--nonsense"], "2>&-", 2),
	],
	ids=str,
)
def test_streams_that_are_closed_or_full_are_no_bug(
	args: list[str], redirect: str, status: int, tmp_path: Path
) -> None:
	command = f'set -o pipefail; "$@" {redirect}'
	done = subprocess.run(
		["bash", "-c", command, "bash", *PROGRAM, *args],
		env=environment(tmp_path),
		cwd=ROOT,
		capture_output=True,
		text=True,
		timeout=40,
		check=False,
	)
	assert "Traceback" not in done.stderr and len(done.stderr.splitlines()) <= 1, done.stderr
	assert done.returncode == status, done.stderr
	assert not list(tmp_path.glob("reports/*"))


def test_a_server_without_streams_serves(tmp_path: Path) -> None:
	base = free_base()
	server = subprocess.Popen(
		[
			*("bash", "-c", 'exec "$@" 0<&- >&- 2>&-', "bash", *PROGRAM),
			*("--serve", "--bind", LOOPBACK, "--port", str(base)),
		],
		env=environment(tmp_path),
		cwd=ROOT,
	)  # fmt: skip
	try:
		until = time.monotonic() + 20
		while not cs.tcp_answers((LOOPBACK, base)):
			assert server.poll() is None and time.monotonic() < until
			time.sleep(0.1)
	finally:
		server.send_signal(signal.SIGTERM)
		assert server.wait(10) == 0


def test_a_log_takes_every_name_and_is_its_owners(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
	"""In a locale of one byte, as Windows' are, and after it was begun anew."""
	monkeypatch.setattr(locale, "getpreferredencoding", lambda *_: "ascii")
	handler = cs.PrivateLog(tmp_path / "log", maxBytes=200, backupCount=1, encoding="utf-8", errors="replace")
	with contextlib.closing(handler):
		for name in ("Нова 小林", "a\udce9", "x" * 250):
			handler.emit(logging.LogRecord("x", logging.INFO, "", 1, name, (), None))
	whole = (tmp_path / "log.1").read_text("utf-8") + (tmp_path / "log").read_text("utf-8")
	assert "Нова 小林" in whole and "a?" in whole and "x" * 250 in whole
	assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.glob("log*")} == {0o600}


# -- homes and seats


def test_who_has_nowhere_to_keep_things_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
	(tmp_path / "file").write_text("")
	monkeypatch.setenv("CONNECTSPHERE_HOME", str(tmp_path / "file" / "home"))
	monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
	home = cs.home_directory()
	assert cs.home_directory() == home and home.parent == tmp_path
	assert stat.S_IMODE(home.stat().st_mode) == 0o700
	assert cs.Settings(home).get("x", 1) == 1 and len(cs.make_host_key()) == 64


def test_an_account_without_a_home_has_the_temporary_one(
	tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
	for name in ("HOME", "CONNECTSPHERE_HOME", "XDG_DATA_HOME"):
		monkeypatch.delenv(name, raising=False)
	env = {"PATH": os.environ["PATH"], "TMPDIR": str(tmp_path)}
	script = (
		"import pwd, connectsphere as cs\n"
		"def nobody(uid): raise KeyError(uid)\n"
		"pwd.getpwuid = nobody\n"
		"cs.prepare_streams()\n"
		"print(cs.home_directory(), cs.downloads_folder(''))"
	)
	done = subprocess.run(
		[sys.executable, "-c", script], env=env, cwd=ROOT, capture_output=True, text=True, check=True
	)
	assert [place.startswith(str(tmp_path)) for place in done.stdout.split()] == [True, True], done.stderr


def knocked(home: Path) -> tuple[cs.OneWindow, queue.SimpleQueue[str]]:
	knocks: queue.SimpleQueue[str] = queue.SimpleQueue()
	return cs.OneWindow(home, lambda: knocks.put("front")), knocks


def test_each_seat_of_an_account_has_a_window(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
	with contextlib.ExitStack() as stack:
		for display in (":1", ":2"):
			monkeypatch.setenv("DISPLAY", display)
			window, knocks = knocked(tmp_path)
			stack.callback(window.close)
			assert window.open()
			assert not knocked(tmp_path)[0].open() and knocks.get(timeout=5)


@pytest.mark.parametrize("case", ["hung", "foreign"])
def test_a_knock_that_nobody_hears_opens_a_window(
	case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
	"""Its holder hangs, or the lock is another account's: `sudo` began it once."""
	if case == "hung":
		monkeypatch.setattr(cs.OneWindow, "_listen", lambda self, worker: worker.stopping.wait())
	first, _ = knocked(tmp_path)
	if case == "hung":
		assert first.open()
	else:
		monkeypatch.setattr(cs, "lock_file", lambda path: None)
		monkeypatch.setattr(Path, "touch", lambda *_, **__: (_ for _ in ()).throw(PermissionError(13, "no")))
	second, _ = knocked(tmp_path)
	assert second.open()
	first.close()
	second.close()


def test_who_starts_while_the_window_is_closing_gets_one(tmp_path: Path) -> None:
	"""A host's program ends a moment after its window: who is told then that one is open sees none."""
	first, knocks = knocked(tmp_path)
	assert first.open()
	first.gone()
	ending = threading.Timer(0.4, first.close)
	ending.start()
	second, heard = knocked(tmp_path)
	assert second.open() and knocks.empty()
	ending.join()
	assert not knocked(tmp_path)[0].open(), "it is the one now"
	assert heard.get(timeout=5) == "front"
	second.close()


# -- cameras and microphones


class Told(list[tuple[float, str]]):
	def __call__(self, what: str, state: str, reason: str) -> None:
		self.append((time.monotonic(), state))


class Odd(cs.Camera):
	"""A camera that opens and gives `good` pictures."""

	def __init__(self, good: int) -> None:
		self.left = good

	def read(self, timeout: float) -> cs.Picture:
		if not self.left:
			raise cs.DeviceError("It gives nothing.")
		self.left -= 1
		return np.zeros((90, 160, 3), np.uint8)

	def close(self) -> None:
		pass


@pytest.mark.parametrize(("good", "lives", "tries"), [(0, 0, 1), (1, 3, 6)])
def test_a_camera_that_opens_and_gives_little_does_not_flap(
	good: int, lives: int, tries: int, monkeypatch: pytest.MonkeyPatch
) -> None:
	"""Live with its first picture; tries grow rarer: 0, 0.1, 0.3, 0.7 s."""
	opened, told = [], Told()
	monkeypatch.setattr(cs, "open_camera", lambda *_, **__: opened.append(1) or Odd(good))
	monkeypatch.setattr(cs.DeviceThread, "_FIRST_PAUSE", 0.1)
	camera = cs.CameraSender(cs.ClientOptions(), lambda *_: None, told)
	camera.look()
	camera.turn(True)
	time.sleep(0.65)
	camera.close()
	states = [state for _, state in told]
	assert states.count("live") == lives and len(opened) <= tries, states
	assert "failed" in states


@pytest.mark.parametrize("offset", [100, -1_000, 8_000])
def test_a_constant_offset_is_no_voice(offset: int) -> None:
	sent: list[bytes] = []
	mic = cs.MicrophoneSender(
		cs.ClientOptions(),
		lambda seq, data: sent.append(data),
		lambda *_: None,
		lambda: 0,
		cs.VoiceProcessor(),
	)
	block = np.full(cs.BLOCK, offset, np.int16)
	for _ in range(250):
		mic._send_block(block)
	del sent[:]
	for _ in range(100):
		mic._send_block(block)
	assert not any(sent) and mic.level < 0.1
	tone = block + np.round(3_000 * np.sin(np.arange(cs.BLOCK) * 0.2)).astype(np.int16)
	for _ in range(20):
		mic._send_block(tone)
	heard = np.frombuffer(sent[-1], ">i2").astype(int)
	assert abs(heard.mean()) < abs(offset) / 8 + 400 and np.ptp(heard) > 5_000


@pytest.mark.parametrize("code_page", ["cp1252", "cp1250", "utf-8", "ascii"])
@pytest.mark.parametrize("name", ["Micrófono (USB)", "Kopfhörer", "Speaker", "マイク"])
def test_devices_are_called_what_they_are_called(
	name: str, code_page: str, monkeypatch: pytest.MonkeyPatch
) -> None:
	"""PyAudio decodes PortAudio's UTF-8 by the code page, where that can; else it comes right."""
	monkeypatch.setattr(locale, "getpreferredencoding", lambda *_: code_page)
	try:
		seen = name.encode().decode(code_page)
	except UnicodeDecodeError:
		seen = name
	assert cs._utf8(seen) == name


@pytest.mark.parametrize(
	("path", "taken"), [("caf\\udce9.txt", True), ("caf\\ud800.txt", False), ("caf\u00e9.txt", True)]
)
def test_a_file_may_have_a_name_that_is_no_utf8(path: str, taken: bool) -> None:
	"""Of the own commands alone, as the system escapes it; what goes over the network has none."""
	line = f'{{"do": "upload", "path": "{path}"}}'.encode()
	assert bool(cs._parsed_command(line)) == taken
	if "udc" in path:
		with pytest.raises(cs.PeerFault):
			cs.parse_json(line)


# -- Windows and macOS, imitated


class Capture:
	"""A DirectShow camera as OpenCV drives it: each other wish makes it forget the kind of picture."""

	def __init__(self, *_: object) -> None:
		self.kind = 0.0

	def isOpened(self) -> bool:  # noqa: N802
		return True

	def set(self, what: int, value: float) -> None:
		import cv2

		self.kind = value if what == cv2.CAP_PROP_FOURCC else 0.0


def test_a_windows_camera_is_asked_for_compressed_pictures_last(monkeypatch: pytest.MonkeyPatch) -> None:
	import cv2

	monkeypatch.setattr(sys, "platform", "win32")
	monkeypatch.setattr(cs.cv2, "VideoCapture", Capture)
	assert cs._open_capture(0, 30).kind == cv2.VideoWriter.fourcc(*"MJPG")


@pytest.mark.parametrize(("before", "then"), [(None, "1"), ("0", "0")])
def test_opencv_does_not_ask_a_mac_for_the_camera(
	before: str | None, then: str, monkeypatch: pytest.MonkeyPatch
) -> None:
	"""It can do that on the main thread alone; the system asks. What the user has set holds."""
	seen: list[str | None] = []

	def capture(*_: object) -> Capture:
		seen.append(os.environ.get(SKIP))
		return Capture()

	monkeypatch.setenv(SKIP, before or "")
	if before is None:
		monkeypatch.delenv(SKIP)
	monkeypatch.setattr(sys, "platform", "darwin")
	monkeypatch.setattr(cs.cv2, "VideoCapture", capture)
	cs._open_capture(0, 30)
	assert seen == [then]


@pytest.mark.parametrize("fault", [None, PermissionError(13, "WinError 32")])
def test_a_file_is_saved_once_whoever_looks_into_it(
	fault: OSError | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
	"""A scanner holds the part for a while: it is saved all the same, under one name."""
	part = tmp_path / "x.part"
	part.write_text("homework")
	unlink = Path.unlink

	def refuse(path: Path, missing_ok: bool = False) -> None:
		if fault and path == part:
			raise fault
		unlink(path, missing_ok)

	monkeypatch.setattr(Path, "unlink", refuse)
	assert cs.give_free_name(part, tmp_path, "a.pdf") == tmp_path / "a.pdf"
	assert [path.name for path in tmp_path.glob("*.pdf")] == ["a.pdf"]
	assert part.exists() == bool(fault)


def test_macos_is_told_what_came_from_the_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
	said: list[tuple[Any, ...]] = []
	monkeypatch.setattr(ctypes, "CDLL", lambda _: SimpleNamespace(setxattr=lambda *args: said.append(args)))
	cs.mark_as_downloaded(tmp_path / "a.pdf", "darwin")
	path, name, value, size, *rest = said[0]
	assert (path, name, size, rest) == (
		os.fsencode(tmp_path / "a.pdf"),
		b"com.apple.quarantine",
		len(value),
		[0, 0],
	)
	assert value.split(b";")[0] == b"0081" and abs(int(value.split(b";")[1], 16) - time.time()) < 10


@pytest.mark.parametrize(
	("known", "full", "name"), [(1, "Ana Müller", "Ana Müller"), (1, " ", "Student"), (0, "Ana", "Student")]
)
def test_who_uses_windows_is_called_as_it_shows_her(
	known: int, full: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
	"""A class that shares one account is not "Student" thirty times where Windows knows better."""

	def ask(what: int, answer: Any, size: object) -> int:
		assert what == 3  # NameDisplay
		answer.value = full
		return known

	system = SimpleNamespace(secur32=SimpleNamespace(GetUserNameExW=ask))
	monkeypatch.setattr(ctypes, "windll", system, raising=False)
	monkeypatch.setattr(sys, "platform", "win32")
	monkeypatch.setattr("getpass.getuser", lambda: "student")
	assert cs.own_name() == name


@pytest.mark.parametrize("way", ["share", "choose"])
@pytest.mark.parametrize(("has", "gets"), [(1, 0), (0, 1), (0, 0), (0xFF00, 0xFF00)])
def test_macos_is_asked_before_a_screen_is_shared(
	has: int, gets: int, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
	"""Without the permission macOS gives its wallpaper alone. A bool is the lowest byte of what comes."""
	system = SimpleNamespace(
		CGPreflightScreenCaptureAccess=lambda: has, CGRequestScreenCaptureAccess=lambda: gets
	)
	monkeypatch.setattr(ctypes, "CDLL", lambda _: system)
	monkeypatch.setattr(sys, "platform", "darwin")
	monkeypatch.setattr(cs, "_open_window_system", lambda: 1 / 0)  # it would be opened
	with pytest.raises((cs.DeviceError, ZeroDivisionError)) as told:
		cs._DesktopScreen(0) if way == "share" else list(cs.list_screens())
	assert isinstance(told.value, ZeroDivisionError) == (1 in (has, gets))
	assert ("macOS Settings" in str(told.value)) == (1 not in (has, gets))


class Console:
	"""Windows' consoles: which process has one, and who started whom."""

	def __init__(self, with_console: int) -> None:
		self.taken, self.parents = 0, {os.getppid(): 4_242}
		self.with_console = with_console

	def AttachConsole(self, process: int) -> int:  # noqa: N802
		process = os.getppid() if process == -1 else process
		self.taken = process if process == self.with_console else 0
		return bool(self.taken)

	def OpenProcess(self, access: int, inherit: bool, process: int) -> int:  # noqa: N802
		return process

	def NtQueryInformationProcess(self, handle: Any, what: int, facts: Any, *_: object) -> int:  # noqa: N802
		facts[5] = self.parents.get(handle.value, 0)
		return 0


@pytest.mark.parametrize(("owner", "found"), [(os.getppid(), True), (4_242, True), (77, False)])
def test_a_one_file_program_prints_to_the_console_it_was_started_from(
	owner: int, found: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
	"""Its parent is its own start, which has unpacked it; the console is that one's parent's."""
	console = Console(owner)
	monkeypatch.setattr(ctypes, "windll", SimpleNamespace(kernel32=console, ntdll=console), raising=False)
	assert cs._take_console() == found
	assert console.taken == (owner if found else 0)


def test_a_share_outlives_the_question_of_windows(monkeypatch: pytest.MonkeyPatch) -> None:
	"""UAC and the lock screen let nobody copy it: what was there stays. A screen that is gone ends it."""
	grabber = cs._Grabber.__new__(cs._Grabber)
	grabber._picture, grabber._raw = np.zeros((90, 160, 3), np.uint8), bytearray()

	def refuse(area: object) -> None:
		raise OSError("access is denied")

	grabber._mss = SimpleNamespace(grab=refuse)
	with pytest.raises(cs.DeviceError):
		grabber.grab(cs._Rectangle(0, 0, 160, 90))
	monkeypatch.setattr(sys, "platform", "win32")
	assert grabber.grab(cs._Rectangle(0, 0, 160, 90)) is grabber._picture
	with pytest.raises(cs.DeviceError):
		grabber.grab(cs._Rectangle(0, 0, 320, 90))


# -- what is inside


def test_the_versions_of_what_is_inside_are_told() -> None:
	said = subprocess.run(
		[*PROGRAM, "--version", "-v"], cwd=ROOT, capture_output=True, text=True, check=True
	).stdout.lower()
	for name in ("openssl", "python", "numpy", "opencv", "pillow", "cryptography", "mss", "spake2"):
		assert name in said, said


@pytest.mark.parametrize(
	("package", "bad"),
	[
		("opencv-python", "4.10.0.84"),
		("opencv-python", "4.11.0.86"),
		("Pillow", "11.2.1"),
		("cryptography", "44.0.0"),
	],
)
def test_versions_with_known_holes_are_excluded(package: str, bad: str) -> None:
	import tomllib

	from packaging.requirements import Requirement

	wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
	(one,) = [one for one in map(Requirement, wanted) if one.name == package]
	assert bad not in one.specifier


def test_the_scale_of_the_desktop_counts_on_linux_too(display: str) -> None:
	"""What a desktop sets at 200 % is a resource of the X server, which itself says 96 dots an inch."""
	before = subprocess.run(
		["xprop", "-root", "RESOURCE_MANAGER"], capture_output=True, text=True, check=True
	).stdout

	def told(resources: str) -> float:
		words = ["xprop", "-root", "-f", "RESOURCE_MANAGER", "8s", "-set", "RESOURCE_MANAGER", resources]
		subprocess.run(words, check=True)
		return cs.window_dpi(None)

	assert "not found" in before or "Xft" not in before
	assert told("Xft.dpi:\t192\n*font: x\n") == 192
	assert told("*font: x\n") == 96
