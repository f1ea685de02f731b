import dataclasses
from pathlib import Path

import pytest
import torch
import yaml
from torch import Tensor

from anatozoo.methods import postdae
from anatozoo.methods.postdae.corruptions import (
    KINDS,
    Degradation,
    box_blur,
    extent,
    indicator,
    largest,
    look_up,
)
from anatozoo.methods.postdae.degrade import confusion_table, degrade, render
from anatozoo.methods.postdae.strengths import DegradeConfig

SHAPES = [(64, 96), (24, 32, 20)]


def maps(shape: tuple[int, ...], count: int = 4) -> Tensor:
    """Three organs side by side, 4 pixels from one another and from the border; (B, ...) uint8."""
    labels = torch.zeros(count, *shape, dtype=torch.uint8)
    third = shape[-1] // 3
    for value in range(1, 4):
        part = labels[..., 4:-4, (value - 1) * third + 2 : value * third - 2]
        part[...] = value
    return labels


def context(labels: Tensor, severity: float = 1.0, **settings: float) -> Degradation:
    config = DegradeConfig(**settings)  # type: ignore[arg-type]
    return Degradation(labels, torch.full((len(labels),), severity), confusion_table(4), config)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_changes_some_labels_and_makes_no_new_ones(shape: tuple[int, ...], kind: str) -> None:
    torch.manual_seed(0)
    before = maps(shape)
    changed = torch.zeros(4)
    for _ in range(5):
        after = KINDS[kind](context(before))
        assert after.shape == before.shape
        assert after.dtype == torch.uint8
        assert int(after.max()) <= 3
        changed += (after != before).flatten(1).float().mean(1)
    assert torch.equal(before, maps(shape))  # in a tensor of its own
    assert bool((changed > 0).all())
    assert float(changed.max()) < 5 * 0.8


@pytest.mark.parametrize("kind", KINDS)
def test_items_are_degraded_each_in_its_own_way(kind: str) -> None:
    torch.manual_seed(1)
    after = KINDS[kind](context(maps((64, 96), 8)))
    assert len({tuple(item.flatten().tolist()) for item in after}) > 2


@pytest.mark.parametrize("kind", KINDS)
def test_an_empty_map_is_no_error(kind: str) -> None:
    torch.manual_seed(0)
    assert KINDS[kind](context(torch.zeros(2, 32, 32, dtype=torch.uint8))).shape == (2, 32, 32)


def test_a_missing_organ_is_background_and_the_others_stay() -> None:
    torch.manual_seed(0)
    before = maps((64, 96), 16)
    after = KINDS["missing"](context(before, 0.1))
    assert bool((after[before == 0] == 0).all())
    for one, other in zip(before, after, strict=True):
        lost = [v for v in (1, 2, 3) if int((other == v).sum()) < int((one == v).sum())]
        assert len(lost) == 1
        assert set(other[one == lost[0]].unique().tolist()) <= {0, lost[0]}


def test_an_occlusion_is_a_band_of_the_anatomy() -> None:
    torch.manual_seed(0)
    before = maps((64, 96), 32)
    after = KINDS["occlusion"](context(before, occlusion=0.45))
    gone = (before != after).flatten(1).sum(1) / (before > 0).flatten(1).sum(1)
    assert bool((after[before != after] == 0).all())
    assert 0.15 < float(gone.mean()) < 0.6
    assert float(gone.max()) < 0.75


def test_swaps_happen_near_borders_alone() -> None:
    torch.manual_seed(0)
    before = maps((64, 96), 8)
    changed = KINDS["swap"](context(before, swap=3 / 80)) != before
    inner = box_blur((before > 0).float(), 4)
    # Nine by nine pixels of one organ, or of background, are out of reach of three pixels.
    assert bool(changed[(inner > 0) & (inner < 1)].any())
    assert not bool(changed[:, 12:-12, 10:20].any())


def test_morphology_grows_and_shrinks() -> None:
    torch.manual_seed(0)
    before = maps((64, 96), 32)
    sizes = (KINDS["morphology"](context(before)) > 0).flatten(1).sum(1) - (before > 0).flatten(1).sum(1)
    assert int(sizes.min()) < 0 < int(sizes.max())


def test_speckle_leaves_many_parts_and_a_severity_of_nought_few() -> None:
    torch.manual_seed(0)
    before = maps((64, 96), 8)
    much, little = (
        float((KINDS["speckle"](context(before, s)) != before).float().mean()) for s in (1.0, 0.0)
    )
    assert 0 < little < 0.25 * much


