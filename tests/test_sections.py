"""The rules of the one file, read from its source: sections, who may use what, no work at import.

Each rule is a function from a `Module` to a list of complaints; the self-tests at the end feed small
broken sources to every rule, so that none of them can fall asleep.
"""

from __future__ import annotations

import ast
import gc
import re
import symtable
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parent.parent / "connectsphere.py"

# Modules that belong to some sections alone; a dotted name is ruled by its longest prefix listed here.
OWNERS: dict[str, set[str]] = {
	"socket": {"LINKS", "PROCESS", "DISCOVERY"},
	"select": {"LINKS", "DISCOVERY"},
	"selectors": {"LINKS", "DISCOVERY"},
	"ssl": {"TRUST", "LINKS"},
	"spake2": {"TRUST"},
	"ifaddr": {"DISCOVERY"},
	"cryptography": {"TRUST"},
	"cryptography.hazmat.primitives.ciphers.aead": {"WIRE", "TRUST"},
	"cryptography.exceptions": {"WIRE", "TRUST"},
	"cv2": {"DEVICES", "STAND-INS"},
	"pyaudio": {"DEVICES", "STAND-INS"},
	"pywebrtc_audio": {"DEVICES"},
	"mss": {"DEVICES", "STAND-INS"},
	"wave": {"STAND-INS"},
	"tkinter": {"DRAWING", "WIDGETS", "STAGE", "PANELS", "DIALOGS", "WINDOW"},
	"PIL": {"DEVICES", "STAND-INS", "DRAWING", "WIDGETS", "STAGE", "PANELS", "DIALOGS", "WINDOW"},
	"subprocess": {"PROCESS"},
	"argparse": {"COMMAND LINE"},
}
WATERLINE = "DOCTOR"  # the last section above it
# What nothing above the waterline may touch: clocks, threads, sockets, files, processes, devices, Tk.
BELOW_THE_WATERLINE = {
	"time", "datetime", "threading", "queue", "asyncio", "concurrent", "multiprocessing", "socket", "select",
	"selectors", "ssl", "os", "pathlib", "io", "tempfile", "shutil", "glob", "subprocess", "signal", "ctypes",
	"fcntl", "ifaddr", "cv2", "pyaudio", "pywebrtc_audio", "mss", "wave", "PIL", "tkinter",
	"builtins.open", "builtins.print", "builtins.input",
}  # fmt: skip
PURE_EXCEPTIONS = {"pathlib.PurePath", "pathlib.PurePosixPath", "pathlib.PureWindowsPath"}
# The lock of counters that any thread may raise, and the name of the clock that those below read.
ALLOWED_ABOVE = {("BASICS", "threading"): {"Counters"}, ("BASICS", "time"): {"monotonic"}}
WINDOW = {"STAGE", "PANELS", "DIALOGS", "WINDOW"}
CLIENT = {"CLIENT MEDIA", "CLIENT PLANES", "CONTROL LINK", "CONTROLLER"}
SERVER = {"RELAY", "SERVER PLANES", "SERVER"}
SIBLINGS = {
	**dict.fromkeys(SERVER, CLIENT | WINDOW),
	**dict.fromkeys(CLIENT, SERVER),
}
MAX_SECTION = 1_300  # lines
MAX_CLASS = 350
# Calls that are no work: what a constant may be made with. The file's own classes, and its functions above
# the waterline, are allowed, too.
PURE_CALLS = {
	"frozenset", "set", "dict", "list", "tuple", "range", "len", "bytes", "bytearray", "int", "float", "str",
	"max", "min", "sum", "round", "sorted", "zip", "enumerate", "object", "property", "field", "chr", "ord",
	"dict.fromkeys", "bytes.fromhex", "str.maketrans", "dataclasses.field", "logging.getLogger", "re.compile",
	"struct.Struct", "struct.calcsize", "math.log", "math.log2", "math.ceil", "math.sqrt", "TypeVar",
	"MappingProxyType", "namedtuple", "Fraction", "np.dtype", "np.array", "np.arange", "np.zeros",
	"np.ones", "np.linspace", "np.int16", "np.int32", "np.uint8", "np.float32", "np.iinfo",
	"np.hanning", "np.hamming", "np.cos", "np.sin", "np.sinc", "np.exp", "np.log10", "np.float64",
}  # fmt: skip
PURE_METHODS = {"items", "keys", "values", "to_bytes", "encode", "join", "split", "lower", "upper"}
MAX_MAIN = 15
MOST_FORWARD = 0.02  # the share of top-level names that a function body may use before they stand

BANNER = re.compile(r"^# \[(\d+)\] +([A-Z][A-Z -]*?) - (\S.*)$")
MAP_LINE = re.compile(r"^ +\[(\d+)\] +([A-Z][A-Z -]*?)  +(\S.*)$")
USES = re.compile(r"^# Uses: (.*)$")
RULER = re.compile(r"^# ={4,}$")
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass
class Section:
	"""One section: what its banner says and the top-level statements behind it."""

	number: int
	name: str
	first: int
	uses: list[str]
	body: list[ast.stmt] = field(default_factory=list)


