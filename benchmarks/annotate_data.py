"""Images and models for the benchmarks of `anatozoo annotate`."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
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

Pixels = np.ndarray
TABLES = ("images.csv", "OriginalResolution.csv", "Preprocessed.csv")


def write_images(folder: Path, count: int, *, bad: float = 0.03, side: int = 256) -> Path:
    """Drawn chests of unequal sizes; a share of the files is damaged, in five ways in turn."""
    chests = [chest_phantom(side + 8 * n, side, seed=n, move=True).image for n in range(8)]
    noise = np.random.default_rng(0)

    def drawn(number: int) -> Pixels:
        chest = chests[number % len(chests)]
        return np.clip(chest + noise.normal(0, 2, (1, chest.shape[1])), 0, 255).astype(np.uint8)

    return _written(folder, count, bad, drawn)


def write_variants(folder: Path, sources: Sequence[Path], count: int, *, bad: float = 0.03) -> Path:
    """Radiographs of folders and variants of them, each cropped and of another contrast; some are damaged.

    The short side has at most 512 pixels.
    """
    names = sorted(
        path for source in sources for path in source.iterdir() if path.suffix in (".png", ".jpg", ".jpeg")
    )

    def variant(number: int) -> Pixels:
        times, place = divmod(number, len(names))
        pixels = cv2.imread(str(names[place]), cv2.IMREAD_GRAYSCALE)
        assert pixels is not None, names[place]
        scale = min(1.0, 512 / min(pixels.shape))
        small = cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        return cv2.convertScaleAbs(small[4 * times :, 5 * times :], alpha=1 - 0.05 * times, beta=3 * times)

    return _written(folder, count, bad, variant)


def _written(folder: Path, count: int, bad: float, image: Callable[[int], Pixels]) -> Path:
    make_folder(folder)
    damaged = set(np.linspace(1, count - 2, round(bad * count)).astype(int).tolist())
    kinds = 0
    for number in range(count):
        path = folder / f"chest{number:05d}.png"
        content = cv2.imencode(".png", image(number), (cv2.IMWRITE_PNG_COMPRESSION, 1))[1].tobytes()
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
