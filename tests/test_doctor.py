"""The doctor: facts to a verdict in milliseconds, and the right cause on real networks."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import socket
import struct
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from headless import Headless, free_base
from lan import Lan, needs_lan
from waiting import wait_until

import connectsphere as cs

HERE = cs.Place("eth0", "10.77.0.2", "wired")
THERE = cs.Sighting("Maths", "Ana", "10.77.0.1", 9000, True)
GOOD = cs.Facts(
	places=(HERE,),
	used=HERE.address,
	heard=frozenset({HERE.address, "10.78.0.2"}),
	meetings=(THERE,),
	neighbours=frozenset({"10.77.0.1"}),
	gateways=frozenset({"10.77.0.1", "10.77.0.254"}),
	camera="",
	mic="",
	speaker="",
	disk_free=10**11,
)
ALONE = dataclasses.replace(GOOD, meetings=(), neighbours=frozenset({"10.77.0.1", "10.77.0.7"}))


def test_all_is_well() -> None:
	found = cs.diagnose(GOOD)
	assert found.causes == ()
	assert {finding.state for finding in found.findings} == {"ok"}
	assert "Everything works" in found.verdict
	assert "no meeting was found" in cs.diagnose(ALONE).verdict


def test_devices_are_tried_unless_they_are_in_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
	def examine(options: cs.ClientOptions, *, devices: bool) -> cs.Facts:
		nothing = dict.fromkeys(("camera", "mic", "speaker"))
		return dataclasses.replace(GOOD, **{**nothing, **(cs.device_troubles(options) if devices else {})})

	def tried() -> set[str]:
		return {finding.topic for finding in program.doctor().findings} & {"camera", "microphone"}

	monkeypatch.setattr(cs, "examine", examine)  # without the seconds that it looks at the network
	options = cs.ClientOptions("Ana", bind="127.0.0.1", camera="pattern", mic="tone", speaker="none")
	options.given |= {"camera", "mic", "speaker"}
	with contextlib.closing(cs.Program(options, {}, tmp_path, look=False)) as program:
		assert tried() == {"camera", "microphone"}
		program.preview.run(camera=True, mic=False)
		assert tried() == {"microphone"}
		options.camera = "/no/such/video.avi"
		program.preview.run(camera=False, mic=False)
		program.preview.run(camera=True, mic=False)
		wait_until(lambda: not program.preview.using(), what="that it cannot be had")
		assert tried() == {"camera", "microphone"}, "a preview that failed uses nothing"
		controller = program._controller = cs.MeetingController(options, tmp_path)
		assert tried() == set()
		controller.status = 0
		assert tried() == {"camera", "microphone"}, "the meeting is over"


CAUSES: list[tuple[str, cs.Facts, dict[str, Any], str]] = [
	("no_network", ALONE, {"places": (), "used": ""}, "no network"),
	("no_address", ALONE, {"places": (cs.Place("eth0", "169.254.7.8", "unaddressed"),)}, "169.254.7.8"),
	(
		"several_networks",
		ALONE,
		{"places": (HERE, cs.Place("wlan0", "10.78.0.2", "wireless"))},
		"10.78.0.2",
	),
	("broadcast_blocked", ALONE, {"heard": frozenset()}, "Broadcasts are blocked"),
	("broadcast_blocked", GOOD, {"by_search": True}, "does not hear broadcasts"),
	(
		"host_blocked",
		GOOD,
		{"meetings": (THERE._replace(answers=False),)},
		"firewall of the host 10.77.0.1",
	),
	("kept_apart", ALONE, {"neighbours": frozenset({"10.77.0.1"})}, "keeps devices apart"),
	("kept_apart", ALONE, {"neighbours": frozenset()}, "keeps devices apart"),
	("other_version", ALONE, {"other_versions": (("10.77.0.9", 7),)}, "protocol 7"),
	("port_taken", ALONE, {"taken": ("TCP 9000", "UDP 11000")}, "TCP 9000, UDP 11000"),
	("self_blocked", ALONE, {"reachable": False}, "firewall of this computer"),
	("self_blocked", ALONE, {"firewall": "blocked"}, "keeps others out"),
	("self_blocked", GOOD, {"hosting": True, "firewall": "partly"}, "keeps others out"),
	("self_blocked", GOOD, {"standby": True, "firewall": "blocked"}, "keeps others out"),
	("vpn", ALONE, {"places": (HERE, cs.Place("tun0", "10.8.0.2", "vpn"))}, "tun0"),
	("no_camera", GOOD, {"camera": "Camera 0 is not there."}, "No camera"),
	("no_sound", GOOD, {"mic": "This computer has no microphone."}, "No microphone"),
	("no_sound", GOOD, {"speaker": "This computer has no speaker."}, "No speaker"),
	("disk_full", GOOD, {"disk_free": 10**7}, "0.0 GB"),
]


@pytest.mark.parametrize(("cause", "base", "change", "words"), CAUSES)
def test_one_cause(cause: str, base: cs.Facts, change: dict[str, Any], words: str) -> None:
	found = cs.diagnose(dataclasses.replace(base, **change))
	assert found.causes == (cause,)
	assert words in found.verdict
	assert found.next_step.endswith(".")


def said(facts: cs.Facts) -> Iterator[str]:
	"""All that the doctor says about the facts."""
	found = cs.diagnose(facts)
	yield from (found.verdict, found.next_step)
	for finding in found.findings:
		yield from filter(None, (finding.words, finding.next_step))


def test_all_that_it_says_is_translated(monkeypatch: pytest.MonkeyPatch) -> None:
	more: dict[str, Any] = {
		"places": (HERE, cs.Place("docker0", "172.17.0.1", "virtual"), cs.Place("w", "10.9.0.1", "wireless")),
		"asked_by": frozenset({"10.77.0.3"}),
		"tried": frozenset({"10.77.0.4"}),
		"hosting": True,
		"standby": True,
	}
	all_facts = [GOOD, ALONE, dataclasses.replace(GOOD, **more)]
	all_facts += [dataclasses.replace(base, **change) for _, base, change, _ in CAUSES]
	monkeypatch.setattr(cs.tr, "language", "hi")
	assert {words for facts in all_facts for words in said(facts) if cs.tr(words) == words} == set()


@pytest.mark.parametrize(
	("reachable", "firewall", "state"),
	[(True, "", "ok"), (True, "open", "ok"), (True, "partly", "warn"), (False, "", "warn")],
)
def test_who_stands_by_reads_whether_others_reach_it(reachable: bool, firewall: str, state: str) -> None:
	found = cs.diagnose(dataclasses.replace(GOOD, standby=True, reachable=reachable, firewall=firewall))
	rows = [(one.state, one.words) for one in found.findings if one.topic == "standby"]
	assert rows == [(state, "If the host's computer fails, the lesson goes on here.")]
	assert found.causes == (() if state == "ok" else ("self_blocked",))
	assert not [one for one in cs.diagnose(GOOD).findings if one.topic == "standby"]


def test_in_a_meeting_the_host_knows_whether_the_standby_is_reached(
	tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
	"""A firewall that lets the own computer through keeps hers out: she has tried."""
	monkeypatch.setattr(cs, "examine", lambda *_, **__: GOOD)
	options = cs.ClientOptions("Ana", bind="127.0.0.1", camera="none", mic="none", speaker="none")
	with contextlib.closing(cs.Program(options, {}, tmp_path, look=False)) as program:
		one = program._controller = cs.MeetingController(options, tmp_path)

		def state() -> list[str]:
			return [each.state for each in program.doctor().findings if each.topic == "standby"]

		one.state.update(name="Ana", heirs=("Ben",))
		assert state() == []
		one.successors.serving = {"fingerprint": "aa" * 32, "port": 9003}
		assert state() == ["warn"] and program.doctor().causes == ("self_blocked",)
		one.state.update(heirs=("Ben", "Ana"))
		assert state() == ["ok"]


def test_the_gravest_cause_is_the_verdict() -> None:
	facts = dataclasses.replace(ALONE, camera="none", taken=("TCP 9000",), heard=frozenset())
	assert cs.diagnose(facts).causes == ("port_taken", "broadcast_blocked", "no_camera")


def test_another_meeting_that_answers_is_enough() -> None:
	"""One host behind a firewall, or of another version, is told but is no verdict beside one that works."""
	facts = dataclasses.replace(
		GOOD, meetings=(THERE, THERE._replace(answers=False)), other_versions=(("10.77.0.9", 2),)
	)
	found = cs.diagnose(facts)
	assert found.causes == ()
	assert [finding.state for finding in found.findings if finding.topic == "meeting"] == ["bad", "ok", "bad"]


def test_the_own_meeting_holds_its_ports() -> None:
	found = cs.diagnose(dataclasses.replace(ALONE, hosting=True, taken=("TCP 9000",)))
	assert found.causes == ()


@pytest.mark.parametrize(
	("name", "address", "kind"),
	[
		("eth0", "192.168.1.2", "wired"),
		("enp3s0", "192.168.1.2", "wired"),
		("wlp2s0", "192.168.1.2", "wireless"),
		("Intel(R) Wi-Fi 6 AX201", "192.168.1.2", "wireless"),
		("Realtek PCIe GbE Family Controller", "192.168.1.2", "wired"),
		("tun0", "10.8.0.2", "vpn"),
		("WireGuard Tunnel", "10.8.0.2", "vpn"),
		("TAP-Windows Adapter V9", "10.8.0.2", "vpn"),
		("docker0", "172.17.0.1", "virtual"),
		("Hyper-V Virtual Ethernet Adapter", "172.20.0.1", "virtual"),
		("VirtualBox Host-Only Ethernet Adapter", "192.168.56.1", "virtual"),
		("eth0", "169.254.3.4", "unaddressed"),
		("lo", "127.0.0.1", "loopback"),
	],
)
def test_kinds_of_interfaces(name: str, address: str, kind: str) -> None:
	assert cs.Interface(name, address, 24).kind == kind


def test_physical_interfaces_come_first(monkeypatch: pytest.MonkeyPatch) -> None:
	names = {
		"lo": "127.0.0.1",
		"tun0": "10.8.0.2",
		"docker0": "172.17.0.1",
		"wlan0": "10.0.0.5",
		"eth0": "10.1.0.5",
	}
	found = [cs.Interface(name, address, 24) for name, address in names.items()]
	monkeypatch.setattr(cs, "interfaces", lambda: found)
	assert [each.name for each in cs.plausible_interfaces()] == ["eth0", "wlan0", "docker0", "tun0"]


def test_neighbours_of_linux() -> None:
	table = (
		"IP address       HW type     Flags       HW address            Mask     Device\n"
		"10.77.0.1        0x1         0x2         aa:bb:cc:dd:ee:ff     *        eth0\n"
		"10.77.0.9        0x1         0x0         00:00:00:00:00:00     *        eth0\n"
	)
	assert cs.parse_arp(table) == {"10.77.0.1"}


def test_neighbours_of_windows() -> None:
	def row(address: str, length: int, kind: int) -> bytes:
		return struct.pack("<II8s4sI", 7, length, b"\1" * length, socket.inet_aton(address), kind)

	rows = [row("10.77.0.1", 6, 3), row("10.77.0.9", 6, 2), row("10.77.0.8", 0, 3), row("224.0.0.22", 6, 4)]
	table = struct.pack("<I", len(rows)) + b"".join(rows)
	assert cs.parse_neighbour_table(table + bytes(100)) == {"10.77.0.1"}
	assert cs.parse_neighbour_table(struct.pack("<I", 99) + rows[0]) == {"10.77.0.1"}


# ---------------------------------------------------------------------------------- on real networks

EXAMINE = """
import sys
import connectsphere as cs
sys.argv[1:] = ["--doctor", "--json", *sys.argv[1:]]
raise SystemExit(cs.main())
"""
HOST = """
import socket, sys
import connectsphere as cs
version = int(sys.argv[1])
ad = {"meeting": "ab" * 16, "title": "Maths", "host": "Ana", "port": 9000, "people": 1, "pin": False,
      "locked": False, "fingerprint": "a" * 64, "version": version}