class Module:
	"""The parsed file: sections, top-level names, and which names each statement uses."""

	def __init__(self, text: str) -> None:
		self.lines = text.splitlines()
		self.tree = ast.parse(text)
		self.docstring = ast.get_docstring(self.tree, clean=False) or ""
		self.sections = list(self._find_sections())
		for statement in self.tree.body:
			section = self.section_at(statement.lineno)
			if section is not None:
				section.body.append(statement)
		self.home: dict[str, Section] = {}
		self.defined_at: dict[str, int] = {}
		for section in self.sections:
			for statement in section.body:
				for name in defined_names(statement):
					self.home.setdefault(name, section)
					self.defined_at.setdefault(name, statement.lineno)
		self.imports = dict(imported_names(self.tree.body))
		self._tables: dict[int, symtable.SymbolTable] = {}
		self._used: dict[int, frozenset[str]] = {}

	def _find_sections(self) -> Iterator[Section]:
		for i, line in enumerate(self.lines):
			banner = BANNER.match(line)
			if not banner or i == 0 or not RULER.match(self.lines[i - 1]):
				continue
			uses = USES.match(self.lines[i + 1])
			text, at = (uses[1] if uses else ""), i + 2
			while text.rstrip().endswith(","):
				text += " " + self.lines[at].lstrip("# ")
				at += 1
			names = [] if text.strip() == "nothing" else [name.strip() for name in text.split(",")]
			yield Section(int(banner[1]), banner[2], i + 1, names)

	def section_at(self, line: int) -> Section | None:
		"""The section that holds `line`, None above the first."""
		return next((section for section in reversed(self.sections) if section.first <= line), None)

	def is_above_waterline(self, section: Section) -> bool:
		"""Whether the section is one of those that know only bytes and `now`."""
		last = next((s.number for s in self.sections if s.name == WATERLINE), 0)
		return section.number <= last

	def table(self, statement: ast.stmt) -> symtable.SymbolTable:
		"""The symbol table of one top-level statement, read as a module of its own."""
		if id(statement) not in self._tables:
			first = min([statement.lineno, *(d.lineno for d in getattr(statement, "decorator_list", []))])
			text = "\n".join(self.lines[first - 1 : statement.end_lineno])
			source = f"from __future__ import annotations\n{text}\n"
			self._tables[id(statement)] = symtable.symtable(source, "statement", "exec")
		return self._tables[id(statement)]

	def names_used(self, statement: ast.stmt) -> frozenset[str]:
		"""Module-level or builtin names that the statement uses anywhere, its annotations included."""
		if id(statement) not in self._used:
			used = {name for table in walk_tables(self.table(statement)) for name in global_names(table)}
			self._used[id(statement)] = frozenset(used.union(annotation_names(statement)))
		return self._used[id(statement)]

	def names_used_at_import(self, statement: ast.stmt) -> set[str]:
		"""Names looked up while the module is being imported: not those in function bodies."""
		return {name for table in executed_tables(self.table(statement)) for name in global_names(table)}

	def modules_used(self, statement: ast.stmt) -> set[str]:
		"""Dotted names of what the statement uses of other modules, imported on top or inside it."""
		used = self.names_used(statement)
		above = {target for name, target in self.imports.items() if name in used}
		inside = {target for node in nodes(statement) for _, target in imported_names([node])}
		builtin = {f"builtins.{name}" for name in used - set(self.imports) - set(self.home)}
		return above | inside | builtin


@cache
def nodes(tree: ast.AST) -> tuple[ast.AST, ...]:
	"""`ast.walk`, once for all rules."""
	return tuple(ast.walk(tree))


def walk_tables(table: symtable.SymbolTable) -> Iterator[symtable.SymbolTable]:
	"""The table and all those nested in it."""
	yield table
	for child in table.get_children():
		yield from walk_tables(child)


def executed_tables(table: symtable.SymbolTable) -> Iterator[symtable.SymbolTable]:
	"""The tables of code that runs at import: the module, class bodies, comprehensions."""
	yield table
	for child in table.get_children():
		if child.get_type() == "class" or child.get_name() in ("listcomp", "setcomp", "dictcomp", "genexpr"):
			yield from executed_tables(child)


def global_names(table: symtable.SymbolTable) -> Iterator[str]:
	"""Names that the code of this table takes from the module or from the builtins."""
	for symbol in table.get_symbols():
		if symbol.is_referenced() and (symbol.is_global() or table.get_type() == "module"):
			yield symbol.get_name()


def annotation_names(statement: ast.AST) -> Iterator[str]:
	"""Names in annotations, quoted ones too, which symbol tables of postponed annotations do not hold."""
	for node in nodes(statement):
		notes = [getattr(node, "annotation", None), getattr(node, "returns", None)]
		if isinstance(node, ast.Call) and dotted(node.func) in ("cast", "typing.cast") and node.args:
			notes.append(node.args[0])
		for note in filter(None, notes):
			for part in ast.walk(note):
				if isinstance(part, ast.Name):
					yield part.id
				elif (
					isinstance(part, ast.Constant)
					and isinstance(part.value, str)
					and part.value[-1:] not in "?!"  # the key of a Record's field
					and "Literal" not in ast.unparse(note)
				):
					yield from (n.id for n in ast.walk(ast.parse(part.value)) if isinstance(n, ast.Name))


