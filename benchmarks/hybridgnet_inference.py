"""Images per second of HybridGNet (2-IGSC 6-5, 120 nodes) against the authors' way of computing it.

    python benchmarks/hybridgnet_inference.py [--sizes 512 1024] [--batches 1 8] [--threads 2] [--seconds 8]

Every row is a ratio to the reference of the same run; landmarks are compared with fp32 in pixels. Random
weights amplify rounding: what bf16 costs a trained network is measured on its golden radiograph, at the end.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
from hybridgnet_reference import Reference
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from anatozoo.nn import depthwise, fused
from anatozoo.nn.hybridgnet import HybridGNet
from anatozoo.organs import LUNGS_HEART
from anatozoo.zoo.checkpoint import read_tensors
from anatozoo.zoo.golden import GOLDEN
from anatozoo.zoo.hub import load, resolve
from tests.support.phantoms import make_chest_phantom


def rate(run: Callable[[], object], images: int, seconds: float) -> float:
    """Images per second: the median over calls within the given time, after one call to warm up."""
    run()
    durations: list[float] = []
    end = time.perf_counter() + seconds
    while len(durations) < 3 or time.perf_counter() < end:
        start = time.perf_counter()
        run()
        durations.append(time.perf_counter() - start)
    return images / sorted(durations)[len(durations) // 2]


def spread_out(model: HybridGNet) -> HybridGNet:
    """Weights as after training in what matters for comparison: landmarks spread over the frame."""
    with torch.no_grad():
        for parameter in (model.head, model.skip1.position, model.skip2.position):  # type: ignore[union-attr]
            parameter.lins[0].weight.mul_(0.2)
    return model


@torch.inference_mode()
def measure(size: int, batches: list[int], seconds: float) -> None:
    """Print one table for one image size."""
    settings = {"skips": (6, 5)}
    torch.manual_seed(0)
    model = spread_out(HybridGNet(LUNGS_HEART, size, **settings)).eval()  # type: ignore[arg-type]
    reference = Reference(model, **settings).eval()
    images = torch.rand(max(batches), 1, size, size)
    truth = model(images).landmarks
    base = rate(lambda: reference(images[:1]), 1, seconds)
    print(f"\n{size} x {size}: reference (PyG, RoIAlign per image, batch 1) {base:.2f} images/s")
    print(f"{'batch':>5} {'type':>5} {'how':>9} {'images/s':>9} {'ratio':>6} {'max diff px':>12}")
    compiled = torch.compile(model, fullgraph=True)
    for batch in batches:
        for dtype in (torch.float32, torch.bfloat16):
            for how, run in (("eager", model), ("compiled", compiled)):
                x = images[:batch].contiguous(memory_format=torch.channels_last)

                def call(
                    run: Callable[..., object] = run, x: torch.Tensor = x, dtype: torch.dtype = dtype
                ) -> object:
                    with torch.autocast("cpu", dtype=dtype, enabled=dtype != torch.float32):
                        return run(x)

                speed = rate(call, batch, seconds)
                difference = (call().landmarks.float() - truth[:batch]).abs().max().item() * size  # type: ignore[attr-defined]
                label = "fp32" if dtype == torch.float32 else "bf16"
                print(
                    f"{batch:>5} {label:>5} {how:>9} {speed:>9.2f} {speed / base:>5.2f}x {difference:>12.4f}",
                    flush=True,
                )


@torch.inference_mode()
def rounding(name: str) -> dict[str, float]:
    """How far bf16 moves the landmarks of a trained checkpoint on its golden radiograph; printed, too."""
    module = load(name)
    image = read_tensors(resolve(name) / GOLDEN)["image"]
    full = module.predict(image).landmarks
    half = module.predict(image, precision="bf16").landmarks
    away = np.concatenate([np.linalg.norm(full[organ] - half[organ], axis=1) for organ in full])
    away *= 1024 / max(image.shape)
    print(
        f"\n{name}, bf16 against fp32: {away.mean():.2f} px on average, {away.max():.2f} px at most, of 1024"
    )
    return {"mean": round(float(away.mean()), 3), "max": round(float(away.max()), 3)}


@torch.inference_mode()
def zoo(name: str, seconds: float) -> dict[str, float]:
    """Milliseconds of a checkpoint's network, and of `predict` of a PNG of 1024 x 1024; printed, too."""
    module = load(name, trainable=False)
    image = torch.rand(1, 1, module.side, module.side)
    reference = Reference(HybridGNet(LUNGS_HEART, 1024, skips=(6, 5)).eval(), skips=(6, 5)).eval()
    large = torch.rand(1, 1, 1024, 1024)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "chest.png")
        Image.fromarray(make_chest_phantom(1024, 1024).image.astype(np.uint8)).save(file)

        def layered() -> object:
            plain = patch.object(fused, "_is_plain", return_value=True)
            with plain, patch.object(depthwise, "is_recorded", return_value=True):
                return module.network(image)

        ways: dict[str, Callable[[], object]] = {
            "reference network, 1024 x 1024": lambda: reference(large),
            "network, layer by layer": layered,
            "network, fused": lambda: module.network(image),
            "network, bf16": lambda: _in_bf16(module.network, image),
            "predict of a PNG": lambda: module.predict(file),
        }
        durations: dict[str, list[float]] = {way: [] for way in ways}
        end = time.perf_counter() + len(ways) * seconds
        while time.perf_counter() < end:  # in turns, so that what slows the machine slows all of them
            for way, run in ways.items():
                start = time.perf_counter()
                run()
                durations[way].append(1000 * (time.perf_counter() - start))
    times = {way: float(np.median(found[1:])) for way, found in durations.items()}
    print(f"\n{name}, {module.side} x {module.side}")
    for way, found in times.items():
        slow, plain = (times[base] / found for base in list(ways)[:2])
        print(f"{way:32} {found:7.1f} ms; {slow:.2f} x the reference, {plain:.2f} x layer by layer")
    return {way: round(found, 1) for way, found in times.items()}


def _in_bf16(network: HybridGNet, image: torch.Tensor) -> object:
    with torch.autocast("cpu", torch.bfloat16):
        return network(image)


def main() -> None:
    """Parse the options and measure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", type=int, nargs="*", default=[512, 1024])
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument(
        "--checkpoint", nargs="+", default=["hybridgnet-jsrt", "hybridgnet-chexmask"], help="of the zoo"
    )
    parser.add_argument("--out", type=Path, help="write the numbers of the checkpoints as JSON")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    for size in options.sizes:
        measure(size, options.batches, options.seconds)
    found = {
        name: {"ms": zoo(name, options.seconds), "bf16 px of 1024": rounding(name)}
        for name in options.checkpoint
    }
    if options.out is not None:
        command = (
            f"python benchmarks/hybridgnet_inference.py --sizes --seconds {options.seconds:g} --out FILE"
        )
        record = {"command": command, "torch": torch.__version__, "threads": options.threads} | found
        options.out.write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
