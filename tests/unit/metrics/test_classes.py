"""Metrics on torchmetrics: the numbers of the functions, whatever the batches, processes and repeats."""

import math
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

import anatozoo.metrics
from anatozoo.errors import ConfigError, DataError, GeometryError
from anatozoo.metrics import functional, plausibility, registration
from anatozoo.metrics.classes import (
    ASSD,
    ECE,
    NLL,
    NSD,
    Brier,
    Components,
    Dice,
    FoldingFraction,
    Hausdorff,
    Holes,
    InverseConsistencyError,
    IoU,
    LandmarkError,
    LandmarkMSE,
    LogJacobianSD,
    Precision,
    RelativeSizeError,
    Sensitivity,
    Smoothness,
    SurfaceMetrics,
    TargetRegistrationError,
    default_metrics,
)
from anatozoo.metrics.generic import MaskMetric
from anatozoo.zoo.catalogue import info
from tests.support.label_maps import (
    CLASSES,
    PREDICTION,
    REFERENCE,
    SPACING,
    assert_equal,
    channels,
    label_maps,
)


def by_hand(function, value: int, **options) -> list[float]:
    """The function's value for each image."""
    return [
        function((p == value).numpy(), (t == value).numpy(), **options)
        for p, t in zip(PREDICTION, REFERENCE, strict=True)
    ]


# Numbers


@pytest.mark.parametrize(
    ("metric", "name", "function", "options"),
    [
        (Dice(CLASSES), "dice", functional.dice, {}),
        (IoU(CLASSES), "iou", functional.iou, {}),
        (Sensitivity(CLASSES), "sensitivity", functional.sensitivity, {}),
        (Precision(CLASSES), "precision", functional.precision, {}),
        (RelativeSizeError(CLASSES), "relative_size_error", functional.relative_size_error, {}),
        (Hausdorff(CLASSES), "hd_px", functional.hausdorff_px, {}),
        (Hausdorff(CLASSES, percentile=95), "hd95_px", functional.hausdorff_px, {"percentile": 95}),
        (Hausdorff(CLASSES, unit="mm"), "hd_mm", functional.hausdorff_mm, {"spacing_mm": SPACING}),
        (Hausdorff(CLASSES, missing="nan"), "hd_px", functional.hausdorff_px, {"missing": "nan"}),
        (Hausdorff(CLASSES, missing=7.5), "hd_px", functional.hausdorff_px, {"missing": 7.5}),
        (ASSD(CLASSES), "assd_px", functional.assd_px, {}),
        (ASSD(CLASSES, unit="mm"), "assd_mm", functional.assd_mm, {"spacing_mm": SPACING}),
        (NSD(CLASSES, 2.0), "nsd", functional.nsd, {"tolerance_px": 2.0}),
        (
            NSD(CLASSES, 2.0, unit="mm"),
            "nsd",
            functional.nsd,
            {"tolerance_mm": 2.0, "spacing_mm": SPACING},
        ),
    ],
)
def test_means_are_those_of_the_function(metric, name: str, function, options: dict) -> None:
    metric.update(PREDICTION[:2], REFERENCE[:2], spacing_mm=SPACING)
    metric.update(PREDICTION[2:], REFERENCE[2:], spacing_mm=SPACING)
    found = metric.compute()
    for value, organ in enumerate(CLASSES, start=1):
        numbers = np.array(by_hand(function, value, **options))
        assert found[f"{name}/{organ}"].item() == pytest.approx(np.nanmean(numbers), rel=1e-6)
        assert found[f"{name}/{organ}/n"].item() == np.isfinite(numbers).sum()
        assert found[f"{name}/{organ}/missed"].item() == (1 if organ == "liver" else 0)
    assert all(x.shape == () and x.dtype == torch.float32 for x in found.values())
    assert metric.rows()[1].shape == (5, 4)


def test_finding_less_never_scores_better() -> None:
    worst, left_out = Hausdorff(CLASSES), Hausdorff(CLASSES, missing="nan")
    less = PREDICTION.clone()
    less[3][less[3] == 2] = 0
    for metric in (worst, left_out):
        before, after = metric(PREDICTION, REFERENCE), metric(less, REFERENCE)
        assert after["hd_px/liver/missed"] == before["hd_px/liver/missed"] + 1
    assert worst(less, REFERENCE)["hd_px/liver"] > worst(PREDICTION, REFERENCE)["hd_px/liver"]
    assert left_out(PREDICTION, REFERENCE)["hd_px/liver/n"] == 2
    assert left_out(less, REFERENCE)["hd_px/liver/n"] == 1


