"""``anatozoo quality`` on generated radiographs."""

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from anatozoo.cli.main import main
from anatozoo.errors import ImageError
from anatozoo.frames.spec import FrameSpec
from anatozoo.io.grid import GridImage
from anatozoo.methods.affinereg.module import AffineRegModule
from anatozoo.quality import Atlas
from anatozoo.results.field import RegistrationResult
from anatozoo.serve.quality import JudgeMasks
from anatozoo.tasks.engines import Composed, Demons
from anatozoo.zoo.checkpoint import write_checkpoint_folder
from tests.support.chest_data import write_chest_data
from tests.support.fake_model import FakeSegmenter
from tests.unit.quality.test_rca import Shift
from tests.unit.serve.fakes import FakeRepairer


class Broken(Demons):
    """An engine that registers nothing."""

    def register(self, moving: GridImage, fixed: GridImage) -> RegistrationResult:
        raise ImageError("no likeness")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set, an atlas of its training images, and masks of two other images, one without a heart."""
    root = write_chest_data(tmp_path_factory.mktemp("chest"), {"train": 3, "val": 2}, side=64)
    build = ("build-atlas", root, "--layout", "jsrt", "--organs", "lungs,heart", "--atlas")
    assert quality(*build, root / "small", "--size", 48) == 0
    assert quality(*build, root / "truth", "--size", 64, "--split", "val", "--quiet") == 0
    assert len(Atlas.load(root / "small")) == 3
    for folder in ("scans", "masks"):
        (root / folder).mkdir()
    for number, each in enumerate(Atlas.load(root / "truth").images):
        labels = each.labels.copy()
        labels[labels == 2] = 2 * (number == 0)
        cv2.imwrite(str(root / "masks" / f"{each.id}_mask.png"), labels)
        cv2.imwrite(
            str(root / "scans" / f"{each.id}.png"), np.round(each.image.pixels * 255).astype(np.uint8)
        )
    return root


def quality(*arguments: object) -> int:
    return main(["quality", *map(str, arguments)])


def judge(root: Path, out: Path, *more: object, masks: str = "masks") -> int:
    return quality(
        root / "scans", root / masks, "--atlas", root / "small", "--engine", "demons", "--count", 1,
        "--out", out, *more,
    )  # fmt: skip


def table(out: Path) -> dict[str, dict[str, str]]:
    with (out / "manifest.csv").open() as file:
        return {Path(row["file"]).stem: row for row in csv.DictReader(file)}


def test_masks_in_a_folder_are_judged_once(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert judge(root, tmp_path, "--format", "json,picture") == 0
    assert "2 images: 2 judged in" in capsys.readouterr().out
    rows = table(tmp_path)
    good, without = (rows[f"JPCLN00{i}"] for i in (4, 5))
    assert 0.5 < float(good["dice_rca_max"]) <= 1
    assert float(good["dice_rca_max"]) == float(good["dice_rca_mean"])  # of one atlas image
    assert float(without["dice_rca_max/heart"]) == 0
    assert float(without["dice_rca_max/lungs"]) > 0.5
    assert float(without["hd_mm_rca_min/heart"]) > float(good["hd_mm_rca_min/heart"])
    assert good["models"].startswith("rca demons on small ")
    assert good["atlas_images"].startswith("JPCLN00")
    content = json.loads((tmp_path / "JPCLN004_quality.json").read_text())
    assert content["estimates"]["dice_rca_max"] == pytest.approx(float(good["dice_rca_max"]), abs=1e-5)
    assert (tmp_path / "JPCLN004_quality.png").stat().st_size > 1000
    assert judge(root, tmp_path) == 0
    assert "0 judged, 2 done already" in capsys.readouterr().out
    assert table(tmp_path) == rows


def test_a_changed_mask_is_judged_again(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    masks = root / "changing"
    masks.mkdir()
    for name in ("JPCLN004", "JPCLN005"):
        (masks / f"{name}.png").write_bytes((root / "masks" / f"{name}_mask.png").read_bytes())
    assert judge(root, tmp_path, masks="changing") == 0
    before = table(tmp_path)
    cv2.imwrite(str(masks / "JPCLN005.png"), np.zeros((64, 64), np.uint8))
    capsys.readouterr()
    assert judge(root, tmp_path, "--json", masks="changing") == 0
    summary = json.loads(capsys.readouterr().out)
    assert (summary["judged"], summary["already_done"]) == (1, 1)
    after = table(tmp_path)
    assert after["JPCLN004"] == before["JPCLN004"]
    assert float(after["JPCLN005"]["dice_rca_max"]) == 0


def test_what_is_wrong_with_one_image_is_said_and_the_others_go_on(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    masks = root / "odd"
    masks.mkdir()
    cv2.imwrite(str(masks / "JPCLN004.png"), np.full((64, 64), 7, np.uint8))
    assert judge(root, tmp_path, masks="odd") == 3
    captured = capsys.readouterr()
    assert "2 images: 0 judged, 2 failed" in captured.out
    assert "the mask holds the values 7, but the classes are 1 " in captured.err
    assert "there is no mask called JPCLN005" in captured.err
    cv2.imwrite(str(masks / "JPCLN005.png"), np.zeros((60, 64), np.uint8))
    assert judge(root, tmp_path, masks="odd") == 3
    assert "the mask is 64 x 60 pixels, the image 64 x 64" in capsys.readouterr().err


def test_predictions_are_judged_as_they_are_made(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model = FakeSegmenter()
    monkeypatch.setattr("anatozoo.zoo.hub.load", lambda name, device="cpu", trainable=True: model)
    monkeypatch.setattr("anatozoo.tasks.engines.engine_of", lambda name: Demons())
    arguments = ["predict", "fake-phantom", root / "scans", "--out", tmp_path, "--quality", root / "small"]
    assert main([*map(str, arguments)]) == 0
    assert "2 images: 2 segmented and judged" in capsys.readouterr().out
    rows = table(tmp_path)
    content = json.loads((tmp_path / "JPCLN004.json").read_text())
    assert 0 <= float(rows["JPCLN004"]["dice_rca_mean"]) <= float(rows["JPCLN004"]["dice_rca_max"]) <= 1
    assert content["quality"]["estimates"]["dice_rca_max"] == pytest.approx(
        float(rows["JPCLN004"]["dice_rca_max"]), abs=1e-5
    )
    assert content["checkpoint"] == "fake-phantom"
    assert rows["JPCLN004"]["judge"].startswith("rca demons on small")
    assert main([*map(str, arguments)]) == 0
    assert "2 done already" in capsys.readouterr().out
    # An estimate that fails costs nobody a segmentation.
    monkeypatch.setattr("anatozoo.tasks.engines.engine_of", lambda name: Broken())
    assert main([*map(str, arguments), "--overwrite"]) == 3
    captured = capsys.readouterr()
    assert "2 images: 2 segmented, 0 judged in" in captured.out
    assert captured.err.count("no likeness") == 1
    assert "anatozoo: not judged: 2 images, first 'JPCLN004.png': JPCLN004 could not be" in captured.err
    row = table(tmp_path)["JPCLN005"]
    assert (row["status"], row["flags"]) == ("ok", "quality_not_estimated")
    assert row["reason"].endswith("no likeness")
    assert "no likeness" in json.loads((tmp_path / "JPCLN005.json").read_text())["quality"]["error"]
    assert (tmp_path / "JPCLN005_mask.png").is_file()
    assert main([*map(str, arguments), "--json"]) == 3
    summary = json.loads(capsys.readouterr().out)
    assert (summary["judged"], summary["already_done"], summary["failed"]) == (0, 0, 0)
    for more, said in ((["--then", "x"], "--quality judges what fakedae-phantom draws"), ([], "masks alone")):
        monkeypatch.setattr(
            "anatozoo.zoo.hub.load", lambda name, device="cpu", trainable=True: FakeRepairer()
        )
        assert main([*map(str, arguments), *more]) == 2
        assert said in capsys.readouterr().err


@pytest.mark.usefixtures("unmoved")
def test_a_run_of_one_part_may_lack_it(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(JudgeMasks, "lacks", lambda self, result: "too faint" * ("005" in result.image))
    arguments = (root / "scans", root / "masks", "--atlas", root / "small", "--engine", "unmoved")
    assert quality(*arguments, "--out", tmp_path) == 3
    captured = capsys.readouterr()
    assert "2 images: 1 judged in" in captured.out
    assert "anatozoo: not judged: 1 image, first 'JPCLN005.png': too faint" in captured.err
    assert quality(*arguments, "--out", tmp_path) == 3
    assert "2 images: 0 judged, 1 done already in" in capsys.readouterr().out


def test_engines_of_other_dimensions_are_refused_before_the_run(
    reliable: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    solid = Untouched()
    solid.name, solid.axes = "solid", 3
    both = Composed([Unmoved(), solid])
    monkeypatch.setattr("anatozoo.tasks.engines.engine_of", lambda names: both)
    monkeypatch.setattr("anatozoo.zoo.hub.load", lambda name, device="cpu", trainable=True: FakeSegmenter())
    scans, atlas, out = reliable / "scans", reliable / "atlas", tmp_path / "out"
    assert calibrate(reliable, atlas) == 1
    said = "unmoved+solid registers images of 3 dimensions, and those of the atlas have 2"
    assert said in capsys.readouterr().err
    assert quality(scans, reliable / "one", "--atlas", atlas, "--out", out) == 1
    assert said in capsys.readouterr().err
    assert main([*map(str, ("predict", "fake", scans, "--quality", atlas, "--out", out))]) == 1
    assert said in capsys.readouterr().err
    assert not out.exists()


def test_atlas_images_are_chosen_by_latents(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = AffineRegModule(widths=[4, 8, 8], latent=8, hidden=16, cells=2, frame=FrameSpec(32))
    for name in ("one", "other"):
        write_checkpoint_folder(model, tmp_path / name, name=f"affinereg-{name}", version="1.0.0", half=False)
    build = ("build-atlas", root, "--layout", "jsrt", "--organs", "lungs,heart", "--size", 48)
    assert quality(*build, "--atlas", tmp_path / "a", "--selector", tmp_path / "one", "--quiet") == 0

    def by(selector: str, engine: str, out: str) -> int:
        return quality(
            root / "scans", root / "masks", "--atlas", tmp_path / "a", "--selector", selector,
            "--engine", engine, "--count", 1, "--out", tmp_path / out,
        )  # fmt: skip

    assert by(str(tmp_path / "one"), f"{tmp_path / 'one'},demons", "out") == 0
    rows = table(tmp_path / "out")
    assert rows["JPCLN004"]["models"].startswith("rca affinereg-one+demons on a by affinereg-one ")
    assert 0.5 < float(rows["JPCLN004"]["dice_rca_max"]) <= 1
    capsys.readouterr()
    assert by(str(tmp_path / "other"), "demons", "x") == 1
    assert "holds latents of affinereg-one 1.0.0, the selector is affinereg-other" in capsys.readouterr().err
    assert by("thumbnail", "demons", "thumbnails") == 0
    assert table(tmp_path / "thumbnails")["JPCLN004"]["models"].startswith("rca demons on a 2")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("IMAGES", "MASKS", "--atlas", "a"), "--out DIR is needed"),
        (("build-atlas", "ROOT", "--atlas", "a"), "needs --organs"),
        (("build-atlas", "ROOT", "--atlas", "a", "--organs", "x", "--out", "o"), "--out is for judging"),
        (("IMAGES", "MASKS", "--atlas", "a", "--out", "o", "--split", "val"), "--split is for build-atlas"),
        (("IMAGES", "MASKS", "--atlas", "a", "--out", "o", "--alpha", "0.1"), "--alpha is for calibrate"),
        (("IMAGES", "MASKS", "MORE", "--atlas", "a", "--out", "o"), "several folders are for calibrate"),
        (("calibrate", "IMAGES", "MASKS", "--atlas", "a"), "calibrate needs IMAGES, MASKS and --truth"),
        (
            ("calibrate", "IMAGES", "--truth", "t", "--atlas", "a"),
            "calibrate needs IMAGES, MASKS and --truth",
        ),
        (("calibrate", "I", "M", "--truth", "t", "--atlas", "a", "--out", "o"), "--out is for judging"),
        (
            ("calibrate", "I", "M", "x/../M/", "--truth", "t", "--atlas", "a"),
            "the same MASKS are given twice",
        ),
    ],
)
def test_wrong_usage(arguments: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert quality(*arguments) == 2
    assert said in capsys.readouterr().err


def test_errors_before_anything_is_done(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert judge(root, tmp_path, "--format", "mha") == 2
    assert "have no format mha" in capsys.readouterr().err
    for change, said in (
        ({"--atlas": root / "nowhere"}, "nowhere.json cannot be read"),
        ({"--engine": "acregnet-nowhere"}, "acregnet-nowhere"),
    ):
        options = {"--atlas": root / "small", "--out": tmp_path / "x"} | change
        flat = [word for pair in options.items() for word in pair]
        assert quality(root / "scans", root / "masks", *flat) == 1
        assert said in capsys.readouterr().err
    assert quality("build-atlas", root / "nowhere", "--organs", "x", "--atlas", tmp_path / "a") == 1
    assert not (tmp_path / "a.json").exists()


@pytest.mark.usefixtures("unmoved")
def test_mistakes_about_the_whole_run_are_one_error(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = (root / "scans", root / "masks", "--atlas", root / "small", "--out", tmp_path / "out")
    assert quality(*arguments, "--engine", "unmoved", "--classes", "liver,spleen") == 1
    said = capsys.readouterr().err
    assert (
        said.count("none of the classes liver, spleen is an organ of the atlas small, which has lungs") == 1
    )
    (tmp_path / "masks").mkdir()
    cv2.imwrite(str(tmp_path / "masks" / "x.png"), np.ones((64, 64), np.uint8))
    arguments = (root / "scans", tmp_path / "masks", *arguments[2:])
    assert quality(*arguments, "--engine", "unmoved") == 1
    said = capsys.readouterr().err
    assert "no image has a mask: the first image is called JPCLN004, the first mask x;" in said
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("unmoved")
def test_results_beside_the_images_are_never_read_as_images(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    new = tmp_path / "new"
    shutil.copytree(root / "scans", new)
    how = ("--atlas", root / "small", "--engine", "unmoved", "--count", 1)
    assert quality(new, root / "masks", *how, "--out", new, "--format", "picture") == 0
    assert (new / "JPCLN004_quality.png").is_file()
    assert quality(new, root / "masks", *how, "--out", new, "--format", "picture") == 0
    assert "2 images: 0 judged, 2 done already" in capsys.readouterr().out
    assert quality(new, root / "masks", *how, "--out", tmp_path / "other") == 0
    assert "2 images: 2 judged in" in capsys.readouterr().out


@pytest.fixture(scope="module")
def reliable(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images with ground truth, two models' masks of them, and an atlas of other images."""
    root = write_chest_data(tmp_path_factory.mktemp("reliable"), {"train": 3, "val": 32}, side=48)
    build = ("build-atlas", root, "--layout", "jsrt", "--organs", "lungs,heart", "--quiet", "--atlas")
    assert quality(*build, root / "atlas", "--size", 48) == 0
    assert quality(*build, root / "cases", "--size", 48, "--split", "val") == 0
    for folder in ("scans", "truth", "one", "two"):
        (root / folder).mkdir()
    for number, each in enumerate(Atlas.load(root / "cases").images):
        name = f"{each.id}.png"
        cv2.imwrite(str(root / "scans" / name), np.round(each.image.pixels * 255).astype(np.uint8))
        cv2.imwrite(str(root / "truth" / name), each.labels)
        for folder, worse in (("one", number % 8), ("two", number % 5)):
            shifted = np.roll(each.labels, worse, axis=1)
            cv2.imwrite(str(root / folder / f"{each.id}_mask.png"), shifted)
    return root


