"""Every byte that crosses the network: golden bytes, hostile bytes, and that sealing holds."""

from __future__ import annotations

import contextlib
import itertools
import json
import re
import struct
import tracemalloc
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

import cv2
import numpy as np
import pytest
import wire_examples
from hypothesis import given
from hypothesis import strategies as st
from pictures import frame_datagrams

import connectsphere
from connectsphere import (
	ALL_PARTS,
	AUDIO_SIZES,
	CHUNK,
	CLIENT_MESSAGES,
	LAYERS,
	MAX_LINE,
	MAX_PARTS,
	MAX_SCREEN,
	PROTOCOL,
	QUESTION_SIZE,
	REPLAY_WINDOW,
	SERVER_MESSAGES,
	TAG,
	VIDEO_HEADER,
	Acknowledge,
	Ad,
	Attended,
	Codec,
	Commit,
	FileOffer,
	Flag,
	Geometry,
	Json,
	Kind,
	Line,
	LineSplitter,
	Member,
	MessageSplitter,
	Nack,
	Offer,
	Opener,
	PathValidation,
	PeerFault,
	Person,
	Pointer,
	Question,
	Record,
	Rectangle,
	ReplayWindow,
	RoomLine,
	Rules,
	ScreenMessage,
	Sealer,
	SealError,
	audio_datagram,
	coded_size,
	discovery_answer,
	discovery_question,
	encode_line,
	encode_message,
	encode_nack,
	encode_screen,
	fits_layer,
	frozen,
	jpeg_size,
	parse_answer,
	parse_json,
	parse_message,
	parse_nack,
	parse_question,
	parse_screen,
	parts_of,
	runs_of,
	webp_size,
)

KEY = bytes(range(16))
OTHER_KEY = bytes(16)
TABLES = [
	pytest.param(CLIENT_MESSAGES, wire_examples.CLIENT, id="client"),
	pytest.param(SERVER_MESSAGES, wire_examples.SERVER, id="server"),
]
AD = {
	"version": PROTOCOL,
	"meeting": "0f" * 16,
	"title": "Algebra",
	"host": "Ms Lee",
	"port": 9000,
	"people": 12,
	"pin": True,
	"locked": False,
	"fingerprint": "ab" * 32,
}


def painted(width: int, height: int) -> np.ndarray[Any, Any]:
	picture = np.random.default_rng(7).integers(0, 256, (height, width, 3), dtype=np.uint8)
	return cv2.GaussianBlur(picture, (3, 3), 0)


def encoded(ending: str, width: int = 64, height: int = 48, *options: int) -> bytes:
	return cv2.imencode(ending, painted(width, height), list(options))[1].tobytes()


WEBP = (cv2.IMWRITE_WEBP_QUALITY, 101)


# ------------------------------------------------------------------------------- golden bytes


class TestGoldenBytes:
	"""Pinned: a change here is a change of the protocol."""

	def test_control_line(self) -> None:
		line = encode_line({"type": "chat", "text": "Grüß 👋"})
		assert line == '{"type":"chat","text":"Grüß 👋"}\n'.encode()

	def test_length_prefix(self) -> None:
		assert encode_message(b"abc").hex() == "00000003616263"

	@pytest.mark.parametrize(
		("message", "golden"),
		[
			(Geometry(1, 1920, 1080), "01000000010780 0438"),
			(Commit(1, 258), "030000000100000102"),
			(Pointer(300, 200, True), "04012c00c801"),
			(Acknowledge(2, 3), "050000000200000003"),
		],
	)
	def test_screen(self, message: ScreenMessage, golden: str) -> None:
		assert encode_screen(message) == bytes.fromhex(golden)
		assert parse_screen(bytes.fromhex(golden)) == message

	def test_rectangle(self) -> None:
		webp = encoded(".webp", 64, 48, *WEBP)
		message = Rectangle(1, 2, 128, 64, 64, 48, Codec.WEBP, webp)
		golden = bytes.fromhex("02 00000001 00000002 0080 0040 0040 0030 03")
		assert encode_screen(message) == golden + webp
		assert parse_screen(golden + webp) == message

	def test_video_datagrams(self) -> None:
		sealed = bytes(CHUNK) + b"end"
		layout = bytes(frame_datagrams(7, 0x80000005, sealed))
		first, second = "00000007 80000005 0002 0000", "00000007 80000005 0002 0001"
		assert layout == bytes.fromhex(first) + bytes(CHUNK) + bytes.fromhex(second) + b"end"

	def test_small_message(self) -> None:
		sealer = Sealer(KEY)
		datagrams = [sealer.small(kind, 7, b"xy") for kind in (Kind.BIND, Kind.NACK)]
		heads = "00000007 00000001 0000 0001", "00000007 00000002 0000 0004"
		assert [datagram[:12] for datagram in datagrams] == [*map(bytes.fromhex, heads)]
		assert Opener(KEY).open(Kind.NACK, 7, 2, datagrams[1][12:]) == b"xy"

	def test_audio_datagram(self) -> None:
		assert audio_datagram(7, 9, b"xy").hex() == "00000007000000097879"
		assert {24, 536} == AUDIO_SIZES

	@pytest.mark.parametrize(
		("bitmap", "golden"),
		[
			(1, "80" + 31 * "00"),
			(1 << 8, "0080" + 30 * "00"),
			(1 << 255, 31 * "00" + "01"),
			(ALL_PARTS, "ff" * 32),
		],
	)
	def test_nack(self, bitmap: int, golden: str) -> None:
		assert encode_nack(Nack(7, 9, bitmap)).hex() == "0000000700000009" + golden
		assert parse_nack(bytes.fromhex("0000000700000009" + golden)) == Nack(7, 9, bitmap)

	@pytest.mark.parametrize(
		("kind", "number", "total", "payload", "golden"),
		[
			(Kind.VIDEO, 0x80000005, 1, b"picture", "2212347f0ea25676d05d2ca18ecc9b4ad88ffb98ff12e5"),
			(Kind.BIND, 1, 0, b"", "4fad450571e69bf62d9c0465f6093c2a"),
			(
				Kind.CHALLENGE,
				2,
				0,
				bytes(16),
				"9e67c9c75cd25a07c78182e93eff96d9104d3f8402d279fb4c1d9e2924578eb4",
			),
			(Kind.AUDIO, 3, 0, b"", "c4103bcc54e24534b5df7d4191178088"),
		],
	)
	def test_sealed(self, kind: Kind, number: int, total: int, payload: bytes, golden: str) -> None:
		assert Sealer(KEY).seal(kind, 7, number, payload, total).hex() == golden
		assert Opener(KEY).open(kind, 7, number, bytes.fromhex(golden), total) == payload

	def test_question(self) -> None:
		golden = b'{"connectsphere": "question", "version": 1, "nonce": "000102030405060708090a0b0c0d0e0f"}'
		assert discovery_question(KEY) == golden + b" " * (QUESTION_SIZE - len(golden))
		assert parse_question(golden.ljust(512)) == (KEY.hex(), 1)

	def test_answer(self) -> None:
		golden = (
			'{"connectsphere":"answer","nonce":"000102030405060708090a0b0c0d0e0f","version":1,"meeting":"'
			+ "0f" * 16
			+ '","title":"Algebra","host":"Ms Lee","port":9000,"people":12,"pin":true,"locked":false,'
			+ '"fingerprint":"'
			+ "ab" * 32
			+ '"}'
		).encode()
		assert discovery_answer(KEY.hex(), AD) == golden
		assert parse_answer(golden) == (KEY.hex(), AD)


