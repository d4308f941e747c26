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

import contextlib
import enum
import errno
import heapq
import json
import logging
import math
import re
import socket
import struct
import sys
import threading
import unicodedata
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
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

# -- video -----------------------------------------------------------------------------------
#
# Frames in, datagrams out, and back. A frame is kept as runs: stretches of its parts that came in order
# in one buffer, so that a frame which one GRO read brought whole is never touched part by part.

DATAGRAM: Final = VIDEO_HEADER.size + CHUNK
_INDEXES: Final = tuple(index.to_bytes(2, "big") for index in range(MAX_PARTS))

MAX_OPEN: Final = 3  # frames of one sender and layer that are being collected
MAX_HELD: Final = 1_000_000  # bytes of one sender's unfinished frames
MAX_SENDERS: Final = 2 * MAX_PEOPLE
NACK_ROUNDS: Final = 4
GAP_WAIT: Final = 0.002
TAIL_WAIT: Final = 0.010
NACK_AGAIN: Final = 0.015
FRAME_LIFE: Final = 0.120


def _headers(ident: int, number: int, total: int, first: int, count: int) -> bytes:
    """The headers of parts `first` to `first + count - 1`, back to back."""
    same = VIDEO_HEADER.pack(ident, number, total, 0)[:-2]
    return same + same.join(_INDEXES[first : first + count])


def frame_datagrams(ident: int, number: int, sealed: bytes) -> bytearray:
    """All datagrams of a frame back to back, each of DATAGRAM bytes but for a shorter last.

    ValueError when `sealed` is empty or larger than MAX_FRAME.
    """
    total, full = parts_of(len(sealed)), len(sealed) // CHUNK
    if not 1 <= total <= MAX_PARTS:
        raise ValueError(f"a frame of {len(sealed)} bytes")
    headers = _headers(ident, number, total, 0, total)
    layout = bytearray(len(headers) + len(sealed))
    grid = np.frombuffer(layout, np.uint8, full * DATAGRAM).reshape(full, DATAGRAM)
    grid[:, : VIDEO_HEADER.size] = np.frombuffer(headers, np.uint8, full * VIDEO_HEADER.size).reshape(
        full, VIDEO_HEADER.size
    )
    grid[:, VIDEO_HEADER.size :] = np.frombuffer(sealed, np.uint8, full * CHUNK).reshape(full, CHUNK)
    layout[full * DATAGRAM :] = headers[full * VIDEO_HEADER.size :] + sealed[full * CHUNK :]
    return layout


class WholeFrame(NamedTuple):
    """A frame whose parts are all there; `first_at` is when the first sign of it came."""

    id: int
    number: int
    sealed: bytes
    first_at: float


class StreamCounts(NamedTuple):
    """Frames of one sender: never delivered, and delivered after a nack."""

    lost: int
    repaired: int


class _Run(NamedTuple):
    """Parts `first` to `first + length - 1` of one frame, in order."""

    id: int
    number: int
    total: int
    first: int
    length: int
    chunks: bytes

    @property
    def bits(self) -> int:
        return ((1 << self.length) - 1) << self.first

    def well_formed(self) -> bool:
        """Whether all parts are full but for the frame's last, which has at least one byte."""
        end = self.first + self.length
        if not 0 < end <= self.total <= MAX_PARTS:
            return False
        size = len(self.chunks)
        return size == self.length * CHUNK or (
            end == self.total and (self.length - 1) * CHUNK < size < self.length * CHUNK
        )

    def singles(self) -> list[_Run]:
        """The same parts, each as a run of its own."""
        return [
            self._replace(first=self.first + i, length=1, chunks=self.chunks[i * CHUNK : (i + 1) * CHUNK])
            for i in range(self.length)
        ]


def _parse_datagram(datagram: memoryview) -> _Run | None:
    if len(datagram) < VIDEO_HEADER.size:
        return None
    ident, number, total, index = VIDEO_HEADER.unpack_from(datagram)
    run = _Run(ident, number, total, index, 1, bytes(datagram[VIDEO_HEADER.size :]))
    return run if run.well_formed() else None


