"""Nobody encodes, sends, relays, decodes or draws what nobody sees."""

from __future__ import annotations

import contextlib
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator

import pytest
from headless import Headless
from meetings import Passage, enter, serve, stats, switch

import connectsphere as cs

Starts = Callable[..., Headless]


class Traffic:
  """Datagrams of pictures that pass, by direction and whose picture it is."""

  def __init__(self) -> None:
    self._seen: Counter[tuple[str, int]] = Counter()
    self._lock = threading.Lock()

  def tap(self, plane: str, upstream: bool, data: bytes) -> None:
    ident, _, total = struct.unpack_from(">IIH", data) if plane == "video" else (0, 0, 0)
    if total:
      with self._lock:
        self._seen["up" if upstream else "down", ident] += 1

  def during(self, seconds: float) -> Counter[tuple[str, int]]:
    """What passes in the next seconds."""
    with self._lock:
      self._seen.clear()
    time.sleep(seconds)
    with self._lock:
      return Counter(self._seen)


@pytest.fixture
def traffic() -> Traffic:
  return Traffic()


@pytest.fixture
def way(meeting: Starts, traffic: Traffic) -> Iterator[tuple[Passage, int]]:
  """A way to a meeting on which pictures are counted, and its base port."""
  _, base = serve(meeting)
  with contextlib.closing(Passage(base, tap=traffic.tap)) as passage:
    yield passage, base


def test_pictures_travel_only_to_who_looks(
  meeting: Starts, traffic: Traffic, way: tuple[Passage, int]
) -> None:
  passage, base = way
  ana, ben, cleo = (
    enter(meeting, base, name, "--camera", camera, at=passage.at)
    for name, camera in (("Ana", "pattern"), ("Ben", "none"), ("Cleo", "none"))
  )
  me = ana.wait("joined", timeout=40)["id"]
  for one in (ben, cleo):
    one.wait("joined", timeout=40)
  switch(ana, "camera", True)
  assert not traffic.during(1.0), "a camera that nobody looks at sends nothing"
  ben.send({"do": "watch", "streams": {"Ana": {"layer": 0, "fps": 10}}})
  wait_for_pictures(ben, "Ana")
  seen = traffic.during(1.0)
  assert seen["up", me] >= 10 and seen["down", me] <= 1.5 * seen["up", me], "to one of the two"
  assert stats(cleo)["video"] == {}
  ben.send({"do": "watch", "streams": {}})
  time.sleep(0.3)
  assert not traffic.during(0.5)["down", me], "who has stopped looking is sent nothing"
  time.sleep(cs.LINGER)
  assert not traffic.during(0.5), "and a layer ends with its last looker"


def wait_for_pictures(one: Headless, name: str) -> None:
  """Until pictures of `name` come."""
  until = time.monotonic() + 10
  while not stats(one)["video"].get(name, {}).get("frames"):
    assert time.monotonic() < until, f"no picture of {name}"
    time.sleep(0.05)


def test_a_smaller_tile_asks_for_smaller_pictures(
  meeting: Starts, traffic: Traffic, way: tuple[Passage, int]
) -> None:
  passage, base = way
  ana = enter(meeting, base, "Ana", "--camera", "pattern", at=passage.at)
  ben = enter(meeting, base, "Ben", at=passage.at)
  ana.wait("joined", timeout=40)
  ben.wait("joined", timeout=40)
  switch(ana, "camera", True)
  for layer, fps in ((2, 15), (0, 5)):
    ben.send({"do": "watch", "streams": {"Ana": {"layer": layer, "fps": fps}}})
    until = time.monotonic() + 15
    while (figures := stats(ben)["video"].get("Ana", {})).get("layer") != layer or not (
      0.7 * fps <= figures["fps"] <= 1.3 * fps
    ):
      assert time.monotonic() < until, figures
      time.sleep(0.1)


def test_the_own_preview_is_fresh_for_who_looks_and_rests_for_nobody() -> None:
  live, sent = threading.Event(), []
  camera = cs.CameraSender(
    cs.ClientOptions(camera="pattern", decode_all=True),
    lambda layer, data: sent.append(layer),
    lambda what, state, reason: live.set(),
  )
  try:
    camera.turn(True)
    assert live.wait(10)
    time.sleep(1.2)
    before = camera._preview[0]
    time.sleep(2.0)
    assert camera._preview[0] - before <= 3, "one a second"
    until, seen = time.monotonic() + 10, set()
    while len(seen) < 20:
      assert time.monotonic() < until
      serial, picture = camera.look()
      seen.add(serial)
      time.sleep(0.02)
    assert picture is not None and picture.shape[1] >= cs.LAYERS[cs.PREVIEW_LAYER][0]
    assert not sent, "and goes nowhere"
  finally:
    camera.close()
