"""Coverage-guided fuzzing of the wire's parsers and of the server's state machine, with a time budget.

python tests/fuzz/run.py [--seconds N] [--keep] [--plant BUG] [TARGET ...]

Begins with the seeds in tests/fuzz/seeds/TARGET and prints what was found and how many of the lines of the
section WIRE were run. Status 1 when something was found, or when all targets together leave more than a tenth
of those lines out. `--keep` adds inputs that reach more to the seeds. `--plant` puts a bug in besides, which
must be found.
"""

from __future__ import annotations

import argparse
import dis
import gc
import itertools
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import types
from bisect import bisect
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

HERE = Path(__file__).resolve().parent
SEEDS = HERE / "seeds"
sys.path.insert(0, str(HERE))
LEAST = 0.9
LEAST_RUNS = 80  # of a target, however slow it is
LONGEST = 4_096  # bytes of an input
TRACED = (  # what guides the fuzzer; the other sections, a window for the most part, no target runs much of
	"BASICS", "WIRE", "VIDEO", "TILES", "BANDWIDTH", "ROOM", "CALL", "TRUST", "DISCOVERY", "SERVER PLANES",
	"SERVER", "CONTROL LINK", "CONTROLLER",
)  # fmt: skip


def parse(arguments: list[str]) -> argparse.Namespace:
	parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
	parser.add_argument("--seconds", type=float, default=60.0, help="of a processor, in all")
	parser.add_argument("--keep", action="store_true")
	parser.add_argument("--plant", default="")
	parser.add_argument("--replay", type=Path, help=argparse.SUPPRESS)
	parser.add_argument("targets", nargs="*")
	return parser.parse_args(arguments)


# -- fuzzing -----------------------------------------------------------------------------------------------


def in_child(call: Callable[[], None]) -> int:
	"""Run what never returns in a process of its own; the process id."""
	pid = os.fork()
	if not pid:
		call()
		sys.exit("the fuzzer came back")
	return pid


def fuzz(name: str, work: Path, seconds: float) -> None:
	"""Fuzz a target for so many seconds of a processor, and LEAST_RUNS times, with its corpus in `work`; a
	planted bug until it is found. Ends the process."""
	import atheris
	import targets

	target, _, bug = name.partition("+")
	if bug:
		targets.PLANTS[bug][1]()
	with (work / f"{name}.log").open("wb") as log:
		os.dup2(log.fileno(), 1)
		os.dup2(log.fileno(), 2)
	corpus = work / name
	corpus.mkdir()
	options = [
		f"-max_len={LONGEST}",
		f"-dict={words(work)}",
		f"-artifact_prefix={work}/found-{name}-",
		"-len_control=0",  # a few dozen runs of a slow target are no time to begin with short inputs
		"-rss_limit_mb=1024",
		"-timeout=10",
		"-close_fd_mask=2",  # what the JPEG library says of each damaged picture
	]
	runs, ends = itertools.count(1), time.process_time() + (20 if bug else seconds)

	def run(data: bytes) -> None:
		targets.TARGETS[target](data)
		if (count := next(runs)) >= LEAST_RUNS and time.process_time() > ends:
			os.write(1, b"Done %d runs\n" % count)
			os._exit(0)

	atheris.Setup([sys.argv[0], *options, str(corpus), str(SEEDS / target)], run)
	atheris.Fuzz()


def words(work: Path) -> Path:
	"""The names that the wire knows, as a dictionary for the fuzzer."""
	import connectsphere as cs

	tables = (cs.CLIENT_MESSAGES, cs.SERVER_MESSAGES, cs.FILE_REQUESTS, {"": cs.SCREEN_HELLO})
	names = {key.rstrip("?") for table in tables for kind, shape in table.items() for key in (kind, *shape)}
	path = work / "words.txt"
	if not path.exists():
		path.write_text("".join(f'"\\"{name}\\":"\n' for name in sorted(filter(None, names))))
	return path


def fuzz_all(names: list[str], work: Path, seconds: float) -> list[Path]:
	"""Fuzz each target for its share of the time, as many at once as there are processors; what was found."""
	at_once = min(len(names), os.cpu_count() or 1)
	words(work)
	waiting, running = list(names), 0
	while waiting or running:
		while waiting and running < at_once:
			in_child(partial(fuzz, waiting.pop(0), work, seconds / len(names)))
			running += 1
		os.wait()
		running -= 1
	return sorted(work.glob("found-*"))


# -- what was run ------------------------------------------------------------------------------------------


def codes(code: types.CodeType) -> Iterator[types.CodeType]:
	for constant in code.co_consts:
		if isinstance(constant, types.CodeType):
			yield constant
			yield from codes(constant)


