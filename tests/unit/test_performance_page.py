"""The page of the benchmarks says what their JSON says, and which goals are missed."""

import json
import shutil
from pathlib import Path

import pytest

from anatozoo.errors import ManifestError
from docs.performance_page import ENGINES, GPU, performance_page

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    """A copy of the evidence, to change."""
    shutil.copytree(DOCS / "evidence", tmp_path / "evidence")
    return tmp_path


def change(path: Path, keys: list[str], value: object) -> None:
    """Set a number in a file of evidence."""
    record = json.loads(path.read_text())
    place = record
    for key in keys[:-1]:
        place = place[key]
    place[keys[-1]] = value
    path.write_text(json.dumps(record))


def test_a_goal_is_missed_as_soon_as_the_number_that_is_shown_is_beyond_it(docs: Path) -> None:
    line = "| `anatozoo predict` of one PNG, against `import torch` | {} |"
    for value, words in ((1.604, "1.60 × | ≤ 1.6"), (1.61, "1.61 × | ≤ 1.6, **missed**")):
        change(docs / "evidence/start.json", ["processes", "predict one PNG", "wall_ratio"], value)
        assert line.format(words) in performance_page(docs)


def test_a_number_that_is_not_there_is_an_error_that_names_it(docs: Path) -> None:
    change(docs / "evidence/start.json", ["processes", "predict one PNG"], {})
    with pytest.raises(ManifestError, match=r"start\.json lacks the number processes / predict one PNG"):
        performance_page(docs)
    (docs / "evidence/start.json").write_text("{")
    with pytest.raises(ManifestError, match=r"start\.json cannot be read"):
        performance_page(docs)


def test_a_gpu_is_not_measured_until_there_is_a_file_of_it(docs: Path) -> None:
    (docs / "evidence" / GPU).unlink(missing_ok=True)
    assert "Not measured: no GPU was at hand" in performance_page(docs)
    ways = {"bf16": {"images/s": 9.0, "of the ceiling": 0.61}, "graph": "not possible"}
    record = {
        "command": "python benchmarks/gpu.py --out FILE",
        "device": "a chip",
        "torch": "2",
        "goal": 0.6,
        "networks": {"DynUNet": {"16": ways}},
    }
    (docs / "evidence" / GPU).write_text(json.dumps(record))
    assert "| DynUNet | 16 | bf16 | 0.61 |" in performance_page(docs)


def test_engines_are_shown_as_they_were_measured(docs: Path) -> None:
    (docs / "evidence" / ENGINES).unlink(missing_ok=True)
    assert "Not measured yet: `python benchmarks/engines.py" in performance_page(docs)
    record = {
        "command": "python benchmarks/engines.py --out FILE",
        "checkpoint": "hybridgnet-chexmask",
        "threads": 2,
        "clock": "wall",
        "versions": {"torch": "2"},
        "network": {"torch": 1.0, "onnx": 1.5, "onnx, int8": 2.0},
        "predict": {"torch": 1.0, "onnx": 1.25},
        "moved px": {"torch": 0.0, "onnx": 0.0005, "onnx, int8": 1.5},
    }
    (docs / "evidence" / ENGINES).write_text(json.dumps(record))
    page = performance_page(docs)
    assert "| `onnx` | 1.50 × | 1.25 × | 0.001 |" in page
    assert "| onnx, int8 | 2.00 × |  | 1.500 |" in page
    assert "≥ 3 ×, **missed**" in page
    record["network"]["onnx"] = 3.0
    (docs / "evidence" / ENGINES).write_text(json.dumps(record))
    assert "≥ 3 ×." in performance_page(docs)
