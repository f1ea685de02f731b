"""SUD as an objective: what its labels are, what it equals in its limits, and what it refuses."""

import math
import os
import socket
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch
from torch import Tensor

from anatozoo.data.case import Case, Drawn
from anatozoo.data.layouts.registry import find_cases
from anatozoo.errors import ConfigError
from anatozoo.frames.spec import FrameSpec
from anatozoo.io.grid import Grid, GridImage
from anatozoo.methods.acnn.data import AcnnDataModule
from anatozoo.methods.acnn.module import AcnnModule
from anatozoo.methods.hybridgnet.data import HybridGNetDataModule
from anatozoo.methods.hybridgnet.module import HybridGNetModule
from anatozoo.methods.postdae.module import PostDAEModule
from anatozoo.methods.unet.data import UNetDataModule
from anatozoo.methods.unet.module import UNetModule
from anatozoo.objectives.denoiser import Denoiser
from anatozoo.objectives.denoising import Denoising, soft_label_loss
from anatozoo.objectives.memory import Memory
from anatozoo.training.objective import Objective
from anatozoo.training.step import Step
from anatozoo.zoo.checkpoint import write_checkpoint_folder
from tests.support.chest_data import write_chest_data
from tests.support.ranks import in_two_processes
from tests.support.trainers import QUIET

pytestmark = [
    pytest.mark.usefixtures("own_seed"),
    pytest.mark.filterwarnings("ignore:.*isinstance.treespec, LeafSpec."),
    pytest.mark.filterwarnings("ignore:The '.*_dataloader' does not have many workers"),
    pytest.mark.filterwarnings("ignore:You defined a `validation_step`"),
]

ORGANS = ["lung_right", "lung_left", "heart"]


def denoiser(side: int = 64, organs: list[str] = ORGANS) -> PostDAEModule:
    torch.manual_seed(0)
    small: dict[str, Any] = {"widths": [4, 8], "code": 8, "skips": [1, 2], "one_part": {}}
    return PostDAEModule(organs=list(organs), frame=FrameSpec(side), **small).eval()


def stored(model: PostDAEModule, folder: Path) -> str:
    return str(write_checkpoint_folder(model, folder, name="postdae-test", version="1.0.0", half=False))


def network() -> UNetModule:
    torch.manual_seed(1)
    return UNetModule(organs=ORGANS, frame=FrameSpec(64), encoder="dynunet", decoder_widths=[4, 4, 8])


@pytest.fixture
def chests(tmp_path: Path) -> Path:
    """Five chests, of which two are annotated for a fit."""
    return write_chest_data(tmp_path / "chests", {"train": 5, "val": 1}, side=64)


def few_labels(module: Any, root: Path, bare: int = 3) -> Any:
    """The data module with two annotated cases and the others as images alone."""
    cases = [case for case in find_cases(root, "landmarks", ORGANS, dims=2).cases if case.split == "train"]
    images = [replace(case, draw=None, organs=frozenset()) for case in cases[2 : 2 + bare]]
    module.sets = {split: module.dataset(cases[:2], split) for split in ("train", "val")}
    if module.unlabelled:
        module.sets["unlabelled"] = module.dataset(images, "unlabelled")
    return module


def data(root: Path, bare: int = 3, **settings: Any) -> Any:
    given = {"layout": "landmarks", "organs": ORGANS, "frame": FrameSpec(64), "batch_size": 2}
    return few_labels(UNetDataModule(str(root), **(given | {"unlabelled": bare} | settings)), root, bare)


def fitted(root: Path, *objectives: Objective, epochs: int = 3, **settings: Any) -> L.Trainer:
    trainer = L.Trainer(max_epochs=epochs, callbacks=list(objectives), limit_val_batches=0, **QUIET)
    L.seed_everything(3, verbose=False)
    trainer.fit(network(), data(root, **settings))
    return trainer


def weights(trainer: L.Trainer) -> dict[str, Tensor]:
    return {name: value.detach() for name, value in trainer.lightning_module.state_dict().items()}


def assert_same(one: L.Trainer, other: L.Trainer) -> None:
    torch.testing.assert_close(weights(one), weights(other), rtol=0, atol=0)