def defined_names(statement: ast.stmt) -> Iterator[str]:
	"""The module-level names that a top-level statement defines, imports apart."""
	if isinstance(statement, (*FUNCTIONS, ast.ClassDef)):
		yield statement.name
	elif isinstance(statement, ast.Assign | ast.AnnAssign | ast.AugAssign):
		targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
		yield from (node.id for target in targets for node in ast.walk(target) if isinstance(node, ast.Name))
	elif isinstance(statement, ast.If):
		for inner in statement.body + statement.orelse:
			yield from defined_names(inner)


def imported_names(nodes: list[ast.stmt] | list[ast.AST]) -> Iterator[tuple[str, str]]:
	"""(bound name, dotted origin) of the imports among `nodes`; those under a top-level `if` or `try` too."""
	for node in nodes:
		if isinstance(node, ast.Import):
			for alias in node.names:
				yield alias.asname or alias.name.split(".")[0], alias.name
		elif isinstance(node, ast.ImportFrom):
			for alias in node.names:
				yield alias.asname or alias.name, f"{node.module}.{alias.name}"
		elif isinstance(node, ast.If | ast.Try):
			yield from imported_names(node.body + node.orelse)


def dotted(node: ast.expr) -> str:
	"""`a.b.c` of a name or an attribute chain, else an empty string."""
	if isinstance(node, ast.Name):
		return node.id
	if isinstance(node, ast.Attribute) and (head := dotted(node.value)):
		return f"{head}.{node.attr}"
	return ""


def longest_prefix(name: str, known: set[str]) -> str | None:
	"""The longest dotted prefix of `name` in `known`."""
	parts = name.split(".")
	return next((p for i in range(len(parts), 0, -1) if (p := ".".join(parts[:i])) in known), None)


# ------------------------------------------------------------------------------------- the rules


def banners(module: Module) -> list[str]:
	"""Numbered from 1, the same as in the map of the head docstring, each with Uses; none is too long."""
	mapped = [(int(m[1]), m[2]) for line in module.docstring.splitlines() if (m := MAP_LINE.match(line))]
	stands = [(section.number, section.name) for section in module.sections]
	wrong = [] if mapped == stands else [f"the map says {mapped}, the banners {stands}"]
	if [number for number, _ in stands] != list(range(1, len(stands) + 1)):
		wrong.append(f"sections are not numbered in order: {stands}")
	ends = [section.first for section in module.sections[1:]] + [len(module.lines) + 1]
	for section, end in zip(module.sections, ends, strict=True):
		if end - section.first > MAX_SECTION:
			wrong.append(f"{section.name} has {end - section.first} lines, more than {MAX_SECTION}")
	wrong += [f"{s.name} has no line '# Uses: ...'" for s in module.sections if s.uses == [""]]
	return wrong + [f"{section.name} is empty" for section in module.sections if not section.body]


def short_classes(module: Module) -> list[str]:
	"""A class has one duty, which can be read at once."""
	classes = [node for node in nodes(module.tree) if isinstance(node, ast.ClassDef)]
	lines = {node.name: (node.end_lineno or 0) - node.lineno + 1 for node in classes}
	return [
		f"{name} has {many} lines, more than {MAX_CLASS}" for name, many in lines.items() if many > MAX_CLASS
	]


def waterline(module: Module) -> list[str]:
	"""The waterline stands between the same two sections in the map and in the source."""
	stands = [i + 1 for i, line in enumerate(module.lines) if line.startswith("# The waterline")]
	above = module.section_at(stands[0]) if len(stands) == 1 else None
	before = module.docstring.partition("waterline")[0].splitlines()
	mapped = [m[2] for line in before if (m := MAP_LINE.match(line))]
	if above is None or not mapped or {above.name, mapped[-1]} != {WATERLINE}:
		return [f"the waterline must stand once, right behind {WATERLINE}, in the map and in the source"]
	return []


def uses_lists(module: Module) -> list[str]:
	"""A section uses only sections above it, those that it names, and each that it names."""
	wrong = []
	for section in module.sections:
		names = {name for statement in section.body for name in module.names_used(statement)}
		used = {module.home[name].name: name for name in sorted(names) if name in module.home}
		used.pop(section.name, None)
		above = {other.name for other in module.sections if other.number < section.number}
		listed = set(filter(None, section.uses))
		wrong += [f"{section.name} uses {n} ({used[n]}), not listed" for n in sorted(set(used) - listed)]
		wrong += [
			f"{section.name} lists {n} and does not use it"
			for n in sorted(listed - set(used))
			if section.body
		]
		wrong += [f"{section.name} uses {n}, not above it" for n in sorted((listed | set(used)) - above)]
		if len(section.uses) != len(set(section.uses)):
			wrong.append(f"{section.name} lists a section twice")
	return wrong