def test_surface_metrics_are_those_of_the_single_ones() -> None:
    together = SurfaceMetrics(CLASSES, 2.0, unit="mm")(PREDICTION, REFERENCE, spacing_mm=SPACING)
    apart = [
        Hausdorff(CLASSES, unit="mm"),
        Hausdorff(CLASSES, unit="mm", percentile=95),
        ASSD(CLASSES, unit="mm"),
        NSD(CLASSES, 2.0, unit="mm"),
    ]
    expected = {}
    for metric in apart:
        expected |= metric(PREDICTION, REFERENCE, spacing_mm=SPACING)
    assert_equal(together, expected)
    assert "nsd/heart" not in SurfaceMetrics(CLASSES)(PREDICTION, REFERENCE)


def test_components_and_holes_of_what_was_found() -> None:
    labels = torch.zeros(3, 12, 15, dtype=torch.uint8)
    labels[0, 1:8, 1:8], labels[0, 3, 3], labels[0, 10, 10] = 1, 0, 1
    labels[1, 2:5, 2:5] = 1
    for metric, numbers in ((Components(["heart"]), [2, 1]), (Holes(["heart"]), [1, 0])):
        name = f"{type(metric).__name__.lower()}/heart"
        found = metric(labels)
        assert found[name].item() == np.mean(numbers)
        assert found[f"{name}/n"].item() == 2
        assert found[f"{name}/missed"].item() == 1
        assert metric(labels, labels)[f"{name}/missed"].item() == 0  # the reference has none either
    assert Components(["heart"])(labels)["components/heart"] == np.mean(
        [plausibility.components(image == 1) for image in labels[:2]]
    )


@pytest.mark.parametrize("shape", [(24, 37), (9, 12, 15)])
def test_all_kinds_of_batches_give_the_same(shape: tuple[int, ...]) -> None:
    dims = len(shape)
    prediction, reference = label_maps(3, shape, 3), label_maps(3, shape, 4)
    expected = Dice(CLASSES, dims=dims)(prediction, reference)
    turned = Dice(CLASSES, dims=dims)(reference, prediction)
    one_hot = channels(prediction)
    soft = one_hot.float() * 0.6 + 0.1
    for given in (
        prediction.byte(),
        prediction.float(),
        prediction.numpy(),
        prediction.numpy().astype(np.uint16),
        list(prediction),
        one_hot,
        one_hot.bool(),
        one_hot.numpy().astype(bool),
        soft,
        soft.bfloat16(),
        soft.numpy(),
        (10 * soft - 5).requires_grad_(),  # logits
        one_hot[:, 1:].bool(),
        one_hot[:, 1:].float() * 0.9,
        list(one_hot[:, 1:].bool().numpy()),
    ):
        assert_equal(Dice(CLASSES, dims=dims)(given, reference), expected)
        assert_equal(Dice(CLASSES, dims=dims)(reference, given), turned)


def test_images_of_different_sizes_and_classes_that_overlap() -> None:
    sizes = [(20, 30), (30, 20)]
    prediction = [np.zeros((2, *size), bool) for size in sizes]
    for image in prediction:
        image[0, :10], image[1, 5:15] = True, True
    found = Dice(CLASSES)(prediction, [torch.from_numpy(image) for image in prediction])
    assert found["dice/heart"] == found["dice/liver"] == 1
    rows = Hausdorff(CLASSES)
    rows.update(prediction, [np.zeros_like(image) for image in prediction])
    diagonal = math.hypot(20, 30)
    np.testing.assert_allclose(rows.rows()[1][:, :2], diagonal, rtol=1e-6)


def test_each_image_has_its_spacing() -> None:
    spacing = torch.tensor([[0.5, 0.5], [2.0, 2.0]])
    metric = Hausdorff(["heart"], unit="mm")
    metric.update(PREDICTION[3:] == 1, REFERENCE[3:] == 1, spacing_mm=spacing)
    in_px = Hausdorff(["heart"])
    in_px.update((PREDICTION[3:] == 1).int(), (REFERENCE[3:] == 1).int(), spacing_mm=spacing)
    np.testing.assert_allclose(metric.rows()[1][:, 0], in_px.rows()[1][:, 0] * spacing[:, 0])


