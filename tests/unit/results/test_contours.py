import json

import cv2
import numpy as np
import pytest
import SimpleITK as sitk
from PIL import Image as PILImage

from anatozoo.errors import ConfigError, DataError, GeometryError, OutputError
from anatozoo.results.contours import ContourResult, contour_band


def square(left, top, right, bottom):
    return np.array([[left, top], [right, top], [right, bottom], [left, bottom]], dtype=float)


def make(**changes):
    values = {
        "checkpoint": "fake",
        "version": "1.0.0",
        "image": "folder/a scan.dcm",
        "size": (40, 30),
        "spacing_mm": (0.5, 0.25),
        "landmarks": {
            "lung_right": square(2, 3, 11, 20),
            "lung_left": square(22, 3, 32, 20),
            "heart": square(9, 10, 24, 22),
        },
        "flags": ("lateral_view",),
        "pixels": np.random.default_rng(0).random((30, 40), dtype=np.float32),
    }
    return ContourResult(**(values | changes))


def test_label_map_paints_later_organs_over_earlier_ones_but_masks_are_whole():
    result = make()
    assert result.mask.shape == (30, 40)
    assert result.mask.dtype == np.uint8
    assert result.mask[15, 10] == 3  # inside the right lung and the heart
    assert result.masks["lung_right"][15, 10]
    assert result.mask[5, 10] == 1
    assert result.mask[5, 30] == 2
    assert result.mask[29, 39] == 0
    # Boundary included: 2..11 and 3..20.
    assert result.areas_px["lung_right"] == 10 * 18
    assert result.masks["lung_right"].dtype == bool
    assert result.labels == {"lung_right": 1, "lung_left": 2, "heart": 3}
    assert result.organs == ("lung_right", "lung_left", "heart")


def test_millimetres_follow_the_spacing_of_each_axis():
    result = make()
    np.testing.assert_allclose(result.landmarks_mm["heart"][0], [4.5, 2.5])
    assert result.areas_mm2["lung_right"] == pytest.approx(180 * 0.125)


def test_without_spacing_there_are_no_millimetres():
    result = make(spacing_mm=None)
    assert result.landmarks_mm is None
    assert result.areas_mm2 is None
    values = result.to_dict()
    assert values["landmarks_mm"] is None
    assert values["areas_mm2"] is None
    assert values["spacing_mm"] is None


def test_cardiothoracic_ratio_is_heart_width_over_thorax_width():
    assert make().cardiothoracic_ratio == pytest.approx(15 / 30)
    assert make(landmarks={"heart": square(0, 0, 5, 5)}).cardiothoracic_ratio is None


def test_result_cannot_be_changed():
    points = square(2, 3, 11, 20)
    pixels = np.zeros((30, 40), np.float32)
    result = make(landmarks={"heart": points}, pixels=pixels)
    for array in (result.landmarks["heart"], result.mask, result.masks["heart"], result.pixels):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1
    with pytest.raises(AttributeError):
        result.size = (1, 1)
    points[0] = 99  # the caller's arrays stay the caller's
    pixels[0] = 1
    assert result.landmarks["heart"][0, 0] == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"landmarks": {}}, "at least one named organ"),
        ({"landmarks": {"": square(0, 0, 1, 1)}}, "at least one named organ"),
        ({"landmarks": {"heart": np.zeros((0, 2))}}, "N > 0"),
        ({"landmarks": {"heart": np.zeros((4, 3))}}, r"\(N, 2\)"),
        ({"landmarks": {"heart": np.zeros(8)}}, r"\(N, 2\)"),
        ({"landmarks": {"heart": [[0, np.nan], [1, 1], [2, 2]]}}, "finite"),
        ({"landmarks": {"heart": [["x", "y"]]}}, "numbers"),
        ({"size": (40, 0)}, "whole pixels"),
        ({"size": (40.5, 30)}, "whole pixels"),
        ({"spacing_mm": (0.0, 1.0)}, "positive"),
        ({"spacing_mm": (float("nan"), 1.0)}, "positive"),
        ({"pixels": np.zeros((40, 30), np.float32)}, "do not fit"),
    ],
)
def test_impossible_results_are_refused(changes, message):
    with pytest.raises(GeometryError, match=message):
        make(**changes)


def test_landmarks_outside_the_image_are_kept_and_cut_off_in_masks():
    result = make(landmarks={"heart": square(-1e12, -5, 1e12, 4)})
    assert result.landmarks["heart"][0, 0] == -1e12
    assert result.areas_px["heart"] == 5 * 40


def test_flags_come_once_each():
    assert make(flags=["b", "a", "b"]).flags == ("b", "a")


def test_dictionary_is_strict_json_and_leads_back():
    result = make(landmarks={"heart": square(1 / 3, -0.0001, 20.12345, 10)})
    text = json.dumps(result.to_dict(), allow_nan=False)
    values = json.loads(text)
    for key in ("checkpoint", "version", "image", "size", "spacing_mm", "landmarks", "landmarks_mm", "flags"):
        assert key in values
    assert values["labels"] == {"heart": 1}
    assert values["size"] == [40, 30]
    assert values["landmarks"]["heart"][:2] == [[0.333, 0.0], [20.123, 0.0]]
    assert "-0.0" not in text
    again = ContourResult.from_dict(values)
    assert again.pixels is None
    rounded = again.to_dict()
    assert rounded["landmarks"] == values["landmarks"]
    assert ContourResult.from_dict(rounded).to_dict() == rounded


