import pytest
import torch
from torch import Tensor
from torchvision.ops import roi_align

from anatozoo.nn.igsc import sample_points, window_average


def ramp(height: int, width: int) -> Tensor:
    """Two channels that hold each pixel's x and y index."""
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return torch.stack([x, y])[None].float()


def authors_lookup(features: Tensor, positions: Tensor, window: int) -> Tensor:
    """What the authors do, one image after the other."""
    height, width = features.shape[-2:]
    results = []
    for image, points in zip(features, positions, strict=True):
        centre = points * torch.tensor([width, height])
        boxes = torch.cat([centre - window // 2, centre + window // 2 + 1], 1)
        pooled = roi_align(image[None], [boxes], output_size=1, sampling_ratio=-1, aligned=True)
        results.append(pooled[:, :, 0, 0])
    return torch.stack(results)


@pytest.mark.parametrize("window", [1, 3, 5])
@pytest.mark.parametrize(("height", "width"), [(16, 16), (12, 20)])
def test_roi_align_lookup_equals_torchvision(height: int, width: int, window: int) -> None:
    torch.manual_seed(0)
    features = torch.randn(3, 4, height, width)
    positions = torch.rand(3, 200, 2) * 1.4 - 0.2  # inside, across the border and outside
    ours = window_average(features, positions, window, lookup="roi_align")
    torch.testing.assert_close(ours, authors_lookup(features, positions, window), rtol=0, atol=2e-5)


def test_even_window_is_the_mean_of_the_samples_at_whole_offsets() -> None:
    torch.manual_seed(0)
    features, positions = torch.randn(2, 3, 10, 14), torch.rand(2, 50, 2)
    step = 1 / torch.tensor([14.0, 10.0])
    offsets = [torch.tensor([x, y]) * step for x in (-1, 0, 1) for y in (-1, 0, 1)]
    expected = torch.stack([sample_points(features, positions + offset) for offset in offsets]).mean(0)
    torch.testing.assert_close(window_average(features, positions), expected, rtol=0, atol=1e-5)


def test_lookups_agree_on_most_positions_and_on_a_ramp_everywhere() -> None:
    torch.manual_seed(0)
    positions = 0.3 + 0.4 * torch.rand(1, 500, 2)
    features = torch.randn(1, 4, 16, 16)
    gap = (window_average(features, positions) - authors_lookup(features, positions, 3)).abs().amax(-1)
    assert (gap < 1e-5).float().mean() > 0.6  # the rest are boxes that rounding made wider
    ours = window_average(ramp(16, 16), positions)
    torch.testing.assert_close(ours, authors_lookup(ramp(16, 16), positions, 3), rtol=0, atol=1e-4)
    torch.testing.assert_close(ours, positions * 16, rtol=0, atol=1e-4)


def test_border_repeats_one_pixel_and_beyond_it_there_is_nothing() -> None:
    features = ramp(8, 8)[:, :1] + 5  # 5 … 12 from left to right
    at = torch.tensor([[[0.0, 0.5], [-1 / 8, 0.5], [-1.5 / 8, 0.5], [8 / 8, 0.5], [8.5 / 8, 0.5]]])
    assert sample_points(features, at)[0, :, 0].tolist() == pytest.approx([5, 5, 0, 12, 0])
    # A window around the left border reads the border twice, and zeros once it has left by more than a pixel.
    assert window_average(features, at[:, :1])[0, 0, 0] == pytest.approx((5 + 5 + 6) / 3)
    assert window_average(features, at[:, 1:2])[0, 0, 0] == pytest.approx((0 + 5 + 5) / 3)


def test_frame_convention_agrees_between_resolutions() -> None:
    pixels = torch.tensor([[[1.5 / 8, 2.5 / 4]]])  # the centre of pixel (1, 2) of a 4 × 8 map
    assert sample_points(ramp(4, 8), pixels, align="frame").flatten().tolist() == pytest.approx([1.0, 2.0])
    assert sample_points(ramp(4, 8), pixels).flatten().tolist() == pytest.approx([1.5, 2.5])
    # On a map of twice the resolution that is the corner between pixels 2 | 3 and 4 | 5.
    assert sample_points(ramp(8, 16), pixels, align="frame").flatten().tolist() == pytest.approx([2.5, 4.5])


def test_points_of_any_shape() -> None:
    points = torch.rand(2, 5, 3, 2)
    values = sample_points(torch.rand(2, 4, 8, 8), points)
    assert values.shape == (2, 5, 3, 4)


@pytest.mark.parametrize("lookup", ["average", "roi_align"])
def test_gradient_reaches_the_features_and_not_the_positions(lookup: str) -> None:
    features = torch.randn(2, 3, 8, 8, requires_grad=True)
    positions = torch.rand(2, 6, 2, requires_grad=True)
    window_average(features, positions, lookup=lookup).sum().backward()
    assert positions.grad is None
    assert features.grad is not None
    # Each sample's weights add up to one: 2 images × 6 positions × 3 channels in all, less what lay outside.
    assert 0 < float(features.grad.sum()) <= 36 + 1e-4


def test_an_image_does_not_see_its_batch_mates() -> None:
    torch.manual_seed(0)
    features, positions = torch.randn(4, 3, 8, 8), torch.rand(4, 6, 2)
    alone = torch.cat([window_average(features[i : i + 1], positions[i : i + 1]) for i in range(4)])
    torch.testing.assert_close(window_average(features, positions), alone, rtol=0, atol=1e-6)


@pytest.mark.parametrize("window", [1, 3, 5])
def test_one_map_for_many_points_is_the_same_as_its_copies(window: int) -> None:
    draw = torch.Generator().manual_seed(4)
    one = torch.randn(1, 5, 7, 11, generator=draw, dtype=torch.float64)
    # Far outside, on the borders, where windows are partly outside, and inside.
    points = torch.rand(9, 40, 2, generator=draw, dtype=torch.float64) * 1.8 - 0.4
    points[0, :4] = torch.tensor([[0.0, 0.0], [1.0, 1.0], [-1 / 11, 0.5], [0.5, 8 / 7]], dtype=torch.float64)
    copies = one.expand(9, -1, -1, -1)
    torch.testing.assert_close(
        window_average(one, points, window), window_average(copies, points, window), atol=1e-9, rtol=1e-6
    )
    for align in ("index", "frame"):
        torch.testing.assert_close(
            sample_points(one, points, align=align),
            sample_points(copies, points, align=align),
            atol=1e-9,
            rtol=1e-6,
        )


def test_points_that_are_not_finite_do_not_break_the_look_up_in_one_map() -> None:
    points = torch.full((3, 2, 2), float("nan"))
    points[0], points[1] = 0.5, torch.tensor([[float("inf"), 0.5], [0.5, -float("inf")]])
    found = sample_points(torch.ones(1, 4, 6, 6), points)
    assert torch.equal(found[0], torch.ones(2, 4))
    assert not torch.isfinite(found[1:]).any()
