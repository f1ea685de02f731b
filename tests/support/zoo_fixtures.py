"""A tiny method, its checkpoint folder and a manifest that lists it: the zoo without trained weights."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import huggingface_hub.constants  # noqa: F401 - reads HF_HUB_OFFLINE once, so before a test sets it
import lightning as L
import numpy as np
import pytest
import torch
import yaml

from anatozoo.zoo import registry
from anatozoo.zoo.checkpoint import write_checkpoint_folder
from anatozoo.zoo.files import fingerprint
from anatozoo.zoo.golden import write_golden
from anatozoo.zoo.registry import MethodEntry

COMMIT = "0123456789abcdef0123456789abcdef01234567"
OTHER_COMMIT = "f" * 40

TINY = MethodEntry(
    name="tiny",
    module="tests.support.zoo_fixtures:TinyModule",
    data=None,
    kind=None,
    title="Tiny",
    paper="none",
)


@dataclass
class TinyResult:
    landmarks: dict[str, np.ndarray]


class TinyModule(L.LightningModule):
    """Puts a heart of `nodes` landmarks around the brightest pixel, scaled by its one learned tensor."""

    def __init__(self, nodes: int = 5, init_weights: str | None = None) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.offsets = torch.nn.Parameter(torch.randn(nodes, 2))
        self.register_buffer("counts", torch.arange(nodes))

    def predict(self, image: np.ndarray) -> TinyResult:
        y, x = np.unravel_index(int(image.argmax()), image.shape)
        offsets = self.offsets.detach().double().numpy()
        return TinyResult({"heart": np.array([x, y], dtype=np.float64) + offsets})


def golden_image() -> np.ndarray:
    image = np.zeros((20, 30), dtype=np.uint8)
    image[7, 11] = 200
    return image


def write_tiny(folder: Path, *, name: str = "tiny-toy", half: bool = True) -> TinyModule:
    """Fill a checkpoint folder; returns the module whose weights it holds."""
    module = TinyModule(nodes=5, init_weights="somewhere")
    write_checkpoint_folder(module, folder, name=name, version="1.0.0", half=half)
    write_golden(module, golden_image(), folder)
    return module


def file_record(path: Path) -> dict[str, Any]:
    """SHA-256 and size of a file as manifests write them."""
    return vars(fingerprint(path))


def entry(folder: Path | None = None, name: str = "tiny-toy", **changes: Any) -> dict[str, Any]:
    """A valid manifest entry, with the records of `folder`'s files."""
    files = ("model.safetensors", "config.json", "golden.safetensors")
    blank = {"sha256": "0" * 64, "size": 1}
    values: dict[str, Any] = {
        "name": name,
        "method": "tiny",
        "version": "1.0.0",
        "status": "bundled",
        "summary": "A toy.",
        "hub": {
            "repo_id": None,
            "revision": None,
            "files": {file: file_record(folder / file) if folder else dict(blank) for file in files},
        },
        "bundled": True,
        "license": {
            "weights": "CC-BY-NC-4.0",
            "training_data": "generated",
            "code_origin": "Apache-2.0",
            "commercial_use": False,
            "note": None,
        },
        "input": {
            "modality": "x-ray",
            "anatomy": "chest",
            "views": ["PA"],
            "size": [30, 20],
            "fit": "pad",
            "intensity": "as it is",
            "polarity": "bone-white",
            "spacing_mm": None,
        },
        "output": {"kind": "contours", "classes": ["heart"], "landmarks": {"heart": 5}},
        "measured": [
            {
                "dataset": "Toy set",
                "split": "val",
                "n": 3,
                "source": f"anatozoo evaluate {name} --data toy",
                "report": None,
                "values": {"dice": {"heart": 0.912345}, "hd_px": {"heart": None}},
            },
        ],
        "training_data": [
            {"name": "Toy set", "url": "https://example.org/toy", "license": "CC0-1.0", "n": 7}
        ],
        "training": {
            "config": "tiny/toy.yaml",
            "git_sha": None,
            "versions": {"torch": "2.15.0"},
            "hardware": "one core",
            "seed": 0,
        },
        "intended_use": "Tests.",
        "out_of_scope": ["All else."],
        "limitations": ["It is a toy."],
        "citation": "@misc{toy, title = {Toy}}",
    }
    return {**values, **changes}


def number(value: float | None, metric: str = "dice", organ: str = "heart", **changes: Any) -> dict[str, Any]:
    """One more number for an entry's `measured`."""
    return {**entry()["measured"][0], "values": {metric: {organ: value}}, **changes}


def write_manifest(path: Path, *entries: dict[str, Any]) -> Path:
    """Write a manifest file that lists these entries."""
    manifest = {"schema_version": 1, "hub_organisation": None, "checkpoints": list(entries)}
    path.write_text(yaml.safe_dump(manifest, sort_keys=False, allow_unicode=True), encoding="utf-8")
    return path


def published(folder: Path, name: str = "tiny-toy") -> dict[str, Any]:
    """An entry that lies on the Hub only."""
    values = entry(folder, name, status="published", bundled=False)
    values["hub"] |= {"repo_id": "toys/tiny", "revision": COMMIT}
    return values


def read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.fixture
def tiny_method(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry.METHODS, "tiny", TINY)


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_method: None) -> Path:
    """Stands for the installed package: `checkpoints/` and an empty manifest; the cache lies beside it."""
    folder = tmp_path / "package"
    folder.mkdir()
    write_manifest(folder / "checkpoints_manifest.yaml")
    monkeypatch.setattr("anatozoo.zoo.catalogue.PACKAGE", folder)
    monkeypatch.setenv("ANATOZOO_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.delenv("HF_TOKEN", raising=False)
    return folder


@pytest.fixture
def bundled(package: Path) -> TinyModule:
    """The package holds `tiny-toy`; gives the module whose weights were stored."""
    folder = package / "checkpoints" / "tiny-toy"
    module = write_tiny(folder)
    write_manifest(package / "checkpoints_manifest.yaml", entry(folder))
    return module