def test_confusion_follows_the_table() -> None:
    torch.manual_seed(0)
    rates = torch.zeros(4, 4)
    rates[1, 3] = rates[2, 3] = rates[3, 1] = 1.0
    table = confusion_table(4, rates)
    before = maps((64, 96), 200)
    after = KINDS["confusion"](Degradation(before, torch.ones(200), table, DegradeConfig()))
    counts = [int(((before == 1) & (after == v)).sum()) for v in (0, 2, 3)]
    assert counts[2] > 5 * max(counts[:2])


def test_a_table_has_rows_that_sum_to_one_and_nothing_on_its_diagonal() -> None:
    rates = torch.tensor([[0.9, 0.1, 0.0], [0.0, 1.0, 0.0], [0.3, 0.1, 0.6]])
    for table in (confusion_table(3), confusion_table(3, rates)):
        torch.testing.assert_close(table.sum(1), torch.ones(3))
        assert table.diagonal().tolist() == [0, 0, 0]
        assert bool((table + torch.eye(3) > 0).all())  # nothing is impossible
    given = confusion_table(3, rates)
    assert given[0, 1] > 5 * given[0, 2]
    assert given[2, 0] > 2 * given[2, 1]


def test_the_extent_is_that_of_the_anatomy() -> None:
    labels = torch.zeros(2, 10, 20, dtype=torch.uint8)
    labels[0, 3:5, 7:19] = 2
    low, high = extent(labels)
    assert low.tolist() == [[3, 7], [0, 0]]
    assert high.tolist() == [[4, 18], [9, 19]]  # the whole frame where there is none
    labels = torch.zeros(1, 6, 7, 8, dtype=torch.uint8)
    labels[0, 2:4, 5, 1:3] = 1
    assert [x.tolist() for x in extent(labels)] == [[[2, 5, 1]], [[3, 5, 2]]]


def test_labels_are_looked_up_where_the_offset_points() -> None:
    labels = torch.arange(20, dtype=torch.uint8).view(1, 4, 5)
    offset = torch.zeros(1, 2, 4, 5)
    offset[:, 0], offset[:, 1] = 1.2, -1.4
    expected = labels.roll((-1, 1), (1, 2))
    assert torch.equal(look_up(labels, offset)[:, :-1, 1:], expected[:, :-1, 1:])
    assert look_up(labels, offset)[0, -1, 0] == labels[0, -1, 0]  # borders go on


@pytest.mark.parametrize("radius", [1, 3, 40])
def test_a_box_blur_is_a_mean_over_what_is_there(radius: int) -> None:
    x = torch.rand(2, 9, 13, dtype=torch.float64)
    found = box_blur(x, radius)
    for row, column in ((0, 0), (4, 6), (8, 12)):
        part = x[:, max(row - radius, 0) : row + radius + 1, max(column - radius, 0) : column + radius + 1]
        torch.testing.assert_close(found[:, row, column], part.mean((1, 2)))


def test_the_largest_channel_is_that_of_argmax_and_the_first_of_equals() -> None:
    x = torch.rand(3, 5, 7, 8)
    x[0, 1:3, 0, 0] = 2.0
    assert torch.equal(largest(x).long(), x.argmax(1))
    labels = largest(x)
    assert torch.equal(largest(indicator(labels, 5)), labels)


