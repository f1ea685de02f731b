"""Soft damage of label maps: still probabilities, of the kinds that were asked for, and none without."""

from typing import Any

import pytest
import torch
from torch import Tensor

from anatozoo.errors import ConfigError
from anatozoo.frames.spec import FrameSpec
from anatozoo.methods.acnnprior.module import AcnnPriorModule
from anatozoo.methods.aenet.module import AeNetModule
from anatozoo.nn.labels import one_hot, swap_neighbours
from anatozoo.nn.soft_damage import SoftDamage, damage, damage_boxes, damage_slices, soften

OFF: dict[str, Any] = {"clean_p": 0.0, "boxes": 0, "elastic": 0.0, "slices_p": 0.0}
HARD: dict[str, Any] = {"noise": 0.0, "temperature": 1.0, "blur": 0.0}


def maps(*shape: int, batch: int = 4) -> Tensor:
    labels = torch.zeros(batch, *shape, dtype=torch.long)
    labels[..., 6:18, 8:16] = 1
    labels[..., 10:14, 10:14] = 2
    return one_hot(labels, 3)


@pytest.mark.parametrize("shape", [(24, 32), (8, 24, 32)])
def test_damaged_maps_are_probabilities_and_differ_from_item_to_item(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    clean = maps(*shape)
    found = damage(clean, SoftDamage(clean_p=0.0))
    assert found.shape == clean.shape
    torch.testing.assert_close(found.sum(1), torch.ones(4, *shape))
    assert float(found.min()) >= 0
    assert float((found[0] - found[1]).abs().max()) > 0.1
    # Soft: many voxels are neither 0 nor 1, as in a prediction.
    assert float(((found > 0.02) & (found < 0.98)).float().mean()) > 0.01
    # But of the same shape: most voxels keep their label.
    assert float((found.argmax(1) == clean.argmax(1)).float().mean()) > 0.6


def test_clean_items_and_absent_kinds_stay_as_they_are() -> None:
    clean = maps(24, 32)
    assert torch.equal(damage(clean, SoftDamage(clean_p=1.0)), clean)
    assert torch.equal(damage(clean, SoftDamage(**OFF, **HARD)), clean)


def test_boxes_erase_move_and_misclass_without_softening() -> None:
    torch.manual_seed(1)
    clean = maps(24, 32, batch=40)
    found = damage_boxes(clean, SoftDamage(boxes=1))
    assert set(found.unique().tolist()) == {0.0, 1.0}
    before, after = clean.argmax(1), found.argmax(1)
    assert bool(((before > 0) & (after == 0)).any())  # erased
    assert bool(((before == 0) & (after > 0)).any())  # moved or misclassed
    assert bool(((before == 1) & (after == 2)).any())
    assert 0.1 < float((before != after).flatten(1).any(1).float().mean()) < 1


def test_slices_are_emptied_or_shifted_one_by_one() -> None:
    torch.manual_seed(0)
    clean = maps(10, 24, 32, batch=8)
    found = damage_slices(clean, 1.0)
    changed = (found != clean).flatten(3).any(3).any(1)  # (B, D)
    assert 0 < float(changed.float().mean()) < 0.4
    torch.testing.assert_close(found.sum(1), torch.ones_like(found[:, 0]))


def test_temperature_alone_keeps_every_label() -> None:
    torch.manual_seed(0)
    clean = maps(24, 32)
    found = soften(clean, SoftDamage(noise=0.0, blur=0.0, temperature=8.0))
    assert torch.equal(found.argmax(1), clean.argmax(1))
    assert float(found.amax(1).min()) < 0.9


def test_pixels_beside_one_another_err_alike() -> None:
    torch.manual_seed(0)
    config = SoftDamage(noise=3.0, temperature=1.0, blur=0.0)
    logits = soften(torch.full((200, 2, 64, 64), 0.5), config).clamp_min(1e-30).log()
    noise = logits[:, 0] - logits[:, 1]
    # The difference of two channels; the square of a uniform number is 1/3 on average.
    assert float(noise.flatten(1).std(1).mean()) == pytest.approx(3.0 * 2**0.5 / 3, rel=0.15)
    pair = torch.stack([noise[..., 1:].flatten(), noise[..., :-1].flatten()])
    assert float(torch.corrcoef(pair)[0, 1]) > 0.5


@pytest.mark.parametrize("kind", [AeNetModule, AcnnPriorModule])
def test_an_autoencoder_damages_only_if_asked(kind: Any) -> None:
    settings: dict[str, Any] = {"organs": ["a", "b"], "frame": FrameSpec([24, 32])}
    settings |= {"widths": [4, 8]} if kind is AcnnPriorModule else {}
    labels = maps(24, 32).argmax(1)
    torch.manual_seed(3)
    plain = kind(**settings).corrupted(labels)
    torch.manual_seed(3)
    kind(**settings)
    assert torch.equal(plain, swap_neighbours(one_hot(labels, 3), 0.1))  # as ever, bit for bit
    module = kind(**settings, soft_damage={"clean_p": 0.0})
    assert float((module.corrupted(labels) - one_hot(labels, 3)).abs().amax()) > 0.1
    with pytest.raises(ConfigError, match=r"model.soft_damage does not know boxs; it has clean_p, boxes"):
        kind(**settings, soft_damage={"boxs": 3})
    with pytest.raises(ConfigError, match=r"model.soft_damage.clean_p=2 must not be negative"):
        kind(**settings, soft_damage={"clean_p": 2})
