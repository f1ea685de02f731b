"""Two processes: what is logged, the table, the picture and the checkpoint are those of one."""

import csv
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch

from anatozoo.cli.main import main
from tests.support.chest_data import write_chest_data

pytestmark = [
    pytest.mark.usefixtures("own_seed"),
    pytest.mark.filterwarnings("ignore:Checkpoint directory", "ignore:The dirpath has changed"),
]

METHODS = {"unet": ["--model.decoder_widths=[2,2,4,4,8]"], "hybridgnet": ["--model.skips=[4,3]"]}
CONFIG = """
trainer:
  max_epochs: 1
  accelerator: cpu
  enable_progress_bar: false
  enable_model_summary: false
  callbacks:
    - class_path: anatozoo.training.callback.MetricsCallback
      init_args: {folder: FOLDER, pictures: 2, measures: {tolerance: 2.0}}
    - class_path: lightning.pytorch.callbacks.ModelCheckpoint
      init_args: {save_last: true, filename: x, dirpath: FOLDER/kept}
"""


def command(verb: str, method: str, data: Path, out: Path) -> list[str]:
    """A run that measures the network as it was drawn, for its learning rate is zero."""
    out.mkdir()
    (out / "mine.yaml").write_text(CONFIG.replace("FOLDER", str(out)))
    chosen = [verb, "--config", str(out / "mine.yaml"), f"--data.root={data}", f"--method={method}"]
    model = ["--model.optim.lr=0", "--model.frame.size=64", "--model.organs=lungs_heart", *METHODS[method]]
    # Five images are less than a batch, and of two processes each has a share of three.
    log = ["--trainer.logger=CSVLogger", f"--trainer.logger.save_dir={out}", "--data.batch_size=8"]
    return [*chosen, *model, *log, f"--trainer.default_root_dir={out}"]


def by_two(arguments: list[str], out: Path) -> str:
    """What the command line prints that is started once, and starts the second process itself."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PL_")}
    environment |= {"PYTHONPATH": str(Path(__file__).resolve().parents[2]), "OMP_NUM_THREADS": "1"}
    environment |= {"TP_SOCKET_IFNAME": "lo", "GLOO_SOCKET_IFNAME": "lo"}
    done = subprocess.run(
        [sys.executable, "-m", "anatozoo", *arguments, "--trainer.devices=2", "--trainer.strategy=ddp"],
        env=environment,
        cwd=out,
        capture_output=True,
        text=True,
        timeout=1200,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def logged(out: Path) -> dict[str, str]:
    [path] = out.rglob("metrics.csv")
    return {name: value for row in table(path) for name, value in row.items() if value}


@pytest.mark.parametrize(
    ("verb", "method"),
    [
        ("fit", "unet"),
        pytest.param("fit", "hybridgnet", marks=pytest.mark.slow),
        pytest.param("validate", "unet", marks=pytest.mark.slow),
    ],
)
def test_two_processes_on_five_images_give_what_one_gives(verb: str, method: str, tmp_path: Path) -> None:
    data = write_chest_data(tmp_path / "chest", {"train": 5, "val": 5}, side=64)
    one, two = tmp_path / "one", tmp_path / "two"
    assert main(command(verb, method, data, one)) == 0
    printed = by_two(command(verb, method, data, two), tmp_path)
    assert printed.count("val: 5 images") == (verb == "validate")  # one process speaks

    single, both = logged(one), logged(two)
    columns = [name for name in single if name.startswith("val/")]
    assert len(columns) == 4
    for name in columns:
        assert float(both[name]) == pytest.approx(float(single[name]), rel=1e-6), name

    rows, again = (table(out / "val_metrics.csv") for out in (one, two))
    assert len({row["id"] for row in again}) == len(again) == 5
    assert [list(row) for row in again] == [list(row) for row in rows]
    assert "nsd/heart" in rows[0]
    for expected, found in zip(rows, again, strict=True):
        for column, value in expected.items():
            if not value or column in ("id", "patient", "split", "dataset", "epoch", "step"):
                assert found[column] == value
            else:
                assert float(found[column]) == pytest.approx(float(value), rel=1e-6), column
    if verb == "validate":  # a fit draws no pictures
        pictures = [np.asarray(PIL.Image.open(out / "val_worst_best.png")) for out in (one, two)]
        np.testing.assert_array_equal(*pictures)

    if verb == "fit":
        stored: dict[str, Any] = torch.load(two / "kept" / "last.ckpt", weights_only=True)
        assert stored["global_step"] == 1
