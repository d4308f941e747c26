"""The shared screen as state: differing, merging, the table between presenter and viewers."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectsphere import (
	MAX_RECTANGLE,
	PICTURE_HEAD,
	STILL_AFTER,
	TILE,
	Codec,
	Commit,
	Geometry,
	PeerFault,
	Picture,
	Rectangle,
	ScreenPresenter,
	StillTiles,
	TileCanvas,
	TileCursor,
	TileDiffer,
	TileTable,
	decode_picture,
	encode_jpeg,
	encode_lossless,
	merge_rectangles,
)

WIDTH, HEIGHT = 5 * TILE + 10, 4 * TILE + 33


def noise(seed: int, width: int = WIDTH, height: int = HEIGHT, depth: int = 3) -> Picture:
	return np.random.default_rng(seed).integers(0, 256, (height, width, depth), np.uint8)


# -- differing and merging ----------------------------------------------------------------------


@pytest.mark.parametrize("depth", [3, 4])
@pytest.mark.parametrize("size", [(64, 64), (1, 1), (63, 65), (WIDTH, HEIGHT), (1920, 1080)])
def test_one_changed_pixel_marks_its_tile_alone(size: tuple[int, int], depth: int) -> None:
	width, height = size
	differ, picture = TileDiffer(), noise(1, width, height, depth)
	assert differ.changed(picture).all()
	assert not differ.changed(picture).any()
	for x, y in [(0, 0), (width - 1, height - 1), (width // 2, height // 3)]:
		picture = picture.copy()
		picture[y, x, depth - 1] ^= 1
		assert np.argwhere(differ.changed(picture)).tolist() == [[y // TILE, x // TILE]]


def test_differ_starts_again_at_another_size_and_keeps_its_own_copy() -> None:
	differ, picture = TileDiffer(), noise(1)
	differ.changed(picture)
	picture[:] = 0
	assert differ.changed(picture).all()
	assert differ.changed(noise(2, 100, 100)).all()
	assert differ.changed(noise(1)).shape == (5, 6)


def test_differ_takes_a_part_of_a_larger_array() -> None:
	differ, picture = TileDiffer(), noise(1)
	differ.changed(picture[10:200, 20:300])
	assert not differ.changed(picture[10:200, 20:300]).any()


@given(cells=st.lists(st.lists(st.booleans(), min_size=6, max_size=6), min_size=5, max_size=5))
def test_merged_rectangles_cover_the_mask_exactly(cells: list[list[bool]]) -> None:
	mask = np.array(cells)
	covered = np.zeros((HEIGHT, WIDTH), int)
	for x, y, width, height in merge_rectangles(mask, WIDTH, HEIGHT):
		assert 0 < width <= MAX_RECTANGLE
		assert 0 < height <= MAX_RECTANGLE
		covered[y : y + height, x : x + width] += 1
	expected = np.kron(mask, np.ones((TILE, TILE), int))[:HEIGHT, :WIDTH]
	assert (covered == expected).all()


def test_full_picture_merges_into_few_rectangles() -> None:
	mask = np.ones((17, 30), bool)
	assert len(merge_rectangles(mask, 1920, 1080)) == 8 * 5


# -- the table ------------------------------------------------------------------------------------


class Presenter:
	"""Draws, and says what it drew as rectangles whose bytes are the pixels themselves."""

	def __init__(self, geometry: Geometry) -> None:
		self.geometry = geometry
		self.picture = np.zeros((geometry.height, geometry.width, 3), np.uint8)
		self.version = 0
		self.table = TileTable()
		self.table.set_geometry(geometry)
		self.differ = TileDiffer()

	def say(self, mask: np.ndarray, codec: Codec) -> None:
		for x, y, width, height in merge_rectangles(mask, self.geometry.width, self.geometry.height):
			self.version += 1
			data = self.picture[y : y + height, x : x + width].tobytes()
			self.table.put(Rectangle(self.geometry.epoch, self.version, x, y, width, height, codec, data))
		self.table.commit(Commit(self.geometry.epoch, self.version))

	def draw(self, chance: random.Random) -> None:
		left, top = chance.randrange(WIDTH - 9), chance.randrange(HEIGHT - 9)
		right, bottom = left + chance.randrange(1, 150), top + chance.randrange(1, 150)
		self.picture[top:bottom, left:right] = chance.randrange(256)
		self.say(self.differ.changed(self.picture), Codec.JPEG)


class Viewer:
	"""Takes messages from a table and paints."""

	def __init__(self) -> None:
		self.cursor = TileCursor()
		self.canvas = TileCanvas()
		self.messages = 0

	def take(self, table: TileTable, most: int = 10**9) -> None:
		while most > 0 and (message := table.since(self.cursor)) is not None:
			most -= 1
			self.messages += 1
			self.deliver(message)

	def deliver(self, message: Geometry | Rectangle | Commit) -> None:
		if isinstance(message, Geometry):
			self.canvas.set_geometry(message)
		elif isinstance(message, Commit):
			self.canvas.commit(message)
		else:
			shape = (message.height, message.width, 3)
			self.canvas.place(message, np.frombuffer(message.data, np.uint8).reshape(shape))


class Relay(Viewer):
	"""The server: takes from the presenter's table into its own."""

	def __init__(self) -> None:
		super().__init__()
		self.table = TileTable()

	def deliver(self, message: Geometry | Rectangle | Commit) -> None:
		if isinstance(message, Geometry):
			self.table.set_geometry(message)
		elif isinstance(message, Commit):
			self.table.commit(message)
		else:
			self.table.put(message)


