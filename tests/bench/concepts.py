"""How many ways the program has to do the same: python tests/bench/concepts.py [BEFORE] FILE

Counted from the syntax tree, each with the class or function that it is in: what makes selectors or waits at
a port in a loop, what starts threads, what hands things from one thread to another, what keeps due times,
what refills a budget with time, what decides by the kind of a message, what cuts a stream into messages.
Where the syntax does not tell (signals of congestion, counts of lost frames) the names that are defined
count. With two files their columns stand side by side.
"""

from __future__ import annotations

import ast
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

Places = Iterator[str]
Node = ast.AST

QUEUES = {"SimpleQueue", "Queue"}
WAKERS = {"Event", "Condition", "socketpair", "Waker"}
CONGESTION = (
	"rate|sure|steady|probe|filling|coarse|lossy|careful|paced|room|least_pace|_pace|held|accepts"
	"|granted|allocation"
)
CONGESTED = (
	r"Path\w*|Bandwidth\w*|Link\w*|Send\w*|_?Lane|Egress\w*|Pacer|Relay\w*|Set\w*|Pace|Attention|Layer\w*"
	"|_?Person|Member"
)


def called(node: Node) -> str:
	"""The last name of what is called."""
	function = node.func if isinstance(node, ast.Call) else None
	return getattr(function, "attr", getattr(function, "id", ""))


def within(node: Node, *kinds: type[Node]) -> Iterator[Node]:
	return (one for one in ast.walk(node) if isinstance(one, kinds))


def owners(tree: ast.Module) -> Iterator[tuple[str, Node]]:
	"""Each class, and each function outside of classes, by name."""
	for node in tree.body:
		if isinstance(node, ast.ClassDef | ast.FunctionDef):
			yield node.name, node


def makes(node: Node, names: set[str]) -> bool:
	return any(called(call) in names for call in within(node, ast.Call))


def event_loops(name: str, owner: Node) -> Places:
	waits = any(
		called(call) == "wait" and "_port" in ast.unparse(call) for call in within(owner, ast.Call)
	) and any(within(owner, ast.While))
	if makes(owner, {"DefaultSelector"}) or waits:
		yield name


def threads(name: str, owner: Node) -> Places:
	if makes(owner, {"Thread", "ThreadPoolExecutor"}):
		yield name


def mailboxes(name: str, owner: Node) -> Places:
	"""A queue; or a deque, or slots, beside what wakes another thread."""
	queues = [call for call in within(owner, ast.Call) if called(call) in QUEUES]
	if queues or (makes(owner, WAKERS) and makes(owner, {"deque", "Condition"})):
		yield name


def timers(name: str, owner: Node) -> Places:
	"""Heaps of moments, and methods that are asked for what is due."""
	for function in within(owner, ast.FunctionDef):
		assert isinstance(function, ast.FunctionDef)
		if makes(function, {"heappush"}) or re.fullmatch(r"_?(next|on|bind)?_?due", function.name):
			yield f"{name}.{function.name}"


def rate_limits(name: str, owner: Node) -> Places:
	"""Time passed times a rate, buckets by key, and counts in a minute."""
	products = [one for one in within(owner, ast.BinOp) if isinstance(one, ast.BinOp)]
	refills = any(re.search(r"now - self\.\w+\b.*(rate|pace)", ast.unparse(one)) for one in products)
	keyed = "OrderedDict" in ast.unparse(owner) and makes(owner, {"TokenBucket"})
	if refills or keyed or re.search(r"Thinner|Dropper|PinGate|Budget|Gauge|Note$|AnswerLimit|_Lane", name):
		yield name


def congestion(name: str, owner: Node) -> Places:
	if re.fullmatch(CONGESTED, name):
		yield from sorted({f"{name}.{one}" for one in defined(owner) if re.fullmatch(CONGESTION, one)})


def lost_frames(name: str, owner: Node) -> Places:
	"""Numbers that grow where a frame of pictures is given up."""
	if re.search(r"Reassembler|Stream|_Sender|Counts|Receiver", name):
		grown = {
			ast.unparse(one.target) for one in within(owner, ast.AugAssign) if isinstance(one, ast.AugAssign)
		}
		yield from sorted(f"{name}.{one[5:]}" for one in grown if re.fullmatch(r"self\._?lost", one))


def defined(owner: Node) -> Iterator[str]:
	"""Attributes, fields and methods."""
	for node in ast.walk(owner):
		if isinstance(node, ast.FunctionDef):
			yield node.name
		elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
			yield node.attr
		elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
			yield node.target.id


def dispatch(name: str, owner: Node) -> Places:
	"""By a table of functions, by a name that is put together, by `match`, by a chain of comparisons."""
	found: Counter[str] = Counter()
	for node in ast.walk(owner):
		if isinstance(node, ast.Match) and all(is_word(case) for case in node.cases[:2]):
			found["match"] += 1
		elif called(node) == "getattr" and any(within(node, ast.JoinedStr)):
			found["getattr"] += 1
		elif isinstance(node, ast.Dict) and len(node.keys) > 2 and all(map(is_function, node.values)):
			found["table"] += 1
		elif isinstance(node, ast.If) and chain(node) > 2:
			found["chain"] += 1
	yield from (f"{way}: {name}" for way in found)


def is_word(case: ast.match_case) -> bool:
	words = [case.pattern, *getattr(case.pattern, "patterns", ())]
	return any(isinstance(one, ast.MatchValue | ast.MatchMapping) for one in words)


def is_function(node: Node) -> bool:
	return isinstance(node, ast.Attribute) and ast.unparse(node).startswith("self._on_")


def chain(node: ast.If) -> int:
	"""How many branches compare a message's kind or type."""
	asks = re.search(r"\b(kind|type|do|event)\b['\"\]]* ==", ast.unparse(node.test)) is not None
	following = node.orelse[0] if len(node.orelse) == 1 and isinstance(node.orelse[0], ast.If) else None
	return asks + (chain(following) if following else 0)


def framings(name: str, owner: Node) -> Places:
	"""Splitters of streams, and functions that read up to an end or a length."""
	if re.search(r"Splitter|StreamBuffer", name):
		yield name
	for one in within(owner, ast.FunctionDef):
		if isinstance(one, ast.FunctionDef) and re.fullmatch(r"read_(line|exact|message)|exactly", one.name):
			yield f"{name}.{one.name}"


DUTIES: dict[str, Callable[[str, Node], Places]] = {
	"event loops": event_loops,
	"ways to make a thread": threads,
	"mailboxes": mailboxes,
	"timers": timers,
	"rate limits": rate_limits,
	"signals of congestion": congestion,
	"counts of lost frames": lost_frames,
	"dispatch": dispatch,
	"stream framings": framings,
}


def concepts(path: Path) -> dict[str, list[str]]:
	"""Of each duty the places that do it."""
	tree = ast.parse(path.read_text(encoding="utf-8"))
	return {
		duty: [place for name, owner in owners(tree) for place in places(name, owner)]
		for duty, places in DUTIES.items()
	}


def main(paths: list[str]) -> None:
	columns = [concepts(Path(path)) for path in paths]
	print("| duty |" + "".join(f" {path} |" for path in paths) + "\n|---|" + "---|" * len(paths))
	for duty in DUTIES:
		cells = [f" {len(column[duty])}: {', '.join(column[duty])} |" for column in columns]
		print(f"| {duty} |" + "".join(cells))
	print("| sum |" + "".join(f" {sum(map(len, column.values()))} |" for column in columns))


if __name__ == "__main__":
	main(sys.argv[1:] or ["connectsphere.py"])
