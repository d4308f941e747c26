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

import logging
import math
import sys
import threading
import unicodedata
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, TypeAlias

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
