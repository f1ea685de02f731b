import errno
import gzip
import json
import os

import numpy as np
import pytest
import SimpleITK as sitk
from PIL import Image as PILImage

from anatozoo.errors import GeometryError, OutputError
from anatozoo.io import writers

LABELS = np.array([[0, 1, 2], [3, 0, 5]], dtype=np.uint8)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_an_error_leaves_the_old_file_and_no_temporary_one(tmp_path):
    target = tmp_path / "a.txt"
    target.write_text("old")

    class Stop(BaseException):
        pass

    def write_and_fail(kind):
        with writers.atomic_path(target) as temporary:
            temporary.write_text("half")
            assert temporary.parent == tmp_path
            assert target.read_text() == "old"
            raise kind

    for kind in (ValueError, KeyboardInterrupt, Stop):
        with pytest.raises(kind):
            write_and_fail(kind)
        assert target.read_text() == "old"
        assert names(tmp_path) == ["a.txt"]


def test_success_replaces_the_old_file_and_creates_folders(tmp_path):
    target = tmp_path / "deep" / "er" / "a.txt"
    writers.write_bytes(target, b"one")
    writers.write_bytes(target, b"two")
    assert target.read_bytes() == b"two"
    assert names(target.parent) == ["a.txt"]


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (errno.ENOSPC, "disk or quota is full. Free some space"),
        (errno.EACCES, "no permission. Choose a folder"),
        (errno.EROFS, "no permission. Choose a folder"),
        (errno.EIO, "Choose another folder"),
    ],
)
def test_system_errors_become_sentences(tmp_path, monkeypatch, code, words):
    def refuse(source, target):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(OutputError, match=words) as caught:
        writers.write_json(tmp_path / "a.json", {})
    assert "a.json" in str(caught.value)
    assert names(tmp_path) == []


def test_folder_in_the_place_of_a_file_is_refused(tmp_path):
    (tmp_path / "a.json").mkdir()
    with pytest.raises(OutputError, match="a folder has this name"):
        writers.write_json(tmp_path / "a.json", {})
    assert names(tmp_path) == ["a.json"]


def test_what_is_no_file_is_never_replaced(tmp_path):
    pipe, link, file = tmp_path / "pipe", tmp_path / "link", tmp_path / "file"
    os.mkfifo(pipe)
    link.symlink_to(pipe)
    for target in (pipe, link, "/dev/null", "/dev/stdout"):
        with pytest.raises(OutputError, match="no file"):
            writers.write_bytes(target, b"x")
    assert names(tmp_path) == ["link", "pipe"]
    assert pipe.is_fifo()
    file.write_text("old")
    link.unlink()
    link.symlink_to(file)
    writers.write_bytes(link, b"new")  # a link of the user's own gives way to the file
    assert (link.read_text(), file.read_text()) == ("new", "old")


def test_folder_below_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match="is a file, not a folder"):
        writers.make_folder(tmp_path / "file" / "out")
    with pytest.raises(OutputError, match="is a file, not a folder"):
        writers.make_folder(tmp_path / "file")


def test_leftovers_of_a_killed_run_are_removed_and_nothing_else(tmp_path):
    (tmp_path / f"{writers.TEMPORARY_PREFIX}1.png").write_text("half")
    (tmp_path / "keep.png").write_text("whole")
    writers.remove_leftovers(tmp_path)
    assert names(tmp_path) == ["keep.png"]


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_json_is_strict(tmp_path, bad):
    with pytest.raises(ValueError, match="JSON"):
        writers.write_json(tmp_path / "a.json", {"x": [bad]})
    assert names(tmp_path) == []


def test_json_keeps_points_on_one_line_and_reads_back(tmp_path):
    value = {
        "é": {},
        "p": [[1.5, 2], [3, 4]],
        "e": [],
        "n": None,
        "s": ["a", "b"],
        "t": (1, 2),
        "o": {"k": True},
    }
    path = writers.write_json(tmp_path / "a.json", value)
    text = path.read_text(encoding="utf-8")
    assert "    [1.5, 2],\n    [3, 4]\n" in text
    assert json.loads(text) == value | {"t": [1, 2]}


def test_csv_quotes_odd_names(tmp_path):
    import csv

    odd = ["a,b", 'quote"', "new\nline", "心臓", "plain"]
    shown = ["a,b", 'quote"', "new\\u000aline", "心臓", "plain"]  # a break of lines is a control character
    path = writers.write_csv(tmp_path / "a.csv", ["name", "none"], [(name, None) for name in odd])
    with path.open(newline="", encoding="utf-8") as file:
        assert list(csv.reader(file)) == [["name", "none"], *([name, ""] for name in shown)]


def test_label_png_reads_back_as_labels_and_shows_colours(tmp_path):
    palette = [0, 0, 0, 250, 0, 0, 0, 250, 0, 0, 0, 250, 1, 1, 1, 9, 8, 7]
    path = writers.write_label_png(tmp_path / "m.png", LABELS, palette)
    with PILImage.open(path) as picture:
        np.testing.assert_array_equal(np.array(picture), LABELS)
        assert picture.convert("RGB").getpixel((2, 1)) == (9, 8, 7)


def test_label_png_accepts_read_only_labels(tmp_path):
    frozen = LABELS.copy()
    frozen.flags.writeable = False
    path = writers.write_label_png(tmp_path / "m.png", frozen, [0] * 18)
    with PILImage.open(path) as picture:
        np.testing.assert_array_equal(np.array(picture), frozen)


@pytest.mark.parametrize("name", ["m.nii.gz", "m.nii", "m.mha"])
def test_volumes_carry_labels_and_spacing(tmp_path, name):
    path = writers.write_volume(tmp_path / name, LABELS, (0.175, 0.2))
    image = sitk.ReadImage(str(path))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image), LABELS)
    np.testing.assert_allclose(image.GetSpacing(), (0.175, 0.2), rtol=1e-6)
    assert names(tmp_path) == [name]


def test_nifti_says_that_the_unit_is_unknown(tmp_path):
    with_unit = gzip.decompress(writers.write_volume(tmp_path / "a.nii.gz", LABELS, (1.0, 1.0)).read_bytes())
    without = gzip.decompress(writers.write_volume(tmp_path / "b.nii.gz", LABELS, None).read_bytes())
    assert with_unit[123] & 7 == 2  # NIFTI_UNITS_MM
    assert without[123] == 0  # NIFTI_UNITS_UNKNOWN
    np.testing.assert_array_equal(sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "b.nii.gz"))), LABELS)


def test_meta_image_without_spacing_is_refused(tmp_path):
    with pytest.raises(GeometryError, match="1 mm is never assumed"):
        writers.write_volume(tmp_path / "m.mha", LABELS, None)
    assert names(tmp_path) == []


def test_volume_cut_short_by_a_full_disk_is_noticed(tmp_path, monkeypatch):
    def write_half(image, path):
        with open(path, "wb") as file:
            file.write(b"\0" * 100)

    monkeypatch.setattr(sitk, "WriteImage", write_half)
    with pytest.raises(OutputError, match="disk or quota is full"):
        writers.write_volume(tmp_path / "m.nii.gz", LABELS, None)
    assert names(tmp_path) == []
