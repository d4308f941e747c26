"""What breaks in a lesson costs nobody else anything, and the list of who was here stays right."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from headless import Headless
from meetings import Passage, Starts, host, join
from processes import child_in_role
from waiting import wait_until

MB = 1 << 20


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
	"""A disk on which nothing more has room, once `filler` in it is written."""
	disk = tmp_path / "disk"
	disk.mkdir()
	mount = ["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(disk)]
	if subprocess.run(mount, capture_output=True, check=False).returncode:
		pytest.skip("a small disk cannot be mounted here")
	yield disk
	subprocess.run(["umount", "-l", str(disk)], check=True)


def fill(disk: Path) -> None:
	"""Leave no room."""
	with (disk / "filler").open("wb", buffering=0) as out:
		try:
			while out.write(bytes(4_096)):
				pass
		except OSError:
			return


@pytest.mark.long
@pytest.mark.timeout(120)
def test_a_pulled_cable_and_a_full_disk_cost_nobody_else_anything(
	meeting: Starts, tmp_path: Path, full_disk: Path
) -> None:
	"""While a class hands in and a sheet is handed out; what was cut off comes later, whole."""
	teacher, base = host(meeting, "--downloads", str(tmp_path / "hers"), "--title", "Maths", name="Ms Lee")
	halfway, passed = threading.Event(), [0]

	def tap(plane: str, upstream: bool, data: bytes) -> None:
		passed[0] += len(data) * (plane == "files" and upstream)
		if passed[0] > 2 * MB:
			halfway.set()
			time.sleep(0.05)  # so that it is cut before the end

	passage = Passage(base, tap=tap)
	try:
		folders = {name: tmp_path / name for name in ("Ana", "Ben", "Cleo", "Cut")} | {
			"Full": full_disk / "in"
		}
		pupils: dict[str, Headless] = {}
		for name, folder in folders.items():
			more = {"at": passage.at} if name == "Cut" else {}
			pupils[name] = join(meeting, base, name, "--downloads", str(folder), **more)
		fill(full_disk)
		work = {name: os.urandom(5 * MB) for name in pupils}
		sheet = tmp_path / "sheet.pdf"
		sheet.write_bytes(os.urandom(MB))
		teacher.send(do="collect", open=True, title="Sums")
		for name, one in pupils.items():
			one.wait("collecting", title="Sums")
			path = tmp_path / f"{name}.bin"
			path.write_bytes(work[name])
			one.send(do="hand_in", path=str(path))
		teacher.send(do="hand_out", path=str(sheet))
		assert halfway.wait(30)
		passage.cut()
		time.sleep(2.0)
		passage.mend()
		wait_until(lambda: len(teacher.seen("hand_in")) == 5, 60, "all of it")
		for event in teacher.seen("hand_in"):
			path = Path(event["path"])
			assert path.read_bytes() == work[path.parent.name] and event["from"] == path.parent.name
		pupils["Full"].wait("file_failed")
		for name in ("Ana", "Ben", "Cleo"):
			one = pupils[name]
			assert Path(one.wait("file_saved")["path"]).read_bytes() == sheet.read_bytes()
			assert not [each for each in ("error", "file_failed", "reconnecting") if one.seen(each)], name
		assert pupils["Cut"].seen("reconnecting") and not teacher.seen("reconnecting")
	finally:
		passage.close()


def away(teacher: Headless, name: str, until: float) -> float:
	"""For how many seconds somebody was gone, as the teacher was told before `until`."""
	went, back = (
		[one["time"] for one in teacher.seen(what, name=name) if one["time"] < until]
		for what in ("leave", "join")
	)
	return sum(back[1:]) - sum(went)


@pytest.mark.long
@pytest.mark.timeout(120)
def test_the_list_of_who_was_here_is_right_over_breaks_losses_and_a_crash(
	meeting: Starts, tmp_path: Path
) -> None:
	teacher, base = host(meeting, "--title", "Maths", name="Ms Lee")
	passage = Passage(base)
	try:
		ana = join(meeting, base, "Ana")
		zoe = join(meeting, base, "Zoë", at=passage.at)
		ben = join(meeting, base, "Ben", home=tmp_path / "ben")
		for name in ("Ana", "Zoë", "Ben"):
			teacher.wait("join", name=name)
		came = [one.seen("joined")[0]["time"] for one in (teacher, ana, zoe, ben)]
		time.sleep(6.0)
		ben.send(do="leave")
		teacher.wait("leave", name="Ben")
		passage.cut()
		teacher.wait("leave", name="Zoë")
		time.sleep(12.0)
		passage.mend()
		teacher.wait("join", timeout=20, name="Zoë")
		ben = join(meeting, base, "Ben", home=tmp_path / "ben")
		teacher.wait("join", name="Ben")
		server = child_in_role(teacher.process.pid, "--serve-child")
		crashed = time.time()
		os.kill(server, signal.SIGKILL)
		for one in (teacher, ana, ben, zoe):
			one.wait("reconnected", timeout=40)
		gap = time.time() - crashed
		time.sleep(6.0)
		table = tmp_path / "who.csv"
		teacher.send(do="attendance", path=str(table), ref=9)
		teacher.wait("ok", ref=9)
		ended = time.time()
	finally:
		passage.close()
	data = table.read_bytes()
	assert data.startswith(b"\xef\xbb\xbfname,came,went,minutes,late,lost\r\n") and "Zoë".encode() in data
	rows = {row["name"]: row for row in csv.DictReader(data.decode("utf-8-sig").splitlines())}
	assert set(rows) == {"Ms Lee", "Ana", "Zoë", "Ben"}
	for name, began in zip(("Ms Lee", "Ana", "Zoë", "Ben"), came, strict=True):
		there = ended - began - away(teacher, name, crashed)
		told = 60 * float(rows[name]["minutes"])
		assert there - gap - 7.0 <= told <= there + 5.0, (name, told, there, gap)
		assert rows[name]["went"] == "" and rows[name]["came"]
	assert away(teacher, "Ben", crashed) > 11.0
	assert [rows[name]["lost"] for name in ("Ana", "Zoë", "Ben")] == ["1", "2", "1"]
