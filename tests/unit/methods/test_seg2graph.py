import shutil
from pathlib import Path
from typing import Any

import cv2
import lightning as L
import numpy as np
import pytest
import torch

from anatozoo.errors import ConfigError, DataError
from anatozoo.io.landmarks import draw_organ_mask
from anatozoo.methods.seg2graph import data as data_module
from anatozoo.methods.seg2graph.augment import MaskAugment, drawn, moved, spoiled
from anatozoo.methods.seg2graph.data import Seg2GraphDataModule
from anatozoo.methods.seg2graph.module import Seg2GraphModule
from anatozoo.methods.seg2graph.network import Seg2Graph
from anatozoo.metrics.cases import case_row
from anatozoo.nn.graphs import organ_slices
from anatozoo.organs import CHEST_ORGANS
from anatozoo.training.optim import Optim
from tests.support.chest_data import write_chest_data

ORGANS = dict(CHEST_ORGANS)
PARTS = organ_slices(ORGANS)
OFF = {name: 0.0 for name in MaskAugment.__dataclass_fields__}


def all_known(batch: int) -> torch.Tensor:
    return torch.ones(batch, len(ORGANS), dtype=torch.bool)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_chest_data(tmp_path_factory.mktemp("chest"))


@pytest.fixture(scope="module")
def data(root: Path) -> Seg2GraphDataModule:
    module = Seg2GraphDataModule(str(root), layout="jsrt", batch_size=2, frame={"size": 64})
    module.setup("fit")
    return module


@pytest.fixture
def shape(data: Seg2GraphDataModule) -> torch.Tensor:
    return data.mean_landmarks()[None]


def test_masks_are_drawn_where_the_landmarks_are(shape: torch.Tensor) -> None:
    [planes] = drawn(shape, ORGANS, 64)
    for plane, part in zip(planes, PARTS.values(), strict=True):
        pixels = shape[0, part].numpy() * 64
        fine = draw_organ_mask((pixels + 0.5) * 8 - 0.5, (512, 512))
        expected = fine.reshape(64, 8, 64, 8).mean((1, 3))
        assert float(np.abs(plane.numpy() - expected).mean()) < 0.01
        assert float(plane.sum()) == pytest.approx(expected.sum(), rel=0.1)


def test_without_strength_nothing_moves_and_nothing_is_spoiled(shape: torch.Tensor) -> None:
    off = MaskAugment(**OFF)
    torch.testing.assert_close(moved(shape, ORGANS, off), shape, rtol=0, atol=1e-6)
    planes = drawn(shape, ORGANS, 64)
    left, held = spoiled(planes, list(ORGANS), off, all_known(1))
    assert torch.equal(left, planes)
    assert bool(held.all())


@pytest.mark.parametrize("fault", ["coarse_p", "jagged_p", "hole_p", "hard_p", "soft_p"])
def test_faults_change_edges_and_leave_the_organ(shape: torch.Tensor, fault: str) -> None:
    torch.manual_seed(0)
    planes = drawn(shape.expand(4, -1, -1), ORGANS, 64)
    before = planes.clone()
    left, _ = spoiled(planes, list(ORGANS), MaskAugment(**OFF | {fault: 1.0}), all_known(4))
    assert torch.equal(planes, before)
    assert not torch.equal(left, planes)
    assert float(left.min()) >= 0
    assert float(left.max()) <= 1
    kept = (left[:, :2].gt(0.5) & planes[:, :2].gt(0.5)).sum() / planes[:, :2].gt(0.5).sum()
    assert float(kept) > 0.85


def test_organs_are_cut_joined_and_dropped(shape: torch.Tensor) -> None:
    torch.manual_seed(0)
    names = list(ORGANS)
    planes = drawn(shape.expand(32, -1, -1), ORGANS, 64)
    cut, _ = spoiled(planes, names, MaskAugment(**OFF | {"exclusive_p": 1.0}), all_known(32))
    assert not (cut[:, 1].gt(0.99) & planes[:, 2].gt(0.99)).any()
    joined, _ = spoiled(planes, names, MaskAugment(**OFF | {"merge_p": 1.0}), all_known(32))
    assert torch.equal(joined[:, 0], joined[:, 1])
    assert torch.equal(joined[:, 3], joined[:, 4])
    torch.testing.assert_close(joined[:, 0], planes[:, :2].amax(1))
    dropped, held = spoiled(planes, names, MaskAugment(**OFF | {"drop_p": 1.0}), all_known(32))
    assert bool(held.any(1).all())
    assert not bool(held.all())
    assert torch.equal(dropped.flatten(2).any(2), held)


