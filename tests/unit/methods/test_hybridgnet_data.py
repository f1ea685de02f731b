from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from anatozoo.errors import ConfigError, DataError
from anatozoo.methods.hybridgnet.data import ChestDataset, HybridGNetDataModule
from anatozoo.nn import graphs
from anatozoo.nn.raster import polygon_inside
from tests.support.chest_data import write_chest_data


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_chest_data(tmp_path_factory.mktemp("chest"))


def data(root: Path, **settings: Any) -> HybridGNetDataModule:
    module = HybridGNetDataModule(
        str(root), **{"layout": "jsrt", "batch_size": 2, "frame": {"size": 64}} | settings
    )
    module.setup("fit")
    return module


def test_splits_have_their_cases(root: Path) -> None:
    module = data(root)
    module.setup("test")
    assert {name: len(cases) for name, cases in module.sets.items()} == {"train": 5, "val": 5, "test": 2}
    assert [case.id for case in module.sets["val"].cases][:2] == ["JPCLN006", "JPCLN007"]


def test_items_have_the_documented_shapes_and_ranges(root: Path) -> None:
    item = data(root).sets["train"][3]
    shapes = {k: tuple(v.shape) for k, v in item.items()}
    assert shapes == {
        "image": (1, 64, 64), "landmarks": (166, 2), "landmark_weight": (166,),
        "masks": (5, 16, 16), "known": (5,), "spacing_mm": (2,), "index": (), "domain": (), "labelled": (),
    }  # fmt: skip
    assert int(item["index"]) == 3
    assert 0 <= float(item["image"].min()) < float(item["image"].max()) <= 1
    assert bool((item["landmark_weight"] == 1).all())
    # Masks stand in for landmarks only.
    assert not item["known"].any()


def test_landmarks_surround_the_organs_in_the_network_frame(root: Path) -> None:
    module = data(root, frame={"size": 128})
    parts = graphs.organ_slices(module.counts)
    for i in range(5):
        item = module.sets["val"][i]
        # A pixel's centre u·S in pixels lies at u + 1/(2S) of the frame's width.
        points = item["landmarks"] + 0.5 / 128
        lung = polygon_inside(points[None, parts["lung_left"]], 128, 128)[0]
        heart = polygon_inside(points[None, parts["heart"]], 128, 128)[0]
        assert float(item["image"][0][lung & ~heart].mean()) < 0.45 < float(item["image"][0][heart].mean())


def test_organs_select_and_order_the_landmarks(root: Path) -> None:
    every, some = data(root), data(root, organs={"heart": 26, "lung_right": 44})
    parts = graphs.organ_slices(every.counts)
    expected = every.sets["train"][0]["landmarks"]
    found = some.sets["train"][0]["landmarks"]
    assert torch.equal(found, torch.cat([expected[parts["heart"]], expected[parts["lung_right"]]]))


def test_another_number_of_landmarks_is_an_error(root: Path) -> None:
    with pytest.raises(DataError, match="JPCLN001: heart has 26 landmarks"):
        data(root, organs={"heart": 30}).sets["train"][0]


def test_masks_stand_in_for_missing_landmarks(tmp_path: Path) -> None:
    root = write_chest_data(tmp_path, {"train": 1, "val": 1})
    (root / "landmarks" / "H" / "JPCLN001.npy").unlink()
    mask = np.zeros((128, 128), np.uint8)
    mask[64:96, 32:64] = 255
    for organ in ("heart", "lung_left"):
        (root / "masks" / organ).mkdir(parents=True)
        cv2.imwrite(str(root / "masks" / organ / "JPCLN001.png"), mask)
    module = data(root)
    item = module.sets["train"][0]
    assert item["known"].tolist() == [0, 0, 1, 0, 0]
    expected = torch.zeros(16, 16)
    expected[8:12, 4:8] = 1
    assert torch.equal(item["masks"][2], expected)
    assert int(item["landmark_weight"].sum()) == 166 - 26
    only = data(root, mask_organs=["heart", "lung_right", "lung_left", "clavicle_right", "clavicle_left"])
    assert only.sets["train"][0]["known"].tolist() == [1, 0, 0, 0, 0]


def test_mean_landmarks_are_those_of_the_training_set(root: Path) -> None:
    module = data(root)
    expected = torch.stack([module.sets["train"][i]["landmarks"] for i in range(5)]).mean(0)
    torch.testing.assert_close(module.mean_landmarks(), expected)


def test_mean_landmarks_without_any_are_the_middle_of_the_frame(tmp_path: Path) -> None:
    root = write_chest_data(tmp_path, {"train": 2, "val": 1})
    for path in (root / "landmarks" / "H").glob("*.npy"):
        path.unlink()
    module = data(root)
    heart = graphs.organ_slices(module.counts)["heart"]
    assert bool((module.mean_landmarks()[heart] == 0.5).all())


