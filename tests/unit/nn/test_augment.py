from dataclasses import asdict, replace

import pytest
import torch
from torch import Tensor

from anatozoo.nn.augment import AugmentConfig, augment, recolour, warp
from anatozoo.nn.igsc import sample_points

SIZE = 192
OFF = AugmentConfig(**dict.fromkeys(asdict(AugmentConfig()), 0.0) | {"opacity": 0.6, "collimation": 0.08})
SPATIAL = {"rotation_deg": 15.0, "scale": 0.2, "anisotropy": 0.2, "shift": 0.1, "elastic": 0.01}
COLOUR = {
    "gamma": 0.5,
    "contrast": 0.3,
    "noise": 0.1,
    "blur_p": 1.0,
    "opacity_p": 1.0,
    "invert_p": 1.0,
    "occlusion_p": 1.0,
    "collimation_p": 1.0,
    "text_p": 1.0,
    "curve_p": 1.0,
    "local_contrast_p": 1.0,
    "lines_p": 1.0,
}


def blobs(batch: int, size: int = SIZE, seed: int = 0) -> tuple[Tensor, Tensor]:
    """One Gaussian blob per image, and its centre in [0, 1] of the frame."""
    centre = 0.35 + 0.3 * torch.rand(batch, 1, 2, generator=torch.Generator().manual_seed(seed))
    axis = torch.arange(size, dtype=torch.float32)
    x, y = (centre[:, 0] * size).unbind(-1)
    squared = (axis[None, None, :] - x[:, None, None]) ** 2 + (axis[None, :, None] - y[:, None, None]) ** 2
    return torch.exp(-squared / (2 * 2.5**2))[:, None], centre


def centroid(image: Tensor) -> Tensor:
    """x, y in pixels, (B, 2)."""
    y, x = (torch.arange(n, dtype=torch.float32) for n in image.shape[-2:])
    mass = image.sum((1, 2, 3))
    return torch.stack([(image * x).sum((1, 2, 3)), (image * y[:, None]).sum((1, 2, 3))], 1) / mass[:, None]


@pytest.mark.parametrize("name", [*SPATIAL, "all"])
def test_landmarks_and_masks_move_with_the_image(name: str) -> None:
    torch.manual_seed(1)
    image, landmarks = blobs(24)
    masks = torch.nn.functional.avg_pool2d(image, 4)
    config = replace(OFF, **(SPATIAL if name == "all" else {name: SPATIAL[name]}))
    moved, points, moved_masks = warp(image, landmarks, masks, config)
    assert moved_masks is not None
    assert float((points - landmarks).abs().max() * SIZE) > 1.0
    # An elastic field stretches the blob itself, so that its centroid is only nearly where its centre went.
    assert float((centroid(moved) - points[:, 0] * SIZE).norm(dim=1).max()) < 0.6
    in_pixels = (centroid(moved_masks) + 0.5) * 4 - 0.5
    assert float((in_pixels - points[:, 0] * SIZE).norm(dim=1).max()) < 0.6


def test_the_grey_value_under_a_landmark_stays_there() -> None:
    _, landmarks = blobs(24)
    ramp = torch.arange(SIZE, dtype=torch.float32).expand(24, 1, SIZE, SIZE)
    for axis, image in enumerate((ramp, ramp.mT)):
        torch.manual_seed(5)
        moved, points, _ = warp(image.contiguous(), landmarks, None, replace(OFF, **SPATIAL))
        found = sample_points(moved, points + 0.5 / SIZE, align="frame")
        torch.testing.assert_close(found[..., 0], landmarks[..., axis] * SIZE, rtol=0, atol=0.02)


def test_turning_moves_about_the_middle_of_the_frame() -> None:
    torch.manual_seed(0)
    image, landmarks = blobs(16)
    _, points, _ = warp(image, landmarks, None, replace(OFF, rotation_deg=30.0))
    middle = (SIZE - 1) / 2 / SIZE
    before, after = (landmarks - middle).norm(dim=-1), (points - middle).norm(dim=-1)
    torch.testing.assert_close(before, after, rtol=0, atol=1e-5)


def test_without_strengths_nothing_changes() -> None:
    image, landmarks = blobs(3)
    masks = torch.rand(3, 2, SIZE // 4, SIZE // 4)
    new_image, new_landmarks, new_masks = augment(image, landmarks, masks, OFF)
    torch.testing.assert_close(new_image, image, rtol=0, atol=1e-5)
    torch.testing.assert_close(new_landmarks, landmarks, rtol=0, atol=1e-6)
    torch.testing.assert_close(new_masks, masks, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", COLOUR)
def test_every_recolouring_acts_alone_and_stays_in_range(name: str) -> None:
    torch.manual_seed(0)
    image = 0.2 + 0.6 * torch.rand(8, 1, SIZE, SIZE)
    new = recolour(image, replace(OFF, **{name: COLOUR[name]}))
    assert float((new - image).abs().amax((1, 2, 3)).median()) > 0.01
    assert 0 <= float(new.min()) <= float(new.max()) <= 1


def test_inversion_swaps_black_and_white_but_leaves_the_padding() -> None:
    image = 0.1 + 0.8 * torch.rand(2, 1, SIZE, SIZE)
    image[..., :10] = 0
    new = recolour(image, replace(OFF, invert_p=1.0))
    torch.testing.assert_close(new[..., 10:], 1 - image[..., 10:])
    assert not new[..., :10].any()


def test_probabilities_are_per_image() -> None:
    torch.manual_seed(0)
    image = 0.1 + 0.8 * torch.rand(400, 1, 16, 16)
    changed = (recolour(image, replace(OFF, invert_p=0.3)) - image).abs().amax((1, 2, 3)) > 0.1
    assert 0.2 < float(changed.float().mean()) < 0.4


def test_images_of_a_batch_differ() -> None:
    torch.manual_seed(0)
    image, landmarks = blobs(1)
    image, landmarks = image.expand(4, -1, -1, -1), landmarks.expand(4, -1, -1)
    new, points, _ = augment(image, landmarks, None, AugmentConfig())
    assert len({tuple(p.flatten().tolist()) for p in points}) == 4
    assert len({float(i.sum()) for i in new}) == 4


def test_a_seed_repeats_the_draw() -> None:
    image, landmarks = blobs(2)
    results = []
    for seed in (3, 3, 4):
        torch.manual_seed(seed)
        results.append(augment(image, landmarks, None, AugmentConfig()))
    assert torch.equal(results[0][0], results[1][0])
    assert torch.equal(results[0][1], results[1][1])
    assert not torch.equal(results[0][0], results[2][0])
    assert not torch.equal(results[0][1], results[2][1])
