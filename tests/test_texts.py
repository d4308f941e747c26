"""Languages: every sentence of the window is in the one table, in every language, and none bypasses it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

import pytest
from test_sections import SOURCE, Module

import connectsphere as cs

CODES = [code for code, _ in cs.LANGUAGES]
PLACE = re.compile(r"\{\w+\}")
SENTENCE = re.compile(r"[A-Z]?[a-z]+[ ,'].*[a-z].*|[A-Z][a-z]+[.…!?]?")
# What looks like words but is none: classes and options of Tk, names of fonts, units.
NO_WORDS = {
    "Overlay", "Frame", "Entry", "Text", "TEntry", "Menu", "Segoe UI Variable Text", "Segoe UI", "Inter",
    "SF Pro Text", "Noto Sans", "DejaVu Sans", "TkDefaultFont", "Downloads", "ConferenceFiles", "Escape",
    "English", "Host",
    "Fonts", "Esc", "Enter", "Space", "There is no display for a window: use --headless.",
}  # fmt: skip
MODULE = Module(SOURCE.read_text("utf-8"))


def window_nodes() -> Iterator[ast.AST]:
    """The functions and classes of WIDGETS and WINDOW; tables of shapes and of texts are left out."""
    for section in MODULE.sections:
        if section.name in ("WIDGETS", "WINDOW"):
            for statement in section.body:
                if isinstance(statement, ast.FunctionDef | ast.ClassDef):
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
        if isinstance(node, ast.Call) and called in ("tr", "tr.said") and node.args:
            yield from [one.value for one in node.args[:1] if isinstance(one, ast.Constant)]


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


def test_what_is_translated_is_in_the_table() -> None:
    assert sorted(set(translated(MODULE.tree)) - set(cs.tr.table)) == []


def test_no_sentence_of_the_window_bypasses_the_table() -> None:
    found = [one for tree in window_nodes() for one in sentences(tree) if one[1] not in cs.tr.table]
    assert found == []


def test_the_search_for_bypasses_can_fail() -> None:
    tree = ast.parse(
        'def f():\n    "Not this one."\n    label(tr("Who is here"))\n    label("Say it here")\n'
    )
    assert sorted(words for _, words in sentences(tree)) == ["Say it here", "Who is here"]
    assert list(translated(tree)) == ["Who is here"]


def test_a_sentence_from_below_is_recognised_with_its_values(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cs.tr, "language", "es")
    assert cs.tr.said("Ana is sharing already.") == "Ana ya está compartiendo."
    assert cs.tr.said("The meeting is full.") == "La reunión está llena."
    assert cs.tr.said("Nobody ever said this.") == "Nobody ever said this."
    assert cs.tr("{count} people", count=3) == "3 personas"


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
