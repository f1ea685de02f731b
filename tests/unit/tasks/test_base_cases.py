"""Validation batches as cases: units, what is known, and what is left out."""

from typing import Any

import numpy as np
import pytest
import torch

from anatozoo.frames.spec import FrameSpec
from anatozoo.methods.acnntl.module import AcnnTLModule
from anatozoo.methods.acregnet.module import AcRegNetModule
from anatozoo.methods.aenet.module import AeNetModule
from anatozoo.methods.hybridgnet.module import HybridGNetModule
from anatozoo.methods.unet.module import UNetModule
from anatozoo.metrics.cases import OVERLAP, Measures, case_row
from anatozoo.nn.graphs import organ_slices
from anatozoo.nn.raster import polygon_inside
from anatozoo.organs import LUNGS_HEART
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


def rows_of(module: Any, batch: dict[str, torch.Tensor], measures: Measures) -> list[dict[str, float]]:
    """The rows of a validation batch; what is logged are the means of their columns."""
    module.measures = measures
    rows = module.validation_step(batch | {"index": torch.arange(len(next(iter(batch.values()))))}, 0)["rows"]
    logged = dict(zip(module.columns(), module.val_metrics.compute().tolist(), strict=True))
    module.val_metrics.reset()
    for column, value in logged.items():
        known = [row[column] for row in rows if not np.isnan(row.get(column, np.nan))]
        assert value == pytest.approx(np.mean(known) if known else np.nan, rel=1e-6, nan_ok=True), column
    return rows


@torch.no_grad()
def test_what_is_logged_are_the_means_of_the_rows_whatever_else_is_measured() -> None:
    torch.manual_seed(0)
    labels = torch.randint(0, 3, (2, 64, 64), generator=torch.Generator().manual_seed(1))
    known = torch.tensor([[1.0, 1.0], [1.0, 0.0]])
    unet = {"image": torch.rand(2, 1, 64, 64), "labels": labels.clone(), "known": known}
    unet["labels"][1][labels[1] == 2] = 1
    pair = {"moving": torch.rand(2, 1, 64, 64), "fixed": torch.rand(2, 1, 64, 64)}
    bare, pair = pair, pair | {"moving_labels": labels, "fixed_labels": labels.flip(-1)}
    chest = HybridGNetModule(organs="lungs_heart", frame=FrameSpec(SIDE)).eval()
    chest.infer = lambda batch: batch["landmarks"] + 0.01  # type: ignore[method-assign, assignment]
    volume = {"image": torch.rand(2, 1, 8, 16, 16), "labels": labels[:, :8, :16, None].expand(-1, -1, -1, 16)}
    frame = {"size": [8, 16, 16], "fit": "spacing", "spacing_mm": [1.0, 1.0, 1.0]}
    made: list[tuple[Any, dict[str, torch.Tensor]]] = [
        (UNetModule(organs=["lungs", "heart"], frame=FrameSpec(64)), unet),
        (AeNetModule(frame=FrameSpec(64)), {"labels": labels}),
        (AcRegNetModule(frame=FrameSpec(64)), pair),
        (AcRegNetModule(organs=[], label_weight=0, frame=FrameSpec(64)), bare),
        (AcnnTLModule(organs=["a", "b"], frame=frame), volume),
        (chest, chest_batch()),
    ]
    for module, batch in made:
        quick, full = (rows_of(module.eval(), batch, measures) for measures in (OVERLAP, Measures()))
        for one, other in zip(quick, full, strict=True):
            # What a table measures beside changes no number that is measured anyway.
            assert {name: other[name] for name in one} == pytest.approx(one, rel=0, abs=0, nan_ok=True)
            assert not [name for name in one if name.startswith(("hd", "assd", "components"))]
        assert module.organs == [] or any(name.startswith("hd_px/") for name in full[0])


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

    for part, arguments in (("infer", ({},)), ("cases", (None, {}))):
        with pytest.raises(TypeError, match=f"Half does not define {part}"):
            getattr(Half(), part)(*arguments)