cs.DiscoveryResponder(lambda: ad, None, cs.Counters()).start()
listener = socket.create_server(("", 9000))
print("up", flush=True)
sys.stdin.read()
"""
DEVICES = ("--camera", "pattern", "--mic", "tone", "--speaker", "none")
Examine = Callable[..., dict[str, Any]]


@pytest.fixture
def lan() -> Iterator[Lan]:
	with Lan(3, second=[3]) as made:
		yield made


@pytest.fixture
def examine(lan: Lan, tmp_path: Path) -> Examine:
	"""Runs the doctor on a host; its answer."""

	def examine(host: int, *options: str) -> dict[str, Any]:
		home = {"CONNECTSPHERE_HOME": str(tmp_path / "home"), "PULSE_SERVER": f"unix:{tmp_path}/silent"}
		process = lan.python(host, EXAMINE, *(options or DEVICES), env=home)
		said, _ = process.communicate(timeout=40)
		assert process.returncode == 0
		answer: dict[str, Any] = json.loads(said)
		return answer

	return examine


def start_host(lan: Lan, host: int, version: int = cs.PROTOCOL) -> None:
	"""A meeting that answers, and whose port accepts."""
	process = lan.python(host, HOST, str(version))
	assert process.stdout is not None
	assert process.stdout.readline() == "up\n"


@needs_lan
class TestOnRealNetworks:
	def test_all_is_well(self, lan: Lan, examine: Examine) -> None:
		start_host(lan, 1)
		answer = examine(2)
		assert answer["causes"] == []
		assert {finding["state"] for finding in answer["findings"]} == {"ok"}

	def test_no_network(self, lan: Lan, examine: Examine) -> None:
		lan.run(2, "ip", "link", "set", "eth0", "down")
		assert examine(2)["causes"] == ["no_network"]

	def test_two_interfaces(self, lan: Lan, examine: Examine) -> None:
		answer = examine(3)
		assert answer["causes"][0] == "several_networks"
		assert "10.77.0.3" in answer["verdict"]
		assert "10.78.0.3" in answer["verdict"]

	def test_broadcast_blocked_here(self, lan: Lan, examine: Examine) -> None:
		lan.block_broadcast(2)
		assert examine(2)["causes"][0] == "broadcast_blocked"

	def test_broadcast_blocked_on_the_way(self, lan: Lan, examine: Examine) -> None:
		"""The own broadcast is heard, yet the host hears none: it is found by trying addresses."""
		start_host(lan, 1)
		lan.block_broadcast(1)
		lan.rules(1, "deaf", "type filter hook prerouting priority -300; fib daddr type broadcast drop;")
		answer = examine(2)
		assert answer["causes"] == ["broadcast_blocked"]
		assert "10.77.0.1:9000 answers" in str(answer["findings"])

	def test_host_port_blocked(self, lan: Lan, examine: Examine) -> None:
		start_host(lan, 1)
		lan.rules(1, "wall", "type filter hook input priority 0; tcp dport 9000 drop;")
		answer = examine(2)
		assert answer["causes"] == ["host_blocked"]
		assert "10.77.0.1" in answer["next_step"]

	@pytest.mark.parametrize("router", [True, False])
	def test_clients_kept_apart(self, lan: Lan, examine: Examine, router: bool) -> None:
		start_host(lan, 3)
		for host in (2, 3) if router else (1, 2, 3):
			lan.isolate(host)
		answer = examine(2)
		assert answer["causes"] == ["kept_apart"]
		assert "keeps devices apart" in answer["verdict"]

	def test_other_version(self, lan: Lan, examine: Examine) -> None:
		start_host(lan, 1, cs.PROTOCOL + 1)
		answer = examine(2)
		assert answer["causes"] == ["other_version"]
		assert "10.77.0.1" in answer["verdict"]

	def test_port_taken(self, lan: Lan, examine: Examine) -> None:
		start_host(lan, 1)
		thief = lan.python(2, "import socket; s = socket.create_server(('', 9001)); print('up'); input()")
		assert thief.stdout is not None
		assert thief.stdout.readline() == "up\n"
		answer = examine(2)
		assert answer["causes"] == ["port_taken"]
		assert "TCP 9001" in answer["verdict"]

	def test_own_firewall(self, lan: Lan, examine: Examine) -> None:
		start_host(lan, 1)
		lan.rules(2, "wall", "type filter hook input priority 0; tcp dport 9000 drop;")
		assert examine(2)["causes"] == ["self_blocked"]

	def test_no_camera(self, lan: Lan, examine: Examine) -> None:
		start_host(lan, 1)
		missing = "17" if Path("/dev/video0").exists() else "0"
		answer = examine(2, "--camera", missing, "--mic", "tone", "--speaker", "none")
		assert answer["causes"] == ["no_camera"]

	def test_no_sound_card(self, lan: Lan, examine: Examine) -> None:
		start_host(lan, 1)
		sound = ("97", "98") if list(Path("/dev").glob("snd/pcm*")) else ("default", "default")
		answer = examine(2, "--camera", "none", "--mic", sound[0], "--speaker", sound[1])
		assert answer["causes"] == ["no_sound"]
		topics = {finding["topic"] for finding in answer["findings"] if finding["cause"]}
		assert topics == {"microphone", "speaker"}


# -- Windows' firewall, imitated by its documented registry

EXE = r"C:\Users\Ana\Desktop\connectsphere.exe"
POLICY = r"SYSTEM\CurrentControlSet\Services\SharedAccess\Parameters\FirewallPolicy"
SCHOOL = r"SOFTWARE\Policies\Microsoft\WindowsFirewall"


def rule(action: str = "Allow", protocol: int | None = 6, *kinds: str, app: str = EXE, **others: str) -> str:
	"""A rule as the registry keeps it; no `kinds` are all."""
	facts = {"Action": action, "Active": "TRUE", "Dir": "In", **others}
	parts = [f"{key}={value}" for key, value in facts.items()]
	parts += [f"Protocol={protocol}"] if protocol else []
	parts += [f"Profile={kind}" for kind in kinds]
	return "|".join(["v2.31", *parts, f"App={app}", "Name=connectsphere.exe", "Defer=User", ""])


BOTH = [rule("Allow", protocol, "Private", "Public") for protocol in (6, 17)]


@pytest.mark.parametrize(
	("rules", "state"),
	[
		([], "unset"),
		(BOTH, "open"),
		([rule("Allow", None)], "open"),
		([rule("Allow", 256, "Private", "Public", "Domain", app=EXE.lower())], "open"),
		(BOTH[:1], "partly"),
		([rule("Bypass", None)], "unset"),
		([rule("Allow", 6, "Private"), rule("Allow", 17, "Private")], "partly"),
		([*BOTH, rule("Block", 6, "Public")], "blocked"),
		([*BOTH, rule("Block", 6, "Public", Active="FALSE")], "open"),
		([*BOTH, rule("Block", 6, "Public", Dir="Out")], "open"),
		([rule("Allow", 6, app=EXE + "2"), "rubbish", "v2.31|Action|App", ""], "unset"),
	],
)
def test_what_the_firewall_of_windows_does(rules: list[str], state: str) -> None:
	assert cs.firewall_state(rules, EXE, ["Private", "Public"]) == state
	assert cs.firewall_state([one for one in rules if "Block" not in one], EXE, []) == "open", "it is off"


@pytest.fixture
def windows(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
	"""A registry with these rules, and the firewall on or off; `school` is what the group policy says."""

	def install(*rules: str, on: int = 1, **school: dict[str, object]) -> None:
		keys: dict[str, dict[str, object]] = {
			f"{POLICY}\\{kind}Profile": {"EnableFirewall": on} for kind in ("Standard", "Public")
		}
		keys[f"{POLICY}\\FirewallRules"] = dict(zip("abcdef", rules, strict=False))
		keys.update({f"{SCHOOL}\\{key}": facts for key, facts in school.items()})

		def open_key(root: str, path: str) -> contextlib.nullcontext[list[tuple[str, object, int]]]:
			if path not in keys:
				raise FileNotFoundError(2, path)
			return contextlib.nullcontext([(name, value, 4) for name, value in keys[path].items()])

		registry = SimpleNamespace(
			HKEY_LOCAL_MACHINE="HKLM", OpenKey=open_key, QueryInfoKey=lambda key: (0, len(key), 0),
			EnumValue=lambda key, at: key[at],
		)  # fmt: skip
		monkeypatch.setitem(sys.modules, "winreg", registry)
		monkeypatch.setattr(sys, "platform", "win32")
		monkeypatch.setattr(sys, "executable", EXE)

	return install


def test_hosting_is_told_what_the_firewall_does(windows: Callable[..., None]) -> None:
	windows(*BOTH)
	assert cs.windows_firewall() == "open" and cs.system_asks("host") == ""
	windows(*BOTH, rule("Block"))
	assert cs.windows_firewall() == "blocked" and "others out" in cs.system_asks("host")
	windows()
	assert cs.windows_firewall() == "unset" and "Windows asks" in cs.system_asks("host")
	windows(rule("Block"), on=0)
	assert cs.windows_firewall() == "open"


ALLOWED = dict(zip("gh", BOTH, strict=False))


@pytest.mark.parametrize(
	("rules", "school", "state"),
	[
		([], {"FirewallRules": ALLOWED}, "open"),
		(BOTH, {"FirewallRules": {"g": rule("Block")}}, "blocked"),
		([], {"PublicProfile": {"DisableNotifications": 1}}, "blocked"),  # nobody is asked
		([], {"PublicProfile": {"DisableNotifications": 1}, "FirewallRules": ALLOWED}, "open"),
		(BOTH, {"StandardProfile": {"AllowLocalPolicyMerge": 0}}, "blocked"),  # own rules do not count
		(BOTH, {"StandardProfile": {"AllowLocalPolicyMerge": 0}, "FirewallRules": ALLOWED}, "open"),
		([], {"StandardProfile": {"EnableFirewall": 0}, "PublicProfile": {"EnableFirewall": 0}}, "open"),
		(BOTH, {"PublicProfile": {"EnableFirewall": 1}}, "open"),
	],
)
def test_the_policy_of_the_school_goes_before_the_own_rules(
	rules: list[str], school: dict[str, Any], state: str, windows: Callable[..., None]
) -> None:
	"""Of a domain's computers, by the documented values of the second key."""
	windows(*rules, **school)
	assert cs.windows_firewall() == state


