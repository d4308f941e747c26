#!/usr/bin/env python3
# /// script
# requires-python = ">=3.11"
# dependencies = [
#   "numpy>=1.26",
#   "opencv-python>=4.9",
#   "pyaudio>=0.2.14",
#   "mss>=9",
#   "Pillow>=10.3",
#   "cryptography>=42",
#   "spake2==0.9",
# ]
# ///
"""ConnectSphere: a video meeting for a LAN with no internet, in one file.

A teacher hosts (``connectsphere --host``), everyone else starts ``connectsphere`` and is in.
The same program is server, client and window; the command line chooses the role.

Sections, in order; each uses only those above it that it names:

    [1]  BASICS        limits, ports, settings, the error tree, loggers
    [2]  WIRE          every byte that crosses the network, both ways
    [3]  MEDIA         jitter buffer, mixer, fragments, tiles, safe file names
    [4]  ROOM          the server's truth: who is here, who may do what, who must receive what
    [5]  CALL          one participant's picture of the meeting
    ---- waterline: above it nothing knows sockets, threads, clocks, devices or Tk ----
    [6]  TRUST         identity, known hosts, PIN proof, settings on disk
    [7]  LINKS         TLS links owned by one thread, UDP ports, closing
    [8]  DISCOVERY     asking and answering on every interface
    [9]  DEVICES       camera, microphone, speaker, screen, codecs and their stand-ins
    [10] SERVER        the server role and the mixer's process
    [11] CLIENT        the client role without a window
    [12] WIDGETS       palette, icons, tiles, small controls
    [13] WINDOW        the window: arranges widgets and reads snapshots
    [14] COMMAND LINE  options, logging, the role table, main
"""

from __future__ import annotations

import collections
import contextlib
import enum
import functools
import hashlib
import heapq
import json
import logging
import math
import os
import re
import selectors
import socket
import ssl
import struct
import sys
import threading
import time
import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, TypeAlias, cast

import numpy as np
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from numpy.typing import NDArray

# ======================================================================================
# [1] BASICS - limits, ports, settings, the error tree, loggers
# Uses: nothing
# ======================================================================================

VERSION: Final = "1.0.0"
PROTOCOL: Final = 1
APP_NAME: Final = "ConnectSphere"
DEFAULT_PORT: Final = 9000
DISCOVERY_PORT: Final = 9000

AUDIO_RATE: Final = 16_000
BLOCK: Final = 256
BLOCK_SECONDS: Final = BLOCK / AUDIO_RATE
DEFAULT_FPS: Final = 15
MAX_FPS: Final = 60

LAYERS: Final = ((160, 90), (320, 180), (640, 360), (1280, 720))
CHUNK: Final = 1_100
MAX_PARTS: Final = 256
MAX_FRAME: Final = CHUNK * MAX_PARTS
MAX_LINE: Final = 64 * 1024
MAX_SCREEN: Final = (7680, 4320)
MAX_NAME: Final = 32
MAX_TITLE: Final = 64
MAX_CHAT: Final = 4_000
HISTORY: Final = 200
MAX_PEOPLE: Final = 500

Samples: TypeAlias = NDArray[np.int16]
Picture: TypeAlias = NDArray[np.uint8]
Json: TypeAlias = dict[str, Any]

log = logging.getLogger("connectsphere")


class Ports(NamedTuple):
    """The five ports of a meeting, moved together by `--port BASE`."""

    control: int
    screen: int
    files: int
    video: int
    audio: int

    @classmethod
    def at(cls, base: int) -> Ports:
        """The planes' ports for `base`; ValueError when one would leave 1..65535."""
        if not 1 <= base <= 65_535 - 2_000:
            raise ValueError(f"the base port must be between 1 and 63535, not {base}")
        return cls(base, base + 1, base + 2, base + 1_000, base + 2_000)


class ConnectSphereError(Exception):
    """The root of every error that this program raises on purpose."""


class PeerFault(ConnectSphereError):
    """A peer broke the protocol: what it sent is dropped and counted under `kind`."""

    def __init__(self, kind: str, detail: str = "") -> None:
        super().__init__(f"{kind}: {detail}" if detail else kind)
        self.kind = kind


class Refused(ConnectSphereError):
    """What a user asked for cannot be had; `code` as in the headless interface, one sentence."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


class DeviceError(Refused):
    """A camera, microphone, speaker or screen that is missing, busy or was pulled out."""

    def __init__(self, reason: str) -> None:
        super().__init__("device", reason)


class UsageError(ConnectSphereError):
    """Options that make no sense together: one sentence on standard error, status 2."""


class SealError(ConnectSphereError):
    """A number would repeat or run out under its key: reconnect for a fresh one."""


class Counters:
    """Counts of what was dropped, by name; cheap, and safe from any thread."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._lock = threading.Lock()

    def add(self, name: str, amount: int = 1) -> None:
        """Add `amount` to the counter `name`."""
        with self._lock:
            self._counts[name] += amount

    def snapshot(self) -> dict[str, int]:
        """A copy of all counters."""
        with self._lock:
            return dict(self._counts)


class TokenBucket:
    """A rate limit: `burst` at once, refilled at `rate` a second. Time is an argument."""

    def __init__(self, burst: float, rate: float) -> None:
        self._burst = burst
        self._rate = rate
        self._level = burst
        self._at = -math.inf

    def take(self, now: float, amount: float = 1.0) -> bool:
        """Whether `amount` may pass at `now`; if so it is taken."""
        if self._at > -math.inf:
            self._level = min(self._burst, self._level + (now - self._at) * self._rate)
        self._at = now
        if self._level < amount:
            return False
        self._level -= amount
        return True


class RunningNote:
    """Logs a repeated fault once per kind and minute, so that a peer cannot flood the log."""

    def __init__(self, logger: logging.Logger, most: int = 256) -> None:
        self._logger = logger
        self._most = most
        self._seen: dict[str, float] = {}

    def note(self, kind: str, text: str, now: float) -> None:
        """Log `text` unless `kind` was logged within the last minute."""
        if now - self._seen.get(kind, -math.inf) < 60.0:
            return
        if len(self._seen) >= self._most:
            self._seen.clear()
        self._seen[kind] = now
        self._logger.warning("%s", text)


def clean_name(text: str, limit: int = MAX_NAME) -> str:
    """A name safe to show anywhere: NFKC, no control, format or bidi characters.

    At most 2 combining marks in a row, white space folded, 1 to `limit` characters;
    what is left empty becomes "Guest".
    """
    kept: list[str] = []
    marks = 0
    for char in unicodedata.normalize("NFKC", text):
        category = unicodedata.category(char)
        if category[0] == "C" or char in "\u2028\u2029":
            continue
        marks = marks + 1 if category in ("Mn", "Me") else 0
        if marks <= 2:
            kept.append(char)
    return " ".join("".join(kept).split())[:limit].strip() or "Guest"


def clean_text(text: str, limit: int = MAX_CHAT) -> str:
    """Chat text without control or bidi characters; line breaks and joiners stay."""
    return "".join(
        char
        for char in unicodedata.normalize("NFC", text)[:limit]
        if char in "\n\t\u200c\u200d" or unicodedata.category(char) not in ("Cc", "Cf", "Cs", "Co", "Cn")
    ).strip()


# ======================================================================================
# [2] WIRE - every byte that crosses the network, both ways
# Uses: BASICS
# ======================================================================================

# -- control: newline-delimited JSON -----------------------------------------------------

Check: TypeAlias = Callable[[Any], Any]
Shape: TypeAlias = Mapping[str, Check]


def _text(limit: int, pattern: str | None = None) -> Check:
    matches = re.compile(pattern).fullmatch if pattern else None

    def check(value: Any) -> str:
        if not isinstance(value, str) or len(value) > limit or (matches and not matches(value)):
            raise PeerFault("bad_field", f"expected a text of at most {limit}")
        return value

    return check


def _integer(low: int, high: int) -> Check:
    def check(value: Any) -> int:
        if type(value) is not int or not low <= value <= high:
            raise PeerFault("bad_field", f"expected an integer in {low}..{high}")
        return value

    return check


def _number(low: float, high: float) -> Check:
    def check(value: Any) -> float:
        if type(value) not in (int, float) or not low <= value <= high:
            raise PeerFault("bad_field", f"expected a number in {low}..{high}")
        return float(value)

    return check


def _flag(value: Any) -> bool:
    if type(value) is not bool:
        raise PeerFault("bad_field", "expected true or false")
    return value


def _hex(octets: int) -> Check:
    return _text(2 * octets, f"[0-9a-f]{{{2 * octets}}}")


def _either(*checks: Check) -> Check:
    def check(value: Any) -> Any:
        for one in checks:
            with contextlib.suppress(PeerFault):
                return one(value)
        raise PeerFault("bad_field", "no alternative fits")

    return check


def _exactly(*values: Any) -> Check:
    def check(value: Any) -> Any:
        if not isinstance(value, (str, int, type(None))) or isinstance(value, bool) or value not in values:
            raise PeerFault("bad_field", "not one of the known values")
        return value

    return check


def _listing(of: Check, most: int) -> Check:
    def check(value: Any) -> list[Any]:
        if not isinstance(value, list) or len(value) > most:
            raise PeerFault("bad_field", f"expected a list of at most {most}")
        return [of(item) for item in value]

    return check


def _mapping(key: Check, of: Check, most: int) -> Check:
    def check(value: Any) -> dict[Any, Any]:
        if not isinstance(value, dict) or len(value) > most:
            raise PeerFault("bad_field", f"expected an object of at most {most} members")
        return {key(name): of(item) for name, item in value.items()}

    return check


