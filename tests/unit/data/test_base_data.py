import multiprocessing as mp
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from anatozoo.data.base import (
    CaseDataset,
    EachSampler,
    EpochSampler,
    SourceSampler,
    derived_seed,
    loader,
    seed_training_step,
)
from anatozoo.data.case import Case
from tests.support.ranks import in_two_processes


def order(sampler: EpochSampler, epoch: int) -> list[int]:
    sampler.set_epoch(epoch)
    return list(sampler)


def noise(step: int, rank: int = 0) -> float:
    trainer: Any = SimpleNamespace(fit_loop=SimpleNamespace(total_batch_idx=step), global_rank=rank)
    seed_training_step(trainer)
    return float(torch.rand(()))


def test_an_epoch_has_one_order_whatever_was_drawn_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PL_GLOBAL_SEED", "7")
    whole = EpochSampler(range(20))
    curve = [order(whole, epoch) for epoch in range(3)]
    torch.rand(5)
    assert order(EpochSampler(range(20)), 2) == curve[2]
    assert all(sorted(epoch) == list(range(20)) for epoch in curve)
    assert len({tuple(epoch) for epoch in curve}) == 3
    monkeypatch.setenv("PL_GLOBAL_SEED", "8")
    assert order(whole, 2) != curve[2]


def test_sources_are_drawn_alike_by_a_rerun_and_by_all_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PL_GLOBAL_SEED", "7")
    sources, shares = [0] * 40 + [1] * 5, [1.0, 1.0]
    whole = SourceSampler(sources, shares)
    assert len(whole) == 45
    curve = []
    for epoch in range(3):
        whole.set_epoch(epoch)
        curve.append(list(whole))
    again = SourceSampler(sources, shares)
    again.set_epoch(2)
    torch.rand(5)
    assert list(again) == curve[2]
    assert len({tuple(epoch) for epoch in curve}) == 3
    # No item of a source comes a second time before all others of it have come.
    for epoch in curve:
        small = [item for item in epoch if item >= 40]
        assert all(
            len(set(part)) == len(part) for part in (small[i : i + 5] for i in range(0, len(small), 5))
        )
        large = [item for item in epoch if item < 40]
        assert len(set(large)) == len(large)


def shares_of_batches(_: int) -> list[list[int]]:
    """Sources of the items of each batch of six, as this process has them."""
    sources = [0] * 20 + [1] * 3 + [2] * 7
    sampler = EachSampler(sources)
    drawn = [sources[item] for item in sampler]
    return [drawn[start : start + 6] for start in range(0, len(drawn) - 5, 6)]


def test_each_batch_of_each_process_holds_all_sources_in_equal_shares(tmp_path: Path) -> None:
    for batches in (shares_of_batches(0), *in_two_processes(shares_of_batches, tmp_path)):
        assert len(batches) >= 2
        assert all(sorted(batch) == [0, 0, 1, 1, 2, 2] for batch in batches)


def two_epochs(_: int) -> list[list[int]]:
    sampler = SourceSampler([0] * 40 + [1] * 6, [1.0, 1.0])
    found = []
    for epoch in (0, 1):
        sampler.set_epoch(epoch)
        found.append(list(sampler))
    return found


@pytest.mark.parametrize("seed", ["7", None])
def test_two_processes_share_the_order_of_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: str | None
) -> None:
    monkeypatch.setenv("PL_GLOBAL_SEED", seed or "0")
    expected = two_epochs(0)
    if seed is None:
        monkeypatch.delenv("PL_GLOBAL_SEED")
    for zero, one, whole in zip(*in_two_processes(two_epochs, tmp_path), expected, strict=True):
        assert [item for pair in zip(zero, one, strict=True) for item in pair] == whole


def fail_first(rank: int) -> None:
    if rank == 0:
        raise ValueError("the first process ends")
    time.sleep(600)


def test_no_process_outlives_one_that_failed(tmp_path: Path) -> None:
    with pytest.raises(AssertionError):
        in_two_processes(fail_first, tmp_path)
    assert not mp.active_children()


def test_a_step_has_one_noise_and_processes_have_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PL_GLOBAL_SEED", "7")
    assert noise(3) == noise(3)
    assert len({noise(3), noise(4), noise(3, rank=1), noise(4, rank=1)}) == 4


def test_without_a_seed_everything_stays_random(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PL_GLOBAL_SEED", raising=False)
    sampler = EpochSampler(range(50))
    assert order(sampler, 1) != order(sampler, 1)
    assert noise(3) != noise(3)


def test_derived_seeds_fit_torch_and_tell_their_parts_apart() -> None:
    assert derived_seed(1, 23) != derived_seed(12, 3)
    for parts in ((0,), (2**40, 5), (1, 2, 3)):
        torch.Generator().manual_seed(derived_seed(*parts))


class Numbers(CaseDataset):
    """Cases whose names are their content, and count how often they are read."""

    reads = 0

    def read(self, case: Case) -> dict[str, Tensor]:
        self.reads += 1
        return {"value": torch.tensor([int(case.id)])}


def numbers(*values: int, **known: Any) -> Numbers:
    return Numbers([Case(str(value), str(value), **known) for value in values])


def test_cases_are_read_once_and_what_is_handed_out_belongs_to_the_caller() -> None:
    dataset = numbers(7, 8)
    assert len(dataset) == 2
    dataset[1]["value"].zero_()
    again = dataset[1]
    assert (int(again["value"]), int(again["index"]), dataset.reads) == (8, 1, 1)


def test_items_say_who_they_are_and_where_they_come_from() -> None:
    dataset = Numbers([Case("7", "a", domain="north"), Case("8", "b", domain="south")])
    assert dataset.identity(1) == {"id": "8"}
    assert [int(dataset[index]["domain"]) for index in (0, 1)] == [0, 1]
    assert not dataset[0]["labelled"]


def test_training_batches_are_whole_unless_there_is_none() -> None:
    def sizes(count: int, train: bool) -> list[int]:
        batches = loader(numbers(*range(count)), batch_size=4, num_workers=0, train=train)
        return [len(batch["index"]) for batch in batches]

    assert sizes(9, train=True) == [4, 4]
    assert sizes(3, train=True) == [3]
    assert sizes(9, train=False) == [4, 4, 1]
