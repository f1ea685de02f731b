"""The parts of the benchmark of super-resolution that could be wrong without anybody seeing it."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk
import torch

from anatozoo.errors import ConfigError, DataError
from anatozoo.io.grid import Grid, GridImage, itk_image
from anatozoo.methods.acnn.module import AcnnModule
from anatozoo.methods.acnnsr.module import AcnnSRModule
from anatozoo.nn.slices import interpolate_slices
from anatozoo.tasks.restore import fine_grid
from anatozoo.tasks.thick import thickened
from anatozoo.zoo.checkpoint import write_checkpoint_folder

EXPERIMENT = "acnnsr_evidence"
HEAD_FIRST = (1.0, 0, 0, 0, 1, 0, 0, 0, -1)


def heights(depth: int, direction: tuple[float, ...] | None = None) -> GridImage:
    """A volume whose voxels hold how high they lie, in millimetres."""
    grid = Grid((18, 20, depth), (1.0, 1.0, 1.0), (3.0, 4.0, 50.0), direction)
    z = grid.to_physical(np.stack([np.zeros(depth), np.zeros(depth), np.arange(depth)], -1))[:, 2]
    return GridImage(np.broadcast_to(z[:, None, None], grid.shape).astype(np.float32), grid, "heights")


@pytest.mark.parametrize("direction", [None, HEAD_FIRST])
@pytest.mark.parametrize("depth", [24, 25, 26, 27])
def test_thick_and_restored_slices_lie_where_the_thin_ones_lie(
    evidence: Any, depth: int, direction: tuple[float, ...] | None
) -> None:
    image = heights(depth, direction)
    volume = thickened(image, 4, "gaussian")
    thick = volume.thick
    count = -(-depth // 4)
    assert thick.grid.shape == (count, 20, 18)
    assert thick.grid.spacing_mm == (1, 1, 4)
    at = thick.grid.to_physical(np.stack([np.zeros(count), np.zeros(count), np.arange(count)], -1))[:, 2]
    # A slice near an end counts what the end goes on with.
    np.testing.assert_allclose(thick.pixels[2:-2, 0, 0], at[2:-2], atol=1e-4)
    for name in ("linear", "cubic B-spline"):
        fine = evidence.interpolate(thick, 4, evidence.INTERPOLATORS[name])
        own = volume.own(fine)
        assert own.shape == image.pixels.shape
        middle = slice(11, -11)
        np.testing.assert_allclose(own[middle], image.pixels[middle], atol=0.05)


def test_interpolators_are_what_they_are_called(evidence: Any) -> None:
    pixels = np.random.default_rng(0).random((6, 20, 18), np.float32)
    thick = GridImage(pixels, Grid((18, 20, 6), (1.0, 1.0, 4.0), (5.0, 6.0, 7.0)), "noise")
    found = {name: evidence.interpolate(thick, 4, number) for name, number in evidence.INTERPOLATORS.items()}
    assert all(np.isfinite(volume).all() for volume in found.values())
    np.testing.assert_array_equal(found["nearest"], np.repeat(pixels, 4, 0))
    linear = interpolate_slices(torch.from_numpy(pixels)[None, None], 4)[0, 0].numpy()
    np.testing.assert_allclose(found["linear"], linear, atol=1e-6)
    wave = GridImage(
        np.broadcast_to(np.sin(np.arange(12.0))[:, None, None], (12, 20, 18)).astype(np.float32),
        Grid((18, 20, 12), (1.0, 1.0, 4.0)),
        "wave",
    )
    z = fine_grid(wave.grid, 4).to_physical(np.stack([np.zeros(48), np.zeros(48), np.arange(48)], -1))[:, 2]
    error = {
        name: np.abs(evidence.interpolate(wave, 4, number)[8:-8, 0, 0] - np.sin(z / 4)[8:-8]).max()
        for name, number in evidence.INTERPOLATORS.items()
    }
    assert error["cubic B-spline"] < 0.3 * error["linear"] < 0.3 * error["nearest"]


def test_similarity_is_that_of_the_scaled_volume(evidence: Any) -> None:
    truth = np.random.default_rng(0).normal(500, 100, (12, 20, 18)).astype(np.float32)
    low, high = np.percentile(truth, [0.5, 99.5])
    found = evidence.similarity(truth + np.float32(0.1 * (high - low)), truth)
    assert found["psnr"] == pytest.approx(20, abs=1e-3)
    assert 0.5 < found["ssim"] < 1
    assert evidence.similarity(truth, truth)["ssim"] == pytest.approx(1)


def test_organs_that_are_not_found_are_counted_and_far(evidence: Any) -> None:
    truth = np.zeros((12, 20, 18), np.uint8)
    truth[3:6, 5:10, 5:10], truth[6:9, 5:10, 5:10] = 1, 2
    grid = Grid((18, 20, 12), (1.0, 1.0, 1.0))
    same = evidence.agreement(truth, truth, grid)
    assert (same["dice"], same["hd_mm"], same["assd_mm"], same["missed"]) == (1, 0, 0, 0)
    found = evidence.agreement(np.where(truth == 1, truth, 0), truth, grid)
    assert (found["missed"], found["dice/anterior"], found["dice/posterior"]) == (1, 1, 0)
    assert found["dice"] == 0.5
    assert found["hd_mm/posterior"] == pytest.approx(np.linalg.norm(grid.shape), rel=0.1)


def test_the_first_model_is_compared_with_every_other_row(evidence: Any) -> None:
    rows = []
    for i in range(8):
        rows.append({"method": "ours", "id": str(i), "psnr": 30 + i, "dice": 0.8 + 0.01 * i, "missed": 0})
        rows.append({"method": "linear", "id": str(i), "psnr": 29 + 0.9 * i, "dice": 0.7, "missed": 1})
        rows.append({"method": evidence.ORIGINAL, "id": str(i), "dice": 0.8 + 0.01 * i, "missed": 0})
    table = pd.DataFrame(rows).sample(frac=1, random_state=0)
    found = evidence.tests(table, "ours")
    assert set(found) == {"linear", evidence.ORIGINAL}
    assert found["linear"]["psnr"]["difference"] == pytest.approx(1.35)
    assert found["linear"]["psnr"]["p"] == pytest.approx(2 / 2**8)
    assert found[evidence.ORIGINAL]["dice"]["p"] == 1
    assert "psnr" not in found[evidence.ORIGINAL]
    by_method = evidence.means(table)
    assert by_method["linear"]["missed"] == 8
    assert by_method["ours"]["psnr"] == pytest.approx(33.5)
    assert "psnr" not in by_method[evidence.ORIGINAL]


# --- the whole experiment ----------------------------------------------------------------------------------


def write_data(root: Path, spacing: float = 1.0) -> Path:
    """Three volumes with two organs, all of them for validation."""
    names = [f"case_{i}" for i in range(3)]
    for number, name in enumerate(names):
        labels = np.zeros((17 + number, 20, 18), np.uint8)
        labels[4:8, 5:12, 4:12], labels[8:13, 5:12, 4:12] = 1, 2
        image = np.random.default_rng(number).normal(100 * labels, 5).astype(np.float32)
        grid = Grid(labels.shape[::-1], (spacing,) * 3)
        for folder, values in (("imagesTr", image), ("labelsTr", labels)):
            (root / folder).mkdir(parents=True, exist_ok=True)
            sitk.WriteImage(itk_image(values, grid), str(root / folder / f"{name}.nii.gz"))
    (root / "splits.json").write_text(json.dumps({"val": names}))
    return root


def restorer(folder: Path, name: str, **settings: Any) -> str:
    torch.manual_seed(0)
    module = AcnnSRModule(
        **{"width": 4, "depth": 1, "frame": {"size": [16, 16, 16], "fit": "spacing", "spacing_mm": [1.0] * 3}}
        | settings
    )
    return str(write_checkpoint_folder(module, folder / name, name=name, version="1.0.0"))


def segmenter(folder: Path, labels: list[str]) -> str:
    torch.manual_seed(0)
    frame: dict[str, Any] = {"frame": {"size": [24, 24, 24], "fit": "spacing", "spacing_mm": [1.0, 1.0, 1.0]}}
    module = AcnnModule(organs=labels, architecture="seg", widths=[4, 4, 4, 4], **frame)
    name = f"acnn-toy{len(labels)}"
    return str(write_checkpoint_folder(module, folder / name, name=name, version="1.0.0"))


def test_models_and_interpolation_are_put_on_one_table(evidence: Any, tmp_path: Path) -> None:
    root, out = write_data(tmp_path / "data"), tmp_path / "out"
    models = [restorer(tmp_path, "acnnsr-toy"), restorer(tmp_path, "acnn-sr-other", depth=2)]
    organs = segmenter(tmp_path, list(evidence.ORGANS))
    given = ["--root", str(root), "--models", *models]
    evidence.main([*given, "--segmenter", organs, "--predictor", organs, "--out", str(out)])
    record = json.loads((out / "acnnsr-hippocampus_experiment.json").read_text())
    rows = ["acnnsr-toy", "acnn-sr-other", "nearest", "linear", "cubic B-spline", "original"]
    assert list(record["means"]) == rows
    assert list(record["tests"]) == rows[1:]
    assert (record["first"], record["segmenter"]) == ("acnnsr-toy", "acnn-toy2")
    # Both are the same network, which sees the true volumes here and there.
    original = {column: v for column, v in record["means"]["original"].items() if column != "missed"}
    assert {column: record["shapes"][column] for column in original} == pytest.approx(original)
    # A fresh network adds nothing to its linear interpolation.
    ours, linear = record["means"]["acnnsr-toy"], record["means"]["linear"]
    for column in ("psnr", "ssim", "dice"):
        assert ours[column] == pytest.approx(linear[column], abs=1e-2)
    assert record["means"]["nearest"]["n"] == 3
    text = (out / "acnnsr-hippocampus_experiment.md").read_text()
    assert str(tmp_path) not in text + json.dumps(record)
    assert "--models acnnsr-toy acnn-sr-other --segmenter acnn-toy2 --predictor acnn-toy2" in text
    tables = [line.count("|") for line in text.splitlines() if line.startswith("|")]
    assert len(tables) == 2 * 3 + 6 + 1 + 5


def test_without_models_and_segmenter_interpolation_is_left(
    evidence: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    evidence.main(["--root", str(write_data(tmp_path)), "--profile", "box"])
    shown = capsys.readouterr().out
    assert "| method | volumes | psnr | ssim |" in shown
    assert "minus" not in shown


def test_what_cannot_be_compared_is_refused(evidence: Any, tmp_path: Path) -> None:
    model = restorer(tmp_path, "acnnsr-toy")
    with pytest.raises(ConfigError, match="same name"):
        evidence.methods([model, model], 4)
    with pytest.raises(ConfigError, match="makes 4 slices of one, not 2"):
        evidence.methods([model], 2)
    with pytest.raises(ConfigError, match="restores no volumes"):
        evidence.methods([segmenter(tmp_path, ["heart"])], 4)
    for wrong in (model, segmenter(tmp_path, ["heart"])):
        with pytest.raises(ConfigError, match="no segmenter of anterior and posterior"):
            evidence.load_segmenter(wrong)
    with pytest.raises(DataError, match=r"voxels of \(2\.0, 2\.0, 2\.0\) mm"):
        evidence.read_subjects(write_data(tmp_path / "coarse", 2.0), 4, "gaussian")
