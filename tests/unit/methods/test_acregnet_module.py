"""Losses, gradients, training steps and prediction of AC-RegNet, on generated images."""

from pathlib import Path
from typing import Any, get_args

import cv2
import lightning as L
import numpy as np
import pytest
import SimpleITK as sitk
import torch
from scipy.ndimage import gaussian_filter

from anatozoo.errors import ConfigError, DataError, GeometryError, ImageError
from anatozoo.frames.spec import FrameSpec
from anatozoo.io.grid import Grid, itk_image
from anatozoo.methods.acregnet.data import AcRegNetDataModule
from anatozoo.methods.acregnet.module import AcRegNetModule
from anatozoo.methods.acregnet.network import Registration
from anatozoo.methods.aenet.data import AeNetDataModule
from anatozoo.methods.aenet.module import AeNetModule
from anatozoo.metrics.registration import inverse_consistency_error_px
from anatozoo.nn import warp as warping
from anatozoo.nn.instance import optimise_field
from anatozoo.nn.labels import one_hot, swap_neighbours
from anatozoo.nn.registration_losses import Similarity, diffusion
from anatozoo.objectives.shape_prior import ShapePrior
from anatozoo.results.segmentation import SegmentationResult
from anatozoo.results.volume import VolumeResult
from anatozoo.training.weights import frozen
from anatozoo.zoo.checkpoint import write_checkpoint_folder
from tests.support.chest_data import write_chest_data
from tests.support.phantoms import make_chest_phantom
from tests.support.shape_priors import prior_for, with_shape

IMAGES_ONLY: dict[str, Any] = {"organs": [], "label_weight": 0.0}


def module(**changes: Any) -> AcRegNetModule:
    torch.manual_seed(0)
    return AcRegNetModule(**({"normalization": "none", "frame": {"size": 32}} | changes))


def batch(size: int = 32) -> dict[str, torch.Tensor]:
    """A bright square with a brighter one inside, and the same three pixels further down."""
    labels = torch.zeros(2, size, size, dtype=torch.long)
    labels[:, 8:24, 8:24], labels[:, 12:20, 12:20] = 1, 2
    other = labels.roll(3, 1)
    images = [x[:, None] / 3 + 0.1 for x in (labels, other)]
    return {
        "moving": images[0],
        "fixed": images[1],
        "moving_labels": labels,
        "fixed_labels": other,
        "index": torch.arange(2),
    }


@pytest.mark.parametrize(
    ("weights", "terms"),
    [
        ((0.0, 0.0), {"similarity", "smoothness"}),
        ((1.0, 0.0), {"similarity", "smoothness", "label"}),
        ((0.0, 0.1), {"similarity", "smoothness", "shape"}),
        ((1.0, 0.1), {"similarity", "smoothness", "label", "shape"}),
    ],
    ids=["RegNet", "CE-RegNet", "AE-RegNet", "AC-RegNet"],
)
def test_each_variant_has_its_terms(weights: tuple[float, float], terms: set[str]) -> None:
    model, shapes = module(label_weight=weights[0]), AeNetModule(frame=FrameSpec(32))
    prior = prior_for(model, shapes, weights[1])
    data = batch()
    found = with_shape(model, model(data["moving"], data["fixed"]), data, prior)
    assert set(found) == terms
    doubled = module(label_weight=2 * weights[0], smoothness_weight=1e-4)
    stronger = prior_for(doubled, shapes, 2 * weights[1])
    doubled.load_state_dict(model.state_dict())
    twice = with_shape(doubled.eval(), doubled(data["moving"], data["fixed"]), data, stronger)
    once = with_shape(model.eval(), model(data["moving"], data["fixed"]), data, prior)
    for term in terms - {"similarity"}:
        assert twice[term].item() == pytest.approx(2 * once[term].item(), rel=1e-4)


