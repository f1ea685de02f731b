"""Training steps per second of HybridGNet against the authors' way of computing it, in one run.

    python benchmarks/hybridgnet_training.py [--sizes 512] [--batch 4] [--threads 2] [--seconds 10]

A step is forward, the paper's loss, backward and Adam, at batch 4 as in the paper.
"""

import argparse

import torch
from hybridgnet_inference import rate
from hybridgnet_reference import Reference
from torch import nn

from anatozoo.frames.spec import FrameSpec
from anatozoo.methods.hybridgnet.module import HybridGNetModule


def stepper(
    module: HybridGNetModule, network: nn.Module, batch: dict[str, torch.Tensor], *, bf16: bool = False
) -> object:
    """A function that trains `network` by one step with the losses of `module`."""
    optimizer = torch.optim.Adam(network.parameters(), 1e-4)

    def step() -> None:
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
            output = network(batch["image"])
        torch.stack(list(module.losses(output, batch).values())).sum().backward()
        optimizer.step()

    return step


def main() -> None:
    """Parse the options and measure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", type=int, nargs="+", default=[512])
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=10.0)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(f"{'size':>5} {'how':>10} {'images/s':>9} {'ratio':>6}")
    for size in options.sizes:
        module = HybridGNetModule(organs="lungs_heart", frame=FrameSpec(size))
        batch = {
            "image": torch.rand(options.batch, 1, size, size),
            "landmarks": torch.rand(options.batch, 120, 2),
            "landmark_weight": torch.ones(options.batch, 120),
        }
        reference = Reference(module.network, skips=(6, 5))
        base = rate(stepper(module, reference, batch), options.batch, options.seconds)  # type: ignore[arg-type]
        print(f"{size:>5} {'reference':>10} {base:>9.2f} {1:>5.2f}x", flush=True)
        last = batch | {"image": batch["image"].contiguous(memory_format=torch.channels_last)}
        module.network.encoder.to(memory_format=torch.channels_last)
        compiled = torch.compile(module.network)
        for how, network in (
            ("eager", module.network),
            ("bf16 eager", module.network),
            ("compiled", compiled),
        ):
            step = stepper(module, network, last, bf16=how.startswith("bf16"))  # type: ignore[arg-type]
            speed = rate(step, options.batch, options.seconds)  # type: ignore[arg-type]
            print(f"{size:>5} {how:>10} {speed:>9.2f} {speed / base:>5.2f}x", flush=True)


if __name__ == "__main__":
    main()
