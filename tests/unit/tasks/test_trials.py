"""Data sets that ask models of every kind, and the rows that their answers become."""

import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import PIL.Image
import pytest
import SimpleITK as sitk
import torch

from anatozoo.errors import ConfigError, DataError, ImageError
from anatozoo.frames.spec import FrameSpec
from anatozoo.methods.acnn.data import StackDataset
from anatozoo.methods.acnn.model import AcnnModel
from anatozoo.methods.acnnprior.model import AcnnPriorModel
from anatozoo.methods.acnnsr.model import AcnnSRModel
from anatozoo.methods.acregnet.model import AcRegNetModel
from anatozoo.methods.postdae.corruptions import KINDS
from anatozoo.methods.postdae.data import PostDAEDataModule
from anatozoo.methods.postdae.module import PostDAEModule
from anatozoo.methods.unet.model import UNetModel
from anatozoo.metrics.cases import OVERLAP, case_numbers, case_row
from anatozoo.metrics.functional import dice
from anatozoo.metrics.tables import metric_names, summarise
from anatozoo.nn.slices import interpolate_slices
from anatozoo.tasks.pairs import choose_pairs, ordered_pairs
from anatozoo.tasks.thick import similarity
from anatozoo.tasks.trials import Conditions, choose_cases, measured, numbers_case
from tests.support.acdc_data import write_acdc
from tests.support.chest_data import write_chest_data
from tests.support.volume_data import write_volumes

ORGANS = ["front", "back"]
FRAME: dict[str, Any] = {"size": [16, 16, 16], "fit": "spacing", "spacing_mm": [1.0, 1.0, 1.0]}
QUICK = Conditions(OVERLAP)


@pytest.fixture(scope="module")
def volumes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    splits = {"train": ["v0"], "val": ["v1", "v2", "v3"]}
    return write_volumes(tmp_path_factory.mktemp("volumes"), ["v0", "v1", "v2", "v3"], splits=splits)


def rows_of(model: Any, root: Path, how: Conditions = QUICK, layout: str = "folder") -> list[dict[str, Any]]:
    cases, _ = choose_cases(model, root, layout, "val")
    return list(measured(model, model.trials(cases, how), how.measures))


def segmenter() -> AcnnModel:
    return AcnnModel(organs=ORGANS, frame=FRAME)


def test_volumes_are_judged_on_their_own_grid(volumes: Path) -> None:
    model = segmenter()
    truth = {case.id: case.read_labels(ORGANS)[0] for case in choose_cases(model, volumes, "auto", "val")[0]}
    given = []

    def ask(image: Any) -> Any:
        given.append(image.pixels.shape)
        return SimpleNamespace(label_map=np.roll(truth[image.name], 1, 0), votes_row=dict)

    model.ask = ask  # type: ignore[method-assign]
    rows = rows_of(model, volumes, replace(QUICK, measures=Conditions().measures))
    assert [row["id"] for row in rows] == ["v1", "v2", "v3"]
    assert given == [each.shape for each in truth.values()]
    for row in rows:
        found = truth[row["id"]]
        assert row["dice/front"] == dice(np.roll(found == 1, 1, 0), found == 1) == 0.75
        assert row["hd_mm/back"] == 1.0
        assert row["dice"] == pytest.approx((row["dice/front"] + row["dice/back"]) / 2)
        assert (row["patient"], row["split"]) == (row["id"], "val")


def test_what_fails_comes_last_and_stops_nothing(volumes: Path, tmp_path: Path) -> None:
    root = tmp_path / "data"
    for folder in ("imagesTr", "labelsTr"):
        (root / folder).mkdir(parents=True)
        for path in (volumes / folder).iterdir():
            (root / folder / path.name).write_bytes(path.read_bytes())
    (root / "splits.json").write_text((volumes / "splits.json").read_text())
    (root / "imagesTr/v1.nii.gz").write_bytes(b"damaged")
    model = segmenter()

    def ask(image: Any) -> Any:
        if image.name == "v2":
            raise ImageError("v2 cannot be answered.")
        return SimpleNamespace(label_map=np.zeros(image.pixels.shape, np.uint8), votes_row=dict)

    model.ask = ask  # type: ignore[method-assign]
    good, *bad = rows_of(model, root)
    assert (good["id"], good["dice/front"], good["missed/back"]) == ("v3", 0, 1)
    assert {row["id"]: "error" in row for row in bad} == {"v1": True, "v2": True}
    assert "v2 cannot be answered." in {row["error"] for row in bad}
    assert all("dice/front" not in row for row in bad)


