"""From masks to results, with networks whose answer is known."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as PILImage
from torch import Tensor

from anatozoo.errors import ConfigError, GeometryError, ImageError
from anatozoo.frames.spec import FrameSpec
from anatozoo.io.landmarks import draw_label_map
from anatozoo.methods.postdae.module import PostDAEModule
from anatozoo.results.labels import LabelResult
from anatozoo.results.repair import RepairResult
from anatozoo.zoo.golden import run_golden, write_golden
from tests.support.phantoms import make_chest_phantom

ORGANS = ["lung_right", "lung_left", "heart"]
SMALL: dict[str, Any] = {
    "organs": ORGANS,
    "widths": [4, 4, 8],
    "code": 8,
    "skips": [2, 4, 8],
    "frame": {"size": 64},
}
VOLUME: dict[str, Any] = {
    "organs": ["a", "b"],
    "widths": [4, 8, 8],
    "code": 8,
    "skips": [4, 8],
    "frame": {"size": [16, 24, 16]},
}
METRIC = {"frame": FrameSpec([16, 24, 16], "spacing", [1.0, 1.0, 1.0])}
Answer = Callable[[Tensor], Tensor]


def chest(width: int = 80, height: int = 100) -> np.ndarray:
    landmarks = make_chest_phantom(width, height).landmarks
    return draw_label_map({organ: landmarks[organ] for organ in ORGANS}, (width, height))


def module(answer: Answer | None = None, **settings: Any) -> PostDAEModule:
    """A small module; with `answer`, probabilities become what it makes of them."""
    torch.manual_seed(0)
    made = PostDAEModule(**SMALL | settings).eval()
    if answer is not None:
        made.network.forward = lambda x: answer(x).clamp_min(1e-6).log()  # type: ignore[method-assign]
    return made


def same(x: Tensor) -> Tensor:
    return x


def without(organ: int) -> Answer:
    """Turns an organ into background."""

    def answer(x: Tensor) -> Tensor:
        x = x.clone()
        x[:, 0] += x[:, organ]
        x[:, organ] = 0
        return x

    return answer


@pytest.mark.parametrize("size", [(128, 128), (80, 100), (101, 64), (33, 20), (300, 40)])
def test_a_network_that_changes_nothing_gives_the_mask_back(size: tuple[int, int]) -> None:
    given = chest(*size)
    result = module(same).predict(given)
    assert isinstance(result, RepairResult)
    assert result.after.shape == given.shape
    assert np.array_equal(result.before, given)
    assert result.changed.mean() < 0.03  # borders, at the network's resolution
    assert result.classes == tuple(ORGANS)
    assert result.spacing_mm is None
    whole = max(size) <= 64
    assert min(result.dice.values()) > (0.98 if whole else 0.85)


def test_what_the_network_removes_and_restores_is_flagged() -> None:
    given = chest()
    model = module(without(3))
    result = model.predict(given)
    assert not (result.after == 3).any()
    assert result.flags == ("removed_heart",)
    assert result.dice["heart"] == 0
    assert model.predict(np.where(given == 3, 0, given)).flags == ("missing_heart",)

    def add_heart(x: Tensor) -> Tensor:
        x = x.clone()
        x[:, 0, 40:55, 20:40], x[:, 3, 40:55, 20:40] = 0, 2.0
        return x

    result = module(add_heart).predict(np.where(given == 3, 0, given))
    assert result.flags == ("restored_heart",)
    assert (result.after == 3).sum() > 200


def test_a_large_change_is_flagged_by_organ() -> None:
    def half(x: Tensor) -> Tensor:
        x = x.clone()
        x[:, 0, 26:] += x[:, 1, 26:]
        x[:, 1, 26:] = 0
        return x

    assert module(half).predict(chest(64, 64)).flags == ("large_change_lung_right",)


def test_flags_use_what_lies_on_the_source_grid() -> None:
    result = module(same).predict(chest())
    assert result.flags == ()
    cut = module(same, frame=FrameSpec(64, "spacing", [0.5, 0.5]))
    assert cut.predict(chest(), spacing_mm=0.5).flags[0] == "larger_than_the_models_frame"


def test_every_form_of_a_mask_gives_the_same() -> None:
    given, model = chest(128, 128), module()
    hard = np.eye(4, dtype=np.float32)[given].transpose(2, 0, 1)
    drawn = LabelResult("a-b", "1", "x", (128, 128), None, given, tuple(ORGANS))
    expected = model.predict(given)
    for form in (torch.from_numpy(given), hard > 0, hard, PILImage.fromarray(given), drawn):
        found = model.predict(form)
        assert np.array_equal(found.before, given)
        assert np.mean(found.after != expected.after) < 2e-3
    assert model.predict(expected).image == "array"  # repaired once more


def test_soft_probabilities_reach_the_network() -> None:
    seen: list[Tensor] = []

    def keep(x: Tensor) -> Tensor:
        seen.append(x.clone())
        return x

    hard = np.eye(4, dtype=np.float32)[chest(64, 64)].transpose(2, 0, 1)
    soft = 0.1 + 0.6 * hard
    result = module(keep).predict(soft)
    assert np.array_equal(result.before, chest(64, 64))
    torch.testing.assert_close(seen[0][0], torch.from_numpy(soft), rtol=0, atol=1e-5)


def test_a_batch_gives_what_single_masks_give_in_order() -> None:
    model = module()
    masks = [chest(64, 64), chest(80, 100), chest(33, 50), chest(101, 64), chest(128, 128)]
    for size in (1, 2, 8):
        found = list(model.predict_batch(masks, batch_size=size))
        assert len(found) == len(masks)
        for mask, result in zip(masks, found, strict=True):
            alone = model.predict(mask)
            assert result.after.shape == mask.shape
            assert np.mean(result.after != alone.after) <= 1e-3
            assert result.flags == alone.flags
    assert list(model.predict_batch([])) == []


def test_masks_before_a_bad_one_are_repaired_first() -> None:
    batch = module().predict_batch([chest(), chest() * 0, chest()], batch_size=8)
    assert next(batch).after.shape == chest().shape
    with pytest.raises(ImageError, match="is empty"):
        next(batch)
    with pytest.raises(ConfigError, match="batch_size=0"):
        next(module().predict_batch([chest()], batch_size=0))


def test_classes_and_spacing_go_through() -> None:
    given = np.array([0, 30, 20, 10], np.uint8)[chest()]
    names = {10: "heart", 20: "lung_left", 30: "lung_right"}
    for result in (
        module().predict(given, classes=names, spacing_mm=0.5),
        next(module().predict_batch([given], classes=names, spacing_mm=0.5)),
    ):
        assert np.array_equal(result.before, chest())
        assert result.spacing_mm == (0.5, 0.5)
        assert result.areas_mm2 == {organ: area / 4 for organ, area in result.areas_px.items()}


def test_a_prediction_changes_neither_mode_nor_mask() -> None:
    model, given = module().train(), chest()
    model.predict(given)
    assert model.training
    assert np.array_equal(given, chest())


def test_volumes_lie_on_their_grid() -> None:
    torch.manual_seed(0)
    model = PostDAEModule(**VOLUME).eval()
    given = np.zeros((10, 20, 14), np.uint8)
    given[2:8, 4:10, 3:11], given[2:8, 10:16, 3:11] = 1, 2
    result = model.predict(given, spacing_mm=(1.0, 1.0, 2.0))
    assert result.after.shape == given.shape
    assert result.volumes_mm3 == {organ: 2.0 * count for organ, count in result.areas_px.items()}
    with pytest.raises(ImageError, match="3-D masks"):
        model.predict(given[5])
    metric = PostDAEModule(**VOLUME | METRIC).eval()
    with pytest.raises(GeometryError, match="the spacing of the mask 'array' is unknown; give spacing_mm"):
        metric.predict(given)
    assert metric.predict(given, spacing_mm=1.0).after.shape == given.shape


def test_a_golden_file_repeats_the_repair(tmp_path: Path) -> None:
    write_golden(module(), chest(), tmp_path)
    assert run_golden(module(), tmp_path).difference == 0


def test_a_golden_volume_has_a_spacing(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = PostDAEModule(**VOLUME | METRIC).eval()
    given = np.zeros((10, 20, 14), np.uint8)
    given[2:8, 4:10, 3:11] = 1
    write_golden(model, given, tmp_path, spacing_mm=(1.0, 1.0, 2.0))
    assert run_golden(model, tmp_path).difference == 0
    for spacing in ((1.0, -1.0, 2.0), (1.0, float("nan"), 2.0)):
        with pytest.raises(ConfigError, match="must be positive"):
            write_golden(model, given, tmp_path, spacing_mm=spacing)


def test_organs_that_are_in_one_part_are_so_after_the_repair() -> None:
    given = chest(128, 128)
    given[3:9, 3:9] = 3
    loose = module(same).predict(given)
    assert loose.plausibility_after["heart"].components == 2
    one = module(same, one_part={"heart": ["lung_left"]}).predict(given)
    assert one.plausibility_after["heart"].components == 1
    assert not one.after[:10, :10].any()
    assert np.array_equal(one.after[12:], loose.after[12:])
    for wrong in ({"liver": []}, {"heart": ["liver"]}):
        with pytest.raises(ConfigError, match="liver"):
            module(one_part=wrong)
