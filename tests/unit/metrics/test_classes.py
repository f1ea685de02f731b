"""Metrics on torchmetrics: the numbers of `case_row`, whatever the batches, processes and repeats."""

import math
import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch
from torchmetrics import MetricCollection

from anatozoo.errors import ConfigError, GeometryError
from anatozoo.io.annotation import Annotation
from anatozoo.metrics.cases import Case, Measures, case_row
from anatozoo.metrics.classes import Dice, Hausdorff, MeanSurfaceDistance, OrganMetric
from anatozoo.metrics.functional import iou
from tests.support.label_maps import ORGANS, PREDICTION, REFERENCE, SPACING, assert_equal, label_maps
from tests.support.ranks import SHARES, in_two_processes


def all_metrics() -> list[OrganMetric]:
    return [
        Dice(ORGANS),
        Hausdorff(ORGANS),
        Hausdorff(ORGANS, percentile=95),
        Hausdorff(ORGANS, percentile=95, unit="mm"),
        MeanSurfaceDistance(ORGANS),
        MeanSurfaceDistance(ORGANS, unit="mm"),
    ]


def rows_of(
    prediction: torch.Tensor, reference: torch.Tensor, spacing_mm: tuple, **how: object
) -> list[dict]:
    sides = (
        [Annotation.from_labels(x, ORGANS, spacing_mm) for x in side] for side in (prediction, reference)
    )
    return [case_row(Case(*pair), Measures(**how)) for pair in zip(*sides, strict=True)]


# Numbers


@pytest.mark.parametrize("shape", [(24, 37), (9, 12, 15)])
def test_means_are_those_of_case_rows(shape: tuple[int, ...]) -> None:
    prediction, reference = label_maps(3, shape, 3), label_maps(3, shape, 4)
    prediction[0][prediction[0] == 2] = 0
    spacing = (0.5, 2.0, 1.25)[: len(shape)]
    rows = rows_of(prediction, reference, spacing)
    for metric in all_metrics():
        metric.update(prediction[:2], reference[:2], spacing_mm=spacing)
        metric.update(prediction[2:], reference[2:], spacing_mm=spacing)
        found = metric.compute()
        for organ in ORGANS:
            key = f"{metric.name}/{organ}"
            assert found[key].item() == pytest.approx(np.mean([row[key] for row in rows]), rel=1e-6)
            assert found[f"{key}/n"] == 3
        assert len(found) == 4
        assert all(x.shape == () and x.dtype == torch.float32 for x in found.values())


@pytest.mark.parametrize("missing", ["worst", "nan", 7.5])
def test_organs_that_are_missing_count_as_in_case_rows(missing: object) -> None:
    rows = rows_of(PREDICTION, REFERENCE, SPACING, missing=missing)
    for metric in (
        Hausdorff(ORGANS, missing=missing),
        MeanSurfaceDistance(ORGANS, unit="mm", missing=missing),
    ):
        found = metric(PREDICTION, REFERENCE, spacing_mm=SPACING)
        for organ in ORGANS:
            numbers = np.array([row[f"{metric.name}/{organ}"] for row in rows])
            assert found[f"{metric.name}/{organ}"].item() == pytest.approx(np.nanmean(numbers), rel=1e-6)
            assert found[f"{metric.name}/{organ}/n"] == np.isfinite(numbers).sum()


def test_all_kinds_of_label_maps_give_the_same() -> None:
    expected = Dice(ORGANS)(PREDICTION, REFERENCE)
    for given in (
        PREDICTION.byte(),
        PREDICTION.float(),
        PREDICTION.numpy().astype(np.uint16),
        list(PREDICTION),
        list(PREDICTION.numpy()),
    ):
        assert_equal(Dice(ORGANS)(given, REFERENCE), expected)


def test_images_have_their_own_sizes_and_spacings() -> None:
    sizes = [(20, 30), (30, 20)]
    full, empty = ([torch.full(size, value) for size in sizes] for value in (1, 0))
    metric = Hausdorff(["heart"], unit="mm")
    metric.update(full, empty, spacing_mm=torch.tensor([[0.5, 0.5], [2.0, 2.0]]))
    diagonal = math.hypot(20, 30)
    np.testing.assert_allclose(
        metric.rows()[1][:, 0].sort().values, [0.5 * diagonal, 2 * diagonal], rtol=1e-6
    )


def test_any_function_will_do() -> None:
    found = OrganMetric("iou", iou, ORGANS)(PREDICTION, REFERENCE)
    numbers = [iou(p == 1, t == 1) for p, t in zip(PREDICTION, REFERENCE, strict=True)]
    assert found["iou/heart"].item() == pytest.approx(np.nanmean(numbers), rel=1e-6)


# Repeats, copies, collections


def test_repeats_count_once_where_images_are_named() -> None:
    metric = Dice(ORGANS)
    expected = metric(PREDICTION, REFERENCE)
    order = torch.tensor([4, 0, 0, 3, 1, 4, 2])
    named, unnamed = Dice(ORGANS), Dice(ORGANS)
    for part in (order[:3], order[3:]):
        named.update(PREDICTION[part], REFERENCE[part], index=part)
        unnamed.update(PREDICTION[part], REFERENCE[part])
    assert_equal(named.compute(), expected)
    assert unnamed.compute()["dice/heart/n"] == 7
    index, values = named.rows()
    assert index.tolist() == [0, 1, 2, 3, 4]
    named.update(1 - PREDICTION[:1].clamp(max=1), REFERENCE[:1], index=[0])  # the first of two counts
    torch.testing.assert_close(named.rows()[1], values, equal_nan=True)


