"""Latents of several runs are matched by what they say, not by their numbers."""

import numpy as np
import pytest

from anatozoo.errors import DataError
from anatozoo.metrics.latents import Latent, match_latents

DRAW = np.random.default_rng(0)
TRUE = DRAW.normal(size=(200, 3))


def run(columns: dict[int, tuple[int, float]], count: int, noise: float = 0.1) -> np.ndarray:
    """A code of `count` latents; number -> (which truth it follows, by what factor), others follow none."""
    code = DRAW.normal(size=(200, count))
    for number, (truth, factor) in columns.items():
        code[:, number] = factor * (TRUE[:, truth] + noise * DRAW.normal(size=200))
    return code


def test_what_is_found_again_is_one_phenotype() -> None:
    runs = [run({0: (0, 1.0), 1: (1, 1.0)}, 2), run({3: (0, -2.0), 1: (1, 0.5)}, 4), run({2: (0, 1.0)}, 3)]
    first, second, *alone = match_latents(runs)
    assert {(each.run, each.number) for each in first.latents} == {(0, 0), (1, 3), (2, 2)}
    assert {(each.run, each.number) for each in second.latents} == {(0, 1), (1, 1)}
    signs = {each.run: each.sign for each in first.latents}
    assert signs[0] == signs[2] == -signs[1]
    assert first.latents[0].sign == 1
    assert abs(np.corrcoef(first.values, TRUE[:, 0])[0, 1]) > 0.99
    assert first.agreement > 0.9
    assert [len(each.latents) for each in alone] == [1] * 4
    assert alone[0].agreement == 1


def test_a_group_has_one_latent_of_a_run() -> None:
    twice = run({0: (0, 1.0), 1: (0, 1.0)}, 2)
    found = match_latents([twice, run({0: (0, 1.0)}, 1)])
    assert sorted(len(each.latents) for each in found) == [1, 2]


def test_latents_that_match_one_another_only_in_a_chain_are_not_one() -> None:
    one, two = TRUE[:, 0], TRUE[:, 1]
    runs = [each[:, None] for each in (one, one + 0.6 * two, one + 1.6 * two)]
    found = match_latents(runs, 0.75)
    assert [len(each.latents) for each in found] == [2, 1]
    assert all(each.agreement >= 0.75 for each in found)


def test_latents_that_are_not_in_use_belong_to_none() -> None:
    idle = np.column_stack([TRUE[:, 0], 0.01 * TRUE[:, 1], np.zeros(200)])
    found = match_latents([idle, idle])
    assert [each.latents for each in found] == [(Latent(0, 0, 1), Latent(1, 0, 1))]
    assert match_latents([idle[:, 1:]]) == []


def test_codes_that_cannot_be_matched_are_refused() -> None:
    bad = TRUE.copy()
    bad[3, 1] = np.nan
    for runs, alike in (
        ([TRUE, TRUE[:50]], 0.8),
        ([TRUE[:10], TRUE[:10]], 0.8),
        ([TRUE, bad], 0.8),
        ([TRUE, TRUE], 0.0),
        ([TRUE, TRUE], 1.2),
        ([TRUE[:, 0]], 0.8),
    ):
        with pytest.raises(DataError):
            match_latents(runs, alike)
