"""DICOM objects of results: valid, equal to the masks, about the right instances, the same each time."""

import shutil
import subprocess
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from matplotlib.path import Path as Polygon
from pydicom.data import get_testdata_file
from pydicom.uid import ComputedRadiographyImageStorage

from anatozoo.errors import ConfigError, GeometryError
from anatozoo.metrics.measurements import Measurement
from anatozoo.results.base import Result
from anatozoo.results.shares import FrameProbabilities, SampledContours
from anatozoo.results.volume import VolumeResult
from tests.support.dicom_data import STUDY, write_scan
from tests.support.dicom_results import (
    HEART,
    WITH_UIDS,
    heart_labels,
    on_frames,
    on_radiograph,
    on_series,
)

hd = pytest.importorskip("highdicom")
PLANE, VOLUME = ("dicomseg", "sr", "gsps"), ("dicomseg", "rtstruct", "sr", "gsps")
SOURCES = ("cr", "dx", "mr", "enhanced", "real")


def result_of(kind: str, folder: Path) -> Result:
    """A result on one kind of source."""
    if kind == "mr":
        return on_series(folder / "series")
    if kind == "enhanced":
        return on_frames(folder / "frames.dcm")
    if kind == "dx":
        spacing = {"PixelSpacing": [0.5, 0.4], "PhotometricInterpretation": "MONOCHROME1"}
        window = {"WindowCenter": [100, 7], "WindowWidth": [200, 0], "BurnedInAnnotation": "YES"}
        return on_radiograph(write_scan(folder / "dx.dcm", **STUDY, **spacing, **window))
    if kind == "cr":
        cr = {"SOPClassUID": ComputedRadiographyImageStorage, "Modality": "CR"}
        return on_radiograph(write_scan(folder / "cr.dcm", **WITH_UIDS, **cr))
    path = get_testdata_file("RG1_UNCR.dcm", download=False)
    if path is None:
        pytest.skip("the radiograph of the package pydicom-data is not installed")
    return on_radiograph(Path(path))


def save(result: Result, folder: Path) -> dict[str, Path]:
    formats = [name for name in VOLUME if name in result.formats.writers]
    return dict(zip(formats, result.save(folder, formats), strict=True))


@pytest.mark.parametrize("kind", SOURCES)
def test_objects_obey_the_standard(kind: str, tmp_path: Path):
    if shutil.which("dciodvfy") is None:
        pytest.skip("dciodvfy of Debian's dicom3tools is not installed")
    result = result_of(kind, tmp_path)
    results = [result]
    if kind in ("dx", "mr"):
        results.append(replace(result, dicom=replace(result.dicom, keep_patient=False)))
    for number, each in enumerate(results):
        for path in save(each, tmp_path / str(number)).values():
            said = subprocess.run(["dciodvfy", "-new", path], capture_output=True, text=True, check=False)
            assert not [line for line in said.stderr.splitlines() if line.startswith("Error")], path.name


@pytest.mark.parametrize("kind", SOURCES)
def test_segmentations_read_back_as_the_masks(kind: str, tmp_path: Path):
    result = result_of(kind, tmp_path)
    path = result.save(tmp_path / "out", ["dicomseg"])[0]
    seg = hd.seg.segread(path)
    wanted = np.stack([np.atleast_3d(m) if m.ndim == 3 else m[None] for m in result.masks.values()], -1)
    frames = result.dicom.frames
    if len(result.dicom.instances) == 1 and len(frames) > 1:
        found = seg.get_pixels_by_source_frame(
            frames[0].instance, [f.number for f in frames], assert_missing_frames_are_empty=True
        )
    else:
        found = seg.get_pixels_by_source_instance(
            [f.instance for f in frames], assert_missing_frames_are_empty=True
        )
    assert np.array_equal(found, wanted)
    assert [s.SegmentLabel for s in seg.SegmentSequence] == list(result.organs)
    # ITK knows no segments: frame by frame.
    planes = sitk.GetArrayFromImage(sitk.ReadImage(str(path))).reshape(-1, *wanted.shape[1:3])
    if rest := planes.size % 8:
        # ITK leaves the bits of the last, incomplete byte undefined; they are the lower right corner.
        assert not wanted[:, -1, -rest:].any()
        planes[-1, -1, -rest:] = 0
    groups = seg.PerFrameFunctionalGroupsSequence
    for plane, group in zip(planes, groups, strict=True):
        image = group.DerivationImageSequence[0].SourceImageSequence[0]
        place = (image.ReferencedSOPInstanceUID, image.get("ReferencedFrameNumber", 1))
        [at] = [i for i, f in enumerate(frames) if (f.instance, f.number) == place]
        segment = group.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        assert np.array_equal(plane > 0, wanted[at, ..., segment - 1])