# ------------------------------------------------------------------------------------- sealing


class TestSealing:
	def test_every_flipped_bit_is_refused(self) -> None:
		header = struct.pack(">IIHB", 7, 5, 1, Kind.VIDEO)
		sealed = Sealer(KEY).seal(Kind.VIDEO, 7, 5, b"a picture", 1)
		whole = header + sealed
		opener = Opener(KEY)
		for bit in range(8 * len(whole)):
			bad = bytearray(whole)
			bad[bit // 8] ^= 1 << bit % 8
			ident, number, total, kind = struct.unpack_from(">IIHB", bad)
			with pytest.raises(PeerFault, match="unsealed"):
				opener.open(kind, ident, number, bytes(bad[len(header) :]), total)
		assert opener.open(Kind.VIDEO, 7, 5, sealed, 1) == b"a picture"

	@pytest.mark.parametrize("change", [{"ident": 8}, {"number": 6}, {"total": 2}, {"kind": Kind.AUDIO}])
	def test_wrong_place_is_refused(self, change: Json) -> None:
		place = {"kind": Kind.VIDEO, "ident": 7, "number": 5, "total": 1}
		sealed = Sealer(KEY).seal(payload=b"x", **place)
		with pytest.raises(PeerFault, match="unsealed"):
			Opener(KEY).open(sealed=sealed, **(place | change))

	def test_another_key_is_refused(self) -> None:
		sealed = Sealer(KEY).seal(Kind.VIDEO, 7, 5, b"x", 1)
		with pytest.raises(PeerFault, match="unsealed"):
			Opener(OTHER_KEY).open(Kind.VIDEO, 7, 5, sealed, 1)

	@given(st.binary(max_size=40))
	def test_truncated_and_random_is_refused(self, sealed: bytes) -> None:
		with pytest.raises(PeerFault, match="unsealed"):
			Opener(KEY).open(Kind.VIDEO, 7, 5, sealed, 1)

	def test_512_replayed_are_refused(self) -> None:
		sealer, opener = Sealer(KEY), Opener(KEY)
		said = [(n, sealer.seal(Kind.AUDIO, 7, n, b"block")) for n in range(512)]
		for number, sealed in said:
			assert opener.open(Kind.AUDIO, 7, number, sealed) == b"block"
		for number, sealed in said:
			with pytest.raises(PeerFault, match="replayed"):
				opener.open(Kind.AUDIO, 7, number, sealed)

	def test_forged_ones_do_not_move_the_window(self) -> None:
		sealer, opener = Sealer(KEY), Opener(KEY)
		first = sealer.seal(Kind.AUDIO, 7, 1, b"one")
		with pytest.raises(PeerFault, match="unsealed"):
			opener.open(Kind.AUDIO, 7, 4_000_000_000, first)
		assert opener.open(Kind.AUDIO, 7, 1, first) == b"one"

	def test_window_is_exact_at_its_edge(self) -> None:
		window = ReplayWindow()
		assert window.accept(10_000)
		oldest = 10_000 - REPLAY_WINDOW + 1
		assert not window.accept(oldest - 1)
		assert window.accept(oldest)
		assert not window.accept(oldest)
		assert window.accept(10_001)
		assert not window.accept(oldest), "it has just left the window"
		assert window.accept(oldest + 1)

	@given(st.lists(st.integers(0, 3 * REPLAY_WINDOW), max_size=200))
	def test_window_is_what_it_says(self, numbers: list[int]) -> None:
		window, seen = ReplayWindow(), set[int]()
		for number in numbers:
			fresh = number not in seen and number > max(seen, default=-1) - REPLAY_WINDOW
			assert window.accept(number) == fresh
			seen.add(number)

	@pytest.mark.parametrize("number", [5, 4, 0, -1, 1 << 32])
	def test_a_number_never_repeats_falls_or_runs_over(self, number: int) -> None:
		sealer = Sealer(KEY)
		sealer.seal(Kind.AUDIO, 7, 5, b"x")
		with pytest.raises(SealError):
			sealer.seal(Kind.AUDIO, 7, number, b"y")

	def test_layers_count_for_themselves(self) -> None:
		sealer, opener = Sealer(KEY), Opener(KEY)
		for number in (3 << 30 | 5, 1 << 30 | 2, 5, 1 << 30 | 3):
			sealed = sealer.seal(Kind.VIDEO, 7, number, b"x", 1)
			assert opener.open(Kind.VIDEO, 7, number, sealed, 1) == b"x"
		for number in (3 << 30 | 5, 1 << 30 | 1, 4):
			with pytest.raises(SealError):
				sealer.seal(Kind.VIDEO, 7, number, b"x", 1)

	def test_kinds_and_ids_count_for_themselves(self) -> None:
		sealer = Sealer(KEY)
		said = {
			sealer.seal(kind, ident, 1, bytes(16)) for kind in (Kind.BIND, Kind.AUDIO) for ident in (1, 2)
		}
		assert len(said) == 4, "equal plain bytes never look alike"

	@given(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1), st.integers(0, MAX_PARTS), st.binary())
	def test_round_trip(self, ident: int, number: int, total: int, payload: bytes) -> None:
		sealed = Sealer(KEY).seal(Kind.VIDEO, ident, number, payload, total)
		assert len(sealed) == len(payload) + TAG
		assert Opener(KEY).open(Kind.VIDEO, ident, number, sealed, total) == payload


# ---------------------------------------------------------------------------------- UDP addresses


