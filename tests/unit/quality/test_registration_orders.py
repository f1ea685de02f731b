"""Registration, atlases and estimates of quality of volumes that are stored in any order."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor

from anatozoo.data.case import Case
from anatozoo.io.grid import Grid, GridImage, itk_image
from anatozoo.io.orientation import Orientation
from anatozoo.methods.acregnet.module import AcRegNetModule
from anatozoo.methods.acregnet.network import Registration
from anatozoo.nn.warp import warp
from anatozoo.quality import engine_of, rca
from anatozoo.quality.atlas import atlas_of
from anatozoo.results.field import RegistrationResult
from anatozoo.tasks.propagate import propagate
from tests.support.cases import case_of
from tests.support.orders import OBLIQUE, all_orders

IDENTITY = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
SHAPE = (14, 20, 17)


def network(**frame: Any) -> AcRegNetModule:
    """A model whose field bends differently along each axis of its frame."""
    made = AcRegNetModule(
        organs=[],
        label_weight=0.0,
        normalization="none",
        frame={"size": [16, 24, 16], "fit": "spacing", "spacing_mm": [1.1, 1.2, 1.3]} | frame,
    ).eval()

    def answer(moving: Tensor, fixed: Tensor) -> Registration:
        z, y, x = torch.meshgrid(*(torch.arange(float(n)) for n in moving.shape[2:]), indexing="ij")
        field = torch.stack([0.8 + 0.5 * torch.sin(x / 5), 0.6 * torch.cos(z / 4), -1.2 + 0.03 * y])
        field = field[None] * (0.5 + fixed)
        return Registration(warp(moving, field), field, None)

    made.forward = answer  # type: ignore[method-assign]
    return made


def brain(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Two organs, one beside the other, in smooth noise."""
    labels = np.zeros(SHAPE, np.uint8)
    labels[4:10, 5 + seed : 12, 3:9], labels[5:11, 8:15, 9 : 13 + seed] = 1, 2
    noise = np.random.default_rng(seed).normal(0, 1, SHAPE)
    return gaussian_filter(labels + 0.5 * noise, 1).astype(np.float32), labels


def stored(pixels: np.ndarray, order: Orientation, direction: tuple[float, ...]) -> GridImage:
    grid = Grid(SHAPE[::-1], (1.0, 1.2, 1.4), (3.0, 4.0, 5.0), direction)
    return GridImage(order.apply(pixels), order.grid(grid), "volume")


def pairs(step: int) -> list[tuple[Orientation, Orientation]]:
    """Every order of one with some order of the other."""
    orders = all_orders()
    return [(orders[i], orders[(7 * i + 5) % 48]) for i in range(0, 48, step)]


def check(
    register: Callable[[GridImage, GridImage], RegistrationResult],
    direction: tuple[float, ...],
    step: int = 1,
    tolerance: float = 1e-4,
) -> None:
    (moving, labels), (fixed, _) = brain(0), brain(1)
    as_is = Orientation.unchanged(3)
    expected = register(stored(moving, as_is, direction), stored(fixed, as_is, direction))
    assert expected.displacement_mm is not None
    assert float(np.abs(expected.displacement_mm).max()) > 0.1
    warped = expected.warp(labels)
    points = np.array([[8.0, 9.0, 7.0], [6.0, 10.0, 6.0]])
    for a, b in pairs(step):
        result = register(stored(moving, a, direction), stored(fixed, b, direction))
        assert result.displacement_mm is not None
        # Vectors in space are the same, at the same places.
        there = np.moveaxis(b.undo(np.moveaxis(result.displacement_mm, -1, 0)), 0, -1)
        np.testing.assert_allclose(there, expected.displacement_mm, atol=tolerance)
        np.testing.assert_allclose(result.warped, b.apply(expected.warped), atol=10 * tolerance)
        differ = result.warp(a.apply(labels)) != b.apply(warped)
        assert float(differ.mean()) < 1e-3  # half-way between two voxels
        found = b.inverse.points(result.warp(a.points(points, SHAPE[::-1]), "points"), b.size(SHAPE[::-1]))
        np.testing.assert_allclose(found, expected.warp(points, "points"), atol=20 * tolerance)
        np.testing.assert_allclose(result.jacobian, b.apply(expected.jacobian), atol=1e-3)
        length = np.linalg.norm(result.deformation_px, axis=-1)
        np.testing.assert_allclose(
            length, b.apply(np.linalg.norm(expected.deformation_px, axis=-1)), atol=10 * tolerance
        )
        assert result.flags == expected.flags


@pytest.mark.parametrize("direction", [IDENTITY, OBLIQUE])
@pytest.mark.parametrize("fit", ["spacing", "pad"])
def test_a_network_registers_all_orders_alike(direction: tuple[float, ...], fit: str) -> None:
    check(network(fit=fit).predict, direction, step=7)


def test_classical_engines_register_all_orders_alike() -> None:
    check(engine_of("demons").register, OBLIQUE, step=23, tolerance=1e-3)


def test_proportions_are_compared_along_the_patients_axes() -> None:
    image = gaussian_filter(np.random.default_rng(0).random((8, 30, 12)), 1).astype(np.float32)
    grid = Grid((12, 30, 8), None, None, IDENTITY)
    turn = Orientation((2, 0, 1), (False, True, False))
    result = network(fit="pad", spacing_mm=None).predict(
        GridImage(image, grid), GridImage(turn.apply(image), turn.grid(grid))
    )
    assert "field_of_view_differs" not in result.flags


def test_masks_of_atlases_are_propagated_alike() -> None:
    (moving, labels), (fixed, _) = brain(0), brain(1)
    model, as_is = network(), Orientation.unchanged(3)
    expected = propagate(
        model, [stored(moving, as_is, OBLIQUE)], [labels], stored(fixed, as_is, OBLIQUE)
    ).label_map
    assert expected is not None
    for a, b in pairs(15):
        image = stored(moving, a, OBLIQUE)
        mask = itk_image(a.apply(labels), image.grid)
        found = propagate(model, [image], [mask], stored(fixed, b, OBLIQUE)).label_map
        assert found is not None
        assert float(np.mean(found != b.apply(expected))) < 1e-3


def test_quality_is_estimated_alike() -> None:
    organs, as_is = ("a", "b"), Orientation.unchanged(3)
    pixels, labels = brain(1)

    class Nothing:
        name, version, axes = "nothing", "1", None

        def register(self, moving: GridImage, fixed: GridImage) -> RegistrationResult:
            field = np.zeros((*fixed.grid.shape, 3), np.float32)
            return RegistrationResult(
                "n", "1", "a", "b", moving.grid, fixed.grid, field, np.eye(3), moving.pixels, fixed.pixels
            )

    def case(order: Orientation) -> Case:
        image, drawn = brain(0)
        return case_of("a", stored(image, order, OBLIQUE), order.apply(drawn), organs)

    atlas = atlas_of([case(as_is)], organs, name="one", shape=(16, 16, 16))
    expected = rca(stored(pixels, as_is, OBLIQUE), labels, atlas, engine=Nothing())
    for order in all_orders()[::11]:
        again = atlas_of([case(order)], organs, name="one", shape=(16, 16, 16))
        assert again.digest == atlas.digest
        found = rca(stored(pixels, order, OBLIQUE), order.apply(labels), atlas, engine=Nothing())
        assert found.matches[0].values == expected.matches[0].values
        np.testing.assert_array_equal(found.labels, expected.labels)