def test_any_function_will_do() -> None:
    metric = MaskMetric(functional.mean_surface_distance_px, ["there_px", "back_px"], CLASSES, missing="nan")
    found = metric(PREDICTION, REFERENCE)
    numbers = np.array(by_hand(functional.mean_surface_distance_px, 2, missing="nan"))
    assert found["there_px/liver"].item() == pytest.approx(np.nanmean(numbers[:, 0]), rel=1e-6)
    assert found["back_px/liver"].item() == pytest.approx(np.nanmean(numbers[:, 1]), rel=1e-6)
    assert found["back_px/liver/missed"] == 1


# Landmarks, fields, probabilities


def test_landmarks_together_and_by_class() -> None:
    rng = np.random.default_rng(0)
    prediction, reference = (torch.from_numpy(rng.uniform(0, 99, (4, 7, 2))) for _ in range(2))
    counts = {"heart": 3, "liver": 4}
    parts = {"": slice(0, 7), "/heart": slice(0, 3), "/liver": slice(3, 7)}
    for metric, name, function, options in (
        (LandmarkError(counts), "error_px", functional.landmark_error_px, {}),
        (LandmarkMSE(counts), "mse_px2", functional.landmark_mse_px2, {}),
        (LandmarkMSE(counts, unit="mm"), "mse_mm2", functional.landmark_mse_mm2, {"spacing_mm": SPACING}),
        (
            LandmarkError(counts, percentile=95),
            "error95_px",
            functional.landmark_percentile_px,
            {"percentile": 95},
        ),
        (
            LandmarkError(counts, unit="mm"),
            "error_mm",
            functional.landmark_error_mm,
            {"spacing_mm": SPACING},
        ),
    ):
        found = metric(prediction, reference.float(), spacing_mm=SPACING)
        for end, part in parts.items():
            numbers = [
                function(p[part], t.float()[part], **options)
                for p, t in zip(prediction, reference, strict=True)
            ]
            assert found[name + end].item() == pytest.approx(np.mean(numbers), rel=1e-6)
            assert found[f"{name}{end}/n"] == 4
    assert LandmarkMSE()(prediction, reference).keys() == {"mse_px2", "mse_px2/n"}
    deep = torch.zeros(2, 3, 3)
    assert LandmarkError()(deep, deep + 1)["error_px"].item() == pytest.approx(math.sqrt(3))


def test_a_class_without_annotation_counts_in_no_mean() -> None:
    prediction, reference = torch.zeros(3, 5, 2), torch.ones(3, 5, 2)
    reference[1, 3:] = torch.nan
    reference[2] = torch.nan
    found = LandmarkMSE({"heart": 3, "liver": 2})(prediction, reference)
    assert [found[f"mse_px2{end}/n"].item() for end in ("", "/heart", "/liver")] == [2, 2, 1]
    assert found["mse_px2"] == found["mse_px2/heart"] == found["mse_px2/liver"] == 1
    reference[0, 0, 0] = torch.nan
    with pytest.raises(GeometryError, match="not finite"):
        LandmarkMSE({"heart": 3, "liver": 2})(prediction, reference)


def test_fields_and_what_belongs_to_them() -> None:
    torch.manual_seed(0)
    field = 3 * torch.nn.functional.interpolate(torch.randn(3, 2, 4, 4), size=(20, 30), mode="bilinear")
    fixed, moving = 15 * torch.rand(3, 6, 2), 15 * torch.rand(3, 6, 2)
    for metric, name in (
        (FoldingFraction(), "folding_fraction"),
        (LogJacobianSD(), "log_jacobian_sd"),
        (Smoothness(), "smoothness"),
    ):
        expected = getattr(registration, name)(field)
        assert expected.std() > 0
        for given in (field, field.numpy(), list(field)):
            found = metric(given)
            assert found[name].item() == pytest.approx(expected.mean().item(), rel=1e-5)
            assert found[f"{name}/n"] == 3
    found = TargetRegistrationError()(field, fixed, moving)
    expected = registration.target_registration_error_px(field, fixed, moving).mean()
    assert found["target_registration_error_px"].item() == pytest.approx(expected.item(), rel=1e-6)
    found = TargetRegistrationError(unit="mm")(field, fixed, moving, spacing_mm=SPACING)
    expected = registration.target_registration_error_mm(field, fixed, moving, SPACING).mean()
    assert found["target_registration_error_mm"].item() == pytest.approx(expected.item(), rel=1e-6)
    found = InverseConsistencyError(unit="mm")(field, -field, spacing_mm=0.5)
    expected = registration.inverse_consistency_error_px(field, -field).mean() / 2
    assert found["inverse_consistency_error_mm"].item() == pytest.approx(expected.item(), rel=1e-6)


