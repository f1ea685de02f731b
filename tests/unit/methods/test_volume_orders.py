"""The same volume stored in another order gives the same answer in the same place, whatever the task."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from torch import Tensor

from anatozoo.data.framed import FrameDataset
from anatozoo.frames.spec import FrameSpec
from anatozoo.io.grid import Grid, GridImage, itk_image
from anatozoo.io.orientation import Orientation
from anatozoo.methods.acnn.data import AcnnDataModule
from anatozoo.methods.acnn.module import AcnnModule
from anatozoo.methods.acnnprior.module import AcnnPriorModule
from anatozoo.methods.postdae.data import MaskDataset, PostDAEDataModule
from anatozoo.methods.postdae.module import PostDAEModule
from tests.support.cases import case_of
from tests.support.dicom_data import write_slice
from tests.support.heart_data import heart, write_hearts
from tests.support.orders import OBLIQUE, SHORT_AXIS, all_orders

IDENTITY = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
DIRECTIONS = pytest.mark.parametrize("direction", [IDENTITY, OBLIQUE, SHORT_AXIS])
SOME = all_orders()[::7]
SLICES: dict[str, Any] = {"widths": [4, 8], "frame": {"size": [8, 32, 32], "fit": "slices", "long_side": 44}}


def picky(**settings: Any) -> tuple[AcnnModule, list[np.ndarray]]:
    """A segmenter whose answer depends on where things lie in its frame, and what it has seen."""
    torch.manual_seed(0)
    made, seen = AcnnModule(**SLICES | settings).eval(), []

    def answer(image: Tensor) -> Tensor:
        seen.append(image[0, 0].numpy())
        depth, height, width = image.shape[2:]
        z, y, x = torch.meshgrid(*(torch.arange(float(n)) / n for n in (depth, height, width)), indexing="ij")
        edges = torch.tensor([-1.0, 0.2, 0.35, 0.5]).view(1, 4, 1, 1, 1)
        return 8 * (image * (0.4 + 0.5 * z + 0.2 * y + 0.1 * x) - edges).cumsum(1)

    made.network.forward = answer  # type: ignore[method-assign]
    return made, seen


def even(made: AcnnModule) -> AcnnModule:
    """The same, but for where things lie."""
    edges = torch.tensor([-1.0, 0.3, 0.6, 0.9]).view(1, 4, 1, 1, 1)
    made.network.forward = lambda image: 60 * (image - edges).sign().cumsum(1)  # type: ignore[method-assign]
    return made


def stack(depth: int = 6) -> np.ndarray:
    return heart(depth, 44, 36)[0]


@pytest.mark.parametrize(
    ("direction", "depth", "orders"),
    [(SHORT_AXIS, 7, all_orders()), (IDENTITY, 6, SOME), (IDENTITY, 11, SOME), (OBLIQUE, 7, SOME)],
)
def test_a_stack_of_slices(direction: tuple[float, ...], depth: int, orders: list[Orientation]) -> None:
    made, _ = picky()
    pixels, grid = stack(depth), Grid((36, 44, depth), (1.5, 1.4, 9.0), (1.0, 2.0, 3.0), direction)
    expected = made.predict(itk_image(pixels, grid))
    assert set(np.unique(expected.mask)) == {0, 1, 2, 3}
    for order in orders:
        result = made.predict(itk_image(order.apply(pixels), order.grid(grid)))
        np.testing.assert_array_equal(result.mask, order.apply(expected.mask))
        assert result.grid.differs_from(order.grid(grid)) is None
        assert result.flags == expected.flags
    # It does matter to this network how a volume lies.
    known = Grid(grid.size, grid.spacing_mm, grid.origin, SHORT_AXIS)
    mirrored = made.predict(itk_image(pixels[:, ::-1].copy(), known)).mask[:, ::-1]
    assert not np.array_equal(mirrored, made.predict(itk_image(pixels, known)).mask)


@DIRECTIONS
def test_a_volume_at_a_resolution(direction: tuple[float, ...]) -> None:
    made, seen = picky(frame=FrameSpec([24, 24, 16], "spacing", [1.3, 1.2, 2.0]))
    pixels, grid = stack(18), Grid((36, 44, 18), (1.0, 1.2, 2.5), (1.0, 2.0, 3.0), direction)
    expected = made.predict(itk_image(pixels, grid), whole=False)
    looks = len(seen)
    assert looks == 1 or direction != IDENTITY  # both orders are of interest to stacks of slices alone
    for order in SOME:
        result = made.predict(itk_image(order.apply(pixels), order.grid(grid)), whole=False)
        np.testing.assert_array_equal(result.mask, order.apply(expected.mask))
    assert len(seen) == looks * (1 + len(SOME))


def test_directions_tell_base_from_apex_and_the_network_looks_once() -> None:
    made, seen = picky()
    pixels, grid = stack(), Grid((36, 44, 6), (1.5, 1.5, 9.0), None, SHORT_AXIS)
    assert "slice_order_uncertain" not in made.predict(itk_image(pixels, grid), whole=False).flags
    assert len(seen) == 1
    backwards = Orientation((0, 1, 2), (False, False, True))
    made.predict(itk_image(backwards.apply(pixels), backwards.grid(grid)), whole=False)
    made.predict(itk_image(pixels, Grid(grid.size, grid.spacing_mm)), whole=False)
    assert len(seen) == 6
    np.testing.assert_array_equal(seen[1], seen[0])
    np.testing.assert_array_equal(seen[2], seen[0])
    np.testing.assert_array_equal(seen[4][1:7], seen[0][1:7][::-1])
    # Both once more, turned by half a turn.
    for once, turned in ((2, 3), (4, 5)):
        np.testing.assert_array_equal(seen[turned], seen[once][:, ::-1, ::-1])


@pytest.mark.parametrize("depth", [6, 7, 12, 13])
def test_where_nothing_tells_both_orders_of_slices_count_alike(depth: int) -> None:
    made, seen = picky()
    pixels = stack(depth)
    one, other = made.predict(pixels), made.predict(pixels[::-1])
    np.testing.assert_array_equal(one.mask, other.mask[::-1])
    assert "slice_order_uncertain" in one.flags
    assert one.flags == other.flags
    turned = made.predict(pixels[:, ::-1, ::-1])
    np.testing.assert_array_equal(turned.mask[:, ::-1, ::-1], one.mask)
    # A copy that has lost its directions tells no more than an array.
    np.testing.assert_array_equal(made.predict(itk_image(pixels, Grid((36, 44, depth)))).mask, one.mask)
    seen.clear()
    assert "slice_order_uncertain" not in made.predict(pixels[2]).flags
    assert len(seen) in (1, 2)  # the middle, and then maybe the whole of one slice


def test_orders_that_agree_are_not_flagged() -> None:
    made = even(picky()[0])
    for depth in (6, 7, 12):
        result = made.predict(stack(depth))
        assert set(np.unique(result.mask)) == {0, 1, 2, 3}
        assert "slice_order_uncertain" not in result.flags


def test_a_model_that_sees_one_frame_alone_takes_both_orders_too(monkeypatch: pytest.MonkeyPatch) -> None:
    made, _ = picky()
    monkeypatch.setattr(type(made), "sees_parts", False)
    for depth in (5, 8, 10):
        one, other = made.predict(stack(depth)), made.predict(stack(depth)[::-1])
        np.testing.assert_array_equal(one.mask, other.mask[::-1])
        assert "slice_order_uncertain" in one.flags


def test_a_series_in_dicom_lies_as_its_headers_say(tmp_path: Path) -> None:
    """However scanners number slices and whichever way rows and columns run."""
    made, _ = picky()
    pixels = (10 * stack()).clip(0).astype(np.uint16)
    axes = np.asarray(SHORT_AXIS).reshape(3, 3)
    grid = Grid((36, 44, 6), (1.5, 1.5, 9.0), (4.0, 5.0, 6.0), SHORT_AXIS)
    expected = made.predict(itk_image(pixels.astype(np.float32), grid)).mask
    turns = [
        Orientation((0, 1, 2), (False, False, False)),
        Orientation((1, 0, 2), (True, False, False)),
        Orientation((0, 1, 2), (True, False, True)),
    ]
    for number, turn in enumerate(turns):
        folder, there = tmp_path / str(number), turn.grid(grid)
        folder.mkdir()
        for z, plane in enumerate(turn.apply(pixels)):
            write_slice(
                folder / f"{z if number % 2 else 9 - z}.dcm",
                plane,
                z,
                PixelSpacing=[1.5, 1.5],
                ImagePositionPatient=there.to_physical((0, 0, z)).round(9).tolist(),
                ImageOrientationPatient=there.axes[:, :2].T.round(9).ravel().tolist(),
            )
        result = made.predict(folder)
        # Its slices come along the normal of rows and columns.
        backwards = np.linalg.det(there.axes) < 0
        found = result.mask[::-1] if backwards else result.mask
        np.testing.assert_array_equal(found, turn.apply(expected))
        assert result.grid.axes[:, 2] @ axes[:, 2] * (-1 if backwards ^ turn.flips[2] else 1) > 0.99


@DIRECTIONS
def test_a_shape_prior_redraws_label_maps_alike(direction: tuple[float, ...]) -> None:
    torch.manual_seed(0)
    made = AcnnPriorModule(
        widths=[4, 8, 8, 8], code=8, frame=FrameSpec([8, 32, 32], long_side=44, fit="slices")
    ).eval()
    labels, grid = heart(6, 44, 36)[1], Grid((36, 44, 6), (1.5, 1.5, 9.0), None, direction)
    expected = made.reconstruct(itk_image(labels, grid))
    for order in SOME:
        found = made.reconstruct(itk_image(order.apply(labels), order.grid(grid)))
        np.testing.assert_array_equal(found, order.apply(expected))


@DIRECTIONS
@pytest.mark.parametrize("fit", ["pad", "spacing"])
def test_a_mask_of_a_volume_is_repaired_alike(direction: tuple[float, ...], fit: str) -> None:
    torch.manual_seed(0)
    made = PostDAEModule(
        organs=["a", "b"],
        widths=[4, 8, 8],
        code=8,
        skips=[4, 8],
        frame=FrameSpec([16, 24, 16], fit=fit, spacing_mm=[1.3, 1.3, 1.3]),
    ).eval()
    labels = np.zeros((14, 20, 16), np.uint8)
    labels[3:10, 4:12, 5:13], labels[6:9, 6:15, 7:9] = 1, 2
    grid = Grid((16, 20, 14), (1.0, 1.2, 1.4), (1.0, 2.0, 3.0), direction)
    expected = made.predict(itk_image(labels, grid))
    planes = np.stack([labels == value for value in range(3)]).astype(np.float32)
    assert len(np.unique(expected.after)) > 1
    for order in SOME:
        result = made.predict(itk_image(order.apply(labels), order.grid(grid)))
        np.testing.assert_array_equal(result.after, order.apply(expected.after))
        assert result.flags == expected.flags
    # Planes of probabilities have no directions: they are taken as they are.
    np.testing.assert_array_equal(made.predict(planes, spacing_mm=1.2).before, labels)


def test_masks_of_planes_stay_as_they_are() -> None:
    torch.manual_seed(0)
    made = PostDAEModule(organs=["a"], widths=[4, 8], code=8, skips=[2], frame=FrameSpec(32)).eval()
    plane = np.zeros((30, 24), np.uint8)
    plane[5:20, 3:9] = 1
    turned = sitk.GetImageFromArray(plane)
    turned.SetDirection((-1, 0, 0, 1))
    np.testing.assert_array_equal(made.predict(turned).after, made.predict(plane).after)


# --- training sees what prediction sees ---------------------------------------------------------------------


def rewritten(root: Path, order: Orientation, direction: tuple[float, ...]) -> Path:
    """All stacks of a folder stored in another order, their headers saying so."""
    for path in root.glob("**/*_frame*.nii.gz"):
        image = sitk.ReadImage(str(path))
        grid = Grid(image.GetSize(), (1.5, 1.5, 9.0), (1.0, 2.0, 3.0), direction)
        sitk.WriteImage(itk_image(order.apply(sitk.GetArrayFromImage(image)), order.grid(grid)), str(path))
    return root


@pytest.mark.parametrize("number", [0, 13, 30, 47])
def test_hearts_in_training(tmp_path: Path, number: int) -> None:
    orders = [Orientation.unchanged(3), all_orders()[number]]
    items = []
    for name, order in zip("ab", orders, strict=True):
        root = rewritten(write_hearts(tmp_path / name, {"train": [1], "val": [2]}), order, SHORT_AXIS)
        segments = AcnnDataModule(str(root), frame=FrameSpec([8, 32, 32], long_side=44, fit="slices"))
        masks = PostDAEDataModule(
            str(root), layout="acdc", organs=["left_ventricle"], augment=None, frame=FrameSpec(32)
        )
        for module in (segments, masks):
            module.setup("fit")
        items.append([segments.sets["val"][0], *(masks.sets["train"][i] for i in range(3))])
        assert len(masks.sets["train"]) == 2 * 7  # slices of both phases
    for one, other in zip(*items, strict=True):
        assert set(one) == set(other)
        for key in one:
            torch.testing.assert_close(one[key], other[key], rtol=0, atol=0, equal_nan=True)


@DIRECTIONS
def test_volumes_in_training(direction: tuple[float, ...]) -> None:
    pixels, labels = heart(12, 30, 24)
    grid = Grid((24, 30, 12), (1.0, 1.2, 1.4), None, direction)
    spec, organs = FrameSpec([10, 20, 16], "spacing", [1.5, 1.5, 1.5]), ["a", "b", "c"]

    def items(order: Orientation) -> list[dict[str, Tensor]]:
        there, drawn = order.grid(grid), order.apply(labels)
        image = GridImage(order.apply(pixels), there)
        case = case_of("a", image, drawn, organs)
        mask = case_of("a", None, drawn, organs, grid=there)
        return [
            FrameDataset([case], organs, spec)[0],
            MaskDataset([mask], organs, spec)[0],
        ]

    expected = items(Orientation.unchanged(3))
    for order in SOME:
        for one, other in zip(expected, items(order), strict=True):
            for key in one:
                torch.testing.assert_close(one[key], other[key], rtol=0, atol=0)
