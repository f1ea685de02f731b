"""The experiment on supervision by denoising: its damage, its controls, its split, and its two kinds of p."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import ttest_1samp

from anatozoo.errors import ConfigError, DataError
from anatozoo.frames.spec import FrameSpec
from tests.support.chest_data import write_chest_data

EXPERIMENT = "sud_evidence"


def run(arm: str, seed: int, gain: float) -> dict[str, Any]:
    """A run in which every number is about `gain` better than that of supervised training."""
    draw = np.random.default_rng(seed)
    rows = []
    for case in range(6):
        for look in ("clean", "metal"):
            base = 0.7 + 0.01 * case + 0.005 * seed
            more = gain * (1 + 0.1 * draw.normal()) if gain else 0.0
            rows += [
                {"case": str(case), "subject": str(case), "look": look, "then": then}
                | {"dice": base + more, "hd_px": 5 - 10 * more}
                for then in ("none", "parts", "few", "pool")
            ]
    return {
        "arm": arm,
        "seed": seed,
        "settings": {"steps": 1},
        "unlabelled": 3,
        "train_cpu_s": 1.0,
        "denoiser_cpu_s": {"few": 2.0, "pool": 3.0},
        "rows": rows,
    }


@pytest.mark.usefixtures("evidence")
def test_p_over_runs_is_that_of_the_runs_means() -> None:
    from sud_report import record_of, report

    runs = [run(arm, seed, gain) for arm, gain in (("supervised", 0.0), ("sud", 0.05)) for seed in (1, 2, 3)]
    record = record_of(runs, "a setting", "a command")
    by_name = {(r["look"], r["arm"], r["then"]): r for r in record["results"]}
    assert "difference" not in by_name["clean", "supervised", "none"]["dice"]
    ours, theirs = (
        np.array([np.mean([x["dice"] for x in r["rows"] if x["look"] == "metal"]) for r in part])
        for part in (runs[3:], runs[:3])
    )
    found = by_name["metal", "sud", "none"]["dice"]
    assert found["difference"] == pytest.approx(np.mean(ours - theirs))
    assert found["p_runs"] == pytest.approx(ttest_1samp(ours - theirs, 0).pvalue)
    assert found["p_cases"] == pytest.approx(2 / 2**6)
    assert found["better"] == by_name["metal", "sud", "none"]["hd_px"]["better"] == 3
    text = report(record)
    assert "SUD, few masks" in text
    assert "a command" in text


@pytest.mark.usefixtures("evidence")
@pytest.mark.parametrize("shape", [(64, 48), (12, 20, 24)])
def test_damage_is_bright_and_always_the_same(shape: tuple[int, ...]) -> None:
    from sud_design import seen

    image = torch.full((1, *shape), 0.4)
    found = [seen(image, name, "metal") for name in ("a", "a", "b")]
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])
    assert torch.equal(seen(image, "a", "clean"), image)
    for each in found:
        assert 0.005 < float((each == 1).float().mean()) < 0.5
        assert float(each.min()) >= 0
        assert bool(((each != 0.4) & (each < 1)).any())  # the stripes


def test_the_largest_part_stays_and_its_holes_are_filled(evidence: Any) -> None:
    from comparing import largest_parts

    labels = np.zeros((12, 12), np.uint8)
    labels[1:6, 1:6], labels[3, 3], labels[9, 9], labels[8:11, 2:5] = 1, 0, 1, 2
    found = largest_parts(labels, 2)
    assert found[3, 3] == 1
    assert found[9, 9] == 0
    assert (found[8:11, 2:5] == 2).all()
    assert not largest_parts(np.zeros((4, 4), np.uint8), 2).any()


@pytest.mark.usefixtures("evidence")
def test_few_subjects_are_annotated_and_others_are_images_alone(tmp_path: Path) -> None:
    from sud_design import SETTINGS, find_split

    root = write_chest_data(tmp_path, {"train": 6, "val": 2}, side=64)
    setting = SETTINGS["jsrt"]._replace(layout="landmarks", labelled=2)
    split = find_split(root, setting, 1)
    assert {name: len(cases) for name, cases in split.items()} == {
        "train": 2,
        "unlabelled": 4,
        "pool": 6,
        "val": 2,
    }
    assert not any(case.labelled for case in split["unlabelled"])
    assert {c.id for c in split["train"]} | {c.id for c in split["unlabelled"]} == {
        c.id for c in split["pool"]
    }
    others = {frozenset(c.id for c in find_split(root, setting, seed)["train"]) for seed in range(8)}
    assert len(others) > 2
    with pytest.raises(DataError, match="needs more than 6 subjects"):
        find_split(root, setting._replace(labelled=6), 1)


@pytest.mark.usefixtures("own_seed")
def test_runs_from_data_to_report(evidence: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = write_chest_data(tmp_path / "data", {"train": 4, "val": 2}, side=64)
    small = {"widths": [4, 4], "code": 4, "skips": [2, 4]}
    setting = evidence.SETTINGS["jsrt"]._replace(
        layout="landmarks", labelled=2, frame=FrameSpec(64), batch=2, denoiser=small, denoiser_batch=2
    )
    monkeypatch.setitem(evidence.SETTINGS, "jsrt", setting)
    words = ["x", "--work", str(tmp_path / "work"), "--steps", "2", "--denoiser-steps", "1"]
    monkeypatch.setattr("sys.argv", [*words, "--root", str(root), "--only", "supervised:1", "sud:1"])
    evidence.main()
    runs = {run["arm"]: run for run in evidence.read_runs(tmp_path / "work")}
    assert runs["sud"]["labelled"] == runs["supervised"]["labelled"]
    assert len(runs["sud"]["rows"]) == 2 * 2 * 4  # cases, looks, repairs
    assert runs["sud"]["rows"] != runs["supervised"]["rows"]
    monkeypatch.setattr("sys.argv", [*words, "--report", "--out", str(tmp_path / "out")])
    evidence.main()
    assert "| SUD, few masks " in (tmp_path / "out" / "sud-jsrt_experiment.md").read_text()
    monkeypatch.setattr("sys.argv", [*words, "--root", str(root), "--only", "sud:5"])
    monkeypatch.setitem(evidence.SETTINGS, "jsrt", setting._replace(runs=1))
    with pytest.raises(ConfigError, match="has 1 runs of"):
        evidence.main()
