"""Time of `predict` of stacks of hearts by DynUNet, against MONAI's network in its place, in one run.

    python benchmarks/stacks.py --root ACDC [--every 6] [--threads 2] [--checkpoint NAME] [--out FILE]

Each stack of the split is predicted by both, in turns, from the image in memory to the label map with its
flags. Both networks have the checkpoint's weights. Beside the times: the share of voxels that have the same
label, and the Dice of either against the annotation. Time is the processor's, of all threads together, and
by the clock.
"""

import argparse
import json
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import anatozoo
from anatozoo.cli.heap import keep_freed_memory
from anatozoo.data.layouts.registry import find_cases
from anatozoo.nn.volume_blocks import pyramid
from anatozoo.tasks.cases import label_dice

GOAL = 3.0
"""At least this many times faster than with MONAI's network."""


class Before(nn.Module):
    """MONAI's DynUNet with the weights of anatozoo's.

    Args:
        network: anatozoo's.
        shape: (D, H, W) of its frame.
        widths: channels of its levels.
        classes: classes, background included.
    """

    def __init__(self, network: Any, shape: tuple[int, ...], widths: list[int], classes: int) -> None:
        super().__init__()
        from monai.networks.nets.dynunet import DynUNet

        strides, kernels = pyramid(shape, len(widths))
        self.network = DynUNet(3, 1, classes, kernels, strides, strides[1:], widths)
        # Heads of supervision are of training alone, and MONAI has its layers under two names.
        self.network.load_state_dict(network.state_dict(), strict=False)

    def forward(self, image: Tensor) -> Tensor:
        """Logits of images."""
        logits: Tensor = self.network(image)
        return logits.float()


def main() -> None:
    """Parse the options and measure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--root", type=Path, required=True, help="ACDC's folder, with splits.json")
    parser.add_argument("--every", type=int, default=6, help="take each of so many stacks (default: 6)")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--checkpoint", default="acnn-dynunet-acdc", help="default: %(default)s")
    parser.add_argument("--out", type=Path, help="write the numbers as JSON")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    keep_freed_memory()  # as `anatozoo predict` does
    model = anatozoo.load(options.checkpoint, trainable=False)
    organs = list(model.organs)
    now = model.network
    widths = [now.network.input_block.norm1.num_features]
    widths += [block.norm1.num_features for block in (*now.network.downsamples, now.network.bottleneck)]
    ways = {"before": Before(now.network, model.shape, widths, len(organs) + 1).eval(), "now": now}
    cases = find_cases(options.root, "acdc", organs, dims=3).complete(organs, "val")[:: options.every]
    warm = np.random.default_rng(0).random((4, 96, 96), np.float32)
    found: dict[str, dict[str, list[Any]]] = {way: {"cpu": [], "wall": [], "dice": []} for way in ways}
    same = []
    for network in ways.values():
        model.network = network
        model.predict(warm, whole=False)
    for number, case in enumerate(cases, start=1):
        image, truth = case.read(organs, 3)
        labels = []
        for way, network in ways.items():
            model.network = network
            cpu, wall = time.process_time(), time.perf_counter()
            result = model.predict(image)
            found[way]["cpu"].append(time.process_time() - cpu)
            found[way]["wall"].append(time.perf_counter() - wall)
            found[way]["dice"].append(label_dice(result.label_map, truth, len(organs)))
            labels.append(result.label_map)
        same.append(float(np.mean(labels[0] == labels[1])))
        print(
            f"{number} of {len(cases)}: {found['before']['cpu'][-1] / found['now']['cpu'][-1]:.2f} x",
            flush=True,
        )
    ratios = {
        clock: median(b / n for b, n in zip(found["before"][clock], found["now"][clock], strict=True))
        for clock in ("cpu", "wall")
    }
    record = {
        "command": f"python benchmarks/stacks.py --root ACDC --every {options.every} "
        f"--threads {options.threads}",
        "torch": torch.__version__,
        "threads": options.threads,
        "checkpoint": options.checkpoint,
        "stacks": len(cases),
        "goal": GOAL,
        "faster, processor time": round(ratios["cpu"], 2),
        "faster, by the clock": round(ratios["wall"], 2),
        "least equal voxels": min(same),
        "dice": {way: round(float(np.mean(each["dice"])), 5) for way, each in found.items()},
        "seconds of the processor": {way: [round(s, 2) for s in each["cpu"]] for way, each in found.items()},
    }
    print(json.dumps(record, indent=2))
    if options.out is not None:
        options.out.write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
