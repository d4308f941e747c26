"""The shared screen's figures, by hand: python tests/bench/screen.py

A 1920x1080 desktop under Xvfb, a host that shares it and three viewers, all on this machine. Says the
load average, because nothing of this holds on a busy machine.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2])]

from headless import Headless, free_base  # noqa: E402 - found by the path above

import connectsphere as cs  # noqa: E402

SIZE = (1920, 1080)
CELL = 32  # pixels of one bit of the counter
PLACES = [(64, 64), (1500, 64), (64, 900), (1500, 900), (800, 500)]
BITS = 10

TYPING = """
import sys, tkinter
root = tkinter.Tk()
root.geometry("1200x800+100+80")
text = tkinter.Text(root, font=("TkFixedFont", 14), insertofftime=0)
text.pack(fill="both", expand=True)
text.insert("end", "The quick brown fox jumps over the lazy dog.\\n" * 20)
def listen():
    line = sys.stdin.readline()
    if not line:
        root.destroy()
        return
    text.insert("end", line)
    text.see("end")
    root.update()
    print("typed", flush=True)
    root.after(1, listen)
root.after(300, listen)
root.mainloop()
"""

PLAYING = """
import sys, time, cv2, numpy as np
sys.path.insert(0, sys.argv[1])
import screen
cv2.namedWindow("v", cv2.WINDOW_AUTOSIZE | cv2.WINDOW_GUI_NORMAL)
cv2.moveWindow("v", 0, 0)
frames = screen.film()
began, until = time.monotonic(), time.monotonic() + float(sys.argv[2])
while time.monotonic() < until:
    number = int((time.monotonic() - began) * 24)
    picture = frames[number % len(frames)].copy()
    screen.write_counter(picture, number % 1024)
    cv2.imshow("v", picture)
    cv2.waitKey(5)
"""


def film() -> list[cs.Picture]:
    """A second of something that moves everywhere, as films do."""
    import cv2

    rng = np.random.default_rng(3)
    ground = rng.integers(0, 256, (30, 60, 3), np.uint8)
    big = cv2.resize(ground, (SIZE[0] + 240, SIZE[1]), interpolation=cv2.INTER_CUBIC)
    return [np.ascontiguousarray(big[:, 10 * n : 10 * n + SIZE[0]]) for n in range(24)]


def write_counter(picture: cs.Picture, number: int) -> None:
    """The bits of `number` in black and white, at every place."""
    for left, top in PLACES:
        for bit in range(BITS):
            x = left + bit * CELL
            picture[top : top + CELL, x : x + CELL] = 255 if number >> bit & 1 else 0


def read_counters(picture: cs.Picture) -> list[int]:
    """What each place says."""
    middle = CELL // 2
    return [
        sum(1 << bit for bit in range(BITS) if picture[y + middle, x + bit * CELL + middle, 1] > 127)
        for x, y in PLACES
    ]


class Watcher:
    """A viewer in this process: keeps every new picture's moment."""

    def __init__(self, base: int, name: str, home: Path) -> None:
        home.mkdir()
        options = cs.ClientOptions(name=name, address="127.0.0.1", port=base, speaker="none")
        self.controller = cs.MeetingController(options, home)
        self.controller.start()
        while self.controller.gui_queue.get()["event"] != "joined":
            pass

    def stats(self) -> cs.Json:
        """Its screen's figures."""
        return self.controller.screen.stats()

    def wait_change(self, box: tuple[slice, slice], before: cs.Picture, timeout: float = 5.0) -> float:
        """When the place differs from `before`."""
        until = time.monotonic() + timeout
        while time.monotonic() < until:
            picture = self.controller.screen.newest()
            if picture is not None and (picture[box] != before[box]).any():
                return time.monotonic()
            time.sleep(0.004)
        return float("inf")


def cpu(pids: list[int]) -> float:
    """Seconds of processor time used by the processes so far."""
    ticks = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def server_of(host: Headless) -> int:
    """The process that serves."""
    for listing in Path(f"/proc/{host.process.pid}/task").glob("*/children"):
        for pid in listing.read_text().split():
            if b"--serve-child" in Path(f"/proc/{pid}/cmdline").read_bytes():
                return int(pid)
    raise AssertionError("no server")


