"""Validation batches as cases: units, what is known, and what is left out."""

from typing import Any

import numpy as np
import pytest
import torch

from anatozoo.frames.spec import FrameSpec
from anatozoo.methods.acregnet.module import AcRegNetModule
from anatozoo.methods.aenet.module import AeNetModule
from anatozoo.methods.hybridgnet.module import HybridGNetModule
from anatozoo.methods.unet.module import UNetModule
from anatozoo.metrics.cases import case_row
from anatozoo.nn.graphs import LUNGS_HEART, organ_slices
from anatozoo.nn.raster import polygon_inside
from anatozoo.tasks.cases import bare_cases, label_cases, landmark_cases
from anatozoo.training.module import ZooModule
from tests.support.phantoms import make_chest_phantom

SIDE = 128
PARTS = organ_slices(LUNGS_HEART)


def chest_batch(count: int = 2) -> dict[str, torch.Tensor]:
    phantom = make_chest_phantom(SIDE, SIDE)
    points = np.concatenate([phantom.landmarks[organ] for organ in LUNGS_HEART]) / SIDE
    return {
        "image": torch.from_numpy(phantom.image / 255).float().expand(count, 1, -1, -1),
        "landmarks": torch.from_numpy(points).float().expand(count, -1, -1).clone(),
        "landmark_weight": torch.ones(count, len(points)),
        "spacing_mm": torch.tensor([[2.8, 2.8], [torch.nan, torch.nan]])[:count],
        "index": torch.arange(count),
    }


def test_landmarks_are_in_pixels_of_the_frame_of_1024() -> None:
    batch = chest_batch()
    found = batch["landmarks"] + torch.tensor([3 / 1024, 4 / 1024])
    first, second = landmark_cases(found, batch, LUNGS_HEART)
    row = case_row(first)
    assert row["mse_px2"] == pytest.approx(12.5, rel=1e-3)
    assert row["error_px"] == pytest.approx(5, rel=1e-3)
    # 2.8 mm a pixel at 128 are 0.35 mm at 1024, exactly.
    assert first.reference.spacing_mm == (0.35, 0.35)
    assert row["hd_mm/heart"] == pytest.approx(0.35 * row["hd_px/heart"])
    assert second.reference.spacing_mm is None
    assert "hd_mm/heart" not in case_row(second)
    # A pixel's centre keeps its place when the grid changes.
    pixel = batch["landmarks"][0, PARTS["heart"]].double().numpy() * SIDE
    np.testing.assert_allclose(first.reference.landmarks["heart"], (pixel + 0.5) * 8 - 0.5)
    assert first.image is not None
    assert first.image.shape == (SIDE, SIDE)


def test_organs_without_landmarks_are_left_out_and_masks_stand_in() -> None:
    batch = chest_batch()
    batch["landmark_weight"][:, PARTS["heart"]] = 0
    batch["landmark_weight"][0, 0] = 0  # one landmark of the right lung
    masks = torch.zeros(2, 3, 32, 32)
    # Four times finer and averaged: the share of each cell that the heart covers.
    fine = polygon_inside(batch["landmarks"][:1, PARTS["heart"]] + 0.5 / SIDE, 128, 128)[0]
    masks[0, 2] = torch.nn.functional.avg_pool2d(fine[None, None].float(), 4)[0, 0]
    batch |= {"masks": masks, "known": torch.tensor([[False, False, True], [False] * 3])}
    first, second = landmark_cases(batch["landmarks"], batch, LUNGS_HEART, list(LUNGS_HEART))
    assert first.reference.organs == ["lung_left", "heart"]
    assert list(first.reference.masks) == ["heart"]
    assert second.reference.organs == ["lung_right", "lung_left"]
    row = case_row(first)
    assert "dice/lung_right" not in row
    assert "missed/lung_right" not in row
    assert row["dice/heart"] > 0.98
    assert row["assd_px/heart"] < 4  # an eighth of a cell of 32 pixels
    # Without a name for the channels nothing stands in.
    assert landmark_cases(batch["landmarks"], batch, LUNGS_HEART)[0].reference.organs == ["lung_left"]


def test_classes_that_are_not_annotated_are_left_out() -> None:
    truth = torch.zeros(2, 6, 8, dtype=torch.long)
    truth[:, 1:3, 1:3], truth[:, 4:, 4:] = 1, 2
    known = torch.tensor([[True, True], [False, True]])
    image = torch.rand(2, 1, 6, 8)
    spacing = {"spacing_mm": torch.tensor([[0.7, 0.8], [torch.nan, 0.8]])}
    first, second = label_cases(truth, truth, ["a", "b"], spacing, image=image, known=known)
    assert first.reference.size == (8, 6)
    assert first.reference.spacing_mm == (0.7, 0.8)
    assert case_row(first)["dice/a"] == 1
    assert second.reference.organs == second.prediction.organs == ["b"]
    assert second.reference.spacing_mm is None
    assert second.image is not None
    np.testing.assert_array_equal(second.image, image[1, 0].numpy())
    np.testing.assert_array_equal(first.reference.masks["b"], truth[0].numpy() == 2)


