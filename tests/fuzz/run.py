"""Coverage-guided fuzzing of the wire's parsers and of the server's state machine, with a time budget.

python tests/fuzz/run.py [--seconds N] [--keep] [--plant BUG] [TARGET ...]

Begins with the seeds in tests/fuzz/seeds/TARGET and prints what was found and how many of the lines of the
section WIRE were run. Status 1 when something was found, or when all targets together leave more than a tenth
of those lines out. `--keep` adds inputs that reach more to the seeds. `--plant` puts a bug in first.
"""

from __future__ import annotations

import argparse
import dis
import os
import shutil
import subprocess
import sys
import tempfile
import types
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

HERE = Path(__file__).resolve().parent
SEEDS = HERE / "seeds"
sys.path.insert(0, str(HERE))
LEAST = 0.9
LONGEST = 4_096  # bytes of an input


def parse(arguments: list[str]) -> argparse.Namespace:
	parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
	parser.add_argument("--seconds", type=float, default=60.0, help="in all")
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
	"""Fuzz a target, with its corpus in `work`; ends the process."""
	import atheris
	import targets

	with (work / f"{name}.log").open("wb") as log:
		os.dup2(log.fileno(), 1)
		os.dup2(log.fileno(), 2)
	corpus = work / name
	corpus.mkdir()
	options = [
		f"-max_total_time={max(1, round(seconds))}",
		f"-max_len={LONGEST}",
		f"-dict={words(work)}",
		f"-artifact_prefix={work}/found-{name}-",
		"-rss_limit_mb=1024",
		"-timeout=10",
		"-close_fd_mask=2",  # what the JPEG library says of each damaged picture
	]
	atheris.Setup([sys.argv[0], *options, str(corpus), str(SEEDS / name)], targets.TARGETS[name])
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
			in_child(partial(fuzz, waiting.pop(0), work, seconds * at_once / len(names)))
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


def lines_of_wire(source: Path) -> set[int]:
	"""The numbers of the lines in bodies of functions of the section WIRE."""
	text = source.read_text(encoding="utf-8")
	numbers = [n for n, line in enumerate(text.splitlines(), 1) if line.startswith(("# [2] WIRE", "# [3] "))]
	found: set[int] = set()
	for code in codes(compile(text, str(source), "exec")):
		if numbers[0] < code.co_firstlineno < numbers[1] and code.co_flags & 1:  # a function, no class
			found |= {line for _, line in dis.findlinestarts(code) if line and line > code.co_firstlineno}
	return found


def replay(work: Path) -> None:
	"""Run all inputs of a fuzzing again, uninstrumented, and write which lines they ran."""
	import targets

	import connectsphere as cs

	ran: set[int] = set()

	def local(frame: types.FrameType, event: str, _: object) -> object:
		if event == "line":
			ran.add(frame.f_lineno)
		return local

	def trace(frame: types.FrameType, event: str, _: object) -> object:
		return local(frame, "line", None) if frame.f_code.co_filename == cs.__file__ else None

	for name, target in targets.TARGETS.items():
		inputs = sorted([*(work / name).glob("*"), *(SEEDS / name).glob("*")])
		sys.settrace(trace)
		for path in inputs:
			target(path.read_bytes())
		sys.settrace(None)
	wire = lines_of_wire(Path(cs.__file__))
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
	import atheris

	with atheris.instrument_imports(include=["connectsphere"]):
		import targets
	names = options.targets or list(targets.TARGETS)
	if options.plant:
		targets.PLANTS[options.plant]()
	work, owner = Path(tempfile.mkdtemp()), os.getpid()
	try:
		return go(names, work, options)
	finally:
		if os.getpid() == owner:  # what was found is written when a child ends
			shutil.rmtree(work)


def go(names: list[str], work: Path, options: argparse.Namespace) -> int:
	found = fuzz_all(names, work, options.seconds)
	for name in names:
		log = (work / f"{name}.log").read_text(errors="replace").splitlines()
		done = " ".join(line for line in log if line.startswith("Done"))
		print(f"{name}: {len(list((work / name).glob('*')))} inputs that reach more. {done}")
	report(found, work)
	if found or options.plant:
		return int(bool(found))
	if options.keep:
		for name in names:
			os.waitpid(in_child(partial(merge, name, work)), 0)
	ran, of = coverage(work)
	print(f"{ran} of {of} lines of WIRE were run, {ran / of:.1%}")
	return int(not options.targets and ran < LEAST * of)


if __name__ == "__main__":
	sys.exit(main(sys.argv[1:]))