@pytest.mark.parametrize("shape", SHAPES)
def test_degraded_maps_are_hard_and_a_share_stays_clean(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    clean = indicator(maps(shape, 16), 4)
    noisy = degrade(clean, DegradeConfig(clean_p=0.25), confusion_table(4))
    torch.testing.assert_close(noisy.sum(1), torch.ones(16, *shape))
    assert set(noisy.unique().tolist()) == {0, 1}
    alike = [torch.equal(a, b) for a, b in zip(clean, noisy, strict=True)]
    assert 0 < sum(alike) < 16


def test_borders_of_clean_and_damaged_maps_are_alike() -> None:
    # Else a network tells damage by it: what is left of an organ that was cut has to be hard all round.
    torch.manual_seed(0)
    clean = box_blur(indicator(maps((64, 96)), 4).flatten(0, 1), 1).view(4, 4, 64, 96)
    for kinds in ((), ("missing",), ("occlusion",)):
        assert set(degrade(clean, DegradeConfig(), confusion_table(4), kinds).unique().tolist()) == {0, 1}


@pytest.mark.parametrize("shape", SHAPES)
def test_rendered_maps_are_probabilities_some_hard_some_soft(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    given = box_blur(indicator(maps(shape, 40), 4).flatten(0, 1), 1).view(40, 4, *shape)
    found = render(given, DegradeConfig(soften_p=0.3, hard_p=0.3, soften=0.05))
    torch.testing.assert_close(found.sum(1), torch.ones(40, *shape))
    assert torch.equal(largest(found)[:, ::9, ::9], largest(given)[:, ::9, ::9])
    kinds = [
        "as given" if torch.equal(a, b) else "hard" if set(b.unique().tolist()) == {0, 1} else "soft"
        for a, b in zip(given, found, strict=True)
    ]
    assert all(kinds.count(kind) > 3 for kind in ("as given", "hard", "soft"))
    plain = render(given, DegradeConfig(soften_p=0.0, hard_p=0.0))
    assert torch.equal(plain, given)
    hard = render(given, DegradeConfig(soften_p=0.0, hard_p=1.0))
    assert torch.equal(hard, indicator(largest(given), 4))


def test_degradation_repeats_with_the_seed_and_leaves_its_input_alone() -> None:
    clean = indicator(maps((64, 96)), 4)
    before = clean.clone()
    found = []
    for seed in (3, 3, 4):
        torch.manual_seed(seed)
        found.append(degrade(clean, DegradeConfig(), confusion_table(4)))
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])
    assert torch.equal(clean, before)


def test_chosen_kinds_are_done_to_every_item_and_no_others() -> None:
    torch.manual_seed(0)
    clean = indicator(maps((64, 96), 8), 4)
    config = DegradeConfig(clean_p=1.0)
    assert torch.equal(degrade(clean, config, confusion_table(4), ()), clean)
    noisy = degrade(clean, config, confusion_table(4), ("occlusion",))
    assert all(not torch.equal(a, b) for a, b in zip(clean, noisy, strict=True))
    changed = largest(noisy) != largest(clean)
    assert bool((largest(noisy)[changed] == 0).all())


@pytest.mark.parametrize("name", ["clean", *KINDS])
def test_each_kind_can_be_switched_off(name: str) -> None:
    off = {f.name: 0.0 for f in dataclasses.fields(DegradeConfig) if f.name.endswith("_p")}
    clean = indicator(maps((48, 48), 6), 4)
    torch.manual_seed(0)
    assert torch.equal(degrade(clean, DegradeConfig(**off), confusion_table(4)), clean)  # type: ignore[arg-type]
    on = DegradeConfig(**off | {f"{name}_p": 1.0})  # type: ignore[arg-type]
    changed = not torch.equal(degrade(clean, on, confusion_table(4)), clean)
    assert changed == (name != "clean")


def test_the_papers_configuration_has_the_papers_kinds_alone() -> None:
    path = Path(postdae.__file__).parent / "configs" / "paper.yaml"
    config = DegradeConfig(**yaml.safe_load(path.read_text())["data"]["degrade"])
    often = {name: value for name, value in dataclasses.asdict(config).items() if name.endswith("_p")}
    assert {name for name, value in often.items() if value} == {"shapes_p", "morphology_p", "swap_p"}


@pytest.mark.parametrize("shape", SHAPES)
def test_shares_of_an_unsure_network_are_flat_and_wrong_here_and_there(shape: tuple[int, ...]) -> None:
    clean = indicator(maps(shape), 4)
    torch.manual_seed(0)
    made = render(clean, DegradeConfig(soften_p=0.0, hard_p=0.0, soft_p=1.0))
    torch.testing.assert_close(made.sum(1), torch.ones(4, *shape))
    right = (made * clean).sum(1).flatten(1).mean(1)
    assert bool(((right > 0.4) & (right < 0.999)).all())
    assert len({round(float(value), 4) for value in right}) == 4  # each item in its own way


def test_what_is_off_draws_no_random_number(monkeypatch: pytest.MonkeyPatch) -> None:
    clean, states = indicator(maps((64, 96)), 4), []
    for config in (DegradeConfig(), DegradeConfig(soft_p=1e-9)):
        torch.manual_seed(0)
        before = render(degrade(clean, config, confusion_table(4)), config)
        states.append((before, torch.get_rng_state()))
    assert torch.equal(states[0][0], states[1][0])
    assert not torch.equal(states[0][1], states[1][1])
    monkeypatch.setattr("anatozoo.methods.postdae.degrade.soften", None)
    torch.manual_seed(0)
    assert torch.equal(
        render(degrade(clean, DegradeConfig(), confusion_table(4)), DegradeConfig()), states[0][0]
    )
