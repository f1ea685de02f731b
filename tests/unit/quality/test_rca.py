"""Quality without ground truth, on generated radiographs and with engines whose answers are known."""

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from anatozoo.errors import ConfigError, DataError, GeometryError, ImageError, UnknownCheckpoint
from anatozoo.frames.framed import Framed
from anatozoo.io.annotation import Annotation
from anatozoo.io.grid import Grid, GridImage
from anatozoo.quality import Atlas, build_atlas, engine_of, rca, register_to_atlas
from anatozoo.quality.atlas import embed, in_frame
from anatozoo.results.field import RegistrationResult
from anatozoo.results.quality import QualityResult
from anatozoo.tasks.engines import Learned
from tests.support.chest_data import write_chest_data

ORGANS = ("lungs", "heart")
SIDE = 64


class Shift:
    """An engine that finds the same shift for every pair."""

    name = "shift"
    version = "1"
    axes: int | None = None

    def __init__(self, x: float = 0.0) -> None:
        self.x = x
        self.pairs: list[tuple[str, str]] = []

    def register(self, moving: GridImage, fixed: GridImage) -> RegistrationResult:
        self.pairs.append((moving.name, fixed.name))
        shape = fixed.grid.shape
        field = np.zeros((*shape, len(shape)), np.float32)
        field[..., 0] = self.x
        return RegistrationResult(
            "shift",
            "1",
            moving.name,
            fixed.name,
            moving.grid,
            fixed.grid,
            field,
            np.eye(len(shape)),
            moving.pixels,
            fixed.pixels,
        )


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_chest_data(tmp_path_factory.mktemp("chest"), {"train": 6, "val": 2, "test": 1}, side=96)


@pytest.fixture(scope="module")
def atlas(root: Path) -> Atlas:
    return build_atlas(root, ORGANS, name="phantoms", layout="jsrt", image_size=SIDE)


def test_an_atlas_holds_the_images_of_a_split(root: Path, atlas: Atlas) -> None:
    assert [each.id for each in atlas.images] == [f"JPCLN{i:03d}" for i in range(1, 7)]
    assert len(atlas) == 6
    for each in atlas.images:
        assert each.image.pixels.shape == each.labels.shape == (SIDE, SIDE)
        assert set(np.unique(each.labels)) == {0, 1, 2}
        assert float(np.linalg.norm(each.embedding)) == pytest.approx(1)
    other = build_atlas(
        root, ORGANS, name="p", layout="jsrt", image_size=SIDE, split=None, exclude=["JPCLN002"]
    )
    assert len(other) == 8
    assert "JPCLN002" not in {each.id for each in other.images}


def test_every_atlas_image_is_most_like_itself(root: Path, atlas: Atlas) -> None:
    """Names, images and embeddings are in one order, as they are not in the published pipeline."""
    for each in atlas.images:
        nearest = atlas.nearest(each.image, 3)
        assert nearest[0].id == each.id
        assert len({found.id for found in nearest}) == 3
        file = cv2.imread(str(root / "images" / f"{each.id}.png"), cv2.IMREAD_UNCHANGED)
        seen = in_frame(GridImage(file.astype(np.float32), Grid(file.shape[::-1])), atlas.shape)
        np.testing.assert_allclose(seen.pixels, each.image.pixels, atol=0.003)


def test_brightness_does_not_make_images_alike(atlas: Atlas) -> None:
    """Bare products prefer the brightest image; embeddings have one length."""
    pixels = atlas.images[2].image.pixels
    np.testing.assert_allclose(embed(pixels * 0.5 + 0.2), embed(pixels), atol=1e-5)
    assert not embed(np.full((SIDE, SIDE), 0.4, np.float32)).any()


def test_the_image_itself_can_be_excluded(atlas: Atlas) -> None:
    first = atlas.images[0]
    assert first.id not in [each.id for each in atlas.nearest(first.image, 9, exclude=[first.id])]
    with pytest.raises(DataError, match="all images of the atlas phantoms are excluded"):
        atlas.nearest(first.image, 1, exclude=[each.id for each in atlas.images])
    with pytest.raises(ConfigError, match="at least one"):
        atlas.nearest(first.image, 0)