def section_of(source: Path) -> Callable[[int], str]:
	"""The name of the section that a line of the program is in."""
	lines = enumerate(source.read_text(encoding="utf-8").splitlines(), 1)
	heads = [(n, head[1]) for n, line in lines if (head := re.match(r"# \[\d+\] ([^a-z]+?) - ", line))]
	return lambda line: heads[at - 1][1] if (at := bisect(heads, (line, "~"))) else ""


def instrument() -> None:
	"""Let the fuzzer see what runs of TRACED; of all it takes three times as long."""
	import atheris

	import connectsphere as cs

	section = section_of(Path(cs.__file__))
	for one in gc.get_objects():
		code = one.__code__ if isinstance(one, types.FunctionType) else None
		if code and code.co_filename == cs.__file__ and section(code.co_firstlineno) in TRACED:
			atheris.instrument_func(one)


def lines_of_wire(source: Path) -> set[int]:
	"""The numbers of the lines in bodies of functions of the section WIRE."""
	text, section = source.read_text(encoding="utf-8"), section_of(source)
	found: set[int] = set()
	for code in codes(compile(text, str(source), "exec")):
		if section(code.co_firstlineno) == "WIRE" and code.co_flags & 1:  # a function, no class
			found |= {line for _, line in dis.findlinestarts(code) if line and line > code.co_firstlineno}
	return found


def replay(work: Path) -> None:
	"""Run all inputs of a fuzzing again, uninstrumented, and write which lines they ran."""
	import targets

	import connectsphere as cs

	ran: set[int] = set()
	wire = lines_of_wire(Path(cs.__file__))
	first, last = min(wire), max(wire)

	def local(frame: types.FrameType, event: str, _: object) -> object:
		if event == "line":
			ran.add(frame.f_lineno)
		return local

	def trace(frame: types.FrameType, event: str, _: object) -> object:
		code = frame.f_code
		return local if code.co_filename == cs.__file__ and first <= code.co_firstlineno + 1 <= last else None

	for name, target in targets.TARGETS.items():
		inputs = sorted([*(work / name).glob("*"), *(SEEDS / name).glob("*")])
		sys.settrace(trace)
		for path in inputs:
			target(path.read_bytes())
		sys.settrace(None)
	print(f"{len(wire & ran)} {len(wire)}")
	print("not run:", *sorted(wire - ran))


def coverage(work: Path) -> tuple[int, int]:
	"""(lines of WIRE that the inputs ran, lines of WIRE)."""
	command = [sys.executable, str(HERE / "run.py"), "--replay", str(work)]
	done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=True)
	first, rest = done.stdout.split("\n", 1)
	print(rest.strip())
	ran, of = first.split()
	return int(ran), int(of)


def merge(name: str, work: Path) -> None:
	"""Add what reaches more than the seeds do to the seeds; ends the process."""
	import atheris
	import targets

	options = ["-merge=1", f"-max_len={LONGEST}", "-close_fd_mask=3"]
	atheris.Setup([sys.argv[0], *options, str(SEEDS / name), str(work / name)], targets.TARGETS[name])
	atheris.Fuzz()


def report(found: list[Path], work: Path) -> None:
	for path in found:
		name = path.name.split("-")[1]
		log = (work / f"{name}.log").read_text(errors="replace")
		said = log[log.find("Uncaught Python exception") :].splitlines()[1:12]
		print(f"found in {name} by the input {path.read_bytes()[:200]!r}:", *said, sep="\n  ")


def main(arguments: list[str]) -> int:
	options = parse(arguments)
	if options.replay:
		replay(options.replay)
		return 0
	import targets

	instrument()
	names = options.targets or list(targets.TARGETS)
	work, owner = Path(tempfile.mkdtemp()), os.getpid()
	try:
		planted = f"{targets.PLANTS[options.plant][0]}+{options.plant}" if options.plant else ""
		return go(names, planted, work, options)
	finally:
		if os.getpid() == owner:  # what was found is written when a child ends
			shutil.rmtree(work)


def go(names: list[str], planted: str, work: Path, options: argparse.Namespace) -> int:
	found = fuzz_all([*names, *filter(None, [planted])], work, options.seconds)
	for name in names:
		log = (work / f"{name}.log").read_text(errors="replace").splitlines()
		done = " ".join(line for line in log if line.startswith("Done"))
		print(f"{name}: {len(list((work / name).glob('*')))} inputs that reach more. {done}")
	report(found, work)
	if {path.name.split("-")[1] for path in found} != set(filter(None, [planted])):
		return 1
	if options.keep:
		for name in names:
			os.waitpid(in_child(partial(merge, name, work)), 0)
	ran, of = coverage(work)
	print(f"{ran} of {of} lines of WIRE were run, {ran / of:.1%}")
	return int(not options.targets and ran < LEAST * of)


if __name__ == "__main__":
	sys.exit(main(sys.argv[1:]))
