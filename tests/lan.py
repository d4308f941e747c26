"""A LAN of several hosts on this machine: network namespaces on one bridge, without a default route."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence

_serial = itertools.count(1)


def obstacle() -> str:
    """Why this machine cannot have namespaces (no root, no iproute2, a bare chroot); empty if it can."""
    if sys.platform != "linux" or os.geteuid() != 0 or shutil.which("ip") is None:
        return "network namespaces need Linux, root and iproute2"
    name = f"cs{os.getpid()}-probe"
    added = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True, check=False)
    if added.returncode:
        return added.stderr.strip()
    entered = subprocess.run(
        ["ip", "netns", "exec", name, "true"], capture_output=True, text=True, check=False
    )
    subprocess.run(["ip", "netns", "del", name], check=True)
    return entered.stderr.strip()


class Lan:
    """Hosts 1..N at 10.77.0.N/24, each in the namespace `host(n)`; needs root and iproute2.

    Names carry the process id and a serial number, so that several of them live side by side.
    """

    def __init__(self, hosts: int) -> None:
        self._prefix = f"cs{os.getpid()}-{next(_serial)}"
        self._hub = f"{self._prefix}-hub"
        self._hosts = range(1, hosts + 1)
        self._add_namespace(self._hub)
        self._ip(
            ["-n", self._hub, "link", "add", "br0", "type", "bridge"],
            ["-n", self._hub, "link", "set", "br0", "up"],
        )
        for n in self._hosts:
            self._add_host(n)

    def _add_namespace(self, name: str) -> None:
        self._ip(["netns", "add", name], ["-n", name, "link", "set", "lo", "up"])

    def _add_host(self, n: int) -> None:
        host, hub = self.host(n), self._hub
        self._add_namespace(host)
        self._ip(
            ["-n", hub, "link", "add", f"p{n}", "type", "veth", "peer", "name", "eth0", "netns", host],
            ["-n", hub, "link", "set", f"p{n}", "master", "br0", "up"],
            ["-n", host, "addr", "add", f"{self.address(n)}/24", "broadcast", "+", "dev", "eth0"],
            ["-n", host, "link", "set", "eth0", "up"],
        )

    def host(self, n: int) -> str:
        """The namespace of host `n`, for `Headless(netns=...)` and `ip netns exec`."""
        return f"{self._prefix}-h{n}"

    def address(self, n: int) -> str:
        """The IPv4 address of host `n`."""
        return f"10.77.0.{n}"

    def lose(self, n: int, percent: float) -> None:
        """Drop this share of the UDP datagrams that host `n` receives; 0 ends it."""
        drop = f"meta l4proto udp numgen random mod 1000 <= {round(percent * 10) - 1} drop"
        self.filter(n, *([drop] if percent else []))

    def filter(self, n: int, *rules: str) -> None:
        """Replace host `n`'s rules for what it receives (nftables, chain input)."""
        chain = ["type filter hook input priority 0; policy accept;", *rules]
        table = "\n".join(["table ip test {", "chain input {", *chain, "}", "}"])
        self.run(n, "nft", "-f", "-", text=f"table ip test\ndelete table ip test\n{table}\n")

    def limit(self, n: int, rate: str) -> None:
        """Limit what host `n` sends, as in `20mbit`."""
        tbf = f"qdisc replace dev eth0 root tbf rate {rate} burst 64k latency 50ms"
        self.run(n, "tc", *tbf.split())

    def plug(self, n: int, connected: bool) -> None:
        """Pull or plug host `n`'s cable."""
        self._ip(["-n", self._hub, "link", "set", f"p{n}", "up" if connected else "down"])

    def run(self, n: int, *command: str, text: str = "") -> str:
        """Run a command on host `n` to its end; its output."""
        words = ["ip", "netns", "exec", self.host(n), *command]
        return subprocess.run(words, input=text, stdout=subprocess.PIPE, text=True, check=True).stdout

    def close(self) -> None:
        """Remove every namespace; links go with them."""
        for name in [*map(self.host, self._hosts), self._hub]:
            subprocess.run(["ip", "netns", "del", name], check=False)

    @staticmethod
    def _ip(*commands: Sequence[str]) -> None:
        for command in commands:
            subprocess.run(["ip", *command], check=True)