def test_without_split_lists_patients_are_dealt_to_both_splits(tmp_path: Path) -> None:
    root = write_chest_data(tmp_path, {"train": 12})
    (root / "splits" / "train.txt").unlink()
    module = data(root)
    names = {k: {case.id for case in v.cases} for k, v in module.sets.items()}
    assert names["train"]
    assert names["val"]
    assert len(names["train"] | names["val"]) == 12


def test_training_is_shuffled_and_repeated_and_validation_is_in_order(root: Path) -> None:
    module = data(root, repeat=3)
    torch.manual_seed(0)
    train = [batch["index"] for batch in module.train_dataloader()]
    assert len(train) == 7  # 15 images in pairs, the last one dropped
    assert sorted(set(torch.cat(train).tolist())) == [0, 1, 2, 3, 4]
    order = torch.cat([batch["index"] for batch in module.val_dataloader()])
    assert order.tolist() == [0, 1, 2, 3, 4]
    assert [len(batch["index"]) for batch in data(root, batch_size=8).train_dataloader()] == [5]


def transferred(module: HybridGNetDataModule, training: bool) -> dict[str, torch.Tensor]:
    loop = SimpleNamespace(total_batch_idx=0)
    module.trainer = SimpleNamespace(training=training, fit_loop=loop, global_rank=0)  # type: ignore[assignment]
    batch = next(iter(module.val_dataloader()))
    return module.on_after_batch_transfer(batch, 0)


def test_augmentation_is_for_training_only(root: Path) -> None:
    module = data(root)
    plain = next(iter(module.val_dataloader()))
    held = transferred(module, training=False)
    assert torch.equal(held["image"], plain["image"])
    moved = transferred(module, training=True)
    assert not torch.equal(moved["image"], plain["image"])
    assert not torch.equal(moved["landmarks"], plain["landmarks"])
    off = transferred(data(root, augment=None), training=True)
    assert torch.equal(off["image"], plain["image"])


def test_masks_that_no_image_has_are_dropped(root: Path) -> None:
    found = transferred(data(root), training=True)
    assert set(found) == {
        "image",
        "landmarks",
        "landmark_weight",
        "spacing_mm",
        "index",
        "domain",
        "labelled",
    }


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"augment": {"rotate": 3.0}}, "does not know rotate; it has rotation_deg"),
        ({"repeat": 0}, "at least 1"),
        ({"batch_size": 0}, "at least 1"),
        ({"organs": "liver"}, "choose one of"),
    ],
)
def test_impossible_settings_are_refused(root: Path, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        data(root, **settings)


def test_a_split_without_cases_says_where_it_looked(tmp_path: Path) -> None:
    root = write_chest_data(tmp_path, {"train": 1})
    with pytest.raises(DataError, match="split 'val'"):
        data(root)


def test_images_are_read_once(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = data(root).sets["val"]
    dataset[0]
    monkeypatch.setattr(ChestDataset, "read", lambda *_: pytest.fail("read again"))
    for name in ("image", "landmarks", "landmark_weight", "spacing_mm"):
        dataset[0][name].zero_()  # what is handed out belongs to the caller
        assert bool(dataset[0][name].any())


def test_pixels_of_the_frame_have_the_size_of_what_they_show(root: Path) -> None:
    # The generated pictures of JSRT's name have 128 pixels for its 2048 of 0.175 mm.
    for size, expected in ((64, 5.6), (128, 2.8), (256, 1.4)):
        item = data(root, frame={"size": size}).sets["train"][0]
        assert item["spacing_mm"].tolist() == pytest.approx([expected, expected])


def test_an_unknown_spacing_stays_unknown(tmp_path: Path) -> None:
    root = write_chest_data(tmp_path, {"train": 1, "val": 1}, side=1024)
    for path in [*root.rglob("JPCLN*.npy"), *root.rglob("JPCLN*.png")]:
        path.rename(path.with_name(path.name.replace("JPCLN", "CHN")))
    for path in (root / "splits").glob("*.txt"):
        path.write_text(path.read_text().replace("JPCLN", "CHN"))
    found = data(root, layout=["landmarks"]).sets["train"]
    assert bool(found[0]["spacing_mm"].isnan().all())
    assert found.identity(0) == {"id": "CHN001", "patient": "CHN001", "split": "train", "dataset": "unknown"}


def test_cases_say_who_they_are(root: Path) -> None:
    found = data(root).sets["val"].identity(1)
    assert list(found.items())[:2] == [("id", "JPCLN007"), ("patient", "JPCLN007")]
    assert (found["split"], found["dataset"]) == ("val", "JSRT")
    assert None not in found.values()


def test_dealt_cases_know_their_split(tmp_path: Path) -> None:
    root = write_chest_data(tmp_path, {"train": 12})
    (root / "splits" / "train.txt").unlink()
    for split, cases in data(root).sets.items():
        assert {cases.identity(i)["split"] for i in range(len(cases))} == {split}