class Client:
	"""The other end of a PathValidation."""

	def __init__(self) -> None:
		self.sealer, self.opener, self.number = Sealer(KEY), Opener(OTHER_KEY), 0

	def small(self, kind: Kind, payload: bytes = b"") -> tuple[int, bytes]:
		self.number += 1
		return self.number, self.sealer.seal(kind, 7, self.number, payload)

	def answer(self, challenge: bytes) -> tuple[int, bytes]:
		ident, number, total, kind = struct.unpack_from(">IIHH", challenge)
		assert (ident, total, kind) == (7, 0, Kind.CHALLENGE)
		return self.small(Kind.ANSWER, self.opener.open(kind, ident, number, challenge[12:]))


HERE, THERE = ("10.0.0.1", 1), ("10.0.0.2", 2)


@pytest.fixture
def binding() -> PathValidation:
	return PathValidation(7, KEY, OTHER_KEY)


class TestBinding:
	def test_an_answered_challenge_binds(self, binding: PathValidation) -> None:
		client = Client()
		challenge = binding.on_bind(*client.small(Kind.BIND), HERE, b"token")
		assert binding.address is None, "a bind alone proves nothing"
		binding.on_answer(*client.answer(challenge), HERE)
		assert binding.address == HERE

	def test_an_answer_from_elsewhere_does_not(self, binding: PathValidation) -> None:
		client = Client()
		challenge = binding.on_bind(*client.small(Kind.BIND), HERE, b"token")
		with pytest.raises(PeerFault, match="bad_answer"):
			binding.on_answer(*client.answer(challenge), THERE)
		assert binding.address is None

	def test_a_replayed_bind_from_elsewhere_does_not(self, binding: PathValidation) -> None:
		client = Client()
		bind = client.small(Kind.BIND)
		binding.on_bind(*bind, HERE, b"token")
		with pytest.raises(PeerFault, match="replayed"):
			binding.on_bind(*bind, THERE, b"other")

	def test_a_race_from_a_second_address_gains_nothing(self, binding: PathValidation) -> None:
		"""Someone in the path is first with the bind and with the answer; the next bind settles it."""
		client = Client()
		stolen = client.small(Kind.BIND)
		challenge = binding.on_bind(*stolen, THERE, b"token")
		with pytest.raises(PeerFault, match="replayed"):
			binding.on_bind(*stolen, HERE, b"other")
		with pytest.raises(PeerFault, match="bad_answer"):
			binding.on_answer(*client.answer(challenge), HERE)  # the challenge was passed on to the client
		answer = client.answer(binding.on_bind(*client.small(Kind.BIND), HERE, b"third"))
		with pytest.raises(PeerFault, match="bad_answer"):
			binding.on_answer(*answer, THERE)
		assert binding.address is None
		binding.on_answer(*client.answer(binding.on_bind(*client.small(Kind.BIND), HERE, b"last")), HERE)
		assert binding.address == HERE

	def test_only_a_higher_bind_moves_it(self, binding: PathValidation) -> None:
		client = Client()
		old, new = client.small(Kind.BIND), client.small(Kind.BIND)
		binding.on_answer(*client.answer(binding.on_bind(*new, HERE, b"t1")), HERE)
		with pytest.raises(PeerFault, match="old_bind"):
			binding.on_bind(*old, THERE, b"t2")
		binding.on_answer(*client.answer(binding.on_bind(*client.small(Kind.BIND), THERE, b"t3")), THERE)
		assert binding.address == THERE

	def test_an_answer_to_an_older_bind_does_not_move_it_back(self, binding: PathValidation) -> None:
		client = Client()
		old = binding.on_bind(*client.small(Kind.BIND), THERE, b"t1")
		new = binding.on_bind(*client.small(Kind.BIND), HERE, b"t2")
		binding.on_answer(*client.answer(new), HERE)
		with pytest.raises(PeerFault, match="bad_answer"):
			binding.on_answer(*client.answer(old), THERE)
		assert binding.address == HERE

	def test_few_challenges_are_remembered(self, binding: PathValidation) -> None:
		client = Client()
		first = binding.on_bind(*client.small(Kind.BIND), HERE, b"token")
		for port in range(PathValidation.MOST_PENDING):
			binding.on_bind(*client.small(Kind.BIND), ("10.0.0.3", port), b"other")
		with pytest.raises(PeerFault, match="bad_answer"):
			binding.on_answer(*client.answer(first), HERE)

	def test_binding_anew_pushes_nobody_out(self, binding: PathValidation) -> None:
		client = Client()
		first = binding.on_bind(*client.small(Kind.BIND), HERE, b"here")
		for _ in range(10):
			binding.on_bind(*client.small(Kind.BIND), THERE, b"there")
		binding.on_answer(*client.answer(first), HERE)
		assert binding.address == HERE

	def test_another_key_binds_nothing(self, binding: PathValidation) -> None:
		sealed = Sealer(OTHER_KEY).seal(Kind.BIND, 7, 1, b"")
		with pytest.raises(PeerFault, match="unsealed"):
			binding.on_bind(1, sealed, HERE, b"token")

	@given(st.integers(0, 2**32 - 1), st.binary(max_size=64), st.booleans())
	def test_hostile_bytes(self, number: int, data: bytes, bind: bool) -> None:
		one = PathValidation(7, KEY, OTHER_KEY)
		with pytest.raises(PeerFault):
			if bind:
				one.on_bind(number, data, HERE, b"token")
			else:
				one.on_answer(number, data, HERE)


# ---------------------------------------------------------------------------------------- control

LEAVES = (
	st.none()
	| st.booleans()
	| st.integers(-(2**70), 2**70)
	| st.floats()
	| st.text(max_size=80)
	| st.sampled_from([wire_examples.KEY, wire_examples.TOKEN, "all", "7", "host", "\ud800", "0" * 20, "١"])
)
VALUES = st.recursive(
	LEAVES,
	lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=11), inner, max_size=4),
	max_leaves=12,
)


def line_of(kind: str, fields: Mapping[str, Any]) -> bytes:
	return encode_line({"type": kind, **fields})[:-1]


