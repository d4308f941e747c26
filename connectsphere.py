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
import ctypes
import functools
import hashlib
import hmac
import ipaddress
import json
import logging
import math
import os
import random
import secrets
import selectors
import socket
import ssl
import struct
import sys
import threading
import time
import unicodedata
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, Final, NamedTuple, TypeAlias, TypeVar, cast

import numpy as np
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
# Uses: BASICS, WIRE
# ======================================================================================


# ======================================================================================
# [8] DISCOVERY - asking and answering on every interface
# Uses: BASICS, WIRE
# ======================================================================================


DISCOVERY_SIZE: Final = 512
LONGEST_QUESTION: Final = 1_500


def _nonce_of(fields: Json) -> str:
    nonce = fields.get("nonce")
    if not isinstance(nonce, str) or len(nonce) != 32 or not set(nonce) <= set("0123456789abcdef"):
        raise PeerFault("discovery", "a wrong nonce")
    return nonce


def _version_of(fields: Json) -> int:
    version = fields.get("version")
    if type(version) is not int or not 0 < version < 1_000_000:
        raise PeerFault("discovery", "a wrong version")
    return version


def _discovery_fields(data: bytes, kind: str) -> Json:
    try:
        fields = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise PeerFault("discovery", "no JSON") from error
    if not isinstance(fields, dict) or fields.get("connectsphere") != kind:
        raise PeerFault("discovery", f"no {kind}")
    return fields


def discovery_question(nonce: bytes, version: int) -> bytes:
    """Who is there? 512 bytes, so that no answer is longer than its question."""
    body = json.dumps({"connectsphere": "question", "nonce": nonce.hex(), "version": version})
    return body.encode().ljust(DISCOVERY_SIZE)


def parse_question(data: bytes) -> tuple[str, int]:
    """Nonce (hex) and version of a question; PeerFault("discovery") for anything else."""
    if not DISCOVERY_SIZE <= len(data) <= LONGEST_QUESTION:
        raise PeerFault("discovery", "a question of a wrong size")
    fields = _discovery_fields(data, "question")
    return _nonce_of(fields), _version_of(fields)


def discovery_answer(nonce: str, fields: Json, limit: int) -> bytes:
    """An answer of at most `limit` bytes to the question `nonce` (empty: a beacon).

    Title and host name are cut where they do not fit; ValueError when the rest does not.
    """
    fields = {"connectsphere": "answer", "nonce": nonce} | fields
    while True:
        data = json.dumps(fields, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
        if len(data) <= limit:
            return data
        longest = max(("title", "host"), key=lambda key: len(fields.get(key, "")))
        if not fields.get(longest):
            raise ValueError("a discovery answer that cannot fit")
        fields[longest] = fields[longest][:-1]


def parse_answer(data: bytes) -> tuple[str | None, Json]:
    """Nonce (None for a beacon) and fields of an answer, "version" checked; PeerFault("discovery")."""
    if len(data) > LONGEST_QUESTION:
        raise PeerFault("discovery", "an answer of a wrong size")
    fields = _discovery_fields(data, "answer")
    _version_of(fields)
    return _nonce_of(fields) if fields.get("nonce") else None, fields


# WIRE ends here (until merged)

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

Address: TypeAlias = tuple[str, int]


_Field = TypeVar("_Field", str, int, bool)


def _field(fields: Json, key: str, kind: type[_Field]) -> _Field:
    value = fields.get(key)
    if type(value) is not kind:
        raise PeerFault("discovery", f"{key} is wrong")
    return value


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
    def parse(cls, fields: Json, address: str) -> MeetingAd:
        """The ad in an answer from `address`; PeerFault("discovery") when a field is missing or wrong."""
        meeting, title, host, fingerprint = (
            _field(fields, key, str) for key in ("meeting", "title", "host", "fingerprint")
        )
        port, people = _field(fields, "port", int), _field(fields, "people", int)
        if not (0 < len(meeting) <= 64 and meeting.isascii() and meeting.isprintable()):
            raise PeerFault("discovery", "a wrong meeting")
        if not (1 <= port <= 65_535 and 0 <= people <= 65_535):
            raise PeerFault("discovery", "a wrong number")
        if len(fingerprint) != 64 or not set(fingerprint) <= set("0123456789abcdef"):
            raise PeerFault("discovery", "a wrong fingerprint")
        pin, locked = _field(fields, "pin", bool), _field(fields, "locked", bool)
        title, host = clean_name(title, MAX_TITLE), clean_name(host)
        version = _field(fields, "version", int)
        return cls(meeting, title, host, address, port, people, pin, locked, fingerprint, version)


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
            if len(data) < DISCOVERY_SIZE or self._ear is None or (only and not only.near(source[0])):
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
        beacon = self._ad("", DISCOVERY_SIZE - 1)
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
        ad = MeetingAd.parse(fields, address)
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
            is_question = len(data) >= DISCOVERY_SIZE
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
