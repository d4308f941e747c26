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

import colorsys
import contextlib
import logging
import math
import os
import struct
import sys
import threading
import time
import unicodedata
import zlib
from abc import ABC, abstractmethod
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeAlias, cast

import numpy as np
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
# Uses: BASICS, MEDIA
#
# Every device is opened by one function that takes the name used everywhere (COMMAND LINE): a real
# device, a file or a pattern. All of them run in real time by the wall, stand-ins too. What cannot be
# had, or is pulled out later, raises DeviceError with one sentence for the user. cv2, pyaudio and mss
# are loaded at the first use. Nothing here sends, seals or mixes.
# ======================================================================================


# Both stand in until MEDIA has the real ones: DELETE THEM AT THE MERGE.
class Resampler:
    """Linear stand-in for the band-limited Resampler of MEDIA."""

    def __init__(self, rate_in: int, rate_out: int) -> None:
        self._step = rate_in / rate_out
        self._next = 0.0  # where the next output lies, in samples after self._last
        self._last: Samples = np.zeros(1, np.int16)

    def push(self, samples: Samples) -> Samples:
        """The output that `samples` completes."""
        known = np.concatenate((self._last, samples))
        at = np.arange(self._next, len(known) - 1, self._step)
        self._next += len(at) * self._step - (len(known) - 1)
        self._last = known[-1:]
        made: Samples = np.rint(np.interp(at, np.arange(len(known)), known)).astype(np.int16)
        return made


def stamp_clock(picture: Picture, now_unix: float) -> None:
    """Coarse stand-in for the clock bits of MEDIA."""
    height, width = picture.shape[:2]
    cell = width // 20
    millis = int(now_unix * 1000) & 0xFFFFFF
    word = f"{0xA7:08b}{millis:024b}{zlib.crc32(millis.to_bytes(3, 'big')) & 0xFF:08b}"
    bits = np.array([255 * int(bit) for bit in word], np.uint8).reshape(2, 20)
    cells = bits.repeat(cell, 0).repeat(cell, 1)
    picture[height - 2 * cell :, : 20 * cell] = cells[:, :, None]


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
