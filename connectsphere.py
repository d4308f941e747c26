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
import json
import logging
import math
import os
import queue
import random
import re
import struct
import sys
import threading
import time
import unicodedata
import webbrowser
from bisect import bisect_right
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal, NamedTuple, Protocol, TypeAlias, cast

import numpy as np
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from numpy.typing import NDArray

if TYPE_CHECKING:
    import tkinter as tk
    from tkinter import font as tkfont

    from PIL import Image, ImageDraw, ImageFont, ImageTk

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
#
# Promises: every control draws itself from one palette and one scale and reports by calling back; pictures
# are composed off the Tk thread. Leaves out: what a meeting is. Only `Look` creates Tk objects.
# ======================================================================================


Photo: TypeAlias = "ImageTk.PhotoImage"
Box: TypeAlias = tuple[int, int, int, int]  # x, y, width, height


@dataclass(frozen=True, slots=True)
class Palette:
    """The colours of everything, as #rrggbb; text on card is at least 7:1 in each palette."""

    window: str = "#0D1015"
    panel: str = "#14181F"
    card: str = "#1B222B"
    raised: str = "#252D38"
    line: str = "#2A323D"
    text: str = "#E9EEF4"
    second: str = "#A3AFBD"
    third: str = "#8492A1"
    accent: str = "#356BDD"
    accent_high: str = "#4A7DEB"
    link: str = "#7FAAFF"
    focus: str = "#4F8CFF"
    chosen: str = "#222E45"
    good: str = "#3DDC97"
    warn: str = "#F5B454"
    bad: str = "#F2555A"
    bad_text: str = "#FF9A94"
    on_accent: str = "#FFFFFF"
    tile: str = "#1A2029"


DARK: Final = Palette()
LIGHT: Final = Palette(
    window="#E9EDF2", panel="#F6F8FA", card="#FFFFFF", raised="#E3E8EE", line="#C9D1DA", text="#161C24",
    second="#434F5C", third="#5A6673", accent="#2F62CF", accent_high="#2653B4", link="#2456C4",
    focus="#2F6BF0",
    chosen="#DCE7FD", good="#0E7A4B", warn="#8F5A00", bad="#CE2F36", bad_text="#B3232B", tile="#D5DCE4",
)  # fmt: skip
CONTRAST: Final = Palette(
    window="#000000", panel="#000000", card="#0A0A0A", raised="#262626", line="#FFFFFF", text="#FFFFFF",
    second="#F0F0F0", third="#E0E0E0", accent="#0047C2", accent_high="#0A5CF0", link="#8FC1FF",
    focus="#FFE600",
    chosen="#003080", good="#4DFFA6", warn="#FFD24D", bad="#D6002A", bad_text="#FF9EA6", tile="#141414",
)  # fmt: skip
PALETTES: Final = {"dark": DARK, "light": LIGHT, "contrast": CONTRAST}
AVATARS: Final = (
    ("#5B8DEF", "#3157C8"), ("#57B894", "#2C7F62"), ("#E0679B", "#A93A6E"), ("#B07CE8", "#7A45BC"),
    ("#E8995B", "#B3652A"), ("#4FB3C9", "#25788C"), ("#D96C6C", "#A13D3D"), ("#8E9B4E", "#616C28"),
)  # fmt: skip


class Metrics:
    """Sizes in logical pixels, multiplied once by the display's and the user's scale."""

    def __init__(self, scale: float = 1.0) -> None:
        self.scale = max(0.75, min(4.0, scale))

    def __call__(self, size: float) -> int:
        """`size` logical pixels in real ones, at least 1 for anything above 0."""
        return max(1, round(size * self.scale)) if size > 0 else round(size * self.scale)


class Translator:
    """The user's language. The English sentence is its own key; what is missing stays English."""

    def __init__(self, table: Mapping[str, Mapping[str, str]]) -> None:
        self.table = table
        self.language = "en"

    def __call__(self, text: str, **values: object) -> str:
        """`text` in the user's language with `values` put in for its {names}."""
        found = self.table.get(text, {}).get(self.language, text)
        return found.format(**values) if values else found


TEXTS: Final[dict[str, dict[str, str]]] = {}
tr: Final = Translator(TEXTS)

# Strokes on a 24 x 24 field: L line points, R rounded box x0 y0 x1 y1 radius, A arc box from to (degrees,
# clockwise from 3 o'clock), C circle x y r, D filled circle x y r, P filled polygon.
ICONS: Final = """
mic: R 9 2.5 15 14 3 | A 5.5 4.5 18.5 17.5 8 172 | L 12 17.5 12 21 | L 9 21 15 21
camera: R 2.5 6 15.5 18 3 | L 15.5 10.8 21.5 7.2 21.5 16.8 15.5 13.2
share: R 2.5 3.5 21.5 16.5 2.5 | L 12 13.5 12 7 | L 9 9.5 12 6.8 15 9.5 | L 8 20.5 16 20.5 |
    L 12 16.5 12 20.5
hand: L 7 13.5 7 7 | A 7 5.4 10.2 8.6 180 360 | L 10.2 11 10.2 4.6 | A 10.2 3 13.4 6.2 180 360 |
    L 13.4 11 13.4 4.6 | A 13.4 3.8 16.6 7 180 360 | L 16.6 11.5 16.6 5.4 | A 16.6 6.4 19.8 9.6 180 360 |
    L 19.8 8 19.8 15 | A 7.6 9.6 19.8 21.8 0 128 | L 9.9 20.5 7.6 18.6 3.6 13.4 |
    A 3.1 10.9 5.9 13.7 130 290 | L 5.3 11.4 7 13.5
smile: C 12 12 9 | D 8.8 9.8 1.1 | D 15.2 9.8 1.1 | A 7.8 8.4 16.2 16.6 20 160
chat: L 8.5 17.5 4.5 20.5 4.5 16 | R 3 4 21 17.5 4
users: C 9 8 3.6 | A 2.5 13.6 15.5 27 190 350 | A 13 4.4 20.2 11.6 270 450 | A 11.5 13.8 22 26 285 345
gear: C 12 12 2.8 | C 12 12 6.6 | L 18.6 12 21.4 12 | L 16.7 16.7 18.6 18.6 | L 12 18.6 12 21.4 |
    L 7.3 16.7 5.4 18.6 | L 5.4 12 2.6 12 | L 7.3 7.3 5.4 5.4 | L 12 5.4 12 2.6 | L 16.7 7.3 18.6 5.4
leave: L 13 4 6 4 4 6 4 18 6 20 13 20 | L 9.5 12 20.5 12 | L 16.8 8.3 20.5 12 16.8 15.7
grid: R 3.5 3.5 10.2 10.2 1.6 | R 13.8 3.5 20.5 10.2 1.6 | R 3.5 13.8 10.2 20.5 1.6 |
    R 13.8 13.8 20.5 20.5 1.6
speaker: R 3 3.5 21 14.5 2.2 | R 3 17.8 7.4 20.8 1 | R 9.8 17.8 14.2 20.8 1 | R 16.6 17.8 21 20.8 1
focus: R 3 4.5 21 19.5 2.5 | R 14.2 13.2 18.2 16.7 1
full: L 3.5 9 3.5 3.5 9 3.5 | L 15 3.5 20.5 3.5 20.5 9 | L 20.5 15 20.5 20.5 15 20.5 |
    L 9 20.5 3.5 20.5 3.5 15
pin: L 9 3.5 15 3.5 | L 10 3.5 10 10.5 7 14.5 17 14.5 14 10.5 14 3.5 | L 12 14.5 12 21
lock: R 5 10.5 19 21 2.2 | A 8 3 16 12 180 360 | L 8 7.5 8 10.5 | L 16 7.5 16 10.5 | D 12 15.7 1.3
send: L 21 3 10.5 13.5 | L 21 3 14.4 21 10.5 13.5 3 9.6 21 3
clip: L 20.5 11 12 19.5 | A 2.9 10.6 13.1 20.8 45 225 | L 4.4 12 12.4 4 | A 11.4 2.8 18.6 10 225 405 |
    L 17.5 9 9.6 16.9 | A 6 13.1 10.3 17.4 45 225 | L 6.6 13.7 13.7 6.6
file: L 14 3 6.5 3 5 4.5 5 19.5 6.5 21 17.5 21 19 19.5 19 8 14 3 | L 14 3 14 8 19 8
folder: L 3 18 3 6 4.5 4.5 9 4.5 11.5 7.5 19.5 7.5 21 9 21 18 19.5 19.5 4.5 19.5 3 18
download: L 12 3.5 12 15 | L 7.5 10.7 12 15 16.5 10.7 | L 4 19.5 20 19.5
upload: L 12 15.5 12 4 | L 7.5 8.3 12 4 16.5 8.3 | L 4 19.5 20 19.5
down: L 6.5 9.5 12 15 17.5 9.5
left: L 14.5 6 8.5 12 14.5 18
right: L 9.5 6 15.5 12 9.5 18
close: L 6 6 18 18 | L 18 6 6 18
check: L 4.5 12.5 10 18 19.5 6.5
plus: L 12 5 12 19 | L 5 12 19 12
minus: L 5 12 19 12
more: D 5 12 1.7 | D 12 12 1.7 | D 19 12 1.7
volume: L 3.5 9.5 7 9.5 12 5 12 19 7 14.5 3.5 14.5 3.5 9.5 | A 10 7.5 17.5 16.5 310 410 |
    A 7.5 4 21 20 312 408
keyboard: R 2.5 5.5 21.5 18.5 2.5 | D 6.5 10 1 | D 10.2 10 1 | D 13.8 10 1 | D 17.5 10 1 |
    L 8 14.5 16 14.5
person: C 12 7.5 4 | A 4 14 20 30 190 350
shield: L 12 3 19.5 5.8 19.5 11.5 17.5 16.5 12 21 6.5 16.5 4.5 11.5 4.5 5.8 12 3
info: C 12 12 9 | L 12 11 12 16.5 | D 12 7.6 1.2
warning: L 12 3.8 21.5 20 2.5 20 12 3.8 | L 12 10 12 14.3 | D 12 17.1 1.1
bars: P 4 9 7.4 9 7.4 15 4 15 | P 10.3 5 13.7 5 13.7 19 10.3 19 | P 16.6 9 20 9 20 15 16.6 15
reply: L 9 6 3.5 11.5 9 17 | L 3.5 11.5 15 11.5 19 13.5 20.5 18.5
eye: A 2 4.5 22 24.5 205 335 | A 2 -0.5 22 19.5 25 155 | C 12 12 3
"""
STROKE: Final = 1.75
OVERSAMPLE: Final = 6


def shaped(text: str) -> bool:
    """Whether `text` needs right-to-left order or joining, which Tk does not do on every system."""
    return any(0x590 <= ord(char) <= 0x109F or 0xFB1D <= ord(char) <= 0xFEFC for char in text)


def initials(name: str) -> str:
    """One or two letters that stand for a name."""
    words = [word for word in name.split() if word[0].isalnum()]
    return "".join(word[0] for word in (words[:1] + words[1:][-1:])).upper() or "?"


def avatar_colours(name: str) -> tuple[str, str]:
    """The two colours of a name, the same on every computer."""
    return AVATARS[sum(ord(char) * (3 + at % 5) for at, char in enumerate(name)) % len(AVATARS)]


def rgb(colour: str) -> tuple[int, int, int]:
    """The three values of a #rrggbb colour."""
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)


