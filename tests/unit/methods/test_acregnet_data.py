"""Cases, frames and pairs from generated folders in 2-D and 3-D."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import SimpleITK as sitk
import torch

from anatozoo.data.layouts.registry import find_cases
from anatozoo.errors import ConfigError, DataError, GeometryError
from anatozoo.frames.frame import Frame
from anatozoo.frames.spec import FrameSpec
from anatozoo.io.grid import Grid
from anatozoo.methods.acregnet.data import AcRegNetDataModule, PairDataset
from anatozoo.methods.aenet.data import AeNetDataModule
from anatozoo.training.collected import identity_of
from tests.support.chest_data import write_chest_data
from tests.support.volume_data import write_volumes

LABELS = ["anterior", "posterior"]


@pytest.fixture(scope="module")
def chest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_chest_data(tmp_path_factory.mktemp("chest"), {"train": 3, "val": 4, "test": 2}, side=64)


@pytest.fixture(scope="module")
def volumes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    names = [f"s{i}_{phase}" for i in range(3) for phase in "ab"]
    splits = {"train": names[:2], "val": names[2:4], "test": names[4:]}
    return write_volumes(tmp_path_factory.mktemp("volumes"), names, splits=splits)


def pairs(root: Path, **changes: Any) -> AcRegNetDataModule:
    return AcRegNetDataModule(str(root), **({"batch_size": 2, "frame": {"size": 32}} | changes))


def volume_pairs(root: Path, **changes: Any) -> AcRegNetDataModule:
    frame = {"size": [16, 16, 16], "fit": "spacing", "spacing_mm": [1.0, 1.0, 1.0]}
    settings = {"layout": "folder", "organs": LABELS, "frame": frame | changes.pop("frame", {})}
    return pairs(root, **(settings | changes))


def test_all_ordered_pairs_of_a_split(chest: Path) -> None:
    data = pairs(chest)
    data.setup("validate")
    found = data.sets["val"]
    assert len(found) == 12  # type: ignore[arg-type]
    seen = {found.pair(i) for i in range(12)}  # type: ignore[attr-defined]
    assert seen == {(a, b) for a in range(4) for b in range(4) if a != b}
    item = found[5]
    assert item["moving"].shape == item["fixed"].shape == (1, 32, 32)
    assert item["moving_labels"].shape == (32, 32)
    assert 0 <= float(item["moving"].min()) < float(item["moving"].max()) <= 1
    assert not torch.equal(item["moving"], item["fixed"])
    assert set(item["fixed_labels"].unique().tolist()) == {0, 1, 2}
    assert int(item["index"]) == 5


def test_a_fixed_choice_of_pairs_is_validated(chest: Path) -> None:
    chosen = []
    for _ in range(2):
        data = pairs(chest, eval_pairs=5)
        data.setup("fit")
        chosen.append([int(i) for batch in data.val_dataloader() for i in batch["index"]])
        assert len(data.sets["train"]) == 6  # type: ignore[arg-type]
    assert chosen[0] == chosen[1]
    assert len(set(chosen[0])) == 5


def test_labels_lie_on_their_image(chest: Path) -> None:
    """Hearts and lungs of the phantom have grey levels of their own."""
    data = AeNetDataModule(str(chest), frame=FrameSpec(64))
    data.setup("fit")
    for item in (data.sets["train"][i] for i in range(3)):
        image, labels = item["image"][0], item["labels"]
        lungs, heart = (float(image[labels == value].mean()) for value in (1, 2))
        assert heart > lungs + 0.3
        assert labels.dtype == torch.uint8


def test_labels_are_named_and_ordered(chest: Path) -> None:
    case = find_cases(chest, "jsrt").cases[0]
    (_, a), (_, b) = case.read(["heart", "lungs"], 2), case.read(["lung_left", "clavicles"], 2)
    assert a is not None
    assert b is not None
    # The lungs come last and cover what the heart had of them.
    assert (a == 1).sum() < (a == 2).sum()
    assert set(np.unique(b)) == {0, 1, 2}
    with pytest.raises(DataError, match="spleen"):
        case.read(["spleen"], 2)
    assert not case.has("spleen")
    with pytest.raises(ConfigError, match="no 3-D volumes"):
        find_cases(chest, "jsrt", ["heart"], dims=3)


def test_images_alone_need_no_labels(chest: Path) -> None:
    data = pairs(chest, organs=[])
    data.setup("test")
    assert set(data.sets["test"][0]) == {*("moving", "fixed", "spacing_mm", "index", "domain", "labelled")}


def test_pairs_and_their_selections_say_who_they_are(chest: Path) -> None:
    data = pairs(chest, eval_pairs=5)
    data.setup("fit")
    found, every = data.sets["val"], PairDataset(data.sets["val"].dataset.frames)  # type: ignore[attr-defined]
    names = [case.id for case in every.frames.cases]
    for place in range(5):
        index = int(found[place]["index"])
        moving, fixed = (names[case] for case in every.pair(index))
        assert identity_of(found, index) == {
            "id": f"{moving}->{fixed}", "moving": moving, "fixed": fixed,
            "moving_subject": moving, "fixed_subject": fixed, "split": "val",
        }  # fmt: skip
    single = AeNetDataModule(str(chest), frame=FrameSpec(32))
    single.setup("test")
    assert identity_of(single.sets["test"], 1) == {"id": "JPCLN009", "subject": "JPCLN009", "split": "test"}


def test_the_frame_has_the_spacing_of_what_it_shows(chest: Path, volumes: Path) -> None:
    # The generated pictures of JSRT's name have 64 pixels for its 2048 of 0.175 mm.
    data = pairs(chest)
    data.setup("test")
    assert data.sets["test"][0]["spacing_mm"].tolist() == pytest.approx([11.2, 11.2])
    data = volume_pairs(volumes, frame={"spacing_mm": [1.0, 2.0, 0.5]})
    data.setup("test")
    assert data.sets["test"][0]["spacing_mm"].tolist() == pytest.approx([1.0, 2.0, 0.5])
    data = volume_pairs(volumes, frame={"fit": "stretch", "spacing_mm": None})
    data.setup("test")
    # The fixed case, not the moving one: 11 x 14 x 17 voxels of 1 mm in a frame of 16.
    assert data.sets["test"][0]["spacing_mm"].tolist() == pytest.approx([11 / 16, 14 / 16, 17 / 16])


def test_without_a_spacing_there_is_none(tmp_path: Path) -> None:
    for folder in ("images", "labels"):
        (tmp_path / folder).mkdir()
        for name in "ab":
            cv2.imwrite(str(tmp_path / folder / f"{name}.png"), np.eye(16, dtype=np.uint8))
    (tmp_path / "splits.json").write_text('{"test": ["a", "b"]}')
    data = pairs(tmp_path, layout="folder", organs=["x"], frame={"size": 16})
    data.setup("test")
    assert bool(data.sets["test"][0]["spacing_mm"].isnan().all())


def test_volumes_in_folders(volumes: Path) -> None:
    data = volume_pairs(volumes, subject_pattern=r"(s\d)_.")
    data.setup("fit")
    (batch,) = data.train_dataloader()
    assert batch["moving"].shape == (2, 1, 16, 16, 16)
    labels, image = batch["fixed_labels"], batch["fixed"][:, 0]
    assert set(labels.unique().tolist()) == {0, 1, 2}
    # At 1 mm nothing is scaled: 4 × 6 × 4 voxels of each label arrive.
    assert [int((labels[0] == v).sum()) for v in (1, 2)] == [96, 96]
    assert float(image[labels > 0].mean()) > float(image[labels == 0].mean()) + 0.5


def test_a_subject_belongs_to_one_split(volumes: Path, tmp_path: Path) -> None:
    names = ["s0_a", "s0_b", "s1_a", "s1_b"]
    root = write_volumes(tmp_path, names)
    (root / "splits").mkdir()
    (root / "splits/train.txt").write_text("s0_a\ns1_a\n")
    (root / "splits/val.txt").write_text("s0_b\ns1_b\n")
    find_cases(root, "folder", LABELS, dims=3)
    with pytest.raises(DataError, match="subject s0 is in the splits train and val"):
        find_cases(root, "folder", LABELS, dims=3, subject_pattern=r"(s\d)_.")
    (root / "splits/val.txt").write_text("s0_a\n")
    with pytest.raises(DataError, match="s0_a is in the splits"):
        find_cases(root, "folder", LABELS, dims=3)
    (root / "splits/val.txt").write_text("nobody\n")
    with pytest.raises(DataError, match="without an image, first nobody"):
        find_cases(root, "folder", LABELS, dims=3)


def test_without_lists_subjects_are_dealt(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "labels").mkdir()
    for i in range(60):
        for side in "lr":
            for folder in ("images", "labels"):
                cv2.imwrite(str(tmp_path / folder / f"p{i}{side}.png"), np.eye(16, dtype=np.uint8) * 2)
    cases = find_cases(tmp_path, "folder", ["x"], label_values=[2], subject_pattern=r"(p\d+)").cases
    by_subject: dict[str, set[str | None]] = {}
    for case in cases:
        by_subject.setdefault(case.subject, set()).add(case.split)
    assert all(len(splits) == 1 for splits in by_subject.values())
    counts = {s: sum(case.split == s for case in cases) for s in ("train", "val", "test")}
    assert counts["train"] > 60
    assert min(counts.values()) > 2
    _, labels = cases[0].read(["x"], 2)
    assert labels is not None
    assert labels.max() == 1


def test_what_is_wrong_with_a_folder_is_said(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no images in images or imagesTr"):
        find_cases(tmp_path, "folder", LABELS, dims=3)
    root = write_volumes(tmp_path / "a", ["x", "y"], values=(1, 7))
    with pytest.raises(DataError, match=r"the values 7, .*label_values"):
        find_cases(root, "folder", LABELS, dims=3).cases[0].read(LABELS, 3)
    _, labels = find_cases(root, "folder", LABELS, dims=3, label_values=[7, 1]).cases[0].read(LABELS, 3)
    assert labels is not None
    assert set(np.unique(labels)) == {0, 1, 2}
    with pytest.raises(ConfigError, match="one number above 0"):
        find_cases(root, "folder", LABELS, dims=3, label_values=[0, 1])
    with pytest.raises(ConfigError, match="layout='nifti' is unknown"):
        find_cases(root, "nifti", LABELS, dims=3)
    with pytest.raises(ConfigError, match="needs a group"):
        find_cases(root, "folder", LABELS, dims=3, subject_pattern="x")
    other = sitk.ReadImage(str(root / "labelsTr/x.nii.gz"))
    other.SetOrigin((5.0, 0.0, 0.0))
    sitk.WriteImage(other, str(root / "labelsTr/x.nii.gz"))
    with pytest.raises(DataError, match="another grid than its image"):
        find_cases(root, "folder", LABELS, dims=3, label_values=[7, 1]).cases[0].read(LABELS, 3)
    (root / "labelsTr/y.nii.gz").unlink()
    assert [case.labelled for case in find_cases(root, "folder", LABELS, dims=3).cases] == [True, False]


def test_an_empty_label_map_is_named(tmp_path: Path) -> None:
    root = write_volumes(tmp_path, ["x", "y"], values=(0, 0), splits={"val": ["x", "y"]})
    data = volume_pairs(root)
    data.setup("validate")
    with pytest.raises(DataError, match="case x is empty"):
        data.sets["val"][0]
    with pytest.raises(DataError, match="split 'test' of folder has 0 cases"):
        data.setup("test")


def test_each_image_of_a_training_pair_is_deformed_in_its_own_way(chest: Path) -> None:
    torch.manual_seed(0)
    data = pairs(chest, augment={"shift": 0.1})
    data.setup("fit")
    item = data.sets["train"][0]
    same = {"fixed": item["moving"], "fixed_labels": item["moving_labels"]}
    batch = {key: value[None] for key, value in (item | same).items()}
    found = data.prepare(batch, training=True)
    assert found.keys() == batch.keys()
    for role in ("moving", "fixed"):
        assert not torch.equal(found[role], batch[role])
        assert found[f"{role}_labels"].dtype == batch[f"{role}_labels"].dtype
        assert set(found[f"{role}_labels"].unique().tolist()) == {0, 1, 2}
    assert not torch.equal(found["moving"], found["fixed"])
    assert not torch.equal(found["moving_labels"], found["fixed_labels"])
    images = {key: batch[key] for key in ("moving", "fixed")}
    assert data.prepare(images, training=True).keys() == images.keys()
    assert pairs(chest).augment_config is None


def test_cases_of_another_experiment_are_left_out(chest: Path, tmp_path: Path) -> None:
    listed = tmp_path / "test_images.txt"
    listed.write_text("JPCLN002.png\n\nJPCLN004\nnobody.png\n")
    data = pairs(chest, exclude=str(listed))
    data.setup("fit")
    assert {data.sets["train"].identity(i)["moving"] for i in range(2)} == {"JPCLN001", "JPCLN003"}  # type: ignore[attr-defined]
    assert len(data.sets["train"]) == 2  # type: ignore[arg-type]
    assert len(data.sets["val"]) == 6  # type: ignore[arg-type]
    with pytest.raises(DataError, match="cannot be opened"):
        pairs(chest, exclude=str(tmp_path / "nowhere.txt")).setup("fit")


def test_settings_out_of_range_are_refused(chest: Path) -> None:
    with pytest.raises(ConfigError, match="augment does not know bend"):
        pairs(chest, augment={"bend": 1.0})
    with pytest.raises(ConfigError, match="eval_pairs"):
        pairs(chest, eval_pairs=0)
    with pytest.raises(ConfigError, match="batch_size"):
        pairs(chest, batch_size=0)
    assert FrameSpec(16).shape == (16, 16)
    assert FrameSpec([8, 16, 24]).shape == (8, 16, 24)


@pytest.mark.parametrize("fit", ["pad", "stretch"])
def test_frames_hold_the_whole_image(fit: Any) -> None:
    grid = Grid((30, 20))
    frame = Frame.fit(grid, FrameSpec(40, fit))
    corners = np.array([[-0.5, -0.5], [29.5, 19.5]]) @ frame.matrix.T + frame.offset
    if fit == "stretch":
        np.testing.assert_allclose(corners, [[-0.5, -0.5], [39.5, 39.5]])
    else:
        np.testing.assert_allclose(corners[:, 0], [-0.5, 39.5])
        assert np.ptp(corners[:, 1]) == pytest.approx(40 * 20 / 30)
    assert not frame.cuts


def test_pad_keeps_the_proportions_of_the_body_not_of_pixels() -> None:
    frame = Frame.fit(Grid((30, 20), (1.0, 1.5)), FrameSpec(40))
    assert np.diag(frame.matrix).tolist() == pytest.approx([40 / 30, 40 / 20])


def test_a_model_in_millimetres_needs_millimetres() -> None:
    with pytest.raises(GeometryError, match="moving_spacing_mm"):
        Frame.fit(Grid((30, 20)), FrameSpec(40, "spacing", [1.0, 1.0]))
    frame = Frame.fit(Grid((90, 20), (0.5, 2.0)), FrameSpec(40, "spacing", [1.0, 1.0]))
    assert np.diag(frame.matrix).tolist() == [0.5, 2.0]
    assert frame.cuts
    with pytest.raises(ConfigError, match="needs spacing_mm with 2"):
        FrameSpec(40, "spacing")
    with pytest.raises(ConfigError, match="choose one of pad"):
        FrameSpec(40, "crop")  # type: ignore[arg-type]


def test_shrinking_a_volume_averages() -> None:
    board = (np.indices((24, 24, 24)).sum(0) % 2).astype(np.float32)
    frame = Frame.fit(Grid((24, 24, 24)), FrameSpec([8, 8, 8]))
    middle = frame.image(board)[2:-2, 2:-2, 2:-2]
    np.testing.assert_allclose(middle, 0.5, atol=0.02)
