"""The window's meetings: coming in and giving up, leaving, closing, the own meeting that goes on."""

from __future__ import annotations

import contextlib
import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from headless import Headless
from meetings import join, serve
from test_window_controls import press
from test_window_meeting import Desk, Start, desk
from waiting import wait_until
from window_driver import Driver

import connectsphere as cs

if shutil.which("xdotool") is None:
    pytest.skip("needs xdotool", allow_module_level=True)

__all__ = ["desk"]  # a fixture


class Door:
    """A meeting whose next joiner is held at a place on the way in."""

    def __init__(self, server: Headless, teacher: Headless, place: Desk, port: int) -> None:
        self.server, self.teacher, self.place, self.port = server, teacher, place, port
        self.join = place.program.join

    @contextlib.contextmanager
    def held(self, where: str) -> Iterator[None]:
        """While somebody joins: before a link, in front of a host that does not answer, or just in."""
        here, on = threading.Event(), threading.Event()

        def late(*args: Any) -> cs.MeetingController:
            if where == "in":
                controller = self.join(*args)
                here.set()
                on.wait(20)
                return controller
            here.set()
            if where == "looking":
                on.wait(20)
            return self.join(*args)

        self.place.program.join = late  # type: ignore[method-assign, assignment]
        if where == "asking":
            self.server.process.send_signal(signal.SIGSTOP)
        driver = self.place.driver
        driver.start.join_at(f"127.0.0.1:{self.port}", "")
        driver.until(here.is_set, f"{where} is reached")
        driver.until(lambda: driver.start.busy.frame.winfo_ismapped(), "it says so")
        try:
            yield
        finally:
            self.server.process.send_signal(signal.SIGCONT)
            on.set()
            self.place.program.join = self.join  # type: ignore[method-assign]

    def pupils(self) -> int:
        """How many of the window's user the teacher sees."""
        joins, leaves = (
            len([one for one in self.teacher.seen(what) if "Pupil" in one["name"]])
            for what in ("join", "leave")
        )
        return joins - leaves

    def settle(self) -> None:
        """Let what was begun come to its end, and the teacher hear of it."""
        tasks = self.place.driver.loop.tasks
        wait_until(lambda: not any(one.is_alive() for one in tasks._threads), 20)
        before = len(self.teacher.seen("users"))
        self.teacher.send(do="users")
        wait_until(lambda: len(self.teacher.seen("users")) > before)


@pytest.fixture
def door(desk: Callable[..., Desk], meeting: Start) -> Door:
    server, port = serve(meeting)
    return Door(server, join(meeting, port, "Teacher"), desk("Pupil"), port)


def busy(driver: Driver) -> bool:
    return bool(driver.start.busy.frame.winfo_ismapped())


PLACES = ("looking", "asking", "in")


def test_who_gives_up_joining_is_not_in_and_joins_once(door: Door) -> None:
    driver = door.place.driver
    for where in PLACES:
        with door.held(where):
            if where == "looking":
                driver.key("Escape")
            else:
                press(driver, driver.start.busy.frame, "Cancel")
            assert not busy(driver) and driver.loop.joining is None
        driver.until(lambda: not any(one.is_alive() for one in driver.loop.tasks._threads), "it has ended")
        driver.pump(0.1)
        door.settle()
        assert driver.loop.view is None and door.pupils() == 0, where
        assert not driver.start.trouble["text"], "one's own wish is no trouble"
    driver.start.join_at(f"127.0.0.1:{door.port}", "")
    driver.until(lambda: driver.loop.view is not None, "in the meeting")
    wait_until(lambda: door.pupils() == 1)
    assert len(door.teacher.seen("users")[-1]["users"]) == 2


def test_another_look_leaves_the_joining_as_it_is(door: Door) -> None:
    driver = door.place.driver
    for where in PLACES:
        with door.held(where):
            driver.start.pin.set("12")
            before = driver.start
            driver.loop.restyle()
            assert driver.start is not before and driver.start.pin.value == "12"
            driver.until(lambda: busy(driver), "the new window says what goes on, too")
            driver.start.join_at(f"127.0.0.1:{door.port}", "")  # nothing: it is under way
        driver.until(lambda: driver.loop.view is not None, "the result comes to the new window")
        wait_until(lambda: door.pupils() == 1)
        driver.view.people.leave()
        driver.pump(0.1)
        wait_until(lambda: door.pupils() == 0)


@pytest.mark.parametrize("where", PLACES)
def test_who_closes_the_window_while_joining_is_not_in(door: Door, where: str) -> None:
    with door.held(where):
        door.place.driver.loop.stop()
    door.settle()
    wait_until(lambda: door.pupils() == 0)