@pytest.mark.parametrize(("table", "examples"), TABLES)
class TestMessages:
	def test_every_message_has_an_example(self, table: Any, examples: dict[str, Json]) -> None:
		assert set(table) == set(examples)
		for kind, fields in examples.items():
			assert {name.rstrip("?") for name in table[kind]} == set(fields), kind

	def test_round_trips(self, table: Any, examples: dict[str, Json]) -> None:
		for kind, fields in examples.items():
			line = line_of(kind, {**fields, "ref": 7})
			assert parse_message(line, table) == {"type": kind, **fields, "ref": 7}
			again, before = parse_message(line, table), json.loads(line)
			assert json.dumps(again, sort_keys=True) == json.dumps(before, sort_keys=True), "7 is not 7.0"

	def test_optional_members_may_be_absent_others_not(self, table: Any, examples: dict[str, Json]) -> None:
		for kind, fields in examples.items():
			for name in fields:
				less = line_of(kind, {key: value for key, value in fields.items() if key != name})
				if f"{name}?" in table[kind]:
					assert name not in parse_message(less, table)
				else:
					with pytest.raises(PeerFault, match=name):
						parse_message(less, table)

	def test_unknown_members_are_dropped(self, table: Any, examples: dict[str, Json]) -> None:
		for kind, fields in examples.items():
			assert "more" not in parse_message(line_of(kind, {**fields, "more": 1}), table)

	@pytest.mark.parametrize("wrong", [None, [], {}, "x" * 70_000, -(10**7), 1e300, [[None]], {"a": 1}])
	def test_wrong_types(self, table: Any, examples: dict[str, Json], wrong: Any) -> None:
		for kind, fields in examples.items():
			for name, right in fields.items():
				if (wrong in ([], {}) or name == "state") and type(right) is type(wrong):
					continue
				with pytest.raises(PeerFault):
					line = json.dumps({"type": kind, **fields, name: wrong}).encode()
					parse_message(line, table)

	@given(st.data())
	def test_hostile_members(self, table: Any, examples: dict[str, Json], data: st.DataObject) -> None:
		kind = data.draw(st.sampled_from(sorted(kind for kind, fields in examples.items() if fields)))
		name = data.draw(st.sampled_from(sorted(examples[kind])))
		line = json.dumps({"type": kind, **examples[kind], name: data.draw(VALUES)}).encode()
		with contextlib.suppress(PeerFault):
			message = parse_message(line, table)
			assert parse_message(encode_line(message)[:-1], table) == message

	@given(st.binary(max_size=300) | VALUES.map(lambda value: json.dumps(value).encode()))
	def test_hostile_bytes(self, table: Any, examples: dict[str, Json], data: bytes) -> None:
		with pytest.raises(PeerFault):
			parse_message(data, table)


class TestJson:
	@pytest.mark.parametrize(
		"data",
		[
			b"",
			b"{",
			b'{"a":1',
			b"[]",
			b"1",
			b"null",
			b'{"a":NaN}',
			b'{"a":Infinity}',
			b'{"a":-Infinity}',
			b'{"a":1e999}',
			b'{"a":"\\ud800"}',
			b'{"\\udfff":1}',
			b'{"a":"\xff"}',
			b"\xef\xbb\xbf{}",
			b"{'a':1}",
			b'{"a":1}{"b":2}',
			b'{"a":"\n"}',
			b'{"a":' * 2000 + b"1" + b"}" * 2000,
			b'{"a":' + b"[" * 20000 + b"]" * 20000 + b"}",
			b'{"a":' + b"[" * 8 + b"]" * 8 + b"}",
			b'{"a":' + b"9" * 5000 + b"}",
		],
	)
	def test_refused(self, data: bytes) -> None:
		with pytest.raises(PeerFault, match="bad_json"):
			parse_json(data)

	def test_eight_deep_is_fine(self) -> None:
		assert parse_json(b'{"a":' + b"[" * 7 + b"]" * 7 + b"}")

	def test_surrogate_pairs_are_fine(self) -> None:
		assert parse_json(b'{"a":"\\ud83d\\udc4b"}') == {"a": "👋"}

	@given(st.binary())
	def test_hostile_bytes(self, data: bytes) -> None:
		with contextlib.suppress(PeerFault):
			assert isinstance(parse_json(data), dict)

	@given(st.dictionaries(st.text(), st.integers() | st.text() | st.booleans() | st.none(), max_size=5))
	def test_round_trip(self, value: Json) -> None:
		assert parse_json(encode_line(value)[:-1]) == value

	def test_nan_is_never_sent(self) -> None:
		with pytest.raises(ValueError, match="JSON compliant"):
			encode_line({"type": "ping", "t": float("nan")})

	def test_long_line_is_never_sent(self) -> None:
		text = "x" * (MAX_LINE - len(encode_line({"text": ""})))
		assert len(encode_line({"text": text})) == MAX_LINE
		with pytest.raises(PeerFault, match="long_line"):
			encode_line({"text": text + "x"})


def cut(data: bytes, cuts: list[int]) -> list[bytes]:
	places = [0, *sorted(at % (len(data) + 1) for at in cuts), len(data)]
	return [data[a:b] for a, b in itertools.pairwise(places)]


CUTS = st.lists(st.integers(0, 10_000), max_size=12)


class TestSplitters:
	@given(st.lists(st.binary(max_size=40).filter(lambda line: b"\n" not in line)), CUTS)
	def test_lines_however_cut(self, lines: list[bytes], cuts: list[int]) -> None:
		splitter = LineSplitter()
		got = [
			line for piece in cut(b"".join(x + b"\n" for x in lines), cuts) for line in splitter.push(piece)
		]
		assert got == lines

	def test_the_longest_line(self) -> None:
		line = b"x" * (MAX_LINE - 1)
		assert LineSplitter().push(line + b"\n") == [line]
		splitter = LineSplitter()
		assert splitter.push(line) == []
		assert splitter.push(b"\nnext\n") == [line, b"next"]

	@pytest.mark.parametrize("end", [b"", b"\n"])
	def test_a_longer_line(self, end: bytes) -> None:
		with pytest.raises(PeerFault, match="long_line"):
			LineSplitter().push(b"x" * MAX_LINE + end)

	def test_an_endless_line_in_small_pieces(self) -> None:
		splitter = LineSplitter()
		with pytest.raises(PeerFault, match="long_line"):
			for _ in range(MAX_LINE):
				splitter.push(b"x" * 64)

	@pytest.mark.parametrize(
		("splitter", "head"), [(LineSplitter(), b""), (MessageSplitter(), (60_000).to_bytes(4, "big"))]
	)
	def test_what_waits_is_not_copied_with_each_piece(
		self, splitter: LineSplitter | MessageSplitter, head: bytes
	) -> None:
		"""A long line in small pieces would cost its size squared, before any PIN."""
		splitter.push(head)
		made = 0
		tracemalloc.start()
		try:
			for _ in range(3_000):
				tracemalloc.reset_peak()
				before = tracemalloc.get_traced_memory()[0]
				splitter.push(b"x" * 16)
				made += tracemalloc.get_traced_memory()[1] - before
		finally:
			tracemalloc.stop()
		assert made < 40 * 48_000, "72,000,000 where all is copied"

	@given(st.lists(st.binary(max_size=40)), CUTS)
	def test_messages_however_cut(self, messages: list[bytes], cuts: list[int]) -> None:
		splitter = MessageSplitter()
		pieces = cut(b"".join(map(encode_message, messages)), cuts)
		assert [message for piece in pieces for message in splitter.push(piece)] == messages

	def test_a_long_message_is_refused_at_its_length(self) -> None:
		assert MessageSplitter(limit=10).push(encode_message(b"x" * 10)) == [b"x" * 10]
		with pytest.raises(PeerFault, match="long_message"):
			MessageSplitter(limit=10).push(b"\0\0\0\x0b")
		with pytest.raises(PeerFault, match="long_message"):
			MessageSplitter().push(b"\xff\xff\xff\xff")

	@given(st.lists(st.binary(max_size=64), max_size=8))
	def test_hostile_bytes(self, pieces: list[bytes]) -> None:
		splitter = MessageSplitter(limit=64)
		with contextlib.suppress(PeerFault):
			for piece in pieces:
				assert all(len(message) <= 64 for message in splitter.push(piece))


