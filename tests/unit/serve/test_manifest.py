import csv
import errno
import os

import pytest

from anatozoo.errors import OutputError
from anatozoo.serve.manifest import (
    COLUMNS,
    LOCK_NAME,
    MANIFEST_NAME,
    Layout,
    ManifestWriter,
    Row,
    exclusive,
    has_manifest,
    read_manifest,
)


def row(file="/in/a.png", **changes):
    values = {
        "file": file,
        "status": "ok",
        "seconds": 0.25,
        "flags": ("f", "g"),
        "stem": "a",
        "fingerprint": "00",
    }
    return Row(**(values | changes))


def write(folder, *rows):
    with ManifestWriter(folder, []) as table:
        for item in rows:
            table.append(item)


def table_of(folder):
    with (folder / MANIFEST_NAME).open(newline="", encoding="utf-8", errors="surrogateescape") as file:
        return list(csv.DictReader(file))


def test_rows_are_on_disk_as_soon_as_they_are_added(tmp_path):
    with ManifestWriter(tmp_path, []) as table:
        assert table_of(tmp_path) == []
        table.append(row())
        assert [r["file"] for r in table_of(tmp_path)] == ["/in/a.png"]
    assert tuple(table_of(tmp_path)[0]) == COLUMNS


@pytest.mark.parametrize("odd", ["/in/new\nline,'\".png", "/in/心臓.png", "/in/\udcff.png", "/in/a;b.png"])
def test_odd_names_lead_back(tmp_path, odd):
    stem = odd[4:-4]
    given = row(odd, stem=stem, outputs=(f"{stem}_mask.png", f"{stem}.json"))
    write(tmp_path, given)
    assert read_manifest(tmp_path) == {odd: given}


def test_failed_rows_lead_back(tmp_path):
    given = row(status="failed", reason="it is empty, sadly", flags=(), seconds=0.0)
    write(tmp_path, given)
    assert read_manifest(tmp_path) == {given.file: given}


def test_no_manifest_is_no_run(tmp_path):
    assert read_manifest(tmp_path) is None
    write(tmp_path)
    assert read_manifest(tmp_path) == {}


@pytest.mark.parametrize("cut", range(1, 54, 6))
def test_a_torn_last_row_is_left_out(tmp_path, cut):
    odd = row('/in/b "\n.png', stem='b "\n', outputs=('b "\n.json',))
    write(tmp_path, row(), odd)
    path = tmp_path / MANIFEST_NAME
    path.write_bytes(path.read_bytes()[:-cut])
    assert read_manifest(tmp_path) == {"/in/a.png": row()}


def test_a_new_writer_starts_with_whole_rows_only(tmp_path):
    write(tmp_path, row())
    with (tmp_path / MANIFEST_NAME).open("a") as file:
        file.write('"/in/torn')
    rows = read_manifest(tmp_path)
    with ManifestWriter(tmp_path, rows.values()) as table:
        table.append(row("/in/c.png"))
    assert [r["file"] for r in table_of(tmp_path)] == ["/in/a.png", "/in/c.png"]


def test_sorting_keeps_one_row_per_file(tmp_path):
    with ManifestWriter(tmp_path, [row("/in/b.png")]) as table:
        table.append(row("/in/a.png"))
        table.sort()
    assert [r["file"] for r in table_of(tmp_path)] == ["/in/a.png", "/in/b.png"]


def test_somebody_elses_table_is_left_alone(tmp_path):
    path = tmp_path / MANIFEST_NAME
    for content in ("patient,age\n1,2\n", ""):
        path.write_text(content)
        with pytest.raises(OutputError, match="not a table of anatozoo"):
            read_manifest(tmp_path)
        assert path.read_text() == content


def test_a_full_disk_is_a_sentence(tmp_path, monkeypatch):
    with ManifestWriter(tmp_path, []) as table:
        monkeypatch.setattr(os, "write", lambda descriptor, line: len(line) // 2)
        with pytest.raises(OutputError, match="disk or quota is full"):
            table.append(row())


def test_a_folder_is_held_by_one_run_and_free_afterwards(tmp_path):
    second = exclusive(tmp_path)
    with exclusive(tmp_path), pytest.raises(OutputError, match="another run is writing"):
        second.__enter__()
    with exclusive(tmp_path):
        assert (tmp_path / LOCK_NAME).exists()


def test_a_lock_that_cannot_be_made_is_a_sentence(tmp_path, monkeypatch):
    import filelock

    def refuse(self):
        raise OSError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(filelock.FileLock, "acquire", refuse)
    lock = exclusive(tmp_path)
    with pytest.raises(OutputError, match="no permission"):
        lock.__enter__()


PAIRS = Layout("name", ("moving", "fixed"), ("dice_after",))


def test_further_columns_lead_back(tmp_path):
    more = {"moving": "/in/ä,b.png", "fixed": "c", "dice_after": "0.9"}
    given = row("pair 1", stem="pair 1", outputs=("pair 1_warped.nii.gz", "pair 1_mask.nii.gz"), more=more)
    with ManifestWriter(tmp_path, [], PAIRS) as table:
        table.append(given)
        table.sort()
    assert list(table_of(tmp_path)[0]) == ["name", *COLUMNS[1:], "moving", "fixed", "dice_after"]
    found = read_manifest(tmp_path, PAIRS)
    # Names are listed in the order of the formats.
    assert found["pair 1"].more == more
    assert set(found["pair 1"].outputs) == set(given.outputs)


def test_a_table_of_another_kind_of_run_is_left_alone(tmp_path):
    write(tmp_path, row())
    with pytest.raises(OutputError, match="over single files, and this one is over pairs"):
        read_manifest(tmp_path, PAIRS)


def test_a_table_with_other_further_columns_is_read(tmp_path):
    write(tmp_path, row())
    rows = read_manifest(tmp_path, Layout(details=("models",)))
    with ManifestWriter(tmp_path, rows.values(), Layout(details=("models",))) as table:
        table.append(row("/in/c.png", more={"models": "a 1;b 2"}))
    assert [r["models"] for r in table_of(tmp_path)] == ["", "a 1;b 2"]
    assert list(read_manifest(tmp_path)) == ["/in/a.png", "/in/c.png"]


def test_a_folder_of_results_is_known_by_its_table(tmp_path):
    assert not has_manifest(tmp_path)
    (tmp_path / MANIFEST_NAME).write_text("file,patient\n")
    assert not has_manifest(tmp_path)
    (tmp_path / MANIFEST_NAME).unlink()
    for layout in (Layout(), PAIRS):
        with ManifestWriter(tmp_path, [], layout):
            assert has_manifest(tmp_path)
