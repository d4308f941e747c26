"""Languages: every sentence of the window is in the one table, in every language, and none bypasses it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

import pytest
from test_sections import dotted, product, the_program

import connectsphere as cs

CODES = [code for code, _ in cs.LANGUAGES]
PLACE = re.compile(r"\{\w+\}")
SENTENCE = re.compile(r"[A-Z]?[a-z]+[ ,'].*[a-z].*|[A-Z][a-z]+[.…!?]?")
# What looks like words but is none: classes and options of Tk, names of fonts, units.
NO_WORDS = {
	"Entry", "Text", "TEntry", "Menu", "Segoe UI Variable Text", "Segoe UI", "Inter",
	"SF Pro Text", "Noto Sans", "DejaVu Sans", "TkDefaultFont", "Downloads", "ConferenceFiles", "Escape",
	"English", "Host", "quiet attendees", "quiet hands", "class files", "class work", "host attendees",
	"person tile", "tile screen", "Fonts", "Esc", "Enter", "Space", "Return",
	"There is no display, or no font, for a window: use --headless.",
}  # fmt: skip
SHOWN_OR_TOLD = {"WIDGETS", "WINDOW", "COMMAND LINE"}  # sections that translate themselves, or have no window
# What a sentence from below the window looks like.
WHOLE = re.compile(r"[A-Z“{].* .*\.", re.DOTALL)
# What no window shows: it goes to the terminal or the log alone; and what simulated people write.
UNSEEN = {
	"There is no picture of {name} yet.", "There are {count} meetings: choose one with --join.",
	"“{title}” at {address} is hosted by someone new here: join it with --join.",
	"In 7 of 7 seconds somebody was not seen or not heard.", "All 7 were seen and heard throughout.",
	"Yes, and the sound is clear.", "I have a question about the clouds.", "Page 42, the water cycle.",
	"Then start it.",
	"The device was closed.",  # and who reads on is told, which the program does not
}  # fmt: skip


def window_nodes() -> Iterator[ast.AST]:
	"""The functions and classes of the window's sections, and the table of commands; no other table."""
	for section in product().sections:
		if section.name in ("DRAWING", "WIDGETS", "STAGE", "PANELS", "DIALOGS", "WINDOW"):
			for statement in section.body:
				words = isinstance(statement, ast.FunctionDef | ast.ClassDef)
				if words or (
					isinstance(statement, ast.AnnAssign) and ast.unparse(statement.target) == "COMMANDS"
				):
					yield statement


def sentences(tree: ast.AST) -> Iterator[tuple[int, str]]:
	"""Constants that read like words for the user, but for docstrings, what is logged, and keys of Tk."""
	silent: set[int] = set()
	for node in ast.walk(tree):
		if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
			silent.add(id(node.value))
		called = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
		if called.startswith("log.") or called == "getattr" or called.endswith(".bind"):
			silent |= {id(one) for one in ast.walk(node)}
		if (isinstance(node, ast.arg) and node.annotation) or isinstance(node, ast.AnnAssign):
			silent |= {id(one) for one in ast.walk(node.annotation)} if node.annotation else set()
		if isinstance(node, ast.FunctionDef) and node.returns:
			silent |= {id(one) for one in ast.walk(node.returns)}
	for node in ast.walk(tree):
		words = node.value if isinstance(node, ast.Constant) and id(node) not in silent else None
		if isinstance(words, str) and SENTENCE.fullmatch(words) and words not in NO_WORDS:
			assert isinstance(node, ast.Constant)
			yield node.lineno, words


def translated(tree: ast.AST) -> Iterator[str]:
	"""The literals given to tr."""
	for node in ast.walk(tree):
		called = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
		if isinstance(node, ast.Call) and called == "tr" and node.args:
			yield from [one.value for one in node.args[:1] if isinstance(one, ast.Constant)]


def filled(node: ast.AST) -> Iterator[str]:
	"""A literal with what may stand for its values; nothing for what is no text."""
	if isinstance(node, ast.Constant) and isinstance(node.value, str):
		yield node.value
	elif isinstance(node, ast.JoinedStr):
		yield "".join(
			str(getattr(part, "value", "")) if isinstance(part, ast.Constant) else "7" for part in node.values
		)


def from_below(tree: ast.AST) -> Iterator[str]:
	"""The whole sentences in `tree` but for docstrings and what is logged."""
	silent: set[int] = set()
	for node in ast.walk(tree):
		called = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
		if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
			silent.add(id(node.value))
		elif called.startswith("log."):
			silent |= {id(one) for one in ast.walk(node)}
		elif isinstance(node, ast.JoinedStr):
			silent |= {id(one) for one in node.values}
	for node in ast.walk(tree):
		if id(node) not in silent:
			yield from (words for words in filled(node) if WHOLE.fullmatch(words))
	yield from (words for _, words in cs.CODES)