@lru_cache(maxsize=256)
def round_mask(width: int, height: int, radius: int) -> Image.Image:
    """An "L" mask of a box with round corners, drawn large and shrunk."""
    from PIL import Image, ImageDraw

    radius = max(0, min(radius, width // 2, height // 2))
    mask = Image.new("L", (width, height), 255)
    if not radius:
        return mask
    big = Image.new("L", (radius * 2 * OVERSAMPLE,) * 2, 0)
    ImageDraw.Draw(big).ellipse((0, 0, big.width - 1, big.height - 1), fill=255)
    disc = big.resize((radius * 2, radius * 2), Image.Resampling.LANCZOS)
    for x, left in ((0, 0), (width - radius, radius)):
        for y, top in ((0, 0), (height - radius, radius)):
            mask.paste(disc.crop((left, top, left + radius, top + radius)), (x, y))
    return mask


def rounded(width: int, height: int, radius: int, fill: str, outline: str = "", line: int = 0) -> Image.Image:
    """An RGBA box with round corners; `fill` may be "" for a bare outline."""
    from PIL import Image, ImageChops

    outer = round_mask(width, height, radius)
    picture = Image.new("RGBA", (width, height), (*rgb(outline or fill), 0))
    if not (outline and line):
        picture.putalpha(outer)
        return picture
    inner = Image.new("L", (width, height), 0)
    inner.paste(round_mask(width - 2 * line, height - 2 * line, radius - line), (line, line))
    if fill:
        picture.paste(rgb(fill), (0, 0), inner)
    picture.putalpha(outer if fill else ImageChops.subtract(outer, inner))
    return picture


def shadowed(picture: Image.Image, blur: int, strength: int = 150) -> Image.Image:
    """`picture` over its own soft shadow, larger by `blur` on every side."""
    from PIL import Image, ImageFilter

    big = Image.new("RGBA", (picture.width + 2 * blur, picture.height + 2 * blur), (0, 0, 0, 0))
    alpha = Image.new("L", big.size, 0)
    alpha.paste(
        picture.getchannel("A").point(lambda value: value * strength // 255), (blur, blur + blur // 4)
    )
    big.putalpha(alpha.filter(ImageFilter.GaussianBlur(blur / 2.2)))
    big.alpha_composite(picture, (blur, blur))
    return big


@lru_cache(maxsize=256)
def draw_icon(name: str, size: int, colour: str, slash: str = "") -> Image.Image:
    """An icon of `size` pixels; `slash` crosses it out in that colour."""
    from PIL import Image, ImageDraw

    unit = size * OVERSAMPLE / 24
    mask = Image.new("L", (size * OVERSAMPLE,) * 2, 0)
    draw = ImageDraw.Draw(mask)
    for kind, numbers in icon_shapes()[name]:
        _stroke(draw, kind, [number * unit for number in numbers], numbers, unit)
    if slash:
        _line(draw, [4.2 * unit, 2.8 * unit, 21.4 * unit, 20 * unit], STROKE * 2.2 * unit, 0)
    small = mask.resize((size, size), Image.Resampling.LANCZOS)
    picture = Image.new("RGBA", (size, size), (*rgb(colour), 0))
    picture.putalpha(small)
    if slash:
        bar = Image.new("L", mask.size, 0)
        _line(ImageDraw.Draw(bar), [3.2 * unit, 3.6 * unit, 20.4 * unit, 20.8 * unit], STROKE * unit, 255)
        picture.paste(rgb(slash), (0, 0), bar.resize((size, size), Image.Resampling.LANCZOS))
        picture.putalpha(_brighter(small, bar.resize((size, size), Image.Resampling.LANCZOS)))
    return picture


def _brighter(one: Image.Image, two: Image.Image) -> Image.Image:
    from PIL import ImageChops

    return ImageChops.lighter(one, two)


def _line(draw: ImageDraw.ImageDraw, points: Sequence[float], width: float, value: int) -> None:
    """A poly-line with round ends and joints, which Pillow does not draw by itself."""
    pairs = list(zip(points[::2], points[1::2], strict=True))
    draw.line(pairs, fill=value, width=round(width))
    for x, y in pairs:
        draw.ellipse((x - width / 2, y - width / 2, x + width / 2, y + width / 2), fill=value)


def _stroke(
    draw: ImageDraw.ImageDraw, kind: str, at: Sequence[float], raw: Sequence[float], unit: float
) -> None:
    width, half = STROKE * unit, STROKE * unit / 2
    if kind == "L":
        _line(draw, at, width, 255)
    elif kind == "P":
        draw.polygon(list(zip(at[::2], at[1::2], strict=True)), fill=255)
    elif kind == "D":
        draw.ellipse((at[0] - at[2], at[1] - at[2], at[0] + at[2], at[1] + at[2]), fill=255)
    elif kind == "C":
        reach = at[2] + half
        box = (at[0] - reach, at[1] - reach, at[0] + reach, at[1] + reach)
        draw.ellipse(box, outline=255, width=round(width))
    elif kind == "R":
        box = (at[0] - half, at[1] - half, at[2] + half, at[3] + half)
        draw.rounded_rectangle(box, at[4] + half, outline=255, width=round(width))
    else:
        _arc(draw, at, raw[4], raw[5], width)


def _arc(draw: ImageDraw.ImageDraw, at: Sequence[float], start: float, end: float, width: float) -> None:
    middle = (at[0] + at[2]) / 2, (at[1] + at[3]) / 2
    reach = (at[2] - at[0]) / 2, (at[3] - at[1]) / 2
    steps = max(8, round((end - start) / 6))
    angles = [math.radians(start + (end - start) * k / steps) for k in range(steps + 1)]
    _line(
        draw,
        [v for a in angles for v in (middle[0] + reach[0] * math.cos(a), middle[1] + reach[1] * math.sin(a))],
        width,
        255,
    )


class Fonts:
    """Font files for what Pillow writes: the interface's face, and one for each script that it lacks."""

    SCRIPTS: ClassVar = """
0590-05FF NotoSansHebrew-Regular.ttf segoeui.ttf ArialHB.ttc DejaVuSans.ttf
0600-08FF NotoSansArabic-Regular.ttf NotoNaskhArabic-Regular.ttf segoeui.ttf GeezaPro.ttc DejaVuSans.ttf
0900-097F NotoSansDevanagari-Regular.ttf Nirmala.ttf Kohinoor.ttc Lohit-Devanagari.ttf
0980-09FF NotoSansBengali-Regular.ttf Nirmala.ttf KohinoorBangla.ttc
0A00-0A7F NotoSansGurmukhi-Regular.ttf Nirmala.ttf
0A80-0AFF NotoSansGujarati-Regular.ttf Nirmala.ttf
0B80-0BFF NotoSansTamil-Regular.ttf Nirmala.ttf
0C00-0C7F NotoSansTelugu-Regular.ttf Nirmala.ttf
0E00-0E7F NotoSansThai-Regular.ttf LeelawUI.ttf Thonburi.ttc
10A0-10FF NotoSansGeorgian-Regular.ttf segoeui.ttf DejaVuSans.ttf
2E80-9FFF NotoSansCJK-Regular.ttc msyh.ttc YuGothM.ttc PingFang.ttc wqy-microhei.ttc
AC00-D7AF NotoSansCJK-Regular.ttc malgun.ttf AppleSDGothicNeo.ttc
FB1D-FB4F NotoSansHebrew-Regular.ttf segoeui.ttf DejaVuSans.ttf
FB50-FEFC NotoSansArabic-Regular.ttf segoeui.ttf DejaVuSans.ttf
"""
    PLAIN: ClassVar = "segoeui.ttf Inter-Medium.otf NotoSans-Medium.ttf HelveticaNeue.ttc DejaVuSans.ttf"
    BOLD: ClassVar = "seguisb.ttf Inter-SemiBold.otf NotoSans-Bold.ttf HelveticaNeue.ttc DejaVuSans-Bold.ttf"

    def __init__(self) -> None:
        self._files = self._find()
        self._faces = tuple(self.PLAIN.split()), tuple(self.BOLD.split())
        self._scripts = [
            (int(span[:4], 16), int(span[5:], 16), tuple(names))
            for span, *names in map(str.split, self.SCRIPTS.strip().splitlines())
        ]
        self._open: dict[tuple[tuple[str, ...], int], ImageFont.FreeTypeFont | ImageFont.ImageFont] = {}
        self._lock = threading.Lock()

    @staticmethod
    def _find() -> dict[str, Path]:
        """Every font file of the usual places by its name."""
        home = Path.home()
        places = [
            Path("/usr/share/fonts"), Path("/usr/local/share/fonts"), home / ".local/share/fonts",
            Path(os.environ.get("WINDIR", "C:/Windows")) / "Fonts", Path("/System/Library/Fonts"),
            Path("/Library/Fonts"),
        ]  # fmt: skip
        return {
            name: Path(at) / name for place in places for at, _, names in os.walk(place) for name in names
        }

    def face(self, names: tuple[str, ...], size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
        """The first of `names` that this computer has, at `size` pixels."""
        from PIL import ImageFont

        with self._lock:
            if (names, size) not in self._open:
                path = next((self._files[name] for name in names if name in self._files), None)
                self._open[names, size] = (
                    ImageFont.truetype(str(path), size) if path else ImageFont.load_default(size)
                )
            return self._open[names, size]

    def _names(self, char: str, bold: bool) -> tuple[str, ...]:
        code = ord(char)
        found = (names for low, high, names in self._scripts if low <= code <= high)
        return next(found, self._faces[bold])

    def runs(self, text: str, bold: bool) -> list[tuple[str, tuple[str, ...]]]:
        """`text` in pieces of one font each, in the order they stand from left to right."""
        found: list[tuple[str, tuple[str, ...]]] = []
        for char in text:
            names = (
                self._names(char, bold)
                if char.isalnum() or unicodedata.combining(char) or not found
                else found[-1][1]
            )
            if found and found[-1][1] == names:
                found[-1] = (found[-1][0] + char, names)
            else:
                found.append((char, names))
        first = next((unicodedata.bidirectional(char) for char in text if char.isalpha()), "L")
        return found[::-1] if first in ("R", "AL") else found

    def width(self, text: str, size: int, bold: bool = False) -> int:
        """How many pixels wide `text` is."""
        return math.ceil(sum(self.face(names, size).getlength(run) for run, names in self.runs(text, bold)))

    def clip(self, text: str, size: int, room: int, bold: bool = False) -> str:
        """`text`, shortened with an ellipsis where it is wider than `room` pixels."""
        if self.width(text, size, bold) <= room:
            return text
        low, high = 0, len(text)
        while low < high:
            middle = (low + high + 1) // 2
            fits = self.width(text[:middle].rstrip() + "…", size, bold) <= room
            low, high = (middle, high) if fits else (low, middle - 1)
        return text[:low].rstrip() + "…"

    def write(
        self,
        draw: ImageDraw.ImageDraw,
        x: int,
        middle: int,
        text: str,
        size: int,
        colour: str,
        bold: bool = False,
    ) -> None:
        """Write `text` from `x`, its capitals centred on the line `middle`."""
        at = float(x)
        for run, names in self.runs(text, bold):
            face = self.face(names, size)
            draw.text((at, middle + size * 0.36), run, fill=colour, font=face, anchor="ls")
            at += face.getlength(run)

    def line(self, text: str, size: int, colour: str, room: int, bold: bool = False) -> Image.Image:
        """One line of text as an RGBA picture of its own, at most `room` wide."""
        from PIL import Image, ImageDraw

        text = self.clip(text, size, room, bold)
        picture = Image.new(
            "RGBA", (max(1, self.width(text, size, bold)), round(size * 1.6)), (*rgb(colour), 0)
        )
        self.write(ImageDraw.Draw(picture), 0, picture.height // 2, text, size, colour, bold)
        return picture


@lru_cache(maxsize=1)
def fonts() -> Fonts:
    """The one set of fonts that Pillow writes with."""
    return Fonts()


@lru_cache(maxsize=256)
def draw_avatar(name: str, size: int) -> Image.Image:
    """A round picture of `size` pixels with the initials of `name`."""
    from PIL import Image, ImageDraw

    top, bottom = (rgb(colour) for colour in avatar_colours(name))
    ramp = np.linspace(0, 1, size)[:, None, None]
    rows = np.broadcast_to(np.array(top) * (1 - ramp) + np.array(bottom) * ramp, (size, size, 3))
    picture = Image.fromarray(np.ascontiguousarray(rows.astype(np.uint8)), "RGB").convert("RGBA")
    text, high = initials(name), round(size * 0.38)
    at = (size - fonts().width(text, high, bold=True)) // 2
    fonts().write(ImageDraw.Draw(picture), at, size // 2, text, high, "#FFFFFF", bold=True)
    picture.putalpha(round_mask(size, size, size // 2))
    return picture


@lru_cache(maxsize=8)
def draw_logo(size: int) -> Image.Image:
    """The program's sign: an open ring around a dot on a blue and violet field."""
    from PIL import Image, ImageDraw

    big = size * OVERSAMPLE
    ramp = np.add.outer(np.linspace(0, 0.5, big), np.linspace(0, 0.5, big))[..., None]
    field_ = np.array(rgb("#4F8CFF")) * (1 - ramp) + np.array(rgb("#6A3DE8")) * ramp
    picture = Image.fromarray(field_.astype(np.uint8), "RGB")
    draw = ImageDraw.Draw(picture)
    draw.arc(
        (big * 0.24, big * 0.24, big * 0.76, big * 0.76), 50, 310, fill="#FFFFFF", width=round(big * 0.1)
    )
    draw.ellipse((big * 0.42, big * 0.42, big * 0.58, big * 0.58), fill="#FFFFFF")
    small = picture.resize((size, size), Image.Resampling.LANCZOS).convert("RGBA")
    small.putalpha(round_mask(size, size, round(size * 0.24)))
    return small


# Our own emoji on a 100 x 100 field, each step with its colour: C circle x y r, O ellipse box, G polygon,
# L line width points, A arc width box from to, F face eyes mouth (from the parts below).
FACES: Final = """
face: C E9A91F 50 52 45 | C FFCF47 50 49 44
eyes dots: O 5B3A12 29 32 41 50 | O 5B3A12 59 32 71 50
eyes glad: A 5B3A12 6 24 34 46 56 190 350 | A 5B3A12 6 54 34 76 56 190 350
eyes shut: A 5B3A12 6 24 28 46 48 10 170 | A 5B3A12 6 54 28 76 48 10 170
eyes wink: O 5B3A12 29 32 41 50 | A 5B3A12 6 54 34 76 56 190 350
eyes wide: C FFFFFF 34 38 12 | C FFFFFF 66 38 12 | C 5B3A12 34 39 6 | C 5B3A12 66 39 6
eyes love: C E8334A 28 35 8 | C E8334A 40 35 8 | G E8334A 20 38 48 38 34 54 | C E8334A 60 35 8 |
    C E8334A 72 35 8 | G E8334A 52 38 80 38 66 54
eyes cool: G 23262B 12 32 88 32 84 52 58 52 52 40 48 40 42 52 16 52
eyes up: O 5B3A12 29 26 41 42 | O 5B3A12 59 26 71 42 | L 5B3A12 4 56 20 74 16
mouth smile: A 5B3A12 6 26 36 74 78 20 160
mouth open: G 5B3A12 22 56 78 56 74 70 62 82 50 85 38 82 26 70 | O F2657A 36 72 64 90 | C FFCF47 50 96 11 |
    G FFFFFF 25 56 75 56 72 63 28 63
mouth oh: O 5B3A12 38 58 62 84
mouth sad: A 5B3A12 6 30 64 70 94 200 340
mouth flat: L 5B3A12 6 32 68 68 68
mouth kiss: A 5B3A12 5 42 58 58 69 270 450 | A 5B3A12 5 42 69 58 80 270 450
mouth tongue: A 5B3A12 6 26 36 74 78 20 160 | O F2657A 46 70 68 94
mouth wavy: L 5B3A12 6 30 72 40 66 50 72 60 66 70 72
"""
EMOJI_SHAPES: Final = """
👍 thumbs up: G FFC93C 30 46 48 14 60 12 62 24 57 42 86 42 92 50 84 88 36 88 30 84 | C FFC93C 54 16 8 |
    C FFC93C 84 50 9 | C FFC93C 82 64 9 | C FFC93C 80 80 8 | G 3F7BE0 10 44 26 44 26 88 10 88
❤ heart: C E8334A 30 34 23 | C E8334A 70 34 23 | G E8334A 9 44 50 24 91 44 50 92
👏 clapping hands: L D9982B 11 77 22 74 48 | L D9982B 11 66 15 65 48 | L D9982B 11 54 18 57 48 |
    L D9982B 11 43 27 48 48 | L D9982B 11 91 45 74 61 | C D9982B 60 58 20 | L FFC93C 11 19 36 22 62 |
    L FFC93C 11 30 29 31 62 | L FFC93C 11 42 32 39 62 | L FFC93C 11 53 41 48 62 | L FFC93C 11 5 59 22 75 |
    C FFC93C 36 72 20 | L F5B454 4 12 10 18 20 | L F5B454 4 30 2 33 12 | L F5B454 4 4 26 12 31
😂 tears of joy: F glad open | O 4FA8F5 4 46 22 70 | O 4FA8F5 78 46 96 70
😮 surprised: F dots oh
🎉 party: G F5B454 8 94 30 36 66 72 | L E8334A 4 22 62 40 82 | L E8334A 4 16 78 24 88 |
    L 4F8CFF 5 42 40 46 12 | L 3DDC97 5 56 52 88 22 | L E0679B 5 64 62 94 58 | C B07CE8 66 14 6 |
    C F2555A 84 40 5 | C 4F8CFF 62 34 5 | C F5B454 26 16 5
😢 crying: F dots sad | O 4FA8F5 58 54 72 78
✋ raised hand: L FFC93C 13 30 24 34.2 56 | L FFC93C 13 44 16 44.8 56 | L FFC93C 13 58 19 55.2 56 |
    L FFC93C 13 72 30 65.8 56 | L FFC93C 13 14 52 34 72 | C FFC93C 51 68 25 | L D9982B 2 37 44 37.4 50 |
    L D9982B 2 51 36 50 50 | L D9982B 2 65 39 62.6 50
🙂 slight smile: F dots smile
🤔 thinking: F up flat | C E9A91F 34 86 13 | L E9A91F 9 36 84 58 74
🔥 fire: C F26B2A 50 62 33 | G F26B2A 19 56 34 34 36 46 54 4 66 32 74 26 82 54 | C FFC93C 50 74 19 |
    G FFC93C 33 66 50 36 67 66
👎 thumbs down: G FFC93C 30 54 48 86 60 88 62 76 57 58 86 58 92 50 84 12 36 12 30 16 | C FFC93C 54 84 8 |
    C FFC93C 84 50 9 | C FFC93C 82 36 9 | C FFC93C 80 20 8 | G 3F7BE0 10 12 26 12 26 56 10 56
😀 grinning: F dots open
😄 laughing: F glad open
😊 glad: F glad smile | C F7A072 20 62 8 | C F7A072 80 62 8
😉 winking: F wink smile
😍 heart eyes: F love open
😎 cool: F cool smile
😐 neutral: F dots flat
🙁 frowning: F dots sad
😭 loudly crying: F shut oh | L 4FA8F5 10 33 50 33 86 | L 4FA8F5 10 67 50 67 86
😴 sleeping: F shut oh | L 3F7BE0 5 68 8 86 8 68 26 86 26
😛 tongue out: F dots tongue
😗 kissing: F dots kiss
😳 flushed: F wide flat | C F58A7A 20 62 8 | C F58A7A 80 62 8
😱 screaming: F wide oh
😕 confused: F dots wavy
🧡 orange heart: C F28B2A 30 34 23 | C F28B2A 70 34 23 | G F28B2A 9 44 50 24 91 44 50 92
💛 yellow heart: C F7C52E 30 34 23 | C F7C52E 70 34 23 | G F7C52E 9 44 50 24 91 44 50 92
💚 green heart: C 38B26E 30 34 23 | C 38B26E 70 34 23 | G 38B26E 9 44 50 24 91 44 50 92
💙 blue heart: C 3F7BE0 30 34 23 | C 3F7BE0 70 34 23 | G 3F7BE0 9 44 50 24 91 44 50 92
💜 purple heart: C 8D5BD6 30 34 23 | C 8D5BD6 70 34 23 | G 8D5BD6 9 44 50 24 91 44 50 92
⭐ star: G F7C52E 50 5 61.8 36.8 95.7 38.2 69 59.2 78.2 91.8 50 73 21.8 91.8 31 59.2 4.3 38.2 38.2 36.8
✅ check mark: G 38B26E 10 10 90 10 90 90 10 90 | L FFFFFF 11 28 52 44 68 74 32
❌ cross mark: L E8334A 15 18 18 82 82 | L E8334A 15 82 18 18 82
❓ question mark: A E8334A 13 30 12 70 52 180 405 | L E8334A 13 64 46 50 58 50 68 | C E8334A 50 87 8
❗ exclamation mark: L E8334A 15 50 14 50 62 | C E8334A 50 86 9
💡 light bulb: C FFD75E 50 38 31 | G FFD75E 36 60 64 60 60 74 40 74 | L 8492A1 6 40 80 60 80 |
    L 8492A1 6 44 90 56 90 | L C98A12 4 42 44 50 54 58 44
🌞 sun: L F5A524 7 84 50 95 50 | L F5A524 7 74 74 81.8 81.8 | L F5A524 7 50 84 50 95 |
    L F5A524 7 26 74 18.2 81.8 | L F5A524 7 16 50 5 50 | L F5A524 7 26 26 18.2 18.2 |
    L F5A524 7 50 16 50 5 | L F5A524 7 74 26 81.8 18.2 | C FFCF47 50 50 27
🌙 moon: G F7C52E 62 8 40 12 20 30 14 54 22 76 42 91 64 92 84 78 64 76 48 62 44 42 50 22
🌈 rainbow: A E8334A 8 8 22 92 118 180 360 | A F28B2A 8 16 30 84 110 180 360 |
    A F7C52E 8 24 38 76 102 180 360 | A 38B26E 8 32 46 68 94 180 360 | A 3F7BE0 8 40 54 60 86 180 360
🌳 tree: G 8A5A2B 43 60 57 60 60 94 40 94 | C 3C9A4E 50 30 24 | C 3C9A4E 30 48 20 | C 3C9A4E 70 48 20
🌸 flower: C F58AB0 50 25 19 | C F58AB0 73.8 42.3 19 | C F58AB0 64.7 70.2 19 | C F58AB0 35.3 70.2 19 |
    C F58AB0 26.2 42.3 19 | C F7C52E 50 50 12
🍎 apple: C E8334A 35 58 27 | C E8334A 65 58 27 | C E8334A 50 68 25 | L 8A5A2B 6 50 34 56 12 |
    O 3C9A4E 56 10 82 26
📚 books: G E8334A 12 70 88 70 88 90 12 90 | G 3F7BE0 18 48 82 48 82 68 18 68 |
    G 38B26E 10 26 78 26 78 46 10 46 | L FFFFFF 4 24 36 48 36 | L FFFFFF 4 30 58 54 58 |
    L FFFFFF 4 26 80 52 80
✏ pencil: L F5B454 18 28 72 76 24 | G F7DDB0 12 88 20 66 34 80 | G 3A3A3A 12 88 15 79 21 85 |
    C F58AB0 78 22 10
⚽ football: C F4F4F4 50 50 44 | G 23262B 50 34 66 46 60 64 40 64 34 46 | L 23262B 4 50 34 50 10 |
    L 23262B 4 66 46 90 40 | L 23262B 4 60 64 76 84 | L 23262B 4 40 64 24 84 | L 23262B 4 34 46 10 40
⏰ clock: C E8334A 50 54 38 | C FFFFFF 50 54 29 | L 23262B 5 50 34 50 54 64 62 | C E8334A 20 18 12 |
    C E8334A 80 18 12
🎵 music: L 4F8CFF 8 36 78 36 22 80 12 80 68 | C 4F8CFF 26 78 14 | C 4F8CFF 70 68 14
🎨 palette: O D9A066 6 14 94 88 | C 14181F 68 66 9 | C E8334A 28 40 8 | C F7C52E 48 28 8 |
    C 38B26E 70 36 8 | C 3F7BE0 26 62 8
🎈 balloon: O E8334A 22 4 78 70 | G E8334A 44 68 56 68 50 76 | L 8492A1 3 50 76 46 84 54 96 |
    O F58A96 34 16 46 32
🎁 gift: G 3F7BE0 14 44 86 44 86 92 14 92 | G 5B8DEF 8 30 92 30 92 46 8 46 |
    G F7C52E 44 30 56 30 56 92 44 92 | A F7C52E 6 26 8 50 32 90 370 | A F7C52E 6 50 8 74 32 170 450
🏆 trophy: A D9982B 6 10 14 40 48 60 280 | A D9982B 6 60 14 90 48 260 480 |
    G F7C52E 26 8 74 8 70 44 56 60 44 60 30 44 | L D9982B 8 50 58 50 80 | L D9982B 10 32 88 68 88
🚀 rocket: G E8334A 30 58 18 78 40 70 | G E8334A 58 70 76 84 70 60 | O E6EBF0 32 6 68 80 |
    C 3F7BE0 50 36 10 | G F5A524 40 80 60 80 50 98
💯 hundred: L E8334A 8 14 34 20 28 20 68 | A E8334A 8 32 30 54 66 0 360 | A E8334A 8 66 30 88 66 0 360 |
    L E8334A 6 16 84 84 78
👋 waving hand: L FFC93C 13 30 24 34.2 56 | L FFC93C 13 44 16 44.8 56 | L FFC93C 13 58 19 55.2 56 |
    L FFC93C 13 72 30 65.8 56 | L FFC93C 13 14 52 34 72 | C FFC93C 51 68 25 | L D9982B 2 37 44 37.4 50 |
    L D9982B 2 51 36 50 50 | L D9982B 2 65 39 62.6 50 | A 8492A1 4 2 2 30 30 180 270 |
    A 8492A1 4 70 74 98 98 0 90
👌 ok hand: L FFC93C 12 54 46 60 10 | L FFC93C 12 64 48 76 16 | L FFC93C 12 74 54 90 28 |
    C FFC93C 64 68 22 | A FFC93C 11 16 34 54 72 0 360
💪 strong: L FFC93C 24 24 20 28 62 | C FFC93C 34 20 15 | C FFC93C 64 62 26 | L FFC93C 26 30 76 66 76
👀 eyes: O F4F4F4 6 20 46 80 | O F4F4F4 54 20 94 80 | C 23262B 32 54 11 | C 23262B 80 54 11
☕ hot drink: G E6EBF0 14 38 70 38 64 84 20 84 | A E6EBF0 8 58 44 90 72 270 450 |
    L 8492A1 4 30 28 34 20 30 12 | L 8492A1 4 50 28 54 20 50 12 | L C9D1DA 6 8 92 78 92
🍰 cake: G F7DDB0 10 56 90 56 90 90 10 90 | G F58AB0 10 42 90 42 90 60 10 60 | C E8334A 50 32 12 |
    L F58AB0 6 12 74 88 74
➕ plus: L 38B26E 16 50 16 50 84 | L 38B26E 16 16 50 84 50
🐢 turtle: C 57B894 84 58 12 | L 57B894 12 30 66 26 80 | L 57B894 12 64 66 68 80 | L 57B894 8 20 64 6 70 |
    G 38B26E 18 68 22 48 34 34 48 29 62 34 74 48 78 68 | C 23262B 88 55 3
"""
Step: TypeAlias = tuple[str, str, tuple[float, ...]]  # kind, colour, numbers


def shape_lines(text: str) -> dict[str, list[list[str]]]:
    """A table of shapes: `name: step | step`, its steps in words; indented lines go on with the one above."""
    joined = text.strip().replace("|\n    ", "| ")
    entries = (line.split(": ", 1) for line in joined.splitlines())
    return {name: [step.split() for step in steps.split(" | ")] for name, steps in entries}


@lru_cache(maxsize=1)
def icon_shapes() -> dict[str, list[tuple[str, tuple[float, ...]]]]:
    """The steps of every icon by its name."""
    return {
        name: [(kind, tuple(map(float, numbers))) for kind, *numbers in steps]
        for name, steps in shape_lines(ICONS).items()
    }


@lru_cache(maxsize=1)
def emoji_shapes() -> dict[str, tuple[str, list[Step]]]:
    """The name and the steps of each of our emoji."""
    parts = {name: [_step(step) for step in steps] for name, steps in shape_lines(FACES).items()}
    found: dict[str, tuple[str, list[Step]]] = {}
    for head, steps in shape_lines(EMOJI_SHAPES).items():
        char, name = head.split(" ", 1)
        drawn: list[Step] = []
        for step in steps:
            face = (
                [*parts["face"], *parts[f"eyes {step[1]}"], *parts[f"mouth {step[2]}"]]
                if step[0] == "F"
                else []
            )
            drawn += face or [_step(step)]
        found[char] = (name, drawn)
    return found


def _step(words: Sequence[str]) -> Step:
    return words[0], "#" + words[1], tuple(map(float, words[2:]))


REACTIONS: Final = ("👍", "❤", "👏", "😂", "😮", "🎉", "😢", "🙂", "🤔", "🔥", "👎", "👋")
EMOJI_PATTERN: Final = re.compile(
    "(?:[\U0001f1e6-\U0001f1ff]{2}|[0-9#*]\ufe0f?\u20e3|"
    "[\u231a-\u23ff\u25fd\u25fe\u2600-\u27bf\u2b05-\u2b55\U0001f000-\U0001faff]"
    "[\ufe0f\U0001f3fb-\U0001f3ff\U000e0020-\U000e007f]*"
    "(?:\u200d[\u2600-\u27bf\U0001f000-\U0001faff][\ufe0f\U0001f3fb-\U0001f3ff]*)*)"
)


def emoji_key(found: str) -> str:
    """The emoji that we can draw for one of its variants (skin tone, presentation); "" when none."""
    return next((char for char in found[:1] if char in emoji_shapes()), "")


def plain(text: str) -> str:
    """`text` safe for Tk: every emoji as :its name:, nothing that a font or an X client could choke on."""

    def name(found: re.Match[str]) -> str:
        key = emoji_key(found[0])
        spoken = emoji_shapes()[key][0] if key else unicodedata.name(found[0][0], "emoji").lower()
        return ":" + spoken.replace(" ", "_") + ":"

    text = EMOJI_PATTERN.sub(name, text)
    return "".join(char for char in text if ord(char) < 0x1F000 and char not in "\ufe0f\u200d\u20e3")


@lru_cache(maxsize=256)
def draw_emoji(char: str, size: int) -> Image.Image:
    """One of our emoji as an RGBA picture of `size` pixels."""
    from PIL import Image, ImageDraw

    unit = size * OVERSAMPLE / 100
    picture = Image.new("RGBA", (size * OVERSAMPLE,) * 2, (0, 0, 0, 0))
    draw = ImageDraw.Draw(picture)
    for kind, colour, numbers in emoji_shapes()[char][1]:
        at = [number * unit for number in numbers]
        if kind == "C":
            draw.ellipse((at[0] - at[2], at[1] - at[2], at[0] + at[2], at[1] + at[2]), fill=colour)
        elif kind == "O":
            draw.ellipse((at[0], at[1], at[2], at[3]), fill=colour)
        elif kind == "G":
            draw.polygon(list(zip(at[::2], at[1::2], strict=True)), fill=colour)
        else:
            _coloured_stroke(picture, kind, colour, at, numbers)
    return picture.resize((size, size), Image.Resampling.LANCZOS)


def _coloured_stroke(
    picture: Image.Image, kind: str, colour: str, at: Sequence[float], raw: Sequence[float]
) -> None:
    from PIL import Image, ImageDraw

    mask = Image.new("L", picture.size, 0)
    if kind == "L":
        _line(ImageDraw.Draw(mask), at[1:], at[0], 255)
    else:
        _arc(ImageDraw.Draw(mask), at[1:5], raw[5], raw[6], at[0])
    picture.paste(rgb(colour), (0, 0), mask)


class Look:
    """What every control draws with: palette, scale, fonts and pictures; makes the Tk objects."""

    FAMILIES: ClassVar = (
        "Segoe UI Variable Text",
        "Segoe UI",
        "Inter",
        "SF Pro Text",
        "Noto Sans",
        "DejaVu Sans",
    )

    def __init__(self, root: tk.Tk, palette: Palette = DARK, scale: float = 1.0) -> None:
        from tkinter import font

        self.root = root
        self.palette = palette
        self.px = Metrics(scale)
        installed = set(font.families(root))
        self.family = next((name for name in self.FAMILIES if name in installed), "TkDefaultFont")
        self._fonts: dict[tuple[float, bool], tkfont.Font] = {}
        self._photos: OrderedDict[tuple[Any, ...], Photo] = OrderedDict()

    def font(self, size: float = 13, bold: bool = False) -> tkfont.Font:
        """The interface's font at `size` logical pixels."""
        from tkinter import font

        if (size, bold) not in self._fonts:
            weight: Literal["bold", "normal"] = "bold" if bold else "normal"
            self._fonts[size, bold] = font.Font(
                self.root, family=self.family, size=-self.px(size), weight=weight
            )
        return self._fonts[size, bold]

    def frame(self, parent: tk.Misc, colour: str = "", kind: str = "Frame") -> tk.Frame:
        """A plain area; `kind` "Overlay" marks what may lie over others."""
        import tkinter as tk

        return tk.Frame(parent, bg=colour or self.palette.window, class_=kind, highlightthickness=0)

    def canvas(
        self, parent: tk.Misc, width: int, height: int, colour: str = "", focus: bool = False
    ) -> tk.Canvas:
        """A canvas of `width` by `height` real pixels without borders."""
        import tkinter as tk

        return tk.Canvas(
            parent, width=width, height=height, bg=colour or self.palette.window, highlightthickness=0, bd=0,
            takefocus=focus,
        )  # fmt: skip

    def label(
        self,
        parent: tk.Misc,
        text: str,
        size: float = 13,
        bold: bool = False,
        colour: str = "",
        width: int = 0,
    ) -> tk.Label:
        """A line of text on its parent's colour, wrapped at `width` real pixels."""
        import tkinter as tk

        return tk.Label(
            parent, text=text, font=self.font(size, bold), fg=colour or self.palette.text,
            bg=str(parent["bg"]),
            bd=0, padx=0, pady=0, anchor="w", justify="left", wraplength=width,
        )  # fmt: skip

    def photo(self, key: tuple[Any, ...], make: Callable[[], Image.Image]) -> Photo:
        """The Tk picture for `key`, made once; who shows it keeps it alive."""
        from PIL import ImageTk

        found = self._photos.pop(key, None)
        if found is None:
            found = ImageTk.PhotoImage(make(), master=self.root)
        self._photos[key] = found
        while len(self._photos) > 600:
            self._photos.popitem(last=False)
        return found

    def icon(self, name: str, size: float = 20, colour: str = "", slash: str = "") -> Photo:
        """An icon of `size` logical pixels."""
        colour, real = colour or self.palette.text, self.px(size)
        return self.photo(("icon", name, real, colour, slash), lambda: draw_icon(name, real, colour, slash))

    def box(
        self, width: int, height: int, radius: float, fill: str, outline: str = "", line: float = 1
    ) -> Photo:
        """A box with round corners; width and height in real pixels."""
        r, thick = self.px(radius), self.px(line) if outline else 0
        key = ("box", width, height, r, fill, outline, thick)
        return self.photo(key, lambda: rounded(width, height, r, fill, outline, thick))

    def shadow_box(self, width: int, height: int, radius: float, fill: str, outline: str) -> Photo:
        """A box over its own shadow, 12 logical pixels wider on every side."""
        key = ("shadow", width, height, radius, fill, outline)
        return self.photo(
            key,
            lambda: shadowed(rounded(width, height, self.px(radius), fill, outline, self.px(1)), self.px(12)),
        )

    def avatar(self, name: str, size: float) -> Photo:
        """Initials in a disc of `size` logical pixels."""
        real = self.px(size)
        return self.photo(("avatar", name, real), lambda: draw_avatar(name, real))

    def emoji(self, char: str, size: float) -> Photo:
        """One of our emoji at `size` logical pixels."""
        real = self.px(size)
        return self.photo(("emoji", char, real), lambda: draw_emoji(char, real))

    def written(self, text: str, size: float, colour: str, room: int, bold: bool = False) -> Photo:
        """A line of text in any script as a picture."""
        key = ("line", text, size, colour, room, bold)
        return self.photo(key, lambda: fonts().line(text, self.px(size), colour, room, bold))

    def clip(self, text: str, font: tkfont.Font, room: int) -> str:
        """`text`, shortened with an ellipsis where it is wider than `room` pixels."""
        if font.measure(text) <= room:
            return text
        low, high = 0, len(text)
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if font.measure(text[:middle] + "…") <= room else (low, middle - 1)
        return text[:low].rstrip() + "…"

    def menu(self, parent: tk.Misc, entries: Sequence[tuple[str, Callable[[], object]] | None]) -> tk.Menu:
        """A menu in the palette's colours; None is a separator."""
        import tkinter as tk

        p = self.palette
        menu = tk.Menu(
            parent, tearoff=False, bg=p.card, fg=p.text, activebackground=p.accent,
            activeforeground=p.on_accent,
            bd=0, activeborderwidth=0, relief="flat", font=self.font(13),
        )  # fmt: skip
        for entry in entries:
            if entry is None:
                menu.add_separator()
            else:
                menu.add_command(label="  " + entry[0] + "  ", command=entry[1])
        return menu


class Painted:
    """A canvas that keeps alive the pictures that it shows, until it is wiped or destroyed."""

    def __init__(
        self, look: Look, parent: tk.Misc, width: int, height: int, colour: str = "", focus: bool = False
    ) -> None:
        self.look = look
        self.canvas = look.canvas(parent, width, height, colour or str(parent["bg"]), focus)
        self._kept: list[Photo] = []
        self.canvas.bind("<Destroy>", lambda _: self._kept.clear())

    def wipe(self) -> None:
        """Remove everything drawn."""
        self.canvas.delete("all")
        self._kept.clear()

    def image(
        self,
        x: int,
        y: int,
        photo: Photo,
        anchor: Literal["nw", "w", "center", "e", "ne"] = "nw",
        tags: tuple[str, ...] = (),
    ) -> int:
        """Show a picture."""
        self._kept.append(photo)
        return self.canvas.create_image(x, y, image=photo, anchor=anchor, tags=tags)

    def text(
        self, x: int, y: int, text: str, size: float = 13, bold: bool = False, colour: str = "",
        room: int = 0,
        anchor: Literal["nw", "w", "center", "e", "ne", "n"] = "w", tags: tuple[str, ...] = (),
    ) -> int:  # fmt: skip
        """Write one line, shortened to `room` real pixels; scripts that Tk cannot shape become pictures."""
        colour = colour or self.look.palette.text
        text = plain(text)
        if shaped(text) and anchor in ("nw", "w"):
            photo = self.look.written(text, size, colour, room or 10_000, bold)
            return self.image(x, y, photo, "w" if anchor == "w" else "nw", tags)
        font = self.look.font(size, bold)
        shown = self.look.clip(text, font, room) if room else text
        return self.canvas.create_text(x, y, text=shown, font=font, fill=colour, anchor=anchor, tags=tags)

    def on(self, tag: str, command: Callable[[], object]) -> None:
        """Call `command` when something tagged is clicked; the hand shows that it can be."""
        self.canvas.tag_bind(tag, "<ButtonRelease-1>", lambda _: command())
        self.canvas.tag_bind(tag, "<Enter>", lambda _: self.canvas.configure(cursor="hand2"))
        self.canvas.tag_bind(tag, "<Leave>", lambda _: self.canvas.configure(cursor=""))


class Card(Painted):
    """An area with round corners; what it holds is packed into its canvas."""

    def __init__(self, look: Look, parent: tk.Misc, radius: float = 12, outline: str = "") -> None:
        back = str(parent["bg"])
        super().__init__(look, parent, 10, 10, look.palette.card)
        self.radius, self.outline, self.back = radius, outline, back
        self.canvas.bind("<Configure>", lambda event: self._draw(event.width, event.height))

    def _draw(self, width: int, height: int) -> None:
        if width < 8 or height < 8:
            return
        self.wipe()
        self.canvas.create_rectangle(-1, -1, width, height, fill=self.back, width=0)
        box = self.look.box(width, height, self.radius, self.look.palette.card, self.outline, 1)
        self.image(0, 0, box)


class Button(Painted):
    """A button with round corners: text, icon or both; mouse, Return and Space press it."""

    def __init__(
        self, look: Look, parent: tk.Misc, command: Callable[[], object], text: str = "", icon: str = "",
        kind: str = "plain", width: int = 0, height: float = 40, tip: str = "", key: str = "",
        size: float = 13,
    ) -> None:  # fmt: skip
        self.text_size = size
        self.words, self.icon_name, self.kind = text, icon, kind
        self.command, self.enabled, self.hot, self.down, self.slash = command, True, False, False, False
        need = look.px(28) + look.font(size, bold=True).measure(text) + (look.px(24) if icon else 0)
        super().__init__(
            look, parent, width or (need if text else look.px(height)), look.px(height), focus=True
        )
        self._listen()
        if tip:
            Tooltip(look, self.canvas, tip, key)
        self.paint()

    def _listen(self) -> None:
        canvas = self.canvas
        canvas.bind("<Enter>", lambda _: self._set(hot=True))
        canvas.bind("<Leave>", lambda _: self._set(hot=False, down=False))
        canvas.bind("<Button-1>", lambda _: self._set(down=True))
        canvas.bind("<ButtonRelease-1>", self._released)
        for key in ("<Return>", "<KP_Enter>", "<KeyRelease-space>"):
            canvas.bind(key, lambda _: self.press())
        for key in ("<FocusIn>", "<FocusOut>", "<Configure>"):
            canvas.bind(key, lambda _: self.paint(), add="+")

    def _set(self, hot: bool | None = None, down: bool | None = None) -> None:
        self.hot = self.hot if hot is None else hot
        self.down = self.down if down is None else down
        self.paint()

    def _released(self, event: tk.Event[tk.Canvas]) -> None:
        inside = 0 <= event.x < self.canvas.winfo_width() and 0 <= event.y < self.canvas.winfo_height()
        pressed, self.down = self.down and inside, False
        if pressed:
            self.press()
        if self.canvas.winfo_exists():
            self.paint()

    def press(self) -> None:
        """Do what the button does."""
        if self.enabled:
            self.command()

    def show(
        self,
        text: str | None = None,
        icon: str | None = None,
        kind: str | None = None,
        slash: bool | None = None,
        enabled: bool | None = None,
    ) -> None:
        """Change what the button shows; drawn only when something changed."""
        old = (self.words, self.icon_name, self.kind, self.slash, self.enabled)
        self.words = self.words if text is None else text
        self.icon_name = self.icon_name if icon is None else icon
        self.kind = self.kind if kind is None else kind
        self.slash = self.slash if slash is None else slash
        self.enabled = self.enabled if enabled is None else enabled
        if old != (self.words, self.icon_name, self.kind, self.slash, self.enabled):
            self.paint()

    def colours(self) -> tuple[str, str, str]:
        """Fill, fill under the mouse, and text."""
        p, back = self.look.palette, str(self.canvas["bg"])
        return {
            "plain": (p.raised, p.line, p.text),
            "card": (p.card, p.raised, p.text),
            "primary": (p.accent, p.accent_high, p.on_accent),
            "danger": (p.bad, p.bad, p.on_accent),
            "ghost": (back, p.raised, p.second),
            "on": (p.raised, p.line, p.text),
            "link": (back, back, p.link),
            "warn": (p.raised, p.line, p.bad),
            "live": (p.good, p.good, p.window),
        }[self.kind]

    def size(self) -> tuple[int, int]:
        """The real size, or the size asked for while it is not on the screen."""
        width, height = self.canvas.winfo_width(), self.canvas.winfo_height()
        return (width, height) if width > 1 else (int(self.canvas["width"]), int(self.canvas["height"]))

    def paint(self) -> None:
        """Draw the button as it is now."""
        self.wipe()
        width, height = self.size()
        fill, high, colour = self.colours()
        focused = self.canvas.focus_get() is self.canvas if self.canvas.winfo_ismapped() else False
        ring = self.look.palette.focus if focused else ""
        self.image(0, 0, self.look.box(width, height, 10, high if self.hot else fill, ring, 2))
        self._content(width, height, colour if self.enabled else self.look.palette.third)

    def _content(self, width: int, height: int, colour: str) -> None:
        look, bold = self.look, self.kind in ("primary", "danger", "link", "plain")
        font = look.font(self.text_size, bold)
        room = font.measure(self.words) if self.words else 0
        icon = look.px(20) if self.icon_name else 0
        gap = look.px(6) if room and icon else 0
        x = max(look.px(4), (width - room - icon - gap) // 2)
        if icon:
            slash = look.palette.bad if self.slash else ""
            self.image(x, height // 2, look.icon(self.icon_name, 20, colour, slash), "w")
        if room:
            at = x + icon + gap
            self.text(at, height // 2, self.words, self.text_size, bold, colour, width - at)


class BarButton(Button):
    """A button of the left bar: an icon in a box, words below where there is room, and an unread dot."""

    def __init__(
        self,
        look: Look,
        parent: tk.Misc,
        command: Callable[[], object],
        text: str,
        icon: str,
        tip: str,
        key: str = "",
    ) -> None:
        self.tall, self.unread = 70, False
        super().__init__(look, parent, command, text, icon, "card", look.px(82), 70, tip, key)

    def squeeze(self, height: int) -> None:
        """Take `height` logical pixels; words only where there is room for them."""
        if height != self.tall:
            self.tall = height
            self.canvas.configure(height=self.look.px(height))
            self.paint()

    def mark(self, unread: bool) -> None:
        """Show or hide the dot of something unread."""
        if unread != self.unread:
            self.unread = unread
            self.paint()

    def paint(self) -> None:
        """Draw icon box, words and dot."""
        self.wipe()
        look, p = self.look, self.look.palette
        fill, high, colour = self.colours()
        wide, tall, middle = look.px(52), look.px(min(44, self.tall - 4)), look.px(41)
        focused = self.canvas.focus_get() is self.canvas if self.canvas.winfo_ismapped() else False
        box = look.box(wide, tall, 12, high if self.hot else fill, p.focus if focused else "", 2)
        self.image(middle - wide // 2, look.px(2), box)
        icon = look.icon(self.icon_name, 21, colour, p.bad if self.slash else "")
        self.image(middle, look.px(2) + tall // 2, icon, "center")
        if self.unread:
            self.image(
                middle + look.px(14), look.px(6), look.box(look.px(11), look.px(11), 6, p.bad, p.panel, 2)
            )
        if self.tall == 70:
            words = p.bad_text if self.kind == "danger" else p.second
            font = look.font(11)
            self.text(
                middle,
                look.px(57),
                look.clip(self.words, font, look.px(80)),
                11,
                colour=words,
                anchor="center",
            )


class Tooltip:
    """Words and key of a control, half a second after the mouse came to rest on it."""

    def __init__(self, look: Look, widget: tk.Widget, words: str, key: str = "") -> None:
        self.look, self.widget, self.words, self.key = look, widget, words, key
        self._due = ""
        self._shown: Painted | None = None
        widget.bind("<Enter>", self._enter, add="+")
        for event in ("<Leave>", "<ButtonPress>", "<Destroy>"):
            widget.bind(event, self._leave, add="+")

    def _enter(self, _: object) -> None:
        self._leave(None)
        self._due = self.widget.after(500, self._show)

    def _leave(self, _: object) -> None:
        if self._due:
            self.widget.after_cancel(self._due)
            self._due = ""
        if self._shown is not None:
            self._shown.canvas.destroy()
            self._shown = None

    def _show(self) -> None:
        self._due = ""
        look, px = self.look, self.look.px
        words, room = tr(self.words), look.font(12, bold=True).measure(tr(self.words))
        key_room = look.font(11).measure(self.key) + px(14) if self.key else 0
        width, height = room + px(20) + (key_room + px(8) if key_room else 0), px(32)
        tip = self._shown = Painted(look, look.root, width, height, "#F2F5F8")
        tip.text(px(10), height // 2, words, 12, bold=True, colour="#161C24")
        if self.key:
            tip.image(px(18) + room, px(6), look.box(key_room, px(20), 5, "#D9E0E8"))
            tip.text(
                px(18) + room + key_room // 2, height // 2, self.key, 11, colour="#2A323D", anchor="center"
            )
        x, y = self._place(width, height)
        tip.canvas.place(x=x, y=y)

    def _place(self, width: int, height: int) -> tuple[int, int]:
        """Beside what stands at the left edge, else below, always inside the window."""
        root, widget, gap = self.look.root, self.widget, self.look.px(6)
        x, y = widget.winfo_rootx() - root.winfo_rootx(), widget.winfo_rooty() - root.winfo_rooty()
        wide, tall = widget.winfo_width(), widget.winfo_height()
        if x < self.look.px(40):
            x, y = x + wide + gap, y + (tall - height) // 2
        else:
            x, y = (
                x + (wide - width) // 2,
                y + tall + gap if y + tall + gap + height < root.winfo_height() else y - height - gap,
            )
        return max(0, min(x, root.winfo_width() - width)), max(0, y)


class Field(Painted):
    """A text field in a round box; `hint` stands in it while it is empty."""

    def __init__(
        self,
        look: Look,
        parent: tk.Misc,
        text: str = "",
        hint: str = "",
        width: int = 300,
        height: float = 44,
        enter: Callable[[], object] | None = None,
    ) -> None:
        import tkinter as tk

        super().__init__(look, parent, width, look.px(height))
        p = look.palette
        self.hint = hint
        self.entry = tk.Entry(
            self.canvas, bg=p.card, fg=p.text, insertbackground=p.focus, selectbackground=p.accent, bd=0,
            selectforeground=p.on_accent, highlightthickness=0, font=look.font(14), relief="flat", width=4,
        )  # fmt: skip
        self.entry.insert(0, text)
        self._hint = tk.Label(
            self.canvas, text=hint, font=look.font(14), fg=p.third, bg=p.card, bd=0, padx=0, pady=0
        )
        self._hint.bind("<Button-1>", lambda _: self.entry.focus_set())
        for event in ("<FocusIn>", "<FocusOut>", "<KeyRelease>"):
            self.entry.bind(event, lambda _: self.paint(), add="+")
        if enter:
            self.entry.bind("<Return>", lambda _: enter())
        self.canvas.bind("<Configure>", lambda _: self.paint())
        self.canvas.bind("<Button-1>", lambda _: self.entry.focus_set())

    @property
    def value(self) -> str:
        """What stands in the field."""
        return self.entry.get().strip()

    def paint(self) -> None:
        """Draw the box and the hint."""
        width, height, px = self.canvas.winfo_width(), self.canvas.winfo_height(), self.look.px
        if width < px(40):
            return
        self.canvas.delete("box")
        self._kept.clear()
        p, focused = self.look.palette, self.entry.focus_get() is self.entry
        box = self.look.box(width, height, 11, p.card, p.focus if focused else p.line, 2 if focused else 1)
        self.image(0, 0, box, tags=("box",))
        self.entry.place(x=px(16), y=height // 2, anchor="w", width=width - px(32))
        if self.hint and not self.entry.get() and not focused:
            self._hint.place(x=px(16), y=height // 2, anchor="w")
            self._hint.lift()
        else:
            self._hint.place_forget()


class PinBoxes(Painted):
    """Six boxes for a PIN: digits fill them, Backspace empties them, pasting works."""

    LENGTH: ClassVar = 6

    def __init__(self, look: Look, parent: tk.Misc, enter: Callable[[], object]) -> None:
        super().__init__(look, parent, look.px(436), look.px(54), focus=True)
        self.value = ""
        self.canvas.bind("<Key>", self._key)
        self.canvas.bind("<Return>", lambda _: enter())
        self.canvas.bind("<<Paste>>", self._paste)
        self.canvas.bind("<Button-1>", lambda _: self.canvas.focus_set())
        for event in ("<FocusIn>", "<FocusOut>", "<Configure>"):
            self.canvas.bind(event, lambda _: self.paint(), add="+")

    def _key(self, event: tk.Event[tk.Canvas]) -> None:
        if event.keysym == "BackSpace":
            self.set(self.value[:-1])
        elif event.char and event.char.isalnum() and event.char.isascii():
            self.set(self.value + event.char)

    def _paste(self, _: object) -> None:
        import tkinter as tk

        try:
            self.set(self.canvas.clipboard_get())
        except tk.TclError:
            return

    def set(self, value: str) -> None:
        """Put `value` into the boxes."""
        self.value = "".join(char for char in value if char.isascii() and char.isalnum())[: self.LENGTH]
        self.paint()

    def paint(self) -> None:
        """Draw the six boxes; the next one to fill is ringed while the field has the focus."""
        self.wipe()
        look, p, px = self.look, self.look.palette, self.look.px
        width, height = max(self.canvas.winfo_width(), px(200)), px(54)
        gap = px(8)
        wide = (width - gap * (self.LENGTH - 1)) // self.LENGTH
        focused = self.canvas.focus_get() is self.canvas
        for at in range(self.LENGTH):
            x = at * (wide + gap)
            here = focused and at == min(len(self.value), self.LENGTH - 1)
            self.image(
                x, 0, look.box(wide, height, 11, p.card, p.focus if here else p.line, 2 if here else 1)
            )
            if at < len(self.value):
                self.text(x + wide // 2, height // 2, self.value[at], 21, bold=True, anchor="center")
            elif here:
                self.canvas.create_line(
                    x + wide // 2, px(16), x + wide // 2, height - px(16), fill=p.focus, width=px(2)
                )


class Meter(Painted):
    """A microphone's level in bars; the last ones turn amber."""

    def __init__(
        self, look: Look, parent: tk.Misc, bars: int = 14, step: float = 9, height: float = 18
    ) -> None:
        super().__init__(look, parent, look.px(step * bars), look.px(height))
        self.bars, self.step, self._lit = bars, step, -1
        self.show(0.0)

    def show(self, level: float) -> None:
        """Light the bars for a level of 0..1."""
        lit = round(max(0.0, min(1.0, level)) ** 0.6 * self.bars)
        if lit == self._lit:
            return
        self._lit = lit
        self.wipe()
        look, p = self.look, self.look.palette
        for at in range(self.bars):
            colour = p.raised if at >= lit else (p.warn if at >= self.bars * 0.72 else p.good)
            self.image(
                look.px(at * self.step),
                0,
                look.box(look.px(self.step * 0.55), int(self.canvas["height"]), 3, colour),
            )


class Switch(Painted):
    """A switch that is on or off."""

    def __init__(self, look: Look, parent: tk.Misc, on: bool, changed: Callable[[bool], object]) -> None:
        super().__init__(look, parent, look.px(46), look.px(28), focus=True)
        self.value, self.changed = on, changed
        for event in ("<ButtonRelease-1>", "<Return>", "<KeyRelease-space>"):
            self.canvas.bind(event, lambda _: self.flip())
        for event in ("<FocusIn>", "<FocusOut>"):
            self.canvas.bind(event, lambda _: self.paint())
        self.paint()

    def flip(self) -> None:
        """Turn it to the other side."""
        self.value = not self.value
        self.paint()
        self.changed(self.value)

    def paint(self) -> None:
        """Draw the switch: the knob's side says the state, not the colour alone."""
        self.wipe()
        look, p, px = self.look, self.look.palette, self.look.px
        ring = p.focus if self.canvas.focus_get() is self.canvas else ""
        fill = p.accent if self.value else p.line
        self.image(0, 0, look.box(px(46), px(28), 14, p.panel, ring, 2))
        self.image(px(3), px(3), look.box(px(40), px(22), 11, fill))
        self.image(px(23) if self.value else px(5), px(5), look.box(px(18), px(18), 9, p.on_accent))


class Slider(Painted):
    """A value from 0 to 1, by mouse, arrows and wheel."""

    def __init__(
        self, look: Look, parent: tk.Misc, value: float, changed: Callable[[float], object], width: int
    ) -> None:
        super().__init__(look, parent, width, look.px(26), focus=True)
        self.value, self.changed = value, changed
        self.canvas.bind("<Button-1>", self._drag)
        self.canvas.bind("<B1-Motion>", self._drag)
        self.canvas.bind("<Left>", lambda _: self.set(self.value - 0.05))
        self.canvas.bind("<Right>", lambda _: self.set(self.value + 0.05))
        for event in ("<FocusIn>", "<FocusOut>", "<Configure>"):
            self.canvas.bind(event, lambda _: self.paint())

    def _drag(self, event: tk.Event[tk.Canvas]) -> None:
        self.canvas.focus_set()
        edge = self.look.px(12)
        self.set((event.x - edge) / max(1, self.canvas.winfo_width() - 2 * edge))

    def set(self, value: float) -> None:
        """Move to `value` and tell."""
        self.value = max(0.0, min(1.0, value))
        self.paint()
        self.changed(self.value)

    def paint(self) -> None:
        """Draw rail and knob."""
        self.wipe()
        look, p, px = self.look, self.look.palette, self.look.px
        width = max(self.canvas.winfo_width(), px(60))
        at = px(12) + round((width - px(24)) * self.value)
        self.image(px(2), px(11), look.box(width - px(4), px(4), 2, p.line))
        self.image(px(2), px(11), look.box(max(px(5), at), px(4), 2, p.accent))
        ring = p.text if self.canvas.focus_get() is self.canvas else p.focus
        self.image(at, px(13), look.box(px(20), px(20), 10, p.on_accent, ring, 4), "center")


class Choice(Button):
    """A list of which one is chosen: shows it, and a menu of all at a click."""

    def __init__(
        self,
        look: Look,
        parent: tk.Misc,
        options: Sequence[tuple[str, str]],
        value: str,
        chosen: Callable[[str], object],
        width: int,
        height: float = 42,
    ) -> None:
        self.options, self.value, self.chosen = list(options), value, chosen
        super().__init__(look, parent, self._open, " ", kind="card", width=width, height=height)

    def fill(self, options: Sequence[tuple[str, str]], value: str) -> None:
        """Offer these (value, words) pairs."""
        self.options, self.value = list(options), value
        self.paint()

    def _open(self) -> None:
        entries = [(plain(words), partial(self.pick, value)) for value, words in self.options]
        menu = self.look.menu(self.canvas, entries)
        menu.tk_popup(self.canvas.winfo_rootx(), self.canvas.winfo_rooty() + self.canvas.winfo_height())

    def pick(self, value: str) -> None:
        """Choose `value` and tell."""
        self.value = value
        self.paint()
        self.chosen(value)

    def _content(self, width: int, height: int, colour: str) -> None:
        words = next((words for value, words in self.options if value == self.value), self.value)
        self.text(
            self.look.px(14), height // 2, words, self.text_size, colour=colour, room=width - self.look.px(44)
        )
        self.image(
            width - self.look.px(12), height // 2, self.look.icon("down", 16, self.look.palette.second), "e"
        )


class Row(Protocol):
    """One entry of a `ListView`: hashable, and the same while it is equal."""

    def height(self, view: ListView, width: int) -> int:
        """Real pixels that it needs at this width."""

    def draw(self, view: ListView, y: int, width: int) -> None:
        """Draw it with its upper edge at `y`."""


class ListView(Painted):
    """Rows of any height, of which only those in sight are drawn; so a thousand stay fluid.

    Rows offer actions with `action`; arrows walk through them, Return presses the one ringed.
    """

    def __init__(
        self, look: Look, parent: tk.Misc, colour: str = "", stick: bool = False, gutter: float = 10
    ) -> None:
        super().__init__(look, parent, look.px(100), look.px(100), colour, focus=True)
        self.gutter = look.px(gutter)
        self.rows: list[Any] = []
        self.stick = stick  # stay at the newest row while it is in sight
        self.chosen_action = ""
        self._actions: list[tuple[str, Callable[[], object], Box]] = []
        self._tops: list[int] = [0]
        self._heights: dict[tuple[Any, int], int] = {}
        self._offset = 0
        self._grip: int | None = None
        self._bind()

    def _bind(self) -> None:
        canvas = self.canvas
        canvas.bind("<Configure>", lambda _: self.show(self.rows, force=True))
        canvas.bind(
            "<MouseWheel>",
            lambda event: self.scroll(-event.delta // 2 if abs(event.delta) >= 60 else -event.delta * 20),
        )
        canvas.bind("<Button-4>", lambda _: self.scroll(-self.look.px(60)))
        canvas.bind("<Button-5>", lambda _: self.scroll(self.look.px(60)))
        canvas.bind("<Prior>", lambda _: self.scroll(-canvas.winfo_height()))
        canvas.bind("<Next>", lambda _: self.scroll(canvas.winfo_height()))
        canvas.bind("<Down>", lambda _: self._walk(1))
        canvas.bind("<Up>", lambda _: self._walk(-1))
        canvas.bind("<Return>", lambda _: self._press())
        canvas.bind("<FocusIn>", lambda _: self._walk(0))
        canvas.bind("<FocusOut>", lambda _: self.redraw())
        canvas.bind("<Button-1>", self._grab, add="+")
        canvas.bind("<B1-Motion>", self._pull, add="+")
        canvas.bind("<ButtonRelease-1>", lambda _: setattr(self, "_grip", None), add="+")

    def show(self, rows: Sequence[Row], force: bool = False) -> None:
        """Show these rows from now on."""
        if rows == self.rows and not force:
            return
        at_end = self._offset >= self._tops[-1] - self.canvas.winfo_height() - self.look.px(30)
        self.rows = list(rows)
        self._measure()
        if self.stick and at_end:
            self._offset = self._tops[-1]
        self.scroll(0)

    def _measure(self) -> None:
        width = self.width
        known = self._heights
        self._heights = {}
        tops = [0]
        for row in self.rows:
            key = (row, width)
            high = self._heights[key] = known.get(key) or row.height(self, width)
            tops.append(tops[-1] + high)
        self._tops = tops

    @property
    def width(self) -> int:
        """Real pixels for a row, without the scroll bar."""
        return max(self.look.px(60), self.canvas.winfo_width() - self.gutter)

    def scroll(self, by: int) -> None:
        """Move by `by` real pixels, within the rows."""
        most = max(0, self._tops[-1] - self.canvas.winfo_height())
        self._offset = max(0, min(most, self._offset + by))
        self.redraw()

    def redraw(self) -> None:
        """Draw the rows in sight."""
        self.wipe()
        self._actions.clear()
        tall, width = self.canvas.winfo_height(), self.width
        first = max(0, bisect_right(self._tops, self._offset) - 1)
        for at in range(first, len(self.rows)):
            y = self._tops[at] - self._offset
            if y > tall:
                break
            self.rows[at].draw(self, y, width)
        self._bar(tall)
        self._ring()

    def _bar(self, tall: int) -> None:
        total, px = self._tops[-1], self.look.px
        if total <= tall or tall < px(40):
            return
        size = max(px(28), tall * tall // total)
        y = (tall - size) * self._offset // (total - tall)
        bar = self.look.box(px(5), size // 4 * 4, 3, self.look.palette.line)
        self.image(self.canvas.winfo_width() - px(1), y, bar, "ne")

    def _grab(self, event: tk.Event[tk.Canvas]) -> None:
        self._grip = event.y if event.x > self.canvas.winfo_width() - self.look.px(10) else None

    def _pull(self, event: tk.Event[tk.Canvas]) -> None:
        if self._grip is not None:
            by = (event.y - self._grip) * self._tops[-1] // max(1, self.canvas.winfo_height())
            self._grip = event.y
            self.scroll(by)

    def action(self, name: str, box: Box, command: Callable[[], object]) -> tuple[str, ...]:
        """Offer `command` on `box`; what is drawn with the returned tags presses it."""
        tag = f"do:{name}"
        self._actions.append((tag, command, box))
        self.on(tag, command)
        return (tag,)

    def _walk(self, by: int) -> None:
        names = [name for name, _, _ in self._actions]
        if names:
            at = names.index(self.chosen_action) + by if self.chosen_action in names else 0
            if not 0 <= at < len(names):
                self.scroll(self.look.px(60) * by)
                return
            self.chosen_action = names[at]
        elif by:
            self.scroll(self.look.px(60) * by)
        self.redraw()

    def _press(self) -> None:
        for name, command, _ in list(self._actions):
            if name == self.chosen_action:
                command()
                return

    def _ring(self) -> None:
        if self.canvas.focus_get() is not self.canvas:
            return
        for name, _, (x, y, wide, tall) in self._actions:
            if name == self.chosen_action:
                self.image(x, y, self.look.box(wide, tall, 9, "", self.look.palette.focus, 2))


class Dialog:
    """A card in the middle of the window that has the keyboard until it is closed; Escape closes it."""

    def __init__(self, look: Look, title: str, width: float, height: float = 0) -> None:
        self.look = look
        p, px = look.palette, look.px
        self._before = look.root.focus_get()
        self.first: tk.Misc | None = None  # who has the keyboard at the beginning
        self.frame = look.frame(look.root, p.line, "Overlay")
        self.body = look.frame(self.frame, p.panel)
        self.body.pack(fill="both", expand=True, padx=px(1), pady=px(1))
        self.width = min(px(width), look.root.winfo_width() - px(24))
        if title:
            look.label(self.body, title, 18, bold=True).pack(anchor="w", padx=px(24), pady=(px(20), px(10)))
        self.frame.place(relx=0.5, rely=0.5, anchor="center", width=self.width)
        if height:
            self.frame.place(height=min(px(height), look.root.winfo_height() - px(24)))
        self.frame.bind("<Escape>", self._escape)
        self.frame.after_idle(self._take)

    def _take(self) -> None:
        if not self.frame.winfo_exists():
            return
        self.frame.lift()
        self.frame.grab_set()
        (self.first or self.frame).focus_set()
        self._reach(self.frame)

    def _reach(self, widget: tk.Misc) -> None:
        """Escape closes from every control within."""
        for child in widget.winfo_children():
            child.bind("<Escape>", self._escape)
            self._reach(child)

    def _escape(self, _: object) -> str:
        """Close, and let nobody else have the key."""
        self.close()
        return "break"

    @property
    def open(self) -> bool:
        """Whether it is still on the screen."""
        return bool(self.frame.winfo_exists())

    def close(self) -> None:
        """Take it away and give the keyboard back."""
        if self.open:
            self.frame.grab_release()
            self.frame.destroy()
            if self._before is not None and self._before.winfo_exists():
                self._before.focus_set()
            else:
                self.look.root.focus_set()

    def buttons(self, *entries: tuple[str, str, Callable[[], object]]) -> None:
        """A row of (words, kind, command) at the lower right; each closes the dialog first."""
        row = self.look.frame(self.body, self.look.palette.panel)
        row.pack(side="bottom", fill="x", padx=self.look.px(24), pady=(self.look.px(16), self.look.px(20)))
        for words, kind, command in reversed(entries):
            button = Button(self.look, row, partial(self._then, command), words, kind=kind)
            button.canvas.pack(side="right", padx=(self.look.px(10), 0))
            if kind in ("primary", "danger"):
                self.first = button.canvas

    def _then(self, command: Callable[[], object]) -> None:
        self.close()
        command()


class ConfirmDialog(Dialog):
    """A question with its answers as (words, kind, command)."""

    def __init__(
        self, look: Look, title: str, text: str, *answers: tuple[str, str, Callable[[], object]]
    ) -> None:
        super().__init__(look, title, 460)
        words = look.label(self.body, text, 13, colour=look.palette.second, width=self.width - look.px(52))
        words.pack(anchor="w", padx=look.px(24))
        self.buttons(*answers)


@dataclass(frozen=True, slots=True)
class TileLook:
    """What stands on a tile beside the picture. `poor`: the network mark; `name` is what the avatar shows."""

    name: str = ""
    label: str = ""
    muted: bool = False
    speaking: bool = False
    hand: bool = False
    badge: str = ""
    poor: bool = False
    mirror: bool = False
    fit: bool = False
    dim: bool = False
    chosen: bool = False
    note: str = ""
    border: str = ""
    view: tuple[float, float, float] = (0.0, 0.5, 0.5)  # zoom (0 = fit) and middle, for a screen


@dataclass(frozen=True, slots=True)
class TileJob:
    """A tile to paint: picture (BGR, any size) or None for the avatar, in real pixels."""

    picture: Picture | None
    width: int
    height: int
    look: TileLook
    palette: Palette
    scale: float


def paint_tile(job: TileJob, marks: TileMarks) -> Image.Image:
    """The whole tile as RGB, its corners in the window's colour."""
    from PIL import Image, ImageEnhance

    size = (job.width, job.height)
    if job.picture is None:
        tile = Image.new("RGB", size, job.palette.tile)
        disc = draw_avatar(job.look.name or "?", max(24, round(min(job.width * 0.5, job.height * 0.42))))
        tile.paste(disc, ((job.width - disc.width) // 2, (job.height - disc.height) // 2), disc)
    else:
        tall, wide = job.picture.shape[:2]
        source = Image.frombuffer("RGB", (wide, tall), np.ascontiguousarray(job.picture), "raw", "BGR", 0, 1)
        tile = _fitted(source, job) if job.look.fit else _covered(source, size)
        if job.look.mirror:
            tile = tile.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    if job.look.dim:
        tile = ImageEnhance.Brightness(tile).enhance(0.35)
    for x, y, patch in marks:
        tile.paste(patch, (x, y), patch)
    return tile


def _covered(source: Image.Image, size: tuple[int, int]) -> Image.Image:
    """`source` scaled to cover `size`, cut evenly."""
    from PIL import Image

    scale = max(size[0] / source.width, size[1] / source.height)
    wide, tall = size[0] / scale, size[1] / scale
    left, top = (source.width - wide) / 2, (source.height - tall) / 2
    return source.resize(
        size, Image.Resampling.BILINEAR, (left, top, left + wide, top + tall), reducing_gap=1.5
    )


def _fitted(source: Image.Image, job: TileJob) -> Image.Image:
    """`source` whole inside the tile, or zoomed around a point of it."""
    from PIL import Image

    zoom, x, y = job.look.view
    fit = min(job.width / source.width, job.height / source.height)
    zoom = max(zoom, fit) if zoom else fit
    wide, tall = min(source.width, job.width / zoom), min(source.height, job.height / zoom)
    left = max(0.0, min(source.width - wide, x * source.width - wide / 2))
    top = max(0.0, min(source.height - tall, y * source.height - tall / 2))
    size = (max(1, min(job.width, round(wide * zoom))), max(1, min(job.height, round(tall * zoom))))
    part = source.resize(
        size, Image.Resampling.BILINEAR, (left, top, left + wide, top + tall), reducing_gap=1.5
    )
    tile = Image.new("RGB", (job.width, job.height), job.palette.window)
    tile.paste(part, ((job.width - size[0]) // 2, (job.height - size[1]) // 2))
    return tile


TileMarks: TypeAlias = "list[tuple[int, int, Image.Image]]"


def tile_marks(job: TileJob) -> TileMarks:
    """Corners, ring, name pill, hand and network mark as small patches to lay over a tile."""
    from PIL import Image, ImageDraw

    look, px, p = job.look, Metrics(job.scale), job.palette
    over = Image.new("RGBA", (job.width, job.height), (0, 0, 0, 0))
    if job.height > px(110) and job.picture is not None and not look.fit:
        shade = np.zeros((px(64), job.width, 4), np.uint8)
        shade[..., 3] = np.linspace(0, 110, px(64)).astype(np.uint8)[:, None]
        over.alpha_composite(Image.fromarray(shade, "RGBA"), (0, job.height - px(64)))
    edge = _pill(over, job, px)
    if look.hand:
        _badge(over, px, edge, job.height, "hand")
    if look.poor:
        _poor(over, px, p, job.width)
    if look.note:
        width = min(job.width - px(20), fonts().width(look.note, px(13), bold=True) + px(28))
        over.alpha_composite(
            rounded(width, px(34), px(9), "#10141A"), ((job.width - width) // 2, (job.height - px(34)) // 2)
        )
        fonts().write(
            ImageDraw.Draw(over),
            (job.width - width) // 2 + px(14),
            job.height // 2,
            fonts().clip(look.note, px(13), width - px(28), bold=True),
            px(13),
            "#FFFFFF",
            bold=True,
        )
    _frame(over, job, px)
    return _patches(over, px)


def _pill(over: Image.Image, job: TileJob, px: Metrics) -> int:
    """The name at the lower left; returns where it ends."""
    from PIL import Image, ImageDraw

    look, gap, high = job.look, px(10 if job.height > px(130) else 6), px(28)
    if not look.label or job.width < px(60):
        return gap
    badge = tr(look.badge).upper()
    badge_room = fonts().width(badge, px(10), bold=True) + px(14) if badge else 0
    room = job.width - 2 * gap - px(42) - badge_room - (px(42) if look.hand else 0)
    name = fonts().clip(look.label, px(13), max(px(10), room))
    width = fonts().width(name, px(13)) + px(40) + badge_room
    y = job.height - gap - high
    pill = rounded(width, high, px(8), "#0D1116")
    pill.putalpha(pill.getchannel("A").point(lambda value: value * 205 // 255))
    over.alpha_composite(pill, (gap, y))
    icon = (
        draw_icon("mic", px(16), "#FF6B70", "#FF6B70")
        if look.muted
        else draw_icon("bars" if look.speaking else "mic", px(16), "#3DDC97" if look.speaking else "#FFFFFF")
    )
    over.alpha_composite(icon, (gap + px(8), y + (high - icon.height) // 2))
    draw = ImageDraw.Draw(over)
    fonts().write(draw, gap + px(30), y + high // 2, name, px(13), "#FFFFFF")
    if badge:
        at = gap + width - badge_room - px(2)
        over.alpha_composite(rounded(badge_room, px(18), px(4), "#356BDD"), (at - px(2), y + px(5)))
        layer = Image.new("RGBA", over.size, (0, 0, 0, 0))
        fonts().write(ImageDraw.Draw(layer), at + px(5), y + high // 2, badge, px(10), "#FFFFFF", bold=True)
        over.alpha_composite(layer)
    return gap + width + px(6)


def _badge(over: Image.Image, px: Metrics, x: int, height: int, _: str) -> None:
    gap = px(10 if height > px(130) else 6)
    y = height - gap - px(28)
    over.alpha_composite(rounded(px(36), px(28), px(8), "#14181F", "#F5B454", px(2)), (x, y))
    over.alpha_composite(draw_emoji("✋", px(18)), (x + px(9), y + px(5)))


def _poor(over: Image.Image, px: Metrics, p: Palette, width: int) -> None:
    from PIL import ImageDraw

    x, y = width - px(44), px(10)
    over.alpha_composite(rounded(px(34), px(30), px(8), "#0D1116"), (x, y))
    draw = ImageDraw.Draw(over)
    for at, high in enumerate((6, 11, 16)):
        left = x + px(8 + 7 * at)
        draw.rectangle(
            (left, y + px(23 - high), left + px(4), y + px(23)), fill=p.warn if at == 0 else "#5A6673"
        )


def _frame(over: Image.Image, job: TileJob, px: Metrics) -> None:
    """Round corners in the window's colour, and the ring of who speaks or is chosen."""
    from PIL import Image, ImageChops

    look, p = job.look, job.palette
    outside = ImageChops.invert(round_mask(job.width, job.height, px(12)))
    over.paste(Image.new("RGBA", over.size, (*rgb(p.window), 255)), (0, 0), outside)
    ring = look.border or (p.focus if look.chosen else p.good if look.speaking else "")
    if ring:
        inner = rounded(job.width - 2 * px(3), job.height - 2 * px(3), px(10), "", p.window, px(2))
        over.alpha_composite(inner, (px(3), px(3)))
        over.alpha_composite(rounded(job.width, job.height, px(12), "", ring, px(3)))


def _patches(over: Image.Image, px: Metrics) -> TileMarks:
    """The parts of an overlay that hold anything: four edges, and the middle where it is not empty."""
    wide, tall, top, foot, side = *over.size, px(46), px(66), px(14)
    if tall < top + foot + 8:
        return [(0, 0, over)]
    boxes = [
        (0, 0, wide, top),
        (0, tall - foot, wide, tall),
        (0, top, side, tall - foot),
        (wide - side, top, wide, tall - foot),
    ]
    middle = over.crop((side, top, wide - side, tall - foot)).getchannel("A").getbbox()
    if middle:
        boxes.append((middle[0] + side, middle[1] + top, middle[2] + side, middle[3] + top))
    return [(box[0], box[1], over.crop(box)) for box in boxes]


class TilePainter:
    """Threads that paint tiles: the newest job of each tile wins, Tk only pastes what `take` returns."""

    def __init__(self, workers: int = 2) -> None:
        self._jobs: OrderedDict[Hashable, TileJob] = OrderedDict()
        self._done: dict[Hashable, Image.Image] = {}
        self._busy: set[Hashable] = set()
        self._marks: dict[Hashable, tuple[tuple[Any, ...], TileMarks]] = {}
        self._wake = threading.Condition()
        self._closed = False
        self._threads = [
            threading.Thread(target=self._run, name=f"tile-painter-{n}", daemon=True) for n in range(workers)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, key: Hashable, job: TileJob) -> None:
        """Paint `job` for the tile `key` in place of what waits for it."""
        with self._wake:
            self._jobs[key] = job
            self._wake.notify()

    def take(self) -> dict[Hashable, Image.Image]:
        """The tiles painted since the last call."""
        with self._wake:
            done, self._done = self._done, {}
        return done

    def forget(self, key: Hashable) -> None:
        """The tile is no longer shown."""
        with self._wake:
            for store in (self._jobs, self._done, self._marks):
                store.pop(key, None)

    def close(self) -> None:
        """End the threads; each ends after the tile it paints."""
        with self._wake:
            self._closed = True
            self._wake.notify_all()
        for thread in self._threads:
            thread.join(1.0)

    def _next(self) -> tuple[Hashable, TileJob] | None:
        with self._wake:
            while not self._closed:
                key = next((key for key in self._jobs if key not in self._busy), None)
                if key is not None:
                    self._busy.add(key)
                    return key, self._jobs.pop(key)
                self._wake.wait()
        return None

    def _run(self) -> None:
        while (work := self._next()) is not None:
            key, job = work
            try:
                image = paint_tile(job, self._overlay(key, job))
                with self._wake:
                    self._done[key] = image
            except Exception:  # one tile that cannot be painted must not stop the others
                log.exception("a tile could not be painted")
            finally:
                with self._wake:
                    self._busy.discard(key)
                    self._wake.notify()

    def _overlay(self, key: Hashable, job: TileJob) -> TileMarks:
        """The marks of this tile, drawn anew only when they changed."""
        same = (job.width, job.height, job.look, job.palette, job.scale, job.picture is None, tr.language)
        known = self._marks.get(key)
        if known is None or known[0] != same:
            known = (same, tile_marks(job))
            with self._wake:
                self._marks[key] = known
        return known[1]


# ======================================================================================
# [13] WINDOW - the window, which only arranges and reads snapshots
# Uses: BASICS, CALL, WIDGETS
#
# Promises: one thread, which never waits; what takes long runs in `Errand` threads, answered through a queue.
# Leaves out: sockets and devices, which stand behind `AppBackend` and `CallController`.
# ======================================================================================


class MeetingListing(Protocol):
    """A meeting on the network as the start window lists it; `MeetingAd` is one."""

    @property
    def meeting(self) -> str: ...
    @property
    def title(self) -> str: ...
    @property
    def host(self) -> str: ...
    @property
    def address(self) -> str: ...
    @property
    def port(self) -> int: ...
    @property
    def people(self) -> int: ...
    @property
    def pin(self) -> bool: ...
    @property
    def locked(self) -> bool: ...
    @property
    def fingerprint(self) -> str: ...
    @property
    def version(self) -> int: ...


class CallController(Protocol):
    """One participant's meeting; `MeetingController` is one. Nothing here waits."""

    @property
    def gui_queue(self) -> queue.SimpleQueue[Json]: ...
    def do(self, command: Json) -> None: ...
    def snapshot(self) -> Snapshot: ...
    def picture(self, key: int | str) -> tuple[int, Picture | None]: ...
    def close(self, deadline: float = 3.0) -> None: ...


class AppBackend(Protocol):
    """What the window needs of the program. `join`, `host` and `list_devices` run in threads."""

    def find(self) -> Sequence[MeetingListing]:
        """The meetings heard of lately."""

    def auto_join(self) -> MeetingListing | None:
        """The meeting that a plain start joins by itself, once that is decided; else None."""

    def join(
        self, address: str, port: int, name: str, pin: str, accept_changed_host: bool = False
    ) -> CallController:
        """Join; Refused says why not (code as in the headless interface)."""

    def host(self, name: str, title: str, pin: str) -> CallController:
        """Host a meeting and join it; pin "" = open, "auto" = six digits of the program's choice."""

    def list_devices(self) -> Mapping[str, Sequence[tuple[str, str]]]:
        """(spec, words) of what can be chosen, by camera, mic and speaker."""

    def setting(self, key: str, default: Any) -> Any:
        """What was remembered under `key`."""

    def set_setting(self, key: str, value: Any) -> None:
        """Remember; camera, mic, speaker and volume change in the running meeting too."""

    def preview(self, camera: bool, mic: bool) -> None:
        """Run the chosen camera and microphone for the preview only, or stop them. Does not wait."""

    def preview_picture(self) -> tuple[int, Picture | None]:
        """(serial, newest picture) of the previewing camera."""

    def preview_level(self) -> float:
        """The previewing microphone's level, 0..1."""

    def test_speaker(self) -> None:
        """Play a short sound on the chosen speaker. Does not wait."""

    def close(self) -> None:
        """End everything that the program started."""


class Errand:
    """Work that may take long, in a thread of its own; `poll` brings its outcome back to the Tk thread."""

    def __init__(self, work: Callable[[], Any], done: Callable[[Any, Exception | None], None]) -> None:
        self._done = done
        self._outcome: queue.SimpleQueue[tuple[Any, Exception | None]] = queue.SimpleQueue()
        threading.Thread(target=self._run, args=(work,), name="window-errand", daemon=True).start()

    def _run(self, work: Callable[[], Any]) -> None:
        try:
            self._outcome.put((work(), None))
        except Exception as fault:  # the Tk thread shows every failure to the user
            if not isinstance(fault, Refused):
                log.exception("the window's errand failed")
            self._outcome.put((None, fault))

    def poll(self) -> bool:
        """Whether it has ended; tells its owner once."""
        try:
            result, fault = self._outcome.get_nowait()
        except queue.Empty:
            return False
        self._done(result, fault)
        return True


def clock(at: float) -> str:
    """Unix seconds as the local 14:05."""
    return time.strftime("%H:%M", time.localtime(at))


def size_words(size: float) -> str:
    """Bytes as people say them."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000 or unit == "GB":
            return f"{size:.0f} {unit}" if unit in ("B", "kB") else f"{size:.1f} {unit}"
        size /= 1000
    return ""


def spaced_pin(pin: str) -> str:
    """A PIN in two halves, easy to read aloud."""
    return f"{pin[:3]} {pin[3:]}" if len(pin) == 6 else pin


# -- the stage: tiles, layouts, reactions, toasts -------------------------------------


def grid_boxes(count: int, width: int, height: int, gap: int) -> list[Box]:
    """Boxes for `count` tiles in a space, as large as can be at 4:3 to 2:1; the last row is centred."""
    best: tuple[int, int, int, int] = (0, 1, 1, 1)
    for columns in range(1, count + 1):
        rows = -(-count // columns)
        wide, tall = (width - gap * (columns - 1)) // columns, (height - gap * (rows - 1)) // rows
        wide, tall = min(wide, tall * 2), min(tall, wide * 3 // 4)
        if wide > 0 and tall > 0 and min(wide, tall * 16 // 9) * tall > best[0]:
            best = (min(wide, tall * 16 // 9) * tall, columns, wide, tall)
    _, columns, wide, tall = best
    rows = -(-count // columns)
    top = (height - rows * tall - (rows - 1) * gap) // 2
    boxes = []
    for at in range(count):
        row, column = divmod(at, columns)
        here = min(columns, count - row * columns)
        left = (width - here * wide - (here - 1) * gap) // 2
        boxes.append((left + column * (wide + gap), top + row * (tall + gap), wide, tall))
    return boxes


def stage_boxes(count: int, width: int, height: int, gap: int, strip: int) -> list[Box]:
    """A large first box, the others in a strip of height `strip` below it."""
    if count <= 1:
        return [(0, 0, width, height)][:count]
    top = height - strip - gap
    small = min((width - gap * (count - 2)) // (count - 1), strip * 16 // 9)
    left = (width - (count - 1) * small - (count - 2) * gap) // 2
    return [
        (0, 0, width, top),
        *((left + at * (small + gap), top + gap, small, strip) for at in range(count - 1)),
    ]


def layer_for(height: int) -> int:
    """The layer whose pictures fill a tile of `height` real pixels without visible blur."""
    return next((layer for layer, (_, tall) in enumerate(LAYERS) if height <= tall * 1.25), len(LAYERS) - 1)


class VideoTile:
    """A person or the screen on the stage: a lasting PhotoImage, pasted into when it changed."""

    def __init__(self, stage: Stage, key: int | str) -> None:
        self.stage, self.key = stage, key
        self.box: Box = (0, 0, 0, 0)
        self.serial = -1
        self.looks = TileLook()
        self._photo: Photo | None = None
        self._item = 0
        self._asked: tuple[Any, ...] = ()

    def place(self, box: Box) -> None:
        """Stand at `box` of the stage, in real pixels."""
        if box == self.box:
            return
        resized = box[2:] != self.box[2:]
        self.box = box
        canvas = self.stage.canvas
        if resized:
            self._renew()
        canvas.coords(self._item, box[0], box[1])

    def _renew(self) -> None:
        from PIL import Image, ImageTk

        canvas, tag = self.stage.canvas, f"tile:{self.key}"
        blank = Image.new("RGB", self.box[2:], self.stage.look.palette.tile)
        self._photo = ImageTk.PhotoImage(blank, master=canvas)
        if not self._item:
            self._item = canvas.create_image(0, 0, anchor="nw", tags=("tile", tag))
            canvas.tag_bind(tag, "<Enter>", lambda _: self.stage.hover(self))
            canvas.tag_bind(tag, "<Double-Button-1>", lambda _: self.stage.pin(self.key))
            canvas.tag_bind(tag, "<Button-3>", lambda event: self.stage.tile_menu(self.key, event))
            canvas.tag_lower(tag)
        canvas.itemconfigure(self._item, image=self._photo)
        self._asked = ()

    def update(self, looks: TileLook, serial: int, picture: Picture | None, painter: TilePainter) -> None:
        """Have the tile painted where picture, marks or size changed."""
        look = self.stage.look
        asked = (serial if picture is not None else -1, looks, self.box[2:])
        if asked == self._asked or self.box[2] < 8 or self.box[3] < 8:
            return
        self._asked = asked
        painter.submit(
            self.key, TileJob(picture, self.box[2], self.box[3], looks, look.palette, look.px.scale)
        )

    def paste(self, image: Image.Image) -> None:
        """Show what a painter made, unless it was made for another size."""
        if self._photo is not None and image.size == (self._photo.width(), self._photo.height()):
            self._photo.paste(image)

    def remove(self) -> None:
        """Leave the stage."""
        self.stage.canvas.delete(self._item)
        for event in ("<Enter>", "<Double-Button-1>", "<Button-3>"):
            self.stage.canvas.tag_unbind(f"tile:{self.key}", event)
        self._photo = None


class Stage(Painted):
    """The canvas of tiles: layouts, pages, pinning, and what lies over them."""

    def __init__(self, look: Look, parent: tk.Misc, act: Callable[[Json], None]) -> None:
        super().__init__(look, parent, look.px(400), look.px(300), look.palette.window, focus=True)
        self.act = act
        self.layout, self.page, self.pages = "grid", 0, 1
        self.pinned: int | str | None = None
        self.tiles: dict[int | str, VideoTile] = {}
        self.painter = TilePainter()
        self.under: int | str | None = None
        self.veiled = False
        self.view = (0.0, 0.5, 0.5)
        self.menu_for: Callable[[int], Sequence[tuple[str, Callable[[], object]] | None]] = lambda _: ()
        self.pages_changed: Callable[[], None] = lambda: None
        self._speaker = 0
        self._speaker_since = 0.0
        self._shown: Snapshot = Snapshot()
        self._last: int | str | None = None
        self._hover_photos: list[Photo] = []
        self._watched: Json = {}
        self._bind()

    def _bind(self) -> None:
        canvas = self.canvas
        canvas.bind("<Configure>", lambda _: self.arrange())
        canvas.bind("<Leave>", lambda _: self.hover(None))
        canvas.bind("<MouseWheel>", lambda event: self._wheel(1 if event.delta > 0 else -1))
        canvas.bind("<Button-4>", lambda _: self._wheel(1))
        canvas.bind("<Button-5>", lambda _: self._wheel(-1))
        canvas.bind("<B1-Motion>", self._drag)
        canvas.bind("<Button-1>", self._grab)
        for key, by in (("<Left>", -1), ("<Right>", 1), ("<Up>", -1), ("<Down>", 1)):
            canvas.bind(key, partial(self._walk, by))
        canvas.bind("<Prior>", lambda _: self.turn(-1))
        canvas.bind("<Next>", lambda _: self.turn(1))
        canvas.bind("<FocusOut>", lambda _: self._choose(None))
        canvas.bind("<<TraverseIn>>", partial(self._walk, 0))

    # who is where

    def people(self) -> list[Person]:
        """Everybody in the order of the tiles: hosts, others by arrival, oneself last."""
        me = self._shown.me
        return sorted(self._shown.people, key=lambda one: (one.id == me, one.role != "host", one.id))

    def per_page(self) -> int:
        """How many tiles the grid holds at once; small windows hold fewer."""
        width, height = (
            self.canvas.winfo_width() / self.look.px.scale,
            self.canvas.winfo_height() / self.look.px.scale,
        )
        return max(1, min(5, int(width // 230))) * max(1, min(3, int(height // 150)))

    def _strip_room(self) -> int:
        return max(1, min(8, self.canvas.winfo_width() // self.look.px(172)))

    def _arranged(self) -> list[tuple[int | str, Box]]:
        """Key and box of every tile in sight."""
        px, gap = self.look.px, self.look.px(12)
        width, height = self.canvas.winfo_width() - 2 * px(16), self.canvas.winfo_height() - 2 * px(16)
        order: list[int | str] = [one.id for one in self.people()]
        main = self._main(order)
        if main is not None and main in order:
            order.remove(main)
        room = self.per_page() if main is None else (0 if self.layout == "focus" else self._strip_room())
        order = self._paged(order, room)
        keys = order if main is None else [main, *order]
        if main is not None and self.layout == "focus":
            boxes = [(0, 0, width, height)]
        elif main is not None:
            boxes = stage_boxes(len(keys), width, height, gap, min(px(112), height // 4))
        else:
            boxes = grid_boxes(len(keys), width, height, gap)
        return [(key, (x + px(16), y + px(16), w, h)) for key, (x, y, w, h) in zip(keys, boxes, strict=False)]

    def _main(self, order: Sequence[int | str]) -> int | str | None:
        """Who has the large place, or None in a plain grid."""
        if self.pinned in order or (self.pinned == "screen" and self._shown.presenter):
            return self.pinned
        if self._shown.presenter:
            return "screen"
        if self.layout == "grid":
            return None
        others = [key for key in order if key != self._shown.me]
        return self._speaker if self._speaker in others else next(iter(others), next(iter(order), None))

    def _paged(self, order: list[int | str], room: int) -> list[int | str]:
        """The part of `order` on this page; oneself is on the first."""
        me = self._shown.me
        if me in order and len(order) > room > 1:
            order.remove(me)
            order.insert(room - 1, me)
        self.pages = max(1, -(-len(order) // room)) if room else 1
        self.page = min(self.page, self.pages - 1)
        return order[self.page * room : (self.page + 1) * room]

    def arrange(self) -> None:
        """Put every tile where it belongs now and say whom we watch."""
        if self.canvas.winfo_width() < 40:
            return
        arranged = self._arranged()
        keys = {key for key, _ in arranged}
        for key in [key for key in self.tiles if key not in keys]:
            self.tiles.pop(key).remove()
            self.painter.forget(key)
        for key, box in arranged:
            if key not in self.tiles:
                self.tiles[key] = VideoTile(self, key)
            self.tiles[key].place(box)
        if self.under not in keys:
            self.hover(None)
        self.pages_changed()
        self._watch()

    def _watch(self) -> None:
        """Tell whose pictures are wanted: those in sight, at the size of their tile."""
        cameras = {one.id: one.name for one in self._shown.people if one.camera and one.id != self._shown.me}
        main = next(iter(self.tiles.values())).box[3] if self.tiles else 0
        wanted = {
            cameras[key]: {"layer": layer_for(tile.box[3]), "fps": 15 if tile.box[3] * 3 > main else 8}
            for key, tile in self.tiles.items()
            if isinstance(key, int) and key in cameras
        }
        if wanted != self._watched:
            self._watched = wanted
            self.act({"do": "watch", "streams": wanted})

    def show(self, shot: Snapshot) -> None:
        """Show the meeting as it is now."""
        old, self._shown = self._shown, shot
        now = time.monotonic()
        if (
            shot.speaking
            and shot.speaking not in (self._speaker, shot.me)
            and now - self._speaker_since > 1.5
        ):
            self._speaker, self._speaker_since = shot.speaking, now
            if self.layout != "grid":
                self.arrange()
        if (old.people, old.presenter, old.me) != (shot.people, shot.presenter, shot.me):
            if old.presenter != shot.presenter:
                self.view = (0.0, 0.5, 0.5)
                self.pinned = None if self.pinned == "screen" else self.pinned
            self.arrange()

    def render(self, controller: CallController) -> bool:
        """Paste what was painted, and have painted what changed; whether anything did."""
        done = self.painter.take()
        for key, image in done.items():
            if key in self.tiles:
                self.tiles[key].paste(image)
        shot = self._shown
        by_id = {one.id: one for one in shot.people}
        for key, tile in self.tiles.items():
            source = "self" if key == shot.me else key
            serial, picture = controller.picture(source)
            if isinstance(key, int):
                person = by_id[key]
                tile.update(self._looks(person), serial, picture if person.camera else None, self.painter)
            else:
                tile.update(self._screen_looks(by_id), serial, picture, self.painter)
        return bool(done)

    def _looks(self, one: Person) -> TileLook:
        shot, quality = self._shown, self._shown.quality.get(one.id)
        own = one.id == shot.me
        poor = quality is not None and one.camera and (0 < quality.fps < 6 or quality.lost_frames > 8)
        note = tr("Reconnecting…") if shot.link == "reconnecting" and self._last_main() == one.id else ""
        return TileLook(
            name=one.name, label=tr("You") if own else one.name, muted=not one.mic,
            speaking=one.id == shot.speaking and one.mic, hand=bool(one.hand),
            badge="Host" if one.role == "host" else "", poor=poor, mirror=own,
            dim=shot.link == "reconnecting" or self.veiled, chosen=self._last == one.id, note=note,
        )  # fmt: skip

    def _last_main(self) -> int | str | None:
        return next(iter(self.tiles), None)

    def _screen_looks(self, people: Mapping[int, Person]) -> TileLook:
        shot = self._shown
        who = people.get(shot.presenter)
        own = shot.presenter == shot.me
        return TileLook(
            name=who.name if who else "",
            label=tr("Your screen") if own else tr("{name}'s screen", name=who.name if who else ""),
            fit=True, dim=shot.link == "reconnecting" or self.veiled, view=self.view,
            chosen=self._last == "screen",
            border=self.look.palette.good if own else "",
        )  # fmt: skip

    # what the user does to it

    def set_layout(self, layout: str) -> None:
        """Grid, speaker or focus."""
        self.layout, self.page = layout, 0
        if layout == "grid":
            self.pinned = None
        self.arrange()

    def pin(self, key: int | str | None) -> None:
        """Give somebody the large place, or take it back."""
        self.pinned = None if key == self.pinned else key
        self.layout = "grid" if self.pinned is None else "focus"
        self.hover(None)
        self.arrange()

    def pin_under(self) -> None:
        """Pin the tile under the mouse, or the one chosen with the arrows."""
        key = self.under if self.under is not None else self._last
        if key is not None or self.pinned is not None:
            self.pin(key if key is not None else self.pinned)

    def turn(self, by: int) -> None:
        """Turn pages."""
        page = max(0, min(self.pages - 1, self.page + by))
        if page != self.page:
            self.page = page
            self.arrange()

    def hover(self, tile: VideoTile | None) -> None:
        """Show the small buttons of the tile under the mouse."""
        self.canvas.delete("hover")
        self._hover_photos.clear()
        self.under = tile.key if tile else None
        if tile is None or tile.box[2] < self.look.px(110):
            return
        look, px, (x, y, wide, _) = self.look, self.look.px, tile.box
        right = x + wide - px(10) - (px(42) if self._poor(tile.key) else 0)
        icons = [("pin", lambda: self.pin(tile.key)), ("more", lambda: self.tile_menu(tile.key, None))]
        if tile.key == "screen":
            icons = [
                ("minus", lambda: self.zoom(1 / 1.25)),
                ("focus", lambda: self.zoom(0)),
                ("plus", lambda: self.zoom(1.25)),
                *icons[:1],
            ]
        left = right - px(36) * len(icons)
        self._over(left, y + px(10), look.box(px(36) * len(icons), px(32), 9, "#14181F"), "hover:back")
        for at, (icon, command) in enumerate(icons):
            tag = f"hover:{icon}"
            shown = look.icon(icon, 18, "#7FAAFF" if icon == "pin" and self.pinned == tile.key else "#FFFFFF")
            self._over(left + px(36) * at + px(9), y + px(17), shown, tag)
            self.canvas.tag_bind(tag, "<Button-1>", lambda _, run=command: run())  # type: ignore[misc]
        self._facts(tile)

    def _over(self, x: int, y: int, photo: Photo, tag: str) -> None:
        self._hover_photos.append(photo)
        self.canvas.create_image(x, y, image=photo, anchor="nw", tags=("hover", tag))

    def _poor(self, key: int | str) -> bool:
        one = next((one for one in self._shown.people if one.id == key), None)
        return one is not None and self._looks(one).poor

    def _facts(self, tile: VideoTile) -> None:
        """Size, rate, loss and delay in words while the mouse rests on a tile."""
        quality = self._shown.quality.get(tile.key) if isinstance(tile.key, int) else None
        if quality is None or not quality.fps or tile.box[2] < self.look.px(220):
            return
        words = tr(
            "{width}×{height} · {fps} pictures a second",
            width=quality.width,
            height=quality.height,
            fps=round(quality.fps),
        )
        if quality.lost_frames:
            words += " · " + tr("{count} lost", count=quality.lost_frames)
        if quality.latency_ms is not None:
            words += f" · {quality.latency_ms:.0f} ms"
        x, y = tile.box[0] + self.look.px(10), tile.box[1] + self.look.px(10)
        font = self.look.font(11)
        if font.measure(words) + self.look.px(170) < tile.box[2]:
            self._over(
                x,
                y,
                self.look.box(font.measure(words) + self.look.px(16), self.look.px(24), 7, "#14181F"),
                "hover:facts",
            )
            self.canvas.create_text(
                x + self.look.px(8),
                y + self.look.px(12),
                text=words,
                font=font,
                fill="#FFFFFF",
                anchor="w",
                tags=("hover",),
            )

    def tile_menu(self, key: int | str, event: tk.Event[tk.Canvas] | None) -> None:
        """What can be done with this person."""
        if not isinstance(key, int):
            return
        x, y = (
            (event.x_root, event.y_root)
            if event
            else (self.canvas.winfo_pointerx(), self.canvas.winfo_pointery())
        )
        pin = (tr("Unpin") if self.pinned == key else tr("Pin"), partial(self.pin, key))
        self.look.menu(self.canvas, [pin, *self.menu_for(key)]).tk_popup(x, y)

    def zoom(self, by: float, x: float = -1, y: float = -1) -> None:
        """Zoom the shared screen by a factor; 0 switches between fitting and 1:1."""
        zoom, cx, cy = self.view
        if by == 0:
            self.view = (0.0 if zoom else 1.0, cx, cy)
        else:
            zoom = max(0.1, min(8.0, (zoom or 0.6) * by))
            self.view = (zoom, x if x >= 0 else cx, y if y >= 0 else cy)

    def _wheel(self, way: int) -> None:
        if self.under == "screen":
            self.zoom(1.25**way)
        else:
            self.turn(-way)

    def _grab(self, event: tk.Event[tk.Canvas]) -> None:
        self._from = (event.x, event.y, *self.view)

    def _drag(self, event: tk.Event[tk.Canvas]) -> None:
        if self.under == "screen" and self.view[0]:
            x, y, zoom, cx, cy = self._from
            wide, tall = self.tiles["screen"].box[2:]
            cx, cy = cx - (event.x - x) / wide / zoom, cy - (event.y - y) / tall / zoom
            self.view = (zoom, max(0.0, min(1.0, cx)), max(0.0, min(1.0, cy)))

    def _choose(self, key: int | str | None) -> None:
        self._last = key

    def _walk(self, by: int, _: object = None) -> None:
        keys = list(self.tiles)
        if not keys:
            return
        at = keys.index(self._last) + by if self._last in keys else 0
        if 0 <= at < len(keys):
            self._choose(keys[at])
        else:
            self.turn(by)

    def close(self) -> None:
        """End the painters."""
        self.painter.close()


class ToastStack:
    """One-line messages over the stage: at most two, for 5 s, errors until dismissed; one action each."""

    MOST: ClassVar = 2

    def __init__(self, stage: Painted) -> None:
        self.stage = stage
        self._toasts: list[tuple[int, str, str, str, Callable[[], object] | None]] = []
        self._photos: list[Photo] = []
        self._count = 0
        self._timers: dict[int, str] = {}
        stage.canvas.bind("<Configure>", lambda _: self._draw(), add="+")
        stage.canvas.bind("<Destroy>", lambda _: self._stop(), add="+")

    def add(
        self,
        words: str,
        icon: str = "info",
        action: str = "",
        command: Callable[[], object] | None = None,
        stays: bool = False,
    ) -> int:
        """Show a message; `icon` is an icon's name or one of our emoji."""
        self._count += 1
        number = self._count
        while len(self._toasts) >= self.MOST:
            self.drop(self._toasts[0][0])
        self._toasts.append((number, plain(words), icon, action, command))
        if not stays:
            self._timers[number] = self.stage.canvas.after(5000, partial(self.drop, number))
        self._draw()
        return number

    def drop(self, number: int) -> None:
        """Take a message away."""
        if number in self._timers:
            self.stage.canvas.after_cancel(self._timers.pop(number))
        self._toasts = [toast for toast in self._toasts if toast[0] != number]
        self._draw()

    def _stop(self) -> None:
        for timer in self._timers.values():
            self.stage.canvas.after_cancel(timer)
        self._timers.clear()
        self._toasts.clear()

    def _draw(self) -> None:
        self.stage.canvas.delete("toast")
        self._photos.clear()
        y = self.stage.look.px(20)
        for toast in self._toasts:
            self._one(y, *toast)
            y += self.stage.look.px(54)

    def _one(
        self, y: int, number: int, words: str, icon: str, action: str, command: Callable[[], object] | None
    ) -> None:
        stage, look = self.stage, self.stage.look
        px, p, canvas = look.px, look.palette, stage.canvas
        font, bold = look.font(13), look.font(13, bold=True)
        action_room = bold.measure(action) + px(24) if action else 0
        words = look.clip(words, font, canvas.winfo_width() - action_room - px(130))
        width, height = font.measure(words) + action_room + px(92), px(44)
        x = (canvas.winfo_width() - width) // 2
        self._put(x - px(12), y - px(12), look.shadow_box(width, height, 11, p.raised, p.line), "toast")
        shown = (
            look.emoji(icon, 20)
            if icon in emoji_shapes()
            else look.icon(icon, 20, p.bad_text if icon == "warning" else p.link)
        )
        self._put(x + px(14), y + px(12), shown, "toast")
        canvas.create_text(
            x + px(46), y + height // 2, text=words, font=font, fill=p.text, anchor="w", tags=("toast",)
        )
        if action:
            tag = f"toast:{number}"
            at = x + width - px(40)
            canvas.create_text(
                at, y + height // 2, text=action, font=bold, fill=p.link, anchor="e", tags=("toast", tag)
            )
            stage.on(tag, partial(self._act, number, command))
        self._put(x + width - px(30), y + px(15), look.icon("close", 14, p.third), f"toast:x{number}")
        stage.on(f"toast:x{number}", partial(self.drop, number))

    def _act(self, number: int, command: Callable[[], object] | None) -> None:
        self.drop(number)
        if command:
            command()

    def _put(self, x: int, y: int, photo: Photo, tag: str) -> None:
        self._photos.append(photo)
        self.stage.canvas.create_image(x, y, image=photo, anchor="nw", tags=("toast", tag))


class Reactions:
    """Emoji that float up over the stage, with the sender's name."""

    SECONDS: ClassVar = 3.0
    MOST: ClassVar = 24

    def __init__(self, stage: Painted) -> None:
        self.stage = stage
        self._floating: list[tuple[float, float, tuple[int, ...], list[Photo]]] = []

    def add(self, char: str, name: str) -> None:
        """Let one rise."""
        key = emoji_key(char)
        if not key or len(self._floating) >= self.MOST:
            return
        canvas, look = self.stage.canvas, self.stage.look
        x = canvas.winfo_width() * (0.2 + 0.6 * random.random())
        photo = look.emoji(key, 44)
        back = look.box(look.font(11).measure(plain(name)) + look.px(16), look.px(20), 8, "#14181F")
        items = (
            canvas.create_image(0, 0, image=photo, tags=("react",)),
            canvas.create_image(0, look.px(36), image=back, tags=("react",)),
            canvas.create_text(
                0, look.px(36), text=plain(name), font=look.font(11), fill="#FFFFFF", tags=("react",)
            ),
        )
        self._floating.append((time.monotonic(), x, items, [photo, back]))
        self.step()

    def step(self) -> None:
        """Move them on; called at every tick."""
        now, canvas = time.monotonic(), self.stage.canvas
        for one in list(self._floating):
            start, x, items, _ = one
            part = (now - start) / self.SECONDS
            if part >= 1:
                canvas.delete(*items)
                self._floating.remove(one)
                continue
            y = canvas.winfo_height() * (0.92 - 0.8 * (1 - (1 - part) ** 2))
            sway = self.stage.look.px(14) * math.sin(part * 7 + x)
            for item, dy in zip(items, (0, self.stage.look.px(36), self.stage.look.px(36)), strict=True):
                canvas.coords(item, x + sway, y + dy)

    def clear(self) -> None:
        """Take all away."""
        self.stage.canvas.delete("react")
        self._floating.clear()


# -- bars -----------------------------------------------------------------------------


class SideBar:
    """The left bar: what one does all the time."""

    ENTRIES: ClassVar = (
        ("mic", "Unmute", "mic", "Microphone on or off", "M"),
        ("camera", "Start video", "camera", "Camera on or off", "V"),
        ("share", "Share", "share", "Share your screen", "S"),
        ("hand", "Raise hand", "hand", "Raise or lower your hand", "H"),
        ("react", "React", "smile", "Send a reaction", "R"), ("chat", "Chat", "chat", "Messages", "C"),
        ("users", "Users", "users", "Who is here", "U"), ("host", "Host tools", "shield", "Host tools", ""),
    )  # fmt: skip

    def __init__(self, look: Look, parent: tk.Misc, commands: Mapping[str, Callable[[], object]]) -> None:
        self.look = look
        px, p = look.px, look.palette
        self.frame = look.frame(parent, p.panel)
        logo = Painted(look, self.frame, px(82), px(64))
        logo.image(px(41), px(32), look.photo(("logo", px(38)), lambda: draw_logo(px(38))), "center")
        logo.canvas.pack()
        self.logo = logo.canvas
        self.buttons: dict[str, BarButton] = {}
        for name, words, icon, tip, key in self.ENTRIES:
            self.buttons[name] = BarButton(look, self.frame, commands[name], tr(words), icon, tip, key)
            self.buttons[name].canvas.pack(pady=px(1))
        self.buttons["leave"] = BarButton(
            look, self.frame, commands["leave"], tr("Leave"), "leave", "Leave the meeting", "Esc"
        )
        self.buttons["leave"].show(kind="danger")
        self.buttons["settings"] = BarButton(
            look, self.frame, commands["settings"], tr("Settings"), "gear", "Settings"
        )
        for name in ("leave", "settings"):
            self.buttons[name].canvas.pack(side="bottom", pady=(px(1), px(8 if name == "leave" else 1)))
        self.frame.bind("<Configure>", lambda event: self._squeeze(event.height))

    def _squeeze(self, height: int) -> None:
        """Lower buttons without words, then no sign, in a low window."""
        px, count = self.look.px, len(self.buttons)
        tall = next((tall for tall in (70, 48) if px(76 + (tall + 2) * count) <= height), 42)
        for button in self.buttons.values():
            button.squeeze(tall)
        self.logo.configure(height=px(1 if tall == 42 else 64))

    def show(self, shot: Snapshot, talking: bool) -> None:
        """Show what is live, muted or raised."""
        me = next((one for one in shot.people if one.id == shot.me), None)
        if me is None:
            return
        mic_failed = shot.devices.get("mic", DeviceState()).state == "failed"
        mic = "live" if talking else "warn" if not me.mic else "card"
        self.buttons["mic"].show(
            text=tr("Mute") if me.mic else tr("Unmute"), slash=not me.mic or mic_failed, kind=mic
        )
        video = tr("Stop video") if me.camera else tr("Start video")
        self.buttons["camera"].show(text=video, slash=not me.camera, kind="card" if me.camera else "warn")
        sharing = shot.presenter == shot.me and shot.me > 0
        self.buttons["share"].show(
            text=tr("Stop share") if sharing else tr("Share"), kind="live" if sharing else "card"
        )
        self.buttons["hand"].show(
            text=tr("Lower hand") if me.hand else tr("Raise hand"), kind="primary" if me.hand else "card"
        )
        host = self.buttons["host"]
        if (shot.role == "host") != bool(host.canvas.winfo_manager()):
            if shot.role == "host":
                host.canvas.pack(after=self.buttons["users"].canvas, pady=self.look.px(1))
            else:
                host.canvas.pack_forget()


class Pill(Painted):
    """A small box of the top bar with an icon, words, and perhaps a link."""

    def __init__(
        self, look: Look, parent: tk.Misc, tip: str, command: Callable[[], object] | None = None
    ) -> None:
        super().__init__(look, parent, 10, look.px(36), focus=command is not None)
        self.command = command
        self._now: tuple[Any, ...] = ()
        self._tip = Tooltip(look, self.canvas, tip)
        if command:
            for event in ("<ButtonRelease-1>", "<Return>", "<KeyRelease-space>"):
                self.canvas.bind(event, lambda _: command())
            for event in ("<FocusIn>", "<FocusOut>"):
                self.canvas.bind(event, lambda _: self._again(), add="+")

    def show(
        self, words: str, icon: str = "", colour: str = "", link: str = "", lead: str = "", bars: int = 0
    ) -> None:
        """Show these; `bars` of 3 signal bars when above 0."""
        now = (words, icon, colour, link, lead, bars)
        if now != self._now:
            self._now = now
            self._again()

    def _again(self) -> None:
        if not self._now:
            return
        words, icon, colour, link, lead, bars = self._now
        look, px, p = self.look, self.look.px, self.look.palette
        bold, small = look.font(13, bold=True), look.font(11, bold=True)
        lead_room = small.measure(lead) + px(8) if lead else 0
        image_room = px(24) if icon or bars else 0
        link_room = look.font(12, bold=True).measure(link) + px(10) if link else 0
        width = px(22) + lead_room + image_room + bold.measure(words) + link_room
        self.wipe()
        self.canvas.configure(width=width)
        ring = p.focus if self.canvas.focus_get() is self.canvas else ""
        self.image(0, 0, look.box(width, px(36), 9, p.card, ring, 2))
        x, middle = px(11), px(18)
        if lead:
            self.text(x, middle, lead, 11, bold=True, colour=p.third)
            x += lead_room
        if icon:
            self.image(x, middle, look.icon(icon, 17, colour or p.second), "w")
        for at in range(3 if bars else 0):
            high = px(6 + 4 * at)
            fill = colour if at < bars else p.line
            self.canvas.create_rectangle(
                x + px(6 * at), px(25) - high, x + px(6 * at + 4), px(25), fill=fill, width=0
            )
        x += image_room
        self.text(x, middle, words, 13, bold=True)
        if link:
            self.text(x + bold.measure(words) + px(10), middle, link, 12, bold=True, colour=p.link)


class TopBar:
    """Title, address, encryption, time; PIN, quality, people, layouts."""

    LAYOUTS: ClassVar = (
        ("grid", "Grid: everybody"),
        ("speaker", "Speaker: who talks, large"),
        ("focus", "Focus: one picture only"),
    )

    def __init__(self, look: Look, parent: tk.Misc, commands: Mapping[str, Callable[[], object]]) -> None:
        self.look = look
        px, p = look.px, look.palette
        self.frame = look.frame(parent, p.panel)
        self.title = Painted(look, self.frame, px(100), px(58))
        self.full = Button(
            look,
            self.frame,
            commands["full"],
            icon="full",
            kind="card",
            height=36,
            tip="Full screen",
            key="F11",
        )
        self.full.canvas.pack(side="right", padx=(px(8), px(16)), pady=px(11))
        group = Card(look, self.frame, 9).canvas
        group.pack(side="right", padx=px(4))
        self.layouts: dict[str, Button] = {}
        for name, tip in self.LAYOUTS:
            button = Button(look, group, commands[name], icon=name, kind="ghost", height=36, tip=tip)
            button.canvas.pack(side="left")
            self.layouts[name] = button
        self.people = Pill(look, self.frame, "Who is here", commands["users"])
        self.quality = Pill(look, self.frame, "Connection to the host")
        self.pin = Pill(look, self.frame, "Copy the invitation: address and PIN", commands["copy"])
        for pill in (self.people, self.quality, self.pin):
            pill.canvas.pack(side="right", padx=px(4))
        self.title.canvas.pack(side="left", fill="both", expand=True, padx=(px(22), px(8)))
        self.title.canvas.bind("<Configure>", lambda _: self._write())
        self.frame.bind("<Configure>", lambda event: self._squeeze(event.width))
        self._lines: tuple[str, str, bool] = ("", "", True)
        self._narrow = False

    def _squeeze(self, width: int) -> None:
        """A narrow window keeps people and layouts; quality goes into fewer words."""
        self._narrow = width < self.look.px(880)

    def show(self, shot: Snapshot, layout: str, now: float) -> None:
        """Show the meeting as it is at `now` (monotonic seconds)."""
        p = self.look.palette
        seconds = max(0, int(now - shot.since)) if shot.since else 0
        spent = f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"
        facts = [tr("Encrypted on this network") if shot.encrypted else tr("Not encrypted")]
        facts += [f"{shot.address}:{shot.port}"] if shot.address else []
        facts += [tr("Host: {name}", name=shot.host)] if shot.host and not self._narrow else []
        lines = (shot.title, "  ·  ".join([*facts, spent]), shot.encrypted)
        if lines != self._lines:
            self._lines = lines
            self._write()
        self.people.show(str(len(shot.people)), "users")
        words, bars, colour = (
            (tr("Good"), 3, p.good)
            if shot.delay_ms < 80
            else (tr("Fair"), 2, p.warn)
            if shot.delay_ms < 250
            else (tr("Poor"), 1, p.bad)
        )
        if shot.link == "reconnecting":
            words, bars, colour = tr("No link"), 1, p.bad
        self.quality.show(
            words if self._narrow else f"{words} · {shot.delay_ms:.0f} ms", colour=colour, bars=bars
        )
        if shot.pin:
            self.pin.show(spaced_pin(shot.pin), link="" if self._narrow else tr("Copy"), lead="PIN")
        else:
            self.pin.show(tr("Invite"), "plus")
        for name, button in self.layouts.items():
            button.show(kind="primary" if name == layout else "ghost")

    def _write(self) -> None:
        title, facts, encrypted = self._lines
        look, px, p = self.look, self.look.px, self.look.palette
        room = self.title.canvas.winfo_width()
        self.title.wipe()
        self.title.text(0, px(20), title, 15, bold=True, room=room)
        icon = look.icon("lock", 14, p.good) if encrypted else look.icon("warning", 14, p.bad)
        self.title.image(0, px(41), icon, "w")
        self.title.text(px(20), px(41), facts, 12, colour=p.second, room=room - px(20))


class NoticeBar:
    """One line between top bar and stage that stays while something is so."""

    def __init__(self, look: Look, parent: tk.Misc) -> None:
        self.look = look
        self.frame = look.frame(parent, look.palette.chosen)
        self._now: tuple[str, str] | None = None

    def show(self, words: str, action: str, command: Callable[[], object], colour: str = "") -> bool:
        """Show a line with one action; whether it changed."""
        if self._now == (words, action):
            return False
        self._now = (words, action)
        look, px = self.look, self.look.px
        for child in self.frame.winfo_children():
            child.destroy()
        line = Painted(look, self.frame, px(200), px(40))
        button = Button(look, self.frame, command, action, kind="link", height=34)
        button.canvas.pack(side="right", padx=px(12), pady=px(3))
        line.canvas.pack(side="left", fill="both", expand=True, padx=(px(16), 0))
        line.canvas.bind("<Configure>", lambda event: self._write(line, words, colour, event.width))
        return True

    def _write(self, line: Painted, words: str, colour: str, room: int) -> None:
        line.wipe()
        line.image(0, self.look.px(20), self.look.icon("info", 18, colour or self.look.palette.link), "w")
        line.text(self.look.px(28), self.look.px(20), words, 13, room=room - self.look.px(28))

    def hide(self) -> None:
        """Nothing to say."""
        self._now = None


# -- the side panel -------------------------------------------------------------------

LINK: Final = re.compile(r"https?://[^\s<>\"]+[^\s<>\".,;:!?)]")


def wrapped(text: str, font: tkfont.Font, room: int, blank: str) -> list[str]:
    """`text` in lines of at most `room` pixels; each of our emoji is `blank`, other emoji their :name:."""
    text = EMOJI_PATTERN.sub(lambda found: blank if emoji_key(found[0]) else plain(found[0]), text)
    lines: list[str] = []
    for paragraph in text.expandtabs(4).split("\n"):
        line = ""
        for word in re.findall(r"\S+\s*|\s+", paragraph):
            if font.measure(line + word.rstrip()) <= room:
                line += word
                continue
            lines += [line.rstrip(" ")] if line.strip() else []
            line = word
            while font.measure(line.rstrip()) > room:
                cut = next(n for n in range(len(line) - 1, 0, -1) if n == 1 or font.measure(line[:n]) <= room)
                lines.append(line[:cut])
                line = line[cut:]
        lines.append(line.rstrip(" "))
    return lines


@dataclass(frozen=True, slots=True)
class NoteRow:
    """A line of small print in the middle of the list."""

    words: str

    def height(self, view: ListView, width: int) -> int:
        """Real pixels."""
        return view.look.px(34)

    def draw(self, view: ListView, y: int, width: int) -> None:
        """Draw it."""
        view.text(
            width // 2,
            y + view.look.px(19),
            self.words,
            12,
            colour=view.look.palette.third,
            anchor="center",
            room=width - view.look.px(30),
        )


@dataclass(frozen=True)
class ChatRow:
    """A message in its bubble; `first` of its sender's group has picture, name and time above."""

    line: ChatLine
    first: bool
    panel: ChatPanel = field(compare=False, hash=False)

    def _shape(self, view: ListView, width: int) -> tuple[list[str], int, int]:
        """Lines, text width and line height."""
        look = view.look
        font = look.font(13)
        room = max(look.px(80), width - look.px(100 if not self.line.own else 76))
        lines = wrapped(self.line.text, font, room, self.panel.blank)
        if shaped(self.line.text):
            wide = max(fonts().width(line, look.px(13)) for line in lines)
        else:
            wide = max(font.measure(line) for line in lines)
        return lines, min(wide, room), max(font.metrics("linespace"), look.px(19))

    def height(self, view: ListView, width: int) -> int:
        """Real pixels."""
        lines, _, step = self._shape(view, width)
        return len(lines) * step + view.look.px(18 + 6 + (26 if self.first else 0))

    def draw(self, view: ListView, y: int, width: int) -> None:
        """Draw head, bubble and words."""
        look, px, p, line = view.look, view.look.px, view.look.palette, self.line
        lines, wide, step = self._shape(view, width)
        box_wide, box_tall = wide + px(26), len(lines) * step + px(18)
        left = width - box_wide - px(8) if line.own else px(46)
        if self.first:
            self._head(view, y, width)
            y += px(26)
        fill = p.accent if line.own else p.card
        view.image(left, y, look.box(box_wide, box_tall, 13, fill, p.warn if line.to else "", 1))
        colour = p.on_accent if line.own else p.text
        tag = f"chat:{line.n}"
        if shaped(line.text):
            for at, words in enumerate(lines):
                view.image(
                    left + px(13),
                    y + px(9) + at * step + step // 2,
                    look.written(words, 13, colour, 10_000),
                    "w",
                )
            return
        for at, words in enumerate(lines):
            item = view.canvas.create_text(
                left + px(13),
                y + px(9) + at * step,
                text=words,
                font=look.font(13),
                fill=colour,
                anchor="nw",
                tags=(tag,),
            )
            self._links(view, item, words, left + px(13), y + px(9) + at * step, colour)
        self._emoji(view, lines, left + px(13), y + px(9), step)
        self.panel.selectable(tag, self)

    def _head(self, view: ListView, y: int, width: int) -> None:
        look, px, p, line = view.look, view.look.px, view.look.palette, self.line
        middle = y + px(14)
        at = clock(line.at)
        private = tr("private to {name}", name=line.to) if line.own else tr("private")
        words = f"{tr('You')} · {at}" if line.own else at
        if line.own:
            words = f"{private} · {words}" if line.to else words
            view.text(
                width - px(8), middle, plain(words), 12, colour=p.warn if line.to else p.third, anchor="e"
            )
            return
        view.image(px(4), y + px(26), look.avatar(line.sender, 32))
        name = look.clip(plain(line.sender), look.font(13, bold=True), width - px(190))
        view.text(px(46), middle, name, 13, bold=True)
        x = px(54) + look.font(13, bold=True).measure(name)
        view.text(x, middle, words, 12, colour=p.third)
        if line.to:
            x += look.font(12).measure(words) + px(8)
            view.text(x, middle, private, 12, colour=p.warn)
            room = look.font(12, bold=True).measure(tr("Reply"))
            tags = view.action(
                f"reply{line.n}",
                (width - room - px(14), y + px(3), room + px(10), px(22)),
                partial(self.panel.to, line.sender),
            )
            view.text(width - px(8), middle, tr("Reply"), 12, bold=True, colour=p.link, anchor="e", tags=tags)

    def _links(self, view: ListView, item: int, words: str, x: int, y: int, colour: str) -> None:
        font = view.look.font(13)
        for found in LINK.finditer(words):
            start, end = x + font.measure(words[: found.start()]), x + font.measure(words[: found.end()])
            base = y + font.metrics("ascent") + 2
            view.canvas.create_line(start, base, end, base, fill=colour)
            target = next(
                (link for link in LINK.findall(self.line.text) if link.startswith(found[0])), found[0]
            )
            view.canvas.tag_bind(item, "<Double-Button-1>", lambda _, to=target: webbrowser.open(to))  # type: ignore[misc]
            tags = view.action(
                f"link{self.line.n}:{found.start()}:{y}",
                (start, y, end - start, font.metrics("linespace")),
                partial(webbrowser.open, target),
            )
            view.canvas.create_rectangle(start, y, end, base, fill="", outline="", tags=tags)

    def _emoji(self, view: ListView, lines: Sequence[str], x: int, y: int, step: int) -> None:
        """Our pictures where the blanks stand."""
        font, blank = view.look.font(13), self.panel.blank
        found = iter(key for hit in EMOJI_PATTERN.findall(self.line.text) if (key := emoji_key(hit)))
        for at, words in enumerate(lines):
            start = words.find(blank)
            while start >= 0:
                char = next(found, None)
                if char is None:
                    return
                view.image(
                    x + font.measure(words[:start]), y + at * step + step // 2, view.look.emoji(char, 18), "w"
                )
                start = words.find(blank, start + len(blank))


class Composer:
    """Where a message is written: To, text, emoji, a file, send."""

    def __init__(
        self, look: Look, parent: tk.Misc, send: Callable[[str, str], None], attach: Callable[[], object]
    ) -> None:
        import tkinter as tk

        self.look, self.send = look, send
        px, p = look.px, look.palette
        self.frame = inner = Card(look, parent, 12, p.line).canvas
        self.entry = tk.Text(
            inner, height=3, width=10, wrap="word", bg=p.card, fg=p.text, insertbackground=p.focus, bd=0,
            undo=True,
            highlightthickness=0, font=look.font(13), selectbackground=p.accent,
            selectforeground=p.on_accent, padx=px(12), pady=px(8),
        )  # fmt: skip
        self.entry.pack(fill="x", padx=px(4), pady=(px(4), 0))
        row = look.frame(inner, p.card)
        row.pack(fill="x", padx=px(8), pady=(0, px(8)))
        self.target = Choice(look, row, [("", tr("To: Everyone"))], "", lambda _: self._hint(), px(150), 32)
        self.target.text_size = 12
        self.target.canvas.pack(side="left")
        Button(
            look,
            row,
            self.submit,
            icon="send",
            kind="primary",
            width=px(44),
            height=32,
            tip="Send",
            key="Enter",
        ).canvas.pack(side="right")
        Button(look, row, attach, icon="clip", kind="ghost", height=32, tip="Send a file").canvas.pack(
            side="right", padx=px(4)
        )
        self.smile = Button(look, row, self._pick, icon="smile", kind="ghost", height=32, tip="Emoji")
        self.smile.canvas.pack(side="right")
        self.hint = look.label(inner, tr("Message everyone"), 13, colour=p.third)
        self.hint.bind("<Button-1>", lambda _: self.entry.focus_set())
        self._photos: list[Photo] = []
        self.entry.bind("<Return>", lambda _: self._enter())
        self.entry.bind("<Shift-Return>", lambda _: None)
        self.entry.bind("<KeyRelease>", lambda _: self._changed())
        for event in ("<FocusIn>", "<FocusOut>", "<<Paste>>"):
            self.entry.bind(event, lambda _: self.entry.after_idle(self._changed))
        self.entry.bind("<Destroy>", lambda _: self._photos.clear())
        self._hint()

    def people(self, names: Sequence[str]) -> None:
        """Who can be written to in private."""
        options = [("", tr("To: Everyone")), *((name, tr("To: {name}", name=name)) for name in names)]
        if options != self.target.options:
            self.target.fill(options, self.target.value if self.target.value in names else "")
            self._hint()

    def _hint(self) -> None:
        to = self.target.value
        self.hint.configure(
            text=self.look.clip(
                plain(tr("Message {name} in private", name=to)), self.look.font(13), self.look.px(290)
            )
            if to
            else tr("Message everyone")
        )
        self._changed()

    def _changed(self) -> None:
        if not self.entry.winfo_exists():
            return
        self._no_raw_emoji()
        if (
            self.entry.get("1.0", "end-1c")
            or self.entry.dump("1.0", "end", image=True)
            or self.entry.focus_get() is self.entry
        ):
            self.hint.place_forget()
        else:
            self.hint.place(in_=self.entry, x=self.look.px(12), y=self.look.px(8))

    def _no_raw_emoji(self) -> None:
        """Emoji typed or pasted become our pictures or their names: raw ones can crash X clients."""
        text = self.entry.get("1.0", "end-1c")
        for found in reversed(list(EMOJI_PATTERN.finditer(text))):
            start, end = f"1.0+{found.start()}c", f"1.0+{found.end()}c"
            self.entry.delete(start, end)
            self._insert(found[0], start)

    def _insert(self, char: str, at: str = "insert") -> None:
        key = emoji_key(char)
        if not key:
            self.entry.insert(at, plain(char))
            return
        photo = self.look.emoji(key, 18)
        self._photos.append(photo)
        self.entry.image_create(at, image=str(photo), name=f"emoji{ord(key)}", padx=1)

    def text(self) -> str:
        """What was written, pictures as their emoji again."""
        parts = self.entry.dump("1.0", "end-1c", text=True, image=True)
        return "".join(
            chr(int(re.sub(r"#\d+$", "", value).removeprefix("emoji"))) if kind == "image" else value
            for kind, value, _ in parts
        )

    def _enter(self) -> str:
        self.submit()
        return "break"

    def submit(self) -> None:
        """Send what was written."""
        text = self.text().strip()
        if text:
            self.send(text, self.target.value)
            self.entry.delete("1.0", "end")
            self._photos.clear()
            self._changed()

    def _pick(self) -> None:
        EmojiPicker(self.look, tuple(emoji_shapes()), self._picked, self.smile.canvas, columns=8)

    def _picked(self, char: str) -> None:
        self._insert(char)
        self.entry.focus_set()
        self._changed()


class EmojiPicker(Painted):
    """A card of our emoji beside a button; a click or Return picks one, Escape none."""

    def __init__(
        self,
        look: Look,
        chars: Sequence[str],
        picked: Callable[[str], object],
        beside: tk.Widget,
        columns: int,
    ) -> None:
        self.chars, self.picked, self.columns, self.at = chars, picked, columns, 0
        self.step = look.px(40)
        rows = -(-len(chars) // columns)
        self.holder = look.frame(look.root, look.palette.line, "Overlay")
        super().__init__(
            look,
            self.holder,
            columns * self.step + look.px(16),
            rows * self.step + look.px(16),
            look.palette.card,
            focus=True,
        )
        self.canvas.pack(padx=1, pady=1)
        self._place(beside)
        self.canvas.bind("<Motion>", lambda event: self._move(self._find(event)))
        self.canvas.bind("<ButtonRelease-1>", lambda event: self._take(self._find(event)))
        self.canvas.bind("<Escape>", self._escape)
        self.canvas.bind("<FocusOut>", lambda _: self.close())
        for key in ("<Return>", "<space>"):
            self.canvas.bind(key, lambda _: self._take(self.at))
        for key, by in (("<Left>", -1), ("<Right>", 1), ("<Up>", -columns), ("<Down>", columns)):
            self.canvas.bind(key, lambda _, by=by: self._move(self.at + by))  # type: ignore[misc]
        self._draw()
        self.canvas.focus_set()

    def _place(self, beside: tk.Widget) -> None:
        root, gap = self.look.root, self.look.px(8)
        wide, tall = int(self.canvas["width"]) + 2, int(self.canvas["height"]) + 2
        x, y = beside.winfo_rootx() - root.winfo_rootx(), beside.winfo_rooty() - root.winfo_rooty()
        if x < self.look.px(100):
            x, y = x + beside.winfo_width() + gap, y
        else:
            x, y = x + beside.winfo_width() - wide, y - tall - gap
        self.holder.place(
            x=max(gap, min(x, root.winfo_width() - wide - gap)),
            y=max(gap, min(y, root.winfo_height() - tall - gap)),
        )
        self.holder.lift()

    def _find(self, event: tk.Event[tk.Canvas]) -> int:
        edge = self.look.px(8)
        return (event.y - edge) // self.step * self.columns + min(
            self.columns - 1, max(0, (event.x - edge) // self.step)
        )

    def _move(self, at: int) -> None:
        if 0 <= at < len(self.chars) and at != self.at:
            self.at = at
            self._draw()

    def _take(self, at: int) -> None:
        if 0 <= at < len(self.chars):
            self.close()
            self.picked(self.chars[at])

    def _draw(self) -> None:
        self.wipe()
        edge, _px = self.look.px(8), self.look.px
        for at, char in enumerate(self.chars):
            x, y = edge + at % self.columns * self.step, edge + at // self.columns * self.step
            if at == self.at:
                self.image(
                    x,
                    y,
                    self.look.box(
                        self.step, self.step, 9, self.look.palette.raised, self.look.palette.focus, 2
                    ),
                )
            self.image(x + self.step // 2, y + self.step // 2, self.look.emoji(char, 26), "center")

    def _escape(self, _: object) -> str:
        """Close, and let nobody else have the key."""
        self.close()
        return "break"

    def close(self) -> None:
        """Take it away."""
        if self.holder.winfo_exists():
            self.holder.destroy()


class ChatPanel:
    """Messages, grouped by sender, and the composer."""

    def __init__(
        self, look: Look, parent: tk.Misc, act: Callable[[Json], None], attach: Callable[[], object]
    ) -> None:
        self.look, self.act = look, act
        self.frame = look.frame(parent, look.palette.panel)
        one = max(1, look.font(13).measure("\u00a0"))
        self.blank = "\u00a0" * -(-look.px(20) // one)
        self.composer = Composer(look, self.frame, self._send, attach)
        self.composer.frame.pack(side="bottom", fill="x", padx=look.px(14), pady=look.px(14))
        self.list = ListView(look, self.frame, stick=True)
        self.list.canvas.pack(fill="both", expand=True, padx=(look.px(12), look.px(4)))
        self._notes: list[tuple[int, str]] = []
        self._seen: tuple[Any, ...] = ()

    def note(self, words: str, after: int) -> None:
        """A line of what happened, after message number `after`."""
        self._notes = [*self._notes[-199:], (after, words)]
        self._seen = ()

    def show(self, shot: Snapshot) -> None:
        """Show the messages of the snapshot."""
        self.composer.people([one.name for one in shot.people if one.id != shot.me])
        seen = (len(shot.chat), shot.chat[-1:] and shot.chat[-1].n)
        if seen == self._seen:
            return
        self._seen = seen
        rows: list[Row] = []
        notes = deque(self._notes)
        before: ChatLine | None = None
        day = ""
        for line in shot.chat:
            while notes and notes[0][0] < line.n:
                rows.append(NoteRow(notes.popleft()[1]))
                before = None
            today = time.strftime("%d %B", time.localtime(line.at))
            if today != day:
                rows.append(
                    NoteRow(tr("Today") + " " + clock(line.at) if today == time.strftime("%d %B") else today)
                )
                day, before = today, None
            joined = (
                before is not None
                and (before.sender, before.to, before.own) == (line.sender, line.to, line.own)
                and line.at - before.at < 180
            )
            rows.append(ChatRow(line, not joined, self))
            before = line
        rows += [NoteRow(words) for _, words in notes]
        self.list.show(rows)

    def to(self, name: str) -> None:
        """Write to one person in private."""
        if any(value == name for value, _ in self.composer.target.options):
            self.composer.target.pick(name)
        self.composer.entry.focus_set()

    def _send(self, text: str, to: str) -> None:
        self.act({"do": "private", "to": to, "text": text} if to else {"do": "chat", "text": text})

    def selectable(self, tag: str, row: ChatRow) -> None:
        """A right click on a message offers to copy it."""
        self.list.canvas.tag_bind(tag, "<Button-3>", lambda event: self._menu(event, row))

    def _menu(self, event: tk.Event[tk.Canvas], row: ChatRow) -> None:
        entries: list[tuple[str, Callable[[], object]] | None] = [
            (tr("Copy"), lambda: copy_text(self.look.root, row.line.text))
        ]
        if not row.line.own:
            entries.append((tr("Answer in private"), partial(self.to, row.line.sender)))
        self.look.menu(self.list.canvas, entries).tk_popup(event.x_root, event.y_root)


def copy_text(root: tk.Tk, text: str) -> None:
    """Put `text` on the clipboard."""
    root.clipboard_clear()
    root.clipboard_append(text)


@dataclass(frozen=True)
class PersonRow:
    """One attendee: picture, name, what is live, and a menu."""

    person: Person
    own: bool
    speaking: bool
    menu: Callable[[], object] = field(compare=False, hash=False)

    def height(self, view: ListView, width: int) -> int:
        """Real pixels."""
        return view.look.px(52)

    def draw(self, view: ListView, y: int, width: int) -> None:
        """Draw it."""
        look, px, p, one = view.look, view.look.px, view.look.palette, self.person
        middle = y + px(26)
        view.image(px(4), y + px(8), look.avatar(one.name, 36))
        words = one.name + (f" ({tr('you')})" if self.own else "")
        parts = (
            ([tr("Host")] if one.role == "host" else [])
            + ([tr("sharing the screen")] if one.sharing else [])
            + ([tr("talking")] if self.speaking else [])
        )
        room = width - px(52) - px(110)
        view.text(px(52), middle - (px(9) if parts else 0), words, 13, bold=True, room=room)
        if parts:
            view.text(px(52), middle + px(10), " · ".join(parts), 11, colour=p.second, room=room)
        x = width - px(6)
        if not self.own:
            tags = view.action(f"more{one.id}", (x - px(28), y + px(12), px(28), px(28)), self.menu)
            view.image(x - px(14), middle, look.icon("more", 18, p.second), "center", tags)
        x -= px(34)
        view.image(
            x,
            middle,
            look.icon("camera", 17, p.second if one.camera else p.third, "" if one.camera else p.bad),
            "e",
        )
        mic = look.icon(
            "bars" if self.speaking else "mic",
            17,
            p.good if self.speaking else p.second,
            "" if one.mic else p.bad,
        )
        view.image(x - px(26), middle, mic, "e")
        if one.hand:
            view.image(x - px(52), middle, look.emoji("✋", 17), "e")


class AttendeesPanel:
    """Who is here: raised hands first in their order, then the host, then by name."""

    def __init__(
        self, look: Look, parent: tk.Misc, menu_for: Callable[[int], None], mute_all: Callable[[], object]
    ) -> None:
        self.look, self.menu_for = look, menu_for
        px = look.px
        self.frame = look.frame(parent, look.palette.panel)
        self.search = Field(look, self.frame, hint=tr("Find a name"), width=px(200), height=38)
        self.search.canvas.pack(fill="x", padx=px(14), pady=(px(2), px(8)))
        self._shot = Snapshot()
        self.search.entry.bind("<KeyRelease>", self._search, add="+")
        self.tools = look.frame(self.frame, look.palette.panel)
        Button(look, self.tools, mute_all, tr("Mute all"), "mic", height=38).canvas.pack(fill="x")
        self.list = ListView(look, self.frame)
        self.list.canvas.pack(fill="both", expand=True, padx=(px(12), px(4)), pady=(0, px(8)))

    def _search(self, _: object) -> None:
        self.show(self._shot)

    def show(self, shot: Snapshot) -> None:
        """Show the people of the snapshot."""
        self._shot = shot
        if (shot.role == "host") != bool(self.tools.winfo_manager()):
            if shot.role == "host":
                self.tools.pack(side="bottom", fill="x", padx=self.look.px(14), pady=self.look.px(12))
            else:
                self.tools.pack_forget()
        wanted = self.search.value.casefold()
        people = [one for one in shot.people if wanted in one.name.casefold()]
        people.sort(
            key=lambda one: (one.hand or math.inf, one.role != "host", one.id != shot.me, one.name.casefold())
        )
        self.list.show(
            [
                PersonRow(
                    one,
                    one.id == shot.me,
                    one.id == shot.speaking and one.mic,
                    partial(self.menu_for, one.id),
                )
                for one in people
            ]
        )


@dataclass(frozen=True)
class FileRow:
    """One file: name, size, how far, and what can be done."""

    entry: FileEntry
    actions: tuple[tuple[str, str, Callable[[], object]], ...] = field(compare=False, hash=False)

    def height(self, view: ListView, width: int) -> int:
        """Real pixels."""
        return view.look.px(70 + 34 * bool(self.actions) + 8)

    def draw(self, view: ListView, y: int, width: int) -> None:
        """Draw it."""
        look, px, p, one = view.look, view.look.px, view.look.palette, self.entry
        view.image(px(2), y, look.box(width - px(4), self.height(view, width) - px(8), 12, p.card))
        view.image(px(14), y + px(14), look.box(px(40), px(40), 9, p.chosen))
        view.image(px(34), y + px(34), look.icon("file", 20, p.link), "center")
        view.text(px(66), y + px(24), one.name, 13, bold=True, room=width - px(80))
        view.text(
            px(66),
            y + px(45),
            self._facts(),
            11,
            colour=p.bad_text if one.state == "failed" else p.second,
            room=width - px(80),
        )
        if one.state in ("uploading", "downloading"):
            full = width - px(80)
            done = round(full * min(1.0, one.done / max(1, one.size)))
            view.image(px(66), y + px(57), look.box(full, px(5), 3, p.line))
            view.image(px(66), y + px(57), look.box(max(px(5), done // 3 * 3), px(5), 3, p.accent))
        x = px(66)
        for name, words, command in self.actions:
            room = look.font(12, bold=True).measure(words) + px(24)
            tags = view.action(f"{name}{one.file}", (x, y + px(66), room, px(30)), command)
            main = name in ("download", "open")
            view.image(x, y + px(66), look.box(room, px(30), 8, p.accent if main else p.raised), tags=tags)
            view.text(
                x + room // 2,
                y + px(81),
                words,
                12,
                bold=True,
                colour=p.on_accent if main else p.text,
                anchor="center",
                tags=tags,
            )
            x += room + px(8)

    def _facts(self) -> str:
        one = self.entry
        words = {
            "uploading": tr("sending"), "downloading": tr("receiving"), "saved": tr("saved"),
            "declined": tr("declined"),
            "failed": one.reason or tr("failed"), "gone": tr("no longer offered"),
            "offered": tr("from you") if one.own else tr("from {name}", name=one.sender),
        }[one.state]  # fmt: skip
        if one.state in ("uploading", "downloading"):
            left = (one.size - one.done) / one.rate if one.rate else 0
            more = (
                f" · {size_words(one.rate)}/s" + (f" · {left:.0f} s" if left >= 1 else "") if one.rate else ""
            )
            return f"{words} {100 * one.done // max(1, one.size)} %{more}"
        return f"{size_words(one.size)} · {words}" + (f" · {tr('private')}" if one.private else "")


class FilesPanel:
    """Files offered to this meeting, and sending one's own."""

    def __init__(
        self,
        look: Look,
        parent: tk.Misc,
        act: Callable[[Json], None],
        upload: Callable[[], object],
        view: Callable[[str], object],
    ) -> None:
        self.look, self.act, self.view = look, act, view
        px = look.px
        self.frame = look.frame(parent, look.palette.panel)
        foot = look.frame(self.frame, look.palette.panel)
        foot.pack(side="bottom", fill="x", padx=px(14), pady=px(12))
        Button(look, foot, upload, tr("Send a file"), "upload", "primary").canvas.pack(fill="x")
        Button(look, foot, lambda: view(""), tr("View Downloads"), "folder", "card").canvas.pack(
            fill="x", pady=(px(8), 0)
        )
        self.list = ListView(look, self.frame)
        self.list.canvas.pack(fill="both", expand=True, padx=(px(12), px(4)))

    def show(self, shot: Snapshot) -> None:
        """Show the files of the snapshot, newest first."""
        rows: list[Row] = [FileRow(one, self._actions(one)) for one in reversed(shot.files)]
        self.list.show(rows or [NoteRow(tr("No files yet"))])

    def _actions(self, one: FileEntry) -> tuple[tuple[str, str, Callable[[], object]], ...]:
        def order(verb: str) -> Callable[[], object]:
            return partial(self.act, {"do": verb, "file": one.file})

        if one.state in ("uploading", "downloading"):
            return (("cancel", tr("Cancel"), order("cancel")),)
        if one.state == "saved" and one.path:
            return (("open", tr("Show in folder"), partial(self.view, one.path)),)
        if one.own or one.state == "gone":
            return ()
        if one.state == "offered":
            return (
                ("download", tr("Accept"), order("download")),
                ("decline", tr("Decline"), order("decline")),
            )
        return (("download", tr("Download"), order("download")),)


class SidePanel:
    """The panel at the right with its tabs."""

    TABS: ClassVar = (("messages", "Messages", 84), ("attendees", "Attendees", 104), ("files", "Files", 64))

    def __init__(self, look: Look, parent: tk.Misc, chosen: Callable[[str], object]) -> None:
        self.look, self.chosen = look, chosen
        px, p = look.px, look.palette
        self.frame = look.frame(parent, p.panel)
        self.frame.pack_propagate(False)
        self.tabs = Card(look, self.frame, 11).canvas
        self.tabs.pack(fill="x", padx=px(14), pady=px(14))
        self.pages: dict[str, tk.Frame] = {}
        self.buttons: dict[str, Button] = {}
        for at, (name, words, room) in enumerate(self.TABS):
            button = Button(
                look, self.tabs, partial(chosen, name), tr(words), kind="ghost", height=38, width=px(room)
            )
            button.canvas.grid(row=0, column=at, sticky="ew", padx=px(3), pady=px(3))
            self.tabs.columnconfigure(at, weight=1)
            self.buttons[name] = button

    def choose(self, name: str) -> None:
        """Bring one page to front."""
        for other, page in self.pages.items():
            if other != name:
                page.pack_forget()
        self.pages[name].pack(fill="both", expand=True)
        for other, button in self.buttons.items():
            button.show(kind="plain" if other == name else "ghost")

    def count(self, people: int, files: int) -> None:
        """Numbers behind the words of the tabs."""
        self.buttons["attendees"].show(text=f"{tr('Attendees')} {people}")
        self.buttons["files"].show(text=f"{tr('Files')} {files}" if files else tr("Files"))


# -- the start window -----------------------------------------------------------------


@dataclass(frozen=True)
class MeetingRow:
    """A meeting found on the network."""

    title: str
    host: str
    people: int
    place: str
    pin: bool
    other_version: bool
    chosen: bool
    choose: Callable[[], object] = field(compare=False, hash=False)

    def height(self, view: ListView, width: int) -> int:
        """Real pixels."""
        return view.look.px(76)

    def draw(self, view: ListView, y: int, width: int) -> None:
        """Draw it."""
        look, px, p = view.look, view.look.px, view.look.palette
        tags = view.action(f"meeting:{self.place}", (0, y, width, px(66)), self.choose)
        fill, ring = (p.chosen, p.focus) if self.chosen else (p.card, "")
        view.image(0, y, look.box(width, px(66), 12, fill, ring, 2), tags=tags)
        view.image(px(14), y + px(13), look.avatar(self.host, 40), tags=tags)
        room = width - px(68) - px(50)
        view.text(px(68), y + px(24), self.title, 14, bold=True, room=room, tags=tags)
        words = (
            f"{self.host} · "
            + (tr("1 person") if self.people == 1 else tr("{count} people", count=self.people))
            + f" · {self.place}"
        )
        if self.other_version:
            words = tr("Another version of ConnectSphere: both need the same")
        view.text(px(68), y + px(46), words, 12, colour=p.second, room=room, tags=tags)
        if self.pin:
            view.image(width - px(26), y + px(33), look.icon("lock", 18, p.good), "center", tags)


class PreviewCard:
    """One's own camera and microphone before the meeting."""

    def __init__(self, look: Look, parent: tk.Misc, backend: AppBackend, name: Callable[[], str]) -> None:
        self.look, self.backend, self.name = look, backend, name
        self.mic = self.camera = False
        px = look.px
        self.stage = Painted(look, parent, px(560), px(320))
        self.painter = TilePainter(1)
        self._tile: Photo | None = None
        self._asked: tuple[Any, ...] = ()
        self.buttons = {
            what: Button(look, self.stage.canvas, partial(self.flip, what), icon=what, height=48, tip=tip)
            for what, tip in (("mic", "Join with the microphone on"), ("camera", "Join with the camera on"))
        }
        for at, button in enumerate(self.buttons.values()):
            button.canvas.configure(bg="#14181F")
            button.canvas.place(relx=0.5, rely=1.0, x=px(-56 + 60 * at), y=px(-66))
        self.stage.canvas.bind("<Configure>", lambda _: self._renew())
        self._show()

    def _renew(self) -> None:
        from PIL import Image, ImageTk

        size = (max(8, self.stage.canvas.winfo_width()), max(8, self.stage.canvas.winfo_height()))
        self._tile = ImageTk.PhotoImage(Image.new("RGB", size, self.look.palette.tile), master=self.look.root)
        self.stage.canvas.delete("all")
        self.stage.canvas.create_image(0, 0, image=self._tile, anchor="nw")
        self._asked = ()

    def flip(self, what: str) -> None:
        """Switch camera or microphone for joining."""
        setattr(self, what, not getattr(self, what))
        self.backend.preview(self.camera, self.mic)
        self._show()

    def _show(self) -> None:
        for what, button in self.buttons.items():
            on = bool(getattr(self, what))
            button.show(slash=not on, kind="plain" if on else "warn")

    def tick(self) -> None:
        """Show the newest picture."""
        if self._tile is None:
            return
        serial, picture = self.backend.preview_picture() if self.camera else (-1, None)
        name = self.name()
        width, height = self._tile.width(), self._tile.height()
        if (serial, name, self.mic, width, height) != self._asked:
            self._asked = (serial, name, self.mic, width, height)
            looks = TileLook(name=name, label=plain(name), muted=not self.mic, mirror=True)
            self.painter.submit(
                "self", TileJob(picture, width, height, looks, self.look.palette, self.look.px.scale)
            )
        for image in self.painter.take().values():
            if image.size == (width, height):
                self._tile.paste(image)

    def close(self) -> None:
        """Stop the devices."""
        self.backend.preview(camera=False, mic=False)
        self.painter.close()


class DeviceRow:
    """A card with a device's kind and choice, and something live at its right."""

    def __init__(
        self, look: Look, parent: tk.Misc, icon: str, kind: str, choice: Callable[[tk.Misc], Choice]
    ) -> None:
        px, p = look.px, look.palette
        self.frame = Card(look, parent).canvas
        head = Painted(look, self.frame, px(36), px(38))
        head.image(px(20), px(19), look.icon(icon, 19, p.second), "center")
        head.canvas.pack(side="left", padx=(px(10), px(6)), pady=px(8))
        look.label(self.frame, tr(kind), 12, colour=p.third).pack(side="left")
        self.choice = choice(self.frame)
        self.choice.canvas.pack(side="right", padx=px(6))


class StartView:
    """The window before a meeting: what is on the network, name, PIN, preview, hosting."""

    def __init__(
        self,
        look: Look,
        parent: tk.Misc,
        backend: AppBackend,
        entered: Callable[[CallController, bool, bool], None],
    ) -> None:
        self.look, self.backend, self.entered = look, backend, entered
        self.frame = look.frame(parent)
        self.chosen: MeetingListing | None = None
        self._errands: list[Errand] = []
        self._listed: tuple[Any, ...] = ()
        self._busy = False
        px = look.px
        self._head()
        self.left, self.right = look.frame(self.frame), look.frame(self.frame)
        self.frame.columnconfigure(0, weight=3, uniform="half")
        self.frame.columnconfigure(1, weight=2, minsize=px(400))
        self.frame.rowconfigure(1, weight=1)
        self.left.grid(row=1, column=0, sticky="nsew", padx=(px(44), px(28)), pady=(0, px(20)))
        self.right.grid(row=1, column=1, sticky="nsew", padx=(px(28), px(44)), pady=(0, px(20)))
        self._build_right()
        self._build_left()
        self._errands.append(Errand(backend.list_devices, self._devices))

    def _head(self) -> None:
        look, px = self.look, self.look.px
        head = Painted(look, self.frame, px(300), px(84))
        head.image(px(44), px(44), look.photo(("logo", px(36)), lambda: draw_logo(px(36))), "w")
        head.text(px(92), px(44), APP_NAME, 17, bold=True)
        head.canvas.grid(row=0, column=0, columnspan=2, sticky="ew")

    def _build_left(self) -> None:
        look, px, left = self.look, self.look.px, self.left
        hint = look.label(
            left,
            tr("Speakers and a built-in microphone? Headphones stop echo for everyone."),
            12,
            colour=look.palette.third,
            width=px(480),
        )
        hint.pack(side="bottom", anchor="w", pady=(px(8), 0))
        self.speaker = DeviceRow(look, left, "volume", "Speaker", partial(self._choice, "speaker"))
        test = Button(
            look, self.speaker.frame, self.backend.test_speaker, tr("Play a test"), kind="plain", height=36
        )
        test.canvas.pack(side="right", padx=px(4))
        self.speaker.frame.pack(side="bottom", fill="x", pady=(px(10), 0))
        self.mic = DeviceRow(look, left, "mic", "Microphone", partial(self._choice, "mic"))
        self.meter = Meter(look, self.mic.frame)
        self.meter.canvas.pack(side="right", padx=px(10))
        self.mic.frame.pack(side="bottom", fill="x", pady=(px(14), 0))
        self.preview = PreviewCard(look, left, self.backend, lambda: self.name.value or tr("You"))
        self.preview.stage.canvas.pack(fill="both", expand=True)

    def _choice(self, what: str, parent: tk.Misc) -> Choice:
        value = self.backend.setting(what, "default")
        return Choice(
            self.look,
            parent,
            [(value, tr("Default device"))],
            value,
            partial(self.backend.set_setting, what),
            self.look.px(180),
            38,
        )

    def _devices(self, found: Any, fault: Exception | None) -> None:
        for what, row in (("mic", self.mic), ("speaker", self.speaker)):
            if fault is None and found.get(what):
                row.choice.fill(found[what], self.backend.setting(what, found[what][0][0]))

    def _build_right(self) -> None:
        look, px, p, right = self.look, self.look.px, self.look.palette, self.right
        look.label(right, tr("Join a meeting"), 26, bold=True).pack(anchor="w")
        look.label(right, tr("Meetings found on this network"), 13, colour=p.second).pack(
            anchor="w", pady=(px(6), px(10))
        )
        foot = look.frame(right)
        foot.pack(side="bottom", fill="x", pady=(px(8), 0))
        Button(look, foot, self._ask_address, tr("Type an address"), kind="link", height=36).canvas.pack(
            side="left"
        )
        Button(look, foot, self._ask_host, tr("Host a meeting"), kind="plain", height=36).canvas.pack(
            side="right"
        )
        self.join = Button(look, right, self._join, tr("Join"), kind="primary", height=52, size=15)
        self.join.canvas.pack(side="bottom", fill="x", pady=(px(8), px(8)))
        self.trouble = look.label(right, "", 13, colour=p.bad_text, width=px(420))
        self.trouble.pack(side="bottom", anchor="w")
        self.pin_area = look.frame(right)
        self.pin_area.pack(side="bottom", fill="x", pady=(px(12), px(8)))
        look.label(self.pin_area, tr("Meeting PIN"), 12, bold=True, colour=p.second).pack(
            anchor="w", pady=(0, px(6))
        )
        self.pin = PinBoxes(look, self.pin_area, self._join)
        self.pin.canvas.pack(fill="x")
        self.name = Field(
            look,
            right,
            self.backend.setting("name", ""),
            tr("How others will see you"),
            px(200),
            enter=self._join,
        )
        self.name.canvas.pack(side="bottom", fill="x")
        look.label(right, tr("Your name"), 12, bold=True, colour=p.second).pack(
            side="bottom", anchor="w", pady=(px(14), px(6))
        )
        self.list = ListView(look, right, gutter=0)
        self.list.canvas.pack(fill="both", expand=True)

    def tick(self) -> None:
        """List what is found now, run the preview, bring errands home."""
        self._errands = [errand for errand in self._errands if not errand.poll()]
        if not self.frame.winfo_exists():
            return
        self.preview.tick()
        self.meter.show(self.backend.preview_level() if self.preview.mic else 0.0)
        found = tuple(self.backend.find())
        if self.chosen not in found:
            same = [one for one in found if self.chosen and one.meeting == self.chosen.meeting]
            self.chosen = next(iter(same or found), None)
            self._listed = ()
        if (found, self.chosen) != self._listed:
            self._listed = (found, self.chosen)
            self._list(found)
        if not self._busy and (known := self.backend.auto_join()) is not None and self.name.value:
            self.chosen = known
            self._join()

    def _list(self, found: Sequence[MeetingListing]) -> None:
        rows: list[Row] = [
            MeetingRow(
                one.title, one.host, one.people, one.address, one.pin, one.version != PROTOCOL,
                one == self.chosen,
                partial(self._choose, one),
            )
            for one in found
        ]  # fmt: skip
        self.list.show(rows or [NoteRow(tr("Looking for meetings…"))])
        if self.chosen is not None and self.chosen.pin:
            self.pin_area.pack(
                side="bottom", fill="x", pady=(self.look.px(12), self.look.px(8)), before=self.name.canvas
            )
        else:
            self.pin_area.pack_forget()

    def _choose(self, one: MeetingListing) -> None:
        self.chosen = one
        self.trouble.configure(text="")
        if one.pin:
            self.pin.canvas.focus_set()

    def _named(self) -> str:
        """The name typed, remembered; "" and a hint when there is none."""
        name = self.name.value
        if name:
            self.backend.set_setting("name", name)
        else:
            self.trouble.configure(text=tr("Type your name first."))
            self.name.entry.focus_set()
        return name

    def _join(self, accept: bool = False) -> None:
        if self.chosen is None:
            self.trouble.configure(text=tr("No meeting was found yet. You can type its address."))
        elif name := self._named():
            one = self.chosen
            self._go(
                lambda: self.backend.join(
                    one.address, one.port, name, self.pin.value if one.pin else "", accept
                )
            )

    def join_at(self, address: str, pin: str, accept: bool = False) -> None:
        """Join by a typed address, with :port or without."""
        place, _, port = address.strip().partition(":")
        if not place or (port and not port.isdigit()):
            self.trouble.configure(text=tr("An address looks like 192.168.1.20 or 192.168.1.20:9000."))
        elif name := self._named():
            self._go(lambda: self.backend.join(place, int(port or DEFAULT_PORT), name, pin, accept))

    def _go(self, work: Callable[[], CallController]) -> None:
        if self._busy:
            return
        self._busy = True
        self.trouble.configure(text="")
        self.join.show(text=tr("Joining…"), enabled=False)
        self._errands.append(Errand(work, self._came))

    def _came(self, controller: Any, fault: Exception | None) -> None:
        self._busy = False
        self.join.show(text=tr("Join"), enabled=True)
        if fault is None:
            self.entered(controller, self.preview.mic, self.preview.camera)
        elif isinstance(fault, Refused):
            self.refused(fault.code, fault.reason)
        else:
            self.refused("", str(fault) or type(fault).__name__)

    def refused(self, code: str, reason: str) -> None:
        """Say why it did not work; a changed host asks loudly."""
        if code == "host_changed":
            ConfirmDialog(
                self.look, tr("This is not the computer you know"),
                tr(reason)
                + "\n\n"
                + tr("Another computer uses the name of a meeting that you joined before.")
                + " "
                + tr("Ask the teacher before you go on."),
                (tr("Join anyway"), "plain", lambda: self._join(accept=True)),
                (tr("Do not join"), "primary", lambda: None),
            )  # fmt: skip
            return
        self.trouble.configure(text=tr(reason))
        if code in ("wrong_pin", "pin_required"):
            self.pin.set("")
            self.pin.canvas.focus_set()

    def _ask_address(self) -> None:
        look, px = self.look, self.look.px
        dialog = Dialog(look, tr("Type an address"), 440)
        address = Field(look, dialog.body, self.backend.setting("address", ""), "192.168.1.20", px(392))
        address.canvas.pack(padx=px(24), fill="x")
        look.label(
            dialog.body, tr("PIN, if the meeting has one"), 12, bold=True, colour=look.palette.second
        ).pack(anchor="w", padx=px(24), pady=(px(14), px(6)))
        pin = PinBoxes(look, dialog.body, lambda: None)
        pin.canvas.configure(width=px(392))
        pin.canvas.pack(padx=px(24), fill="x")
        go: Callable[[], object] = lambda: self.join_at(typed[0], typed[1])  # noqa: E731
        typed = ["", ""]

        def read() -> None:
            typed[:] = [address.value, pin.value]
            dialog.close()
            go()

        address.entry.bind("<Return>", lambda _: read())
        pin.canvas.bind("<Return>", lambda _: read())
        self._answers(dialog, tr("Join"), read)
        dialog.first = address.entry

    def _answers(self, dialog: Dialog, words: str, read: Callable[[], None]) -> None:
        row = self.look.frame(dialog.body, self.look.palette.panel)
        row.pack(side="bottom", fill="x", padx=self.look.px(24), pady=self.look.px(20))
        Button(self.look, row, read, words, kind="primary").canvas.pack(side="right")
        Button(self.look, row, dialog.close, tr("Cancel")).canvas.pack(side="right", padx=self.look.px(10))

    def _ask_host(self) -> None:
        look, px, p = self.look, self.look.px, self.look.palette
        dialog = Dialog(look, tr("Host a meeting"), 440)
        look.label(dialog.body, tr("Title"), 12, bold=True, colour=p.second).pack(
            anchor="w", padx=px(24), pady=(0, px(6))
        )
        title = Field(look, dialog.body, self.backend.setting("title", ""), tr("What is it about?"), px(392))
        title.canvas.pack(padx=px(24), fill="x")
        row = look.frame(dialog.body, p.panel)
        row.pack(fill="x", padx=px(24), pady=(px(16), 0))
        look.label(row, tr("Ask for a PIN"), 13).pack(side="left")
        pin = Switch(
            look,
            row,
            bool(self.backend.setting("ask_pin", True)),
            partial(self.backend.set_setting, "ask_pin"),
        )
        pin.canvas.pack(side="right")

        def read() -> None:
            name, words, code = self._named(), title.value, "auto" if pin.value else ""
            dialog.close()
            if name:
                self.backend.set_setting("title", words)
                self._go(lambda: self.backend.host(name, words or tr("{name}'s meeting", name=name), code))

        title.entry.bind("<Return>", lambda _: read())
        self._answers(dialog, tr("Start the meeting"), read)
        dialog.first = title.entry

    def close(self) -> None:
        """Stop the preview."""
        self.preview.close()


# -- settings -------------------------------------------------------------------------


class SettingsDialog(Dialog):
    """Devices, look, language and keys; what is chosen holds at once and is remembered."""

    PAGES: ClassVar = (
        ("audio", "Audio", "mic"),
        ("video", "Video", "camera"),
        ("look", "Appearance", "eye"),
        ("keys", "Shortcuts", "keyboard"),
    )
    KEYS: ClassVar = (
        ("M, Ctrl+D", "Microphone on or off"), ("Space", "Talk while you hold it"),
        ("V, Ctrl+E", "Camera on or off"), ("S", "Share your screen"),
        ("C", "Messages"), ("U", "Who is here"), ("H", "Raise or lower your hand"),
        ("R", "Send a reaction"), ("P", "Pin the picture under the mouse"),
        ("1  2  3", "Grid, Speaker, Focus"), ("F11", "Full screen"), ("?", "This list"),
        ("Esc", "Leave, after asking"),
    )  # fmt: skip

    def __init__(
        self,
        look: Look,
        backend: AppBackend,
        live: Callable[[], tuple[float, int, Picture | None]],
        restyle: Callable[[], None],
        page: str = "audio",
    ) -> None:
        super().__init__(look, "", 820, 560)
        self.backend, self.live, self.restyle = backend, live, restyle
        px, p = look.px, look.palette
        self.found: Mapping[str, Sequence[tuple[str, str]]] = {}
        self.meter: Meter | None = None
        self.tile: PreviewTile | None = None
        side = look.frame(self.body, p.window)
        side.pack(side="left", fill="y")
        look.label(side, tr("Settings"), 18, bold=True).pack(anchor="w", padx=px(22), pady=(px(22), px(16)))
        self.tabs = {
            name: Button(look, side, partial(self.choose, name), tr(words), icon, "ghost", px(176))
            for name, words, icon in self.PAGES
        }
        for tab in self.tabs.values():
            tab.canvas.pack(padx=px(12), pady=px(3))
        Button(look, side, self.close, tr("Done"), kind="primary", width=px(176)).canvas.pack(
            side="bottom", padx=px(12), pady=px(20)
        )
        self.page = look.frame(self.body, p.panel)
        self.page.pack(side="left", fill="both", expand=True, padx=px(28), pady=px(22))
        self._errand: Errand | None = Errand(backend.list_devices, self._devices)
        self.choose(page)
        self._tick()

    def _devices(self, found: Any, fault: Exception | None) -> None:
        if fault is None:
            self.found = found
            self.choose(self.name)

    def choose(self, name: str) -> None:
        """Show one page."""
        self.name = name
        self.meter = None
        if self.tile:
            self.tile.close()
            self.tile = None
        for child in self.page.winfo_children():
            child.destroy()
        words = next(words for key, words, _ in self.PAGES if key == name)
        self.look.label(self.page, tr(words), 18, bold=True).pack(anchor="w", pady=(0, self.look.px(14)))
        for key, tab in self.tabs.items():
            tab.show(kind="plain" if key == name else "ghost")
        {"audio": self._audio, "video": self._video, "look": self._appearance, "keys": self._keys}[name]()
        self._reach(self.page)

    def _words(self, text: str) -> None:
        label = self.look.label(self.page, tr(text), 12, colour=self.look.palette.second)
        label.pack(anchor="w", pady=(self.look.px(10), self.look.px(6)))

    def _device(self, what: str, parent: tk.Misc) -> Choice:
        options = self.found.get(what) or [("default", tr("Default device"))]
        value = self.backend.setting(what, options[0][0])
        return Choice(
            self.look, parent, options, value, partial(self.backend.set_setting, what), self.look.px(300)
        )

    def _audio(self) -> None:
        look, px = self.look, self.look.px
        self._words("Microphone")
        self._device("mic", self.page).canvas.pack(fill="x")
        self.meter = Meter(look, self.page, 44, 11, 9)
        self.meter.canvas.pack(anchor="w", pady=px(12))
        self._words("Speaker")
        row = look.frame(self.page, look.palette.panel)
        row.pack(fill="x")
        Button(look, row, self.backend.test_speaker, tr("Play a test"), height=42).canvas.pack(
            side="right", padx=(px(10), 0)
        )
        self._device("speaker", row).canvas.pack(side="left", fill="x", expand=True)
        self._words("Speaker volume")
        Slider(
            look,
            self.page,
            float(self.backend.setting("volume", 0.8)),
            partial(self.backend.set_setting, "volume"),
            px(400),
        ).canvas.pack(fill="x")
        self._switch("Hold Space to talk", "space_talk", on=True)

    def _switch(self, words: str, key: str, on: bool) -> None:
        row = self.look.frame(self.page, self.look.palette.panel)
        row.pack(fill="x", pady=(self.look.px(14), 0))
        self.look.label(row, tr(words), 13).pack(side="left")
        Switch(self.look, row, bool(self.backend.setting(key, on)), partial(self._set, key)).canvas.pack(
            side="right"
        )

    def _set(self, key: str, value: Any) -> None:
        self.backend.set_setting(key, value)

    def _video(self) -> None:
        self._words("Camera")
        self._device("camera", self.page).canvas.pack(fill="x", pady=(0, self.look.px(14)))
        self.tile = PreviewTile(self.look, self.page)

    def _appearance(self) -> None:
        look, px = self.look, self.look.px
        self._words("Colours")
        names = [("dark", tr("Dark")), ("light", tr("Light")), ("contrast", tr("High contrast"))]
        Choice(
            look,
            self.page,
            names,
            self.backend.setting("palette", "dark"),
            partial(self._restyled, "palette"),
            px(300),
        ).canvas.pack(fill="x")
        self._words("Size of everything")
        sizes = [(str(size), f"{size} %") for size in (100, 125, 150, 175, 200)]
        Choice(
            look,
            self.page,
            sizes,
            str(self.backend.setting("scale", "100")),
            partial(self._restyled, "scale"),
            px(300),
        ).canvas.pack(fill="x")
        self._words("Language")
        tongues = [("en", "English"), *((code, words) for code, words in LANGUAGES if offered(code))]
        Choice(
            look, self.page, tongues, tr.language, partial(self._restyled, "language"), px(300)
        ).canvas.pack(fill="x")

    def _restyled(self, key: str, value: str) -> None:
        self.backend.set_setting(key, value)
        self.close()
        self.restyle()

    def _keys(self) -> None:
        look, px = self.look, self.look.px
        sheet = Painted(look, self.page, px(480), px(34 * len(self.KEYS)))
        for at, (keys, words) in enumerate(self.KEYS):
            y = px(34 * at + 16)
            room = look.font(12, bold=True).measure(keys) + px(18)
            sheet.image(0, y - px(12), look.box(room, px(24), 6, look.palette.raised))
            sheet.text(px(9), y, keys, 12, bold=True)
            sheet.text(px(130), y, tr(words), 13, colour=look.palette.second)
        sheet.canvas.pack(anchor="w")

    def _tick(self) -> None:
        """Meter and preview ten times a second, for as long as the dialog stands."""
        if not self.open:
            return
        if self._errand is not None and self._errand.poll():
            self._errand = None
        level, serial, picture = self.live()
        if self.meter is not None:
            self.meter.show(level)
        if self.tile is not None:
            self.tile.show(serial, picture)
        self.frame.after(100, self._tick)

    def close(self) -> None:
        """Take it away."""
        if self.tile:
            self.tile.close()
            self.tile = None
        super().close()


class PreviewTile:
    """The own picture in the settings."""

    def __init__(self, look: Look, parent: tk.Misc) -> None:
        from PIL import Image, ImageTk

        self.look, self.size = look, (look.px(480), look.px(270))
        self.painter = TilePainter(1)
        self.sheet = Painted(look, parent, *self.size)
        self.photo = ImageTk.PhotoImage(Image.new("RGB", self.size, look.palette.tile), master=look.root)
        self.sheet.image(0, 0, self.photo)
        self.sheet.canvas.pack(anchor="w")
        self._serial = -2

    def show(self, serial: int, picture: Picture | None) -> None:
        """Show the newest picture."""
        if serial != self._serial:
            self._serial = serial
            words = "" if picture is not None else tr("The camera is off")
            job = TileJob(
                picture,
                *self.size,
                TileLook(name=tr("You"), mirror=True, note=words),
                self.look.palette,
                self.look.px.scale,
            )
            self.painter.submit("self", job)
        for image in self.painter.take().values():
            self.photo.paste(image)

    def close(self) -> None:
        """End its painter."""
        self.painter.close()


LANGUAGES: Final = (("es", "Español"), ("fr", "Français"), ("hi", "हिन्दी"))


def offered(language: str) -> bool:
    """Whether a language is complete, and the toolkit here can shape its script."""
    complete = bool(TEXTS) and all(language in entry for entry in TEXTS.values())
    return complete and (language != "hi" or sys.platform in ("win32", "darwin"))


# -- the meeting window ---------------------------------------------------------------


class Talk:
    """Hold Space to talk: X repeats a held key as release and press, so a release counts after 60 ms."""

    def __init__(self, root: tk.Tk, turn: Callable[[bool], None]) -> None:
        self.root, self.turn = root, turn
        self.on = False
        self._ending = ""

    def press(self) -> None:
        """Space went down, or repeats."""
        if self._ending:
            self.root.after_cancel(self._ending)
            self._ending = ""
        if not self.on:
            self.on = True
            self.turn(True)

    def release(self) -> None:
        """Space went up, or repeats."""
        if self.on and not self._ending:
            self._ending = self.root.after(60, self._end)

    def _end(self) -> None:
        self._ending = ""
        self.on = False
        self.turn(False)

    def cancel(self) -> None:
        """Stop without telling."""
        if self._ending:
            self.root.after_cancel(self._ending)
        self._ending, self.on = "", False


class MainAppView:
    """The meeting window: arranges bars, stage and panel, reads snapshots, sends commands."""

    def __init__(
        self,
        look: Look,
        parent: tk.Misc,
        backend: AppBackend,
        controller: CallController,
        left: Callable[[str], None],
        restyle: Callable[[], None],
    ) -> None:
        self.look, self.backend, self.controller = look, backend, controller
        self.left, self.restyle = left, restyle
        self.frame = look.frame(parent)
        self.shot = controller.snapshot()
        self.needs_render = True
        self.tab = "messages"
        self.dialog: Dialog | None = None
        self.talk = Talk(look.root, lambda on: self.act({"do": "mic", "on": on}))
        self.events = EventWords(self)
        self._started = time.monotonic()
        self._warned_muted = 0.0
        self._panel_open = True
        self._build()
        self.show_panel("messages")

    def _build(self) -> None:
        look, px, frame = self.look, self.look.px, self.frame
        commands: dict[str, Callable[[], object]] = {
            "mic": partial(self.toggle, "mic"), "camera": partial(self.toggle, "camera"),
            "share": self.share, "hand": self.hand,
            "react": self.react, "chat": partial(self.flip_panel, "messages"),
            "users": partial(self.flip_panel, "attendees"),
            "host": self.host_tools, "leave": self.ask_leave, "settings": self.settings,
            "full": self.full_screen, "copy": self.copy_invitation,
            **{name: partial(self.set_layout, name) for name in ("grid", "speaker", "focus")},
        }  # fmt: skip
        self.side = SideBar(look, frame, commands)
        self.top = TopBar(look, frame, commands)
        self.notice = NoticeBar(look, frame)
        self.stage = Stage(look, frame, self.act)
        self.stage.menu_for = self.person_entries
        self.stage.pages_changed = self._pages
        self.pager = Painted(look, frame, px(200), px(34))
        self.toasts, self.reactions = ToastStack(self.stage), Reactions(self.stage)
        self.panel = SidePanel(look, frame, self.show_panel)
        self.chat = ChatPanel(look, self.panel.frame, self.act, self.upload)
        self.attendees = AttendeesPanel(
            look, self.panel.frame, self.person_menu, lambda: self.act({"do": "mute", "who": "all"})
        )
        self.files = FilesPanel(look, self.panel.frame, self.act, self.upload, self.show_folder)
        self.panel.pages = {
            "messages": self.chat.frame,
            "attendees": self.attendees.frame,
            "files": self.files.frame,
        }
        frame.columnconfigure(1, weight=1)
        frame.rowconfigure(2, weight=1)
        self.side.frame.grid(row=0, column=0, rowspan=4, sticky="ns", padx=(0, 1))
        self.top.frame.grid(row=0, column=1, columnspan=2, sticky="ew", pady=(0, 1))
        self.stage.canvas.grid(row=2, column=1, sticky="nsew")
        frame.bind("<Configure>", lambda event: self._fit(event.width))

    def _fit(self, width: int) -> None:
        room = 348 if width > self.look.px(1180) else 300
        self.panel.frame.configure(width=self.look.px(room))

    # every tick

    def tick(self) -> None:
        """One round of the render loop: events, snapshot, pictures."""
        self._drain()
        if not self.frame.winfo_exists():
            return  # an event ended the meeting
        shot = self.controller.snapshot()
        if shot != self.shot or self.needs_render:
            self.needs_render = False
            self.shot = shot
            self._show(shot)
        self.top.show(shot, self.stage.layout, time.monotonic())
        veiled = self.dialog is not None and self.dialog.open
        self.stage.veiled = veiled
        self.stage.render(self.controller)
        self.reactions.step()

    def _drain(self) -> None:
        while True:
            try:
                event = self.controller.gui_queue.get_nowait()
            except queue.Empty:
                return
            self.needs_render = True
            self.events.take(event)

    def _show(self, shot: Snapshot) -> None:
        self.side.show(shot, self.talk.on)
        self.stage.show(shot)
        self.chat.show(shot)
        self.attendees.show(shot)
        self.files.show(shot)
        self.panel.count(len(shot.people), len(shot.files))
        self._notice(shot)
        if shot.muted_speech and time.monotonic() - self._warned_muted > 30 and not self.talk.on:
            self._warned_muted = time.monotonic()
            self.toasts.add(tr("You are muted"), "mic", tr("Unmute"), partial(self.toggle, "mic"))

    def _notice(self, shot: Snapshot) -> None:
        """The one bar: reconnecting, sharing, or a host never seen before."""
        if shot.link == "reconnecting":
            words, action, command = tr("The connection was lost. Reconnecting…"), tr("Leave"), self.leave
        elif shot.presenter and shot.presenter == shot.me:
            words, action, command = tr("Everyone sees your screen"), tr("Stop sharing"), self.share
        elif shot.new_host and time.monotonic() - self._started < 60 and shot.role != "host":
            words, action, command = (
                tr("Hosted by {name}, new to this computer", name=shot.host),
                tr("Leave"),
                self.leave,
            )
        else:
            self.notice.hide()
            self.notice.frame.grid_remove()
            return
        self.notice.show(words, action, command)
        self.notice.frame.grid(row=1, column=1, columnspan=2, sticky="ew", pady=(0, 1))

    def _pages(self) -> None:
        stage, px, p = self.stage, self.look.px, self.look.palette
        if stage.pages <= 1:
            self.pager.canvas.grid_remove()
            return
        self.pager.canvas.grid(row=3, column=1, pady=(0, px(6)))
        self.pager.wipe()
        shown = min(stage.pages, 8)
        self.pager.canvas.configure(width=px(150 + 16 * shown))
        self.pager.image(px(12), px(17), self.look.icon("left", 18, p.second), "center", ("back",))
        x = px(30)
        for at in range(shown):
            here = at == min(stage.page, shown - 1)
            self.pager.image(
                x, px(14), self.look.box(px(14 if here else 7), px(7), 4, p.focus if here else p.line)
            )
            x += px(22 if here else 15)
        self.pager.image(x + px(8), px(17), self.look.icon("right", 18, p.second), "center", ("on",))
        self.pager.text(
            x + px(28),
            px(17),
            tr("Page {page} of {pages}", page=stage.page + 1, pages=stage.pages),
            12,
            colour=p.second,
        )
        self.pager.on("back", partial(stage.turn, -1))
        self.pager.on("on", partial(stage.turn, 1))

    # what the user does

    def act(self, command: Json) -> None:
        """Send one command of the headless interface."""
        self.controller.do(command)

    def me(self) -> Person:
        """Oneself as the roster says."""
        return next((one for one in self.shot.people if one.id == self.shot.me), Person(0, self.shot.name))

    def toggle(self, what: str) -> None:
        """Microphone or camera on or off."""
        on = self.me().mic if what == "mic" else self.me().camera
        self.act({"do": what, "on": not on})

    def hand(self) -> None:
        """Raise or lower one's hand."""
        self.act({"do": "hand", "up": not self.me().hand})

    def react(self) -> None:
        """Offer the reactions."""
        EmojiPicker(
            self.look,
            REACTIONS,
            lambda char: self.act({"do": "react", "emoji": char}),
            self.side.buttons["react"].canvas,
            6,
        )

    def share(self) -> None:
        """Start or stop sharing the screen; another's sharing is not interrupted."""
        if self.shot.presenter and self.shot.presenter == self.shot.me:
            self.act({"do": "share", "on": False})
        elif self.shot.presenter and self.shot.role == "host":
            self.ask(
                ConfirmDialog(
                    self.look,
                    tr("Take over the screen?"),
                    tr("Somebody else is sharing now."),
                    (tr("Cancel"), "plain", lambda: None),
                    (tr("Take over"), "primary", self._take_over),
                )
            )
        elif self.shot.presenter:
            self.toasts.add(tr("Somebody else is sharing now."), "share")
        else:
            self.act({"do": "share", "on": True, "source": "screen:0"})

    def _take_over(self) -> None:
        self.act({"do": "take_over"})
        self.act({"do": "share", "on": True, "source": "screen:0"})

    def set_layout(self, name: str) -> None:
        """Grid, speaker or focus."""
        self.stage.set_layout(name)
        self.needs_render = True

    def show_panel(self, name: str) -> None:
        """Bring one page of the side panel to front, opening the panel."""
        self._panel_open, self.tab = True, name
        self.panel.frame.grid(row=2, column=2, rowspan=2, sticky="ns", padx=(1, 0))
        self.panel.choose(name)
        if name == "messages":
            self.side.buttons["chat"].mark(unread=False)

    def flip_panel(self, name: str) -> None:
        """Show a page, or close the panel when it is the one shown."""
        if self._panel_open and self.tab == name:
            self._panel_open = False
            self.panel.frame.grid_remove()
            self.stage.canvas.focus_set()
        else:
            self.show_panel(name)

    def reading(self) -> bool:
        """Whether the messages are in sight."""
        return self._panel_open and self.tab == "messages"

    def full_screen(self) -> None:
        """Fill the screen, or go back."""
        root = self.look.root
        root.attributes("-fullscreen", not root.attributes("-fullscreen"))

    def copy_invitation(self) -> None:
        """Address and PIN, ready to be pasted."""
        shot = self.shot
        words = [shot.title, tr("Address: {address}", address=f"{shot.address}:{shot.port}")]
        copy_text(self.look.root, "\n".join([*words, f"PIN: {shot.pin}"] if shot.pin else words))
        self.toasts.add(tr("Copied: paste it where the others can read it"), "check")

    def upload(self) -> None:
        """Choose a file and offer it."""
        from tkinter import filedialog

        path = filedialog.askopenfilename(parent=self.look.root, title=tr("Send a file"))
        if path:
            to = self.chat.composer.target.value
            self.act({"do": "upload", "path": path, **({"to": to} if to and self.reading() else {})})
            self.show_panel("files")

    def show_folder(self, path: str) -> None:
        """Open the folder of what was received."""
        folder = (
            Path(path).parent
            if path
            else Path(self.backend.setting("downloads", "") or Path.home() / "Downloads" / "ConferenceFiles")
        )
        if folder.is_dir():
            webbrowser.open(folder.as_uri())
        else:
            self.toasts.add(tr("Nothing was received yet"), "folder")

    def person_entries(self, key: int) -> list[tuple[str, Callable[[], object]] | None]:
        """What can be done with a person, as menu entries."""
        one = next((one for one in self.shot.people if one.id == key), None)
        if one is None or key == self.shot.me:
            return []
        entries: list[tuple[str, Callable[[], object]] | None] = [
            (tr("Write in private"), partial(self._write_to, one.name))
        ]
        if self.shot.role == "host":
            entries += [
                None,
                (tr("Mute"), partial(self.act, {"do": "mute", "who": one.name})),
                (tr("Remove from the meeting…"), partial(self._ask_remove, one.name)),
            ]
        return entries

    def person_menu(self, key: int) -> None:
        """The menu of one attendee."""
        root = self.look.root
        entries = [(tr("Pin"), partial(self.stage.pin, key)), *self.person_entries(key)]
        self.look.menu(root, entries).tk_popup(root.winfo_pointerx(), root.winfo_pointery())

    def _write_to(self, name: str) -> None:
        self.show_panel("messages")
        self.chat.to(name)

    def _ask_remove(self, name: str) -> None:
        self.ask(
            ConfirmDialog(
                self.look,
                tr("Remove {name}?", name=plain(name)),
                tr("They cannot come back into this meeting."),
                (tr("Cancel"), "plain", lambda: None),
                (tr("Remove"), "danger", partial(self.act, {"do": "remove", "who": name})),
            )
        )

    def host_tools(self) -> None:
        """The host's menu."""
        entries: list[tuple[str, Callable[[], object]] | None] = [
            (tr("Mute all"), partial(self.act, {"do": "mute", "who": "all"})),
            (tr("Copy the invitation"), self.copy_invitation),
            (tr("Who is here"), partial(self.show_panel, "attendees")),
            None, (tr("End the meeting for all…"), self.ask_leave),
        ]  # fmt: skip
        button = self.side.buttons["host"].canvas
        self.look.menu(button, entries).tk_popup(
            button.winfo_rootx() + button.winfo_width(), button.winfo_rooty()
        )

    def ask(self, dialog: Dialog) -> None:
        """Show a dialog in place of another."""
        if self.dialog is not None:
            self.dialog.close()
        self.dialog = dialog

    def ask_leave(self) -> None:
        """Ask before leaving; a host may end it for all."""
        stay = (tr("Stay"), "plain", lambda: None)
        if self.shot.role == "host":
            end = (tr("End for all"), "danger", partial(self.act, {"do": "end"}))
            self.ask(
                ConfirmDialog(
                    self.look,
                    tr("Leave the meeting?"),
                    tr("You are the host. Others can go on without you, or the meeting ends for everybody."),
                    stay,
                    (tr("Leave"), "plain", self.leave),
                    end,
                )
            )
        else:
            self.ask(
                ConfirmDialog(
                    self.look,
                    tr("Leave the meeting?"),
                    tr("You can come back at any time while it goes on."),
                    stay,
                    (tr("Leave"), "danger", self.leave),
                )
            )

    def leave(self) -> None:
        """Leave at once."""
        self.act({"do": "leave"})
        self.left("")

    def settings(self, page: str = "audio") -> None:
        """Open the settings."""
        self.ask(SettingsDialog(self.look, self.backend, self._live, self.restyle, page))

    def _live(self) -> tuple[float, int, Picture | None]:
        return (self.shot.mic_level, *self.controller.picture("self"))

    def close(self) -> None:
        """Take the window apart."""
        self.talk.cancel()
        self.stage.close()
        self.frame.destroy()


class EventWords:
    """Turns events into toasts, dots, notes and floating reactions."""

    def __init__(self, view: MainAppView) -> None:
        self.view = view

    def take(self, event: Json) -> None:
        """Handle one event; those without a handler change the snapshot only."""
        handler = getattr(self, "_on_" + str(event.get("event", "")), None)
        if handler is not None:
            handler(event)

    def _on_reaction(self, event: Json) -> None:
        self.view.reactions.add(str(event.get("emoji", "")), str(event.get("from", "")))

    def _on_chat(self, event: Json) -> None:
        view = self.view
        own = event.get("from") == view.shot.name
        if not (view.reading() or own or event.get("history")):
            view.side.buttons["chat"].mark(unread=True)

    def _on_private(self, event: Json) -> None:
        self._on_chat(event)
        if event.get("from") != self.view.shot.name and not self.view.reading():
            name = str(event.get("from", ""))
            self.view.toasts.add(
                tr("{name} wrote to you in private", name=name),
                "chat",
                tr("Answer"),
                partial(self.view._write_to, name),
            )

    def _on_join(self, event: Json) -> None:
        self._note(tr("{name} joined", name=plain(str(event.get("name", "")))))

    def _on_leave(self, event: Json) -> None:
        self._note(tr("{name} left", name=plain(str(event.get("name", "")))))

    def _note(self, words: str) -> None:
        chat = self.view.controller.snapshot().chat
        self.view.chat.note(words, chat[-1].n if chat else 0)

    def _on_state(self, event: Json) -> None:
        old = next((one for one in self.view.shot.people if one.id == event.get("id")), None)
        if old and event.get("hand") and not old.hand and old.id != self.view.shot.me:
            self.view.toasts.add(tr("{name} raised a hand", name=old.name), "✋")

    def _on_file_offer(self, event: Json) -> None:
        if event.get("from") == self.view.shot.name:
            return
        words = tr(
            "{name} offers {file} ({size})",
            name=event.get("from"),
            file=event.get("name"),
            size=size_words(float(event.get("size", 0))),
        )
        self.view.toasts.add(words, "file", tr("Look"), partial(self.view.show_panel, "files"))

    def _on_file_saved(self, event: Json) -> None:
        path = str(event.get("path", ""))
        self.view.toasts.add(
            tr("Saved: {name}", name=Path(path).name),
            "check",
            tr("Show"),
            partial(self.view.show_folder, path),
        )

    def _on_file_failed(self, event: Json) -> None:
        self.view.toasts.add(tr(str(event.get("reason") or "The file did not arrive")), "warning", stays=True)

    def _on_screen_start(self, event: Json) -> None:
        if event.get("id") != self.view.shot.me:
            self.view.toasts.add(tr("{name} shares the screen", name=event.get("name")), "share")

    def _on_device(self, event: Json) -> None:
        if event.get("state") == "failed":
            self.view.toasts.add(
                tr(str(event.get("reason") or "A device does not work")),
                "warning",
                tr("Settings"),
                self.view.settings,
                stays=True,
            )

    def _on_error(self, event: Json) -> None:
        self.view.toasts.add(tr(str(event.get("reason", ""))), "warning", stays=True)

    def _on_reconnected(self, _: Json) -> None:
        self.view.toasts.add(tr("Connected again"), "check")

    def _on_denied(self, event: Json) -> None:
        self.view.left(str(event.get("reason", "")))

    def _on_left(self, event: Json) -> None:
        self.view.left(str(event.get("reason", "")))

    def _on_ended(self, event: Json) -> None:
        self.view.left(str(event.get("reason") or tr("The meeting has ended.")))


class Keys:
    """The keyboard of the meeting; not while a text field has the focus, except Ctrl+D and Ctrl+E."""

    TEXTS: ClassVar = ("Entry", "Text", "TEntry")

    def __init__(
        self, root: tk.Tk, view: Callable[[], MainAppView | None], wanted: Callable[[], bool]
    ) -> None:
        self.root, self.view, self.space_wanted = root, view, wanted
        root.bind("<KeyPress>", self._press)
        root.bind("<KeyRelease-space>", self._release)
        root.bind("<FocusOut>", self._release)

    def _free(self) -> bool:
        """Whether letters are commands now."""
        focus = self.root.focus_get()
        return not grabbed(self.root) and (focus is None or focus.winfo_class() not in self.TEXTS)

    def _press(self, event: tk.Event[tk.Misc]) -> None:
        view = self.view()
        if view is None or grabbed(self.root):
            return
        control = bool(int(event.state) & 4)
        if control and event.keysym.lower() in ("d", "e"):
            view.toggle("mic" if event.keysym.lower() == "d" else "camera")
        elif not control and self._free():
            self._command(view, event)
        elif event.keysym == "Escape":
            view.stage.canvas.focus_set()

    def _command(self, view: MainAppView, event: tk.Event[tk.Misc]) -> None:
        if event.keysym == "space":
            focus = self.root.focus_get()
            if (
                self.space_wanted()
                and (focus in (None, self.root, view.stage.canvas))
                and (view.talk.on or not view.me().mic)
            ):
                view.talk.press()
            return
        actions: dict[str, Callable[[], object]] = {
            "m": partial(view.toggle, "mic"), "v": partial(view.toggle, "camera"), "s": view.share,
            "c": partial(view.flip_panel, "messages"),
            "u": partial(view.flip_panel, "attendees"), "h": view.hand, "r": view.react,
            "p": view.stage.pin_under,
            "1": partial(view.set_layout, "grid"), "2": partial(view.set_layout, "speaker"),
            "3": partial(view.set_layout, "focus"),
            "f11": view.full_screen, "question": partial(view.settings, "keys"), "escape": view.ask_leave,
        }  # fmt: skip
        action = actions.get(event.keysym.lower())
        if action is not None:
            action()

    def _release(self, _: object) -> None:
        view = self.view()
        if view is not None:
            view.talk.release()


class WindowLoop:
    """Owns the root window: start window or meeting window, and the one render loop."""

    FPS: ClassVar = 30

    def __init__(self, backend: AppBackend, root: tk.Tk) -> None:
        self.backend, self.root = backend, root
        self.controller: CallController | None = None
        self.view: MainAppView | None = None
        self.start: StartView | None = None
        self._closing: list[Errand] = []
        self._after = ""
        root.title(APP_NAME)
        root.protocol("WM_DELETE_WINDOW", self.stop)
        root.bind("<Button-1>", self._unfocus, add="+")
        self._style()
        Keys(root, lambda: self.view, lambda: bool(backend.setting("space_talk", True)))
        self._size()
        self.show_start("")
        self.render_loop()

    def _size(self) -> None:
        px, root = self.look.px, self.root
        wide, tall = root.winfo_screenwidth(), root.winfo_screenheight()
        root.minsize(min(px(760), wide), min(px(520), tall))
        width, height = min(px(1280), wide), min(px(800), tall)
        root.geometry(f"{width}x{height}+{(wide - width) // 2}+{(tall - height) // 2}")

    def _style(self) -> None:
        backend, root = self.backend, self.root
        tr.language = backend.setting("language", "en")
        palette = PALETTES.get(backend.setting("palette", "dark"), DARK)
        system = 1.0 if sys.platform.startswith("linux") else max(1.0, root.winfo_fpixels("1i") / 96)
        self.look = Look(root, palette, system * float(backend.setting("scale", "100")) / 100)
        root.configure(bg=palette.window)
        dark_title(root, palette is not LIGHT)

    def _unfocus(self, event: tk.Event[tk.Misc]) -> None:
        """A click beside a text field ends typing, so that letters are commands again."""
        if isinstance(event.widget, str) or event.widget.winfo_class() in (*Keys.TEXTS, "Menu"):
            return
        focus = self.root.focus_get()
        if focus is not None and focus.winfo_class() in Keys.TEXTS and not focus.winfo_ismapped():
            self.root.focus_set()
        if self.view is not None and event.widget is self.view.stage.canvas:
            self.view.stage.canvas.focus_set()

    def restyle(self) -> None:
        """Build everything anew in the colours, size and language now chosen."""
        self._style()
        controller = self.controller
        if controller is not None and self.view is not None:
            self.view.close()
            self._enter(controller)
        elif self.start is not None:
            self.show_start("")

    def show_start(self, trouble: str) -> None:
        """Show the start window, with a reason why one is back."""
        if self.start is not None:
            self.start.close()
            self.start.frame.destroy()
        self.start = StartView(self.look, self.root, self.backend, self._entered)
        self.start.frame.pack(fill="both", expand=True)
        self.start.trouble.configure(text=tr(trouble))

    def _entered(self, controller: CallController, mic: bool, camera: bool) -> None:
        if self.start is not None:
            self.start.close()
            self.start.frame.destroy()
            self.start = None
        self._enter(controller)
        for what, on in (("mic", mic), ("camera", camera)):
            if on:
                controller.do({"do": what, "on": True})

    def _enter(self, controller: CallController) -> None:
        self.controller = controller
        self.view = MainAppView(self.look, self.root, self.backend, controller, self._left, self.restyle)
        self.view.frame.pack(fill="both", expand=True)
        self.view.stage.canvas.focus_set()

    def _left(self, reason: str) -> None:
        """Back to the start window; the controller closes in a thread."""
        if self.view is None or self.controller is None:
            return
        view, controller, self.view, self.controller = self.view, self.controller, None, None
        if view.dialog is not None:
            view.dialog.close()
        view.close()
        self._closing.append(Errand(controller.close, lambda *_: None))
        self.show_start(reason)

    def render_loop(self) -> None:
        """One tick, 30 times a second."""
        begun = time.monotonic()
        self._closing = [errand for errand in self._closing if not errand.poll()]
        if self.view is not None:
            self.view.tick()
        elif self.start is not None:
            self.start.tick()
        spent = (time.monotonic() - begun) * 1000
        self._after = self.root.after(max(1, round(1000 / self.FPS - spent)), self.render_loop)

    def stop(self) -> None:
        """Close the window; what runs behind it ends in `run_window`."""
        if self._after:
            self.root.after_cancel(self._after)
            self._after = ""
        if self.view is not None:
            self.view.close()
            self.view = None
        if self.start is not None:
            self.start.close()
            self.start = None
        self.root.destroy()


def grabbed(root: tk.Tk) -> bool:
    """Whether a dialog or a menu has the keyboard for itself."""
    return bool(root.tk.call("grab", "current"))


def dark_title(root: tk.Tk, dark: bool) -> None:
    """A dark title bar on Windows 10 and later."""
    if sys.platform == "win32":
        import ctypes

        root.update_idletasks()
        value = ctypes.c_int(int(dark))
        window = ctypes.windll.user32.GetParent(root.winfo_id())
        ctypes.windll.dwmapi.DwmSetWindowAttribute(window, 20, ctypes.byref(value), ctypes.sizeof(value))


def sharp_display() -> None:
    """Per-monitor DPI awareness on Windows, which must be set before the first window."""
    if sys.platform == "win32":
        import ctypes

        with contextlib.suppress(AttributeError, OSError):
            ctypes.windll.shcore.SetProcessDpiAwareness(2)


def run_window(app: AppBackend, root: tk.Tk | None = None) -> int:
    """Show the window until it is closed; returns the exit status. `root`: a test may bring its own."""
    import tkinter as tk

    sharp_display()
    root = root or tk.Tk(className=APP_NAME)
    loop = WindowLoop(app, root)
    root.mainloop()
    if loop.controller is not None:
        loop.controller.close()
    app.close()
    return 0


# ======================================================================================
# [14] COMMAND LINE - options, logging, the role table, main
# Uses: BASICS, SERVER, CLIENT, WINDOW
# ======================================================================================


def main() -> int:
    """Run the role that the command line names; returns the exit status."""
    return 0


if __name__ == "__main__":
    sys.exit(main())
