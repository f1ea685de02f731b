import json
import unicodedata
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import SimpleITK as sitk

from anatozoo.errors import AnatozooError, DataError, GeometryError, ImageError
from anatozoo.io.annotation_files import Stored
from anatozoo.io.annotations import find_annotations
from anatozoo.io.grid import Grid
from anatozoo.io.landmarks import write_landmarks
from anatozoo.results.contours import ContourResult
from anatozoo.results.labels import LabelResult
from anatozoo.results.segmentation import SegmentationResult
from anatozoo.serve.options import ReadOptions
from tests.support.phantoms import make_chest_phantom
from tests.support.runs import run_pairs
from tests.unit.serve.fakes import FakeRegistrar, write_scan
from tests.unit.serve.fakes import labels as organ_blocks

SQUARE = np.array([[2.0, 2.0], [9.0, 2.0], [9.0, 9.0], [2.0, 9.0]])


def labels(*values: int) -> np.ndarray:
    """(6, 8) uint8 with a block of each value."""
    array = np.zeros((6, 8), np.uint8)
    for column, value in enumerate(values):
        array[1:4, 2 * column : 2 * column + 2] = value
    return array


def png(path: Path, array: np.ndarray, mode: str | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = PIL.Image.fromarray(array)
    (picture.convert(mode) if mode else picture).save(path)
    return path


def volume(path: Path, array: np.ndarray, spacing: tuple[float, ...]) -> Path:
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(spacing)
    sitk.WriteImage(image, str(path))
    return path


def only(path: Path, classes: tuple[str, ...] = ()) -> Stored:
    (entry,) = find_annotations(path, classes).entries.values()
    return entry.read()


@pytest.mark.parametrize("suffix", [".png", ".tif", ".bmp"])
def test_masks_of_0_and_255_are_masks(suffix: str, tmp_path: Path) -> None:
    stored = only(png(tmp_path / f"a{suffix}", labels(255)))
    assert stored.grid == Grid((8, 6))
    assert stored.values == [1]
    np.testing.assert_array_equal(stored.labels, labels(1))
    assert only(png(tmp_path / f"b{suffix}", labels())).values == []
    assert only(png(tmp_path / "one.png", labels(255) > 0)).values == [1]


def test_palette_pictures_give_their_indices(tmp_path: Path) -> None:
    picture = PIL.Image.fromarray(labels(1, 2)).copy()
    picture.putpalette([0, 0, 0, 200, 10, 10, 10, 200, 10])
    picture.save(tmp_path / "a.png")
    np.testing.assert_array_equal(only(tmp_path).labels, labels(1, 2))


def test_sixteen_bits_and_whole_floats(tmp_path: Path) -> None:
    png(tmp_path / "a.png", labels(1, 3).astype(np.uint16) * 100)
    assert only(tmp_path).values == [100, 300]
    assert only(png(tmp_path / "f/a.tif", labels(1, 2).astype(np.float32))).values == [1, 2]


def test_a_colour_picture_of_grey_is_grey(tmp_path: Path) -> None:
    assert only(png(tmp_path / "a.png", labels(255), "RGBA")).values == [1]
    coloured = np.stack([labels(9), labels(0, 7), labels(), labels() + 255], -1)
    with pytest.raises(ImageError, match=r"colour picture \(RGBA\).*one value per pixel"):
        only(png(tmp_path / "b.png", coloured))


@pytest.mark.parametrize("suffix", [".nii.gz", ".nii", ".mha", ".nrrd"])
def test_volumes_and_slices_with_their_spacing(suffix: str, tmp_path: Path) -> None:
    flat = volume(tmp_path / f"flat{suffix}", labels(1, 2), (0.5, 0.7))
    deep = volume(tmp_path / f"deep{suffix}", np.stack([labels(1, 2)] * 4), (0.5, 0.7, 2.0))
    slim = volume(tmp_path / f"slim{suffix}", labels(1, 2)[None], (0.5, 0.7, 2.0))
    across = volume(tmp_path / f"across{suffix}", labels(1, 2)[:, None], (0.5, 2.0, 0.7))
    for path, shape, spacing in [
        (flat, (6, 8), (0.5, 0.7)),
        (deep, (4, 6, 8), (0.5, 0.7, 2.0)),
        (slim, (6, 8), (0.5, 0.7)),
        (across, (6, 8), (0.5, 0.7)),
    ]:
        stored = only(path)
        assert stored.labels is not None
        assert stored.labels.shape == shape
        assert stored.grid is not None
        assert stored.grid.size == shape[::-1]
        assert stored.grid.spacing_mm == pytest.approx(spacing)
        np.testing.assert_array_equal(
            stored.labels if stored.labels.ndim == 2 else stored.labels[1], labels(1, 2)
        )


@pytest.mark.parametrize("suffix", [".csv", ".json", ".npy"])
def test_landmark_files(suffix: str, tmp_path: Path) -> None:
    organs = make_chest_phantom(100, 90).landmarks
    write_landmarks(tmp_path / f"a{suffix}", organs)
    found = find_annotations(tmp_path)
    assert list(found.entries) == ["a"]
    stored = found.entries["a"].read()
    assert stored.grid is None
    assert stored.organs == list(organs)
    np.testing.assert_allclose(stored.landmarks["heart"], organs["heart"], atol=1e-3)
    annotation = stored.annotation((100, 90), {}, None)
    assert annotation.size == (100, 90)
    with pytest.raises(GeometryError, match="cannot mark a volume"):
        stored.annotation((100, 90, 4), {}, None)


def result(*, label_map: bool) -> SegmentationResult:
    about = ("m", "1", "scan.dcm", (64, 48), (0.4, 0.4))
    if label_map:
        return LabelResult(*about, np.pad(labels(2, 1), ((0, 42), (0, 56))), ("lungs", "heart"))
    return ContourResult(*about, make_chest_phantom(64, 48).landmarks)


@pytest.mark.parametrize("formats", [("png", "json"), ("json",), ("json", "mha", "png", "csv", "nifti")])
def test_results_of_predict(formats: tuple[str, ...], tmp_path: Path) -> None:
    result(label_map=False).save(tmp_path, formats)
    (tmp_path / "manifest.csv").write_text("file,status\n")
    found = find_annotations(tmp_path)
    assert list(found.entries) == ["scan"]
    assert found.ignored == ()
    stored = found.entries["scan"].read()
    assert stored.grid == Grid((64, 48), (0.4, 0.4))
    assert "heart" in stored.landmarks


@pytest.mark.parametrize("formats", [("png",), ("csv", "png"), ("nifti",), ("mha", "png")])
def test_results_of_predict_without_json(formats: tuple[str, ...], tmp_path: Path) -> None:
    result(label_map=False).save(tmp_path, formats)
    stored = find_annotations(tmp_path).entries["scan"].read()
    assert bool(stored.landmarks) == ("csv" in formats)
    if "csv" not in formats:
        assert stored.grid is not None
        assert stored.values == [1, 2, 3, 4, 5]
        assert (stored.grid.spacing_mm is None) == (formats == ("png",))


@pytest.mark.parametrize("formats", [("png", "json"), ("nifti", "json"), ("mha", "json", "png")])
def test_label_maps_of_predict_are_named_by_their_json(formats: tuple[str, ...], tmp_path: Path) -> None:
    result(label_map=True).save(tmp_path, formats)
    stored = find_annotations(tmp_path).entries["scan"].read()
    assert stored.grid is not None
    assert stored.grid.spacing_mm == pytest.approx((0.4, 0.4))
    assert stored.labels is None
    assert [organ for organ, mask in stored.masks.items() if mask[1, 0]] == ["heart"]
    assert [organ for organ, mask in stored.masks.items() if mask[1, 2]] == ["lungs"]


def test_a_label_map_without_its_mask_is_an_error(tmp_path: Path) -> None:
    result(label_map=True).save(tmp_path, ("json",))
    with pytest.raises(DataError, match=r"--format png,json"):
        find_annotations(tmp_path).entries["scan"].read()


def registration(folder: Path, *, masks: bool) -> Path:
    """What `anatozoo predict --pairs` leaves of one pair, with organs brought along or without."""
    folder.mkdir()
    for number, name in enumerate("ab"):
        write_scan(folder / f"{name}.png", seed=number)
        png(folder / f"{name}_m.png", organ_blocks(column=10 + 2 * number) * 3)
    more = "b_m.png,a_m.png" if masks else ","
    (folder / "pairs.csv").write_text(f"moving,fixed,moving_mask,fixed_mask,name\nb.png,a.png,{more},pair\n")
    half = ReadOptions((0.5, 0.5))
    run_pairs(FakeRegistrar(), folder / "pairs.csv", folder / "out", formats=("json", "warped"), options=half)
    return folder / "out"


def test_the_mask_of_a_registration_is_a_label_map_without_names(tmp_path: Path) -> None:
    found = find_annotations(registration(tmp_path / "a", masks=True))
    assert list(found.entries) == ["pair"]
    assert found.ignored == ()
    stored = found.entries["pair"].read()
    assert (stored.organs, stored.values) == ([], [3, 6])
    np.testing.assert_array_equal(stored.labels, organ_blocks(column=10) * 3)
    assert stored.grid is not None
    assert stored.grid.spacing_mm == (0.5, 0.5)
    annotation = stored.annotation((48, 40), {3: "lungs", 6: "heart"}, (0.5, 0.5))
    assert {name: int(mask.sum()) for name, mask in annotation.masks.items()} == {"lungs": 150, "heart": 150}


def test_a_registration_without_masks_says_how_to_get_one(tmp_path: Path) -> None:
    (entry,) = find_annotations(registration(tmp_path / "a", masks=False)).entries.values()
    with pytest.raises(DataError, match=r"in no file beside it; .*moving_mask"):
        entry.read()


def test_endings_are_those_of_predict() -> None:
    from anatozoo.io.annotations import _BESIDE_RESULTS, _OF_A_RESULT, _ROW_OF_CHEXMASK, ENDINGS

    endings = SegmentationResult.formats.endings
    written = {name for names in endings.values() for name in names}
    assert {name for name in written if not name.endswith(".dcm")} == {*_OF_A_RESULT, _ROW_OF_CHEXMASK}
    # A table of CheXmask is known by its columns, and names its images itself.
    known = (*ENDINGS, *_BESIDE_RESULTS, ".json", *endings["chexmask"])
    for names in endings.values():
        assert all(name.startswith(known) for name in names), names


def test_one_folder_per_organ(tmp_path: Path) -> None:
    for folder in ("heart", "left lung", "right_lung"):
        png(tmp_path / "masks" / folder / "a.png", labels(255))
    png(tmp_path / "masks/heart/b.png", labels(1))
    png(tmp_path / "masks/notes/b.png", labels(1))
    found = find_annotations(tmp_path / "masks")
    assert list(found.entries) == ["a", "b"]
    assert set(found.entries["a"].read().masks) == {"heart", "lung_left", "lung_right"}
    assert found.entries["b"].read().organs == ["heart"]
    with_class = find_annotations(tmp_path / "masks", ("notes",)).entries["b"].read()
    assert with_class.organs == ["notes", "heart"]


def test_folders_of_other_names_are_strangers(tmp_path: Path) -> None:
    for file in ("heart/a.png", "liver/a_mask.png", "liver/b.png", "images/a.png"):
        png(tmp_path / file, labels(1))
    (tmp_path / "liver/notes.txt").write_text("x")
    found = find_annotations(tmp_path, others=True)
    assert {name: list(entry.files) for name, entry in found.entries.items()} == {"a": ["heart"]}
    liver = tmp_path / "liver"
    assert found.strangers == {"a": {"liver": liver / "a_mask.png"}, "b": {"liver": liver / "b.png"}}
    assert found.ignored == ()
    assert find_annotations(tmp_path).strangers == {}
    png(liver / "a.png", labels(1))
    alone = find_annotations(tmp_path / "heart", others=True)
    assert (list(alone.entries), alone.strangers) == (["a"], {})
    (tmp_path / "heart/a.png").unlink()
    alone = find_annotations(tmp_path, others=True)
    assert (alone.entries, list(alone.strangers)) == ({}, ["a", "b"])
    with pytest.raises(DataError, match="holds no annotation; there is heart/, images/, liver/"):
        find_annotations(tmp_path)


def test_one_folder_of_landmarks_per_organ(tmp_path: Path) -> None:
    for folder, points in [("RL", SQUARE), ("H", SQUARE.ravel())]:
        (tmp_path / folder).mkdir()
        np.save(tmp_path / folder / "a.npy", points)
    (tmp_path / "LL").mkdir()
    write_landmarks(tmp_path / "LL/a_landmarks.csv", {"lung_left": SQUARE})
    png(tmp_path / "clavicles/a_mask.png", labels(1))
    stored = find_annotations(tmp_path).entries["a"].read()
    assert set(stored.landmarks) == {"lung_right", "heart", "lung_left"}
    np.testing.assert_array_equal(stored.landmarks["heart"], SQUARE)
    assert stored.grid == Grid((8, 6))


def test_rows_of_a_table_lose_the_suffix_of_their_image(tmp_path: Path) -> None:
    text = "ImageID,Landmarks,Heart\na.png,,1 2\n1.2.840.7,,1 1\np/study/view.jpg,,\n"
    (tmp_path / "t.csv").write_text(text)
    found = find_annotations(tmp_path / "t.csv")
    assert list(found.entries) == ["a", "1.2.840.7", "p/study/view"]
    annotation = found.entries["a"].read().annotation((4, 3), {}, None)
    assert int(annotation.masks["heart"].sum()) == 2
    assert list(find_annotations(tmp_path).entries) == ["1.2.840.7", "a", "p/study/view"]


def test_values_get_the_names_that_are_given(tmp_path: Path) -> None:
    stored = only(png(tmp_path / "a.png", labels(1, 2)))
    annotation = stored.annotation((8, 6), {1: "one", 2: "two", 3: "three"}, (0.5, 0.5))
    assert {name: int(mask.sum()) for name, mask in annotation.masks.items()} == {
        "one": 6,
        "two": 6,
        "three": 0,
    }


def test_other_files_are_passed_over(tmp_path: Path) -> None:
    png(tmp_path / "a.png", labels(1))
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "metadata.csv").write_text("image,age\na,3\n")
    (tmp_path / ".hidden.png").write_text("x")
    found = find_annotations(tmp_path)
    assert list(found.entries) == ["a"]
    assert [path.name for path in found.ignored] == ["metadata.csv", "notes.txt"]


