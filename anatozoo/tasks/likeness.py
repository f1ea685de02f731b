"""How alike two images are, by which atlases choose the images that they compare."""

import numpy as np
import numpy.typing as npt

_THUMBNAIL = 32
_LEVELS = 256


def embed(pixels: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """The image at 32 pixels along each axis, mean 0 and length 1: products of two are correlations.

    Args:
        pixels: (H, W) or (D, H, W).
    """
    import torch
    from torch.nn import functional as F

    pool = F.adaptive_avg_pool2d if pixels.ndim == 2 else F.adaptive_avg_pool3d
    small = pool(torch.from_numpy(np.array(pixels, np.float32))[None, None], _THUMBNAIL).numpy().ravel()
    small = small - small.mean()
    length = float(np.linalg.norm(small))
    # An image that is constant except for rounding is similar to none.
    result: npt.NDArray[np.float32] = small / length if length > 1e-4 else np.zeros_like(small)
    return result


def mutual_information(image: npt.NDArray[np.uint8], other: npt.NDArray[np.uint8]) -> float:
    """Mutual information of the grey levels of two images of one shape, in nats.

    All 256 levels have a bin of their own, so that small images share more than they show.

    Args:
        image: uint8, of any shape.
        other: uint8, of the same shape.
    """
    joint = np.bincount(image.ravel().astype(np.intp) * _LEVELS + other.ravel(), minlength=_LEVELS**2)
    joint = joint.reshape(_LEVELS, _LEVELS)
    return _entropy(joint.sum(0)) + _entropy(joint.sum(1)) - _entropy(joint)


def _entropy(counts: npt.NDArray[np.intp]) -> float:
    found = counts[counts > 0]
    total = found.sum()
    return float(np.log(total) - (found * np.log(found)).sum() / total)
