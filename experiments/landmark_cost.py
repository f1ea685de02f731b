"""What a row of the landmark table costs: parameters, time of a prediction, time of training."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

from anatozoo.cli.settings import configs_of
from anatozoo.io.images import Image
from anatozoo.training.optim import Optim

STEPS = 12
"""Steps that are timed; the fastest counts, which other work on the machine disturbs least."""


def parameters(model: Any) -> int:
    """Numbers that a row has learnt, without buffers such as the graph or an atlas."""
    return sum(parameter.numel() for parameter in model.parameters())


def seconds_of_prediction(model: Any, images: Sequence[Image]) -> float:
    """Median CPU seconds of `predict`, from pixels in memory to the result; the first is not timed."""
    model.predict(images[0])
    times = []
    for image in images:
        start = time.process_time()
        model.predict(image)
        times.append(time.process_time() - start)
    return float(torch.tensor(times).median())


def minutes_of_training(config: str, module: Any) -> float | None:
    """Minutes of the processor for all steps of a configuration, by its fastest step; None without steps.

    Args:
        config: name of a shipped configuration.
        module: its LightningModule; it is trained on noise, so load it anew for anything else.
    """
    steps, batch_size = None, 4
    for file in configs_of([config]):
        values = yaml.safe_load(Path(file).read_text(encoding="utf-8"))
        steps = values.get("trainer", {}).get("max_steps", steps)
        batch_size = values.get("data", {}).get("batch_size", batch_size)
    if steps is None:
        return None
    module.train()
    batch = _noise(module, batch_size)
    optimizer = Optim("adam", 1e-6).build(module)
    optimizer = optimizer["optimizer"] if isinstance(optimizer, dict) else optimizer
    times = []
    for _ in range(STEPS):
        start = time.process_time()
        with torch.autocast("cpu", torch.bfloat16):
            terms = module.losses(module.answer(batch), batch)
            loss = torch.stack(list(terms.values())).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        times.append(time.process_time() - start)
    return min(times) * steps / 60


def _noise(module: Any, count: int) -> dict[str, Tensor]:
    side = module.side
    image = torch.rand(count, 1, side, side)
    if not isinstance(module.organs, dict):
        labels = torch.randint(len(module.organs) + 1, (count, side, side))
        return {"image": image, "labels": labels, "known": torch.ones(count, len(module.organs))}
    nodes = sum(module.organs.values())
    return {
        "image": image,
        "landmarks": torch.rand(count, nodes, 2),
        "landmark_weight": torch.ones(count, nodes),
    }
