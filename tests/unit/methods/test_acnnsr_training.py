"""Data and training of ACNN-SR on generated volumes of 1 mm, with and without the shape loss."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning as L
import numpy as np
import pytest
import SimpleITK as sitk
import torch

from anatozoo.errors import ConfigError, DataError, GeometryError, WeightsError
from anatozoo.frames.spec import FrameSpec
from anatozoo.frames.stacks import VoxelFrame, fit_frame
from anatozoo.io.grid import Grid, itk_image
from anatozoo.io.intensity import intensity_range
from anatozoo.methods.acnnsr.data import AcnnSRDataModule
from anatozoo.methods.acnnsr.module import AcnnSRModule
from anatozoo.methods.acnntl.module import AcnnTLModule
from anatozoo.nn.thick_slices import degrade_slices
from anatozoo.objectives.shape_prior import ShapePrior
from tests.support.shape_priors import prior_for, with_shape
from tests.support.trainers import QUIET
from tests.support.volume_data import write_volumes

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*isinstance.treespec, LeafSpec."),
    pytest.mark.filterwarnings("ignore:The '.*_dataloader' does not have many workers"),
]

SIZE: dict[str, Any] = {"size": [16, 16, 16], "fit": "spacing", "spacing_mm": [1.0, 1.0, 1.0]}
FRAME: dict[str, Any] = {"frame": SIZE}
SPLITS = {"train": ["v0", "v1"], "val": ["v2"], "test": ["v3"]}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    names = [name for split in SPLITS.values() for name in split]
    return write_volumes(tmp_path_factory.mktemp("volumes"), names, splits=SPLITS)


def data(root: Path, **settings: Any) -> AcnnSRDataModule:
    return AcnnSRDataModule(str(root), **FRAME | {"augment": None, "batch_size": 2} | settings)


def module(**settings: Any) -> AcnnSRModule:
    torch.manual_seed(0)
    optim = {"lr": 3e-3, "schedule": "cosine", "warmup_steps": 1}
    small = {"width": 8, "depth": 1, "optim": optim}
    return AcnnSRModule(**FRAME | small | settings)


def teacher(**settings: Any) -> AcnnTLModule:
    torch.manual_seed(0)
    given = {"organs": ["a", "b"], "widths": [4, 8], "code": 6}
    return AcnnTLModule(**FRAME | given | settings)


def write(folder: Path, name: str, pixels: np.ndarray, grid: Grid) -> Path:
    (folder / "images").mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(itk_image(pixels, grid), str(folder / "images" / f"{name}.nii.gz"))
    return folder


def test_items_are_whole_voxels_with_their_border_around_them(root: Path) -> None:
    made = data(root)
    made.setup("fit")
    item = made.sets["val"][0]  # 14 x 14 x 14 voxels
    assert item["target"].shape == (1, 16, 16, 16)
    assert item["target"].dtype == torch.float32
    inside = torch.zeros(16, 16, 16, dtype=torch.bool)
    inside[1:15, 1:15, 1:15] = True
    assert torch.equal(item["inside"], inside)
    pixels = sitk.GetArrayFromImage(sitk.ReadImage(str(root / "imagesTr/v2.nii.gz")))
    low, high = intensity_range(pixels)
    np.testing.assert_allclose(item["target"][0, 1:15, 1:15, 1:15], (pixels - low) / (high - low), atol=1e-3)
    assert float(item["target"].max()) > 1  # nothing is clipped
    assert torch.equal(item["target"][0, 0], item["target"][0, 1])
    assert item["spacing_mm"].tolist() == [1, 1, 1]
    assert made.sets["val"].identity(0) == {"id": "v2", "subject": "v2", "split": "val"}


def test_frames_of_the_same_resolution_do_not_interpolate() -> None:
    grid = Grid((15, 14, 13), (1.0, 1.0, 1.0), None, (-1, 0, 0, 0, -1, 0, 0, 0, 1))
    frame = fit_frame(grid, FrameSpec.of(SIZE))
    assert isinstance(frame, VoxelFrame)
    pixels = np.random.default_rng(0).random((13, 14, 15), np.float32)
    low, high = np.percentile(pixels, [0.5, 99.5])
    expected = np.clip((pixels - low) / (high - low), 0, 1)[:, ::-1, ::-1]
    found = frame.image(pixels)
    np.testing.assert_allclose(found[1:14, 1:15, :15], expected, atol=1e-5)
    assert np.count_nonzero(found) == np.count_nonzero(expected)
    assert np.array_equal(frame.to_source(frame.labels((pixels > 0.5).astype(np.float32))), pixels > 0.5)
    half = fit_frame(Grid((15, 14, 13), (2.0, 1.0, 1.0)), FrameSpec.of(SIZE))
    np.testing.assert_allclose(half.offset, [7.5 - 14, 1, 1])


def test_slices_are_made_thick_on_the_fly(root: Path) -> None:
    made = data(root, profile="box")
    made.setup("fit")
    batch = made.on_after_batch_transfer(next(iter(made.val_dataloader())), 0)
    assert torch.equal(batch["image"], degrade_slices(batch["target"], 4, "box"))
    assert batch["image"].shape == (1, 1, 4, 16, 16)


def test_training_crops_flips_and_scales(root: Path) -> None:
    made = data(root, augment={"flip_p": 1.0, "contrast": 0.3, "noise": 0.1}, margin=2)
    made.setup("fit")
    batch = next(iter(made.train_dataloader()))
    assert batch["target"].shape == (2, 1, 20, 20, 20)
    torch.manual_seed(0)
    found = made.prepare(batch, training=True)
    assert found["target"].shape == (2, 1, 16, 16, 16)
    assert found["inside"].shape == (2, 16, 16, 16)
    # What is inside is the volume still: its border repeats itself beyond.
    ratios = found["target"].flatten(1).amax(1) / batch["target"].flatten(1).amax(1)
    assert bool(((ratios > 0.7) & (ratios < 1.3)).all())
    clean = degrade_slices(found["target"], 4, "gaussian")
    assert 0 < float((found["image"] - clean).std()) < 0.1
    whole = data(root, augment={"contrast": 0.0}, margin=0)
    whole.setup("fit")
    same = next(iter(whole.train_dataloader()))
    assert torch.equal(whole.prepare(same, training=True)["target"], same["target"])


def test_training_steps_repeat_with_their_number(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PL_GLOBAL_SEED", "7")
    made = data(root, augment={})
    made.setup("fit")

    def step(number: int) -> torch.Tensor:
        made.trainer = SimpleNamespace(  # type: ignore[assignment]
            training=True, fit_loop=SimpleNamespace(total_batch_idx=number), global_rank=0
        )
        batch = torch.utils.data.default_collate([made.sets["train"][i] for i in (0, 1)])
        return made.on_after_batch_transfer(batch, 0)["image"]

    assert torch.equal(step(3), step(3))
    assert not torch.equal(step(3), step(4))


def test_it_learns_more_than_interpolation(root: Path) -> None:
    made = module()
    fit = L.Trainer(max_epochs=30, **QUIET)
    fit.fit(made, data(root))
    found = {name: float(value) for name, value in fit.callback_metrics.items()}
    assert found["train/loss"] == pytest.approx(found["train/intensity"])
    assert found["val/psnr_gain"] > 0.3
    assert found["val/ssim"] <= 1
    [tested] = fit.test(made, data(root), verbose=False)
    assert set(tested) == {f"test/{column}" for column in made.columns()}


def test_both_stages_and_what_a_checkpoint_holds(root: Path, tmp_path: Path) -> None:
    first = L.Trainer(max_epochs=0, **QUIET)
    first.strategy.connect(teacher())
    file = str(tmp_path / "tl.ckpt")
    first.save_checkpoint(file)
    made = module()
    fit = L.Trainer(max_epochs=1, callbacks=[ShapePrior(file, weight=1.0)], **QUIET)
    fit.fit(made, data(root))
    found = {name: float(value) for name, value in fit.callback_metrics.items()}
    assert found["train/shape"] > 0
    assert found["train/loss"] == pytest.approx(found["train/intensity"] + found["train/shape"], rel=1e-4)
    assert set(made.state_dict()) == set(module().state_dict())
    fit.save_checkpoint(tmp_path / "sr.ckpt")
    Path(file).unlink()  # a prediction needs no prior
    again = AcnnSRModule.load_from_checkpoint(tmp_path / "sr.ckpt", weights_only=True).eval()
    volume = np.random.default_rng(0).random((4, 16, 18), np.float32)
    assert np.array_equal(again.predict(volume).volume, made.predict(volume).volume)
    third = module(init_weights=str(tmp_path / "sr.ckpt"))
    with pytest.raises(ConfigError, match="nothing was trained"):  # as is meant here
        L.Trainer(max_epochs=1, limit_train_batches=0, **QUIET).fit(third, data(root))
    assert all(torch.equal(v, made.state_dict()[k]) for k, v in third.state_dict().items())
    wider = module(init_weights=str(tmp_path / "sr.ckpt"), width=4)
    with pytest.raises(WeightsError, match="of another architecture"):
        L.Trainer(max_epochs=1, **QUIET).fit(wider, data(root))


def test_the_terms_see_what_is_inside_alone() -> None:
    made = module()
    inside = torch.zeros(1, 16, 16, 16, dtype=torch.bool)
    inside[:, :8] = True
    target = torch.rand(1, 1, 16, 16, 16)
    fine = target.clone()
    fine[:, :, 8:] += 1
    batch = {"target": target, "inside": inside}
    # With and without gradients the encoder's convolutions may round differently, by processor.
    with torch.no_grad():
        terms = with_shape(made, fine, batch, prior_for(made, teacher()))
    assert {name: float(term) for name, term in terms.items()} == {"intensity": 0, "shape": 0}
    fine[:, :, :8] += 0.5
    # |d| - beta / 2, where the difference is above beta.
    assert float(made.losses(fine, batch)["intensity"]) == pytest.approx(0.45, rel=1e-5)


def test_a_shape_loss_needs_a_network_of_the_same_view(root: Path) -> None:
    with pytest.raises(ConfigError, match="needs a source"):
        L.Trainer(max_epochs=1, callbacks=[ShapePrior(weight=0.1)], **QUIET).fit(module(), data(root))
    for wrong in ({"spacing_mm": [1.0, 1.0, 2.0]}, {"size": [16, 16, 32]}, {"fit": "pad"}):
        with pytest.raises(ConfigError, match="both need"):
            prior_for(module(), teacher(frame=SIZE | wrong), 0.1)


def test_data_that_teach_no_fine_slices_are_refused(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).random((8, 16, 16), np.float32)

    def read(grid: Grid, **settings: Any) -> Any:
        folder = write(tmp_path, "case", pixels, grid)
        (folder / "splits.json").write_text('{"test": ["case"]}')
        made = data(folder, **settings)
        made.setup("test")
        return made.sets["test"][0]

    with pytest.raises(DataError, match="case case has voxels"):
        read(Grid((16, 16, 8), (1.0, 1.0, 4.0)))
    finer = read(Grid((16, 16, 8), (0.5, 0.5, 0.5)))
    assert int(finer["inside"].sum()) == 4 * 8 * 8
    made = data(tmp_path)
    with pytest.raises(DataError, match="split 'train' of folder has 0 cases"):
        made.setup("fit")
    plain = tmp_path / "plain"
    (plain / "images").mkdir(parents=True)
    mask = itk_image(pixels, Grid((16, 16, 8)))
    from anatozoo.io.writers import write_itk

    write_itk(plain / "images/case.nii.gz", mask, units_known=False)
    (plain / "splits.json").write_text('{"test": ["case"]}')
    made = data(plain)
    made.setup("test")
    with pytest.raises(GeometryError, match=r"case case: .*spacing is unknown"):
        made.sets["test"][0]


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"frame": SIZE | {"size": [18, 16, 16]}}, "multiple of factor=4"),
        ({"frame": {"size": [16, 16]}}, r"\[D, H, W\]"),
        ({"frame": {"size": [16, 16, 16]}}, "fit='pad' must be spacing"),
        ({"factor": 16}, "two thick slices"),
        ({"factor": 1}, "at least 2"),
        ({"frame": SIZE | {"spacing_mm": [1.0, 1.0]}}, "spacing_mm with 3 numbers"),
        ({"architecture": "bicubic"}, "architecture='bicubic'"),
        ({"beta": 0.0}, "beta=0.0 must be above 0"),
    ],
)
def test_impossible_settings_are_refused(settings: dict[str, Any], error: str) -> None:
    with pytest.raises(ConfigError, match=error):
        module(**settings)


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"margin": -1}, "margin=-1"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"augment": {"flips": 1}}, "does not know flips"),
        ({"profile": "sinc"}, "profile='sinc'"),
        ({"frame": SIZE | {"size": [18, 16, 16]}}, "multiple of factor=4"),
    ],
)
def test_impossible_data_settings_are_refused(root: Path, settings: dict[str, Any], error: str) -> None:
    with pytest.raises(ConfigError, match=error):
        data(root, **settings)
