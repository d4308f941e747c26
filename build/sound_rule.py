"""Windows' rule for sound in shared mode, put on Wine, and a tone through the program's own devices.

Run by smoke_sound.py with the Python of which the executable is made, as
`python.exe sound_rule.py in|out SECONDS [FILE]`. Wine lends any count of channels at any rate, Windows the
device's own alone: IAudioClient::IsFormatSupported is replaced by one that says so. `out` plays 440 Hz, `in`
writes what it hears to FILE (int16, mono, 16 kHz). The last line says which count of channels was opened,
and how often the rule refused another.
"""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import connectsphere as cs

TONE = 440.0
ENUMERATOR = "{BCDE0395-E52F-467C-8E3D-C4579291692E}"
IMM_DEVICE_ENUMERATOR = "{A95664D2-9614-4F35-A746-DE8DB63617E6}"
AUDIO_CLIENT = "{1CB9AD4C-DBFA-4C32-B178-C2F568A703B2}"
ALL_CONTEXTS = 23
SHARED = 0  # AUDCLNT_SHAREMODE_SHARED
S_FALSE = 1  # another format is offered
READ_WRITE = 4  # PAGE_READWRITE
# where methods stand in their tables
GET_DEFAULT_ENDPOINT, ACTIVATE, IS_FORMAT_SUPPORTED, GET_MIX_FORMAT = 4, 3, 7, 8

Pointer = ctypes.c_void_p


class Guid(ctypes.Structure):
	"""GUID."""

	_fields_ = (("bytes", ctypes.c_ubyte * 16),)


class WaveFormat(ctypes.Structure):
	"""WAVEFORMATEX."""

	_pack_ = 1
	_fields_ = (
		("tag", ctypes.c_uint16),
		("channels", ctypes.c_uint16),
		("rate", ctypes.c_uint32),
		("bytes_per_second", ctypes.c_uint32),
		("align", ctypes.c_uint16),
		("bits", ctypes.c_uint16),
		("more", ctypes.c_uint16),
	)


class SharedMode:
	"""IsFormatSupported as Windows answers it; `refused` counts."""

	def __init__(self, capture: bool) -> None:
		self.windows: Any = ctypes
		self.refused = 0
		ole = self.windows.OleDLL("ole32")
		ole.CoInitializeEx(None, 0)

		def guid(text: str) -> Any:
			value = Guid()
			ole.CLSIDFromString(text, ctypes.byref(value))
			return ctypes.byref(value)

		devices, device, client = Pointer(), Pointer(), Pointer()
		ole.CoCreateInstance(
			guid(ENUMERATOR), None, ALL_CONTEXTS, guid(IMM_DEVICE_ENUMERATOR), ctypes.byref(devices)
		)
		number = ctypes.c_int
		self.call(devices, GET_DEFAULT_ENDPOINT, number(capture), number(1), ctypes.byref(device))
		self.call(device, ACTIVATE, guid(AUDIO_CLIENT), number(ALL_CONTEXTS), Pointer(), ctypes.byref(client))
		self.replace(client)

	def call(self, this: Any, method: int, *arguments: Any) -> None:
		"""Call a method of a COM object."""
		kind = self.windows.WINFUNCTYPE(ctypes.HRESULT, Pointer, *[Pointer] * len(arguments))
		pointers = [
			ctypes.cast(a, Pointer) if not isinstance(a, ctypes.c_int) else Pointer(a.value)
			for a in arguments
		]
		kind(self.table(this)[method])(this, *pointers)

	@staticmethod
	def table(this: Any) -> Any:
		"""The table of an object's methods."""
		return ctypes.cast(ctypes.cast(this, ctypes.POINTER(Pointer))[0], ctypes.POINTER(Pointer))

	def replace(self, client: Any) -> None:
		"""Put the rule into the table that all audio clients share."""
		table = self.table(client)
		ask = self.windows.WINFUNCTYPE(
			ctypes.c_long, Pointer, ctypes.c_int, ctypes.POINTER(WaveFormat), ctypes.POINTER(Pointer)
		)
		real = ask(table[IS_FORMAT_SUPPORTED])
		mix_format = self.windows.WINFUNCTYPE(ctypes.c_long, Pointer, ctypes.POINTER(Pointer))(
			table[GET_MIX_FORMAT]
		)

		def rule(this: Any, mode: int, asked: Any, closest: Any) -> int:
			mix = Pointer()
			if mode == SHARED and closest and mix_format(this, ctypes.byref(mix)) == 0:
				own, wanted = ctypes.cast(mix, ctypes.POINTER(WaveFormat)).contents, asked.contents
				if (own.channels, own.rate) != (wanted.channels, wanted.rate):
					self.refused += 1
					closest[0] = mix.value
					return S_FALSE
			return int(real(this, mode, asked, closest))

		self.kept = (ask(rule), real, mix_format)
		slot = ctypes.addressof(table.contents) + IS_FORMAT_SUPPORTED * ctypes.sizeof(Pointer)
		before = ctypes.c_uint32()
		kernel = self.windows.WinDLL("kernel32")
		size = ctypes.c_size_t(ctypes.sizeof(Pointer))
		if not kernel.VirtualProtect(Pointer(slot), size, READ_WRITE, ctypes.byref(before)):
			raise OSError("VirtualProtect")
		Pointer.from_address(slot).value = ctypes.cast(self.kept[0], Pointer).value


def main() -> None:
	"""Play or record."""
	way, blocks = sys.argv[1], int(float(sys.argv[2]) * cs.AUDIO_RATE / cs.BLOCK)
	rule = SharedMode(way == "in")
	device: Any = cs.open_microphone("default") if way == "in" else cs.open_speaker("default", cs.monotonic())
	if way == "in":
		heard = np.concatenate([device.read() for _ in range(blocks)])
		Path(sys.argv[3]).write_bytes(heard.tobytes())
	else:
		at = np.arange(blocks * cs.BLOCK)
		for block in (12_000 * np.sin(2 * np.pi * TONE * at / cs.AUDIO_RATE)).reshape(-1, cs.BLOCK):
			device.write(block.astype(np.int16))
	print(device._opened.channels, rule.refused, flush=True)
	device.close()


if __name__ == "__main__":
	main()
