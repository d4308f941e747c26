"""A class of four on a LAN, one of whom suddenly gets less through than before, and then again all."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headless import Event, Headless
from lan import Lan
from measure import clicks
from meetings import SILENT, stats, switch
from pictures import film

Starts = Callable[..., Headless]
WATCH = {"Ana": {"layer": 3, "fps": 15}, "Ben": {"layer": 2, "fps": 15}}
LOOK = 0.25


@dataclass
class Look:
    """What one participant has at a moment, all streams together."""

    at: float
    kbps: float
    frames: int
    lost: int
    layers: Mapping[str, int]
    fps: Mapping[str, float]
    audio: Mapping[str, Any]


def look(one: Headless) -> Look:
    """Now, by what `stats` says."""
    said: Event = stats(one)
    video = said["video"]
    return Look(
        time.monotonic(),
        sum(entry["kbps"] for entry in video.values()),
        sum(entry["frames"] for entry in video.values()),
        sum(entry["lost_frames"] for entry in video.values()),
        {name: entry["layer"] for name, entry in video.items()},
        {name: entry["fps"] for name, entry in video.items()},
        said["audio"],
    )


class ShortPath:
    """Ana (teacher, speaks) and Ben send a film; Cleo's path can be capped, Dan's never is."""

    def __init__(self, lan: Lan, meeting: Starts, directory: Path) -> None:
        self.lan = lan
        video = film(directory / "film.avi", 8, size=(1280, 720))
        voice = clicks(directory / "clicks.wav")

        def there(host: int, *args: str) -> Headless:
            one = meeting(*args, *SILENT[4:], netns=lan.namespace(host))
            one.wait("joined", timeout=40)
            return one

        camera, quiet = ("--camera", str(video)), SILENT[:4]
        ana = there(1, "--host", "--name", "Ana", *camera, "--mic", str(voice))
        ben = there(2, "--join", lan.address(1), "--name", "Ben", *camera, "--mic", "none")
        self.cleo = there(3, "--join", lan.address(1), "--name", "Cleo", *quiet)
        self.dan = there(4, "--join", lan.address(1), "--name", "Dan", *quiet)
        switch(ana, "mic", True)
        for one in (ana, ben):
            switch(one, "camera", True)
        for one in (self.cleo, self.dan):
            one.send({"do": "watch", "streams": WATCH})

    def follow(self, seconds: float) -> tuple[list[Look], list[Look]]:
        """Looks at Cleo and at Dan for so long."""
        until = time.monotonic() + seconds
        found: tuple[list[Look], list[Look]] = ([], [])
        while time.monotonic() < until:
            for looks, one in zip(found, (self.cleo, self.dan), strict=True):
                looks.append(look(one))
            time.sleep(LOOK)
        return found
