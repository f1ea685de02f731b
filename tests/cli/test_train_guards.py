"""A fit that comes to nothing ends with one sentence; the last checkpoint is one that resumes."""

import errno
import os
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from anatozoo.cli.main import main
from anatozoo.cli.train import LastCheckpoint
from anatozoo.data.base import CaseDataset, loader
from anatozoo.data.case import Case
from anatozoo.training import guards
from anatozoo.training.module import ZooModule
from tests.support.chest_data import write_chest_data

QUIET = ["--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false", "--trainer.logger=false"]
QUIET += ["--trainer.enable_model_summary=false"]
SMALL = [
    "--method=unet",
    "--model.frame.size=64",
    "--model.decoder_widths=[2,2,4,4,8]",
    "--data.batch_size=2",
]
LATER = "--trainer.max_time=00:00:00:05"
SAVER = "lightning.pytorch.callbacks.ModelCheckpoint"


class Numbered(CaseDataset):
    """Cases that nobody reads."""


pytestmark = [
    pytest.mark.usefixtures("own_seed"),
    pytest.mark.filterwarnings("ignore:Checkpoint directory", "ignore:The dirpath has changed"),
]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_chest_data(tmp_path_factory.mktemp("chest"), {"train": 5, "val": 2})


def fit(data: Path, out: Path, *options: str, base: list[str] = SMALL) -> int:
    return main(["fit", *base, f"--data.root={data}", f"--trainer.default_root_dir={out}", *QUIET, *options])


def config(path: Path, *savers: str) -> str:
    callbacks = ", ".join(f"{{class_path: {SAVER}, init_args: {{{saver}}}}}" for saver in savers)
    path.write_text(f"trainer: {{callbacks: [{callbacks}]}}\n")
    return f"--config={path}"


def the_error(capsys: Any) -> str:
    error = capsys.readouterr().err
    assert "Traceback" not in error
    [line] = [line for line in error.splitlines() if line.startswith("anatozoo: error:")]
    return str(line)


@pytest.mark.parametrize("setting", ["limit_train_batches", "max_steps", "max_epochs"])
def test_a_fit_of_nothing_is_an_error(setting: str, data: Path, tmp_path: Path, capsys: Any) -> None:
    # Lightning warns where no limit of epochs is given.
    limit = [] if setting == "max_epochs" else ["--trainer.max_epochs=1"]
    assert fit(data, tmp_path, f"--trainer.{setting}=0", *limit) == 1
    assert f"nothing was trained: --trainer.{setting} is 0" in the_error(capsys)


def test_a_monitor_without_a_number_ends_the_fit_at_once(data: Path, tmp_path: Path, capsys: Any) -> None:
    chosen = config(tmp_path / "c.yaml", "monitor: val/loss, dirpath: " + str(tmp_path / "kept"))
    assert fit(data, tmp_path, chosen, "--trainer.max_epochs=3") == 1
    line = the_error(capsys)
    assert "val/loss, by which checkpoints are chosen, is not measured" in line
    assert "val/dice" in line
    assert not list(tmp_path.rglob("*.ckpt"))


def test_masks_alone_have_no_error_of_landmarks_to_choose_by(tmp_path: Path, capsys: Any) -> None:
    root = masks_alone(tmp_path / "data")
    base = [
        "--method=hybridgnet",
        "--model.frame.size=64",
        "--model.organs=lungs_heart",
        "--model.skips=[4,3]",
    ]
    base += [
        "--data.batch_size=2",
        "--model.loss=contour",
        "--model.dense_weight=0",
        "--model.region_weight=1",
    ]
    chosen = config(tmp_path / "c.yaml", "monitor: val/mse_px2, save_last: true, filename: best")
    assert fit(root, tmp_path / "out", chosen, "--trainer.max_epochs=2", base=base) == 1
    line = the_error(capsys)
    assert "val/mse_px2, by which checkpoints are chosen, is NaN for every validation case" in line
    assert "val/dice/heart" in line
    assert not list(tmp_path.rglob("best*.ckpt"))


def masks_alone(root: Path) -> Path:
    """Radiographs whose organs are given as masks, without a landmark."""
    import numpy as np
    import PIL.Image

    write_chest_data(root, {"train": 3, "val": 2})
    from anatozoo.io.chest import index_chest
    from anatozoo.io.landmarks import draw_organ_mask

    for case in index_chest(root, "jsrt"):
        for organ, points in case.landmarks.items():
            path = root / "masks" / organ / f"{case.id}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            mask = draw_organ_mask(points, case.size).astype(np.uint8) * 255
            PIL.Image.fromarray(mask).save(path)
    for path in root.rglob("*.npy"):
        path.unlink()
    return root