def calibrate(root: Path, atlas: Path, *more: object) -> int:
    return quality(
        "calibrate", root / "scans", root / "one", root / "two", "--truth", root / "truth", "--atlas", atlas,
        "--engine", "unmoved", "--count", 2, *more,
    )  # fmt: skip


class Unmoved(Shift):
    """An engine that moves nothing, in no time."""

    name = "unmoved"


class Still(Shift):
    """Another one."""

    name = "still"


@pytest.fixture
def unmoved(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "anatozoo.tasks.engines.engine_of",
        lambda names: {"unmoved": Unmoved(), "still": Still()}[names[0]],
    )


@pytest.mark.usefixtures("unmoved")
def test_a_calibrated_atlas_gives_intervals(
    reliable: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Atlas.load(reliable / "atlas").save(tmp_path / "atlas")
    scans, masks, atlas = reliable / "scans", reliable / "one", tmp_path / "atlas"
    how = ("--atlas", atlas, "--count", 2, "--out", tmp_path / "out")
    assert quality(scans, masks, *how, "--engine", "unmoved") == 0
    assert not any(column.startswith("dice_low") for column in table(tmp_path / "out")["JPCLN004"])
    assert calibrate(reliable, atlas, "--about", "two models, shifted") == 0
    said = capsys.readouterr().out
    assert "intervals of 90 %: lungs by 64 masks of 32 patients; heart by 64 masks of 32 patients" in said
    intervals = Atlas.load(atlas).intervals
    assert intervals is not None
    assert (intervals.about, intervals.alpha) == ("two models, shifted", 0.1)
    assert (intervals.judging.engine, intervals.judging.count) == ("unmoved", 2)
    # Nobody replaces a calibration without a word.
    before = (tmp_path / "atlas.json").read_bytes()
    assert calibrate(reliable, atlas, "--alpha", 0.2) == 1
    said = capsys.readouterr().err
    assert "atlas atlas is calibrated already: intervals of 90 %: lungs by 64 masks of 32 patients" in said
    assert "(two models, shifted), with unmoved 1 and 2 atlas images. --overwrite replaces" in said
    assert (tmp_path / "atlas.json").read_bytes() == before
    # What an atlas without intervals judged is judged again.
    assert quality(scans, masks, *how, "--engine", "unmoved") == 0
    captured = capsys.readouterr()
    assert "32 judged" in captured.out
    assert "no intervals" not in captured.err
    rows = table(tmp_path / "out")
    good, bad = rows["JPCLN004"], rows["JPCLN011"]
    for row in (good, bad):
        low, estimate, high = (
            float(row[f"{name}/heart"]) for name in ("dice_low", "dice_rca_calibrated", "dice_high")
        )
        assert 0 <= low <= estimate <= high <= 1
    assert float(bad["dice_high/heart"]) < float(good["dice_rca_calibrated/heart"])
    content = json.loads((tmp_path / "out" / "JPCLN004_quality.json").read_text())
    assert content["estimates"]["dice_low/lungs"] == pytest.approx(float(good["dice_low/lungs"]), abs=1e-5)
    # Another engine has none, and that is said once.
    assert quality(scans, masks, *how, "--engine", "still") == 0
    assert capsys.readouterr().err.count("no intervals of Dice: they were calibrated with unmoved 1") == 1
    assert "dice_low/heart" not in table(tmp_path / "out")["JPCLN004"]
    content = json.loads((tmp_path / "out" / "JPCLN004_quality.json").read_text())
    assert content["no_intervals"].startswith("they were calibrated with unmoved 1 and 2 atlas images")


@pytest.mark.usefixtures("unmoved")
def test_what_cannot_calibrate_is_said(
    reliable: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Atlas.load(reliable / "atlas").save(tmp_path / "atlas")
    before = (tmp_path / "atlas.json").read_bytes()
    # 32 images of five patients.
    assert calibrate(reliable, tmp_path / "atlas", "--subject-pattern", r"JPCLN\d\d?([0-3]?)") == 1
    assert (
        "of 5 patients are too few for intervals of 90 %; 13 patients with 3 segmentations each"
        in capsys.readouterr().err
    )
    assert (tmp_path / "atlas.json").read_bytes() == before
    (tmp_path / "odd").mkdir()
    for path in (reliable / "scans").glob("*.png"):
        if path.stem != "JPCLN007":
            cv2.imwrite(str(tmp_path / "odd" / path.name), np.full((48, 48), 9, np.uint8))
    arguments = ("calibrate", reliable / "scans", tmp_path / "odd", "--atlas", tmp_path / "atlas")
    assert quality(*arguments, "--truth", reliable / "truth", "--engine", "unmoved") == 1
    said = capsys.readouterr().err
    assert "left out" in said
    assert "there is no mask called JPCLN007" in said
    assert "the mask holds the values 9, but the classes are 1 " in said
    assert "no segmentation has an estimate and a true Dice" in said


class Untouched(Shift):
    """An engine that nothing may reach."""

    axes = 2

    def register(self, moving: GridImage, fixed: GridImage) -> RegistrationResult:
        raise AssertionError("this registers")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--subject-pattern", r"JPCLN(00\d)"), r"does not fit the name 'JPCLN010'"),
        (("--subject-pattern", r"JPCLN\d\d?([0-3]?)"), "13 patients with 3 segmentations each are enough"),
        (("--alpha", 0.02), "64 segmentations of 32 patients are too few for intervals of 98 %"),
    ],
)
def test_what_cannot_calibrate_is_said_before_the_first_registration(
    options: tuple[object, ...],
    said: str,
    reliable: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("anatozoo.tasks.engines.engine_of", lambda names: Untouched())
    assert calibrate(reliable, reliable / "atlas", *options) == 1
    assert said in capsys.readouterr().err


def test_too_few_masks_are_said_with_what_is_left_out(
    reliable: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("anatozoo.tasks.engines.engine_of", lambda names: Untouched())
    for name in ("JPCLN004", "JPCLN005", "JPCLN006"):
        cv2.imwrite(str(tmp_path / f"{name}.png"), np.ones((48, 48), np.uint8))
    arguments = ("calibrate", reliable / "scans", tmp_path, "--atlas", reliable / "atlas")
    assert quality(*arguments, "--truth", reliable / "truth", "--engine", "unmoved") == 1
    said = capsys.readouterr().err
    assert "3 segmentations of 3 patients are too few for intervals of 90 %; 30 patients with one" in said
    assert "Images left out: 29, first " in said
    assert "there is no mask called JPCLN007" in said


@pytest.mark.usefixtures("unmoved")
def test_images_that_are_in_the_atlas_do_not_spoil_a_calibration(
    reliable: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """They are compared with one atlas image less where all are taken, which is another estimate."""
    atlas = Atlas.load(reliable / "atlas")
    twin = replace(atlas.images[0], id="JPCLN004")
    replace(atlas, images=(twin, *atlas.images[1:])).save(tmp_path / "atlas")
    assert calibrate(reliable, tmp_path / "atlas", "--count", 5) == 0
    captured = capsys.readouterr()
    assert "lungs by 62 masks of 31 patients" in captured.out
    assert captured.err.count("the atlas atlas has 3 images, fewer than the 5 of --count") == 1
    assert "JPCLN004 is itself one of the 3 atlas images" in captured.err
    options = ("--engine", "unmoved", "--count", 5, "--out", tmp_path / "out")
    assert quality(reliable / "scans", reliable / "one", "--atlas", tmp_path / "atlas", *options) == 0
    assert "no intervals" not in capsys.readouterr().err
    rows = table(tmp_path / "out")
    assert not rows["JPCLN004"]["dice_low/heart"]
    assert rows["JPCLN005"]["dice_low/heart"]
    content = json.loads((tmp_path / "out" / "JPCLN004_quality.json").read_text())
    assert content["no_intervals"].startswith("JPCLN004 is itself one of the 3 atlas images")
    # With a lower count, it is an image as any other.
    assert calibrate(reliable, tmp_path / "atlas", "--overwrite") == 0
    captured = capsys.readouterr()
    assert "lungs by 64 masks of 32 patients" in captured.out
    assert not captured.err


@pytest.mark.usefixtures("unmoved")
def test_images_beside_the_atlas_calibrate_too(
    reliable: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in (reliable / "scans").iterdir():
        shutil.copy(path, tmp_path)
    Atlas.load(reliable / "atlas").save(tmp_path / "data" / "atlas")
    (tmp_path / "data" / "JPCLN004.png").write_bytes((tmp_path / "JPCLN004.png").read_bytes())
    (tmp_path / "JPCLN004.png").unlink()
    arguments = ("calibrate", tmp_path, reliable / "one", "--truth", reliable / "truth")
    how = ("--atlas", tmp_path / "data" / "atlas", "--engine", "unmoved", "--count", 2)
    assert quality(*arguments, *how) == 0
    assert "lungs by 32 masks of 32 patients" in capsys.readouterr().out


@pytest.mark.usefixtures("unmoved")
def test_a_calibration_is_reported_as_json(
    reliable: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Atlas.load(reliable / "atlas").save(tmp_path / "atlas")
    assert calibrate(reliable, tmp_path / "atlas", "--alpha", 0.2, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["alpha"], found["organs"]["heart"]["patients"], found["left_out"]) == (0.2, 32, [])
    assert [Path(path).name for path in found["files"]] == ["atlas.safetensors", "atlas.json"]


@pytest.mark.usefixtures("unmoved")
def test_predictions_have_intervals_too(
    reliable: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Atlas.load(reliable / "atlas").save(tmp_path / "atlas")
    assert calibrate(reliable, tmp_path / "atlas", "--quiet") == 0
    model = FakeSegmenter()
    monkeypatch.setattr("anatozoo.zoo.hub.load", lambda name, device="cpu", trainable=True: model)
    options = (
        "--quality",
        tmp_path / "atlas",
        "--engine",
        "unmoved",
        "--count",
        2,
        "--out",
        tmp_path / "out",
    )
    assert main([*map(str, ("predict", "fake-phantom", reliable / "scans" / "JPCLN004.png", *options))]) == 0
    row = table(tmp_path / "out")["JPCLN004"]
    assert 0 <= float(row["dice_low/heart"]) <= float(row["dice_high/heart"]) <= 1
    content = json.loads((tmp_path / "out" / "JPCLN004.json").read_text())["quality"]
    assert content["interval_coverage"] == 0.9
    assert content["estimates"]["dice_low/heart"] == pytest.approx(float(row["dice_low/heart"]), abs=1e-5)
    with (tmp_path / "out" / "measurements.csv").open() as file:
        lines = {(x["quantity"], x["organ"]): float(x["value"]) for x in csv.DictReader(file)}
    for name, column in (("", "rca_calibrated"), ("_low", "low"), ("_high", "high")):
        value = float(row[f"dice_{column}/heart"])
        assert lines[f"estimated_dice{name}", "heart"] == pytest.approx(value, abs=1e-4)
