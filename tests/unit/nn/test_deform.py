"""Random deformations of images and label maps, 2-D and 3-D."""

import dataclasses

import pytest
import torch
from torch import Tensor

from anatozoo.nn.deform import ShapeConfig, deform, deform_image, random_grid, reorder
from anatozoo.nn.labels import one_hot

SHAPES = [(64, 96), (24, 32, 20)]
STILL = ShapeConfig(rotation_deg=0, scale=0, anisotropy=0, shift=0, elastic=0)


def maps(shape: tuple[int, ...], count: int = 4) -> Tensor:
    """Three organs side by side, 4 pixels from one another and from the border; (B, ...) uint8."""
    labels = torch.zeros(count, *shape, dtype=torch.uint8)
    third = shape[-1] // 3
    for value in range(1, 4):
        part = labels[..., 4:-4, (value - 1) * third + 2 : value * third - 2]
        part[...] = value
    return labels


def test_several_maps_are_deformed_alike() -> None:
    torch.manual_seed(0)
    clean = one_hot(maps((64, 96), 5), 4)
    one, other = deform(clean, ShapeConfig(), clean.clone())
    assert torch.equal(one, other)
    assert not torch.equal(one, deform(clean, ShapeConfig())[0])


def test_shapes_move_and_stay_shapes() -> None:
    torch.manual_seed(0)
    for shape in SHAPES:
        clean = one_hot(maps(shape, 6), 4)
        torch.testing.assert_close(deform(clean, STILL)[0], clean, rtol=0, atol=1e-4)
        [moved] = deform(clean, ShapeConfig())
        torch.testing.assert_close(moved.sum(1), torch.ones(6, *shape), rtol=0, atol=1e-4)
        assert len({float(item.sum()) for item in moved[:, 1]}) == 6
        sizes = moved[:, 1:].flatten(2).sum(2) / clean[:, 1:].flatten(2).sum(2)
        assert 0.4 < float(sizes.min()) < float(sizes.max()) < 2.2


def test_a_rotation_of_an_oblong_frame_keeps_shapes() -> None:
    torch.manual_seed(0)
    clean = torch.zeros(1, 2, 64, 128)
    clean[:, 1, 22:42, 54:74] = 1
    clean[:, 0] = 1 - clean[:, 1]
    config = dataclasses.replace(STILL, rotation_deg=90.0)
    for _ in range(5):
        square = deform(clean, config)[0][0, 1]
        assert float(square.sum()) == pytest.approx(400, rel=0.03)
        rows, columns = (square > 0.5).nonzero().float().T
        assert float(rows.var()) == pytest.approx(float(columns.var()), rel=0.05)


def test_sides_are_never_exchanged() -> None:
    torch.manual_seed(0)
    moved = deform(one_hot(maps((64, 96), 50), 4), ShapeConfig())[0].argmax(1)
    columns = torch.arange(96.0)
    for item in moved:
        middles = [float((columns * (item == v).float().sum(0)).sum() / (item == v).sum()) for v in (1, 2, 3)]
        assert middles == sorted(middles)


@pytest.mark.parametrize("shape", SHAPES)
def test_an_image_moves_with_its_labels(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    labels = maps(shape)
    image, found = deform_image(labels[:, None] / 4.0, labels, ShapeConfig())
    assert found is not None
    assert found.dtype == torch.uint8
    assert set(found.unique().tolist()) == {0, 1, 2, 3}
    assert not torch.equal(found, labels)
    # Away from the borders of organs, where interpolation mixes, a pixel has its label's grey level.
    assert float((image[:, 0] - found / 4.0).abs().gt(0.13).float().mean()) < 0.1
    assert not torch.equal(found[0], found[1])


def test_an_image_alone_and_one_that_stays() -> None:
    image = torch.rand(2, 1, 20, 28)
    moved, labels = deform_image(image, None, STILL)
    assert labels is None
    torch.testing.assert_close(moved, image)


def test_the_border_of_an_image_goes_on() -> None:
    torch.manual_seed(0)
    image, labels = torch.full((3, 1, 32, 32), 0.5), torch.ones(3, 32, 32, dtype=torch.uint8)
    moved, found = deform_image(image, labels, dataclasses.replace(STILL, shift=0.4))
    torch.testing.assert_close(moved, image)
    assert found is not None
    assert int(found.min()) == 0


@pytest.mark.parametrize(("shape", "orders"), [((6, 6), 8), ((6, 8), 4), ((4, 6, 6), 16), ((4, 6, 8), 8)])
def test_every_order_of_rows_columns_and_slices_is_drawn(shape: tuple[int, ...], orders: int) -> None:
    torch.manual_seed(0)
    dims = len(shape)
    one = torch.rand(2, *shape)
    one[0] = 1 - one[1]
    given = one.expand(150, *one.shape)
    config = dataclasses.replace(STILL, reorder_p=1.0)
    found, other = deform(given, config, given.flip(1))
    torch.testing.assert_close(other, found.flip(1))
    expected = torch.stack([reorder(one, order, dims) for order in range(2 ** (dims + 1))])
    distance = (found[:, None] - expected).flatten(2).abs().amax(2)
    assert float(distance.amin(1).max()) < 1e-4
    assert len({tuple(row.lt(1e-4).tolist()) for row in distance}) == orders
    image, labels = deform_image(given[:, :1], given[:, 0].mul(100).byte(), config)
    assert labels is not None
    assert float((image[:, 0] - labels / 100).abs().max()) < 0.011
    assert len({tuple(labels[i].flatten().tolist()) for i in range(150)}) == orders


def test_reordering_draws_nothing_where_it_is_off() -> None:
    given = one_hot(maps((64, 96), 3), 4)
    torch.manual_seed(3)
    deform(given, ShapeConfig())
    after = torch.rand(2)
    torch.manual_seed(3)
    random_grid(3, (64, 96), ShapeConfig(), given)
    assert torch.equal(torch.rand(2), after)
