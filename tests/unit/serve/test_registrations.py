import csv
import json
import shutil

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from anatozoo.errors import ConfigError, DataError, OutputError
from anatozoo.frames.spec import FrameSpec
from anatozoo.io.annotation import Annotation
from anatozoo.io.grid import Grid, itk_image
from anatozoo.io.read import read_labels
from anatozoo.io.writers import write_itk
from anatozoo.methods.acregnet.module import AcRegNetModule
from anatozoo.metrics.cases import Case, case_row
from anatozoo.serve.options import ReadOptions
from anatozoo.serve.registrations import RegisterPairs, dice_by_label, undeformed
from tests.support.fake_model import FakeSegmenter
from tests.support.runs import rows_of, run_folder, run_pairs, visible
from tests.unit.serve.fakes import FakeRegistrar, FakeRepairer, labels, write_mask, write_scan, write_volume

COLUMNS = ("moving", "fixed", "moving_mask", "fixed_mask", "name")
FAST = ("json",)


def write_pairs(folder, *rows):
    """Rows of moving, fixed, moving_mask, fixed_mask, name; what is missing at the end is empty."""
    path = folder / "pairs.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([COLUMNS, *(row + ("",) * (5 - len(row)) for row in rows)])
    return path


def table_of(out):
    return {row["name"]: row for row in rows_of(out)}


@pytest.fixture
def scans(tmp_path):
    for number, name in enumerate("abc"):
        write_scan(tmp_path / f"{name}.png", seed=number)
        write_mask(tmp_path / f"{name}_organs.png", labels(column=10 + 2 * number))
    return tmp_path


def test_every_pair_gets_its_files_and_its_row(scans):
    model = FakeRegistrar()
    summary = run_pairs(model, write_pairs(scans, ("a.png", "b.png"), ("b.png", "c.png")), scans / "out")
    assert model.seen == [("a", "b"), ("b", "c")]
    assert not summary.failed
    endings = ("_displacement.nii.gz", "_warped.nii.gz", ".json", "_registration.png")
    assert visible(scans / "out") == {
        "manifest.csv",
        *(f"{stem}{ending}" for stem in ("a_to_b", "b_to_c") for ending in endings),
    }
    row = table_of(scans / "out")["a_to_b"]
    assert (row["status"], row["stem"], row["flags"]) == ("ok", "a_to_b", "shifted")
    assert (row["moving"], row["fixed"]) == ("a.png", "b.png")
    assert row["models"] == "fakereg-phantom 3.0.0"
    assert row["folding_percent"] == "0.0000"
    assert (row["moving_mask"], row["dice_before"], row["dice_after"]) == ("", "", "")
    about = json.loads((scans / "out" / "a_to_b.json").read_text())
    # As the table has them: scans of several patients may all be called scan.nii.gz.
    assert (about["moving"], about["fixed"]) == ("a.png", "b.png")
    assert "propagation" not in about


def test_masks_are_brought_along_and_measured(scans):
    row = ("b.png", "a.png", "b_organs.png", "a_organs.png", "pair")
    run_pairs(FakeRegistrar(), write_pairs(scans, row), scans / "out", formats=FAST)
    # The organs of b lie two columns to the right of those of a, which is what the field undoes.
    warped, _ = read_labels(scans / "out" / "pair_mask.nii.gz", 2)
    np.testing.assert_array_equal(warped, labels(column=10))
    found = table_of(scans / "out")["pair"]
    assert (found["dice_before"], found["dice_after"]) == ("0.8000", "1.0000")
    assert found["outputs"] == "pair.json;pair_mask.nii.gz"
    assert json.loads((scans / "out" / "pair.json").read_text())["propagation"] == {
        "mask": "pair_mask.nii.gz",
        "labels": [1, 2],
        "moving_mask": "b_organs.png",
        "fixed_mask": "a_organs.png",
        "dice_before": {"1": 0.8, "2": 0.8},
        "dice_after": {"1": 1.0, "2": 1.0},
    }


def test_a_moving_mask_alone_is_brought_along(scans):
    pairs = write_pairs(scans, ("b.png", "a.png", "b_organs.png"))
    run_pairs(FakeRegistrar(), pairs, scans / "out", formats=("warped",))
    assert visible(scans / "out") == {"manifest.csv", "b_to_a_warped.nii.gz", "b_to_a_mask.nii.gz"}
    row = table_of(scans / "out")["b_to_a"]
    assert (row["dice_before"], row["dice_after"]) == ("", "")