@pytest.fixture
def listened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
	"""Where the doctor listens on a network on which nothing else is."""
	listened: list[str] = []

	def note(address: tuple[str, int], *_: object, **__: object) -> contextlib.closing[Any]:
		listened.append(address[0])
		raise cs.Refused("port", plane="TCP", port=address[1], fault="")

	monkeypatch.setattr(cs, "plausible_interfaces", lambda _: [])
	monkeypatch.setattr(cs, "interfaces", list)
	finder = SimpleNamespace(
		start=int,
		wait_settled=lambda _: None,
		wait=lambda *_: None,
		meetings=list,
		other_versions=list,
		close=int,
	)
	monkeypatch.setattr(cs, "MeetingFinder", lambda *_: finder)
	monkeypatch.setattr(cs.BroadcastEar, "start", lambda self: None)
	monkeypatch.setattr(cs.BroadcastEar, "listen", lambda self, where, *_, **__: listened.append(where))
	monkeypatch.setattr(cs, "neighbours", lambda _: None)
	monkeypatch.setattr(cs, "listen_tcp", note)
	monkeypatch.setattr(cs, "udp_port", note)
	return listened


@pytest.mark.parametrize("rules", [[], [rule("Block")], BOTH])
def test_a_check_raises_no_question_on_a_pupils_computer(
	rules: list[str], windows: Callable[..., None], listened: list[str]
) -> None:
	"""Nothing listens but at the loopback address, where Windows never asks, unless all may come in."""
	windows(*rules)
	facts = cs.examine(cs.ClientOptions(), devices=False)
	assert (set(listened) == {"127.0.0.1"}) == (rules is not BOTH)
	assert facts.heard is None


