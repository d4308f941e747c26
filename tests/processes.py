"""What Linux tells about processes: their children, their memory, their processor time."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Iterator, Sequence
from pathlib import Path


def told(path: Path) -> str:
	"""What a file of /proc says; nothing once its thread or process has ended."""
	with contextlib.suppress(FileNotFoundError, ProcessLookupError):
		return path.read_text(errors="replace")
	return ""


def children_of(pid: int) -> list[int]:
	"""The processes that a process has started."""
	threads = Path(f"/proc/{pid}/task").glob("*/children")
	return [int(child) for each in threads for child in told(each).split()]


def child_in_role(pid: int, role: str) -> int:
	"""The process id of the child that was started with the hidden option `role`."""
	for child in children_of(pid):
		if role in told(Path(f"/proc/{child}/cmdline")):
			return child
		with contextlib.suppress(AssertionError):
			return child_in_role(child, role)
	raise AssertionError(f"{pid} has no child in the role {role}")


def kbytes(pid: int, what: str = "VmRSS") -> int:
	"""The memory that a process holds, or (`VmHWM`) the most that it has held; 0 for one that has ended."""
	found = re.search(rf"{what}:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
	return int(found[1]) if found else 0


def cpu_seconds(pid: int) -> float:
	"""Processor time that the threads of a process have used, to the nanosecond."""
	tasks = Path(f"/proc/{pid}/task").glob("*/schedstat")
	return sum(int(words[0]) for task in tasks if (words := told(task).split())) / 1e9


@contextlib.contextmanager
def measured(pids: Sequence[int]) -> Iterator[dict[str, float]]:
	"""Fills in `seconds` and `cpu`, the processor time of `pids` meanwhile."""
	found: dict[str, float] = {}
	began, before = time.monotonic(), sum(map(cpu_seconds, pids))
	yield found
	found["seconds"] = time.monotonic() - began
	found["cpu"] = sum(map(cpu_seconds, pids)) - before
