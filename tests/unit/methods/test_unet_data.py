from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from anatozoo.data.layouts.registry import find_cases
from anatozoo.errors import ConfigError, DataError
from anatozoo.frames.spec import FrameSpec
from anatozoo.methods.unet.data import LabelDataset, UNetDataModule
from tests.support.chest_data import write_chest_data


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_chest_data(tmp_path_factory.mktemp("chest"))


def data(root: Path, **settings: Any) -> UNetDataModule:
    module = UNetDataModule(
        str(root), **{"layout": "jsrt", "batch_size": 2, "frame": {"size": 64}} | settings
    )
    module.setup("fit")
    return module


def test_items_have_the_documented_shapes_types_and_values(root: Path) -> None:
    item = data(root).sets["train"][3]
    assert {k: (tuple(v.shape), v.dtype) for k, v in item.items()} == {
        "image": ((1, 64, 64), torch.float32),
        "labels": ((64, 64), torch.int64),
        "known": ((5,), torch.bool),
        "spacing_mm": ((2,), torch.float32),
        "index": ((), torch.int64),
        "domain": ((), torch.int64),
        "labelled": ((), torch.bool),
    }
    assert int(item["index"]) == 3
    assert set(item["labels"].unique().tolist()) == {0, 1, 2, 3, 4, 5}
    assert item["known"].tolist() == [1] * 5


def test_labels_lie_on_the_organs(root: Path) -> None:
    item = data(root, frame={"size": 128}, organs="lungs_heart").sets["val"][1]
    image, labels = item["image"][0], item["labels"]
    assert float(image[labels == 2].mean()) < 0.45 < float(image[labels == 3].mean())
    right, left = ((labels == value).nonzero()[:, 1].float().mean() for value in (1, 2))
    assert right < left  # the patient's right is on the left of the image


def test_two_sides_are_one_label_where_the_organ_is_named_so(root: Path) -> None:
    apart = data(root, organs=["lung_right", "lung_left", "heart"]).sets["train"][0]["labels"]
    both = data(root, organs=["lungs", "heart"]).sets["train"][0]
    assert both["known"].tolist() == [1, 1]
    assert torch.equal(both["labels"] == 1, (apart == 1) | (apart == 2))
    assert torch.equal(both["labels"] == 2, apart == 3)


def test_later_organs_cover_earlier_ones(root: Path) -> None:
    over = data(root, organs=["lung_left", "heart"]).sets["train"][0]["labels"]
    under = data(root, organs=["heart", "lung_left"]).sets["train"][0]["labels"]
    assert bool(((over == 2) & (under == 2)).any())  # where both are


def test_a_mask_wins_over_a_contour(tmp_path: Path) -> None:
    root = write_chest_data(tmp_path, {"train": 1, "val": 1})
    mask = np.zeros((256, 256), np.uint8)
    mask[128:192, 64:128] = 255
    (root / "masks" / "heart").mkdir(parents=True)
    cv2.imwrite(str(root / "masks" / "heart" / "JPCLN001.png"), mask)
    labels = data(root, organs=["heart"]).sets["train"][0]["labels"]
    expected = torch.zeros(64, 64, dtype=torch.long)
    expected[32:48, 16:32] = 1
    assert torch.equal(labels, expected)


def test_organs_without_annotation_are_not_known(tmp_path: Path) -> None:
    root = write_chest_data(tmp_path, {"train": 1, "val": 1})
    (root / "landmarks" / "LL" / "JPCLN001.npy").unlink()
    apart = data(root, organs=["lung_right", "lung_left"]).sets["train"][0]
    assert apart["known"].tolist() == [1, 0]
    assert set(apart["labels"].unique().tolist()) == {0, 1}
    both = data(root, organs=["lungs", "heart"]).sets["train"][0]
    assert both["known"].tolist() == [0, 1]  # half of the lungs is not the lungs
    assert set(both["labels"].unique().tolist()) == {0, 2}


def test_images_without_any_of_the_organs_are_left_out(tmp_path: Path) -> None:
    root = write_chest_data(tmp_path, {"train": 2, "val": 1})
    (root / "landmarks" / "H" / "JPCLN001.npy").unlink()
    module = data(root, organs=["heart"])
    assert [case.id for case in module.sets["train"].cases] == ["JPCLN002"]
    with pytest.raises(DataError, match=r"JSRT annotates clavicle_left, .*, none of which .* \(aorta\)"):
        data(root, organs=["aorta"])


def transferred(module: UNetDataModule, training: bool, step: int = 0) -> dict[str, torch.Tensor]:
    loop = SimpleNamespace(total_batch_idx=step)
    module.trainer = SimpleNamespace(training=training, fit_loop=loop, global_rank=0)  # type: ignore[assignment]
    return module.on_after_batch_transfer(next(iter(module.val_dataloader())), 0)


def test_labels_are_deformed_with_their_image(root: Path) -> None:
    module = data(root, frame={"size": 128}, organs="lungs_heart")
    plain, moved = transferred(module, training=False), transferred(module, training=True)
    assert moved["labels"].dtype == torch.int64
    assert moved["labels"].shape == plain["labels"].shape
    assert not torch.equal(moved["labels"], plain["labels"])
    assert torch.equal(plain["image"], next(iter(module.val_dataloader()))["image"])
    # Only deformed: the heart is still the brightest of the organs, and as large as it was, or nearly so.
    still = data(root, frame={"size": 128}, organs="lungs_heart", augment={
        "gamma": 0.0, "contrast": 0.0, "noise": 0.0, "blur_p": 0.0, "opacity_p": 0.0, "invert_p": 0.0,
        "occlusion_p": 0.0, "collimation_p": 0.0, "text_p": 0.0, "scale": 0.0,
    })  # fmt: skip
    batch = transferred(still, training=True)
    for image, labels in zip(batch["image"][:, 0], batch["labels"], strict=True):
        lungs, heart = (float(image[part].mean()) for part in ((labels == 1) | (labels == 2), labels == 3))
        assert lungs < 0.45 < heart
    sizes = [float((b["labels"] == 3).sum()) for b in (plain, batch)]
    assert sizes[1] == pytest.approx(sizes[0], rel=0.2)


def test_augmentation_can_be_switched_off_and_repeats_itself(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    off = transferred(data(root, augment=None), training=True)
    assert torch.equal(off["labels"], next(iter(data(root).val_dataloader()))["labels"])
    monkeypatch.setenv("PL_GLOBAL_SEED", "3")
    first, again, other = (transferred(data(root), training=True, step=step) for step in (4, 4, 5))
    assert torch.equal(first["labels"], again["labels"])
    assert torch.equal(first["image"], again["image"])
    assert not torch.equal(first["image"], other["image"])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"augment": {"rotate": 3.0}}, "does not know rotate; it has rotation_deg"),
        ({"repeat": 0}, "at least 1"),
        ({"organs": "liver"}, "choose one of"),
    ],
)
def test_impossible_settings_are_refused(root: Path, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        data(root, **settings)


def test_images_are_read_once_and_copies_are_handed_out(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = LabelDataset(find_cases(root, "jsrt").complete(["heart"], "val"), ["heart"], FrameSpec(64))
    first = dataset[0]
    monkeypatch.setattr(LabelDataset, "read", lambda *_: pytest.fail("read again"))
    for value in first.values():
        value.zero_()
    second = dataset[0]
    assert all(bool(second[key].any()) for key in ("image", "labels", "known"))
