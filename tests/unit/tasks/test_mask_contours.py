import numpy as np
import pytest
import torch

from anatozoo.data.case import Case, Drawn
from anatozoo.errors import ConfigError, DataError, ImageError
from anatozoo.io.grid import Grid
from anatozoo.io.organ_masks import OrganMasks
from anatozoo.metrics.cases import case_row
from anatozoo.results.segmentation import SegmentationResult
from anatozoo.tasks.trials import Conditions, measured
from tests.support.tracer import ORGANS, Tracer, chest, ellipse, label_map


def given(masks: dict[str, np.ndarray], **more: object) -> OrganMasks:
    size = next(iter(masks.values())).shape[::-1]
    return OrganMasks(masks, Grid(size, **more))


def test_landmarks_reproduce_masks_that_overlap() -> None:
    result = Tracer().predict(given(chest()), spacing_mm=0.5)
    assert isinstance(result, SegmentationResult)
    assert result.flags == ()
    assert min(result.dice[organ] for organ in ("lung_right", "lung_left", "heart")) > 0.97
    assert result.hd_mm == pytest.approx({name: value / 2 for name, value in result.hd_px.items()})
    assert result.to_dict()["agreement"]["heart"].keys() == {"dice", "hd_px", "hd_mm"}


def test_what_another_organ_cuts_away_is_not_counted_as_wrong() -> None:
    result = Tracer().predict(label_map())
    assert min(result.dice["lung_left"], result.dice["heart"]) > 0.9
    assert not [flag for flag in result.flags if flag.startswith("poor_fit_lung")]
    drawn, mask = result.reproduced["lung_left"]
    assert not (drawn & result.given["heart"]).any()
    assert int((drawn & mask).sum()) > 0.9 * int(mask.sum())


def test_lungs_that_are_one_organ_fill_the_planes_of_both_sides(monkeypatch: pytest.MonkeyPatch) -> None:
    model, seen = Tracer(), []
    right = model.forward_landmarks
    monkeypatch.setattr(model, "forward_landmarks", lambda x: (seen.append(x), right(x))[1])
    masks = chest("lung_right", "lung_left")
    result = model.predict(given({"lungs": masks["lung_right"] | masks["lung_left"]}))
    assert torch.equal(seen[0][0, 0], seen[0][0, 1])
    assert float(seen[0][0, 2:].abs().max()) == 0
    assert list(result.landmarks) == ["lung_right", "lung_left"]
    assert list(result.dice) == ["lungs"]
    assert {"unseen_heart", "unseen_clavicle_right", "unseen_clavicle_left"} <= set(result.flags)
    assert not [flag for flag in result.flags if flag.startswith("fragmented")]


def test_labels_keep_their_values_when_an_organ_is_missing() -> None:
    result = Tracer().predict(given(chest("lung_right", "clavicle_left")))
    assert set(np.unique(result.mask)) == {0, 1, 5}
    assert result.labels == {organ: value for value, organ in enumerate(ORGANS, start=1)}
    assert result.cardiothoracic_ratio is None
    assert Tracer().predict(given(chest())).cardiothoracic_ratio is not None


def test_a_heart_on_the_other_side_is_flagged() -> None:
    names = ("lung_right", "lung_left", "heart")
    assert "mirrored" not in Tracer().predict(given(chest(*names))).flags
    turned = Tracer().predict(given(chest(*names, mirrored=True)))
    assert {"mirrored", "sides_swapped"} <= set(turned.flags)


def test_sides_that_are_named_the_wrong_way_round_are_taken_by_their_place() -> None:
    masks = chest("lung_right", "lung_left", "heart")
    swapped = {"lung_right": masks["lung_left"], "lung_left": masks["lung_right"], "heart": masks["heart"]}
    result = Tracer().predict(given(swapped))
    assert "sides_swapped" in result.flags
    assert "mirrored" not in result.flags
    assert list(result.given) == ["lungs", "heart"]