@pytest.mark.parametrize("kind", ["mr", "enhanced"])
def test_segmented_frames_lie_where_their_slices_do(kind: str, tmp_path: Path):
    result = result_of(kind, tmp_path)
    seg = pydicom.dcmread(result.save(tmp_path / "out", ["dicomseg"])[0])
    heights = {
        group.PlanePositionSequence[0].ImagePositionPatient[2]
        for group in seg.PerFrameFunctionalGroupsSequence
    }
    assert heights == {10.0, 20.0, 30.0, 40.0, 50.0}
    shared = seg.SharedFunctionalGroupsSequence[0]
    assert shared.PixelMeasuresSequence[0].PixelSpacing == [2.0, 1.5]
    assert seg.FrameOfReferenceUID == STUDY["FrameOfReferenceUID"]


@pytest.mark.parametrize("kind", ["mr", "enhanced"])
def test_contours_of_structure_sets_hold_the_voxels(kind: str, tmp_path: Path):
    result = result_of(kind, tmp_path)
    found = pydicom.dcmread(result.save(tmp_path / "out", ["rtstruct"])[0])
    y, x = np.mgrid[:40, :50]
    centres = np.stack([x.ravel(), y.ravel()], 1)
    places = {(f.instance, f.number): z for z, f in enumerate(result.dicom.frames)}
    assert [region.ROIName for region in found.StructureSetROISequence] == list(HEART)
    for value, region in enumerate(found.ROIContourSequence, start=1):
        drawn = np.zeros((6, 40, 50), bool)
        for contour in region.ContourSequence:
            points = np.array(contour.ContourData, float).reshape(-1, 3)
            assert len(points) == contour.NumberOfContourPoints
            image = contour.ContourImageSequence[0]
            z = places[image.ReferencedSOPInstanceUID, image.get("ReferencedFrameNumber", 1)]
            assert np.allclose(points[:, 2], 10.0 * z)
            pixels = (points[:, :2] - (-10.0, 5.0)) / (1.5, 2.0)
            drawn[z] ^= Polygon(pixels, closed=False).contains_points(centres).reshape(40, 50)
        assert np.array_equal(drawn, heart_labels() == value)


def test_reports_hold_measurements_with_codes_and_units(tmp_path: Path):
    result = result_of("dx", tmp_path)
    more = Measurement("estimated_dice", "heart", 0.91, "1")
    result = replace(result, measured=(more,))
    report = hd.sr.srread(result.save(tmp_path, ["sr"])[0])
    groups = report.content.get_image_measurement_groups()
    named = {
        g.tracking_identifier: {m.name.meaning: (m.value, m.unit.value) for m in g.get_measurements()}
        for g in groups
    }
    assert set(named) == {"image", *result.organs}
    assert named["heart"]["Area"] == (pytest.approx(result.areas_mm2["heart"], abs=1e-3), "mm2")
    assert named["heart"]["Dice estimated without a reference"] == (0.91, "{ratio}")
    ratio, unit = named["image"]["Cardiothoracic ratio"]
    assert (ratio, unit) == (pytest.approx(result.cardiothoracic_ratio, abs=1e-4), "{ratio}")
    heart, _ = named["heart"]["Largest width of the heart"]
    thorax, _ = named["image"]["Largest width of the thorax within the lungs"]
    assert heart / thorax == pytest.approx(ratio, abs=1e-3)
    site = groups[1].finding_sites[0]
    assert (site.value.value, site.laterality.value) == ("39607008", "24028007")
    assert [q.value.meaning for q in groups[0].get_qualitative_evaluations()] == list(result.flags)
    assert "burned_in_annotation" in result.flags
    assert groups[1].source_images[0].referenced_sop_instance_uid == result.dicom.instances[0]