class TemporalEnsembling(Objective):
    """Written by itself: a mean for each case, kept in a mapping."""

    needs = frozenset({"maps", "unlabelled"})

    def __init__(self, alpha: float) -> None:
        self.alpha = alpha
        self.means: dict[int, tuple[int, Tensor]] = {}

    def terms(self, step: Step) -> dict[str, Tensor]:
        batch = step.batch["unlabelled"]
        module: Any = step.module
        p = module.maps(module.answer(batch), batch).probability
        losses = []
        for i, case in enumerate(batch["index"].tolist()):
            if case in self.means:
                organs = self.means[case][1].float()
                target = torch.cat([(1 - organs.sum(0, keepdim=True)).clamp_min(0), organs])
                losses.append(soft_label_loss(p[i : i + 1], target[None]))
            else:
                losses.append(p[i : i + 1].sum() * 0 + torch.zeros(1))
        for i, case in enumerate(batch["index"].tolist()):
            times, mean = self.means.get(case, (0, torch.zeros_like(p[i, 1:])))
            share = (1 - self.alpha) / (1 - self.alpha ** (times + 1))
            new = p[i, 1:].detach().half().float()
            self.means[case] = times + 1, torch.lerp(mean.float(), new, share).half()
        return {"denoising": torch.cat(losses)}


# ----------------------------------------------------------------------------------------- what it equals


def test_without_a_weight_it_is_supervised_training_bit_for_bit(chests: Path) -> None:
    idle = Denoising("absent-checkpoint", weight=0.0)
    with_it, without = fitted(chests, idle), fitted(chests)
    assert_same(with_it, without)
    assert idle.state_dict() == {}
    # One step an epoch either way: the unlabelled images do not change what is drawn of the others.
    assert_same(with_it, fitted(chests, unlabelled=None))
    used = fitted(chests, Denoising(ramp=0.0, alpha=0.5))
    assert any(not torch.equal(v, weights(without)[k]) for k, v in weights(used).items())


def test_without_a_denoiser_it_is_temporal_ensembling_bit_for_bit(chests: Path) -> None:
    assert_same(fitted(chests, Denoising(alpha=0.6, ramp=0.0)), fitted(chests, TemporalEnsembling(0.6)))


def test_the_mean_is_the_corrected_exponential_one() -> None:
    torch.manual_seed(0)
    memory, alpha, biased = Memory(["a", "b"], 0.7), 0.7, torch.zeros(1, 2, 4, 4)
    assert memory.recall(torch.tensor([0])) is None
    for visit in range(1, 6):
        found = torch.rand(1, 3, 4, 4).softmax(1)[:, 1:]
        memory.take(torch.tensor([1]), found)
        biased = alpha * biased + (1 - alpha) * found
        recalled = memory.recall(torch.tensor([1, 0]))
        assert recalled is not None
        maps, known = recalled
        torch.testing.assert_close(maps[:1, 1:], biased / (1 - alpha**visit), rtol=0, atol=1e-3)
        torch.testing.assert_close(maps.sum(1), torch.ones(2, 4, 4))
        assert known.tolist() == [True, False]


def test_without_a_past_the_last_visit_counts_alone() -> None:
    memory = Memory(["a"], 0.0)
    for _ in range(2):
        found = torch.rand(1, 3, 4).softmax(1)[:, 1:]
        memory.take(torch.tensor([0]), found)
    recalled = memory.recall(torch.tensor([0]))
    assert recalled is not None
    torch.testing.assert_close(recalled[0][:, 1:], found, rtol=0, atol=1e-3)


# ------------------------------------------------------------------------------------------ the soft labels


@pytest.mark.parametrize("hard", [False, True])
@pytest.mark.parametrize("side", [32, 64])
def test_soft_labels_sum_to_1_and_carry_no_gradient(
    hard: bool, side: int, chests: Path, tmp_path: Path
) -> None:
    sud = Denoising(stored(denoiser(side), tmp_path), alpha=0.5, ramp=0.0, hard=hard)
    trainer = fitted(chests, sud)
    assert float(trainer.callback_metrics["train/denoising"]) > 0
    like = torch.rand(3, 4, 64, 64, requires_grad=True).softmax(1)
    labels, known = sud.target(torch.tensor([2, 0, 1]), like)
    assert known.tolist() == [1, 1, 1]
    assert not labels.requires_grad
    torch.testing.assert_close(labels.sum(1), torch.ones(3, 64, 64))
    assert (set(labels.unique().tolist()) == {0, 1}) == hard
    soft_label_loss(like, labels).sum().backward()
    assert sud._denoise is not None
    assert all(p.grad is None and not p.requires_grad for p in sud._denoise.parameters())


def test_the_loss_is_cross_entropy_and_dice_of_each_image() -> None:
    p = torch.tensor([[[0.5, 0.9], [0.5, 0.1]]], dtype=torch.float64)
    u = torch.tensor([[[0.2, 1.0], [0.8, 0.0]]])
    entropy = -(
        0.2 * 0.5**0 * torch.tensor(0.5).log() + 0.8 * torch.tensor(0.5).log() + torch.tensor(0.9).log()
    )
    dice = (2 * 0.5 * 0.8 + 1) / (0.6 + 0.8 + 1)
    torch.testing.assert_close(soft_label_loss(p, u), (entropy / 2 + 1 - dice)[None])


