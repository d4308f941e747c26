#!/usr/bin/env python3
# /// script
# requires-python = ">=3.11"
# dependencies = [
#   "numpy>=1.26",
#   "opencv-python>=4.9,!=4.10.*,!=4.11.*",
#   "pyaudio>=0.2.14; sys_platform == 'win32' and python_version < '3.14'",
#   "mss>=10.2",
#   "Pillow>=10.3,!=11.2.*",
#   "cryptography>=44.0.1",
#   "spake2==0.9",
#   "ifaddr>=0.2",
#   "pywebrtc-audio>=0.2; platform_machine in 'x86_64 AMD64 aarch64 arm64' and python_version < '3.15'",
# ]
# ///
"""ConnectSphere: a video meeting for a LAN with no internet, in one file.

A teacher hosts (``connectsphere --host``), everyone else starts ``connectsphere`` and is in.
The same program is server, client and window; the command line chooses the role.

Sections, in order; each uses only those above it that it names:

    [1]  BASICS         limits, ports, settings, the error tree, loggers, names that other people give
    [2]  WIRE           every byte that crosses the network, both ways
    [3]  AUDIO          jitter buffer, concealment, mixer, voice detection, resampling
    [4]  VIDEO          frames and their datagrams, reassembly, retransmission, the test card's clock
    [5]  TILES          the shared screen as state
    [6]  BANDWIDTH      what a path carries, who gets which layer, when bytes leave
    [7]  ROOM           the server's truth: who is here, who may do what, who must receive what
    [8]  CALL           one participant's picture of the meeting
    [9]  DOCTOR         from what is known of this machine and network to one verdict and one next step
    ---- waterline: above it nothing knows sockets, threads, clocks, devices or Tk ----
    [10] TRUST          identity, known hosts, PIN proof, settings on disk
    [11] LINKS          loops, TLS links, UDP ports, addresses, closing
    [12] PROCESS        child processes, one window, spoken cues
    [13] DISCOVERY      asking and answering on every interface
    [14] DEVICES        camera, microphone, speaker, screen, codecs
    [15] STAND-INS      test card, films, files, tones and voices that stand in for devices; opening by name
    [16] RELAY          the media of the server: pictures forwarded, sound mixed
    [17] SERVER PLANES  the screen and files planes of the server
    [18] SERVER         the server role: who comes in, who goes on if it fails, the control plane
    [19] CLIENT MEDIA   one path a UDP plane: capturing, encoding, sending, receiving, decoding, playing
    [20] CLIENT PLANES  the shared screen, and files
    [21] CONTROL LINK   joining, and the life of a control connection
    [22] CONTROLLER     commands, events, who goes on: the whole client without a window
    [23] HEADLESS       finding, hosting, and the whole client as commands and events
    [24] DOORS          giving this program to others
    [25] PROGRAM        the doctor's examination, the start window's preview, one program, a simulated class
    [26] TEXTS          what the user reads, a sentence a line: English | Español | Français | हिन्दी
    [27] DRAWING        palette, icons, emoji, fonts, avatars, tiles: pictures made with Pillow
    [28] WIDGETS        small controls, lists, dialogs, painted tiles
    [29] STAGE          video tiles, layouts, the shared screen, reactions, toasts
    [30] PANELS         side bar, top bar, chat, attendees, files
    [31] DIALOGS        start window, check, invitation, sharing, settings
    [32] WINDOW         keys, the meeting's view, the loop that draws
    [33] COMMAND LINE   options, logging, the role table, main

Threads, each named here; started by, may write, ends when, else by close:

    main                 the window or the headless loop; Tk is touched by it alone
    control              SERVER: the room, control links
    acceptor             LINKS: the server's TCP ports, hands sockets over
    journal              SERVER: what a crash must not lose, to the disk
    relay                RELAY: the video port, its peers and routes
    file-server          SERVER: one a connection of the files plane, its bytes; ends with it
    reader-*             PROCESS: reads what a child says (mixer, server), restarts it; ends with the child
    writer-*             PROCESS: writes what a child is told, waiting for it to read; ends with the child
    mixer-orders         RELAY, mixer's process: standard input to the mixer's mailbox; ends with it
    succession           SERVER: asks the meeting's other servers how they are, each by one of probe-*
    discovery-responder  DISCOVERY: answers questions
    meeting-finder       DISCOVERY: asks and lists
    app-giver            DOORS: offers this program by HTTP, and a thread a browser
    broadcast-ear        DISCOVERY: hears who asks, for the doctor
    parent               COMMAND LINE: waits for the end of standard input
    client               CONTROLLER: the control link, StateManager; files are moved by file-transfer-*
    attendance           CONTROLLER: writes who was here; ends with it
    video                CLIENT MEDIA: the video plane's port, keys and streams
    audio                CLIENT MEDIA: the audio plane's port, keys and jitter buffer
    decoder              CLIENT MEDIA: newest pictures to pixels
    player               CLIENT MEDIA: jitter buffer to speaker
    screen-decoder       CLIENT PLANES: from the first share on; paints tiles, owns the canvas
    presenter            CLIENT PLANES: while sharing; owns the screen source, codes its tiles
    camera               CLIENT MEDIA: while the camera is on, which it owns; encodes, seals, sends its layers
    mic                  CLIENT MEDIA: while the microphone is on, which it owns; seals and sends its blocks
    commands             CONTROLLER: standard input to commands; a daemon that the process's end ends
    speaker-test         PROGRAM: plays three tones, then ends
    crowd                PROGRAM: what simulated participants do, in the demo's child
    sound-*              DEVICES: one an open sound card, owns its stream
    capture              DEVICES: reads a real camera as it comes
    tile-painter-*       WIDGETS: paints tiles for the Tk thread to paste
    resolver             LINKS: asks for the address of a name; ends with the answer
    voice                PROCESS: says cues aloud, from the first one on
    second-start         PROCESS: hears that the program was started again
    window-task          STAGE: one piece of work that may take long; ends with it
    clock                WINDOW: asks Tk's thread to go on where the clock is set back; ends with the window
"""

from __future__ import annotations

import argparse
import atexit
import base64
import colorsys
import copy
import csv
import ctypes
import enum
import errno
import gc
import getpass
import hashlib
import hmac
import importlib
import io
import itertools
import json
import locale
import logging
import logging.handlers
import math
import os
import platform
import random
import re
import select
import shutil
import signal
import socket
import socketserver
import struct
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import unicodedata
import wave
import weakref
import webbrowser
from abc import ABC, abstractmethod
from argparse import Namespace
from bisect import bisect_right
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import KW_ONLY, asdict, dataclass, field, fields, make_dataclass, replace
from datetime import UTC, datetime
from functools import cache, cached_property, lru_cache, partial, reduce
from heapq import heapify, heappop, heappush
from ipaddress import IPv4Address, IPv4Network
from math import inf
from operator import attrgetter, itemgetter, truediv
from pathlib import Path, PurePosixPath
from queue import Empty, SimpleQueue
from secrets import randbelow, token_bytes, token_hex
from selectors import EVENT_READ, EVENT_WRITE, DefaultSelector
from threading import Lock
from typing import (
	IO,
	TYPE_CHECKING,
	Annotated,
	Any,
	ClassVar,
	Literal,
	NamedTuple,
	NoReturn,
	Protocol,
	Self,
	TypeAlias,
	TypeVar,
	cast,
	dataclass_transform,
	get_type_hints,
)

if __name__ == "__main__":
	gc.disable()  # until `run`: what is made meanwhile stays


class Lazy:
	"""A module that is imported where it is first used: a server needs no Tk, a mixer no TLS."""

	def __init__(self, name: str):
		self._name = name

	def __getattr__(self, part: str) -> Any:
		fresh = self._name not in sys.modules
		value = getattr(importlib.import_module(self._name), part)
		setattr(self, part, value)  # used with each block of sound and picture
		if fresh and self._name == "numpy":
			gc.freeze()  # see `run`
		return value


NEEDED = (
	"numpy", "ifaddr", "cryptography.hazmat.primitives.asymmetric.ed25519",
	"cryptography.hazmat.primitives.ciphers.aead",
)  # fmt: skip


if TYPE_CHECKING:
	import ssl
	import tkinter as tk
	from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
	from tkinter import filedialog, ttk
	from tkinter import font as tkfont

	import cv2
	import ifaddr
	import numpy as np
	from cryptography import exceptions
	from cryptography.hazmat.primitives.asymmetric import ed25519
	from cryptography.hazmat.primitives.ciphers import aead
	from numpy.typing import NDArray
	from PIL import Image, ImageChops, ImageDraw, ImageFilter, ImageFont, ImageOps, ImageTk

	Samples = NDArray[np.int16]
	Picture = NDArray[np.uint8]
else:
	BaseHTTPRequestHandler = ThreadingHTTPServer = object  # see AppGiver
	Samples = Picture = Any
	np, ifaddr, ed25519, aead = (Lazy(name) for name in NEEDED)
	ssl, cv2, exceptions = (Lazy(name) for name in ("ssl", "cv2", "cryptography.exceptions"))
	tk, tkfont, ttk, filedialog = (Lazy(f"tkinter{part}") for part in ("", ".font", ".ttk", ".filedialog"))
	Image, ImageChops, ImageDraw, ImageFilter, ImageFont, ImageOps, ImageTk = (
		Lazy(f"PIL.Image{part}") for part in ("", "Chops", "Draw", "Filter", "Font", "Ops", "Tk")
	)

# ====
# [1] BASICS - limits, ports, settings, the error tree, loggers, names that other people give
# Uses: nothing

VERSION = "1.0.0"
PROTOCOL = 1
APP_NAME = "ConnectSphere"
DEFAULT_PORT = 9000
DISCOVERY_PORT = 9000

AUDIO_RATE = 16_000
BLOCK = 256
BLOCK_SECONDS = BLOCK / AUDIO_RATE
DEFAULT_FPS = 15
MAX_FPS = 60
SMALL_LAYER = 1  # layers up to this one are small pictures
SPARING_FPS = 12  # of a large picture that is calm, where many are in

LAYERS = ((160, 90), (320, 180), (640, 360), (1280, 720))
CHUNK = 1_100
MAX_PARTS = 256
MAX_FRAME = CHUNK * MAX_PARTS
MAX_LINE = 64 * 1024
MAX_SCREEN = (7680, 4320)
FILE_BLOCK = 256 << 10  # bytes of a file handled at once
MAX_NAME = 32
MAX_TITLE = 64
MAX_PIN = 64
MAX_CHAT = 4_000
HISTORY = 200
MAX_PEOPLE = 250  # the roster fits one line, whatever the names

Json = dict[str, Any]
Address = tuple[str, int]
Act = Callable[[], object]  # something to be done
Say = Callable[[Json], None]  # takes a message, an event or a command
Shown = tuple[int, Picture | None]  # serial and picture, which is none before the first

# The one clock, in seconds: time.monotonic steps by 15.6 ms on Windows before Python 3.13.
monotonic = time.perf_counter

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


class Words(str):
	"""A sentence with its `key` in TEXTS and its `values`, to be translated, also again."""

	key: str
	values: Mapping[str, Any]

	def __new__(cls, key: str, said: str = "", /, **values: object) -> Words:
		words = super().__new__(cls, said or (key.format(**values) if values else key))
		words.key, words.values = key, values
		return words


def size_words(size: float) -> str:
	"""Bytes as people say them."""
	for unit, digits in (("B", 0), ("kB", 0), ("MB", 1)):
		if size < 1000:
			return f"{size:.{digits}f} {unit}"
		size /= 1000
	return f"{size:.1f} GB"


# What a refusal says: code or code.why|the sentence as in TEXTS, in English alone where no window shows it or
# it stands above. Of a code's lines the first counts that has a value for each {place}; over the network go
# those of _VALUES (WIRE) alone.
REFUSALS = """
bad_command|“{key}” is missing or of the wrong kind.|“{key}” falta o no es del tipo correcto.|« {key} » manque ou n'est pas du bon type.|“{key}” नहीं है या सही प्रकार का नहीं है।
bad_command|That was not understood: {fault}.|Eso no se entendió: {fault}.|Cela n'a pas été compris : {fault}.|यह समझ नहीं आया: {fault}।
busy|The host is busy with other files.|El anfitrión está ocupado con otros archivos.|L'animateur est occupé par d'autres fichiers.|होस्ट दूसरी फ़ाइलों में व्यस्त है।
cancelled|That was cancelled.|Se canceló.|C'est annulé.|वह रद्द कर दिया गया।
elsewhere|You have joined from another connection.|Has entrado desde otra conexión.|Vous avez rejoint la réunion par une autre connexion.|आप दूसरे कनेक्शन से जुड़ गए हैं।
full|The meeting is full.|La reunión está llena.|La réunion est complète.|मीटिंग भर चुकी है।
host_changed|“{title}” of {host} now comes from another computer than before.|“{title}” de {host} llega ahora desde otro equipo.|« {title} » de {host} vient maintenant d'un autre ordinateur.|{host} की “{title}” अब दूसरे कंप्यूटर से आ रही है।
host_changed|Another computer answers in the host's place.|Otro equipo responde en lugar del anfitrión.|Un autre ordinateur répond à la place de l'animateur.|होस्ट की जगह दूसरा कंप्यूटर उत्तर दे रहा है।
host_alive|This computer does not reach the host's; others do.|Este equipo no llega al del anfitrión; otros sí.|Cet ordinateur n'atteint pas celui de l'animateur ; d'autres y arrivent.|यह कंप्यूटर होस्ट के कंप्यूटर तक नहीं पहुँचता; दूसरे पहुँचते हैं।
host_gone|The host did not come back: the meeting is over.|El anfitrión no volvió: la reunión ha terminado.|L'animateur n'est pas revenu : la réunion est finie.|होस्ट वापस नहीं आए: मीटिंग समाप्त हुई।
host_unproven|The host did not prove that it knows the PIN.|El anfitrión no demostró que conoce el PIN.|L'animateur n'a pas prouvé qu'il connaît le PIN.|होस्ट ने साबित नहीं किया कि उसे PIN पता है।
moved|The meeting goes on at another computer.|La reunión sigue en otro equipo.|La réunion continue sur un autre ordinateur.|मीटिंग दूसरे कंप्यूटर पर चल रही है।
stale|The meeting goes on at another computer.
no_meeting|No meeting was found on this network.|No se encontró ninguna reunión en esta red.|Aucune réunion trouvée sur ce réseau.|इस नेटवर्क पर कोई मीटिंग नहीं मिली।
no_mixer|The host's computer cannot mix the sound.|El equipo del anfitrión no puede mezclar el sonido.|L'ordinateur de l'animateur ne peut pas mixer le son.|होस्ट का कंप्यूटर आवाज़ नहीं मिला सकता।
no_such_file|That file is not on offer.|Ese archivo no se ofrece.|Ce fichier n'est pas proposé.|वह फ़ाइल उपलब्ध नहीं है।
no_such_file.declined|{name} declined the file.|{name} rechazó el archivo.|{name} a refusé le fichier.|{name} ने फ़ाइल लेने से मना किया।
no_such_file.left|{name} left before the file was sent.|{name} salió antes de que se enviara el archivo.|{name} est parti avant l'envoi du fichier.|फ़ाइल भेजे जाने से पहले {name} चले गए।
no_such_file.taken_back|{name} took the file back.|{name} retiró el archivo.|{name} a retiré le fichier.|{name} ने फ़ाइल वापस ले ली।
no_such_person|Nobody called {name} is in the meeting.|Nadie llamado {name} está en la reunión.|Personne ne s'appelle {name} dans cette réunion.|मीटिंग में {name} नाम का कोई नहीं है।
no_such_person|That person is not here.|Esa persona no está aquí.|Cette personne n'est pas là.|वह व्यक्ति यहाँ नहीं है।
not_allowed|Only the host may do that.|Solo el anfitrión puede hacerlo.|Seul l'animateur peut le faire.|यह केवल होस्ट कर सकता है।
bad_command.handed_in|That file is not waiting for an answer.|Ese archivo no espera respuesta.|Ce fichier n'attend pas de réponse.|वह फ़ाइल उत्तर की प्रतीक्षा में नहीं है।
not_allowed.handed_in|That file is not waiting for an answer.
not_allowed.hurry|Too many tries: wait a minute.|Demasiados intentos: espera un minuto.|Trop d'essais : attendez une minute.|बहुत ज़्यादा प्रयास: एक मिनट रुकें।
not_allowed.removed|The host removed you from the meeting.|El anfitrión te quitó de la reunión.|L'animateur vous a retiré de la réunion.|होस्ट ने आपको मीटिंग से हटा दिया।
not_allowed.share|The host must allow you to share.|El anfitrión debe permitirte compartir.|L'animateur doit vous autoriser à partager.|साझा करने के लिए होस्ट की अनुमति चाहिए।
not_allowed.turned_away|The host did not let you in.|El anfitrión no te dejó entrar.|L'animateur ne vous a pas laissé entrer.|होस्ट ने आपको अंदर नहीं आने दिया।
other_version|Another version of ConnectSphere|Otra versión de ConnectSphere|Autre version de ConnectSphere|ConnectSphere का दूसरा संस्करण
locked|The host lets nobody else in now.|El anfitrión no deja entrar a nadie más ahora.|L'animateur ne laisse plus entrer personne.|होस्ट अभी किसी और को अंदर नहीं आने दे रहा।
no_word|Microphones are off: raise your hand to get the word.|Los micrófonos están apagados: levanta la mano para pedir la palabra.|Les micros sont coupés : levez la main pour avoir la parole.|माइक बंद हैं: बोलने के लिए हाथ उठाएँ।
not_permitted|The host has turned this off.|El anfitrión lo ha desactivado.|L'animateur a désactivé cela.|होस्ट ने इसे बंद कर दिया है।
not_permitted.work|Nothing is collected now.|Ahora no se recoge nada.|Rien n'est ramassé en ce moment.|अभी कुछ इकट्ठा नहीं किया जा रहा है।
nothing_yet|There is no picture of {name} yet.
over|The host ended the meeting.|El anfitrión terminó la reunión.|L'animateur a terminé la réunion.|होस्ट ने मीटिंग समाप्त की।
pin_required|This meeting needs a PIN.|Esta reunión necesita un PIN.|Cette réunion demande un PIN.|इस मीटिंग के लिए PIN चाहिए।
port|The {plane} port {port} cannot be used: {fault}.|El puerto {plane} {port} no se puede usar: {fault}.|Le port {plane} {port} est inutilisable : {fault}.|{plane} पोर्ट {port} उपयोग नहीं हो सकता: {fault}।
several_meetings|There are {count} meetings: choose one with --join.
share_busy|{name} shares the screen|{name} comparte la pantalla|{name} partage l'écran|{name} स्क्रीन साझा कर रहे हैं
share_busy.taken|{name} took over the screen.|{name} ha tomado la pantalla.|{name} a pris l'écran.|{name} ने स्क्रीन ले ली।
too_large|Files may have {size} at most.|Un archivo puede tener {size} como máximo.|Un fichier ne peut pas dépasser {size}.|फ़ाइल अधिकतम {size} की हो सकती है।
too_large|A message has {count} characters at most.|Un mensaje puede tener {count} caracteres como máximo.|Un message a {count} caractères au plus.|संदेश में अधिकतम {count} अक्षर हो सकते हैं।
too_large|The meeting has no room for more files.|En la reunión no caben más archivos.|La réunion n'a plus de place pour d'autres fichiers.|मीटिंग में और फ़ाइलों के लिए जगह नहीं है।
too_large.person|One person may offer {size} at most.|Cada persona puede ofrecer {size} como máximo.|Chaque personne peut proposer {size} au plus.|एक व्यक्ति अधिकतम {size} दे सकता है।
too_large.person|One person may offer {count} files at most.|Cada persona puede ofrecer {count} archivos como máximo.|Chaque personne peut proposer {count} fichiers au plus.|एक व्यक्ति अधिकतम {count} फ़ाइलें दे सकता है।
unreachable|The host does not answer.|El anfitrión no responde.|L'animateur ne répond pas.|होस्ट उत्तर नहीं दे रहा।
wrong_hash|The file changed while it was sent.|El archivo cambió mientras se enviaba.|Le fichier a changé pendant l'envoi.|भेजते समय फ़ाइल बदल गई।
wrong_pin|That is not the PIN of this meeting.|Ese no es el PIN de esta reunión.|Ce n'est pas le PIN de cette réunion.|यह इस मीटिंग का PIN नहीं है।
wrong_pin.many|Too many tries: wait a minute.
"""  # noqa: E501
CODES = tuple(line.split("|")[:2] for line in REFUSALS.split("\n")[1:-1])


class Refused(ConnectSphereError):
	"""What cannot be had: `code` and `values` as in the headless interface, and `reason`, a sentence.

	`words` is a sentence of TEXTS with places for the values; "" takes the code's own.
	"""

	def __init__(self, code: str, words: str = "", **values: Any):
		self.code, self.values = code, values
		self.reason = (
			words if isinstance(words, Words) else Words(words, **values) if words else self._sentence()
		)
		super().__init__(self.reason)

	def _sentence(self) -> Words:
		values = self.values.copy()
		if "size" in values:
			values["size"] = size_words(values["size"])
		for wanted in (f"{self.code}.{values.get('why')}", self.code):
			for code, words in CODES:
				if code == wanted and values.keys() >= set(re.findall(r"{(\w+)}", words)):
					return Words(words, **values)
		return Words("The host refused it: {code}.", code=self.code)  # of a later version

	@property
	def told(self) -> Json:
		"""`code` and values as members of a message."""
		return {"code": self.code, **self.values}

	@property
	def event(self) -> Json:
		"""`told` and the sentence, as members of an event."""
		return {**self.told, "reason": self.reason}


class PeerFault(ConnectSphereError):
	"""A peer broke the protocol: what it sent is dropped and counted under `kind`."""

	def __init__(self, kind: str, detail: str = ""):
		super().__init__(f"{kind}: {detail}" if detail else kind)
		self.kind = kind
		self.key = ""  # the member of the message in which it is

	@property
	def refused(self) -> Refused:
		"""What its peer is told."""
		if self.kind == "flood":
			return Refused("not_allowed", why="hurry")
		if self.kind == "bad_ticket":
			return Refused(self.kind)
		return Refused("bad_command", fault=self.kind, **({"key": self.key} if self.key else {}))


def system_words(error: Exception) -> Words:
	"""What the system says of an error: TEXTS has the usual ones."""
	return Words(getattr(error, "strerror", None) or str(error))


UNREADABLE = "{path} cannot be read: {fault}."
UNWRITABLE = "{path} cannot be saved: {fault}."
UNPLAYABLE = "“{key}” is missing or of the wrong kind."
NO_MEETING = "No meeting was found on this network."
UNLOADED = "{what} cannot be loaded: {mend}."


class DeviceError(Refused):
	"""A camera, microphone, speaker or screen that is missing, busy or unplugged."""

	def __init__(self, words: str, **values: Any):
		super().__init__("device", words, **values)


def need(*names: str) -> None:
	"""Import these packages; DeviceError says how to get what is missing."""
	for name in names:
		try:
			importlib.import_module(name)
		except ImportError as fault:
			packages = "numpy opencv-python mss Pillow cryptography spake2==0.9 ifaddr pyaudio"
			mend = f'"uv run connectsphere.py", or: python3 -m pip install {packages}'
			raise DeviceError(UNLOADED, what=f"{name} ({fault})", mend=mend) from None


class UsageError(ConnectSphereError):
	"""Options that make no sense together: status 2."""


class SealError(ConnectSphereError):
	"""A number would repeat or run out under its key."""


class Counters:
	"""Counts by name; any thread."""

	def __init__(self) -> None:
		self._counts = Counter[str]()
		self._lock = Lock()

	def add(self, name: str, amount: int = 1) -> None:
		"""Count `name`."""
		with self._lock:
			self._counts[name] += amount

	def snapshot(self) -> dict[str, int]:
		"""All counts of now."""
		with self._lock:
			return dict(self._counts)


Same = TypeVar("Same")  # a type that comes out as it went in


def _late(cls: type[Same], **how: Any) -> type[Same]:
	"""A dataclass whose methods are written when the first is made: each takes 0.1 ms of a start."""
	made: Any = dataclass(init=False, repr=False, eq=False)(cls)

	def write(self: Any, *values: Any, **named: Any) -> None:
		parts = [(one.name, one.type, one) for one in fields(made)]
		after = {"__post_init__": None} if hasattr(made, "__post_init__") else {}
		twin = make_dataclass("_", parts, namespace=after, **how)
		for name, method in reversed([*vars(twin).items()]):  # `__init__` last, for other threads
			if hasattr(method, "__code__"):
				setattr(made, name, method)
		made.__init__(self, *values, **named)

	made.__init__ = write
	return cls


@dataclass_transform(field_specifiers=(field,))
def entity(cls: type[Same]) -> type[Same]:
	"""A dataclass that is equal to itself alone."""
	return _late(cls, eq=False, repr=False)


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def frozen(cls: type[Same]) -> type[Same]:
	"""A dataclass that does not change."""
	return _late(cls, frozen=True)


def busiest(places: Mapping[Same, str]) -> list[Same]:
	"""The holders of `places` at the address that holds most of them, in order: one of these makes way."""
	crowd = Counter(places.values()).most_common(1)[0][0]
	return [holder for holder, address in places.items() if address == crowd]


def makes_way(places: Mapping[Same, str], address: str) -> Same | None:
	"""Who makes way for one more at `address`: the last of the busiest address; None: that one itself."""
	crowd = busiest(places)
	return crowd[-1] if [*places.values()].count(address) + 1 < len(crowd) else None


class TokenBucket:
	"""A rate limit: `burst` at once, refilled at `rate` a second."""

	def __init__(self, burst: float, rate: float):
		self._burst, self._rate = burst, rate
		self._level, self._at = burst, 0.0

	def take(self, now: float, amount: float = 1.0) -> bool:
		"""Whether `amount` may pass at `now`; if so it is taken."""
		self._level = min(self._burst, self._level + (now - self._at) * self._rate)
		self._at = now
		if self._level < amount:
			return False
		self._level -= amount
		return True


class KeyedBuckets:
	"""A `TokenBucket` a key, of the MOST keys used last."""

	MOST = 1_024

	def __init__(self, burst: float, rate: float):
		self._burst, self._rate = burst, rate
		self._each: dict[Hashable, TokenBucket] = {}

	def take(self, key: Hashable, now: float, amount: float = 1.0) -> bool:
		"""`TokenBucket.take` of that key."""
		bucket = self._each[key] = self._each.pop(key, TokenBucket(self._burst, self._rate))
		if len(self._each) > self.MOST:
			del self._each[next(iter(self._each))]
		return bucket.take(now, amount)


Flow = tuple[Hashable, Hashable, Hashable]  # group, address, person


class FairQueue:
	"""Who is served next: at each level whoever has used least (start-time fair queueing, 1996).

	A flow that comes after a pause starts level with the one in service: a pause earns nothing. `weights`
	share a level, 1 by default.
	"""

	_REMEMBERED = 4_096

	def __init__(self, weights: Mapping[str, float]):
		self._weights = weights
		self._flows: dict[Any, Flow] = {}
		self._below: dict[tuple[Hashable, ...], dict[Any, None]] = {}  # parts that wait; items below a flow
		self._used: dict[tuple[Hashable, ...], float] = {}
		self._floor: dict[tuple[Hashable, ...], float] = {}  # by parent: what its child in service had used

	def __len__(self) -> int:
		return len(self._flows)

	def add(self, item: Hashable, flow: Flow) -> None:
		"""Have `item` wait in `flow`; one that waits stays where it is."""
		if item in self._flows:
			return
		self._flows[item] = flow
		self._below.setdefault(flow, {})[item] = None
		for depth in range(len(flow), 0, -1):
			part, parent = flow[:depth], flow[: depth - 1]
			others = self._below.setdefault(parent, {})
			if part not in others:
				others[part] = None
				self._used[part] = max(self._used.get(part, 0.0), self._floor.get(parent, 0.0))

	def discard(self, item: Hashable) -> None:
		"""`item` waits no longer."""
		if (flow := self._flows.pop(item, None)) is None:
			return
		gone: Any = item
		for depth in range(len(flow), -1, -1):
			self._below[flow[:depth]].pop(gone, None)
			if self._below[flow[:depth]]:
				return
			del self._below[flow[:depth]]
			gone = flow[:depth]

	def pop(self) -> tuple[Any, Flow]:
		"""The item whose turn it is, and its flow; of one flow the oldest."""
		part: tuple[Hashable, ...] = ()
		while len(part) < 3:
			best = min(self._below[part], key=self._used.__getitem__)
			self._floor[part] = self._used[best]
			part = best
		item = next(iter(self._below[part]))
		flow = self._flows[item]
		self.discard(item)
		return item, flow

	def charge(self, flow: Flow, cost: float) -> None:
		"""Serving `flow` has cost that much."""
		for depth in range(1, len(flow) + 1):
			part = flow[:depth]
			self._used[part] = self._used.get(part, 0.0) + cost / self._weights.get(str(part[-1]), 1.0)
		if len(self._used) > self._REMEMBERED:  # who was forgotten starts anew
			waiting = {part for parts in self._below.values() for part in parts}
			self._used = {part: used for part, used in self._used.items() if part in waiting}
			self._floor = {part: used for part, used in self._floor.items() if part in self._below}


def as_typed(text: str) -> str:
	"""What was typed, in one form: NFKC, trimmed, digits of any script as 0 to 9."""
	kept = (char for char in unicodedata.normalize("NFKC", text) if unicodedata.category(char) != "Cf")
	return "".join(str(unicodedata.decimal(char, char)) for char in kept).strip()


def clean_pin(text: str) -> str:
	"""A PIN as it counts: of digits without gaps and dashes."""
	pin = as_typed(text)
	digits = re.sub(r"[\s\-\u2010-\u2015\u2212]", "", pin)
	return digits if digits.isdecimal() else pin


def harmless(text: str) -> str:
	"""`text` without what controls a terminal; the same JSON."""
	return "".join(char if char.isprintable() else json.dumps(char)[1:-1] for char in text)


_BLANK = re.compile(  # fillers and selectors that show nothing, though not of a category C
	"[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2028\u2029\u2800\ufe00-\ufe0f\U0001d159\U000e0100-\U000e01ef]"
)


def clean_name(text: str, limit: int = MAX_NAME) -> str:
	"""A name safe to show: NFKC, no control, format, bidi, ignorable or blank characters.

	At most 2 combining marks in a row, white space folded, 1 to `limit` characters; else "Guest".
	"""
	kept: list[str] = []
	marks = 0
	for char in unicodedata.normalize("NFKC", text):
		category = unicodedata.category(char)
		if category[0] == "C" or _BLANK.match(char):
			continue
		marks = marks + 1 if category in ("Mn", "Me") else 0
		if marks <= 2:
			kept.append(char)
	name = " ".join("".join(kept).split())
	name = name if len(name) <= limit else name[: limit - 3].rstrip() + "..."
	return name if any(unicodedata.category(char)[0] not in "MZ" for char in name) else "Guest"


def trimmed(text: str) -> str:
	"""`text` without blank lines around it; its first line stays indented."""
	return re.sub(r"\A\s*\n", "", text.rstrip())


def clean_text(text: str, limit: int = MAX_CHAT) -> str:
	"""Chat text without control or bidi characters; line breaks and joiners stay."""
	text = unicodedata.normalize("NFC", text)[:limit]
	chars = set(text).difference("\n\t\u200c\u200d")
	return trimmed(text.translate({ord(one): None for one in chars if unicodedata.category(one)[0] == "C"}))


_LOOKALIKES = """
2 ƧƻϨᒿ⨧ꙄꛯꝚ
3 ƷȜЗҘӠ३૩ⲜⳄⳌꝪꞫ
4 Ꮞᔯᔰ
5 Ƽ
6 ϬбᏮⳓⳜ
8 ȣ৪੪
9 ৭੧୨൭ⳋꝮ
a ɑαаᎪᗅ⍶⍺ꓮ
aa ꜳ
ae æӕ
ao ꜵ
au ꜷ
av ꜹꜻ
ay ꜽ
b ƄβБвьѣҍᏏᏴᑲᑳᑾᑿᒀᒁᒈᖯᗷⲂꓐꞴ
c ¢ΣςсҫငၚᏟ₡ⲥꓚ
d ÐԁᎠᏧᑯᑺᑻᒇᗞᗪ₫ꓒꓓ
dz ʣ
e εеєҽҿᎬ℮⋿ⴹꓰꬲ
f Ϝքᖴẝꓝꬵ
g ƍԍցᏀᏳꓖ
h ΗнћҢһӇӉհᎻᏂᏲᕼⲎꓧꚕ
j ϳјᎫᒍᒘᒙꓙ
k κкҚҞᏦᛕ₭Ⲕꓗ
l ǀɩιіӏւ׀וןױا١ٳ۱ߊᎥᏞᒪᒶᒷᛁᵻᵼ∣⍳⍸⏽│ⲓⳐⵏꓡꓲꙇ
ll ǁװ‖∥
m μϺмӍᎷᗰᛖ₥Ⲙꓟ
n ŋΝηпղոռⲚꓠ
o ɵθοσϭоѳөօסه٥ھہە۵ۿ߀०০੦૦ଠ୦௦౦೦ഠ൦๐໐တဝ၀თჿዐᎤᎾᏫ០ᴑ⊖⊝⍬ⲑⲟⴱⵁⵔ〇ꓳꬽꬾ
oe œ
oo ٪⁒∞ꚙꝏ
p þƿρϸрᏢᑭᑶᑷᒆ⍴ⲣⳏꓑ
q ԛգզⵕ
r гґғᎡᏒᖇᴦⲅꓣꭇꭈꮁ
s ƽѕՏടᏕᏚꓢ
t τтҬᎢ₮⊤⍡⟙Ⲧꓔ
ts ʦ
u ɄʋυџսሀᏌᑌᑗᑘᑧᵾ∪⋃ꓴꞟ
ue ᵫ
uo ꭣ
v νѵט٧۷Ꮩᐯᐺᐻ∨⋁ⴸꓦꛟ
w ɯωшѡѽԝաᎳᏔ₩ⲽꓪꝡ
x ×χхҲᕁᕽ᙭᙮ᚷ╳⤫⤬⨯⨰ⲬⵝꓫꞳ
y ¥ɣΥγуүұყᎩᎽᶌⲩꓬ
z ζᏃꓜ
"""  # from Unicode's confusables.txt, without what NFKD, case and names tell
_LATIN_NAME = re.compile(
	"LATIN (?:SMALL LETTER|CAPITAL LETTER|LETTER SMALL CAPITAL)(?: DOTLESS| SCRIPT)? ([A-Z])(?: WITH .*)?$"
)
_LATIN_TWINS = {"1": "l", "i": "l", "|": "l", "0": "o"}


@lru_cache(4_096)
def _latin(char: str) -> str:
	if char.isascii():
		return _LATIN_TWINS.get(char, char)
	if (at := _LOOKALIKES.find(char)) >= 0:
		return _LOOKALIKES[_LOOKALIKES.rindex("\n", 0, at) + 1 :].split(" ", 1)[0]
	named = _LATIN_NAME.match(unicodedata.name(char, ""))
	return _LATIN_TWINS.get(named[1].lower(), named[1].lower()) if named else char


def skeleton(text: str) -> str:
	"""What `text` looks like at a glance: equal for names that a reader would confuse.

	Case, accents, spaces, punctuation and invisible characters do not count.
	"""
	seen = "".join(map(_latin, unicodedata.normalize("NFKD", text)))  # capitals look like others
	folded = "".join(map(_latin, unicodedata.normalize("NFKD", seen.casefold())))
	letters = "".join(char for char in folded if char.isalnum() and unicodedata.category(char) != "Lm")
	merged = letters.replace("rn", "m").replace("vv", "w")
	return merged or "".join(char for char in folded if unicodedata.category(char)[0] not in "CMZ")


@lru_cache(4_096)
def looks(text: str) -> frozenset[str]:
	"""The skeletons of `text` and of its small letters: names that have one in common are confused."""
	return frozenset(filter(None, (skeleton(text), skeleton(text.casefold()))))


# -- file names
#
# Names come from other people. What is left here is a name, never a path, that every platform takes,
# that opens nothing and that no shell acts on when it merely lists the directory.

MAX_FILE_NAME = 180  # bytes of UTF-8: room for " (2)", ".blocked" and ".part" under the usual 255
BLOCKED = ".blocked"
_FORBIDDEN = str.maketrans(dict.fromkeys('<>:"|?*', "_"))
_DEVICE = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|clock\$|(com|lpt)[0-9¹²³]) *(\.|$)", re.IGNORECASE)
_CLASS_ID = re.compile(r"\{[0-9a-f-]+\}", re.IGNORECASE)
_EXECUTABLE = frozenset(
	"""
    accde ade adp ahk appimage app appinstaller application applescript appref-ms au3 bash bat btm bundle
    cdxml chm class cmd com command cpl csh deb dll dmg dylib egg elf exe fish flatpakref flatpakrepo gadget
    gem hlp hta inf ins iso isp img jar jmod job jnlp js jse kdelnk ksh mobileconfig mpkg mjs msc msh msh1
    msh2 msi msix msixbundle msp mst msu nsi ocx osax pif pkg pl prefpane ps1 ps1xml ps2 psc1 psc2 psd1 psm1
    pssc py pyc pyd pyo pyw pyz pyzw rb rdp reg rgs rpm run saver scpt scptd scr sct service sh shb snap so
    sys tcsh terminal tool vb vbe vbs vbscript vhd vhdx vsix vxd war whl workflow ws wsb wsc wsf wsh xbap xll
    zsh action appx appxbundle
    """.split()
)
_ACTED_ON = frozenset(  # by extension, or by whole name
	"""
    contact desklink desktop desktopthemepack deskthemepack diagcab directory fileloc inetloc library-ms
    lnk mad maf mag mam maq mar mas mat mau mav maw mda mapimail searchconnector-ms search-ms scf
    settingcontent-ms theme themepack url webloc website desktop.ini autorun.inf thumbs.db folder.htt
    """.split()
)


def _extension(name: str) -> str:
	return name.rpartition(".")[2].strip().casefold() if "." in name else ""


def _shorten(name: str) -> str:
	if len(name.encode()) <= MAX_FILE_NAME:
		return name
	stem, dot, extension = name.rpartition(".")
	if not stem or len(extension.encode()) > 20:
		stem, dot, extension = name, "", ""
	room = MAX_FILE_NAME - len((dot + extension).encode())
	return stem.encode()[:room].decode("utf-8", "ignore").strip(". ") + dot + extension


def safe_file_name(text: str) -> str:
	"""The last component of `text`, without control, format or bidi characters, device names, streams, or
	dots and spaces at its ends; at most MAX_FILE_NAME bytes.

	Kinds that run, or that a shell acts on when it lists them, get ".blocked"; twice changes nothing.
	"""
	last = re.split(r"[/\\]", text.rstrip("/\\ "))[-1]
	shown = "".join(" " if c.isspace() else c for c in last)
	kept = "".join(c for c in shown if unicodedata.category(c)[0] != "C")
	name = " ".join(unicodedata.normalize("NFC", kept).translate(_FORBIDDEN).split()).strip(". ")
	core = name.removesuffix(BLOCKED).rstrip(". ") or "file"
	core = _shorten("_" + core if _DEVICE.match(core) else core)
	acted_on = not _ACTED_ON.isdisjoint((_extension(core), core.casefold()))
	return core + BLOCKED if acted_on or name.endswith(BLOCKED) or is_executable_name(core) else core


def is_executable_name(name: str) -> bool:
	"""Whether a file of this name, blocked or not, is a program on some platform."""
	extension = _extension(name.removesuffix(BLOCKED))
	return extension in _EXECUTABLE or _CLASS_ID.fullmatch(extension) is not None


def unique_name(name: str, exists: Callable[[str], bool]) -> str:
	"""`name`, or the first of "name (2).ext", "name (3).ext" ... that does not exist."""
	stem, suffix = PurePosixPath(name).stem, PurePosixPath(name).suffix
	others = (f"{stem} ({number}){suffix}" for number in itertools.count(2))
	return next(one for one in itertools.chain([name], others) if not exists(one))


# ====
# [2] WIRE - every byte that crosses the network, both ways
# Uses: BASICS

# -- control: newline-delimited JSON

Check = Callable[[Any], Any]
Shape = Mapping[str, Check]


def _that(holds: Callable[[Any], bool], expected: str) -> Check:
	def check(value: Any) -> Any:
		if not holds(value):
			raise PeerFault("bad_field", f"expected {expected}")
		return value

	return check


def _text(limit: int, pattern: str = "(?s:.*)") -> Check:
	fits = re.compile(pattern).fullmatch
	words = f"a text of at most {limit}"
	return _that(lambda text: isinstance(text, str) and len(text) <= limit and fits(text) is not None, words)


def _integer(low: int, high: int) -> Check:
	return _that(lambda one: type(one) is int and low <= one <= high, f"an integer in {low}..{high}")


def _number(low: float, high: float) -> Check:  # as it came: 0 is not 0.0 for everybody
	return _that(lambda one: type(one) in (int, float) and low <= one <= high, f"a number in {low}..{high}")


def _exactly(*values: str) -> Check:
	return _that(lambda value: value in values, "one of the known values")


_flag = _that(lambda value: type(value) is bool, "true or false")
_object = _that(lambda value: isinstance(value, dict), "an object")


def _shown(limit: int) -> Check:
	"""Of a server, in sentences: no control or bidi characters, as `clean_text`."""
	return _text(limit, r"[^\0-\x08" + _CONTROLS)


def _hex(octets: int) -> Check:
	return _text(2 * octets, f"[0-9a-f]{{{2 * octets}}}")


def _either(*checks: Check) -> Check:
	def check(value: Any) -> Any:
		for one in checks:
			with suppress(PeerFault):
				return one(value)
		raise PeerFault("bad_field", "no alternative fits")

	return check


def _listing(of: Check, most: int) -> Check:
	listed = _that(lambda value: isinstance(value, list) and len(value) <= most, f"a list of at most {most}")
	return lambda value: [of(item) for item in listed(value)]


def _mapping(key: Check, of: Check, most: int) -> Check:
	mapped = _that(lambda value: isinstance(value, dict) and len(value) <= most, f"at most {most} members")
	return lambda value: {key(name): of(item) for name, item in mapped(value).items()}


def _record(shape: Shape) -> Check:
	return lambda value: _shaped(_object(value), shape)


def _shaped(value: Json, shape: Shape) -> Json:
	kept: Json = {}
	for name, check in shape.items():
		key = name.rstrip("?")
		try:
			if key in value:
				kept[key] = check(value[key])
			elif not name.endswith("?"):
				raise PeerFault("bad_field", f"{key} is missing")
		except PeerFault as fault:
			fault.key = key
			raise
	return kept


_ID = _integer(0, 2**32 - 1)
_COUNT = _integer(0, 2**53)
_TYPED = _text(256)
_CONTROLS = r"\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]*"  # bidi ones, too
_NAME = _text(256, r"[^\0-\n" + _CONTROLS)
_CODE = _text(32, "[a-z0-9_]+")
_KEY = _hex(16)
_TOKEN = _hex(32)
_FILE_ID = _text(32, "[0-9a-f]{1,32}")
_EPOCH = _integer(1, 4_095)  # which of the servers of one meeting, one after the other
_FPS = _integer(1, MAX_FPS)
_LAYER = _integer(0, len(LAYERS) - 1)
_TIME = _number(0, 3e10)  # Windows' clocks end in 3000
_ROLE = _exactly("host", "co-host", "member")
_VERSION = _integer(1, 1_000_000)
_MEETING = _text(64, "[!-~]{1,64}")
_KIND = _exactly("", "sheet", "work")
PERMITS = ("mic", "camera", "chat", "private", "share", "react", "files")  # what members may do
_WHAT = _exactly(*PERMITS)
_PERMITS = _listing(_WHAT, len(PERMITS))
DOORS = ("open", "knock", "locked")
_DOOR = _exactly(*DOORS)
MOST_ANSWERS = 5
MOST_FILES = 1_000
MOST_ROWS = 250  # of attendance, in one message
DAY_SECONDS = 86_400

# -- records: what is known of a person, a line, a file on offer, a meeting

Id = Annotated[int, _ID]
Count = Annotated[int, _COUNT]
Name = Annotated[str, _NAME]
Sender = Annotated[str, _NAME, "from"]
Flag = Annotated[bool, _flag]
Time = Annotated[float, _TIME]
Digest = Annotated[str, _TOKEN]
Vote = Annotated[int, _integer(-1, MOST_ANSWERS - 1)]  # the place of an answer; -1: none
Proof = Annotated[Json, _record({"epoch": _COUNT, "nonce": _TOKEN, "signature": _hex(64)}), "proof?"]


class Record:
	"""A dataclass that JSON is made of, and checked by: its fields `Annotated[type, check, key]`.

	The key, by default the field's name, ends in "?": left out while empty; in "!": the server
	keeps it and tells nobody. Other fields are in no JSON.
	"""

	@classmethod
	@cache
	def parts(cls) -> Mapping[str, tuple[str, Check]]:
		"""(key, check) by the name of the field."""
		found: dict[str, tuple[str, Check]] = {}
		for name, hint in get_type_hints(cls, include_extras=True).items():
			if marks := getattr(hint, "__metadata__", ()):
				found[name] = (*marks[1:], name)[0], marks[0]
		return found

	@classmethod
	def shape(cls, *, kept: bool = False) -> Shape:
		return {key.rstrip("!"): check for key, check in cls.parts().values() if kept or key[-1] != "!"}

	@classmethod
	def read(cls, value: Json, **more: Any) -> Self:
		"""The record of checked JSON, and `more` fields."""
		keys = {name: key.rstrip("?!") for name, (key, _) in cls.parts().items()}
		return cls(**{name: value[key] for name, key in keys.items() if key in value}, **more)

	def message(self, *, kept: bool = False) -> Json:
		"""Its JSON, as it is told or `kept`."""
		said = {key: getattr(self, name) for name, (key, _) in self.parts().items() if kept or key[-1] != "!"}
		return {key.rstrip("?!"): value for key, value in said.items() if value or key[-1] != "?"}


@frozen
class Person(Record):
	"""One participant, as in the roster."""

	id: Id
	name: Name
	role: Annotated[str, _ROLE] = "member"
	mic: Flag = False
	camera: Flag = False
	hand: Time = 0.0  # when the hand went up, in seconds of the meeting; 0: down
	sharing: Flag = False
	paused: Annotated[bool, _flag, "paused?"] = False  # what it shares stands still
	proof: Proof = field(default_factory=dict, hash=False)  # of the host's right, for everyone to check

	@property
	def leads(self) -> bool:
		"""Whether this is a host or co-host."""
		return self.role != "member"


@frozen
class Line(Record):
	"""A line of chat."""

	n: Count
	sender: Sender
	text: Annotated[str, _text(MAX_CHAT)]
	at: Time
	id: Id = 0


@frozen
class FileOffer(Record):
	"""A file on offer, to everyone or to one person alone (`private`)."""

	file: Annotated[str, _FILE_ID]
	name: Annotated[str, _text(1024)]
	size: Count
	sender: Sender
	private: Flag = False
	sha256: Digest = ""
	id: Id = 0  # the sender's
	kind: Annotated[str, _KIND, "kind?"] = ""  # a sheet is handed out, work is handed in
	task: Annotated[str, _NAME, "task?"] = ""  # the title under which work was collected
	at: Annotated[float, _TIME, "at?"] = 0.0  # unix seconds at which work was handed in


@frozen
class Ad(Record):
	"""A meeting, as discovery says it."""

	meeting: Annotated[str, _MEETING]
	title: Name
	host: Name
	port: Annotated[int, _integer(1, 63_535)]
	people: Count
	pin: Flag
	locked: Flag
	fingerprint: Digest
	version: Annotated[int, _VERSION] = PROTOCOL
	stands_for: Annotated[str, _either(_exactly(""), _TOKEN), "stands_for?"] = ""  # which server failed


# a server of a meeting, or one that may become it: at whose computer
_SERVER = _record({"fingerprint": _TOKEN, "name": _NAME, "address": _shown(64), "port": _integer(1, 63_535)})
# ids and line numbers of each epoch begin there, so that no two servers of a meeting give the same
ID_SHIFT, LINE_SHIFT = 20, 32
# what the host signs: in what order others follow the first of `servers`; n: grows with each that she
# signs; by server, who has her rights there
RECORD = {
	"meeting": _hex(16), "title": _NAME, "pin": _flag, "epoch": _EPOCH, "host_key": _TOKEN, "n": _COUNT,
	"servers": _listing(_SERVER, 4), "rights?": _mapping(_TOKEN, _NAME, 1),
}  # fmt: skip


def digest(token: str) -> str:
	"""The SHA-256 under which a token is kept."""
	return hashlib.sha256(token.encode()).hexdigest()


def permitted(what: str, off: Collection[str], exempt: bool, has_word: bool) -> bool:
	"""Whether a member may do `what` of PERMITS: the rule for all, its exceptions, and the word."""
	return (what == "mic" and has_word) or (what not in off) != exempt


@frozen
class Rules(Record):
	"""What hosts have set for the class; for those in `exceptions` it is the other way round.

	`word`: who may speak although microphones are off; `spotlight`: who is shown large to all.
	"""

	off: Annotated[list[str], _PERMITS] = field(default_factory=list)
	exceptions: Annotated[
		Mapping[str, list[str]], _mapping(_WHAT, _listing(_NAME, MAX_PEOPLE), len(PERMITS))
	] = field(default_factory=dict)
	word: Name = ""
	spotlight: Name = ""
	door: Annotated[str, _DOOR] = "open"
	collecting: Name = ""  # the title of the work that is handed in now
	one_room: Annotated[bool, _flag, "one_room?"] = False

	def permits(self, what: str, name: str) -> bool:
		return permitted(what, self.off, name in self.exceptions.get(what, ()), name == self.word != "")


def not_permitted(what: str) -> Refused:
	"""The refusal of `what` of PERMITS."""
	return Refused("no_word") if what == "mic" else Refused("not_permitted", why=what)


@frozen
class Question(Record):
	"""A quick question to the class, "": none. `counts` are for hosts, and for all once it is over."""

	question: Annotated[str, _shown(300)] = ""
	answers: Annotated[list[str], _listing(_shown(100), MOST_ANSWERS)] = field(default_factory=list)
	counts: Annotated[Sequence[int], _listing(_COUNT, MOST_ANSWERS), "counts?"] = ()
	own: Vote = -1  # one's own


@frozen
class Attended(Record):
	"""How long somebody was here: came and went in unix seconds (0: is here), seconds in all, links lost."""

	name: Name
	came: Time
	went: Time
	seconds: Time
	lost: Count


_USER = _record(Person.shape())
_LINE = Line.shape()
_NOTHING: Shape = {}  # but the type
_ON = {"on": _flag}
_WHO = {"who": _ID}
_FILE = {"file": _FILE_ID}
_PERSON = {"id": _ID, "name": _NAME}
_OWN = {"ref?": _COUNT}  # only its author is told
_PRIVATE_LINE = {**_LINE, "to_name": _NAME}

_VALUES: Shape = {  # of the sentence of a code, see REFUSALS
	"why?": _CODE, "name?": _NAME, "key?": _text(64), "fault?": _CODE, "size?": _COUNT, "count?": _COUNT,
	"versions?": _listing(_COUNT, 16),
}  # fmt: skip
_REFUSAL: Shape = {"code": _CODE, **_VALUES}

_ASKED = _exactly("share", "camera", "work", "stand_by")
SIGNED = {"record": _text(4_000), "signature": _hex(64)}

FEATURES = ("sound_pairs", "webp", "patch")  # what not every version 1 has; each side says its own
_FEATURES = _listing(_CODE, 32)
_HELLO: Shape = {
	"v": _COUNT, "name": _TYPED, "pin?": _flag, "resume?": _TOKEN, "host?": _TOKEN, "epoch?": _EPOCH,
	"features?": _FEATURES,
}  # fmt: skip
_WELCOME: Shape = {
	"id": _ID, "name": _NAME, "role": _ROLE, "resume": _TOKEN, "features?": _FEATURES,  # of the newcomer
	"video_up": _KEY, "video_down": _KEY, "audio_up": _KEY, "audio_down": _KEY,
	"meeting": _hex(16), "title": _NAME, "host": _NAME, "epoch": _EPOCH, "served_by": _NAME, "lasted?": _TIME,
	"users": _listing(_USER, MAX_PEOPLE), "presenter": _ID, "largest_file": _COUNT,
	"chat": _listing(_record({**_LINE, **_OWN}), HISTORY),
	"private": _listing(_record({**_PRIVATE_LINE, **_OWN}), HISTORY),
	"files": _listing(_record(FileOffer.shape()), MOST_FILES),
	"host_key?": _TOKEN, "record?": _record(SIGNED), "pin?": _text(MAX_PIN),
}  # fmt: skip

# Each may carry `ref` too, either way.
CLIENT_MESSAGES: Mapping[str, Shape] = {
	"hello": _HELLO,
	"probe": {"v": _COUNT, "meeting": _hex(16)},
	"proof": {"signature": _hex(64)},
	"pin": {"message": _hex(33)},
	"pin_proof": {"mac": _TOKEN},
	"chat": {"text": _text(MAX_CHAT)},
	"private_chat": {"to_name": _NAME, "text": _text(MAX_CHAT)},
	"reaction": {"emoji": _text(32)},
	"hand": {"up": _flag},
	"watch": {
		"streams": _mapping(_text(10, "[0-9]{1,10}"), _record({"layer": _LAYER, "fps": _FPS}), MAX_PEOPLE)
	},
	"volume": {"gains": _mapping(_text(10, "[0-9]{1,10}"), _number(0, 2), MAX_PEOPLE)},
	"report": {"loss": _number(0, 1), "delay_ms": _number(-1e6, 1e6), "kbps?": _number(0, 1e8)},
	"ticket": {
		"plane": _exactly("screen", "files"),
		"direction": _exactly("presenter", "viewer", "upload", "download"),
		"file?": _FILE_ID,
	},
	"file_offer": {"name": _text(1024), "size": _COUNT, "sha256": _TOKEN, "to_name?": _NAME, "kind?": _KIND},
	"mute": {"who": _either(_ID, _exactly("all")), "what?": _exactly("mic", "camera")},
	"unban": {"who": _NAME},
	"permit": {"what": _WHAT, "on": _flag, "who?": _ID},
	"lower": {"who": _either(_ID, _exactly("all"))},
	"door": {"mode": _DOOR},
	"cohost": {"who": _ID, "on": _flag},
	"room": {"same": _ID},
	"ask_share": {"who": _ID, "what?": _exactly("camera")},
	"agree": {"to": _exactly("share", "stand_by"), "yes": _flag},
	"standing_by": {"fingerprint": _TOKEN, "port": _integer(0, 63_535), "rank": _integer(0, 3)},
	"claims": {"digests": _mapping(_TOKEN, _TOKEN, 8)},
	"record": SIGNED,
	"hand_over": {"to": _ID, "rights": _flag},
	"line": _LINE,
	"rename": {"name": _TYPED, "who?": _ID},
	"question": {"question": _text(300), "answers": _listing(_text(100), MOST_ANSWERS)},
	"answer": {"index": _integer(0, MOST_ANSWERS - 1)},
	"timer": {"seconds": _integer(0, DAY_SECONDS)},
	"collect": {"title": _TYPED},
	"admit": {"ask": _COUNT, "on": _flag},
	"ping": {"t": _number(0, 2**53), "took_ms?": _number(0, 1e8)},
	**dict.fromkeys(("mic", "pause", "one_room"), _ON),
	**dict.fromkeys(("remove", "word", "spotlight", "stand_by"), _WHO),
	**dict.fromkeys(("opened", "decline", "cancel"), _FILE),
	**dict.fromkeys(("user_list", "video_start", "video_stop", "take_over", "new_pin", "early"), _NOTHING),
	**dict.fromkeys(("close_question", "remind", "attendance", "serving", "resumed"), _NOTHING),
	**dict.fromkeys(("leave", "end"), _NOTHING),
}

HOSTS_ALONE = frozenset({"end", "cohost", "hand_over"})
HOST_ONLY = HOSTS_ALONE | {
	"mute", "remove", "unban", "take_over", "admit", "permit", "word", "lower", "door",
	"spotlight", "ask_share", "question", "close_question", "timer", "collect", "attendance",
	"one_room", "remind", "stand_by", "new_pin",
}  # fmt: skip


def may_say(role: str, kind: str) -> bool:
	"""Whether that role may send such a message."""
	return role == "host" or kind not in (HOSTS_ALONE if role == "co-host" else HOST_ONLY)


SERVER_MESSAGES: Mapping[str, Shape] = {
	"welcome": _WELCOME,
	"prove": {"meeting": _hex(16), "epoch": _COUNT, "id": _ID, "nonce": _TOKEN},
	"pin": {"message": _hex(33)},
	"pin_proof": {"mac": _TOKEN},
	"user_list": {"users": _listing(_USER, MAX_PEOPLE)},
	"leave": {"id": _ID, "name": _NAME, "reason": _text(500)},
	"chat": _LINE,
	"private_chat": _PRIVATE_LINE,
	"reaction": {"n": _COUNT, "id": _ID, "from": _NAME, "emoji": _shown(32)},
	"encode": {
		"n": _COUNT,
		"layers": _mapping(_text(1, "[0-3]"), _FPS, len(LAYERS)),
		"coarse?": _listing(_LAYER, len(LAYERS)),
		"webp?": _flag,
		"patch?": _flag,
	},
	"muted": {"by": _NAME, "what?": _exactly("camera")},
	"ticket": {"ticket": _hex(16), "file?": _FILE_ID},
	"file_offer": FileOffer.shape(),
	"file_ready": _FILE,
	"file_gone": {"file": _FILE_ID, **_REFUSAL},
	"file_saved": {"file": _FILE_ID, "people": _COUNT, "name": _NAME, "opened": _flag},
	"audio_keys": {"up": _KEY, "down": _KEY},
	"asks": {
		"ask": _COUNT,
		"name": _NAME,
		"address": _shown(64),
		"why?": _exactly("pin", "removed", "knock"),
	},
	"ask_gone": {"ask": _COUNT},
	"new_pin": {"pin": _text(MAX_PIN)},
	"rules": Rules.shape(),
	"rooms": {"groups": _listing(_listing(_ID, MAX_PEOPLE), MAX_PEOPLE)},
	"question": Question.shape(),
	"timer": {"left": _number(0, DAY_SECONDS)},
	"asked": {"to": _ASKED, "by": _NAME},
	"agreed": {"to": _ASKED, "name": _NAME, "yes": _flag},
	"stand_by": {"name": _NAME, "state": _exactly("asked", "ready", "refused", "unreachable")},
	"sign": {"servers": _listing(_SERVER, 4)},
	"record": SIGNED,
	"copy": {"state": _object},
	"serve": {"epoch": _EPOCH},
	"moved": {"server": _SERVER, "epoch": _EPOCH},
	"alive": {"epoch": _EPOCH, "serving": _flag, "hosted": _flag, "linked": _flag},
	"attendance": {"rows": _listing(_record(Attended.shape()), MOST_ROWS)},
	"banned": {"names": _listing(_NAME, MAX_PEOPLE)},
	"host_away": {"seconds": _COUNT},
	"pong": {"t": _number(0, 2**53), "class_ms?": _number(0, 1e8)},
	"join": {"user": _USER},
	"state": {"user": _USER},
	**dict.fromkeys(("video_start", "video_stop", "screen_start", "screen_stop"), _PERSON),
	**dict.fromkeys(("denied", "error", "ended", "removed"), _REFUSAL),
	**dict.fromkeys(("waiting", "listen", "ok"), _NOTHING),
}


def refusal(message: Json) -> Refused:
	"""What the server refused by `message`."""
	return Refused(message["code"], **{key: message[key] for key in message if f"{key}?" in _VALUES})


def encode_line(message: Json) -> bytes:
	"""`message` as a line of JSON; ValueError for NaN, PeerFault when over 64 KiB."""
	line = json.dumps(message, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
	data = line.encode("utf-8", "replace") + b"\n"
	if len(data) > MAX_LINE:
		raise PeerFault("long_line", str(message.get("type")))
	return data


MAX_DEPTH = 8
_LONE = re.compile(rb"\\u[dD][89a-fA-F]")  # only an escape can be half of a surrogate pair


def _no_constant(name: str) -> float:
	raise PeerFault("bad_json", f"{name} is no JSON")


def _finite(text: str) -> float:
	value = float(text)
	return value if math.isfinite(value) else _no_constant(text)


def _depth(value: Any) -> int:
	members = value.values() if isinstance(value, dict) else value
	return 1 + max((_depth(one) for one in members if isinstance(one, (dict, list))), default=0)


def parse_json(data: bytes, lone: str = "strict") -> Json:
	"""An object of strict JSON: finite numbers, no `lone` surrogates, at most 8 deep; else PeerFault."""
	try:
		value = json.loads(data.decode("utf-8"), parse_float=_finite, parse_constant=_no_constant)
		if not isinstance(value, dict) or _depth(value) > MAX_DEPTH:
			raise PeerFault("bad_json", "not an object, or too deep")
		if _LONE.search(data):
			json.dumps(value, ensure_ascii=False).encode("utf-8", lone)
	except (ValueError, RecursionError) as error:
		raise PeerFault("bad_json", type(error).__name__) from None
	return value


UNKNOWN = "unknown_message"


@contextmanager
def skipping(counters: Counters) -> Iterator[None]:
	"""Count and pass over messages that only a later version knows."""
	try:
		yield
	except PeerFault as fault:
		if fault.kind != UNKNOWN:
			raise
		counters.add(UNKNOWN)


def check_version(hello: Json) -> None:
	"""Refused `other_version` where a first message says another one."""
	if hello.get("v", PROTOCOL) != PROTOCOL:
		raise Refused("other_version", versions=[PROTOCOL])


def parse_message(line: bytes, shapes: Mapping[str, Shape]) -> Json:
	"""The message in `line`, its members checked against `shapes[type]`; else PeerFault."""
	return check_message(parse_json(line), shapes)


def check_message(value: Json, shapes: Mapping[str, Shape]) -> Json:
	"""`parse_message` of parsed JSON."""
	kind = value.get("type")
	if not isinstance(kind, str) or kind not in shapes:
		raise PeerFault(UNKNOWN)
	return {"type": kind, **_shaped(value, {**shapes[kind], "ref?": _COUNT})}


class LineSplitter:
	"""Cuts a byte stream into lines of at most 64 KiB."""

	def __init__(self) -> None:
		self._rest = bytearray()

	def push(self, data: bytes) -> list[bytes]:
		"""The lines that `data` completes, without their ends; PeerFault for an endless one."""
		first, *others = data.split(b"\n")
		self._rest += first
		lines = [bytes(self._rest), *others] if others else []
		if others:
			self._rest = bytearray(lines.pop())
		if any(len(line) >= MAX_LINE for line in (self._rest, *lines)):
			raise PeerFault("long_line")
		return lines


# -- pictures: what may be given to a decoder

PICTURE_HEAD = 4_096  # what a coded picture may have beyond its pixels
_JPEG_SKIPPED = frozenset([*range(0xFFE0, 0xFFF0), 0xFFFE, 0xFFDB, 0xFFC4, 0xFFDD])
_JPEG_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7]")
_SEGMENT = struct.Struct(">HH")
_FRAME_HEADER = struct.Struct(">BHHB")


def _one_scan(data: bytes, start: int) -> bool:
	end = _JPEG_MARKER.search(data, start)
	return end is not None and data[end.start() :] == b"\xff\xd9"


def _frame_size(data: bytes, at: int) -> tuple[int, int]:
	bits, height, width, components = _FRAME_HEADER.unpack_from(data, at)
	fits = 0 < width <= LAYERS[-1][0] and 0 < height <= LAYERS[-1][1]
	return (width, height) if fits and bits == 8 and components == 3 else (0, 0)


def jpeg_size(data: bytes) -> tuple[int, int]:
	"""(width, height) of a baseline JPEG of one scan, 8 bit, 3 components, at most the largest layer.

	Else PeerFault.
	"""
	if data[:2] != b"\xff\xd8":
		raise PeerFault("bad_picture")
	at, size = 2, (0, 0)
	while at + 4 <= len(data):
		marker, length = _SEGMENT.unpack_from(data, at)
		start, at = at + 4, at + 2 + length
		if length < 2 or at > len(data):
			break
		if marker in _JPEG_SKIPPED:
			continue
		if marker == 0xFFC0 and size == (0, 0) and length == 17:
			size = _frame_size(data, start)
		elif (
			marker == 0xFFDA and size != (0, 0) and length == 12 and data[start] == 3 and _one_scan(data, at)
		):
			return size
		else:
			break
	raise PeerFault("bad_picture")


def _is_webp(data: bytes, kind: bytes) -> bool:
	chunk, size = int.from_bytes(data[16:20], "little"), len(data) - 8
	head = b"RIFF", size, b"WEBP" + kind
	return chunk + chunk % 2 == size - 12 and data[:16] == struct.pack("<4sI8s", *head)


def webp_size(data: bytes) -> tuple[int, int]:
	"""(width, height) of a lossless WebP of the one chunk VP8L; else PeerFault."""
	bits = int.from_bytes(data[20:25], "little")
	if not _is_webp(data, b"VP8L") or bits & 0xFF != 0x2F or bits >> 37:
		raise PeerFault("bad_picture")
	return (bits >> 8 & 0x3FFF) + 1, (bits >> 22 & 0x3FFF) + 1


# What a patch begins with: a JPEG with a comment, which says what picture it changes, and which blocks of it.
PATCH = b"\xff\xd8\xff\xfe\x00\x79"


def coded_size(data: bytes) -> tuple[int, int]:
	"""(width, height) of a picture of the video plane: a JPEG or, in layer 0, a lossy WebP; else PeerFault.

	Such a WebP has the one chunk `VP8 `: a key frame that is shown, its first partition within it.
	"""
	if data[:1] != b"R":
		return jpeg_size(data)
	bits = int.from_bytes(data[20:30], "little")
	width, height, first = bits >> 48 & 0xFFFF, bits >> 64, bits >> 5 & 0x7FFFF
	fits = 0 < width <= LAYERS[0][0] and 0 < height <= LAYERS[0][1] and 0 < first <= len(data) - 30
	if not fits or not _is_webp(data, b"VP8 ") or bits & 0xFFFFFF00001F != 0x2A019D000010:
		raise PeerFault("bad_picture")
	return width, height


def fits_layer(size: tuple[int, int], layer: int, octets: int = 0) -> bool:
	"""Whether a picture fills the box of `layer` in one direction, with octets that it can use."""
	(width, height), box = size, LAYERS[layer]
	fills = (width == box[0] and 0 < height <= box[1]) or (height == box[1] and 0 < width <= box[0])
	return fills and octets <= PICTURE_HEAD + 1.5 * width * height


# -- screen and files: messages with their length in front; docs/protocol.md draws the bytes of each plane

MAX_MESSAGE = 1 << 20
_LENGTH = struct.Struct(">I")


def encode_message(payload: bytes) -> bytes:
	"""`payload` with its length in front."""
	return _LENGTH.pack(len(payload)) + payload


class MessageSplitter:
	"""Cuts a byte stream into length-prefixed messages of at most `limit` bytes."""

	def __init__(self, limit: int = MAX_MESSAGE):
		self._limit = limit
		self._rest = bytearray()

	def push(self, data: bytes) -> list[bytes]:
		"""The messages that `data` completes; PeerFault when one announces too much."""
		self._rest += data
		done: list[bytes] = []
		while len(self._rest) >= 4:
			(size,) = _LENGTH.unpack_from(self._rest)
			if size > self._limit:
				raise PeerFault("long_message")
			if len(self._rest) < 4 + size:
				break
			done.append(bytes(self._rest[4 : 4 + size]))
			del self._rest[: 4 + size]
		return done


SCREEN_HELLO: Shape = {"role": _exactly("presenter", "viewer"), "ticket": _hex(16)}
SCREEN_ANSWER: Shape = {"status": _exactly("ok", "denied"), "code?": _CODE, **_VALUES}


def encode_record(record: Json) -> bytes:
	"""JSON as a length-prefixed message."""
	return encode_message(json.dumps(record, ensure_ascii=False, allow_nan=False).encode())


# -- files: one TLS connection a transfer

MAX_FILE_LINE = 1_024
FILE_DONE = b"DONE\n"
FILE_READY = b"READY\n"
FILE_REQUESTS: Mapping[str, Shape] = {
	"file_upload": {"ticket": _hex(16)},
	"file_download": {"ticket": _hex(16), "offset": _COUNT},
}
_FILE_HEAD: Shape = {"size": _COUNT, "sha256": _TOKEN, "offset": _COUNT}
_FILE_ANSWER = re.compile(rb"READY (\d{1,16})|(DONE)|FAILED ([a-z_]{1,32})")


def file_ready(offset: int) -> bytes:
	"""The server's line that asks for the bytes of an upload from `offset` on."""
	return b"READY %d\n" % offset


def file_failed(code: str) -> bytes:
	"""The server's line that ends a transfer."""
	return f"FAILED {code}\n".encode()


def parse_file_answer(line: bytes) -> int | None:
	"""The offset of READY, None for DONE; Refused for FAILED, else PeerFault."""
	if (found := _FILE_ANSWER.fullmatch(line)) is None:
		raise PeerFault("bad_answer")
	offset, _, code = found.groups()
	if code is not None:
		raise Refused(code.decode())
	return None if offset is None else int(offset)


def parse_file_head(line: bytes) -> Json:
	"""{size, sha256, offset} of a download; Refused for FAILED, else PeerFault."""
	if line.startswith(b"{"):
		return _shaped(parse_json(line), _FILE_HEAD)
	parse_file_answer(line)
	raise PeerFault("bad_answer", "no head")


class Codec(enum.IntEnum):
	"""How a rectangle's bytes are coded: JPEG loses, WEBP is exact."""

	JPEG = 1
	WEBP = 3


# A message is its kind in one byte and its members; see _SCREEN_LAYOUTS. Each commit is acknowledged,
# in order: by a viewer when it has painted it, by the server to the presenter when most viewers have.

MAX_RECTANGLE = 256  # pixels each way


class Geometry(NamedTuple):
	"""A new picture of this size; everything of earlier epochs is void."""

	epoch: int
	width: int
	height: int


class Rectangle(NamedTuple):
	"""The coded pixels of one place as of `version`."""

	epoch: int
	version: int
	x: int
	y: int
	width: int
	height: int
	codec: int
	data: bytes


class Commit(NamedTuple):
	"""All rectangles up to `version` were sent: paint."""

	epoch: int
	version: int


class Pointer(NamedTuple):
	"""Where the presenter's mouse points."""

	x: int
	y: int
	shown: bool


class Acknowledge(NamedTuple):
	"""The commit of `version` has been painted."""

	epoch: int
	version: int


ScreenMessage = Geometry | Rectangle | Commit | Pointer | Acknowledge

_SCREEN_LAYOUTS: Mapping[int, tuple[type[ScreenMessage], struct.Struct]] = {
	1: (Geometry, struct.Struct(">BIHH")),
	2: (Rectangle, struct.Struct(">BIIHHHHB")),
	3: (Commit, struct.Struct(">BII")),
	4: (Pointer, struct.Struct(">BHH?")),
	5: (Acknowledge, struct.Struct(">BII")),
}


def encode_screen(message: ScreenMessage) -> bytes:
	"""A screen message as bytes, without the length."""
	kind = next(kind for kind, (made, _) in _SCREEN_LAYOUTS.items() if made is type(message))
	layout = _SCREEN_LAYOUTS[kind][1]
	if isinstance(message, Rectangle):
		return layout.pack(kind, *message[:-1]) + message.data
	return layout.pack(kind, *message)


_SIZE_READERS = {int(Codec.JPEG): jpeg_size, int(Codec.WEBP): webp_size}


def _is_possible(message: ScreenMessage) -> bool:
	match message:
		case Geometry(_, width, height):
			return 0 < width <= MAX_SCREEN[0] and 0 < height <= MAX_SCREEN[1]
		case Rectangle(_, _, x, y, width, height, codec, data):
			small = 0 < width <= MAX_RECTANGLE and 0 < height <= MAX_RECTANGLE
			within = x + width <= MAX_SCREEN[0] and y + height <= MAX_SCREEN[1]
			read = _SIZE_READERS.get(codec)
			return small and within and read is not None and read(data) == (width, height)
	return True


def parse_screen(data: bytes) -> ScreenMessage:
	"""The screen message in `data`; PeerFault when its sizes lie.

	Of a rectangle the place and the picture's own header are checked: it is safe to decode.
	"""
	if not data or data[0] not in _SCREEN_LAYOUTS:
		raise PeerFault(UNKNOWN if data[:1] > b"\0" else "bad_screen")
	made, layout = _SCREEN_LAYOUTS[data[0]]
	rest = [data[layout.size :]] if made is Rectangle else []
	try:
		message = made(*layout.unpack(data[: layout.size] if rest else data)[1:], *rest)
	except struct.error:
		raise PeerFault("bad_screen") from None
	if not _is_possible(message):
		raise PeerFault("bad_screen")
	return message


# -- UDP: sealed frames, blocks and small messages
#
# On the audio plane a datagram of 24 or 536 bytes is a block; small messages never have those sizes.

VIDEO_HEADER = struct.Struct(">IIHH")
AUDIO_HEADER = struct.Struct(">II")
_NONCE = struct.Struct(">B3xII")
_ADDITIONAL = struct.Struct(">IIH")
TAG = 16
PROBE_SIZE = VIDEO_HEADER.size + 16  # of a probe and of what answers it
AUDIO_SIZES = frozenset([AUDIO_HEADER.size + TAG, AUDIO_HEADER.size + TAG + 2 * BLOCK])
AUDIO_PAIR = AUDIO_HEADER.size + TAG + 4 * BLOCK  # two blocks, downstream, numbered by the first
LAYER_SHIFT = 30
REPLAY_WINDOW = 512
_WINDOW_BITS = (1 << REPLAY_WINDOW) - 1


class Kind(enum.IntEnum):
	"""What a sealed datagram is; the first byte of its nonce."""

	VIDEO = 0
	BIND = 1
	CHALLENGE = 2
	ANSWER = 3
	NACK = 4
	AUDIO = 5
	PROBE = 6  # to nobody's id, not sealed: is a server there?
	PROBED = 7


class Sealer:
	"""AES-128-GCM under one key, for one direction of one plane.

	The top two bits of a number are the layer of a picture on its way up, and each layer counts for itself;
	other numbers never become as large.
	"""

	def __init__(self, key: bytes):
		self._encrypt = aead.AESGCM(key).encrypt
		self._last: dict[tuple[int, int, int], int] = {}
		self._small = 0  # the last number of a small message

	def seal(self, kind: int, ident: int, number: int, payload: bytes, total: int = 0) -> bytes:
		"""`payload` sealed; SealError unless `number` is higher than any before in its lane."""
		lane = (kind, ident, number >> LAYER_SHIFT)
		if not self._last.get(lane, -1) < number <= 0xFFFFFFFF:
			raise SealError(f"number {number} has run out or would be used twice")
		self._last[lane] = number
		return self.again(kind, ident, number, payload, total)

	def again(self, kind: int, ident: int, number: int, payload: bytes, total: int = 0) -> bytes:
		"""What `seal` gave for these arguments. Never with another payload: that breaks the key."""
		return self._encrypt(
			_NONCE.pack(kind, ident, number), payload, _ADDITIONAL.pack(ident, number, total)
		)

	def small(self, kind: Kind, ident: int, payload: bytes) -> bytes:
		"""A bind, challenge, answer or nack as a datagram, with the next number."""
		self._small += 1
		sealed = self.seal(kind, ident, self._small, payload)
		return VIDEO_HEADER.pack(ident, self._small, 0, kind) + sealed


class ReplayWindow:
	"""Which of the last 512 numbers were seen; older ones count as seen."""

	__slots__ = ("_bits", "_top")

	def __init__(self) -> None:
		self._top = -1
		self._bits = 0

	def accept(self, number: int) -> bool:
		"""True the first time that `number` comes within the window."""
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


class Opener:
	"""Opens what a Sealer has sealed, then judges replay."""

	def __init__(self, key: bytes):
		self._decrypt = aead.AESGCM(key).decrypt
		self._windows = defaultdict[tuple[int, int, int], ReplayWindow](ReplayWindow)

	def open(self, kind: int, ident: int, number: int, sealed: bytes, total: int = 0) -> bytes:
		"""The payload; PeerFault `unsealed` when forged or damaged, `replayed` when seen before."""
		try:
			payload = self._decrypt(
				_NONCE.pack(kind, ident, number), sealed, _ADDITIONAL.pack(ident, number, total)
			)
		except exceptions.InvalidTag:
			raise PeerFault("unsealed") from None
		if not self._windows[kind, ident, number >> LAYER_SHIFT].accept(number):
			raise PeerFault("replayed")
		return payload


def parts_of(size: int) -> int:
	"""How many datagrams a sealed frame of `size` bytes takes."""
	return -(-size // CHUNK)


def video_header(data: bytes | memoryview) -> tuple[Any, ...]:
	"""Id, number, total, and index or kind; PeerFault where there is no room for them."""
	if len(data) < VIDEO_HEADER.size:
		raise PeerFault("short_datagram")
	return VIDEO_HEADER.unpack_from(data)


def runs_of(buffer: memoryview, segment: int) -> list[memoryview]:
	"""Takes apart what the kernel has merged: parts of frames stay together, small messages stand alone.

	All datagrams in `buffer` have `segment` bytes; the last may be shorter.
	"""

	def is_small(at: int) -> bool:
		return len(buffer) - at >= VIDEO_HEADER.size and VIDEO_HEADER.unpack_from(buffer, at)[2] == 0

	last = (len(buffer) - 1) // segment * segment
	if last <= 0:
		return [buffer]
	if is_small(0):
		return [buffer[at : at + segment] for at in range(0, len(buffer), segment)]
	return [buffer[:last], buffer[last:]] if is_small(last) else [buffer]


def audio_datagram(ident: int, seq: int, sealed: bytes) -> bytes:
	"""A sealed block as a datagram."""
	return AUDIO_HEADER.pack(ident, seq) + sealed


_NACK = struct.Struct(">II32s")
ALL_PARTS = (1 << MAX_PARTS) - 1


class Nack(NamedTuple):
	"""A request for missing parts: bit i of `bitmap` is part i, ALL_PARTS the frame."""

	id: int
	number: int
	bitmap: int


def _mirrored(bits: int) -> int:
	return int(f"{bits:0{MAX_PARTS}b}"[::-1], 2)


def encode_nack(nack: Nack) -> bytes:
	"""The payload of a nack."""
	return _NACK.pack(nack.id, nack.number, _mirrored(nack.bitmap).to_bytes(32, "big"))


def parse_nack(data: bytes) -> Nack:
	"""The nack in `data`; else PeerFault."""
	if len(data) != _NACK.size or not any(data[8:]):
		raise PeerFault("bad_nack")
	ident, number, bitmap = _NACK.unpack(data)
	return Nack(ident, number, _mirrored(int.from_bytes(bitmap, "big")))


# -- which UDP address a client has


class PathValidation:
	"""The server's side of one client's UDP path on one plane.

	An address counts once a sealed challenge sent there came back, for a higher bind number than before.
	"""

	MOST_PENDING = 4

	def __init__(self, ident: int, up: bytes, down: bytes):
		self.id = ident
		self.opener = Opener(up)
		self.sealer = Sealer(down)
		self.address: Address | None = None
		self._number = -1
		self._pending: dict[Address, tuple[bytes, int]] = {}

	def on_bind(self, number: int, sealed: bytes, source: Address, token: bytes) -> bytes:
		"""The challenge for `source`; PeerFault when forged or old."""
		self.opener.open(Kind.BIND, self.id, number, sealed)
		if number <= self._number:
			raise PeerFault("old_bind")
		if len(self._pending) >= self.MOST_PENDING:
			self._pending.pop(next(iter(self._pending)))
		self._pending[source] = (token, number)
		return self.sealer.small(Kind.CHALLENGE, self.id, token)

	def on_answer(self, number: int, sealed: bytes, source: Address) -> None:
		"""Bind `source` if this is its challenge come back; else PeerFault."""
		payload = self.opener.open(Kind.ANSWER, self.id, number, sealed)
		token, bind_number = self._pending.get(source, (b"", -1))
		if not hmac.compare_digest(token, payload) or bind_number <= self._number:
			raise PeerFault("bad_answer")
		del self._pending[source]
		self._number = bind_number
		self.address = source


# -- discovery: one JSON object a datagram

QUESTION_SIZE = 512
LONGEST_QUESTION = 1_500
_ANSWER = {**Ad.shape(), "nonce": _either(_exactly(""), _hex(16))}


def discovery_question(nonce: bytes, version: int = PROTOCOL) -> bytes:
	"""A question of 512 bytes: no answer is larger than what asked for it."""
	text = json.dumps({"connectsphere": "question", "version": version, "nonce": nonce.hex()})
	return text.encode().ljust(QUESTION_SIZE)


def _discovered(kind: str, data: bytes, least: int = 0) -> Json:
	value = parse_json(data) if least <= len(data) <= LONGEST_QUESTION else {}
	if value.get("connectsphere") != kind:
		raise PeerFault(f"bad_{kind}")
	return value


def parse_question(data: bytes) -> tuple[str, int]:
	"""(nonce, version) of a question; PeerFault for anything else."""
	value = _discovered("question", data, QUESTION_SIZE)
	checked = _shaped(value, {"version": _VERSION, "nonce": _hex(16)})
	return checked["nonce"], checked["version"]


def discovery_answer(nonce: str, fields: Json, limit: int = QUESTION_SIZE) -> bytes:
	"""An answer of at most `limit` bytes to the question `nonce`, "" for a beacon.

	Title and host name are cut to fit.
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
	"""(nonce or None for a beacon, fields) of an answer; else PeerFault.

	Of another protocol version only the version is checked.
	"""
	value = _discovered("answer", data)
	version = _shaped(value, {"version": _VERSION})["version"]
	fields = _shaped(value, _ANSWER if version == PROTOCOL else {"version": _VERSION, "nonce": _text(32)})
	return fields.pop("nonce") or None, fields


# ====
# [3] AUDIO - jitter buffer, concealment, mixer, voice detection, resampling
# Uses: BASICS

# A block's slack (headroom) = time of the pull that plays it - time of arrival, in seconds.
SLACK_LEAST = 0.0005  # 1 % of the last 5 s of blocks had less: 16 ms of delay more
SLACK_MOST = 0.0215  # 99 % of the last 10 s had more (a block, SLACK_AIMED, hysteresis): 16 ms less
SLACK_AIMED = 0.005  # at a start, and what shrinking leaves
SLACK_WINDOW = 312  # blocks, 5 s
OUTLIERS = 4  # the first count that is over 1 % of the window
DEEPEST = 64  # blocks held at most
DELAY_MOST = 0.25  # seconds; beyond it the delay does not grow
SPREAD_MOST = 0.1  # seconds of jitter that a fresh start allows for at most

QUIET_PEAK = 100  # about -50 dBFS: cutting here is not heard
SPLICE = 96  # samples cross-faded where time is stretched or compressed
JOIN = 32  # samples cross-faded from concealment into speech
LAG_RANGE = 200  # samples searched for a similar place: one period at 80 Hz
FADE_OUT = 960  # samples, 60 ms: the longest that concealment sounds
PITCH_WINDOW = 160
PITCH_LAGS = (32, 256)  # samples, 500 to 62.5 Hz

LEVEL_FLOOR = -96.0
VOICE_DB = -60.0
KNEE = 24_000.0
FULL_SCALE = 32_768.0


@lru_cache
def silence() -> Samples:
	"""The silent block, which `is` can tell."""
	return np.zeros(BLOCK, np.int16)


def level_db(samples: Samples) -> float:
	"""The RMS level of int16 `samples` in dBFS, -96 (LEVEL_FLOOR) or more; an empty array is silence."""
	power = _power(samples)
	return max(LEVEL_FLOOR, 10.0 * math.log10(power)) if power else LEVEL_FLOOR


def _power(samples: Samples) -> float:
	wave = samples.astype(np.float32)
	return float(wave @ wave) / (max(1, len(wave)) * FULL_SCALE**2)


def _to_int16(wave: NDArray[Any]) -> Samples:
	clipped: Samples = np.clip(np.rint(wave), -32_768, 32_767).astype(np.int16)
	return clipped


def _splice(old: NDArray[Any], new: Samples, at: int) -> Samples:
	ramp = (np.arange(len(old), dtype=np.float32) + 0.5) / len(old)
	blend = old * (1.0 - ramp) + new[at : at + len(old)] * ramp
	return np.concatenate((_to_int16(blend), new[at + len(old) :]))


def _most_similar(old: NDArray[Any], new: NDArray[Any], low: int, high: int) -> int:
	pattern = old.astype(np.float32)
	scope = new[low : high + len(old)].astype(np.float32)
	total = np.concatenate(([0.0], np.cumsum(scope.astype(np.float64) ** 2)))
	energy = total[len(old) :] - total[: -len(old)]
	score = np.correlate(scope, pattern, "valid") / np.sqrt(energy + 1.0)
	score += np.linspace(0.0, 0.01 * float(np.linalg.norm(pattern)), len(score))
	return low + int(np.argmax(score))


class PacketLossConcealment:
	"""What is heard in place of missing sound: the last pitch period again and again, fading within 60 ms."""

	def __init__(self, history: Samples | None):
		"""`history` is the sound up to the hole, 512 samples at least; None is silence."""
		self._cycle = np.zeros(1, np.float32)
		self._step = 0.0  # the jump at the start, worn off slowly so that it is no click
		self._at = FADE_OUT if history is None else 0
		if history is None:
			return
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
		return self._at >= FADE_OUT

	def take(self, count: int) -> Samples:
		"""The next `count` samples."""
		if self.spent:
			return np.zeros(count, np.int16)
		index = np.arange(self._at, self._at + count)
		self._at += count
		wave = self._cycle[index % len(self._cycle)] + self._step * np.maximum(0.0, 1.0 - index / JOIN)
		return _to_int16(wave * np.maximum(0.0, 1.0 - index / FADE_OUT))


class PlayoutDelay:
	"""Says when the delay should change: for too little slack at once, for too much at leisure."""

	def __init__(self) -> None:
		self.wanted = 0  # blocks of delay to add or, negative, to take away at a good moment
		self._taken = 0  # pulls
		self._due = 0  # a change waits for silence, but no longer than until that pull
		self._slack = deque[float](maxlen=SLACK_WINDOW)
		self._snug = deque([0] * OUTLIERS, OUTLIERS)  # `_taken` at the last slacks under SLACK_MOST
		self._tight = deque[int](maxlen=OUTLIERS)  # ... under SLACK_LEAST
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
		"""The delay has become longer by `blocks`: what was seen so far is judged as if by that."""
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

	Every pull plays one sequence number, so on a steady link the sound passes unchanged. Where PlayoutDelay
	wants another delay, sound is repeated or left out: in silence, or where the wave looks alike. Counts go
	on from one `before`, of another sequence.
	"""

	def __init__(self, before: JitterBuffer | None = None) -> None:
		self._blocks: dict[int, tuple[Samples | None, float]] = {}  # by sequence number, with time of arrival
		self._next = 0  # the sequence number that the next pull plays
		self._played = -1  # the newest one played
		self._idle = True  # nothing is audible: the time line can be moved for free
		self._paused = True  # the sender said that silence follows: a gap is no loss
		self._pending = silence()[:0]  # samples waiting in front of the next block
		self._tail = (silence(), silence())  # the last two blocks handed out
		self._concealment: PacketLossConcealment | None = PacketLossConcealment(None)
		self._watch = PlayoutDelay()
		self._missed = deque[int](maxlen=DEEPEST)  # sequence numbers counted as lost
		self._received, self._lost, self._concealed, self._late = before.counts if before else (0, 0, 0, 0)

	def push(self, seq: int, samples: Samples | None, now: float) -> None:
		"""Take block number `seq` (int16, shape (256,)), or None: silence from here to the next block.

		The array is kept, not copied. PeerFault if it has another shape.
		"""
		if samples is not None and samples.shape != (BLOCK,):
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
		if seq >= self._next + DEEPEST or len(self._blocks) >= DEEPEST:  # begin anew
			self._blocks.clear()
			self._pending = silence()[:0]
			self._idle = True
			self._concealment = PacketLossConcealment(None)
		elif seq < self._next and not self._idle:
			self._watch.note_tight()
			if self._watch.wanted > 0:
				self._watch.moved(self._next - seq)
				self._next = seq
		self._blocks[seq] = (samples, now)

	def pull(self, now: float) -> Samples:
		"""The next 256 samples; `silence()` itself where there is nothing. Not to be written to."""
		samples, at = self._blocks.get(self._next, (None, now))
		if samples is None or self._concealment or len(self._pending) or self._watch.wanted:
			return self._compose(now)
		del self._blocks[self._next]  # the usual case, which a mixer has 500 times a tick
		self._played = self._next
		self._next += 1
		self._watch.note(now - at)
		self._tail = (self._tail[1], samples)
		return samples

	@property
	def counts(self) -> tuple[int, int, int, int]:
		return self._received, self._lost, self._concealed, self._late

	@property
	def idle(self) -> bool:
		"""Whether pulls find nothing until something is pushed; `skip` may stand for them."""
		return self._idle and not self._blocks

	def skip(self, pulls: int) -> None:
		"""So many pulls passed, all of them idle."""
		self._next += pulls

	def _compose(self, now: float) -> Samples:
		if self._idle and not self._wakes(now):
			self._next += 1
			return silence()
		if len(self._pending) < BLOCK:
			fresh = self._fresh(now)
			self._pending = np.concatenate((self._pending, fresh)) if len(self._pending) else fresh
			if self._concealment is None:
				self._fit()
		block, self._pending = self._pending[:BLOCK], self._pending[BLOCK:]
		if self._idle:
			self._pending = silence()[:0]
		self._tail = (self._tail[1], block)
		return block

	def stats(self) -> dict[str, float]:
		"""Blocks since the start (received, lost, concealed, late); jitter_ms, buffer_ms of the last 5 s."""
		slack, lateness = self._watch.summary()
		waiting = len(self._pending) / AUDIO_RATE
		counts = dict(zip(("received", "lost", "concealed", "late"), self.counts, strict=True))
		delays = {"jitter_ms": round(1e3 * lateness, 1), "buffer_ms": round(1e3 * (slack + waiting), 1)}
		return {**counts, **delays}

	def _fresh(self, now: float) -> Samples:
		seq = self._next
		self._next += 1
		if (entry := self._blocks.pop(seq, None)) is None:
			return self._conceal()
		self._account(seq)
		samples, at = entry
		self._paused = samples is None
		if samples is None:
			self._idle = True
			self._concealment = PacketLossConcealment(None)
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
			self._concealment = PacketLossConcealment(np.concatenate((*self._tail, self._pending)))
		if self._concealment.spent:
			self._idle = True
		else:
			self._concealed += 1
		return self._concealment.take(BLOCK)

	def _account(self, seq: int) -> None:
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

	def _fit(self) -> None:
		wanted = self._watch.wanted
		if not wanted and len(self._pending) <= BLOCK:
			return
		quiet = int(self._pending.max()) < QUIET_PEAK and int(self._pending.min()) > -QUIET_PEAK
		if wanted and (quiet or self._watch.due):
			if wanted > 0:
				self._grow(quiet)
			else:
				self._shrink(quiet, -wanted)
		elif quiet and not wanted:
			self._pending = _splice(self._pending[:JOIN], self._pending, len(self._pending) - BLOCK)

	def _grow(self, quiet: bool) -> None:
		self._go_on_in(len(self._pending), quiet, *self._tail, self._pending)
		self._watch.moved(1)

	def _shrink(self, quiet: bool, blocks: int) -> None:
		last = self._next + blocks - 1
		final = self._blocks.get(last, (None, 0.0))[0]
		before = self._blocks.get(last - 1, (None, 0.0))[0] if blocks > 1 else self._pending[-BLOCK:]
		if final is None or before is None:
			return
		self._go_on_in(BLOCK, quiet, before, final)
		for seq in range(self._next, last + 1):
			self._blocks.pop(seq, None)
		self._played = last
		self._next = last + 1
		self._watch.moved(-blocks)

	def _go_on_in(self, latest: int, quiet: bool, *sound: Samples) -> None:
		"""From where `sound` is most like what waits, `latest` at the latest; there in silence."""
		pattern, source = self._pending[:SPLICE], np.concatenate(sound)
		at = latest if quiet else _most_similar(pattern, source, latest - LAG_RANGE, latest)
		self._pending = _splice(pattern, source, at)

	def _wakes(self, now: float) -> bool:
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


ENVELOPE_BLOCKS = 156  # 2.5 s
ENVELOPE_MEAN = 31  # blocks whose mean is taken off
BAND_EDGES = (4, 5, 6, 7, 8, 10, 12, 15, 17, 21, 25, 30, 36, 44, 53, 63, 76, 92, 110)  # of 62.5 Hz
VOICED = 20  # blocks with a voice suffice


@lru_cache
def _no_bands() -> NDArray[Any]:
	return np.array([-3.0] * 18 + [LEVEL_FLOOR], np.float32)


@lru_cache
def _window() -> NDArray[Any]:
	return np.hanning(BLOCK) / FULL_SCALE


def bands_of(waves: NDArray[Any]) -> NDArray[np.float32]:
	"""A row a block: logarithms of the power in bands, then the level in dBFS."""
	power = np.abs(np.fft.rfft(waves * _window())) ** 2
	rows = np.log10(np.add.reduceat(power, BAND_EDGES, axis=1) + 1e-3, dtype=np.float32)
	rows[:, -1] = 10.0 * np.log10(power.sum(axis=1) / 12_288 + 1e-9)
	return rows


def syllables(sounds: Iterable[Sequence[NDArray[np.float32]]]) -> NDArray[np.float32]:
	"""[sound, block, band]: how much louder than around, where there is a voice, else 0.

	A voice is 10 dB above its noise: the comfort noise of all echo cancellers is the same.
	"""
	rows, half = np.array([[*one] for one in sounds]), ENVELOPE_MEAN // 2
	total = np.cumsum(np.pad(rows, ((0, 0), (1, 0), (0, 0))), axis=1)
	waves = rows[:, half:-half] - (total[:, ENVELOPE_MEAN:] - total[:, :-ENVELOPE_MEAN]) / ENVELOPE_MEAN
	level = rows[:, half:-half, -1:]
	noise = np.where(rows[:, :, -1:] > -90.0, rows[:, :, -1:], 0.0).min(axis=1, keepdims=True)
	voices: NDArray[np.float32] = waves[:, :, :-1] * (level > np.maximum(-58.0, noise + 10.0))
	return voices


def alike(voices: NDArray[np.float32], lag: int) -> NDArray[np.float32]:
	"""How like sound a is to sound b `lag` blocks later, [a, b], -1 to 1."""
	count, blocks, _ = voices.shape
	early, late = voices[:, : blocks - lag].reshape(count, -1), voices[:, lag:].reshape(count, -1)
	powers = np.outer(np.linalg.norm(early, axis=1), np.linalg.norm(late, axis=1))
	return (early @ late.T / (powers + 1e-3)).astype(np.float32)


class HeardBefore:
	"""Tells whether a microphone hears in its room what the network is yet to bring.

	Meanwhile nothing is played: the own loudspeaker is louder than a neighbour.
	"""

	LAGS = 24  # blocks: the longest way over the network
	BLOCKS = 110  # 1.8 s
	LIKE = 0.35  # in one room 0.46 to 0.77, in no other over 0.23

	def __init__(self) -> None:
		self.on_early: Act = lambda: None  # it was so
		self._left = self._mute = 0
		self._heard, self._mixed = (deque[Any](maxlen=ENVELOPE_BLOCKS) for _ in range(2))

	def begin(self) -> None:
		"""Listen from now on."""
		self._heard.extend([_no_bands()] * ENVELOPE_BLOCKS)
		self._mixed.extend(self._heard)
		self._left = self._mute = self.BLOCKS

	def play(self, block: Samples) -> Samples:
		"""The next block of the mix; what is played of it. From the playing thread."""
		if not self._mute:
			return block
		self._mute -= 1
		self._mixed.append(bands_of(block[None])[0])
		return silence()

	def hear(self, block: Samples) -> None:
		"""The next block captured."""
		if not self._left:
			return
		self._heard.append(bands_of(block[None])[0])
		self._left -= 1
		if not self._left:
			voices = syllables((self._heard, self._mixed))
			scores = [alike(voices, lag)[0, 1] for lag in range(self.LAGS)]
			if voices.any(axis=2).sum(axis=1).min() >= VOICED and max(scores) > max(self.LIKE, scores[0]):
				self.on_early()


class RoomFinder:
	"""Finds who shares a room: who hears the same and, asked to listen, what is yet to come."""

	EVERY = 25  # blocks
	LAGS = 4  # blocks, by which two devices may differ: a loudspeaker that leaks trails by more
	LIKE = 0.4
	UNLIKE = 0.2
	MOST = 40  # talkers
	AT_ONCE = 12  # are compared with each other
	AGAINST = 30  # judgements, 12 s of a voice that is not heard
	PATIENCE = 190  # blocks until two are asked again, twice as many each time

	def __init__(self) -> None:
		self.news: list[Json] = []
		self._rows: dict[int, deque[NDArray[np.float32]]] = {}
		self._at = self._busy = 0  # now, and until when they listen, in blocks
		self._work: Iterator[None] = iter(())
		self._asked: dict[frozenset[int], tuple[int, int]] = {}  # when next, and how long then
		self._listen = set[int]()  # who was asked to: the loudspeaker of one drowns what the others hear
		self._suspected = set[frozenset[int]]()  # pairs of them
		self._early = set[int]()
		self._against = Counter[tuple[int, int]]()  # by (who is heard, who does not hear)

	def forget(self, id: int) -> None:
		"""It is gone: the next connection has another."""
		self._work = iter(())  # may judge it
		self._asked = {pair: when for pair, when in self._asked.items() if id not in pair}
		self._against = Counter({pair: n for pair, n in self._against.items() if id not in pair})

	def note_early(self, id: int) -> None:
		"""A client that listened has heard before."""
		self._early.add(id)
		for pair in self._suspected:
			if id in pair and self._early.issuperset(pair):
				self.news.append({"event": "room", "ids": sorted(pair), "same": True})

	def push(
		self,
		talkers: list[int],
		waves: NDArray[Any],
		open: Iterable[int],
		rooms: Mapping[int, Collection[int]],
	) -> None:
		"""The next block of who talks, of those with an `open` microphone."""
		rows = dict(zip(talkers, bands_of(waves[: self.MOST]) if talkers else (), strict=False))
		self._rows = {
			id: self._rows.get(id) or deque([_no_bands()] * ENVELOPE_BLOCKS, ENVELOPE_BLOCKS) for id in open
		}
		for id, sound in self._rows.items():
			sound.append(rows.get(id, _no_bands()))
		self._at += 1
		if self._at % self.EVERY == 0 and len(self._rows) > 1:
			self._work = self._judge(rooms)
		next(self._work, None)

	def skip(self, blocks: int) -> None:
		"""So many blocks passed in which nobody said anything."""
		for sound in self._rows.values():
			sound.extend([_no_bands()] * blocks)
		self._at += blocks

	def _judge(self, rooms: Mapping[int, Collection[int]]) -> Iterator[None]:
		ids = random.sample([*self._rows], min(len(self._rows), self.AT_ONCE))
		voices = syllables(self._rows[id] for id in ids)
		voiced = voices.any(axis=2).sum(axis=1)
		best = np.zeros((len(ids), len(ids)))
		for lag in range(self.LAGS):
			like = alike(voices, lag)
			best = np.maximum(best, np.maximum(like, like.T))
			yield  # a lag a tick: nobody's sound waits for it
		suspects, likes = set[int](), set[frozenset[int]]()
		for a, b in itertools.combinations(np.argsort(-voiced), 2):
			pair = ids[a], ids[b]
			if voiced[a] < VOICED:
				break
			if pair[1] in rooms.get(pair[0], ()):
				self._against[pair] = self._against[pair] + 1 if best[a, b] < self.UNLIKE else 0
				if self._against[pair] > self.AGAINST:
					del self._against[pair]
					self.news.append({"event": "room", "ids": pair[::-1], "same": False})
			elif best[a, b] > self.LIKE:
				likes.add(both := frozenset(pair))
				suspects.update(both if self._may_ask(both) else ())
		if suspects:
			self._busy, self._early = self._at + HeardBefore.BLOCKS + 40, set()
			self._suspected = {pair for pair in likes if suspects.intersection(pair)}
			near = best[[ids.index(id) for id in set().union(*self._suspected)]].max(axis=0)
			self._listen = {id for id, like in zip(ids, near, strict=True) if like > self.UNLIKE}
			self.news.append({"event": "listen", "ids": sorted(self._listen)})
		elif self._at < self._busy:
			self._suspected.update(pair for pair in likes if self._listen.issuperset(pair))

	def _may_ask(self, pair: frozenset[int]) -> bool:
		when, wait = self._asked.get(pair, (0, self.PATIENCE))
		if self._at < max(when, self._busy):
			return False
		self._asked[pair] = self._at + wait, min(2 * wait, 6_000)
		return True


class ActiveSpeaker:
	"""Who is loudest, changed only for someone who stays loudest for 150 ms; 0 is nobody."""

	SECONDS = 0.15
	current = _rival = 0
	_since = 0.0

	def update(self, loudest: int, now: float) -> int:
		"""The loudest with hysteresis, given who is loudest at `now`."""
		if self.current in (loudest, 0):
			self.current = self._rival = loudest
		elif loudest != self._rival:
			self._rival, self._since = loudest, now
		elif now - self._since >= self.SECONDS:
			self.current = loudest
		return self.current


# Of one tick, by listener: the block, int16 as sent, shape (256,), not to be written to, None for silence;
# and the id of whom this one hears loudest, never its own, 0 with silence.
Mix = dict[int, tuple[Samples | None, int]]


def _as_sent(wave: NDArray[Any]) -> Samples:
	if wave.max() > 32_767.0 or wave.min() < -32_768.0:  # many at once: their peaks are bent, not cut off
		over = np.maximum(np.abs(wave) - KNEE, 0.0) / (32_767.0 - KNEE)
		wave = np.clip(wave, -KNEE, KNEE) + np.sign(wave) * np.tanh(over) * (32_767.0 - KNEE)
	sent: Samples = wave.astype(">i2")
	return sent


class NearestMicrophone:
	"""Of each room only the nearest microphone goes through to others: a near voice is loud and peaky.

	Another takes over at once where that is silent, else once it has been clearly nearer for a while.
	"""

	CLEARLY_DB = 4.0
	PEAKY_DB = 10.0  # for a unit of kurtosis, which reflections lower, and no gain changes

	def __init__(self) -> None:
		self.rooms: dict[int, list[int]] = {}  # by member
		self.shut = set[int]()  # talkers who do not go through
		self._free: Collection[int] = ()
		self._nearest: dict[int, ActiveSpeaker] = {}  # by the first of a room
		self._weights: dict[int, float] = {}
		self._near: dict[int, float] = {}  # the kurtosis of each talker, over half a second

	def order(self, groups: list[list[int]], free: Collection[int]) -> None:
		"""Each group shares a room; `free` ones always go through."""
		self.rooms = {id: group for group in groups for id in group}
		self._free = free
		self._nearest = {group[0]: ActiveSpeaker() for group in groups}

	def pass_on(self, levels: dict[int, float], waves: NDArray[np.float32], now: float) -> None:
		"""Fade the others of `levels`, in dB, out of `waves`, a row each."""
		self.shut = {id for id in levels if id in self.rooms} - {*self._free}
		steps = (waves[:, 1:] - waves[:, :-1]) ** 2
		peaky = np.einsum("ij,ij->i", steps, steps) * (BLOCK - 1) / (steps.sum(axis=1) ** 2 + 65.0)
		near = dict(zip(levels, peaky.clip(0.0, 8.0).tolist(), strict=True))
		for id, peak in near.items():
			near[id] = (was := self._near.get(id, peak)) + (peak - was) / 25
		self._near = near
		for first, nearest in self._nearest.items():
			there = {id: levels[id] + self.PEAKY_DB * near[id] for id in self.rooms[first] if id in levels}
			if nearest.current in there:
				there[nearest.current] += self.CLEARLY_DB
			else:
				nearest.current = 0
			self.shut.discard(nearest.update(max(there, key=there.__getitem__, default=0), now))
		before, self._weights = self._weights, {id: float(id not in self.shut) for id in levels}
		for row, (id, weight) in enumerate(self._weights.items()):
			if weight + (old := before.get(id, weight)) < 2.0:
				waves[row] *= np.linspace(old, weight, BLOCK, dtype=np.float32)


class AudioMixer:
	"""Mixes for every listener all but those of its room: the sum once, minus theirs.

	Who wants somebody louder, softer or not at all gets a sum of one's own while that one speaks.
	"""

	INERTIA = 0.75  # share of what was before in a speaker's level

	def __init__(self) -> None:
		self.nearest = NearestMicrophone()
		self.finder = RoomFinder()
		self._buffers: dict[int, JitterBuffer] = {}
		self._muted = set[int]()
		self._gains: dict[int, dict[int, float]] = {}  # {listener: {speaker: times}}
		self._level: dict[int, float] = {}  # of who is audible, dBFS
		self._loudest = ActiveSpeaker()
		self._runner_up = ActiveSpeaker()  # the loudest of the others, for the loudest one's own ears

	def add(self, id: int) -> None:
		"""Let participant `id` (not 0) listen and speak; known ones stay as they are."""
		self._buffers.setdefault(id, JitterBuffer())

	def remove(self, id: int) -> None:
		"""Forget `id`, if known."""
		self._buffers.pop(id, None)
		self._muted.discard(id)
		self._gains.pop(id, None)
		self._silence(id)
		self.finder.forget(id)

	def mute(self, id: int, on: bool) -> None:
		"""Drop what `id` says from now on, or hear it again."""
		if not on:
			self._muted.discard(id)
		elif id in self._buffers:
			self._muted.add(id)
			self._buffers[id] = JitterBuffer()
			self._silence(id)

	def set_gains(self, id: int, gains: dict[int, float]) -> None:
		"""Let `id`, if known, hear each speaker in `gains` that many times as loud, others as they are."""
		if id in self._buffers:
			self._gains[id] = gains

	def push(self, id: int, seq: int, samples: Samples | None, now: float) -> None:
		"""Take a block of speaker `id` as JitterBuffer.push does; unknown and muted ones are ignored."""
		if (buffer := self._buffers.get(id)) is not None and id not in self._muted:
			buffer.push(seq, samples, now)

	@property
	def idle(self) -> bool:
		"""Whether all is silent until something is pushed; `skip` may stand for ticks."""
		return not self._level and all(buffer.idle for buffer in self._buffers.values())

	def skip(self, ticks: int) -> None:
		"""So many ticks passed, all of them idle."""
		for buffer in self._buffers.values():
			buffer.skip(ticks)
		self.finder.skip(ticks)

	def tick(self, now: float) -> Mix:
		"""The next 16 ms for every listener."""
		talkers: list[int] = []
		blocks: list[Samples] = []
		silent = silence()
		for id, buffer in self._buffers.items():
			block = buffer.pull(now)
			if block is not silent:
				talkers.append(id)
				blocks.append(block)
		# in float32 sums are exact up to 512 voices, and are used as they are to measure
		waves = np.concatenate([silent[:0], *blocks], dtype=np.float32).reshape(-1, BLOCK)
		self._measure(talkers, waves)
		self.finder.push(talkers, waves, self._buffers.keys() - self._muted, self.nearest.rooms)
		self.nearest.pass_on(self._level, waves, now)
		loudest, runner_up = self._rank(now)
		if not talkers:
			return dict.fromkeys(self._buffers, (None, 0))
		own = self._without(talkers, waves)
		common = _as_sent(waves.sum(axis=0))
		rooms = self.nearest.rooms
		mix: Mix = dict.fromkeys(self._buffers, (common, loudest))
		for id in mix.keys() & {*own, loudest}:  # who hears something else
			sent, heard = own.get(id, common), loudest
			if sent is None:
				heard = 0
			elif loudest in (room := rooms.get(id, [id])):
				heard = self._loudest_but(*room) if id in rooms else runner_up
			mix[id] = sent, heard
		return mix

	def _without(self, talkers: list[int], waves: NDArray[np.float32]) -> dict[int, Samples | None]:
		total, rooms = waves.sum(axis=0), self.nearest.rooms
		own = dict(zip(talkers, _as_sent(total - waves), strict=True))
		if len(talkers) == 1:
			own[talkers[0]] = None
		for first in {group[0] for group in rooms.values()}:
			others = [row for row, one in enumerate(talkers) if one not in rooms[first]]
			own.update(dict.fromkeys(rooms[first], _as_sent(waves[others].sum(axis=0)) if others else None))
		for id, gains in self._gains.items():
			if not gains.keys().isdisjoint(talkers):
				there = rooms.get(id, [id])
				wished = [0.0 if one in there else gains.get(one, 1.0) for one in talkers]
				times = np.array(wished, np.float32)
				own[id] = _as_sent(times @ waves) if times.any() else None
		return own

	@property
	def loudest(self) -> int:
		return self._loudest.current

	def _silence(self, id: int) -> None:
		self._level.pop(id, None)
		for hold in (self._loudest, self._runner_up):
			if hold.current == id:
				hold.current = 0

	def _measure(self, talkers: list[int], waves: NDArray[np.float32]) -> None:
		powers = (np.einsum("ij,ij->i", waves, waves) / (BLOCK * FULL_SCALE**2)).tolist()
		level = {id: 10.0 * math.log10(max(1e-9, one)) for id, one in zip(talkers, powers, strict=True)}
		self._level = {id: db + (self._level.get(id, db) - db) * self.INERTIA for id, db in level.items()}

	def _rank(self, now: float) -> tuple[int, int]:
		loudest = self._loudest.update(self._loudest_but(), now)
		rival = self._loudest_but(loudest)
		if self._runner_up.current == loudest:
			self._runner_up.current = 0
		return loudest, self._runner_up.update(rival, now)

	def _loudest_but(self, *ones: int) -> int:
		unheard = self.nearest.shut.union(ones)
		others = {id: level for id, level in self._level.items() if id not in unheard}
		id = max(others, key=others.__getitem__, default=0)
		return id if others.get(id, VOICE_DB) > VOICE_DB else 0


class VoiceActivityDetector:
	"""Tells blocks worth sending from silence; the hangover is longer after longer speech."""

	HANGOVER = 20  # blocks, 320 ms
	SHORTEST = 5
	LIKELY = 0.25  # a fan has 0.2 at most
	LOUD_DB = -45.0
	_spoken = _left = 0  # blocks

	def is_voice(self, samples: Samples, probability: float = 1.0) -> bool:
		"""Whether the next block of a stream is to be sent, which is speech by that `probability`.

		A probability lags behind: what is loud is sent at once, for its first syllable's sake.
		"""
		level = level_db(samples)
		if level >= (VOICE_DB if probability >= self.LIKELY else self.LOUD_DB):
			self._spoken += 1
			self._left = max(self._left, min(self.HANGOVER, self.SHORTEST + self._spoken))
			return True
		self._spoken = 0
		self._left = max(0, self._left - 1)
		return self._left > 0


class Resampler:
	"""Converts a stream of mono samples to another rate: a polyphase low-pass (windowed sinc, 70 dB)."""

	ZEROS = 24  # zero crossings on each side, counted at the lower rate: 1.5 ms at 16 kHz
	MOST_PHASES = 1024

	def __init__(self, rate_in: int, rate_out: int):
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
		half = math.ceil(cls.ZEROS / ratio)
		place = np.arange(1 - half, half + 1) - np.arange(phases)[:, None] / phases
		window = np.i0(7.0 * np.sqrt(np.maximum(0.0, 1.0 - (place / half) ** 2)))
		kernel = np.sinc(0.91 * ratio * place) * window
		weights: NDArray[np.float32] = (kernel / kernel.sum(axis=1, keepdims=True)).astype(np.float32)
		return weights


# ====
# [4] VIDEO - frames and their datagrams, reassembly, retransmission, the test card's clock
# Uses: BASICS, WIRE

# The test card's clock: 8 bits marker, 24 bits milliseconds, 8 bits CRC as 2 x 20 cells, black 0, white 1.
CLOCK_COLUMNS = 20
CLOCK_MARKER = 0xA5
CLOCK_SPAN = 1 << 24


def _crc8(data: bytes) -> int:
	crc = 0
	for byte in data:
		crc ^= byte
		for _ in range(8):
			crc = (crc << 1) ^ (0x107 if crc & 0x80 else 0)
	return crc


def _clock_grid(height: int, width: int) -> tuple[float, float]:
	cell = width / CLOCK_COLUMNS
	return cell, math.floor(height / cell - 2.0 + 1e-6) * cell


def stamp_clock(
	picture: Picture, now_unix: float, dark: tuple[int, int, int], light: tuple[int, int, int]
) -> None:
	"""Draw the time as two rows of cells at the bottom of `picture` (BGR, height x width x 3), in place.

	Any colours whose means lie well on either side of grey do.
	"""
	data = bytes((CLOCK_MARKER,)) + (round(now_unix * 1000.0) % CLOCK_SPAN).to_bytes(3, "big")
	bits = np.unpackbits(np.frombuffer(data + bytes((_crc8(data),)), np.uint8)).reshape(2, CLOCK_COLUMNS)
	cell, top = _clock_grid(*picture.shape[:2])
	widths = np.diff([round(column * cell) for column in range(CLOCK_COLUMNS + 1)])
	for row, line in enumerate(np.array((dark, light), np.uint8)[bits].repeat(widths, 1)):
		picture[max(0, round(top + row * cell)) : round(top + (row + 1) * cell)] = line


def read_clock(picture: Picture, now_unix: float) -> float | None:
	"""How old the time on `picture` (BGR) is in seconds, negative if it lies ahead; None without a clock."""
	cell, top = _clock_grid(*picture.shape[:2])
	if cell < 4.0 or top < 0.0:
		return None
	inside = np.array((0.35, 0.5, 0.65))  # nine pixels of each cell are looked at
	rows = (top + (np.arange(2)[:, None] + inside) * cell).astype(np.intp).reshape(-1, 1)
	columns = ((np.arange(CLOCK_COLUMNS)[:, None] + inside) * cell).astype(np.intp).ravel()
	light = picture[rows, columns].reshape(2, 3, CLOCK_COLUMNS, 9).mean(axis=(1, 3))
	if np.any(np.abs(light - 127.5) < 32.0):
		return None
	data = np.packbits(light > 127.5).tobytes()
	if data[0] != CLOCK_MARKER or data[4] != _crc8(data[:4]):
		return None
	age = round(now_unix * 1000.0) - int.from_bytes(data[1:4], "big")
	return ((age + CLOCK_SPAN // 2) % CLOCK_SPAN - CLOCK_SPAN // 2) / 1000.0


# A frame is kept as runs: parts that came in order in one buffer. What one GRO read brings is one run.

DATAGRAM = VIDEO_HEADER.size + CHUNK
_INDEXES = tuple(index.to_bytes(2, "big") for index in range(MAX_PARTS))

MAX_OPEN = 3  # frames of one sender and layer that are being collected
MAX_HELD = 1_000_000  # bytes of one sender's unfinished frames
MAX_SENDERS = 2 * MAX_PEOPLE
NACK_ROUNDS = 4
GAP_WAIT = 0.002
TAIL_WAIT = 0.010
NACK_AGAIN = 0.015
FRAME_LIFE = 0.120


class FrameLayout:
	"""Lays the datagrams of frames of up to `most` parts out back to back, each frame over the one before.

	A frame goes to many: what they have in common is laid out for the first of them.
	"""

	def __init__(self, most: int):
		self._octets = memoryview(bytearray(most * DATAGRAM))
		self._before, self._number = (-1, -1), -1

	@cached_property
	def _rows(self) -> NDArray[Any]:
		parts = {"ident": ">u4", "number": ">u4", "total": ">u2", "index": ">u2", "chunk": f"V{CHUNK}"}
		rows = np.frombuffer(self._octets, [*parts.items()])
		rows["index"] = np.arange(len(rows))
		return rows

	def lay(self, ident: int, number: int, sealed: bytes) -> memoryview:
		"""All datagrams of a frame, each of DATAGRAM bytes but a shorter last; good until the next call."""
		if (ident, len(sealed)) != self._before:
			self._before, self._number = (ident, len(sealed)), -1
			self._measure(*self._before)
		if number != self._number:
			self._numbers.fill(number)
			self._number = number
		self._chunks[:] = np.frombuffer(sealed, self._chunks.dtype, self._full)
		self._last[:] = sealed[self._full * CHUNK :]
		return self._layout

	def _measure(self, ident: int, size: int) -> None:
		self._full, total = size // CHUNK, parts_of(size)
		rows = self._rows[:total]
		rows["ident"], rows["total"] = ident, total
		self._numbers, self._chunks = rows["number"], rows["chunk"][: self._full]
		self._layout = self._octets[: total * VIDEO_HEADER.size + size]
		self._last = self._layout[len(self._layout) - size % CHUNK :]


class WholeFrame(NamedTuple):
	"""A frame whose parts are all there; `first_at` is when the first sign of it came."""

	id: int
	number: int
	sealed: bytes
	first_at: float


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
		end = self.first + self.length
		if not 0 < end <= self.total <= MAX_PARTS:
			return False
		size = len(self.chunks)
		return size == self.length * CHUNK or (
			end == self.total and (self.length - 1) * CHUNK < size < self.length * CHUNK
		)

	def singles(self) -> list[_Run]:
		return [
			self._replace(first=self.first + i, length=1, chunks=self.chunks[i * CHUNK : (i + 1) * CHUNK])
			for i in range(self.length)
		]


def _parse_batch(buffer: memoryview, segment: int) -> _Run | None:
	if segment != DATAGRAM or len(buffer) < DATAGRAM:
		return None
	ident, number, total, first = VIDEO_HEADER.unpack_from(buffer)
	count, full = -(-len(buffer) // DATAGRAM), len(buffer) // DATAGRAM
	grid = np.frombuffer(buffer, np.uint8, full * DATAGRAM).reshape(full, DATAGRAM)
	tail = buffer[full * DATAGRAM :]
	headers = grid[:, : VIDEO_HEADER.size].tobytes() + tail[: VIDEO_HEADER.size]
	same = VIDEO_HEADER.pack(ident, number, total, 0)[:-2]
	if headers != same + same.join(_INDEXES[first : first + count]):
		return None
	chunks = grid[:, VIDEO_HEADER.size :].tobytes() + tail[VIDEO_HEADER.size :]
	run = _Run(ident, number, total, first, count, chunks)
	return run if run.well_formed() else None


@dataclass
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
	ask_at: float = inf
	asked: int = 0  # the parts of the first nack, until one of them came
	asked_at: float = 0.0
	runs: dict[int, bytes] = field(default_factory=dict)

	def add(self, run: _Run) -> None:
		self.total = run.total
		self.have |= run.bits
		self.held += len(run.chunks)
		self.runs[run.first] = run.chunks

	@property
	def missing(self) -> int:
		return ((1 << self.total) - 1) & ~self.have if self.total else ALL_PARTS

	@property
	def due(self) -> float:
		return min(self.ask_at, self.first_at + FRAME_LIFE)

	def plan_first_ask(self, now: float, overtaken: bool) -> None:
		if self.rounds:
			return
		gap = overtaken or self.have & (self.have + 1)
		self.ask_at = min(self.ask_at, now + GAP_WAIT) if gap else now + TAIL_WAIT

	def ask(self, now: float, again_after: float) -> Nack:
		if not self.rounds:
			self.asked, self.asked_at = self.missing, now
		self.rounds += 1
		self.ask_at = now + again_after if self.rounds < NACK_ROUNDS else inf
		return Nack(self.id, self.number, self.missing)


class _Stream:
	"""The frames of one sender and layer: what is open, and up to where it was delivered."""

	def __init__(self, lost: int = 0, repaired: int = 0) -> None:
		self.delivered = -1
		self.lost = lost  # given up, or passed over by a later one that was delivered
		self.passed = 0  # those of them that were given up since the last delivery
		self.repaired = repaired
		self.before = (-1, 0, 0, 0)
		self.open: dict[int, _OpenFrame] = {}
		self.given_up = deque[int](maxlen=16)

	def newest(self) -> int:
		return max(self.delivered, max(self.open, default=-1), max(self.given_up, default=-1))

	def deliver(self, number: int, repaired: bool = False) -> None:
		self.before = (self.delivered, self.lost, self.repaired, self.passed)
		if self.delivered >= 0:
			self.lost += max(0, number - self.delivered - 1 - self.passed)
		self.passed = 0
		self.repaired += repaired
		self.delivered = number
		self.given_up.clear()
		self.open = {later: frame for later, frame in self.open.items() if later > number}

	def give_up(self, number: int) -> None:
		del self.open[number]
		self.given_up.append(number)
		self.lost += 1
		self.passed += 1


class Reassembler:
	"""Collects the parts of frames, newest frame first, and says what to ask for again.

	`layered`: numbers carry the layer in their top two bits (upstream). With `only`, parts of others are
	dropped. What a peer sends wrongly is dropped and counted.
	"""

	def __init__(self, layered: bool, counters: Counters, only: Collection[int] | None = None):
		self.rtt = 0.0  # smoothed round-trip time in seconds, 0 while it is not known
		self._only = only
		self._layer_shift = LAYER_SHIFT if layered else 32
		self._counters = counters
		self._streams: dict[int, dict[int, _Stream]] = {}  # by sender and layer
		self._due = inf

	@property
	def lost(self) -> int:
		"""Frames so far. From any thread."""
		return sum(one.lost for streams in list(self._streams.values()) for one in list(streams.values()))

	def collect_only(self, ids: Collection[int]) -> None:
		"""Parts of others than `ids` are dropped from now on, and no longer asked for."""
		self._only = ids
		for ident, streams in self._streams.items():
			for stream in () if ident in ids else streams.values():
				stream.open.clear()

	def start_anew(self) -> None:
		"""Numbers begin anew, counts go on."""
		self.rtt, self._due = 0.0, inf
		for streams in self._streams.values():
			for layer, stream in streams.items():
				streams[layer] = _Stream(stream.lost, stream.repaired)

	def note_rtt(self, seconds: float) -> None:
		"""Something went there and its answer came back in `seconds`: a bind or challenge, a nack."""
		self.rtt += (min(seconds, FRAME_LIFE) - self.rtt) * (0.125 if self.rtt else 1.0)

	def push(self, datagram: bytes | memoryview, now: float) -> WholeFrame | None:
		"""Take one datagram; the frame that it completes, if any."""
		if len(datagram) >= VIDEO_HEADER.size:
			ident, number, total, index = VIDEO_HEADER.unpack_from(datagram)
			run = _Run(ident, number, total, index, 1, bytes(datagram[VIDEO_HEADER.size :]))
			if run.well_formed():
				return self._take(run, now)
		self._counters.add("video.malformed")
		return None

	def push_batch(self, buffer: bytes | memoryview, segment: int, now: float) -> list[WholeFrame]:
		"""Take a buffer of datagrams of `segment` bytes each (the last may be shorter), as GRO gives it."""
		view = memoryview(buffer)
		if (run := _parse_batch(view, segment)) is not None:
			frames = [self._take(run, now)]
		else:
			step = max(1, segment)
			frames = [self.push(view[at : at + step], now) for at in range(0, len(view), step)]
		return [frame for frame in frames if frame is not None]

	def retry(self, frame: WholeFrame) -> bool:
		"""`frame` did not open: its parts are asked for once more. False if that was done before."""
		stream = self._streams.get(frame.id, {}).get(frame.number >> self._layer_shift)
		if stream is None or stream.delivered != frame.number:
			return False
		stream.delivered, stream.lost, stream.repaired, stream.passed = stream.before
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
		self._due = inf
		wait = max(NACK_AGAIN, 1.5 * self.rtt)
		for streams in self._streams.values():
			for stream in streams.values():
				for frame in list(stream.open.values()):
					if now >= frame.first_at + FRAME_LIFE:
						stream.give_up(frame.number)
						continue
					if now >= frame.ask_at:
						asked.append(frame.ask(now, wait))
					self._due = min(self._due, frame.due)
		return asked

	def next_due(self, now: float) -> float | None:
		"""When to call `nacks` next (it may find nothing to do); None when nothing was open at its last."""
		return max(now, self._due) if self._due < inf else None

	def counts(self, ident: int) -> dict[str, int]:
		"""Frames of `ident` so far that were never delivered, and those delivered after a nack."""
		streams = self._streams.get(ident, {}).values()
		return {"lost_frames": sum(s.lost for s in streams), "repaired": sum(s.repaired for s in streams)}

	def held(self, ident: int) -> int:
		"""Bytes of its unfinished frames."""
		streams = self._streams.get(ident, {}).values()
		return sum(frame.held for stream in streams for frame in stream.open.values())

	def forget(self, ident: int) -> None:
		self._streams.pop(ident, None)

	def _take(self, run: _Run, now: float) -> WholeFrame | None:
		if self._only is not None and run.id not in self._only:
			self._counters.add("video.unasked", run.length)
			return None
		if run.id not in self._streams and len(self._streams) >= MAX_SENDERS:
			self.forget(next(iter(self._streams)))
		streams = self._streams.setdefault(run.id, defaultdict(_Stream))
		stream = streams[run.number >> self._layer_shift]
		if run.number <= stream.delivered or run.number in stream.given_up:
			self._counters.add("video.late", run.length)
			return None
		if run.length == run.total and run.number == stream.delivered + 1 and not stream.open:
			stream.deliver(run.number)  # whole, and nothing else to think of
			return WholeFrame(run.id, run.number, run.chunks, now)
		frame = stream.open.get(run.number) or self._open(stream, run, now)
		if frame.total not in (0, run.total):
			self._counters.add("video.other_total", run.length)
			return None
		if frame.have & run.bits:
			return self._take_overlap(run, frame, now)
		self._make_room(frame, len(run.chunks))
		if frame.asked & run.bits:
			self.note_rtt(now - frame.asked_at)
			frame.asked = 0
		frame.add(run)
		if not frame.missing:
			stream.deliver(frame.number, frame.rounds > 0)
			if frame.again:
				stream.given_up.append(frame.number)
			sealed = b"".join(frame.runs[first] for first in sorted(frame.runs))
			return WholeFrame(frame.id, frame.number, sealed, frame.first_at)
		frame.plan_first_ask(now, overtaken=frame.number < stream.newest())
		self._due = min(self._due, frame.due)
		return None

	def _take_overlap(self, run: _Run, frame: _OpenFrame, now: float) -> WholeFrame | None:
		fresh = [part for part in run.singles() if not frame.have & part.bits]
		self._counters.add("video.duplicate", run.length - len(fresh))
		frames = [self._take(part, now) for part in fresh]
		return frames[-1] if frames else None

	def _open(self, stream: _Stream, run: _Run, now: float) -> _OpenFrame:
		newest, first = stream.newest(), run.number
		if 0 <= newest < run.number:
			free = max(0, MAX_OPEN - 1 - len(stream.open))
			first = max(newest + 1, run.number - free)
		if len(stream.open) >= MAX_OPEN:
			self._counters.add("video.crowded")
			stream.give_up(next(iter(stream.open)))
		for number in range(first, run.number + 1):
			stream.open[number] = _OpenFrame(run.id, number, now)
		for frame in stream.open.values():
			if frame.number < run.number:
				frame.plan_first_ask(now, overtaken=True)
				self._due = min(self._due, frame.due)
		return stream.open[run.number]

	def _make_room(self, keep: _OpenFrame, size: int) -> None:
		streams = self._streams[keep.id]
		while self.held(keep.id) + size > MAX_HELD:
			frames = (one for stream in streams.values() for one in stream.open.values())
			others = (one for one in frames if one is not keep and one.held)
			oldest = min(others, key=lambda one: (one.first_at, one.number))
			self._counters.add("video.crowded")
			streams[oldest.number >> self._layer_shift].give_up(oldest.number)


class _Sent(NamedTuple):
	"""A frame that was sent: when, what it adds to an allowance, and its number for each receiver."""

	at: float
	frame: bytes
	earned: float
	numbers: dict[int, int]


class RetransmissionCache:
	"""The newest frames of one sender, kept once for all who receive them, each under numbers of its own."""

	LIFE = 0.25  # seconds
	MOST = 4 * 16  # that many are sent in LIFE of four layers at 60 a second
	SAVED = 30  # frames of which the allowance is kept
	BUDGET = 0.25  # of what is sent

	def __init__(self) -> None:
		self._frames: dict[int, _Sent] = {}  # by place
		self.place = 0  # of the frame stored last
		self._receivers: dict[int, float] = {}  # bytes that each may be sent again

	def store(self, frame: bytes, now: float) -> None:
		"""Keep a frame as it is sent."""
		self.place += 1
		self._frames[self.place] = _Sent(now, frame, self.BUDGET * len(frame), {})
		self.expire(now)

	def note_sent(self, number: int, receiver: int = 0, place: int = 0) -> None:
		"""The frame stored last, or at `place`, goes to `receiver` as `number`."""
		sent = self._frames.get(place or self.place)
		if sent is None:  # it waited for too long
			return
		sent.numbers[receiver] = number
		allowed, most = self._receivers.get(receiver, 0.0) + sent.earned, self.SAVED * sent.earned
		self._receivers[receiver] = min(allowed, most)

	def resend(
		self, nack: Nack, now: float, seal: Callable[[int, bytes], bytes] | None = None, receiver: int = 0
	) -> list[bytes]:
		"""The datagrams asked for, the very same again; none when older than LIFE or over the budget, a
		share of what that receiver was sent of late. `seal(number, frame)`: where frames are stored open.
		"""
		asked_for = (one for one in self._frames.values() if one.numbers.get(receiver) == nack.number)
		if (sent := next(asked_for, None)) is None or now - sent.at > self.LIFE:
			return []
		sealed = seal(nack.number, sent.frame) if seal else sent.frame
		total = parts_of(len(sealed))
		asked = [index for index in range(total) if nack.bitmap >> index & 1]
		chunks = {index: sealed[index * CHUNK : (index + 1) * CHUNK] for index in asked}
		size = sum(map(len, chunks.values()))
		if size > self._receivers[receiver]:
			return []
		self._receivers[receiver] -= size
		head = nack.id, nack.number, total
		return [VIDEO_HEADER.pack(*head, index) + chunk for index, chunk in chunks.items()]

	def expire(self, now: float) -> None:
		"""Let go of what is too old to be sent again."""
		while self._frames and (
			len(self._frames) > self.MOST or now - next(iter(self._frames.values())).at > self.LIFE
		):
			del self._frames[next(iter(self._frames))]

	def forget(self, receiver: int) -> None:
		"""Nothing that was sent to it is sent again, for it may come back with another key."""
		self._receivers.pop(receiver, None)
		for sent in self._frames.values():
			sent.numbers.pop(receiver, None)


class FrameDropper:
	"""Lets at most `fps` frames a second pass, evenly; a frame early by a quarter period still passes."""

	def __init__(self, fps: float):
		self.fps = fps
		self._level = 1.0
		self._at = -inf

	def take(self, now: float) -> bool:
		"""Whether the frame at `now` passes."""
		earned = self._level + (now - self._at) * self.fps
		# what jitter held back is made up for, or two droppers in a row would lose a tenth
		self._level = min(earned, 2.5) if earned < inf else 1.0
		self._at = now
		if self.fps <= 0 or self._level < 0.75:
			return False
		self._level -= 1.0
		return True


# ====
# [5] TILES - the shared screen as state
# Uses: BASICS, WIRE

# A grid of 64-pixel tiles, each of which belongs to the newest rectangle that covers it; a rectangle lives
# while it owns a tile. Newest is by the presenter's `version`, never by the order of arrival.

TILE = 64
STILL_AFTER = 0.3


def _tiles_of(size: int) -> int:
	return -(-size // TILE)


@dataclass
class TileCursor:
	"""How far a viewer has got; `waiting` is what it still has to be sent of a change, its commit last."""

	epoch: int = -1
	serial: int = 0
	waiting: deque[Rectangle | Commit] = field(default_factory=deque)


def _check_on_grid(rectangle: Rectangle, geometry: Geometry) -> None:
	for start, size, whole in (
		(rectangle.x, rectangle.width, geometry.width),
		(rectangle.y, rectangle.height, geometry.height),
	):
		end = start + size
		if start % TILE or not 0 < size <= MAX_RECTANGLE or end > whole or (end % TILE and end != whole):
			raise PeerFault("bad_screen", "off the grid")


def _place_of(rectangle: Rectangle) -> tuple[slice, slice]:
	top, left = rectangle.y // TILE, rectangle.x // TILE
	return slice(top, top + _tiles_of(rectangle.height)), slice(left, left + _tiles_of(rectangle.width))


class TileTable:
	"""The newest bytes of each place of the shared screen, for server and presenter.

	Rectangles count from the next `commit` on: nobody is sent half a change.
	"""

	MOST = 96 << 20  # bytes in all: a photograph of MAX_SCREEN

	def __init__(self) -> None:
		self._version = self._serial = 0
		self.geometry = Geometry(-1, 0, 0)

	def take(self, message: ScreenMessage) -> None:
		"""A message of who shares; PeerFault where it breaks the rules below."""
		match message:
			case Geometry():
				self.set_geometry(message)
			case Rectangle():
				self.put(message)
			case Commit():
				self.commit(message)

	def set_geometry(self, geometry: Geometry) -> None:
		"""Start a new epoch; PeerFault unless it is higher than the last."""
		if geometry.epoch <= self.geometry.epoch:
			raise PeerFault("bad_screen", "epoch")
		self.geometry = geometry
		rows, columns = _tiles_of(geometry.height), _tiles_of(geometry.width)
		self._owners = np.zeros((rows, columns), np.int64)  # by serial number, 0: none yet
		self._versions = np.full((rows, columns), -1, np.int64)
		self._rectangles: dict[int, Rectangle] = {}  # by serial number, in order of arrival
		self._pending: list[Rectangle] = []
		self._serial = self._size = self._pending_tiles = 0

	def put(self, rectangle: Rectangle) -> None:
		"""Take a rectangle for the next commit; one of an earlier epoch is ignored.

		PeerFault when it is off the grid, or too much comes without a commit.
		"""
		if rectangle.epoch > self.geometry.epoch:
			raise PeerFault("bad_screen", "epoch")
		if rectangle.epoch < self.geometry.epoch:
			return
		_check_on_grid(rectangle, self.geometry)
		self._pending_tiles += _tiles_of(rectangle.width) * _tiles_of(rectangle.height)
		if self._pending_tiles > 2 * self._owners.size:
			raise PeerFault("bad_screen", "too much without a commit")
		size = len(rectangle.data)
		if size > PICTURE_HEAD + 4 * rectangle.width * rectangle.height or self._size + size > self.MOST:
			raise PeerFault("bad_screen", "more bytes than pixels")
		self._pending.append(rectangle)
		self._size += size

	def commit(self, commit: Commit) -> None:
		"""Make the rectangles since the last commit the state."""
		if commit.epoch != self.geometry.epoch:
			return
		for rectangle in self._pending:
			self._own(rectangle)
		self._version = max(self._version, commit.version)
		self._pending, self._pending_tiles = [], 0

	def _own(self, rectangle: Rectangle) -> None:
		place = _place_of(rectangle)
		won = self._versions[place] < rectangle.version
		if not won.any():
			self._size -= len(rectangle.data)
			return
		self._serial += 1
		self._rectangles[self._serial] = rectangle
		losers = set(self._owners[place][won].tolist())
		self._owners[place][won] = self._serial
		self._versions[place][won] = rectangle.version
		for loser in losers:
			if loser and not (self._owners == loser).any():
				self._size -= len(self._rectangles.pop(loser).data)

	def since(self, cursor: TileCursor) -> Geometry | Rectangle | Commit | None:
		"""The next message for the viewer at `cursor`, which moves; None when it has everything.

		A change once begun is sent to its commit; the next begins with the newest state: a slow viewer skips.
		"""
		if cursor.epoch != self.geometry.epoch:
			cursor.epoch, cursor.serial = self.geometry.epoch, 0
			cursor.waiting.clear()
			return self.geometry
		if not cursor.waiting and cursor.serial < self._serial:
			cursor.waiting.extend(one for serial, one in self._rectangles.items() if serial > cursor.serial)
			cursor.waiting.append(Commit(cursor.epoch, self._version))
			cursor.serial = self._serial
		return cursor.waiting.popleft() if cursor.waiting else None


class TileCanvas:
	"""A viewer's picture: what is placed shows at the next commit, and nothing older covers newer.

	Beyond MOST_SCREENS of rectangles it shows without one, to bound memory.
	"""

	MOST_SCREENS = 4  # that wait for their commit

	def __init__(self) -> None:
		self.set_geometry(Geometry(-1, 0, 0))

	def set_geometry(self, geometry: Geometry) -> None:
		"""Start with an empty picture of a new size."""
		rows, columns = _tiles_of(geometry.height), _tiles_of(geometry.width)
		self.geometry = geometry
		self.picture = np.zeros((geometry.height, geometry.width, 3), np.uint8)
		self._versions = np.full((rows, columns), -1, np.int64)
		self._exact = np.zeros((rows, columns), np.bool_)
		self._pending: list[tuple[Rectangle, Picture]] = []
		self._held = 0  # bytes in it

	def place(self, rectangle: Rectangle, pixels: Picture) -> None:
		"""Keep decoded BGR `pixels` for the next commit; PeerFault when they do not fit the screen."""
		if rectangle.epoch != self.geometry.epoch:
			return
		_check_on_grid(rectangle, self.geometry)
		if pixels.shape != (rectangle.height, rectangle.width, 3):
			raise PeerFault("bad_picture", "size")
		self._pending.append((rectangle, pixels))
		self._held += pixels.nbytes
		if self._held > self.MOST_SCREENS * self.picture.nbytes:
			self._paint_pending()

	def commit(self, commit: Commit) -> bool:
		return commit.epoch == self.geometry.epoch and self._paint_pending()

	def _paint_pending(self) -> bool:
		changed = [self._paint(*pending) for pending in self._pending]
		self._pending, self._held = [], 0
		return any(changed)

	@property
	def exact(self) -> bool:
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
		self._exact[place][newer] = rectangle.codec != Codec.JPEG
		return bool(newer.any())


class TileDiffer:
	"""Finds the tiles that changed since the last picture."""

	def __init__(self) -> None:
		self._shape: tuple[int, ...] = ()
		self._before = self._now = np.zeros((0, 0), np.uint64)

	def changed(self, picture: Picture) -> NDArray[np.bool_]:
		"""(rows, columns) of tiles, true where a pixel differs, or all when the size does.

		`picture`: height x width x 3 or 4 bytes; it is copied.
		"""
		fresh = picture.shape != self._shape
		if fresh:
			self._shape = picture.shape
			words = _tiles_of(picture.shape[1]) * TILE * picture.shape[2] // 8
			self._before, self._now = np.zeros((2, picture.shape[0], words), np.uint64)
		height, width, depth = picture.shape
		rows = self._now.view(np.uint8)
		rows[:height, : width * depth] = picture.reshape(height, width * depth)
		mask = np.ones((_tiles_of(height), _tiles_of(width)), np.bool_)
		if not fresh:
			for row in range(mask.shape[0]):  # a band at a time stays in the cache
				band = slice(row * TILE, (row + 1) * TILE)
				bits = np.bitwise_or.reduce(self._now[band] ^ self._before[band], axis=0)
				mask[row] = bits.reshape(mask.shape[1], -1).any(axis=1)
		self._before, self._now = self._now, self._before
		return mask


def _leading(flags: NDArray[np.bool_]) -> int:
	return len(flags) if flags.all() else int(flags.argmin())


def merge_rectangles(mask: NDArray[np.bool_], width: int, height: int) -> list[tuple[int, int, int, int]]:
	"""The set tiles of `mask` as few disjoint rectangles (x, y, w, h) in pixels."""
	left = mask.copy()
	limit = MAX_RECTANGLE // TILE
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
	"""Which tiles have not changed for 0.3 s and were not sent lossless since."""

	def __init__(self, rows: int, columns: int):
		self._changed_at = np.full((rows, columns), np.inf)

	def changed(self, mask: NDArray[np.bool_], now: float) -> None:
		self._changed_at[mask] = now

	def due(self, now: float) -> NDArray[np.bool_]:
		return self._changed_at <= now - STILL_AFTER

	def sent(self, x: int, y: int, width: int, height: int) -> None:
		"""These pixels were sent lossless."""
		rows = slice(y // TILE, _tiles_of(y + height))
		self._changed_at[rows, x // TILE : _tiles_of(x + width)] = np.inf

	def next_due(self) -> float | None:
		"""When the next tile will have been still for long enough."""
		first = float(self._changed_at.min(initial=np.inf))
		return first + STILL_AFTER if first < inf else None


# ====
# [6] BANDWIDTH - what a path carries, who gets which layer, when bytes leave
# Uses: BASICS, VIDEO

# -- estimator
#
# The receiver measures (ReceiverReport), the server concludes (BandwidthEstimator), for it alone sees all
# that goes there. Sound is the clock: its blocks leave every 16 ms, so how late they come is the queue in
# front of them. tests/test_adaptation.py says what doubling each constant changes.
LAG_SAMPLES = 6  # blocks that tell a queue from jitter
LAG_MEMORY = 15.0  # s after which the least lag is learnt anew, for clocks drift apart
REPORT_USUAL = 0.5  # s between reports
REPORT_CALM = 2.0  # s between them once all has been well for longer than a limit lasts
REPORT_URGENT = 0.25  # s between them after a loss or in a queue
STIRRING = 0.006  # s of lasting delay from which reports are urgent, and which end a probe
QUEUED = 0.020  # s of lasting delay that count as a queue: one of 30 ms is left as it is
MUCH_LOST = 0.05  # share, where there is a limit
LOST_BY_CHANCE = 0.15  # share, elsewhere: a bad radio loses that, a path that is too short far more
LOSS_MEMORY = 1.0  # s over which losses are averaged
LEAST_RATE = 20_000.0  # bytes/s that are tried on any path
AT_ONCE, MANY = 2.0, 3  # s in which so many paths are cut that they share a bottleneck, as one Wi-Fi
CUT_WAIT = 0.6  # s until a cut shows in what is reported
CUTS_IN_VAIN = 3  # cuts after which a steady queue is left alone: other traffic makes it
REST = 0.9  # of the capacity that is used for long
TRIED = 1.2  # times the capacity, a probe
PROOF = 1.02  # times the capacity shows that there is more
PROOF_SECONDS = 3.5  # more than the credit that a shaper has saved up
PROOF_LATEST = 11.0  # s, where there is not enough to send for a proof
CLIMB_AFTER = 4.0  # s without trouble
CLIMB = 1.1  # times a second, up to TRIED
CLIMB_FREELY = 1.8  # times a second after a proof
STEP = 1.6  # times what comes may be tried next
LEAP = 2.5  # ... where there was not enough to send: the next layer takes as much
FORGET_AFTER = 30.0  # s without trouble, then there is no limit any more


class ReceiverReport:
	"""How well things come: share of pictures lost, lag of sound, bits that come through."""

	def __init__(self) -> None:
		self._least = [inf, inf]  # the least lag in this stretch of LAG_MEMORY and the one before
		self._turned = -inf
		self._lags = deque[tuple[float, float]](maxlen=32)
		self._before = (0, 0, 0)
		self._at = self._trouble_at = -inf

	def note_block(self, seq: int, now: float) -> None:
		"""Block `seq` of sound came."""
		lag = now - seq * BLOCK_SECONDS
		if now - self._turned > LAG_MEMORY:
			self._least = [inf, self._least[0]]
			self._turned = now
		self._least[0] = min(self._least[0], lag)
		self._lags.append((now, lag))

	def report(self, octets: int, pictures: int, lost: int, now: float) -> Json | None:
		"""What to say of the time since the last report, None while there is no need; the counts run on."""
		took = now - self._at
		if took < REPORT_URGENT:
			return None
		counts = (octets, pictures, lost)
		if took == inf:  # from now on
			self._before, self._at, self._trouble_at = counts, now, now
			return None
		came, whole, gone = (max(0, new - old) for new, old in zip(counts, self._before, strict=True))
		queue = self._queue(now)
		if gone or queue >= STIRRING:
			self._trouble_at = now
		elif took < (REPORT_CALM if now - self._trouble_at > FORGET_AFTER + REPORT_CALM else REPORT_USUAL):
			return None
		self._before, self._at = counts, now
		loss = round(gone / (gone + whole), 4) if gone else 0.0
		return {"loss": loss, "delay_ms": round(1e3 * queue, 1), "kbps": round(came / 125.0 / took, 1)}

	def _queue(self, now: float) -> float:
		lags = [lag for at, lag in self._lags if now - at < REPORT_URGENT]
		if len(lags) < LAG_SAMPLES:  # silence: a few blocks a second
			lags = [lag for at, lag in list(self._lags)[-LAG_SAMPLES:] if now - at < 2.0]
		return min(lags) - min(self._least) if len(lags) >= LAG_SAMPLES else 0.0


class BandwidthEstimator:
	"""The bytes of video a second that a path may be given, from what its receiver reports.

	No limit until more is lost than by chance, or a queue grows. Then what came through is the capacity,
	and less is sent until the queue is gone (back-off). After CLIMB_AFTER more is tried (probe): TRIED times
	the capacity, and beyond that once it came through for PROOF_SECONDS.
	"""

	rate = inf
	capacity = inf  # bytes a second that came through when it was too much
	_delay = _loss = _received = 0.0
	_lost = 0.0  # the share lost, over LOSS_MEMORY
	cut_at = _at = -inf
	_cuts = 0
	_probing = _probed = False  # and whether the probe succeeded
	_more_since = inf

	@property
	def sure(self) -> float:
		return min(self.rate, REST * self.capacity) if self._probing else self.rate

	def probe(self, used: float) -> float:
		"""0..1: `used` bytes a second is that much below the rate under test: the share to send twice."""
		return max(0.0, min(1.0, self.rate / used - 1.0)) if self._probing and used > 0.0 else 0.0

	def report(self, loss: float, delay: float, received: float, now: float) -> None:
		"""`loss` 0..1, `delay` in seconds of queue, `received` in bytes of video a second."""
		grows = delay > self._delay + 0.005
		lasts = min(delay, self._delay)
		queued = lasts > (STIRRING if self._probing or self._probed else QUEUED) or delay > 5 * QUEUED
		fresh = now - self.cut_at < CUT_WAIT
		loses = self._loses(loss, received, now)
		self._loss, self._delay, self._received = loss, delay, received
		if loses or queued:
			if fresh and received > 0.7 * self.rate:
				self.capacity = self._at_least(min(received, self.capacity))  # a queue shows it exactly
			elif loses or grows or self._cuts < CUTS_IN_VAIN:
				self._back_off(received, delay, now)
		elif self.rate < inf:
			self._increase(received, now)
		self._at = now

	def _loses(self, loss: float, received: float, now: float) -> bool:
		"""Whether more is lost than by chance: a report tells of a few pictures, of which any one may be."""
		self._lost += (loss - self._lost) * min(0.5, (now - self._at) / LOSS_MEMORY)
		much = loss > 5 * MUCH_LOST
		if self.rate < inf:
			return much or min(loss, self._loss) > MUCH_LOST
		return self._lost > LOST_BY_CHANCE or (much and received < 0.4 * self._received)

	def _back_off(self, received: float, delay: float, now: float) -> None:
		self._probing = self._probed = False
		self._more_since = inf
		self.capacity = self._at_least(min(received, max(self.rate, self.capacity)))
		self.rate = max(LEAST_RATE, self.capacity * max(0.4, REST - 2.0 * delay))
		self.cut_at = now
		self._cuts += 1

	def _at_least(self, capacity: float) -> float:
		"""One measurement lowers the capacity by 40 % at most: who stalled reports little, too."""
		known = self.capacity
		return max(LEAST_RATE, capacity if known == inf else max(capacity, 0.6 * known))

	def _increase(self, received: float, now: float) -> None:
		self._cuts = 0
		self.rate = max(self.rate, REST * self.capacity)
		since, elapsed = now - self.cut_at, min(1.0, now - self._at)
		if since > FORGET_AFTER:
			self.rate, self._probing, self._probed = inf, False, False
		elif self._probed:
			most = STEP if self._more_since < inf else LEAP
			self.rate = max(self.rate, min(self.rate * CLIMB_FREELY**elapsed, most * received))
		elif since > CLIMB_AFTER:
			self.rate = max(self.rate, min(self.rate * CLIMB**elapsed, TRIED * self.capacity))
			self._more_since = min(self._more_since, now) if received > PROOF * self.capacity else inf
			self._probed = now - self._more_since > PROOF_SECONDS or since > PROOF_LATEST
			self._probing = not self._probed


# -- allocator

Sizes = Mapping[tuple[int, int], float]  # bytes of a picture, by sender and layer
LayerRate = tuple[int, int]  # of somebody's pictures: (layer, pictures a second)
LayerRates = Mapping[int, LayerRate]  # by sender

USUAL_SIZES = (3_000, 7_000, 18_000, 45_000)  # bytes of a picture of each layer, to begin with
FRAME_SECONDS = 0.1  # that one picture may take on a path
LINGER = 2.0  # seconds that a layer is still encoded after its last use
HEADWAY = 1.08  # pacing factor: frames leave that much faster than they come, or they would queue
REPORT_LEAST = 0.2  # seconds between two reports that count
MOST_PIXELS = 8 * 30 * 1_280 * 720  # a second that one may watch: eight in the largest layer


class Reroute(NamedTuple):
	"""Who must receive pictures of `sender` has changed; see `LayerAllocator.routes`."""

	sender: int


class SetRate(NamedTuple):
	"""Send pictures to `id` at `rate` bytes a second at most; `probe` as `BandwidthEstimator.probe`.

	`lossy`: a receiver without a limit lost frames, so the pacer must send in small bursts for a while.
	"""

	id: int
	rate: float
	probe: float = 0.0
	lossy: bool = False


class Tell(NamedTuple):
	"""Effect: send `message` to the members `to`."""

	to: tuple[int, ...]
	message: Json


Allocation = list[Reroute | SetRate | Tell]  # what has changed


def picture_size(seen: Sizes, sender: int, layer: int) -> float:
	"""Bytes of a picture of `sender`: as seen of late in that layer, else judged by its other layers."""
	known = [one for one in range(len(LAYERS)) if (sender, one) in seen]
	if not known:
		return USUAL_SIZES[layer]
	near = min(known, key=lambda one: abs(one - layer))
	return seen[sender, near] * USUAL_SIZES[layer] / USUAL_SIZES[near]


def allocate(
	path: BandwidthEstimator, asked: LayerRates, held: LayerRates, sizes: Sizes, first: int
) -> dict[int, LayerRate]:
	"""What of `asked` fits `path`: everyone's smallest picture at a third of the rate or less; the rest
	is for the speaker `first`, then for larger tiles. `held` is what was had so far."""
	if path.rate == inf:
		return dict(asked)
	order = sorted(asked, key=lambda sender: (sender != first, -asked[sender][0], sender))
	allocation: dict[int, LayerRate] = {}
	left = path.rate
	small = {sender: picture_size(sizes, sender, 0) for sender in asked}
	thirds = {sender: -(-fps // 3) for sender, (_, fps) in asked.items()}
	thin = min(1.0, path.rate / max(1.0, sum(small[sender] * fps for sender, fps in thirds.items())))
	for sender in order:
		fps = max(1, int(thirds[sender] * thin))
		if small[sender] * fps <= left:
			allocation[sender] = 0, fps
			left -= small[sender] * fps
	for sender, least in list(allocation.items()):
		left += small[sender] * least[1]
		best = _best_layer(sender, left, path, asked[sender], held.get(sender, (-1, 0)), sizes)
		allocation[sender] = layer, fps = best or least
		left -= picture_size(sizes, sender, layer) * fps
	return allocation


def _best_layer(
	sender: int, left: float, path: BandwidthEstimator, asked: LayerRate, held: LayerRate, sizes: Sizes
) -> LayerRate | None:
	"""Highest layer for which at least half of the wanted fps fits into `left`, and how many fit.

	To go up a layer it must fit with 25 % to spare and without the probed part of the rate: viewers notice
	changes of size, not of fps.
	"""
	for layer in range(asked[0], -1, -1):
		size, half = picture_size(sizes, sender, layer), (asked[1] + 1) // 2
		fits = min(asked[1], int(left / size)) >= half and size <= path.rate * FRAME_SECONDS
		if layer > held[0] >= 0:
			fits = fits and left - (path.rate - path.sure) >= 1.25 * half * size
		if fits:
			fps = min(asked[1], int(left / size))
			keeps = (layer, abs(fps - held[1])) == (held[0], 1) and size * held[1] <= 1.05 * left
			return layer, held[1] if keeps and max(fps, held[1]) < asked[1] else fps
	return None


@dataclass
class _Participant:
	"""What one person wants to see, what it gets of that, and what its ways down and up carry."""

	subscriptions: dict[int, LayerRate] = field(default_factory=dict)
	allocation: dict[int, LayerRate] = field(default_factory=dict)
	down: BandwidthEstimator = field(default_factory=BandwidthEstimator)
	up: BandwidthEstimator = field(default_factory=BandwidthEstimator)
	uplink: ReceiverReport = field(default_factory=ReceiverReport)  # as the relay sees it
	reported: float = -inf
	coarse: bool = False  # its pictures may be coded at a lower quality
	level: int = 0  # 1: it knows WebP, 2: and patches
	# what it was told last
	encodes: Json = field(default_factory=lambda: {"layers": {}, "coarse": [], "webp": False, "patch": False})


class LayerAllocator:
	"""Layer and fps for each pair of people, and what each sender must encode, from estimates, subscriptions
	and sizes of pictures. Every public step returns what has changed."""

	def __init__(self) -> None:
		self.sizes: Sizes = {}
		self.people: dict[int, _Participant] = {}
		self._loudest = 0
		self._lingering: dict[tuple[int, int], tuple[int, float]] = {}
		self._receivers: dict[int, dict[int, LayerRate]] = {}  # everyone's allocation, by sender
		self._encodes = 0  # that were told
		self._dropped, self._dropped_at = 0, -inf
		self._evened_at = -inf

	def join(self, ident: int, features: Collection[str] = ()) -> None:
		self.people[ident] = _Participant(level=("webp" in features) + ("patch" in features))

	def leave(self, ident: int, now: float) -> Allocation:
		"""Somebody neither sees nor is seen any longer."""
		person = self.people.pop(ident)
		self._note_lingering(person.allocation, {}, now)
		changes: Allocation = [Reroute(ident)]
		self._receivers.pop(ident, None)
		for sender in person.allocation:
			self._receivers[sender].pop(ident)
			changes += self._encode(sender, now, Reroute(sender))
		for other in self.people.values():
			other.subscriptions.pop(ident, None)
			other.allocation.pop(ident, None)
		return changes

	def subscribe(self, ident: int, wanted: LayerRates, now: float) -> Allocation:
		"""`ident` wants to see these from now on, {sender: (layer, fps)}, and nobody else. Beyond MOST_PIXELS
		they come at the lowest layer."""
		left, kept = MOST_PIXELS, {}
		for sender, (layer, fps) in wanted.items():
			if sender not in self.people or sender == ident:
				continue
			pixels = math.prod(LAYERS[layer]) * fps
			if pixels > left:
				layer, fps, pixels = 0, min(fps, DEFAULT_FPS), 0
			left -= pixels
			kept[sender] = (layer, fps)
		self.people[ident].subscriptions = kept
		return self._allocate(ident, now)

	def report(self, ident: int, message: Json, now: float) -> Allocation:
		"""How pictures come at `ident`: `loss` 0..1, `delay_ms` of queue, `kbps` of video that came."""
		person = self.people[ident]
		if "kbps" not in message or now - person.reported < REPORT_LEAST:
			return []
		person.reported, before = now, person.down.rate
		person.down.report(message["loss"], message["delay_ms"] / 1e3, message["kbps"] * 125.0, now)
		if person.down.rate == before == inf:
			return [SetRate(ident, inf, lossy=True)] if message["loss"] else []
		return self._set_rate(ident, now)  # also at the same rate: the pictures' sizes change

	def _set_rate(self, ident: int, now: float) -> Allocation:
		changes, person = self._allocate(ident, now), self.people[ident]
		probe = person.down.probe(self._cost(person.allocation))
		return [SetRate(ident, person.down.rate * HEADWAY, probe), *changes]

	def _even_out(self, short: Mapping[int, BandwidthEstimator], now: float) -> Allocation:
		"""Of paths that are cut at once each is given the median: who lost first lost by chance."""
		cut = [path.cut_at for path in short.values() if now - path.cut_at < AT_ONCE]
		if len(cut) < MANY or max(cut) <= self._evened_at:
			return []
		self._evened_at = now
		fair = sorted(path.capacity for path in short.values())[len(short) // 2]
		for path in short.values():
			share = min(fair, TRIED * path.capacity)  # a bad path of its own is not overrun
			path.rate, path.capacity = path.rate * share / path.capacity, share
		return [change for ident in short for change in self._set_rate(ident, now)]

	def update_sizes(
		self, sizes: Sizes, sent: Mapping[int, tuple[int, int, int]], now: float, dropped: int = 0
	) -> Allocation:
		"""Sizes of pictures by sender and layer, and what has `sent` each so far: octets, pictures, pictures
		lost on the way. Whose way up is short is asked for less, but while this computer itself `dropped`
		datagrams that it was too busy to read: so many so far."""
		if dropped != self._dropped:
			self._dropped, self._dropped_at = dropped, now
		self.sizes = sizes
		changes: Allocation = []
		short: dict[int, BandwidthEstimator] = {}
		for ident, counts in sent.items():
			if (person := self.people.get(ident)) and person.down.rate < inf:
				short[ident] = person.down
			report = person.uplink.report(*counts, now) if person else None
			if person and report and now - self._dropped_at > LOSS_MEMORY:
				before = person.up.rate
				person.up.report(report["loss"], 0.0, report["kbps"] * 125.0, now)
				if min(before, person.up.rate) < inf:
					changes += self._encode(ident, now)
		return changes + self._even_out(short, now)

	def set_active_speaker(self, loudest: int, now: float) -> Allocation:
		"""Somebody else is the loudest: on short paths this one comes first from now on."""
		self._loudest = loudest
		return [
			change
			for ident, person in self.people.items()
			if loudest in person.subscriptions and person.down.rate < inf
			for change in self._allocate(ident, now)
		]

	def tick(self, now: float) -> Allocation:
		"""Layers whose time is over."""
		over = [key for key, (_, until) in self._lingering.items() if until <= now]
		for key in over:
			del self._lingering[key]
		senders = dict.fromkeys(sender for sender, _ in over)
		return [change for sender in senders for change in self._encode(sender, now)]

	def wanted_layers(self, sender: int, now: float) -> dict[int, int]:
		"""{layer: the highest rate anyone wants}; a layer stays LINGER after its last use."""
		wanted: dict[int, int] = {}
		for layer, fps in self.routes(sender).values():
			wanted[layer] = max(fps, wanted.get(layer, 0))
		for layer in range(len(LAYERS)):
			fps, until = self._lingering.get((sender, layer), (0, 0.0))
			if layer not in wanted and now < until:
				wanted[layer] = fps
		return self._fit_way_up(sender, wanted)

	def _fit_way_up(self, sender: int, wanted: dict[int, int]) -> dict[int, int]:
		"""Small ones first, for most people see those; a larger one that does not fit becomes smaller."""
		path = self.people[sender].up
		if path.rate == inf:
			return wanted
		held = {int(layer): fps for layer, fps in self.people[sender].encodes["layers"].items()}
		fits: dict[int, int] = {}
		left = path.rate
		for layer, fps in sorted(wanted.items()):
			before = max((one for one in held if one <= layer), default=-1)
			had = (before, held.get(before, 0))
			layer, fps = _best_layer(sender, left, path, (layer, fps), had, self.sizes) or (0, -(-fps // 3))
			left -= picture_size(self.sizes, sender, layer) * max(0, fps - fits.get(layer, 0))
			fits[layer] = max(fps, fits.get(layer, 0))
		return fits

	def routes(self, sender: int) -> dict[int, LayerRate]:
		"""{receiver: (layer, fps)} of everyone who receives `sender`."""
		return dict(self._receivers.get(sender, ()))

	def _cost(self, rates: LayerRates) -> float:
		return sum(picture_size(self.sizes, sender, layer) * fps for sender, (layer, fps) in rates.items())

	def _allocate(self, ident: int, now: float) -> Allocation:
		person = self.people[ident]
		before, was_coarse, wanted = person.allocation, person.coarse, person.subscriptions
		person.allocation = allocate(person.down, wanted, before, self.sizes, self._loudest)
		person.coarse = person.down.rate < (1.6 if was_coarse else 1.0) * self._cost(wanted)
		self._note_lingering(before, person.allocation, now)
		changes: Allocation = []
		for sender in {**before, **person.allocation}:
			if before.get(sender) != person.allocation.get(sender):
				to = self._receivers.setdefault(sender, {})
				to.pop(ident, None)
				if sender in person.allocation:
					to[ident] = person.allocation[sender]
				changes += self._encode(sender, now, Reroute(sender))
			elif person.coarse != was_coarse:
				changes += self._encode(sender, now)
		return changes

	def _note_lingering(self, before: LayerRates, after: LayerRates, now: float) -> None:
		for sender, (layer, fps) in before.items():
			if after.get(sender, (None, 0))[0] != layer:
				self._lingering[sender, layer] = (fps, now + LINGER)

	def _encode(self, sender: int, now: float, *first: Reroute) -> Allocation:
		if (person := self.people.get(sender)) is None:
			return list(first)
		wanted, routes = self.wanted_layers(sender, now), self.routes(sender)
		level = min(self.people[one].level for one in (sender, *routes)) if wanted else 0
		fine = {layer for receiver, (layer, _) in routes.items() if not self.people[receiver].coarse}
		coarse = {layer for layer, _ in routes.values()} - fine
		if person.up.rate < inf:
			coarse = set(wanted)
		layers = {str(layer): fps for layer, fps in sorted(wanted.items())}
		known = {"webp": level > 0, "patch": level > 1}
		told = {"layers": layers, "coarse": sorted(coarse & wanted.keys()), **known}
		if told == person.encodes:
			return list(first)
		person.encodes, self._encodes = told, self._encodes + 1
		return [*first, Tell((sender,), {"type": "encode", "n": self._encodes, **told})]


# -- pacer

BURST_PARTS = 29  # half of what one GSO call carries: 32 kB fit the buffers of small switches
LATE_WAIT = 0.036  # two ticks of Windows and a little: what is due meanwhile is made up for
BURST_GAP = 0.004  # well under TAIL_WAIT, or receivers would ask for what is still to be sent
PACED_RATE = BURST_PARTS * DATAGRAM / BURST_GAP  # 8 MB/s
PACED_SECONDS = 30.0
MAX_SPREAD = 0.060
MAX_BACKLOG = 0.1  # seconds that frames wait for a slow path at most; others are not sent at all


@entity
class _Frame:
	lane: _Lane
	view: memoryview  # what is still to leave
	stale_at: float
	slow: bool  # queued for a receiver with a limit


@dataclass
class _Lane:
	"""What waits for one receiver: with a limit one frame after the other, at `rate` bytes a second."""

	receiver: int
	rate: float = inf
	waiting: deque[_Frame] = field(default_factory=deque)
	current: _Frame | None = None  # of a lane with a limit
	held: int = 0  # bytes of frames that are still to leave
	owed: int = 0  # bytes that went by another way and are still to be waited for
	free_at: float = -inf


class SendBudget:
	"""Bytes that may leave at once, so that at most QUEUE seconds of data wait in the kernel's send queue
	(SIOCOUTQ) in front of sound; MOST where the system does not tell what it holds (0).
	"""

	QUEUE = 0.002
	LEAST = 16 * 1024
	MOST = left = _window = 256 * 1024  # then the own socket is read again
	_total = 0  # bytes held when the queue was last judged, and given since
	_since = _given_at = -inf

	def look(self, held: int, now: float) -> None:
		"""The system holds `held` bytes of what it was given."""
		if held == 0:
			if self._total and now - self._given_at <= self.QUEUE:
				self._window = min(self.MOST, 2 * self._window)
			self._total = 0
		elif self._total and now - self._since >= self.QUEUE:
			fits = int(max(0, self._total - held) * self.QUEUE / (now - self._since))
			self._window = min(self.MOST, max(self.LEAST, fits))
			self._total, self._since = held, now
		self.left = max(0, self._window - held)

	def give(self, size: int, now: float) -> None:
		"""The system is given `size` bytes more."""
		if not self._total:
			self._since = now
		self._total += size
		self._given_at = now
		self.left -= size


class Pacer:
	"""Decides when each datagram of pictures leaves the host.

	Usually everything leaves at once, as far as SendBudget allows: lower priorities first, receivers in
	turn, frames of more than BURST_PARTS parts in pieces BURST_GAP apart. Paced mode, for PACED_SECONDS after
	a loss (bursts overflow small buffers): PACED_RATE in all, or what brings frames out within their spread.
	A receiver with an estimate: one frame at a time at that rate, in small pieces, for sound's sake.
	"""

	def __init__(self, counters: Counters):
		self._counters = counters
		self._lanes: dict[int, _Lane] = {}
		self._slow = set[int]()  # receivers with a limit
		self._ready: list[tuple[int, int, int, _Frame]] = []  # heap by priority, turn, serial
		self._begun: list[tuple[float, int, _Frame]] = []  # heap by when the next piece is due
		self._serial = 0
		self._held = 0  # bytes for receivers without a limit
		self._paced_until = self._at = -inf
		self._pace, self._credit = PACED_RATE, 0.0  # bytes a second, and bytes that may leave by it

	def queue(self, receiver: int, priority: int, layout: bytes, now: float, spread: float) -> None:
		"""Take a frame's datagrams for `receiver`, to leave within `spread` seconds in paced mode.

		`spread` is 0.9 of the frame interval. One that waits longer than that is dropped whole.
		"""
		self._earn(now)
		lane = self._lanes.setdefault(receiver, _Lane(receiver))
		frame = _Frame(lane, memoryview(layout), now + spread / 0.9, lane.rate < inf)
		lane.waiting.append(frame)
		lane.held += len(layout)
		if frame.slow:
			if lane.current is None:
				lane.free_at = max(lane.free_at, now - BURST_GAP)
				self._begin_next(lane, max(now, lane.free_at))
			return
		if not self._held:
			self._credit, self._pace = min(self._credit, 0.0), PACED_RATE
		self._held += len(layout)
		self._pace = max(self._pace, self._held / min(max(spread, 0.001), MAX_SPREAD))
		self._serial += 1
		heappush(self._ready, (priority, len(lane.waiting), self._serial, frame))
		while len(lane.waiting) > 1 and now > lane.waiting[0].stale_at:
			self._count_out(lane.waiting.popleft(), inf)
			self._counters.add("egress.dropped")

	def passes(self, receiver: int, parts: int, now: float) -> bool:
		"""Whether a frame of `parts` datagrams for `receiver` need not be queued: it would leave at once."""
		return parts <= BURST_PARTS and not (self._held or now < self._paced_until or receiver in self._slow)

	def paced(self, now: float) -> bool:
		"""Whether something was lost of late that was sent to a receiver without a limit."""
		return now < self._paced_until

	def note_loss(self, now: float) -> None:
		"""A receiver without a limit lost something."""
		if not self.paced(now):
			self._credit = 0.0
		self._paced_until = now + PACED_SECONDS

	def limit(self, receiver: int, rate: float) -> None:
		"""Send `receiver` at most `rate` bytes a second from now on; infinity lifts it."""
		self._lanes.setdefault(receiver, _Lane(receiver)).rate = rate
		(self._slow.add if rate < inf else self._slow.discard)(receiver)

	def accepts(self, receiver: int, within: float = MAX_BACKLOG) -> bool:
		"""Whether another frame for `receiver` would begin to leave `within` seconds."""
		lane = self._lanes.get(receiver)
		return lane is None or lane.held < within * lane.rate

	def limited(self, receiver: int) -> bool:
		return receiver in self._slow

	def charge(self, receiver: int, size: int) -> None:
		"""`size` bytes went to `receiver` by another way."""
		if self.limited(receiver):
			self._lanes[receiver].owed += size

	def due(self, now: float, budget: int) -> list[tuple[int, memoryview]]:
		"""(receiver, datagrams back to back) to send now: until `budget` bytes are reached or passed."""
		self._earn(now)
		leaving: list[tuple[int, memoryview]] = []
		while budget > 0 and (self._credit >= 0.0 or not self.paced(now)):
			if (frame := self._next(now)) is None:
				break
			leaving.append((frame.lane.receiver, self._take(frame, now)))
			budget -= len(leaving[-1][1])
		return leaving

	def next_due(self) -> float | None:
		"""When `due` should be asked next (as of the last call); None when nothing is queued."""
		if not self._ready and not self._begun:
			return None
		at = self._at if self._ready else self._begun[0][0]
		return max(at, self._at - min(0.0, self._credit) / self._pace) if self.paced(self._at) else at

	def forget(self, receiver: int) -> None:
		"""Drop what is queued for a receiver that has left."""
		self._slow.discard(receiver)
		if (lane := self._lanes.pop(receiver, None)) is None:
			return
		begun = [entry[2] for entry in self._begun if entry[2].lane is lane]
		for frame in (*lane.waiting, *begun):
			self._count_out(frame, inf)
		lane.waiting.clear()
		self._begun = [entry for entry in self._begun if entry[2].lane is not lane]
		heapify(self._begun)

	def _next(self, now: float) -> _Frame | None:
		if self._begun and self._begun[0][0] <= now:
			return heappop(self._begun)[2]
		while self._ready:
			frame = heappop(self._ready)[3]
			if frame in frame.lane.waiting:  # else it was dropped, or begun because there is a limit now
				frame.lane.waiting.remove(frame)
				return frame
		return None

	def _take(self, frame: _Frame, now: float) -> memoryview:
		"""The next piece of `frame`; the rest of it, or the next on a slow path, is due a little later."""
		lane = frame.lane
		parts = max(1, int(min(BURST_PARTS, lane.rate * BURST_GAP / DATAGRAM)))
		piece = self._count_out(frame, parts * DATAGRAM)
		self._credit -= len(piece)
		lane.free_at = max(lane.free_at, now - LATE_WAIT) + len(piece) / lane.rate
		if frame.view:  # not so late that it seems lost
			slow = frame is lane.current
			self._begin(min(lane.free_at, now + 2 * BURST_GAP) if slow else now + BURST_GAP, frame)
		elif frame is lane.current:
			lane.free_at, lane.owed = lane.free_at + lane.owed / lane.rate, 0
			self._begin_next(lane, lane.free_at)
		return piece

	def _count_out(self, frame: _Frame, size: float) -> memoryview:
		size = int(min(size, len(frame.view)))
		piece, frame.view = frame.view[:size], frame.view[size:]
		frame.lane.held -= size
		self._held -= 0 if frame.slow else size
		return piece

	def _begin_next(self, lane: _Lane, at: float) -> None:
		lane.current = lane.waiting.popleft() if lane.waiting else None
		if lane.current:
			self._begin(at, lane.current)

	def _begin(self, at: float, frame: _Frame) -> None:
		self._serial += 1
		heappush(self._begun, (at, self._serial, frame))

	def _earn(self, now: float) -> None:
		most = max(BURST_PARTS * DATAGRAM, self._pace * LATE_WAIT)
		self._credit = min(most, self._credit + min(max(0.0, now - self._at), 1.0) * self._pace)
		self._at = max(self._at, now)


# ====
# [7] ROOM - the server's truth: who is here, who may do what, who must receive what
# Uses: BASICS, WIRE, BANDWIDTH

RESUME_SECONDS = 600.0
NUMBER_GAP = 1_000
TICKET_SECONDS = 10.0
ANSWERS: Mapping[str, str] = {  # what answers a request: else what is called so or, without that, `ok`
	"ping": "pong",
	"file_offer": "file_ready",
	"cancel": "file_gone",
	"unban": "banned",
	"remove": "leave",
	"take_over": "screen_stop",
	**dict.fromkeys(("permit", "word", "door", "spotlight", "collect", "one_room"), "rules"),
	"room": "rooms",
	**dict.fromkeys(("answer", "close_question"), "question"),
	**dict.fromkeys(("video_start", "video_stop"), "ok"),
	**dict.fromkeys(("hand", "mute", "cohost", "rename", "pause"), "state"),
}
RATES: Mapping[str, tuple[float, float]] = {  # a second on the long run; a script may burst before
	"chat": (250, 1), "private_chat": (250, 1), "reaction": (30, 3), "file_offer": (64, 16),
	"ticket": (64, 16), "watch": (30, 10), "ping": (250, 100), "leave": (2, 1), "line": (HISTORY, 50),
	"other": (50, 10),
}  # fmt: skip
TEXT_OCTETS = (1 << 20, 1 << 15)  # of chat from one address, likewise
MOST_NAMES = 2_000  # of those who have gone, half are forgotten then
# words of the interface and of commands: nobody is called so
RESERVED_NAMES = "all everyone screen host todos pantalla anfitrión tous écran animateur सभी स्क्रीन होस्ट"
FOREVER = 3e10
MOST_FILES_A_PERSON = 200
WELCOMING = ("meeting", "title", "host", "epoch", "served_by")
# The attributes of Room that a journal or a standby keeps; the first are in the welcome, too.
ROOM_FACTS = (*WELCOMING, "counter", "newest_id", "began")
HEIRLOOMS: Mapping[str, tuple[str, ...]] = {  # what a standby holds, by parts of the room
	"people": ("person", "name", "address", "exempt", "removed", "until", "passed", "vote", "room", "hand"),
	"members": ("id", "name", "address", "person", "hand"),
	"lines": ("n", "sender", "text", "at", "id", "person", "ref"),
	"files": ("file", "name", "size", "sender", "sha256", "id", "kind", "person", "to", "saved"),
	"settings": ("off", "word", "door", "spotlight", "collecting", "question", "ends", "one_room"),
}


class Expel(NamedTuple):
	"""Effect: end the session of `id`, after `message` if there is one."""

	id: int
	message: Json


class ToMixer(NamedTuple):
	"""Effect: the mixer is given an `order`."""

	order: Json


class ShareStopped(NamedTuple):
	"""Effect: `id` must not present any longer."""

	id: int


class FileGone(NamedTuple):
	"""Effect: the stored bytes of `file` are to be deleted."""

	file: str


class MeetingOver(NamedTuple):
	"""Effect: the meeting ends for all, by a code of REFUSALS."""

	code: str


class Admit(NamedTuple):
	"""Effect: let in (`on`), or turn away, who waits as number `ask`; with 0 all who knock."""

	ask: int
	on: bool


class Keep(NamedTuple):
	"""Effect: keep over a crash, before anyone is told, what is under `keys` in a part of `Room.export`."""

	part: str
	keys: Collection[int | str]


class Succeed(NamedTuple):
	"""Effect: member `id` has said what concerns who goes on when this server fails."""

	id: int
	message: Json


class Promoted(NamedTuple):
	"""Effect: `id` has become a co-host and is told what hosts know."""

	id: int


Effect = (
	Promoted | Succeed | Tell | Expel | Admit | ToMixer | Reroute | SetRate | ShareStopped | FileGone
	| MeetingOver | Keep
)  # fmt: skip
Effects = list[Effect]


@dataclass(kw_only=True)
class Limits:
	"""What the host allows, in bytes; `free_disk` must stay free."""

	largest_file: int = 2 << 30
	largest_person: int = 8 << 30
	largest_meeting: int = 32 << 30
	free_disk: int = 1 << 30


# Monotonic seconds; negative: before this computer was started.
Moment = Annotated[float, _number(-FOREVER, FOREVER)]
_ADDRESS = _text(64)
_PEOPLE = _listing(_ID, 1 << 16)
_HEIRS = _mapping(_TOKEN, _TOKEN, 8)


@frozen
class Member(Person):
	"""One person in the meeting, as the server knows it now."""

	_: KW_ONLY
	address: Annotated[str, _ADDRESS, "address!"]
	person: Annotated[int, _ID, "person!"] = 0  # of its claim: what is private is bound to that
	features: Annotated[list[str], _FEATURES, "features!"] = field(default_factory=list)

	def told(self, type: str, **members: Any) -> Tell:
		"""To this one: a message of that type."""
		return Tell((self.id,), {"type": type, **members})


@frozen
class RoomLine(Line):
	"""A line of chat and, of a private one, who reads it."""

	_: KW_ONLY
	to: Annotated[str, _NAME, "to_name?"] = ""
	between: Annotated[list[int], _PEOPLE, "between!"] = field(default_factory=list)
	person: Annotated[int, _ID, "person!"] = 0  # whose it is, and by what number
	ref: Annotated[int, _integer(-1, 2**53), "ref!"] = -1

	def concerns(self, person: int) -> bool:
		return not self.between or person in self.between

	def told(self, person: int) -> Json:
		"""Its JSON for one of those whom it concerns."""
		return {**self.message(), **({"ref": self.ref} if self.person == person and self.ref >= 0 else {})}


@frozen
class Offer(FileOffer):
	"""A file on offer by a `person` to the person `to` or, with 0, to all; they survive reconnecting."""

	_: KW_ONLY
	person: Annotated[int, _ID, "person!"]
	to: Annotated[int, _ID, "to!"]
	whole: Annotated[bool, _flag, "whole!"] = False
	saved: Annotated[list[int], _PEOPLE, "saved!"] = field(default_factory=list)  # who has it

	def concerns(self, person: int) -> bool:
		return not self.to or person in (self.person, self.to)

	def open_for(self, person: int, direction: str) -> bool:
		"""Whether `person` may `upload` it, or `download` it once it is whole.

		Its owner may also ask for a whole one, whose DONE got lost: the server takes no byte more.
		"""
		if direction == "upload":
			return person == self.person
		return self.whole and self.concerns(person)


@dataclass
class Claim(Record):
	"""A person: known by its resume tokens, called `name`; its place is kept `until` then.

	`person` is the id that it had first; it is nobody else's.
	"""

	person: Id
	name: Name
	address: Annotated[str, _ADDRESS]
	tokens: Annotated[list[str], _listing(_TOKEN, 2)] = field(default_factory=list)  # SHA-256, newest last
	until: Moment = FOREVER
	passed: Flag = True  # the PIN that holds now
	removed: Flag = False
	exempt: Annotated[list[str], _PERMITS] = field(default_factory=list)  # of what is set for all
	cohost: Flag = False
	room: Annotated[int, _integer(-1, 2**32)] = -1  # in whose it says it is; 0: nobody's, -1: says nothing
	vote: Vote = -1
	came: Moment = 0.0  # at first
	since: Moment = 0.0  # in without a break; 0: is not here
	went: Moment = 0.0
	stayed: Time = 0.0  # seconds before `since`
	lost: Count = 0  # links
	hand: Time = 0.0  # as in Person, to begin with after a break or crash
	camera: Flag = False  # likewise after a crash
	heirs: Annotated[dict[str, str], _HEIRS] = field(default_factory=dict)  # hash of its token at a standby
	last: Id = 0  # its id at the server before, which it keeps
	before: Annotated[list[str], _listing(_NAME, 8)] = field(default_factory=list)  # its earlier names
	buckets: dict[str, TokenBucket] = field(default_factory=dict)  # of its messages
	took: float = 0.0  # ms, its last round trip
	orders: dict[str, Json] = field(default_factory=dict)  # to turn a device off, until it answers


@dataclass
class Setting(Record):
	"""What hosts have set for the class; `word`, `spotlight`, `found` are persons, `ends` is the timer's."""

	off: Annotated[list[str], _PERMITS] = field(default_factory=list)
	word: Id = 0
	spotlight: Id = 0
	door: Annotated[str, _DOOR] = "open"
	pin: Annotated[str, _text(MAX_PIN)] = ""  # in place of the first one
	collecting: Name = ""
	question: Annotated[Json, _record(Question.shape())] = field(default_factory=Question().message)
	signed: Annotated[Json, _object] = field(default_factory=dict)  # the succession record
	ends: Time = 0.0
	one_room: Flag = False
	found: Annotated[list[list[int]], _listing(_PEOPLE, 2_000)] = field(default_factory=list)


class Ticket(NamedTuple):
	"""Leave to open one connection of another plane."""

	member: int
	plane: str
	direction: str
	file: str | None
	until: float


class NameRegister:
	"""Who is who for the whole meeting: by resume token, by name, and who was removed.

	The name of the `host` is the host's from the start, as are names that look like it.
	"""

	def __init__(self, host: str):
		self.people: dict[int, Claim] = {}
		words = RESERVED_NAMES.split()
		names = [host, *words, *(host + word for word in words), *(word + host for word in words)]
		self._reserved = frozenset().union(*map(looks, names))
		self.owned = dict.fromkeys(self._reserved, 2)  # by look: the number its next bearer may get

	def known(self, token: str | None) -> Claim | None:
		"""The claim of a resume token."""
		key = digest(token or "")
		return next((claim for claim in self.people.values() if key in claim.tokens), None)

	def holder(self, token: str | None) -> Claim | None:
		"""The claim of a resume token, unless who had it was removed."""
		claim = self.known(token)
		return None if claim is None or claim.removed else claim

	def claim(self, token: str | None, now: float) -> tuple[str | None, bool]:
		"""(name that the resume token owns, whether it spares the PIN)."""
		claim = self.holder(token)
		return (claim.name, now < claim.until) if claim else (None, False)

	def free(self, name: str) -> str:
		"""`name`, with a number behind it where it, or what looks like it, is somebody's."""
		wanted, look = name, skeleton(name)
		while self.owned.keys() & looks(wanted):
			number = self.owned.get(look, 2)
			self.owned[look] = number + 1
			ending = f" ({number})"
			wanted = name[: MAX_NAME - len(ending)].rstrip() + ending
		return wanted

	def take(self, claim: Claim, token: str | None, new: str) -> None:
		"""Who is of that claim has come in with `token`, and gets the token `new`."""
		old = [key for key in claim.tokens if token and key == digest(token)]
		claim.tokens, claim.until, claim.passed = [*old, digest(new)], FOREVER, True
		self.own(claim)

	def own(self, claim: Claim) -> None:
		"""The name is nobody else's from now on."""
		self.people[claim.person] = claim
		for look in looks(claim.name):
			self.owned.setdefault(look, 2)

	def forget_the_long_gone(self, now: float) -> list[int]:
		"""Bound what is kept of people who come and go: those of the busiest address go first.

		Their names are free again; what was private to them is nobody's.
		"""
		if len(self.people) < MOST_NAMES:
			return []
		crowd = Counter(claim.address for claim in self.people.values())
		gone = [one for one in self.people.values() if one.until <= now and not one.removed]
		gone.sort(key=lambda claim: (-crowd[claim.address], claim.until))
		forgotten = [claim.person for claim in gone[: MOST_NAMES // 2]]
		for person in forgotten:
			del self.people[person]
		names = [name for one in self.people.values() for name in (one.name, *one.before)]
		kept = self._reserved.union(*map(looks, names))
		self.owned = {look: number for look, number in self.owned.items() if look in kept}
		return forgotten

	def settle(self, member: Member, reason: str, now: float) -> None:
		"""Leaving keeps the name but not the place; losing the link keeps both for a while."""
		claim, stays = self.people[member.person], reason in ("lost", "replaced")
		now = round(now, 3)
		claim.until = round(now + RESUME_SECONDS, 3) if stays else now
		claim.stayed, claim.went = claim.stayed + now - claim.since, now
		claim.since, claim.lost = 0.0, claim.lost + (reason == "lost")
		claim.hand, claim.camera = member.hand * stays, False

	def awaited(self, now: float) -> set[int]:
		return {claim.person for claim in self.people.values() if now < claim.until}

	def give_way(self, now: float, most: int) -> None:
		"""Keep places for the lost, `most` in all: the busiest address loses its own first."""
		while len(self.awaited(now)) > most:
			lost = (claim for claim in self.people.values() if now < claim.until < FOREVER)
			self.people[busiest({claim.person: claim.address for claim in lost})[0]].until = now

	def name_of(self, person: int) -> str:
		"""What `person` is called; "" for the long gone."""
		claim = self.people.get(person)
		return claim.name if claim else ""

	def removed(self) -> list[Claim]:
		return [claim for claim in self.people.values() if claim.removed]

	def barred(self, address: str, token: str | None) -> str:
		"""What keeps a newcomer out: "" nothing, "removed", or "knock" where others share the address.

		Who holds a claim is that person; who holds none may be who was removed from that address.
		"""
		if claim := self.known(token):
			return "removed" if claim.removed else ""
		there = [claim.removed for claim in self.people.values() if claim.address == address]
		if not any(there):
			return ""
		return "removed" if all(there) and not address.startswith("127.") else "knock"


class FileShelf:
	"""The files on offer and what the host allows of them."""

	def __init__(self, room: Room):
		self.room = room
		self.limits = Limits()
		self.offers: dict[str, Offer] = {}

	def check_room(self, person: int, size: int, *, leads: bool) -> None:
		"""Refused `too_large` where `person` has no room; who `leads` has. What never came takes none."""
		own = [offer.size for offer in self.offers.values() if offer.person == person]
		whole = [offer.size for offer in self.offers.values() if offer.whole]
		if size > self.limits.largest_file:
			raise Refused("too_large", size=self.limits.largest_file)
		if sum(own) + size > self.limits.largest_person:
			raise Refused("too_large", why="person", size=self.limits.largest_person)
		if len(own) >= MOST_FILES_A_PERSON:
			raise Refused("too_large", why="person", count=MOST_FILES_A_PERSON)
		if not leads and (sum(whole) + size > self.limits.largest_meeting or len(whole) >= MOST_FILES):
			raise Refused("too_large")

	def due(self, person: int) -> list[Offer]:
		"""What was handed out, or in, and the program of `person` has yet to take, as it does by itself."""
		whole = [one for one in self.offers.values() if one.whole and one.kind and one.concerns(person)]
		return [one for one in whole if person not in (one.person, *one.saved)]

	def tick(self, now: float) -> Effects:
		"""Once in a while: what was not sent to its end by people who cannot come back to it goes."""
		unfinished = [offer for offer in self.offers.values() if not offer.whole]
		people = self.room.names.awaited(now) if unfinished else ()
		return [
			effect
			for offer in unfinished
			if offer.person not in people
			for effect in self.file_gone(offer.file, Refused("no_such_file", why="left", name=offer.sender))
		]

	def _on_file_offer(self, member: Member, message: Json) -> Effects:
		kind = message.get("kind", "")
		if kind and not (self.room.classroom.set.collecting if kind == "work" else member.leads):
			raise Refused("not_permitted", why=kind)
		room, to, leads = self.room, 0, False
		if kind == "work":
			to, leads = room.teacher(), True
		elif "to_name" in message:
			other = room.reach(message["to_name"])
			to, leads = other.person, other.leads
		if not leads:
			room.classroom.require(member, "files")
		task = room.classroom.set.collecting * (kind == "work")
		new = Offer(
			room.token(8), message["name"], message["size"], member.name, to > 0,
			message["sha256"], member.id, kind, task, room.clock * bool(task),
			person=member.person, to=to,
		)  # fmt: skip
		facts = attrgetter("name", "size", "sha256", "kind", "task", "person", "to", "whole")
		same = (file for file, one in self.offers.items() if facts(one) == facts(new))
		file = next(same, new.file)  # one not sent to its end goes on where it stopped
		if file not in self.offers:
			self.check_room(member.person, new.size, leads=member.leads)
			self.offers[file] = new
		return [Keep("files", [file]), member.told("file_ready", file=file)]

	def file_whole(self, file: str) -> Effects:
		"""The upload of `file` is complete and verified: offer it."""
		if (offer := self.offers.get(file)) is None or offer.whole:
			return []
		self.offers[file] = replace(offer, whole=True)
		return [Keep("files", [file]), self._tell(offer, "file_offer", **offer.message())]

	def file_saved(self, file: str, ident: int, *, opened: bool = False) -> Effects:
		"""The member `ident` has all of `file`, or has `opened` it: its owner sees who, and how many."""
		offer, member = self.offers.get(file), self.room.members.get(ident)
		if offer is None or member is None:
			return []
		offer.saved[:] = {*offer.saved, member.person}
		owner = self.room.present(offer.person)
		told = [owner.told(**self._had(offer, member.name, opened))] if owner else []
		return [Keep("files", [file]), *told]

	def _had(self, offer: Offer, name: str, opened: bool = False) -> Json:
		facts = {"file": offer.file, "people": len(offer.saved), "name": name, "opened": opened}
		return {"type": "file_saved", **facts}

	def had(self, person: int) -> list[Json]:
		"""Who has taken what `person` handed out or in, and may have been away for."""
		own, name_of = [one for one in self.offers.values() if one.person == person], self.room.names.name_of
		return [self._had(one, name_of(who)) for one in own if one.kind for who in one.saved]

	def _on_opened(self, member: Member, message: Json) -> Effects:
		offer = self.offers.get(message["file"])
		saved = offer is not None and member.person in offer.saved
		return self.file_saved(message["file"], member.id, opened=True) if saved else []

	def _on_decline(self, member: Member, message: Json) -> Effects:
		offer = self.offers.get(message["file"])
		if offer is None or offer.to != member.person or offer.person == member.person:
			return []
		if member.leads:  # no slip of hers loses what was handed in
			raise Refused("not_allowed", why="handed_in")
		return self.file_gone(offer.file, Refused("no_such_file", why="declined", name=member.name))

	def _on_cancel(self, member: Member, message: Json) -> Effects:
		offer = self.offers.get(message["file"])
		hosts = member.leads and offer and offer.to != member.person
		if offer is None or not (hosts or offer.person == member.person):
			raise Refused("no_such_file")
		return self.file_gone(offer.file, Refused("no_such_file", why="taken_back", name=member.name))

	def file_gone(self, file: str, why: Refused) -> Effects:
		"""Withdraw `file`."""
		if (offer := self.offers.pop(file, None)) is None:
			return []
		return [Keep("files", [file]), FileGone(file), self._tell(offer, "file_gone", file=file, **why.told)]

	def _tell(self, offer: Offer, type: str, **members: Any) -> Tell:
		to = tuple(one.id for one in self.room if offer.concerns(one.person))
		return Tell(to, {"type": type, **members})


def _turned(values: Iterable[str], value: str, on: bool) -> list[str]:
	return sorted({*values} - {value} | ({value} if on else set()))


class Classroom:
	"""What hosts set for the class, and what that lets whom do: a part of the room.

	Of people it knows the persons, so that reconnecting changes nothing. Handlers give the room's effects.
	"""

	def __init__(self, room: Room):
		self.room = room
		self.grouped: Json = {"do": "rooms", "groups": [], "free": []}
		self._may_take = set[int]()  # persons asked to share, until they answer

	@property
	def set(self) -> Setting:
		"""What is set now."""
		return self.room.settings[1]

	def may(self, member: Member, what: str) -> bool:
		"""Whether `member` may do `what` of PERMITS."""
		exempt, has_word = self.room.claim_of(member).exempt, self.set.word == member.person
		return member.leads or permitted(what, self.set.off, what in exempt, has_word)

	def require(self, member: Member, what: str) -> None:
		"""Refused unless `member` may do `what`."""
		if not self.may(member, what):
			raise not_permitted(what)

	def rules(self) -> Json:
		"""What everyone is told, people by name."""
		names, now = self.room.names, self.set
		people = sorted(names.people.values(), key=lambda one: not one.since)  # who is here first
		exceptions = {
			what: found[:MAX_PEOPLE]
			for what in PERMITS
			if (found := [one.name for one in people if what in one.exempt])
		}
		shown = names.name_of(now.word), names.name_of(now.spotlight)
		rules = Rules(now.off, exceptions, *shown, now.door, now.collecting, now.one_room)
		return {"type": "rules", **rules.message()}

	def changed(self, *persons: int) -> Effects:
		"""It is kept, with what is changed of these persons, and told."""
		return [Keep("settings", [1]), Keep("people", persons), self.room.tell_all(**self.rules())]

	def greeting(self, member: Member, now: float) -> list[Json]:
		"""What a newcomer is told beside the welcome."""
		left = self.set.ends - self.room.lasted(now)
		asked = [one.message for one in self._tell_question([member])] if self.set.question["answers"] else []
		more = [{"type": "rooms", "groups": groups}] if (groups := self.grouped["groups"]) else []
		more += [{"type": "timer", "left": left}] if left > 0 else []
		more += self.room.claim_of(member).orders.values()
		shelf, person = self.room.shelf, member.person
		due = [{"type": "file_offer", **one.message()} for one in shelf.due(person)]
		return [self.rules(), *asked, *more, *due, *shelf.had(person)]

	def exempt(self, member: Member, what: str, on: bool) -> Effects:
		"""Let this one do it or not, whatever is set for all."""
		claim = self.room.claim_of(member)
		claim.exempt = _turned(claim.exempt, what, on == (what in self.set.off))
		if what == "share" and on:
			self.room.planes.taken = -inf
		return self.changed(member.person)

	def _on_permit(self, member: Member, message: Json) -> Effects:
		what, on = message["what"], message["on"]
		if "who" in message:
			changed = self.exempt(self.room.with_id(message["who"]), what, on)
		else:
			self.set.off = _turned(self.set.off, what, not on)
			exempt = [claim for claim in self.room.names.people.values() if what in claim.exempt]
			for claim in exempt:
				claim.exempt.remove(what)
			changed = self.changed(*(claim.person for claim in exempt))
		return [*self._hushed(member), *changed]

	def _hushed(self, by: Member) -> Effects:
		on = [one for one in self.room if one.mic and not self.may(one, "mic")]
		return [effect for one in on for effect in self.room.streams.mute(self.room.claim_of(one), by)]

	def _person(self, ident: int) -> int:
		return self.room.with_id(ident).person if ident else 0

	def _on_word(self, member: Member, message: Json) -> Effects:
		self.set.word = self._person(message["who"])
		lowered = self._on_lower(member, message) if message["who"] else []
		return [*lowered, *self._hushed(member), *self.changed()]

	def _on_lower(self, member: Member, message: Json) -> Effects:
		whom = self.room.whom(message["who"])
		up = [one for claim in whom if (one := self.room.present(claim.person)) and one.hand]
		kept = Keep("people", [claim.person for claim in whom if claim.hand])
		for claim in whom:
			claim.hand = 0.0
		return [kept, Keep("members", [one.id for one in up]), *map(partial(self.room.change, hand=0.0), up)]

	def _on_door(self, member: Member, message: Json) -> Effects:
		self.set.door = message["mode"]
		return [*self.changed(), *([Admit(0, True)] if message["mode"] == "open" else [])]

	def _on_new_pin(self, member: Member, message: Json) -> Effects:
		"""Asked of whoever has no place."""
		self.set.pin = f"{int(self.room.token(4), 16) % 1_000_000:06}"
		gone = [one for one in self.room.names.people.values() if not one.since]
		for one in gone:
			one.passed = False
		kept = Keep("people", [one.person for one in gone])
		return [kept, Keep("settings", [1]), self.room.tell_hosts("new_pin", pin=self.set.pin)]

	def _on_collect(self, member: Member, message: Json) -> Effects:
		self.set.collecting = clean_name(message["title"], MAX_TITLE) if message["title"] else ""
		return self.changed()

	def _on_remind(self, member: Member, message: Json) -> Effects:
		"""Who has not handed in what is collected is asked again."""
		title, offers = self.set.collecting, self.room.shelf.offers.values()
		done = {one.person for one in offers if one.whole and (one.kind, one.task) == ("work", title)}
		late = [one for one in self.room if not one.leads and one.person not in done]
		asked = {"type": "asked", "to": "work", "by": member.name}
		return [Tell(tuple(one.id for one in late), asked)] if title else []

	def _on_spotlight(self, member: Member, message: Json) -> Effects:
		self.set.spotlight = self._person(message["who"])
		return self.changed()

	def _on_one_room(self, member: Member, message: Json) -> Effects:
		self.set.one_room = message["on"]
		return self.changed()

	def _on_room(self, member: Member, message: Json) -> Effects:
		"""In whose room one is; in one's own: as others say or find."""
		person = self._person(message["same"])
		self.room.claim_of(member).room = -1 if person == member.person else person
		return [Keep("people", [member.person])]

	def _on_early(self, member: Member, message: Json) -> Effects:
		return [ToMixer({"do": "early", "id": member.id})]

	def note_found(self, report: Json) -> Effects:
		"""The mixer asks some to listen, or found that one is in the room of another, or is not."""
		if report["event"] == "listen":
			return [Tell(tuple(report["ids"]), {"type": "listen"})]
		pair = [self.room.members[id].person for id in report["ids"] if id in self.room.members]
		if len(pair) == 2:
			found = [two for two in self.set.found if report["same"] or pair[0] not in two]
			self.set.found = [*found, *[pair][: report["same"]]][-2_000:]
		return [Keep("settings", [1]), *self.regroup()]

	def regroup(self, to: tuple[int, ...] = ()) -> Effects:
		"""What follows where rooms have changed, or who is free; told to these, or all."""
		before, self.grouped = self.grouped, self._group()
		if before == self.grouped:
			return []
		told = {"type": "rooms", "groups": self.grouped["groups"]}
		tell = Tell(to or tuple(self.room.members), told)
		return [*[tell][before["groups"] == told["groups"] :], ToMixer(self.grouped)]

	def _group(self) -> Json:
		"""The mixer's order. One's own word is before the host's switch, and that before finding."""
		claims, now = self.room.names.people, self.set
		here = {one.person: one for one in self.room}
		says = {person: claims[person].room for person in here}
		rooms = {person: {person} for person in here}
		rest = {person for person, word in says.items() if word < 0}
		found = [rest] if now.one_room else [rest.intersection(group) for group in now.found]
		for group in [*found, *({person, word} for person, word in says.items() if says.get(word))]:
			merged = set().union(*(rooms[person] for person in group))
			rooms.update(dict.fromkeys(merged, merged))
		groups = sorted(
			{tuple(sorted(here[one].id for one in room)) for room in rooms.values() if len(room) > 1}
		)
		free = [one.id for one in here.values() if one.leads or one.person in (now.word, now.spotlight)]
		free = [] if now.one_room or not groups else free
		return {"do": "rooms", "groups": [*map(list, groups)], "free": free}

	def _on_cohost(self, member: Member, message: Json) -> Effects:
		other, on = self.room.with_id(message["who"]), message["on"]
		if other.role == "host":
			raise Refused("no_such_person")
		self.room.claim_of(other).cohost = on
		told = self.room.change(other, role="co-host" if on else "member")
		kept = [Keep("people", [other.person]), Keep("members", [other.id])]
		return [*kept, told, *([Promoted(other.id)] if on else self._hushed(member))]

	def _on_ask_share(self, member: Member, message: Json) -> Effects:
		other, what = self.room.with_id(message["who"]), message.get("what", "share")
		if what == "share":
			self._may_take.add(other.person)
		return [*self.exempt(other, what, True), other.told("asked", to=what, by=member.name)]

	def _on_agree(self, member: Member, message: Json) -> Effects:
		"""Who was asked answers, once; with a yes the screen is free for it."""
		if message["to"] == "stand_by":
			refused = self.room.tell_hosts("stand_by", name=member.name, state="refused")
			return [] if message["yes"] else [refused]
		room = self.room
		freed = message["yes"] and self.may(member, "share") and room.planes.presenter not in (0, member.id)
		freed &= member.person in self._may_take  # or anyone could end another's sharing
		self._may_take.discard(member.person)
		stopped = room.planes.share_stop(room.planes.presenter) if freed else []
		return [*stopped, room.tell_hosts(**{**message, "type": "agreed", "name": member.name})]

	def _on_stand_by(self, member: Member, message: Json) -> Effects:
		other = self.room.with_id(message["who"])
		asked = other.told("asked", to="stand_by", by=member.name)
		told = self.room.tell_hosts("stand_by", name=other.name, state="asked")
		return [asked, told, Succeed(other.id, message)]

	def _tell_question(self, members: Iterable[Member], *, over: bool = False) -> list[Tell]:
		"""To each: hosts are told how many chose what, all once it is over."""
		question, people = self.set.question, self.room.names.people
		votes = Counter(claim.vote for claim in people.values())
		counts = {"counts": [votes[n] for n in range(len(question["answers"]))]}
		told = {"type": "question", **question}
		return [
			one.told(**told | {"own": people[one.person].vote} | (counts if over or one.leads else {}))
			for one in members
		]

	def _ask(self, question: Question) -> Effects:
		voted = [claim for claim in self.room.names.people.values() if claim.vote >= 0]
		for claim in voted:
			claim.vote = -1
		self.set.question = question.message()
		kept = [Keep("settings", [1]), Keep("people", [claim.person for claim in voted])]
		return [*kept, *self._tell_question(self.room)]

	def _on_question(self, member: Member, message: Json) -> Effects:
		answers = [clean_text(answer, 100) for answer in message["answers"]]
		question = clean_text(message["question"], 300)
		if len(answers) < 2 or not all(answers) or not question:
			raise Refused("bad_command", key="answers")
		return self._ask(Question(question, answers))

	def _on_answer(self, member: Member, message: Json) -> Effects:
		if message["index"] >= len(self.set.question["answers"]):
			raise Refused("bad_command", key="index")
		self.room.claim_of(member).vote = message["index"]
		told = [one for one in self.room if one.leads or one.id == member.id]
		return [Keep("people", [member.person]), *self._tell_question(told)]

	def _on_close_question(self, member: Member, message: Json) -> Effects:
		if not self.set.question["answers"]:
			return []
		results = self._tell_question(self.room, over=True)
		return [*results, *self._ask(Question())]

	def _on_timer(self, member: Member, message: Json) -> Effects:
		seconds = message["seconds"]
		self.set.ends = self.room.lasted(self.room.now) + seconds if seconds else 0.0
		return [Keep("settings", [1]), self.room.tell_all("timer", left=seconds)]

	def _on_rename(self, member: Member, message: Json) -> Effects:
		"""Oneself or, for hosts, somebody else."""
		room, name = self.room, clean_name(message["name"])
		other = room.with_id(message.get("who", member.id))
		if other.id != member.id and not member.leads:
			raise Refused("not_allowed")
		claim = room.claim_of(other)
		hers = other.role == "host" and looks(name) & looks(room.host)
		own = frozenset().union(*map(looks, (claim.name, *claim.before)))
		claim.before = [*claim.before[-7:], claim.name]
		taken = room.names.owned.keys() & looks(name) - own
		claim.name = room.names.free(name) if taken and not hers else name
		room.names.own(claim)
		offers = [one for one in room.shelf.offers.values() if one.person == other.person]
		files = {one.file: replace(one, sender=claim.name) for one in offers}
		room.shelf.offers |= files
		kept = [Keep("people", [other.person]), Keep("members", [other.id]), Keep("files", files)]
		return [*kept, room.change(other, name=claim.name), room.tell_all(**self.rules())]

	def _on_attendance(self, member: Member, message: Json) -> Effects:
		now, clock = self.room.now, self.room.clock
		rows = [
			Attended(
				claim.name, clock - now + claim.came, 0.0 if claim.since else clock - now + claim.went,
				claim.stayed + (now - claim.since if claim.since else 0.0), claim.lost,
			).message()
			for claim in self.room.names.people.values()
		]  # fmt: skip
		rows = sorted(rows, key=itemgetter("seconds"))[-MOST_ROWS:]
		rows.sort(key=itemgetter("came"))
		return [member.told("attendance", rows=rows)]


class Planes:
	"""Whose the screen is, and the tickets that open connections of the other planes: a part of the room."""

	def __init__(self, room: Room):
		self.room = room
		self.taken = -inf  # when a leader took the screen over
		self._tickets: dict[str, Ticket] = {}

	@property
	def presenter(self) -> int:
		"""Who shares the screen; 0: nobody."""
		return next((one.id for one in self.room if one.sharing), 0)

	def _on_ticket(self, member: Member, message: Json) -> Effects:
		plane, direction, file = message["plane"], message["direction"], message.get("file")
		if (plane == "screen") != (direction in ("presenter", "viewer")):
			raise PeerFault("bad_ticket")
		taken = self.room.now < self.taken + TICKET_SECONDS and not member.leads
		if direction == "presenter" and taken and self.room.classroom.may(member, "share"):
			raise Refused("share_busy", name=self.room.host)
		if plane == "files":
			offer = self.room.shelf.offers.get(file or "")
			if offer is None or not offer.open_for(member.person, direction):
				raise Refused("no_such_file")
		ticket, now = self.room.token(16), self.room.now
		good = {token: one for token, one in self._tickets.items() if one.until > now}
		self._tickets = good | {ticket: Ticket(member.id, plane, direction, file, now + TICKET_SECONDS)}
		of = {"file": file} if file else {}
		return [member.told("ticket", ticket=ticket, **of)]

	def redeem(self, ticket: str, plane: str, now: float) -> Ticket:
		"""The ticket's meaning, once; PeerFault when unknown, late, of another plane or orphaned."""
		found = self._tickets.pop(ticket, None)
		if not found or found.member not in self.room.members or found.plane != plane or found.until < now:
			raise PeerFault("bad_ticket")
		return found

	def share_start(self, ident: int) -> Effects:
		"""Give the screen to `ident`; Refused `share_busy` or `not_allowed`."""
		if (member := self.room.members.get(ident)) is None:
			raise Refused("bad_ticket")
		may = self.room.classroom.may(member, "share")
		if self.presenter and self.presenter != ident:
			taken = {} if may else {"why": "taken"}
			raise Refused("share_busy", name=self.room.members[self.presenter].name, **taken)
		if not may:
			off = "share" in self.room.classroom.set.off
			raise not_permitted("share") if off else Refused("not_allowed", why="share")
		self.taken = -inf
		told = self.room.tell_all("screen_start", id=ident, name=member.name)
		return [told, self.room.change(member, sharing=True, paused=False)]

	def share_stop(self, ident: int) -> Effects:
		"""Free the screen, if `ident` has it."""
		if not (member := self.room.members.get(ident)) or not member.sharing:
			return []
		told = self.room.tell_all("screen_stop", id=ident, name=member.name)
		return [ShareStopped(ident), told, self.room.change(member, sharing=False, paused=False)]

	def _on_pause(self, member: Member, message: Json) -> Effects:
		if member.id != self.presenter:
			raise Refused("not_allowed")
		return [self.room.change(member, paused=message["on"])]

	def _on_take_over(self, member: Member, message: Json) -> Effects:
		if (former := self.room.members.get(self.presenter)) is None or former.id == member.id:
			return []
		self.taken = self.room.now
		self._tickets = {key: one for key, one in self._tickets.items() if one.direction != "presenter"}
		return [*self.room.classroom.exempt(former, "share", False), *self.share_stop(former.id)]


class Streams:
	"""Who sends sound and pictures, and who gets which of them: a part of the room."""

	def __init__(self, room: Room):
		self.room = room
		self.allocator = LayerAllocator()

	def _on_mic(self, member: Member, message: Json) -> Effects:
		what = "mic" if "on" in message else "camera"
		on = message.get("on", message["type"] == "video_start")
		self.room.claim_of(member).orders.pop(what, None)
		if on > getattr(member, what):
			self.room.classroom.require(member, what)
		return self._turn(member, what, on)

	_on_video_start = _on_video_stop = _on_mic

	def _turn(self, member: Member, what: str, on: bool) -> Effects:
		if getattr(member, what) == on:
			return []
		changed = self.room.change(member, **{what: on})
		if what == "mic":
			return [ToMixer({"do": "mute", "id": member.id, "on": not on}), changed]
		told = self.room.tell_all("video_start" if on else "video_stop", id=member.id, name=member.name)
		return [told, changed, Keep("members", [member.id])]

	def _on_watch(self, member: Member, message: Json) -> Effects:
		wanted = {int(ident): (one["layer"], one["fps"]) for ident, one in message["streams"].items()}
		return [*self.allocator.subscribe(member.id, wanted, self.room.now)]

	def _on_volume(self, member: Member, message: Json) -> Effects:
		return [ToMixer({"do": "gains", "id": member.id, "gains": message["gains"]})]

	def _on_report(self, member: Member, message: Json) -> Effects:
		return [*self.allocator.report(member.id, message, self.room.now)]

	def _on_mute(self, member: Member, message: Json) -> Effects:
		who, what = message["who"], message.get("what", "mic")
		whom = [one for one in self.room.whom(who) if who != "all" or one.person != member.person]
		return [effect for one in whom for effect in self.mute(one, member, what)]

	def mute(self, claim: Claim, by: Member, what: str = "mic") -> Effects:
		"""Have a device of somebody off; who is away for a moment, or soon, is told once back."""
		one = self.room.present(claim.person)
		order = {"type": "muted", "by": by.name, **({} if what == "mic" else {"what": what})}
		off = self._turn(one, what, False) if one else []
		if off or not one:
			claim.orders[what] = order
		return [*off, *([one.told(**order)] if one and (off or what == "mic" or one.sharing) else [])]


class Chat:
	"""What was said, to all and in private: a part of the room."""

	def __init__(self, room: Room):
		self.room = room
		self.lines: dict[int, RoomLine] = {}
		self._octets = KeyedBuckets(*TEXT_OCTETS)  # by address

	def check(self, member: Member, message: Json) -> bool:
		"""Whether this was said already; PeerFault where one says too much."""
		if not self._octets.take(member.address, self.room.now, len(message.get("text", "").encode())):
			raise PeerFault("flood", "octets of chat")
		mark = member.person, message.get("ref")
		return "text" in message and any(mark == (line.person, line.ref) for line in self.lines.values())

	def unite(self, line: RoomLine) -> Effects:
		"""Take in a line that another server of the meeting has had."""
		if line.n in self.lines or line.n >> LINE_SHIFT == self.room.epoch - 1:
			return []
		return [self._keep(line), self.room.tell_all("chat", **line.message())]

	def _readable(self, message: Json, key: str, limit: int) -> str:
		if not (text := clean_text(message[key], limit)):
			raise Refused("bad_command", key=key)
		return text

	def _line(self, member: Member, message: Json, other: Member | None = None) -> tuple[Keep, Json]:
		text, ref = self._readable(message, "text", MAX_CHAT), message.get("ref", -1)
		self.room.counter += 1
		private: Json = {"to": other.name, "between": [member.person, other.person]} if other else {}
		private |= {"person": member.person, "ref": ref}
		line = RoomLine(self.room.counter, member.name, text, self.room.clock, member.id, **private)
		return self._keep(line), line.message()

	def _keep(self, line: RoomLine) -> Keep:
		self.lines[line.n] = line
		alike = [one.n for one in self.lines.values() if bool(one.between) is bool(line.between)]
		alike.sort(key=lambda n: (n >> LINE_SHIFT == self.room.epoch - 1, n))  # own lines go last
		for old in alike[:-HISTORY]:  # a welcome holds no more
			del self.lines[old]
		return Keep("lines", [line.n, *alike[:-HISTORY]])

	def _on_chat(self, member: Member, message: Json) -> Effects:
		self.room.classroom.require(member, "chat")
		kept, line = self._line(member, message)
		return [kept, self.room.tell_all("chat", **line)]

	def _on_private_chat(self, member: Member, message: Json) -> Effects:
		other = self.room.reach(message["to_name"])
		if not other.leads:
			self.room.classroom.require(member, "private")
		kept, line = self._line(member, message, other)
		return [kept, Tell(tuple({member.id, other.id}), {"type": "private_chat", **line})]

	def _on_reaction(self, member: Member, message: Json) -> Effects:
		emoji = self._readable(message, "emoji", 32)
		self.room.classroom.require(member, "react")
		self.room.counter += 1
		fields = {"n": self.room.counter, "id": member.id, "from": member.name, "emoji": emoji}
		return [self.room.tell_all("reaction", **fields)]


class Room:
	"""Who is in the meeting, who may do what and who must receive what.

	Pure: `now` is monotonic seconds, `clock` unix seconds for what people read, `token(n)` gives
	n random bytes as hex. Every public step returns effects, in order.
	"""

	def __init__(self, title: str, host: str, meeting: str, token: Callable[[int], str]):
		self.title, self.host, self.meeting, self.token = title, host, meeting, token
		self.members: dict[int, Member] = {}
		self.names = NameRegister(host)
		self.shelf = FileShelf(self)
		self.planes = Planes(self)
		self.streams = Streams(self)
		self.counter = self.newest_id = 0
		self.began = 0.0
		self.epoch = 1  # which server of the meeting this is
		self.served_by = host  # at whose computer
		self.chat = Chat(self)
		self.settings = {1: Setting()}
		self.classroom = Classroom(self)
		self.now = self.clock = 0.0  # of the message that is handled

	def begin_epoch(self, epoch: int) -> None:
		"""Be the server of that number: its ids and line numbers are nobody else's."""
		self.epoch = epoch
		self.newest_id, self.counter = (epoch - 1) << ID_SHIFT, (epoch - 1) << LINE_SHIFT

	def next_id(self, token: str | None = None) -> int:
		"""An id that nobody has had, or what the holder of `token` had at the server before."""
		claim = self.names.holder(token) or Claim(0, "", "")
		ident, claim.last = claim.last or self.newest_id + 1, 0  # a connection's generation is its id
		self.newest_id = max(self.newest_id, ident)
		return ident

	def join(
		self, name: str, role: str, address: str, token: str | None, now: float, proof: Json | None = None,
		features: Iterable[str] = (),
	) -> tuple[Member, str, Effects]:  # fmt: skip
		"""Let someone in: (member, its new resume token, effects). Names are made unique.

		The `proof` of the host's right holds the id for which it was made.
		"""
		proof, name = dict(proof or {}), clean_name(name)
		claim = self.names.holder(token)
		if role == "host" and not claim and looks(name) & looks(self.host) and not self.named(self.host):
			name = self.host  # hers, whatever became of her token
			claim = next((one for one in self.names.people.values() if one.name == name), None)
		elif not claim:
			name = self.names.free(name)
		ident = proof.pop("id", 0) or self.next_id(token)
		stale = self.present(claim.person) if claim else None
		gone = {"type": "ended", "code": "elsewhere"}
		effects = [Expel(stale.id, gone), *self.leave(stale.id, "replaced", now)] if stale else []
		for one in self if proof else ():
			if one.role == "host" and not one.proof:  # in her stead
				effects += [self.change(one, role="member")]
		forgotten = self.names.forget_the_long_gone(now)
		fresh, claim = self.token(32), claim or Claim(ident, name, address)
		claim.address, person = address, claim.person
		role = "co-host" if claim.cohost and role == "member" else role
		member = Member(
			ident, claim.name, role, hand=claim.hand, camera=claim.camera, proof=proof, address=address,
			person=person, features=list(features),
		)  # fmt: skip
		self.names.take(claim, token, fresh)
		member = replace(member, camera=member.camera and self.classroom.may(member, "camera"))
		claim.came, claim.since = claim.came or round(now, 3), round(now, 3)
		everyone = tuple(self.members)
		self.members[member.id] = member
		self.streams.allocator.join(member.id, member.features)
		told = Tell(everyone, {"type": "join", "user": member.message()})
		kept = [Keep("people", [person, *forgotten]), Keep("members", [ident])]
		return member, fresh, [*effects, *kept, told, *self.classroom.regroup(everyone)]

	def leave(self, ident: int, reason: str, now: float) -> Effects:
		"""Take a member out. `reason`: left, lost, removed, replaced."""
		if ident not in self.members:
			return []
		effects = self.planes.share_stop(ident)
		member = self.members.pop(ident)
		self.names.settle(member, reason, now)
		effects += [Keep("people", [member.person]), Keep("members", [ident])]
		effects += self.streams.allocator.leave(ident, now)
		gone = self.tell_all("leave", id=ident, name=member.name, reason=reason)
		return [*effects, gone, *self.classroom.regroup()]

	def _on_resumed(self, member: Member, message: Json) -> Effects:
		del self.claim_of(member).tokens[:-1]
		self.claim_of(member).orders.clear()
		return [Keep("people", [member.person])]

	def parts(self) -> Mapping[str, tuple[type[Record], dict[Any, Any]]]:
		"""Of what it consists: the kind of its records, and those by their keys."""
		return {
			"people": (Claim, self.names.people),
			"members": (Member, self.members),
			"lines": (RoomLine, self.chat.lines),
			"files": (Offer, self.shelf.offers),
			"settings": (Setting, self.settings),
		}

	def form(self) -> list[str]:
		"""The names of all that `export` holds: a journal of another form is another program version's."""
		kinds = {part: kind.shape(kept=True) for part, (kind, _) in self.parts().items()}
		return [*ROOM_FACTS, *(f"{part}.{name}" for part, names in kinds.items() for name in names)]

	def lasted(self, now: float) -> float:
		"""The meeting's own clock, by which hands are up and the timer ends: seconds that it has run."""
		return round(now - self.began, 3)

	def export(self, now: float, *changes: Keep, **more: float) -> Json:
		"""What `load` needs: all of it or, for a journal, what has changed; null where something is gone."""
		state: Json = {"now": now, **more, **{name: getattr(self, name) for name in ROOM_FACTS}}
		parts = self.parts()
		for part, keys in changes or [(part, records) for part, (_, records) in parts.items()]:
			records = parts[part][1]
			entries = {str(key): records[key].message(kept=True) if key in records else None for key in keys}
			state[part] = {**state.get(part, {}), **entries}
		return state

	def load(self, state: Json, then: float) -> None:
		"""Be the room that was exported as `state` when this computer's clock said `then`."""
		for name in ROOM_FACTS:
			setattr(self, name, state[name])
		self.began += then - state["now"]
		for part, (kind, records) in self.parts().items():
			records.clear()
			for key, entry in state[part].items():
				if entry is not None:
					one = kind.read(_shaped(entry, kind.shape(kept=True)))
					records[key if part == "files" else int(key)] = one
		for claim in self.names.people.values():
			for name in ("until", "came", "since", "went"):
				if (at := getattr(claim, name)) and at < FOREVER:
					setattr(claim, name, round(at + then - state["now"], 3))
			self.names.own(claim)
		for member in self:
			self.streams.allocator.join(member.id, member.features)
		self.classroom.regroup()

	def outlive(self, now: float) -> None:
		"""Go on after the death of the server, with which every link and file is gone.

		Numbers jump, for the last ones may not be kept. Who was in has 10 minutes to come back without PIN.
		"""
		self.shelf.offers.clear()
		for ident, member in list(self.members.items()):
			claim = self.claim_of(member)
			self.leave(ident, "lost", now)
			claim.last, claim.camera = ident, member.camera
		self.counter, self.newest_id = self.counter + NUMBER_GAP, self.newest_id + NUMBER_GAP

	def copy(self, heir: str, now: float, part: str, key: int | str) -> Json:
		"""What a standby of the fingerprint `heir` gets to know of one record: nothing private."""
		kind, records = self.parts()[part]
		one, kept = records.get(key), None
		if one and not getattr(one, "to", ""):
			kept = kind(**{name: getattr(one, name) for name in HEIRLOOMS[part]}).message(kept=True)
			if part == "people":
				kept["tokens"] = [one.heirs[heir]] if heir in one.heirs else []
		return {**self.export(now, Keep("lines", ())), part: {str(key): kept}}

	def inherit(self, copy: Json, epoch: int, name: str, now: float, then: float) -> None:
		"""Be the server after the one that has made the `copy`, had `then`, at the computer of `name`."""
		self.load({**{part: {} for part in self.parts()}, **copy}, then)
		offers = {**self.shelf.offers}
		self.outlive(now)
		self.shelf.offers |= offers  # sent anew
		self.begin_epoch(epoch)
		self.served_by = name

	def welcome(self, member: Member) -> Json:
		"""What a newcomer is told of the meeting; keys and tokens are added by the server."""
		mine = [line for line in self.chat.lines.values() if line.concerns(member.person)]
		whole = [one for one in self.shelf.offers.values() if one.whole and one.concerns(member.person)]
		files, due = whole[-MOST_FILES:], self.shelf.due(member.person)  # which follow
		return {
			"type": "welcome", "id": member.id, "name": member.name, "role": member.role,
			**{key: getattr(self, key) for key in WELCOMING}, "users": self.roster(),
			"chat": [line.told(member.person) for line in mine if not line.between],
			"private": [line.told(member.person) for line in mine if line.between],
			"files": [one.message() for one in files if one not in due], "presenter": self.planes.presenter,
			"largest_file": self.shelf.limits.largest_file,
		}  # fmt: skip

	def roster(self) -> list[Json]:
		return [member.message() for member in self]

	def __iter__(self) -> Iterator[Member]:
		return iter([*self.members.values()])

	def claim_of(self, member: Member) -> Claim:
		"""What is kept of who that is."""
		return self.names.people[member.person]

	def tell_all(self, type: str, **members: Any) -> Tell:
		"""To everyone who is in: a message of that type."""
		return Tell(tuple(self.members), {"type": type, **members})

	def named(self, name: str) -> Member | None:
		"""Who is here by that name."""
		return next((one for one in self if one.name == name), None)

	def present(self, person: int) -> Member | None:
		"""The member that this person is now."""
		return next((one for one in self if one.person == person), None)

	def teacher(self) -> int:
		"""The person who is host, here or not, whatever she is called now; Refused where nobody ever was."""
		here = [one.person for one in self if one.role == "host"]
		known = [one.person for one in self.names.people.values() if self.host in (one.name, *one.before)]
		if not (found := [*here, *known]):
			raise Refused("no_such_person", name=self.host)
		return found[0]

	def tell_hosts(self, type: str, **members: Any) -> Tell:
		"""To hosts and co-hosts: a message of that type."""
		return Tell(tuple(one.id for one in self if one.leads), {"type": type, **members})

	def handle(self, ident: int, message: Json, now: float, clock: float) -> Effects:
		"""The effects of a checked `message` from member `ident`, by `_on_TYPE` here or in one of its parts.

		Rate and rights are looked at before.
		"""
		if (member := self.members.get(ident)) is None:
			return []
		self.now, self.clock = now, clock
		kind = message["type"]
		lane = kind if kind in RATES else "other"
		buckets = self.claim_of(member).buckets
		if not buckets.setdefault(lane, TokenBucket(*RATES[lane])).take(now):
			raise PeerFault("flood", kind)
		said = self.chat.check(member, message)
		parts = (self, self.classroom, self.chat, self.shelf, self.planes, self.streams)
		handler = next(filter(None, (getattr(part, f"_on_{kind}", None) for part in parts)), None)
		if handler is None:
			raise PeerFault("unexpected_message", kind)
		try:
			if not may_say(member.role, kind):
				raise Refused("not_allowed")
			effects = [] if said else handler(member, message)  # nothing is said twice: `ok`
			if kind in ("room", "one_room", "word", "spotlight", "cohost"):
				effects += self.classroom.regroup()
		except Refused as refused:
			effects = [member.told("error", **refused.told)]
		return self._answered(effects, member, message)

	def _answered(self, effects: Effects, member: Member, message: Json) -> Effects:
		"""`effects` with exactly one answer to the request's `ref`: what it asks for, an error, or `ok`."""
		if "ref" not in message:
			return effects
		ref, kind = {"ref": message["ref"]}, message["type"]
		answers = ANSWERS.get(kind, kind), "error"
		for at, effect in enumerate(effects):
			if isinstance(effect, Tell) and member.id in effect.to and effect.message["type"] in answers:
				others = tuple(ident for ident in effect.to if ident != member.id)
				answer = [member.told(**{**effect.message, **ref}), Tell(others, effect.message)]
				return [*effects[:at], *answer, *effects[at + 1 :]]
		ok = [member.told("ok", **ref)]
		return [*ok, *effects] if kind == "leave" else [*effects, *ok]

	def reach(self, name: str) -> Member:
		"""Who has that name; Refused where nobody does."""
		if (member := self.named(name)) is None:
			raise Refused("no_such_person", name=name)
		return member

	def whom(self, who: int | str) -> list[Claim]:
		"""For "all" everybody, also the lost, else who has that id; Refused where nobody does."""
		if who != "all":
			return [self.claim_of(self.with_id(cast(int, who)))]
		return [claim for claim in self.names.people.values() if self.now < claim.until]

	def with_id(self, ident: int) -> Member:
		"""Who has that id; Refused where nobody does."""
		if ident not in self.members:
			raise Refused("no_such_person")
		return self.members[ident]

	def _on_ping(self, member: Member, message: Json) -> Effects:
		people = self.names.people
		people[member.person].took = message.get("took_ms", 0.0)
		took = sorted(people[one.person].took for one in self if not one.leads)
		more = {"class_ms": took[len(took) * 2 // 3]} if took and member.leads else {}
		return [member.told("pong", t=message["t"], **more)]

	def _on_leave(self, member: Member, message: Json) -> Effects:
		return [Expel(member.id, {}), *self.leave(member.id, "left", self.now)]

	def _on_user_list(self, member: Member, message: Json) -> Effects:
		return [member.told("user_list", users=self.roster())]

	def change(self, member: Member, **changes: Any) -> Tell:
		"""Change what the roster says of somebody, and tell it."""
		member = self.members[member.id] = replace(member, **changes)
		return self.tell_all("state", user=member.message())

	def _on_hand(self, member: Member, message: Json) -> Effects:
		if message["up"] == bool(member.hand):
			return [member.told("state", user=member.message())]
		return [Keep("members", [member.id]), self.change(member, hand=self.lasted(self.now) * message["up"])]

	def tick(self, now: float) -> Effects:
		"""Once in a while: layers whose time is over, files nobody will send."""
		return [*self.streams.allocator.tick(now), *self.shelf.tick(now)]

	def _on_remove(self, member: Member, message: Json) -> Effects:
		other = self.with_id(message["who"])
		if other.role == "host" or other.id == member.id:
			raise Refused("no_such_person" if other.id == member.id else "not_allowed")
		self.claim_of(other).removed = True
		gone = Expel(other.id, {"type": "removed", "code": "not_allowed", "why": "removed"})
		return [gone, *self.leave(other.id, "removed", self.now), self.tell_hosts(**self.banned())]

	def banned(self) -> Json:
		return {"type": "banned", "names": sorted({one.name for one in self.names.removed()})[:MAX_PEOPLE]}

	def _on_unban(self, member: Member, message: Json) -> Effects:
		found = [claim for claim in self.names.removed() if claim.name == message["who"]]
		if not found:
			raise Refused("no_such_person", name=message["who"])
		for claim in found:
			claim.removed = claim.passed = False
		return [Keep("people", [claim.person for claim in found]), self.tell_hosts(**self.banned())]

	def _on_admit(self, member: Member, message: Json) -> Effects:
		return [Admit(message["ask"], message["on"])]

	def _on_end(self, member: Member, message: Json) -> Effects:
		return [MeetingOver("over")]

	def _on_claims(self, member: Member, message: Json) -> Effects:
		self.claim_of(member).heirs = message["digests"]
		return [Keep("people", [member.person])]

	def _on_standing_by(self, member: Member, message: Json) -> Effects:
		return [Succeed(member.id, message)]

	_on_record = _on_hand_over = _on_serving = _on_line = _on_standing_by


# ====
# [8] CALL - one participant's picture of the meeting
# Uses: BASICS, WIRE


@frozen
class ChatLine(Line):
	"""A chat line; `to` is the reader of a private one."""

	to: str | None = None
	own: bool = False


@frozen
class FileEntry(FileOffer):
	"""A file, as it is shown. state: offered, uploading, downloading, saved, declined, failed, gone."""

	own: bool = False
	state: str = "offered"
	done: int = 0
	rate: float = 0.0  # bytes a second
	path: str | None = None
	reason: str = ""
	people: int = 0  # how many have saved an own file
	has: frozenset[str] = frozenset()  # and who
	to: str = ""  # whom alone an own file is for


@frozen
class StreamQuality:
	"""One received video stream over the last 2 s; `lively`: much of it moves."""

	fps: float = 0.0
	width: int = 0
	height: int = 0
	lost_frames: int = 0
	latency_ms: float | None = None
	lively: bool = False


@frozen
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
	epoch: int = 1
	served_by: str = ""  # at whose computer the meeting is
	heirs: tuple[str, ...] = ()  # at whose it goes on if that fails, in order
	pin: str = ""
	fingerprint: str = ""
	new_host: bool = False
	people: tuple[Person, ...] = ()
	hosts: frozenset[str] = frozenset()  # who was seen as host
	banned: tuple[str, ...] = ()  # who was removed, for a host to see
	chat: tuple[ChatLine, ...] = ()
	files: tuple[FileEntry, ...] = ()
	largest_file: int = 0  # what the host allows, in bytes
	speaking: int = 0
	presenter: int = 0
	devices: Mapping[str, str] = field(default_factory=dict)  # camera, mic, speaker: off, live or failed
	quality: Mapping[int, StreamQuality] = field(default_factory=dict)  # by person id
	# the level as heard and as sent, 0..1, and whether an echo is left
	sound: tuple[float, float, bool] = field(default=(0.0, 0.0, False), compare=False)
	muted_speech: bool = False  # speaking while muted
	delay_ms: float = 0.0  # control round trip
	since: float = 0.0  # monotonic seconds when it began
	wanted: Mapping[str, bool] = field(default_factory=dict)  # mic, camera, hand as last asked for here
	gains: Mapping[str, float] = field(default_factory=dict)  # by name: how many times as loud, 0 to 2
	rules: Rules = field(default_factory=Rules)
	rooms: Sequence[Sequence[int]] = ()  # ids, room by room
	question: Question = field(default_factory=Question)
	timer: float = 0.0  # monotonic seconds at its end
	asks: Mapping[int, Json] = field(default_factory=dict)  # who waits, by number, as the event says it

	@property
	def leads(self) -> bool:
		"""Whether this is a host or co-host."""
		return self.role != "member"

	@property
	def missed(self) -> str:
		"""The host's name, where the meeting goes on and nobody has her rights; or ""."""
		there = self.served_by in ("", self.host) or any(one.role == "host" for one in self.people)
		return "" if there else self.host

	@property
	def teacher(self) -> str:
		"""What the host is called now."""
		return next((one.name for one in self.people if one.role == "host"), self.host)

	def may(self, what: str) -> bool:
		"""Whether one may do `what` of PERMITS oneself."""
		return self.leads or self.rules.permits(what, self.name)

	@property
	def hands(self) -> list[Person]:
		"""Whose hands are up, in their order."""
		return sorted((one for one in self.people if one.hand), key=lambda one: one.hand)

	@property
	def handed_in(self) -> set[str]:
		"""The names of those who have handed in what is collected now."""
		work = (one for one in self.files if one.kind == "work" and one.state not in ("failed", "gone"))
		return {one.sender for one in work if one.task == self.rules.collecting}

	def person(self, ident: object) -> Person | None:
		return next((one for one in self.people if one.id == ident), None)

	@property
	def around(self) -> Sequence[int]:
		"""The ids of those in one's own room, with oneself."""
		return next((room for room in self.rooms if self.me in room), ())

	def wants(self, what: str) -> bool:
		return self.wanted.get(what, any(one.id == self.me and getattr(one, what) for one in self.people))


LINK_STATES: Mapping[str, str] = {  # of a participant's link: where each leads
	"joining": "live ended",
	"live": "reconnecting ended",
	"reconnecting": "live ended",
	"ended": "",
}


EVENTS = frozenset(  # messages that are events as they come, whatever follows from them
	{
		"host_away", "agreed", "waiting", "muted", "stand_by", "leave", "banned",
		"video_start", "video_stop", "screen_start", "screen_stop",
	}
)  # fmt: skip


class StateManager:
	"""One participant's picture of the meeting; says what changed, as events.

	One thread applies messages; any thread may read `current`.
	"""

	MOST_LINES = 5_000
	MOST_FILES = 2_000  # those that are gone make way
	MOST_ASKS = 256

	def __init__(self) -> None:
		self.current = Snapshot()
		self._seen = set[int]()  # the numbers of lines, so that a reconnect doubles nothing
		self._permissions: Json = {}  # as last told
		self._events: list[Json] = []

	def update(self, **changes: Any) -> None:
		self.current = replace(self.current, **changes)

	def stands(self, link: str) -> bool:
		"""Whether the link is that now: joining, live, reconnecting or ended."""
		return self.current.link == link

	def become(self, link: str, **facts: Any) -> None:
		"""The link is that from now on."""
		assert link in LINK_STATES[self.current.link].split(), (self.current.link, link)
		self.update(link=link, **facts)

	def named(self, name: str) -> Person | None:
		return next((one for one in self.current.people if one.name == name), None)

	@property
	def me(self) -> Person | None:
		return self.current.person(self.current.me)

	def apply(self, message: Json) -> list[Json]:
		"""Take in a checked message of the server; returns its events."""
		self._events, kind = [], message["type"]
		if kind in EVENTS:
			self._say(kind, **{key: message[key] for key in message if key not in ("type", "ref")})
		if handler := getattr(self, f"_on_{kind}", None):
			handler(message)
		return self._events

	def _say(self, event: str, **fields: Any) -> None:
		self._events.append({"event": event, **fields})

	def _on_welcome(self, message: Json) -> None:
		if message["meeting"] != self.current.meeting:
			self._seen.clear()
			self.update(chat=(), files=(), hosts=frozenset())
		# what goes on is told
		self.update(name=message["name"], asks={}, banned=(), question=Question(), timer=0.0)
		same = ("role", "meeting", "title", "host", "presenter", "largest_file", "epoch", "served_by")
		known = {entry.file for entry in self.current.files}
		before = self.current.person(self.current.presenter)
		self._on_user_list(message)
		facts = {key: message[key] for key in same} | {"pin": message.get("pin", self.current.pin)}
		self.update(link="live", me=message["id"], files=self._merged_files(message), **facts)
		self._on_rooms({"groups": []})
		lines = [*message["chat"], *message["private"]]
		for line in sorted(lines, key=lambda line: int(line["n"])):
			self._on_chat(line, history=True)
		for entry in self.current.files:
			if entry.file not in known:
				self._say_offer(entry)
		if before and before.id != message["presenter"]:
			self._say("screen_stop", id=before.id, name=before.name)
		if message["presenter"]:
			name = getattr(self.current.person(message["presenter"]), "name", "")
			self._say("screen_start", id=message["presenter"], name=name)

	def users(self) -> Json:
		return {"event": "users", "users": [self._user(one) for one in self.current.people]}

	def _say_users(self) -> None:
		self._events.append(self.users())

	def _user(self, person: Person) -> Json:
		return {**person.message(), "hand": bool(person.hand)}

	def _on_user_list(self, message: Json) -> None:
		self._take_people(map(Person.read, message["users"]))
		self._say_users()

	def _take_people(self, people: Iterable[Person]) -> None:
		people = tuple(people)
		hosts = {one.name for one in people if one.role == "host"}
		kept = self.current.hosts if len(self.current.hosts) < MAX_PEOPLE else ()
		self.update(people=people, hosts=hosts.union(kept))

	def _on_rules(self, message: Json) -> None:
		old, new = self.current.rules, Rules.read(message)
		self.update(rules=new)
		what = {what: what not in new.off for what in PERMITS}
		permissions = {"what": what, "exceptions": new.exceptions, "word": new.word or None}
		if permissions != self._permissions:
			self._say("permissions", **permissions)
		self._permissions = permissions
		if new.door != old.door:
			self._say("door", mode=new.door)
		if new.collecting != old.collecting:
			self._say("collecting", title=new.collecting or None)
		if new.spotlight != old.spotlight:
			ident = getattr(self.named(new.spotlight), "id", None)
			self._say("spotlight", id=ident, name=new.spotlight or None)

	def _on_new_pin(self, message: Json) -> None:
		if (pin := message["pin"]) != self.current.pin:
			self.update(pin=pin)
			self._say("door", mode=self.current.rules.door, pin=pin)

	def _on_rooms(self, message: Json) -> None:
		before, groups = self.current.rooms, message["groups"]
		self.update(rooms=groups)
		if [*before] != groups:
			self._say("rooms", groups=groups)

	def _on_question(self, message: Json) -> None:
		asked = Question.read(message)
		self.update(question=asked)
		told = {"question": asked.question or None, "answers": asked.answers, "counts": asked.counts or None}
		self._say("question", **told, own=None if asked.own < 0 else asked.own)

	def _on_asks(self, message: Json) -> None:
		if len(self.current.asks) >= self.MOST_ASKS:
			raise PeerFault("too_many_asks")
		told = {key: message[key] for key in ("name", "address")} | {"why": message.get("why", "pin")}
		event = {"event": "knock", **told, "n": message["ask"]}
		self.update(asks={**self.current.asks, message["ask"]: event})
		self._say(**event)

	def _on_ask_gone(self, message: Json) -> None:
		self.update(asks={n: one for n, one in self.current.asks.items() if n != message["ask"]})
		self._say("knock_gone", n=message["ask"])

	def _on_banned(self, message: Json) -> None:
		self.update(banned=tuple(message["names"]))

	def _on_join(self, message: Json) -> None:
		person = Person.read(message["user"])
		others = tuple(one for one in self.current.people if one.id != person.id)
		if len(others) >= 2 * MAX_PEOPLE:
			raise PeerFault("too_many_people")
		self._take_people((*others, person))
		self._say("join", id=person.id, name=person.name)
		self._say_users()

	def _on_leave(self, message: Json) -> None:
		self.update(people=tuple(one for one in self.current.people if one.id != message["id"]))
		self._say_users()

	def _on_state(self, message: Json) -> None:
		person = Person.read(message["user"])
		before = self.current.person(person.id)
		self._take_people(person if one.id == person.id else one for one in self.current.people)
		if person.id == self.current.me:
			self.update(name=person.name, role=person.role)
			if person.role == "member":
				self.update(asks={}, banned=())
		if before and before.name != person.name:
			self._rename(before.name, person.name)
		raised = bool(before and person.hand > before.hand)
		self._say("state", **self._user(person), raised=raised)

	def _rename(self, before: str, name: str) -> None:
		def new(one: str) -> str:
			return name if one == before else one

		gains = {new(one): times for one, times in self.current.gains.items()}
		files = [
			replace(one, sender=new(one.sender), to=new(one.to), has=frozenset(map(new, one.has)))
			for one in self.current.files
		]
		self.update(files=(*files,), gains=gains)

	def _on_chat(self, line: Json, *, history: bool = False) -> None:
		if line["n"] in self._seen:
			return
		to = line.get("to_name")
		if len(self._seen) > 4 * self.MOST_LINES:
			self._seen = {one.n for one in self.current.chat}
		self._seen.add(line["n"])
		own = "ref" in line or line["from"] == self.current.name  # or another before
		entry = ChatLine.read(line, to=to, own=own)
		self.update(chat=(*self.current.chat, entry)[-self.MOST_LINES :])
		told = {"from": line["from"], "text": line["text"], "n": line["n"], "to": to}
		self._say("private" if to else "chat", **told, **({"history": True} if history else {}))

	_on_private_chat = _on_chat

	def _on_reaction(self, message: Json) -> None:
		self._say("reaction", **{key: message[key] for key in ("from", "emoji", "n", "id")}, to=None)

	def _on_screen_start(self, message: Json) -> None:
		self.update(presenter=message["id"] if message["type"] == "screen_start" else 0)

	_on_screen_stop = _on_screen_start

	def speaking(self, ident: int) -> list[Json]:
		"""The loudest speaker is now `ident`, 0 for nobody."""
		if ident == self.current.speaking:
			return []
		self.update(speaking=ident)
		person = self.current.person(ident)
		return [{"event": "speaking", "id": ident or None, "name": person.name if person else None}]

	def _entry(self, offer: Json) -> FileEntry:
		if (known := self.file(offer["file"])) and known.state not in ("gone", "failed"):
			return replace(known, sender=offer["from"])
		own = offer["from"] == self.current.name
		return FileEntry.read({**offer, "name": safe_file_name(offer["name"])}, own=own)

	def _merged_files(self, welcome: Json) -> tuple[FileEntry, ...]:
		offered = [self._entry(offer) for offer in welcome["files"]]
		ids, later = {entry.file for entry in offered}, welcome["epoch"] > self.current.epoch
		kept = [one for one in self.current.files if one.state in ("uploading", "downloading", "saved")]
		kept += [one for one in self.current.files if later and one.state == "offered" and not one.private]
		return (*(one for one in kept if one.file not in ids), *offered)

	def file(self, file: str) -> FileEntry | None:
		return next((one for one in self.current.files if one.file == file), None)

	def put_file(self, entry: FileEntry) -> None:
		"""Add a file, or replace what is known of it."""
		files = {one.file: one for one in self.current.files}
		if entry.file not in files and len(files) >= self.MOST_FILES:
			over = [one.file for one in files.values() if one.state in ("gone", "failed", "declined")]
			if not over:
				raise PeerFault("too_many_files")
			del files[over[0]]
		self.update(files=(*{**files, entry.file: entry}.values(),))

	def change_file(self, file: str, **changes: Any) -> None:
		"""Change fields of a file's entry, if it is known."""
		if entry := self.file(file):
			self.put_file(replace(entry, **changes))

	def _say_offer(self, entry: FileEntry) -> None:
		offer = entry.message()
		self._say("file_offer", **{key: offer[key] for key in ("file", "name", "size", "from", "private")})

	def _on_file_offer(self, message: Json) -> None:
		entry = self._entry(message)
		self.put_file(entry)
		self._say_offer(entry)

	def _on_file_gone(self, message: Json) -> None:
		entry = self.file(message["file"])
		if entry is None or entry.state in ("saved", "failed", "gone"):
			return
		refused = refusal(message)
		self.put_file(replace(entry, state="gone", reason=refused.reason))
		if entry.state != "declined":
			self._say("file_failed", file=entry.file, **refused.event)

	def _on_file_saved(self, message: Json) -> None:
		name, opened = message["name"], message["opened"]
		if (entry := self.file(message["file"])) is None:
			return
		self.put_file(replace(entry, people=message["people"], has=entry.has | {name}))
		if name in entry.has and not opened:  # told anew, after a break
			return
		if entry.kind == "work":
			self._say("handed_in", file=entry.file)
		if entry.kind == "sheet":
			self._say("handed_out", file=entry.file, name=name, has=True, opened=opened)


# ====
# [9] DOCTOR - from what is known of this machine and network to one verdict and one next step
# Uses: BASICS


class Place(NamedTuple):
	"""One way into a network: `kind` is wired, wireless, virtual, vpn or unaddressed (169.254.…)."""

	name: str
	address: str
	kind: str

	@property
	def words(self) -> str:
		return f"{self.name} {self.address}"


class WayIn(NamedTuple):
	"""How others reach a meeting: address or short code, with an unusual port."""

	address: str
	code: str
	network: str = ""  # the interface's name, where the computer has several


class GivenApp(NamedTuple):
	"""This program as it is offered to browsers."""

	url: str
	name: str
	size: int  # bytes
	sha256: str
	qr: Picture  # of the address


class Sighting(NamedTuple):
	"""A meeting that was seen; `answers`: its port accepts connections."""

	title: str
	host: str
	address: str
	port: int
	answers: bool


@frozen
class Facts:
	"""What the doctor found out. Devices: "" works, None was not asked, else what is wrong."""

	places: tuple[Place, ...] = ()
	used: str = ""  # the own address toward the meeting
	heard: frozenset[str] | None = frozenset()  # own addresses whose broadcast came back
	taken: tuple[str, ...] = ()  # ports that another program holds, "TCP 9000"
	hosting: bool = False  # a meeting of this computer answers
	reachable: bool = True  # the own LAN address accepts a connection
	firewall: str = ""  # Windows', as `firewall_state`; "": not known
	meetings: tuple[Sighting, ...] = ()
	by_search: bool = False  # found by trying addresses, not by broadcast
	other_versions: tuple[tuple[str, int], ...] = ()
	neighbours: frozenset[str] | None = None  # who else is there; None: not known
	gateways: frozenset[str] = frozenset()  # where a router usually is
	asked_by: frozenset[str] = frozenset()  # who was heard looking for a meeting
	tried: frozenset[str] = frozenset()  # who connected here and did not come in
	camera: str | None = None
	mic: str | None = None
	speaker: str | None = None
	disk_free: int | None = None  # bytes
	standby: bool = False  # a lesson may go on here


class Finding(NamedTuple):
	"""One thing looked at: `state` is ok, warn or bad. A `cause` may become the verdict."""

	topic: str
	state: str
	words: str
	cause: str = ""
	next_step: str = ""


class Diagnosis(NamedTuple):
	"""The verdict, one next step, and all findings; `causes` with the gravest first."""

	verdict: str
	next_step: str
	causes: tuple[str, ...]
	findings: tuple[Finding, ...]


GRAVEST_FIRST = (
	"no_network", "no_address", "other_version", "host_blocked", "port_taken", "broadcast_blocked",
	"self_blocked", "several_networks", "kept_apart", "vpn", "disk_full", "no_sound", "no_camera",
)  # fmt: skip
PLACE_WORDS = {
	"wired": "Cable {place}.", "wireless": "Wi-Fi {place}.", "vpn": "VPN {place}.",
	"virtual": "Virtual adapter {place}.", "unaddressed": "{place}: this network gave no address.",
}  # fmt: skip
DISK_LEAST = 200_000_000
KEPT_OUT = "The firewall of this computer keeps others out."
ROUTER = "Connect all computers to the same router or hotspot."
ALLOW = "Allow ConnectSphere in the firewall of {address}, for public networks too."


def firewall_state(rules: Iterable[str], program: str, on: Collection[str]) -> str:
	"""Of Windows: "open" to those who come to `program`, "partly", "blocked", or "unset": it asks.

	`rules` are v2.31|Action=Allow|Active=TRUE|Dir=In|Protocol=6|Profile=Public|App=…|; `on` where it is on.
	"""
	said: dict[str, set[tuple[str, str]]] = {"Allow": set(), "Block": set()}
	for rule in rules:
		facts = [part.partition("=") for part in rule.split("|")]
		one = {key: value for key, _, value in facts}
		about = one.get("App", "").casefold(), one.get("Active"), one.get("Dir")
		if about == (program.casefold(), "TRUE", "In") and one.get("Action") in said:
			kinds = [value for key, _, value in facts if key == "Profile"] or on
			protocols = [one["Protocol"]] if one.get("Protocol", "256") != "256" else ["6", "17"]
			said[one["Action"]].update(itertools.product(kinds, protocols))
	needed = set(itertools.product(on, ("6", "17")))
	if needed & said["Block"]:
		return "blocked"
	return "open" if needed <= said["Allow"] else "partly" if needed & said["Allow"] else "unset"


def _find(topic: str, state: str, words: str, cause: str = "", step: str = "", **values: object) -> Finding:
	return Finding(topic, state, Words(words, **values), cause, Words(step, **values))


def _on_network(facts: Facts) -> Iterator[Finding]:
	by_kind = {kind: [one.words for one in facts.places if one.kind == kind] for kind in PLACE_WORDS}
	physical = by_kind["wired"] + by_kind["wireless"]
	for kind, places in by_kind.items():
		for place in places if kind != "unaddressed" else ():
			yield _find("network", "ok", PLACE_WORDS[kind], place=place)
	if len(facts.places) > 1:
		yield _find("network", "ok", "The address that is used: {address}.", address=facts.used)
	for place in by_kind["unaddressed"]:
		cause = "" if physical else "no_address"
		yield _find("network", "warn", PLACE_WORDS["unaddressed"], cause, ROUTER, place=place)
	if not facts.places:
		yield _find("network", "bad", "This computer is in no network.", "no_network", ROUTER)
	if len(physical) > 1:
		words = "This computer is in {count} networks: {names}."
		step = "The host must be in one of them."
		state, *wrong = ("ok",) if facts.meetings else ("warn", "several_networks", step)
		yield _find("network", state, words, *wrong, count=len(physical), names=", ".join(physical))
	if by_kind["vpn"] and not facts.meetings:
		words = "A VPN is on ({place}): it may keep the room's network out."
		step = "Switch the VPN off and look again."
		yield _find("network", "warn", words, "vpn", step, place=by_kind["vpn"][0])


def _on_meetings(facts: Facts) -> Iterator[Finding]:
	works = any(seen.answers for seen in facts.meetings)  # then another that does not is no cause
	for address, version in facts.other_versions:
		words = "The host at {address} has another version (protocol {theirs}, here {here})."
		wrong = "" if works else "other_version", "The host can give its version to others."
		yield _find("meeting", "bad", words, *wrong, address=address, theirs=version, here=PROTOCOL)
	for seen in facts.meetings:
		if seen.answers:
			at = f"{seen.address}:{seen.port}"
			words = "“{title}” by {host} at {address} answers."
			yield _find("meeting", "ok", words, title=seen.title, host=seen.host, address=at)
			continue
		words = "The firewall of the host {address} blocks port {port} of “{title}”."
		yield _find("meeting", "bad", words, "" if works else "host_blocked", ALLOW, **seen._asdict())
	if not facts.meetings and not facts.other_versions:
		yield _find("meeting", "warn", NO_MEETING)


def _on_broadcast(facts: Facts) -> Iterator[Finding]:
	step = "Join by the host's address, or allow broadcasts (UDP 9000) in firewall and network."
	for place in facts.places:
		if place.kind in ("wired", "wireless") and facts.heard is not None:
			if place.address in facts.heard:
				yield _find("broadcast", "ok", "Broadcasts are heard on {place}.", place=place.words)
			else:
				words = "Broadcasts are blocked on {place}."
				yield _find("broadcast", "bad", words, "broadcast_blocked", step, place=place.words)
	if facts.by_search:
		words = "The meeting does not hear broadcasts."
		yield _find("broadcast", "warn", words, "broadcast_blocked", step)
	if facts.asked_by:
		words = "Looking for a meeting: {addresses}."
		yield _find("broadcast", "ok", words, addresses=", ".join(sorted(facts.asked_by)[:5]))


def _on_ports(facts: Facts) -> Iterator[Finding]:
	if facts.hosting:
		yield _find("ports", "ok", "A meeting runs on this computer.")
	elif facts.taken:
		words = "Another program holds {ports}."
		step = "End that program, or host with --port 9100."
		yield _find("ports", "bad", words, "port_taken", step, ports=", ".join(facts.taken))
	else:
		yield _find("ports", "ok", "The ports for hosting are free.")
	if facts.tried:
		words = "Tried to join and did not come in: {addresses}."
		yield _find("ports", "warn", words, addresses=", ".join(sorted(facts.tried)[:5]))
	hosts = facts.hosting or facts.standby or not facts.meetings  # others let nobody in
	shut = not facts.reachable or (hosts and facts.firewall in ("blocked", "partly"))
	if facts.standby:
		words = "If the host's computer fails, the lesson goes on here."
		yield _find("standby", "warn" if shut else "ok", words)
	if shut:
		yield _find("ports", "bad", KEPT_OUT, "self_blocked", ALLOW, address=facts.used)


def _on_neighbours(facts: Facts) -> Iterator[Finding]:
	if facts.neighbours is None or not facts.used:
		return
	if facts.neighbours - facts.gateways or facts.meetings or facts.other_versions:
		words = "Devices that answer: {count}."
		yield _find("neighbours", "ok", words, count=len(facts.neighbours))
		return
	words = "No other computer answers on this network: there is none, or it keeps devices apart."
	yield _find("neighbours", "bad", words, "kept_apart", ROUTER)


def _on_devices(facts: Facts) -> Iterator[Finding]:
	step = "You can take part without it; or mend it, or plug in another."
	devices = ("Camera", facts.camera), ("Microphone", facts.mic), ("Speaker", facts.speaker)
	for name, trouble in devices:
		topic, cause = name.lower(), "no_camera" if name == "Camera" else "no_sound"
		if trouble:
			what = Words(f"No {topic}")
			yield _find(topic, "warn", "{what}: {trouble}", cause, step, what=what, trouble=trouble)
		elif trouble is not None:
			yield _find(topic, "ok", "{what}: it works.", what=Words(name))
	if facts.disk_free is not None:
		full = ("disk_full", "Delete something before files are sent.") * (facts.disk_free < DISK_LEAST)
		words, room = "{room} GB are free for files.", f"{facts.disk_free / 1e9:.1f}"
		yield _find("disk", "warn" if full else "ok", words, *full, room=room)


def diagnose(facts: Facts) -> Diagnosis:
	"""The facts judged: what is right, what is wrong, and what to do first."""
	checks = (_on_network, _on_meetings, _on_broadcast, _on_ports, _on_neighbours, _on_devices)
	findings = tuple(finding for check in checks for finding in check(facts))
	grave = sorted((f for f in findings if f.cause), key=lambda f: GRAVEST_FIRST.index(f.cause))
	causes = tuple(dict.fromkeys(finding.cause for finding in grave))
	verdict, step = "Ready, but no meeting was found.", "Ask the host to start the meeting, or host one."
	if grave:
		_, _, verdict, _, step = grave[0]
	elif facts.hosting or facts.meetings:
		verdict, step = "Everything works.", "Start ConnectSphere and join it."
	return Diagnosis(verdict, step, causes, findings)


# ----
# The waterline. Above it: bytes and `now` come in, bytes and effects go out.
# ----


# ====
# [10] TRUST - identity, known hosts, PIN proof, settings on disk
# Uses: BASICS, WIRE


def _usual_home() -> Path:
	if sys.platform == "win32":
		return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / APP_NAME
	if sys.platform == "darwin":
		return Path.home() / "Library" / "Application Support" / APP_NAME
	return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / APP_NAME.lower()


SHELF = "connectsphere-files-"
LEFT_OVER = 3_600.0  # s untouched: a killed program's


def sweep(*paths: Path) -> None:
	"""Delete what killed programs have left of these files and folders."""
	for old in paths:
		with suppress(OSError):  # swept by another program, or held
			if time.time() - old.stat().st_mtime > LEFT_OVER:
				shutil.rmtree(old) if old.is_dir() else old.unlink()


def home_directory() -> Path:
	"""Where identity, known hosts, tokens and settings are kept: made if missing, for the user alone.

	`CONNECTSPHERE_HOME` moves it. One that was there keeps its mode. Where it cannot be made, what is kept
	lasts as long as this program.
	"""
	chosen = os.environ.get("CONNECTSPHERE_HOME")
	try:
		home = Path(chosen).absolute() if chosen else _usual_home()
		home.mkdir(mode=0o700, parents=True, exist_ok=True)
	except OSError as error:
		log.warning("nothing can be kept: %s", error)
		home = Path(tempfile.mkdtemp(prefix=APP_NAME.lower()))
		os.environ["CONNECTSPHERE_HOME"] = str(home)  # for children, too
		atexit.register(shutil.rmtree, home, ignore_errors=True)
	sweep(*home.glob("journal/*.sealed"), *home.glob(f"{SHELF}*"))
	return home


def write_all(out: io.FileIO, block: memoryview) -> None:
	"""Write all of `block`; unbuffered: a buffer tries again at closing what it could not write."""
	while block:
		block = block[out.write(block) :]


# Windows refuses what is done to a file that another program, a virus scanner, has open for a moment.
PAUSES = (0.01, 0.05, 0.2) if sys.platform == "win32" else ()  # seconds between two tries


def insist(act: Callable[[], Same]) -> Same:
	"""What `act` with a file returns, once nobody else has that open."""
	for pause in PAUSES:
		with suppress(PermissionError):
			return act()
		time.sleep(pause)
	return act()


def remove_file(path: Path) -> None:
	"""Delete `path`, if it is there and nobody has it open."""
	with suppress(OSError):
		path.unlink()


def write_private(path: Path, content: bytes, *, once: bool = False) -> None:
	"""Replace `path` whole or, with `once`, leave what is there; OSError leaves it, too."""
	descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
	temporary = Path(name)
	try:
		with os.fdopen(descriptor, "wb") as file:
			file.write(content)
			file.flush()
			os.fsync(descriptor)
		if not once:
			insist(lambda: temporary.replace(path))
			return
		try:
			path.hardlink_to(temporary)
		except FileExistsError:
			pass
		except OSError:  # a file system without hard links
			temporary.replace(path)
	finally:
		remove_file(temporary)


def _save_json(path: Path, value: Json) -> bool:
	try:
		path.parent.mkdir(mode=0o700, exist_ok=True)
		write_private(path, json.dumps(value, ensure_ascii=False, indent=1).encode())
		return True
	except OSError as error:
		if _unsaved.take(path, monotonic()):
			log.warning("%s could not be saved: %s", path, error)
	return False


_unsaved = KeyedBuckets(1, 1 / 60)  # what is tried again and again is logged once a minute


def _load_json(path: Path) -> Json:
	try:
		value = json.loads(insist(path.read_bytes))
	except FileNotFoundError:
		return {}
	except (OSError, ValueError, RecursionError) as error:
		log.warning("%s is ignored: %s", path, error)
		return {}
	return value if isinstance(value, dict) else {}


@frozen
class Identity:
	"""The host's certificate and private key, in one PEM file, and the SHA-256 of the certificate."""

	path: Path
	fingerprint: str


def certificate_fingerprint(der: bytes) -> str:
	"""SHA-256 of a certificate in DER, 64 hex digits."""
	return hashlib.sha256(der).hexdigest()


def tls_library() -> str:
	"""The TLS in use."""
	return ssl.OPENSSL_VERSION


TlsContext: TypeAlias = "ssl.SSLContext"


def server_context(identity: Identity) -> TlsContext:
	"""TLS 1.3 with the host's own certificate, without session tickets."""
	context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
	context.minimum_version = ssl.TLSVersion.TLSv1_3
	context.num_tickets = 0
	context.load_cert_chain(identity.path)
	return context


def client_context() -> TlsContext:
	"""TLS 1.3 that accepts any certificate: the caller checks the fingerprint."""
	context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
	context.minimum_version = ssl.TLSVersion.TLSv1_3
	context.check_hostname = False
	context.verify_mode = ssl.CERT_NONE
	return context


def _read_identity(path: Path) -> Identity:
	pem = path.read_text("ascii")
	der = ssl.PEM_cert_to_DER_cert(pem[pem.index("-----BEGIN CERTIFICATE") :].strip())
	identity = Identity(path, certificate_fingerprint(der))
	try:
		server_context(identity)
	except ssl.SSLError as error:
		raise ValueError("certificate and key are no pair") from error
	return identity


def _new_identity() -> bytes:
	from cryptography import x509  # takes a tenth of a second
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

	A damaged one is set aside.
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
		write_private(path, _new_identity(), once=True)
		return _read_identity(path)
	except (OSError, ValueError) as error:
		raise ConnectSphereError(f"the identity in {path} cannot be kept: {error}") from error


@lru_cache(256)
def fingerprint_pictures(fingerprint: str) -> tuple[int, ...]:
	"""The eight pictures (0..63) by which people compare `fingerprint`.

	They hold 48 bits: a slow hash makes it dear to find a certificate that looks the same.
	"""
	digest = hashlib.pbkdf2_hmac("sha256", bytes.fromhex(fingerprint), b"connectsphere pictures", 20_000)
	bits = int.from_bytes(digest[:6], "big")
	return tuple(bits >> shift & 63 for shift in range(42, -1, -6))


def is_fingerprint(value: object) -> bool:
	"""Whether `value` is a SHA-256 in 64 lower-case hex digits."""
	return isinstance(value, str) and re.fullmatch("[0-9a-f]{64}", value) is not None


@frozen
class KnownHost(Record):
	"""A host that was accepted before; `last_seen`, in unix seconds, grows even where the clock goes back."""

	fingerprint: Digest
	title: Name
	host: Name
	last_seen: Time
	last_address: Annotated[str, _text(64), "last_address?"] = ""
	port: Annotated[int, _integer(1, 65_535), "port?"] = DEFAULT_PORT
	host_key: Annotated[str, _text(64), "host_key?"] = ""  # the public one of its host's right

	@property
	def looks(self) -> frozenset[str]:
		return looks(self.title) | looks(self.host)


class KnownHosts:
	"""The hosts that this user accepted: a file each, so that programs do not collide."""

	_MOST = 256

	def __init__(self, home: Path):
		self._directory = home / "known_hosts"
		self._lock = Lock()
		self._hosts = {host.fingerprint: host for host in self._read()}
		self.get = self._hosts.get

	def all(self) -> list[KnownHost]:
		"""The one seen last first."""
		with self._lock:
			return sorted(self._hosts.values(), key=lambda host: -host.last_seen)

	def remember(self, fingerprint: str, title: str, host: str, address: str = "", **more: Any) -> KnownHost:
		"""Accept a host, or note what it is called and where it is now; `more` are fields of it."""
		if not is_fingerprint(fingerprint):
			raise ValueError("not a fingerprint")
		with self._lock:
			old = self._hosts.get(fingerprint)
			was_at = old.last_address if old else ""
			names = clean_name(title, MAX_TITLE), clean_name(host)
			seen = max([time.time(), *(one.last_seen + 1 for one in self._hosts.values())])
			known = KnownHost(fingerprint, *names, seen, address or was_at, **more)
			self._hosts[fingerprint] = known
			if len(self._hosts) > self._MOST:
				dropped = min(self._hosts, key=lambda one: self._hosts[one].last_seen)
				del self._hosts[dropped]
				remove_file(self._path(dropped))
		_save_json(self._path(fingerprint), known.message())
		return known

	def places(self) -> list[Address]:
		"""Where they were last, the one seen last first."""
		return [(host.last_address, host.port) for host in self.all()]

	def imitated(self, fingerprint: str, title: str, host: str) -> KnownHost | None:
		"""The known host that `title` or `host` under another fingerprint could be taken for.

		What this fingerprint was called when it was accepted imitates nobody.
		"""
		asked = KnownHost(fingerprint, title, host, 0.0).looks
		own = self.get(fingerprint)
		new = asked - own.looks if own else asked
		others = (known for known in self.all() if known.fingerprint != fingerprint)
		return next((known for known in others if new & known.looks), None)

	def _path(self, fingerprint: str) -> Path:
		return self._directory / f"{fingerprint}.json"

	def _read(self) -> Iterator[KnownHost]:
		for path in filter(lambda path: is_fingerprint(path.stem), sorted(self._directory.glob("*.json"))):
			with suppress(PeerFault):
				told = {**_load_json(path), "fingerprint": path.stem}
				yield KnownHost.read(_shaped(told, KnownHost.shape()))


# What a user may set, and what holds until then; None: what the program was started with (ClientOptions).
SETTINGS: Mapping[str, Any] = {
	**dict.fromkeys(("name", "address", "camera", "mic", "speaker", "sound")),
	"title": "",
	"ask_pin": True,
	"volume": 0.8,  # 0..1
	"space_talk": True,
	"mirror": True,
	"best_picture": False,
	"many_tiles": False,
	"spoken": False,
	"palette": "dark",
	"scale": "100",  # %
	"language": "",  # the system's
	"window": "",  # its geometry, as Tk writes it
	"names": {},  # of the class, by title
	"told_mic": False,  # that the system will ask
	"told_camera": False,
	"told_host": "",  # the sentence
}


class Settings:
	"""The user's settings: a JSON object on disk; where it is damaged, the defaults."""

	def __init__(self, home: Path):
		self._path = home / "settings.json"
		self._lock = Lock()
		self._values = _load_json(self._path)
		self._unsaved: Json = {}  # what the disk did not take

	def get(self, key: str, default: Same) -> Same:
		"""The value of `key`, or `default` where it is missing or of another type."""
		value = self._values.get(key)
		return value if type(value) is type(default) else default

	def set(self, key: str, value: object) -> None:
		"""Keep a JSON `value`; what another program has set stays."""
		with self._lock:
			self._unsaved[key] = value
			self._values = self._values | _load_json(self._path) | self._unsaved
			if _save_json(self._path, self._values):
				self._unsaved.clear()


def load_host_key(path: Path) -> str:
	"""The host key in `path`; ConnectSphereError when there is none."""
	try:
		key = path.read_text("ascii").strip()
	except (OSError, ValueError) as error:
		raise ConnectSphereError(Words(UNREADABLE, path=path, fault=system_words(error))) from error
	if not is_fingerprint(key):
		raise ConnectSphereError(f"{path} holds no host key.")
	return key


def make_host_key(file: str | Path = "") -> str:
	"""The secret behind the host's right, 64 hex digits: the one in `file`, or a new one put there.

	The program's own file is renewed where it is damaged, and done without where it cannot be written.
	"""
	own, path = not file, Path(file or home_directory() / "host.key")
	try:
		if own and path.exists() and not is_fingerprint(path.read_text("ascii", "replace").strip()):
			log.warning("%s is damaged: a new host key is made", path)
			path.replace(path.with_suffix(".damaged"))
		if not path.exists():
			write_private(path, token_hex(32).encode() + b"\n", once=True)
		path.chmod(0o600)
	except OSError as error:
		if own:
			log.warning("the host key %s cannot be kept: %s", path, error)
			return token_hex(32)
		raise ConnectSphereError(Words(UNWRITABLE, path=path, fault=system_words(error))) from error
	return load_host_key(path)


def host_statement(meeting: str, fingerprint: str, proof: Json) -> bytes:
	"""What the host signs: which id is its own, at the server of that fingerprint alone."""
	numbers = struct.pack(">QI", proof["epoch"], proof["id"])
	named = [bytes.fromhex(text) for text in (meeting, fingerprint, proof["nonce"])]
	return b"".join((b"connectsphere/1 host\0", numbers, *named))


SUCCESSION = b"connectsphere/1 succession\0"  # signed with each record


class HostRight:
	"""The host's right: an Ed25519 key made from the `secret` of `make_host_key`, which never travels."""

	def __init__(self, secret: str):
		seed = hmac.digest(bytes.fromhex(secret), b"connectsphere/1 host key", "sha256")
		self._key = ed25519.Ed25519PrivateKey.from_private_bytes(seed)
		self.public = self._key.public_key().public_bytes_raw().hex()

	def prove(self, challenge: Json, fingerprint: str) -> str:
		return self._key.sign(host_statement(challenge["meeting"], fingerprint, challenge)).hex()

	def sign(self, record: str) -> Json:
		"""A succession record, as it is told."""
		return {"record": record, "signature": self._key.sign(SUCCESSION + record.encode()).hex()}


def _verify(key: str, signed: Json, text: bytes) -> None:
	public = ed25519.Ed25519PublicKey.from_public_bytes(bytes.fromhex(key))
	public.verify(bytes.fromhex(signed["signature"]), text)


def is_host(key: str, meeting: str, fingerprint: str, proof: Json) -> bool:
	"""Whether `proof` {id, epoch, nonce, signature} was signed with the private half of `key`."""
	with suppress(ValueError, exceptions.InvalidSignature):
		_verify(key, proof, host_statement(meeting, fingerprint, proof))
		return True
	return False


def read_record(told: Json, key: str) -> Json:
	"""The succession record that the owner of the public `key` has signed; PeerFault if it is none."""
	try:
		_verify(key, told, SUCCESSION + told["record"].encode())
	except (KeyError, ValueError, exceptions.InvalidSignature):
		raise PeerFault("record", "not the host's") from None
	record = _shaped(parse_json(told["record"].encode()), RECORD)
	if record["host_key"] != key or not record["servers"]:
		raise PeerFault("record", "of another host")
	return record


def servers_of(record: Json) -> list[str]:
	"""Their fingerprints, in the order of the record."""
	return [one["fingerprint"] for one in record.get("servers", ())]


class PinProof:
	"""One side of the PIN proof: SPAKE2, then HMAC-SHA256(K, role + SHA-256(transcript)), the client's first.

	Takes 14 ms. `message` (33 bytes) is for the other side. The host says nothing that depends on the PIN
	before the client has proved it.
	"""

	def __init__(self, pin: str, fingerprint: str, *, host: bool):
		import spake2  # takes 60 ms

		if not (secret := unicodedata.normalize("NFKC", pin).strip().encode()):
			raise UsageError("the PIN must not be empty")
		ids = {"idA": b"connectsphere/1 client", "idB": b"connectsphere/1 host" + fingerprint.encode()}
		self._spake = (spake2.SPAKE2_B if host else spake2.SPAKE2_A)(secret, **ids)
		self._roles = (b"host", b"client") if host else (b"client", b"host")  # the own, the other's
		self._macs: list[bytes] = []
		self.message: bytes = self._spake.start()

	def finish(self, peer_message: bytes, transcript: bytes) -> bytes:
		"""The own MAC (32 bytes); PeerFault where the other's message is none."""
		if len(peer_message) != 33:
			raise PeerFault("pin", "a message of a wrong size")
		try:
			key = self._spake.finish(peer_message)
		except Exception as error:  # whatever its arithmetic meets
			raise PeerFault("pin", f"{type(error).__name__}: {error}") from error
		digest = hashlib.sha256(transcript).digest()
		self._macs = [hmac.digest(key, role + digest, "sha256") for role in self._roles]
		return self._macs[0]

	def confirm(self, mac: bytes) -> bytes | None:
		"""The own MAC, where the other's, `mac`, is right."""
		if not self._macs:
			raise PeerFault("pin", "out of order")
		own, other = self._macs
		return own if hmac.compare_digest(other, mac) else None


class PinGate:
	"""Counts PIN attempts when they start: 5 failures a minute and address, 20 a minute in all.

	Half are for addresses without a failure.
	"""

	PER_ADDRESS = 5
	IN_ALL = 20

	def __init__(self) -> None:
		self._started = deque[tuple[float, str]]()

	def take(self, address: str, now: float) -> bool:
		"""Whether an attempt from `address` may start now; it counts until it is given back."""
		while self._started and self._started[0][0] < now - 60.0:
			self._started.popleft()
		mine = sum(1 for _, other in self._started if other == address)
		if mine >= self.PER_ADDRESS or len(self._started) >= self.IN_ALL // (2 if mine else 1):
			return False
		self._started.append((now, address))
		return True

	def give_back(self, address: str) -> None:
		"""The latest attempt from `address` was no wrong guess."""
		for entry in reversed(self._started):
			if entry[1] == address:
				self._started.remove(entry)
				return


def lock_file(path: Path) -> IO[bytes] | None:
	"""`path`, opened and locked until closed; None while another program holds it."""
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


ROOT_KEY = '["", "", "root"]'  # what all tokens for standbys are made from


class ResumeTokens:
	"""The client's resume tokens, kept over a crash.

	Each running program locks a slot: started again it finds its tokens, and a second one beside it never
	takes the first one's place. Without a free slot nothing is kept.
	"""

	_SLOTS = 64
	_MOST = 16

	def __init__(self, home: Path):
		self._lock: IO[bytes] | None = None
		self._path: Path | None = None
		directory = home / "resume"
		with suppress(OSError):
			directory.mkdir(mode=0o700, exist_ok=True)
		for slot in range(self._SLOTS):
			if (lock := lock_file(directory / f"{slot}.lock")) is not None:
				self._lock, self._path = lock, directory / f"{slot}.json"
				break
		self._tokens = _load_json(self._path) if self._path else {}
		self.root = bytes.fromhex(self._tokens.pop(ROOT_KEY, "") or token_hex(32))

	def get(self, fingerprint: str, meeting: str, name: str) -> str | None:
		"""The token for that host, meeting and name; the host's newest where `meeting` is not known."""
		for key in reversed([*self._tokens]):
			if key == self._key(fingerprint, meeting or json.loads(key)[1], name):
				return str(self._tokens[key])
		return None

	def put(self, fingerprint: str, meeting: str, name: str, token: str) -> None:
		"""Keep `token` in place of its predecessor."""
		key = self._key(fingerprint, meeting, name)
		self._tokens.pop(key, None)  # the newest is the last
		kept = list(self._tokens.items())[2 - self._MOST :]
		self._tokens = {**dict(kept), key: token}
		self._save()

	def drop(self, fingerprint: str, meeting: str, name: str) -> None:
		"""Forget the token."""
		if self._tokens.pop(self._key(fingerprint, meeting, name), None) is not None:
			self._save()

	def close(self) -> None:
		"""Free the slot; what is kept stays."""
		if self._lock is not None:
			self._lock.close()
		self._lock = self._path = None

	def _save(self) -> None:
		if self._path is not None:
			_save_json(self._path, {ROOT_KEY: self.root.hex(), **self._tokens})

	@staticmethod
	def _key(fingerprint: str, meeting: str, name: str) -> str:
		return json.dumps([fingerprint, meeting, name])


def fold(state: Json, changes: Json) -> None:
	"""Take into a kept `state` what has changed of it."""
	for key, value in changes.items():
		state[key] = {**state.get(key, {}), **value} if isinstance(value, dict) else value


class Journal:
	"""What a server keeps over its own death: its state, then what changes of it, a sealed line a record.

	Sealed (Fernet), because chat is in it: under a key of the identity and of `facts`, so that no other
	meeting goes on with it. A record that the crash cut off does not count. Deleted at a clean end. Where it
	cannot be written, it is `lost` until it is begun anew.
	"""

	_MOST = 4 << 20  # bytes, then it is written anew

	def __init__(self, identity: Identity, port: int, bind: str | None = None, *facts: str):
		from cryptography.fernet import Fernet  # only hosting needs it

		place = f"{bind}-{port}" if bind else str(port)
		self._path = identity.path.parent / "journal" / f"{place}.sealed"
		self._secret = hashlib.sha256(b"connectsphere journal" + identity.path.read_bytes()).digest()
		self._seal = Fernet(base64.b64encode(bytes.fromhex(self.mark(json.dumps(facts)))))
		self._file: io.FileIO | None = None
		self._size = 0
		self.lost = False

	def mark(self, text: str) -> str:
		"""A keyed hash by which `text` is known again."""
		return hmac.new(self._secret, text.encode(), hashlib.sha256).hexdigest()

	def read(self) -> Json:
		"""The state with all that was appended to it; {} when there is none."""
		from cryptography.fernet import InvalidToken

		state: Json = {}
		with suppress(OSError, InvalidToken):
			for line in self._path.read_bytes().splitlines():
				fold(state, json.loads(self._seal.decrypt(line)))
		return state

	@property
	def full(self) -> bool:
		return self._size > self._MOST

	def write(self, state: Json) -> None:
		"""Begin anew with `state`."""
		self.close()
		self._size = 0
		try:
			self._path.parent.mkdir(mode=0o700, exist_ok=True)
			write_private(self._path, self._sealed(state))
			self._file = self._path.open("ab", buffering=0)
			self.lost = False
		except OSError as error:
			self._fail(error)

	def append(self, changes: Json) -> None:
		"""Add what has changed."""
		if self._file is None:
			return
		try:
			write_all(self._file, memoryview(self._sealed(changes)))
		except OSError as error:
			self._fail(error)

	def _sealed(self, record: Json) -> bytes:
		line = self._seal.encrypt(json.dumps(record, ensure_ascii=False).encode()) + b"\n"
		self._size += len(line)
		return line

	def delete(self) -> None:
		"""The meeting is over: nothing of it stays."""
		self.close()
		remove_file(self._path)

	def close(self) -> None:
		"""Write no more; what is kept stays."""
		if self._file is not None:
			self._file.close()
			self._file = None

	def _fail(self, error: OSError) -> None:
		if not self.lost:
			log.warning(
				"the meeting is not kept over a crash: %s cannot be written: %s", self._path, error.strerror
			)
		self.lost = True
		self.delete()


# ====
# [11] LINKS - loops, TLS links, UDP ports, addresses, closing
# Uses: BASICS, WIRE, VIDEO, TILES, TRUST

Socket = socket.socket

# -- threads and their end


class Worker:
	"""A named thread that ends when told to, and logs our own bugs.

	`run(worker)` returns soon after `stopping` is set; `wake` ends a wait.
	"""

	def __init__(self, name: str, run: Callable[[Worker], None], wake: Act = lambda: None):
		self.stopping = threading.Event()
		self._run, self._wake = run, wake
		self._thread = threading.Thread(target=self._guarded, name=name, daemon=True)

	def start(self) -> Worker:
		"""Start the thread, if it is not."""
		if not self.started:
			self._thread.start()
		return self

	@property
	def started(self) -> bool:
		return self._thread.ident is not None

	def _guarded(self) -> None:
		try:
			self._run(self)
		except Exception:
			log.exception("the thread %s ended by a bug", self._thread.name)

	@property
	def going(self) -> bool:
		"""Whether nobody has asked it to end."""
		return not self.stopping.is_set()

	def stop(self) -> None:
		"""Ask the thread to end."""
		self.stopping.set()
		self._wake()

	def close(self, deadline: float = 3.0) -> None:
		"""Stop and wait at most `deadline` seconds; also from the thread itself."""
		self.stop()
		if not self.started or self._thread is threading.current_thread():
			return
		self._thread.join(deadline)
		if self._thread.is_alive():
			log.warning("the thread %s did not end within %.1f s", self._thread.name, deadline)


# -- TLS links, many to one thread

LINK_QUEUE = 4 << 20
HANDSHAKE_SECONDS = 5.0
CLOSING_SECONDS = 3.0
TURN_RECORDS = 64  # what one link may send before the others' turn
TLS_RECORD = 16_384  # bytes: the longest, and what one link may receive before the others' turn
TURN_READS = 16
TURNS_SECONDS = 0.004  # seconds before mail and timers have theirs
OUTSIDE = "outside"  # the group of those who are not in yet
SHARES = {OUTSIDE: 0.1}


@dataclass(order=True, slots=True)
class Timer:
	"""A call that a Loop makes later."""

	at: float
	call: Act | None = field(compare=False)

	def cancel(self) -> None:
		self.call = None


class Loop:
	"""A thread that owns what it watches: first what was posted, then what is ready, then what is due.

	Callbacks must not block; a PeerFault is counted. `on_due(now)` returns when it is next due. Other threads
	may `post`, `ask`, `start` and `close`, and ask for `every`.
	"""

	def __init__(
		self, name: str, counters: Counters, on_due: Callable[[float], float | None] = lambda now: None
	):
		self.counters = counters
		self.links = set[TlsLink]()  # are closed with the loop
		self.turns = FairQueue(SHARES)  # links with something to read
		self._on_due = on_due
		self._selector = DefaultSelector()
		self._mail = deque[Act]()
		self._timers: list[Timer] = []
		self._bell, self._button = socket.socketpair()  # ends a select from another thread
		for end in (self._bell, self._button):
			end.setblocking(False)
		self.watch(self._bell, EVENT_READ, lambda events: self._bell.recv(4096))
		self._worker = Worker(name, self._run, self._wake)

	def start(self) -> Loop:
		"""Start the thread."""
		self._worker.start()
		return self

	def post(self, call: Act) -> None:
		"""Have `call` made on the loop's thread; never blocks."""
		self._mail.append(call)
		self._wake()

	def ask(self, call: Callable[[], Same], patience: float = 5.0) -> Same:
		"""What `call` returns or raises on the loop's thread; TimeoutError after `patience` s."""
		answer = Future[Same]()

		def run() -> None:
			try:
				answer.set_result(call())
			except Exception as error:  # noqa: BLE001 - it is the caller's
				answer.set_exception(error)

		self.post(run)
		return answer.result(patience)

	def later(self, delay: float, call: Act) -> Timer:
		"""Have `call` made after `delay` seconds."""
		timer = Timer(monotonic() + delay, call)
		heappush(self._timers, timer)
		return timer

	def every(self, interval: float, call: Act) -> None:
		"""Have `call` made each `interval` seconds; any thread."""

		def again() -> None:
			self.later(interval, again)
			call()

		self.post(partial(self.later, interval, again))

	def watch(self, what: Any, events: int, call: Callable[[int], object] | None = None) -> None:
		"""Have `call(events)` made when `what` is ready for `events`; 0 ends that."""
		known = what in self._selector.get_map()
		if events:
			(self._selector.modify if known else self._selector.register)(what, events, call)
		elif known:
			self._selector.unregister(what)

	def close(self, deadline: float = 3.0) -> None:
		"""Send what is queued, close all that is watched, end the thread."""
		self.post(self._close_links)
		self._worker.close(deadline)
		if not self._worker.started:
			self._free()

	def _close_links(self) -> None:
		for link in list(self.links):
			link.close("closing")

	def _wake(self) -> None:
		with suppress(OSError):
			self._button.send(b"\0")

	def _free(self) -> None:
		for key in list((self._selector.get_map() or {}).values()):
			cast(Socket, key.fileobj).close()
		self._selector.close()
		self._button.close()

	def _run(self, worker: Worker) -> None:
		while worker.going:
			self._turn(1.0)
		until = monotonic() + 1.0
		self._turn(0.0)
		while self.links and monotonic() < until:
			self._turn(0.02)
		for link in list(self.links):
			self._safely(link.discard, "closing")
		self._free()

	def _turn(self, patience: float) -> None:
		now = monotonic()
		while self._timers and self._timers[0].at <= now:
			self._safely(heappop(self._timers).call or (lambda: None))
		due = self._safely(self._on_due, now)
		for at in (due, self._timers[0].at if self._timers else None):
			patience = patience if at is None else min(patience, max(0.0, at - now))
		# mail whose ring went with an earlier one's waits for no other
		ready = self._selector.select(0.0 if self.turns or self._mail else patience)
		for _ in range(len(self._mail)):  # what these post comes after the others' turn
			self._safely(self._mail.popleft())
		for key, events in ready:
			self._safely(key.data, events)
		self._take_turns()

	def _take_turns(self) -> None:
		began = at = monotonic()
		while self.turns and at - began < TURNS_SECONDS:
			link, flow = self.turns.pop()
			self._safely(link.take_turn)
			before, at = at, monotonic()
			self.turns.charge(flow, at - before)

	def _safely(self, call: Callable[..., Same], *args: Any) -> Same | None:
		try:
			return call(*args)
		except PeerFault as fault:
			self.counters.add(fault.kind)
		except Exception:
			self.counters.add("bugs")
			log.exception("a callback of a loop failed")
		return None


class TlsLink:
	"""A TLS connection inside a Loop; every method on the loop's thread.

	`on_open(link)` after the handshake, `on_bytes(data)`, `on_room()` when all is sent and the kernel takes
	more, `on_close(reason)` once.
	"""

	def __init__(self, loop: Loop, sock: Socket, context: TlsContext, *, server: bool):
		sock.setblocking(False)
		with suppress(OSError):
			sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
		self.loop, self.socket = loop, sock
		self.on_open: Callable[[TlsLink], None] = lambda link: None
		self.on_bytes: Callable[[bytes], None] = lambda data: None
		self.on_room: Act | None = None
		self.on_close: Callable[[str], None] = lambda reason: None
		self.flow: Flow = ("in", "", 0)  # whose time on the loop's thread it takes
		self.limit = LINK_QUEUE
		self.fingerprint = ""
		self.closed = False
		self._context, self._server = context, server
		self._tls: ssl.SSLSocket | None = None
		self._ready = False
		self._closing = ""
		self._all_said = False
		self._unsent = bytearray()
		self._filling = False
		self._timer: Timer | None = None

	def _watch(self, events: int) -> None:
		if self.socket.fileno() >= 0:  # TLS takes it and gives none back where the peer is gone
			self.loop.watch(self.socket, events, self.on_events)

	def begin(self) -> None:
		"""Start the handshake; TCP and TLS together have 5 s."""
		self.loop.links.add(self)
		self._timer = self.loop.later(HANDSHAKE_SECONDS, lambda: self.discard("timeout"))
		self._watch(EVENT_READ if self._server else EVENT_WRITE)
		if self._server:  # a client is yet to be connected
			self._await_turn()

	@property
	def connected(self) -> bool:
		return self._tls is not None

	def send(self, data: bytes) -> None:
		"""Queue `data`; a peer that leaves more than `limit` bytes unread is dropped."""
		if self.closed or self._closing:
			return
		self._unsent += data
		if len(self._unsent) > self.limit:
			self.discard("slow")
		elif self._ready and not self._filling:
			self._flush()

	def ask_room(self) -> None:
		"""Have `on_room` called when there is room."""
		if self._ready and not self.closed:
			self._flush()

	def close(self, reason: str) -> None:
		"""Send what is queued and end when the other side has, after 3 s at most."""
		if self.closed or self._closing:
			return
		self._closing = reason
		if not self._ready:
			self.discard(reason)
		else:
			self._timer = self.loop.later(CLOSING_SECONDS, lambda: self.discard(reason))
			self._flush()

	def discard(self, reason: str) -> None:
		"""End now; what is queued is lost."""
		if self.closed:
			return
		self.closed = True
		self._unsent.clear()
		if self._timer:
			self._timer.cancel()
		self.loop.links.discard(self)
		self.loop.turns.discard(self)
		self._watch(0)
		with suppress(OSError):
			self.socket.close()
		self.on_close(self._closing or reason)

	def evict(self) -> None:
		self.loop.post(lambda: self.discard("evicted"))

	def on_events(self, events: int) -> None:
		"""What the selector saw."""
		if self.closed:
			return
		if events & EVENT_READ or not self._ready:
			self._await_turn()
		if events & EVENT_WRITE and self._ready:
			self._flush()

	def _await_turn(self) -> None:
		self.loop.turns.add(self, self.flow)

	def take_turn(self) -> None:
		"""Shake hands or read, within the bounds of one turn."""
		try:
			(self._receive if self._ready else self._shake_hands)()
		except PeerFault as fault:
			self.loop.counters.add(fault.kind)
			self.discard(fault.kind)
		except OSError as error:
			self.discard(type(error).__name__)

	def _shake_hands(self) -> None:
		try:
			self._tls = self._tls or self._wrap()
			self._tls.do_handshake()
		except ssl.SSLWantReadError:
			self._watch(EVENT_READ)
		except ssl.SSLWantWriteError:
			self._watch(EVENT_WRITE)
		except OSError as error:
			refused = "refused" if isinstance(error, ConnectionRefusedError) else "unreachable"
			self.discard("no_tls" if self.connected else refused)
		else:
			self._opened(self._tls)

	def _wrap(self) -> ssl.SSLSocket:
		if code := self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
			raise OSError(code, os.strerror(code))
		self._watch(0)
		self.socket.getpeername()  # fails where it is gone: wrap_socket would lose it unclosed
		tls = self._context.wrap_socket(self.socket, server_side=self._server, do_handshake_on_connect=False)
		self.socket = tls
		self._watch(EVENT_READ)
		return tls

	def _opened(self, tls: ssl.SSLSocket) -> None:
		self._ready = True
		if self._timer:
			self._timer.cancel()
		if not self._server:
			self.fingerprint = certificate_fingerprint(tls.getpeercert(binary_form=True) or b"")
		self._watch(EVENT_READ)
		self.on_open(self)
		if not self.closed:
			self._await_turn()
			self._flush()

	def _receive(self) -> None:
		taken = 0
		for _ in range(TURN_READS):
			try:
				data = self.socket.recv(1 << 16)
			except (ssl.SSLWantReadError, ssl.SSLWantWriteError, BlockingIOError):  # the last: all is said
				return
			if not data:
				self.discard("gone")
				return
			if not self._all_said:
				self.on_bytes(data)
			taken += len(data)
			if self.closed:
				return
			if taken >= TLS_RECORD:
				break
		self._await_turn()

	def _flush(self) -> None:
		try:
			self._write_queue()
		except (ssl.SSLWantWriteError, ssl.SSLWantReadError):
			self._watch(EVENT_READ | EVENT_WRITE)
		except OSError as error:
			self.discard(type(error).__name__)

	def _write_queue(self) -> None:
		for _ in range(TURN_RECORDS):
			if not self._unsent and self.on_room and not self._closing:
				self._filling = True
				try:
					self.on_room()
				finally:
					self._filling = False
			if self.closed:
				return
			if not self._unsent:
				if self._closing and not self._all_said:
					# closed at once, what came unread would reset the connection: last words are lost
					self._all_said = True
					self.socket.shutdown(socket.SHUT_WR)
				self._watch(EVENT_READ)
				return
			# what waits for the kernel may be longer at the next try, never shorter
			del self._unsent[: self.socket.send(self._unsent[:TLS_RECORD])]
		self._watch(EVENT_READ | EVENT_WRITE)


SCREEN_BUFFER = 128 << 10
SCREEN_UNSENT = 16 << 10


def keep_buffers_small(sock: Socket) -> None:
	"""Let the kernel hold little, so that what is sent next is new."""
	with suppress(OSError):
		sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SCREEN_BUFFER)
	with suppress(AttributeError, OSError):  # not every system has it
		sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, SCREEN_UNSENT)


class TileFeed:
	"""Sends one peer what is newest in a TileTable, as fast as it paints. Loop's thread only.

	A change begins when the one before is acknowledged, or one earlier where that is quick: nothing piles up
	in kernel, network or decoder.
	"""

	QUICK = 0.15  # seconds from a commit to its acknowledgement

	def __init__(self, link: TlsLink, table: TileTable):
		self._link, self._table = link, table
		self._cursor = TileCursor()
		self._under_way = deque[tuple[int, float]]()
		self._change = 0
		self._took = 0.0
		self._pointer: Pointer | None = None
		link.on_room, self.update = self._fill, link.ask_room
		self.update()

	@property
	def ready(self) -> bool:
		"""Whether a change could be begun now."""
		return not self._cursor.waiting and len(self._under_way) < (2 if self._took < self.QUICK else 1)

	def restart(self, table: TileTable) -> None:
		"""Go on with another table."""
		self._table = table
		self._cursor = TileCursor()
		self._change = 0
		self._link.ask_room()

	def point(self, pointer: Pointer) -> None:
		"""Where the pointer is now."""
		self._pointer = pointer
		self._link.ask_room()

	def acknowledge(self, now: float) -> tuple[int, float]:
		"""The oldest change under way was painted: (its bytes, seconds it took). PeerFault if none is."""
		if not self._under_way:
			raise PeerFault("bad_screen", "acknowledged too much")
		size, said = self._under_way.popleft()
		self._took = now - said
		self._link.ask_room()
		return size, self._took

	def _fill(self) -> None:
		room = SCREEN_UNSENT
		while room > 0 and (message := self._next()) is not None:
			data = encode_message(encode_screen(message))
			self._link.send(data)
			self._change += len(data)
			room -= len(data)
			if isinstance(message, Commit):
				self._under_way.append((self._change, monotonic()))
				self._change = 0

	def _next(self) -> ScreenMessage | None:
		if self._pointer is not None and self._table.geometry.epoch >= 0:
			pointer, self._pointer = self._pointer, None
			return pointer
		fresh = self._table.geometry.epoch != self._cursor.epoch
		return self._table.since(self._cursor) if fresh or self._cursor.waiting or self.ready else None


class TlsStream:
	"""A blocking TLS connection of one thread; only `abort` may come from others.

	OSError when it breaks or stalls, PeerFault for an endless line.
	"""

	STALL = 20.0  # seconds without a byte
	SLOWEST = 60.0  # seconds for one block: who is slower holds up a place for others

	def __init__(self, sock: Socket, context: TlsContext, *, server: bool):
		self._handle = sock  # shutting it down does not touch the TLS object
		self._context, self._server = context, server
		self._tls: ssl.SSLSocket  # once it is open

	def open(self, deadline: float) -> None:
		"""Shake hands until `deadline`."""
		self._handle.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
		set_dscp(DSCP_CS1, self._handle)
		self._tls = self._context.wrap_socket(
			self._handle.dup(), server_side=self._server, do_handshake_on_connect=False
		)
		self._allow(deadline)
		self._tls.do_handshake()

	@property
	def fingerprint(self) -> str:
		return certificate_fingerprint(self._tls.getpeercert(binary_form=True) or b"")

	def read_line(self, limit: int, deadline: float = 0.0) -> bytes:
		"""The next line without its end, by `deadline` or else within STALL; not a byte more is read."""
		line, deadline = bytearray(), deadline or monotonic() + self.STALL
		while not line.endswith(b"\n"):
			self._allow(deadline)
			if not (byte := self._tls.recv(1)):
				raise ConnectionResetError(errno.ECONNRESET, "closed within a line")
			line += byte
			if len(line) > limit:
				raise PeerFault("long_line")
		return bytes(line[:-1])

	def pieces(self, size: int) -> Iterator[memoryview]:
		"""The next `size` bytes, a FILE_BLOCK at a time; each holds until the next."""
		block = memoryview(bytearray(FILE_BLOCK))
		for left in range(size, 0, -FILE_BLOCK):
			rest, until = block[:left], self._start_block()
			while rest:
				if not (count := self._tls.recv_into(rest)):
					raise ConnectionResetError(errno.ECONNRESET, "closed before the end")
				rest = rest[count:]
				self._judge_pace(until)
			yield block[:left]

	def send(self, block: bytes | memoryview) -> None:
		"""Send all of `block`."""
		rest, until = memoryview(block), self._start_block()
		while rest:
			rest = rest[self._tls.send(rest) :]
			self._judge_pace(until)

	def abort(self) -> None:
		"""Whoever waits on it gets an OSError."""
		with suppress(OSError):
			self._handle.shutdown(socket.SHUT_RDWR)

	def close(self) -> None:
		"""Free the connection."""
		with suppress(AttributeError):  # it was not opened
			self._tls.close()
		self._handle.close()

	def _allow(self, deadline: float) -> None:
		self._tls.settimeout(max(0.001, deadline - monotonic()))

	def _start_block(self) -> float:
		self._tls.settimeout(self.STALL)
		return monotonic() + self.SLOWEST

	def _judge_pace(self, until: float) -> None:
		if monotonic() > until:
			raise TimeoutError(errno.ETIMEDOUT, "too slow")


class DatagramLoop(Loop):
	"""A loop that owns a UDP port; `on_datagrams(buffer, segment, address, now)` gets what comes.

	With `gather` it is read that seldom and then until nothing is left: waking up costs more than all else.
	"""

	_MOST_READS = 16  # then what is due has its turn

	def __init__(
		self, name: str, port: UdpPort, counters: Counters,
		on_datagrams: Callable[[memoryview, int, Address, float], None],
		on_due: Callable[[float], float | None], gather: float = 0.0,
	):  # fmt: skip
		super().__init__(name, counters, on_due)
		self.port = port
		self._gather, self._read_at = gather, -inf  # seconds between two reads at least
		self._on_datagrams = on_datagrams
		self.watch(port, EVENT_READ, self._read)

	def use(self, port: UdpPort) -> None:
		"""Go on with another port; the old one is closed. Own thread."""
		self.watch(self.port, 0)
		self.port.close()
		self.port = port
		self.watch(port, EVENT_READ, self._read)

	def _read(self, events: int) -> None:
		rest = self._gather - (monotonic() - self._read_at)
		if rest > 0.0:
			time.sleep(rest)
		for _ in range(self._MOST_READS if self._gather else 1):
			came = self.port.receive(64)
			for buffer, segment, address in came:
				for run in runs_of(buffer, segment):
					self._safely(self._on_datagrams, run, segment, address, monotonic())
			if not came:
				break
		self._read_at = monotonic()


class HalfOpen:
	"""Who has connected and not yet said who it is, MOST in all.

	For one more, the oldest of the address that has most is ended, by its function `end`.
	"""

	MOST = 128

	def __init__(self, counters: Counters):
		self._counters = counters
		self._open: dict[Act, str] = {}
		self._lock = Lock()

	def begin(self, link: TlsLink, address: str) -> None:
		"""Start a link, its callbacks set, that has HANDSHAKE_SECONDS to say who it is. Loop's thread."""
		closed = link.on_close

		def late() -> None:
			if link.evict in self._open:
				self._counters.add("handshake_timeout")
				link.discard("timeout")

		def on_close(reason: str) -> None:
			timer.cancel()
			self.leave(link.evict)
			closed(reason)

		timer = link.loop.later(HANDSHAKE_SECONDS, late)
		link.flow, link.on_close = (OUTSIDE, address, id(link)), on_close
		self.enter(link.evict, address)
		link.begin()

	def enter(self, end: Act, address: str) -> None:
		"""Note a connection, and end the one that must go for it."""
		loser = None
		with self._lock:
			self._open[end] = address
			if len(self._open) > self.MOST:
				loser = busiest(self._open)[0]
				del self._open[loser]
		if loser:
			self._counters.add("half_open_evicted")
			loser()

	def leave(self, end: Act) -> None:
		"""It has said who it is, or is gone."""
		with self._lock:
			self._open.pop(end, None)


def share_socket(sock: Socket, child: int) -> Json:
	"""What the child `child` needs to use `sock`, with which it was started."""
	if sys.platform == "win32":
		return {"share": sock.share(child).hex()}
	return {"fd": sock.fileno()}


def shared_socket(told: Json) -> Socket:
	"""The parent's socket, from `share_socket`."""
	if sys.platform == "win32":
		return socket.fromshare(bytes.fromhex(told["share"]))
	return socket.socket(fileno=told["fd"])


# -- addresses and connections


def begin_connecting(address: Address, source: str | None) -> Socket:
	"""A socket that is connecting to `address`, from the own address `source` if any; else OSError."""
	sock = socket.socket()
	sock.setblocking(False)
	try:
		if source:
			sock.bind((source, 0))
		sock.connect(address)
	except BlockingIOError:
		pass
	except OSError:
		sock.close()
		raise
	return sock


def connect_link(loop: Loop, address: Address, source: str | None = None) -> TlsLink:
	"""Begin connecting to `address`; set the callbacks right away, on the loop's thread."""
	return TlsLink(loop, begin_connecting(address, source), client_context(), server=False)


def connect_stream(address: Address, source: str | None, patience: float = HANDSHAKE_SECONDS) -> TlsStream:
	"""A TlsStream to `address`, connected within `patience` and not yet open."""
	sock = socket.create_connection(address, patience, (source, 0) if source else None)
	return TlsStream(sock, client_context(), server=False)


def cut_off(sock: Socket) -> None:
	"""End a socket that another thread may be waiting on."""
	with suppress(OSError):
		sock.shutdown(socket.SHUT_RDWR)
	sock.close()


# The byte of IP that holds the DSCP: EF (sound) leaves switches and access points first, CS1 (files) last.
DSCP_EF = 0xB8
DSCP_CS1 = 0x20


@cache
def _qwave() -> Callable[..., Any]:
	system, handle = cast(Any, ctypes).WinDLL("qwave"), ctypes.c_void_p()
	system.QOSCreateHandle(b"\1\0\0\0", ctypes.byref(handle))  # version 1.0
	return partial(system.QOSAddSocketToFlow, handle)


def set_dscp(service: int, sock: Socket, peer: Address | None = None) -> None:
	"""Mark what `sock` sends (to `peer`, if it is not connected), where the system allows it."""
	with suppress(OSError):
		sock.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, service)
		if sys.platform == "win32":  # which ignores that
			where = peer and struct.pack("<H2s4s8x", 2, peer[1].to_bytes(2), socket.inet_aton(peer[0]))
			kind = 4 if service == DSCP_EF else 1  # voice, background; 2: no probes
			_qwave()(ctypes.c_void_p(sock.fileno()), where, kind, 2, bytes(4))


def listen_tcp(address: Address, buffer: int | None = None) -> Socket:
	"""A listening socket whose connections hold `buffer` unread bytes; Refused when it is taken."""
	sock = socket.socket()
	try:
		if sys.platform == "win32":
			sock.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)
		else:
			sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
		if buffer:  # is inherited by what is accepted
			sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
		sock.bind(address)
		sock.listen(256)
	except OSError as error:
		sock.close()
		raise Refused("port", plane="TCP", port=address[1], fault=system_words(error)) from None
	return sock


class Acceptor(Loop):
	"""The thread of the server's TCP ports, which hands every connection over with its address."""

	def __init__(self, counters: Counters):
		super().__init__("acceptor", counters)
		self._warnings = TokenBucket(1, 1 / 60)

	def listen(self, listener: Socket, begin: Callable[[Socket, str], None]) -> None:
		"""Have `begin(socket, address)` called, on this thread, for each who connects."""
		listener.setblocking(False)
		self.watch(listener, EVENT_READ, lambda events: self._accept(listener, begin))

	def _accept(self, listener: Socket, begin: Callable[[Socket, str], None]) -> None:
		try:
			sock, address = listener.accept()
			with ExitStack() as unserved:
				unserved.callback(sock.close)
				begin(sock, address[0])
				unserved.pop_all()
		except BlockingIOError:  # it has gone again
			pass
		except Exception as error:  # noqa: BLE001 - threads run out, too; the next one is taken
			if self._warnings.take(monotonic()):
				log.warning("a connection could not be accepted: %s", error)
			time.sleep(0.1)


def udp_port(address: Address, counters: Counters, patience: float = 0.0, *, sound: bool = False) -> UdpPort:
	"""A UdpPort at `address`; Refused when it stays taken for `patience` seconds."""
	until = monotonic() + patience
	while True:
		try:
			return UdpPort(address, counters, sound=sound)
		except OSError as error:
			if monotonic() >= until:
				raise Refused("port", plane="UDP", port=address[1], fault=system_words(error)) from None
		time.sleep(0.05)


def is_own_address(address: str) -> bool:
	"""Whether this machine still has the IPv4 `address`."""
	with socket.socket(type=socket.SOCK_DGRAM) as probe, suppress(OSError):
		probe.bind((address, 0))
		return True
	return False


CODE_LETTERS = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"  # none that is taken for another
_CODE_CHECK = 97
# the ranges that a LAN uses come first, so that their codes are short
_CODED = ("192.168.0.0/16", "172.16.0.0/12", "10.0.0.0/8", "169.254.0.0/16", "0.0.0.0/0")


def address_code(address: str) -> str:
	"""A code to type for an IPv4 address: 4 to 8 letters and digits; a typing mistake shows."""
	at, start = IPv4Address(address), 0
	for network in map(IPv4Network, _CODED):
		if at in network:
			number = start + int(at) - int(network[0])
			break
		start += network.num_addresses
	coded, text = number * _CODE_CHECK + 1, ""
	while coded or len(text) < 4:
		coded, digit = divmod(coded, len(CODE_LETTERS))
		text = CODE_LETTERS[digit] + text
	return text


def code_address(code: str) -> str | None:
	"""The IPv4 address of a code; None when it is no code. Case and hyphens do not matter."""
	text = code.upper().replace("-", "").translate(str.maketrans("OIL", "011"))
	if not 4 <= len(text) <= 8 or set(text) - set(CODE_LETTERS):
		return None
	coded = reduce(lambda n, c: n * 32 + CODE_LETTERS.index(c), text, 0)
	number, check = divmod(coded, _CODE_CHECK)
	if check != 1:
		return None
	for network in map(IPv4Network, _CODED):
		if number < network.num_addresses:
			return str(network[number])
		number -= network.num_addresses
	return None


def with_port(place: str, port: int) -> str:
	"""`place` as it is typed: without the usual port."""
	return place if port == DEFAULT_PORT else f"{place}:{port}"


def typed_place(text: str, port: int = DEFAULT_PORT) -> tuple[str, int]:
	"""(host, port) of an address as people type it; ValueError for none."""
	host, _, own = as_typed(text).partition(":")
	host = re.sub(r"(?<=\d) *, *(?=\d)", ".", host).strip()  # as number pads have it
	if not host:
		raise ValueError("no address")
	return host, Ports.at(int(own or port)).control


def resolve(host: str) -> str:
	"""The IPv4 address of `host`: decimal, a name or, where nobody is called so, a code; else Refused."""
	numbers, found = host.lower().split("."), code_address(host)
	if all(re.fullmatch(r"\d+|0x[0-9a-f]*", number) for number in numbers):  # resolvers read octal and worse
		with suppress(ValueError):
			found = found or str(IPv4Address(".".join(str(int(number)) for number in numbers)))
	else:
		answer = SimpleQueue[str | None]()

		def ask(worker: Worker) -> None:
			try:
				answer.put(socket.gethostbyname(host))
			except (OSError, UnicodeError):
				answer.put(None)

		Worker("resolver", ask).start()  # a name server that does not answer is asked for half a minute
		with suppress(Empty):
			found = answer.get(timeout=1.0 if found else 5.0) or found
	if found is None:
		raise Refused("no_meeting", "The address {host} cannot be found.", host=host)
	return found


def tcp_answers(address: Address) -> bool:
	"""Whether `address` accepts a TCP connection within 1.5 s."""
	with suppress(OSError), socket.create_connection(address, 1.5):
		return True
	return False


def local_address(toward: str) -> str:
	"""The own IPv4 address toward `toward`, or 127.0.0.1; nothing is sent."""
	with socket.socket(type=socket.SOCK_DGRAM) as probe, suppress(OSError):
		probe.connect((toward, 9))
		return str(probe.getsockname()[0])
	return "127.0.0.1"


# -- UDP

GSO_PARTS = 58  # 64 kB, the most that one call takes on every kernel
BUFFER = 4 << 20
LARGEST_READ = 65_536
READ_AT_ONCE = 16 * 1024  # bytes after which what came is worked on: mostly a frame
_UDP_SEGMENT = 103  # Linux: the kernel cuts a buffer into datagrams (GSO)
_UDP_GRO = 104  # Linux: the kernel joins datagrams of one sender
_HELD = 0x5411  # SIOCOUTQ
_SO_SNDBUFFORCE = 32
_SO_RCVBUFFORCE = 33
_SO_RXQ_OVFL = 40  # with what is read: how much was dropped before it
_GRO_SIZE = struct.Struct("=i")
_CUT = ((socket.IPPROTO_UDP, _UDP_SEGMENT, DATAGRAM.to_bytes(2, sys.byteorder)),)
_MOST_AT_ONCE = GSO_PARTS * DATAGRAM
_NO_GSO = frozenset([errno.EIO, errno.EINVAL, errno.ENOPROTOOPT, errno.EMSGSIZE])
_FULL = frozenset([errno.EAGAIN, errno.EWOULDBLOCK, errno.ENOBUFS])
_Octets = bytes | bytearray | memoryview


class UdpPort:
	"""A non-blocking UDP socket that sends and reads a frame in as few calls as the kernel allows.

	What the network does is counted: `udp.full`, `udp.reset`, `udp.error`. OSError when `bind` cannot be had.
	`adopt` is a socket that was bound elsewhere. Except for `sound`, datagrams of one sender may come as one.
	"""

	def __init__(
		self, bind: Address | None, counters: Counters, connect: Address | None = None,
		adopt: Socket | None = None, sound: bool = False,
	):  # fmt: skip
		self.dropped = 0  # datagrams that came while the buffer was full; Linux says
		self._counters = counters
		self.socket = adopt or socket.socket(type=socket.SOCK_DGRAM)
		self._buffer = memoryview(bytearray(READ_AT_ONCE + LARGEST_READ))
		try:
			self.socket.setblocking(False)
			self._enlarge_buffers()
			self._gso = sys.platform == "linux"
			self._gro = self._gso and self._set_gro(not sound) and not sound
			if bind is not None:
				self.socket.bind(bind)
			if connect is not None:
				self.socket.connect(connect)
			if sound:
				set_dscp(DSCP_EF, self.socket)
		except OSError:
			self.socket.close()
			raise

	@property
	def port(self) -> int:
		return int(self.socket.getsockname()[1])

	def fileno(self) -> int:
		return self.socket.fileno()

	def send(self, datagram: _Octets, address: Address | None = None) -> bool:
		"""Send a datagram, to the connected peer if `address` is None; whether the system took it."""
		if address:
			return self._try(self.socket.sendto, datagram, address)
		return self._try(self.socket.send, datagram)

	def send_frame(self, layout: _Octets, address: Address | None = None, tail: bool = False) -> bool:
		"""Send datagrams that lie back to back, all of DATAGRAM bytes but the last; False when the buffer
		was full and the rest was dropped.

		With `tail` the last one goes by itself: where the others are lost at one stroke, it tells of them.
		"""
		if not tail and len(layout) <= _MOST_AT_ONCE:  # nearly all of them: nothing to cut here
			return self._send_batch(layout, address)
		view = memoryview(layout)
		last = (len(view) - 1) // DATAGRAM * DATAGRAM
		if tail and last > 0:
			return self.send_frame(view[:last], address) and self._send_batch(view[last:], address)
		for start in range(0, len(view), _MOST_AT_ONCE):
			if not self._send_batch(view[start : start + _MOST_AT_ONCE], address):
				return False
		return True

	def held(self) -> int:
		"""Bytes that were sent and have not left this machine; 0 where the system does not say."""
		if sys.platform != "linux":
			return 0
		import fcntl

		try:
			return int.from_bytes(fcntl.ioctl(self.socket, _HELD, bytes(4)), sys.byteorder)
		except (OSError, ValueError):  # closed
			return 0

	def receive(self, most: int) -> list[tuple[memoryview, int, Address]]:
		"""Up to `most` buffers: (datagrams back to back, size of each, from whom).

		The last datagram of a buffer may be shorter. The views hold until the next call.
		"""
		received: list[tuple[memoryview, int, Address]] = []
		at = 0
		for _ in range(most):
			if at >= READ_AT_ONCE:
				break
			try:
				size, segment, address = self._read(self._buffer[at : at + LARGEST_READ])
			except OSError as error:
				if error.errno in _FULL:
					break
				self._count(error)
				continue
			if size:
				received.append((self._buffer[at : at + size], segment, address))
				at += size
			else:  # anyone can send that
				self._counters.add("short_datagram")
		return received

	def wait(self, timeout: float) -> bool:
		return bool(select.select([self.socket], [], [], timeout)[0])

	def close(self) -> None:
		self.socket.close()

	def _read(self, slot: memoryview) -> tuple[int, int, Address]:
		if not self._gro:
			size, address = self.socket.recvfrom_into(slot)
			return size, size, address
		size, control, _, address = self.socket.recvmsg_into([slot], 64)
		segment = size
		for level, kind, data in control:
			if level == socket.IPPROTO_UDP and kind == _UDP_GRO:
				segment = _GRO_SIZE.unpack_from(data)[0]
			elif kind == _SO_RXQ_OVFL:
				self.dropped = _GRO_SIZE.unpack_from(data)[0]
		return size, segment, address

	def _send_batch(self, batch: _Octets, address: Address | None) -> bool:
		if self._gso and len(batch) > DATAGRAM:
			try:
				return self._try(self.socket.sendmsg, (batch,), _CUT, 0, address, unknown=_NO_GSO)
			except OSError as error:
				log.info("the system cannot cut datagrams here (%s): sent one by one from now on", error)
				self._counters.add("udp.no_gso")
				self._gso = False
		return all(self.send(batch[at : at + DATAGRAM], address) for at in range(0, len(batch), DATAGRAM))

	def _try(self, send: Callable[..., int], *args: Any, unknown: Collection[int] = ()) -> bool:
		"""Whether `send(*args)` works; OSError for an error in `unknown`.

		It is tried twice, for a connected socket first reports what became of an earlier datagram.
		"""
		for _ in range(2):
			try:
				send(*args)
				return True
			except OSError as error:
				if error.errno in unknown:
					raise
				self._count(error)
				if not isinstance(error, ConnectionError):
					break
		return False

	def _count(self, error: OSError) -> None:
		what = "reset" if isinstance(error, ConnectionError) else "full" if error.errno in _FULL else "error"
		self._counters.add(f"udp.{what}")

	def _enlarge_buffers(self) -> None:
		options = [socket.SO_RCVBUF, socket.SO_SNDBUF]
		if sys.platform == "linux":  # beyond the system's limit, where it is allowed
			options += [_SO_RCVBUFFORCE, _SO_SNDBUFFORCE]
		for option in options:
			with suppress(OSError):
				self.socket.setsockopt(socket.SOL_SOCKET, option, BUFFER)

	def _set_gro(self, on: bool) -> bool:
		with suppress(OSError):
			self.socket.setsockopt(socket.SOL_SOCKET, _SO_RXQ_OVFL, 1)
			self.socket.setsockopt(socket.IPPROTO_UDP, _UDP_GRO, on)
			return True
		return False


# ====
# [12] PROCESS - child processes, one window, spoken cues
# Uses: BASICS, DOCTOR, TRUST, LINKS


def close_splash(patience: float = 0.0) -> None:
	"""Take away the picture that stands while the one-file program for Windows unpacks itself.

	With `patience`: until Tcl's thread there has ended, too. PyInstaller unloads Tcl when this process ends,
	and where that thread still runs it crashes and leaves all that it unpacked on the disk.
	"""
	if "_PYI_SPLASH_IPC" in os.environ:  # else the module would complain, as it would the second time
		importlib.import_module("pyi_splash").close()
	if sys.platform == "win32" and "pyi_splash" in sys.modules:
		until = monotonic() + patience
		while monotonic() < until and ctypes.windll.user32.FindWindowW("TclSocket", None):
			time.sleep(0.02)


def start_child(
	arguments: Sequence[str], shared: Socket | None = None, *, outlives: bool = False
) -> subprocess.Popen[str]:
	"""Start this program in a hidden role.

	One that `outlives` this one shares neither its terminal nor the folder it was unpacked into.
	"""
	environment = dict(os.environ)
	if getattr(sys, "frozen", False):
		command = [sys.executable]  # uses what its parent unpacked
		if outlives:
			environment["PYINSTALLER_RESET_ENVIRONMENT"] = "1"
			environment["PYINSTALLER_SUPPRESS_SPLASH_SCREEN"] = "1"
	else:
		here, python = Path(__file__).resolve(), sys.executable
		base = getattr(sys, "_base_executable", python)
		if sys.platform == "win32" and base != python:  # a venv's own would start that one in between
			environment["__PYVENV_LAUNCHER__"], python = python, base
		command = [python, str(here)] if "." in here.stem else [python, "-m", here.stem]
		environment["PYTHONSAFEPATH"] = "1"  # not modules of the working directory
		modules = str(here.parent), environment.get("PYTHONPATH")
		environment["PYTHONPATH"] = os.pathsep.join(filter(None, modules))
	start = partial(
		subprocess.Popen[str], [*command, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
		env=environment, text=True, encoding="utf-8", errors="replace",
		pass_fds=(shared.fileno(),) if shared and sys.platform != "win32" else (),
		start_new_session=outlives and sys.platform != "win32",
	)  # fmt: skip
	flags = getattr(subprocess, "CREATE_NO_WINDOW", 0)  # with a console of its own, which nobody closes
	if outlives and sys.platform == "win32":
		with suppress(PermissionError):  # not every job lets its processes leave
			return start(creationflags=flags | subprocess.CREATE_BREAKAWAY_FROM_JOB)
	return start(creationflags=flags)


def let_go_of_output(*numbers: int) -> None:
	"""What this process writes to these file descriptors goes nowhere now."""
	nowhere = os.open(os.devnull, os.O_WRONLY)
	for number in numbers:
		os.dup2(nowhere, number)
	os.close(nowhere)


class RunningMeeting:
	"""`running.json`: the meeting that this home hosts, for the program that comes back to it.

	It counts while its server holds the lock beside it; whoever deletes it ends an orphan.
	"""

	def __init__(self, home: Path):
		self.path, self._lock_path = home / "running.json", home / "running.lock"
		self._lock: IO[bytes] | None = None

	def keep(self, facts: Json) -> bool:
		"""This process serves that meeting; False where another one does, or the disk does not take it."""
		self._lock = self._lock or lock_file(self._lock_path)
		facts = {**facts, "pid": os.getpid()}
		return bool(self._lock) and _save_json(self.path, facts)

	def served(self) -> bool:
		"""Whether a server still runs, which holds the lock for long; who looks holds it for a moment."""
		for _ in range(3):
			if lock := lock_file(self._lock_path):
				lock.close()
				return False
			time.sleep(0.01)
		return True

	def read(self) -> Json:
		return _load_json(self.path) if self.served() else {}

	def end(self) -> None:
		"""End the orphan, and wait for that. It may be writing the file just now."""
		until = monotonic() + 6.0
		while self.served() and monotonic() < until:
			remove_file(self.path)
			time.sleep(0.05)

	def close(self) -> None:
		"""This process serves it no more."""
		if self._lock:
			remove_file(self.path)
			self._lock.close()


def come_first() -> None:
	"""Ask that this process runs before others, where the system lets its user."""
	if sys.platform == "win32":
		ctypes.windll.kernel32.SetPriorityClass(ctypes.c_void_p(-1), 0x8000)  # this process, above normal
	else:
		with suppress(OSError):
			os.nice(-10)


class Power:
	"""What this process asks of the system while some `owner` needs it; any thread.

	"timers": waits end within 1 ms, not with the system's tick of 15.6 ms; "system": the computer does not
	sleep; "display": the screen stays lit.
	"""

	def __init__(self, system: str = sys.platform):
		self._system = system
		self._lock = Lock()
		self._owners = defaultdict[str, set[int]](set)
		self._held: dict[str, Any] = {}  # what keeps system or display awake

	def need(self, what: str, owner: object, on: bool) -> None:
		"""From now on `owner` needs it, or no longer."""
		with self._lock:
			owners = self._owners[what]
			before = bool(owners)
			(owners.add if on else owners.discard)(id(owner))
			if bool(owners) == before:
				return
			with suppress(AttributeError, OSError):  # the system is older than that
				if self._system == "win32":
					(self._hasten if what == "timers" else self._wake)(what, on)
				elif self._system == "darwin" and what != "timers":
					self._caffeinate(what, on)

	def _hasten(self, _: str, on: bool) -> None:
		windows: Any = ctypes
		multimedia = windows.WinDLL("winmm")
		(multimedia.timeBeginPeriod if on else multimedia.timeEndPeriod)(1)
		for mask in (5, 1):  # no slower execution, no ignored timers; the latter is new in Windows 11
			state = (ctypes.c_uint32 * 3)(1, mask if on else 0, 0)  # PROCESS_POWER_THROTTLING_STATE
			if windows.WinDLL("kernel32").SetProcessInformation(ctypes.c_void_p(-1), 4, state, 12):
				return

	def _wake(self, what: str, on: bool) -> None:
		"""A power request: unlike SetThreadExecutionState it belongs to no thread."""
		windows: Any = ctypes
		kernel = windows.WinDLL("kernel32")
		if what not in self._held:
			kernel.PowerCreateRequest.restype = ctypes.c_void_p
			reason = ctypes.create_unicode_buffer(APP_NAME)
			context = struct.pack("IIP16x", 0, 1, ctypes.addressof(reason))  # REASON_CONTEXT
			self._held[what] = ctypes.c_void_p(kernel.PowerCreateRequest(context))
		ask = kernel.PowerSetRequest if on else kernel.PowerClearRequest
		ask(self._held[what], int(what == "system"))

	def _caffeinate(self, what: str, on: bool) -> None:
		if on:
			command = ["caffeinate", "-i" if what == "system" else "-d", "-w", str(os.getpid())]
			self._held[what] = subprocess.Popen(command)
		else:
			child = self._held.pop(what)
			child.terminate()
			child.wait()


power = Power()


def end_child(process: subprocess.Popen[str]) -> int:
	"""Close the child's standard input and wait; it is killed after 3 s."""
	with suppress(OSError, ValueError):
		cast(IO[str], process.stdin).close()
	try:
		return process.wait(3.0)
	except subprocess.TimeoutExpired:
		log.warning("the child %d did not end within 3 s and is killed", process.pid)
		process.kill()
		return process.wait()
	finally:
		cast(IO[str], process.stdout).close()


def voice_command(language: str) -> list[str]:
	"""The program that says its standard input aloud; empty where there is none."""
	if sys.platform == "win32":
		script = (
			"[Console]::InputEncoding = [Text.Encoding]::UTF8; Add-Type -AssemblyName System.Speech;"
			"$voice = New-Object System.Speech.Synthesis.SpeechSynthesizer;"
			f"try {{ $voice.SelectVoiceByHints('NotSet', 'NotSet', 0, '{language}') }} catch {{ }};"
			"$voice.Speak([Console]::In.ReadToEnd())"
		)
		return ["powershell", "-NoProfile", "-NonInteractive", "-Command", script]
	ways = (["say", "-f", "-"], ["spd-say", "-w", "-e", "-l", language], ["espeak-ng", "-v", language])
	return next((way for way in ways if shutil.which(way[0])), [])


def on_mains() -> bool:
	"""Whether this computer has no need of its battery now; so where the system does not say."""
	if sys.platform == "win32":
		status = (ctypes.c_ubyte * 12)()
		return not ctypes.windll.kernel32.GetSystemPowerStatus(status) or status[0] != 0
	states = [path.read_text("ascii").strip() for path in Path("/sys/class/power_supply").glob("BAT*/status")]
	return "Discharging" not in states


def windows_firewall() -> str:
	"""`firewall_state` of this program; "" elsewhere."""
	if sys.platform == "win32":
		import winreg

		def values(key: str, *places: str) -> dict[str, Any]:
			found: dict[str, Any] = {}
			for place in places:
				with suppress(OSError), winreg.OpenKey(winreg.HKEY_LOCAL_MACHINE, rf"{place}\{key}") as at:
					found.update(winreg.EnumValue(at, n)[:2] for n in range(winreg.QueryInfoKey(at)[1]))
			return found

		places = (
			r"SYSTEM\CurrentControlSet\Services\SharedAccess\Parameters\FirewallPolicy",
			r"SOFTWARE\Policies\Microsoft\WindowsFirewall",  # the school's, which goes before
		)
		kinds = {"Private": "StandardProfile", "Public": "PublicProfile"}
		said = {kind: values(key, *places) for kind, key in kinds.items()}
		on = {kind: facts for kind, facts in said.items() if facts.get("EnableFirewall", 1)}
		alone = any(facts.get("AllowLocalPolicyMerge") == 0 for facts in on.values())
		rules = map(str, values("FirewallRules", *places[alone:]).values())
		state = firewall_state(rules, sys.executable, on)
		asks = not (alone or any(facts.get("DisableNotifications") for facts in on.values()))
		return state if asks or state != "unset" else "blocked"
	return ""


class Voice:
	"""Says short lines through the system's voice, one after the other."""

	MOST_WAITING = 3  # older lines are not worth hearing
	LONGEST = 20.0

	def __init__(self) -> None:
		self._lines = SimpleQueue[tuple[str, str]]()
		self._process: subprocess.Popen[str] | None = None
		self._worker = Worker("voice", self._run, lambda: self._lines.put(("", "")))

	def say(self, words: str, language: str) -> None:
		"""Say `words`, which are of `language` ("en"). Does not wait."""
		self._lines.put((words, language))
		self._worker.start()

	def _run(self, worker: Worker) -> None:
		while worker.going:
			line = self._lines.get()
			if self._lines.qsize() < self.MOST_WAITING and worker.going:
				self._speak(*line)

	def _speak(self, words: str, language: str) -> None:
		if not (command := voice_command(language)):
			return
		try:
			self._process = process = subprocess.Popen(
				command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
				text=True, encoding="utf-8", creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
			)  # fmt: skip
			if not self._worker.going:  # `close` has not seen it
				process.kill()
			try:
				process.communicate(words, self.LONGEST)
			except subprocess.TimeoutExpired:
				process.kill()
				process.communicate()
		except OSError as error:
			log.info("the system's voice does not work: %s", error)

	def close(self) -> None:
		"""Be silent at once."""
		self._worker.stop()
		if (process := self._process) is not None:
			with suppress(OSError):
				process.terminate()
		self._worker.close()


@entity
class ChildKeeper:
	"""Keeps a child in a hidden role running, and starts a new one when it dies.

	It is told lines of JSON: `first` to each new child, with what it needs to use the socket `shared`;
	`on_message` gets its lines, on the thread that reads. `ending` is its last line; a child that has one
	may end by itself. `gave_up` is called when five in a row died within 3 s.
	"""

	STEADY_SECONDS = 3.0  # who lived that long is started again at once
	MOST_DEATHS = 5
	MOST_UNANSWERED = (30, 4)  # signs of life, before and after its first word

	name: str
	arguments: Sequence[str]
	first: Json
	on_message: Say
	shared: Callable[[], Socket | None] = lambda: None
	ending: str = ""
	outlives: bool = False
	gave_up: Act = lambda: None

	def __post_init__(self) -> None:
		self._process: subprocess.Popen[str] | None = None
		self._orders = SimpleQueue[str | None]()  # of the child that is there
		self._spoke = False
		self._unanswered = 0
		self._worker = Worker(f"reader-{self.name}", self._run, lambda: self._orders.put(None))
		self.start, self.stop = self._worker.start, self._worker.stop

	def tell(self, do: str, **more: Any) -> None:
		self._orders.put(json.dumps({"do": do, **more}))

	def look(self) -> None:
		"""Once a second: ask the child for a sign of life, and kill one that gives none.

		Questions are counted, not seconds, so that a computer which slept kills nobody.
		"""
		self._unanswered += 1
		if (process := self._process) and self._unanswered > self.MOST_UNANSWERED[self._spoke]:
			log.error("the %s hangs and is killed", self.name)
			process.kill()
		self.tell("beat")

	def close(self, deadline: float = 3.0) -> None:
		"""End the child, which is killed after `deadline` seconds, and the threads; twice is harmless."""
		self._worker.close(deadline)
		if (process := self._process) and process.poll() is None:
			log.warning("the %s did not end within %.1f s and is killed", self.name, deadline)
			process.kill()
			self._worker.close(deadline)

	def _run(self, worker: Worker) -> None:
		deaths = 0
		while worker.going:
			started, status = monotonic(), self._live(worker)
			if status == 0 and self.ending:
				return
			steady = self._spoke and monotonic() - started > self.STEADY_SECONDS
			deaths = 0 if steady else deaths + 1
			if not worker.going:
				return
			log.error("the %s ended with status %s", self.name, status)
			if deaths >= self.MOST_DEATHS:
				self.gave_up()
				return
			worker.stopping.wait(0.0 if steady else 0.5)

	def _live(self, worker: Worker) -> object:
		shared = self.shared()
		try:
			process = start_child(self.arguments, shared, outlives=self.outlives)
		except OSError as error:  # memory or processes have run out
			return error
		first = self.first
		with suppress(OSError):  # Windows: it died at once
			first = {**first, **(share_socket(shared, process.pid) if shared else {})}
		orders = SimpleQueue[str | None]()
		orders.put(json.dumps(first))
		self._process, self._orders, self._spoke, self._unanswered = process, orders, False, 0
		if not worker.going:
			orders.put(None)
		Worker(f"writer-{self.name}", lambda _: self._write(process, orders)).start()
		for line in cast(IO[str], process.stdout):
			self._hear(line)
		orders.put(None)
		return end_child(process)

	def _write(self, process: subprocess.Popen[str], orders: SimpleQueue[str | None]) -> None:
		stdin = cast(IO[str], process.stdin)
		with suppress(OSError, ValueError), stdin:
			while (line := orders.get()) is not None:
				stdin.write(line + "\n")
				stdin.flush()
			stdin.write(self.ending)

	def _hear(self, line: str) -> None:
		self._spoke, self._unanswered = True, 0
		try:
			message = json.loads(line)
		except ValueError:  # it was killed within a line
			log.warning("the %s said a line that is no message", self.name)
			return
		try:
			self.on_message(message)
		except Exception:
			log.exception("what the %s said was not taken", self.name)


class OneWindow:
	"""One window for a home and screen: it holds a lock; a later start leaves a note, `knocked` is called."""

	PATIENCE = 2.0  # seconds for one that does not hear

	def __init__(self, home: Path, knocked: Act):
		seat = [platform.node(), *map(os.environ.get, ("DISPLAY", "WAYLAND_DISPLAY", "SESSIONNAME"))]
		name = f"window-{hashlib.sha256(str(seat).encode()).hexdigest()[:8]}"
		self._lock_path, self._note = home / f"{name}.lock", home / f"{name}.again"
		self._knocked = knocked
		self._lock: IO[bytes] | None = None
		self._worker = Worker("second-start", self._listen)

	def open(self) -> bool:
		"""Be the one window; False where another is, which has then been told and has heard it.

		The place of one that hears nothing is waited for: it may be closing.
		"""
		noted, until = False, monotonic() + self.PATIENCE
		with suppress(OSError):  # nobody can be told
			while not self._locked() and monotonic() < until:
				if not noted:
					self._note.touch(0o600)
				elif not self._note.exists():
					return False
				noted = True
				time.sleep(0.05)
		if self._lock:
			remove_file(self._note)  # of a start that nobody heard
			self._worker.start()
		return True

	def _locked(self) -> bool:
		self._lock = lock_file(self._lock_path)
		return bool(self._lock)

	def _listen(self, worker: Worker) -> None:
		while not worker.stopping.wait(0.2):
			with suppress(OSError):
				self._note.unlink()
				self._knocked()

	def gone(self) -> None:
		"""The window is no more: whoever starts now waits for the end of its program."""
		self._worker.close()

	def close(self) -> None:
		"""Let another be the one."""
		self.gone()
		if self._lock is not None:
			self._lock.close()


# ====
# [13] DISCOVERY - asking and answering on every interface
# Uses: BASICS, WIRE, LINKS

ROUNDS = (0.0, 0.25, 0.75)  # seconds after the start at which is asked; then every ASK_EVERY
ASK_EVERY = 2.0
BEACON_EVERY = 2.0
AD_EXPIRES = 6.0
MOST_ADS = 32
FALSE_EXPIRES = 60.0  # seconds; by then its address may be somebody else's
MOST_ADS_OF_ONE = 8  # of one address, which hides nobody's meeting
QUIET = 1.5
SCAN_AGAIN = (30.0, 30.0, 90.0, 480.0)  # seconds to the next, by how many were in vain
SCAN_MOST = 1_024
SCAN_AT_ONCE = 50
SCAN_PATIENCE = 0.4
LIMITED_BROADCAST = "255.255.255.255"


@frozen
class MeetingAd(Ad):
	"""A meeting on the network, and the address that answered."""

	_: KW_ONLY
	address: str

	@classmethod
	def of(cls, fields: Json, address: str) -> MeetingAd:
		"""The ad in the checked fields of an answer, fit to be shown."""
		shown = {"title": clean_name(fields["title"], MAX_TITLE), "host": clean_name(fields["host"])}
		return cls.read({**fields, **shown}, address=address)


_KINDS = {  # by name, on Windows by the adapter's description
	"vpn": re.compile(
		r"^(tun|tap|ppp|wg|utun|ipsec|zt|tailscale|nordlynx|proton)|VPN|WireGuard|Wintun|TAP-|Tailscale"
		r"|ZeroTier|AnyConnect|Fortinet"
	),
	"virtual": re.compile(
		r"^(docker|br-|veth|virbr|vmnet|vboxnet|lxc|lxd|podman|cni|bridge|awdl|llw)|Hyper-V|VMware|Virtual"
	),
	"wireless": re.compile(r"^(wl|ath|ra\d)|Wi-?Fi|Wireless|WLAN|802\.11"),
}


@frozen
class Interface:
	"""An IPv4 address of this machine."""

	name: str
	address: str
	prefix: int

	@property
	def network(self) -> IPv4Network:
		return IPv4Network((self.address, self.prefix), strict=False)

	@property
	def broadcast(self) -> str:
		"""The directed broadcast address; "" where there is none."""
		return str(self.network.broadcast_address) if self.prefix < 31 else ""

	@property
	def loopback(self) -> bool:
		return IPv4Address(self.address).is_loopback

	@property
	def kind(self) -> str:
		"""wired, wireless, virtual, vpn, unaddressed (169.254.…) or loopback, by address and name."""
		if self.loopback:
			return "loopback"
		if IPv4Address(self.address).is_link_local:
			return "unaddressed"
		return next((kind for kind, names in _KINDS.items() if names.search(self.name)), "wired")

	def near(self, address: str) -> bool:
		"""Whether a broadcast from `address` came this way; each loopback address is a world of its own."""
		return address == self.address if self.loopback else IPv4Address(address) in self.network

	@property
	def broadcasts(self) -> list[str]:
		"""Where a question to everybody goes. On loopback also to itself: not all can broadcast."""
		everybody = self.address if self.loopback else LIMITED_BROADCAST
		return [everybody, *filter(None, [self.broadcast])]


def _is_up(interface: Interface) -> bool:
	"""Whether it is on: ifaddr lists those that are not, too."""
	if sys.platform == "win32":
		return is_own_address(interface.address)  # one without a cable keeps an address that is of no use
	import fcntl

	ask = 0xC0206911 if sys.platform == "darwin" else 0x8913  # SIOCGIFFLAGS
	with socket.socket(type=socket.SOCK_DGRAM) as probe, suppress(OSError):  # it is gone
		return bool(fcntl.ioctl(probe, ask, struct.pack("40s", interface.name.encode()))[16] & 1)  # IFF_UP
	return False


def interfaces() -> list[Interface]:
	"""The IPv4 addresses of this machine that are up, loopback first."""
	try:
		found = [
			Interface(adapter.nice_name, str(own.ip), own.network_prefix)
			for adapter in ifaddr.get_adapters()
			for own in adapter.ips
			if own.is_IPv4
		]
	except OSError as error:
		log.warning("the network interfaces cannot be listed: %s", error)
		return []
	return sorted(filter(_is_up, found), key=lambda each: not each.loopback)


def parse_arp(text: str) -> set[str]:
	"""The addresses that answered, in Linux's table of neighbours."""
	rows = (line.split() for line in text.splitlines()[1:])
	return {row[0] for row in rows if len(row) >= 4 and int(row[2], 16) & 2}  # ATF_COM: complete


def parse_neighbour_table(table: bytes) -> set[str]:
	"""The addresses that answered, in a Windows MIB_IPNETTABLE: count, then rows of 24 bytes."""
	count = min(int.from_bytes(table[:4], "little"), (len(table) - 4) // 24)
	rows = struct.iter_unpack("<4xI8x4sI", table[4 : 4 + 24 * count])
	return {str(IPv4Address(at)) for length, at, kind in rows if length and kind == 3}  # dynamic


def neighbours(own: Sequence[Interface]) -> frozenset[str] | None:
	"""Who has answered this machine lately in the subnets of `own`; None where nobody can tell."""
	try:
		if sys.platform == "win32":
			table = ctypes.create_string_buffer(256 * 1024)
			size = ctypes.c_ulong(len(table))
			if ctypes.WinDLL("iphlpapi").GetIpNetTable(table, ctypes.byref(size), 0):
				return None
			found = parse_neighbour_table(table.raw)
		else:
			found = parse_arp(Path("/proc/net/arp").read_text(encoding="ascii"))
	except OSError:
		return None
	return frozenset(one for one in found if any(each.near(one) for each in own))


def own_address(bind: str | None) -> str | None:
	"""`bind` checked: None for "all addresses"; UsageError when it is no IPv4 address."""
	if bind is None:
		return None
	try:
		address = IPv4Address(bind)
	except ValueError as error:
		raise UsageError(f"{bind} is no IPv4 address.") from error
	return None if address.is_unspecified else str(address)


def interfaces_for(bind: str | None) -> list[Interface]:
	"""All interfaces, or only `bind` (any 127.x.y.z will do)."""
	if bind is None:
		return interfaces()
	for each in interfaces():
		if each.address == bind:
			return [each]
	return [Interface("", bind, 8 if IPv4Address(bind).is_loopback else 32)]


PHYSICAL = ("wired", "wireless", "unaddressed")  # kinds of interfaces


def plausible_interfaces(bind: str | None = None) -> list[Interface]:
	"""Where others may reach this machine: physical interfaces first, never loopback."""
	order = (*PHYSICAL, "virtual", "vpn")
	found = [each for each in interfaces_for(bind) if each.kind in order]
	return sorted(found, key=lambda each: order.index(each.kind))


def _udp_socket(address: str, port: int, shared: bool = False) -> Socket:
	port_socket = socket.socket(type=socket.SOCK_DGRAM)
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


class DiscoveryLoop(Loop):
	"""A loop for small datagrams on several sockets."""

	def drop(self, watched: Socket) -> None:
		"""Watch it no longer, and close it."""
		self.watch(watched, 0)
		watched.close()

	def listen(
		self, address: str, port: int, hear: Callable[[bytes, Address], None], *, shared: bool = False
	) -> Socket:
		"""Have `hear(datagram, source)` called for what comes there; OSError where it cannot be had."""
		ear = _udp_socket(address, port, shared)
		self.watch(ear, EVENT_READ, lambda events: self._receive(ear, hear))
		return ear

	def _receive(self, ear: Socket, hear: Callable[[bytes, Address], None]) -> None:
		for _ in range(64):
			try:
				data, source = ear.recvfrom(2_048)
			except BlockingIOError:
				return
			except OSError:  # Windows: somebody we answered is gone
				self.counters.add("discovery_receive_error")
			else:
				self._safely(hear, data, source)

	def _send(self, port: Socket, data: bytes, address: Address) -> None:
		try:
			port.sendto(data, address)
		except OSError:  # the other ways are tried all the same
			self.counters.add("discovery_send_error")


class AnswerLimit:
	"""One answer a nonce, 5 a second and address, 300 in all: 200 for those who ask as seldom as clients."""

	def __init__(self) -> None:
		self._all, self._kept = TokenBucket(100, 100), TokenBucket(200, 200)
		self._each, self._seldom = KeyedBuckets(5, 5), KeyedBuckets(1, 0.6)
		self._nonces = KeyedBuckets(1, 0)

	def admit(self, nonce: str, address: str, now: float) -> bool:
		"""Whether that question is answered."""
		if not (self._nonces.take(nonce, now) and self._each.take(address, now)):
			return False
		return (self._seldom.take(address, now) and self._kept.take(now)) or self._all.take(now)


class DiscoveryResponder(DiscoveryLoop):
	"""Makes the meeting visible: answers questions by unicast, and sends a beacon every 2 s.

	`describe` gives the answer's fields (of Ad), in this thread. With `bind` only that address listens and
	sends. A port that cannot be had is tried again.
	"""

	def __init__(self, describe: Callable[[], Json], bind: str | None, counters: Counters):
		self._bind = own_address(bind)
		super().__init__("discovery-responder", counters, self._on_turn)
		self._describe = describe
		self._limit = AnswerLimit()
		self._ear: Socket | None = None
		self._warned = False
		self._beacon_at = -inf
		self._listen()

	def _on_turn(self, now: float) -> float:
		if now >= self._beacon_at:
			self._beacon_at = now + BEACON_EVERY
			if self._ear is None:
				self._listen()
			self._send_beacon()
		return self._beacon_at

	def _listen(self) -> None:
		try:
			self._ear = self.listen(self._bind or "", DISCOVERY_PORT, self._answer, shared=True)
		except OSError as error:
			if not self._warned:
				self._warned = True
				words = "this meeting cannot be found by itself, only joined by address: UDP %d is taken (%s)"
				log.warning(words, DISCOVERY_PORT, error.strerror)
			return
		for own in interfaces_for(self._bind) if self._bind else ():
			for broadcast in {*own.broadcasts} - {own.address}:
				with suppress(OSError):
					self.listen(broadcast, DISCOVERY_PORT, partial(self._answer, only=own), shared=True)

	def _answer(self, data: bytes, source: Address, only: Interface | None = None) -> None:
		if len(data) < QUESTION_SIZE or self._ear is None or (only and not only.near(source[0])):
			return
		nonce, _ = parse_question(data)
		if not self._limit.admit(nonce, source[0], monotonic()):
			raise PeerFault("discovery_unanswered")
		self._send(self._ear, self._ad(nonce, len(data)), source)

	def _send_beacon(self) -> None:
		beacon = self._ad("", QUESTION_SIZE - 1)
		for interface in interfaces_for(self._bind):
			if interface.loopback and self._bind is None:
				continue
			with suppress(OSError), _udp_socket(interface.address, 0) as mouth:
				for broadcast in interface.broadcasts:
					self._send(mouth, beacon, (broadcast, DISCOVERY_PORT))

	def _ad(self, nonce: str, limit: int) -> bytes:
		return discovery_answer(nonce, {"version": PROTOCOL} | self._describe(), limit)


class BroadcastEar(DiscoveryLoop):
	"""Hears who asks on the LAN, this machine included, without taking questions from a host on it.

	`heard`: where questions and beacons came from; `asking`: questions alone. Only on Linux can a socket be
	bound to the broadcast addresses alone; elsewhere it is on all addresses, unless `shy`.
	"""

	def __init__(self, own: Sequence[Interface], *, shy: bool):
		super().__init__("broadcast-ear", Counters())
		self.asking = set[str]()
		self.heard = set[str]()
		self.deaf = not shy  # nothing could be bound
		where = {LIMITED_BROADCAST, *(each.broadcast for each in own if each.broadcast)}
		if sys.platform != "linux":
			where = set() if shy else {""}
		for address in where:
			with suppress(OSError):
				self.listen(address, DISCOVERY_PORT, self._hear, shared=True)
				self.deaf = False

	def _hear(self, data: bytes, source: Address) -> None:
		self.heard.add(source[0])
		if len(data) >= QUESTION_SIZE:
			self.asking.add(source[0])


class MeetingList:
	"""What was heard of meetings within 6 s; at most 32, 8 an address.

	Those of hosts at `known` addresses always have a place.
	"""

	def __init__(self, known: Collection[str] = ()):
		self._known = known
		self._found: dict[tuple[str, str], tuple[MeetingAd, float]] = {}
		self._others: dict[str, tuple[int, float]] = {}
		self._false: dict[tuple[str, int, str], float] = {}  # until when: address, port, fingerprint

	def note(self, fields: Json, address: str, now: float) -> None:
		"""Take an answer; PeerFault when it is wrong or one too many.

		A host with several addresses keeps the one heard first while that is heard.
		"""
		if fields["version"] != PROTOCOL:
			if address in self._others or len(self._others) < MOST_ADS:
				self._others[address] = (fields["version"], now)
			return
		ad = MeetingAd.of(fields, address)
		if self._false.get((ad.address, ad.port, ad.fingerprint), 0.0) > now:
			raise PeerFault("discovery_false")
		key = (ad.fingerprint, ad.meeting)
		old, at = self._found.get(key, (None, now))
		of_one = sum(other.address == address for other, _ in self._found.values())
		full = len(self._found) >= MOST_ADS and address not in self._known
		if old is None and (full or of_one >= MOST_ADS_OF_ONE):
			raise PeerFault("discovery_too_many")
		if old is None or old.address == ad.address or now - at > AD_EXPIRES / 2:
			self._found[key] = (ad, now)

	def distrust(self, place: Address, fingerprint: str, now: float) -> None:
		"""Another host answered at `place`: believe no answer that names it for this one."""
		self._found = {
			key: heard
			for key, heard in self._found.items()
			if (heard[0].address, heard[0].port, heard[0].fingerprint) != (*place, fingerprint)
		}
		self._false[*place, fingerprint] = now + FALSE_EXPIRES

	def forget(self, now: float) -> None:
		"""Drop what was not heard for 6 s."""
		oldest = now - AD_EXPIRES
		self._false = {place: until for place, until in self._false.items() if until > now}
		self._found = {key: heard for key, heard in self._found.items() if heard[1] >= oldest}
		self._others = {key: other for key, other in self._others.items() if other[1] >= oldest}

	def meetings(self, now: float) -> list[MeetingAd]:
		"""Those of this protocol version, the longest known first."""
		self.forget(now)
		return [ad for ad, _ in self._found.values()]

	def other_versions(self, now: float) -> list[tuple[str, int]]:
		"""Address and version of other hosts."""
		self.forget(now)
		return [(address, version) for address, (version, _) in self._others.items()]


def _is_address(text: str) -> bool:
	with suppress(ValueError):
		return bool(IPv4Address(text))
	return False


def _way_to(own: Sequence[Interface], address: str) -> str:
	target = IPv4Address(address)
	return next((each.address for each in own if target in each.network), "")


def scan_targets(own: Sequence[Interface], known: Sequence[Address], port: int) -> list[tuple[str, str, int]]:
	"""Where to look for a host that no broadcast reaches: (own address, address, port), at most 1,024.

	Known hosts, then the usual places of a gateway, then the subnets in random order, small ones first; of a
	big one the addresses around the own. Never a VPN's or a container's.
	"""
	targets = [(_way_to(own, address), address, own_port) for address, own_port in known]
	gateways, rest = [], []
	for each in sorted(own, key=lambda interface: -interface.prefix):
		if each.kind not in PHYSICAL or each.prefix > 30:
			continue
		block = IPv4Network((each.address, max(each.prefix, 22)), strict=False)
		hosts = [str(host) for host in block.hosts() if str(host) != each.address]
		gateways += [(each.address, str(host), port) for host in (each.network[1], each.network[-2])]
		rest += [(each.address, host, port) for host in random.sample(hosts, len(hosts))]
	own_addresses = {each.address for each in own}
	unique = dict.fromkeys(target for target in targets + gateways + rest if target[1] not in own_addresses)
	return list(unique)[:SCAN_MOST]


class _PortScan:
	"""Tries TCP `targets`, 50 at once; `opened` is told each address where somebody listens."""

	def __init__(
		self, loop: DiscoveryLoop, targets: list[tuple[str, str, int]], opened: Callable[[str], None]
	):
		self._loop, self._targets, self._opened = loop, targets[::-1], opened
		self._trying: dict[Socket, float] = {}

	def step(self, now: float) -> float | None:
		"""Give up what took too long, try more; when to come again at the latest, None at the end."""
		for late in [tried for tried, until in self._trying.items() if until <= now]:
			self._end(late)
		while self._targets and len(self._trying) < SCAN_AT_ONCE:
			self._try(*self._targets.pop(), now)
		return min(self._trying.values(), default=None)

	def _try(self, own: str, address: str, port: int, now: float) -> None:
		with suppress(OSError):  # no way there
			tried = begin_connecting((address, port), own)
			self._trying[tried] = now + SCAN_PATIENCE
			self._loop.watch(tried, EVENT_WRITE, partial(self._result, tried, address))

	def _result(self, tried: Socket, address: str, events: int) -> None:
		if tried.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0:
			self._opened(address)
		self._end(tried)

	def _end(self, tried: Socket) -> None:
		del self._trying[tried]
		self._loop.drop(tried)


class MeetingFinder(DiscoveryLoop):
	"""Looks for meetings on every interface, or with `bind` on that address only; any thread.

	`known` hosts are asked directly, too. After 1.5 s of silence the own subnets are scanned for `base_port`,
	ever more rarely. While not `wanted()` nobody is asked.
	"""

	def __init__(
		self, bind: str | None = None, known: Sequence[Address] = (), base_port: int = DEFAULT_PORT, *,
		counters: Counters | None = None, wanted: Callable[[], bool] = lambda: True,
	):  # fmt: skip
		self._bind = own_address(bind)
		self._wanted = wanted
		super().__init__("meeting-finder", counters or Counters(), self._on_turn)
		self._known = [*dict.fromkeys(place for place in known if _is_address(place[0]))][:MOST_ADS]
		self._base_port = base_port
		self._mouths: dict[str, Socket] = {}
		self._interfaces: list[Interface] = []
		self._nonces = OrderedDict[str | None, bool]()  # of the questions; true: to everybody
		self.reached = set[str]()  # by a broadcast
		self._list = MeetingList({address for address, _ in self._known})
		self._changed = threading.Condition()
		self._settled = False
		self._scan: _PortScan | None = None
		self._begin(monotonic())
		self._hear_beacons()

	def _begin(self, now: float) -> None:
		self._started, self._scan_at, self._ask_at, self._scans = now, now + QUIET, -inf, 0

	def meetings(self) -> list[MeetingAd]:
		"""Those of this protocol version heard within 6 s, the longest known first."""
		with self._changed:
			return self._list.meetings(monotonic())

	def other_versions(self) -> list[tuple[str, int]]:
		"""Address and version of hosts of another version."""
		with self._changed:
			return self._list.other_versions(monotonic())

	def distrust(self, place: Address, fingerprint: str) -> None:
		"""For a minute believe nothing from `place` about that host: another one answered there."""
		with self._changed:
			self._list.distrust(place, fingerprint, monotonic())

	def wait(self, predicate: Callable[[list[MeetingAd]], bool], timeout: float) -> bool:
		"""Wait at most `timeout` seconds until `predicate(meetings())`; whether it is true."""
		with self._changed:
			return self._changed.wait_for(lambda: predicate(self._list.meetings(monotonic())), timeout)

	def wait_settled(self, timeout: float) -> bool:
		"""Wait until the first look is over: 1.5 s, and the scan if all were silent; whether it is."""
		with self._changed:
			return self._changed.wait_for(lambda: self._settled, timeout)

	def _on_turn(self, now: float) -> float:
		if not (self._scan or self._wanted()):
			self._begin(now)
			return now + 0.5
		if now >= self._ask_at:
			rounds = (self._started + after for after in ROUNDS)
			self._ask_at = next((at for at in rounds if at > now), now + ASK_EVERY)
			with self._changed:
				self._list.forget(now)
				self._changed.notify_all()
			self._ask_everywhere()
		scan_at = self._go_on_scanning(now)
		return min(self._ask_at, scan_at)

	def _ask_everywhere(self) -> None:
		self._interfaces = interfaces_for(self._bind)
		self._open_mouths()
		for interface in self._interfaces:
			if interface.address in self._mouths:
				self._ask(interface.address, interface.broadcasts, everybody=True)
		for address, _ in self._known:
			self._ask_directly(address)

	def _open_mouths(self) -> None:
		wanted = {one.address for one in self._interfaces} | ({""} if self._bind is None else set())
		for gone in self._mouths.keys() - wanted:
			self.drop(self._mouths.pop(gone))
		for address in wanted - self._mouths.keys():
			with suppress(OSError):
				self._mouths[address] = self.listen(address, 0, partial(self._take, self._nonces))

	def _ask(self, mouth: str, addresses: Sequence[str], *, everybody: bool = False) -> None:
		nonce = token_bytes(16)
		self._nonces[nonce.hex()] = everybody
		if len(self._nonces) > SCAN_MOST:
			self._nonces.popitem(last=False)
		question = discovery_question(nonce)
		for address in addresses:
			self._send(self._mouths[mouth], question, (address, DISCOVERY_PORT))

	def _ask_directly(self, address: str) -> None:
		mouth = _way_to(self._interfaces, address)
		if mouth in self._mouths:
			self._ask(mouth, [address])

	def _hear_beacons(self) -> None:
		"""Beacons, where a socket can be bound to the broadcast address alone (Linux).

		One on all addresses would take questions from a host on this machine, and raise a firewall's prompt.
		"""
		only = interfaces_for(self._bind)[0] if self._bind else None
		where = only.broadcast if only else LIMITED_BROADCAST
		if sys.platform == "linux" and where:
			with suppress(OSError):
				self.listen(where, DISCOVERY_PORT, partial(self._hear_beacon, only), shared=True)

	def _hear_beacon(self, only: Interface | None, data: bytes, source: Address) -> None:
		if len(data) < QUESTION_SIZE and (only is None or only.near(source[0])):
			self._take([None], data, source)

	def _take(self, asked: Collection[str | None], data: bytes, source: Address) -> None:
		nonce, fields = parse_answer(data)
		if nonce not in asked:
			raise PeerFault("discovery_unasked")
		with self._changed:
			self._list.note(fields, source[0], monotonic())
			if (nonce is None or self._nonces.get(nonce)) and len(self.reached) < SCAN_MOST:
				self.reached.add(source[0])
			self._changed.notify_all()

	def _go_on_scanning(self, now: float) -> float:
		if self._scan is None:
			if now < self._scan_at:
				return self._scan_at
			if self.meetings() or self.other_versions():
				return self._settle(now, 0)
			targets = scan_targets(self._interfaces, self._known, self._base_port)
			reachable = [target for target in targets if target[0] in self._mouths]
			self._scan = _PortScan(self, reachable, self._ask_directly)
		if (due := self._scan.step(now)) is None:
			self._scan = None
			due = self._settle(now, self._scans + 1)
		return due

	def _settle(self, now: float, scans: int) -> float:
		self._scans = scans
		self._scan_at = now + SCAN_AGAIN[min(scans, 3)]
		with self._changed:
			self._settled = True
			self._changed.notify_all()
		return self._scan_at


# -- asking the servers of one meeting

PROBE_PATIENCE = 0.5


def probe_server(server: Json, meeting: str, bind: str | None) -> Json:
	"""What a server answers to `probe`, and whether `udp` reaches it; {} if nothing listens. Waits 0.5 s."""
	until, token, answer = monotonic() + PROBE_PATIENCE, token_bytes(16), Json()
	ports = Ports.at(server["port"])
	with suppress(OSError), socket.socket(type=socket.SOCK_DGRAM) as udp:
		udp.bind((bind or "", 0))
		udp.connect((server["address"], ports.video))
		udp.send(VIDEO_HEADER.pack(0, 0, 0, Kind.PROBE) + token)
		place = server["address"], ports.control
		try:
			with closing(connect_stream(place, bind, PROBE_PATIENCE)) as stream:
				stream.open(until)
				if stream.fingerprint == server["fingerprint"]:
					stream.send(encode_line({"type": "probe", "v": PROTOCOL, "meeting": meeting}))
					answer = parse_message(stream.read_line(MAX_LINE, until), SERVER_MESSAGES)
		except ConnectionRefusedError:
			return {}
		except (OSError, PeerFault):  # it may be reached by UDP all the same
			pass
		udp.settimeout(max(0.01, until - monotonic()))
		answer["udp"] = udp.recv(PROBE_SIZE)[VIDEO_HEADER.size :] == token
	return answer


Probed = list[tuple[Json, Json]]  # each server with its answer


def probe_servers(servers: Sequence[Json], meeting: str, bind: str | None) -> Probed:
	"""Ask all at once. Waits 0.5 s."""
	with ThreadPoolExecutor(4, "probe") as pool:
		answers = pool.map(partial(probe_server, meeting=meeting, bind=bind), servers)
		return list(zip(servers, answers, strict=True))


# ====
# [14] DEVICES - camera, microphone, speaker, screen, codecs
# Uses: BASICS, WIRE, AUDIO
#
# What cannot be had, or is unplugged later, raises DeviceError with one sentence for the user. cv2, pyaudio
# and mss are loaded at the first use.


def _sleep_until(due: float) -> float:
	# sleep: on Windows Event.wait steps by 16 ms, a whole block
	while (left := due - monotonic()) > 0:
		time.sleep(left)
	return -left


# ---- Codecs


def load_codecs() -> None:
	"""Load OpenCV in time: it stops every thread for up to 0.1 s. DeviceError says how to mend it."""
	try:
		# not by the statement: after another thread's failed import it gives a half-made module
		cv2 = importlib.import_module("cv2")
	except ImportError as fault:
		mend = "sudo apt install libgl1 libglib2.0-0" if "lib" in str(fault) else "pip install opencv-python"
		if sys.platform == "win32":
			mend = Words("on Windows N, install the Media Feature Pack")
		raise DeviceError(UNLOADED, what=f"OpenCV ({fault})", mend=mend) from fault
	cv2.setNumThreads(1)  # pictures are small, and its own threads spin while they wait for work
	# else missing cameras are told on standard error
	cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
	log.debug("pictures are coded by OpenCV %s", cv2.__version__)


def encode_jpeg(picture: Picture, quality: int) -> bytes:
	"""A BGR picture as baseline JPEG; `quality` 1..100. Its own Huffman tables save a tenth."""
	how = [cv2.IMWRITE_JPEG_QUALITY, quality, cv2.IMWRITE_JPEG_OPTIMIZE, 1]
	return cv2.imencode(".jpg", picture, how)[1].tobytes()


def encode_webp(picture: Picture, quality: int) -> bytes:
	"""A BGR picture as lossy WebP: three quarters of the bytes of JPEG at that `quality`."""
	return cv2.imencode(".webp", picture, [cv2.IMWRITE_WEBP_QUALITY, quality])[1].tobytes()


def encode_png(picture: Picture) -> bytes:
	"""A BGR picture as PNG."""
	return cv2.imencode(".png", picture)[1].tobytes()


def encode_lossless(picture: Picture) -> bytes:
	"""A BGR picture as WebP without loss, made for speed: OpenCV takes ten times as long for a photograph."""
	coded = io.BytesIO()
	Image.fromarray(np.ascontiguousarray(picture[..., ::-1])).save(coded, "WEBP", lossless=True, method=0)
	return coded.getvalue()


def draw_pointer(picture: Picture, at: tuple[int, int]) -> None:
	"""Draw a mouse pointer into a BGR picture, its tip `at` (x, y)."""
	size = max(1.0, picture.shape[0] / 1080)
	outline = np.array([(0, 0), (0, 17), (4, 13), (7, 20), (10, 19), (7, 12), (12, 12)]) * size + at
	points = outline.round().astype(np.int32)[None]
	cv2.fillPoly(picture, points, (255, 255, 255), cv2.LINE_AA)
	cv2.polylines(picture, points, True, (0, 0, 0), max(1, round(size)), cv2.LINE_AA)


def decode_picture(data: bytes | memoryview) -> Picture:
	"""The BGR picture in `data`; else PeerFault.

	Kind and size were checked before (WIRE): a small file can unpack to gigabytes.
	"""
	try:
		# a turned picture would not have the size that was checked
		mode = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
		picture = cv2.imdecode(np.frombuffer(data, np.uint8), mode)
	except cv2.error as fault:
		raise PeerFault("picture", str(fault)) from fault
	if picture is None:
		raise PeerFault("picture", f"{len(data)} bytes do not decode")
	return cast(Picture, picture)


PATCH_NOISE = 4  # levels, over 8 x 8 pixels


def _blocks(picture: Picture) -> Picture:
	"""The 23 rows of 40 blocks of 16 x 16 pixels of a picture of layer 2."""
	picture = picture[:368, :640]
	room = 0, 368 - picture.shape[0], 0, 640 - picture.shape[1]
	filled = cast(Picture, cv2.copyMakeBorder(picture, *room, cv2.BORDER_REPLICATE))
	return filled.reshape(23, 16, 40, 16, 3).swapaxes(1, 2).reshape(-1, 16, 16, 3)


def _laid(blocks: Picture) -> Picture:
	"""Blocks side by side, 40 in a row."""
	return blocks.reshape(-1, 40, 16, 16, 3).swapaxes(1, 2).reshape(-1, 640, 3)


def encode_patch(picture: Picture, whole: Picture, coded: bytes, quality: int) -> bytes:
	"""The blocks of a BGR picture that differ from `whole`, which is `coded` so; b"" if nearly all do."""
	if whole.shape != picture.shape:
		return b""
	blocks = _blocks(picture)
	changed = cv2.absdiff(_laid(blocks), _laid(_blocks(whole)))
	means = cv2.resize(changed, (80, 46), interpolation=cv2.INTER_AREA)
	mask = means.reshape(23, 2, 40, 6).max((1, 3)).ravel() > PATCH_NOISE
	mask[0] = True  # a picture has at least one
	rows = -(-np.count_nonzero(mask) // 40)
	strip = _laid(np.concatenate((blocks[mask], np.zeros_like(blocks)))[: 40 * rows])
	if strip.size > picture.size:
		return b""
	head = PATCH + hashlib.sha256(coded).digest()[:4] + np.packbits(mask).tobytes()
	return head + encode_jpeg(strip, quality)[2:]


def decode_frame(data: bytes, whole: bytes) -> Picture:
	"""The BGR picture in `data`, which may be a patch of the one in `whole`; else PeerFault."""
	picture = decode_picture(data)
	if not data.startswith(PATCH):
		return picture
	mask = np.unpackbits(np.frombuffer(data, np.uint8, 115, 10)) > 0
	before = decode_picture(whole)
	blocks = _blocks(before)
	blocks[mask] = _blocks(picture)[: np.count_nonzero(mask)]
	return np.ascontiguousarray(_laid(blocks)[: before.shape[0], : before.shape[1]])


def fit_picture(picture: Picture, box: tuple[int, int]) -> Picture:
	"""`picture` scaled until it fills `box` (width, height) in one direction."""
	height, width = picture.shape[:2]
	factor = min(box[0] / width, box[1] / height)
	size = (max(1, round(width * factor)), max(1, round(height * factor)))
	if size == (width, height):
		return picture
	method = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
	return cast(Picture, cv2.resize(picture, size, interpolation=method))


def within_limit(picture: Picture) -> Picture:
	"""`picture`, shrunk if it is larger than a shared screen may be."""
	over = picture.shape[1] > MAX_SCREEN[0] or picture.shape[0] > MAX_SCREEN[1]
	return fit_picture(picture, MAX_SCREEN) if over else picture


def resampled(picture: Picture, size: tuple[int, int]) -> Picture:
	"""`picture` stretched to `size` (width, height), averaged over whole pixels first."""
	high, wide = picture.shape[:2]
	step = min(wide // size[0], high // size[1])
	if step > 1:
		whole = picture[: high // step * step, : wide // step * step]
		picture = cast(Picture, cv2.resize(whole, (wide // step, high // step), interpolation=cv2.INTER_AREA))
	return cast(Picture, cv2.resize(picture, size, interpolation=cv2.INTER_LINEAR))


def qr_picture(text: str) -> Picture:
	"""The QR code of `text`, about 320 pixels square, its white border included."""
	load_codecs()
	code = cv2.QRCodeEncoder.create().encode(text)
	framed = cv2.copyMakeBorder(code, 4, 4, 4, 4, cv2.BORDER_CONSTANT, value=255)
	times = max(1, 320 // framed.shape[0])
	return cast(Picture, cv2.cvtColor(framed.repeat(times, 0).repeat(times, 1), cv2.COLOR_GRAY2BGR))


# ---- Camera

HANDOVER_SECONDS = 2.0  # until the former user of a device lets it go


class Device(ABC):
	"""What is opened by a name."""

	@abstractmethod
	def close(self) -> None:
		"""Release it; twice is harmless. From any thread, but for a screen."""


class Camera(Device):
	"""Pictures in real time."""

	@abstractmethod
	def read(self, timeout: float) -> Picture:
		"""The newest picture (BGR, any size) that was not returned yet.

		DeviceError when none came within `timeout` seconds, and at the end.
		"""

	def prefer(self, size: tuple[int, int], fps: float) -> None:
		"""How large and how often pictures are of use; most cannot adapt. From the thread that reads."""


UNOPENED = "{what} “{label}”: missing, in use or forbidden by the privacy settings."
UNPLUGGED = "“{label}” was unplugged, stopped working or was taken by another program."
MOVED = "moved"  # opened anew


def _open_capture(index: int, fps: float) -> Any:
	# macOS asks by itself
	os.environ.setdefault("OPENCV_AVFOUNDATION_SKIP_AUTH", "1")
	load_codecs()
	# DirectShow opens at once, Media Foundation takes seconds
	backends = (cv2.CAP_DSHOW, cv2.CAP_MSMF) if sys.platform == "win32" else (cv2.CAP_ANY,)
	for backend in backends:
		capture = cv2.VideoCapture(index, backend)
		if capture.isOpened():
			# raw pictures of this size come at 5 to 10 fps over USB 2, MJPG at 30
			mjpg = cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*"MJPG")
			capture.set(*mjpg)
			capture.set(cv2.CAP_PROP_FRAME_WIDTH, LAYERS[-1][0])
			capture.set(cv2.CAP_PROP_FRAME_HEIGHT, LAYERS[-1][1])
			capture.set(cv2.CAP_PROP_FPS, fps)
			if sys.platform == "win32":  # DirectShow forgot it
				capture.set(*mjpg)
			return capture
		capture.release()
	raise DeviceError(UNOPENED, what=Words("Camera"), label=index)


class _DriverThread(ABC):
	"""A thread that alone uses what a driver gave, and releases it at close() or when it fails."""

	def __init__(self, name: str, label: str):
		self._label = label
		self._news = threading.Condition()
		self._reason = ""
		self._thread = threading.Thread(target=self._run, name=name, daemon=True)

	def close(self) -> None:
		self._end("The device was closed.")
		self._thread.join(2.0)  # a driver may hang: the thread is a daemon

	@abstractmethod
	def _run(self) -> None: ...

	def _end(self, reason: str) -> None:
		with self._news:
			self._reason = self._reason or reason
			self._news.notify_all()

	def _wait(self, ready: Callable[[], object], patience: float) -> None:
		if not self._news.wait_for(lambda: self._reason or ready(), patience):
			raise DeviceError("“{label}” does not answer.", label=self._label)
		if self._reason:
			raise DeviceError(self._reason)


class _CaptureCamera(_DriverThread, Camera):
	"""A cv2.VideoCapture, read all the time: nothing old waits in the driver."""

	_PATIENCE = 10  # failed reads in a row

	def __init__(self, capture: Any, label: str, released: Act = lambda: None):
		super().__init__("capture", label)
		self._capture, self._released = capture, released
		self._picture: Picture | None = None
		self._thread.start()

	def read(self, timeout: float) -> Picture:
		with self._news:
			self._wait(lambda: self._picture is not None, timeout)
			picture, self._picture = self._picture, None
			return cast(Picture, picture)

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
		self._released()
		self._end(Words(UNPLUGGED, label=self._label))


class _Captures:
	"""The real cameras that are open here: to open one a second time may stop the first."""

	def __init__(self) -> None:
		self._news = threading.Condition()
		self._open: list[int] = []

	def open(self, index: int, fps: float) -> _CaptureCamera:
		with self._news:
			self._news.wait_for(lambda: index not in self._open, HANDOVER_SECONDS)
			capture = _open_capture(index, fps)
			self._open.append(index)
		return _CaptureCamera(capture, Words("Camera {number}", number=index), partial(self._released, index))

	def _released(self, index: int) -> None:
		with self._news:
			self._open.remove(index)
			self._news.notify_all()

	def has(self, index: int) -> bool:
		with self._news, suppress(DeviceError):
			if index not in self._open:
				_open_capture(index, DEFAULT_FPS).release()
			return True
		return False


_captures = _Captures()


# ---- Sound: what microphone and speaker are


class Microphone(Device):
	"""Sound as it is captured."""

	_kept = b""

	@abstractmethod
	def read(self) -> Samples:
		"""The next 256 samples, int16, mono, 16 kHz, once captured; DeviceError at the end."""

	def _cut(self, piece: Callable[[], Samples]) -> Samples:
		while len(self._kept) < (size := 2 * BLOCK):
			self._kept += piece().tobytes()
		block, self._kept = self._kept[:size], self._kept[size:]
		return np.frombuffer(block, np.int16)


class Speaker(Device):
	"""Sound as it is heard."""

	@abstractmethod
	def write(self, block: Samples) -> None:
		"""Play int16 mono samples at 16 kHz; returns when more are needed. DeviceError at the end."""


# ---- Sound: the sound cards


@contextmanager
def _silent_stderr() -> Iterator[None]:
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


class _SoundStream(NamedTuple):
	stream: Any
	label: str
	rate: int
	channels: int


_SOUND_MENDS = {
	"win32": "pip install pyaudio, with Python 3.13 or older",
	"darwin": "brew install portaudio, then pip install pyaudio",
	"linux": "sudo apt install gcc python3-dev portaudio19-dev, then pip install pyaudio "
	"(or uv run --with pyaudio connectsphere.py)",
}


def _utf8(name: Any) -> str:
	"""A device's name: PyAudio takes PortAudio's UTF-8 for the system's code page."""
	with suppress(UnicodeError):
		return str(name.encode(locale.getpreferredencoding(False)).decode("utf-8"))
	return str(name)


def _sound_devices() -> int:
	"""How many there are now."""
	if sys.platform == "win32":
		system = ctypes.WinDLL("winmm")
		return system.waveInGetNumDevs() + system.waveOutGetNumDevs()
	if sys.platform == "darwin":
		system = ctypes.CDLL("/System/Library/Frameworks/CoreAudio.framework/CoreAudio")
		words = (ctypes.c_uint32 * 4)(0x64657623, 0x676C6F62)  # dev#, glob
		system.AudioObjectGetPropertyDataSize(1, words, 0, None, ctypes.byref(words, 12))
		return words[3]
	return 0  # the sound server moves what is open


class _SoundCards:
	"""PortAudio, started for the first user and ended with the last: it lists devices only then.

	When that is `stale`, all open theirs anew. It may not be entered twice at a time, hence the lock.
	"""

	def __init__(self) -> None:
		self._lock = threading.Condition()
		self._users = 0
		self._audio: Any = None
		self.devices = 0  # when it started
		self._specs: dict[tuple[str, int], str] = {}  # by number at first: they change
		self.stale = False

	@contextmanager
	def using(self) -> Iterator[Any]:
		if not self._lock.acquire(timeout=5.0):  # a dead driver hangs in closing
			raise DeviceError("“{label}” does not answer.", label=Words("Audio"))
		try:
			if not self._lock.wait_for(lambda: not (self.stale and self._users), HANDOVER_SECONDS):
				self.stale = False  # a dead driver keeps it
			self._acquire()
			try:
				yield self._audio
			finally:
				self._release()
		finally:
			self._lock.release()

	def open(self, spec: str, kind: str) -> _SoundStream:
		what = Words("microphone" if kind == "input" else "speaker")
		until = monotonic() + HANDOVER_SECONDS
		with self.using() as audio:
			candidates, again = self._find(audio, spec, kind), True
			while again:
				for info, channels in [(i, n) for i in candidates for n in self._channels(audio, i, kind)]:
					with suppress(OSError, ValueError):
						opened = self._start(audio, info, kind, channels)
						self._users += 1
						return opened
				again = self._users > 1 and self._lock.wait(until - monotonic())  # for who closes another
		if candidates:
			raise DeviceError(UNOPENED, what=what, label=candidates[0]["name"])
		none = "There is no {what} number {number}." if spec.isdecimal() else "This computer has no {what}."
		raise DeviceError(none, what=what, number=spec)

	def close(self, opened: _SoundStream) -> None:
		with self._lock:
			with suppress(OSError):  # it was pulled out
				opened.stream.close()
			self._release()
			self._lock.notify_all()

	def names(self, kind: str) -> list[tuple[str, str]]:
		with self.using() as audio:
			if not (default := self._find(audio, "default", kind)):
				return []
			infos = self._infos(audio, kind)
		own = [info for info in infos if info["hostApi"] == default[0]["hostApi"]]
		named = [(self._spec(info, infos), info["name"]) for info in own]
		return [("default", Words("Default ({name})", name=default[0]["name"])), *named]

	def _infos(self, audio: Any, kind: str) -> list[dict[str, Any]]:
		infos = [audio.get_device_info_by_index(index) for index in range(audio.get_device_count())]
		channels = f"max{kind.title()}Channels"
		return [info | {"name": _utf8(info["name"])} for info in infos if info[channels] > 0]

	def _spec(self, info: dict[str, Any], infos: list[dict[str, Any]]) -> str:
		"""Its name, as the numbers move with each device that comes or goes, and which of that name it is."""
		alike = [i["index"] for i in infos if (i["name"], i["hostApi"]) == (info["name"], info["hostApi"])]
		return f"{alike.index(info['index'])}:{info['name']}"

	def _find(self, audio: Any, spec: str, kind: str) -> list[dict[str, Any]]:
		infos = self._infos(audio, kind)
		if spec.isdecimal():
			self._specs = {(kind, one["index"]): self._spec(one, infos) for one in infos} | self._specs
			if not (spec := self._specs.get((kind, int(spec)), "")):
				return []
		apis = [audio.get_host_api_info_by_index(index) for index in range(audio.get_host_api_count())]
		# on Windows the default interface, MME, cuts names and is 100 ms late: WASAPI first
		infos.sort(key=lambda i: "WASAPI" not in apis[i["hostApi"]]["name"])
		number, _, name = spec.partition(":")
		same = [i for i in infos if i["name"] == name != ""]
		defaults = [api[f"default{kind.title()}Device"] for api in apis]
		at = int(number) if same else 0
		return same[at:] + same[:at] or [i for i in infos if i["index"] in defaults]

	def _channels(self, audio: Any, info: dict[str, Any], kind: str) -> list[int]:
		own = int(info[f"max{kind.title()}Channels"])
		# Windows' shared mode takes the device's own count alone. PyAudio 0.2.14 opens a stereo device for
		# mono all the same, but its blocking calls leave out the conversion: a tone is played twice as fast.
		wasapi = "WASAPI" in audio.get_host_api_info_by_index(info["hostApi"])["name"]
		return [own, 2, 1] if wasapi else [1, 2, own]

	def _start(self, audio: Any, info: dict[str, Any], kind: str, channels: int) -> _SoundStream:
		rate = int(info["defaultSampleRate"])
		stream = audio.open(
			rate=rate,
			channels=channels,
			format=8,  # pyaudio.paInt16
			# drivers hold about three: of 16 ms, playing ran dry on a busy computer
			frames_per_buffer=round(rate * BLOCK_SECONDS * (1 if kind == "input" else 2)),
			**{kind: True, f"{kind}_device_index": info["index"]},
		)
		return _SoundStream(stream, str(info["name"]), rate, channels)

	def _acquire(self) -> None:
		if not self._users:
			try:
				import pyaudio
			except ImportError as fault:
				mend = _SOUND_MENDS.get(sys.platform, "pip install pyaudio")
				raise DeviceError(UNLOADED, what="PyAudio", mend=mend) from fault
			with _silent_stderr():
				self.devices, self.stale = _sound_devices(), False
				self._audio = pyaudio.PyAudio()
		self._users += 1

	def _release(self) -> None:
		self._users -= 1
		if not self._users:
			self._audio.terminate()
			self._audio = None


_sound_cards = _SoundCards()


class _SoundCardEnd(_DriverThread):
	"""What a real microphone and a real speaker share.

	The thread never pauses: after 50 ms alone a stream can stall, and if it dies then, the next call hangs.
	"""

	_PATIENCE = 5.0  # seconds; some need two to start

	def __init__(self, opened: _SoundStream):
		super().__init__(f"sound-{opened.label}", opened.label)
		self._opened = opened
		self._pieces = deque[Samples](maxlen=12)  # a fifth of a second, then the oldest go

	@abstractmethod
	def _turn(self) -> None: ...

	def _run(self) -> None:
		try:
			while not self._reason and not _sound_cards.stale:
				self._turn()
			self._end(MOVED)
		except OSError as fault:
			log.info("%s: %s", self._label, fault)
			_sound_cards.stale = True
			self._end(Words(UNPLUGGED, label=self._label))
		_sound_cards.close(self._opened)


class _SoundCardMicrophone(_SoundCardEnd, Microphone):
	def __init__(self, opened: _SoundStream):
		super().__init__(opened)
		self._resampler = Resampler(opened.rate, AUDIO_RATE)
		self._thread.start()

	def read(self) -> Samples:
		return self._cut(self._next_piece)

	def _next_piece(self) -> Samples:
		with self._news:
			self._wait(lambda: self._pieces, self._PATIENCE)
			return self._pieces.popleft()

	def _turn(self) -> None:
		rate, channels = self._opened.rate, self._opened.channels
		data = self._opened.stream.read(round(rate * BLOCK_SECONDS), exception_on_overflow=False)
		samples = np.frombuffer(data, np.int16)
		if channels > 1:
			samples = samples.reshape(-1, channels).mean(axis=1).astype(np.int16)
		with self._news:
			self._pieces.append(self._resampler.push(samples))
			self._news.notify_all()


class _SoundCardSpeaker(_SoundCardEnd, Speaker):
	"""What is not written in time is silence."""

	def __init__(self, opened: _SoundStream):
		super().__init__(opened)
		self._resampler = Resampler(AUDIO_RATE, opened.rate)
		self._heard = False
		self._has_room = False
		self._thread.start()

	def write(self, block: Samples) -> None:
		with self._news:
			self._wait(lambda: self._has_room, self._PATIENCE)
			self._has_room = False
			self._pieces.append(block)
			self._news.notify_all()
			self._wait(lambda: self._has_room, self._PATIENCE)

	def _turn(self) -> None:
		with self._news:
			self._has_room = not self._pieces
			self._news.notify_all()
			# a late writer is waited for once; in silence the device alone sets the pace, or it would run dry
			self._news.wait_for(lambda: bool(self._pieces), 1.5 * BLOCK_SECONDS if self._heard else 0.0)
			self._heard = bool(self._pieces)
			samples = self._pieces.popleft() if self._heard else np.zeros(BLOCK, np.int16)
		samples = self._resampler.push(samples)
		self._opened.stream.write(samples.repeat(self._opened.channels).tobytes())


# ---- Sound: echo, noise and loudness


class VoiceProcessor:
	"""Takes echo and noise out of a microphone's sound, and makes all voices as loud: pywebrtc-audio.

	Each block that is played is paired with a captured one. An echo before its reference is never found:
	of played blocks that wait for long, as when captured sound was lost, all but one are dropped. Without the
	package, blocks pass unchanged.
	"""

	_FRAME = 160  # samples: what the package takes
	_AHEAD = 128  # samples in front, so that blocks never run dry
	_PATIENCE = 16  # blocks
	_VOICE_SHARE = 0.1  # of the power is left at least; of an echo or of noise it is less
	_HOLD = 30  # frames that a voice is taken to last

	def __init__(self) -> None:
		self._played = deque[Samples](maxlen=64)
		self._waited = deque[int](maxlen=self._PATIENCE)  # how many did, at the last blocks
		self._changed = True
		self._canceller: Any = None
		self._gain: Any = None
		self._captured = deque([0.0], 3)  # powers; the canceller is a frame and a half late
		self._before = self._after = 0.0  # powers
		self._hold = self._others = 0  # frames that this voice, or what the speaker plays, goes on
		self.probability = 1.0  # that the last block was speech
		self.echo = 0.0  # the share of others' speech that is heard again

	def play(self, block: Samples) -> None:
		"""`block` is given to the speaker now. From the playing thread."""
		self._played.append(block)

	def change(self) -> None:
		"""Another device is used from now on: forget what was learnt. Any thread."""
		self._changed = True

	def begin(self) -> bool:
		"""The microphone starts; whether blocks can be cleaned. From one thread, with `process`."""
		self._played.clear()
		self._waited.clear()
		self._near = self._far = silence()[:0]
		self._clean = silence()[: self._AHEAD]
		if self._changed:
			self._changed = False
			self._try(self._make)
		return self._canceller is not None

	def process(self, block: Samples) -> Samples:
		"""The next 256 samples captured, for those of 22 ms ago, cleaned."""
		if self._changed:
			self.begin()
		if self._canceller:
			self._try(partial(self._add, block))
		if not self._canceller:
			return block
		block, self._clean = self._clean[:BLOCK], self._clean[BLOCK:]
		return block

	def _try(self, work: Act) -> None:
		try:
			work()
		except Exception as fault:  # noqa: BLE001 - whatever is wrong with the package, one is heard
			log.warning("echo and noise stay in the sound: %s", str(fault))
			self._canceller, self.probability = None, 1.0

	def _make(self) -> None:
		from pywebrtc_audio import AudioProcessor, GainController

		self._gain = GainController(sample_rate=AUDIO_RATE, max_gain_db=21.0, headroom_db=12.0)
		self._canceller = AudioProcessor(
			sample_rate=AUDIO_RATE, echo_cancellation=True, noise_suppression=True, ns_level=1
		)
		self._process(silence()[: self._FRAME], silence()[: self._FRAME])

	def _add(self, block: Samples) -> None:
		near, far = np.concatenate((self._near, block)), np.concatenate((self._far, self._reference()))
		whole = len(near) // self._FRAME * self._FRAME
		self._near, self._far = near[whole:], far[whole:]
		self.probability = 0.0
		for at in range(0, whole, self._FRAME):
			clean = self._process(near[at : at + self._FRAME], far[at : at + self._FRAME])
			self._clean = np.concatenate((self._clean, clean))

	def _reference(self) -> Samples:
		self._waited.append(len(self._played))
		if len(self._waited) == self._PATIENCE and (spare := min(self._waited) - 1) > 0:
			for _ in range(spare):
				self._played.popleft()
			self._waited.clear()
		return self._played.popleft() if self._played else silence()

	def _process(self, near: Samples, far: Samples) -> Samples:
		voice: Samples = self._canceller.process(near, far)
		likely = self._canceller.speech_probability
		self._captured.append(_power(near))
		self._before += 0.3 * (max(self._captured) - self._before)
		self._after += 0.3 * (_power(voice) - self._after)
		own = self._after > self._VOICE_SHARE * self._before and likely > VoiceActivityDetector.LIKELY
		self._hold = self._HOLD if own else max(0, self._hold - 1)
		if self._others:  # over 10 s
			self.echo += 0.001 * (float(self._hold > 0 or self._after > 1e-5) - self.echo)
		self._others = self._HOLD if level_db(far) > VOICE_DB else max(0, self._others - 1)
		# judged while others are silent: what is left of both is softer
		louder: Samples = self._gain.process(voice, None if self._hold and not self._others else 0.0)
		if not self._hold:  # what is left of an echo sounds like speech, too
			return voice // 2 if self._others else voice
		self.probability = max(self.probability, likely)
		return louder


# ---- Screen: whose window is where


class _Rectangle(NamedTuple):
	"""A part of the desktop in pixels, on macOS points."""

	left: int
	top: int
	width: int
	height: int

	@classmethod
	def between(cls, left: int, top: int, right: int, bottom: int) -> _Rectangle:
		return cls(left, top, right - left, bottom - top)

	def within(self, other: _Rectangle) -> _Rectangle:
		left, top = max(self.left, other.left), max(self.top, other.top)
		right = min(self.left + self.width, other.left + other.width)
		return self.between(left, top, right, min(self.top + self.height, other.top + other.height))

	@property
	def empty(self) -> bool:
		return min(self.width, self.height) <= 0


def _nearest(areas: Iterable[_Rectangle], x: int, y: int) -> _Rectangle | None:
	here = _Rectangle(x, y, 1, 1)
	return max(areas, key=lambda area: min(here.within(area)[2:]), default=None)


class _WindowSystem:
	"""Asks the desktop for windows (numbers) and the mouse; this one knows of nothing."""

	def windows(self) -> Iterator[int]:
		"""Those of other programs that can be shared, the one in front first."""
		return iter(())  # macOS names them to who may record the screen

	def front(self) -> int:
		for window in self.windows():
			return window
		raise DeviceError("No other window is open.")

	def title(self, window: int) -> str:
		return ""

	def bring(self, window: int) -> None:
		"""Lay it over all others."""

	def flash(self, root: Any) -> None:
		"""Let the window of Tk's `root` ask for attention."""
		root.attributes("-notify", True)  # as macOS has it

	def rectangle(self, window: int) -> _Rectangle | None:
		return None

	def _above(self, window: int) -> Iterable[int]:
		"""The windows of other programs over `window`, but for menus and the like."""
		return ()

	def covered(self, window: int, area: _Rectangle) -> bool:
		"""Whether another program's window lies over a part of it in `area`."""
		for above in self._above(window):
			with suppress(DeviceError):  # it was closed meanwhile
				if (place := self.rectangle(above)) and not place.within(area).empty:
					return True
		return False

	def pointer(self) -> tuple[int, int] | None:
		return None

	def own(self) -> list[tuple[_Rectangle, bool]]:
		"""This program's windows in sight (True) and those over them (False), from the lowest up.

		None where the system keeps ours out of pictures, or cannot tell.
		"""
		return []

	def work_area(self, x: int, y: int) -> _Rectangle | None:
		"""What windows may fill of the screen nearest to a place."""
		with closing(_Grabber()) as grabber:
			return _nearest(grabber.screens(), x, y)

	def close(self) -> None:
		"""Twice is harmless."""


class _WindowsDesktop(_WindowSystem):
	# GW_HWNDNEXT, GW_HWNDPREV, DWMWA_EXTENDED_FRAME_BOUNDS, DWMWA_CLOAKED
	_NEXT, _BEFORE, _BOUNDS, _CLOAKED = 2, 3, 9, 14

	def __init__(self) -> None:
		# both calling conventions are the same on 64-bit Windows
		self._user, self._dwm = ctypes.CDLL("user32"), ctypes.CDLL("dwmapi")

	def windows(self) -> Iterator[int]:
		front, window = self._user.GetForegroundWindow(), self._user.GetTopWindow(None)
		if front and self._suits(front):
			yield front
		for _ in range(10_000):  # while it is walked, the order may change
			if not window:
				break
			if window != front and self._suits(window):
				yield window
			window = self._user.GetWindow(window, self._NEXT)

	def title(self, window: int) -> str:
		words = ctypes.create_unicode_buffer(256)
		self._user.GetWindowTextW(window, words, 256)
		return words.value

	def bring(self, window: int) -> None:
		self._user.SetForegroundWindow(window)

	def flash(self, root: Any) -> None:
		self._user.FlashWindow(self._user.GetParent(root.winfo_id()), True)

	def rectangle(self, window: int) -> _Rectangle | None:
		if not self._user.IsWindow(window):
			raise DeviceError("The shared screen got lost.")
		if self._user.IsIconic(window) or not self._user.IsWindowVisible(window):
			return None
		sides = (ctypes.c_long * 4)()
		if self._dwm.DwmGetWindowAttribute(window, self._BOUNDS, sides, 16):
			self._user.GetWindowRect(window, sides)
		return _Rectangle.between(*sides)

	def _above(self, window: int) -> Iterable[int]:
		above, owner = window, self._owner(window)
		while above := self._user.GetWindow(above, self._BEFORE):
			if self._suits(above) and self._owner(above) != owner:
				yield above

	def _owner(self, window: int) -> int:
		owner = ctypes.c_ulong()
		self._user.GetWindowThreadProcessId(window, ctypes.byref(owner))
		return owner.value

	def pointer(self) -> tuple[int, int] | None:
		at = (ctypes.c_long * 2)()
		return (at[0], at[1]) if self._user.GetCursorPos(at) else None

	def work_area(self, x: int, y: int) -> _Rectangle | None:
		info, nearest = (ctypes.c_int32 * 10)(40), 2  # MONITORINFO: size, monitor, work area, flags
		screen = self._user.MonitorFromPoint(ctypes.c_longlong(y << 32 | x & 0xFFFFFFFF), nearest)
		if not self._user.GetMonitorInfoW(ctypes.c_void_p(screen), info):
			return None
		return _Rectangle.between(*info[5:9])

	def _suits(self, window: int) -> bool:
		cloaked = ctypes.c_ulong()
		# sleeping apps and windows on other desktops are "visible", but cloaked
		self._dwm.DwmGetWindowAttribute(window, self._CLOAKED, ctypes.byref(cloaked), 4)
		return bool(
			self._owner(window) != os.getpid()
			and not cloaked.value
			and not self._user.GetWindowLongW(window, -20) & 0x080000A0  # overlays
			and self._user.IsWindowVisible(window)
			and not self._user.IsIconic(window)
			and self._user.GetWindowTextLengthW(window)
			and window != self._user.GetShellWindow()
		)


class _XCookie(ctypes.Structure):
	"""What xcb returns for a request."""

	_fields_ = (("sequence", ctypes.c_uint),)


class _XDesktop(_WindowSystem):
	"""X11 through libxcb: Xlib has an error handler, which would be shared with Tk."""

	_VIEWABLE = 2

	def __init__(self) -> None:
		try:
			self._xcb, libc = ctypes.CDLL("libxcb.so.1"), ctypes.CDLL(None)
		except OSError as fault:
			raise DeviceError(UNLOADED, what="libxcb", mend="sudo apt install libxcb1") from fault
		self._free = libc.free
		self._xcb.xcb_connect.restype = ctypes.c_void_p
		self._connection = ctypes.c_void_p(self._xcb.xcb_connect(None, None))
		if self._xcb.xcb_connection_has_error(self._connection):
			self.close()
			raise DeviceError("There is no screen here that can be shared.")
		self._atoms: dict[str, int] = {}
		self._known: tuple[tuple[int, ...], set[int]] = ((), set())
		self._root, self._low = self._read_setup()

	def windows(self) -> Iterator[int]:
		if stacking := self._words(self._root, "_NET_CLIENT_LIST_STACKING"):
			windows = [*self._words(self._root, "_NET_ACTIVE_WINDOW"), *reversed(stacking)]
		else:  # no window manager
			focus = self._outermost(self._word(self._ask("get_input_focus"), 8))
			windows = [focus, *reversed(self._top())]
		ours = self._ours(tuple(windows))
		for window in dict.fromkeys(windows):
			if window not in ours and self._suits(window):
				yield window

	def title(self, window: int) -> str:
		return self._text(window, "_NET_WM_NAME", 256) or self._text(window, "WM_NAME", 256)

	def dpi(self) -> float:
		"""What the desktop sets for its toolkits."""
		resources = self._text(self._root, "RESOURCE_MANAGER", 1 << 16)
		told = re.search(r"^Xft[.*]dpi:\s*([\d.]+)", resources, re.M)
		return float(told[1]) if told else 96.0

	def bring(self, window: int) -> None:
		self._tell_manager(window, "_NET_ACTIVE_WINDOW", 2)

	def _tell_manager(self, window: int, what: str, first: int, second: int = 0) -> None:
		# as a pager does, to SubstructureNotify and SubstructureRedirect
		event = struct.pack("=BBH7I", 33, 32, 0, window, self._atom(what), first, second, 0, 0, 0)
		self._xcb.xcb_send_event(self._connection, 0, self._root, 0x180000, event)
		self._ask("get_input_focus")  # what is not read may be lost if this is closed

	def flash(self, root: Any) -> None:
		window = self._word(self._ask("query_tree", root.winfo_id()), 12)
		self._tell_manager(window, "_NET_WM_STATE", 1, self._atom("_NET_WM_STATE_DEMANDS_ATTENTION"))

	def rectangle(self, window: int) -> _Rectangle | None:
		if not (about := self._ask("get_window_attributes", window)):
			raise DeviceError("The shared screen got lost.")
		frame = self._outermost(window)
		size = self._ask("get_geometry", frame)
		place = self._ask("translate_coordinates", frame, self._root, 0, 0)
		if about[26] != self._VIEWABLE or not size or not place:
			return None
		left, top = struct.unpack_from("=hh", place, 12)
		width, height = struct.unpack_from("=HH", size, 16)
		west, east, north, south = self._words(window, "_GTK_FRAME_EXTENTS") or (0, 0, 0, 0)  # its shadow
		return _Rectangle(left + west, top + north, width - west - east, height - north - south)

	def _above(self, window: int) -> Iterable[int]:
		managed, top, ours = self._stack()
		stack = managed or top
		for one in stack[stack.index(window) + 1 :] if window in stack else ():
			same = (one ^ window) <= self._low or one in ours  # its own dialog; ours are painted over
			if not same and self._suits(one) and not self._away(one):
				yield one

	def pointer(self) -> tuple[int, int] | None:
		reply = self._ask("query_pointer", self._root)
		return struct.unpack_from("=hh", reply, 16) if reply and reply[1] else None

	def own(self) -> list[tuple[_Rectangle, bool]]:
		managed, top, ours = self._stack()
		found: list[tuple[_Rectangle, bool]] = []
		for window in managed + top if ours else ():
			mine = window in ours
			if mine or (found and window in (managed or top) and self._suits(window) and self._solid(window)):
				with suppress(DeviceError):  # it is gone
					place = None if self._away(window) else self.rectangle(window)
					found += [(place, mine)] if place else []
		return found

	def work_area(self, x: int, y: int) -> _Rectangle | None:
		area = self._words(self._root, "_NET_WORKAREA")
		desk = [_Rectangle(*area[:4])] if area else []
		screen = _nearest(self._screens() or desk, x, y)
		return screen.within(desk[0]) if screen and desk else screen

	def close(self) -> None:
		if self._connection:
			self._xcb.xcb_disconnect(self._connection)
			self._connection = ctypes.c_void_p()

	def _screens(self) -> list[_Rectangle]:
		found, at = list[_Rectangle](), 32
		with suppress(OSError):  # mss takes 60 ms to load
			reply = self._ask("randr_get_monitors", self._root, 1, by=ctypes.CDLL("libxcb-randr.so.0"))
			for _ in range(self._word(reply, 12)):
				outputs, *box = struct.unpack_from("=HhhHH", reply, at + 6)
				found.append(_Rectangle(*box))
				at += 24 + 4 * outputs
		return found

	def _read_setup(self) -> tuple[int, int]:
		self._xcb.xcb_get_setup.restype = ctypes.c_void_p
		setup = self._xcb.xcb_get_setup(self._connection)
		head = ctypes.string_at(setup, 40)
		vendor, formats = struct.unpack_from("=H", head, 24)[0], head[29]
		root = ctypes.string_at(setup + 40 + (vendor + 3) // 4 * 4 + 8 * formats, 40)
		if root[38] not in (24, 32):  # of 30 bits mss makes wrong colours, of others none
			self.close()
			raise DeviceError(
				"A screen of {depth}-bit colours cannot be shared, only one of 24.", depth=root[38]
			)
		return self._word(root, 0), self._word(head, 16)

	def _stack(self) -> tuple[tuple[int, ...], tuple[int, ...], set[int]]:
		managed, top = self._words(self._root, "_NET_CLIENT_LIST_STACKING"), self._top()
		return managed, top, self._ours(managed + top)  # at the top: menus, and without a manager all

	def _ours(self, windows: tuple[int, ...]) -> set[int]:
		if windows != self._known[0]:
			# a program's windows share the upper bits; Tk tells our process only after `wm client`
			ours = {w & ~self._low for w in windows if os.getpid() in self._words(w, "_NET_WM_PID")}
			self._known = (windows, {w for w in windows if w & ~self._low in ours})
		return self._known[1]

	def _away(self, window: int) -> bool:
		desk, here = self._words(window, "_NET_WM_DESKTOP"), self._words(self._root, "_NET_CURRENT_DESKTOP")
		elsewhere = bool(desk and here and desk[0] not in (*here, 0xFFFFFFFF))
		return elsewhere or self._atom("_NET_WM_STATE_HIDDEN") in self._words(window, "_NET_WM_STATE")

	def _solid(self, window: int) -> bool:
		size = self._ask("get_geometry", window)
		clear = size[1:2] == b" " and not self._words(window, "_NET_WM_OPAQUE_REGION")  # 32 bits: with alpha
		return not (clear or self._words(window, "_NET_WM_WINDOW_OPACITY"))

	def _suits(self, window: int) -> bool:
		about = self._ask("get_window_attributes", window)
		if not about or about[26] != self._VIEWABLE or about[27]:  # the last: a menu or a hint
			return False
		kinds = self._words(window, "_NET_WM_WINDOW_TYPE")
		apart = {self._atom(f"_NET_WM_WINDOW_TYPE_{kind}") for kind in ("DESKTOP", "DOCK")}
		return not apart.intersection(kinds)

	def _outermost(self, window: int) -> int:
		while tree := self._ask("query_tree", window):
			parent = self._word(tree, 12)
			if parent in (0, self._root):
				break
			window = parent
		return window

	def _top(self) -> tuple[int, ...]:
		tree = self._ask("query_tree", self._root)
		return struct.unpack_from(f"={struct.unpack_from('=H', tree, 16)[0]}I", tree, 32) if tree else ()

	def _text(self, window: int, name: str, longest: int) -> str:
		reply = self._ask("get_property", 0, window, self._atom(name), 0, 0, longest)
		return reply[32 : 32 + self._word(reply, 16)].decode("utf-8", "replace")

	def _words(self, window: int, name: str) -> tuple[int, ...]:
		reply = self._ask("get_property", 0, window, self._atom(name), 0, 0, 4_096)
		count = self._word(reply, 16) if reply and reply[1] == 32 else 0
		return struct.unpack_from(f"={count}I", reply, 32) if count else ()

	def _atom(self, name: str) -> int:
		if name not in self._atoms:
			self._atoms[name] = self._word(self._ask("intern_atom", 0, len(name), name.encode()), 8)
		return self._atoms[name]

	def _word(self, reply: bytes, at: int) -> int:
		return int(struct.unpack_from("=I", reply, at)[0]) if reply else 0

	def _ask(self, request: str, *arguments: int | bytes, by: ctypes.CDLL | None = None) -> bytes:
		if not self._connection:
			return b""
		send = getattr(by or self._xcb, f"xcb_{request}")
		send.restype = _XCookie
		receive = getattr(by or self._xcb, f"xcb_{request}_reply")
		receive.restype = ctypes.c_void_p
		reply = ctypes.c_void_p(receive(self._connection, send(self._connection, *arguments), None))
		if not reply:
			return b""
		length = struct.unpack("=I", ctypes.string_at(reply, 8)[4:])[0]
		data = ctypes.string_at(reply, 32 + 4 * length)
		self._free(reply)
		return data


def _open_window_system() -> _WindowSystem:
	if sys.platform == "win32":
		return _WindowsDesktop()
	return _WindowSystem() if sys.platform == "darwin" else _XDesktop()


# ---- Screen: what is shared


class ScreenSource(Device):
	"""What is shared: a screen, a window, a file or the test card. For one thread alone."""

	@abstractmethod
	def grab(self) -> Picture:
		"""The picture of now, without the mouse pointer: BGR, of any size. DeviceError at the end."""

	def pointer(self) -> tuple[int, int] | None:
		"""Where the mouse is in the picture grabbed last; None if outside or unknown."""
		return None


@contextmanager
def _seeing() -> Iterator[Any]:
	try:
		import mss
	except ImportError as fault:
		raise DeviceError(UNLOADED, what="mss", mend="pip install mss") from fault
	try:
		yield mss
	except (OSError, AssertionError, mss.exception.ScreenShotError) as fault:  # or the X server is gone
		log.info("screen: %s", fault)
		raise DeviceError("There is no screen here that can be shared.") from fault


class _Grabber:
	"""mss, opened anew every 2 s: it looks at the arrangement of the screens at its start only."""

	_FRESH = 2.0
	_by_xlib = False

	def __init__(self) -> None:
		self._mss: Any = None
		self._raw = bytearray()
		self._picture = np.zeros((0, 0, 3), np.uint8)
		self.reopen()

	def reopen(self) -> None:
		before, self._mss = self._mss, None
		try:
			with _seeing() as mss:
				if sys.platform == "win32":  # else the pointer flickers
					importlib.import_module("mss.windows.gdi").CAPTUREBLT = 0
				self._mss = self._open(mss)
				self._areas = [_Rectangle(*(m[k] for k in _Rectangle._fields)) for m in self._mss.monitors]
		finally:  # after the new one is open: without clients a bare X server starts anew
			self._shut(before)
		self._opened = monotonic()

	def _open(self, mss: Any) -> Any:
		try:
			if not _Grabber._by_xlib:
				return mss.MSS()
		except (OSError, mss.exception.ScreenShotError):
			if sys.platform != "linux":
				raise
		opened = mss.MSS(backend="xlib")
		_Grabber._by_xlib = True  # each try otherwise leaves a connection open
		return opened

	def screens(self) -> list[_Rectangle]:
		self._refresh()
		return self._areas[1:] or self._areas

	def desktop(self) -> _Rectangle:
		self._refresh()
		return self._areas[0]

	def grab(self, area: _Rectangle) -> Picture:
		try:
			with _seeing():
				shot = self._mss.grab(area._asdict())
		except DeviceError:
			if sys.platform != "win32" or self._picture.shape[:2] != area[3:1:-1]:
				raise
			return self._picture  # while Windows asks for leave or is locked
		same_size = self._picture.shape[:2] == (shot.height, shot.width)
		if not same_size or shot.raw != self._raw:
			pixels = np.frombuffer(shot.raw, np.uint8).reshape(shot.height, shot.width, 4)
			self._raw, self._picture = shot.raw, cast(Picture, cv2.cvtColor(pixels, cv2.COLOR_BGRA2BGR))
		return self._picture

	def close(self) -> None:
		before, self._mss = self._mss, None
		self._shut(before)

	def _shut(self, before: Any) -> None:
		if before is not None:
			with suppress(DeviceError), _seeing():
				before.close()

	def _refresh(self) -> None:
		if monotonic() - self._opened > self._FRESH:
			self.reopen()


def _be_allowed() -> None:
	if sys.platform == "darwin":
		system = ctypes.CDLL("/System/Library/Frameworks/CoreGraphics.framework/CoreGraphics")
		if not (system.CGPreflightScreenCaptureAccess() & 1 or system.CGRequestScreenCaptureAccess() & 1):
			raise DeviceError("Let ConnectSphere record the screen in macOS Settings.")  # else: wallpaper


class _DesktopScreen(ScreenSource):
	"""Screen number `screen`, or for None a window, which comes to the front, or the one there, as it moves.

	Of a window it shows its place on the desktop; while it is minimised, outside, or another program's window
	lies over it, the last picture stays. Own windows are painted grey; while they move the last picture
	stays: what they covered is not drawn yet.
	"""

	def __init__(self, screen: int | None, window: int = 0):
		_be_allowed()
		self._screen = screen
		self._picture: Picture | None = None
		self._seen: Picture | None = None  # before ours were painted over
		self._cover = np.zeros((1, 1), np.bool_)
		self._area = _Rectangle(0, 0, 0, 0)
		with ExitStack() as undo:
			self._windows = _open_window_system()
			undo.callback(self._windows.close)
			self._grabber = _Grabber()
			undo.callback(self._grabber.close)
			self._window = window or (0 if screen is not None else self._windows.front())
			if window:
				self._windows.bring(window)
			until = monotonic() + 2.0 * bool(window)
			while monotonic() < until and not self._find_area():
				time.sleep(0.05)
			first = self.grab()
			# XWayland shows other programs nothing but black
			if os.environ.get("XDG_SESSION_TYPE") == "wayland" and not first.any():
				raise DeviceError("Wayland hides the screen from programs; sign in with Xorg to share it.")
			undo.pop_all()

	def grab(self) -> Picture:
		try:
			return self._grab()
		except DeviceError:  # the screens were rearranged
			self._grabber.reopen()
			return self._grab()

	def pointer(self) -> tuple[int, int] | None:
		if (at := self._windows.pointer()) is None or self._picture is None:
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
		while area is not None:
			seen, before = self._grabber.grab(area), self._cover
			self._cover = self._covered(seen, area)
			if np.array_equal(before, self._cover) and (not self._window or self._find_area() == area):
				if seen is not self._seen:
					grey = np.where(before[..., None], np.uint8(128), seen) if before.any() else seen
					self._picture = within_limit(grey)
				self._seen, self._area = seen, area
			if self._picture is not None:
				return self._picture
			time.sleep(0.05)
			area = self._find_area()
		if self._picture is None:
			raise DeviceError("No other window is open.")
		return self._picture

	def _covered(self, seen: Picture, area: _Rectangle) -> NDArray[np.bool_]:
		own = self._windows.own()
		cover = np.zeros(seen.shape[:2] if own else (1, 1), np.bool_)
		for place, mine in own:
			x, y = place.left - area.left, place.top - area.top
			cover[max(0, y) : max(0, y + place.height), max(0, x) : max(0, x + place.width)] = mine
		return cover

	def _find_area(self) -> _Rectangle | None:
		if self._screen is not None:
			screens = self._grabber.screens()
			if self._screen >= len(screens):
				raise DeviceError("There is no screen {number} here.", number=self._screen + 1)
			return screens[self._screen]
		place = self._windows.rectangle(self._window)
		area = place and place.within(self._grabber.desktop())
		return None if not area or area.empty or self._windows.covered(self._window, area) else area


def window_dpi(root: Any) -> float:
	"""Dots an inch where that window of Tk is; Tk says the first screen's, on X 96."""
	if sys.platform == "win32":
		with suppress(AttributeError):  # before Windows 10
			return float(ctypes.windll.user32.GetDpiForWindow(root.winfo_id()))
	if sys.platform == "linux":
		with suppress(DeviceError), closing(_XDesktop()) as desktop:
			return desktop.dpi()
	return float(root.winfo_fpixels("1i"))


def work_area(x: int, y: int) -> tuple[int, int, int, int] | None:
	"""Left, top, width and height of what windows may fill of the screen nearest to a place."""
	with suppress(DeviceError), closing(_open_window_system()) as system:
		return system.work_area(x, y)
	return None


# ====
# [15] STAND-INS - test card, films, files, tones and voices that stand in for devices; opening by name
# Uses: BASICS, AUDIO, VIDEO, DEVICES
#
# Every device is opened by a function that takes its name as in COMMAND LINE: a real device, a file or a
# pattern. Stand-ins run in real time, too.

# ---- Test card

Colour = tuple[int, int, int]  # blue, green, red


def _colour(hue: float, saturation: float, value: float) -> Colour:
	red, green, blue = colorsys.hsv_to_rgb(hue % 1.0, saturation, value)
	return round(255 * blue), round(255 * green), round(255 * red)


def _oval(picture: Picture, middle: tuple[float, float], radii: tuple[float, float], colour: Colour) -> None:
	height, width = picture.shape[:2]
	place = round(width / 2 + middle[0] * height), round(middle[1] * height)
	axes = round(radii[0] * height), round(radii[1] * height)
	cv2.ellipse(picture, place, axes, 0, 0, 360, colour, -1, cv2.LINE_AA)


class TestCard:
	"""A moving picture that stands in for a camera: a face, the name, a clock.

	For a screen it is a page with a moving cloud instead.
	"""

	TURN = 4.0  # seconds after which the movement repeats
	PHASES = 16
	SKINS = ((189, 213, 243), (140, 180, 226), (104, 150, 205), (72, 107, 158), (56, 80, 122))
	HAIRS = ((28, 24, 30), (38, 44, 78), (60, 110, 190), (24, 32, 58), (70, 80, 100), (20, 60, 120))
	INK = (40, 34, 36)

	def __init__(self, name: str, size: tuple[int, int], screen: bool = False):
		self.size = size
		dice = random.Random(name)
		hue = dice.random()
		self._skin, self._hair = dice.choice(self.SKINS), dice.choice(self.HAIRS)
		self._shirt = _colour(dice.random(), 0.55, 0.62)
		self._band = _colour(hue, 0.45, 0.33), _colour(hue, 0.16, 0.82)  # the clock as a pattern of a desk
		wall = (252, 246, 238) if screen else _colour(hue, 0.33, 0.6)
		self._room = np.full((size[1], size[0], 3), wall, np.uint8)
		self._room[size[1] * 4 // 5 :] = self._band[0]
		if screen:
			for words, x, y, tall in (("The water cycle", 0.09, 0.22, 0.075), ("Cloud", 0.6, 0.54, 0.04)):
				self._write(self._room, words, x, y, tall)
		# cv2 draws ASCII only
		plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().strip()
		self._name = plain[:24] or "?"
		self._left = 0.09 if screen else 0.25  # a tile of 4:3 cuts off less
		self._move = self._draw_cloud if screen else self._draw_person
		self._where = slice(size[1] // 6, size[1] * 4 // 5), slice(size[0] // 6, size[0] - size[0] // 6)
		self._phases: dict[int, Picture] = {}

	def draw(self, now_unix: float) -> Picture:
		"""The card at `now_unix` (unix seconds): BGR, uint8, (height, width, 3), a new array."""
		picture = self._room.copy()
		phase = int(now_unix % self.TURN / self.TURN * self.PHASES)
		if phase not in self._phases:  # drawn once
			moved = self._room.copy()
			self._move(moved, phase / self.PHASES)
			self._phases[phase] = moved[self._where].copy()
		picture[self._where] = self._phases[phase]
		clock = time.strftime("%H:%M:%S", time.gmtime(now_unix)) + f".{int(now_unix * 10) % 10} UTC"
		self._write(picture, f"{self._name}  {clock}", self._left, 0.11, 0.044)
		stamp_clock(picture, now_unix, *self._band)
		return picture

	def _draw_person(self, picture: Picture, phase: float) -> None:
		x, mouth = 0.02 * math.sin(2 * math.pi * phase), abs(math.sin(6 * math.pi * phase))
		_oval(picture, (x / 3, 1.0), (0.34, 0.31), self._shirt)
		_oval(picture, (x, 0.6), (0.06, 0.12), self._skin)
		_oval(picture, (x, 0.37), (0.17, 0.18), self._hair)
		_oval(picture, (x, 0.44), (0.15, 0.19), self._skin)
		for side in (-0.063, 0.063):
			_oval(picture, (x + side, 0.43), (0.016, 0.003 if 0.4 < phase < 0.5 else 0.021), self.INK)
		_oval(picture, (x, 0.53), (0.046, 0.012 + 0.026 * mouth), (70, 60, 150))

	def _draw_cloud(self, picture: Picture, phase: float) -> None:
		x = 0.14 * math.sin(2 * math.pi * phase)
		for right, down, wide in ((0.0, 0.34, 0.12), (-0.11, 0.37, 0.09), (0.12, 0.37, 0.1)):
			_oval(picture, (x + right, down), (wide, 0.6 * wide), (214, 196, 184))

	def _write(self, picture: Picture, text: str, left: float, base: float, tall: float) -> None:
		"""Places and sizes are shares of the height."""
		height, line = self.size[1], max(1, self.size[1] // 300)
		at = round(left * height), round(base * height)
		cv2.putText(
			picture, text, at, cv2.FONT_HERSHEY_SIMPLEX, tall * height / 22, self.INK, line, cv2.LINE_AA
		)


class _StandIn:
	_closed = False

	def _check(self) -> None:
		if self._closed:
			raise DeviceError("The device was closed.")


class _Frames(_StandIn, Camera, ScreenSource):
	"""What stands in for a camera or a screen: `picture(n)` draws or decodes frame n when it is due.

	That is n / `fps` seconds after the first question.
	"""

	def __init__(self, fps: float, picture: Callable[[int], Picture], close: Act = lambda: None):
		self._fps, self._picture, self._close = fps, picture, close
		self._start: float | None = None
		self._next = 0
		self._lock = Lock()

	def read(self, timeout: float) -> Picture:
		due = self._due(self._next)
		if due > monotonic() + timeout:
			_sleep_until(monotonic() + timeout)
			raise DeviceError("“{label}” does not answer.", label=Words("Camera"))
		_sleep_until(due)
		number = max(self._next, self._newest())
		with self._lock:
			self._check()
			self._next = number + 1
			return self._picture(number)

	def grab(self) -> Picture:
		return self._picture(self._newest())

	def close(self) -> None:
		with self._lock:
			if not self._closed:
				self._closed = True
				self._close()

	def _due(self, number: int) -> float:
		if self._start is None:
			self._start = monotonic()
		return self._start + number / self._fps

	def _newest(self) -> int:
		return int((monotonic() - self._due(0)) * self._fps + 1e-6)


class _CardCamera(_Frames):
	"""The test card, drawn as large and as often as is of use."""

	def __init__(self, name: str, fps: float):
		super().__init__(fps, lambda number: self._card.draw(time.time()))
		self._name = name
		self._card = TestCard(name, LAYERS[-1])

	def prefer(self, size: tuple[int, int], fps: float) -> None:
		if size != self._card.size:
			self._card = TestCard(self._name, size)
		if fps != self._fps:
			self._fps, self._start, self._next = fps, None, 0


class _VideoFile:
	"""A video file read forward in a loop; frames are shown when the file says, be that uneven."""

	_SLEPT = 5.0  # seconds behind: the machine slept, so do not catch up

	def __init__(self, path: str, fps: float):
		if not os.path.isfile(path):
			raise DeviceError(UNREADABLE, path=path, fault=Words(os.strerror(errno.ENOENT)))
		self._path = path
		self._picture: Any = None
		self._capture = self._open()
		own = self._capture.get(5)  # cv2.CAP_PROP_FPS
		self.fps = own if 0 < own <= 240 else fps
		self._at, self._shift = -1 / self.fps, 0.0  # of the frame read last and of this loop, in seconds
		self._grab()

	def picture(self, number: int) -> Picture:
		due = (number + 0.5) / self.fps
		if due - self._at > self._SLEPT:
			self._shift += due - self._at
			self._at = due
		while self._picture is None or self._at <= due:
			done, self._picture = self._capture.retrieve()
			if not done:
				raise DeviceError(UNPLAYABLE, key=self._path)
			self._grab()
		return cast(Picture, self._picture)

	def close(self) -> None:
		self._capture.release()

	def _grab(self) -> None:
		next_at = self._at + 1 / self.fps
		if not self._capture.grab():
			self._capture.release()  # not every container can seek
			self._capture, self._shift = self._open(), next_at
			if not self._capture.grab():
				raise DeviceError(UNPLAYABLE, key=self._path)
		said = self._shift + self._capture.get(0) / 1000  # cv2.CAP_PROP_POS_MSEC
		self._at = said if said > self._at else next_at

	def _open(self) -> Any:
		load_codecs()
		capture = cv2.VideoCapture(self._path)
		if not capture.isOpened():
			raise DeviceError(UNPLAYABLE, key=self._path)
		return capture


def open_camera(spec: str, name: str, fps: float = DEFAULT_FPS) -> Camera:
	"""The camera `spec`: pattern (with `name` on the card), an index, or a video file.

	`fps` is a wish to a real camera.
	"""
	if spec == "none":
		raise DeviceError("Nothing is chosen.")
	load_codecs()
	if spec == "pattern":
		return _CardCamera(name, fps)
	if spec.isdecimal():
		return _captures.open(int(spec), fps)
	video = _VideoFile(spec, fps)
	return _Frames(video.fps, video.picture, video.close)


# ---- Sound: files and tones that stand in


class Acoustics:
	"""A room with a small, overdriven loudspeaker: what is played there is heard again, late and reflected.

	Speech of -22 dBFS comes back at -28. Times are seconds.
	"""

	_TAPS = 4_096
	delay = 0.045  # seconds, of both devices

	def __init__(self) -> None:
		self._played = deque[tuple[float, Samples]](maxlen=128)

	@cached_property
	def _echo(self) -> NDArray[np.float64]:
		# direct sound, and reflections 60 dB down after 0.4 s
		echo = np.random.default_rng(1).normal(0.0, 0.009, self._TAPS)
		echo *= 10.0 ** (np.arange(self._TAPS) / -2_133)
		echo[0] = 0.6
		return echo

	def play(self, at: float, block: Samples) -> None:
		"""A loudspeaker sounds `block` from `at` on."""
		self._played.append((at, block))

	def hear(self, voice: Samples, at: float) -> Samples:
		"""The 256 samples that a microphone hears from `at` on while somebody says `voice`."""
		start = (at - self.delay) * AUDIO_RATE - self._TAPS
		sound = np.zeros(self._TAPS + BLOCK + 1)
		for when, block in tuple(self._played):
			place = round(when * AUDIO_RATE) - math.floor(start)
			low, high = max(0, place), min(len(sound), place + len(block))
			if low < high:
				sound[low:high] += block[low - place : high - place]
		driven = np.clip(np.tanh(sound / 16_384), -0.8, 0.8) * 16_384
		late = start % 1.0
		heard = np.convolve(driven[:-1] * (1 - late) + driven[1:] * late, self._echo, "valid")
		return _to_int16(voice + heard[1:])


_acoustics = Acoustics()  # the one room of this process


class _PacedMicrophone(_StandIn, Microphone):
	"""What stands in for a microphone; block k comes 16 ms * (k + 1) after the first read."""

	_SLEPT = 1.0  # seconds behind: the machine slept, so do not catch up

	def __init__(self, read: Callable[[], Samples], room: Acoustics | None = None):
		self._piece, self._room = read, room
		self._pace = BLOCK_SECONDS * (1 - 100e-6 if room else 1)  # two sound cards never agree
		self._start: float | None = None
		self._count = 0

	def read(self) -> Samples:
		if self._start is None:
			self._start = monotonic()
		block = self._cut(self._piece)
		self._count += 1
		until = self._start + self._count * self._pace
		late = _sleep_until(until)
		if late > self._SLEPT:
			self._start += late
		self._check()
		return self._room.hear(block, until - self._pace) if self._room else block

	def close(self) -> None:
		self._closed = True


class _WavFile:
	"""A WAV file in a loop: any rate and channels, PCM of 8 to 32 bits."""

	def __init__(self, path: str):
		try:
			self._file = wave.open(path)  # closed with this object
		except OSError as fault:
			raise DeviceError(UNREADABLE, path=path, fault=system_words(fault)) from fault
		except (wave.Error, EOFError, RuntimeError, struct.error) as fault:
			raise DeviceError(UNPLAYABLE, key=path) from fault
		self._rate = self._file.getframerate()
		self._frame = self._file.getnchannels() * self._file.getsampwidth()
		# beyond, resampling would take all memory
		if not 4_000 <= self._rate <= 384_000 or len(self._file.readframes(1)) < self._frame:
			self._file.close()
			raise DeviceError(UNPLAYABLE, key=path)
		self._file.rewind()
		self._resampler = Resampler(self._rate, AUDIO_RATE)

	def read(self) -> Samples:
		data = self._file.readframes(max(1, round(self._rate * BLOCK_SECONDS)))
		if len(data) < self._frame:  # the end, or a file cut off
			self._file.rewind()
			return self.read()
		frames = np.frombuffer(data, np.uint8)[: len(data) // self._frame * self._frame]
		frames = frames.reshape(-1, self._file.getnchannels(), self._file.getsampwidth())
		if frames.shape[2] == 1:
			values = (frames[:, :, 0].astype(np.int16) - 128) * 256
		else:  # the two highest bytes
			values = np.ascontiguousarray(frames[:, :, -2:]).view("<i2")[:, :, 0]
		return self._resampler.push(np.rint(values.mean(axis=1)).astype(np.int16))


class _WavRecorder:
	"""A WAV file, 16 kHz mono 16-bit, valid after each block."""

	def __init__(self, path: str):
		try:
			self._file = open(path, "wb")  # closed by close()
		except OSError as fault:
			raise DeviceError(UNWRITABLE, path=path, fault=system_words(fault)) from fault
		self._wav = wave.Wave_write(self._file)
		self._wav.setparams((1, 2, AUDIO_RATE, 0, "NONE", ""))
		self.write(0, np.zeros(0, np.int16))

	def write(self, at: int, samples: Samples) -> None:
		gap = at - self._wav.tell()
		try:
			self._wav.writeframes(bytes(2 * max(0, gap)) + samples[max(0, -gap) :].astype("<i2").tobytes())
			self._file.flush()
		except OSError as fault:
			raise DeviceError(UNWRITABLE, path=self._file.name, fault=system_words(fault)) from fault

	def close(self) -> None:
		try:
			with self._file:
				self._wav.close()
		except OSError as fault:
			log.warning("the recording is incomplete: %s", fault)


class _PacedSpeaker(_StandIn, Speaker):
	"""Sample k is heard at start + k / 16000, by `recorder` or nobody."""

	_BUFFER = 0.1  # seconds that a writer may be late, as with a real device

	def __init__(self, start: float, recorder: _WavRecorder | None):
		self._start, self._recorder = start, recorder
		self._at = 0
		self._lock = Lock()

	def write(self, block: Samples) -> None:
		late = self._sleep()
		if late > self._BUFFER:
			self._at += int(late * AUDIO_RATE)  # what nobody wrote was silence
		with self._lock:
			self._check()
			if self._recorder is not None:
				self._recorder.write(self._at, block)
		_acoustics.play(self._start + self._at / AUDIO_RATE, block)
		self._at += len(block)
		self._sleep()

	def _sleep(self) -> float:
		return _sleep_until(self._start + self._at / AUDIO_RATE)

	def close(self) -> None:
		with self._lock:
			if not self._closed and self._recorder is not None:
				self._recorder.close()
			self._closed = True


def _tone(hz: float, seconds: float, peak_db: float = -20.0) -> Samples:
	turns = hz * np.arange(int(seconds * AUDIO_RATE)) / AUDIO_RATE
	return np.rint(32_767 * 10 ** (peak_db / 20) * np.sin(2 * np.pi * turns)).astype(np.int16)


# ---- Sound: voices for the demo

_VOICE_SECONDS = 12
_VOWELS = ((730, 1090, 2440), (530, 1840, 2480), (270, 2290, 3010), (570, 840, 2410), (300, 870, 2240))


def voice_pilot_hz(number: int) -> float:
	"""The tone under `voice:number`, above all speech; of 64 in a row each has its own."""
	return 6_000.0 + 25.0 * (number % 64)


def _voice(number: int) -> Samples:
	"""Sentences of 3 to 8 syllables, each a vowel's harmonics that rise and fall, and pauses."""
	random = np.random.default_rng(number)
	pitch, time = random.uniform(95.0, 230.0), np.arange(int(0.2 * AUDIO_RATE)) / AUDIO_RATE
	hz = pitch * np.arange(1, int(4_000 / pitch))[:, None]
	bend = time - 0.4 * time**2  # seconds: the pitch falls by a sixth
	sound = np.zeros(_VOICE_SECONDS * AUDIO_RATE)
	at = random.uniform(0.0, 1.5)
	while at < _VOICE_SECONDS - 2.5:
		for _ in range(random.integers(3, 9)):
			formants = np.array(_VOWELS[random.integers(len(_VOWELS))]) * (1.0 + (pitch - 150.0) / 800.0)
			off = (hz - formants) / (60.0 + 0.06 * formants)
			loud = (np.array((1.0, 0.6, 0.3)) / (1.0 + off**2)).sum(1)
			vowel = (loud[:, None] * np.sin(2 * np.pi * hz * bend)).sum(0) * np.hanning(len(time))
			start = int(at * AUDIO_RATE)
			sound[start : start + len(vowel)] += vowel
			at += random.choice((0.18, 0.24, 0.3))
		at += random.uniform(0.5, 2.5)
	speech: Samples = np.rint(sound / np.abs(sound).max() * 10_000).astype(np.int16)
	return speech + _tone(voice_pilot_hz(number), _VOICE_SECONDS, -40.0)


def is_sound_card(spec: str) -> bool:
	"""Whether a microphone or speaker is a real one, which can be pulled out and put back."""
	return spec == "default" or spec.partition(":")[0].isdecimal()


def open_microphone(spec: str) -> Microphone:
	"""The microphone `spec`: default, an index, N:NAME, tone, tone:HZ, voice:N, FILE.wav or room:FILE.wav.

	`room:` adds what stand-in speakers of this process play.
	"""
	if spec == "none":
		raise DeviceError("Nothing is chosen.")
	if is_sound_card(spec):
		return _SoundCardMicrophone(_sound_cards.open(spec, "input"))
	kind, _, argument = spec.partition(":")
	if spec == "tone" or (kind in ("tone", "voice") and argument.isdecimal()):
		sound = _voice(int(argument)) if kind == "voice" else _tone(float(argument or 440), 1.0)
		return _PacedMicrophone(lambda: sound)
	room = _acoustics if kind == "room" else None
	return _PacedMicrophone(_WavFile(argument if room else spec).read, room)


def open_speaker(spec: str, start: float) -> Speaker:
	"""The speaker `spec`: none, default, an index, or a WAV file.

	`start` is the monotonic() of a stand-in's sample 0.
	"""
	if is_sound_card(spec):
		return _SoundCardSpeaker(_sound_cards.open(spec, "output"))
	return _PacedSpeaker(start, None if spec == "none" else _WavRecorder(spec))


def _load_picture(path: str) -> Picture:
	try:
		with Image.open(path) as file:
			picture = ImageOps.exif_transpose(file)
		if picture.mode.startswith("I"):  # 16 bits of grey: Pillow would cut off, not scale
			picture = Image.fromarray((np.asarray(picture) >> 8).astype(np.uint8))
		picture = picture.convert("RGBA")
		picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
	except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as fault:
		raise DeviceError(UNPLAYABLE, key=path) from fault
	return within_limit(np.ascontiguousarray(np.asarray(picture)[..., 2::-1]))


def open_screen(source: str) -> ScreenSource:
	"""The source screen:N, window:N, window (in front, not ours), pattern, a video or a picture file."""
	if source == "pattern":
		card = TestCard("Shared screen", LAYERS[-1], screen=True)
		return _Frames(DEFAULT_FPS, lambda number: card.draw(time.time()))
	if source == "window":
		return _DesktopScreen(None)
	kind, _, number = source.partition(":")
	if kind in ("screen", "window") and number.isdecimal():
		return _DesktopScreen(int(number)) if kind == "screen" else _DesktopScreen(None, int(number))
	if Path(source).suffix.lower() in (".png", ".jpg", ".jpeg", ".bmp", ".webp"):
		still = _load_picture(source)
		return _Frames(1.0, lambda number: still)
	video = _VideoFile(source, DEFAULT_FPS)
	return _Frames(video.fps, lambda number: within_limit(video.picture(number)), video.close)


def list_screens() -> Iterator[tuple[str, str, Picture | None]]:
	"""(source, label, what it shows now) to choose from; None where another window lies over it."""
	_be_allowed()
	with closing(_open_window_system()) as system, closing(_Grabber()) as grabber:
		for n, area in enumerate(grabber.screens()):
			yield f"screen:{n}", Words("Screen {number}", number=n + 1), grabber.grab(area)
		ours = [place for place, mine in system.own() if mine]
		for window in itertools.islice(system.windows(), 24):
			with suppress(DeviceError):  # it was closed meanwhile
				place = system.rectangle(window)
				area = (place or _Rectangle(0, 0, 0, 0)).within(grabber.desktop())
				over = area.empty or system.covered(window, area)
				hidden = over or any(not one.within(area).empty for one in ours)
				title = clean_name(system.title(window))
				yield f"window:{window}", title, None if hidden else grabber.grab(area)


# ---- What there is to choose from


def _list_cameras() -> list[tuple[str, str]]:
	if sys.platform == "linux":
		nodes = sorted(Path("/sys/class/video4linux").glob("video*"), key=lambda node: (len(node.name), node))
		# further nodes of a camera carry metadata
		firsts = [node for node in nodes if (node / "index").read_text().strip() == "0"]
		return [(node.name.removeprefix("video"), (node / "name").read_text().strip()) for node in firsts]
	# one may be another program's, and the next be free
	return [(str(n), Words("Camera {number}", number=n + 1)) for n in range(4) if _captures.has(n)]


def list_devices() -> dict[str, list[tuple[str, str]]]:
	"""(spec, label) of the real devices here, by "camera", "mic" and "speaker"."""
	found = {"camera": _list_cameras(), "mic": [], "speaker": []}
	with suppress(DeviceError):
		found["mic"] = _sound_cards.names("input")
		found["speaker"] = _sound_cards.names("output")
	return found


# ====
# [16] RELAY - the media of the server: pictures forwarded, sound mixed
# Uses: BASICS, WIRE, AUDIO, VIDEO, BANDWIDTH, LINKS, PROCESS

LEFT_MIXER_SECONDS = 2.0  # the mixer of a server that was killed may hold its port that long
SILENT_SECONDS = 10.0
# (datagrams a tick, seconds): where so many talk the mixer reads that often, for wake-ups cost most
GATHER = ((40, 0.008), (5, 0.004))
TELL_SILENCE, SILENCE_EVERY = 3, 16  # ticks: the first ones of it are told, and then each so many
FEW_LISTENERS = 15  # are sent each block by itself, and small pictures of the full rate: they come sooner
ASLEEP_SECONDS = 0.5  # a mixer this late was suspended: what it missed is over
RELAY_GATHER = 0.002
TOGETHER = 0.4  # of its period a small picture waits for others: a Wi-Fi joins what leaves at one stroke


class RelayPeer:
	"""One client on the video plane: its path, what it sends, what it is sent."""

	def __init__(self, ident: int, up: bytes, down: bytes, counters: Counters):
		self.binding = PathValidation(ident, up, down)
		self.incoming = Reassembler(layered=True, counters=counters, only={ident})
		self.sent = RetransmissionCache()
		self.challenged = 0.0  # when
		self.numbers: dict[int, int] = {}  # the last of this receiver's own contiguous ones for each sender
		self.droppers = defaultdict[int, FrameDropper](partial(FrameDropper, 0))
		self.waiting: dict[int, tuple[_Picture, int]] = {}  # small ones, fps: leave together, by sender
		self.leave_at = inf
		self.pace = TokenBucket(MAX_FPS * len(LAYERS), MAX_FPS * len(LAYERS))
		self.fresh: list[float] = [-inf] * len(LAYERS)  # when each layer last sent a frame
		self.probe = 0.0  # the share of each frame that is sent twice
		self.owed = 0.0  # bytes of that which are still to come
		self.octets = self.pictures = 0  # that came
		self.patches = [False] * len(LAYERS)  # whether the newest picture was one

	def serves(self, layer: int, now: float) -> range:
		"""The granted layers that a picture of `layer`, which has just come, is sent for.

		A viewer gets the highest live layer (seen within 1.5 s) at or below the granted one, else the lowest.
		"""
		alive = [one for one in range(len(LAYERS)) if now - self.fresh[one] < 1.5]
		lowest = 0 if layer == alive[0] else layer
		return range(lowest, min((one for one in alive if one > layer), default=len(LAYERS)))

	def gather(self, picture: _Picture, fps: int, now: float) -> None:
		"""Have a picture wait; receivers differ in how long, or all would be busy at once."""
		wait = TOGETHER / fps * (1.0 - self.binding.id * 0.618 % 0.5)
		self.leave_at = min(self.leave_at, now + wait)
		self.waiting[picture.sender] = picture, fps


class _Picture(NamedTuple):
	"""A picture to forward, in how many datagrams, and its place in the cache."""

	sender: int
	layer: int
	octets: bytes
	total: int
	sent: RetransmissionCache
	place: int


class VideoRelay:
	"""Collects frames, opens them, and sends each receiver the frame once, sealed for it."""

	def __init__(self, address: Address, counters: Counters):
		self._port = udp_port(address, counters)
		self._counters = counters
		self._peers: dict[int, RelayPeer] = {}
		self._routes: dict[int, dict[int, tuple[int, int]]] = {}
		self._mending = set[int]()  # senders with something open
		self._gathering = set[int]()  # receivers for whom something waits
		self._pacer = Pacer(counters)
		self._budget = SendBudget()
		self._probes = KeyedBuckets(20, 5)
		self._layout = FrameLayout(MAX_PARTS)
		self._first = 0
		self.sizes: dict[tuple[int, int], float] = {}  # bytes of a picture by sender and layer, of late
		told = self._on_datagrams, self._on_due
		self.loop = DatagramLoop("relay", self._port, counters, *told, RELAY_GATHER)

	def add(self, ident: int, up: bytes, down: bytes) -> None:
		"""A client with its two keys. Relay's thread only, like all below."""
		self._peers[ident] = RelayPeer(ident, up, down, self._counters)
		self._stay_awake()

	def remove(self, ident: int) -> None:
		"""Forget a client."""
		self._peers.pop(ident, None)
		self._stay_awake()
		self._routes.pop(ident, None)
		self._mending.discard(ident)
		self._gathering.discard(ident)
		self._pacer.forget(ident)
		for layer in range(len(LAYERS)):
			self.sizes.pop((ident, layer), None)
		for peer in self._peers.values():
			peer.numbers.pop(ident, None)
			peer.droppers.pop(ident, None)
			peer.sent.forget(ident)

	def _stay_awake(self) -> None:
		power.need("timers", self, bool(self._peers))
		power.need("system", self, len(self._peers) > 1)

	def route(self, sender: int, receivers: dict[int, tuple[int, int]]) -> None:
		"""Who is granted which (layer, fps) of `sender`."""
		self._routes[sender] = receivers

	def received(self) -> dict[int, tuple[int, int, int]]:
		"""Of each client so far: octets and pictures that came, pictures that were lost."""
		return {id: (peer.octets, peer.pictures, peer.incoming.lost) for id, peer in self._peers.items()}

	def limit(self, pace: SetRate) -> None:
		"""How fast pictures may reach a receiver."""
		if pace.lossy:
			self._pacer.note_loss(monotonic())
		if pace.id in self._peers:
			self._pacer.limit(pace.id, pace.rate)
			self._peers[pace.id].probe = pace.probe

	def put_first(self, sender: int) -> None:
		self._first = sender

	def _on_datagrams(self, buffer: memoryview, segment: int, address: Address, now: float) -> None:
		ident, number, total, kind = video_header(buffer)
		if (ident, total, kind, segment) == (0, 0, Kind.PROBE, PROBE_SIZE):
			if self._probes.take(address[0], now):
				token = bytes(buffer[VIDEO_HEADER.size : segment])
				self._port.send(VIDEO_HEADER.pack(0, 0, 0, Kind.PROBED) + token, address)
			return
		if (peer := self._peers.get(ident)) is None:
			raise PeerFault("unknown_id")
		if total == 0:
			self._on_small(peer, kind, number, bytes(buffer[VIDEO_HEADER.size : segment]), address, now)
			return
		if peer.binding.address != address:
			raise PeerFault("unbound")
		peer.octets += len(buffer)
		frames = peer.incoming.push_batch(buffer, segment, now)
		if peer.incoming.next_due(now) is not None:
			self._mending.add(ident)
		for frame in frames:
			self._on_frame(peer, frame, now)

	def _on_small(
		self, peer: RelayPeer, kind: int, number: int, sealed: bytes, address: Address, now: float
	) -> None:
		binding = peer.binding
		if kind == Kind.BIND:
			challenge = binding.on_bind(number, sealed, address, token_bytes(16))
			self._port.send(challenge, address)
			peer.challenged = now
			peer.sent.expire(now)
		elif kind == Kind.ANSWER:
			binding.on_answer(number, sealed, address)
			peer.incoming.note_rtt(now - peer.challenged)
		elif kind == Kind.NACK:
			if binding.address != address:
				raise PeerFault("unbound")
			nack = parse_nack(binding.opener.open(Kind.NACK, binding.id, number, sealed))
			if not self._pacer.limited(binding.id):
				self._pacer.note_loss(now)
			for datagram in self._resend(peer, nack, now):
				self._port.send(datagram, address)
				self._pacer.charge(binding.id, len(datagram))
		else:
			raise PeerFault("unknown_kind")

	def _resend(self, peer: RelayPeer, nack: Nack, now: float) -> list[bytes]:
		def seal(number: int, picture: bytes) -> bytes:
			total = parts_of(len(picture) + TAG)
			return peer.binding.sealer.again(Kind.VIDEO, nack.id, number, picture, total)

		sender = self._peers.get(nack.id)
		return sender.sent.resend(nack, now, seal, peer.binding.id) if sender else []

	def _on_frame(self, peer: RelayPeer, frame: WholeFrame, now: float) -> None:
		sender = peer.binding.id
		layer = frame.number >> LAYER_SHIFT
		if not peer.pace.take(now):
			raise PeerFault("picture_flood")
		try:
			picture = peer.binding.opener.open(
				Kind.VIDEO, sender, frame.number, frame.sealed, parts_of(len(frame.sealed))
			)
		except PeerFault:
			if peer.incoming.retry(frame):
				self._mending.add(sender)
			raise
		if not fits_layer(coded_size(picture), layer, len(picture)):
			raise PeerFault("bad_picture", "not its layer's size")
		peer.fresh[layer] = now
		peer.pictures += 1
		size = self.sizes.get((sender, layer), len(picture))
		self.sizes[sender, layer] = size + (len(picture) - size) / 8
		peer.sent.store(picture, now)
		serves = peer.serves(layer, now)
		patch = picture.startswith(PATCH)
		needed, peer.patches[layer] = peer.patches[layer] and not patch, patch  # by the patches after it
		what = _Picture(sender, layer, picture, parts_of(len(picture) + TAG), peer.sent, peer.sent.place)
		crowd = len(self._peers) > FEW_LISTENERS
		for receiver, (granted, fps) in self._routes.get(sender, {}).items():
			other = self._peers.get(receiver)
			if other is None or other.binding.address is None or granted not in serves:
				continue
			limited = self._pacer.limited(receiver)
			if limited and (layer > granted or not self._pacer.accepts(receiver)):
				continue  # what fits is on its way
			dropper = other.droppers[sender]
			dropper.fps = fps
			if not (dropper.take(now) or needed):
				continue
			if layer <= SMALL_LAYER and (crowd or fps < DEFAULT_FPS) and not limited:
				other.gather(what, fps, now)
				self._gathering.add(receiver)
			else:
				self._forward(other, what, fps, now)
				if other.waiting:
					self._send_waiting(other, now)

	def _send_waiting(self, peer: RelayPeer, now: float) -> None:
		waiting, peer.waiting, peer.leave_at = peer.waiting, {}, inf
		self._gathering.discard(peer.binding.id)
		for sender, (picture, fps) in waiting.items():
			if sender in self._peers and peer.binding.address is not None:
				self._forward(peer, picture, fps, now)

	def _forward(self, peer: RelayPeer, what: _Picture, fps: int, now: float) -> None:
		sender, layer, picture, total, sent, place = what
		number = peer.numbers[sender] = peer.numbers.get(sender, 0) + 1
		binding = peer.binding
		sealed = binding.sealer.seal(Kind.VIDEO, sender, number, picture, total)
		sent.note_sent(number, binding.id, place)
		if self._budget.left <= 0:
			self._budget.look(self._port.held(), now)
		if self._budget.left > 0 and self._pacer.passes(binding.id, total, now):
			self._budget.give(len(sealed), now)
			self._port.send_frame(self._layout.lay(sender, number, sealed), binding.address)
			return
		layout = bytes(self._layout.lay(sender, number, sealed))
		priority = 0 if sender == self._first else 1 + layer
		self._pacer.queue(binding.id, priority, layout, now, 0.9 / fps)
		if peer.probe:
			peer.owed = min(peer.owed + len(layout) * peer.probe, len(layout))
			again = int(peer.owed / DATAGRAM) * DATAGRAM
			if again and self._pacer.accepts(binding.id, MAX_BACKLOG / 2):
				peer.owed -= again
				self._pacer.queue(binding.id, priority, layout[:again], now, 0.9 / fps)

	def _on_due(self, now: float) -> float | None:
		for ident in tuple(self._gathering):
			if self._peers[ident].leave_at <= now:
				self._send_waiting(self._peers[ident], now)
		times = [self._peers[ident].leave_at for ident in self._gathering]
		times += [at for ident in tuple(self._mending) if (at := self._ask_again(ident, now)) is not None]
		if (due := self._send_due(now)) is not None:
			times.append(due)
		return min(times, default=None)

	def _send_due(self, now: float) -> float | None:
		if self._pacer.next_due() is None:
			return None
		self._budget.look(self._port.held(), now)
		busy, paced = self._budget.left == 0, self._pacer.paced(now)
		for receiver, piece in self._pacer.due(now, self._budget.left):
			address = self._peers[receiver].binding.address if receiver in self._peers else None
			if address is not None:
				self._budget.give(len(piece), now)
				self._port.send_frame(piece, address, tail=paced)
		due = self._pacer.next_due()
		return max(due, now + 0.001) if busy and due is not None else due

	def _ask_again(self, ident: int, now: float) -> float | None:
		peer = self._peers[ident]
		address = peer.binding.address
		if address is not None:
			for nack in peer.incoming.nacks(now):
				self._port.send(peer.binding.sealer.small(Kind.NACK, ident, encode_nack(nack)), address)
		if (due := peer.incoming.next_due(now)) is None:
			self._mending.discard(ident)
		return due


# -- the mixer: a process of its own


@dataclass
class MixerPeer:
	"""One client on the audio plane."""

	binding: PathValidation
	pairs: bool  # it takes two blocks in one datagram
	silent: int = 0  # ticks since the last sound that was sent to it
	waiting: tuple[int, int, bytes] | None = None  # the first block of a pair: loudest, tick, octets


class MixerProcess:
	"""The mixer role: owns the audio port, addresses and keys; told what to do on standard input.

	Silence is an empty block: in the first three ticks, then every 16th, to be told from loss.
	While nobody speaks it sleeps in between.
	"""

	def __init__(self, sock: Socket, say: Say):
		self._counters = Counters()
		self._port = UdpPort(None, self._counters, adopt=sock, sound=True)
		self._mixer = AudioMixer()
		self._peers: dict[int, MixerPeer] = {}
		self._mail = SimpleQueue[Json | None]()
		self.tell = self._mail.put
		self._say = say
		self._tick = 0
		self._late_ticks = 0
		self._lateness = deque[float]([0.0], maxlen=250)
		self._came = (0, 0)  # datagrams in this tick and in the last

	def run(self) -> None:
		"""Mix until told to end: a tick every 16 ms of absolute time, receiving in between."""
		self._say({"event": "ready"})
		start = monotonic()
		while self._obey():
			rest = self._idle_ticks()
			due = start + (self._tick + rest) * BLOCK_SECONDS
			now = monotonic()
			if now < due:
				if not self._sleep(due - now):
					continue
				if not self._obey():  # first: a bind comes with the order to know it
					break
				self._receive()
				if not self._mixer.idle:
					passed = math.ceil((monotonic() - start) / BLOCK_SECONDS) - self._tick
					self._skip(max(0, min(rest, passed)))
				continue
			self._skip(rest)
			self._receive()
			self._late_ticks += now - due > BLOCK_SECONDS
			self._lateness.append(now - due)
			self._came = (0, self._came[0])
			self._mix(now)
			self._tick += 1
			if now - due > ASLEEP_SECONDS:
				self._tick += int((now - due) / BLOCK_SECONDS)
		self._port.close()

	def _idle_ticks(self) -> int:
		"""How many ticks there is nothing to do, unless something comes: silence is told once in a while."""
		told = all(peer.silent > TELL_SILENCE and not peer.waiting for peer in self._peers.values())
		return -self._tick % SILENCE_EVERY if told and self._mixer.idle else 0

	def _skip(self, ticks: int) -> None:
		self._tick += ticks
		self._mixer.skip(ticks)

	def _sleep(self, left: float) -> bool:
		"""Until something comes, or for a share of the tick (GATHER). Whether there may be something."""
		pause = next((seconds for many, seconds in GATHER if self._came[1] >= many), 0.0)
		if not pause:
			return self._port.wait(left)
		time.sleep(left / math.ceil(left / pause))
		return True

	def _obey(self) -> bool:
		while not self._mail.empty():
			if (message := self._mail.get()) is None:
				return False
			self._do(message)
		return True

	def _do(self, message: Json) -> None:
		ident = message.get("id", 0)
		match message["do"]:
			case "beat":
				self._report()
			case "alone":
				let_go_of_output(2)
			case "add":
				up, down = bytes.fromhex(message["up"]), bytes.fromhex(message["down"])
				binding = PathValidation(ident, up, down)
				self._peers[ident] = MixerPeer(binding, message.get("pairs", False))
				self._mixer.add(ident)
				self._mixer.mute(ident, True)
			case "remove":
				self._peers.pop(ident, None)
				self._mixer.remove(ident)
			case "mute":
				self._mixer.mute(ident, message["on"])
			case "rooms":
				self._mixer.nearest.order(message["groups"], message["free"])
			case "early":
				self._mixer.finder.note_early(ident)
			case "gains":
				self._mixer.set_gains(ident, {int(id): gain for id, gain in message["gains"].items()})
		power.need("timers", self, bool(self._peers))

	def _receive(self) -> None:
		now, came = monotonic(), 0
		while came < 256 and (more := self._port.receive(64)):
			came += len(more)
			for data, _, address in more:
				try:
					self._on_datagram(bytes(data), address, now)
				except PeerFault as fault:
					self._counters.add(fault.kind)
		self._came = (self._came[0] + came, self._came[1])

	def _on_datagram(self, data: bytes, address: Address, now: float) -> None:
		if len(data) in AUDIO_SIZES:
			ident, seq = AUDIO_HEADER.unpack_from(data)
			binding = self._peer(ident).binding
			if binding.address != address:
				raise PeerFault("unbound")
			block = binding.opener.open(Kind.AUDIO, ident, seq, data[AUDIO_HEADER.size :])
			self._mixer.push(ident, seq, np.frombuffer(block, ">i2") if block else None, now)
			return
		ident, number, total, kind = video_header(data)
		binding, sealed = self._peer(ident).binding, data[VIDEO_HEADER.size :]
		if total == 0 and kind == Kind.BIND:
			challenge = binding.on_bind(number, sealed, address, token_bytes(16))
			self._port.send(challenge, address)
		elif total == 0 and kind == Kind.ANSWER:
			binding.on_answer(number, sealed, address)
			set_dscp(DSCP_EF, self._port.socket, address)
		else:
			raise PeerFault("unknown_kind")

	def _peer(self, ident: int) -> MixerPeer:
		if ident not in self._peers:
			raise PeerFault("unknown_id")
		return self._peers[ident]

	def _mix(self, now: float) -> None:
		before = self._mixer.loudest
		mix = self._mixer.tick(now)
		if self._mixer.loudest != before:
			self._say({"event": "loudest", "id": self._mixer.loudest})
		while self._mixer.finder.news:
			self._say(self._mixer.finder.news.pop(0))
		for ident, (block, loudest) in mix.items():
			peer = self._peers[ident]
			if peer.binding.address is None:
				continue
			block = block if loudest else None
			peer.silent = 0 if block is not None else peer.silent + 1
			if block is None and peer.silent > TELL_SILENCE and self._tick % SILENCE_EVERY:
				continue
			self._say_to(peer, loudest, b"" if block is None else block.tobytes())

	def _say_to(self, peer: MixerPeer, loudest: int, block: bytes) -> None:
		"""This tick's block, or with the one before in one datagram: half the transmissions of a Wi-Fi."""
		first, peer.waiting = peer.waiting, None
		pairs = peer.pairs and len(self._peers) > FEW_LISTENERS and (self._tick + peer.binding.id) % 2 == 0
		if block and first is None and pairs:
			peer.waiting = loudest, self._tick, block
		elif first and block:
			self._send(peer, loudest, first[1], first[2] + block)
		else:
			if first:
				self._send(peer, *first)
			self._send(peer, loudest, self._tick, block)

	def _send(self, peer: MixerPeer, loudest: int, number: int, payload: bytes) -> None:
		sealed = peer.binding.sealer.seal(Kind.AUDIO, loudest, number, payload)
		self._port.send(audio_datagram(loudest, number, sealed), cast(Address, peer.binding.address))

	def _report(self) -> None:
		late = round(sorted(self._lateness)[len(self._lateness) * 99 // 100] * 1e3, 2)
		told = {"ticks": self._tick, "late_ticks": self._late_ticks, "late_p99_ms": late}
		self._say({"event": "report", **told, "counters": self._counters.snapshot()})


def run_mixer(stdin: IO[str], stdout: IO[str]) -> int:
	"""The hidden role of the mixer's process; ends when standard input ends."""
	if not (first := stdin.readline()):
		return 0

	def say(message: Json) -> None:
		with suppress(BrokenPipeError):  # the parent died: standard input has ended, too
			stdout.write(json.dumps(message) + "\n")
			stdout.flush()

	come_first()  # a tick costs little, and everyone hears a late one
	mixer = MixerProcess(shared_socket(json.loads(first)), say)

	def listen(worker: Worker) -> None:
		for line in stdin:
			mixer.tell(json.loads(line))
		mixer.tell(None)
		time.sleep(LEFT_MIXER_SECONDS / 2)
		os._exit(1)  # it hangs, and holds the port of who comes next

	Worker("mixer-orders", listen).start()
	mixer.run()
	return 0


# ====
# [17] SERVER PLANES - the screen and files planes of the server
# Uses: BASICS, WIRE, TILES, ROOM, TRUST, LINKS


@dataclass
class ServerOptions(Limits):
	"""What the server role needs to know."""

	title: str = "Meeting"
	host_name: str = "Host"
	pin: str = ""
	base: int = DEFAULT_PORT
	bind: str | None = None
	host_key: str = ""  # the public one of who is host
	host_key_file: str = ""  # where its secret is; "": where the program keeps it
	orphan_seconds: float = 0.0  # how long it waits for its host's program; 0: it ends with that
	standby: str = ""  # whose program it is ready for; "": it serves at once


# -- the screen plane

# What each role may say. A hello with a ticket makes a presenter or a viewer of who has connected.
SCREEN_SAYS: Mapping[str, tuple[type[ScreenMessage], ...]] = {
	"hello": (),
	"presenter": (Geometry, Rectangle, Commit, Pointer),
	"viewer": (Acknowledge,),
}


@entity
class ScreenPeer:
	"""One connection of the screen plane; its `role` is a key of SCREEN_SAYS."""

	link: TlsLink
	messages: MessageSplitter
	role: str = "hello"
	id: int = 0
	painted: tuple[int, int] = (-1, -1)  # epoch, version
	sizes: TokenBucket = field(default_factory=lambda: TokenBucket(60, 30))  # a dragged edge: 20/s


@entity
class ScreenShareManager:
	"""The screen plane: one presenter's newest tiles, given to each viewer as fast as that one can paint.

	`claim(role, ticket)` is the member who may; `released(id)`: the presenter has gone. All of it, but
	`accept`, on the loop's thread.
	"""

	HELLO_LIMIT = 4_096
	VIEWER_LIMIT = 64
	MOST_UNSAID = 16  # unacknowledged changes that are a flood; an honest presenter has 2

	loop: Loop
	_context: TlsContext
	_half_open: HalfOpen
	_claim: Callable[[str, str], int]
	_released: Callable[[int], None]

	def __post_init__(self) -> None:
		self._presenter: ScreenPeer | None = None
		self._viewers: dict[ScreenPeer, TileFeed] = {}
		self._start_anew()
		self._moved = self._changed = False  # the pointer, the tiles; since the viewers were last told

	def accept(self, sock: Socket, address: str) -> None:
		self.loop.post(lambda: self._open(sock, address))

	def drop(self, ident: int, *roles: str) -> None:
		"""End the links of a member in these roles."""
		for peer in [*self._viewers, *filter(None, [self._presenter])]:
			if peer.id == ident and peer.role in roles:
				peer.link.discard("over")

	def _open(self, sock: Socket, address: str) -> None:
		keep_buffers_small(sock)
		link = TlsLink(self.loop, sock, self._context, server=True)
		peer = ScreenPeer(link, MessageSplitter(self.HELLO_LIMIT))

		def on_bytes(data: bytes) -> None:
			for payload in peer.messages.push(data):
				with skipping(self.loop.counters):
					self._on_message(peer, payload)
			self._pass_on()

		link.on_close, link.on_bytes = lambda reason: self._closed(peer), on_bytes
		self._half_open.begin(link, address)

	def _on_message(self, peer: ScreenPeer, payload: bytes) -> None:
		if peer.role == "hello":
			self._on_hello(peer, parse_json(payload))
			return
		message = parse_screen(payload)
		if not isinstance(message, SCREEN_SAYS[peer.role]):
			raise PeerFault("unexpected_message", type(message).__name__)
		if isinstance(message, Acknowledge):
			if feed := self._viewers.get(peer):  # else it ended by an earlier message
				feed.acknowledge(monotonic())
			peer.painted = (message.epoch, message.version)
			self._acknowledge()
		else:
			if isinstance(message, Geometry) and not peer.sizes.take(monotonic()):
				raise PeerFault("flood", "geometry")
			self._on_presenter(message)

	def _on_hello(self, peer: ScreenPeer, said: Json) -> None:
		try:
			check_version(said)
			hello = _shaped(said, SCREEN_HELLO)
			peer.id = self._claim(hello["role"], hello["ticket"])
		except Refused as refused:
			peer.link.send(encode_record({"status": "denied", **refused.told}))
			peer.link.close("denied")
			return
		peer.role = hello["role"]
		peer.link.flow = ("in", peer.link.flow[1], peer.id)
		self._half_open.leave(peer.link.evict)
		peer.link.send(encode_record({"status": "ok"}))
		(self._begin_presenting if peer.role == "presenter" else self._begin_viewing)(peer)
		if peer.link.closed:
			self._closed(peer)

	def _begin_presenting(self, peer: ScreenPeer) -> None:
		before, self._presenter = self._presenter, peer
		if before:
			before.link.discard("replaced")
		peer.messages = MessageSplitter()
		self._start_anew()

	def _start_anew(self) -> None:
		self._table = TileTable()
		self._unsaid = deque[Commit]()  # commits that few have painted yet
		self._pointer = Pointer(0, 0, False)
		for viewer, feed in list(self._viewers.items()):
			viewer.painted = (-1, -1)
			feed.restart(self._table)

	def _begin_viewing(self, peer: ScreenPeer) -> None:
		peer.messages = MessageSplitter(self.VIEWER_LIMIT)
		for before in [viewer for viewer in self._viewers if viewer.id == peer.id]:
			before.link.discard("replaced")
		feed = self._viewers[peer] = TileFeed(peer.link, self._table)
		feed.point(self._pointer)

	def _closed(self, peer: ScreenPeer) -> None:
		self._viewers.pop(peer, None)
		if peer is self._presenter:
			self._presenter = None
			self._start_anew()
			self._released(peer.id)
		else:
			self._acknowledge()

	def _on_presenter(self, message: ScreenMessage) -> None:
		self._table.take(message)
		if isinstance(message, Commit):
			self._unsaid.append(message)
			self._changed = True
			if len(self._unsaid) > self.MOST_UNSAID:
				raise PeerFault("flood", "commit")
		elif isinstance(message, Pointer):
			self._pointer, self._moved = message, True

	def _pass_on(self) -> None:
		"""Tell the viewers what is new, once for all that came together: a presenter may say it too often."""
		moved, changed = self._moved, self._changed
		self._moved = self._changed = False
		for feed in list(self._viewers.values()) if moved or changed else ():
			if moved:
				feed.point(self._pointer)
			if changed:
				feed.update()
		if changed:
			self._acknowledge()

	def _acknowledge(self) -> None:
		painted = sorted(viewer.painted for viewer in self._viewers)
		middle = painted[len(painted) // 2] if painted else (inf, inf)
		while self._presenter and self._unsaid and tuple(self._unsaid[0]) <= middle:
			acknowledge = Acknowledge(*self._unsaid.popleft())
			self._presenter.link.send(encode_message(encode_screen(acknowledge)))


# -- the files plane: one thread a connection


class StoredFile:
	"""The bytes of one offer, as far as they have come. One thread writes; what is whole, any may read."""

	def __init__(self, path: Path, offer: Offer):
		path.touch()
		self.path = path
		self.file = offer.file
		self.size = offer.size
		self.sha256 = offer.sha256
		self.have = 0
		self.writing = Lock()
		self.hash = hashlib.sha256()  # of those

	def append(self, out: io.FileIO, block: memoryview) -> None:
		"""Write the next bytes; Refused when the disk does not take them."""
		try:
			write_all(out, block)
		except OSError as error:
			log.warning("a file cannot be stored: %s", error)
			raise Refused("too_large") from None
		self.hash.update(block)
		self.have += len(block)


@entity
class FileConnection:
	"""One connection of the files plane; who and what it is for is known once its ticket is redeemed."""

	stream: TlsStream
	address: str
	member: int = 0
	stored: StoredFile | None = None
	upload: bool = False
	idle: float = 0.0  # since when no byte has moved; inf: one has
	yields: bool = False


@entity
class FileStore:
	"""The files on offer, in a private folder that is gone after the meeting.

	Tickets are redeemed, and the room is told, on the loop's thread; each connection has a thread of
	its own for the bytes. An upload that broke goes on where it stopped.
	"""

	MOST = 64  # at once: then who has not begun makes way, or the busiest address
	MOST_A_PERSON = 8

	_room: Room
	_loop: Loop
	_half_open: HalfOpen
	_apply: Callable[[Effects], None]
	_context: TlsContext
	_home: Path

	def __post_init__(self) -> None:
		self._folder: Path | None = None  # none: no disk takes any file
		self._lock = Lock()
		self._connections: dict[FileConnection, Worker] = {}
		self._stored: dict[str, StoredFile] = {}

	# -- life; the loop's thread unless said otherwise

	def start(self) -> None:
		"""Make the folder: in the home, else a temporary one. Any thread."""
		for place in (self._home, None):
			with suppress(OSError):
				self._folder = Path(tempfile.mkdtemp(prefix=SHELF, dir=place))
				return

	def tick(self) -> None:
		"""Show that the folder is in use, also by a clock that was set."""
		if self._folder:
			with suppress(OSError):
				os.utime(self._folder)

	def close(self) -> None:
		"""Cut every connection and delete everything; may be called twice. Any thread but theirs."""
		self._cut(lambda connection: True)
		with self._lock:
			workers = [*self._connections.values()]
		for worker in workers:
			worker.close(1.0)
		if self._folder:
			shutil.rmtree(self._folder, ignore_errors=True)

	def forget(self, member: int) -> None:
		self._cut(lambda connection: connection.member == member)

	def remove(self, file: str) -> None:
		"""Delete the bytes of an offer that is gone, as soon as nobody uses them."""
		if stored := self._stored.pop(file, None):
			self._cut(lambda connection: connection.stored is stored)
			self._delete_if_unused(stored)

	def _cut(self, concerned: Callable[[FileConnection], bool]) -> None:
		with self._lock:
			connections = [one for one in self._connections if concerned(one)]
		for connection in connections:
			connection.stream.abort()

	def _delete_if_unused(self, stored: StoredFile) -> None:
		with self._lock:
			used = any(connection.stored is stored for connection in self._connections)
			if stored.file not in self._stored and not used:
				remove_file(stored.path)

	# -- connections

	def begin(self, sock: Socket, address: str) -> None:
		"""Take over a connection that was accepted. The acceptor's thread."""
		connection = FileConnection(TlsStream(sock, self._context, server=True), address)
		self._half_open.enter(connection.stream.abort, address)
		with self._lock:
			run = partial(self._run, connection)
			self._connections[connection] = Worker("file-server", run, connection.stream.abort).start()

	def _run(self, connection: FileConnection, worker: Worker) -> None:
		stream = connection.stream
		try:
			deadline = monotonic() + HANDSHAKE_SECONDS
			stream.open(deadline)
			said = parse_json(stream.read_line(MAX_FILE_LINE, deadline))
			check_version(said)
			request = check_message(said, FILE_REQUESTS)
			stored = self._loop.ask(lambda: self._redeem(connection, request))
			self._half_open.leave(stream.abort)
			if connection.upload:
				self._take_in(connection, stored)
			else:
				self._hand_out(connection, stored, request["offset"])
		except (PeerFault, Refused) as fault:
			if isinstance(fault, PeerFault):
				self._loop.counters.add(fault.kind)
				fault = fault.refused
			with suppress(OSError):
				stream.send(file_failed(fault.code))
		except OSError as error:
			self._loop.counters.add("file_connection_broken")
			log.info("a transfer broke: %s", error)
		finally:
			self._half_open.leave(stream.abort)
			stream.close()
			with self._lock:
				del self._connections[connection]
			if connection.stored:
				self._delete_if_unused(connection.stored)

	def _redeem(self, connection: FileConnection, request: Json) -> StoredFile:
		ticket = self._room.planes.redeem(request["ticket"], "files", monotonic())
		offer = self._room.shelf.offers.get(ticket.file or "")
		if request["type"] != f"file_{ticket.direction}":
			raise PeerFault("bad_ticket")
		upload = ticket.direction == "upload"
		if offer is None or not (upload or offer.whole):
			raise Refused("no_such_file")
		with self._lock:
			moving = [one for one in self._connections if one.stored and not one.yields]
			if [one.member for one in moving].count(ticket.member) >= self.MOST_A_PERSON:
				raise Refused("busy")
			if len(moving) >= self.MOST:
				self._make_way(moving, connection.address, self._room.members[ticket.member].leads)
			connection.member, connection.upload, connection.idle = ticket.member, upload, monotonic()
			if self._folder is None:
				raise Refused("too_large")
			if offer.file not in self._stored:
				self._folder.mkdir(0o700, exist_ok=True)  # it was swept
				self._stored[offer.file] = StoredFile(self._folder / offer.file, offer)
			connection.stored = stored = self._stored[offer.file]
		return stored

	def _make_way(self, moving: list[FileConnection], address: str, leads: bool) -> None:
		crowd = Counter(one.address for one in moving)
		loser = min(moving, key=lambda one: (one.idle, -crowd[one.address]))
		if not leads and loser.idle == inf and crowd[loser.address] <= crowd[address] + 1:
			raise Refused("busy")
		loser.yields = True
		loser.stream.abort()

	# -- bytes; the connection's own thread

	def _take_in(self, connection: FileConnection, stored: StoredFile) -> None:
		self._cut(lambda one: one.stored is stored and one.upload and one is not connection)
		if not stored.writing.acquire(timeout=HANDSHAKE_SECONDS):
			raise Refused("busy")
		try:
			self._require_room(stored.size - stored.have)
			connection.stream.send(file_ready(stored.have))
			self._receive(connection, stored)
		finally:
			stored.writing.release()
		if stored.hash.hexdigest() == stored.sha256:
			self._loop.ask(lambda: self._apply(self._room.shelf.file_whole(stored.file)))
			connection.stream.send(FILE_DONE)
			return
		connection.stream.send(file_failed("wrong_hash"))
		wrong = Refused("wrong_hash")
		self._loop.ask(lambda: self._apply(self._room.shelf.file_gone(stored.file, wrong)))

	def _receive(self, connection: FileConnection, stored: StoredFile) -> None:
		with stored.path.open("r+b", buffering=0) as out:
			out.seek(stored.have)
			for part in connection.stream.pieces(stored.size - stored.have):
				connection.idle = inf
				self._require_room(len(part))
				stored.append(out, part)

	def _require_room(self, size: int) -> None:
		if shutil.disk_usage(cast(Path, self._folder)).free - size < self._room.shelf.limits.free_disk:
			raise Refused("too_large")

	def _hand_out(self, connection: FileConnection, stored: StoredFile, offset: int) -> None:
		stream = connection.stream
		if offset > stored.size:
			raise PeerFault("bad_offset")
		stream.send(encode_line({"size": stored.size, "sha256": stored.sha256, "offset": offset}))
		if stream.read_line(MAX_FILE_LINE) + b"\n" != FILE_READY:
			raise PeerFault("bad_answer")
		connection.idle = inf
		block = memoryview(bytearray(FILE_BLOCK))
		with stored.path.open("rb", buffering=0) as source:
			source.seek(offset)
			while offset < stored.size:
				if not (count := source.readinto(block)):
					raise OSError("a stored file is shorter than it was")
				stream.send(block[:count])
				offset += count
		if stream.read_line(MAX_FILE_LINE) + b"\n" == FILE_DONE:
			self._loop.ask(lambda: self._apply(self._room.shelf.file_saved(stored.file, connection.member)))


# ====
# [18] SERVER - the server role: who comes in, who goes on if it fails, the control plane
# Uses: BASICS, WIRE, BANDWIDTH, ROOM, TRUST, LINKS, PROCESS, DISCOVERY, RELAY, SERVER PLANES

# -- the control plane

LINES = (1_000, 100)  # what one connection may say at once, and a second on the long run
OCTETS = (1 << 22, 1 << 16)  # and how many octets; a read counts as LEAST_READ of them at least
LEAST_READ = 256
MOST_VALUES = 4_200  # of one line; a text of MAX_CHAT commas passes
ARRIVALS = (300, 5)  # who may come from one address, likewise


# What may be said at each stage of a control connection, and where that, the host, or time may lead.
STAGES: Mapping[str, Mapping[str, str]] = {
	"hello": {"hello": "prove waiting pin in over", "probe": "over"},
	"prove": {"proof": "waiting pin in over"},  # that it is the host
	"waiting": {"": "pin in over"},  # for a free attempt at the PIN, or for the host to let it in
	"pin": {"pin": "confirm over"},
	"confirm": {"pin_proof": "waiting in over"},
	"in": dict.fromkeys(CLIENT_MESSAGES, "over"),
	"over": {"": "over"},
}


@entity
class ControlSession:
	"""One control connection, at a stage of STAGES; `why` it waits, "pin" or "removed", the host is told."""

	link: TlsLink
	address: str
	stage: str = "hello"
	id: int = 0
	hello: Json = field(default_factory=dict)
	lines: LineSplitter = field(default_factory=LineSplitter)
	transcript: list[bytes] = field(default_factory=list)
	proof: PinProof | None = None
	ask: int = 0
	why: str = "pin"
	tries: bool = False  # holds one of PinGate's attempts
	let_in: bool = False  # by the host's own word
	right: Json = field(default_factory=dict)  # what the host was asked to sign, and its signature
	heard: float = 0.0
	pace: TokenBucket = field(default_factory=lambda: TokenBucket(*LINES))
	octets: TokenBucket = field(default_factory=lambda: TokenBucket(*OCTETS))

	@property
	def host(self) -> bool:
		return "signature" in self.right

	def become(self, stage: str) -> None:
		"""Go on to a stage that the present one leads to."""
		assert stage in " ".join(STAGES[self.stage].values()).split(), (self.stage, stage)
		self.stage = stage

	def end(self, type: str = "", **members: Any) -> None:
		"""Say a last message of that type, if any, and close."""
		if type:
			self.send(type, **members)
		self.become("over")
		self.link.close(type or "left")

	def send(self, type: str, **members: Any) -> None:
		"""Queue a message for this connection."""
		line = encode_line({"type": type, **members})
		if self.stage == "pin":
			self.transcript.append(line)
		self.link.send(line)

	def welcome(self, message: Json) -> None:
		"""Send the welcome: older lines are left out that do not fit, and offers follow."""
		offers: list[Json] = []
		while True:
			try:
				self.send(**message)
				break
			except PeerFault:
				history = max((message.get("chat", []), message.get("private", [])), key=len)
				if not history and not message.get("files"):
					raise
				if not history:
					offers, message["files"] = message["files"], []
				del history[: max(1, len(history) // 8)]
		for offer in offers:
			self.send("file_offer", **offer)


EMPTY_SECONDS = 120.0  # an orphan waits that long for anybody
AWAY_NOTICES = (1e9, 300, 60)  # everyone is told at once, and so many seconds before its end


class Orphan:
	"""When a server without its host's program ends: no host for `patience` seconds, nobody for 2 minutes.

	Everyone is told at once, then 5 minutes and a minute before the end.
	"""

	def __init__(self, patience: float, now: float):
		self._patience = patience
		self._hosted = self._peopled = now  # when a host, when anybody was in last
		self._told = inf  # seconds left
		self.alone = False  # its host's program may come back to it

	def step(self, members: Mapping[int, Member], now: float) -> Effects:
		"""Once in a while: what is to be told, or the end."""
		roles = {member.role for member in members.values()}
		self.alone = "host" not in roles
		self._peopled = now if roles else self._peopled
		if roles - {"member"}:
			self._hosted, self._told = now, inf
			return []
		left = self._hosted + self._patience - now
		if left <= 0 or now - self._peopled >= EMPTY_SECONDS:
			return [MeetingOver("host_gone")]
		if not any(left <= notice < self._told for notice in AWAY_NOTICES):
			return []
		self._told = left
		return [Tell(tuple(members), {"type": "host_away", "seconds": math.ceil(left)})]


# -- succession: who goes on with the meeting when this server fails

MOST_STANDBYS = 3
PROBE_EVERY = 60.0
LOOK_EVERY = 2.0  # for another server of the same meeting


@entity
class Volunteer:
	"""A member whose program serves if this server fails, once that was reached."""

	member: Member
	server: Json
	rank: int  # 0 the best
	state: str = ""
	probed: float = -inf


class Succession:
	"""Who goes on when this server fails; in a standby, whether it is its turn. Control loop's thread."""

	def __init__(self, server: ConferenceServer):
		self._server, self._room, self._options = server, server.room, server.options
		self.serving = not self._options.standby
		self._own = {"fingerprint": server.identity.fingerprint}
		self.signed: Json = {}
		self.record: Json = {}
		self._volunteers: dict[int, Volunteer] = {}  # by member
		self._chosen: list[int] = []  # the persons whom the host asked
		self._heir = 0  # the member to whom the meeting is handed over
		self._asking: dict[ControlSession, Json] = {}
		self._wanted: tuple[list[int], list[Json]] | None = None  # who was asked to sign what
		self._copy: Json = {}
		self._linked = False
		self._looked = self._signed_at = self._copied = 0.0
		self._last = 0  # the epoch of the server before

	# -- while it serves

	def take(self, told: Json) -> None:
		"""The host has signed who goes on; PeerFault where not."""
		self.record = read_record(told, self._options.host_key)
		self.signed, self._signed_at = {key: told[key] for key in SIGNED}, monotonic()

	def _tell(self, ident: int, kind: str, **more: Any) -> None:
		self._server.apply([Tell((ident,), {"type": kind, **more})])

	def _hosts(self) -> list[int]:
		return [one.id for one in self._room if one.proof]

	def delegates(self, token: str | None) -> bool:
		"""Whether who has that token has the host's rights in her stead."""
		name = self.record.get("rights", {}).get(self._own["fingerprint"], "")
		return name == self._room.names.claim(token, 0.0)[0] and not self._hosts()

	def _standbys(self) -> list[Volunteer]:
		ready = [one for one in self._volunteers.values() if one.state == "ready"]
		order = {person: place for place, person in enumerate(self._chosen)}
		ready.sort(key=lambda one: (order.get(one.member.person, len(order)), one.rank, one.member.id))
		return ready[:MOST_STANDBYS]

	def on_message(self, member: Member, message: Json) -> None:
		"""What a member says of it; its rights are checked. Refused where it cannot be."""
		address = member.address
		volunteer, heir = self._volunteers.get(member.id), self._volunteers.get(message.get("to", 0))
		match message["type"]:
			case "stand_by":
				self._chosen = [*dict.fromkeys([*self._chosen, member.person])]
				if volunteer:
					self._became(volunteer, volunteer.state)
			case "standing_by":
				self.left(member.id)
				if address.startswith("127."):  # others need another way
					address = self._server.place()["address"]
				server = {key: message[key] for key in ("fingerprint", "port")}
				server |= {"name": member.name, "address": address}
				if message["port"]:
					self._volunteers[member.id] = Volunteer(member, server, message["rank"])
			case "record":
				self._on_record(message)
			case "hand_over":
				if heir not in self._standbys():
					raise Refused("no_such_person")
				self._heir, self._signed_at = message["to"], monotonic()
				self._wanted = None
				self.have_signed()
				self._pass_on()
			case "serving" if volunteer and member.id == self._heir:
				self.give_way(volunteer.server, self._room.epoch + self._place_of(volunteer.server))
			case "line" if volunteer and volunteer.state == "ready":
				line, here = RoomLine.read(message), self._room
				said = [self._server.sessions[one.id] for one in here if looks(one.name) & looks(line.sender)]
				late, epoch = monotonic() - 3, (line.n >> LINE_SHIFT) + 1
				if all(one.heard < late or one.hello.get("epoch", 1) == epoch for one in said):
					self._server.apply(self._room.chat.unite(line))

	def _pass_on(self) -> None:
		if heir := self._volunteers.get(self._heir):
			epoch = self._room.epoch + self._place_of(heir.server)
			if monotonic() - self._signed_at > 0.5 and epoch > self._room.epoch:
				self._tell(self._heir, "serve", epoch=epoch)
			else:
				self._server.loop.later(0.25, self._pass_on)

	def left(self, ident: int) -> None:
		"""A member stands by no longer."""
		self._volunteers.pop(ident, None)
		self.have_signed()

	def tick(self, now: float) -> None:
		"""Once in a while."""
		due = [one for one in self._volunteers.values() if now - one.probed > PROBE_EVERY]
		for one in due:
			one.probed = now
		if due:
			self._ask([one.server for one in due], self._reached)
		others = self._others()
		if self.serving and others and not self._hosts() and now - self._looked > LOOK_EVERY:
			self._looked = now
			self._ask(others, self._compare)

	def _ask(self, servers: list[Json], done: Callable[[Probed], None]) -> None:
		meeting, bind = self.record.get("meeting", self._room.meeting), self._options.bind

		def run(_: Worker) -> None:
			self._server.loop.post(partial(done, probe_servers(servers, meeting, bind)))

		Worker("succession", run).start()

	def _reached(self, found: Probed) -> None:
		for server, answer in found:
			for one in [one for one in self._volunteers.values() if one.server is server]:
				self._became(one, "ready" if answer.get("udp") and "serving" in answer else "unreachable")

	def _became(self, volunteer: Volunteer, state: str) -> None:
		fresh, volunteer.state = state == "ready" != volunteer.state, state
		name = self._room.names.name_of(volunteer.member.person)
		self._server.apply([self._room.tell_hosts("stand_by", name=name, state=state or "asked")])
		if fresh:
			self.copy([Keep(part, records) for part, (_, records) in self._room.parts().items()], volunteer)
		self.have_signed()

	def copy(self, changes: Sequence[Keep], *to: Volunteer) -> None:
		"""Tell the standbys what has changed, a record a line: all may be too long for one."""
		for one in to or self._standbys():
			for part, keys in changes:
				for key in keys:
					state = self._room.copy(one.server["fingerprint"], monotonic(), part, key)
					self._tell(one.member.id, "copy", state=state)

	def have_signed(self) -> None:
		"""Have the host sign who goes on, where that has changed."""
		place = self._server.place()
		own = {key: place[key] for key in ("fingerprint", "address", "port")} | {"name": self._room.served_by}
		name_of = self._room.names.name_of
		servers = [own, *({**one.server, "name": name_of(one.member.person)} for one in self._standbys())]
		hosts, old = self._hosts()[:1], self._wanted
		due = servers[1:] or self.record or old
		if self.serving and hosts and due and (hosts, servers) != old:
			self._wanted = hosts, servers
			self._tell(hosts[0], "sign", servers=servers)

	def _on_record(self, message: Json) -> None:
		record = read_record(message, self._options.host_key)
		if (record["meeting"], record["epoch"]) != (self._room.meeting, self._room.epoch):
			raise PeerFault("record", "of another server")
		self.take(message)
		self._room.classroom.set.signed = self.signed
		told = self._room.tell_all("record", **self.signed)
		self._server.apply([Keep("settings", [1]), told])

	# -- between servers

	def _place_of(self, server: Json) -> int:
		"""0 is the server that the record was signed for."""
		places = servers_of(self.record)
		return places.index(server["fingerprint"]) if server["fingerprint"] in places else 0

	def _others(self) -> list[Json]:
		own = self._own["fingerprint"]
		return [one for one in self.record.get("servers", ()) if one["fingerprint"] != own]

	def alive(self, meeting: str) -> Json:
		"""What another server of the meeting is told."""
		told = {"epoch": self._room.epoch, "linked": self._linked, "hosted": bool(self._hosts())}
		return {"type": "alive", **told, "serving": self.serving and meeting == self._room.meeting}

	def _rank(self, server: Json, answer: Json) -> tuple[bool, int, int]:
		"""Of several the one with the host goes on, then that of the higher epoch, then the earlier."""
		return answer["hosted"], answer["epoch"], -self._place_of(server)

	def _compare(self, found: Probed) -> None:
		serving = [one for one in found if one[1].get("serving")]
		if self.serving and serving and not self._hosts():
			best, answer = max(serving, key=lambda one: self._rank(*one))
			if self._rank(best, answer) > self._rank(self._own, self.alive(self._room.meeting)):
				self.give_way(best, answer["epoch"])

	def give_way(self, server: Json, epoch: int) -> None:
		"""Send everyone to another server of the meeting."""
		own, lines = self._room.epoch - 1, self._room.chat.lines.values()
		said = [one.message() for one in lines if one.n >> LINE_SHIFT == own and not one.between]
		self.serving, self._heir, self._last = False, 0, self._room.epoch
		self._volunteers.clear()
		self._server.tell_parent({"event": "gave_way", "lines": said})
		self._server.dismiss({"type": "moved", "server": server, "epoch": epoch})

	# -- while it does not

	def obey(self, order: Json) -> None:
		"""What the program of this standby tells it."""
		match order["do"]:
			case "copy":
				fold(self._copy, order["state"])
				self._copied = monotonic()
			case "record":
				self.take(order)
			case "linked":
				self._linked, self._last = order["on"], max(self._last, order["epoch"])
			case "serve":
				self._serve(order["epoch"])
				self._server.tell_parent({"event": "serves"})

	def hold(self, session: ControlSession, hello: Json) -> bool:
		"""Whether who says hello waits until it is known who serves."""
		if not self.serving:
			if not self._asking:
				self._ask(self._others(), self._decide)
			self._asking[session] = hello
		return not self.serving

	def _decide(self, found: Probed) -> None:
		asking, self._asking = self._asking, {}
		serves, alive, own = None, False, self._place_of(self._own)
		for server, answer in found:
			if answer.get("serving") and self._place_of(server):
				serves = {"server": server, "epoch": answer["epoch"]}
			alive |= answer.get("linked", False) or answer.get("serving", False)
			alive |= not self._place_of(server) and answer.keys() == {"udp"}
		if not alive and own and self._copy:
			self._serve(self._last + own)
		for session, hello in asking.items():
			if session.link.closed:
				continue
			self._server.half_open.leave(session.link.evict)
			if self.serving:
				self._server.lobby.welcome(session, hello)
			elif serves:
				session.end("moved", **serves)
			else:
				self._server.lobby.deny(session, "host_alive")

	def _serve(self, epoch: int) -> None:
		if not self.serving:
			self._room.inherit(self._copy, epoch, self._options.standby, monotonic(), self._copied)
			self.serving = True
			self._server.appear()


class Lobby:
	"""Where a connection waits until it has said who it is and, where there is one, proved the PIN.

	Everything on the control loop's thread. The arithmetic of SPAKE2 takes 7 ms a step there, which counts
	as the time of who wants it; a thread of its own would wait for the interpreter as long.
	"""

	MOST_WAITING = 32
	PATIENCE = 70.0  # failures count for 60 s

	def __init__(self, server: ConferenceServer):
		self._server, self._room, self._options = server, server.room, server.options
		self._loop = server.loop
		self._fingerprint = server.identity.fingerprint
		self._gate = PinGate()
		self._waiting: dict[int, ControlSession] = {}
		self._asks = 0
		self._asking = TokenBucket(self.MOST_WAITING, 8)
		self._arrivals = KeyedBuckets(*ARRIVALS)

	@property
	def pin(self) -> str:
		"""The one that holds now, or ""."""
		return self._room.classroom.set.pin or self._options.pin

	def on_message(self, session: ControlSession, message: Json, line: bytes) -> None:
		"""A message of someone who is not in yet; PeerFault when it is out of order."""
		kind = message["type"]
		if kind not in STAGES[session.stage]:
			raise PeerFault("unexpected_message", kind)
		if kind in ("hello", "pin"):
			session.transcript.append(line + b"\n")
		getattr(self, f"_on_{kind}")(session, message)

	def deny(self, session: ControlSession, code: str, **values: Any) -> None:
		"""Turn someone away."""
		self._give_back(session)
		session.end("denied", code=code, **values)

	def forget(self, session: ControlSession) -> None:
		"""It waits no longer."""
		self._give_back(session)
		if self._waiting.pop(session.ask, None):
			self._server.tell_hosts("ask_gone", ask=session.ask)

	def _give_back(self, session: ControlSession) -> None:
		if session.tries:
			session.tries = False
			self._gate.give_back(session.address)

	def open_door(self) -> None:
		"""Who knocks comes in."""
		for ask in [ask for ask, session in self._waiting.items() if session.why == "knock"]:
			self.settle(ask, True)

	def move_on(self) -> None:
		"""Another server serves: who waits here is told so, and looks for it."""
		for session in [*self._waiting.values()]:
			self.forget(session)
			self._at_door(session)

	def settle(self, ask: int, welcome: bool) -> None:
		"""The host lets in, or turns away, who has waited; Refused where nobody does."""
		if (session := self._waiting.get(ask)) is None or session.stage != "waiting":
			raise Refused("no_such_person")
		self.forget(session)
		session.let_in = welcome
		if welcome and session.why != "knock" and session.hello.get("pin") and self.pin:
			self._begin_proof(session)  # it takes no host that does not prove the PIN
		elif welcome:
			self._at_door(session)
		else:
			self.deny(session, "not_allowed", why="turned_away")

	def _on_probe(self, session: ControlSession, probe: Json) -> None:
		session.end(**self._server.succession.alive(probe["meeting"]))

	def _on_hello(self, session: ControlSession, hello: Json) -> None:
		if not self._arrivals.take(session.address, monotonic()):
			self.deny(session, "not_allowed", why="hurry")
		elif not self._server.succession.hold(session, hello):
			self.welcome(session, hello)

	def welcome(self, session: ControlSession, hello: Json) -> None:
		"""Go on with who has said hello."""
		session.hello = hello
		hosted = any(member.role == "host" for member in self._room)
		if self._options.host_key and hello.get("host") == self._options.host_key:
			session.become("prove")
			session.right = {
				"epoch": self._room.epoch,
				"id": self._room.next_id(hello.get("resume")),
				"nonce": token_hex(32),
			}
			session.send("prove", meeting=self._room.meeting, **session.right)
		elif hello.get("epoch", 1) > self._room.epoch and not hosted:
			self.deny(session, "stale")  # it has been in the meeting elsewhere since
		else:
			self._enter(session, hello)

	def _on_proof(self, session: ControlSession, proof: Json) -> None:
		session.right["signature"] = proof["signature"]
		if is_host(self._options.host_key, self._room.meeting, self._fingerprint, session.right):
			self._enter(session, session.hello)
		else:
			self.deny(session, "not_allowed")

	def _enter(self, session: ControlSession, hello: Json) -> None:
		"""Let in whoever may come in at once; others have to prove the PIN or to wait for the host."""
		token = hello.get("resume")
		barred = "" if session.host else self._room.names.barred(session.address, token)
		trusted = session.host or getattr(self._room.names.holder(token), "passed", False)
		spared = self._room.names.claim(token, monotonic())[1] or (trusted and not hello.get("pin"))
		if barred == "removed":
			self.deny(session, "not_allowed", why="removed")
		elif not self._has_room(session):
			self.deny(session, "full")
		elif barred:
			session.why = "removed"
			self._queue(session)
		elif spared or not self.pin:
			self._at_door(session)
		elif hello.get("pin") is False:  # no try at it
			self.deny(session, "pin_required")
		elif session.host:  # it wants to see who answers; nobody's attempts may keep it out
			self._begin_proof(session)
		else:
			self._ask_pin(session)

	def _at_door(self, session: ControlSession) -> None:
		"""In, if the door is open; who comes back or was let in does not knock."""
		door = self._room.classroom.set.door
		known = self._room.names.holder(session.hello.get("resume"))
		if not self._server.succession.serving:  # meanwhile
			self.deny(session, "moved")
		elif not self._has_room(session):  # others came meanwhile
			self.deny(session, "full")
		elif door == "open" or session.host or session.let_in or known:
			self._server.admit(session)
		elif door == "locked":
			self.deny(session, "locked")
		else:
			session.why = "knock"
			self._queue(session)

	def _has_room(self, session: ControlSession) -> bool:
		now, members = monotonic(), self._room.members
		_, kept = self._room.names.claim(session.hello.get("resume"), now)
		if kept or session.host:
			return kept or len(members) < MAX_PEOPLE
		most = MAX_PEOPLE - all(member.role != "host" for member in members.values())
		if len(members) < most:
			self._room.names.give_way(now, most - 1)
		return len(members) < most

	def _ask_pin(self, session: ControlSession) -> None:
		if session.link.closed or session.stage not in ("hello", "waiting"):
			return
		if self._gate.take(session.address, monotonic()):
			self.forget(session)
			session.tries = True
			self._begin_proof(session)
			return
		if session.stage != "waiting":
			self._queue(session)
		elif monotonic() - session.heard > self.PATIENCE:
			self.forget(session)
			self.deny(session, "wrong_pin", why="many")
			return
		self._loop.later(0.2, lambda: self._ask_pin(session))

	def _begin_proof(self, session: ControlSession) -> None:
		session.become("pin")
		session.proof = PinProof(self.pin, self._fingerprint, host=True)
		self._loop.later(HANDSHAKE_SECONDS, lambda: self._too_late(session))
		session.send("pin", message=session.proof.message.hex())

	def _queue(self, session: ControlSession) -> None:
		if len(self._waiting) >= self.MOST_WAITING:
			waiting = {ask: one.address for ask, one in self._waiting.items()}
			loser = self._waiting.get(makes_way(waiting, session.address) or 0, session)
			self.forget(loser)
			self.deny(loser, "wrong_pin", why="many")
			if loser is session:
				return
		self._asks += 1
		session.become("waiting")
		session.ask = self._asks
		self._waiting[session.ask] = session
		if session.why != "pin":
			session.send("waiting")
		if self._asking.take(monotonic()):
			self._server.tell_hosts(**self._asks_of(session))

	def waiting(self) -> list[Json]:
		return [self._asks_of(session) for session in self._waiting.values()]

	def _asks_of(self, session: ControlSession) -> Json:
		name, address = clean_name(session.hello["name"]), session.address
		return {"type": "asks", "ask": session.ask, "name": name, "address": address, "why": session.why}

	def _too_late(self, session: ControlSession) -> None:
		if session.stage in ("pin", "confirm"):
			self.deny(session, "wrong_pin", why="late")

	def _on_pin(self, session: ControlSession, message: Json) -> None:
		session.become("confirm")
		with suppress(PeerFault):  # an attempt that failed shows at its confirmation
			cast(PinProof, session.proof).finish(
				bytes.fromhex(message["message"]), b"".join(session.transcript)
			)

	def _on_pin_proof(self, session: ControlSession, message: Json) -> None:
		answer = None
		with suppress(PeerFault):
			answer = cast(PinProof, session.proof).confirm(bytes.fromhex(message["mac"]))
		if answer is None:
			session.tries = False  # it was a guess
			self._loop.counters.add("wrong_pin")
			self.deny(session, "wrong_pin")
			return
		self._give_back(session)
		session.send("pin_proof", mac=answer.hex())
		self._at_door(session)


class ServerMedia:
	"""The media of the server: pictures forwarded by a thread, sound mixed by a process. Loop's thread."""

	def __init__(self, server: ConferenceServer):
		self._server, self._room, self._loop = server, server.room, server.loop
		self._port: UdpPort | None = None
		self.mixer = ChildKeeper(
			"mixer", ["--mixer"], {}, self._on_mixer, lambda: cast(UdpPort, self._port).socket,
			gave_up=server.fail,
		)  # fmt: skip
		self.relay: VideoRelay | None = None
		self.report: Json = {}  # the mixer's

	def bind(self, host: str, ports: Ports) -> None:
		"""Take both UDP ports; Refused when one is taken. Any thread."""
		self.relay = VideoRelay((host, ports.video), self._loop.counters)
		self._port = udp_port((host, ports.audio), self._loop.counters, LEFT_MIXER_SECONDS, sound=True)

	def start(self) -> None:
		"""Start the thread and the process. Any thread."""
		self.mixer.start()
		cast(VideoRelay, self.relay).loop.start()
		self._loop.every(0.5, self._weigh)
		self._loop.every(1.0, self.mixer.look)

	def close(self, deadline: float) -> None:
		"""End both, and free the ports; may be called twice. Any thread."""
		self.mixer.close(deadline)
		if self.relay:
			self.relay.loop.close(1.0)
		if self._port:
			self._port.close()
		log.info("the mixer at the end: %s", self.report)

	def _to_relay(self, call: Callable[[VideoRelay], None]) -> None:
		if relay := self.relay:
			relay.loop.post(lambda: call(relay))

	def add(self, ident: int) -> Json:
		"""Take in a member; its keys."""
		up, down = token_bytes(16), token_bytes(16)
		self._to_relay(lambda relay: relay.add(ident, up, down))
		sound = {f"audio_{way}": key for way, key in self._add_sound(ident).items()}
		return {"video_up": up.hex(), "video_down": down.hex(), **sound}

	def _add_sound(self, ident: int) -> Json:
		keys = {"up": token_hex(16), "down": token_hex(16)}
		pairs = "sound_pairs" in self._room.members[ident].features
		self.mixer.tell("add", id=ident, pairs=pairs, **keys)
		return keys

	def remove(self, ident: int) -> None:
		"""A member is gone."""
		self.mixer.tell("remove", id=ident)
		self._to_relay(lambda relay: relay.remove(ident))

	def bring_all(self) -> None:
		"""There is a new mixer: it needs everyone, under new keys."""
		for member in self._room:
			self._server.apply([member.told("audio_keys", **self._add_sound(member.id))])
			self.mixer.tell("mute", id=member.id, on=not member.mic)
		self.mixer.tell(**self._room.classroom.grouped)

	def _on_mixer(self, report: Json) -> None:
		match report["event"]:
			case "ready":
				self._loop.post(self.bring_all)
			case "room" | "listen":
				self._loop.post(lambda: self._server.apply(self._room.classroom.note_found(report)))
			case "loudest":
				self._loop.post(lambda: self._hear(report["id"]))
			case _:
				if (late := report["late_ticks"]) != self.report.get("late_ticks", 0):
					log.info("the mixer was late by more than a tick %d times so far", late)
				self.report = report

	def _hear(self, loudest: int) -> None:
		self._to_relay(lambda relay: relay.put_first(loudest))
		self._server.apply([*self._room.streams.allocator.set_active_speaker(loudest, monotonic())])

	def _weigh(self) -> None:
		def tell(relay: VideoRelay) -> None:
			weigh, dropped = self._room.streams.allocator.update_sizes, relay.loop.port.dropped
			told = dict(relay.sizes), relay.received()
			self._loop.post(lambda: self._server.apply([*weigh(*told, monotonic(), dropped)]))

		self._to_relay(tell)

	def follow(self, effect: Reroute | SetRate | ToMixer) -> None:
		"""Do what the room has decided."""
		match effect:
			case ToMixer():
				self.mixer.tell(**effect.order)
			case Reroute():
				routes = self._room.streams.allocator.routes(effect.sender)
				self._to_relay(lambda relay: relay.route(effect.sender, routes))
			case SetRate():
				self._to_relay(lambda relay: relay.limit(effect))


@entity
class Keeper:
	"""Brings a room over the death of its server, by a journal on a thread of its own.

	A meeting goes on that was alive within the last 10 minutes. The control thread waits for a disk that is
	quick, for a tenth of its time at most, so that what anyone was told is kept. What a slow one missed is
	kept once it is free. `loop` is the control thread's.
	"""

	PATIENCE = 0.1  # s that control waits for the disk, which is quicker even on a busy machine
	MOST = 8  # records that wait for it
	ALIVE_SECONDS = 20.0  # at least so often it says that it is

	_room: Room
	_journal: Journal
	_loop: Loop

	def __post_init__(self) -> None:
		self._disk = Loop("journal", self._loop.counters)
		self._written = threading.Event()  # what was kept last
		self._places = threading.Semaphore(self.MOST)
		self._missed = False  # something while there was none
		self._kept = self._waits_at = 0.0

	def start(self) -> None:
		"""Go on with the meeting that the journal holds, if there is one, or begin one."""
		now, state = monotonic(), self._journal.read()
		away = max(0.0, time.time() - state.get("clock", 0.0))  # who knows, where the clock was set back
		if away <= RESUME_SECONDS:
			self._room.load(state, now - away)
			self._room.outlive(now)
			log.warning("the meeting goes on after %.0f s without its server", away)
		self._journal.write(self._room.export(now, clock=time.time()))
		self._disk.start()

	def keep(self, *changes: Keep) -> None:
		"""Keep what has changed or, without that, that the meeting is alive."""
		if not self._places.acquire(blocking=False):  # all of it, once the disk has done what it was given
			self._missed = True
			return
		whole = self._missed or (not changes and (self._journal.full or self._journal.lost))
		self._missed, self._kept, self._written = False, monotonic(), threading.Event()
		parts = () if whole else changes or [Keep("lines", ())]
		state = self._room.export(self._kept, *parts, clock=time.time())
		write = self._journal.write if whole else self._journal.append
		self._disk.post(partial(self._keep, write, state, self._written))
		if changes and (began := monotonic()) >= self._waits_at:
			self._written.wait(self.PATIENCE)
			self._waits_at = 10 * monotonic() - 9 * began

	def _keep(self, write: Callable[[Json], None], state: Json, written: threading.Event) -> None:
		write(state)
		written.set()
		self._places.release()
		if self._missed:
			self._loop.post(self.tick)

	def tick(self) -> None:
		"""Once in a while."""
		if self._missed or self._journal.full or monotonic() - self._kept > self.ALIVE_SECONDS:
			self.keep()

	def close(self) -> None:
		"""The meeting is over: nothing of it stays."""
		self._disk.close(5.0)
		self._journal.delete()


class ConferenceServer:
	"""The meeting's server: the acceptor, the control plane and the planes' own parts.

	The room is changed by the loop's thread alone.
	"""

	def __init__(self, options: ServerOptions, identity: Identity):
		self.options, self.identity = options, identity
		self.ports = Ports.at(options.base)
		self.counters = Counters()
		self.room = Room(options.title, options.host_name, token_hex(16), token_hex)
		self.room.shelf.limits, self.room.began = options, monotonic()
		facts = options.title, options.host_name, options.pin
		journal = Journal(identity, options.base, options.bind, *facts, *self.room.form())
		self.loop = Loop("control", self.counters)
		keeper = Keeper(self.room, journal, self.loop)
		self._keeper = None if options.standby else keeper
		self._pin_mark = journal.mark(options.pin)
		self._running = RunningMeeting(identity.path.parent)
		self._alone: bool | None = None  # as kept there
		self._orphan: Orphan | None = None
		self.over = threading.Event()
		self.why = "over"  # a code of REFUSALS; no_mixer where it cannot go on
		self._context = server_context(identity)

		self.sessions: dict[int, ControlSession] = {}
		self.tell_parent: Say = lambda told: None
		self.half_open = HalfOpen(self.counters)
		self._warnings = KeyedBuckets(1, 1 / 60)  # a repeated fault is logged once a minute
		self.succession, self.lobby = Succession(self), Lobby(self)
		self._screen = ScreenShareManager(
			self.loop, self._context, self.half_open, self._claim_screen,
			lambda ident: self.apply(self.room.planes.share_stop(ident)),
		)  # fmt: skip
		here = self._context, identity.path.parent
		self._files = FileStore(self.room, self.loop, self.half_open, self.apply, *here)
		self.media = ServerMedia(self)
		self.tried: tuple[str, ...] = ()  # who connected and did not come in, the newest last
		self._acceptor = Acceptor(self.counters)
		self._responder = DiscoveryResponder(self._describe, options.bind, self.counters)

	def start(self) -> None:
		"""Bind every port, then start every thread; Refused when a port is taken."""
		host, ports, listen = self.options.bind or "0.0.0.0", self.ports, self._acceptor.listen
		try:
			control = listen_tcp((host, ports.control), MAX_LINE)
			listen(control, lambda *at: self.loop.post(partial(self._open_session, *at)))
			listen(listen_tcp((host, ports.screen)), self._screen.accept)
			listen(listen_tcp((host, ports.files)), self._files.begin)
			self.media.bind(host, ports)
		except Refused:
			self._acceptor.close()
			self.media.close(0.0)
			raise
		if self._keeper:
			self._keeper.start()
		with suppress(PeerFault):
			self.succession.take(self.room.classroom.set.signed)
		if self.options.pin:
			importlib.import_module("spake2")  # a missing package is said now
		self._note_running()
		self._files.start()
		self.media.start()
		self.loop.start()
		self.loop.every(0.5, self._on_tick)
		self._acceptor.start()
		if not self.options.standby:
			self._responder.start()

	def appear(self) -> None:
		"""A standby serves from now on, and can be found."""
		self._responder = DiscoveryResponder(self._describe, self.options.bind, self.counters)
		self._responder.start()

	def dismiss(self, message: Json) -> None:
		"""Send everyone away with a last `message`, and be found no more."""
		self._responder.close(0.5)
		for session in [*self.sessions.values()]:
			session.end(**message)
			self._forget(session.id)
		self.lobby.move_on()

	def close(self, deadline: float = 5.0) -> None:
		"""Tell everyone why, then end everything within `deadline`; may be called twice."""
		self._responder.close(0.5)
		self.loop.post(self._say_goodbye)
		self._acceptor.close(1.0)
		self._files.close()
		self.loop.close(deadline / 2)
		self.media.close(deadline / 2)
		if self._keeper:
			self._keeper.close()
		self._running.close()
		log.info("dropped and counted: %s", self.counters.snapshot())
		self.over.set()

	def abandon(self) -> None:
		"""The host's program is gone and said nothing of an end; from any thread."""
		if self.options.orphan_seconds <= 0:
			self.over.set()
			return
		log.warning("the host's program is gone; the meeting goes on")
		let_go_of_output(1, 2)
		self.media.mixer.tell("alone")
		self._orphan = Orphan(self.options.orphan_seconds, monotonic())

	def _note_running(self) -> None:
		alone = bool(self._orphan and self._orphan.alone)
		if self.options.orphan_seconds <= 0 or alone == self._alone:
			return
		facts = {"meeting": self.room.meeting, "bind": self.options.bind, "pin": self._pin_mark}
		if self._running.keep({**self.place(), **facts, "alone": alone}):
			self._alone = alone

	def _say_goodbye(self) -> None:
		for session in [*self.sessions.values()]:
			if self.options.standby and not self.over.is_set():  # the meeting goes on at the next one
				session.link.discard("over")
			else:
				session.end("ended", code=self.why)

	def place(self) -> Json:
		"""Where the meeting is, as the event `serving` says it."""
		address = self.options.bind or next((one.address for one in plausible_interfaces()), "127.0.0.1")
		facts = {"title": self.room.title, "fingerprint": self.identity.fingerprint}
		return {"address": address, "port": self.ports.control, **facts}

	def _describe(self) -> Json:
		room, people = self.room, min(len(self.room.members), MAX_PEOPLE)
		mine = (room.meeting, room.title, room.host, self.ports.control, people, bool(self.lobby.pin))
		servers = self.succession.record.get("servers", ())
		first = servers[0]["fingerprint"] if self.options.standby and servers else ""
		locked = room.classroom.set.door == "locked"
		return Ad(*mine, locked, self.identity.fingerprint, stands_for=first).message()

	def _open_session(self, sock: Socket, address: str) -> None:
		link = TlsLink(self.loop, sock, self._context, server=True)
		session = ControlSession(link, address, heard=monotonic())
		link.on_bytes = partial(self._on_bytes, session)
		# By post: a departure is told to others, whose dead links are found then; a hundred would nest.
		link.on_close = lambda reason: self.loop.post(lambda: self._closed(session, reason))
		link.limit = MAX_LINE
		self.half_open.begin(link, address)

	def _on_bytes(self, session: ControlSession, data: bytes) -> None:
		if not session.octets.take(monotonic(), max(len(data), LEAST_READ)):
			raise PeerFault("flood", "octets")
		if "" in STAGES[session.stage]:  # nobody asked it anything
			raise PeerFault("flood", "before the welcome")
		for line in session.lines.push(data):
			session.heard = monotonic()
			if not session.pace.take(session.heard):
				raise PeerFault("flood", "lines")
			said: Json = {}
			try:
				if sum(map(line.count, b",[{")) > MOST_VALUES:  # parsing these costs a hundred times as much
					raise PeerFault("bad_json", "too many values")
				said = parse_json(line)
				if session.stage == "hello":
					check_version(said)
				message = check_message(said, CLIENT_MESSAGES)
				if session.stage == "in":
					self.apply(self.room.handle(session.id, message, session.heard, time.time()))
				else:
					self.lobby.on_message(session, message, line)
					if session.stage not in ("hello", "prove"):
						self.half_open.leave(session.link.evict)
			except PeerFault as fault:
				self._on_fault(session, fault, said)
			except Refused as refused:
				self._refuse(session, refused, said)
			if session.link.closed or session.stage == "over":
				return

	def _on_fault(self, session: ControlSession, fault: PeerFault, said: Json) -> None:
		self.counters.add(fault.kind)
		if self._warnings.take((session.address, fault.kind), session.heard):
			log.warning("dropped from %s: %s", session.address, fault)
		if fault.kind != UNKNOWN or (session.stage == "in" and "ref" in said):  # of a later version
			self._refuse(session, fault.refused, said)

	def _refuse(self, session: ControlSession, refused: Refused, said: Json) -> None:
		if session.stage == "in":
			with suppress(PeerFault):
				session.send("error", **refused.told, **_shaped(said, {"ref?": _COUNT}))
		else:
			self.lobby.deny(session, **refused.told)

	def tell_hosts(self, type: str, **members: Any) -> None:
		"""Send hosts and co-hosts a message of that type."""
		self.apply([self.room.tell_hosts(type, **members)])

	def admit(self, session: ControlSession) -> None:
		"""Who waited in the lobby is in the meeting."""
		hello = session.hello
		resume, features = hello.get("resume"), hello.get("features", ())
		role = "host" if session.host or self.succession.delegates(resume) else "member"
		who = hello["name"], role, session.address, resume
		member, token, effects = self.room.join(*who, monotonic(), session.right, features)
		session.become("in")
		session.id = member.id
		session.link.flow = ("in", session.address, member.id)
		self.tried = tuple(one for one in self.tried if one != session.address)
		session.link.limit = LINK_QUEUE
		session.proof, session.transcript = None, []
		self.apply(effects)  # kept before it is told
		self.sessions[member.id] = session
		keys = self.media.add(member.id)
		welcome = {**self.room.welcome(member), **keys, "resume": token, "features": FEATURES}
		welcome["lasted"] = self.room.lasted(now := monotonic())
		if self.options.host_key:
			welcome["host_key"] = self.options.host_key
		if self.succession.signed:
			welcome["record"] = self.succession.signed
		if role == "host":
			welcome["pin"] = self.lobby.pin
		session.welcome(welcome)
		for message in self.room.classroom.greeting(member, now):
			session.send(**message)
		self._tell_leader(member)
		self.succession.have_signed()
		log.info("%s (%d, %s) has joined from %s", member.name, member.id, role, session.address)

	def _tell_leader(self, member: Member) -> None:
		"""What only hosts and co-hosts are told, once they are."""
		pin = {"type": "new_pin", "pin": self.lobby.pin}
		for message in (self.room.banned(), pin, *self.lobby.waiting()) if member.leads else ():
			self.sessions[member.id].send(**message)

	def _closed(self, session: ControlSession, reason: str) -> None:
		if not session.id and reason != "alive":
			self.tried = (*(one for one in self.tried if one != session.address), session.address)[-64:]
		self.lobby.forget(session)
		if session.stage == "in":
			session.become("over")
			log.info("the link to member %d is lost: %s", session.id, reason)
			self._forget(session.id)

	def _forget(self, ident: int) -> None:
		self.apply(self.room.leave(ident, "lost", monotonic()))  # who was sent out has left
		self.sessions.pop(ident, None)
		self.succession.left(ident)
		self._files.forget(ident)
		self.media.remove(ident)
		self._screen.drop(ident, "presenter", "viewer")

	def _on_tick(self) -> None:
		now = monotonic()
		if self._keeper:
			self._keeper.tick()
		self.succession.tick(now)
		self.apply(self.room.tick(now))
		if self._orphan:
			self.apply(self._orphan.step(self.room.members, now))
		if self._orphan and self._alone is not None and not self._running.path.exists():
			self.over.set()  # as `--end` asks
		else:
			self._note_running()  # again where somebody just looked whether a meeting runs
		self._files.tick()
		for session in list(self.sessions.values()):
			if now - session.heard > SILENT_SECONDS:
				session.link.discard("silent")

	def apply(self, effects: Effects) -> None:
		"""Do what the room has decided, in order."""
		if changes := [effect for effect in effects if isinstance(effect, Keep)]:
			if self._keeper:
				self._keeper.keep(*changes)
			self.succession.copy(changes)
		for effect in effects:
			match effect:
				case Tell():
					self._tell(effect)
				case Reroute() | SetRate() | ToMixer():
					self.media.follow(effect)
				case Expel():
					self._expel(effect)
				case Admit(ask=0):
					self.lobby.open_door()
				case Admit():
					self.lobby.settle(effect.ask, effect.on)
				case Promoted():
					self._tell_leader(self.room.members[effect.id])
				case MeetingOver():
					self.why = effect.code
					self.over.set()
				case Succeed():
					self.succession.on_message(self.room.members[effect.id], effect.message)
				case ShareStopped():
					self._screen.drop(effect.id, "presenter")
				case FileGone():
					self._files.remove(effect.file)

	def _tell(self, effect: Tell) -> None:
		line = encode_line(effect.message)
		for ident in effect.to:
			if (session := self.sessions.get(ident)) and session.stage == "in":
				session.link.send(line)

	def _expel(self, effect: Expel) -> None:
		if session := self.sessions.get(effect.id):
			log.info("member %d is out: %s", effect.id, effect.message.get("type", "left"))
			session.end(**effect.message)
			self._forget(effect.id)

	def _claim_screen(self, role: str, ticket: str) -> int:
		try:
			found = self.room.planes.redeem(ticket, "screen", monotonic())
			if found.direction != role:
				raise PeerFault("bad_ticket", role)
		except PeerFault as fault:
			self.counters.add(fault.kind)
			raise fault.refused from None
		if role == "presenter":
			self.apply(self.room.planes.share_start(found.member))
		return found.member

	def fail(self) -> None:
		"""Sound cannot be mixed: end."""
		self.why = "no_mixer"
		self.over.set()


def free_base(host: str, base: int) -> int:
	"""The next base, from that one on, of ports that a standby can have."""
	for other in range(base, base + 90, 3):
		with suppress(Refused):
			listen_tcp((host, other)).close()
			return other
	return base


def serve(server: ConferenceServer, stop: threading.Event, say: Say) -> None:
	"""Run `server` until `stop` or its end; says `serving` once all ports listen.

	A parent alone is told {event "tried", addresses} of who did not come in, when that changes.
	"""
	server.start()
	told: Sequence[str] = ()
	try:
		say({"event": "serving", "time": time.time(), **server.place()})
		while not stop.is_set() and not server.over.wait(0.2):
			if told != server.tried:
				told = server.tried
				server.tell_parent({"event": "tried", "addresses": told})
	finally:
		server.close()


# ====
# [19] CLIENT MEDIA - one path a UDP plane: capturing, encoding, sending, receiving, decoding, playing
# Uses: BASICS, WIRE, AUDIO, VIDEO, BANDWIDTH, CALL, LINKS, DEVICES, STAND-INS
RATE_SECONDS = 2.0
SOUNDS = ("clear", "original")
JPEG_QUALITY = 72
SPARING_QUALITY = 65  # of large pictures, at SPARING_FPS or less: where many share a network
COARSE_QUALITY = 45  # two thirds of the bytes
WHOLE_SECONDS = 1.0  # from one whole picture to the next, with patches of it in between
WEBP_SECONDS, WEBP_SLOW = 0.003, 0.05  # to code a small picture, and the share that may take longer
CAMERA_FPS = 30
PREVIEW_LAYER = 2  # as large as the own preview is shown
GLANCE_SECONDS = 0.4  # without a window a picture is looked at for its clock alone
CLOCKS_SHARED = 60.0  # a test card's delay beyond this means that two clocks differ


@dataclass
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
	teacher: str = ""  # the public key of who is the host, once it is known
	rights: Mapping[str, str] = field(default_factory=dict)  # by server, who has the host's
	standby: str = "auto"  # or yes, or no: whether this computer may serve
	stands_for: str = ""
	fingerprint: str = ""
	volume: float = 1.0
	sound: str = ""  # clear or original; else clear, but for a file or tone that is in no room
	talks_held: bool = False  # by holding a key
	given: set[str] = field(default_factory=set)  # what the command line said, which settings do not change
	decode_all: bool = False  # a window looks at every picture; without one, only what is asked for
	accept_changed: bool = False

	def at(self, plane: str) -> Address:
		return self.address, getattr(Ports.at(self.port), plane)

	@property
	def in_room(self) -> bool:
		"""Whether the microphone hears the room: no file or tone does."""
		return is_sound_card(self.mic) or self.mic.startswith("room:")

	@property
	def clear(self) -> bool:
		"""Whether echo and noise are taken out of the voice."""
		return self.sound == "clear" or (self.in_room and not self.sound)


class MediaPath:
	"""The client's end of one UDP plane: dials out, answers challenges, seals and opens.

	Its loop's thread does everything, but a device's thread seals and sends what it captured, under `lock`.
	"""

	FIRST_BINDS = (0.0, 0.1, 0.3)
	BIND_SECONDS = 5.0
	UNBOUND_SECONDS = 1.0  # while nothing answers: a mixer that has just begun may have missed the first

	def __init__(self, port: UdpPort, ident: int, up: str, down: str):
		self.port = port
		self.lock = threading.RLock()  # in between sealing and sending the keys must not change
		self.answered = -inf  # when a challenge last came
		self.rtt = 0.0  # seconds from the bind to it
		self.rekey(ident, up, down)

	def rekey(self, ident: int, up: str, down: str) -> None:
		"""New keys (hex), after a reconnect or for a new mixer; bound anew at once."""
		with self.lock:
			self.id = ident
			self.sealer = Sealer(bytes.fromhex(up))
		self.opener = Opener(bytes.fromhex(down))
		self._started = self._next_bind = self._bound = monotonic()
		self._binds = 0

	def bind_due(self, now: float) -> float:
		"""Send a bind if one is due; returns when the next is."""
		if now >= self._next_bind:
			self._binds += 1
			self._bound = now
			self.send_small(Kind.BIND, b"")
			pause = self.BIND_SECONDS if self.answered >= self._started else self.UNBOUND_SECONDS
			first = self.FIRST_BINDS[self._binds :]
			self._next_bind = self._started + first[0] if first else now + pause
		return self._next_bind

	def send_small(self, kind: Kind, payload: bytes) -> None:
		"""Send a small message, sealed."""
		with self.lock:
			self.port.send(self.sealer.small(kind, self.id, payload))

	def on_small(self, data: bytes, now: float) -> tuple[Kind, bytes]:
		"""Open a small message; a challenge is answered here. PeerFault when forged."""
		ident, number, _, kind = video_header(data)
		if ident != self.id or kind not in (Kind.CHALLENGE, Kind.NACK):
			raise PeerFault("unknown_kind")
		payload = self.opener.open(kind, ident, number, data[VIDEO_HEADER.size :])
		if kind == Kind.CHALLENGE:
			self.answered, self.rtt = now, now - self._bound
			self.send_small(Kind.ANSWER, payload)
		return Kind(kind), payload


class MediaPlane(ABC):
	"""A participant's end of one UDP plane; its `loop`'s thread does everything."""

	PLANE = "video"  # or audio
	loop: DatagramLoop

	def __init__(self, options: ClientOptions, welcome: Json, counters: Counters):
		self._options, self._counters = options, counters
		self.path = MediaPath(self._connected(), *self._keys(welcome))

	def _connected(self) -> UdpPort:
		bind, plane = (self._options.bind or "0.0.0.0", 0), self.PLANE
		return UdpPort(bind, self._counters, connect=self._options.at(plane), sound=plane == "audio")

	def _keys(self, welcome: Json) -> tuple[int, str, str]:
		return welcome["id"], welcome[f"{self.PLANE}_up"], welcome[f"{self.PLANE}_down"]

	def go_on(self, welcome: Json) -> None:
		"""After an interruption: the keys of another welcome, from where this machine is now. Own thread."""
		with self.path.lock:
			try:
				self.path.port = self._connected()  # the old one is tied to the address that this machine had
				self.loop.use(self.path.port)
			except OSError as error:
				log.warning("the old UDP socket is kept: %s", error)
			self.rekey(*self._keys(welcome))

	def rekey(self, ident: int, up: str, down: str) -> None:
		"""Keys of a reconnect or a new mixer: counts go on, numbers start anew. Own thread."""
		with self.path.lock:
			self.path.rekey(ident, up, down)
			self._start_anew()

	@abstractmethod
	def _start_anew(self) -> None:
		"""Forget what came with the keys before, but for its counts."""


class Motion:
	"""Tells a picture in which much moves from a calm one."""

	CHANGED = 24  # levels: beyond noise and coding
	LIVELY, CALM = 0.12, 0.06  # shares of the picture that change; in between it stays as it was

	def __init__(self) -> None:
		self.lively = False
		self._share = 0.0  # over the last second
		self._before = np.zeros((0, 0), np.int16)

	def look(self, picture: Picture) -> None:
		"""See the next picture, BGR."""
		seen = picture[::8, ::8, 1].astype(np.int16)
		if seen.shape == self._before.shape:
			changed = np.mean(np.abs(seen - self._before) > self.CHANGED)
			self._share += (float(changed) - self._share) / DEFAULT_FPS
			self.lively = self._share > (self.CALM if self.lively else self.LIVELY)
		self._before = seen


class Rates:
	"""What came over the last 2 s, and how long it was under way; any thread."""

	def __init__(self) -> None:
		self._rows = deque[tuple[float, int, float | None]]()  # when, bytes, seconds
		self._lock = Lock()

	def note(self, size: int, delay: float | None = None) -> None:
		"""So many bytes came, and were `delay` seconds under way where that is known."""
		with self._lock:
			self._rows.append((monotonic(), size, delay))
			self._forget()

	def look(self, picture: Picture) -> None:
		"""Note how old `picture` is, if it is a test card's."""
		delay = read_clock(picture, time.time())
		if delay is not None and 0.0 <= delay < CLOCKS_SHARED:
			self.note(0, delay)

	def told(self) -> tuple[float, Json]:
		"""How often a second something came, and members of `stats`; the delay is the median."""
		with self._lock:
			self._forget()
			rows = list(self._rows)
		known = sorted(delay for *_, delay in rows if delay is not None)
		latency = round(known[len(known) // 2] * 1e3, 1) if known else None
		kbps = round(sum(size for _, size, _ in rows) * 8 / 1000 / RATE_SECONDS)
		often = sum(size > 0 for _, size, _ in rows) / RATE_SECONDS
		return often, {"kbps": kbps, "latency_ms": latency}

	def _forget(self) -> None:
		while self._rows and self._rows[0][0] < monotonic() - RATE_SECONDS:
			self._rows.popleft()


class Stream:
	"""What is received of one sender: newest picture, rates, counts since joining."""

	def __init__(self) -> None:
		self.rates = Rates()
		self.newest = (0, b"", b"")  # how many came, the last one, coded, and the one that it may patch
		self.size = (0, 0)
		self.decoded = 0  # serial of the newest decoded picture
		self.picture: Picture | None = None
		self.motion = Motion()
		self.looked = -inf
		self.told_lost = 0  # pictures that a window was told of
		self.queued = False  # for the decoder, which takes what is newest when its turn comes

	def put(self, data: bytes, size: tuple[int, int]) -> None:
		"""A new picture, still coded."""
		whole = self.newest[2]
		if not data.startswith(PATCH):
			self.size, whole = size, data
		elif data[6:10] != hashlib.sha256(whole).digest()[:4]:
			raise PeerFault("patch")  # what it changes was lost
		self.newest = self.newest[0] + 1, data, whole
		self.rates.note(len(data))


class VideoPlane(MediaPlane):
	"""The video plane: sends frames; collects, repairs and opens others'."""

	def __init__(self, options: ClientOptions, welcome: Json, counters: Counters):
		super().__init__(options, welcome, counters)
		self.loop = DatagramLoop("video", self.path.port, counters, self._on_datagrams, self._on_due)
		self.streams = defaultdict[int, Stream](Stream)
		self.incoming = Reassembler(layered=False, counters=counters, only=())
		self.fresh = SimpleQueue[Stream | None]()  # what to decode; None is the end
		# seconds between two pictures of a sender that are decoded
		self.glance = 0.0 if options.decode_all else GLANCE_SECONDS
		self._sent = RetransmissionCache()
		self._layout = FrameLayout(MAX_PARTS)
		self.octets = self.pictures = 0  # that came
		self._numbers = [randbelow(1 << 29) for _ in LAYERS]

	def _start_anew(self) -> None:
		self.incoming.start_anew()
		self._sent = RetransmissionCache()

	def send_picture(self, layer: int, data: bytes) -> None:
		"""Send an own picture, coded, of `layer`. From the camera's thread."""
		total = parts_of(len(data) + TAG)
		self._numbers[layer] += 1
		number, path = layer << LAYER_SHIFT | self._numbers[layer], self.path
		with path.lock:
			sealed = path.sealer.seal(Kind.VIDEO, path.id, number, data, total)
			self._sent.store(sealed, monotonic())
			self._sent.note_sent(number)
			path.port.send_frame(self._layout.lay(path.id, number, sealed), tail=True)

	def watch(self, idents: Collection[int]) -> None:
		"""Pictures of these are wanted, and no others."""
		self.incoming.collect_only(idents)
		for gone in set(self.streams).difference(idents):
			del self.streams[gone]

	def _on_due(self, now: float) -> float:
		for nack in self.incoming.nacks(now):
			self.path.send_small(Kind.NACK, encode_nack(nack))
		due = self.path.bind_due(now)
		repair = self.incoming.next_due(now)
		return due if repair is None else min(due, repair)

	def _on_datagrams(self, buffer: memoryview, segment: int, address: Address, now: float) -> None:
		if video_header(buffer)[2] == 0:
			kind, payload = self.path.on_small(bytes(buffer[:segment]), now)
			with self.path.lock:
				for datagram in self._sent.resend(parse_nack(payload), now) if kind == Kind.NACK else ():
					self.path.port.send(datagram)
				self._sent.expire(now)
			if kind == Kind.CHALLENGE:
				self.incoming.note_rtt(self.path.rtt)
			return
		self.octets += len(buffer)
		for frame in self.incoming.push_batch(buffer, segment, now):
			self._on_frame(frame, now)

	def _on_frame(self, frame: WholeFrame, now: float) -> None:
		total = parts_of(len(frame.sealed))
		try:
			data = self.path.opener.open(Kind.VIDEO, frame.id, frame.number, frame.sealed, total)
		except PeerFault:
			self.incoming.retry(frame)
			raise
		size = coded_size(data)
		self.pictures += 1
		stream = self.streams[frame.id]
		stream.put(data, size)
		if not stream.queued and now - stream.looked >= self.glance:
			stream.queued = True
			self.fresh.put(stream)


class AudioPlane(MediaPlane):
	"""The audio plane: what comes goes into the jitter buffer, from which the player pulls.

	Where nobody listens no thread wakes for each block: what would have been played by now is taken when the
	next one comes or the figures are asked for.
	"""

	_SLEPT = 10.0  # seconds behind: the machine slept, so do not catch up

	PLANE = "audio"

	def __init__(
		self, options: ClientOptions, welcome: Json, counters: Counters, on_speaking: Callable[[int], None]
	):
		super().__init__(options, welcome, counters)
		self.loop = DatagramLoop("audio", self.path.port, counters, self._on_datagrams, self.path.bind_due)
		self.lock = Lock()
		self.jitter = JitterBuffer()
		self.receive_stats = ReceiverReport()
		self.level_db = -100.0
		self._on_speaking = on_speaking
		self._speaking = 0
		self._newest = -1
		self._unheard_from = inf  # when the next block would be played to nobody

	def _start_anew(self) -> None:
		self._newest = -1
		with self.lock:
			self.jitter = JitterBuffer(self.jitter)
			self.receive_stats = ReceiverReport()

	def stats(self) -> Json:
		"""The `stats` entry of what is heard; counts since joining, over interruptions."""
		with self.lock:
			self._play_unheard(monotonic())
			return {"level_db": round(self.level_db, 1), **self.jitter.stats()}

	def send_block(self, seq: int, block: bytes) -> None:
		"""Send 256 samples, big-endian, or nothing: silence from here. From the microphone's thread."""
		path = self.path
		with path.lock:
			sealed = path.sealer.seal(Kind.AUDIO, path.id, seq, block)
			path.port.send(audio_datagram(path.id, seq, sealed))

	def _on_datagrams(self, buffer: memoryview, segment: int, address: Address, now: float) -> None:
		self._on_datagram(bytes(buffer), now)  # of sound each comes by itself

	def _on_datagram(self, data: bytes, now: float) -> None:
		if len(data) not in AUDIO_SIZES and len(data) != AUDIO_PAIR:
			self.path.on_small(data, now)
			return
		loudest, seq = AUDIO_HEADER.unpack_from(data)
		blocks = self.path.opener.open(Kind.AUDIO, loudest, seq, data[AUDIO_HEADER.size :])
		samples = np.frombuffer(blocks, ">i2").astype(np.int16).reshape(-1, BLOCK)
		with self.lock:
			self._play_unheard(now)
			for number, block in enumerate(samples if blocks else [None], seq):
				self.jitter.push(number, block, now)
				self.receive_stats.note_block(number, now)
		if seq > self._newest:
			self._newest = seq
			if loudest != self._speaking:
				self._speaking = loudest
				self._on_speaking(loudest)

	def pull(self) -> Samples:
		"""The next 16 ms to play; from the playing thread."""
		with self.lock:
			return self._pull(monotonic())

	def play_to_nobody(self, start: float) -> None:
		"""From `start` on nobody pulls; inf when somebody will again. From the playing thread."""
		with self.lock:
			self._play_unheard(monotonic())
			self._unheard_from = start

	def _pull(self, now: float) -> Samples:
		block = self.jitter.pull(now)
		self.level_db = max(LEVEL_FLOOR if block is silence() else level_db(block), self.level_db - 1.0)
		return block

	def _play_unheard(self, now: float) -> None:
		if now - self._unheard_from > self._SLEPT:
			self._unheard_from = now
		while self._unheard_from <= now:
			self._pull(self._unheard_from)
			self._unheard_from += BLOCK_SECONDS


# -- media: capturing, encoding, decoding, playing


def loudness(samples: Samples) -> float:
	"""The level of a block for a meter: 0 at -60 dB, 1 at full scale."""
	return max(0.0, 1.0 + level_db(samples) / 60.0)


def encode_to_fit(picture: Picture, quality: int) -> bytes:
	"""A JPEG of `picture` that fits a frame's 256 parts, at a lower quality if need be."""
	while len(data := encode_jpeg(picture, quality)) + TAG > MAX_FRAME and quality > 10:
		quality -= 15
	return data


OnDevice = Callable[[str, str, str], None]  # what, state, reason
Sends = Callable[[int, bytes], None]


class DeviceThread(ABC):
	"""A thread that opens a device when it is turned on and closes it when it is turned off.

	Each turn ends in one `on_device(what, state, reason)`, from the thread, unless another came on top.
	One that fails is opened again while it is wanted, if it had been live.
	"""

	_FIRST_PAUSE = 0.1
	_LONGEST_PAUSE = 10.0
	_STEADY = 30.0  # who fails sooner is tried ever more rarely

	def __init__(self, name: str, options: ClientOptions, send: Sends, on_device: OnDevice):
		self._what, self._options, self._send, self._on_device = name, options, send, on_device
		self._was_live = False
		self._live_at = -inf
		self._turns = 0
		self._done = 0
		self.on = False  # whether it is wanted, and may yet be had
		self._news = threading.Condition()
		self._worker = Worker(name, self._run, self._wake)
		self.close = self._worker.close

	def turn(self, on: bool) -> None:
		"""Ask for the device on or off; returns at once."""
		with self._news:
			self.on = on
			self._turns += 1
			self._news.notify_all()
		self._worker.start()

	def renew(self) -> None:
		"""Another device was chosen: use that one, if one is on."""
		if self._turns:
			self.turn(self.on)

	def _wake(self) -> None:
		with self._news:
			self._news.notify_all()

	@property
	def _going(self) -> bool:
		return self._turns == self._done and self._worker.going

	def _run(self, worker: Worker) -> None:
		while worker.going:
			with self._news:
				if self._going:
					self._news.wait(1.0)
					continue
			if self._next():
				self._use_while_wanted()

	def _next(self) -> bool:
		with self._news:
			self._done, on = self._turns, self.on
		if not on:
			self._on_device(self._what, "off", "")
		return on

	def _use_while_wanted(self) -> None:
		pause, again = 0.0, False
		while True:
			self._was_live = False
			try:
				self._use()
				return
			except DeviceError as error:
				if error.reason == MOVED:
					pause = self._FIRST_PAUSE
					continue
				steady = self._was_live and (not pause or monotonic() - self._live_at > self._STEADY)
				pause = self._FIRST_PAUSE if steady else min(2 * pause, self._LONGEST_PAUSE)
				told, again = again and not self._was_live, pause > 0
				with self._news:
					self.on = self.on and not (self._going and not pause)  # nobody waits for it any longer
				if not told:
					self._on_device(self._what, "failed", error.reason)
			with self._news:
				if not pause or self._news.wait_for(lambda: not self._going, pause):
					return

	def _live(self, advice: str = "") -> None:
		self._was_live, self._live_at = True, monotonic()
		self._on_device(self._what, "live", advice)

	@abstractmethod
	def _use(self) -> None:
		"""Open the device, say that it is live, and use it while `_going`."""


FIRST_PICTURE = 5.0  # seconds


class CameraSender(DeviceThread):
	"""The camera's thread: own preview, and the layers that anyone wants."""

	LOOK_SECONDS = 1.0  # that the preview is kept fresh after somebody looked at it

	def __init__(self, options: ClientOptions, send: Sends, on_device: OnDevice):
		super().__init__("camera", options, send, on_device)
		self._layers: dict[int, FrameDropper] = {}
		self._asked: Json = {}
		# when the last picture was coded that patches may follow, it, and its bytes
		self._whole: Any = -inf, None, b""
		self._slow = 0.0  # the share of WebPs that are
		self._preview: Shown = (0, None)
		self._looked = -inf

	def look(self) -> Shown:
		"""(serial, newest own picture); from any thread."""
		before, self._looked = self._looked, monotonic()
		if self._looked - before > self.LOOK_SECONDS:
			self._wake()
		return self._preview

	@property
	def _looked_at(self) -> bool:
		return monotonic() - self._looked < self.LOOK_SECONDS

	def encode(self, asked: Json) -> None:
		"""From now on what this message asks for."""
		kept, self._asked = self._layers, asked
		self._layers = {
			layer: kept[layer] if layer in kept and kept[layer].fps == fps else FrameDropper(fps)
			for layer, fps in ((int(layer), fps) for layer, fps in asked["layers"].items())
		}
		self._wake()

	def _use(self) -> None:
		camera = open_camera(self._options.camera, self._options.name, fps=CAMERA_FPS)
		try:
			self._prefer(camera)
			picture = camera.read(FIRST_PICTURE)  # many open and give nothing
			self._live()
			while self._going:
				self._capture(picture)
				self._rest()
				self._prefer(camera)
				picture = camera.read(2.0)
		finally:
			camera.close()
			self._preview = (self._preview[0] + 1, None)

	def _prefer(self, camera: Camera) -> None:
		least = PREVIEW_LAYER if self._looked_at else 0
		fps = max((dropper.fps for dropper in self._layers.values()), default=0.0)
		camera.prefer(LAYERS[max([least, *self._layers])], max(fps, DEFAULT_FPS))

	def _rest(self) -> None:
		with self._news:
			if self._going and not self._layers and not self._looked_at:
				self._news.wait(1.0)

	def _capture(self, picture: Picture) -> None:
		self._preview = (self._preview[0] + 1, picture)
		now = monotonic()
		due = [layer for layer, dropper in self._layers.items() if dropper.take(now)]
		for layer in sorted({self._filled(picture, layer) for layer in due}, reverse=True):
			picture = fit_picture(picture, LAYERS[layer])  # the next is made of this: a tenth of the work
			self._send(layer, self._coded(picture, layer))

	def _coded(self, picture: Picture, layer: int) -> bytes:
		quality, began = self._quality(layer), monotonic()
		if layer or not self._asked.get("webp") or self._slow > WEBP_SLOW:
			self._slow -= self._slow / 64
			at, whole, coded = self._whole
			patches = quality == SPARING_QUALITY and self._asked.get("patch") and began - at < WHOLE_SECONDS
			if patches and (data := encode_patch(picture, whole, coded, quality)):
				return data
			data = encode_to_fit(picture, quality)
			if layer == PREVIEW_LAYER:
				self._whole = began, picture, data
			return data
		data = encode_webp(picture, quality)
		self._slow += ((monotonic() - began > WEBP_SECONDS) - self._slow) / 64
		return data

	def _quality(self, layer: int) -> int:
		if layer in self._asked.get("coarse", ()):
			return COARSE_QUALITY
		dropper = self._layers.get(layer)
		sparing = layer >= PREVIEW_LAYER and dropper and dropper.fps <= SPARING_FPS
		return SPARING_QUALITY if sparing else JPEG_QUALITY

	def _filled(self, picture: Picture, layer: int) -> int:
		height, width = picture.shape[:2]
		while layer and width < LAYERS[layer][0] and height < LAYERS[layer][1]:
			layer -= 1
		return layer


class MicrophoneSender(DeviceThread):
	"""The microphone's thread: blocks with a voice in them go out, silence is said once in a while.

	Blocks are numbered by time, whether they are sent or not; `newest_number()` is the last one's.
	"""

	MISTAKEN_DB = -40.0
	MISTAKEN_BLOCKS = 60  # a second, of which more than half must be loud: no cough, no click
	MISTAKEN_SECONDS = 2.0
	LET_GO = 60.0  # seconds: no headset stays a telephone

	def __init__(
		self, options: ClientOptions, send: Sends, on_device: OnDevice, newest_number: Callable[[], int],
		voice: VoiceProcessor, air: HeardBefore | None = None,
	):  # fmt: skip
		super().__init__("mic", options, send, on_device)
		self._voice = voice
		self._air = air or HeardBefore()
		self._unknown = 188  # blocks, 3 s, until its room is known: they have 6 dB less
		self._clear = False
		self._advised = False
		self._newest_number = newest_number
		self._seq = 0
		self._gate = VoiceActivityDetector()
		self.silent = 1  # blocks since the last voice
		self._mistaken = -inf
		self._offset = 0.0  # constant part of what is heard
		self.level = self.captured = 0.0

	@property
	def muted_speech(self) -> bool:
		return monotonic() - self._mistaken < self.MISTAKEN_SECONDS

	def _use(self) -> None:
		options, spec = self._options, self._options.mic
		with closing(open_microphone(spec)) as microphone:
			self._speak(microphone)
			while options.decode_all and not self.on and self._turns > self._done and spec == options.mic:
				self._next()
				self._hear_mistakes(microphone)
				if self.on and spec == options.mic:  # it is open still
					self._was_live = not self._next()
					self._speak(microphone)

	def _speak(self, microphone: Microphone) -> None:
		self._seq = max(self._seq, self._newest_number())
		self._clear = False
		try:
			self._send_block(microphone.read())
			if not self._was_live:
				self._live()
			while self._going:
				self._send_block(microphone.read())
		except DeviceError:
			self._voice.change()  # what is there afterwards may be another
			raise
		finally:
			self.level = self.captured = 0.0
			for self.silent in (1, 2, 3):
				self._seq += 1
				self._send(self._seq, b"")

	def _hear_mistakes(self, microphone: Microphone) -> None:
		heard = deque[bool]([False] * self.MISTAKEN_BLOCKS, self.MISTAKEN_BLOCKS)
		until = monotonic() + self.LET_GO * (10 if self._options.talks_held else 1)
		with suppress(DeviceError):
			while self._going and monotonic() < until:
				heard.append(level_db(self._without_offset(microphone.read())) >= self.MISTAKEN_DB)
				if 2 * sum(heard) > self.MISTAKEN_BLOCKS:
					self._mistaken = monotonic()

	def _without_offset(self, samples: Samples) -> Samples:
		self._offset += (float(samples.mean()) - self._offset) / 32  # half a second
		return _to_int16(samples - self._offset)

	def _send_block(self, samples: Samples) -> None:
		self._seq += 1
		captured, measured = samples, self._without_offset(samples)  # sent is what was captured, bit by bit
		self._air.hear(measured)
		self.captured = loudness(measured)
		if self._options.clear != self._clear:
			self._clear = not self._clear
			if self._clear and not self._voice.begin() and not self._advised:
				self._advised = True
				self._live("Headphones stop echo for everyone.")
		if self._clear:
			samples = self._voice.process(samples)
			if self._unknown > 0 and self._options.in_room:
				self._unknown -= 1
				samples = (samples * np.linspace(0.5, 0.5 if self._unknown else 1.0, BLOCK)).astype(np.int16)
		measured = measured if samples is captured else samples
		self.level = loudness(measured)
		if self._gate.is_voice(measured, self._voice.probability if self._clear else 1.0):
			self.silent = 0
			self._send(self._seq, samples.astype(">i2").tobytes())
			return
		self.silent += 1
		if self.silent <= 3 or self.silent % 16 == 0:
			self._send(self._seq, b"")


@entity
class MediaManager:
	"""A participant's media: both UDP planes, the devices, decoding and playing."""

	_options: ClientOptions
	_counters: Counters
	_on_device: OnDevice
	_on_speaking: Callable[[int], None]

	def __post_init__(self) -> None:
		self._started = monotonic()
		self.watched: Collection[int] = ()  # whose pictures are wanted
		self._moving = 0  # seconds
		self.ear: Callable[[Samples], Any] | None = None  # is given each block that is heard
		self.on_picture: Callable[[], Any] = lambda: None  # called by the decoder after each picture
		self.air = HeardBefore()
		self._voice = VoiceProcessor()
		self.video: VideoPlane | None = None
		self.audio: AudioPlane | None = None
		self._camera = CameraSender(
			self._options, lambda *told: cast(VideoPlane, self.video).send_picture(*told), self._on_device
		)
		self.encode = self._camera.encode
		self._microphone = MicrophoneSender(
			self._options, lambda *told: cast(AudioPlane, self.audio).send_block(*told), self._on_device,
			lambda: int((monotonic() - self._started) / BLOCK_SECONDS), self._voice, self.air,
		)  # fmt: skip
		self._devices = {"camera": self._camera, "mic": self._microphone}
		self._decoder = Worker("decoder", self._run_decoder, self._wake_decoder)
		self._player = Worker("player", self._run_player)

	def start(self, welcome: Json) -> None:
		"""Open both planes with the keys of `welcome`; from its moment on what is heard is played."""
		self._started = monotonic()
		self.video = VideoPlane(self._options, welcome, self._counters)
		self.audio = AudioPlane(self._options, welcome, self._counters, self._on_speaking)
		self.video.loop.start()
		self.audio.loop.start()
		self._decoder.start()
		self._player.start()

	def go_on(self, welcome: Json) -> None:
		"""Go on with the keys of another welcome, after an interruption."""
		for plane in (self.video, self.audio):
			if plane:
				plane.loop.post(partial(plane.go_on, welcome))

	def close(self) -> None:
		"""End every device and thread."""
		for device in self._devices.values():
			device.close()
		self._player.stop()
		self._decoder.close()
		self._player.close()
		for plane in (self.video, self.audio):
			if plane:
				plane.loop.close()

	def turn(self, what: str, on: bool) -> None:
		"""Open or close the "camera" or "mic"; what comes of it is said by `on_device`."""
		self._devices[what].turn(on)

	def on(self, what: str) -> bool:
		"""Whether a device was last told to be on, and has not failed for good."""
		return what in self._devices and self._devices[what].on

	def watch(self, idents: Collection[int]) -> None:
		"""Pictures of these are wanted; which layer comes is the server's choice."""
		self.watched = idents
		if self.video:
			self.video.loop.post(partial(self.video.watch, idents))

	def _stream(self, ident: int) -> Stream | None:
		return self.video.streams.get(ident) if self.video else None  # others change them

	def picture(self, key: int | str) -> Shown:
		"""(serial, newest picture) of a sender, or of the own camera for "self"."""
		if key == "self":
			return self._camera.look()
		stream = self._stream(cast(int, key))
		return (stream.decoded, stream.picture) if stream else (0, None)

	def newest(self, ident: int) -> Picture | None:
		"""The newest picture of a sender, decoded now at its own size."""
		stream = self._stream(ident)
		return decode_frame(*stream.newest[1:]) if stream and stream.newest[0] else None

	def _wake_decoder(self) -> None:
		if self.video:
			self.video.fresh.put(None)

	def _run_decoder(self, worker: Worker) -> None:
		assert self.video is not None
		try:
			load_codecs()  # not in the middle of what someone says
		except DeviceError as error:
			log.warning("nobody is seen: %s", error)
			return
		while (stream := self.video.fresh.get()) is not None:
			self._decode(stream)

	def _decode(self, stream: Stream) -> None:
		stream.queued = False
		stream.looked = monotonic()
		serial, *coded = stream.newest
		try:
			picture = decode_frame(*coded)
		except PeerFault as fault:
			self._counters.add(fault.kind)
			return
		stream.rates.look(picture)
		if self._options.decode_all:
			stream.motion.look(picture)
		stream.picture, stream.decoded = picture, serial
		self.on_picture()

	def follow_devices(self) -> None:
		"""Take a headset that comes, in a pause; once a second."""
		self._moving = self._moving + 1 if _sound_cards.devices != _sound_devices() else 0
		mic, audio = self._microphone, self.audio
		talks = not (mic.silent and audio and audio.level_db < VOICE_DB)
		_sound_cards.stale |= self._moving > 1 + 20 * talks

	def choose(self, what: str, value: Any) -> None:
		"""Go on with another camera, microphone, speaker, `sound`, or at another volume."""
		setattr(self._options, what, value)
		if what == "mic":
			self._voice.change()
		if what in self._devices:
			self._devices[what].renew()

	def _run_player(self, worker: Worker) -> None:
		audio, start = cast(AudioPlane, self.audio), self._started
		while worker.going:
			if self._unheard:
				audio.play_to_nobody(start)
				while self._unheard and not worker.stopping.wait(0.25):
					pass
				audio.play_to_nobody(inf)
			else:
				self._play(worker, self._options.speaker, start)
			start = monotonic()

	@property
	def _unheard(self) -> bool:
		room = self._options.mic.startswith("room:")
		return self._options.speaker == "none" and self.ear is None and not room

	def _play(self, worker: Worker, spec: str, start: float) -> None:
		speaker, live, told, pause, due = open_speaker("none", start), False, False, 0.5, start
		while worker.going and self._options.speaker == spec:
			try:
				if not live and monotonic() >= due:
					speaker, live, told = open_speaker(spec, due), True, False
					self._voice.change()
					if spec != "none":
						self._on_device("speaker", "live", "")
				block = self._next_block()
				self._voice.play(block)
				speaker.write(block)
			except DeviceError as error:
				if not told and error.reason != MOVED:
					self._on_device("speaker", "failed", error.reason)
				told, due = True, monotonic() if is_sound_card(spec) else inf
				if live:
					speaker.close()
					speaker, live, pause = open_speaker("none", monotonic()), False, 0.1
				else:
					pause = min(2 * pause, 10.0)
					due += pause
		speaker.close()

	def _next_block(self) -> Samples:
		block = cast(AudioPlane, self.audio).pull()
		if self.ear:
			self.ear(block)
		block = self.air.play(block)
		volume = self._options.volume
		return block if volume == 1.0 else (block * volume).astype(np.int16)

	def heard(self) -> Json:
		"""What a `Snapshot` says of the own microphone."""
		mic = self._microphone
		return {"sound": (mic.captured, mic.level, self._voice.echo > 0.5), "muted_speech": mic.muted_speech}

	def video_stats(self, ident: int) -> Json | None:
		"""The `stats` entry of a sender."""
		video, stream = self.video, self._stream(ident)
		if video is None or stream is None:
			return None
		fps, figures = stream.rates.told()
		width, height = stream.size
		layer = next((i for i in range(len(LAYERS)) if fits_layer(stream.size, i)), 0)
		told = {"layer": layer, "fps": round(fps, 1), "width": width, "height": height}
		return {**told, "frames": stream.newest[0], **video.incoming.counts(ident), **figures}

	def quality(self, ident: int) -> StreamQuality:
		"""What a window says of a sender's pictures; those lost are since the last call."""
		told, stream = self.video_stats(ident), self._stream(ident)
		if not told or not stream:
			return StreamQuality()
		lost = told["lost_frames"]
		since, stream.told_lost = lost - stream.told_lost, lost
		told |= {"lost_frames": since, "lively": stream.motion.lively}
		return StreamQuality(**{key: told[key] for key in StreamQuality.__match_args__})

	def path_report(self) -> Json | None:
		"""How well things come, for the server; None while nothing is watched."""
		video, audio = self.video, self.audio
		if video is None or audio is None or not self.watched:
			return None
		with audio.lock:
			return audio.receive_stats.report(video.octets, video.pictures, video.incoming.lost, monotonic())

	def udp(self) -> str:
		"""Whether the media ports answer: ok or silent."""
		recent = monotonic() - 2.5 * MediaPath.BIND_SECONDS
		planes = (self.video, self.audio)
		return "ok" if all(plane and plane.path.answered > recent for plane in planes) else "silent"


# ====
# [20] CLIENT PLANES - the shared screen, and files
# Uses: BASICS, WIRE, TILES, CALL, TRUST, LINKS, DEVICES, STAND-INS, CLIENT MEDIA

# -- the screen plane

SCREEN_RETRY = 0.3
Request = Callable[[Json, Say], None]


@entity
class ScreenLink:
	"""A connection of the screen plane, from asking for its ticket on. The loop's thread only.

	`on_ready()` once it is accepted, `on_message(message)`, `on_closed(refused)` once unless it was
	closed from here; its code is empty when it just broke.
	"""

	_loop: Loop
	_options: ClientOptions
	_role: str
	on_ready: Act = lambda: None
	on_message: Callable[[ScreenMessage], None] = lambda message: None
	on_closed: Callable[[Refused], None] = lambda refused: None
	link: TlsLink | None = None
	_messages: MessageSplitter = field(default_factory=MessageSplitter)
	_ticket: str = ""
	_accepted: bool = False
	_over: bool = False
	_refused: Refused | None = None

	def begin(self, request: Request) -> None:
		"""Ask for a ticket and connect with it."""
		request({"type": "ticket", "plane": "screen", "direction": self._role}, self._on_ticket)

	def close(self) -> None:
		"""End it, without `on_closed`."""
		self._over = True
		if self.link:
			self.link.discard("closed")

	def say(self, message: ScreenMessage) -> None:
		"""Send a message; nothing when it is over."""
		if self.link:
			self.link.send(encode_message(encode_screen(message)))

	def _on_ticket(self, answer: Json) -> None:
		if self._over:
			return
		if answer["type"] != "ticket":
			self._over = True
			if answer["code"] != "unreachable":  # else a new one is made when the link is back
				self.on_closed(refusal(answer))
			return
		self._ticket = answer["ticket"]
		try:
			link = connect_link(self._loop, self._options.at("screen"), self._options.bind)
		except OSError as error:
			self._closed(str(error))
			return
		keep_buffers_small(link.socket)
		self.link = link
		link.on_open, link.on_bytes, link.on_close = self._opened, self._on_bytes, self._closed
		self._loop.later(2 * HANDSHAKE_SECONDS, lambda: None if self._accepted else link.discard("timeout"))
		link.begin()

	def _opened(self, link: TlsLink) -> None:
		if link.fingerprint != self._options.fingerprint:
			self._refused = Refused("host_changed")
			link.discard("host_changed")
			return
		link.send(encode_record({"role": self._role, "ticket": self._ticket}))

	def _on_bytes(self, data: bytes) -> None:
		for payload in self._messages.push(data):
			if self._accepted:
				with skipping(self._loop.counters):
					self.on_message(parse_screen(payload))
				continue
			answer = _shaped(parse_json(payload), SCREEN_ANSWER)
			if answer["status"] == "denied":
				self._refused = refusal({"code": "not_allowed", **answer})
				cast(TlsLink, self.link).discard("denied")
				return
			self._accepted = True
			self.on_ready()

	def _closed(self, reason: str) -> None:
		if not self._over:
			self._over = True
			self.on_closed(self._refused or Refused("", reason))


class ScreenViewer:
	"""What someone else shares, decoded on a thread of its own; pictures are shown only when whole.

	`put` and `clear` belong to the loop's thread; pictures and figures may be asked for from any.
	"""

	MOST_WAITING = 64 << 20  # bytes; each message counts as EACH more
	EACH = 512
	LOOK_SECONDS = 0.1  # how often the test card's clock is looked for

	def __init__(self, loop: Loop):
		self.updates = 0
		self._loop = loop
		self._jobs = SimpleQueue[tuple[ScreenLink | None, ScreenMessage | None] | None]()
		self._lock = Lock()  # of what follows, up to the serial
		self._canvas = TileCanvas()
		self._whole = False
		self._pointer: Pointer | None = None
		self._serial = 0
		self._shown: Shown = (0, None)
		self._before: Picture | None = None  # the last whole picture of another size
		self._put = self._taken = 0  # bytes of rectangles, by the loop and by the decoder
		self._ends = self._ends_seen = 0  # of shares, likewise
		self._rates = Rates()
		self._looked = -inf
		self._worker = Worker("screen-decoder", self._run, lambda: self._jobs.put(None))
		self.close = self._worker.close

	def put(self, link: ScreenLink, message: ScreenMessage) -> None:
		"""Take a message; PeerFault when far more comes than was acknowledged."""
		size = len(message.data) if isinstance(message, Rectangle) else 0
		if self._put + size - self._taken > self.MOST_WAITING:
			raise PeerFault("screen_flood")
		self._put += size + self.EACH
		self._rates.note(size)
		self._worker.start()
		self._jobs.put((link, message))

	def clear(self) -> None:
		"""Nobody shares any longer."""
		self._ends += 1
		self._jobs.put((None, None))

	def picture(self) -> Shown:
		"""(serial, newest whole picture with the mouse pointer in it)."""
		with self._lock:
			if self._ends != self._ends_seen:
				return self._serial + 1, None
			if self._shown[0] != self._serial:
				self._shown = (self._serial, self._copy(pointed=True))
			return self._shown

	def newest(self) -> Picture | None:
		"""A copy of the newest whole picture, exactly as it is shared."""
		with self._lock:
			return self._copy(pointed=False) if self._ends == self._ends_seen else None

	def stats(self) -> Json:
		"""The `stats` entry: rates over 2 s, `updates` since joining."""
		exact = self._ends == self._ends_seen and self._canvas.exact
		return {"updates": self.updates, "exact": exact, **self._rates.told()[1]}

	def _copy(self, *, pointed: bool) -> Picture | None:
		if not self._whole:
			return self._before
		picture = self._canvas.picture.copy()
		pointer = self._pointer
		if pointed and pointer and pointer.shown:
			draw_pointer(picture, (pointer.x, pointer.y))
		return picture

	def _run(self, worker: Worker) -> None:
		while (job := self._jobs.get()) is not None and worker.going:
			try:
				self._take(*job)
			except PeerFault as fault:
				self._loop.counters.add(fault.kind)

	def _take(self, link: ScreenLink | None, message: ScreenMessage | None) -> None:
		self._taken += self.EACH if message else 0
		match message:
			case Rectangle():
				self._taken += len(message.data)
				self._canvas.place(message, decode_picture(message.data))
			case Commit():
				self._paint(message)
				if link:
					self._loop.post(lambda: link.say(Acknowledge(*message)))
			case Geometry():
				with self._lock:
					self._before = self._canvas.picture if self._whole else self._before
					self._canvas.set_geometry(message)
					self._whole = False
			case Pointer():
				with self._lock:
					self._pointer = message
					self._serial += 1
			case None:
				with self._lock:
					self._canvas, self._whole = TileCanvas(), False
					self._pointer = self._before = None
					self._ends_seen += 1
					self._serial += 1

	def _paint(self, commit: Commit) -> None:
		with self._lock:
			changed = self._canvas.commit(commit)
			self._whole = True
			self._serial += changed
		now = monotonic()
		if not changed:
			return
		self.updates += 1
		if now - self._looked >= self.LOOK_SECONDS:
			self._looked = now
			self._rates.look(self._canvas.picture)


class ScreenPresenter:
	"""The presenting thread: grabs the screen, finds and codes what has changed.

	`on_open()` once the source is open, `on_failed(refused)` when it fails; both on the loop's thread,
	which alone touches the table and the feed.
	"""

	BUSY, IDLE = 1 / 20, 1 / 12  # seconds from one look to the next while things change, and when not
	CALM_SECONDS = 3.0
	BEST_QUALITY, WORST_QUALITY = 80, 35
	QUICK, SLOW = 0.15, 0.3  # seconds until most viewers have painted: quality goes up, or down
	LOSSLESS_SECONDS = 0.03  # spent on exact copies before the next look
	PLAIN = 2_500  # bytes: what has fewer may have fewer still as an exact copy, and is not sent twice then

	def __init__(self, source: str, loop: Loop):
		self.on_open: Act = lambda: None
		self.on_failed: Callable[[Refused], None] = lambda refused: None
		self.preview: Shown = (0, None)
		self.opened = False
		self.paused: Callable[[], bool] = lambda: False  # while it is, nothing is grabbed
		self.feed: TileFeed | None = None
		self._source, self._loop = source, loop
		self._table = TileTable()
		self._ready = threading.Event()  # the link has room for something new
		self._quality = self.BEST_QUALITY
		self._differ = TileDiffer()
		self._still = StillTiles(0, 0)
		self._geometry = Geometry(0, 0, 0)
		self._version = 0
		self._pointer = Pointer(0, 0, False)
		self._changed_at = 0.0
		self._rates = Rates()
		self._updates = 0
		self._exact = False
		self.worker = Worker("presenter", self._run, self._ready.set)

	def attach(self, link: TlsLink) -> None:
		"""Send everything to `link`, from the beginning."""
		self.feed = TileFeed(link, self._table)
		self.feed.point(self._pointer)
		self._ready.set()

	def acknowledge(self) -> None:
		"""Most viewers have painted the oldest change under way."""
		if self.feed is None:
			return
		size, seconds = self.feed.acknowledge(monotonic())
		self._updates += 1
		self._rates.note(size, seconds)
		if size >= 1 << 15:
			change = -8 if seconds > self.SLOW else 2 if seconds < self.QUICK else 0
			self._quality = max(self.WORST_QUALITY, min(self.BEST_QUALITY, self._quality + change))
		if self.feed.ready:
			self._ready.set()

	def stats(self) -> Json:
		"""The `stats` entry of who shares; latency until most viewers have painted."""
		return {"updates": self._updates, "exact": self._exact, **self._rates.told()[1]}

	def _run(self, worker: Worker) -> None:
		try:
			with closing(open_screen(self._source)) as screen:
				self._look(screen, monotonic())
				self.opened = True
				self._loop.post(self.on_open)
				self._watch(worker, screen)
		except DeviceError as error:
			self._loop.post(partial(self.on_failed, error))

	def _watch(self, worker: Worker, screen: ScreenSource) -> None:
		while worker.going:
			self._ready.wait(1.0)
			began = monotonic()
			if worker.going and not self.paused():
				self._look(screen, began)
			busy = monotonic() - began
			worker.stopping.wait(max(self._pause(began) - busy, busy / 4))

	def _pause(self, now: float) -> float:
		due = self._still.next_due()
		if due is not None and due <= now:  # exact copies wait for their turn
			return 0.0
		return self.IDLE if now - self._changed_at > self.CALM_SECONDS else self.BUSY

	def _look(self, screen: ScreenSource, now: float) -> None:
		picture = screen.grab()
		geometry, pointer = self._geometry, self._pointed(screen)
		height, width = picture.shape[:2]
		messages: list[ScreenMessage] = []
		if (width, height) != geometry[1:]:
			self._geometry = geometry = Geometry(geometry.epoch + 1, width, height)
			self._still = StillTiles(-(-height // TILE), -(-width // TILE))
			messages.append(geometry)
		self._version += 1
		if picture is not self.preview[1] or messages:
			mask = self._differ.changed(picture)
			if mask.any():
				self._changed_at = now
				self._still.changed(mask, now)
				messages += self._lossy(picture, mask)
				self.preview = (self.preview[0] + 1, picture)
		messages += self._lossless(picture, now)
		self._exact = self._still.next_due() is None
		if messages:
			messages.append(Commit(geometry.epoch, self._version))
			self._ready.clear()
		if messages or pointer:
			self._loop.post(lambda: self._offer(messages, pointer))

	def _pointed(self, screen: ScreenSource) -> Pointer | None:
		at, before = screen.pointer(), self._pointer
		self._pointer = Pointer(*at, True) if at else Pointer(0, 0, False)
		return None if self._pointer == before else self._pointer

	def _lossy(self, picture: Picture, mask: NDArray[np.bool_]) -> Iterator[Rectangle]:
		epoch, width, height = self._geometry
		for x, y, w, h in merge_rectangles(mask, width, height):
			part, codec = picture[y : y + h, x : x + w], Codec.JPEG
			data = encode_jpeg(part, self._quality)
			if len(data) < self.PLAIN and len(exact := encode_lossless(part)) <= len(data):
				codec, data = Codec.WEBP, exact
				self._still.sent(x, y, w, h)
			yield Rectangle(epoch, self._version, x, y, w, h, codec, data)

	def _lossless(self, picture: Picture, now: float) -> Iterator[Rectangle]:
		epoch, width, height = self._geometry
		due = self._still.due(now)
		for x, y, w, h in merge_rectangles(due, width, height) if due.any() else ():
			data = encode_lossless(picture[y : y + h, x : x + w])
			self._still.sent(x, y, w, h)
			yield Rectangle(epoch, self._version, x, y, w, h, Codec.WEBP, data)
			if monotonic() - now > self.LOSSLESS_SECONDS:
				return

	def _offer(self, messages: list[ScreenMessage], pointer: Pointer | None) -> None:
		for message in messages:
			self._table.take(message)
		feed = self.feed  # sending may find the link lost, which takes it away
		if feed is None:
			return
		if pointer:
			feed.point(pointer)
		feed.update()
		if feed.ready:
			self._ready.set()


@entity
class ScreenPlane:
	"""A participant's part in the screen plane: looks on or shares.

	The loop's thread, except `picture`, `newest`, `stats` and `close`. `on_error(refused)` when the
	own share could not begin or go on; `on_sharing(on)` when it begins and ends.
	"""

	RETRIES = 5

	_loop: Loop
	_options: ClientOptions
	_request: Request
	_on_error: Callable[[Refused], None]
	_on_sharing: Callable[[bool], None]
	_presenter: ScreenPresenter | None = None
	_links: dict[str, ScreenLink] = field(default_factory=dict)  # by role
	_watching: bool = True
	_who: int = 0
	_tries: int = 0
	paused: bool = False  # viewers keep the last picture of the own share

	def __post_init__(self) -> None:
		self._viewer = ScreenViewer(self._loop)
		self._presenters = weakref.WeakSet[ScreenPresenter]()  # those who stop may be within OpenCV yet

	# -- for any thread

	def picture(self) -> Shown:
		"""(serial, newest picture) of what is shared, the own share included."""
		presenter = self._presenter
		return presenter.preview if presenter else self._viewer.picture()

	def newest(self) -> Picture | None:
		"""The newest picture, exactly as it is shared."""
		presenter = self._presenter
		return presenter.preview[1] if presenter else self._viewer.newest()

	def stats(self) -> Json:
		"""The entry `screen` of `stats`."""
		return (self._presenter or self._viewer).stats()

	def close(self) -> None:
		"""End the threads; after the loop."""
		for presenter in list(self._presenters):
			presenter.worker.close()
		self._viewer.close()

	# -- looking on

	def watch(self, on: bool) -> None:
		"""Whether to look at what others share."""
		self._watching = on
		self._update()

	def follow(self, presenter: int, me: int) -> None:
		"""Who shares now, by id; 0 for nobody."""
		who = 0 if presenter == me else presenter
		if who != self._who:
			self._who = who
			self._unlink("viewer")
			self._update()

	def renew(self) -> None:
		"""The control link is back: every connection of the plane needs a new ticket."""
		self._unlink("viewer")
		self._who = -1  # nobody: so that whoever the welcome names is linked to anew
		if self._presenter and self._presenter.opened:
			self._tries = 0
			self._unlink("presenter")
			self._link_presenter(self._presenter)

	def _update(self) -> None:
		if not (self._watching and self._who):
			self._unlink("viewer")
			self._viewer.clear()
		elif "viewer" not in self._links:
			link = self._link("viewer")
			link.on_ready = lambda: setattr(self, "_tries", 0)
			link.on_message = partial(self._viewer.put, link)
			link.on_closed = lambda _: self._viewer_closed(link)
			link.begin(self._request)

	def _link(self, role: str) -> ScreenLink:
		return self._links.setdefault(role, ScreenLink(self._loop, self._options, role))

	def _unlink(self, role: str) -> None:
		if link := self._links.pop(role, None):
			link.close()

	def _viewer_closed(self, link: ScreenLink) -> None:
		def again() -> None:
			if link is self._links.get("viewer"):
				self._unlink("viewer")
				self._update()

		self._tries += 1
		self._loop.later(min(2.0, SCREEN_RETRY * self._tries), again)

	# -- sharing

	def share(self, source: str) -> None:
		"""Share `source`, instead of what is shared now."""
		self.stop_sharing()
		presenter = ScreenPresenter(source, self._loop)
		presenter.on_open = lambda: self._link_presenter(presenter)
		presenter.on_failed = partial(self._failed, presenter)
		presenter.paused = lambda: self.paused
		self._presenter = presenter
		self._presenters.add(presenter)
		self._tries, self.paused = 0, False
		presenter.worker.start()

	def stop_sharing(self) -> None:
		"""Stop the own share, if there is one."""
		presenter, self._presenter = self._presenter, None
		self._unlink("presenter")
		if presenter:
			presenter.worker.stop()
			self._on_sharing(False)

	def _link_presenter(self, presenter: ScreenPresenter) -> None:
		if presenter is not self._presenter or "presenter" in self._links:
			return
		presenter.feed = None
		link = self._link("presenter")

		def on_ready() -> None:
			presenter.attach(cast(TlsLink, link.link))
			self._on_sharing(True)

		def on_message(message: ScreenMessage) -> None:
			if not isinstance(message, Acknowledge):
				raise PeerFault("unexpected_message", type(message).__name__)
			self._tries = 0
			presenter.acknowledge()

		link.on_ready, link.on_message = on_ready, on_message
		link.on_closed = partial(self._presenter_closed, presenter)
		link.begin(self._request)

	def _presenter_closed(self, presenter: ScreenPresenter, refused: Refused) -> None:
		presenter.feed = None
		self._links.pop("presenter", None)
		self._tries += 1
		if refused.code:
			self._failed(presenter, refused)
		elif self._tries > self.RETRIES:
			self._failed(presenter, Refused("device", "The shared screen got lost."))
		else:
			self._loop.later(SCREEN_RETRY, lambda: self._link_presenter(presenter))

	def _failed(self, presenter: ScreenPresenter, refused: Refused) -> None:
		if presenter is self._presenter:
			self.stop_sharing()
			self._on_error(refused)


def wanted(command: Json, key: str, kind: type[Same]) -> Same:
	"""The member `key` of a command; Refused when it is missing or of another type."""
	value = command.get(key)
	if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
		raise Refused("bad_command", key=key)
	return value


def someone(state: StateManager, command: Json, key: str = "who") -> Person:
	"""Whom the member `key` of a command names; Refused when nobody is called so."""
	name = wanted(command, key, str)
	if person := state.named(name):
		return person
	raise Refused("no_such_person", name=name)


# -- files

MOVING_FILES = 4
PROGRESS_SECONDS = 0.25
FRUITLESS_TRIES = 6
_PART = ".connectsphere-"


def downloads_folder(chosen: str) -> Path:
	"""Where accepted files go: `chosen`, or ConferenceFiles in the user's downloads."""
	return Path(chosen) if chosen else _usual_downloads() / "ConferenceFiles"


def _usual_downloads() -> Path:
	usual = Path.home() / "Downloads"
	if sys.platform == "win32":
		import winreg

		key = r"Software\Microsoft\Windows\CurrentVersion\Explorer\User Shell Folders"
		with suppress(OSError), winreg.OpenKey(winreg.HKEY_CURRENT_USER, key) as folders:
			value, _ = winreg.QueryValueEx(folders, "{374DE290-123F-4565-9164-39C4925E467B}")
			return Path(os.path.expandvars(value))
		return usual
	settings = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "user-dirs.dirs"
	with suppress(OSError, UnicodeError):
		found = re.search(r'^XDG_DOWNLOAD_DIR="(.+)"', settings.read_text("utf-8"), re.MULTILINE)
		if found:
			return Path(found[1].replace("$HOME", str(Path.home())))
	return usual


def mark_as_downloaded(path: Path, platform: str = sys.platform) -> None:
	"""Have Windows and macOS warn before they open `path`, which came from the network."""
	if platform == "darwin":  # flags, time, who fetched it
		mark = f"0081;{int(time.time()):x};{APP_NAME};".encode()
		ctypes.CDLL(None).setxattr(os.fsencode(path), b"com.apple.quarantine", mark, len(mark), 0, 0)
	if platform == "win32":
		with suppress(OSError), open(f"{path}:Zone.Identifier", "w", encoding="ascii") as stream:
			stream.write("[ZoneTransfer]\nZoneId=3\n")


def give_free_name(temporary: Path, folder: Path, name: str) -> Path:
	"""Move `temporary` to `name` in `folder`, or the next free name: nothing is overwritten."""
	while True:
		target = folder / unique_name(name, lambda one: os.path.lexists(folder / one))
		try:
			target.hardlink_to(temporary)
		except FileExistsError:
			continue
		except OSError:  # a file system without hard links
			with suppress(FileExistsError):
				target.open("xb").close()
				return insist(partial(temporary.replace, target))
			continue
		remove_file(temporary)
		return target


@contextmanager
def _locally(code: str, words: str, path: object) -> Iterator[None]:
	try:
		yield
	except (OSError, ValueError) as error:  # ValueError: a path with a zero byte
		raise Refused(code, words, path=str(path), fault=system_words(error)) from None


ON_ITS_WAY = "{name} is on its way already."
UNREAD = "bad_command", UNREADABLE
UNSAVED = "disk", UNWRITABLE
UNANSWERED: Json = {"type": "error", "code": "unreachable"}


@entity
class Transfer:
	"""A file on its way; its own thread moves it, any thread may `stop` it."""

	upload: bool
	command: Json
	file: str = ""
	name: str = ""
	size: int = 0
	sha256: str = ""
	path: Path = field(default_factory=Path)
	done: int = 0
	told: float = -inf
	marks: deque[tuple[float, int]] = field(default_factory=lambda: deque(maxlen=12))
	stopping: threading.Event = field(default_factory=threading.Event)
	ending: Refused | None = None
	_stream: TlsStream | None = None
	_answers: SimpleQueue[Json] = field(default_factory=SimpleQueue)

	def stop(self, why: Refused) -> None:
		"""End it for this reason, unless it is ending for another."""
		self.ending = self.ending or why
		self.stopping.set()
		self.disconnect()

	def disconnect(self) -> None:
		"""Break the connection; unless it was stopped, the transfer goes on over another."""
		self._answers.put(UNANSWERED)
		if stream := self._stream:
			stream.abort()

	def check(self) -> None:
		"""Raise what `stop` said."""
		if self.ending:
			raise self.ending

	def hold(self, stream: TlsStream) -> None:
		"""This connection is to be broken by `disconnect`."""
		self._stream = stream
		self.check()

	def ask(self, request: Callable[[Say], None]) -> Json:
		"""What `request` is answered within 5 s; OSError where nothing comes, Refused when it is an error."""
		self._answers = answers = SimpleQueue[Json]()
		request(answers.put)
		self.check()
		message = UNANSWERED
		with suppress(Empty):
			message = answers.get(timeout=5.0)
		self.check()
		if message["type"] != "error":
			return message
		if message["code"] == "unreachable":
			raise ConnectionAbortedError(errno.ECONNABORTED, "the link was lost")
		raise refusal(message)

	def hash(self, source: io.FileIO) -> str:
		"""The SHA-256 of what it sends."""
		block, whole = memoryview(bytearray(FILE_BLOCK)), hashlib.sha256()
		while count := source.readinto(block):
			self.check()
			whole.update(block[:count])
		return whole.hexdigest()

	def rate(self, now: float) -> float:
		"""Bytes a second since the oldest mark, about 3 s ago; makes a new mark."""
		self.marks.append((now, self.done))
		then, before = self.marks[0]
		return max(0.0, (self.done - before) / (now - then)) if now > then else 0.0


@entity
class FileTransfers:
	"""The files plane of a participant: four files move at a time, each in its own thread.

	A file whose connection breaks goes on where it stopped. Commands run on the loop's thread.
	"""

	_options: ClientOptions
	_loop: Loop
	_state: StateManager
	_emit: Callable[..., None]
	_ask_for: Callable[..., None]
	_request: Request
	_pace: TokenBucket = field(default_factory=lambda: TokenBucket(32, 8))  # what the server takes, and less

	def __post_init__(self) -> None:
		self._threads = ThreadPoolExecutor(MOVING_FILES, "file-transfer")
		self._moves: dict[Transfer, Future[None]] = {}  # under way, or waiting for a thread
		self.folder = downloads_folder(self._options.downloads)

	def upload(self, command: Json) -> None:
		"""Offer a file to everyone, or to one person."""
		path = wanted(command, "path", str)
		if command.get("to") is not None and command.get("kind") != "work":  # the host may be away
			someone(self._state, command, "to")
		self._add(Transfer(True, command, path=Path(path)))

	def hand_out(self, command: Json) -> None:
		"""Give a sheet to everyone, whose programs take it by themselves."""
		if not self._state.current.leads:
			raise Refused("not_allowed")
		self.upload({**command, "kind": "sheet", "to": None})

	def hand_in(self, command: Json) -> None:
		"""Give work to the host, who collects it."""
		if not self._state.current.rules.collecting:
			raise Refused("not_permitted", why="work")
		self.upload({**command, "kind": "work", "to": self._state.current.teacher})

	def download(self, command: Json) -> None:
		"""Fetch a file that is on offer."""
		entry = self._entry(command)
		if entry.state == "gone":
			raise Refused("no_such_file")
		if self._find(entry.file):
			raise Refused("bad_command", ON_ITS_WAY, name=entry.name)
		self._state.change_file(entry.file, state="downloading", done=0, rate=0.0, reason="")
		self._add(Transfer(False, command, entry.file, entry.name, entry.size, entry.sha256))

	def decline(self, command: Json) -> None:
		"""Do without a file."""
		entry = self._entry(command)
		kept = entry.private and self._state.current.leads
		if kept or entry.state not in ("offered", "failed"):
			raise Refused("not_allowed" if kept else "bad_command", why="handed_in")
		self._ask_for(command, "decline", file=entry.file)
		self._state.change_file(entry.file, state="declined")

	def cancel(self, command: Json) -> None:
		"""Stop a transfer, or take back what was offered."""
		entry = self._entry(command)
		transfer = self._find(entry.file)
		if transfer is None and not entry.own and not self._state.current.leads:
			raise Refused("no_such_file")
		if transfer:  # it says itself how it ended, to the server too
			self._stop(transfer, Refused("cancelled"))
			self._emit("ok", command.get("ref"))
		else:
			self._ask_for(command, "cancel", file=entry.file)

	def offer_again(self, before: Sequence[FileEntry], known: Collection[str]) -> None:
		"""Give another server, which has only the `known` ones, what is needed."""
		for one in [one for one in before if one.own and one.state == "offered" and one.file not in known]:
			needed = not one.to or (not one.people and self._state.named(one.to))
			if needed and Path(one.path or "").is_file():
				self.upload({"path": one.path, "to": one.to or None, "kind": one.kind})
			else:
				self._request({"type": "cancel", "file": one.file}, lambda _: None)

	def withdrawn(self, message: Json) -> bool:
		"""Whether a file that is gone was on its way; if so, its transfer tells."""
		if transfer := self._find(message["file"]):
			self._stop(transfer, refusal(message))
		return transfer is not None

	def disconnect(self) -> None:
		"""The meeting's link is lost, and with it the session of these connections."""
		for transfer in self._moves:
			transfer.disconnect()

	def close(self, deadline: float = 3.0) -> None:
		"""Stop every transfer, remove what is not whole; any thread may, twice too."""
		self._threads.shutdown(wait=False, cancel_futures=True)
		moves = self._moves.copy()
		for transfer in moves:
			transfer.stop(Refused("cancelled", "The meeting has ended."))
		wait([move for move in moves.values() if not move.cancelled()], deadline)

	def _entry(self, command: Json) -> FileEntry:
		if (entry := self._state.file(wanted(command, "file", str))) is None:
			raise Refused("no_such_file")
		return entry

	def _find(self, file: str) -> Transfer | None:
		return next((one for one in self._moves if one.file == file), None)

	def _add(self, transfer: Transfer) -> None:
		with suppress(RuntimeError):  # all is over
			self._moves[transfer] = self._threads.submit(self._run, transfer)

	def _stop(self, transfer: Transfer, why: Refused) -> None:
		transfer.stop(why)
		if self._moves[transfer].cancel():
			self._ended(transfer, why)

	def _run(self, transfer: Transfer) -> None:
		failure: Refused | None = None
		try:
			(self._push if transfer.upload else self._fetch)(transfer)
		except Refused as refused:
			failure = refused
		except Exception as error:
			if not isinstance(error, OSError):
				log.exception("a transfer ended by a bug")
			failure = Refused("broken", Words(f"{error}."))
		self._loop.post(partial(self._ended, transfer, failure))

	def _ended(self, transfer: Transfer, failure: Refused | None) -> None:
		self._moves.pop(transfer, None)
		if not self._moves:  # the threads end, too
			self._threads.shutdown(wait=False)
			self._threads = ThreadPoolExecutor(MOVING_FILES, "file-transfer")
		if failure:
			self._failed(transfer, failure)
		elif transfer.upload:
			self._state.change_file(transfer.file, state="offered", done=transfer.size, rate=0.0)
			self._tell(transfer, "uploaded", name=transfer.name)
		else:
			path = str(transfer.path)
			self._state.change_file(transfer.file, state="saved", path=path, done=transfer.size, rate=0.0)
			self._tell(transfer, "file_saved", path=path, sha256=transfer.sha256)
			if (entry := self._state.file(transfer.file)) and entry.kind == "work":
				facts = {"from": entry.sender, "path": path, "sha256": transfer.sha256}
				self._emit("hand_in", file=entry.file, **facts)

	def _failed(self, transfer: Transfer, failure: Refused) -> None:
		if not transfer.file:
			self._emit("error", transfer.command.get("ref"), **failure.event)
			return
		after = {"no_such_file": "gone", "cancelled": "gone" if transfer.upload else "offered"}
		state = after.get(failure.code, "failed")
		self._state.change_file(transfer.file, state=state, reason=failure.reason, rate=0.0)
		self._tell(transfer, "file_failed", **failure.event)

	def _tell(self, transfer: Transfer, event: str, **fields: Any) -> None:
		self._emit(event, transfer.command.get("ref"), file=transfer.file, **fields)

	# -- the way there; the transfer's own thread

	def _ask(self, transfer: Transfer, message: Json) -> Json:
		while self._state.current.link != "live" or not self._loop.ask(lambda: self._pace.take(monotonic())):
			transfer.stopping.wait(0.1)
			transfer.check()
		return transfer.ask(lambda answer: self._loop.post(lambda: self._request(message, answer)))

	@contextmanager
	def _connection(self, transfer: Transfer, **request: Any) -> Iterator[TlsStream]:
		direction = "upload" if transfer.upload else "download"
		ask = {"type": "ticket", "plane": "files", "direction": direction, "file": transfer.file}
		ticket = self._ask(transfer, ask)["ticket"]
		options = self._options
		with closing(connect_stream(options.at("files"), options.bind)) as stream:
			transfer.hold(stream)
			stream.open(monotonic() + HANDSHAKE_SECONDS)
			if stream.fingerprint != options.fingerprint:
				raise Refused("host_changed")
			stream.send(encode_line({"type": f"file_{direction}", "ticket": ticket, **request}))
			yield stream

	def _persist(self, transfer: Transfer, attempt: Act) -> None:
		fruitless = 0
		while True:
			before = transfer.done
			try:
				attempt()
				return
			except Refused as refused:
				transfer.check()
				if refused.code not in ("busy", "bad_ticket"):
					raise
			except (OSError, PeerFault) as fault:
				transfer.check()
				log.info("%s goes on after: %r", transfer.name, fault)
				fruitless = fruitless + 1 if transfer.done <= before else 0
			if fruitless >= FRUITLESS_TRIES:
				port = Ports.at(self._options.port).files
				raise Refused("unreachable", "The host's port {port} for files does not answer.", port=port)
			transfer.stopping.wait(min(2.0, 0.25 * 2**fruitless))

	def _progress(self, transfer: Transfer) -> None:
		now = monotonic()
		if now - transfer.told < PROGRESS_SECONDS and transfer.done < transfer.size:
			return
		transfer.told = now
		done, rate = transfer.done, transfer.rate(now)

		def tell() -> None:
			self._state.change_file(transfer.file, done=done, rate=rate)
			self._tell(transfer, "file_progress", bytes=done, size=transfer.size)

		self._loop.post(tell)

	def _push(self, transfer: Transfer) -> None:
		path = transfer.path
		with _locally(*UNREAD, path):
			if not path.exists():
				fault = Words(os.strerror(errno.ENOENT))
				raise Refused("no_such_file", UNREADABLE, path=str(path), fault=fault)
			if not path.is_file():
				raise Refused("bad_command", Words(UNPLAYABLE, key=path), path=str(path))
			source = path.open("rb", buffering=0)
		with source:
			self._offer(transfer, source)
			try:
				self._persist(transfer, lambda: self._send_bytes(transfer, source))
			except Refused:
				gone = {"type": "cancel", "file": transfer.file}  # half a file takes no room from others
				self._loop.post(lambda: self._request(gone, lambda answer: None))
				raise

	def _offer(self, transfer: Transfer, source: io.FileIO) -> None:
		transfer.name = transfer.path.name[:255]
		with _locally(*UNREAD, transfer.path):
			transfer.size = os.fstat(source.fileno()).st_size
			largest = self._state.current.largest_file
			if largest and transfer.size > largest:
				raise Refused("too_large", size=largest)
			transfer.sha256 = transfer.hash(source)
		to, kind = transfer.command.get("to"), transfer.command.get("kind", "")
		message = {"type": "file_offer", "kind": kind, **({} if to is None else {"to_name": to})}
		facts = {"name": transfer.name, "size": transfer.size, "sha256": transfer.sha256}
		file = self._place(transfer, message | facts)
		self._loop.ask(lambda: self._begin_upload(transfer, file))

	def _place(self, transfer: Transfer, message: Json) -> str:
		for _ in range(FRUITLESS_TRIES):
			with suppress(OSError):
				return str(self._ask(transfer, message)["file"])
		raise Refused("unreachable")

	def _begin_upload(self, transfer: Transfer, file: str) -> None:
		if self._find(file):
			raise Refused("bad_command", ON_ITS_WAY, name=transfer.name)
		transfer.file = file
		name, to = safe_file_name(transfer.name), transfer.command.get("to") or ""
		kind = transfer.command.get("kind", "")
		facts = {"sha256": transfer.sha256, "kind": kind, "state": "uploading", "path": str(transfer.path)}
		if kind == "work":
			facts |= {"task": self._state.current.rules.collecting, "at": time.time()}
		sender = self._state.current.name
		self._state.put_file(FileEntry(file, name, transfer.size, sender, bool(to), own=True, to=to, **facts))

	def _send_bytes(self, transfer: Transfer, source: io.FileIO) -> None:
		block = memoryview(bytearray(FILE_BLOCK))
		with self._connection(transfer) as stream:
			offset = parse_file_answer(stream.read_line(MAX_FILE_LINE))
			if offset is None or offset > transfer.size:
				raise PeerFault("bad_answer")
			source.seek(offset)
			transfer.done = offset
			while transfer.done < transfer.size:
				with _locally(*UNREAD, transfer.path):
					count = source.readinto(block)
				if not count:
					raise Refused("wrong_hash")
				stream.send(block[: min(count, transfer.size - transfer.done)])
				transfer.done = min(transfer.size, transfer.done + count)
				self._progress(transfer)
			if parse_file_answer(stream.read_line(MAX_FILE_LINE)) is not None:
				raise PeerFault("bad_answer")

	def _fetch(self, transfer: Transfer) -> None:
		part = self.folder / f"{_PART}{token_hex(8)}.part"
		whole = hashlib.sha256()
		try:
			with _locally(*UNSAVED, self.folder):
				self.folder.mkdir(parents=True, exist_ok=True)
				sweep(*self.folder.glob(f"{_PART}*.part"))
				out = part.open("xb", buffering=0)
			with out:
				self._persist(transfer, lambda: self._receive_bytes(transfer, out, whole))
		finally:
			remove_file(part)

	def _receive_bytes(self, transfer: Transfer, out: io.FileIO, whole: hashlib._Hash) -> None:
		with self._connection(transfer, offset=transfer.done) as stream:
			head = parse_file_head(stream.read_line(MAX_FILE_LINE))
			if head != {"size": transfer.size, "sha256": transfer.sha256, "offset": transfer.done}:
				raise PeerFault("bad_answer", "another file")
			stream.send(FILE_READY)
			for piece in stream.pieces(transfer.size - transfer.done):
				with _locally(*UNSAVED, transfer.name):
					write_all(out, piece)
				whole.update(piece)
				transfer.done += len(piece)
				self._progress(transfer)
			if whole.hexdigest() != transfer.sha256:
				raise Refused("wrong_hash")
			transfer.check()
			self._keep(transfer, out)
			with suppress(OSError):
				stream.send(FILE_DONE)

	def _keep(self, transfer: Transfer, out: io.FileIO) -> None:
		part = Path(str(out.name))
		with _locally(*UNSAVED, transfer.name):
			out.close()
			mark_as_downloaded(part)
			folder = self._folder(transfer)
			folder.mkdir(parents=True, exist_ok=True)
			transfer.path = give_free_name(part, folder, safe_file_name(transfer.name))

	def _folder(self, transfer: Transfer) -> Path:
		entry, title = self._state.file(transfer.file), self._state.current.title
		if entry is None or (self._options.downloads and entry.kind != "work"):
			return self.folder
		parts = (f"{title} {time.strftime('%Y-%m-%d')}", entry.sender)
		return self.folder.joinpath(*(safe_file_name(re.sub(r"[/\\]", "-", part)) for part in parts))


# ====
# [21] CONTROL LINK - joining, and the life of a control connection
# Uses: BASICS, WIRE, TRUST, LINKS, CLIENT MEDIA

FIRST_MESSAGES = frozenset({"welcome", "denied", "prove", "waiting", "pin", "pin_proof"})
PING_SECONDS = 1.0
DEAD_SECONDS = 3.5
PIN_QUEUE_SECONDS = 75.0  # the longest that failures of others count, and a little
WAITING_SECONDS = 600.0  # for the host to let one in
CONNECT_SECONDS = 1.5  # for TCP alone, at coming back: the way may have changed


@entity
class CommandConnection:
	"""One attempt at, and the life of, a control connection; OSError at once where none can begin.

	The loop's thread only.

	`resume(fingerprint)` is the token for a server, asked once its certificate is known, and whether that is
	known from before or as the host's standby; `trusts(welcome)` whether it proves to be one;
	`on_message(message)` for everything from the welcome on; `on_closed(refused)` once, with code
	"" where it just broke.
	"""

	_loop: Loop
	_options: ClientOptions
	_resume: Callable[[str], tuple[str, bool]]
	_trusts: Callable[[Json], bool]
	_on_message: Say
	_on_closed: Callable[[Refused], None]
	_epoch: int
	_patience: float  # seconds that TCP may take
	_lines: LineSplitter = field(default_factory=LineSplitter)
	_said: list[bytes] = field(default_factory=list)
	_proof: PinProof | None = None
	_proved: bool = False
	_known: bool = False
	_place: tuple[str, str] = ("", "")  # the public key of who is host, the meeting
	_refused: Refused | None = None
	_timer: Timer | None = None
	welcomed: bool = False
	heard: float = field(default_factory=monotonic)

	def __post_init__(self) -> None:
		key = "" if self._options.fingerprint in self._options.rights else self._options.host_key
		self._right = HostRight(key) if key else None
		self.link = link = connect_link(self._loop, self._options.at("control"), self._options.bind)
		link.on_open, link.on_bytes, link.on_close = self._opened, self._on_bytes, self._closed
		self._wait(2 * HANDSHAKE_SECONDS)
		self._loop.later(self._patience, lambda: None if link.connected else link.discard("timeout"))
		link.begin()

	@property
	def fingerprint(self) -> str:
		return self.link.fingerprint

	def send(self, type: str, **members: Any) -> None:
		"""Queue a message."""
		line = encode_line({"type": type, **members})
		if not self.welcomed:
			self._said.append(line)
		self.link.send(line)

	def close(self, reason: str = "left") -> None:
		"""Send what is queued, then end."""
		self.link.close(reason)

	def refuse(self, refused: Refused) -> None:
		"""End the connection for this reason."""
		self._refused = refused
		self.link.discard(refused.code)

	def _opened(self, link: TlsLink) -> None:
		expected = self._options.fingerprint
		if expected not in ("", link.fingerprint):
			self.refuse(Refused("host_changed"))
			return
		options = self._options
		hello: Json = {"v": PROTOCOL, "name": options.name, "pin": bool(options.pin), "features": FEATURES}
		hello["resume"], self._known = self._resume(link.fingerprint)
		if options.pin and not self._known:  # a try at the PIN may have to wait for its turn
			self._wait(PIN_QUEUE_SECONDS)
		if self._right:
			hello["host"] = self._right.public
		if self._epoch > 1:
			hello["epoch"] = self._epoch
		self.send("hello", **hello)

	def _wait(self, seconds: float) -> None:
		if self._timer:
			self._timer.cancel()
		self._timer = self._loop.later(
			seconds, lambda: None if self.welcomed else self.link.discard("timeout")
		)

	def _on_bytes(self, data: bytes) -> None:
		for line in self._lines.push(data):
			self.heard = monotonic()
			with skipping(self._loop.counters):
				message = parse_message(line, SERVER_MESSAGES)
				self._check_hosts(message)
				if self.welcomed and message["type"] not in FIRST_MESSAGES:
					self._on_message(message)
				else:
					self._before_welcome(message, line + b"\n")
			if self.link.closed:
				return

	def _before_welcome(self, message: Json, line: bytes) -> None:
		kind = message["type"]
		if self.welcomed:
			raise PeerFault("unexpected_message", kind)
		if kind == "denied":
			self.refuse(refusal(message))
		elif kind == "prove" and self._right:
			signature = self._right.prove(message, self.fingerprint)
			self.link.send(encode_line({"type": "proof", "signature": signature}))
		elif kind in ("waiting", "moved"):
			self._wait(WAITING_SECONDS)
			self._on_message(message)
		elif kind == "pin" and self._proof is None:  # each proof would let a false host test one PIN
			self._prove(bytes.fromhex(message["message"]), line)
		elif kind == "pin_proof" and self._proof:
			if self._proof.confirm(bytes.fromhex(message["mac"])) is None:
				self.refuse(Refused("host_unproven"))
			self._proved = True
		elif kind == "welcome":
			self._on_welcome(message)
		else:
			raise PeerFault("unexpected_message", kind)

	def _check_hosts(self, message: Json) -> None:
		if message["type"] == "welcome":
			self._place = self._options.teacher or message.get("host_key", ""), message["meeting"]
		users = message.get("users", [message["user"]] if "user" in message else [])
		for user in users:
			proof = user.pop("proof", None)
			signed = proof and is_host(*self._place, self.fingerprint, {**proof, "id": user["id"]})
			given = self._options.rights.get(self.fingerprint) == user["name"]
			if user["role"] == "host" and not (signed or given):
				user["role"] = "member"
		if message["type"] == "welcome":
			message["role"] = {user["id"]: user["role"] for user in users}.get(message["id"], "member")

	def _prove(self, peer_message: bytes, line: bytes) -> None:
		if not self._options.pin:
			self.refuse(Refused("pin_required"))
			return
		self._said.append(line)
		self._proof = PinProof(self._options.pin, self.fingerprint, host=False)
		self.send("pin", message=self._proof.message.hex())
		mac = self._proof.finish(peer_message, b"".join(self._said))
		self.send("pin_proof", mac=mac.hex())

	def _on_welcome(self, message: Json) -> None:
		proved = self._proved or self._known or not self._options.pin
		if not proved and not self._trusts(message):
			self.refuse(Refused("host_unproven"))
			return
		self.welcomed = True
		self._on_message(message)

	def _closed(self, reason: str) -> None:
		if self._timer:
			self._timer.cancel()
		tested = self._proof and not self.welcomed and not self._options.fingerprint
		# who is not known may have tried a PIN, and gets no other try
		broken = Refused("host_unproven") if tested else Refused("", Words(reason))
		self._on_closed(self._refused or broken)


# ====
# [22] CONTROLLER - commands, events, who goes on: the whole client without a window
# Uses: BASICS, WIRE, BANDWIDTH, CALL, TRUST, LINKS, PROCESS, DISCOVERY, DEVICES, CLIENT MEDIA,
# CLIENT PLANES, CONTROL LINK

# -- commands

# events that are facts for the log
LOGGED = frozenset({"joined", "denied", "reconnecting", "reconnected", "device", "left", "ended"})
# may be over at the next try
PASSING = frozenset({"", "no_meeting", "host_changed", "moved", "host_alive", "stale"})
MOST_SAID = 1_000
SAID = frozenset({"chat", "private_chat", "reaction", "hand"})
FILE_COMMANDS = ("upload", "download", "decline", "cancel", "hand_out", "hand_in")
# What is answered when it has come about; all else that the server is not asked: `ok`.
ANSWERED_BY_EVENT = frozenset(
	{"mic", "camera", "share", "end", "leave", "admit", "agree", "attendance", "hand_over", *FILE_COMMANDS}
)


@dataclass
class Said:
	"""What was said, until the server confirms it: neither lost nor said twice."""

	message: Json
	link: CommandConnection | None = None  # over which it was sent last
	at: float = 0.0


def _filled(key: str, command: Json) -> str:
	text = wanted(command, key, str)
	if not clean_text(text) or (key == "emoji" and len(text) > 32):
		raise Refused("bad_command", key=key)
	return text


def _text_of(state: StateManager, command: Json) -> str:
	text = _filled("text", command)
	if len(text) > MAX_CHAT:
		raise Refused("too_large", count=MAX_CHAT)
	return text


def _id_of(state: StateManager, command: Json) -> int:
	return someone(state, command).id


def _id_or_all(state: StateManager, command: Json) -> int | str:
	return "all" if command.get("who") == "all" else _id_of(state, command)


def _name_of(state: StateManager, command: Json) -> str:
	missed = state.current.missed
	return missed if missed and command.get("to") == missed else someone(state, command, "to").name


def _id_or_none(state: StateManager, command: Json) -> int:
	key = {"word": "to", "room": "same"}.get(command["do"], "who")
	return 0 if command.get(key, 0) is None else someone(state, command, key).id


def _title_of(state: StateManager, command: Json) -> str:
	return _filled("title", command) if wanted(command, "open", bool) else ""


def write_attendance(path: Path, rows: Sequence[Attended]) -> None:
	"""A table for spreadsheets in UTF-8 with the mark that Excel wants; times are local."""
	began = min((row.came for row in rows), default=0.0)
	path.parent.mkdir(parents=True, exist_ok=True)
	part = path.with_suffix(".part")
	with part.open("w", encoding="utf-8-sig", newline="") as out:
		table = csv.writer(out)
		table.writerow(["name", "came", "went", "minutes", "late", "lost"])
		for row in rows:
			times = [
				time.strftime("%H:%M:%S", time.localtime(at)) if at else "" for at in (row.came, row.went)
			]
			name = f"'{row.name}" if row.name[:1] in "=+-@" else row.name  # no formula of somebody's making
			minutes, late = round(row.seconds / 60, 1), round((row.came - began) / 60, 1)
			table.writerow([name, *times, minutes, late, row.lost])
	part.replace(path)


# What the server carries out, by command: the members of its message, each of a type or read by a function;
# "?" where it may be missing. The message's type is the command's name, but for these.
MESSAGE_TYPES = {"private": "private_chat", "react": "reaction", "ask": "question"}
Reader = type | Callable[[StateManager, Json], Any]
PLAIN_COMMANDS: Mapping[str, Mapping[str, Reader]] = {
	"chat": {"text": _text_of},
	"private": {"text": _text_of, "to_name": _name_of},
	"react": {"emoji": lambda _, told: _filled("emoji", told)},
	"hand": {"up": bool},
	"mute": {"who": _id_or_all, "what?": str},
	"unban": {"who": str},
	"permit": {"what": str, "on": bool, "who?": _id_of},
	"lower": {"who": _id_or_all},
	"door": {"mode": str},
	"cohost": {"who": _id_of, "on": bool},
	"room": {"same": _id_or_none},
	"ask_share": {"who": _id_of, "what?": str},
	"agree": {"to": str, "yes": bool},
	"rename": {"name": lambda _, told: _filled("name", told), "who?": _id_of},
	"ask": {"question": str, "answers": list},
	"answer": {"index": int},
	"timer": {"seconds": int},
	"collect": {"title": _title_of},
	"opened": {"file": str},
	"pause": {"on": bool},
	"one_room": {"on": bool},
	"remove": {"who": _id_of},
	"stand_by": {"who": _id_of},
	"word": {"who": _id_or_none},
	"spotlight": {"who": _id_or_none},
	**{name: {} for name in ("take_over", "end", "new_pin", "close_question", "remind")},
}


# -- the whole client without a window


class Part:
	"""A part of a participant: acts for her on the loop's thread."""

	def __init__(self, controller: MeetingController):
		self.me, self.options, self.state = controller, controller.options, controller.state

	@property
	def shot(self) -> Snapshot:
		"""The meeting as it is known now."""
		return self.state.current


class ServerLink(Part):
	"""The way to the meeting's server: made, proven, watched, and made anew when it is lost."""

	RETRY_SECONDS = 600.0
	STEADY = 5.0  # seconds: who stays less has come in vain

	def __init__(self, controller: MeetingController, home: Path):
		super().__init__(controller)
		self.asked_name = self.options.name  # under which the token is found again, whatever name was given
		self.meeting = ""
		self.tokens = ResumeTokens(home)
		self._known = KnownHosts(home)
		self.link: CommandConnection | None = None
		self.tries = 0
		self.try_until = 0.0  # for the first join, which has to be decided within 12 s
		self.lost_at = self.came = 0.0
		self._vain = 0  # times in a row that one came in vain or was sent on
		self._finder: MeetingFinder | None = None
		self._pinged = 0.0

	def connect(self) -> None:
		"""Try once to come in, or back."""
		if self.state.stands("ended"):
			return
		self.tries += 1
		self._aim_anew()
		told = self._resume_token, self._stands_in, self.me.on_message, self._on_closed
		patience = CONNECT_SECONDS if self.state.stands("reconnecting") else HANDSHAKE_SECONDS
		try:
			self.link = CommandConnection(self.me.loop, self.options, *told, self.shot.epoch, patience)
		except OSError as error:
			self._on_closed(Refused("", system_words(error)))

	def token_at(self, fingerprint: str) -> str:
		"""What proves who one is to that server alone."""
		return hmac.digest(self.tokens.root, f"{fingerprint} {self.asked_name}".encode(), "sha256").hex()

	def _resume_token(self, fingerprint: str) -> tuple[str, bool]:
		listed, token = self.me.successors.lists(fingerprint), None
		if not listed or servers_of(self.me.successors.record)[0] == fingerprint:
			token = self.tokens.get(fingerprint, self.meeting, self.asked_name)
		return (token or self.token_at(fingerprint), bool(token) or listed)

	def _aim_anew(self) -> None:
		if self.state.stands("reconnecting"):
			self.me.successors.aim(monotonic() - self.lost_at)
		ads = self._finder.meetings() if self._finder else []
		ours = [ad for ad in ads if ad.fingerprint == self.options.fingerprint]
		ours.sort(key=lambda ad: (ad.meeting != self.meeting, ad.address != self.options.address))
		if ours:
			self.options.address, self.options.port = ours[0].address, ours[0].port

	def _look_for_host(self) -> None:
		if self._finder is None:
			options, known = self.options, [(self.options.address, self.options.port)]
			self._finder = MeetingFinder(options.bind, known, options.port, counters=self.me.counters)
			self._finder.start()

	def end_looking(self) -> None:
		"""The server is found, or given up."""
		if self._finder:
			self._finder.close()
			self._finder = None

	def _on_closed(self, refused: Refused) -> None:
		if self.state.stands("ended"):
			return
		answered = refused.code or refused.reason in ("refused", "timeout")
		if not self.state.stands("joining"):
			self._on_lost(refused)
		elif not answered and monotonic() < self.try_until:
			self.me.loop.later(0.2 * self.tries, self.connect)
		else:
			where = f"{self.options.address}:{self.options.port}"
			words = "No meeting answers at {address} ({fault})."
			silent = Refused("no_meeting", words, address=where, fault=refused.reason)
			self.me.finish("denied", 1, **(refused if refused.code else silent).event)

	def _on_lost(self, refused: Refused) -> None:
		now, live = monotonic(), self.state.stands("live")
		self._vain *= not live or now - self.came < self.STEADY
		self._vain += live or refused.code == "moved"
		if live:
			self.lost_at = now
			self.state.become("reconnecting", reason=refused.reason)
			self.me.successors.tell_child("linked", on=False, epoch=self.shot.epoch)
			if self.link:
				self.me.requests.forget_dropped(self.link)
			self.me.files.disconnect()
			self.me.commands.answer_later("screen_stop")
			self.me.emit("reconnecting", reason=refused.reason)
		if refused.code not in PASSING or now - self.lost_at > self.RETRY_SECONDS:
			self.me.finish("ended", 0, **{**refused.event, "code": refused.code or "unreachable"})
			return
		if self._finder and refused.code == "host_changed":
			self._finder.distrust((self.options.address, self.options.port), self.options.fingerprint)
		if self.tries >= 2:
			self._look_for_host()
		self.me.successors.refused(refused)
		pause = 0.25 if self.me.successors.record else min(1.0, 0.25 * self.tries)
		# a server may lie: then 1, 2, 4, 8 s
		pause = 2.0 ** min(3, self._vain - 5) if self._vain > 4 else pause * (refused.code != "moved")
		self.me.loop.later(pause, self.connect)

	def ping(self) -> None:
		"""Give up a link on which nothing is heard."""
		if (link := self.link) is None or not link.welcomed or link.link.closed:
			return
		now = monotonic()
		if now - self._pinged > 2 * PING_SECONDS:  # asleep: what the host said meanwhile is yet to be read
			link.heard = max(link.heard, now - DEAD_SECONDS + 2 * PING_SECONDS)
		self._pinged = now
		self.me.media.follow_devices()
		if self.options.decode_all:
			media = self.me.media
			self.state.update(quality={ident: media.quality(ident) for ident in media.watched})
		if now - link.heard > DEAD_SECONDS:
			link.link.discard("silent")
		elif not is_own_address(link.link.socket.getsockname()[0]):
			link.link.discard("moved")
		else:
			link.send("ping", t=now, took_ms=self.me.delay)

	def is_the_known_one(self, message: Json) -> bool:
		"""Whether the host is the one it says, as far as is known; if not, all is over."""
		assert self.link is not None
		fingerprint = self.link.fingerprint
		title, host = message["title"], message["host"]
		if self.options.host_key or self.state.stands("reconnecting"):
			return True
		if (known := self._known.get(fingerprint)) is None:
			if self._stands_in(message):
				return True
			other = self._known.get(self.options.stands_for) or self._known.imitated(fingerprint, title, host)
			if other and not self.options.accept_changed:
				self.link.send("leave")
				changed = Refused("host_changed", title=other.title, host=other.host)
				self.me.finish("denied", 1, **changed.event)
				self.link.close()
				return False
			if message["served_by"] != host:
				return True
		more = {"port": self.options.port, "host_key": message.get("host_key", "")}
		self._known.remember(fingerprint, title, host, self.options.address, **more)
		self.state.update(new_host=known is None)
		return True

	def _stands_in(self, message: Json) -> bool:
		"""Whether a known host has named the server, for this meeting only."""
		for known in self._known.all() if "record" in message else ():
			with suppress(PeerFault):
				record = read_record(message["record"], known.host_key)
				fresh = record["n"] >= self.me.successors.newest(known.host_key)
				ours = fresh and record["meeting"] == message["meeting"]
				if ours and self.link and self.link.fingerprint in servers_of(record):
					self.options.teacher = known.host_key
					return True
		return False

	@property
	def standing(self) -> CommandConnection | None:
		"""The link, unless it is lost."""
		return self.link if self.state.stands("live") else None


class Requests(Part):
	"""What the server was asked, by number, and what was said until the server confirms it."""

	def __init__(self, controller: MeetingController):
		super().__init__(controller)
		# not from 0: a server takes a known number for a repetition
		self._number = randbelow(1 << 52)
		self.waiting: dict[int, Say] = {}  # for an answer
		self._said: dict[int, Said] = {}

	def make(self, message: Json, on_answer: Say) -> None:
		"""Send `message` with a number; the answer or error with that number comes back."""
		self._number += 1
		self.waiting[self._number] = on_answer
		numbered = {**message, "ref": self._number}
		if message["type"] in SAID and len(self._said) < MOST_SAID:
			self._said[self._number] = Said(numbered)
			self._say(self._number)
		elif link := self.me.server.standing:
			link.send(**numbered)

	def answer(self, message: Json) -> bool:
		"""Hand `message` to whoever asked for it; False if nobody did."""
		call = self.waiting.pop(number := message.get("ref", -1), None)
		self._said.pop(number, None)
		if call:
			call(message)
		return call is not None

	def forget_dropped(self, lost: CommandConnection) -> None:
		"""What was asked over the `lost` link has no answer; what was said is said again.

		Not what the server heard DEAD_SECONDS before the loss: it had confirmed it if it had taken it.
		"""
		for number in list(self.waiting):
			said = self._said.get(number)
			if said is None or (said.link is lost and lost.heard - said.at > DEAD_SECONDS):
				self.answer({"type": "error", "code": "unreachable", "ref": number})

	def say_again(self, lines: list[Json]) -> None:
		"""Say what is not among the `lines` of the welcome, at a pace that the server takes (`RATES`)."""
		for line in lines:
			self.answer({"type": "ok", "ref": line.get("ref", -1)})
		for place, number in enumerate(self._said):
			self.me.loop.later(max(0.0, 0.1 * (place - 20)), partial(self._say, number))

	def _say(self, number: int) -> None:
		said, link = self._said.get(number), self.me.server.standing
		if said and link and said.link is not link and not self.me.successors.holds(said.message):
			said.link, said.at = link, monotonic()
			link.send(**said.message)


LAST_RECORD = "succession.json"  # signed by this home's host, who finds her meeting by it


class Successors(Part):
	"""Who goes on when the server fails, as the host signed it, and the own standby."""

	PATIENCE = 1.0  # for the server that was lost
	UNREACHED = 3  # times: others reach the server, this computer does not

	def __init__(self, controller: MeetingController, home: Path):
		super().__init__(controller)
		self._home = home
		self._settings = Settings(home)
		self.record: Json = {}
		self._signed: Json = {}
		self._reached: dict[str, Address] = {}  # by fingerprint, where that server was reached
		self._here = ""  # the fingerprint of the server that was reached last
		self._goal: Json = {}  # where the server has sent everyone
		self._turn = self._alive = 0
		self._child: ChildKeeper | None = None
		self.serving: Json = {}  # what the child has said
		self._lines: list[Json] = []  # that another server may not have
		self._given = ""  # who is to have her rights, by name
		self._named = False  # the own standby, by the last record over this link

	def close(self) -> None:
		"""End the standby. Any thread."""
		if self._child:
			self._child.close(2.0)

	# -- the record

	def lists(self, fingerprint: str) -> bool:
		"""Whether the host has named that server."""
		return fingerprint in servers_of(self.record)

	def newest(self, key: str) -> int:
		"""The number of the last record seen of the host of that public key, in whatever meeting."""
		return self._settings.get(f"signed {key}", 0)

	def _on_record(self, told: Json) -> None:
		try:
			self.take(told)
		except PeerFault as fault:  # whoever serves may say what the host has not signed: it is not believed
			self.me.counters.add(fault.kind)

	def take(self, told: Json) -> None:
		"""The host has signed who goes on; PeerFault where not, or where this is an old one."""
		record = read_record(told, self.options.teacher)
		age = itemgetter("epoch", "n")
		if (self.record and age(record) < age(self.record)) or record["meeting"] != self.me.server.meeting:
			raise PeerFault("record", "of another meeting or time")
		self.record, self._signed = record, {key: told[key] for key in SIGNED}
		self._settings.set(f"signed {record['host_key']}", record["n"])
		self.options.rights = record.get("rights", {})
		names = tuple(one["name"] for one in record["servers"][1:])
		if names != self.shot.heirs:
			self.state.update(heirs=names)
			self.me.emit("succession", names=list(names))
		servers = servers_of(record)
		digests = {one: digest(self.me.server.token_at(one)) for one in servers}
		self.me.send("claims", digests=digests)
		self.tell_child("record", **self._signed)
		if self.options.host_key:
			_save_json(self._home / LAST_RECORD, self._signed)
			before, own = self._named, self.serving.get("fingerprint", self._here)
			self._named = own != self._here and own in servers[1:]
			if self.shot.role == "host" and self._named > before:  # she is back; asked, it is signed anew
				self.me.send("hand_over", to=self.shot.me, rights=False)

	def _on_sign(self, message: Json) -> None:
		"""Sign who goes on. Elsewhere than at home the host names nobody new."""
		own, home = HostRight(self.options.host_key), load_identity(self._home).fingerprint
		servers, known = servers_of(message), {home, *servers_of(self.record)}
		if servers[0] != self._here or (self._here != home and not known.issuperset(servers)):
			raise PeerFault("record", "names others")
		now, given = self.shot, self._given
		# whatever her clock does, in this meeting and from one to the next
		number = 1 + max(int(time.time()), self.newest(own.public))
		record = {
			"meeting": now.meeting, "title": now.title, "pin": bool(now.pin), "epoch": now.epoch,
			"servers": message["servers"],
			"rights": {one["fingerprint"]: given for one in message["servers"] if one["name"] == given},
			"host_key": own.public, "n": number,
		}  # fmt: skip
		self.me.send("record", **own.sign(json.dumps(record)))

	# -- where to go

	def aim(self, lost: float) -> None:
		"""Choose the server to try next, `lost` seconds after the link was."""
		servers = self.record["servers"] if self.lists(self._here) else []
		options, goal = self.options, self._goal
		if not goal and len(servers) > 1 and lost > self.PATIENCE:
			here = servers_of(self.record).index(self._here) + 1
			goal, self._turn = [*servers[here:], *servers[:here]][self._turn % len(servers)], self._turn + 1
			options.address, options.port = self._reached.get(
				goal["fingerprint"], (goal["address"], goal["port"])
			)
		elif goal:
			options.address, options.port = goal["address"], goal["port"]
		if goal:
			options.fingerprint, self._goal = goal["fingerprint"], {}

	def _on_moved(self, message: Json) -> None:
		if not self.lists(message["server"]["fingerprint"]):
			raise PeerFault("record", "not named")
		self._goal = message["server"]
		if link := self.me.server.link:
			link.refuse(Refused("moved"))

	def refused(self, refused: Refused) -> None:
		"""What was tried says why not: others may reach what this computer does not."""
		self._alive += refused.code == "host_alive"
		if self._alive == self.UNREACHED:
			self._alive = 0
			self.me.emit("reconnecting", **refused.event)

	def arrived(self, message: Json, fingerprint: str) -> bool:
		"""In at a server; whether that is another one."""
		before, self._here, self._turn, self._alive = self._here, fingerprint, 0, 0
		self._named = False
		self._reached[fingerprint] = self.options.address, self.options.port
		if told := message.get("record", self._signed):
			self._on_record(told)
			if self.options.host_key and not self.record:  # shown another's, she has her own
				self._on_record(_load_json(self._home / LAST_RECORD))
		self.tell_child("linked", on=True, epoch=message["epoch"])
		if message["role"] != "host" and self._agreed():
			self._start()
		self._offer()
		return before not in ("", fingerprint)

	# -- the own standby

	def _agreed(self) -> bool:
		chosen = self.options.standby
		return chosen == "yes" or (chosen == "auto" and self._settings.get(self._kept, False))

	@property
	def _kept(self) -> str:
		return f"stand_by {self.options.teacher}"

	def _on_asked(self, message: Json) -> None:
		settled = self._agreed() or self.options.standby == "no" or message["by"] == self.shot.name
		if message["to"] == "stand_by" and settled:
			self.agree({"to": "stand_by", "yes": self.options.standby != "no"})
		else:
			self.me.emit("asked", to=message["to"], by=message["by"])

	def agree(self, command: Json) -> None:
		"""This computer serves if the server fails, or not; remembered for this host."""
		yes = wanted(command, "yes", bool)
		self.me.ask(command, "agree", to="stand_by", yes=yes)
		if self.shot.role != "host":
			self._settings.set(self._kept, yes)
		if yes:
			self._start()
		elif self._child:
			self._child.stop()
			self._child, self.serving = None, {}
			self._offer()

	def _start(self) -> None:
		if self._child:
			return
		now, options = self.shot, self.options
		pin = options.pin or (now.pin if now.role == "host" else "")
		first = {
			"title": now.title, "host_name": now.host, "pin": pin, "standby": now.name, "base": options.port,
			"bind": options.bind, "host_key": options.teacher,
		}  # fmt: skip

		def hear(told: Json) -> None:
			self.me.post(lambda: self._hear(told))

		self._child = ChildKeeper("standby", ["--serve-child"], first, hear, ending="end")
		self._child.start()

	def _hear(self, told: Json) -> None:
		if told["event"] == "gave_way":
			self._lines = told["lines"]
		elif told["event"] == "serves":
			self.me.send("serving")
		elif told["event"] == "serving":
			self.serving = told
			if self._signed:
				self.tell_child("record", **self._signed)
			self.tell_child("linked", on=True, epoch=self.shot.epoch)
			self._offer()

	def _offer(self) -> None:
		"""Tell another server that this computer can serve, or no longer."""
		own, port = self.serving.get("fingerprint", "00" * 32), self.serving.get("port", 0)
		if own != self._here and bool(self.serving) == bool(self._child):
			wired = next((one.kind == "wired" for one in plausible_interfaces(self.options.bind)), False)
			place = {"fingerprint": own, "port": port, "rank": 2 * (not wired) + (not on_mains())}
			self.me.send("standing_by", **place)

	def tell_child(self, do: str, **more: Any) -> None:
		"""Give the own standby an order."""
		if self._child:
			self._child.tell(do, **more)

	def _on_serve(self, message: Json) -> None:
		self.tell_child("serve", epoch=message["epoch"])

	def _on_copy(self, message: Json) -> None:
		self.tell_child("copy", state=message["state"])
		lines, self._lines = self._lines, []
		for line in lines:
			self.me.send("line", **line)

	def hand_over(self, command: Json) -> None:
		"""The meeting goes on at somebody's computer or, once her standby is ready, at the host's own."""
		to, rights = someone(self.state, command, "to"), wanted(command, "rights", bool)
		own = to.id == self.shot.me
		self._given = to.name if rights and not own else ""
		if own:
			self.me.ask(command, "stand_by", who=to.id)
		else:
			self.me.ask(command, "hand_over", to=to.id, rights=rights)

	def holds(self, message: Json) -> bool:
		"""Whether a text to the host waits here."""
		if waits := message.get("to_name") == self.shot.missed:
			self.me.emit("private_waits", host=self.shot.missed, text=message["text"])
		return waits


class Commands(Part):
	"""What a participant is told to do; each command is answered once, some when it has come about."""

	def __init__(self, controller: MeetingController):
		super().__init__(controller)
		self.early: list[Json] | None = []  # until one is in
		self.wanted: dict[str, bool] = {}  # devices from the press on, and the hand until it is answered
		self.end_ref: Any = None
		self.watch_sent: Json = {}
		self._later: dict[str, list[Any]] = {}  # what an event of a device or the own share answers
		self._watch: dict[str, tuple[int, int]] = {}
		self._camera_back = False  # when the own share ends

	def renamed(self, before: str, name: str) -> None:
		"""Who is called otherwise now is watched on."""
		self._watch = {name if one == before else one: what for one, what in self._watch.items()}

	def device_changed(self, what: str, state: str, reason: str) -> None:
		"""A device is off, live or failed now."""
		self.state.update(devices={**self.shot.devices, what: state})
		on = state == "live"
		if state == "failed" and not self.me.media.on(what):
			self.wanted[what] = False
		if on == self.me.media.on(what) or state == "failed":
			self.answer_later("device", what, what=what, state=state, reason=reason)
		else:
			self.me.emit("device", what=what, state=state, reason=reason)
		self.tell_state(what, on)

	def tell_state(self, what: str, on: bool) -> None:
		"""Tell the server that a device is on or off."""
		if what == "mic":
			self.me.send("mic", on=on)
		elif what == "camera":
			self.me.send("video_start" if on else "video_stop")

	def carry_out(self, command: Json) -> None:
		"""Do what a command says; errors are its answer."""
		ref = command.get("ref")
		if self.early is not None and command.get("do") != "leave":
			self.early.append(command)
			return
		if ref is not None:
			self.me.refs.append(ref)
		try:
			name = str(command.get("do"))
			if (handler := self._handler(name)) is None:
				raise Refused("bad_command", key="do")
			if not may_say(self.shot.role, MESSAGE_TYPES.get(name, name)):
				raise Refused("not_allowed")
			handler(command)
			if name not in ANSWERED_BY_EVENT and name not in PLAIN_COMMANDS:
				self.me.emit("ok", ref)
		except Refused as refused:
			self.me.emit("error", ref, **refused.event)
		except PeerFault as fault:
			self.me.emit("error", ref, **fault.refused.event)

	def _handler(self, name: str) -> Say | None:
		if name in FILE_COMMANDS:
			return cast(Say, getattr(self.me.files, name))
		return getattr(self, f"_do_{name}", self._tell_server if name in PLAIN_COMMANDS else None)

	def _tell_server(self, command: Json) -> None:
		name = command["do"]
		message: Json = {}
		for member, of in PLAIN_COMMANDS[name].items():
			key = member.rstrip("?")
			if key == member or key in command:
				message[key] = wanted(command, key, of) if isinstance(of, type) else of(self.state, command)
		self.me.ask(command, MESSAGE_TYPES.get(name) or name, **message)

	def _do_admit(self, command: Json) -> None:
		who, number, on = command.get("who"), command.get("n"), wanted(command, "yes", bool)
		asks = [n for n, one in self.shot.asks.items() if n == number or who in (one["name"], "all")]
		if not asks:
			raise Refused("no_such_person")
		for other in asks[1:] if who == "all" else ():
			self.me.send("admit", ask=other, on=on)
		self.me.ask(command, "admit", ask=asks[0], on=on)

	def _do_agree(self, command: Json) -> None:
		if command.get("to") == "stand_by":
			self.me.successors.agree(command)
			return
		self._tell_server(command)
		if command["yes"]:
			self._do_share({"source": command.get("source", "screen:0"), "on": True})

	def count_down(self, left: float, ref: Any) -> None:
		"""Say what is left of the timer: now, every 10 s, and at its end."""
		ends = monotonic() + left if left else 0.0
		self.state.update(timer=ends)

		def tell(ref: Any = None) -> None:
			if self.shot.timer != ends or self.me.status is not None:
				return
			rest = max(0.0, ends - monotonic()) if ends else 0.0
			self.me.emit("timer", ref, seconds=math.ceil(rest - 0.1))
			if rest:
				self.me.loop.later(rest % 10 or 10.0, tell)

		tell(ref)

	def _do_attendance(self, command: Json) -> None:
		path, ref, aside = Path(wanted(command, "path", str)), command.get("ref"), "aside" in command
		if not self.me.server.standing or (aside and self.me.refs.count(ref) > 1):  # a slow disk
			raise Refused("unreachable")

		def write(message: Json) -> None:
			answer = partial(self.me.emit, "ok", ref)
			try:
				if message["type"] == "error":
					raise refusal(message)
				with _locally("bad_command", UNWRITABLE, path):
					write_attendance(path, [Attended.read(row) for row in message["rows"]])
			except Refused as refused:
				answer = partial(self.me.emit, "error", ref, **refused.event)
			self.me.post(answer)

		def begin(message: Json) -> None:
			Worker("attendance", lambda _: write(message)).start()

		self.me.requests.make({"type": "attendance"}, begin if aside else write)

	def _do_end(self, command: Json) -> None:
		if self.state.stands("reconnecting"):  # there is no server to tell
			self.me.leave(command.get("ref"))
			return
		self.end_ref = command.get("ref")
		self._tell_server({**command, "ref": None})  # `ended` is its answer

	def _do_mic(self, command: Json) -> None:
		what, on = command["do"], wanted(command, "on", bool)  # or camera
		if on and not self.shot.may(what):
			self.wanted[what] = False
			raise not_permitted(what)
		self._camera_back &= what != "camera"
		state = self.shot.devices.get(what, "off")
		if on == self.me.media.on(what) == (state == "live"):
			self.me.emit("device", command.get("ref"), what=what, state="live" if on else "off", reason="")
			return
		self.options.talks_held = "held" in command
		self._later.setdefault(what, []).append(command.get("ref"))
		self.turn(what, on)

	_do_camera = _do_mic

	def turn(self, what: str, on: bool) -> None:
		"""Turn a device on or off."""
		self._camera_back &= what != "camera"
		if self.shot.devices.get(what) == "failed" or on != self.me.media.on(what):
			self.wanted[what] = on
			self.me.media.turn(what, on)

	def _do_hand_over(self, command: Json) -> None:
		self.me.successors.hand_over(command)

	def _do_leave(self, command: Json) -> None:
		leave = partial(self.me.post, partial(self.me.leave, command.get("ref")))
		if not (self.me.requests.waiting and self.me.server.standing):
			leave()
			return
		self.me.requests.make({"type": "leave"}, lambda _: leave())  # is answered after all before it
		self.me.loop.later(CLOSING_SECONDS, leave)

	def _do_watch_screen(self, command: Json) -> None:
		self.me.screen.watch(wanted(command, "on", bool))

	def _do_watch(self, command: Json) -> None:
		streams = wanted(command, "streams", dict)
		chosen: dict[str, tuple[int, int]] = {}
		for name, choice in streams.items():
			layer = choice.get("layer", 0) if isinstance(choice, dict) else -1
			fps = choice.get("fps", DEFAULT_FPS) if isinstance(choice, dict) else 0
			if type(layer) is not int or not 0 <= layer < len(LAYERS):
				raise Refused("bad_command", key="layer")
			if type(fps) not in (int, float) or not 1 <= fps <= MAX_FPS:
				raise Refused("bad_command", key="fps")
			chosen[name] = (layer, round(fps))
		self._watch = chosen
		self.send_watch()
		if absent := [name for name in chosen if not self.state.named(name)]:
			self.me.emit("ok", command.get("ref"), absent=absent)

	def send_watch(self) -> None:
		"""Tell the server whose pictures are wanted."""
		ids = {one.id: self._watch[one.name] for one in self.shot.people if one.name in self._watch}
		ids.pop(self.shot.me, None)
		self.me.media.watch(frozenset(ids))
		streams = {str(ident): {"layer": layer, "fps": fps} for ident, (layer, fps) in ids.items()}
		if streams != self.watch_sent:
			self.watch_sent = streams
			self.me.send("watch", streams=streams)

	def _do_sound(self, command: Json) -> None:
		if command.get("mode") not in SOUNDS:
			raise Refused("bad_command", key="mode")
		self.me.media.choose("sound", command["mode"])

	def _do_volume(self, command: Json) -> None:
		person, gain = someone(self.state, command), command.get("gain", -1)
		if type(gain) not in (int, float) or not 0 <= gain <= 2:
			raise Refused("bad_command", key="gain")
		self.state.update(gains={**self.shot.gains, person.name: gain})
		self.send_gains()

	def send_gains(self) -> None:
		"""Tell the server how loud others are to be."""
		people, gains = self.shot.people, self.shot.gains
		if gains:
			chosen = {str(one.id): gains[one.name] for one in people if one.name in gains}
			self.me.send("volume", gains=chosen)

	def _do_share(self, command: Json) -> None:
		on, source = wanted(command, "on", bool), command.get("source", "screen:0")
		if not isinstance(source, str) or not source:
			raise Refused("bad_command", key="source")
		kind, current = "screen_start" if on else "screen_stop", self.shot
		self._later.setdefault(kind, []).append(command.get("ref"))
		if on:
			self.me.screen.share(source)
			return
		self.me.screen.stop_sharing()
		if self._later.get("screen_start"):
			self.share_failed(Refused("cancelled"))
		# nobody saw it, or can be told
		if self.state.stands("reconnecting") or current.presenter != current.me:
			self.answer_later(kind, id=current.me, name=current.name)

	def _do_pause(self, command: Json) -> None:
		self.me.screen.paused = wanted(command, "on", bool)
		self._tell_server(command)

	def share_failed(self, refused: Refused) -> None:
		"""The own share did not come about."""
		self.answer_later("error", "screen_start", **refused.event)

	def answer_later(self, event: str, waiting: str = "", **fields: Any) -> None:
		"""Answer each command that was `waiting` with `event`, or `ok` where there are no fields."""
		refs = [ref for ref in self._later.pop(waiting or event, []) if ref is not None]
		for ref in refs or [None]:
			self.me.emit(event if fields else "ok", ref, **fields)

	def sharing_changed(self, on: bool) -> None:
		"""While one shares, the own camera is off."""
		if on:
			if self.me.screen.paused:  # the server has it anew
				self.me.send("pause", on=True)
			back = self._camera_back or self.me.media.on("camera")
			self.turn("camera", False)
			self._camera_back = back
		elif self._camera_back and not self.state.stands("ended"):
			self.turn("camera", True)

	def _do_snapshot(self, command: Json) -> None:
		of, path = wanted(command, "of", str), wanted(command, "path", str)
		if (picture := self._newest(command)) is None:
			raise Refused("nothing_yet", name=of)
		with _locally("bad_command", UNWRITABLE, path):
			Path(path).write_bytes(encode_png(picture))
		height, width = picture.shape[:2]
		self.me.emit("snapshot", command.get("ref"), of=of, path=path, width=width, height=height)

	def _newest(self, command: Json) -> Picture | None:
		if command["of"] == "screen":
			return self.me.screen.newest()
		if command["of"] == self.shot.name:
			return self.me.media.picture("self")[1]
		return self.me.media.newest(someone(self.state, command, "of").id)

	def _do_users(self, command: Json) -> None:
		self.me.emit_all([self.state.users()], command.get("ref"))

	def _do_stats(self, command: Json) -> None:
		people, media = self.shot.people, self.me.media
		video = {one.name: figures for one in people if (figures := media.video_stats(one.id)) is not None}
		audio, screen = media.audio.stats() if media.audio else {}, self.me.screen.stats()
		told = {"audio": audio, "screen": screen, "udp": media.udp()}
		self.me.emit("stats", command.get("ref"), video=video, **told, counters=self.me.counters.snapshot())


class MeetingController:
	"""A participant: takes headless commands, gives events and snapshots.

	`gui_queue` holds the events in order; after `left`, `ended` or `denied` nothing more comes.
	Everything happens on the loop's thread; `do` may be called from any.
	"""

	def __init__(self, options: ClientOptions, home: Path):
		self.options = options
		self.gui_queue = SimpleQueue[Json]()
		self.counters = Counters()
		self.state = StateManager()
		self.status: int | None = None  # of the process, once it has ended
		self._home = home
		self.loop = Loop("client", self.counters)
		self.post = self.loop.post
		self.refs: list[Any] = []  # of the commands that have had no final answer
		self.delay = 0.0  # ms; a host's is at least the class's
		self.server = ServerLink(self, home)
		self.successors = Successors(self, home)
		self.requests = Requests(self)
		self.commands = Commands(self)
		self.media = MediaManager(
			options, self.counters,
			lambda *told: self.post(partial(self.commands.device_changed, *told)),
			lambda ident: self.post(lambda: self.emit_all(self.state.speaking(ident))),
		)  # fmt: skip
		self._on_encode = self.media.encode
		self.media.air.on_early = lambda: self.post(lambda: self.send("early"))
		told = self.commands.share_failed, self.commands.sharing_changed
		self.screen = ScreenPlane(self.loop, options, self.requests.make, *told)
		self.files = FileTransfers(options, self.loop, self.state, self.emit, self.ask, self.requests.make)

	def start(self, meeting: str = "") -> None:
		"""Start joining; `meeting` is its id where discovery has told it."""
		self.server.meeting = meeting
		self.server.try_until = monotonic() + 1.0
		self.loop.start()
		self.post(self.server.connect)
		self.loop.every(PING_SECONDS, self.server.ping)
		self.loop.every(REPORT_URGENT, self._report_path)

	def do(self, command: Json) -> None:
		"""Carry out a command of the headless interface; never blocks."""
		what, on = command.get("do"), command.get("on", command.get("up"))
		if what in ("mic", "camera", "hand") and isinstance(on, bool):
			self.commands.wanted[what] = on
		self.post(lambda: self.commands.carry_out(command))

	def choose(self, what: str, value: Any) -> None:
		self.post(lambda: self.media.choose(what, value))

	def snapshot(self) -> Snapshot:
		"""Everything a window shows, now."""
		own: Json = {"delay_ms": self.delay, "wanted": dict(self.commands.wanted)}
		return replace(self.state.current, **self.media.heard(), **own)

	def on_picture(self, call: Act) -> None:
		"""Have the decoder's thread `call` whenever `picture` has something new."""
		self.media.on_picture = call

	def picture(self, key: int | str) -> Shown:
		return self.screen.picture() if key == "screen" else self.media.picture(key)

	def close(self, deadline: float = 3.0) -> None:
		"""Leave, if still in, and end every thread; may be called twice."""
		self.post(self.leave)
		self.files.close(deadline)
		self.loop.close(deadline)
		self.server.end_looking()
		self.screen.close()
		for what in ("timers", "system"):
			power.need(what, self, False)
		self.media.close()
		self.successors.close()
		self.server.tokens.close()

	def emit(self, event: str, ref: Any = None, **fields: Any) -> None:
		"""Put an event on the queue; only the final answer to a command carries its `ref`."""
		if self.state.stands("ended") or (event == "ok" and ref not in self.refs):
			return
		entry: Json = {"event": event, "time": time.time(), **fields}
		if ref in self.refs:
			entry["ref"] = ref
			if event != "file_progress":
				self.refs.remove(ref)
		self.gui_queue.put(entry)
		if event in LOGGED:
			log.info("%s: %s", event, fields)

	def finish(self, event: str, status: int, **fields: Any) -> None:
		"""Emit the last event, with the status of the process."""
		if self.state.stands("ended"):
			return
		if counters := self.counters.snapshot():
			log.info("dropped and counted: %s", counters)
		self.server.end_looking()
		self.server.tokens.close()  # for who comes back while devices are closed yet
		for ref in [one for one in self.refs if one != fields.get("ref")]:
			self.emit("error", ref, **Refused("no_meeting", "The meeting has ended.").event)
		self.emit(event, **fields)
		self.status = status
		self.state.become("ended", reason=fields.get("reason", ""))
		self.screen.stop_sharing()

	def leave(self, ref: Any = None) -> None:
		"""Say goodbye and end. The loop's thread."""
		if self.state.stands("ended"):
			return
		link = self.server.link
		if link and link.welcomed:
			link.send("leave")
		self.finish("left", 0, ref=ref, reason="left")
		if link:
			link.close()

	def _report_path(self) -> None:
		if self.server.standing and (report := self.media.path_report()):
			self.send("report", **report)

	def send(self, type: str, **members: Any) -> None:
		"""Send a message of that type to the server, if the link stands."""
		if link := self.server.standing:
			link.send(type, **members)

	def ask(self, command: Json, type: str, **members: Any) -> None:
		"""Send a message of that type for `command`; what answers it carries the command's `ref`.

		Refused while there is no link, but what is said waits for one.
		"""
		if type not in SAID and not self.server.standing:
			raise Refused("unreachable")
		if "ref" in command or type in SAID:
			self.requests.make({"type": type, **members}, partial(self._on_answer, command.get("ref")))
		else:
			self.send(type, **members)

	def _on_answer(self, ref: Any, message: Json) -> None:
		if message["type"] == "error":
			self.emit("error", ref, **refusal(message).event)
		else:
			self._apply(message, ref)
			self.emit("ok", ref)

	def on_message(self, message: Json) -> None:
		"""Take a message of the server, by `_on_TYPE` here or in Successors."""
		kind = message["type"]
		if self.requests.answer(message):
			return
		if kind in ("state", "welcome"):  # unasked: the roster knows better
			self.commands.wanted.pop("hand", None)
		handlers = (getattr(one, f"_on_{kind}", None) for one in (self, self.successors))
		next(filter(None, handlers), self._apply)(message)

	def _on_listen(self, _: Json) -> None:
		self.media.air.begin()

	def _on_error(self, message: Json) -> None:
		what = "mic" if message["code"] == "no_word" else message.get("why")
		if what in ("mic", "camera"):  # it was opened while the right to it was taken
			self.commands.turn(what, False)
		self.emit("error", **refusal(message).event)

	def _on_pong(self, message: Json) -> None:
		self.delay = max((monotonic() - message["t"]) * 1e3, message.get("class_ms", 0.0))

	def _on_audio_keys(self, message: Json) -> None:
		if audio := self.media.audio:
			audio.loop.post(partial(audio.rekey, self.state.current.me, message["up"], message["down"]))
		self.commands.send_gains()

	def _on_muted(self, message: Json) -> None:
		self.commands.turn(message.get("what", "mic"), False)
		self._apply(message)

	def _on_file_gone(self, message: Json) -> None:
		if not self.files.withdrawn(message):
			self._apply(message)

	def _on_file_offer(self, message: Json) -> None:
		self._apply(message)
		entry = self.state.file(message["file"])
		if entry and entry.kind and not entry.own and entry.state == "offered":
			self.files.download({"file": entry.file})  # a sheet or handed-in work: nobody is asked

	def _on_ended(self, message: Json) -> None:
		if message["type"] == "ended":  # who was removed may be let back as who it was
			at = self.server
			at.tokens.drop(self.options.fingerprint, at.meeting, at.asked_name)
		self.finish("ended", 0, ref=self.commands.end_ref, **refusal(message).event)
		if self.options.host_key:
			remove_file(self._home / LAST_RECORD)
		if self.server.link:
			self.server.link.close("ended")

	_on_removed = _on_ended

	def _apply(self, message: Json, ref: Any = None) -> None:
		if message["type"] == "timer":
			self.commands.count_down(message["left"], ref)
		if message["type"] == "state" and (known := self.state.current.person(message["user"]["id"])):
			self.commands.renamed(known.name, message["user"]["name"])
		for event in self.state.apply(message):
			kind = event.pop("event")
			if kind in ("screen_start", "screen_stop") and event["id"] == self.state.current.me:
				self.commands.answer_later(kind, **event)
			else:
				self.emit(kind, ref, **event)
		self.screen.follow(self.state.current.presenter, self.state.current.me)
		if message["type"] in ("join", "leave", "user_list", "welcome"):
			power.need("timers", self, True)
			power.need("system", self, len(self.state.current.people) > 1)
			self.commands.send_watch()
			self.commands.send_gains()
			if not self.state.current.missed:
				self.requests.say_again([])

	def _on_welcome(self, message: Json) -> None:
		server, link = self.server, self.server.link
		if not link or not server.is_the_known_one(message):
			return
		fingerprint = link.fingerprint
		self.options.fingerprint = fingerprint
		self.options.name = message["name"]
		server.meeting = message["meeting"]
		self.options.teacher = self.options.teacher or message.get("host_key", "")
		if message["served_by"] == message["host"]:
			server.tokens.put(fingerprint, server.meeting, server.asked_name, message["resume"])
			link.send("resumed")
		back = self.state.stands("reconnecting")
		self.state.become("live")
		self.state.update(fingerprint=fingerprint, since=monotonic() - message.get("lasted", 0.0))
		if back:
			where = {key: message[key] for key in ("epoch", "served_by")}
			self.emit("reconnected", seconds=round(monotonic() - server.lost_at, 2), **where)
			self.media.encode({"layers": {}})
			self.media.go_on(message)
			self.screen.renew()
		else:
			keys = ("id", "name", "meeting", "title", "host", "role", "epoch", "served_by")
			told = {key: message[key] for key in keys}
			self.emit("joined", **told, address=self.options.address, encrypted=True)
			self.media.start(message)
		server.tries, server.came = 0, monotonic()
		server.end_looking()
		self.commands.watch_sent = {}
		files = self.state.current.files
		self._apply(message)
		if self.successors.arrived(message, fingerprint):
			again = partial(self.files.offer_again, files, [one["file"] for one in message["files"]])
			self.loop.later(2.0, again)  # all are in
			where = {"address": self.options.address, "name": message["served_by"], "epoch": message["epoch"]}
			self.emit("moved", **where, seconds=round(monotonic() - server.lost_at, 2))
		for what in ("mic", "camera"):
			live = self.state.current.devices.get(what) == "live"
			if live != getattr(self.state.me, what):  # after a crash the server shows the camera as it was
				self.commands.tell_state(what, live)
		early, self.commands.early = self.commands.early or [], None
		for command in early:
			self.commands.carry_out(command)
		self.requests.say_again([*message["chat"], *message["private"]])

	def emit_all(self, events: list[Json], ref: Any = None) -> None:
		"""Emit what `state` says."""
		for event in events:
			self.emit(event.pop("event"), ref, **event)


# ====
# [23] HEADLESS - finding, hosting, and the whole client as commands and events
# Uses: BASICS, WIRE, TRUST, LINKS, PROCESS, DISCOVERY, CLIENT MEDIA, CONTROLLER

DECIDE_SECONDS = 0.4
LAST_EVENTS = frozenset({"left", "ended", "denied"})


def choose_meeting(ads: Sequence[MeetingAd], known: KnownHosts, has_pin: bool) -> MeetingAd:
	"""The only meeting of a known host or, where none is known, the only one at all; else Refused."""
	mine = [ad for ad in ads if known.get(ad.fingerprint) or known.get(ad.stands_for)]
	candidates = mine or ([] if known.all() else list(ads))
	if len(candidates) > 1:
		raise Refused("several_meetings", count=len(candidates))
	if not candidates:
		for ad in ads:
			if other := known.imitated(ad.fingerprint, ad.title, ad.host):
				raise Refused("host_changed", title=other.title, host=other.host)
		if ads:
			words = "“{title}” at {address} is hosted by someone new here: join it with --join."
			raise Refused("no_meeting", words, title=ads[0].title, address=ads[0].address)
		raise Refused("no_meeting")
	if candidates[0].pin and not has_pin:
		raise Refused("pin_required")
	return candidates[0]


def find_meeting(finder: MeetingFinder, known: KnownHosts, has_pin: bool) -> MeetingAd:
	"""The meeting to join without asking; Refused where there is none or too much.

	Decided 0.4 s after the first question; while nothing fits, again until the scan is over.
	"""
	finder.wait_settled(DECIDE_SECONDS)
	while True:
		settled = finder.wait_settled(0.0)
		try:
			return choose_meeting(finder.meetings(), known, has_pin)
		except Refused as refused:
			if refused.code != "no_meeting" or settled:
				others = () if finder.meetings() else finder.other_versions()
				raise Refused("other_version", versions=[others[0][1]]) if others else refused from None
		finder.wait_settled(0.1)


def running_here(port: int, bind: str | None) -> str:
	"""Names the meeting at `port` of this computer, be it another account's; "" where none answers."""
	own = {each.address for each in interfaces()}

	def here(ads: Sequence[MeetingAd]) -> list[str]:
		found = [ad for ad in ads if ad.port == port and ad.address in own]
		return [Words("“{title}” is still running.", title=f"{ad.title} · {ad.host}") for ad in found]

	with closing(MeetingFinder(bind, [("127.0.0.1", port)], port)) as finder:
		finder.start()
		finder.wait(lambda ads: bool(here(ads)), 1.5)
		return next(iter(here(finder.meetings())), "")


class HostedMeeting:
	"""A server as a child, started again when it dies; or `running`, which outlived its program."""

	def __init__(self, options: Json, running: Json | None = None):
		self._options = {**options, "bind": running["bind"]} if running else options
		self._secret = make_host_key(options["host_key_file"])
		options = {**options, "host_key": HostRight(self._secret).public}
		self._news = SimpleQueue[Json]()
		self._serving = running or {}
		self._running = running
		self.tried = frozenset[str]()  # the addresses of who did not come in
		self._child = ChildKeeper(
			"server", ["--serve-child"], options, self._hear, ending="end",
			outlives=options["orphan_seconds"] > 0,
		)  # fmt: skip

	def start(self) -> Json:
		"""Start it; returns its `serving` event. Refused when it could not serve."""
		if self._running:
			keys = ("address", "port", "title", "fingerprint")
			return {"event": "serving", "time": time.time(), **{key: self._running[key] for key in keys}}
		self._child.start()
		try:
			told = self._news.get(timeout=15.0)
		except Empty:
			raise Refused("no_meeting", "The meeting's server did not start.") from None
		if told["event"] != "serving":
			here = running_here(self._options["base"], self._options["bind"])
			raise Refused("no_meeting", here) if here else Refused(**told["refused"])
		self._serving = told
		return told

	def _hear(self, told: Json) -> None:
		if told["event"] == "tried":
			self.tried = frozenset(told["addresses"])
			return
		if told["event"] != "serving" and not self._serving:
			self._child.stop()  # what could not be served cannot be at the next try either
		self._news.put(told)

	@property
	def address(self) -> str:
		return str(self._serving["address"])

	def is_at(self, ad: MeetingAd) -> bool:
		return (ad.fingerprint, ad.port) == (self._serving["fingerprint"], self._serving["port"])

	def aim(self, options: ClientOptions) -> None:
		"""Let `options` join this meeting as its host."""
		options.address = self._serving.get("at") or self._options["bind"] or "127.0.0.1"
		options.port = self._serving["port"]
		options.fingerprint = self._serving["fingerprint"]
		options.host_key, options.pin = self._secret, ""  # its host need not ask it for the PIN

	def close(self) -> None:
		"""End the meeting and its server. Waits."""
		if self._running:
			RunningMeeting(home_directory()).end()
		self._child.close(6.0)


def on_stop_signals(call: Act) -> None:
	"""Have `call` made at SIGTERM and SIGINT."""
	for number in (signal.SIGTERM, signal.SIGINT):
		signal.signal(number, lambda *_: call())


def _parsed_command(line: bytes) -> Json:
	try:
		# PowerShell begins with this mark
		return parse_json(line.removeprefix(b"\xef\xbb\xbf"), "surrogateescape")
	except PeerFault:
		return {}


def _read_commands(controller: MeetingController, ending: Json, worker: Worker) -> None:
	whole = True
	with open(0, "rb", closefd=False) as source:
		while line := source.readline(1 << 20):
			if whole:  # of a longer line the rest is no command
				controller.do(_parsed_command(line))
			whole = line.endswith(b"\n")
	controller.do(ending)


def run_headless(controller: MeetingController, say: Say, *, meeting: str = "", ending: str = "leave") -> int:
	"""The client without a window: events out; once joined, or at the door, commands from standard input.

	`ending` is the command that the end of the input and SIGTERM mean.
	"""
	worker = Worker("commands", partial(_read_commands, controller, {"do": ending}))
	on_stop_signals(lambda: controller.do({"do": ending if worker.started else "leave"}))
	controller.start(meeting)
	event: Json = {"event": ""}
	while event["event"] not in LAST_EVENTS:
		with suppress(Empty):  # a wait without end hears no Ctrl-C on Windows
			event = controller.gui_queue.get(timeout=0.5)
			try:
				say(event)
			except OSError:  # nobody reads any more: `| head -1`
				let_go_of_output(1)
				controller.do({"do": ending})
			if event["event"] in ("joined", "waiting"):
				worker.start()
	controller.close()
	return controller.status or 0


# ====
# [24] DOORS - giving this program to others
# Uses: BASICS, DOCTOR, LINKS, DISCOVERY, DEVICES

GIVE_RATE = 6_000_000  # bytes a second in all: half of a 100 Mbit/s line stays for the meeting
GIVE_PIECE = 32 * 1024
GIVE_AT_ONCE = 64
GIVE_TO_ONE = 8  # connections of one address at once
GIVE_STALLED = 10.0


def own_program() -> tuple[Path, str]:
	"""This program as a file to hand on, and its name for others; Refused where it is a folder."""
	here = Path(sys.executable if getattr(sys, "frozen", False) else __file__).resolve()
	if getattr(sys, "frozen", False) and not Path(getattr(sys, "_MEIPASS", "")).name.startswith("_MEI"):
		reason = "This edition is a folder: copy the folder to hand it on."
		raise Refused("not_allowed", reason)
	if here.parent.is_file():  # inside a zipapp
		here = here.parent
	suffix = here.suffix if here.suffix in (".exe", ".py", ".pyz") else ""
	return here, f"connectsphere{suffix}"


def give_page(name: str, size: int) -> bytes:
	"""The page that offers the program; its SHA-256 stands in the host's window, which none can forge."""
	uv = f"It needs uv (docs.astral.sh/uv) and, at first, the internet: <code>uv run {name}</code>"
	other = f"Then: <code>chmod +x {name}; ./{name}</code>"
	run = {".exe": "Then start it.", ".py": uv}.get(Path(name).suffix, other)
	return f"""<!doctype html><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{APP_NAME}</title>
<style>body{{font:18px sans-serif;max-width:34em;margin:3em auto;padding:0 1em}}
a{{display:inline-block;padding:.7em 1.4em;background:#2563eb;color:#fff;border-radius:.5em}}</style>
<h1>{APP_NAME} {VERSION}</h1>
<p><a href="/{name}">Download {name} ({size / 1e6:.1f} MB)</a></p><p>{run}</p>
<p>To be sure that it is what the host gave you, compare its SHA-256 with the one in the host's window:
<code>certutil -hashfile {name} SHA256</code> on Windows, <code>sha256sum {name}</code> elsewhere.</p>
""".encode()


class _GiveHandler(BaseHTTPRequestHandler):
	"""Answers one browser: with the page or the program."""

	server: _GiveServer
	server_version, sys_version = APP_NAME, ""
	timeout = GIVE_STALLED

	def do_GET(self) -> None:  # noqa: N802
		self.server.silent.pop(self.connection, None)  # it asks
		giver = self.server.giver
		if self.path == "/":
			page = give_page(giver.name, giver.size)
			if self._head("text/html; charset=utf-8", len(page)):
				self.wfile.write(page)
		elif self.path == f"/{giver.name}":
			if self._head("application/octet-stream", giver.size):
				with giver.path.open("rb") as file:
					while (piece := file.read(GIVE_PIECE)) and giver.may_send(len(piece)):
						self.wfile.write(piece)
		else:
			self.send_error(404)

	do_HEAD = do_GET  # noqa: N815

	def _head(self, kind: str, size: int) -> bool:
		self.send_response(200)
		self.send_header("Content-Type", kind)
		self.send_header("Content-Length", str(size))
		self.end_headers()
		return self.command == "GET"

	def log_message(self, format: str, *args: Any) -> None:
		log.info("given to %s: %s", self.address_string(), format % args)


class _GiveServer(ThreadingHTTPServer):
	"""Takes at most GIVE_AT_ONCE at a time."""

	daemon_threads = False  # so that closing waits for them
	timeout = 0.2  # seconds until it looks whether it is to end

	def __init__(self, address: Address, giver: AppGiver, handler: type[_GiveHandler]):
		self.giver = giver
		self._open: dict[Socket, str] = {}  # where each comes from
		self.silent: dict[Socket, float] = {}  # since when one has asked for nothing
		super().__init__(address, handler)

	def server_bind(self) -> None:
		socketserver.TCPServer.server_bind(self)  # HTTPServer's asks a name server

	def verify_request(self, request: Any, client_address: Any) -> bool:
		here, address = self._open.copy(), client_address[0]
		if [*here.values()].count(address) >= GIVE_TO_ONE:
			return False
		if len(here) >= GIVE_AT_ONCE:
			if (loser := makes_way(here, address)) is None:
				return False
			self._open.pop(loser, None)
			cut_off(loser)
		return True

	def process_request(self, request: Any, client_address: Any) -> None:
		self._open[request] = client_address[0]
		self.silent[request] = monotonic()
		set_dscp(DSCP_CS1, request)
		super().process_request(request, client_address)

	def close_request(self, request: Any) -> None:
		self._open.pop(request, None)
		self.silent.pop(request, None)
		super().close_request(request)

	def cut_silent(self, now: float) -> None:
		for request, since in tuple(self.silent.items()):
			if now - since > GIVE_STALLED:
				cut_off(request)

	def cut(self) -> None:
		for request in tuple(self._open):
			cut_off(request)

	def handle_error(self, request: Any, client_address: Any) -> None:
		log.info("giving the app to %s broke off: %s", client_address, sys.exc_info()[1])


class AppGiver:
	"""Offers this very program to browsers on the LAN by plain HTTP, slowly enough for the meeting.

	From its making on, which takes a moment; Refused when it cannot be offered.
	"""

	def __init__(self, bind: str | None = None, *, rate: int = GIVE_RATE, port: int = DEFAULT_PORT + 3):
		load_codecs()  # where it cannot, nothing listens
		self.path, self.name = own_program()
		self.size = self.path.stat().st_size
		with self.path.open("rb") as file:
			self._sha256 = hashlib.file_digest(file, "sha256").hexdigest()
		self._bucket = TokenBucket(max(GIVE_PIECE, rate / 4), rate)
		self._lock = Lock()
		self._bind = bind
		self._server = self._listen((bind or "", port), (bind or "", 0))
		self._worker = Worker("app-giver", self._serve, self._server.cut).start()
		self.close = self._worker.close

	@property
	def url(self) -> str:
		"""Where this computer has it now: addresses change in mid lesson."""
		return f"http://{self._address}:{self._server.server_address[1]}"

	@property
	def given(self) -> GivenApp:
		"""What is offered, and where."""
		url = self.url
		return GivenApp(url, self.name, self.size, self._sha256, qr_picture(url))

	@property
	def _address(self) -> str:
		return self._bind or next((each.address for each in plausible_interfaces()), "127.0.0.1")

	def _listen(self, *places: Address) -> _GiveServer:
		http = importlib.import_module("http.server")  # takes 3 MB
		handler = type("Handler", (_GiveHandler, http.BaseHTTPRequestHandler), {})
		server = type("Server", (_GiveServer, http.ThreadingHTTPServer), {})
		for place in places:
			with suppress(OSError):
				return cast(_GiveServer, server(place, self, handler))
		raise Refused("port", "The app cannot be offered at {address}.", address=self._address)

	def may_send(self, size: int) -> bool:
		"""Wait until `size` more bytes may go out; false when the offer has ended."""
		while self._worker.going:
			with self._lock:
				if self._bucket.take(monotonic(), size):
					return True
			self._worker.stopping.wait(0.02)
		return False

	def _serve(self, worker: Worker) -> None:
		with self._server as server:
			while worker.going:
				server.handle_request()
				server.cut_silent(monotonic())
			server.cut()


# ====
# [25] PROGRAM - the doctor's examination, the start window's preview, one program, a simulated class
# Uses: BASICS, AUDIO, DOCTOR, TRUST, LINKS, PROCESS, DISCOVERY, DEVICES, STAND-INS, CLIENT MEDIA,
# CLIENT PLANES, CONTROLLER, HEADLESS, DOORS

# -- the doctor

DOCTOR_SEARCHES = 12.0


def taken_ports(base: int, bind: str | None) -> tuple[str, ...]:
	"""The ports of a meeting that cannot be had, as "TCP 9000"."""
	ports, host, taken = Ports.at(base), bind or "0.0.0.0", []
	for port in ports:
		kind = "UDP" if port in (ports.video, ports.audio) else "TCP"
		try:
			(listen_tcp((host, port)) if kind == "TCP" else udp_port((host, port), Counters())).close()
		except Refused:
			taken.append(f"{kind} {port}")
	return tuple(taken)


def own_address_answers(address: Address) -> bool:
	"""Whether the own LAN address accepts a connection."""
	try:
		with listen_tcp(address):
			return tcp_answers(address)
	except Refused:
		return tcp_answers(address)


def _try_device(what: str, spec: str) -> None:
	if what == "camera":
		with closing(open_camera(spec, APP_NAME)) as camera:
			camera.read(3.0)
	elif what == "mic":
		with closing(open_microphone(spec)) as microphone:
			microphone.read()
	elif is_sound_card(spec):  # a file would be written over
		with closing(open_speaker(spec, monotonic())) as speaker:
			speaker.write(silence())


def device_troubles(options: ClientOptions) -> Json:
	"""What is wrong with the chosen camera, mic and speaker, "": nothing."""
	chosen = {what: getattr(options, what) for what in ("camera", "mic", "speaker")}
	troubles = {what: "" for what, spec in chosen.items() if spec != "none"}
	for what in troubles:
		try:
			_try_device(what, chosen[what])
		except DeviceError as error:
			troubles[what] = error.reason
	return troubles


def examine(options: ClientOptions, *, devices: bool = True) -> Facts:
	"""Look at this machine and its network for 2 to 12 s; camera and sound only where `devices`."""
	own = plausible_interfaces(options.bind)
	asks = (firewall := windows_firewall()) not in ("", "open")  # whoever listens
	taken = taken_ports(options.port, "127.0.0.1" if asks else options.bind)
	ear = BroadcastEar(own, shy=(shy := asks or bool(taken)))
	finder = MeetingFinder(options.bind, (), options.port)
	with closing(ear), closing(finder):
		ear.start()
		finder.start()
		finder.wait_settled(DOCTOR_SEARCHES)
		finder.wait(lambda ads: bool(ads or finder.other_versions()), ASK_EVERY)  # asks once more
		ads, others = finder.meetings(), finder.other_versions()
	here = {each.address for each in interfaces()}
	away = [ad for ad in ads if ad.address not in here]
	used = local_address(away[0].address) if away else next((each.address for each in own), "")
	hosting = len(away) < len(ads)
	kept = _load_json(home_directory() / "settings.json").items()
	physical = [each for each in own if each.kind in ("wired", "wireless")]
	free = None
	with suppress(OSError):
		free = shutil.disk_usage(options.downloads or Path.home()).free
	return Facts(
		places=tuple(Place(each.name, each.address, each.kind) for each in own),
		used=used,
		heard=None if shy and sys.platform != "linux" else frozenset(ear.heard),
		asked_by=frozenset(ear.asking - here),
		taken=(*taken, f"UDP {DISCOVERY_PORT}") if ear.deaf else taken,
		hosting=hosting,
		reachable=not used or asks or own_address_answers((used, options.port)),
		firewall=firewall,
		meetings=tuple(
			Sighting(ad.title, ad.host, ad.address, ad.port, tcp_answers((ad.address, ad.port))) for ad in ads
		),
		by_search=bool(away) and finder.reached.isdisjoint(ad.address for ad in away),
		other_versions=tuple(others),
		neighbours=neighbours(physical),
		gateways=frozenset(str(each.network[at]) for each in physical for at in (1, -2) if each.prefix < 31),
		disk_free=free,
		standby={"yes": True, "no": False}.get(
			options.standby, any(on and key.startswith("stand_by ") for key, on in kept)
		),
		**(device_troubles(options) if devices else {}),
	)


# -- what a window asks of the program


class Preview:
	"""Camera and microphone, seen and heard by nobody else: before a meeting, and those that it has not on.

	Only closing waits.
	"""

	def __init__(self, settings: Callable[[str], str], meeting: Callable[[], MeetingController | None]):
		self._settings, self._meeting = settings, meeting
		self._joining = self._tried = (False, False)
		self._options = ClientOptions(sound="original")
		self._camera = CameraSender(self._options, lambda *_: None, self._tell)
		self._mic = MicrophoneSender(self._options, lambda *_: None, self._tell, lambda: 0, VoiceProcessor())
		self._devices = {"camera": self._camera, "mic": self._mic}
		self._wanted = {"camera": False, "mic": False}
		self.failed: dict[str, str] = {}  # why, until wanted again

	@property
	def picture(self) -> Shown:
		"""(serial, newest picture)."""
		serial, picture = self._camera.look()
		return serial, picture if self._wanted["camera"] else None

	@property
	def level(self) -> float:
		return self._mic.level

	def now(self) -> tuple[tuple[float, float, bool], int, Picture | None]:
		"""(`Snapshot.sound`, serial, picture) of what the meeting has on, else of what runs here."""
		(camera, mic), meeting = self._live(), self._meeting()
		picture = meeting.picture("self") if meeting and camera else self.picture
		return (meeting.snapshot().sound if meeting and mic else (self.level, 0.0, False), *picture)

	def _live(self) -> tuple[bool, bool]:
		shot = meeting.snapshot() if (meeting := self._meeting()) else None
		me = shot and shot.person(shot.me)
		return (me.camera, me.mic) if me else (False, False)

	def run(self, camera: bool, mic: bool) -> None:
		"""Have on what is wanted for joining."""
		self._joining = camera, mic
		self._follow()

	def try_out(self, camera: bool, mic: bool) -> None:
		"""Have these on for the settings, too."""
		camera_on, mic_on = self._live()
		self._tried = camera and not camera_on, mic and not mic_on
		self._follow()

	def _follow(self) -> None:
		for what, *asked in zip(self._wanted, self._joining, self._tried, strict=True):
			if any(asked) != self._wanted[what]:
				self._turn(what, any(asked))

	def using(self) -> list[str]:
		"""Which of camera and mic it has open."""
		return [what for what, device in self._devices.items() if device.on]

	def again(self, what: str) -> None:
		"""Go on with the camera or mic that is chosen now, if it runs."""
		if self._wanted.get(what):
			self._turn(what, True)

	def _turn(self, what: str, on: bool) -> None:
		self._wanted[what] = on
		if on:
			self.failed.pop(what, "")
		self._options.name = self._settings("name") or APP_NAME
		setattr(self._options, what, self._settings(what))
		self._devices[what].turn(on)

	def _tell(self, what: str, state: str, reason: str) -> None:
		log.info("preview of the %s: %s %s", what, state, reason)
		if state == "failed":
			self.failed[what] = reason

	def close(self) -> None:
		"""Let both go."""
		for device in self._devices.values():
			device.close()


def _play_test(spec: str, worker: Worker) -> None:
	try:
		with closing(open_speaker(spec, monotonic())) as speaker:
			for hertz in (440.0, 554.4, 659.3):
				sound = _tone(hertz, 12 * BLOCK_SECONDS, -11.2) * np.hanning(12 * BLOCK)
				for block in np.split(sound.astype(np.int16), 12):
					speaker.write(block)
	except DeviceError as error:
		log.warning("the speaker cannot be tested: %s", error)


MOST_IN_CROWD = 60
CROWD_VOICES = 8  # who talk in a window's demo


def lesson_elsewhere(home: Path) -> Json:
	"""The standby at which the meeting of this home's host goes on, and its title; {} where none does."""
	if not (told := _load_json(home / LAST_RECORD)):
		return {}  # a pupil's start makes no keys
	with suppress(PeerFault):
		own = load_identity(home).fingerprint
		record = read_record(told, HostRight(make_host_key()).public)
		for server, answer in probe_servers(record["servers"], record["meeting"], None):
			if answer.get("serving") and server["fingerprint"] != own:
				return {**server, "at": server["address"], "title": record["title"], "bind": None}
	return {}


def own_meeting(
	home: Path, title: str | None = "", pin: str | None = None, port: int = 0, left: bool = False
) -> Json:
	"""This home's meeting whose window is gone or `left`, for who would host `title` with `pin`, or {}.

	Refused where it is another one; None is any.
	"""
	running = RunningMeeting(home).read()
	if not (running and (left or running["alone"])) or port not in (0, running["port"]):
		running = {}
	running = lesson_elsewhere(home) or running  # to which the own server, alone, soon sends everyone
	if not running:
		return {}
	mark = Journal(load_identity(home), running["port"]).mark
	other = pin is not None and mark(clean_pin(pin)) != running.get("pin", mark(clean_pin(pin)))
	if other or title not in (None, running["title"]):
		raise Refused("meeting_running", "“{title}” is still running.", title=running["title"])
	return running


class Joining:
	"""One try at coming in, which may be given up."""

	cancelled = False
	_controller: MeetingController | None = None

	def start(self, controller: MeetingController, meeting: str) -> Json:
		"""Let `controller` join; its first event. Waits."""
		self._controller = controller
		if self.cancelled:
			controller.do({"do": "leave"})
		controller.start(meeting)
		while (first := controller.gui_queue.get())["event"] == "waiting":
			log.info("the host has to let one in")
		return first

	def cancel(self) -> None:
		"""Give it up; any thread."""
		self.cancelled = True  # first: `start` looks at it last
		if self._controller:
			self._controller.do({"do": "leave"})


Begin = Callable[[Joining], MeetingController]  # brings one into a meeting


class Program:
	"""The program behind the start window: finds, joins, hosts, remembers. All but `find` may wait."""

	def __init__(
		self, options: ClientOptions, server: Json, home: Path, orders: SimpleQueue[str] | None = None,
		*, look: bool = True,
	):  # fmt: skip
		self.orders = orders or SimpleQueue()
		self._options, self._server, self._home = options, server, home
		self._settings = Settings(home)
		self._known = KnownHosts(home)
		self._tokens = ResumeTokens(home)
		self._tokens.close()
		self.preview = Preview(self.setting, lambda: self._controller if self._meets else None)
		self._hosted: HostedMeeting | None = None
		self._controller: MeetingController | None = None
		self._crowd: ChildKeeper | None = None
		self._giving, self._hosting = Lock(), Lock()
		self._giver: AppGiver | None = None
		self.voice = Voice()
		self._look = look and not self.lesson()  # a plain start joins by itself, once
		known = self._known.places()
		self._finder = MeetingFinder(options.bind, known, options.port, wanted=lambda: not self._meets)
		self._finder.start()
		self.find = self._finder.meetings
		self._started = monotonic()

	@property
	def _meets(self) -> bool:
		return self._controller is not None and self._controller.status is None

	def auto_join(self) -> MeetingAd | None:
		"""The meeting that a plain start joins by itself, once decided."""
		if not self._look or monotonic() - self._started < DECIDE_SECONDS:
			return None
		with suppress(Refused):
			one = choose_meeting(self._finder.meetings(), self._known, has_pin=True)
			return None if self.asks_pin(one) else one
		return None

	def asks_pin(self, ad: MeetingAd) -> bool:
		"""Whether a PIN has to be typed for that meeting: not where one has been in it by this name."""
		tokens = self._controller.server.tokens if self._controller else self._tokens
		name = clean_name(self.setting("name"))
		return ad.pin and not (self._options.pin or tokens.get(ad.fingerprint, ad.meeting, name))

	def join(
		self, address: str, port: int, name: str, pin: str, accept_changed_host: bool = False,
		joining: Joining | None = None,
	) -> MeetingController:  # fmt: skip
		"""Join; Refused says why not."""
		self._look = False
		ads = [ad for ad in self._finder.meetings() if (ad.address, ad.port) == (address, port)]
		options = replace(
			self._chosen(name),
			address=resolve(address),
			port=port,
			pin=pin or self._options.pin,
			fingerprint=ads[0].fingerprint if ads and not accept_changed_host else "",
			stands_for=ads[0].stands_for if ads else "",
			accept_changed=accept_changed_host,
		)
		if self._hosted and ads and self._hosted.is_at(ads[0]):
			self._hosted.aim(options)
		try:
			return self._enter(options, ads[0].meeting if ads else "", joining)
		except Refused as refused:
			if ads and refused.told == {"code": "host_changed"}:
				self._finder.distrust((address, port), ads[0].fingerprint)
			raise

	def ways_in(self) -> Sequence[WayIn]:
		"""How others reach the meeting, the likeliest way first."""
		options = self._controller.options if self._controller else self._options
		hosted = self._hosted if options.host_key else None
		own = {each.address: each.name for each in plausible_interfaces(options.bind)} if hosted else {}
		address = hosted.address if hosted else options.address
		return [
			WayIn(with_port(at, options.port), with_port(address_code(at), options.port), name)
			for at, name in (own or {address: ""}).items()
		]

	def doctor(self) -> Diagnosis:
		"""What stands in the way. Devices are left alone while something uses them."""
		options = self._chosen(self._options.name)
		for what in self.preview.using():
			setattr(options, what, "none")
		facts = examine(options, devices=not self._meets)
		if self._meets and self._controller and self._controller.successors.serving:
			shot = self._controller.snapshot()
			facts = replace(facts, standby=True, reachable=facts.reachable and shot.name in shot.heirs)
		if self._hosted:
			facts = replace(facts, tried=self._hosted.tried - {each.address for each in interfaces()})
		return diagnose(facts)

	def give_app(self) -> GivenApp:
		"""Offer this program to others; Refused where it cannot be."""
		with self._giving:
			self._giver = self._giver or AppGiver(self._options.bind, port=self._options.port + 3)
			return self._giver.given

	def keep_app(self) -> None:
		"""End the offer of `give_app`."""
		with self._giving:
			if self._giver:
				self._giver.close()
			self._giver = None

	def demo(
		self, count: int, voices: int = MOST_IN_CROWD, joining: Joining | None = None
	) -> MeetingController:
		"""Host a meeting of `count` simulated participants, of whom `voices` talk, and join it."""
		controller = self.host(str(self._server["host_name"]), self._server["title"], "", joining)
		keys = ("address", "port", "fingerprint", "bind")
		place = {key: getattr(controller.options, key) for key in keys}
		first = {"place": place, "count": count, "voices": voices}
		self._crowd = ChildKeeper("crowd", ["--crowd"], first, lambda message: None)
		self._crowd.start()
		return controller

	def lesson(self) -> str:
		"""Says that an own meeting goes on without its window, or ""."""
		try:
			self._own("")
		except Refused as refused:
			return refused.reason
		return ""

	def _own(self, title: str | None) -> Json:
		here = self._controller if self._hosted else None
		left = here is not None and here.snapshot().reason == "left"
		return own_meeting(self._home, title, left=left)

	def resume(self, name: str, joining: Joining | None = None) -> MeetingController:
		return self.host_as_told(self._own(None), joining, name)

	def host_as_told(self, running: Json, joining: Joining | None, name: str = "") -> MeetingController:
		"""Host the meeting that the command line describes, or go on with the one `running`."""
		return self._host(name or str(self._server["host_name"]), {}, joining, running)

	def host(
		self, name: str, title: str, pin: str, joining: Joining | None = None, *, anew: bool = False
	) -> MeetingController:
		"""Host a meeting and join it; `pin` "" is open, "auto" six digits.

		Refused while an own one goes on, unless `anew`, which ends that.
		"""
		if anew and self.lesson():
			self.end_hosted()
			RunningMeeting(self._home).end()
			remove_file(self._home / LAST_RECORD)
		self._own("")
		if pin == "auto":
			pin = f"{randbelow(1_000_000):06d}"
		title = clean_name(title or self._server["title"], MAX_TITLE)
		return self._host(name, {"title": title, "host_name": clean_name(name), "pin": pin}, joining)

	def _host(
		self, name: str, changes: Json, joining: Joining | None, running: Json | None = None
	) -> MeetingController:
		self._look, options = False, self._chosen(name)
		with self._hosting:  # the one before has ended first
			if self._hosted and running and not running.get("alone", True):  # only left
				self._hosted.aim(options)
				return self._enter(options, "", joining)
			self.end_hosted()
			hosted = self._serve({**self._server, **changes}, running)
			try:
				self._hosted = hosted
				hosted.aim(options)
				return self._enter(options, "", joining)
			except Refused:
				self._hosted = None
				if not running:
					hosted.close()
				raise

	def _serve(self, options: Json, running: Json | None) -> HostedMeeting:
		"""The server; not at the usual ports where others have them: Windows keeps some for WSL."""
		hosted, base = HostedMeeting(options, running), options["base"]
		try:
			hosted.start()
		except Refused as refused:
			hosted.close()
			if refused.code == "port" and DEFAULT_PORT == self._server["base"] > base - 300:
				return self._serve({**options, "base": base + 100}, running)
			raise
		return hosted

	def _chosen(self, name: str) -> ClientOptions:
		chosen = {key: self.setting(key) for key in ("camera", "mic", "speaker", "volume", "sound")}
		return replace(self._options, name=clean_name(name), decode_all=True, **chosen)

	def _enter(self, options: ClientOptions, meeting: str, joining: Joining | None) -> MeetingController:
		self.preview.run(False, False)
		joining = joining or Joining()
		controller = MeetingController(options, self._home)
		first = joining.start(controller, meeting)
		if first["event"] != "joined" or joining.cancelled:
			controller.close()
			raise Refused(first.get("code", "no_meeting"), first.get("reason", ""))
		self._controller = controller
		return controller

	def list_devices(self) -> Mapping[str, Sequence[tuple[str, str]]]:
		"""(spec, words) to choose from, by camera, mic and speaker."""
		need(*NEEDED)  # 0.15 s for which nobody waits here
		found = list_devices()
		for what, none in (("camera", "No camera"), ("mic", "No microphone"), ("speaker", "No speaker")):
			found[what].append(("none", none))
			chosen = self.setting(what)
			if chosen not in dict(found[what]):
				name = chosen.split(":", 1)[-1] if is_sound_card(chosen) else chosen
				found[what].insert(-1, (chosen, "Test card" if chosen == "pattern" else name))
		return found

	def screens(self) -> Sequence[tuple[str, str, Picture | None]]:
		"""(source, words, small picture) of what can be shared now."""
		return [
			(source, words, None if picture is None else fit_picture(picture, LAYERS[1]))
			for source, words, picture in list_screens()
		]

	def setting(self, key: str) -> Any:
		"""What holds for `key` of SETTINGS: the command line's, else the user's choice, else the default."""
		if (default := SETTINGS[key]) is None:
			default = getattr(self._options, key)
		return default if key in self._options.given else self._settings.get(self._kept_as(key), default)

	def _kept_as(self, key: str) -> str:
		return f"sound of {self.setting('mic')}" if key == "sound" else key

	def set_setting(self, key: str, value: Any) -> None:
		"""Remember, and change the meeting's device, volume or sound; each microphone has its sound."""
		self._options.given.discard(key)
		self._settings.set(self._kept_as(key), value)
		if key in ("camera", "mic", "speaker", "volume", "sound") and self._controller:
			self._controller.choose(key, value)
			self._controller.choose("sound", self.setting("sound"))
		self.preview.again(key)

	def try_volume(self, volume: float) -> None:
		"""Hear the running meeting at `volume`, 0..1, without remembering it."""
		if self._controller:
			self._controller.choose("volume", volume)

	def downloads(self) -> Path:
		return downloads_folder(self._options.downloads).absolute()

	def test_speaker(self) -> None:
		"""Play a short sound on the chosen speaker. Does not wait."""
		Worker("speaker-test", partial(_play_test, self.setting("speaker"))).start()

	def end_hosted(self) -> None:
		"""End the meeting hosted here for everybody."""
		if self._hosted:
			self._hosted.close()
			self._hosted = None

	def close(self) -> None:
		"""End everything that was started."""
		self.preview.close()
		self.voice.close()
		self._finder.close()
		self.keep_app()
		if self._crowd:
			self._crowd.close()
		if self._controller:
			self._controller.close()
		self.end_hosted()


# -- a meeting of simulated participants

CROWD_NAMES = (
	"Amira Hassan", "Jonas Weber", "Priya Nair", "Tomás García", "Zuri Okafor", "Mei Lin", "Oskar Lund",
	"Fatima Zahra", "Noah Becker", "Chloé Martin", "Ravi Patel", "Hana Sato", "Luca Romano", "Sofia Novak",
)  # fmt: skip
CROWD_LINES = (
	"Good morning!", "Can everyone see my picture?", "Yes, and the sound is clear.", "Which page are we on?",
	"Page 42, the water cycle.", "Thank you!", "I have a question about the clouds.",
)  # fmt: skip
DEMO_SECONDS = 20
SHARE_AFTER = 12.0
DEMO_PATIENCE = 15.0


def crowd_name(number: int) -> str:
	"""The name of simulated participant `number`."""
	again, which = divmod(number, len(CROWD_NAMES))
	return CROWD_NAMES[which] + (f" {chr(ord('A') + again)}" if again else "")


class Crowd:
	"""Simulated participants over real sockets, with test cards and voices."""

	def __init__(self, options: ClientOptions, count: int, voices: int, home: Path):
		self._voices = voices
		options = replace(options, camera="pattern", speaker="none")
		each = (replace(options, name=crowd_name(n), mic=f"voice:{n}") for n in range(count))
		self._people = [MeetingController(one, home) for one in each]
		self._random = random.Random(count)
		self._worker = Worker("crowd", self._run)

	def start(self) -> None:
		"""Let them join and behave like a class."""
		for number, person in enumerate(self._people):
			person.start()
			person.do({"do": "watch_screen", "on": False})  # nobody is there to see it
			person.do({"do": "camera", "on": True})
			person.do({"do": "mic", "on": number < self._voices})
		self._worker.start()

	def close(self) -> None:
		"""Let them leave."""
		self._worker.close()
		for person in self._people:
			person.close()

	def _run(self, worker: Worker) -> None:
		if not worker.stopping.wait(SHARE_AFTER):
			self._people[0].do({"do": "share", "on": True, "source": "pattern"})
		turn = 0
		while not worker.stopping.wait(self._random.uniform(1.5, 4.0)):
			person = self._random.choice(self._people)
			action = self._random.random()
			if action < 0.6:
				person.do({"do": "chat", "text": CROWD_LINES[turn % len(CROWD_LINES)]})
				turn += 1
			elif action < 0.85:
				person.do({"do": "react", "emoji": self._random.choice("👍👏❤🎉😂")})
			else:
				person.do({"do": "hand", "up": not person.snapshot().wants("hand")})


class DemoWatch:
	"""Sees each one's clock in the picture and hears each one's tone in the mix."""

	def __init__(self, controller: MeetingController, names: Sequence[str]):
		self._controller, self._names = controller, names
		self._sound = deque[Samples](maxlen=AUDIO_RATE // BLOCK)
		controller.media.ear = self._sound.append
		controller.do({"do": "watch", "streams": {name: {"layer": 1, "fps": DEFAULT_FPS} for name in names}})

	def look(self) -> tuple[set[str], set[str], str]:
		"""(who is seen, who is heard, rate and delay in words) over the last second or two."""
		seen, rates, delays = set[str](), [], []
		for person in self._controller.snapshot().people:
			if person.sharing:
				figures = self._controller.screen.stats()
			else:
				figures = self._controller.media.video_stats(person.id) or {}
			if person.name not in self._names or figures.get("latency_ms") is None:
				continue
			seen.add(person.name)
			delays.append(figures["latency_ms"])
			if not person.sharing:
				rates.append(figures["fps"])
		rate = f"{np.mean(rates or [0.0]):.1f} pictures a second"
		return seen, self._heard(), rate + (f", {np.median(delays):.0f} ms" if delays else "")

	def _heard(self) -> set[str]:
		sound = np.concatenate([np.zeros(1, np.int16), *list(self._sound)]).astype(np.float64)
		spectrum = np.abs(np.fft.rfft(sound * np.hanning(len(sound)), AUDIO_RATE))
		heard = set()
		for number, name in enumerate(self._names):
			at = round(voice_pilot_hz(number))
			around = np.concatenate((spectrum[at - 12 : at - 5], spectrum[at + 6 : at + 13]))
			if spectrum[at - 2 : at + 3].max() > 3.2 * np.median(around) + 1e3:
				heard.add(name)
		return heard


def run_demo(controller: MeetingController, count: int, say: Callable[[str], None]) -> int:
	"""Watch and listen for 20 s; 0 when everyone was seen and heard throughout."""
	names = [crowd_name(number) for number in range(count)]
	watch = DemoWatch(controller, names)
	until = monotonic() + DEMO_PATIENCE
	while monotonic() < until and any(len(one) < count for one in watch.look()[:2]):
		time.sleep(0.1)
	missed, start = 0, monotonic()
	for second in range(1, DEMO_SECONDS + 1):
		time.sleep(max(0.0, start + second - monotonic()))
		seen, heard, figures = watch.look()
		missing = [name for name in names if name not in seen & heard]
		missed += bool(missing)
		line = f"{second:2d} s  seen {len(seen)}/{count}, heard {len(heard)}/{count}, {figures}"
		say(line + (f"  missing: {', '.join(missing[:4])}" if missing else ""))
	if missed:
		say(f"In {missed} of {DEMO_SECONDS} seconds somebody was not seen or not heard.")
		return 1
	say(f"All {count} were seen and heard throughout.")
	return 0


# ====
# [26] TEXTS - what the user reads, a sentence a line: English | Español | Français | हिन्दी
# Uses: BASICS

# Beside those of REFUSALS.
TEXTS = """
Screen {number}|Pantalla {number}|Écran {number}|स्क्रीन {number}
A picture or video…|Una imagen o un vídeo…|Une image ou une vidéo…|कोई चित्र या वीडियो…
All files|Todos los archivos|Tous les fichiers|सभी फ़ाइलें
The host shows it|Lo muestra el anfitrión|L'animateur l'affiche|होस्ट इसे दिखाता है
Say aloud what happens|Decir en voz alta lo que pasa|Dire à voix haute ce qui se passe|जो हो रहा है उसे बोलकर बताएँ
Up to 49 people on a page|Hasta 49 personas por página|Jusqu'à 49 personnes par page|एक पृष्ठ पर 49 लोगों तक
Best picture (by cable, not by Wi-Fi)|Mejor imagen (por cable, no por wifi)|Meilleure image (par câble, pas en Wi-Fi)|सबसे अच्छा चित्र (केबल से, Wi-Fi से नहीं)
Show me as in a mirror|Verme como en un espejo|Me voir comme dans un miroir|मुझे दर्पण की तरह दिखाएँ
Zoom the shared screen|Ampliar la pantalla compartida|Agrandir l'écran partagé|साझा स्क्रीन को बड़ा-छोटा करें
Do what the newest notice offers|Hacer lo que ofrece el último aviso|Faire ce que propose le dernier avis|नवीनतम सूचना का काम करें
Reconnecting…|Reconectando…|Reconnexion…|फिर से जुड़ रहे हैं…
You|Tú|Vous|आप
you|tú|vous|आप
Your screen|Tu pantalla|Votre écran|आपकी स्क्रीन
{name}'s screen|Pantalla de {name}|Écran de {name}|{name} की स्क्रीन
{count} lost|{count} perdidas|{count} perdues|{count} खोए
Pin|Fijar|Épingler|पिन करें
Unpin|Soltar|Désépingler|पिन हटाएँ
More|Más|Plus|और
Space|Espacio|Espace|Space
Esc|Esc|Échap|Esc
Enter|Intro|Entrée|Enter
Leave|Salir|Quitter|बाहर जाएँ
Leave the meeting|Salir de la reunión|Quitter la réunion|मीटिंग से बाहर जाएँ
Settings|Ajustes|Réglages|सेटिंग्स
Mute|Silenciar|Couper|म्यूट करें
Unmute|Hablar|Parler|अनम्यूट करें
Microphone on or off|Micrófono sí o no|Micro activé ou coupé|माइक चालू या बंद
Start video|Iniciar vídeo|Caméra|वीडियो चालू
Stop video|Parar vídeo|Arrêter|वीडियो बंद
Camera on or off|Cámara sí o no|Caméra activée ou coupée|कैमरा चालू या बंद
Share|Compartir|Partager|साझा करें
Stop share|Parar|Arrêter|रोकें
Share your screen|Compartir tu pantalla|Partager votre écran|अपनी स्क्रीन साझा करें
Raise hand|Mano|Main|हाथ उठाएँ
Hand up or down|Levantar o bajar la mano|Lever ou baisser la main|हाथ ऊपर या नीचे
Lower hand|Bajar mano|Baisser|हाथ नीचे
React|Reaccionar|Réagir|प्रतिक्रिया
Chat|Chat|Chat|चैट
Users|Personas|Personnes|लोग
Class|Clase|Classe|कक्षा
Full screen|Pantalla completa|Plein écran|पूरी स्क्रीन
Grid: everybody|Cuadrícula: todos|Grille : tout le monde|ग्रिड: सब लोग
Speaker: who talks, large|Orador: quien habla, en grande|Orateur : qui parle, en grand|वक्ता: बोलने वाला बड़ा
Focus: one picture only|Foco: una sola imagen|Focus : une seule image|फ़ोकस: केवल एक चित्र
Connection to the host|Conexión con el anfitrión|Connexion à l'animateur|होस्ट से कनेक्शन
Encrypted on this network|Cifrado en esta red|Chiffré sur ce réseau|इस नेटवर्क पर एन्क्रिप्टेड
Host|Anfitrión|Animateur|होस्ट
Host: {name}|Anfitrión: {name}|Animateur : {name}|होस्ट: {name}
Good|Buena|Bonne|अच्छा
Fair|Regular|Moyenne|ठीक
Poor|Mala|Faible|कमज़ोर
No link|Sin red|Coupée|कनेक्शन नहीं
Invite|Invitar|Inviter|आमंत्रण
private to {name}|privado a {name}|en privé à {name}|{name} को निजी
private|privado|privé|निजी
Send|Enviar|Envoyer|भेजें
Emoji|Emoji|Émoji|इमोजी
Message everyone|Mensaje para todos|Message à tous|सबको संदेश
To: Everyone|Para: Todos|À : Tous|प्रति: सब
To: {name}|Para: {name}|À : {name}|प्रति: {name}
Today|Hoy|Aujourd'hui|आज
Copy|Copiar|Copier|कॉपी करें
sharing the screen|comparte la pantalla|partage l'écran|स्क्रीन साझा कर रहे हैं
talking|habla|parle|बोल रहे हैं
Somebody there was removed.|Alguien de allí fue expulsado.|Quelqu'un de là-bas a été exclu.|वहाँ से किसी को हटाया गया था।
Removed: {name}|Quitado: {name}|Retiré : {name}|हटाया गया: {name}
Let back|Dejar volver|Laisser revenir|वापस आने दें
{name} waits to be let in|{name} espera para entrar|{name} attend d'entrer|{name} अंदर आने की प्रतीक्षा में हैं
Let in|Admitir|Laisser entrer|अंदर आने दें
Find a name|Buscar un nombre|Chercher un nom|नाम खोजें
sending|enviando|envoi|भेजा जा रहा है
receiving|recibiendo|réception|प्राप्त हो रहा है
saved|guardado|enregistré|सहेजा गया
declined|rechazado|refusé|अस्वीकृत
a program: it may do harm|un programa: puede hacer daño|un programme : il peut nuire|एक प्रोग्राम: नुकसान पहुँचा सकता है
no longer offered|ya no se ofrece|n'est plus proposé|अब उपलब्ध नहीं
failed|falló|échec|विफल
from {name}|de {name}|de {name}|{name} की ओर से
View Downloads|Ver descargas|Voir les téléchargements|डाउनलोड देखें
No messages yet|Aún no hay mensajes|Pas encore de messages|अभी कोई संदेश नहीं
Nobody is called so|Nadie se llama así|Personne ne s'appelle ainsi|इस नाम का कोई नहीं
Nobody else is here|No hay nadie más aquí|Il n'y a personne d'autre|यहाँ और कोई नहीं है
No files yet|Aún no hay archivos|Pas encore de fichiers|अभी कोई फ़ाइल नहीं
Cancel|Cancelar|Annuler|रद्द करें
Show in folder|Ver en la carpeta|Voir le dossier|फ़ोल्डर में देखें
Accept|Aceptar|Accepter|स्वीकारें
Decline|Rechazar|Refuser|मना करें
Download|Descargar|Télécharger|डाउनलोड
Files|Archivos|Fichiers|फ़ाइलें
1 person|1 persona|1 personne|1 व्यक्ति
{count} people|{count} personas|{count} personnes|{count} लोग
Headphones stop echo for everyone.|Unos auriculares evitan el eco a todos.|Un casque évite l'écho à tout le monde.|हेडफ़ोन सबके लिए गूँज रोकते हैं।
Speaker|Altavoz|Haut-parleur|स्पीकर
Microphone|Micrófono|Microphone|माइक
Camera|Cámara|Caméra|कैमरा
Play a test|Probar|Tester|जाँच ध्वनि बजाएँ
Default device|Predeterminado|Par défaut|डिफ़ॉल्ट उपकरण
No camera|Sin cámara|Aucune caméra|कोई कैमरा नहीं
No microphone|Sin micrófono|Aucun micro|कोई माइक नहीं
Nothing is chosen.|No se ha elegido nada.|Rien n'est choisi.|कुछ नहीं चुना गया।
No speaker|Sin altavoz|Aucun haut-parleur|कोई स्पीकर नहीं
Test card|Carta de ajuste|Mire|परीक्षण चित्र
Not working? Check this computer|¿No funciona? Revisar este equipo|Un problème ? Vérifier cet ordinateur|काम नहीं कर रहा? इस कंप्यूटर को जाँचें
Join|Unirse|Rejoindre|जुड़ें
Your name|Tu nombre|Votre nom|आपका नाम
Meetings found on this network|Reuniones en esta red|Réunions sur ce réseau|इस नेटवर्क पर मिली मीटिंग
Looking for meetings…|Buscando reuniones…|Recherche de réunions…|मीटिंग खोजी जा रही हैं…
Type your name first.|Escribe primero tu nombre.|Écrivez d'abord votre nom.|पहले अपना नाम लिखें।
Joining…|Entrando…|Connexion…|जुड़ रहे हैं…
An address looks like 192.168.1.20, a code like 0T4N.|Una dirección es como 192.168.1.20, un código como 0T4N.|Une adresse ressemble à 192.168.1.20, un code à 0T4N.|पता 192.168.1.20 जैसा होता है, कोड 0T4N जैसा।
This is not the computer you know|Este no es el equipo que conoces|Ce n'est pas l'ordinateur que vous connaissez|यह वह कंप्यूटर नहीं है जिसे आप जानते हैं
Ask the teacher before you go on.|Pregunta al profesor antes de seguir.|Demandez au professeur avant de continuer.|आगे बढ़ने से पहले शिक्षक से पूछें।
Join anyway|Unirse igualmente|Rejoindre quand même|फिर भी जुड़ें
Type an address or code|Dirección o código|Adresse ou code|पता या कोड लिखें
Host a meeting|Crear una reunión|Créer une réunion|मीटिंग होस्ट करें
Title|Título|Titre|शीर्षक
Ask for a PIN|Pedir un PIN|Demander un PIN|PIN माँगें
{name}'s meeting|Reunión de {name}|Réunion de {name}|{name} की मीटिंग
Check again|Comprobar de nuevo|Vérifier encore|फिर जाँचें
Done|Listo|Terminé|हो गया
That did not work.|No funcionó.|Cela n'a pas fonctionné.|यह नहीं हो सका।
Cable {place}.|Cable {place}.|Câble {place}.|केबल {place}।
Wi-Fi {place}.|Wi-Fi {place}.|Wi-Fi {place}.|वाई-फ़ाई {place}।
VPN {place}.|VPN {place}.|VPN {place}.|VPN {place}।
Virtual adapter {place}.|Adaptador virtual {place}.|Adaptateur virtuel {place}.|आभासी एडाप्टर {place}।
The address that is used: {address}.|La dirección que se usa: {address}.|L'adresse utilisée : {address}.|उपयोग हो रहा पता: {address}।
This computer is in {count} networks: {names}.|Este equipo está en {count} redes: {names}.|Cet ordinateur est dans {count} réseaux : {names}.|यह कंप्यूटर {count} नेटवर्क में है: {names}।
The host must be in one of them.|El anfitrión debe estar en una de ellas.|L'animateur doit être dans l'un d'eux.|होस्ट इनमें से किसी में होना चाहिए।
{place}: this network gave no address.|{place}: esta red no dio ninguna dirección.|{place} : ce réseau n'a pas donné d'adresse.|{place}: इस नेटवर्क ने पता नहीं दिया।
Connect all computers to the same router or hotspot.|Conecta todos los equipos al mismo router o punto de acceso.|Connectez tous les ordinateurs au même routeur ou point d'accès.|सभी कंप्यूटर एक ही राउटर या हॉटस्पॉट से जोड़ें।
A VPN is on ({place}): it may keep the room's network out.|Hay una VPN activa ({place}): puede excluir la red de la sala.|Un VPN est actif ({place}) : il peut exclure le réseau de la salle.|VPN चालू है ({place}): वह कमरे के नेटवर्क को बाहर रख सकता है।
The host at {address} has another version (protocol {theirs}, here {here}).|El anfitrión en {address} tiene otra versión (protocolo {theirs}, aquí {here}).|L'animateur à {address} a une autre version (protocole {theirs}, ici {here}).|{address} पर होस्ट का संस्करण अलग है (प्रोटोकॉल {theirs}, यहाँ {here})।
The host can give its version to others.|El anfitrión puede dar su versión a los demás.|L'animateur peut donner sa version aux autres.|होस्ट अपना संस्करण दूसरों को दे सकता है।
“{title}” by {host} at {address} answers.|“{title}” de {host} en {address} responde.|« {title} » de {host} à {address} répond.|{host} की “{title}” {address} पर उत्तर देती है।
The firewall of the host {address} blocks port {port} of “{title}”.|El cortafuegos del anfitrión {address} bloquea el puerto {port} de “{title}”.|Le pare-feu de l'animateur {address} bloque le port {port} de « {title} ».|होस्ट {address} का फ़ायरवॉल “{title}” का पोर्ट {port} रोकता है।
Allow ConnectSphere in the firewall of {address}, for public networks too.|Permite ConnectSphere en el cortafuegos de {address}, también en redes públicas.|Autorisez ConnectSphere dans le pare-feu de {address}, aussi pour les réseaux publics.|{address} के फ़ायरवॉल में ConnectSphere की अनुमति दें, सार्वजनिक नेटवर्क के लिए भी।
Broadcasts are heard on {place}.|Las difusiones se oyen en {place}.|Les diffusions s'entendent sur {place}.|{place} पर प्रसारण सुने जाते हैं।
Broadcasts are blocked on {place}.|Las difusiones están bloqueadas en {place}.|Les diffusions sont bloquées sur {place}.|{place} पर प्रसारण रुके हैं।
The meeting does not hear broadcasts.|La reunión no oye las difusiones.|La réunion n'entend pas les diffusions.|मीटिंग प्रसारण नहीं सुनती।
Join by the host's address, or allow broadcasts (UDP 9000) in firewall and network.|Entra por la dirección del anfitrión, o permite difusiones (UDP 9000) en cortafuegos y red.|Rejoignez par l'adresse de l'animateur, ou autorisez les diffusions (UDP 9000) dans pare-feu et réseau.|होस्ट के पते से जुड़ें, या फ़ायरवॉल और नेटवर्क में प्रसारण (UDP 9000) की अनुमति दें।
Looking for a meeting: {addresses}.|Buscan una reunión: {addresses}.|Cherchent une réunion : {addresses}.|मीटिंग खोज रहे हैं: {addresses}।
Another program holds {ports}.|Otro programa ocupa {ports}.|Un autre programme occupe {ports}.|दूसरा प्रोग्राम {ports} रखे है।
End that program, or host with --port 9100.|Cierra ese programa, o crea la reunión con --port 9100.|Fermez ce programme, ou créez la réunion avec --port 9100.|वह प्रोग्राम बंद करें, या --port 9100 से होस्ट करें।
Tried to join and did not come in: {addresses}.|Intentaron entrar y no lo lograron: {addresses}.|Ont essayé d'entrer sans y parvenir : {addresses}.|जुड़ने की कोशिश की पर आ नहीं सके: {addresses}।
The firewall of this computer keeps others out.|El cortafuegos de este equipo no deja entrar a otros.|Le pare-feu de cet ordinateur ne laisse entrer personne.|इस कंप्यूटर का फ़ायरवॉल दूसरों को रोकता है।
Devices that answer: {count}.|Dispositivos que responden: {count}.|Appareils qui répondent : {count}.|उत्तर देने वाले उपकरण: {count}।
No other computer answers on this network: there is none, or it keeps devices apart.|Ningún otro equipo responde: no hay otro, o la red separa los dispositivos.|Aucun autre ordinateur ne répond : il n'y en a pas, ou le réseau isole les appareils.|कोई दूसरा कंप्यूटर उत्तर नहीं देता: कोई है नहीं, या नेटवर्क उपकरणों को अलग रखता है।
You can take part without it; or mend it, or plug in another.|Puedes participar sin él; o arréglalo, o conecta otro.|Vous pouvez participer sans ; ou réparez-le, ou branchez-en un autre.|आप इसके बिना भाग ले सकते हैं; या इसे ठीक करें, या दूसरा लगाएँ।
{what}: it works.|{what}: funciona.|{what} : tout va bien.|{what}: काम करता है।
{room} GB are free for files.|Hay {room} GB libres para archivos.|{room} Go sont libres pour les fichiers.|फ़ाइलों के लिए {room} GB खाली हैं।
Delete something before files are sent.|Borra algo antes de enviar archivos.|Supprimez quelque chose avant d'envoyer des fichiers.|फ़ाइलें भेजने से पहले कुछ हटाएँ।
Everything works.|Todo funciona.|Tout fonctionne.|सब ठीक है।
Ready, but no meeting was found.|Todo listo, pero no hay ninguna reunión.|Tout est prêt, mais aucune réunion n'a été trouvée.|सब तैयार है, पर कोई मीटिंग नहीं मिली।
Invite others|Invitar a otros|Inviter d'autres personnes|दूसरों को आमंत्रित करें
This computer is in other networks, too. There they type:|Este equipo está también en otras redes. Allí escriben:|Cet ordinateur est aussi dans d'autres réseaux. Là, on saisit :|यह कंप्यूटर दूसरे नेटवर्क में भी है। वहाँ यह लिखें:
needs Python and uv|necesita Python y uv|demande Python et uv|Python और uv चाहिए
Give this app to others|Dar esta aplicación a otros|Donner cette application à d'autres|यह ऐप दूसरों को दें
Who has no ConnectSphere yet opens this address in a browser, or photographs the code:|Quien aún no tiene ConnectSphere abre esta dirección en un navegador o fotografía el código:|Qui n'a pas encore ConnectSphere ouvre cette adresse dans un navigateur ou photographie le code :|जिनके पास ConnectSphere नहीं है, वे यह पता ब्राउज़र में खोलें या कोड का फ़ोटो लें:
One moment…|Un momento…|Un instant…|एक क्षण…
It is offered until you stop it or close the program.|Se ofrece hasta que la detengas o cierres el programa.|Elle est proposée jusqu'à ce que vous l'arrêtiez ou quittiez le programme.|यह तब तक दी जाती है, जब तक आप न रोकें या प्रोग्राम बंद न करें।
Stop offering it|Dejar de ofrecerla|Ne plus la proposer|देना बंद करें
This edition is a folder: copy the folder to hand it on.|Esta edición es una carpeta: cópiala para darla.|Cette édition est un dossier : copiez-le pour la donner.|यह संस्करण एक फ़ोल्डर है: देने के लिए उसकी प्रति बनाएँ।
The app cannot be offered at {address}.|La aplicación no puede ofrecerse en {address}.|L'application ne peut être proposée à {address}.|ऐप {address} पर नहीं दिया जा सकता।
Whoever starts ConnectSphere on this network finds the meeting. Else they type:|Quien abra ConnectSphere en esta red encuentra la reunión. Si no, escribe:|Qui lance ConnectSphere sur ce réseau trouve la réunion. Sinon, saisir :|इस नेटवर्क पर ConnectSphere खोलने वाला मीटिंग पा लेता है। नहीं तो यह लिखें:
Address|Dirección|Adresse|पता
or the code|o el código|ou le code|या कोड
Everybody sees these eight pictures. Other pictures: another host.|Todos ven estas ocho imágenes. Otras imágenes: otro anfitrión.|Chacun voit ces huit images. D'autres images : un autre animateur.|सबको यही आठ चित्र दिखते हैं। दूसरे चित्र: दूसरा होस्ट।
The camera is off|La cámara está apagada|La caméra est coupée|कैमरा बंद है
Audio|Audio|Audio|ऑडियो
Video|Vídeo|Vidéo|वीडियो
Appearance|Aspecto|Apparence|रूप
Shortcuts|Atajos|Raccourcis|शॉर्टकट
Speaker volume|Volumen del altavoz|Volume du haut-parleur|स्पीकर की आवाज़
Clear voice: no echo, no noise (off for music)|Voz clara: sin eco ni ruido (no para música)|Voix claire : sans écho ni bruit (pas pour la musique)|साफ़ आवाज़: गूँज और शोर नहीं (संगीत के लिए बंद)
Louder for me|Más alto para mí|Plus fort pour moi|मेरे लिए तेज़
Softer for me|Más bajo para mí|Moins fort pour moi|मेरे लिए धीमा
Mute for me|Silenciar para mí|Couper pour moi|मेरे लिए म्यूट
Hold Space to talk|Mantener Espacio para hablar|Maintenir Espace pour parler|बोलने के लिए Space दबाए रखें
Pin the picture under the mouse|Fijar la imagen bajo el ratón|Épingler l'image sous la souris|माउस के नीचे का चित्र पिन करें
This list|Esta lista|Cette liste|यह सूची
Colours|Colores|Couleurs|रंग
Dark|Oscuro|Sombre|गहरा
Light|Claro|Clair|हल्का
High contrast|Alto contraste|Contraste élevé|अधिक कंट्रास्ट
Size of everything|Tamaño de todo|Taille de l'affichage|हर चीज़ का आकार
Language|Idioma|Langue|भाषा
{name} wrote to you in private|{name} te escribió en privado|{name} vous a écrit en privé|{name} ने आपको निजी संदेश भेजा
Answer|Responder|Répondre|उत्तर दें
{name} joined|{name} entró|{name} est arrivé|{name} जुड़े
{name} left|{name} salió|{name} est parti|{name} चले गए
{name} raised a hand|{name} levantó la mano|{name} lève la main|{name} ने हाथ उठाया
{from} offers {name} ({size})|{from} ofrece {name} ({size})|{from} propose {name} ({size})|{from} ने {name} ({size}) भेजी है
Look|Ver|Voir|देखें
Saved: {name}|Guardado: {name}|Enregistré : {name}|सहेजा गया: {name}
The lesson goes on at {name}'s computer; messages pass through it.|La clase sigue en el equipo de {name}; los mensajes pasan por él.|Le cours continue sur l'ordinateur de {name} ; les messages y passent.|पाठ {name} के कंप्यूटर पर चल रहा है; संदेश उसी से गुज़रते हैं।
Waits for {host}: {text}|Espera a {host}: {text}|Attend {host} : {text}|{host} की प्रतीक्षा में: {text}
Nobody has the host's rights until {host} is back.|Nadie tiene los derechos del anfitrión hasta que vuelva {host}.|Personne n'a les droits de l'animateur avant le retour de {host}.|{host} के लौटने तक होस्ट के अधिकार किसी के पास नहीं हैं।
Bring the lesson back|Traer la clase de vuelta|Ramener le cours ici|पाठ वापस यहाँ लाएँ
{by} asks: may the lesson go on at your computer if theirs fails?|{by} pregunta: ¿puede seguir la clase en tu equipo si el suyo falla?|{by} demande : le cours peut-il continuer sur votre ordinateur si le sien lâche ?|{by} पूछते हैं: उनका कंप्यूटर रुक जाए तो क्या पाठ आपके कंप्यूटर पर चल सकता है?
Messages of all then pass through it.|Entonces los mensajes de todos pasan por él.|Les messages de tous y passent alors.|तब सबके संदेश उसी से गुज़रेंगे।
If this computer fails: {names}|Si este equipo falla: {names}|Si cet ordinateur lâche : {names}|यह कंप्यूटर रुक जाए तो: {names}
the lesson stops|la clase se detiene|le cours s'arrête|पाठ रुक जाता है
Choose a computer|Elegir un equipo|Choisir un ordinateur|कंप्यूटर चुनें
If the host's computer fails, the lesson goes on here.|Si falla el equipo del anfitrión, la clase sigue aquí.|Si l'ordinateur de l'animateur lâche, le cours continue ici.|होस्ट का कंप्यूटर रुक जाए तो पाठ यहाँ चलेगा।
Hand the lesson over…|Ceder la clase…|Confier le cours…|पाठ सौंपें…
Goes on if this computer fails|Sigue si este equipo falla|Continue si cet ordinateur lâche|यह कंप्यूटर रुके तो आगे चलाए
{name} is away|{name} no está|{name} est absent|{name} अभी यहाँ नहीं हैं
Without its host the meeting ends in {minutes} min|Sin su anfitrión, la reunión termina en {minutes} min|Sans son animateur, la réunion se termine dans {minutes} min|होस्ट के बिना मीटिंग {minutes} मिनट में समाप्त होगी
Back to my lesson|Volver a mi clase|Revenir à mon cours|मेरी कक्षा में लौटें
End it and start anew|Terminarla y empezar otra|La terminer et recommencer|समाप्त करें और नई शुरू करें
{by} muted you|{by} te silenció|{by} a coupé votre micro|{by} ने आपको म्यूट किया
Connected again|Conectado de nuevo|De nouveau connecté|फिर से जुड़ गए
The meeting has ended.|La reunión ha terminado.|La réunion est terminée.|मीटिंग समाप्त हो गई।
You are muted|Estás silenciado|Votre micro est coupé|आप म्यूट हैं
Pause|Pausar|Suspendre|रोकें
Resume|Reanudar|Reprendre|जारी रखें
Paused|En pausa|En pause|रुका हुआ
While covered, the last picture stays.|Si queda tapada, se ve la última imagen.|Recouverte, la dernière image reste.|ढकी होने पर पिछली तस्वीर रहती है।
Hosted by {name}, new to this computer|Anfitrión {name}, nuevo para este equipo|Animée par {name}, nouveau pour cet ordinateur|होस्ट {name}, इस कंप्यूटर के लिए नए
Page {page} of {pages}|Página {page} de {pages}|Page {page} sur {pages}|पृष्ठ {page} / {pages}
Take over|Tomar|Prendre|लें
Copied: paste it for the others|Copiado: pégalo para los demás|Copié : collez-le pour les autres|कॉपी हुआ: दूसरों के लिए चिपकाएँ
Save the chat|Guardar el chat|Enregistrer le chat|चैट सहेजें
Send a file|Enviar un archivo|Envoyer un fichier|फ़ाइल भेजें
Write in private|Escribir en privado|Écrire en privé|निजी संदेश लिखें
Allow to share the screen|Permitir compartir la pantalla|Autoriser le partage d'écran|स्क्रीन साझा करने दें
Remove from the meeting…|Quitar de la reunión…|Retirer de la réunion…|मीटिंग से हटाएँ…
Remove {name}?|¿Quitar a {name}?|Retirer {name} ?|{name} को हटाएँ?
Keep microphones off|Mantener micrófonos apagados|Garder les micros coupés|माइक बंद रखें
{count} muted|{count} silenciados|{count} micros coupés|{count} म्यूट
Lower all hands|Bajar todas las manos|Baisser toutes les mains|सब हाथ नीचे करें
Pupils may|Los alumnos pueden|Les élèves peuvent|छात्र कर सकते हैं
unmute themselves|activar su micrófono|activer leur micro|माइक चालू
turn on their camera|encender su cámara|allumer leur caméra|कैमरा चालू
write to everyone|escribir a todos|écrire à tous|सबको संदेश
send reactions|enviar reacciones|envoyer des réactions|प्रतिक्रियाएँ
write to each other|escribirse entre sí|s'écrire entre eux|आपस में संदेश
share their screen|compartir su pantalla|partager leur écran|स्क्रीन साझा
send files to each other|enviarse archivos|s'envoyer des fichiers|आपस में फ़ाइलें
Quick question…|Pregunta rápida…|Question rapide…|त्वरित प्रश्न…
Question|Pregunta|Question|प्रश्न
Up to 5 answers, with / between them|Hasta 5 respuestas, separadas por /|Jusqu'à 5 réponses, séparées par /|5 तक उत्तर, बीच में / लगाकर
Show the answers to all|Mostrar las respuestas a todos|Montrer les réponses à tous|उत्तर सबको दिखाएँ
Countdown|Cuenta atrás|Compte à rebours|उलटी गिनती
Time is up|Se acabó el tiempo|Le temps est écoulé|समय समाप्त
Stop all cameras|Parar todas las cámaras|Arrêter les caméras|सब कैमरे बंद करें
Hand out a file…|Repartir un archivo…|Distribuer un fichier…|फ़ाइल बाँटें…
Collect work…|Recoger trabajos…|Ramasser les travaux…|काम इकट्ठा करें…
Stop collecting|Dejar de recoger|Arrêter de ramasser|इकट्ठा करना बंद करें
To be handed in: {title}|Para entregar: {title}|À rendre : {title}|जमा करना है: {title}
Hand in|Entregar|Rendre|जमा करें
Your work was handed in|Tu trabajo se ha entregado|Votre travail a été rendu|आपका काम जमा हो गया
Class list…|Lista de la clase…|Liste de la classe…|कक्षा सूची…
New PIN|PIN nuevo|Nouveau PIN|नया PIN
Ask|Pedir|Demander|कहें
{by} asks for your camera|{by} te pide la cámara|{by} demande votre caméra|{by} आपका कैमरा चाहते हैं
Save the list of who was here…|Guardar la lista de asistencia…|Enregistrer la liste des présents…|उपस्थिति सूची सहेजें…
They knock|Llaman|Ils frappent|दस्तक दें
Closed|Cerrada|Fermée|बंद
Open|Abierta|Ouverte|खुला
Door|Puerta|Porte|दरवाज़ा
Lesson|Clase|Cours|पाठ
Remind them|Recordárselo|Leur rappeler|याद दिलाएँ
Replace|Reemplazar|Remplacer|बदलें
Missing: {names}|Faltan: {names}|Manquent : {names}|बाकी: {names}
Everyone has handed in|Todos han entregado|Tous ont rendu|सबने जमा किया
Left: {names}|Se fueron: {names}|Partis : {names}|चले गए: {names}
{name}: {fact}|{name}: {fact}|{name} : {fact}|{name}: {fact}
lost the connection|perdió la conexión|a perdu la connexion|कनेक्शन टूटा
{count} people lost the connection: look at this computer's cable or Wi-Fi|{count} perdieron la conexión: mira el cable o la Wi-Fi de este equipo|{count} ont perdu la connexion : vérifiez le câble ou le Wi-Fi d'ici|{count} का कनेक्शन टूटा: इस कंप्यूटर की केबल या वाई-फ़ाई देखें
Not now|Ahora no|Pas maintenant|अभी नहीं
has the word|tiene la palabra|a la parole|बोल रहे हैं
Hands: {count}|Manos: {count}|Mains : {count}|हाथ: {count}
Ask to speak|Pedir la palabra|Demander|बोलना चाहूँ
Your hand is up: number {number}|Tu mano está levantada: número {number}|Votre main est levée : numéro {number}|आपका हाथ उठा है: क्रमांक {number}
Only with the word|Solo con la palabra|Parole sur demande|केवल मौका मिलने पर
Everyone sees {name}|Todos ven a {name}|Tous voient {name}|सब {name} को देख रहे हैं
{by} turned your camera off|{by} apagó tu cámara|{by} a coupé votre caméra|{by} ने आपका कैमरा बंद किया
We are all in one room|Estamos todos en una sala|Nous sommes tous dans une même salle|हम सब एक कमरे में हैं
In my room|En mi sala|Dans ma salle|मेरे कमरे में
Not in my room|No en mi sala|Pas dans ma salle|मेरे कमरे में नहीं
heard through the air|se oye por el aire|entendu dans la salle|सीधे कमरे में
Give the word|Dar la palabra|Donner la parole|बोलने का मौका दें
You have the word|Tienes la palabra|Vous avez la parole|आपकी बारी है
Show to everyone|Mostrar a todos|Montrer à tous|सबको दिखाएँ
Ask to show the screen|Pedir que muestre la pantalla|Demander de montrer l'écran|स्क्रीन दिखाने को कहें
All that lies over it is seen, too.|También se ve todo lo que está encima.|On voit aussi tout ce qui est devant.|इसके ऊपर जो कुछ है, वह भी दिखता है।
PIN, if the meeting has one|PIN, si la reunión tiene uno|PIN, si la réunion en a un|PIN, यदि मीटिंग में हो
{by} asks you to show your screen to everyone|{by} te pide mostrar tu pantalla a todos|{by} vous demande de montrer votre écran à tous|{by} चाहते हैं कि आप स्क्रीन सबको दिखाएँ
Co-host|Coanfitrión|Co-animateur|सह-होस्ट
Rename…|Cambiar el nombre…|Renommer…|नाम बदलें…
New name|Nombre nuevo|Nouveau nom|नया नाम
Mute all|Silenciar a todos|Couper tous les micros|सबको म्यूट करें
Stop the shared screen|Parar la pantalla compartida|Arrêter l'écran partagé|साझा स्क्रीन रोकें
End the meeting for all…|Terminar la reunión para todos…|Terminer la réunion pour tous…|सबके लिए मीटिंग समाप्त करें…
Stay|Quedarse|Rester|रुकें
End for all|Terminar para todos|Terminer pour tous|सबके लिए समाप्त
Others can go on without you.|Los demás pueden seguir sin ti.|Les autres peuvent continuer sans vous.|दूसरे आपके बिना जारी रख सकते हैं।
Ask the host to start the meeting, or host one.|Pide al anfitrión que inicie la reunión, o crea una.|Demandez à l'animateur de démarrer la réunion, ou créez-en une.|होस्ट से मीटिंग शुरू करने को कहें, या स्वयं होस्ट करें।
Start ConnectSphere and join it.|Abre ConnectSphere y únete.|Lancez ConnectSphere et rejoignez-la.|ConnectSphere खोलें और जुड़ें।
This computer is in no network.|Este equipo no está en ninguna red.|Cet ordinateur n'est sur aucun réseau.|यह कंप्यूटर किसी नेटवर्क में नहीं है।
Switch the VPN off and look again.|Apaga la VPN y vuelve a mirar.|Coupez le VPN et réessayez.|VPN बंद करके फिर देखें।
A meeting runs on this computer.|Hay una reunión en este equipo.|Une réunion tourne sur cet ordinateur.|इस कंप्यूटर पर एक मीटिंग चल रही है।
The ports for hosting are free.|Los puertos para crear reuniones están libres.|Les ports pour animer sont libres.|होस्ट करने के पोर्ट खाली हैं।
“{title}” is still running.|“{title}” sigue en marcha.|« {title} » est toujours en cours.|“{title}” अभी चल रही है।
The meeting's server did not start.|El servidor de la reunión no arrancó.|Le serveur de la réunion n'a pas démarré.|मीटिंग का सर्वर शुरू नहीं हुआ।
The address {host} cannot be found.|No se encuentra la dirección {host}.|L'adresse {host} est introuvable.|पता {host} नहीं मिला।
The host's port {port} for files does not answer.|El puerto {port} del anfitrión para archivos no responde.|Le port {port} de l'animateur pour les fichiers ne répond pas.|फ़ाइलों के लिए होस्ट का पोर्ट {port} उत्तर नहीं दे रहा।
{what} “{label}”: missing, in use or forbidden by the privacy settings.|{what} “{label}”: no está, está en uso o lo prohíbe la configuración de privacidad.|{what} « {label} » : absent, déjà utilisé ou interdit par les réglages de confidentialité.|{what} “{label}”: नहीं है, उपयोग में है या गोपनीयता सेटिंग रोकती है।
If Windows asks about its firewall, tick both kinds of network: else nobody can join.|Si Windows pregunta por el cortafuegos, marca ambos tipos de red: si no, nadie podrá entrar.|Si Windows pose une question sur le pare-feu, cochez les deux types de réseau : sinon personne ne peut entrer.|यदि Windows फ़ायरवॉल के बारे में पूछे, तो दोनों तरह के नेटवर्क चुनें: वरना कोई जुड़ नहीं सकेगा।
If macOS asks about camera, microphone, network or incoming connections, allow it.|Si macOS pregunta por cámara, micrófono, red o conexiones entrantes, permítelo.|Si macOS interroge sur caméra, micro, réseau ou connexions entrantes, autorisez-le.|यदि macOS कैमरे, माइक, नेटवर्क या आने वाले कनेक्शन के बारे में पूछे, तो अनुमति दें।
This computer has no {what}.|Este equipo no tiene {what}.|Cet ordinateur n'a pas de {what}.|इस कंप्यूटर में {what} नहीं है।
A screen of {depth}-bit colours cannot be shared, only one of 24.|Una pantalla de {depth} bits no se puede compartir, solo de 24.|Un écran de {depth} bits ne peut être partagé, seulement de 24.|{depth} बिट की स्क्रीन साझा नहीं हो सकती, केवल 24 बिट की।
There is no screen here that can be shared.|Aquí no hay pantalla que se pueda compartir.|Il n'y a pas d'écran à partager ici.|यहाँ साझा करने योग्य स्क्रीन नहीं है।
Let ConnectSphere record the screen in macOS Settings.|Permite a ConnectSphere grabar la pantalla en Ajustes de macOS.|Laissez ConnectSphere enregistrer l'écran dans les réglages de macOS.|macOS सेटिंग्स में ConnectSphere को स्क्रीन रिकॉर्ड करने दें।
Wayland hides the screen from programs; sign in with Xorg to share it.|Wayland oculta la pantalla a los programas; entra con Xorg para compartirla.|Wayland cache l'écran aux programmes ; connectez-vous avec Xorg pour le partager.|Wayland स्क्रीन छिपाता है; साझा करने के लिए Xorg से साइन इन करें।
{path} cannot be read: {fault}.|No se puede leer {path}: {fault}.|{path} est illisible : {fault}.|{path} पढ़ी नहीं जा सकी: {fault}।
The shared screen got lost.|Se perdió la pantalla compartida.|Le partage d'écran s'est interrompu.|साझा स्क्रीन का कनेक्शन टूट गया।
No meeting answers at {address} ({fault}).|Ninguna reunión responde en {address} ({fault}).|Aucune réunion ne répond à {address} ({fault}).|{address} पर कोई मीटिंग उत्तर नहीं दे रही ({fault})।
refused|conexión rechazada|connexion refusée|कनेक्शन अस्वीकृत
timeout|sin respuesta|pas de réponse|कोई उत्तर नहीं
unreachable|inaccesible|inaccessible|पहुँच से बाहर
no_tls|no es ConnectSphere|ce n'est pas ConnectSphere|यह ConnectSphere नहीं है
gone|conexión cortada|connexion coupée|कनेक्शन टूट गया
The host refused it: {code}.|El anfitrión lo rechazó: {code}.|L'animateur l'a refusé : {code}.|होस्ट ने मना किया: {code}।
{name} is on its way already.|{name} ya está en camino.|{name} est déjà en route.|{name} पहले से भेजी जा रही है।
{path} cannot be saved: {fault}.|No se puede guardar {path}: {fault}.|{path} ne peut pas être enregistré : {fault}.|{path} सहेजी नहीं जा सकी: {fault}।
Permission denied|permiso denegado|accès refusé|अनुमति नहीं है
No space left on device|no queda espacio en el disco|il n'y a plus de place sur le disque|डिस्क पर जगह नहीं बची
No such file or directory|ese archivo o carpeta no existe|ce fichier ou dossier n'existe pas|ऐसी फ़ाइल या फ़ोल्डर नहीं है
Address already in use|ya está en uso|déjà utilisé|पहले से उपयोग में है
Network is unreachable|no hay conexión de red|aucune connexion réseau|नेटवर्क कनेक्शन नहीं है
microphone|micrófono|micro|माइक
speaker|altavoz|haut-parleur|स्पीकर
Camera {number}|Cámara {number}|Caméra {number}|कैमरा {number}
Default ({name})|Predeterminado ({name})|Par défaut ({name})|डिफ़ॉल्ट ({name})
There is no {what} number {number}.|No hay ningún {what} con el número {number}.|Il n'y a pas de {what} numéro {number}.|{number} क्रमांक का {what} नहीं है।
“{label}” was unplugged, stopped working or was taken by another program.|“{label}” se desconectó, dejó de funcionar o la usa otro programa.|« {label} » a été débranché, ne marche plus ou est pris par un autre programme.|“{label}” निकाल दिया गया, बंद हो गया या दूसरा प्रोग्राम उसे उपयोग कर रहा है।
“{label}” does not answer.|“{label}” no responde.|« {label} » ne répond pas.|“{label}” उत्तर नहीं दे रहा।
{what} cannot be loaded: {mend}.|No se puede cargar {what}: {mend}.|{what} ne peut pas être chargé : {mend}.|{what} लोड नहीं हो सका: {mend}।
on Windows N, install the Media Feature Pack|en Windows N, instala el Media Feature Pack|sous Windows N, installez le Media Feature Pack|Windows N पर Media Feature Pack इंस्टॉल करें
No other window is open.|No hay ninguna otra ventana abierta.|Aucune autre fenêtre n'est ouverte.|कोई दूसरी विंडो खुली नहीं है।
There is no screen {number} here.|Aquí no hay ninguna pantalla {number}.|Il n'y a pas d'écran {number} ici.|यहाँ स्क्रीन {number} नहीं है।
Show all|Mostrar todo|Tout afficher|सब दिखाएँ
Show less|Mostrar menos|Réduire|कम दिखाएँ
{name} is not here now: nothing is sent.|{name} no está ahora: no se envía nada.|{name} est absent : rien n'est envoyé.|{name} अभी यहाँ नहीं: कुछ नहीं भेजा गया।
{some} of {all} have it|{some} de {all} lo tienen|{some} sur {all} l'ont|{all} में से {some} के पास है
Take back|Retirar|Retirer|वापस लें
"""  # noqa: E501
LANGUAGES = (("es", "Español"), ("fr", "Français"), ("hi", "हिन्दी"))


class Translator:
	"""The user's language; English sentences are the keys, and stand for what is missing."""

	language = "en"

	@cached_property
	def table(self) -> Mapping[str, Mapping[str, str]]:
		"""Sentence by English sentence and language."""
		lines = [line.partition("|")[2] for line in REFUSALS.split("\n")] + TEXTS.split("\n")
		codes, rows = [code for code, _ in LANGUAGES], (line.split("|") for line in lines)
		return {english: dict(zip(codes, others, strict=True)) for english, *others in rows if others}

	def __call__(self, text: str, /, **values: object) -> str:
		"""`text` in the user's language, its {names} filled with `values`; Words bring their own."""
		if isinstance(text, Words):
			values, text = dict(text.values), text.key
		found = text if self.language == "en" else self.table.get(text, {}).get(self.language, text)
		said = {name: self(value) if isinstance(value, Words) else value for name, value in values.items()}
		return Words(text, found.format(**said) if said else found, **values)


tr = Translator()


def system_language() -> str:
	"""The language of this system, if it is one of ours; else English."""
	if sys.platform == "win32":
		name = locale.windows_locale.get(ctypes.windll.kernel32.GetUserDefaultUILanguage(), "")
	else:
		kinds = ("LC_ALL", "LC_MESSAGES", "LANG")
		name = next((value for kind in kinds if (value := os.environ.get(kind))), "")
	return name[:2] if offered(name[:2]) else "en"


def offered(language: str) -> bool:
	"""Whether a language is ours and the toolkit here can shape its script."""
	ours = language in [code for code, _ in LANGUAGES]
	return ours and (language != "hi" or sys.platform in ("win32", "darwin"))


# ====
# [27] DRAWING - palette, icons, emoji, fonts, avatars, tiles: pictures made with Pillow
# Uses: BASICS, DEVICES

Box = tuple[int, int, int, int]  # x, y, width, height


@frozen
class Palette:
	"""The colours, as #rrggbb; text on card is at least 7:1 in each palette."""

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
	bad: str = "#DE3B42"
	bad_text: str = "#FF9A94"
	on_accent: str = "#FFFFFF"
	tile: str = "#1A2029"


DARK = Palette()
LIGHT = Palette(
	window="#E9EDF2", panel="#F6F8FA", card="#FFFFFF", raised="#D6DEE8", line="#C1CAD5", text="#161C24",
	second="#434F5C", third="#5A6673", accent="#2F62CF", accent_high="#2653B4", link="#2456C4",
	focus="#2F6BF0", chosen="#DCE7FD", good="#0E7A4B", warn="#8F5A00", bad="#CE2F36", bad_text="#B3232B",
	tile="#D5DCE4",
)  # fmt: skip
CONTRAST = Palette(
	window="#000000", panel="#000000", card="#0A0A0A", raised="#262626", line="#FFFFFF", text="#FFFFFF",
	second="#F0F0F0", third="#E0E0E0", accent="#0047C2", accent_high="#0A5CF0", link="#8FC1FF",
	focus="#FFE600",
	chosen="#003080", good="#4DFFA6", warn="#FFD24D", bad="#D6002A", bad_text="#FF9EA6", tile="#141414",
)  # fmt: skip
PALETTES = {"dark": DARK, "light": LIGHT, "contrast": CONTRAST}
AVATARS = """
#5B8DEF #3157C8
#57B894 #2C7F62
#E0679B #A93A6E
#B07CE8 #7A45BC
#E8995B #B3652A
#4FB3C9 #25788C
#D96C6C #A13D3D
#8E9B4E #616C28
"""


class Metrics:
	"""Sizes in logical pixels, multiplied once by the display's and the user's scale."""

	def __init__(self, scale: float = 1.0):
		self.scale = max(0.75, min(4.0, scale))

	def __call__(self, size: float) -> int:
		return max(1, round(size * self.scale)) if size > 0 else round(size * self.scale)


# Strokes on a 24 x 24 field: L line points, R rounded box x0 y0 x1 y1 radius, A arc box from to (degrees,
# clockwise from 3 o'clock), C circle x y r, D filled circle x y r, P filled polygon.
ICONS = """
mic: R 9 2.5 15 14 3|A 5.5 4.5 18.5 17.5 8 172|L 12 17.5 12 21|L 9 21 15 21
camera: R 2.5 6 15.5 18 3|L 15.5 10.8 21.5 7.2 21.5 16.8 15.5 13.2
share: R 2.5 3.5 21.5 16.5 2.5|L 12 13.5 12 7|L 9 9.5 12 6.8 15 9.5|L 8 20.5 16 20.5|L 12 16.5 12 20.5
hand: L 7 13.5 7 7|A 7 5.4 10.2 8.6 180 360|L 10.2 11 10.2 4.6|A 10.2 3 13.4 6.2 180 360|L 13.4 11 13.4
  4.6|A 13.4 3.8 16.6 7 180 360|L 16.6 11.5 16.6 5.4|A 16.6 6.4 19.8 9.6 180 360|L 19.8 8 19.8 15|A 7.6 9.6
  19.8 21.8 0 128|L 9.9 20.5 7.6 18.6 3.6 13.4|A 3.1 10.9 5.9 13.7 130 290|L 5.3 11.4 7 13.5
smile: C 12 12 9|D 8.8 9.8 1.1|D 15.2 9.8 1.1|A 7.8 8.4 16.2 16.6 20 160
chat: L 8.5 17.5 4.5 20.5 4.5 16|R 3 4 21 17.5 4
users: C 9 8 3.6|A 2.5 13.6 15.5 27 190 350|A 13 4.4 20.2 11.6 270 450|A 11.5 13.8 22 26 285 345
gear: C 12 12 2.8|C 12 12 6.6|L 18.6 12 21.4 12|L 16.7 16.7 18.6 18.6|L 12 18.6 12 21.4|L 7.3 16.7 5.4
  18.6|L 5.4 12 2.6 12|L 7.3 7.3 5.4 5.4|L 12 5.4 12 2.6|L 16.7 7.3 18.6 5.4
leave: L 13 4 6 4 4 6 4 18 6 20 13 20|L 9.5 12 20.5 12|L 16.8 8.3 20.5 12 16.8 15.7
grid: R 3.5 3.5 10.2 10.2 1.6|R 13.8 3.5 20.5 10.2 1.6|R 3.5 13.8 10.2 20.5 1.6|R 13.8 13.8 20.5 20.5 1.6
speaker: R 3 3.5 21 14.5 2.2|R 3 17.8 7.4 20.8 1|R 9.8 17.8 14.2 20.8 1|R 16.6 17.8 21 20.8 1
focus: R 3 4.5 21 19.5 2.5|R 14.2 13.2 18.2 16.7 1
full: L 3.5 9 3.5 3.5 9 3.5|L 15 3.5 20.5 3.5 20.5 9|L 20.5 15 20.5 20.5 15 20.5|L 9 20.5 3.5 20.5 3.5 15
pin: L 9 3.5 15 3.5|L 10 3.5 10 10.5 7 14.5 17 14.5 14 10.5 14 3.5|L 12 14.5 12 21
lock: R 5 10.5 19 21 2.2|A 8 3 16 12 180 360|L 8 7.5 8 10.5|L 16 7.5 16 10.5|D 12 15.7 1.3
send: L 21 3 10.5 13.5|L 21 3 14.4 21 10.5 13.5 3 9.6 21 3
clip: L 20.5 11 12 19.5|A 2.9 10.6 13.1 20.8 45 225|L 4.4 12 12.4 4|A 11.4 2.8 18.6 10 225 405|L 17.5 9 9.6
  16.9|A 6 13.1 10.3 17.4 45 225|L 6.6 13.7 13.7 6.6
file: L 14 3 6.5 3 5 4.5 5 19.5 6.5 21 17.5 21 19 19.5 19 8 14 3|L 14 3 14 8 19 8
folder: L 3 18 3 6 4.5 4.5 9 4.5 11.5 7.5 19.5 7.5 21 9 21 18 19.5 19.5 4.5 19.5 3 18
download: L 12 3.5 12 15|L 7.5 10.7 12 15 16.5 10.7|L 4 19.5 20 19.5
upload: L 12 15.5 12 4|L 7.5 8.3 12 4 16.5 8.3|L 4 19.5 20 19.5
down: L 6.5 9.5 12 15 17.5 9.5
left: L 14.5 6 8.5 12 14.5 18
right: L 9.5 6 15.5 12 9.5 18
close: L 6 6 18 18|L 18 6 6 18
check: L 4.5 12.5 10 18 19.5 6.5
plus: L 12 5 12 19|L 5 12 19 12
minus: L 5 12 19 12
more: D 5 12 1.7|D 12 12 1.7|D 19 12 1.7
volume: L 3.5 9.5 7 9.5 12 5 12 19 7 14.5 3.5 14.5 3.5 9.5|A 10 7.5 17.5 16.5 310 410|A 7.5 4 21 20 312 408
keyboard: R 2.5 5.5 21.5 18.5 2.5|D 6.5 10 1|D 10.2 10 1|D 13.8 10 1|D 17.5 10 1|L 8 14.5 16 14.5
person: C 12 7.5 4|A 4 14 20 30 190 350
shield: L 12 3 19.5 5.8 19.5 11.5 17.5 16.5 12 21 6.5 16.5 4.5 11.5 4.5 5.8 12 3
info: C 12 12 9|L 12 11 12 16.5|D 12 7.6 1.2
warning: L 12 3.8 21.5 20 2.5 20 12 3.8|L 12 10 12 14.3|D 12 17.1 1.1
bars: P 4 9 7.4 9 7.4 15 4 15|P 10.3 5 13.7 5 13.7 19 10.3 19|P 16.6 9 20 9 20 15 16.6 15
clock: C 12 12 9|L 12 6.5 12 12 15.5 14
globe: C 12 12 9|A 8 3 16 21 0 360|L 3 12 21 12
star: L 12 3 14.6 8.9 21 9.5 16.2 13.7 17.6 20 12 16.7 6.4 20 7.8 13.7 3 9.5 9.4 8.9 12 3
eye: A 2 4.5 22 24.5 205 335|A 2 -0.5 22 19.5 25 155|C 12 12 3
"""
STROKE = 1.75
OVERSAMPLE = 6


def shaped(text: str) -> bool:
	"""Whether `text` needs right-to-left order or joining that Tk does not do here: on X11 alone."""
	if text.isascii() or sys.platform in ("win32", "darwin"):
		return False
	return any(0x590 <= ord(char) <= 0x109F or 0xFB1D <= ord(char) <= 0xFEFC for char in text)


def initials(name: str) -> str:
	"""One or two letters that stand for a name; from right to left one, as two would be joined."""
	letters = [word[0] for word in name.split() if word[0].isalnum()]
	joined = any(unicodedata.bidirectional(letter) in ("R", "AL") for letter in letters)
	return "".join(letters[:1] + letters[1:][-1:] * (not joined)).upper() or "?"


PAINTED_MAX = 16_000  # pixels: X ends a program that shows it a picture of 32,768


def clipped(text: str, room: float, measure: Callable[[str], float]) -> str:
	"""`text` as one line, cut with an ellipsis at `room` pixels; measures little more than what it keeps."""
	text, room, high = text.replace("\n", " "), min(room, PAINTED_MAX), 16
	while high < len(text) and measure(text[:high]) <= room:
		high *= 2
	if high >= len(text) and measure(text) <= room:
		return text
	kept = bisect_right(range(1, high), room, key=lambda n: measure(text[:n] + "…"))
	return text[:kept].rstrip() + "…"


@lru_cache(256)
def round_mask(width: int, height: int, radius: int) -> Image.Image:
	"""An "L" mask of a box with round corners, drawn large and shrunk."""
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
	width, height = min(width, PAINTED_MAX), min(height, PAINTED_MAX)
	outer = round_mask(width, height, radius)
	picture = Image.new("RGBA", (width, height), outline or fill)
	if not (outline and line):
		picture.putalpha(outer)
		return picture
	inner = Image.new("L", (width, height), 0)
	inner.paste(round_mask(width - 2 * line, height - 2 * line, radius - line), (line, line))
	if fill:
		picture.paste(fill, (0, 0), inner)
	picture.putalpha(outer if fill else ImageChops.subtract(outer, inner))
	return picture


def shadowed(width: int, height: int, *box: Any) -> Image.Image:
	"""A `rounded` box over its shadow, larger on every side by its corners' radius."""
	blur, picture = box[0], rounded(width, height, *box)
	big = Image.new("RGBA", (width + 2 * blur, height + 2 * blur), (0, 0, 0, 0))
	alpha = Image.new("L", big.size, 0)
	alpha.paste(picture.getchannel("A").point(lambda value: value * 150 // 255), (blur, blur + blur // 4))
	big.putalpha(alpha.filter(ImageFilter.GaussianBlur(blur / 2.2)))
	big.alpha_composite(picture, (blur, blur))
	return big


@lru_cache(4)
def shape_lines(text: str) -> dict[str, list[list[str]]]:
	"""A table of shapes, `name: step|step`; indented lines go on with the one above."""
	entries = (line.split(": ", 1) for line in text.strip().replace("\n  ", " ").splitlines())
	return {name: [step.split() for step in steps.split("|")] for name, steps in entries}


Step = tuple[str, str, float, tuple[float, ...]]  # kind, colour, width of the line, numbers


def _arc(x0: float, y0: float, x1: float, y1: float, start: float, end: float) -> list[float]:
	points, steps = list[float](), max(8, round((end - start) / 6))
	for at in range(steps + 1):
		angle = math.radians(start + (end - start) * at / steps)
		points.append((x0 + x1 + (x1 - x0) * math.cos(angle)) / 2)
		points.append((y0 + y1 + (y1 - y0) * math.sin(angle)) / 2)
	return points


def draw_shapes(steps: Iterable[Step], field_: float, size: int) -> Image.Image:
	"""`steps` on a field of `field_` units as an RGBA picture of `size` pixels; lines have round ends."""
	unit = size * OVERSAMPLE / field_
	picture = Image.new("RGBA", (size * OVERSAMPLE,) * 2, (0, 0, 0, 0))
	draw = ImageDraw.Draw(picture)
	for kind, colour, stroke, numbers in steps:
		at, width, half = [number * unit for number in numbers], round(stroke * unit), stroke * unit / 2
		if kind == "P":
			draw.polygon(at, fill=colour)
		elif kind == "O":
			draw.ellipse(at, fill=colour)
		elif kind in "CD":
			x, y, reach = at[0], at[1], at[2] + (half if kind == "C" else 0)
			filled = {"fill": colour} if kind == "D" else {"outline": colour, "width": width}
			draw.ellipse((x - reach, y - reach, x + reach, y + reach), **filled)
		elif kind == "R":
			box = (at[0] - half, at[1] - half, at[2] + half, at[3] + half)
			draw.rounded_rectangle(box, at[4] + half, outline=colour, width=width)
		else:
			points = at if kind == "L" else _arc(*at[:4], *numbers[4:])
			draw.line(points, fill=colour, width=width)
			for x, y in zip(points[::2], points[1::2], strict=True):
				draw.ellipse((x - half, y - half, x + half, y + half), fill=colour)
	return picture.resize((size, size), Image.Resampling.LANCZOS, reducing_gap=3)


@lru_cache(256)
def draw_icon(name: str, size: int, colour: str, slash: str = "") -> Image.Image:
	"""An icon of `size` pixels; `slash` crosses it out in that colour."""
	steps = [(kind, colour, STROKE, tuple(map(float, n))) for kind, *n in shape_lines(ICONS)[name]]
	if slash:
		steps.append(("L", "#00000000", STROKE * 2.2, (4.2, 2.8, 21.4, 20.0)))
		steps.append(("L", slash, STROKE, (3.2, 3.6, 20.4, 20.8)))
	return draw_shapes(steps, 24, size)


class Fonts:
	"""Font files for what Pillow writes: the interface's, and one for each script that it lacks."""

	SCRIPTS = """
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
	PLAIN = "segoeui.ttf Inter-Medium.otf NotoSans-Medium.ttf HelveticaNeue.ttc DejaVuSans.ttf"
	BOLD = "seguisb.ttf Inter-SemiBold.otf NotoSans-Bold.ttf HelveticaNeue.ttc DejaVuSans-Bold.ttf"

	def __init__(self) -> None:
		self._files = self._find()
		self._faces = tuple(self.PLAIN.split()), tuple(self.BOLD.split())
		self._scripts = [
			(int(span[:4], 16), int(span[5:], 16), tuple(names))
			for span, *names in map(str.split, self.SCRIPTS.strip().splitlines())
		]
		self.face = cache(self._face)  # the first of some names that this computer has, at a size

	@staticmethod
	def _find() -> dict[str, Path]:
		places = [
			Path("/usr/share/fonts"), Path("/usr/local/share/fonts"), Path.home() / ".local/share/fonts",
			Path(os.environ.get("WINDIR", "C:/Windows")) / "Fonts", Path("/System/Library/Fonts"),
			Path("/Library/Fonts"),
		]  # fmt: skip
		walks = itertools.chain.from_iterable(map(os.walk, places))
		return {name: Path(at) / name for at, _, names in walks for name in names}

	def _face(self, names: tuple[str, ...], size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
		path = next((self._files[name] for name in names if name in self._files), None)
		return ImageFont.truetype(str(path), size) if path else ImageFont.load_default(size)

	def _names(self, char: str, bold: bool) -> tuple[str, ...]:
		found = (names for low, high, names in self._scripts if low <= ord(char) <= high)
		return next(found, self._faces[bold])

	def runs(self, text: str, bold: bool) -> list[tuple[str, tuple[str, ...]]]:
		"""`text` in pieces of one font each, in the order they stand from left to right."""
		found: list[tuple[str, tuple[str, ...]]] = []
		for char in re.sub(r"[\x00-\x1f\x7f-\x9f]", " ", text):  # Raqm fails at control characters
			decides = char.isalnum() or unicodedata.combining(char) or not found
			names = self._names(char, bold) if decides else found[-1][1]
			if found and found[-1][1] == names:
				found[-1] = (found[-1][0] + char, names)
			else:
				found.append((char, names))
		first = next((unicodedata.bidirectional(char) for char in text if char.isalpha()), "L")
		return found[::-1] if first in ("R", "AL") else found

	def width(self, text: str, size: int, bold: bool = False) -> int:
		return math.ceil(sum(self.face(names, size).getlength(run) for run, names in self.runs(text, bold)))

	def line(self, text: str, size: int, colour: str, room: int, bold: bool = False) -> Image.Image:
		"""A line of text as an RGBA picture, at most `room` wide, its capitals in the middle."""
		text = clipped(text, room, lambda part: self.width(part, size, bold))
		picture = Image.new("RGBA", (max(1, self.width(text, size, bold)), round(size * 1.6)), f"{colour}00")
		draw, at = ImageDraw.Draw(picture), 0.0
		for run, names in self.runs(text, bold):
			face = self.face(names, size)
			draw.text((at, picture.height // 2 + size * 0.36), run, fill=colour, font=face, anchor="ls")
			at += face.getlength(run)
		return picture


@cache
def fonts() -> Fonts:
	"""The one set of fonts that Pillow writes with."""
	return Fonts()


@lru_cache(256)
def draw_avatar(name: str, size: int) -> Image.Image:
	"""A round picture of `size` pixels with the initials of `name`."""
	pairs = AVATARS.strip().splitlines()
	dark, light = pairs[sum(ord(char) * (3 + at % 5) for at, char in enumerate(name)) % len(pairs)].split()
	ramp = Image.linear_gradient("L").resize((size, size))
	picture = ImageOps.colorize(ramp, dark, light).convert("RGBA")
	text = fonts().line(initials(name), round(size * 0.38), "#FFFFFF", size, bold=True)
	picture.alpha_composite(text, ((size - text.width) // 2, (size - text.height) // 2))
	picture.putalpha(round_mask(size, size, size // 2))
	return picture


@lru_cache(8)
def draw_logo(size: int) -> Image.Image:
	"""An open ring around a dot on a blue and violet field."""
	down = Image.linear_gradient("L").resize((size, size))
	ramp = ImageChops.add(down, down.transpose(Image.Transpose.TRANSPOSE), 2)
	picture = ImageOps.colorize(ramp, "#4F8CFF", "#6A3DE8")
	big = size * OVERSAMPLE
	sign = Image.new("L", (big, big))
	draw = ImageDraw.Draw(sign)
	draw.arc((big * 0.24, big * 0.24, big * 0.76, big * 0.76), 50, 310, fill=255, width=round(big * 0.1))
	draw.ellipse((big * 0.42, big * 0.42, big * 0.58, big * 0.58), fill=255)
	picture.paste("#FFFFFF", mask=sign.resize((size, size), Image.Resampling.LANCZOS, reducing_gap=3))
	picture.putalpha(round_mask(size, size, round(size * 0.24)))
	return picture


# Our own emoji on a field of 100 x 100: the steps of ICONS, each with its colour (see `colours`), lines with
# their width; commas part several of a kind. O filled ellipse box, H heart, F face with these parts, U parts.
FACES = """
colours: y FFC93C|r E8334A|n 5B3A12|s D9982B|g F7C52E|b 3F7BE0|k 23262B|e 38B26E|o F5A524|w FFFFFF|p
  F58AB0|a 8492A1|m F5B454|t 4FA8F5|i 4F8CFF|c F28B2A|l 3C9A4E|u 57B894|h E9A91F|v 8D5BD6|f FFCF47|x
  F4F4F4|z E6EBF0
hand: L y 13 30 24 34.2 56, 44 16 44.8 56, 58 19 55.2 56, 72 30 65.8 56, 14 52 34 72|D y 51 68 25|L s 2 37
  44 37.4 50, 51 36 50 50, 65 39 62.6 50
face: D h 50 52 45|D f 50 49 44
dots: O n 29 32 41 50, 59 32 71 50
glad: A n 6 24 34 46 56 190 350, 54 34 76 56 190 350
shut: A n 6 24 28 46 48 10 170, 54 28 76 48 10 170
wink: O n 29 32 41 50|A n 6 54 34 76 56 190 350
wide: D w 34 38 12, 66 38 12|D n 34 39 6, 66 39 6
love: D r 28 35 8, 40 35 8|P r 20 38 48 38 34 54|D r 60 35 8, 72 35 8|P r 52 38 80 38 66 54
cool: P k 12 32 88 32 84 52 58 52 52 40 48 40 42 52 16 52
up: O n 29 26 41 42, 59 26 71 42|L n 4 56 20 74 16
smile: A n 6 26 36 74 78 20 160
open: P n 22 56 78 56 74 70 62 82 50 85 38 82 26 70|O F2657A 36 72 64 90|D f 50 96 11|P w 25 56 75 56 72 63
  28 63
oh: O n 38 58 62 84
sad: A n 6 30 64 70 94 200 340
flat: L n 6 32 68 68 68
kiss: A n 5 42 58 58 69 270 450, 42 69 58 80 270 450
tongue: A n 6 26 36 74 78 20 160|O F2657A 46 70 68 94
wavy: L n 6 30 72 40 66 50 72 60 66 70 72
"""
EMOJI_SHAPES = """
👍 thumbs up: P y 30 46 48 14 60 12 62 24 57 42 86 42 92 50 84 88 36 88 30 84|D y 54 16 8, 84 50 9, 82 64 9,
  80 80 8|P b 10 44 26 44 26 88 10 88
❤ heart: H r
👏 clapping hands: L s 11 77 22 74 48, 66 15 65 48, 54 18 57 48, 43 27 48 48, 91 45 74 61|D s 60 58 20|L y 11
  19 36 22 62, 30 29 31 62, 42 32 39 62, 53 41 48 62, 5 59 22 75|D y 36 72 20|L m 4 12 10 18 20, 30 2 33 12,
  4 26 12 31
😂 tears of joy: F glad open|O t 4 46 22 70, 78 46 96 70
😮 surprised: F dots oh
🎉 party: P m 8 94 30 36 66 72|L r 4 22 62 40 82, 16 78 24 88|L i 5 42 40 46 12|L 3DDC97 5 56 52 88 22|L
  E0679B 5 64 62 94 58|D B07CE8 66 14 6|D F2555A 84 40 5|D i 62 34 5|D m 26 16 5
😢 crying: F dots sad|O t 58 54 72 78
✋ raised hand: U hand
🙂 slight smile: F dots smile
🤔 thinking: F up flat|D h 34 86 13|L h 9 36 84 58 74
🔥 fire: D F26B2A 50 62 33|P F26B2A 19 56 34 34 36 46 54 4 66 32 74 26 82 54|D y 50 74 19|P y 33 66 50 36 67
  66
👎 thumbs down: P y 30 54 48 86 60 88 62 76 57 58 86 58 92 50 84 12 36 12 30 16|D y 54 84 8, 84 50 9, 82 36
  9, 80 20 8|P b 10 12 26 12 26 56 10 56
😀 grinning: F dots open
😄 laughing: F glad open
😊 glad: F glad smile|D F7A072 20 62 8, 80 62 8
😉 winking: F wink smile
😍 heart eyes: F love open
😎 cool: F cool smile
😐 neutral: F dots flat
🙁 frowning: F dots sad
😭 loudly crying: F shut oh|L t 10 33 50 33 86, 67 50 67 86
😴 sleeping: F shut oh|L b 5 68 8 86 8 68 26 86 26
😛 tongue out: F dots tongue
😗 kissing: F dots kiss
😳 flushed: F wide flat|D F58A7A 20 62 8, 80 62 8
😱 screaming: F wide oh
😕 confused: F dots wavy
🧡 orange heart: H c
💛 yellow heart: H g
💚 green heart: H e
💙 blue heart: H b
💜 purple heart: H v
⭐ star: P g 50 5 61.8 36.8 95.7 38.2 69 59.2 78.2 91.8 50 73 21.8 91.8 31 59.2 4.3 38.2 38.2 36.8
✅ check mark: P e 10 10 90 10 90 90 10 90|L w 11 28 52 44 68 74 32
❌ cross mark: L r 15 18 18 82 82, 82 18 18 82
❓ question mark: A r 13 30 12 70 52 180 405|L r 13 64 46 50 58 50 68|D r 50 87 8
❗ exclamation mark: L r 15 50 14 50 62|D r 50 86 9
💡 light bulb: D FFD75E 50 38 31|P FFD75E 36 60 64 60 60 74 40 74|L a 6 40 80 60 80, 44 90 56 90|L C98A12 4
  42 44 50 54 58 44
🌞 sun: L o 7 84 50 95 50, 74 74 81.8 81.8, 50 84 50 95, 26 74 18.2 81.8, 16 50 5 50, 26 26 18.2 18.2, 50 16
  50 5, 74 26 81.8 18.2|D f 50 50 27
🌙 moon: P g 62 8 40 12 20 30 14 54 22 76 42 91 64 92 84 78 64 76 48 62 44 42 50 22
🌈 rainbow: A r 8 8 22 92 118 180 360|A c 8 16 30 84 110 180 360|A g 8 24 38 76 102 180 360|A e 8 32 46 68 94
  180 360|A b 8 40 54 60 86 180 360
🌳 tree: P 8A5A2B 43 60 57 60 60 94 40 94|D l 50 30 24, 30 48 20, 70 48 20
🌸 flower: D p 50 25 19, 73.8 42.3 19, 64.7 70.2 19, 35.3 70.2 19, 26.2 42.3 19|D g 50 50 12
🍎 apple: D r 35 58 27, 65 58 27, 50 68 25|L 8A5A2B 6 50 34 56 12|O l 56 10 82 26
📚 books: P r 12 70 88 70 88 90 12 90|P b 18 48 82 48 82 68 18 68|P e 10 26 78 26 78 46 10 46|L w 4 24 36 48
  36, 30 58 54 58, 26 80 52 80
✏ pencil: L m 18 28 72 76 24|P F7DDB0 12 88 20 66 34 80|P 3A3A3A 12 88 15 79 21 85|D p 78 22 10
⚽ football: D x 50 50 44|P k 50 34 66 46 60 64 40 64 34 46|L k 4 50 34 50 10, 66 46 90 40, 60 64 76 84, 40
  64 24 84, 34 46 10 40
⏰ clock: D r 50 54 38|D w 50 54 29|L k 5 50 34 50 54 64 62|D r 20 18 12, 80 18 12
🎵 music: L i 8 36 78 36 22 80 12 80 68|D i 26 78 14, 70 68 14
🎨 palette: O D9A066 6 14 94 88|D 14181F 68 66 9|D r 28 40 8|D g 48 28 8|D e 70 36 8|D b 26 62 8
🎈 balloon: O r 22 4 78 70|P r 44 68 56 68 50 76|L a 3 50 76 46 84 54 96|O F58A96 34 16 46 32
🎁 gift: P b 14 44 86 44 86 92 14 92|P 5B8DEF 8 30 92 30 92 46 8 46|P g 44 30 56 30 56 92 44 92|A g 6 26 8 50
  32 90 370, 50 8 74 32 170 450
🔑 key: A g 13 8 30 48 70 0 360|L g 12 48 50 92 50|L g 10 74 50 74 70, 90 50 90 66
🏆 trophy: A s 6 10 14 40 48 60 280, 60 14 90 48 260 480|P g 26 8 74 8 70 44 56 60 44 60 30 44|L s 8 50 58 50
  80|L s 10 32 88 68 88
🚀 rocket: P r 30 58 18 78 40 70, 58 70 76 84 70 60|O z 32 6 68 80|D b 50 36 10|P o 40 80 60 80 50 98
💯 hundred: L r 8 14 34 20 28 20 68|A r 8 32 30 54 66 0 360, 66 30 88 66 0 360|L r 6 16 84 84 78
👋 waving hand: U hand|A a 4 2 2 30 30 180 270, 70 74 98 98 0 90
👌 ok hand: L y 12 54 46 60 10, 64 48 76 16, 74 54 90 28|D y 64 68 22|A y 11 16 34 54 72 0 360
💪 strong: L y 24 24 20 28 62|D y 34 20 15, 64 62 26|L y 26 30 76 66 76
👀 eyes: O x 6 20 46 80, 54 20 94 80|D k 32 54 11, 80 54 11
☕ hot drink: P z 14 38 70 38 64 84 20 84|A z 8 58 44 90 72 270 450|L a 4 30 28 34 20 30 12, 50 28 54 20 50
  12|L C9D1DA 6 8 92 78 92
🍰 cake: P F7DDB0 10 56 90 56 90 90 10 90|P p 10 42 90 42 90 60 10 60|D r 50 32 12|L p 6 12 74 88 74
➕ plus: L e 16 50 16 50 84, 16 50 84 50
🐢 turtle: D u 84 58 12|L u 12 30 66 26 80, 64 66 68 80|L u 8 20 64 6 70|P e 18 68 22 48 34 34 48 29 62 34 74
  48 78 68|D k 88 55 3
"""


@cache
def emoji_shapes() -> dict[str, tuple[str, list[Step]]]:
	"""The name and the steps of each of our emoji."""
	parts = shape_lines(FACES)
	colours = dict(parts["colours"])

	def drawn(steps: list[list[str]]) -> Iterator[Step]:
		for kind, *words in steps:
			if kind in "FU":
				for part in ["face", *words] if kind == "F" else words:
					yield from drawn(parts[part])
				continue
			colour, *numbers = words
			stroke = 0.0 if kind in "DOP" else float(numbers.pop(0))
			for one in " ".join(numbers).split(","):
				yield kind, "#" + colours.get(colour, colour), stroke, tuple(map(float, one.split()))

	shapes = re.sub("H (.)", r"D \1 30 34 23, 70 34 23|P \1 9 44 50 24 91 44 50 92", EMOJI_SHAPES)
	return {head[0]: (head[2:], [*drawn(steps)]) for head, steps in shape_lines(shapes).items()}


REACTIONS = ("👍", "❤", "👏", "😂", "😮", "🎉", "😢", "🙂", "🤔", "🔥", "👎", "👋")
EMOJI_PATTERN = re.compile(
	"(?:[\U0001f1e6-\U0001f1ff]{2}|[0-9#*]\ufe0f?\u20e3|"
	"[\u231a-\u23ff\u25fd\u25fe\u2600-\u2712\u2714-\u2716\u2718-\u27bf\u2b05-\u2b55\U0001f000-\U0001faff]"
	"[\ufe0f\U0001f3fb-\U0001f3ff\U000e0020-\U000e007f]*"
	"(?:\u200d[\u2600-\u27bf\U0001f000-\U0001faff][\ufe0f\U0001f3fb-\U0001f3ff]*)*)"
)


def emoji_key(found: str) -> str:
	"""The emoji of ours for any variant (skin tone, presentation) of it, or ""."""
	return found[:1] if found[:1] in emoji_shapes() else ""


def plain(text: str) -> str:
	"""`text` safe for Tk: emoji as :their_name:, nothing that a font or an X client chokes on."""

	def name(found: re.Match[str]) -> str:
		key = emoji_key(found[0])
		spoken = emoji_shapes()[key][0] if key else unicodedata.name(found[0][0], "emoji").lower()
		return ":" + spoken.replace(" ", "_") + ":"

	text = EMOJI_PATTERN.sub(name, text)
	return re.sub("[\ufe0f\u200d\u20e3\U0001f000-\U0001ffff\U000e0000-\U0010ffff]", "", text)


@lru_cache(256)
def draw_emoji(char: str, size: int) -> Image.Image:
	"""One of our emoji as an RGBA picture of `size` pixels."""
	return draw_shapes(emoji_shapes()[char][1], 100, size)


@frozen
class TileLook:
	"""What stands on a tile; `poor` is the network mark, `name` is for the avatar."""

	name: str = ""
	label: str = ""
	muted: bool = False
	speaking: bool = False
	hand: int = 0  # its place in the queue of raised hands, from 1 on
	star: bool = False  # shown large to everyone
	badge: str = ""
	poor: bool = False
	mirror: bool = False
	fit: bool = False
	dim: bool = False
	chosen: bool = False
	note: str = ""
	view: tuple[float, float, float] = (0.0, 0.5, 0.5)  # zoom (0 = fit) and middle, for a screen


class TileLine(NamedTuple):
	"""A line on a tile, in real pixels from its left end and its middle on."""

	x: int
	y: int
	width: int
	text: str
	size: float  # logical pixels
	bold: bool


@frozen
class TileJob:
	"""A tile to paint, in real pixels."""

	size: tuple[int, int]
	look: TileLook
	palette: Palette
	scale: float
	lines: Mapping[str, TileLine] = field(default_factory=dict)  # its label, badge, hand and note


def _placed(picture: Picture, job: TileJob) -> Picture:
	zoom, x, y = job.look.view
	high, wide = picture.shape[:2]
	width, height = job.size
	scales = width / wide, height / high
	zoom = max(zoom, min(scales)) if job.look.fit else max(scales)
	part = max(1, min(wide, round(width / zoom))), max(1, min(high, round(height / zoom)))
	left = round(max(0.0, min(wide - part[0], x * wide - part[0] / 2)))
	top = round(max(0.0, min(high - part[1], y * high - part[1] / 2)))
	size = max(1, min(width, round(wide * zoom))), max(1, min(height, round(high * zoom)))
	shown = resampled(picture[top : top + part[1], left : left + part[0]], size)
	if size == job.size:
		return shown
	tile = np.empty((height, width, 3), np.uint8)
	tile[:] = tuple(bytes.fromhex(job.palette.window[1:]))[::-1]
	at = (width - size[0]) // 2, (height - size[1]) // 2
	tile[at[1] : at[1] + size[1], at[0] : at[0] + size[0]] = shown
	return tile


def paint_tile(job: TileJob, picture: Picture | None, marks: TileMarks) -> Image.Image:
	"""The tile as RGB: a picture (BGR, any size) or the avatar, its corners in the window's colour."""
	wide, tall = job.size
	if picture is None:
		tile = Image.new("RGB", job.size, job.palette.tile)
		disc = draw_avatar(job.look.name or "?", max(24, round(min(wide * 0.5, tall * 0.42))))
		over = round(10 * job.scale) if job.look.label and tall < 150 * job.scale else 0
		tile.paste(disc, ((wide - disc.width) // 2, (tall - disc.height) // 2 - over), disc)
	else:
		pixels = _placed(picture, job)
		pixels = pixels[:, ::-1] if job.look.mirror else pixels
		pixels = pixels // 3 if job.look.dim else pixels
		tile = Image.frombuffer("RGB", job.size, np.ascontiguousarray(pixels), "raw", "BGR", 0, 1)
	for x, y, patch in marks:
		tile.paste(patch, (x, y), patch)
	return tile


TileMarks: TypeAlias = "list[tuple[int, int, Image.Image]]"


def _pill(over: Image.Image, job: TileJob, px: Metrics, name: TileLine) -> None:
	look, badge, high = job.look, job.lines.get("badge"), px(28)
	x, y, last = name.x - px(30), name.y - high // 2, badge or name
	pill = rounded(last.x + last.width + px(10) - x, high, px(8), "#0D1116")
	pill.putalpha(pill.getchannel("A").point(lambda value: value * 205 // 255))
	over.alpha_composite(pill, (x, y))
	sound = "bars #3DDC97" if look.speaking else "mic #FF6B70 #FF6B70" if look.muted else "mic #FFFFFF"
	kind = ("share #FFFFFF" if look.fit else "star #F5B454" if look.star else sound).split()
	icon = draw_icon(kind[0], px(16), *kind[1:])
	over.alpha_composite(icon, (x + px(8), y + (high - icon.height) // 2))
	if badge:
		back = rounded(badge.width + px(12), px(18), px(4), "#356BDD")
		over.alpha_composite(back, (badge.x - px(6), y + px(5)))


def _hand(over: Image.Image, px: Metrics, number: TileLine) -> None:
	x, y = number.x - px(27), number.y - px(14)
	over.alpha_composite(rounded(px(46), px(28), px(8), "#14181F", "#F5B454", px(2)), (x, y))
	over.alpha_composite(draw_emoji("✋", px(18)), (x + px(6), y + px(5)))


def _poor(over: Image.Image, px: Metrics, warn: str) -> None:
	x, y = over.width - px(44), px(10)
	over.alpha_composite(rounded(px(34), px(30), px(8), "#0D1116"), (x, y))
	draw = ImageDraw.Draw(over)
	for at, high, colour in ((8, 6, warn), (15, 11, "#5A6673"), (22, 16, "#5A6673")):
		left = x + px(at)
		draw.rectangle((left, y + px(23 - high), left + px(4), y + px(23)), fill=colour)


def _frame(over: Image.Image, job: TileJob, px: Metrics) -> None:
	look, p = job.look, job.palette
	corners = Image.new("RGBA", over.size, p.window)
	corners.putalpha(ImageChops.invert(round_mask(*job.size, px(12))))
	over.alpha_composite(corners)
	ring = p.focus if look.chosen else p.good if look.speaking else ""
	if ring:
		inner = rounded(over.width - 2 * px(3), over.height - 2 * px(3), px(10), "", p.window, px(2))
		over.alpha_composite(inner, (px(3), px(3)))
		over.alpha_composite(rounded(*job.size, px(12), "", ring, px(3)))


def _patches(over: Image.Image, px: Metrics) -> TileMarks:
	wide, tall, top, foot, side = *over.size, px(46), px(66), px(14)
	if tall < top + foot + 8:
		return [(0, 0, over)]
	low, right = tall - foot, wide - side
	boxes = [(0, 0, wide, top), (0, low, wide, tall), (0, top, side, low), (right, top, wide, low)]
	if middle := over.crop((side, top, right, low)).getchannel("A").getbbox():
		boxes.append((middle[0] + side, middle[1] + top, middle[2] + side, middle[3] + top))
	return [(box[0], box[1], over.crop(box)) for box in boxes]


def tile_marks(job: TileJob, live: bool) -> TileMarks:
	"""Corners, ring, network mark and the plates of what Tk writes, as small patches over a tile."""
	look, px, (wide, tall) = job.look, Metrics(job.scale), job.size
	over = Image.new("RGBA", job.size, (0, 0, 0, 0))
	if tall > px(110) and live and not look.fit:
		shade = np.zeros((px(64), wide, 4), np.uint8)
		shade[..., 3] = np.linspace(0, 110, px(64)).astype(np.uint8)[:, None]
		over.alpha_composite(Image.fromarray(shade, "RGBA"), (0, tall - px(64)))
	for kind, line in job.lines.items():
		if kind == "label":
			_pill(over, job, px, line)
		elif kind == "hand":
			_hand(over, px, line)
		elif kind == "note":
			box = rounded(line.width + px(28), px(34), px(9), "#10141A")
			over.alpha_composite(box, (line.x - px(14), line.y - px(17)))
	for line in job.lines.values():
		if shaped(line.text):
			words = fonts().line(line.text, px(line.size), "#FFFFFF", line.width, line.bold)
			over.alpha_composite(words, (line.x, line.y - words.height // 2))
	if look.poor:
		_poor(over, px, job.palette.warn)
	_frame(over, job, px)
	return _patches(over, px)


# ====
# [28] WIDGETS - small controls, lists, dialogs, painted tiles
# Uses: BASICS, TEXTS, DRAWING
#
# Promises: every control draws itself from one palette and one scale and reports by calling back; pictures
# are composed off the Tk thread. Leaves out: what a meeting is.

Anchor = Literal["nw", "w", "center", "e", "ne", "n"]
AnyWidget = TypeVar("AnyWidget", bound="tk.Misc")
Event: TypeAlias = "tk.Event[Any]"
Run = Callable[[str], object]  # does what has that name, or takes it
Entry = tuple[Any, ...] | None  # of a menu: words, what it does, icon, tooltip, keys; None is a line
ARROWS = (("<Left>", -1), ("<Up>", -1), ("<Right>", 1), ("<Down>", 1))
FILL: Json = {"fill": "both", "expand": True}  # all the room there is
KEYBOARD = "Keyboard"  # the tag by which `Keys` hears each key before the control that has the focus


def keyed(widget: AnyWidget) -> AnyWidget:
	"""`widget`, its keys heard by `Keys` first."""
	widget.bindtags((KEYBOARD, *widget.bindtags()))
	return widget


class Look:
	"""What every control draws with: palette, scale, fonts and pictures; makes the Tk objects."""

	FAMILIES = ("Segoe UI Variable Text", "Segoe UI", "Inter", "SF Pro Text", "Noto Sans", "DejaVu Sans")
	PIXELS = 2_000_000  # of pictures that are kept although nobody shows them

	def __init__(self, root: tk.Tk, painter: TilePainter, palette: Palette, scale: float):
		self.root, self.painter = root, painter
		self.layers: list[Act] = []  # what closes each dialog or picker that stands
		root.event_add("<<Return>>", "<Return>", "<KP_Enter>")  # a keyboard has two such keys
		root.event_add("<<Press>>", "<Return>", "<KP_Enter>", "<space>")
		if sys.platform == "darwin":  # by one button
			root.event_add("<<ContextMenu>>", "<Control-Button-1>")
		self.palette = palette
		self.px = Metrics(scale)
		installed = set(tkfont.families(root))
		self.family = next((name for name in self.FAMILIES if name in installed), "TkDefaultFont")
		self._menu: tk.Menu | None = None
		self._grip: ImageTk.PhotoImage | None = None
		self._fonts: dict[tuple[float, bool], tkfont.Font] = {}
		self._keeper = keyed(tk.Canvas(root))  # a font that nothing shows is opened anew at each measuring
		self._photos: OrderedDict[tuple[Any, ...], ImageTk.PhotoImage] = OrderedDict()
		self._pixels = 0

	def font(self, size: float = 13, bold: bool = False) -> tkfont.Font:
		"""The interface's font at `size` logical pixels."""
		if (size, bold) not in self._fonts:
			weight: Literal["bold", "normal"] = "bold" if bold else "normal"
			made = tkfont.Font(self.root, family=self.family, size=-self.px(size), weight=weight)
			made.delete_font = False  # `forget` does it in the Tk thread, not the collector in any
			self._fonts[size, bold] = made
			self._keeper.create_text(0, 0, font=made)
		return self._fonts[size, bold]

	def frame(self, parent: tk.Misc, colour: str = "") -> tk.Frame:
		"""A plain area, of its parent's colour or this one."""
		return keyed(tk.Frame(parent, bg=colour or str(parent["bg"]), highlightthickness=0))

	def layer(self, frame: tk.Misc, close: Act) -> None:
		"""Escape calls `close` while no newer layer stands over `frame`."""
		self.layers.append(close)
		frame.bind("<Destroy>", lambda _: self.layers.remove(close), add="+")

	def label(
		self, parent: tk.Misc, text: str, size: int = 13, bold: bool = False, colour: str = "", width: int = 0
	) -> tk.Label:
		"""A line of text on its parent's colour, wrapped at `width` real pixels."""
		label = tk.Label(
			parent, font=self.font(size, bold), fg=colour or self.palette.text, bg=str(parent["bg"]),
			bd=0, padx=0, pady=0, anchor="w", justify="left", wraplength=width or PAINTED_MAX,
		)  # fmt: skip
		self.say(label, text)
		return label

	def photo(self, draw: Callable[..., Image.Image], *values: Any) -> ImageTk.PhotoImage:
		"""What `draw` makes of `values`, drawn once; who shows it keeps it alive."""
		if (found := self._photos.pop((draw, values), None)) is None:
			found = ImageTk.PhotoImage(draw(*values), master=self.root)
			self._pixels += found.width() * found.height()
		self._photos[draw, values] = found
		while self._pixels > self.PIXELS:
			_, old = self._photos.popitem(last=False)
			self._pixels -= old.width() * old.height()
		return found

	def forget(self) -> None:
		"""Let pictures and fonts go in the Tk thread: they call Tk when they end."""
		self._photos.clear()
		self._grip = None
		self._keeper.destroy()
		for font in self._fonts.values():
			self.root.tk.call("font", "delete", font.name)
		self._fonts.clear()

	def icon(self, name: str, size: float = 20, colour: str = "", slash: str = "") -> ImageTk.PhotoImage:
		return self.photo(draw_icon, name, self.px(size), colour or self.palette.text, slash)

	def box(
		self, width: int, height: int, radius: float, fill: str, outline: str = "", line: float = 1,
		draw: Callable[..., Image.Image] = rounded,
	) -> ImageTk.PhotoImage:  # fmt: skip
		"""A box with round corners; width and height in real pixels."""
		thick = self.px(line) if outline else 0
		return self.photo(draw, width, height, self.px(radius), fill, outline, thick)

	def avatar(self, name: str, size: float) -> ImageTk.PhotoImage:
		return self.photo(draw_avatar, name, self.px(size))

	def emoji(self, char: str, size: float) -> ImageTk.PhotoImage:
		return self.photo(draw_emoji, char, self.px(size))

	def written(
		self, text: str, size: float, colour: str, room: int, bold: bool = False
	) -> ImageTk.PhotoImage:
		return self.photo(fonts().line, text, self.px(size), colour, room, bold)

	def clip(self, text: str, font: tkfont.Font, room: int) -> str:
		return clipped(text, room, font.measure)

	def line(self, x: int, y: int, text: str, size: float, room: int, bold: bool = False) -> TileLine:
		"""What stands there of `text`."""
		measure = self.measure(text, size, bold)
		text = clipped(plain(text), room, measure)
		return TileLine(x, y, measure(text), text, size, bold)

	def measure(self, text: str, size: float, bold: bool = False) -> Callable[[str], int]:
		"""Measures parts of `text` as who will write it does."""
		if shaped(text):
			return lambda part: fonts().width(part, self.px(size), bold)
		return self.font(size, bold).measure

	def write(
		self, canvas: tk.Canvas, x: float, y: float, text: str, font: tkfont.Font, colour: str,
		anchor: Anchor, room: int = PAINTED_MAX, tags: tuple[str, ...] = (),
	) -> int:  # fmt: skip
		"""Write one line on a canvas; all that Tk writes there comes through here."""
		shown = self.clip(text, font, room)
		return canvas.create_text(x, y, text=shown, font=font, fill=colour, anchor=anchor, tags=tags)

	def scrollbar(self, parent: tk.Misc, command: Callable[..., None]) -> ttk.Scrollbar:
		"""A slim upright bar, which shows nothing but its grip."""
		style, back = ttk.Style(self.root), str(parent["bg"])
		if self._grip is None:
			self._grip = self.box(self.px(5), self.px(28), 2, self.palette.line)
			style.element_create(f"{self._grip}.thumb", "image", self._grip, border=self.px(2))
		name = f"{back}.{self._grip}.TScrollbar"
		style.layout(name, [(f"{self._grip}.thumb", {"sticky": "nswe"})])
		style.configure(name, background=back)
		return keyed(ttk.Scrollbar(parent, command=command, style=name, takefocus=False))

	def say(self, label: tk.Label, words: str) -> None:
		"""Let a label say `words`, or as much of them as a dialog has room for."""
		label.configure(text="\n".join(plain(words)[:600].split("\n")[:20]))

	def menu(self, parent: tk.Misc, entries: Sequence[Entry]) -> tk.Menu:
		"""A menu in the palette's colours, in place of the one before; None is a separator."""
		p = self.palette
		if self._menu:
			self._menu.destroy()
		self._menu = menu = keyed(tk.Menu(
			parent, tearoff=False, bg=p.card, fg=p.text, activebackground=p.accent, bd=0, relief="flat",
			activeforeground=p.on_accent, activeborderwidth=0, font=self.font(13),
		))  # fmt: skip
		for entry in entries:
			if entry is None:
				menu.add_separator()
			else:
				words = self.clip(plain(entry[0]), self.font(13), self.px(480))
				menu.add_command(label=f"  {words}  ", command=entry[1])
		return menu


def has_focus(widget: tk.Misc) -> bool:
	"""Whether this very control has the keyboard."""
	return focused(widget) is widget


def is_over(event: Event) -> bool:
	"""Whether the mouse is over the control of its event."""
	control = event.widget
	return bool(0 <= event.x < control.winfo_width() and 0 <= event.y < control.winfo_height())


def focused(root: tk.Misc) -> tk.Misc | None:
	"""Who has the keyboard; None for Tk's file dialog, which tkinter does not know."""
	with suppress(KeyError):
		return root.focus_get()
	return None


def tags(name: str) -> tuple[str, str]:
	"""The tags of an item called "toast:3": its name, and its group's, "toast"."""
	return name, name.partition(":")[0]


class Painted:
	"""A canvas of real pixels without borders, which keeps alive the pictures that it shows."""

	eager = False  # painted out of sight, too: its size comes of it
	_late = True  # to be painted when in sight

	def __init__(
		self, look: Look, parent: tk.Misc, width: int, height: int, colour: str = "", focus: bool = False
	):
		self.look, self.px, self.palette = look, look.px, look.palette
		canvas = self.canvas = keyed(tk.Canvas(
			parent, width=min(width, PAINTED_MAX), height=min(height, PAINTED_MAX), highlightthickness=0,
			bd=0, bg=colour or str(parent["bg"]), takefocus=focus,
		))  # fmt: skip
		self.bind, self.configure, self.grid = canvas.bind, canvas.configure, canvas.grid
		self.focus_set = canvas.focus_set
		self.actions: dict[str, Act] = {}  # by the name of the item that offers it
		self.chosen_action = ""  # the one that the keyboard works on
		self._pressed = ""
		self._kept: list[tuple[str, ImageTk.PhotoImage]] = []
		self.bind("<Destroy>", lambda _: self._kept.clear())
		self.bind("<Button-1>", lambda at: setattr(self, "_pressed", self.under(at)))
		self.bind("<ButtonRelease-1>", self._let_go)
		self.bind("<Motion>", lambda at: self.configure(cursor="hand2" if self.under(at) else ""))
		for event in ("<FocusIn>", "<FocusOut>", "<Configure>"):
			self.bind(event, lambda _: self.refresh())
		self.bind("<Expose>", lambda _: self.refresh() if self._late else None)

	def refresh(self) -> None:
		"""Paint it anew: its size, its look or the keyboard have changed."""
		self._late = not (self.eager or self.canvas.winfo_viewable())
		if not self._late:
			self.paint()

	def paint(self) -> None:
		"""Draw what it shows, if it does so itself."""

	@property
	def ring(self) -> str:
		return self.palette.focus if has_focus(self.canvas) else ""

	@property
	def extent(self) -> tuple[int, int]:
		"""The real width and height that it has now, or asks for while it is not on the screen."""
		canvas = self.canvas
		if canvas.winfo_width() > 1:
			return canvas.winfo_width(), canvas.winfo_height()
		return int(canvas["width"]), int(canvas["height"])

	def pack(self, **options: Any) -> Self:
		"""As a widget's own, and returns this."""
		self.canvas.pack(**options)
		return self

	def wipe(self, name: str = "all") -> None:
		"""Remove what is called so, or belongs to that group."""
		self.canvas.delete(name)
		self._kept = [one for one in self._kept if name not in ("all", *tags(one[0]))]
		self.actions = {one: do for one, do in self.actions.items() if name not in ("all", *tags(one))}

	def image(self, x: int, y: int, photo: ImageTk.PhotoImage, anchor: Anchor = "nw", name: str = "") -> int:
		"""Show a picture."""
		self._kept.append((name, photo))
		return self.canvas.create_image(x, y, image=photo, anchor=anchor, tags=tags(name))

	def box(self, x: int, y: int, *shape: Any, anchor: Anchor = "nw", name: str = "") -> None:
		"""Show a box, as `Look.box` draws it."""
		self.image(x, y, self.look.box(*shape), anchor, name)

	def icon(self, x: int, y: int, *icon: Any, anchor: Anchor = "center", name: str = "") -> None:
		"""Show an icon, as `Look.icon` draws it."""
		self.image(x, y, self.look.icon(*icon), anchor, name)

	def text(
		self, x: int, y: int, text: str, size: float = 13, bold: bool = False, colour: str = "",
		room: int = PAINTED_MAX, anchor: Anchor = "w", name: str = "",
	) -> int:  # fmt: skip
		"""Write one line, shortened to `room` real pixels; scripts that Tk cannot shape become pictures."""
		look, colour, text = self.look, colour or self.palette.text, plain(text)
		if shaped(text) and len(text) > 1:
			return self.image(x, y, look.written(text, size, colour, room, bold), anchor, name)
		return look.write(self.canvas, x, y, text, look.font(size, bold), colour, anchor, room, tags(name))

	def spot(self, name: str, box: Box, command: Act) -> None:
		"""Call `command` when `box` is clicked; the mouse is a hand there."""
		x, y, wide, tall = box
		self.canvas.create_rectangle(x, y, x + wide, y + tall, width=0, outline="", tags=tags(name))
		self.actions[name] = command

	def walkable(self, columns: int = 1) -> None:
		"""Let arrows walk through what is offered, in the order it was drawn in, and Return press the one."""
		for key, by in ARROWS:
			self.bind(key, partial(self._walk, by * columns if key in ("<Up>", "<Down>") else by))
		self.bind("<<Press>>", lambda _: self.actions.get(self.chosen_action, lambda: None)())

	def _walk(self, by: int, _: object) -> None:
		names = list(self.actions)
		at = names.index(self.chosen_action) + by if self.chosen_action in names else 0
		if 0 <= at < len(names):
			self.chosen_action = names[at]
		self.paint()

	def under(self, event: Event) -> str:
		"""The name of the topmost item under the mouse that offers something, or ""."""
		items = reversed(self.canvas.find_overlapping(event.x, event.y, event.x, event.y))
		names = (name for item in items for name in self.canvas.gettags(item))
		return next((name for name in names if name in self.actions), "")

	def _let_go(self, event: Event) -> None:
		name = self.under(event)
		if name and name == self._pressed:
			self.actions[name]()


def place_beside(look: Look, widget: tk.Misc, what: tk.Widget, width: int, height: int, *box: int) -> None:
	"""Put `what`, of that real size, at the right of a control of the left bar, else below or above it."""
	root, gap = look.root, look.px(6)
	x, y, wide, tall = box or (0, 0, widget.winfo_width(), widget.winfo_height())
	x, y = x + widget.winfo_rootx() - root.winfo_rootx(), y + widget.winfo_rooty() - root.winfo_rooty()
	if x < wide // 2:
		x, y = x + wide + gap, y + (tall - height) // 2
	else:
		x, below = x + (wide - width) // 2, y + tall + gap
		y = below if below + height < root.winfo_height() else y - height - gap
	x, y = min(x, root.winfo_width() - width - gap), min(y, root.winfo_height() - height - gap)
	what.place(x=max(0, x), y=max(0, y))


class Tooltip:
	"""Words and key of a control, or a box of it, on which the mouse rests for half a second."""

	box: tuple[int, ...] = ()

	def __init__(self, look: Look, widget: tk.Widget, words: str, key: str = ""):
		self.look, self.widget, self.words, self.key = look, widget, words, key
		self._due = ""
		self._pressed = False  # since the mouse came; what opened then is not to be covered
		self._shown: Painted | None = None
		widget.bind("<Enter>", self._enter, add="+")
		widget.bind("<Leave>", self._leave, add="+")
		widget.bind("<Button-1>", self._press, add="+")  # not ButtonPress, before which this goes
		widget.bind("<Destroy>", self._hide, add="+")

	def aim(self, words: str, key: str = "", *box: int) -> None:
		"""Be about another box."""
		if (words, key) != (self.words, self.key):
			self._hide()
			self.words, self.key, self.box, self._pressed = words, key, box, False
			self._enter()

	def _enter(self, _: object = None) -> None:
		if self.words and not self._pressed:
			self._due = self._due or self.widget.after(500, self._show)

	def _press(self, _: object) -> None:
		self._pressed = True
		self._hide()

	def _leave(self, event: Event) -> None:
		self._pressed = self._pressed and is_over(event)
		self._hide()

	def _hide(self, _: object = None) -> None:
		if self._due:
			self.widget.after_cancel(self._due)
			self._due = ""
		if self._shown:
			self._shown.canvas.destroy()
			self._shown = None

	def _show(self) -> None:
		self._due = ""
		look, px, middle = self.look, self.look.px, self.look.px(16)
		p = look.palette  # the other way round: seen against everything
		tip = self._shown = Painted(look, look.root, 1, 2 * middle, p.text)
		font = look.font(12, bold=True)
		words = look.clip(tr(self.words), font, look.root.winfo_width() // 2)
		tip.text(px(10), middle, words, 12, bold=True, colour=p.panel)
		x = px(20) + font.measure(words)
		if key := tr(self.key):
			room = look.font(11).measure(key) + px(14)
			tip.box(x - px(2), px(6), room, px(20), 5, p.second)
			tip.text(x - px(2) + room // 2, middle, key, 11, colour=p.panel, anchor="center")
			x += px(8) + room
		tip.configure(width=x)
		place_beside(look, self.widget, tip.canvas, x, 2 * middle, *self.box)


class Card(Painted):
	"""An area with round corners; what it holds is packed into its canvas."""

	def __init__(self, look: Look, parent: tk.Misc, radius: float = 12, outline: str = ""):
		super().__init__(look, parent, 10, 10, look.palette.card)
		self.radius, self.outline, self.back = radius, outline, str(parent["bg"])

	def paint(self) -> None:
		width, height = self.extent
		self.wipe()
		self.canvas.create_rectangle(-1, -1, width, height, fill=self.back, width=0)
		self.box(0, 0, width, height, self.radius, self.palette.card, self.outline)


class Button(Painted):
	"""A button: text, icon or both; mouse, Return and Space press it."""

	enabled = True
	hot = down = slash = False
	left = False  # words at the left edge instead of the middle

	def __init__(
		self, look: Look, parent: tk.Misc, command: Act, text: str = "", icon: str = "",
		kind: str = "plain", width: int = 0, height: float = 40, tip: str = "", key: str = "",
		size: float = 13,
	):  # fmt: skip
		self.words, self.icon_name, self.kind, self.text_size = text, icon, kind, size
		self.command = command
		edges = look.px(8 if kind == "link" else 28)
		need = edges + look.font(size, bold=True).measure(text) + (look.px(24) if icon else 0)
		width = width or (need if text else look.px(height))
		super().__init__(look, parent, width, look.px(height), focus=True)
		self.bind("<Enter>", lambda _: self.show(hot=True))
		self.bind("<Leave>", lambda _: self.show(hot=False, down=False))
		self.bind("<Button-1>", lambda _: self.show(down=self.enabled))
		self.bind("<ButtonRelease-1>", self._released)
		self.bind("<<Press>>", lambda _: self.press())
		self.tip = Tooltip(look, self.canvas, tip, key)

	def _released(self, event: Event) -> None:
		pressed = self.down and is_over(event)
		self.show(down=False)
		if pressed:
			self.press()

	def press(self) -> None:
		"""Do what the button does."""
		if self.enabled:
			self.command()

	def show(self, **looks: Any) -> None:
		"""Give it these attributes; drawn only when one of them changes."""
		if any(value != getattr(self, name) for name, value in looks.items()):
			vars(self).update(looks)
			self.refresh()

	def colours(self) -> tuple[str, str, str]:
		"""Fill, fill under the mouse, and text."""
		p, back = self.palette, str(self.canvas["bg"])
		return {
			"plain": (p.raised, p.chosen, p.text),
			"card": (p.card, p.raised, p.text),
			"primary": (p.accent, p.accent_high, p.on_accent),
			"danger": (p.bad, p.bad, p.on_accent),
			"ghost": (back, p.raised, p.second),
			"link": (back, back, p.link),
			"warn": (p.raised, p.line, p.bad),
			"live": (p.good, p.good, p.window),
		}[self.kind]

	def paint(self) -> None:
		self.wipe()
		wide, tall = self.extent
		p = self.palette
		fill, high, colour = self.colours() if self.enabled else (p.raised, p.raised, p.third)
		self.box(0, 0, wide, tall, 10, self.shade(fill, high), self.edge(fill, colour), 1 + bool(self.ring))
		self._content(wide, tall, colour)

	def shade(self, fill: str, high: str) -> str:
		"""As the mouse has it: a quarter darker if held."""
		if self.down:
			return f"#{(int(high[1:], 16) & 0xFCFCFC) * 3 >> 2:06X}"
		return high if self.hot else fill

	def edge(self, fill: str, colour: str) -> str:
		"""The ring of who has the keyboard, as it is seen on `fill`."""
		p = self.palette
		return self.ring and (colour if fill in (p.accent, p.bad, p.good) else p.focus)

	def _content(self, width: int, height: int, colour: str) -> None:
		look, bold = self.look, self.kind in ("primary", "danger", "link", "plain")
		room = look.font(self.text_size, bold).measure(self.words) if self.words else 0
		icon = look.px(20) if self.icon_name else 0
		gap = look.px(6) if room and icon else 0
		x = look.px(12) if self.left else max(look.px(4), (width - room - icon - gap) // 2)
		if icon:
			slash = look.palette.bad if self.slash else ""
			self.icon(x, height // 2, self.icon_name, 20, colour, slash, anchor="w")
		if room:
			at = x + icon + gap
			self.text(at, height // 2, self.words, self.text_size, bold, colour, width - at)


class BarButton(Button):
	"""A button of the left bar: an icon in a box, words below where there is room, a dot or number of news.

	A `wordy` one has words in its box where there is no room below.
	"""

	tall = 70  # logical pixels; words below only where it has all of them
	unread = 0  # news: True for a dot, else how many
	wordy = False
	locked = ""  # why it may not be used

	def paint(self) -> None:
		self.wipe()
		look, p = self.look, self.palette
		fill, high, colour = self.colours()
		wide, tall, middle = look.px(52), look.px(min(44, self.tall - 4)), look.px(41)
		x, y, cut = middle - wide // 2, look.px(2), look.px(3)
		self.box(x, y, wide, tall, 12, self.shade(fill, high))
		if ring := self.edge(fill, colour):  # at the rim a dark one is not seen
			self.box(x + cut, y + cut, wide - 2 * cut, tall - 2 * cut, 9, "", ring, 2)
		if self.wordy and self.tall < 70:
			self.text(middle, look.px(2) + tall // 2, self.words, 12, True, colour, wide, "center")
		else:
			colour, slash = p.third if self.locked else colour, p.bad if self.slash else ""
			self.icon(middle, look.px(2) + tall // 2, self.icon_name, 21, colour, slash)
		if self.locked:
			self.icon(middle + look.px(10), tall - look.px(14), "lock", 15, p.warn, anchor="nw")
		if self.unread is True:
			self.box(middle + look.px(14), look.px(6), look.px(12), look.px(12), 6, p.bad, p.panel, 2)
		elif self.unread:
			self.box(middle + look.px(8), look.px(3), look.px(20), look.px(18), 9, p.warn)
			at = middle + look.px(18), look.px(12)
			self.text(*at, str(self.unread), 11, True, p.window, look.px(18), "center")
		if self.tall == 70:
			tone = p.bad_text if self.kind == "danger" else p.second
			self.text(middle, look.px(57), self.words, 11, False, tone, look.px(80), "center")


class Field(Painted):
	"""A text field in a round box; `hint` stands in it while it is empty."""

	eager = True

	def __init__(
		self, look: Look, parent: tk.Misc, text: str = "", hint: str = "", height: float = 44,
		enter: Act | None = None,
	):  # fmt: skip
		super().__init__(look, parent, look.px(60), look.px(height))  # it fills what there is
		p = look.palette
		self.hint = hint
		self.entry = keyed(tk.Entry(
			self.canvas, bg=p.card, fg=p.text, insertbackground=p.focus, selectbackground=p.accent, bd=0,
			selectforeground=p.on_accent, highlightthickness=0, font=look.font(14), relief="flat", width=4,
		))  # fmt: skip
		self.focus_set = self.entry.focus_set
		self.entry.insert(0, text)
		self._hint = look.label(self.canvas, hint, 14, colour=p.third)
		self._hint.configure(bg=p.card)
		self._hint.bind("<Button-1>", lambda _: self.focus_set())
		for event in ("<FocusIn>", "<FocusOut>", "<KeyRelease>"):
			self.entry.bind(event, lambda _: self.paint())
		self.entry.bind("<Key>", lambda _: self._hint.place_forget())  # the letter is under it
		if enter:
			self.entry.bind("<<Return>>", lambda _: enter())
		self.bind("<Button-1>", lambda _: self.focus_set())

	@property
	def value(self) -> str:
		return self.entry.get().strip()

	def paint(self) -> None:
		(width, height), px = self.extent, self.px
		if width < px(40):
			return
		self.wipe()
		p, focused = self.palette, has_focus(self.entry)
		self.box(0, 0, width, height, 11, p.card, p.focus if focused else p.line, 2 if focused else 1)
		self.entry.place(x=px(16), y=height // 2, anchor="w", width=width - px(32))
		if self.hint and not self.entry.get():
			self._hint.place(x=px(18), y=height // 2, anchor="w")  # behind the caret
			self._hint.lift()
		else:
			self._hint.place_forget()


class PinBoxes(Painted):
	"""A box for each character of a PIN, six at least."""

	BOXES = (6, 12)  # at least, and at most: of a longer PIN the end is shown

	def __init__(self, look: Look, parent: tk.Misc, enter: Act):
		super().__init__(look, parent, look.px(200), look.px(54), focus=True)  # it fills what there is
		self._typed = ""
		self.bind("<Key>", self._key)
		self.bind("<<Return>>", lambda _: enter())
		self.bind("<<Paste>>", self._paste)
		self.bind("<Button-1>", lambda _: self.focus_set())

	@property
	def value(self) -> str:
		return clean_pin(self._typed)

	def _key(self, event: Event) -> None:
		self.set(self._typed[:-1] if event.keysym == "BackSpace" else self._typed + event.char)

	def _paste(self, _: object) -> None:
		with suppress(tk.TclError):  # there is no text
			self.set(self.canvas.clipboard_get())

	def set(self, value: str) -> None:
		"""Put `value` into the boxes."""
		self._typed = "".join(char for char in value if char.isprintable())[:MAX_PIN]
		self.refresh()

	def paint(self) -> None:
		"""Draw the boxes; the next one to fill is ringed while the field has the focus."""
		self.wipe()
		p, px = self.palette, self.px
		width, height = self.extent[0], px(54)
		least, most = self.BOXES
		shown = self._typed[-most:]
		boxes = max(least, len(shown))
		gap, size = (px(8), 21) if boxes <= 8 else (px(4), 14)
		wide = (width - gap * (boxes - 1)) // boxes
		focused = has_focus(self.canvas)
		for at in range(boxes):
			x = at * (width + gap) // boxes
			here = focused and at == min(len(shown), boxes - 1)
			self.box(x, 0, wide, height, 11, p.card, p.focus if here else p.line, 2 if here else 1)
			middle = x + wide // 2
			if at < len(shown):
				self.text(middle, height // 2, shown[at], size, bold=True, anchor="center", room=wide)
			elif here:
				self.canvas.create_line(middle, px(16), middle, height - px(16), fill=p.focus, width=px(2))


class Meter(Painted):
	"""A microphone's level in bars; the last ones turn amber."""

	def __init__(self, look: Look, parent: tk.Misc, bars: int = 14, step: float = 9, height: float = 18):
		super().__init__(look, parent, look.px(step * bars), look.px(height))
		self.bars, self.step, self._lit = bars, step, 0

	def show(self, level: float) -> None:
		"""Light the bars for a level of 0..1."""
		lit = round(max(0.0, min(1.0, level)) ** 0.6 * self.bars)
		if lit != self._lit:
			self._lit = lit
			self.refresh()

	def paint(self) -> None:
		self.wipe()
		px, p, tall = self.px, self.palette, self.extent[1]
		for at in range(self.bars):
			colour = p.raised if at >= self._lit else (p.warn if at >= self.bars * 0.72 else p.good)
			self.box(px(at * self.step), 0, px(self.step * 0.55), tall, 3, colour)


def draw_switch(to: Painted, x: int, y: int, on: bool, ring: str = "") -> None:
	"""A switch: the knob's side says the state, not the colour alone."""
	p, px = to.palette, to.px
	if ring:
		to.box(x, y, px(46), px(28), 14, "", ring, 2)
	fill, edge, knob = (p.accent, p.accent, p.on_accent) if on else ("", p.third, p.third)
	to.box(x + px(3), y + px(3), px(40), px(22), 11, fill, edge, 2)
	to.box(x + px(24 if on else 7), y + px(7), px(14), px(14), 7, knob)


class Switch(Button):
	"""A switch that is on or off."""

	def __init__(self, look: Look, parent: tk.Misc, on: bool, changed: Callable[[bool], object]):
		self.value, self.changed = on, changed
		super().__init__(look, parent, self.flip, width=look.px(46), height=28)

	def flip(self) -> None:
		"""Turn it to the other side."""
		self.show(value=not self.value)
		self.changed(self.value)

	def paint(self) -> None:
		self.wipe()
		draw_switch(self, 0, 0, self.value, self.ring)


class Slider(Painted):
	"""A value from 0 to 1: `passing` hears each on the way, `chosen` where it stays."""

	def __init__(
		self, look: Look, parent: tk.Misc, value: float, passing: Callable[[float], object],
		chosen: Callable[[float], object],
	):  # fmt: skip
		super().__init__(look, parent, look.px(60), look.px(26), focus=True)  # it fills what there is
		self.value, self.passing, self.chosen = value, passing, chosen
		self.bind("<Button-1>", self._drag)
		self.bind("<B1-Motion>", self._drag)
		self.bind("<ButtonRelease-1>", lambda _: self.chosen(self.value))
		keys = "<Home>", "<Next>", "<Left>", "<Down>", "<Up>", "<Right>", "<Prior>", "<End>"
		for key, by in zip(keys, (-20, -4, -1, -1, 1, 1, 4, 20), strict=True):
			self.bind(key, partial(self._step, by / 20))

	def _drag(self, event: Event) -> None:
		self.focus_set()
		edge = self.px(12)
		self._move((event.x - edge) / max(1, self.extent[0] - 2 * edge))
		self.passing(self.value)

	def _step(self, by: float, _: object) -> None:
		self._move(self.value + by)
		self.chosen(self.value)

	def _move(self, value: float) -> None:
		self.value = max(0.0, min(1.0, value))
		self.paint()

	def paint(self) -> None:
		self.wipe()
		p, px = self.palette, self.px
		width = self.extent[0]
		at = px(12) + round((width - px(24)) * self.value)
		self.box(px(2), px(11), width - px(4), px(4), 2, p.line)
		self.box(px(2), px(11), max(px(5), at), px(4), 2, p.accent)
		self.box(at, px(13), px(20), px(20), 10, p.text if self.ring else p.focus, anchor="center")
		self.box(at, px(13), px(12), px(12), 6, p.on_accent, anchor="center")


class Choice(Button):
	"""A list of which one is chosen: shows it, and a menu of all at a click."""

	def __init__(
		self, look: Look, parent: tk.Misc, options: Sequence[tuple[str, str]], value: str,
		chosen: Run, height: float = 42, caption: str = "", icon: str = "",
	):  # fmt: skip
		self.options, self.value, self.chosen, self.caption = list(options), value, chosen, caption
		self.faint = False  # what is chosen is not there now
		super().__init__(look, parent, self._open, " ", icon, "card", look.px(60), height)

	def offer(self, found: Sequence[tuple[str, str]]) -> None:
		"""Offer these devices, (spec, sentence), if any."""
		if found:
			self.show(options=[(spec, tr(words)) for spec, words in found])

	def _open(self) -> None:
		entries = [
			("✓ " * (one == self.value) + words, partial(self.pick, one)) for one, words in self.options
		]
		menu, canvas = self.look.menu(self.canvas, entries), self.canvas
		menu.update_idletasks()  # it knows its size then
		x, top, tall = canvas.winfo_rootx(), canvas.winfo_rooty(), menu.winfo_reqheight()
		y = top + canvas.winfo_height()
		if y + tall > canvas.winfo_screenheight():  # not under the pointer: a double click would choose
			x, y = x - menu.winfo_reqwidth(), max(0, top - tall)
		menu.tk_popup(x, y)

	def edge(self, fill: str, colour: str) -> str:
		return super().edge(fill, colour) or self.palette.line

	def pick(self, value: str) -> None:
		"""Choose `value` and tell."""
		self.show(value=value)
		self.chosen(value)

	def _content(self, width: int, height: int, colour: str) -> None:
		words = next((words for value, words in self.options if value == self.value), self.value)
		px, p, size = self.px, self.palette, self.text_size
		colour = p.third if self.faint else colour
		x = px(52 if self.caption else 14)
		self.icon(width - px(12), height // 2, "down", 16, p.second, anchor="e")
		if self.caption:  # in two lines
			self.icon(px(28), height // 2, self.icon_name, 19, p.second)
			self.text(x, height * 3 // 10, self.caption, 11, colour=p.third, room=width - x - px(30))
			height = height * 7 // 5
		self.text(x, height // 2, words, size, colour=colour, room=width - x - px(30))


class Row(Protocol):
	"""One entry of a `ListView`: hashable, and the same while it is equal."""

	def draw(self, view: ListView, y: int, width: int) -> int:
		"""Draw it with its upper edge at `y`; returns its height in real pixels."""


class ListView(Painted):
	"""Rows of any height; only those in sight are drawn, so that thousands stay fluid.

	Its place is a row and where that begins: heights are known only of rows that were in sight. Rows offer
	actions with `spot`; arrows walk through them, Return presses the one ringed.
	"""

	def __init__(self, look: Look, parent: tk.Misc, stick: bool = False, gutter: float = 10):
		super().__init__(look, parent, look.px(100), look.px(64), focus=True)
		self.bar = look.scrollbar(self.canvas, self.yview)
		self.gutter = look.px(gutter)
		self.rows: list[Any] = []
		self.stick = stick  # stay at the newest row while it is in sight
		self._at = self._y = 0  # the first row in sight, and its upper edge
		self._edges = [0]  # of the rows in sight: the upper one of the first, and all lower ones
		self._ended = True  # the last row is in sight
		self._heights: dict[tuple[Any, int], int] = {}  # by row and width
		self._bind()

	def _bind(self) -> None:
		canvas = self.canvas
		canvas.bind("<Configure>", lambda _: self.show(self.rows, again=True))
		canvas.bind(
			"<MouseWheel>", lambda at: self.scroll(at.delta // -2 if abs(at.delta) >= 60 else -20 * at.delta)
		)
		wheel = {"<Button-4>": (-1, "units"), "<Button-5>": (1, "units")}
		for key, how in {**wheel, "<Prior>": (-1, "pages"), "<Next>": (1, "pages")}.items():
			canvas.bind(key, partial(self.yview, "scroll", *how))
		self.walkable()
		canvas.bind("<FocusIn>", partial(self._walk, 0))

	def show(self, rows: Sequence[Row], again: bool = False, stay: bool = False) -> None:
		"""Show these rows from now on, or `again`; `stay` where one has only changed its height."""
		if rows == self.rows and not again:
			return
		self.rows = list(rows)
		if self.stick and self._ended and not stay:
			self._at, self._y = len(rows), self.extent[1]
		else:
			self._at = max(0, min(self._at, len(rows) - 1))
			self._y = max(self._y, -self._high(self._at)) if rows and self._y < 0 else 0
		self.refresh()

	def _high(self, at: int) -> int:
		key = self.rows[at], self.width
		if key not in self._heights:  # it is drawn where nobody sees it
			self._heights[key] = key[0].draw(self, self.extent[1], key[1])
		return self._heights[key]

	def _draw(self, tall: int, width: int) -> list[int]:
		rows, at, y = self.rows, self._at, self._y
		while y > 0 and at > 0:
			at -= 1
			y -= self._high(at)
		y = min(y, 0)
		while y < 0 and at < len(rows) - 1 and y + self._high(at) <= 0:
			y += self._high(at)
			at += 1
		self._at, self._y, edges = at, y, [y]
		self.wipe()
		while edges[-1] < tall and at < len(rows):
			self._heights[rows[at], width] = high = rows[at].draw(self, edges[-1], width)
			edges.append(edges[-1] + high)
			at += 1
		if edges[-1] < tall and (self._at or y):  # what is above fills the rest
			self._y += tall - edges[-1]
			return self._draw(tall, width)
		return edges

	@property
	def width(self) -> int:
		"""Real pixels that rows have, beside the bar."""
		gutter = self.gutter or self.px(10) * bool(self.bar.winfo_manager())
		return max(self.px(60), self.extent[0] - gutter)

	def scroll(self, by: int) -> None:
		"""Move by `by` real pixels, within the rows."""
		self._y -= by
		self.refresh()

	def yview(self, how: str, by: float | str, what: str = "units", _: object = None) -> None:
		"""What a scroll bar asks of a widget; places are parts of the number of rows."""
		if how == "scroll":
			self.scroll(int(by) * (self.extent[1] if what == "pages" else self.px(60)))
		elif self.rows:
			place = max(0.0, min(1.0, float(by))) * len(self.rows)
			self._at = min(int(place), len(self.rows) - 1)
			self._y = -round((place - self._at) * self._high(self._at))
			self.refresh()

	def paint(self) -> None:
		tall, width = self.extent[1], self.width
		if len(self._heights) > 2_000:
			self._heights.clear()
		edges = self._edges = self._draw(tall, width)
		count, end, foot = len(self.rows), self._at + len(edges) - 1, edges[-1]
		self._ended = end == count and foot <= tall + self.px(30)
		if end < count or foot > tall or self._at or self._y:
			over = max(0, foot - tall) / self._high(end - 1)
			self.bar.set((self._at - self._y / self._high(self._at)) / count, (end - over) / count)
			self.bar.place(relx=1, relheight=1, anchor="ne")
		else:
			self.bar.place_forget()
		if width != self.width:  # the bar has come or gone
			self.paint()
		if has_focus(self.canvas) and self.chosen_action in self.actions:
			x, y, right, foot = map(int, self.canvas.coords(self.chosen_action))
			self.box(x, y, right - x, foot - y, 9, "", self.palette.focus, 2)

	def row_at(self, y: int) -> Any:
		"""The row at `y` on the screen, or None."""
		at = self._at + bisect_right(self._edges, y) - 1
		return self.rows[at] if at < len(self.rows) else None

	def _walk(self, by: int, event: object) -> None:
		before = self.chosen_action
		super()._walk(by, event)
		if self.chosen_action == before:
			self.yview("scroll", by)


class Dialog:
	"""A card in the middle that has the keyboard until it is closed, by Escape too."""

	def __init__(self, look: Look, title: str, width: float, height: float = 0):
		self.look = look
		p, px = look.palette, look.px
		self._before = focused(look.root)
		self.first: Act | None = None  # gives it the keyboard at the beginning
		self.frame = look.frame(look.root, p.line)
		self.body = look.frame(self.frame, p.panel)
		self.body.pack(**FILL, padx=px(1), pady=px(1))
		self.width = min(px(width), look.root.winfo_width() - px(24))
		if title:
			self.words(title, 18, p.text, 20, 10, bold=True)
		self.frame.place(relx=0.5, rely=0.5, anchor="center", width=self.width)
		if height:
			self.frame.place(height=min(px(height), look.root.winfo_height() - px(24)))
		self.back: Act = lambda: None  # who has the keyboard afterwards
		look.layer(self.frame, self.close)
		self._later(1, self._take)

	def words(
		self, text: str, size: int = 12, colour: str = "", above: int = 0, below: int = 0, bold: bool = False
	) -> tk.Label:
		"""A paragraph below what is there, with room above and below it in logical pixels."""
		look, px = self.look, self.look.px
		tone = colour or look.palette.second
		label = look.label(self.body, text, size, bold=bold, colour=tone, width=self.width - px(52))
		label.pack(anchor="w", padx=px(24), pady=(px(above), px(below)))
		return label

	def sheet(self, height: int, below: float = 0) -> Painted:
		"""A place to draw on below what is there, `height` real pixels high."""
		px = self.look.px
		made = Painted(self.look, self.body, self.width - px(54), height)
		return made.pack(anchor="w", padx=px(24), pady=(0, px(below)))

	def _take(self) -> None:
		self.frame.lift()
		self.frame.grab_set()
		(self.first or self.frame.focus_set)()

	def _later(self, milliseconds: int, command: Act) -> None:
		self.look.root.after(milliseconds, lambda: command() if self.open else None)

	@property
	def open(self) -> bool:
		return bool(self.frame.winfo_exists())

	def close(self) -> None:
		"""Take it away and give the keyboard back."""
		if self.open:
			self.frame.grab_release()
			self.frame.destroy()
			before = self._before
			(before if before and before.winfo_exists() else self.look.root).focus_set()
			self.back()

	def buttons(self, entries: Sequence[tuple[Any, ...]], first: str = "") -> Button:
		"""A row of (words, kind, command if any) at the lower right; Return presses `first`, else the last.

		Returns the last one's button.
		"""
		row = self.look.frame(self.body)
		row.pack(side="bottom", fill="x", padx=self.look.px(24), pady=(self.look.px(16), self.look.px(20)))
		made = [
			(words, Button(self.look, row, partial(self._then, *command), tr(words), kind=kind))
			for words, kind, *command in entries
		]
		for words, button in reversed(made):
			button.pack(side="right", padx=(self.look.px(10), 0))
			if self.first is None or words == first:
				self.first = button.focus_set
		return made[-1][1]

	def _then(self, *commands: Act) -> None:
		self.close()
		for command in commands:
			command()


class ConfirmDialog(Dialog):
	"""A question with its answers as (words, kind, command); Return gives `first`, else the last."""

	def __init__(self, look: Look, title: str, text: str, *answers: tuple[Any, ...], first: str = ""):
		super().__init__(look, title, 460)
		if text:
			self.words(text, 13)
		self.buttons(answers, first)


class EmojiPicker(Painted):
	"""A card of our emoji beside a button; a click or Return picks one, Escape none."""

	def __init__(self, look: Look, chars: Sequence[str], picked: Run, beside: tk.Widget, columns: int):
		self.chars, self.picked, self.columns = chars, picked, columns
		self.step = look.px(40)
		rows = -(-len(chars) // columns)
		page: tk.Misc = beside
		while page.master not in (None, look.root):
			page = page.master
		self.holder = look.frame(page, look.palette.line)  # it ends with the page
		wide, tall = columns * self.step + look.px(16), rows * self.step + look.px(16)
		super().__init__(look, self.holder, wide, tall, look.palette.card, focus=True)
		look.layer(self.holder, self.holder.destroy)
		self.pack(padx=1, pady=1)
		place_beside(look, beside, self.holder, wide + 2, tall + 2)
		self.holder.lift()
		self.chosen_action = f"emoji:{chars[0]}"
		self.walkable(columns)
		self.bind("<Motion>", lambda event: self._choose(self.under(event)), add="+")
		self.bind("<FocusOut>", lambda _: self.holder.destroy())
		self.bind("<Key>", lambda event: None if event.keysym == "Tab" else "break")  # no commands
		self.focus_set()

	def _choose(self, name: str) -> None:
		if name not in ("", self.chosen_action):
			self.chosen_action = name
			self.paint()

	def _take(self, char: str) -> None:
		self.holder.destroy()
		self.picked(char)

	def paint(self) -> None:
		self.wipe()
		edge, palette = self.px(8), self.palette
		for at, char in enumerate(self.chars):
			x, y = edge + at % self.columns * self.step, edge + at // self.columns * self.step
			name = f"emoji:{char}"
			if name == self.chosen_action:
				self.box(x, y, self.step, self.step, 9, palette.raised, palette.focus, 2)
			self.image(x + self.step // 2, y + self.step // 2, self.look.emoji(char, 26), "center")
			self.spot(name, (x, y, self.step, self.step), partial(self._take, char))


class PictureBox:
	"""A place on a canvas for pictures that change, filled by a painter's thread; Tk writes their words.

	The painter asks `source` for (serial, picture) when there may be something new.
	"""

	def __init__(self, on: Painted, source: Callable[[], Shown]):
		self.look, self.canvas, self.source = on.look, on.canvas, source
		self.palette = replace(on.look.palette, window=str(on.canvas["bg"]))
		self.box = (0, 0, 0, 0)
		self.busy, self.waits = Lock(), False  # with a painter, or for one
		self.painted: tuple[int, TileJob | None] = (-2, None)  # serial of the picture, and the rest
		self._job: TileJob | None = None  # all but the picture
		self._live = False
		self._marks: tuple[Any, TileMarks] = None, []  # and what they were drawn for
		self._photo: ImageTk.PhotoImage | None = None
		self._item = self.canvas.create_image(0, 0, anchor="nw")
		self._lines: Mapping[str, TileLine] = {}  # those written, their items tagged:
		self._tag = f"lines:{self._item}"
		self.canvas.tag_lower(self._item)
		self.look.painter.boxes.add(self)

	def place(self, box: Box) -> None:
		"""Stand at `box` of the canvas, in real pixels."""
		if box[2:] != self.box[2:]:
			blank = Image.new("RGB", box[2:], self.look.palette.tile)
			self._photo, self.painted = ImageTk.PhotoImage(blank, master=self.canvas), (-2, None)
			self.canvas.itemconfigure(self._item, image=self._photo)
			self._write({})
		self.canvas.move(self._tag, box[0] - self.box[0], box[1] - self.box[1])
		self.box = box
		self.canvas.coords(self._item, box[:2])

	def show(self, looks: TileLook, live: bool = True) -> None:
		"""Have it painted if marks, size or, where `live`, the source's picture have changed."""
		if min(size := self.box[2:]) >= 8:
			job, self._live = self._job, live
			if not job or (job.look, job.size) != (looks, size):
				lines = self._layout(looks, *size)
				self._job = TileJob(size, looks, self.palette, self.look.px.scale, lines)
			self.check()

	def check(self) -> None:
		"""Have it painted if there may be something new; for any thread."""
		# a whole screen takes long to get: not here
		if (job := self._job) and ((self._live and job.look.fit) or self.painted != (self._newest()[0], job)):
			self.look.painter.want(self)

	def _layout(self, looks: TileLook, wide: int, tall: int) -> dict[str, TileLine]:
		look, px, found = self.look, self.look.px, dict[str, TileLine]()
		x = px(10 if tall > px(130) else 6)
		y, badge = tall - x - px(14), look.line(0, 0, tr(looks.badge).upper(), 10, wide, bold=True)
		if looks.label and wide >= px(60):
			beside = px(42) + (badge.width + px(14)) * bool(looks.badge) + px(52) * bool(looks.hand)
			room = max(px(10), wide - 2 * x - beside)
			found["label"] = name = look.line(x + px(30), y, looks.label, 13, room)
			x = name.x + name.width + px(16)
			if looks.badge:
				found["badge"] = badge._replace(x=x - px(3), y=y)
				x += badge.width + px(14)
		if looks.hand:
			found["hand"] = look.line(x + px(27), y, str(looks.hand), 12, px(18), bold=True)
		if looks.note:
			note = look.line(0, tall // 2, looks.note, 13, wide - px(48), bold=True)
			found["note"] = note._replace(x=(wide - note.width) // 2)
		return found

	def _write(self, lines: Mapping[str, TileLine]) -> None:
		if lines == self._lines:
			return
		self._lines = lines
		self.canvas.delete(self._tag)
		for one in lines.values():
			if not shaped(one.text):  # else Pillow has written it
				at, font = (self.box[0] + one.x, self.box[1] + one.y), self.look.font(one.size, one.bold)
				self.look.write(self.canvas, *at, one.text, font, "#FFFFFF", "w", tags=(self._tag,))
		for item in (self._tag, self._item):  # below all that is not of a tile
			self.canvas.tag_lower(item)

	def _newest(self) -> Shown:
		serial, picture = self.source() if self._live else (-1, None)
		return (-1 if picture is None else serial), picture  # without one it is the avatar

	def paint(self) -> Image.Image | None:
		"""What is to be seen now, if that has changed; in a painter's thread."""
		job, (serial, picture) = self._job, self._newest()
		if not job or self.painted == (serial, job):
			return None
		self.painted, same = (serial, job), (job, picture is not None)
		if self._marks[0] != same:
			self._marks = same, tile_marks(*same)
		return paint_tile(job, picture, self._marks[1])

	def paste(self, image: Image.Image) -> None:
		"""Show what was painted, unless it was for another size."""
		if self._photo and image.size == self.box[2:]:
			self._photo.paste(image)
			if job := self.painted[1]:
				self._write(job.lines)

	def remove(self) -> None:
		"""Leave the canvas."""
		self.look.painter.boxes.discard(self)
		self.canvas.delete(self._item, self._tag)
		self._photo = None


class TilePainter:
	"""Threads that paint what is new in the boxes of a window; Tk only pastes it."""

	def __init__(self) -> None:
		with suppress(AttributeError):  # Pillow before 11.3
			cast(Any, Image).core.set_use_block_allocator(1)  # Tk takes such a picture as it is
		self.boxes: set[PictureBox] = set()
		self._fresh = SimpleQueue[PictureBox | None]()  # to look at; None is the end
		self._done: SimpleQueue[tuple[PictureBox, Image.Image]] = SimpleQueue()
		self._threads = [
			threading.Thread(target=self._run, name=f"tile-painter-{n}", daemon=True) for n in range(2)
		]
		for thread in self._threads:
			thread.start()

	def want(self, box: PictureBox) -> None:
		"""Look at this one."""
		if not box.waits:
			box.waits = True
			self._fresh.put(box)

	def check(self) -> None:
		"""Look at all: somebody's picture has changed; for any thread."""
		for box in tuple(self.boxes):
			box.check()

	def paste(self) -> None:
		"""Show the newest that was painted of each box since the last call; who is late catches up."""
		newest: dict[PictureBox, Image.Image] = {}
		while not self._done.empty():
			newest.update([self._done.get()])
		for box, image in newest.items():
			box.paste(image)

	def close(self) -> None:
		"""End the threads; each ends after the tile it paints."""
		for _ in self._threads:
			self._fresh.put(None)
		for thread in self._threads:
			thread.join(5.0)  # cv2 aborts the process when a thread is in it at the end

	def _run(self) -> None:
		while (box := self._fresh.get()) is not None:
			box.waits = False
			try:
				with box.busy:
					if image := box.paint():
						self._done.put((box, image))
			except Exception:  # one tile that cannot be painted must not stop the others
				log.exception("a tile could not be painted")


LINK = re.compile(r"https?://[^\s<>\"]+[^\s<>\".,;:!?)]")


def wrapped(text: str, font: tkfont.Font, room: int, blank: str) -> list[str]:
	"""`text` in lines of at most `room` pixels; each of our emoji is `blank`, other emoji their :name:.

	The time it takes grows as the text does: each character is measured once, no line is.
	"""
	name, width = cache(plain), cache(font.measure)
	text = EMOJI_PATTERN.sub(lambda found: blank if emoji_key(found[0]) else name(found[0]), text)
	lines: list[str] = []
	for part in text.expandtabs(4).split("\n"):
		part = part.rstrip(" ")
		# a line may break before an emoji and after it and its comma; its blank does not break itself
		words = list(re.finditer(f"({blank}[,.;:!?)…]*|(?:(?!{blank})[^ ])+| ) *", part))
		bare, ends = [word.end(1) for word in words], [0, *(word.end() for word in words)]
		at, edges = 0, [0, *itertools.accumulate(map(width, part))]
		while edges[-1] - edges[at] > room:
			fits = bisect_right(edges, edges[at] + room) - 1
			end = ends[bisect_right(bare, fits)]
			end = end if end > at else max(fits, at + 1)
			lines += filter(None, [part[at:end].rstrip(" ")])
			at = end
		lines.append(part[at:])
	return lines


def link_at(hit: re.Match[str], links: Iterable[str], below: Iterable[str]) -> str:
	"""What a click on `hit` in a wrapped line opens: what is shown there and `below`."""
	rest = hit[0] + ("".join(below) if hit.end() == len(hit.string) else "")
	return max([hit[0], *(one for one in links if one.startswith(hit[0]) and rest.startswith(one))], key=len)


# ====
# [29] STAGE - video tiles, layouts, the shared screen, reactions, toasts
# Uses: BASICS, WIRE, CALL, DOCTOR, PROCESS, CONTROLLER, TEXTS, DRAWING, WIDGETS
#
# Promises: one thread, which never waits; what takes long is given to `Tasks`, answered through a queue.
# Leaves out: sockets and devices, which stand behind `Program` and `MeetingController`.

# What the system may ask the user: Windows when a meeting is hosted, macOS whenever something is first used.
SYSTEM_ASKS = {
	"win32": "If Windows asks about its firewall, tick both kinds of network: else nobody can join.",
	"darwin": "If macOS asks about camera, microphone, network or incoming connections, allow it.",
}


def system_asks(moment: str) -> str:
	"""The sentence for the moment host, find, camera or mic; "" where this system asks nothing then."""
	if sys.platform != "darwin" and moment != "host":
		return ""
	known = {"open": "", "blocked": KEPT_OUT, "partly": KEPT_OUT}
	return tr(known.get(windows_firewall(), SYSTEM_ASKS.get(sys.platform, "")))


Done = Callable[[Any, Exception | None], object]  # takes what came of a task, or its fault


class Tasks:
	"""Work that may take long, in threads; it belongs to the window and outlives views."""

	def __init__(self) -> None:
		self._threads: list[threading.Thread] = []
		self._ended = SimpleQueue[tuple[Any, ...]]()

	def run(self, work: Callable[[], Any], done: Done = lambda *_: None, of: tk.Misc | None = None) -> None:
		"""Do `work` in a thread, then `done(result, fault)` on the Tk thread if `of` still exists."""
		thread = threading.Thread(target=self._run, args=(work, done, of), name="window-task", daemon=True)
		self._threads = [one for one in self._threads if one.is_alive()] + [thread]
		thread.start()

	def _run(self, work: Callable[[], Any], *told: Any) -> None:
		try:
			self._ended.put((*told, work(), None))
		except Exception as fault:  # the Tk thread shows every failure to the user
			if not isinstance(fault, Refused):
				log.exception("the window's task failed")
			self._ended.put((*told, None, fault))

	def poll(self) -> None:
		"""Tell what has ended."""
		while not self._ended.empty():
			done, of, result, fault = self._ended.get()
			if of is None or of.winfo_exists():
				done(result, fault)

	def finish(self, deadline: float) -> None:
		"""Wait for what is under way; nobody is told any more."""
		until = monotonic() + deadline
		for thread in self._threads:
			thread.join(max(0.0, until - monotonic()))


def clock(at: float, form: str = "%H:%M") -> str:
	"""Unix seconds as the local 14:05, or in another form."""
	return time.strftime(form, time.localtime(at))


def chat_words(line: ChatLine) -> str:
	"""A message as a line of plain text."""
	to = f" → {line.to}" if line.to else ""
	return f"[{clock(line.at, '%Y-%m-%d %H:%M')}] {line.sender}{to}: {line.text}"


def spaced_pin(pin: str) -> str:
	"""A PIN in two halves, easy to read aloud."""
	return f"{pin[:3]} {pin[3:]}" if len(pin) == 6 else pin


def grid_boxes(count: int, width: int, height: int, gap: int) -> list[Box]:
	"""Boxes for `count` tiles in a space, as large as can be at 4:3 to 2:1; the last row is centred."""
	best = (0, 1, 1, 1)
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
	others = ((left + at * (small + gap), top + gap, small, strip) for at in range(count - 1))
	return [(0, 0, width, top), *others]


def in_sight(widget: tk.Misc) -> bool:
	"""Whether it is on the page that is shown, of a window that is not minimised."""
	return bool(widget.winfo_viewable()) and widget.winfo_toplevel().state() != "iconic"


# Pictures a second of each small tile, where that many are shown at most and no more are in.
SMALL_RATES = ((6, DEFAULT_FPS), (12, 8), (MAX_PEOPLE, 5))
CROWD = 12  # people; where more are in, a calm large picture comes at SPARING_FPS
SPOKE_SECONDS = 3.0  # that who has spoken is still shown at the full rate


def layer_for(height: int, best: bool = False) -> int:
	"""The layer for a tile of `height` real pixels: pictures are stretched 1.5 times, 1.15 where `best`."""
	most = 1.15 if best else 1.5
	return next((layer for layer, (_, tall) in enumerate(LAYERS) if height <= tall * most), len(LAYERS) - 1)


def picture_wishes(
	tall: Mapping[int, int],
	large: object,
	spoke: Collection[int],
	many: bool,
	best: bool,
	lively: bool = False,
) -> dict[int, Json]:
	"""What to watch of those in sight, {id: height of the tile}: the rates that the eye needs.

	`large` is who has the large place, `lively`: much of it moves; `many` are in and share a network.
	"""
	small = next(fps for most, fps in SMALL_RATES if max(len(tall), many * CROWD + 1) <= most)
	fps = dict.fromkeys(tall, small) | dict.fromkeys(spoke, DEFAULT_FPS)
	fps[cast(int, large)] = SPARING_FPS if many and not lively else DEFAULT_FPS
	return {
		key: {"layer": layer_for(height, best), "fps": DEFAULT_FPS if best else fps[key]}
		for key, height in tall.items()
	}


@frozen
class Gone:
	"""Who is not here since `at` (monotonic seconds)."""

	person: Person
	at: float
	lost: bool  # its link


class Plan:
	"""Who stands where on a stage: layout, page, pin and speaker, and the boxes that follow from them."""

	HOLD = 1.5  # seconds that a speaker keeps the large place
	PROMINENT = 20.0  # and a place on the first page

	def __init__(self, px: Metrics):
		self.px = px
		self.layout, self.page, self.pages = "grid", 0, 1
		self.pinned: int | str | None = None
		self._pinned_name = ""  # by which that person is known over breaks
		self.large: int | str | None = None  # who or what has the large place
		self.size = (0, 0)
		self.shot = Snapshot()
		self.many = False  # small tiles, for a whole class
		self.alone = False  # nobody beside it
		self.lost: tuple[Person, ...] = ()  # they keep their places
		self._places: dict[str, int] = {}  # by name
		self._speaker = 0
		self._speaker_since = 0.0
		self._spoke: dict[int, float] = {}  # when each was last heard

	def spoke(self, now: float, seconds: float = SPOKE_SECONDS) -> list[int]:
		"""Who has spoken of late."""
		return [one for one, at in self._spoke.items() if now - at < seconds]

	def hear(self, speaking: int, now: float) -> bool:
		"""Follow who speaks, not too fast; whether the large place may change."""
		self._spoke[speaking] = now
		if speaking in (0, self._speaker, self.shot.me) or now - self._speaker_since <= self.HOLD:
			return False
		self._speaker, self._speaker_since = speaking, now
		return self.layout != "grid"

	def set_layout(self, layout: str) -> None:
		"""Grid, speaker or focus, from the first page on."""
		self.layout, self.page = layout, 0
		if layout == "grid":
			self.pinned = None

	def pin(self, key: int | str | None) -> None:
		"""Give somebody the large place, or take it back."""
		self.pinned = None if key == self.pinned else key
		self.layout = "grid" if self.pinned is None else "focus"

	def people(self) -> list[Person]:
		"""Everybody in the order of the tiles: hosts, others by first arrival, oneself last."""
		me, places, all_ = self.shot.me, self._places, (*self.shot.people, *self.lost)
		for one in sorted(all_, key=lambda one: one.id):
			places.setdefault(one.name, len(places))
		return sorted(all_, key=lambda one: (one.id == me, one.role != "host", places[one.name]))

	def per_page(self) -> int:
		"""How many tiles the grid holds at once; small windows hold fewer."""
		width, height = (size / self.px.scale for size in self.size)
		columns, rows, wide, tall = (7, 7, 110, 75) if self.many else (5, 3, 230, 150)
		return max(1, min(columns, int(width // wide))) * max(1, min(rows, int(height // tall)))

	def boxes(self) -> list[tuple[int | str, Box]]:
		"""Key and box of every tile in sight."""
		px, gap = self.px, self.px(12)
		width, height = self.size[0] - 2 * px(16), self.size[1] - 2 * px(16)
		people = self.people()
		order: list[int | str] = [one.id for one in people]
		self._follow_pinned(people)
		main = self.large = self._main(order)
		if main is None:
			keys = self._paged(order, self.per_page())
			boxes = grid_boxes(len(keys), width, height, gap)
		else:
			room = 0 if self.alone or self.layout == "focus" else max(1, min(8, self.size[0] // px(172)))
			keys = [main, *self._paged([key for key in order if key != main], room)]
			boxes = stage_boxes(len(keys), width, height, gap, min(px(112), height // 4))
		return [(key, (x + px(16), y + px(16), w, h)) for key, (x, y, w, h) in zip(keys, boxes, strict=False)]

	def _follow_pinned(self, people: Sequence[Person]) -> None:
		names: dict[object, str] = {one.id: one.name for one in people}
		name = self._pinned_name = names.get(self.pinned, self._pinned_name)
		if isinstance(self.pinned, int):
			self.pinned = next((one.id for one in people if one.name == name), self.pinned)

	def _main(self, order: Sequence[int | str]) -> int | str | None:
		if self.pinned in order or (self.pinned == "screen" and self.shot.presenter):
			return self.pinned
		if self.shot.presenter:
			return "screen"
		shown = next((one.id for one in self.shot.people if one.name == self.shot.rules.spotlight), None)
		if shown in order and shown != self.shot.me:
			return shown
		if self.layout == "grid":
			return None
		others = [key for key in order if key != self.shot.me]
		return self._speaker if self._speaker in others else next(iter(others), next(iter(order), None))

	def _paged(self, order: list[int | str], room: int) -> list[int | str]:
		me = self.shot.me
		if me in order and len(order) > room > 1:
			order.remove(me)
			order.insert(room - 1, me)
		up = {me, *(one.id for one in self.shot.hands), *self.spoke(monotonic(), self.PROMINENT)}
		calm = [at for at, key in enumerate(order[:room]) if key not in up]
		for at in range(room, len(order)):  # to page 1, in place of the last ones there
			if order[at] in up and calm:
				to = calm.pop()
				order[at], order[to] = order[to], order[at]
		self.pages = max(1, -(-len(order) // room)) if room else 1
		self.page = min(self.page, self.pages - 1)
		return order[self.page * room : (self.page + 1) * room]


class ScreenZoom:
	"""Which part of the shared screen is seen: fitting, 1:1, or any zoom around a point."""

	def __init__(self) -> None:
		self.reset()
		self._from = (0, 0, 0.0, 0.5, 0.5)

	def reset(self) -> None:
		self.view = (0.0, 0.5, 0.5)  # zoom (0 = fit) and middle

	def by(self, factor: float) -> None:
		"""Zoom by a factor; 0 switches between fitting and 1:1."""
		zoom, x, y = self.view
		self.view = (float(not zoom) if factor == 0 else max(0.1, min(8.0, (zoom or 0.6) * factor)), x, y)

	def grab(self, x: int, y: int) -> None:
		self._from = (x, y, *self.view)

	def drag(self, x: int, y: int, width: int, height: int) -> None:
		"""The mouse is there now, on a tile of that size."""
		if self.view[0]:
			x0, y0, zoom, cx, cy = self._from
			cx, cy = cx - (x - x0) / width / zoom, cy - (y - y0) / height / zoom
			self.view = (zoom, max(0.0, min(1.0, cx)), max(0.0, min(1.0, cy)))


class HoverButtons:
	"""The small buttons and facts over the tile under the mouse."""

	def __init__(self, stage: Stage):
		self.stage = stage
		self.tips: dict[str, tuple[Any, ...]] = {}  # by button: words, keys, box
		self.under: int | str | None = None

	def show(self, key: int | str | None) -> None:
		"""Show the small buttons of the tile under the mouse."""
		stage, look, px, self.under = self.stage, self.stage.look, self.stage.look.px, key
		stage.wipe("hover")
		if key is None or stage.tiles[key].box[2] < px(110):
			stage.tip.aim("")
			return
		x, y, wide, _ = stage.tiles[key].box
		right = x + wide - px(10) - (px(42) if self._poor(key) else 0)
		icons = stage.menu_for(key, "screen" if key == "screen" else "tile")[-max(2, (right - x) // px(36)) :]
		pinned = stage.plan.pinned == key
		words = tr("Unpin" if pinned else "Pin")
		rooms = {one[2]: px(36) for one in icons}
		if wide > px(130 + 36 * len(icons)):
			rooms["pin"] += look.font(12).measure(words) + px(4)
		left = start = right - sum(rooms.values())
		stage.box(left, y + px(10), right - left, px(32), 9, "#14181F", name="hover")
		for _, command, icon, tip, keys in icons:
			box, name = (left, y + px(10), rooms[icon], px(32)), f"hover:{icon}"
			colour = "#7FAAFF" if icon == "pin" and pinned else "#FFFFFF"
			stage.icon(left + px(9), y + px(17), icon, 18, colour, name="hover", anchor="nw")
			if rooms[icon] > px(36):
				stage.text(left + px(31), y + px(26), words, 12, colour=colour, name="hover")
			stage.spot(name, box, command)
			self.tips[name] = tip, keys, *box
			left += rooms[icon]
		self._facts(key, start)
		stage.canvas.tag_raise("toast")

	def _poor(self, key: int | str) -> bool:
		one = self.stage.plan.shot.person(key)
		return one is not None and self.stage.looks(one).poor

	def _facts(self, key: int | str, right: int) -> None:
		lines, stage = self.facts(key), self.stage
		look, px = stage.look, stage.look.px
		x, top, wide, tall = stage.tiles[key].box
		y = top
		if not lines or tall < px(130):
			return
		width = max(look.font(11).measure(line) for line in lines) + px(18)
		if x + px(10) + width > right:
			y += px(40)
		if width + px(20) > wide or y + px(20 + 17 * len(lines)) > top + tall - px(44):
			return
		stage.box(x + px(10), y + px(10), width, px(10 + 17 * len(lines)), 8, "#14181F", name="hover")
		for at, line in enumerate(lines):
			colour = "#C4CDD8" if at else "#FFFFFF"
			stage.text(x + px(19), y + px(23 + 17 * at), line, 11, colour=colour, name="hover")

	def facts(self, key: int | str) -> list[str]:
		"""A picture's quality in a word, its size and rate, what was lost and how old it is."""
		quality = self.stage.plan.shot.quality.get(key) if isinstance(key, int) else None
		if quality is None or not quality.fps:
			return []
		good = tr("Poor") if self._poor(key) else tr("Good")
		age = "" if quality.latency_ms is None else f" · {quality.latency_ms:.0f} ms"
		lost = tr("{count} lost", count=quality.lost_frames) + age
		return [good, f"{quality.width}×{quality.height}", f"{quality.fps:.0f} fps", lost]

	def menu(self, key: int | str | None, by_key: bool = False) -> None:
		"""What can be done with this person, where the mouse is or `by_key` on the tile."""
		if not isinstance(key, int):
			return
		canvas = self.stage.canvas
		x, y = canvas.winfo_pointerxy()
		if by_key and self.under != key:
			left, top, wide, tall = self.stage.tiles[key].box
			x, y = canvas.winfo_rootx() + left + wide // 2, canvas.winfo_rooty() + top + tall // 2
		pin = (tr("Unpin" if self.stage.plan.pinned == key else "Pin"), partial(self.stage.pin, key))
		self.stage.look.menu(canvas, [pin, *self.stage.menu_for(key)]).tk_popup(x, y)


class Stage(Painted):
	"""The canvas of tiles: layouts, pages, pinning, and what lies over them."""

	def __init__(self, look: Look, parent: tk.Misc, controller: MeetingController):
		super().__init__(look, parent, look.px(200), look.px(150), look.palette.window, focus=True)
		self.controller = controller
		self.plan, self.zoom, self.hover = Plan(look.px), ScreenZoom(), HoverButtons(self)
		self.tiles: dict[int | str, PictureBox] = {}
		self.veiled = False
		self.mirror = True  # the own picture, as people know it
		self.best = False  # as good as a cable carries it
		self.menu_for: Callable[..., Sequence[Any]] = lambda *_: ()
		self.tip = Tooltip(look, self.canvas, "")
		self.pages_changed: Act = lambda: None
		self._last: int | str | None = None
		self._in_sight = True
		self._watched: Json = {}
		self._watches_screen = True
		self._rendered: Any = ()
		self._bind()

	def _bind(self) -> None:
		does: dict[str, Callable[[Event], object]] = {
			"<Configure>": lambda _: self.arrange(),
			"<Leave>": lambda _: self.hover.show(None),
			"<Motion>": self._moved,
			"<Double-Button-1>": self._twice,
			"<<ContextMenu>>": lambda at: self.hover.menu(self._tile_at(at)),
			"<MouseWheel>": lambda by: self._wheel(1 if by.delta > 0 else -1),
			"<Button-4>": lambda _: self._wheel(1),
			"<Button-5>": lambda _: self._wheel(-1),
			"<B1-Motion>": self._drag,
			"<Button-1>": lambda at: self.zoom.grab(at.x, at.y),
			**{key: partial(self._walk, by) for key, by in ARROWS},
			"<Prior>": lambda _: self.turn(-1),
			"<Next>": lambda _: self.turn(1),
			**dict.fromkeys(("<<Return>>", "<Menu>"), lambda _: self.hover.menu(self._last, by_key=True)),
			"<FocusOut>": lambda _: setattr(self, "_last", None),
			"<<TraverseIn>>": partial(self._walk, 0),
		}
		for event, act in does.items():
			self.bind(event, act, add="+")

	# what is seen

	def arrange(self) -> None:
		"""Put every tile where it belongs now and say whom we watch."""
		size = self.canvas.winfo_width(), self.canvas.winfo_height()
		if min(size) < 64:  # it is not laid out yet
			return
		self.plan.size = size
		boxes, self._rendered = dict(self.plan.boxes()), ()
		for key in self.tiles.keys() - boxes.keys():
			self.tiles.pop(key).remove()
		for key, box in boxes.items():  # they stand in this order from now on
			tile = self.tiles.pop(key, None)
			self.tiles[key] = tile = tile or PictureBox(self, partial(self._picture, key))
			tile.place(box)
		if self.hover.under not in boxes:
			self.hover.show(None)
		self.pages_changed()
		self._watch()

	def see(self, in_sight: bool) -> None:
		"""Whether any of it can be seen: of a minimised window nothing is asked for."""
		if in_sight != self._in_sight:
			self._in_sight = in_sight
			self._watch()

	@property
	def shows_others(self) -> bool:
		"""Whether a camera or screen of somebody else is in sight."""
		shot = self.plan.shot
		return bool(self._watched) or (self._watches_screen and shot.presenter not in (0, shot.me))

	def _watch(self) -> None:
		plan, shot, tiles = self.plan, self.plan.shot, self.tiles if self._in_sight else {}
		cameras = {one.id: one.name for one in shot.people if one.camera and one.id != shot.me}
		tall = {key: tile.box[3] for key, tile in tiles.items() if isinstance(key, int) and key in cameras}
		quality = shot.quality.get(cast(int, plan.large), StreamQuality())
		many, spoke = len(shot.people) > CROWD, plan.spoke(monotonic())
		wishes = picture_wishes(tall, plan.large, spoke, many, self.best, quality.lively)
		wanted = {cameras[key]: wish for key, wish in wishes.items()}
		if wanted != self._watched:
			self._watched = wanted
			self.controller.do({"do": "watch", "streams": wanted})
		screen = self._in_sight and ("screen" in tiles or not shot.presenter)
		if screen != self._watches_screen:
			self._watches_screen = screen
			self.controller.do({"do": "watch_screen", "on": screen})

	def show(self, shot: Snapshot) -> None:
		"""Show the meeting as it is now."""
		plan, old = self.plan, self.plan.shot
		plan.shot = shot
		moved = plan.hear(shot.speaking, monotonic())
		if old.presenter != shot.presenter:
			self.zoom.reset()
			plan.pinned = None if plan.pinned == "screen" else plan.pinned
		moved |= plan.pages > 1 and shot.speaking not in (0, shot.me, *self.tiles)
		if moved or (old.people, old.presenter, old.me) != (shot.people, shot.presenter, shot.me):
			self.arrange()
		else:
			self._watch()
		if self.hover.under in self.tiles and old.quality != shot.quality:
			self.hover.show(self.hover.under)

	def _picture(self, key: int | str) -> Shown:
		return self.controller.picture("self" if key == self.plan.shot.me else key)

	def render(self) -> None:
		"""Have painted what changed."""
		plan = self.plan
		now = plan.shot, plan.lost, self._watched, self._last, self.veiled, self.mirror, self.zoom.view
		if now != self._rendered:
			self._rendered, people = now, {one.id: one for one in plan.people()}
			for key, tile in self.tiles.items():
				if isinstance(key, str):
					tile.show(self._screen_looks())
				elif key in people:
					tile.show(self.looks(people[key]), people[key].camera)
		self.look.painter.check()

	def looks(self, one: Person) -> TileLook:
		"""What stands on the tile of a person."""
		shot, quality = self.plan.shot, self.plan.shot.quality.get(one.id)
		own = one.id == shot.me
		asked, lost = self._watched.get(one.name, {}), shot.link == "reconnecting"
		few = 0.4 * asked.get("fps", DEFAULT_FPS)  # pictures a second: the network takes others away
		poor = one.camera and bool(quality and (0 < quality.fps < few or quality.lost_frames > 8))
		note = tr("Reconnecting…") if lost and next(iter(self.tiles), None) == one.id else ""
		note = tr("lost the connection") if one in self.plan.lost else note
		if len(shot.people) == 1 and not (self.plan.lost or note or one.camera):
			note = tr("Nobody else is here")
		return TileLook(
			name=one.name, label=tr("You") if own else one.name, muted=not one.mic,
			speaking=one.id == shot.speaking and one.mic,
			hand=shot.hands.index(one) + 1 if one.hand else 0, star=one.name == shot.rules.spotlight,
			badge="Host" if one.role == "host" else "", poor=poor, mirror=own and self.mirror,
			dim=lost or self.veiled, chosen=self._last == one.id, note=note,
		)  # fmt: skip

	def _screen_looks(self) -> TileLook:
		shot = self.plan.shot
		one, own = shot.person(shot.presenter), shot.presenter == shot.me
		name, paused = getattr(one, "name", ""), getattr(one, "paused", False)
		label = tr("Your screen") if own else tr("{name}'s screen", name=name)
		return TileLook(
			name=name, label=label, fit=True, dim=shot.link == "reconnecting" or self.veiled,
			note=tr("Paused") if paused else "", view=self.zoom.view, chosen=self._last == "screen",
			speaking=own,
		)  # fmt: skip

	# what the user does to it

	def pin(self, key: int | str | None) -> None:
		"""Give somebody the large place, or take it back."""
		self.plan.pin(key)
		self.hover.show(None)
		self.arrange()

	def pin_under(self) -> None:
		"""Pin the tile under the mouse, or the one chosen with the arrows."""
		key = self.hover.under if self.hover.under is not None else self._last
		if key is not None or self.plan.pinned is not None:
			self.pin(key if key is not None else self.plan.pinned)

	def turn(self, by: int) -> None:
		"""Turn pages."""
		page = max(0, min(self.plan.pages - 1, self.plan.page + by))
		if page != self.plan.page:
			self.plan.page = page
			self.arrange()

	def _moved(self, event: Event) -> None:
		key = self._tile_at(event)
		if key != self.hover.under:
			self.hover.show(key)
		self.tip.aim(*self.hover.tips.get(self.under(event), [""]))

	def _twice(self, event: Event) -> None:
		if (key := self._tile_at(event)) is not None and not self.under(event):
			self.pin(key)

	def _wheel(self, way: int) -> None:
		if self.hover.under == "screen":
			self.zoom.by(1.25**way)
		else:
			self.turn(-way)

	def _drag(self, event: Event) -> None:
		if self.hover.under == "screen":
			self.zoom.drag(event.x, event.y, *self.tiles["screen"].box[2:])

	def _tile_at(self, event: Event) -> int | str | None:
		for key, tile in self.tiles.items():
			x, y, wide, tall = tile.box
			if x <= event.x < x + wide and y <= event.y < y + tall:
				return key
		return None

	def _walk(self, by: int, _: object = None) -> None:
		keys = list(self.tiles)
		at = keys.index(self._last) + by if self._last in keys else 0
		if 0 <= at < len(keys):
			self._last = keys[at]
		else:
			self.turn(by)

	def close(self) -> None:
		"""Let the pictures go while Tk still knows them."""
		for tile in self.tiles.values():
			tile.remove()
		self.tiles.clear()


@frozen
class Toast:
	"""A message over the stage; `icon` is an icon's name or one of our emoji, `ends` is by `monotonic()`."""

	number: int
	words: str
	icon: str
	action: str
	command: Act
	ends: float


class ToastStack:
	"""Messages over the stage: at most two, for 5 s; errors for 15 s, or until dismissed."""

	MOST = 2

	def __init__(self, stage: Painted):
		self.stage = stage
		self._toasts: list[Toast] = []
		self._count = 0  # the newest one's number
		stage.bind("<Configure>", lambda _: self._draw(), add="+")

	def add(
		self, words: str, icon: str = "info", action: str = "", command: Act = lambda: None, *,
		stays: bool = False,
	) -> None:  # fmt: skip
		"""Show a message."""
		self._count += 1
		while len(self._toasts) >= self.MOST:  # what passes makes room before what stays
			passing = (one for one in self._toasts if one.ends < inf and one.icon != "warning")
			self._toasts.remove(next(passing, self._toasts[0]))
		ends = inf if stays and action else monotonic() + (15.0 if stays else 5.0)
		self._toasts.append(Toast(self._count, words, icon, action, command, ends))
		self._draw()

	def forget(self, words: str) -> None:
		"""Take away what says this."""
		self._toasts = [one for one in self._toasts if one.words != words]
		self._draw()

	def answer(self) -> None:
		"""Do what the newest message offers; take it away where it offers nothing."""
		if self._toasts:
			self._act(self._toasts[-1])

	def step(self) -> None:
		"""Take away what has been there long enough; called at every tick."""
		for toast in [one for one in self._toasts if one.ends <= monotonic()]:
			self._drop(toast)

	def _drop(self, toast: Toast) -> None:
		self._toasts.remove(toast)
		self._draw()

	def _act(self, toast: Toast) -> None:
		self._drop(toast)
		toast.command()

	def _draw(self) -> None:
		self.stage.wipe("toast")
		for at, toast in enumerate(self._toasts):
			self._one(self.stage.look.px(20 + 54 * at), toast)

	def _one(self, y: int, toast: Toast) -> None:
		stage, look, icon, action = self.stage, self.stage.look, toast.icon, tr(toast.action)
		px, p, all_ = look.px, look.palette, stage.extent[0]
		font = look.font(13)
		action_room = look.font(13, bold=True).measure(action) + px(24) if action else 0
		words = look.clip(plain(tr(toast.words)), font, all_ - action_room - px(130))
		width, height = font.measure(words) + action_room + px(92), px(44)
		x, middle = (all_ - width) // 2, y + height // 2
		box = look.box(width, height, 12, p.raised, p.line, draw=shadowed)
		stage.image(x - px(12), y - px(12), box, name="toast")
		colour = p.bad_text if icon == "warning" else p.link
		shown = look.emoji(icon, 20) if icon in emoji_shapes() else look.icon(icon, 20, colour)
		stage.image(x + px(14), y + px(12), shown, name="toast")
		stage.text(x + px(46), middle, words, name="toast")
		if action:
			at = x + width - px(40)
			stage.text(at, middle, action, bold=True, colour=p.link, anchor="e", name="toast")
			area = at - action_room, y, action_room + px(6), height
			stage.spot(f"toast:{toast.number}", area, partial(self._act, toast))
		stage.icon(x + width - px(30), y + px(15), "close", 14, p.third, name="toast", anchor="nw")
		cross = x + width - px(34), y, px(34), height
		stage.spot(f"toast:x{toast.number}", cross, partial(self._drop, toast))


class Reactions:
	"""Emoji that float up over the stage, with the sender's name."""

	SECONDS = 3.0
	MOST = 24

	def __init__(self, stage: Painted):
		self.stage = stage
		self._count = 0
		self._floating: dict[str, tuple[float, float]] = {}  # since when and where, by the items' name

	def add(self, char: str, name: str) -> None:
		"""Let one rise."""
		if not (key := emoji_key(char)) or len(self._floating) >= self.MOST:
			return
		stage, look = self.stage, self.stage.look
		self._count += 1
		tag, room, below = f"react:{self._count}", look.px(200), look.px(36)
		stage.image(0, 0, look.emoji(key, 44), "center", tag)
		item = stage.text(0, below, name, 11, colour="#FFFFFF", room=room, anchor="center", name=tag)
		left, _, right, _ = stage.canvas.bbox(item)
		back = look.box(right - left + look.px(16), look.px(20), 8, "#14181F")
		stage.canvas.tag_lower(stage.image(0, below, back, "center", tag), item)
		self._floating[tag] = monotonic(), stage.extent[0] * (0.2 + 0.6 * random.random())
		self.step()

	def step(self) -> None:
		"""Move them on; called at every tick."""
		now, stage, half = monotonic(), self.stage, self.stage.look.px(22)
		for tag, (start, x) in list(self._floating.items()):
			part = (now - start) / self.SECONDS
			if part >= 1:
				stage.wipe(tag)
				del self._floating[tag]
				continue
			y = stage.extent[1] * (0.92 - 0.8 * (1 - (1 - part) ** 2))
			sway = stage.look.px(14) * math.sin(part * 7 + x)
			stage.canvas.moveto(tag, round(x + sway) - half, round(y) - half)

	def clear(self) -> None:
		"""Take all away."""
		self.stage.wipe("react")
		self._floating.clear()


# ====
# [30] PANELS - side bar, top bar, chat, attendees, files
# Uses: BASICS, WIRE, CALL, TEXTS, DRAWING, WIDGETS, STAGE

# -- commands


@frozen
class Command:
	"""Something to do in a meeting, wherever that is offered: by keys, on bars, in menus."""

	keys: str  # as the user reads them
	words: str  # on its button and in its menus
	tip: str  # of its button, and among the shortcuts, where one without is listed with the one above
	does: Callable[..., object]  # with the MainAppView, and in the menu of a person with the Person
	# foot, top, bar; quiet, class: of the class's card; person: its menu; tile, screen: over it; or a panel's
	where: str = "side"
	icon: str = ""  # where it is not called as the command is
	host: bool = False  # only hosts and co-hosts may
	when: Callable[[Snapshot], bool] = lambda _: True
	whom: Callable[[Snapshot, Person], bool] = lambda *_: True  # in whose menu
	on: Callable[[Snapshot, Person], bool] = lambda *_: False  # it is so: ticked there, and undone
	apart: bool = False  # below a line in its menu
	again: bool = False  # and again while its key is held

	def may(self, shot: Snapshot, *about: Person | None) -> bool:
		"""Whether it can be done now, and with that other person."""
		whom = all(one and one.id != shot.me and self.whom(shot, one) for one in about)
		return whom and self.when(shot) and (shot.leads or not self.host)


class Do:
	"""Gives the command `do`; `key`: whose menu it is in, nobody where it is so already."""

	def __init__(self, do: str, key: str = "who", **more: Any):
		self.do, self.key, self.more = do, key, more

	def __call__(self, view: Any, about: Person | None = None, on: bool = False) -> None:
		view.act(self.do, **({self.key: None if on else about.name} if about else {}) | self.more)


class Keyless(Command):
	"""A command without a key."""

	of_hosts = False

	def __init__(self, words: str, does: Callable[..., object], where: str = "person", **more: Any):
		super().__init__("", words, "", does, where, host=self.of_hosts, **more)


class Hosts(Keyless):
	"""One of hosts and co-hosts."""

	of_hosts = True


COMMANDS: Mapping[str, Command] = {
	"mic": Command("M, Ctrl+D", "Unmute", "Microphone on or off", lambda v: v.actions.toggle("mic")),
	"camera": Command("V, Ctrl+E", "Start video", "Camera on or off", lambda v: v.actions.toggle("camera")),
	"share": Command("Ctrl+Shift+S", "Share", "Share your screen", lambda v: v.actions.share()),
	"hand": Command("H", "Raise hand", "Hand up or down", lambda v: v.actions.hand()),
	"react": Command("R", "React", "React", lambda v: v.actions.react(), icon="smile"),
	"chat": Command("C", "Chat", "Chat", lambda v: v.flip_panel("messages")),
	"users": Command("U", "Users", "Users", lambda v: v.flip_panel("attendees")),
	"host": Hosts("Class", lambda v: v.flip_class(), "side", icon="shield"),
	"mute_all": Hosts("Mute all", lambda v: v.actions.mute_all(), "quiet attendees", icon="mic"),
	"quiet": Command(
		"Ctrl+Shift+M", "", "Only with the word",
		lambda v: v.act("permit", what="mic", on="mic" in v.shot.rules.off), "", host=True,
	),
	"still": Hosts("Stop all cameras", Do("mute", who="all", what="camera"), "quiet"),
	"stop": Hosts(
		"Stop the shared screen", Do("take_over"), "quiet",
		when=lambda shot: shot.presenter not in (0, shot.me),
	),
	"lower": Hosts(
		"Lower all hands", Do("lower", who="all"), "quiet attendees", when=lambda shot: bool(shot.hands)
	),
	"next": Command(
		"N", "Give the word", "Give the word", lambda v: v.act("word", to=v.shot.hands[0].name), "",
		host=True, when=lambda shot: bool(shot.hands),
	),
	"invite": Keyless("Invite others", lambda v: v.actions.invite(), "class"),
	"give": Keyless("Give this app to others", lambda v: v.actions.give_app(), "class"),
	"question": Hosts("Quick question…", lambda v: v.actions.ask_class(), "class"),
	"answers": Hosts(
		"Show the answers to all", Do("close_question"), "class",
		when=lambda shot: bool(shot.question.answers),
	),
	"hand_out": Hosts("Hand out a file…", lambda v: v.actions.upload("hand_out"), "class files"),
	"collect": Hosts(
		"Collect work…", lambda v: v.actions.ask_collect(), "class files",
		when=lambda shot: not shot.rules.collecting,
	),
	"collected": Hosts(
		"Stop collecting", Do("collect", open=False), "class work",
		when=lambda shot: bool(shot.rules.collecting),
	),
	"remind": Hosts("Remind them", Do("remind"), "work"),
	"folder": Hosts("Show in folder", lambda v: v.files.open_work(), "work"),
	"names": Hosts("Class list…", lambda v: v.actions.choose_names(), "attendees"),
	"list": Hosts("Save the list of who was here…", lambda v: v.actions.save_list(), "class"),
	"end": Hosts(
		"End the meeting for all…", lambda v: v.actions.ask_leave(), "class",
		when=lambda shot: shot.role == "host",
	),
	"heirs": Hosts(
		"Choose a computer", lambda v: v.show_panel("attendees"), "class",
		when=lambda shot: shot.role == "host",
	),
	"upload": Command("Ctrl+O", "Send a file", "Send a file", lambda v: v.actions.upload(), ""),
	"hand_in": Keyless("Hand in", lambda v: v.actions.upload("hand_in"), "bar"),
	"write": Keyless(
		"Write in private", lambda v, one: v.actions.write_to(one.name), "person tile", icon="chat",
		whom=lambda shot, one: one.leads or shot.may("private"),
	),
	"louder": Keyless("Louder for me", lambda v, one: v.actions.hear(one, 0.5)),
	"softer": Keyless("Softer for me", lambda v, one: v.actions.hear(one, -0.5)),
	"unheard": Keyless(
		"Mute for me", lambda v, one, on=False: v.act("volume", who=one.name, gain=float(on)),
		on=lambda shot, one: shot.gains.get(one.name) == 0,
	),
	"near": Keyless("In my room", Do("room", "same"), on=lambda shot, one: one.id in shot.around),
	"word": Hosts(
		"Give the word", Do("word", "to"), apart=True, on=lambda shot, one: one.name == shot.rules.word
	),
	"mute": Hosts("Mute", Do("mute"), whom=lambda _, one: one.mic),
	"show": Hosts(
		"Show to everyone", Do("spotlight"), on=lambda shot, one: one.name == shot.rules.spotlight
	),
	"ask_share": Hosts("Ask to show the screen", Do("ask_share"), "person tile", icon="share"),
	"cohost": Hosts(
		"Co-host", lambda v, one, on=False: v.act("cohost", who=one.name, on=not on),
		when=lambda shot: shot.role == "host", on=lambda _, one: one.leads,
	),
	"stand_by": Hosts("Goes on if this computer fails", Do("stand_by")),
	"hand_over": Hosts(
		"Hand the lesson over…", lambda v, one: v.actions.ask_hand_over(one.name),
		whom=lambda shot, one: shot.role == "host" and one.name in shot.heirs,
	),
	"rename": Hosts("Rename…", lambda v, one: v.actions.ask_name(one.name)),
	"allow": Hosts(
		"Allow to share the screen",
		lambda v, one, on=False: v.act("permit", who=one.name, what="share", on=not on),
		on=lambda shot, one: one.leads or shot.rules.permits("share", one.name),
		when=lambda shot: "share" in (*shot.rules.off, *shot.rules.exceptions),
	),
	"remove": Hosts("Remove from the meeting…", lambda v, one: v.actions.ask_remove(one.name)),
	"talk": Command("Space", "", "Hold Space to talk", lambda v: v.talk.press(), ""),
	"grid": Command("1", "", "Grid: everybody", lambda v: v.set_layout("grid"), "top"),
	"speaker": Command("2", "", "Speaker: who talks, large", lambda v: v.set_layout("speaker"), "top"),
	"focus": Command("3", "", "Focus: one picture only", lambda v: v.set_layout("focus"), "top"),
	"farther": Command(
		"−", "", "Zoom the shared screen", lambda v: v.stage.zoom.by(0.8), "screen", "minus", again=True
	),
	"fit": Command("0", "", "", lambda v: v.stage.zoom.by(0), "screen", "focus"),
	"closer": Command("+", "", "", lambda v: v.stage.zoom.by(1.25), "screen", "plus", again=True),
	"pin": Command("P", "", "Pin the picture under the mouse", lambda v: v.stage.pin_under(), "tile screen"),
	"more": Keyless("More", lambda v: v.stage.hover.menu(v.stage.hover.under), "tile"),
	"answer": Command("A", "", "Do what the newest notice offers", lambda v: v.toasts.answer(), ""),
	"full": Command("F11", "", "Full screen", lambda v: v.actions.full_screen(), "top"),
	"keys": Command("?", "", "This list", lambda v: v.settings("keys"), ""),
	"leave": Command("Esc", "Leave", "Leave the meeting", lambda v: v.actions.ask_leave(), "foot"),
	"settings": Keyless("Settings", lambda v: v.settings(), "foot", icon="gear"),
}  # fmt: skip


def commands_at(where: str) -> dict[str, Command]:
	"""The commands that are offered there, by name."""
	return {name: one for name, one in COMMANDS.items() if where in one.where.split()}


# -- bars


class SideBar:
	"""The left bar: what one does all the time."""

	def __init__(self, look: Look, parent: tk.Misc, run: Run):
		self.look = look
		px, p = look.px, look.palette
		self.frame = look.frame(parent, p.panel)
		logo = Painted(look, self.frame, px(82), px(64))
		logo.image(px(41), px(32), look.photo(draw_logo, px(38)), "center")
		logo.pack()
		self.logo = logo.canvas
		self.buttons: dict[str, BarButton] = {}
		self._offered: list[str] = []
		for name, one in {**commands_at("side"), **commands_at("foot")}.items():
			self.buttons[name] = BarButton(
				look, self.frame, partial(run, name), tr(one.words), one.icon or name, "card", px(82), 70,
				one.tip or one.words, one.keys,
			)  # fmt: skip
		self.buttons["leave"].show(kind="danger")
		self.buttons["host"].wordy = True
		self.frame.bind("<Configure>", lambda event: self._squeeze(event.height))

	def _squeeze(self, height: int) -> None:
		px, count = self.look.px, len(self.buttons)
		tall = next((tall for tall in (70, 48) if px(72 + (tall + 2) * count) <= height), 42)
		for button in self.buttons.values():
			button.configure(height=px(tall))
			button.show(tall=tall)
		self.logo.configure(height=px(1 if tall == 42 else 64))

	def show(self, shot: Snapshot, talking: bool) -> None:
		"""Show what is live, muted or raised, and what may be done."""
		offered, px = [name for name in self.buttons if COMMANDS[name].may(shot)], self.look.px
		if offered != self._offered:
			self._offered = offered
			for button in self.buttons.values():
				button.canvas.pack_forget()
			for name in offered:
				side = "bottom" if COMMANDS[name].where == "foot" else "top"
				self.buttons[name].pack(side=side, pady=(px(1), px(8 if name == "leave" else 1)))
		if (me := shot.person(shot.me)) is None:
			return
		mic_failed = shot.devices.get("mic") == "failed"
		mic, camera, hand = map(shot.wants, ("mic", "camera", "hand"))  # what does not run yet is faint
		for what in ("mic", "camera", "share", "react"):
			why, button = "" if shot.may(what) else not_permitted(what).reason, self.buttons[what]
			button.show(locked=why)
			button.tip.words = why or COMMANDS[what].tip
		self.buttons["users"].show(unread=len(shot.hands))
		sharing = shot.presenter == shot.me and shot.me > 0
		speak = "Mute" if mic else "Unmute" if shot.may("mic") else "Ask to speak"
		heard = "live" if talking else "warn" if not mic else "card" if me.mic else "ghost"
		filmed = "warn" if not camera else "card" if me.camera else "ghost"
		looks: dict[str, Any] = {
			"mic": (speak, heard, not mic or mic_failed),
			"camera": ("Stop video" if camera else "Start video", filmed, not camera),
			"share": ("Stop share", "live") if sharing else ("Share", "card"),
			"hand": ("Lower hand", "primary") if hand else ("Raise hand", "card"),
		}
		for name, (words, kind, *slash) in looks.items():
			self.buttons[name].show(words=tr(words), kind=kind, slash=any(slash))


class Pill(Button):
	"""A button of the top bar: an icon, words, and perhaps a link."""

	eager = True

	def __init__(self, look: Look, parent: tk.Misc, tip: str, command: Act):
		self.now: tuple[Any, ...] = ()
		super().__init__(look, parent, command, kind="card", height=36, tip=tip)

	def say(
		self, words: str, icon: str = "", colour: str = "", link: str = "", lead: str = "", bars: int = 0
	) -> None:
		"""Show these; `bars` of 3 signal bars when above 0."""
		self.show(now=(words, icon, colour, link, lead, bars))

	def paint(self) -> None:
		if not self.now:
			return
		words, icon, colour, link, lead, bars = self.now
		look, px, p = self.look, self.px, self.palette
		self.wipe()
		x, middle = px(11), px(18)
		if lead:
			self.text(x, middle, lead, 11, bold=True, colour=p.third)
			x += look.font(11, bold=True).measure(lead) + px(8)
		if icon:
			self.icon(x, middle, icon, 17, colour or p.second, anchor="w")
		for at in range(3 if bars else 0):
			high = px(6 + 4 * at)
			fill = colour if at < bars else p.line
			self.canvas.create_rectangle(
				x + px(6 * at), px(25) - high, x + px(6 * at + 4), px(25), fill=fill, width=0
			)
		x += px(24) if icon or bars else 0
		self.text(x, middle, words, 13, bold=True)
		x += look.font(13, bold=True).measure(words) + px(11)
		if link:
			self.text(x - px(1), middle, link, 12, bold=True, colour=p.link)
			x += look.font(12, bold=True).measure(link) + px(10)
		self.configure(width=x)
		self.box(0, 0, x, px(36), 9, self.shade(p.card, p.raised), self.ring, 2, name="back")
		self.canvas.tag_lower("back")


def in_place(one: Painted) -> bool:
	"""Whether it is among what its parent shows."""
	return bool(one.canvas.winfo_manager())


class TopBar:
	"""Title, address, encryption, time; what is set for the class, PIN, quality, people, layouts."""

	STATES: ClassVar[Mapping[str, tuple[str, Json]]] = {  # its tip, and how a host ends it
		"quiet": ("Only with the word", {"do": "permit", "what": "mic", "on": True}),
		"star": ("Show to everyone", {"do": "spotlight", "who": None}),
		"timer": ("Countdown", {"do": "timer", "seconds": 0}),
	}

	def __init__(self, look: Look, parent: tk.Misc, run: Run, act: Callable[..., None]):
		self.look, self.act = look, act
		px, p = look.px, look.palette
		self.frame = look.frame(parent, p.panel)
		self.title = Painted(look, self.frame, px(100), px(58))
		group = Card(look, self.frame, 10).canvas
		self.layouts: dict[str, Button] = {}
		for name, one in commands_at("top").items():
			place, kind, height = (self.frame, "card", 36) if name == "full" else (group, "ghost", 32)
			self.layouts[name] = Button(
				look, place, partial(run, name), "", name, kind, height=height, tip=one.tip, key=one.keys
			)
			self.layouts[name].pack(side="left", padx=px(2), pady=px(2))
		self.full = self.layouts.pop("full")
		self.full.pack(side="right", padx=(px(8), px(16)), pady=px(11))
		group.pack(side="right", padx=px(4))
		self.people = Pill(look, self.frame, COMMANDS["users"].tip, partial(run, "users"))
		self.quality = Pill(look, self.frame, "Connection to the host", lambda: None)
		self.quality.configure(takefocus=False)
		self.pin = Pill(look, self.frame, COMMANDS["invite"].words, partial(run, "invite"))
		for pill in (self.people, self.quality, self.pin):
			pill.pack(side="right", padx=px(4))
		self.states = {
			name: Pill(look, self.frame, tip, partial(self._end, command))
			for name, (tip, command) in self.STATES.items()
		}
		self.title.pack(side="left", **FILL, padx=(px(22), px(8)))
		self.title.bind("<Configure>", lambda _: self._write())
		self.frame.bind("<Configure>", lambda event: self._squeeze(event.width))
		self._lines = ("", "")
		self._narrow = False
		self._told: tuple[Any, ...] = ()

	def _squeeze(self, width: int) -> None:
		self._narrow = width < self.look.px(880 + 160 * sum(map(in_place, self.states.values())))

	def _end(self, command: Json) -> None:
		if self._told[0].leads:
			self.act(**command)

	def _states(self, shot: Snapshot, left: int) -> None:
		star = shot.rules.spotlight
		words = {
			"quiet": ("lock", tr("Only with the word"), "mic" in shot.rules.off),
			"star": ("star", tr("Everyone sees {name}", name=tr("You") if star == shot.name else star), star),
			"timer": ("clock", f"{left // 60}:{left % 60:02}", left),
		}
		for name, pill in self.states.items():
			icon, said, on = words[name]
			if on:
				short = self._narrow and name != "timer"
				said = "" if short else self.look.clip(said, self.look.font(13), self.look.px(190))
				pill.say(said, icon, self.look.palette.warn, link="×" if shot.leads else "")
			if bool(on) != in_place(pill):
				if on:
					pill.pack(side="right", padx=self.look.px(4), before=self.title.canvas)
				else:
					pill.canvas.pack_forget()
				self._squeeze(self.frame.winfo_width())

	def show(self, shot: Snapshot, layout: str, now: float, address: str) -> None:
		"""Show the meeting as it is at `now` (monotonic seconds); others find it at `address`."""
		seconds = max(0, int(now - shot.since)) if shot.since else 0
		left = max(0, math.ceil(shot.timer - now)) if shot.timer else 0
		if self._told != (told := (shot, layout, address, seconds, left, self._narrow)):
			self._told = told
			self._show(*told[:5])

	def _show(self, shot: Snapshot, layout: str, address: str, seconds: int, left: int) -> None:
		p = self.look.palette
		spent = f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"
		facts = [tr("Encrypted on this network"), address]
		facts += [tr("Host: {name}", name=shot.teacher)] if shot.host else []
		lines = (shot.title, "  ·  ".join([*facts, spent]))
		if lines != self._lines:
			self._lines = lines
			self._write()
		self._states(shot, left)
		self.people.say(str(len(shot.people)), "users")
		lost, delay = shot.link == "reconnecting", shot.delay_ms
		bars = 1 if lost else 1 + (delay < 250) + (delay < 80)
		words = tr("No link" if lost else ("Poor", "Fair", "Good")[bars - 1])
		words += "" if lost or self._narrow else f" · {delay:.0f} ms"
		self.quality.say(words, colour=(p.bad, p.warn, p.good)[bars - 1], bars=bars)
		if shot.pin:
			self.pin.say(spaced_pin(shot.pin), link="" if self._narrow else tr("Invite"), lead="PIN")
		else:
			self.pin.say(tr("Invite"), "plus")
		for name, button in self.layouts.items():
			button.show(kind="primary" if name == layout else "ghost")

	def _write(self) -> None:
		title, facts = self._lines
		px, p = self.look.px, self.look.palette
		room = self.title.extent[0]
		while "  ·  " in facts and self.look.font(12).measure(facts) > room - px(20):
			facts = facts.rpartition("  ·  ")[0]
		self.title.wipe()
		self.title.text(0, px(20), title, 15, bold=True, room=room)
		self.title.icon(0, px(41), "lock", 14, p.good, anchor="w")
		self.title.text(px(20), px(41), facts, 12, colour=p.second, room=room - px(20))


class NoticeBar:
	"""Lines between top bar and stage that stay while something is so, each with what can be done."""

	MOST = 2

	def __init__(self, look: Look, parent: tk.Misc):
		self.look = look
		self.frame = look.frame(parent, look.palette.window)
		self._now: list[Any] = []

	def show(self, *lines: tuple[Any, ...]) -> bool:
		"""Show the first lines of (words, kind of its buttons, (words, command) of each); whether any is."""
		now = [(words, kind, [one for one, _ in choices]) for words, kind, *choices in lines]
		if self._now != now:
			self._now = now
			for child in self.frame.winfo_children():
				child.destroy()
			for line in lines[: self.MOST]:
				self._line(*line)
		return bool(lines)

	def _line(self, words: str, kind: str, *choices: tuple[str, Act]) -> None:
		look, px = self.look, self.look.px
		row = look.frame(self.frame, look.palette.chosen)
		row.pack(fill="x", pady=(0, 1))
		for said, command in reversed(choices):
			said = look.clip(said, look.font(13, bold=True), px(200 if len(choices) > 1 else 400))
			button = Button(look, row, command, said, kind=kind, height=34)
			button.pack(side="right", padx=(0, px(12)), pady=px(3))
		line = Painted(look, row, px(60), px(40))
		line.pack(side="left", **FILL, padx=(px(16), px(8)))
		line.bind("<Configure>", lambda event: self._write(line, words, event.width))

	def _write(self, line: Painted, words: str, room: int) -> None:
		look, px = self.look, self.look.px
		line.wipe()
		line.icon(0, px(20), "info", 18, look.palette.link, anchor="w")
		line.text(px(28), px(20), words, 13, room=room - px(28))


# -- the side panel

FOLD = (20, 2_000)  # lines and characters that are shown of a longer message


@frozen
class NoteRow(Row):
	"""A line of small print in the middle of the list."""

	words: str

	def draw(self, view: ListView, y: int, width: int) -> int:
		px, tone = view.px, view.palette.third
		view.text(width // 2, y + px(19), self.words, 12, False, tone, width - px(30), "center")
		return px(34)


@frozen
class ChatRow(Row):
	"""A message in its bubble, folded if long until it is shown `whole`; the `first` of its sender's group
	has picture, name and time above."""

	line: ChatLine
	first: bool
	host: bool
	whole: bool
	panel: ChatPanel = field(compare=False)

	def draw(self, view: ListView, y: int, width: int) -> int:
		look, px, p, line = view.look, view.px, view.palette, self.line
		room = max(px(80), width - px(76 if line.own else 100))
		lines, wide, more = self.panel.lines(line.text, room, self.whole)
		action = tr("Show all") if more else tr("Show less") if self.whole else ""
		wide = max(wide, look.font(13, bold=True).measure(action))
		step = max(look.font(13).metrics("linespace"), px(19))
		head, box_wide = px(26) if self.first else 0, wide + px(26)
		box_tall = (len(lines) + bool(action)) * step + px(18)
		high = head + box_tall + px(6)
		if y >= view.extent[1]:  # it is only measured
			return high
		left, top = width - box_wide - px(8) if line.own else px(46), y + head
		if self.first:
			self._head(view, y, width)
		fill = p.accent if line.own else p.card
		ring = p.focus if line.n in self.panel.picked else p.warn if line.to else ""
		if line.n in self.panel.picked:
			self._box(view, 0, top - px(3), width, box_tall + px(6), 6, p.chosen)
		self._box(view, left, top, box_wide, box_tall, 13, fill, ring)
		left, top = left + px(13), top + px(9)
		self._words(view, lines, left, top, step)
		top += len(lines) * step
		if action and top < view.extent[1]:
			colour = p.on_accent if line.own else p.link
			view.text(left, top + step // 2, action, 13, bold=True, colour=colour)
			box = left - px(6), top, wide + px(12), step
			view.spot(f"fold{line.n}", box, partial(self.panel.fold, line.n))
		return high

	def _box(
		self, view: ListView, x: int, y: int, wide: int, tall: int, radius: int, fill: str, ring: str = ""
	) -> None:
		cut = max(0, -y // 512 - 1) * 512
		tall = min(tall - cut, (view.extent[1] // 512 + 4) * 512)
		view.box(x, y + cut, wide, tall, radius, fill, ring)

	def _words(self, view: ListView, lines: list[str], x: int, y: int, step: int) -> None:
		first = max(0, -y // step)
		seen = range(first, min(len(lines), first + view.extent[1] // step + 2))
		look, line = view.look, self.line
		colour = look.palette.on_accent if line.own else look.palette.text
		if shaped(line.text):
			for at in seen:
				photo = look.written(lines[at], 13, colour, PAINTED_MAX)
				view.image(x, y + at * step + step // 2, photo, "w")
			return
		links = LINK.findall(line.text)
		for at in seen:
			look.write(view.canvas, x, y + at * step, lines[at], look.font(13), colour, "nw")
			whole = [(one, link_at(one, links, lines[at + 1 :])) for one in LINK.finditer(lines[at])]
			self._links(view, f"link{line.n}:{at}", whole, x, y + at * step, colour)
		self._emoji(view, lines, seen, x, y, step)

	def _head(self, view: ListView, y: int, width: int) -> None:
		look, px, p, line = view.look, view.px, view.palette, self.line
		middle = y + px(14)
		at = clock(line.at)
		private = tr("private to {name}", name=line.to) if line.own else tr("private")
		who = tr("You") if line.own else tr("Host") if self.host else ""
		words = f"{who} · {at}" if who else at
		if line.own:
			words = f"{private} · {words}" if line.to else words
			view.text(width - px(8), middle, words, 12, colour=p.warn if line.to else p.third, anchor="e")
			return
		view.image(px(4), y + px(26), look.avatar(line.sender, 32))
		small, strong, gap = look.font(12), look.font(12, bold=True), px(8)
		reply = strong.measure(tr("Answer"))
		rest = small.measure(words) + 2 * gap
		if line.to:
			rest += small.measure(private) + reply + 2 * gap
		room = max(px(48), width - px(46) - rest)
		item = view.text(px(46), middle, line.sender, 13, bold=True, room=room)
		x = view.canvas.bbox(item)[2] + gap
		view.text(x, middle, words, 12, colour=p.link if self.host else p.third)
		if line.to:
			view.text(x + small.measure(words) + gap, middle, private, 12, colour=p.warn)
			box = (width - reply - px(14), y + px(3), reply + px(10), px(22))
			view.spot(f"reply{line.n}", box, partial(self.panel.composer.to, line.sender))
			view.text(width - gap, middle, tr("Answer"), 12, bold=True, colour=p.link, anchor="e")

	def _links(
		self, view: ListView, name: str, links: Sequence[tuple[re.Match[str], str]], x: int, y: int,
		colour: str,
	) -> None:  # fmt: skip
		font = view.look.font(13)
		for found, whole in links:  # the line may hold its beginning alone
			start, end = (x + font.measure(found.string[:at]) for at in found.span())
			base = y + font.metrics("ascent") + 2
			view.canvas.create_line(start, base, end, base, fill=colour)
			box = start, y, end - start, font.metrics("linespace")
			view.spot(f"{name}:{found.start()}", box, partial(webbrowser.open, whole))

	def _emoji(self, view: ListView, lines: list[str], seen: range, x: int, y: int, step: int) -> None:
		font, blank = view.look.font(13), self.panel.blank
		found = iter(key for hit in EMOJI_PATTERN.findall(self.line.text) if (key := emoji_key(hit)))
		for at, words in enumerate(lines[: seen.stop]):
			for hit in re.finditer(blank, words):
				if (char := next(found, "")) and at in seen:
					left = x + font.measure(words[: hit.start()])
					view.image(left, y + at * step + step // 2, view.look.emoji(char, 18), "w")


class Composer:
	"""Where a message is written: To, text, emoji, a file, send."""

	PICTURES = 200  # of emoji, further ones are boxes: Tk's time grows with the square of them

	def __init__(self, look: Look, parent: tk.Misc, send: Callable[[str, str], None], attach: Act, save: Act):
		self.look, self.send = look, send
		px, p = look.px, look.palette
		self.card = Card(look, parent, 12, p.line)
		self.frame = inner = self.card.canvas
		self.mark = look.label(inner, "", 12, bold=True, width=px(250))
		self._names: Sequence[str] = ()
		self._all = True  # everyone can be written to
		self._stead: str | None = None  # who stands in for everyone
		self._back: list[tuple[str, str]] = []  # refused, and the field was not free
		self.entry = keyed(tk.Text(
			inner, height=3, width=10, wrap="word", bg=p.card, fg=p.text, insertbackground=p.focus, bd=0,
			highlightthickness=0, font=look.font(13), selectbackground=p.accent, undo=True,
			selectforeground=p.on_accent, padx=px(12), pady=px(8),
		))  # fmt: skip
		self.entry.pack(fill="x", padx=px(4), pady=(px(4), 0))
		row = look.frame(inner)
		row.pack(fill="x", padx=px(8), pady=(0, px(8)))
		self.target = Choice(look, row, [("", tr("To: Everyone"))], "", self.to, 32)
		self.target.text_size = 12
		go = Button(
			look, row, self.submit, "", "send", "primary", width=px(44), height=32, tip="Send", key="Enter"
		)
		go.pack(side="right")
		files = ("download", "Save the chat", save, ""), ("clip", "Send a file", attach, "Ctrl+O")
		for icon, tip, command, key in files:
			button = Button(look, row, command, "", icon, "ghost", height=32, tip=tip, key=key)
			button.pack(side="right", padx=(0, px(2)))
		self.smile = Button(look, row, self._pick, icon="smile", kind="ghost", height=32, tip="Emoji")
		self.smile.pack(side="right")
		self.target.pack(side="left", fill="x", expand=True, padx=(0, px(4)))
		self.hint = look.label(inner, "", 13, colour=p.third)
		self.hint.bind("<Button-1>", lambda _: self.entry.focus_set())
		self._photos: list[ImageTk.PhotoImage] = []
		self._boxes: dict[str, str] = {}  # what stands for an emoji, which is no letter of any language
		self.entry.bind("<<Return>>", lambda _: self._enter())
		self.entry.bind("<Shift-Return>", lambda _: None)
		for key in ("<Tab>", "<Shift-Tab>"):
			self.entry.unbind_class("Text", key)  # it moves on, as everywhere
		self.entry.bind("<KeyRelease>", lambda _: self._changed())
		for event in ("<FocusIn>", "<FocusOut>", "<<Paste>>"):
			self.entry.bind(event, lambda _: self.entry.after_idle(self._changed))
		self.entry.bind("<Destroy>", lambda _: self._photos.clear())
		self._hint()

	@property
	def here(self) -> bool:
		return self.target.value in ("", *self._names)

	def people(self, names: Sequence[str], to_all: bool = True) -> None:
		"""Who can be written to in private; who was chosen stays chosen, here or not.

		Not `to_all`: everyone cannot be written to, and the first is in their place; what was begun stays so.
		"""
		self._names, self._all, to = names, to_all, self.target.value
		if to_all and to == self._stead and not self.text():
			self._aim("")
		elif names and not (to_all or to):
			self._stead = names[0]
			self._aim(names[0])
		to = self.target.value
		all_names = names if self.here else [*names, to]
		options = [("", tr("To: Everyone"))] if to_all else []
		options += [(name, tr("To: {name}", name=name)) for name in all_names]
		if (options, self.target.faint) != (self.target.options, not self.here):
			self.target.show(faint=not self.here, options=options, value=to)
			self._hint()

	def to(self, name: str) -> None:
		"""Write to `name` alone, though not here now, or to everyone where that is ""."""
		self._stead = None
		self._aim(name)
		self.focus()

	def _aim(self, name: str) -> None:
		self.target.show(options=[], value=name)
		self.people(self._names, self._all)

	def _hint(self, refused: bool = False) -> None:
		to, p = self.target.value, self.look.palette
		words = tr("private to {name}" if self.here else "{name} is not here now: nothing is sent.", name=to)
		self.mark.configure(text=plain(words), fg=p.bad_text if refused else p.warn)
		self.card.outline = p.warn if to else p.line
		self.card.refresh()
		if to:
			self.mark.pack(before=self.entry, anchor="w", padx=self.look.px(16), pady=(self.look.px(8), 0))
		else:
			self.mark.pack_forget()
		self._changed()

	def _changed(self) -> None:
		if not self.entry.winfo_exists():
			return
		self._no_raw_emoji()
		if self.text() or has_focus(self.entry):
			self.hint.place_forget()
		else:
			self.hint.configure(text="" if self.target.value else tr("Message everyone"))
			self.hint.place(in_=self.entry, x=self.look.px(12), y=self.look.px(8))

	def _no_raw_emoji(self) -> None:
		entry = self.entry
		if not EMOJI_PATTERN.search(entry.get("1.0", "end-1c")):
			return
		before, after = self.text(end="insert"), self.text("insert")
		entry.delete("1.0", "end")
		self._photos.clear()
		self._write(before)
		cursor = entry.index("insert")
		self._write(after)
		entry.mark_set("insert", cursor)
		entry.see("insert")
		entry.edit_reset()  # it would undo words at wrong places

	def _write(self, text: str) -> None:
		room = max(1, self.PICTURES - len(self._photos))
		*parts, rest = re.split(f"({EMOJI_PATTERN.pattern})", text, maxsplit=room)
		for n, part in enumerate(parts):
			(self._insert if n % 2 else partial(self.entry.insert, "insert"))(part)
		self.entry.insert("insert", EMOJI_PATTERN.sub(lambda found: self._box(found[0]), rest))

	def _box(self, char: str) -> str:
		return self._boxes.setdefault(char, chr(0xE000 + len(self._boxes)))  # of the private use area

	def _insert(self, char: str) -> None:
		if not (key := emoji_key(char)):
			self.entry.insert("insert", plain(char))
			return
		photo = self.look.emoji(key, 18)
		self._photos.append(photo)
		self.entry.image_create("insert", image=str(photo), name=self._box(key), padx=1)

	def resume(self, text: str, to: str) -> None:
		"""Go on with a draft, or one that was refused, to `to` alone unless that is ""."""
		if (draft := self.text()) and to != self.target.value:
			self._back.append((text, to))  # it waits: two texts to two people are not mixed
			return
		self.entry.insert("1.0", text + ("\n" if draft else ""))
		self._aim(to)

	def text(self, start: str = "1.0", end: str = "end-1c") -> str:
		"""What was written, pictures and boxes as their emoji again."""
		parts = self.entry.dump(start, end, text=True, image=True)
		text = "".join(value[0] if kind == "image" else value for kind, value, _ in parts)
		return text.translate({ord(box): char for char, box in self._boxes.items()})

	def _enter(self) -> str:
		self.submit()
		return "break"

	def submit(self) -> None:
		"""Send what was written."""
		if (text := trimmed(self.text())) and not self.here:
			self._hint(refused=True)
		elif text:
			self.send(text, self.target.value)
			self.entry.delete("1.0", "end")
			self._photos.clear()
			self._changed()
			if self._back:
				self.resume(*self._back.pop())

	def _pick(self) -> None:
		EmojiPicker(self.look, tuple(emoji_shapes()), self._picked, self.smile.canvas, columns=8)

	def type(self, char: str) -> None:
		"""Take a letter that was typed elsewhere, and the keyboard."""
		self.focus()
		self.entry.tk.call("tk::TextInsert", self.entry, char)

	def focus(self) -> None:
		"""Take the keyboard, at once: Tk gives it to what is not laid out yet later, and spaces get lost."""
		self.entry.update_idletasks()
		self.entry.focus_set()

	def _picked(self, char: str) -> None:
		self._insert(char)
		self.focus()
		self._changed()


def copy_text(root: tk.Tk, text: str) -> None:
	"""Put `text` on the clipboard."""
	root.clipboard_clear()
	root.clipboard_append(text)


class ChatPanel:
	"""Messages, grouped by sender, and the composer."""

	def __init__(self, look: Look, parent: tk.Misc, act: Callable[..., None], attach: Act, save: Act):
		self.look, self.act = look, act
		self.picked = range(0)  # the numbers of the messages selected
		self._anchor = 0
		self.frame = look.frame(parent, look.palette.panel)
		one = max(1, look.font(13).measure("\u00a0"))
		self.blank = "\u00a0" * -(-look.px(20) // one)
		self.lines = lru_cache(100)(self._lines)
		self._whole = set[int]()  # the numbers of the messages shown in full
		self.composer = Composer(look, self.frame, self._send, attach, save)
		self.composer.frame.pack(side="bottom", fill="x", padx=look.px(14), pady=look.px(14))
		self.list = ListView(look, self.frame, stick=True)
		self.list.bind("<<ContextMenu>>", self._menu)
		self.list.bind("<Button-1>", self._pick, add="+")
		self.list.bind("<Shift-Button-1>", self._stretch)
		self.list.bind("<B1-Motion>", self._stretch)
		self.list.bind("<<Copy>>", lambda _: self.copy())
		self.list.bind("<<SelectAll>>", lambda _: self._select(range(1, 1 << 53)))
		self.list.pack(**FILL, padx=(look.px(12), look.px(4)))
		self._notes: list[tuple[int, str]] = []
		self._seen: tuple[Any, ...] = ()
		self._sent: dict[str, tuple[str, str]] = {}  # (text, to) by `ref`, until it is known to be said

	def _pick(self, event: Event) -> None:
		self.list.focus_set()
		row = self.list.row_at(event.y)
		self._anchor = row.line.n if isinstance(row, ChatRow) else 0
		self._select(range(self._anchor, self._anchor + bool(self._anchor)))

	def _stretch(self, event: Event) -> str:
		row = self.list.row_at(event.y)
		if isinstance(row, ChatRow) and self._anchor:
			low, high = sorted((self._anchor, row.line.n))
			self._select(range(low, high + 1))
		return "break"

	def _select(self, picked: range) -> None:
		if picked != self.picked:
			self.picked = picked
			self.list.refresh()

	def copy(self) -> None:
		"""Put the selected messages on the clipboard: one as its words, more with names and times."""
		rows = [row.line for row in self.list.rows if isinstance(row, ChatRow) and row.line.n in self.picked]
		if rows:
			words = [rows[0].text] if len(rows) == 1 else map(chat_words, rows)
			copy_text(self.look.root, "\n".join(words))

	def _lines(self, text: str, room: int, whole: bool) -> tuple[list[str], int, bool]:
		most, font = FOLD, self.look.font(13)
		lines = wrapped(text if whole else text[: most[1]], font, room, self.blank)
		more = not whole and (len(lines) > most[0] or len(text) > most[1])
		lines = lines[: most[0]] if more else lines
		return lines, min(room, max(map(self.look.measure(text, 13), lines))), more

	def fold(self, number: int) -> None:
		"""Show a message in full, or its beginning again."""
		self._whole ^= {number}
		rows = list(self.list.rows)
		at = next(n for n, row in enumerate(rows) if isinstance(row, ChatRow) and row.line.n == number)
		rows[at] = replace(rows[at], whole=number in self._whole)
		self.list.show(rows, stay=True)

	def note(self, words: str, after: int) -> None:
		"""A line of what happened, after message number `after`; of many alike, one."""
		at, last = self._notes[-1] if self._notes else (0, "")
		if at == after and isinstance(last, Words) and last.key == getattr(words, "key", ""):
			first, _, more = last.values["name"].partition(" +")
			words = Words(last.key, **{**last.values, "name": f"{first} +{int(more or 0) + 1}"})
			self._notes.pop()
		self._notes = [*self._notes[-199:], (after, words)]
		self._seen = ()

	def show(self, shot: Snapshot) -> None:
		"""Show the messages of the snapshot."""
		others = [one for one in shot.people if one.id != shot.me and (one.leads or shot.may("private"))]
		others.sort(key=lambda one: (one.role != "host", one.name.casefold()))
		names = [shot.missed] * bool(shot.missed) + [one.name for one in others]
		self.composer.people(names, shot.may("chat"))
		seen = (len(shot.chat), shot.chat[-1:] and shot.chat[-1].n, shot.hosts)
		if seen == self._seen:
			return
		self._seen = seen
		rows: list[Row] = []
		notes, group = deque(self._notes), attrgetter("sender", "to", "own")
		before: ChatLine | None = None
		day = ""
		for line in shot.chat:
			while notes and notes[0][0] < line.n:
				rows.append(NoteRow(tr(notes.popleft()[1])))
				before = None
			today = clock(line.at, "%Y-%m-%d")
			if today != day:
				now = today == time.strftime("%Y-%m-%d")
				rows.append(NoteRow(f"{tr('Today')} {clock(line.at)}" if now else today))
				day, before = today, None
			joined = before and group(before) == group(line) and line.at - before.at < 180
			rows.append(ChatRow(line, not joined, line.sender in shot.hosts, line.n in self._whole, self))
			before = line
		rows += [NoteRow(tr(words)) for _, words in notes]
		self.list.show(rows or [NoteRow(tr("No messages yet"))])

	def _send(self, text: str, to: str) -> None:
		ref = token_hex(8)
		self._sent[ref] = text, to
		self.act("private" if to else "chat", text=text, ref=ref, **({"to": to} if to else {}))

	def answered(self, event: Json) -> None:
		"""A message that was refused comes back into the field."""
		sent = self._sent.pop(str(event.get("ref")), None)
		if sent is not None and event.get("event") == "error":
			self.composer.resume(*sent)

	def _menu(self, event: Event) -> None:
		row = self.list.row_at(event.y)
		if not isinstance(row, ChatRow):
			return
		line = row.line
		entries: list[Entry] = [(tr("Copy"), partial(copy_text, self.look.root, line.text))]
		if not line.own:
			entries.append((tr("Write in private"), partial(self.composer.to, line.sender)))
		self.look.menu(self.list.canvas, entries).tk_popup(event.x_root, event.y_root)


@frozen
class PersonRow(Row):
	"""One attendee: picture, name, what is live, and a menu."""

	person: Person
	own: bool
	speaking: bool
	menu: Act = field(compare=False)
	facts: tuple[str, ...] = ()
	gone: str = ""  # since when
	choices: tuple[tuple[str, Act], ...] = field(default=(), compare=False)

	def draw(self, view: ListView, y: int, width: int) -> int:
		look, px, p, one = view.look, view.px, view.palette, self.person
		middle = y + px(26)
		view.image(px(4), y + px(8), look.avatar(one.name, 36))
		words = one.name + (f" ({tr('you')})" if self.own else "")
		if self.gone:
			view.text(px(52), middle - px(9), words, 13, bold=True, colour=p.third, room=width - px(60))
			view.text(px(52), middle + px(10), self.gone, 11, colour=p.warn, room=width - px(60))
			return px(52)
		facts = [tr("Host") * (one.role == "host"), *self.facts]
		facts += [tr("sharing the screen") * one.sharing, tr("talking") * self.speaking]
		known, room = " · ".join(filter(None, facts)), width - px(52) - px(110)
		view.text(px(52), middle - (px(9) if known else 0), words, 13, bold=True, room=room)
		view.text(px(52), middle + px(10), known, 11, colour=p.second, room=room)
		x = width - px(6)
		if not self.own:
			view.spot(f"more{one.id}", (x - px(28), y + px(12), px(28), px(28)), self.menu)
			view.icon(x - px(14), middle, "more", 18, p.second)
		x -= px(34)
		off = "" if one.camera else p.bad
		view.icon(x, middle, "camera", 17, p.third if off else p.second, off, anchor="e")
		icon, colour = ("bars", p.good) if self.speaking else ("mic", p.second)
		view.icon(x - px(26), middle, icon, 17, colour, "" if one.mic else p.bad, anchor="e")
		if one.hand:
			view.icon(x - px(52), middle, "hand", 17, p.warn, anchor="e")
		x = px(52)
		for at, (label, command) in enumerate(self.choices):
			x = row_button(view, f"hand{one.id}:{at}", x, y + px(50), label, command, main=not at)
		return px(88 if self.choices else 52)


def row_button(view: ListView, name: str, x: int, y: int, words: str, command: Act, main: bool) -> int:
	"""Draw a small button, strong if it is the `main` one; returns where the next one goes."""
	look, px, p = view.look, view.px, view.palette
	fill, colour = (p.accent, p.on_accent) if main else (p.raised, p.text)
	room = look.font(12, bold=True).measure(words) + px(24)
	view.spot(name, (x, y, room, px(30)), command)
	view.box(x, y, room, px(30), 8, fill)
	view.text(x + room // 2, y + px(15), words, 12, bold=True, colour=colour, anchor="center")
	return x + room + px(8)


@frozen
class DrawnRow:
	"""What somebody else draws."""

	draw: Callable[[ListView, int, int], int]


@frozen
class FlowRow(Row):
	"""Words, and below them buttons in as many lines as they need: `run` is told the name of one pressed.

	What `waits` to be decided has a bar at its left.
	"""

	words: str
	buttons: tuple[tuple[str, str, bool], ...] = ()  # name, words, strong
	run: Run = field(default=str, compare=False)
	waits: bool = False

	def draw(self, view: ListView, y: int, width: int) -> int:
		px, top = view.px, y
		left = x = px(12) * self.waits
		if self.waits:
			view.canvas.create_rectangle(0, y + px(4), px(4), y + px(62), fill=view.palette.warn, width=0)
		if self.words:
			view.text(left, y + px(16), self.words, 13, bold=True, room=width - left)
			y += px(32)
		for name, words, strong in self.buttons:
			room = view.look.font(12, bold=True).measure(words) + px(24)
			if x > left and x + room > width:
				x, y = left, y + px(36)
			x = row_button(view, name, x, y, words, partial(self.run, name), strong)
		return y + px(38) * bool(self.buttons) - top


@frozen
class BarRow(Row):
	"""How many of all have given an answer."""

	words: str
	count: int
	all_: int

	def draw(self, view: ListView, y: int, width: int) -> int:
		px, p = view.px, view.palette
		view.text(0, y + px(11), self.words, 13, room=width - px(70))
		view.text(width, y + px(11), f"{self.count} / {self.all_}", 13, bold=True, anchor="e")
		for wide, colour in ((width, p.raised), (width * self.count // max(1, self.all_), p.accent)):
			view.canvas.create_rectangle(0, y + px(23), wide, y + px(31), fill=colour, width=0)
		return px(40)


def offered_row(words: str, where: str, shot: Snapshot, run: Run) -> FlowRow:
	"""The commands that are offered at `where` and can be done now, below these words."""
	may = {name: one for name, one in commands_at(where).items() if one.may(shot)}
	return FlowRow(words, tuple((name, tr(one.words), False) for name, one in may.items()), run)


def knock_words(event: Json) -> str:
	"""Who waits to be let in."""
	return tr("{name} waits to be let in", name=f"{event['name']} ({event['address']})")


def name_words(name: str) -> set[str]:
	"""The words of a name as they count when names are compared."""
	return {*re.findall(r"\w+", name.casefold())}


class AttendeesPanel:
	"""Who is here: raised hands first in their order, then the host, then by name."""

	WHY: ClassVar = {"removed": "Somebody there was removed.", "pin": "That is not the PIN of this meeting."}

	def __init__(
		self, look: Look, parent: tk.Misc, menu_for: Callable[[int], None], act: Callable[..., None],
		run: Run,
	):  # fmt: skip
		self.menu_for, self.act, self.run = menu_for, act, run
		self.gone: dict[str, Gone] = {}  # who was here, by name
		self.names: Sequence[str] = ()  # the class
		px = look.px
		self.frame = look.frame(parent, look.palette.panel)
		self.search = Field(look, self.frame, hint=tr("Find a name"), height=38)
		self.search.pack(fill="x", padx=px(14), pady=(px(2), px(8)))
		self._shot = Snapshot()
		self.search.entry.bind("<KeyRelease>", lambda _: self.show(self._shot), add="+")
		self.list = ListView(look, self.frame)
		self.list.pack(**FILL, padx=(px(14), px(4)), pady=(0, px(8)))

	def show(self, shot: Snapshot) -> None:
		"""Show the people of the snapshot."""
		self._shot = shot
		wanted = self.search.value.casefold()
		lost = [one.person for one in self.gone.values() if one.lost]
		people = [one for one in (*shot.people, *lost) if wanted in one.name.casefold()]
		people.sort(
			key=lambda one: (one.hand or inf, one.role != "host", one.id != shot.me, one.name.casefold())
		)
		hands = shot.hands
		count = tr("Hands: {count}", count=len(hands)) if hands else ""
		rows: list[Row] = [offered_row(count, "attendees", shot, self.run)] * shot.leads
		rows += [row for event in shot.asks.values() for row in self._asking(event)]
		if shot.leads and (missing := self._missing()):
			rows.append(FlowRow(tr("Missing: {names}", names=len(missing))))
			rows += [NoteRow(", ".join(missing[at : at + 2])) for at in range(0, len(missing), 2)]
		rows += [self._person(one, hands) for one in people] or [NoteRow(tr("Nobody is called so"))]
		left = [name for name, one in self.gone.items() if not one.lost and name not in shot.banned]
		if left and shot.leads:
			rows.append(FlowRow(tr("Left: {names}", names=", ".join(left))))
		for name in shot.banned:
			words, back = tr("Removed: {name}", name=name), (name, tr("Let back"), False)
			rows.append(FlowRow(words, (back,), lambda who: self.act("unban", who=who)))
		self.list.show(rows)

	def _missing(self) -> list[str]:
		"""Who of the class was not here; the order of the words of a name does not count."""
		seen = [name_words(name) for name in (*(one.name for one in self._shot.people), *self.gone)]
		return [name for name in self.names if not any(name_words(name) <= one for one in seen)]

	def _person(self, one: Person, hands: list[Person]) -> PersonRow:
		shot, facts, choices = self._shot, list[str](), list[tuple[str, Act]]()
		if one.hand:
			waited = max(0, int(monotonic() - shot.since - one.hand))
			facts.append(f"{hands.index(one) + 1} · {waited // 60}:{waited % 60:02}")
			if shot.leads:
				choices = [
					(tr("Give the word"), partial(self.act, "word", to=one.name)),
					(tr("Lower hand"), partial(self.act, "lower", who=one.name)),
				]
		facts += [tr("has the word")] * (one.name == shot.rules.word)
		facts += [tr("heard through the air")] * (one.id in shot.around and one.id != shot.me)
		talks, menu = one.id == shot.speaking and one.mic, partial(self.menu_for, one.id)
		gone = ""
		if (lost := self.gone.get(one.name)) and lost.person is one:
			away = int(monotonic() - lost.at)
			gone = f"{tr('lost the connection')} · {away // 60}:{away % 60:02}"
		return PersonRow(one, one.id == shot.me, talks, menu, tuple(facts), gone, tuple(choices))

	def _asking(self, event: Json) -> Iterator[Row]:
		ask = f"ask{event['n']}"
		choices = ((f"{ask}:1", tr("Let in"), True), (f"{ask}:0", tr("Decline"), False))
		yield FlowRow(knock_words(event), choices, self._answer, waits=True)
		if why := self.WHY.get(event["why"]):
			yield NoteRow(tr(why))

	def _answer(self, name: str) -> None:
		self.act("admit", n=int(name[3:-2]), yes=name[-1] == "1")


@frozen
class FileRow(Row):
	"""One file: name, from whom or to whom, size, how far, and what can be done."""

	entry: FileEntry
	others: int
	actions: tuple[tuple[str, str, Act], ...] = field(compare=False)

	def draw(self, view: ListView, y: int, width: int) -> int:
		px, p, one = view.px, view.palette, self.entry
		tall = px(104 if self.actions else 70)
		view.box(0, y, width, tall, 12, p.card)
		view.box(px(14), y + px(14), px(40), px(40), 9, p.chosen)
		view.icon(px(34), y + px(34), "file", 20, p.link)
		room, bad = max(px(5), width - px(80)), one.state == "failed" or self._is_foreign_program()
		view.text(px(66), y + px(24), one.name, 13, bold=True, room=room)
		view.text(px(66), y + px(45), self._facts(), 11, colour=p.bad_text if bad else p.second, room=room)
		if one.state in ("uploading", "downloading"):
			done = round(room * min(1.0, one.done / max(1, one.size))) // 3 * 3
			for wide, colour in ((room, p.line), (max(px(5), done), p.accent)):
				view.box(px(66), y + px(57), wide, px(5), 3, colour)
		x = px(66)
		for name, words, command in self.actions:
			main = name in ("download", "open")
			x = row_button(view, f"{name}{one.file}", x, y + px(66), words, command, main=main)
		return tall + px(8)

	def _is_foreign_program(self) -> bool:
		return is_executable_name(self.entry.name) and not self.entry.own

	def _facts(self) -> str:
		one = self.entry
		whom = tr("from {name}", name=one.sender)
		if one.own:
			whom = tr("To: {name}", name=one.to) if one.to else "" if one.private else tr("To: Everyone")
		if one.state in ("uploading", "downloading"):
			facts = [whom, f"{self._state()} {100 * one.done // max(1, one.size)} %"]
			if one.rate:
				facts += [f"{size_words(one.rate)}/s", f"{(one.size - one.done) / one.rate:.0f} s"]
		else:
			harm = tr("a program: it may do harm") if self._is_foreign_program() else ""
			private = tr("private") if one.private and not one.to else ""
			handed = f"✓ {clock(one.at)}" if one.at else ""
			facts = [whom, handed, size_words(one.size), harm, self._state(), private]
		return " · ".join(filter(None, facts))

	def _state(self) -> str:
		one, all_ = self.entry, 1 if self.entry.private else max(self.others, self.entry.people)
		return {
			"uploading": tr("sending"), "downloading": tr("receiving"), "declined": tr("declined"),
			"saved": tr("saved"), "gone": tr("no longer offered"), "failed": tr(one.reason) or tr("failed"),
			"offered": tr("{some} of {all} have it", some=one.people, all=all_) if one.own else "",
		}[one.state]  # fmt: skip


class FilesPanel:
	"""Files offered to this meeting, and sending one's own."""

	def __init__(
		self, look: Look, parent: tk.Misc, act: Callable[..., None], upload: Act, view: Run, run: Run
	):
		self.act, self.view, self.run = act, view, run
		self._shot = Snapshot()
		px = look.px
		self.frame = look.frame(parent, look.palette.panel)
		foot = look.frame(self.frame)
		foot.pack(side="bottom", fill="x", padx=px(14), pady=px(12))
		self.picked = False
		self.target = Choice(look, foot, [], "", lambda _: setattr(self, "picked", True), 36)
		self.target.pack(fill="x", pady=(0, px(8)))
		Button(look, foot, upload, tr("Send a file"), "upload", "primary").pack(fill="x")
		folder = Button(look, foot, lambda: view(""), tr("View Downloads"), "folder", "card")
		folder.pack(fill="x", pady=(px(8), 0))
		self.list = ListView(look, self.frame).pack(**FILL, padx=(px(14), px(4)))

	def show(self, shot: Snapshot) -> None:
		"""Show the files of the snapshot, newest first, and whom one's own goes to: a pupil's to the host."""
		usual = "" if shot.leads else shot.teacher
		names = sorted({usual, *(one.name for one in shot.people if one.id != shot.me)} - {""}, key=str.lower)
		options = [("", tr("To: Everyone")), *((name, tr("To: {name}", name=name)) for name in names)]
		options.sort(key=lambda one: one[0] != usual)
		value = self.target.value if self.picked else usual
		if (options, value) != (self.target.options, self.target.value):
			self.target.show(options=options, value=value)
		self._shot, rows = shot, list(self._work(shot))
		for one in reversed(shot.files):
			rows.append(FileRow(one, len(shot.people) - 1, self._actions(one)))
			late = [p.name for p in shot.people if not p.leads and p.name not in one.has]
			if one.own and one.kind == "sheet" and one.state == "offered" and late:
				rows.append(NoteRow(tr("Missing: {names}", names=", ".join(late))))
		self.list.show(rows if shot.files else [*rows, NoteRow(tr("No files yet"))])

	def _work(self, shot: Snapshot) -> Iterator[Row]:
		title, done = shot.rules.collecting, shot.handed_in
		if title and shot.leads:
			late = [one.name for one in shot.people if not one.leads and one.name not in done]
			words = tr("Missing: {names}", names=", ".join(late)) if late else tr("Everyone has handed in")
			yield BarRow(title, len(done), len(done) + len(late))
			yield offered_row(words, "work", shot, self.run)
		elif title:
			mine = shot.name in done
			words = tr("Replace") if mine else tr("Hand in")
			asked = tr("To be handed in: {title}", title=title)
			yield FlowRow(asked, (("hand_in", words, not mine),), self.run)
		if shot.leads:
			yield offered_row("", "files", shot, self.run)

	def open_work(self) -> None:
		"""Open the folder with the pupils' folders of what was handed in."""
		paths = [one.path for one in self._shot.files if one.kind == "work" and one.path]
		self.view(str(Path(paths[-1]).parent) if paths else "")

	def _actions(self, one: FileEntry) -> tuple[tuple[str, str, Act], ...]:
		def order(verb: str) -> Act:
			return partial(self.act, verb, file=one.file)

		if one.state in ("uploading", "downloading"):
			return (("cancel", tr("Cancel"), order("cancel")),)
		if one.state == "saved" and one.path:
			return (("open", tr("Show in folder"), partial(self.view, one.path)),)
		if one.own and one.state == "offered":
			return (("cancel", tr("Take back"), order("cancel")),)
		if one.own or one.state == "gone":
			return ()
		words = tr("Accept") if one.state == "offered" else tr("Download")
		fetch = ("download", words, order("download"))
		if one.state != "offered" or (one.private and self._shot.leads):
			return (fetch,)
		return fetch, ("decline", tr("Decline"), order("decline"))


class SidePanel:
	"""The panel at the right with its tabs."""

	TABS = (("messages", "Chat", 64), ("attendees", "Users", 104), ("files", "Files", 84))

	def __init__(self, look: Look, parent: tk.Misc, chosen: Run):
		px, p = look.px, look.palette
		self.frame = look.frame(parent, p.panel)
		self.frame.pack_propagate(False)
		self.tabs = Card(look, self.frame, 11).canvas
		self.tabs.pack(fill="x", padx=px(14), pady=px(14))
		self.pages: dict[str, tk.Frame] = {}
		self.buttons: dict[str, Button] = {}
		for at, (name, words, room) in enumerate(self.TABS):
			button = Button(look, self.tabs, partial(chosen, name), tr(words), "", "ghost", px(room), 38)
			button.grid(row=0, column=at, sticky="ew", padx=px(3), pady=px(3))
			self.tabs.columnconfigure(at, weight=1)
			self.buttons[name] = button

	def choose(self, name: str) -> None:
		"""Bring one page to front."""
		for other, page in self.pages.items():
			if other != name:
				page.pack_forget()
		self.pages[name].pack(**FILL)
		for other, button in self.buttons.items():
			button.show(kind="plain" if other == name else "ghost")

	def count(self, people: int, files: int) -> None:
		"""Numbers behind the words of the tabs."""
		self.buttons["attendees"].show(words=f"{tr('Users')} {people}")
		self.buttons["files"].show(words=tr("Files") + f" {files}" * bool(files))


# ====
# [31] DIALOGS - start window, check, invitation, sharing, settings
# Uses: BASICS, CALL, DOCTOR, TRUST, LINKS, DISCOVERY, PROGRAM, TEXTS, DRAWING, WIDGETS, STAGE, PANELS


class Owner(Protocol):
	"""What opens a dialog: a view or, of the start window, the window's loop."""

	look: Look
	backend: Program
	tasks: Tasks

	def restyle(self, page: str, /) -> None: ...


class Framed(Owner, Protocol):
	"""A view."""

	frame: tk.Frame


class Starter(Owner, Protocol):
	"""What owns the start window."""

	def begin(self, work: Begin, words: str) -> None: ...

	def cancel(self) -> None: ...


# -- the start window


@frozen
class MeetingRow(Row):
	"""A meeting found on the network."""

	ad: MeetingAd
	chosen: bool
	choose: Act = field(compare=False)

	def draw(self, view: ListView, y: int, width: int) -> int:
		look, px, p, ad = view.look, view.px, view.palette, self.ad
		view.spot(f"meeting:{ad.address}", (0, y, width, px(66)), self.choose)
		fill, ring = (p.chosen, p.focus) if self.chosen else (p.card, "")
		view.box(0, y, width, px(66), 12, fill, ring, 2)
		view.image(px(14), y + px(13), look.avatar(ad.host, 40))
		room = width - px(68) - px(50)
		view.text(px(68), y + px(24), ad.title, 14, bold=True, room=room)
		people = tr("1 person") if ad.people == 1 else tr("{count} people", count=ad.people)
		words = f"{ad.host} · {people} · {ad.address}"
		if ad.version != PROTOCOL:
			words = tr("Another version of ConnectSphere")
		view.text(px(68), y + px(46), words, 12, colour=p.second, room=room)
		if ad.pin:
			view.icon(width - px(26), y + px(33), "lock", 18, p.good)
		return px(76)


def mirrored(backend: Program) -> bool:
	"""Whether the own picture is shown as in a mirror: a test card is to be read instead."""
	return bool(backend.setting("mirror")) and backend.setting("camera") != "pattern"


class PreviewCard(Painted):
	"""One's own camera and microphone before the meeting."""

	def __init__(self, look: Look, parent: tk.Misc, backend: Program, name: Callable[[], str]):
		super().__init__(look, parent, look.px(200), look.px(120), focus=True)  # it fills what there is
		self.backend, self.name = backend, name
		self.mic = self.camera = False
		self.own = PictureBox(self, lambda: self.backend.preview.picture)
		self.chosen_action = "preview:mic"
		self.walkable()

	def flip(self, what: str) -> None:
		"""Switch camera or microphone for joining."""
		setattr(self, what, not getattr(self, what))
		self.backend.preview.run(self.camera, self.mic)
		self.paint()

	def paint(self) -> None:
		px, (width, height) = self.px, self.extent
		self.own.place((0, 0, width, height))
		self.wipe("preview")
		middle, y = width // 2, height - px(66)
		for what, x in (("mic", middle - px(60)), ("camera", middle + px(8))):
			name, on = f"preview:{what}", bool(getattr(self, what))
			ring, p = self.ring if name == self.chosen_action else "", self.palette
			fill, tone = (p.card, p.text) if on else (p.raised, p.bad)
			self.box(x, y, px(52), px(52), 26, fill, ring or p.line, 3 if ring else 1, name="preview")
			self.icon(x + px(26), y + px(26), what, 22, tone, "" if on else tone, name="preview")
			self.spot(name, (x, y, px(52), px(52)), partial(self.flip, what))

	def tick(self) -> None:
		"""Show the newest picture; what cannot be had is off."""
		failed = self.backend.preview.failed.copy()
		for what in failed:
			if getattr(self, what):
				self.flip(what)
		if in_sight(self.canvas):
			name, note = self.name(), " ".join(map(tr, failed.values()))
			looks = TileLook(name, plain(name), muted=not self.mic, mirror=mirrored(self.backend), note=note)
			self.own.show(looks, self.camera)

	def close(self) -> None:
		"""Stop the devices."""
		self.backend.preview.run(camera=False, mic=False)
		self.own.remove()


AnyField = TypeVar("AnyField", bound="Field | PinBoxes")


class DeviceRow:
	"""A choice of device `what`; more may be packed at the right."""

	def __init__(self, look: Look, parent: tk.Misc, backend: Program, what: str, icon: str, caption: str):
		self.frame, value = look.frame(parent), backend.setting(what)
		chosen, default = partial(backend.set_setting, what), [(value, tr("Default device"))]
		self.choice = Choice(look, self.frame, default, value, chosen, 54, tr(caption), icon)
		self.choice.pack(side="left", fill="x", expand=True)


class BusyCard:
	"""Says over everything what is going on, if it takes longer than 0.3 s."""

	def __init__(self, look: Look, parent: tk.Misc, cancel: Act | None = None):
		self.look, self.cancel = look, cancel
		self.frame = look.frame(parent, look.palette.panel)
		self.frame.bind("<Destroy>", lambda _: self._rest())
		self.words = self._timer = ""

	def show(self, words: str) -> None:
		"""Say `words` from now on."""
		self.hide()
		self.words = words
		self._timer = self.frame.after(300, self._build)

	def hide(self) -> None:
		"""It is done."""
		self._rest()
		self.words = ""
		self.frame.place_forget()
		for child in self.frame.winfo_children():
			child.destroy()

	def _rest(self) -> None:
		if self._timer:
			self.frame.after_cancel(self._timer)
			self._timer = ""

	def _build(self) -> None:
		look, px, p, size = self.look, self.look.px, self.look.palette, self.look.px(44)
		width = max(px(300), look.font(15, bold=True).measure(self.words) + px(72))
		sheet, x = Painted(look, self.frame, width, px(148)), (width - size) // 2
		sheet.text(width // 2, px(112), self.words, 15, bold=True, anchor="center", room=width - px(40))
		box = x, px(32), x + size, px(32) + size
		arc = sheet.canvas.create_arc(box, extent=270, style="arc", width=px(5), outline=p.focus)
		sheet.pack(padx=1, pady=(1, 0 if self.cancel else 1))
		self.frame.configure(bg=p.line)
		if self.cancel:
			foot = look.frame(self.frame, p.panel)
			foot.pack(fill="x", padx=1, pady=(0, 1))
			Button(look, foot, self.cancel, tr("Cancel")).pack(pady=(0, px(20)))
		self.frame.place(relx=0.5, rely=0.5, anchor="center")
		self.frame.lift()
		self._turn(sheet.canvas, arc)

	def _turn(self, canvas: tk.Canvas, arc: int) -> None:
		canvas.itemconfigure(arc, start=-360 * (monotonic() % 1.0))
		self._timer = self.frame.after(40, self._turn, canvas, arc)


class Form(Dialog):
	"""Fields one below the other; its button and Return call `go` with what they hold."""

	def __init__(self, look: Look, title: str, ok: str, go: Callable[..., object]):
		super().__init__(look, title, 440)
		self.fields: list[Any] = []
		self.enter = self.buttons([("Cancel", "plain"), (ok, "primary", go)]).press

	def caption(self, words: str) -> None:
		"""Name the next field."""
		self.words(tr(words), above=14 * bool(self.fields), below=6, bold=True)

	def blame(self, trouble: str) -> None:
		"""Say what is wrong with what was typed, if something is."""
		if trouble:
			self.words(tr(trouble), 13, self.look.palette.bad_text, above=14)

	def add(self, made: AnyField) -> AnyField:
		"""`made` as the next field; the first one has the keyboard at the beginning."""
		if not self.fields:
			self.first = made.focus_set
		made.pack(padx=self.look.px(24), fill="x")
		self.fields.append(made)
		return made

	def _then(self, *commands: Callable[..., object]) -> None:
		super()._then(*[partial(command, *[one.value for one in self.fields]) for command in commands])


def switch_row(
	look: Look,
	parent: tk.Misc,
	words: str,
	backend: Program,
	key: str,
	values: tuple[Any, Any] = (False, True),
) -> tuple[tk.Frame, Switch]:
	"""A line with a switch for the setting `key`, of two `values`; "" (nothing was chosen) is on."""
	row = look.frame(parent)
	shown = backend.setting(key) in (values[1], "")
	switch = Switch(look, row, shown, lambda on: backend.set_setting(key, values[on]))
	label = look.label(row, words, 13)
	label.bind("<ButtonRelease-1>", lambda at: is_over(at) and switch.command())
	label.pack(side="left", padx=(0, look.px(6)))
	return row, switch.pack(side="right")


class StartView:
	"""The window before a meeting: what is on the network, name, PIN, preview, hosting."""

	PATIENCE = 10.0  # seconds without a meeting until that is said

	def __init__(self, loop: Starter):
		look = self.look = loop.look
		self.backend, self.tasks = loop.backend, loop.tasks
		self.begin, self.restyle = loop.begin, loop.restyle
		self.frame = look.frame(look.root)
		self.chosen: MeetingAd | None = None
		self.dialog: Dialog | None = None
		self._tried = ("", 0, "", False)  # address, port, PIN; whether the address was typed
		self._listed: tuple[Any, ...] = ()
		self._again = ""  # the meeting whose PIN has changed
		self._since = monotonic()
		self._offered = self._picked = False
		self.reason = ""
		px = look.px
		self.frame.bind("<Configure>", lambda event: self._squeeze(event.height))
		self._head()
		self.left, self.right = look.frame(self.frame), look.frame(self.frame)
		self.frame.columnconfigure(0, weight=3, uniform="half")
		self.frame.columnconfigure(1, weight=2, uniform="half", minsize=px(400))
		self.frame.rowconfigure(1, weight=1)
		self.left.grid(row=1, column=0, sticky="nsew", padx=(px(44), px(28)), pady=(0, px(20)))
		self.right.grid(row=1, column=1, sticky="nsew", padx=(px(28), px(44)), pady=(0, px(20)))
		self._build_right()
		self._build_left()
		self.busy = BusyCard(look, self.frame, loop.cancel)
		look_around = self.backend.list_devices, self._devices, self.frame
		self.frame.bind("<Map>", lambda _: self.tasks.run(*look_around))

	def _head(self) -> None:
		look, px = self.look, self.look.px
		self.head = look.frame(self.frame)
		self.head.configure(height=px(84))
		self.head.pack_propagate(False)
		self.head.grid(row=0, column=0, sticky="ew")
		logo = Painted(look, self.head, px(36), px(36)).pack(side="left", padx=(px(44), px(12)))
		logo.image(0, 0, look.photo(draw_logo, px(36)))
		look.label(self.head, APP_NAME, 17, bold=True).pack(side="left")
		words = tr("Not working? Check this computer")
		self.check = Button(look, self.frame, self._check, words, "shield", "link", height=36)
		self.check.grid(row=0, column=1, sticky="w", padx=px(22))
		gear = Button(look, self.frame, self.settings, icon="gear", kind="ghost", tip="Settings")
		gear.grid(row=0, column=1, sticky="e", padx=px(34))  # its icon ends where the fields do

	def _squeeze(self, height: int) -> None:
		px, low = self.look.px, height < self.look.px(600)
		self.head.configure(height=px(50 if low else 84))
		for label in self._spare:
			(label.grid_remove if low else label.grid)()

	def settings(self, page: str = "audio") -> None:
		self.dialog = SettingsDialog(self, page)

	def _check(self) -> None:
		self.dialog = DoctorDialog(self, self._check)

	def _build_left(self) -> None:
		look, px, left = self.look, self.look.px, self.left
		words = tr("Headphones stop echo for everyone.")
		hint = look.label(left, words, 12, colour=look.palette.third, width=px(480))
		hint.pack(side="bottom", anchor="w", pady=(px(8), 0))
		left.bind("<Configure>", lambda event: hint.configure(wraplength=event.width))
		self.speaker = DeviceRow(look, left, self.backend, "speaker", "volume", "Speaker")
		test = Button(look, self.speaker.frame, self.backend.test_speaker, tr("Play a test"), height=36)
		test.pack(side="right", padx=px(4))
		self.speaker.frame.pack(side="bottom", fill="x", pady=(px(10), 0))
		self.mic = DeviceRow(look, left, self.backend, "mic", "mic", "Microphone")
		self.meter = Meter(look, self.mic.frame).pack(side="right", padx=px(10))
		self.mic.frame.pack(side="bottom", fill="x", pady=(px(14), 0))
		self.preview = PreviewCard(look, left, self.backend, lambda: self.name.value or tr("You"))
		self.preview.pack(**FILL)
		for row in (self.mic, self.speaker):  # Tab goes from the lowest up
			tk.Misc.lift(row.frame)

	def _devices(self, found: Any, fault: Exception | None) -> None:
		if not fault:
			self.mic.choice.offer(found["mic"])
			self.speaker.choice.offer(found["speaker"])
		elif isinstance(fault, Refused):
			self.say(fault.reason)

	def _build_right(self) -> None:
		look, px, p, right = self.look, self.look.px, self.look.palette, self.right
		rows = itertools.count()

		def put(widget: tk.Misc, sticky: str = "ew", above: int = 0, below: int = 0) -> None:
			widget.grid(row=next(rows), sticky=sticky, pady=(px(above), px(below)))  # type: ignore[attr-defined]

		put(look.label(right, tr("Join"), 24, bold=True), "w", below=4)
		by_hand = tr("Type an address or code")
		Button(look, right, self._ask_address, by_hand, kind="link", height=36).grid(row=0, sticky="e")
		found = look.label(right, tr("Meetings found on this network"), 13, colour=p.second)
		put(found, "w", 2, 10)
		self.list = ListView(look, right, gutter=0)  # what comes takes room from it alone
		put(self.list.canvas, "nsew")
		right.rowconfigure(2, weight=1)
		right.columnconfigure(0, weight=1)
		self.trouble = look.label(right, "", 13, width=px(420))
		put(self.trouble, "w")
		yours = look.label(right, tr("Your name"), 12, bold=True, colour=p.second)
		put(yours, "w", 14, 6)
		name, hint = self.backend.setting("name"), tr("Your name")
		self.name = Field(look, right, name, hint, enter=self._join)
		put(self.name.canvas)
		self._spare = found, yours  # where the window is low
		place = look.frame(right)  # it is kept where no PIN is asked for: nothing moves by itself
		place.configure(height=px(106))
		place.pack_propagate(False)
		put(place)
		self.pin_area = look.frame(place)
		head = look.frame(self.pin_area)
		head.pack(fill="x", pady=(0, px(6)))
		look.label(head, "PIN", 12, bold=True, colour=p.second).pack(side="left")
		look.label(head, tr("The host shows it"), 12, colour=p.third).pack(side="right")
		self.pin = PinBoxes(look, self.pin_area, self._join).pack(fill="x")
		self.join = Button(look, right, self._join, tr("Join"), kind="primary", height=52, size=15)
		put(self.join.canvas, above=8, below=8)
		foot = look.frame(right)
		put(foot, above=8)
		title, hint = self.backend.setting("title"), tr("Title")
		self.title = Field(look, foot, title, hint, 36, enter=self._host)
		self.title.pack(side="left", fill="x", expand=True)
		row, pin = switch_row(look, foot, "PIN", self.backend, "ask_pin")
		pin.tip.words = "Ask for a PIN"
		row.pack(side="left", padx=px(10))
		Button(look, foot, self._host, tr("Host a meeting"), height=36).pack(side="left")

	def tick(self) -> None:
		"""List what is found now, run the preview."""
		self.preview.tick()
		self.meter.show(self.backend.preview.level if self.preview.mic else 0.0)
		found = tuple(self.backend.find())
		if self.chosen not in found:
			same = [one for one in found if self.chosen and one.meeting == self.chosen.meeting]
			if same or not (self._picked or self.pin.value):
				self.chosen = next(iter(same or found), None)
		late = monotonic() > self._since + self.PATIENCE
		if (now := (found, self.chosen, late)) != self._listed:
			self._listed = now
			self._list(found, late)
		if not (self.busy.words or self._offered) and self.frame.winfo_viewable():
			self._offered = True
			self._offer_lesson(self.backend.lesson())
		if not self._occupied() and (known := self.backend.auto_join()) is not None and self.name.value:
			self.chosen = known
			self._go(known.address, known.port, "")

	def _occupied(self) -> bool:
		kept = tuple(map(self.backend.setting, ("name", "title")))
		typing = (self.name.value, self.title.value) != kept
		return bool(self.busy.words) or typing or bool(self.pin.value) or grabbed(self.look.root)

	def _offer_lesson(self, words: str) -> None:
		if words:
			self.dialog = ConfirmDialog(
				self.look, tr("Host a meeting"), tr(words),
				("End it and start anew", "plain", partial(self._host, anew=True)),
				("Back to my lesson", "primary", self._resume),
			)  # fmt: skip

	def _resume(self) -> None:
		if name := self._named():
			self.begin(partial(self.backend.resume, name), "Joining…")

	def _list(self, found: Sequence[MeetingAd], late: bool) -> None:
		rows: list[Row] = [MeetingRow(one, one == self.chosen, partial(self._choose, one)) for one in found]
		looking = NO_MEETING if late else "Looking for meetings…"
		notes = looking, system_asks("find")
		self.list.show(rows or [NoteRow(tr(words)) for words in notes if words])
		if asked := self._asks(self.chosen):
			self.pin_area.pack(fill="x", pady=(self.look.px(12), self.look.px(8)))
		else:
			self.pin_area.pack_forget()
		root = self.look.root
		if root.focus_lastfor() is root and (asked or not self.name.value):  # nothing has it
			(self.pin if self.name.value else self.name).focus_set()

	def _asks(self, one: MeetingAd | None) -> bool:
		return one is not None and (one.meeting == self._again or self.backend.asks_pin(one))

	def _choose(self, one: MeetingAd) -> None:
		self.chosen, self._picked = one, True
		self.say("")
		if self._asks(one):
			self.pin.focus_set()

	def say(self, reason: str, colour: str = "") -> None:
		"""Say below the list what did not work, or in another colour what has ended."""
		self.reason = reason
		self.trouble.configure(fg=colour or self.look.palette.bad_text)
		self.look.say(self.trouble, tr(reason))

	def _named(self) -> str:
		if name := self.name.value:
			self.backend.set_setting("name", name)
		else:
			self.say("Type your name first.")
			self.name.focus_set()
		return name

	def _join(self) -> None:
		if self.chosen is None:
			self.say(NO_MEETING)
		elif self.chosen not in self.backend.find():
			self.say(Words("{name}: {fact}", name=self.chosen.title, fact=Words("no longer offered")))
		else:
			pin = self.pin.value if self.chosen.pin else ""
			self._go(self.chosen.address, self.chosen.port, pin)

	def join_at(self, address: str, pin: str) -> None:
		"""Join by a typed address, with :port or without."""
		self.backend.set_setting("address", address.strip())
		try:
			self._go(*typed_place(address), pin, typed=True)
		except ValueError:
			self.say("An address looks like 192.168.1.20, a code like 0T4N.")

	def _go(self, address: str, port: int, pin: str, typed: bool = False, accept: bool = False) -> None:
		name = self._named()
		if name and not self.busy.words:
			self._tried = (address, port, pin, typed)
			self.begin(partial(self.backend.join, address, port, name, pin, accept), "Joining…")

	def wait(self, words: str) -> None:
		"""Say that it is being joined or hosted; "" when that is over."""
		self.join.show(words=tr(words or "Join"), enabled=not words)
		if words:
			self.say("")
			self.busy.show(tr(words))
		else:
			self.busy.hide()

	def resume(self, before: StartView) -> None:
		"""Go on where a window in another look stood."""
		for name in ("chosen", "_tried", "_offered", "_picked"):
			setattr(self, name, getattr(before, name))
		for now, was in ((self.name, before.name), (self.title, before.title)):
			now.entry.delete(0, "end")
			now.entry.insert(0, was.value)
		self.pin.set(before.pin.value)
		self.say(before.reason)
		self.preview.mic, self.preview.camera = before.preview.mic, before.preview.camera
		self.backend.preview.run(self.preview.camera, self.preview.mic)

	def refused(self, code: str, reason: str) -> None:
		"""Say why it did not work; a changed host asks loudly."""
		if code == "host_changed":
			self.dialog = ConfirmDialog(
				self.look, tr("This is not the computer you know"),
				f"{tr(reason)}\n\n{tr('Ask the teacher before you go on.')}",
				("Join anyway", "plain", partial(self._go, *self._tried, accept=True)),
				("Cancel", "primary"),
			)  # fmt: skip
			return
		self.say(reason)
		if code == "meeting_running":
			self._offer_lesson(reason)
		elif code not in ("wrong_pin", "pin_required"):
			return
		elif self._tried[3]:
			self._tried = ("", 0, "", False)
			self._ask_address(reason)
		else:
			self._again = self.chosen.meeting if self.chosen else ""
			self._listed = ()
			self.pin.set("")
			self.pin.focus_set()

	def _ask_address(self, trouble: str = "") -> None:
		look = self.look
		form = self.dialog = Form(look, tr("Type an address or code"), tr("Join"), self.join_at)
		known = self.backend.setting("address")
		address = form.add(Field(look, form.body, known, "192.168.1.20", enter=form.enter))
		address.entry.select_range(0, "end")
		form.caption("PIN, if the meeting has one")
		pin = form.add(PinBoxes(look, form.body, form.enter))
		pin.set(self._tried[2] if self._tried[3] else "")
		form.blame(trouble)
		if trouble:
			form.first = pin.focus_set

	def _host(self, anew: bool = False) -> None:
		backend, title, words = self.backend, self.title.value, tr("Host a meeting")
		backend.set_setting("title", title)
		if not (name := self._named()):
			return
		asks = system_asks("host")
		if asks not in ("", backend.setting("told_host")):
			backend.set_setting("told_host", asks)
			go = words, "primary", partial(self._host, anew)
			self.dialog = ConfirmDialog(self.look, words, asks, ("Cancel", "plain"), go)
		else:
			what, pin = title or tr("{name}'s meeting", name=name), "auto" * backend.setting("ask_pin")
			self.begin(partial(backend.host, name, what, pin, anew=anew), "One moment…")

	def close(self) -> None:
		"""Stop the preview and close an open dialog, whose fields go with this window."""
		if self.dialog:
			self.dialog.close()
		self.preview.close()


class WorkDialog(Dialog):
	"""Waits until `work` is done, then gives its result to `show`, or tells what failed."""

	def __init__(self, view: Owner, title: str, width: int, height: int, work: Callable[[], Any]):
		super().__init__(view.look, tr(title), width, height)
		self.busy = BusyCard(view.look, self.body)
		self.busy.show(tr("One moment…"))
		view.tasks.run(work, self._done, self.frame)

	def _done(self, result: Any, fault: Exception | None) -> None:
		self.busy.hide()
		if not fault:
			self.show(result)
		else:
			words = fault.reason if isinstance(fault, Refused) else "That did not work."
			self.words(tr(words), 13, self.look.palette.bad_text)

	def show(self, result: Any) -> None:
		"""Show what came of it."""
		raise NotImplementedError


class DoctorDialog(WorkDialog):
	"""What stands between this computer and a meeting: verdict, next step, findings."""

	ICONS: ClassVar = {"ok": "check", "warn": "warning", "bad": "close"}

	def __init__(self, view: Owner, again: Act):
		super().__init__(view, "Not working? Check this computer", 620, 540, view.backend.doctor)
		self.buttons([("Check again", "plain", again), ("Done", "primary")])

	def show(self, result: Diagnosis) -> None:
		px = self.look.px
		self.words(tr(result.verdict), 15, self.look.palette.text, bold=True)
		self.words(tr(result.next_step), 13, above=6, below=12)
		self.list = ListView(self.look, self.body).pack(**FILL, padx=(px(24), px(12)))
		self.list.show([FindingRow(one) for one in result.findings])


@frozen
class FindingRow(Row):
	"""One thing that the doctor looked at."""

	found: Finding

	def draw(self, view: ListView, y: int, width: int) -> int:
		look, px, p = view.look, view.px, view.palette
		colour = {"ok": p.good, "warn": p.warn}.get(self.found.state, p.bad)
		icon = DoctorDialog.ICONS[self.found.state]
		view.icon(px(10), y + px(18), icon, 16, colour)
		lines = wrapped(tr(self.found.words), look.font(13), width - px(40), " ")
		for at, line in enumerate(lines):
			view.text(px(30), y + px(18) + px(20) * at, line, 13)
		return px(16) + px(20) * len(lines)


class InvitationDialog(Dialog):
	"""How others come in: address, code, PIN, and the pictures that show the right host."""

	SIZES = (36, 30, 24, 18)  # of the letters, as large as there is room for

	def __init__(self, look: Look, shot: Snapshot, ways: Sequence[WayIn], copy: Act):
		super().__init__(look, tr("Invite others"), 760)
		words = tr("Whoever starts ConnectSphere on this network finds the meeting. Else they type:")
		self.words(words, 13, below=10)
		facts = [(tr("Address"), ways[0].address), (tr("or the code"), ways[0].code)]
		self._large(facts + ([("PIN", spaced_pin(shot.pin))] if shot.pin else []))
		if ways[1:]:
			self._others(ways[1:])
		if shot.fingerprint:
			self._pictures(fingerprint_pictures(shot.fingerprint))
		self.buttons([("Done", "plain"), ("Copy", "primary", copy)])

	def _large(self, facts: Sequence[tuple[str, str]]) -> None:
		look, px = self.look, self.look.px
		gap, room = px(36), self.width - px(54)

		def widths(size: int) -> list[int]:
			big, small = look.font(size, bold=True), look.font(12)
			return [max(small.measure(label), big.measure(value)) + gap for label, value in facts]

		size = next((size for size in self.SIZES if sum(widths(size)) - gap <= room), self.SIZES[-1])
		sheet, x = self.sheet(px(36) + px(size)), 0
		for (label, value), wide in zip(facts, widths(size), strict=True):
			sheet.text(x, px(10), label, 12, colour=look.palette.third)
			sheet.text(x, px(28) + px(size) // 2, value, size, bold=True)
			x += wide

	def _others(self, ways: Sequence[WayIn]) -> None:
		look, px = self.look, self.look.px
		self.words(tr("This computer is in other networks, too. There they type:"), above=14, below=4)
		sheet = self.sheet(px(26) * len(ways))
		for at, way in enumerate(ways):
			y = px(26) * at + px(13)
			sheet.text(0, y, f"{way.address}   {way.code}", 15, bold=True)
			sheet.text(px(330), y, way.network, 12, colour=look.palette.third, room=self.width - px(390))

	def _pictures(self, numbers: Sequence[int]) -> None:
		look, px = self.look, self.look.px
		words = tr("Everybody sees these eight pictures. Other pictures: another host.")
		self.words(words, above=14, below=8)
		wide, sheet = (self.width - px(54)) // len(numbers), self.sheet(px(48))
		pictures = tuple(emoji_shapes())
		for at, number in enumerate(numbers):
			picture = look.emoji(pictures[number], 40)
			sheet.image(wide * at + wide // 2, px(24), picture, "center")


class GiveDialog(WorkDialog):
	"""Where a browser finds this program, and the sum to compare."""

	def __init__(self, view: Owner):
		super().__init__(view, "Give this app to others", 700, 400, view.backend.give_app)
		stop = partial(view.tasks.run, view.backend.keep_app)
		self.buttons([("Stop offering it", "plain", stop), ("Done", "primary")])

	def show(self, result: GivenApp) -> None:
		px, p = self.look.px, self.look.palette
		words = tr("Who has no ConnectSphere yet opens this address in a browser, or photographs the code:")
		self.words(words, 13, below=10)
		size, left = px(180), px(208)
		code = Image.fromarray(result.qr[..., ::-1]).resize((size, size), 0)
		sheet = self.sheet(size, below=12)
		sheet.image(0, 0, ImageTk.PhotoImage(code, master=self.look.root))
		sheet.text(left, px(18), result.url, 22, bold=True, room=self.width - px(54) - left)
		facts = f"{result.name} · {size_words(result.size)} · {VERSION}"
		if result.name.endswith(".py"):
			facts += f" · {tr('needs Python and uv')}"
		sheet.text(left, px(52), facts, 13, colour=p.second)
		sheet.text(left, px(84), "SHA-256", 12, colour=p.third)
		quads = re.findall("....", result.sha256)
		for at in range(4):
			sheet.text(left, px(106 + 20 * at), "  ".join(quads[4 * at : 4 * at + 4]), 14)
		words = tr("It is offered until you stop it or close the program.")
		self.words(words, 12, p.third, below=10)


# -- settings


def asked_path(parent: tk.Misc, title: str, save: bool = False, **options: Any) -> str:
	"""The file chosen in the system's dialog; "" if cancelled, or `parent` has gone meanwhile.

	It waits in a loop of its own, in which the meeting goes on, and may end.
	"""
	ask = filedialog.asksaveasfilename if save else filedialog.askopenfilename
	try:
		path = str(ask(parent=parent, title=title, **options) or "")
		return path if parent.winfo_exists() else ""
	except tk.TclError:  # the window was closed
		return ""


class ShareDialog(Dialog):
	"""What to share: a screen, a window by its title, or a file; with live pictures."""

	THUMB = (248, 140)
	SECONDS = 1.0  # between two looks at the screens
	FILES = "*.png *.jpg *.jpeg *.bmp *.webp *.avi *.mp4 *.mkv *.mov"

	def __init__(self, view: Framed, share: Callable[[str, str], None], over: str = ""):
		super().__init__(view.look, tr("Share your screen"), 620)
		if over:  # whom this interrupts
			self.words(over, 13, below=12)
		self.view, self.share = view, share
		self.chosen = ""
		self.found: Sequence[tuple[str, str, Picture | None]] | None = None  # not yet looked
		self.trouble = "There is no screen here that can be shared."
		px = self.look.px
		self.step = (px(self.THUMB[0] + 34), px(self.THUMB[1] + 58))
		self.go = self.buttons([
			("A picture or video…", "plain", self._choose_file),
			("Cancel", "plain"),
			(tr("Take over" if over else "Share"), "primary", self._share),
		])  # fmt: skip
		self.cards = ListView(self.look, self.body).pack(fill="both", padx=(px(24), px(14)))
		self._bind()
		self.go.show(enabled=False)  # nothing is chosen: whoever opened this by mistake shares nothing
		self.first = self.cards.focus_set
		self._look_again()

	def _bind(self) -> None:
		canvas = self.cards.canvas
		canvas.bind("<<Return>>", lambda _: self._go())
		canvas.bind("<Double-Button-1>", lambda _: self._go())
		for key, by in ARROWS:
			canvas.bind(key, partial(self._walk, by))
		canvas.bind("<FocusIn>", lambda _: self._draw())  # unlike other lists: nothing is chosen by itself

	def _look_again(self) -> None:
		self.view.tasks.run(self.view.backend.screens, self._looked, self.frame)

	def _looked(self, found: Any, fault: Exception | None) -> None:
		self._later(round(self.SECONDS * 1000), self._look_again)
		self.found = found or ()
		if isinstance(fault, Refused):
			self.trouble = fault.reason
		sources = [source for source, _, _ in self.found]
		self._pick(self.chosen if self.chosen in sources else "")

	def _draw(self) -> None:
		found, room = self.found or (), self.look.root.winfo_height() - self.look.px(170)
		note = "One moment…" if self.found is None else self.trouble
		if found:
			note = "While covered, the last picture stays." if found[-1][0][0] == "w" else ""
		pairs = (found[at : at + 2] for at in range(0, len(found), 2))
		rows: list[Row] = [DrawnRow(partial(self._pair, pair)) for pair in pairs]
		self.cards.configure(height=min(room, self.step[1] * len(rows) + self.look.px(34)))
		rows += [NoteRow(tr(note))] * bool(note)
		self.cards.show(rows, again=True)

	def _pair(self, pair: Sequence[tuple[str, str, Picture | None]], _: ListView, y: int, __: int) -> int:
		for at, one in enumerate(pair):
			self._card(at * self.step[0], y, *one)
		return self.step[1]

	def _card(self, x: int, y: int, source: str, words: str, picture: Picture | None) -> None:
		sheet, look, px, p = self.cards, self.look, self.look.px, self.look.palette
		wide, tall, here = self.step[0] - px(10), self.step[1] - px(10), source == self.chosen
		ring = p.focus if here else ""
		sheet.box(x, y, wide, tall, 12, p.chosen if here else p.card, ring, 3 if here else 1)
		size = px(self.THUMB[0]), px(self.THUMB[1])
		if picture is not None:
			tile = paint_tile(TileJob(size, TileLook(fit=True), p, px.scale), picture, [])
			sheet.image(x + px(12), y + px(12), ImageTk.PhotoImage(tile, master=look.root))
		sheet.text(x + px(14), y + tall - px(18), tr(words), 13, bold=here, room=wide - px(28))
		sheet.spot(f"share:{source}", (x, y, wide, tall), partial(self._pick, source))

	def _pick(self, source: str) -> None:
		self.chosen = source
		self.go.show(enabled=bool(source))
		self._draw()

	def _walk(self, by: int, _: object) -> None:
		sources = [source for source, _, _ in self.found or ()]
		if sources:
			at = sources.index(self.chosen) + by if self.chosen else 0
			at = max(0, min(len(sources) - 1, at))
			self.cards.yview("moveto", at // 2 / len(self.cards.rows))
			self._pick(sources[at])

	def _share(self) -> None:
		self.share(self.chosen, {source: words for source, words, _ in self.found or ()}[self.chosen])

	def _go(self) -> None:
		if self.chosen:
			self._then(self._share)

	def _choose_file(self) -> None:
		words = tr("A picture or video…")
		kinds = [(words.rstrip("…"), self.FILES), (tr("All files"), "*")]
		if path := asked_path(self.view.frame, words, filetypes=kinds):
			self.share(path, Path(path).name)


def keep_private(root: tk.Tk | tk.Toplevel, on: bool) -> None:
	"""On Windows: keep the window out of pictures of the screen. Elsewhere it is painted over in them."""
	if sys.platform == "win32":
		user = ctypes.windll.user32
		window = user.GetParent(root.winfo_id())
		if not user.SetWindowDisplayAffinity(window, 17 * on):  # WDA_EXCLUDEFROMCAPTURE
			user.SetWindowDisplayAffinity(window, int(on))  # before Windows 10 2004: black


class ShareBar:
	"""A small window over the desktop while that is shared; no text of a message ever stands in it."""

	WIDTH: ClassVar = 760

	def __init__(self, look: Look, over: tk.Misc):
		self.look = look
		self.window = top = tk.Toplevel(look.root)
		top.overrideredirect(True)
		top.attributes("-topmost", True)
		self.notice = NoticeBar(look, top)
		self.notice.frame.pack(**FILL)
		wide = look.px(self.WIDTH)
		left = over.winfo_rootx() + (over.winfo_width() - wide) // 2
		top.geometry(f"{wide}x{look.px(41)}+{left}+0")
		top.bind("<Button-1>", self._hold)
		top.bind("<B1-Motion>", lambda at: top.geometry(f"+{at.x_root - self._x}+{at.y_root - self._y}"))

	def _hold(self, event: tk.Event[tk.Misc]) -> None:
		self._x, self._y = event.x_root - self.window.winfo_x(), event.y_root - self.window.winfo_y()


@frozen
class SwitchRow(Row):
	"""What is on or off for the class."""

	name: str
	words: str
	on: bool
	flip: Act = field(compare=False)

	def draw(self, view: ListView, y: int, width: int) -> int:
		px = view.px
		view.text(px(8), y + px(15), self.words, 13, room=width - px(64))
		draw_switch(view, width - px(48), y + px(1), self.on)
		view.spot(self.name, (0, y, width, px(30)), self.flip)
		return px(30)


class ClassCard:
	"""What a host does for the whole class: a card beside the left bar, until it is closed."""

	PUPILS: ClassVar = {  # what they may, by PERMITS
		"mic": "unmute themselves", "camera": "turn on their camera", "share": "share their screen",
		"chat": "write to everyone", "private": "write to each other", "react": "send reactions",
		"files": "send files to each other",
	}  # fmt: skip
	DOORS: ClassVar = {"open": "Open", "knock": "They knock", "locked": "Closed"}
	MINUTES = (1, 2, 5, 10)

	def __init__(self, look: Look, parent: tk.Misc, run: Run, act: Callable[..., None], close: Act):
		self.look, self.act, self.run, self.parent = look, act, run, parent
		px, p = look.px, look.palette
		self.frame = look.frame(parent, p.third)
		body = look.frame(self.frame, p.panel)
		body.pack(**FILL, padx=1, pady=1)
		head = look.frame(body)
		head.pack(fill="x", padx=(px(14), px(8)), pady=px(6))
		look.label(head, tr("Class"), 16, bold=True).pack(side="left")
		Button(look, head, close, icon="close", kind="ghost", height=32).pack(side="right")
		self.list = ListView(look, body).pack(**FILL, padx=(px(14), px(4)), pady=(0, px(8)))
		look.layer(self.frame, close)
		self.list.bind("<Configure>", lambda _: self._fit(), add="+")

	def show(self, shot: Snapshot) -> None:
		"""Show how things are set now."""
		self.list.show(list(self._rows(shot)))
		self._fit()

	def _fit(self) -> None:
		px, room = self.look.px, self.parent.winfo_height() - self.look.px(16)
		need = sum(map(self.list._high, range(len(self.list.rows)))) + px(54)
		self.frame.place(x=px(88), y=px(8), width=px(360), height=min(room, need))
		self.frame.lift()

	def _rows(self, shot: Snapshot) -> Iterator[Row]:
		off, asked = shot.rules.off, shot.question
		yield offered_row("", "quiet", shot, self.run)
		yield FlowRow(tr("Pupils may"))
		for what, words in self.PUPILS.items():
			flip = partial(self.act, "permit", what=what, on=what in off)
			yield SwitchRow(what, tr(words), what not in off, flip)
		door = ((f"door:{mode}", tr(words), mode == shot.rules.door) for mode, words in self.DOORS.items())
		pin = f" · PIN {spaced_pin(shot.pin)}" if shot.pin else ""
		yield FlowRow(tr("Door") + pin, (*door, ("new_pin", tr("New PIN"), False)), self._set)
		here = shot.rules.one_room
		flip = partial(self.act, "one_room", on=not here)
		yield SwitchRow("one_room", tr("We are all in one room"), here, flip)
		times = ((f"timer:{60 * n}", f"{n} min", False) for n in self.MINUTES)
		yield FlowRow(tr("Countdown"), tuple(times), self._set)
		if asked.answers:
			answered = sum(asked.counts)
			yield FlowRow(f"{asked.question} · {answered} / {len(shot.people) - 1}")
			for words, count in zip(asked.answers, asked.counts, strict=False):
				yield BarRow(words, count, answered)
		yield offered_row(tr("Lesson"), "class", shot, self.run)
		if shot.role == "host":
			heirs = ", ".join(map(plain, shot.heirs)) or tr("the lesson stops")
			yield FlowRow(tr("If this computer fails: {names}", names=heirs))

	def _set(self, name: str) -> None:
		what, _, value = name.partition(":")
		self.act(what, **({"mode": value} if what == "door" else {"seconds": int(value)} if value else {}))


class SettingsDialog(Dialog):
	"""Devices, look, language, keys; what is chosen holds at once."""

	PAGES = (
		("audio", "Audio", "mic"),
		("video", "Video", "camera"),
		("look", "Appearance", "eye"),
		("language", "Language", "globe"),
		("keys", "Shortcuts", "keyboard"),
	)

	def __init__(self, view: Owner, page: str):
		super().__init__(view.look, "", 820, 560)
		self.backend = view.backend
		self.preview, self.restyle, look = self.backend.preview, view.restyle, self.look
		px, p = look.px, look.palette
		self.found: Mapping[str, Sequence[tuple[str, str]]] = {}
		self.lists: dict[str, Choice] = {}  # of the page, by device
		self.meters: list[Meter] = []  # as heard, as sent
		self.tile: PictureBox | None = None
		side = look.frame(self.body, p.window)
		side.pack(side="left", fill="y")
		look.label(side, tr("Settings"), 18, bold=True).pack(anchor="w", padx=px(22), pady=(px(22), px(16)))
		self.tabs = {
			name: Button(look, side, partial(self.choose, name), tr(words), icon, "ghost", px(176))
			for name, words, icon in self.PAGES
		}
		for tab in self.tabs.values():
			tab.left = True
			tab.pack(padx=px(12), pady=px(3))
		done = Button(look, side, self.close, tr("Done"), kind="primary", width=px(176))
		done.pack(side="bottom", padx=px(12), pady=px(20))
		self.page = look.frame(self.body)
		self.page.pack(side="left", **FILL, padx=px(28), pady=px(22))
		view.tasks.run(self.backend.list_devices, self._devices, self.frame)
		self.choose(page)
		self._tick()

	def _devices(self, found: Any, fault: Exception | None) -> None:
		if not fault:
			self.found = found
			for what, choice in self.lists.items():
				choice.offer(found[what])

	def choose(self, name: str) -> None:
		"""Show one page, by `_NAME`."""
		self.name = name
		self.lists, self.meters = {}, []
		self._no_tile()
		for child in self.page.winfo_children():
			child.destroy()
		self.look.label(self.page, self.tabs[name].words, 18, bold=True).pack(
			anchor="w", pady=(0, self.look.px(14))
		)
		for key, tab in self.tabs.items():
			tab.show(kind="plain" if key == name else "ghost")
		self.preview.try_out(camera=name == "video", mic=name == "audio")
		getattr(self, f"_{name}")()

	def _words(self, text: str) -> None:
		label = self.look.label(self.page, tr(text), 12, colour=self.look.palette.second)
		label.pack(anchor="w", pady=(self.look.px(10), self.look.px(6)))

	def _device(self, what: str, parent: tk.Misc) -> Choice:
		default, now = [("default", tr("Default device"))], self.backend.setting(what)
		made = self.lists[what] = Choice(self.look, parent, default, now, partial(self._set, what))
		made.offer(self.found.get(what, ()))
		return made

	def _audio(self) -> None:
		look, px = self.look, self.look.px
		self._words("Microphone")
		self._device("mic", self.page).pack(fill="x")
		bars = int((self.width - px(262)) / px.scale / 11)
		self.meters = [
			Meter(look, self.page, bars, 11, 9).pack(anchor="w", pady=(px(8), 0)) for _ in range(2)
		]
		self.advice = look.label(self.page, "", 12)
		self.advice.pack(anchor="w", pady=(px(4), 0))
		words = "Clear voice: no echo, no noise (off for music)"
		self.clear = self._switch(words, "sound", ("original", "clear"))
		self._words("Speaker")
		row = look.frame(self.page)
		row.pack(fill="x")
		test = Button(look, row, self.backend.test_speaker, tr("Play a test"), height=42)
		test.pack(side="right", padx=(px(10), 0))
		self._device("speaker", row).pack(side="left", fill="x", expand=True)
		self._words("Speaker volume")
		volume, chosen = self.backend.setting("volume"), partial(self.backend.set_setting, "volume")
		Slider(look, self.page, volume, self.backend.try_volume, chosen).pack(fill="x")
		self._switch("Hold Space to talk", "space_talk")

	def _switch(self, words: str, key: str, *values: tuple[str, str]) -> Switch:
		row, switch = switch_row(self.look, self.page, tr(words), self.backend, key, *values)
		row.pack(fill="x", pady=(self.look.px(14), 0))
		return switch

	def _set(self, key: str, value: Any) -> None:
		self.backend.set_setting(key, value)
		if key == "mic":  # each has its own sound
			self.clear.show(value=self.backend.setting("sound") != "original")

	def _video(self) -> None:
		self._words("Camera")
		self._device("camera", self.page).pack(fill="x", pady=(0, self.look.px(14)))
		look = self.look
		tall = min(look.px(270), look.root.winfo_height() - look.px(340))  # the page's rest has room, too
		sheet = Painted(look, self.page, tall * 16 // 9, tall).pack(anchor="w")
		self.tile = PictureBox(sheet, lambda: self.preview.now()[1:])
		self.tile.place((0, 0, tall * 16 // 9, tall))
		self._switch("Show me as in a mirror", "mirror")
		self._switch("Best picture (by cable, not by Wi-Fi)", "best_picture")

	def _style(self, words: str, key: str, options: Sequence[tuple[str, str]]) -> None:
		self._words(words)
		value = self.backend.setting(key) or tr.language
		row = self.look.frame(self.page)
		row.pack(fill="x")
		for one, said in options:
			kind, go = "primary" if one == value else "plain", partial(self._restyled, key, one)
			Button(self.look, row, go, said, kind=kind).pack(side="left", padx=(0, self.look.px(8)))

	def _look(self) -> None:
		names = [("dark", tr("Dark")), ("light", tr("Light")), ("contrast", tr("High contrast"))]
		self._style("Colours", "palette", names)
		sizes = [(str(size), f"{size} %") for size in (100, 125, 150, 175, 200)]
		self._style("Size of everything", "scale", sizes)
		self._switch("Say aloud what happens", "spoken")
		self._switch("Up to 49 people on a page", "many_tiles")

	def _language(self) -> None:
		tongues = [("en", "English"), *((code, words) for code, words in LANGUAGES if offered(code))]
		self._style("Language", "language", tongues)

	def _restyled(self, key: str, value: str) -> None:
		self.backend.set_setting(key, value)
		self.close()
		self.restyle(self.name)

	def _keys(self) -> None:
		look, px = self.look, self.look.px
		rows: list[list[str]] = []
		for one in COMMANDS.values():
			if one.tip and one.keys:
				rows.append([tr(one.keys), one.tip])
			elif one.keys:
				rows[-1][0] += f"  {one.keys}"
		step = min(px(23), (look.root.winfo_height() - px(124)) // len(rows))
		tall = min(px(24), step - px(2))
		sheet = Painted(look, self.page, px(480), step * len(rows))
		for at, (keys, words) in enumerate(rows):
			y = step * at + step // 2
			room = look.font(12, bold=True).measure(keys) + px(18)
			sheet.box(0, y - tall // 2, room, tall, 6, look.palette.raised)
			sheet.text(px(9), y, keys, 12, bold=True)
			sheet.text(px(130), y, tr(words), 13, colour=look.palette.second)
		sheet.pack(anchor="w")

	def _tick(self) -> None:
		(*levels, leaks), _, picture = self.preview.now()
		for meter, level in zip(self.meters, levels, strict=False):
			meter.show(level)
		if self.meters:
			self.look.say(self.advice, tr("Headphones stop echo for everyone.") if leaks else "")
		if self.tile:
			note = "" if picture is not None else tr(self.backend.preview.failed.get("camera", ""))
			self.tile.show(TileLook(name=tr("You"), mirror=mirrored(self.backend), note=note))
		self._later(100, self._tick)

	def close(self) -> None:
		"""Take it away; devices that ran for it alone stop."""
		if self.open:
			self.preview.try_out(camera=False, mic=False)
		self._no_tile()
		super().close()

	def _no_tile(self) -> None:
		if self.tile:
			self.tile.remove()
			self.tile = None


def grabbed(root: tk.Tk) -> bool:
	"""Whether a dialog or a menu has the keyboard for itself."""
	return bool(root.tk.call("grab", "current"))


# ====
# [32] WINDOW - keys, the meeting's view, the loop that draws
# Uses: BASICS, WIRE, CALL, LINKS, PROCESS, DEVICES, CONTROLLER, PROGRAM, TEXTS, DRAWING, WIDGETS, STAGE,
# PANELS, DIALOGS


class Talk:
	"""Hold Space to talk: X repeats a held key as release and press, so a release counts after 60 ms."""

	def __init__(self, root: tk.Tk, turn: Callable[[bool], None]):
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


class EventWords:
	"""Turns events into toasts, dots, notes, spoken cues and floating reactions."""

	# What others did, by event: a sentence for its fields, and the toast's icon; without one it is a note.
	NOTICES: ClassVar = {
		"join": ("{name} joined", ""),
		"state": ("{name} raised a hand", "✋"),
		"screen_start": ("{name} shares the screen", "share"),
		"muted": ("{by} muted you", "mic"),
		"stilled": ("{by} turned your camera off", "camera"),
		"handed_in": ("Your work was handed in", "check"),
		"reconnected": ("Connected again", "check"),
		"private_waits": ("Waits for {host}: {text}", ""),
	}

	ASKED: ClassVar = {  # what more is to be known, and the word of a yes
		"share": (
			"{by} asks you to show your screen to everyone", "All that lies over it is seen, too.", "Share"
		),
		"stand_by": (
			"{by} asks: may the lesson go on at your computer if theirs fails?",
			"Messages of all then pass through it.", "Accept",
		),
	}  # fmt: skip

	def __init__(self, view: MainAppView):
		self.view = view
		self._permissions: Json = {}  # as last told
		self._unlisted = ""  # why no list is kept
		self._around = set[str]()

	def take(self, event: Json) -> None:
		"""Handle one event, by `_on_EVENT` or as NOTICES say; others change the snapshot only."""
		self.view.chat.answered(event)
		event = {**event, "event": "stilled"} if event.get("what") == "camera" and "by" in event else event
		if handler := getattr(self, f"_on_{event['event']}", None):
			handler(event)
		elif event.get("id") == self.view.shot.me or not event.get("raised", True):
			return
		elif event["event"] == "join" and event["id"] >> ID_SHIFT < self.view.controller.snapshot().epoch - 1:
			return  # was in before the lesson moved here
		elif notice := self.NOTICES.get(event["event"]):
			words, view = tr(notice[0], **event), self.view
			if notice[1] == "✋" and view.shot.leads:
				self._tell(words, notice[1], "Give the word", partial(view.act, "word", to=event["name"]))
			elif notice[1]:
				self._tell(words, notice[1])
			else:
				self._note(words)

	def _on_reaction(self, event: Json) -> None:
		self.view.reactions.add(event["emoji"], event["from"])

	def _on_error(self, event: Json) -> None:
		words, of = event["reason"], event.get("ref")
		if of == "form":
			self.view.actions.refused(words)
		elif of != "list" or ("path" in event and words != self._unlisted):
			self._unlisted = words
			self._tell(words, "warning", stays=True)

	def _on_reconnecting(self, event: Json) -> None:
		if "code" in event:
			self._on_error(event)
		else:
			self._cue(tr("Reconnecting…"))

	def _on_left(self, _: Json) -> None:
		self.view.left("")

	def _on_permissions(self, event: Json) -> None:
		shot, old = self.view.shot, self._permissions
		self._permissions = event
		if shot.leads:
			return
		if event["word"] == shot.name != old.get("word"):
			self._cue(tr("You have the word"))
		elif not event["what"]["mic"] and old.get("what", {}).get("mic", True):
			self._tell("Microphones are off: raise your hand to get the word.", "mic")

	def _on_rooms(self, _: Json) -> None:
		shot, known = self.view.controller.snapshot(), self._around
		self._around = {one.name for one in shot.people if one.id in shot.around and one.id != shot.me}
		if new := sorted(self._around - known):
			leave = partial(self.view.act, "room", same=None)
			words = tr("{name}: {fact}", name=", ".join(new[:3]), fact=Words("heard through the air"))
			self._tell(words, "person", "Not in my room", leave, stays=True)

	def _on_leave(self, event: Json) -> None:
		view, name, lost = self.view, event["name"], event["reason"] == "lost"
		if (one := view.shot.person(event["id"])) and event["reason"] != "replaced":
			one = replace(one, mic=False, camera=False, hand=0.0, sharing=False)
			view.attendees.gone[name] = Gone(one, monotonic(), lost)
		fact = Words("lost the connection")
		self._note(tr("{name}: {fact}" if lost else "{name} left", name=name, fact=fact))

	def _on_spotlight(self, event: Json) -> None:
		if name := event["name"]:
			who = Words("You") if name == self.view.shot.name else name
			self._tell(tr("Everyone sees {name}", name=who), "star")

	def _on_asked(self, event: Json) -> None:
		view, to, by = self.view, event["to"], event["by"]
		if to == "work":
			words = tr("To be handed in: {title}", title=view.shot.rules.collecting)
			self._tell(words, "upload", "Hand in", partial(view.run, "hand_in"), stays=True)
		elif to == "camera":
			turn = partial(view.act, "camera", on=True)
			self._tell(tr("{by} asks for your camera", by=by), "camera", "Start video", turn, stays=True)
		else:
			asked, more, yes = self.ASKED[to]
			self._cue(words := tr(asked, by=by))
			view.ask_agree(to, words, tr(more), yes)

	def _on_question(self, event: Json) -> None:
		counts, asked = event["counts"], event["question"]
		if asked and counts and not self.view.shot.leads:
			results = [f"{answer}: {count}" for answer, count in zip(event["answers"], counts, strict=False)]
			words = " · ".join([asked, *results])
			self._note(words)
			self._tell(words, "chat", stays=True)

	def _on_collecting(self, event: Json) -> None:
		if event["title"]:
			self._cue(tr("To be handed in: {title}", title=event["title"]))

	def _on_timer(self, event: Json) -> None:
		ends = abs(self.view.shot.timer - monotonic()) < 2  # not ended before
		if not event["seconds"] and ends:
			self._tell("Time is up", "clock")
			self.view.backend.test_speaker()

	def _on_chat(self, event: Json) -> None:
		view, name, read = self.view, event["from"], self.view.reading()
		if name == view.shot.name or event.get("history"):
			return
		if not read:
			view.side.buttons["chat"].show(unread=True)
		if event["event"] == "private" and not (read and view.in_front()):
			words = tr("{name} wrote to you in private", name=name)
			self._tell(words, "chat", "Answer", partial(view.actions.write_to, name))

	_on_private = _on_chat

	def _tell(self, words: str, icon: str, *action: Any, stays: bool = False) -> None:
		self.view.toasts.add(words, icon, *action, stays=stays)
		if action and not self.view.in_front():
			with suppress(DeviceError), closing(_open_window_system()) as system:
				system.flash(self.view.look.root)
		self._cue(words)

	def _cue(self, words: str) -> None:
		if self.view.backend.setting("spoken"):
			self.view.backend.voice.say(plain(tr(words)), tr.language)

	def _note(self, words: str) -> None:
		self._cue(words)
		chat = self.view.controller.snapshot().chat
		self.view.chat.note(words, chat[-1].n if chat else 0)

	def _on_file_offer(self, event: Json) -> None:
		if event["from"] != self.view.shot.name:
			words = tr("{from} offers {name} ({size})", **{**event, "size": size_words(event["size"])})
			self._tell(words, "file", "Look", partial(self.view.show_panel, "files"))

	def _on_file_saved(self, event: Json) -> None:
		show = partial(self.view.actions.show_folder, event["path"])
		self._tell(tr("Saved: {name}", name=Path(event["path"]).name), "check", "Look", show)

	def _on_file_failed(self, event: Json) -> None:
		gone = event["code"] == "no_such_file"  # taken back: no error
		self._tell(event["reason"], "file" if gone else "warning", stays=not gone)

	def _on_device(self, event: Json) -> None:
		if event["reason"]:
			self._tell(event["reason"], "warning", "Settings", self.view.settings, stays=True)

	def _on_knock(self, event: Json) -> None:
		look = partial(self.view.show_panel, "attendees")
		self._tell(knock_words(event), "person", "Look", look, stays=True)

	def _on_knock_gone(self, event: Json) -> None:
		if asked := self.view.shot.asks.get(event["n"]):
			self.view.toasts.forget(knock_words(asked))

	def _on_host_away(self, event: Json) -> None:
		minutes = math.ceil(event["seconds"] / 60)
		self._tell(tr("Without its host the meeting ends in {minutes} min", minutes=minutes), "warning")

	def _on_ended(self, event: Json) -> None:
		# of a link that broke the reason is one word, for programs
		reason = event["reason"] or "The meeting has ended."
		words = tr(reason if " " in reason else "The host does not answer.")
		self._cue(words)
		self.view.left(words)


class Actions:
	"""What may be done in a meeting, by button, key or menu."""

	def __init__(self, view: MainAppView):
		self.view = view
		self.source = self.shown = ""  # what is shared, as the command says it, and as people do
		self.read = 0  # lines of chat, while the desktop was shared
		self.refused: Run = str  # shows the last form again, with a reason

	def toggle(self, what: str) -> None:
		"""Microphone or camera on or off; before the first time, what the system may ask."""
		view, told, shot = self.view, f"told_{what}", self.view.controller.snapshot()
		on = shot.wants(what)
		if not on and not shot.may(what):
			if what == "mic" and not shot.wants("hand"):
				self.hand()
			self.refuse(what)
			return
		if not on and (asks := system_asks(what)) and not view.backend.setting(told):
			view.backend.set_setting(told, True)
			view.toasts.add(asks, what)
		view.act(what, on=not on)

	def refuse(self, what: str) -> None:
		"""Say why `what` of PERMITS is locked."""
		shot = self.view.controller.snapshot()
		number = next((n for n, one in enumerate(shot.hands, 1) if one.id == shot.me), 0)
		words = tr(not_permitted(what).reason)
		if what == "mic" and number:
			words = tr("Your hand is up: number {number}", number=number)
		self.view.toasts.add(words, "lock")

	def mute_all(self) -> None:
		"""Turn all microphones off, and offer to keep them so."""
		view, shot = self.view, self.view.shot
		count = sum(one.mic and one.id != shot.me for one in shot.people)
		view.act("mute", who="all")
		keep = tr("Keep microphones off"), partial(view.act, "permit", what="mic", on=False)
		view.toasts.add(tr("{count} muted", count=count), "mic", *(() if "mic" in shot.rules.off else keep))

	def hand(self) -> None:
		self.view.act("hand", up=not self.view.controller.snapshot().wants("hand"))

	def react(self) -> None:
		"""Offer the reactions."""
		view = self.view
		if not view.shot.may("react"):
			self.refuse("react")
			return
		button = view.side.buttons["react"].canvas
		EmojiPicker(view.look, REACTIONS, lambda char: view.act("react", emoji=char), button, 6)

	def share(self) -> None:
		"""Start or stop sharing the screen; another's sharing is not interrupted."""
		view, shot, over = self.view, self.view.shot, self._who_shares()
		if shot.presenter == shot.me != 0:
			view.act("share", on=False)
		elif not shot.may("share"):
			self.refuse("share")
		elif over and not shot.leads:
			view.toasts.add(over, "share")
		else:
			go = partial(self._share, over)
			keep_private(view.look.root, True)
			view.ask(ShareDialog(view, go, over))

	def _who_shares(self) -> str:
		shot = self.view.shot
		one = shot.person(shot.presenter)
		words = tr("{name} shares the screen", name=one.name if one else "?")
		return words if shot.presenter not in (0, shot.me) else ""

	def _share(self, over: str, source: str, words: str) -> None:
		view, now = self.view, self._who_shares()
		if now in ("", over):
			if now:
				view.act("take_over")
			self.source, self.shown, self.read = source, words, len(view.shot.chat)
			view.act("share", on=True, source=source)
		elif view.shot.leads:  # somebody began while one chose
			go = tr("Take over"), "danger", partial(self._share, now, source, words)
			view.confirm(now, "", ("Cancel", "plain"), go)
		else:
			view.toasts.add(now, "share")

	def present(self) -> None:
		"""While the desktop is shared, a small bar lies over it in place of the window."""
		view, shot, bar = self.view, self.view.shot, self.view.bar
		over = shot.presenter == shot.me != 0 and self.source.partition(":")[0] in ("screen", "window")
		if bar and not (over and bar.look is view.look):
			bar.window.destroy()
			view.bar = None
		if over and view.bar is None:
			view.bar = ShareBar(view.look, view.frame)
			keep_private(view.bar.window, True)
		if over != bool(bar):
			view.look.root.iconify() if over else self.come_back()
		if view.bar:
			if view.reading() and in_sight(view.frame):
				self.read = len(shot.chat)
			words, kind, *choices = self.sharing()
			news = sum(not line.own for line in shot.chat[self.read :])
			hands, mic = tr("Hands: {count}", count=len(shot.hands)), view.side.buttons["mic"]
			first = (
				(hands, partial(self.come_back, "attendees")),
				(f"{tr('Chat')} {news}", partial(self.come_back, "messages")),
				(mic.words, mic.command),
			)
			view.bar.notice.show((words, kind, *first, *choices))

	def sharing(self) -> tuple[Any, ...]:
		"""What everyone sees; what lets it stand still or go on, and what ends it."""
		paused = any(one.paused for one in self.view.shot.people if one.id == self.view.shot.me)
		pause = partial(self.view.act, "pause", on=not paused)
		words = tr("Paused") if paused else tr("Everyone sees {name}", name=self.shown)
		pauses = tr("Resume") if paused else tr("Pause"), pause
		return words, "plain", pauses, (tr("Stop share"), self.share)

	def come_back(self, page: str = "") -> None:
		"""Bring the window back, with a page of its panel."""
		self.view.backend.orders.put("show")
		if page:
			self.view.show_panel(page)

	def full_screen(self) -> None:
		"""Fill the screen with the pictures alone, or go back to bars and panel."""
		root = self.view.look.root
		root.attributes("-fullscreen", not root.attributes("-fullscreen"))

	def escape(self) -> None:
		"""Close the panel, then leave full screen, then the meeting, after asking."""
		view = self.view
		if view.panel_open:
			view.flip_panel(view.tab)
		elif view.look.root.attributes("-fullscreen"):
			self.full_screen()
		else:
			self.ask_leave()

	def invite(self) -> None:
		"""Show how others come in."""
		view = self.view
		view.ask(InvitationDialog(view.look, view.shot, view.backend.ways_in(), self.copy_invitation))

	def check(self) -> None:
		self.view.ask(DoctorDialog(self.view, self.check))

	def give_app(self) -> None:
		self.view.ask(GiveDialog(self.view))

	def copy_invitation(self) -> None:
		"""Address, code and PIN, ready to be pasted."""
		shot, way = self.view.shot, self.view.backend.ways_in()[0]
		words = [shot.title, f"{tr('Address')}: {way.address}", f"{tr('or the code')}: {way.code}"]
		copy_text(self.view.look.root, "\n".join([*words, f"PIN: {shot.pin}"] if shot.pin else words))
		self.view.toasts.add("Copied: paste it for the others", "check")

	def save_chat(self) -> None:
		"""Choose a file and write the messages to it."""
		shot, add = self.view.shot, self.view.toasts.add
		if path := self._new_path("Save the chat", ".txt"):
			try:
				Path(path).write_text("\n".join([shot.title, "", *map(chat_words, shot.chat), ""]), "utf-8")
			except OSError as error:
				add(tr(UNWRITABLE, path=path, fault=system_words(error)), "warning")
			else:
				add(tr("Saved: {name}", name=Path(path).name), "check")

	def _new_path(self, title: str, kind: str) -> str:
		name = safe_file_name(self.view.shot.title) + kind
		return asked_path(self.view.frame, tr(title), save=True, initialfile=name, defaultextension=kind)

	def upload(self, what: str = "") -> None:
		"""Choose a file to `upload`, `hand_out` or `hand_in`; beside a message, what suits who reads it."""
		view, shot = self.view, self.view.shot
		to = (view.chat.composer if view.reading() else view.files).target.value
		late = shot.rules.collecting and shot.name not in shot.handed_in
		what = what or ("upload" if to else "hand_out" if shot.leads else "hand_in" if late else "upload")
		sheets = [one.path for one in shot.files if one.path and what == "hand_in"] or [""]
		near = os.path.dirname(sheets[-1])
		if path := asked_path(view.frame, tr(COMMANDS[what].words), initialdir=near):
			view.act(what, path=path, **{"to": to} if to and what == "upload" else {})
			view.show_panel("files")

	def save_list(self) -> None:
		"""Choose a file and have the list of who was here written to it."""
		if path := self._new_path("Save the list of who was here…", ".csv"):
			self.view.act("attendance", path=path)

	def choose_names(self) -> None:
		"""Choose a text with the class's names, a line each, for lessons of this title."""
		view, known = self.view, self.view.backend.setting("names")
		if path := asked_path(view.frame, tr("Class list…")):
			try:
				data = Path(path).read_bytes()[: 1 << 16]
				text = data.decode("utf-8-sig")
			except UnicodeDecodeError:
				text = data.decode("cp1252", "replace")
			except OSError as error:
				view.toasts.add(tr(UNREADABLE, path=path, fault=system_words(error)), "warning")
				return
			names = [clean_name(line) for line in text.splitlines() if line.strip()][:MAX_PEOPLE]
			view.backend.set_setting("names", {**known, view.shot.title: names})
			view.needs_render = True
			view.show_panel("attendees")

	def _form(
		self, title: str, ok: str, command: Callable[..., Json], fields: Mapping[str, str], trouble: str = ""
	) -> None:
		"""Ask for what `command` takes; again, if it is refused."""

		def go(*values: str) -> None:
			typed = dict(zip(fields, values, strict=True))
			self.refused = partial(self._form, title, ok, command, typed)
			self.view.act(**command(*values), ref="form")

		look = self.view.look
		form = self.view.dialog = Form(look, tr(title).rstrip("…"), tr(ok).rstrip("…"), go)
		for words, value in fields.items():
			form.caption(words)
			form.add(Field(look, form.body, value, enter=form.enter))
		form.blame(trouble)

	def ask_class(self) -> None:
		"""A quick question to everyone."""

		def ask(question: str, answers: str) -> Json:
			choices = [one.strip() for one in answers.split("/") if one.strip()]
			choices = choices if len(choices) > 1 else ["✓", "✗"]
			return {"do": "ask", "question": question or "?", "answers": choices}

		asked = {"Question": "", "Up to 5 answers, with / between them": ""}
		self._form("Quick question…", "Send", ask, asked)

	def ask_collect(self) -> None:
		"""What is to be handed in."""

		def collect(title: str) -> Json:
			return {"do": "collect", "open": True, "title": title or self.view.shot.title}

		self._form("Collect work…", "Collect work…", collect, {"Title": ""})

	def ask_name(self, name: str) -> None:
		"""Another name for somebody."""
		who = {} if name == self.view.shot.name else {"who": name}
		self._form("Rename…", "Rename…", lambda new: {"do": "rename", "name": new, **who}, {"New name": ""})

	def show_folder(self, path: str) -> None:
		"""Open the folder of what was received."""
		folder = Path(path).absolute().parent if path else self.view.backend.downloads()
		if folder.is_dir():
			getattr(os, "startfile", lambda path: webbrowser.open(path.as_uri()))(folder)
		else:
			self.view.toasts.add("No files yet", "folder")

	def about(self, key: int | str, where: str = "person") -> list[Entry]:
		"""What can be done with a person, as menu entries, or at a tile."""
		shot, entries, tip = self.view.shot, list[Entry](), ""
		one = shot.person(key)
		if where == "person" and one and key == shot.me:
			return [(tr("Rename…"), partial(self.ask_name, one.name))]
		for name, does in commands_at(where).items():
			whom, tip = [one] * ("person" in does.where), does.tip or does.words or tip
			if does.may(shot, *whom):
				on = [True] * (one is not None and does.on(shot, one))
				act = partial(does.does, self.view, *whom, *on)
				words = "✓ " * len(on) + tr(does.words)
				entries += [*[None] * does.apart, (words, act, does.icon or name, tip, does.keys)]
		return entries

	def ask_hand_over(self, to: str) -> None:
		"""Ask before it goes to `to`."""
		words = tr("The lesson goes on at {name}'s computer; messages pass through it.", name=to)
		no, over = ("Cancel", "plain"), tr("Hand the lesson over…").rstrip("…")
		go = over, "primary", partial(self.view.act, "hand_over", to=to, rights=False)
		self.view.confirm(over, words, no, go)

	def hear(self, one: Person, by: float) -> None:
		"""Hear a person that much louder."""
		gain = self.view.shot.gains.get(one.name, 1.0) + by
		self.view.act("volume", who=one.name, gain=min(2.0, max(0.0, gain)))

	def write_to(self, name: str) -> None:
		"""Open the messages with `name` as the one who reads them."""
		self.view.show_panel("messages")
		self.view.chat.composer.to(name)

	def ask_remove(self, name: str) -> None:
		"""Ask before removing somebody."""
		go = tr("Remove from the meeting…").rstrip("…"), "danger", partial(self.view.act, "remove", who=name)
		self.view.confirm(tr("Remove {name}?", name=name), "", ("Cancel", "plain"), go, first="Cancel")

	def ask_leave(self, closes: bool = False) -> None:
		"""Ask before leaving; a host may end it for all. `closes`: the window with it, unless it goes on."""
		view, title, stay = self.view, tr("Leave the meeting"), ("Stay", "plain")
		if view.shot.role == "host":
			words = tr("Others can go on without you.")
			leave = ("Leave", "plain", self.leave)
			end = ("End for all", "danger", partial(self.leave, closes, "end"))
			view.confirm(title, words, stay, leave, end, first="Leave")
			body = cast(Dialog, view.dialog).body
			save = Button(view.look, body, self.save_list, tr("Save the list of who was here…"), kind="link")
			save.pack(anchor="w", padx=view.look.px(20))
		else:
			view.confirm(title, "", stay, ("Leave", "danger", partial(self.leave, closes)))

	def leave(self, closes: bool = False, do: str = "leave") -> None:
		"""Leave at once, or `end` the meeting for all; `closes`: the window, too."""
		self.view.closes = closes
		self.view.act(do)
		if do == "leave":
			self.view.left("")


class Pager(Painted):
	"""Below the stage: which of its pages is shown, and the ways to the others."""

	def __init__(self, look: Look, parent: tk.Misc, stage: Stage):
		super().__init__(look, parent, look.px(200), look.px(34))
		self._stage = stage

	def show(self) -> None:
		"""Show the page of the stage, if it has several."""
		stage, px, p = self._stage, self.px, self.palette
		if stage.plan.pages <= 1:
			self.canvas.grid_remove()
			return
		self.grid(row=3, column=1, pady=(0, px(6)))
		self.wipe()
		shown = min(stage.plan.pages, 8)
		self.configure(width=px(150 + 16 * shown))
		self.icon(px(12), px(17), "left", 18, p.second)
		x = px(30)
		for at in range(shown):
			here = at == min(stage.plan.page, shown - 1)
			self.box(x, px(14), px(14 if here else 7), px(7), 4, p.focus if here else p.line)
			x += px(22 if here else 15)
		self.icon(x + px(8), px(17), "right", 18, p.second)
		words = tr("Page {page} of {pages}", page=stage.plan.page + 1, pages=stage.plan.pages)
		self.text(x + px(28), px(17), words, 12, colour=p.second)
		self.spot("back", (0, 0, px(26), px(34)), partial(stage.turn, -1))
		self.spot("on", (x, 0, px(200), px(34)), partial(stage.turn, 1))


class MainAppView:
	"""The meeting window: arranges bars, stage and panel, reads snapshots, sends commands."""

	NEW_HOST_SECONDS = 60.0  # that a host never seen before is named for
	STAYS: ClassVar = {  # what of its parts stays in another look
		"stage": ("plan", "zoom", "_last"), "toasts": ("_toasts", "_count"), "attendees": ("gone",),
		"files": ("picked",), "chat": ("picked", "_anchor", "_notes", "_sent", "_whole"),
		"chat.composer": ("_back",),
		**dict.fromkeys(
			("chat.list", "attendees.list", "files.list"), ("_at", "_y", "_ended", "chosen_action")
		),
	}  # fmt: skip

	def __init__(self, loop: WindowLoop, controller: MeetingController):
		look = self.look = loop.look
		self.backend, self.tasks, self.controller = loop.backend, loop.tasks, controller
		self.left, self.restyle = loop.left, loop.restyle
		self.frame = look.frame(look.root)
		self.shot = controller.snapshot()
		self.needs_render = True
		self.tab = "messages"
		self.dialog: Dialog | None = None
		self.card: ClassCard | None = None
		self.bar: ShareBar | None = None
		self._second = 0
		self.talk = Talk(look.root, lambda on: self.act("mic", on=on, held=True))
		self.events = EventWords(self)
		self.actions = Actions(self)
		self._started, self._begun = monotonic(), time.strftime("%Y-%m-%d %H.%M")
		self._readdress = -inf
		self._warned_muted = -inf
		self._settled = False  # the first minute is over
		self.closes = False  # the window, too, when the meeting is left
		self.panel_open, self.away, self.folded = True, False, False
		self._build()
		self.show_panel("messages")

	def _build(self) -> None:
		look, frame = self.look, self.frame
		self.side = SideBar(look, frame, self.run)
		self.top = TopBar(look, frame, self.run, self.act)
		self.notice = NoticeBar(look, frame)
		self.stage = Stage(look, frame, self.controller)
		self.stage.menu_for = self.actions.about
		self.pager = Pager(look, frame, self.stage)
		self.stage.pages_changed = self.pager.show
		self.toasts, self.reactions = ToastStack(self.stage), Reactions(self.stage)
		self.panel = SidePanel(look, frame, self.show_panel)
		self.chat = ChatPanel(look, self.panel.frame, self.act, self.actions.upload, self.actions.save_chat)
		self.attendees = AttendeesPanel(look, self.panel.frame, self.stage.hover.menu, self.act, self.run)
		self.files = FilesPanel(
			look, self.panel.frame, self.act, partial(self.actions.upload, "upload"),
			self.actions.show_folder, self.run,
		)  # fmt: skip
		self.panel.pages = {
			"messages": self.chat.frame, "attendees": self.attendees.frame, "files": self.files.frame
		}  # fmt: skip
		frame.columnconfigure(1, weight=1)
		frame.rowconfigure(2, weight=1)
		self.side.frame.grid(row=0, column=0, rowspan=4, sticky="ns", padx=(0, 1))
		self.top.frame.grid(row=0, column=1, columnspan=2, sticky="ew", pady=(0, 1))
		self.stage.grid(row=2, column=1, sticky="nsew")
		frame.bind("<Configure>", lambda event: self._fit(event.width))

	def _fit(self, width: int) -> None:
		px = self.look.px
		self.panel.frame.configure(width=px(348 if width > px(1180) else 320))

	# every tick

	def tick(self) -> None:
		"""One round of the render loop: events, snapshot, pictures."""
		while not self.controller.gui_queue.empty():
			self.needs_render = True
			self.events.take(self.controller.gui_queue.get())
		if not self.frame.winfo_exists():
			return  # an event ended the meeting
		shot = self.controller.snapshot()
		self._make_room(shot)
		now = monotonic()
		settled = now - self._started >= self.NEW_HOST_SECONDS
		if shot != self.shot or self.needs_render or settled != self._settled:
			self.needs_render, self._settled = False, settled
			self.shot = shot
			self._show(shot)
		self.actions.present()
		if now >= self._readdress:  # the host may move, this computer may get another address
			self._readdress, self.address = now + 5, self.backend.ways_in()[0].address
			if shot.role == "host":
				name = f"{self._begun} {safe_file_name(shot.title)}.csv"
				self.act("attendance", path=str(self.backend.downloads() / name), ref="list", aside=True)
		self.top.show(shot, self.stage.plan.layout, now, self.address)
		if (shot.hands or self.attendees.gone) and int(now) != self._second:
			self._second = int(now)
			self._forget_gone(now)
			self.attendees.show(shot)
		self.stage.veiled = bool(self.dialog and self.dialog.open)
		seen = in_sight(self.stage.canvas)
		self.stage.see(seen)
		power.need("display", self, self.stage.shows_others)
		if seen:
			self.stage.render()
		self.reactions.step()
		self.toasts.step()

	def _show(self, shot: Snapshot) -> None:
		self.side.show(shot, self.talk.on)
		self.stage.mirror = mirrored(self.backend)
		self.stage.best, many, names = map(self.backend.setting, ("best_picture", "many_tiles", "names"))
		self.attendees.names = names.get(shot.title, ())
		if many != self.stage.plan.many:
			self.stage.plan.many = many
			self.stage.arrange()
		self.stage.show(shot)
		self._forget_gone(monotonic())  # at once: whoever comes or goes by a break moves nobody's tile
		for view in (self.chat, self.attendees, self.files):
			view.show(shot)
		self.panel.count(len(shot.people), len(shot.files))
		if self.card and shot.leads:
			self.card.show(shot)
		elif self.card:
			self.flip_class()
		if self.notice.show(*self._lines(shot)):
			self.notice.frame.grid(row=1, column=1, columnspan=2, sticky="ew")
		else:
			self.notice.frame.grid_remove()
		greets = self._warned_muted < 0 and shot.leads and shot.people[1:] and not shot.wants("mic")
		told = monotonic() - self._warned_muted < 30 or self.talk.on
		if (greets or shot.muted_speech) and not told:
			self._warned_muted = monotonic()
			self.toasts.add(tr("You are muted"), "mic", tr("Unmute"), partial(self.actions.toggle, "mic"))

	def _forget_gone(self, now: float) -> None:
		gone, here = self.attendees.gone, {one.name for one in self.shot.people}
		for name, one in list(gone.items()):
			if name in here:
				del gone[name]
			elif one.lost and now - one.at > 600:
				gone[name] = replace(one, lost=False)
		lost = tuple(one.person for one in gone.values() if one.lost)
		if lost != self.stage.plan.lost:
			self.stage.plan.lost = lost
			self.stage.arrange()
			self.needs_render = True

	def _lines(self, shot: Snapshot) -> Iterator[tuple[Any, ...]]:
		asked, rules, actions = shot.question, shot.rules, self.actions
		leave = tr("Leave"), actions.ask_leave
		check = tr("Not working? Check this computer"), actions.check
		if shot.link == "reconnecting":
			yield tr("Reconnecting…"), "link", check
		elif shot.presenter and shot.presenter == shot.me:
			yield actions.sharing()
		elif shot.served_by not in ("", shot.host):
			at = shot.served_by
			words = tr("The lesson goes on at {name}'s computer; messages pass through it.", name=at)
			if shot.missed:
				words += " " + tr("Nobody has the host's rights until {host} is back.", host=shot.host)
			back = partial(self.act, "hand_over", to=shot.name, rights=False)
			yield words, "link", (tr("Bring the lesson back"), back) if shot.role == "host" else leave
		elif all(one.role == "member" for one in shot.people):
			yield tr("{name} is away", name=shot.host), "link", leave
		lost = len(self.stage.plan.lost)
		for one in shot.people * shot.leads:
			if one.name == rules.spotlight and not one.camera and one.id != shot.me:
				ask = partial(self.act, "ask_share", who=one.name, what="camera")
				yield f"{one.name}: {tr('The camera is off')}", "link", (tr("Ask"), ask)
		if shot.leads and lost >= max(3, len(shot.people)):
			words = tr(
				"{count} people lost the connection: look at this computer's cable or Wi-Fi", count=lost
			)
			yield words, "link", check
		if not shot.leads and rules.word == shot.name:
			words = tr("Mute") if shot.wants("mic") else tr("Unmute")
			yield tr("You have the word"), "primary", (words, partial(actions.toggle, "mic"))
		if not shot.leads and asked.answers:
			choices = [
				(f"{'● ' * (asked.own == n)}{plain(answer)}", partial(self.act, "answer", index=n))
				for n, answer in enumerate(asked.answers)
			]
			yield asked.question, "primary", *choices
		if not shot.leads and rules.collecting and shot.name not in shot.handed_in:
			words = tr("To be handed in: {title}", title=rules.collecting)
			yield words, "primary", (tr("Hand in"), partial(actions.upload, "hand_in"))
		if shot.new_host and not self._settled and shot.role != "host":
			yield tr("Hosted by {name}, new to this computer", name=shot.host), "link", leave

	# what the user does

	def rebuild(self, look: Look) -> None:
		"""Show the same in another look: what is open, chosen, marked and written stays."""
		old, focus = copy.copy(self), focused(look.root)
		self.look, self.frame, self.needs_render = look, look.frame(look.root), True
		self._build()
		for part, names in self.STAYS.items():
			new, before = attrgetter(part)(self), attrgetter(part)(old)
			for name in names:
				setattr(new, name, getattr(before, name))
		self.stage.plan.px = look.px
		self.chat.composer.resume(old.chat.composer.text(), old.chat.composer.target.value)
		self.attendees.search.entry.insert(0, old.attendees.search.value)
		self.files.target.show(options=old.files.target.options, value=old.files.target.value)
		old.close()
		self.frame.pack(**FILL)
		self.show_panel(self.tab)
		if not old.panel_open:
			self.flip_panel(self.tab)
		elif focus is old.stage.canvas:
			self.stage.focus_set()
		if self.card:
			self.card = None
			self.flip_class()
		self.side.buttons["chat"].show(unread=old.side.buttons["chat"].unread)

	def act(self, do: str, **members: Any) -> None:
		self.controller.do({"do": do, **members})

	def set_layout(self, name: str) -> None:
		"""Grid, speaker or focus."""
		self.stage.plan.set_layout(name)
		self.stage.arrange()
		self.needs_render = True

	def run(self, name: str) -> None:
		"""Do what one of COMMANDS says, if it may be done now."""
		if COMMANDS[name].may(self.shot):
			COMMANDS[name].does(self)

	def flip_class(self) -> None:
		"""Show the card of the class, or take it away."""
		if self.card:
			card, self.card = self.card, None
			card.frame.destroy()
			if not self.write():
				self.stage.focus_set()
		else:
			self.card = ClassCard(self.look, self.frame, self.run, self.act, self.flip_class)
			self.card.show(self.shot)
			self.card.list.focus_set()

	def show_panel(self, name: str) -> None:
		"""Bring one page of the side panel to front, opening the panel."""
		self.panel_open, self.tab = True, name
		self.panel.frame.grid(row=2, column=2, rowspan=2, sticky="ns", padx=(1, 0))
		self.panel.choose(name)
		if name == "messages":
			self.side.buttons["chat"].show(unread=False)
		focus = focused(self.look.root)
		if not self.write() and focus and not focus.winfo_viewable():
			self.stage.focus_set()  # a hidden text would take in letters that nobody sees

	def write(self) -> bool:
		"""Put the cursor into the message while the messages are in sight; whether they are."""
		if self.reading():
			composer, ready = self.chat.composer, self.frame.winfo_ismapped()  # else it is being built
			(composer.focus if ready else composer.entry.focus_set)()
		return self.reading()

	def flip_panel(self, name: str) -> None:
		"""Show a page, or close the panel when it is the one shown."""
		if self.panel_open and self.tab == name:
			self.panel_open = False
			self.panel.frame.grid_remove()
			self.stage.focus_set()
		else:
			self.show_panel(name)

	def _make_room(self, shot: Snapshot) -> None:
		"""Full screen is the pictures alone; beside what others share the panel folds, unless one writes."""
		full = self.stage.plan.alone = bool(self.look.root.attributes("-fullscreen"))
		for bar in (self.side.frame, self.top.frame):
			if full == bool(bar.winfo_manager()):
				bar.grid_remove() if full else bar.grid()
		away, was = full or shot.presenter not in (0, shot.me), self.panel_open
		if away != self.away and (full or not away or not self.chat.composer.text()):
			if was if away else self.folded > was:
				self.flip_panel(self.tab)
			self.away, self.folded = away, was

	def reading(self) -> bool:
		return self.panel_open and self.tab == "messages"

	def in_front(self) -> bool:
		return focused(self.look.root) is not None

	def ask(self, dialog: Dialog) -> None:
		"""Show a dialog in place of another."""
		if self.dialog:
			self.dialog.close()
		self.dialog, dialog.back = dialog, self.write

	def confirm(self, *words: Any, first: str = "") -> None:
		self.ask(ConfirmDialog(self.look, *words, first=first))

	def ask_agree(self, to: str, words: str, more: str, yes: str) -> None:
		"""Ask for a consent; who does not answer for 20 s does not share the screen."""

		def answer(agreed: bool) -> None:
			dialog.close()
			if agreed and to == "share":
				keep_private(self.look.root, True)
				self.actions.source, self.actions.shown = "screen:0", Words("Screen {number}", number=1)
			self.act("agree", to=to, yes=agreed)

		no, agreed = ("Not now", "plain", partial(answer, False)), (yes, "primary", partial(answer, True))
		self.confirm(words, more, no, agreed, first=no[0])
		dialog = cast(ConfirmDialog, self.dialog)
		if to == "share":
			dialog._later(20_000, partial(answer, False))

	def settings(self, page: str = "audio") -> None:
		"""Open the settings."""
		self.ask(SettingsDialog(self, page))

	def close(self) -> None:
		"""Take the window apart."""
		if self.dialog:
			self.dialog.close()
		if self.bar:
			self.bar.window.destroy()
			self.backend.orders.put("show")
		power.need("display", self, False)
		self.reactions.clear()
		self.stage.close()
		self.frame.destroy()


# Letters and digits of a US keyboard by their number in X11 (from 10 on) and in macOS.
X_KEYS = "1234567890    qwertyuiop    asdfghjkl     zxcvbnm"
MAC_KEYS = "asdfghzxcv bqweryt123465 97 80 ou ip lj k    nm"


def modifiers(state: int) -> str:
	"""What is held with a key: "control", "alt" (or Super, Command), "sign" (AltGr, Option), or ""."""
	if sys.platform == "win32":  # where AltGr is Ctrl and Alt
		return ("", "control", "alt", "sign")[(state >> 2 & 1) + (state >> 16 & 2)]
	alt, sign = (8, 16) if sys.platform == "darwin" else (8 | 64, 128)
	return "alt" if state & alt else "control" if state & 4 else "sign" if state & sign else ""


def key_names(event: Event) -> tuple[str, ...]:
	"""What a key may mean: its sign, where that is not Latin its place on a US keyboard, and in the top row
	the digit, with Shift or without."""
	sign, code, place = event.keysym.lower(), event.keycode, ""
	if sys.platform == "win32":
		place = chr(code).lower() if code <= ord("Z") else ""
	elif sys.platform == "darwin":
		place = MAC_KEYS[(code >> 24 or code >> 16 & 63) :][:1]
	elif code >= 10:
		place = X_KEYS[code - 10 :][:1]
	if place.isdigit():
		return (sign,) if int(event.state) & 1 else (place, sign)
	latin = len(sign) == 1 or (event.char.isprintable() and "" < event.char < "\u0250")
	return (sign,) if latin else (sign, place)


class Keys:
	"""The keyboard: letters are commands only where no text is meant, a key that is held acts once, and
	Escape closes the newest of what stands."""

	TEXTS = ("Entry", "Text", "TEntry")
	SIGNS: ClassVar = {"plus": "+", "kp_add": "+", "minus": "−", "kp_subtract": "−", "question": "?"}
	EDIT: ClassVar = {
		"a": "<<SelectAll>>", "c": "<<Copy>>", "v": "<<Paste>>", "x": "<<Cut>>", "z": "<<Undo>>",
	}  # fmt: skip
	PAUSE = 1100  # ms without a repetition after which a press is a new one

	def __init__(self, root: tk.Tk, loop: WindowLoop):
		self.root, self.loop = keyed(root), loop
		self.commands = {key: name for name, one in COMMANDS.items() for key in one.keys.lower().split(", ")}
		del self.commands[""]  # of those without keys
		self._last: dict[int, tuple[bool, int]] = {}  # by key code: pressed or released, when (ms)
		self._again = False  # the key that is heard now is held
		root.bind_class(KEYBOARD, "<KeyPress>", self._first)
		root.bind_class(KEYBOARD, "<KeyRelease>", partial(self._heard, False))
		root.bind("<KeyPress>", self._press)
		root.bind("<KeyRelease-space>", self._release)
		root.bind("<FocusOut>", self._release)

	def _heard(self, down: bool, event: Event) -> bool:
		was_down, at = self._last.get(event.keycode, (False, -9))
		self._last[event.keycode] = down, event.time
		return event.time - at <= (1 if not was_down else self.PAUSE if sys.platform != "linux" else -1)

	def _first(self, event: Event) -> str | None:
		view, key, state, char = self.loop.view, event.keysym, int(event.state), event.char
		focus, chord, shift = focused(self.root), modifiers(state), bool(state & 1)
		typing = focus and focus.winfo_class() in self.TEXTS
		self._again = self._heard(True, event)
		talk, enter = key == "space" and not typing, key in ("Return", "KP_Enter") and not shift
		if self._again and (talk or enter or key == "Escape"):
			if talk and view and view.talk.on:
				view.talk.press()
			return "break"
		if key == "Escape" and event.widget.winfo_class() != "Menu":
			(self.loop.look.layers or [view.actions.escape if view else self.loop.cancel])[-1]()
			return "break"
		if chord in ("control", "alt"):
			return self._chord(event, chord, shift)
		text = char not in ("", " ") and char.isprintable()
		if not text or not view or typing or grabbed(self.root) or not view.reading():
			return None
		view.chat.composer.type(char)
		return "break"

	def _chord(self, event: Event, chord: str, shift: bool) -> str | None:
		view, mac = self.loop.view, sys.platform == "darwin"
		for name in key_names(event):
			if name in self.EDIT and not shift and chord == ("alt" if mac else "control"):
				event.widget.event_generate(self.EDIT[name])
				return "break"
			what = self.commands.get(f"ctrl+{'shift+' * shift}{name}")
			if what and chord == "control" and view and not grabbed(self.root):
				if not self._again:
					view.run(what)
				return "break"
		return "break" if chord == "alt" and not mac else None

	def _press(self, event: Event) -> None:
		view, focus = self.loop.view, focused(self.root)
		if not view or grabbed(self.root) or modifiers(int(event.state)):
			return
		if focus and focus.winfo_class() in self.TEXTS and event.keysym != "F11":
			return
		if event.keysym == "space":
			talks = self.loop.backend.setting("space_talk") and focus in (None, self.root, view.stage.canvas)
			if talks and (view.talk.on or not view.controller.snapshot().wants("mic")):
				view.talk.press()
			return
		keys = (self.SIGNS.get(key, key) for key in key_names(event))
		name = next((self.commands[key] for key in keys if key in self.commands), "")
		if name and (COMMANDS[name].again or not self._again):
			view.run(name)

	def _release(self, _: object) -> None:
		if self.loop.view:
			self.loop.view.talk.release()


def dark_title(root: tk.Tk, dark: bool) -> None:
	"""A dark title bar on Windows 10 and later."""
	if sys.platform == "win32":
		root.update_idletasks()
		value = ctypes.c_int(dark)
		window = ctypes.windll.user32.GetParent(root.winfo_id())
		ctypes.windll.dwmapi.DwmSetWindowAttribute(window, 20, ctypes.byref(value), 4)


def sharp_display() -> None:
	"""Per-monitor DPI awareness on Windows, which must be set before the first window."""
	if sys.platform == "win32":
		with suppress(AttributeError, OSError):
			ctypes.windll.shcore.SetProcessDpiAwareness(2)
			ctypes.windll.shell32.SetCurrentProcessExplicitAppUserModelID(APP_NAME)


# in one go: what waits for an idle moment would be gone between two calls of another thread
DUE = "foreach timer [after info] {after 1 [lindex [after info $timer] 0]; after cancel $timer}"


class WindowLoop:
	"""Owns the root window: start window or meeting window, and the one render loop."""

	FPS = 30
	LEAST = 780, 456  # logical pixels in which everything has room

	def __init__(self, backend: Program, root: tk.Tk):
		self.backend, self.root = backend, root
		self.controller: MeetingController | None = None
		self.view: MainAppView | None = None
		self.start: StartView | None = None
		self.tasks = Tasks()
		self.joining: Joining | None = None
		self.painter = TilePainter()
		root.title(APP_NAME)
		root.wm_client(platform.node())
		root.protocol("WM_DELETE_WINDOW", self.ask_close)
		if sys.platform == "win32":
			root.protocol("WM_SAVE_YOURSELF", self.stop)  # log-off and shutdown
		root.bind("<Button-1>", self._unfocus)
		self._find_room(backend.setting("window"))
		self._style()
		signs: Any = [self.look.photo(draw_logo, n) for n in (16, 32, 48, 128)]
		root.iconphoto(True, *signs)
		Keys(root, self)
		self._size()
		self.show_start("")
		self._after = partial(root.tk.call, "after")  # root.after makes and deletes a command at each call
		self._next, self._even = root.register(self.render_loop), False
		self.render_loop()

	def _find_room(self, place: str) -> None:
		root, was = self.root, re.findall(r"-?\d+", place)
		self._was = [*map(int, was)] if len(was) == 4 else []
		wide, tall, left, top = self._was or (1, 1, *root.winfo_pointerxy())
		whole = (0, 0, root.winfo_screenwidth(), root.winfo_screenheight())
		x, y, wide, tall = work_area(left + wide // 2, top + tall // 2) or whole
		if sys.platform == "darwin":
			y, tall = y + 38, tall - 108  # its menu, and that with its Dock
		inch = root.winfo_fpixels("1i")  # of which the system's border and title bar take parts
		self._corner, self._room = (x, y), (int(wide - inch / 6), int(tall - inch * 5 / 12))

	def _size(self) -> None:
		root, was, room = self.root, self._was, self._room
		wanted = was[:2] or [*map(self.look.px, (1280, 800))]
		size = [*map(min, wanted, room)]
		left, top = (
			max(at, min(was[2 + n], at + room[n] - size[n])) if was else at + (room[n] - size[n]) // 2
			for n, at in enumerate(self._corner)
		)
		root.geometry(f"{size[0]}x{size[1]}+{left}+{top}")
		if sys.platform != "linux" and size != wanted:
			root.state("zoomed")
		elif size != wanted:
			root.attributes("-zoomed", True)

	def _style(self) -> None:
		backend, root = self.backend, self.root
		tr.language = backend.setting("language") or system_language()
		palette = PALETTES.get(backend.setting("palette"), DARK)
		self._dpi = window_dpi(root)
		wanted = max(1.0, self._dpi / 96) * float(backend.setting("scale")) / 100
		self.look = Look(root, self.painter, palette, min(wanted, *map(truediv, self._room, self.LEAST)))
		root.minsize(*map(self.look.px, self.LEAST))
		root.configure(bg=palette.window)
		dark_title(root, palette is not LIGHT)

	def _unfocus(self, event: Event) -> None:
		if self.view and event.widget is self.view.stage.canvas:
			self.view.stage.focus_set()

	def restyle(self, page: str = "") -> None:
		"""Build all anew in the colours, size and language now chosen, with that page of the settings."""
		before = self.look
		self._find_room(self.root.geometry())
		self._style()
		self.root.update_idletasks()  # it grows to LEAST
		self.look.layers = before.layers
		if self.view:
			self.view.rebuild(self.look)
		elif self.start:
			first = self.start
			first.close()
			self._new_start().resume(first)
			if self.joining:
				self.start.wait(self._words)
			first.frame.destroy()
		before.forget()
		if page and (view := self.view or self.start):
			view.settings(page)

	def show_start(self, trouble: str) -> None:
		"""Show the start window, with a reason why one is back."""
		keep_private(self.root, False)
		self._new_start().say(trouble, self.look.palette.second)

	def _new_start(self) -> StartView:
		self.start = StartView(self)
		self.start.frame.pack(**FILL)
		return self.start

	def begin(self, work: Begin, words: str) -> None:
		"""Join or host, saying `words` meanwhile; it goes on whatever becomes of the view."""
		if self.start and not self.joining:
			self.joining, self._words = Joining(), words
			self.start.wait(words)
			self.tasks.run(partial(work, self.joining), partial(self._came, self.joining))

	def cancel(self) -> None:
		"""Give up what was begun."""
		if self.joining:
			self.joining.cancel()
			self.joining = None
			if self.start:
				self.start.wait("")

	def _came(self, joining: Joining, controller: MeetingController, fault: Exception | None) -> None:
		if joining is not self.joining or not self.start:
			if not fault:  # it came at the very moment at which it was given up
				self.tasks.run(controller.close)
			return
		self.joining = None
		self.start.wait("")
		if not fault:
			self.enter(controller, self.start.preview.mic, self.start.preview.camera)
		elif isinstance(fault, Refused):
			self.start.refused(fault.code, fault.reason)
		else:
			self.start.refused("", str(fault) or type(fault).__name__)

	def enter(self, controller: MeetingController, mic: bool = False, camera: bool = False) -> None:
		"""Show the meeting of `controller`, with the devices on that were on in the preview."""
		if self.start:
			self.start.close()
			self.start.frame.destroy()
			self.start = None
		self.controller = controller
		controller.on_picture(self.painter.check)
		self.view = MainAppView(self, controller)
		self.view.frame.pack(**FILL)
		self.view.stage.focus_set()
		for what, on in (("mic", mic), ("camera", camera)):
			if on:
				controller.do({"do": what, "on": True})

	def left(self, reason: str) -> None:
		"""The meeting is over, for that reason if the user has to know it."""
		if not (self.view and self.controller):
			return
		view, controller, self.view, self.controller = self.view, self.controller, None, None
		view.close()
		self.tasks.run(controller.close)
		if view.closes:
			self.backend.orders.put("close")
		else:
			self.show_start(reason)

	def ask_close(self) -> None:
		"""The button of the title bar: who is in a meeting is asked as by Escape."""
		if self.view:
			self.view.actions.ask_leave(closes=True)
		else:
			self.stop()

	def render_loop(self) -> None:
		"""One tick, 30 times a second; what was painted is shown in between, too."""
		begun, self._even = monotonic(), not self._even
		if not self._obey():
			return
		try:
			if self._even:
				self._tick()
			self.painter.paste()
		finally:  # whatever went wrong, the next tick comes
			# 15: Windows' clock has steps of 15.6 ms
			self._after(max(1, min(15, round(1000 * (0.5 / self.FPS + begun - monotonic())))), self._next)

	def watch_clock(self, worker: Worker) -> None:
		"""Tcl's timers go by the computer's clock: where that is set back, what waits is due. Own thread."""
		ahead = time.time() - monotonic()
		while not worker.stopping.wait(0.5):
			before, ahead = ahead, time.time() - monotonic()
			if ahead < before - 0.5:
				with suppress(tk.TclError, RuntimeError):  # the window is closing
					self.root.tk.call("eval", DUE)

	def _tick(self) -> None:
		self.tasks.poll()
		if sys.platform == "win32" and not self.look.layers and window_dpi(self.root) != self._dpi:
			self.restyle()  # another monitor; dialogs would go
		if shown := self.view or self.start:
			shown.tick()

	def _obey(self) -> bool:
		while not self.backend.orders.empty():
			if self.backend.orders.get() == "close":
				self.stop()
				return False
			self.root.deiconify()
			self.root.lift()
			self.root.focus_force()
		return True

	def stop(self) -> None:
		"""Close the window, whose place is remembered; what runs behind it ends in `run_window`."""
		if self.root.winfo_width() > 1:  # it was shown
			self.backend.set_setting("window", self.root.geometry())
		self.cancel()
		for timer in self._after("info"):
			self._after("cancel", timer)
		if view := self.view or self.start:
			view.close()
		self.view = None
		self.painter.close()
		self.look.forget()
		self.root.destroy()


NO_DISPLAY = "There is no display, or no font, for a window: use --headless."


def run_window(app: Program, begin: Begin | None = None, address: str = "", gone: Act = lambda: None) -> int:
	"""Show the window until it is closed and `gone`; returns the exit status.

	It shows the start window at once, and the meeting that `begin` starts, or the one at `address`, when
	that has come. Refused without a display.
	"""
	sharp_display()
	try:
		root = tk.Tk(className=APP_NAME)
		root.tk.call("font", "metrics", "TkFixedFont")
	except tk.TclError:
		app.close()
		raise Refused("device", NO_DISPLAY) from None
	root.report_callback_exception = lambda *told: log.error("a callback of the window failed", exc_info=told)
	loop = WindowLoop(app, root)
	root.after_idle(close_splash)
	watch = Worker("clock", loop.watch_clock).start()
	if begin:
		loop.begin(begin, "One moment…")
	elif loop.start and address:
		loop.start.join_at(address, "")
	root.mainloop()
	watch.close(2.0)
	gone()
	loop.tasks.finish(5.0)
	if loop.controller:
		loop.controller.close()
	app.close()
	del loop, root
	gc.collect()  # Tk must end in the thread that made it, not in whichever collects next
	return 0


# ====
# [33] COMMAND LINE - options, logging, the role table, main
# Uses: BASICS, DOCTOR, TRUST, LINKS, PROCESS, DISCOVERY, RELAY, SERVER PLANES, SERVER, CLIENT MEDIA,
# CONTROLLER, HEADLESS, PROGRAM, TEXTS, WINDOW


class OneSentenceParser(argparse.ArgumentParser):
	"""Says what is wrong in one sentence."""

	def error(self, message: str) -> NoReturn:
		raise UsageError(message[:1].upper() + message[1:] + ".")


def first_line(file: str) -> str:
	"""The first line of `file`, or with "-" of standard input, and no byte more."""
	try:
		with open(0 if file == "-" else file, "rb", buffering=0, closefd=file != "-") as source:
			return source.readline(MAX_LINE).decode("utf-8-sig", "replace")
	except OSError as error:
		raise UsageError(f"{file} cannot be read: {error.strerror}.") from None


def _check_options(options: Namespace, fail: Callable[[str], NoReturn]) -> None:
	try:
		Ports.at(options.port if options.port is not None else DEFAULT_PORT)
	except ValueError as error:
		fail(str(error))
	if options.pin_file is not None:
		options.pin = first_line(options.pin_file)
	options.bind = own_address(options.bind)
	pin, demo = "a" if options.pin is None else options.pin.strip(), options.demo
	for wrong, words in (
		(not pin, "The PIN must not be empty."),
		(len(pin) > MAX_PIN, f"A PIN has {MAX_PIN} characters at most."),
		(demo not in (None, *range(1, MOST_IN_CROWD + 1)), f"A demo has 1 to {MOST_IN_CROWD} participants."),
		(options.orphan_seconds < 0, "--orphan-seconds is 0 or more."),
		(options.json and not (options.list or options.doctor), "--json goes with --list and --doctor."),
	):
		if wrong:
			raise UsageError(words)


LIMIT_OPTIONS = {
	"--largest-file": "the size of one file (2GB)",
	"--largest-person": "of all files of one person (8GB)",
	"--largest-meeting": "of all files together (32GB)",
	"--free-disk": "what must stay free on this disk (1GB)",
}


def parse_size(text: str) -> int:
	"""A size in bytes from "500", "64 kB", "2GB", 1.5TB ...: binary units, as Explorer counts."""
	found = re.fullmatch(r"(\d{1,9}(?:\.\d{1,3})?) ?([kmgt]?)i?b?", text.strip(), re.IGNORECASE)
	if found is None:
		raise argparse.ArgumentTypeError(f"{text} is no size such as 500MB or 2GB")
	return int(float(found[1]) * (1 << 10 * " kmgt".index(found[2].lower() or " ")))


def parse_options(arguments: Sequence[str]) -> Namespace:
	"""The options of COMMANDS; UsageError for wrong ones."""
	parser = OneSentenceParser(prog="connectsphere", description=__doc__.splitlines()[0], allow_abbrev=False)
	roles = parser.add_argument_group("roles (without one: find the meeting and join it)")
	only = roles.add_mutually_exclusive_group()
	only.add_argument("--join", metavar="ADDRESS[:PORT]", help="join the meeting at an address")
	for name, words in (
		("--host", "host a meeting and join it"),
		("--serve", "the server alone, until SIGTERM or SIGINT"),
		("--list", "print the meetings on this network"),
		("--doctor", "what stands in the way here, and the next step"),
		("--end", "end your running meeting whose window is gone"),
		*((hidden, argparse.SUPPRESS) for hidden in ("--crowd", "--mixer", "--serve-child")),
	):
		only.add_argument(name, action="store_true", help=words)
	only.add_argument(
		"--demo", nargs="?", type=int, const=6, metavar="N", help="a meeting of N (6) simulated participants"
	)
	add = parser.add_argument
	add("--json", action="store_true", help="with --list, --doctor: as JSON")
	add("--headless", action="store_true", help="no window: commands in, events out, as JSON")
	add("--name", help="your name")
	add("--title", help="the meeting's title")
	pin = parser.add_mutually_exclusive_group().add_argument
	pin("--pin", help="the meeting's PIN; others on this computer can see it")
	pin("--pin-file", metavar="FILE", help="its first line is the PIN; -: of standard input")
	add("--port", type=int, metavar="BASE", help="the first port of the meeting (9000)")
	add("--bind", metavar="ADDRESS", help="listen, look and answer only there")
	add("--camera", help="none, pattern, 0, 1, … or a video file")
	add("--mic", help="none, default, tone, an index, a WAV file or room:FILE.wav")
	add("--speaker", help="none, default, an index or a WAV file to write")
	add("--sound", choices=SOUNDS, help="without echo and noise, or as it is (clear)")
	add("--downloads", metavar="DIR", help="where accepted files go")
	for name, words in LIMIT_OPTIONS.items():
		add(name, type=parse_size, metavar="SIZE", help=f"host: {words}")
	add("--host-key", metavar="FILE", help="the secret that makes its holder the host")
	add(
		"--orphan-seconds", type=int, default=900, metavar="N",
		help="host: the meeting waits so long when this program was killed (900; 0: not)",
	)  # fmt: skip
	add("--standby", choices=("auto", "yes", "no"), default="auto", help="if the host fails, go on here")
	add("--new", action="store_true", help="open a window although one is open")
	add("--log", metavar="FILE", help="write the log there")
	add("-v", "--verbose", action="count", default=0, help="log more")
	add("--version", action="store_true", help="this version; with -v what is inside, too")
	options = parser.parse_args(arguments)
	_check_options(options, parser.error)
	return options


INSIDE = "numpy opencv-python-headless pillow cryptography mss pyaudio pywebrtc-audio spake2 ifaddr"


def role_version(options: Namespace) -> int:
	"""Prints this version and, with -v, those of what is inside."""
	print(APP_NAME, VERSION)
	if options.verbose:
		from importlib import metadata

		print("Python", platform.python_version(), tls_library())
		for one in metadata.distributions():
			if one.name.lower() in INSIDE:
				print(one.name, one.version)
	return 0


def own_name() -> str:
	"""The name of this machine's user: as Windows shows it, or of the account."""
	if sys.platform == "win32":  # where many have the account "Student"
		full, size = ctypes.create_unicode_buffer(99), ctypes.c_ulong(99)
		if ctypes.windll.secur32.GetUserNameExW(3, full, ctypes.byref(size)) and full.value.strip():
			return clean_name(full.value)
	try:
		name = getpass.getuser()
	except (OSError, KeyError, ImportError):
		name = "Guest"
	return clean_name(name[:1].upper() + name[1:])


def kind_of(error: BaseException) -> str:
	"""The type of an error and the system's number: its own words may quote a secret."""
	number = f" {error.errno}" if isinstance(error, OSError) else ""
	return f"{type(error).__name__}{number}"


class OneLine(logging.Formatter):
	"""A fact a line: what peers put into it cannot break it or reach the terminal."""

	def format(self, record: logging.LogRecord) -> str:
		"""The record as a line; of an exception its type and the last calls."""
		text = f"{self.formatTime(record)} {record.levelname} {record.threadName} {record.getMessage()}"
		error = record.exc_info[1] if record.exc_info else None
		if error:
			calls = (f"{call.name}:{call.lineno}" for call in traceback.extract_tb(error.__traceback__)[-6:])
			text += f" | Traceback: {kind_of(error)} in {' > '.join(calls)}"
		return harmless(text)


class PrivateLog(logging.handlers.RotatingFileHandler):
	"""A log file that its owner alone reads."""

	def _open(self) -> io.TextIOWrapper:
		stream = super()._open()
		with suppress(OSError):
			os.chmod(self.baseFilename, 0o600)
		return stream


class ReportHandler(logging.Handler):
	"""Leaves a report of each bug that a user can send: types and places, never values or words."""

	MOST_A_RUN = 5
	MOST_KEPT = 20

	def __init__(self, directory: Callable[[], Path], say: Callable[[str], None]):
		super().__init__(logging.ERROR)
		self._directory, self._say = directory, say
		self._left = self.MOST_A_RUN

	def emit(self, record: logging.LogRecord) -> None:
		"""Write a report if `record` is of an exception."""
		error = record.exc_info[1] if record.exc_info else None
		if error is None or not self._left:
			return
		self._left -= 1
		with suppress(OSError, ConnectSphereError):  # the disk may be full
			path = self._write(self._text(record, error))
			self._say(f"{APP_NAME} met an error of its own; a report that you can send is in {path}")

	def _write(self, text: str) -> Path:
		directory = self._directory()
		directory.mkdir(mode=0o700, exist_ok=True)
		for old in sorted(directory.glob("report-*.txt"))[: -self.MOST_KEPT + 1]:
			old.unlink(missing_ok=True)
		path = directory / f"report-{datetime.now(UTC):%Y%m%d-%H%M%S}-{os.getpid()}-{self._left}.txt"
		path.write_text(text, "utf-8")
		path.chmod(0o600)
		return path

	def _text(self, record: logging.LogRecord, error: BaseException) -> str:
		lines = [
			f"{APP_NAME} {VERSION}, protocol {PROTOCOL}",
			f"Python {platform.python_version()}, {platform.platform()}",
			f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC, thread {record.threadName}: {record.msg}",
		]
		chain = [error]  # and its causes
		while (before := chain[-1].__cause__ or chain[-1].__context__) and before not in chain:
			chain.append(before)
		for one in chain:
			lines += ["", kind_of(one)]
			for call in traceback.extract_tb(one.__traceback__):
				lines.append(f"  {Path(call.filename).name}, line {call.lineno}, in {call.name}")
		lines += ["", "Threads: " + ", ".join(sorted(thread.name for thread in threading.enumerate()))]
		return "\n".join(lines) + "\n"


LOG_VARIABLE = "CONNECTSPHERE_LOG"  # a parent's log file, for its children


def set_up_logging(options: Namespace) -> None:
	"""The log goes to standard error, or to `--log FILE`, which tells more and rotates at 1 MB.

	A child writes FILE.server, FILE.mixer or FILE.crowd. What nobody handles, in any thread, is in it, too.
	"""

	def unhandled(error: BaseException | None, thread: str) -> None:
		if error is not None and not isinstance(error, SystemExit | KeyboardInterrupt):
			log.critical("the thread %s ended by a bug", thread, exc_info=error)

	role = "server" if options.serve_child else "mixer" if options.mixer else "crowd" if options.crowd else ""
	parent = os.environ.get(LOG_VARIABLE, "")
	file = options.log or (f"{parent}.{role}" if role and parent else "")
	level = (logging.WARNING, logging.INFO, logging.DEBUG)[min(options.verbose + bool(file), 2)]
	handler: logging.Handler = logging.StreamHandler()
	if file:
		try:
			handler = PrivateLog(file, maxBytes=1 << 20, backupCount=2, encoding="utf-8", errors="replace")
		except OSError as error:
			raise UsageError(f"The log {file} cannot be written: {error.strerror}.") from None
		if options.log:
			os.environ[LOG_VARIABLE] = str(Path(file).absolute())
	handler.setFormatter(OneLine())
	log.addHandler(handler)
	log.addHandler(ReportHandler(lambda: home_directory() / "reports", partial(print, file=sys.stderr)))
	log.setLevel(level)
	sys.excepthook = lambda kind, error, trace: unhandled(error, "main")
	threading.excepthook = lambda told: unhandled(told.exc_value, told.thread.name if told.thread else "")


def server_options(options: Namespace) -> ServerOptions:
	"""What the server needs, from the command line."""
	name = clean_name(options.name or own_name())
	limits = [name[2:].replace("-", "_") for name in LIMIT_OPTIONS]
	return ServerOptions(
		title=clean_name(options.title or f"{name}'s meeting", MAX_TITLE),
		host_name=name,
		pin=clean_pin(options.pin or ""),
		base=options.port or DEFAULT_PORT,
		bind=options.bind,
		host_key_file=options.host_key or "",
		orphan_seconds=0 if options.serve else options.orphan_seconds,
		**{key: value for key in limits if (value := getattr(options, key)) is not None},
	)


def client_options(options: Namespace) -> ClientOptions:
	"""What a participant needs, from the command line."""
	devices = ("camera", "mic", "speaker", "sound", "downloads")
	chosen = {what: value for what in devices if (value := getattr(options, what))}
	return ClientOptions(
		name=clean_name(options.name or own_name()),
		pin=clean_pin(options.pin or ""),
		port=options.port or DEFAULT_PORT,
		bind=options.bind,
		standby=options.standby,
		host_key=load_host_key(Path(options.host_key)) if options.host_key and not options.host else "",
		given={*chosen} | ({"name"} if options.name else set()),
		**chosen,
	)


def complain(error: str | Exception) -> None:
	"""One sentence on standard error, or in a box where a windowed Windows program has none."""
	error = tr(error if isinstance(error, str) else error.args[0])
	if sys.platform == "win32" and sys.stderr is None:
		ctypes.windll.user32.MessageBoxW(None, str(error), APP_NAME, 0x10)
	else:
		print(f"connectsphere: {harmless(str(error))}", file=sys.stderr)


def say(event: Json) -> None:
	"""An event as a line on standard output, its sentences in the user's language."""
	told = {key: tr(value) if isinstance(value, Words) else value for key, value in event.items()}
	sys.stdout.write(harmless(json.dumps(told, ensure_ascii=False, default=str)) + "\n")  # a path is no JSON
	sys.stdout.flush()
	if event["event"] == "denied" or event.get("state") == "failed":  # the device
		complain(event["reason"])


def deny(refused: Refused) -> int:
	"""Say what kept this program from joining; the status."""
	say({"event": "denied", "time": time.time(), **refused.event})
	return 1


def leave_early() -> None:
	"""SIGTERM while there is no meeting yet to leave."""
	say({"event": "left", "time": time.time(), "reason": "left"})
	raise SystemExit(0)


def _take_console() -> bool:
	windll: Any = ctypes.windll  # type: ignore[attr-defined,unused-ignore]
	if windll.kernel32.AttachConsole(-1):
		return True
	facts = (ctypes.c_void_p * 6)()  # PROCESS_BASIC_INFORMATION
	parent = ctypes.c_void_p(windll.kernel32.OpenProcess(0x1000, False, os.getppid()))
	windll.ntdll.NtQueryInformationProcess(parent, 0, facts, ctypes.sizeof(facts), None)
	return bool(facts[5] and windll.kernel32.AttachConsole(facts[5]))


def prepare_streams() -> None:
	"""UTF-8 in and out; a windowed Windows program takes the console it was started from.

	Who has no streams or no home gets empty ones.
	"""
	if os.path.expanduser("~") == "~":  # no account and no HOME
		os.environ["HOME"] = tempfile.gettempdir()
	if sys.platform == "win32" and sys.stdout is None and _take_console():
		output = "CONOUT$", "w"
		for name, console in {"stdin": ("CONIN$", "r"), "stdout": output, "stderr": output}.items():
			setattr(sys, name, open(*console))  # open until the end
	sys.stdin = sys.stdin or open(os.devnull)  # this and the next are file descriptors 0 and 1
	sys.stdout = sys.stdout or open(os.devnull, "w")
	for stream in (sys.stdin, sys.stdout, sys.stderr):
		if isinstance(stream, io.TextIOWrapper):
			stream.reconfigure(encoding="utf-8", errors="replace")


# -- roles: each takes the options and returns the exit status


def role_mixer(options: Namespace) -> int:
	"""Hidden: the mixer's process."""
	on_stop_signals(lambda: None)  # it ends with its parent, by standard input
	return run_mixer(sys.stdin, sys.stdout)


def role_serve(options: Namespace) -> int:
	"""The server alone."""
	stop = threading.Event()
	on_stop_signals(stop.set)
	chosen = server_options(options)
	chosen.host_key = HostRight(make_host_key(chosen.host_key_file)).public
	server = ConferenceServer(chosen, load_identity(home_directory()))
	serve(server, stop, say)
	if server.why == "no_mixer":
		raise Refused(server.why)
	return 0


def role_serve_child(options: Namespace) -> int:
	"""Hidden: the server of `--host`; may outlive the window."""
	stop = threading.Event()
	on_stop_signals(stop.set)
	first = json.loads(sys.stdin.readline() or "{}")

	def tell(event: Json) -> None:
		with suppress(OSError):  # the parent died
			say(event)

	def hear_parent(worker: Worker) -> None:
		for line in map(str.strip, sys.stdin):
			if line == "end":
				stop.set()
				return
			server.loop.post(partial(server.succession.obey, json.loads(line)))
		server.abandon()

	try:
		chosen = ServerOptions(**first)
		chosen.base = free_base(chosen.bind or "", chosen.base) if chosen.standby else chosen.base
		server = ConferenceServer(chosen, load_identity(home_directory()))
		server.tell_parent = tell
		Worker("parent", hear_parent).start()
		serve(server, stop, tell)
		return 0  # whoever was in it has heard why
	except (Refused, ImportError) as error:
		refused = error.told if isinstance(error, Refused) else {"code": "no_meeting", "words": str(error)}
		tell({"event": "failed", "time": time.time(), "refused": refused})
		return 1  # the parent says it


def has_display() -> bool:
	"""Whether a window can be shown here."""
	return sys.platform != "linux" or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def show_window(
	options: Namespace, home: Path, begin: Callable[[Program, Joining], MeetingController] | None = None,
	address: str = "",
) -> int:  # fmt: skip
	"""The window, unless one is open; `begin` brings its meeting, or that is at `address`."""
	if not has_display():
		raise Refused("device", NO_DISPLAY)
	chosen, server = client_options(options), asdict(server_options(options))
	orders = SimpleQueue[str]()
	only = OneWindow(home, partial(orders.put, "front"))
	with closing(only):
		if not options.new and not only.open():
			print(f"{APP_NAME} is open already, now in front. --new opens another window.")
			return 0
		program = Program(chosen, server, home, orders, look=begin is None and not address)
		on_stop_signals(partial(orders.put, "close"))
		return run_window(program, begin and partial(begin, program), address, only.gone)


def role_host(options: Namespace) -> int:
	"""Hosts and joins, or goes back to the meeting that outlived its window."""
	home = home_directory()
	title = options.title and clean_name(options.title, MAX_TITLE)
	before = partial(own_meeting, home, title, options.pin, options.port or 0)
	if not options.headless:
		return show_window(options, home, lambda program, joining: program.host_as_told(before(), joining))
	try:
		running = before()
	except Refused as refused:
		return deny(refused)
	chosen = client_options(options)
	hosted = HostedMeeting(asdict(server_options(options)), running)
	try:
		say(hosted.start())
		hosted.aim(chosen)
		status = run_headless(MeetingController(chosen, home), say, ending="end")
	except (Refused, SystemExit, KeyboardInterrupt, OSError):
		hosted.close()
		raise
	if not (running and status):
		hosted.close()
	return status


def role_end(options: Namespace) -> int:
	"""Ends the meeting of this home whose window is gone."""
	kept = RunningMeeting(home_directory())
	if not (running := kept.read()):
		here = running_here(options.port or DEFAULT_PORT, options.bind)
		raise Refused("no_meeting", here or "No meeting of yours is running.")
	if not running["alone"]:
		words = "“{title}” is open on this computer: end it there."
		raise Refused("meeting_running", words, title=running["title"])
	kept.end()
	print(f"“{running['title']}” has ended.")
	return 0


def role_crowd(options: Namespace) -> int:
	"""Hidden: the simulated participants of `--demo`; ends when standard input ends."""
	on_stop_signals(lambda: None)
	told = json.loads(sys.stdin.readline() or "{}")
	crowd = Crowd(ClientOptions(**told["place"]), told["count"], told["voices"], home_directory())
	crowd.start()
	sys.stdin.read()
	crowd.close()
	return 0


def role_demo(options: Namespace) -> int:
	"""A meeting of simulated participants, on this machine alone unless `--bind` says otherwise."""
	options.bind = options.bind or "127.0.0.1"
	options.title, options.orphan_seconds = options.title or "Demo", 0
	chosen_before = home_directory() / "settings.json"
	with tempfile.TemporaryDirectory(prefix="connectsphere-") as home:
		with suppress(OSError):
			shutil.copy(chosen_before, home)
		os.environ["CONNECTSPHERE_HOME"] = home  # a demo leaves no trace in the user's own
		if has_display() and not options.headless:
			who = options.demo, CROWD_VOICES
			return show_window(options, Path(home), lambda program, joining: program.demo(*who, joining))
		server, chosen = asdict(server_options(options)), client_options(options)
		print("There is no display: the demo says what it sees and hears.", flush=True)
		chosen.camera, chosen.mic, chosen.speaker = "none", "none", "none"
		chosen.given |= {"camera", "mic", "speaker"}
		program = Program(chosen, server, Path(home), look=False)
		try:
			return run_demo(program.demo(options.demo), options.demo, partial(print, flush=True))
		finally:
			program.close()


def role_join(options: Namespace) -> int:
	"""Joins by address."""
	chosen = client_options(options)
	try:
		host, chosen.port = typed_place(options.join, chosen.port)
	except ValueError:
		raise UsageError(f"{options.join} is no address.") from None
	home = home_directory()
	if not options.headless:
		return show_window(options, home, address=f"{host}:{chosen.port}")
	try:
		chosen.address = resolve(host)
	except Refused as refused:
		return deny(refused)
	return run_headless(MeetingController(chosen, home), say)


def role_list(options: Namespace) -> int:
	"""Prints the meetings on the LAN."""
	known = KnownHosts(home_directory()).places()
	with closing(MeetingFinder(options.bind, known, options.port or DEFAULT_PORT)) as finder:
		finder.start()
		finder.wait_settled(10.0)
		ads, others = finder.meetings(), finder.other_versions()
	if options.json:
		keys = ("title", "host", "address", "port", "people", "pin", "fingerprint", "version")
		print(json.dumps([{key: getattr(ad, key) for key in keys} for ad in ads], ensure_ascii=False))
		return 0
	for ad in ads:
		locked = ", PIN" if ad.pin else ""
		print(f"{ad.title} · {ad.host} · {ad.address}:{ad.port} · {ad.people} people{locked}")
	for address, version in others:
		print(f"{address}: {Refused('other_version').reason} ({version}).")
	if not ads and not others:
		print(NO_MEETING)
	return 0


def role_doctor(options: Namespace) -> int:
	"""Checks this machine and its network."""
	found = diagnose(examine(client_options(options)))
	if options.json:
		findings = [finding._asdict() for finding in found.findings]
		print(json.dumps({**found._asdict(), "findings": findings}, ensure_ascii=False))
		return 0
	for finding in found.findings:
		print(f"{finding.state:5} {finding.words}")
	print(f"\n{found.verdict}\nNext step: {found.next_step}")
	return 0


def role_find(options: Namespace) -> int:
	"""Finds the meeting and joins it."""
	home = home_directory()
	if not options.headless:
		return show_window(options, home)
	chosen = client_options(options)
	known = KnownHosts(home)
	with closing(MeetingFinder(options.bind, known.places(), chosen.port)) as finder:
		finder.start()
		try:
			ad = find_meeting(finder, known, bool(chosen.pin))
		except Refused as refused:
			return deny(refused)
	chosen.address, chosen.port = ad.address, ad.port
	chosen.fingerprint, chosen.stands_for = ad.fingerprint, ad.stands_for
	return run_headless(MeetingController(chosen, home), say, meeting=ad.meeting)


ROLES = {
	role.__name__[5:]: role
	for role in (
		role_mixer, role_crowd, role_version, role_demo, role_serve_child, role_serve, role_host, role_end,
		role_join, role_list, role_doctor,
	)
}  # fmt: skip
WINDOWED = (role_find, role_host, role_join, role_demo)


def run(arguments: Sequence[str]) -> int:
	"""Parse, set up logging, run the role; errors as one sentence."""
	options = parse_options(arguments)
	if options.headless:
		on_stop_signals(leave_early)
		tr.language = Settings(home_directory()).get("language", "") or system_language()
	set_up_logging(options)
	sys.setswitchinterval(0.0005)
	os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # for children, too
	asked = (role for name, role in ROLES.items() if getattr(options, name) not in (None, False))
	role = next(asked, role_find)
	if options.headless or role not in WINDOWED:
		close_splash()
	plain = role is role_find and not options.headless  # a window comes first
	need(*("ifaddr",) if plain else NEEDED[options.serve_child :])  # a child needs numpy for pictures
	gc.freeze()  # to look through what stands now stops every thread for 20 ms
	gc.enable()
	return role(options)


def unheard(error: OSError) -> int:
	"""The status where the reader has gone or the disk is full; else the error."""
	if error.errno not in (errno.EPIPE, errno.ENOSPC):
		raise error
	let_go_of_output(1)
	if error.errno == errno.ENOSPC:
		complain(Words("{fault}.", fault=error.strerror))
	return int(error.errno == errno.ENOSPC)


def main() -> int:
	"""Run the role that the command line names; returns the exit status."""
	try:
		prepare_streams()
		with ExitStack() as stack:
			stack.callback(sys.stdout.flush)  # what cannot be said shows here
			stack.callback(close_splash, 2.0)
			return run(sys.argv[1:])
	except (ConnectSphereError, ImportError) as error:  # something is missing
		complain(error)
		return 2 if isinstance(error, UsageError) else 1
	except OSError as error:
		return unheard(error)
	except KeyboardInterrupt:
		return 130


if __name__ == "__main__":
	sys.exit(main())
