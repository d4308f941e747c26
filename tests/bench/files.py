"""By hand: the rate of each hop of a file through the server, as a ratio to a bare loop in the same run.

    python tests/bench/files.py [MEGABYTES [ROUNDS]]

The bare loop is one process that reads a file and sends it over TLS and another that receives it in blocks
of 256 kB, hashes them with SHA-256 and writes them: what no transfer can do without. Each round runs the bare
loop, an upload and a download in turn; the figures are medians of the rounds.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from headless import Headless, free_base  # noqa: E402 - found by the path above

import connectsphere as cs  # noqa: E402 - found by the path above

BLOCK = 256 << 10
PATIENCE = 600.0


def bare_sender(port: int, source: str) -> None:
    """Send the file over TLS, block by block."""
    block = memoryview(bytearray(BLOCK))
    raw = socket.create_connection(("127.0.0.1", port))
    raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with cs.client_context().wrap_socket(raw) as tls, open(source, "rb", buffering=0) as file:
        while count := file.readinto(block):
            tls.sendall(block[:count])


def bare_receiver(raw: socket.socket, context: ssl.SSLContext, size: int, target: Path) -> None:
    """Receive `size` bytes into `target`, hashing them."""
    block, whole, done = memoryview(bytearray(BLOCK)), hashlib.sha256(), 0
    with context.wrap_socket(raw, server_side=True) as tls, target.open("wb", buffering=0) as file:
        while done < size:
            filled, room = 0, min(BLOCK, size - done)
            while filled < room:
                filled += tls.recv_into(block[filled:room])
            whole.update(block[:filled])
            file.write(block[:filled])
            done += filled


def bare_loop(identity: cs.Identity, source: Path, target: Path) -> float:
    """Seconds of the bare loop, from the connection to the last written byte."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        command = [sys.executable, __file__, "--send", str(listener.getsockname()[1]), str(source)]
        with subprocess.Popen(command):
            raw, _ = listener.accept()
            began = time.monotonic()
            bare_receiver(raw, cs.server_context(identity), source.stat().st_size, target)
            return time.monotonic() - began


def memory(process: int, what: str = "VmHWM") -> int:
    """The most memory in MB that a process has held."""
    for line in Path(f"/proc/{process}/status").read_text().splitlines():
        if line.startswith(what):
            return int(line.split()[1]) // 1024
    return 0


def server_of(host: Headless) -> int:
    """The process id of the server that a hosting participant has started."""
    children = Path(f"/proc/{host.process.pid}/task/{host.process.pid}/children")
    threads = Path(f"/proc/{host.process.pid}/task").glob("*/children")
    found = " ".join(one.read_text() for one in [children, *threads]).split()
    return int(found[0])


@contextlib.contextmanager
def meeting(folder: Path) -> Iterator[tuple[Headless, Headless]]:
    """A host and a guest, without devices."""
    base = str(free_base())
    quiet = ["--bind", "127.0.0.1", "--camera", "none", "--mic", "none", "--speaker", "none"]
    host = Headless(["--host", "--port", base, "--name", "Ana", *quiet], folder / "ana")
    people = [host]
    try:
        host.wait("joined")
        args = ["--join", f"127.0.0.1:{base}", "--name", "Bob", "--downloads", str(folder / "got"), *quiet]
        people.append(Headless(args, folder / "bob"))
        people[1].wait("joined")
        yield people[0], people[1]
    finally:
        for one in reversed(people):
            one.close()


def upload(host: Headless, source: Path, ref: int) -> tuple[str, float, float]:
    """(file, seconds from the first block to `uploaded`, seconds from the command on)."""
    asked = time.time()
    host.send(do="upload", path=str(source), ref=ref)
    first = host.wait("file_progress", PATIENCE, ref=ref)
    done = host.wait("uploaded", PATIENCE, ref=ref)
    return done["file"], done["time"] - first["time"], done["time"] - asked


def download(guest: Headless, file: str, ref: int) -> float:
    """Seconds from the command to `file_saved`."""
    asked = time.time()
    guest.send(do="download", file=file, ref=ref)
    saved = guest.wait("file_saved", PATIENCE, ref=ref)
    Path(saved["path"]).unlink()
    return saved["time"] - asked


def main(megabytes: int, rounds: int) -> None:
    """Print a line a round, then the medians."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = folder / "source.dat"
        with source.open("wb") as file:
            for _ in range(megabytes):
                file.write(os.urandom(1 << 20))
        identity = cs.load_identity(folder)
        ratios: dict[str, list[float]] = {"upload": [], "upload with the first pass": [], "download": []}
        with meeting(folder) as (host, guest):
            server = server_of(host)
            for number in range(rounds):
                bare = bare_loop(identity, source, folder / "bare.dat")
                file_id, hop, whole = upload(host, source, number)
                guest.wait("file_offer", file=file_id)
                down = download(guest, file_id, number)
                host.send(do="cancel", file=file_id)
                for kind, seconds in zip(ratios, (hop, whole, down), strict=True):
                    ratios[kind].append(bare / seconds)
                rates = " ".join(f"{megabytes / seconds:6.0f}" for seconds in (bare, hop, whole, down))
                print(f"MB/s: bare, upload, upload with the first pass, download: {rates}", flush=True)
            held = [memory(one) for one in (server, host.process.pid, guest.process.pid)]
        for kind, values in ratios.items():
            print(f"{kind}: {statistics.median(values):.2f} of the bare loop (median of {rounds})")
        print("most memory in MB: server {}, sender {}, receiver {}".format(*held))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--send"]:
        bare_sender(int(sys.argv[2]), sys.argv[3])
    else:
        main(*(int(text) for text in (*sys.argv[1:], "256", "5")[:2]))
