"""Image-to-graph skip connections: image features sampled at the positions of the graph's nodes.

Gaggion et al., IEEE TMI 2022. The authors call torchvision's RoIAlign one image at a time; here one
``grid_sample`` serves the batch.
"""

import torch
from torch import Tensor
from torch.nn import functional as F


def sample_points(features: Tensor, points: Tensor, *, align: str = "index") -> Tensor:
    """Bilinear look-up of a feature map at points, clamped at the border.

    Args:
        features: (B, C, H, W), or (1, C, H, W) if one map serves all points.
        points: (B, ..., 2) x, y in [0, 1] of the map's width and height.
        align: ``"index"`` reads the point u at the pixel index u·W (the authors' convention); ``"frame"``
            reads it at u·W - 1/2, which is the same position at every resolution.

    Returns:
        (B, ..., C) features. Points more than one pixel outside the map give zeros.
    """
    batch, channels, height, width = features.shape
    size = points.new_tensor([width, height])
    index = points * size - (0.0 if align == "index" else 0.5)
    if batch < len(points):
        return _gathered(features, index, 1)
    inside = ((index >= -1) & (index <= size)).all(-1)
    grid = ((2 * index + 1) / size - 1).reshape(batch, 1, -1, 2)
    values = F.grid_sample(
        features, grid.to(features.dtype), mode="bilinear", padding_mode="border", align_corners=False
    )
    values = values[:, :, 0].transpose(1, 2).reshape(*points.shape[:-1], channels)
    return values * inside[..., None].to(values.dtype)


def window_average(
    features: Tensor, positions: Tensor, window: int = 3, *, lookup: str = "average"
) -> Tensor:
    """Mean of a window of bilinear samples around each position: RoIAlign with a 1 × 1 output.

    Args:
        features: (B, C, H, W) encoder map, or (1, C, H, W) if one map serves all positions.
        positions: (B, N, 2) x, y in [0, 1]; no gradient flows to them, as in the paper.
        window: side of the window in pixels of the map, odd.
        lookup: ``"average"`` takes window × window samples. ``"roi_align"`` imitates torchvision's operator
            on the authors' boxes: if rounding makes a box wider than `window` by one ulp, it takes one more
            sample along that axis. This reproduces the authors' outputs to float precision, but a rounding
            error can move a landmark by a thousandth of the frame.

    Returns:
        (B, N, C).
    """
    height, width = features.shape[-2:]
    size = positions.new_tensor([width, height])
    centre = positions.detach() * size
    if lookup == "average" and len(features) < len(positions):
        return _gathered(features, centre, window)
    slots = torch.arange(window + 1, dtype=positions.dtype, device=positions.device)
    count = torch.full_like(centre, window)
    if lookup == "roi_align":
        low, high = centre - window // 2, centre + (window // 2 + 1)
        count = torch.ceil((high - 0.5) - (low - 0.5))
    else:
        slots = slots[:-1]
    offsets = (slots[:, None] + 0.5) * (window / count)[:, :, None] - window / 2
    weight = (slots[:, None] < count[:, :, None]) / count[:, :, None]
    x = centre[:, :, None, None, 0] + offsets[:, :, None, :, 0]
    y = centre[:, :, None, None, 1] + offsets[:, :, :, None, 1]
    samples = sample_points(features, torch.stack(torch.broadcast_tensors(x, y), -1) / size)
    weight = weight[:, :, :, None, 1] * weight[:, :, None, :, 0]
    return (samples * weight[..., None].to(samples.dtype)).sum((2, 3))


def _gathered(features: Tensor, index: Tensor, window: int) -> Tensor:
    """Means of windows of bilinear samples of one map, for so many points that they share its pixels.

    A mean is a weighted sum of (window + 1)² pixels, which are rows of one table. This is several times
    faster than `grid_sample`, which collects each channel by itself.

    Args:
        features: (1, C, H, W).
        index: (..., 2) x, y of the windows' centres, in pixels of the map.
        window: side in samples, odd.

    Returns:
        (..., C). Samples more than one pixel outside the map count as zeros.
    """
    [planes], (height, width) = features, features.shape[-2:]
    size = index.new_tensor([[width], [height]])
    # Taps and axes come first, and points last: long rows are several times faster here.
    centre = index.reshape(-1, 2).T.contiguous()
    low = centre.floor()
    share = centre - low
    step = torch.arange(window + 1, device=index.device, dtype=torch.int32)[:, None, None] - window // 2
    sample = centre + step[:-1]
    inside = ((sample >= -1) & (sample <= size)).to(centre.dtype) / window
    upper = inside * share
    weights = torch.cat([inside - upper, upper[-1:]])
    weights[1:-1] += upper[:-1]
    # Clamped as whole numbers: of a position that is not finite, the weight alone tells.
    pixels = (low.int() + step).clamp_min(0).minimum(size.int() - 1)
    rows = (pixels[:, None, 1] * width + pixels[None, :, 0]).flatten(0, 1).T.contiguous()
    weights = (weights[:, None, 1] * weights[None, :, 0]).flatten(0, 1).T.contiguous().to(planes.dtype)
    table = planes.permute(1, 2, 0).reshape(-1, len(planes))
    found = F.embedding_bag(rows, table, mode="sum", per_sample_weights=weights)
    return found.view(*index.shape[:-1], len(planes))
