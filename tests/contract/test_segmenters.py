"""Methods that segment radiographs, by landmarks or by masks, answer on the grid of the source."""

import json
from typing import Any

import numpy as np
import pytest
import torch

from anatozoo.errors import ConfigError
from anatozoo.methods.multiatlas.model import MultiAtlasModel, Votes
from anatozoo.nn.graphs import organ_slices
from anatozoo.results.segmentation import SegmentationResult
from anatozoo.tasks.contours import ContourTask
from tests.contract.trials import build
from tests.contract.variants import Variant, of
from tests.support.phantoms import make_chest_phantom

SIZES = [(64, 64), (61, 97), (200, 33), (16, 40)]


def _check(module: Any, result: SegmentationResult) -> None:
    """Whether a result holds what the module promises."""
    if isinstance(module, ContourTask):
        assert {organ: len(points) for organ, points in result.landmarks.items()} == module.organs
        assert (result.label_map is not None) == module.has_masks
    else:
        assert result.landmarks == {}
        assert list(result.organs) == module.organs
        assert set(np.unique(result.mask)) <= set(range(len(module.organs) + 1))


def _difference(a: SegmentationResult, b: SegmentationResult) -> float:
    """Largest difference in pixels, or share of pixels that differ."""
    if a.landmarks:
        return max(float(np.abs(a.landmarks[organ] - b.landmarks[organ]).max()) for organ in a.landmarks)
    return float((a.mask != b.mask).mean())


@of("contours", "labels")
def test_results_lie_on_the_source_grid(method: str, variant: Variant) -> None:
    module = build(method, variant)
    sources = [make_chest_phantom(*size, noise=20.0).image for size in SIZES]
    results = list(module.predict_batch(sources, batch_size=2))
    for (width, height), source, result in zip(SIZES, sources, results, strict=True):
        assert isinstance(result, SegmentationResult)
        assert result.size == (width, height)
        assert result.mask.shape == (height, width)
        assert result.spacing_mm is None
        assert result.landmarks_mm is None
        _check(module, result)
        json.dumps(result.to_dict())
        if variant.exact:
            assert _difference(result, module.predict(source)) <= 2e-3


@of("contours", "labels")
def test_the_middle_of_the_frame_is_the_middle_of_the_image(
    method: str, variant: Variant, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = build(method, variant)
    size = module.side
    if isinstance(module, ContourTask):
        nodes = sum(module.organs.values())
        if isinstance(module, MultiAtlasModel):  # all that the chosen images of the atlas say
            votes = Votes(np.full((2, nodes, 2), (size - 1) / 2), 1.0)
            monkeypatch.setattr(module, "votes", lambda image: [votes] * len(image))
        centre = torch.full((1, nodes, 2), (size - 1) / 2 / size)
        monkeypatch.setattr(module, "forward_landmarks", lambda image: centre.expand(len(image), -1, -1))
        if module.has_masks:
            masks = torch.zeros(1, 1 + len(module.organs), size, size)
            masks[:, 0] = 0.9
            masks[:, :2, size // 4 : -(size // 4), size // 4 : -(size // 4)] = torch.tensor([0.1, 0.9])[
                :, None, None
            ]
            monkeypatch.setattr(module, "forward_with_masks", lambda image: (centre, masks))
        result = module.predict(make_chest_phantom(101, 60).image)
        if module.has_masks and not isinstance(module, MultiAtlasModel):  # whose votes enclose nothing here
            rows, columns = np.nonzero(result.label_map == 1)
            assert (columns.mean(), rows.mean()) == (50, 29.5)
        for organ in organ_slices(module.organs):
            np.testing.assert_allclose(
                result.landmarks[organ], np.tile([50, 29.5], (module.organs[organ], 1)), atol=1e-4
            )
        return
    logits = torch.zeros(1, module.channels, size, size)
    middle = slice(size // 4, -(size // 4))
    if module.output == "labels":
        logits[:, 0], logits[:, :2, middle, middle] = 9.0, torch.tensor([0.0, 9.0])[:, None, None]
    else:
        logits[:], logits[:, 0, middle, middle] = -9.0, 9.0
    for each in getattr(module, "models", [module]):  # the members of an ensemble answer one by one
        monkeypatch.setattr(each, "forward", lambda image: logits.expand(len(image), -1, -1, -1))
    rows, columns = np.nonzero(module.predict(make_chest_phantom(101, 60).image).mask == 1)
    assert (columns.mean(), rows.mean()) == (50, 29.5)
    # Half of the frame, whose width is the source's.
    assert np.ptp(columns) + 1 == pytest.approx(50.5, abs=1)


@of("contours", "labels")
def test_samples_give_a_spread_or_are_refused(method: str, variant: Variant) -> None:
    module = build(method, variant)
    source = make_chest_phantom(61, 97, noise=20.0).image
    if not module.has_latent:
        with pytest.raises(ConfigError, match="no latent code"):
            module.predict(source, samples=3)
        return
    one, [other] = module.predict(source, samples=3), module.predict_batch([source], samples=3)
    assert {organ: sigma.shape for organ, sigma in one.sigma.items()} == {
        organ: (count, 2) for organ, count in module.organs.items()
    }
    assert one.samples == 3
    assert one.sigma_px == other.sigma_px > 0
    json.dumps(one.to_dict())