def test_sides_that_the_denoiser_joins_are_dealt_as_they_were_given() -> None:
    model = denoiser(32, ["heart", "lungs"])
    sides = Denoiser(model, organs=ORGANS, frame=FrameSpec(64))
    given = torch.zeros(1, 4, 64, 64)
    given[:, 1, :, :32], given[:, 2, :, 32:] = 0.75, 0.5
    given[:, 0] = 1 - given.sum(1)
    found = sides(given)
    torch.testing.assert_close(found.sum(1), torch.ones(1, 64, 64))
    assert float(found[:, 1, :, :32].min()) > 100 * float(found[:, 2, :, :32].max())
    joined = Denoiser(model, organs=["heart", "lungs"], frame=FrameSpec(64))
    alone = joined(torch.stack([given[:, 0], given[:, 3], given[:, 1] + given[:, 2]], 1))
    torch.testing.assert_close(found[:, 1] + found[:, 2], alone[:, 2])


def test_the_weight_rises_over_a_share_of_the_fit(chests: Path) -> None:
    sud = Denoising(weight=2.0, ramp=0.5, alpha=0.0)
    fitted(chests, sud, epochs=4)
    assert [round(sud.gamma(n), 6) for n in range(4)] == [0.013476, 0.57301, 2.0, 2.0]


def test_unlabelled_images_keep_their_place(chests: Path) -> None:
    module = data(chests, augment={"rotation_deg": 30.0, "invert_p": 0.0})
    batch = next(iter(module._loader("unlabelled", 3)))
    still = module.prepare_unlabelled(batch)
    assert not torch.equal(still["image"], batch["image"])
    one, other = (
        each["image"].flatten(1) - each["image"].flatten(1).mean(1, keepdim=True) for each in (still, batch)
    )
    assert float(torch.cosine_similarity(one, other).min()) > 0.8
    moved = module.prepare(batch, training=True)["image"].flatten(1)
    assert float(torch.cosine_similarity(moved - moved.mean(1, keepdim=True), other).min()) < 0.8


def test_volumes_are_remembered_in_the_frame(tmp_path: Path) -> None:
    """Volumes of two sizes, seen in the middle, without motion or turns."""
    frame, organs = FrameSpec([8, 32, 32], "spacing", [1.0, 1.0, 1.0]), ["a", "b"]
    small: dict[str, Any] = {"widths": [4, 8], "code": 8, "skips": [2], "one_part": {}}
    shapes = stored(PostDAEModule(organs=organs, frame=frame, **small).eval(), tmp_path)
    data: Any = AcnnDataModule(str(tmp_path), "folder", organs, frame, unlabelled=2, augment={"noise": 0.1})
    cases = [volume_case(n, (32 + 4 * n, 40, 8 + n)) for n in range(4)]
    bare = [replace(case, draw=None, organs=frozenset()) for case in cases[2:]]
    data.sets = {"train": data.dataset(cases[:2], "train"), "val": data.dataset(cases, "val")}
    data.sets["unlabelled"] = data.dataset(bare, "unlabelled")
    sud = Denoising(shapes, ramp=0.0)
    trainer = L.Trainer(max_epochs=2, callbacks=[sud], limit_val_batches=0, **QUIET)
    trainer.fit(AcnnModule(organs=organs, frame=frame, widths=[4, 8]), data)
    assert float(trainer.callback_metrics["train/denoising"]) > 0
    assert sud.state_dict()["memory"]["organs"].shape == (2, 2, 8, 32, 32)


def volume_case(number: int, size: tuple[int, int, int]) -> Case:
    grid = Grid(size, (1.0, 1.0, 1.0))
    pixels = np.random.default_rng(number).random(grid.shape, np.float32)
    masks = {"a": pixels > 0.5, "b": pixels > 0.8}
    return Case(
        f"v{number}",
        f"v{number}",
        "train",
        "site",
        frozenset(masks),
        lambda: GridImage(pixels, grid, f"v{number}"),
        lambda organs, _: Drawn(grid, masks=masks),
    )


