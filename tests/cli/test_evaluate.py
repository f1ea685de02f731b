import csv
import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch

from anatozoo.cli.main import main
from anatozoo.frames.spec import FrameSpec
from anatozoo.io.images import Image
from anatozoo.io.landmarks import draw_label_map
from anatozoo.methods.acregnet.model import AcRegNetModel
from anatozoo.methods.postdae.corruptions import KINDS
from anatozoo.methods.postdae.model import PostDAEModel
from anatozoo.organs import CHEST_ORGANS
from anatozoo.results.contours import ContourResult
from anatozoo.results.labels import LabelResult
from anatozoo.results.segmentation import SegmentationResult
from anatozoo.tasks.base import Predictor
from anatozoo.tasks.images import ImageTask
from tests.support.chest_data import write_case
from tests.support.phantoms import make_chest_phantom

NAMES = ["JPCLN001", "JPCLN002", "JPCLN003"]


class Labeller(ImageTask):
    """Stands in for a U-Net: a label map with both lungs under one label, cut by the heart."""

    checkpoint_name = "labeller"
    checkpoint_version = "1.0.0"

    def __init__(self) -> None:
        super().__init__(FrameSpec(64))
        self.organs = ["lungs", "heart"]

    def _answers(self, batch: torch.Tensor) -> np.ndarray:
        raise NotImplementedError

    _result = None  # type: ignore[assignment]

    def predict_batch(  # type: ignore[override]
        self, xs: Iterable[Image], batch_size: int = 8
    ) -> Iterator[SegmentationResult]:
        for image in xs:
            organs = make_chest_phantom(*image.size).landmarks
            drawn = draw_label_map({o: organs[o] for o in ("lung_right", "lung_left", "heart")}, image.size)
            labels = np.array([0, 1, 1, 2], np.uint8)[drawn]
            yield LabelResult("labeller", "1.0.0", image.name, image.size, None, labels, ("lungs", "heart"))


class ShiftedTruth(Labeller):
    """Stands in for a model: draws the phantom's contours, some pixels to the right."""

    checkpoint_name = "shifted"
    checkpoint_version = "2.0.0"

    def __init__(self) -> None:
        super().__init__()
        self.organs = list(CHEST_ORGANS)
        self.seen: list[Image] = []

    def predict_batch(  # type: ignore[override]
        self, xs: Iterable[Image], batch_size: int = 8
    ) -> Iterator[SegmentationResult]:
        for image in xs:
            self.seen.append(image)
            points = make_chest_phantom(*image.size).landmarks
            moved = {organ: p + [2.0, 0.0] for organ, p in points.items()}
            yield ContourResult("shifted", "2.0.0", image.name, image.size, image.spacing_mm, moved)


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> ShiftedTruth:
    stand_in = ShiftedTruth()
    monkeypatch.setattr("anatozoo.zoo.hub.load", lambda name, **options: stand_in)
    return stand_in


@pytest.fixture
def jsrt(tmp_path: Path) -> Path:
    root = tmp_path / "data"
    phantom = make_chest_phantom(1024, 1024)
    (root / "splits").mkdir(parents=True)
    (root / "splits/val.txt").write_text("\n".join(NAMES))
    (root / "clinical.csv").write_text(
        "File,Dataset,Sex,Age\n"
        + "\n".join(f"{n}.png,JSRT,{s},50" for n, s in zip(NAMES, "MMF", strict=True))
    )
    for name in NAMES:
        write_case(root, name, phantom.image, {o: np.rint(p) for o, p in phantom.landmarks.items()})
    return root


