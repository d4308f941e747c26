"""Giving the app to others, the code for an address, and what is said where a package is missing."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from headless import PROGRAM, ROOT, Headless, environment, free_base
from hypothesis import given
from hypothesis import strategies as st

import connectsphere as cs

HOME = "127.0.0.1"


# --------------------------------------------------------------------------------- the address's code


@given(st.ip_addresses(v=4))
def test_every_address_has_a_code(address: object) -> None:
    code = cs.address_code(str(address))
    assert 4 <= len(code) <= 8
    assert cs.code_address(code) == str(address)
    assert cs.code_address(f" {code[:2]}-{code[2:]}".strip().lower()) == str(address)


@pytest.mark.parametrize(
    ("address", "longest"),
    [
        ("192.168.1.5", 4),
        ("192.168.255.255", 5),
        ("172.31.255.255", 6),
        ("10.77.0.3", 6),
        ("10.255.255.255", 7),
    ],
)
def test_codes_of_a_lan_are_short(address: str, longest: int) -> None:
    assert len(cs.address_code(address)) <= longest


@given(st.ip_addresses(v=4), st.integers(0, 7), st.sampled_from(cs.CODE_LETTERS))
def test_a_wrong_letter_shows(address: object, at: int, letter: str) -> None:
    code = cs.address_code(str(address))
    wrong = code[:at] + letter + code[at + 1 :]
    if len(wrong) == len(code) and wrong != code:
        assert cs.code_address(wrong) is None


@given(st.ip_addresses(v=4), st.integers(0, 6))
def test_swapped_letters_show(address: object, at: int) -> None:
    code = cs.address_code(str(address))
    wrong = code[:at] + code[at : at + 2][::-1] + code[at + 2 :]
    if wrong != code:
        assert cs.code_address(wrong) is None


@given(st.text(max_size=12))
def test_any_text_is_a_code_or_none(text: str) -> None:
    found = cs.code_address(text)
    assert found is None or cs.code_address(cs.address_code(found)) == found


def test_what_looks_alike_is_one() -> None:
    code = next(c for n in range(255) if {"0", "1"} <= set(c := cs.address_code(f"10.0.1.{n}")))
    assert cs.code_address(code.replace("0", "o").replace("1", "l")) == cs.code_address(code)


@pytest.mark.parametrize("text", ["", "127.0.0.1", "localhost", "teacher-pc", "1234"])
def test_addresses_and_names_are_no_codes(text: str) -> None:
    assert cs.code_address(text) is None


def test_resolve_takes_a_code() -> None:
    assert cs.resolve(cs.address_code("10.77.0.3")) == "10.77.0.3"
    assert cs.resolve(HOME) == HOME


# ------------------------------------------------------------------------------- giving the app


@contextlib.contextmanager
def giving(rate: int = cs.GIVE_RATE) -> Iterator[cs.AppGiver]:
    with contextlib.closing(cs.AppGiver(HOME, rate=rate, port=0)) as giver:
        giver.start()
        yield giver


def get(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=10) as answer:
        content: bytes = answer.read()
        return content


def test_the_program_arrives_whole() -> None:
    with giving() as giver:
        page = get(giver.url).decode()
        assert f"{cs.APP_NAME} {cs.VERSION}" in page
        assert giver.sha256 not in page
        assert 'href="/connectsphere.py"' in page
        given_bytes = get(f"{giver.url}/connectsphere.py")
        assert given_bytes == (ROOT / "connectsphere.py").read_bytes()
        assert hashlib.sha256(given_bytes).hexdigest() == giver.sha256


@pytest.mark.parametrize("path", ["/README.md", "/../README.md", "/connectsphere.py/", "/%2e%2e/x"])
def test_nothing_else_is_given(path: str) -> None:
    with giving() as giver, pytest.raises(urllib.error.HTTPError, match="404"):
        get(giver.url + path)


def test_all_together_keep_to_the_rate() -> None:
    rate = 400_000
    with giving(rate) as giver:
        size = giver.path.stat().st_size
        began = time.monotonic()
        assert len(get(f"{giver.url}/{giver.name}")) == size
        assert time.monotonic() - began > 0.9 * (size / rate - 0.25)


def test_closing_ends_what_is_being_sent() -> None:
    """Also to one who does not read, and twice."""
    with giving(100_000) as giver, contextlib.closing(socket.socket()) as idle:
        idle.connect((HOME, int(giver.url.rpartition(":")[2])))
        idle.sendall(f"GET /{giver.name} HTTP/1.0\r\n\r\n".encode())
        assert idle.recv(100)
        began = time.monotonic()
        giver.close()
        giver.close()
        assert time.monotonic() - began < 2.5
        with pytest.raises(urllib.error.URLError):
            get(giver.url)


def test_too_many_are_turned_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cs, "GIVE_AT_ONCE", 1)
    with giving(100_000) as giver, contextlib.closing(socket.socket()) as first:
        address = (HOME, int(giver.url.rpartition(":")[2]))
        first.connect(address)
        first.sendall(f"GET /{giver.name} HTTP/1.0\r\n\r\n".encode())
        assert first.recv(100)
        second = http.client.HTTPConnection(*address, timeout=5)
        with contextlib.closing(second), pytest.raises((http.client.HTTPException, OSError)):
            second.request("GET", "/")
            second.getresponse()


def test_the_qr_code_reads_back() -> None:
    cv2 = pytest.importorskip("cv2")
    picture = cs.qr_picture("http://192.168.1.5:9003", 300)
    assert picture.dtype == "uint8"
    assert 200 <= picture.shape[0] == picture.shape[1] <= 300
    assert cv2.QRCodeDetector().detectAndDecode(picture)[0] == "http://192.168.1.5:9003"


# ------------------------------------------------------------------------------- what is missing


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


def test_without_a_needed_package(without: Path, tmp_path: Path) -> None:
    env = environment(tmp_path / "home", pretend_missing(without, "numpy", "No module named 'numpy'"))
    done = subprocess.run([*PROGRAM, "--version"], env=env, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "No module named 'numpy'" in done.stderr
    assert "pip install numpy" in done.stderr


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
    subprocess.run([ROOT / "build" / "zipapp.sh", tmp_path / "connectsphere.pyz"], check=True, timeout=60)
    program = (sys.executable, str(tmp_path / "connectsphere.pyz"))
    silent = ("--camera", "none", "--mic", "none", "--speaker", "none")
    args = ("--host", "--bind", HOME, "--port", str(free_base()), *silent)
    one = Headless(args, tmp_path / "home", program=program, env={"PYTHONPATH": ""})
    try:
        assert one.wait("joined", timeout=40)["role"] == "host"
    finally:
        assert one.close() == 0


def test_the_script_names_what_the_package_needs() -> None:
    """`uv run connectsphere.py` and `pip install .` fetch the same."""
    import tomllib

    lines = (ROOT / "connectsphere.py").read_text(encoding="utf-8").split("# ///")[1].splitlines()[1:]
    script = tomllib.loads(
        "\n".join(line.removeprefix("#").strip() for line in lines[0:]).replace("script", "")
    )
    package = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert script["dependencies"] == package["dependencies"]
    assert script["requires-python"] == package["requires-python"]
    assert json.dumps(package["dependencies"]).count("pyaudio") == 1