def _record(shape: Shape) -> Check:
    def check(value: Any) -> Json:
        if not isinstance(value, dict):
            raise PeerFault("bad_field", "expected an object")
        return _shaped(value, shape)

    return check


def _shaped(value: Json, shape: Shape) -> Json:
    """The members of `value` that `shape` names, each checked; a name with `?` may be absent."""
    kept: Json = {}
    for name, check in shape.items():
        key = name.rstrip("?")
        if key in value:
            kept[key] = check(value[key])
        elif not name.endswith("?"):
            raise PeerFault("bad_field", f"{key} is missing")
    return kept


_ID = _integer(0, 2**32 - 1)
_COUNT = _integer(0, 2**53)
_NAME = _text(256)
_PORT = _integer(1, 65_535)
_REASON = _text(500)
_KEY = _hex(16)
_TOKEN = _hex(32)
_FILE_ID = _text(32, "[0-9a-f]{1,32}")
_REF = _integer(0, 2**53)
_FPS = _integer(1, MAX_FPS)
_LAYER = _integer(0, len(LAYERS) - 1)
_TIME = _number(0, 2**40)

_USER: Shape = {
    "id": _ID,
    "name": _NAME,
    "role": _exactly("host", "member"),
    "mic": _flag,
    "camera": _flag,
    "hand": _TIME,
    "sharing": _flag,
}
_CHAT: Shape = {"n": _COUNT, "id": _ID, "from": _NAME, "text": _text(MAX_CHAT), "at": _TIME}
_OFFER: Shape = {
    "file": _FILE_ID,
    "name": _text(1024),
    "size": _COUNT,
    "sha256": _TOKEN,
    "id": _ID,
    "from": _NAME,
    "private": _flag,
}

CLIENT_MESSAGES: Mapping[str, Shape] = {
    "hello": {"v": _COUNT, "name": _NAME, "pin?": _flag, "resume?": _TOKEN, "host_key?": _TOKEN},
    "pin": {"message": _hex(33)},
    "pin_proof": {"mac": _TOKEN},
    "user_list": {},
    "chat": {"text": _text(MAX_CHAT)},
    "private_chat": {"to_name": _NAME, "text": _text(MAX_CHAT), "ref?": _REF},
    "reaction": {"emoji": _text(32)},
    "hand": {"up": _flag},
    "mic": {"on": _flag},
    "video_start": {},
    "video_stop": {},
    "watch": {
        "streams": _mapping(_text(10, "[0-9]{1,10}"), _record({"layer": _LAYER, "fps": _FPS}), MAX_PEOPLE)
    },
    "report": {"loss": _number(0, 1), "delay_ms": _number(-1e6, 1e6)},
    "ticket": {
        "plane": _exactly("screen", "files"),
        "direction": _exactly("presenter", "viewer", "upload", "download"),
        "file?": _FILE_ID,
        "ref": _REF,
    },
    "file_offer": {
        "name": _text(1024),
        "size": _COUNT,
        "sha256": _TOKEN,
        "to_name?": _NAME,
        "ref": _REF,
    },
    "decline": {"file": _FILE_ID},
    "cancel": {"file": _FILE_ID},
    "mute": {"who": _either(_ID, _exactly("all"))},
    "remove": {"who": _ID},
    "take_over": {},
    "allow_share": {"who": _ID},
    "admit": {"ask": _COUNT, "on": _flag},
    "end": {},
    "leave": {},
    "resumed": {},
    "ping": {"t": _number(0, 2**53)},
}

SERVER_MESSAGES: Mapping[str, Shape] = {
    "welcome": {
        "id": _ID,
        "name": _NAME,
        "role": _exactly("host", "member"),
        "meeting": _hex(16),
        "title": _NAME,
        "host": _NAME,
        "video_up": _KEY,
        "video_down": _KEY,
        "audio_up": _KEY,
        "audio_down": _KEY,
        "resume": _TOKEN,
        "users": _listing(_record(_USER), MAX_PEOPLE),
        "chat": _listing(_record(_CHAT), HISTORY),
        "private": _listing(_record({**_CHAT, "to_name": _NAME}), HISTORY),
        "files": _listing(_record(_OFFER), 1_000),
        "presenter": _ID,
        "largest_file": _COUNT,
        "pin?": _text(64),
    },
    "pin": {"message": _hex(33)},
    "pin_proof": {"mac": _TOKEN},
    "denied": {"code": _text(32, "[a-z_]+"), "reason": _REASON},
    "error": {"code": _text(32, "[a-z_]+"), "reason": _REASON, "ref?": _REF},
    "user_list": {"users": _listing(_record(_USER), MAX_PEOPLE)},
    "join": {"user": _record(_USER)},
    "leave": {"id": _ID, "name": _NAME, "reason": _REASON},
    "state": {"user": _record(_USER)},
    "chat": _CHAT,
    "private_chat": {**_CHAT, "to_name": _NAME},
    "reaction": {"n": _COUNT, "id": _ID, "from": _NAME, "emoji": _text(32)},
    "video_start": {"id": _ID, "name": _NAME},
    "video_stop": {"id": _ID, "name": _NAME},
    "encode": {"n": _COUNT, "layers": _mapping(_text(1, "[0-3]"), _FPS, len(LAYERS))},
    "muted": {"by": _NAME},
    "ticket": {
        "ref": _REF,
        "ticket": _hex(16),
        "file?": _FILE_ID,
    },
    "screen_start": {"id": _ID, "name": _NAME},
    "screen_stop": {"id": _ID, "name": _NAME},
    "share_allowed": {},
    "file_offer": _OFFER,
    "file_ready": {"ref": _REF, "file": _FILE_ID},
    "file_gone": {"file": _FILE_ID, "reason": _REASON},
    "file_saved": {"file": _FILE_ID, "people": _COUNT},
    "audio_keys": {"up": _KEY, "down": _KEY},
    "asks": {"ask": _COUNT, "name": _NAME, "address": _text(64)},
    "ended": {"reason": _REASON},
    "removed": {"reason": _REASON},
    "pong": {"t": _number(0, 2**53)},
}


