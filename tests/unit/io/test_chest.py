from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from anatozoo.errors import DataError, ImageError
from anatozoo.io.chest import ChestCase, deal_cases, index_chest, missing_pairs, read_jsrt_img
from anatozoo.io.splits import deal
from anatozoo.organs import CHEST_ORGANS

FOLDERS = dict(zip(("RL", "LL", "H", "RCLA", "LCLA"), CHEST_ORGANS, strict=True))


def picture(path: Path, size: tuple[int, int] = (1024, 1024), value: np.ndarray | int = 100) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.zeros(size[::-1], np.uint8)
    pixels[:] = value
    pixels[::2, ::2] = 7
    PIL.Image.fromarray(pixels).save(path)
    return path


def img(path: Path, raw: np.ndarray | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.zeros((2048, 2048), np.uint16) if raw is None else raw
    path.write_bytes(values.astype(">u2").tobytes())
    return path


def organ_points(name: str, organ: str) -> np.ndarray:
    seed = sum(map(ord, name + organ))
    return np.random.default_rng(seed).uniform(0, 1023, (CHEST_ORGANS[organ], 2))


def separate_landmarks(root: Path, name: str, folders: str = "RL LL H RCLA LCLA", dtype: str = "f8") -> None:
    for folder in folders.split():
        path = root / "landmarks" / folder / f"{name}.npy"
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, organ_points(name, FOLDERS[folder]).astype(dtype))


def vector(path: Path, name: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, np.concatenate([organ_points(name, organ) for organ in CHEST_ORGANS]).ravel())


def organ_mask(path: Path, columns: slice, size: int = 1024) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    mask = np.zeros((size, size), np.uint8)
    mask[size // 4 : size // 2, columns] = 255
    PIL.Image.fromarray(mask).save(path)


def split_lists(folder: Path, pattern: str = "{}.txt", **names: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for split, listed in names.items():
        (folder / pattern.format(split)).write_text("\n".join(listed.split()) + "\n\n")


def test_img_file_is_read_big_endian_and_inverted(tmp_path: Path) -> None:
    raw = np.zeros((2048, 2048), np.uint16)
    raw[0, 0], raw[3, 5] = 4095, 0x0102
    pixels = read_jsrt_img(img(tmp_path / "JPCLN001.IMG", raw))
    assert pixels.dtype == np.float32
    assert pixels.shape == (2048, 2048)
    assert (pixels[0, 0], pixels[3, 5], pixels[1, 1]) == (0, 4095 - 0x0102, 4095)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "0 bytes"),
        (b"\0" * (2048 * 2048 * 2 - 1), "8388607 bytes"),
        (b"\0" * (2048 * 2048 * 2 + 2), "8388610 bytes"),
        (b"\x10\x00" + b"\0" * (2048 * 2048 * 2 - 2), "holds 4096"),
    ],
)
def test_damaged_img_file_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "JPCLN001.IMG"
    path.write_bytes(content)
    with pytest.raises(ImageError, match=message):
        read_jsrt_img(path)


def test_absent_img_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="No such file"):
        read_jsrt_img(tmp_path / "JPCLN001.IMG")


@pytest.fixture
def jsrt(tmp_path: Path) -> Path:
    """A complete case, one without split, one of the test split without image, and landmarks beside."""
    folder = tmp_path / "jsrt"
    for name in ("JPCLN001", "JPCLN016"):
        picture(folder / "images" / f"{name}.png")
        for organ, columns in (("right_lung", slice(100, 400)), ("left_lung", slice(600, 900))):
            organ_mask(folder / "masks" / organ / f"{name}.png", columns)
    split_lists(folder / "splits", train="JPCLN001", test="JPCLN002")
    beside = tmp_path / "chest-xray-landmark-dataset"
    for name in ("JPCLN001", "JPCLN002"):
        separate_landmarks(beside, name)
    separate_landmarks(beside, "CHNCXR_0001_0", "RL LL", dtype="f4")
    (beside / "clinical.csv").write_text(
        "File,Dataset,Lung Annotations,Heart Annotations,Sex,Age,Condition\n"
        'JPCLN001.png,JSRT,True,True,M,0,"nodule, benign \t"\n'
        "CHNCXR_0001_0.png,Shenzhen,True,False,F,45,normal\n"
    )
    return tmp_path