@pytest.mark.parametrize("suffix", ["", ".safetensors", ".json"])
def test_an_atlas_comes_back_from_its_files(atlas: Atlas, tmp_path: Path, suffix: str) -> None:
    paths = atlas.save(tmp_path / f"my.atlas{suffix}")
    assert [path.name for path in paths] == ["my.atlas.safetensors", "my.atlas.json"]
    read = Atlas.load(tmp_path / f"my.atlas{suffix}")
    assert (read.name, read.organs, read.shape) == (atlas.name, atlas.organs, atlas.shape)
    for one, other in zip(read.images, atlas.images, strict=True):
        assert one.id == other.id
        assert one.image.grid == other.image.grid
        np.testing.assert_array_equal(one.image.pixels, other.image.pixels)
        np.testing.assert_array_equal(one.labels, other.labels)
        np.testing.assert_array_equal(one.embedding, other.embedding)


def test_files_that_do_not_belong_together_are_refused(atlas: Atlas, tmp_path: Path) -> None:
    tensors, about = atlas.save(tmp_path / "a")
    content = json.loads(about.read_text())
    with pytest.raises(DataError, match="cannot be read: No such file"):
        Atlas.load(tmp_path / "b")
    about.write_text(json.dumps(content | {"embedding": "another"}))
    with pytest.raises(DataError, match="another release"):
        Atlas.load(about)
    about.write_text("{")
    with pytest.raises(DataError, match="not an atlas of anatozoo"):
        Atlas.load(about)
    about.write_text(json.dumps({"schema_version": 1}))
    with pytest.raises(DataError, match="not an atlas of anatozoo"):
        Atlas.load(about)
    about.write_text(json.dumps(content))
    tensors.write_bytes(tensors.read_bytes()[:-10])
    with pytest.raises(DataError, match=r"is not the file that a\.json describes"):
        Atlas.load(about)


def test_a_perfect_segmentation_of_an_atlas_image_is_found_perfect(atlas: Atlas) -> None:
    each = atlas.images[3]
    result = rca(each.image.pixels, each.labels, atlas, engine=Shift())
    assert result.chosen[0] == each.id
    assert len(result.chosen) == 5
    assert result.best() == result.best("dice", "heart") == 1.0
    assert result.best("hd_mm") == result.best("assd_mm") == 0.0
    assert result.mean() < 1.0
    assert result.mean("hd_mm", "lungs") > 0.0
    assert result.matches[0].values["dice"] == 1.0
    assert result.organs == ORGANS
    row = result.row()
    assert row["dice_rca_max"] == 1.0
    assert row["dice_rca_mean/heart"] == result.mean("dice", "heart")
    assert row["hd_mm_rca_min/lungs"] == 0.0
    with pytest.raises(ConfigError, match="nsd was not estimated"):
        result.best("nsd")


def test_the_image_goes_to_the_atlas_and_labels_stay_labels(atlas: Atlas) -> None:
    engine, each = Shift(2.5), atlas.images[0]
    result = rca(each.image.pixels, each.labels, atlas, engine=engine, count=2)
    assert [fixed for _, fixed in engine.pairs] == list(result.chosen)
    for match in result.matches:
        # Half-way between two labels there is no third one.
        assert set(np.unique(match.labels)) <= {0, 1, 2}
        np.testing.assert_array_equal(match.labels[:, : SIDE - 3], each.labels[:, 3:])
        np.testing.assert_allclose(
            match.warped[:, : SIDE - 3],
            (each.image.pixels[:, 2:-1] + each.image.pixels[:, 3:]) / 2,
            atol=0.01,  # grey levels are stretched anew
        )
    assert 0.5 < result.best() < 1


def test_an_organ_that_is_missing_scores_nothing_and_stays_in_the_mean(atlas: Atlas) -> None:
    each = atlas.images[1]
    without = np.where(each.labels == 2, 0, each.labels)
    result = rca(each.image.pixels, without, atlas, engine=Shift(), count=3)
    assert result.best("dice", "heart") == result.mean("dice", "heart") == 0.0
    assert result.best() == pytest.approx(0.5, abs=0.02)
    assert result.best("hd_mm", "heart") > 300  # the diagonal
    nothing = rca(each.image.pixels, np.zeros_like(without), atlas, engine=Shift(), count=3)
    assert nothing.best() == 0.0
    assert all(np.isfinite(value) for value in nothing.row().values())


