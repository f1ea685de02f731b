"""The experiment on ensembles of phenotypes: its planted effect, its power and its false alarms."""

from typing import Any

import numpy as np
import pytest

EXPERIMENT = "phenotype_ensembles"
DRAW = np.random.default_rng(0)


@pytest.fixture
def small(evidence: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(evidence, "SIMULATIONS", 300)
    return evidence


def test_the_effect_moves_the_outer_wall_alone(evidence: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    # In a sector that is narrow enough to leave the other side where it is.
    monkeypatch.setattr(evidence, "SECTOR", (0.75, 0.12))
    monkeypatch.setattr(evidence, "HEIGHT", (0.4, 0.2))
    rings, angles = evidence.SIZE["rings"], evidence.SIZE["angles"]
    turn = 2 * np.pi * np.arange(angles) / angles
    circle = np.stack([np.cos(turn), np.sin(turn)], 1)
    down = np.repeat(np.arange(rings, dtype=float), angles)[:, None]
    sheets = [
        np.vstack([np.hstack([np.tile(circle * radius, (rings, 1)), down]), [[0, 0, rings]]])
        for radius in (20, 28, 40)
    ]
    before = np.vstack(sheets)
    after = evidence.thickened(before, 2.0)
    moved = (after - before).reshape(3, -1, 3)
    others = (moved[[0, 2]], moved[1, :, 2], moved[1, -1])
    assert not any(each.any() for each in others)
    away = np.linalg.norm(moved[1, :-1], axis=1).reshape(rings, angles)
    ring, angle = np.unravel_index(away.argmax(), away.shape)
    assert away.max() == pytest.approx(2.0, abs=0.05)
    assert (ring, angle) == (round(0.4 * (rings - 1)), round(0.75 * angles))
    radius = np.linalg.norm(after.reshape(3, -1, 3)[1, :-1, :2], axis=1)
    assert radius.min() == pytest.approx(28, abs=1e-4)


def test_power_finds_what_is_planted_and_little_else(small: Any) -> None:
    plain = DRAW.normal(size=(80, 6))
    shifted = plain + np.array([0, 0, 1.5, 0, 0, 0])
    found = small.power_of({0.0: plain} | dict.fromkeys(small.EFFECTS[1:], shifted))
    assert found["0.0"] < 0.12
    assert all(found[str(effect)] > 0.9 for effect in small.EFFECTS[1:])


def test_the_record_counts_what_runs_share(small: Any) -> None:
    truth = DRAW.normal(size=(40, 2))

    def run(seed: int) -> dict[str, Any]:
        codes = np.column_stack([truth[:, 0], DRAW.normal(size=40), 0.01 * truth[:, 1]])
        return {
            "arm": "run",
            "seed": seed,
            "latents": 3,
            "kl": 1e-3,
            "rms_px": 2.0,
            "cases": [str(n) for n in range(40)],
            "subjects": [f"{n:02d}" for n in range(40)],
            "codes": {str(e): (codes + e).tolist() for e in small.EFFECTS},
        }

    record = small.record_of([run(seed) for seed in (1, 2, 3)])
    assert [each["runs"] for each in record["phenotypes"]] == [3, 1, 1, 1]
    assert record["stable"] == 1
    assert [each["used"] for each in record["runs"]] == [2, 2, 2]
    assert record["power"]["stable phenotypes"]["4.0"] > 0.95
    text = small.report({"command": "x", **record})
    assert "6 latents in use become 4 phenotypes over 40 hearts" in text
