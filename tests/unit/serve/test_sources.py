"""What tables call their inputs, and how inputs are known again."""

import os
import shutil
from pathlib import Path

import pytest
from PIL import Image as PILImage

from anatozoo.errors import OutputError
from anatozoo.serve.manifest import LOCK_NAME, Row, read_manifest
from anatozoo.serve.plan import Job
from anatozoo.serve.sources import Input, assign_keys
from tests.support.fake_model import FakeSegmenter
from tests.support.phantoms import make_chest_phantom
from tests.support.runs import rows_of, run_folder


def add_image(path, width=60):
    path.parent.mkdir(parents=True, exist_ok=True)
    PILImage.fromarray(make_chest_phantom(width, 70).image).save(path)
    os.utime(path, (10**9, 10**9))
    return path


def files_of(out):
    return [row["file"] for row in rows_of(out)]


def run(inputs, out, **more):
    model = FakeSegmenter()
    summary = run_folder(model, inputs, out, formats=("json",), **more)
    return model.seen, summary


@pytest.fixture
def folder(tmp_path):
    for i, name in enumerate(("a.png", "sub/b.png", "sub/deep/a.png")):
        add_image(tmp_path / "in" / name, 60 + i)
    return tmp_path / "in"


def test_a_table_holds_no_path_of_this_machine(folder, tmp_path):
    (folder / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\n torn")
    run([folder, tmp_path / "gone.png"], tmp_path / "out")
    assert files_of(tmp_path / "out") == ["a.png", "bad.png", "gone.png", "sub/b.png", "sub/deep/a.png"]
    assert str(tmp_path) not in (tmp_path / "out" / "manifest.csv").read_text()


def test_a_folder_that_moved_is_not_done_again(folder, tmp_path):
    run([folder], tmp_path / "out")
    before = files_of(tmp_path / "out")
    shutil.move(folder, tmp_path / "elsewhere")
    seen, summary = run([tmp_path / "elsewhere"], tmp_path / "out")
    assert (seen, summary.already_done) == ([], 3)
    assert files_of(tmp_path / "out") == before
    # And once more, now that the table knows the new place.
    assert run([tmp_path / "elsewhere"], tmp_path / "out")[0] == []


def test_a_part_of_the_folder_keeps_its_names(folder, tmp_path):
    run([folder], tmp_path / "out")
    before = files_of(tmp_path / "out")
    assert run([folder / "sub"], tmp_path / "out")[0] == []
    assert run([folder / "sub" / "b.png"], tmp_path / "out")[0] == []
    assert files_of(tmp_path / "out") == before


def test_folders_with_equal_names_stay_apart(tmp_path):
    for site in ("siteA", "siteB"):
        add_image(tmp_path / site / "images" / "1.png", 60 if site == "siteA" else 61)
    roots = [tmp_path / site / "images" for site in ("siteA", "siteB")]
    seen, summary = run(roots, tmp_path / "out")
    assert len(seen) == 2
    assert files_of(tmp_path / "out") == ["siteA/images/1.png", "siteB/images/1.png"]
    assert len({row.stem for row in summary.rows}) == 2
    for root in roots:
        assert run([root], tmp_path / "out")[0] == []


def test_a_second_folder_replaces_nothing_even_with_equal_sizes_and_times(tmp_path):
    first, second = tmp_path / "a" / "in" / "1.bmp", tmp_path / "b" / "in" / "1.bmp"
    for path, value in ((first, 10), (second, 200)):
        path.parent.mkdir(parents=True)
        picture = make_chest_phantom(60, 70).image
        picture[:2] = value
        PILImage.fromarray(picture).save(path)
        os.utime(path, (10**9, 10**9))
    assert first.stat().st_size == second.stat().st_size
    assert len(run([first.parent], tmp_path / "out")[0]) == 1
    assert len(run([second.parent], tmp_path / "out")[0]) == 1
    assert files_of(tmp_path / "out") == ["1.bmp", "in/1.bmp"]
    assert run([second.parent], tmp_path / "out")[0] == []
    assert run([first.parent], tmp_path / "out")[0] == []


def test_patterns_and_files_start_from_their_folder(folder, tmp_path):
    run([str(folder / "sub" / "**" / "*.png")], tmp_path / "one")
    assert files_of(tmp_path / "one") == ["b.png", "deep/a.png"]
    run([folder / "sub" / "b.png"], tmp_path / "two")
    assert files_of(tmp_path / "two") == ["b.png"]


@pytest.mark.skipif(os.name != "posix", reason="other systems have no such names")
@pytest.mark.parametrize(
    "name", ["=1+1.png", "-2.png", "new\nline.png", "\x1b[31mred.png", "\udce9.png", "'=x.png"]
)
def test_odd_names_are_known_again(tmp_path, name):
    add_image(tmp_path / "in" / name)
    run([tmp_path / "in"], tmp_path / "out")
    text = (tmp_path / "out" / "manifest.csv").read_bytes().decode("utf-8")
    assert text.replace("\n", "").isprintable()
    assert files_of(tmp_path / "out")[0].isprintable()
    seen, summary = run([tmp_path / "in"], tmp_path / "out")
    assert (seen, summary.already_done, summary.rows[0].file) == ([], 1, name)


def test_a_table_cannot_make_a_run_remove_files_elsewhere(folder, tmp_path):
    victim = tmp_path / "x.json"
    victim.write_text("precious")
    run([folder], tmp_path / "out")
    table = tmp_path / "out" / "manifest.csv"
    text = table.read_text().replace(",a,", ",../x,").replace("a.json", "../x.json", 1)
    table.write_text(text)
    (folder / "a.png").unlink()
    add_image(folder / "a.png", 77)
    run([folder], tmp_path / "out", overwrite=True)
    assert victim.read_text() == "precious"


def test_labels_are_the_shortest_ends_that_differ(tmp_path):
    roots = [tmp_path / p for p in ("x/a/img", "y/a/img", "z")]
    inputs = [Input(root / "1.png", root, (root / "1.png",)) for root in roots]
    keys = list(assign_keys(inputs, {}).values())
    assert keys == ["x/a/img/1.png", "y/a/img/1.png", "z/1.png"]
    taken = {"1.png": Row("1.png", "ok", more={"source": "0-1"}), "z/1.png": Row("z/1.png", "ok")}
    [key] = assign_keys(inputs[2:], taken).values()
    assert (key.startswith("z_"), key.endswith("/1.png")) == (True, True)


# --- the folder of results is removed or filled in mid-run ------------------------------------------------


@pytest.mark.parametrize("gone", ["folder", "table", "lock", "replaced", "result"])
def test_results_that_vanish_in_mid_run_are_an_error(tmp_path, gone):
    for i in range(12):
        add_image(tmp_path / "in" / f"{i:02d}.png")
    out, rows = tmp_path / "out", []

    def on_row(row):
        rows.append(row)
        if len(rows) != 5:
            return
        if gone in ("folder", "replaced"):
            # At once: threads still write into it, and what walks through it may miss a file.
            out.rename(tmp_path / "away")
            if gone == "replaced":
                out.mkdir()
        else:
            (out / {"table": "manifest.csv", "lock": LOCK_NAME, "result": "00.json"}[gone]).unlink()

    with pytest.raises(OutputError, match="removed"):
        run_folder(FakeSegmenter(), [tmp_path / "in"], out, formats=("json",), batch_size=2, on_row=on_row)
    # The same command again does the rest; without its table it must be told whose files these are.
    summary = run([tmp_path / "in"], out, overwrite=gone == "table")[1]
    assert len(summary.rows) == 12
    assert all((out / name).is_file() for row in summary.rows for name in row.outputs)
    assert len(read_manifest(out)) == 12


@pytest.mark.parametrize(
    ("root", "shown"), [("/in", "'a.png': 3/4 is lost"), ("/", "'/in/a.png': 3/4 is lost")]
)
def test_reasons_name_files_below_the_folder_and_lose_nothing_else(root, shown):
    job = Job("a.png", Path("/in/a.png"), (), "a", (), "", root=Path(root))
    assert job.failure("'/in/a.png': 3/4 is lost", 0.0).reason == shown
