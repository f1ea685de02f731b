"""Optimisers and schedules, from their records."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from anatozoo.errors import ConfigError
from anatozoo.training.optim import Optim


def built(optim: Optim, steps: float) -> Any:
    module: Any = torch.nn.Linear(1, 1)
    module.trainer = SimpleNamespace(estimated_stepping_batches=steps)
    return optim.build(module)


def test_the_linear_schedule_is_constant_for_half_of_the_fit_then_falls_to_0() -> None:
    [optimizer], [schedule] = built(Optim("adam", 0.5, schedule="linear"), 8)
    rates = []
    for _ in range(8):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule["scheduler"].step()
    assert rates == pytest.approx([0.5] * 5 + [0.375, 0.25, 0.125])
    assert optimizer.param_groups[0]["lr"] == 0


def test_adam_has_the_betas_that_are_asked_for() -> None:
    assert built(Optim("adam", beta1=0.5), 1).defaults["betas"] == (0.5, 0.999)
    assert built(Optim("adamw"), 1).defaults["betas"] == (0.9, 0.999)


@pytest.mark.parametrize(
    ("settings", "match"),
    [({"beta1": 1.0}, "below 1"), ({"beta1": -0.1}, "from 0"), ({"schedule": "falling"}, "or linear")],
)
def test_impossible_settings_are_refused(settings: dict[str, Any], match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        Optim(**settings)


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_a_schedule_that_ends_with_the_fit_needs_an_end(schedule: Any) -> None:
    with pytest.raises(ConfigError, match=f"the {schedule} schedule ends with the fit, which has no end"):
        built(Optim(schedule=schedule), float("inf"))
