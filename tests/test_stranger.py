"""docs/protocol.md is enough: a client written from it alone takes part in a real meeting."""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import signal
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from cryptography.exceptions import InvalidSignature
from headless import Headless, free_base
from meetings import SILENT, join
from stranger import Stranger, ask

from connectsphere import RunningMeeting, read_clock

PIN = "482913"
RATE, BLOCK = 16_000, 256


def tone(hertz: float, blocks: int) -> list[bytes]:
	wave = 6_000 * np.sin(2 * np.pi * hertz * np.arange(blocks * BLOCK) / RATE)
	return [block.astype(">i2").tobytes() for block in wave.reshape(blocks, BLOCK)]


def loudest_frequency(blocks: list[bytes]) -> float:
	samples = np.concatenate([np.frombuffer(block, ">i2") for block in blocks]).astype(float)
	spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
	return float(np.argmax(spectrum) * RATE / len(samples))


def decoded(jpeg: bytes) -> Any:
	return cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)


@pytest.fixture
def place() -> tuple[str, int]:
	"""A loopback address of this test alone, so that no other meeting answers there, and a base port."""
	address = f"127.{random.randrange(2, 250)}.{random.randrange(250)}.{random.randrange(2, 250)}"
	return address, free_base(address)


@pytest.fixture
def host(meeting: Callable[..., Headless], place: tuple[str, int]) -> Headless:
	"""A meeting with a PIN and its host, whose camera shows the test card and whose microphone a tone."""
	address, base = place
	one = meeting(
		*("--host", "--name", "Ms Lee", "--title", "Algebra", "--pin", PIN, "--bind", address),
		*("--port", str(base), "--camera", "pattern", "--mic", "tone", "--speaker", "none"),
	)
	one.wait("joined", timeout=30)
	return one


@pytest.fixture
def stranger(host: Headless, place: tuple[str, int]) -> Iterator[Stranger]:
	with contextlib.closing(Stranger(*place, "Stranger", PIN)) as one:
		yield one


def test_it_goes_on_where_the_host_has_said_and_follows_who_moves(
	meeting: Callable[..., Headless], tmp_path: Path
) -> None:
	base, home = free_base(), tmp_path / "teacher"
	where = ("--bind", "127.0.0.1", "--port", str(base), "--orphan-seconds", "900", *SILENT)
	lee = meeting("--host", "--name", "Ms Lee", "--pin", PIN, *where, home=home)
	lee.wait("joined", timeout=40)
	ana = join(meeting, base, "Ana", "--pin", PIN, "--standby", "yes")
	lee.wait("stand_by", 20, name="Ana", state="ready")
	with contextlib.closing(Stranger("127.0.0.1", base, "Stranger", PIN)) as one:
		one.until(lambda: len(one.record.get("servers", ())) == 2)
		me, said = one.me, one.until(lambda: one.heard("rules") and one.heard("pong"))
		time.sleep(0.3)  # its claims were heard before the ping, and are told to the standby
		for pid in (lee.process.pid, RunningMeeting(home).read()["pid"]):  # else a new server may be there
			os.kill(pid, signal.SIGKILL)
		one.follow()
		assert (one.me, one.welcome["served_by"], one.welcome["epoch"]) == (me, "Ana", 2)
		assert not one.hosts() and said
		ana.wait("reconnected", 20, epoch=2)
		ana.send(do="chat", text="here we are")
		one.until(lambda: one.heard("chat", text="here we are"))
		lee = meeting("--host", "--name", "Ms Lee", *SILENT, home=home)
		lee.wait("joined", timeout=40)
		one.until(lambda: one.heard("join"))
		lee.send(do="hand_over", to="Ms Lee", rights=False)
		server = one.until(lambda: one.heard("moved"))[0]["server"]
		assert server in one.record["servers"]
		one.follow()
		assert (one.welcome["served_by"], one.welcome["epoch"]) == ("Ms Lee", 3)


def test_it_imports_nothing_of_the_program() -> None:
	source = Path(__file__).with_name("stranger.py").read_text(encoding="utf-8")
	assert "import connectsphere" not in source and "from connectsphere" not in source