# ----------------------------------------------------------------------------------------- screen

U32 = st.integers(0, 2**32 - 1)
SCREEN_MESSAGES = (
	st.builds(Geometry, U32, st.integers(1, MAX_SCREEN[0]), st.integers(1, MAX_SCREEN[1]))
	| st.builds(Commit, U32, U32)
	| st.builds(Acknowledge, U32, U32)
	| st.builds(Pointer, st.integers(0, 65535), st.integers(0, 65535), st.booleans())
)


class TestScreen:
	@given(SCREEN_MESSAGES)
	def test_round_trip(self, message: ScreenMessage) -> None:
		assert parse_screen(encode_screen(message)) == message

	@given(
		st.binary(max_size=80)
		| st.tuples(st.integers(1, 5), st.binary(max_size=60)).map(lambda t: bytes([t[0]]) + t[1])
	)
	def test_hostile_bytes(self, data: bytes) -> None:
		with contextlib.suppress(PeerFault):
			assert encode_screen(parse_screen(data))

	@pytest.mark.parametrize("size", [(0, 1), (1, 0), (7681, 1), (1, 4321)])
	def test_impossible_screens(self, size: tuple[int, int]) -> None:
		with pytest.raises(PeerFault, match="bad_screen"):
			parse_screen(encode_screen(Geometry(1, *size)))

	@pytest.mark.parametrize(("codec", "ending"), [(1, ".jpg"), (3, ".webp")])
	def test_rectangles(self, codec: int, ending: str) -> None:
		data = encoded(ending, 64, 48, *(WEBP if codec == 3 else ()))
		right = Rectangle(1, 2, 7680 - 64, 4320 - 48, 64, 48, codec, data)
		assert parse_screen(encode_screen(right)) == right
		wrong = [
			right._replace(x=7680 - 63),
			right._replace(y=4320 - 47),
			right._replace(width=48, height=64),
			right._replace(width=63),
			right._replace(codec=4 - codec),
			right._replace(codec=0),
			right._replace(codec=9),
			right._replace(data=data[:-1]),
			right._replace(data=b""),
			right._replace(width=0),
		]
		for rectangle in wrong:
			with pytest.raises(PeerFault):
				parse_screen(encode_screen(rectangle))

	def test_a_rectangle_is_at_most_256_wide(self) -> None:
		with pytest.raises(PeerFault, match="bad_screen"):
			parse_screen(
				encode_screen(Rectangle(1, 1, 0, 0, 257, 48, Codec.WEBP, encoded(".webp", 257, 48, *WEBP)))
			)


# --------------------------------------------------------------------------------------- pictures


def segment(marker: int, payload: bytes) -> bytes:
	return bytes([0xFF, marker]) + struct.pack(">H", len(payload) + 2) + payload


SOF = struct.pack(">BHHB", 8, 48, 64, 3) + bytes.fromhex("012200 021101 031101")
SOS = bytes.fromhex("03 0100 0211 0311 00 3f 00")


def jpeg(*segments: bytes, scan: bytes = b"\x12\x34\xff\x00\x56", end: bytes = b"\xff\xd9") -> bytes:
	return b"\xff\xd8" + b"".join(segments) + scan + end


LONG = b"\x11\xff\x00" * 5_000
GOOD_JPEG = jpeg(segment(0xC0, SOF), segment(0xDA, SOS))


