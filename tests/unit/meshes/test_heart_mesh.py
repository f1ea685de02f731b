"""Hearts of stacks become closed surfaces that give the stacks back, the same for every orientation."""

from dataclasses import replace

import numpy as np
import pytest
import SimpleITK as sitk
from scipy import ndimage

from anatozoo.errors import ConfigError, DataError, GeometryError
from anatozoo.io.grid import Grid, grid_of_itk
from anatozoo.meshes.heart import SHEETS, HeartMesh, heart_mesh
from anatozoo.meshes.sheets import SheetSize, lid, pyramid, wall
from anatozoo.meshes.surface import Surfaces, inside, open_edges
from tests.support.heart_data import drawn_masks

SIZE = SheetSize(24, 64)
Masks = dict[str, np.ndarray]


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return float(2 * (a & b).sum() / (a.sum() + b.sum()))


def built(masks: Masks, grid: Grid) -> HeartMesh:
    return heart_mesh(masks, grid, SIZE)


def test_the_surfaces_are_closed_and_give_masks_and_volumes_back() -> None:
    masks, grid = drawn_masks()
    heart = built(masks, grid)
    volumes = heart.surfaces.volume_ml()
    assert heart.flags == ()
    assert volumes is not None
    assert grid.spacing_mm is not None
    for organ, found in heart.surfaces.to_masks().items():
        assert open_edges(heart.surfaces.faces[organ]) == 0
        assert dice(found, masks[organ]) > {"myocardium": 0.96}.get(organ, 0.98)
        exact = masks[organ].sum() * np.prod(grid.spacing_mm) / 1000
        assert volumes[organ] == pytest.approx(exact, rel=0.06)


def test_a_stack_that_begins_at_the_apex_gives_the_same_heart() -> None:
    masks, grid = drawn_masks()
    heart = built(masks, grid)
    turned = built({organ: mask[::-1] for organ, mask in masks.items()}, grid)
    assert turned.flags == ("slice_order_uncertain",)  # for the directions say otherwise
    expected = heart.surfaces.vertices * (1, 1, -1) + (0, 0, grid.shape[0] - 1)
    np.testing.assert_allclose(turned.surfaces.vertices, expected, atol=1e-9)
    assert turned.surfaces.volume_ml() == pytest.approx(heart.surfaces.volume_ml())


def test_aligned_hearts_do_not_know_how_they_lay_in_the_picture() -> None:
    masks, grid = drawn_masks()
    heart = built(masks, grid)
    turned = built({organ: np.rot90(mask, axes=(1, 2)) for organ, mask in masks.items()}, grid)
    np.testing.assert_allclose(turned.aligned(), heart.aligned(), atol=0.5)
    assert np.abs(turned.surfaces.vertices - heart.surfaces.vertices).max() > 5
    right = heart.aligned()[2 * SIZE.vertices :]
    assert right[:, 0].mean() > 20  # x leads to the right ventricle
    assert heart.aligned()[SIZE.vertices - 1, 2] > heart.aligned()[0, 2]


@pytest.mark.parametrize("flips", [(-1, 1, 1), (1, -1, 1), (1, 1, -1), (-1, -1, -1)])
def test_vertices_correspond_however_the_stack_was_stored(flips: tuple[int, int, int]) -> None:
    masks, grid = drawn_masks()
    heart = built(masks, grid)
    order = tuple(slice(None, None, step) for step in flips)
    image = sitk.GetImageFromArray(np.zeros(grid.shape, np.uint8))
    for name in ("Spacing", "Origin", "Direction"):
        getattr(image, f"Set{name}")(getattr(grid, name.lower().replace("spacing", "spacing_mm")))
    again = built({organ: mask[order] for organ, mask in masks.items()}, grid_of_itk(image[order[::-1]]))
    np.testing.assert_allclose(again.surfaces.physical, heart.surfaces.physical, atol=2.0)
    np.testing.assert_allclose(again.aligned(), heart.aligned(), atol=2.0)
    assert again.surfaces.volume_ml() == pytest.approx(heart.surfaces.volume_ml(), rel=0.01)


