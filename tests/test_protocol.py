"""docs/protocol.md says what is so: codes, messages, SPAKE2's constants and test vector."""

from __future__ import annotations

import ast
import hashlib
import json
import re

import spake2
import wire_examples
from headless import ROOT
from spake2.parameters.ed25519 import ParamsEd25519
from test_sections import product, the_program

import connectsphere as cs

PAGE = (ROOT / "docs" / "protocol.md").read_text("utf-8")


def section(title: str) -> str:
	return PAGE[PAGE.index(f"## {title}") :].split("\n## ")[0]


def first_cells(text: str) -> set[str]:
	"""The names in the first column of tables."""
	rows = re.findall(r"^\| (`[^|]+) \|", text, re.MULTILINE)
	return {name for row in rows for name in re.findall(r"`([a-z_]+)`", row)}


def codes_of(tree: ast.AST) -> set[str]:
	"""The codes that the source gives, and those of the table of sentences."""
	found = {code.partition(".")[0] for code, _ in (*cs.CODES, cs.UNSAVED, cs.UNREAD)}
	for node in ast.walk(tree):
		called = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
		if isinstance(node, ast.Call) and called.rpartition(".")[2] in ("Refused", "deny", "MeetingOver"):
			found |= {
				one.value for one in node.args if isinstance(one, ast.Constant) and " " not in str(one.value)
			}
		elif isinstance(node, ast.Dict):
			pairs = zip(node.keys, node.values, strict=True)
			found |= {ast.literal_eval(v) for k, v in pairs if is_code(k) and isinstance(v, ast.Constant)}
	return {code for code in found if re.fullmatch("[a-z_]+", str(code))}


def is_code(key: ast.expr | None) -> bool:
	return isinstance(key, ast.Constant) and key.value == "code"


@the_program
def test_every_code_is_told_and_none_besides() -> None:
	wire, ours = first_cells(section("Refusals")), first_cells(section("The headless interface"))
	codes = codes_of(product().tree)
	assert {"no_such_person", "elsewhere", "unreachable", "disk"} <= codes
	assert codes - wire - ours == set()
	commands = set(re.findall(r"`([a-z_]+)`", section("The headless interface").split("Codes that")[0]))
	assert wire | (ours - commands) <= codes


def test_every_message_is_told() -> None:
	words = set(re.findall(r"`([a-z_]+)`", PAGE)) | set(re.findall(r'"type":"([a-z_]+)"', PAGE))
	assert {*cs.CLIENT_MESSAGES, *cs.SERVER_MESSAGES} - words == set()


def test_every_message_has_its_example() -> None:
	lines = [json.loads(line) for line in section("Examples").splitlines() if line.startswith("{")]
	examples = (*wire_examples.CLIENT.items(), *wire_examples.SERVER.items())
	assert lines == [{"type": kind, **fields} for kind, fields in examples]


def test_spake2_as_the_page_has_it() -> None:
	text = section("SPAKE2 in full")
	value = dict(re.findall(r"^([A-Zw][^=\n]*?) += ([0-9a-f]{63,66})$", text, re.MULTILINE))
	scalars = dict(re.findall(r"\b([xy]) = `([0-9a-f]{63})`", text))
	assert (value["M"], value["N"]) == (ParamsEd25519.M.to_bytes().hex(), ParamsEd25519.N.to_bytes().hex())
	ids = {"idA": b"connectsphere/1 client", "idB": b"connectsphere/1 host" + b"ab" * 32}
	client = spake2.SPAKE2_A(b"482913", **ids, entropy_f=lambda n: b"\x01" * n)
	host = spake2.SPAKE2_B(b"482913", **ids, entropy_f=lambda n: b"\x02" * n)
	said, answered = client.start(), host.start()
	assert (scalars["x"], scalars["y"]) == (f"{client.xy_scalar:x}", f"{host.xy_scalar:x}")
	assert (said.hex(), answered.hex()) == (value["A ‖ X"], value["B ‖ Y"])
	assert (value["w"], value["K"]) == (f"{client.pw_scalar:x}", client.finish(answered).hex())
	order = 2**252 + 27742317777372353535851937790883648493
	point = (
		client.xy_elem
		if hasattr(client, "xy_elem")
		else ParamsEd25519.group.Base.scalarmult(client.xy_scalar)
	)
	shared = ParamsEd25519.group.bytes_to_element(answered[1:]).add(
		ParamsEd25519.N.scalarmult(order - client.pw_scalar)
	)
	hashed = [hashlib.sha256(one).digest() for one in (b"482913", *ids.values())]
	whole = b"".join([*hashed, said[1:], answered[1:], shared.scalarmult(client.xy_scalar).to_bytes()])
	assert hashlib.sha256(whole).hexdigest() == value["K"]
	assert point.add(ParamsEd25519.M.scalarmult(client.pw_scalar)).to_bytes() == said[1:]
