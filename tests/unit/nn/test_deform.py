"""Random deformations of images and label maps, 2-D and 3-D."""

import dataclasses

import pytest
import torch
from torch import Tensor

from anatozoo.nn.deform import ShapeConfig, deform, deform_image
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
