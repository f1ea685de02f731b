"""A step of gradient surgery against a plain step of the same batch, for a U-Net.

    python benchmarks/agreement.py [--size 96] [--batch 24] [--threads 1] [--rounds 5]

The goal is at most the number of domains + 0.3 plain steps. Times are of the processor, the shortest of some
rounds that take turns, so that other work matters little.
"""

import argparse
import time
from collections.abc import Callable
from typing import Any, get_args

import torch

from anatozoo.frames.spec import FrameSpec
from anatozoo.methods.unet.module import UNetModule
from anatozoo.objectives import Agreement
from anatozoo.objectives.agreement import Rule

DOMAINS = (2, 3, 4)
ENCODER = "tf_efficientnet_lite0"


def plain(module: UNetModule, batch: dict[str, torch.Tensor]) -> None:
    """The gradients of one loss over the batch."""
    sum(module.losses(module.answer(batch), batch).values()).backward()  # type: ignore[union-attr]


def surgery(agreement: Agreement, module: UNetModule, batch: dict[str, torch.Tensor]) -> None:
    """The gradients of the domains, combined."""
    losses = [
        torch.stack(list(module.losses(module.answer(part), part).values())).sum()
        for part in agreement.parts(batch)
    ]
    agreement.learn(losses, module)


def seconds(step: Callable[[], None], module: UNetModule) -> float:
    """Time of the processor for one step."""
    module.zero_grad()
    start = time.process_time()
    step()
    return time.process_time() - start


def main() -> None:
    """Parse the options, then measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--batch", type=int, default=24, help="a multiple of 12 (default: 24)")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    module = UNetModule(organs=["heart"], frame=FrameSpec(options.size), encoder=ENCODER)
    module.to(memory_format=torch.channels_last)
    batch: dict[str, Any] = {
        "image": torch.rand(options.batch, 1, options.size, options.size),
        "labels": torch.randint(2, (options.batch, options.size, options.size)),
        "known": torch.ones(options.batch, 1),
    }
    steps: dict[str, Callable[[], None]] = {"plain": lambda: plain(module, batch)}
    for count in DOMAINS:
        given = batch | {"domain": torch.arange(options.batch) % count}
        for how in get_args(Rule):
            rule = Agreement(how)
            steps[f"{how}, {count} domains"] = lambda rule=rule, given=given: surgery(rule, module, given)  # type: ignore[misc]
    times = {name: [seconds(step, module) for _ in range(1)] for name, step in steps.items()}  # warm up
    for _ in range(options.rounds):
        for name, step in steps.items():
            times[name].append(seconds(step, module))
    best = {name: min(found[1:]) for name, found in times.items()}
    for name, value in best.items():
        print(f"{name:22} {value * 1000:7.0f} ms   {value / best['plain']:.2f} x")


if __name__ == "__main__":
    main()