def before_it_stands(module: Module) -> list[str]:
	"""At import nothing is used before it stands."""
	return [
		f"line {statement.lineno}: {name} is used at import before it stands"
		for section in module.sections
		for statement in section.body
		for name in sorted(module.names_used_at_import(statement))
		if stands_later(module, name, statement)
	]


def top_to_bottom(module: Module) -> list[str]:
	"""Function bodies, too, use what stands above them, a few names apart; annotations may look ahead."""
	forward = {
		name
		for section in module.sections
		for statement in section.body
		for table in walk_tables(module.table(statement))
		for name in global_names(table)
		if stands_later(module, name, statement)
	}
	few = len(forward) <= MOST_FORWARD * len(module.home)
	return [] if few else [f"{len(forward)} of {len(module.home)} names are used before: {sorted(forward)}"]


def stands_later(module: Module, name: str, statement: ast.stmt) -> bool:
	"""Whether the module defines `name` only behind the statement."""
	return module.defined_at.get(name, 0) > (statement.end_lineno or statement.lineno)


def owned_modules(module: Module) -> list[str]:
	"""Modules are used only in the sections that own them."""
	wrong = []
	for section in module.sections:
		for statement in section.body:
			for used in sorted(module.modules_used(statement)):
				rule = longest_prefix(used, set(OWNERS))
				if rule and section.name not in OWNERS[rule]:
					wrong.append(f"line {statement.lineno}: {section.name} uses {used}")
	return wrong


def pure_above_waterline(module: Module) -> list[str]:
	"""Above the waterline nothing knows clocks, threads, sockets, files, devices or Tk."""
	wrong = []
	for section in filter(module.is_above_waterline, module.sections):
		for statement in section.body:
			for used in sorted(module.modules_used(statement) - PURE_EXCEPTIONS):
				rule = longest_prefix(used, BELOW_THE_WATERLINE)
				allowed = ALLOWED_ABOVE.get((section.name, rule or ""), set())
				if rule and not allowed.intersection(defined_names(statement)):
					wrong.append(f"line {statement.lineno}: {section.name} uses {used} above the waterline")
	return wrong


def unused_imports_of_owned(module: Module) -> list[str]:
	"""Every import of an owned module is used by a section (ruff sees the others)."""
	used = {name for section in module.sections for s in section.body for name in module.names_used(s)}
	ruled_elsewhere = {"annotations", "TYPE_CHECKING"}
	return [
		f"{name} is imported and not used" for name in sorted(set(module.imports) - used - ruled_elsewhere)
	]


def no_work_at_import(module: Module) -> list[str]:
	"""Module level: docstring, imports, constants, definitions, and the main guard at the end."""
	own = {node.name for node in module.tree.body if isinstance(node, ast.ClassDef)}
	for section in filter(module.is_above_waterline, module.sections):  # its functions are pure by that rule
		own |= {node.name for node in section.body if isinstance(node, FUNCTIONS)}
	wrong = []
	for statement in module.tree.body[1:]:
		if is_main_guard(statement):
			above = module.section_at(statement.lineno) is None
			if above and ast.unparse(statement).endswith(":\n    gc.disable()"):
				continue  # for the time of the start, and of the program alone
			if statement is not module.tree.body[-1]:
				wrong.append(f"line {statement.lineno}: the main guard is not the last statement")
		else:
			wrong += work_in(statement, own)
	if not (module.tree.body and is_main_guard(module.tree.body[-1])):
		wrong.append("there is no main guard at the end")
	return wrong


def is_main_guard(statement: ast.stmt) -> bool:
	"""Whether this is `if __name__ == "__main__":` around one call."""
	return (
		isinstance(statement, ast.If)
		and ast.unparse(statement.test) == "__name__ == '__main__'"
		and len(statement.body) == 1
		and not statement.orelse
	)


def work_in(statement: ast.stmt, own: set[str]) -> list[str]:
	"""Complaints about what a module-level or class-level statement does when it is executed."""
	if isinstance(statement, (ast.Import, ast.ImportFrom, ast.Pass, *FUNCTIONS)):
		return []
	if isinstance(statement, ast.ClassDef):
		return [w for inner in statement.body for w in work_in(inner, own)]
	if isinstance(statement, ast.Try):  # imports, and what to say where one is missing
		says = all(isinstance(s, ast.Raise) for handler in statement.handlers for s in handler.body)
		if says and all(isinstance(s, ast.Import | ast.ImportFrom) for s in statement.body):
			return []
	if isinstance(statement, ast.If) and is_platform_test(statement.test):
		return [w for inner in statement.body + statement.orelse for w in work_in(inner, own)]
	if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
		return []
	if not isinstance(statement, ast.Assign | ast.AnnAssign):
		return [f"line {statement.lineno}: work at import: {ast.unparse(statement)[:60]}"]
	lazy = {id(n) for node in nodes(statement) if isinstance(node, ast.Lambda) for n in ast.walk(node.body)}
	return [
		f"line {node.lineno}: a constant calls {ast.unparse(node.func)}"
		for node in (ast.walk(statement.value) if statement.value else [])
		if isinstance(node, ast.Call) and id(node) not in lazy and not is_pure_call(node, own)
	]


