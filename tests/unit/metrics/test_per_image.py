import math
import multiprocessing as mp
import socket
from pathlib import Path

import pytest
import torch

from anatozoo.metrics.per_image import PerImageMean

VALUES = torch.tensor([[1.0, 10.0], [2.0, math.nan], [3.0, 30.0], [4.0, 40.0], [7.5, math.nan]])


SHARES = {
    "padded by the sampler": [[0, 2, 4], [1, 3, 0]],
    "nothing on the second process": [[0, 1, 2, 3, 4], []],
    "nothing on the first process": [[], [4, 3, 2, 1, 0]],
}


def collect(rank: int, port: int, out: str) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", f"tcp://127.0.0.1:{port}", world_size=2, rank=rank)
    results = {}
    for name, shares in SHARES.items():
        metric = PerImageMean(2)
        for image in shares[rank]:
            metric.update(torch.tensor([image]), VALUES[[image]])
        means = metric.compute()
        again = metric.compute()
        metric.reset()
        results[name] = {"means": means, "again": again, "left": len(metric.rows()[0])}
    torch.save(results, Path(out) / f"{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.fixture(scope="module")
def distributed(tmp_path_factory: pytest.TempPathFactory) -> list[dict]:
    out = tmp_path_factory.mktemp("ranks")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    context = mp.get_context("spawn")
    processes = [context.Process(target=collect, args=(rank, port, str(out))) for rank in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(180)
        assert process.exitcode == 0
    return [torch.load(out / f"{rank}.pt", weights_only=True) for rank in range(2)]


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
