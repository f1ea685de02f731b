"""A classifier from a table of images to an audit, by commands alone."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest

import anatozoo
from anatozoo.cli.main import main
from anatozoo.zoo.checkpoint import build_module
from tests.support.finding_data import write_findings

pytestmark = pytest.mark.usefixtures("own_seed")
QUIET = [
    "--trainer.accelerator=cpu",
    "--trainer.enable_progress_bar=false",
    "--trainer.enable_model_summary=false",
]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    counts = {"train": 24, "val": 16}
    return write_findings(tmp_path_factory.mktemp("discs"), counts, other=lambda n: ["", "1", "0"][n % 3])


@pytest.fixture(scope="module")
def folder(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoint of a short fit by the shipped recipe, with a smaller network."""
    out = tmp_path_factory.mktemp("run")
    how = ["--model.findings=[disc,other]", "--model.frame.size=64", "--model.encoder=residual"]
    how += ["--model.encoder_weights=null", "--model.check_view=false", "--data.batch_size=8"]
    how += ["--data.balance_by=[sex,disc]", "--trainer.max_epochs=6", "--model.optim.warmup_steps=2"]
    how += [f"--data.root={root}", f"--trainer.default_root_dir={out}", *QUIET]
    how += ["--trainer.logger=CSVLogger", f"--trainer.logger.save_dir={out}"]
    assert main(["fit", "--config=classifier/chest.yaml", *how]) == 0
    [best] = out.rglob("best.ckpt")
    to = out / "classifier-discs"
    assert main(["export", str(best), "classifier-discs", "--to", str(to)]) == 0
    return to


def test_it_is_verified_and_described(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(folder), "--golden"]) == 0
    assert "a probability differs by 0.0000" in capsys.readouterr().out


def test_predict_gives_a_table_that_an_audit_joins(root: Path, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    images = str(root / "images")
    assert main(["predict", str(folder), images, "--out", str(out), "--format", "json,csv"]) == 0
    with (out / "manifest.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 40
    assert all(0 <= float(row["score/disc"]) <= 1 for row in rows)
    stored = json.loads((out / "000.json").read_text())
    assert list(stored["scores"]) == ["disc", "other"]
    assert f"{stored['scores']['disc']:.6f}" == rows[0]["score/disc"]
    assert (out / "000_scores.csv").is_file()
    table = ["audit", str(out / "manifest.csv"), "--with", str(root / "findings.csv"), "--on", "image"]
    assert (
        main(
            [
                *table,
                "--groups",
                "sex",
                "--classifier",
                "disc=score/disc",
                "--subject",
                "subject",
                "--permutations",
                "9",
            ]
        )
        == 0
    )


def test_a_repair_cannot_follow(
    root: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["predict", str(folder), str(root / "images"), "--out", str(tmp_path), "--then", "postdae-jsrt"]
    assert main(command) != 0
    assert "scores images and draws nothing that could be repaired" in capsys.readouterr().err


def test_evaluate_gives_auc_and_a_table_for_audits(
    root: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (
        main(["evaluate", str(folder), "--data", "findings", "--root", str(root), "--out", str(tmp_path)])
        == 0
    )
    said = capsys.readouterr().out
    assert "| disc" in said
    assert "AUC" in said
    summary = json.loads((tmp_path / "classifier-discs_findings_val.json").read_text())
    disc, other = summary["findings"]["disc"], summary["findings"]["other"]
    assert (disc["images"], disc["with"], disc["patients"]) == (16, 8, 8)
    assert disc["ci_low"] <= disc["auc"] <= disc["ci_high"]
    assert other["images"] < 16
    table = tmp_path / "classifier-discs_findings_val.csv"
    assert (
        main(
            [
                "audit",
                str(table),
                "--groups",
                "sex",
                "--classifier",
                "disc=score/disc",
                "--permutations",
                "9",
                "--json",
            ]
        )
        == 0
    )
    found = json.loads(capsys.readouterr().out)
    assert set(found["metrics"]) == {f"{m}/score/disc" for m in ("auc", "ece")}


@pytest.mark.slow
def test_its_network_is_exported_with_a_program_that_runs_it(
    root: Path, folder: Path, tmp_path: Path
) -> None:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    assert main(["export", str(folder), "--to", "onnx", "--out", str(tmp_path / "graph")]) == 0
    picture = root / "images" / "003.png"
    command = [sys.executable, "-I", str(tmp_path / "graph" / "example.py"), str(picture)]
    subprocess.run(command, cwd=tmp_path, check=True)
    scores = json.loads((tmp_path / "answer.json").read_text())
    expected = anatozoo.load(folder, trainable=False).predict(picture).scores
    assert scores == pytest.approx(expected, abs=1e-3)


def test_calibrate_stores_a_temperature(root: Path, folder: Path, tmp_path: Path) -> None:
    to = tmp_path / "classifier-discs"
    command = ["calibrate", str(folder), "--data", "findings", "--root", str(root), "--to", str(to)]
    assert main(command) == 0
    assert build_module(to).temperature != 1