def test_volumes_and_images_without_labels() -> None:
    volume = torch.zeros(1, 4, 5, 6, dtype=torch.uint8)
    volume[0, 1:3, 2:4, 3:5] = 1
    [case] = label_cases(volume, volume, ["a"], {"spacing_mm": torch.tensor([[1.0, 2.0, 3.0]])})
    assert case.reference.size == (6, 5, 4)
    assert case.reference.spacing_mm == (1.0, 2.0, 3.0)
    assert case.image is None
    [bare] = bare_cases(torch.rand(1, 1, 4, 5, 6))
    assert bare.reference.size == (6, 5, 4)
    assert bare.reference.organs == []


def check_against_measure(module: Any, batch: dict[str, torch.Tensor], drawn: float = 1e-6) -> None:
    """The rows and the logged columns are the same numbers; Dice up to `drawn`."""
    output = module.infer(batch)
    logged = module.measure(output, batch)
    rows = [case_row(case) if case.reference.organs else case.numbers for case in module.cases(output, batch)]
    compared = 0
    for values, row in zip(logged, rows, strict=True):
        for column, value in zip(module.columns(), values.tolist(), strict=True):
            if column in row:
                within = drawn if column.startswith("dice/") else 1e-6
                assert row[column] == pytest.approx(value, rel=1e-4, abs=within, nan_ok=True), column
                compared += 1
    assert compared >= 2


@torch.no_grad()
def test_rows_and_logged_columns_agree() -> None:
    torch.manual_seed(0)
    labels = torch.randint(0, 3, (2, 64, 64), generator=torch.Generator().manual_seed(1))
    known = torch.tensor([[1.0, 1.0], [1.0, 0.0]])
    unet = {"image": torch.rand(2, 1, 64, 64), "labels": labels.clone(), "known": known}
    unet["labels"][1][labels[1] == 2] = 1
    check_against_measure(UNetModule(organs=["lungs", "heart"], frame=FrameSpec(64)).eval(), unet)
    check_against_measure(AeNetModule(frame=FrameSpec(64)).eval(), {"labels": labels})
    pair = {"moving": torch.rand(2, 1, 64, 64), "fixed": torch.rand(2, 1, 64, 64)}
    pair |= {"moving_labels": labels, "fixed_labels": labels.flip(-1)}
    check_against_measure(AcRegNetModule(frame=FrameSpec(64)).eval(), pair)
    bare = AcRegNetModule(organs=[], label_weight=0, frame=FrameSpec(64)).eval()
    check_against_measure(bare, {"moving": pair["moving"], "fixed": pair["fixed"]})
    chest = HybridGNetModule(organs="lungs_heart", frame=FrameSpec(SIDE)).eval()
    near = chest_batch()
    chest.infer = lambda batch: batch["landmarks"] + 0.01  # type: ignore[method-assign, assignment]
    # The columns are drawn on a grid of 256, the rows on one of 1024.
    check_against_measure(chest, near, drawn=0.01)


@torch.no_grad()
def test_the_unets_pixels_that_may_be_an_unannotated_organ_are_not_judged() -> None:
    module = UNetModule(organs=["lungs", "heart"], frame=FrameSpec(64)).eval()
    labels = torch.zeros(1, 64, 64, dtype=torch.long)
    labels[0, :32] = 1
    seen = labels.clone()
    seen[0, 10:20, 10:20] = 2  # a heart where the data says lung and nothing of hearts
    logits = torch.nn.functional.one_hot(seen, 3).movedim(-1, 1).float()
    batch = {"image": torch.rand(1, 1, 64, 64), "labels": labels, "known": torch.tensor([[1.0, 0.0]])}
    [case] = module.cases(logits, batch)
    assert case.reference.organs == ["lungs"]
    assert case_row(case)["dice/lungs"] == 1
    [case] = module.cases(logits, batch | {"known": torch.ones(1, 2)})
    assert case_row(case)["invented/heart"] == 1
    assert case_row(case)["dice/lungs"] < 1


def test_a_module_that_lacks_a_part_says_which() -> None:
    class Half(ZooModule):
        def __init__(self) -> None:
            super().__init__(frame=FrameSpec(32))

    for part, arguments in (("infer", ({},)), ("measure", (None, {})), ("cases", (None, {}))):
        with pytest.raises(TypeError, match=f"Half does not define {part}"):
            getattr(Half(), part)(*arguments)