def test_before_is_frame_on_frame_where_the_sizes_differ(tmp_path):
    write_scan(tmp_path / "big.png", (80, 96))
    write_scan(tmp_path / "small.png", seed=1)
    write_mask(tmp_path / "big_m.png", labels(column=10).repeat(2, 0).repeat(2, 1))
    write_mask(tmp_path / "small_m.png", labels(column=10))
    pairs = write_pairs(tmp_path, ("big.png", "small.png", "big_m.png", "small_m.png", "p"))
    run_pairs(FakeRegistrar(), pairs, tmp_path / "out", formats=FAST)
    row = table_of(tmp_path / "out")["p"]
    # Two pixels of the big image are one of the small one.
    assert (row["dice_before"], row["dice_after"]) == ("1.0000", "0.9000")


def test_dice_is_that_of_the_metrics(tmp_path):
    a, b = labels(column=10), labels(column=13)
    row = case_row(Case(Annotation.from_labels(a, ["x", "y"]), Annotation.from_labels(b, ["x", "y"])))
    assert dice_by_label(a, b) == {1: row["dice/x"], 2: row["dice/y"]}
    assert dice_by_label(a, np.zeros_like(a)) == {1: 0.0, 2: 0.0}
    assert dice_by_label(np.zeros_like(a), np.zeros_like(a)) == {}


def test_volumes_and_their_masks_keep_their_space(tmp_path):
    shape = (8, 40, 48)
    for number, name in enumerate("ab"):
        write_scan(tmp_path / f"{name}.nii.gz", shape, number)
        write_volume(tmp_path / f"{name}_m.nii.gz", labels(shape, 10 + 2 * number) * np.uint16(300))
    write_scan(tmp_path / "flat.png")
    pairs = write_pairs(
        tmp_path,
        ("b.nii.gz", "a.nii.gz", "b_m.nii.gz", "a_m.nii.gz", "p"),
        ("flat.png", "a.nii.gz", "", "", "flat"),
    )
    summary = run_pairs(FakeRegistrar((8, 32, 32)), pairs, tmp_path / "out", formats=FAST)
    assert {row.file: row.reason[:14] for row in summary.failed} == {"flat": "moving image: "}
    assert "3-D" in summary.failed[0].reason
    image = sitk.ReadImage(str(tmp_path / "out" / "p_mask.nii.gz"))
    assert image.GetSpacing() == (1.0, 1.0, 2.0)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image), labels(shape, 10) * np.uint16(300))
    assert table_of(tmp_path / "out")["p"]["dice_after"] == "1.0000"


def test_a_second_run_does_only_what_is_left(scans):
    rows = [("b.png", "a.png", "b_organs.png"), ("c.png", "a.png"), ("c.png", "b.png", "", "", "named")]
    out = scans / "out"
    run_pairs(FakeRegistrar(), write_pairs(scans, *rows), out, formats=FAST)
    model = FakeRegistrar()
    # The order of the lines and lines of other pairs do not matter.
    pairs = write_pairs(scans, ("a.png", "b.png"), *rows[::-1])
    assert run_pairs(model, pairs, out, formats=FAST).already_done == 3
    assert model.seen == [("a", "b")]
    write_mask(scans / "b_organs.png", labels(column=14))
    (out / "named.json").unlink()
    model.seen.clear()
    run_pairs(model, pairs, out, formats=FAST)
    assert sorted(model.seen) == [("b", "a"), ("c", "b")]
    model.checkpoint_version = "3.0.1"
    model.seen.clear()
    run_pairs(model, pairs, out, formats=FAST)
    assert len(model.seen) == 4
    model.seen.clear()
    run_pairs(model, pairs, out, formats=FAST, options=ReadOptions(ignore_spacing=True))
    assert model.ignored[-4:] == [True] * 4


def test_a_pair_that_gets_other_images_or_loses_its_mask_is_done_again(scans):
    out = scans / "out"
    run_pairs(FakeRegistrar(), write_pairs(scans, ("b.png", "a.png", "b_organs.png", "", "p")), out)
    assert (out / "p_mask.nii.gz").exists()
    model = FakeRegistrar()
    run_pairs(model, write_pairs(scans, ("b.png", "a.png", "", "", "p")), out, formats=FAST)
    assert visible(out) == {"manifest.csv", "p.json"}
    run_pairs(model, write_pairs(scans, ("c.png", "a.png", "", "", "p")), out, formats=FAST)
    # The same size and time, but the results name it.
    shutil.copy2(scans / "c.png", scans / "copy.png")
    run_pairs(model, write_pairs(scans, ("copy.png", "a.png", "", "", "p")), out, formats=FAST)
    assert model.seen == [("b", "a"), ("c", "a"), ("copy", "a")]
    assert list(table_of(out)) == ["p"]


