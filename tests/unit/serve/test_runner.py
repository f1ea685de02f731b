import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image as PILImage

from anatozoo.errors import ConfigError, DataError, OutputError
from anatozoo.io import writers
from anatozoo.io.annotations import find_annotations
from anatozoo.io.rle import read_chexmask
from anatozoo.results.segmentation import SegmentationResult
from anatozoo.serve.manifest import LOCK_NAME, exclusive
from anatozoo.serve.options import ReadOptions
from tests.support.fake_model import FakeSegmenter
from tests.support.phantoms import make_chest_phantom
from tests.support.runs import run_folder, table_of, visible, write_scans


def add_image(path, width=60, height=70):
    path.parent.mkdir(parents=True, exist_ok=True)
    # By way of PIL: OpenCV does not write every file name.
    PILImage.fromarray(make_chest_phantom(width, height).image).save(path)
    return path


@pytest.fixture
def folder(tmp_path):
    return write_scans(tmp_path / "in", 5)


def test_every_image_gets_its_files_and_its_row(folder, tmp_path):
    out = tmp_path / "out"
    model = FakeSegmenter()
    summary = run_folder(model, [folder], out, batch_size=2)
    assert model.batches == [2, 2, 1]
    expected = {f"scan{i}{end}" for i in range(5) for end in ("_mask.png", "_overlay.png", ".json")}
    assert visible(out) == expected | {"manifest.csv", "measurements.csv"}
    rows = table_of(out)
    assert list(rows) == [f"scan{i}.png" for i in range(5)]
    assert {row["status"] for row in rows.values()} == {"ok"}
    assert rows["scan3.png"]["outputs"] == "scan3_mask.png;scan3_overlay.png;scan3.json"
    assert rows["scan3.png"]["stem"] == "scan3"
    assert float(rows["scan3.png"]["seconds"]) > 0
    values = json.loads((out / "scan3.json").read_text())
    assert values["image"] == "scan3.png"
    assert values["size"] == [63, 70]
    assert values["checkpoint"] == "fake-phantom"
    assert (summary.already_done, len(summary.rows), summary.failed) == (0, 5, ())


def test_a_run_gives_what_predict_gives(folder, tmp_path):
    run_folder(FakeSegmenter(), [folder], tmp_path / "out", formats=("png", "csv"), batch_size=3)
    result = FakeSegmenter().predict(folder / "scan2.png")
    with PILImage.open(tmp_path / "out" / "scan2_mask.png") as picture:
        np.testing.assert_array_equal(np.array(picture), result.mask)


def test_a_table_of_chexmask_holds_all_images_of_a_folder(folder, tmp_path):
    out = tmp_path / "out"
    run_folder(FakeSegmenter(), [folder / "scan2.png"], out, formats=("chexmask",))
    assert list(read_chexmask(out / "chexmask.csv")) == ["scan2.png"]
    run_folder(FakeSegmenter(), [folder], out, formats=("chexmask",))
    table = read_chexmask(out / "chexmask.csv")
    assert list(table) == sorted(path.name for path in folder.iterdir())
    result = FakeSegmenter().predict(folder / "scan2.png")
    assert table["scan2.png"].size == result.size
    for organ, mask in table["scan2.png"].masks(result.size).items():
        np.testing.assert_array_equal(mask, result.masks[organ])
    # Other tools of the package find every image once, whatever stands beside the table.
    assert len(find_annotations(out).entries) == len(table)
    run_folder(FakeSegmenter(), [folder], out, formats=("chexmask", "png"))
    found = find_annotations(out).entries
    assert len(found) == len(table)
    assert all(entry.row is None for entry in found.values())