@pytest.mark.usefixtures("listened")
@pytest.mark.parametrize(
	("standby", "kept", "stands"),
	[
		("auto", {}, False),
		("auto", {"stand_by aa": True}, True),
		("auto", {"stand_by aa": False, "language": "hi"}, False),
		("yes", {}, True),
		("no", {"stand_by aa": True}, False),
	],
)
def test_the_doctor_knows_whether_this_computer_stands_by(
	standby: str, kept: dict[str, Any], stands: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
	"""By what its user has agreed to, or what the command line says."""
	monkeypatch.setenv("CONNECTSPHERE_HOME", str(tmp_path))
	(tmp_path / "settings.json").write_text(json.dumps(kept))
	assert cs.examine(cs.ClientOptions(standby=standby), devices=False).standby is stands


def test_taken_ports() -> None:
	base = free_base()
	assert cs.taken_ports(base, "127.0.0.1") == ()
	with socket.create_server(("127.0.0.1", base + 2)), socket.socket(type=socket.SOCK_DGRAM) as udp:
		udp.bind(("127.0.0.1", base + 1_000))
		assert cs.taken_ports(base, "127.0.0.1") == (f"TCP {base + 2}", f"UDP {base + 1_000}")


@pytest.mark.skipif(sys.platform != "linux", reason="broadcast sockets on Linux only")
def test_the_ear_does_not_take_a_hosts_questions() -> None:
	"""A host on the same machine still hears a question that is sent to its address alone."""
	home = "127.91.3.4"
	interface = cs.Interface("lo", home, 8)
	ear = cs.BroadcastEar([interface], shy=False)
	ear.start()
	with socket.socket(type=socket.SOCK_DGRAM) as host, socket.socket(type=socket.SOCK_DGRAM) as asking:
		host.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
		host.bind((home, cs.DISCOVERY_PORT))
		host.settimeout(2)
		asking.sendto(cs.discovery_question(bytes(16)), (home, cs.DISCOVERY_PORT))
		assert len(host.recv(2_048)) == cs.QUESTION_SIZE
	ear.close()
	assert home not in ear.heard


@pytest.mark.skipif(sys.platform != "linux", reason="every 127.x.y.z is this machine on Linux only")
def test_the_host_knows_who_did_not_come_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
	"""Someone who connects and goes is named to the host; once in the meeting, no more."""
	monkeypatch.setenv("CONNECTSPHERE_HOME", str(tmp_path / "host"))
	home, guest, base = "127.0.0.1", "127.0.0.5", free_base()
	options = cs.ServerOptions("Maths", "Ana", pin="123456", base=base, bind=home)
	with contextlib.closing(cs.HostedMeeting(dataclasses.asdict(options))) as hosted:
		hosted.start()
		socket.create_connection((home, base), source_address=(guest, 0)).close()
		wait_until(lambda: hosted.tried == {guest})
		silent = ("--camera", "none", "--mic", "none", "--speaker", "none")
		args = ("--join", f"{home}:{base}", "--pin", "123456", "--bind", guest, *silent)
		one = Headless(args, tmp_path / "guest")
		one.wait("joined", 40)
		wait_until(lambda: not hosted.tried)
		one.close()