def test_pairs_that_a_network_does_not_move_are_as_they_were(volumes: Path) -> None:
    model = AcRegNetModel(organs=ORGANS, frame=FRAME)
    for parameter in model.parameters():
        torch.nn.init.zeros_(parameter)
    rows = rows_of(model, volumes)
    assert len(rows) == 6
    assert {(row["moving"], row["fixed"]) for row in rows} == {
        (a, b) for a in ("v1", "v2", "v3") for b in ("v1", "v2", "v3") if a != b
    }
    for row in rows:
        assert row["id"] == f"{row['moving']}->{row['fixed']}"
        assert row["patient"] == row["fixed"]
        assert row["dice"] == row["dice_before"] == pytest.approx((row["dice/front"] + row["dice/back"]) / 2)
        assert row["folding_percent"] == 0
    assert min(row["dice"] for row in rows) < 1
    some = rows_of(model, volumes, replace(QUICK, pairs=2))
    assert [row["id"] for row in some] == [
        row["id"] for row in rows_of(model, volumes, replace(QUICK, pairs=2))
    ]
    assert len(some) == 2


def test_numbers_alone_are_a_case_without_a_picture() -> None:
    case = numbers_case({"folding_percent": 2.0})
    assert case_numbers(case) == {"folding_percent": 2.0}
    assert case.reference.masks == case.prediction.masks == {}


def test_pairs_are_some_of_all_in_their_order() -> None:
    every = ordered_pairs(5)
    assert (len(every), every[0], every[-1]) == (20, (0, 1), (4, 3))
    some = choose_pairs(every, 6)
    assert some == sorted(some)
    assert len(set(some)) == 6
    assert choose_pairs(every, None) == choose_pairs(every, 99) == every


def test_radiographs_are_registered_at_the_side_that_is_asked_for(tmp_path: Path) -> None:
    root = write_chest_data(tmp_path, {"val": 2, "train": 1}, side=64)
    model = AcRegNetModel(organs=["lungs", "heart"], frame=FrameSpec(32))
    sizes = []
    register = model.predict

    def ask(question: Any) -> Any:
        sizes.append([image.grid.size for image in question])
        return register(*question)

    model.ask = ask  # type: ignore[method-assign]
    assert len(rows_of(model, root, replace(QUICK, side=32), "jsrt")) == 2
    assert sizes == [[(32, 32), (32, 32)]] * 2
    bare = AcRegNetModel(organs=[], frame=FrameSpec(32))
    rows = rows_of(bare, root, layout="jsrt")
    assert len(rows) == 2
    assert all("dice" not in row and row["folding_percent"] >= 0 for row in rows)


def repairer() -> PostDAEModule:
    torch.manual_seed(0)
    settings: dict[str, Any] = {"widths": [4, 8, 8], "code": 8, "skips": [2, 4, 8]}
    return PostDAEModule(organs=["lungs", "heart"], frame={"size": 64}, **settings).eval()


def test_masks_are_repaired_as_they_are(tmp_path: Path) -> None:
    root = write_chest_data(tmp_path, {"val": 2, "train": 1}, side=64)
    for path in root.rglob("*.png"):
        if "images" in path.parts:
            path.unlink()  # masks are all that is needed
    rows = rows_of(repairer(), root, Conditions(), "jsrt")
    assert len(rows) == 2
    for row in rows:
        assert row["dice_before/heart"] == row["dice_before"] == 1
        assert row["hd_px_before/lungs"] == 0
        assert row["dice"] == pytest.approx((row["dice/lungs"] + row["dice/heart"]) / 2)


def test_damaged_masks_are_those_of_the_validation(tmp_path: Path) -> None:
    root, model = write_chest_data(tmp_path, {"val": 2, "train": 1}, side=64), repairer()
    rows = rows_of(model, root, replace(QUICK, degrade={"swap": 0.05}), "jsrt")
    assert [row["degradation"] for row in rows] == ["clean", *KINDS] * 2
    data = PostDAEDataModule(
        str(root), organs=model.organs, frame=model.frame, degrade={"swap": 0.05}, batch_size=99
    )
    data.setup("validate")
    [batch] = data.val_dataloader()
    with torch.no_grad():
        expected = [case_row(case, OVERLAP) for case in model.cases(model.infer(batch), batch)]
    for row, other in zip(rows, expected, strict=True):
        for name in ("dice", "dice_before", "dice/lungs", "dice/heart"):
            # One by one and in a batch, sums run in another order.
            assert row[name] == pytest.approx(other[name], abs=2e-3, nan_ok=True), name
    with pytest.raises(ConfigError, match="does not know dirt"):
        rows_of(model, root, replace(QUICK, degrade={"dirt": 1}), "jsrt")