def test_bad_files_fail_alone_and_with_a_reason(folder, tmp_path):
    (folder / "empty.png").write_bytes(b"")
    (folder / "cut.png").write_bytes((folder / "scan0.png").read_bytes()[:60])
    cv2.imwrite(str(folder / "flat.png"), np.full((64, 64), 9, np.uint8))
    model = FakeSegmenter(bad={"scan3"})
    summary = run_folder(model, [folder, tmp_path / "gone.png"], tmp_path / "out", batch_size=4)
    rows = table_of(tmp_path / "out")
    assert {name for name, row in rows.items() if row["status"] == "failed"} == {
        "empty.png",
        "cut.png",
        "flat.png",
        "gone.png",
        "scan3.png",
    }
    assert len(summary.failed) == 5
    assert len(rows) == 9
    assert "zero bytes" in rows["empty.png"]["reason"]
    assert "no such file" in rows["gone.png"]["reason"]
    assert rows["scan3.png"]["reason"] == "RuntimeError: the network cannot do scan3"
    assert rows["scan3.png"]["outputs"] == ""
    assert (tmp_path / "out" / "scan2.json").exists()
    assert not list((tmp_path / "out").glob("scan3*"))


def test_a_model_that_loses_an_image_is_asked_one_by_one(folder, tmp_path):
    class Loses(FakeSegmenter):
        def predict_batch(self, xs, batch_size=8):
            yield from list(super().predict_batch(xs, batch_size))[:-1]

    summary = run_folder(Loses(), [folder], tmp_path / "out", batch_size=5)
    assert not summary.failed
    assert json.loads((tmp_path / "out" / "scan4.json").read_text())["size"] == [64, 70]


def test_a_second_run_does_only_what_is_left(folder, tmp_path):
    out = tmp_path / "out"
    (folder / "scan9.png").write_bytes(b"")
    run_folder(FakeSegmenter(), [folder], out)
    before = table_of(out)
    add_image(folder / "scan9.png")  # repaired
    add_image(folder / "new.png")
    (out / "scan1_overlay.png").unlink()  # lost
    add_image(folder / "scan2.png", 90, 90)  # changed
    model = FakeSegmenter()
    summary = run_folder(model, [folder], out)
    assert sorted(model.seen) == ["new", "scan1", "scan2", "scan9"]
    assert summary.already_done == 3
    assert len(summary.rows) == 7
    after = table_of(out)
    assert after["scan0.png"] == before["scan0.png"]
    assert after["scan9.png"]["status"] == "ok"
    assert json.loads((out / "scan2.json").read_text())["size"] == [90, 90]
    again = FakeSegmenter()
    assert run_folder(again, [folder], out).already_done == 7
    assert again.seen == []


def test_another_checkpoint_or_other_options_do_it_again(folder, tmp_path):
    out = tmp_path / "out"
    run_folder(FakeSegmenter(), [folder], out, formats=("json",))
    newer = FakeSegmenter()
    newer.checkpoint_version = "1.0.1"
    run_folder(newer, [folder], out, formats=("json",))
    assert len(newer.seen) == 5
    run_folder(newer, [folder], out, formats=("json",), options=ReadOptions(spacing_mm=(0.5, 0.5)))
    assert len(newer.seen) == 10
    assert json.loads((out / "scan0.json").read_text())["spacing_mm"] == [0.5, 0.5]
    run_folder(
        newer, [folder], out, formats=("json",), options=ReadOptions(spacing_mm=(0.5, 0.5)), overwrite=True
    )
    assert len(newer.seen) == 15


def test_outputs_in_other_formats_stay_if_they_still_hold_and_go_if_not(folder, tmp_path):
    out = tmp_path / "out"
    model = FakeSegmenter()
    run_folder(model, [folder], out, formats=("json", "csv"))
    run_folder(model, [folder], out, formats=("json", "nifti"))
    assert table_of(out)["scan0.png"]["outputs"].split(";") == [
        "scan0.json",
        "scan0_mask.nii.gz",
        "scan0_landmarks.csv",
    ]
    run_folder(model, [folder], out, formats=("csv",))
    assert len(model.seen) == 10  # all there already
    model.checkpoint_version = "2"
    run_folder(model, [folder], out, formats=("json",))
    assert visible(out) == {"manifest.csv", "measurements.csv", *(f"scan{i}.json" for i in range(5))}


def test_runs_on_other_images_keep_the_earlier_rows(folder, tmp_path):
    out = tmp_path / "out"
    run_folder(FakeSegmenter(), [folder / "scan1.png"], out)
    run_folder(FakeSegmenter(), [folder / "scan0.png"], out)
    assert list(table_of(out)) == ["scan0.png", "scan1.png"]


