"""What objectives remember: stored, restored, in bfloat16 too, and after a fit that was killed."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from torch import Tensor

from anatozoo.cli.main import main
from anatozoo.frames.spec import FrameSpec
from anatozoo.methods.aenet.module import AeNetModule
from anatozoo.methods.unet.module import UNetModule
from anatozoo.zoo.checkpoint import write_checkpoint_folder
from tests.support.chest_data import write_chest_data
from tests.support.objectives import Remembered

pytestmark = [
    pytest.mark.usefixtures("own_seed"),
    pytest.mark.filterwarnings("ignore:Checkpoint directory", "ignore:The dirpath has changed"),
]

CONFIG = """
method: unet
trainer:
  max_epochs: 3
  accelerator: cpu
  enable_progress_bar: false
  enable_model_summary: false
  logger: false
  log_every_n_steps: 1
  limit_val_batches: 0
  default_root_dir: FOLDER
  callbacks:
    - class_path: lightning.pytorch.callbacks.ModelCheckpoint
      init_args: {save_top_k: -1, save_last: true, filename: "{epoch}", dirpath: FOLDER}
objectives:
  - class_path: ShapePrior
    init_args: {source: PRIOR, weight: 0.1}
  - class_path: Entropy
  - class_path: tests.support.objectives.Remembered
    init_args: {folder: FOLDER, weight: 10.0}
model:
  organs: lungs_heart
  frame: {size: 64}
  decoder_widths: [2, 2, 4, 4, 8]
  optim: {lr: 1.0e-2, warmup_steps: 0}
