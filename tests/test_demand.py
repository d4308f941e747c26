"""Nobody encodes, sends, relays, decodes or draws what nobody sees."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from headless import Headless
from hypothesis import given
from hypothesis import strategies as st
from meetings import Passage, enter, serve, stats, switch
from pictures import as_filmed, best_frame, frames_of, grey, read_picture
from waiting import wait_until

import connectsphere as cs

Starts = Callable[..., Headless]
WELCOME = {"id": 3, "video_up": "00" * 16, "video_down": "11" * 16}  # of nobody


class Traffic:
	"""Datagrams of pictures that pass, by direction and whose picture it is."""

	def __init__(self) -> None:
		self._seen: Counter[tuple[str, int]] = Counter()
		self._lock = threading.Lock()

	def tap(self, plane: str, upstream: bool, data: bytes) -> None:
		ident, _, total = struct.unpack_from(">IIH", data) if plane == "video" else (0, 0, 0)
		if total:
			with self._lock:
				self._seen["up" if upstream else "down", ident] += 1

	def during(self, seconds: float) -> Counter[tuple[str, int]]:
		"""What passes in the next seconds."""
		with self._lock:
			self._seen.clear()
		time.sleep(seconds)
		with self._lock:
			return Counter(self._seen)


@pytest.fixture
def traffic() -> Traffic:
	return Traffic()


@pytest.fixture
def way(meeting: Starts, traffic: Traffic) -> Iterator[tuple[Passage, int]]:
	"""A way to a meeting on which pictures are counted, and its base port."""
	_, base = serve(meeting)
	with contextlib.closing(Passage(base, tap=traffic.tap)) as passage:
		yield passage, base


def test_pictures_travel_only_to_who_looks(
	meeting: Starts, traffic: Traffic, way: tuple[Passage, int]
) -> None:
	passage, base = way
	ana, ben, cleo = (
		enter(meeting, base, name, "--camera", camera, at=passage.at)
		for name, camera in (("Ana", "pattern"), ("Ben", "none"), ("Cleo", "none"))
	)
	me = ana.wait("joined", timeout=40)["id"]
	for one in (ben, cleo):
		one.wait("joined", timeout=40)
	switch(ana, "camera", True)
	assert not traffic.during(1.0), "a camera that nobody looks at sends nothing"
	ben.send({"do": "watch", "streams": {"Ana": {"layer": 0, "fps": 10}}})
	wait_for_pictures(ben, "Ana")
	seen = traffic.during(1.0)
	assert seen["up", me] >= 10 and seen["down", me] <= 1.5 * seen["up", me], "to one of the two"
	assert stats(cleo)["video"] == {}
	ben.send({"do": "watch", "streams": {}})
	time.sleep(0.3)
	assert not traffic.during(0.5)["down", me], "who has stopped looking is sent nothing"
	time.sleep(cs.LINGER)
	assert not traffic.during(0.5), "and a layer ends with its last looker"


def wait_for_pictures(one: Headless, name: str) -> None:
	"""Until pictures of `name` come."""
	until = time.monotonic() + 10
	while not stats(one)["video"].get(name, {}).get("frames"):
		assert time.monotonic() < until, f"no picture of {name}"
		time.sleep(0.05)


def test_a_smaller_tile_asks_for_smaller_pictures(
	meeting: Starts, traffic: Traffic, way: tuple[Passage, int]
) -> None:
	passage, base = way
	ana = enter(meeting, base, "Ana", "--camera", "pattern", at=passage.at)
	ben = enter(meeting, base, "Ben", at=passage.at)
	ana.wait("joined", timeout=40)
	ben.wait("joined", timeout=40)
	switch(ana, "camera", True)
	for layer, fps in ((2, 15), (0, 5)):
		ben.send({"do": "watch", "streams": {"Ana": {"layer": layer, "fps": fps}}})
		until = time.monotonic() + 15
		while (figures := stats(ben)["video"].get("Ana", {})).get("layer") != layer or not (
			0.7 * fps <= figures["fps"] <= 1.3 * fps
		):
			assert time.monotonic() < until, figures
			time.sleep(0.1)


def test_the_own_preview_is_fresh_for_who_looks_and_rests_for_nobody() -> None:
	live, sent = threading.Event(), []
	camera = cs.CameraSender(
		cs.ClientOptions(camera="pattern", decode_all=True),
		lambda layer, data: sent.append(layer),
		lambda what, state, reason: live.set(),
	)
	try:
		camera.turn(True)
		assert live.wait(10)
		time.sleep(1.2)
		before = camera._preview[0]
		time.sleep(2.0)
		assert camera._preview[0] - before <= 3, "one a second"
		until, seen = time.monotonic() + 10, set()
		while len(seen) < 20:
			assert time.monotonic() < until
			serial, picture = camera.look()
			seen.add(serial)
			time.sleep(0.02)
		assert picture is not None and picture.shape[1] >= cs.LAYERS[cs.PREVIEW_LAYER][0]
		assert not sent, "and goes nowhere"
	finally:
		camera.close()


def still_room(path: Path) -> Path:
	"""A film of somebody before a camera that stands still."""
	writer = cs.cv2.VideoWriter(str(path), cs.cv2.VideoWriter.fourcc(*"MJPG"), 15, cs.LAYERS[2])
	card = cs.TestCard("Ana", cs.LAYERS[2])
	for number in range(30):
		writer.write(as_filmed(card.draw(1e9 + number / 15), number, noise=2.0, room=0.2))
	writer.release()
	return path


def test_a_calm_large_picture_comes_in_patches_and_looks_the_same(meeting: Starts, tmp_path: Path) -> None:
	"""Also to who looks later, and to who asks for fewer pictures."""
	_, base = serve(meeting)
	film = still_room(tmp_path / "film.avi")
	ana = enter(meeting, base, "Ana", "--camera", str(film))
	viewers = [enter(meeting, base, name) for name in ("Ben", "Cleo")]
	for one in (ana, *viewers):
		one.wait("joined", timeout=40)
	switch(ana, "camera", True)

	def watches(one: Headless, fps: int) -> None:
		one.send(do="watch", streams={"Ana": {"layer": 2, "fps": fps}})

	def kbits(one: Headless) -> float:
		"""Of one picture; a whole one has 110."""
		figures = stats(one)["video"].get("Ana", {})
		return figures["kbps"] / figures["fps"] if figures.get("layer") == 2 and figures["fps"] > 2 else 0.0

	watches(viewers[0], 12)
	assert wait_until(lambda: 0 < kbits(viewers[0]) < 60, 15)
	watches(viewers[1], 12)
	assert wait_until(lambda: 0 < kbits(viewers[1]) < 60, 15)
	for number, one in enumerate(viewers):
		one.send(do="snapshot", of="Ana", path=str(tmp_path / f"{number}.png"))
		one.wait("snapshot")
		seen = grey(read_picture(tmp_path / f"{number}.png"))
		assert best_frame(seen, frames_of(film))[1] > 0.9
	watches(viewers[1], 5)
	before = [stats(one) for one in viewers]
	time.sleep(4.0)
	for one, old in zip(viewers, before, strict=True):
		assert stats(one)["video"]["Ana"]["frames"] - old["video"]["Ana"]["frames"] >= 8
		assert stats(one)["counters"].get("patch", 0) == old["counters"].get("patch", 0), (
			"some had nothing to patch"
		)


@pytest.mark.parametrize("shown", [1, 6, 7, 12, 13, 40])
@pytest.mark.parametrize("many, lively", [(False, False), (False, True), (True, False), (True, True)])
@pytest.mark.parametrize("spoke", [set(), {2}, {2, 3, 99}])
def test_a_window_asks_for_the_rates_that_the_eye_needs(
	shown: int, many: bool, lively: bool, spoke: set[int]
) -> None:
	tall = {1: 500, **dict.fromkeys(range(2, shown + 1), 112)}
	wishes = cs.picture_wishes(tall, 1, spoke, many, False, lively)
	small = 15 if shown <= 6 and not many else 8 if shown <= 12 and not many else 5
	large = 12 if many and not lively else 15
	assert wishes == {
		ident: {"layer": 2 if ident == 1 else 0, "fps": large if ident == 1 else fps}
		for ident in tall
		for fps in [15 if ident in spoke else small]
	}
	best = cs.picture_wishes(tall, 1, spoke, many, True, lively)
	assert {one["fps"] for one in best.values()} == {15} and best[1]["layer"] == 3
	shared = cs.picture_wishes(tall, "screen", spoke, many, False, lively)
	assert all(shared[n]["fps"] in (15, small) for n in tall)


@pytest.mark.parametrize("best, most", [(False, 1.5), (True, 1.15)])
def test_a_layer_serves_tiles_up_to_its_height_and_somewhat_more(best: bool, most: float) -> None:
	for layer, (_, height) in enumerate(cs.LAYERS):
		assert cs.layer_for(int(height * most), best) == layer
		assert cs.layer_for(int(height * most) + 1, best) == min(layer + 1, len(cs.LAYERS) - 1)
	assert cs.layer_for(217) == 1, "a tile of a maximised window of 1920x1080"


def test_a_lively_picture_is_told_from_a_calm_one() -> None:
	random = np.random.default_rng(3)
	room = random.integers(0, 256, (360, 900, 3), np.uint8)
	grains = [random.standard_normal((360, 640, 3), np.float32) for _ in range(8)]

	def seen(shift: Callable[[int], int], part: slice, noise: float, pictures: int = 45) -> bool:
		for number in range(pictures):
			picture = room[:, :640].copy()
			picture[part] = np.roll(room[part], shift(number), 1)[:, :640]
			motion.look((picture + noise * grains[number % len(grains)]).clip(0, 255).astype(np.uint8))
		return motion.lively

	head, all_of_it = slice(340, 360), slice(0, 360)
	motion = cs.Motion()
	assert not seen(lambda n: 0, all_of_it, 6.0), "noise is no motion"
	assert not seen(lambda n: 3 * n, head, 3.0), "nor is a head that moves"
	assert seen(lambda n: 5 * n, all_of_it, 3.0), "a camera that is carried about is"
	assert seen(lambda n: 5 * n, slice(0, 40), 3.0), "and for as long as much goes on moving"
	assert not seen(lambda n: 0, all_of_it, 3.0)


@pytest.mark.parametrize(
	"layer, fps, quality", [(0, 5, 72), (1, 12, 72), (2, 15, 72), (2, 12, 65), (3, 8, 65)]
)
def test_large_pictures_at_a_sparing_rate_have_fewer_bytes(layer: int, fps: int, quality: int) -> None:
	camera = cs.CameraSender(cs.ClientOptions(), lambda *_: None, lambda *_: None)
	camera.encode({"layers": {str(layer): fps}})
	assert camera._quality(layer) == quality
	camera.encode({"layers": {str(layer): fps}, "coarse": [layer]})
	assert camera._quality(layer) == cs.COARSE_QUALITY


class TestSmallWebp:
	@pytest.fixture
	def sent(self) -> list[tuple[int, bytes]]:
		return []

	@pytest.fixture
	def camera(self, sent: list[tuple[int, bytes]]) -> cs.CameraSender:
		cs.load_codecs()
		return cs.CameraSender(
			cs.ClientOptions(), lambda layer, data: sent.append((layer, data)), lambda *_: None
		)

	@staticmethod
	@functools.cache
	def filmed() -> cs.Picture:
		"""Somebody before a camera."""
		return as_filmed(cs.TestCard("Ana", cs.LAYERS[2]).draw(1e9), 1, noise=2.0, room=0.2)

	def show(self, camera: cs.CameraSender, layers: dict[int, int], webp: bool) -> None:
		camera.encode({"layers": {str(layer): fps for layer, fps in layers.items()}, "webp": webp})
		camera._layers = {layer: cs.FrameDropper(1e9) for layer in layers}
		camera._capture(self.filmed())

	@pytest.mark.parametrize("webp", [False, True])
	def test_only_the_smallest_and_only_where_asked(
		self, camera: cs.CameraSender, sent: list[tuple[int, bytes]], webp: bool
	) -> None:
		self.show(camera, {0: 8, 1: 8, 2: 8}, webp)
		assert [layer for layer, data in sent if data[:4] == b"RIFF"] == [0] * webp
		for layer, data in sent:
			assert cs.fits_layer(cs.coded_size(data), layer, len(data))
			assert cs.decode_picture(data).shape[1::-1] == cs.LAYERS[layer]

	@pytest.mark.parametrize("layer_is_coarse", [False, True])
	def test_it_has_fewer_bytes_and_is_no_worse(
		self, camera: cs.CameraSender, sent: list[tuple[int, bytes]], layer_is_coarse: bool
	) -> None:
		coarse = [0] * layer_is_coarse
		picture = cs.fit_picture(self.filmed(), cs.LAYERS[0])
		for webp in (False, True):
			camera.encode({"layers": {"0": 8}, "coarse": coarse, "webp": webp})
			camera._layers = {0: cs.FrameDropper(1e9)}
			camera._capture(picture)
		jpeg, small = (data for _, data in sent)
		assert len(small) < 0.9 * len(jpeg)
		signal = [cs.cv2.PSNR(picture, cs.decode_picture(data)) for data in (jpeg, small)]
		assert signal[1] >= signal[0]

	def test_a_computer_that_takes_long_for_it_sends_jpeg(
		self, camera: cs.CameraSender, sent: list[tuple[int, bytes]], monkeypatch: pytest.MonkeyPatch
	) -> None:
		clock, took = [0.0], [0.002]

		def encode(picture: cs.Picture, quality: int) -> bytes:
			clock[0] += took[0]
			return b"RIFF"

		monkeypatch.setattr(cs, "encode_webp", encode)
		monkeypatch.setattr(cs, "monotonic", lambda: clock[0])

		def share(pictures: int) -> float:
			sent.clear()
			for _ in range(pictures):
				clock[0] += 1.0
				self.show(camera, {0: 8}, True)
			return sum(data == b"RIFF" for _, data in sent) / pictures

		assert share(50) == 1.0
		took[0] = 0.010
		share(10)
		assert share(200) <= 1.2 * cs.WEBP_SLOW, "it is tried once in a while"
		took[0] = 0.002
		share(10)
		assert share(50) == 1.0, "other work was in its way"


class TestPatches:
	"""Of a calm large picture what differs from the last whole one is sent, and that once a second."""

	@pytest.fixture
	def clock(self, monkeypatch: pytest.MonkeyPatch) -> list[float]:
		now = [100.0]
		monkeypatch.setattr(cs, "monotonic", lambda: now[0])
		return now

	@staticmethod
	@functools.lru_cache
	def scene(number: int, size: tuple[int, int] = cs.LAYERS[2], noise: float = 2.0) -> cs.Picture:
		"""Somebody before a camera that stands still."""
		card = cs.TestCard("Ana", size)
		return as_filmed(card.draw(1e9 + number / 12), number, noise=noise, room=0.2)

	@staticmethod
	def film(
		clock: list[float], pictures: Sequence[cs.Picture], asked: Mapping[str, Any], layer: int = 2
	) -> list[bytes]:
		"""What a camera sends of these, a twelfth of a second apart."""
		cs.load_codecs()
		sent: list[bytes] = []
		camera = cs.CameraSender(cs.ClientOptions(), lambda _, data: sent.append(data), lambda *_: None)
		camera.encode({"layers": {str(layer): 12}, **asked})
		for picture in pictures:
			clock[0] += 1 / 12
			camera._capture(picture)
		return sent

	@staticmethod
	def seen(stream: cs.Stream, data: bytes) -> cs.Picture:
		stream.put(data, cs.coded_size(data))
		return cs.decode_frame(*stream.newest[1:])

	@pytest.mark.parametrize("size", [(640, 360), (480, 360), (640, 273), (1280, 720)])
	def test_the_same_is_seen_for_less_than_half_the_bytes(
		self, clock: list[float], size: tuple[int, int]
	) -> None:
		pictures = [self.scene(number, size) for number in range(20)]
		plain, sent = (self.film(clock, pictures, {"patch": patch}) for patch in (False, True))
		assert sum(map(len, sent)) < 0.55 * sum(map(len, plain))
		stream, wholes = cs.Stream(), [number for number, one in enumerate(sent) if one[:6] != cs.PATCH]
		assert len(wholes) == 2 and 11 <= wholes[1] <= 13, "one a second"
		for picture, data in zip(pictures, sent, strict=True):
			seen, small = self.seen(stream, data), cs.fit_picture(picture, cs.LAYERS[2])
			assert cs.fits_layer(cs.coded_size(data), 2, len(data)) and seen.shape == small.shape
			assert cs.cv2.PSNR(seen, small) > 33.5
			assert cs.cv2.blur(cs.cv2.absdiff(seen, small), (8, 8)).max() < 24, "something of it is old"

	def test_each_is_of_use_by_itself_and_none_without_its_whole_picture(self, clock: list[float]) -> None:
		pictures = [self.scene(number) for number in range(20)]
		sent = self.film(clock, pictures, {"patch": True})
		again = max(number for number, data in enumerate(sent) if not data.startswith(cs.PATCH))
		stream = cs.Stream()
		for number, data in enumerate(sent):
			if number in (3, 4, 6, again):
				continue  # it is lost
			if number < again:
				assert cs.cv2.PSNR(self.seen(stream, data), pictures[number]) > 33.5
			else:
				with pytest.raises(cs.PeerFault, match="patch"):
					self.seen(stream, data)

	@pytest.mark.parametrize(
		"asked, layer, fps",
		[
			({}, 2, 12),
			({"patch": True}, 1, 12),
			({"patch": True}, 2, 15),
			({"patch": True, "coarse": [2]}, 2, 12),
		],
	)
	def test_only_where_it_is_asked_for_and_sparing(
		self, clock: list[float], asked: Mapping[str, Any], layer: int, fps: int
	) -> None:
		sent = self.film(clock, [self.scene(1)] * 3, {**asked, "layers": {str(layer): fps}}, layer)
		assert sent and not [one for one in sent if one.startswith(cs.PATCH)]

	def test_where_all_moves_it_costs_hardly_more(self, clock: list[float]) -> None:
		random = np.random.default_rng(4)
		for share in (1.0, 0.97, 0.9):
			still = random.integers(0, 256, (360, 640, 3), np.uint8)
			pictures = [still.copy() for _ in range(8)]
			for picture in pictures:
				picture[:, : int(share * 640)] = random.integers(0, 256, (360, int(share * 640), 3))
			plain, sent = (self.film(clock, pictures, {"patch": patch}) for patch in (False, True))
			assert sum(map(len, sent)) < 1.02 * sum(map(len, plain))
			assert all(cs.fits_layer(cs.coded_size(data), 2, len(data)) for data in sent)

	def test_a_camera_of_another_shape_begins_anew(self, clock: list[float]) -> None:
		sizes = [(640, 360), (640, 360), (480, 360), (480, 360), (640, 360)]
		pictures = [self.scene(number, size) for number, size in enumerate(sizes)]
		stream = cs.Stream()
		for picture, data in zip(pictures, self.film(clock, pictures, {"patch": True}), strict=True):
			assert self.seen(stream, data).shape == picture.shape

	@given(st.binary(max_size=140), st.integers(0, 140), st.integers(0, 140), st.integers(0, 3))
	def test_no_bytes_of_another_do_harm(self, data: bytes, at: int, removed: int, layer: int) -> None:
		"""What is decoded at all has the size that was checked."""
		cs.load_codecs()
		grey = np.full((*reversed(cs.LAYERS[layer]), 3), 90, np.uint8)
		whole = cs.encode_jpeg(np.full((360, 640, 3), 60, np.uint8), 65)
		head = cs.PATCH + hashlib.sha256(whole).digest()[:4] + b"\x0f" * 115
		patch = head[:at] + data + head[at + removed :] + cs.encode_jpeg(grey, 65)[2:]
		with contextlib.suppress(cs.PeerFault):
			width, height = cs.coded_size(patch)
			changed = patch.startswith(cs.PATCH)
			assert cs.decode_frame(patch, whole).shape == ((360, 640, 3) if changed else (height, width, 3))


LOOKING = cs.ClientOptions(address="127.0.0.1", decode_all=True)


class Vanishing(dict[int, Any]):
	"""What another thread takes away as soon as somebody has seen that it is there."""

	def __contains__(self, key: object) -> bool:
		return self.pop(cast(int, key), None) is not None


def test_what_another_thread_takes_away_in_between_ends_no_thread() -> None:
	camera = cs.CameraSender(cs.ClientOptions(), lambda *_: None, lambda *_: None)
	camera._layers = Vanishing({2: cs.FrameDropper(12)})
	assert camera._quality(2) in (cs.SPARING_QUALITY, cs.JPEG_QUALITY)
	media = cs.MediaManager(LOOKING, cs.Counters(), lambda *_: None, lambda _: None)
	media.video = video = cs.VideoPlane(LOOKING, WELCOME, cs.Counters())
	with contextlib.closing(video.loop):
		video.streams = Vanishing({4: cs.Stream()})
		assert isinstance(media.quality(4), cs.StreamQuality)


def test_a_window_is_told_how_good_pictures_are() -> None:
	media = cs.MediaManager(LOOKING, cs.Counters(), lambda *_: None, lambda _: None)
	media.video = video = cs.VideoPlane(LOOKING, WELCOME, cs.Counters())
	with contextlib.closing(video.loop):
		stream = video.streams[4] = cs.Stream()
		for lost in (3, 5):
			for _ in range(20):
				stream.put(b"x" * 500, (640, 360))
			video.incoming._streams[4] = {0: cs._Stream(lost)}
			quality = media.quality(4)
		assert quality == cs.StreamQuality(quality.fps, 640, 360, 2) and quality.fps >= 10
		assert media.quality(5) == cs.StreamQuality()