def test_landmark_data(
    model: ShiftedTruth, jsrt: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    out = tmp_path / "out"
    command = ["evaluate", "shifted", "--data", "jsrt", "--root", str(jsrt), "--split", "val"]
    assert main([*command, "--out", str(out), "--rounding", "nearest"]) == 0
    summary = json.loads((out / "shifted_jsrt_val.json").read_text())
    assert (summary["checkpoint"], summary["version"], summary["images"]) == ("shifted", "2.0.0", 3)
    assert summary["command"] == (
        "anatozoo evaluate shifted --data jsrt --root DIR --split val --rounding nearest"
    )
    assert set(summary["versions"]) == {"anatozoo", "torch", "numpy", "python"}
    assert summary["commit"] is None or re.fullmatch("[0-9a-f]{40}", summary["commit"])
    assert str(tmp_path) not in (out / "shifted_jsrt_val.json").read_text()
    assert summary["split_origin"] == {"dealt": 0, "listed": 3, "lists": ["splits"]}
    assert "was dealt" not in (out / "shifted_jsrt_val.md").read_text()
    metrics = summary["metrics"]
    assert metrics["mse_px2"]["mean"] == pytest.approx(2.0, abs=0.5)
    assert metrics["dice/lungs"]["mean"] > 0.98
    assert metrics["hd_mm/heart"]["median"] == pytest.approx(0.35 * metrics["hd_px/heart"]["median"])
    assert {value: part["images"] for value, part in summary["groups"]["sex"].items()} == {"F": 1, "M": 2}
    rows = list(csv.DictReader((out / "shifted_jsrt_val.csv").read_text().splitlines()))
    assert [(row["id"], row["sex"], row["age"]) for row in rows] == [
        ("JPCLN001", "M", "50.0"),
        ("JPCLN002", "M", "50.0"),
        ("JPCLN003", "F", "50.0"),
    ]
    assert re.search(r"^\| dice/lungs +\| +3 \| +0 \|", capsys.readouterr().out, re.MULTILINE)


def test_mask_data_of_any_shape(model: ShiftedTruth, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    rows = ["image,mask,patient,sex,age,view"]
    (tmp_path / "images").mkdir()
    (tmp_path / "masks").mkdir()
    for i in range(4):
        phantom = make_chest_phantom(300, 240)
        PIL.Image.fromarray(phantom.image).save(tmp_path / "images" / f"c{i}.png")
        result = ContourResult("t", "1", "t", (300, 240), None, phantom.landmarks)
        labels = np.zeros((240, 300), np.uint8)
        if i != 3:
            labels[result.masks["lung_right"]], labels[result.masks["lung_left"]] = 1, 2
        else:
            labels[:5, :5], labels[:5, -5:] = 1, 2
        PIL.Image.fromarray(labels).save(tmp_path / "masks" / f"c{i}.png")
        rows.append(f"c{i}.png,c{i}.png,p{i},M,40,{'PA' if i < 2 else 'AP'}")
    (tmp_path / "metadata.csv").write_text("\n".join(rows))
    assert main(["evaluate", "shifted", "--data", str(tmp_path), "--split", "all", "--json"]) == 0
    printed = capsys.readouterr()
    summary = json.loads(printed.out)
    # No list says which patients are for validation.
    assert summary["split_origin"] == {"dealt": 4, "listed": 0, "lists": []}
    assert printed.err.count("The splits were DEALT") == 1
    overlaps = [name for name in summary["metrics"] if name.startswith("dice")]
    assert overlaps == ["dice/lung_right", "dice/lung_left", "dice/lungs"]
    assert summary["metrics"]["hd_px/lungs"]["n"] == 4
    assert not any("_mm/" in name or name.startswith("mse") for name in summary["metrics"])
    assert summary["failures"]["failed"] == 1
    assert summary["groups"]["view"]["AP"]["failures"]["rate"] == 0.5
    assert summary["groups"]["view"]["PA"]["metrics"]["dice/lungs"]["min"] > 0.9
    assert summary["data"] == tmp_path.name


def test_occlusion_repeats_every_image_at_every_position(
    model: ShiftedTruth, jsrt: Path, capsys: pytest.CaptureFixture
) -> None:
    command = ["evaluate", "shifted", "--data", "jsrt", "--root", str(jsrt), "--json"]
    assert main([*command, "--occlusion", "96", "--occlusion-positions", "2"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["images"] == 3
    assert summary["metrics"]["dice/heart"]["n"] == 6
    assert summary["occlusion"]["dice"]["mean"] > 0.9
    assert summary["occlusion"]["hd_mm"]["sd"] == pytest.approx(0.0)
    assert summary["command"].endswith("--occlusion 96 --occlusion-positions 2 --seed 0")
    first, other = model.seen[0].pixels, model.seen[3].pixels
    assert (first != other).sum() > 96 * 96 / 2
    np.testing.assert_array_equal(first == first.min(), model.seen[1].pixels == first.min())


def test_cut_organs_never_overwrite_the_tables_of_whole_ones(
    model: ShiftedTruth, jsrt: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    command = ["evaluate", "shifted", "--data", "jsrt", "--root", str(jsrt), "--out", str(tmp_path / "out")]
    assert main(command) == 0
    assert main([*command, "--exclusive"]) == 0
    capsys.readouterr()
    tables = {path.name for path in (tmp_path / "out").glob("*.json")}
    assert tables == {"shifted_jsrt_val.json", "shifted_jsrt_val_exclusive.json"}
    commands = [json.loads((tmp_path / "out" / name).read_text())["command"] for name in sorted(tables)]
    assert ["--exclusive" in command.split() for command in commands] == [False, True]


def test_an_unreadable_image_does_not_stop_the_others(
    model: ShiftedTruth, jsrt: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    path = jsrt / "images/JPCLN002.png"
    path.write_bytes(path.read_bytes()[:2000])
    command = ["evaluate", "shifted", "--data", "jsrt", "--root", str(jsrt), "--out", str(tmp_path / "out")]
    assert main([*command, "--json"]) == 3
    out, err = capsys.readouterr()
    summary = json.loads(out)
    assert list(summary["unread"]) == ["JPCLN002"]
    assert f"failed: JPCLN002: {summary['unread']['JPCLN002']}" in err
    assert summary["images"] == summary["metrics"]["mse_px2"]["n"] == 2
    rows = list(csv.DictReader((tmp_path / "out/shifted_jsrt_val.csv").read_text().splitlines()))
    assert [row["id"] for row in rows if row["error"]] == ["JPCLN002"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data", "jsrt"], "needs --root"),
        (["--data", "nowhere"], "neither one of"),
        (["--data", "jsrt", "--root", "ROOT", "--split", "test"], "is in split 'test'"),
        (["--data", "jsrt", "--root", "nowhere"], "nowhere is not a folder; --root"),
        (["--data", "jsrt", "--root", "ROOT", "--spacing-mm", "1", "1"], "is one number"),
        (["--data", "jsrt", "--root", "ROOT", "--pairs", "2"], "shifted does not use --pairs"),
        (["--data", "jsrt", "--root", "ROOT", "--degrade"], "shifted does not use --degrade"),
        (["--data", "jsrt", "--root", "ROOT", "--labels", "heart=1"], "says itself what its label maps mean"),
        (["--data", "covid", "--root", "ROOT"], "nothing of layout 'covid'"),
    ],
)
def test_nothing_to_evaluate(
    model: ShiftedTruth, jsrt: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture
) -> None:
    assert main(["evaluate", "shifted", *(str(jsrt) if a == "ROOT" else a for a in arguments)]) == 1
    assert message in capsys.readouterr().err


def test_annotations_without_images(model: ShiftedTruth, jsrt: Path, capsys: pytest.CaptureFixture) -> None:
    for path in (jsrt / "images").iterdir():
        path.unlink()
    assert main(["evaluate", "shifted", "--data", "jsrt", "--root", str(jsrt)]) == 1
    assert "3 lack the image" in capsys.readouterr().err


class Blank(Labeller):
    """Stands in for a model that finds nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.organs = ["lung_right", "heart"]

    def predict_batch(  # type: ignore[override]
        self, xs: Iterable[Image], batch_size: int = 8
    ) -> Iterator[SegmentationResult]:
        for image in xs:
            labels = np.zeros(image.size[::-1], np.uint8)
            yield LabelResult("blank", "1", image.name, image.size, None, labels, tuple(self.organs))


def labelled_folder(root: Path) -> Path:
    """Two radiographs whose label maps show the right lung by 1 and the heart by 7."""
    (root / "images").mkdir(parents=True)
    (root / "masks").mkdir()
    phantom = make_chest_phantom(120, 100)
    drawn = draw_label_map({organ: phantom.landmarks[organ] for organ in ("lung_right", "heart")}, (120, 100))
    for name in ("a", "b"):
        PIL.Image.fromarray(phantom.image).save(root / f"images/{name}.png")
        PIL.Image.fromarray(np.array([0, 1, 7], np.uint8)[drawn]).save(root / f"masks/{name}.png")
    return root


def test_a_misspelt_organ_is_said(model: ShiftedTruth, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    command = ["evaluate", "shifted", "--data", str(labelled_folder(tmp_path)), "--split", "all", "--json"]
    assert main([*command, "--labels", "lung_right=1,hart=7"]) == 0
    printed = capsys.readouterr()
    assert "no case annotates lung_left, heart, clavicle_right, clavicle_left, so" in printed.err
    assert "the data annotate hart, which may be meant for heart." in printed.err
    assert "dice/lung_right" in json.loads(printed.out)["metrics"]
    model.organs = ["lung_right", "heart"]
    assert main([*command, "--labels", "lung_right=1,heart=7"]) == 0
    assert "annotate" not in capsys.readouterr().err
    # A pair is compared as one organ, whatever the model calls its parts.
    model.organs = ["lung_right", "lung_left", "heart"]
    assert main([*command, "--labels", "lungs=1,heart=7"]) == 0
    assert "annotate" not in capsys.readouterr().err


def test_an_evaluation_without_a_number_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr("anatozoo.zoo.hub.load", lambda name, **options: Blank())
    root = labelled_folder(tmp_path)
    for path in (root / "masks").iterdir():
        labels = np.array(PIL.Image.open(path))
        PIL.Image.fromarray(np.where(labels == 7, labels, 0).astype(np.uint8)).save(path)
    command = ["evaluate", "blank", "--data", str(root), "--split", "all", "--out", str(tmp_path / "out")]
    assert main([*command, "--labels", "lung_right=1,hart=7"]) == 1
    said = capsys.readouterr().err
    assert "nothing could be measured in 2 images: no case annotates heart" in said
    assert "hart, which may be meant for heart" in said
    assert not list((tmp_path / "out").glob("*"))


@pytest.mark.parametrize("wrong", [["--batch-size", "0"], ["--spacing-mm", "-1"], ["--occlusion", "nan"]])
def test_wrong_arguments_are_usage_errors(wrong: list[str], capsys: pytest.CaptureFixture) -> None:
    assert main(["evaluate", "shifted", "--data", "jsrt", *wrong]) == 2
    assert wrong[0] in capsys.readouterr().err


def metrics_of(capsys: pytest.CaptureFixture) -> dict:
    return json.loads(capsys.readouterr().out)["metrics"]


def test_label_maps_against_landmarks_and_masks(
    jsrt: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr("anatozoo.zoo.hub.load", lambda name, **options: Labeller())
    command = [
        "evaluate",
        "labeller",
        "--data",
        "jsrt",
        "--root",
        str(jsrt),
        "--json",
        "--rounding",
        "nearest",
    ]
    assert main(command) == 0
    uncut = metrics_of(capsys)
    assert uncut["dice/heart"]["min"] == 1.0
    # The reference is whole lungs, as in the published evaluation of a U-Net.
    assert 0.85 < uncut["dice/lungs"]["min"] < 0.99
    assert uncut["hd_mm/lungs"]["mean"] == pytest.approx(0.35 * uncut["hd_px/lungs"]["mean"])
    assert "dice/lung_right" not in uncut
    assert main([*command, "--exclusive"]) == 0
    cut = metrics_of(capsys)
    assert cut["dice/lungs"]["min"] == cut["dice/heart"]["min"] == 1.0
    phantom = make_chest_phantom(1024, 1024)
    for organ in ("lung_right", "lung_left"):
        (jsrt / "masks" / organ).mkdir(parents=True)
        mask = ContourResult("t", "1", "t", (1024, 1024), None, phantom.landmarks).masks[organ]
        small = PIL.Image.fromarray(mask).resize((512, 512), PIL.Image.Resampling.NEAREST)
        for name in NAMES:
            small.save(jsrt / "masks" / organ / f"{name}.png")
            for path in (jsrt / "landmarks").glob(f"*/{name}.npy"):
                path.unlink()
    assert main(command) == 0
    masks = metrics_of(capsys)
    assert 0.85 < masks["dice/lungs"]["min"] < 0.99
    assert masks["hd_mm/lungs"]["mean"] == pytest.approx(0.7 * masks["hd_px/lungs"]["mean"])
    assert "dice/heart" not in masks


def test_what_is_measured_is_asked_for(
    model: ShiftedTruth, jsrt: Path, capsys: pytest.CaptureFixture
) -> None:
    command = ["evaluate", "shifted", "--data", "jsrt", "--root", str(jsrt), "--json", "--tolerance", "0.1"]
    assert main([*command, "--missing", "nan", "--spacing-mm", "0.5"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["command"].endswith("--rounding truncate --spacing-mm 0.5 --missing nan --tolerance 0.1")
    assert 0 < summary["metrics"]["nsd/heart"]["mean"] < 1
    assert summary["metrics"]["hd_mm/heart"]["mean"] == 0.5 * summary["metrics"]["hd_px/heart"]["mean"]


def test_damaged_masks_have_a_table_by_damage_and_a_command_that_repeats_it(
    jsrt: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    model = PostDAEModel(organs=["lungs", "heart"], frame=FrameSpec(32), widths=[4, 8], code=8, skips=[2, 4])
    monkeypatch.setattr("anatozoo.zoo.hub.load", lambda name, **options: model.eval())
    for path in (jsrt / "images").iterdir():
        path.unlink()  # masks drawn from the landmarks are enough
    command = ["evaluate", "repair", "--data", "jsrt", "--root", str(jsrt), "--degrade", "swap=0.02"]
    assert main([*command, "--out", str(tmp_path / "out")]) == 0
    [path] = (tmp_path / "out").glob("*.json")
    assert path.name == "untrained_jsrt_val_degraded.json"
    summary = json.loads(path.read_text())
    assert summary["command"].endswith("--rounding truncate --degrade swap=0.02")
    assert set(summary["groups"]["degradation"]) == {"clean", *KINDS}
    assert summary["metrics"]["dice_before"]["n"] == 3 * (1 + len(KINDS))
    assert "dice_before mean ± sd" in capsys.readouterr().out


def test_pairs_are_counted_as_pairs(
    jsrt: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    model = AcRegNetModel(organs=["lungs", "heart"], frame=FrameSpec(32))
    monkeypatch.setattr("anatozoo.zoo.hub.load", lambda name, **options: model.eval())
    command = ["evaluate", "pairs", "--data", "jsrt", "--root", str(jsrt), "--side", "32", "--pairs", "2"]
    assert main(command) == 0
    printed = capsys.readouterr()
    shown = printed.out
    assert "2 pairs of 3 images." in printed.err
    assert "2 pairs. `anatozoo evaluate pairs --data jsrt" in shown
    assert "--pairs 2 --side 32`" in shown


def test_what_is_counted_is_what_the_model_calls_it(
    model: ShiftedTruth, jsrt: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(ShiftedTruth, "unit", "view")
    assert main(["evaluate", "views", "--data", "jsrt", "--root", str(jsrt)]) == 0
    printed = capsys.readouterr()
    assert "3 views of 3 images." in printed.err
    assert "3 views. `anatozoo evaluate views" in printed.out


def test_kinds_that_no_data_set_can_judge_are_refused(
    jsrt: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    class Scores(Predictor):
        checkpoint_name = "scores"
        organs = ("heart",)

    monkeypatch.setattr("anatozoo.zoo.hub.load", lambda name, **options: Scores(FrameSpec(64)))
    assert main(["evaluate", "scores", "--data", "jsrt", "--root", str(jsrt)]) == 1
    assert "scores cannot be evaluated on a data set; write its results" in capsys.readouterr().err


def test_tables_that_cannot_be_written(
    model: ShiftedTruth, jsrt: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    command = ["evaluate", "shifted", "--data", "jsrt", "--root", str(jsrt)]
    assert main([*command, "--out", str(tmp_path / "file")]) == 1
    assert "cannot be written" in capsys.readouterr().err
    assert not model.seen


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give NAME and --data, or --pred and --ref"),
        (["net"], "--data is needed"),
        (["net", "--data", "jsrt", "--classes", "a"], "--classes belongs to --pred and --ref"),
        (["net", "--data", "jsrt", "--size", "4", "4"], "--size belongs to --pred and --ref"),
        (["net", "--data", "jsrt", "--degrade", "swap"], "must be NAME=NUMBER"),
        (["net", "--data", "jsrt", "--degrade", "swap=nan"], "must be NAME=NUMBER"),
        (["net", "--data", "jsrt", "--degrade", "swap=inf"], "must be NAME=NUMBER"),
        (["net", "--data", "jsrt", "--degrade", "=1"], "must be NAME=NUMBER"),
        (["net", "--data", "jsrt", "--degrade", "swap=1,swap=2"], "gives swap twice"),
        (["net", "--data", "jsrt", "--seed", "0"], "--seed belongs to --occlusion"),
        (["net", "--data", "jsrt", "--occlusion-positions", "2"], "--occlusion-positions belongs to --occl"),
        (["--pred", "a"], "belong together"),
        (["--ref", "a"], "belong together"),
        (["net", "--pred", "a", "--ref", "b"], "NAME (net) and --pred are two ways"),
        (["--pred", "a", "--ref", "b", "--data", "jsrt"], "--data belongs to NAME"),
        (["--pred", "a", "--ref", "b", "--split", "val"], "--split belongs to NAME"),
        (["--pred", "a", "--ref", "b", "--occlusion", "3"], "--occlusion belongs to NAME"),
        (["--pred", "a", "--ref", "b", "--pairs", "3"], "--pairs belongs to NAME"),
        (["--pred", "a", "--ref", "b", "--classes", "x,x"], "different names with commas"),
        (["--pred", "a", "--ref", "b", "--missing", "best"], "worst, nan or a number"),
        (["--pred", "a", "--ref", "b", "--spacing-mm", "0"], "a number above 0"),
        (["--pred", "a", "--ref", "b", "--size", "0", "4"], "a whole number of at least 1"),
    ],
)
def test_arguments_that_do_not_go_together(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture
) -> None:
    assert main(["evaluate", *arguments]) == 2
    assert message in capsys.readouterr().err
