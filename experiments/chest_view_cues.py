"""What a segmenting network itself shows of a wrong view: cheap cues, and how well each of them tells.

Measured on hybridgnet-chexmask: its landmarks against a shape space, its landmarks against its own auxiliary
masks, its latent code and its deepest features against those of upright training images.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np
import torch
from chest_view_pictures import Picture

import anatozoo
from anatozoo.nn.graphs import organ_slices

CHECKPOINT = "hybridgnet-chexmask"
COMPONENTS = 20
CUES = {
    "residual": f"landmarks: distance from the space of {COMPONENTS} shape components, after alignment",
    "shape": "landmarks: distance from the mean shape within that space",
    "angle": "landmarks: angle of the alignment",
    "masks": "landmarks: disagreement with the network's auxiliary masks",
    "code": "latent code: Mahalanobis distance",
    "features": "mean of the deepest features: Mahalanobis distance",
}
Outputs = dict[str, np.ndarray]


@torch.inference_mode()
def outputs_of(frames: Sequence[Picture]) -> Outputs:
    """What the network makes of pictures (512, 512)."""
    module: Any = anatozoo.load(CHECKPOINT)
    network = module.eval().network
    found: dict[str, list[np.ndarray]] = {"landmarks": [], "code": [], "features": [], "masks": []}
    for frame in frames:
        picture = torch.from_numpy(np.ascontiguousarray(frame))[None, None]
        maps, output = network.encoder(picture), network(picture)
        landmarks = output.landmarks[0].numpy()
        found["landmarks"].append(landmarks)
        found["code"].append(output.mu[0].numpy())
        found["features"].append(maps[6].mean((2, 3))[0].numpy())
        found["masks"].append(_disagreement(landmarks, output.dense[0].numpy(), organ_slices(module.organs)))
    return {key: np.stack(values).astype(np.float64) for key, values in found.items()}


def _disagreement(landmarks: np.ndarray, dense: np.ndarray, parts: Mapping[str, slice]) -> np.ndarray:
    side, dice = dense.shape[-1], []
    for channel, part in enumerate(parts.values()):
        polygon = np.zeros((side, side), np.uint8)
        cv2.fillPoly(polygon, [np.rint(landmarks[part] * side).astype(np.int32)], 1)
        given = dense[channel] > 0
        dice.append(2 * np.sum(polygon & given) / max(polygon.sum() + given.sum(), 1))
    return np.array(1 - np.mean(dice))


def cues_of(pictures: Outputs, reference: Outputs) -> dict[str, np.ndarray]:
    """A number per picture and cue, larger for stranger pictures; `reference`: upright training images."""
    mean = reference["landmarks"].mean(0)
    known = np.stack([_aligned(x, mean)[0].ravel() for x in reference["landmarks"]])
    centre = known.mean(0)
    _, sizes, axes = np.linalg.svd(known - centre, full_matrices=False)
    axes, sizes = axes[:COMPONENTS], sizes[:COMPONENTS] / np.sqrt(len(known))
    aligned = [_aligned(x, mean) for x in pictures["landmarks"]]
    away = np.stack([shape.ravel() for shape, _ in aligned]) - centre
    weights = away @ axes.T
    return {
        "residual": np.linalg.norm(away - weights @ axes, axis=1),
        "shape": np.linalg.norm(weights / sizes, axis=1),
        "angle": np.array([abs(angle) for _, angle in aligned]),
        "masks": pictures["masks"],
        "code": _mahalanobis(pictures["code"], reference["code"]),
        "features": _mahalanobis(pictures["features"], reference["features"]),
    }


def _aligned(points: np.ndarray, mean: np.ndarray) -> tuple[np.ndarray, float]:
    """Points moved, turned and scaled onto the mean shape, and the angle in degrees."""
    a, b = points - points.mean(0), mean - mean.mean(0)
    left, values, right = np.linalg.svd(a.T @ b)
    turn = left @ np.diag([1, np.sign(np.linalg.det(left @ right))]) @ right
    scale = values.sum() / max((a**2).sum(), 1e-12)
    return scale * a @ turn + mean.mean(0), float(np.degrees(np.arctan2(turn[0, 1], turn[0, 0])))


def _mahalanobis(x: np.ndarray, reference: np.ndarray, shrinkage: float = 0.3) -> np.ndarray:
    mean, covariance = reference.mean(0), np.cov(reference.T)
    ball = np.trace(covariance) / len(covariance) * np.eye(len(covariance))
    inverse = np.linalg.inv((1 - shrinkage) * covariance + shrinkage * ball)
    return np.sqrt(np.einsum("ni,ij,nj->n", x - mean, inverse, x - mean))


def auroc(strange: np.ndarray, upright: np.ndarray) -> float:
    """Probability that a strange picture has the larger value, ties by half."""
    difference = strange[:, None] - upright[None]
    return float(np.mean(difference > 0) + 0.5 * np.mean(difference == 0))
