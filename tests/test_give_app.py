"""Giving the app to others, and the code for an address."""

from __future__ import annotations

import contextlib
import gc
import hashlib
import http.client
import socket
import time
import types
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fake_call import FakeBackend
from headless import ROOT, free_base
from hypothesis import given
from hypothesis import strategies as st
from window_driver import Driver, overlaps, walk

import connectsphere as cs

HOME = "127.0.0.1"


# --------------------------------------------------------------------------------- the address's code


@given(st.ip_addresses(v=4))
def test_every_address_has_a_code(address: object) -> None:
	code = cs.address_code(str(address))
	assert 4 <= len(code) <= 8
	assert cs.code_address(code) == str(address)
	assert cs.code_address(f" {code[:2]}-{code[2:]}".strip().lower()) == str(address)


@pytest.mark.parametrize(
	("address", "longest"),
	[
		("192.168.1.5", 4),
		("192.168.255.255", 5),
		("172.31.255.255", 6),
		("10.77.0.3", 6),
		("10.255.255.255", 7),
	],
)
def test_codes_of_a_lan_are_short(address: str, longest: int) -> None:
	assert len(cs.address_code(address)) <= longest


@given(st.ip_addresses(v=4), st.integers(0, 7), st.sampled_from(cs.CODE_LETTERS))
def test_a_wrong_letter_shows(address: object, at: int, letter: str) -> None:
	code = cs.address_code(str(address))
	wrong = code[:at] + letter + code[at + 1 :]
	if len(wrong) == len(code) and wrong != code:
		assert cs.code_address(wrong) is None


@given(st.ip_addresses(v=4), st.integers(0, 6))
def test_swapped_letters_show(address: object, at: int) -> None:
	code = cs.address_code(str(address))
	wrong = code[:at] + code[at : at + 2][::-1] + code[at + 2 :]
	if wrong != code:
		assert cs.code_address(wrong) is None


@given(st.text(max_size=12))
def test_any_text_is_a_code_or_none(text: str) -> None:
	found = cs.code_address(text)
	assert found is None or cs.code_address(cs.address_code(found)) == found


def test_what_looks_alike_is_one() -> None:
	code = next(c for n in range(255) if {"0", "1"} <= set(c := cs.address_code(f"10.0.1.{n}")))
	assert cs.code_address(code.replace("0", "o").replace("1", "l")) == cs.code_address(code)


@pytest.mark.parametrize("text", ["", "127.0.0.1", "localhost", "teacher-pc", "1234"])
def test_addresses_and_names_are_no_codes(text: str) -> None:
	assert cs.code_address(text) is None


def test_resolve_takes_a_code() -> None:
	assert cs.resolve(cs.address_code("10.77.0.3")) == "10.77.0.3"
	assert cs.resolve(HOME) == HOME


# ------------------------------------------------------------------------------- giving the app


@contextlib.contextmanager
def giving(rate: int = cs.GIVE_RATE) -> Iterator[cs.AppGiver]:
	with contextlib.closing(cs.AppGiver(HOME, rate=rate, port=0)) as giver:
		yield giver


def get(url: str) -> bytes:
	with urllib.request.urlopen(url, timeout=10) as answer:
		content: bytes = answer.read()
		return content


def test_the_program_arrives_whole() -> None:
	with giving() as giver:
		page = get(giver.url).decode()
		assert f"{cs.APP_NAME} {cs.VERSION}" in page
		assert giver.given.sha256 not in page
		assert 'href="/connectsphere.py"' in page
		given_bytes = get(f"{giver.url}/connectsphere.py")
		assert given_bytes == (ROOT / "connectsphere.py").read_bytes()
		assert hashlib.sha256(given_bytes).hexdigest() == giver.given.sha256


def test_it_is_offered_where_this_computer_is_now(monkeypatch: pytest.MonkeyPatch) -> None:
	"""School Wi-Fi gives another address in mid lesson: the next who looks sees that one."""
	here = ["192.168.1.7"]
	monkeypatch.setattr(cs, "plausible_interfaces", lambda: [SimpleNamespace(address=one) for one in here])
	with contextlib.closing(cs.AppGiver(port=0)) as giver:
		port = giver.url.rpartition(":")[2]
		assert giver.given.url == f"http://192.168.1.7:{port}"
		here[0] = "192.168.4.20"
		assert giver.given.url == f"http://192.168.4.20:{port}"
		here.clear()
		assert giver.given.url == f"http://127.0.0.1:{port}"


@pytest.mark.parametrize("path", ["/README.md", "/../README.md", "/connectsphere.py/", "/%2e%2e/x"])
def test_nothing_else_is_given(path: str) -> None:
	with giving() as giver, pytest.raises(urllib.error.HTTPError, match="404"):
		get(giver.url + path)


