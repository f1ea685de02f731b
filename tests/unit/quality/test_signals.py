"""Cheap signs of quality, on drawn masks and with small networks, and what they mean in Dice."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from anatozoo.errors import ConfigError, DataError, GeometryError, ImageError
from anatozoo.frames.spec import FrameSpec
from anatozoo.methods.aenet.module import AeNetModule
from anatozoo.methods.hybridgnet.module import HybridGNetModule
from anatozoo.methods.postdae.module import PostDAEModule
from anatozoo.quality import (
    Calibration,
    LatentDistance,
    latent_code,
    mask_agreement,
    predictive_spread,
    read_organs,
    reconstruction,
    reconstruction_agreement,
    shape_faults,
)
from anatozoo.quality.latents import shrunk_covariance
from anatozoo.results.labels import LabelResult
from tests.support.hybridgnets import single_decodings, small_hybridgnet, without_variance

SIDE = 64
ORGANS = ("lungs", "heart")
SIDES = ["lung_right", "lung_left", "heart"]


def chest(heart: int = 12) -> np.ndarray:
    """A label map of two lungs and a heart of this width between them."""
    labels = np.zeros((SIDE, SIDE), np.uint8)
    labels[10:50, 8:26] = labels[10:50, 38:56] = 1
    labels[34:48, 32 - heart // 2 : 32 + heart // 2] = 2
    return labels


class Echo:
    """Makes of each mask what it is told to, and keeps what it was given."""

    def __init__(self, organs: list[str], change: Any = None) -> None:
        self.organs, self.change = organs, change or (lambda given: given)
        self.given: list[np.ndarray] = []

    def reconstruct(self, mask: np.ndarray) -> np.ndarray:
        self.given.append(mask)
        return self.change(mask.copy())


def small_aenet(seed: int = 0, **settings: Any) -> AeNetModule:
    torch.manual_seed(seed)
    module = AeNetModule(**{"code": 4, "frame": {"size": 32}} | settings)
    module.checkpoint_name, module.checkpoint_version = "aenet-small", "1"
    return module


@pytest.fixture(scope="module")
def hybridgnet() -> HybridGNetModule:
    return small_hybridgnet(HybridGNetModule)


@pytest.fixture(scope="module")
def radiograph() -> np.ndarray:
    return np.random.default_rng(2).random((96, 128), np.float32)


# --- masks ---


def test_masks_in_any_form_are_the_same() -> None:
    labels = chest()
    masks = {organ: labels == value for value, organ in enumerate(ORGANS, 1)}
    result = LabelResult("x", "1", "i", (SIDE, SIDE), (2.0, 2.0), labels, ORGANS)
    stored = sitk.GetImageFromArray(labels)
    stored.SetSpacing((2.0, 2.0))
    forms = [
        (labels, ORGANS),
        (masks, None),
        (result, None),
        (stored, ORGANS),
        (torch.tensor(labels), ORGANS),
    ]
    for form, classes in forms:
        found = read_organs(form, classes)
        assert list(found.masks) == list(ORGANS)
        np.testing.assert_array_equal(found.masks["heart"], labels == 2)
    assert read_organs(result).grid.spacing_mm == read_organs(stored, ORGANS).grid.spacing_mm == (2.0, 2.0)
    assert read_organs(labels, ORGANS, spacing_mm=0.5).grid.spacing_mm == (0.5, 0.5)


def test_masks_that_cannot_be_named_are_refused() -> None:
    with pytest.raises(DataError, match="needs `classes`"):
        read_organs(chest())
    with pytest.raises(DataError, match="holds 2"):
        read_organs(chest(), ["lungs"])
    with pytest.raises(DataError, match="no organ"):
        read_organs({})
    with pytest.raises(GeometryError, match="mask of heart"):
        read_organs({"lungs": np.ones((4, 4)), "heart": np.ones((4, 5))})
    with pytest.raises(ImageError, match="cannot be read"):
        read_organs(object(), ORGANS)


def test_agreement_puts_lungs_together_and_lets_the_heart_cover_them() -> None:
    labels = chest()
    lungs, columns = labels == 1, np.arange(SIDE)
    sides = {
        "lung_right": (lungs & (columns < 32)) | (labels == 2),
        "lung_left": lungs & (columns >= 32),
        "heart": labels == 2,
    }
    assert mask_agreement(labels, sides, ORGANS) == {"lungs": 1.0, "heart": 1.0}
    assert mask_agreement(sides, {"lungs": lungs}) == {"lungs": pytest.approx(2 * 1440 / (2 * 1440 + 168))}


def test_what_only_one_side_has_a_name_for_is_not_judged() -> None:
    other = chest()
    other[10:14] = np.where(other[10:14] == 1, 3, 0)  # clavicles in a label map cut the lungs
    found = read_organs(other, ["lungs", "heart", "clavicles"])
    assert mask_agreement(chest(), found, ORGANS) == {"lungs": 1.0, "heart": 1.0}
    assert mask_agreement(found, {"lungs": chest() == 1}) == {"lungs": 1.0}
    without = {name: found.masks[name] for name in ORGANS}
    assert mask_agreement(chest(), without, ORGANS)["lungs"] == pytest.approx(2 * 36 / (40 + 36))


def test_a_lost_organ_agrees_with_nothing() -> None:
    labels = np.where(chest() == 2, 0, chest())
    assert mask_agreement(labels, {"heart": chest() == 2}, ORGANS) == {"heart": 0.0}
    assert mask_agreement(labels, {"heart": np.zeros_like(labels)}, ORGANS) == {"heart": 0.0}


def test_agreement_needs_one_grid_and_one_organ() -> None:
    with pytest.raises(GeometryError, match="shapes"):
        mask_agreement(chest(), {"heart": np.ones((4, 4))}, ORGANS)
    with pytest.raises(DataError, match="none is shared"):
        mask_agreement(chest(), {"liver": chest() == 1}, ORGANS)
    with pytest.raises(DataError, match="none is shared"):  # one lung is not the lungs
        mask_agreement({"lungs": chest() == 1}, {"lung_left": chest() == 1})


# --- reconstruction ---


def test_what_the_autoencoder_changes_lowers_the_agreement() -> None:
    assert reconstruction_agreement(chest(), Echo(["lungs", "heart"]), ORGANS) == {"lungs": 1.0, "heart": 1.0}
    lost = reconstruction_agreement(chest(), Echo(["heart"], np.zeros_like), ORGANS)
    assert lost == {"heart": 0.0}
    plausible = chest()[:, :, None] == np.array([1, 2])
    found = reconstruction_agreement(
        chest(heart=6), Echo(["lungs", "heart"], lambda _: plausible @ np.uint8([1, 2])), ORGANS
    )
    assert found == {"lungs": 1.0, "heart": pytest.approx(2 * 6 / (6 + 12))}


def test_lungs_are_cut_for_a_model_that_knows_each() -> None:
    model = Echo([*SIDES, "clavicle_right", "clavicle_left"])
    assert reconstruction_agreement(chest(), model, ORGANS) == {"lungs": 1.0, "heart": 1.0}
    (given,) = model.given
    np.testing.assert_array_equal(given == 1, (chest() == 1) & (np.arange(SIDE) < 32))
    np.testing.assert_array_equal(given == 2, (chest() == 1) & (np.arange(SIDE) >= 32))
    np.testing.assert_array_equal(given == 3, chest() == 2)


def test_an_empty_mask_needs_no_model() -> None:
    model = Echo(SIDES)
    found = reconstruction_agreement(np.zeros_like(chest()), model, ORGANS)
    assert found == {"lungs": 0.0, "heart": 0.0}
    assert not model.given


def test_sides_of_volumes_are_not_guessed() -> None:
    with pytest.raises(DataError, match="cannot be told apart"):
        reconstruction({"lungs": np.ones((4, 8, 8))}, Echo(SIDES))


def test_real_networks_take_masks_of_any_size() -> None:
    repairer = PostDAEModule(organs=SIDES, architecture="paper", widths=[4, 8], code=8, frame=FrameSpec(32))
    for model in (repairer, small_aenet()):
        found = reconstruction_agreement(chest(), model, ORGANS)
        assert set(found) == set(ORGANS)
        assert all(0 <= value <= 1 for value in found.values())
        assert reconstruction(chest(), model, ORGANS).grid.shape == (SIDE, SIDE)
    np.testing.assert_array_equal(
        reconstruction(chest(), repairer, ORGANS).masks["heart"],
        repairer.predict(
            np.where(chest() == 2, 3, np.where(np.arange(SIDE) < 32, 1, 2) * (chest() == 1))
        ).masks["heart"],
    )


def test_a_model_in_millimetres_gets_the_spacing() -> None:
    model = small_aenet(frame={"size": 32, "fit": "spacing", "spacing_mm": [2.0, 2.0]})
    with pytest.raises(GeometryError, match="spacing"):
        reconstruction(chest(), model, ORGANS)
    known = read_organs(chest(), ORGANS, spacing_mm=1.0)
    expected = model.reconstruct(chest(), spacing_mm=1.0)
    np.testing.assert_array_equal(reconstruction(known, model).masks["heart"], expected == 2)


def test_other_models_are_refused(hybridgnet: HybridGNetModule) -> None:
    with pytest.raises(ConfigError, match="no masks of masks"):
        reconstruction(chest(), hybridgnet, ORGANS)
    with pytest.raises(ConfigError, match="gives no codes"):
        latent_code(chest(), PostDAEModule(widths=[4], skips=[], code=4, frame=FrameSpec(32)), ["lungs"])
    with pytest.raises(ConfigError, match="of AeNetModule"):
        predictive_spread(chest(), small_aenet())


# --- latent distance ---


def test_covariance_is_shrunk_where_cases_are_few() -> None:
    draw = np.random.default_rng(0)
    true = np.array([[2.0, 1.2, 0.0], [1.2, 1.0, 0.0], [0.0, 0.0, 0.1]])
    many = draw.multivariate_normal(np.zeros(3), true, 20000)
    np.testing.assert_allclose(shrunk_covariance(many), true, atol=0.05)
    few = draw.normal(size=(6, 20))
    found, sample = shrunk_covariance(few), np.cov(few.T, bias=True)
    assert np.trace(found) == pytest.approx(np.trace(sample))
    assert np.linalg.eigvalsh(found).min() > 0.1  # the sample's own are 0
    np.testing.assert_allclose(np.linalg.eigvalsh(found).mean(), 1.0, atol=0.3)
    assert np.abs(found - np.eye(20)).max() < np.abs(sample - np.eye(20)).max()


def test_distance_is_mahalanobis() -> None:
    codes = np.random.default_rng(1).normal(size=(5000, 2)) * [10.0, 0.1] + [3.0, -1.0]
    distance = LatentDistance(None, codes)
    assert distance.of_code(distance.mean) == 0.0
    assert distance.of_code([3.0 + 20.0, -1.0]) == pytest.approx(2.0, rel=0.05)
    # Shrinkage lengthens the short axis a little, and nothing else does.
    assert 1.0 < distance.of_code([3.0, -1.0 + 0.5]) < 5.2
    assert distance.of_code([3.0 - 20.0, -1.0]) == pytest.approx(
        distance.of_code([3.0 + 20.0, -1.0]), rel=0.1
    )


def test_distance_of_masks_is_of_their_codes() -> None:
    model = small_aenet()
    reference = [chest(heart) for heart in range(8, 20, 2)]
    distance = LatentDistance.fit(model, reference, ORGANS)
    assert distance.codes.shape == (6, 4)
    np.testing.assert_array_equal(distance.codes[2], latent_code(chest(12), model, ORGANS))
    with torch.no_grad():
        frame = torch.from_numpy(chest(12)[1::2, 1::2].astype(np.int64))
        planes = torch.nn.functional.one_hot(frame, 3).movedim(-1, 0)[None].float()
        expected = model.eval().encode(planes)[0]
    np.testing.assert_allclose(latent_code(chest(12), model, ORGANS), expected, atol=1e-5)
    assert distance(chest(12), ORGANS) < distance(np.roll(chest(12), 14, 0), ORGANS)
    split = np.where(chest() == 2, 3, np.where(np.arange(SIDE) < 32, 1, 2) * (chest() == 1))
    assert distance(split, SIDES) == distance(chest(), ORGANS)
    with pytest.raises(DataError, match="needs heart too"):
        distance(chest() == 1, ["lungs"])


def test_distance_is_kept_with_its_checkpoint(tmp_path: Path) -> None:
    model = small_aenet()
    distance = LatentDistance.fit(model, [chest(8), chest(12), chest(16)], ORGANS)
    path = distance.save(tmp_path / "reference.safetensors")
    again = LatentDistance.load(path, model)
    assert again(chest(20), ORGANS) == distance(chest(20), ORGANS)
    with pytest.raises(DataError, match="weights"):
        LatentDistance.load(path, small_aenet(seed=1))
    path.write_bytes(b"no codes")
    with pytest.raises(DataError, match="no reference codes"):
        LatentDistance.load(path, model)


@pytest.mark.parametrize("codes", [np.eye(3)[:2], np.ones((5, 3)), np.full((5, 3), np.nan), np.zeros(4)])
def test_reference_codes_that_say_nothing_are_refused(codes: np.ndarray) -> None:
    with pytest.raises(DataError, match="reference codes"):
        LatentDistance(None, codes)
    with pytest.raises(DataError, match="shape"):
        LatentDistance(None, np.eye(3)).of_code([1.0])


def test_images_have_the_latent_mean(hybridgnet: HybridGNetModule, radiograph: np.ndarray) -> None:
    code = latent_code(radiograph, hybridgnet)
    assert code.shape == (8,)
    small = latent_code(radiograph[:60, :80], hybridgnet)
    assert not np.allclose(code, small)
    images = [radiograph, radiograph.T, radiograph[::-1]]
    assert LatentDistance.fit(hybridgnet, images)(radiograph) > 0


# --- spread ---


def test_spread_is_that_of_single_decodings(hybridgnet: HybridGNetModule, radiograph: np.ndarray) -> None:
    from anatozoo.frames.square import to_network
    from anatozoo.io.images import read_image

    found = predictive_spread(radiograph, hybridgnet, samples=5, seed=3)
    image = read_image(radiograph)
    every = single_decodings(
        hybridgnet, image, torch.randn((5, 8), generator=torch.Generator().manual_seed(3))
    )
    with torch.no_grad():
        pixels = torch.from_numpy(to_network(image, SIDE)[0])[None, None]
        logvar = hybridgnet.network.encode(hybridgnet.network.encoder(pixels))[1]
    np.testing.assert_allclose(found.mean["heart"], every.mean(0)[94:], atol=1e-3)
    np.testing.assert_allclose(found.std_px["lung_right"], every.std(0, ddof=1)[:44], atol=1e-3)
    np.testing.assert_allclose(found.latent_std, (logvar[0] / 2).exp(), rtol=1e-5)
    assert found.std_px["heart"].shape == (26, 2)
    assert found.per_landmark("lungs").shape == (94,)
    assert found.of("heart") == pytest.approx(found.std_px["heart"].mean())
    assert found.of("heart") > 1e-3
    with pytest.raises(ConfigError, match="no landmarks of liver"):
        found.of("liver")


def test_spread_leaves_randomness_and_mode_alone(
    hybridgnet: HybridGNetModule, radiograph: np.ndarray
) -> None:
    before = torch.get_rng_state()
    hybridgnet.train()
    try:
        first = predictive_spread(radiograph, hybridgnet, samples=4)
        assert hybridgnet.training
    finally:
        hybridgnet.eval()
    assert torch.equal(torch.get_rng_state(), before)
    again, other = (predictive_spread(radiograph, hybridgnet, samples=4, seed=seed) for seed in (0, 1))
    assert first.of("heart") == again.of("heart") != other.of("heart")
    coarse = predictive_spread(radiograph, hybridgnet, samples=4, refined=False)
    assert not np.allclose(coarse.mean["heart"], first.mean["heart"], atol=1e-2)


def test_without_variance_the_spread_is_nothing_and_the_mean_the_prediction(
    hybridgnet: HybridGNetModule, radiograph: np.ndarray
) -> None:
    with without_variance(hybridgnet):
        found = predictive_spread(radiograph, hybridgnet, samples=3)
        landmarks = hybridgnet.forward_landmarks(_framed(radiograph))
    assert found.of("lungs") < 1e-4
    # Pixels of the image of 128 x 96 in the frame of 64 are twice as small.
    x = found.mean["lung_left"][:, 0]
    np.testing.assert_allclose((x + 0.5) / 128, landmarks[0, 44:94, 0].detach() + 0.5 / 64, atol=1e-3)


def _framed(image: np.ndarray) -> torch.Tensor:
    from anatozoo.frames.square import to_network
    from anatozoo.io.images import read_image

    return torch.from_numpy(to_network(read_image(image), 64)[0])[None, None]


def test_one_sample_has_no_spread(hybridgnet: HybridGNetModule, radiograph: np.ndarray) -> None:
    with pytest.raises(ConfigError, match="1 samples"):
        predictive_spread(radiograph, hybridgnet, samples=1)


# --- faults ---


def test_faults_are_counted() -> None:
    good = shape_faults(chest(), ORGANS)
    assert good.count() == good.count("lungs") == 0
    bad = chest()
    bad[2:4, 2:4] = 1
    bad[20:22, 12:14] = 0
    bad[bad == 2] = 0
    found = shape_faults(bad, ORGANS)
    assert found.extra_parts == {"lungs": 1, "heart": 0}
    assert found.holes == {"lungs": 1, "heart": 0}
    assert found.missing == ("heart",)
    assert (found.count(), found.count("lungs"), found.count("heart")) == (3, 2, 1)
    with pytest.raises(ConfigError, match="liver was not judged"):
        found.count("liver")


def test_half_a_pair_and_a_wrong_order_are_faults() -> None:
    one = np.where(np.arange(SIDE) < 32, chest(), 0)
    assert shape_faults(one, ORGANS).extra_parts["lungs"] == -1
    columns = np.arange(SIDE)
    swapped = {"lung_left": (chest() == 1) & (columns < 32), "lung_right": (chest() == 1) & (columns >= 32)}
    found = shape_faults(swapped)
    assert [" ".join(pair) for pair in found.order] == ["lung_right left of lung_left"]
    assert found.count("lung_left") == 1
    assert shape_faults(chest(), ORGANS, pairs=[("heart", "above", "lungs")]).count() == 1
    assert shape_faults(chest(), ORGANS, pairs=[("heart", "below", "lungs")]).count() == 0


# --- calibration ---


def test_isotonic_calibration_finds_a_rising_and_a_falling_curve() -> None:
    signal = np.random.default_rng(0).uniform(0, 4, 300)
    dice = 1 / (1 + np.exp(-signal))
    for sign in (1, -1):
        fitted = Calibration.fit({"s": sign * signal}, dice)
        assert fitted.kind == "isotonic"
        asked = np.linspace(0.1, 3.9, 20)
        expected = 1 / (1 + np.exp(-asked))
        np.testing.assert_allclose(fitted.predict({"s": sign * asked}), expected, atol=0.01)
        low, high = fitted.predict({"s": [sign * -100.0, sign * 100.0]})
        assert (low, high) == (dice.min(), dice.max())


def test_equal_signals_get_one_dice_and_noise_is_pooled() -> None:
    signal = np.repeat([0.0, 1.0, 2.0], 10)
    dice = np.repeat([0.5, 0.4, 0.9], 10) + np.tile([0.1, -0.1], 15)
    fitted = Calibration.fit({"s": signal}, np.clip(dice, 0, 1))
    np.testing.assert_allclose(fitted.predict({"s": [0.0, 1.0, 2.0]}), [0.45, 0.45, 0.9])


def test_linear_calibration_weighs_several_signals() -> None:
    draw = np.random.default_rng(1)
    a, b = draw.normal(size=50), 1000 * draw.normal(size=50)
    dice = 0.5 + 0.05 * a - 0.00005 * b
    fitted = Calibration.fit({"a": a, "b": b}, dice)
    assert fitted.kind == "linear"
    np.testing.assert_allclose(fitted.table[0], [0.5, 0.05, -0.00005], rtol=1e-6)
    found = fitted.predict({"b": [0.0, 0.0, 0.0], "a": [1.0, 100.0, -100.0], "more": [np.nan]})
    np.testing.assert_allclose(found, [0.55, 1.0, 0.0])
    assert Calibration.fit({"a": a}, dice, "linear").kind == "linear"


@pytest.mark.parametrize("count", [1, 2])
def test_calibrations_survive_json(tmp_path: Path, count: int) -> None:
    draw = np.random.default_rng(2)
    signals = {f"s{i}": draw.random(40) for i in range(count)}
    fitted = Calibration.fit(signals, draw.random(40))
    again = Calibration.load(fitted.save(tmp_path / "c.json"))
    assert again == fitted
    np.testing.assert_array_equal(again.predict(signals), fitted.predict(signals))
    content = json.loads((tmp_path / "c.json").read_text())
    huge = {"table": [[10**400]]}
    for broken in ({"schema_version": 2}, {"table": [[1.0]]}, {"kind": "cubic"}, {"table": "no"}, huge):
        with pytest.raises(DataError, match="not a calibration"):
            Calibration.from_dict(content | broken)
    for text in ("{", "[]", json.dumps(content | huge)):
        (tmp_path / "c.json").write_text(text)
        with pytest.raises(DataError, match=r"c\.json' cannot be read"):
            Calibration.load(tmp_path / "c.json")


def test_what_cannot_be_calibrated_is_refused() -> None:
    signal = np.linspace(0, 1, 20)
    for signals, dice, message in [
        ({"s": [*signal[1:], np.nan]}, signal, "s is NaN"),
        ({"s": signal}, [*signal[1:], np.nan], "without NaN"),
        ({"s": signal}, signal + 1, "within 0 … 1"),
        ({"s": signal[:9]}, signal[:9], "9 cases are too few"),
        ({"s": signal, "t": signal**2, "u": signal**3}, signal, "20 cases are too few"),
        ({"s": np.ones(20)}, signal, "s is 1 for all cases"),
        ({"s": signal}, signal[:15], "do not go with"),
        ({"s": signal, "t": signal[:15]}, signal, "one length"),
        ({}, signal, "at least one"),
    ]:
        with pytest.raises((DataError, ConfigError), match=message):
            Calibration.fit(signals, dice, None if signals else "linear")
    with pytest.raises(ConfigError, match="isotonic"):
        Calibration.fit({"s": signal, "t": signal}, signal, "isotonic")
    fitted = Calibration.fit({"s": signal}, signal)
    with pytest.raises(DataError, match="s is missing"):
        fitted.predict({"t": signal})
    with pytest.raises(DataError, match="NaN"):
        fitted.predict({"s": [np.nan]})