def test_label_maps_come_back_from_their_codes(volumes: Path) -> None:
    model = AcnnPriorModel(organs=ORGANS, frame=FRAME)
    seen = []

    def reconstruct(mask: Any, **_: Any) -> np.ndarray:
        import SimpleITK as sitk

        seen.append(mask.GetSpacing())
        return sitk.GetArrayFromImage(mask)

    model.reconstruct = reconstruct  # type: ignore[method-assign, assignment]
    rows = rows_of(model, volumes)
    assert [(row["dice"], row["dice/front"], row["dice/back"]) for row in rows] == [(1, 1, 1)] * 3
    assert seen == [(1.0, 1.0, 1.0)] * 3


def test_restored_slices_are_judged_by_the_true_ones(volumes: Path) -> None:
    model = AcnnSRModel(frame=FRAME, factor=4, width=4, depth=1)

    def ask(thick: Any) -> np.ndarray:
        assert thick.grid.spacing_mm == (1.0, 1.0, 4.0)
        return interpolate_slices(torch.from_numpy(thick.pixels)[None, None], 4)[0, 0].numpy()

    model.ask = ask  # type: ignore[method-assign]
    rows = rows_of(model, volumes)
    assert len(rows) == 3
    for row in rows:
        assert (row["psnr_gain"], row["ssim_gain"]) == (0, 0)
        assert 0 < row["ssim"] < 1
    sharp = rows_of(model, volumes, replace(QUICK, profile="box"))
    assert [row["psnr"] for row in sharp] != [row["psnr"] for row in rows]
    truth = np.random.default_rng(0).random((9, 10, 11)).astype(np.float32)
    assert similarity(truth + 0, truth)["ssim"] == pytest.approx(1)


def test_radiographs_with_masks_of_any_name(tmp_path: Path) -> None:
    root = write_chest_data(tmp_path / "jsrt", {"val": 1}, side=64)
    mine = tmp_path / "mine"
    for folder in ("images", "masks"):
        (mine / folder).mkdir(parents=True)
    [image] = [path for path in root.rglob("*.png") if "images" in path.parts]
    (mine / "images/a.png").write_bytes(image.read_bytes())
    labels = np.zeros((64, 64), np.uint8)
    labels[10:30, 10:30] = 1
    PIL.Image.fromarray(labels).save(mine / "masks/a.png")
    (mine / "splits.json").write_text('{"val": ["a"]}')
    model = UNetModel(organs=["lungs"], frame={"size": 64}).eval()
    [row] = rows_of(model, mine)
    assert (row["id"], row["dataset"]) == ("a", "mine")
    assert 0 <= row["dice/lungs"] <= 1


def test_data_that_do_not_fit_are_refused_in_a_sentence(volumes: Path, tmp_path: Path) -> None:
    chest = write_chest_data(tmp_path / "chest", {"val": 1, "train": 1}, side=64)
    hearts = write_acdc(tmp_path / "hearts", splits={"val": [1], "train": [2, 3]})
    model = segmenter()
    for wrong, root, layout, split, message in (
        (ConfigError, chest, "jsrt", "val", "holds no 3-D volumes, which the model takes"),
        (ConfigError, volumes, "nothing", "val", "layout='nothing' is unknown"),
        (DataError, volumes, "folder", "test", "none of the 4 cases .* in split 'test'; .* train, val"),
        (DataError, tmp_path / "nowhere", "folder", "val", "is not a folder"),
        (ConfigError, hearts, "acdc", "val", "ACDC has no front, back"),
    ):
        with pytest.raises(wrong, match=message):
            choose_cases(model, root, layout, split)
    for path in (chest / "images").glob("*"):
        path.unlink()
    unet = UNetModel(organs=["heart"], frame={"size": 64})
    with pytest.raises(DataError, match="1 lack the image, 0 the annotation"):
        choose_cases(unet, chest, "jsrt", "val")
    alone = AcRegNetModel(organs=ORGANS, frame=FRAME)
    cases, lacking = choose_cases(alone, volumes, "folder", "train")
    assert (len(cases), lacking) == (1, 0)
    with pytest.raises(DataError, match="takes two cases, and the split has 1"):
        alone.trials(cases, QUICK)


