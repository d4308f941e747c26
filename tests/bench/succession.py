"""The host's window and server are killed at once: when is the last of the class in again?

python tests/bench succession 20: eight people on five hosts of a LAN, PIN on, three talking, one sharing, 2 %
loss toward the first standby.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from figures import Row
from lan import Lan
from meetings import switch
from sound import longest_silence
from test_succession import Class, moved

NAMES = ("Ana", "Ben", "Cem", "Dan", "Eva", "Fay", "Gus")


def once(home: Path) -> tuple[float, float]:
	"""Seconds until the slowest was in again, and of silence, in one round."""
	with Lan(5) as lan:
		one = Class(lan, home, "--pin", "4711").begin()
		try:
			heard = home / "heard.wav"
			first = [one.standby(2, "Ana"), one.standby(3, "Ben", "--mic", "tone")]
			more = {"Cem": ("--speaker", str(heard)), "Dan": ("--mic", "tone"), "Eva": ("--mic", "tone")}
			rest = [one.pupil(2 + n % 4, name, *more.get(name, ())) for n, name in enumerate(NAMES[2:])]
			lan.loss(2, 2.0)
			for talker in (first[1], *rest[1:3]):
				switch(talker, "mic", True)
			rest[3].send(do="share", on=True, source="pattern")
			rest[0].wait("screen_start", 20)
			for each in (*first, *rest):
				each.wait("succession", 20, names=["Ana", "Ben"])
			died = one.kill_host()
			slowest = max(moved(each, 2, "Ana", died) for each in (*first, *rest))
			rest[0].wait("screen_start", 20)
			joined = rest[0].seen("joined")[0]["time"]
			return slowest, longest_silence(heard, died - joined - 0.5, died - joined + 5.0)
		finally:
			one.close()


def rows(rounds: int) -> list[Row]:
	"""The middle and the 95th percentile of so many rounds."""
	found = []
	for n in range(rounds):
		with tempfile.TemporaryDirectory() as home:
			found.append(once(Path(home)))
		print(f"  round {n + 1}: in again {found[-1][0]:.2f} s, silence {found[-1][1]:.2f} s", flush=True)
	told = []
	for what, values in zip(("all are in again", "silence"), zip(*found, strict=True), strict=True):
		ordered = sorted(values)
		middle, worst = ordered[rounds // 2], ordered[int(0.95 * (rounds - 1))]
		told.append(Row("succession", what, f"{middle:.2f} s, p95 {worst:.2f} s", bound="<= 3 s"))
	return told
