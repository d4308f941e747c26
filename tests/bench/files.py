"""The rate of each hop of a file through the server against a bare loop in turn: python tests/bench files

The bare loop is one process that reads a file and sends it over TLS and another that receives it in blocks
of 256 kB, hashes them with SHA-256 and writes them: what no transfer can do without. Each round runs the bare
loop, an upload and a download in turn; the figures are medians of the rounds. Meanwhile the sender talks and
the receiver listens: how long that took, while files moved and while none did. With TMPDIR=/dev/shm the disk
takes no part.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from figures import Row, in_turn
from headless import Headless, free_base
from measure import clicks, heard_delays, percentile
from meetings import switch
from processes import child_in_role, kbytes

import connectsphere as cs

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
			took = time.monotonic() - began
	target.unlink()  # as the other files go: no loop writes where memory is warm already
	return took


@contextlib.contextmanager
def meeting(folder: Path) -> Iterator[tuple[Headless, Headless]]:
	"""A host who can talk and a guest whose speaker writes `heard.wav`."""
	base = str(free_base())
	quiet = ["--bind", "127.0.0.1", "--camera", "none"]
	sound = ["--mic", str(clicks(folder / "clicks.wav")), "--speaker", "none"]
	host = Headless(["--host", "--port", base, "--name", "Ana", *sound, *quiet], folder / "ana")
	people = [host]
	try:
		host.wait("joined")
		args = ["--join", f"127.0.0.1:{base}", "--name", "Bob", "--downloads", str(folder / "got"), *quiet]
		args += ["--mic", "none", "--speaker", str(folder / "heard.wav")]
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


def sound_row(guest: Headless, heard: Path, live: float, moving: list[tuple[float, float]]) -> Row:
	"""The delay of what is heard while files move, and else."""
	delays: dict[bool, list[float]] = {True: [], False: []}
	for at, delay in heard_delays(heard, guest.seen("joined")[0]["time"], live):
		delays[any(began < at < ended for began, ended in moving)].append(1e3 * delay)
	moves, rests = (
		f"p50 {percentile(delays[kind], 0.5):.0f}, p99 {percentile(delays[kind], 0.99):.0f} ms"
		for kind in (True, False)
	)
	return Row("files", "sound while files move", moves, f"{rests} else")


MEGABYTES = 256


def rows(rounds: int) -> list[Row]:
	"""The files' part of the table."""
	with tempfile.TemporaryDirectory() as name:
		folder = Path(name)
		source = folder / "source.dat"
		with source.open("wb") as file:
			for _ in range(MEGABYTES):
				file.write(os.urandom(1 << 20))
		identity = cs.load_identity(folder)
		with meeting(folder) as (host, guest):
			refs, moving = itertools.count(), []
			live = switch(host, "mic", True)["time"]
			time.sleep(15)

			def move() -> dict[str, float]:
				ref, began = next(refs), time.time()
				file_id, hop, whole = upload(host, source, ref)
				guest.wait("file_offer", file=file_id)
				down = download(guest, file_id, ref)
				moving.append((began, time.time()))
				host.send(do="cancel", file=file_id)
				return {"upload": hop, "upload and its first pass": whole, "download": down}

			things = {"bare": lambda: {"s": bare_loop(identity, source, folder / "bare.dat")}, "move": move}
			medians = in_turn(things, rounds)
			sound = sound_row(guest, folder / "heard.wav", live, moving)
			server = child_in_role(host.process.pid, "--serve-child")
			pids = (server, host.process.pid, guest.process.pid)
			held = [kbytes(pid, "VmHWM") // 1024 for pid in pids]
		bare = medians["bare"]["s"]
		return [
			Row(
				"files",
				f"{what} of {MEGABYTES} MB",
				f"{MEGABYTES / seconds:.0f} MB/s",
				f"{MEGABYTES / bare:.0f} MB/s bare TLS, SHA-256 and disk",
				seconds / bare,
			)
			for what, seconds in medians["move"].items()
		] + [
			sound,
			Row("files", "most memory of server, sender, receiver", "{}, {}, {} MB".format(*held)),
		]


if __name__ == "__main__":
	if sys.argv[1:2] == ["--send"]:
		bare_sender(int(sys.argv[2]), sys.argv[3])
