"""The data module that all methods share: what it finds, says and hands out."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import lightning as L
import numpy as np
import pytest
import torch

from anatozoo.data.module import ZooDataModule
from anatozoo.errors import ConfigError, DataError
from anatozoo.frames.spec import FrameSpec
from anatozoo.methods.acnn.data import AcnnDataModule
from anatozoo.methods.acregnet.data import AcRegNetDataModule
from anatozoo.methods.aenet.data import AeNetDataModule
from anatozoo.methods.hybridgnet.data import HybridGNetDataModule
from anatozoo.methods.postdae.data import PostDAEDataModule
from anatozoo.methods.unet.data import UNetDataModule
from anatozoo.methods.unet.module import UNetModule
from tests.support.chest_data import write_chest_data
from tests.support.phantoms import make_chest_phantom
from tests.support.volume_data import write_volumes

LIGHTNING = pytest.mark.filterwarnings("ignore:.*isinstance.treespec, LeafSpec.")
"""How Lightning looks into several loaders at once."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two sites with eight radiographs each; of the last three nobody marked the heart."""
    for site in ("north", "south"):
        for number in range(8):
            phantom = make_chest_phantom(96, 80, seed=number)
            for place in ("images", "masks"):
                (tmp_path / site / place).mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(tmp_path / site / "images" / f"p{number}_image.png"), phantom.image)
            if number < 5:
                mask = np.zeros((80, 96), np.uint8)
                cv2.fillPoly(mask, [np.rint(phantom.landmarks["heart"]).astype(np.int32)], 255)
                cv2.imwrite(str(tmp_path / site / "masks" / f"p{number}_seg.png"), mask)
    split = {"train": [0, 1, 2, 5, 6], "val": [3, 4, 7]}
    lists = {k: [f"{site}/p{n}" for site in ("north", "south") for n in v] for k, v in split.items()}
    (tmp_path / "splits.json").write_text(json.dumps(lists))
    return tmp_path


def heart(root: Path, **settings: Any) -> UNetDataModule:
    given = {"layout": "folder", "organs": ["heart"], "frame": FrameSpec(64), "batch_size": 2}
    return UNetDataModule(str(root), **(given | settings))


def training(module: ZooDataModule, batch: Any) -> dict[str, Any]:
    loop = SimpleNamespace(total_batch_idx=0)
    module.trainer = SimpleNamespace(training=True, fit_loop=loop, global_rank=0)  # type: ignore[assignment]
    return module.on_after_batch_transfer(batch, 0)


def test_batches_say_where_they_come_from(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    module = heart(folder)
    module.setup("fit")
    assert module.domains == ["north", "south"]
    assert (len(module.sets["train"]), len(module.sets["val"])) == (6, 4)
    batch = next(iter(module.val_dataloader()))
    assert batch["domain"].dtype == torch.int64
    assert batch["domain"].tolist() == [0, 0]
    assert batch["labelled"].tolist() == [True, True]
    assert batch["known"].dtype == torch.bool
    assert "unlabelled" not in batch
    assert module.sets["val"].identity(0)["dataset"] == "north"


def test_what_is_left_out_is_said(
    folder: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr("anatozoo.data.module.rank_zero_info", said.append)
    module = heart(folder)
    for stage in ("fit", "validate", "fit"):
        module.setup(stage)
    text = "6 cases are not used, they lack an annotation: north/p5, north/p6, north/p7 and 3 more."
    assert sum(text in line for line in said) == 1
    (folder / "splits.json").unlink()
    heart(folder).setup("fit")
    assert any("DEALT" in line for line in said)


def test_a_fit_says_that_an_organ_is_empty(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr("anatozoo.data.module.rank_zero_info", said.append)
    heart(folder).setup("fit")
    assert not any("not a pixel" in line for line in said)
    for path in folder.glob("*/masks/*.png"):
        cv2.imwrite(str(path), np.zeros((80, 96), np.uint8))
    heart(folder).setup("fit")
    assert sum("heart: not a pixel in any of the 6 annotated cases" in line for line in said) == 1


@LIGHTNING
def test_unlabelled_images_come_beside_the_others(folder: Path) -> None:
    module = heart(folder, unlabelled=3)
    module.setup("fit")
    raw = next(iter(module.train_dataloader()))
    batch, _, _ = raw if isinstance(raw, tuple) else (raw, 0, 0)
    found = training(module, batch)
    other = found["unlabelled"]
    assert found["image"].shape == (2, 1, 64, 64)
    assert other["image"].shape == (3, 1, 64, 64)
    assert not other["labelled"].any()
    assert not other["known"].any()
    assert not other["labels"].any()
    assert found["labelled"].all()
    everybody = {module.sets["unlabelled"].identity(i)["id"] for i in range(4)}
    assert everybody == {"north/p5", "north/p6", "south/p5", "south/p6"}
    [said] = [line for line in module._said if "without annotation" in line]
    assert "4 images without annotation are learnt from: " in said
    with pytest.raises(DataError, match="has 4 images without annotation; take 4 or fewer"):
        heart(folder, unlabelled=5).setup("fit")
    # What the annotated images look like does not depend on the others.
    alone = heart(folder)
    alone.setup("fit")
    torch.manual_seed(1)
    expected = alone.prepare(batch["train"], training=True)
    torch.manual_seed(1)
    assert torch.equal(module.prepare(batch["train"], training=True)["image"], expected["image"])


@LIGHTNING
def test_a_fit_goes_on_with_unlabelled_images(folder: Path) -> None:
    seen: list[int] = []

    class Watching(UNetModule):
        def training_step(self, batch: dict[str, Any], batch_idx: int) -> torch.Tensor:
            seen.append(len(batch["unlabelled"]["image"]))
            return super().training_step(batch, batch_idx)

    module = Watching(organs=["heart"], decoder_widths=[4] * 5, frame=FrameSpec(64))
    quiet: dict[str, Any] = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    fit = L.Trainer(max_epochs=1, accelerator="cpu", enable_model_summary=False, **quiet)
    fit.fit(module, heart(folder, unlabelled=2))
    assert seen == [2, 2, 2]  # six annotated images in pairs, four others in turn


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"unlabelled": 0}, "data.unlabelled"),
        ({"batch_size": 0}, "data.batch_size"),
        ({"num_workers": -1}, "data.num_workers"),
        ({"layout": []}, "empty list"),
        ({"layout": "dicomdir"}, "layout='dicomdir' is unknown"),
        ({"frame": FrameSpec([8, 64, 64])}, "size"),
    ],
)
def test_settings_that_cannot_be_are_refused(folder: Path, settings: dict[str, Any], error: str) -> None:
    with pytest.raises(ConfigError, match=error):
        heart(folder, **settings).setup("fit")


