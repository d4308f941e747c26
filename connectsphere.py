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

import argparse
import collections
import colorsys
import contextlib
import ctypes
import dataclasses
import enum
import errno
import functools
import getpass
import hashlib
import heapq
import hmac
import ipaddress
import json
import logging
import logging.handlers
import math
import os
import queue
import random
import re
import secrets
import selectors
import signal
import socket
import ssl
import struct
import subprocess
import sys
import threading
import time
import unicodedata
import zlib
from abc import ABC, abstractmethod
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, Final, NamedTuple, NoReturn, TypeAlias, TypeVar, cast

import numpy as np
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from numpy.typing import NDArray
from spake2 import SPAKE2_A, SPAKE2_B

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
Address: TypeAlias = tuple[str, int]

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


_LATIN_LOOKALIKES: Final = {  # after compatibility decomposition and case folding
    "a": "\u0430\u03b1\u0251",
    "b": "\u0432\u044c\u03b2",
    "c": "\u0441",
    "d": "\u0501\u0111",
    "e": "\u0435\u0454\u03b5",
    "g": "\u0261\u050d",
    "h": "\u043d\u04bb\u03b7\u0570\u0127",
    "j": "\u0458",
    "k": "\u043a\u03ba",
    "l": "1|i\u0131\u0456\u03b9\u0142\u04cf",
    "m": "\u043c\u03bc",
    "n": "\u043f\u03bd\u0578",
    "o": "0\u043e\u03bf\u03c3\u0585\u00f8",
    "p": "\u0440\u03c1",
    "q": "\u051b",
    "r": "\u0433",
    "s": "\u0455",
    "t": "\u0442\u03c4",
    "u": "\u057d",
    "v": "\u0475",
    "w": "\u051d\u03c9",
    "x": "\u0445\u03c7",
    "y": "\u0443\u03c5",
    "z": "\u03b6",
}
_SKELETON_LETTERS: Final = str.maketrans(
    {lookalike: latin for latin, others in _LATIN_LOOKALIKES.items() for lookalike in others}
)


def skeleton(text: str) -> str:
    """What `text` looks like at a glance: equal for names that a reader would confuse.

    Case, accents, spaces, punctuation and invisible characters do not count; look-alike letters are one.
    """
    folded = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", text).casefold())
    letters = "".join(char for char in folded.translate(_SKELETON_LETTERS) if char.isalnum())
    merged = letters.replace("rn", "m").replace("vv", "w")
    return merged or "".join(char for char in folded if unicodedata.category(char)[0] not in "CMZ")


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


SCREEN_HELLO: Final[Shape] = {"role": _exactly("presenter", "viewer"), "ticket": _hex(16)}
SCREEN_ANSWER: Final[Shape] = {
    "status": _exactly("ok", "denied"),
    "code?": _text(32, "[a-z_]+"),
    "reason?": _REASON,
}


def encode_record(record: Json) -> bytes:
    """JSON as a length-prefixed message: what comes before the bytes of screen and files."""
    return encode_message(json.dumps(record, ensure_ascii=False, allow_nan=False).encode())


def parse_record(payload: bytes, shape: Shape) -> Json:
    """The JSON in `payload`, checked; PeerFault when it is not of `shape`."""
    return _shaped(parse_json(payload), shape)


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
#   ACKNOWLEDGE  | 5 | epoch u32 | version u32 |
#
# Each commit is acknowledged, in order: by a viewer when it has painted it, by the server to the presenter
# when most viewers have.

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
    """The commit of `version` has been painted."""

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


# -- which UDP address a client has ----------------------------------------------------------


class Binding:
    """The server's side of one client's UDP path on one plane.

    An address counts only after a sealed challenge sent there came back, and only from a
    higher bind number than any before.
    """

    MOST_PENDING = 4

    def __init__(self, ident: int, up: bytes, down: bytes, *, layered: bool) -> None:
        self.id = ident
        self.opener = Opener(up, layered=layered)
        self.sealer = Sealer(down)
        self.address: tuple[str, int] | None = None
        self._number = -1
        self._down_number = 0
        self._pending: dict[tuple[str, int], tuple[bytes, int]] = {}

    def small(self, kind: Kind, payload: bytes) -> bytes:
        """A small message to this client, as a datagram."""
        self._down_number += 1
        sealed = self.sealer.seal(kind, self.id, self._down_number, payload)
        return small_message(kind, self.id, self._down_number, sealed)

    def on_bind(self, number: int, sealed: bytes, source: tuple[str, int], token: bytes) -> bytes:
        """The challenge for `source`, which claims to be this client; PeerFault when forged or old."""
        self.opener.open(Kind.BIND, self.id, number, sealed)
        if number <= self._number:
            raise PeerFault("old_bind")
        if len(self._pending) >= self.MOST_PENDING:
            self._pending.pop(next(iter(self._pending)))
        self._pending[source] = (token, number)
        return self.small(Kind.CHALLENGE, token)

    def on_answer(self, number: int, sealed: bytes, source: tuple[str, int]) -> None:
        """Bind `source`, if this is its challenge come back; PeerFault otherwise."""
        payload = self.opener.open(Kind.ANSWER, self.id, number, sealed)
        token, bind_number = self._pending.get(source, (b"", -1))
        if not token or not hmac.compare_digest(token, payload) or bind_number <= self._number:
            raise PeerFault("bad_answer")
        del self._pending[source]
        self._number = bind_number
        self.address = source


# -- discovery: one JSON object a datagram ----------------------------------------------------------

QUESTION_SIZE: Final = 512
LONGEST_QUESTION: Final = 1_500
_VERSION: Final = _integer(1, 1_000_000)
_AD: Shape = {
    "version": _VERSION,
    "meeting": _hex(16),
    "title": _NAME,
    "host": _NAME,
    "port": _PORT,
    "people": _COUNT,
    "pin": _flag,
    "locked": _flag,
    "fingerprint": _TOKEN,
    "nonce": _either(_exactly(""), _hex(16)),
}


def discovery_question(nonce: bytes, version: int = PROTOCOL) -> bytes:
    """A question of 512 bytes, so that no answer is larger than what asked for it."""
    text = json.dumps({"connectsphere": "question", "version": version, "nonce": nonce.hex()})
    return text.encode().ljust(QUESTION_SIZE)


def parse_question(data: bytes) -> tuple[str, int]:
    """(nonce, version) of a question; PeerFault for anything else, shorter or far too long."""
    if not QUESTION_SIZE <= len(data) <= LONGEST_QUESTION:
        raise PeerFault("bad_question", "size")
    value = parse_json(data)
    if value.get("connectsphere") != "question":
        raise PeerFault("bad_question")
    checked = _shaped(value, {"version": _VERSION, "nonce": _hex(16)})
    return checked["nonce"], checked["version"]


