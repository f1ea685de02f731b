import gzip
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from anatozoo.errors import DataError, GeometryError
from anatozoo.io.landmarks import draw_organ_mask
from anatozoo.io.rle import (
    ChexmaskRow,
    chexmask_lines,
    chexmask_row,
    decode_rle,
    encode_rle,
    exchanged_rca,
    is_chexmask,
    read_chexmask,
    write_chexmask,
)
from anatozoo.organs import LUNGS_HEART
from tests.support.chexmask_data import PADCHEST, write_padchest
from tests.support.phantoms import make_chest_phantom

HEADER = "image_id,Dice RCA (Mean),Landmarks,Left Lung,Right Lung,Heart,Height,Width \n"


def row(name: str, points: str = "", masks: tuple[str, str, str] = ("", "", ""), size: str = "20,30") -> str:
    return f'{name},0.9,"{points}",{",".join(masks)},{size}\n'


def write(path: Path, *rows: str, header: str = HEADER) -> Path:
    path.write_text(header + "".join(rows))
    return path


def lung_points() -> np.ndarray:
    landmarks = make_chest_phantom(200, 180).landmarks
    return np.rint(np.concatenate([landmarks[organ] for organ in ("lung_right", "lung_left", "heart")]))


def test_runs_are_counted_from_one_along_rows() -> None:
    mask = decode_rle("1 2 6 3 12 1", (4, 3))
    np.testing.assert_array_equal(mask.astype(int), [[1, 1, 0, 0], [0, 1, 1, 1], [0, 0, 0, 1]])
    assert encode_rle(mask) == "1 2 6 3 12 1"
    # A run goes on in the next row.
    assert decode_rle("4 2", (4, 2)).tolist() == [[False, False, False, True], [True, False, False, False]]


def test_an_empty_text_is_an_empty_mask() -> None:
    assert not decode_rle("", (5, 4)).any()
    assert encode_rle(np.zeros((4, 5), bool)) == ""


