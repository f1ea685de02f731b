"""Converted weights of the AC-RegNet port give the authors' outputs, and our losses their values."""

from pathlib import Path

import numpy as np
import pytest
import torch

from anatozoo.methods.acregnet import convert as convert_regnet
from anatozoo.methods.aenet import convert as convert_aenet
from anatozoo.nn.labels import one_hot
from anatozoo.nn.registration_losses import ncc_loss, total_variation
from anatozoo.nn.warp import warp
from anatozoo.training.conversion import convert_file

TOLERANCE = 1e-5


def state(shared: Path, name: str) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = torch.load(shared / "parity" / f"{name}.pt", weights_only=True)
    return found


@pytest.fixture(scope="module")
def truth(shared: Path) -> dict[str, torch.Tensor]:
    with np.load(shared / "parity" / "acregnet_64.npz") as file:
        return {key: torch.from_numpy(np.asarray(file[key])) for key in file.files}


def close(found: torch.Tensor, expected: torch.Tensor) -> None:
    np.testing.assert_allclose(found.numpy(), expected.numpy(), rtol=0, atol=TOLERANCE)


def test_every_vector_is_compared(truth: dict[str, torch.Tensor]) -> None:
    assert set(truth) == {
        *("moving", "fixed", "warped", "flow", "label", "code", "logits"),
        *("ncc_warped_fixed", "tv_mean_flow"),
    }


def test_registration_network(shared: Path, truth: dict[str, torch.Tensor]) -> None:
    module = convert_regnet.convert_state(state(shared, "acregnet_regnet_64"))
    with torch.no_grad():
        output = module(truth["moving"][None, None], truth["fixed"][None, None])
    close(output.field, truth["flow"])
    close(output.warped, truth["warped"])
    # Without the port's second activation it is another network: the setting is needed.
    module.network.networks[0].double_elu = False
    with torch.no_grad():
        other = module(truth["moving"][None, None], truth["fixed"][None, None])
    assert float((other.field - truth["flow"]).abs().max()) > 100 * TOLERANCE


def test_spatial_transformer(truth: dict[str, torch.Tensor]) -> None:
    close(warp(truth["moving"][None, None], truth["flow"]), truth["warped"])


def test_label_autoencoder(shared: Path, truth: dict[str, torch.Tensor]) -> None:
    module = convert_aenet.convert_state(state(shared, "acregnet_aenet_64"))
    with torch.no_grad():
        code, logits = module(one_hot(truth["label"][None], 4))
    close(code, truth["code"])
    close(logits, truth["logits"])


def test_losses(truth: dict[str, torch.Tensor]) -> None:
    # The published value is the loss, minus the correlation.
    close(ncc_loss(truth["warped"], truth["fixed"][None, None]), truth["ncc_warped_fixed"])
    close(total_variation(truth["flow"], "mean"), truth["tv_mean_flow"])


@pytest.mark.parametrize(
    ("method", "name"), [("acregnet", "acregnet_regnet_64"), ("aenet", "acregnet_aenet_64")]
)
def test_a_file_becomes_a_folder_that_gives_the_same(
    shared: Path, truth: dict[str, torch.Tensor], tmp_path: Path, method: str, name: str
) -> None:
    from anatozoo.zoo.checkpoint import build_module

    folder = convert_file(method, shared / "parity" / f"{name}.pt", tmp_path / "folder")
    module = build_module(folder)
    assert module.checkpoint_name == f"{method}-port"
    with torch.no_grad():
        if method == "acregnet":
            close(module(truth["moving"][None, None], truth["fixed"][None, None]).field, truth["flow"])
        else:
            close(module(one_hot(truth["label"][None], 4))[0], truth["code"])
