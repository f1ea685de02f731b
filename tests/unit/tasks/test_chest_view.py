"""The check that a picture is an upright frontal chest: its mechanism, its rules, and the shipped weights."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import anatozoo
from anatozoo.frames.spec import FrameSpec
from anatozoo.frames.square import to_network
from anatozoo.io.images import Image, read_image
from anatozoo.io.samples import sample_radiograph
from anatozoo.methods.hybridgnet.module import HybridGNetModule
from anatozoo.methods.unet.module import UNetModule
from anatozoo.tasks import chest_view
from anatozoo.tasks.chest_view import ChestView, flags_of_view, view_input, view_probabilities
from tests.support.phantoms import make_chest_phantom

WAYS = [
    lambda x: x,
    lambda x: np.rot90(x, -1),
    lambda x: np.rot90(x, -2),
    lambda x: np.rot90(x, -3),
    lambda x: x[:, ::-1],
    lambda x: np.rot90(x[:, ::-1], -1),
    lambda x: np.rot90(x[:, ::-1], -2),
    lambda x: np.rot90(x[:, ::-1], -3),
]
"""What the eight answers stand for: turned clockwise, and mirrored before that."""


@pytest.fixture(scope="module")
def radiograph() -> np.ndarray:
    return to_network(read_image(sample_radiograph()), 512)[0]


def changed(x: np.ndarray, way: int) -> np.ndarray:
    return np.ascontiguousarray(WAYS[way](x))


def probability(**values: float) -> np.ndarray:
    order = ["up", "cw90", "cw180", "cw270", "m0", "m90", "m180", "m270", "other"]
    return np.array([values.get(name, 0.0) for name in order])


@pytest.mark.parametrize("way", range(8))
def test_each_way_of_turning_moves_the_answer_to_its_place_whatever_the_weights(way: int) -> None:
    torch.manual_seed(3)
    network = ChestView().eval()
    picture = np.random.default_rng(0).random((64, 64), np.float32)
    upright, turned = view_probabilities([picture, changed(picture, way)], network)
    assert turned[way] == pytest.approx(upright[0], rel=1e-4)
    assert sorted(turned[:8]) == pytest.approx(sorted(upright[:8]), rel=1e-4)
    assert turned[8] == pytest.approx(upright[8], rel=1e-4)


@pytest.mark.parametrize(
    ("values", "flags"),
    [
        ({"up": 0.95, "m0": 0.05}, ()),
        ({"up": 0.5, "m0": 0.5}, ()),  # which side the heart is on cannot be told: nothing is claimed
        ({"m0": 0.97, "up": 0.03}, ("mirrored",)),
        ({"cw90": 0.9, "m90": 0.1}, ("turned_90",)),
        ({"cw180": 1.0}, ("turned_180",)),
        ({"cw270": 0.6, "other": 0.4}, ("turned_270",)),
        ({"cw270": 0.3, "cw90": 0.3, "cw180": 0.4}, ("not_a_frontal_chest",)),
        ({"m180": 0.98, "cw180": 0.02}, ("turned_180", "mirrored")),
        ({"other": 0.95, "up": 0.05}, ("not_a_frontal_chest",)),
        ({"other": 0.4, "up": 0.6}, ()),
        ({"other": 0.2, "m0": 0.8}, ("not_a_frontal_chest",)),  # too doubtful to say mirrored
    ],
)
def test_flags_follow_the_probabilities(values: dict[str, float], flags: tuple[str, ...]) -> None:
    assert flags_of_view(probability(**values)) == flags


def test_a_real_radiograph_that_lies_right_has_no_flag(radiograph: np.ndarray) -> None:
    assert flags_of_view(view_probabilities([radiograph])[0]) == ()


@pytest.mark.parametrize(
    ("way", "flags"),
    [
        (1, {"turned_90"}),
        (2, {"turned_180"}),
        (3, {"turned_270"}),
        (4, {"mirrored"}),
        (6, {"mirrored", "turned_180"}),  # top and bottom exchanged
    ],
)
def test_the_same_radiograph_turned_or_mirrored_is_flagged(
    way: int, flags: set[str], radiograph: np.ndarray
) -> None:
    assert set(flags_of_view(view_probabilities([changed(radiograph, way)])[0])) == flags


def test_what_is_no_chest_is_flagged(radiograph: np.ndarray) -> None:
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:300, :200].astype(np.float32)
    strange = [
        rng.random((200, 300), np.float32),
        rows / 300,
        (columns // 20 % 2).astype(np.float32),
        1 - radiograph,
        np.zeros((64, 64), np.float32),
        np.ones((1, 500), np.float32),
    ]
    for found in view_probabilities(strange):
        assert flags_of_view(found) == ("not_a_frontal_chest",)


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (700, 3), (64, 64), (2000, 90)])
def test_pictures_of_any_proportion_become_the_networks_input(shape: tuple[int, int]) -> None:
    small = view_input(np.random.default_rng(0).random(shape, np.float32))
    assert small.shape == (64, 64)
    assert small.dtype == np.float32
    assert np.isfinite(small).all()


def test_black_around_a_picture_does_not_matter(radiograph: np.ndarray) -> None:
    around = np.pad(radiograph, ((0, 90), (200, 40)))
    np.testing.assert_allclose(view_input(around), view_input(radiograph), atol=1e-6)


def test_the_shipped_weights_are_small_finite_and_complete() -> None:
    state = load_file(chest_view.WEIGHTS)
    assert chest_view.WEIGHTS.stat().st_size < 100_000
    assert all(bool(torch.isfinite(x).all()) for x in state.values())
    counters = {name for name in ChestView().state_dict() if name.endswith("num_batches_tracked")}
    assert set(ChestView().state_dict()) - counters == set(state)


def small_modules(**settings: bool) -> list[HybridGNetModule | UNetModule]:
    chest: dict[str, Any] = {"organs": "lungs_heart", "frame": FrameSpec(64)}
    return [
        HybridGNetModule(**chest, latents=4, features=8, order=2, **settings).eval(),
        UNetModule(**chest, decoder_widths=[4, 4, 4, 4, 4], **settings).eval(),
    ]


VIEWS = {"turned_90", "turned_180", "turned_270", "mirrored", "not_a_frontal_chest"}


def test_models_flag_views_where_they_are_asked_to() -> None:
    noise = np.random.default_rng(0).random((90, 70))
    for module in small_modules(check_view=True):
        assert "not_a_frontal_chest" in module.predict(noise).flags
        phantom = make_chest_phantom().image
        single = [module.predict(x).flags for x in (noise, phantom)]
        assert [result.flags for result in module.predict_batch([noise, phantom])] == single
    for module in small_modules():
        assert not VIEWS & set(module.predict(noise).flags)


def test_a_flag_of_the_header_is_not_repeated(radiograph: np.ndarray) -> None:
    image = Image(changed(radiograph, 4), flags=("modality_unknown", "mirrored"))
    assert chest_view.with_view_flags([image], [image.pixels])[0].flags == ("modality_unknown", "mirrored")
    plain = replace(image, flags=())
    assert chest_view.with_view_flags([plain], [image.pixels])[0].flags == ("mirrored",)


@pytest.mark.parametrize("name", ["hybridgnet-chexmask", "hybridgnet-jsrt", "unet-jsrt"])
def test_chest_models_of_the_zoo_flag_a_radiograph_that_lies_on_its_side(name: str) -> None:
    model = anatozoo.load(name)
    pixels = read_image(sample_radiograph()).pixels
    assert not VIEWS & set(model.predict(pixels).flags)
    assert "turned_90" in model.predict(np.ascontiguousarray(np.rot90(pixels, -1))).flags
