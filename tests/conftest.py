"""What all tests share: nothing may be left behind, and meetings of real processes."""

from __future__ import annotations

import contextlib
import gc
import os
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any

import hypothesis
import pytest
from hand import HANDS, Hand
from headless import Headless
from lan import Lan, why_not
from leaks import Watch, adopt_orphans
from meetings import QUIET_MACHINE
from screens import KEPT, xvfb
from starter import STARTERS, Apart, clone_children_of
from workers import KINDS, Turns, apart, compiled

import connectsphere as cs

try:
	import tkinter
except ImportError:
	tkinter = None  # type: ignore[assignment]

TkErrors = list[BaseException]
TURNS = Turns()
HEAVY = {"meeting", "screen"}  # fixtures: programs of their own, or a window


def pytest_configure(config: pytest.Config) -> None:
	"""A descriptor closed by the collector and a thread that dies of an exception fail their test."""
	config.addinivalue_line("filterwarnings", "error::ResourceWarning")
	config.addinivalue_line("filterwarnings", "error::pytest.PytestUnraisableExceptionWarning")
	config.addinivalue_line("filterwarnings", "error::pytest.PytestUnhandledThreadExceptionWarning")
	hypothesis.settings.register_profile("suite", deadline=None, max_examples=60)  # machines are busy
	hypothesis.settings.load_profile("suite")
	config.addinivalue_line("markers", "long(seconds=10): so long it takes, so it begins early")
	config.addinivalue_line("markers", "calm: its bounds are of time; beside it only its like run")
	config.addinivalue_line("markers", "alone: its bounds need the whole machine")
	os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # every process of a test would compile the program anew
	# numpy's own threads, which the program has none of, spin for a while in each process at its start
	os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
	adopt_orphans()
	if worker := getattr(config, "workerinput", None):
		apart()
		if not config.option.file_or_dir:
			compiled(int(worker["workerid"].removeprefix("gw")), worker["workercount"])


def kind(item: pytest.Item) -> str:
	"""Which tests may run beside it: see `Turns`."""
	marked = next((name for name in KINDS if item.get_closest_marker(name)), "other")
	return "alone" if marked == "calm" and QUIET_MACHINE else marked


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
	"""The longest first, then what starts programs, then the others, so that all workers come to the end
	together; then those that need a calm machine. Workers take them in order."""

	def place(item: pytest.Item) -> tuple[int, float, bool]:
		light = HEAVY.isdisjoint(getattr(item, "fixturenames", ()))
		long = item.get_closest_marker("long")
		return KINDS.index(kind(item)), -next(iter(long.args), 10) if long else 0, light

	items.sort(key=place)
	for item in items:
		if "_nodeid" in vars(item):  # where xdist 3.8 writes the group, pytest 9.2 no longer reads it
			item._id = item._id.parse(item._nodeid)  # type: ignore[attr-defined]


def pytest_collection_finish(session: pytest.Session) -> None:
	"""To look through what stands now takes half a second, and hundreds of tests collect garbage."""
	gc.collect()
	gc.freeze()
	if sys.platform == "linux" and session.items:  # the controller of workers has none
		STARTERS.append(Apart())
		clone_children_of(cs)


def pytest_sessionfinish() -> None:
	while STARTERS:
		STARTERS.pop().close()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
	"""Each worker takes the next of the list when it has ended one, whatever `--dist` says: so none waits for
	a calm machine while there are others left. What is marked with one `xdist_group` shares a worker, as it
	shares a meeting that costs more than most of its tests."""
	from xdist.scheduler import LoadGroupScheduling

	class OneAhead(LoadGroupScheduling):
		"""What waits for a worker that is long at one, nobody else takes: one test, not two."""

		def _pending_of(self, workload: Any) -> int:
			pending = 0
			for unit in reversed(workload.values()):
				if not (left := list(unit.values()).count(False)):
					break  # all before it are done: who looks through them does so after each test
				pending += left
			return pending

		def _reschedule(self, node: Any) -> None:
			if not self.workqueue or self._pending_of(self.assigned_work[node]) < 2:
				super()._reschedule(node)

	config.option.loadscopereorder = False
	return OneAhead(config, log)