def test_reports_of_volumes_are_in_millilitres_and_take_the_function_of_the_heart(tmp_path: Path):
    from anatozoo.metrics.cardiac import cardiac_function

    result = on_series(tmp_path / "in")
    labels = np.where(heart_labels() == 3, 0, heart_labels()).astype(np.uint8)
    labels[1, 0, 0] = 3
    small = replace(result, label_map=labels)
    function = tuple(cardiac_function(result, small).measurements)
    report = hd.sr.srread(replace(result, measured=function).save(tmp_path, ["sr"])[0])
    groups = {g.tracking_identifier: g for g in report.content.get_image_measurement_groups()}
    found = {m.name.value: (m.value, m.unit.value) for m in groups["left_ventricle"].get_measurements()}
    assert found["118565006"] == (pytest.approx(result.volumes_ml["left_ventricle"], abs=1e-3), "mL")
    assert found["8811-2"] == (pytest.approx(100 * 12 / 13, abs=0.01), "%")
    assert len(report.get_evidence()) == 6


def test_presentation_states_draw_contours_and_widths(tmp_path: Path):
    result = result_of("dx", tmp_path)
    state = pydicom.dcmread(result.save(tmp_path, ["gsps"])[0])
    layers = {a.GraphicLayer: a for a in state.GraphicAnnotationSequence}
    assert set(layers) == {"LUNG_RIGHT", "LUNG_LEFT", "HEART", "CLAVICLE_RIGHT", "CLAVICLE_LEFT", "CTR"}
    [line] = layers["HEART"].GraphicObjectSequence
    points = np.array(line.GraphicData).reshape(-1, 2)
    wanted = result.landmarks["heart"] + 0.5
    assert np.allclose(points[:-1], wanted, atol=1e-3)
    assert np.array_equal(points[0], points[-1])
    heart, thorax = (np.array(o.GraphicData).reshape(2, 2) for o in layers["CTR"].GraphicObjectSequence)
    assert np.ptp(heart[:, 1]) == np.ptp(thorax[:, 1]) == 0
    assert np.ptp(heart[:, 0]) / np.ptp(thorax[:, 0]) == pytest.approx(result.cardiothoracic_ratio, rel=1e-4)
    assert (
        layers["CTR"].TextObjectSequence[0].UnformattedTextValue == f"CTR {result.cardiothoracic_ratio:.3f}"
    )
    assert state.PresentationLUTShape == "INVERSE"
    assert state.SoftcopyVOILUTSequence[0].WindowWidth == 200
    assert state.DisplayedAreaSelectionSequence[0].PresentationPixelSpacing == [0.5, 0.4]


def test_presentation_states_of_volumes_name_slices(tmp_path: Path):
    result = on_frames(tmp_path / "frames.dcm")
    state = pydicom.dcmread(result.save(tmp_path / "out", ["gsps"])[0])
    frames = [
        a.ReferencedImageSequence[0].ReferencedFrameNumber
        for a in state.GraphicAnnotationSequence
        if a.GraphicLayer == "LEFT_VENTRICLE"
    ]
    assert frames == [5, 1]