def test_a_split_without_cases_is_refused(folder: Path) -> None:
    with pytest.raises(DataError, match="the split 'test' of folder has 0 cases"):
        heart(folder).setup("test")
    (folder / "splits.json").write_text(json.dumps({"train": ["north/p0"], "val": ["south/p0"]}))
    with pytest.raises(DataError, match="every image of the training split is annotated"):
        heart(folder, unlabelled=1).setup("fit")
    with pytest.raises(ConfigError, match="learns from masks only"):
        PostDAEDataModule(str(folder), layout="folder", organs=["heart"], unlabelled=1)


def test_every_chest_method_reads_the_same_folder(folder: Path) -> None:
    """Masks of one organ train all of them."""
    given: dict[str, Any] = {"layout": "folder", "frame": FrameSpec(64), "batch_size": 2}
    made = [
        heart(folder),
        HybridGNetDataModule(str(folder), organs={"heart": 26}, **given),
        AcRegNetDataModule(str(folder), organs=["heart"], **given),
        AeNetDataModule(str(folder), organs=["heart"], **given),
        PostDAEDataModule(str(folder), organs=["heart"], **given),
    ]
    for module in made:
        module.setup("fit")
        batch = training(module, next(iter(module.train_dataloader())))
        assert batch["labelled"].all()
        assert batch["domain"].shape == (2,)
    assert batch["clean"].shape == (2, 2, 64, 64)


def test_contours_drawn_by_hand_train_landmarks(tmp_path: Path) -> None:
    for number in range(4):
        phantom = make_chest_phantom(96, 80, seed=number)
        (tmp_path / "images").mkdir(exist_ok=True)
        cv2.imwrite(str(tmp_path / "images" / f"p{number}.png"), phantom.image)
        # Begun anywhere, in either direction.
        points = np.roll(phantom.landmarks["heart"], 7 * number, axis=0)[:: 1 - 2 * (number % 2)] + 0.5
        shape = {"label": "heart", "points": points.tolist(), "shape_type": "polygon"}
        file = {"shapes": [shape], "imageWidth": 96, "imageHeight": 80}
        (tmp_path / "images" / f"p{number}.json").write_text(json.dumps(file))
    (tmp_path / "splits.json").write_text(json.dumps({"train": ["p0", "p1", "p2"], "val": ["p3"]}))
    module = HybridGNetDataModule(
        str(tmp_path), layout="folder", organs={"heart": 26}, frame=FrameSpec(64), augment=None
    )
    module.setup("fit")
    found = torch.stack([module.sets["train"][i]["landmarks"] for i in range(3)])
    assert (torch.stack([module.sets["train"][i]["landmark_weight"] for i in range(3)]) == 1).all()
    # Corresponding landmarks lie close together, for the phantoms are alike.
    spread = (found - found.mean(0)).norm(dim=-1).mean()
    size = (found.amax(1) - found.amin(1)).mean()
    assert float(spread) < 0.1 * float(size)


def test_volumes_of_a_folder_in_the_names_of_nnunet(tmp_path: Path) -> None:
    names = [f"v{i}" for i in range(4)]
    write_volumes(tmp_path, names, values=(3, 7), splits={"train": names[:2], "val": names[2:]})
    for path in (tmp_path / "imagesTr").iterdir():
        path.rename(path.with_name(path.name.replace(".nii", "_0000.nii")))
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": {"background": 0, "Front": 3, "back": 7}}))
    frame = FrameSpec([16, 16, 16], "spacing", [1.0, 1.0, 1.0])
    module = AcnnDataModule(str(tmp_path), "folder", ["front", "back"], frame, batch_size=2, margin=0)
    module.setup("fit")
    batch = training(module, next(iter(module.train_dataloader())))
    assert batch["image"].shape == (2, 1, 16, 16, 16)
    assert batch["labels"].unique().tolist() == [0, 1, 2]
    assert batch["known"].all()


def test_several_layouts_train_together(tmp_path: Path) -> None:
    write_chest_data(tmp_path, {"train": 2, "val": 1}, side=64)
    module = heart(tmp_path, layout=["jsrt", "landmarks", "jsrt"], eval_layout="landmarks")
    module.setup("fit")
    assert len(module.sets["train"]) == 6
    assert len(module.sets["val"]) == 1
