"""Parts of the window without a window: whom a draft goes to, what closes it, what stays of it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

import connectsphere as cs

NAMES = ["Ms Lee", "Ana", "Ben"]  # the host is first


class Draft:
	"""The composer with what was written in it, as Tk would hold it."""

	def __init__(self) -> None:
		self.words = ""
		self.composer: Any = object.__new__(cs.Composer)
		target = SimpleNamespace(value="", options=[], faint=False)
		target.fill = lambda options, value: vars(target).update(options=options, value=value)
		parts = {"target": target, "_names": [], "_all": True, "_stead": None, "_hint": lambda: None}
		entry = SimpleNamespace(focus_set=lambda: None)
		vars(self.composer).update(parts, text=lambda: self.words, entry=entry)

	@property
	def to(self) -> str:
		return str(self.composer.target.value)


@pytest.mark.parametrize("to_all", [True, False])
@pytest.mark.parametrize("words", ["", "between us"])
@pytest.mark.parametrize("reader", ["Ms Lee", "Ben"])
def test_who_was_chosen_reads_it_whatever_is_allowed_meanwhile(reader: str, words: str, to_all: bool) -> None:
	one = Draft()
	one.composer.people(NAMES, to_all)
	one.composer.to(reader)
	one.words = words
	for allowed in (not to_all, to_all, not to_all):
		one.composer.people(NAMES, allowed)
		assert one.to == reader


def test_a_draft_goes_to_its_reader_in_another_look_while_nobody_writes_to_everyone() -> None:
	one = Draft()
	one.composer._aim("Ben")  # as it is given to the new composer
	one.composer.people(NAMES, False)
	assert one.to == "Ben"


def test_the_host_reads_in_place_of_everyone_and_what_was_written_then_stays_hers() -> None:
	one = Draft()
	for words, then in (("", ""), ("between us", "Ms Lee")):
		one.composer.people([], False)
		assert one.to == "", "nobody is there"
		one.composer.people(NAMES, False)
		assert one.to == "Ms Lee"
		one.words = words
		one.composer.people(NAMES, True)
		assert one.to == then