def test_finding_and_joining(host: Headless, stranger: Stranger, place: tuple[str, int]) -> None:
	serving = host.wait("serving")
	assert stranger.fingerprint == serving["fingerprint"]
	answer = ask(place[0])
	assert (answer["title"], answer["port"], answer["pin"]) == ("Algebra", place[1], True)
	assert answer["fingerprint"] == stranger.fingerprint and answer["meeting"] == stranger.welcome["meeting"]
	assert stranger.welcome["name"] == "Stranger" and stranger.welcome["role"] == "member"
	assert [user["name"] for user in stranger.welcome["users"]] == ["Ms Lee", "Stranger"]
	assert host.wait("join")["name"] == "Stranger"
	stranger.leave()
	assert host.wait("leave")["name"] == "Stranger"


def test_a_wrong_pin(host: Headless, place: tuple[str, int]) -> None:
	with pytest.raises(PermissionError, match="wrong_pin"):
		Stranger(*place, "Stranger", "000000")


def test_talking(host: Headless, stranger: Stranger) -> None:
	stranger.say(type="chat", text="Grüß euch 👋", ref=1)
	assert host.wait("chat")["text"] == "Grüß euch 👋"
	(own,) = stranger.until(lambda: stranger.heard("chat", ref=1))
	host.send(do="private", to="Stranger", text="psst")
	(line,) = stranger.until(lambda: stranger.heard("private_chat"))
	assert (line["from"], line["text"], line["n"]) == ("Ms Lee", "psst", own["n"] + 1)
	stranger.say(type="reaction", emoji="🎉")
	stranger.say(type="hand", up=True)
	assert host.wait("reaction")["emoji"] == "🎉"
	assert host.wait("state", hand=True)["name"] == "Stranger"
	stranger.say(type="mute", who="all", ref=2)
	assert stranger.until(lambda: stranger.heard("error", ref=2))[0]["code"] == "not_allowed"


def test_seeing_and_hearing(host: Headless, stranger: Stranger) -> None:
	host.send(do="camera", on=True)
	host.send(do="mic", on=True)
	teacher = stranger.welcome["users"][0]["id"]
	stranger.say(type="watch", streams={str(teacher): {"layer": 2, "fps": 15}})
	stranger.until(lambda: stranger.video.challenges and stranger.audio.challenges)
	stranger.until(lambda: len(stranger.pictures) >= 15)
	assert {ident for ident, _, _ in stranger.pictures} == {teacher}
	numbers = [number for _, number, _ in stranger.pictures]
	assert numbers == sorted(set(numbers))
	first, last = decoded(stranger.pictures[-8][2]), decoded(stranger.pictures[-1][2])
	assert first.shape == last.shape == (360, 640, 3)
	assert first.std() > 20 and np.abs(first.astype(int) - last).max() > 50, "it shows something that moves"
	stranger.until(lambda: sum(1 for ident, _, _ in stranger.blocks if ident == teacher) >= 100)
	heard = [text for ident, _, text in stranger.blocks if ident == teacher][-60:]
	assert all(len(block) == 512 for block in heard)
	assert loudest_frequency(heard) == pytest.approx(440, abs=15)


def test_being_seen_and_heard(host: Headless, stranger: Stranger, tmp_path: Path) -> None:
	stranger.until(lambda: stranger.video.challenges and stranger.audio.challenges)
	stranger.say(type="video_start")
	stranger.say(type="mic", on=True, ref=77)
	stranger.until(lambda: stranger.heard("ok", ref=77))
	assert host.wait("video_start")["name"] == "Stranger"
	host.send(do="watch", streams={"Stranger": {"layer": 1, "fps": 10}})
	(encode,) = stranger.until(lambda: stranger.heard("encode"))
	assert encode["layers"] == {"1": 10}
	picture = np.zeros((180, 320, 3), np.uint8)
	picture[:, :160], picture[:, 160:] = (255, 0, 0), (0, 0, 255)
	jpeg = cv2.imencode(".jpg", picture)[1].tobytes()
	blocks = iter(tone(700, 3_000))

	def send() -> bool:
		stranger.send_picture(1, jpeg)
		for _ in range(3):
			stranger.send_block(next(blocks))
		end = stranger.blocks_sent * BLOCK / RATE
		with contextlib.suppress(AssertionError):
			stranger.until(lambda: False, seconds=0.048)
		return bool(host.seen("speaking", name="Stranger")) and end > 1.0

	stranger.until(send)
	path = tmp_path / "seen.png"
	host.send(do="snapshot", of="Stranger", path=str(path))
	shot = host.wait("snapshot")
	assert (shot["width"], shot["height"]) == (320, 180)
	seen = cv2.imread(str(path)).astype(int)
	assert seen[90, 80] == pytest.approx([255, 0, 0], abs=20)
	assert seen[90, 240] == pytest.approx([0, 0, 255], abs=20)


