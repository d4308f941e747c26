"""What the program asks of the system while that is needed, and how it fares where waits are coarse."""

from __future__ import annotations

import math
import secrets
import socket
from typing import Any

import pytest
from winsim import TICK, Windows

import connectsphere as cs


def test_it_is_asked_for_once_and_given_back_after_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
	windows = Windows()
	power = windows.install(monkeypatch)
	one, other = object(), object()
	for what in ("timers", "system", "display"):
		for owner in (one, other, one):
			power.need(what, owner, True)
	assert windows.fine and windows.periods == 1 and windows.awake() == {"system", "display"}
	for what in ("timers", "display"):
		power.need(what, one, False)
	assert windows.fine and windows.awake() == {"system", "display"}
	for what in ("timers", "display", "timers"):
		power.need(what, other, False)
	assert not windows.fine and windows.periods == windows.unthrottled == 0
	assert windows.awake() == {"system"}
	power.need("display", one, True)
	assert windows.awake() == {"system", "display"} and windows.made == 2


def test_windows_10_that_ignores_no_timers_is_asked_for_speed_alone(monkeypatch: pytest.MonkeyPatch) -> None:
	windows = Windows(knows=1)
	windows.install(monkeypatch).need("timers", 1, True)
	assert windows.fine and windows.unthrottled == 1


def test_an_older_system_is_no_fault(monkeypatch: pytest.MonkeyPatch) -> None:
	windows = Windows()
	power = windows.install(monkeypatch)
	monkeypatch.setattr("ctypes.WinDLL", lambda name: object())
	for what in ("timers", "system", "display"):
		for on in (True, False):
			power.need(what, 1, on)


class Port:
	"""The mixer's port on that Windows, where nothing comes; ends the mixer after so many waits."""

	def __init__(self, windows: Windows, mixer: cs.MixerProcess, waits: int) -> None:
		self.windows, self.mixer, self.left = windows, mixer, waits

	def wait(self, seconds: float) -> bool:
		"""UdpPort.wait."""
		self.windows.wait(seconds)
		self.left -= 1
		if self.left == 0:
			self.mixer.tell(None)
		return False

	def receive(self, most: int) -> list[Any]:
		"""Nothing."""
		return []

	def close(self) -> None:
		"""Nothing is held."""


@pytest.mark.parametrize(("refuses", "worst"), [(False, 0.003), (True, TICK + 0.001)])
def test_the_mixer_is_as_late_as_the_waits_are_coarse(
	refuses: bool, worst: float, monkeypatch: pytest.MonkeyPatch
) -> None:
	windows = Windows(refuses)
	windows.install(monkeypatch)
	said: list[Any] = []
	with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
		mixer = cs.MixerProcess(sock, said.append)
		mixer._port = Port(windows, mixer, 600)  # type: ignore[assignment]
		key = secrets.token_bytes(32).hex()
		mixer.tell({"do": "add", "id": 1, "up": key, "down": key})
		mixer.run()
	late = sorted(mixer._lateness)
	assert mixer._tick >= 590, "no tick is left out"
	assert late[int(0.99 * len(late))] <= worst
	assert windows.fine is not refuses
	mixer._do({"do": "remove", "id": 1})
	assert windows.periods == 0, "with nobody there, nothing is asked for"


def relayed(windows: Windows, senders: int, size: int, careful: bool) -> float:
	"""The share of what thirty people are sent that leaves; careful is who has seen a loss."""
	egress = cs.Pacer(cs.Counters())
	if careful:
		egress.note_loss(windows.now)
	layout = bytes(-(-size // cs.DATAGRAM) * cs.DATAGRAM)
	fps, seconds = 15, 4.0
	frames = sorted(
		(1.003 + sender / (senders * fps) + n / fps, sender)
		for sender in range(senders)
		for n in range(int(seconds * fps))
	)
	offered = sent = 0
	while frames or egress.next_due() is not None:
		due = egress.next_due()
		come = frames[0][0] if frames else math.inf
		if come <= windows.now:
			_, sender = frames.pop(0)
			for receiver in set(range(30)) - {sender}:
				egress.queue(receiver, 1, layout, windows.now, 0.9 / fps)
				offered += len(layout)
		elif due is None or come < due:
			windows.now = come  # what comes ends a wait at once
			continue
		else:
			before = windows.now
			windows.wait(due - before)
			windows.now = max(min(windows.now, come), before + 1e-5)
		sent += sum(len(piece) for _, piece in egress.due(windows.now, 256 * 1024))
	return sent / offered


@pytest.mark.parametrize("careful", [False, True])
@pytest.mark.parametrize(("senders", "size"), [(1, 24_000), (1, 80_000), (6, 9_000)])
def test_a_relay_loses_no_pictures_to_coarse_waits(
	senders: int, size: int, careful: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
	shares = []
	for refuses in (False, True):
		windows = Windows(refuses)
		windows.install(monkeypatch).need("timers", 1, True)
		shares.append(relayed(windows, senders, size, careful))
	fine, coarse = shares
	assert fine >= 0.9 and coarse >= 0.95 * fine  # paced at 26 MB a second, some frames give way


def test_the_relay_keeps_its_computer_awake_while_several_are_in(monkeypatch: pytest.MonkeyPatch) -> None:
	windows = Windows()
	windows.install(monkeypatch)
	relay = cs.VideoRelay(("127.0.0.1", 0), cs.Counters())
	states = []
	for ident, there in ((1, True), (2, True), (1, False), (2, False)):
		if there:
			relay.add(ident, bytes(32), bytes(32))
		else:
			relay.remove(ident)
		states.append((windows.fine, windows.awake()))
	relay.loop.close()
	assert states == [(True, set()), (True, {"system"}), (True, set()), (False, set())]
