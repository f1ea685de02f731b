"""Processes of one job that want the same files: one downloads, the others wait and read the cache.

No process group is needed, so this works before `torch.distributed` is set up: the environment that torchrun,
SLURM, Open MPI and Lightning give each process says who is first. Nothing depends on it for correctness: each
process writes under a name of its own, compares digests and renames.
"""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

RANKS = ("RANK", "SLURM_PROCID", "OMPI_COMM_WORLD_RANK", "PMI_RANK")
LOCAL_RANKS = ("LOCAL_RANK", "SLURM_LOCALID", "OMPI_COMM_WORLD_LOCAL_RANK", "MPI_LOCALRANKID")
HEAD_START_S = 10.0
"""How long the other ranks of a machine wait for a sign of the first, before they help themselves."""
LONGEST_S = 900.0
"""How long anybody waits for another's download."""
_STEP_S = 0.1


def rank() -> int:
    """Number of this process in its job, 0 outside of one."""
    return _first_number(RANKS) or local_rank()


def local_rank() -> int:
    """Number of this process among those of its job on this machine, 0 outside of one."""
    return _first_number(LOCAL_RANKS)


def _first_number(names: tuple[str, ...]) -> int:
    found = (os.environ.get(name, "") for name in names)
    return next((int(text) for text in found if text.isdigit()), 0)


def wait_for_first_rank(is_there: Callable[[], bool], is_coming: Callable[[], bool]) -> None:
    """Let the first process of this machine go ahead.

    Returns when the files are there, or when nothing says that they are coming: the first rank may want other
    files, or have failed. Locks alone would do on most file systems; this also holds where they do nothing.

    Args:
        is_there: whether nothing is left to download.
        is_coming: whether somebody is downloading.
    """
    if local_rank() == 0:
        return
    start = sign = time.monotonic()
    while not is_there():
        now = time.monotonic()
        if is_coming():
            sign = now
        if now - sign > HEAD_START_S or now - start > LONGEST_S:
            return
        time.sleep(_STEP_S)


@contextmanager
def one_at_a_time(path: Path) -> Iterator[None]:
    """Keep other processes of this machine, and where the file system can do it of others, out of a block.

    Args:
        path: file for the lock. Where it cannot be made the block runs without one and says what is wrong.
    """
    import filelock

    lock = filelock.FileLock(path, timeout=LONGEST_S)
    with suppress(OSError, NotImplementedError, filelock.Timeout):
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    try:
        yield
    finally:
        # Does nothing where it was not acquired.
        lock.release()
