"""ACNN from thick slices to fine labels: data, geometry, and what is refused."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from anatozoo.errors import ConfigError
from anatozoo.frames.spec import FrameSpec
from anatozoo.io.grid import Grid, GridImage
from anatozoo.methods.acnn.data import AcnnDataModule
from anatozoo.methods.acnn.module import AcnnModule
from anatozoo.nn.thick_slices import degrade_slices
from anatozoo.tasks.thick import thickened
from anatozoo.tasks.trials import Conditions, measured
from tests.support.volume_data import write_volumes

FRAME = FrameSpec([20, 16, 24], "spacing", [1.0, 1.0, 1.0])
ORGANS = ["a", "b"]
STILL: dict[str, Any] = {"shift_px": 2.0, "probability": 1.0, "labels_follow": False}


def module(**settings: Any) -> AcnnModule:
    torch.manual_seed(0)
    frame = {"organs": ORGANS, "frame": FRAME, "widths": [4, 8], "upsample": 5}
    return AcnnModule(**frame | settings).eval()


class _Repeats(nn.Module):
    """Bright thick slices are organ a, in all of their fine ones."""

    def __init__(self) -> None:
        super().__init__()
        self.sharpness = nn.Parameter(torch.tensor(20.0))

    def forward(self, image: Tensor) -> Tensor:
        fine = image.repeat_interleave(5, 2)
        return self.sharpness * torch.cat([0.5 - fine, fine - 0.5, torch.full_like(fine, -1)], 1)


@pytest.mark.parametrize("architecture", ["seg", "unet", "fcn", "ae-seg"])
def test_the_network_gives_five_slices_for_each(architecture: Any) -> None:
    made = module(architecture=architecture)
    assert made(torch.rand(1, 1, 4, 16, 24)).shape == (1, 3, 20, 16, 24)
    assert made.settings()["upsample"] == 5


@pytest.mark.parametrize("flip", [1.0, -1.0])
def test_labels_lie_where_the_thick_slices_do(flip: float) -> None:
    """Along an axis that runs either way, on a grid with slices of 5 mm and on one of 1 mm."""
    fine = np.zeros((20, 16, 24), np.float32)
    fine[5:15, 4:12, 6:18] = 1  # whole thick slices
    direction = (1.0, 0, 0, 0, 1, 0, 0, 0, flip)
    image = GridImage(fine, Grid((24, 16, 20), (1.0, 1.0, 1.0), (3.0, 4.0, 5.0), direction))
    volume = thickened(image, 5, "box")
    model = module()
    model.network = _Repeats()
    result = model.predict(volume.thick)
    assert result.grid.shape == (20, 16, 24)
    assert result.grid.differs_from(image.grid) is None
    np.testing.assert_array_equal(result.label_map, fine.astype(np.uint8))
    assert result.pixels is not None
    assert result.pixels.shape == result.label_map.shape
    # Fine slices are seen as thick ones, and their labels have their grid.
    own = model.predict(image)
    assert own.grid.differs_from(image.grid) is None
    assert np.count_nonzero(own.label_map != fine) < 0.15 * np.count_nonzero(fine)


def test_a_network_that_sees_one_frame_says_so() -> None:
    model = module()
    model.network = _Repeats()
    large = GridImage(np.ones((8, 40, 60), np.float32), Grid((60, 40, 8), (1.0, 1.0, 5.0)))
    large.pixels[:4] = 0
    assert "anatomy_at_border" in model.predict(large).flags
    with pytest.raises(ConfigError, match="sees one frame"):
        model.predict(large, whole=True)


def test_images_become_thick_and_move_while_labels_stay(tmp_path: Path) -> None:
    root = write_volumes(tmp_path, ["v1", "v2", "v3"], splits={"train": ["v1", "v2"], "val": ["v3"]})
    settings: dict[str, Any] = {"layout": "folder", "organs": ORGANS, "frame": FRAME, "augment": None}
    data = AcnnDataModule(str(root), **settings, upsample=5, motion=STILL)
    data.setup("fit")
    batch = next(iter(data.train_dataloader()))
    fine, labels = batch["image"].clone(), batch["labels"].clone()
    torch.manual_seed(0)
    moved = data.prepare(dict(batch), training=True)
    assert moved["image"].shape == (2, 1, 4, 16, 24)
    assert torch.equal(moved["labels"], labels)
    still = data.prepare(dict(batch), training=False)["image"]
    torch.testing.assert_close(still, degrade_slices(fine, 5))
    assert not torch.equal(moved["image"], still)
    module_ = module()
    terms = module_.losses(module_.answer(moved), moved)
    assert torch.isfinite(terms["cross_entropy"])
    [case, _] = module_.cases(module_.infer(moved), moved)
    assert case.image is not None
    assert case.image.shape == (20, 16, 24)


def test_what_does_not_fit_is_refused() -> None:
    settings: dict[str, Any] = {"organs": ORGANS, "frame": FRAME, "augment": None}
    with pytest.raises(ConfigError, match="cannot follow the motion of thick slices"):
        AcnnDataModule("root", **settings, upsample=5, motion={"shift_px": 1.0})
    with pytest.raises(ConfigError, match="a multiple of factor=3"):
        AcnnDataModule("root", **settings, upsample=3)
    with pytest.raises(ConfigError, match="a multiple of factor=3"):
        module(upsample=3)
    with pytest.raises(ConfigError, match="must be spacing here"):
        module(frame=FrameSpec([20, 16, 24], "slices", long_side=40))
    with pytest.raises(ConfigError, match="does not upsample across slices"):
        module(architecture="dynunet", widths=[4, 8, 8])


def test_images_without_annotation_become_thick_slices_too(tmp_path: Path) -> None:
    data = AcnnDataModule(
        str(tmp_path), "folder", organs=ORGANS, frame=FRAME, upsample=5, augment=None, motion=STILL
    )
    batch = {"image": torch.rand(2, 1, 20, 16, 24), "labels": torch.zeros(2, 20, 16, 24, dtype=torch.uint8)}
    found = data.prepare_unlabelled(batch)
    torch.testing.assert_close(found["image"], degrade_slices(batch["image"], 5, "gaussian"))
    changed = AcnnDataModule(str(tmp_path), "folder", organs=ORGANS, frame=FRAME, upsample=5)
    assert changed.prepare_unlabelled(batch)["image"].shape == (2, 1, 4, 16, 24)


def test_labels_of_thick_slices_are_no_truth_of_fine_ones() -> None:
    fine = np.zeros((20, 16, 24), np.float32)
    fine[5:15, 4:12, 6:18] = 1
    thick = thickened(GridImage(fine, Grid((24, 16, 20), (1.0, 1.0, 1.0))), 5, "box").thick
    labels = (thick.pixels > 0.5).astype(np.uint8)
    held = {"read_image": lambda dims: thick, "read_labels": lambda organs, grid: (labels, thick.grid)}
    case = SimpleNamespace(id="x", subject="x", split="val", domain="d", facts={}, **held)
    model = module()
    [row] = measured(model, model.trials([case], Conditions()))  # type: ignore[list-item]
    assert "finer slices than the (4, 16, 24) of the annotation" in row["error"]