def is_platform_test(test: ast.expr) -> bool:
	"""`TYPE_CHECKING` or a comparison of `sys.platform` or `os.name`, which mypy understands."""
	return bool(
		re.match(r"^(TYPE_CHECKING$|sys\.platform\b|os\.name\b|sys\.version_info\b)", ast.unparse(test))
	)


def is_pure_call(node: ast.Call, own: set[str]) -> bool:
	"""Whether a call in a constant only makes a value: a listed one, an own maker, a value's method."""
	name = dotted(node.func)
	if isinstance(node.func, ast.Attribute) and node.func.attr in PURE_METHODS:
		return True
	if isinstance(node.func, ast.Attribute) and not name:
		value = node.func.value
		return isinstance(value, ast.Constant) or (isinstance(value, ast.Call) and is_pure_call(value, own))
	return name in PURE_CALLS or name.split(".")[0] in own


def forbidden_statements(module: Module) -> list[str]:
	"""No bare `except` and no `global`."""
	wrong = []
	for node in nodes(module.tree):
		if isinstance(node, ast.Global):
			wrong.append(f"line {node.lineno}: global {', '.join(node.names)}")
		elif isinstance(node, ast.ExceptHandler) and node.type is None:
			wrong.append(f"line {node.lineno}: bare except")
	return wrong


def one_clock(module: Module) -> list[str]:
	"""Time that is measured comes from BASICS' `monotonic`: the others step by 15.6 ms on some Windows."""
	return [
		f"line {node.lineno}: {dotted(node)}"
		for statement in module.tree.body
		if "monotonic" not in defined_names(statement)
		for node in nodes(statement)
		if isinstance(node, ast.Attribute) and dotted(node) in ("time.monotonic", "time.perf_counter")
	]


def docstrings(module: Module) -> list[str]:
	"""Public classes, functions and methods say what they do.

	But for methods of one line, which show it, and those of which a base class of the file says it.
	"""
	told: dict[str, set[str]] = {}  # the methods that a class and its bases describe

	def missing(body: list[ast.stmt], prefix: str, inherited: Collection[str] = ()) -> Iterator[str]:
		for node in body:
			if isinstance(node, FUNCTIONS) and node.name in inherited:
				continue
			if isinstance(node, (*FUNCTIONS, ast.ClassDef)) and not node.name.startswith("_"):
				plain = prefix and len(node.body) == 1 and node.body[0].lineno == node.body[0].end_lineno
				if not (ast.get_docstring(node) or plain or is_overload_or_setter(node)):
					yield f"line {node.lineno}: {prefix}{node.name} has no docstring"
				if isinstance(node, ast.ClassDef):
					above = set().union(*(told.get(dotted(base), set()) for base in node.bases))
					methods = [one for one in node.body if isinstance(one, FUNCTIONS)]
					told[node.name] = above | {one.name for one in methods if ast.get_docstring(one)}
					yield from missing(node.body, f"{node.name}.", above)

	return ([] if module.docstring else ["the file has no docstring"]) + list(missing(module.tree.body, ""))


def is_overload_or_setter(node: Function | ast.ClassDef) -> bool:
	"""Definitions whose docstring stands elsewhere."""
	return any(dotted(d).split(".")[-1] in ("overload", "setter") for d in node.decorator_list)


def siblings(module: Module) -> list[str]:
	"""Roles are siblings: none names another, neither in code nor in its Uses."""
	wrong = []
	for section in module.sections:
		names = {name for statement in section.body for name in module.names_used(statement)}
		named = {module.home[name].name for name in names if name in module.home} | set(section.uses)
		wrong += [f"{section.name} names {n}" for n in sorted(named & SIBLINGS.get(section.name, set()))]
	return wrong


def short_main(module: Module) -> list[str]:
	"""`main` stands in COMMAND LINE and has at most 15 lines."""
	for node in module.tree.body:
		if isinstance(node, ast.FunctionDef) and node.name == "main":
			length = (node.end_lineno or 0) - node.lineno + 1
			return [] if length <= MAX_MAIN else [f"main has {length} lines"]
	return ["there is no main"]


def named_by_subclasses(tree: ast.Module) -> set[str]:
	"""What subclasses tell `super().__init__` first: the name of the thread that their base starts."""
	return {
		call.args[0].value
		for call in nodes(tree)
		if isinstance(call, ast.Call)
		and ast.unparse(call.func) == "super().__init__"
		and call.args
		and isinstance(call.args[0], ast.Constant)
		and isinstance(call.args[0].value, str)
	}


def thread_names(module: Module) -> list[str]:
	"""Each thread has a name that stands in the thread table of the head docstring, and the reverse."""
	started, wrong = thread_starts(module.tree)
	table = thread_table(module.docstring)
	if table is None:  # the map alone is there so far
		return wrong
	wrong += [f"thread {name} is not in the table" for name in sorted(started - table)]
	started |= {"main", *named_by_subclasses(module.tree)}
	return wrong + [f"the table has {name}, which nothing starts" for name in sorted(table - started)]