def test_images_of_the_same_name_do_not_collide(tmp_path):
    for name in ("x/a.png", "y/a.png", "a.png", "a.jpg", "new\nline ü 心臓.png"):
        add_image(tmp_path / "in" / name)
    summary = run_folder(FakeSegmenter(), [tmp_path / "in"], tmp_path / "out", formats=("json",))
    stems = {row.stem for row in summary.rows}
    assert len(stems) == 5
    assert {"a_jpg", "new\nline ü 心臓"} < stems
    assert visible(tmp_path / "out") == {
        "manifest.csv",
        "measurements.csv",
        *(f"{stem}.json" for stem in stems),
    }
    model = FakeSegmenter()
    run_folder(model, [tmp_path / "in"], tmp_path / "out", formats=("json",))
    assert model.seen == []


def test_files_of_others_are_not_replaced(folder, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "scan2.json").write_text("mine")
    with pytest.raises(OutputError, match=r"scan2\.json.*--overwrite"):
        run_folder(FakeSegmenter(), [folder], out)
    assert (out / "scan2.json").read_text() == "mine"
    assert visible(out) == {"scan2.json"}
    run_folder(FakeSegmenter(), [folder], out, overwrite=True)
    assert json.loads((out / "scan2.json").read_text())["checkpoint"] == "fake-phantom"


def test_images_are_never_replaced_by_results(folder):
    add_image(folder / "scan1_mask.png", 99, 99)
    with pytest.raises(OutputError, match="would replace an image"):
        run_folder(FakeSegmenter(), [folder], folder, overwrite=True)
    with PILImage.open(folder / "scan1_mask.png") as picture:
        assert picture.size == (99, 99)


def test_results_beside_the_images_are_not_taken_for_images(folder):
    run_folder(FakeSegmenter(), [folder], folder)
    summary = run_folder(FakeSegmenter(), [folder], folder)
    assert (summary.already_done, len(summary.rows)) == (5, 5)