@pytest.hookimpl(hookwrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
	"""Those of one kind run side by side, `alone` ones by themselves."""
	with TURNS.turn(kind(item)):
		yield


def pytest_terminal_summary(terminalreporter: Any) -> None:
	"""Says how many tests this machine could not run, and why: a green run may hide them."""
	skipped = terminalreporter.stats.get("skipped", [])
	for reason, count in Counter(str(report.longrepr[2]) for report in skipped).most_common():
		terminalreporter.write_line(f"{count} not run here: {reason.removeprefix('Skipped: ')}")


@pytest.fixture
def tk_errors() -> TkErrors:
	"""Errors of Tk callbacks in this test; what is in it at the end fails the test (a test may clear it)."""
	return []


@pytest.fixture(autouse=True)
def nothing_is_left(tk_errors: TkErrors, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
	"""Fails the test that left a thread, process or descriptor behind, or whose Tk callbacks raised.

	The language, which windows and commands turn, is each test's own: they all begin in English.
	"""

	def collect(_: object, kind: type, value: BaseException, trace: TracebackType | None) -> None:
		tk_errors.append(value)

	if tkinter is not None:
		monkeypatch.setattr("tkinter.Tk.report_callback_exception", collect)
	monkeypatch.setattr(cs.tr, "language", "en")
	watch = Watch()
	yield
	leaks = watch.settle()
	assert not tk_errors, f"Tk callbacks raised: {tk_errors!r}"
	assert not leaks, "left behind:\n  " + "\n  ".join(leaks)


@pytest.fixture(scope="session")
def screen() -> Iterator[str]:
	"""The name of a virtual screen of 1600x1000; Tk keeps one connection to it until the end."""
	tkinter = pytest.importorskip("tkinter")
	if shutil.which("Xvfb") is None:
		pytest.skip("Xvfb is not installed")
	with xvfb("1600x1000") as (name, _):
		root = tkinter.Tk(screenName=name)
		root.update()  # Tcl's notifier and the connection stand before the first test counts
		root.destroy()
		KEPT[name], HANDS[name] = [], Hand(name)
		yield name
		HANDS.pop(name).close()
		for root in KEPT.pop(name):
			root.destroy()


@pytest.fixture
def display(screen: str, monkeypatch: pytest.MonkeyPatch) -> str:
	"""`screen`, in DISPLAY for this test alone: other tests have another."""
	monkeypatch.setenv("DISPLAY", screen)
	return screen


class Meeting:
	"""Starts participants as processes of their own and ends each of them by its process id."""

	def __init__(self, directory: Path) -> None:
		self._directory = directory
		self._started: list[Headless] = []

	def __call__(
		self,
		*args: str,
		home: Path | None = None,
		netns: str | None = None,
		env: Mapping[str, str] | None = None,
		**options: Any,
	) -> Headless:
		"""One more participant; without `home` it gets one of its own."""
		home = home or self._directory / f"home-{len(self._started) + 1}"
		one = Headless(args, home, netns=netns, env=env, **options)
		self._started.append(one)
		return one

	def close(self) -> None:
		"""Ends everyone at once, last come first gone, and shows what each said on standard error."""
		with ThreadPoolExecutor(max(1, len(self._started))) as pool:
			for one in reversed(self._started):
				one.ask_to_end()
			list(pool.map(Headless.close, reversed(self._started)))
		for one in self._started:
			print(f"--- {one}\n{one.errors()}", file=sys.stderr)
		for one in self._started:
			assert "Traceback" not in one.errors(), f"{one} printed a traceback"
			assert not one.garbage, f"{one} printed what is no event: {one.garbage}"


@pytest.fixture
def meeting(tmp_path: Path) -> Iterator[Callable[..., Headless]]:
	"""A factory of `Headless` participants; all are ended with the test."""
	started = Meeting(tmp_path)
	with contextlib.closing(started):
		yield started


@pytest.fixture(scope="session")
def namespaces() -> None:
	"""Skips where the machine cannot have network namespaces."""
	if reason := why_not():
		pytest.skip(reason)


@pytest.fixture
def lan(namespaces: None) -> Iterator[Callable[[int], Lan]]:
	"""A factory of LANs of network namespaces; asked for before `meeting`, it goes after it."""
	with contextlib.ExitStack() as stack:
		yield lambda hosts: stack.enter_context(Lan(hosts))