def test_one_lung_alone_is_not_joined_and_organs_without_landmarks_stay_empty(shape: torch.Tensor) -> None:
    torch.manual_seed(0)
    known = all_known(32)
    known[:, 1] = False
    known[0] = torch.arange(len(ORGANS)) == 4
    known[1] = False
    planes = drawn(shape.expand(32, -1, -1), ORGANS, 64) * known[:, :, None, None]
    joined, held = spoiled(planes, list(ORGANS), MaskAugment(**OFF | {"merge_p": 1.0}), known)
    assert torch.equal(held, known)
    assert not bool(joined[:, 1].any())
    assert torch.equal(joined[2:, 3], joined[2:, 4])
    assert torch.equal(joined[0], planes[0])
    strong = MaskAugment(**OFF | {"drop_p": 1.0, "hole_p": 1.0})
    faulty, held = spoiled(planes, list(ORGANS), strong, known)
    assert not bool((held & ~known).any())
    assert torch.equal(held.any(1), known.any(1))
    assert not bool(faulty[~held].any())


def test_a_network_answers_alike_wherever_the_organs_are(shape: torch.Tensor) -> None:
    torch.manual_seed(0)
    network = Seg2Graph(ORGANS, 128, (8, 8, 8, 8, 8), refine=[0.05], refine_features=16).eval()
    for parameter in network.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, 0, 0.02)
    network.take_mean(shape[0])
    small = (shape - 0.5) * 0.6 + torch.tensor([0.55, 0.45])
    with torch.no_grad():
        whole = network(drawn(shape, ORGANS, 128)).landmarks
        part = network(drawn(small, ORGANS, 128)).landmarks
    expected = (whole - 0.5) * 0.6 + torch.tensor([0.55, 0.45])
    assert float((part - expected).abs().mean()) < 0.01
    # Untrained, it gives the mean shape, placed by the mask.
    assert float((whole - shape).abs().mean()) < 0.15


@pytest.mark.filterwarnings("ignore:The '.*_dataloader' does not have many workers")
@pytest.mark.filterwarnings("ignore:.*isinstance.treespec, LeafSpec.")
def test_a_second_fit_keeps_place_and_size_with_the_template(root: Path, tmp_path: Path) -> None:
    shifted = tmp_path / "shifted"
    shutil.copytree(root, shifted)
    for path in shifted.rglob("*.npy"):
        np.save(path, 0.7 * np.load(path) + 200)

    def fitted(folder: Path, lr: float, **settings: Any) -> tuple[L.Trainer, Seg2GraphModule]:
        optim = Optim("adam", lr, warmup_steps=0)
        model = Seg2GraphModule(frame={"size": 64}, widths=[8, 8, 8, 8, 8], optim=optim, **settings)
        trainer = L.Trainer(
            max_steps=2, accelerator="cpu", logger=False, enable_checkpointing=False,
            enable_progress_bar=False, enable_model_summary=False, limit_val_batches=0,
        )  # fmt: skip
        trainer.fit(model, Seg2GraphDataModule(str(folder), layout="jsrt", batch_size=2, frame={"size": 64}))
        return trainer, model

    trainer, first = fitted(root, 1e-3)
    mean = trainer.datamodule.mean_landmarks()  # type: ignore[attr-defined]
    assert not torch.equal(first.network.hybrid.template, mean)  # learnt
    trainer.save_checkpoint(tmp_path / "first.ckpt")
    _, second = fitted(shifted, 1e-12, init_weights=str(tmp_path / "first.ckpt"))
    assert torch.equal(second.network.prior, first.network.prior)
    torch.testing.assert_close(second.network.hybrid.template, first.network.hybrid.template)
    _, other = fitted(shifted, 1e-12)
    assert not torch.equal(other.network.prior, first.network.prior)


def test_an_empty_mask_stays_where_it_is(shape: torch.Tensor) -> None:
    network = Seg2Graph(ORGANS, 64, (8, 8, 8, 8, 8)).eval()
    network.take_mean(shape[0])
    with torch.no_grad():
        shift, zoom = network._place(torch.zeros(2, len(ORGANS), 64, 64))
    assert bool((shift == 0).all())
    assert bool((zoom == 1).all())


def test_a_batch_holds_masks_of_what_is_annotated(data: Seg2GraphDataModule) -> None:
    item = data.sets["val"][0]
    assert {key: tuple(value.shape) for key, value in item.items()} == {
        "landmarks": (166, 2), "landmark_weight": (166,), "spacing_mm": (2,), "index": (), "domain": (),
        "labelled": (),
    }  # fmt: skip
    batch = {key: torch.stack([value, value]) for key, value in item.items()}
    batch["landmark_weight"][1, PARTS["heart"]] = 0
    ready = data.prepare(batch, training=False)
    assert tuple(ready["image"].shape) == (2, 5, 64, 64)
    assert bool(ready["image"][0, 2].any())
    assert not bool(ready["image"][1, 2].any())
    torch.manual_seed(0)
    training = data.prepare(batch, training=True)
    assert not bool(training["held"][1, 2])
    assert not torch.equal(training["landmarks"], batch["landmarks"])


