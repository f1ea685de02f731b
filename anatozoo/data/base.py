"""Base of all data modules: cases kept in memory, augmentation strengths, reproducible randomness.

Lightning does not store the state of random number generators. Here the order of an epoch follows from the
seed and the epoch, and the noise of a step from the seed, the step and the process, so that a resumed fit
continues exactly as without the interruption. Without ``seed_everything`` both are random.
"""

import hashlib
import math
import os
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence, Sized
from dataclasses import fields
from typing import Any, TypeVar

import lightning as L
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, DistributedSampler, RandomSampler, Sampler

from anatozoo.data.case import Case
from anatozoo.errors import ConfigError

Strengths = TypeVar("Strengths")


def global_seed() -> int | None:
    """The seed given to ``seed_everything``, None without one."""
    value = os.environ.get("PL_GLOBAL_SEED")
    return None if value is None else int(value)


def derived_seed(*parts: int) -> int:
    """One seed from several numbers; neighbouring numbers give unrelated seeds."""
    digest = hashlib.sha256(":".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


class EpochSampler(RandomSampler):
    """Shuffles every epoch in a new order, which a rerun of the epoch repeats.

    Lightning sets the epoch; with several processes it uses its own sampler, which behaves alike.

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


class SourceSampler(DistributedSampler[int]):
    """Draws the source of each item at random, then an item of that source.

    Within an epoch all items of a source are drawn before one comes again. An epoch is as long as the data
    set. The order follows from the seed and the epoch, as with `EpochSampler`, and processes share it:
    without a seed several processes take 0, as Lightning does.

    Args:
        sources: the source of each item, by number.
        shares: probability of each source; its items are drawn only where it is above 0.
    """

    def __init__(self, sources: Sequence[int], shares: Sequence[float]) -> None:
        joined = torch.distributed.is_initialized()
        super().__init__(
            sources,  # type: ignore[arg-type]  # only its length is asked for
            num_replicas=torch.distributed.get_world_size() if joined else 1,
            rank=torch.distributed.get_rank() if joined else 0,
        )
        self.sources, self.shares = torch.as_tensor(sources), torch.as_tensor(shares, dtype=torch.float64)

    def __iter__(self) -> Iterator[int]:
        seed = global_seed()
        if seed is None and torch.distributed.is_initialized():
            seed = 0
        random = torch.Generator()
        random.manual_seed(random.seed() if seed is None else derived_seed(seed, self.epoch))
        drawn = self.drawn(random)
        order = torch.empty_like(drawn)
        for number in range(len(self.shares)):
            places, members = (torch.nonzero(x == number)[:, 0] for x in (drawn, self.sources))
            if len(places):
                passes = range(math.ceil(len(places) / len(members)))
                dealt = [members[torch.randperm(len(members), generator=random)] for _ in passes]
                order[places] = torch.cat(dealt)[: len(places)]
        return iter(order[self.rank :: self.num_replicas].tolist())

    def drawn(self, random: torch.Generator) -> Tensor:
        """The source of each item of an epoch; processes take turns."""
        return torch.multinomial(self.shares, self.total_size, replacement=True, generator=random)


class EachSampler(SourceSampler):
    """Takes the sources in turns in each process, so that all batches hold all of them in equal shares.

    For the rest as `SourceSampler`.

    Args:
        sources: the source of each item, by number from 0.
    """

    def __init__(self, sources: Sequence[int]) -> None:
        super().__init__(sources, [1.0] * (1 + max(sources)))

    def drawn(self, random: torch.Generator) -> Tensor:
        """The source of each item of an epoch; processes take turns."""
        return torch.arange(self.total_size) // self.num_replicas % len(self.shares)


def seed_training_step(trainer: L.Trainer) -> None:
    """Seed the random numbers of this training step by its number and process."""
    seed = global_seed()
    if seed is not None:
        torch.manual_seed(derived_seed(seed, trainer.fit_loop.total_batch_idx, trainer.global_rank))


class CaseDataset(Dataset[dict[str, Tensor]]):
    """Cases that are read when first needed and kept in memory; subclasses say how one is read.

    Args:
        cases: the cases.
    """

    def __init__(self, cases: Sequence[Case]) -> None:
        self.cases = list(cases)
        self.domains: Mapping[str, int] = {
            name: number for number, name in enumerate(sorted({case.domain for case in self.cases}))
        }
        self._memory: dict[int, dict[str, Tensor]] = {}

    def __len__(self) -> int:
        return len(self.cases)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """The tensors that `unpack` gives, with ``index``, ``domain`` and ``labelled``."""
        case = self.cases[index]
        if index not in self._memory:
            self._memory[index] = self.read(case)
        return self.unpack(self._memory[index]) | {
            "index": torch.tensor(index),
            "domain": torch.tensor(self.domains[case.domain]),
            "labelled": torch.tensor(case.labelled),
        }

    def identity(self, index: int) -> dict[str, Any]:
        """Identity of a case, in plain values: ``id`` first, then the facts that subclasses add."""
        return {"id": self.cases[index].id}

    @abstractmethod
    def read(self, case: Case) -> dict[str, Tensor]:
        """Read a case, in a form that needs little memory."""

    def unpack(self, stored: dict[str, Tensor]) -> dict[str, Tensor]:
        """The stored tensors as new ones, which the caller may change."""
        return {key: value.clone() for key, value in stored.items()}


def loader(
    dataset: Any,
    *,
    batch_size: int,
    num_workers: int,
    train: bool = False,
    sampler: Sampler[int] | None = None,
) -> DataLoader[Any]:
    """Batches of a data set, in order; for training shuffled every epoch, without an incomplete last batch.

    If the share of a process is smaller than a batch, it is one batch.

    Args:
        dataset: the items.
        batch_size: items per process and batch.
        num_workers: number of loading processes.
        train: for training.
        sampler: order of the items in training; None shuffles them.
    """
    processes = torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1
    return DataLoader(
        dataset,
        batch_size=batch_size,
        sampler=(sampler or EpochSampler(dataset)) if train else None,
        drop_last=train and math.ceil(len(dataset) / processes) >= batch_size,
        num_workers=num_workers,
        persistent_workers=num_workers > 0,
        # Lightning copies pinned batches to the GPU while the step before still computes.
        pin_memory=torch.cuda.is_available(),
    )


def strengths(kind: type[Strengths], name: str, given: Mapping[str, float]) -> Strengths:
    """Settings of an augmentation or a degradation, a dataclass of numbers with defaults.

    Args:
        kind: the dataclass; fields that end in ``_p``, and ``probability``, are probabilities.
        name: name of the data module's setting; with a dot, of any setting.
        given: fields that differ from the defaults.

    Raises:
        ConfigError: a field is unknown, negative, or a probability above 1.
    """
    name = name if "." in name else f"data.{name}"
    known = [field.name for field in fields(kind)]  # type: ignore[arg-type]  # it is a dataclass
    unknown = set(given) - set(known)
    if unknown:
        raise ConfigError(f"{name} does not know {', '.join(sorted(unknown))}; it has {', '.join(known)}.")
    defaults = kind()
    for key, value in given.items():
        if value < 0 or ((key.endswith("_p") or key == "probability") and value > 1):
            raise ConfigError(f"{name}.{key}={value} must not be negative, a probability not above 1.")
    # Integers arrive from the command line as the user typed them.
    return kind(**{key: type(getattr(defaults, key))(value) for key, value in given.items()})