@pytest.mark.parametrize("term", ["label", "shape"])
def test_the_terms_of_labels_reach_the_network(term: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = module()
    prior = prior_for(model, AeNetModule(frame=FrameSpec(32)), 0.1)
    data = batch()

    def gradient() -> float:
        model.zero_grad()
        loss = with_shape(model, model(data["moving"], data["fixed"]), data, prior)[term]
        if not loss.requires_grad:
            return 0.0
        loss.backward()
        found = [p.grad.abs().max() for p in model.network.parameters() if p.grad is not None]
        return float(torch.stack(found).max()) if found else 0.0

    assert gradient() > 1e-8
    # What the authors' port does: labels of the nearest pixel do not change with a small displacement.
    nearest = lambda image, field, **_: warping.warp(image, field, "nearest")  # noqa: E731
    monkeypatch.setattr("anatozoo.tasks.field.warp", nearest)
    assert gradient() == 0


def test_the_shape_term_pulls_labels_together() -> None:
    """Against the gradient of the field itself: moving towards the fixed shape must lower both terms."""
    model = module()
    prior = prior_for(model, AeNetModule(frame=FrameSpec(32)), 0.1)
    data = batch()
    values = []
    for rows in (0.0, -1.5, -3.0):
        field = torch.zeros(2, 2, 32, 32)
        field[:, 0] = rows
        output = Registration(warping.warp(data["moving"], field), field, None)
        values.append({k: float(v) for k, v in with_shape(model, output, data, prior).items()})
    for term in ("similarity", "label", "shape"):
        assert values[0][term] > values[1][term] > values[2][term], term
    assert values[2]["shape"] == pytest.approx(0, abs=1e-6)


def test_the_shape_model_is_frozen_and_outside_of_everything() -> None:
    model = module()
    names = set(model.state_dict())
    shape = AeNetModule(frame=FrameSpec(32))
    prior = prior_for(model, shape, 0.1)
    assert set(model.state_dict()) == names
    assert not [name for name, _ in model.named_parameters() if "shape" in name]
    assert not any(p.requires_grad for p in shape.parameters())
    model.train()
    assert not shape.training
    before = {k: v.clone() for k, v in shape.state_dict().items()}
    optimizer, data = torch.optim.SGD(model.parameters(), 0.1), batch()
    terms = with_shape(model, model(data["moving"], data["fixed"]), data, prior)
    torch.stack(list(terms.values())).sum().backward()
    optimizer.step()
    for name, value in shape.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_settings_that_contradict_one_another() -> None:
    with pytest.raises(ConfigError, match="label_weight needs organs"):
        module(organs=[]).setup("fit")
    with pytest.raises(ConfigError, match="multiples of 8"):
        AeNetModule(frame=FrameSpec(60))
    with pytest.raises(ConfigError, match="spacing_mm with 2"):
        module(frame={"size": 32, "fit": "spacing"})
    with pytest.raises(ConfigError, match="must be odd"):
        module(window=4)
    with pytest.raises(ConfigError, match="different names"):
        module(organs=["heart", "heart"])
    with pytest.raises(ConfigError, match=r"must be a side"):
        module(frame={"size": [32, 32, 32, 32]})
    with pytest.raises(ConfigError, match="must not be negative"):
        module(smoothness_weight=-1.0)
    with pytest.raises(ConfigError, match="must not be negative"):
        module(label_weight=-1.0)
    with pytest.raises(ConfigError, match="same proportions"):
        prior_for(module(), AeNetModule(frame=FrameSpec([32, 64])))
    with pytest.raises(ConfigError, match="same organs"):
        prior_for(module(), AeNetModule(organs=["heart"], frame=FrameSpec(32)))
    with pytest.raises(ConfigError, match="same field of view"):
        prior_for(module(), AeNetModule(frame=FrameSpec(32, fit="stretch")))
    with pytest.raises(ConfigError, match="too small for 3 levels"):
        module(levels=3, frame={"size": 16}, **IMAGES_ONLY)(
            torch.rand(1, 1, 16, 16), torch.rand(1, 1, 16, 16)
        )


def trainer(**changes: Any) -> L.Trainer:
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    settings = {"accelerator": "cpu", "enable_model_summary": False, "max_epochs": 1, **quiet, **changes}
    return L.Trainer(**settings)


@pytest.fixture(scope="module")
def chest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_chest_data(tmp_path_factory.mktemp("chest"), {"train": 3, "val": 2, "test": 2}, side=64)


@pytest.mark.filterwarnings("ignore:The '.*_dataloader' does not have many workers")
@pytest.mark.filterwarnings("ignore:.*isinstance.treespec, LeafSpec.")
def test_both_stages_train_validate_and_test(chest: Path, tmp_path: Path) -> None:
    size = {"root": str(chest), "frame": {"size": 32}}
    first = AeNetModule(frame=FrameSpec(32))
    one = trainer(limit_train_batches=2)
    one.fit(first, AeNetDataModule(**size, batch_size=2))
    assert 0 <= one.callback_metrics["val/dice"] <= 1
    write_checkpoint_folder(first, tmp_path / "aenet", name="aenet-test", version="1.0.0", half=False)

    second = module(normalization="all")
    prior = ShapePrior(str(tmp_path / "aenet"), weight=0.1)
    two = trainer(limit_train_batches=2, callbacks=[prior])
    two.fit(second, AcRegNetDataModule(**size, batch_size=2))
    metrics = {k: float(v) for k, v in two.callback_metrics.items()}
    assert {"train/shape", "train/label", "train/loss", "val/dice/heart", "val/dice_before"} <= set(metrics)
    assert all(np.isfinite(v) for v in metrics.values())
    loaded = prior.model.state_dict()
    for name, value in first.state_dict().items():
        assert torch.equal(loaded[name], value), name
    two.test(second, AcRegNetDataModule(**size, batch_size=2), verbose=False)
    assert "test/folding_percent" in two.callback_metrics


@pytest.mark.filterwarnings("ignore:The '.*_dataloader' does not have many workers")
@pytest.mark.filterwarnings("ignore:.*isinstance.treespec, LeafSpec.")
def test_a_fit_starts_from_given_weights_or_says_why_not(chest: Path, tmp_path: Path) -> None:
    data = AcRegNetDataModule(root=str(chest), organs=[], batch_size=2, frame=FrameSpec(32))
    with pytest.raises(ConfigError, match="needs a source"):
        trainer(fast_dev_run=True, callbacks=[ShapePrior(weight=0.1)]).fit(
            module(), AcRegNetDataModule(root=str(chest), frame=FrameSpec(32))
        )
    start = module(**IMAGES_ONLY)
    write_checkpoint_folder(start, tmp_path, name="acregnet-test", version="1.0.0", half=False)
    fresh = module(**IMAGES_ONLY, init_weights=str(tmp_path), optim={"schedule": "cosine"})
    with torch.no_grad():
        for parameter in fresh.parameters():
            parameter.add_(1)
    with pytest.raises(ConfigError, match="nothing was trained"):  # as is meant here
        trainer(limit_train_batches=0).fit(fresh, data)
    for name, value in start.state_dict().items():
        assert torch.equal(fresh.state_dict()[name], value), name
    other = module(**IMAGES_ONLY, init_weights=str(tmp_path), levels=2)
    with pytest.raises(ConfigError, match="another network"):
        trainer(fast_dev_run=True).fit(other, data)
    with pytest.raises(ConfigError, match="cannot encode"):
        frozen(str(tmp_path), "encode")


def test_noise_swaps_neighbours_in_pairs() -> None:
    labels = torch.arange(7).view(1, 1, 7).expand(2, 5, 7)
    hot = one_hot(labels, 7)
    always = swap_neighbours(hot, 1.0).argmax(1)
    assert always[0, 0].tolist() == [1, 0, 3, 2, 5, 4, 6]
    assert torch.equal(swap_neighbours(hot, 0.0), hot)
    torch.manual_seed(0)
    wide = one_hot(torch.arange(2).repeat(500).expand(1, 100, 1000), 2)
    noisy = swap_neighbours(wide, 0.1)
    changed = (noisy != wide).any(1)
    assert float(changed.float().mean()) == pytest.approx(0.1, abs=0.01)
    assert torch.equal(changed[..., 0::2], changed[..., 1::2])
    assert torch.equal(noisy.sum(1), torch.ones(1, 100, 1000))


def test_the_autoencoder_answers_on_the_grid_of_the_mask() -> None:
    model = AeNetModule(frame=FrameSpec(32)).eval()
    mask = np.zeros((50, 70), np.uint8)
    mask[10:30, 20:60] = 2

    def copy(given: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return given, 9 * given

    model.network.forward = copy  # type: ignore[method-assign]
    result = model.predict(mask)
    assert result.size == (70, 50)
    assert result.classes == ("lungs", "heart")
    assert (result.mask == mask).mean() > 0.97
    assert model.reconstruct(mask > 0).max() == 1
    with pytest.raises(DataError, match="3 classes"):
        model.predict(mask * 2)
    volume = AeNetModule(frame=FrameSpec([16, 16, 16]))
    assert volume.reconstruct(np.ones((9, 10, 11), np.uint8)).shape == (9, 10, 11)
    assert isinstance(volume.predict(np.ones((9, 10, 11), np.uint8)), VolumeResult)


def test_labels_beyond_the_classes_are_refused() -> None:
    with pytest.raises(DataError, match="3 classes"):
        one_hot(torch.tensor([[[0, 3]]]), 3)


# ---------------------------------------------------------------------------------------------- prediction


class Constant(AcRegNetModule):
    """Answers the same displacement, in pixels of the frame, for every pair."""

    shift: tuple[float, ...] = (0.0, 0.0)

    def forward(self, moving: torch.Tensor, fixed: torch.Tensor) -> Registration:
        field = torch.zeros(1, len(self.shape), *self.shape)
        for axis, value in enumerate(self.shift):
            field[:, axis] = value
        return Registration(warping.warp(moving, field), field, None)


def constant(shift: tuple[float, ...] = (0.0, 0.0), **changes: Any) -> Constant:
    model = Constant(**({"normalization": "none", **IMAGES_ONLY, "frame": {"size": 64}} | changes))
    model.shift = shift
    return model


@pytest.mark.parametrize(
    ("moving", "fixed"), [((101, 60), (101, 60)), ((50, 30), (101, 60)), ((97, 64), (61, 97))]
)
def test_the_middle_stays_the_middle(moving: tuple[int, int], fixed: tuple[int, int]) -> None:
    result = constant().predict(make_chest_phantom(*moving).image, make_chest_phantom(*fixed).image)
    centre = (np.asarray(fixed) - 1) / 2
    there = result.points_to_moving(centre[None])[0]
    np.testing.assert_allclose(there, (np.asarray(moving) - 1) / 2, atol=1e-3)
    np.testing.assert_allclose(result.jacobian, 1, atol=1e-4)
    np.testing.assert_allclose(result.deformation_px, 0, atol=1e-4)


def test_a_shift_of_the_frame_becomes_one_of_the_image() -> None:
    image = make_chest_phantom(128, 128).image
    result = constant((3.0, -1.0)).predict(image, image)
    # 128 pixels in a frame of 64: one frame pixel is two of the image, and rows come second in the result.
    np.testing.assert_allclose(result.displacement_px[20:100, 20:100], [[[-2.0, 6.0]]] * np.ones((80, 80, 1)))
    np.testing.assert_allclose(result.warped[20:100, 20:100], image[26:106, 18:98], atol=1e-3)


def test_volumes_are_turned_before_they_are_compared() -> None:
    """One volume stored in two orders of axes is the same volume: nothing may move."""
    draw = np.random.default_rng(0)
    values = cv2.GaussianBlur(draw.random((18, 22 * 26)), (0, 0), 3).reshape(18, 22, 26).astype(np.float32)
    fixed = itk_image(values, Grid((26, 22, 18), (1.0, 1.5, 2.0), (5.0, -3.0, 8.0)))
    moving = sitk.DICOMOrient(fixed, "RIP")
    assert moving.GetDirection() != fixed.GetDirection()
    model = constant((0.0, 0.0, 0.0), frame={"size": [24, 24, 24]})
    result = model.predict(moving, fixed)
    np.testing.assert_allclose(result.warped, values, atol=1e-4)
    assert result.displacement_mm is not None
    np.testing.assert_allclose(result.displacement_mm, 0, atol=1e-4)
    np.testing.assert_allclose(result.jacobian, 1, atol=1e-4)
    np.testing.assert_allclose(
        sitk.GetArrayFromImage(sitk.Resample(moving, fixed, result.as_sitk_transform())), values, atol=1e-3
    )


def test_a_model_in_millimetres_keeps_millimetres() -> None:
    draw = np.random.default_rng(0)
    frame = {"size": [16, 16, 16], "fit": "spacing", "spacing_mm": [2.0, 2.0, 2.0]}
    model = constant((1.0, 2.0, -1.0), frame=frame)
    volumes = [draw.random(shape).astype(np.float32) for shape in ((16, 20, 18), (20, 16, 22))]
    images = [
        itk_image(v, Grid(v.shape[::-1], s))
        for v, s in zip(volumes, ((1.5,) * 3, (1.2, 1.6, 1.0)), strict=True)
    ]
    result = model.predict(*images, allow_any_modality=True)
    # The same step of the frame, in millimetres, wherever it is measured.
    moved = result.deformation_px @ result.fixed_grid.steps.T
    np.testing.assert_allclose(moved, np.broadcast_to([-2.0, 4.0, 2.0], moved.shape), atol=1e-3)
    assert "larger_than_the_models_frame" not in result.flags
    with pytest.raises(GeometryError, match="spacing is unknown"):
        model.predict(volumes[0], volumes[1])


@pytest.mark.parametrize("velocity", [False, True])
def test_instance_optimisation_finds_a_shift(velocity: bool) -> None:
    model = module(
        **IMAGES_ONLY,
        velocity=velocity,
        frame={"size": 64},
        smoothness="diffusion",
        smoothness_weight=0.05,
        instance_lr=0.2,
    ).eval()
    image = cv2.GaussianBlur(make_chest_phantom(64, 64, noise=0).image, (0, 0), 2)
    shifted = np.roll(image, 3, 0)
    before, after = (model.predict(image, shifted, instance_steps=n) for n in (0, 60))
    inside = (slice(8, 56), slice(8, 56))
    errors = [np.abs(r.warped[inside] - shifted[inside]).mean() for r in (before, after)]
    assert errors[1] < 0.5 * errors[0]
    # What leaves at the bottom comes in at the top, where nothing fits: there it may fold, elsewhere not.
    assert after.folding_fraction < 0.1


def blobs(shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """A smooth picture or volume, and the same one two pixels further along the first axis."""
    noise = gaussian_filter(np.random.default_rng(0).random(shape), 3).astype(np.float32)
    image = (noise - noise.min()) / np.ptp(noise)
    return image, np.roll(image, 2, 0)


BEYOND = pytest.mark.parametrize(
    ("shape", "velocity", "levels"),
    [((40, 32), True, 2), ((40, 32), False, 2), ((16, 18, 16), True, 2)],
)
"""Velocity, resolutions, correlation in windows and instance optimisation, together."""


def beyond_the_paper(shape: tuple[int, ...], velocity: bool, levels: int, **changes: Any) -> AcRegNetModule:
    settings = {"velocity": velocity, "levels": levels, "similarity": "lncc", "window": 5}
    settings |= {"smoothness": "diffusion", "smoothness_weight": 0.1, "instance_lr": 0.2}
    return module(frame={"size": list(shape)}, **(settings | changes))


@BEYOND
def test_options_beyond_the_paper_predict_together(
    shape: tuple[int, ...], velocity: bool, levels: int
) -> None:
    model = beyond_the_paper(shape, velocity, levels, **IMAGES_ONLY).eval()
    moving, fixed = blobs(shape)
    before, after = (model.predict(moving, fixed, instance_steps=n) for n in (0, 10))
    target = torch.from_numpy(fixed)[None, None]
    likeness = [
        -float(model.dissimilarity(torch.tensor(result.warped)[None, None], target))
        for result in (before, after)
    ]
    assert likeness[1] > likeness[0] + 0.1
    assert float(np.abs(after.deformation_px).max()) > 1
    assert after.folding_fraction <= (0 if velocity else 0.02)


@BEYOND
def test_a_field_made_better_keeps_its_inverse(shape: tuple[int, ...], velocity: bool, levels: int) -> None:
    model = beyond_the_paper(shape, velocity, levels, **IMAGES_ONLY).eval()
    moving, fixed = (torch.from_numpy(image)[None, None] for image in blobs(shape))
    with torch.no_grad():
        found = model(moving, fixed)
    objective = lambda warped, field: model.dissimilarity(warped, fixed) + 0.1 * diffusion(field)  # noqa: E731
    field, inverse = optimise_field(moving, fixed, found.field, found.inverse, objective, steps=10, lr=0.2)
    warped = warping.warp(moving, field)
    assert objective(warped, field) < objective(warping.warp(moving, found.field), found.field) - 0.1
    assert (inverse is not None) == velocity
    if inverse is not None:
        assert float(inverse_consistency_error_px(field, inverse)) < 0.1
        assert float(inverse_consistency_error_px(inverse, field)) < 0.1


def test_the_model_says_how_many_steps_a_pair_gets() -> None:
    moving, fixed = blobs((24, 24))
    model = module(**IMAGES_ONLY, frame={"size": 24}, instance_steps=3).eval()
    given = model.predict(moving, fixed).displacement_px
    np.testing.assert_array_equal(model.predict(moving, fixed, instance_steps=3).displacement_px, given)
    assert (model.predict(moving, fixed, instance_steps=0).displacement_px != given).any()


def test_no_step_that_makes_a_field_worse_is_taken() -> None:
    moving, fixed = (torch.from_numpy(image)[None, None] for image in blobs((24, 24)))
    field = torch.full((1, 2, 24, 24), 0.5)
    same, _ = optimise_field(
        moving, fixed, field, None, lambda _, f: (f - field).square().mean(), steps=3, lr=1
    )
    torch.testing.assert_close(same, field)


def test_options_beyond_the_paper_train_together() -> None:
    model = beyond_the_paper((32, 32), True, 2, label_loss="dice", dropout=0.0)
    prior = prior_for(model, AeNetModule(frame=FrameSpec(32)), 0.01)
    data, optimizer = batch(), torch.optim.Adam(model.parameters(), 2e-3)
    history = []
    for _ in range(15):
        terms = with_shape(model, model(data["moving"], data["fixed"]), data, prior)
        loss = torch.stack(list(terms.values())).sum()
        history.append({name: float(value.detach()) for name, value in terms.items()})
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert set(history[0]) == {"similarity", "smoothness", "label", "shape"}
    assert history[-1]["similarity"] < history[0]["similarity"] - 0.05
    assert history[-1]["label"] < 0.7 * history[0]["label"]
    with torch.no_grad():
        found = model.eval()(data["moving"], data["fixed"])
    assert found.inverse is not None
    assert float(inverse_consistency_error_px(found.field, found.inverse).max()) < 0.1
    quick = model.network(data["moving"], data["fixed"], invert=False)
    assert quick.inverse is None
    assert torch.equal(quick.field, found.field)
    assert float(warping.folding_fraction(found.field).max()) == 0


@pytest.mark.parametrize("kind", get_args(Similarity))
def test_losses_are_the_same_under_autocast(kind: str) -> None:
    """The variance in a window is a small difference of large sums: in bfloat16 nothing is left of it."""
    model = module(similarity=kind, window=5, **IMAGES_ONLY)
    moving, fixed = (torch.from_numpy(image)[None, None] for image in blobs((32, 32)))
    output = Registration(moving, torch.zeros(1, 2, 32, 32), None)
    given = {"moving": moving, "fixed": fixed, "index": torch.arange(1)}
    expected, [case] = model.losses(output, given)["similarity"], model.cases(output, given)
    with torch.autocast("cpu", torch.bfloat16):
        assert float(model.losses(output, given)["similarity"]) == float(expected)
        assert model.cases(output, given)[0].numbers == case.numbers


def test_formats_and_sizes_of_a_pair(tmp_path: Path) -> None:
    from PIL import Image as PILImage

    model = constant()
    image = make_chest_phantom(80, 64).image
    cv2.imwrite(str(tmp_path / "a.png"), image)
    expected = model.predict(image, image)
    for form in (
        tmp_path / "a.png",
        str(tmp_path / "a.png"),
        torch.from_numpy(image),
        PILImage.fromarray(image),
    ):
        np.testing.assert_array_equal(model.predict(form, image).warped, expected.warped)
    assert model.predict(tmp_path / "a.png", image).moving == str(tmp_path / "a.png")
    spaced = model.predict(sitk.GetImageFromArray(image), image, fixed_spacing_mm=1.0)
    assert spaced.displacement_mm is not None


def test_pairs_that_cannot_be_registered() -> None:
    model = constant()
    image = make_chest_phantom(80, 64, noise=0).image
    with pytest.raises(ImageError, match="opposite polarity"):
        model.predict(255 - image, image)
    assert model.predict(255 - image, image, moving_invert=True).flags == ("not_more_similar_than_before",)
    with pytest.raises(GeometryError, match="moving_spacing_mm"):
        model.predict(image, image, fixed_spacing_mm=0.2)
    assert model.predict(image, image, fixed_spacing_mm=0.2, ignore_spacing=True).displacement_mm is None
    with pytest.raises(GeometryError, match="fields of view"):
        model.predict(image, image, moving_spacing_mm=0.2, fixed_spacing_mm=0.6)
    found = model.predict(image, image, moving_spacing_mm=0.2, fixed_spacing_mm=0.35)
    assert "field_of_view_differs" in found.flags
    with pytest.raises(GeometryError, match="proportions"):
        model.predict(image, make_chest_phantom(200, 25).image)
    with pytest.raises(ImageError, match="constant"):
        model.predict(image, np.full((64, 80), 7, np.uint8))
    with pytest.raises(ImageError, match="volume of"):
        model.predict(sitk.GetImageFromArray(np.ones((20, 30, 30))), image)
    with pytest.raises(ConfigError, match="instance_steps"):
        model.predict(image, image, instance_steps=-1)
    volume = constant((0.0, 0.0, 0.0), frame={"size": [16, 16, 16]})
    with pytest.raises(ImageError, match="takes 3-D volumes"):
        volume.predict(image, image)
    with pytest.raises(ImageError, match="constant image"):
        volume.predict(np.zeros((8, 8, 8)), np.ones((8, 8, 8)))


@pytest.mark.parametrize("dims", [2, 3])
def test_the_autoencoder_answers_results_on_the_grid_of_the_mask(dims: int, tmp_path: Path) -> None:
    torch.manual_seed(0)
    shape = [16, 24, 16][:dims]
    model = AeNetModule(frame=FrameSpec(shape, fit="spacing", spacing_mm=[2.0] * dims)).eval()
    mask = np.zeros([20, 18, 22][:dims], np.uint8)
    mask[(slice(4, 9),) * dims] = 2
    with pytest.raises(GeometryError, match="spacing is unknown"):
        model.predict(mask)
    with pytest.raises(GeometryError):
        model.predict(mask, spacing_mm=0.0)
    result = model.predict(mask, spacing_mm=2.0)
    assert isinstance(result, SegmentationResult if dims == 2 else VolumeResult)
    assert result.spacing_mm == (2.0,) * dims
    assert result.classes == ("lungs", "heart")
    np.testing.assert_array_equal(result.mask, model.reconstruct(mask, spacing_mm=(2.0,) * dims))
    assert result.plot().axes
    assert result.save(tmp_path)
