"""Predictions in bfloat16: one way, within a bound; any other way is warned of."""

import argparse
import warnings
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

import anatozoo
from anatozoo.cli.predict import add_arguments
from anatozoo.errors import AnatozooWarning, ConfigError
from anatozoo.io.grid import Grid, itk_image
from anatozoo.serve.tasks import facts_of
from anatozoo.tasks.precision import PRECISIONS, autocast_type
from tests.support.phantoms import make_chest_phantom

LABELS = ("unet-jsrt", "acnn-hippocampus", "postdae-jsrt", "aenet-jsrt")
"""A checkpoint of each kind that draws label maps."""


@pytest.fixture(scope="module")
def phantom() -> npt.NDArray[np.uint8]:
    return make_chest_phantom(512, 512).image


def dice(a: npt.NDArray[Any], b: npt.NDArray[Any]) -> float:
    labels = [value for value in np.unique([a, b]).tolist() if value]
    assert labels
    return float(min(2 * ((a == v) & (b == v)).sum() / ((a == v).sum() + (b == v).sum()) for v in labels))


def test_landmarks_in_bfloat16_stay_where_they_are(phantom: npt.NDArray[np.uint8]) -> None:
    model = anatozoo.load("hybridgnet-jsrt")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        full = model.predict(phantom)
        assert full.landmarks.keys() == model.predict(phantom, precision="32").landmarks.keys()
        half = model.predict(phantom, precision="bf16")
        [again] = model.predict_batch([phantom], precision="bf16")
    moved = {o: np.linalg.norm(full.landmarks[o] - half.landmarks[o], axis=1) for o in full.landmarks}
    every = np.concatenate(list(moved.values()))
    # Of 512 pixels. A drawing, unlike any radiograph, leaves more in doubt: real images move a third as far.
    assert 0 < every.mean() < 2.5
    assert np.percentile(every, 95) < 7
    for organ, points in half.landmarks.items():
        assert np.array_equal(points, again.landmarks[organ])
    assert not torch.is_autocast_enabled("cpu")
    warns(model, phantom)


def warns(model: Any, *given: Any) -> None:
    with pytest.warns(AnatozooWarning, match=r"torch\.bfloat16.*precision='bf16'"):
        model.bfloat16().predict(*given)


@pytest.mark.parametrize("name", LABELS)
def test_label_maps_in_bfloat16_are_nearly_the_same(name: str, phantom: npt.NDArray[np.uint8]) -> None:
    model = anatozoo.load(name)
    given = phantom if name == "unet-jsrt" else model.golden_input()
    if name == "acnn-hippocampus":
        given = itk_image(given, Grid(given.shape[::-1], (1.0, 1.0, 1.0)))
    full, half = model.predict(given), model.predict(given, precision="bf16")
    before, after = (r.after if hasattr(r, "after") else r.mask for r in (full, half))
    assert dice(before, after) >= 0.95
    warns(model, given)


def test_fields_in_bfloat16_are_nearly_the_same(phantom: npt.NDArray[np.uint8]) -> None:
    other = np.roll(phantom, 12, axis=1)
    model = anatozoo.load("acregnet-jsrt")
    full, half = model.predict(phantom, other), model.predict(phantom, other, precision="bf16")
    away = np.linalg.norm(full.displacement_px - half.displacement_px, axis=-1)
    assert half.displacement_px.dtype == full.displacement_px.dtype
    assert away.mean() < 1.5  # of 512 pixels
    warns(model, phantom, other)


def test_volumes_in_bfloat16_are_nearly_the_same() -> None:
    model = anatozoo.load("acnn-sr-hippocampus")
    volume = model.golden_input()
    fine, rough = model.predict(volume), model.predict(volume, precision="bf16")
    assert rough.volume.dtype == np.float32
    assert np.abs(fine.volume - rough.volume).mean() < 0.01 * np.ptp(fine.volume)
    warns(model, volume)


def test_a_surrounding_autocast_is_warned_of(phantom: npt.NDArray[np.uint8]) -> None:
    model = anatozoo.load("hybridgnet-jsrt")
    with torch.autocast("cpu", torch.bfloat16), pytest.warns(AnatozooWarning, match="autocast is on"):
        model.predict(phantom)


def test_what_is_not_possible_is_said(phantom: npt.NDArray[np.uint8]) -> None:
    model = anatozoo.load("hybridgnet-jsrt")
    with pytest.raises(ConfigError, match="precision='half' is unknown; choose one of 32, bf16, 16"):
        model.predict(phantom, precision="half")
    with pytest.raises(ConfigError, match="precision='16' is for CUDA; on cpu use 'bf16'"):
        list(model.predict_batch([phantom], precision="16"))
    assert autocast_type("32", "cpu") is None
    assert autocast_type("16", "cuda") == torch.float16


def test_the_command_offers_the_same_and_tells_runs_apart() -> None:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    [action] = [each for each in parser._actions if each.dest == "precision"]
    assert tuple(action.choices or ()) == PRECISIONS
    assert action.default == "32"
    model = anatozoo.load("hybridgnet-jsrt")
    full = facts_of(model)
    model.precision = "bf16"
    assert facts_of(model) == (*full, "bf16")