def measure_typing(viewers: list[Watcher], typist: subprocess.Popen[str]) -> None:
    """A line appears in the window: until each of three viewers shows it."""
    assert typist.stdin and typist.stdout
    box = (slice(80, 900), slice(100, 1300))
    delays: list[float] = []
    for number in range(12):
        time.sleep(1.0 + 0.037 * number)
        befores = [viewer.controller.screen.newest() for viewer in viewers]
        typist.stdin.write(f"line {number} of the text that is typed\n")
        typist.stdin.flush()
        typist.stdout.readline()
        typed = time.monotonic()
        seen: list[float] = [0.0] * len(viewers)

        def wait(index: int, seen: list[float] = seen, befores: list[cs.Picture | None] = befores) -> None:
            before = befores[index]
            assert before is not None
            seen[index] = viewers[index].wait_change(box, before)

        threads = [threading.Thread(target=wait, args=(index,)) for index in range(len(viewers))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        delays += [at - typed for at in seen]
        exact = time.monotonic()
        while not all(viewer.stats()["exact"] for viewer in viewers) and time.monotonic() < exact + 3:
            time.sleep(0.02)
    delays.sort()
    print(f"typed line: p50 {delays[len(delays) // 2] * 1e3:.0f} ms, worst {delays[-1] * 1e3:.0f} ms")
    print(f"exact after the last line: {time.monotonic() - typed:.2f} s")


def measure_still(host: Headless, viewer: Watcher) -> None:
    """Nothing moves; compared with the same meeting in which nothing is shared."""
    pids = {"presenter": host.process.pid, "server": server_of(host)}
    shares: dict[str, list[float]] = {name: [] for name in pids}
    kbps = 0
    for sharing in (True, False):
        if not sharing:
            host.send(do="share", on=False)
        time.sleep(5)
        before, began = {name: cpu([pid]) for name, pid in pids.items()}, time.monotonic()
        kbps = viewer.stats()["kbps"] if sharing else kbps
        time.sleep(10)
        spent = time.monotonic() - began
        for name, pid in pids.items():
            shares[name].append(100 * (cpu([pid]) - before[name]) / spent)
    words = [f"{name} {on:.1f} % of a core, {off:.1f} % without" for name, (on, off) in shares.items()]
    print(f"still: {kbps} kbit/s, {', '.join(words)}")
    host.send(do="share", on=True, source="screen:0")


def measure_film(viewer: Watcher) -> None:
    """A film fills the screen."""
    with subprocess.Popen(
        [sys.executable, "-c", PLAYING, str(Path(__file__).parent), "16"], stderr=subprocess.DEVNULL
    ) as player:
        time.sleep(5)
        seen: list[list[int]] = []
        serial, began = 0, time.monotonic()
        while time.monotonic() - began < 8:
            newest, picture = viewer.controller.picture("screen")
            if newest != serial and picture is not None:
                serial = newest
                seen.append(read_counters(picture))
            time.sleep(0.005)
        spent = time.monotonic() - began
        stats = viewer.stats()
        player.wait()
    whole = [one[0] for one in seen if len(set(one)) == 1]
    share = 100 * len(whole) / max(1, len(seen))
    print(f"film: {len(set(whole)) / spent:.1f} distinct counters a second, {stats['kbps']} kbit/s,", end=" ")
    print(f"{share:.0f} % of {len(seen)} pictures from one frame")


def main() -> None:
    """All of it."""
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    command = ["Xvfb", "-displayfd", "1", "-screen", "0", "1920x1080x24", "-nolisten", "tcp", "-noreset"]
    with (
        tempfile.TemporaryDirectory() as directory,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as display,
    ):
        assert display.stdout
        os.environ["DISPLAY"] = f":{display.stdout.readline().strip()}"
        home, base = Path(directory), free_base()
        host = Headless(
            ["--host", "--name", "Host", "--bind", "127.0.0.1", "--port", str(base)], home / "host"
        )
        host.wait("joined", 20)
        viewers: list[Watcher] = []
        try:
            viewers += [Watcher(base, f"V{n}", home / f"v{n}") for n in range(3)]
            with subprocess.Popen(
                [sys.executable, "-c", TYPING], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            ) as typist:
                host.send(do="share", on=True, source="screen:0")
                host.wait("screen_start", 10)
                time.sleep(3)
                measure_typing(viewers, typist)
                measure_still(host, viewers[0])
                assert typist.stdin
                typist.stdin.close()
            for viewer in viewers[1:]:
                viewer.controller.close()
            measure_film(viewers[0])
        finally:
            for viewer in viewers:
                viewer.controller.close()
            host.close()
            display.terminate()
    print(f"load {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
