"""A participant whose standby is not what it says, in the place of `python -m connectsphere`.

FALSE_STANDBY names a file to which it writes all it is told, and what it lies about: `host` (it is one, and
calls itself the host's server), `record` (the one of another host), `epoch` (it serves, has the host, and a
high epoch), `alive` (it sees the host for ever).
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import connectsphere as cs

SEEN, _, _LIES = os.environ["FALSE_STANDBY"].partition(" ")
LIES = _LIES.split()
FOREIGN = "66" * 32  # the host key of somebody else
OWN: list[str] = []  # the fingerprint of this standby, each time that it was told something


def note(told: Any) -> None:
	"""Keep what was told."""
	with Path(SEEN).open("a", encoding="utf-8") as file:
		file.write(json.dumps(told) + "\n")


def listening() -> None:
	"""Keep each message of the network and each order of the own program."""
	check, obey = cs.check_message, cs.Succession.obey

	def heard(value: Any, shapes: Any) -> cs.Json:
		message = check(value, shapes)
		note({"heard": message, "by": "server" if "--serve-child" in sys.argv else "client"})
		return message

	def ordered(self: cs.Succession, order: cs.Json) -> None:
		note({"order": order})
		OWN.append(self._own["fingerprint"])
		obey(self, order)
		if order["do"] == "record" and "epoch" in LIES:
			self._server.tell_parent({"event": "serves"})  # nobody has asked it to

	cs.check_message = heard
	cs.Succession.obey = ordered  # type: ignore[method-assign]


def forged(told: cs.Json, own: str) -> cs.Json:
	"""A record signed with another host's key that names this computer first."""
	record = json.loads(told["record"])
	servers = sorted(record["servers"], key=lambda one: one["fingerprint"] != own)
	record |= {"servers": servers, "epoch": 99, "n": 1 << 40, "rights": {own: "Ana"}}
	return cs.HostRight(FOREIGN).sign(json.dumps(record))


def lying() -> None:
	"""Lie to who asks and who comes in."""
	send, alive, decide = cs.ControlSession.welcome, cs.Succession.alive, cs.Succession._decide

	def welcome(self: cs.ControlSession, message: cs.Json) -> None:
		if "host" in LIES:
			for user in [one for one in message["users"] if one["name"] == "Ana"]:
				user |= {"role": "host", "proof": {"epoch": 2, "nonce": "00" * 32, "signature": "00" * 64}}
		if "record" in LIES:
			message["record"] = forged(message["record"], OWN[-1])
		send(self, message)

	def answer(self: cs.Succession, meeting: str) -> cs.Json:
		lie = {"epoch": 99, "serving": True, "hosted": True} if "epoch" in LIES else {}
		return {**alive(self, meeting), **lie, **({"linked": True} if "alive" in LIES else {})}

	def refuse(self: cs.Succession, found: cs.Probed) -> None:
		decide(self, [(server, {**told, "linked": True}) for server, told in found])

	cs.ControlSession.welcome = welcome  # type: ignore[method-assign]
	cs.Succession.alive = answer  # type: ignore[method-assign]
	if "alive" in LIES:
		cs.Succession._decide = refuse  # type: ignore[method-assign]


if __name__ == "__main__":
	cs.__file__ = __file__  # its children are of the same kind
	listening()
	lying()
	sys.exit(cs.main())
