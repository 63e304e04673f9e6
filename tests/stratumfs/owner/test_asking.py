"""Devices that may hang are asked, and nobody waits for them for long."""

import threading

import pytest

from stratumfs.errors import DeviceFailed
from stratumfs.owner import asking
from stratumfs.owner.asking import NO_ANSWER, ask, hangs

FOR_EVER_S = threading.TIMEOUT_MAX


def test_who_does_not_answer_by_the_deadline_keeps_nobody_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    answer = threading.Event()
    monkeypatch.setattr(asking, "DEVICE_DEADLINE_S", 0.0)
    try:
        assert ask({"hangs": answer.wait}) == {"hangs": NO_ANSWER}
    finally:
        answer.set()


def test_the_others_answer_or_say_why_not() -> None:
    error = DeviceFailed("EIO")

    def fails() -> int:
        raise error

    assert ask({"fails": fails, "well": lambda: 7}) == {"fails": error, "well": 7}


def test_who_hangs_already_is_not_asked_again_nor_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    answer, asked = threading.Event(), list[str]()
    monkeypatch.setattr(asking, "DEVICE_DEADLINE_S", 0.0)
    ask({"hangs": answer.wait})
    monkeypatch.setattr(asking, "DEVICE_DEADLINE_S", FOR_EVER_S)
    assert ask({"hangs": lambda: asked.append("hangs"), "well": lambda: 7}) == {"hangs": NO_ANSWER, "well": 7}
    answer.set()
    asking._stuck["hangs"].join()
    assert ask({"hangs": lambda: 8}) == {"hangs": 8}
    assert not asked
    assert "hangs" not in asking._stuck


def test_behind_an_answer_that_is_enough_nobody_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    answer = threading.Event()
    monkeypatch.setattr(asking, "DEVICE_DEADLINE_S", FOR_EVER_S)
    try:
        said = ask({"hangs": answer.wait, "no": lambda: False, "yes": lambda: True}, enough=bool)
        assert (said["hangs"], said["yes"]) == (NO_ANSWER, True)
    finally:
        answer.set()


def test_who_hangs_is_known_until_it_is_back(monkeypatch: pytest.MonkeyPatch) -> None:
    answer = threading.Event()
    monkeypatch.setattr(asking, "DEVICE_DEADLINE_S", 0.0)
    assert not hangs("hangs")
    ask({"hangs": answer.wait})
    assert hangs("hangs")
    answer.set()
    asking._stuck["hangs"].join()
    assert not hangs("hangs")
