"""How the cores of a machine are shared out between the inputs of a run."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

MOST_AT_ONCE = 8
"""Inputs that are computed at a time, at most: each needs memory of its own."""
ON_ACCELERATOR = 8
"""Inputs computed together on a GPU, which one alone does not fill."""


def on_cpu(models: Sequence[Any]) -> bool:
    """Whether models compute on the CPU; those that do not say where do."""
    return all(model.place()[0].type == "cpu" for model in models if hasattr(model, "place"))


def usual_batch(models: Sequence[Any]) -> int:
    """How many inputs are computed together where nobody says it.

    One on a CPU: the maps of several do not fit into its caches, and each takes longer.
    """
    return 1 if on_cpu(models) else ON_ACCELERATOR


@contextmanager
def shared_out(inputs: int) -> Iterator[tuple[int, Callable[[], None]]]:
    """Share torch's threads out between inputs that are computed at a time.

    Two networks with a thread each are faster than one after the other with two, whose threads wait for one
    another at the end of each layer, and for the threads that read and write.

    Args:
        inputs: how many there are.

    Returns:
        How many to compute at a time, and what each thread that does so calls first.
    """
    torch = sys.modules.get("torch")
    if torch is None:  # no model of torch: nothing to share
        yield 1, lambda: None
        return
    threads: int = torch.get_num_threads()
    at_once = max(1, min(threads, inputs, MOST_AT_ONCE))
    try:
        yield at_once, lambda: torch.set_num_threads(max(1, threads // at_once))
    finally:
        # What a thread sets is also the default of those that are started later.
        torch.set_num_threads(threads)
