import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from PIL import Image as PILImage

from anatozoo.errors import ConfigError, DataError, OutputError
from anatozoo.frames.spec import FrameSpec
from anatozoo.methods.postdae.module import PostDAEModule
from anatozoo.serve.options import OptionError, ReadOptions
from tests.support.fake_model import FakeSegmenter
from tests.support.phantoms import make_chest_phantom
from tests.support.runs import run_folder, table_of, visible
from tests.unit.serve.fakes import FakeRepairer, labels, write_mask, write_volume


@pytest.fixture
def masks(tmp_path):
    for i in range(5):
        write_mask(tmp_path / "in" / f"scan{i}_mask.png", labels((40 + i, 48)))
    return tmp_path / "in"


def test_every_mask_gets_its_files_and_its_row(masks, tmp_path):
    out, model = tmp_path / "out", FakeRepairer()
    summary = run_folder(model, [masks], out, batch_size=2)
    assert model.batches == [2, 2, 1]
    assert not summary.failed
    assert visible(out) == {
        "manifest.csv",
        "measurements.csv",
        *(f"scan{i}{ending}" for i in range(5) for ending in ("_mask.png", "_repair.png", ".json")),
    }
    row = table_of(out)["scan3_mask.png"]
    assert (row["status"], row["stem"], row["flags"]) == ("ok", "scan3", "turned")
    assert row["outputs"] == "scan3_mask.png;scan3_repair.png;scan3.json"
    assert row["models"] == "fakedae-phantom 2.0.0"
    with PILImage.open(out / "scan3_mask.png") as picture:
        np.testing.assert_array_equal(np.asarray(picture), labels((43, 48))[::-1])
    about = json.loads((out / "scan3.json").read_text())
    assert (about["checkpoint"], about["image"], about["flags"]) == (
        "fakedae-phantom",
        "scan3_mask.png",
        ["turned"],
    )


def test_a_second_run_does_only_what_is_left(masks, tmp_path):
    out = tmp_path / "out"
    run_folder(FakeRepairer(), [masks], out, formats=("png", "json"))
    write_mask(masks / "scan2_mask.png", labels((50, 48)))
    (out / "scan4_mask.png").unlink()
    model = FakeRepairer()
    assert run_folder(model, [masks], out, formats=("png", "json")).already_done == 3
    assert model.seen == ["scan2_mask.png", "scan4_mask.png"]
    model.checkpoint_version = "2.0.1"
    run_folder(model, [masks], out, formats=("json",))
    assert len(model.seen) == 7
    assert not (out / "scan0_mask.png").exists()


def test_options_reach_the_model_and_change_what_is_done(masks, tmp_path):
    out, model = tmp_path / "out", FakeRepairer()
    run_folder(model, [masks], out, formats=("json",))
    organs = ("lung_left", "heart")
    run_folder(model, [masks], out, formats=("json",), options=ReadOptions((0.5, 0.5), classes=organs))
    assert len(model.seen) == 10
    about = json.loads((out / "scan0.json").read_text())
    assert about["spacing_mm"] == [0.5, 0.5]
    assert {organ for organ, found in about["after"].items() if found["pixels"]} == set(organs)


def test_bad_masks_do_not_stop_the_run(masks, tmp_path):
    write_mask(masks / "rgb.png", np.random.default_rng(0).integers(0, 255, (40, 48, 3)))
    write_mask(masks / "empty.png", np.zeros((40, 48)))
    write_mask(masks / "stray.png", 9 * labels())
    (masks / "damaged.png").write_bytes(b"no picture")
    write_volume(masks / "volume.nii.gz", labels((9, 40, 48)))
    model = FakeRepairer(bad=["scan1_mask.png"])
    summary = run_folder(model, [masks, tmp_path / "gone.png"], tmp_path / "out", formats=("json",))
    reasons = {Path(row.file).name: row.reason for row in summary.failed}
    assert set(reasons) == {
        "rgb.png",
        "empty.png",
        "stray.png",
        "damaged.png",
        "volume.nii.gz",
        "gone.png",
        "scan1_mask.png",
    }
    assert "colour" in reasons["rgb.png"]
    assert "empty" in reasons["empty.png"]
    assert "labels 9, 18" in reasons["stray.png"]
    assert "repairs 2-D masks" in reasons["volume.nii.gz"]
    assert "no such file" in reasons["gone.png"]
    assert reasons["scan1_mask.png"] == "RuntimeError: the repair cannot do this one"
    assert len(summary.rows) == 11
    assert {"scan0.json", "scan2.json", "scan3.json", "scan4.json"} < visible(tmp_path / "out")
    assert not list((tmp_path / "out").glob("scan1*"))