def test_swapped_clavicles_leave_lungs_with_their_sides() -> None:
    masks = chest()
    masks["clavicle_right"], masks["clavicle_left"] = masks["clavicle_left"], masks["clavicle_right"]
    result = Tracer().predict(given(masks))
    assert "sides_swapped" in result.flags
    assert list(result.given) == ["lung_right", "lung_left", "heart", "clavicles"]
    assert result.landmarks["clavicle_left"].shape == (23, 2)


@pytest.mark.parametrize("scale", [1, 5, 20])
def test_the_place_and_share_of_the_picture_do_not_matter(scale: int) -> None:
    masks = chest(size=100)
    wide = {
        organ: np.pad(mask, ((0, 100 * (scale - 1)), (100 * (scale - 1), 0))) for organ, mask in masks.items()
    }
    first, result = (Tracer().predict(given(each)) for each in (masks, wide))
    for organ, points in first.landmarks.items():
        np.testing.assert_allclose(result.landmarks[organ] - (100 * (scale - 1), 0), points, atol=1e-9)
    assert result.dice == first.dice
    assert result.hd_px == first.hd_px
    assert ("very_small_anatomy" in result.flags) == (scale > 4)


def test_an_organ_of_one_pixel_is_not_seen() -> None:
    masks = chest("lung_right", "lung_left", "heart", size=600)
    masks["clavicle_left"] = np.zeros_like(masks["heart"])
    masks["clavicle_left"][84, 420] = True
    result = Tracer().predict(given(masks))
    assert "unseen_clavicle_left" in result.flags
    assert list(result.landmarks) == list(result.given) == ["lung_right", "lung_left", "heart"]
    assert "clavicle_left" in result.guessed
    specks = np.zeros((600, 600), bool)
    specks[0, 0] = specks[599, 599] = True
    with pytest.raises(ImageError, match="no organ but specks"):
        Tracer().predict(given({"heart": specks}))


def test_one_organ_of_a_large_chest_is_no_small_anatomy(monkeypatch: pytest.MonkeyPatch) -> None:
    model = Tracer()
    find = model.forward_landmarks
    part = np.pad(chest(size=150)["clavicle_right"], ((0, 150), (0, 150)))
    assert "very_small_anatomy" in model.predict(given({"clavicle_right": part})).flags
    # The first landmark of the lung, which the mask does not show, lies far away.
    away = 3 * torch.eye(sum(ORGANS.values()))[:, :1]
    monkeypatch.setattr(model, "forward_landmarks", lambda x: find(x) + away)
    found = model.predict(given({"clavicle_right": part}))
    assert "lung_right" in found.guessed
    assert "very_small_anatomy" not in found.flags


def test_masks_of_a_case_share_one_grid() -> None:
    """Masks of half the resolution keep the field of view and the proportions of the picture."""
    heart = chest("heart", size=100)["heart"][::2]
    drawn = Drawn(Grid((200, 200), (0.5, 0.5)), {}, {"heart": heart})
    case = Case("a", "a", organs=drawn.organs, draw=lambda organs, grid: drawn)
    [trial] = Tracer().trials([case], Conditions())
    question, _ = trial.read()
    assert question.grid.size == (100, 50)
    assert question.grid.spacing_mm == (1.0, 2.0)
    assert Drawn(Grid((200, 200)), {}, {"heart": heart}).masks_grid() == Grid((100, 50), aspect=2.0)
    other = Drawn(drawn.grid, {}, {"heart": heart, "lung_left": chest("lung_left", size=90)["lung_left"]})
    case = Case("b", "b", organs=other.organs, draw=lambda organs, grid: other)
    [trial] = Tracer().trials([case], Conditions())
    with pytest.raises(DataError, match="differ in size: 100 x 50, 90 x 90"):
        trial.read()


