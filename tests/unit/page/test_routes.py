"""The page's addresses without a browser, and the command that starts it."""

import os
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")
pytest.importorskip("h11")
from starlette.testclient import TestClient

from anatozoo.cli import serving
from anatozoo.cli.main import main
from anatozoo.page.actions import Page
from anatozoo.page.answers import Choices
from anatozoo.page.pictures import Look
from anatozoo.page.routes import Guard, make_app
from anatozoo.page.server import _inside
from anatozoo.service.settings import Settings
from tests.support.page_models import models, radiograph, upload

MARK = {"X-Anatozoo": "page"}


@pytest.fixture
def page() -> Page:
    return Page(models("hybridgnet-a"), {}, 10**9)


@pytest.fixture
def client(page: Page) -> Any:
    return TestClient(Guard(make_app(page, Settings(("hybridgnet-a",), max_mb=0.1))))


def send(client: Any, *files: bytes, name: str = "a.png", headers: Any = MARK) -> Any:
    parts = [("file", ("x", file)) for file in files]
    return client.post("/page/upload", params={"name": name}, files=parts, headers=headers)


def test_uploads_wait_in_memory_under_a_key(client: Any, page: Page) -> None:
    answer = send(client, b"one", name="../a b.png")
    found = page.visits.collect(answer.json()["key"])
    assert found is not None
    assert (found.name, bytes(found.content), found.ends) == ("a b.png", b"one", (3,))
    several = page.visits.collect(send(client, b"one", b"two").json()["key"])
    assert several is not None
    assert (several.name, several.ends) == ("series", (3, 6))


def test_uploads_that_arrive_count_before_they_are_read(client: Any, page: Page) -> None:
    with ExitStack() as others:
        assert others.enter_context(page.visits.arriving(10**9 - 150_000))
        assert send(client, b"x" * 10).status_code == 200
        others.enter_context(page.visits.arriving(100_000))
        refused = send(client, b"x" * 60_000)
        assert (refused.status_code, "again" in refused.json()["error"]) == (429, True)
    with ExitStack() as others:
        assert all(others.enter_context(page.visits.arriving(1)) for _ in range(page.visits.most_waiting))
        assert send(client, b"x").status_code == 429
    assert send(client, b"x").status_code == 200


def test_bad_uploads_get_a_sentence(client: Any) -> None:
    assert send(client, b"x", headers={}).status_code == 403  # as from another site
    sentence = send(client, b"x" * 200_000).json()["error"]
    assert "larger than 0.1 MB" in sentence
    assert "start the page with" in sentence
    answer = client.post(
        "/page/upload", content=b"x", headers={**MARK, "content-type": "multipart/form-data"}
    )
    assert answer.status_code == 400
    assert answer.json()["error"]


def test_files_are_given_to_who_knows_their_address(client: Any, page: Page) -> None:
    page.answer("s", upload(radiograph(), "ünï.png"), ["hybridgnet-a"], Choices(), Look())
    base = f"/page/files/{page.visits.get('s').token}"
    answer = client.get(f"{base}/0/ünï_mask.png")
    assert answer.headers["content-type"] == "image/png"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.content.startswith(b"\x89PNG")
    assert client.get(f"{base}/all.zip").content.startswith(b"PK")
    for address in (f"{base}/1/scan.json", f"{base}/0/x", "/page/files/guess/all.zip"):
        assert client.get(address).status_code == 404
    assert client.get(f"{base}/x/scan.json").status_code == 422


def test_what_would_reach_the_disk_or_other_machines_is_closed(client: Any) -> None:
    for path in (
        "upload",
        "file=/etc/hostname",
        "proxy=http://example.org",
        "call/x",
        "run/x",
        "upload_progress",
    ):
        assert client.get(f"/gradio_api/{path}").json() == {"error": "there is no such address."}
    assert client.post("/gradio_api/queue/join", content=b"x" * 2**21).status_code == 413
    policy = client.get("/page/files/a/all.zip").headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "http" not in policy


def test_the_missing_extra_is_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving, "find_spec", lambda name: None)
    assert main(["app"]) == 1
    assert 'pip install "anatozoo[app]"' in capsys.readouterr().err


def test_a_port_in_use_is_said_before_weights_are_loaded(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from anatozoo.page import server

    monkeypatch.setattr(server, "load_models", lambda *_: pytest.fail("weights were loaded"))
    monkeypatch.setattr(serving, "find_spec", lambda name: True)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert main(["app", "--models", "unet-jsrt", "--port", port]) == 1
    assert f"port {port} of 127.0.0.1 is in use" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--models", "unet-jsr"], "unet-jsrt"),
        (["--models", "acregnet-jsrt"], "moving and fixed"),
        (["--max-mb", "0"], "max_mb"),
        (["--models", "unet-jsrt", "--quality", "no-such-atlas", "--port", "0"], "no-such-atlas"),
    ],
)
def test_wrong_arguments_are_said_in_a_sentence(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from anatozoo.page import server

    monkeypatch.setattr(server, "load_models", lambda *_: models("unet-jsrt"))
    monkeypatch.setattr(serving, "find_spec", lambda name: True)
    assert main(["app", *arguments]) == 1
    error = capsys.readouterr().err
    assert error.startswith("anatozoo: error: ")
    assert words in error


def test_options_of_estimates_need_an_atlas(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["app", "--count", "3"]) == 2
    assert "--quality" in capsys.readouterr().err


def test_temporary_files_of_the_page_lie_apart(tmp_path: Path) -> None:
    before = tempfile.gettempdir()
    with _inside(tmp_path):
        assert tempfile.gettempdir() == os.environ["GRADIO_TEMP_DIR"] == str(tmp_path)
    assert tempfile.gettempdir() == before


def test_a_page_that_is_killed_leaves_no_file(tmp_path: Path) -> None:
    code = """
import sys
from pathlib import Path
from anatozoo.page.server import _swept
from anatozoo.service.folder import private_folder
with private_folder(Path(sys.argv[1])) as folder, _swept(folder):
    (folder / "upload").write_bytes(b"x")
    print("ready", flush=True)
    sys.stdin.read()
"""
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert list(tmp_path.glob("*/upload"))
        process.kill()
    end = time.monotonic() + 30
    while list(tmp_path.iterdir()):
        assert time.monotonic() < end, "files of a killed page stay"
        time.sleep(0.05)