def test_jsrt_joins_images_masks_landmarks_splits_and_clinical_data(jsrt: Path) -> None:
    cases = {case.id: case for case in index_chest(jsrt, "jsrt")}
    assert list(cases) == ["JPCLN001", "JPCLN002", "JPCLN016"]
    first = cases["JPCLN001"]
    assert first.image == jsrt / "jsrt/images/JPCLN001.png"
    assert (first.size, first.split, first.patient, first.spacing_mm) == (
        (1024, 1024),
        "train",
        "JPCLN001",
        (0.35, 0.35),
    )
    assert list(first.landmarks) == list(CHEST_ORGANS)
    np.testing.assert_allclose(first.landmarks["heart"], organ_points("JPCLN001", "heart"), atol=1e-9)
    assert list(first.masks) == ["lung_right", "lung_left"]
    assert first.metadata == {"dataset": "JSRT", "sex": "M", "age": None, "condition": "nodule, benign"}
    assert cases["JPCLN016"].split is None
    assert cases["JPCLN002"].image is None
    assert missing_pairs(cases.values()) == {"image": ["JPCLN002"], "annotation": [], "split": ["JPCLN016"]}
    assert [case.id for case in index_chest(jsrt, "jsrt", "train")] == ["JPCLN001"]


def test_landmark_layout_lists_every_centre_in_double_precision(jsrt: Path) -> None:
    cases = {case.id: case for case in index_chest(jsrt, "landmarks")}
    assert list(cases) == ["CHNCXR_0001_0", "JPCLN001", "JPCLN002"]
    other = cases["CHNCXR_0001_0"]
    assert list(other.landmarks) == ["lung_right", "lung_left"]
    assert all(points.dtype == np.float64 for points in other.landmarks.values())
    assert (other.metadata["dataset"], other.metadata["sex"], other.metadata["age"]) == ("Shenzhen", "F", 45)
    assert (other.spacing_mm, other.split, other.size) == (None, None, (1024, 1024))


def test_case_reads_its_image_and_masks(jsrt: Path) -> None:
    cases = {case.id: case for case in index_chest(jsrt, "jsrt")}
    image = cases["JPCLN001"].read_image()
    assert (image.name, image.size, image.spacing_mm) == ("JPCLN001", (1024, 1024), (0.35, 0.35))
    mask = cases["JPCLN001"].read_mask("lung_left")
    assert mask.dtype == bool
    assert mask[300, 700]
    assert not mask[300, 300]
    with pytest.raises(DataError, match="has no image"):
        cases["JPCLN002"].read_image()
    with pytest.raises(DataError, match="no mask of heart; it has lung_right, lung_left"):
        cases["JPCLN001"].read_mask("heart")


def test_original_files_win_over_pictures_and_carry_landmarks_to_2048(jsrt: Path) -> None:
    raw = np.zeros((2048, 2048), np.uint16)
    raw[:1024] = 1000
    path = img(jsrt / "Nodule154images" / "JPCLN001.IMG", raw)
    case = index_chest(jsrt, "jsrt", "train")[0]
    assert case.image == path
    assert (case.size, case.spacing_mm) == ((2048, 2048), (0.175, 0.175))
    expected = (organ_points("JPCLN001", "lung_right") + 0.5) * 2 - 0.5
    np.testing.assert_allclose(case.landmarks["lung_right"], expected)
    image = case.read_image()
    assert (image.name, image.source, image.size) == ("JPCLN001", str(path), (2048, 2048))
    assert (image.pixels[0, 0], image.pixels[-1, 0]) == (3095, 4095)