def test_all_together_keep_to_the_rate() -> None:
	rate = 400_000
	with giving(rate) as giver:
		size = giver.path.stat().st_size
		began = time.monotonic()
		assert len(get(f"{giver.url}/{giver.name}")) == size
		assert time.monotonic() - began > 0.9 * (size / rate - 0.25)


def test_closing_ends_what_is_being_sent() -> None:
	"""Also to one who does not read, and twice."""
	with giving(100_000) as giver, contextlib.closing(socket.socket()) as idle:
		idle.connect((HOME, int(giver.url.rpartition(":")[2])))
		idle.sendall(f"GET /{giver.name} HTTP/1.0\r\n\r\n".encode())
		assert idle.recv(100)
		began = time.monotonic()
		giver.close()
		giver.close()
		assert time.monotonic() - began < 2.5
		with pytest.raises(urllib.error.URLError):
			get(giver.url)


def test_too_many_are_turned_away(monkeypatch: pytest.MonkeyPatch) -> None:
	monkeypatch.setattr(cs, "GIVE_AT_ONCE", 1)
	with giving(100_000) as giver, contextlib.closing(socket.socket()) as first:
		address = (HOME, int(giver.url.rpartition(":")[2]))
		first.connect(address)
		first.sendall(f"GET /{giver.name} HTTP/1.0\r\n\r\n".encode())
		assert first.recv(100)
		second = http.client.HTTPConnection(*address, timeout=5)
		with contextlib.closing(second), pytest.raises((http.client.HTTPException, OSError)):
			second.request("GET", "/")
			second.getresponse()


def test_who_never_ends_its_request_holds_no_place(monkeypatch: pytest.MonkeyPatch) -> None:
	"""Each byte comes within the time for one, and the request never."""
	monkeypatch.setattr(cs, "GIVE_STALLED", 1.0)
	with giving() as giver, contextlib.ExitStack() as stack:
		address = (HOME, int(giver.url.rpartition(":")[2]))
		slow = [stack.enter_context(socket.create_connection(address, 3)) for _ in range(cs.GIVE_TO_ONE)]
		begun = time.monotonic()
		while time.monotonic() - begun < 1.6:
			for one in slow:
				with contextlib.suppress(OSError):
					one.send(b"G")
			time.sleep(0.2)
		for one in slow:
			with contextlib.suppress(ConnectionError):
				assert one.recv(100) == b""
		assert b"Download" in get(giver.url)


def test_one_address_does_not_take_all_places() -> None:
	with giving() as giver, contextlib.ExitStack() as stack:
		address = (HOME, int(giver.url.rpartition(":")[2]))
		for _ in range(cs.GIVE_AT_ONCE):
			stack.enter_context(socket.create_connection(address, 5, ("127.0.0.9", 0)))
		assert b"Download" in get(giver.url)


def test_the_qr_code_reads_back() -> None:
	cv2 = pytest.importorskip("cv2")
	picture = cs.qr_picture("http://192.168.1.5:9003")
	assert picture.dtype == "uint8"
	assert 200 <= picture.shape[0] == picture.shape[1] <= 320
	assert cv2.QRCodeDetector().detectAndDecode(picture)[0] == "http://192.168.1.5:9003"


# ------------------------------------------------------------------------------- in the window


@pytest.fixture
def program(tmp_path: Path) -> Iterator[cs.Program]:
	"""The program behind a window, on loopback; nothing is hosted."""
	options = cs.ClientOptions("Ana", bind=HOME, port=free_base(), camera="none", mic="none", speaker="none")
	with contextlib.closing(cs.Program(options, {}, tmp_path, look=False)) as made:
		yield made


@pytest.fixture
def window(display: str, program: cs.Program, monkeypatch: pytest.MonkeyPatch) -> Iterator[Driver]:
	"""The host's window in an imagined meeting, which gives the real program."""
	backend = FakeBackend()
	monkeypatch.setattr(backend, "give_app", program.give_app)
	monkeypatch.setattr(backend, "keep_app", program.keep_app)
	driver = Driver(display, backend)
	driver.meet(3, host=True)
	yield driver
	driver.close()
	del driver
	gc.collect()  # Tk objects must end in the thread that made them


def canvases(driver: Driver) -> Iterator[tuple[Any, str]]:
	"""The canvases of the open dialog, and what they say."""
	assert driver.view.dialog is not None
	for one in walk(driver.view.dialog.frame):
		if one.winfo_class() == "Canvas":
			sheet: Any = one
			texts = [item for item in sheet.find_all() if sheet.type(item) == "text"]
			yield sheet, " ".join(sheet.itemcget(item, "text") for item in texts)


