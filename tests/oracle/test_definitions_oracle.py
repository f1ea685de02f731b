"""Where libraries define a metric differently: what the difference is, and how large it may become."""

import numpy as np
import pytest
import torch

from anatozoo.io.landmarks import draw_organ_mask
from anatozoo.metrics.functional import contour_distances, surface_distances
from tests.support.phantoms import make_chest_phantom

SIZE = (300, 410)


@pytest.fixture(scope="module")
def contours() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Organ -> a contour that is off by a few pixels in slow waves, and the true one."""
    rng = np.random.default_rng(3)
    pairs = {}
    for organ, truth in make_chest_phantom(*SIZE).landmarks.items():
        turn = np.arange(len(truth)) * 2 * np.pi / len(truth)
        waves = [rng.normal(0, 1.5, (2, 1)) * np.cos(k * turn + rng.uniform(0, 6)) for k in (1, 2, 3)]
        pairs[organ] = (truth + sum(waves).T, truth)
    return pairs


def masks(pair: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    return tuple(draw_organ_mask(points, SIZE) for points in pair)


def test_lines_and_drawn_pixels_differ_by_less_than_a_pixel(contours) -> None:
    """Rounding moves a contour by at most half a pixel's diagonal, so distances by at most a diagonal."""
    for pair in contours.values():
        lines, pixels = contour_distances(*pair), surface_distances(*masks(pair))
        assert lines.hausdorff() == pytest.approx(pixels.hausdorff(), abs=2**0.5)
        assert lines.hausdorff(95) == pytest.approx(pixels.hausdorff(95), abs=1.0)
        assert lines.mean() == pytest.approx(pixels.assd(), abs=0.5)


@pytest.mark.filterwarnings("ignore:.*always_return_as_numpy:FutureWarning")
def test_surface_elements_between_pixels_differ_by_fractions_of_a_pixel(contours) -> None:
    """MONAI's sub-voxels, DeepMind's definition, put the surface between pixels and weigh it by its area."""
    metrics = pytest.importorskip("monai.metrics")
    for organ, pair in contours.items():
        a, b = masks(pair)
        ours = surface_distances(a, b)
        x, y = (torch.from_numpy(m)[None, None].float() for m in (a, b))
        for tolerance in (1.0, 2.0, 3.0):
            theirs = metrics.compute_surface_dice(
                x, y, class_thresholds=[tolerance], include_background=True, use_subvoxels=True
            ).item()
            assert ours.nsd(tolerance) == pytest.approx(theirs, abs=0.06), (organ, tolerance)
        assert ours.nsd(20.0) == 1.0


def test_pooled_percentiles_lie_between_those_of_the_directions(contours) -> None:
    """medpy's hd95 pools both directions first; ours is the larger direction, and so the larger number."""
    different = 0
    for pair in contours.values():
        ours = surface_distances(*masks(pair))
        each = [np.percentile(d, 95) for d in (ours.to_reference, ours.to_prediction)]
        pooled = np.percentile(np.concatenate([ours.to_reference, ours.to_prediction]), 95)
        assert min(each) - 0.05 <= pooled <= ours.hausdorff(95) + 0.05
        different += pooled != ours.hausdorff(95)
    assert different


def test_mean_of_means_is_not_the_mean_over_both_surfaces() -> None:
    """medpy's assd averages the directions, so that a small surface counts as much as a large one."""
    small, large = np.zeros((2, 60, 80), bool)
    small[30, 40] = True
    large[10:50, 15:70] = True
    ours = surface_distances(small, large)
    n, m = len(ours.to_reference), len(ours.to_prediction)
    assert ours.assd() == pytest.approx(
        (n * ours.mean_to_reference() + m * ours.mean_to_prediction()) / (n + m)
    )
    assert ours.assd() > (ours.mean_to_reference() + ours.mean_to_prediction()) / 2 + 0.1


@pytest.mark.parametrize("seed", range(3))
def test_torchmetrics_agrees_on_square_images(seed: int) -> None:
    """On others its releases up to 1.9 are wrong or fail."""
    hausdorff = pytest.importorskip("torchmetrics.functional.segmentation").hausdorff_distance
    rng = np.random.default_rng(seed)

    def theirs(a: np.ndarray, b: np.ndarray) -> float:
        return hausdorff(
            *(torch.from_numpy(m)[None, None].int() for m in (a, b)), num_classes=1, include_background=True
        ).item()

    a, b = rng.random((2, 40, 40)) < 0.02
    assert surface_distances(a, b).hausdorff() == pytest.approx(theirs(a, b), abs=1e-5)