@pytest.mark.parametrize(
    ("metric", "function"),
    [(ECE(bins=10), functional.ece), (Brier(), functional.brier), (NLL(), functional.nll)],
)
def test_probabilities(metric, function) -> None:
    torch.manual_seed(0)
    probabilities = torch.randn(3, 3, 24, 37).softmax(1)
    labels = REFERENCE[:3]
    options = {"bins": 10} if isinstance(metric, ECE) else {}
    name = type(metric).__name__.lower()
    numbers = [function(p, t, **options) for p, t in zip(probabilities, labels, strict=True)]
    assert metric(probabilities, labels)[name].item() == pytest.approx(np.mean(numbers), rel=1e-6)
    with pytest.raises(DataError, match="softmax"):
        metric(10 * probabilities, labels)
    # Pixels without a label are left out; the rest counts as before.
    unknown = labels.clone()
    unknown[:, :5] = 255
    left = type(metric)(ignore_label=255, **options)(probabilities, unknown)[name].item()
    kept = [function(p[:, 5:], t[5:], **options) for p, t in zip(probabilities, labels, strict=True)]
    assert left == pytest.approx(np.mean(kept), rel=1e-6)


# Defaults


def spec_of(kind: str, classes: tuple[str, ...] = ("heart", "liver"), size: tuple[int, ...] = (37, 24)):
    spec = info("hybridgnet-jsrt")
    output = replace(spec.output, kind=kind, classes=classes, landmarks=None)
    return replace(spec, output=output, input=replace(spec.input, size=size))


def test_defaults_for_landmarks() -> None:
    spec = info("hybridgnet-jsrt")
    count = sum(spec.output.landmarks.values())
    points = torch.rand(2, count, 2)
    found = default_metrics(spec)(prediction=points, reference=points + 1, index=[0, 1])
    for organ in spec.output.classes:
        assert found[f"mse_px2/{organ}"].item() == pytest.approx(1, rel=1e-4)
    for name in ("error_px", "error95_px"):
        assert found[name].item() == pytest.approx(math.sqrt(2), rel=1e-4)
    in_mm = default_metrics(spec, unit="mm")(prediction=points, reference=points + 1, spacing_mm=0.5)
    assert in_mm["error_mm"].item() == pytest.approx(math.sqrt(2) / 2, rel=1e-4)


@pytest.mark.parametrize("shape", [(24, 37), (9, 12, 15)])
def test_defaults_for_masks(shape: tuple[int, ...]) -> None:
    prediction, reference = label_maps(3, shape, 3), label_maps(3, shape, 4)
    metrics = default_metrics(spec_of("mask", size=shape[::-1]))
    found = metrics(channels(prediction).float(), reference)
    assert found["dice/heart"] == Dice(CLASSES, dims=len(shape))(prediction, reference)["dice/heart"]
    names = {"dice", "hd_px", "hd95_px", "assd_px", "components", "holes"}
    assert {key.split("/")[0] for key in found} == names


def test_defaults_for_displacements() -> None:
    metrics = default_metrics(spec_of("displacement"))
    field = torch.zeros(5, 2, 24, 37)
    metrics.update(field=field, prediction=PREDICTION, reference=REFERENCE, index=torch.arange(5))
    found = metrics.compute()
    assert found["folding_fraction"] == found["log_jacobian_sd"] == 0
    assert found["folding_fraction/n"] == 5
    assert found["dice/heart"] == Dice(CLASSES)(PREDICTION, REFERENCE)["dice/heart"]


def test_no_defaults_for_scores() -> None:
    with pytest.raises(ConfigError, match="no default metrics"):
        default_metrics(spec_of("score"))


# Bad input