def test_facts_of_a_manifest_are_never_taken_for_measured_values(volumes: Path, tmp_path: Path) -> None:
    root = tmp_path / "data"
    shutil.copytree(volumes, root)
    facts = "thickness_mm,error,id,patient,dataset,dice,note/x,phase"
    lines = [f"image,mask,subject,split,{facts}"]
    lines += [
        f"imagesTr/{name}.nii.gz,labelsTr/{name}.nii.gz,s-{name},val,thick,none,7,x,y,0.1,n,ED"
        for name in ("v1", "v2")
    ]
    (root / "splits.json").unlink()
    (root / "manifest.csv").write_text("\n".join(lines))
    model = AcnnPriorModel(organs=ORGANS, frame=FRAME)
    model.reconstruct = lambda mask, **_: sitk.GetArrayFromImage(mask)  # type: ignore[method-assign, assignment]
    rows = rows_of(model, root)
    for row, name in zip(rows, ("v1", "v2"), strict=True):
        assert (row["id"], row["patient"], row["split"], row["dataset"]) == (name, f"s-{name}", "val", "data")
        assert (row["dice"], row["phase"], "error" in row) == (1, "ED", False)
        given = {key: value for key, value in row.items() if key.endswith(" (given)")}
        assert given == {
            "thickness_mm (given)": "thick",
            "error (given)": "none",
            "id (given)": "7",
            "patient (given)": "x",
            "dataset (given)": "y",
            "dice (given)": "0.1",
            "note x (given)": "n",
        }
    metrics = summarise(rows)["metrics"]
    assert set(metrics) == set(
        metric_names([{k: v for k, v in rows[0].items() if isinstance(v, int | float)}])
    ) - {f"missed/{organ}" for organ in ORGANS}
    stacks = StackDataset(choose_cases(model, root, "folder", "val")[0], ORGANS, model.frame)
    known = stacks.identity(0)
    assert (known["id"], known["thickness_mm (given)"], known["phase"]) == ("v1", "thick", "ED")
    assert not metric_names([known])


def test_an_image_that_prediction_refuses_does_not_stop_its_batch(tmp_path: Path) -> None:
    root = write_chest_data(tmp_path, {"val": 3, "train": 1}, side=64)
    model = UNetModel(organs=["heart"], frame={"size": 64}).eval()
    expected = rows_of(model, root, layout="jsrt")
    assert len(expected) == 3
    refused, segment = expected[1]["id"], model._segment
    sizes = []

    def choosy(images: Any, *more: Any) -> Any:
        sizes.append(len(images))
        if any(refused in image.name for image in images):
            raise ImageError(f"{refused} is no radiograph.")
        return segment(images, *more)

    model._segment = choosy  # type: ignore[method-assign]
    first, second, failed = rows_of(model, root, layout="jsrt")
    assert sizes == [3, 1, 1, 1]
    assert [first["id"], second["id"]] == [expected[0]["id"], expected[2]["id"]]
    assert (failed["id"], failed["error"]) == (refused, f"{refused} is no radiograph.")
    assert first["dice/heart"] == pytest.approx(expected[0]["dice/heart"], abs=1e-3, nan_ok=True)


def test_a_given_spacing_counts_for_damaged_masks(tmp_path: Path) -> None:
    root = tmp_path / "mine"
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True)
    labels = np.zeros((64, 64), np.uint8)
    labels[10:30, 10:30], labels[40:50, 10:30] = 1, 2
    for folder in ("images", "masks"):
        PIL.Image.fromarray(labels).save(root / folder / "a.png")
    (root / "splits.json").write_text('{"val": ["a"]}')
    bare = rows_of(repairer(), root, Conditions(degrade={}))
    assert not any("hd_mm/heart" in row for row in bare)
    for row in rows_of(repairer(), root, Conditions(degrade={}, spacing_mm=(0.5,))):
        assert row["hd_mm_before/heart"] == pytest.approx(0.5 * row["hd_px_before/heart"])


def test_constant_volumes_are_not_restored(volumes: Path) -> None:
    model = AcnnSRModel(frame=FRAME, factor=4, width=4, depth=1)
    [case, *_] = choose_cases(model, volumes, "folder", "val")[0]
    image = case.read_image(3)
    flat = replace(case, image=lambda: replace(image, pixels=np.full_like(image.pixels, 3)))
    [row] = measured(model, model.trials([flat], QUICK))
    assert "has the same value" in row["error"]


def test_few_images_are_kept_for_pairs(volumes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("anatozoo.tasks.pairs.KEPT", 2)
    model = AcRegNetModel(organs=ORGANS, frame=FRAME)
    read = []
    cases = [
        replace(case, image=lambda case=case: read.append(case.id) or case.image())
        for case in choose_cases(model, volumes, "folder", "val")[0]
    ]
    for trial in model.trials(cases, QUICK):
        trial.read()
    # The moving image stays; of the fixed ones the last.
    assert read == ["v1", "v2", "v3", "v2", "v1", "v3", "v1", "v2"]
