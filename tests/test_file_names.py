"""Names that other people choose: what is left of them, on every platform."""

from __future__ import annotations

import unicodedata
from pathlib import PurePosixPath, PureWindowsPath

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from connectsphere import BLOCKED, MAX_FILE_NAME, is_executable_name, safe_file_name, unique_name

DEVICES = ["CON", "PRN", "AUX", "NUL", *(f"{n}{i}" for n in ("COM", "LPT") for i in "0123456789¹²³")]
HOSTILE = [
	"",
	".",
	"..",
	"...",
	" ",
	"/",
	"\\",
	"../../etc/passwd",
	"..\\..\\Windows\\System32\\drivers\\etc\\hosts",
	"/etc/shadow",
	"C:\\autoexec.bat",
	"C:evil.txt",
	"\\\\server\\share\\x.txt",
	"\\\\?\\C:\\x",
	"\\\\.\\PhysicalDrive0",
	"a/b\\c/../d.txt",
	"..\u2215..\u2215x",
	"a\0b.txt",
	"a\nb\r\x1b[31m.txt",
	"photo\u202egpj.exe",
	"\u200bhidden\ufeff.txt",
	"a:ads",
	"a.txt::$DATA",
	"x.",
	"x. . .",
	"trailing space ",
	"nbsp\u00a0",
	".bashrc",
	"~/.ssh/authorized_keys",
	'<>:"|?*',
	"CON",
	"con.txt",
	"Con .tar.gz",
	"nul.",
	"COM¹",
	"lpt9.anything.txt",
	"CONIN$",
	"a" * 5000,
	"é" * 5000 + ".pdf",
	"a." + "b" * 5000,
	"💩" * 300 + ".exe",
	"e\u0301" * 400,
	"\ud800surrogate",
	"\uffff",
	"x.{3050f4d8-98b5-11cf-bb82-00aa00bdce0b}",
	"desktop.ini",
	"Desktop.INI ",
	"a.blocked",
	".blocked",
	"..exe.blocked",
	*DEVICES,
	*(f"{device.lower()} .x.y" for device in DEVICES),
]

PROGRAMS = """
    a.exe A.EXE a.pdf.exe a.exe. a.bat a.Cmd a.com a.scr a.msi a.ps1 a.vbs a.js a.hta a.jar a.reg a.py a.sh
    a.command a.AppImage a.pif a.cpl a.dll x.{00021401-0000-0000-C000-000000000046}
"""
SHELL_KINDS = """
    a.lnk a.URL a.scf x.library-ms x.search-ms desktop.ini a.theme autorun.inf a.desktop
    x.searchConnector-ms a.webloc
"""


def harmless(name: str) -> None:
	assert name
	assert PurePosixPath(name).name == name
	assert PureWindowsPath(name).name == name
	assert not PureWindowsPath(name).is_reserved()
	assert not PureWindowsPath(name).drive
	assert not set(name) & set('<>:"/\\|?*')
	assert not any(unicodedata.category(char)[0] == "C" for char in name)
	assert name == name.strip(" .")
	assert not any(char.isspace() and char != " " for char in name)
	assert name.split(".")[0].rstrip().upper() not in DEVICES
	assert len((name + " (999).part").encode()) <= 255
	assert safe_file_name(name) == name


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_name_is_harmless(text: str) -> None:
	harmless(safe_file_name(text))


@given(st.text() | st.text(alphabet='./\\: con123comCOM¹²³\u0301\u202eé{}$exe*"blocked', max_size=300))
@example("a" * (MAX_FILE_NAME - 3) + ".exe")
@example("con." + "x" * 300)
def test_any_name_is_harmless(text: str) -> None:
	harmless(safe_file_name(text))


@pytest.mark.parametrize("name", PROGRAMS.split())
def test_programs_are_marked_and_blocked(name: str) -> None:
	safe = safe_file_name(name)
	assert safe.endswith(BLOCKED)
	assert is_executable_name(name.rstrip("."))
	assert is_executable_name(safe)


@pytest.mark.parametrize("name", [*SHELL_KINDS.split(), "\u202ea.lnk\u200b", "a.lnk. ", "Desktop.INI "])
def test_what_a_shell_acts_on_is_blocked(name: str) -> None:
	assert safe_file_name(name).endswith(BLOCKED)


@pytest.mark.parametrize("name", ["a.pdf", "exe", "a.exe.txt", "settings.ini", "my.exercise", "a.mp4", ""])
def test_documents_are_left_alone(name: str) -> None:
	assert not is_executable_name(name)
	assert not safe_file_name(name).endswith(BLOCKED)


@pytest.mark.parametrize(
	("name", "expected"),
	[("a.pdf", "a (3).pdf"), ("notes", "notes (3)"), ("a.exe.blocked", "a.exe (3).blocked")],
)
def test_unique_name_counts_up(name: str, expected: str) -> None:
	taken = {name, expected.replace("(3)", "(2)")}
	assert unique_name(name, taken.__contains__) == expected
	assert unique_name("free.txt", taken.__contains__) == "free.txt"
