"""Images collected one by one: each once, the extremes among them, and who they are."""

from typing import Any

import numpy as np
import pytest
from torch.utils.data import ConcatDataset, Dataset, Subset

from anatozoo.errors import DataError
from anatozoo.io.annotation import Annotation
from anatozoo.metrics.cases import Case, case_numbers
from anatozoo.training.collected import Collection, Seen, extremes, identity_of, score_of


def case(wrong: int, size: int = 20, **numbers: float) -> Case:
    """A square that lies `wrong` columns beside its place."""
    here, there = (np.zeros((size, size), bool) for _ in range(2))
    there[5:10, 5:10], here[5:10, 5 + wrong : 10 + wrong] = True, True
    masks = [Annotation((size, size), masks={"heart": mask}) for mask in (here, there)]
    return Case(*masks, np.full((size, size), 0.5), numbers)


def add(collection: Collection, index: int, name: str, case: Case, **identity: str) -> None:
    collection.add(index, {"id": name, **identity}, case, case_numbers(case))


def collect(shifts: dict[int, int], pictures: int = 1) -> Collection:
    collection = Collection(pictures)
    for index, shift in shifts.items():
        add(collection, index, f"case{index}", case(shift))
    return collection


def test_each_image_counts_once_and_rows_are_in_the_order_of_the_data() -> None:
    collection = collect({4: 1, 0: 0, 2: 3})
    add(collection, 4, "case4", case(5))
    collection.gather(1)
    rows = collection.rows({"epoch": 3})
    assert [row["id"] for row in rows] == ["case0", "case2", "case4"]
    assert [row["dice/heart"] for row in rows] == pytest.approx([1.0, 0.4, 0.8])
    assert [list(row)[:3] for row in rows] == [["id", "epoch", "dice/heart"]] * 3


def test_what_two_processes_have_is_what_one_would_have(monkeypatch: pytest.MonkeyPatch) -> None:
    shifts = {0: 3, 1: 0, 2: 1, 3: 4, 4: 2}
    alone = collect(shifts, pictures=2)
    alone.gather(1)
    # The sampler repeats the first image, so that both have equally many.
    shares = [collect({i: shifts[i] for i in part}, pictures=2) for part in ([0, 2, 4], [1, 3, 0])]
    sent = [(share.seen, share._drawn) for share in shares]
    monkeypatch.setattr(
        "torch.distributed.all_gather_object", lambda found, own: found.__setitem__(slice(None), sent)
    )
    for share in shares:
        share.gather(2)
        assert share.rows({"epoch": 0}) == alone.rows({"epoch": 0})
        for title, expected in alone.drawn().items():
            found = share.drawn()[title]
            assert [each[:2] for each in found] == [each[:2] for each in expected]
            for (_, _, mine), (_, _, other) in zip(found, expected, strict=True):
                np.testing.assert_array_equal(mine.image, other.image)
                for one, two in zip(mine.prediction, other.prediction, strict=True):
                    np.testing.assert_array_equal(one, two)


def test_all_rows_begin_with_what_any_is_known_by() -> None:
    collection = Collection(0)
    add(collection, 0, "a", case(0))
    add(collection, 1, "b", case(1), sex="F")
    first, second = collection.rows({"step": 1})
    assert list(first)[:3] == list(second)[:3] == ["id", "sex", "step"]
    assert (first["sex"], second["sex"]) == (None, "F")


@pytest.mark.parametrize("order", [range(9), range(8, -1, -1), [4, 0, 8, 2, 6, 1, 7, 3, 5]])
def test_the_worst_and_the_best_are_kept_whatever_the_order(order: Any) -> None:
    shift = {index: index % 9 // 2 for index in order}
    collection = collect(shift, pictures=2)
    drawn = collection.drawn()
    # Of those that are equally good, the one that comes first in the data.
    assert [name for name, _, _ in drawn["worst"]] == ["case8", "case6"]
    assert [name for name, _, _ in drawn["best"]] == ["case1", "case0"]
    assert [score for _, score, _ in drawn["worst"]] == ["dice 0.200", "dice 0.400"]
    # The pictures of all others are gone.
    assert len(collection._drawn) == 4
    assert all(item.picture is None for item in collection.seen.values())


def test_few_images_are_drawn_once_each() -> None:
    drawn = collect({0: 0, 1: 2, 2: 1}, pictures=2).drawn()
    assert [[name for name, _, _ in drawn[title]] for title in ("worst", "best")] == [
        ["case1", "case2"],
        ["case0"],
    ]
    assert collect({}, pictures=2).drawn() == {"worst": [], "best": []}
    assert collect({0: 0, 1: 2}, pictures=0).drawn() == {"worst": [], "best": []}


def test_landmarks_are_ranked_by_their_error() -> None:
    seen = {i: Seen({"id": str(i)}, {}, ("mse_px2", error)) for i, error in enumerate((5.0, 50.0, 0.5))}
    assert extremes(seen, 1) == ([1], [2])


def test_the_score_is_the_mean_dice_of_organs_counted_once() -> None:
    lungs = {"dice/lung_right": 0.9, "dice/lung_left": 0.7, "dice/lungs": 0.1, "mse_px2": 4.0}
    assert score_of(lungs) == ("dice", pytest.approx(0.8))
    # A pair that stands for itself counts, and what is NaN does not.
    assert score_of({"dice/lungs": 0.4, "dice/heart": 0.8}) == ("dice", pytest.approx(0.6))
    assert score_of({"dice/lungs": np.nan, "dice/heart": 0.8}) == ("dice", 0.8)
    assert score_of({"dice/heart": np.nan, "mse_px2": 4.0}) == ("mse_px2", 4.0)
    assert score_of({"similarity": 0.3}) is None


def test_an_image_of_which_nothing_is_annotated_has_a_row_of_its_numbers() -> None:
    collection = Collection(1)
    known = case(1, similarity=0.25)
    add(collection, 0, "a", Case(known.prediction, Annotation((20, 20)), known.image, known.numbers))
    add(collection, 1, "b", known)
    first, second = collection.rows({})
    assert first == {"id": "a", "similarity": 0.25}
    assert (second["similarity"], second["dice/heart"]) == (0.25, pytest.approx(0.8))
    assert [name for name, _, _ in collection.drawn()["worst"]] == ["b"]


class Names(Dataset[dict[str, Any]]):
    def __init__(self, names: str) -> None:
        self.names = names

    def __len__(self) -> int:
        return len(self.names)

    def identity(self, index: int) -> dict[str, Any]:
        return {"id": self.names[index]}


def test_who_an_item_is_is_found_through_wrappers() -> None:
    names = Names("abcd")
    for dataset in (
        names,
        Subset(names, [2, 3]),
        ConcatDataset([names] * 3),
        Subset(ConcatDataset([names, names]), [5]),
    ):
        # The index is the item's own, not its place in the wrapper.
        assert identity_of(dataset, 3) == {"id": "d"}
    assert identity_of([1, 2], 1) == {"id": "1"}
    with pytest.raises(DataError, match="each counts its items from 0"):
        identity_of(ConcatDataset([names, Names("xy")]), 1)