def test_volumes_keep_their_space(tmp_path):
    values = labels((6, 40, 48))
    write_volume(tmp_path / "in" / "a.nii.gz", values, (1.0, 1.5, 2.0))
    write_mask(tmp_path / "in" / "flat.png", labels())
    out, model = tmp_path / "out", FakeRepairer(["x", "y"], (8, 32, 32))
    summary = run_folder(model, [tmp_path / "in"], out)
    assert [Path(row.file).name for row in summary.failed] == ["flat.png"]
    assert visible(out) == {"manifest.csv", "measurements.csv", "a_mask.nii.gz", "a_repair.png", "a.json"}
    image = sitk.ReadImage(str(out / "a_mask.nii.gz"))
    assert image.GetSpacing() == (1.0, 1.5, 2.0)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image), values[:, ::-1])
    with pytest.raises(ConfigError, match="repaired volumes have no format png"):
        run_folder(model, [tmp_path / "in"], out, formats=("png",))
    with pytest.raises(ConfigError, match="one number or 3 here, not 2"):
        run_folder(model, [tmp_path / "in"], out, options=ReadOptions((1.0, 1.0)))


def test_of_results_the_masks_are_repaired_and_keep_their_names(tmp_path):
    for name in ("a.png", "b.png"):
        (tmp_path / "in").mkdir(exist_ok=True)
        PILImage.fromarray(make_chest_phantom(60, 70).image).save(tmp_path / "in" / name)
    drawn, out = tmp_path / "drawn", tmp_path / "out"
    run_folder(FakeSegmenter(), [tmp_path / "in"], drawn, formats=("png", "json", "csv", "nifti"))
    model = FakeRepairer()
    summary = run_folder(model, [drawn], out, formats=("png", "json"))
    # NIfTI rather than PNG, as it knows the spacing; no overlays.
    assert model.seen == ["a_mask.nii.gz", "b_mask.nii.gz"]
    assert not summary.failed
    assert {"a_mask.png", "b_mask.png", "a.json", "b.json"} < visible(out)
    assert run_folder(FakeRepairer(), [drawn], out, formats=("png", "json")).already_done == 2


def test_a_manifest_of_others_does_not_make_a_folder_of_results(masks, tmp_path):
    write_mask(masks / "plain.png", labels())
    (masks / "manifest.csv").write_text("file,patient\n")
    assert len(run_folder(FakeRepairer(), [masks], tmp_path / "out", formats=("json",)).rows) == 6


def test_masks_are_never_replaced(masks):
    with pytest.raises(OutputError, match="would replace"):
        run_folder(FakeRepairer(), [masks], masks, overwrite=True)


def test_a_mask_and_its_namesake_do_not_collide(tmp_path):
    for name in ("a.png", "a_mask.png", "_mask.png"):
        write_mask(tmp_path / "in" / name, labels())
    summary = run_folder(FakeRepairer(), [tmp_path / "in"], tmp_path / "out", formats=("json",))
    assert sorted(row.stem for row in summary.rows) == ["_mask", "a_mask_png", "a_png"]


def test_nothing_to_repair_is_said(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.jpg").write_bytes(b"x")
    with pytest.raises(DataError, match=r"no mask in this folder; masks end in \.nii\.gz, \.png"):
        run_folder(FakeRepairer(), [tmp_path / "in"], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_options_of_other_kinds_are_refused(masks, tmp_path):
    for model, options, words in (
        (FakeRepairer(), ReadOptions(invert=True), "invert is for radiographs; fakedae-phantom takes masks"),
        (
            FakeSegmenter(),
            ReadOptions(classes=("a",)),
            "names the labels of masks; fake-phantom takes images",
        ),
        (FakeSegmenter(), ReadOptions(ignore_spacing=True), "ignore_spacing is for pairs of images"),
    ):
        with pytest.raises(OptionError, match=words):
            run_folder(model, [masks], tmp_path / "out", options=options)
    with pytest.raises(ConfigError, match="no format csv"):
        run_folder(FakeRepairer(), [masks], tmp_path / "out", formats=("csv",))


def test_a_real_module_gives_what_it_gives_alone(masks, tmp_path):
    model = PostDAEModule(organs=["a", "b"], widths=[4, 8], code=8, skips=[2], frame=FrameSpec(32)).eval()
    summary = run_folder(model, [masks], tmp_path / "out", formats=("png",), batch_size=3)
    assert not summary.failed
    for i in range(5):
        alone = model.predict(masks / f"scan{i}_mask.png")
        with PILImage.open(tmp_path / "out" / f"scan{i}_mask.png") as picture:
            np.testing.assert_array_equal(np.asarray(picture), alone.after)