def thread_table(docstring: str) -> set[str] | None:
	"""Names in the table: indented lines behind a line that begins with 'Threads'; `x-*` is a family."""
	lines = iter(docstring.splitlines())
	if not any(line.startswith("Threads") for line in lines):
		return None
	rows: list[str] = []
	for line in lines:
		if rows and not line.strip():
			break
		if line.startswith("    ") and line[4:5].strip():
			rows.append(line.split()[0])
	return set(rows)


def thread_starts(tree: ast.Module) -> tuple[set[str], list[str]]:
	"""Names of the threads that the source starts, and complaints.

	A function or class that hands its own argument `name` to a starter of threads is one itself, and so is
	a subclass of a starter, unless its own `__init__` does not.
	"""
	bases = {node.name: node for node in nodes(tree) if isinstance(node, ast.ClassDef)}
	above = {name: {dotted(base) for base in node.bases} for name, node in bases.items()}
	heirs = {
		name for name, node in bases.items() if "__init__" not in {getattr(s, "name", "") for s in node.body}
	}
	starters: set[str] = {"Thread"}

	def starts(caller: str, call: ast.Call) -> bool:
		return bool(({callee(call)} if callee(call) != "__init__" else above.get(caller, set())) & starters)

	calls = list(calls_with_callers(tree))
	while more := {
		caller
		for caller, call in calls
		if starts(caller, call) and hands_its_name_on(call) and caller not in starters
	} | {name for name in heirs - starters if above[name] & starters}:
		starters |= more
	names: set[str] = set()
	wrong: list[str] = []
	for caller, call in calls:
		if not starts(caller, call) or (caller in starters and hands_its_name_on(call)):
			continue
		said = [name for value in name_values(call) if (name := literal(value))]
		names.update(said[:1])
		if not said:
			wrong.append(f"line {call.lineno}: a thread without a literal name")
	return names, wrong


def callee(call: ast.Call) -> str:
	"""The last part of the name of what is called."""
	return call.func.attr if isinstance(call.func, ast.Attribute) else dotted(call.func)


def name_values(call: ast.Call) -> list[ast.expr]:
	"""What may be a thread's name among the arguments: `name=`, else, but for Thread itself, any in order."""
	named = [keyword.value for keyword in call.keywords if keyword.arg == "name"]
	return named if named or callee(call) == "Thread" else call.args


def hands_its_name_on(call: ast.Call) -> bool:
	"""Whether the call passes its caller's own argument `name`."""
	return any(isinstance(value, ast.Name) and value.id == "name" for value in name_values(call))


def calls_with_callers(tree: ast.Module) -> Iterator[tuple[str, ast.Call]]:
	"""(name of the function or, for `__init__`, of the class around it, call) of every call."""

	def visit(node: ast.AST, caller: str, owner: str) -> Iterator[tuple[str, ast.Call]]:
		for child in ast.iter_child_nodes(node):
			if isinstance(child, ast.Call):
				yield caller, child
			if isinstance(child, FUNCTIONS):
				yield from visit(child, owner if child.name == "__init__" else child.name, owner)
			elif isinstance(child, ast.ClassDef):
				yield from visit(child, caller, child.name)
			else:
				yield from visit(child, caller, owner)

	return visit(tree, "", "")


def literal(node: ast.expr) -> str | None:
	"""A literal string; of an f-string, what stands before its first value, and a star."""
	if isinstance(node, ast.Constant) and isinstance(node.value, str):
		return node.value
	if isinstance(node, ast.JoinedStr) and node.values and isinstance(node.values[0], ast.Constant):
		return f"{node.values[0].value!s}*"
	return None


RULES: list[Callable[[Module], list[str]]] = [
	banners,
	short_classes,
	waterline,
	uses_lists,
	before_it_stands,
	top_to_bottom,
	owned_modules,
	pure_above_waterline,
	unused_imports_of_owned,
	no_work_at_import,
	forbidden_statements,
	one_clock,
	docstrings,
	siblings,
	short_main,
	thread_names,
]


@cache
def product() -> Module:
	"""The program, read when the first test asks for it: not by each worker that only collects tests."""
	gc.disable()  # else half of the time goes into looking through a tree that stays
	try:
		return Module(SOURCE.read_text(encoding="utf-8"))
	finally:
		gc.freeze()  # nor shall the tests after it look through it: half a second each time
		gc.enable()


the_program = pytest.mark.xdist_group("program")  # it is read once by one worker, not by each


@the_program
def test_the_rules_hold() -> None:
	"""All in one: what they know of each statement is found out once."""
	wrong = {rule.__name__: told for rule in RULES if (told := rule(product()))}
	gc.freeze()  # tables of symbols stay, too
	assert wrong == {}


# ------------------------------------------------------------------------------------- self-tests

NAMES = ["BASICS", "WIRE", "DOCTOR", "LINKS", "SERVER", "CONTROLLER", "A", "B", "C", "D", "E", "COMMAND LINE"]


