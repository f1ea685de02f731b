"""Generated label maps of two organs, in batches as networks and their references have them."""

import numpy as np
import torch

ORGANS = ["heart", "liver"]
SPACING = (0.5, 2.0)


def label_maps(count: int = 5, shape: tuple[int, ...] = (24, 37), seed: int = 0) -> torch.Tensor:
    """Boxes of two organs, (B, ...) int64."""
    rng = np.random.default_rng(seed)
    labels = np.zeros((count, *shape), np.int64)
    for image in labels:
        for value in (1, 2):
            start = [rng.integers(0, n // 2) for n in shape]
            image[tuple(slice(s, s + n // 3) for s, n in zip(start, shape, strict=True))] = value
    return torch.from_numpy(labels)


PREDICTION, REFERENCE = label_maps(seed=1), label_maps(seed=2)
# One organ that neither has, one that only the reference has, one that only the prediction has.
PREDICTION[0][PREDICTION[0] == 2] = 0
REFERENCE[0][REFERENCE[0] == 2] = 0
PREDICTION[1][PREDICTION[1] == 2] = 0
REFERENCE[2][REFERENCE[2] == 2] = 0


def assert_equal(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value, rtol=0, atol=0, equal_nan=True)
