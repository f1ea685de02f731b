"""Two processes that measure together."""

import multiprocessing as mp
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

SHARES = {
    "padded by the sampler": [[0, 2, 4], [1, 3, 0]],
    "nothing on the second process": [[0, 1, 2, 3, 4], []],
    "nothing on the first process": [[], [4, 3, 2, 1, 0]],
}
"""Indices of five images, as each of the two has them."""


def in_two_processes(measure: Callable[[int], Any], folder: Path) -> list[Any]:
    """What a function of the rank gives in each of two processes that know of each other.

    Args:
        measure: a function of a module, for the processes import it.
        folder: for files of tensors, in which the processes leave their results.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    context = mp.get_context("spawn")
    processes = [context.Process(target=_take_part, args=(measure, rank, port, folder)) for rank in range(2)]
    for process in processes:
        process.start()
    try:
        for process in processes:
            process.join(600)  # a busy machine takes minutes to import torch
            assert process.exitcode == 0
    finally:
        for process in processes:  # one that failed leaves the other waiting for it
            process.kill()
            process.join()
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2)]


def _take_part(measure: Callable[[int], Any], rank: int, port: int, folder: Path) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", f"tcp://127.0.0.1:{port}", world_size=2, rank=rank)
    torch.save(measure(rank), folder / f"{rank}.pt")
    torch.distributed.destroy_process_group()
