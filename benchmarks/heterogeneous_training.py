"""An epoch over sources with different labels against an ordinary one, for HybridGNet and U-Net.

    python benchmarks/heterogeneous_training.py [--size 256] [--images 32] [--batch 8] [--threads 1]

The ordinary epoch takes each image once, with all organs. The other draws two sources with equal probability,
of which one has no heart. Both load, augment, and do steps of training on generated images in memory.
Times are of the processor, the shortest of some rounds that take turns, so that other work matters little.
"""

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from anatozoo.data.case import Case, Drawn
from anatozoo.frames.spec import FrameSpec
from anatozoo.io.grid import Grid
from anatozoo.io.images import Image
from anatozoo.methods.hybridgnet.data import HybridGNetDataModule
from anatozoo.methods.hybridgnet.module import HybridGNetModule
from anatozoo.methods.unet.data import UNetDataModule
from anatozoo.methods.unet.module import UNetModule
from anatozoo.organs import CHEST_ORGANS

ENCODER = "tf_efficientnet_lite0"
U_NETS: dict[str, dict[str, str]] = {
    "missing = either": {},
    "missing = background": {"missing": "background"},
    "UNet-HT": {"output": "organs"},
}


def generated(count: int, size: int) -> list[Case]:
    """Images of noise with an ellipse for each organ; two sources of unequal size, both with all organs."""
    random = np.random.default_rng(0)
    cases = []
    for number in range(count):
        pixels = random.random((size, size), np.float32) * 255
        landmarks = {}
        for organ, points in CHEST_ORGANS.items():
            angle = np.arange(points) / points * 2 * np.pi
            middle, radius = random.uniform(0.35, 0.65, 2), random.uniform(0.05, 0.2)
            landmarks[organ] = size * (middle + radius * np.stack([np.cos(angle), np.sin(angle)], 1))
        cases.append(_case(number, "A" if number % 4 else "B", pixels, landmarks))
    return cases


def _case(number: int, source: str, pixels: np.ndarray, landmarks: dict[str, np.ndarray]) -> Case:
    grid = Grid(pixels.shape[::-1])
    return Case(
        str(number),
        str(number),
        "train",
        source,
        frozenset(landmarks),
        lambda: Image(pixels),
        lambda organs, there: Drawn(grid, landmarks),
    )


def without_heart(case: Case) -> Case:
    """The case, without its heart where it is of source B."""
    if case.domain != "B" or case.draw is None:
        return case
    drawn = case.draw((), None)
    rest = {organ: points for organ, points in drawn.landmarks.items() if organ != "heart"}
    return replace(case, organs=frozenset(rest), draw=lambda organs, grid: Drawn(drawn.grid, rest))


def epoch(module: Any, data: Any, cases: Sequence[Case]) -> Callable[[], None]:
    """A function that trains one epoch; images are in memory already."""
    data.sets = {"train": data.dataset(cases, "train")}
    for index in range(len(cases)):
        data.sets["train"][index]
    module.train()
    optimiser = torch.optim.AdamW(module.parameters(), 1e-4)
    module.encoder_part.to(memory_format=torch.channels_last)

    def run() -> None:
        for batch in data.train_dataloader():
            ready = data.prepare(batch, training=True)
            optimiser.zero_grad()
            with torch.autocast("cpu", torch.bfloat16):
                terms = module.losses(module.answer(ready), ready)
            torch.stack(list(terms.values())).sum().backward()
            optimiser.step()

    return run


def main() -> None:
    """Parse the options and measure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--images", type=int, default=32)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    frame, cases = FrameSpec(options.size), generated(options.images, options.size)
    partly = [without_heart(case) for case in cases]

    def hybridgnet(balance: str | None) -> tuple[Any, Any]:
        data = HybridGNetDataModule(".", frame=frame, batch_size=options.batch, balance=balance)
        return HybridGNetModule(frame=frame, encoder=ENCODER, template=True), data

    def unet(balance: str | None, **settings: Any) -> tuple[Any, Any]:
        data = UNetDataModule(".", frame=frame, batch_size=options.batch, balance=balance)
        return UNetModule(frame=frame, encoder=ENCODER, **settings), data

    runs = {"HybridGNet": (epoch(*hybridgnet(None), cases), epoch(*hybridgnet("domain"), partly))}
    ordinary = epoch(*unet(None), cases)
    for name, settings in U_NETS.items():
        runs[f"U-Net, {name}"] = ordinary, epoch(*unet("domain", **settings), partly)
    print(f"{'network':>28} {'ordinary s':>10} {'sources s':>10} {'ratio':>6}")
    for name, both in runs.items():
        best = [float("inf"), float("inf")]
        both[0]()  # warm-up
        both[1]()
        for _ in range(options.rounds):
            for i, run in enumerate(both):
                start = time.process_time()
                run()
                best[i] = min(best[i], time.process_time() - start)
        print(f"{name:>28} {best[0]:>10.2f} {best[1]:>10.2f} {best[1] / best[0]:>5.2f}x", flush=True)


if __name__ == "__main__":
    main()