def test_points_outside_the_image_are_drawn_on_its_border_and_long_lines_in_pieces(tmp_path: Path):
    result = result_of("cr", tmp_path)
    t = np.linspace(0, 2 * np.pi, 20001)[:-1]
    circle = np.stack([30 + 100 * np.cos(t), 30 + 20 * np.sin(t)], 1)
    state = pydicom.dcmread(replace(result, landmarks={"heart": circle}).save(tmp_path, ["gsps"])[0])
    pieces = [
        np.array(o.GraphicData).reshape(-1, 2)
        for o in state.GraphicAnnotationSequence[0].GraphicObjectSequence
    ]
    assert sum(len(p) - 1 for p in pieces) == 20000
    assert min(p.min() for p in pieces) == 0
    assert max(p[:, 0].max() for p in pieces) == result.size[0]
    assert all(np.array_equal(a[-1], b[0]) for a, b in pairwise(pieces))


@pytest.mark.parametrize("kind", ["dx", "enhanced"])
def test_the_same_result_gives_the_same_bytes(kind: str, tmp_path: Path):
    result = result_of(kind, tmp_path)
    first, again = (save(result, tmp_path / name) for name in ("a", "b"))
    assert [p.read_bytes() for p in first.values()] == [p.read_bytes() for p in again.values()]
    headers = [pydicom.dcmread(p) for p in first.values()]
    assert (
        len({h.SOPInstanceUID for h in headers})
        == len({h.SeriesInstanceUID for h in headers})
        == len(headers)
    )
    assert all(h.StudyInstanceUID == STUDY["StudyInstanceUID"] for h in headers)
    assert {h.get("ContentDate", "20240131") for h in headers} == {"20240131"}
    assert all(h.Manufacturer == "anatozoo" and result.version in h.SoftwareVersions for h in headers)
    other = pydicom.dcmread(save(replace(result, version="9"), tmp_path / "c")["dicomseg"])
    assert other.SeriesInstanceUID != headers[0].SeriesInstanceUID
    flagged = pydicom.dcmread(save(replace(result, flags=("x",)), tmp_path / "d")["sr"])
    [before] = [h for h in headers if h.Modality == "SR"]
    assert flagged.SeriesInstanceUID == before.SeriesInstanceUID
    assert flagged.SOPInstanceUID != before.SOPInstanceUID


def test_the_patient_is_kept_or_left_out(tmp_path: Path):
    patient = {"SpecificCharacterSet": "ISO_IR 100", "PatientName": "Müller^Jörg", "PatientBirthDate": "1950"}
    result = on_series(
        tmp_path / "in", **patient, PatientID="ward 4711", PatientWeight="70", PatientSex="male"
    )
    blank = replace(result, dicom=replace(result.dicom, keep_patient=False))
    for path in save(result, tmp_path / "kept").values():
        header = pydicom.dcmread(path)
        assert (header.PatientName, header.PatientID, header.PatientWeight) == (
            "Müller^Jörg",
            "ward 4711",
            70,
        )
        assert header.AccessionNumber == "A 17"
        # What breaks the standard is left empty; what the standard asks for is there.
        assert header.PatientBirthDate == header.PatientSex == header.StudyID == ""
    for path in save(blank, tmp_path / "blank").values():
        header = pydicom.dcmread(path)
        assert header.PatientName == header.PatientID == header.AccessionNumber == header.StudyDate == ""
        assert header.PatientIdentityRemoved == "YES"
        assert header.StudyInstanceUID == STUDY["StudyInstanceUID"]
        assert b"ward 4711" not in path.read_bytes()
        assert b"20240131" not in path.read_bytes()


def test_probabilities_are_fractional_segmentations(tmp_path: Path):
    result = result_of("cr", tmp_path)
    one, other = (
        points.astype(np.float32) for points in (result.landmarks["heart"], result.landmarks["heart"] + 3)
    )
    heart = {"heart": result.landmarks["heart"]}
    shares = SampledContours({"heart": np.stack([one, one, one, other])}, result.size)
    sampled = replace(result, landmarks=heart, shares=shares)
    seg = hd.seg.segread(sampled.save(tmp_path, ["dicomprob"])[0])
    assert (seg.SegmentationType, seg.SegmentationFractionalType) == ("FRACTIONAL", "PROBABILITY")
    found = seg.get_pixels_by_source_instance(list(result.dicom.instances))[0, ..., 0]
    assert np.allclose(found, shares()["heart"], atol=0.5 / 255 + 1e-6)
    assert len(np.unique(found)) == 4
    with pytest.raises(ConfigError, match="no format dicomprob"):
        result.save(tmp_path, ["dicomprob"])