class TestJpeg:
	@pytest.mark.parametrize("size", [*LAYERS, (120, 90), (64, 64), (17, 3), (1, 1)])
	@pytest.mark.parametrize("quality", [10, 72, 100])
	def test_what_is_sent_is_taken(self, size: tuple[int, int], quality: int) -> None:
		assert jpeg_size(encoded(".jpg", *size, cv2.IMWRITE_JPEG_QUALITY, quality)) == size

	@pytest.mark.parametrize("quality", [72, 95])
	def test_restart_markers(self, quality: int) -> None:
		data = encoded(".jpg", 320, 180, cv2.IMWRITE_JPEG_QUALITY, quality, cv2.IMWRITE_JPEG_RST_INTERVAL, 2)
		assert data.count(b"\xff\xd0") > 2
		assert jpeg_size(data) == (320, 180)

	@pytest.mark.parametrize("scan", [b"", b"\x00", LONG, b"\x00" * 9_000, LONG + b"\xff\xd3" + LONG])
	def test_scans(self, scan: bytes) -> None:
		assert jpeg_size(jpeg(segment(0xC0, SOF), segment(0xDA, SOS), scan=scan)) == (64, 48)

	@pytest.mark.parametrize(
		"data",
		[
			pytest.param(b"", id="nothing"),
			pytest.param(b"\xff\xd8", id="SOI alone"),
			pytest.param(GOOD_JPEG[:-2], id="no EOI"),
			pytest.param(GOOD_JPEG + b"\x00", id="more behind EOI"),
			pytest.param(GOOD_JPEG + GOOD_JPEG, id="two pictures"),
			pytest.param(jpeg(segment(0xDA, SOS)), id="no SOF"),
			pytest.param(jpeg(segment(0xC0, SOF)), id="no SOS"),
			pytest.param(jpeg(segment(0xC0, SOF), segment(0xC0, SOF), segment(0xDA, SOS)), id="a second SOF"),
			pytest.param(
				jpeg(segment(0xC0, SOF), segment(0xC2, SOF), segment(0xDA, SOS)), id="a second SOF2"
			),
			pytest.param(jpeg(segment(0xC0, SOF), b"\xff\xda\x00\x02", scan=b"", end=b""), id="an empty SOS"),
			pytest.param(jpeg(segment(0xC0, SOF), segment(0xDA, SOS[:-1])), id="a short SOS"),
			pytest.param(
				jpeg(segment(0xC0, SOF), segment(0xDA, b"\x01" + SOS[1:])), id="a scan of one component"
			),
			pytest.param(jpeg(segment(0xC0, b"\x0c" + SOF[1:]), segment(0xDA, SOS)), id="12 bits"),
			pytest.param(
				jpeg(segment(0xC0, SOF[:5] + b"\x04" + SOF[6:]), segment(0xDA, SOS)), id="4 components"
			),
			pytest.param(
				jpeg(segment(0xC0, SOF[:1] + bytes(2) + SOF[3:]), segment(0xDA, SOS)), id="height later"
			),
			pytest.param(
				jpeg(segment(0xC0, b"\x08\xff\xff\xff\xff" + SOF[5:]), segment(0xDA, SOS)), id="65535 x 65535"
			),
			pytest.param(jpeg(segment(0xC0, SOF), segment(0xDC, b"\xff\xff"), segment(0xDA, SOS)), id="DNL"),
			pytest.param(jpeg(b"\xff\xe0\xff\xff", segment(0xC0, SOF)), id="a segment beyond the end"),
			pytest.param(
				jpeg(b"\xff\xe0\x00\x01", segment(0xC0, SOF)), id="a segment shorter than its length"
			),
		],
	)
	def test_refused(self, data: bytes) -> None:
		with pytest.raises(PeerFault, match="bad_picture"):
			jpeg_size(data)

	@pytest.mark.parametrize("marker", [*range(0xC1, 0xC4), *range(0xC5, 0xD0)])
	def test_other_processes(self, marker: int) -> None:
		with pytest.raises(PeerFault, match="bad_picture"):
			jpeg_size(jpeg(segment(marker, SOF), segment(0xDA, SOS)))

	@pytest.mark.parametrize("filling", [b"\x12" * 20, LONG])
	@pytest.mark.parametrize("marker", [0xC0, 0xC4, 0xD8, 0xD9, 0xDA, 0xDC, 0x01, 0xFF])
	def test_markers_within_the_scan(self, marker: int, filling: bytes) -> None:
		scan = filling + bytes([0xFF, marker]) + b"\x00\x0c" + SOS + filling
		with pytest.raises(PeerFault, match="bad_picture"):
			jpeg_size(jpeg(segment(0xC0, SOF), segment(0xDA, SOS), scan=scan))

	@pytest.mark.parametrize("scan", [b"\x12\xff", LONG + b"\xff"])
	def test_an_escaped_end(self, scan: bytes) -> None:
		with pytest.raises(PeerFault, match="bad_picture"):
			jpeg_size(jpeg(segment(0xC0, SOF), segment(0xDA, SOS), scan=scan, end=b"\x00"))

	def test_progressive(self) -> None:
		with pytest.raises(PeerFault, match="bad_picture"):
			jpeg_size(encoded(".jpg", 64, 48, cv2.IMWRITE_JPEG_PROGRESSIVE, 1))

	def test_grey(self) -> None:
		with pytest.raises(PeerFault, match="bad_picture"):
			jpeg_size(cv2.imencode(".jpg", painted(64, 48)[:, :, 0])[1].tobytes())

	def test_thousands_of_scans(self) -> None:
		more = segment(0xDA, SOS) + b"\x00" * 8
		data = jpeg(segment(0xC0, SOF), segment(0xDA, SOS), scan=more * 4_000)
		with pytest.raises(PeerFault, match="bad_picture"):
			jpeg_size(data)

	@given(st.integers(0, len(GOOD_JPEG)))
	def test_truncated(self, size: int) -> None:
		if size < len(GOOD_JPEG):
			with pytest.raises(PeerFault, match="bad_picture"):
				jpeg_size(GOOD_JPEG[:size])

	@given(st.binary(max_size=100), st.integers(0, 80), st.integers(0, 40))
	def test_hostile_bytes(self, data: bytes, at: int, removed: int) -> None:
		for hostile in (data, b"\xff\xd8" + data, GOOD_JPEG[:at] + data + GOOD_JPEG[at + removed :]):
			with contextlib.suppress(PeerFault):
				width, height = jpeg_size(hostile)
				assert 0 < width <= LAYERS[-1][0] and 0 < height <= LAYERS[-1][1]

	@given(
		st.lists(st.sampled_from([b"\x01", b"\xff\x00", b"\xff\xd0", b"\xff\xda", b"\xff\xff"]), max_size=6)
	)
	def test_long_and_short_scans_are_judged_alike(self, pieces: list[bytes]) -> None:
		verdicts = []
		for filling in (b"", b"\x22" * 9_000):
			data = jpeg(segment(0xC0, SOF), segment(0xDA, SOS), scan=b"".join(pieces) + filling)
			try:
				verdicts.append(jpeg_size(data))
			except PeerFault:
				verdicts.append((0, 0))
		good = not {b"\xff\xda", b"\xff\xff"} & set(pieces)
		assert verdicts == ([(64, 48)] * 2 if good else [(0, 0)] * 2)


class TestWebp:
	GOOD = encoded(".webp", 64, 48, *WEBP)

	def test_what_is_sent_is_taken(self) -> None:
		for size in ((64, 48), (256, 256), (1, 1)):
			assert webp_size(encoded(".webp", *size, *WEBP)) == size

	@pytest.mark.parametrize(
		"data",
		[
			pytest.param(GOOD[:-1], id="truncated"),
			pytest.param(GOOD + b"\0", id="more behind"),
			pytest.param(encoded(".webp", 64, 48, cv2.IMWRITE_WEBP_QUALITY, 80), id="lossy"),
			pytest.param(
				GOOD[:4] + struct.pack("<I", len(GOOD)) + GOOD[8:] + b"ANIM\0\0\0\0", id="another chunk"
			),
			pytest.param(GOOD[:24] + bytes([GOOD[24] | 0x20]) + GOOD[25:], id="another version"),
			pytest.param(GOOD[:12] + b"VP8X" + GOOD[16:], id="extended"),
		],
	)
	def test_refused(self, data: bytes) -> None:
		with pytest.raises(PeerFault, match="bad_picture"):
			webp_size(data)

	@given(st.binary(max_size=60), st.integers(0, 40))
	def test_hostile_bytes(self, data: bytes, at: int) -> None:
		for hostile in (data, self.GOOD[:at] + data):
			with contextlib.suppress(PeerFault):
				webp_size(hostile)


