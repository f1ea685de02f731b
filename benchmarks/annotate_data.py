"""Images and models for the benchmarks of `anatozoo annotate`."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from rca import generated

from anatozoo.frames.spec import FrameSpec
from anatozoo.io.phantoms import chest_phantom
from anatozoo.io.writers import make_folder
from anatozoo.methods.hybridgnet.model import HybridGNetModel
from anatozoo.zoo.checkpoint import write_checkpoint_folder

TABLES = ("images.csv", "OriginalResolution.csv", "Preprocessed.csv")


def write_images(folder: Path, count: int, *, bad: float = 0.03, side: int = 256) -> Path:
    """Drawn chests of unequal sizes; a share of the files is damaged, in five ways in turn."""
    make_folder(folder)
    chests = [chest_phantom(side + 8 * n, side, seed=n, move=True).image for n in range(8)]
    damaged = set(np.linspace(1, count - 2, round(bad * count)).astype(int).tolist())
    noise, kinds = np.random.default_rng(0), 0
    for number in range(count):
        path = folder / f"chest{number:05d}.png"
        chest = chests[number % len(chests)]
        values = np.clip(chest + noise.normal(0, 2, (1, chest.shape[1])), 0, 255).astype(np.uint8)
        content = cv2.imencode(".png", values)[1].tobytes()
        if number in damaged:
            half = content[: len(content) // 2]
            constant = cv2.imencode(".png", np.full((64, 64), 7, np.uint8))[1].tobytes()
            content = (b"", half, b"no image", constant, content[:20])[kinds % 5]
            kinds += 1
        path.write_bytes(content)
    return folder


def write_model(folder: Path) -> Path:
    """A HybridGNet that takes no time, with random weights."""
    torch.manual_seed(0)
    model = HybridGNetModel(
        organs="lungs_heart", latents=8, features=8, template=True, frame=FrameSpec(64)
    ).eval()
    with torch.no_grad():  # else every contour stays where it starts, whatever the image
        for name, values in model.network.named_parameters():
            if name.startswith(("head", "skip")):
                values.add_(0.05 * torch.randn_like(values))
    return write_checkpoint_folder(model, folder / "hybridgnet-tiny", name="hybridgnet-tiny", version="1.0.0")


def write_atlas(folder: Path) -> Path:
    """An atlas of chests of ellipses."""
    generated().save(folder / "atlas")
    return folder / "atlas"


def command(*words: object) -> list[str]:
    """The command line of `anatozoo annotate` in a process of its own."""
    return [sys.executable, "-m", "anatozoo", "annotate", *map(str, words)]


def run(*words: object, **how: Any) -> "subprocess.CompletedProcess[str]":
    """Run it to its end."""
    return subprocess.run(command(*words), capture_output=True, text=True, check=False, **how)


def tables(out: Path) -> list[bytes]:
    """What the tables hold."""
    return [(out / name).read_bytes() for name in TABLES]


def summary(out: Path) -> dict[str, Any]:
    """What ``summary.json`` holds."""
    found: dict[str, Any] = json.loads((out / "summary.json").read_text())
    return found


def environment() -> dict[str, str]:
    """Of a process with one thread."""
    return {**os.environ, "OMP_NUM_THREADS": "1"}
