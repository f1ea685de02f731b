"""Sliding windows against MONAI's."""

import pytest
import torch
from monai.inferers.utils import sliding_window_inference
from torch import Tensor
from torch.nn import functional as F

from anatozoo.errors import GeometryError
from anatozoo.nn.windows import in_windows


@pytest.mark.parametrize(
    ("size", "window", "overlap"),
    [
        ((16, 20, 21), (8, 8, 8), 0.25),
        ((8, 20, 9), (8, 8, 8), 0.25),
        ((5, 8, 8), (5, 8, 8), 0.5),
        ((13, 31, 10), (4, 9, 10), 0.6),
        ((37, 30), (12, 7), 0.0),
    ],
)
@pytest.mark.parametrize("factor", [1, 3])
def test_windows_are_where_monai_has_them(
    size: tuple[int, ...], window: tuple[int, ...], overlap: float, factor: int
) -> None:
    torch.manual_seed(0)
    image = torch.rand(1, 2, *size)
    seen: list[Tensor] = []

    def network(part: Tensor) -> Tensor:
        # The answer depends on where a voxel lies in its window, so places and weights of windows matter.
        seen.append(part)
        answer = part * torch.linspace(0, 1, part.shape[-1]) + part.mean()
        return F.interpolate(answer, scale_factor=(factor, *[1] * (len(size) - 1)), mode="nearest")

    found = in_windows(image, window, network, overlap)
    ours, seen = seen, []
    expected = sliding_window_inference(image, window, 1, network, overlap=overlap, mode="gaussian")
    assert len(ours) == len(seen)
    assert all(torch.equal(one, other) for one, other in zip(ours, seen, strict=True))
    assert found.shape == (1, 2, factor * size[0], *size[1:])
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)


def test_an_image_smaller_than_the_window_is_refused() -> None:
    with pytest.raises(GeometryError, match=r"\(8, 5\) voxels is smaller than the window of \(4, 6\)"):
        in_windows(torch.zeros(1, 1, 8, 5), (4, 6), lambda part: part, 0.25)
