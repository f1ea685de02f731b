"""Surface metrics against MONAI in time and memory, and an epoch's metrics against its forward passes.

    python benchmarks/metrics.py [--images 50] [--threads 2] [--out FILE.json]

All is measured in one run, on one thread but for the network, and every number of ours is compared with that
of MONAI. The command ends with 1 where a target is missed. HD, HD95, ASSD and NSD are read from one
computation per organ; MONAI needs a call for each, and takes all organs of an image in one.
"""

import argparse
import json
import multiprocessing
import resource
import sys
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from anatozoo.metrics.functional import surface_distances

TOLERANCE = 2.05  # no distance between pixels: rounding cannot decide on which side of it one lies
CLOSE = 1e-6
# MONAI looks for its percentile at a rank in single precision, which is coarse among 40 000 distances.
CLOSE_IN_VOLUMES = 1e-4
Masks = list[np.ndarray]

# Control points round each organ as fractions of the picture's sides, joined by a smooth curve.
CHEST = {
    "lung_right": [
        (0.37, 0.14),
        (0.44, 0.24),
        (0.45, 0.45),
        (0.42, 0.63),
        (0.30, 0.68),
        (0.16, 0.80),
        (0.15, 0.60),
    ]
    + [(0.18, 0.40), (0.25, 0.23)],
    "lung_left": [
        (0.64, 0.14),
        (0.76, 0.23),
        (0.84, 0.40),
        (0.88, 0.60),
        (0.88, 0.79),
        (0.74, 0.71),
        (0.70, 0.60),
    ]
    + [(0.60, 0.47), (0.57, 0.40), (0.57, 0.24)],
    "heart": [
        (0.45, 0.45),
        (0.52, 0.40),
        (0.59, 0.44),
        (0.67, 0.55),
        (0.73, 0.66),
        (0.70, 0.72),
        (0.55, 0.74),
    ]
    + [(0.44, 0.70), (0.42, 0.58)],
}


def contour(organ: str, size: int, rng: np.random.Generator | None = None) -> np.ndarray:
    """Landmarks (180, 2) of an organ in a picture of `size`; with `rng`, off by up to about 1 % of it."""
    knots = np.array(CHEST[organ]) * size
    waves = np.fft.rfft(knots, axis=0)
    curve = np.fft.irfft(waves, 180, axis=0) * (180 / len(knots))
    if rng is not None:
        turn = np.arange(180)[:, None] * 2 * np.pi / 180
        for k in (1, 2, 3, 5, 8):
            curve += rng.normal(0, 0.003 * size / k**0.5, 2) * np.cos(k * turn + rng.uniform(0, 2 * np.pi, 2))
    return curve


def chest_masks(size: int) -> tuple[Masks, Masks]:
    """Masks (size, size) of three organs as a good network finds them, and as they are."""
    rng = np.random.default_rng(0)

    def fill(points: np.ndarray) -> np.ndarray:
        canvas = np.zeros((size, size), np.uint8)
        cv2.fillPoly(canvas, [np.rint(points).astype(np.int32)], 1)
        return canvas.astype(bool)

    return [fill(contour(o, size, rng)) for o in CHEST], [fill(contour(o, size)) for o in CHEST]


def volume_masks(shape: tuple[int, int, int]) -> tuple[Masks, Masks]:
    """Masks (D, H, W) of two organs with wavy surfaces, and the same with other waves."""
    z, y, x = np.meshgrid(*(np.linspace(-1, 1, side) for side in shape), indexing="ij", sparse=True)

    def organ(centre: tuple[float, float, float], radii: tuple[float, float, float], seed: int) -> np.ndarray:
        a, b, c, d = np.random.default_rng(seed).normal(0, 0.04, 4)
        square = sum(((u - m) / r) ** 2 for u, m, r in zip((x, y, z), centre, radii, strict=True))
        bumps = a * np.sin(5 * x) + b * np.sin(7 * y) + c * np.cos(6 * z) + d * np.sin(9 * x * y)
        return square * (1 + bumps) < 1

    places = [((-0.4, 0.0, 0.0), (0.25, 0.5, 0.6)), ((0.35, 0.1, 0.1), (0.35, 0.4, 0.5))]
    return [organ(*place, seed) for seed, place in enumerate(places)], [
        organ(*place, seed + 2) for seed, place in enumerate(places)
    ]


