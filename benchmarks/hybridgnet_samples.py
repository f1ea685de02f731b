"""What samples of the latent code cost: `predict(image, samples=50)` against `predict(image)`.

    python benchmarks/hybridgnet_samples.py [--checkpoint hybridgnet-jsrt] [--samples 50] [--seconds 10]

Both take turns in one run, so that the ratio does not depend on what else the machine does meanwhile; times
are CPU seconds of one thread.
"""

import argparse
import time
from collections.abc import Callable

import numpy as np
import torch

from anatozoo.zoo.checkpoint import read_tensors
from anatozoo.zoo.golden import GOLDEN
from anatozoo.zoo.hub import load, resolve


def cpu_seconds(run: Callable[[], object]) -> float:
    """CPU time of one call."""
    start = time.process_time()
    run()
    return time.process_time() - start


def main() -> None:
    """Parse the options, measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--checkpoint", default="hybridgnet-jsrt")
    parser.add_argument("--samples", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=10.0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    model = load(options.checkpoint, trainable=False)
    image = read_tensors(resolve(options.checkpoint) / GOLDEN)["image"].numpy()
    plain: Callable[[], object] = lambda: model.predict(image)  # noqa: E731
    sampled: Callable[[], object] = lambda: model.predict(image, samples=options.samples)  # noqa: E731
    times: list[tuple[float, float]] = []
    cpu_seconds(plain), cpu_seconds(sampled)
    end = time.perf_counter() + options.seconds
    while len(times) < 5 or time.perf_counter() < end:
        times.append((cpu_seconds(plain), cpu_seconds(sampled)))
    one, many = (1000 * np.array(column) for column in zip(*times, strict=True))
    print(f"{options.checkpoint}, {model.side} x {model.side}, {len(times)} rounds")
    print(
        f"predict {np.median(one):.0f} ms, with {options.samples} samples {np.median(many):.0f} ms (medians)"
    )
    print(f"ratio {np.median(many / one):.2f} (median), {many.min() / one.min():.2f} (of the shortest)")


if __name__ == "__main__":
    main()