def refused(root: Path, message: str) -> None:
    module = Seg2GraphDataModule(str(root), layout="jsrt", frame={"size": 64})
    for _ in range(2):  # not even when asked again
        with pytest.raises(DataError, match=f"no training case has landmarks of {message}. Seg2Graph learns"):
            module.setup("fit")


def test_training_data_without_landmarks_of_an_organ_are_refused(tmp_path: Path) -> None:
    root = write_chest_data(tmp_path, {"train": 2, "val": 1})
    (root / "landmarks" / "H" / "JPCLN001.npy").unlink()
    Seg2GraphDataModule(str(root), layout="jsrt", frame={"size": 64}).setup("fit")
    (root / "landmarks" / "H" / "JPCLN002.npy").unlink()
    refused(root, "heart")


def test_training_data_of_masks_alone_are_refused(tmp_path: Path) -> None:
    root = write_chest_data(tmp_path, {"train": 2, "val": 1})
    shutil.rmtree(root / "landmarks")
    for organ, columns in (
        ("right lung", slice(20, 50)),
        ("left lung", slice(75, 105)),
        ("heart", slice(50, 75)),
    ):
        mask = np.zeros((128, 128), np.uint8)
        mask[30:100, columns] = 255
        for number in (1, 2, 3):
            path = root / "masks" / organ / f"JPCLN00{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), mask)
    refused(root, "lung_right, lung_left, heart, clavicle_right, clavicle_left")


def test_the_mean_shape_is_made_once(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[torch.Tensor] = []
    original = data_module.mean_landmarks
    monkeypatch.setattr(data_module, "mean_landmarks", lambda items: made.append(original(items)) or made[-1])
    module = Seg2GraphDataModule(str(root), layout="jsrt", frame={"size": 64}, anchors={"heart": [0, 9, 17]})
    module.setup("fit")
    module.setup("validate")
    mean = module.mean_landmarks()[None]
    torch.testing.assert_close(module.spaced(mean), mean, rtol=0, atol=1e-5)
    assert len(made) == 1


def test_perfect_landmarks_are_measured_as_perfect(data: Seg2GraphDataModule) -> None:
    module = Seg2GraphModule(frame={"size": 64}, widths=[8, 8, 8, 8, 8])
    item = data.sets["val"][0]
    batch = data.prepare({key: value[None] for key, value in item.items()}, training=False)
    row = case_row(module.cases(batch["landmarks"], batch)[0])
    assert row["mse_px2"] == 0
    assert {row[name] for name in module.columns()[1:]} == {1}
    batch["landmark_weight"][:, PARTS["heart"]] = 0
    assert "dice/heart" not in case_row(module.cases(batch["landmarks"], batch)[0])


def test_landmarks_of_unseen_organs_count_less() -> None:
    module = Seg2GraphModule(organs="lungs_heart", frame={"size": 64}, widths=[8, 8, 8, 8, 8], kl_weight=0.0)
    torch.manual_seed(0)
    heart = organ_slices(module.organs)["heart"]
    truth = torch.rand(1, sum(module.organs.values()), 2)
    batch = {"image": torch.zeros(1, 3, 64, 64), "landmarks": truth, "landmark_weight": torch.ones(1, 120)}
    output = module.answer(batch)
    wrong = truth.clone()
    wrong[:, heart] += 0.1
    output = output._replace(landmarks=wrong, positions=())
    seen = module.losses(output, batch | {"held": torch.tensor([[True, True, True]])})["landmarks"]
    unseen = module.losses(output, batch | {"held": torch.tensor([[True, True, False]])})["landmarks"]
    assert 0 < float(unseen) < 0.3 * float(seen)


def test_coarse_nodes_count_if_all_their_landmarks_are_known() -> None:
    module = Seg2GraphModule(organs={"heart": 26}, frame={"size": 64}, widths=[8, 8, 8, 8, 8])
    truth, weight = torch.rand(1, 26, 2), torch.ones(1, 26)
    weight[:, 4] = 0
    position = module.down @ truth
    position[:, 2] += 0.1
    assert float(module.landmark_loss(position, truth, weight)) == 0
    assert float(module.landmark_loss(position, truth, torch.ones(1, 26))) > 0
    torch.testing.assert_close(
        module.reference(position, truth, 0.1 * weight)[1][0, :3], torch.tensor([0.1, 0.1, 0])
    )


def test_settings_that_cannot_be_are_refused() -> None:
    with pytest.raises(ConfigError, match="levels"):
        Seg2GraphModule(frame={"size": 64}, skips=[2])
    with pytest.raises(ConfigError, match="exclusive_p"):
        Seg2GraphDataModule("x", augment={"exclusive_p": 2})
