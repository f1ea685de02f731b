"""Processes that decode: what becomes of crashes, time, memory, threads, forks and ends."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from anatozoo.errors import ImageError
from anatozoo.io import child, children
from anatozoo.io.children import DecodeError, decode

VALUES = np.arange(7 * 9, dtype=np.int16).reshape(7, 9)
# Added to the real operations of the process that decodes, by a start of its own.
MISBEHAVIOUR = """
import ctypes, os, time, numpy as np
from anatozoo.io import child
def act(arguments, content):
    what = arguments["what"]
    if what == "crash":
        ctypes.string_at(0)
    if what == "exit":
        os._exit(3)
    if what == "hang":
        time.sleep(600)
    while what == "loop":
        pass
    if what == "memory":
        return {}, np.ones(3 * 2**30 // 8), None
    if what == "print":
        os.write(1, b"noise" * 1000)
        print("noise")
    return {"pid": os.getpid()}, np.frombuffer(content, np.uint8).reshape(-1, 2).astype(">u2"), None
child.OPERATIONS["act"] = (act, ())
child.main()
"""


@pytest.fixture
def act(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Processes that also know the operation `act`, and none of another test."""
    start = subprocess.Popen

    def misbehaving(command: list[str], **options: object) -> subprocess.Popen[bytes]:
        return start([*command[:-2], "-c", MISBEHAVIOUR], **options)  # type: ignore[call-overload]

    monkeypatch.setattr(children.subprocess, "Popen", misbehaving)
    monkeypatch.setattr(children, "_pool", children._Pool())
    yield
    children._pool.end()


@pytest.fixture
def image(tmp_path: Path) -> str:
    sitk.WriteImage(sitk.GetImageFromArray(VALUES), str(tmp_path / "a.mha"))
    return str(tmp_path / "a.mha")


def running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return False
    return state != "Z"


def ended(pid: int) -> bool:
    for _ in range(200):
        if not running(pid):
            return True
        time.sleep(0.05)
    return False


def test_values_come_back_as_they_are(act: None) -> None:
    answer, array = decode("act", "x", bytes(range(6)), what="nothing")
    assert answer["pid"] != os.getpid()
    assert array is not None
    assert array.dtype == np.dtype(">u2")
    np.testing.assert_array_equal(array, [[0, 1], [2, 3], [4, 5]])
    assert decode("act", "x", b"", what="print")[1].shape == (0, 2)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("what", "message"), [("crash", "crashed on it .SIGSEGV"), ("exit", "exit status 3")]
)
def test_a_crash_is_an_error_of_this_file_alone(act: None, what: str, message: str) -> None:
    first = decode("act", "x", what="nothing")[0]["pid"]
    with pytest.raises(ImageError, match=rf"'a\.dcm' is damaged: .*{message}"):
        decode("act", "'a.dcm'", what=what)
    second = decode("act", "x", what="nothing")[0]["pid"]
    assert first != second
    assert ended(first)


@pytest.mark.parametrize("what", ["hang", "loop"])
def test_what_takes_too_long_is_ended(act: None, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    pid = decode("act", "x", what="nothing")[0]["pid"]
    monkeypatch.setattr(children, "SECONDS", 0.5)
    with pytest.raises(ImageError, match=r"'a\.dcm' was not decoded within 0 seconds"):
        decode("act", "'a.dcm'", what=what)
    assert ended(pid)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux bounds the memory of a process")
def test_too_much_memory_is_an_error_and_the_process_lives_on(act: None) -> None:
    pid = decode("act", "x", what="nothing")[0]["pid"]
    with pytest.raises(ImageError, match=r"'a\.dcm' cannot be decoded within .* bytes of memory"):
        decode("act", "'a.dcm'", what="memory")
    assert decode("act", "x", what="nothing")[0]["pid"] == pid


def test_threads_share_a_few_processes(act: None) -> None:
    contents = [bytes([n, n + 1]) * (1 + 1000 * n) for n in range(24)]

    def ask(content: bytes) -> tuple[int, bool]:
        answer, array = decode("act", "x", content, what="nothing")
        return answer["pid"], array is not None and array.astype(np.uint8).tobytes() == content

    with ThreadPoolExecutor(12) as pool:
        found = list(pool.map(ask, contents))
    assert all(right for _, right in found)
    assert 1 <= len({pid for pid, _ in found}) <= children.MOST_CHILDREN


def test_one_crash_among_threads_disturbs_no_other(act: None) -> None:
    def ask(number: int) -> str:
        try:
            array = decode("act", "x", bytes([number, 0]), what="crash" if number % 3 == 0 else "")[1]
            return str(array.tolist() if array is not None else None)
        except ImageError:
            return "crash"

    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(ask, range(12)))
    assert found == ["crash" if n % 3 == 0 else f"[[{n}, 0]]" for n in range(12)]