def encode_line(message: Json) -> bytes:
    """`message` as one line of JSON; ValueError for NaN, PeerFault when over 64 KiB."""
    line = json.dumps(message, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    data = line.encode("utf-8", "replace") + b"\n"
    if len(data) > MAX_LINE:
        raise PeerFault("long_line", str(message.get("type")))
    return data


def _no_constant(name: str) -> float:
    raise PeerFault("bad_json", f"{name} is no JSON")


def parse_json(data: bytes) -> Json:
    """An object of strict JSON (no NaN, bounded depth, no lone surrogates); PeerFault otherwise."""
    try:
        value = json.loads(data.decode("utf-8"), parse_constant=_no_constant)
        if isinstance(value, dict):
            json.dumps(value, ensure_ascii=False).encode("utf-8")
            return value
    except (ValueError, RecursionError) as error:
        raise PeerFault("bad_json", type(error).__name__) from None
    raise PeerFault("bad_json", "not an object")


def parse_message(line: bytes, shapes: Mapping[str, Shape]) -> Json:
    """The message in `line`, its members checked against `shapes[type]`; PeerFault otherwise."""
    value = parse_json(line)
    kind = value.get("type")
    if not isinstance(kind, str) or kind not in shapes:
        raise PeerFault("unknown_message")
    return {"type": kind, **_shaped(value, shapes[kind])}


class LineSplitter:
    """Cuts a byte stream into lines of at most 64 KiB."""

    def __init__(self, limit: int = MAX_LINE) -> None:
        self._limit = limit
        self._rest = bytearray()

    def push(self, data: bytes) -> list[bytes]:
        """The lines that `data` completes, without their ends; PeerFault for an endless one."""
        *lines, rest = (self._rest + data).split(b"\n") if data else ([self._rest])
        self._rest = bytearray(rest)
        if len(rest) > self._limit or any(len(line) > self._limit for line in lines):
            raise PeerFault("long_line")
        return [bytes(line) for line in lines if line.strip()]


# -- screen and files: length-prefixed messages --------------------------------------------
#
#   0        4
#   +--------+------------------+
#   | length | length bytes ... |
#   +--------+------------------+

MAX_MESSAGE: Final = 1 << 20
_LENGTH: Final = struct.Struct(">I")


def encode_message(payload: bytes) -> bytes:
    """`payload` with its length in front."""
    return _LENGTH.pack(len(payload)) + payload


class MessageSplitter:
    """Cuts a byte stream into length-prefixed messages of at most `limit` bytes."""

    def __init__(self, limit: int = MAX_MESSAGE) -> None:
        self._limit = limit
        self._rest = bytearray()

    def push(self, data: bytes) -> list[bytes]:
        """The messages that `data` completes; PeerFault when one announces too much."""
        self._rest += data
        done: list[bytes] = []
        while len(self._rest) >= 4:
            (size,) = _LENGTH.unpack_from(self._rest)
            if size > self._limit:
                raise PeerFault("long_message", str(size))
            if len(self._rest) < 4 + size:
                break
            done.append(bytes(self._rest[4 : 4 + size]))
            del self._rest[: 4 + size]
        return done


class ScreenKind(enum.IntEnum):
    """The first byte of a screen message."""

    GEOMETRY = 1
    RECTANGLE = 2
    COMMIT = 3
    POINTER = 4
    ACKNOWLEDGE = 5


class Codec(enum.IntEnum):
    """How a rectangle's bytes are coded. JPEG is the lossy one."""

    JPEG = 1
    PNG = 2
    WEBP = 3


#   GEOMETRY     | 1 | epoch u32 | w u16 | h u16 |
#   RECTANGLE    | 2 | epoch u32 | version u32 | x u16 | y u16 | w u16 | h u16 | codec u8 | bytes ...
#   COMMIT       | 3 | epoch u32 | version u32 |
#   POINTER      | 4 | x u16 | y u16 | shown u8 |
#   ACKNOWLEDGE  | 5 | epoch u32 | version u32 |      (viewer to server: painted up to here)

_GEOMETRY: Final = struct.Struct(">BIHH")
_RECTANGLE: Final = struct.Struct(">BIIHHHHB")
_COMMIT: Final = struct.Struct(">BII")
_POINTER: Final = struct.Struct(">BHHB")


class Geometry(NamedTuple):
    """A new picture of `width` x `height`; everything of earlier epochs is void."""

    epoch: int
    width: int
    height: int


class Rectangle(NamedTuple):
    """One place of the shared screen as of `version`, coded."""

    epoch: int
    version: int
    x: int
    y: int
    width: int
    height: int
    codec: int
    data: bytes


class Commit(NamedTuple):
    """All rectangles up to `version` have been said: paint."""

    epoch: int
    version: int


class Pointer(NamedTuple):
    """Where the presenter's mouse pointer is."""

    x: int
    y: int
    shown: bool


class Acknowledge(NamedTuple):
    """A viewer has painted `version`."""

    epoch: int
    version: int


ScreenMessage: TypeAlias = Geometry | Rectangle | Commit | Pointer | Acknowledge


def encode_screen(message: ScreenMessage) -> bytes:
    """One screen message as its bytes, without the length."""
    match message:
        case Geometry():
            return _GEOMETRY.pack(ScreenKind.GEOMETRY, *message)
        case Rectangle():
            return _RECTANGLE.pack(ScreenKind.RECTANGLE, *message[:7]) + message.data
        case Commit():
            return _COMMIT.pack(ScreenKind.COMMIT, *message)
        case Pointer():
            return _POINTER.pack(ScreenKind.POINTER, *message)
        case Acknowledge():
            return _COMMIT.pack(ScreenKind.ACKNOWLEDGE, *message)


def parse_screen(data: bytes) -> ScreenMessage:
    """The screen message in `data`; PeerFault when its sizes lie. Rectangles are checked for
    their place and their picture's own header, so that it is safe to decode them."""
    kind = data[0] if data else 0
    try:
        if kind == ScreenKind.RECTANGLE:
            _, epoch, version, x, y, width, height, codec = _RECTANGLE.unpack_from(data)
            picture = data[_RECTANGLE.size :]
            return _checked_rectangle(Rectangle(epoch, version, x, y, width, height, codec, picture))
        if kind == ScreenKind.GEOMETRY:
            geometry = Geometry(*_GEOMETRY.unpack(data)[1:])
            if not (0 < geometry.width <= MAX_SCREEN[0] and 0 < geometry.height <= MAX_SCREEN[1]):
                raise PeerFault("bad_screen", "size")
            return geometry
        if kind == ScreenKind.COMMIT:
            return Commit(*_COMMIT.unpack(data)[1:])
        if kind == ScreenKind.ACKNOWLEDGE:
            return Acknowledge(*_COMMIT.unpack(data)[1:])
        if kind == ScreenKind.POINTER:
            _, x, y, shown = _POINTER.unpack(data)
            return Pointer(x, y, bool(shown))
    except struct.error:
        raise PeerFault("bad_screen", "length") from None
    raise PeerFault("bad_screen", "kind")


def _checked_rectangle(rectangle: Rectangle) -> Rectangle:
    x, y, width, height = rectangle[2:6]
    if not (0 < width <= 256 and 0 < height <= 256):
        raise PeerFault("bad_screen", "rectangle")
    if x + width > MAX_SCREEN[0] or y + height > MAX_SCREEN[1]:
        raise PeerFault("bad_screen", "place")
    reader = {Codec.JPEG: jpeg_size, Codec.PNG: png_size, Codec.WEBP: webp_size}.get(
        cast(Codec, rectangle.codec)
    )
    if reader is None or reader(rectangle.data) != (width, height):
        raise PeerFault("bad_picture", "size")
    return rectangle


# -- pictures: what may be given to a decoder ------------------------------------------------

_JPEG_SKIPPED: Final = frozenset([*range(0xE0, 0xF0), 0xFE, 0xDB, 0xC4, 0xDD])
_JPEG_MARKER: Final = re.compile(rb"\xff[^\x00\xd0-\xd7]")


def jpeg_size(data: bytes) -> tuple[int, int]:
    """(width, height) of a baseline JPEG: SOF0, 8 bit, 3 components, one scan; else PeerFault."""
    if data[:2] != b"\xff\xd8":
        raise PeerFault("bad_picture", "no JPEG")
    at, size = 2, (0, 0)
    while at + 4 <= len(data):
        marker, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
        if data[at] != 0xFF or length < 2 or at + 2 + length > len(data):
            break
        if marker == 0xC0 and size == (0, 0) and length == 17:
            bits, height, width, components = struct.unpack_from(">BHHB", data, at + 4)
            if bits != 8 or components != 3:
                break
            size = (width, height)
        elif marker == 0xDA:
            if size == (0, 0) or data[at + 4] != 3 or not _one_scan(data, at + 2 + length):
                break
            return size
        elif marker not in _JPEG_SKIPPED:
            break
        at += 2 + length
    raise PeerFault("bad_picture", "not a baseline JPEG")


def _one_scan(data: bytes, start: int) -> bool:
    """Whether from `start` on there is entropy-coded data and, at the very end, EOI."""
    if data[-2:] != b"\xff\xd9":
        return False
    if data.count(b"\xff", start) == data.count(b"\xff\x00", start) + 1:
        return True  # the usual case, without restart markers, at the speed of memchr
    end = _JPEG_MARKER.search(data, start)
    return end is not None and end.end() == len(data)


def png_size(data: bytes) -> tuple[int, int]:
    """(width, height) of an 8-bit RGB PNG that is not interlaced, from its first chunk."""
    if data[:16] != b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR" or len(data) < 33:
        raise PeerFault("bad_picture", "no PNG")
    width, height, bits, colour, *rest = struct.unpack_from(">IIBBBBB", data, 16)
    if bits != 8 or colour not in (0, 2, 3, 6) or rest != [0, 0, 0]:
        raise PeerFault("bad_picture", "PNG of a kind that is not used")
    return int(width), int(height)


def webp_size(data: bytes) -> tuple[int, int]:
    """(width, height) of a lossless WebP made of the one chunk VP8L; else PeerFault."""
    if len(data) < 25 or data[:4] != b"RIFF" or data[8:16] != b"WEBPVP8L" or data[20] != 0x2F:
        raise PeerFault("bad_picture", "no lossless WebP")
    if int.from_bytes(data[4:8], "little") + 8 != len(data):
        raise PeerFault("bad_picture", "WebP of another length")
    bits = int.from_bytes(data[21:25], "little")
    return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1


def fits_layer(size: tuple[int, int], layer: int) -> bool:
    """Whether a picture of `size` is one of `layer`: it fills the layer's box in one direction."""
    box = LAYERS[layer]
    return (size[0] == box[0] and 0 < size[1] <= box[1]) or (size[1] == box[1] and 0 < size[0] <= box[0])


# -- UDP: sealed frames, blocks and small messages -----------------------------------------------
#
#   video    0        4          8       10      12
#            +--------+----------+-------+-------+------------------------+
#            | id u32 | frame_id | total | index | chunk, <= 1,100 bytes  |
#            +--------+----------+-------+-------+------------------------+
#   small    | id u32 | number   |   0   | kind  | sealed, one datagram   |   (both UDP planes)
#            +--------+----------+-------+-------+------------------------+
#   audio    | id u32 | seq u32  | sealed block of 512 bytes, or of none: silence from here |
#            +--------+----------+----------------------------------------------------------+
#
#   nonce    | kind u8 | 0 0 0 | id u32 | number u32 |        additional data  | id | number | total |
#
# On the audio plane a datagram of 24 or 536 bytes is a block; small messages never have those sizes.

VIDEO_HEADER: Final = struct.Struct(">IIHH")
AUDIO_HEADER: Final = struct.Struct(">II")
_NONCE: Final = struct.Struct(">B3xII")
_ADDITIONAL: Final = struct.Struct(">IIH")
TAG: Final = 16
AUDIO_SIZES: Final = frozenset([AUDIO_HEADER.size + TAG, AUDIO_HEADER.size + TAG + 2 * BLOCK])
LAYER_SHIFT: Final = 30
COUNTER_MASK: Final = (1 << LAYER_SHIFT) - 1
REPLAY_WINDOW: Final = 512


class Kind(enum.IntEnum):
    """What a sealed datagram is; the first byte of its nonce."""

    VIDEO = 0
    BIND = 1
    CHALLENGE = 2
    ANSWER = 3
    NACK = 4
    AUDIO = 5


class Sealer:
    """AES-128-GCM under one key for one direction of one plane.

    `layered`: numbers carry a layer in their top two bits and count for each layer alone.
    """

    def __init__(self, key: bytes, *, layered: bool = False) -> None:
        self._encrypt = AESGCM(key).encrypt
        self._mask = COUNTER_MASK if layered else 0xFFFFFFFF
        self._last: dict[tuple[int, int, int], int] = {}

    def seal(self, kind: int, ident: int, number: int, payload: bytes, total: int = 0) -> bytes:
        """`payload` sealed; SealError unless `number` is higher than any before in its lane."""
        lane = (kind, ident, number & ~self._mask)
        if not self._last.get(lane, -1) < number & self._mask <= self._mask:
            raise SealError(f"number {number} would be used twice")
        self._last[lane] = number & self._mask
        return self._encrypt(
            _NONCE.pack(kind, ident, number), payload, _ADDITIONAL.pack(ident, number, total)
        )


class ReplayWindow:
    """Which of the last 512 numbers were seen; anything older counts as seen."""

    __slots__ = ("_bits", "_top")

    def __init__(self) -> None:
        self._top = -1
        self._bits = 0

    def accept(self, number: int) -> bool:
        """True the first time that `number` comes, while it is inside the window."""
        if number > self._top:
            shift = number - self._top
            self._bits = (self._bits << shift | 1) & _WINDOW_BITS if shift < REPLAY_WINDOW else 1
            self._top = number
            return True
        age = self._top - number
        if age >= REPLAY_WINDOW or self._bits >> age & 1:
            return False
        self._bits |= 1 << age
        return True


_WINDOW_BITS: Final = (1 << REPLAY_WINDOW) - 1


class Opener:
    """The other end of a Sealer: opens, then judges replay."""

    def __init__(self, key: bytes, *, layered: bool = False) -> None:
        self._decrypt = AESGCM(key).decrypt
        self._mask = COUNTER_MASK if layered else 0xFFFFFFFF
        self._windows: dict[tuple[int, int, int], ReplayWindow] = {}

    def open(self, kind: int, ident: int, number: int, sealed: bytes, total: int = 0) -> bytes:
        """The payload; PeerFault `unsealed` when forged or damaged, `replayed` when seen before."""
        try:
            payload = self._decrypt(
                _NONCE.pack(kind, ident, number), sealed, _ADDITIONAL.pack(ident, number, total)
            )
        except InvalidTag:
            raise PeerFault("unsealed") from None
        lane = (kind, ident, number & ~self._mask)
        window = self._windows.get(lane)
        if window is None:
            window = self._windows[lane] = ReplayWindow()
        if not window.accept(number & self._mask):
            raise PeerFault("replayed")
        return payload

    def forget(self, ident: int) -> None:
        """Drop the memory of `ident`, whose id is never given again."""
        for lane in [lane for lane in self._windows if lane[1] == ident]:
            del self._windows[lane]


def parts_of(size: int) -> int:
    """How many datagrams a sealed frame of `size` bytes takes."""
    return -(-size // CHUNK)


def small_message(kind: Kind, ident: int, number: int, sealed: bytes) -> bytes:
    """A bind, challenge, answer or nack as a datagram of either UDP plane."""
    return VIDEO_HEADER.pack(ident, number, 0, kind) + sealed


def audio_datagram(ident: int, seq: int, sealed: bytes) -> bytes:
    """A sealed audio block as a datagram."""
    return AUDIO_HEADER.pack(ident, seq) + sealed


#   nack payload   | id u32 | number u32 | bitmap 32 bytes, part 0 in the highest bit |

_NACK: Final = struct.Struct(">II32s")
ALL_PARTS: Final = (1 << MAX_PARTS) - 1


class Nack(NamedTuple):
    """A request for missing parts; bit i of `bitmap` asks for part i, ALL_PARTS for the frame."""

    id: int
    number: int
    bitmap: int


def encode_nack(nack: Nack) -> bytes:
    """The payload of a nack, 40 bytes."""
    mirrored = int(f"{nack.bitmap:0{MAX_PARTS}b}"[::-1], 2)
    return _NACK.pack(nack.id, nack.number, mirrored.to_bytes(32, "big"))


def parse_nack(data: bytes) -> Nack:
    """The nack in `data`; PeerFault when it is of another length or asks for nothing."""
    if len(data) != _NACK.size:
        raise PeerFault("bad_nack")
    ident, number, bitmap = _NACK.unpack(data)
    bits = int(f"{int.from_bytes(bitmap, 'big'):0{MAX_PARTS}b}"[::-1], 2)
    if not bits:
        raise PeerFault("bad_nack")
    return Nack(ident, number, bits)


# -- discovery: one JSON object a datagram ----------------------------------------------------------

QUESTION_SIZE: Final = 512
_AD: Shape = {
    "v": _COUNT,
    "meeting": _hex(16),
    "title": _NAME,
    "host": _NAME,
    "port": _PORT,
    "people": _integer(0, MAX_PEOPLE),
    "pin": _flag,
    "locked": _flag,
    "fingerprint": _TOKEN,
    "nonce?": _hex(16),
}


def discovery_question(nonce: bytes, version: int = PROTOCOL) -> bytes:
    """A question of 512 bytes, so that no answer is larger than what asked for it."""
    text = json.dumps({"connectsphere": "question", "v": version, "nonce": nonce.hex()})
    return text.encode().ljust(QUESTION_SIZE)


def parse_question(data: bytes) -> tuple[str, int]:
    """(nonce, version) of a question; PeerFault for anything else or shorter."""
    if len(data) != QUESTION_SIZE:
        raise PeerFault("bad_question")
    value = parse_json(data)
    if value.get("connectsphere") != "question":
        raise PeerFault("bad_question")
    checked = _shaped(value, {"v": _COUNT, "nonce": _hex(16)})
    return checked["nonce"], checked["v"]


def discovery_answer(nonce: str | None, fields: Json) -> bytes:
    """An answer to `nonce`, or a beacon; a long title is cut so that it is never over 512 bytes."""
    answer: Json = {"connectsphere": "answer", **fields}
    if nonce is not None:
        answer["nonce"] = nonce
    while True:
        data = json.dumps(answer, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
        if len(data) <= QUESTION_SIZE:
            return data
        longest = max(("title", "host"), key=lambda key: len(answer[key]))
        answer[longest] = answer[longest][:-1]


def parse_answer(data: bytes) -> tuple[str | None, Json]:
    """(nonce or None for a beacon, fields) of an answer; PeerFault for anything else.

    The answer of another protocol version is held to `v` alone.
    """
    if len(data) > QUESTION_SIZE:
        raise PeerFault("bad_answer")
    value = parse_json(data)
    if value.get("connectsphere") != "answer":
        raise PeerFault("bad_answer")
    version = _shaped(value, {"v": _COUNT})["v"]
    fields = _shaped(value, _AD if version == PROTOCOL else {"v": _COUNT, "nonce?": _hex(16)})
    return fields.pop("nonce", None), fields


# ======================================================================================
# [3] MEDIA - jitter buffer, mixer, fragments and reassembly, tiles, safe file names
# Uses: BASICS, WIRE
# ======================================================================================


# ======================================================================================
# [4] ROOM - who is in the meeting and who must receive what
# Uses: BASICS, WIRE
# ======================================================================================

LINGER: Final = 2.0
RESUME_SECONDS: Final = 600.0
TICKET_SECONDS: Final = 10.0
HOST_ONLY: Final = frozenset({"mute", "remove", "take_over", "allow_share", "admit", "end"})
RATES: Final[Mapping[str, tuple[float, float]]] = {
    "chat": (5, 1),
    "private_chat": (5, 1),
    "reaction": (3, 3),
    "file_offer": (20, 1),
    "ticket": (64, 16),
    "watch": (30, 10),
    "other": (30, 10),
}


class Tell(NamedTuple):
    """Effect: send `message` to the members `to`."""

    to: tuple[int, ...]
    message: Json


class Expel(NamedTuple):
    """Effect: end the session of `id` after `message`."""

    id: int
    message: Json


class Silence(NamedTuple):
    """Effect: the mixer must drop (`on`) or let through what `id` says."""

    id: int
    on: bool


class Reroute(NamedTuple):
    """Effect: who must receive pictures of `sender` has changed; see `Room.routes`."""

    sender: int


class ShareStopped(NamedTuple):
    """Effect: `id` must not present any longer."""

    id: int


class FileGone(NamedTuple):
    """Effect: the stored bytes of `file` are to be deleted."""

    file: str


class MeetingOver(NamedTuple):
    """Effect: the host ended the meeting for all."""

    reason: str


Effect: TypeAlias = Tell | Expel | Silence | Reroute | ShareStopped | FileGone | MeetingOver


@dataclass(slots=True)
class Limits:
    """What the host allows, in bytes."""

    file: int = 2 << 30
    person: int = 8 << 30
    meeting: int = 32 << 30
    free_disk: int = 1 << 30


@dataclass(slots=True)
class Member:
    """One person in the meeting, as the server knows it."""

    id: int
    name: str
    role: str
    address: str
    mic: bool = False
    camera: bool = False
    hand: float = 0.0
    sharing: bool = False
    may_share: bool = True
    token: str = ""  # SHA-256 of the resume token
    old_token: str = ""
    watching: dict[int, tuple[int, int]] = field(default_factory=dict)
    buckets: dict[str, TokenBucket] = field(default_factory=dict)

    def user(self) -> Json:
        """The member as a roster entry."""
        keys = ("id", "name", "role", "mic", "camera", "hand", "sharing")
        return {key: getattr(self, key) for key in keys}


@dataclass(slots=True)
class Offer:
    """A file on offer; `owner` is a name, so that it survives reconnecting."""

    file: str
    name: str
    size: int
    sha256: str
    owner: str
    owner_id: int
    to_name: str | None
    whole: bool = False
    saved: int = 0

    def message(self) -> Json:
        """The offer as WIRE says it."""
        return {
            "file": self.file,
            "name": self.name,
            "size": self.size,
            "sha256": self.sha256,
            "id": self.owner_id,
            "from": self.owner,
            "private": self.to_name is not None,
        }

    def concerns(self, name: str) -> bool:
        """Whether the person called `name` may have it."""
        return self.to_name is None or name in (self.owner, self.to_name)


@dataclass(slots=True)
class Claim:
    """What the holder of a resume token may have: its name, and its place without PIN until then."""

    name: str
    until: float


class Ticket(NamedTuple):
    """Leave to open one connection of another plane."""

    member: int
    plane: str
    direction: str
    file: str | None
    until: float


def digest(token: str) -> str:
    """The SHA-256 under which a token is kept."""
    return hashlib.sha256(token.encode()).hexdigest()


class Room:
    """Who is in the meeting, who may do what and who must receive what.

    Pure: `now` is monotonic seconds, `clock` unix seconds for what people read, `token(n)` gives
    n random bytes as hex. Every public step returns effects, in order.
    """

    def __init__(self, title: str, host: str, meeting: str, token: Callable[[int], str]) -> None:
        self.title = title
        self.host = host
        self.meeting = meeting
        self.limits = Limits()
        self.members: dict[int, Member] = {}
        self.presenter = 0
        self.files: dict[str, Offer] = {}
        self.claims: dict[str, Claim] = {}
        self.counter = 0
        self.chat_lines: collections.deque[Json] = collections.deque(maxlen=HISTORY)
        self.private_lines: collections.deque[Json] = collections.deque(maxlen=HISTORY)
        self.owned_names: dict[str, str] = {}
        self.banned: set[str] = set()
        self._token = token
        self._next_id = 1
        self._tickets: dict[str, Ticket] = {}
        self._encodes: dict[int, dict[int, int]] = {}
        self._lingering: dict[tuple[int, int], tuple[int, float]] = {}
        self._encode_number = 0
        self._handlers: dict[str, Callable[[Member, Json, float, float], list[Effect]]] = {
            "user_list": self._on_user_list,
            "chat": self._on_chat,
            "private_chat": self._on_private_chat,
            "reaction": self._on_reaction,
            "hand": self._on_hand,
            "mic": self._on_mic,
            "video_start": self._on_video_start,
            "video_stop": self._on_video_stop,
            "watch": self._on_watch,
            "ticket": self._on_ticket,
            "file_offer": self._on_file_offer,
            "cancel": self._on_cancel,
            "mute": self._on_mute,
            "remove": self._on_remove,
            "take_over": self._on_take_over,
            "allow_share": self._on_allow_share,
            "resumed": self._on_resumed,
            "end": self._on_end,
        }

    # -- coming and going

    def claim(self, token: str | None, now: float) -> tuple[str | None, bool]:
        """(name that the resume token owns, whether it spares the PIN)."""
        claim = self.claims.get(digest(token)) if token else None
        return (claim.name, now < claim.until) if claim else (None, False)

    def is_banned(self, name: str, address: str, token: str | None) -> bool:
        """Whether this was removed by the host: the same token, machine, or name on a shared one."""
        if token and digest(token) in self.banned:
            return True
        return address in self.banned or f"{address}/{skeleton(name)}" in self.banned

    def join(
        self, name: str, role: str, address: str, token: str | None, now: float
    ) -> tuple[Member, str, list[Effect]]:
        """Let someone in: (member, its new resume token, effects). Names are made unique."""
        owned, _ = self.claim(token, now)
        stale = next((one for one in self.members.values() if owned and one.name == owned), None)
        effects = self.leave(stale.id, "replaced", now) if stale else []
        name = owned or self._free_name(clean_name(name))
        member = Member(self._next_id, name, role, address)
        self._next_id += 1
        fresh = self._token(32)
        member.token = digest(fresh)
        if token and owned:
            member.old_token = digest(token)
        self.claims[member.token] = Claim(name, math.inf)
        self.owned_names[skeleton(name)] = name
        everyone = tuple(self.members)
        self.members[member.id] = member
        return member, fresh, [*effects, Tell(everyone, {"type": "join", "user": member.user()})]

    def _free_name(self, name: str) -> str:
        wanted, number = name, 2
        while skeleton(wanted) in self.owned_names:
            ending = f" ({number})"
            wanted = name[: MAX_NAME - len(ending)] + ending
            number += 1
        return wanted

    def leave(self, ident: int, reason: str, now: float) -> list[Effect]:
        """Take a member out. `reason`: left, lost, removed, replaced."""
        member = self.members.pop(ident, None)
        if member is None:
            return []
        self._settle_claim(member, reason, now)
        effects: list[Effect] = [Reroute(ident)]
        for sender in list(member.watching):
            effects += self._encode(sender, now, Reroute(sender))
        self._encodes.pop(ident, None)
        for other in self.members.values():
            other.watching.pop(ident, None)
        if self.presenter == ident:
            effects += self.share_stop(ident)
        gone = {"type": "leave", "id": ident, "name": member.name, "reason": reason}
        return [*effects, self._tell_all(gone)]

    def _settle_claim(self, member: Member, reason: str, now: float) -> None:
        """Leaving keeps the name but not the place; losing the link keeps both for a while."""
        for token in filter(None, (member.token, member.old_token)):
            claim = self.claims.get(token)
            if reason == "removed":
                self.claims.pop(token, None)
            elif claim:
                claim.until = now + RESUME_SECONDS if reason in ("lost", "replaced") else now

    def _on_resumed(self, member: Member, message: Json, now: float, clock: float) -> list[Effect]:
        self.claims.pop(member.old_token, None)
        member.old_token = ""
        return []

    def welcome(self, member: Member) -> Json:
        """What a newcomer is told of the meeting; keys and tokens are added by the server."""
        mine = [line for line in self.private_lines if member.name in (line["from"], line["to_name"])]
        files = [o.message() for o in self.files.values() if o.whole and o.concerns(member.name)]
        return {
            "type": "welcome",
            "id": member.id,
            "name": member.name,
            "role": member.role,
            "meeting": self.meeting,
            "title": self.title,
            "host": self.host,
            "users": self.roster(),
            "chat": list(self.chat_lines),
            "private": mine,
            "files": files,
            "presenter": self.presenter,
            "largest_file": self.limits.file,
        }

    def roster(self) -> list[Json]:
        """Everyone, in the order of joining."""
        return [member.user() for member in self.members.values()]

    def _tell_all(self, message: Json) -> Tell:
        return Tell(tuple(self.members), message)

    def _named(self, name: str) -> Member | None:
        return next((one for one in self.members.values() if one.name == name), None)

    # -- messages

    def handle(self, ident: int, message: Json, now: float, clock: float) -> list[Effect]:
        """The effects of a checked `message` from member `ident`; its rights and rate are checked."""
        member = self.members.get(ident)
        if member is None:
            return []
        kind = message["type"]
        if kind in HOST_ONLY and member.role != "host":
            return [self._error(member, "not_allowed", "Only the host may do that.", message)]
        if not self._within_rate(member, kind, now):
            raise PeerFault("flood", kind)
        handler = self._handlers.get(kind)
        if handler is None:
            raise PeerFault("unexpected_message", kind)
        return handler(member, message, now, clock)

    def _within_rate(self, member: Member, kind: str, now: float) -> bool:
        lane = kind if kind in RATES else "other"
        if lane not in member.buckets:
            member.buckets[lane] = TokenBucket(*RATES[lane])
        return member.buckets[lane].take(now)

    def _error(self, member: Member, code: str, reason: str, message: Json) -> Tell:
        answer: Json = {"type": "error", "code": code, "reason": reason}
        if "ref" in message:
            answer["ref"] = message["ref"]
        return Tell((member.id,), answer)

    def _on_user_list(self, member: Member, message: Json, now: float, clock: float) -> list[Effect]:
        return [Tell((member.id,), {"type": "user_list", "users": self.roster()})]

    def _line(self, member: Member, text: str, clock: float) -> Json:
        self.counter += 1
        return {"n": self.counter, "id": member.id, "from": member.name, "text": text, "at": clock}

    def _on_chat(self, member: Member, message: Json, now: float, clock: float) -> list[Effect]:
        text = clean_text(message["text"])
        if not text:
            return []
        line = self._line(member, text, clock)
        self.chat_lines.append(line)
        return [self._tell_all({"type": "chat", **line})]

    def _on_private_chat(self, member: Member, message: Json, now: float, clock: float) -> list[Effect]:
        text = clean_text(message["text"])
        other = self._named(message["to_name"])
        if other is None:
            reason = "Nobody of that name is in the meeting."
            return [self._error(member, "no_such_person", reason, message)]
        if not text:
            return []
        line = {**self._line(member, text, clock), "to_name": other.name}
        self.private_lines.append(line)
        both = tuple(dict.fromkeys((member.id, other.id)))
        return [Tell(both, {"type": "private_chat", **line})]

    def _on_reaction(self, member: Member, message: Json, now: float, clock: float) -> list[Effect]:
        emoji = clean_text(message["emoji"], 32)
        if not emoji:
            return []
        self.counter += 1
        fields = {"n": self.counter, "id": member.id, "from": member.name, "emoji": emoji}
        return [self._tell_all({"type": "reaction", **fields})]

    def _changed(self, member: Member) -> Tell:
        return self._tell_all({"type": "state", "user": member.user()})

    def _on_hand(self, member: Member, message: Json, now: float, clock: float) -> list[Effect]:
        if message["up"] == bool(member.hand):
            return []
        member.hand = clock if message["up"] else 0.0
        return [self._changed(member)]

    def _on_mic(self, member: Member, message: Json, now: float, clock: float) -> list[Effect]:
        return self._set_mic(member, message["on"])

    def _set_mic(self, member: Member, on: bool) -> list[Effect]:
        if member.mic == on:
            return []
        member.mic = on
        return [Silence(member.id, not on), self._changed(member)]

    def _on_video_start(self, member: Member, message: Json, now: float, clock: float) -> list[Effect]:
        return self._set_camera(member, "video_start")

    def _on_video_stop(self, member: Member, message: Json, now: float, clock: float) -> list[Effect]:
        return self._set_camera(member, "video_stop")

    def _set_camera(self, member: Member, kind: str) -> list[Effect]:
        on = kind == "video_start"
        if member.camera == on:
            return []
        member.camera = on
        told = self._tell_all({"type": kind, "id": member.id, "name": member.name})
        return [told, self._changed(member)]

    # -- who watches whom

    def _on_watch(self, member: Member, message: Json, now: float, clock: float) -> list[Effect]:
        wanted = {
            int(ident): (choice["layer"], choice["fps"]) for ident, choice in message["streams"].items()
        }
        before = member.watching
        member.watching = {i: choice for i, choice in wanted.items() if i in self.members and i != member.id}
        touched = [i for i in {**before, **member.watching} if before.get(i) != member.watching.get(i)]
        self._note_lingering(before, member.watching, now)
        effects: list[Effect] = []
        for sender in touched:
            effects += self._encode(sender, now, Reroute(sender))
        return effects

    def _note_lingering(
        self, before: dict[int, tuple[int, int]], after: dict[int, tuple[int, int]], now: float
    ) -> None:
        for sender, (layer, fps) in before.items():
            if after.get(sender, (None, 0))[0] != layer:
                self._lingering[sender, layer] = (fps, now + LINGER)

    def _encode(self, sender: int, now: float, *first: Effect) -> list[Effect]:
        """What `sender` must encode from now on, if that has changed."""
        if sender not in self.members:
            return list(first)
        wanted = self.wanted_layers(sender, now)
        if wanted == self._encodes.get(sender, {}):
            return list(first)
        self._encodes[sender] = wanted
        self._encode_number += 1
        layers = {str(layer): fps for layer, fps in sorted(wanted.items())}
        message = {"type": "encode", "n": self._encode_number, "layers": layers}
        return [*first, Tell((sender,), message)]

    def wanted_layers(self, sender: int, now: float) -> dict[int, int]:
        """{layer: the highest rate anyone wants}; a layer stays 2 s after its last use."""
        wanted: dict[int, int] = {}
        for member in self.members.values():
            layer, fps = member.watching.get(sender, (0, 0))
            if fps:
                wanted[layer] = max(fps, wanted.get(layer, 0))
        for layer in range(len(LAYERS)):
            fps, until = self._lingering.get((sender, layer), (0, 0.0))
            if layer not in wanted and now < until:
                wanted[layer] = fps
        return wanted

    def routes(self, sender: int) -> dict[int, tuple[int, int]]:
        """{receiver: (layer, fps)} of everyone who watches `sender`."""
        if sender not in self.members:
            return {}
        return {
            member.id: member.watching[sender]
            for member in self.members.values()
            if sender in member.watching
        }

    def tick(self, now: float) -> list[Effect]:
        """Once in a while: layers whose time is over, tickets and claims that have run out."""
        over = [key for key, (_, until) in self._lingering.items() if until <= now]
        for key in over:
            del self._lingering[key]
        effects: list[Effect] = []
        for sender in {sender for sender, _ in over}:
            effects += self._encode(sender, now)
        self._tickets = {token: one for token, one in self._tickets.items() if one.until > now}
        return effects

    # -- the host's tools

    def _on_mute(self, member: Member, message: Json, now: float, clock: float) -> list[Effect]:
        everyone = message["who"] == "all"
        whom = [
            one
            for one in self.members.values()
            if (one.id != member.id if everyone else one.id == message["who"])
        ]
        if not whom and not everyone:
            return [self._error(member, "no_such_person", "That person is not here.", message)]
        effects: list[Effect] = []
        for one in whom:
            effects += [*self._set_mic(one, False), Tell((one.id,), {"type": "muted", "by": member.name})]
        return effects

    def _on_remove(self, member: Member, message: Json, now: float, clock: float) -> list[Effect]:
        other = self.members.get(message["who"])
        if other is None or other.role == "host":
            return [self._error(member, "no_such_person", "That person cannot be removed.", message)]
        self.banned |= {other.token, f"{other.address}/{skeleton(other.name)}"}
        if not other.address.startswith("127.") and other.address != member.address:
            self.banned.add(other.address)
        gone = Expel(other.id, {"type": "removed", "reason": "The host removed you from the meeting."})
        return [gone, *self.leave(other.id, "removed", now)]

    def _on_take_over(self, member: Member, message: Json, now: float, clock: float) -> list[Effect]:
        former = self.members.get(self.presenter)
        if former is None or former.id == member.id:
            return []
        former.may_share = False
        return self.share_stop(former.id)

    def _on_allow_share(self, member: Member, message: Json, now: float, clock: float) -> list[Effect]:
        other = self.members.get(message["who"])
        if other is None:
            return [self._error(member, "no_such_person", "That person is not here.", message)]
        other.may_share = True
        return [Tell((other.id,), {"type": "share_allowed"})]

    def _on_end(self, member: Member, message: Json, now: float, clock: float) -> list[Effect]:
        return [MeetingOver("The host ended the meeting.")]

    # -- the other planes

    def _on_ticket(self, member: Member, message: Json, now: float, clock: float) -> list[Effect]:
        plane, direction, file = message["plane"], message["direction"], message.get("file")
        if (plane == "screen") != (direction in ("presenter", "viewer")):
            raise PeerFault("bad_ticket")
        if plane == "files":
            offer = self.files.get(file or "")
            rightful = offer and (
                offer.owner == member.name if direction == "upload" else offer.concerns(member.name)
            )
            if not rightful:
                return [self._error(member, "no_such_file", "That file is not on offer.", message)]
        ticket = self._token(16)
        self._tickets[ticket] = Ticket(member.id, plane, direction, file, now + TICKET_SECONDS)
        answer: Json = {"type": "ticket", "ref": message["ref"], "ticket": ticket}
        if file:
            answer["file"] = file
        return [Tell((member.id,), answer)]

    def redeem(self, ticket: str, plane: str, now: float) -> Ticket:
        """The ticket's meaning, once; PeerFault when unknown, late, of another plane or orphaned."""
        found = self._tickets.pop(ticket, None)
        if found is None or found.plane != plane or found.until < now or found.member not in self.members:
            raise PeerFault("bad_ticket")
        return found

    def share_start(self, ident: int) -> list[Effect]:
        """Give the screen to `ident`; Refused `share_busy` or `not_allowed`."""
        member = self.members[ident]
        if self.presenter and self.presenter != ident:
            raise Refused("share_busy", f"{self.members[self.presenter].name} is sharing already.")
        if not member.may_share:
            raise Refused("not_allowed", "The host has to allow you to share again.")
        self.presenter = ident
        member.sharing = True
        told = self._tell_all({"type": "screen_start", "id": ident, "name": member.name})
        return [told, self._changed(member)]

    def share_stop(self, ident: int) -> list[Effect]:
        """Free the screen, if `ident` has it."""
        if self.presenter != ident:
            return []
        self.presenter = 0
        member = self.members.get(ident)
        name = member.name if member else ""
        effects: list[Effect] = [
            ShareStopped(ident),
            self._tell_all({"type": "screen_stop", "id": ident, "name": name}),
        ]
        if member:
            member.sharing = False
            effects.append(self._changed(member))
        return effects

    def _on_file_offer(self, member: Member, message: Json, now: float, clock: float) -> list[Effect]:
        to_name = message.get("to_name")
        if to_name is not None and self._named(to_name) is None:
            reason = "Nobody of that name is in the meeting."
            return [self._error(member, "no_such_person", reason, message)]
        reason = self._too_large(member, message["size"])
        if reason:
            return [self._error(member, "too_large", reason, message)]
        file = self._token(8)
        self.files[file] = Offer(
            file,
            message["name"],
            message["size"],
            message["sha256"],
            member.name,
            member.id,
            to_name,
        )
        return [Tell((member.id,), {"type": "file_ready", "ref": message["ref"], "file": file})]

    def _too_large(self, member: Member, size: int) -> str:
        mine = sum(offer.size for offer in self.files.values() if offer.owner == member.name)
        total = sum(offer.size for offer in self.files.values())
        if size > self.limits.file:
            return f"Files may have {self.limits.file >> 20} MB at most."
        if mine + size > self.limits.person:
            return f"One person may offer {self.limits.person >> 20} MB at most."
        if total + size > self.limits.meeting or len(self.files) >= 1_000:
            return "The meeting has no room for more files."
        return ""

    def file_whole(self, file: str) -> list[Effect]:
        """The upload of `file` is complete and verified: offer it."""
        offer = self.files.get(file)
        if offer is None:
            return []
        offer.whole = True
        to = tuple(one.id for one in self.members.values() if offer.concerns(one.name))
        return [Tell(to, {"type": "file_offer", **offer.message()})]

    def file_saved(self, file: str) -> list[Effect]:
        """Someone has the whole of `file`: its owner sees how many."""
        offer = self.files.get(file)
        owner = self._named(offer.owner) if offer else None
        if offer is None or owner is None:
            return []
        offer.saved += 1
        return [Tell((owner.id,), {"type": "file_saved", "file": file, "people": offer.saved})]

    def _on_cancel(self, member: Member, message: Json, now: float, clock: float) -> list[Effect]:
        offer = self.files.get(message["file"])
        if offer is None or (offer.owner != member.name and member.role != "host"):
            return [self._error(member, "no_such_file", "That file is not yours.", message)]
        return self.file_gone(offer.file, f"{member.name} took the file back.")

    def file_gone(self, file: str, reason: str) -> list[Effect]:
        """Withdraw `file`."""
        offer = self.files.pop(file, None)
        if offer is None:
            return []
        to = tuple(one.id for one in self.members.values() if offer.concerns(one.name))
        return [FileGone(file), Tell(to, {"type": "file_gone", "file": file, "reason": reason})]


# ======================================================================================
# [5] CALL - one participant's picture of the meeting, as a snapshot for a window
# Uses: BASICS, WIRE
# ======================================================================================


@dataclass(frozen=True, slots=True)
class Person:
    """One participant, as the roster says."""

    id: int
    name: str
    role: str = "member"
    mic: bool = False
    camera: bool = False
    hand: float = 0.0  # when the hand went up, unix seconds; 0 = down
    sharing: bool = False


@dataclass(frozen=True, slots=True)
class ChatLine:
    """One message; `to` names the only other reader of a private one."""

    n: int
    sender: str
    text: str
    at: float
    to: str | None = None
    own: bool = False
    history: bool = False


@dataclass(frozen=True, slots=True)
class FileEntry:
    """A file on offer. state: offered, uploading, downloading, saved, declined, failed, gone."""

    file: str
    name: str
    size: int
    sender: str
    private: bool = False
    own: bool = False
    state: str = "offered"
    done: int = 0
    rate: float = 0.0  # bytes a second
    path: str | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class DeviceState:
    """What a device does now. state: off, live, failed."""

    state: str = "off"
    reason: str = ""


@dataclass(frozen=True, slots=True)
class StreamQuality:
    """One received video stream over the last 2 s."""

    layer: int = 0
    fps: float = 0.0
    width: int = 0
    height: int = 0
    kbps: float = 0.0
    lost_frames: int = 0
    latency_ms: float | None = None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything a window shows, immutable. `link`: joining, live, reconnecting, ended."""

    link: str = "joining"
    reason: str = ""
    me: int = 0
    name: str = ""
    role: str = "member"
    meeting: str = ""
    title: str = ""
    host: str = ""
    address: str = ""
    port: int = DEFAULT_PORT
    pin: str = ""
    fingerprint: str = ""
    encrypted: bool = True
    new_host: bool = False
    people: tuple[Person, ...] = ()
    chat: tuple[ChatLine, ...] = ()
    files: tuple[FileEntry, ...] = ()
    speaking: int = 0
    presenter: int = 0
    devices: Mapping[str, DeviceState] = field(default_factory=dict)  # camera, mic, speaker
    quality: Mapping[int, StreamQuality] = field(default_factory=dict)  # by person id
    mic_level: float = 0.0  # 0..1, live meter
    muted_speech: bool = False  # speaking while muted
    delay_ms: float = 0.0  # control round trip
    since: float = 0.0  # monotonic seconds at joining


# --------------------------------------------------------------------------------------
# The waterline. Above it: bytes and `now` come in, bytes and effects go out.
# --------------------------------------------------------------------------------------


# ======================================================================================
# [6] TRUST - who the host is: identity, known hosts, PIN proof, what is kept on disk
# Uses: BASICS, WIRE
# ======================================================================================


# ======================================================================================
# [7] LINKS - TLS links owned by one thread, UDP ports with batched sending, closing
# Uses: BASICS, WIRE
# ======================================================================================

# -- threads and their end ---------------------------------------------------------------------


class Worker:
    """A named thread that ends when told to, within a deadline, and logs our own bugs.

    `run` is called with the worker; it returns soon after `stopping` is set. `wake` is called
    once at closing, to end a wait.
    """

    def __init__(self, name: str, run: Callable[[Worker], None], wake: Callable[[], None] | None = None):
        self.stopping = threading.Event()
        self._run = run
        self._wake = wake
        self._thread = threading.Thread(target=self._guarded, name=name, daemon=True)

    def start(self) -> Worker:
        """Start the thread."""
        self._thread.start()
        return self

    def _guarded(self) -> None:
        try:
            self._run(self)
        except Exception:
            log.exception("the thread %s ended by a bug", self._thread.name)

    def stop(self) -> None:
        """Ask the thread to end; returns at once."""
        self.stopping.set()
        if self._wake:
            self._wake()

    def close(self, deadline: float = 3.0) -> None:
        """Stop and wait at most `deadline` seconds; may be called twice and from the thread itself."""
        self.stop()
        if self._thread.ident is None or self._thread is threading.current_thread():
            return
        self._thread.join(deadline)
        if self._thread.is_alive():
            log.warning("the thread %s did not end within %.1f s", self._thread.name, deadline)


class Waker:
    """A socket pair that ends a select from another thread."""

    def __init__(self) -> None:
        self._reader, self._writer = socket.socketpair()
        self._reader.setblocking(False)
        self._writer.setblocking(False)

    def fileno(self) -> int:
        """The descriptor to select for reading."""
        return self._reader.fileno()

    def wake(self) -> None:
        """End the select, now or when it is next called; nothing when already closed."""
        with contextlib.suppress(OSError):
            self._writer.send(b"\0")

    def drain(self) -> None:
        """Swallow what `wake` sent."""
        with contextlib.suppress(OSError):
            while self._reader.recv(4096):
                pass

    def close(self) -> None:
        """Close both ends."""
        self._reader.close()
        self._writer.close()


# -- TLS links, many to one thread -----------------------------------------------------------------

LINK_QUEUE: Final = 4 << 20
HANDSHAKE_SECONDS: Final = 5.0


class Timer:
    """A call that a Reactor makes later; `cancel` from its thread."""

    __slots__ = ("at", "call")

    def __init__(self, at: float, call: Callable[[], None]) -> None:
        self.at = at
        self.call: Callable[[], None] | None = call

    def __lt__(self, other: Timer) -> bool:
        return self.at < other.at

    def cancel(self) -> None:
        """Never make the call."""
        self.call = None


class Reactor:
    """One thread that owns TLS links: no SSL object is ever touched by a second one.

    Everyone else says `post`. Callbacks of links and timers run on this thread and must not block.
    """

    def __init__(self, name: str, counters: Counters) -> None:
        self.counters = counters
        self._selector = selectors.DefaultSelector()
        self._waker = Waker()
        self._mail: collections.deque[Callable[[], None]] = collections.deque()
        self._timers: list[Timer] = []
        self._links: set[TlsLink] = set()
        self._selector.register(self._waker, selectors.EVENT_READ, None)
        self._worker = Worker(name, self._run, self._waker.wake)

    def start(self) -> Reactor:
        """Start the thread."""
        self._worker.start()
        return self

    def post(self, call: Callable[[], None]) -> None:
        """Have `call` made on the reactor's thread; from any thread, never blocks."""
        self._mail.append(call)
        self._waker.wake()

    def later(self, delay: float, call: Callable[[], None]) -> Timer:
        """Have `call` made after `delay` seconds. Reactor's thread only."""
        timer = Timer(time.monotonic() + delay, call)
        heapq.heappush(self._timers, timer)
        return timer

    def every(self, interval: float, call: Callable[[], None]) -> None:
        """Have `call` made each `interval` seconds until the reactor closes."""

        def again() -> None:
            self.later(interval, again)
            call()

        self.later(interval, again)

    def close(self, deadline: float = 3.0) -> None:
        """Say what is still queued, close every link, end the thread."""
        self.post(self._close_links)
        self._worker.close(deadline)

    def _close_links(self) -> None:
        for link in list(self._links):
            link.close("closing")

    def _run(self, worker: Worker) -> None:
        while not worker.stopping.is_set():
            self._turn(self._wait())
        until = time.monotonic() + 1.0
        self._turn(0.0)
        while self._links and time.monotonic() < until:
            self._turn(0.02)
        for link in list(self._links):
            link.discard("closing")
        self._selector.close()
        self._waker.close()

    def _wait(self) -> float | None:
        while self._timers and self._timers[0].call is None:
            heapq.heappop(self._timers)
        if self._mail:
            return 0.0
        return max(0.0, self._timers[0].at - time.monotonic()) if self._timers else None

    def _turn(self, timeout: float | None) -> None:
        for key, events in self._selector.select(timeout):
            if key.data is None:
                self._waker.drain()
            else:
                self._safely(functools.partial(key.data.on_events, events))
        while self._mail:
            self._safely(self._mail.popleft())
        now = time.monotonic()
        while self._timers and self._timers[0].at <= now:
            call = heapq.heappop(self._timers).call
            if call:
                self._safely(call)

    def _safely(self, call: Callable[[], None]) -> None:
        try:
            call()
        except PeerFault as fault:
            self.counters.add(fault.kind)
        except Exception:
            self.counters.add("bugs")
            log.exception("a callback of the reactor failed")

    def watch(self, link: TlsLink, events: int) -> None:
        """Select `link` for `events`, or leave it when 0. For links only."""
        known = link in self._links
        if events and not known:
            self._links.add(link)
            self._selector.register(link.socket, events, link)
        elif events:
            self._selector.modify(link.socket, events, link)
        elif known:
            self._links.discard(link)
            self._selector.unregister(link.socket)


class TlsLink:
    """A TLS connection inside a Reactor; every method on the reactor's thread.

    `on_open(link)` once the handshake is done, `on_bytes(data)`, `on_room()` whenever the
    queue is empty and the kernel takes more, `on_close(reason)` once, at the end.
    """

    def __init__(
        self, reactor: Reactor, sock: socket.socket, context: ssl.SSLContext, *, server: bool
    ) -> None:
        sock.setblocking(False)
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.reactor = reactor
        self.socket = sock
        self.on_open: Callable[[TlsLink], None] = lambda link: None
        self.on_bytes: Callable[[bytes], None] = lambda data: None
        self.on_room: Callable[[], None] | None = None
        self.on_close: Callable[[str], None] = lambda reason: None
        self.limit = LINK_QUEUE
        self.fingerprint = ""
        self.closed = False
        self._context = context
        self._server = server
        self._tls: ssl.SSLSocket | None = None
        self._ready = False
        self._closing = ""
        self._queue: collections.deque[bytes] = collections.deque()
        self._queued = 0
        self._pending = b""
        self._filling = False
        self._timer: Timer | None = None

    def begin(self, *, connected: bool = True) -> TlsLink:
        """Start the handshake, after the TCP connection stands; 5 s for both."""
        self._timer = self.reactor.later(HANDSHAKE_SECONDS, lambda: self.discard("timeout"))
        self.reactor.watch(self, selectors.EVENT_READ if connected else selectors.EVENT_WRITE)
        if connected:
            self._shake_hands()
        return self

    @property
    def queued(self) -> int:
        """Bytes that wait here to be sent."""
        return self._queued + len(self._pending)

    def send(self, data: bytes) -> None:
        """Queue `data`; a peer that leaves more than `limit` bytes unread is dropped."""
        if self.closed or self._closing:
            return
        self._queue.append(data)
        self._queued += len(data)
        if self.queued > self.limit:
            self.discard("slow")
        elif self._ready and not self._filling:
            self._flush()

    def ask_room(self) -> None:
        """Have `on_room` called once there is room."""
        if self._ready and not self.closed:
            self._flush()

    def close(self, reason: str) -> None:
        """Send what is queued, then end."""
        if self.closed or self._closing:
            return
        self._closing = reason
        if not self._ready or not self.queued:
            self.discard(reason)
        else:
            self._flush()

    def discard(self, reason: str) -> None:
        """End now; what is queued is lost."""
        if self.closed:
            return
        self.closed = True
        if self._timer:
            self._timer.cancel()
        self.reactor.watch(self, 0)
        with contextlib.suppress(OSError):
            self.socket.close()
        self.on_close(self._closing or reason)

    def on_events(self, events: int) -> None:
        """What the selector saw. For the reactor only."""
        try:
            if not self._ready:
                self._shake_hands()
                return
            if events & selectors.EVENT_READ:
                self._receive()
            if events & selectors.EVENT_WRITE and not self.closed:
                self._flush()
        except PeerFault as fault:
            self.reactor.counters.add(fault.kind)
            self.discard(fault.kind)
        except OSError as error:
            self.discard(type(error).__name__)

    def _shake_hands(self) -> None:
        try:
            if self._tls is None:
                code = self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                if code:
                    raise OSError(code, os.strerror(code))
                self._wrap()
            assert self._tls is not None
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            self.reactor.watch(self, selectors.EVENT_READ)
        except ssl.SSLWantWriteError:
            self.reactor.watch(self, selectors.EVENT_WRITE)
        except OSError as error:
            self.discard("refused" if isinstance(error, ConnectionRefusedError) else "no_tls")
        else:
            self._opened()

    def _wrap(self) -> None:
        self.reactor.watch(self, 0)
        self._tls = self._context.wrap_socket(
            self.socket, server_side=self._server, do_handshake_on_connect=False
        )
        self.socket = self._tls
        self.reactor.watch(self, selectors.EVENT_READ)

    def _opened(self) -> None:
        assert self._tls is not None
        self._ready = True
        if self._timer:
            self._timer.cancel()
        if not self._server:
            self.fingerprint = hashlib.sha256(self._tls.getpeercert(binary_form=True) or b"").hexdigest()
        self.reactor.watch(self, selectors.EVENT_READ)
        self.on_open(self)
        if not self.closed:
            self._receive()
        if not self.closed:
            self._flush()

    def _receive(self) -> None:
        for _ in range(64):
            try:
                data = self.socket.recv(1 << 16)
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                return
            if not data:
                self.discard("gone")
                return
            self.on_bytes(data)
            if self.closed:
                return
        self.reactor.post(lambda: self.on_events(selectors.EVENT_READ))

    def _flush(self) -> None:
        try:
            self._write_queue()
        except (ssl.SSLWantWriteError, ssl.SSLWantReadError):
            self.reactor.watch(self, selectors.EVENT_READ | selectors.EVENT_WRITE)
        except OSError as error:
            self.discard(type(error).__name__)

    def _write_queue(self) -> None:
        while True:
            if not self._pending:
                self._pending = self._next_chunk()
            if not self._pending:
                break
            sent = self.socket.send(self._pending)
            self._pending = self._pending[sent:]
        if self._closing:
            self.discard(self._closing)
        else:
            self.reactor.watch(self, selectors.EVENT_READ)

    def _next_chunk(self) -> bytes:
        """Up to a TLS record of queued bytes; `on_room` is asked when there are none."""
        if not self._queue and self.on_room and not self._closing:
            self._filling = True
            self.on_room()
            self._filling = False
        chunk = bytearray()
        while self._queue and len(chunk) + len(self._queue[0]) <= 16_384:
            chunk += self._queue.popleft()
        if not chunk and self._queue:
            chunk += self._queue.popleft()
        self._queued -= len(chunk)
        return bytes(chunk)


class HalfOpen:
    """Who has connected and not yet said who it is: 128 in all, 8 an address once they dawdle.

    A newcomer evicts the oldest. An address may burst over 8 for a second, because a bell sends
    a whole class at once and several people may share one address.
    """

    MOST = 128
    MOST_AN_ADDRESS = 8
    GRACE = 1.0

    def __init__(self) -> None:
        self._open: dict[object, tuple[str, float]] = {}
        self._lock = threading.Lock()

    def enter(self, key: object, address: str, now: float) -> list[object]:
        """Note `key` as half open; returns the keys that must go for it."""
        with self._lock:
            mine = [other for other, (host, at) in self._open.items() if host == address]
            old = [other for other in mine if now - self._open[other][1] > self.GRACE]
            evicted = old[: max(0, len(mine) + 1 - self.MOST_AN_ADDRESS)]
            rest = [other for other in self._open if other not in evicted]
            evicted += rest[: max(0, len(rest) + 1 - self.MOST)]
            for other in evicted:
                del self._open[other]
            self._open[key] = (address, now)
            return evicted

    def leave(self, key: object) -> None:
        """`key` has said who it is, or is gone."""
        with self._lock:
            self._open.pop(key, None)


def connect_link(
    reactor: Reactor, address: tuple[str, int], context: ssl.SSLContext, source: str | None = None
) -> TlsLink:
    """Begin connecting to `address`; set the callbacks right away, on the reactor's thread."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    sock.setblocking(False)
    if source:
        sock.bind((source, 0))
    with contextlib.suppress(BlockingIOError):
        sock.connect(address)
    return TlsLink(reactor, sock, context, server=False)


def listen_tcp(address: tuple[str, int]) -> socket.socket:
    """A listening socket; Refused with one clear sentence when the port is taken."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        if sys.platform == "win32":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)
        else:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)
        sock.listen(256)
    except OSError as error:
        sock.close()
        raise Refused("port", f"The TCP port {address[1]} cannot be used: {error.strerror}.") from None
    return sock


def resolve(host: str) -> str:
    """The IPv4 address of `host`; Refused when there is none."""
    try:
        return socket.gethostbyname(host)
    except (OSError, UnicodeError):
        raise Refused("no_meeting", f"The address {host} cannot be found.") from None


def local_address(toward: str) -> str:
    """The own IPv4 address that is used toward `toward`, or 127.0.0.1; nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((toward, 9))
            return str(probe.getsockname()[0])
        except OSError:
            return "127.0.0.1"


# ======================================================================================
# [8] DISCOVERY - asking and answering on every interface
# Uses: BASICS, WIRE
# ======================================================================================


# ======================================================================================
# [9] DEVICES - camera, microphone, speaker, screen, codecs, and what stands in for each
# Uses: BASICS, WIRE, MEDIA
# ======================================================================================


# ======================================================================================
# [10] SERVER - the server role, and the mixer's process
# Uses: BASICS, WIRE, MEDIA, ROOM, TRUST, LINKS, DISCOVERY
# ======================================================================================


# ======================================================================================
# [11] CLIENT - the client role without a window
# Uses: BASICS, WIRE, MEDIA, CALL, TRUST, LINKS, DISCOVERY, DEVICES
# ======================================================================================


# ======================================================================================
# [12] WIDGETS - palette, icons, tiles and small controls
# Uses: BASICS
# ======================================================================================


# ======================================================================================
# [13] WINDOW - the window, which only arranges and reads snapshots
# Uses: BASICS, CALL, DISCOVERY, DEVICES, CLIENT, WIDGETS
# ======================================================================================


# ======================================================================================
# [14] COMMAND LINE - options, logging, the role table, main
# Uses: BASICS, SERVER, CLIENT, WINDOW
# ======================================================================================


def main() -> int:
    """Run the role that the command line names; returns the exit status."""
    return 0


if __name__ == "__main__":
    sys.exit(main())