def test_there_is_one_last_checkpoint_and_it_resumes(data: Path, tmp_path: Path, capsys: Any) -> None:
    kept = tmp_path / "kept"
    chosen = config(
        tmp_path / "c.yaml",
        f"monitor: train/loss, save_last: true, save_weights_only: true, filename: best, dirpath: {kept}",
        f"save_last: true, save_weights_only: true, filename: every, dirpath: {kept}",
    )
    assert fit(data, tmp_path, chosen, "--trainer.max_epochs=2") == 0
    assert [path.name for path in kept.glob("last*")] == ["last.ckpt"]
    last = kept / "last.ckpt"
    assert torch.load(last, weights_only=True)["epoch"] == 1
    again = [f"--ckpt_path={last}", "--trainer.max_epochs=3"]
    assert fit(data, tmp_path, chosen, *again) == 0
    assert [path.name for path in kept.glob("last*")] == ["last.ckpt"]
    assert torch.load(last, weights_only=True)["epoch"] == 2
    capsys.readouterr()
    # At the end of the fit there is nothing to do, and nothing wrong.
    assert fit(data, tmp_path, chosen, *again) == 0
    assert torch.load(last, weights_only=True)["epoch"] == 2
    [weights] = kept.glob("best.ckpt")
    assert fit(data, tmp_path, chosen, f"--ckpt_path={weights}", "--trainer.max_epochs=9") == 1
    line = the_error(capsys)
    assert "weights alone" in line
    assert f"--model.init_weights {weights}" in line
    # A fit that would have to go back says so.
    assert fit(data, tmp_path, chosen, f"--ckpt_path={last}", "--trainer.max_epochs=1") == 1
    assert "max_epochs=1" in the_error(capsys)


def test_going_on_by_another_configuration_is_told(data: Path, tmp_path: Path, capsys: Any) -> None:
    own, other = tmp_path / "own.yaml", tmp_path / "other.yaml"
    own.write_text("model: {optim: {lr: 1e-3, name: adam}, loss: paper, frame: {size: 64}}\n")
    other.write_text("model: {optim: {lr: 0.01}, loss: organs}\n")
    assert fit(data, tmp_path, f"--config={own}", "--trainer.max_epochs=1") == 0
    [last] = tmp_path.rglob("*.ckpt")
    again, base = [f"--ckpt_path={last}", "--trainer.max_epochs=1"], ["--method=unet", "--data.batch_size=2"]
    capsys.readouterr()
    assert fit(data, tmp_path, f"--config={own}", *again, base=base) == 0
    assert "note" not in capsys.readouterr().err
    assert fit(data, tmp_path, f"--config={other}", *again, base=base) == 0
    assert "model.optim.lr is 0.001, not 0.01, loss is 'paper', not 'organs'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--objectives+=Entropy", "--objectives.weight=-1"], "Entropy's weight=-1.0 must be finite"),
        (["--objectives+=Entropi"], "no objective Entropi; there are Agreement, Calibration"),
        (["--config=YAML:objectives: {class_path: Entropy}"], "objectives is a list"),
        (["--model.ce_weight=.nan"], "ce_weight=nan and dice_weight=1.0 must be finite"),
        (["--config=YAML:objectives: [{class_path: MEEP}]"], "no objective MEEP"),
        (
            ["--config=YAML:objectives: [{class_path: Entropy, init_args: {weight: null}}]"],
            "null: Entropy.weight",
        ),
        (["--trainer.max_epochs=-1", LATER, "--model.optim.schedule=cosine"], "which has no end"),
    ],
)
def test_wrong_objectives_and_fits_without_an_end_are_a_sentence(
    options: list[str], words: str, data: Path, tmp_path: Path, capsys: Any
) -> None:
    (tmp_path / "c.yaml").write_text(options[0].partition("YAML:")[2])
    given = [
        option.partition("YAML:")[0] + str(tmp_path / "c.yaml") if "YAML:" in option else option
        for option in options
    ]
    assert fit(data, tmp_path, *given) == 1
    assert words in the_error(capsys)


