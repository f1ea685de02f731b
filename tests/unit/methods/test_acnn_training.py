"""Data and both stages of ACNN on generated hearts in the layout of ACDC."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning as L
import numpy as np
import pytest
import SimpleITK as sitk
import torch
from safetensors.torch import load_file

import anatozoo
from anatozoo.data.layouts.acdc import HEART, read_info
from anatozoo.data.layouts.registry import find_cases
from anatozoo.errors import ConfigError, DataError, GeometryError, WeightsError
from anatozoo.frames.spec import FrameSpec
from anatozoo.frames.stacks import StackFrame, fit_frame
from anatozoo.io.grid import Grid, itk_image
from anatozoo.methods.acnn.data import AcnnDataModule
from anatozoo.methods.acnn.module import AcnnModule
from anatozoo.methods.acnnprior.module import AcnnPriorModule
from anatozoo.nn.deform import reorder
from anatozoo.nn.labels import one_hot
from anatozoo.nn.stack_augment import Motion, StackAugment, augment, crop, move, shift_slices
from anatozoo.objectives.shape_prior import ShapePrior
from anatozoo.training.export import export_run
from anatozoo.training.optim import Optim
from anatozoo.training.step import Step
from anatozoo.zoo.checkpoint import write_checkpoint_folder
from tests.support.heart_data import heart, write_hearts
from tests.support.shape_priors import prior_for, with_shape
from tests.support.trainers import QUIET
from tests.support.volume_data import write_volumes

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*isinstance.treespec, LeafSpec."),
    pytest.mark.filterwarnings("ignore:The '.*_dataloader' does not have many workers"),
]

SIZE: dict[str, Any] = {"size": [8, 32, 32], "fit": "slices", "long_side": 40}
FRAME: dict[str, Any] = {"frame": SIZE}
OPTIM: dict[str, Any] = {"lr": 1e-2, "weight_decay": 1e-5, "schedule": "cosine", "warmup_steps": 1}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_hearts(tmp_path_factory.mktemp("acdc"), {"train": [1, 2], "val": [3], "test": [4]})


def data(root: Path, **settings: Any) -> AcnnDataModule:
    return AcnnDataModule(str(root), **FRAME | {"augment": None, "batch_size": 2} | settings)


def module(**settings: Any) -> AcnnModule:
    torch.manual_seed(0)
    return AcnnModule(**FRAME | {"widths": [4, 8, 8], "optim": OPTIM} | settings)


def prior(**settings: Any) -> AcnnPriorModule:
    torch.manual_seed(0)
    return AcnnPriorModule(**FRAME | {"widths": [4, 8], "code": 6} | settings)


def test_acdc_is_read_by_patient_and_phase(root: Path) -> None:
    cases = find_cases(root, "acdc", HEART, dims=3).cases
    assert [case.id for case in cases[:2]] == ["patient001_frame01", "patient001_frame09"]
    assert {case.subject: case.split for case in cases} == {
        "patient001": "train",
        "patient002": "train",
        "patient003": "val",
        "patient004": "test",
    }
    image, labels = cases[0].read(HEART, 3)
    assert labels is not None
    assert image.pixels.shape == labels.shape == (8, 40, 33)
    assert np.unique(labels).tolist() == [0, 1, 2, 3]
    _, swapped = cases[0].read(["left_ventricle", "myocardium"], 3)
    assert swapped is not None
    assert np.array_equal(swapped == 1, labels == 3)
    assert not (swapped == 3).any()
    made = data(root)
    made.setup("fit")
    assert made.sets["val"].identity(1) == {  # type: ignore[attr-defined]
        "id": "patient003_frame09",
        "subject": "patient003",
        "split": "val",
        "phase": "ES",
        "group": "HCM",
    }


def test_data_that_contradict_themselves_are_refused(tmp_path: Path) -> None:
    write_hearts(tmp_path, {"train": [1]})
    truth = tmp_path / "training/patient001/patient001_frame01_gt.nii.gz"
    labels = sitk.GetArrayFromImage(sitk.ReadImage(str(truth)))

    def read() -> Any:
        return find_cases(tmp_path, "acdc", HEART, dims=3).cases[0].read(HEART, 3)

    sitk.WriteImage(itk_image(labels + np.uint8(3), Grid(labels.shape[::-1])), str(truth))
    with pytest.raises(DataError, match="holds the values"):
        read()
    sitk.WriteImage(itk_image(labels[1:], Grid(labels[1:].shape[::-1])), str(truth))
    with pytest.raises(DataError, match="another grid"):
        read()
    truth.unlink()
    with pytest.raises(DataError, match="has no label map"):
        read()
    with pytest.raises(DataError, match="is not a folder"):
        find_cases(tmp_path / "absent", "acdc", HEART, dims=3)
    with pytest.raises(DataError, match="no patientNNN"):
        find_cases(_empty(tmp_path), "acdc", HEART, dims=3)
    with pytest.raises(ConfigError, match="ACDC has no spleen"):
        find_cases(tmp_path, "acdc", ["spleen"], dims=3)
    with pytest.raises(ConfigError, match="layout='msd'"):
        find_cases(tmp_path, "msd", HEART, dims=3)
    assert read_info(tmp_path / "absent.cfg") == {}


def _empty(folder: Path) -> Path:
    (folder / "empty").mkdir()
    return folder / "empty"


def slices(size: list[int], long_side: int) -> FrameSpec:
    return FrameSpec(size, "slices", long_side=long_side)


def test_slices_stay_slices_and_come_back() -> None:
    image, labels = heart(7, 60, 44)
    grid = Grid((44, 60, 7))
    frame = fit_frame(grid, slices([10, 32, 32], 30))
    assert isinstance(frame, StackFrame)
    assert frame.labels(labels).shape == (10, 32, 32)
    # Three slices are added, one before and two behind.
    there = frame.image(image)
    assert [bool(plane.any()) for plane in there] == [False] + [True] * 7 + [False] * 2
    fine = StackFrame.of_stack(grid, (7, 60, 60), 60)
    assert np.array_equal(fine.to_source((fine.labels(labels) == 3).astype(np.float32)) > 0.5, labels == 3)
    known = StackFrame.of_stack(Grid((44, 60, 7), (2.0, 1.0, 10.0)), (7, 32, 32), 44)
    np.testing.assert_allclose(np.diag(known.matrix), [1.0, 0.5, 1.0])
    assert fit_frame(Grid((44, 60, 17)), slices([16, 32, 32], 30), whole=True).shape == (17, 32, 32)
    assert fit_frame(Grid((44, 60, 8)), slices([8, 16, 16], 30), whole=True).shape == (8, 30, 22)
    with pytest.raises(GeometryError, match="spacing is unknown"):
        fit_frame(grid, FrameSpec([8, 32, 32], "spacing", [1.0, 1.0, 1.0]))


def test_items_lie_in_the_frame_and_training_ones_have_a_margin(root: Path) -> None:
    made = data(root, augment={}, margin=4)
    made.setup("fit")
    made.setup("test")
    train, val = made.sets["train"][0], made.sets["val"][0]
    assert train["image"].shape == (1, 8, 40, 40)
    assert val["image"].shape == (1, 8, 32, 32)
    assert val["image"].dtype == torch.float32
    assert val["labels"].unique().tolist() == [0, 1, 2, 3]
    assert (len(made.sets["train"]), len(made.sets["val"]), len(made.sets["test"])) == (4, 2, 2)  # type: ignore[arg-type]
    batch = next(iter(made.train_dataloader()))
    found = made.prepare(batch, training=True)
    assert found["image"].shape == (2, 1, 8, 32, 32)
    assert found["labels"].shape == (2, 8, 32, 32)
    assert found["labels"].dtype == torch.uint8
    assert 0 <= float(found["image"].min()) <= float(found["image"].max()) <= 1
    few = data(root, subjects=1)
    few.setup("fit")
    assert len(few.sets["train"]) == 2  # type: ignore[arg-type]
    with pytest.raises(DataError, match=r"data\.subjects=3"):
        data(root, subjects=3).setup("fit")


def test_training_steps_repeat_with_their_number(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PL_GLOBAL_SEED", "7")
    made = data(root, augment={}, margin=4, motion={"shift_px": 2.0})
    made.setup("fit")

    def step(number: int) -> torch.Tensor:
        made.trainer = SimpleNamespace(  # type: ignore[assignment]
            training=True, fit_loop=SimpleNamespace(total_batch_idx=number), global_rank=0
        )
        batch = torch.utils.data.default_collate([made.sets["train"][i] for i in (0, 1)])
        return made.on_after_batch_transfer(batch, 0)["image"]

    assert torch.equal(step(3), step(3))
    assert not torch.equal(step(3), step(4))


def test_images_and_labels_are_transformed_alike() -> None:
    labels = torch.from_numpy(heart(8, 32, 32)[1])[None]
    image = (labels[:, None] == 3).float()
    config = StackAugment(gamma=0, contrast=0, noise=0, blur=0, bias=0, probability=1.0, reorder_p=1.0)
    torch.manual_seed(1)
    moved, maps = augment(image, labels, config)
    assert not torch.equal(maps, labels)
    overlap = ((moved[:, 0] > 0.5) & (maps == 3)).sum() / (maps == 3).sum()
    assert float(overlap) > 0.9
    assert maps[0, 0].sum() == 0  # the first slice stays the first
    still = StackAugment(0, 0, 0, 0, 0, 0, 0, 0)
    assert torch.equal(augment(image, labels, still)[1], labels)


def test_a_stack_has_sixteen_orders_and_image_and_labels_keep_together() -> None:
    stack = torch.arange(2 * 3 * 3).reshape(1, 2, 3, 3)
    orders = [reorder(stack, order) for order in range(16)]
    assert torch.equal(orders[0], stack)
    assert len({tuple(found.flatten().tolist()) for found in orders}) == 16
    config = StackAugment(0, 0, reorder_p=1.0, gamma=0, contrast=0, noise=0, blur=0, bias=0)
    seen = set()
    for seed in range(64):
        torch.manual_seed(seed)
        image, labels = augment(stack[:, None] / 18, stack.byte(), config)
        assert torch.equal((18 * image[:, 0]).round().byte(), labels)
        seen.add(tuple(labels.flatten().tolist()))
    assert len(seen) == 16
    oblong = torch.arange(2 * 3 * 4).reshape(1, 2, 3, 4)
    assert len({tuple(reorder(oblong, order).flatten().tolist()) for order in range(16)}) == 8


def test_slices_shift_by_themselves() -> None:
    volume = torch.zeros(1, 1, 2, 6, 7)
    volume[..., 2, 3] = 1
    found = shift_slices(volume, torch.tensor([[[0.0, 0.0], [2.0, -1.0]]]))
    assert found[0, 0, 0, 2, 3] == 1
    torch.testing.assert_close(found[0, 0, 1, 1, 5], torch.tensor(1.0))
    torch.manual_seed(0)
    image, labels = volume.clone(), volume[:, 0].byte()
    moved, maps = move(image, labels, Motion(2.0, 1.0))
    assert torch.equal(moved[:, 0].round().byte(), maps)
    assert torch.equal(move(image, labels, Motion(2.0, 1.0, labels_follow=False))[1], labels)
    assert move(image, labels, Motion())[0] is image
    middle, _ = crop(image, labels, (2, 4, 5), random=False)
    assert torch.equal(middle, image[..., 1:5, 1:6])


def test_crops_around_the_anatomy_hold_it_wherever_it_is() -> None:
    image = torch.rand(20, 1, 4, 30, 30)
    labels = torch.zeros(20, 4, 30, 30, dtype=torch.uint8)
    labels[:19, 1, 27, 2] = 1  # one voxel in a corner, and one stack without any
    _, there = crop(image, labels, (4, 8, 8), random=True, foreground=1.0)
    assert there[:19].flatten(1).any(1).all()
    _, anywhere = crop(image, labels, (4, 8, 8), random=True)
    assert not anywhere[:19].flatten(1).any(1).all()
    parts, maps = crop(image, image[:, 0], (4, 8, 8), random=True, foreground=0.5)
    assert torch.equal(parts[:, 0], maps)


def test_both_stages_learn_and_the_prior_reaches_the_second(root: Path, tmp_path: Path) -> None:
    first = prior(optim={"lr": 1e-2})
    trainer = L.Trainer(max_epochs=6, **QUIET)
    trainer.fit(first, data(root))
    assert reconstruction_loss(first, root) < 0.9 * reconstruction_loss(prior(), root)
    file = str(tmp_path / "prior.ckpt")
    trainer.save_checkpoint(file)

    second = module(dice_weight=0.5)
    fit = L.Trainer(max_epochs=3, callbacks=[ShapePrior(file, weight=0.01)], **QUIET)
    fit.fit(second, data(root, motion={"shift_px": 1.0}))
    found = {name: float(value) for name, value in fit.callback_metrics.items()}
    parts = ("train/cross_entropy", "train/dice", "train/shape")
    assert found["train/loss"] == pytest.approx(sum(found[part] for part in parts), rel=1e-4)
    assert found["train/shape"] > 0
    assert found["train/cross_entropy"] < 1.2  # from log(4) = 1.39
    assert 0 <= found["val/dice/left_ventricle"] <= 1
    assert not [name for name in second.state_dict() if "prior" in name or "model" in name]
    [tested] = fit.test(second, data(root), verbose=False)
    assert set(tested) == {f"test/{column}" for column in second.columns()}

    stored = str(tmp_path / "seg.ckpt")
    fit.save_checkpoint(stored)
    third = module(init_weights=stored)
    with pytest.raises(ConfigError, match="nothing was trained"):  # as is meant here
        L.Trainer(max_epochs=1, limit_train_batches=0, **QUIET).fit(third, data(root))
    assert all(torch.equal(v, second.state_dict()[k]) for k, v in third.state_dict().items())
    with pytest.raises(WeightsError, match="of another architecture"):
        L.Trainer(max_epochs=1, **QUIET).fit(module(init_weights=stored, widths=[4, 8]), data(root))


def test_a_prior_starts_from_weights_of_before(root: Path, tmp_path: Path) -> None:
    first = prior()
    fit = L.Trainer(max_epochs=1, limit_train_batches=1, **QUIET)
    fit.fit(first, data(root))
    stored = str(tmp_path / "prior.ckpt")
    fit.save_checkpoint(stored)
    second = prior(init_weights=stored)
    with torch.no_grad():
        for parameter in second.parameters():
            parameter.zero_()
    with pytest.raises(ConfigError, match="nothing was trained"):  # as is meant here
        L.Trainer(max_epochs=1, limit_train_batches=0, **QUIET).fit(second, data(root))
    assert all(torch.equal(v, first.state_dict()[k]) for k, v in second.state_dict().items())


@torch.no_grad()
def reconstruction_loss(model: AcnnPriorModule, root: Path) -> float:
    made = data(root)
    made.setup("validate")
    labels = made.sets["val"][0]["labels"][None]
    return float(model.eval().losses(model(one_hot(labels, 4)), {"labels": labels})["reconstruction"])


def test_the_shape_loss_may_set_in_later(root: Path) -> None:
    seen: list[tuple[int, bool]] = []

    class Watched(ShapePrior):
        def terms(self, step: Step) -> dict[str, torch.Tensor]:
            terms = super().terms(step)
            seen.append((step.number, "shape" in terms))
            return terms

    late = Watched(weight=0.1, start=2)
    late._model = prior().eval()
    fit = L.Trainer(max_steps=4, max_epochs=-1, limit_val_batches=0, callbacks=[late], **QUIET)
    fit.fit(AcnnModule(**FRAME, widths=[4, 8, 8]), data(root, batch_size=4))
    assert seen == [(0, False), (1, False), (2, True), (3, True)]


def test_a_prior_of_a_training_machine_is_not_published(root: Path, tmp_path: Path) -> None:
    stored = write_checkpoint_folder(
        prior(), tmp_path / "own", name="acnn-prior-test", version="1.0.0", half=False
    )
    made = module()
    fit = L.Trainer(max_steps=1, limit_val_batches=0, callbacks=[ShapePrior(str(stored), 0.1)], **QUIET)
    fit.fit(made, data(root))
    fit.save_checkpoint(tmp_path / "last.ckpt")
    # The run itself holds the prior, so that it can go on without the folder.
    assert fit.callback_metrics["train/shape"] > 0
    run = torch.load(tmp_path / "last.ckpt", weights_only=True)
    (kept,) = (state for name, state in run["callbacks"].items() if "ShapePrior" in name)
    assert kept["method"] == "acnnprior"
    folder = export_run(tmp_path / "last.ckpt", "acnn-somewhere", tmp_path / "acnn-somewhere")
    assert str(tmp_path) not in (folder / "config.json").read_text()
    assert set(load_file(folder / "model.safetensors")) == set(made.state_dict())
    assert anatozoo.load(str(folder)).settings() == made.settings()


def test_a_prior_answers_a_result_that_can_be_saved(tmp_path: Path) -> None:
    image, labels = heart(7, 40, 34)
    made = prior()
    result = made.predict(itk_image(labels, Grid((34, 40, 7), (1.5, 1.5, 8.0))))
    assert result.mask.shape == image.shape
    assert result.spacing_mm == (1.5, 1.5, 8.0)
    assert np.array_equal(result.mask, made.reconstruct(labels))
    assert {path.suffix for path in result.save(tmp_path)} == {".gz", ".png", ".json"}
    assert made.predict(made.golden_input()).mask.shape == made.shape


def test_the_shape_loss_reaches_the_network_and_its_prior_must_fit(root: Path) -> None:
    made = module()
    batch = {"image": torch.rand(1, 1, 8, 32, 32), "labels": torch.randint(0, 4, (1, 8, 32, 32))}
    with pytest.raises(ConfigError, match="needs a source"):
        L.Trainer(max_epochs=1, callbacks=[ShapePrior(weight=0.1)], **QUIET).fit(made, data(root))
    given = prior_for(made, prior(), 0.1)
    terms = with_shape(made, made(batch["image"]), batch, given)
    assert set(terms) == {"cross_entropy", "shape"}
    gradients = torch.autograd.grad(terms["shape"], list(made.network.parameters()))
    assert all(bool(g.isfinite().all()) for g in gradients)
    assert any(bool(g.any()) for g in gradients)
    with pytest.raises(ConfigError, match="same organs"):
        prior_for(made, prior(organs=["a", "b", "c"]))


def test_several_outputs_are_weighed() -> None:
    made = module(architecture="ae-seg")
    labels = torch.randint(0, 4, (1, 8, 32, 32))
    outputs = made.network.outputs(torch.rand(1, 1, 8, 32, 32))
    one, two = (float(made.losses(o, {"labels": labels})["cross_entropy"].detach()) for o in outputs)
    both = float(made.losses(outputs, {"labels": labels})["cross_entropy"].detach())
    assert both == pytest.approx((2 * one + two) / 3, rel=1e-5)


def test_corruption_is_undone_by_no_one_but_the_network() -> None:
    made = prior(swap_probability=0.3, slice_shift=2.0)
    labels = torch.from_numpy(heart(8, 32, 32)[1])[None]
    torch.manual_seed(0)
    noisy = made.corrupted(labels)
    torch.testing.assert_close(noisy.sum(1), torch.ones(1, 8, 32, 32))
    assert 0.005 < float((noisy.argmax(1) != labels).float().mean()) < 0.3
    clean = prior(swap_probability=0.0, slice_shift=0.0).corrupted(labels)
    assert torch.equal(clean.argmax(1), labels.long())
    assert prior(frame={"size": 32}).corrupted(labels[:, 4]).shape == (1, 4, 32, 32)


def test_reconstructions_lie_on_the_source_grid() -> None:
    _, labels = heart(9, 44, 37)
    found = prior().reconstruct(labels)
    assert found.shape == labels.shape
    assert found.dtype == np.uint8
    assert not found[:, 0].any()  # beyond the frame, which shows the middle
    with pytest.raises(DataError, match="values from 0 to 4"):
        prior().reconstruct(labels + (labels == 3))


def test_volumes_of_the_decathlon_are_trained_at_their_resolution(tmp_path: Path) -> None:
    names = [f"v{i}" for i in range(4)]
    write_volumes(tmp_path, names, splits={"train": names[:2], "val": names[2:3], "test": names[3:]})
    frame: dict[str, Any] = {"frame": {"size": [16, 16, 16], "fit": "spacing", "spacing_mm": [1.0, 1.0, 1.0]}}
    model = AcnnModule(organs=["a", "b"], widths=[4, 8], **frame, optim=Optim(**OPTIM | {"lr": 1e-3}))
    made = AcnnDataModule(
        str(tmp_path), layout="folder", organs=["a", "b"], augment=None, batch_size=2, **frame
    )
    trainer = L.Trainer(max_epochs=1, **QUIET)
    trainer.fit(model, made)
    assert 0 <= float(trainer.callback_metrics["val/dice"]) <= 1


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"organs": []}, "1 to 254"),
        ({"frame": SIZE | {"size": [32, 32]}}, r"\[D, H, W\]"),
        ({"frame": {"size": [32, 32]}}, r"\[D, H, W\]"),
        ({"frame": SIZE | {"fit": "crop"}}, "fit='crop' is unknown"),
        ({"frame": SIZE | {"fit": "spacing"}}, "spacing_mm with 3 numbers"),
        ({"frame": SIZE | {"long_side": 2}}, "long_side=2"),
        ({"architecture": "vnet"}, "architecture='vnet'"),
        ({"ce_weight": 0.0}, "above 0"),
    ],
)
def test_impossible_settings_are_refused(settings: dict[str, Any], error: str) -> None:
    with pytest.raises(ConfigError, match=error):
        module(**settings)


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"foreground": 1.5}, "foreground=1.5"),
        ({"margin": -1}, "margin=-1"),
        ({"subjects": 0}, "subjects=0"),
        ({"augment": {"flips": 1}}, "does not know flips"),
        ({"motion": {"probability": 2}}, "probability=2"),
        ({"batch_size": 0}, "batch_size"),
        ({"augment": {}, "frame": {"size": 32, "fit": "pad"}}, "planes are not augmented"),
    ],
)
def test_impossible_data_settings_are_refused(root: Path, settings: dict[str, Any], error: str) -> None:
    with pytest.raises(ConfigError, match=error):
        data(root, **settings)


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"organs": []}, "must name at least one"),
        ({"swap_probability": 2.0}, "swap_probability=2.0 must be within"),
        ({"slice_shift": -1.0}, "slice_shift=-1.0 .* not be negative"),
        ({"dice_weight": -1.0}, "dice_weight=-1.0 must not be negative"),
        ({"optim": {"schedule": "stairs"}}, "schedule='stairs' is unknown"),
    ],
)
def test_a_prior_needs_organs_and_shares(settings: dict[str, Any], error: str) -> None:
    with pytest.raises(ConfigError, match=error):
        prior(**settings)


def test_a_prior_may_also_learn_by_dice() -> None:
    labels = torch.from_numpy(heart(8, 32, 32)[1])[None]
    logits = 20 * one_hot(labels, 4)
    batch = {"labels": labels}
    assert set(prior().losses((torch.zeros(1, 6), logits), batch)) == {"reconstruction"}
    both = prior(dice_weight=2.0).losses((torch.zeros(1, 6), logits), batch)
    assert float(both["dice"]) == pytest.approx(0, abs=1e-5)
    wrong = prior(dice_weight=2.0).losses((torch.zeros(1, 6), logits.roll(1, 1)), batch)
    assert float(wrong["dice"]) == pytest.approx(2, abs=1e-3)


def test_the_rate_of_a_prior_may_decay(monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(prior().configure_optimizers(), torch.optim.Adam)
    made = prior(optim={"schedule": "cosine", "lr": 1e-2, "warmup_steps": 4})
    monkeypatch.setattr(AcnnPriorModule, "trainer", type("T", (), {"estimated_stepping_batches": 20}))
    [optimizer], [entry] = made.configure_optimizers()
    rates = []
    for _ in range(20):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        entry["scheduler"].step()
    assert max(rates) == pytest.approx(1e-2)
    assert rates.index(max(rates)) == 4
    assert rates[0] == pytest.approx(5e-4)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(1e-4)
