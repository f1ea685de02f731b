"""Where gradients of convolutions under autocast on a CPU are wrong, with torch's layers and with ours.

    python benchmarks/half_precision.py [--repeats 3] [--dims 2 3]

Every layer runs in a process of its own, for some end it. Each row says how many of the maps with 1 to 6
pixels a side have a gradient of the weight that is off by more than 5 % of its largest value, and up to which
shortest side there are such maps. The command ends with 1 where ours are off.
"""

import argparse
import itertools
import multiprocessing
import sys
from typing import Any

import torch
from torch import nn

from anatozoo.nn.half_precision import full_where_small

SIDES = range(1, 7)
OFF = 0.05
CHANNELS = (16, 32)
LAYERS: dict[str, tuple[str, dict[str, Any]]] = {
    "3, stride 1": ("Conv", {"kernel_size": 3, "padding": 1}),
    "3, stride 2": ("Conv", {"kernel_size": 3, "padding": 1, "stride": 2}),
    "5, stride 1": ("Conv", {"kernel_size": 5, "padding": 2}),
    "1, stride 1": ("Conv", {"kernel_size": 1}),
    "2, stride 2": ("Conv", {"kernel_size": 2, "stride": 2}),
    "2, stride 2, transposed": ("ConvTranspose", {"kernel_size": 2, "stride": 2}),
    "3, stride 2, transposed": ("ConvTranspose", {"kernel_size": 3, "padding": 1, "stride": 2}),
}


def is_off(layer: nn.Module, shape: tuple[int, ...], repeats: int) -> bool:
    """Whether the gradient of the weight is wrong when freed memory holds no numbers."""
    weight: Any = layer.weight
    x = torch.randn(2, CHANNELS[0], *shape).bfloat16().float()
    with torch.no_grad():
        weight.copy_(weight.bfloat16())
    y = layer(x)
    slope = torch.randn_like(y).bfloat16().float()
    (expected,) = torch.autograd.grad(y, weight, slope)
    for _ in range(repeats):
        rubbish = [torch.full((size,), torch.nan) for size in (64, 1000, 7000, 30000) for _ in range(8)]
        del rubbish
        with torch.autocast("cpu", torch.bfloat16):
            y = layer(x)
        (found,) = torch.autograd.grad(y, weight, slope.to(y.dtype))
        if not float((found - expected).abs().max() / expected.abs().max()) < OFF:
            return True
    return False


def examine(name: str, dims: int, ours: bool, repeats: int, results: Any) -> None:
    """Put the maps of a layer whose gradients are off."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    kind, settings = LAYERS[name]
    layer = getattr(nn, f"{kind}{dims}d")(*CHANNELS, **settings)
    if ours:
        full_where_small(layer)
    least = layer.kernel_size[0] - 2 * layer.padding[0]
    shapes = [shape for shape in itertools.product(SIDES, repeat=dims) if min(shape) >= least]
    results.put((len(shapes), [shape for shape in shapes if is_off(layer, shape, repeats)]))


def report(name: str, dims: int, ours: bool, repeats: int) -> bool:
    """Print a row; whether all is well."""
    context = multiprocessing.get_context("spawn")
    results: Any = context.SimpleQueue()
    process = context.Process(target=examine, args=(name, dims, ours, repeats, results))
    process.start()
    process.join()
    row = f"{dims}-D {name:<24} {'ours' if ours else 'torch':<6}"
    if process.exitcode:
        print(f"{row} the process ended with {process.exitcode}", flush=True)
        return False
    count, off = results.get()
    sides = f", of shortest sides up to {max(min(shape) for shape in off)}" if off else ""
    print(f"{row} {len(off):>3} of {count} maps{sides}", flush=True)
    return not off


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--repeats", type=int, default=3, help="gradients per map")
    parser.add_argument("--dims", type=int, nargs="+", default=[2, 3], choices=[2, 3])
    args = parser.parse_args()
    print(f"torch {torch.__version__}, {torch.backends.cpu.get_cpu_capability()}")
    well = True
    for dims, name in itertools.product(args.dims, LAYERS):
        report(name, dims, False, args.repeats)
        well = report(name, dims, True, args.repeats) and well
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main())
