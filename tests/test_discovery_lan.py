"""DISCOVERY between machines: a LAN of namespaces without a default route."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest
from lan import ROOT, Lan, needs_lan

import connectsphere as cs

pytestmark = needs_lan

HOST = """
import json, socket, sys
import connectsphere as cs
for fields, bind in json.loads(sys.argv[1]):
    cs.DiscoveryResponder(lambda fields=fields: fields, bind, cs.Counters()).start()
listener = socket.create_server((bind or "", 9000))
print("up")
sys.stdin.read()
"""

FINDER = """
import json, sys, time
import connectsphere as cs
options, wanted, timeout = json.loads(sys.argv[1])
options["known"] = [tuple(place) for place in options.get("known", ())]
finder = cs.MeetingFinder(**options)
began = time.monotonic()
finder.start()
finder.wait(lambda ads: len(ads) + len(finder.other_versions()) >= wanted, timeout)
took = time.monotonic() - began
found = {ad.title: ad.address for ad in finder.meetings()}
print(json.dumps({"took": took, "found": found, "others": finder.other_versions()}))
finder.close()
"""


@pytest.fixture
def lan() -> Iterator[Lan]:
	with Lan(4, second=[2, 3]) as made:
		yield made


def host(lan: Lan, where: int, *titles: str, bind: str | None = None, **fields: Any) -> None:
	"""Meetings on host `where`, answering when this returns."""
	ads = [
		{
			"meeting": title,
			"title": title,
			"host": "Ana",
			"port": 9000,
			"people": 1,
			"pin": False,
			"locked": False,
			"fingerprint": title.encode().hex().ljust(64, "0"),
		}
		| fields
		for title in titles
	]
	program = lan.python(where, HOST, json.dumps([(ad, bind) for ad in ads]))
	assert program.stdout is not None and program.stdout.readline() == "up\n"


def no_broadcast(lan: Lan) -> None:
	for each in lan.hosts:
		lan.block_broadcast(each)


def look(lan: Lan, where: int, wanted: int = 1, timeout: float = 1.4, **options: Any) -> dict[str, Any]:
	"""What a finder on host `where` knows once it knows `wanted` meetings, or after `timeout`."""
	return heard(looking(lan, where, wanted, timeout, **options))


def looking(lan: Lan, where: int, wanted: int, timeout: float, **options: Any) -> subprocess.Popen[str]:
	return lan.python(where, FINDER, json.dumps([options, wanted, timeout]))


def heard(finder: subprocess.Popen[str]) -> dict[str, Any]:
	result: dict[str, Any] = json.loads(finder.communicate(timeout=60)[0])
	return result


def test_found_at_once_by_a_unicast_answer(lan: Lan) -> None:
	lan.block_broadcast(1)
	host(lan, 1, "Maths")
	seen = look(lan, 2)
	assert seen["found"] == {"Maths": "10.77.0.1"}
	assert seen["took"] < 0.15  # 5 ms on a quiet machine


def test_every_meeting_is_listed(lan: Lan) -> None:
	host(lan, 1, "One", "Two")
	host(lan, 3, "Three")
	host(lan, 4, "Four")
	seen = look(lan, 2, wanted=4)
	assert seen["found"].keys() == {"One", "Two", "Three", "Four"}
	assert seen["took"] < 0.4


def test_an_interface_that_is_down_is_not_listed(lan: Lan) -> None:
	lan.run(3, "ip", "address", "add", "10.79.0.3/24", "dev", "eth0", "label", "eth0:1")
	ask = "import connectsphere as cs; print(*[one.address for one in cs.interfaces()])"

	def listed() -> set[str]:
		return set(lan.run(3, sys.executable, "-c", ask, cwd=ROOT).stdout.split())

	assert listed() >= {"10.77.0.3", "10.78.0.3", "10.79.0.3"}
	lan.run(3, "ip", "link", "set", "eth1", "down")
	assert listed() & {"10.77.0.3", "10.78.0.3", "10.79.0.3"} == {"10.77.0.3", "10.79.0.3"}


def test_found_on_both_interfaces(lan: Lan) -> None:
	host(lan, 1, "First")
	host(lan, 3, "Second", bind=lan.address(3, 1))
	assert look(lan, 2, wanted=2)["found"] == {"First": "10.77.0.1", "Second": "10.78.0.3"}


def test_limited_broadcast_leaves_by_both_interfaces(lan: Lan) -> None:
	directed = "type filter hook output priority 0; ip daddr { 10.77.0.255, 10.78.0.255 } drop;"
	lan.rules(2, "limited", directed)
	for where in (1, 3):
		lan.block_broadcast(where)
	host(lan, 1, "First")
	host(lan, 3, "Second", bind=lan.address(3, 1))
	assert look(lan, 2, wanted=2)["found"] == {"First": "10.77.0.1", "Second": "10.78.0.3"}


def test_a_host_with_two_interfaces_is_one_meeting(lan: Lan) -> None:
	host(lan, 3, "Maths")
	seen = look(lan, 2, wanted=2, timeout=1.2)["found"]
	assert seen in ({"Maths": "10.77.0.3"}, {"Maths": "10.78.0.3"})
	lan.cut(3, 0)
	assert look(lan, 2)["found"] == {"Maths": "10.78.0.3"}


def test_another_version_is_told(lan: Lan) -> None:
	host(lan, 1, "Old", version=7)
	host(lan, 3, "New")
	seen = look(lan, 2, wanted=2)
	assert seen["others"] == [["10.77.0.1", 7]]
	assert seen["found"].keys() == {"New"}


def test_directed_broadcast_alone_is_enough(lan: Lan) -> None:
	lan.block_broadcast(1)
	lan.block_broadcast(2, limited_only=True)
	host(lan, 1, "Maths")
	assert look(lan, 2)["found"] == {"Maths": "10.77.0.1"}


def test_an_interface_that_refuses_does_not_stop_the_other(lan: Lan) -> None:
	lan.block_broadcast(3)
	lan.rules(2, "refuse", 'type filter hook output priority 0; oifname "eth0" drop;')
	host(lan, 3, "Maths")
	assert look(lan, 2)["found"] == {"Maths": "10.78.0.3"}


def test_the_scan_finds_what_no_broadcast_reaches(lan: Lan) -> None:
	no_broadcast(lan)
	host(lan, 4, "Maths")
	assert look(lan, 2, timeout=1.2)["found"] == {}
	seen = look(lan, 2, timeout=12.0)
	assert seen["found"] == {"Maths": "10.77.0.4"}
	assert seen["took"] > 1.4


def test_a_known_host_is_asked_directly(lan: Lan) -> None:
	no_broadcast(lan)
	host(lan, 4, "Maths")
	seen = look(lan, 2, known=[["10.77.0.4", 9000], ["198.51.100.1", 9000]])
	assert seen["found"] == {"Maths": "10.77.0.4"}
	assert seen["took"] < 0.4


def test_bound_to_an_address_nothing_else_is_used(lan: Lan) -> None:
	host(lan, 1, "First", bind="10.77.0.1")
	host(lan, 3, "Second", bind=lan.address(3, 1))
	sent = "type filter hook output priority 0; oifname {} counter drop;"
	lan.rules(2, "eye", sent.format('{ "eth1", "lo" }'))
	seen = look(lan, 2, wanted=2, timeout=2.5, bind="10.77.0.2")
	assert seen["found"] == {"First": "10.77.0.1"}
	assert "counter packets 0 " in lan.run(2, "nft", "list", "ruleset").stdout
	ports = lan.run(1, "cat", "/proc/net/udp").stdout.splitlines()[1:]
	assert {line.split()[1] for line in ports} == {"01004D0A:2328", "FF004D0A:2328", "FFFFFFFF:2328"}


def test_bound_to_loopback_no_other_interface_is_touched(lan: Lan) -> None:
	lan.rules(2, "eye", 'type filter hook output priority 0; oifname != "lo" counter drop;')
	host(lan, 2, "One", "Two", bind="127.0.0.1")
	lonely = look(lan, 2, timeout=2.5, bind="127.0.0.9", known=[["10.77.0.1", 9000]])
	assert lonely["found"] == {}
	seen = look(lan, 2, wanted=2, bind="127.0.0.1", known=[["10.77.0.1", 9000]])
	assert seen["found"] == {"One": "127.0.0.1", "Two": "127.0.0.1"}
	assert "counter packets 0 " in lan.run(2, "nft", "list", "ruleset").stdout


def test_found_on_the_same_machine_with_the_cable_pulled(lan: Lan) -> None:
	lan.cut(1)
	host(lan, 1, "Maths")
	# at whichever of its addresses the first answer came
	assert look(lan, 1)["found"]["Maths"] in ("127.0.0.1", "10.77.0.1")


def test_a_bound_host_is_found_from_its_own_machine(lan: Lan) -> None:
	host(lan, 1, "Maths", bind="10.77.0.1")
	host(lan, 1, "Local", bind="127.0.0.1")
	assert look(lan, 1, wanted=2)["found"] == {"Maths": "10.77.0.1", "Local": "127.0.0.1"}


def test_a_network_that_comes_later(lan: Lan) -> None:
	lan.run(2, "ip", "addr", "flush", "dev", "eth0")
	lan.block_broadcast(1)
	host(lan, 1, "Maths")
	finder = looking(lan, 2, 1, 10.0)
	with pytest.raises(subprocess.TimeoutExpired):
		finder.wait(0.6)
	lan.run(2, "ip", "addr", "add", "10.77.0.2/24", "broadcast", "+", "dev", "eth0")
	assert heard(finder)["found"] == {"Maths": "10.77.0.1"}


def test_two_lans_of_one_moment_do_not_meet(lan: Lan) -> None:
	with Lan(2) as other:
		host(other, 1, "Elsewhere")
		assert look(lan, 2, timeout=0.6)["found"] == {}
		assert look(other, 2)["found"] == {"Elsewhere": "10.77.0.1"}


FLOOD = """
import os, random, socket, struct, sys, time
import connectsphere as cs
target, pace = sys.argv[1], float(sys.argv[2])
wire = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
dice = random.Random(3)
print("up", flush=True)
sent, begun = 0, time.monotonic()
while True:
    question = cs.discovery_question(dice.randbytes(16))
    source = socket.inet_aton(f"10.77.0.{dice.randrange(5, 255)}")
    udp = struct.pack(">HHHH", 40_000, 9_000, 8 + len(question), 0) + question
    head = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(udp), 0, 0, 64, 17, 0)
    wire.sendto(head + source + socket.inet_aton(target) + udp, (target, 0))
    sent += 1
    if sent % 20 == 0:
        time.sleep(max(0.0, begun + sent / pace - time.monotonic()))