GEOMETRY = Geometry(1, WIDTH, HEIGHT)


def rectangle(version: int, x: int = 0, y: int = 0, w: int = TILE, h: int = TILE, **other: int) -> Rectangle:
	codec, epoch = other.get("codec", Codec.JPEG), other.get("epoch", 1)
	return Rectangle(epoch, version, x, y, w, h, codec, bytes(w * h * 3))


def test_late_viewer_is_given_the_newest_state_and_nothing_else() -> None:
	presenter, viewer = Presenter(GEOMETRY), Viewer()
	for _ in range(50):
		presenter.say(np.ones((5, 6), bool), Codec.JPEG)
	viewer.take(presenter.table)
	assert viewer.messages == 1 + 4 + 1
	assert (viewer.canvas.picture == presenter.picture).all()


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_every_viewer_ends_with_the_presenters_picture(seed: int) -> None:
	chance = random.Random(seed)
	presenter, relay, viewers = Presenter(GEOMETRY), Relay(), [Viewer() for _ in range(3)]
	for _ in range(30):
		presenter.draw(chance)
		if chance.random() < 0.3:
			presenter.say(np.array([[chance.random() < 0.3 for _ in range(6)] for _ in range(5)]), Codec.WEBP)
		relay.take(presenter.table, chance.randrange(20))
		for speed, viewer in enumerate(viewers, 2):
			viewer.take(relay.table, chance.randrange(4**speed // 3))
	relay.take(presenter.table)
	for viewer in viewers:
		viewer.take(relay.table)
		assert (viewer.canvas.picture == presenter.picture).all()
	assert not viewers[0].canvas.exact
	presenter.say(np.ones((5, 6), bool), Codec.WEBP)
	relay.take(presenter.table)
	viewers[0].take(relay.table)
	assert viewers[0].canvas.exact
	assert relay.table._size <= 2 * 30 * MAX_RECTANGLE**2 * 3


def test_slow_viewer_never_sees_half_a_change() -> None:
	"""All tiles get the same colour at each commit: a viewer may skip colours, never mix them."""
	presenter, viewer = Presenter(GEOMETRY), Viewer()
	seen = set()
	for colour in range(1, 200):
		presenter.picture[:] = colour
		presenter.say(np.ones((5, 6), bool), Codec.JPEG)
		viewer.take(presenter.table, 1 if colour > 1 else 6)
		assert np.unique(viewer.canvas.picture).size == 1
		seen.add(int(viewer.canvas.picture[0, 0, 0]))
	assert len(seen) > 30
	assert max(seen) > 180


def test_rectangles_count_from_the_commit_on() -> None:
	table, cursor = TileTable(), TileCursor()
	table.set_geometry(GEOMETRY)
	table.put(rectangle(1))
	assert table.since(cursor) == GEOMETRY
	assert table.since(cursor) is None
	table.commit(Commit(1, 1))
	assert table.since(cursor) == rectangle(1)
	assert table.since(cursor) == Commit(1, 1)
	assert table.since(cursor) is None


def test_a_late_viewer_is_given_the_newest_of_each_place_whether_lossless_or_not() -> None:
	table, cursor = TileTable(), TileCursor()
	table.set_geometry(GEOMETRY)
	exact = [rectangle(10 + i, x=i * TILE, codec=Codec.WEBP) for i in range(3)]
	for message in [*exact, rectangle(1), rectangle(2, x=TILE), rectangle(3, x=2 * TILE)]:
		table.put(message)
	table.commit(Commit(1, 12))
	said = [table.since(cursor) for _ in range(6)]
	assert [m.version for m in said if isinstance(m, Rectangle)] == [10, 11, 12]
	table.put(rectangle(20, x=TILE))
	table.commit(Commit(1, 20))
	said = [table.since(cursor) for _ in range(6)]
	assert [m.version for m in said if isinstance(m, Rectangle)] == [20]
	assert said[-1] is None


def test_lossless_copy_that_arrives_after_a_newer_change_is_not_taken() -> None:
	table, cursor = TileTable(), TileCursor()
	table.set_geometry(GEOMETRY)
	table.put(rectangle(12))
	table.put(rectangle(10, codec=Codec.WEBP))
	table.commit(Commit(1, 12))
	said = [table.since(cursor) for _ in range(4)]
	assert [m.version for m in said if isinstance(m, Rectangle)] == [12]


def test_new_geometry_voids_what_was_before() -> None:
	table, cursor, canvas = TileTable(), TileCursor(), TileCanvas()
	table.set_geometry(GEOMETRY)
	table.put(rectangle(1))
	table.commit(Commit(1, 1))
	table.since(cursor)
	table.since(cursor)
	after = Geometry(2, 2 * TILE, TILE)
	table.set_geometry(after)
	table.put(rectangle(2, epoch=1))
	table.commit(Commit(1, 2))
	assert table.since(cursor) == after
	assert table.since(cursor) is None
	canvas.set_geometry(after)
	canvas.place(rectangle(5, epoch=1), noise(1, TILE, TILE))
	assert not canvas.commit(Commit(2, 5))


def test_canvas_never_covers_newer_with_older() -> None:
	canvas = TileCanvas()
	canvas.set_geometry(GEOMETRY)
	new, old = noise(1, TILE, TILE), noise(2, 2 * TILE, TILE)
	canvas.place(rectangle(9), new)
	canvas.place(rectangle(5, w=2 * TILE, codec=Codec.WEBP), old)
	assert not canvas.picture.any()
	assert canvas.commit(Commit(1, 9))
	assert (canvas.picture[:TILE, :TILE] == new).all()
	assert (canvas.picture[:TILE, TILE : 2 * TILE] == old[:, TILE:]).all()
	assert not canvas.exact


@pytest.mark.parametrize(
	"bad",
	[
		rectangle(1, x=1),
		rectangle(1, y=32),
		rectangle(1, w=63),
		rectangle(1, x=5 * TILE),
		rectangle(1, y=5 * TILE),
		rectangle(1, w=5 * TILE),
		rectangle(1, w=0),
		rectangle(1, epoch=2),
		rectangle(1)._replace(data=bytes(PICTURE_HEAD + 4 * TILE**2 + 1)),
	],
)
def test_rectangle_off_the_grid_is_the_peers_fault(bad: Rectangle) -> None:
	table = TileTable()
	table.set_geometry(GEOMETRY)
	with pytest.raises(PeerFault):
		table.put(bad)


def test_a_whole_screen_of_the_largest_bytes_is_bounded() -> None:
	"""Padding in pictures costs the host no more than the pixels themselves would, and then some."""
	table = TileTable()
	table.set_geometry(GEOMETRY)
	for row in range(4):
		for column in range(5):
			padded = rectangle(1, column * TILE, row * TILE)._replace(data=bytes(PICTURE_HEAD + 4 * TILE**2))
			table.put(padded)
	table.commit(Commit(1, 1))
	assert table._size <= 20 * (PICTURE_HEAD + 4 * TILE**2)


@pytest.mark.parametrize("size", [1, 7, TILE, MAX_RECTANGLE])
def test_noise_in_every_codec_is_within_the_bound(size: int) -> None:
	noise = np.random.default_rng(1).integers(0, 256, (size, size, 3)).astype(np.uint8)
	for data in (encode_jpeg(noise, 95), encode_lossless(noise)):
		assert len(data) <= PICTURE_HEAD + 4 * size * size


@pytest.mark.parametrize("kind", ["plain", "line", "noise"])
@pytest.mark.parametrize("size", [(TILE, TILE), (WIDTH, HEIGHT)])
def test_what_is_plain_is_sent_once_and_exactly(kind: str, size: tuple[int, int]) -> None:
	"""A lossy copy of it would be no smaller, and the exact one be sent on top of it."""
	width, height = size
	picture = noise(3, width, height) if kind == "noise" else np.full((height, width, 3), 200, np.uint8)
	if kind == "line":
		picture[10:12] = 30, 60, 90
	presenter = ScreenPresenter("pattern", None)  # type: ignore[arg-type]
	mask = np.ones((-(-height // TILE), -(-width // TILE)), bool)
	presenter._geometry = Geometry(1, width, height)
	presenter._still = StillTiles(*mask.shape)
	presenter._still.changed(mask, 0.0)
	exact = []
	for one in presenter._lossy(picture, mask):
		seen = picture[one.y : one.y + one.height, one.x : one.x + one.width]
		lossy, lossless = encode_jpeg(seen, presenter.BEST_QUALITY), encode_lossless(seen)
		assert one.data == min(lossless, lossy, key=len)
		exact.append(one.codec == Codec.WEBP)
		assert (decode_picture(one.data) == seen).all() >= exact[-1]
	assert any(exact) == (kind != "noise") and all(exact) >= (kind == "plain")
	assert (presenter._still.next_due() is None) == all(exact)


def test_presenter_that_never_commits_is_stopped() -> None:
	table = TileTable()
	table.set_geometry(GEOMETRY)
	for version in range(60):
		table.put(rectangle(version))
	with pytest.raises(PeerFault, match="without a commit"):
		table.put(rectangle(60))


def test_epochs_only_rise() -> None:
	table = TileTable()
	with pytest.raises(PeerFault):
		table.put(rectangle(1))
	table.set_geometry(GEOMETRY)
	with pytest.raises(PeerFault):
		table.set_geometry(GEOMETRY)


def test_rectangles_over_each_other_cost_a_viewer_a_few_screens() -> None:
	"""A presenter may leave thousands of rectangles alive, each of which owns one tile only."""
	canvas = TileCanvas()
	canvas.set_geometry(Geometry(1, 16 * TILE, 16 * TILE))
	whole = np.ones((MAX_RECTANGLE, MAX_RECTANGLE, 3), np.uint8)
	for version in range(13 * 13):
		x, y = version % 13 * TILE, version // 13 * TILE
		canvas.place(rectangle(version, x, y, MAX_RECTANGLE, MAX_RECTANGLE), whole * (version % 250))
		held = sum(pixels.nbytes for _, pixels in canvas._pending)
		assert held <= TileCanvas.MOST_SCREENS * canvas.picture.nbytes
	assert canvas.commit(Commit(1, 1)) and not canvas.commit(Commit(1, 2))
	assert (canvas.picture[:TILE, :TILE] == 0).all() and (canvas.picture[-1, -1] == 168).all()


def test_picture_of_another_size_is_not_placed() -> None:
	canvas = TileCanvas()
	canvas.set_geometry(GEOMETRY)
	with pytest.raises(PeerFault):
		canvas.place(rectangle(1), noise(1, TILE, TILE - 1))


# -- still places -----------------------------------------------------------------------------------


def test_still_tile_owes_its_copy_once() -> None:
	still = StillTiles(2, 3)
	assert still.next_due() is None
	mask = np.zeros((2, 3), bool)
	mask[1, 2] = True
	still.changed(mask, 1.0)
	still.changed(mask, 1.2)
	assert not still.due(1.2 + STILL_AFTER - 0.01).any()
	assert still.next_due() == pytest.approx(1.2 + STILL_AFTER)
	assert (still.due(1.2 + STILL_AFTER + 0.001) == mask).all()
	still.sent(2 * TILE, TILE, 40, 30)
	assert still.next_due() is None
	assert not still.due(9.0).any()