def test_copies_go_their_own_way() -> None:
    for metric in all_metrics():
        metric.update(PREDICTION[:3], REFERENCE[:3], spacing_mm=SPACING)
        before = metric.compute()
        for copy in (metric.clone(), pickle.loads(pickle.dumps(metric))):
            assert_equal(copy.compute(), before)
            copy.update(PREDICTION[3:], REFERENCE[3:], spacing_mm=SPACING)
            assert copy.compute()[f"{metric.name}/heart/n"] == 5
            assert_equal(metric.compute(), before)


def test_forward_gives_the_batch_and_keeps_all() -> None:
    metric, whole = Hausdorff(ORGANS), Hausdorff(ORGANS)
    expected = whole(PREDICTION, REFERENCE)
    for image in range(5):
        found = metric(PREDICTION[[image]], REFERENCE[[image]], index=[image])
        assert found["hd_px/heart/n"] == 1
    assert_equal(metric.compute(), expected)
    metric.reset()
    assert len(metric.rows()[0]) == 0


def test_a_collection_does_not_take_metrics_that_agree_once_for_the_same() -> None:
    metrics = MetricCollection([Hausdorff(ORGANS), MeanSurfaceDistance(ORGANS)], prefix="val/")
    metrics.update(REFERENCE[3:], REFERENCE[3:])  # all are 0
    metrics.update(PREDICTION[3:], REFERENCE[3:])
    found = metrics.compute()
    for metric in (Hausdorff(ORGANS), MeanSurfaceDistance(ORGANS)):
        metric.update(REFERENCE[3:], REFERENCE[3:])
        metric.update(PREDICTION[3:], REFERENCE[3:])
        assert_equal({key: found[f"val/{key}"] for key in metric.compute()}, metric.compute())


# Processes


def collection() -> MetricCollection:
    return MetricCollection([Dice(ORGANS), Hausdorff(ORGANS), MeanSurfaceDistance(ORGANS)])


def feed(metrics: MetricCollection, images: list[int], *, named: bool = True) -> None:
    for image in images:
        one = slice(image, image + 1)
        index = torch.tensor([image]) if named else None
        metrics.update(prediction=PREDICTION[one], reference=REFERENCE[one], index=index)


def collect(rank: int) -> dict:
    results = {}
    for name, shares in SHARES.items():
        metrics = collection()
        feed(metrics, shares[rank])
        found, again = metrics.compute(), metrics.compute()
        after = metrics["Dice"].rows()[0].tolist()
        metrics.reset()
        results[name] = {"found": found, "again": again, "own": after, "left": len(metrics["Dice"].rows()[0])}
    unnamed = collection()
    feed(unnamed, [[0, 2, 4], [1, 3]][rank], named=False)
    results["unnamed"] = unnamed.compute()
    return results


@pytest.fixture(scope="module")
def distributed(tmp_path_factory: pytest.TempPathFactory) -> list[dict]:
    return in_two_processes(collect, tmp_path_factory.mktemp("ranks"))


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


# Bad input


@pytest.mark.parametrize(
    ("prediction", "reference", "message"),
    [
        (PREDICTION, REFERENCE[:4], "5 predictions against 4"),
        (PREDICTION, REFERENCE[..., :20], "different shapes"),
        (PREDICTION + 1, REFERENCE, "holds 3"),
        (PREDICTION + 256, REFERENCE, "holds 256"),  # 0, 1 and 2 in eight bits
        (PREDICTION + 0.25, REFERENCE, "holds 0.25"),
        (torch.full((5, 24, 37), torch.nan), REFERENCE, "holds nan"),
        (PREDICTION[0], REFERENCE[0], r"not \(37,\)"),
    ],
)
def test_batches_that_do_not_fit_are_refused(prediction, reference, message: str) -> None:
    metric = Dice(ORGANS)
    with pytest.raises(GeometryError, match=message):
        metric.update(prediction, reference)
    assert len(metric.rows()[0]) == 0


@pytest.mark.parametrize(
    ("spacing", "message"),
    [
        (None, "millimetres need the spacing"),
        ((0.0, 1.0), "positive"),
        ((1.0, 1.0, 1.0), "2 positive numbers"),
    ],
)
def test_millimetres_without_a_spacing_are_refused(spacing, message: str) -> None:
    for metric in (Hausdorff(ORGANS, unit="mm"), MeanSurfaceDistance(ORGANS, unit="mm")):
        with pytest.raises(GeometryError, match=message):
            metric.update(PREDICTION[:2], REFERENCE[:2], spacing_mm=spacing)


def test_settings_that_make_no_metric_are_refused() -> None:
    for make in (
        lambda: Dice([]),
        lambda: Dice(["heart", "heart"]),
        lambda: Dice("heart"),
        lambda: Hausdorff(["heart"], unit="cm"),
    ):
        with pytest.raises(ConfigError, match="must"):
            make()
    with pytest.raises(ValueError, match=r"values must be \(1, 2\)"):
        Dice(ORGANS).update(PREDICTION[:2], REFERENCE[:2], index=[0])


def test_importing_the_package_imports_no_torch() -> None:
    code = "import sys, anatozoo.metrics; print('torch' in sys.modules or 'numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
