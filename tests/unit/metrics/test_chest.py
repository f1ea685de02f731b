import numpy as np
import pytest

from anatozoo.metrics.chest import landmark_metrics


def ring(centre: tuple[float, float], turn: float = 0.0, radius: float = 100.0) -> np.ndarray:
    angle = np.arange(40) * 2 * np.pi / 40 + turn
    return np.array(centre) + radius * np.stack([np.cos(angle), np.sin(angle)], 1)


def test_sliding_along_a_contour_and_leaving_it_are_told_apart() -> None:
    truth = {"heart": ring((500, 600))}
    slid = landmark_metrics({"heart": ring((500, 600), turn=0.05)}, truth)
    left = landmark_metrics({"heart": ring((500, 600), radius=105)}, truth)
    chord = 2 * 100 * np.sin(0.025)
    assert slid["mse_px2"] == pytest.approx(chord**2 / 2)
    assert slid["mse_px2/along"] == pytest.approx(chord**2 / 2, rel=1e-3)
    assert slid["mse_px2/across"] == pytest.approx(0, abs=0.02)
    assert left["mse_px2/along"] == pytest.approx(0, abs=1e-9)
    assert left["mse_px2/across"] == pytest.approx(12.5)


def test_the_parts_add_up_over_organs() -> None:
    rng = np.random.default_rng(0)
    truth = {"heart": ring((500, 600)), "lung_left": ring((700, 400))}
    guess = {organ: points + rng.normal(0, 8, points.shape) for organ, points in truth.items()}
    row = landmark_metrics(guess, truth)
    assert row["mse_px2/along"] + row["mse_px2/across"] == pytest.approx(row["mse_px2"])
    assert row["mse_px2/along"] == pytest.approx(row["mse_px2/across"], rel=0.5)
