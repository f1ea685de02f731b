import csv
import json
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import SimpleITK as sitk

from anatozoo.cli import evaluate_values
from anatozoo.cli.main import main
from anatozoo.io.annotations import find_annotations
from anatozoo.io.landmarks import draw_organ_mask, write_landmarks
from anatozoo.io.rle import encode_rle
from anatozoo.results.contours import ContourResult
from tests.support.phantoms import make_chest_phantom

SIZE = (120, 100)
ORGANS = ("lung_right", "lung_left", "heart")
COLUMNS = {"lung_right": "Right Lung", "lung_left": "Left Lung", "heart": "Heart"}


def contours(shift: float = 0.0) -> dict[str, np.ndarray]:
    landmarks = make_chest_phantom(*SIZE).landmarks
    return {organ: np.rint(landmarks[organ]) + [shift, 0.0] for organ in ORGANS}


def masks(shift: float = 0.0) -> dict[str, np.ndarray]:
    return {organ: draw_organ_mask(points, SIZE) for organ, points in contours(shift).items()}


def save(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    PIL.Image.fromarray(array).save(path)


def write_side(kind: str, folder: Path, names: list[str], shift: float = 0.0) -> Path:
    """Write the phantom for each name in one of the ways that people have it; returns what to give."""
    folder.mkdir()
    text = "image_id,Landmarks,Right Lung,Left Lung,Heart,Height,Width\n"
    for name in names:
        points, drawn = contours(shift), masks(shift)
        result = ContourResult("m", "1", f"{name}.dcm", SIZE, None, points)
        if kind == "organ folders":
            for organ, mask in drawn.items():
                save(folder / organ / f"{name}.png", mask.astype(np.uint8) * 255)
        elif kind == "landmark folders":
            for short, organ in zip(("RL", "LL", "H"), ORGANS, strict=True):
                (folder / short).mkdir(exist_ok=True)
                np.save(folder / short / f"{name}.npy", points[organ])
        elif kind == "predict":
            result.save(folder, ("png", "json"))
        elif kind in (".csv", ".npy", ".json"):
            write_landmarks(folder / f"{name}{kind}", points)
        elif kind == "table":
            vector = ",".join(f"{v:g}" for v in np.concatenate(list(points.values())).ravel())
            runs = ",".join(encode_rle(drawn[organ]) for organ in COLUMNS)
            text += f'{name}.png,"{vector}",{runs},{SIZE[1]},{SIZE[0]}\n'
        else:
            raise AssertionError(kind)
    if kind != "table":
        return folder
    (folder / "table.csv").write_text(text)
    return folder / "table.csv"


def evaluate(prediction: Path, reference: Path, *more: str) -> int:
    return main(["evaluate", "--pred", str(prediction), "--ref", str(reference), *more])


def summary_of(capsys: pytest.CaptureFixture) -> dict:
    return json.loads(capsys.readouterr().out)


KINDS = ["organ folders", "landmark folders", "predict", ".csv", ".npy", ".json", "table"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("other", ["organ folders", "predict", "table"])
def test_every_kind_against_every_other(
    kind: str, other: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    prediction = write_side(kind, tmp_path / "p", ["a", "b"], shift=3.0)
    reference = write_side(other, tmp_path / "r", ["a", "b"])
    assert evaluate(prediction, reference, "--json") == 0
    summary = summary_of(capsys)
    assert summary["images"] == 2
    assert summary["unmatched"] == {"prediction": [], "reference": []}
    truth, moved = masks(), masks(3.0)
    for organ in ORGANS:
        overlap = 2 * (truth[organ] & moved[organ]).sum() / (truth[organ].sum() + moved[organ].sum())
        assert summary["metrics"][f"dice/{organ}"]["mean"] == pytest.approx(overlap)
        assert summary["metrics"][f"hd_px/{organ}"]["mean"] == pytest.approx(3.0, abs=0.2)
    assert "dice/lungs" in summary["metrics"]
    with_landmarks = kind != "organ folders" and other != "organ folders"
    assert ("mse_px2" in summary["metrics"]) == with_landmarks
    if with_landmarks:
        assert summary["metrics"]["mse_px2"]["mean"] == 4.5


def test_names_sizes_and_spacings(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    prediction = write_side(".npy", tmp_path / "points", ["a", "b", "c"])
    reference = write_side("landmark folders", tmp_path / "truth", ["b", "c", "d", "e"])
    (tmp_path / "points/readme.txt").write_text("x")
    out = tmp_path / "out"
    options = ["--size", "120", "100", "--spacing-mm", "0.5", "0.25", "--out", str(out)]
    assert evaluate(prediction, reference, *options) == 0
    printed = capsys.readouterr()
    assert "no counterpart for 1 of 3 images of the prediction: a" in printed.err
    assert "no counterpart for 2 of 4 images of the reference: d, e" in printed.err
    assert "passed over in the prediction: readme.txt" in printed.err
    assert "# points against truth" in printed.out
    assert "without counterpart: 1 of the prediction; without counterpart: 2 of the reference" in printed.out
    names = ["points_against_truth.csv", "points_against_truth.json", "points_against_truth.md"]
    assert sorted(path.name for path in out.iterdir()) == names
    summary = json.loads((out / names[1]).read_text())
    assert summary["unmatched"] == {"prediction": ["a"], "reference": ["d", "e"]}
    assert summary["command"] == (
        "anatozoo evaluate --pred points --ref truth --size 120 100 --rounding truncate --spacing-mm 0.5 0.25"
    )
    assert set(summary["versions"]) == {"anatozoo", "numpy", "scipy", "python"}
    assert summary["metrics"]["hd_mm/heart"]["mean"] == 0.0
    assert str(tmp_path) not in (out / names[1]).read_text()
    rows = list(csv.DictReader((out / names[0]).read_text().splitlines()))
    assert [row["id"] for row in rows] == ["b", "c"]


def test_sizes_that_nobody_states_are_said(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    points = write_side(".npy", tmp_path / "p", ["a"])
    assert evaluate(points, points, "--json") == 0
    summary = summary_of(capsys)
    assert summary["remarks"] == [
        "size taken as 1024 x 1024 pixels, as none is stated; --size W H says otherwise (images: 1)"
    ]
    assert evaluate(points, write_side("organ folders", tmp_path / "m", ["a"]), "--json") == 0
    summary = summary_of(capsys)
    assert summary["remarks"] == ["size taken from the reference, as the other side states none (images: 1)"]
    assert evaluate(points, tmp_path / "m", "--size", "200", "200") == 1
    assert "200 x 200 against 120 x 100 pixels" in capsys.readouterr().err


def volume(path: Path, array: np.ndarray, spacing: tuple[float, ...], origin: tuple[float, ...] = ()) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(spacing)
    if origin:
        image.SetOrigin(origin)
    sitk.WriteImage(image, str(path))


def block(shift: int = 0, depth: int = 6) -> np.ndarray:
    array = np.zeros((depth, 12, 14), np.uint8)
    array[1:4, 2:8, 2 + shift : 8 + shift], array[1:4, 8:11, 2:8] = 1, 2
    return array


def test_volumes_with_named_classes(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    volume(tmp_path / "p/a.nii.gz", block(1), (0.5, 0.75, 2.0))
    volume(tmp_path / "r/a.mha", block(), (0.5, 0.75, 2.0))
    options = ["--classes", "front,back", "--tolerance", "0.4", "--json"]
    assert evaluate(tmp_path / "p", tmp_path / "r", *options) == 0
    metrics = summary_of(capsys)["metrics"]
    assert metrics["dice/front"]["mean"] == pytest.approx(5 / 6)
    assert metrics["hd_mm/front"]["mean"] == 0.5
    assert metrics["hd_px/front"]["mean"] == 1.0
    assert metrics["dice/back"]["mean"] == metrics["nsd/back"]["mean"] == 1.0
    assert metrics["nsd/front"]["mean"] < 1.0
    assert evaluate(tmp_path / "p", tmp_path / "r", "--spacing-mm", "1", "--json") == 0
    summary = summary_of(capsys)
    assert set(summary["metrics"]) >= {"dice/class_1", "dice/class_2"}
    assert summary["metrics"]["hd_mm/class_1"]["mean"] == 0.5
    assert summary["remarks"] == ["--spacing-mm not used, as the files state another (images: 1)"]


def test_a_class_that_one_side_does_not_show_is_missed(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    lacking = block()
    lacking[lacking == 2] = 0
    for name, array in [("a", lacking), ("b", block())]:
        volume(tmp_path / f"p/{name}.nii", array, (1.0, 1.0, 1.0))
        volume(tmp_path / f"r/{name}.nii", block(), (1.0, 1.0, 1.0))
    assert evaluate(tmp_path / "p", tmp_path / "r", "--json") == 0
    worst = summary_of(capsys)["metrics"]
    assert worst["dice/class_2"] | {"ci_low": 0, "ci_high": 0} == {
        "n": 2, "missed": 1, "mean": 0.5, "sd": 0.5, "median": 0.5, "min": 0.0, "max": 1.0,
        "ci_low": 0, "ci_high": 0,
    }  # fmt: skip
    assert worst["hd_mm/class_2"]["max"] == pytest.approx(np.sqrt(6**2 + 12**2 + 14**2))
    assert evaluate(tmp_path / "p", tmp_path / "r", "--json", "--missing", "nan") == 0
    left_out = summary_of(capsys)["metrics"]["hd_mm/class_2"]
    assert (left_out["n"], left_out["missed"], left_out["max"]) == (1, 1, 0.0)
    assert evaluate(tmp_path / "p", tmp_path / "r", "--json", "--missing", "7") == 0
    assert summary_of(capsys)["metrics"]["hd_mm/class_2"]["max"] == 7.0


def test_binary_masks_need_no_names(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    mask = masks()["heart"]
    save(tmp_path / "p/a_mask.png", mask.astype(np.uint8) * 255)
    save(tmp_path / "r/a.tif", mask.astype(np.uint8))
    assert evaluate(tmp_path / "p", tmp_path / "r", "--json") == 0
    assert summary_of(capsys)["metrics"]["dice/class_1"]["mean"] == 1.0
    assert evaluate(tmp_path / "p", tmp_path / "r", "--json", "--classes", "heart") == 0
    assert summary_of(capsys)["metrics"]["dice/heart"]["mean"] == 1.0


def test_two_single_files_belong_together(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    save(tmp_path / "mine.png", masks()["heart"])
    save(tmp_path / "theirs.png", masks()["heart"])
    assert evaluate(tmp_path / "mine.png", tmp_path / "theirs.png", "--json") == 0
    summary = summary_of(capsys)
    assert (summary["prediction"], summary["reference"], summary["images"]) == ("mine", "theirs", 1)


def test_lungs_as_one_and_as_two_and_cut_by_the_heart(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    drawn = masks()
    labels = (drawn["lung_right"] | drawn["lung_left"]).astype(np.uint8)
    labels[drawn["heart"]] = 2
    save(tmp_path / "p/a.png", labels)
    reference = write_side(".json", tmp_path / "r", ["a"])
    assert evaluate(tmp_path / "p", reference, "--classes", "lungs,heart", "--json") == 0
    summary = summary_of(capsys)
    assert 0.8 < summary["metrics"]["dice/lungs"]["mean"] < 1
    assert not any("lung_right" in remark for remark in summary["remarks"])
    assert evaluate(tmp_path / "p", reference, "--classes", "lungs,heart", "--exclusive", "--json") == 0
    summary = summary_of(capsys)
    assert summary["metrics"]["dice/lungs"]["mean"] == summary["metrics"]["dice/heart"]["mean"] == 1.0
    assert "--exclusive" in summary["command"]


@pytest.mark.parametrize("kind", ["organ folders", ".json"])
def test_exchanged_sides_are_said(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[int] = []

    def counted(points: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        drawn.append(len(points))
        return draw_organ_mask(points, size)

    monkeypatch.setattr("anatozoo.metrics.chest.draw_organ_mask", counted)
    monkeypatch.setattr("anatozoo.metrics.cases.draw_organ_mask", counted)
    reference = write_side(kind, tmp_path / "r", ["a", "b", "c"])
    prediction = write_side("organ folders", tmp_path / "p", ["a", "b", "c"], 3.0)
    drawn.clear()
    assert evaluate(prediction, reference, "--json") == 0
    assert not any("exchanged" in remark for remark in summary_of(capsys)["remarks"])
    # Each contour of the three images is drawn once.
    assert len(drawn) == (3 * len(contours()) if kind == ".json" else 0)
    for name in ("a", "b"):
        right, left = (prediction / f"lung_{side}/{name}.png" for side in ("right", "left"))
        kept = right.read_bytes()
        right.write_bytes(left.read_bytes())
        left.write_bytes(kept)
    assert evaluate(prediction, reference, "--json") == 0
    [remark] = [remark for remark in summary_of(capsys)["remarks"] if "exchanged" in remark]
    assert remark.startswith(
        "sides look exchanged (images: 2): the prediction's lung_right lies on the reference's lung_left,"
    )


def test_folders_of_organs_are_drawn_in_the_order_of_the_chest(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    folders = write_side("organ folders", tmp_path / "folders", ["a"])
    cut = masks()
    for organ in ("lung_right", "lung_left"):
        cut[organ] &= ~cut["heart"]
    for organ, mask in cut.items():
        save(tmp_path / "cut" / organ / "a.png", mask)
    assert evaluate(folders, tmp_path / "cut", "--exclusive", "--json") == 0
    metrics = summary_of(capsys)["metrics"]
    assert [name for name in metrics if name.startswith("dice")] == [
        "dice/lung_right",
        "dice/lung_left",
        "dice/heart",
        "dice/lungs",
    ]
    assert all(metrics[f"dice/{organ}"]["mean"] == 1.0 for organ in (*ORGANS, "lungs"))


def test_organs_that_one_side_lacks_are_said(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    prediction = write_side("organ folders", tmp_path / "p", ["a", "b"])
    reference = write_side("organ folders", tmp_path / "r", ["a", "b"])
    (prediction / "heart/b.png").unlink()
    assert evaluate(prediction, reference, "--json") == 0
    summary = summary_of(capsys)
    assert summary["metrics"]["dice/heart"]["n"] == 1
    assert summary["remarks"] == ["not compared, as only the reference knows them (images): heart (1)"]


def test_a_bad_file_does_not_stop_the_others(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    names = [f"n{i}" for i in range(8)]
    prediction = write_side("organ folders", tmp_path / "p", names)
    reference = write_side("organ folders", tmp_path / "r", names)
    for name in names[1:]:
        (prediction / f"heart/{name}.png").write_bytes(b"")
    assert evaluate(prediction, reference, "--out", str(tmp_path / "out")) == 3
    printed = capsys.readouterr()
    assert "failed: n1:" in printed.err
    assert "zero bytes" in printed.err
    assert "failed: 2 more" in printed.err
    assert "Images left out: unreadable or not comparable: 7." in printed.out
    summary = json.loads((tmp_path / "out/p_against_r.json").read_text())
    assert list(summary["unread"]) == names[1:]
    assert summary["images"] == 1
    rows = list(csv.DictReader((tmp_path / "out/p_against_r.csv").read_text().splitlines()))
    assert [row["id"] for row in rows if row["error"]] == names[1:]


def pair(tmp_path: Path, prediction: np.ndarray, reference: np.ndarray) -> tuple[Path, Path]:
    for side, array in (("p", prediction), ("r", reference)):
        save(tmp_path / side / "a.png", array)
    return tmp_path / "p", tmp_path / "r"


HEART = draw_organ_mask(contours()["heart"], SIZE).astype(np.uint8)


@pytest.mark.parametrize(
    ("prediction", "reference", "options", "message"),
    [
        (HEART, HEART[:-1], [], "different grids: 120 x 100 against 120 x 99 pixels. Bring one"),
        (HEART * 3, HEART, ["--classes", "a,b"], "holds the values 3, but --classes names 1 to 2: a, b"),
        (HEART, HEART * 255, ["--spacing-mm", "1", "1", "1"], "has 3 numbers, but the image is 2-D"),
        (HEART, np.stack([HEART, HEART * 0, HEART, HEART], -1) * 200, [], "colour picture (RGBA)"),
        (HEART, np.tile(np.arange(120, dtype=np.uint8), (100, 1)), [], "120 different values"),
    ],
)  # fmt: skip
def test_pairs_that_cannot_be_compared(
    prediction: np.ndarray,
    reference: np.ndarray,
    options: list[str],
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture,
) -> None:
    assert evaluate(*pair(tmp_path, prediction, reference), *options) == 1
    error = capsys.readouterr().err
    assert message in error
    assert "none of the 1 pairs could be compared" in error


def test_flat_and_deep_and_elsewhere(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    volume(tmp_path / "p/a.nii", block(), (1.0, 1.0, 2.0))
    volume(tmp_path / "r/a.nii", block()[0], (1.0, 1.0))
    assert evaluate(tmp_path / "p", tmp_path / "r") == 1
    assert "the prediction is 3-D, the reference 2-D" in capsys.readouterr().err
    volume(tmp_path / "r/a.nii", block(), (1.0, 1.0, 3.0))
    assert evaluate(tmp_path / "p", tmp_path / "r") == 1
    assert "spacing_mm (1.0, 1.0, 2.0) against (1.0, 1.0, 3.0)" in capsys.readouterr().err
    volume(tmp_path / "r/a.nii", block(), (1.0, 1.0, 2.0), (5.0, 0.0, 0.0))
    assert evaluate(tmp_path / "p", tmp_path / "r") == 1
    assert "origin" in capsys.readouterr().err
    points = write_side(".npy", tmp_path / "points", ["a"])
    assert evaluate(tmp_path / "p", points) == 1
    assert "name the values of the label map" in capsys.readouterr().err
    assert evaluate(tmp_path / "p", points, "--classes", "lung_right,lung_left") == 1
    assert "cannot mark a volume" in capsys.readouterr().err


def test_landmarks_of_another_set_or_number(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    points = contours()
    write_landmarks(tmp_path / "p.json", points)
    write_landmarks(tmp_path / "r.json", points | {"heart": points["heart"][::2]})
    assert evaluate(tmp_path / "p.json", tmp_path / "r.json") == 1
    assert "landmarks of shapes" in capsys.readouterr().err
    write_landmarks(tmp_path / "r.json", {"liver": points["heart"]})
    assert evaluate(tmp_path / "p.json", tmp_path / "r.json") == 1
    assert "no organ in common" in capsys.readouterr().err


def test_nothing_matches(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    prediction = write_side("organ folders", tmp_path / "p", [f"case{i}" for i in range(7)])
    reference = write_side("organ folders", tmp_path / "r", ["case0_gt", "x"])
    assert evaluate(prediction, reference) == 1
    error = capsys.readouterr().err
    assert "there are case0, case1, case2, case3, case4 and 2 more and case0_gt, x" in error
    assert "rename one side" in error


def test_empty_and_absent_folders(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / "empty").mkdir()
    masks = write_side("organ folders", tmp_path / "r", ["a"])
    assert evaluate(tmp_path / "empty", masks) == 1
    assert "it is empty" in capsys.readouterr().err
    assert evaluate(masks, tmp_path / "absent") == 1
    assert "no such file or folder" in capsys.readouterr().err
    (tmp_path / "file").write_text("")
    assert evaluate(masks, masks, "--out", str(tmp_path / "file")) == 1
    assert "cannot be written" in capsys.readouterr().err


def test_help_explains_both_forms(capsys: pytest.CaptureFixture) -> None:
    assert main(["evaluate", "--help"]) == 0
    text = capsys.readouterr().out
    assert "anatozoo evaluate [-h] NAME --data DATA" in text
    assert "anatozoo evaluate [-h] --pred PATH --ref PATH" in text


def sides(tmp_path: Path, predictions: list[np.ndarray], references: list[np.ndarray]) -> tuple[Path, Path]:
    for side, arrays in (("p", predictions), ("r", references)):
        for index, array in enumerate(arrays):
            save(tmp_path / side / f"{index}.png", array)
    return tmp_path / "p", tmp_path / "r"


TWO = HEART + (draw_organ_mask(contours()["lung_left"], SIZE) & (HEART == 0)) * np.uint8(2)
CODED = np.array([0, 127, 255], np.uint8)[TWO]
SOFT = HEART * np.uint8(255)
SOFT[(HEART == 0) & (np.roll(HEART, 1, 1) == 1)] = 128


@pytest.mark.parametrize(
    ("predictions", "references", "words"),
    [
        ([CODED], [TWO], "holds 127, 255 (label maps: 1), the reference 1, 2 (label maps: 1). Say"),
        ([TWO], [CODED], "--labels class_1=1:127,class_2=2:255."),
        ([np.where(TWO == 2, np.uint8(255), 0), CODED], [HEART, TWO], "holds 127, 255 (label maps: 2)"),
        ([HEART * 255], [TWO], "holds 255 (label maps: 1), the reference 1, 2"),
        ([HEART], [HEART * 2], "prediction holds 1 (label maps: 1), the reference 2"),
        ([TWO], [TWO * 2], "prediction holds 1, 2 (label maps: 1), the reference 2, 4"),
        ([TWO.astype(np.uint16) * 1000], [TWO], "holds 1000, 2000"),
        ([SOFT], [HEART * 255], "prediction holds values between 0 and 255 along its edges (128) in 1 files"),
        ([HEART * 255], [SOFT], "--labels mask=128-255,background=0-127"),
        ([SOFT], [HEART], "along its edges"),
        ([(1 - HEART) * 255], [HEART * 255], "--labels mask=0:255,background=255:0"),
        ([HEART, HEART], [1 - HEART, 1 - HEART], "one side is what the other leaves out"),
        ([*[TWO] * 4, CODED], [TWO] * 5, "1, 2 (label maps: 4, as 0), others 127, 255 (label maps: 1, as 4)"),
        ([TWO] * 5, [*[TWO] * 4, CODED], "label maps of the reference are not coded alike"),
        ([HEART, HEART * 255], [HEART * 255, HEART], "as 0), others 255 (label maps: 1, as 1)"),
        ([HEART + 1, HEART + 1], [HEART, HEART], "--labels background=1:0,class_1=2:1. Where"),
        ([HEART, HEART], [HEART + 1, HEART + 1], "--labels background=0:1,class_1=1:2. Where"),
    ],
)  # fmt: skip
def test_values_that_do_not_correspond_are_refused(
    predictions: list[np.ndarray],
    references: list[np.ndarray],
    words: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture,
) -> None:
    assert evaluate(*sides(tmp_path, predictions, references), "--out", str(tmp_path / "out")) == 1
    printed = capsys.readouterr()
    assert words in printed.err
    assert not list((tmp_path / "out").iterdir())
    assert not printed.out


def test_the_white_of_several_classes_is_no_mask_of_one(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    lung = np.where(TWO == 2, np.uint8(255), 0)
    assert evaluate(*sides(tmp_path, [CODED, lung], [CODED, lung]), "--json") == 0
    metrics = summary_of(capsys)["metrics"]
    assert metrics["dice/class_255"]["n"] == 2
    assert metrics["dice/class_127"]["n"] == 1
    assert "dice/class_1" not in metrics
    white = sides(tmp_path / "white", [HEART * 255], [HEART * 255])
    assert evaluate(*white, "--classes", "lungs,heart") == 1
    assert (
        "holds the value 255 alone, which is a mask of one organ, but there are 2" in capsys.readouterr().err
    )


def test_classes_that_are_missing_are_data(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    empty, three = HEART * 0, np.where(TWO == 2, np.uint8(3), TWO)
    for name, predictions, references in (
        ("fewer", [HEART, empty], [TWO, TWO]),
        ("more", [TWO, TWO], [HEART, TWO]),
        ("none", [empty], [TWO]),
        ("both", [empty], [empty]),
        ("other", [three], [TWO]),
        ("one code", [CODED, CODED], [CODED, empty]),
        ("turns", [HEART, HEART * 2, TWO], [HEART, HEART * 2, TWO]),
        ("third", [TWO, TWO, HEART * 3], [TWO, TWO, HEART * 3]),
        ("filled", [HEART * 0 + 1, TWO], [TWO, TWO]),
    ):
        assert evaluate(*sides(tmp_path / name, predictions, references), "--json") == 0, name
        remarks = summary_of(capsys)["remarks"]
        assert bool(remarks) == (name in ("fewer", "none", "other")), (name, remarks)


@pytest.mark.parametrize(
    ("prediction", "reference", "given"),
    [
        (CODED, TWO, "heart=127:1,lung_left=255:2"),
        (TWO, CODED, "heart=1:127,lung_left=2:255"),
        (TWO, TWO, "heart=1,lung_left=2"),
        (TWO * np.uint8(3) + (TWO == 2), TWO, "heart=3:1,lung_left=6+7:2"),
    ],
)
def test_values_get_their_names(
    prediction: np.ndarray, reference: np.ndarray, given: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert evaluate(*sides(tmp_path, [prediction], [reference]), "--labels", given, "--json") == 0
    summary = summary_of(capsys)
    assert summary["metrics"]["dice/heart"]["mean"] == summary["metrics"]["dice/lung_left"]["mean"] == 1.0
    assert f"--labels {given}" in summary["command"]


def test_files_in_two_codings_and_another_background_get_their_names(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    for name, predictions, references, given in (
        ("one", [TWO, CODED], [TWO, TWO], "heart=1+127:1,lung_left=2+255:2"),
        ("both", [HEART, HEART * 255], [HEART * 255, HEART], "heart=1+255"),
        ("background", [HEART + 1], [HEART], "background=1:0,heart=2:1"),
    ):
        both = sides(tmp_path / name, predictions, references)
        assert evaluate(*both, "--labels", given, "--json") == 0, name
        assert summary_of(capsys)["metrics"]["dice/heart"]["min"] == 1.0, name


def test_where_a_soft_mask_begins_and_which_side_is_the_organ(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    soft = sides(tmp_path / "soft", [SOFT], [HEART * 255])
    for given, expected in (("heart=200-255,background=0-199", 1.0), ("heart=1-255", 0.99)):
        assert evaluate(*soft, "--labels", given, "--json") == 0
        assert summary_of(capsys)["metrics"]["dice/heart"]["mean"] == pytest.approx(expected, abs=0.015)
    turned = sides(tmp_path / "turned", [(1 - HEART) * 255], [HEART * 255])
    assert evaluate(*turned, "--labels", "heart=0:255,background=255:0", "--json") == 0
    assert summary_of(capsys)["metrics"]["dice/heart"]["mean"] == 1.0
    blurred = tmp_path / "p/a.jpg"
    blurred.parent.mkdir()
    PIL.Image.fromarray(HEART * 255).save(blurred, quality=60)
    save(tmp_path / "r/a.png", HEART * 255)
    assert (
        evaluate(tmp_path / "p", tmp_path / "r", "--labels", "heart=128-255,background=0-127", "--json") == 0
    )
    assert summary_of(capsys)["metrics"]["dice/heart"]["mean"] > 0.99
    assert evaluate(tmp_path / "p", tmp_path / "r") == 1
    assert "--labels" in capsys.readouterr().err


def test_soft_masks_of_single_organs(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    save(tmp_path / "p/heart/a.png", SOFT)
    save(tmp_path / "r/heart/a.png", HEART)
    assert evaluate(tmp_path / "p", tmp_path / "r") == 1
    assert "along its edges (128)" in capsys.readouterr().err
    given = ["--labels", "heart=200-255:1,background=0-199:0", "--json"]
    assert evaluate(tmp_path / "p", tmp_path / "r", *given) == 0
    assert summary_of(capsys)["metrics"]["dice/heart"]["mean"] == 1.0


@pytest.mark.parametrize(
    ("given", "code", "words"),
    [
        (["--labels", "heart"], 2, "must be as lungs=1, lungs=127:1"),
        (["--labels", "heart=x"], 2, "values are whole numbers"),
        (["--labels", "heart=2-1"], 2, "values are whole numbers"),
        (["--labels", "heart=1:2:3"], 2, "must be as"),
        (["--labels", "heart=1,heart=2"], 2, "join its values by +"),
        (["--labels", "heart=1,lungs=1"], 2, "the value 1 cannot be both"),
        (["--labels", "background=1"], 2, "names no organ"),
        (["--labels", "heart=1", "--classes", "heart"], 2, "give one of the two"),
        (["--labels", "heart=1"], 1, "the values 2 have no name; add them to --labels"),
    ],
)
def test_labels_that_are_wrong(
    given: list[str], code: int, words: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert evaluate(*sides(tmp_path, [TWO], [TWO]), *given) == code
    assert words in capsys.readouterr().err


def without_unit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[123] = 0
    path.write_bytes(data)


def test_volumes_without_a_unit_are_in_millimetres_and_say_so(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    for side, shift in (("p", 1), ("r", 0)):
        volume(tmp_path / side / "a.nii", block(shift), (1.0, 1.0, 3.0))
        without_unit(tmp_path / side / "a.nii")
    assert evaluate(tmp_path / "p", tmp_path / "r", "--json") == 0
    summary = summary_of(capsys)
    assert summary["metrics"]["hd_mm/class_1"]["mean"] == 1.0
    assert summary["remarks"] == [
        "spacing taken as millimetres, as the files state no unit; --spacing-mm says otherwise (images: 1)"
    ]
    assert evaluate(tmp_path / "p", tmp_path / "r", "--spacing-mm", "2", "2", "6", "--json") == 0
    summary = summary_of(capsys)
    assert (summary["metrics"]["hd_mm/class_1"]["mean"], summary["remarks"]) == (2.0, [])
    volume(tmp_path / "r/a.nii", block(), (2.0, 2.0, 3.0))
    without_unit(tmp_path / "r/a.nii")
    assert evaluate(tmp_path / "p", tmp_path / "r") == 1
    assert "spacing_mm (1.0, 1.0, 3.0) against (2.0, 2.0, 3.0)" in capsys.readouterr().err


@pytest.mark.parametrize(("room", "kept"), [(2**29, True), (2**17 + 6 * SIZE[0] * SIZE[1] - 1, False)])
def test_masks_of_single_organs_count_in_what_is_kept(tmp_path, monkeypatch, room, kept) -> None:
    found = [find_annotations(write_side("organ folders", tmp_path / side, ["a"])) for side in "pr"]
    monkeypatch.setattr(evaluate_values, "_MOST_BYTES", room)
    one, two = (side.entries["a"] for side in found)
    readings = evaluate_values.Readings({"a": (one, two)}, None)
    assert (readings.read("a") is readings.read("a")) == kept
