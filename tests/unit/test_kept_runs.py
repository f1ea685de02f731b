"""Runs of experiments that are kept in files: chosen, done once, by one process, with equal settings."""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import ttest_rel

from anatozoo.errors import ConfigError, DataError

EXPERIMENT = "kept"
ARMS = {"plain": (1, 2, 3), "own": (1, 2)}


def only(evidence: Any, *words: str) -> list[tuple[str, int]]:
    parser = argparse.ArgumentParser()
    evidence.add_run_options(parser, ARMS)
    chosen: list[tuple[str, int]] = parser.parse_args(["--work", "w", *words]).only
    return chosen


def test_runs_are_chosen_by_arm_and_seed(evidence: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert only(evidence) == [("plain", 1), ("own", 1), ("plain", 2), ("own", 2), ("plain", 3)]
    assert only(evidence, "--only", "own", "plain:3") == [("own", 1), ("own", 2), ("plain", 3)]
    for wrong in ("other", "own:x", "own:"):
        with pytest.raises(SystemExit):
            only(evidence, "--only", wrong)
        assert "must be an arm or ARM:SEED" in capsys.readouterr().err


def test_a_run_is_done_once_and_only_with_its_settings(evidence: Any, tmp_path: Path) -> None:
    path, done = tmp_path / "work" / "own_1.json", []

    def run() -> dict[str, Any]:
        done.append(1)
        return {"arm": "own", "seed": 1}

    for _ in range(2):
        evidence.keep(path, "own, seed 1", {"steps": 2}, run)
    assert len(done) == 1
    assert json.loads(path.read_text()).items() >= {"arm": "own", "seed": 1, "settings": {"steps": 2}}.items()
    with pytest.raises(ConfigError, match="other settings"):
        evidence.keep(path, "own, seed 1", {"steps": 3}, run)


def test_a_run_of_a_process_that_was_killed_is_free_again(evidence: Any, tmp_path: Path) -> None:
    path = tmp_path / "own_1.json"
    code = (
        "import sys, time; sys.path.insert(0, sys.argv[1]); from pathlib import Path; import kept\n"
        "with kept.locked(Path(sys.argv[2])) as mine: print(mine, flush=True); time.sleep(60)"
    )
    folder = str(Path(evidence.__file__).parent)
    other = subprocess.Popen(
        [sys.executable, "-c", code, folder, str(path)], stdout=subprocess.PIPE, text=True
    )
    assert other.stdout is not None
    try:
        assert other.stdout.readline().strip() == "True"
        with evidence.locked(path) as mine:
            assert not mine
        evidence.keep(path, "own, seed 1", {}, lambda: pytest.fail("another process is at it"))
    finally:
        other.kill()
        other.communicate()
    with evidence.locked(path, wait=True) as mine:
        assert mine


def test_what_runs_share_is_made_once_and_anew_if_half_made(evidence: Any, tmp_path: Path) -> None:
    folder, made = tmp_path / "denoiser", []

    def make() -> None:
        folder.mkdir()
        (folder / "weights").write_text(str(len(made)))
        made.append(1)

    (folder).mkdir()
    (folder / "weights").write_text("half of them")  # by a process that was killed
    for _ in range(2):
        evidence.make_once(folder, {"steps": 5}, make)
    assert (folder / "weights").read_text() == "0"
    with pytest.raises(ConfigError, match="other settings"):
        evidence.make_once(folder, {"steps": 600}, make)
    assert evidence.design_of({"a": 1}) != evidence.design_of({"a": 2})


def test_runs_are_read_if_they_belong_together(evidence: Any, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no run yet"):
        evidence.read_runs(tmp_path)
    (tmp_path / "own_1.json").write_text(json.dumps({"arm": "own", "settings": {"steps": 1}}))
    assert [run["arm"] for run in evidence.read_runs(tmp_path)] == ["own"]
    with pytest.raises(DataError, match="no run of plain"):
        evidence.read_runs(tmp_path, "plain")
    (tmp_path / "plain_1.json").write_text(json.dumps({"arm": "plain", "settings": {"steps": 2}}))
    with pytest.raises(DataError, match="different settings"):
        evidence.read_runs(tmp_path, "plain")


@pytest.mark.usefixtures("evidence")
def test_p_over_runs_is_of_the_paired_t_test() -> None:
    from comparing import p_over_runs

    one, other = np.array([0.8, 0.82, 0.85]), np.array([0.79, 0.8, 0.84])
    assert p_over_runs(one - other) == pytest.approx(ttest_rel(one, other).pvalue)
    assert p_over_runs([0.1]) is None
    assert p_over_runs([0.1, 0.1 + 1e-12]) is None