def test_scr_masks_as_published(tmp_path: Path) -> None:
    img(tmp_path / "JPCNN001.IMG")
    organ_mask(tmp_path / "fold1/masks/left lung/JPCNN001.gif", slice(600, 900))
    organ_mask(tmp_path / "fold1/masks/right lung/JPCNN001.gif", slice(100, 400))
    organ_mask(tmp_path / "fold2/masks/left clavicle/JPCNN002.gif", slice(600, 900))
    first, second = index_chest(tmp_path)
    assert list(first.masks) == ["lung_right", "lung_left"]
    assert first.read_mask("lung_right")[300, 200]
    assert list(second.masks) == ["clavicle_left"]
    assert second.image is None


def test_masks_named_by_the_viewers_side_are_refused(tmp_path: Path) -> None:
    organ_mask(tmp_path / "masks/left_lung/JPCNN001.png", slice(100, 400))
    organ_mask(tmp_path / "masks/right_lung/JPCNN001.png", slice(600, 900))
    with pytest.raises(DataError, match="exchange the names"):
        index_chest(tmp_path)


def test_predictions_and_masks_with_a_radiographs_name_are_no_radiographs(tmp_path: Path) -> None:
    picture(tmp_path / "results/epoch3/JPCLN001.png")
    separate_landmarks(tmp_path, "JPCLN001")
    assert index_chest(tmp_path)[0].image is None


def test_hybridgnet_repository(tmp_path: Path) -> None:
    for split, name in (("Train", "JPCLN001"), ("Val", "JPCLN003"), ("Test", "JPCNN002")):
        vector(tmp_path / split / "landmarks" / f"{name}.npy", name)
    vector(tmp_path / "discarded" / "landmarks" / "JPCLN016.npy", "JPCLN016")
    split_lists(tmp_path, "{}_files.txt", train="JPCLN001.IMG", val="JPCLN003.IMG", test="JPCNN002.IMG")
    picture(tmp_path / "Train" / "Images" / "JPCLN001.png")
    (tmp_path / "Clinical_Information").mkdir()
    (tmp_path / "Clinical_Information/JSRT_clinical.csv").write_text(",Img,Age,Sex\n0,JPCLN001.IMG,53,male\n")
    cases = index_chest(tmp_path, "hybridgnet")
    assert [(case.id, case.split) for case in cases] == [
        ("JPCLN001", "train"),
        ("JPCLN003", "val"),
        ("JPCNN002", "test"),
    ]
    np.testing.assert_allclose(cases[2].landmarks["clavicle_left"], organ_points("JPCNN002", "clavicle_left"))
    assert cases[0].image is not None
    assert cases[0].metadata == {"dataset": "JSRT", "sex": "M", "age": 53.0}


@pytest.fixture
def covid(tmp_path: Path) -> Path:
    rows = ["image,mask,patient,sex,age,view"]
    for i in range(40):
        picture(tmp_path / "images" / f"c{i}.jpg", (60, 40))
        labels = np.zeros((40, 60), np.uint8)
        labels[10:30, 5:25], labels[10:30, 35:55] = 1, 2
        (tmp_path / "masks").mkdir(exist_ok=True)
        PIL.Image.fromarray(labels).save(tmp_path / "masks" / f"c{i}.png")
        rows.append(f"c{i}.jpg,c{i}.png,p{i // 2},{'M' if i % 3 else ''},{i or ''},PA")
    (tmp_path / "metadata.csv").write_text("\n".join(rows))
    return tmp_path


def test_covid_layout(covid: Path) -> None:
    (covid / "images" / "c7.jpg").unlink()
    cases = {case.id: case for case in index_chest(covid)}
    assert len(cases) == 40
    one = cases["c0"]
    assert (one.size, one.patient, one.spacing_mm) == ((60, 40), "p0", None)
    assert one.metadata == {"dataset": "covid-cxr", "sex": None, "age": None, "view": "PA"}
    assert one.read_mask("lung_right")[:, :30].sum() == one.read_mask("lung_right").sum() == 400
    assert one.read_mask("lung_left")[:, 30:].sum() == one.read_mask("lung_left").sum() == 400
    assert cases["c7"].image is None
    assert cases["c1"].metadata["age"] == 1.0
    train, val = index_chest(covid, split="train"), index_chest(covid, split="val")
    assert len(train) + len(val) == 40
    assert {c.patient for c in train}.isdisjoint(c.patient for c in val)


