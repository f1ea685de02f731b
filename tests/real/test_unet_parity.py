"""The authors' U-Net, converted, gives the authors' output."""

from pathlib import Path

import numpy as np
import pytest
import torch

from anatozoo.methods.unet.convert import convert_state, styles_of
from anatozoo.methods.unet.module import UNetModule
from anatozoo.training.conversion import convert_file, read_state
from anatozoo.zoo.checkpoint import build_module

NAME = "unet_tmi_128"


@pytest.fixture
def truth(shared: Path) -> dict[str, torch.Tensor]:
    with np.load(shared / "parity" / f"{NAME}.npz") as file:
        return {key: torch.from_numpy(file[key]) for key in file.files}


def compare(module: UNetModule, truth: dict[str, torch.Tensor]) -> None:
    """Probabilities to 1e-5, and logits to 1e-5 of their range, which is about 16 with these weights.

    The stored logits themselves are 8e-5 away from what the same network gives in double precision.
    """
    with torch.no_grad():
        found = module(truth["image"][None, None])
    assert found.shape == truth["out0"].shape
    reach = float(truth["out0"].abs().max())
    torch.testing.assert_close(found, truth["out0"], rtol=0, atol=1e-5 * reach)
    torch.testing.assert_close(found.softmax(1), truth["out0"].softmax(1), rtol=0, atol=1e-5)


def test_same_output(shared: Path, truth: dict[str, torch.Tensor]) -> None:
    state = read_state(shared / "parity" / f"{NAME}.pt")
    assert styles_of(state) == ("tmi",)
    module = convert_state(state, image_size=128)
    assert module.organs == ["lungs", "heart"]
    assert sum(value.numel() for value in module.state_dict().values()) == 1_292_749
    compare(module, truth)


def test_same_output_beside_another_image(shared: Path, truth: dict[str, torch.Tensor]) -> None:
    module = convert_state(read_state(shared / "parity" / f"{NAME}.pt"), image_size=128)
    image = truth["image"][None, None]
    with torch.no_grad():
        beside = module(torch.cat([1 - image, image, torch.rand_like(image)]))[1:2]
        torch.testing.assert_close(beside, module(image), rtol=0, atol=1e-4)


def test_same_output_from_the_folder(shared: Path, truth: dict[str, torch.Tensor], tmp_path: Path) -> None:
    folder = convert_file("unet", shared / "parity" / f"{NAME}.pt", tmp_path / "out", image_size=128)
    module = build_module(folder)
    assert isinstance(module, UNetModule)
    assert module.checkpoint_name == "unet-tmi"
    compare(module, truth)
