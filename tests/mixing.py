"""The mixer's real process, told what to do as the server tells it."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
from collections.abc import Iterator, Mapping

from meetings import LOOPBACK

import connectsphere as cs


@contextlib.contextmanager
def mixer(keys: Mapping[int, tuple[str, str]]) -> Iterator[tuple[cs.Address, subprocess.Popen[str]]]:
	"""A mixer for clients with these keys (up, down), none of them muted: its address and its process."""
	with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
		sock.bind((LOOPBACK, 0))
		process = cs.start_child(["--mixer"], sock)
		assert process.stdin
		try:
			orders = [cs.share_socket(sock, process.pid)]
			for ident, (up, down) in keys.items():
				orders.append({"do": "add", "id": ident, "up": up, "down": down})
				orders.append({"do": "mute", "id": ident, "on": False})
			process.stdin.write("".join(json.dumps(order) + "\n" for order in orders))
			process.stdin.flush()
			yield sock.getsockname(), process
		finally:
			cs.end_child(process)