def discovery_answer(nonce: str, fields: Json, limit: int = QUESTION_SIZE) -> bytes:
    """An answer of at most `limit` bytes to the question `nonce`, empty for a beacon.

    Title and host name are cut where they do not fit; ValueError when the rest does not.
    """
    answer: Json = {"connectsphere": "answer", "nonce": nonce, **fields}
    while True:
        data = json.dumps(answer, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
        if len(data) <= limit:
            return data
        longest = max(("title", "host"), key=lambda key: len(answer.get(key, "")))
        if not answer.get(longest):
            raise ValueError("a discovery answer that cannot fit")
        answer[longest] = answer[longest][:-1]


def parse_answer(data: bytes) -> tuple[str | None, Json]:
    """(nonce or None for a beacon, fields) of an answer; PeerFault for anything else.

    The answer of another protocol version is held to its version alone.
    """
    if len(data) > LONGEST_QUESTION:
        raise PeerFault("bad_answer", "size")
    value = parse_json(data)
    if value.get("connectsphere") != "answer":
        raise PeerFault("bad_answer")
    version = _shaped(value, {"version": _VERSION})["version"]
    fields = _shaped(value, _AD if version == PROTOCOL else {"version": _VERSION, "nonce": _text(32)})
    return fields.pop("nonce") or None, fields


# ======================================================================================
# [3] MEDIA - jitter buffer, mixer, fragments and reassembly, tiles, safe file names
# Uses: BASICS, WIRE
# ======================================================================================

# -- audio

# A silent block is this very object, so that `is` can tell it.
SILENCE: Final[Samples] = np.zeros(BLOCK, np.int16)
SILENCE.setflags(write=False)

# A block's slack is the time from its push to the pull that plays it, negative if it came too late.
SLACK_LEAST: Final = 0.0005  # four blocks of a window below this: the delay grows by a block
SLACK_MOST: Final = 0.0215  # all but three of two windows above this: it shrinks; the gap is for rest
SLACK_AIMED: Final = 0.005  # at a start, and what shrinking leaves
SLACK_WINDOW: Final = 312  # blocks, 5 s
OUTLIERS: Final = 4  # the first count that is over 1 % of the window
DEEPEST: Final = 64  # blocks held at most
DELAY_MOST: Final = 0.25  # seconds; beyond it the delay does not grow
SPREAD_MOST: Final = 0.1  # seconds of jitter that a fresh start allows for at most

QUIET_PEAK: Final = 100  # about -50 dBFS: cutting here is not heard
SPLICE: Final = 96  # samples cross-faded where time is stretched or compressed
JOIN: Final = 32  # samples cross-faded from concealment into speech
LAG_RANGE: Final = 200  # samples searched for a similar place: one period at 80 Hz
FADE_OUT: Final = 960  # samples, 60 ms: the longest that concealment sounds
PITCH_WINDOW: Final = 160
PITCH_LAGS: Final = (32, 256)  # samples, 500 to 62.5 Hz

LEVEL_FLOOR: Final = -96.0
VOICE_DB: Final = -60.0
FULL_SCALE: Final = 32_768.0


def level_db(samples: Samples) -> float:
    """The RMS level of int16 `samples` in dBFS, -96 (LEVEL_FLOOR) or more; an empty array is silence."""
    if not len(samples):
        return LEVEL_FLOOR
    wave = samples.astype(np.float32)
    power = float(wave @ wave) / (len(wave) * FULL_SCALE**2)
    return max(LEVEL_FLOOR, 10.0 * math.log10(power)) if power else LEVEL_FLOOR


def _to_int16(wave: NDArray[Any]) -> Samples:
    clipped: Samples = np.clip(np.rint(wave), -32_768, 32_767).astype(np.int16)
    return clipped


def _is_quiet(samples: Samples) -> bool:
    return int(samples.max()) < QUIET_PEAK and int(samples.min()) > -QUIET_PEAK


def _splice(old: NDArray[Any], new: Samples, at: int) -> Samples:
    """`new` from `at` on, its first len(old) samples cross-faded from `old`."""
    ramp = (np.arange(len(old), dtype=np.float32) + 0.5) / len(old)
    blend = old * (1.0 - ramp) + new[at : at + len(old)] * ramp
    return np.concatenate((_to_int16(blend), new[at + len(old) :]))


def _most_similar(old: NDArray[Any], new: NDArray[Any], low: int, high: int) -> int:
    """The place in `new`, `low` to `high` inclusive, that looks most like `old`; the later of equals."""
    pattern = old.astype(np.float32)
    scope = new[low : high + len(old)].astype(np.float32)
    total = np.concatenate(([0.0], np.cumsum(scope.astype(np.float64) ** 2)))
    energy = total[len(old) :] - total[: -len(old)]
    score = np.correlate(scope, pattern, "valid") / np.sqrt(energy + 1.0)
    score += np.linspace(0.0, 0.01 * float(np.linalg.norm(pattern)), len(score))
    return low + int(np.argmax(score))


class Concealment:
    """What is heard in place of missing sound: the last pitch period again and again, fading within 60 ms."""

    def __init__(self, history: Samples | None) -> None:
        """`history` is the sound up to the hole, 512 samples at least; None is silence."""
        self._cycle = np.zeros(1, np.float32)
        self._step = 0.0  # the jump at the start, worn off slowly so that it is no click
        self._at = FADE_OUT if history is None else 0
        if history is not None:
            self._learn(history)

    def _learn(self, history: Samples) -> None:
        recent = history[-2 * BLOCK :].astype(np.float32)
        end = len(recent) - PITCH_WINDOW
        place = _most_similar(recent[end:], recent, end - PITCH_LAGS[1], end - PITCH_LAGS[0])
        period = end - place
        overlap = period // 4
        ramp = (np.arange(overlap, dtype=np.float32) + 0.5) / overlap
        self._cycle = recent[-period:].copy()
        self._cycle[-overlap:] += (recent[-period - overlap : -period] - recent[-overlap:]) * ramp
        self._step = float(recent[-1] - recent[-period - 1])

    @property
    def spent(self) -> bool:
        """Whether only silence is left."""
        return self._at >= FADE_OUT

    def take(self, count: int) -> Samples:
        """The next `count` samples."""
        if self.spent:
            return np.zeros(count, np.int16)
        index = np.arange(self._at, self._at + count)
        self._at += count
        wave = self._cycle[index % len(self._cycle)] + self._step * np.maximum(0.0, 1.0 - index / JOIN)
        return _to_int16(wave * np.maximum(0.0, 1.0 - index / FADE_OUT))


class SlackWatch:
    """Watches how much time blocks had to spare, and says when the delay should change."""

    def __init__(self) -> None:
        self.wanted = 0  # blocks of delay to add or, negative, to take away at a good moment
        self._due = 0  # the value of `_taken` at which the moment is now
        self._taken = 0
        self._slack: deque[float] = deque(maxlen=SLACK_WINDOW)
        self._snug = deque([0] * OUTLIERS, OUTLIERS)  # `_taken` at the last slacks under SLACK_MOST
        self._tight: deque[int] = deque(maxlen=OUTLIERS)  # ... under SLACK_LEAST
        self._spread = 0.0

    @property
    def due(self) -> bool:
        """Whether the change that is wanted must not wait for a quiet moment any longer."""
        return self._taken >= self._due

    def note(self, slack: float) -> None:
        """A block was played `slack` seconds after it came."""
        self._taken += 1
        self._slack.append(slack)
        if slack < SLACK_MOST:
            self._snug.append(self._taken)
            if slack < SLACK_LEAST:
                self.note_tight()
        elif not self._taken % 32:
            self._consider_shrinking()

    def note_tight(self) -> None:
        """A block came too late, or nearly so."""
        self._tight.append(self._taken)
        many = len(self._tight) == OUTLIERS and self._taken - self._tight[0] < SLACK_WINDOW
        if many and self.wanted <= 0 and sum(self._slack) <= len(self._slack) * DELAY_MOST:
            self._want(1, patience=8)

    def moved(self, blocks: int) -> None:
        """The delay has become longer by `blocks`: what was seen so far counts as if it always had been."""
        self._slack = deque((old + blocks * BLOCK_SECONDS for old in self._slack), SLACK_WINDOW)
        self._settle()

    def restart(self) -> None:
        """The delay was chosen anew."""
        self._slack.clear()
        self._settle()

    def spread(self) -> float:
        """How far late blocks lag behind the median one, seconds, as far as it is known."""
        if len(self._slack) >= DEEPEST:
            slack = sorted(self._slack)
            self._spread = min(SPREAD_MOST, slack[len(slack) // 2] - slack[len(slack) // 100])
        return self._spread

    def summary(self) -> tuple[float, float]:
        """Of the last 5 s: the median slack, and the 99th percentile of lateness; seconds."""
        slack = sorted(self._slack) or [0.0]
        return slack[len(slack) // 2], slack[-1] - slack[len(slack) // 100]

    def _consider_shrinking(self) -> None:
        recent = list(self._slack)
        hurry = int((min(recent[-32:]) - SLACK_AIMED) / BLOCK_SECONDS)
        if hurry >= 4:
            self._want(-hurry, patience=0)
        elif self._taken - self._snug[0] > 2 * SLACK_WINDOW:
            unused = sorted(recent)[len(recent) // 100] - SLACK_AIMED
            self._want(-max(1, int(unused / BLOCK_SECONDS)), patience=64)

    def _want(self, blocks: int, patience: int) -> None:
        if self.wanted * blocks <= 0:
            self._due = self._taken + patience
        self.wanted = blocks

    def _settle(self) -> None:
        self.wanted = 0
        self._tight.clear()
        self._snug.extend([self._taken] * OUTLIERS)


class JitterBuffer:
    """Turns blocks that come at odd times into one block at every pull, as soon as is safe.

    Every pull plays one sequence number, so on a steady link the sound passes unchanged. How much time
    each block had to spare is watched over 5 s: when more than 1 % cut it close, one block of delay is
    added; when one block's time was never used, it is taken away. While nothing is audible that costs
    nothing; otherwise sound is repeated or left out where the wave looks alike.
    """

    def __init__(self) -> None:
        self._blocks: dict[int, tuple[Samples | None, float]] = {}  # by sequence number, with time of arrival
        self._next = 0  # the sequence number that the next pull plays
        self._played = -1  # the newest one played
        self._idle = True  # nothing is audible: the time line can be moved for free
        self._paused = True  # the sender said that silence follows: a gap is no loss
        self._plain = False  # nothing but the next block decides the next pull
        self._pending = SILENCE[:0]  # samples waiting in front of the next block
        self._tail = (SILENCE, SILENCE)  # the last two blocks handed out
        self._concealment: Concealment | None = Concealment(None)
        self._watch = SlackWatch()
        self._missed: deque[int] = deque(maxlen=DEEPEST)  # sequence numbers counted as lost
        self._received = self._lost = self._concealed = self._late = 0
        self.slips = 0  # how often the delay was changed

    def push(self, seq: int, samples: Samples | None, now: float) -> None:
        """Take block number `seq` (int16, shape (256,)), or None: silence from here to the next block.

        The array is kept, not copied. PeerFault if it has another shape.
        """
        if samples is not None and samples.shape != SILENCE.shape:
            raise PeerFault("audio_block", f"{samples.shape} samples")
        if seq <= self._played:
            self._count_late(seq)
            return
        if seq in self._blocks:
            return
        self._received += 1
        if samples is None and self._idle and not self._blocks:
            self._paused = True
            return
        if seq >= self._next + DEEPEST or len(self._blocks) >= DEEPEST:
            self._restart()
        elif seq < self._next and not self._idle:
            self._catch_late(seq)
        self._blocks[seq] = (samples, now)

    def pull(self, now: float) -> Samples:
        """The next 256 samples; SILENCE itself where there is nothing. Not to be written to."""
        entry = self._blocks.get(self._next) if self._plain and not self._watch.wanted else None
        if entry is None or entry[0] is None:
            return self._compose(now)
        del self._blocks[self._next]
        self._played = self._next
        self._next += 1
        self._watch.note(now - entry[1])
        self._tail = (self._tail[1], entry[0])
        return entry[0]

    def stats(self) -> dict[str, float]:
        """Blocks since the start (received, lost, concealed, late); jitter_ms, buffer_ms of the last 5 s."""
        slack, lateness = self._watch.summary()
        waiting = len(self._pending) / AUDIO_RATE
        return {
            "received": self._received,
            "lost": self._lost,
            "concealed": self._concealed,
            "late": self._late,
            "jitter_ms": round(1000.0 * lateness, 1),
            "buffer_ms": round(1000.0 * (slack + waiting), 1),
        }

    def _compose(self, now: float) -> Samples:
        """The pull when something is out of the ordinary."""
        if self._idle and not self._wakes(now):
            self._next += 1
            return SILENCE
        if len(self._pending) < BLOCK:
            fresh = self._fresh(now)
            self._pending = np.concatenate((self._pending, fresh)) if len(self._pending) else fresh
            if self._concealment is None:
                self._fit()
        block, self._pending = self._pending[:BLOCK], self._pending[BLOCK:]
        if self._idle:
            self._pending = SILENCE[:0]
        self._tail = (self._tail[1], block)
        self._plain = not (self._idle or self._concealment is not None or len(self._pending))
        return block

    def _fresh(self, now: float) -> Samples:
        """The block whose turn it is, joined to what was heard before, or its concealment."""
        seq = self._next
        self._next += 1
        entry = self._blocks.pop(seq, None)
        if entry is None:
            return self._conceal()
        self._account(seq)
        samples, at = entry
        self._paused = samples is None
        if samples is None:
            self._idle = True
            self._concealment = Concealment(None)
            return self._fade_out()
        self._watch.note(now - at)
        if self._concealment is not None:
            samples = _splice(self._concealment.take(JOIN), samples, 0)
            self._concealment = None
        return samples

    def _fade_out(self) -> Samples:
        block = np.zeros(BLOCK, np.int16)
        last = float((self._pending if len(self._pending) else self._tail[1])[-1])
        block[:JOIN] = last * (1.0 - np.arange(1, JOIN + 1) / JOIN)
        return block

    def _conceal(self) -> Samples:
        if self._concealment is None:
            self._concealment = Concealment(np.concatenate((*self._tail, self._pending)))
        if self._concealment.spent:
            self._idle = True
        else:
            self._concealed += 1
        return self._concealment.take(BLOCK)

    def _account(self, seq: int) -> None:
        """Count what is passed over by playing `seq`."""
        passed = [old for old in self._blocks if old < seq]
        for old in passed:
            del self._blocks[old]
        gap = seq - self._played - 1
        if gap and not self._paused:
            self._late += len(passed)
            self._lost += gap - len(passed)
            self._missed.extend(set(range(max(self._played + 1, seq - DEEPEST), seq)).difference(passed))
        self._played = seq

    def _count_late(self, seq: int) -> None:
        if seq in self._missed:
            self._missed.remove(seq)
            self._received += 1
            self._lost -= 1
            self._late += 1
            self._watch.note_tight()

    def _catch_late(self, seq: int) -> None:
        """Block `seq` is being concealed right now; if the delay must grow anyway, playing it does that."""
        self._watch.note_tight()
        if self._watch.wanted > 0:
            self._slipped(self._next - seq)
            self._next = seq

    def _fit(self) -> None:
        """Change the delay as planned, if the moment is good; if it is quiet, drop what waits needlessly."""
        quiet = _is_quiet(self._pending)
        wanted = self._watch.wanted
        if wanted and (quiet or self._watch.due):
            if wanted > 0:
                self._grow(quiet)
            else:
                self._shrink(quiet, -wanted)
        elif quiet and len(self._pending) > BLOCK:
            self._pending = _splice(self._pending[:JOIN], self._pending, len(self._pending) - BLOCK)

    def _grow(self, quiet: bool) -> None:
        """Repeat so much that this pull's block lasts for two pulls."""
        pattern = self._pending[:SPLICE]
        source = np.concatenate((*self._tail, self._pending))
        latest = len(self._pending)
        at = latest if quiet else _most_similar(pattern, source, latest - LAG_RANGE, latest)
        self._pending = _splice(pattern, source, at)
        self._slipped(1)

    def _shrink(self, quiet: bool, blocks: int) -> None:
        """Play the last of the next `blocks` blocks together with the present one."""
        last = self._next + blocks - 1
        final = self._blocks.get(last, (None, 0.0))[0]
        before = self._blocks.get(last - 1, (None, 0.0))[0] if blocks > 1 else self._pending[-BLOCK:]
        if final is None or before is None:
            return
        pattern = self._pending[:SPLICE]
        source = np.concatenate((before, final))
        at = BLOCK if quiet else _most_similar(pattern, source, BLOCK - LAG_RANGE, BLOCK)
        self._pending = _splice(pattern, source, at)
        for seq in range(self._next, last + 1):
            self._blocks.pop(seq, None)
        self._played = last
        self._next = last + 1
        self._slipped(-blocks)

    def _slipped(self, blocks: int) -> None:
        self.slips += 1
        self._watch.moved(blocks)

    def _restart(self) -> None:
        """Give up the time line: too much has piled up, or the sender has jumped."""
        self._blocks.clear()
        self._pending = SILENCE[:0]
        self._idle = True
        self._plain = False
        self._concealment = Concealment(None)

    def _wakes(self, now: float) -> bool:
        """Whether this pull has a block after silence; first makes the time line fit what has come."""
        if not self._blocks:
            return False
        first = min(self._blocks)
        slack = now - self._blocks[first][1] + (first - self._next) * BLOCK_SECONDS
        most = SLACK_MOST + 2.0 * self._watch.spread()
        if self._played < 0 or self._watch.wanted or first < self._next or slack > most:
            self._anchor(first, now)
        self._idle = self._next not in self._blocks
        return not self._idle

    def _anchor(self, first: int, now: float) -> None:
        """Lay the time line anew so that the least late of the waiting blocks has the slack it needs."""
        best = min(self._blocks, key=lambda seq: self._blocks[seq][1] - seq * BLOCK_SECONDS)
        short = max(SLACK_AIMED, self._watch.spread()) - (now - self._blocks[best][1])
        start = best - min(DEEPEST, max(0, math.ceil(short / BLOCK_SECONDS)))
        if best - first <= 4:  # a late beginning of speech is worth more than a few milliseconds
            start = min(start, first)
        self._next = start
        self._watch.restart()


class LoudestHold:
    """Who is loudest, changed only for someone who stays loudest for 150 ms; 0 is nobody."""

    SECONDS: Final = 0.15

    def __init__(self) -> None:
        self.current = 0
        self._rival = 0
        self._since = 0.0

    def update(self, loudest: int, now: float) -> int:
        """The loudest with hysteresis, given who is loudest at `now`."""
        if loudest == self.current or self.current == 0:
            self.current = self._rival = loudest
        elif loudest != self._rival:
            self._rival, self._since = loudest, now
        elif now - self._since >= self.SECONDS:
            self.current = loudest
        return self.current


class Mix(NamedTuple):
    """One tick for everyone; the three lists run in parallel."""

    listeners: list[int]
    blocks: list[Samples | None]  # int16, shape (256,), not to be written to; None is silence
    loudest: list[int]  # the id of whom this listener hears loudest, never its own; 0 with silence


class AudioMixer:
    """Mixes for every listener all the others: the sum once, minus each one's own."""

    INERTIA: Final = 0.75  # share of what was before in a speaker's level

    def __init__(self) -> None:
        self._buffers: dict[int, JitterBuffer] = {}
        self._muted: set[int] = set()
        self._level: dict[int, float] = {}  # of who is audible, dBFS
        self._loudest = LoudestHold()
        self._runner_up = LoudestHold()  # the loudest of the others, for the loudest one's own ears

    def add(self, id: int) -> None:
        """Let participant `id` (not 0) listen and speak; known ones stay as they are."""
        self._buffers.setdefault(id, JitterBuffer())

    def remove(self, id: int) -> None:
        """Forget `id`, if known."""
        self._buffers.pop(id, None)
        self._muted.discard(id)
        self._silence(id)

    def mute(self, id: int, on: bool) -> None:
        """Drop what `id` says from now on, or hear it again."""
        if not on:
            self._muted.discard(id)
        elif id in self._buffers:
            self._muted.add(id)
            self._buffers[id] = JitterBuffer()
            self._silence(id)

    def push(self, id: int, seq: int, samples: Samples | None, now: float) -> None:
        """Take a block of speaker `id` as JitterBuffer.push does; unknown and muted ones are ignored."""
        buffer = self._buffers.get(id)
        if buffer is not None and id not in self._muted:
            buffer.push(seq, samples, now)

    def tick(self, now: float) -> Mix:
        """The next 16 ms for every listener."""
        talkers: list[int] = []
        blocks: list[Samples] = []
        for id, buffer in self._buffers.items():
            block = buffer.pull(now)
            if block is not SILENCE:
                talkers.append(id)
                blocks.append(block)
        listeners = list(self._buffers)
        rows = np.concatenate([SILENCE[:0], *blocks]).reshape(-1, BLOCK)
        self._measure(talkers, rows)
        loudest, runner_up = self._rank(now)
        if not talkers:
            return Mix(listeners, [None] * len(listeners), [0] * len(listeners))
        total = rows.sum(axis=0, dtype=np.int32)
        common = np.clip(total, -32_768, 32_767).astype(np.int16)
        others = np.clip(total - rows, -32_768, 32_767).astype(np.int16)
        own: dict[int, Samples | None] = dict(zip(talkers, others, strict=True))
        if len(talkers) == 1:
            own[talkers[0]] = None
        mixed = [own.get(id, common) for id in listeners]
        heard = [
            0 if block is None else runner_up if id == loudest else loudest
            for id, block in zip(listeners, mixed, strict=True)
        ]
        return Mix(listeners, mixed, heard)

    def levels(self) -> dict[int, float]:
        """How loud everyone is, 0 (-60 dBFS and less) to 1 (full scale), even steps in decibels."""
        return {id: max(0.0, 1.0 - self._level.get(id, VOICE_DB) / VOICE_DB) for id in self._buffers}

    def _silence(self, id: int) -> None:
        self._level.pop(id, None)
        for hold in (self._loudest, self._runner_up):
            if hold.current == id:
                hold.current = 0

    def _measure(self, talkers: list[int], rows: Samples) -> None:
        wave = rows.astype(np.float32)
        power = np.einsum("ij,ij->i", wave, wave) / (BLOCK * FULL_SCALE**2)
        level = 10.0 * np.log10(np.maximum(power, 1e-9))
        before = np.array([self._level.get(id, math.nan) for id in talkers])
        level += np.where(np.isnan(before), 0.0, (before - level) * self.INERTIA)
        self._level = dict(zip(talkers, level.tolist(), strict=True))

    def _rank(self, now: float) -> tuple[int, int]:
        """The loudest and the loudest but that one; 0 for nobody."""
        loudest = self._loudest.update(self._loudest_but(0), now)
        rival = self._loudest_but(loudest)
        if self._runner_up.current == loudest:
            self._runner_up.current = 0
        return loudest, self._runner_up.update(rival, now)

    def _loudest_but(self, one: int) -> int:
        level, id = max(
            ((level, id) for id, level in self._level.items() if id != one), default=(VOICE_DB, 0)
        )
        return id if level > VOICE_DB else 0


class VoiceGate:
    """Tells blocks worth sending from silence; the end of speech hangs over, longer after longer speech."""

    HANGOVER: Final = 20  # blocks, 320 ms
    SHORTEST: Final = 5

    def __init__(self, threshold_db: float = VOICE_DB) -> None:
        self._threshold = threshold_db
        self._spoken = 0
        self._left = 0

    def is_voice(self, samples: Samples) -> bool:
        """Whether the next block of a stream is to be sent."""
        if level_db(samples) >= self._threshold:
            self._spoken += 1
            self._left = max(self._left, min(self.HANGOVER, self.SHORTEST + self._spoken))
            return True
        self._spoken = 0
        self._left = max(0, self._left - 1)
        return self._left > 0


class Resampler:
    """Converts a stream of mono samples to another rate: a polyphase low-pass (windowed sinc, 70 dB)."""

    ZEROS: Final = 24  # zero crossings on each side, counted at the lower rate: 1.5 ms at 16 kHz
    MOST_PHASES: Final = 1024

    def __init__(self, rate_in: int, rate_out: int) -> None:
        """ValueError unless both rates, in Hz, are positive."""
        if rate_in <= 0 or rate_out <= 0:
            raise ValueError(f"rates must be positive, not {rate_in} and {rate_out}")
        divisor = math.gcd(rate_in, rate_out)
        self._up = rate_out // divisor
        self._down = rate_in // divisor
        self._kernel = self._make_kernel(min(1.0, rate_out / rate_in), min(self._up, self.MOST_PHASES))
        self._waiting = np.zeros(self._kernel.shape[1] // 2 - 1, np.int16)
        self._at = 0  # where the next sample lies in `_waiting`, in 1/up of an input sample

    def push(self, samples: Samples) -> Samples:
        """What can be computed after `samples`, both int16 and of any length; it keeps 1.5 ms back."""
        if self._up == self._down:
            return samples
        waiting = np.concatenate((self._waiting, samples))
        taps = self._kernel.shape[1]
        room = (len(waiting) - taps + 1) * self._up - self._at
        count = max(0, -(-room // self._down))
        places, phases = np.divmod(self._at + self._down * np.arange(count), self._up)
        windows = waiting[places[:, None] + np.arange(taps)].astype(np.float32)
        kernel = self._kernel[phases * len(self._kernel) // self._up]
        self._at += count * self._down
        done = min(self._at // self._up, len(waiting))
        self._waiting = waiting[done:]
        self._at -= done * self._up
        return _to_int16(np.einsum("ij,ij->i", windows, kernel))

    @classmethod
    def _make_kernel(cls, ratio: float, phases: int) -> NDArray[np.float32]:
        """Shape (phases, taps): row p weighs the inputs around a place p/phases after one; each sums to 1."""
        half = math.ceil(cls.ZEROS / ratio)
        place = np.arange(1 - half, half + 1) - np.arange(phases)[:, None] / phases
        window = np.i0(7.0 * np.sqrt(np.maximum(0.0, 1.0 - (place / half) ** 2)))
        kernel = np.sinc(0.91 * ratio * place) * window
        weights: NDArray[np.float32] = (kernel / kernel.sum(axis=1, keepdims=True)).astype(np.float32)
        return weights


# The test card's clock: 8 bits marker, 24 bits milliseconds, 8 bits CRC as 2 x 20 cells, black 0, white 1.
CLOCK_COLUMNS: Final = 20
CLOCK_MARKER: Final = 0xA5
CLOCK_SPAN: Final = 1 << 24


def _crc8(data: bytes) -> int:
    crc = 0
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc << 1) ^ (0x107 if crc & 0x80 else 0)
    return crc


def _clock_grid(height: int, width: int) -> tuple[float, float]:
    """Size of a cell and top of the upper row, in pixels; multiples of 8 at 160x90."""
    cell = width / CLOCK_COLUMNS
    return cell, math.floor(height / cell - 2.0 + 1e-6) * cell


def stamp_clock(picture: Picture, now_unix: float) -> None:
    """Draw the time as two rows of cells at the bottom of `picture` (BGR, height x width x 3), in place."""
    data = bytes((CLOCK_MARKER,)) + (round(now_unix * 1000.0) % CLOCK_SPAN).to_bytes(3, "big")
    bits = np.unpackbits(np.frombuffer(data + bytes((_crc8(data),)), np.uint8)).reshape(2, CLOCK_COLUMNS)
    cell, top = _clock_grid(*picture.shape[:2])
    for (row, column), bit in np.ndenumerate(bits):
        above, left = top + row * cell, column * cell
        picture[max(0, round(above)) : round(above + cell), round(left) : round(left + cell)] = 255 * bit


def read_clock(picture: Picture, now_unix: float) -> float | None:
    """How old the time on `picture` (BGR) is in seconds, negative if it lies ahead; None without a clock."""
    height, width = picture.shape[:2]
    cell, top = _clock_grid(height, width) if width >= CLOCK_COLUMNS * 4 else (0.0, -1.0)
    if top < 0.0:
        return None
    inside = np.array((0.35, 0.5, 0.65))
    rows = (top + (np.arange(2)[:, None] + inside) * cell).astype(int).ravel()
    columns = ((np.arange(CLOCK_COLUMNS)[:, None] + inside) * cell).astype(int).ravel()
    light = picture[rows[:, None], columns].reshape(2, 3, CLOCK_COLUMNS, 9).mean(axis=(1, 3))
    if np.any(np.abs(light - 127.5) < 32.0):
        return None
    data = np.packbits(light > 127.5).tobytes()
    if data[0] != CLOCK_MARKER or data[4] != _crc8(data[:4]):
        return None
    age = (round(now_unix * 1000.0) - int.from_bytes(data[1:4], "big")) % CLOCK_SPAN
    return (age - CLOCK_SPAN if age >= CLOCK_SPAN // 2 else age) / 1000.0


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
    version: int = 0
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
            return Commit(geometry.epoch, cursor.version)
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
        cursor.version = self._version
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
        self.barred: set[str] = set()  # names that may not share until the host allows it
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
        self.barred.add(former.name)
        return self.share_stop(former.id)

    def _on_allow_share(self, member: Member, message: Json, now: float, clock: float) -> list[Effect]:
        other = self.members.get(message["who"])
        if other is None:
            return [self._error(member, "no_such_person", "That person is not here.", message)]
        self.barred.discard(other.name)
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
        if member.name in self.barred:
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


def _person(user: Json) -> Person:
    return Person(**user)


class StateManager:
    """Keeps one participant's picture of the meeting and says what changed, as events.

    `current` is an immutable snapshot: one thread applies messages, any thread may read it.
    """

    MOST_LINES = 5_000

    def __init__(self) -> None:
        self.current = Snapshot()
        self._newest = 0  # the highest message number seen, so that a reconnect doubles nothing

    def update(self, **changes: Any) -> None:
        """Change fields of the snapshot."""
        self.current = dataclasses.replace(self.current, **changes)

    def person(self, ident: int) -> Person | None:
        """The participant with this id."""
        return next((one for one in self.current.people if one.id == ident), None)

    def named(self, name: str) -> Person | None:
        """The participant with this name."""
        return next((one for one in self.current.people if one.name == name), None)

    @property
    def me(self) -> Person | None:
        """The participant's own entry."""
        return self.person(self.current.me)

    def apply(self, message: Json) -> list[Json]:
        """Take in a checked message of the server; returns the events of it, in order."""
        handler = getattr(self, f"_on_{message['type']}", None)
        events: list[Json] = handler(message) if handler else []
        return events

    def _on_welcome(self, message: Json) -> list[Json]:
        if message["meeting"] != self.current.meeting:
            self._newest = 0
            self.update(chat=(), files=())
        same = ("name", "role", "meeting", "title", "host", "presenter")
        self.update(
            link="live",
            me=message["id"],
            people=tuple(_person(user) for user in message["users"]),
            files=tuple(self._entry(offer) for offer in message["files"]),
            pin=message.get("pin", self.current.pin),
            **{key: message[key] for key in same},
        )
        events = [self.users()]
        lines = [*message["chat"], *message["private"]]
        for line in sorted(lines, key=lambda line: int(line["n"])):
            events += self._line(line, line.get("to_name"), history=True)
        for entry in self.current.files:
            events.append(self._offer_event(entry))
        if message["presenter"]:
            name = getattr(self.person(message["presenter"]), "name", "")
            events.append({"event": "screen_start", "id": message["presenter"], "name": name})
        return events

    def users(self) -> Json:
        """The event `users`: the roster as it is now."""
        return {"event": "users", "users": [self._user(one) for one in self.current.people]}

    def _user(self, person: Person) -> Json:
        keys = ("id", "name", "role", "mic", "camera", "sharing")
        return {**{key: getattr(person, key) for key in keys}, "hand": bool(person.hand)}

    def _on_user_list(self, message: Json) -> list[Json]:
        self.update(people=tuple(_person(user) for user in message["users"]))
        return [self.users()]

    def _on_join(self, message: Json) -> list[Json]:
        person = _person(message["user"])
        others = tuple(one for one in self.current.people if one.id != person.id)
        self.update(people=(*others, person))
        return [{"event": "join", "id": person.id, "name": person.name}, self.users()]

    def _on_leave(self, message: Json) -> list[Json]:
        self.update(people=tuple(one for one in self.current.people if one.id != message["id"]))
        gone = {"event": "leave", "id": message["id"], "name": message["name"], "reason": message["reason"]}
        return [gone, self.users()]

    def _on_state(self, message: Json) -> list[Json]:
        person = _person(message["user"])
        self.update(people=tuple(person if one.id == person.id else one for one in self.current.people))
        return [{"event": "state", **self._user(person)}]

    def _line(self, line: Json, to: str | None, *, history: bool = False) -> list[Json]:
        if line["n"] <= self._newest:
            return []
        self._newest = line["n"]
        own = line["from"] == self.current.name
        entry = ChatLine(line["n"], line["from"], line["text"], line["at"], to, own, history)
        self.update(chat=(*self.current.chat, entry)[-self.MOST_LINES :])
        event: Json = {
            "event": "private" if to else "chat",
            "from": line["from"],
            "text": line["text"],
            "n": line["n"],
        }
        if to:
            event["to"] = to
        if history:
            event["history"] = True
        return [event]

    def _on_chat(self, message: Json) -> list[Json]:
        return self._line(message, None)

    def _on_private_chat(self, message: Json) -> list[Json]:
        return self._line(message, message["to_name"])

    def _on_reaction(self, message: Json) -> list[Json]:
        keys = ("from", "emoji", "n", "id")
        return [{"event": "reaction", **{key: message[key] for key in keys}}]

    def _on_video_start(self, message: Json) -> list[Json]:
        return [{"event": message["type"], "id": message["id"], "name": message["name"]}]

    _on_video_stop = _on_video_start

    def _on_screen_start(self, message: Json) -> list[Json]:
        self.update(presenter=message["id"])
        return self._on_video_start(message)

    def _on_screen_stop(self, message: Json) -> list[Json]:
        self.update(presenter=0)
        return self._on_video_start(message)

    def speaking(self, ident: int) -> list[Json]:
        """The loudest speaker is now `ident`, 0 for nobody."""
        if ident == self.current.speaking:
            return []
        self.update(speaking=ident)
        person = self.person(ident)
        return [{"event": "speaking", "id": ident or None, "name": person.name if person else None}]

    # -- files

    def _entry(self, offer: Json) -> FileEntry:
        known = self.file(offer["file"])
        if known:
            return known
        own = offer["from"] == self.current.name
        name = safe_file_name(offer["name"])
        return FileEntry(offer["file"], name, offer["size"], offer["from"], offer["private"], own)

    def file(self, file: str) -> FileEntry | None:
        """The file with this id."""
        return next((one for one in self.current.files if one.file == file), None)

    def put_file(self, entry: FileEntry) -> None:
        """Add a file, or replace what is known of it."""
        others = self.current.files
        if any(one.file == entry.file for one in others):
            self.update(files=tuple(entry if one.file == entry.file else one for one in others))
        else:
            self.update(files=(*others, entry))

    def _offer_event(self, entry: FileEntry) -> Json:
        return {
            "event": "file_offer",
            "file": entry.file,
            "name": entry.name,
            "size": entry.size,
            "from": entry.sender,
            "private": entry.private,
        }

    def _on_file_offer(self, message: Json) -> list[Json]:
        entry = self._entry(message)
        self.put_file(entry)
        return [self._offer_event(entry)]

    def _on_file_gone(self, message: Json) -> list[Json]:
        entry = self.file(message["file"])
        if entry is None or entry.state == "saved":
            return []
        self.put_file(dataclasses.replace(entry, state="gone", reason=message["reason"]))
        failed = {"event": "file_failed", "file": entry.file, "code": "no_such_file"}
        return [{**failed, "reason": message["reason"]}]


# --------------------------------------------------------------------------------------
# The waterline. Above it: bytes and `now` come in, bytes and effects go out.
# --------------------------------------------------------------------------------------


# ======================================================================================
# [6] TRUST - who the host is: identity, known hosts, PIN proof, what is kept on disk
# Uses: BASICS
# ======================================================================================


def _usual_home() -> Path:
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / APP_NAME
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support" / APP_NAME
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / APP_NAME.lower()


def home_directory() -> Path:
    """Where identity, known hosts, tokens and settings are kept: made if missing, open to the user alone.

    `CONNECTSPHERE_HOME` moves it. A directory that was there keeps its mode: each file in it is private by
    itself. Raises ConnectSphereError where it cannot be made.
    """
    chosen = os.environ.get("CONNECTSPHERE_HOME")
    home = Path(chosen).absolute() if chosen else _usual_home()
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConnectSphereError(f"{home} cannot be used for settings: {error.strerror}") from error
    return home


def _temporary_beside(path: Path, content: bytes) -> Path:
    """A new file of the user alone, beside `path`, with `content` safely on the disk."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    return temporary


def _write_private(path: Path, content: bytes) -> None:
    """Replace `path` at once and whole; OSError leaves what was there."""
    temporary = _temporary_beside(path, content)
    try:
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def _write_private_once(path: Path, content: bytes) -> None:
    """Write `path` unless another program was faster: then that one's content stays."""
    temporary = _temporary_beside(path, content)
    try:
        path.hardlink_to(temporary)
    except FileExistsError:
        pass
    except OSError:  # a file system without hard links
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _save_json(path: Path, value: Json) -> None:
    """Save what may be lost without harm: a full or read-only disk is logged, not raised."""
    try:
        path.parent.mkdir(mode=0o700, exist_ok=True)
        _write_private(path, json.dumps(value, ensure_ascii=False, indent=1).encode())
    except OSError as error:
        log.warning("%s could not be saved: %s", path, error)


def _load_json(path: Path) -> Json:
    """The JSON object in `path`; empty where there is none or it is damaged."""
    try:
        value = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        log.warning("%s is ignored: %s", path, error)
        return {}
    return value if isinstance(value, dict) else {}


@dataclass(frozen=True, slots=True)
class Identity:
    """The host's certificate and private key (PEM; one file may hold both) and its SHA-256 fingerprint."""

    certificate: Path
    key: Path
    fingerprint: str


def certificate_fingerprint(der: bytes) -> str:
    """SHA-256 of a certificate in DER, 64 hex digits."""
    return hashlib.sha256(der).hexdigest()


def server_context(identity: Identity) -> ssl.SSLContext:
    """TLS 1.3 with the host's own certificate. No session tickets: nothing is resumed below hello."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.num_tickets = 0
    context.load_cert_chain(identity.certificate, identity.key)
    return context


def client_context() -> ssl.SSLContext:
    """TLS 1.3 that accepts any certificate: the caller judges the fingerprint before it says anything."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _read_identity(path: Path) -> Identity:
    """The identity in `path`; ValueError when certificate and key are damaged or no pair."""
    pem = path.read_text("ascii")
    der = ssl.PEM_cert_to_DER_cert(pem[pem.index("-----BEGIN CERTIFICATE") :].strip())
    identity = Identity(path, path, certificate_fingerprint(der))
    try:
        server_context(identity)
    except ssl.SSLError as error:
        raise ValueError("certificate and key are no pair") from error
    return identity


def _new_identity() -> bytes:
    """A P-256 key and its self-signed certificate, PEM. It never ends: clocks in schools are wrong."""
    from cryptography import x509  # a tenth of a second that only the first hosting needs
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, APP_NAME)])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime(2000, 1, 1, tzinfo=UTC))
        .not_valid_after(datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC))
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return private + certificate.public_bytes(serialization.Encoding.PEM)


def load_identity(home: Path) -> Identity:
    """This user's identity as a host, made at the first hosting; programs that start together agree on one.

    A damaged one is set aside and replaced. Raises ConnectSphereError where nothing can be kept.
    """
    path = home / "identity.pem"
    try:
        if path.exists():
            path.chmod(0o600)
            try:
                return _read_identity(path)
            except ValueError as error:
                log.warning("%s is damaged (%s): a new identity is made", path, error)
                path.replace(path.with_suffix(".damaged"))
        _write_private_once(path, _new_identity())
        return _read_identity(path)
    except (OSError, ValueError) as error:
        raise ConnectSphereError(f"the identity in {path} cannot be kept: {error}") from error


@functools.lru_cache(maxsize=256)
def fingerprint_pictures(fingerprint: str) -> tuple[int, ...]:
    """The eight pictures (0..63) by which people compare `fingerprint`.

    They hold only 48 of its bits, so a slow hash makes searching for a look-alike certificate dear.
    """
    digest = hashlib.pbkdf2_hmac("sha256", bytes.fromhex(fingerprint), b"connectsphere pictures", 20_000)
    bits = int.from_bytes(digest[:6], "big")
    return tuple(bits >> shift & 63 for shift in range(42, -1, -6))


def is_fingerprint(value: object) -> bool:
    """Whether `value` is a SHA-256 in 64 lower-case hex digits."""
    return isinstance(value, str) and len(value) == 64 and set(value) <= set("0123456789abcdef")


@dataclass(frozen=True, slots=True)
class KnownHost:
    """A host that was accepted before; times in unix seconds, address and port where it was last."""

    fingerprint: str
    title: str
    host: str
    first_seen: float
    last_seen: float
    last_address: str = ""
    port: int = DEFAULT_PORT

    @property
    def looks(self) -> frozenset[str]:
        """How its title and name look (`skeleton`)."""
        return frozenset(filter(None, (skeleton(self.title), skeleton(self.host))))


class KnownHosts:
    """The hosts this user accepted, by fingerprint: one private file each, so that programs do not collide.

    At most 256: the one longest unseen makes room.
    """

    _MOST = 256

    def __init__(self, home: Path) -> None:
        self._directory = home / "known_hosts"
        self._lock = threading.Lock()
        self._hosts = {host.fingerprint: host for host in self._read()}

    def get(self, fingerprint: str) -> KnownHost | None:
        """The host of that fingerprint, if it was accepted before."""
        with self._lock:
            return self._hosts.get(fingerprint)

    def all(self) -> list[KnownHost]:
        """All known hosts, the one seen last first."""
        with self._lock:
            return sorted(self._hosts.values(), key=lambda host: -host.last_seen)

    def remember(
        self, fingerprint: str, title: str, host: str, address: str = "", port: int = DEFAULT_PORT
    ) -> KnownHost:
        """Accept a host, or note what it is called and where it was seen now."""
        if not is_fingerprint(fingerprint):
            raise ValueError("not a fingerprint")
        now = time.time()
        with self._lock:
            old = self._hosts.get(fingerprint)
            first, was_at = (old.first_seen, old.last_address) if old else (now, "")
            known = KnownHost(
                fingerprint,
                clean_name(title, MAX_TITLE),
                clean_name(host),
                first,
                now,
                address or was_at,
                port,
            )
            self._hosts[fingerprint] = known
            dropped = min(self._hosts.values(), key=lambda each: each.last_seen)
            if len(self._hosts) > self._MOST:
                del self._hosts[dropped.fingerprint]
                with contextlib.suppress(OSError):
                    self._path(dropped.fingerprint).unlink()
        _save_json(self._path(fingerprint), asdict(known))
        return known

    def imitated(self, fingerprint: str, title: str, host: str) -> KnownHost | None:
        """The known host that `title` or `host` under another fingerprint could be taken for.

        What this fingerprint was called already when it was accepted is its own and imitates nobody.
        """
        asked = KnownHost(fingerprint, title, host, 0.0, 0.0).looks
        own = self.get(fingerprint)
        new = asked - own.looks if own else asked
        others = (known for known in self.all() if known.fingerprint != fingerprint)
        return next((known for known in others if new & known.looks), None)

    def _path(self, fingerprint: str) -> Path:
        return self._directory / f"{fingerprint}.json"

    def _read(self) -> Iterator[KnownHost]:
        for path in sorted(self._directory.glob("*.json")):
            if is_fingerprint(path.stem) and (known := self._parse(path.stem, _load_json(path))):
                yield known

    @staticmethod
    def _parse(fingerprint: str, value: Json) -> KnownHost | None:
        try:
            return KnownHost(
                fingerprint,
                clean_name(str(value["title"]), MAX_TITLE),
                clean_name(str(value["host"])),
                float(value["first_seen"]),
                float(value["last_seen"]),
                str(value.get("last_address", "")),
                int(value.get("port", DEFAULT_PORT)),
            )
        except (KeyError, TypeError, ValueError):
            return None


_Setting = TypeVar("_Setting")


class Settings:
    """The user's settings: a JSON object on disk, saved whole at each change; damaged means defaults."""

    def __init__(self, home: Path) -> None:
        self._path = home / "settings.json"
        self._lock = threading.Lock()
        self._values = _load_json(self._path)

    def get(self, key: str, default: _Setting) -> _Setting:
        """The value of `key`, or `default` where it is missing or of another type."""
        with self._lock:
            value = self._values.get(key)
        return value if type(value) is type(default) else default

    def set(self, key: str, value: object) -> None:
        """Keep a JSON `value`; what another program has set meanwhile stays."""
        with self._lock:
            self._values = self._values | _load_json(self._path) | {key: value}
            _save_json(self._path, self._values)


def load_host_key(path: Path) -> str:
    """The host key in `path`; UsageError when there is none or it is damaged."""
    try:
        key = path.read_text("ascii").strip()
    except (OSError, ValueError) as error:
        raise UsageError(f"the host key {path} cannot be read: {error}") from error
    if not is_fingerprint(key):
        raise UsageError(f"{path} holds no host key")
    return key


def make_host_key(path: Path) -> str:
    """The secret that proves the host role, 64 hex digits: the one in `path`, or a new one put there.

    Kept over restarts, so that the teacher's program stays the host. Raises ConnectSphereError.
    """
    try:
        if not path.exists():
            _write_private_once(path, secrets.token_hex(32).encode() + b"\n")
        path.chmod(0o600)
    except OSError as error:
        raise ConnectSphereError(f"the host key {path} cannot be written: {error.strerror}") from error
    return load_host_key(path)


class _PinProof:
    """What both sides of the PIN proof share: SPAKE2, then HMAC-SHA256(K, role + SHA-256(transcript))."""

    def __init__(self, side: type[SPAKE2_A] | type[SPAKE2_B], pin: str, fingerprint: str) -> None:
        secret = unicodedata.normalize("NFKC", pin).strip().encode()
        if not secret:
            raise UsageError("the PIN must not be empty")
        client, host = b"connectsphere/1 client", b"connectsphere/1 host" + fingerprint.encode()
        self._spake = side(secret, idA=client, idB=host)
        self._macs: dict[bytes, bytes] = {}
        self.message: bytes = self._spake.start()

    def _agree(self, peer_message: bytes, transcript: bytes) -> None:
        if len(peer_message) != 33:
            raise PeerFault("pin", "a message of a wrong size")
        try:
            key = self._spake.finish(peer_message)
        except Exception as error:  # the library raises whatever its arithmetic meets
            raise PeerFault("pin", f"{type(error).__name__}: {error}") from error
        digest = hashlib.sha256(transcript).digest()
        self._macs = {role: hmac.digest(key, role + digest, "sha256") for role in (b"client", b"host")}

    def _mac(self, role: bytes) -> bytes:
        if role not in self._macs:
            raise PeerFault("pin", "out of order")
        return self._macs[role]


class PinClient(_PinProof):
    """The client's side of the PIN proof: it confirms first. About 7 ms each for making it and `finish`.

    `message` (33 bytes) goes to the host. UsageError for an empty PIN.
    """

    def __init__(self, pin: str, fingerprint: str) -> None:
        super().__init__(SPAKE2_A, pin, fingerprint)

    def finish(self, peer_message: bytes, transcript: bytes) -> bytes:
        """The confirmation (32 bytes) to send; PeerFault("pin") for a message that is none."""
        self._agree(peer_message, transcript)
        return self._mac(b"client")

    def check(self, mac: bytes) -> bool:
        """Whether the host's confirmation proves that it knows the PIN."""
        return hmac.compare_digest(self._mac(b"host"), mac)


class PinHost(_PinProof):
    """The host's side of the PIN proof: it says nothing that depends on the PIN before `check` agreed."""

    def __init__(self, pin: str, fingerprint: str) -> None:
        super().__init__(SPAKE2_B, pin, fingerprint)
        self._proved = False

    def finish(self, peer_message: bytes, transcript: bytes) -> None:
        """Take the client's message; PeerFault("pin") when it is none."""
        self._agree(peer_message, transcript)

    def check(self, mac: bytes) -> bool:
        """Whether the client's confirmation proves that it knows the PIN."""
        self._proved = hmac.compare_digest(self._mac(b"client"), mac)
        return self._proved

    def mac(self) -> bytes:
        """The host's own confirmation (32 bytes); PeerFault("pin") before the client's was right."""
        if not self._proved:
            raise PeerFault("pin", "out of order")
        return self._mac(b"host")


def _locked(path: Path) -> IO[bytes] | None:
    """`path` opened and locked for this program alone, until closed; None while another holds it."""
    try:
        file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), "r+b")
    except OSError:
        return None
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        return None
    return file


class ResumeTokens:
    """The client's resume tokens, kept over a crash. Each running program has a slot of its own.

    The slot's lock ends with its program: one started again finds its tokens, while a second one running
    beside it never takes the first one's place in a meeting. Without a free slot nothing is kept.
    """

    _SLOTS = 64
    _MOST = 16

    def __init__(self, home: Path) -> None:
        self._lock: IO[bytes] | None = None
        self._path: Path | None = None
        directory = home / "resume"
        with contextlib.suppress(OSError):
            directory.mkdir(mode=0o700, exist_ok=True)
        for slot in range(self._SLOTS):
            if (lock := _locked(directory / f"{slot}.lock")) is not None:
                self._lock, self._path = lock, directory / f"{slot}.json"
                break
        self._tokens = _load_json(self._path) if self._path else {}

    def get(self, fingerprint: str, meeting: str, name: str) -> str | None:
        """The token for that host, meeting and own name."""
        token = self._tokens.get(self._key(fingerprint, meeting, name))
        return token if isinstance(token, str) else None

    def put(self, fingerprint: str, meeting: str, name: str, token: str) -> None:
        """Keep `token` in place of its predecessor."""
        key = self._key(fingerprint, meeting, name)
        self._tokens = {old: value for old, value in self._tokens.items() if old != key} | {key: token}
        self._tokens = dict(list(self._tokens.items())[-self._MOST :])
        self._save()

    def drop(self, fingerprint: str, meeting: str, name: str) -> None:
        """Forget the token: the meeting was left, or its host does not take it."""
        if self._tokens.pop(self._key(fingerprint, meeting, name), None) is not None:
            self._save()

    def close(self) -> None:
        """Free the slot; what is kept stays. May be called twice."""
        if self._lock is not None:
            self._lock.close()
        self._lock = self._path = None

    def _save(self) -> None:
        if self._path is not None:
            _save_json(self._path, self._tokens)

    @staticmethod
    def _key(fingerprint: str, meeting: str, name: str) -> str:
        return json.dumps([fingerprint, meeting, name])


# ======================================================================================
# [7] LINKS - TLS links owned by one thread, UDP ports with batched sending, closing
# Uses: BASICS, WIRE, MEDIA
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


SCREEN_BUFFER: Final = 128 << 10
SCREEN_UNSENT: Final = 16 << 10


def keep_buffers_small(sock: socket.socket) -> None:
    """Let the kernel hold little that is not sent yet, so that what is sent next is the newest."""
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SCREEN_BUFFER)
    option = getattr(socket, "TCP_NOTSENT_LOWAT", None)
    if option is not None:
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.IPPROTO_TCP, option, SCREEN_UNSENT)


class TileFeed:
    """Gives one peer what is newest in a TileTable, as fast as it takes and paints it. Reactor's thread only.

    A change is begun only while less than AHEAD bytes, or a single change, wait to be acknowledged: so
    nothing piles up in kernels, in the network or before a slow decoder either.
    """

    AHEAD = 64 << 10

    def __init__(self, link: TlsLink, table: TileTable) -> None:
        self._link = link
        self._table = table
        self._cursor = TileCursor()
        self._under_way: collections.deque[tuple[int, float]] = collections.deque()
        self._bytes_ahead = 0
        self._change = 0
        self._pointer: Pointer | None = None
        self.sent = 0
        link.on_room = self._fill
        link.ask_room()

    @property
    def ready(self) -> bool:
        """Whether a change could be begun now."""
        between = not self._cursor.waiting and not self._cursor.commit_owed
        return between and (len(self._under_way) < 2 or self._bytes_ahead < self.AHEAD)

    def update(self) -> None:
        """The table has something new."""
        self._link.ask_room()

    def restart(self, table: TileTable) -> None:
        """Go on with another table, from its beginning."""
        self._table = table
        self._cursor = TileCursor()
        self._change = 0
        self._link.ask_room()

    def point(self, pointer: Pointer) -> None:
        """Where the pointer is now."""
        self._pointer = pointer
        self._link.ask_room()

    def acknowledge(self, now: float) -> tuple[int, float]:
        """The oldest change under way was painted: (its bytes, seconds that took). PeerFault if none is."""
        if not self._under_way:
            raise PeerFault("bad_screen", "acknowledged too much")
        size, begun = self._under_way.popleft()
        self._bytes_ahead -= size
        self._link.ask_room()
        return size, now - begun

    def _fill(self) -> None:
        """Queue about one TLS record of what is newest."""
        room = SCREEN_UNSENT
        while room > 0 and (message := self._next()) is not None:
            data = encode_message(encode_screen(message))
            self._link.send(data)
            self.sent += len(data)
            self._change += len(data)
            room -= len(data)
            if isinstance(message, Commit):
                self._under_way.append((self._change, time.monotonic()))
                self._bytes_ahead += self._change
                self._change = 0

    def _next(self) -> ScreenMessage | None:
        if self._pointer is not None and self._table.geometry is not None:
            pointer, self._pointer = self._pointer, None
            return pointer
        fresh = self._table.geometry is not None and self._table.geometry.epoch != self._cursor.epoch
        mid_change = bool(self._cursor.waiting) or self._cursor.commit_owed
        return self._table.since(self._cursor) if fresh or mid_change or self.ready else None


class DatagramLoop:
    """A thread that owns a UDP port: mail first, then datagrams, then what is due.

    `on_datagrams(buffer, segment, address, now)` may raise PeerFault, which is counted;
    `on_due(now)` does what is due and returns when the next is, or None.
    """

    def __init__(
        self,
        name: str,
        port: UdpPort,
        counters: Counters,
        on_datagrams: Callable[[memoryview, int, Address, float], None],
        on_due: Callable[[float], float | None],
    ) -> None:
        self.port = port
        self._counters = counters
        self._on_datagrams = on_datagrams
        self._on_due = on_due
        self._waker = Waker()
        self._mail: collections.deque[Callable[[], None]] = collections.deque()
        self._worker = Worker(name, self._run, self._waker.wake)

    def start(self) -> None:
        """Start the thread."""
        self._worker.start()

    def post(self, call: Callable[[], None]) -> None:
        """Have `call` made on the thread; from any thread, never blocks."""
        self._mail.append(call)
        self._waker.wake()

    def close(self, deadline: float = 3.0) -> None:
        """End the thread and free the port; may be called twice."""
        self._worker.close(deadline)
        self.port.close()
        self._waker.close()

    def _run(self, worker: Worker) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self.port, selectors.EVENT_READ)
            selector.register(self._waker, selectors.EVENT_READ)
            while not worker.stopping.is_set():
                try:
                    self._turn(selector)
                except PeerFault as fault:
                    self._counters.add(fault.kind)
                except Exception:
                    self._counters.add("bugs")
                    log.exception("a turn of the loop failed")

    def _turn(self, selector: selectors.BaseSelector) -> None:
        now = time.monotonic()
        due = self._on_due(now)
        patience = 1.0 if due is None else min(1.0, max(0.0, due - now))
        if any(key.fileobj is self._waker for key, _ in selector.select(patience)):
            self._waker.drain()
        while self._mail:
            self._mail.popleft()()
        for buffer, segment, address in self.port.receive(64):
            try:
                self._on_datagrams(buffer, segment, address, time.monotonic())
            except PeerFault as fault:
                self._counters.add(fault.kind)


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


