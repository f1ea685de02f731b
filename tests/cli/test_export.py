"""``anatozoo export`` of a network, and ``--runtime``: options; real checkpoints with ``-m slow``."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from anatozoo.cli.main import main
from tests.support.phantoms import make_chest_phantom


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (["unet-jsrt", "--to", "onnx"], "give the folder of the graph by --out DIR"),
        (["unet-jsrt", "--to", "somewhere", "--out", "x"], "or one of --to onnx, openvino, pt2 for a graph"),
        (
            ["unet-jsrt", "--to", "pt2", "--out", "x", "--version", "1.0.0"],
            "--version is for the export of a run",
        ),
        (["a.ckpt", "unet-x", "--to", "x", "--batch", "1"], "--batch is for the export of a network"),
        (["unet-jsrt", "--to", "pt2", "--out", "x", "--batch", "many"], "at least 1, or dynamic"),
    ],
)
def test_what_does_not_go_together_is_wrong_usage(
    given: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", *given]) == 2
    assert sentence in " ".join(capsys.readouterr().err.split())


def test_an_engine_that_there_is_not_stops_a_prediction(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.fromarray(np.uint8(255 * np.eye(64))).save(tmp_path / "scan.png")
    given = ["predict", "unet-jsrt", str(tmp_path / "scan.png"), "--out", str(tmp_path / "out")]
    assert main([*given, "--runtime", "tensorrt"]) == 1
    assert "there is no engine 'tensorrt'; use onnx, openvino, compile, torch" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["hybridgnet-jsrt", "unet-jsrt", "acnn-hippocampus", "acregnet-jsrt", "postdae-jsrt"]
)
@pytest.mark.parametrize(
    ("to", "package"), [("onnx", "onnxruntime"), ("openvino", "openvino"), ("pt2", "torch")]
)
def test_published_checkpoints_export(
    name: str, to: str, package: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("onnxscript")
    pytest.importorskip(package)
    out = tmp_path / "out"
    assert main(["export", name, "--to", to, "--batch", "1", "--out", str(out)]) == 0
    parity = json.loads((out / "manifest.json").read_text())["parity"]
    assert parity["difference"] <= parity["bound"]
    assert "differs from that of torch by" in capsys.readouterr().out


@pytest.mark.slow
def test_a_folder_is_predicted_by_an_engine_as_by_torch(tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    pytest.importorskip("onnxruntime")
    (tmp_path / "scans").mkdir()
    for number in range(3):
        pixels = make_chest_phantom(300 + 20 * number, 280, seed=number).image
        Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / "scans" / f"{number}.png")
    found = []
    for options in ([], ["--runtime", "onnx"]):
        out = tmp_path / f"out{len(found)}"
        given = ["predict", "hybridgnet-jsrt", str(tmp_path / "scans"), "--out", str(out), "--format", "json"]
        assert main([*given, *options]) == 0
        found.append([json.loads(path.read_text())["landmarks"] for path in sorted(out.glob("*.json"))])
    for ours, theirs in zip(*found, strict=True):
        for organ, points in ours.items():
            np.testing.assert_allclose(points, theirs[organ], atol=0.05)
