"""Silence in one thread leaves all others, and the process afterwards, as they were."""

import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import anatozoo
from anatozoo.io.images import read_image
from anatozoo.io.quiet import quiet
from tests.support.dicom_data import write_scan


def test_only_this_thread_is_quiet() -> None:
    inside, done = threading.Event(), threading.Event()

    def work() -> None:
        with quiet():
            warnings.warn("never seen", stacklevel=1)
            inside.set()
            done.wait(10)

    thread = threading.Thread(target=work)
    thread.start()
    inside.wait(10)
    with pytest.warns(UserWarning, match="seen here"):
        warnings.warn("seen here", stacklevel=1)
    done.set()
    thread.join()


def test_filters_are_as_before_however_threads_overlap() -> None:
    before = list(warnings.filters)
    first, second, left = (threading.Event() for _ in range(3))

    def early() -> None:
        with quiet():
            first.set()
            second.wait(10)
        left.set()

    def late() -> None:
        first.wait(10)
        with quiet(), quiet():
            second.set()
            left.wait(10)
            warnings.warn("never seen", stacklevel=1)

    with ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(early), pool.submit(late)]:
            done.result()
    assert list(warnings.filters) == before
    with pytest.warns(UserWarning, match="seen"):
        warnings.warn("seen", stacklevel=1)


def test_reading_in_threads_leaves_the_filters(tmp_path: Path) -> None:
    for i in range(8):
        # A value that breaks the standard, which pydicom remarks on.
        write_scan(tmp_path / f"{i}.dcm", PatientAge="fifty years")
    before = list(warnings.filters)
    with ThreadPoolExecutor(4) as pool:
        assert len(list(pool.map(read_image, sorted(tmp_path.glob("*.dcm"))))) == 8
    assert list(warnings.filters) == before


def test_an_error_ends_the_silence() -> None:
    before = list(warnings.filters)
    with pytest.raises(ZeroDivisionError), quiet():
        _ = 1 / 0
    assert list(warnings.filters) == before


def test_nothing_saves_and_restores_the_filters_of_the_process() -> None:
    users = [
        path.name
        for path in Path(anatozoo.__file__).parent.rglob("*.py")
        if "warnings.catch_warnings(" in path.read_text(encoding="utf-8")
    ]
    assert users == []
