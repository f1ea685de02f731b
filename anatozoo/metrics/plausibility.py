"""Is a shape anatomically plausible? Measures that need no reference."""

import numpy as np
import scipy.ndimage as ndi

from anatozoo.metrics.surface import as_mask


def components(mask: np.ndarray) -> int:
    """Number of connected parts of a mask, neighbours sharing an edge or corner."""
    array = as_mask(mask)
    return int(ndi.label(array, np.ones((3,) * array.ndim))[1])


def holes(mask: np.ndarray) -> int:
    """Number of enclosed parts of the background, neighbours sharing a face."""
    array = np.pad(~as_mask(mask), 1, constant_values=True)
    return int(ndi.label(array)[1]) - 1
