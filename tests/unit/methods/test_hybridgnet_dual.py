"""HybridGNet Dual: contours and masks from one code."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

import anatozoo
from anatozoo.errors import ConfigError
from anatozoo.methods.hybridgnet.export import restrict_organs
from anatozoo.methods.hybridgnet.module import HybridGNetModule
from anatozoo.nn import graphs
from anatozoo.nn.hybridgnet import HybridGNetOutput
from anatozoo.nn.losses import disagreement
from anatozoo.organs import LUNGS_HEART
from anatozoo.results.contours import ContourResult
from anatozoo.zoo.checkpoint import build_module, write_checkpoint_folder
from tests.support.phantoms import make_chest_phantom

SIDE = 64
PARTS = graphs.organ_slices(LUNGS_HEART)


def module(**settings: Any) -> HybridGNetModule:
    torch.manual_seed(0)
    given = {"organs": "lungs_heart", "frame": {"size": SIDE}, "mask_decoder": "code", "skips": []}
    return HybridGNetModule(**given | settings).eval()


def batch(count: int = 2) -> dict[str, Tensor]:
    """Landmarks round three discs that do not touch, in whole pixels of the frame."""
    points = torch.zeros(count, 120, 2)
    for i, part in enumerate(PARTS.values()):
        angle = torch.arange(part.stop - part.start) / (part.stop - part.start) * 2 * torch.pi
        points[:, part] = torch.stack([angle.cos(), angle.sin()], 1) * 7.2 + torch.tensor([12.0 + 18 * i, 30])
    image = torch.rand(count, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
    return {"image": image, "landmarks": points / SIDE, "landmark_weight": torch.ones(count, 120)}


def discs() -> Tensor:
    """What those landmarks enclose, (S, S) labels: pixel centres are whole numbers."""
    y, x = torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE), indexing="ij")
    labels = torch.zeros(SIDE, SIDE, dtype=torch.long)
    for i in range(3):
        labels[(x - 12 - 18 * i) ** 2 + (y - 30) ** 2 < 51] = i + 1
    return labels


def output(points: Tensor, logits: Tensor) -> HybridGNetOutput:
    zeros = torch.zeros(len(points), 64)
    return HybridGNetOutput(points, (), zeros, zeros, None, logits)


def sure(labels: Tensor, count: int = 2) -> Tensor:
    """Logits (B, 4, S, S) that are sure of these labels."""
    return 20 * F.one_hot(labels, 4).movedim(-1, 0)[None].expand(count, -1, -1, -1).float()


@pytest.mark.parametrize("kind", ["code", "skips"])
def test_the_loss_reaches_both_decoders(kind: str) -> None:
    model = module(mask_decoder=kind).train()
    given = batch()
    found = model(given["image"])
    terms = model.losses(found, given)
    assert {"masks", "agreement"} <= set(terms)
    reached = {}
    for name in ("masks", "agreement", "landmarks"):
        model.zero_grad()
        terms[name].backward(retain_graph=True)
        parts = {"graph": model.network.head, "masks": model.network.mask_decoder.head}
        reached[name] = {
            part: any(p.grad is not None and bool(p.grad.any()) for p in layer.parameters())
            for part, layer in parts.items()
        }
        encoder = model.network.encoder.blocks[0].conv1.weight.grad
        assert encoder is not None
        assert bool(encoder.any())
    assert reached == {
        "masks": {"graph": False, "masks": True},
        "landmarks": {"graph": True, "masks": False},
        "agreement": {"graph": True, "masks": True},
    }


def test_masks_are_learnt_from_what_the_landmarks_enclose() -> None:
    model, given = module(), batch()
    labels, known = model._labels(given)
    assert bool(known.all())
    assert torch.equal(labels, discs().expand(2, -1, -1))
    terms = model.losses(output(given["landmarks"], sure(discs())), given)
    assert float(terms["masks"]) == pytest.approx(0, abs=1e-4)
    moved = model.losses(output(given["landmarks"], sure(discs().roll(3, 1))), given)
    assert float(moved["masks"]) > 0.1


def test_later_organs_cover_earlier_ones() -> None:
    model, given = module(), batch()
    given["landmarks"][:, PARTS["heart"]] -= torch.tensor([16.0, 0]) / SIDE  # onto the left lung
    labels, _ = model._labels(given)
    assert int((labels == 3).sum()) == 2 * int((discs() == 3).sum())
    assert int((labels == 2).sum()) < int((discs() == 2).sum())


def test_organs_without_annotation_do_not_count() -> None:
    model, given = module(), batch(1)
    given["landmark_weight"][:, PARTS["heart"]] = 0
    given["landmarks"][:, PARTS["heart"]] = 0.1
    labels, known = model._labels(given)
    assert known.tolist() == [[True, True, False]]
    assert set(labels.unique().tolist()) == {0, 1, 2}
    # Where no other organ is, both heart and background are right.
    nothing = torch.where(discs() == 3, 0, discs())
    terms = [model.losses(output(given["landmarks"], sure(x, 1)), given)["masks"] for x in (discs(), nothing)]
    assert [float(x) for x in terms] == pytest.approx([0, 0], abs=1e-4)
    # An organ known in part has no mask.
    given["landmark_weight"][:, PARTS["lung_left"].start] = 0
    assert model._labels(given)[1].tolist() == [[True, False, False]]


def test_given_masks_stand_in_for_landmarks() -> None:
    model, given = module(), batch(1)
    given["landmark_weight"][:, PARTS["heart"]] = 0
    given["landmarks"][:, PARTS["heart"]] = 0
    heart = (discs() == 3).float()[None, None]
    cells = F.avg_pool2d(heart, 4)
    masks = torch.cat([torch.zeros(1, 2, 16, 16), cells], 1)
    given |= {"masks": masks, "known": torch.tensor([[False, False, True]])}
    labels, known = model._labels(given)
    assert bool(known.all())
    wrong = (labels[0] == 3) != (discs() == 3)
    assert int(wrong.sum()) < 0.1 * int((discs() == 3).sum())
    # An empty mask says that the organ is absent, which no contour can follow.
    present = model.losses(output(given["landmarks"], sure(discs(), 1)), given)["agreement"]
    given["masks"] = torch.zeros_like(masks)
    assert set(model._labels(given)[0].unique().tolist()) == {0, 1, 2}
    absent = model.losses(output(given["landmarks"], sure(discs(), 1)), given)["agreement"]
    assert float(present) > 0.002 > float(absent)  # the contour of the heart lies in a corner


def test_disagreement_is_nothing_for_equal_and_large_for_different_shapes() -> None:
    model, given = module(agreement_weight=1.0), batch()
    equal = model._disagreement(output(given["landmarks"], sure(discs())), given)
    assert float(equal) < 0.03
    near = model._disagreement(output(given["landmarks"], sure(discs().roll(2, 0))), given)
    far = model._disagreement(output(given["landmarks"], sure(discs().roll(30, 0))), given)
    assert float(equal) < float(near) < 0.4
    assert float(far) > 0.9
    # Annotated or not.
    given["landmark_weight"] = torch.zeros(2, 120)
    assert float(model._disagreement(output(given["landmarks"], sure(discs().roll(30, 0))), given)) > 0.9


def test_disagreement_pulls_the_contours_to_the_masks_and_back() -> None:
    model, given = module(), batch(1)
    points, logits = given["landmarks"].clone().requires_grad_(), sure(discs().roll(2, 1), 1).requires_grad_()
    model._disagreement(output(points, logits), given).backward()
    assert points.grad is not None
    assert logits.grad is not None
    assert bool((points.grad.sum(1)[:, 0] < 0).all())  # descending moves them right
    assert bool(logits.grad.any())


def test_equal_soft_masks_do_not_disagree() -> None:
    draw = torch.rand(2, 3, 8, 8)
    torch.testing.assert_close(disagreement(draw, draw), torch.zeros(2, 3))
    assert disagreement(torch.ones(1, 1, 8, 8), torch.zeros(1, 1, 8, 8)).item() > 0.98


def test_without_masks_there_are_no_such_terms() -> None:
    given = batch()
    plain = module(mask_decoder="none")
    assert not {"masks", "agreement"} & set(plain.losses(plain(given["image"]), given))
    one = module(agreement_weight=0.0)
    assert {"masks", "agreement"} & set(one.losses(one(given["image"]), given)) == {"masks"}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"mask_weight": -0.1}, "mask_weight=-0.1 must be a number of at least 0"),
        ({"agreement_weight": -1.0}, "agreement_weight=-1.0 must be"),
        ({"mask_weight": float("nan")}, "mask_weight=nan must be"),
        ({"dense_weight": -1.0}, "dense_weight=-1.0 must be"),
        ({"region_weight": float("inf")}, "region_weight=inf must be"),
        ({"mask_weight": 0.0, "agreement_weight": 0.0}, "mask_decoder='code' would never be trained"),
        ({"mask_decoder": "both"}, "mask_decoder='both' is unknown"),
        ({"order": 0}, "order=0 must be at least 1"),
    ],
)
def test_settings_that_contradict_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        module(**settings)


def test_a_result_holds_contours_and_labels_on_the_grid_of_the_image() -> None:
    model, image = module(mask_decoder="skips", skips=[6, 5]), make_chest_phantom(150, 90).image
    result = model.predict(image)
    assert isinstance(result, ContourResult)
    assert result.label_map is not None
    assert result.label_map.shape == result.mask.shape == (90, 150)
    assert result.label_map.max() <= 3
    plain = module(mask_decoder="none", skips=[6, 5])
    plain.load_state_dict({k: v for k, v in model.state_dict().items() if "mask_decoder" not in k})
    alone = plain.predict(image)
    assert alone.label_map is None  # type: ignore[union-attr]
    for organ, points in alone.landmarks.items():
        np.testing.assert_array_equal(result.landmarks[organ], points)
    # Samples move the contours; the labels are those of the mean code.
    sampled = model.predict(image, samples=3)
    assert sampled.sigma is not None
    np.testing.assert_array_equal(sampled.label_map, result.label_map)  # type: ignore[union-attr]


def test_labels_far_from_the_contours_are_flagged(monkeypatch: pytest.MonkeyPatch) -> None:
    model, given = module(), batch(1)
    logits = sure(torch.where(discs() == 3, 0, discs()), 1)
    monkeypatch.setattr(model, "forward_with_masks", lambda x: (given["landmarks"], logits.softmax(1)))
    result = model.predict(np.linspace(0, 255, SIDE * SIDE).reshape(SIDE, SIDE))
    assert isinstance(result, ContourResult)
    assert result.agreement is not None
    assert result.agreement["lung_left"] > 0.85
    assert result.agreement["heart"] == 0
    assert [flag for flag in result.flags if flag.startswith("masks_disagree")] == ["masks_disagree_heart"]


def test_old_checkpoints_load_and_dual_ones_come_back(tmp_path: Path) -> None:
    model = module()
    folder = write_checkpoint_folder(
        model, tmp_path / "dual", name="hybridgnet-toy", version="1.0.0", half=False
    )
    again: Any = build_module(folder)
    image = make_chest_phantom(70, 70).image
    np.testing.assert_array_equal(again.predict(image).label_map, model.predict(image).label_map)  # type: ignore[union-attr]
    # A checkpoint from before the setting does not name it.
    plain = module(mask_decoder="none")
    old = write_checkpoint_folder(plain, tmp_path / "old", name="hybridgnet-toy", version="1.0.0", half=False)
    config = (old / "config.json").read_text()
    assert '"mask_decoder"' in config
    (old / "config.json").write_text(config.replace('"mask_decoder": "none"', '"check_view": false', 1))
    loaded = anatozoo.load(str(old))
    assert loaded.mask_decoder == "none"


def test_a_fit_with_a_mask_decoder_starts_from_a_network_without(tmp_path: Path) -> None:
    plain = module(mask_decoder="none")
    start = write_checkpoint_folder(plain, tmp_path / "p", name="hybridgnet-toy", version="1.0.0", half=False)
    torch.manual_seed(5)
    dual = HybridGNetModule(
        organs="lungs_heart", frame={"size": SIDE}, mask_decoder="code", skips=[], init_weights=str(start)
    )
    before = dual.network.mask_decoder.head.weight.clone()
    dual.setup("fit")
    assert torch.equal(dual.network.fc_mu.weight, plain.network.fc_mu.weight)
    assert torch.equal(dual.network.mask_decoder.head.weight, before)


def test_a_network_for_some_organs_keeps_their_labels() -> None:
    model = module()
    part = restrict_organs(model, ["lung_right", "heart"])
    image = batch()["image"]
    with torch.no_grad():
        whole, less = model(image), part(image)
    torch.testing.assert_close(less.masks, whole.masks[:, [0, 1, 3]])
    assert part.organs == {"lung_right": 44, "heart": 26}