def test_pairs_of_the_same_names_do_not_collide(tmp_path):
    for patient in ("p1", "p2"):
        for name in ("pre.png", "post.png"):
            write_scan(tmp_path / patient / name)
    rows = [(f"{patient}/pre.png", f"{patient}/post.png") for patient in ("p1", "p2")]
    out = tmp_path / "out"
    first = run_pairs(FakeRegistrar(), write_pairs(tmp_path, *rows), out, formats=FAST)
    stems = [row.stem for row in first.rows]
    assert len(set(stems)) == 2
    assert all(stem.startswith("pre_to_post_") for stem in stems)
    # A name that somebody gives is kept, whatever others were called.
    model = FakeRegistrar()
    again = write_pairs(tmp_path, *rows, ("p1/pre.png", "p2/post.png", "", "", "pre_to_post"))
    assert run_pairs(model, again, out, formats=FAST).already_done == 2
    assert len(model.seen) == 1


def test_a_name_that_an_unnamed_pair_had_is_taken_from_it(scans):
    out = scans / "out"
    run_pairs(FakeRegistrar(), write_pairs(scans, ("a.png", "b.png")), out, formats=FAST)
    pairs = write_pairs(scans, ("a.png", "b.png"), ("c.png", "a.png", "", "", "a_to_b"))
    run_pairs(FakeRegistrar(), pairs, out, formats=FAST)
    rows = table_of(out)
    assert len(rows) == 2
    assert rows["a_to_b"]["moving"] == "c.png"
    assert {row["status"] for row in rows.values()} == {"ok"}


def test_bad_lines_are_rows_and_the_rest_goes_on(scans):
    write_mask(scans / "small_m.png", labels((30, 48)))
    space = itk_image(labels(), Grid((48, 40), (1.0, 1.0), (90.0, 0.0)))
    write_itk(scans / "elsewhere.nii.gz", space, units_known=True)
    write_scan(scans / "volume.nii.gz", (8, 40, 48))
    write_scan(scans / "impossible.png")
    write_itk(
        scans / "placed.nii.gz",
        itk_image(labels() * 100, Grid((48, 40), (1.0, 1.0), (0.0, 0.0))),
        units_known=True,
    )
    rows = [
        ("gone.png", "a.png", "", "", "moving"),
        ("a.png", "gone.png", "", "", "fixed"),
        ("a.png", "b.png", "gone.png", "", "mask"),
        ("a.png", "b.png", "small_m.png", "", "grid"),
        ("a.png", "b.png", "a_organs.png", "small_m.png", "fixed grid"),
        ("placed.nii.gz", "b.png", "elsewhere.nii.gz", "", "space"),
        ("volume.nii.gz", "a.png", "", "", "volume"),
        ("impossible.png", "a.png", "", "", "model"),
        ("a.png", "b.png", "", "", "good"),
        ("a.png", "c.png", "", "", "good"),
        ("", "c.png", "", "", "nothing"),
    ]
    summary = run_pairs(FakeRegistrar(), write_pairs(scans, *rows), scans / "out", formats=FAST)
    reasons = {row.file: row.reason for row in summary.failed}
    assert [row.file for row in summary.rows if row.status == "ok"] == ["good"]
    for name, words in {
        "moving": ("moving image", "gone.png", "No such file"),
        "fixed": ("fixed image", "gone.png"),
        "mask": ("moving mask", "gone.png"),
        "grid": ("moving mask", "another grid", "48 x 40 against 48 x 30"),
        "fixed grid": ("fixed mask", "another grid"),
        "space": ("moving mask", "origin"),
        "volume": ("moving image", "volume.nii.gz"),
        "model": ("opposite polarity",),
        "pairs.csv:11": ("good", "line 10"),
        "pairs.csv:12": ("no moving image",),
    }.items():
        assert all(word in reasons[name] for word in words), (name, reasons[name])
    assert table_of(scans / "out")["pairs.csv:11"]["fixed"] == "c.png"
    # Corrected lines leave no trace of their faults.
    rows[9], rows[10] = ("a.png", "c.png", "", "", "better"), ("b.png", "c.png", "", "", "nothing")
    run_pairs(FakeRegistrar(), write_pairs(scans, *rows), scans / "out", formats=FAST)
    assert not [name for name in table_of(scans / "out") if ":" in name]


def test_a_table_without_a_good_line_still_says_why(scans):
    summary = run_pairs(FakeRegistrar(), write_pairs(scans, ("", "a.png")), scans / "out")
    assert [row.file for row in summary.failed] == ["pairs.csv:2"]
    assert list(table_of(scans / "out")) == ["pairs.csv:2"]


