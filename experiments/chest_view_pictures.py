"""Pictures that the check of the view learns and is tried on: chests, and what is no frontal chest."""

import json
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import SimpleITK as sitk

from anatozoo.frames.square import to_network
from anatozoo.io.chest import ChestCase, index_chest
from anatozoo.io.images import read_image
from anatozoo.tasks.chest_view import SIDE, without_edges

KEPT = 128
"""Side in which pictures are kept before augmentation."""
FRAME = 512
Picture = npt.NDArray[np.float32]
Rng = np.random.Generator


def chest_cases(root: Path) -> dict[str, list[ChestCase]]:
    """Frontal radiographs: ``jsrt/train``, ``jsrt/val``, and by patient ``covid/train``, ``covid/val``."""
    found = {}
    jsrt = [case for case in index_chest(root, "jsrt") if case.image is not None]
    covid = index_chest(root, "covid")
    for split in ("train", "val"):
        found[f"jsrt/{split}"] = [case for case in jsrt if case.split == split]
        found[f"covid/{split}"] = [case for case in covid if case.split == split]
    return found


def chest_frame(case: ChestCase) -> Picture:
    """A radiograph in a network's frame, (512, 512) in [0, 1], of 256 grey levels as in training."""
    return np.round(to_network(case.read_image(), FRAME)[0] * 255).astype(np.float32) / 255


def slice_frames(root: Path, data: str, split: str, rng: Rng, most: int) -> list[Picture]:
    """A slice of each of some volumes of ``acdc`` or ``hippocampus``, in a network's frame."""
    names = json.loads((root / data / "splits.json").read_text(encoding="utf-8"))[split]
    folder = root / data / {"acdc": "training", "hippocampus": "imagesTr"}[data]
    files = [path for path in sorted(folder.glob("**/*.nii.gz")) if "_gt" not in path.name]
    mine = [path for path in files if any(str(name) in path.as_posix() for name in names)]
    frames = []
    for i in sorted(rng.permutation(len(mine))[:most]):
        volume = sitk.GetArrayFromImage(sitk.ReadImage(str(mine[i]))).astype(np.float32)
        plane = volume[rng.integers(len(volume))]
        if plane.max() > plane.min():
            frames.append(to_network(read_image(plane), FRAME)[0])
    return frames


def kept(frame: Picture) -> Picture:
    """A frame without dark edges, (128, 128)."""
    small: Picture = cv2.resize(without_edges(frame), (KEPT, KEPT), interpolation=cv2.INTER_AREA)
    return small


def moved(rng: Rng, picture: Picture, turn: float = 14.0, zoom: tuple[float, float] = (0.8, 1.3)) -> Picture:
    """Turned a little, scaled, stretched and shifted at random; (64, 64)."""
    angle, side = np.deg2rad(rng.uniform(-turn, turn)), picture.shape[0]
    scale = rng.uniform(*zoom) * np.array([1, rng.uniform(0.85, 1.18)])
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    matrix, centre = rotation @ np.diag(scale), np.array([side / 2, side / 2])
    offset = centre - matrix @ centre + rng.uniform(-0.1, 0.1, 2) * side
    border = cv2.BORDER_CONSTANT if rng.random() < 0.5 else cv2.BORDER_REPLICATE
    shrunk = np.c_[matrix, offset] * (SIDE / side)
    result: Picture = cv2.warpAffine(picture, shrunk, (SIDE, SIDE), flags=cv2.INTER_LINEAR, borderMode=border)
    return result


def toned(rng: Rng, picture: Picture) -> Picture:
    """Another exposure, blur, noise, and sometimes a rectangle of one grey level."""
    x = (picture - picture.min()) / (np.ptp(picture) + 1e-6)
    x = x ** np.exp(rng.uniform(-0.5, 0.5)) * rng.uniform(0.7, 1.3) + rng.uniform(-0.15, 0.15)
    if rng.random() < 0.3:
        x = cv2.GaussianBlur(x, (0, 0), rng.uniform(0.4, 1.3))
    x = x + rng.normal(0, rng.uniform(0, 0.06), x.shape)
    if rng.random() < 0.25:
        left, top = rng.integers(0, SIDE, 2)
        width, height = rng.integers(4, 24, 2)
        x[top : top + height, left : left + width] = rng.choice([0.0, 1.0, x.mean()])
    return np.clip(x, 0, 1).astype(np.float32)


def clouds(rng: Rng, side: int = KEPT) -> Picture:
    """Noise of several scales."""
    total, fall = np.zeros((side, side), np.float32), rng.uniform(0.4, 1.2)
    for k in range(1, 7):
        coarse = rng.normal(size=(2**k, 2**k)).astype(np.float32) * np.float32(2 ** (-fall * k))
        total += cv2.resize(coarse, (side, side), interpolation=cv2.INTER_CUBIC)
    return (total - total.min()) / np.ptp(total)