def test_a_new_fit_leaves_the_checkpoints_of_another_alone(data: Path, tmp_path: Path, capsys: Any) -> None:
    kept = tmp_path / "kept"
    chosen = config(
        tmp_path / "c.yaml", f"monitor: val/dice, mode: max, save_last: true, filename: best, dirpath: {kept}"
    )
    assert fit(data, tmp_path, chosen, "--trainer.max_epochs=1") == 0
    before = {path.name: path.read_bytes() for path in kept.iterdir()}
    assert sorted(before) == ["best.ckpt", "last.ckpt"]
    capsys.readouterr()
    assert fit(data, tmp_path, chosen, "--trainer.max_epochs=1") == 1
    line = the_error(capsys)
    assert f"{kept} holds checkpoints of another fit: best.ckpt, last.ckpt." in line
    assert f"--ckpt_path {kept / 'last.ckpt'}" in line
    assert {path.name: path.read_bytes() for path in kept.iterdir()} == before
    # A trial stores nothing, and what is resumed is the same fit.
    assert fit(data, tmp_path, chosen, "--trainer.fast_dev_run=true") == 0
    assert fit(data, tmp_path, chosen, f"--ckpt_path={kept / 'last.ckpt'}", "--trainer.max_epochs=2") == 0


def test_no_other_checkpoint_may_be_called_last(data: Path, tmp_path: Path, capsys: Any) -> None:
    chosen = config(tmp_path / "c.yaml", "save_last: true", "monitor: val/dice, filename: last")
    assert fit(data, tmp_path, chosen, "--trainer.max_epochs=1") == 1
    assert "has the filename 'last'" in the_error(capsys)


def test_a_full_disk_is_one_sentence(
    data: Path, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(LastCheckpoint, "_save_checkpoint", full)
    chosen = config(tmp_path / "c.yaml", "save_last: true, filename: x")
    assert fit(data, tmp_path, chosen, "--trainer.max_epochs=1") == 1
    assert "the disk is full" in the_error(capsys)


def test_weights_that_are_no_numbers_are_an_error_without_checkpoints_too(
    data: Path, tmp_path: Path, capsys: Any
) -> None:
    options = ["--trainer.max_epochs=1", "--model.optim.lr=1e30", "--trainer.enable_checkpointing=false"]
    assert fit(data, tmp_path, *options) == 1
    assert "training has diverged" in the_error(capsys)


@pytest.mark.parametrize(("images", "processes", "sizes"), [(5, 2, [3]), (20, 2, [4, 4]), (9, 1, [4, 4])])
def test_the_share_of_a_process_is_a_batch_where_it_has_no_whole_one(
    images: int, processes: int, sizes: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(torch.distributed, "is_initialized", lambda: processes > 1)
        patch.setattr(torch.distributed, "get_world_size", lambda: processes)
        made = loader(
            Numbered([Case(str(number), str(number)) for number in range(images)]),
            batch_size=4,
            num_workers=0,
            train=True,
        )
    sampler = torch.utils.data.DistributedSampler(range(images), processes, rank=0)
    share = torch.utils.data.DataLoader(range(images), 4, sampler=sampler, drop_last=made.drop_last)
    assert [len(batch) for batch in share] == sizes


def test_a_fit_that_sigterm_ends_says_so_and_does_not_count_as_done(
    data: Path, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ended(module: ZooModule, *batch: Any) -> None:
        if module.trainer.current_epoch == 1:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(ZooModule, "on_train_batch_end", ended)
    assert fit(data, tmp_path, "--trainer.max_epochs=3") == 143
    assert "ended by SIGTERM; go on with --ckpt_path" in capsys.readouterr().err
    monkeypatch.undo()
    [stored] = tmp_path.rglob("*.ckpt")
    assert fit(data, tmp_path / "on", "--trainer.max_epochs=3", f"--ckpt_path={stored}") == 0


@pytest.mark.parametrize(
    ("precision", "has", "told"), [("bf16-mixed", False, 1), ("bf16-mixed", True, 0), ("32-true", False, 0)]
)
def test_a_fit_says_that_the_processor_has_no_fast_bfloat16(
    precision: str, has: bool, told: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr(guards, "rank_zero_info", said.append)
    monkeypatch.setattr(guards, "_has_bf16", lambda: has)
    trainer: Any = SimpleNamespace(ckpt_path="last.ckpt", precision=precision)
    module: Any = SimpleNamespace(device=torch.device("cpu"))
    guards.FitGuard().on_fit_start(trainer, module)
    assert len(said) == told
    assert all(
        "with --trainer.precision bf16-mixed a step takes several times as long" in each for each in said
    )
