import json
from dataclasses import replace
from importlib.util import find_spec

import numpy as np
import pytest
from PIL import Image as PILImage

from anatozoo.annotate import ledger
from anatozoo.annotate.engines import Local, Slurm, _Workers
from anatozoo.annotate.plan import Plan, write_plan
from anatozoo.annotate.run import annotate
from anatozoo.annotate.sinks import picture_path
from anatozoo.annotate.sources import list_items
from anatozoo.errors import AnatozooError, ConfigError, DataError, OutputError
from anatozoo.io.landmarks import draw_organ_mask
from anatozoo.io.rle import read_chexmask
from anatozoo.quality import build_atlas
from anatozoo.serve.manifest import exclusive
from tests.support.annotating import bytes_of, rows_of, settings, work
from tests.support.chest_data import write_chest_data
from tests.support.runs import write_scans
from tests.unit.quality.test_rca import Shift

ONE = Local(workers=1)
ODD = ("/", "a", "/a", "a/", "a//b", "a/b", "a.png", "a.png/b", "a.PNG/b", "..", "../a", ".", "%2F", "\udce9")


def test_every_image_is_in_the_tables_once_and_what_failed_says_why(model, scans, tmp_path):
    found = annotate(tmp_path / "out", settings(scans), engine=ONE)
    rows = rows_of(tmp_path / "out")
    assert [row["id"] for row in rows] == sorted(path.name for path in scans.iterdir())
    assert [row["status"] for row in rows].count("failed") == 1
    bad = next(row for row in rows if row["status"] == "failed")
    assert bad["id"] == "scan3b.png"
    assert bad["reason"]
    assert str(tmp_path) not in bad["reason"]
    assert sorted(model.seen) == [f"scan{i}" for i in range(6)]
    assert (tmp_path / "out" / "_SUCCESS").is_file()
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert found.summary == summary
    assert (summary["images"], summary["ok"], summary["failed"], found.left) == (7, 6, 1, 0)
    assert list(summary["failures"].values()) == [1]
    assert summary["quality"] is None
    assert set(summary["throughput"]["cpu_ms_per_image"]) == {"decode", "network", "quality", "encode"}


def test_chexmasks_tables_hold_both_frames(model, scans, tmp_path):
    annotate(tmp_path / "out", settings(scans), engine=ONE)
    image = scans / "scan2.png"
    result = model.predict(image)
    own = read_chexmask(tmp_path / "out" / "OriginalResolution.csv")["scan2.png"]
    assert own.size == result.size
    np.testing.assert_array_equal(own.masks(result.size)["heart"], result.masks["heart"])
    square = read_chexmask(tmp_path / "out" / "Preprocessed.csv")["scan2.png"]
    assert square.size == (1024, 1024)
    width, height = result.size
    scale = 1024 / max(width, height)
    pad = (1024 - scale * np.array([width, height])) / 2
    points = (result.landmarks["heart"] + 0.5) * scale + pad - 0.5
    np.testing.assert_array_equal(square.masks((1024, 1024))["heart"], draw_organ_mask(points, (1024, 1024)))
    assert len(read_chexmask(tmp_path / "out" / "Preprocessed.csv")) == 6


def test_a_run_that_was_stopped_goes_on_and_ends_with_the_same_bytes(model, scans, tmp_path):
    annotate(tmp_path / "whole", settings(scans), engine=ONE)
    model.seen.clear()

    def stop(shard):
        if shard == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        annotate(tmp_path / "out", settings(scans), engine=ONE, on_shard=stop)
    assert not (tmp_path / "out" / "_SUCCESS").exists()
    found = annotate(tmp_path / "out", engine=ONE)
    assert found.summary is not None
    assert sorted(model.seen) == [f"scan{i}" for i in range(6)]
    assert bytes_of(tmp_path / "out") == bytes_of(tmp_path / "whole")
    annotate(tmp_path / "out", settings(scans), engine=ONE)  # nothing is left to do
    assert len(model.seen) == 6


def test_tasks_do_disjoint_shards_and_the_last_writes_the_tables(model, scans, tmp_path):
    annotate(tmp_path / "whole", settings(scans), engine=ONE)
    out = tmp_path / "out"
    assert annotate(out, settings(scans), engine=Slurm(tasks=2)).left == 3
    script = (out / "annotate.sbatch").read_text()
    assert "--array=0-1" in script
    assert "SLURM_ARRAY_TASK_ID * 2" in script
    second = annotate(out, engine=ONE, shards=(2, 4))
    assert (second.left, second.summary) == (2, None)
    assert not (out / "_SUCCESS").exists()
    first = annotate(out, engine=ONE, shards=(0, 2))
    assert first.left == 0
    assert first.summary is not None
    assert bytes_of(out) == bytes_of(tmp_path / "whole")


def test_the_size_of_shards_and_batches_changes_no_row(model, scans, tmp_path):
    annotate(tmp_path / "a", settings(scans), engine=ONE)
    annotate(tmp_path / "b", settings(scans, shard_size=2, batch_size=2), engine=ONE)
    assert max(model.batches) == 2
    assert bytes_of(tmp_path / "a") == bytes_of(tmp_path / "b")


