"""Siamese affine registration and its latents, on generated images."""

from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch
from torch import Tensor

from anatozoo.errors import ConfigError
from anatozoo.methods.acregnet.data import AcRegNetDataModule
from anatozoo.methods.affinereg.module import AffineRegModule
from anatozoo.methods.affinereg.network import affine_field, affine_matrix
from anatozoo.nn.warp import warp
from anatozoo.zoo.checkpoint import build_module, write_checkpoint_folder
from tests.support.chest_data import write_chest_data
from tests.support.phantoms import make_chest_phantom

SMALL: dict[str, Any] = {"widths": [4, 8, 8], "latent": 8, "hidden": 16, "cells": 4}


def module(**changes: Any) -> AffineRegModule:
    torch.manual_seed(0)
    return AffineRegModule(**({**SMALL, "frame": {"size": 32}} | changes))


def blobs(row: float, column: float, size: int = 32) -> Tensor:
    """Two soft spots, one broader, (1, 1, S, S)."""
    rows, columns = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")

    def spot(r: float, c: float, width: float) -> Tensor:
        return torch.exp(-((rows - r) ** 2 + (columns - c) ** 2) / (2 * width**2))

    return (spot(row, column, 4) + 0.6 * spot(row + 6, column + 8, 2.5))[None, None].clamp(0, 1)


def test_a_fresh_network_changes_nothing() -> None:
    image = make_chest_phantom(61, 47).image
    for transform in ("affine", "rigid"):
        result = module(transform=transform).predict(image, image)
        np.testing.assert_allclose(result.displacement_px, 0, atol=1e-4)
        np.testing.assert_allclose(result.warped, image, atol=0.01)


def test_a_field_is_its_matrix_in_pixels() -> None:
    matrix = torch.tensor([[[1.2, 0.1, 0.3], [-0.2, 0.9, -0.4]]])
    field = affine_field(matrix, (17, 33))
    for row, column in ((0, 0), (16, 32), (3, 20)):
        x, y = 2 * column / 32 - 1, 2 * row / 16 - 1
        there = matrix[0] @ torch.tensor([x, y, 1.0])
        expected = torch.tensor([(there[1] + 1) * 8 - row, (there[0] + 1) * 16 - column])
        torch.testing.assert_close(field[0, :, row, column], expected, atol=1e-5, rtol=0)
    # Half a side to the right of an image of 33 columns is 16 pixels.
    shift = affine_field(affine_matrix(torch.tensor([[0.0, 0, 1, 0, 0, 0]]), (17, 33)), (17, 33))
    torch.testing.assert_close(shift[0, 1], torch.full((17, 33), 16.0))
    assert not shift[0, 0].any()


def test_a_rotation_turns_an_oblong_image_without_bending_it() -> None:
    shape = (21, 41)
    field = affine_field(affine_matrix(torch.tensor([[0.3, 0.0, 0.0, 0.0, 0.0]]), shape), shape)[0]
    grid = torch.stack(torch.meshgrid(*(torch.arange(n) for n in shape), indexing="ij"))
    place = grid + field
    torch.testing.assert_close(place[:, 10, 20], torch.tensor([10.0, 20.0]))
    right, down = place[:, 10, 30] - place[:, 10, 20], place[:, 20, 20] - place[:, 10, 20]
    torch.testing.assert_close(right.norm(), torch.tensor(10.0))
    torch.testing.assert_close(down.norm(), torch.tensor(10.0))
    assert float(right @ down) == pytest.approx(0, abs=1e-3)
    assert float(torch.atan2(right[0], right[1])) == pytest.approx(0.3, abs=1e-4)
    scaled = affine_field(affine_matrix(torch.tensor([[0.3, np.log(2.0), 0, 0, 0]]), shape), shape)[0]
    assert float((grid + scaled)[:, 10, 30].sub(place[:, 10, 20]).norm()) == pytest.approx(20, abs=1e-3)


