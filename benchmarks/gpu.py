"""Images per second on a GPU, and how near that is to what the chip can do.

    python benchmarks/gpu.py [--batches 1 16 128] [--seconds 3] [--out FILE]
    python benchmarks/gpu.py --device cpu --batches 1 --side 128 --seconds 0.1

HybridGNet of the zoo and the DynUNet of planes, in five ways: float32, bfloat16 under autocast, the same
with channels last, the same as a CUDA graph, and compiled (``--compile``; the first call takes a minute). A
CPU has no graph. A training step is measured in bfloat16 with channels last, of at most 16 images.

The ceiling is measured as well: the rate of a large product of matrices in bfloat16, and of copies within
the GPU's memory. A network that computes layer by layer takes no less time than its multiplications at the
one rate, nor than reading the input and writing the output of each layer once at the other; ``of the
ceiling`` is the larger of the two over the measured time, and a compiled network, which keeps maps in
registers, may exceed 1. Copies from pinned memory to the GPU stand beside those from ordinary memory. The
defaults need less than eight minutes.
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from anatozoo.nn.dynunet import DynUNet
from anatozoo.zoo.hub import load

GOAL = 0.6
"""Least share of the ceiling."""
TRAINED = 16
"""Images of a training step, at most."""


class Clock:
    """Times calls on a device.

    Args:
        device: ``"cuda"`` or ``"cpu"``.
        seconds: for which each call is repeated.
    """

    def __init__(self, device: str, seconds: float) -> None:
        self.device, self.seconds = device, seconds

    def wait(self) -> None:
        """Until the device has done what was asked."""
        if self.device == "cuda":
            torch.cuda.synchronize()

    def __call__(self, run: Callable[[], object]) -> float:
        """Seconds of a call, the mean of as many as fit, after three that are not counted."""
        for _ in range(3):
            run()
        self.wait()
        count, start = 0, time.perf_counter()
        while time.perf_counter() - start < self.seconds or not count:
            run()
            self.wait()
            count += 1
        return (time.perf_counter() - start) / count


def ceilings(clock: Clock) -> dict[str, float]:
    """Operations per second of a product in bfloat16, bytes per second of copies."""
    side, amount = (8192, 2**28) if clock.device == "cuda" else (512, 2**22)
    a = torch.rand(side, side, device=clock.device, dtype=torch.bfloat16)
    source = torch.rand(amount, device=clock.device)
    target, plain = torch.empty_like(source), torch.rand(2**24)
    found = {
        "operations/s": 2 * side**3 / clock(lambda: a @ a),
        "bytes/s": 2 * 4 * amount / clock(lambda: target.copy_(source)),
    }
    if clock.device == "cuda":
        pinned, there = plain.pin_memory(), torch.empty_like(plain, device="cuda")
        found["bytes/s to the GPU"] = 4 * plain.numel() / clock(lambda: there.copy_(plain))
        found["bytes/s to the GPU, pinned"] = (
            4 * plain.numel() / clock(lambda: there.copy_(pinned, non_blocking=True))
        )
    return found


def work(network: nn.Module, image: Tensor) -> tuple[float, float, float]:
    """What one image (1, 1, H, W) costs: operations, bytes of maps and bytes of weights, in bfloat16."""
    maps = 0

    def count(module: nn.Module, given: tuple[Any, ...], answer: Any) -> None:
        nonlocal maps
        maps += sum(2 * tensor.numel() for tensor in (*given, answer) if isinstance(tensor, Tensor))

    leaves = [module for module in network.modules() if not list(module.children())]
    hooks = [module.register_forward_hook(count) for module in leaves]
    # With gradients, as otherwise layers are fused, and nobody could count them.
    with FlopCounterMode(display=False) as counted:
        network(image)
    for hook in hooks:
        hook.remove()
    weights = sum(2 * weight.numel() for weight in network.parameters())
    return float(counted.get_total_flops()), float(maps), float(weights)


def in_bf16(network: Callable[[Tensor], object], device: str) -> Callable[[Tensor], object]:
    """A network under autocast."""

    def run(image: Tensor) -> object:
        with torch.autocast(device, torch.bfloat16):
            return network(image)

    return run


def graphed(run: Callable[[Tensor], object], image: Tensor) -> Callable[[], object]:
    """A call that replays a CUDA graph of a network on the same memory.

    Raises:
        RuntimeError: the network does what a graph cannot hold, as waiting for the GPU.
    """
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            run(image)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        run(image)
    return graph.replay


def trained(network: nn.Module, image: Tensor, device: str) -> Callable[[], object]:
    """A training step on the square of all outputs, whose cost is that of any loss of the same outputs."""
    optimizer = torch.optim.AdamW(network.parameters(), 1e-6, fused=device == "cuda")

    def step() -> None:
        optimizer.zero_grad()
        with torch.autocast(device, torch.bfloat16):
            answer = network(image)
        sum(tensor.float().square().mean() for tensor in tensors_of(answer)).backward()  # type: ignore[union-attr]
        optimizer.step()

    return step


def tensors_of(answer: Any) -> list[Tensor]:
    """Every tensor of an answer that has a gradient."""
    parts = (
        [answer] if isinstance(answer, Tensor) else list(getattr(answer, "__dict__", {}).values()) or answer
    )
    return [part for part in parts if isinstance(part, Tensor) and part.requires_grad]


def measure(
    network: nn.Module, side: int, options: argparse.Namespace, most: dict[str, float]
) -> dict[str, Any]:
    """All numbers of a network, by batch."""
    clock, device = Clock(options.device, options.seconds), options.device
    found: dict[str, Any] = {}
    operations, maps, weights = work(network.eval(), torch.rand(1, 1, side, side, device=device))
    for batch in options.batches:
        image = torch.rand(batch, 1, side, side, device=device)
        last = image.contiguous(memory_format=torch.channels_last)
        half = in_bf16(network, device)
        times: dict[str, float | str] = {}
        network.eval()
        with torch.inference_mode():
            times["fp32"] = clock(lambda: network(image))  # noqa: B023
            times["bf16"] = clock(lambda: half(image))  # noqa: B023
            times["bf16, channels last"] = clock(lambda: half(last))  # noqa: B023
            if device == "cuda":
                try:
                    times["bf16, CUDA graph"] = clock(graphed(half, last))
                except RuntimeError as error:
                    times["bf16, CUDA graph"] = f"not possible: {str(error).splitlines()[0]}"
            if options.compile:
                fast = in_bf16(torch.compile(network), device)
                times["bf16, compiled"] = clock(lambda: fast(last))  # noqa: B023
        if batch <= TRAINED:
            times["training step, bf16"] = clock(trained(network.train(), last, device))
        least = max(batch * operations / most["operations/s"], (batch * maps + weights) / most["bytes/s"])
        found[str(batch)] = {
            way: spent
            if isinstance(spent, str)
            else {
                "images/s": round(batch / spent, 1),
                **({} if "training" in way else {"of the ceiling": round(least / spent, 3)}),
            }
            for way, spent in times.items()
        }
        for way, numbers in found[str(batch)].items():
            print(f"  {batch:4} {way:24} {numbers}", flush=True)
    return found


def main() -> None:
    """Parse the options and measure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 16, 128])
    parser.add_argument("--seconds", type=float, default=3.0, help="of each way")
    parser.add_argument("--side", type=int, default=512, help="of DynUNet's frame")
    parser.add_argument("--compile", action="store_true", help="measure torch.compile as well")
    parser.add_argument("--out", type=Path, help="write the numbers as JSON")
    options = parser.parse_args()
    if options.device == "cuda" and not torch.cuda.is_available():
        parser.error(
            "this torch sees no GPU; --device cpu tries the script without one, and its shares mean nothing."
        )
    model: Any = load("hybridgnet-chexmask", trainable=False).to(options.device)
    networks = {
        "hybridgnet-chexmask": (model.network, model.side),
        "DynUNet": (DynUNet((options.side,) * 2, 4).to(options.device), options.side),
    }
    most = ceilings(Clock(options.device, options.seconds))
    record: dict[str, Any] = {
        "command": "python benchmarks/gpu.py --out FILE",
        "device": torch.cuda.get_device_name() if options.device == "cuda" else "CPU",
        "torch": torch.__version__,
        "ceilings": most,
        "goal": GOAL,
        "networks": {},
    }
    print(f"{record['device']}: " + ", ".join(f"{what} {rate:.3g}" for what, rate in most.items()))
    for name, (network, side) in networks.items():
        print(f"{name}, {side} x {side}")
        record["networks"][name] = measure(network, side, options, most)
    if options.out is not None:
        options.out.write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