class TestSmallWebp:
	GOOD = encoded(".webp", 160, 90, cv2.IMWRITE_WEBP_QUALITY, 72)

	@pytest.mark.parametrize("size", [(160, 90), (120, 90), (160, 1), (1, 1), (17, 3)])
	@pytest.mark.parametrize("quality", [1, 45, 72, 100])
	def test_what_is_sent_is_taken(self, size: tuple[int, int], quality: int) -> None:
		assert coded_size(encoded(".webp", *size, cv2.IMWRITE_WEBP_QUALITY, quality)) == size

	def test_a_jpeg_is_taken_as_ever(self) -> None:
		assert coded_size(encoded(".jpg", *LAYERS[3])) == LAYERS[3]

	@staticmethod
	def riff(*chunks: bytes) -> bytes:
		body = b"WEBP" + b"".join(chunks)
		return b"RIFF" + struct.pack("<I", len(body)) + body

	@classmethod
	def chunk(cls, kind: bytes, data: bytes) -> bytes:
		return kind + struct.pack("<I", len(data)) + data + bytes(len(data) % 2)

	@classmethod
	def other(cls, at: int, value: int) -> bytes:
		"""The good one with another octet at `at`."""
		return cls.GOOD[:at] + bytes([value]) + cls.GOOD[at + 1 :]

	def test_no_other_kind_and_no_other_chunk(self) -> None:
		vp8 = self.GOOD[12:]
		extended = self.chunk(b"VP8X", bytes([0x10, 0, 0, 0, 159, 0, 0, 89, 0, 0]))
		bad = {
			"extended": self.riff(extended, vp8),
			"with alpha": self.riff(extended, self.chunk(b"ALPH", b"\0" * 20), vp8),
			"animated": self.riff(extended, self.chunk(b"ANIM", bytes(6)), vp8),
			"with a place": self.riff(vp8, self.chunk(b"EXIF", b"Here")),
			"with a profile": self.riff(self.chunk(b"ICCP", b"Here"), vp8),
			"two": self.riff(vp8, vp8),
			"lossless": encoded(".webp", 160, 90, *WEBP),
			"too wide": encoded(".webp", 161, 90, cv2.IMWRITE_WEBP_QUALITY, 72),
			"too high": encoded(".webp", 160, 91, cv2.IMWRITE_WEBP_QUALITY, 72),
			"more behind": self.GOOD + b"\0",
			"no picture": self.riff(self.chunk(b"VP8 ", b"")),
			"a header alone": self.riff(self.chunk(b"VP8 ", self.GOOD[20:30])),
			"no key frame": self.other(20, self.GOOD[20] | 1),
			"not shown": self.other(20, self.GOOD[20] & ~16),
			"another version": self.other(20, self.GOOD[20] | 8),
			"a partition beyond the end": self.other(22, 0xFF),
			"another start": self.other(23, 0),
			"scaled": self.other(27, self.GOOD[27] | 0x40),
			"no width": self.other(26, 0),
			"no height": self.other(28, 0),
		}
		for why, data in bad.items():
			with pytest.raises(PeerFault, match="bad_picture"):
				print(why, coded_size(data))

	@given(st.integers(0, len(GOOD) - 1))
	def test_truncated(self, size: int) -> None:
		with pytest.raises(PeerFault, match="bad_picture"):
			coded_size(self.GOOD[:size])

	@given(st.binary(max_size=60), st.integers(0, 60), st.integers(0, 40))
	def test_hostile_bytes(self, data: bytes, at: int, removed: int) -> None:
		for hostile in (data, b"RIFF" + data, self.GOOD[:at] + data + self.GOOD[at + removed :]):
			with contextlib.suppress(PeerFault):
				width, height = coded_size(hostile)
				assert 0 < width <= 160 and 0 < height <= 90
				decoded = cv2.imdecode(np.frombuffer(hostile, np.uint8), cv2.IMREAD_COLOR)
				assert decoded is None or decoded.shape == (height, width, 3)


class TestLayers:
	def test_a_picture_fills_its_layer_in_one_direction(self) -> None:
		assert fits_layer((640, 360), 2) and fits_layer((480, 360), 2) and fits_layer((640, 200), 2)
		assert not fits_layer((639, 359), 2)
		assert not fits_layer((640, 361), 2)
		assert not fits_layer((640, 0), 2)

	@pytest.mark.parametrize(("size", "parts"), [(0, 0), (1, 1), (1100, 1), (1101, 2), (256 * 1100, 256)])
	def test_parts(self, size: int, parts: int) -> None:
		assert parts_of(size) == parts


# ----------------------------------------------------------------------------- nack and discovery


class TestNack:
	@given(U32, U32, st.integers(1, ALL_PARTS))
	def test_round_trip(self, ident: int, number: int, bitmap: int) -> None:
		data = encode_nack(Nack(ident, number, bitmap))
		assert len(data) == 40
		assert parse_nack(data) == Nack(ident, number, bitmap)

	@given(st.binary(max_size=80))
	def test_hostile_bytes(self, data: bytes) -> None:
		with contextlib.suppress(PeerFault):
			assert encode_nack(parse_nack(data)) == data

	@pytest.mark.parametrize("data", [b"", bytes(40), b"\xff" * 39, b"\xff" * 41])
	def test_refused(self, data: bytes) -> None:
		with pytest.raises(PeerFault, match="bad_nack"):
			parse_nack(data)


class TestDiscovery:
	@given(st.binary(min_size=16, max_size=16), st.integers(1, 1_000_000))
	def test_question_round_trip(self, nonce: bytes, version: int) -> None:
		question = discovery_question(nonce, version)
		assert len(question) == QUESTION_SIZE
		assert parse_question(question) == (nonce.hex(), version)

	def test_short_and_huge_questions_are_ignored(self) -> None:
		question = discovery_question(KEY)
		assert parse_question(question + b" " * 900)
		for bad in (question[:-1], question + b" " * 1_000, discovery_answer(KEY.hex(), AD).ljust(512)):
			with pytest.raises(PeerFault):
				parse_question(bad)

	@given(
		st.text(max_size=64).map(connectsphere.clean_name),
		st.text(max_size=64).map(connectsphere.clean_name),
		st.integers(450, 512),
	)
	def test_an_answer_never_outgrows_its_question(self, title: str, host: str, limit: int) -> None:
		data = discovery_answer(KEY.hex(), {**AD, "title": title, "host": host}, limit)
		assert len(data) <= limit
		nonce, fields = parse_answer(data)
		assert nonce == KEY.hex()
		assert fields["title"] == title[: len(fields["title"])] and fields["port"] == 9000

	def test_a_beacon_has_no_nonce(self) -> None:
		assert parse_answer(discovery_answer("", AD)) == (None, AD)

	def test_another_version_is_held_to_its_version_alone(self) -> None:
		odd = json.dumps({"connectsphere": "answer", "version": 2, "nonce": "n", "title": 5}).encode()
		assert parse_answer(odd) == ("n", {"version": 2})

	def test_an_answer_that_cannot_fit(self) -> None:
		with pytest.raises(ValueError, match="fit"):
			discovery_answer(KEY.hex(), AD, 100)

	@pytest.mark.parametrize("parse", [parse_question, parse_answer])
	@given(st.binary(max_size=1_600) | st.binary(min_size=512, max_size=600))
	def test_hostile_bytes(self, parse: Callable[[bytes], object], data: bytes) -> None:
		with pytest.raises(PeerFault):
			parse(data)

	@given(st.sampled_from(sorted([*AD, "nonce", "connectsphere"])), VALUES)
	def test_hostile_members(self, name: str, value: Any) -> None:
		answer = {"connectsphere": "answer", "nonce": KEY.hex(), **AD, name: value}
		question = {"connectsphere": "question", "nonce": KEY.hex(), "version": 1, name: value}
		with contextlib.suppress(PeerFault):
			parse_answer(json.dumps(answer).encode())
		with contextlib.suppress(PeerFault):
			parse_question(json.dumps(question).encode().ljust(512))


