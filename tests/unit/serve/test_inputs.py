import os

import pytest

from anatozoo.errors import DataError
from anatozoo.serve.inputs import IMAGES, MASKS, VOLUMES, find, image_suffix, parts_of
from anatozoo.serve.manifest import COLUMNS, MANIFEST_NAME


def touch(path, content=b"x"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def dicom(path):
    return touch(path, b"\0" * 128 + b"DICM" + b"\0" * 8)


def found(tmp_path, *inputs, out="out"):
    return [str(path.relative_to(tmp_path)) for path in find(inputs, tmp_path / out, IMAGES).images]


def found_masks(tmp_path, *inputs, out="out"):
    return [str(path.relative_to(tmp_path)) for path in find(inputs, tmp_path / out, MASKS).images]


def test_folders_are_searched_to_the_bottom_for_images(tmp_path):
    for name in (
        "b.PNG",
        "a.jpg",
        "x/c.nii.gz",
        "x/y/d.dcm",
        "x/e.tiff",
        "notes.txt",
        "x/labels.csv",
        "z.gz",
    ):
        touch(tmp_path / "in" / name)
    touch(tmp_path / "in" / ".hidden.png")
    touch(tmp_path / "in" / ".thumbnails" / "a.png")
    touch(tmp_path / "in" / "__MACOSX" / "a.png")
    names = found(tmp_path, tmp_path / "in")
    assert names == ["in/a.jpg", "in/b.PNG", "in/x/c.nii.gz", "in/x/e.tiff", "in/x/y/d.dcm"]


def test_dicom_without_a_suffix_is_known_by_its_content(tmp_path):
    dicom(tmp_path / "in" / "IM0001")
    dicom(tmp_path / "in" / "1.2.840.113619.2.55")
    dicom(tmp_path / "in" / "DICOMDIR")
    dicom(tmp_path / "in" / "backup.old")
    touch(tmp_path / "in" / "README")
    touch(tmp_path / "in" / "1.2.3", b"")
    assert found(tmp_path, tmp_path / "in") == ["in/1.2.840.113619.2.55", "in/IM0001"]


def test_a_named_pipe_does_not_block(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    assert found(tmp_path, tmp_path) == []


def test_a_file_that_is_named_is_always_taken_and_only_once(tmp_path, monkeypatch):
    touch(tmp_path / "odd.xyz")
    touch(tmp_path / "a.png")
    monkeypatch.chdir(tmp_path)
    assert found(tmp_path, "odd.xyz", "a.png", tmp_path / "a.png", tmp_path, "./a.png") == [
        "odd.xyz",
        "a.png",
    ]


def test_patterns(tmp_path):
    for name in ("a.png", "b.jpg", "notes.txt", "x/c.png", "x/y/d.png"):
        touch(tmp_path / name)
    assert found(tmp_path, f"{tmp_path}/*.png") == ["a.png"]
    assert found(tmp_path, f"{tmp_path}/**/*.png") == ["a.png", "x/c.png", "x/y/d.png"]
    assert found(tmp_path, f"{tmp_path}/*") == ["a.png", "b.jpg", "x/c.png", "x/y/d.png"]


def test_brackets_in_a_name_are_no_pattern(tmp_path):
    touch(tmp_path / "a[1].png")
    touch(tmp_path / "a1.png")
    assert found(tmp_path, tmp_path / "a[1].png") == ["a[1].png"]


def test_home_is_expanded(tmp_path, monkeypatch):
    touch(tmp_path / "a.png")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert found(tmp_path, "~/a.png") == ["a.png"]


@pytest.mark.parametrize("name", ["a b.png", "line\nbreak.png", "心臓.png", "Ünï.png", "'quote\".png"])
def test_odd_names(tmp_path, name):
    touch(tmp_path / name)
    assert found(tmp_path, tmp_path) == [name]


def test_links_are_followed_but_never_in_circles(tmp_path):
    touch(tmp_path / "data" / "a.png")
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "link").symlink_to(tmp_path / "data")
    (tmp_path / "data" / "loop").symlink_to(tmp_path / "in")
    assert found(tmp_path, tmp_path / "in") == ["in/link/a.png"]


def test_arguments_without_an_image_have_reasons(tmp_path):
    (tmp_path / "empty").mkdir()
    touch(tmp_path / "a.png")
    gone, empty, pattern = tmp_path / "gone.png", tmp_path / "empty", f"{tmp_path}/*.bmp"
    result = find([gone, tmp_path / "a.png", empty, pattern], tmp_path / "out", IMAGES)
    assert len(result) == 4
    assert result.images == (tmp_path / "a.png",)
    assert "no such file" in result.missing[str(gone)]
    assert "no image in this folder" in result.missing[str(empty)]
    assert "pattern" in result.missing[pattern]


def test_a_broken_link_is_taken_so_that_reading_says_why(tmp_path):
    (tmp_path / "a.png").symlink_to(tmp_path / "gone.png")
    assert found(tmp_path, tmp_path / "a.png") == ["a.png"]


def test_results_are_no_inputs(tmp_path):
    touch(tmp_path / "in" / "a.png")
    touch(tmp_path / "in" / "out" / "a_overlay.png")
    assert found(tmp_path, tmp_path / "in", out="in/out") == ["in/a.png"]
    # Results beside the images: known by their names where there was a run.
    touch(tmp_path / "in" / "a_mask.png")
    assert found(tmp_path, tmp_path / "in", out="in") == ["in/a.png", "in/a_mask.png", "in/out/a_overlay.png"]
    touch(tmp_path / "in" / MANIFEST_NAME, ",".join(COLUMNS).encode() + b"\n")
    assert found(tmp_path, tmp_path / "in", out="in") == ["in/a.png", "in/out/a_overlay.png"]


@pytest.mark.parametrize(
    ("name", "suffix"),
    [
        ("a.nii.gz", ".nii.gz"),
        ("a.b.PNG", ".PNG"),
        ("1.2.840", ""),
        ("plain", ""),
        (".png", ""),
        ("a.txt", ""),
    ],
)
def test_image_suffix(name, suffix):
    assert image_suffix(name) == suffix


def test_masks_are_pictures_without_loss_and_volumes(tmp_path):
    for name in ("a.png", "b.jpg", "c.nii.gz", "x/d.TIF", "e.nii", "f.mha"):
        touch(tmp_path / "in" / name)
    dicom(tmp_path / "in" / "IM0001")
    dicom(tmp_path / "in" / "g.dcm")
    assert found_masks(tmp_path, tmp_path / "in") == [
        "in/a.png",
        "in/c.nii.gz",
        "in/e.nii",
        "in/f.mha",
        "in/x/d.TIF",
    ]
    assert found_masks(tmp_path, tmp_path / "in" / "b.jpg") == ["in/b.jpg"]
    assert found_masks(tmp_path, f"{tmp_path}/in/*.jpg") == []


def test_of_results_only_the_masks_are_taken_and_one_of_each_image(tmp_path):
    for name in ("a.png", "a_mask.png", "a_overlay.png", "a_mask.mha", "b_mask.png", "c_mask.nii.gz"):
        touch(tmp_path / "in" / name)
    touch(tmp_path / "in" / "deep" / "a.png")
    everything = found_masks(tmp_path, tmp_path / "in")
    assert len(everything) == 7
    # Somebody else's table changes nothing.
    touch(tmp_path / "in" / MANIFEST_NAME, b"file,age\n")
    assert found_masks(tmp_path, tmp_path / "in") == everything
    touch(tmp_path / "in" / MANIFEST_NAME, ",".join((*COLUMNS, "models")).encode() + b"\n")
    expected = ["in/a_mask.mha", "in/b_mask.png", "in/c_mask.nii.gz", "in/deep/a.png"]
    assert found_masks(tmp_path, tmp_path / "in") == expected
    # Whoever writes a pattern gets what it says.
    assert found_masks(tmp_path, f"{tmp_path}/in/*.png") == [
        "in/a.png",
        "in/a_mask.png",
        "in/a_overlay.png",
        "in/b_mask.png",
    ]


def test_results_of_every_kind_are_no_inputs(tmp_path):
    touch(tmp_path / MANIFEST_NAME, ",".join(COLUMNS).encode() + b"\n")
    for ending in ("_warped.nii.gz", "_displacement.mha", "_registration.png", "_repair.png", "_mask.nii.gz"):
        touch(tmp_path / f"a{ending}")
    touch(tmp_path / "scan.png")
    assert found(tmp_path, tmp_path, out=".") == ["scan.png"]
    assert found_masks(tmp_path, tmp_path, out=".") == []
    (tmp_path / "scan.png").unlink()
    with pytest.raises(DataError, match="no image in this folder beside the results of an earlier run"):
        find([tmp_path], tmp_path, IMAGES).check()


def test_what_runs_into_other_folders_draw_is_no_input(tmp_path):
    touch(tmp_path / "in" / "a.png")
    for ending in (
        "_overlay.png",
        "_mask.png",
        "_mask.nii.gz",
        "_quality.png",
        "_sr.nii.gz",
        "_warped.nii.gz",
    ):
        touch(tmp_path / "in" / f"a{ending}")
    assert len(found(tmp_path, tmp_path / "in")) == 7
    touch(tmp_path / "in" / MANIFEST_NAME, ",".join(COLUMNS).encode() + b"\n")
    assert found(tmp_path, tmp_path / "in") == ["in/a.png", "in/a_sr.nii.gz", "in/a_warped.nii.gz"]
    assert found(tmp_path, f"{tmp_path}/in/*.png") == ["in/a.png"]
    assert found_masks(tmp_path, tmp_path / "in") == ["in/a_mask.nii.gz"]


def test_a_folder_of_dicom_files_is_one_volume(tmp_path):
    dicom(tmp_path / "in" / "study" / "SE0" / "IM0001")
    dicom(tmp_path / "in" / "study" / "SE1" / "1.2.840.113619.2.55")
    touch(tmp_path / "in" / "study" / "SE2" / "a.IMA")
    touch(tmp_path / "in" / "study" / "SE3" / "IM0001")
    touch(tmp_path / "in" / "study" / "SE4" / ".b.dcm")
    dicom(tmp_path / "in" / "DICOMDIR")
    touch(tmp_path / "in" / "c.nii.gz")
    touch(tmp_path / "in" / "study" / "SE0" / "d.mha")
    found = find([tmp_path / "in", tmp_path / "in" / "study" / "SE0"], tmp_path / "out", VOLUMES)
    assert [path.relative_to(tmp_path / "in").as_posix() for path in found.images] == [
        "c.nii.gz",
        "study/SE0",
        "study/SE0/d.mha",
        "study/SE1",
        "study/SE2",
    ]
    reason = find([tmp_path / "in" / "study" / "SE3"], tmp_path / "out", VOLUMES).missing
    assert "folders of DICOM files" in next(iter(reason.values()))


def test_ground_truth_of_acdc_is_no_volume_but_may_be_named_or_be_a_mask(tmp_path):
    names = ("p/a.nii.gz", "p/a_gt.nii.gz", "p/alone_gt.nii.gz", "p/_gt.nii.gz", "p/b_gt.nii.gz", "p/b.mha")
    paths = [touch(tmp_path / name) for name in names]
    every = [path.name for path in find([tmp_path / "p"], None, VOLUMES).images]
    assert every == ["_gt.nii.gz", "a.nii.gz", "alone_gt.nii.gz", "b.mha", "b_gt.nii.gz"]
    assert find([paths[1]], None, VOLUMES).images == (paths[1],)
    assert len(find([tmp_path / "p"], None, MASKS).images) == 6


def test_the_parts_of_a_series_are_its_files(tmp_path):
    dicom(tmp_path / "SE0" / "IM2")
    dicom(tmp_path / "SE0" / "IM1")
    dicom(tmp_path / "SE0" / "below" / "IM3")
    touch(tmp_path / "SE0" / "notes.txt")
    touch(tmp_path / "a.nii.gz")
    assert parts_of(tmp_path / "SE0") == (tmp_path / "SE0" / "IM1", tmp_path / "SE0" / "IM2")
    assert parts_of(tmp_path / "a.nii.gz") == (tmp_path / "a.nii.gz",)
    assert parts_of(tmp_path / "missing.nii.gz") == (tmp_path / "missing.nii.gz",)
