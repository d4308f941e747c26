"""Connections of the same person one after the other: what is left of an earlier one changes nothing.

Today a connection's generation is its id: who comes back gets a new one, new keys and a new socket. Two
people and the real planes, relay and mixer on a simulated network and clock.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import random
import secrets
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from light import picture

import connectsphere as cs

BACK_WITHIN = 0.5  # seconds


class Port:
    """One end of the simulated network, with an address that nobody had before."""

    counter = itertools.count(1)
    network: Network

    def __init__(self, *_: Any, sound: bool = False, **__: Any) -> None:
        self.sound, self.address = sound, ("10.0.0.1", next(self.counter))
        self.server: Port | None = None

    def send(self, datagram: Any, address: cs.Address | None = None) -> bool:
        self.network.carry(self.address, address or self.server_of().address, bytes(datagram))
        return True

    def send_frame(self, layout: Any, address: cs.Address | None = None, tail: bool = False) -> bool:
        view = bytes(layout)
        return all(self.send(view[at : at + cs.DATAGRAM], address) for at in range(0, len(view), cs.DATAGRAM))

    def server_of(self) -> Port:
        return self.network.servers[self.sound]

    def held(self) -> int:
        return 0


class Network:
    """Before a break three of ten datagrams are 50 to 800 ms late, else it takes 2 ms."""

    def __init__(self, seed: int) -> None:
        self.now, self.order, self.random = 100.0, itertools.count(), random.Random(seed)
        self.under_way: list[tuple[float, int, cs.Address, cs.Address, bytes]] = []
        self.listens: dict[cs.Address, Callable[[bytes, cs.Address], None]] = {}
        self.servers: dict[bool, Port] = {}
        self.breaking = False

    def carry(self, source: cs.Address, to: cs.Address, data: bytes) -> None:
        late = self.random.uniform(0.05, 0.8) if self.breaking and self.random.random() < 0.3 else 0.002
        heapq.heappush(self.under_way, (self.now + late, next(self.order), source, to, data))

    def arrive(self) -> None:
        while self.under_way and self.under_way[0][0] <= self.now:
            _, _, source, to, data = heapq.heappop(self.under_way)
            with contextlib.suppress(cs.PeerFault):
                if to in self.listens:
                    self.listens[to](data, source)


class Client:
    """A person's two planes, over all connections."""

    def __init__(self, meeting: Meeting, name: str) -> None:
        self.meeting, self.name, self.id, self.seq = meeting, name, 0, 0
        self.token: str | None = None
        welcome = self.admit()
        address = ("10.0.0.1", 0)
        self.video = cs.VideoPlane(address, None, welcome, cs.Counters(), 1e9)
        self.audio = cs.AudioPlane(address, None, welcome, cs.Counters(), lambda ident: None)
        self.listen()

    def admit(self) -> dict[str, Any]:
        """As the server does it: another id, other keys."""
        meeting, old = self.meeting, self.id
        member, self.token, _ = meeting.room.join(self.name, "member", "10.0.0.1", self.token, meeting.now())
        self.id = member.id
        keys = {key: secrets.token_hex(16) for key in ("video_up", "video_down", "audio_up", "audio_down")}
        meeting.relay.remove(old)
        meeting.relay.add(self.id, bytes.fromhex(keys["video_up"]), bytes.fromhex(keys["video_down"]))
        meeting.mixer._do({"do": "remove", "id": old})
        meeting.mixer._do({"do": "add", "id": self.id, "up": keys["audio_up"], "down": keys["audio_down"]})
        meeting.mixer._do({"do": "mute", "id": self.id, "on": False})
        return {"id": self.id, **keys}

    def come_back(self) -> None:
        """Over another connection; numbers start lower."""
        welcome = self.admit()
        lower = self.meeting.network.random.randrange(1, 2_000)
        self.video._numbers = [max(0, number - lower) for number in self.video._numbers]
        self.seq = max(0, self.seq - lower)
        for plane in (self.video, self.audio):
            self.meeting.network.listens.pop(plane.path.port.address, None)  # type: ignore[attr-defined]
            plane.go_on(("10.0.0.1", 0), None, welcome)
        self.listen()

    def listen(self) -> None:
        for plane in (self.video, self.audio):

            def heard(data: bytes, source: cs.Address, plane: Any = plane) -> None:
                plane._on_datagrams(memoryview(data), len(data), source, self.meeting.now())

            self.meeting.network.listens[plane.path.port.address] = heard  # type: ignore[attr-defined]


