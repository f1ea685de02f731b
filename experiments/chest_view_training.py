"""Train the network of `anatozoo.tasks.chest_view`, and choose its thresholds by cross-validation.

    python experiments/chest_view_training.py --root DIR --steps 300 --folds 2
    python experiments/chest_view_training.py --root DIR --steps 600 --out chest_view.safetensors

DIR holds jsrt/, the landmark data set, covid-cxr/ and acdc/; only their training splits are read. With
``--folds`` each training image is judged by a network that has not seen its patient, and the share of upright
images that a threshold would flag is printed. The shipped file is the second command's, moved to
anatozoo/methods.
"""

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from chest_view_pictures import (
    Picture,
    chest_cases,
    chest_frame,
    kept,
    moved,
    slice_frames,
    something_else,
    toned,
)
from safetensors.torch import save_file
from torch.nn import functional as F

from anatozoo.tasks.chest_view import ChestView, view_probabilities

CHESTS, OTHERS = 20, 14
"""Pictures of a batch, half of the chests from each data set."""


def train(sets: Sequence[Picture], others: Picture, steps: int, seed: int = 0) -> ChestView:
    """A network from pictures (n, 128, 128) of each data set and pictures of something else."""
    torch.manual_seed(seed)
    rng, network, start = np.random.default_rng(seed), ChestView(), time.time()
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 6e-3, steps)
    every = np.concatenate(list(sets))
    for step in range(steps):
        chests = [x[i] for x in sets for i in rng.choice(len(x), CHESTS // len(sets))]
        pictures = [toned(rng, moved(rng, chest)) for chest in chests]
        pictures += [toned(rng, something_else(rng, every, others)) for _ in range(OTHERS)]
        truth = torch.tensor([0] * len(chests) + [8] * OTHERS)
        logits = network(torch.from_numpy(np.stack(pictures))[:, None])
        loss = F.cross_entropy(logits, truth, label_smoothing=0.02)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 100 == 0:
            print(f"step {step}: loss {loss.item():.3f}, {time.time() - start:.0f} s", flush=True)
    return network.eval()


def cross_validate(
    sets: dict[str, tuple[Picture, list[str]]], others: Picture, folds: int, steps: int
) -> None:
    """Print how probable networks that have not seen a patient find the wrong answers on upright images."""
    judged: dict[str, list[np.ndarray]] = {name: [] for name in sets}
    for fold in range(folds):
        part = {}
        for name, (_, patients) in sets.items():
            number = {patient: i for i, patient in enumerate(sorted(set(patients)))}
            part[name] = np.array([number[patient] % folds == fold for patient in patients])
        network = train([x[~part[name]] for name, (x, _) in sets.items()], others, steps, seed=fold)
        for name, (pictures, _) in sets.items():
            judged[name].append(view_probabilities(list(pictures[part[name]]), network))
    for name, found in judged.items():
        p = np.concatenate(found)
        upright, mirrored = p[:, 0] + p[:, 4], p[:, 4] / (p[:, 0] + p[:, 4])
        print(f"{name}: {len(p)} upright images, judged by networks that have not seen them")
        for threshold in (0.5, 0.8, 0.9, 0.95, 0.98):
            turned = 1 - upright - p[:, 8]
            print(
                f"  above {threshold}: something else {np.mean(p[:, 8] > threshold):.2%}, "
                f"turned {np.mean(turned > threshold):.2%}, mirrored {np.mean(mirrored > threshold):.2%}; "
                f"mirrored copies found {np.mean(1 - mirrored > threshold):.2%}"
            )


def main() -> None:
    """Parse the options, read the pictures, cross-validate or train."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--folds", type=int, default=0)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    cases = chest_cases(options.root)
    sets = {
        name: (np.stack([kept(chest_frame(case)) for case in cases[name]]), [c.patient for c in cases[name]])
        for name in ("jsrt/train", "covid/train")
    }
    slices = slice_frames(options.root, "acdc", "train", np.random.default_rng(0), 100)
    others = np.stack([kept(frame) for frame in slices])
    if options.folds:
        cross_validate(sets, others, options.folds, options.steps)
    if options.out is not None:
        network = train([pictures for pictures, _ in sets.values()], others, options.steps)
        state = {k: x.half().contiguous() for k, x in network.state_dict().items() if x.is_floating_point()}
        save_file(state, options.out)
        print(options.out, options.out.stat().st_size, "bytes")


if __name__ == "__main__":
    main()