def ours(prediction: Masks, reference: Masks, spacing: tuple[float, ...] | None) -> np.ndarray:
    """HD, HD95, ASSD and NSD of each organ, (4, organs)."""
    rows = []
    for a, b in zip(prediction, reference, strict=True):
        distances = surface_distances(a, b, spacing)
        rows.append(
            (distances.hausdorff(), distances.hausdorff(95), distances.assd(), distances.nsd(TOLERANCE))
        )
    return np.array(rows).T


def monai(prediction: Any, reference: Any, spacing: tuple[float, ...] | None) -> np.ndarray:
    """The same by MONAI from tensors (1, organs, ...)."""
    from monai.metrics import (
        compute_average_surface_distance,
        compute_hausdorff_distance,
        compute_surface_dice,
    )

    options: dict[str, Any] = {
        "include_background": True,
        "spacing": None if spacing is None else spacing[::-1],
    }
    thresholds = [TOLERANCE] * prediction.shape[1]
    rows = [
        compute_hausdorff_distance(prediction, reference, percentile=None, **options),
        compute_hausdorff_distance(prediction, reference, percentile=95, **options),
        compute_average_surface_distance(prediction, reference, symmetric=True, **options),
        compute_surface_dice(prediction, reference, class_thresholds=thresholds, **options),
    ]
    return np.concatenate([row.double().numpy() for row in rows])