def test_contours_are_drawn_and_denoised(chests: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    shapes = stored(denoiser(64, ["lung_right", "lung_left", "heart"]), tmp_path)
    module = HybridGNetModule(organs="lungs_heart", frame=FrameSpec(64), skips=[4, 3])
    given: dict[str, Any] = {"layout": "landmarks", "organs": "lungs_heart", "frame": FrameSpec(64)}
    sud = Denoising(shapes, ramp=0.0)
    trainer = L.Trainer(max_epochs=2, callbacks=[sud], limit_val_batches=0, **QUIET)
    trainer.fit(
        module, few_labels(HybridGNetDataModule(str(chests), batch_size=2, unlabelled=3, **given), chests)
    )
    assert float(trainer.callback_metrics["train/denoising"]) > 0


# ------------------------------------------------------------------------------------- what it remembers


def test_a_fit_goes_on_bit_for_bit_without_the_source(chests: Path, tmp_path: Path) -> None:
    folder = Path(stored(denoiser(), tmp_path / "d"))
    whole = fitted(chests, Denoising(str(folder), alpha=0.6))
    first = L.Trainer(
        max_epochs=3, callbacks=[Denoising(str(folder), alpha=0.6), _Stop()], limit_val_batches=0, **QUIET
    )
    L.seed_everything(3, verbose=False)
    first.fit(network(), data(chests))
    first.save_checkpoint(tmp_path / "last.ckpt")
    for file in folder.iterdir():
        file.unlink()
    again = L.Trainer(
        max_epochs=3, callbacks=[Denoising(str(folder), alpha=0.6)], limit_val_batches=0, **QUIET
    )
    again.fit(network(), data(chests), ckpt_path=tmp_path / "last.ckpt", weights_only=True)
    assert again.global_step == whole.global_step == 3
    assert_same(again, whole)
    memory = torch.load(tmp_path / "last.ckpt", weights_only=True)["callbacks"]["Denoising"]["memory"]
    assert memory["organs"].dtype == torch.float16
    assert memory["visits"].tolist() == [2, 2, 2]

    other = L.Trainer(max_epochs=3, callbacks=[Denoising("moved", alpha=0.6)], limit_val_batches=0, **QUIET)
    with pytest.raises(ConfigError, match="remembers 3 unlabelled cases that are not the 2 of this data set"):
        other.fit(network(), data(chests, 2), ckpt_path=tmp_path / "last.ckpt", weights_only=True)


class _Stop(L.Callback):
    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        trainer.should_stop = trainer.current_epoch == 1


# ----------------------------------------------------------------------------------------- what it refuses


def remembered_by_one_of_two(root: Path, port: int, rank: int) -> dict[str, Tensor]:
    """What a process remembers of a fit with another, which Lightning finds started."""
    os.environ |= {"LOCAL_RANK": str(rank), "NODE_RANK": "0", "WORLD_SIZE": "2"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    objective = Denoising(None, ramp=0)
    both = {**QUIET, "devices": 2, "strategy": "ddp"}
    trainer = L.Trainer(max_epochs=2, callbacks=[objective], limit_val_batches=0, **both)
    L.seed_everything(3, verbose=False)
    trainer.fit(network(), data(root, bare=4, unlabelled=1, batch_size=1))
    assert objective._memory is not None
    assert objective._memory.organs is not None
    return {"organs": objective._memory.organs, "visits": objective._memory.visits}


def test_two_processes_remember_the_visits_of_both(tmp_path: Path) -> None:
    root = write_chest_data(tmp_path / "chests", {"train": 6, "val": 1}, side=64)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    one, two = in_two_processes(partial(remembered_by_one_of_two, root, port), tmp_path)
    # An epoch gives each process a half of the four images.
    assert one["visits"].tolist() == two["visits"].tolist() == [2, 2, 2, 2]
    assert torch.equal(one["organs"], two["organs"])
    assert len({float(each.float().sum()) for each in one["organs"]}) == 4


def test_what_cannot_be_is_said_before_the_fit(chests: Path, tmp_path: Path) -> None:
    for settings in ({"weight": -1.0}, {"weight": math.nan}, {"alpha": 1.0}, {"ramp": 2.0}):
        with pytest.raises(ConfigError, match="Denoising's weight"):
            Denoising(**settings)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="source is an empty text"):
        Denoising("")
    with pytest.raises(ConfigError, match=r"Denoising needs images without annot.*--data\.unlabelled 4"):
        fitted(chests, Denoising(), unlabelled=None)
    unet = str(write_checkpoint_folder(network(), tmp_path / "u", name="unet-test", version="1.0.0"))
    with pytest.raises(ConfigError, match="is a UNetModel, no denoiser of label maps"):
        fitted(chests, Denoising(unet))
    with pytest.raises(ConfigError, match="same organs"):
        fitted(chests, Denoising(stored(denoiser(64, ["lung_right", "heart"]), tmp_path / "o")))
    with pytest.raises(ConfigError, match="which has no end"):
        L.Trainer(max_epochs=-1, callbacks=[Denoising()], **QUIET).fit(network(), data(chests))