def test_several_segmentations_are_judged_by_one_registration(atlas: Atlas) -> None:
    engine, each = Shift(1.0), atlas.images[1]
    registered = register_to_atlas(each.image.pixels, atlas, engine=engine, count=3)
    assert len(engine.pairs) == 3
    masks = [each.labels, np.zeros_like(each.labels), np.where(each.labels == 1, 1, 0)]
    for mask in masks:
        alone = rca(each.image.pixels, mask, atlas, engine=Shift(1.0), count=3)
        assert registered.judge(mask).row() == alone.row()
    assert len(engine.pairs) == 3


def test_what_only_the_atlas_knows_is_not_judged(atlas: Atlas) -> None:
    each = atlas.images[1]
    lungs = each.labels == 1
    left = lungs & (np.arange(SIDE) < SIDE // 2)
    parts = {"lung_right": left, "lung_left": lungs & ~left}
    for mask in (parts, Annotation((SIDE, SIDE), masks=parts)):
        result = rca(each.image.pixels, mask, atlas, engine=Shift(), count=1)
        assert result.organs == ("lungs",)
        assert result.best() == result.best("dice", "lungs") == 1.0
    by_name = rca(
        each.image.pixels, each.labels, atlas, engine=Shift(), count=1, classes=("heart", "stomach")
    )
    assert by_name.organs == ("heart",)
    assert by_name.best() < 0.3


def test_where_masks_overlap_the_later_organ_of_the_atlas_counts(atlas: Atlas) -> None:
    """As the atlas was drawn: its lungs are cut where the heart covers them."""
    each = atlas.images[2]
    heart = each.labels == 2
    whole = {"heart": heart, "lungs": (each.labels == 1) | heart}
    result = rca(each.image.pixels, whole, atlas, engine=Shift(), count=1)
    np.testing.assert_array_equal(result.labels, each.labels)
    assert result.best("dice", "lungs") == result.best("dice", "heart") == 1.0


def test_masks_that_do_not_fit_are_refused(atlas: Atlas) -> None:
    image, labels = atlas.images[0].image.pixels, atlas.images[0].labels
    engine = Shift()
    with pytest.raises(GeometryError, match="another grid"):
        rca(image, labels[:-4], atlas, engine=engine)
    with pytest.raises(GeometryError, match="mask of heart has the shape"):
        rca(image, {"heart": labels[:-4]}, atlas, engine=engine)
    with pytest.raises(DataError, match="none of them is the same"):
        rca(image, {"liver": labels}, atlas, engine=engine)
    with pytest.raises(DataError, match="holds the values 3, but the classes are 1 "):
        rca(image, labels + (labels > 1), atlas, engine=engine)
    with pytest.raises(ImageError, match="fractions"):
        rca(image, labels * 0.4, atlas, engine=engine)
    with pytest.raises(ImageError):
        rca(np.full((SIDE, SIDE), np.nan), labels, atlas, engine=engine)
    with pytest.raises(UnknownCheckpoint):
        rca(image, labels, atlas, engine="acregnet-nowhere")
    with pytest.raises(ConfigError, match="registers no images"):
        engine_of("hybridgnet-jsrt")


def test_an_engine_that_fails_says_on_what(atlas: Atlas) -> None:
    class Broken(Shift):
        def register(self, moving: GridImage, fixed: GridImage) -> RegistrationResult:
            raise RuntimeError("all samples map outside")

    each = atlas.images[0]
    with pytest.raises(DataError, match="could not be registered to JPCLN001: all samples"):
        rca(each.image.pixels, each.labels, atlas, engine=Broken())


def test_a_network_registers_to_all_atlas_images_at_once(
    atlas: Atlas, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows are those of one after another, and an atlas image is brought to the network's frame only once."""
    network, each = engine_of("acregnet-jsrt"), atlas.images[2]
    assert isinstance(network, Learned)
    batches: list[int] = []

    class OneByOne:
        name, version, axes = network.name, network.version, 2
        register = staticmethod(network.register)

    def run(moving: torch.Tensor, fixed: torch.Tensor, forward: Any = network.model.forward) -> Any:
        batches.append(len(moving))
        return forward(moving, fixed)

    monkeypatch.setattr(network.model, "forward", run)
    alone = rca(each.image.pixels, each.labels, atlas, engine=OneByOne(), count=4)
    assert batches == [1] * 4
    framed = []
    make = Framed.of.__func__  # type: ignore[attr-defined]
    monkeypatch.setattr(Framed, "of", classmethod(lambda cls, *a: framed.append(a[0].name) or make(cls, *a)))
    for _ in range(2):
        together = rca(each.image.pixels, each.labels, atlas, engine=network, count=4)
        for name, value in alone.row().items():
            assert together.row()[name] == pytest.approx(value, abs=2e-3)
    assert batches == [1] * 4 + [4] * 2
    assert framed == ["array"] * 2


def test_of_a_batch_that_fails_the_image_is_named(atlas: Atlas) -> None:
    dark = atlas.images[0].image
    upside_down = replace(atlas.images[4].image, pixels=1 - atlas.images[4].image.pixels)
    images = (atlas.images[0], replace(atlas.images[4], image=upside_down))
    with pytest.raises(
        ImageError, match=f"could not be registered to {upside_down.name}: .*opposite polarity"
    ):
        rca(dark.pixels, images[0].labels, replace(atlas, images=images), count=2)


@pytest.mark.parametrize("name", ["bspline", "demons", "elastix"])
def test_classical_engines_register_with_and_without_spacing(
    atlas: Atlas, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if name == "elastix":
        pytest.importorskip("itk", reason="the extra 'elastix' is not installed")
    monkeypatch.chdir(tmp_path)
    moving, fixed = atlas.images[0].image, atlas.images[1].image
    with_spacing = engine_of(name).register(moving, fixed)
    bare = engine_of(name).register(*(replace(each, grid=each.grid.in_pixels()) for each in (moving, fixed)))
    assert with_spacing.displacement_mm is not None
    assert bare.displacement_mm is None
    for result in (with_spacing, bare):
        labels = result.warp(atlas.images[0].labels, "labels")
        before, after = (
            float((each == atlas.images[1].labels).mean()) for each in (atlas.images[0].labels, labels)
        )
        assert after > before
    assert not list(tmp_path.iterdir())  # nothing is left where the user works


def test_an_engine_that_is_not_installed_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "itk", None)
    with pytest.raises(ConfigError, match="pip install itk-elastix"):
        engine_of("elastix")


def test_a_result_is_drawn_and_saved(atlas: Atlas, tmp_path: Path) -> None:
    each = atlas.images[2]
    result = rca(each.image.pixels, each.labels, atlas, engine=Shift(), count=2)
    paths = result.save(tmp_path / "out", stem="case")
    assert [path.name for path in paths] == ["case_quality.json", "case_quality.png"]
    content = json.loads(paths[0].read_text())
    assert content["estimates"]["dice_rca_max"] == 1.0
    assert [each["id"] for each in content["atlas_images"]] == list(result.chosen)
    picture = cv2.imread(str(paths[1]))
    assert picture.shape[1] > 600
    assert [path.name for path in result.save(tmp_path, ["json"])] == ["array_quality.json"]
    for wrong in ({"formats": ["tiff"]}, {"stem": "a/b"}):
        with pytest.raises(ConfigError):
            result.save(tmp_path, **wrong)  # type: ignore[arg-type]


def test_volumes_are_judged_too(tmp_path: Path) -> None:
    from tests.support.volume_data import write_volumes

    names = ["a", "b", "c"]
    write_volumes(tmp_path, names, splits={"train": names})
    atlas = build_atlas(tmp_path, ("front", "back"), name="v", image_size=[24, 24, 24])
    each = atlas.images[1]
    result: QualityResult = rca(each.image.pixels, each.labels, atlas, engine=Shift(), count=2)
    assert result.chosen[0] == each.id
    assert result.best() == 1.0
    assert result.plot().axes


def test_cases_that_lack_an_organ_are_left_out_and_named(tmp_path: Path) -> None:
    import SimpleITK as sitk

    from tests.support.volume_data import write_volumes

    names = ["a", "b"]
    write_volumes(tmp_path, names, splits={"train": names})
    path = next((tmp_path / "labelsTr").glob("b*"))
    labels = sitk.ReadImage(str(path))
    sitk.WriteImage(sitk.Cast(labels == 1, sitk.sitkUInt8), str(path))
    atlas = build_atlas(tmp_path, ("front", "back"), name="v", image_size=[16, 16, 16])
    assert [each.id for each in atlas.images] == ["a"]
    assert atlas.left_out == (("b", "no back"),)
    with pytest.raises(DataError, match="has no case nobody, which is to be excluded"):
        build_atlas(tmp_path, ("front", "back"), name="v", image_size=[16, 16, 16], exclude=["nobody"])
    with pytest.raises(DataError, match="split test"):
        build_atlas(tmp_path, ("front", "back"), name="v", image_size=[16, 16, 16], split="test")
