"""From source: the zipapp, the packages named, and what is said and still works where one is missing."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from headless import PROGRAM, ROOT, Headless, environment, free_base
from screens import xvfb
from waiting import wait_until

HOME = "127.0.0.1"


@pytest.fixture
def without(tmp_path: Path) -> Path:
	"""A folder for PYTHONPATH; a module put there stands for one that cannot be imported."""
	folder = tmp_path / "missing"
	folder.mkdir()
	return folder


def pretend_missing(folder: Path, name: str, error: str) -> dict[str, str]:
	"""Environment in which `import name` raises ImportError(error)."""
	(folder / f"{name}.py").write_text(f"raise ImportError({error!r}, name={name!r})\n")
	return {"PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)])}


@pytest.mark.parametrize("package", ["numpy", "cryptography", "ifaddr"])
def test_without_a_needed_package(package: str, without: Path, tmp_path: Path) -> None:
	env = environment(tmp_path / "home", pretend_missing(without, package, f"No module named '{package}'"))
	done = subprocess.run([*PROGRAM, "--version"], env=env, cwd=tmp_path, capture_output=True, text=True)
	assert done.returncode == 1
	assert "Traceback" not in done.stderr
	assert f"No module named '{package}'" in done.stderr
	assert re.search(f"pip install .*{package}", done.stderr)


@pytest.mark.skipif(shutil.which("xdotool") is None, reason="needs xdotool")
def test_the_window_stands_before_numpy_is_loaded(without: Path, tmp_path: Path) -> None:
	"""That takes a seventh of a start; where it is missing, the window says so."""
	asked = tmp_path / "asked"
	(without / "numpy.py").write_text(f"open({str(asked)!r}, 'w').close()\nraise ImportError('none here')\n")
	search = ("xdotool", "search", "--onlyvisible", "--class", "connectsphere")
	with xvfb("1280x800") as (name, _):
		more = {"PYTHONPATH": os.pathsep.join([str(without), str(ROOT)]), "DISPLAY": name}
		env = environment(tmp_path / "home", more)
		args = (*PROGRAM, "--bind", HOME, "--port", str(free_base()))
		with subprocess.Popen(args, env=env, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as window:
			wait_until(lambda: subprocess.run(search, env=env, check=False, capture_output=True).stdout, 40)
			wait_until(asked.exists, 40)
			assert window.poll() is None
			window.terminate()
			assert "Traceback" not in window.communicate(timeout=20)[1]


def test_without_pyaudio_the_meeting_runs(without: Path, tmp_path: Path) -> None:
	env = pretend_missing(without, "pyaudio", "No module named 'pyaudio'")
	args = ("--host", "--bind", HOME, "--port", str(free_base()), "--camera", "none")
	one = Headless(args, tmp_path / "home", env=env)
	try:
		one.wait("joined", timeout=40)
		one.send(do="mic", on=True)
		told = one.wait("device", 20, what="mic", state="failed")
		assert "PyAudio" in told["reason"]
		assert "pip install pyaudio" in told["reason"]
		one.wait("device", 20, what="speaker", state="failed")
		one.send(do="chat", text="still here")
		one.wait("chat", text="still here")
	finally:
		one.close()
	assert "Traceback" not in one.errors()


def test_without_opencv_the_meeting_runs(without: Path, tmp_path: Path) -> None:
	env = pretend_missing(without, "cv2", "libGL.so.1: cannot open shared object file")
	silent = ("--camera", "pattern", "--mic", "none", "--speaker", "none")
	one = Headless(
		("--host", "--bind", HOME, "--port", str(free_base()), *silent), tmp_path / "home", env=env
	)
	try:
		one.wait("joined", timeout=40)
		one.send(do="camera", on=True)
		told = one.wait("device", 20, what="camera", state="failed")
		assert "libGL.so.1" in told["reason"]
		assert sys.platform != "linux" or "apt install libgl1" in told["reason"]
		one.send(do="chat", text="still here")
		one.wait("chat", text="still here")
	finally:
		one.close()
	assert "Traceback" not in one.errors()


def test_the_zipapp_runs_and_its_children_too(tmp_path: Path) -> None:
	made = Path("a new folder", "connectsphere.pyz")  # as build/dist is in a fresh clone
	subprocess.run([ROOT / "build" / "zipapp.sh", made], check=True, timeout=60, cwd=tmp_path)
	program = (sys.executable, str(tmp_path / made))
	silent = ("--camera", "none", "--mic", "none", "--speaker", "none")
	args = ("--host", "--bind", HOME, "--port", str(free_base()), *silent)
	one = Headless(args, tmp_path / "home", program=program, env={"PYTHONPATH": ""})
	try:
		assert one.wait("joined", timeout=40)["role"] == "host"
	finally:
		assert one.close(30) == 0


def test_a_script_whose_name_holds_a_dot_hosts_with_sound(tmp_path: Path) -> None:
	script = tmp_path / "connectsphere-1.0.py"
	script.write_bytes((ROOT / "connectsphere.py").read_bytes())
	base = str(free_base())
	quiet = ("--bind", HOME, "--camera", "none", "--speaker", "none")
	args = ("--host", "--port", base, "--name", "Ana", "--mic", "tone", *quiet)
	ana = Headless(args, tmp_path / "ana", program=(sys.executable, str(script)))
	try:
		ana.wait("joined", timeout=40)
		ana.send(do="mic", on=True)
		ben = Headless(
			("--join", f"{HOME}:{base}", "--name", "Ben", "--mic", "none", *quiet), tmp_path / "ben"
		)
		try:
			ben.wait("speaking", timeout=40, name="Ana")
		finally:
			ben.close()
	finally:
		assert ana.close(30) == 0
	assert ana.errors() == ""


def test_a_mixer_that_cannot_start_is_said_in_one_sentence(without: Path, tmp_path: Path) -> None:
	broken = "import os, sys\nif '--mixer' in sys.orig_argv: os._exit(3)\n"
	(without / "sitecustomize.py").write_text(broken)
	args = ("--serve", "--bind", HOME, "--port", str(free_base()))
	one = Headless(args, tmp_path / "home", env={"PYTHONPATH": f"{without}{os.pathsep}{ROOT}"})
	assert one.process.wait(40) == 1
	one.close()
	assert one.errors().count("The host's computer cannot mix the sound.") == 1


def test_the_script_names_what_the_package_needs() -> None:
	"""`uv run connectsphere.py` and `pip install .` fetch the same."""
	header = (ROOT / "connectsphere.py").read_text(encoding="utf-8").split("# /// script\n")[1]
	lines = header.split("# ///")[0].splitlines()
	script = tomllib.loads("\n".join(line.removeprefix("#") for line in lines))
	package = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
	assert script["dependencies"] == package["dependencies"]
	assert script["requires-python"] == package["requires-python"]
	assert str(package["dependencies"]).count("pyaudio") == 1