def test_training_finds_a_shift() -> None:
    model = module(organs=[], label_weight=0.0, kl_weight=0.0)
    fixed, moving = blobs(12, 10), blobs(15, 8)
    batch = {"moving": moving, "fixed": fixed}
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    for _ in range(60):
        loss = model.losses(model(moving, fixed), batch)["similarity"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    field = model(moving, fixed).field[0].detach()
    inside = fixed[0, 0] > 0.5
    np.testing.assert_allclose(field[:, inside].mean(1), [3, -2], atol=0.5)


def test_labels_draw_the_map_where_images_say_nothing() -> None:
    model = module(organs=["a"], kl_weight=0.0)
    labels = (blobs(12, 10)[:, 0] > 0.3).long(), (blobs(15, 8)[:, 0] > 0.3).long()
    grey = torch.full((1, 1, 32, 32), 0.5) + 0.01 * blobs(12, 10)
    batch = {"moving": grey, "fixed": grey, "moving_labels": labels[1], "fixed_labels": labels[0]}
    model.losses(model(grey, grey), batch)["label"].backward()
    assert model.network.head.bias.grad is not None
    # Down against the gradient: the moving labels lie lower and further to the left.
    assert float(model.network.head.bias.grad[5]) < 0 < float(model.network.head.bias.grad[2])


def test_latents_are_drawn_in_training_alone() -> None:
    model, a, b = module(), blobs(12, 10), blobs(15, 8)
    with torch.no_grad():
        model.network.head.weight.normal_()
        model.eval()
        answer = model(a, b)
        assert torch.equal(answer.field, model(a, b).field)
        torch.testing.assert_close(answer.means, model.network.embed(torch.cat([a, b])))
        model.train()
        assert not torch.equal(model(a, b).field, model(a, b).field)
    assert module(kl_weight=0.0)(a, b).log_variances is None


def test_the_divergence_counts_both_images() -> None:
    model, a = module(label_weight=0.0, kl_weight=0.5), blobs(12, 10)
    answer = model(a, a)._replace(means=torch.zeros(2, 8), log_variances=torch.zeros(2, 8))
    assert float(model.losses(answer, {"moving": a, "fixed": a})["divergence"]) == 0
    answer = answer._replace(means=torch.ones(2, 8))
    # Of each image 1/2, twice, times the weight.
    assert float(model.losses(answer, {"moving": a, "fixed": a})["divergence"]) == pytest.approx(0.5)


def test_an_image_of_any_size_has_a_latent() -> None:
    model = module()
    image = make_chest_phantom(96, 64, noise=3.0).image
    latent = model.embed(image)
    assert (latent.shape, latent.dtype) == ((8,), np.float32)
    np.testing.assert_array_equal(model.embed(image), latent)
    # Grey levels are stretched between percentiles.
    np.testing.assert_allclose(model.embed(image * 0.5 + 20), latent, atol=1e-4)
    assert np.abs(model.embed(image[::-1].copy()) - latent).max() > 0.01


def test_a_field_that_mirrors_is_flagged() -> None:
    model = module()
    with torch.no_grad():
        model.network.head.bias[0] = -1.8
    image = make_chest_phantom(64, 64).image
    assert "field_folds" in model.predict(image, image).flags
    with pytest.raises(ConfigError, match="refines no field"):
        model.predict(image, image, instance_steps=3)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"frame": {"size": [16, 16, 16]}}, r"must be a side or \[H, W\] here"),
        ({"organs": []}, "label_weight needs organs"),
        ({"kl_weight": -1.0}, "must not be negative"),
        ({"frame": {"size": 32, "fit": "spacing"}}, "needs spacing_mm with 2"),
        ({"window": 4}, "must be odd"),
        ({"transform": "similarity"}, "transform='similarity' is unknown"),
        ({"widths": []}, "must be positive"),
        ({"latent": 0}, "must be positive"),
    ],
)
def test_settings_that_are_not_possible(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        module(**settings).setup("fit")


def test_images_too_small_for_the_encoder_are_refused() -> None:
    with pytest.raises(ConfigError, match="every side needs 64 pixels"):
        module(widths=[2] * 6)(blobs(12, 10), blobs(12, 10))


@pytest.fixture(scope="module")
def chest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_chest_data(tmp_path_factory.mktemp("chest"), {"train": 3, "val": 2, "test": 2}, side=64)


def trainer(**settings: Any) -> L.Trainer:
    return L.Trainer(
        max_epochs=1, accelerator="cpu", logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, **settings,
    )  # fmt: skip


@pytest.mark.filterwarnings("ignore:The '.*_dataloader' does not have many workers")
@pytest.mark.filterwarnings("ignore:.*isinstance.treespec, LeafSpec.")
def test_it_trains_on_the_pairs_of_acregnet(chest: Path, tmp_path: Path) -> None:
    data: dict[str, Any] = {
        "root": str(chest),
        "batch_size": 2,
        "augment": {"rotation_deg": 20},
        "frame": {"size": 32},
    }
    model, fit = module(), trainer(limit_train_batches=2)
    fit.fit(model, AcRegNetDataModule(**data))
    metrics = {k: float(v) for k, v in fit.callback_metrics.items()}
    assert {"train/divergence", "train/label", "val/dice/heart", "val/dice_before"} <= set(metrics)
    assert all(np.isfinite(value) for value in metrics.values())
    write_checkpoint_folder(model, tmp_path, name="affinereg-test", version="1.0.0", half=False)
    fresh = module(init_weights=str(tmp_path), optim={"name": "adamw"})
    with pytest.raises(ConfigError, match="nothing was trained"):  # as is meant here
        trainer(limit_train_batches=0).fit(fresh, AcRegNetDataModule(**data))
    for name, value in model.network.state_dict().items():
        assert torch.equal(fresh.network.state_dict()[name], value), name
    other = module(init_weights=str(tmp_path), latent=4)
    with pytest.raises(ConfigError, match="another network"):
        trainer(fast_dev_run=True).fit(other, AcRegNetDataModule(**data))


def test_a_checkpoint_gives_the_same_latents(tmp_path: Path) -> None:
    model, image = module(), make_chest_phantom(64, 64).image
    write_checkpoint_folder(model, tmp_path, name="affinereg-test", version="1.0.0", half=False)
    loaded: Any = build_module(tmp_path)
    np.testing.assert_array_equal(loaded.embed(image), model.embed(image))


def test_the_field_warps_as_the_answer_says() -> None:
    model, a, b = module(), blobs(12, 10), blobs(15, 8)
    with torch.no_grad():
        model.network.head.bias.copy_(torch.tensor([0.1, 0.0, 0.2, 0.05, -0.1, 0.1]))
        answer = model(a, b)
    torch.testing.assert_close(answer.warped, warp(a, answer.field))
    expected = torch.tensor([[[1.1, 0.0, 0.2], [0.05, 0.9, 0.1]]])
    torch.testing.assert_close(answer.matrix, expected)
