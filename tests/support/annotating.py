"""Folders of radiographs to annotate, and what stands for a worker process."""

import csv
import os
import signal
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

from anatozoo.annotate.ledger import commit, packed
from anatozoo.annotate.plan import Plan, Settings
from anatozoo.annotate.records import Record
from anatozoo.annotate.stages import STAGES
from tests.support.fake_model import FakeSegmenter

NO_TIME = {kind: dict.fromkeys(STAGES, 0.0) for kind in ("cpu", "wall")}
TABLES = ("images.csv", "OriginalResolution.csv", "Preprocessed.csv")


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> FakeSegmenter:
    """A model without a network, in place of whatever is loaded."""
    fake = FakeSegmenter()
    monkeypatch.setattr("anatozoo.zoo.hub.load", lambda name, **how: fake)
    return fake


def settings(*sources: Any, **more: Any) -> Settings:
    """Settings of a model that tests replace, in shards of three images."""
    return Settings(tuple(map(str, sources)), "fake-phantom", **{"shard_size": 3, **more})


def rows_of(out: Path) -> list[dict[str, str]]:
    """The rows of ``images.csv``."""
    with (out / "images.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def bytes_of(out: Path, names: Sequence[str] = TABLES) -> list[bytes]:
    """What the tables of a run hold."""
    return [(out / name).read_bytes() for name in names]


def work(plan: Plan, device: str, pipe: Connection) -> None:
    """A worker without a model: it dies in the first try of each shard that ``dies`` names by its number."""
    while (shard := pipe.recv()) is not None:
        for mark in plan.folder.glob(f"dies{shard}"):
            mark.unlink()
            os.kill(os.getpid(), signal.SIGKILL)
        if (plan.folder / "always").exists():
            os.kill(os.getpid(), signal.SIGKILL)
        if (plan.folder / "refuses").exists():
            pipe.send("the atlas is gone.")
            continue
        records = [Record(item.id, item.location, "failed", "no model") for item in plan.items(shard)]
        commit(plan, shard, packed(records, NO_TIME))
        pipe.send(None)
