"""What `anatozoo audit` takes for the table of an archive: time, memory, and whether it finds what is there.

    python benchmarks/audit.py [--rows 700000] [--groups sex,hospital] [--out FILE]

Two tables are generated: estimated Dice of lungs and heart of so many images, three of a patient on average,
and sex, age and hospital of each image in another order. Hearts of one hospital and of patients above 65 are
worse by a known amount. The command runs as users run it, as a process of its own.
"""

import argparse
import json
import platform
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

PLANTED = {"hospital": 0.010, "age": 0.005}
"""How much worse hearts of hospital F, and of patients of 65 or more, are."""
HOSPITALS = list("ABCDEF")


def tables(folder: Path, rows: int, seed: int = 0) -> tuple[Path, Path]:
    """Write the scores and the facts of the images; gives both files."""
    draw = np.random.default_rng(seed)
    patients = draw.integers(0, rows // 3, rows)
    of_patient = {
        "sex": draw.choice(["F", "M"], rows),
        "age": draw.integers(18, 91, rows),
        "hospital": draw.choice(HOSPITALS, rows),
    }
    facts = pd.DataFrame({name: values[patients] for name, values in of_patient.items()})
    ids = np.array([f"{h}/{i:07d}.png" for i, h in enumerate(facts["hospital"])])
    own = draw.normal(0, 0.01, rows)[patients]
    worse = PLANTED["hospital"] * (facts["hospital"] == "F") + PLANTED["age"] * (facts["age"] >= 65)
    scores = pd.DataFrame(
        {
            "id": ids,
            "patient": patients,
            "dice/lungs": (0.96 + own + draw.normal(0, 0.01, rows)).clip(0, 1),
            "dice/heart": (0.93 + own - worse + draw.normal(0, 0.02, rows)).clip(0, 1),
        }
    )
    given, beside = folder / "scores.csv", folder / "facts.csv"
    scores.to_csv(given, index=False, float_format="%.5f")
    facts.insert(0, "id", ids)
    facts.sample(frac=1, random_state=seed).to_csv(beside, index=False)
    return given, beside


def audited(rows: int, groups: str, permutations: int) -> dict[str, Any]:
    """Audit a table of so many rows in a process of its own."""
    with tempfile.TemporaryDirectory() as name:
        scores, facts = tables(Path(name), rows)
        command = [sys.executable, "-m", "anatozoo", "audit", str(scores), "--with", str(facts), "--on", "id"]
        command += ["--groups", groups, "--permutations", str(permutations), "--json"]
        before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        seconds = time.perf_counter() - start
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {
        "rows": rows,
        "wall_s": round(seconds, 1),
        "cpu_s": round(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, 1),
        "peak_mb": round(after.ru_maxrss / 1024),
        "report": json.loads(done.stdout),
    }


def found(report: dict[str, Any], column: str, group: str) -> dict[str, Any]:
    """How much worse hearts of a group are than those of each other group, and the largest corrected p."""
    pairs = [
        (pair["gap"] if pair["b"] == group else -pair["gap"], pair["p_corrected"])
        for pair in report["groupings"][column]["pairs"]
        if pair["metric"] == "dice/heart" and group in (pair["a"], pair["b"])
    ]
    gaps = [round(gap, 5) for gap, _ in pairs]
    return {"worse_by": gaps, "p_corrected_at_most": round(max(p for _, p in pairs), 5)}


def main() -> None:
    """Parse the options and measure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=700_000)
    parser.add_argument("--groups", default="sex,hospital", help="as for `anatozoo audit`")
    parser.add_argument("--permutations", type=int, default=5000)
    parser.add_argument("--out", type=Path, help="write the numbers as JSON")
    options = parser.parse_args()
    record = audited(options.rows, options.groups, options.permutations)
    report = record.pop("report")
    joined = report["joined"][0]
    record |= {
        "command": f"python benchmarks/audit.py --rows {options.rows} --groups {options.groups} "
        f"--permutations {options.permutations} --out FILE",
        "permutations": options.permutations,
        "python": platform.python_version(),
        "with_partner": joined["with_partner"],
        "unused": joined["unused"],
        "planted": PLANTED,
        "found": {
            f"{column} {group}": found(report, column, group)
            for column, group in (("hospital", "F"), ("age_bin", "65+"), ("sex", "F"))
            if column in report["groupings"]
        },
    }
    text = json.dumps(record, indent=2) + "\n"
    print(text)
    if options.out is not None:
        options.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