def test_a_process_that_died_between_two_requests_is_replaced(act: None) -> None:
    pid = decode("act", "x", what="nothing")[0]["pid"]
    os.kill(pid, 9)
    assert ended(pid)
    assert decode("act", "x", what="nothing")[0]["pid"] != pid


def test_a_refusal_is_told_from_a_crash(image: str) -> None:
    Path(image).write_bytes(b"no image")
    with pytest.raises(DecodeError) as caught:
        decode("itk_read", "x", path=image, kind="MetaImageIO")
    assert caught.value.name == "RuntimeError"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_after_a_fork_each_process_has_its_own(act: None) -> None:
    mine = decode("act", "x", what="nothing")[0]["pid"]
    receiving, sending = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            os.write(sending, str(decode("act", "x", what="nothing")[0]["pid"]).encode())
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    theirs = int(os.read(receiving, 20))
    os.close(receiving)
    os.close(sending)
    assert theirs != mine
    assert decode("act", "x", what="nothing")[0]["pid"] == mine
    assert ended(theirs)


ASK = """
import sys, os
from anatozoo.io.children import _pool, decode
{before}
_, array = decode("itk_read", "x", path=sys.argv[1], kind="MetaImageIO")
os.write(2, f"{{array.sum()}} {{_pool.all[0].process.pid}}\\n".encode())
{after}
"""


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", ""),
        ("", "raise SystemExit(1)"),
        ("", "os._exit(0)"),
        ("", "os.kill(os.getpid(), 9)"),
        ("os.close(0)", ""),
        ("os.close(0); os.close(1)", ""),
        ("import threading", "threading.Thread(target=lambda: None).start()"),
    ],
    ids=["end", "exit", "hard exit", "killed", "stdin closed", "both closed", "thread"],
)
def test_it_ends_with_the_process_that_asks(image: str, before: str, after: str) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", ASK.format(before=before, after=after), image],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stdin=subprocess.PIPE,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    total, pid, *rest = done.stderr.split()
    assert (int(total), rest) == (VALUES.sum(), [])
    assert ended(int(pid))


def test_files_of_others_in_the_working_folder_are_not_imported(image: str, tmp_path: Path) -> None:
    for name in ("numpy", "SimpleITK", "json", "pydicom"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('a trap')")
    code = "import sys; sys.path = [p for p in sys.path if p]\n" + ASK.format(before="", after="")
    done = subprocess.run(
        [sys.executable, "-P", "-c", code, image],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, map(os.path.abspath, sys.path)))},
    )
    assert done.stderr.startswith(str(VALUES.sum())), done.stderr


def test_an_interrupt_leaves_no_answer_for_the_next_request(
    act: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    pid = decode("act", "x", what="nothing")[0]["pid"]

    def interrupt(stream: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(children, "receive", interrupt)
        with pytest.raises(KeyboardInterrupt):
            decode("act", "x", what="nothing")
    answer, array = decode("act", "x", b"\x05\x06", what="nothing")
    assert answer["pid"] != pid
    assert array is not None
    assert array.tolist() == [[5, 6]]


def test_it_imports_no_torch() -> None:
    code = (
        "import sys; from anatozoo.io import child; "
        "child._load(sum((modules for _, modules in child.OPERATIONS.values()), ()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code + "; print('torch' in sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    assert done.stdout.strip() == "False"
    assert set(child.OPERATIONS) >= {"itk_read", "dicom_pixels"}


def test_a_python_that_is_not_there_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(children, "_pool", children._Pool())
    monkeypatch.setattr(children.sys, "executable", "/nowhere/python")
    with pytest.raises(ImageError, match="cannot be started"):
        decode("itk_read", "x", path="a", kind="MetaImageIO")
    assert children._pool.starting == 0