"""

CLASS = """
import json, time
import connectsphere as cs
finders = [cs.MeetingFinder() for _ in range(30)]
began = time.monotonic()
for finder in finders:
    finder.start()
took = []
for finder in finders:
    finder.wait(lambda ads: any(ad.title == "Maths" for ad in ads), 8.0)
    took.append(time.monotonic() - began)
found = sum(any(ad.title == "Maths" for ad in finder.meetings()) for finder in finders)
for finder in finders:
    finder.close()
print(json.dumps({"found": found, "took": max(took)}))
"""


def traffic(lan: Lan, where: int) -> tuple[int, int]:
	"""Bytes of UDP that host `where` received and sent by port 9000 so far."""
	rules = json.loads(lan.run(where, "nft", "-j", "list", "ruleset").stdout)["nftables"]
	counters = [
		part["counter"]["bytes"]
		for rule in rules
		if "rule" in rule
		for part in rule["rule"]["expr"]
		if "counter" in part
	]
	return counters[0], counters[1]


def test_a_flood_from_false_addresses_keeps_no_class_out_and_is_never_multiplied(lan: Lan) -> None:
	"""A bell sends thirty at once while someone asks two thousand times a second in others' names."""
	lan.rules(1, "in", "type filter hook input priority 0; udp dport 9000 counter;")
	lan.rules(1, "out", "type filter hook output priority 0; udp sport 9000 counter;")
	host(lan, 1, "Maths")
	flood = lan.python(3, FLOOD, lan.address(1), "2000")
	assert flood.stdout is not None and flood.stdout.readline() == "up\n"
	before, begun = traffic(lan, 1), time.monotonic()
	seen = heard(lan.python(2, CLASS))
	seconds = time.monotonic() - begun
	came, went = (now - then for now, then in zip(traffic(lan, 1), before, strict=True))
	print(f"{seen}; {came} bytes came, {went} went within {seconds:.1f} s")
	assert seen["found"] == 30
	assert seen["took"] < 4.0
	assert came > 300_000, "there was no flood"
	assert went <= came
	assert went <= (300 * seconds + 300) * (cs.QUESTION_SIZE + 28)