@pytest.mark.parametrize("code", CODES)
def test_every_sentence_is_in_every_language(code: str) -> None:
	missing = [text for text, others in cs.tr.table.items() if not others.get(code, "").strip()]
	assert missing == []


def test_a_translation_has_the_places_of_its_sentence() -> None:
	wrong = [
		(text, code)
		for text, others in cs.tr.table.items()
		for code, words in others.items()
		if sorted(PLACE.findall(words)) != sorted(PLACE.findall(text))
	]
	assert wrong == []


@pytest.mark.parametrize("key", ["Space", "Esc", "Enter"])
def test_a_key_is_called_in_sentences_as_it_is_in_lists(key: str) -> None:
	names, named = cs.tr.table[key], re.compile(rf"\b{key}\b")
	wrong = [
		(text, code)
		for text, others in cs.tr.table.items()
		for code, words in others.items()
		if named.search(text) and names[code] not in words
	]
	assert wrong == []


# Spanish that says usted where the window says tú.
FORMAL = re.compile(
	r"(?:^|[:;,] |\b[oy] )(?:compruebe|conecte|permita|espere|salga|use|entre|haga|cierre|cree|borre|copie"
	r"|elija|pregunte|escriba|pida|apague|pruebe|vuelva|instale)\b"
	r"|(?:permíta|arrégle|elíja|inténte)l[aeo]"
	r"|\b(?:usted|detenga|(?<!se )puede (?:participar|escuchar|ver|escribir)|le (?:verá|oirá))\b",
	re.IGNORECASE,
)


def test_spanish_says_tu_and_french_knows_one_word_for_the_host() -> None:
	assert [words for others in cs.tr.table.values() if FORMAL.search(words := others["es"])] == []
	assert [words for others in cs.tr.table.values() if re.search(r"\bhôte", words := others["fr"])] == []


@the_program
def test_what_is_translated_is_in_the_table() -> None:
	assert sorted(set(translated(product().tree)) - set(cs.tr.table)) == []


@the_program
def test_no_sentence_of_the_window_bypasses_the_table() -> None:
	found = [one for tree in window_nodes() for one in sentences(tree) if one[1] not in cs.tr.table]
	assert found == []


def test_the_search_for_bypasses_can_fail() -> None:
	tree = ast.parse(
		'def f():\n    "Not this one."\n    label(tr("Who is here"))\n    label("Say it here")\n'
	)
	assert sorted(words for _, words in sentences(tree)) == ["Say it here", "Who is here"]
	assert list(translated(tree)) == ["Who is here"]


def test_a_sentence_knows_itself_in_every_language(monkeypatch: pytest.MonkeyPatch) -> None:
	refused = cs.Refused("share_busy", name="Ana")
	assert (str(refused), refused.told) == ("Ana shares the screen", {"code": "share_busy", "name": "Ana"})
	monkeypatch.setattr(cs.tr, "language", "es")
	assert cs.tr(refused.reason) == "Ana comparte la pantalla"
	assert cs.tr("The meeting is full.") == "La reunión está llena."
	assert cs.tr("Nobody ever said this.") == "Nobody ever said this."
	assert cs.tr("{count} people", count=3) == "3 personas"


@pytest.mark.parametrize(
	("message", "words"),
	[
		({"code": "too_large", "size": 2_000_000_000}, "Files may have 2.0 GB at most."),
		({"code": "too_large", "count": 4_000}, "A message has 4000 characters at most."),
		({"code": "too_large"}, "The meeting has no room for more files."),
		({"code": "too_large", "why": "person", "count": 3}, "One person may offer 3 files at most."),
		({"code": "not_allowed", "why": "removed"}, "The host removed you from the meeting."),
		({"code": "not_allowed", "why": "unheard_of", "name": "{Ana}"}, "Only the host may do that."),
		({"code": "bad_command", "fault": "bad_field", "key": "up"}, "“up” is missing or of the wrong kind."),
		({"code": "bad_command", "fault": "bad_json"}, "That was not understood: bad_json."),
		({"code": "of_a_later_version", "name": "Ana"}, "The host refused it: of_a_later_version."),
	],
)
def test_a_code_and_its_values_are_a_sentence_whatever_version_says_them(
	message: cs.Json, words: str
) -> None:
	assert cs.refusal({"type": "error", "ref": 7, **message}).event == {**message, "reason": words}


