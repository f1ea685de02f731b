"""A real server process on loopback: slow and huge clients, crashes, signals, and what stays on disk."""

import errno
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from anatozoo.errors import ConfigError
from anatozoo.service.folder import private_folder
from anatozoo.service.settings import Settings, listen, read_token
from tests.support.fake_worker import CRASHES, EXITS, HANGS, SLOW, png

PROJECT = Path(__file__).resolve().parents[3]
# A suite that runs in the background hands down that Ctrl-C is ignored.
START = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from anatozoo.service import server
from anatozoo.service.process import Worker
Worker.program, server.HEAD_SECONDS = "tests.support.fake_worker", 1.0
from anatozoo.cli.main import main
sys.exit(main(["serve", "--models", "unet-jsrt", *sys.argv[1:]]))
"""
PATH = "/predict/unet-jsrt"
REAL = "anatozoo.service.worker"


class Running:
    """A server process, of which the test has to say how it ended."""

    def __init__(self, temporary: Path, *arguments: str) -> None:
        self.temporary = temporary
        temporary.mkdir(exist_ok=True)
        self.process = subprocess.Popen(
            [sys.executable, "-c", START, "--port", "0", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"TMPDIR": str(temporary), "PYTHONPATH": str(PROJECT)},
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        found = re.search(r"http://([\d.]+):(\d+)", line)
        assert found, line + self.process.communicate()[1]
        self.url, self.address = found[0], (found[1], int(found[2]))

    def post(self, width: int = 60, **options: Any) -> Any:
        """The answer to a picture of this width."""
        options = {"content": png(width), "headers": {"content-type": "image/png"}} | options
        return httpx.post(self.url + PATH, timeout=60, trust_env=False, **options)

    def send(self, *parts: bytes, pause: float = 0.0) -> bytes:
        """What comes back until the connection is closed."""
        with socket.create_connection(self.address, timeout=60) as client:
            for part in parts:
                client.sendall(part)
                time.sleep(pause)
            found = b""
            with suppress(ConnectionResetError):  # as of a connection that is closed over what nobody read
                for part in iter(lambda: client.recv(2**16), b""):
                    found += part
            return found

    def files(self) -> list[Path]:
        """All files that are left in the folder for temporary ones, but for locks."""
        return [path for path in self.temporary.rglob("*") if path.is_file() and path.suffix != ".lock"]

    def end(self, by: signal.Signals) -> tuple[int, str, str]:
        """Send a signal; exit code and what it printed."""
        self.process.send_signal(by)
        out, err = self.process.communicate(timeout=60)
        return self.process.returncode, out, err


def until(happens: Any, seconds: float = 30.0) -> None:
    """Wait for something to become true."""
    end = time.monotonic() + seconds
    while not happens():
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.05)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    running = Running(
        tmp_path_factory.mktemp("server"), "--timeout", "6", "--queue", "3", "--max-mb", "1", "--threads", "1"
    )
    yield running
    code, _, log = running.end(signal.SIGTERM)
    assert code == 0, log
    assert not list(running.temporary.iterdir())
    assert "Traceback" not in log


def test_files_are_answered_and_nothing_of_them_stays(server: Running) -> None:
    answer = server.post()
    assert answer.status_code == 200
    assert answer.json()["checkpoint"] == "unet-jsrt"
    assert server.post(content=b"no picture").status_code == 422
    [model] = httpx.get(f"{server.url}/models", trust_env=False).json()
    assert "intended_use" in model
    assert not server.files()


def test_a_file_that_ends_or_stops_the_computation_leaves_the_service_alive(server: Running) -> None:
    for width, status, words in ((CRASHES, 500, "ended on this file"), (HANGS, 504, "longer than 6 seconds")):
        answer = server.post(width)
        assert (answer.status_code, words in answer.json()["error"]) == (status, True)
        assert server.post().status_code == 200
        assert not server.files()


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs Linux")
def test_a_process_that_ended_while_nothing_was_asked_blames_no_file(server: Running) -> None:
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it ended meanwhile
            if int(stat.read_text().rpartition(")")[2].split()[1]) == server.process.pid:
                os.kill(int(stat.parent.name), signal.SIGKILL)
    assert server.post().status_code == 200


def test_an_upload_of_two_gigabytes_is_refused_at_once(server: Running) -> None:
    head = f"POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\n"
    start = time.monotonic()
    answer = server.send(f"{head}Content-Length: 2000000000\r\n\r\n".encode(), b"a" * 10_000)
    assert answer.startswith(b"HTTP/1.1 413")
    assert b"larger than 1 MB" in answer
    chunk = b"%x\r\n" % 2**16 + b"a" * 2**16 + b"\r\n"
    answer = server.send(f"{head}Transfer-Encoding: chunked\r\n\r\n".encode(), *[chunk] * 40)
    assert answer.startswith(b"HTTP/1.1 413")
    assert time.monotonic() - start < 30
    # Before a client that waits for permission sends anything.
    answer = server.send(f"{head}Content-Length: 2000000000\r\nExpect: 100-continue\r\n\r\n".encode())
    assert answer.startswith(b"HTTP/1.1 413")
    # One that sends on regardless still learns why.
    found = httpx.post(
        server.url + PATH, content=(b"a" * 2**16 for _ in range(400)), trust_env=False, timeout=60
    )
    assert found.status_code == 413


def test_slow_clients_are_let_go(server: Running) -> None:
    head = f"POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n".encode()
    with ThreadPoolExecutor() as pool:
        body = pool.submit(server.send, head, b"a")
        no_head = pool.submit(server.send, b"")
        half = pool.submit(server.send, b"POST /pre")
        assert no_head.result() == half.result() == b""
        assert server.post().status_code == 200
        assert body.result().startswith(b"HTTP/1.1 408")


def test_what_is_no_http_is_refused(server: Running) -> None:
    assert server.send(b"\x16\x03\x01 hello\r\n\r\n").startswith(b"HTTP/1.1 400")
    assert server.send(b"GET / HTTP/1.1\r\nA: " + b"b" * 200_000)[:12] in (b"", b"HTTP/1.1 400")
    server.send(f"POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Length: {'9' * 5000}\r\n\r\n".encode(), b"x")
    assert server.post().status_code == 200


def test_more_clients_than_places_are_told_to_come_back(server: Running) -> None:
    with ThreadPoolExecutor() as pool:
        answers = list(pool.map(lambda _: server.post(SLOW), range(6)))
    codes = sorted(answer.status_code for answer in answers)
    assert set(codes) == {200, 429}
    assert all("retry-after" in answer.headers for answer in answers if answer.status_code == 429)


def test_who_hangs_up_while_waiting_is_not_computed(server: Running) -> None:
    def health() -> Any:
        return httpx.get(f"{server.url}/health", trust_env=False).json()

    with ThreadPoolExecutor() as pool:
        first = pool.submit(server.post, SLOW)
        until(lambda: health()["in_hand"] == 1)
        for _ in range(2):
            picture = png(SLOW)
            with socket.create_connection(server.address) as client:
                client.sendall(b"POST %s HTTP/1.1\r\nHost: x\r\n" % PATH.encode())
                client.sendall(b"Content-Length: %d\r\n\r\n" % len(picture) + picture)
                until(lambda: health()["in_hand"] == 2)
        until(lambda: health()["in_hand"] <= 1)
        assert first.result().status_code == 200
        # Had they been computed, this would be the third to wait for a second and a half.
        start = time.monotonic()
        assert server.post().status_code == 200
        assert time.monotonic() - start < 2.5


def test_a_stopped_service_finishes_what_it_has_and_refuses_the_rest(tmp_path: Path) -> None:
    server = Running(tmp_path)
    with ThreadPoolExecutor() as pool:
        running = pool.submit(server.post, SLOW)
        until(lambda: httpx.get(f"{server.url}/health", trust_env=False).json()["in_hand"])
        server.process.send_signal(signal.SIGTERM)
        until(lambda: httpx.get(f"{server.url}/health", trust_env=False).status_code == 503)
        assert server.post().status_code == 503
        assert running.result().status_code == 200
    out, err = server.process.communicate(timeout=30)
    assert server.process.returncode == 0, err
    assert "has ended" in out
    assert re.search(r"POST /predict/unet-jsrt: 503, ", err)
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="parents are watched on Linux")
def test_a_killed_service_leaves_nothing(tmp_path: Path) -> None:
    server = Running(tmp_path)
    with ThreadPoolExecutor() as pool:
        lost = pool.submit(server.post, HANGS)
        until(server.files)
        server.process.kill()
        with pytest.raises(httpx.TransportError):
            lost.result()
    server.process.communicate()
    until(lambda: not list(tmp_path.iterdir()))
    # What a whole machine that went down leaves, the next service removes.
    old = tmp_path / "anatozoo-serve-0123456789abcdef"
    old.mkdir()
    (old / "upload").write_bytes(b"x")
    with private_folder(tmp_path) as live, private_folder(tmp_path) as other:
        assert live.is_dir()
        assert {path for path in tmp_path.iterdir() if path.is_dir()} == {live, other}
    assert not [path for path in tmp_path.iterdir() if path.is_dir()]


def test_ctrl_c_ends_it_as_any_command(tmp_path: Path) -> None:
    server = Running(tmp_path)
    code, _, log = server.end(signal.SIGINT)
    assert code == 130
    assert "Traceback" not in log


def test_a_port_in_use_is_said_before_weights_are_loaded(
    server: Running, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from anatozoo.cli.main import main
    from anatozoo.service.process import Worker

    monkeypatch.setattr(Worker, "__init__", lambda *_: pytest.fail("weights were loaded"))
    port = str(server.address[1])
    assert main(["serve", "--models", "unet-jsrt", "--port", port]) == 1
    assert f"port {port} of 127.0.0.1 is in use" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("reason", "words"),
    [(errno.EACCES, "1024 or more"), (errno.EADDRNOTAVAIL, "cannot listen on 'localhost'")],
)
def test_addresses_that_cannot_be_had_are_said(
    reason: int, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(reason, "no")

    monkeypatch.setattr(socket, "create_server", refuse)
    with pytest.raises(ConfigError, match=words):
        listen("localhost", 80)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--models", "unet-jsr"], "unet-jsrt"),
        (["--models", "acregnet-jsrt"], "moving and fixed"),
        (["--models", "unet-jsrt", "--port", "70000"], "1 to 65535"),
        (["--models", "unet-jsrt", "--max-mb", "0"], "max_mb"),
        (["--models", "unet-jsrt", "--timeout", "nan"], "timeout_s"),
        (["--models", "unet-jsrt", "--token-file", "no-such-file"], "no-such-file"),
    ],
)
def test_wrong_arguments_are_said_in_a_sentence(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from anatozoo.cli.main import main
    from anatozoo.service.process import Worker

    monkeypatch.setattr(Worker, "__init__", lambda *_: pytest.fail("weights were loaded"))
    assert main(["serve", *arguments]) == 1
    error = capsys.readouterr().err
    assert error.startswith("anatozoo: error: ")
    assert words in error


def test_the_missing_extra_is_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from anatozoo.cli import serving
    from anatozoo.cli.main import main

    monkeypatch.setattr(serving, "find_spec", lambda name: None)
    assert main(["serve", "--models", "unet-jsrt"]) == 1
    assert 'pip install "anatozoo[serve]"' in capsys.readouterr().err


def test_tokens_are_read_and_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ANATOZOO_TOKEN", raising=False)
    assert read_token(None) is None
    monkeypatch.setenv("ANATOZOO_TOKEN", "of the environment")
    file = tmp_path / "token"
    file.write_text("of-the-file-16-long\n")
    assert read_token(file) == "of-the-file-16-long"
    assert "ANATOZOO_TOKEN" not in os.environ  # or decoders inherit it
    file.write_text("\n")
    with pytest.raises(ConfigError, match="empty"):
        read_token(file)
    for bad in ("short", "with a blank in it", "ümlaute-sind-nicht-erlaubt"):
        with pytest.raises(ConfigError, match="16 or more"):
            Settings(("a",), token=bad)
    assert Settings(("a",), host="0.0.0.0").is_open
    assert not Settings(("a",), host="0.0.0.0", token="long-enough-to-be-one").is_open
    assert not any(Settings(("a",), host=host).is_open for host in ("127.0.0.1", "::1", "localhost"))


def test_the_token_of_a_file_is_asked_for(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("a-token-for-this-test\n")
    server = Running(tmp_path / "t", "--token-file", str(token))
    assert server.post().status_code == 401
    assert server.post(headers={"authorization": "Bearer a-token-for-this-test"}).status_code == 200
    assert "a-token-for-this-test" not in server.end(signal.SIGTERM)[2]


def test_a_service_for_everybody_without_a_token_warns(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from anatozoo.cli.main import main
    from anatozoo.service import server

    asked: list[Settings] = []
    monkeypatch.setattr(server, "serve", lambda settings, about: asked.append(settings) or 0)
    assert main(["serve", "--models", "unet-jsrt", "--host", "0.0.0.0"]) == 0
    assert "warning: whoever reaches 0.0.0.0" in capsys.readouterr().err
    monkeypatch.setenv("ANATOZOO_TOKEN", "a-token-for-this-test")
    assert main(["serve", "--models", "unet-jsrt", "--host", "0.0.0.0"]) == 0
    assert capsys.readouterr().err == ""
    assert [settings.token for settings in asked] == [None, "a-token-for-this-test"]


@pytest.mark.slow
def test_answers_of_a_real_model_are_those_of_predict(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import anatozoo

    (tmp_path / "scan.png").write_bytes(png(240))
    expected = anatozoo.load("unet-jsrt", trainable=False).predict(tmp_path / "scan.png").to_dict()
    monkeypatch.setattr(sys.modules[__name__], "START", START.replace("tests.support.fake_worker", REAL))
    server = Running(tmp_path / "t")
    assert server.post(240).json() == json.loads(json.dumps(expected | {"image": "upload"}))
    assert server.end(signal.SIGTERM)[0] == 0


def test_exit_of_the_computing_process_is_told(server: Running) -> None:
    answer = server.post(EXITS)
    assert answer.status_code == 500
    assert "exit status 3" in answer.json()["error"]