def shapes(rng: Rng, side: int = KEPT) -> Picture:
    """Ellipses, rectangles, lines and letters on one grey level or on clouds."""
    ground = clouds(rng, side) if rng.random() < 0.3 else np.full((side, side), rng.random(), np.float32)
    for _ in range(rng.integers(1, 9)):
        grey, (x, y) = float(rng.random()), (int(v) for v in rng.integers(0, side, 2))
        a, b = (int(v) for v in rng.integers(4, side // 2, 2))
        kind = rng.integers(4)
        if kind == 0:
            cv2.ellipse(ground, (x, y), (a, b), float(rng.uniform(0, 180)), 0, 360, grey, -1)
        elif kind == 1:
            cv2.rectangle(ground, (x, y), (x + a, y + b), grey, -1)
        elif kind == 2:
            cv2.line(ground, (x, y), (2 * a, 2 * b), grey, int(rng.integers(1, 20)))
        else:
            text, letters = (
                "".join(chr(rng.integers(65, 91)) for _ in range(5)),
                np.zeros((side, side), np.uint8),
            )
            cv2.putText(letters, text, (x - a, y), cv2.FONT_HERSHEY_SIMPLEX, rng.uniform(0.4, 2), 255, 2)
            ground[letters > 127] = grey
    result: Picture = cv2.GaussianBlur(ground, (0, 0), rng.uniform(0.5, 6))
    return result


def hand(rng: Rng, side: int = KEPT) -> Picture:
    """A drawn radiograph of a hand."""
    picture, unit = np.zeros((side, side), np.float32), side / 128
    centre = np.array([64, 80]) * unit + rng.normal(0, 5 * unit, 2)
    x, y = (int(v) for v in centre)
    cv2.ellipse(picture, (x, y), (int(24 * unit), int(28 * unit)), 0, 0, 360, 0.6, -1)
    cv2.rectangle(picture, (x - int(14 * unit), y), (x + int(14 * unit), side), 0.6, -1)
    for finger, angle in enumerate(np.deg2rad([-60, -20, -5, 10, 25]) + rng.normal(0, 0.06, 5)):
        length = rng.uniform(45, 70) * unit * (0.7 if finger == 0 else 1.0)
        way = np.array([np.sin(angle), -np.cos(angle)])
        start, end = ((centre + way * far).astype(int).tolist() for far in (10 * unit, length))
        cv2.line(picture, start, end, 0.5, max(1, int(12 * unit)))
        cv2.line(picture, start, end, 0.95, max(1, int(5 * unit)))
    result: Picture = cv2.GaussianBlur(picture, (0, 0), 1.2 * unit)
    return result


def half(rng: Rng, chest: Picture) -> Picture:
    """One half of a chest, stretched over the picture: one lung beside the spine, as from the side."""
    width, side = int(rng.integers(44, 66)), chest.shape[0]
    left = int(rng.choice([0, side - width]))
    part = chest[rng.integers(0, 20) : side - rng.integers(0, 20), left : left + width]
    result: Picture = cv2.resize(part, (side, side))
    return result


def tiles(rng: Rng, chest: Picture) -> Picture:
    """A chest cut into tiles, turned and put together in another order."""
    count = int(rng.integers(2, 5))
    edge = chest.shape[0] // count
    cut = [
        np.rot90(chest[i * edge : (i + 1) * edge, j * edge : (j + 1) * edge], rng.integers(4))
        for i in range(count)
        for j in range(count)
    ]
    order = rng.permutation(len(cut))
    rows = [np.hstack([cut[k] for k in order[i * count : (i + 1) * count]]) for i in range(count)]
    result: Picture = cv2.resize(np.vstack(rows), (KEPT, KEPT))
    return result


def piece(rng: Rng, chest: Picture) -> Picture:
    """A small piece of a chest, enlarged."""
    width = int(rng.integers(24, 56))
    left, top = rng.integers(0, chest.shape[0] - width, 2)
    result: Picture = cv2.resize(chest[top : top + width, left : left + width], (KEPT, KEPT))
    return result


def something_else(rng: Rng, chests: Picture, others: Picture) -> Picture:
    """A picture that is no frontal chest, before its tone is changed; (64, 64)."""
    chest, kind = chests[rng.integers(len(chests))], rng.random()
    if kind < 0.25:
        return moved(rng, others[rng.integers(len(others))], turn=180, zoom=(0.7, 2.0))
    if kind < 0.33:
        return moved(rng, clouds(rng))
    if kind < 0.45:
        return moved(rng, shapes(rng))
    if kind < 0.48:
        return moved(rng, hand(rng), turn=180)
    if kind < 0.68:
        return moved(rng, half(rng, chest), turn=20)
    if kind < 0.82:
        return moved(rng, tiles(rng, chest))
    if kind < 0.90:
        return moved(rng, piece(rng, chest), turn=180)
    return 1 - moved(rng, chest)


def file_frame(path: Path) -> Picture:
    """A picture file in a network's frame, whatever it shows."""
    return to_network(read_image(path, allow_any_modality=True), FRAME)[0]
