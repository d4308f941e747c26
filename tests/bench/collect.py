"""A class that hands in at once, and how whole it arrives: python tests/bench collect [ROUNDS]

By hand: python tests/bench/collect.py [PUPILS [BYTES]]. Each pupil hands in a file of 5 MB at once;
it goes to the server and from there to the host's folder. The reference is the bare loop of the bench `files`
over the same bytes, once for each of these two ways. Meanwhile one pupil talks and another listens.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path

from figures import Row, participants
from files import bare_loop
from meetings import host, join, stats, switch
from waiting import wait_until

import connectsphere as cs

PATIENCE = 300.0


def held(pupils: int, size: int) -> dict[str, float]:
	"""One class: seconds until all is there, of the bare loop, files in their folders, blocks not heard."""
	with participants() as (meeting, folder):
		work = folder / "work.bin"
		work.write_bytes(os.urandom(size))
		bare = sum(bare_loop(cs.load_identity(folder), work, folder / "copy") for _ in range(2 * pupils))
		teacher, base = host(meeting, "--downloads", str(folder / "hers"), "--title", "Maths", name="Ms Lee")
		voice = join(meeting, base, "Voice", "--mic", "tone")
		ear = join(meeting, base, "Ear", "--speaker", str(folder / "heard.wav"))
		switch(voice, "mic", True)
		home = Path(tempfile.mkdtemp(dir=folder))
		options = cs.ClientOptions(
			address="127.0.0.1", port=base, bind="127.0.0.1", camera="none", mic="none", speaker="none"
		)
		names = [f"Pupil {n:02}" for n in range(pupils)]
		people = [cs.MeetingController(cs.replace(options, name=name), home) for name in names]
		for one in people:
			one.start()
		wait_until(lambda: all(one.snapshot().link == "live" for one in people), PATIENCE, "all are in")
		teacher.send({"do": "collect", "open": True, "title": "Sheet"})
		wait_until(lambda: all(one.snapshot().rules.collecting for one in people), 30.0, "it is collected")
		before, began = stats(ear)["audio"], time.monotonic()
		for one in people:
			one.do({"do": "hand_in", "path": str(work)})
		wait_until(lambda: len(teacher.seen("hand_in")) == pupils, PATIENCE, "all is there")
		took, after = time.monotonic() - began, stats(ear)["audio"]
		paths = [Path(event["path"]) for event in teacher.seen("hand_in")]
		right = sum(path.read_bytes() == work.read_bytes() for path in paths if path.parent.name in names)
		right = min(right, len({path.parent for path in paths}))
		for one in people:
			one.close()
		unheard = sum(after[key] - before[key] for key in ("lost", "concealed"))
		return {"seconds": took, "bare": bare, "right": right, "unheard": unheard}


def rows(rounds: int) -> list[Row]:
	"""29 pupils and 5 MB each; the worst of the rounds."""
	runs = [held(29, 5 << 20) for _ in range(rounds)]
	worst = max(runs, key=lambda run: run["seconds"] / run["bare"])
	right, unheard = min(run["right"] for run in runs), max(run["unheard"] for run in runs)
	what = "29 pupils hand in 5 MB at once"
	return [
		Row(
			"collect", f"{what}: seconds until all are saved", f"{worst['seconds']:.1f}",
			f"{worst['bare']:.1f}", worst["seconds"] / worst["bare"], "<= 2",
		),
		Row("collect", f"{what}: whole, in their own folders", f"{right:.0f}", bound="29"),
		Row("collect", f"{what}: blocks of sound lost or concealed", f"{unheard:.0f}", bound="0"),
	]  # fmt: skip


if __name__ == "__main__":
	pupils, size = int((*sys.argv[1:], "29")[0]), int((*sys.argv[2:], str(5 << 20))[0])
	for key, value in held(pupils, size).items():
		print(f"{key}: {value:.1f}")
