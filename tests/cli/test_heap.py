import ctypes
import os
import sys

import pytest

from anatozoo.cli.heap import keep_freed_memory


@pytest.fixture
def asked(monkeypatch):
    calls = []

    class Library:
        def __init__(self, name):
            self.mallopt = lambda option, value: calls.append((option, value))

    monkeypatch.setattr(ctypes, "CDLL", Library)
    monkeypatch.setattr(sys, "platform", "linux")
    for name in [name for name in os.environ if name.startswith("MALLOC_")]:
        monkeypatch.delenv(name)
    return calls


def test_freed_memory_is_kept_in_one_heap(asked):
    keep_freed_memory()
    assert dict(asked)[-8] == 1
    assert dict(asked)[-3] == 2**25


def test_what_a_user_has_chosen_stays(asked, monkeypatch):
    monkeypatch.setenv("MALLOC_ARENA_MAX", "4")
    keep_freed_memory()
    assert asked == []


def test_other_systems_are_left_alone(asked, monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    keep_freed_memory()
    assert asked == []


def test_a_library_without_the_function_is_left_alone(asked, monkeypatch):
    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())
    keep_freed_memory()
    assert asked == []