@pytest.mark.parametrize("flips", [(1, 1), (-1, 1), (1, -1)])
def test_aligned_hearts_lie_alike_where_no_direction_tells(flips: tuple[int, int]) -> None:
    masks, grid = drawn_masks()
    plain = Grid(grid.size, grid.spacing_mm)
    places = built(
        {organ: mask[:: flips[0], :, :: flips[1]] for organ, mask in masks.items()}, plain
    ).aligned()
    expected = built({organ: mask[:, :, :: flips[1]] for organ, mask in masks.items()}, plain).aligned()
    np.testing.assert_allclose(places, expected, atol=1e-9)  # whichever end comes first
    ring = places[: SIZE.angles, :2]
    assert np.sum(ring[:, 0] * np.roll(ring[:, 1], -1) - np.roll(ring[:, 0], -1) * ring[:, 1]) > 0


def test_an_aneurysm_of_the_apex_is_not_taken_for_the_base() -> None:
    masks, grid = drawn_masks()
    last = np.flatnonzero(masks["left_ventricle"].any(axis=(1, 2)))[-4:]
    wide = {organ: mask.copy() for organ, mask in masks.items()}
    for z in last:
        grown = ndimage.binary_dilation(masks["left_ventricle"][z], iterations=7)
        wide["left_ventricle"][z] = grown
        wide["myocardium"][z] = ndimage.binary_dilation(grown, iterations=3) & ~grown
        wide["right_ventricle"][z] = False
    for told in (grid, Grid(grid.size, grid.spacing_mm)):
        found = built(wide, told)
        assert found.flags == ("slice_order_uncertain",)
        assert found.surfaces.vertices[SIZE.vertices - 1, 2] > found.surfaces.vertices[0, 2]


def test_slices_along_another_axis_are_refused() -> None:
    masks, grid = drawn_masks()
    assert grid.spacing_mm is not None
    order = Grid((grid.size[2], *grid.size[:2]), (grid.spacing_mm[2], *grid.spacing_mm[:2]))
    with pytest.raises(DataError, match="last axis of the file"):
        built({organ: mask.transpose(1, 2, 0) for organ, mask in masks.items()}, order)


def test_sizes_that_no_heart_has_are_flags() -> None:
    masks, grid = drawn_masks()
    heart = built(masks, grid)
    assert heart.size_flags() == ()
    for spacing, flags in (
        (tuple(step / 10 for step in grid.spacing_mm or ()), ("spacing_implausible",)),
        (tuple(step * 10 for step in grid.spacing_mm or ()), ("spacing_implausible",)),
        ((1.0, 1.0, 1.0), ("spacing_of_one",)),
    ):
        surfaces = replace(heart.surfaces, grid=grid.with_spacing(spacing))
        assert replace(heart, surfaces=surfaces).size_flags() == flags
    assert heart.in_pixels().size_flags() == ()


def test_a_heart_at_the_border_is_flagged() -> None:
    masks, grid = drawn_masks()
    first = int(np.flatnonzero(np.any([mask.any(axis=(0, 1)) for mask in masks.values()], axis=0))[0])
    cut = {organ: mask[:, :, first:] for organ, mask in masks.items()}
    found = built(cut, Grid((grid.size[0] - first, *grid.size[1:]), grid.spacing_mm))
    assert found.flags == ("heart_at_border",)


@pytest.mark.parametrize(
    ("organ", "slices", "words"),
    [
        ("right_ventricle", slice(0), "right_ventricle is seen in 0 of"),
        ("left_ventricle", slice(1), "left_ventricle is seen in 1 of"),
        ("myocardium", slice(0), "shows no myocardium"),
    ],
)
def test_what_is_missing_is_named(organ: str, slices: slice, words: str) -> None:
    masks, grid = drawn_masks()
    kept = np.zeros_like(masks[organ])
    kept[slices] = masks[organ][slices]
    with pytest.raises(DataError, match=words):
        built(masks | {organ: kept}, grid)


def test_masks_that_do_not_fit_are_refused() -> None:
    masks, grid = drawn_masks()
    with pytest.raises(DataError, match="right_ventricle is missing"):
        built({organ: masks[organ] for organ in ("left_ventricle", "myocardium")}, grid)
    with pytest.raises(DataError, match="needs a stack"):
        heart_mesh({organ: mask[4] for organ, mask in masks.items()}, Grid(grid.size[:2]))
    with pytest.raises(DataError, match="the mask of myocardium has the shape"):
        built(masks | {"myocardium": masks["myocardium"][1:]}, grid)