def test_options_reach_the_reader(scans):
    options = ReadOptions(spacing_mm=(0.5, 0.5), invert=True)
    pairs = write_pairs(scans, ("b.png", "a.png", "b_organs.png"))
    run_pairs(FakeRegistrar(), pairs, scans / "out", formats=("json", "warped"), options=options)
    assert json.loads((scans / "out" / "b_to_a.json").read_text())["fixed_grid"]["spacing_mm"] == [0.5, 0.5]
    assert sitk.ReadImage(str(scans / "out" / "b_to_a_mask.nii.gz")).GetSpacing() == (0.5, 0.5)
    plain, _ = read_labels(scans / "out" / "b_to_a_mask.nii.gz", 2)
    np.testing.assert_array_equal(plain, labels(column=10))
    # What a mask states is overruled like what its image states.
    for name, values in (("image", labels(organs=3) * 60), ("mask", labels())):
        placed = itk_image(values, Grid((48, 40), (1.0, 1.0)))
        write_itk(scans / f"{name}.nii.gz", placed, units_known=True)
    row = ("image.nii.gz", "a.png", "mask.nii.gz", "", "stated")
    summary = run_pairs(
        FakeRegistrar(), write_pairs(scans, row), scans / "out", formats=FAST, options=options
    )
    assert not summary.failed
    with pytest.raises(ConfigError, match="one number or 2 here, not 3"):
        run_pairs(FakeRegistrar(), pairs, scans / "out", options=ReadOptions((1.0, 1.0, 1.0)))
    with pytest.raises(
        ConfigError, match="invert is for radiographs; fakereg-phantom takes pairs of volumes"
    ):
        run_pairs(FakeRegistrar((8, 8, 8)), pairs, scans / "out", options=ReadOptions(invert=True))


def test_pairs_and_images_do_not_share_a_folder(scans):
    run_folder(FakeSegmenter(), [scans / "a.png"], scans / "out")
    with pytest.raises(OutputError, match=r"over single files, and this one is over pairs"):
        run_pairs(FakeRegistrar(), write_pairs(scans, ("a.png", "b.png")), scans / "out")
    run_pairs(FakeRegistrar(), write_pairs(scans, ("a.png", "b.png")), scans / "pairs", formats=FAST)
    with pytest.raises(OutputError, match=r"over pairs, and this one is over single files"):
        run_folder(FakeSegmenter(), [scans / "a.png"], scans / "pairs")


def test_only_what_registers_takes_pairs(scans):
    pairs = write_pairs(scans, ("a.png", "b.png"))
    for model in (FakeSegmenter(), FakeRepairer()):
        with pytest.raises(ConfigError, match="registers no images"):
            run_pairs(model, pairs, scans / "out")
    with pytest.raises(DataError, match="cannot be read"):
        run_pairs(FakeRegistrar(), scans / "gone.csv", scans / "out")
    assert not (scans / "out").exists()


def test_files_of_others_and_images_are_not_replaced(scans):
    (scans / "out").mkdir()
    (scans / "out" / "a_to_b.json").write_text("mine")
    with pytest.raises(OutputError, match="overwrite"):
        run_pairs(FakeRegistrar(), write_pairs(scans, ("a.png", "b.png")), scans / "out")
    pairs = write_pairs(scans, ("a.png", "b.png", "a_organs.png"))
    write_volume(scans / "a_to_b_mask.nii.gz", labels((8, 40, 48)))
    pairs = write_pairs(scans, ("a.png", "b.png", "a_to_b_mask.nii.gz"))
    with pytest.raises(OutputError, match="would replace"):
        run_pairs(FakeRegistrar(), pairs, scans, overwrite=True)


def test_a_network_registers_as_it_does_alone(scans):
    torch.manual_seed(0)
    model = AcRegNetModule(normalization="none", organs=["x"], label_weight=0.0, frame=FrameSpec(32)).eval()
    pairs = write_pairs(scans, ("b.png", "a.png", "b_organs.png", "a_organs.png", "p"))
    summary = run_pairs(model, pairs, scans / "out", formats=("field", "json"))
    assert not summary.failed
    alone = model.predict(scans / "b.png", scans / "a.png")
    warped, _ = read_labels(scans / "out" / "p_mask.nii.gz", 2)
    np.testing.assert_array_equal(warped, alone.warp(scans / "b_organs.png"))
    field = sitk.GetArrayFromImage(sitk.ReadImage(str(scans / "out" / "p_displacement.nii.gz")))
    np.testing.assert_allclose(field, alone.displacement_px, atol=1e-5)
    assert np.abs(undeformed(alone).displacement_px).max() < 1e-4


def test_pairs_are_computed_one_by_one():
    assert RegisterPairs.largest_batch == 1
