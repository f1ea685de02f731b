import json
from dataclasses import FrozenInstanceError
from pathlib import Path

import numpy as np
import pytest

import anatozoo
from anatozoo.errors import ConfigError
from anatozoo.io.grid import Grid
from anatozoo.results.base import Formats, GridResult, Result, read_only
from anatozoo.results.contours import ContourResult
from anatozoo.results.field import RegistrationResult
from anatozoo.results.labels import LabelResult
from anatozoo.results.mask_contours import MaskContourResult
from anatozoo.results.mesh import MeshResult
from anatozoo.results.quality import AtlasMatch, QualityResult
from anatozoo.results.repair import RepairResult
from anatozoo.results.restored import RestoredVolume
from anatozoo.results.scores import ScoreResult
from anatozoo.results.segmentation import SegmentationResult
from anatozoo.results.shapes import ShapeSet
from anatozoo.results.surface import SurfaceResult
from anatozoo.results.translated import TranslatedImage
from anatozoo.results.volume import VolumeResult
from tests.support.heart_data import drawn_heart

GRID = Grid((8, 6, 4), (0.5, 0.7, 2.0))
SHAPE = (4, 6, 8)
LABELS = np.zeros(SHAPE, np.uint8)
LABELS[1:3, 2:4, 2:6] = 1
PIXELS = np.linspace(0, 1, 192, dtype=np.float32).reshape(SHAPE)
TETRAHEDRON = np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]])
FACES = np.array([[0, 2, 1], [0, 1, 3], [1, 2, 3], [0, 3, 2]])
NAMED = {"checkpoint": "toy", "version": "1.0.0"}


def every_result() -> list[Result]:
    """One result of each class."""
    flags = {"flags": ("two_words", "two_words")}
    flat = NAMED | flags | {"image": "scan.png", "size": (8, 6), "spacing_mm": (0.5, 0.7)}
    voxels = NAMED | flags | {"image": "scan.nii.gz", "grid": GRID}
    heart = drawn_heart()
    match = AtlasMatch("a", PIXELS[0], LABELS[0], LABELS[0], {"dice": 0.5})
    return [
        ContourResult(landmarks={"heart": [[1, 1], [6, 1], [6, 4]]}, **flat),
        MaskContourResult(
            landmarks={"heart": [[1, 1], [6, 1], [6, 4]]},
            guessed={"lungs": [[1, 1], [2, 1], [2, 2]]},
            given={"heart": LABELS[1] > 0},
            everything=("heart", "lungs"),
            **flat,
        ),
        LabelResult(label_map=LABELS[1], classes=("heart",), **flat),
        ShapeSet(
            size=(8, 6),
            organs={"heart": 3},
            points=np.array([[[1.0, 1], [6, 1], [6, 4]]]),
            captions=("one",),
            **NAMED,
            **flags,
        ),
        VolumeResult(classes=("heart",), label_map=LABELS, **voxels),
        ScoreResult(scores={"mass": 0.25}, pixels=PIXELS[0], **flat),
        TranslatedImage(
            image="scan.png",
            grid=Grid((8, 6), (0.5, 0.7)),
            domains=("a", "b"),
            translated=PIXELS[0],
            given=PIXELS[0],
            **NAMED,
            **flags,
        ),
        RestoredVolume(volume=PIXELS, given=PIXELS[::2].copy(), **voxels),
        MeshResult(image="scan.nii.gz", grid=heart.surfaces.grid, heart=heart, **NAMED, **flags),
        SurfaceResult(image="a.ply", vertices=TETRAHEDRON, faces=FACES, **NAMED, **flags),
        RepairResult(classes=("heart",), before=LABELS, after=LABELS, **voxels),
        RegistrationResult(
            moving="scan.mha",
            fixed="b.mha",
            moving_grid=GRID,
            fixed_grid=GRID,
            displacement_px=np.zeros((*SHAPE, 3), np.float32),
            alignment=np.eye(3),
            moving_pixels=PIXELS,
            fixed_pixels=PIXELS,
            **NAMED,
            **flags,
        ),
        QualityResult("scan.png", "toy", "atlas", ("heart",), (match,), PIXELS[0], LABELS[0], **flags),
    ]