def _parse_batch(buffer: memoryview, segment: int) -> _Run | None:
    """`buffer` as one run if it is nothing else: one pass over the headers, one over the chunks."""
    if segment != DATAGRAM or len(buffer) < DATAGRAM:
        return None
    ident, number, total, first = VIDEO_HEADER.unpack_from(buffer)
    count, full = -(-len(buffer) // DATAGRAM), len(buffer) // DATAGRAM
    grid = np.frombuffer(buffer, np.uint8, full * DATAGRAM).reshape(full, DATAGRAM)
    tail = buffer[full * DATAGRAM :]
    headers = grid[:, : VIDEO_HEADER.size].tobytes() + tail[: VIDEO_HEADER.size]
    if headers != _headers(ident, number, total, first, count):
        return None
    chunks = grid[:, VIDEO_HEADER.size :].tobytes() + tail[VIDEO_HEADER.size :]
    run = _Run(ident, number, total, first, count, chunks)
    return run if run.well_formed() else None


@dataclass(slots=True)
class _OpenFrame:
    """A frame being collected; total 0 while no part of it was seen. Bit i of `have`: part i is here."""

    id: int
    number: int
    first_at: float
    again: bool = False
    rounds: int = 0
    total: int = 0
    have: int = 0
    held: int = 0
    gap_at: float = math.inf
    ask_at: float = math.inf
    runs: dict[int, bytes] = field(default_factory=dict)

    def add(self, run: _Run) -> None:
        self.total = run.total
        self.have |= run.bits
        self.held += len(run.chunks)
        self.runs[run.first] = run.chunks

    @property
    def whole(self) -> bool:
        return self.total > 0 and self.have == (1 << self.total) - 1

    @property
    def missing(self) -> int:
        return ((1 << self.total) - 1) & ~self.have if self.total else ALL_PARTS

    @property
    def due(self) -> float:
        return min(self.ask_at, self.first_at + FRAME_LIFE)

    def sealed(self) -> bytes:
        if len(self.runs) == 1:
            return next(iter(self.runs.values()))
        return b"".join(self.runs[first] for first in sorted(self.runs))

    def plan_first_ask(self, now: float, overtaken: bool) -> None:
        """Set when the first nack is due, from what is missing; a later round has its own time."""
        if self.rounds:
            return
        if overtaken or self.have & (self.have + 1):
            self.gap_at = min(self.gap_at, now)
            self.ask_at = self.gap_at + GAP_WAIT
        else:
            self.gap_at = math.inf
            self.ask_at = now + TAIL_WAIT

    def ask(self, now: float, again_after: float) -> Nack:
        self.rounds += 1
        self.ask_at = now + again_after if self.rounds < NACK_ROUNDS else math.inf
        return Nack(self.id, self.number, self.missing)


class _Stream:
    """The frames of one sender and layer: what is open, and up to where it was delivered."""

    def __init__(self) -> None:
        self.delivered = -1
        self.lost = 0
        self.repaired = 0
        self.before = (-1, 0, 0)
        self.open: dict[int, _OpenFrame] = {}
        self.given_up: deque[int] = deque(maxlen=16)

    def newest(self) -> int:
        """The highest number seen since the last delivery, -1 for none yet."""
        return max(self.delivered, max(self.open, default=-1), max(self.given_up, default=-1))

    def deliver(self, frame: _OpenFrame) -> None:
        self.before = (self.delivered, self.lost, self.repaired)
        if self.delivered >= 0:
            self.lost += frame.number - self.delivered - 1
        self.repaired += frame.rounds > 0
        self.delivered = frame.number
        self.given_up.clear()

    def take_back(self) -> None:
        """Undo the last delivery, so that a forged number blocks nothing."""
        self.delivered, self.lost, self.repaired = self.before


class _Sender:
    def __init__(self) -> None:
        self.streams: dict[int, _Stream] = {}
        self.held = 0


class Reassembler:
    """Collects the parts of frames, newest frame first, and says what to ask for again.

    `layered`: numbers carry the layer in their top two bits (upstream). Never raises on what a peer
    sends: it is dropped and counted. `rtt` in seconds is the caller's to keep up to date.
    """

    def __init__(self, layered: bool, counters: Counters) -> None:
        self.rtt = 0.0
        self._layer_shift = LAYER_SHIFT if layered else 32
        self._counters = counters
        self._senders: dict[int, _Sender] = {}
        self._due = math.inf

    def push(self, datagram: bytes | memoryview, now: float) -> WholeFrame | None:
        """Take one datagram; the frame that it completes, if any."""
        run = _parse_datagram(memoryview(datagram))
        if run is None:
            self._counters.add("video.malformed")
            return None
        return self._take(run, now)

    def push_batch(self, buffer: bytes | memoryview, segment: int, now: float) -> list[WholeFrame]:
        """Take a buffer of datagrams of `segment` bytes each (the last may be shorter), as GRO gives it."""
        view = memoryview(buffer)
        run = _parse_batch(view, segment)
        if run is not None:
            frames = [self._take(run, now)]
        else:
            step = max(1, segment)
            frames = [self.push(view[at : at + step], now) for at in range(0, len(view), step)]
        return [frame for frame in frames if frame is not None]

    def retry(self, frame: WholeFrame) -> bool:
        """`frame` did not open: its parts are asked for once more. False if that was done before."""
        sender = self._senders.get(frame.id)
        stream = sender.streams.get(frame.number >> self._layer_shift) if sender else None
        if stream is None or stream.delivered != frame.number:
            return False
        stream.take_back()
        if frame.number in stream.given_up:
            return False
        last_ask = _OpenFrame(frame.id, frame.number, frame.first_at, again=True, rounds=NACK_ROUNDS - 1)
        last_ask.ask_at = frame.first_at
        stream.open[frame.number] = last_ask
        self._due = min(self._due, last_ask.due)
        return True

    def nacks(self, now: float) -> list[Nack]:
        """What to ask for at `now`; gives up frames that took too long."""
        if now < self._due:
            return []
        asked: list[Nack] = []
        self._due = math.inf
        wait = max(NACK_AGAIN, 1.5 * self.rtt)
        for sender in self._senders.values():
            for stream in sender.streams.values():
                for frame in list(stream.open.values()):
                    if now >= frame.first_at + FRAME_LIFE:
                        self._give_up(sender, stream, frame)
                        continue
                    if now >= frame.ask_at:
                        asked.append(frame.ask(now, wait))
                    self._due = min(self._due, frame.due)
        return asked

    def next_due(self, now: float) -> float | None:
        """When to call `nacks` next (it may find nothing to do); None when nothing was open at its last."""
        return max(now, self._due) if self._due < math.inf else None

    def counts(self, ident: int) -> StreamCounts:
        """Lost and repaired frames of `ident` so far."""
        streams = self._senders[ident].streams.values() if ident in self._senders else ()
        return StreamCounts(sum(s.lost for s in streams), sum(s.repaired for s in streams))

    def held(self, ident: int) -> int:
        """Bytes of unfinished frames of `ident` in memory."""
        return self._senders[ident].held if ident in self._senders else 0

    def forget(self, ident: int) -> None:
        """Drop everything about a sender that has left."""
        self._senders.pop(ident, None)

    def _take(self, run: _Run, now: float) -> WholeFrame | None:
        sender = self._sender(run.id)
        stream = sender.streams.setdefault(run.number >> self._layer_shift, _Stream())
        if run.number <= stream.delivered or run.number in stream.given_up:
            self._counters.add("video.late", run.length)
            return None
        frame = stream.open.get(run.number) or self._open(sender, stream, run, now)
        if frame.total not in (0, run.total):
            self._counters.add("video.other_total", run.length)
            return None
        if frame.have & run.bits:
            return self._take_overlap(run, frame, now)
        self._make_room(sender, frame, len(run.chunks))
        frame.add(run)
        sender.held += len(run.chunks)
        if frame.whole:
            return self._deliver(sender, stream, frame)
        frame.plan_first_ask(now, overtaken=frame.number < stream.newest())
        self._due = min(self._due, frame.due)
        return None

    def _take_overlap(self, run: _Run, frame: _OpenFrame, now: float) -> WholeFrame | None:
        fresh = [part for part in run.singles() if not frame.have & part.bits]
        self._counters.add("video.duplicate", run.length - len(fresh))
        frames = [self._take(part, now) for part in fresh]
        return frames[-1] if frames else None

    def _sender(self, ident: int) -> _Sender:
        sender = self._senders.get(ident)
        if sender is None:
            if len(self._senders) >= MAX_SENDERS:
                self.forget(next(iter(self._senders)))
            sender = self._senders[ident] = _Sender()
        return sender

    def _open(self, sender: _Sender, stream: _Stream, run: _Run, now: float) -> _OpenFrame:
        """Start collecting the run's frame, and the frames whose numbers it shows to be missing."""
        newest, first = stream.newest(), run.number
        if 0 <= newest < run.number:
            free = max(0, MAX_OPEN - 1 - len(stream.open))
            first = max(newest + 1, run.number - free)
        if len(stream.open) >= MAX_OPEN:
            self._counters.add("video.crowded")
            self._give_up(sender, stream, next(iter(stream.open.values())))
        for number in range(first, run.number + 1):
            stream.open[number] = _OpenFrame(run.id, number, now)
        for frame in stream.open.values():
            if frame.number < run.number:
                frame.plan_first_ask(now, overtaken=True)
                self._due = min(self._due, frame.due)
        return stream.open[run.number]

    def _make_room(self, sender: _Sender, keep: _OpenFrame, size: int) -> None:
        while sender.held + size > MAX_HELD:
            frames = [
                (frame.first_at, frame.number, stream, frame)
                for stream in sender.streams.values()
                for frame in stream.open.values()
                if frame is not keep and frame.held
            ]
            _, _, stream, oldest = min(frames, key=lambda entry: entry[:2])
            self._counters.add("video.crowded")
            self._give_up(sender, stream, oldest)

    def _deliver(self, sender: _Sender, stream: _Stream, frame: _OpenFrame) -> WholeFrame:
        for number in [number for number in stream.open if number <= frame.number]:
            sender.held -= stream.open.pop(number).held
        stream.deliver(frame)
        if frame.again:
            stream.given_up.append(frame.number)
        return WholeFrame(frame.id, frame.number, frame.sealed(), frame.first_at)

    def _give_up(self, sender: _Sender, stream: _Stream, frame: _OpenFrame) -> None:
        sender.held -= stream.open.pop(frame.number).held
        stream.given_up.append(frame.number)


@dataclass(slots=True)
class _SentStream:
    """What one stream sent of late: layouts for 250 ms, sizes for a second."""

    layouts: dict[int, tuple[float, bytearray]] = field(default_factory=dict)
    sent: deque[tuple[float, int]] = field(default_factory=deque)
    resent: deque[tuple[float, int]] = field(default_factory=deque)
    sent_size: int = 0
    resent_size: int = 0

    def prune(self, now: float) -> None:
        while self.layouts and now - next(iter(self.layouts.values()))[0] > SentFrames.LIFE:
            del self.layouts[next(iter(self.layouts))]
        while self.sent and now - self.sent[0][0] > SentFrames.WINDOW:
            self.sent_size -= self.sent.popleft()[1]
        while self.resent and now - self.resent[0][0] > SentFrames.WINDOW:
            self.resent_size -= self.resent.popleft()[1]


class SentFrames:
    """The sealed datagrams sent of late, so that a nack is answered with the very same bytes."""

    LIFE: Final = 0.25
    WINDOW: Final = 1.0

    def __init__(self, budget: float = 0.25) -> None:
        self._budget = budget
        self._streams: dict[int, _SentStream] = {}

    def store(self, ident: int, number: int, layout: bytearray, now: float) -> None:
        """Keep the datagrams of a frame as it is sent."""
        stream = self._streams.setdefault(ident, _SentStream())
        stream.layouts[number] = (now, layout)
        stream.sent.append((now, len(layout)))
        stream.sent_size += len(layout)
        stream.prune(now)

    def resend(self, nack: Nack, now: float) -> list[memoryview]:
        """The datagrams asked for; none when older than 250 ms or when they would bring the last
        second's resends over the budget: a share of what the stream itself sent in that time."""
        stream = self._streams.get(nack.id)
        if stream is None:
            return []
        stream.prune(now)
        _, layout = stream.layouts.get(nack.number, (0.0, bytearray()))
        view = memoryview(layout)
        asked = [
            view[at : at + DATAGRAM]
            for index, at in enumerate(range(0, len(layout), DATAGRAM))
            if nack.bitmap >> index & 1
        ]
        size = sum(map(len, asked))
        if not asked or stream.resent_size + size > self._budget * stream.sent_size:
            return []
        stream.resent.append((now, size))
        stream.resent_size += size
        return asked

    def forget(self, ident: int) -> None:
        """Drop what is kept of a stream that has ended."""
        self._streams.pop(ident, None)


class FrameThinner:
    """Lets at most `fps` frames a second pass, evenly; a frame early by a quarter period still passes."""

    def __init__(self, fps: float) -> None:
        self.fps = fps
        self._level = 1.0
        self._at = -math.inf

    def take(self, now: float) -> bool:
        """Whether the frame at `now` passes."""
        earned = self._level + (now - self._at) * self.fps
        self._level = earned if earned < 2.0 else 1.0
        self._at = now
        if self.fps <= 0 or self._level < 0.75:
            return False
        self._level -= 1.0
        return True


BURST_PARTS: Final = 29  # half of what one GSO call carries: 32 kB fit the buffers of small switches
BURST_GAP: Final = 0.004  # well under TAIL_WAIT, or receivers would ask for what is still to be sent
LEAST_PACE: Final = BURST_PARTS * DATAGRAM / BURST_GAP  # 8 MB/s: where there is little to send, why wait
MAX_SPREAD: Final = 0.060


@dataclass(slots=True)
class _Outgoing:
    receiver: int
    view: memoryview
    piece: int
    gap: float
    stale_at: float

    def take(self) -> memoryview:
        taken, self.view = self.view[: self.piece], self.view[self.piece :]
        return taken


class EgressScheduler:
    """Decides when each datagram leaves the host, so that receivers share it and switches keep up.

    All that is queued flows at the pace at which it is out after its spread. A frame of up to
    BURST_PARTS parts leaves in one piece, a larger one in even pieces BURST_GAP apart at most, and
    once begun it goes on before others begin. Lower priorities first, receivers in turn.
    """

    def __init__(self, counters: Counters) -> None:
        self._counters = counters
        self._waiting: dict[int, dict[int, deque[_Outgoing]]] = {}
        self._begun: list[tuple[float, int, _Outgoing]] = []
        self._serial = 0
        self._ends: list[tuple[float, float]] = []
        self._pace = 0.0
        self._credit = 0.0
        self._at = -math.inf

    def queue(self, receiver: int, priority: int, layout: bytearray, now: float, spread: float) -> None:
        """Take a frame's datagrams for `receiver`, to leave within `spread` seconds.

        `spread` is 0.9 of the frame interval. While a receiver's oldest frame has waited longer than an
        interval it is dropped whole, and counted.
        """
        self._advance(now)
        if not self._waiting and not self._begun:
            self._credit = min(self._credit, 0.0)
        parts = -(-len(layout) // DATAGRAM)
        pieces = -(-parts // BURST_PARTS)
        stale_at = now + spread / 0.9
        spread = min(max(spread, 0.001), MAX_SPREAD)
        frame = _Outgoing(
            receiver,
            memoryview(layout),
            -(-parts // pieces) * DATAGRAM,
            min(spread / pieces, BURST_GAP),
            stale_at,
        )
        frames = self._waiting.setdefault(priority, {}).setdefault(receiver, deque())
        frames.append(frame)
        self._drop_stale(frames, now)
        heapq.heappush(self._ends, (now + spread, len(layout) / spread))
        self._pace += len(layout) / spread

    def due(self, now: float, budget: int) -> list[tuple[int, memoryview]]:
        """(receiver, datagrams back to back) to send now: until `budget` bytes are reached or passed."""
        self._advance(now)
        leaving: list[tuple[int, memoryview]] = []
        while budget > 0 and self._credit >= 0.0:
            frame = self._pick(now)
            if frame is None:
                break
            piece = frame.take()
            leaving.append((frame.receiver, piece))
            budget -= len(piece)
            self._credit -= len(piece)
            if frame.view:
                self._serial += 1
                heapq.heappush(self._begun, (now + frame.gap, self._serial, frame))
        return leaving

    def next_due(self) -> float | None:
        """When `due` should be asked next (as of the last call); None when nothing is queued."""
        if not self._waiting and not self._begun:
            return None
        ready = self._at if self._waiting else self._begun[0][0]
        return max(ready, self._at + max(0.0, -self._credit) / max(LEAST_PACE, self._pace))

    def forget(self, receiver: int) -> None:
        """Drop what is queued for a receiver that has left."""
        for priority in list(self._waiting):
            self._waiting[priority].pop(receiver, None)
            if not self._waiting[priority]:
                del self._waiting[priority]
        self._begun = [entry for entry in self._begun if entry[2].receiver != receiver]
        heapq.heapify(self._begun)

    def _pick(self, now: float) -> _Outgoing | None:
        if self._begun and self._begun[0][0] <= now:
            return heapq.heappop(self._begun)[2]
        if not self._waiting:
            return None
        priority = min(self._waiting)
        receivers = self._waiting[priority]
        receiver, frames = next(iter(receivers.items()))
        self._drop_stale(frames, now)
        frame = frames.popleft()
        del receivers[receiver]
        if frames:
            receivers[receiver] = frames
        elif not receivers:
            del self._waiting[priority]
        return frame

    def _drop_stale(self, frames: deque[_Outgoing], now: float) -> None:
        while len(frames) > 1 and now > frames[0].stale_at:
            frames.popleft()
            self._counters.add("egress.dropped")

    def _advance(self, now: float) -> None:
        """Earn credit at the pace in force, piece by piece up to `now`."""
        while self._ends and self._ends[0][0] <= now:
            until, pace = heapq.heappop(self._ends)
            self._earn(until)
            self._pace = self._pace - pace if self._ends else 0.0
        self._earn(now)

    def _earn(self, until: float) -> None:
        if until > self._at:
            pace = max(LEAST_PACE, self._pace)
            most = max(BURST_PARTS * DATAGRAM, pace * 0.010)
            elapsed = min(until - self._at, 1.0)
            self._credit = min(most, self._credit + elapsed * pace)
            self._at = until


# -- tiles -----------------------------------------------------------------------------------
#
# The shared screen as state: a grid of 64-pixel tiles, each of which belongs to the newest rectangle that
# covers it. A rectangle lives while it owns a tile, so there are never more rectangles than tiles. Lossless
# copies are kept beside the lossy ones, for a late viewer is to see everything at once and exactly later.
# Paint order is the presenter's `version`, never the order of arrival (see TileCanvas).

TILE: Final = 64
MAX_RECTANGLE: Final = 256
STILL_AFTER: Final = 0.3


def _tiles_of(size: int) -> int:
    return -(-size // TILE)


def is_lossless(rectangle: Rectangle) -> bool:
    """Whether the rectangle shows its place exactly."""
    return rectangle.codec != Codec.JPEG


class _Places:
    """Who owns each tile: rectangles by serial number, in the order in which they came."""

    def __init__(self, rows: int, columns: int) -> None:
        self.owners = np.zeros((rows, columns), np.int64)
        self.versions = np.full((rows, columns), -1, np.int64)
        self.rectangles: dict[int, Rectangle] = {}

    def put(
        self, serial: int, rectangle: Rectangle, place: tuple[slice, slice], free: NDArray[np.bool_]
    ) -> None:
        """Give the rectangle the tiles of `place` where `free` and it is newer."""
        won = free & (self.versions[place] < rectangle.version)
        if not won.any():
            return
        self.rectangles[serial] = rectangle
        self._hand_over(place, won, serial)
        self.versions[place][won] = rectangle.version

    def release(self, version: int, place: tuple[slice, slice]) -> None:
        """Take the tiles of `place` from rectangles older than `version`."""
        self._hand_over(place, self.versions[place] < version, 0)

    def _hand_over(self, place: tuple[slice, slice], won: NDArray[np.bool_], serial: int) -> None:
        losers = np.unique(self.owners[place][won])
        self.owners[place][won] = serial
        for loser in losers.tolist():
            if loser and not (self.owners == loser).any():
                del self.rectangles[loser]


@dataclass(slots=True)
class TileCursor:
    """How far one viewer has got. `waiting` is the rest of the state it is being given, as of one commit."""

    epoch: int = -1
    lossy: int = 0
    lossless: int = 0
    commit_owed: bool = False
    waiting: deque[Rectangle] = field(default_factory=deque)


class TileTable:
    """The newest bytes of each place of the shared screen, for the server and the presenter alike.

    Rectangles count from the next `commit` on, all at once, so that no viewer is given half a change.
    """

    def __init__(self) -> None:
        self._geometry: Geometry | None = None
        self._lossy = self._lossless = _Places(0, 0)
        self._pending: list[Rectangle] = []
        self._pending_tiles = 0
        self._serial = 0
        self._version = 0

    @property
    def geometry(self) -> Geometry | None:
        """The geometry in force, None before the first."""
        return self._geometry

    def set_geometry(self, geometry: Geometry) -> None:
        """Start a new epoch; PeerFault unless it is higher than the last."""
        if self._geometry and geometry.epoch <= self._geometry.epoch:
            raise PeerFault("bad_screen", "epoch")
        rows, columns = _tiles_of(geometry.height), _tiles_of(geometry.width)
        self._geometry = geometry
        self._lossy, self._lossless = _Places(rows, columns), _Places(rows, columns)
        self._pending, self._pending_tiles = [], 0

    def put(self, rectangle: Rectangle) -> None:
        """Take a rectangle for the next commit; one of an earlier epoch is ignored.

        PeerFault when it is off the grid or when one commit would hold far more than a screen.
        """
        geometry = self._geometry
        if geometry is None or rectangle.epoch > geometry.epoch:
            raise PeerFault("bad_screen", "epoch")
        if rectangle.epoch < geometry.epoch:
            return
        _check_on_grid(rectangle, geometry)
        self._pending_tiles += _tiles_of(rectangle.width) * _tiles_of(rectangle.height)
        if self._pending_tiles > 2 * self._lossy.owners.size or len(rectangle.data) > 5 * MAX_RECTANGLE**2:
            raise PeerFault("bad_screen", "too much without a commit")
        self._pending.append(rectangle)

    def commit(self, commit: Commit) -> None:
        """Make the rectangles since the last commit the state."""
        if self._geometry is None or commit.epoch != self._geometry.epoch:
            return
        for rectangle in self._pending:
            self._apply(rectangle)
        self._version = max(self._version, commit.version)
        self._pending, self._pending_tiles = [], 0

    def since(self, cursor: TileCursor) -> Geometry | Rectangle | Commit | None:
        """The next message for the viewer at `cursor`, which moves; None when it has everything.

        A change once begun is said to its commit, so nothing tears, but the next change starts from the
        newest state: a slow viewer skips. Lossless copies come last, one to a commit.
        """
        geometry = self._geometry
        if geometry is None:
            return None
        if cursor.epoch != geometry.epoch:
            cursor.epoch, cursor.lossy, cursor.lossless = geometry.epoch, 0, 0
            cursor.commit_owed = False
            cursor.waiting.clear()
            return geometry
        if not cursor.waiting and cursor.commit_owed:
            cursor.commit_owed = False
            return Commit(geometry.epoch, self._version)
        if not cursor.waiting and not self._begin_change(cursor):
            return None
        return cursor.waiting.popleft()

    def size(self) -> int:
        """Bytes held."""
        places = (*self._lossy.rectangles.values(), *self._lossless.rectangles.values(), *self._pending)
        return sum(len(rectangle.data) for rectangle in places)

    def _begin_change(self, cursor: TileCursor) -> bool:
        for serial, rectangle in reversed(self._lossy.rectangles.items()):
            if serial <= cursor.lossy:
                break
            cursor.waiting.appendleft(rectangle)
        if cursor.waiting:
            cursor.lossy = self._serial
        else:
            exact = next((s for s in self._lossless.rectangles if s > cursor.lossless), None)
            if exact is None:
                return False
            cursor.lossless = exact
            cursor.waiting.append(self._lossless.rectangles[exact])
        cursor.commit_owed = True
        return True

    def _apply(self, rectangle: Rectangle) -> None:
        self._serial += 1
        place = _place_of(rectangle)
        if is_lossless(rectangle):
            free = self._lossy.versions[place] < rectangle.version
            self._lossless.put(self._serial, rectangle, place, free)
        else:
            self._lossy.put(self._serial, rectangle, place, np.ones_like(self._lossy.owners[place], np.bool_))
            self._lossless.release(rectangle.version, place)


def _place_of(rectangle: Rectangle) -> tuple[slice, slice]:
    """The rows and columns of tiles that the rectangle covers."""
    top, left = rectangle.y // TILE, rectangle.x // TILE
    return (
        slice(top, top + _tiles_of(rectangle.height)),
        slice(left, left + _tiles_of(rectangle.width)),
    )


def _check_on_grid(rectangle: Rectangle, geometry: Geometry) -> None:
    for start, size, whole in (
        (rectangle.x, rectangle.width, geometry.width),
        (rectangle.y, rectangle.height, geometry.height),
    ):
        end = start + size
        if start % TILE or not 0 < size <= MAX_RECTANGLE or end > whole or (end % TILE and end != whole):
            raise PeerFault("bad_screen", "off the grid")


class TileCanvas:
    """A viewer's picture: what is placed shows at the next commit, and nothing older covers newer."""

    def __init__(self) -> None:
        self.geometry = Geometry(-1, 0, 0)
        self.picture: Picture = np.zeros((0, 0, 3), np.uint8)
        self._versions = np.zeros((0, 0), np.int64)
        self._exact = np.zeros((0, 0), np.bool_)
        self._pending: list[tuple[Rectangle, Picture]] = []

    def set_geometry(self, geometry: Geometry) -> None:
        """Start with an empty picture of a new size."""
        rows, columns = _tiles_of(geometry.height), _tiles_of(geometry.width)
        self.geometry = geometry
        self.picture = np.zeros((geometry.height, geometry.width, 3), np.uint8)
        self._versions = np.full((rows, columns), -1, np.int64)
        self._exact = np.zeros((rows, columns), np.bool_)
        self._pending = []

    def place(self, rectangle: Rectangle, pixels: Picture) -> None:
        """Keep decoded BGR `pixels` for the next commit; PeerFault when they do not fit the screen."""
        if rectangle.epoch != self.geometry.epoch:
            return
        _check_on_grid(rectangle, self.geometry)
        if pixels.shape != (rectangle.height, rectangle.width, 3):
            raise PeerFault("bad_picture", "size")
        if len(self._pending) > 2 * self._versions.size:
            raise PeerFault("bad_screen", "too much without a commit")
        self._pending.append((rectangle, pixels))

    def commit(self, commit: Commit) -> bool:
        """Paint what was placed; whether the picture changed."""
        changed = False
        if commit.epoch == self.geometry.epoch:
            for rectangle, pixels in self._pending:
                changed |= self._paint(rectangle, pixels)
        self._pending = []
        return changed

    @property
    def exact(self) -> bool:
        """Whether every place shows its lossless copy."""
        return self._exact.size > 0 and bool(self._exact.all())

    def _paint(self, rectangle: Rectangle, pixels: Picture) -> bool:
        place = _place_of(rectangle)
        newer = self._versions[place] < rectangle.version
        left, top = rectangle.x, rectangle.y
        for row, column in np.argwhere(newer).tolist():
            part = pixels[row * TILE : (row + 1) * TILE, column * TILE : (column + 1) * TILE]
            y, x = top + row * TILE, left + column * TILE
            self.picture[y : y + part.shape[0], x : x + part.shape[1]] = part
        self._versions[place][newer] = rectangle.version
        self._exact[place][newer] = is_lossless(rectangle)
        return bool(newer.any())


class TileDiffer:
    """Finds the tiles that changed since the picture before."""

    def __init__(self) -> None:
        self._shape: tuple[int, ...] = ()
        self._before = self._now = np.zeros((0, 0), np.uint64)

    def changed(self, picture: Picture) -> NDArray[np.bool_]:
        """(rows, columns) of tiles, true where a pixel differs; all true for a first or resized picture.

        `picture`: height x width x 3 or 4 bytes; it is copied.
        """
        fresh = picture.shape != self._shape
        if fresh:
            self._resize(picture.shape)
        height, width, depth = picture.shape
        rows = self._now.view(np.uint8)
        rows[:height, : width * depth] = picture.reshape(height, width * depth)
        mask = np.ones((_tiles_of(height), _tiles_of(width)), np.bool_)
        if not fresh:
            for row in range(mask.shape[0]):  # band by band: what is compared stays in the cache
                band = slice(row * TILE, (row + 1) * TILE)
                bits = np.bitwise_or.reduce(self._now[band] ^ self._before[band], axis=0)
                mask[row] = bits.reshape(mask.shape[1], -1).any(axis=1)
        self._before, self._now = self._now, self._before
        return mask

    def _resize(self, shape: tuple[int, ...]) -> None:
        self._shape = shape
        words = _tiles_of(shape[1]) * TILE * shape[2] // 8
        self._before = np.zeros((shape[0], words), np.uint64)
        self._now = np.zeros((shape[0], words), np.uint64)


def _leading(flags: NDArray[np.bool_]) -> int:
    """How many flags from the first on are set."""
    return len(flags) if flags.all() else int(flags.argmin())


def merge_rectangles(
    mask: NDArray[np.bool_], width: int, height: int, most: int = MAX_RECTANGLE
) -> list[tuple[int, int, int, int]]:
    """The set tiles of `mask` as few rectangles (x, y, w, h) in pixels, disjoint, `most` pixels at most
    each way, cut at the picture's edges."""
    left = mask.copy()
    limit = most // TILE
    found: list[tuple[int, int, int, int]] = []
    for row, column in np.argwhere(mask).tolist():
        if not left[row, column]:
            continue
        columns = _leading(left[row, column : column + limit])
        rows = _leading(np.logical_and.reduce(left[row : row + limit, column : column + columns], axis=1))
        left[row : row + rows, column : column + columns] = False
        x, y = column * TILE, row * TILE
        found.append((x, y, min(columns * TILE, width - x), min(rows * TILE, height - y)))
    return found


class StillTiles:
    """Which tiles have not changed for 0.3 s and still owe their lossless copy."""

    def __init__(self, rows: int, columns: int) -> None:
        self._changed_at = np.full((rows, columns), np.inf)

    def changed(self, mask: NDArray[np.bool_], now: float) -> None:
        """The tiles of `mask` changed at `now`."""
        self._changed_at[mask] = now

    def due(self, now: float) -> NDArray[np.bool_]:
        """(rows, columns): the tiles whose lossless copy may be sent now."""
        return self._changed_at <= now - STILL_AFTER

    def sent(self, x: int, y: int, width: int, height: int) -> None:
        """The lossless copy of this rectangle, in pixels, is on its way."""
        rows = slice(y // TILE, _tiles_of(y + height))
        self._changed_at[rows, x // TILE : _tiles_of(x + width)] = np.inf

    def next_due(self) -> float | None:
        """When a tile will have been still for long enough; None when none owes a copy."""
        first = float(self._changed_at.min(initial=np.inf))
        return first + STILL_AFTER if first < math.inf else None


# -- file names ------------------------------------------------------------------------------
#
# Names come from other people. What is left here is a name, never a path, that every platform takes,
# that opens nothing and that no shell acts on when it merely lists the directory.

MAX_FILE_NAME: Final = 180  # bytes of UTF-8: room for " (2)", ".blocked" and ".part" under the usual 255
BLOCKED: Final = ".blocked"
_FORBIDDEN: Final = str.maketrans(dict.fromkeys('<>:"|?*', "_"))
_DEVICE: Final = re.compile(
    r"(con|prn|aux|nul|conin\$|conout\$|clock\$|(com|lpt)[0-9¹²³]) *(\.|$)", re.IGNORECASE
)
_CLASS_ID: Final = re.compile(r"\{[0-9a-f-]+\}", re.IGNORECASE)
_EXECUTABLE: Final = frozenset(
    """
    appimage app application appref-ms bash bat bin btm bundle chm cmd com command cpl csh deb dll dmg
    dylib elf exe fish gadget hlp hta inf ins iso isp img jar job jnlp js jse ksh mpkg mjs msc msh msh1
    msh2 msi msix msixbundle msp mst ocx pif pkg pl ps1 ps1xml ps2 psc1 psc2 psd1 psm1 py pyc pyo pyw pyz
    pyzw rb reg rgs rpm run scpt scptd scr sct sh shb so sys tcsh terminal tool vb vbe vbs vbscript vhd
    vhdx vxd workflow ws wsc wsf wsh xbap xll zsh action appx appxbundle
    """.split()  # noqa: SIM905 - a word a line would hide the list
)
_ACTED_ON: Final = frozenset(
    """
    contact desklink desktop desktopthemepack deskthemepack diagcab directory fileloc inetloc library-ms
    lnk mad maf mag mam maq mar mas mat mau mav maw mda mapimail searchconnector-ms search-ms scf
    settingcontent-ms theme themepack url webloc website
    """.split()  # noqa: SIM905 - a word a line would hide the list
)
_ACTED_ON_NAMES: Final = frozenset(["desktop.ini", "autorun.inf", "thumbs.db", "folder.htt"])


def safe_file_name(text: str) -> str:
    """A file name made of `text`, whoever wrote it: its last component, without control, format or
    bidi characters, device names, streams, or dots and spaces at its ends; at most MAX_FILE_NAME bytes.

    Kinds that run, or that a shell acts on when it lists them, get ".blocked" appended. Applied twice it
    changes nothing.
    """
    last = re.split(r"[/\\]", text.rstrip("/\\ "))[-1]
    shown = "".join(" " if c.isspace() else c for c in last)
    kept = "".join(c for c in shown if unicodedata.category(c)[0] != "C")
    name = " ".join(unicodedata.normalize("NFC", kept).translate(_FORBIDDEN).split()).strip(". ")
    core = name.removesuffix(BLOCKED).rstrip(". ") or "file"
    core = _shorten("_" + core if _DEVICE.match(core) else core)
    blocked = name.endswith(BLOCKED) or _is_blocked_kind(core)
    return core + BLOCKED if blocked else core


def is_executable_name(name: str) -> bool:
    """Whether a file of this name, or of this name before it was blocked, is a program on some platform."""
    extension = _extension(name.removesuffix(BLOCKED))
    return extension in _EXECUTABLE or _CLASS_ID.fullmatch(extension) is not None


def unique_name(name: str, exists: Callable[[str], bool]) -> str:
    """`name`, or the first of "name (2).ext", "name (3).ext" ... that does not exist."""
    if not exists(name):
        return name
    stem, dot, extension = name.rpartition(".")
    if not stem:
        stem, dot, extension = name, "", ""
    number = 2
    while exists(f"{stem} ({number}){dot}{extension}"):
        number += 1
    return f"{stem} ({number}){dot}{extension}"


def _extension(name: str) -> str:
    return name.rpartition(".")[2].strip().casefold() if "." in name else ""


def _is_blocked_kind(name: str) -> bool:
    acted_on = _extension(name) in _ACTED_ON or name.casefold() in _ACTED_ON_NAMES
    return acted_on or is_executable_name(name)


def _shorten(name: str) -> str:
    """`name` in MAX_FILE_NAME bytes at most, its extension kept where that is of a sane length."""
    if len(name.encode()) <= MAX_FILE_NAME:
        return name
    stem, dot, extension = name.rpartition(".")
    if not stem or len(extension.encode()) > 20:
        stem, dot, extension = name, "", ""
    room = MAX_FILE_NAME - len((dot + extension).encode())
    return stem.encode()[:room].decode("utf-8", "ignore").strip(". ") + dot + extension


# ======================================================================================
# [4] ROOM - who is in the meeting and who must receive what
# Uses: BASICS, WIRE
# ======================================================================================


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
# Uses: BASICS, WIRE, MEDIA
# ======================================================================================

# -- UDP ---------------------------------------------------------------------------------------

GSO_PARTS: Final = 58  # 64 kB, the most that one call takes on every kernel
BUFFER: Final = 4 << 20
LARGEST_READ: Final = 65_536
_UDP_SEGMENT: Final = 103  # Linux: let the kernel cut one buffer into datagrams (GSO)
_UDP_GRO: Final = 104  # Linux: let the kernel join datagrams of one sender into one buffer
_SO_SNDBUFFORCE: Final = 32
_SO_RCVBUFFORCE: Final = 33
_SEGMENT_SIZE: Final = struct.Struct("=H")
_GRO_SIZE: Final = struct.Struct("=i")
_NO_GSO: Final = frozenset([errno.EIO, errno.EINVAL, errno.ENOPROTOOPT, errno.EMSGSIZE])
_FULL: Final = frozenset([errno.EAGAIN, errno.EWOULDBLOCK, errno.ENOBUFS])

Address: TypeAlias = tuple[str, int]


class UdpPort:
    """A non-blocking UDP socket that sends a frame, and reads one, in as few calls as the kernel allows.

    Nothing that the network does raises: full buffers, vanished peers and missing routes are counted as
    `udp.full`, `udp.reset` and `udp.error`. OSError when the address cannot be bound.
    """

    def __init__(self, bind: Address, counters: Counters, connect: Address | None = None) -> None:
        self._counters = counters
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._slots: list[memoryview] = []
        try:
            self._socket.setblocking(False)
            self._enlarge_buffers()
            self._gso = sys.platform == "linux"
            self._gro = sys.platform == "linux" and self._ask_for_gro()
            self._socket.bind(bind)
            if connect is not None:
                self._socket.connect(connect)
        except OSError:
            self._socket.close()
            raise

    @property
    def port(self) -> int:
        """The local port."""
        return int(self._socket.getsockname()[1])

    @property
    def buffers(self) -> tuple[int, int]:
        """Bytes of receive and send buffer that the system really gave."""
        return (
            self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF),
            self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF),
        )

    def fileno(self) -> int:
        """For a selector; -1 once closed."""
        return self._socket.fileno()

    def send(self, datagram: bytes | bytearray | memoryview, address: Address | None = None) -> bool:
        """Send one datagram, to the connected peer if `address` is None; whether the system took it."""
        return self._attempt(lambda: self._send_plain(datagram, address))

    def send_frame(self, layout: bytes | bytearray | memoryview, address: Address | None = None) -> bool:
        """Send datagrams that lie back to back, all of DATAGRAM bytes but the last; False when the
        buffer was full and the rest of the frame was dropped."""
        view = memoryview(layout)
        most = GSO_PARTS * DATAGRAM
        return all(
            self._send_batch(view[start : start + most], address) for start in range(0, len(view), most)
        )

    def receive(self, most: int) -> list[tuple[memoryview, int, Address]]:
        """Up to `most` buffers that have come: (datagrams back to back, size of each, from whom).

        The last datagram of a buffer may be shorter. The views hold until the next call.
        """
        received: list[tuple[memoryview, int, Address]] = []
        for slot in self._slots_for(most):
            try:
                size, segment, address = self._read(slot)
            except OSError as error:
                if error.errno in _FULL:
                    break
                self._count(error)
                continue
            received.append((slot[:size], segment, address))
        return received

    def close(self) -> None:
        """Give the port back. May be called twice."""
        self._socket.close()

    def _slots_for(self, most: int) -> Iterator[memoryview]:
        """The buffers to read into, used anew at each call."""
        for index in range(most):
            if index == len(self._slots):
                self._slots.append(memoryview(bytearray(LARGEST_READ)))
            yield self._slots[index]

    def _read(self, slot: memoryview) -> tuple[int, int, Address]:
        if not self._gro:
            size, address = self._socket.recvfrom_into(slot)
            return size, size, address
        size, control, _, address = self._socket.recvmsg_into([slot], socket.CMSG_SPACE(_GRO_SIZE.size))
        for level, kind, data in control:
            if level == socket.IPPROTO_UDP and kind == _UDP_GRO:
                return size, _GRO_SIZE.unpack_from(data)[0], address
        return size, size, address

    def _send_batch(self, batch: memoryview, address: Address | None) -> bool:
        if self._gso and len(batch) > DATAGRAM:
            try:
                return self._attempt(lambda: self._send_segmented(batch, address), _NO_GSO)
            except OSError as error:
                log.info("the system cannot cut datagrams here (%s): sent one by one from now on", error)
                self._counters.add("udp.no_gso")
                self._gso = False
        return all(
            self.send(batch[start : start + DATAGRAM], address) for start in range(0, len(batch), DATAGRAM)
        )

    def _send_plain(self, datagram: bytes | bytearray | memoryview, address: Address | None) -> None:
        if address is None:
            self._socket.send(datagram)
        else:
            self._socket.sendto(datagram, address)

    def _send_segmented(self, batch: memoryview, address: Address | None) -> None:
        control = [(socket.IPPROTO_UDP, _UDP_SEGMENT, _SEGMENT_SIZE.pack(DATAGRAM))]
        if address is None:
            self._socket.sendmsg([batch], control)
        else:
            self._socket.sendmsg([batch], control, 0, address)

    def _attempt(self, send: Callable[[], None], raised: frozenset[int] = frozenset()) -> bool:
        """Whether `send` worked; a connected socket may first report what became of an earlier datagram,
        so that a refusal is tried once more. Errors in `raised` go to the caller."""
        for _ in range(2):
            try:
                send()
                return True
            except OSError as error:
                if error.errno in raised:
                    raise
                self._count(error)
                if not isinstance(error, ConnectionError):
                    break
        return False

    def _count(self, error: OSError) -> None:
        if isinstance(error, ConnectionError):
            self._counters.add("udp.reset")
        else:
            self._counters.add("udp.full" if error.errno in _FULL else "udp.error")

    def _enlarge_buffers(self) -> None:
        for option, force in ((socket.SO_RCVBUF, _SO_RCVBUFFORCE), (socket.SO_SNDBUF, _SO_SNDBUFFORCE)):
            with contextlib.suppress(OSError):
                self._socket.setsockopt(socket.SOL_SOCKET, option, BUFFER)
            if sys.platform == "linux":
                with contextlib.suppress(OSError):  # beyond the system's limit, where it is allowed
                    self._socket.setsockopt(socket.SOL_SOCKET, force, BUFFER)

    def _ask_for_gro(self) -> bool:
        try:
            self._socket.setsockopt(socket.IPPROTO_UDP, _UDP_GRO, 1)
        except OSError:
            return False
        return True


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