class TestRunsOf:
	"""What GRO has merged is taken apart only where small messages are in it."""

	part = VIDEO_HEADER.pack(1, 2, 3, 0) + bytes(1_100)
	small = Sealer(KEY).small(Kind.NACK, 1, bytes(40))

	def apart(self, data: bytes, segment: int) -> list[int]:
		return [len(run) for run in runs_of(memoryview(data), segment)]

	def test_parts_stay_together(self) -> None:
		assert self.apart(self.part * 3, 1_112) == [3 * 1_112]
		assert self.apart(self.part * 2 + self.part[:40], 1_112) == [2 * 1_112 + 40]

	def test_small_messages_stand_alone(self) -> None:
		assert self.apart(self.small * 3, len(self.small)) == [len(self.small)] * 3
		assert self.apart(self.part * 2 + self.small, 1_112) == [2 * 1_112, len(self.small)]
		assert self.apart(self.small, len(self.small)) == [len(self.small)]

	@given(st.binary(min_size=1, max_size=200), st.integers(1, 60))
	def test_nothing_is_lost(self, data: bytes, segment: int) -> None:
		assert b"".join(bytes(run) for run in runs_of(memoryview(data), segment)) == data


# ---------------------------------------------------------------------------------------- records


RECORDS: dict[type[Record], Json] = {
	Rules: wire_examples.SERVER["rules"],
	Question: wire_examples.SERVER["question"],
	Attended: wire_examples.SERVER["attendance"]["rows"][0],
	Person: wire_examples.HOST | {"paused": True},
	Line: wire_examples.CHAT,
	FileOffer: wire_examples.OFFER,
	Ad: AD | {"stands_for": "5f" * 32},
}


@pytest.mark.parametrize("record", RECORDS)
def test_a_record_is_its_message(record: type[Record]) -> None:
	"""What is declared of a person, a line, a file or a meeting goes there and back, all of it."""
	example = RECORDS[record]
	one = record.read(parse_json(encode_line(example)))
	assert one.message() == example and record.read(one.message()) == one
	assert {key.rstrip("?") for key in record.shape()} == set(example)


def test_what_is_kept_by_the_server_alone_is_in_no_message() -> None:
	"""Addresses, who reads a private line or has a file: marked where declared, then nowhere else."""
	for kept, told in ((Member, Person), (RoomLine, Line), (Offer, FileOffer)):
		more = {key.rstrip("?") for key in kept.shape()} - {key.rstrip("?") for key in told.shape()}
		assert more <= {"to_name"} and len(kept.shape(kept=True)) > len(kept.shape())


def test_a_field_of_a_person_is_one_line() -> None:
	"""It is checked, said, kept in what a client knows, and told to the window and to scripts."""

	@frozen
	class Away(Person):
		away: Flag = False

	assert "away" in Away.shape() and Away(1, "Ana", away=True).message()["away"]
	with pytest.raises(PeerFault):
		Away.shape()["away"](1)
	assert Away.read({**Away(1, "Ana").message(), "away": True}).away


# ------------------------------------------------------------------------------- transition tables


def rows(head: str) -> dict[str, list[list[str]]]:
	"""The table of docs/protocol.md under `head`: the words of each row's cells, by those of the first."""
	text = (Path(__file__).parent.parent / "docs" / "protocol.md").read_text("utf-8")
	table = text[text.index(head) :].splitlines()[2:]
	lines = itertools.takewhile(lambda line: line.startswith("|"), table)
	cells = [[re.findall(r"\w+", cell) for cell in line.split("|")[1:-1]] for line in lines]
	return {first[0]: others for first, *others in cells}


def test_the_stages_are_those_of_the_page() -> None:
	said = rows("| stage | may be said | leads to |")
	assert said.keys() == connectsphere.STAGES.keys()
	for stage, after in connectsphere.STAGES.items():
		kinds, leads = said[stage]
		assert kinds == (["all", "below"] if stage == "in" else [kind for kind in after if kind])
		assert {*leads, "over"} == {one for to in after.values() for one in to.split()}
	roles = rows("| role | may be said |")
	told = {role: [one.__name__ for one in kinds] for role, kinds in connectsphere.SCREEN_SAYS.items()}
	assert {role: cells[0] for role, cells in roles.items()} == told


@pytest.mark.parametrize("table", [connectsphere.LINK_STATES, {
	stage: " ".join(after.values()) for stage, after in connectsphere.STAGES.items()
}])  # fmt: skip
def test_every_stage_is_reached_and_ends(table: Mapping[str, str]) -> None:
	*others, last = table
	first = others[0]
	reached, before = {first}, set[str]()
	while reached != before:
		before, reached = reached, reached.union(*(table[stage].split() for stage in reached))
	assert reached == set(table) and set(table[last].split()) <= {last}
	assert all(last in table[stage].split() for stage in others)


@pytest.mark.parametrize("stage", connectsphere.STAGES)
@pytest.mark.parametrize("to", connectsphere.STAGES)
def test_a_session_goes_where_the_table_leads(stage: str, to: str) -> None:
	session = connectsphere.ControlSession(cast(Any, None), "10.0.0.1", stage)
	if to in " ".join(connectsphere.STAGES[stage].values()).split():
		session.become(to)
		assert session.stage == to
	else:
		with pytest.raises(AssertionError):
			session.become(to)
