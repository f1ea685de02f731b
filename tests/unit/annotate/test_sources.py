import io
import tarfile

import pytest

from anatozoo.annotate import sources
from anatozoo.annotate.plan import Item
from anatozoo.annotate.sources import SourceGone, check_roots, list_items, open_item
from anatozoo.errors import ConfigError, DataError, ImageError
from anatozoo.io.images import read_image
from tests.support.runs import write_scans


@pytest.fixture
def scans(tmp_path):
    return write_scans(tmp_path / "scans", 3)


@pytest.fixture
def store(scans):
    """The scans in a store in memory."""
    fsspec = pytest.importorskip("fsspec")
    system = fsspec.filesystem("memory")
    for path in scans.iterdir():
        system.pipe_file(f"/bucket/scans/{path.name}", path.read_bytes())
    system.pipe_file("/bucket/scans/note.txt", b"no image")
    yield system
    system.rm("/bucket", recursive=True)


def ids(listing):
    return sorted(item.id for item in listing.items)


def names(count=3):
    return [f"scan{i}.png" for i in range(count)]


def test_folders_patterns_and_files(scans, tmp_path):
    (scans / "note.txt").write_text("no image")
    (scans / "sub").mkdir()
    (scans / "sub" / "deep.png").write_bytes((scans / "scan0.png").read_bytes())
    assert ids(list_items([str(scans)], tmp_path)) == [*names(), "sub/deep.png"]
    assert ids(list_items([f"{scans}/*.png"], tmp_path)) == names()
    found = list_items([str(scans / "scan1.png")], tmp_path)
    assert found.items == [Item("scan1.png", str(scans / "scan1.png"))]
    assert found.roots == (str(scans),)


def test_several_sources_are_told_apart_and_what_is_listed_twice_is_taken_once(scans, tmp_path):
    other = write_scans(tmp_path / "other", 1)
    found = list_items([str(scans), str(other), str(scans / "scan2.png")], tmp_path)
    assert ids(found) == ["other/scan0.png", "scans/scan0.png", "scans/scan1.png", "scans/scan2.png"]
    assert "1 images are listed more than once" in found.remarks[0]


def test_tables_name_files_from_their_own_folder_on(scans, tmp_path):
    table = tmp_path / "list.csv"
    table.write_text(f"sex,path\nF,scans/scan0.png\nM,{scans}/scan1.png\n")
    found = list_items([str(table)], tmp_path)
    assert [item.location for item in found.items] == [f"{scans}/scan0.png", f"{scans}/scan1.png"]
    assert found.items[0].id == "scans/scan0.png"
    assert found.roots == (str(scans),)
    table.write_text("id;where\nb;scans/scan0.png\na;scans/scan1.png\n")
    assert ids(list_items([str(table)], tmp_path, column="where")) == ["a", "b"]
    with pytest.raises(DataError, match=r"no column path, but id, where.*--column"):
        list_items([str(table)], tmp_path)
    table.write_text("path,x\n,1\n")
    with pytest.raises(DataError, match="no path in row 1"):
        list_items([str(table)], tmp_path)