def test_the_host_offers_it_and_stops(window: Driver, program: cs.Program) -> None:
	"""Off until asked for in the host's menu; what the dialog names is right; its button ends it."""
	window.view.flip_class()
	assert program._giver is None
	assert window.view.card is not None
	window.spot(window.view.card.list, "give")
	window.until(lambda: any("http://" in said for _, said in canvases(window)), "the address")
	given = program.give_app()  # asked again, it is the same
	said = next(said for _, said in canvases(window) if given.url in said)
	assert given.url == f"http://{HOME}:{program._options.port + 3}", "beside the meeting's ports"
	assert given.sha256 in said.replace(" ", "") and "needs Python and uv" in said
	assert b"needs uv" in get(given.url)
	assert hashlib.sha256(get(f"{given.url}/{given.name}")).hexdigest() == given.sha256
	assert overlaps(window.root) == []
	window.click(next(one for one, said in canvases(window) if said == "Stop offering it"))
	window.until(lambda: program._giver is None, "the end of the offer")
	with pytest.raises(urllib.error.URLError):
		get(given.url)


@pytest.mark.parametrize(
	("unpacked", "whole"), [("/home/ana/dir/_MEI3fKq2", True), ("/home/ana/connectsphere/parts", False)]
)
def test_a_folder_cannot_be_given(unpacked: str, whole: bool, monkeypatch: pytest.MonkeyPatch) -> None:
	"""The one file can, also where it unpacks itself below the folder that it lies in."""
	monkeypatch.setattr("sys.frozen", True, raising=False)
	monkeypatch.setattr("sys._MEIPASS", unpacked, raising=False)
	monkeypatch.setattr("sys.executable", "/home/ana/connectsphere.exe")
	if whole:
		assert cs.own_program() == (Path("/home/ana/connectsphere.exe"), "connectsphere.exe")
	else:
		with pytest.raises(cs.Refused, match="copy the folder"):
			cs.own_program()


# ------------------------------------------------------------------------------- the way in


def test_a_host_names_every_way_in(monkeypatch: pytest.MonkeyPatch, program: cs.Program) -> None:
	"""Physical interfaces first; a port that is not the usual one belongs to address and code."""
	names = {"docker0": "172.17.0.1", "wlan0": "10.0.0.5", "eth0": "192.168.1.20"}
	found = [cs.Interface(name, address, 24) for name, address in names.items()]
	monkeypatch.setattr(cs, "interfaces", lambda: found)
	monkeypatch.setattr(program, "_hosted", types.SimpleNamespace(address="10.0.0.5", close=lambda: None))
	options = program._options
	options.bind, options.port, options.host_key = None, 9_000, "5e" * 32  # its host joined it
	code = cs.address_code("192.168.1.20")
	assert program.ways_in()[0] == ("192.168.1.20", code, "eth0")
	assert [way.network for way in program.ways_in()] == ["eth0", "wlan0", "docker0"]
	options.port = 9_100
	assert program.ways_in()[0] == ("192.168.1.20:9100", f"{code}:9100", "eth0")


def test_the_invitation_is_large(window: Driver) -> None:
	"""The address stands larger than anything else; the other networks are there, too."""
	window.view.actions.invite()
	window.pump(0.3)
	sheet, said = next((one, said) for one, said in canvases(window) if "192.168.1.20" in said)
	assert "0T4N" in said
	heights = [box[3] - box[1] for item in sheet.find_all() if (box := sheet.bbox(item))]
	assert max(heights) > 40
	assert any("10.77.0.20:9100" in said and "Wi-Fi" in said for _, said in canvases(window))
	assert overlaps(window.root) == []


# ------------------------------------------------------------------------------- what the system asks


def test_what_the_system_asks_is_in_every_language() -> None:
	assert set(cs.SYSTEM_ASKS.values()) - set(cs.tr.table) == set()


@pytest.mark.parametrize(("system", "asked"), [("win32", False), ("darwin", True), ("linux", False)])
def test_a_device_is_explained_the_first_time(
	window: Driver, system: str, asked: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
	monkeypatch.setattr("sys.platform", system)
	told = []
	monkeypatch.setattr(window.view.toasts, "add", lambda words, *_: told.append(words))
	for _ in range(4):
		window.view.actions.toggle("camera")
		window.view.tick()
	assert ["camera" in words for words in told] == [True] * asked


@pytest.mark.parametrize(("system", "words"), [("win32", "firewall"), ("darwin", "incoming"), ("linux", "")])
def test_hosting_explains_the_firewall(system: str, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
	monkeypatch.setattr("sys.platform", system)
	monkeypatch.setattr(cs, "windows_firewall", lambda: "unset" if system == "win32" else "")
	assert words in cs.system_asks("host")
	assert bool(words) is bool(cs.system_asks("host"))
