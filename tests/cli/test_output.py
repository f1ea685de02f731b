"""The command line with terminals, encodings and streams of all kinds."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from anatozoo.cli.main import main
from anatozoo.cli.output import safe_streams
from anatozoo.errors import OutputError

NEEDS_POSIX = pytest.mark.skipif(os.name != "posix", reason="closes descriptors by the shell")


def shell(words: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        f'"{sys.executable}" -m anatozoo {words}',
        shell=True,
        capture_output=True,
        check=False,
        env={**os.environ, **environment},
    )


@NEEDS_POSIX
@pytest.mark.parametrize("closed", [">&-", ">&- 2>&- <&-"])
def test_closed_streams_do_not_matter(closed: str) -> None:
    done = shell(f"list {closed}")
    assert (done.returncode, done.stderr) == (0, b"")
    assert shell(f"lits {closed}").returncode == 2


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no full device")
@pytest.mark.parametrize("words", ["list", "--version"])
def test_output_that_cannot_be_written_is_one_sentence(words: str) -> None:
    done = shell(f"{words} > /dev/full")
    lines = done.stderr.decode().splitlines()
    assert done.returncode == 1
    assert len(lines) == 1
    assert "standard output cannot be written: No space left on device" in lines[0]
    assert shell(f"{words} > /dev/full 2> /dev/full").returncode == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no full device")
def test_the_exit_code_stands_where_errors_cannot_be_written() -> None:
    assert shell("lits 2> /dev/full").returncode == 2
    assert shell("card no-such 2> /dev/full").returncode == 1


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_every_encoding_does(encoding: str) -> None:
    done = shell("card unet-jsrt", PYTHONIOENCODING=encoding)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.decode(encoding)


@pytest.mark.parametrize("encoding", ["ascii", "utf-8"])
def test_names_of_odd_bytes_can_be_said(tmp_path: Path, encoding: str) -> None:
    name = os.fsencode(tmp_path) + b"/\xe9\x1b[31m"
    os.mkdir(name)  # a checkpoint's folder that is damaged: the message begins with its path
    (Path(os.fsdecode(name)) / "config.json").write_text("{")
    done = subprocess.run(
        [sys.executable, "-m", "anatozoo", "info", name],
        capture_output=True,
        check=False,
        env={**os.environ, "PYTHONIOENCODING": encoding},
    )
    text = done.stderr.decode()
    assert done.returncode == 1
    assert len(text.splitlines()) == 1
    assert "Traceback" not in text
    assert text.strip().isprintable()
    assert r"\udce9\u001b[31m" in text


def test_what_is_printed_commands_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with safe_streams(output=True, errors=True):
        print("a\x1b[2Jb\x9b")
        print("c\x07", file=sys.stderr)
    assert capsys.readouterr() == ("a\\u001b[2Jb\\u009b\n", "c\\u0007\n")


def test_streams_are_themselves_again(capsys: pytest.CaptureFixture[str]) -> None:
    before = sys.stdout, sys.stderr, sys.stdout.errors
    main(["list"])
    assert (sys.stdout, sys.stderr, sys.stdout.errors) == before
    assert re.search(r"unet-jsrt", capsys.readouterr().out)


def test_a_failing_stream_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    class Full:
        closed = False

        def write(self, text: str) -> int:
            raise OSError(28, "No space left on device")

        flush = write

    monkeypatch.setattr(sys, "stdout", Full())
    with safe_streams(output=True, errors=True), pytest.raises(OutputError, match="No space left"):
        print("x")