def test_an_organ_in_parts_is_flagged_but_not_what_another_one_cuts() -> None:
    heart = chest("heart")
    heart["heart"][:60, :60] = True
    assert "fragmented_heart" in Tracer().predict(given(heart)).flags
    lung = chest("lung_right")["lung_right"]
    bar = np.zeros_like(lung)
    bar[120:138] = True
    assert (
        "fragmented_lung_right"
        not in Tracer().predict(given({"lung_right": lung & ~bar, "heart": bar})).flags
    )
    assert "fragmented_lung_right" in Tracer().predict(given({"lung_right": lung & ~bar})).flags


def test_a_poor_fit_is_flagged() -> None:
    square = np.zeros((300, 300), bool)
    square[60:240, 60:150] = square[60:90, 60:240] = True
    assert "poor_fit_heart" in Tracer().predict(given({"heart": square})).flags


def test_pixels_that_are_not_square_keep_the_proportions_of_the_body() -> None:
    masks = {"heart": chest("heart")["heart"][::2]}
    result = Tracer().predict(given(masks, spacing_mm=(0.5, 1.0)))
    assert result.dice["heart"] > 0.95


def test_a_data_set_is_evaluated_by_its_masks_and_landmarks() -> None:
    model = Tracer()
    masks = chest("lung_right", "heart")
    found = model.predict(given(masks))
    drawn = Drawn(Grid((300, 300), (0.5, 0.5)), {"heart": found.landmarks["heart"]}, masks)
    case = Case("a", "a", organs=drawn.organs, draw=lambda organs, grid: drawn)
    assert model.usable(case)
    [trial] = model.trials([case], Conditions())
    question, judge = trial.read()
    assert list(question.masks) == ["lung_right", "heart"]
    row = case_row(judge(model.ask(question)))
    assert row["mse_px2"] == pytest.approx(0, abs=1e-6)
    assert row["dice/heart"] == 1
    assert not model.usable(Case("b", "b"))


def test_masks_are_asked_in_batches_and_one_that_fails_stops_none(monkeypatch: pytest.MonkeyPatch) -> None:
    model, sizes = Tracer(), []
    find = model.forward_landmarks
    monkeypatch.setattr(model, "forward_landmarks", lambda x: (sizes.append(len(x)), find(x))[1])
    asked = [given(chest(organ)) for organ in ("heart", "lung_right", "lung_left")]
    found = list(model.answers(asked, 2))
    assert sizes == [2, 1]
    assert [list(result.landmarks) for result in found] == [["heart"], ["lung_right"], ["lung_left"]]
    # A plane that is no mask, as a damaged file would give it.
    trace = model._trace
    refuse = DataError("no mask.")

    def choosy(masks: list[OrganMasks], precision: str | None) -> list[object]:
        if any("lung_right" in each.masks for each in masks):
            raise refuse
        return list(trace(masks, precision))

    monkeypatch.setattr(model, "_trace", choosy)
    first, failed, last = model.answers(asked, 3)
    assert failed is refuse
    assert [list(first.landmarks), list(last.landmarks)] == [["heart"], ["lung_left"]]


def test_a_mask_that_cannot_be_taken_leaves_its_batch_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    model, sizes = Tracer(), []
    find = model.forward_landmarks
    monkeypatch.setattr(model, "forward_landmarks", lambda x: (sizes.append(len(x)), find(x))[1])
    heart = ellipse("heart")
    drawn = {name: Drawn(Grid((300, 300)), {}, {"heart": heart & (name != "b")}) for name in "abc"}
    cases = [Case(n, n, organs=d.organs, draw=lambda organs, grid, d=d: d) for n, d in drawn.items()]
    rows = list(measured(model, model.trials(cases, Conditions()), batch_size=2))
    assert [row["id"] for row in rows] == ["a", "c", "b"]
    assert "'b' is empty" in rows[-1]["error"]
    assert sizes == [2]


def test_the_spacing_of_radiographs_is_one_number() -> None:
    with pytest.raises(ConfigError, match="is one number, that at 1024 x 1024"):
        Tracer().trials([], Conditions(spacing_mm=(0.2, 0.4)))
    assert Tracer().trials([], Conditions(spacing_mm=(0.2,))) == []