# -- children of this program ---------------------------------------------------------------------


def start_child(arguments: Sequence[str]) -> subprocess.Popen[str]:
    """Start this same program in a hidden role; it ends when its standard input ends."""
    environment = dict(os.environ)
    if getattr(sys, "frozen", False):
        command = [sys.executable]
        environment["PYINSTALLER_RESET_ENVIRONMENT"] = "1"
    else:
        here = Path(__file__).resolve()
        command = [sys.executable, "-m", here.stem]
        environment["PYTHONPATH"] = os.pathsep.join(
            filter(None, [str(here.parent), environment.get("PYTHONPATH")])
        )
    return subprocess.Popen(
        [*command, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment,
        text=True,
        encoding="utf-8",
        creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
    )


def end_child(process: subprocess.Popen[str], deadline: float = 3.0) -> int:
    """Close the child's standard input and wait for it; killed when it takes over `deadline`."""
    with contextlib.suppress(OSError, ValueError):
        cast(IO[str], process.stdin).close()
    try:
        return process.wait(deadline)
    except subprocess.TimeoutExpired:
        log.warning("the child %d did not end within %.1f s and is killed", process.pid, deadline)
        process.kill()
        return process.wait()
    finally:
        cast(IO[str], process.stdout).close()


class ChildKeeper:
    """Keeps a child in a hidden role running, and starts a new one when it dies.

    It talks in lines of JSON: `first` is said to each new child, `on_message` gets what it says, on
    the thread that reads it.
    """

    def __init__(
        self, name: str, arguments: Sequence[str], first: Json | None, on_message: Callable[[Json], None]
    ) -> None:
        self._name = name
        self._arguments = arguments
        self._first = first
        self._on_message = on_message
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None
        self._worker = Worker(f"{name}-reader", self._run, self._end_input)

    def start(self) -> None:
        """Start the child and the thread that reads what it says."""
        self._worker.start()

    def tell(self, message: Json) -> None:
        """Say a line to the child; lost while there is none."""
        with self._lock, contextlib.suppress(OSError, ValueError):
            if self._process and self._process.stdin:
                self._process.stdin.write(json.dumps(message) + "\n")
                self._process.stdin.flush()

    def close(self, deadline: float = 3.0) -> None:
        """End the child, by the end of its standard input, and the thread; may be called twice."""
        self._worker.close(deadline)

    def _end_input(self) -> None:
        with self._lock, contextlib.suppress(OSError, ValueError):
            if self._process and self._process.stdin:
                self._process.stdin.close()

    def _run(self, worker: Worker) -> None:
        while not worker.stopping.is_set():
            process = start_child(self._arguments)
            with self._lock:
                self._process = process
            if self._first is not None:
                self.tell(self._first)
            if worker.stopping.is_set():
                self._end_input()
            for line in cast(IO[str], process.stdout):
                self._on_message(json.loads(line))
            status = end_child(process)
            if not worker.stopping.is_set():
                log.error("the %s ended with status %s and is started again", self._name, status)
                worker.stopping.wait(0.5)


# -- addresses and connections --------------------------------------------------------------------


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


def udp_port(address: Address, counters: Counters) -> UdpPort:
    """A UdpPort at `address`; Refused with one clear sentence when it is taken."""
    try:
        return UdpPort(address, counters)
    except OSError as error:
        raise Refused("port", f"The UDP port {address[1]} cannot be used: {error.strerror}.") from None


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


ROUNDS: Final = (0.0, 0.25, 0.75)  # seconds after the start at which is asked; then every ASK_EVERY
ASK_EVERY: Final = 2.0
BEACON_EVERY: Final = 2.0
AD_EXPIRES: Final = 6.0
MOST_ADS: Final = 32
QUIET: Final = 1.5
SCAN_AGAIN: Final = 30.0
SCAN_MOST: Final = 1_024
SCAN_AT_ONCE: Final = 50
SCAN_PATIENCE: Final = 0.4
LIMITED_BROADCAST: Final = "255.255.255.255"


@dataclass(frozen=True, slots=True)
class MeetingAd:
    """A meeting on the network; `address` is where its answer came from."""

    meeting: str
    title: str
    host: str
    address: str
    port: int
    people: int
    pin: bool
    locked: bool
    fingerprint: str
    version: int

    @classmethod
    def of(cls, fields: Json, address: str) -> MeetingAd:
        """The ad in the checked fields of an answer from `address`, fit to be shown."""
        shown = {"title": clean_name(fields["title"], MAX_TITLE), "host": clean_name(fields["host"])}
        return cls(**{**fields, **shown}, address=address)


@dataclass(frozen=True, slots=True)
class Interface:
    """An IPv4 address of this machine; `broadcast` is its directed broadcast address, empty without one."""

    name: str
    address: str
    prefix: int
    broadcast: str

    @classmethod
    def of(cls, name: str, address: bytes, mask: bytes) -> Interface:
        """From address and netmask, 4 bytes each."""
        prefix = int.from_bytes(mask, "big").bit_count()
        network = ipaddress.IPv4Network((address, prefix), strict=False)
        broadcast = str(network.broadcast_address) if prefix < 31 else ""
        return cls(name, str(ipaddress.IPv4Address(address)), prefix, broadcast)

    @property
    def network(self) -> ipaddress.IPv4Network:
        """The subnet it is in."""
        return ipaddress.IPv4Network((self.address, self.prefix), strict=False)

    @property
    def loopback(self) -> bool:
        """Whether it leads to this machine only."""
        return ipaddress.IPv4Address(self.address).is_loopback

    def near(self, address: str) -> bool:
        """Whether a broadcast from `address` came this way; each loopback address is a world of its own."""
        return address == self.address if self.loopback else ipaddress.IPv4Address(address) in self.network

    @property
    def broadcasts(self) -> list[str]:
        """Where a question to everybody goes. On loopback also to itself: not all can broadcast."""
        everybody = self.address if self.loopback else LIMITED_BROADCAST
        return [everybody, *filter(None, [self.broadcast])]


class _IfAddrs(ctypes.Structure):
    """`struct ifaddrs` of Linux and macOS."""

    _fields_ = (
        ("next", ctypes.c_void_p),
        ("name", ctypes.c_char_p),
        ("flags", ctypes.c_uint),
        ("address", ctypes.c_void_p),
        ("mask", ctypes.c_void_p),
    )


def _inet_bytes(pointer: int | None) -> bytes | None:
    """The 4 address bytes of a `sockaddr_in`; None for another family."""
    if not pointer:
        return None
    raw = ctypes.string_at(pointer, 2)
    family = raw[1] if sys.platform == "darwin" else int.from_bytes(raw, sys.byteorder)
    return ctypes.string_at(pointer + 4, 4) if family == socket.AF_INET else None


def _posix_interfaces() -> list[Interface]:
    library = ctypes.CDLL(None, use_errno=True)
    head = ctypes.c_void_p()
    if library.getifaddrs(ctypes.byref(head)):
        raise OSError(ctypes.get_errno(), "getifaddrs")
    found, at = [], head.value
    while at:
        entry = _IfAddrs.from_address(at)
        address, mask = _inet_bytes(entry.address), _inet_bytes(entry.mask)
        if address and mask and entry.flags & 1:  # IFF_UP
            found.append(Interface.of(entry.name.decode("utf-8", "replace"), address, mask))
        at = entry.next
    library.freeifaddrs(head)
    return found


def parse_address_table(table: bytes) -> list[Interface]:
    """The interfaces in a Windows MIB_IPADDRTABLE: count, then rows of 24 bytes (address, index, mask, …)."""
    (rows,) = struct.unpack_from("<I", table)
    found = []
    for start in range(4, 4 + 24 * min(rows, (len(table) - 4) // 24), 24):
        address, index, mask = struct.unpack_from("<4sI4s", table, start)
        if any(address):
            found.append(Interface.of(str(index), address, mask))
    return found


def _windows_interfaces() -> list[Interface]:
    if sys.platform != "win32":
        return []
    table = ctypes.create_string_buffer(64 * 1024)
    size = ctypes.c_ulong(len(table))
    error = ctypes.WinDLL("iphlpapi").GetIpAddrTable(table, ctypes.byref(size), 0)
    if error:
        raise OSError(error, "GetIpAddrTable")
    return parse_address_table(table.raw)


def interfaces() -> list[Interface]:
    """The IPv4 addresses of this machine that are up, loopback first; empty if the system does not say."""
    try:
        found = _windows_interfaces() if sys.platform == "win32" else _posix_interfaces()
    except (OSError, AttributeError) as error:
        log.warning("the network interfaces cannot be listed: %s", error)
        return []
    return sorted(found, key=lambda each: not each.loopback)


def own_address(bind: str | None) -> str | None:
    """`bind` checked: None for "all addresses"; UsageError when it is no IPv4 address."""
    if bind is None:
        return None
    try:
        address = ipaddress.IPv4Address(bind)
    except ValueError as error:
        raise UsageError(f"{bind} is no IPv4 address") from error
    return None if address.is_unspecified else str(address)


def interfaces_for(bind: str | None) -> list[Interface]:
    """All interfaces, or with `bind` only that address (any 127.x.y.z will do)."""
    if bind is None:
        return interfaces()
    for each in interfaces():
        if each.address == bind:
            return [each]
    if ipaddress.IPv4Address(bind).is_loopback:
        return [Interface("loopback", bind, 8, "127.255.255.255")]
    return [Interface("", bind, 32, "")]


def _udp_socket(address: str, port: int, shared: bool = False) -> socket.socket:
    """A non-blocking UDP socket that may broadcast; `shared`: other programs bind the same port, too."""
    port_socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        port_socket.setblocking(False)
        port_socket.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        if shared:
            port_socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared and sys.platform == "darwin":
            port_socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        port_socket.bind((address, port))
    except OSError:
        port_socket.close()
        raise
    return port_socket


class _SocketLoop:
    """A thread that owns its sockets: `_turn` does what is due and says how long to wait for the next."""

    def __init__(self, name: str, counters: Counters | None) -> None:
        self._counters = counters or Counters()
        self._selector = selectors.DefaultSelector()
        self._waker, self._wakes = socket.socketpair()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._watch(self._wakes, lambda: None)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def close(self, deadline: float = 1.0) -> None:
        """End the thread, within `deadline` seconds; may be called twice."""
        first = not self._closing.is_set()
        self._closing.set()
        if self._thread.ident is not None:
            with contextlib.suppress(OSError):
                self._waker.send(b"x")
            self._thread.join(deadline)
        elif first:
            self._release()

    def _turn(self, now: float) -> float:
        raise NotImplementedError

    def _run(self) -> None:
        while not self._closing.is_set():
            try:
                wait = self._turn(time.monotonic())
                for key, _ in self._selector.select(max(0.0, wait)):
                    key.data()
            except Exception:
                log.exception("discovery goes on after an error")
                self._closing.wait(0.5)
        self._release()

    def _release(self) -> None:
        for key in tuple(self._selector.get_map().values()):
            self._drop(cast(socket.socket, key.fileobj))
        self._selector.close()
        self._waker.close()

    def _watch(self, watched: socket.socket, ready: Callable[[], None], write: bool = False) -> None:
        self._selector.register(watched, selectors.EVENT_WRITE if write else selectors.EVENT_READ, ready)

    def _drop(self, watched: socket.socket) -> None:
        self._selector.unregister(watched)
        watched.close()

    def _datagrams(self, port: socket.socket) -> Iterator[tuple[bytes, Address]]:
        """What waits on `port`, at most 64 at a time."""
        for _ in range(64):
            try:
                yield port.recvfrom(2_048)
            except BlockingIOError:
                return
            except OSError:  # Windows: somebody we answered is gone
                self._counters.add("discovery_receive_error")

    def _send(self, port: socket.socket, data: bytes, address: Address) -> None:
        try:
            port.sendto(data, address)
        except OSError:  # this way is closed; the others are tried all the same
            self._counters.add("discovery_send_error")


class AnswerLimit:
    """Which questions are answered: one answer a nonce, 5 a second and address, 300 a second in all."""

    _REMEMBERED = 1_024

    def __init__(self) -> None:
        self._all = TokenBucket(300, 300)
        self._each: OrderedDict[str, TokenBucket] = OrderedDict()
        self._nonces: OrderedDict[str, None] = OrderedDict()

    def admit(self, nonce: str, address: str, now: float) -> bool:
        """Whether the question `nonce` from `address` gets an answer at `now`."""
        if nonce in self._nonces:
            return False
        bucket = self._each.setdefault(address, TokenBucket(5, 5))
        self._each.move_to_end(address)
        if len(self._each) > self._REMEMBERED:
            self._each.popitem(last=False)
        if not (bucket.take(now) and self._all.take(now)):
            return False
        self._nonces[nonce] = None
        if len(self._nonces) > self._REMEMBERED:
            self._nonces.popitem(last=False)
        return True


class DiscoveryResponder(_SocketLoop):
    """Makes the meeting visible: answers questions by unicast at once, and sends a beacon every 2 s.

    `describe` gives the answer's fields (of MeetingAd, without address) and is called by the responder's
    thread. With `bind` only that address listens and sends. A port that cannot be had is tried again.
    """

    def __init__(
        self,
        describe: Callable[[], Json],
        bind: str | None = None,
        counters: Counters | None = None,
        *,
        port: int = DISCOVERY_PORT,
    ) -> None:
        self._bind = own_address(bind)
        super().__init__("discovery-responder", counters)
        self._describe = describe
        self._port = port
        self._limit = AnswerLimit()
        self._ear: socket.socket | None = None
        self._warned = False
        self._beacon_at = -math.inf

    def start(self) -> None:
        """Listen and start; a port that cannot be had is a warning, not the end."""
        self._listen()
        super().start()

    def _turn(self, now: float) -> float:
        if now >= self._beacon_at:
            self._beacon_at = now + BEACON_EVERY
            if self._ear is None:
                self._listen()
            self._send_beacon()
        return self._beacon_at - time.monotonic()

    def _listen(self) -> None:
        try:
            ear = _udp_socket(self._bind or "", self._port, shared=True)
        except OSError as error:
            if not self._warned:
                self._warned = True
                log.warning(
                    "this meeting cannot be found by itself, only joined by address: UDP %d is not free (%s)",
                    self._port,
                    error.strerror,
                )
            return
        self._ear = ear
        self._watch(ear, functools.partial(self._answer, ear, None))
        if self._bind is not None:
            self._hear_broadcasts(interfaces_for(self._bind)[0])

    def _hear_broadcasts(self, interface: Interface) -> None:
        """Where a socket bound to an address hears no broadcasts (Linux, macOS): sockets for them alone."""
        for broadcast in interface.broadcasts:
            if broadcast != interface.address:
                with contextlib.suppress(OSError):
                    ear = _udp_socket(broadcast, self._port, shared=True)
                    self._watch(ear, functools.partial(self._answer, ear, interface))

    def _answer(self, ear: socket.socket, only: Interface | None) -> None:
        for data, source in self._datagrams(ear):
            if len(data) < QUESTION_SIZE or self._ear is None or (only and not only.near(source[0])):
                continue
            try:
                nonce, _ = parse_question(data)
            except PeerFault as fault:
                self._counters.add(fault.kind)
                continue
            if self._limit.admit(nonce, source[0], time.monotonic()):
                self._send(self._ear, self._ad(nonce, len(data)), source)
            else:
                self._counters.add("discovery_unanswered")

    def _send_beacon(self) -> None:
        beacon = self._ad("", QUESTION_SIZE - 1)
        for interface in interfaces_for(self._bind):
            if interface.loopback and self._bind is None:
                continue
            with contextlib.suppress(OSError), _udp_socket(interface.address, 0) as mouth:
                for broadcast in interface.broadcasts:
                    self._send(mouth, beacon, (broadcast, self._port))

    def _ad(self, nonce: str, limit: int) -> bytes:
        return discovery_answer(nonce, {"version": PROTOCOL} | self._describe(), limit)


class MeetingList:
    """What was heard of meetings, forgotten after 6 s; at most 32. Pure: time is an argument."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, str], tuple[MeetingAd, float]] = {}
        self._others: dict[str, tuple[int, float]] = {}

    def note(self, fields: Json, address: str, now: float) -> None:
        """Take the answer `fields` from `address`; PeerFault when it is wrong or one too many.

        A host with several addresses keeps the one heard first, as long as that one is heard.
        """
        if fields["version"] != PROTOCOL:
            if address in self._others or len(self._others) < MOST_ADS:
                self._others[address] = (fields["version"], now)
            return
        ad = MeetingAd.of(fields, address)
        key = (ad.fingerprint, ad.meeting)
        old, at = self._found.get(key, (None, now))
        if old is None and len(self._found) >= MOST_ADS:
            raise PeerFault("discovery_too_many")
        if old is None or old.address == ad.address or now - at > AD_EXPIRES / 2:
            self._found[key] = (ad, now)

    def forget(self, now: float) -> None:
        """Drop what was not heard for 6 s."""
        oldest = now - AD_EXPIRES
        self._found = {key: heard for key, heard in self._found.items() if heard[1] >= oldest}
        self._others = {key: other for key, other in self._others.items() if other[1] >= oldest}

    def meetings(self, now: float) -> list[MeetingAd]:
        """The meetings of this protocol version heard within 6 s, the longest known first."""
        return [ad for ad, at in self._found.values() if at >= now - AD_EXPIRES]

    def other_versions(self, now: float) -> list[tuple[str, int]]:
        """Address and version of hosts that speak another version of the protocol."""
        return [
            (address, version) for address, (version, at) in self._others.items() if at >= now - AD_EXPIRES
        ]


def _is_address(text: str) -> bool:
    try:
        return bool(ipaddress.IPv4Address(text))
    except ValueError:
        return False


def _way_to(own: Sequence[Interface], address: str) -> str:
    """The own address from whose subnet `address` is reached; "" where it must be routed."""
    target = ipaddress.IPv4Address(address)
    return next((each.address for each in own if target in each.network), "")


def scan_targets(own: Sequence[Interface], known: Sequence[Address], port: int) -> list[tuple[str, str, int]]:
    """Where to look for a host that no broadcast reaches: (own address, address, port), at most 1,024.

    Known hosts, then the usual places of a gateway, then the subnets in random order, small ones first; of a
    big one the 1,024 addresses around the own.
    """
    targets = [(_way_to(own, address), address, own_port) for address, own_port in known]
    gateways, rest = [], []
    for each in sorted(own, key=lambda interface: -interface.prefix):
        if each.loopback or each.prefix > 30:
            continue
        block = ipaddress.IPv4Network((each.address, max(each.prefix, 22)), strict=False)
        hosts = [str(host) for host in block.hosts() if str(host) != each.address]
        gateways += [(each.address, str(host), port) for host in (each.network[1], each.network[-2])]
        rest += [(each.address, host, port) for host in random.sample(hosts, len(hosts))]
    own_addresses = {each.address for each in own}
    unique = dict.fromkeys(target for target in targets + gateways + rest if target[1] not in own_addresses)
    return list(unique)[:SCAN_MOST]


class _PortScan:
    """Tries TCP `targets`, 50 at once; `opened` is told each address where somebody listens."""

    def __init__(
        self,
        targets: list[tuple[str, str, int]],
        watch: Callable[[socket.socket, Callable[[], None], bool], None],
        drop: Callable[[socket.socket], None],
        opened: Callable[[str], None],
    ) -> None:
        self._targets = targets[::-1]
        self._watch = watch
        self._drop = drop
        self._opened = opened
        self._trying: dict[socket.socket, float] = {}

    def step(self, now: float) -> float | None:
        """Give up what took too long, try more; when to come again at the latest, None at the end."""
        for late in [tried for tried, until in self._trying.items() if until <= now]:
            self._end(late)
        while self._targets and len(self._trying) < SCAN_AT_ONCE:
            self._try(*self._targets.pop(), now)
        return min(self._trying.values(), default=None)

    def _try(self, own: str, address: str, port: int, now: float) -> None:
        tried = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        tried.setblocking(False)
        try:
            tried.bind((own, 0))
            tried.connect((address, port))
        except BlockingIOError:
            pass
        except OSError:  # no way there
            tried.close()
            return
        self._trying[tried] = now + SCAN_PATIENCE
        self._watch(tried, functools.partial(self._result, tried, address), True)

    def _result(self, tried: socket.socket, address: str) -> None:
        if tried.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0:
            self._opened(address)
        self._end(tried)

    def _end(self, tried: socket.socket) -> None:
        del self._trying[tried]
        self._drop(tried)


class MeetingFinder(_SocketLoop):
    """Looks for meetings on every interface, or with `bind` on that address only, until closed.

    `known` are the addresses of hosts met before: asked directly, so that they are found where no broadcast
    gets through. After 1.5 s of silence a scan for `base_port` in the own subnets goes on in the background.
    All methods may be called from any thread.
    """

    def __init__(
        self,
        bind: str | None = None,
        known: Sequence[Address] = (),
        base_port: int = DEFAULT_PORT,
        *,
        counters: Counters | None = None,
        port: int = DISCOVERY_PORT,
    ) -> None:
        self._bind = own_address(bind)
        super().__init__("meeting-finder", counters)
        unique = dict.fromkeys((address, own_port) for address, own_port in known if _is_address(address))
        self._known = list(unique)[:MOST_ADS]
        self._base_port = base_port
        self._port = port
        self._mouths: dict[str, socket.socket] = {}
        self._interfaces: list[Interface] = []
        self._nonces: OrderedDict[str, None] = OrderedDict()
        self._list = MeetingList()
        self._changed = threading.Condition()
        self._settled = False
        self._started = 0.0
        self._ask_at = -math.inf
        self._scan: _PortScan | None = None
        self._scan_at = 0.0

    def start(self) -> None:
        """Ask now, and go on asking until closed."""
        self._started = time.monotonic()
        self._scan_at = self._started + QUIET
        self._hear_beacons()
        super().start()

    def meetings(self) -> list[MeetingAd]:
        """The meetings of this protocol version heard within the last 6 s, the longest known first."""
        with self._changed:
            return self._list.meetings(time.monotonic())

    def other_versions(self) -> list[tuple[str, int]]:
        """Address and version of hosts that speak another version of the protocol."""
        with self._changed:
            return self._list.other_versions(time.monotonic())

    def wait(self, predicate: Callable[[list[MeetingAd]], bool], timeout: float) -> bool:
        """Wait until `predicate(meetings())` is true, at most `timeout` seconds; whether it is."""
        with self._changed:
            return self._changed.wait_for(lambda: predicate(self._list.meetings(time.monotonic())), timeout)

    def wait_settled(self, timeout: float) -> bool:
        """Wait until the first look is over: 1.5 s, and the scan if all were silent. Whether it is."""
        with self._changed:
            return self._changed.wait_for(lambda: self._settled, timeout)

    def close(self, deadline: float = 1.0) -> None:
        """End the thread, within `deadline` seconds; may be called twice."""
        super().close(deadline)
        with self._changed:
            self._changed.notify_all()

    def _turn(self, now: float) -> float:
        if now >= self._ask_at:
            rounds = (self._started + after for after in ROUNDS)
            self._ask_at = next((at for at in rounds if at > now), now + ASK_EVERY)
            with self._changed:
                self._list.forget(now)
                self._changed.notify_all()
            self._ask_everywhere()
        scan_at = self._go_on_scanning(now)
        return min(self._ask_at, scan_at) - time.monotonic()

    def _ask_everywhere(self) -> None:
        self._interfaces = interfaces_for(self._bind)
        self._open_mouths()
        for interface in self._interfaces:
            if interface.address in self._mouths:
                self._ask(interface.address, interface.broadcasts)
        for address, _ in self._known:
            self._ask_directly(address)

    def _open_mouths(self) -> None:
        """One socket an address, kept while the address is there; "" for what must be routed."""
        wanted = {interface.address for interface in self._interfaces} | (
            {""} if self._bind is None else set()
        )
        for gone in self._mouths.keys() - wanted:
            self._drop(self._mouths.pop(gone))
        for address in wanted - self._mouths.keys():
            with contextlib.suppress(OSError):
                self._mouths[address] = mouth = _udp_socket(address, 0)
                self._watch(mouth, functools.partial(self._hear_answer, mouth))

    def _ask(self, mouth: str, addresses: Sequence[str]) -> None:
        """One question from `mouth` to all `addresses`: whoever hears it twice answers once."""
        nonce = secrets.token_bytes(16)
        self._nonces[nonce.hex()] = None
        if len(self._nonces) > SCAN_MOST:
            self._nonces.popitem(last=False)
        question = discovery_question(nonce, PROTOCOL)
        for address in addresses:
            self._send(self._mouths[mouth], question, (address, self._port))

    def _ask_directly(self, address: str) -> None:
        mouth = _way_to(self._interfaces, address)
        if mouth in self._mouths:
            self._ask(mouth, [address])

    def _hear_beacons(self) -> None:
        """Beacons, where a socket can be bound to the broadcast address alone (Linux).

        A wildcard socket would take questions from a host on this machine, and raise a firewall's prompt.
        """
        only = interfaces_for(self._bind)[0] if self._bind else None
        where = only.broadcast if only else LIMITED_BROADCAST
        if sys.platform == "linux" and where:
            with contextlib.suppress(OSError):
                ear = _udp_socket(where, self._port, shared=True)
                self._watch(ear, functools.partial(self._hear_beacon, ear, only))

    def _hear_beacon(self, ear: socket.socket, only: Interface | None) -> None:
        for data, source in self._datagrams(ear):
            is_question = len(data) >= QUESTION_SIZE
            if not is_question and (only is None or only.near(source[0])):
                self._take(data, source[0], lambda nonce: nonce is None)

    def _hear_answer(self, mouth: socket.socket) -> None:
        for data, source in self._datagrams(mouth):
            self._take(data, source[0], self._nonces.__contains__)

    def _take(self, data: bytes, address: str, expected: Callable[[str | None], bool]) -> None:
        try:
            nonce, fields = parse_answer(data)
            if not expected(nonce):
                raise PeerFault("discovery_unasked")
            with self._changed:
                self._list.note(fields, address, time.monotonic())
                self._changed.notify_all()
        except PeerFault as fault:
            self._counters.add(fault.kind)

    def _go_on_scanning(self, now: float) -> float:
        """Start or go on with the scan; when it must be looked at again."""
        if self._scan is None:
            if now < self._scan_at:
                return self._scan_at
            self._scan_at = now + SCAN_AGAIN
            if self.meetings() or self.other_versions():
                self._settle()
                return self._scan_at
            targets = scan_targets(self._interfaces, self._known, self._base_port)
            reachable = [target for target in targets if target[0] in self._mouths]
            self._scan = _PortScan(reachable, self._watch, self._drop, self._ask_directly)
        due = self._scan.step(now)
        if due is None:
            self._scan = None
            self._scan_at = now + SCAN_AGAIN
            self._settle()
        return due or self._scan_at

    def _settle(self) -> None:
        with self._changed:
            self._settled = True
            self._changed.notify_all()


# ======================================================================================
# [9] DEVICES - camera, microphone, speaker, screen, codecs, and what stands in for each
# Uses: BASICS, MEDIA
#
# Every device is opened by one function that takes the name used everywhere (COMMAND LINE): a real
# device, a file or a pattern. All of them run in real time by the wall, stand-ins too. What cannot be
# had, or is pulled out later, raises DeviceError with one sentence for the user. cv2, pyaudio and mss
# are loaded at the first use. Nothing here sends, seals or mixes.
# ======================================================================================


def _sleep_until(due: float) -> float:
    """Sleep until `due` on time.perf_counter; returns by how many seconds it is late now."""
    # perf_counter and sleep: on Windows monotonic and Event.wait step by 16 ms, a whole block
    while (left := due - time.perf_counter()) > 0:
        time.sleep(left)
    return -left


# ---- Codecs --------------------------------------------------------------------------


def encode_jpeg(picture: Picture, quality: int) -> bytes:
    """A BGR picture as baseline JPEG; `quality` 1..100."""
    import cv2

    return cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()


def encode_png(picture: Picture) -> bytes:
    """A BGR picture as PNG, without loss, made for speed rather than size."""
    import cv2

    return cv2.imencode(".png", picture, [cv2.IMWRITE_PNG_COMPRESSION, 1])[1].tobytes()


def encode_lossless(picture: Picture) -> bytes:
    """A BGR picture without loss: PNG, or WebP where that is smaller, which it is for all but photographs."""
    import cv2

    png = encode_png(picture)
    if len(png) > picture.nbytes // 3:  # a photograph: WebP takes ten times as long to gain a tenth
        return png
    webp = cv2.imencode(".webp", picture, [cv2.IMWRITE_WEBP_QUALITY, 101])[1].tobytes()
    return webp if len(webp) < len(png) else png


def draw_pointer(picture: Picture, at: tuple[int, int]) -> None:
    """Draw a mouse pointer into a BGR picture, its tip `at` (x, y)."""
    import cv2

    size = max(1.0, picture.shape[0] / 1080)
    outline = np.array([(0, 0), (0, 17), (4, 13), (7, 20), (10, 19), (7, 12), (12, 12)]) * size + at
    points = outline.round().astype(np.int32)[None]
    cv2.fillPoly(picture, points, (255, 255, 255), cv2.LINE_AA)
    cv2.polylines(picture, points, True, (0, 0, 0), max(1, round(size)), cv2.LINE_AA)


def decode_picture(data: bytes | memoryview, reduce: int = 1) -> Picture:
    """The BGR picture in `data`, its sides divided by `reduce` (1, 2 or 4); PeerFault if it is none.

    The caller has checked kind and size before (WIRE): a small file can unpack to gigabytes.
    """
    import cv2

    modes = {1: cv2.IMREAD_COLOR, 2: cv2.IMREAD_REDUCED_COLOR_2, 4: cv2.IMREAD_REDUCED_COLOR_4}
    try:
        # a turned picture would not have the size that was checked
        picture = cv2.imdecode(np.frombuffer(data, np.uint8), modes[reduce] | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error as fault:
        raise PeerFault("picture", str(fault)) from fault
    if picture is None:
        raise PeerFault("picture", f"{len(data)} bytes do not decode")
    return cast(Picture, picture)


def fit_picture(picture: Picture, box: tuple[int, int]) -> Picture:
    """`picture` shrunk or enlarged until it fills `box` (width, height) in one direction, aspect kept."""
    import cv2

    height, width = picture.shape[:2]
    factor = min(box[0] / width, box[1] / height)
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    if size == (width, height):
        return picture
    method = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
    return cast(Picture, cv2.resize(picture, size, interpolation=method))


def scale(picture: Picture, size: tuple[int, int]) -> Picture:
    """`picture` at exactly `size` (width, height): aspect kept, black bars; itself if it fits already."""
    import cv2

    height, width = picture.shape[:2]
    if (width, height) == size:
        return picture
    factor = min(size[0] / width, size[1] / height)
    inner = max(1, round(width * factor)), max(1, round(height * factor))
    method = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
    resized = cast(Picture, cv2.resize(picture, inner, interpolation=method))
    if inner == size:
        return resized
    boxed = np.zeros((size[1], size[0], 3), np.uint8)
    left, top = (size[0] - inner[0]) // 2, (size[1] - inner[1]) // 2
    boxed[top : top + inner[1], left : left + inner[0]] = resized
    return boxed


# ---- Test card -----------------------------------------------------------------------


class TestCard:
    """A moving picture that stands in for a camera: the name, a clock to read, colours of the name's own."""

    __test__ = False  # pytest takes classes named Test... for tests

    def __init__(self, name: str, size: tuple[int, int]) -> None:
        self._size = size
        self._hue = zlib.crc32(name.encode()) / 2**32
        # cv2 draws ASCII only
        plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().strip()
        self._still = self._draw_still(plain or "?")

    def draw(self, now_unix: float) -> Picture:
        """The card at `now_unix` (unix seconds): BGR, uint8, (height, width, 3), a new array."""
        import cv2

        picture = self._still.copy()
        width, height = self._size
        turn = 2 * math.pi * (now_unix % 4.0) / 4.0
        across, down = 0.5 + 0.4 * math.cos(turn), 0.36 + 0.08 * math.sin(2 * turn)
        centre = round(width * across), round(height * down)
        cv2.circle(picture, centre, height // 10, self._colour(0.5, 1.0), -1, cv2.LINE_AA)
        sweep = round(width * (now_unix % 3.0) / 3.0)
        picture[: height // 10, max(0, sweep - width // 16) : sweep] = 255
        clock = time.strftime("%H:%M:%S", time.gmtime(now_unix)) + f".{int(now_unix * 10) % 10} UTC"
        self._write(picture, clock, 0.66, 0.5)
        stamp_clock(picture, now_unix)
        return picture

    def _draw_still(self, name: str) -> Picture:
        width, height = self._size
        shade = np.linspace(0.25, 0.75, height)[:, None, None]
        still = (np.array(self._colour(0.0, 0.8)) * shade).repeat(width, 1).astype(np.uint8)
        for number in range(8):
            bar = slice(width * number // 8, width * (number + 1) // 8)
            still[: height // 10, bar] = self._colour(number / 8, 0.7)
        self._write(still, name, 0.28, 0.8)
        return still

    def _colour(self, turn: float, value: float) -> tuple[int, int, int]:
        red, green, blue = colorsys.hsv_to_rgb((self._hue + turn) % 1.0, 0.7, value)
        return round(255 * blue), round(255 * green), round(255 * red)

    def _write(self, picture: Picture, text: str, middle: float, most: float) -> None:
        """White text around the height `middle`, at most `most` of the width (both 0..1)."""
        import cv2

        width, height = self._size
        font, thick = cv2.FONT_HERSHEY_SIMPLEX, max(1, height // 180)
        (unit, tall), _ = cv2.getTextSize(text, font, 1.0, thick)
        size = min(most * width / unit, 0.14 * height / tall)
        left, base = round((width - unit * size) / 2), round(height * middle + tall * size / 2)
        cv2.putText(picture, text, (left, base), font, size, (255, 255, 255), thick, cv2.LINE_AA)


# ---- Camera --------------------------------------------------------------------------


class Camera(ABC):
    """Pictures in real time; close() may come from another thread."""

    @abstractmethod
    def read(self, timeout: float) -> Picture:
        """The newest picture (BGR, any size), once there is one that was not returned yet.

        DeviceError when none came within `timeout` seconds, and when the camera is gone or closed.
        """

    @abstractmethod
    def close(self) -> None:
        """Release the camera; twice is harmless."""


def open_camera(
    spec: str, name: str, size: tuple[int, int] = (1280, 720), fps: float = DEFAULT_FPS
) -> Camera:
    """The camera `spec`: pattern (with `name` on the card), an index, or a video file; else DeviceError.

    `size` and `fps` are wishes to a real camera; a file keeps its own.
    """
    if spec == "none":
        raise DeviceError("No camera is chosen.")
    if spec == "pattern":
        card = TestCard(name, size)
        return _PacedCamera(fps, lambda number: card.draw(time.time()), lambda: None)
    if spec.isdecimal():
        return _CaptureCamera(_open_capture(int(spec), size, fps), f"Camera {spec}")
    video = _VideoFile(spec, fps)
    return _PacedCamera(video.fps, video.picture, video.close)


class _FrameClock:
    """Numbers the frames of a stand-in by the wall: frame n is due n/fps after the first question."""

    def __init__(self, fps: float) -> None:
        self._fps = fps
        self._start: float | None = None

    def due(self, number: int) -> float:
        """When frame `number` is due, on time.perf_counter."""
        if self._start is None:
            self._start = time.perf_counter()
        return self._start + number / self._fps

    def newest(self) -> int:
        """The number of the newest frame that is due now."""
        return int((time.perf_counter() - self.due(0)) * self._fps + 1e-6)


class _PacedCamera(Camera):
    """What stands in for a camera: `picture(n)` draws or decodes frame n when it is due."""

    def __init__(self, fps: float, picture: Callable[[int], Picture], close: Callable[[], None]) -> None:
        self._clock = _FrameClock(fps)
        self._picture = picture
        self._close = close
        self._next = 0
        self._closed = False
        self._lock = threading.Lock()

    def read(self, timeout: float) -> Picture:
        due = self._clock.due(self._next)
        if due > time.perf_counter() + timeout:
            _sleep_until(time.perf_counter() + timeout)
            raise DeviceError("The camera gave no picture in time.")
        _sleep_until(due)
        number = max(self._next, self._clock.newest())
        with self._lock:
            if self._closed:
                raise DeviceError("The camera was closed.")
            self._next = number + 1
            return self._picture(number)

    def close(self) -> None:
        with self._lock:
            if not self._closed:
                self._closed = True
                self._close()


class _VideoFile:
    """A video file read forward in a loop; frames are numbered on over the loops."""

    _SLEPT: Final = 5.0  # seconds behind: the machine was suspended, it goes on instead of catching up

    def __init__(self, path: str, fps: float) -> None:
        if not os.path.isfile(path):
            raise DeviceError(f"There is no video file {path}.")
        self._path = path
        self._number = -1
        self._skipped = 0
        self._capture = self._open()
        own = self._capture.get(5)  # cv2.CAP_PROP_FPS
        self.fps = own if 0 < own <= 240 else fps

    def picture(self, number: int) -> Picture:
        """Frame `number`, never before the last one asked for; those between are dropped."""
        if number - self._skipped - self._number > self._SLEPT * self.fps:
            self._skipped = number - self._number - 1
        while self._number < number - self._skipped:
            self._grab()
            self._number += 1
        done, picture = self._capture.retrieve()
        if not done:
            raise DeviceError(f"The video file {self._path} cannot be decoded.")
        return cast(Picture, picture)

    def close(self) -> None:
        """Close the file."""
        self._capture.release()

    def _grab(self) -> None:
        if self._capture.grab():
            return
        # opened anew instead of wound back: not every container can seek
        self._capture.release()
        self._capture = self._open()
        if not self._capture.grab():
            raise DeviceError(f"The video file {self._path} has no pictures.")

    def _open(self) -> Any:
        import cv2

        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
        capture = cv2.VideoCapture(self._path)
        if not capture.isOpened():
            raise DeviceError(f"{self._path} is not a video file that can be played here.")
        return capture


def _open_capture(index: int, size: tuple[int, int], fps: float) -> Any:
    import cv2

    # it tells about missing cameras on standard error
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    # DirectShow opens at once where Media Foundation takes many seconds
    backends = (cv2.CAP_DSHOW, cv2.CAP_MSMF) if sys.platform == "win32" else (cv2.CAP_ANY,)
    for backend in backends:
        capture = cv2.VideoCapture(index, backend)
        if capture.isOpened():
            # over USB 2 raw pictures of this size come at 5 to 10 fps, MJPG ones at 30
            capture.set(cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*"MJPG"))
            capture.set(cv2.CAP_PROP_FRAME_WIDTH, size[0])
            capture.set(cv2.CAP_PROP_FRAME_HEIGHT, size[1])
            capture.set(cv2.CAP_PROP_FPS, fps)
            return capture
        capture.release()
    raise DeviceError(f"Camera {index} is not there, or another program is using it.")


class _CaptureCamera(Camera):
    """A real camera: a thread reads it as it comes, so that nothing old waits in the driver.

    `capture` is a cv2.VideoCapture, used and released by the thread alone; it ends at close() or
    when the camera gives no more pictures.
    """

    _PATIENCE: Final = 10  # failed reads in a row; one alone is a damaged picture

    def __init__(self, capture: Any, label: str) -> None:
        self._capture = capture
        self._label = label
        self._news = threading.Condition()
        self._picture: Picture | None = None
        self._reason = ""
        self._thread = threading.Thread(target=self._run, name="camera", daemon=True)
        self._thread.start()

    def read(self, timeout: float) -> Picture:
        with self._news:
            self._news.wait_for(lambda: self._picture is not None or self._reason, timeout)
            picture, self._picture = self._picture, None
            if self._reason:
                raise DeviceError(self._reason)
            if picture is None:
                raise DeviceError(f"{self._label} gives no pictures.")
            return picture

    def close(self) -> None:
        self._end("The camera was closed.")
        self._thread.join(2.0)  # a driver that hangs must not hang the program: the thread is a daemon

    def _run(self) -> None:
        failures = 0
        while not self._reason and failures < self._PATIENCE:
            done, picture = self._capture.read()
            if done:
                failures = 0
                with self._news:
                    self._picture = picture
                    self._news.notify_all()
            else:
                failures += 1
                time.sleep(0.02)
        self._capture.release()
        self._end(f"{self._label} was unplugged or taken by another program.")

    def _end(self, reason: str) -> None:
        with self._news:
            self._reason = self._reason or reason
            self._news.notify_all()


# ---- Sound: what microphone and speaker are ------------------------------------------


class Microphone(ABC):
    """Sound as it is captured, in real time; close() may come from another thread."""

    @abstractmethod
    def read(self) -> Samples:
        """The next block: 256 samples, int16, mono, 16 kHz, once its last one has been captured.

        DeviceError when the microphone is gone or closed.
        """

    @abstractmethod
    def close(self) -> None:
        """Release the microphone; twice is harmless."""


class Speaker(ABC):
    """Sound as it is heard, in real time; close() may come from another thread."""

    @abstractmethod
    def write(self, block: Samples) -> None:
        """Play int16 mono samples at 16 kHz; returns when there is room for the next ones.

        DeviceError when the speaker is gone or closed.
        """

    @abstractmethod
    def close(self) -> None:
        """Release the speaker; twice is harmless."""


def open_microphone(spec: str) -> Microphone:
    """The microphone `spec`: default, an index, tone, tone:HZ, voice:N or a WAV file; else DeviceError."""
    if spec == "none":
        raise DeviceError("No microphone is chosen.")
    if spec == "default" or spec.isdecimal():
        return _SoundCardMicrophone(_sound_cards.open(spec, "input"))
    kind, _, argument = spec.partition(":")
    if spec == "tone" or (kind == "tone" and argument.isdecimal()):
        tone = _tone(float(argument or 440), 1.0)
        return _PacedMicrophone(lambda: tone)
    if kind == "voice" and argument.isdecimal():
        voice = _voice(int(argument))
        return _PacedMicrophone(lambda: voice)
    return _PacedMicrophone(_WavFile(spec).read)


def open_speaker(spec: str, start: float) -> Speaker:
    """The speaker `spec`: none (heard by nobody), default, an index, or a WAV file; else DeviceError.

    `start` is the time.monotonic() of sample 0; only the file and `none` count from there.
    """
    if spec == "default" or spec.isdecimal():
        return _SoundCardSpeaker(_sound_cards.open(spec, "output"))
    return _PacedSpeaker(start, None if spec == "none" else _WavRecorder(spec))


class _BlockCutter:
    """Cuts what `read` gives, in pieces of any size, into blocks of 256 samples."""

    def __init__(self, read: Callable[[], Samples]) -> None:
        self._read = read
        self._kept: Samples = np.zeros(0, np.int16)

    def next(self) -> Samples:
        """The next block."""
        while len(self._kept) < BLOCK:
            self._kept = np.concatenate((self._kept, self._read()))
        block, self._kept = self._kept[:BLOCK], self._kept[BLOCK:]
        return block


# ---- Sound: stand-ins ----------------------------------------------------------------


class _PacedMicrophone(Microphone):
    """What stands in for a microphone; block k comes 16 ms * (k + 1) after the first read began."""

    _SLEPT: Final = 1.0  # seconds behind: the machine was suspended, it goes on instead of catching up

    def __init__(self, read: Callable[[], Samples]) -> None:
        self._cutter = _BlockCutter(read)
        self._start: float | None = None
        self._count = 0
        self._closed = False

    def read(self) -> Samples:
        if self._start is None:
            self._start = time.perf_counter()
        block = self._cutter.next()
        self._count += 1
        late = _sleep_until(self._start + self._count * BLOCK_SECONDS)
        if late > self._SLEPT:
            self._start += late
        if self._closed:
            raise DeviceError("The microphone was closed.")
        return block

    def close(self) -> None:
        self._closed = True


class _PacedSpeaker(Speaker):
    """What stands in for a speaker: sample k is heard at start + k / 16000, by `recorder` or nobody."""

    _BUFFER: Final = 0.1  # seconds; a writer this late still finds sound playing, as with a real device

    def __init__(self, start: float, recorder: _WavRecorder | None) -> None:
        self._start = start + time.perf_counter() - time.monotonic()
        self._recorder = recorder
        self._at = 0
        self._closed = False
        self._lock = threading.Lock()

    def write(self, block: Samples) -> None:
        late = _sleep_until(self._start + self._at / AUDIO_RATE)
        if late > self._BUFFER:
            self._at += int(late * AUDIO_RATE)  # what nobody wrote was silence
        with self._lock:
            if self._closed:
                raise DeviceError("The speaker was closed.")
            if self._recorder is not None:
                self._recorder.write(self._at, block)
        self._at += len(block)

    def close(self) -> None:
        with self._lock:
            if not self._closed and self._recorder is not None:
                self._recorder.close()
            self._closed = True


class _WavRecorder:
    """A WAV file being written, 16 kHz mono 16-bit: valid after each second, and after close()."""

    _HEADER: Final = 44

    def __init__(self, path: str) -> None:
        try:
            self._file = open(path, "wb")  # noqa: SIM115 - closed by close()
        except OSError as fault:
            raise DeviceError(f"The sound cannot be recorded to {path}: {fault.strerror}.") from fault
        self._size = 0
        self._saved = 0
        self._save()

    def write(self, at: int, samples: Samples) -> None:
        """Put `samples` where sample `at` belongs; a gap before it becomes silence."""
        try:
            self._file.seek(self._HEADER + 2 * at)
            self._file.write(samples.astype("<i2").tobytes())
            self._size = 2 * (at + len(samples))
            if self._size - self._saved >= 2 * AUDIO_RATE:
                self._save()
        except OSError as fault:
            raise DeviceError(f"The sound cannot be recorded any more: {fault.strerror}.") from fault

    def close(self) -> None:
        """Write the final sizes and close the file."""
        try:
            self._save()
            self._file.close()
        except OSError as fault:
            log.warning("the recording is incomplete: %s", fault)

    def _save(self) -> None:
        # the sizes end at what is written for sure: the sound goes out first
        self._file.flush()
        layout = ("<4sI4s4sIHHIIHH4sI", b"RIFF", min(36 + self._size, 2**32 - 1), b"WAVE", b"fmt ", 16)
        about = (1, 1, AUDIO_RATE, 2 * AUDIO_RATE, 2, 16, b"data", min(self._size, 2**32 - 37))
        self._file.seek(0)
        self._file.write(struct.pack(*layout, *about))
        self._file.flush()
        self._saved = self._size


class _WavFile:
    """The sound of a WAV file in a loop: any rate and channels, PCM of 8 to 32 bits or float."""

    def __init__(self, path: str) -> None:
        try:
            self._bytes = np.memmap(path, np.uint8, "r")
        except FileNotFoundError as fault:
            raise DeviceError(f"There is no sound file {path}.") from fault
        except (OSError, ValueError) as fault:
            raise DeviceError(f"The sound file {path} cannot be read.") from fault
        try:
            self._find_sound()
        except (KeyError, ValueError, struct.error) as fault:
            raise DeviceError(f"{path} is not a WAV file that can be played here.") from fault
        self._at = 0
        self._resampler = None if self._rate == AUDIO_RATE else Resampler(self._rate, AUDIO_RATE)

    def read(self) -> Samples:
        """About 16 ms of it: int16, mono, 16 kHz."""
        piece = self._sound[self._at : self._at + max(1, round(self._rate * BLOCK_SECONDS))]
        self._at = (self._at + len(piece)) % len(self._sound)
        mono = self._decode(piece)
        return mono if self._resampler is None else self._resampler.push(mono)

    def _find_sound(self) -> None:
        """Sets _float, _rate, _channels and _sound: bytes of shape (frames, channels, width)."""
        chunks = _riff_chunks(self._bytes)
        about = chunks["fmt "]
        kind, self._channels, self._rate, _, frame, bits = struct.unpack("<HHIIHH", about[:16].tobytes())
        if kind == 0xFFFE:  # the true kind stands in the extension
            (kind,) = struct.unpack("<H", about[24:26].tobytes())
        width = (bits + 7) // 8
        self._float = kind == 3
        known = (1, 2, 3, 4) if kind == 1 else (4, 8) if self._float else ()
        if width not in known or not self._rate or not self._channels or frame != self._channels * width:
            raise ValueError(f"format {kind}, {bits} bits")
        frames = len(chunks["data"]) // frame
        if not frames:
            raise ValueError("no sound")
        self._sound = chunks["data"][: frames * frame].reshape(frames, self._channels, width)

    def _decode(self, piece: NDArray[np.uint8]) -> Samples:
        width = piece.shape[2]
        values: NDArray[Any]
        if self._float:
            values = np.ascontiguousarray(piece).view(f"<f{width}")[:, :, 0] * 32_768.0
        elif width == 1:
            values = (piece[:, :, 0].astype(np.int16) - 128) * 256
        else:  # the two highest bytes
            values = np.ascontiguousarray(piece[:, :, -2:]).view("<i2")[:, :, 0]
        mono: Samples = np.clip(np.rint(values.mean(axis=1)), -32_768, 32_767).astype(np.int16)
        return mono


def _riff_chunks(data: NDArray[np.uint8]) -> dict[str, NDArray[np.uint8]]:
    """The chunks of a RIFF WAVE file by name; a size beyond the end (a stream's) means up to it."""
    if data[:4].tobytes() != b"RIFF" or data[8:12].tobytes() != b"WAVE":
        raise ValueError("not RIFF WAVE")
    chunks: dict[str, NDArray[np.uint8]] = {}
    at = 12
    while at + 8 <= len(data) and "data" not in chunks:
        name, size = struct.unpack("<4sI", data[at : at + 8].tobytes())
        chunks[name.decode("latin-1")] = data[at + 8 : at + 8 + size]
        at += 8 + size + size % 2
    return chunks


def _tone(hz: float, seconds: float, peak_db: float = -20.0) -> Samples:
    """A sine, its peak `peak_db` under full scale; loops without a seam for whole hz and seconds."""
    turns = hz * np.arange(int(seconds * AUDIO_RATE)) / AUDIO_RATE
    return np.rint(32_767 * 10 ** (peak_db / 20) * np.sin(2 * np.pi * turns)).astype(np.int16)


# ---- Sound: voices for the demo ------------------------------------------------------

_VOICE_SECONDS: Final = 12
_VOWELS: Final = ((730, 1090, 2440), (530, 1840, 2480), (270, 2290, 3010), (570, 840, 2410), (300, 870, 2240))


def voice_pilot_hz(number: int) -> float:
    """The tone under `voice:number`, above all speech; 25 Hz apart, different for 64 in a row."""
    return 6_000.0 + 25.0 * (number % 64)


def _voice(number: int) -> Samples:
    """12 s to loop: phrases of syllables with pauses, of its own for each number, and its pilot."""
    random = np.random.default_rng(number)
    pitch = random.uniform(95.0, 230.0)
    sound = np.zeros(_VOICE_SECONDS * AUDIO_RATE)
    at = random.uniform(0.0, 1.5)
    while at < _VOICE_SECONDS - 0.5:
        for _ in range(random.integers(3, 9)):
            syllable = _syllable(random, pitch)
            begin = int(at * AUDIO_RATE)
            room = sound[begin : begin + len(syllable)]
            room += syllable[: len(room)]
            at += len(syllable) / AUDIO_RATE + random.choice((0.0, 0.02, 0.08))
        at += random.uniform(0.5, 2.5)
    loudest = np.abs(sound).max()
    pilot = _tone(voice_pilot_hz(number), _VOICE_SECONDS, -40.0)
    speech: Samples = np.rint(sound / loudest * 10_000).astype(np.int16)
    return speech + pilot


def _syllable(random: np.random.Generator, pitch: float) -> NDArray[np.float64]:
    """A consonant's hiss, then a vowel: the harmonics of a gliding pitch, louder near three formants."""
    count = int(random.uniform(0.13, 0.30) * AUDIO_RATE)
    rise = np.linspace(random.uniform(0.95, 1.15), random.uniform(0.85, 1.05), count)
    phase = 2 * np.pi * np.cumsum(pitch * rise) / AUDIO_RATE
    formants = np.array(_VOWELS[random.integers(len(_VOWELS))]) * (1.0 + (pitch - 150.0) / 800.0)
    vowel = np.zeros(count)
    for harmonic in range(1, int(4_000 / pitch)):
        hz = harmonic * pitch
        near = 1.0 / (1.0 + ((hz - formants) / (60.0 + 0.06 * formants)) ** 2)
        vowel += float((near * (1.0, 0.6, 0.3)).sum() + 0.02) / math.sqrt(harmonic) * np.sin(harmonic * phase)
    vowel *= np.minimum(1.0, np.minimum(np.arange(count), np.arange(count)[::-1]) / (0.03 * AUDIO_RATE))
    spectrum = np.fft.rfft(random.normal(size=1_024))
    spectrum[int(5_000 / AUDIO_RATE * 1_024) :] = 0.0  # the pilots' band stays free
    hiss = np.fft.irfft(spectrum) * np.hanning(1_024) * random.uniform(0.05, 0.3)
    vowel[:1_024] += hiss
    return vowel


# ---- Sound: the sound cards ----------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _SoundStream:
    """An open PortAudio stream, at the device's own rate."""

    stream: Any
    label: str
    rate: int
    channels: int


class _SoundCards:
    """PortAudio, one for the process: started for the first user, ended with the last.

    It lists devices at its start only, so a headset plugged in while a stream is open is found by
    its index after all are closed; and it may not be entered twice at a time, hence the lock.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._users = 0
        self._audio: Any = None

    @contextlib.contextmanager
    def using(self) -> Iterator[Any]:
        """The pyaudio.PyAudio, kept alive and to the caller alone inside the block."""
        with self._lock:
            self._acquire()
            try:
                yield self._audio
            finally:
                self._release()

    def open(self, spec: str, kind: str) -> _SoundStream:
        """A started stream of `kind` input or output for `spec` default or an index; else DeviceError."""
        what = "microphone" if kind == "input" else "speaker"
        with self.using() as audio:
            candidates = self._find(audio, spec, kind)
            for info in candidates:
                for channels in (1, 2):
                    with contextlib.suppress(OSError, ValueError):
                        opened = self._start(audio, info, kind, channels)
                        self._users += 1
                        return opened
        if not candidates:
            raise DeviceError(
                f"This computer has no {what}." if spec == "default" else f"There is no {what} number {spec}."
            )
        label = candidates[0]["name"]
        raise DeviceError(f"The {what} “{label}” cannot be opened; another program may use it.")

    def close(self, opened: _SoundStream) -> None:
        """Stop and close what open() gave."""
        with self._lock:
            with contextlib.suppress(OSError):  # it was pulled out
                opened.stream.close()
            self._release()

    def names(self, kind: str) -> list[tuple[str, str]]:
        """(spec, label) of each device of `kind` input or output; the default one first."""
        with self.using() as audio:
            default = self._find(audio, "default", kind)
            if not default:
                return []
            own = [info for info in self._infos(audio, kind) if info["hostApi"] == default[0]["hostApi"]]
        named = [(str(info["index"]), str(info["name"])) for info in own]
        return [("default", f"Default ({default[0]['name']})"), *named]

    def _infos(self, audio: Any, kind: str) -> list[dict[str, Any]]:
        infos = [audio.get_device_info_by_index(index) for index in range(audio.get_device_count())]
        return [info for info in infos if info[f"max{kind.title()}Channels"] > 0]

    def _find(self, audio: Any, spec: str, kind: str) -> list[dict[str, Any]]:
        """The devices to try for `spec`, best first."""
        infos = self._infos(audio, kind)
        if spec != "default":
            return [info for info in infos if info["index"] == int(spec)]
        apis = [audio.get_host_api_info_by_index(index) for index in range(audio.get_host_api_count())]
        # on Windows the default interface, MME, cuts names and is 100 ms late: WASAPI first
        apis.sort(key=lambda api: "WASAPI" not in api["name"])
        defaults = [api[f"default{kind.title()}Device"] for api in apis]
        return sorted((i for i in infos if i["index"] in defaults), key=lambda i: defaults.index(i["index"]))

    def _start(self, audio: Any, info: dict[str, Any], kind: str, channels: int) -> _SoundStream:
        rate = int(info["defaultSampleRate"])
        stream = audio.open(
            rate=rate,
            channels=channels,
            format=8,  # pyaudio.paInt16
            frames_per_buffer=round(rate * BLOCK_SECONDS),
            **{kind: True, f"{kind}_device_index": info["index"]},
        )
        return _SoundStream(stream, str(info["name"]), rate, channels)

    def _acquire(self) -> None:
        if not self._users:
            try:
                import pyaudio
            except ImportError as fault:
                raise DeviceError("Sound needs the Python package PyAudio, which is not here.") from fault
            with _silent_stderr():
                self._audio = pyaudio.PyAudio()
        self._users += 1

    def _release(self) -> None:
        self._users -= 1
        if not self._users:
            self._audio.terminate()
            self._audio = None


_sound_cards: Final = _SoundCards()


@contextlib.contextmanager
def _silent_stderr() -> Iterator[None]:
    """Hides what is written to file descriptor 2 meanwhile; for one thread at a time."""
    try:
        kept = os.dup(2)
    except OSError:  # a program without a console
        yield
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


class _SoundCardEnd(ABC):
    """What a real microphone and a real speaker share: a thread that alone uses the stream.

    It never pauses: left alone for 50 ms, a stream can stall for a second, and if it dies then, the next
    call hangs. It ends at close() or when the device fails, and closes the stream.
    """

    _PATIENCE: Final = 5.0  # seconds; some need two to start

    def __init__(self, opened: _SoundStream) -> None:
        self._opened = opened
        self._news = threading.Condition()
        self._pieces: deque[Samples] = deque(maxlen=12)  # a fifth of a second, then the oldest go
        self._reason = ""
        self._thread = threading.Thread(target=self._run, name=f"sound {opened.label}", daemon=True)

    def close(self) -> None:
        """Release the device; twice is harmless."""
        self._end("was closed")
        self._thread.join(2.0)  # a driver that hangs must not hang the program: the thread is a daemon

    @abstractmethod
    def _turn(self) -> None:
        """Pass one piece between the stream and _pieces; the thread's work."""

    def _run(self) -> None:
        try:
            while not self._reason:
                self._turn()
        except OSError as fault:
            log.info("%s: %s", self._opened.label, fault)
            self._end("was unplugged or stopped working")
        _sound_cards.close(self._opened)

    def _end(self, reason: str) -> None:
        with self._news:
            self._reason = self._reason or f"“{self._opened.label}” {reason}."
            self._news.notify_all()

    def _wait(self, ready: Callable[[], bool]) -> None:
        """Wait until `ready`, with _news held; DeviceError when the device failed or does not answer."""
        if not self._news.wait_for(lambda: ready() or bool(self._reason), self._PATIENCE):
            self._reason = f"“{self._opened.label}” does not answer."
        if self._reason:
            raise DeviceError(self._reason)


class _SoundCardMicrophone(_SoundCardEnd, Microphone):
    """A microphone behind PortAudio."""

    def __init__(self, opened: _SoundStream) -> None:
        super().__init__(opened)
        self._cutter = _BlockCutter(self._next_piece)
        self._resampler = None if opened.rate == AUDIO_RATE else Resampler(opened.rate, AUDIO_RATE)
        self._thread.start()

    def read(self) -> Samples:
        return self._cutter.next()

    def _next_piece(self) -> Samples:
        with self._news:
            self._wait(lambda: bool(self._pieces))
            return self._pieces.popleft()

    def _turn(self) -> None:
        rate, channels = self._opened.rate, self._opened.channels
        data = self._opened.stream.read(round(rate * BLOCK_SECONDS), exception_on_overflow=False)
        samples: Samples = np.frombuffer(data, np.int16)
        if channels > 1:
            samples = samples.reshape(-1, channels).mean(axis=1).astype(np.int16)
        if self._resampler is not None:
            samples = self._resampler.push(samples)
        with self._news:
            self._pieces.append(samples)
            self._news.notify_all()


class _SoundCardSpeaker(_SoundCardEnd, Speaker):
    """A speaker behind PortAudio; what is not written in time is silence."""

    def __init__(self, opened: _SoundStream) -> None:
        super().__init__(opened)
        self._resampler = None if opened.rate == AUDIO_RATE else Resampler(AUDIO_RATE, opened.rate)
        self._thread.start()

    def write(self, block: Samples) -> None:
        with self._news:
            self._wait(lambda: not self._pieces)
            self._pieces.append(block)
            self._news.notify_all()

    def _turn(self) -> None:
        with self._news:
            self._news.wait_for(lambda: bool(self._pieces), 1.5 * BLOCK_SECONDS)
            samples = self._pieces.popleft() if self._pieces else np.zeros(BLOCK, np.int16)
            self._news.notify_all()
        if self._resampler is not None:
            samples = self._resampler.push(samples)
        self._opened.stream.write(samples.repeat(self._opened.channels).tobytes())


# ---- Screen --------------------------------------------------------------------------


class ScreenSource(ABC):
    """What is shared: pictures of a screen, a window, a file or the test card. For one thread alone."""

    @abstractmethod
    def grab(self) -> Picture:
        """The picture of now, without the mouse pointer: BGR; its size may differ from the last one's.

        DeviceError when there is nothing to see any more (window closed, screen unplugged).
        """

    def pointer(self) -> tuple[int, int] | None:
        """Where the mouse points in the picture grabbed last; None if outside or if nobody can tell."""
        return None

    @abstractmethod
    def close(self) -> None:
        """Release what was opened; twice is harmless."""


def open_screen(source: str) -> ScreenSource:
    """The source screen:N, window (the one in front that is not ours), pattern, or a video or picture file.

    DeviceError with one sentence where it cannot be had.
    """
    if source == "pattern":
        card = TestCard("Shared screen", LAYERS[-1])
        return _PictureScreen(DEFAULT_FPS, lambda number: card.draw(time.time()), lambda: None)
    if source == "window":
        return _DesktopScreen(None)
    kind, _, number = source.partition(":")
    if kind == "screen" and number.isdecimal():
        return _DesktopScreen(int(number))
    if Path(source).suffix.lower() in (".png", ".jpg", ".jpeg", ".bmp", ".webp"):
        still = _load_picture(source)
        return _PictureScreen(1.0, lambda number: still, lambda: None)
    video = _VideoFile(source, DEFAULT_FPS)
    return _PictureScreen(video.fps, video.picture, video.close)


def list_screens() -> list[tuple[str, str, tuple[int, int]]]:
    """(source, label, (width, height)) to choose from; a window's size is (0, 0): known once it is shared."""
    try:
        with contextlib.closing(_Grabber()) as grabber:
            areas = grabber.screens()
    except DeviceError:
        return []
    found = [(f"screen:{n}", f"Screen {n + 1}", (area.width, area.height)) for n, area in enumerate(areas)]
    return found if sys.platform == "darwin" else [*found, ("window", "The window in front", (0, 0))]


def _load_picture(path: str) -> Picture:
    try:
        return decode_picture(Path(path).read_bytes())
    except (OSError, PeerFault) as fault:
        raise DeviceError(f"The picture {path} cannot be read.") from fault


class _PictureScreen(ScreenSource):
    """What stands in for a screen: `picture(n)` draws or decodes frame n."""

    def __init__(self, fps: float, picture: Callable[[int], Picture], close: Callable[[], None]) -> None:
        self._clock = _FrameClock(fps)
        self._picture = picture
        self._close = close

    def grab(self) -> Picture:
        return self._picture(self._clock.newest())

    def close(self) -> None:
        self._close()


class _Rectangle(NamedTuple):
    """A part of the desktop, in its own units (pixels, on macOS points); top left may be negative."""

    left: int
    top: int
    width: int
    height: int

    def within(self, other: _Rectangle) -> _Rectangle:
        """The part that lies in `other`; its width or height is 0 or less when there is none."""
        left, top = max(self.left, other.left), max(self.top, other.top)
        right = min(self.left + self.width, other.left + other.width)
        bottom = min(self.top + self.height, other.top + other.height)
        return _Rectangle(left, top, right - left, bottom - top)


class _DesktopScreen(ScreenSource):
    """Screen number `screen`, or for None the window now in front, wherever it moves.

    Of a window it shows its place on the desktop, with whatever lies above it; while it is
    minimised or outside, the last picture stays.
    """

    def __init__(self, screen: int | None) -> None:
        self._screen = screen
        self._picture: Picture | None = None
        self._area = _Rectangle(0, 0, 0, 0)
        with contextlib.ExitStack() as undo:
            self._grabber = _Grabber()
            undo.callback(self._grabber.close)
            self._windows = _open_window_system()
            undo.callback(self._windows.close)
            self._window = self._windows.front() if screen is None else 0
            first = self.grab()
            # XWayland shows other programs nothing but black
            if os.environ.get("XDG_SESSION_TYPE") == "wayland" and not first.any():
                raise DeviceError("Wayland hides the screen from programs; sign in with Xorg to share it.")
            undo.pop_all()

    def grab(self) -> Picture:
        try:
            return self._grab()
        except DeviceError:  # the screens were rearranged a moment ago
            self._grabber.reopen()
            return self._grab()

    def pointer(self) -> tuple[int, int] | None:
        at = self._windows.pointer()
        if at is None or self._picture is None:
            return None
        x, y = at[0] - self._area.left, at[1] - self._area.top
        if not (0 <= x < self._area.width and 0 <= y < self._area.height):
            return None
        height, width = self._picture.shape[:2]
        return x * width // self._area.width, y * height // self._area.height

    def close(self) -> None:
        self._grabber.close()
        self._windows.close()

    def _grab(self) -> Picture:
        area = self._find_area()
        if area is not None:
            self._picture, self._area = self._grabber.grab(area), area
        if self._picture is None:
            raise DeviceError("The window in front is not visible.")
        return self._picture

    def _find_area(self) -> _Rectangle | None:
        if self._screen is not None:
            screens = self._grabber.screens()
            if self._screen >= len(screens):
                raise DeviceError(f"There is no screen {self._screen + 1} here.")
            return screens[self._screen]
        area = self._windows.rectangle(self._window)
        if area is not None:
            area = area.within(self._grabber.desktop())
        return area if area is not None and area.width > 0 and area.height > 0 else None


class _Grabber:
    """mss, opened anew every 2 s because it looks at the arrangement of the screens only once."""

    _FRESH: Final = 2.0

    def __init__(self) -> None:
        self._mss: Any = None
        self.reopen()

    def reopen(self) -> None:
        """Look at the screens anew."""
        before, self._mss = self._mss, None
        try:
            import mss
            from mss.exception import ScreenShotError
        except ImportError as fault:
            raise DeviceError("Sharing needs the Python package mss, which is not here.") from fault
        try:
            # the class has another name since version 10
            self._mss = (getattr(mss, "MSS", None) or mss.mss)()
            self._areas = [_Rectangle(*(m[k] for k in _Rectangle._fields)) for m in self._mss.monitors]
        except (OSError, ScreenShotError) as fault:
            log.info("screen: %s", fault)
            raise DeviceError("There is no screen here that can be shared.") from fault
        finally:  # after the new one is open: a bare X server starts anew when its last client goes
            self._shut(before)
        self._opened = time.perf_counter()

    def screens(self) -> list[_Rectangle]:
        """Each screen."""
        self._refresh()
        return self._areas[1:] or self._areas

    def desktop(self) -> _Rectangle:
        """All screens together."""
        self._refresh()
        return self._areas[0]

    def grab(self, area: _Rectangle) -> Picture:
        """What is seen in `area`: BGR."""
        import cv2
        from mss.exception import ScreenShotError

        try:
            shot = self._mss.grab(area._asdict())
        except (OSError, ScreenShotError, AssertionError) as fault:  # the last: the X server is gone
            log.info("screen: %s", fault)
            raise DeviceError("The screen cannot be seen any more.") from fault
        pixels = np.frombuffer(shot.raw, np.uint8).reshape(shot.height, shot.width, 4)
        return cast(Picture, cv2.cvtColor(pixels, cv2.COLOR_BGRA2BGR))

    def close(self) -> None:
        """Close mss."""
        before, self._mss = self._mss, None
        self._shut(before)

    def _shut(self, before: Any) -> None:
        if before is not None:
            from mss.exception import ScreenShotError

            with contextlib.suppress(ScreenShotError):  # the X server is gone
                before.close()

    def _refresh(self) -> None:
        if time.perf_counter() - self._opened > self._FRESH:
            self.reopen()


# ---- Screen: whose window is where ---------------------------------------------------


class _WindowSystem(ABC):
    """Asks the desktop for windows and the mouse; windows are its own numbers."""

    @abstractmethod
    def front(self) -> int:
        """The window in front that is not this program's; DeviceError when there is none."""

    @abstractmethod
    def rectangle(self, window: int) -> _Rectangle | None:
        """Where it is, without its shadow; None while it is minimised, DeviceError when it is gone."""

    @abstractmethod
    def pointer(self) -> tuple[int, int] | None:
        """Where the mouse points on the desktop; None where that cannot be known."""

    @abstractmethod
    def close(self) -> None:
        """Release the connection; twice is harmless."""


def _open_window_system() -> _WindowSystem:
    if sys.platform == "win32":
        return _WindowsDesktop()
    return _NoWindowSystem() if sys.platform == "darwin" else _XDesktop()


class _NoWindowSystem(_WindowSystem):
    """Where windows cannot be asked for: whole screens only."""

    def front(self) -> int:
        raise DeviceError("On this system a whole screen can be shared, not a single window.")

    def rectangle(self, window: int) -> _Rectangle | None:
        return None

    def pointer(self) -> tuple[int, int] | None:
        return None

    def close(self) -> None:
        pass


class _WindowsDesktop(_WindowSystem):
    """Windows: user32, and the desktop window manager for the rectangle that is seen."""

    _NEXT, _BOUNDS, _CLOAKED = 2, 9, 14  # GW_HWNDNEXT, DWMWA_EXTENDED_FRAME_BOUNDS, DWMWA_CLOAKED

    def __init__(self) -> None:
        import ctypes

        # both calling conventions are the same on 64-bit Windows
        self._user, self._dwm, self._ctypes = ctypes.CDLL("user32"), ctypes.CDLL("dwmapi"), ctypes

    def front(self) -> int:
        window = self._user.GetForegroundWindow() or self._user.GetTopWindow(None)
        while window and not self._suits(window):
            window = self._user.GetWindow(window, self._NEXT)
        if not window:
            raise DeviceError("No other window is open.")
        return int(window)

    def rectangle(self, window: int) -> _Rectangle | None:
        if not self._user.IsWindow(window):
            raise DeviceError("The shared window was closed.")
        if self._user.IsIconic(window) or not self._user.IsWindowVisible(window):
            return None
        sides = (self._ctypes.c_long * 4)()
        if self._dwm.DwmGetWindowAttribute(window, self._BOUNDS, sides, 16):
            self._user.GetWindowRect(window, sides)
        left, top, right, bottom = sides
        return _Rectangle(left, top, right - left, bottom - top)

    def pointer(self) -> tuple[int, int] | None:
        at = (self._ctypes.c_long * 2)()
        return (at[0], at[1]) if self._user.GetCursorPos(at) else None

    def close(self) -> None:
        pass

    def _suits(self, window: int) -> bool:
        owner, cloaked = self._ctypes.c_ulong(), self._ctypes.c_ulong()
        self._user.GetWindowThreadProcessId(window, self._ctypes.byref(owner))
        # apps that were put to sleep and windows on other desktops are "visible", but cloaked
        self._dwm.DwmGetWindowAttribute(window, self._CLOAKED, self._ctypes.byref(cloaked), 4)
        return bool(
            owner.value != os.getpid()
            and not cloaked.value
            and self._user.IsWindowVisible(window)
            and not self._user.IsIconic(window)
            and self._user.GetWindowTextLengthW(window)
            and window != self._user.GetShellWindow()
        )


class _XDesktop(_WindowSystem):
    """X11 through libxcb: unlike Xlib, it has no error handler that would be shared with Tk."""

    _VIEWABLE: Final = 2

    def __init__(self) -> None:
        import ctypes

        class Cookie(ctypes.Structure):
            _fields_ = (("sequence", ctypes.c_uint),)

        self._ctypes, self._cookie = ctypes, Cookie
        try:
            self._xcb, libc = ctypes.CDLL("libxcb.so.1"), ctypes.CDLL(None)
        except OSError as fault:
            raise DeviceError("The library libxcb is missing here: no screen can be shared.") from fault
        self._free = libc.free
        self._xcb.xcb_connect.restype = ctypes.c_void_p
        self._connection = ctypes.c_void_p(self._xcb.xcb_connect(None, None))
        if self._xcb.xcb_connection_has_error(self._connection):
            self.close()
            raise DeviceError("There is no screen here that can be shared.")
        self._root, self._low = self._read_setup()

    def front(self) -> int:
        stacking = self._words(self._root, "_NET_CLIENT_LIST_STACKING")
        if stacking:
            windows = [*self._words(self._root, "_NET_ACTIVE_WINDOW"), *reversed(stacking)]
        else:  # no window manager
            focus = self._outermost(self._word(self._ask("get_input_focus"), 8))
            windows = [focus, *reversed(self._children(self._root))]
        # a program's windows share the upper bits; Tk tells our process only after `wm client`
        ours = {w & ~self._low for w in windows if os.getpid() in self._words(w, "_NET_WM_PID")}
        for window in windows:
            if window & ~self._low not in ours and self._suits(window):
                return window
        raise DeviceError("No other window is open.")

    def rectangle(self, window: int) -> _Rectangle | None:
        about = self._ask("get_window_attributes", window)
        if not about:
            raise DeviceError("The shared window was closed.")
        frame = self._outermost(window)
        size = self._ask("get_geometry", frame)
        place = self._ask("translate_coordinates", frame, self._root, 0, 0)
        if about[26] != self._VIEWABLE or not size or not place:
            return None
        left, top = struct.unpack_from("=hh", place, 12)
        width, height = struct.unpack_from("=HH", size, 16)
        west, east, north, south = self._words(window, "_GTK_FRAME_EXTENTS") or (0, 0, 0, 0)  # its shadow
        return _Rectangle(left + west, top + north, width - west - east, height - north - south)

    def pointer(self) -> tuple[int, int] | None:
        reply = self._ask("query_pointer", self._root)
        return struct.unpack_from("=hh", reply, 16) if reply and reply[1] else None

    def close(self) -> None:
        if self._connection:
            self._xcb.xcb_disconnect(self._connection)
            self._connection = self._ctypes.c_void_p()

    def _read_setup(self) -> tuple[int, int]:
        """The root window of the first screen and the mask of a program's own bits in window numbers."""
        self._xcb.xcb_get_setup.restype = self._ctypes.c_void_p
        setup = self._xcb.xcb_get_setup(self._connection)
        head = self._ctypes.string_at(setup, 40)
        vendor, formats = struct.unpack_from("=H", head, 24)[0], head[29]
        root = self._ctypes.string_at(setup + 40 + (vendor + 3) // 4 * 4 + 8 * formats, 4)
        return self._word(root, 0), self._word(head, 16)

    def _suits(self, window: int) -> bool:
        about = self._ask("get_window_attributes", window)
        if not about or about[26] != self._VIEWABLE or about[27]:  # the last: a menu or a hint
            return False
        kinds = self._words(window, "_NET_WM_WINDOW_TYPE")
        apart = {self._atom(f"_NET_WM_WINDOW_TYPE_{kind}") for kind in ("DESKTOP", "DOCK")}
        return not apart.intersection(kinds)

    def _outermost(self, window: int) -> int:
        """The ancestor of `window` that lies on the root: its frame, or itself."""
        while tree := self._ask("query_tree", window):
            parent = self._word(tree, 12)
            if parent in (0, self._root):
                break
            window = parent
        return window

    def _children(self, window: int) -> tuple[int, ...]:
        tree = self._ask("query_tree", window)
        return struct.unpack_from(f"={struct.unpack_from('=H', tree, 16)[0]}I", tree, 32) if tree else ()

    def _words(self, window: int, name: str) -> tuple[int, ...]:
        """The property `name` of `window`: 32-bit numbers, none if it is not set."""
        reply = self._ask("get_property", 0, window, self._atom(name), 0, 0, 4_096)
        count = self._word(reply, 16) if reply and reply[1] == 32 else 0
        return struct.unpack_from(f"={count}I", reply, 32) if count else ()

    def _atom(self, name: str) -> int:
        return self._word(self._ask("intern_atom", 0, len(name), name.encode()), 8)

    def _word(self, reply: bytes, at: int) -> int:
        return int(struct.unpack_from("=I", reply, at)[0]) if reply else 0

    def _ask(self, request: str, *arguments: int | bytes) -> bytes:
        """The X server's reply as in the X11 protocol; empty if it refused: the window is gone."""
        if not self._connection:
            return b""
        send = getattr(self._xcb, f"xcb_{request}")
        send.restype = self._cookie
        receive = getattr(self._xcb, f"xcb_{request}_reply")
        receive.restype = self._ctypes.c_void_p
        reply = self._ctypes.c_void_p(receive(self._connection, send(self._connection, *arguments), None))
        if not reply:
            return b""
        length = struct.unpack("=I", self._ctypes.string_at(reply, 8)[4:])[0]
        data = self._ctypes.string_at(reply, 32 + 4 * length)
        self._free(reply)
        return data


# ---- What there is to choose from ----------------------------------------------------


def list_devices() -> dict[str, list[tuple[str, str]]]:
    """(spec, label) of the real devices here, by "camera", "mic" and "speaker"; empty where none is."""
    found: dict[str, list[tuple[str, str]]] = {"camera": _list_cameras(), "mic": [], "speaker": []}
    with contextlib.suppress(DeviceError):
        found["mic"] = _sound_cards.names("input")
        found["speaker"] = _sound_cards.names("output")
    return found


def _list_cameras() -> list[tuple[str, str]]:
    if sys.platform == "linux":
        nodes = sorted(Path("/sys/class/video4linux").glob("video*"), key=lambda node: (len(node.name), node))
        # a camera's further nodes carry its metadata, not pictures
        firsts = [node for node in nodes if (node / "index").read_text().strip() == "0"]
        return [(node.name.removeprefix("video"), (node / "name").read_text().strip()) for node in firsts]
    cameras: list[tuple[str, str]] = []
    for index in range(4):
        try:
            _open_capture(index, LAYERS[-1], DEFAULT_FPS).release()
        except DeviceError:
            break
        cameras.append((str(index), f"Camera {index + 1}"))
    return cameras


# ======================================================================================
# [10] SERVER - the server role, and the mixer's process
# Uses: BASICS, WIRE, MEDIA, ROOM, TRUST, LINKS, DISCOVERY
# ======================================================================================

REPORT_SECONDS: Final = 1.0
SILENT_SECONDS: Final = 10.0


@dataclass(slots=True)
class ServerOptions:
    """What the server role needs to know."""

    title: str = "Meeting"
    host_name: str = "Host"
    pin: str = ""
    base: int = DEFAULT_PORT
    bind: str | None = None
    host_key: str = ""


# -- the video relay: one thread, one socket ---------------------------------------------------------


class RelayPeer:
    """One client on the video plane: its path, what it sends, what it is sent."""

    def __init__(self, ident: int, up: bytes, down: bytes, counters: Counters) -> None:
        self.binding = Binding(ident, up, down, layered=True)
        self.incoming = Reassembler(layered=True, counters=counters)
        self.sent = SentFrames()
        self.numbers: dict[int, int] = {}
        self.thinners: dict[int, FrameThinner] = {}
        self.fresh: list[float] = [-math.inf] * len(LAYERS)  # when each layer last sent a frame

    def thinner(self, sender: int, fps: int) -> FrameThinner:
        """The thinner for pictures of `sender` at `fps`."""
        known = self.thinners.get(sender)
        if known is None or known.fps != fps:
            known = self.thinners[sender] = FrameThinner(fps)
        return known

    def next_number(self, sender: int) -> int:
        """The next of this receiver's own contiguous numbers for `sender`."""
        number = self.numbers.get(sender, 0) + 1
        self.numbers[sender] = number
        return number

    def best_layer(self, asked: int, now: float) -> int:
        """The best layer that is being sent at or below `asked`, else the lowest there is."""
        alive = [layer for layer in range(len(LAYERS)) if now - self.fresh[layer] < 1.0]
        return max((layer for layer in alive if layer <= asked), default=min(alive, default=0))


class VideoRelay:
    """Collects frames, opens them, and sends each receiver the frame once, sealed for it."""

    BUDGET = 256 * 1024  # bytes sent before the socket is read again

    def __init__(self, address: Address, counters: Counters) -> None:
        self._port = udp_port(address, counters)
        self._counters = counters
        self._peers: dict[int, RelayPeer] = {}
        self._routes: dict[int, dict[int, tuple[int, int]]] = {}
        self._egress = EgressScheduler(counters)
        self.loop = DatagramLoop("relay", self._port, counters, self._on_datagrams, self._on_due)

    def add(self, ident: int, up: bytes, down: bytes) -> None:
        """A client with its two keys. Relay's thread only, like all below."""
        self._peers[ident] = RelayPeer(ident, up, down, self._counters)

    def remove(self, ident: int) -> None:
        """Forget a client."""
        self._peers.pop(ident, None)
        self._routes.pop(ident, None)
        self._egress.forget(ident)
        for peer in self._peers.values():
            peer.numbers.pop(ident, None)
            peer.thinners.pop(ident, None)

    def route(self, sender: int, receivers: dict[int, tuple[int, int]]) -> None:
        """Who receives pictures of `sender`: {receiver: (layer, fps)}."""
        self._routes[sender] = receivers

    def _on_datagrams(self, buffer: memoryview, segment: int, address: Address, now: float) -> None:
        if len(buffer) < VIDEO_HEADER.size:
            raise PeerFault("short_datagram")
        ident, number, total, kind = VIDEO_HEADER.unpack_from(buffer)
        peer = self._peers.get(ident)
        if peer is None:
            raise PeerFault("unknown_id")
        if total == 0:
            self._on_small(peer, kind, number, bytes(buffer[VIDEO_HEADER.size : segment]), address, now)
            return
        if peer.binding.address != address:
            raise PeerFault("unbound")
        for frame in peer.incoming.push_batch(buffer, segment, now):
            self._on_frame(peer, frame, now)

    def _on_small(
        self, peer: RelayPeer, kind: int, number: int, sealed: bytes, address: Address, now: float
    ) -> None:
        binding = peer.binding
        if kind == Kind.BIND:
            challenge = binding.on_bind(number, sealed, address, secrets.token_bytes(16))
            self._port.send(challenge, address)
        elif kind == Kind.ANSWER:
            binding.on_answer(number, sealed, address)
        elif kind == Kind.NACK:
            if binding.address != address:
                raise PeerFault("unbound")
            nack = parse_nack(binding.opener.open(Kind.NACK, binding.id, number, sealed))
            for datagram in peer.sent.resend(nack, now):
                self._port.send(datagram, address)
        else:
            raise PeerFault("unknown_kind")

    def _on_frame(self, peer: RelayPeer, frame: WholeFrame, now: float) -> None:
        sender = peer.binding.id
        layer = frame.number >> LAYER_SHIFT
        try:
            picture = peer.binding.opener.open(
                Kind.VIDEO, sender, frame.number, frame.sealed, parts_of(len(frame.sealed))
            )
        except PeerFault:
            peer.incoming.retry(frame)
            raise
        if not fits_layer(jpeg_size(picture), layer):
            raise PeerFault("bad_picture", "not its layer's size")
        peer.fresh[layer] = now
        for receiver, (asked, fps) in self._routes.get(sender, {}).items():
            other = self._peers.get(receiver)
            if other is None or other.binding.address is None or peer.best_layer(asked, now) != layer:
                continue
            if other.thinner(sender, fps).take(now):
                self._forward(other, sender, layer, fps, picture, now)

    def _forward(
        self, peer: RelayPeer, sender: int, layer: int, fps: int, picture: bytes, now: float
    ) -> None:
        number = peer.next_number(sender)
        total = parts_of(len(picture) + TAG)
        sealed = peer.binding.sealer.seal(Kind.VIDEO, sender, number, picture, total)
        layout = frame_datagrams(sender, number, sealed)
        peer.sent.store(sender, number, layout, now)
        self._egress.queue(peer.binding.id, layer, layout, now, 0.9 / fps)

    def _on_due(self, now: float) -> float | None:
        for receiver, piece in self._egress.due(now, self.BUDGET):
            address = self._peers[receiver].binding.address if receiver in self._peers else None
            if address is not None:
                self._port.send_frame(piece, address)
        dues = [self._egress.next_due(), *(self._ask_again(peer, now) for peer in self._peers.values())]
        return min((due for due in dues if due is not None), default=None)

    def _ask_again(self, peer: RelayPeer, now: float) -> float | None:
        """Ask `peer` for what is missing of its frames; returns when to look again."""
        address = peer.binding.address
        if address is not None:
            for nack in peer.incoming.nacks(now):
                self._port.send(peer.binding.small(Kind.NACK, encode_nack(nack)), address)
        return peer.incoming.next_due(now)


# -- the mixer: a process of its own -------------------------------------------------------------------


class MixerPeer:
    """One client on the audio plane."""

    def __init__(self, ident: int, up: bytes, down: bytes) -> None:
        self.binding = Binding(ident, up, down, layered=False)
        self.silent = 0  # ticks since the last sound that was sent to it


class MixerProcess:
    """The mixer role: owns the audio port, addresses and keys; told what to do on standard input.

    Silence is sent as an empty block: the first three ticks of it, then every 16th, so that a
    listener can tell it from loss.
    """

    def __init__(self, address: Address, say: Callable[[Json], None]) -> None:
        self._counters = Counters()
        self._port = udp_port(address, self._counters)
        self._mixer = AudioMixer()
        self._peers: dict[int, MixerPeer] = {}
        self._mail: queue.SimpleQueue[Json | None] = queue.SimpleQueue()
        self._say = say
        self._tick = 0
        self._late_ticks = 0
        self._worst_lateness = 0.0

    def tell(self, message: Json | None) -> None:
        """A command from the parent, or None at the end; from any thread."""
        self._mail.put(message)

    def run(self) -> None:
        """Mix until told to end: a tick every 16 ms of absolute time, receiving in between."""
        self._say({"event": "ready"})
        start = time.monotonic()
        reported = start
        with selectors.DefaultSelector() as selector:
            selector.register(self._port, selectors.EVENT_READ)
            while self._obey():
                due = start + self._tick * BLOCK_SECONDS
                now = time.monotonic()
                if now < due:
                    if selector.select(due - now):
                        self._receive()
                    continue
                self._receive()
                self._note_lateness(now - due)
                self._mix(now)
                self._tick += 1
                if now - reported >= REPORT_SECONDS:
                    reported = now
                    self._report()
        self._port.close()

    def _obey(self) -> bool:
        while not self._mail.empty():
            message = self._mail.get()
            if message is None:
                return False
            self._do(message)
        return True

    def _do(self, message: Json) -> None:
        ident = message["id"]
        match message["do"]:
            case "add":
                up, down = bytes.fromhex(message["up"]), bytes.fromhex(message["down"])
                self._peers[ident] = MixerPeer(ident, up, down)
                self._mixer.add(ident)
                self._mixer.mute(ident, True)
            case "remove":
                self._peers.pop(ident, None)
                self._mixer.remove(ident)
            case "mute":
                self._mixer.mute(ident, message["on"])

    def _receive(self) -> None:
        for buffer, segment, address in self._port.receive(256):
            now = time.monotonic()
            for at in range(0, len(buffer), segment):
                try:
                    self._on_datagram(bytes(buffer[at : at + segment]), address, now)
                except PeerFault as fault:
                    self._counters.add(fault.kind)

    def _on_datagram(self, data: bytes, address: Address, now: float) -> None:
        if len(data) in AUDIO_SIZES:
            ident, seq = AUDIO_HEADER.unpack_from(data)
            binding = self._peer(ident).binding
            if binding.address != address:
                raise PeerFault("unbound")
            block = binding.opener.open(Kind.AUDIO, ident, seq, data[AUDIO_HEADER.size :])
            samples = np.frombuffer(block, ">i2").astype(np.int16) if block else None
            self._mixer.push(ident, seq, samples, now)
            return
        if len(data) < VIDEO_HEADER.size:
            raise PeerFault("short_datagram")
        ident, number, total, kind = VIDEO_HEADER.unpack_from(data)
        binding, sealed = self._peer(ident).binding, data[VIDEO_HEADER.size :]
        if total == 0 and kind == Kind.BIND:
            challenge = binding.on_bind(number, sealed, address, secrets.token_bytes(16))
            self._port.send(challenge, address)
        elif total == 0 and kind == Kind.ANSWER:
            binding.on_answer(number, sealed, address)
        else:
            raise PeerFault("unknown_kind")

    def _peer(self, ident: int) -> MixerPeer:
        peer = self._peers.get(ident)
        if peer is None:
            raise PeerFault("unknown_id")
        return peer

    def _note_lateness(self, late: float) -> None:
        self._late_ticks += late > BLOCK_SECONDS
        self._worst_lateness = max(self._worst_lateness, late)

    def _mix(self, now: float) -> None:
        mix = self._mixer.tick(now)
        for row, ident in enumerate(mix.listeners):
            peer = self._peers[ident]
            if peer.binding.address is None:
                continue
            loudest = mix.loudest[row]
            block = mix.blocks[row] if loudest else None
            peer.silent = 0 if block is not None else peer.silent + 1
            if block is None and peer.silent > 3 and peer.silent % 16:
                continue
            payload = b"" if block is None else block.astype(">i2").tobytes()
            sealed = peer.binding.sealer.seal(Kind.AUDIO, loudest, self._tick, payload)
            self._port.send(audio_datagram(loudest, self._tick, sealed), peer.binding.address)

    def _report(self) -> None:
        bound = [ident for ident, peer in self._peers.items() if peer.binding.address]
        self._say(
            {
                "event": "report",
                "ticks": self._tick,
                "late_ticks": self._late_ticks,
                "worst_ms": round(self._worst_lateness * 1e3, 2),
                "bound": bound,
                "counters": self._counters.snapshot(),
            }
        )


def run_mixer(stdin: IO[str], stdout: IO[str], address: str, port: int) -> int:
    """The hidden role of the mixer's process; ends when standard input ends."""

    def say(message: Json) -> None:
        stdout.write(json.dumps(message) + "\n")
        stdout.flush()

    mixer = MixerProcess((address, port), say)

    def listen(worker: Worker) -> None:
        for line in stdin:
            mixer.tell(json.loads(line))
        mixer.tell(None)

    Worker("mixer-orders", listen).start()
    mixer.run()
    return 0


# -- the control plane ----------------------------------------------------------------------------------


class PinGate:
    """Counts PIN attempts when they start: 5 failures a minute and address, 20 a minute in all."""

    PER_ADDRESS = 5
    IN_ALL = 20

    def __init__(self) -> None:
        self._started: collections.deque[tuple[float, str]] = collections.deque()

    def take(self, address: str, now: float) -> bool:
        """Whether an attempt from `address` may start now; it counts until it succeeds."""
        while self._started and self._started[0][0] < now - 60.0:
            self._started.popleft()
        mine = sum(1 for _, other in self._started if other == address)
        if mine >= self.PER_ADDRESS or len(self._started) >= self.IN_ALL:
            return False
        self._started.append((now, address))
        return True

    def succeeded(self, address: str) -> None:
        """The latest attempt from `address` knew the PIN: it does not count."""
        for entry in reversed(self._started):
            if entry[1] == address:
                self._started.remove(entry)
                return


@dataclass(eq=False)
class ControlSession:
    """One control connection. stage: hello, waiting (for a free attempt), pin, in, over."""

    link: TlsLink
    address: str
    stage: str = "hello"
    id: int = 0
    hello: Json = field(default_factory=dict)
    lines: LineSplitter = field(default_factory=LineSplitter)
    transcript: list[bytes] = field(default_factory=list)
    proof: PinHost | None = None
    ask: int = 0
    heard: float = 0.0
    keys: dict[str, bytes] = field(default_factory=dict)

    def send(self, message: Json) -> None:
        """Queue a message for this connection."""
        line = encode_line(message)
        if self.stage == "pin":
            self.transcript.append(line)
        self.link.send(line)


class Lobby:
    """Where a connection waits until it has said who it is and, where there is one, proved the PIN.

    Everything on the control reactor's thread; the arithmetic of SPAKE2 has a thread of its own.
    """

    MOST_WAITING = 32

    def __init__(
        self,
        options: ServerOptions,
        fingerprint: str,
        room: Room,
        reactor: Reactor,
        admit: Callable[[ControlSession], None],
        tell_hosts: Callable[[Json], None],
    ) -> None:
        self._options = options
        self._fingerprint = fingerprint
        self._room = room
        self._reactor = reactor
        self._admit = admit
        self._tell_hosts = tell_hosts
        self._gate = PinGate()
        self._waiting: dict[int, ControlSession] = {}
        self._asks = 0
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._worker = Worker("pin", self._run, lambda: self._jobs.put(None))

    def start(self) -> None:
        """Start the thread of the PIN's arithmetic."""
        self._worker.start()

    def close(self, deadline: float = 1.0) -> None:
        """End the thread."""
        self._worker.close(deadline)

    def on_message(self, session: ControlSession, message: Json, line: bytes) -> None:
        """A message of someone who is not in yet; PeerFault when it is out of order."""
        kind = message["type"]
        if session.stage == "hello" and kind == "hello":
            session.transcript.append(line + b"\n")
            self._on_hello(session, message)
        elif session.stage == "pin" and kind in ("pin", "pin_proof") and session.proof:
            self._on_pin(session, session.proof, message, line)
        else:
            raise PeerFault("unexpected_message", kind)

    def deny(self, session: ControlSession, code: str, reason: str) -> None:
        """Turn someone away, with a sentence."""
        session.send({"type": "denied", "code": code, "reason": reason})
        session.stage = "over"
        session.link.close("denied")

    def forget(self, session: ControlSession) -> None:
        """A connection is gone."""
        self._waiting.pop(session.ask, None)

    def settle(self, ask: int, welcome: bool) -> None:
        """The host lets in, or turns away, who has waited for a free attempt."""
        session = self._waiting.pop(ask, None)
        if session is None or session.stage != "waiting":
            return
        if welcome:
            self._admit(session)
        else:
            self.deny(session, "denied", "The host did not let you in.")

    def is_host(self, hello: Json) -> bool:
        """Whether `hello` holds the host's secret."""
        key = self._options.host_key
        return bool(key) and hmac.compare_digest(hello.get("host_key", "").encode(), key.encode())

    def _on_hello(self, session: ControlSession, hello: Json) -> None:
        session.hello = hello
        token = hello.get("resume")
        if hello["v"] != PROTOCOL:
            reason = (
                f"This meeting speaks protocol {PROTOCOL}, your program {hello['v']}: use the same version."
            )
            self.deny(session, "version", reason)
        elif self._room.is_banned(clean_name(hello["name"]), session.address, token):
            self.deny(session, "removed", "The host removed you from this meeting.")
        elif len(self._room.members) >= MAX_PEOPLE:
            self.deny(session, "full", "The meeting is full.")
        elif self.is_host(hello) or not self._options.pin or self._room.claim(token, time.monotonic())[1]:
            self._admit(session)
        else:
            self._ask_pin(session)

    def _ask_pin(self, session: ControlSession) -> None:
        """Start the PIN proof, or queue: guessing must not lock the class out."""
        if session.link.closed or session.stage not in ("hello", "waiting"):
            return
        if self._gate.take(session.address, time.monotonic()):
            self._waiting.pop(session.ask, None)
            session.stage = "pin"
            self._jobs.put(functools.partial(self._start_proof, session))
            self._reactor.later(HANDSHAKE_SECONDS, lambda: self._too_late(session))
            return
        if session.stage == "hello":
            self._queue(session)
        self._reactor.later(1.0, lambda: self._ask_pin(session))

    def _queue(self, session: ControlSession) -> None:
        if len(self._waiting) >= self.MOST_WAITING:
            self.deny(session, "wrong_pin", "Too many wrong PINs were tried; try again in a minute.")
            return
        self._asks += 1
        session.stage, session.ask = "waiting", self._asks
        self._waiting[session.ask] = session
        name = clean_name(session.hello["name"])
        self._tell_hosts({"type": "asks", "ask": session.ask, "name": name, "address": session.address})

    def _too_late(self, session: ControlSession) -> None:
        if session.stage == "pin":
            self.deny(session, "wrong_pin", "The PIN was not proved in time.")

    def _run(self, worker: Worker) -> None:
        """The arithmetic of SPAKE2, 7 ms a step, away from everything else."""
        while (job := self._jobs.get()) is not None:
            with contextlib.suppress(PeerFault):  # an attempt that failed shows at its confirmation
                job()

    def _start_proof(self, session: ControlSession) -> None:
        proof = PinHost(self._options.pin, self._fingerprint)

        def say() -> None:
            session.proof = proof
            session.send({"type": "pin", "message": proof.message.hex()})

        self._reactor.post(say)

    def _on_pin(self, session: ControlSession, proof: PinHost, message: Json, line: bytes) -> None:
        if message["type"] == "pin":
            session.transcript.append(line + b"\n")
            peer, said = bytes.fromhex(message["message"]), b"".join(session.transcript)
            self._jobs.put(lambda: proof.finish(peer, said))
        else:
            mac = bytes.fromhex(message["mac"])
            self._jobs.put(lambda: self._judge(session, proof, mac))

    def _judge(self, session: ControlSession, proof: PinHost, mac: bytes) -> None:
        try:
            answer = proof.mac() if proof.check(mac) else None
        except PeerFault:
            answer = None
        self._reactor.post(lambda: self._judged(session, answer))

    def _judged(self, session: ControlSession, answer: bytes | None) -> None:
        if session.stage != "pin":
            return
        if answer is None:
            self._reactor.counters.add("wrong_pin")
            self.deny(session, "wrong_pin", "That is not the PIN of this meeting.")
            return
        self._gate.succeeded(session.address)
        session.send({"type": "pin_proof", "mac": answer.hex()})
        self._admit(session)


class ConferenceServer:
    """The meeting's server: acceptors, the control plane and the planes' own parts.

    The room is touched by the reactor's thread alone.
    """

    def __init__(self, options: ServerOptions, identity: Identity) -> None:
        self.options = options
        self.identity = identity
        self.ports = Ports.at(options.base)
        self.counters = Counters()
        self.room = Room(options.title, options.host_name, secrets.token_hex(16), secrets.token_hex)
        self.ready = threading.Event()
        self.over = threading.Event()
        self.reason = ""
        self._context = server_context(identity)
        self._host = options.bind or "0.0.0.0"
        self._sessions: dict[int, ControlSession] = {}
        self._half_open = HalfOpen()
        self._note = RunningNote(log)
        self._reactor = Reactor("control", self.counters)
        fingerprint = identity.fingerprint
        self._lobby = Lobby(options, fingerprint, self.room, self._reactor, self._admit, self._tell_hosts)
        self._relay: VideoRelay | None = None
        mixer = ["--mixer", f"{self._host}:{self.ports.audio}"]
        self._mixer = ChildKeeper("mixer", mixer, None, self._on_mixer)
        self.mixer_report: Json = {}
        self._acceptors: list[Worker] = []
        self._listeners: list[socket.socket] = []
        self._responder = DiscoveryResponder(self._describe, options.bind, self.counters)
        self.message_handlers: dict[str, Callable[[ControlSession, Json], None]] = {
            "ping": self._on_ping,
            "report": self._on_report,
            "decline": lambda session, message: None,
            "leave": self._on_leave,
            "admit": self._on_admit,
        }

    # -- life

    def start(self) -> None:
        """Bind every port, then start every thread; Refused when a port is taken."""
        ports = (self.ports.control, self.ports.screen, self.ports.files)
        try:
            self._listeners = [listen_tcp((self._host, port)) for port in ports]
            self._relay = VideoRelay((self._host, self.ports.video), self.counters)
        except Refused:
            self._close_listeners()
            raise
        self._mixer.start()
        self._relay.loop.start()
        self._reactor.start()
        self._reactor.post(lambda: self._reactor.every(0.5, self._on_tick))
        self._lobby.start()
        begin = (self._begin_control, self._begin_screen, self._begin_files)
        for listener, name, accept in zip(
            self._listeners, ("control", "screen", "files"), begin, strict=True
        ):
            run = functools.partial(self._run_acceptor, listener, accept)
            self._acceptors.append(Worker(f"accept-{name}", run).start())
        self._responder.start()

    def close(self, reason: str = "The meeting is over.", deadline: float = 5.0) -> None:
        """Tell everyone, then end everything within `deadline`; may be called twice."""
        self._responder.close(0.5)
        self._reactor.post(lambda: self._say_goodbye(reason))
        for acceptor in self._acceptors:
            acceptor.stop()
        self._close_listeners()
        self._reactor.close(deadline / 2)
        self._lobby.close(1.0)
        if self._relay:
            self._relay.loop.close(1.0)
        self._mixer.close(deadline / 2)
        for acceptor in self._acceptors:
            acceptor.close(1.0)
        log.info("dropped and counted: %s", self.counters.snapshot())
        self.over.set()

    def _close_listeners(self) -> None:
        for listener in self._listeners:
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()

    def _say_goodbye(self, reason: str) -> None:
        for session in [*self._sessions.values()]:
            session.send({"type": "ended", "reason": reason})
            session.stage = "over"
            session.link.close("ended")

    def place(self) -> Json:
        """Where the meeting is, as the event `serving` says it."""
        address = self.options.bind or next(
            (one.address for one in interfaces() if not one.loopback), "127.0.0.1"
        )
        return {
            "address": address,
            "port": self.ports.control,
            "title": self.room.title,
            "fingerprint": self.identity.fingerprint,
        }

    def _describe(self) -> Json:
        """What discovery answers."""
        return {
            "version": PROTOCOL,
            "meeting": self.room.meeting,
            "title": self.room.title,
            "host": self.room.host,
            "port": self.ports.control,
            "people": min(len(self.room.members), MAX_PEOPLE),
            "pin": bool(self.options.pin),
            "locked": False,
            "fingerprint": self.identity.fingerprint,
        }

    # -- accepting

    def _run_acceptor(
        self, listener: socket.socket, begin: Callable[[socket.socket, str], None], worker: Worker
    ) -> None:
        while not worker.stopping.is_set():
            try:
                sock, address = listener.accept()
            except OSError as error:
                if worker.stopping.is_set() or listener.fileno() < 0:
                    return
                log.warning("a connection could not be accepted: %s", error)
                worker.stopping.wait(0.1)
                continue
            for old in self._half_open.enter(sock, address[0], time.monotonic()):
                self._evict(cast(socket.socket, old))
            begin(sock, address[0])

    def _evict(self, sock: socket.socket) -> None:
        self.counters.add("half_open_evicted")
        with contextlib.suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)

    def _begin_screen(self, sock: socket.socket, address: str) -> None:
        sock.close()

    def _begin_files(self, sock: socket.socket, address: str) -> None:
        sock.close()

    def _begin_control(self, sock: socket.socket, address: str) -> None:
        self._reactor.post(lambda: self._open_session(sock, address))

    def _open_session(self, sock: socket.socket, address: str) -> None:
        link = TlsLink(self._reactor, sock, self._context, server=True)
        session = ControlSession(link, address, heard=time.monotonic())
        link.on_bytes = functools.partial(self._on_bytes, session)
        late = self._reactor.later(HANDSHAKE_SECONDS, lambda: self._too_late(session))

        def on_close(reason: str) -> None:
            late.cancel()
            self._half_open.leave(sock)
            self._session_closed(session, reason)

        link.on_close = on_close
        link.limit = MAX_LINE
        link.begin()

    def _too_late(self, session: ControlSession) -> None:
        if session.stage == "hello":
            self.counters.add("handshake_timeout")
            session.link.discard("timeout")

    # -- messages

    def _on_bytes(self, session: ControlSession, data: bytes) -> None:
        for line in session.lines.push(data):
            session.heard = time.monotonic()
            try:
                message = parse_message(line, CLIENT_MESSAGES)
                if session.stage == "in":
                    self._on_member(session, message)
                else:
                    self._lobby.on_message(session, message, line)
            except PeerFault as fault:
                self._on_fault(session, fault)
            if session.link.closed:
                return

    def _on_fault(self, session: ControlSession, fault: PeerFault) -> None:
        """Before the welcome a fault ends the connection; after it the message is dropped."""
        self.counters.add(fault.kind)
        what = f"dropped from {session.address}: {fault}"
        self._note.note(f"{session.address} {fault.kind}", what, session.heard)
        if session.stage != "in":
            self._lobby.deny(session, "bad_command", f"That was not understood: {fault.kind}.")
        elif fault.kind != "flood":
            session.send({"type": "error", "code": "bad_command", "reason": f"Dropped: {fault.kind}."})

    def _tell_hosts(self, message: Json) -> None:
        hosts = [member.id for member in self.room.members.values() if member.role == "host"]
        self._apply([Tell(tuple(hosts), message)])

    def _admit(self, session: ControlSession) -> None:
        """The welcome: identity, keys, what has been said so far."""
        self._half_open.leave(session.link.socket)
        hello, now = session.hello, time.monotonic()
        role = "host" if self._lobby.is_host(hello) else "member"
        member, token, effects = self.room.join(
            hello["name"], role, session.address, hello.get("resume"), now
        )
        session.id, session.stage = member.id, "in"
        session.link.limit = LINK_QUEUE
        session.proof, session.transcript = None, []
        session.keys = {
            name: secrets.token_bytes(16) for name in ("video_up", "video_down", "audio_up", "audio_down")
        }
        self._sessions[member.id] = session
        keys = {name: key.hex() for name, key in session.keys.items()}
        welcome = {**self.room.welcome(member), **keys, "resume": token}
        if role == "host":
            welcome["pin"] = self.options.pin
        self._add_media(session)
        self._send(session, welcome)
        self._apply(effects)

    def _send(self, session: ControlSession, message: Json) -> None:
        """Send; a welcome whose history is too long for one line loses its oldest lines."""
        while True:
            try:
                session.send(message)
                return
            except PeerFault:
                history = max((message.get("chat", []), message.get("private", [])), key=len)
                if not history:
                    raise
                del history[: max(1, len(history) // 8)]

    def _add_media(self, session: ControlSession) -> None:
        assert self._relay is not None
        relay, keys, ident = self._relay, session.keys, session.id
        relay.loop.post(lambda: relay.add(ident, keys["video_up"], keys["video_down"]))
        self._add_audio(session)

    def _add_audio(self, session: ControlSession) -> None:
        up, down = session.keys["audio_up"].hex(), session.keys["audio_down"].hex()
        self._mixer.tell({"do": "add", "id": session.id, "up": up, "down": down})

    # -- members

    def _on_member(self, session: ControlSession, message: Json) -> None:
        handler = self.message_handlers.get(message["type"])
        now = time.monotonic()
        if handler:
            handler(session, message)
        else:
            self._apply(self.room.handle(session.id, message, now, time.time()))

    def _on_ping(self, session: ControlSession, message: Json) -> None:
        session.send({"type": "pong", "t": message["t"]})

    def _on_report(self, session: ControlSession, message: Json) -> None:
        log.debug("member %d reports %s", session.id, message)

    def _on_leave(self, session: ControlSession, message: Json) -> None:
        self._end_session(session, "left")
        session.link.close("left")

    def _on_admit(self, session: ControlSession, message: Json) -> None:
        if self.room.members[session.id].role == "host":
            self._lobby.settle(message["ask"], message["on"])
        else:
            session.send({"type": "error", "code": "not_allowed", "reason": "Only the host may do that."})

    def _session_closed(self, session: ControlSession, reason: str) -> None:
        self._lobby.forget(session)
        self._end_session(session, "lost")

    def _end_session(self, session: ControlSession, reason: str) -> None:
        if session.stage != "in":
            return
        session.stage = "over"
        self._apply(self.room.leave(session.id, reason, time.monotonic()))
        self._forget(session.id)

    def _forget(self, ident: int) -> None:
        self._sessions.pop(ident, None)
        self._mixer.tell({"do": "remove", "id": ident})
        if self._relay:
            relay = self._relay
            relay.loop.post(lambda: relay.remove(ident))

    def _on_tick(self) -> None:
        now = time.monotonic()
        self._apply(self.room.tick(now))
        for session in list(self._sessions.values()):
            if now - session.heard > SILENT_SECONDS:
                session.link.discard("silent")

    # -- effects

    def _apply(self, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case Tell():
                    self._tell(effect)
                case Reroute():
                    self._reroute(effect.sender)
                case Silence():
                    self._mixer.tell({"do": "mute", "id": effect.id, "on": effect.on})
                case Expel():
                    self._expel(effect)
                case MeetingOver():
                    self.reason = effect.reason
                    self.over.set()
                case ShareStopped() | FileGone():
                    pass

    def _tell(self, effect: Tell) -> None:
        line = encode_line(effect.message)
        for ident in effect.to:
            session = self._sessions.get(ident)
            if session and session.stage == "in":
                session.link.send(line)

    def _reroute(self, sender: int) -> None:
        assert self._relay is not None
        relay, routes = self._relay, self.room.routes(sender)
        relay.loop.post(lambda: relay.route(sender, routes))

    def _expel(self, effect: Expel) -> None:
        session = self._sessions.get(effect.id)
        if session:
            session.send(effect.message)
            session.stage = "over"
            session.link.close("removed")
            self._forget(effect.id)

    # -- the mixer's process

    def _on_mixer(self, report: Json) -> None:
        if report["event"] == "ready":
            self._reactor.post(self._bring_all)
        elif report["event"] == "failed":
            self.reason = report["reason"]
            self.over.set()
            self.ready.set()
        else:
            self.mixer_report = report

    def _bring_all(self) -> None:
        """A new mixer has started: it and everyone gets new audio keys."""
        for session in self._sessions.values():
            self._rekey(session)
        self.ready.set()

    def _rekey(self, session: ControlSession) -> None:
        session.keys["audio_up"] = secrets.token_bytes(16)
        session.keys["audio_down"] = secrets.token_bytes(16)
        self._add_audio(session)
        self._mixer.tell({"do": "mute", "id": session.id, "on": not self.room.members[session.id].mic})
        up, down = session.keys["audio_up"].hex(), session.keys["audio_down"].hex()
        session.send({"type": "audio_keys", "up": up, "down": down})


def serve(
    options: ServerOptions, identity: Identity, stop: threading.Event, say: Callable[[Json], None]
) -> int:
    """Run the server until `stop` or its end; says `serving` once all ports listen."""
    try:
        server = ConferenceServer(options, identity)
        server.start()
    except Refused as refused:
        say({"event": "failed", "time": time.time(), "reason": refused.reason})
        raise
    try:
        server.ready.wait(10.0)
        if not server.reason:
            say({"event": "serving", "time": time.time(), **server.place()})
        while not stop.is_set() and not server.over.wait(0.2):
            pass
    finally:
        server.close(server.reason or "The host ended the meeting.")
    return 0


# ======================================================================================
# [11] CLIENT - the client role without a window
# Uses: BASICS, WIRE, MEDIA, CALL, TRUST, LINKS, DISCOVERY, DEVICES
# ======================================================================================

PING_SECONDS: Final = 1.0
DEAD_SECONDS: Final = 4.0
RATE_SECONDS: Final = 2.0
JPEG_QUALITY: Final = 72
CAMERA_FPS: Final = 30
CLOCKS_SHARED: Final = 60.0  # a test card's delay beyond this means that two clocks differ


@dataclass(slots=True)
class ClientOptions:
    """What a participant chose: who to be, where to go, which devices."""

    name: str = ""
    pin: str = ""
    address: str = ""
    port: int = DEFAULT_PORT
    bind: str | None = None
    camera: str = "0"
    mic: str = "default"
    speaker: str = "default"
    downloads: str = ""
    host_key: str = ""
    fingerprint: str = ""
    decode_all: bool = False  # a window looks at every picture; without one, only what is asked for
    accept_changed: bool = False


# -- the control plane -----------------------------------------------------------------------------------


class CommandConnection:
    """One attempt at, and the life of, a control connection. Reactor's thread only.

    `on_message(message)` for everything from the welcome on; `on_closed(code, reason)` once.
    """

    def __init__(
        self,
        reactor: Reactor,
        options: ClientOptions,
        resume: str | None,
        on_message: Callable[[Json], None],
        on_closed: Callable[[str, str], None],
    ) -> None:
        self._reactor = reactor
        self._options = options
        self._resume = resume
        self._on_message = on_message
        self._on_closed = on_closed
        self._lines = LineSplitter()
        self._said: list[bytes] = []
        self._proof: PinClient | None = None
        self._proved = False
        self._reason = ("", "")
        self._timer: Timer | None = None
        self.welcomed = False
        self.heard = time.monotonic()
        self.link: TlsLink | None = None

    def begin(self) -> None:
        """Connect, shake hands, say hello."""
        address = (self._options.address, self._options.port)
        link = connect_link(self._reactor, address, client_context(), self._options.bind)
        link.on_open = self._opened
        link.on_bytes = self._on_bytes
        link.on_close = self._closed
        self.link = link
        self._timer = self._reactor.later(
            2 * HANDSHAKE_SECONDS, lambda: None if self.welcomed else link.discard("timeout")
        )
        link.begin(connected=False)

    @property
    def fingerprint(self) -> str:
        """The host's fingerprint, once the handshake is done."""
        return self.link.fingerprint if self.link else ""

    def send(self, message: Json) -> None:
        """Queue a message."""
        line = encode_line(message)
        if not self.welcomed:
            self._said.append(line)
        if self.link:
            self.link.send(line)

    def close(self, reason: str = "left") -> None:
        """Send what is queued, then end."""
        if self.link:
            self.link.close(reason)

    def refuse(self, code: str, reason: str) -> None:
        """End the connection for a reason of ours."""
        self._reason = (code, reason)
        if self.link:
            self.link.discard(code)

    def _opened(self, link: TlsLink) -> None:
        expected = self._options.fingerprint
        if expected and not hmac.compare_digest(expected, link.fingerprint):
            self.refuse("host_changed", "The host shows another certificate than before.")
            return
        options = self._options
        hello: Json = {"type": "hello", "v": PROTOCOL, "name": options.name, "pin": bool(options.pin)}
        if self._resume:
            hello["resume"] = self._resume
        if options.host_key:
            hello["host_key"] = options.host_key
        self.send(hello)

    def _on_bytes(self, data: bytes) -> None:
        for line in self._lines.push(data):
            self.heard = time.monotonic()
            message = parse_message(line, SERVER_MESSAGES)
            if self.welcomed:
                self._on_message(message)
            else:
                self._before_welcome(message, line + b"\n")
            if self.link is None or self.link.closed:
                return

    def _before_welcome(self, message: Json, line: bytes) -> None:
        kind = message["type"]
        if kind == "denied":
            self.refuse(message["code"], message["reason"])
        elif kind == "pin":
            self._prove(bytes.fromhex(message["message"]), line)
        elif kind == "pin_proof" and self._proof:
            if not self._proof.check(bytes.fromhex(message["mac"])):
                self.refuse("host_unproven", "The host does not know the PIN: this is not your meeting.")
            self._proved = True
        elif kind == "welcome":
            self._on_welcome(message)
        else:
            raise PeerFault("unexpected_message", kind)

    def _prove(self, peer_message: bytes, line: bytes) -> None:
        if not self._options.pin:
            self.refuse("pin_required", "This meeting needs a PIN.")
            return
        self._said.append(line)
        self._proof = PinClient(self._options.pin, self.fingerprint)
        self.send({"type": "pin", "message": self._proof.message.hex()})
        mac = self._proof.finish(peer_message, b"".join(self._said))
        self.send({"type": "pin_proof", "mac": mac.hex()})

    def _on_welcome(self, message: Json) -> None:
        spared = self._resume is not None or bool(self._options.host_key)
        if self._options.pin and not self._proved and not (spared and self._options.fingerprint):
            self.refuse("host_unproven", "The host did not prove that it knows the PIN.")
            return
        self.welcomed = True
        self._on_message(message)

    def _closed(self, reason: str) -> None:
        if self._timer:
            self._timer.cancel()
        code, words = self._reason
        self._on_closed(code, words or reason)


# -- media: one path a UDP plane ---------------------------------------------------------------------------


class MediaPath:
    """The client's end of one UDP plane: dials out, answers challenges, seals and opens."""

    FIRST_BINDS = (0.0, 0.1, 0.3)
    BIND_SECONDS = 5.0

    def __init__(self, port: UdpPort, ident: int, up: str, down: str, *, layered: bool) -> None:
        self.port = port
        self.answered = -math.inf  # when a challenge last came
        self._layered = layered
        self._number = 0
        self.rekey(ident, up, down)

    def rekey(self, ident: int, up: str, down: str) -> None:
        """New keys (hex), after a reconnect or for a new mixer; bound anew at once."""
        self.id = ident
        self.sealer = Sealer(bytes.fromhex(up), layered=self._layered)
        self.opener = Opener(bytes.fromhex(down))
        self._started = time.monotonic()
        self._binds = 0

    def bind_due(self, now: float) -> float:
        """Send a bind if one is due; returns when the next is."""
        due = self._bind_time()
        if now >= due:
            self._binds += 1
            self.send_small(Kind.BIND, b"")
            due = self._bind_time()
        return due

    def _bind_time(self) -> float:
        first = self.FIRST_BINDS
        if self._binds < len(first):
            return self._started + first[self._binds]
        return self._started + first[-1] + (self._binds - len(first) + 1) * self.BIND_SECONDS

    def send_small(self, kind: Kind, payload: bytes) -> None:
        """Send a small message, sealed."""
        self._number += 1
        sealed = self.sealer.seal(kind, self.id, self._number, payload)
        self.port.send(small_message(kind, self.id, self._number, sealed))

    def on_small(self, data: bytes, now: float) -> tuple[Kind, bytes]:
        """Open a small message; a challenge is answered here. PeerFault when forged."""
        ident, number, _, kind = VIDEO_HEADER.unpack_from(data)
        if ident != self.id or kind not in (Kind.CHALLENGE, Kind.NACK):
            raise PeerFault("unknown_kind")
        payload = self.opener.open(kind, ident, number, data[VIDEO_HEADER.size :])
        if kind == Kind.CHALLENGE:
            self.answered = now
            self.send_small(Kind.ANSWER, payload)
        return Kind(kind), payload


class Stream:
    """What is received of one sender: newest picture, rates over 2 s, counts since joining."""

    def __init__(self) -> None:
        self.arrivals: collections.deque[tuple[float, int]] = collections.deque()
        self.frames = 0
        self.data = b""
        self.size = (0, 0)
        self.serial = 0
        self.decoded = 0  # serial of the newest decoded picture
        self.picture: Picture | None = None
        self.latency: collections.deque[tuple[float, float]] = collections.deque(maxlen=200)
        self.looked = -math.inf

    def put(self, data: bytes, size: tuple[int, int], now: float) -> None:
        """A new picture, still coded."""
        self.data, self.size = data, size
        self.serial += 1
        self.frames += 1
        self.arrivals.append((now, len(data)))
        while self.arrivals[0][0] < now - RATE_SECONDS:
            self.arrivals.popleft()

    def rates(self, now: float) -> tuple[float, float]:
        """(frames, kilobits) a second over the last 2 s."""
        recent = [size for at, size in list(self.arrivals) if at >= now - RATE_SECONDS]
        return len(recent) / RATE_SECONDS, sum(recent) * 8 / 1000 / RATE_SECONDS

    def delay_ms(self, now: float) -> float | None:
        """The median delay by the test card's clock over the last 2 s."""
        recent = sorted(value for at, value in list(self.latency) if at >= now - RATE_SECONDS)
        return round(recent[len(recent) // 2] * 1e3, 1) if recent else None


class VideoReceiver:
    """The video plane: sends own frames; collects, repairs and opens others'. Its loop's thread owns it all."""

    def __init__(self, address: Address, bind: str | None, welcome: Json, counters: Counters) -> None:
        port = UdpPort((bind or "0.0.0.0", 0), counters, connect=address)
        self.path = MediaPath(port, welcome["id"], welcome["video_up"], welcome["video_down"], layered=True)
        self.loop = DatagramLoop("video", port, counters, self._on_datagrams, self._on_due)
        self.streams: dict[int, Stream] = {}
        self.incoming = Reassembler(layered=False, counters=counters)
        self.fresh = threading.Condition()
        self._counters = counters
        self._sent = SentFrames()
        self._numbers = [secrets.randbelow(1 << 29) for _ in LAYERS]

    def rekey(self, welcome: Json) -> None:
        """Take the keys of another welcome. Own thread."""
        self.path.rekey(welcome["id"], welcome["video_up"], welcome["video_down"])
        self.incoming = Reassembler(layered=False, counters=self._counters)
        self._sent = SentFrames()

    def send_picture(self, layer: int, data: bytes) -> None:
        """Send an own picture, coded, of `layer`; from any thread."""
        self.loop.post(lambda: self._send_picture(layer, data))

    def _send_picture(self, layer: int, data: bytes) -> None:
        self._numbers[layer] += 1
        number = layer << LAYER_SHIFT | self._numbers[layer]
        total = parts_of(len(data) + TAG)
        if total > MAX_PARTS:
            self._counters.add("frame_too_large")
            return
        sealed = self.path.sealer.seal(Kind.VIDEO, self.path.id, number, data, total)
        layout = frame_datagrams(self.path.id, number, sealed)
        self._sent.store(self.path.id, number, layout, time.monotonic())
        self.path.port.send_frame(layout)

    def forget(self, ident: int) -> None:
        """Drop the pictures of a sender who left or is no longer watched."""
        self.streams.pop(ident, None)

    def _on_due(self, now: float) -> float | None:
        for nack in self.incoming.nacks(now):
            self.path.send_small(Kind.NACK, encode_nack(nack))
        due = self.path.bind_due(now)
        repair = self.incoming.next_due(now)
        return due if repair is None else min(due, repair)

    def _on_datagrams(self, buffer: memoryview, segment: int, address: Address, now: float) -> None:
        if len(buffer) < VIDEO_HEADER.size:
            raise PeerFault("short_datagram")
        if VIDEO_HEADER.unpack_from(buffer)[2] == 0:
            kind, payload = self.path.on_small(bytes(buffer[:segment]), now)
            if kind == Kind.NACK:
                for datagram in self._sent.resend(parse_nack(payload), now):
                    self.path.port.send(datagram)
            return
        for frame in self.incoming.push_batch(buffer, segment, now):
            self._on_frame(frame, now)

    def _on_frame(self, frame: WholeFrame, now: float) -> None:
        total = parts_of(len(frame.sealed))
        try:
            data = self.path.opener.open(Kind.VIDEO, frame.id, frame.number, frame.sealed, total)
        except PeerFault:
            self.incoming.retry(frame)
            raise
        size = jpeg_size(data)
        with self.fresh:
            self.streams.setdefault(frame.id, Stream()).put(data, size, now)
            self.fresh.notify()


class AudioReceiver:
    """The audio plane: what comes goes into the jitter buffer, from which the player pulls."""

    def __init__(
        self,
        address: Address,
        bind: str | None,
        welcome: Json,
        counters: Counters,
        on_speaking: Callable[[int], None],
    ) -> None:
        port = UdpPort((bind or "0.0.0.0", 0), counters, connect=address)
        self.path = MediaPath(port, welcome["id"], welcome["audio_up"], welcome["audio_down"], layered=False)
        self.loop = DatagramLoop("audio", port, counters, self._on_datagrams, self.path.bind_due)
        self.lock = threading.Lock()
        self.jitter = JitterBuffer()
        self.level_db = -100.0
        self._counters = counters
        self._on_speaking = on_speaking
        self._speaking = 0
        self._newest = -1

    def rekey(self, ident: int, up: str, down: str) -> None:
        """Keys of a new mixer or a reconnect: its sequence starts anew. Own thread."""
        self.path.rekey(ident, up, down)
        self._newest = -1
        with self.lock:
            self.jitter = JitterBuffer()

    def send_block(self, seq: int, block: bytes) -> None:
        """Send 256 samples, big-endian, or nothing: silence from here. From any thread."""
        self.loop.post(lambda: self._send_block(seq, block))

    def _send_block(self, seq: int, block: bytes) -> None:
        sealed = self.path.sealer.seal(Kind.AUDIO, self.path.id, seq, block)
        self.path.port.send(audio_datagram(self.path.id, seq, sealed))

    def _on_datagrams(self, buffer: memoryview, segment: int, address: Address, now: float) -> None:
        for at in range(0, len(buffer), segment):
            try:
                self._on_datagram(bytes(buffer[at : at + segment]), now)
            except PeerFault as fault:
                self._counters.add(fault.kind)

    def _on_datagram(self, data: bytes, now: float) -> None:
        if len(data) not in AUDIO_SIZES:
            if len(data) < VIDEO_HEADER.size:
                raise PeerFault("short_datagram")
            self.path.on_small(data, now)
            return
        loudest, seq = AUDIO_HEADER.unpack_from(data)
        block = self.path.opener.open(Kind.AUDIO, loudest, seq, data[AUDIO_HEADER.size :])
        samples = np.frombuffer(block, ">i2").astype(np.int16) if block else None
        with self.lock:
            self.jitter.push(seq, samples, now)
        if seq > self._newest:
            self._newest = seq
            if loudest != self._speaking:
                self._speaking = loudest
                self._on_speaking(loudest)

    def pull(self) -> Samples:
        """The next 16 ms to play; from the playing thread."""
        with self.lock:
            block = self.jitter.pull(time.monotonic())
        self.level_db = max(level_db(block), self.level_db - 1.0)
        return block


# -- media: capturing, encoding, decoding, playing -----------------------------------------------------------


def encode_to_fit(picture: Picture, quality: int) -> bytes:
    """A JPEG of `picture` that fits a frame's 256 parts, at a lower quality if need be."""
    while True:
        data = encode_jpeg(picture, quality)
        if len(data) + TAG <= MAX_FRAME or quality <= 10:
            return data
        quality -= 15


class CameraSender:
    """The camera's thread: own preview, and the layers that anyone wants."""

    def __init__(
        self,
        options: ClientOptions,
        send: Callable[[int, bytes], None],
        on_device: Callable[[str, str, str], None],
    ) -> None:
        self._options = options
        self._send = send
        self._on_device = on_device
        self._layers: dict[int, FrameThinner] = {}
        self._wanted = threading.Event()
        self.preview: tuple[int, Picture | None] = (0, None)
        self._worker = Worker("camera", self._run, self._wanted.set)

    def start(self) -> None:
        """Open the camera and start."""
        self._worker.start()

    def close(self) -> None:
        """Close the camera and end."""
        self._worker.close()

    def stop(self) -> None:
        """Ask the thread to end; returns at once."""
        self._worker.stop()

    def encode(self, layers: dict[int, int]) -> None:
        """What is wanted from now on: {layer: fps}."""
        kept = self._layers
        self._layers = {
            layer: kept[layer] if layer in kept and kept[layer].fps == fps else FrameThinner(fps)
            for layer, fps in layers.items()
        }
        if layers:
            self._wanted.set()
        elif not self._options.decode_all and not self._worker.stopping.is_set():
            self._wanted.clear()

    def _run(self, worker: Worker) -> None:
        try:
            camera = open_camera(self._options.camera, self._options.name, fps=CAMERA_FPS)
        except DeviceError as error:
            self._on_device("camera", "failed", error.reason)
            return
        self._on_device("camera", "live", "")
        try:
            self._capture(worker, camera)
            self._on_device("camera", "off", "")
        except DeviceError as error:
            self._on_device("camera", "failed", error.reason)
        finally:
            camera.close()

    def _capture(self, worker: Worker, camera: Camera) -> None:
        while not worker.stopping.is_set():
            if not self._options.decode_all and not self._layers:
                self._wanted.wait(1.0)
                continue
            picture = camera.read(2.0)
            self.preview = (self.preview[0] + 1, picture)
            now = time.monotonic()
            for layer, thinner in self._layers.items():
                if thinner.take(now):
                    self._send_layer(picture, layer)

    def _send_layer(self, picture: Picture, layer: int) -> None:
        """Send `picture` as `layer`, or as the best layer that its own size fills."""
        height, width = picture.shape[:2]
        while layer and width < LAYERS[layer][0] and height < LAYERS[layer][1]:
            layer -= 1
        self._send(layer, encode_to_fit(fit_picture(picture, LAYERS[layer]), JPEG_QUALITY))


class MicrophoneSender:
    """The microphone's thread: blocks with a voice in them go out, silence is said once in a while."""

    def __init__(
        self,
        options: ClientOptions,
        send: Callable[[int, bytes], None],
        on_device: Callable[[str, str, str], None],
        first: int,
    ) -> None:
        self._options = options
        self._send = send
        self._on_device = on_device
        self._seq = first
        self._gate = VoiceGate()
        self._silent = 0
        self.level = 0.0
        self._worker = Worker("microphone", self._run)

    def start(self) -> None:
        """Open the microphone and start."""
        self._worker.start()

    def stop(self) -> None:
        """Ask the thread to end; returns at once."""
        self._worker.stop()

    def close(self) -> None:
        """Close the microphone and end."""
        self._worker.close()

    def _run(self, worker: Worker) -> None:
        try:
            microphone = open_microphone(self._options.mic)
        except DeviceError as error:
            self._on_device("mic", "failed", error.reason)
            return
        try:
            self._send_block(microphone.read())
            self._on_device("mic", "live", "")
            while not worker.stopping.is_set():
                self._send_block(microphone.read())
            self._on_device("mic", "off", "")
        except DeviceError as error:
            self._on_device("mic", "failed", error.reason)
        finally:
            microphone.close()
            for _ in range(3):
                self._seq += 1
                self._send(self._seq, b"")

    def _send_block(self, samples: Samples) -> None:
        self._seq += 1
        self.level = max(0.0, 1.0 + level_db(samples) / 60.0)
        if self._gate.is_voice(samples):
            self._silent = 0
            self._send(self._seq, samples.astype(">i2").tobytes())
            return
        self._silent += 1
        if self._silent <= 3 or self._silent % 16 == 0:
            self._send(self._seq, b"")


class MediaManager:
    """A participant's media: both UDP planes, the devices, decoding and playing."""

    def __init__(
        self,
        options: ClientOptions,
        counters: Counters,
        on_device: Callable[[str, str, str], None],
        on_speaking: Callable[[int], None],
    ) -> None:
        self._options = options
        self._counters = counters
        self._on_device = on_device
        self._on_speaking = on_speaking
        self._started = time.monotonic()
        self._layers: dict[int, int] = {}
        self._camera: CameraSender | None = None
        self._microphone: MicrophoneSender | None = None
        self.watched: dict[int, int] = {}
        self.video: VideoReceiver | None = None
        self.audio: AudioReceiver | None = None
        self._decoder = Worker("decoder", self._run_decoder, self._wake_decoder)
        self._player = Worker("player", self._run_player)

    def start(self, welcome: Json) -> None:
        """Open both planes with the keys of `welcome`; from its moment on what is heard is played."""
        self._started = time.monotonic()
        host, bind, ports = self._options.address, self._options.bind, Ports.at(self._options.port)
        self.video = VideoReceiver((host, ports.video), bind, welcome, self._counters)
        self.audio = AudioReceiver((host, ports.audio), bind, welcome, self._counters, self._on_speaking)
        self.video.loop.start()
        self.audio.loop.start()
        self._decoder.start()
        self._player.start()

    def rekey(self, welcome: Json) -> None:
        """Go on with the keys of another welcome, after a reconnect."""
        video, audio = self.video, self.audio
        if video is None or audio is None:
            self.start(welcome)
            return
        video.loop.post(lambda: video.rekey(welcome))
        self.rekey_audio(welcome["id"], welcome["audio_up"], welcome["audio_down"])

    def rekey_audio(self, ident: int, up: str, down: str) -> None:
        """New audio keys."""
        audio = self.audio
        if audio:
            audio.loop.post(lambda: audio.rekey(ident, up, down))

    def close(self) -> None:
        """End every device and thread."""
        self.set_camera(False)
        self.set_microphone(False)
        self._player.stop()
        self._decoder.close()
        self._player.close()
        for plane in (self.video, self.audio):
            if plane:
                plane.loop.close()

    # -- what is sent

    def encode(self, layers: dict[int, int]) -> None:
        """The layers that anyone wants of the own camera: {layer: fps}."""
        self._layers = layers
        if self._camera:
            self._camera.encode(layers)

    def set_camera(self, on: bool) -> None:
        """Open or close the camera; what comes of it is said by `on_device`."""
        if self._camera:
            self._camera.stop()
            self._camera = None
        if on and self.video:
            self._camera = CameraSender(self._options, self.video.send_picture, self._on_device)
            self._camera.encode(self._layers)
            self._camera.start()

    def set_microphone(self, on: bool) -> None:
        """Open or close the microphone; what comes of it is said by `on_device`."""
        if self._microphone:
            self._microphone.stop()
            self._microphone = None
        if on and self.audio:
            first = int((time.monotonic() - self._started) / BLOCK_SECONDS)
            self._microphone = MicrophoneSender(self._options, self.audio.send_block, self._on_device, first)
            self._microphone.start()

    # -- what is seen and heard

    def watch(self, streams: dict[int, int]) -> None:
        """Whose pictures are wanted: {sender: layer}."""
        video = self.video
        gone = set(self.watched) - set(streams)
        self.watched = streams
        if video:
            for ident in gone:
                video.loop.post(functools.partial(video.forget, ident))

    def picture(self, key: int | str) -> tuple[int, Picture | None]:
        """(serial, newest picture) of a sender, or of the own camera for "self"."""
        if key == "self":
            return self._camera.preview if self._camera else (0, None)
        stream = self.video.streams.get(cast(int, key)) if self.video else None
        return (stream.decoded, stream.picture) if stream else (0, None)

    def newest(self, ident: int) -> Picture | None:
        """The newest picture of a sender, decoded now at its own size."""
        stream = self.video.streams.get(ident) if self.video else None
        return decode_picture(stream.data) if stream and stream.data else None

    def _wake_decoder(self) -> None:
        if self.video:
            with self.video.fresh:
                self.video.fresh.notify_all()

    def _run_decoder(self, worker: Worker) -> None:
        assert self.video is not None
        video = self.video
        while not worker.stopping.is_set():
            with video.fresh:
                jobs = self._decodable(video)
                if not jobs:
                    video.fresh.wait(1.0)
                    continue
            for stream in jobs:
                self._decode(stream)

    def _decodable(self, video: VideoReceiver) -> list[Stream]:
        """Streams with a picture not yet decoded; without a window five a second are enough."""
        now = time.monotonic()
        pause = 0.0 if self._options.decode_all else 0.2
        return [
            stream
            for stream in video.streams.values()
            if stream.serial != stream.decoded and now - stream.looked >= pause
        ]

    def _decode(self, stream: Stream) -> None:
        serial, data = stream.serial, stream.data
        stream.looked = time.monotonic()
        stream.decoded = serial
        try:
            picture = decode_picture(data)
        except PeerFault as fault:
            self._counters.add(fault.kind)
            return
        latency = read_clock(picture, time.time())
        if latency is not None and 0.0 <= latency < CLOCKS_SHARED:
            stream.latency.append((time.monotonic(), latency))
        stream.picture = picture

    def _run_player(self, worker: Worker) -> None:
        """Play what is heard; a speaker that fails costs only itself, time goes on."""
        assert self.audio is not None
        try:
            speaker = open_speaker(self._options.speaker, self._started)
            if self._options.speaker != "none":
                self._on_device("speaker", "live", "")
        except DeviceError as error:
            self._on_device("speaker", "failed", error.reason)
            speaker = open_speaker("none", self._started)
        while not worker.stopping.is_set():
            try:
                speaker.write(self.audio.pull())
            except DeviceError as error:
                self._on_device("speaker", "failed", error.reason)
                speaker.close()
                speaker = open_speaker("none", time.monotonic())
        speaker.close()

    @property
    def mic_level(self) -> float:
        """The live meter, 0..1."""
        return self._microphone.level if self._microphone else 0.0

    def video_stats(self, ident: int) -> Json | None:
        """The `stats` entry of a sender."""
        video = self.video
        stream = video.streams.get(ident) if video else None
        if video is None or stream is None:
            return None
        now = time.monotonic()
        fps, kbps = stream.rates(now)
        counts = video.incoming.counts(ident)
        return {
            "layer": next((i for i in range(len(LAYERS)) if fits_layer(stream.size, i)), 0),
            "fps": round(fps, 1),
            "width": stream.size[0],
            "height": stream.size[1],
            "kbps": round(kbps),
            "frames": stream.frames,
            "lost_frames": counts.lost,
            "repaired": counts.repaired,
            "latency_ms": stream.delay_ms(now),
        }

    def audio_stats(self) -> Json:
        """The `stats` entry of what is heard."""
        audio = self.audio
        if audio is None:
            return {}
        with audio.lock:
            figures = audio.jitter.stats()
        return {"level_db": round(audio.level_db, 1), **figures}

    def udp(self) -> str:
        """Whether the media ports answer: ok or silent."""
        recent = time.monotonic() - 2.5 * MediaPath.BIND_SECONDS
        planes = (self.video, self.audio)
        return "ok" if all(plane and plane.path.answered > recent for plane in planes) else "silent"


# -- the whole client without a window ------------------------------------------------------------------------


class MeetingController:
    """A participant: takes the commands of the headless interface, gives its events and snapshots.

    `gui_queue` holds the events in order; after `left`, `ended` or `denied` nothing more comes.
    Everything happens on the reactor's thread; `do` may be called from any.
    """

    RETRY_SECONDS = 600.0

    def __init__(self, options: ClientOptions, home: Path) -> None:
        self.options = options
        self.gui_queue: queue.SimpleQueue[Json] = queue.SimpleQueue()
        self.counters = Counters()
        self.state = StateManager()
        self.status: int | None = None
        self._home = home
        self._known = KnownHosts(home)
        self._tokens = ResumeTokens(home)
        self._reactor = Reactor("client", self.counters)
        self._link: CommandConnection | None = None
        self._tries = 0
        self._lost_at = 0.0
        self._meeting = ""
        self._token: str | None = None
        self._watch: dict[str, tuple[int, int]] = {}
        self._watch_sent: Json = {}
        self._device_refs: dict[str, Any] = {}
        self._requests: dict[int, Callable[[Json], None]] = {}
        self._request_number = 0
        self._delay = 0.0
        self.media = MediaManager(options, self.counters, self._device_changed, self._speaking_changed)
        self._commands: dict[str, Callable[[Json], None]] = {
            "chat": self._do_chat,
            "private": self._do_private,
            "react": self._do_react,
            "hand": self._do_hand,
            "mic": self._do_mic,
            "camera": self._do_camera,
            "watch": self._do_watch,
            "snapshot": self._do_snapshot,
            "users": self._do_users,
            "stats": self._do_stats,
            "mute": self._do_mute,
            "remove": self._do_remove,
            "allow_share": self._do_remove,
            "admit": self._do_admit,
            "take_over": self._do_host_tool,
            "end": self._do_host_tool,
            "leave": lambda command: self.leave("left"),
        }

    # -- life

    def start(self, meeting: str = "") -> None:
        """Start joining; `meeting` is its id where discovery has told it."""
        self._meeting = meeting
        self._reactor.start()
        self._reactor.post(self._connect)
        self._reactor.post(lambda: self._reactor.every(PING_SECONDS, self._ping))

    def do(self, command: Json) -> None:
        """Carry out a command of the headless interface; never blocks."""
        self._reactor.post(lambda: self._carry_out(command))

    def snapshot(self) -> Snapshot:
        """Everything a window shows, now."""
        return dataclasses.replace(self.state.current, mic_level=self.media.mic_level, delay_ms=self._delay)

    def picture(self, key: int | str) -> tuple[int, Picture | None]:
        """(serial, newest BGR picture) of a person's id, "self" or "screen"."""
        return self.media.picture(key)

    def close(self, deadline: float = 3.0) -> None:
        """Leave, if still in, and end every thread; may be called twice."""
        self._reactor.post(lambda: self.leave("left"))
        self._reactor.close(deadline)
        self.media.close()

    def emit(self, event: str, ref: Any = None, **fields: Any) -> None:
        """Put an event on the queue."""
        if self.status is not None:
            return
        entry: Json = {"event": event, "time": time.time(), **fields}
        if ref is not None:
            entry["ref"] = ref
        self.gui_queue.put(entry)

    def _finish(self, event: str, status: int, **fields: Any) -> None:
        """The last event. The status is that of the process."""
        if self.status is not None:
            return
        counters = self.counters.snapshot()
        if counters:
            log.info("dropped and counted: %s", counters)
        self.emit(event, **fields)
        self.status = status
        self.state.update(link="ended", reason=fields.get("reason", ""))

    def leave(self, reason: str) -> None:
        """Say goodbye and end. Reactor's thread."""
        if self.status is not None:
            return
        if self._link and self._link.welcomed:
            self._link.send({"type": "leave"})
        self._finish("left", 0, reason=reason)
        if self._link:
            self._link.close()

    # -- the link

    def _connect(self) -> None:
        if self.status is not None:
            return
        self._tries += 1
        if not self._token and self._meeting and self.options.fingerprint:
            self._token = self._tokens.get(self.options.fingerprint, self._meeting, self.options.name)
        self._link = CommandConnection(
            self._reactor, self.options, self._token, self._on_message, self._on_closed
        )
        try:
            self._link.begin()
        except OSError as error:
            self._on_closed("no_meeting", f"The network cannot be used: {error.strerror}.")

    def _on_closed(self, code: str, reason: str) -> None:
        if self.status is not None:
            return
        if self._lost_at or (self._link and self._link.welcomed):
            self._on_lost(code, reason)
        elif not code and reason not in ("refused", "timeout") and self._tries < 5:
            self._reactor.later(0.2 * self._tries, self._connect)
        else:
            self._finish("denied", 1, code=code or "no_meeting", reason=self._words(code, reason))

    def _words(self, code: str, reason: str) -> str:
        if code:
            return reason
        where = f"{self.options.address}:{self.options.port}"
        return f"No meeting answers at {where} ({reason})."

    def _on_lost(self, code: str, reason: str) -> None:
        """The link is gone: come back under the same name, or give up."""
        now = time.monotonic()
        if not self._lost_at:
            self._lost_at = now
            self.state.update(link="reconnecting", reason=reason)
            self.emit("reconnecting", reason=reason)
        final = code in ("removed", "host_changed", "version", "wrong_pin", "pin_required", "host_unproven")
        if final or now - self._lost_at > self.RETRY_SECONDS:
            self._finish("ended", 0, reason=reason)
        else:
            self._reactor.later(min(2.0, 0.25 * self._tries), self._connect)

    def _ping(self) -> None:
        link = self._link
        if link is None or not link.welcomed or link.link is None or link.link.closed:
            return
        now = time.monotonic()
        if now - link.heard > DEAD_SECONDS:
            link.link.discard("silent")
        else:
            link.send({"type": "ping", "t": now})

    def send(self, message: Json) -> None:
        """Send to the server, if the link stands."""
        if self._link and self._link.welcomed:
            self._link.send(message)

    def request(self, message: Json, on_answer: Callable[[Json], None]) -> None:
        """Send `message` with a number of its own; the answer or error with that number comes back."""
        self._request_number += 1
        self._requests[self._request_number] = on_answer
        self.send({**message, "ref": self._request_number})

    # -- what the server says

    def _on_message(self, message: Json) -> None:
        kind = message["type"]
        answer = self._requests.pop(message["ref"], None) if "ref" in message else None
        if answer:
            answer(message)
            return
        match kind:
            case "welcome":
                self._on_welcome(message)
            case "pong":
                self._delay = (time.monotonic() - message["t"]) * 1e3
            case "encode":
                self.media.encode({int(layer): fps for layer, fps in message["layers"].items()})
            case "audio_keys":
                self.media.rekey_audio(self.state.current.me, message["up"], message["down"])
            case "muted":
                self.media.set_microphone(False)
                self.emit("muted", by=message["by"])
            case "error":
                self.emit("error", code=message["code"], reason=message["reason"])
            case "asks":
                self.emit("asks", ask=message["ask"], name=message["name"], address=message["address"])
            case "ended" | "removed":
                self._finish("ended", 0, reason=message["reason"])
                if self._link:
                    self._link.close("ended")
            case _:
                self._apply(message)

    def _apply(self, message: Json) -> None:
        for event in self.state.apply(message):
            self.emit(event.pop("event"), **event)
        if message["type"] in ("join", "leave", "user_list", "welcome"):
            self._send_watch()

    def _on_welcome(self, message: Json) -> None:
        assert self._link is not None
        if not self._host_is_the_known_one(message):
            return
        fingerprint = self._link.fingerprint
        self.options.fingerprint = fingerprint
        self.options.name = message["name"]
        self._token, self._meeting = message["resume"], message["meeting"]
        self._tokens.put(fingerprint, self._meeting, message["name"], self._token)
        self._link.send({"type": "resumed"})
        back = self._lost_at
        if back:
            self.emit("reconnected", seconds=round(time.monotonic() - back, 2))
            self.media.rekey(message)
        else:
            self._emit_joined(message)
            self.media.start(message)
        self._lost_at, self._tries = 0.0, 0
        self._apply(message)
        for what, device in self.state.current.devices.items():
            if device.state == "live":
                self._tell_state(what, True)

    def _host_is_the_known_one(self, message: Json) -> bool:
        assert self._link is not None
        fingerprint = self._link.fingerprint
        title, host = message["title"], message["host"]
        if self.options.host_key or self._lost_at:
            return True
        known = self._known.get(fingerprint)
        if known is None and not self.options.accept_changed:
            other = self._known.imitated(fingerprint, title, host)
            if other:
                self._link.send({"type": "leave"})
                self._finish("denied", 1, code="host_changed", reason=changed_words(other))
                self._link.close()
                return False
        self._known.remember(fingerprint, title, host, self.options.address, self.options.port)
        self.state.update(new_host=known is None)
        return True

    def _emit_joined(self, message: Json) -> None:
        self.state.update(
            address=self.options.address,
            port=self.options.port,
            fingerprint=self.options.fingerprint,
            since=time.monotonic(),
        )
        keys = ("id", "name", "meeting", "title", "host", "role")
        told = {key: message[key] for key in keys}
        self.emit("joined", **told, address=self.options.address, encrypted=True)

    # -- what devices and media say, from their threads

    def _device_changed(self, what: str, state: str, reason: str) -> None:
        self._reactor.post(lambda: self._on_device(what, state, reason))

    def _on_device(self, what: str, state: str, reason: str) -> None:
        devices = {**self.state.current.devices, what: DeviceState(state, reason)}
        self.state.update(devices=devices)
        ref = self._device_refs.pop(what, None)
        self.emit("device", ref, what=what, state=state, reason=reason)
        self._tell_state(what, state == "live")

    def _tell_state(self, what: str, on: bool) -> None:
        if what == "mic":
            self.send({"type": "mic", "on": on})
        elif what == "camera":
            self.send({"type": "video_start" if on else "video_stop"})

    def _speaking_changed(self, ident: int) -> None:
        def apply() -> None:
            for event in self.state.speaking(ident):
                self.emit(event.pop("event"), **event)

        self._reactor.post(apply)

    # -- commands

    def _carry_out(self, command: Json) -> None:
        ref = command.get("ref")
        try:
            handler = self._commands.get(str(command.get("do")))
            if handler is None:
                raise Refused("bad_command", "There is no such command.")
            if command["do"] in HOST_COMMANDS and self.state.current.role != "host":
                raise Refused("not_allowed", "Only the host may do that.")
            handler(command)
        except Refused as refused:
            self.emit("error", ref, code=refused.code, reason=refused.reason)
        except PeerFault:
            self.emit("error", ref, code="bad_command", reason="That is too long.")

    def _answered(self, command: Json) -> Callable[[Json], None]:
        """What to do with the server's answer to `command`: an error is passed on with its ref."""

        def on_answer(message: Json) -> None:
            if message["type"] == "error":
                self.emit("error", command.get("ref"), code=message["code"], reason=message["reason"])

        return on_answer

    def _do_chat(self, command: Json) -> None:
        self.send({"type": "chat", "text": wanted(command, "text", str)})

    def _do_private(self, command: Json) -> None:
        text, name = wanted(command, "text", str), self._person(command, "to").name
        self.request({"type": "private_chat", "to_name": name, "text": text}, self._answered(command))

    def _do_react(self, command: Json) -> None:
        emoji = wanted(command, "emoji", str)
        if not 0 < len(emoji) <= 32:
            raise Refused("bad_command", "An emoji is short.")
        self.send({"type": "reaction", "emoji": emoji})

    def _do_hand(self, command: Json) -> None:
        self.send({"type": "hand", "up": wanted(command, "up", bool)})

    def _do_mic(self, command: Json) -> None:
        self._switch("mic", wanted(command, "on", bool), self.media.set_microphone, command)

    def _do_camera(self, command: Json) -> None:
        self._switch("camera", wanted(command, "on", bool), self.media.set_camera, command)

    def _switch(self, what: str, on: bool, switch: Callable[[bool], None], command: Json) -> None:
        live = self.state.current.devices.get(what, DeviceState()).state == "live"
        if on == live:
            self.emit("device", command.get("ref"), what=what, state="live" if on else "off", reason="")
            return
        self._device_refs[what] = command.get("ref")
        switch(on)

    def _do_watch(self, command: Json) -> None:
        streams = wanted(command, "streams", dict)
        chosen: dict[str, tuple[int, int]] = {}
        for name, choice in streams.items():
            layer = choice.get("layer", 0) if isinstance(choice, dict) else -1
            fps = choice.get("fps", DEFAULT_FPS) if isinstance(choice, dict) else 0
            if type(layer) is not int or not 0 <= layer < len(LAYERS):
                raise Refused("bad_command", "A layer is 0, 1, 2 or 3.")
            if type(fps) not in (int, float) or not 1 <= fps <= MAX_FPS:
                raise Refused("bad_command", f"A rate is between 1 and {MAX_FPS} pictures a second.")
            chosen[name] = (layer, round(fps))
        self._watch = chosen
        self._send_watch()

    def _send_watch(self) -> None:
        """Say who is watched, by today's ids; kept by name across reconnects."""
        people = self.state.current.people
        ids = {one.id: self._watch[one.name] for one in people if one.name in self._watch}
        ids.pop(self.state.current.me, None)
        self.media.watch({ident: layer for ident, (layer, _) in ids.items()})
        streams = {str(ident): {"layer": layer, "fps": fps} for ident, (layer, fps) in ids.items()}
        if streams != self._watch_sent:
            self._watch_sent = streams
            self.send({"type": "watch", "streams": streams})

    def _do_snapshot(self, command: Json) -> None:
        of, path = wanted(command, "of", str), wanted(command, "path", str)
        picture = self._newest(of)
        if picture is None:
            raise Refused("nothing_yet", f"There is no picture of {of} yet.")
        try:
            Path(path).write_bytes(encode_png(picture))
        except OSError as error:
            raise Refused("bad_command", f"{path} cannot be written: {error.strerror}.") from None
        height, width = picture.shape[:2]
        self.emit("snapshot", command.get("ref"), of=of, path=path, width=width, height=height)

    def _newest(self, of: str) -> Picture | None:
        if of == self.state.current.name:
            return self.media.picture("self")[1]
        person = self.state.named(of)
        if person is None:
            raise Refused("no_such_person", f"Nobody called {of} is in the meeting.")
        return self.media.newest(person.id)

    def _do_users(self, command: Json) -> None:
        event = self.state.users()
        self.emit(event.pop("event"), command.get("ref"), **event)

    def _do_stats(self, command: Json) -> None:
        video = {
            one.name: figures
            for one in self.state.current.people
            if (figures := self.media.video_stats(one.id)) is not None
        }
        self.emit(
            "stats",
            command.get("ref"),
            video=video,
            audio=self.media.audio_stats(),
            udp=self.media.udp(),
            counters=self.counters.snapshot(),
        )

    def _do_mute(self, command: Json) -> None:
        who = "all" if command.get("who") == "all" else self._person(command, "who").id
        self.send({"type": "mute", "who": who})

    def _do_remove(self, command: Json) -> None:
        self.send({"type": command["do"], "who": self._person(command, "who").id})

    def _do_admit(self, command: Json) -> None:
        ask, on = wanted(command, "ask", int), wanted(command, "on", bool)
        self.send({"type": "admit", "ask": ask, "on": on})

    def _do_host_tool(self, command: Json) -> None:
        self.send({"type": command["do"]})

    def _person(self, command: Json, key: str) -> Person:
        name = wanted(command, key, str)
        person = self.state.named(name)
        if person is None:
            raise Refused("no_such_person", f"Nobody called {name} is in the meeting.")
        return person


HOST_COMMANDS: Final = frozenset({"mute", "remove", "take_over", "end", "allow_share", "admit"})
_Wanted = TypeVar("_Wanted")


def wanted(command: Json, key: str, kind: type[_Wanted]) -> _Wanted:
    """The member `key` of a command; Refused `bad_command` when missing or of another type."""
    value = command.get(key)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise Refused("bad_command", f"“{key}” is missing or of the wrong kind.")
    return value


def changed_words(known: KnownHost) -> str:
    """The sentence for a known title or host that shows another certificate."""
    return (
        f"“{known.title}” of {known.host} now comes from another computer than before: "
        "do not trust it unless the teacher says so."
    )


# -- finding, hosting, and the headless interface --------------------------------------------------------

DECIDE_SECONDS: Final = 0.4
LAST_EVENTS: Final = frozenset({"left", "ended", "denied"})


def find_meeting(finder: MeetingFinder, known: KnownHosts, has_pin: bool) -> MeetingAd:
    """The meeting to join without asking (DESIGN 5); Refused where there is none or too much.

    Decided 0.4 s after the first question; while nothing fits, again until the scan is over.
    """
    finder.wait_settled(DECIDE_SECONDS)
    while True:
        settled = finder.wait_settled(0.0)
        try:
            return choose_meeting(finder.meetings(), known, has_pin)
        except Refused as refused:
            if refused.code != "no_meeting" or settled:
                raise
        finder.wait_settled(0.1)


def choose_meeting(ads: Sequence[MeetingAd], known: KnownHosts, has_pin: bool) -> MeetingAd:
    """The only meeting of a known host or, where none is known, the only one at all; else Refused."""
    mine = [ad for ad in ads if known.get(ad.fingerprint)]
    candidates = mine or ([] if known.all() else list(ads))
    if len(candidates) > 1:
        raise Refused("several_meetings", f"There are {len(candidates)} meetings: choose one with --join.")
    if not candidates:
        for ad in ads:
            other = known.imitated(ad.fingerprint, ad.title, ad.host)
            if other:
                raise Refused("host_changed", changed_words(other))
        if ads:
            reason = (
                f"“{ads[0].title}” at {ads[0].address} is hosted by someone new here: join it with --join."
            )
            raise Refused("no_meeting", reason)
        raise Refused("no_meeting", "No meeting was found on this network.")
    if candidates[0].pin and not has_pin:
        raise Refused("pin_required", "This meeting needs a PIN: give it with --pin.")
    return candidates[0]


class HostedMeeting:
    """A server as a child of this program; started again when it dies."""

    def __init__(self, options: Json) -> None:
        self._options = options
        self._news: queue.SimpleQueue[Json] = queue.SimpleQueue()
        self._serving: Json = {}
        self._child = ChildKeeper("server", ["--serve-child"], options, self._news.put)

    def start(self, deadline: float = 15.0) -> Json:
        """Start it; returns its `serving` event. Refused when it could not serve."""
        self._child.start()
        try:
            told = self._news.get(timeout=deadline)
        except queue.Empty:
            raise Refused("no_meeting", "The meeting's server did not start.") from None
        if told["event"] != "serving":
            raise Refused("no_meeting", told["reason"])
        self._serving = told
        return told

    def aim(self, options: ClientOptions) -> None:
        """Let `options` join this meeting as its host."""
        options.address = self._options["bind"] or "127.0.0.1"
        options.port = self._serving["port"]
        options.fingerprint = self._serving["fingerprint"]
        options.host_key = self._options["host_key"]

    def close(self) -> None:
        """End the meeting and its server."""
        self._child.close(6.0)


def run_headless(controller: MeetingController, meeting: str, say: Callable[[Json], None]) -> int:
    """The whole client without a window: events out, commands from standard input in."""
    ending = {"do": "end"} if controller.options.host_key else {"do": "leave"}
    worker = Worker("commands", functools.partial(_read_commands, controller, ending))
    controller.start(meeting)
    worker.start()
    while True:
        event = controller.gui_queue.get()
        say(event)
        if event["event"] in LAST_EVENTS:
            break
    controller.close()
    return controller.status or 0


def _read_commands(controller: MeetingController, ending: Json, worker: Worker) -> None:
    """Lines from file descriptor 0, read raw: a blocked thread must not hold up the program's end."""
    lines = LineSplitter(1 << 20)
    while data := os.read(0, 1 << 16):
        try:
            ready = lines.push(data)
        except PeerFault:
            lines = LineSplitter(1 << 20)
            controller.do({})
            continue
        for line in ready:
            controller.do(_parsed_command(line))
    controller.do(ending)


def _parsed_command(line: bytes) -> Json:
    try:
        return parse_json(line)
    except PeerFault:
        return {}


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


class OneSentenceParser(argparse.ArgumentParser):
    """Says what is wrong in one sentence, with status 2."""

    def error(self, message: str) -> NoReturn:
        """Raise UsageError instead of printing the usage."""
        raise UsageError(message[:1].upper() + message[1:] + ".")


def parse_options(arguments: Sequence[str]) -> argparse.Namespace:
    """The options of COMMANDS; UsageError for wrong ones."""
    parser = OneSentenceParser(prog="connectsphere", description=__doc__.splitlines()[0], allow_abbrev=False)
    roles = parser.add_argument_group("roles (without one: find the meeting and join it)")
    only = roles.add_mutually_exclusive_group()
    only.add_argument("--host", action="store_true", help="host a meeting and join it")
    only.add_argument("--serve", action="store_true", help="the server alone, until SIGTERM or SIGINT")
    only.add_argument("--join", metavar="ADDRESS[:PORT]", help="join the meeting at an address")
    only.add_argument("--list", action="store_true", help="print the meetings on this network")
    only.add_argument("--mixer", metavar="ADDRESS:PORT", help=argparse.SUPPRESS)
    only.add_argument("--serve-child", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--json", action="store_true", help="with --list: as JSON")
    parser.add_argument("--headless", action="store_true", help="no window: commands in, events out, as JSON")
    parser.add_argument("--name", help="your name")
    parser.add_argument("--title", help="the meeting's title")
    parser.add_argument("--pin", help="the meeting's PIN")
    parser.add_argument("--port", type=int, metavar="BASE", help="the first port of the meeting (9000)")
    parser.add_argument("--bind", metavar="ADDRESS", help="listen, look and answer only there")
    parser.add_argument("--camera", metavar="CAMERA", help="none, pattern, 0, 1, … or a video file")
    parser.add_argument("--mic", metavar="MIC", help="none, default, tone, an index or a WAV file")
    parser.add_argument("--speaker", metavar="SPEAKER", help="none, default, an index or a WAV file to write")
    parser.add_argument("--downloads", metavar="DIR", help="where accepted files go")
    parser.add_argument("--host-key", metavar="FILE", help="the secret that makes its holder the host")
    parser.add_argument("--new", action="store_true", help="open a window although one is open")
    parser.add_argument("--log", metavar="FILE", help="write the log there")
    parser.add_argument("-v", "--verbose", action="count", default=0, help="log more")
    parser.add_argument("--version", action="version", version=f"{APP_NAME} {VERSION}")
    options = parser.parse_args(arguments)
    _check_options(options)
    return options


def _check_options(options: argparse.Namespace) -> None:
    try:
        Ports.at(options.port if options.port is not None else DEFAULT_PORT)
        if options.bind:
            ipaddress.IPv4Address(options.bind)
    except ValueError as error:
        raise UsageError(str(error)[:1].upper() + str(error)[1:] + ".") from None
    if options.pin is not None and not options.pin.strip():
        raise UsageError("The PIN must not be empty.")
    if options.json and not options.list:
        raise UsageError("--json goes with --list.")


def own_name() -> str:
    """The name of this machine's user, or of the machine."""
    try:
        name = getpass.getuser()
    except (OSError, KeyError, ImportError):
        name = "Guest"
    return clean_name(name[:1].upper() + name[1:])


def set_up_logging(options: argparse.Namespace) -> None:
    """The log goes to standard error, or to `--log FILE`, which rotates at 1 MB."""
    level = (logging.WARNING, logging.INFO, logging.DEBUG)[min(options.verbose, 2)]
    handler: logging.Handler = logging.StreamHandler()
    if options.log:
        try:
            handler = logging.handlers.RotatingFileHandler(options.log, maxBytes=1 << 20, backupCount=2)
        except OSError as error:
            raise UsageError(f"The log {options.log} cannot be written: {error.strerror}.") from None
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(threadName)s %(message)s"))
    log.addHandler(handler)
    log.setLevel(level)


def server_options(options: argparse.Namespace, home: Path) -> ServerOptions:
    """What the server needs, from the command line."""
    name = clean_name(options.name) if options.name else own_name()
    key = options.host_key
    return ServerOptions(
        title=clean_name(options.title or f"{name}'s meeting", MAX_TITLE),
        host_name=name,
        pin=options.pin or "",
        base=options.port or DEFAULT_PORT,
        bind=options.bind,
        host_key=make_host_key(Path(key) if key else home / "host.key"),
    )


def client_options(options: argparse.Namespace) -> ClientOptions:
    """What a participant needs, from the command line."""
    return ClientOptions(
        name=clean_name(options.name) if options.name else own_name(),
        pin=(options.pin or "").strip(),
        port=options.port or DEFAULT_PORT,
        bind=options.bind,
        camera=options.camera or "0",
        mic=options.mic or "default",
        speaker=options.speaker or "default",
        downloads=options.downloads or "",
        host_key=load_host_key(Path(options.host_key)) if options.host_key and not options.host else "",
        decode_all=not options.headless,
    )


def say(event: Json) -> None:
    """One event as a line on standard output."""
    sys.stdout.write(json.dumps(event, ensure_ascii=False) + "\n")
    sys.stdout.flush()


def on_stop_signals(call: Callable[[], None]) -> None:
    """Have `call` made at SIGTERM and SIGINT."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: call())


# -- roles: each takes the options and returns the exit status --------------------------------------------


def role_mixer(options: argparse.Namespace) -> int:
    """Hidden: the mixer's process."""
    host, _, port = options.mixer.rpartition(":")
    on_stop_signals(lambda: None)  # it ends with its parent, by standard input
    return run_mixer(sys.stdin, sys.stdout, host, int(port))


def role_serve(options: argparse.Namespace) -> int:
    """The server alone."""
    home = home_directory()
    stop = threading.Event()
    on_stop_signals(stop.set)
    return serve(server_options(options, home), load_identity(home), stop, say)


def role_serve_child(options: argparse.Namespace) -> int:
    """Hidden: the server of `--host`; ends when standard input ends."""
    on_stop_signals(lambda: None)
    stop = threading.Event()
    first = json.loads(sys.stdin.readline() or "{}")

    def wait_for_the_end(worker: Worker) -> None:
        sys.stdin.read()
        stop.set()

    Worker("parent", wait_for_the_end).start()
    return serve(ServerOptions(**first), load_identity(home_directory()), stop, say)


def role_host(options: argparse.Namespace) -> int:
    """Hosts and joins in one go."""
    home = home_directory()
    hosted = HostedMeeting(dataclasses.asdict(server_options(options, home)))
    try:
        told = hosted.start()
        say({"time": time.time(), **told})
        chosen = client_options(options)
        hosted.aim(chosen)
        return run_headless(MeetingController(chosen, home), "", say)
    finally:
        hosted.close()


def role_join(options: argparse.Namespace) -> int:
    """Joins by address."""
    host, _, port = options.join.partition(":")
    chosen = client_options(options)
    try:
        chosen.port = int(port) if port else chosen.port
        Ports.at(chosen.port)
    except ValueError:
        raise UsageError(f"{options.join} is no address.") from None
    chosen.address = resolve(host)
    return run_headless(MeetingController(chosen, home_directory()), "", say)


def role_list(options: argparse.Namespace) -> int:
    """Prints the meetings on the LAN."""
    known = [(host.last_address, host.port) for host in KnownHosts(home_directory()).all()]
    finder = MeetingFinder(options.bind, known, options.port or DEFAULT_PORT)
    finder.start()
    try:
        finder.wait_settled(10.0)
        ads = finder.meetings()
        others = finder.other_versions()
    finally:
        finder.close()
    if options.json:
        print(json.dumps([listed(ad) for ad in ads], ensure_ascii=False))
        return 0
    for ad in ads:
        locked = ", PIN" if ad.pin else ""
        print(f"{ad.title} · {ad.host} · {ad.address}:{ad.port} · {ad.people} people{locked}")
    for address, version in others:
        print(f"{address} speaks protocol {version}, this program {PROTOCOL}: use the same version.")
    if not ads and not others:
        print("No meeting was found on this network.")
    return 0


def listed(ad: MeetingAd) -> Json:
    """A meeting as `--list --json` prints it."""
    keys = ("title", "host", "address", "port", "people", "pin", "fingerprint", "version")
    return {key: getattr(ad, key) for key in keys}


def role_find(options: argparse.Namespace) -> int:
    """Finds the meeting and joins it."""
    home = home_directory()
    chosen = client_options(options)
    known = KnownHosts(home)
    finder = MeetingFinder(options.bind, [(one.last_address, one.port) for one in known.all()], chosen.port)
    finder.start()
    try:
        ad = find_meeting(finder, known, bool(chosen.pin))
    except Refused as refused:
        say({"event": "denied", "time": time.time(), "code": refused.code, "reason": refused.reason})
        return 1
    finally:
        finder.close()
    chosen.address, chosen.port, chosen.fingerprint = ad.address, ad.port, ad.fingerprint
    return run_headless(MeetingController(chosen, home), ad.meeting, say)


ROLES: Final[Mapping[str, Callable[[argparse.Namespace], int]]] = {
    "mixer": role_mixer,
    "serve_child": role_serve_child,
    "serve": role_serve,
    "host": role_host,
    "join": role_join,
    "list": role_list,
}


def run(arguments: Sequence[str]) -> int:
    """Parse, set up logging, run the role; errors as one sentence."""
    options = parse_options(arguments)
    set_up_logging(options)
    sys.setswitchinterval(0.0005)
    role = next((run for name, run in ROLES.items() if getattr(options, name)), role_find)
    return role(options)


def main() -> int:
    """Run the role that the command line names; returns the exit status."""
    try:
        return run(sys.argv[1:])
    except UsageError as error:
        print(f"connectsphere: {error}", file=sys.stderr)
        return 2
    except ConnectSphereError as error:
        print(f"connectsphere: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