def small(uses: dict[str, str] | None = None, head: str = "", imports: str = "", **bodies: str) -> str:
	"""A well-formed little file; `bodies` replace sections' contents, `uses` their lists."""
	rows = [f"    [{i}] {name}  what it does" for i, name in enumerate(NAMES, 1)]
	rows.insert(3, "    ---- waterline ----")
	parts = ['"""Head.\n', *rows, head, '"""', "from __future__ import annotations", imports]
	for i, name in enumerate(NAMES, 1):
		parts += [
			"# " + "=" * 30,
			f"# [{i}] {name} - what it does",
			f"# Uses: {(uses or {}).get(name, 'nothing')}",
		]
		parts.append(bodies.get(name.replace(" ", "_"), f"{name[0]}_{i} = {i}"))
		if name == "DOCTOR":
			parts.append("# The waterline")
	if "COMMAND_LINE" not in bodies:
		parts += ["def main() -> int:", '    """Run."""', "    return 0"]
	parts += ['if __name__ == "__main__":', "    main()"]
	return "\n".join(parts) + "\n"


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_a_well_formed_file_passes(rule: Callable[[Module], list[str]]) -> None:
	text = small(
		uses={"WIRE": "BASICS", "LINKS": "BASICS,\n# WIRE", "CONTROLLER": "LINKS"},
		head="\nThreads:\n\n    pump      LINKS\n    link-*    LINKS\n",
		imports="import re\nimport socket\nimport threading\nfrom typing import Final",
		BASICS='class Counters:\n    """Counts."""\n    lock = threading.Lock\nONE: Final = 1',
		WIRE='WORD = re.compile("x")\n\ndef pack(c: Counters) -> int:\n    """Pack."""\n    return ONE',
		LINKS='def run(n: int) -> "Counters":\n    """Run."""\n    pack(ONE)\n    socket.socket()\n'
		'    threading.Thread(name="pump")\n    threading.Thread(name=f"link-{n}")\n    return Counters()',
		CONTROLLER='class Link:\n    """Has pack as its own name."""\n    SERVER_1: int = 3\n'
		"    def _go(self, pack: int) -> int:\n        return pack + len([run for run in (run(1),)])",
	)
	assert rule(Module(text)) == []


