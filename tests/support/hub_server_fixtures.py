"""A Hub of the tests with one published checkpoint, and the environment that leads to it."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.hub_server import HubServer, Repo, running
from tests.support.zoo_fixtures import COMMIT, published, write_manifest, write_tiny

CHILD = """
import sys
from pathlib import Path
from anatozoo.zoo import catalogue, registry
catalogue.PACKAGE = Path({package!r})
registry.METHODS["tiny"] = registry.MethodEntry(
    "tiny", "tests.support.zoo_fixtures:TinyModule", None, None, "Tiny", "none"
)
"""
"""Head of a program that sees the package and the method of the tests, without importing torch."""


def child(package: Path, code: str) -> list[str]:
    """Arguments after the interpreter's for a process that runs `code` in the zoo of the tests."""
    return ["-c", CHILD.format(package=str(package)) + code]


def child_environment(hub: HubServer, **more: str) -> dict[str, str]:
    """Environment of such a process: the toy Hub, no xet, no telemetry."""
    return {
        **os.environ,
        "HF_ENDPOINT": hub.url,
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        **more,
    }


@pytest.fixture
def empty_hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """A Hub without repositories."""
    with running(HubServer()) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        # Otherwise the client may first ask huggingface.co itself which program it runs in.
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_TELEMETRY", True)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
        yield server


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """The folder of `tiny-toy` as its makers have it."""
    write_tiny(tmp_path / "source")
    return tmp_path / "source"


@pytest.fixture
def hub(package: Path, source: Path, empty_hub: HubServer) -> HubServer:
    """`tiny-toy` is published on a Hub of our own, and nowhere else; toys/other is in no manifest."""
    write_manifest(package / "checkpoints_manifest.yaml", published(source))
    for name in ("toys/tiny", "toys/other"):
        repo = empty_hub.repos[name] = Repo(name)
        repo.put({path.name: path.read_bytes() for path in sorted(source.iterdir())}, oid=COMMIT)
    return empty_hub