@pytest.mark.parametrize("result", every_result(), ids=lambda result: type(result).__name__)
def test_every_class_keeps_the_promises_of_the_base(result: Result, tmp_path: Path) -> None:
    for package in {
        name for form in result.default_formats for name in result.formats.packages.get(form, ())
    }:
        pytest.importorskip(package)
    assert result.flags == ("two_words",)
    with pytest.raises(FrozenInstanceError):
        result.flags = ()  # type: ignore[misc]
    values = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert list(values)[: 1 + len(result.head)] == ["schema_version", *result.head]
    assert values["flags"] == ["two_words"]
    assert result._repr_png_().startswith(b"\x89PNG")

    paths = result.save(tmp_path, stem="s")
    assert [path.name for path in paths] == result.formats.names("s", result.default_formats)
    assert {path.name for path in tmp_path.iterdir()} == {path.name for path in paths}
    assert json.loads(next(path for path in paths if path.suffix == ".json").read_text()) == values
    assert result.save(tmp_path, "json")[0].name.startswith(result.stem)

    before = sorted(tmp_path.iterdir())
    for wrong, message in (
        ({"formats": ["tiff"]}, rf"{result.formats.what} have no format tiff; use .*json"),
        ({"formats": []}, "have no format that is empty"),
        ({"formats": "pdf"}, "have no format pdf"),
        ({"stem": "../s"}, "start of a file name"),
    ):
        with pytest.raises(ConfigError, match=message):
            result.save(tmp_path, **wrong)  # type: ignore[arg-type]
    assert sorted(tmp_path.iterdir()) == before


def test_every_class_is_tried_here() -> None:
    def below(kind: type) -> set[type]:
        return {kind}.union(*map(below, kind.__subclasses__()))

    ours = {kind for kind in below(Result) if kind.__module__.startswith("anatozoo.")}
    concrete = {kind for kind in ours if not kind.__abstractmethods__}
    assert concrete == {type(result) for result in every_result()}
    for abstract in (Result, GridResult, SegmentationResult):
        assert abstract.__abstractmethods__


def test_formats_have_one_order_and_no_repetition() -> None:
    formats = SegmentationResult.formats
    assert formats.check(["json", "png", "json"]) == ("png", "json")
    assert formats.check("json") == ("json",)
    assert formats.check(None) == formats.default == ("png", "json")
    assert formats.names("s", ["json", "png"]) == ["s.json", "s_mask.png", "s_overlay.png"]
    assert formats.endings["png"] == ("_mask.png", "_overlay.png")
    with pytest.raises(ConfigError, match=r"bmp; use png, json, nifti"):
        formats.check(["png", "bmp"])


def test_a_format_may_write_several_files_each_by_its_own_writer() -> None:
    written: list[str] = []

    def writer(name: str):
        return lambda result, path: written.append(f"{name} {path.name}") or path

    class Toy(LabelResult):
        formats = Formats("toys", {"both": {"_1.txt": writer("one"), "_2.txt": writer("two")}}, ("both",))

    toy = Toy("t", "1", "a/b.png", (8, 6), None, LABELS[1], ("heart",))
    assert [path.name for path in toy.save("nowhere")] == ["b_1.txt", "b_2.txt"]
    assert written == ["one b_1.txt", "two b_2.txt"]


def test_read_only_keeps_the_array() -> None:
    array = np.zeros(3)
    assert read_only(array) is array
    with pytest.raises(ValueError, match="read-only"):
        array[0] = 1


def test_both_kinds_of_segmentations_stand_at_the_top() -> None:
    assert issubclass(anatozoo.ContourResult, anatozoo.SegmentationResult)
    assert issubclass(anatozoo.LabelResult, anatozoo.SegmentationResult)