BROKEN: list[tuple[Callable[[Module], list[str]], str, str]] = [
	(banners, "the map says", small().replace("    [2] WIRE", "    [2] WIRES")),
	(banners, "not numbered", small().replace("[2] WIRE", "[7] WIRE")),
	(banners, "LINKS has 1501 lines", small(LINKS="# long\n" * 1_497 + "L_4 = 4")),
	(banners, "no line '# Uses", small().replace("# Uses: nothing", "#", 1)),
	(banners, "LINKS is empty", small(LINKS="")),
	(waterline, "right behind DOCTOR", small().replace("# The waterline", "# A line")),
	(waterline, "right behind DOCTOR", small().replace("    ---- waterline ----\n", "")),
	(uses_lists, "WIRE uses BASICS (B_1), not listed", small(WIRE="X = B_1")),
	(uses_lists, "WIRE uses BASICS", small(WIRE="def f(x: B_1) -> None: ...")),
	(uses_lists, "WIRE uses BASICS", small(WIRE="def f(x: 'list[B_1]') -> None: ...")),
	(uses_lists, "WIRE uses BASICS", small(WIRE="def f():\n    return lambda: [B_1 for _ in ()]")),
	(uses_lists, "WIRE uses BASICS", small(WIRE="@B_1\nclass X:\n    pass")),
	(uses_lists, "lists BASICS and does not use", small(uses={"WIRE": "BASICS"})),
	(
		uses_lists,
		"lists BASICS and does not use",
		small(uses={"WIRE": "BASICS"}, WIRE="def f(B_1):\n    return B_1"),
	),
	(uses_lists, "not above it", small(uses={"WIRE": "DOCTOR"}, WIRE="def f():\n    return C_3")),
	(uses_lists, "not above it", small(uses={"WIRE": "NONSENSE"})),
	(before_it_stands, "X is used at import", small(WIRE="Y = X\nX = 1")),
	(before_it_stands, "X is used at import", small(WIRE="class Y(X): ...\nclass X: ...")),
	(before_it_stands, "X is used at import", small(WIRE="def f(a=X): ...\nX = 1")),
	(before_it_stands, "X is used at import", small(WIRE="class Y:\n    z = [X for _ in range(2)]\nX = 1")),
	(top_to_bottom, "names are used before", small(WIRE="def f():\n    return g()\ndef g(): ...")),
	(owned_modules, "WIRE uses socket", small(imports="import socket", WIRE="def f(): socket.socket()")),
	(
		owned_modules,
		"WIRE uses socket.AF_INET",
		small(imports="from socket import AF_INET", WIRE="X = AF_INET"),
	),
	(owned_modules, "CONTROLLER uses cv2", small(CONTROLLER="def f():\n    import cv2\n    cv2.x()")),
	(
		owned_modules,
		"A uses tkinter",
		small(imports="if TYPE_CHECKING:\n    import tkinter as tk", A="x: tk.Tk"),
	),
	(
		owned_modules,
		"LINKS uses cryptography.x509",
		small(LINKS="def f():\n    from cryptography import x509"),
	),
	(pure_above_waterline, "WIRE uses time", small(imports="import time", WIRE="def f(): time.time()")),
	(pure_above_waterline, "WIRE uses os.path", small(imports="from os import path", WIRE="def f(): path")),
	(
		pure_above_waterline,
		"WIRE uses pathlib.Path",
		small(imports="from pathlib import Path", WIRE="X: Path"),
	),
	(pure_above_waterline, "WIRE uses builtins.open", small(WIRE="def f(): open('x')")),
	(
		pure_above_waterline,
		"BASICS uses threading",
		small(imports="import threading", BASICS="X: threading.Lock"),
	),
	(unused_imports_of_owned, "ssl is imported", small(imports="import ssl")),
	(no_work_at_import, "work at import", small(WIRE="print(1)")),
	(no_work_at_import, "work at import", small(WIRE="for x in (1,): pass")),
	(no_work_at_import, "work at import", small(WIRE="class X:\n    print(1)")),
	(no_work_at_import, "a constant calls os.getcwd", small(WIRE="X = os.getcwd()")),
	(no_work_at_import, "a constant calls f", small(WIRE="X = {1: [f(y) for y in (1,)]}")),
	(no_work_at_import, "a constant calls f", small(LINKS="def f(): ...\nX = f()")),
	(no_work_at_import, "a constant calls open('x').read", small(WIRE="X = open('x').read()")),
	(no_work_at_import, "work at import", small(WIRE="if sys.argv:\n    X = 1")),
	(no_work_at_import, "work at import", small(imports="try:\n    X = 1\nexcept OSError:\n    raise")),
	(no_work_at_import, "work at import", small(imports="try:\n    import x\nexcept OSError:\n    x = 1")),
	(no_work_at_import, "no main guard", small().rpartition("if __name__")[0]),
	(no_work_at_import, "not the last", small() + "X = 1\n"),
	(no_work_at_import, "not the last", small(imports='if __name__ == "__main__":\n    print(1)')),
	(no_work_at_import, "not the last", small(WIRE='if __name__ == "__main__":\n    gc.disable()')),
	(forbidden_statements, "bare except", small(WIRE="def f():\n    try: ...\n    except: ...")),
	(forbidden_statements, "global X", small(WIRE="def f():\n    global X\n    X = 1")),
	(docstrings, "f has no docstring", small(WIRE="def f(): ...")),
	(docstrings, "X has no docstring", small(WIRE="class X: ...")),
	(
		docstrings,
		"X.f has no docstring",
		small(WIRE='class X:\n    """X."""\n    def f(self):\n        x = 1\n        return x'),
	),
	(
		docstrings,
		"Y.g has no docstring",
		small(
			WIRE='''class X:
    """X."""
    def f(self):
        """F."""
class Y(X):
    """Y."""
    def f(self):
        x = 1
        return x
    def g(self):
        x = 1
        return x'''
		),
	),
	(siblings, "CONTROLLER names SERVER", small(uses={"CONTROLLER": "SERVER"}, CONTROLLER="X = S_5")),
	(siblings, "SERVER names CONTROLLER", small(SERVER="def f() -> C_6: ...")),
	(one_clock, "line 41: time.monotonic", small(SERVER="def f() -> float:\n    return time.monotonic()")),
	(short_classes, "X has 351 lines", small(WIRE="class X:\n" + "    x = 1\n" * 350)),
	(short_main, "main has 16 lines", small(COMMAND_LINE="def main():\n" + "    x = 1\n" * 15)),
	(short_main, "no main", small(COMMAND_LINE="X = 1")),
	(thread_names, "without a literal name", small(LINKS="def f(): threading.Thread(target=f)")),
	(thread_names, "without a literal name", small(LINKS="def f(x): Thread(target=f, name=x)")),
	(thread_names, "pump is not in", small(head="Threads:\n    a  b", LINKS="def f(): Thread(name='pump')")),
	(
		thread_names,
		"thread ear is not in",
		small(
			head="Threads:\n    pump  LINKS",
			LINKS="class W:\n    def __init__(self, name): Thread(name=name)\ndef go(name): W(name)\n"
			"def f(): W(name='pump')\ndef g(): go('ear')",
		),
	),
	(thread_names, "the table has a", small(head="Threads, each with its end:\n    a  b\n\n    c  d")),
]


@pytest.mark.parametrize(("rule", "complaint", "text"), BROKEN, ids=lambda x: getattr(x, "__name__", ""))
def test_a_broken_file_fails(rule: Callable[[Module], list[str]], complaint: str, text: str) -> None:
	complaints = rule(Module(text))
	assert any(complaint in line for line in complaints), complaints


def test_every_rule_has_a_broken_file() -> None:
	assert {rule for rule, _, _ in BROKEN} == set(RULES)
