"""How often does the audit of a classifier find a bias that is there, and one that is not?

    python experiments/classifier_power.py [--simulations 200] --out docs/evidence

Scores of patients of two sexes, half of whom have the finding, are normal; with the finding they are larger
by 1.5 standard deviations in men and by less in women. Each table is audited as `anatozoo audit --classifier`
does: the p-value of the gap of AUCs by 499 permutations. A share of significant tables (p < .05) is a false
alarm where women lose nothing, and power elsewhere.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from comparing import table_lines, write

from anatozoo.fairness import GroupFrame
from anatozoo.fairness.rows import auc_of, sensitivity_of
from anatozoo.metrics.tables import provenance

LOSSES, PATIENTS = (0.0, 0.25, 0.5, 1.0), (100, 400)
EFFECT, THRESHOLD, ALPHA = 1.5, 0.75, 0.05


def scores_of(patients: int, loss: float, seed: int) -> pd.DataFrame:
    """A table of one simulation."""
    draw = np.random.default_rng([seed, patients, round(100 * loss)])
    sex, y = draw.choice(["F", "M"], patients), draw.integers(0, 2, patients)
    score = draw.normal(size=patients) + y * (EFFECT - loss * (sex == "F"))
    return pd.DataFrame({"sex": sex, "y": y, "score": score, "patient": np.arange(patients)})


def share_of(patients: int, loss: float, simulations: int) -> dict[str, Any]:
    """Shares of simulations with p < .05 for the gap of AUCs and of sensitivities, and the mean gap."""
    p, gaps = np.zeros((simulations, 2)), np.zeros(simulations)
    metrics = [auc_of("y", "score"), sensitivity_of("y", "score", THRESHOLD)]
    for seed in range(simulations):
        table = scores_of(patients, loss, seed)
        frame = GroupFrame(table, metrics, "sex", correction="none", resamples=2, permutations=499, seed=seed)
        p[seed] = [pair.p for pair in frame.pairs]
        gaps[seed] = frame.by_group.loc["M", "auc/score"] - frame.by_group.loc["F", "auc/score"]
    found = (p < ALPHA).mean(0)
    return {
        "patients": patients,
        "loss_sd": loss,
        "mean_auc_gap": float(gaps.mean()),
        "auc": float(found[0]),
        "sensitivity": float(found[1]),
    }


def main() -> None:
    """Simulate and write the report."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--simulations", type=int, default=200, help="of each row (default: 200)")
    parser.add_argument("--out", type=Path, help="folder for the report")
    options = parser.parse_args()
    rows = [share_of(n, loss, options.simulations) for n in PATIENTS for loss in LOSSES]
    command = (
        f"python experiments/classifier_power.py --simulations {options.simulations} --out docs/evidence"
    )
    record = {"command": command, **provenance(["numpy", "scipy"]), "alpha": ALPHA, "rows": rows}
    cells = [
        [str(row["patients"]), f"{row['loss_sd']:g}", f"{row['mean_auc_gap']:.3f}"]
        + [f"{100 * row[name]:.1f} %" for name in ("auc", "sensitivity")]
        for row in rows
    ]
    head = ["patients", "loss of women, SD", "mean gap of AUCs", "AUC: p < .05", "sensitivity: p < .05"]
    text = "\n".join(
        [
            "# Audits of simulated classifiers",
            "",
            f"`{command}`",
            "",
            f"Shares of {options.simulations} simulated tables.",
            "",
            *table_lines(head, cells),
            "",
        ]
    )
    print(text)
    if options.out is not None:
        write(options.out, "classifier-power_experiment", record, text)


if __name__ == "__main__":
    main()
