"""Metrics on torchmetrics under what a training does to them: repeats, processes, copies, collections."""

import math
import multiprocessing as mp
import pickle
import socket
from pathlib import Path

import pytest
import torch
from torchmetrics import MetricCollection

from anatozoo.metrics.classes import (
    ECE,
    NSD,
    Components,
    Dice,
    FoldingFraction,
    Hausdorff,
    Holes,
    IoU,
    LandmarkMSE,
    Precision,
    Sensitivity,
    SurfaceMetrics,
    TargetRegistrationError,
)
from tests.support.label_maps import CLASSES, PREDICTION, REFERENCE, SPACING, assert_equal


def test_repeats_count_once_where_images_are_named() -> None:
    metric = Dice(CLASSES)
    expected = metric(PREDICTION, REFERENCE)
    order = torch.tensor([4, 0, 0, 3, 1, 4, 2])
    named, unnamed = Dice(CLASSES), Dice(CLASSES)
    for part in (order[:3], order[3:]):
        named.update(PREDICTION[part], REFERENCE[part], index=part)
        unnamed.update(PREDICTION[part], REFERENCE[part])
    assert_equal(named.compute(), expected)
    assert unnamed.compute()["dice/heart/n"] == 7
    index, values = named.rows()
    assert index.tolist() == [0, 1, 2, 3, 4]
    named.update(1 - PREDICTION[:1].clamp(max=1), REFERENCE[:1], index=[0])  # the first of two counts
    torch.testing.assert_close(named.rows()[1], values, equal_nan=True)


def test_named_and_unnamed_images_together() -> None:
    metric = Dice(CLASSES)
    metric.update(PREDICTION[:2], REFERENCE[:2], index=torch.tensor([9, 9], dtype=torch.int32))
    metric.update(PREDICTION[2:], REFERENCE[2:])
    assert metric.rows()[0].tolist() == [9, -1, -1, -1]
    assert metric.compute()["dice/heart/n"] == 4


SHARES = {
    "padded by the sampler": [[0, 2, 4], [1, 3, 0]],
    "nothing on the second process": [[0, 1, 2, 3, 4], []],
    "nothing on the first process": [[], [4, 3, 2, 1, 0]],
}


def collection() -> MetricCollection:
    return MetricCollection(
        {
            "dice": Dice(CLASSES),
            "hd": Hausdorff(CLASSES),
            "holes": Holes(CLASSES),
            "folding": FoldingFraction(),
        }
    )


def feed(metrics: MetricCollection, images: list[int], *, named: bool = True) -> None:
    torch.manual_seed(3)
    field = 4 * torch.randn(5, 2, 8, 9)
    for image in images:
        one = slice(image, image + 1)
        index = torch.tensor([image]) if named else None
        metrics.update(prediction=PREDICTION[one], reference=REFERENCE[one], field=field[one], index=index)


def collect(rank: int, port: int, out: str) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", f"tcp://127.0.0.1:{port}", world_size=2, rank=rank)
    results = {}
    for name, shares in SHARES.items():
        metrics = collection()
        feed(metrics, shares[rank])
        found, again = metrics.compute(), metrics.compute()
        after = metrics["dice"].rows()[0].tolist()
        metrics.reset()
        results[name] = {"found": found, "again": again, "own": after, "left": len(metrics["dice"].rows()[0])}
    unnamed = collection()
    feed(unnamed, [[0, 2, 4], [1, 3]][rank], named=False)
    results["unnamed"] = unnamed.compute()
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


@pytest.mark.parametrize("shares", list(SHARES))
def test_two_processes_give_what_one_gives(shares: str, distributed: list[dict]) -> None:
    single = collection()
    feed(single, list(range(5)))
    for rank, found in enumerate(distributed):
        assert_equal(found[shares]["found"], single.compute())
        assert_equal(found[shares]["again"], single.compute())
        assert found[shares]["own"] == sorted(SHARES[shares][rank])
        assert found[shares]["left"] == 0


def test_unnamed_images_of_two_processes_all_count(distributed: list[dict]) -> None:
    single = collection()
    feed(single, [0, 2, 4, 1, 3])
    for found in distributed:
        assert_equal(found["unnamed"], single.compute())


def test_forward_gives_the_batch_and_keeps_all() -> None:
    metric, whole = Hausdorff(CLASSES), Hausdorff(CLASSES)
    expected = whole(PREDICTION, REFERENCE)
    for image in range(5):
        found = metric(PREDICTION[[image]], REFERENCE[[image]], index=[image])
        assert found["hd_px/heart/n"] == 1
    assert_equal(metric.compute(), expected)
    metric.reset()
    assert len(metric.rows()[0]) == 0
    assert_equal(metric(PREDICTION, REFERENCE), expected)


def test_copies_go_their_own_way() -> None:
    for metric in (
        Hausdorff(CLASSES, percentile=95, unit="mm"),
        SurfaceMetrics(CLASSES, 1.0, unit="mm"),
        NSD(CLASSES, 1.0, unit="mm"),
    ):
        metric.update(PREDICTION[:3], REFERENCE[:3], spacing_mm=SPACING)
        before = metric.compute()
        for copy in (metric.clone(), pickle.loads(pickle.dumps(metric))):
            assert_equal(copy.compute(), before)
            copy.update(PREDICTION[3:], REFERENCE[3:], spacing_mm=SPACING)
            assert copy.compute()[f"{metric.keys[0]}/n"] == 5
            assert_equal(metric.compute(), before)
    for other in (
        LandmarkMSE({"a": 2}),
        Components(CLASSES),
        FoldingFraction(),
        ECE(),
        TargetRegistrationError(),
    ):
        assert pickle.loads(pickle.dumps(other)).keys == other.keys


def test_a_metric_without_images_is_nan_and_counts_none() -> None:
    metric = Dice(CLASSES)
    with pytest.warns(UserWarning, match="compute"):
        found = metric.compute()
    assert math.isnan(found["dice/heart"])
    assert found["dice/heart/n"] == found["dice/heart/missed"] == 0


def test_a_collection_does_not_take_metrics_that_agree_once_for_the_same() -> None:
    metrics = MetricCollection([Sensitivity(CLASSES), Precision(CLASSES), Dice(CLASSES), IoU(CLASSES)])
    metrics.update(REFERENCE[3:], REFERENCE[3:])  # all are 1
    metrics.update(PREDICTION[3:], REFERENCE[3:])
    found = metrics.compute()
    for metric in (Sensitivity(CLASSES), Precision(CLASSES), Dice(CLASSES), IoU(CLASSES)):
        metric.update(REFERENCE[3:], REFERENCE[3:])
        metric.update(PREDICTION[3:], REFERENCE[3:])
        assert_equal({key: found[key] for key in metric.compute()}, metric.compute())


def test_results_are_scalars_that_lightning_logs() -> None:
    found = MetricCollection([Dice(CLASSES), Components(CLASSES)], prefix="val/")(PREDICTION, REFERENCE)
    assert {"val/dice/heart", "val/dice/heart/n", "val/components/liver/missed"} <= found.keys()
    assert all(value.is_floating_point() and value.ndim == 0 for value in found.values())
