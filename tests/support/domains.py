"""Images of two domains, and translators whose answer is known."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image as PILImage
from torch import Tensor, nn

from anatozoo.frames.spec import FrameSpec
from anatozoo.methods.cyclegan.model import CycleGANModel
from anatozoo.methods.cyclegan.module import CycleGANModule

SMALL: dict[str, Any] = {"width": 2, "blocks": 1, "frame": FrameSpec(16)}
CRITICS: dict[str, Any] = {"critic_width": 2, "critic_layers": 1, "pool": 2}


class Shift(nn.Module):
    """Adds a number to every pixel."""

    def __init__(self, by: float) -> None:
        super().__init__()
        self.by = nn.Parameter(torch.tensor(by))

    def forward(self, image: Tensor) -> Tensor:
        return image + self.by


def shifting(by: float = 0.25, name: str = "cyclegan-toy") -> CycleGANModel:
    """A translator that makes images brighter, or darker, by a share of the range."""
    model = CycleGANModel(domains=["dark", "bright"], **SMALL)
    model.network = Shift(by)  # type: ignore[assignment]
    model.checkpoint_name, model.checkpoint_version = name, "1.0.0"
    return model.eval()


def module(**settings: Any) -> CycleGANModule:
    """A small untrained CycleGAN."""
    torch.manual_seed(0)
    return CycleGANModule(**{"domains": ["dark", "bright"], **SMALL, **CRITICS, **settings})


def write_domains(
    folder: Path, counts: dict[str, int], shape: tuple[int, ...] = (16, 16), split: str = "train"
) -> Path:
    """Make a folder of images with a ``manifest.csv``; brighter in the domain ``bright``."""
    rows = [] if (folder / "manifest.csv").is_file() else ["image,subject,split,domain"]
    (folder / "images").mkdir(parents=True, exist_ok=True)
    for domain, count in counts.items():
        for number in range(count):
            draw = np.random.default_rng(number)
            values = draw.integers(0, 120, shape) + 100 * (domain == "bright")
            name = f"images/{domain}_{split}_{number}.png"
            PILImage.fromarray(values.astype(np.uint8)).save(folder / name)
            rows.append(f"{name},{domain}{split}{number},{split},{domain}")
    with (folder / "manifest.csv").open("a", encoding="utf-8") as file:
        file.write("\n".join(rows) + "\n")
    return folder
