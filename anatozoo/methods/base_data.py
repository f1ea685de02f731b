"""What the LightningDataModules of all methods share: randomness that a resumed fit repeats.

Lightning stores no state of random number generators. Here the order of an epoch follows from the seed and
the epoch, and the noise of a step from the seed, the step and the process, so that a fit that was interrupted
goes on exactly as it would have. Without ``seed_everything`` both stay random.
"""

import hashlib
import os
from collections.abc import Iterator, Sized

import lightning as L
import torch
from torch.utils.data import RandomSampler


def global_seed() -> int | None:
    """The seed given to ``seed_everything``, None without one."""
    value = os.environ.get("PL_GLOBAL_SEED")
    return None if value is None else int(value)


def derived_seed(*parts: int) -> int:
    """One seed from several numbers; neighbouring numbers give unrelated seeds."""
    digest = hashlib.sha256(":".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


class EpochSampler(RandomSampler):
    """Shuffles anew every epoch, and alike whenever that epoch is run.

    Lightning sets the epoch; with several processes it puts its own sampler here, which does the same.

    Args:
        data_source: the data set.
    """

    def __init__(self, data_source: Sized) -> None:
        super().__init__(data_source)
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of this epoch."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        seed = global_seed()
        self.generator = None
        if seed is not None:
            self.generator = torch.Generator().manual_seed(derived_seed(seed, self.epoch))
        return super().__iter__()


def seed_training_step(trainer: L.Trainer) -> None:
    """Let the random numbers of this training step follow from its number and process."""
    seed = global_seed()
    if seed is not None:
        torch.manual_seed(derived_seed(seed, trainer.fit_loop.total_batch_idx, trainer.global_rank))