def test_nothing_to_read(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file or folder"):
        find_annotations(tmp_path / "absent")
    with pytest.raises(DataError, match="it is empty"):
        find_annotations(tmp_path)
    (tmp_path / "a.txt").write_text("x")
    (tmp_path / "cases").mkdir()
    with pytest.raises(DataError, match=r"there is a\.txt, cases/"):
        find_annotations(tmp_path)
    with pytest.raises(DataError, match=r"not an annotation\. What can be read"):
        find_annotations(tmp_path / "a.txt")


def test_two_files_for_one_image(tmp_path: Path) -> None:
    for names in (["a.png", "a.tif"], ["a.png", "a_mask.png"], ["a.json", "a.png"]):
        folder = tmp_path / names[1]
        folder.mkdir()
        for name in names:
            (folder / name).write_text("x")
        with pytest.raises(DataError, match="both annotate a; keep one"):
            find_annotations(folder)
    for name in ("a.png", "a.tif"):
        png(tmp_path / "organs/heart" / name, labels(1))
    with pytest.raises(DataError, match="both annotate heart of a"):
        find_annotations(tmp_path / "organs")
    (tmp_path / "t.csv").write_text("ImageID,Heart\na.png,\na.jpg,\n")
    with pytest.raises(DataError, match="second row for a"):
        find_annotations(tmp_path / "t.csv")


def test_files_beside_folders_of_organs(tmp_path: Path) -> None:
    png(tmp_path / "heart/a.png", labels(1))
    png(tmp_path / "b.png", labels(1))
    with pytest.raises(DataError, match=r"b beside heart/; move one"):
        find_annotations(tmp_path)


BAD = {
    "empty.png": (lambda p: p.write_bytes(b""), "zero bytes"),
    "text.png": (lambda p: p.write_text("no picture"), "cannot be read|damaged"),
    "cut.nii.gz": (lambda p: cut(volume(p, labels(1), (1.0, 1.0))), "damaged|truncated"),
    "cut.mha": (lambda p: p.write_bytes(b"ObjectType = Image\nNDims = 2\n"), "damaged|truncated"),
    "fractions.tif": (lambda p: png(p, labels(1).astype(np.float32) / 3), "fractions"),
    "picture.png": (lambda p: png(p, np.arange(100, dtype=np.uint8).reshape(10, 10)), "100 different values"),
    "negative.nii": (
        lambda p: volume(p, labels(1).astype(np.int16) - 1, (1.0, 1.0)),
        "labels are 0 and above",
    ),
    "pages.tif": (lambda p: pages(p), "several pages"),
    "nan.json": (lambda p: p.write_text('{"heart": [[1, 2], [3, NaN], [4, 5]]}'), "finite"),
    "nan.npy": (lambda p: np.save(p, np.full(240, np.nan)), "finite"),
    "short.json": (lambda p: p.write_text('{"heart": [[1, 2], [3, 4]]}'), "a contour needs three"),
    "list.json": (lambda p: p.write_text("[1, 2]"), "no landmarks that can be read"),
    "broken.json": (lambda p: p.write_text("{"), "cannot be read as JSON"),
    "size.json": (lambda p: bad_size(p), "size must be"),
    "odd.npy": (lambda p: np.save(p, np.zeros(7)), "landmarks of all organs"),
    "empty.csv": (lambda p: p.write_text("organ,index,x_px,y_px\n"), "no landmarks that can be read"),
}


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def pages(path: Path) -> None:
    pictures = [PIL.Image.fromarray(labels(1)) for _ in range(2)]
    pictures[0].save(path, save_all=True, append_images=pictures[1:])


def bad_size(path: Path) -> None:
    value = result(label_map=False).to_dict() | {"size": [0, 3]}
    path.write_text(json.dumps(value))


@pytest.mark.parametrize("name", BAD)
def test_bad_files_say_what_is_wrong(name: str, tmp_path: Path) -> None:
    write, message = BAD[name]
    write(tmp_path / name)
    (entry,) = find_annotations(tmp_path).entries.values()
    with pytest.raises(AnatozooError, match=message) as caught:
        entry.read()
    if name not in ("size.json", "odd.npy", "nan.npy", "nan.json"):
        assert name in str(caught.value)


def test_bad_files_of_organs(tmp_path: Path) -> None:
    png(tmp_path / "heart/a.png", labels(1, 2))
    with pytest.raises(DataError, match="holds the values 1, 2; a file in a folder of heart"):
        only(tmp_path)
    png(tmp_path / "heart/a.png", labels(1))
    png(tmp_path / "lungs/a.png", np.zeros((5, 5), np.uint8))
    with pytest.raises(GeometryError, match="another grid than the other organs: 5 x 5 against 8 x 6 pixels"):
        only(tmp_path)
    (tmp_path / "lungs/a.png").unlink()
    (tmp_path / "lungs/a.npy").write_text("x")
    with pytest.raises(DataError, match="holds no array that can be read"):
        only(tmp_path)
    (tmp_path / "lungs/a.npy").unlink()
    write_landmarks(tmp_path / "lungs/a.json", {"heart": SQUARE, "lung_left": SQUARE})
    with pytest.raises(DataError, match="marks heart, lung_left, but lies in the folder of lungs"):
        only(tmp_path)


def test_jpegs_are_masks_where_there_is_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"x")
    assert list(find_annotations(tmp_path).entries) == ["a"]
    assert list(find_annotations(tmp_path / "a.jpg").entries) == ["a"]
    png(tmp_path / "b.png", labels(1))
    found = find_annotations(tmp_path)
    assert (list(found.entries), [path.name for path in found.ignored]) == (["b"], ["a.jpg"])


def test_accents_in_names_may_be_written_in_two_ways(tmp_path: Path) -> None:
    one, two = (unicodedata.normalize(form, "Müller") for form in ("NFC", "NFD"))
    png(tmp_path / f"p/{two}_mask.png", labels(1))
    png(tmp_path / f"r/{one}.png", labels(1))
    assert list(find_annotations(tmp_path / "p").entries) == list(find_annotations(tmp_path / "r").entries)
    png(tmp_path / f"r/{two}.png", labels(1))
    with pytest.raises(DataError, match="both annotate"):
        find_annotations(tmp_path / "r")
