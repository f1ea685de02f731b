import math

import pytest
import torch

from anatozoo.metrics.per_image import PerImageMean
from tests.support.ranks import SHARES, in_two_processes

VALUES = torch.tensor([[1.0, 10.0], [2.0, math.nan], [3.0, 30.0], [4.0, 40.0], [7.5, math.nan]])


def collect(rank: int) -> dict:
    results = {}
    for name, shares in SHARES.items():
        metric = PerImageMean(2)
        for image in shares[rank]:
            metric.update(torch.tensor([image]), VALUES[[image]])
        means = metric.compute()
        again = metric.compute()
        metric.reset()
        results[name] = {"means": means, "again": again, "left": len(metric.rows()[0])}
    return results


@pytest.fixture(scope="module")
def distributed(tmp_path_factory: pytest.TempPathFactory) -> list[dict]:
    return in_two_processes(collect, tmp_path_factory.mktemp("ranks"))


def single() -> torch.Tensor:
    metric = PerImageMean(2)
    metric.update(torch.arange(5), VALUES)
    return metric.compute()


def test_single_process_mean_leaves_nan_out() -> None:
    torch.testing.assert_close(single(), torch.tensor([3.5, 80 / 3]))


@pytest.mark.parametrize("shares", list(SHARES))
def test_two_processes_give_what_one_gives(shares: str, distributed: list[dict]) -> None:
    for rank in distributed:
        assert torch.equal(rank[shares]["means"], single())
        assert torch.equal(rank[shares]["again"], single())
        assert rank[shares]["left"] == 0


def test_repeats_count_once_and_order_does_not_matter() -> None:
    metric = PerImageMean(2)
    order = torch.tensor([4, 0, 0, 3, 1, 4, 2])
    metric.update(order, VALUES[order])
    assert torch.equal(metric.compute(), single())
    index, values = metric.rows()
    assert index.tolist() == [0, 1, 2, 3, 4]
    torch.testing.assert_close(values, VALUES, equal_nan=True)


def test_without_images_the_mean_is_nan() -> None:
    metric = PerImageMean(3)
    with pytest.warns(UserWarning, match="compute"):
        means = metric.compute()
    assert means.shape == (3,)
    assert means.isnan().all()


def test_wrong_shape_is_refused() -> None:
    with pytest.raises(ValueError, match=r"must be \(2, 2\)"):
        PerImageMean(2).update(torch.tensor([0, 1]), torch.zeros(2, 3))
