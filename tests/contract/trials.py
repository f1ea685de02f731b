"""What differs between the kinds of answers when their methods are tried: how to build, feed and compare."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from anatozoo.methods.multiatlas.model import MultiAtlasModel
from anatozoo.metrics.cases import case_row
from anatozoo.nn.labels import one_hot
from anatozoo.zoo.registry import METHODS
from tests.contract.variants import Variant
from tests.support.atlases import fill_atlas


def filled(scale: float) -> Callable[[str, Variant], Any]:
    """Builds modules of which no layer is zero: zeros are drawn with this standard deviation."""

    def build(method: str, variant: Variant) -> Any:
        torch.manual_seed(5)  # of twelve random refiners four amplify rounding beyond 1e-5
        module = METHODS[method].module_class()(**variant.settings)
        with torch.no_grad():
            for parameter in module.parameters():
                if not parameter.any():
                    parameter.normal_(0, scale)
        if isinstance(module, MultiAtlasModel):
            fill_atlas(module)
        return module

    return build


build_filled = filled(0.02)


@dataclass(frozen=True)
class Trial:
    """One kind of answer.

    Args:
        inputs: what the network takes for so many cases, one tensor or two.
        batch: a training batch of two.
        shape: shape of one case's answer.
        check_case: whether a case of the validation, of this number, holds what the module promises.
        build: the module.
        answer: the tensor to compare, from the module and its inputs.
        of_raw: the same from what the bare network returns.
        alone: how far an answer may be from that in a batch.
        exported: how far it may be from that of an exported network.
        half: how far half precision may be off, as a share of the answer's spread.
        silent: parameters that get no gradient.
        rare: columns that the batch need not have, as those of one kind of degradation.
        prior: method and settings of the model of shapes that variants with a shape prior take.
        quick: variants at least on which expensive checks run by default.
    """

    inputs: Callable[[Any, int], tuple[Tensor, ...]]
    batch: Callable[[Any], dict[str, Tensor]]
    shape: Callable[[Any], tuple[int, ...]]
    check_case: Callable[[Any, Any, int], None]
    build: Callable[[str, Variant], Any] = build_filled
    answer: Callable[..., Tensor] = lambda module, *given: module(*given)
    of_raw: Callable[[Any], Tensor] = lambda raw: raw
    alone: float = 1e-4
    exported: float = 1e-4
    half: float = 0.2
    silent: Callable[[Any], set[str]] = lambda module: set()
    rare: Callable[[Any], set[str]] = lambda module: set()
    prior: tuple[str, dict[str, Any]] = ("aenet", {})
    quick: int = 2


# --- landmarks and label maps of radiographs --------------------------------------------------------------


def _squares(module: Any, count: int) -> tuple[Tensor, ...]:
    size = module.side
    return (torch.rand(count, 1, size, size, generator=torch.Generator().manual_seed(1)),)


def _chest_batch(module: Any, truth: dict[str, Tensor]) -> dict[str, Tensor]:
    spacing = torch.tensor([[0.5, 0.5], [torch.nan, torch.nan]])
    return {"image": _squares(module, 2)[0], "index": torch.arange(2), "spacing_mm": spacing, **truth}


def _landmark_batch(module: Any) -> dict[str, Tensor]:
    """Landmarks, and masks, for everything that the module learns."""
    nodes, size = sum(module.organs.values()), module.side
    channels = len(getattr(module, "dense_organs", module.organs))
    of_masks = "mse_px2" not in module.columns()
    draw = torch.Generator().manual_seed(2)
    weight = torch.ones(2, nodes)
    weight[1, : nodes // 2] = 0
    truth = {
        "landmarks": torch.rand(2, nodes, 2, generator=draw),
        "landmark_weight": weight,
        "masks": (torch.rand(2, channels, size // 4, size // 4, generator=draw) > 0.5).float(),
        "known": torch.tensor([[of_masks], [True]]).expand(2, channels).contiguous(),
        "outlines": torch.rand(2, channels, 16, 2, generator=draw),
        "drawn": torch.tensor([[True], [False]]).expand(2, channels).contiguous(),
    }
    return _chest_batch(module, truth)


def _label_batch(module: Any) -> dict[str, Tensor]:
    """Label maps; in the second image, the last organ is not annotated."""
    size, count = module.side, len(module.organs)
    labels = torch.randint(0, count + 1, (2, size, size), generator=torch.Generator().manual_seed(2))
    known = torch.ones(2, count)
    if count > 1:
        known[1, -1] = 0
        labels[1][labels[1] == count] = 0
    return _chest_batch(module, {"labels": labels, "known": known})


def _check_chest(module: Any, case: Any, number: int) -> None:
    row = case_row(case)
    assert any(name.startswith("dice/") for name in row)
    assert any(name.startswith("hd_mm/") for name in row) is (number == 0)
    assert set(case.reference.organs) <= set(case.prediction.organs) <= set(module.organs)
    assert case.image is not None


def planes(module: Any, count: int) -> Tensor:
    """Masks as a network sees them that finds their landmarks, one plane for each organ."""
    draw = torch.Generator().manual_seed(1)
    coarse = torch.rand(count, len(module.organs), 8, 8, generator=draw)
    return torch.nn.functional.interpolate(coarse, size=module.shape, mode="bilinear").gt(0.6).float()


def _traced_batch(module: Any) -> dict[str, Tensor]:
    """The second mask does not show the last organ."""
    nodes = sum(module.organs.values())
    held = torch.ones(2, len(module.organs), dtype=torch.bool)
    held[1, -1] = False
    truth = {
        "image": planes(module, 2) * held[:, :, None, None],
        "landmarks": torch.rand(2, nodes, 2, generator=torch.Generator().manual_seed(2)),
        "landmark_weight": torch.ones(2, nodes),
        "held": held,
    }
    return _chest_batch(module, truth)


def shapes(module: Any, count: int) -> tuple[Tensor, ...]:
    """Landmarks on an ellipse for each organ, a little different in each case."""
    draw = torch.Generator().manual_seed(1)
    found = []
    for place, nodes in enumerate(module.organs.values()):
        turn = torch.arange(nodes) * (2 * torch.pi / nodes)
        middle = 0.3 + 0.15 * place + 0.02 * torch.randn(count, 1, 2, generator=draw)
        found.append(middle + 0.1 * torch.stack([turn.cos(), turn.sin()], -1))
    return (torch.cat(found, 1),)


def _shape_batch(module: Any) -> dict[str, Tensor]:
    [landmarks] = shapes(module, 2)
    spacing = torch.tensor([[0.5, 0.5], [torch.nan, torch.nan]])
    weight = torch.ones(landmarks.shape[:2])
    return {
        "landmarks": landmarks,
        "landmark_weight": weight,
        "spacing_mm": spacing,
        "index": torch.arange(2),
    }


def _two_domains(module: Any) -> dict[str, Tensor]:
    """An image of each domain."""
    return {
        "image": _squares(module, 2)[0],
        "target": torch.tensor([False, True]),
        "index": torch.arange(2),
    }


# --- volumes ----------------------------------------------------------------------------------------------


def _framed(module: Any, count: int) -> tuple[Tensor, ...]:
    # ACNN's networks may take thicker slices than they give.
    shape = getattr(module, "seen_shape", module.shape)
    return (torch.rand(count, 1, *shape, generator=torch.Generator().manual_seed(1)),)


def _volume_batch(module: Any) -> dict[str, Tensor]:
    draw = torch.Generator().manual_seed(2)
    labels = torch.randint(0, len(module.organs) + 1, (2, *module.shape), generator=draw)
    return {"image": _framed(module, 2)[0], "labels": labels, "index": torch.arange(2)}


def _check_labels(module: Any, case: Any, number: int) -> None:
    assert case.prediction.size == case.reference.size == module.shape[::-1]
    assert {f"dice/{label}" for label in module.organs} <= set(case_row(case))


def _thick(module: Any, count: int) -> tuple[Tensor, ...]:
    depth, height, width = module.shape
    draw = torch.Generator().manual_seed(1)
    return (torch.rand(count, 1, depth // module.factor, height, width, generator=draw),)


def _thick_batch(module: Any) -> dict[str, Tensor]:
    """The second volume does not fill the frame."""
    inside = torch.ones(2, *module.shape, dtype=torch.bool)
    inside[1, :, :3] = False
    target = torch.rand(2, 1, *module.shape, generator=torch.Generator().manual_seed(2))
    return {"image": _thick(module, 2)[0], "target": target, "inside": inside, "index": torch.arange(2)}


def _finding_batch(module: Any) -> dict[str, Tensor]:
    """Findings; of the second image the last one is not known."""
    truth = torch.tensor([[1.0, 0.0, 1.0][: len(module.findings)]] * 2)
    truth[1] = 1 - truth[1]
    if len(module.findings) > 1:
        truth[1, -1] = torch.nan
    return {"image": _squares(module, 2)[0], "findings": truth, "index": torch.arange(2)}


def _check_scores(module: Any, case: Any, number: int) -> None:
    for finding in module.findings:
        assert 0 <= case.numbers[f"score/{finding}"] <= 1
        unknown = number == 1 and len(module.findings) > 1 and finding == module.findings[-1]
        assert np.isnan(case.numbers[finding]) == unknown
    assert case.numbers["nll"] > 0 < case.numbers["brier"]


def _check_numbers(module: Any, case: Any, number: int) -> None:
    assert set(case.numbers) == set(module.columns())
    assert all(np.isfinite(value) for value in case.numbers.values())


# --- pairs, and label maps --------------------------------------------------------------------------------


def _build_registrar(method: str, variant: Variant) -> Any:
    """A module whose field is neither zero nor wild."""
    module = filled(0.2)(method, variant)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if name.endswith("head.conv.weight"):
                parameter.normal_(0, 0.2)
    return module


def pair(module: Any, count: int, shape: tuple[int, ...] | None = None) -> tuple[Tensor, ...]:
    """Two images."""
    draw = torch.Generator().manual_seed(1)
    size = (count, 1, *(shape or module.shape))
    return torch.rand(size, generator=draw), torch.rand(size, generator=draw)


def _pair_batch(module: Any) -> dict[str, Tensor]:
    moving, fixed = pair(module, 2)
    draw = torch.Generator().manual_seed(2)
    labels = torch.randint(0, len(module.organs) + 1, (2, 2, *module.shape), generator=draw)
    given = {"moving": moving, "fixed": fixed, "index": torch.arange(2)}
    return given | {"moving_labels": labels[0], "fixed_labels": labels[1]}


def _check_pair(module: Any, case: Any, number: int) -> None:
    assert case.reference.organs == case.prediction.organs == module.organs
    row = case_row(case) if module.organs else case.numbers
    assert {"similarity", "folding_percent", *(f"dice/{label}" for label in module.organs)} <= set(row)
    assert case.prediction.size == case.reference.size == module.shape[::-1]


def _before_normalisation(module: Any) -> set[str]:
    """Batch normalisation takes the mean away again: a bias in front of it has no effect."""
    return {
        f"{name}.conv.bias"
        for name, part in module.named_modules()
        if isinstance(getattr(part, "norm", None), torch.nn.BatchNorm2d | torch.nn.BatchNorm3d)
    }


def _coded(module: Any, count: int) -> tuple[Tensor, ...]:
    draw = torch.Generator().manual_seed(1)
    classes = len(module.organs) + 1
    labels = torch.randint(0, classes, (count, 1, *module.shape), generator=draw)[:, 0]
    return (one_hot(labels, classes),)


def probabilities(module: Any, count: int, seed: int = 1) -> Tensor:
    """Masks as a repair sees them, (B, 1 + organs, ...), background first."""
    draw = torch.Generator().manual_seed(seed)
    return (3 * torch.randn(count, 1 + len(module.organs), *module.shape, generator=draw)).softmax(1)


def _noisy_batch(module: Any) -> dict[str, Tensor]:
    return {
        "noisy": probabilities(module, 2),
        "clean": probabilities(module, 2, seed=2),
        "kind": torch.zeros(2, dtype=torch.long),
        "index": torch.arange(2),
    }


def _build_plainly(method: str, variant: Variant) -> Any:
    torch.manual_seed(0)
    return METHODS[method].module_class()(**variant.settings)


def vertices(module: Any, count: int) -> Tensor:
    """Vertices of hearts, about a mean that is not one."""
    return torch.randn(count, *module.network.mean.shape, generator=torch.Generator().manual_seed(1))


def _heart_batch(module: Any) -> dict[str, Tensor]:
    """Stacks with label maps and vertices, which need not belong together."""
    places = torch.rand(2, *module.network.mean.shape, generator=torch.Generator().manual_seed(4))
    return _volume_batch(module) | {"vertices": places}


TRIALS = {
    "contours": Trial(
        _squares,
        _landmark_batch,
        lambda module: (sum(module.organs.values()), 2),
        _check_chest,
        answer=lambda module, image: module.forward_landmarks(image),
        of_raw=lambda raw: raw.landmarks,
        alone=1e-5,
        exported=1e-5,
        # Random weights amplify rounding far more than trained ones: only nonsense can be told apart here.
        half=0.5,
    ),
    "mask-contours": Trial(
        lambda module, count: (planes(module, count),),
        _traced_batch,
        lambda module: (sum(module.organs.values()), 2),
        _check_chest,
        answer=lambda module, masks: module.forward_landmarks(masks),
        of_raw=lambda raw: raw.landmarks,
        alone=1e-5,
        exported=1e-5,
        half=0.5,
    ),
    "shapes": Trial(
        shapes,
        _shape_batch,
        lambda module: (sum(module.organs.values()), 2),
        _check_chest,
        answer=lambda module, landmarks: module.forward_landmarks(landmarks),
        of_raw=lambda raw: raw.landmarks,
        alone=1e-5,
        exported=1e-5,
    ),
    "labels": Trial(
        _squares,
        _label_batch,
        lambda module: (module.channels, module.side, module.side),
        _check_chest,
        answer=lambda module, image: module(image),
        alone=1e-5,
        exported=1e-5,
        half=0.5,
    ),
    "volume": Trial(
        _framed,
        _volume_batch,
        lambda module: (len(module.organs) + 1, *module.shape),
        _check_labels,
        prior=("acnnprior", {"widths": [4, 8], "code": 6}),
    ),
    "field": Trial(
        pair,
        _pair_batch,
        lambda module: (len(module.shape), *module.shape),
        _check_pair,
        build=_build_registrar,
        answer=lambda module, *given: module(*given).field,
        of_raw=lambda raw: raw.field,
        silent=_before_normalisation,
    ),
    "codes": Trial(
        _coded,
        lambda module: {"labels": _coded(module, 2)[0].argmax(1), "index": torch.arange(2)},
        lambda module: (module.code,),
        _check_labels,
        build=filled(0.2),
        answer=lambda module, labels: module(labels)[0],
        of_raw=lambda raw: raw[0],
        silent=_before_normalisation,
        quick=1,
    ),
    "repair": Trial(
        lambda module, count: (probabilities(module, count),),
        _noisy_batch,
        lambda module: (1 + len(module.organs), *module.shape),
        lambda module, case, number: None,
        build=_build_plainly,
        rare=lambda module: {
            name for name in module.columns() if name.startswith(("dice_clean", "dice_after/"))
        },
    ),
    "restored": Trial(
        _thick,
        _thick_batch,
        lambda module: (1, *module.shape),
        _check_numbers,
        prior=("acnntl", {"widths": [4, 8], "code": 6}),
        alone=1e-5,
        half=0.05,
    ),
    "translated": Trial(
        _squares,
        _two_domains,
        lambda module: (1, *module.shape),
        _check_numbers,
        alone=1e-5,
    ),
    "mesh": Trial(
        lambda module, count: (vertices(module, count),),
        lambda module: {"vertices": vertices(module, 2), "index": torch.arange(2)},
        lambda module: tuple(module.network.mean.shape),
        _check_numbers,
        of_raw=lambda raw: raw[0],
        alone=1e-5,
        quick=1,
    ),
    "volume-mesh": Trial(
        _framed,
        _heart_batch,
        lambda module: tuple(module.network.mean.shape),
        _check_labels,
        of_raw=lambda raw: raw[0][0],
        silent=lambda module: {
            name for name, _ in module.named_parameters() if name.startswith("network.views.")
        },
        quick=1,
    ),
    "scores": Trial(
        _squares,
        _finding_batch,
        lambda module: (len(module.findings),),
        _check_scores,
        alone=1e-5,
        exported=1e-5,
        half=0.5,
    ),
}
"""Kind -> how its methods are tried."""


def trial_of(method: str) -> Trial:
    """How a method is tried."""
    return TRIALS[METHODS[method].kind.name]


def build(method: str, variant: Variant) -> Any:
    """A module of a method, in evaluation mode."""
    return trial_of(method).build(method, variant).eval()