def test_dictionary_with_a_missing_key_is_refused():
    values = make().to_dict()
    del values["size"]
    with pytest.raises(DataError, match="'size' is missing"):
        ContourResult.from_dict(values)


def test_save_writes_every_format_under_the_stem(tmp_path):
    result = make()
    paths = result.save(tmp_path / "new" / "out", ("csv", "png", "json", "nifti", "mha"))
    names = {path.name for path in paths}
    assert names == {path.name for path in (tmp_path / "new" / "out").iterdir()}
    assert names == {
        "a scan_mask.png",
        "a scan_overlay.png",
        "a scan.json",
        "a scan_mask.nii.gz",
        "a scan_mask.mha",
        "a scan_landmarks.csv",
    }
    folder = tmp_path / "new" / "out"
    with PILImage.open(folder / "a scan_mask.png") as picture:
        assert picture.mode == "P"
        np.testing.assert_array_equal(np.array(picture), result.mask)
        red, green, blue = picture.convert("RGB").getpixel((15, 15))
    assert (red, green, blue) == (230, 100, 30)  # visible, not the 3 of a plain label map
    for name in ("a scan_mask.nii.gz", "a scan_mask.mha"):
        volume = sitk.ReadImage(str(folder / name))
        np.testing.assert_array_equal(sitk.GetArrayFromImage(volume), result.mask)
        np.testing.assert_allclose(volume.GetSpacing(), (0.5, 0.25))
    assert json.loads((folder / "a scan.json").read_text()) == result.to_dict()
    assert cv2.imread(str(folder / "a scan_overlay.png")) is not None


def labelled(**changes):
    """A result whose label map has the lungs of the contours, and the heart five pixels lower."""
    labels = np.array(make().mask)
    labels[labels == 3] = 0
    labels[15:28, 9:25] = 3
    return make(**({"label_map": labels} | changes))


def test_a_label_map_is_saved_beside_the_mask_of_the_contours(tmp_path):
    result = labelled()
    plain = make().save(tmp_path, ("png", "json", "nifti", "mha"), stem="plain")
    paths = result.save(tmp_path, ("png", "json", "nifti", "mha"), stem="x")
    endings = ("png", "nii.gz", "mha")
    more = {f"x_label_map.{ending}" for ending in endings}
    assert {p.name for p in paths} == {p.name.replace("plain", "x") for p in plain} | more
    for ending in endings:
        for name, expected in (("x_mask", result.mask), ("x_label_map", result.label_map)):
            path = str(tmp_path / f"{name}.{ending}")
            read = (
                np.array(PILImage.open(path))
                if ending == "png"
                else sitk.GetArrayFromImage(sitk.ReadImage(path))
            )
            np.testing.assert_array_equal(read, expected)
    # Everything else is that of the contours.
    assert result.areas_px == make().areas_px
    assert (tmp_path / "x_overlay.png").read_bytes() == (tmp_path / "plain_overlay.png").read_bytes()
    values, without = json.loads((tmp_path / "x.json").read_text()), make().to_dict()
    assert values["masks_from"] == {"_mask": "landmarks", "_label_map": "label_map"}
    assert values["label_map"]["areas_px"]["heart"] == 13 * 16
    assert values["label_map"]["agreement"].keys() == result.labels.keys()
    assert {name: values[name] for name in without} == json.loads(json.dumps(without))
    again = ContourResult.from_dict(values)
    assert again.label_map is None
    assert again.to_dict() == json.loads(json.dumps(without))


def test_agreement_is_dice_of_the_two_label_maps_and_flags_what_differs():
    result = labelled()
    # The contours draw rows 10 to 22 and columns 9 to 24 of the heart, the label map rows 15 to 27.
    assert result.agreement["heart"] == pytest.approx(2 * 8 * 16 / (13 * 16 + 13 * 16))
    assert result.agreement["lung_left"] > 0.8
    assert result.disagreements == ("masks_disagree_heart",)
    assert labelled(label_map=np.array(make().mask)).disagreements == ()
    assert labelled(label_map=np.zeros((30, 40), np.uint8)).disagreements == tuple(
        f"masks_disagree_{organ}" for organ in make().organs
    )
    assert make().agreement is None
    assert make().disagreements == ()


def test_an_organ_in_neither_agrees_with_nothing():
    far = {"heart": square(100, 100, 120, 120)}
    result = make(landmarks=far, label_map=np.zeros((30, 40), np.uint8))
    assert np.isnan(result.agreement["heart"])
    assert result.disagreements == ()
    assert result.to_dict()["label_map"]["agreement"] == {"heart": None}


