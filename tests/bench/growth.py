"""How the server's cost grows with the number of participants: python tests/bench growth

The server that ships, by its own command; light participants (tests/pupils.py) in two processes, each of whom
watches the same three at layer 0, 15 pictures a second. Processor time of the server and its mixer together.
"""

from __future__ import annotations

import contextlib
import json
import time
from functools import partial
from typing import Final

from figures import Row, in_turn, participants
from measure import LightPupils
from meetings import serve
from processes import children_of, measured

PEOPLE: Final = (5, 10, 20, 40, 80)
WATCHED: Final = 3
SECONDS: Final = 4.0


def hold(people: int) -> dict[str, float]:
	"""The share of a core that a meeting of so many costs, and the slowest stream as a share of its rate."""
	names = [f"L{number:02}" for number in range(people)]
	wanted = {name: {other: (0, 15) for other in names[: WATCHED + 1] if other != name} for name in names}
	with participants() as (meeting, _), contextlib.ExitStack() as stack:
		server, base = serve(meeting)
		crowds = [
			stack.enter_context(contextlib.closing(LightPupils(base, part)))
			for part in (names[::2], names[1::2])
		]
		for crowd in crowds:
			crowd.say("watch " + json.dumps(wanted))
		time.sleep(2.0)
		for crowd in crowds:
			crowd.say(f"measure {SECONDS}")
		pid = server.process.pid
		with measured([pid, *children_of(pid)]) as cost:
			told = [crowd.answer() for crowd in crowds]
	return {
		"core": cost["cpu"] / cost["seconds"],
		"worst_rate": min(rate for crowd in told for rate in crowd["rates"]),
	}


def rows(rounds: int) -> list[Row]:
	"""A row for each size; the reference is the one half as large."""
	medians = in_turn({str(people): partial(hold, people) for people in PEOPLE}, rounds)
	cores = {people: medians[str(people)]["core"] for people in PEOPLE}
	return [
		Row(
			"growth",
			f"{people} participants, each watching {WATCHED}",
			f"{100 * core:.1f} % of a core, slowest stream {100 * medians[str(people)]['worst_rate']:.0f} %",
			f"{100 * cores[people // 2]:.1f} % with half as many" if people // 2 in cores else "",
			core / cores[people // 2] if people // 2 in cores else None,
			"<= 2.2" if people == PEOPLE[-1] else "",
		)
		for people, core in cores.items()
	]