def test_small_pictures_are_webp_both_ways(host: Headless, stranger: Stranger, tmp_path: Path) -> None:
	stranger.until(lambda: stranger.video.challenges)
	host.send(do="camera", on=True)
	teacher = stranger.welcome["users"][0]["id"]
	stranger.say(type="watch", streams={str(teacher): {"layer": 0, "fps": 15}})
	stranger.until(lambda: any(data[:4] == b"RIFF" for _, _, data in stranger.pictures))
	assert decoded(stranger.pictures[-1][2]).shape == (90, 160, 3)
	stranger.say(type="video_start")
	host.wait("video_start")
	host.send(do="watch", streams={"Stranger": {"layer": 0, "fps": 10}})
	(encode,) = stranger.until(lambda: stranger.heard("encode"))
	assert encode["layers"] == {"0": 10} and encode["webp"] is True
	blue = cv2.imencode(
		".webp", np.full((90, 160, 3), (255, 0, 0), np.uint8), [cv2.IMWRITE_WEBP_QUALITY, 72]
	)[1]
	path = tmp_path / "seen.png"

	def seen() -> bool:
		stranger.send_picture(0, blue.tobytes())
		with contextlib.suppress(AssertionError):
			stranger.until(lambda: False, seconds=0.1)
		host.send(do="snapshot", of="Stranger", path=str(path))
		return bool(host.seen("snapshot"))

	stranger.until(seen)
	assert cv2.imread(str(path)).astype(int)[45, 80] == pytest.approx([255, 0, 0], abs=20)


def patched(data: bytes, pictures: list[bytes]) -> Any:
	"""What a patch shows, of one of the whole pictures before it."""
	(whole,) = (one for one in pictures if hashlib.sha256(one).digest()[:4] == data[6:10])
	seen, strip = decoded(whole).copy(), decoded(data)
	marked = [n for n in range(23 * 40) if data[10 + n // 8] >> (7 - n % 8) & 1]
	for at, n in enumerate(marked):
		(y, x), (top, left) = divmod(n, 40), divmod(at, 40)
		block = strip[16 * top : 16 * top + 16, 16 * left : 16 * left + 16]
		place = seen[16 * y : 16 * y + 16, 16 * x : 16 * x + 16]
		place[:] = block[: place.shape[0], : place.shape[1]]
	return seen


def test_a_calm_large_picture_comes_in_patches(host: Headless, stranger: Stranger) -> None:
	stranger.until(lambda: stranger.video.challenges)
	host.send(do="camera", on=True)
	teacher = stranger.welcome["users"][0]["id"]
	stranger.say(type="watch", streams={str(teacher): {"layer": 2, "fps": 12}})
	patch = b"\xff\xd8\xff\xfe\x00\x79"
	stranger.until(lambda: sum(data.startswith(patch) for _, _, data in stranger.pictures) > 3)
	pictures = [data for _, _, data in stranger.pictures]
	whole = [data for data in pictures if not data.startswith(patch)]
	seen = patched(pictures[-1], whole)
	assert seen.shape == (360, 640, 3)
	clock = read_clock(seen, time.time())
	assert clock is not None and -0.1 < clock < 5.0, "its clock has gone on, as drawn"


def test_seeing_the_screen(host: Headless, stranger: Stranger) -> None:
	host.send(do="share", on=True, source="pattern")
	stranger.until(lambda: stranger.heard("screen_start"))
	sock, messages = stranger.view_screen()
	with sock:
		geometry = next(m for m in messages if m[0] == 1)
		_, epoch, width, height = struct.unpack(">BIHH", geometry)
		canvas = np.zeros((height, width, 3), np.uint8)
		for message in messages:
			if message[0] == 2:
				_, of, _, x, y, w, h, codec = struct.unpack_from(">BIIHHHHB", message)
				assert of == epoch and codec in (1, 2, 3)
				canvas[y : y + h, x : x + w] = decoded(message[18:])
		assert (canvas.reshape(-1, 3).max(axis=1) > 0).mean() > 0.5, "most of it is painted"
		assert stranger.message(sock), "and it goes on after the acknowledge"


def test_sees_for_itself_who_is_host(stranger: Stranger) -> None:
	assert stranger.hosts() == ["Ms Lee"]
	stranger.fingerprint = "ab" * 32  # as if another server had shown what was signed for this one
	with pytest.raises(InvalidSignature):
		stranger.hosts()