class Meeting:
    """Ana speaks into her camera and microphone, Ben looks and listens."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.room = cs.Room("Algebra", "Ms Lee", "00" * 16, secrets.token_hex)
        self.relay = cs.VideoRelay(("10.0.0.1", 0), cs.Counters())
        self.mixer = cs.MixerProcess(None, lambda message: None)  # type: ignore[arg-type]
        for port, hears in (
            (self.relay._port, self.on_video),
            (self.mixer._port, lambda data, source: self.mixer._on_datagram(data, source, self.now())),
        ):
            network.listens[port.address] = hears  # type: ignore[attr-defined]
        network.servers = {False: self.relay._port, True: self.mixer._port}  # type: ignore[dict-item]
        self.ana, self.ben = Client(self, "Ana"), Client(self, "Ben")
        self.frame = picture(0, 2_500)
        self.voice = (np.random.default_rng(2).normal(size=cs.BLOCK) * 3_000).astype(">i2").tobytes()
        self.steps = 0
        self.watch()

    def now(self) -> float:
        return self.network.now

    def on_video(self, data: bytes, source: cs.Address) -> None:
        self.relay._on_datagrams(memoryview(data), len(data), source, self.now())

    def watch(self) -> None:
        self.relay.route(self.ana.id, {self.ben.id: (0, 15)})
        self.ben.video.watch({self.ana.id})

    def step(self) -> bool:
        """Two milliseconds; whether Ben hears something."""
        self.network.now += 0.002
        self.steps += 1
        heard = False
        if self.steps % 33 == 0:
            self.ana.video.send_picture(0, self.frame)
        if self.steps % 8 == 0:
            self.ana.seq += 1
            self.ana.audio.send_block(self.ana.seq, self.voice)
            self.mixer._mix(self.now())
            self.mixer._tick += 1
            heard = bool(np.abs(self.ben.audio.pull()).max() > 500)
        self.network.arrive()
        self.relay._on_due(self.now())
        for one in (self.ana, self.ben):
            one.video._on_due(self.now())
            one.audio.path.bind_due(self.now())
        return heard


@pytest.fixture
def nacks(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[cs.Nack]]:
    """What was asked for again; the sockets, loops and clock are simulated."""
    asked: list[cs.Nack] = []
    encode = cs.encode_nack

    def noted(nack: cs.Nack) -> bytes:
        asked.append(nack)
        return encode(nack)

    monkeypatch.setattr(cs, "encode_nack", noted)
    monkeypatch.setattr(cs, "UdpPort", Port)
    monkeypatch.setattr(cs, "udp_port", Port)
    monkeypatch.setattr(cs, "DatagramLoop", lambda *_: SimpleNamespace(use=lambda port: None))
    Port.network = Network(seed=5)
    monkeypatch.setattr(cs, "monotonic", lambda: Port.network.now)
    yield asked


def test_what_is_late_of_an_earlier_connection_is_never_asked_for(nacks: list[cs.Nack]) -> None:
    """Three hundred times one or both come back: pictures and sound again within half a second."""
    meeting = Meeting(Port.network)
    ana, ben = meeting.ana, meeting.ben
    for _ in range(500):
        meeting.step()
    for turn in range(300):
        meeting.network.breaking = True
        for _ in range(100):
            meeting.step()
        meeting.network.breaking = False
        back = [ana, ben] if turn % 5 == 0 else [(ana, ben)[turn % 2]]
        for one in back:
            one.come_back()
        ben.video.streams.clear()
        meeting.watch()
        nacks.clear()
        began, seen, heard = meeting.now(), 0.0, 0.0
        while meeting.now() < began + BACK_WITHIN:
            hears = meeting.step()
            heard = heard or meeting.now() * hears
            seen = seen or meeting.now() * bool(ben.video.streams.get(ana.id))
        assert seen and heard, f"turn {turn}: seen {seen}, heard {heard} since {began}"
        down = meeting.relay._peers[ben.id].numbers.get(ana.id, 0)
        up = ana.video._numbers[0]
        for nack in nacks:
            assert nack.id == ana.id and nack.number <= max(up, down), f"turn {turn}: {nack} of before"
