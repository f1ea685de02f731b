"""The page in a real Chromium, shown by a real server process, whose models have no networks."""

import importlib.util
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.page_models import heart, radiograph

PROJECT = Path(__file__).resolve().parents[3]
NAMES = "hybridgnet-chexmask,hybridgnet-jsrt,acnn-dynunet-acdc"
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
LACKING = [name for name in ("playwright", "gradio") if importlib.util.find_spec(name) is None]
pytestmark = pytest.mark.skipif(
    CHROMIUM is None or bool(LACKING), reason=f"needs {', '.join([*LACKING, 'chromium'])}"
)
START = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from anatozoo.zoo import hub
from tests.support.page_models import fake
hub.load = fake
from anatozoo.cli.main import main
sys.exit(main(["app", "--models", *sys.argv[1:]]))
"""
PATIENCE = 60_000
"""Milliseconds; the machine may be busy."""


class Running:
    """A server process."""

    def __init__(self, temporary: Path, *arguments: str) -> None:
        self.temporary = temporary
        temporary.mkdir(exist_ok=True)
        self.process = subprocess.Popen(
            [sys.executable, "-c", START, NAMES, "--port", "0", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"TMPDIR": str(temporary), "PYTHONPATH": str(PROJECT)},
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        found = re.search(r"http://[\d.]+:\d+", line)
        assert found, line + self.process.communicate()[1]
        self.url = found[0]

    def files(self) -> list[str]:
        """All files in the folder for temporary ones, but for locks."""
        paths = self.temporary.rglob("*")
        return [path.name for path in paths if path.is_file() and path.suffix != ".lock"]

    def end(self, by: signal.Signals) -> tuple[int, str]:
        """Send a signal; exit code, and what was said beside the address."""
        self.process.send_signal(by)
        _, errors = self.process.communicate(timeout=60)
        return self.process.returncode, errors


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    running = Running(tmp_path_factory.mktemp("page"), "--max-mb", "5", "--threads", "1")
    yield running
    code, errors = running.end(signal.SIGTERM)
    assert (code, errors) == (0, "")
    assert not list(running.temporary.iterdir())


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        # One for all, so that it has Gradio's files.
        yield browser.new_context(viewport={"width": 1300, "height": 900})
        browser.close()


@pytest.fixture
def opened(server: Running, chromium: Any) -> Iterator[Callable[[], Any]]:
    """Opens the page for a visitor of its own; no request may have left this machine in the end."""
    requests: list[str] = []
    stopped: list[str] = []  # by the page's policy, as what earlier releases of Gradio ask of others
    problems: list[str] = []
    pages = []

    def open_page(context: Any = chromium) -> Any:
        page = context.new_page()
        pages.append(page)
        page.set_default_timeout(PATIENCE)
        page.on("request", lambda request: requests.append(request.url))
        page.on("requestfailed", lambda request: stopped.append(f"{request.failure} {request.url}"))
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.goto(server.url)
        page.wait_for_selector("#az-sample-radiograph")
        return page

    yield open_page
    for page in pages:
        page.close()
    assert requests
    away = [url for url in requests if not url.startswith((f"{server.url}/", "data:", "blob:"))]
    assert [url for url in away if f"csp {url}" not in stopped] == []
    assert problems == []
    until(lambda: not server.files(), f"files stay: {server.files()}")


def until(happens: Callable[[], bool], otherwise: str) -> None:
    """Wait for what becomes true when computations that were begun have ended."""
    end = time.monotonic() + PATIENCE / 1000
    while not happens():
        assert time.monotonic() < end, otherwise
        time.sleep(0.1)


def picture(page: Any, other_than: str = "") -> str:
    """The address of the first picture, once it is another one."""
    page.wait_for_function(
        "old => { const it = document.querySelector('#az-pictures img'); return it && it.src !== old; }",
        arg=other_than,
    )
    found: str = page.get_attribute("#az-pictures img", "src")
    return found


def drop(page: Any, name: str, content: bytes) -> None:
    page.set_input_files("#az-drop input", {"name": name, "mimeType": "", "buffer": content})


def test_a_click_on_the_sample_shows_overlay_measurements_and_files(opened: Any) -> None:
    page = opened()
    page.click("#az-sample-radiograph")
    first = picture(page)
    assert first.startswith("data:image/webp")
    assert "Cardiothoracic ratio" in page.inner_text("#az-report")
    # Toggles draw again; the band of uncertainty is computed.
    page.click("#az-contours input")
    second = picture(page, first)
    page.click("#az-contours input")
    assert picture(page, second) == first
    page.click("#az-ratio input")
    third = picture(page, first)
    page.click("#az-band input")
    picture(page, third)
    page.wait_for_selector("#az-report :text('standard deviation')")
    with page.expect_download() as waiting:
        page.click("#az-report a:has-text('RG1_UNCR_mask.png')")
    assert waiting.value.path().read_bytes().startswith(b"\x89PNG")
    with page.expect_download() as waiting:
        page.click("#az-report a:has-text('ZIP')")
    assert waiting.value.path().read_bytes().startswith(b"PK")
    # Another model beside it.
    page.click("#az-rival input")
    page.get_by_role("option", name="hybridgnet-jsrt").click()
    page.wait_for_selector("#az-pictures figure + figure img")
    assert page.inner_text("#az-report").count("hybridgnet-jsrt 1.0.0") == 2


def test_a_volume_has_a_slider_that_changes_the_picture(opened: Any, tmp_path: Path) -> None:
    page = opened()
    assert not page.is_visible("#az-slice")
    drop(page, "heart.nii.gz", heart(tmp_path))
    first = picture(page)
    page.wait_for_selector("#az-slice input[type=number]")
    assert page.input_value("#az-slice input[type=number]") == "3"
    assert "heart_mask.nii.gz" in page.inner_text("#az-report")
    page.focus("#az-slice input[type=range]")
    page.keyboard.press("ArrowRight")
    picture(page, first)
    # A radiograph after it has none.
    drop(page, "scan.png", radiograph())
    page.wait_for_selector("#az-report :text('Cardiothoracic ratio')")
    page.wait_for_selector("#az-slice", state="hidden")


def test_bad_files_get_a_sentence_and_nothing_else_breaks(opened: Any, server: Running) -> None:
    page = opened()
    drop(page, "bad.png", b"no picture")
    page.wait_for_selector(".az-error:has-text('it is not an image')")
    drop(page, "70.png", radiograph(70))
    page.wait_for_selector(".az-error:has-text('failed on this file (ValueError')")
    drop(page, "large.png", b"x" * 6_000_000)
    page.wait_for_selector("#az-drop :text('large.png has 6 MB, and at most 5 MB are taken.')")
    answer = httpx.post(
        f"{server.url}/page/upload",
        files={"file": b"x" * 6_000_000},
        headers={"X-Anatozoo": "page"},
        trust_env=False,
        timeout=60,
    )
    assert answer.status_code == 413
    drop(page, "scan.png", radiograph())
    picture(page)
    # A wrong spacing is a sentence, and a right one counts.
    page.click("text=How the file is read")
    for spacing, appears in (("far", ".az-error:has-text('one positive number')"), ("0.5", ":text('mm²')")):
        box = page.locator("#az-spacing input, #az-spacing textarea")
        # At a hand's speed: Gradio builds what an accordion hides when it opens, and empties a box that was
        # filled in the same instant.
        box.fill("")
        box.press_sequentially(spacing, delay=150)
        box.press("Enter", delay=150)
        page.wait_for_selector(appears)


def test_two_visitors_do_not_see_each_other_and_leave_nothing(
    opened: Any, server: Running, chromium: Any
) -> None:
    ada, bob = opened(), opened(chromium.browser.new_context(color_scheme="dark"))
    drop(ada, "ada.png", radiograph(96))
    drop(bob, "bob.png", radiograph(140))
    pictures = picture(ada), picture(bob)
    assert pictures[0] != pictures[1]
    assert "ada.png" in ada.inner_text("#az-report")
    assert "ada" not in bob.inner_text("#az-report")
    addresses = [f"{server.url}/{page.get_attribute('#az-report .az-all', 'href')}" for page in (ada, bob)]
    assert [httpx.get(address, trust_env=False).status_code for address in addresses] == [200, 200]
    ada.close()
    until(
        lambda: httpx.get(addresses[0], trust_env=False).status_code == 404,
        "a visit is kept after its page was closed",
    )
    assert httpx.get(addresses[1], trust_env=False).status_code == 200


def test_ctrl_c_ends_it_as_any_command(tmp_path: Path) -> None:
    code, errors = Running(tmp_path).end(signal.SIGINT)
    assert (code, errors) == (130, "")
    assert not list(tmp_path.iterdir())