def test_another_run_in_the_folder_is_refused_with_the_difference(model, scans, tmp_path):
    annotate(tmp_path / "out", settings(scans), engine=ONE)
    before = bytes_of(tmp_path / "out")
    other = write_scans(tmp_path / "other", 1)
    for changed, said in (
        (settings(other), "sources="),
        (settings(scans, shard_size=4), "shard_size=3, and this one has 4"),
        (settings(scans, invert=True), "invert=none, and this one has True"),
        (replace(settings(scans), model="unet-jsrt"), "model=fake-phantom, and this one has unet-jsrt"),
    ):
        with pytest.raises(ConfigError, match=said):
            annotate(tmp_path / "out", changed, engine=ONE)
    assert bytes_of(tmp_path / "out") == before
    model.checkpoint_version = "1.0.1"
    ledger.shard_path(Plan.read(tmp_path / "out"), 0).unlink()
    with pytest.raises(ConfigError, match="made with model"):
        annotate(tmp_path / "out", engine=ONE)


def test_nothing_to_do_is_said(model, tmp_path):
    (tmp_path / "in").mkdir()
    with pytest.raises(DataError, match="no image in this folder"):
        annotate(tmp_path / "out", settings(tmp_path / "in"), engine=ONE)
    with pytest.raises(DataError, match="holds no plan"):
        annotate(tmp_path / "out", engine=ONE)
    with pytest.raises(ConfigError, match="no format 'bmp'"):
        annotate(tmp_path / "out", settings(tmp_path / "in", formats=("bmp",)), engine=ONE)


def test_a_second_run_over_the_same_folder_is_refused(model, scans, tmp_path):
    annotate(tmp_path / "out", settings(scans), engine=ONE)
    with exclusive(tmp_path / "out"), pytest.raises(OutputError, match="another run is writing"):
        annotate(tmp_path / "out", engine=ONE)


@pytest.mark.parametrize("damage", ["cut", "other", "gone"])
def test_a_damaged_result_is_found_and_done_again(model, scans, tmp_path, damage):
    out = tmp_path / "out"
    annotate(out, settings(scans), engine=ONE)
    before, plan = bytes_of(out), Plan.read(out)
    path = ledger.shard_path(plan, 1)
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-30])
    elif damage == "other":
        path.write_bytes(ledger.shard_path(plan, 0).read_bytes())
    if damage == "gone":
        path.unlink()
    else:
        with pytest.raises(OutputError, match="damaged"):
            annotate(out, engine=ONE)
    assert not (out / "_SUCCESS").exists() or damage == "gone"
    annotate(out, engine=ONE)
    assert bytes_of(out) == before


def test_failed_images_are_tried_again_where_that_is_asked_for(model, scans, tmp_path):
    out = tmp_path / "out"
    annotate(out, settings(scans), engine=ONE)
    (scans / "scan3b.png").write_bytes((scans / "scan3.png").read_bytes())
    assert annotate(out, engine=ONE).summary["failed"] == 1
    model.seen.clear()
    assert annotate(out, engine=ONE, retry_failed=True).summary["failed"] == 0
    assert len(model.seen) == 3  # of the shard with the failure alone


def test_an_error_of_the_network_is_that_of_its_image_alone(model, scans, tmp_path):
    model.bad = {"scan1"}
    found = annotate(tmp_path / "out", settings(scans, batch_size=3), engine=ONE)
    rows = {row["id"]: row for row in rows_of(tmp_path / "out")}
    assert found.summary["failed"] == 2
    assert rows["scan1.png"]["reason"] == "RuntimeError: the network cannot do scan1"
    assert rows["scan0.png"]["status"] == rows["scan2.png"]["status"] == "ok"


def test_label_maps_are_written_under_safe_names(model, tmp_path):
    scans = write_scans(tmp_path / "scans", 2)
    table = tmp_path / "list.csv"
    table.write_text("path,id\nscans/scan0.png,../../a\nscans/scan1.png,sub/b\n")
    annotate(tmp_path / "out", settings(table, formats=("png",)), engine=ONE)
    found = [p.relative_to(tmp_path / "out").as_posix() for p in (tmp_path / "out").rglob("*.png")]
    assert sorted(found) == ["masks/%2E%2E/%2E%2E/a.png", "masks/sub/b.png"]
    with PILImage.open(tmp_path / "out" / "masks" / "sub" / "b.png") as picture:
        np.testing.assert_array_equal(np.array(picture), model.predict(scans / "scan1.png").mask)


