"""Two processes: what is logged, the table, the picture and the checkpoint are those of one.

So are the terms of the loss and what objectives remember, if all images of a step are the same: as many in
each process, and all organs known in all of them. Sums of float32 in another order differ by some 1e-6.
"""

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
from anatozoo.frames.spec import FrameSpec
from anatozoo.methods.aenet.module import AeNetModule
from anatozoo.zoo.checkpoint import write_checkpoint_folder
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
OBJECTIVES = """
objectives:
  - class_path: ShapePrior
    init_args: {source: PRIOR, weight: 0.1}
  - class_path: tests.support.objectives.Remembered
    init_args: {folder: FOLDER, own_gradients: OWN}
"""


def command(verb: str, method: str, data: Path, out: Path, objectives: str = "") -> list[str]:
    """A run that measures the network as it was drawn, for its learning rate is zero."""
    out.mkdir()
    (out / "mine.yaml").write_text((CONFIG + objectives).replace("FOLDER", str(out)))
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


def states(path: Path) -> dict[str, Any]:
    """What the objectives' states are in a checkpoint, by the class."""
    stored: dict[str, Any] = torch.load(path, weights_only=True)["callbacks"]
    return {name: stored[name] for name in ("ShapePrior", "Remembered")}


def assert_near(found: dict[str, str], expected: dict[str, str], start: str) -> None:
    columns = [name for name in expected if name.startswith(start)]
    assert len(columns) > 3
    for name in columns:
        assert float(found[name]) == pytest.approx(float(expected[name]), rel=1e-6), name


def check_tables(one: Path, two: Path) -> None:
    """Whether both measured the same five images."""
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


@pytest.mark.slow
@pytest.mark.parametrize(("verb", "method"), [("fit", "hybridgnet"), ("validate", "unet")])
def test_two_processes_measure_five_images_as_one_does(verb: str, method: str, tmp_path: Path) -> None:
    data = write_chest_data(tmp_path / "chest", {"train": 5, "val": 5}, side=64)
    one, two = tmp_path / "one", tmp_path / "two"
    assert main(command(verb, method, data, one)) == 0
    printed = by_two(command(verb, method, data, two), tmp_path)
    assert printed.count("val: 5 images") == (verb == "validate")  # one process speaks
    assert_near(logged(two), logged(one), "val/")
    check_tables(one, two)
    if verb == "validate":  # a fit draws no pictures
        pictures = [np.asarray(PIL.Image.open(out / "val_worst_best.png")) for out in (one, two)]
        np.testing.assert_array_equal(*pictures)


def test_a_fit_by_two_processes_is_that_of_one(tmp_path: Path) -> None:
    data = write_chest_data(tmp_path / "chest", {"train": 4, "val": 5}, side=64)
    torch.manual_seed(0)
    shapes = AeNetModule(organs=["lungs", "heart"], frame=FrameSpec(32))
    prior = write_checkpoint_folder(shapes, tmp_path / "prior", name="aenet-test", version="1.0.0")
    given = OBJECTIVES.replace("PRIOR", str(prior))
    one, two = tmp_path / "one", tmp_path / "two"
    plain = "--data.augment=null"
    # In the second fit an objective sets the gradients, which DDP does not average then.
    backprop, own = (given.replace("OWN", word) for word in ("false", "true"))
    assert main([*command("fit", "unet", data, one, backprop), plain]) == 0
    by_two([*command("fit", "unet", data, two, own), plain], tmp_path)
    assert_near(logged(two), logged(one), "val/")
    check_tables(one, two)

    stored: dict[str, Any] = torch.load(two / "kept" / "last.ckpt", weights_only=True)
    assert stored["global_step"] == 1
    assert {"train/loss", "train/shape", "train/remembered"} <= set(logged(one))
    assert_near(logged(two), logged(one), "train/")
    single, both = states(one / "kept" / "last.ckpt"), states(two / "kept" / "last.ckpt")
    assert both["ShapePrior"]["method"] == "aenet"
    torch.testing.assert_close(both["ShapePrior"]["state"], single["ShapePrior"]["state"], rtol=0, atol=0)
    memories = [torch.load(two / f"memory{rank}.pt", weights_only=True) for rank in (0, 1)]
    torch.testing.assert_close(memories[0], memories[1], rtol=0, atol=0)
    assert len(single["Remembered"]["memory"].unique()) == 4  # each case has its own
    torch.testing.assert_close(memories[0]["memory"], single["Remembered"]["memory"], rtol=1e-5, atol=0)
    gradients = memories[0]["gradients"]
    assert any(float(value.abs().max()) > 1e-3 for value in gradients.values())
    torch.testing.assert_close(gradients, single["Remembered"]["gradients"], rtol=1e-3, atol=1e-6)

    # Whoever goes on has the memory of all cases, whichever process had seen them, and needs no source.
    (prior / "model.safetensors").unlink()
    again = []
    for out, objectives in ((one, backprop), (two, own)):
        resumed = tmp_path / f"resumed-{out.name}"
        options = [f"--ckpt_path={out / 'kept' / 'last.ckpt'}", "--trainer.max_epochs=2", plain]
        assert main([*command("fit", "unet", data, resumed, objectives), *options]) == 0
        again.append(logged(resumed))
    assert again[0]["train/remembered"] != logged(one)["train/remembered"]
    for name in ("train/loss", "train/shape", "train/remembered"):
        assert float(again[1][name]) == pytest.approx(float(again[0][name]), rel=1e-5), name