def test_parquet_tables_are_read_like_others(scans, tmp_path):
    pa = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    parquet.write_table(pa.table({"path": ["scans/scan0.png"], "id": ["a"]}), tmp_path / "t.parquet")
    found = list_items([str(tmp_path / "t.parquet")], tmp_path)
    assert found.items == [Item("a", str(scans / "scan0.png"))]
    (tmp_path / "u.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match="cannot be read as Parquet"):
        list_items([str(tmp_path / "u.parquet")], tmp_path)


def write_tar(path, scans):
    with tarfile.open(path, "w") as archive:
        for number, each in enumerate(sorted(scans.iterdir())):
            content = each.read_bytes()
            for name, data in ((f"{number:04d}.png", content), (f"{number:04d}.json", b"{}")):
                member = tarfile.TarInfo(name)
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
    return path


def test_images_of_tar_files_are_read_where_they_lie(scans, tmp_path):
    path = write_tar(tmp_path / "a-000.tar", scans)
    found = list_items([str(path)], tmp_path)
    assert ids(found) == ["0000.png", "0001.png", "0002.png"]
    for number, item in enumerate(found.items):
        image = read_image(open_item(item, found.roots))
        assert image.size == read_image(scans / f"scan{number}.png").size
        assert image.name == f"{number:04d}.png"
    write_tar(tmp_path / "a-001.tar", scans)
    assert ids(list_items([f"{tmp_path}/a-*.tar"], tmp_path))[3] == "a-001.tar/0000.png"
    path.write_bytes(path.read_bytes()[:700])
    with pytest.raises(ImageError, match="the file ends after"):
        open_item(found.items[0], found.roots)
    with pytest.raises(DataError, match="plain tar file"):
        list_items([f"{tmp_path}/a.tar.gz"], tmp_path)
    (tmp_path / "b.tar").write_bytes(b"x" * 2000)
    with pytest.raises(DataError, match="cannot be read as a tar file"):
        list_items([str(tmp_path / "b.tar")], tmp_path)
    with pytest.raises(DataError, match="there is no file"):
        list_items([str(tmp_path / "c.tar")], tmp_path)


def test_stores_are_listed_and_read_by_their_urls(store, scans, tmp_path):
    found = list_items(["memory://bucket/scans"], tmp_path)
    assert ids(found) == names()
    assert read_image(open_item(found.items[0], found.roots)).size == read_image(scans / "scan0.png").size
    assert ids(list_items(["memory://bucket/scans/*2.png"], tmp_path)) == ["scan2.png"]
    store.pipe_file("/bucket/list.csv", b"path\nscans/scan1.png\n")
    listed = list_items(["memory://bucket/list.csv"], tmp_path)
    assert open_item(listed.items[0]).read() == (scans / "scan1.png").read_bytes()
    store.pipe_file("/bucket/a.tar", write_tar(tmp_path / "a.tar", scans).read_bytes())
    packed = list_items(["memory://bucket/a.tar"], tmp_path)
    assert open_item(packed.items[1]).read() == (scans / "scan1.png").read_bytes()
    with pytest.raises(DataError, match="no image in 'memory://bucket/nowhere'"):
        list_items(["memory://bucket/nowhere"], tmp_path)
    with pytest.raises((ConfigError, DataError), match="nostore"):
        list_items(["nostore://bucket/scans"], tmp_path)


def test_a_busy_store_is_asked_again_and_one_that_is_gone_stops_the_run(store, tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "PAUSE", 0)
    found = list_items(["memory://bucket/scans"], tmp_path)
    item, asked = found.items[0], []

    def busy(path, **how):
        asked.append(path)
        if len(asked) < sources.TRIES:
            raise OSError("503 Slow Down")
        return b"at last"

    monkeypatch.setattr(type(store), "cat_file", lambda self, path, **how: busy(path))
    assert open_item(item, found.roots).read() == b"at last"
    asked.clear()
    monkeypatch.setattr(sources, "TRIES", 2)
    monkeypatch.setattr(sources, "_content", lambda item: (_ for _ in ()).throw(OSError("503 Slow Down")))
    with pytest.raises(ImageError, match="503 Slow Down"):  # the store is there, one object is not
        open_item(item, found.roots)
    monkeypatch.setattr(type(store), "exists", lambda self, path, **how: False)
    with pytest.raises(SourceGone, match="cannot be reached any more"):
        open_item(item, found.roots)


def test_an_object_that_was_removed_is_a_failure_of_its_own(store, tmp_path):
    found = list_items(["memory://bucket/scans"], tmp_path)
    store.rm_file("/bucket/scans/scan0.png")
    with pytest.raises(ImageError, match="no such file any more"):
        open_item(found.items[0], found.roots)


def test_a_folder_that_is_gone_or_empty_is_no_failure_of_its_images(scans):
    location, roots = str(scans / "scan0.png"), [str(scans)]
    check_roots(location, roots)
    for path in scans.iterdir():
        path.unlink()
    with pytest.raises(SourceGone):
        check_roots(location, roots)
    scans.rmdir()
    with pytest.raises(SourceGone):
        check_roots(location, roots)
    stale = ImageError("stale")
    stale.__cause__ = OSError(116, "Stale file handle")
    with pytest.raises(SourceGone):
        check_roots(location, [], stale)


def test_ids_of_the_content_are_those_of_one_image_for_all_its_copies(scans, tmp_path):
    (scans / "copy.png").write_bytes((scans / "scan1.png").read_bytes())
    found = list_items([str(scans)], tmp_path, ids="content")
    first, *others = sorted(found.items, key=lambda item: item.location)
    assert first.location.endswith("copy.png")
    assert len(first.id) == 64
    same = next(item for item in others if item.same_as)
    assert same.location.endswith("scan1.png")
    assert same.same_as == first.id
    assert same.id.startswith(f"{first.id}#")
    assert "1 files have the content" in found.remarks[0]


def test_label_maps_of_an_annotation_are_no_images(scans, tmp_path):
    masks = scans / "out" / "masks"
    masks.mkdir(parents=True)
    (scans / "out" / "plan.jsonl").touch()
    (masks / "scan0.png").write_bytes((scans / "scan0.png").read_bytes())
    assert ids(list_items([str(scans)], tmp_path)) == names()
    assert ids(list_items([str(masks)], tmp_path)) == ["scan0.png"]  # unless one asks for them


def test_an_empty_id_and_an_empty_source_are_refused(scans, tmp_path):
    table = tmp_path / "table.csv"
    table.write_text("id,path\na,scans/scan0.png\n,scans/scan1.png\n")
    with pytest.raises(DataError, match="no id in row 2"):
        list_items([str(table)], tmp_path)
    (tmp_path / "none").mkdir()
    with pytest.raises(DataError, match="no image in this folder"):
        list_items([str(scans), str(scans), str(tmp_path / "none")], tmp_path)