data: {batch_size: 2, root: DATA}
"""


def written(folder: Path, data: Path, out: Path) -> list[str]:
    """A fit with three objectives; gives its options."""
    out.mkdir()
    torch.manual_seed(0)
    shapes = AeNetModule(organs=["lungs", "heart"], frame=FrameSpec(32))
    prior = write_checkpoint_folder(shapes, folder / "prior", name="aenet-test", version="1.0.0")
    text = CONFIG.replace("FOLDER", str(out)).replace("PRIOR", str(prior)).replace("DATA", str(data))
    (out / "mine.yaml").write_text(text)
    return ["fit", "--config", str(out / "mine.yaml")]


def stored(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = torch.load(path, weights_only=True)
    return found


def assert_the_fit_goes_on_as_it_would_have(whole: Path, again: Path) -> None:
    """Bit for bit: the weights, the optimiser and what objectives remember."""
    first, second = stored(whole / "last.ckpt"), stored(again / "last.ckpt")
    assert first["epoch"] == second["epoch"] == 2
    for key in ("state_dict", "optimizer_states"):
        torch.testing.assert_close(second[key], first[key], rtol=0, atol=0)
    for part in ("memory", "gradients"):
        one, two = (each["callbacks"]["Remembered"][part] for each in (first, second))
        torch.testing.assert_close(two, one, rtol=0, atol=0)
    assert second["callbacks"]["ShapePrior"].keys() == first["callbacks"]["ShapePrior"].keys()
    one, two = (each["callbacks"]["ShapePrior"]["state"] for each in (first, second))
    torch.testing.assert_close(two, one, rtol=0, atol=0)


def test_a_fit_in_bfloat16_goes_on_with_its_objectives_bit_for_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Remembered] = []
    terms: list[dict[str, Tensor]] = []
    total = UNetModule.total

    def watched(self: UNetModule, given: dict[str, Tensor], batch_size: int) -> Tensor:
        terms.append({name: value.detach() for name, value in given.items()})
        seen.extend(each for each in self.objectives if isinstance(each, Remembered))
        return total(self, given, batch_size)

    monkeypatch.setattr(UNetModule, "total", watched)
    data = write_chest_data(tmp_path / "chest", {"train": 4, "val": 1}, side=64)
    options = [*written(tmp_path, data, tmp_path / "whole"), "--trainer.precision=bf16-mixed"]
    assert main(options) == 0
    assert len(terms) == 6
    for each in terms:
        assert set(each) == {"cross_entropy", "dice", "shape", "entropy", "remembered"}
        assert all(value.dtype == torch.float32 and bool(value.isfinite()) for value in each.values())
    assert seen[-1].dtypes == {torch.float32}  # what objectives see of answers

    before = stored(tmp_path / "whole" / "epoch=0.ckpt")["callbacks"]["Remembered"]["memory"]
    (tmp_path / "prior" / "model.safetensors").unlink()
    (tmp_path / "again").mkdir()
    (tmp_path / "again.yaml").write_text(
        (tmp_path / "whole" / "mine.yaml").read_text().replace(f"{tmp_path}/whole", f"{tmp_path}/again")
    )
    resumed = ["fit", "--config", str(tmp_path / "again.yaml"), "--trainer.precision=bf16-mixed"]
    assert main([*resumed, f"--ckpt_path={tmp_path / 'whole' / 'epoch=0.ckpt'}"]) == 0
    assert seen[-1].restored is not None
    assert torch.equal(seen[-1].restored, before)
    assert_the_fit_goes_on_as_it_would_have(tmp_path / "whole", tmp_path / "again")


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_gradients_that_an_objective_sets_are_those_of_backpropagation(
    precision: str, tmp_path: Path
) -> None:
    data = write_chest_data(tmp_path / "chest", {"train": 4, "val": 1}, side=64)
    options = [*written(tmp_path, data, tmp_path / "whole"), f"--trainer.precision={precision}"]
    options += ["--trainer.max_epochs=1", "--trainer.accumulate_grad_batches=2"]
    mine, found = tmp_path / "whole" / "mine.yaml", []
    for own in ("false", "true"):
        config = tmp_path / f"{own}.yaml"
        text = mine.read_text().replace("weight: 10.0", f"weight: 10.0, own_gradients: {own}")
        (tmp_path / own).mkdir()
        config.write_text(text.replace(f"{tmp_path}/whole", f"{tmp_path}/{own}"))
        assert main([*options, f"--config={config}"]) == 0
        found.append(stored(tmp_path / own / "last.ckpt"))
    assert found[0]["global_step"] == 1
    one, two = (each["callbacks"]["Remembered"]["gradients"] for each in found)
    assert any(float(value.abs().max()) > 1e-3 for value in one.values())
    torch.testing.assert_close(two, one, rtol=1e-3, atol=1e-6)


class Dies(L.Callback):
    """Ends its own process as a machine does that loses its power, once."""

    def __init__(self, mark: str) -> None:
        self.mark = Path(mark)

    def on_train_batch_start(self, trainer: L.Trainer, *_: Any) -> None:
        mark = self.mark / f"died{trainer.global_rank}"
        if trainer.current_epoch == 2 and not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.slow
@pytest.mark.parametrize(("processes", "precision"), [(1, "32-true"), (2, "32-true"), (2, "bf16-mixed")])
def test_a_fit_that_was_killed_goes_on_as_if_nothing_had_been(
    processes: int, precision: str, tmp_path: Path
) -> None:
    data = write_chest_data(tmp_path / "chest", {"train": 6, "val": 1}, side=64)
    options = written(tmp_path, data, tmp_path / "whole")
    mine = tmp_path / "whole" / "mine.yaml"
    mine.write_text(mine.read_text().replace("weight: 10.0", "weight: 10.0, cases: 6"))
    (tmp_path / "killed").mkdir()
    dies = f"  callbacks:\n    - class_path: {__name__}.Dies\n      init_args: {{mark: {tmp_path}}}"
    text = mine.read_text().replace(f"{tmp_path}/whole", f"{tmp_path}/killed").replace("  callbacks:", dies)
    (tmp_path / "killed.yaml").write_text(text)
    options += [f"--trainer.precision={precision}", f"--trainer.devices={processes}"]
    options += ["--trainer.strategy=ddp"] * (processes > 1)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PL_")}
    environment |= {"PYTHONPATH": str(Path(__file__).resolve().parents[3]), "OMP_NUM_THREADS": "1"}
    environment |= {"TP_SOCKET_IFNAME": "lo", "GLOO_SOCKET_IFNAME": "lo"}

    def run(*more: str) -> int:
        done = subprocess.run(
            [sys.executable, "-m", "anatozoo", *options, *more],
            env=environment,
            cwd=tmp_path,
            stderr=subprocess.PIPE,
            text=True,
            timeout=1200,
        )
        assert done.returncode in (0, -signal.SIGKILL), done.stderr
        return done.returncode

    assert run() == 0
    options[2] = str(tmp_path / "killed.yaml")
    assert run() == -signal.SIGKILL
    last = tmp_path / "killed" / "last.ckpt"
    assert stored(last)["epoch"] == 1
    assert run(f"--ckpt_path={last}") == 0
    assert_the_fit_goes_on_as_it_would_have(tmp_path / "whole", tmp_path / "killed")
    memories = [
        torch.load(tmp_path / "killed" / f"memory{rank}.pt", weights_only=True)["memory"]
        for rank in range(processes)
    ]
    assert all(torch.equal(memory, memories[0]) for memory in memories)


def test_two_objectives_that_share_a_place_in_checkpoints_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_chest_data(tmp_path / "chest", {"train": 2, "val": 1}, side=64)
    options = written(tmp_path, data, tmp_path / "whole")
    assert main([*options, "--objectives+=tests.support.objectives.Remembered"]) == 1
    assert "two objectives remember something under the name 'Remembered'" in capsys.readouterr().err
