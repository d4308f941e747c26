"""A LAN of several hosts on one Linux machine, for tests: namespaces on a switch, no default route.

    with Lan(3) as lan:
        lan.run(1, "ip", "addr")
        server = lan.python(2, "import connectsphere; ...")

Host n is 10.77.0.n/24 on `eth0`; hosts named in `second` are 10.78.0.n/24 on `eth1` of a second switch, too.
Every name is unique to the object, so several LANs can exist at once. Needs root, iproute2 and nftables.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
from collections.abc import Collection
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest
from starter import popen

ROOT = Path(__file__).resolve().parent.parent


def why_not() -> str:
	"""Why this machine cannot hold a `Lan`; empty if it can."""
	if not sys.platform.startswith("linux"):
		return "network namespaces exist on Linux only"
	if os.geteuid() != 0:
		return "network namespaces need root"
	missing = [tool for tool in ("ip", "tc", "nft") if shutil.which(tool) is None]
	if missing:
		return f"not installed: {', '.join(missing)} (packages iproute2 and nftables)"
	probe = f"probe{secrets.token_hex(4)}"
	made = subprocess.run(["ip", "netns", "add", probe], capture_output=True, text=True)
	if made.returncode:
		return f"namespaces are not allowed here: {made.stderr.strip()}"
	# in a plain chroot one can be made, but nothing runs in it
	used = subprocess.run(["ip", "netns", "exec", probe, "true"], capture_output=True, text=True)
	subprocess.run(["ip", "netns", "del", probe], check=True, capture_output=True)
	return f"namespaces cannot be used here: {used.stderr.strip()}" if used.returncode else ""


_WHY_NOT = why_not()
needs_lan = pytest.mark.skipif(bool(_WHY_NOT), reason=_WHY_NOT or "a LAN can be made")


class Lan:
	"""`hosts` namespaces on one switch; those in `second` have another interface on another switch."""

	def __init__(self, hosts: int, second: Collection[int] = ()) -> None:
		self.hosts = range(1, hosts + 1)
		self._tag = f"cs{os.getpid():x}{secrets.token_hex(3)}"
		self._second = frozenset(second)
		self._made: list[str] = []
		self._started: list[subprocess.Popen[Any]] = []

	def __enter__(self) -> Lan:
		try:
			self._build()
		except BaseException:
			self.close()
			raise
		return self

	def __exit__(
		self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
	) -> None:
		self.close()

	def address(self, host: int, interface: int = 0) -> str:
		"""The IPv4 address of `host` on `eth0` or, with `interface` 1, on `eth1`."""
		return f"10.{77 + interface}.0.{host}"

	def namespace(self, host: int) -> str:
		"""The network namespace that is `host`."""
		return f"{self._tag}-h{host}"

	def run(self, host: int, *command: str, **options: Any) -> subprocess.CompletedProcess[str]:
		"""Run `command` on `host` to its end; its output is captured, a failure raises."""
		options = {"check": True, "capture_output": True, "text": True, "timeout": 60} | options
		return subprocess.run(self._on(host, command), **options)

	def popen(self, host: int, *command: str, **options: Any) -> subprocess.Popen[Any]:
		"""Start `command` on `host`; what still runs when the LAN is closed is killed."""
		process: subprocess.Popen[Any] = popen(self._on(host, command), **options)
		self._started.append(process)
		return process

	def python(self, host: int, code: str, *arguments: str, **options: Any) -> subprocess.Popen[str]:
		"""Start a Python program on `host` that can import the project; text pipes both ways."""
		options = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True} | options
		options["env"] = os.environ | options.get("env", {})
		return self.popen(host, sys.executable, "-c", code, *arguments, cwd=ROOT, **options)

	def loss(self, host: int, percent: float) -> None:
		"""Drop `percent` of the UDP datagrams that reach `host`, at random; 0 ends it."""
		self.run(host, "nft", "add table ip loss; delete table ip loss")
		if percent > 0:
			share = "" if percent >= 100 else f"numgen random mod 10000 < {round(percent * 100)}"
			self.rules(host, "loss", f"type filter hook input priority 0; meta l4proto udp {share} drop;")

	def block_broadcast(self, host: int, limited_only: bool = False) -> None:
		"""Drop what `host` broadcasts; with `limited_only` just 255.255.255.255, as some switches do."""
		what = "ip daddr 255.255.255.255" if limited_only else "fib daddr type broadcast"
		self.rules(host, "quiet", f"type filter hook output priority 0; {what} drop;")

	def isolate(self, host: int, interface: int = 0) -> None:
		"""Keep `host` apart from the other isolated ones, as a guest Wi-Fi does."""
		self._ip(f"link set h{host}e{interface} type bridge_slave isolated on", inside=self._hub)

	def rules(self, host: int, name: str, chain: str) -> None:
		"""Add an nftables table `name` with one `chain` on `host`."""
		self.run(host, "nft", f"table ip {name} {{ chain only {{ {chain} }}; }}")

	def cap(self, host: int, rate: str, interface: int = 0) -> None:
		"""Limit what `host` sends to `rate`, for example "20mbit"."""
		shape = f"tc qdisc replace dev eth{interface} root tbf rate {rate} burst 64k latency 50ms"
		self.run(host, *shape.split())

	def passed(self, host: int, interface: int = 0) -> tuple[int, int]:
		"""Datagrams that the cap of `host` has let through, and dropped."""
		said = self.run(host, "tc", "-s", "qdisc", "show", "dev", f"eth{interface}").stdout
		found = re.search(r"(\d+) pkt \(dropped (\d+)", said)
		assert found, said
		return int(found[1]), int(found[2])

	def cap_down(self, host: int, rate: str, interface: int = 0) -> None:
		"""Limit what reaches `host` to `rate`; an empty one ends it."""
		port = f"dev h{host}e{interface} root"
		shape = f"replace {port} tbf rate {rate} burst 64k latency 50ms" if rate else f"del {port}"
		done = subprocess.run(f"tc -n {self._hub} qdisc {shape}".split(), capture_output=True, text=True)
		if done.returncode:
			raise RuntimeError(f"tc: {done.stderr.strip()}")

	def cut(self, host: int, interface: int = 0) -> None:
		"""Pull the cable of `host` out of the switch."""
		self._ip(f"link set h{host}e{interface} down", inside=self._hub)

	def mend(self, host: int, interface: int = 0) -> None:
		"""Plug the cable of `host` in again."""
		self._ip(f"link set h{host}e{interface} up", inside=self._hub)

	def close(self) -> None:
		"""Kill what still runs on the hosts and remove them; may be called twice."""
		for name in self._made:
			running = subprocess.run(["ip", "netns", "pids", name], capture_output=True, text=True)
			for pid in running.stdout.split():
				with contextlib.suppress(ProcessLookupError):
					os.kill(int(pid), signal.SIGKILL)
		for process in self._started:
			process.kill()
			process.wait(10)
			for pipe in (process.stdin, process.stdout, process.stderr):
				if pipe is not None:
					with contextlib.suppress(OSError):
						pipe.close()
		removed = "".join(f"netns del {name}\n" for name in self._made)
		subprocess.run(["ip", "-force", "-batch", "-"], input=removed, text=True, capture_output=True)
		self._made.clear()
		self._started.clear()

	@property
	def _hub(self) -> str:
		return f"{self._tag}-hub"

	def _build(self) -> None:
		names = [self._hub, *map(self.namespace, self.hosts)]
		self._made += names  # one that was not made is no trouble to remove
		self._ip(*(f"netns add {name}" for name in names))
		plugs = [(host, n) for host in self.hosts for n in range(1 + (host in self._second))]
		switches = [f"link add br{n} up type bridge" for n in (0, 1)]
		cables = [
			f"link add h{host}e{n} up master br{n} type veth peer name eth{n} netns {self.namespace(host)}"
			for host, n in plugs
		]
		self._ip("link set lo up", *switches, *cables, inside=self._hub)
		for host in self.hosts:
			lines = [line for plug in plugs if plug[0] == host for line in self._interface(*plug)]
			self._ip("link set lo up", *lines, inside=self.namespace(host))

	def _interface(self, host: int, number: int) -> tuple[str, str]:
		"""Up after the switch's end of the cable: else the kernel may take a second to see that it is in."""
		device = f"dev eth{number}"
		return f"addr add {self.address(host, number)}/24 broadcast + {device}", f"link set {device} up"

	def _on(self, host: int, command: tuple[str, ...]) -> list[str]:
		return ["ip", "netns", "exec", self.namespace(host), *command]

	@staticmethod
	def _ip(*lines: str, inside: str = "") -> None:
		"""Commands of `ip` by one process."""
		command = ["ip", *(("-n", inside) if inside else ()), "-batch", "-"]
		done = subprocess.run(command, input="\n".join(lines), capture_output=True, text=True)
		if done.returncode:
			raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()} in {lines}")