def test_dealing_is_stable_and_near_its_shares() -> None:
    shares = {"train": 0.5, "val": 0.2, "test": 0.3}
    dealt = [deal(str(i), shares) for i in range(2000)]
    assert [dealt.count(name) / 2000 for name in shares] == pytest.approx([0.5, 0.2, 0.3], abs=0.04)


def test_dealing_does_not_change_between_releases(tmp_path: Path) -> None:
    cases = [ChestCase(str(i), None, (1024, 1024), {}, {}, None, str(i)) for i in range(12)]
    assert [case.id for case in deal_cases(tmp_path, cases) if case.split == "val"] == ["1", "5", "11"]


def test_nothing_found_says_what_was_looked_for(tmp_path: Path) -> None:
    picture(tmp_path / "images" / "holiday.png")
    with pytest.raises(
        DataError, match=r"nothing of layout 'jsrt'.*0 JSRT radiographs.*landmarks/RL/NAME.npy"
    ):
        index_chest(tmp_path, "jsrt")
    with pytest.raises(DataError, match="not a folder"):
        index_chest(tmp_path / "absent")
    with pytest.raises(DataError, match="layout 'JSRT' is unknown"):
        index_chest(tmp_path, "JSRT")


def test_unknown_split_names_the_known_ones(jsrt: Path) -> None:
    with pytest.raises(DataError, match=r"is in split 'val'; the splits here are test, train"):
        index_chest(jsrt, "jsrt", "val")


def test_a_case_in_two_splits_is_refused(jsrt: Path) -> None:
    split_lists(jsrt / "jsrt/splits", val="JPCLN001")
    with pytest.raises(DataError, match=r"JPCLN001 is in the splits (train and val|val and train)"):
        index_chest(jsrt)


def test_two_pictures_of_one_name_are_refused_once_used(jsrt: Path) -> None:
    picture(jsrt / "a/images/other.png")
    picture(jsrt / "b/images/other.png")
    index_chest(jsrt)
    picture(jsrt / "b/images/JPCLN001.png")
    with pytest.raises(DataError, match="both called JPCLN001"):
        index_chest(jsrt)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((43, 2)), r"shape \(43, 2\)"),
        (np.full((44, 2), np.nan), "finite"),
        (np.array([["a", "b"]] * 44), "finite numbers"),
        (np.array([{}], dtype=object), "no array that can be read"),
    ],
)
def test_damaged_landmarks_are_refused(tmp_path: Path, array: np.ndarray, message: str) -> None:
    (tmp_path / "landmarks/RL").mkdir(parents=True)
    np.save(tmp_path / "landmarks/RL/JPCLN001.npy", array, allow_pickle=True)
    with pytest.raises(DataError, match=message):
        index_chest(tmp_path)


def test_contradicting_landmarks_are_refused(tmp_path: Path) -> None:
    separate_landmarks(tmp_path, "JPCLN001")
    vector(tmp_path / "Train/landmarks/JPCLN001.npy", "another")
    with pytest.raises(DataError, match="differs from another file"):
        index_chest(tmp_path)


@pytest.mark.parametrize(("name", "size"), [("JPCLN001", (1024, 900)), ("CHNCXR_0001_0", (2000, 2000))])
def test_images_in_another_frame_than_their_landmarks_are_refused(
    tmp_path: Path, name: str, size: tuple[int, int]
) -> None:
    separate_landmarks(tmp_path, name, "RL LL")
    picture(tmp_path / "images" / f"{name}.png", size)
    with pytest.raises(DataError, match="1024 x 1024"):
        index_chest(tmp_path)


def test_truncated_picture_is_named(tmp_path: Path) -> None:
    separate_landmarks(tmp_path, "JPCLN001")
    (tmp_path / "images").mkdir()
    (tmp_path / "images/JPCLN001.png").write_bytes(b"\x89PNG\r\n")
    with pytest.raises(DataError, match=r"JPCLN001\.png: unreadable image"):
        index_chest(tmp_path)
