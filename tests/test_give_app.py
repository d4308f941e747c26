"""Giving the app to others, and the code for an address."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest
from headless import ROOT
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