@given(hnp.arrays(bool, st.tuples(st.integers(1, 9), st.integers(1, 9))))
def test_masks_survive(mask: np.ndarray) -> None:
    size = (mask.shape[1], mask.shape[0])
    np.testing.assert_array_equal(decode_rle(encode_rle(mask), size), mask)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1 2 3", "pairs of whole numbers"),
        ("0 2", "above 0"),
        ("1 0", "above 0"),
        ("1.5 2", "whole numbers"),
        ("one two", "whole numbers, not 'one two'"),
        ("nan 2", "pairs of whole numbers"),
        ("19 3", r"reach pixel 21, but 4 x 5 pixels are only 20; give the size"),
        ("1 1e300", "reach pixel"),
    ],
)
def test_what_is_no_run_is_refused(text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        decode_rle(text, (4, 5))


def test_a_hostile_size_is_refused_before_memory_is_taken() -> None:
    with pytest.raises(DataError, match="over the limit"):
        decode_rle("1 1", (10**6, 10**6))


@pytest.mark.parametrize("style", ["commas", "floats", "numpy"])
def test_landmarks_are_read_in_every_style(style: str, tmp_path: Path) -> None:
    points = lung_points()
    text = {
        "commas": ",".join(f"{v:g}" for v in points.ravel()),
        "floats": ",".join(f"{v:.1f}" for v in points.ravel()),
        "numpy": np.array2string(points.astype(int), threshold=10**6),
    }[style]
    masks = tuple(
        encode_rle(draw_organ_mask(make_chest_phantom(200, 180).landmarks[organ], (200, 180)))
        for organ in ("lung_left", "lung_right", "heart")
    )
    table = read_chexmask(write(tmp_path / "table.csv", row("a.png", text, masks, "180.0,200")))
    assert list(table) == ["a.png"]
    assert table["a.png"].size == (200, 180)
    landmarks = table["a.png"].landmarks()
    assert list(landmarks) == ["lung_right", "lung_left", "heart"]
    np.testing.assert_array_equal(np.concatenate(list(landmarks.values())), points)
    for organ, mask in table["a.png"].masks((200, 180)).items():
        np.testing.assert_array_equal(mask, draw_organ_mask(landmarks[organ], (200, 180)))


def test_empty_cells_and_nan_are_nothing(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", row("a", "nan", ("", "nan", "1 2"), ","), row("b", "", size="nan,nan"))
    table = read_chexmask(path)
    assert table["a"].size is table["b"].size is None
    assert table["a"].landmarks() == table["b"].landmarks() == {}
    assert {organ: int(m.sum()) for organ, m in table["a"].masks((4, 4)).items()} == {
        "lung_right": 0,
        "lung_left": 0,
        "heart": 2,
    }


def test_physicians_tables_and_gzip(tmp_path: Path) -> None:
    text = "ImageID,Dataset,Landmarks,Right Lung,Left Lung,Heart\ntrain/p1/view1.jpg,CheXpert,,1 1,2 1,3 1\n"
    path = tmp_path / "physician.csv.gz"
    path.write_bytes(gzip.compress(text.encode()))
    assert is_chexmask(path)
    ((name, stored),) = read_chexmask(path).items()
    assert name == "train/p1/view1.jpg"
    masks = stored.masks((4, 1))
    assert [organ for organ, m in masks.items() if m[0, 1]] == ["lung_left"]


def estimates(path: Path, padchest: bool | None = None) -> dict[str, tuple[float, float, bool]]:
    """Image -> mean, maximum, and whether they were exchanged."""
    return {
        image: (row.estimates["dice_rca_mean"], row.estimates["dice_rca_max"], row.exchanged)
        for image, row in read_chexmask(path, padchest=padchest).items()
    }


IN_PLACE = {"c.png": (0.85, 0.95, False), "d.png": (0.86, 0.90, False), "e.png": (0.81, 0.88, False)}
AS_STORED = {"a.png": (0.90, 0.80, False), "b.png": (0.75, 0.70, False)} | IN_PLACE
PUT_RIGHT = {"a.png": (0.80, 0.90, True), "b.png": (0.70, 0.75, True)} | IN_PLACE


def test_exchanged_estimates_of_padchest_are_put_right(tmp_path: Path) -> None:
    path = write_padchest(tmp_path / "Padchest.csv")
    assert estimates(path) == PUT_RIGHT
    assert estimates(path, padchest=True) == PUT_RIGHT
    assert estimates(path, padchest=False) == AS_STORED


def test_a_maximum_that_equals_its_mean_is_in_its_place() -> None:
    rows = [["a.png", 0.8, 0.8, *[None] * 6], ["b.png", 0.7, 0.8, *[None] * 6]]
    table = pd.DataFrame(rows, columns=list(PADCHEST))
    assert exchanged_rca(table).tolist() == [False, True]
    assert exchanged_rca(table, padchest=True).tolist() == [False, True]


@pytest.mark.parametrize(
    "header",
    [
        # What only looks like it: the mean first, images named otherwise, no column of sizes.
        tuple({"Dice RCA (Max)": PADCHEST[2], "Dice RCA (Mean)": PADCHEST[1]}.get(c, c) for c in PADCHEST),
        ("dicom_id", *PADCHEST[1:]),
        (*PADCHEST[:-1], "Columns"),
    ],
)
def test_other_tables_are_taken_as_they_are(tmp_path: Path, header: tuple[str, ...]) -> None:
    path = write_padchest(tmp_path / "Padchest.csv", header)
    assert not any(exchanged for *_, exchanged in estimates(path).values())
    # The reader may be told, and then goes by what cannot be.
    told = estimates(path, padchest=True)
    assert all(mean <= highest for mean, highest, _ in told.values())


def test_estimates_of_other_tables(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", row("a"), row("b").replace("0.9", ""))
    table = read_chexmask(path)
    assert [table[name].estimates for name in "ab"] == [{"dice_rca_mean": 0.9}, {}]
    with pytest.raises(DataError, match=r"Dice RCA \(Mean\) holds no numbers"):
        read_chexmask(write(tmp_path / "t.csv", row("a").replace("0.9", "good")))


def test_other_tables_are_told_apart(tmp_path: Path) -> None:
    path = tmp_path / "landmarks.csv"
    path.write_text("organ,index,x_px,y_px,x_mm,y_mm\nheart,0,1,2,,\n")
    assert not is_chexmask(path)


@pytest.mark.parametrize(
    ("points", "error", "message"),
    [
        ("1,2,3", DataError, "landmarks of all organs"),
        ("1,2,3,4", DataError, "not a set of chest organs"),
        ("[[1 2] ... [3 4]]", DataError, "numpy left out the middle"),
        ("one,two", DataError, "cannot be read"),
        (",".join(["1", "nan"] * 94), GeometryError, "finite"),
    ],
)
def test_bad_landmarks(points: str, error: type, message: str, tmp_path: Path) -> None:
    stored = read_chexmask(write(tmp_path / "t.csv", row("a", points)))["a"]
    with pytest.raises(error, match=message):
        stored.landmarks()


def test_a_mask_of_another_size_names_its_organ(tmp_path: Path) -> None:
    stored = read_chexmask(write(tmp_path / "t.csv", row("a", "", ("", "", "500 200"))))["a"]
    with pytest.raises(DataError, match=r"heart: run lengths reach pixel 699"):
        stored.masks((30, 20))


def test_bad_tables(tmp_path: Path) -> None:
    for content, message in [
        (b"", "cannot be read as a table"),
        (b"\x89PNG\r\n\xff\xfe\x00", "cannot be read as a table"),
        (b"Name,Landmarks\na,\n", "no column names the images.*there are Name, Landmarks"),
        (HEADER.encode(), "no row below its header"),
        ((HEADER + row("a") + row("a")).encode(), "two rows for 'a'"),
    ]:
        path = tmp_path / "bad.csv"
        path.write_bytes(content)
        with pytest.raises(DataError, match=message):
            read_chexmask(path)
    with pytest.raises(DataError, match="cannot be opened: No such file"):
        read_chexmask(tmp_path / "absent.csv")


def test_a_written_table_is_read_again(tmp_path: Path) -> None:
    points = {
        "lung_right": np.random.default_rng(0).uniform(2, 40, (44, 2)),
        "lung_left": np.random.default_rng(1).uniform(2, 40, (50, 2)),
        "heart": np.random.default_rng(2).uniform(2, 40, (26, 2)),
        "clavicle_right": np.zeros((23, 2)),
    }
    masks = {organ: draw_organ_mask(each, (60, 48)) for organ, each in points.items()}
    rows = {"a.png": chexmask_row((60, 48), points, masks), "b": chexmask_row((60, 48), {}, {})}
    path = write_chexmask(tmp_path / "table.csv", rows)
    assert path.read_text().splitlines()[0] == "ImageID,Landmarks,Right Lung,Left Lung,Heart,Height,Width"
    read = read_chexmask(path)
    assert list(read) == ["a.png", "b"]
    assert read["a.png"].size == (60, 48)
    for organ, each in read["a.png"].landmarks().items():
        np.testing.assert_array_equal(each, np.rint(points[organ]))
    for organ, mask in read["a.png"].masks((60, 48)).items():
        np.testing.assert_array_equal(mask, masks[organ])
    assert read["b"].landmarks() == {}
    assert not any(mask.any() for mask in read["b"].masks((60, 48)).values())
    with pytest.raises(DataError, match="size of c is unknown"):
        write_chexmask(tmp_path / "c.csv", {"c": ChexmaskRow(None, "", {})})


def test_landmarks_left_of_the_image_and_strange_names_are_written_and_read_as_they_are(tmp_path) -> None:
    points = {organ: np.full((count, 2), -3.0) for organ, count in LUNGS_HEART.items()}
    rows = {name: chexmask_row((60, 48), points, {}) for name in ("a.png", "=a,b.png")}
    path = write_chexmask(tmp_path / "table.csv", rows)
    assert "'-3" not in path.read_text()
    assert '"\'=a,b.png"' in path.read_text()  # no spreadsheet takes it for a formula
    read = read_chexmask(path)
    assert list(read) == list(rows)
    assert all(
        row.landmarks()["heart"].min() == row.landmarks()["heart"].max() == -3 for row in read.values()
    )


def test_landmarks_of_tables_with_an_apostrophe_are_read(tmp_path) -> None:
    points = {organ: np.full((count, 2), -3.0) for organ, count in LUNGS_HEART.items()}
    path = write_chexmask(tmp_path / "table.csv", {"a.png": chexmask_row((60, 48), points, {})})
    path.write_text(path.read_text().replace('"-3', "\"'-3"))  # as release 0.1 wrote it
    assert read_chexmask(path)["a.png"].landmarks()["heart"][0, 0] == -3


def test_lines_with_estimates_are_those_of_chexmask(tmp_path) -> None:
    row = ChexmaskRow((4, 3), "", {"heart": "1 2"}, {"dice_rca_max": 0.91234567, "dice_rca_mean": 0.5})
    lines = chexmask_lines([("a", row), ("b", ChexmaskRow((4, 3), "", {}))], estimates=True)
    path = tmp_path / "t.csv"
    path.write_bytes(b"".join(lines))
    assert path.read_text().splitlines() == [
        "ImageID,Dice RCA (Mean),Dice RCA (Max),Landmarks,Right Lung,Left Lung,Heart,Height,Width",
        "a,0.5,0.912346,,,,1 2,3,4",
        "b,,,,,,,3,4",
    ]
    assert read_chexmask(path)["a"].estimates == {"dice_rca_max": 0.912346, "dice_rca_mean": 0.5}