def test_a_contour_that_a_ray_meets_twice_is_flagged() -> None:
    masks, grid = drawn_masks()
    cavity = masks["left_ventricle"].copy()
    rows = np.flatnonzero(cavity[3].any(axis=1))
    columns = np.flatnonzero(cavity[3].any(axis=0))
    # A notch from one side beyond the middle makes a horseshoe of it.
    middle = int(rows.mean())
    cavity[3, middle - 2 : middle + 3, int(columns.mean()) - 3 :] = False
    assert "folded_left_ventricle" in built(masks | {"left_ventricle": cavity}, grid).flags


def test_ventricles_that_share_no_slice_have_no_septum() -> None:
    masks, grid = drawn_masks()
    left, right = masks["left_ventricle"].copy(), masks["right_ventricle"].copy()
    left[:3], right[3:] = False, False
    with pytest.raises(DataError, match="share no slice"):
        built(masks | {"left_ventricle": left, "right_ventricle": right}, grid)


def test_doubts_are_flags() -> None:
    masks, grid = drawn_masks()
    cut = masks["myocardium"].copy()
    cut[3, :, masks["left_ventricle"][3].any(axis=0).argmax() :][:, :30] = False
    assert "open_wall" in built(masks | {"myocardium": cut}, grid).flags
    gap = masks["right_ventricle"].copy()
    gap[2] = False
    assert built(masks | {"right_ventricle": gap}, grid).flags == ("gap_right_ventricle",)
    speck = masks["right_ventricle"].copy()
    speck[2, 2:4, 2:4] = True
    assert built(masks | {"right_ventricle": speck}, grid).flags == ("several_parts_right_ventricle",)


def test_a_coarser_sheet_has_the_same_form_and_keeps_what_is_linear() -> None:
    size = SheetSize(16, 32)
    steps = pyramid(size, len(SHEETS), 3)
    assert [(s.size.rings, s.size.angles) for s in steps] == [(16, 16), (8, 16), (8, 8)]
    levels = np.r_[np.repeat(np.arange(16.0), 32), 16.0]
    fine = np.tile(levels, 3)
    for step in steps:
        coarse = step.down @ fine
        np.testing.assert_allclose(step.up @ coarse, fine, atol=1e-12)
        np.testing.assert_allclose(step.up.sum(axis=1), 1, atol=1e-12)
        assert open_edges(np.vstack([wall(step.size), lid(step.size)])) == 0
        fine = coarse
    with pytest.raises(ConfigError, match="cannot be halved"):
        pyramid(SheetSize(3, 6), 1, 1)
    with pytest.raises(ConfigError, match="even number"):
        SheetSize(4, 7)


def test_surfaces_that_share_a_wall_share_no_pixel() -> None:
    corners = np.array([[x, y, z] for z in (0, 2) for y in (0, 3) for x in (0, 4)], float)
    faces = np.array(
        [
            *[(0, 2, 1), (1, 2, 3), (4, 5, 6), (5, 7, 6), (0, 1, 4), (1, 5, 4)],
            *[(2, 6, 3), (3, 6, 7), (0, 4, 2), (2, 4, 6), (1, 3, 5), (3, 7, 5)],
        ]
    )
    assert open_edges(faces) == 0
    assert open_edges(faces[:-1]) == 3
    first = inside(corners, faces, (6, 8, 12))
    assert first.sum() == 2 * 3 * 4
    for move in ((4, 0, 0), (0, 3, 0), (0, 0, 2)):
        assert not (first & inside(corners + move, faces, (6, 8, 12))).any()


def test_bad_surfaces_are_refused_and_without_a_spacing_there_is_no_volume() -> None:
    grid = Grid((4, 4, 4))
    faces, parts = {"heart": np.array([[0, 1, 2]])}, np.zeros(3, int)
    assert Surfaces(np.zeros((3, 3)), faces, parts, grid).volume_ml() is None
    with pytest.raises(GeometryError, match="finite"):
        Surfaces(np.full((3, 3), np.nan), faces, parts, grid)
    with pytest.raises(GeometryError, match="a triangle of heart names a vertex beyond 2"):
        Surfaces(np.zeros((2, 3)), faces, parts, grid)


def test_a_mirrored_grid_turns_no_volume_round() -> None:
    masks, grid = drawn_masks()
    image = sitk.GetImageFromArray(masks["left_ventricle"].astype(np.uint8))
    image.SetSpacing(grid.spacing_mm)
    image.SetDirection((-1, 0, 0, 0, 1, 0, 0, 0, 1))
    mirrored = heart_mesh(masks, grid_of_itk(image), SIZE).surfaces.volume_ml()
    assert mirrored == pytest.approx(built(masks, grid).surfaces.volume_ml())