def test_probabilities_of_a_frame_are_kept_in_bytes_and_drawn_on_the_source():
    shares = FrameProbabilities.of(
        ["a", "b"], np.array([[[0.2, 1]], [[0, 0.5]]], np.float32), lambda plane: 2 * plane
    )
    found = np.stack(list(shares().values()))
    assert np.allclose(found[:, 0], [[0.4, 1], [0, 1]], atol=0.01)


def test_organs_that_nobody_knows_keep_their_names(tmp_path: Path):
    result = on_series(tmp_path / "in")
    named = replace(result, classes=("right_ventricle", "a part with a long name and ü", "lungs"))
    seg = pydicom.dcmread(named.save(tmp_path, ["dicomseg"])[0])
    kinds = [segment.SegmentedPropertyTypeCodeSequence[0] for segment in seg.SegmentSequence]
    assert kinds[1].LongCodeValue == kinds[1].CodeMeaning == "a part with a long name and ü"
    assert kinds[2].SegmentedPropertyTypeModifierCodeSequence[0].CodeValue == "51440002"


def test_nothing_found_is_an_object_too(tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    result = replace(on_series(tmp_path / "in"), label_map=np.zeros((6, 40, 50), np.uint8))
    paths = save(result, tmp_path / "out")
    assert not hd.seg.segread(paths["dicomseg"]).pixel_array.any()
    assert "ContourSequence" not in pydicom.dcmread(paths["rtstruct"]).ROIContourSequence[0]
    assert capfd.readouterr().err == ""


MISSING = {
    "StudyInstanceUID": "has no StudyInstanceUID",
    "SeriesInstanceUID": "has no SeriesInstanceUID",
    "FrameOfReferenceUID": "does not say where its slices lie",
}


@pytest.mark.parametrize("keyword", MISSING)
def test_what_nothing_can_refer_to_is_refused(keyword: str, tmp_path: Path):
    result = on_series(tmp_path / "in", **{keyword: None})
    with pytest.raises(GeometryError, match=MISSING[keyword]):
        result.save(tmp_path / "out", ["dicomseg"])
    assert not list(tmp_path.glob("out/*"))


def test_pictures_and_other_grids_are_refused(tmp_path: Path):
    result = on_series(tmp_path / "in")
    with pytest.raises(GeometryError, match="was not read from DICOM"):
        replace(result, dicom=None).save(tmp_path, ["dicomseg"])
    fine = replace(result.grid, size=(50, 40, 12))
    finer = VolumeResult("a", "1", "x", fine, HEART, np.repeat(heart_labels(), 2, 0), dicom=result.dicom)
    with pytest.raises(GeometryError, match=r"12 slices and .* has 6"):
        finer.save(tmp_path, ["rtstruct"])


def test_files_that_changed_or_are_gone_are_refused(tmp_path: Path):
    path = write_scan(tmp_path / "a.dcm", **WITH_UIDS)
    result = on_radiograph(path)
    write_scan(path, **WITH_UIDS)
    with pytest.raises(GeometryError, match=r"a\.dcm' was replaced by another file"):
        result.save(tmp_path / "out", ["sr"])
    path.unlink()
    with pytest.raises(Exception, match=r"a\.dcm") as caught:
        result.save(tmp_path / "out", ["sr"])
    assert type(caught.value).__module__ == "anatozoo.errors"


def test_classes_that_the_standard_does_not_know_are_refused_in_a_sentence(tmp_path: Path):
    result = on_radiograph(write_scan(tmp_path / "a.dcm", **WITH_UIDS, SOPClassUID="1.2.3.4"))
    with pytest.raises(GeometryError, match="no DICOM object can refer to"):
        result.save(tmp_path / "out", ["dicomseg"])