def english_left(tree: ast.AST) -> set[str]:
	"""The sentences in `tree` that the table does not know."""
	return {words for words in from_below(tree) if words not in cs.tr.table}


@the_program
def test_every_sentence_from_below_is_translated() -> None:
	below = [section.body for section in product().sections if section.name not in SHOWN_OR_TOLD]
	assert english_left(ast.Module([statement for body in below for statement in body], [])) == UNSEEN


def test_the_search_for_english_can_fail() -> None:
	told = ast.parse(
		'def f(self):\n    "Not this one."\n    log.info("Nor this one.")\n'
		'    self.refuse(Refused("full", "The meeting is full."))\n'
		'    raise DeviceError(f"Nobody {ever} said this.")\n'
		'    with _locally("disk", "{path} is not here."): pass\n'
	)
	assert english_left(told) == UNSEEN & {words for _, words in cs.CODES} | {
		"Nobody 7 said this.",
		"{path} is not here.",
	}


@pytest.mark.parametrize(
	("words", "spanish"),
	[
		(cs.Words("This computer has no {what}.", what=cs.Words("microphone")), "no tiene micrófono."),
		(
			cs.Words(
				"{what}: {trouble}",
				what=cs.Words("No speaker"),
				trouble=cs.Words("This computer has no {what}.", what=cs.Words("speaker")),
			),
			"Sin altavoz: Este equipo no tiene altavoz.",
		),
		(
			cs.Words("No meeting answers at {address} ({fault}).", address="::1", fault=cs.Words("refused")),
			"en ::1 (conexión rechazada).",
		),
		(
			cs.Refused(
				"disk", cs.UNSAVED[1], path="a", fault=cs.system_words(OSError(28, "No space left on device"))
			).reason,
			"guardar a: no queda espacio en el disco.",
		),
		(cs.Words("Default ({name})", name="Speaker"), "Predeterminado (Speaker)"),
		(cs.Words("Camera {number}", number=2), "Cámara 2"),
		(cs.Refused("share_busy", name="Host").reason, "Host comparte la pantalla"),
	],
)
def test_our_own_words_in_a_sentence_are_translated_too_but_names_are_not(
	words: cs.Words, spanish: str, monkeypatch: pytest.MonkeyPatch
) -> None:
	monkeypatch.setattr(cs.tr, "language", "es")
	assert cs.tr(words).endswith(spanish)


@pytest.mark.parametrize(("value", "code"), [("fr_CH.UTF-8", "fr"), ("es", "es"), ("C", "en"), ("", "en")])
def test_the_system_chooses_the_language(value: str, code: str, monkeypatch: pytest.MonkeyPatch) -> None:
	for name in ("LC_ALL", "LC_MESSAGES"):
		monkeypatch.delenv(name, raising=False)
	monkeypatch.setenv("LANG", value)
	monkeypatch.setattr("sys.platform", "linux")
	assert cs.system_language() == code


def test_hindi_is_offered_where_it_is_shaped(monkeypatch: pytest.MonkeyPatch) -> None:
	for platform, there in (("linux", False), ("win32", True), ("darwin", True)):
		monkeypatch.setattr("sys.platform", platform)
		assert cs.offered("hi") is there and cs.offered("es")


@pytest.mark.parametrize("text", ["مرحبا", "שלום", "नमस्ते", "ﷺ"])
def test_what_tk_shapes_itself_is_left_to_it(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
	"""Pillow for Windows cannot: it lacks FriBiDi."""
	for platform, drawn in (("linux", True), ("win32", False), ("darwin", False)):
		monkeypatch.setattr("sys.platform", platform)
		assert cs.shaped(text) is drawn and not cs.shaped("Zoë")


@the_program
def test_pillow_writes_only_what_tk_cannot_and_initials() -> None:
	writes = {
		node.name
		for node in ast.walk(product().tree)
		if isinstance(node, ast.FunctionDef)
		and any(dotted(one.func) == "fonts" for one in ast.walk(node) if isinstance(one, ast.Call))
	}
	assert writes == {"draw_avatar", "tile_marks", "measure", "written"}


@pytest.mark.parametrize(
	("name", "letters"),
	[
		("Ana Maria de Souza", "AS"), ("Ms. (Lee)", "M"), ("ليلى أحمد", "ل"), ("דניאל כהן", "ד"),
		("अनन्या शर्मा", "अश"), ("李小龙", "李"), ("7 b", "7B"), ("…", "?"), ("", "?"),
	],
)  # fmt: skip
def test_initials_are_letters_that_nothing_has_to_shape(name: str, letters: str) -> None:
	assert cs.initials(name) == letters