@pytest.mark.parametrize(
    ("prediction", "reference", "message"),
    [
        (PREDICTION, REFERENCE[:4], "same number of images"),
        (PREDICTION[:0], REFERENCE[:0], "at least one"),
        (PREDICTION, REFERENCE[..., :20], "different shapes"),
        (PREDICTION + 1, REFERENCE, "holds 3"),
        (PREDICTION + 256, REFERENCE, "holds 256"),  # 0, 1 and 2 in eight bits
        (PREDICTION - 1, REFERENCE, "holds -1"),
        (PREDICTION + 0.25, REFERENCE, "holds 0.25"),
        (torch.full((5, 24, 37), torch.nan), REFERENCE, "holds nan"),
        (torch.full((5, 3, 24, 37), torch.nan), REFERENCE, "NaN"),
        (torch.full((5, 2, 24, 37), torch.nan), REFERENCE, "NaN"),
        (channels(PREDICTION)[:, 1:] * 5.0, REFERENCE, "sigmoid"),
        (channels(PREDICTION)[:, 1:] * -1, REFERENCE, "sigmoid"),
        (torch.zeros(5, 4, 24, 37), REFERENCE, "does not fit dims=2"),
        (label_maps(5, (9, 24, 37)), label_maps(5, (9, 24, 37)), "does not fit dims=2"),
        (PREDICTION[0], REFERENCE[0], "does not fit dims=2"),
    ],
)
def test_batches_that_do_not_fit_are_refused(prediction, reference, message: str) -> None:
    metric = Dice(CLASSES)
    with pytest.raises(GeometryError, match=message):
        metric.update(prediction, reference)
    assert len(metric.rows()[0]) == 0


@pytest.mark.parametrize(
    "index", [[0], [0.0, 1.0], [-1, 0], [True, False], torch.tensor([0.0, 1.0]), torch.zeros(2, 3)]
)
def test_an_index_that_names_no_image_is_refused(index) -> None:
    with pytest.raises(DataError, match="2 whole numbers"):
        Dice(CLASSES).update(PREDICTION[:2], REFERENCE[:2], index=index)


@pytest.mark.parametrize(
    ("spacing", "message"),
    [
        (None, "millimetres need the spacing"),
        ((0.0, 1.0), "positive"),
        ((1.0, 1.0, 1.0), "2 positive numbers"),
        (torch.ones(3, 2), "for 2 images"),
        ([torch.ones(2), torch.ones(2)], "turn tuples round"),
    ],
)
@pytest.mark.parametrize("kind", [Hausdorff, ASSD, SurfaceMetrics])
def test_millimetres_without_a_spacing_are_refused(kind, spacing, message: str) -> None:
    metric = kind(CLASSES, unit="mm")
    with pytest.raises(GeometryError, match=message):
        metric.update(PREDICTION[:2], REFERENCE[:2], spacing_mm=spacing)


def test_landmarks_that_do_not_fit_are_refused() -> None:
    points = torch.zeros(2, 5, 2)
    for metric, prediction, message in (
        (LandmarkMSE({"heart": 3, "liver": 3}), points, "do not divide"),
        (LandmarkMSE(), points[:, :4], "give"),
        (LandmarkMSE(), points[:1], "same number of images"),
        (LandmarkMSE(), points * torch.nan, "not finite"),
        (LandmarkError(unit="mm"), points, "spacing"),
    ):
        with pytest.raises(GeometryError, match=message):
            metric.update(prediction, points)
    with pytest.raises(GeometryError, match="do not belong"):
        TargetRegistrationError().update(torch.zeros(2, 2, 8, 9), torch.zeros(2, 4, 3), torch.zeros(2, 4, 3))
    with pytest.raises(GeometryError, match="NaN"):
        FoldingFraction().update(torch.full((2, 2, 8, 9), torch.nan))


@pytest.mark.parametrize(
    "make",
    [
        lambda: Dice([]),
        lambda: Dice(["heart", "heart"]),
        lambda: Dice("heart"),
        lambda: Dice(["heart"], dims=4),
        lambda: Hausdorff(["heart"], unit="cm"),
        lambda: Components(["heart"], dims=1),
        lambda: LandmarkMSE({"heart": 0}),
        lambda: LandmarkError(unit="inch"),
        lambda: TargetRegistrationError(unit="um"),
        lambda: default_metrics(spec_of("mask"), unit="cm"),
    ],
)
def test_settings_that_make_no_metric_are_refused(make) -> None:
    with pytest.raises(ConfigError, match="must"):
        make()


# The package


def test_importing_the_package_imports_no_torch() -> None:
    code = "import sys, anatozoo.metrics; print('torch' in sys.modules or 'numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_every_exported_name_is_there() -> None:
    names = {name for name in dir(anatozoo.metrics) if name[0].isupper()} - {"TYPE_CHECKING", "Any"}
    assert {"Dice", "IoU", "NSD", "Components", "FoldingFraction", "MetricsCallback", "Case"} <= names
    for name in [*names, "default_metrics", "case_row"]:
        assert getattr(anatozoo.metrics, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'Recall'"):
        _ = anatozoo.metrics.Recall