@pytest.mark.parametrize(
    "wrong", [np.zeros((40, 30), np.uint8), np.zeros((30, 40), np.int64), np.full((30, 40), 4, np.uint8)]
)
def test_a_label_map_that_does_not_fit_is_refused(wrong):
    with pytest.raises(GeometryError, match="label map"):
        make(label_map=wrong)


def test_default_formats_are_png_and_json(tmp_path):
    assert {p.name for p in make().save(tmp_path, stem="x")} == {"x_mask.png", "x_overlay.png", "x.json"}


@pytest.mark.parametrize("stem", ["", "a/b", "../a", "/a"])
def test_stem_cannot_leave_the_folder(tmp_path, stem):
    with pytest.raises(ConfigError, match="start of a file name"):
        make().save(tmp_path, stem=stem)


def test_folder_that_is_a_file_gives_a_sentence(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match=r"is a file, not a folder.*Choose"):
        make().save(tmp_path / "file")


def test_notebooks_get_a_png():
    assert make()._repr_png_().startswith(b"\x89PNG")


def spread(scale=1.0):
    """Standard deviations for the landmarks of `make`."""
    draw = np.random.default_rng(1)
    return {organ: scale * draw.random((4, 2)) for organ in ("lung_right", "lung_left", "heart")}


def test_sigma_has_one_number_for_the_image_and_one_for_each_organ():
    sigma = spread()
    result = make(sigma=sigma, samples=50)
    assert result.sigma_px == pytest.approx(np.concatenate(list(sigma.values())).mean())
    assert result.organ_sigma_px["heart"] == pytest.approx(sigma["heart"].mean())
    np.testing.assert_allclose(result.sigma_mm["heart"], sigma["heart"] * [0.5, 0.25])
    assert make(sigma=sigma, samples=50, spacing_mm=None).sigma_mm is None
    with pytest.raises(ValueError, match="read-only"):
        result.sigma["heart"][0] = 1
    plain = make()
    assert plain.sigma is plain.samples is plain.sigma_px is plain.organ_sigma_px is plain.sigma_mm is None
    assert "sigma" not in plain.to_dict()
    assert plain.bands() == {}


def test_sigma_survives_json_and_stands_in_the_csv(tmp_path):
    result = make(sigma=spread(1e-4), samples=50)
    values = json.loads(json.dumps(result.to_dict()))
    assert (values["samples"], values["sigma_px"]) == (50, round(result.sigma_px, 6))
    assert list(values["organ_sigma_px"]) == ["lung_right", "lung_left", "heart"]
    assert make(sigma=spread(), samples=50, spacing_mm=None).to_dict()["sigma_mm"] is None
    again = ContourResult.from_dict(values)
    assert again.samples == 50
    for organ, sigma in result.sigma.items():
        np.testing.assert_allclose(again.sigma[organ], sigma, atol=6e-7)
    assert ContourResult.from_dict(make().to_dict()).sigma is None
    result.save(tmp_path, ["csv"], "a")
    header, first, *_ = (tmp_path / "a_landmarks.csv").read_text().splitlines()
    assert header == "organ,index,x_px,y_px,x_mm,y_mm,sigma_x_px,sigma_y_px"
    np.testing.assert_allclose(
        [float(x) for x in first.split(",")[-2:]], result.sigma["lung_right"][0], atol=6e-7
    )


@pytest.mark.parametrize(
    "wrong",
    [
        {"sigma": spread()},
        {"samples": 50},
        {"sigma": {"heart": np.ones((4, 2))}, "samples": 50},
        {"sigma": spread() | {"heart": np.ones((3, 2))}, "samples": 50},
        {"sigma": spread(-1.0), "samples": 50},
        {"sigma": spread(np.nan), "samples": 50},
    ],
)
def test_sigma_must_fit_the_landmarks(wrong):
    with pytest.raises(GeometryError, match=r"sigma|finite"):
        make(**wrong)


def test_one_sample_has_no_sigma():
    with pytest.raises(ConfigError, match="whole number"):
        make(sigma=spread(), samples=1)


def test_a_band_is_as_wide_as_the_reach_across_the_contour():
    points = square(10, 10, 50, 40).repeat(2, 0)
    points[1::2] = (points[1::2] + np.roll(points[1::2], -1, 0)) / 2  # the middles of the edges
    reach = np.zeros((8, 2))
    reach[:, 1] = 3
    quads = contour_band(points, reach)
    assert quads.shape == (8, 4, 2)
    # The middle of the upper edge moves up and down, that of the right edge only along the contour.
    upper = next(i for i, p in enumerate(points) if np.allclose(p, [30, 10]))
    corners = {tuple(np.round(corner, 6)) for corner in quads[upper]}
    assert {(30, 7), (30, 13)} <= corners
    beside = next(i for i, p in enumerate(points) if np.allclose(p, [50, 25]))
    assert (50, 25) in {tuple(np.round(corner, 6)) for corner in quads[beside]}
    x, y = quads[..., 0], quads[..., 1]
    assert ((x * np.roll(y, -1, 1) - np.roll(x, -1, 1) * y).sum(1) >= -1e-9).all()