def test_the_quality_is_estimated_and_images_without_it_say_why(model, tmp_path, monkeypatch):
    monkeypatch.setattr("anatozoo.tasks.engines.engine_of", lambda names: Shift())
    root = write_chest_data(tmp_path / "chest", {"train": 2}, side=48)
    atlas = build_atlas(root, ("lungs", "heart"), name="small", layout="jsrt", image_size=48)
    atlas.save(tmp_path / "atlas")
    scans = write_scans(tmp_path / "scans", 2)
    found = annotate(tmp_path / "out", settings(scans, quality=str(tmp_path / "atlas"), count=2), engine=ONE)
    row = rows_of(tmp_path / "out")[0]
    assert 0 < float(row["dice_rca_mean"]) <= float(row["dice_rca_max"]) <= 1
    assert len(row["atlas_images"].split(";")) == 2
    stored = read_chexmask(tmp_path / "out" / "Preprocessed.csv")["scan0.png"].estimates
    assert stored["dice_rca_mean"] == float(row["dice_rca_mean"])
    assert found.summary["quality"]["judged"] == sum(found.summary["quality"]["counts"]) == 2

    class Lost(Shift):
        def register(self, moving, fixed):
            raise DataError("no likeness.")

    monkeypatch.setattr("anatozoo.tasks.engines.engine_of", lambda names: Lost())
    annotate(tmp_path / "none", settings(scans, quality=str(tmp_path / "atlas")), engine=ONE)
    row = rows_of(tmp_path / "none")[0]
    assert row["status"] == "ok"
    assert "no likeness" in row["reason"]
    assert row["flags"] == "quality_not_estimated"


# Starts five processes, each of which imports NumPy.
def test_workers_that_die_are_replaced_and_no_image_is_lost(scans, tmp_path, monkeypatch):
    out = tmp_path / "out"
    out.mkdir()
    listing = list_items([str(scans)], out)
    plan = write_plan(out, settings(scans), {"organs": [], "estimates": []}, listing.items, listing.roots)
    (out / "dies1").touch()
    done = []
    with _Workers(plan, "cpu", 2, work) as workers:
        workers.run(list(plan.shards), done.append)
    assert sorted(done) == [0, 1, 2]
    assert not (out / "dies1").exists()
    records = [each for shard in plan.shards for each in ledger.read(plan, shard)]
    assert [each.id for each in records if hasattr(each, "id")] == sorted(p.name for p in scans.iterdir())
    (out / "refuses").touch()
    with _Workers(plan, "cpu", 1, work) as workers, pytest.raises(AnatozooError, match="atlas is gone"):
        workers.run([0], done.append)
    (out / "always").touch()
    monkeypatch.setattr("anatozoo.annotate.engines.MOST_DEATHS", 1)
    with (
        _Workers(plan, "cpu", 1, work) as workers,
        pytest.raises(OutputError, match=r"1 workers died.*SIGKILL"),
    ):
        workers.run([0], done.append)


def test_parquet_has_units_statistics_and_a_row_for_each_image(model, scans, tmp_path, monkeypatch):
    parquet = pytest.importorskip("pyarrow.parquet")
    monkeypatch.setattr("anatozoo.annotate.sinks.ROW_GROUP", 4)
    annotate(tmp_path / "out", settings(scans, formats=("parquet",)), engine=ONE)
    file = parquet.ParquetFile(tmp_path / "out" / "annotations.parquet")
    assert file.metadata.num_rows == 7
    assert [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)] == [4, 3]
    units = {field.name: (field.metadata or {}).get(b"unit") for field in file.schema_arrow}
    assert units["area_px/heart"] == b"px2"
    assert units["spacing_x_mm"] == b"mm"
    assert units["cardiothoracic_ratio"] == b"1"
    column = file.schema_arrow.names.index("id")
    assert file.metadata.row_group(0).column(0).path_in_schema == file.schema_arrow.names[column] == "id"
    assert file.metadata.row_group(0).column(0).statistics.min == "scan0.png"
    rows = file.read().to_pylist()
    assert [row["id"] for row in rows] == [row["id"] for row in rows_of(tmp_path / "out")]
    assert rows[0]["landmarks/heart"][:2] == pytest.approx(
        model.predict(scans / "scan0.png").landmarks["heart"][0], abs=1e-3
    )
    assert rows[4]["status"] == "failed"
    assert rows[4]["rle/heart"] is None
    assert not (tmp_path / "out" / "Preprocessed.csv").exists()
    annotate(tmp_path / "again", settings(scans, formats=("parquet",)), engine=ONE)
    names = ["annotations.parquet"]
    assert bytes_of(tmp_path / "again", names) == bytes_of(tmp_path / "out", names)


@pytest.mark.skipif(find_spec("pyarrow") is not None, reason="pyarrow is installed")
def test_parquet_without_its_package_is_refused_before_anything_is_computed(model, scans, tmp_path):
    with pytest.raises(ConfigError, match=r"pip install 'anatozoo\[annotate\]'"):
        annotate(tmp_path / "out", settings(scans, formats=("parquet",)), engine=ONE)
    assert not (tmp_path / "out").exists()


def test_every_id_has_a_picture_of_its_own(tmp_path):
    paths = [picture_path(tmp_path, name) for name in (*ODD, 300 * "x", 300 * "x" + "y", "é" * 90)]
    assert len(set(paths)) == len(paths)
    for path in paths:  # no folder is called as a file, none is too long, and none lies elsewhere
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(exist_ok=False)
    assert {path for path in tmp_path.rglob("*") if path.is_file()} == set(paths)