def milliseconds(seconds: float, *runs: Callable[[], object]) -> list[float]:
    """Median of each over calls within the given time, at least three; they take turns on a busy machine."""
    durations: list[list[float]] = [[] for _ in runs]
    for run in runs:
        run()
    end = time.perf_counter() + seconds
    while len(durations[0]) < 3 or time.perf_counter() < end:
        for run, spent in zip(runs, durations, strict=True):
            start = time.perf_counter()
            run()
            spent.append(time.perf_counter() - start)
    return [1000 * sorted(spent)[len(spent) // 2] for spent in durations]


def against_monai(
    masks: tuple[Masks, Masks],
    spacing: tuple[float, ...] | None,
    seconds: float,
    target: float,
    close: float = CLOSE,
) -> dict[str, Any]:
    """Milliseconds of both, their ratio, and the largest difference of any number of either."""
    import torch

    prediction, reference = masks
    x, y = (torch.from_numpy(np.stack(side)).float()[None] for side in masks)
    with warnings.catch_warnings():
        # MONAI calls itself with an argument that it has deprecated.
        warnings.filterwarnings("ignore", ".*always_return_as_numpy", FutureWarning)
        ours_ms, theirs_ms = milliseconds(
            seconds, lambda: ours(prediction, reference, spacing), lambda: monai(x, y, spacing)
        )
        theirs = monai(x, y, spacing)
    found = ours(prediction, reference, spacing)
    difference = float(np.abs(found - theirs).max())
    return {
        "ours_ms": ours_ms,
        "monai_ms": theirs_ms,
        "ratio": theirs_ms / ours_ms,
        "target_ratio": target,
        "largest_difference": difference,
        "allowed_difference": close,
        "largest_distance": float(found[0].max()),
        "met": bool(theirs_ms >= target * ours_ms and difference <= close),
    }


def peak_memory(kind: str, size: int, answer: Any) -> None:
    """Put the peak resident memory in MB of this process before and after the metrics of one image."""
    masks = chest_masks(size)
    if kind == "noise":  # the most surface that a mask can have
        rng = np.random.default_rng(0)
        masks = tuple([rng.random((size, size)) < 0.5] for _ in range(2))  # type: ignore[assignment]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    ours(*masks, None)
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    unit = 2**20 if sys.platform == "darwin" else 2**10
    answer.put({"before_mb": before / unit, "peak_mb": after / unit, "met": after / unit < 1000})


def memory(kind: str, size: int) -> dict[str, Any]:
    """`peak_memory` of a fresh process, in which nothing else has ever been large."""
    context = multiprocessing.get_context("spawn")
    answer = context.Queue()
    process = context.Process(target=peak_memory, args=(kind, size, answer))
    process.start()
    result: dict[str, Any] = answer.get(timeout=300)
    process.join()
    return result


def epoch(name: str, images: int, size: int, threads: int) -> dict[str, Any]:
    """Seconds for the rows of all images, and for the network's forward passes on them one at a time."""
    import torch

    import anatozoo
    from anatozoo.io.annotation import Annotation
    from anatozoo.metrics.cases import Case, case_row

    model = anatozoo.load(name)
    rng = np.random.default_rng(0)
    cases = []
    for _ in range(images):
        sides = [{organ: contour(organ, size, r) for organ in CHEST} for r in (rng, None)]
        prediction, reference = (
            Annotation((size, size), landmarks=side, spacing_mm=(0.35, 0.35)) for side in sides
        )
        cases.append(Case(prediction, reference))
    torch.set_num_threads(threads)
    batch = torch.rand(1, 1, model.side, model.side)
    with torch.inference_mode():
        model.forward_landmarks(batch)
        start = time.perf_counter()
        for _ in range(images):
            model.forward_landmarks(batch)
        forward = time.perf_counter() - start
    case_row(cases[0])
    start = time.perf_counter()
    for case in cases:
        case_row(case)
    metrics = time.perf_counter() - start
    return {
        "images": images,
        "input_size": model.side,
        "metrics_s": metrics,
        "forward_s": forward,
        "metrics_per_forward": metrics / forward,
        "met": metrics < forward,
    }


def show(title: str, result: Mapping[str, Any]) -> None:
    """Print one measurement."""
    numbers = ", ".join(
        f"{name} {value:.3g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in result.items()
        if name != "met"
    )
    print(f"{title}: {numbers}: {'met' if result['met'] else 'MISSED'}", flush=True)


def main() -> int:
    """Parse the options and measure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, default=2, help="of the network's forward passes")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each comparison")
    parser.add_argument("--images", type=int, default=50, help="of the validation epoch; 0 leaves it out")
    parser.add_argument("--checkpoint", default="hybridgnet-jsrt", help="network of the validation epoch")
    parser.add_argument("--out", type=Path, help="write the numbers as JSON")
    options = parser.parse_args()

    results = {f"memory at 2048 x 2048, {kind}": memory(kind, 2048) for kind in ("organs", "noise")}
    for title, result in results.items():
        show(title, result)
    import torch

    torch.set_num_threads(1)
    cv2.setNumThreads(1)

    def add(title: str, result: dict[str, Any]) -> None:
        results[title] = result
        show(title, result)

    for size in (1024, 2048):
        add(
            f"three organs at {size} x {size}, px", against_monai(chest_masks(size), None, options.seconds, 6)
        )
    spacing = (0.8, 0.8, 1.5)
    volume = volume_masks((128, 256, 256))
    add(
        "two organs in 256 x 256 x 128, px", against_monai(volume, None, options.seconds, 2, CLOSE_IN_VOLUMES)
    )
    add(
        "two organs in 256 x 256 x 128, mm",
        against_monai(volume, spacing, options.seconds, 2, CLOSE_IN_VOLUMES),
    )
    if options.images:
        add(
            "rows of an epoch at 1024 x 1024",
            epoch(options.checkpoint, options.images, 1024, options.threads),
        )
    if options.out:
        options.out.write_text(json.dumps(results, indent=1) + "\n")
    return 0 if all(result["met"] for result in results.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
