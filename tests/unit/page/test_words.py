"""What the page says: flags as sentences, numbers with units, estimates with their interval."""

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from anatozoo.metrics.measurements import Measurement
from anatozoo.page import words
from anatozoo.page.flags import OF_ORGANS, WHOLE, sentence
from anatozoo.results.quality import AtlasMatch, DiceInterval, QualityResult
from anatozoo.serve.options import OptionError, spacing_of

PROJECT = Path(__file__).resolve().parents[3]


def test_every_flag_of_the_docs_has_a_sentence() -> None:
    text = (PROJECT / "docs/conventions.md").read_text(encoding="utf-8")
    paragraph = text.split("\nFlags\n")[1].split("\n## ")[0]
    flags = re.findall(r"`([a-z]+[a-z0-9_]*)`", paragraph)
    assert len(flags) > 40
    unknown = [flag for flag in flags if flag not in WHOLE and not flag.startswith(tuple(OF_ORGANS))]
    assert unknown == []


def test_flags_are_sentences() -> None:
    assert sentence("missing_lung_left") == "Left lung: nothing was found."
    assert sentence("never_heard_of") == "Never heard of."
    for words_of_flag in (*WHOLE.values(), *OF_ORGANS.values()):
        assert words_of_flag.endswith(".")


def answered(quality: QualityResult | None = None, **more: Any) -> Any:
    measurements = (
        Measurement("area", "lung_left", 12345.6, "mm2"),
        Measurement("cardiothoracic_ratio", "", 0.4567, "1"),
    )
    if quality is not None:
        measurements += tuple(quality.measurements)
    defaults = {"model": "m 1", "flags": (), "notes": (), "files": {"a_mask.png": b"1" * 2_500_000}}
    result = SimpleNamespace(about="10 x 10 px")
    return SimpleNamespace(measurements=measurements, quality=quality, result=result, **{**defaults, **more})


def test_numbers_have_units_and_files_a_size() -> None:
    text = words.report([answered()], "t", "scan")
    assert "12346 <small>mm²</small>" in text
    assert "Left lung, area" in text
    assert "0.457" in text
    assert "labels, 2.5 MB" in text
    assert "Nothing was flagged" in text


def test_remarks_of_one_of_two_models_say_whose_they_are() -> None:
    text = words.report(
        [answered(flags=("colour",)), answered(model="n 2", flags=("colour", "mirrored"))], "t", "s"
    )
    assert text.count(WHOLE["colour"]) == 1
    assert re.search(rf"{WHOLE['mirrored']} <small>n 2</small>", text)


def quality(**options: Any) -> QualityResult:
    plane = np.zeros((4, 4), np.float32)
    labels = np.zeros((4, 4), np.uint8)
    match = AtlasMatch("a", plane, labels, labels, {"dice": 0.8, "dice/heart": 0.8})
    return QualityResult("i", "e", "atlas", ("heart",), (match,), plane, labels, **options)


def test_estimates_have_their_interval_and_say_what_it_means() -> None:
    found = quality(intervals={"heart": DiceInterval(0.91, 0.85, 0.95)}, coverage=0.9)
    text = words.report([answered(found)], "t", "scan")
    assert "0.91</td>" in text
    assert "0.85 to 0.95" in text
    assert "left:85.0%;width:10.0%" in text
    assert "90% of segmentations" in text
    assert text.count("estimated dice") == 0  # not among the other numbers


def test_estimates_without_intervals_say_why() -> None:
    text = words.report([answered(quality(no_intervals="another engine"))], "t", "scan")
    assert "0.80</td>" in text
    assert "No intervals: another engine." in text


def test_errors_name_the_controls_of_the_page() -> None:
    with pytest.raises(OptionError) as wrong:
        spacing_of("0,14")
    assert "“Spacing in mm” must be one positive number below a million" in words.error(str(wrong.value))
    said = words.error(
        "if it is a chest X-ray all the same, pass allow_any_modality=True (--allow-any-modality)."
    )
    assert "--" not in said
    assert "tick “Take DICOM that is not declared as a chest X-ray”" in said
