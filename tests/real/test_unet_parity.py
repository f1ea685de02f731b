"""The authors' U-Net, converted, gives the authors' output."""

import copy
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
    """The network in double precision gives the stored numbers, up to what float32 has rounded in them.

    In double precision every processor gives the same: the stored float32 probabilities are at most 2.03e-5
    away from it, 105 of 49,152 of them more than 1e-5. Two networks in float32 would be compared by the
    kernels of their processors instead.
    """
    image = truth["image"][None, None]
    stored = truth["out0"]
    reach = float(stored.abs().max())  # about 16
    with torch.no_grad():
        single, found = module(image), copy.deepcopy(module).double()(image.double()).double()
    assert found.shape == stored.shape
    torch.testing.assert_close(found, stored.double(), rtol=0, atol=1e-5 * reach)
    apart = (found.softmax(1) - stored.double().softmax(1)).abs()
    assert float(apart.max()) < 2.1e-5
    assert int((apart > 1e-5).sum()) <= 110
    assert torch.equal(found.argmax(1), stored.argmax(1))
    torch.testing.assert_close(single, stored, rtol=0, atol=1e-5 * reach)
    torch.testing.assert_close(single.softmax(1).double(), found.softmax(1), rtol=0, atol=2.5e-5)


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