def test_two_runs_on_one_folder_are_refused(folder, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    with exclusive(out), pytest.raises(OutputError, match="another run is writing"):
        run_folder(FakeSegmenter(), [folder], out)
    assert visible(out) == set()
    assert not run_folder(FakeSegmenter(), [folder], out).failed


def test_nothing_to_do_is_said(tmp_path):
    (tmp_path / "in").mkdir()
    with pytest.raises(DataError, match="no image in this folder"):
        run_folder(FakeSegmenter(), [tmp_path / "in"], tmp_path / "out")
    with pytest.raises(DataError, match="Give files"):
        run_folder(FakeSegmenter(), [], tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("wrong", [{"batch_size": 0}, {"workers": 0}, {"formats": ("bmp",)}])
def test_impossible_options_are_refused(folder, tmp_path, wrong):
    with pytest.raises(ConfigError):
        run_folder(FakeSegmenter(), [folder], tmp_path / "out", **wrong)


def test_an_output_that_cannot_be_written_fails_one_image_and_leaves_no_part_of_it(folder, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    run_folder(FakeSegmenter(), [folder / "scan0.png"], out)
    (out / "scan1.json").mkdir()
    summary = run_folder(FakeSegmenter(), [folder], out)
    assert [Path(row.file).name for row in summary.failed] == ["scan1.png"]
    assert "a folder has this name" in summary.failed[0].reason
    assert not (out / "scan1_mask.png").exists()
    assert (out / "scan4.json").exists()


def test_a_full_disk_ends_the_run_which_can_be_resumed(folder, tmp_path, monkeypatch):
    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        saved = []

        def save(self, directory, formats, stem):
            saved.append(stem)
            if len(saved) > 2:
                error = OutputError("the disk or quota is full")
                raise error from OSError(28, "No space left on device")
            return SegmentationResult_save(self, directory, formats, stem)

        SegmentationResult_save = SegmentationResult.save
        patch.setattr(SegmentationResult, "save", save)
        with pytest.raises(OutputError, match="disk or quota is full"):
            run_folder(FakeSegmenter(), [folder], out, batch_size=1, workers=1)
    assert len(table_of(out)) == 2
    summary = run_folder(FakeSegmenter(), [folder], out)
    assert (summary.already_done, summary.failed) == (2, ())


def test_an_interrupt_leaves_a_run_that_can_be_resumed(folder, tmp_path):
    class Interrupted(FakeSegmenter):
        def predict_batch(self, xs, batch_size=8):
            if len(self.batches) == 3:
                raise KeyboardInterrupt
            yield from super().predict_batch(xs, batch_size)

    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        run_folder(Interrupted(), [folder], out, batch_size=1)
    rows = table_of(out)
    assert 0 < len(rows) < 5
    assert not list(out.glob(f"{writers.TEMPORARY_PREFIX}*"))
    summary = run_folder(FakeSegmenter(), [folder], out)
    assert summary.already_done == len(rows)
    assert not summary.failed


_SLOW_RUN = """
import sys, time
from tests.support.runs import run_folder
from tests.support.fake_model import FakeSegmenter

class Slow(FakeSegmenter):
    def predict_batch(self, xs, batch_size=8):
        time.sleep(0.2)
        yield from super().predict_batch(xs, batch_size)

run_folder(Slow(), [sys.argv[1]], sys.argv[2], batch_size=1)
"""


def test_a_killed_run_is_resumed_at_once(folder, tmp_path):
    out = tmp_path / "out"
    project = Path(__file__).resolve().parents[3]
    process = subprocess.Popen([sys.executable, "-c", _SLOW_RUN, str(folder), str(out)], cwd=project)
    try:
        deadline = time.monotonic() + 60
        while not (out / "scan1.json").exists():
            assert process.poll() is None, "the run ended before it could be killed"
            assert time.monotonic() < deadline
            time.sleep(0.01)
        with pytest.raises(OutputError, match="another run"):
            run_folder(FakeSegmenter(), [folder], out)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    (out / f"{writers.TEMPORARY_PREFIX}half.png").write_bytes(b"half")
    for name in visible(out) - {"manifest.csv"}:
        if name.endswith(".json"):
            json.loads((out / name).read_text())
    done = table_of(out)
    assert len(done) < 5
    summary = run_folder(FakeSegmenter(), [folder], out)
    assert summary.already_done == len(done) > 0
    assert not summary.failed
    assert {p.name for p in out.iterdir() if p.name.startswith(".")} <= {LOCK_NAME}
    assert len(table_of(out)) == 5


def test_only_a_few_images_are_in_memory(tmp_path, monkeypatch):
    import anatozoo.serve.images as images

    for i in range(24):
        add_image(tmp_path / "in" / f"{i:02}.png", 32, 32)
    read, written = [], []
    original = images.read_image

    def counted(path, **options):
        read.append(path)
        return original(path, **options)

    most = 0

    class Watching(FakeSegmenter):
        def predict_batch(self, xs, batch_size=8):
            nonlocal most
            most = max(most, len(read) - len(written))
            yield from super().predict_batch(xs, batch_size)

    monkeypatch.setattr(images, "read_image", counted)
    run_folder(
        Watching(),
        [tmp_path / "in"],
        tmp_path / "out",
        formats=("json",),
        batch_size=2,
        on_row=written.append,
    )
    assert len(written) == 24
    assert 2 <= most <= 3 * 2 + 1


def test_callbacks_tell_the_progress(folder, tmp_path):
    run_folder(FakeSegmenter(), [folder / "scan0.png"], tmp_path / "out")
    starts, rows = [], []
    run_folder(
        FakeSegmenter(),
        [folder],
        tmp_path / "out",
        on_start=lambda total, done: starts.append((total, done)),
        on_row=rows.append,
    )
    assert starts == [(5, 1)]
    assert sorted(Path(row.file).name for row in rows) == [f"scan{i}.png" for i in range(1, 5)]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission_is_a_sentence(folder, tmp_path):
    out = tmp_path / "out"
    out.mkdir(mode=0o500)
    with pytest.raises(OutputError, match="no permission"):
        run_folder(FakeSegmenter(), [folder], out)
