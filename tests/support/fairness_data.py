"""Scores of imaginary patients, with a gap between the sexes or an age that explains it."""

import numpy as np
import pandas as pd


def scores(n: int = 120, gap: float = 0.05, seed: int = 0) -> pd.DataFrame:
    """One row per image: half of them male, ages 20 to 89; women are served worse by `gap`."""
    draw = np.random.default_rng(seed)
    sex = np.where(np.arange(n) % 2, "F", "M")
    age = draw.integers(20, 90, n)
    dice = 0.95 - gap * (sex == "F") + 0.02 * draw.normal(size=n)
    return pd.DataFrame(
        {
            "id": [f"image{i:03}" for i in range(n)],
            "sex": sex,
            "age": age,
            "dice/heart": np.clip(dice, 0, 1),
            "hd_mm/heart": 5 + 100 * (1 - dice) + draw.normal(size=n),
            "dice_rca/heart": np.clip(dice - 0.1 + 0.02 * draw.normal(size=n), 0, 1),
        }
    )


def confounded(n: int = 400, seed: int = 0) -> pd.DataFrame:
    """Women are older, the old are served worse, and sex itself is of no account."""
    draw = np.random.default_rng(seed)
    female = draw.random(n) < 0.5
    old = draw.random(n) < np.where(female, 0.8, 0.2)
    dice = 0.95 - 0.1 * old + 0.02 * draw.normal(size=n)
    return pd.DataFrame(
        {
            "id": np.arange(n).astype(str),
            "sex": np.where(female, "F", "M"),
            "age": np.where(old, 80, 40),
            "dice/heart": np.clip(dice, 0, 1),
        }
    )
