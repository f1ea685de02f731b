import json
from dataclasses import replace

import numpy as np
import pytest
import SimpleITK as sitk
from PIL import Image as PILImage

from anatozoo.errors import DataError, GeometryError
from anatozoo.results.contours import ContourResult
from anatozoo.results.labels import LabelResult


def labelled(**changes):
    """A label map: a lung in two parts, one with a hole, a heart on it, and no left lung."""
    labels = np.zeros((30, 40), np.uint8)
    labels[3:21, 2:12] = 1
    labels[8:12, 5:9] = 0
    labels[25:28, 30:33] = 1
    labels[10:23, 9:25] = 3
    values = {
        "checkpoint": "fake",
        "version": "1.0.0",
        "image": "folder/a scan.dcm",
        "size": (40, 30),
        "spacing_mm": (0.5, 0.25),
        "label_map": labels,
        "classes": ["lung_right", "lung_left", "heart"],
        "flags": ("lateral_view",),
        "pixels": np.random.default_rng(0).random((30, 40), dtype=np.float32),
    }
    return LabelResult(**(values | changes))


def test_a_label_map_is_the_mask_and_its_labels_exclude_one_another():
    result = labelled()
    assert result.organs == ("lung_right", "lung_left", "heart")
    assert result.labels == {"lung_right": 1, "lung_left": 2, "heart": 3}
    assert result.mask is result.label_map
    assert not result.masks["lung_right"][15, 10]
    assert result.areas_px == {"lung_right": 18 * 10 - 16 + 9 - 11 * 3, "lung_left": 0, "heart": 13 * 16}
    assert result.areas_mm2["heart"] == pytest.approx(13 * 16 * 0.125)
    assert result.masks["heart"].dtype == bool


def test_a_label_map_has_no_landmarks_and_the_same_json_keys():
    result = labelled()
    assert result.landmarks == {}
    assert result.landmarks_mm is None
    values = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    corners = np.array([[2.0, 3.0], [11.0, 3.0], [11.0, 20.0]])
    drawn = ContourResult("fake", "1.0.0", "a.dcm", (40, 30), (0.5, 0.25), {"heart": corners})
    assert list(values) == list(drawn.to_dict())
    assert values["landmarks"] == {}
    assert values["landmarks_mm"] is None
    assert values["areas_px"]["lung_left"] == 0
    with pytest.raises(DataError, match="label map is in the _mask file"):
        ContourResult.from_dict(values)


def test_cardiothoracic_ratio_of_a_label_map():
    assert labelled().cardiothoracic_ratio is None  # there is no left lung
    labels = np.zeros((30, 40), np.uint8)
    labels[5, 2:33] = 1
    labels[6, 9:25] = 2
    both = labelled(label_map=labels, classes=["lungs", "heart"])
    assert both.cardiothoracic_ratio == pytest.approx(15 / 30)
    assert labelled(label_map=labels, classes=["lung_right", "heart"]).cardiothoracic_ratio is None


def test_a_label_map_is_saved_in_every_format(tmp_path):
    result = labelled()
    paths = {path.name: path for path in result.save(tmp_path, ("csv", "png", "json", "nifti", "mha"))}
    assert len(paths) == 6
    with PILImage.open(paths["a scan_mask.png"]) as picture:
        np.testing.assert_array_equal(np.array(picture), result.mask)
    volume = sitk.ReadImage(str(paths["a scan_mask.nii.gz"]))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(volume), result.mask)
    assert paths["a scan_landmarks.csv"].read_text() == "organ,index,x_px,y_px,x_mm,y_mm\n"
    assert json.loads(paths["a scan.json"].read_text()) == result.to_dict()


def test_a_label_map_cannot_be_changed_and_survives_replacement():
    result = labelled()
    with pytest.raises(ValueError, match="read-only"):
        result.mask[0] = 1
    with pytest.raises(ValueError, match="read-only"):
        result.masks["heart"][0] = True
    np.testing.assert_array_equal(replace(result, image="b.png").mask, result.mask)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"classes": []}, "at least one named organ"),
        ({"classes": ["", "b", "c"]}, "at least one named organ"),
        ({"label_map": None}, "does not fit"),
        ({"label_map": np.zeros((40, 30), np.uint8)}, "does not fit"),
        ({"label_map": np.zeros((30, 40), np.int64)}, "uint8"),
        ({"classes": ["lung_right", "heart"]}, "labels up to 3"),
        ({"classes": ["a", "b", "b"]}, "different classes"),
    ],
)
def test_impossible_label_maps_are_refused(changes, message):
    with pytest.raises(GeometryError, match=message):
        labelled(**changes)
