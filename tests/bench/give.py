"""Whether giving the program to others hurts the meeting: `python tests/bench/give.py [RATE]`, as root.

A host behind a link of RATE (100mbit) shows its picture in 1280x720 to three others. Then all three fetch a
program of 100 MB from it, as slowly as the host's window lets them, and then as fast as they can.
"""

from __future__ import annotations

import contextlib
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1]), str(Path(__file__).resolve().parents[2])]

from headless import Headless  # noqa: E402 - found by the path above
from lan import Lan  # noqa: E402 - found by the path above

import connectsphere as cs  # noqa: E402 - found by the path above

SECONDS = 10
GIVE = """
import sys, pathlib
import connectsphere as cs  # noqa: E402 - found by the path above
cs.own_program = lambda: (pathlib.Path(sys.argv[2]), "connectsphere")
giver = cs.AppGiver(rate=int(sys.argv[1]))
print(giver.url, flush=True)
sys.stdin.read()
giver.close()
"""
FETCH = """
import sys, time, urllib.request
end, got = time.monotonic() + float(sys.argv[2]), 0
with urllib.request.urlopen(sys.argv[1] + "/connectsphere") as answer:
    while time.monotonic() < end and (piece := answer.read(65_536)):
        got += len(piece)
print(got, flush=True)
"""


@contextlib.contextmanager
def fetching(lan: Lan, hosts: Sequence[int], rate: int, program: Path) -> Iterator[None]:
	"""All `hosts` fetch the program from host 1, `rate` bytes a second together."""
	giver = lan.python(1, GIVE, str(rate), str(program))
	assert giver.stdout is not None
	url = giver.stdout.readline().strip()
	fetchers = [lan.python(host, FETCH, url, str(SECONDS)) for host in hosts]
	yield
	got = sum(int(one.communicate(timeout=30)[0]) for one in fetchers)
	giver.communicate(timeout=30)
	print(f"    given: {got / SECONDS / 1e6:.1f} MB/s to {len(hosts)} together")


def watch(guest: Headless, name: str) -> None:
	"""Print how the host's picture arrives for some seconds."""
	delays: list[float] = []
	rates: list[float] = []
	for _ in range(SECONDS):
		time.sleep(1)
		guest.send(do="stats")
		stream = guest.wait("stats", 5)["video"]["Ana"]
		rates.append(stream["fps"])
		if stream["latency_ms"] is not None:
			delays.append(stream["latency_ms"])
	delay = f"{statistics.median(delays):.0f} ms old, {max(delays):.0f} at most"
	print(f"{name}: {statistics.median(rates):.1f} pictures a second, {delay}", flush=True)


def main() -> None:
	"""Measure."""
	with Lan(4) as lan, tempfile.TemporaryDirectory() as directory, contextlib.ExitStack() as ends:
		lan.cap(1, sys.argv[1] if len(sys.argv) > 1 else "100mbit")
		program = Path(directory) / "program"
		program.write_bytes(bytes(100_000_000))
		devices = ("--camera", "pattern", "--mic", "tone", "--speaker", "none")
		people = []
		for host in (1, 2, 3, 4):
			role = ("--host", "--name", "Ana") if host == 1 else ("--name", f"Guest {host}")
			one = Headless((*role, *devices), Path(directory) / str(host), netns=lan.namespace(host))
			ends.callback(one.close)
			one.wait("joined", 40)
			one.send(do="camera", on=True)
			one.send(do="watch", streams={"Ana": {"layer": 3, "fps": 15}})
			people.append(one)
		time.sleep(4)
		watch(people[1], "alone")
		for name, rate in (("while it is given", cs.GIVE_RATE), ("given without a limit", 10**9)):
			with fetching(lan, (2, 3, 4), rate, program):
				watch(people[1], name)


if __name__ == "__main__":
	main()
