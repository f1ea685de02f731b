"""Fits of two stages by one command: AC-RegNet with its autoencoder, on generated radiographs."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from anatozoo.cli.main import main
from anatozoo.cli.stages import Record, Stage, stages_of
from anatozoo.cli.train import LastCheckpoint
from anatozoo.errors import ConfigError
from anatozoo.methods.acregnet.module import AcRegNetModule
from anatozoo.methods.aenet.module import AeNetModule
from tests.support.chest_data import write_chest_data

pytestmark = pytest.mark.usefixtures("own_seed")

TINY = (
    "--data.batch_size=2",
    "--model.frame.size=16",
    "--trainer.max_steps=-1",
    "--trainer.max_epochs=2",
    "--trainer.limit_train_batches=2",
    "--trainer.check_val_every_n_epoch=1",
    "--trainer.accelerator=cpu",
    "--trainer.logger=false",
    "--trainer.enable_progress_bar=false",
    "--trainer.enable_model_summary=false",
)
CONFIG = ("--config", "acregnet/jsrt.yaml")
PRIOR = [{"class_path": "ShapePrior"}]
STAGES = ("stage1-aenet", "stage2-acregnet")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_chest_data(tmp_path_factory.mktemp("chest"), {"train": 4, "val": 2, "test": 2}, side=32)


def command(data: Path, out: Path, *options: str) -> list[str]:
    return ["fit", *CONFIG, *TINY, "--data.root", str(data), f"--trainer.default_root_dir={out}", *options]


@pytest.fixture(scope="module")
def finished(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both stages, run once."""
    out = tmp_path_factory.mktemp("finished")
    assert main(command(data, out)) == 0
    return out


def copy_of(finished: Path, out: Path) -> Path:
    return Path(shutil.copytree(finished, out / "copy"))


def stored(folder: Path) -> dict[str, Any]:
    """The checkpoint that a stage hands on."""
    path = folder / json.loads((folder / "stage.json").read_text())["checkpoint"]
    return torch.load(path, weights_only=True)


def same(a: dict[str, Any], b: dict[str, Any]) -> bool:
    return all(torch.equal(value, b["state_dict"][name]) for name, value in a["state_dict"].items())


def times(out: Path) -> list[int]:
    return [path.stat().st_mtime_ns for path in sorted(out.rglob("*.ckpt"))]


def test_the_second_stage_uses_what_the_first_has_made(finished: Path) -> None:
    assert sorted(path.name for path in finished.iterdir()) == list(STAGES)
    first, second = (stored(finished / name) for name in STAGES)
    assert (first["anatozoo_method"], second["anatozoo_method"]) == ("aenet", "acregnet")
    assert second["global_step"] == 4
    path = finished / "stage1-aenet/checkpoints/best.ckpt"
    assert same(torch.load(path, weights_only=True), first)
    record = json.loads((finished / "stage2-acregnet/stage.json").read_text())
    assert list(record["settings"]["sha256"]) == ["objectives.source"]
    # The checkpoint of the second holds the model of shapes, and a resumed fit needs no other file.
    [prior] = [value for key, value in second["callbacks"].items() if "ShapePrior" in key]
    assert same({"state_dict": prior["state"]}, first)
    # What both models must agree on is given once.
    frames = [stage["hyper_parameters"]["frame"] for stage in (first, second)]
    assert frames[0] == frames[1]
    assert frames[0]["size"] == 16


def test_both_stages_are_what_two_commands_make(data: Path, finished: Path, tmp_path: Path) -> None:
    shape = finished / "stage1-aenet/checkpoints/best.ckpt"
    assert main(command(data, tmp_path, f"--objectives.source={shape}")) == 0
    assert not list(tmp_path.rglob("stage.json"))
    [path] = tmp_path.rglob("last.ckpt")
    assert same(torch.load(path, weights_only=True), stored(finished / "stage2-acregnet"))


def test_finished_stages_are_not_repeated(data: Path, finished: Path, capsys: Any) -> None:
    before = times(finished)
    assert main(command(data, finished)) == 0
    assert times(finished) == before
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("anatozoo: ")]
    assert [line.partition(" before, ")[0] for line in lines] == [
        "anatozoo: stage 1 of 2, aenet: finished",
        "anatozoo: stage 2 of 2, acregnet: finished",
    ]


def interrupt(monkeypatch: pytest.MonkeyPatch, module: type, step: int) -> None:
    """Let the machine fail in a training step."""
    original: Callable[..., Any] = module.training_step  # type: ignore[attr-defined]

    def training_step(self: Any, batch: Any, batch_idx: int) -> Any:
        if self.global_step == step:
            raise MemoryError("out of memory")
        return original(self, batch, batch_idx)

    monkeypatch.setattr(module, "training_step", training_step)


@pytest.mark.parametrize(("module", "step", "begun"), [(AeNetModule, 3, 1), (AcRegNetModule, 3, 2)])
def test_an_interrupted_stage_goes_on(
    module: type, step: int, begun: int, data: Path, finished: Path, tmp_path: Path, capsys: Any
) -> None:
    for name in STAGES[: begun - 1]:  # what was finished before
        shutil.copytree(finished / name, tmp_path / name)
    with pytest.MonkeyPatch.context() as patch:
        interrupt(patch, module, step)
        with pytest.raises(MemoryError):
            main(command(data, tmp_path))
    assert sorted(path.name for path in tmp_path.iterdir()) == list(STAGES[:begun])
    capsys.readouterr()
    assert main(command(data, tmp_path)) == 0
    shown = capsys.readouterr().out
    assert f"stage {begun} of 2, {STAGES[begun - 1][7:]}: goes on in" in shown
    for name in STAGES:
        assert same(stored(tmp_path / name), stored(finished / name)), name
    assert len(list(tmp_path.rglob("last*.ckpt"))) == len(list(finished.rglob("last*.ckpt")))


def test_a_stage_that_was_interrupted_in_its_first_epoch_begins_again(
    data: Path, finished: Path, tmp_path: Path, capsys: Any
) -> None:
    def fail(*_: Any) -> None:
        raise MemoryError("out of memory")

    kept = tmp_path / STAGES[0] / "checkpoints"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LastCheckpoint, "_save_checkpoint", fail)
        with pytest.raises(MemoryError):
            main(command(data, tmp_path))
    # The best is stored before the last.
    assert [path.name for path in kept.iterdir()] == ["best.ckpt"]
    capsys.readouterr()
    assert main(command(data, tmp_path)) == 0
    assert "stage 1 of 2, aenet: begins in" in capsys.readouterr().out
    assert sorted(path.name for path in kept.iterdir()) == ["best.ckpt", "last.ckpt"]
    assert same(stored(tmp_path / STAGES[0]), stored(finished / STAGES[0]))


def test_a_finished_stage_without_its_checkpoint_deletes_nothing(finished: Path, tmp_path: Path) -> None:
    out = copy_of(finished, tmp_path) / STAGES[0]
    kept = out / "checkpoints"
    (kept / "best.ckpt").rename(kept / "other.ckpt")
    (kept / "last.ckpt").unlink()
    Record(out).clear()
    assert [path.name for path in kept.iterdir()] == ["other.ckpt"]


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("--trainer.max_steps=6", r"stage1-aenet holds a fit with trainer\.max_steps=-1, not 6"),
        ("--first_stage.model.code=8", r"stage1-aenet holds a fit with model\.code=32, not 8"),
        ("--model.frame.size=24", r"stage1-aenet holds a fit with model\.frame\.size=16, not 24"),
        ("--model.optim.lr=0.5", r"stage2-acregnet holds a fit with model\.optim\.lr=0\.001, not 0\.5"),
    ],
)
def test_other_settings_do_not_go_on_with_what_is_there(
    option: str, words: str, data: Path, finished: Path
) -> None:
    before = times(finished)
    with pytest.raises(ConfigError, match=f"{words}; choose another --trainer.default_root_dir"):
        main_raising(command(data, finished, option))
    assert times(finished) == before


def main_raising(argv: list[str]) -> None:
    """The command line without its catching of errors."""
    from anatozoo.cli import fit

    fit.main(argv)


def test_a_second_stage_belongs_to_its_first(data: Path, finished: Path, tmp_path: Path) -> None:
    out = copy_of(finished, tmp_path)
    # Somebody trains another autoencoder where the first one was.
    shutil.rmtree(out / "stage1-aenet")
    with pytest.raises(ConfigError, match=r"stage2-acregnet holds a fit with sha256\.objectives\.source="):
        main_raising(command(data, out, "--first_stage.model.optim.lr=0.01"))


def test_a_record_that_is_cut_short_or_missing_is_named(data: Path, tmp_path: Path) -> None:
    (tmp_path / "stage1-aenet").mkdir()
    (tmp_path / "stage1-aenet/stage.json").write_text('{"settings": ')
    with pytest.raises(ConfigError, match=r"stage\.json cannot be read .*; delete"):
        main_raising(command(data, tmp_path))
    (tmp_path / "stage1-aenet/stage.json").unlink()
    (tmp_path / "stage1-aenet/checkpoints").mkdir()
    (tmp_path / "stage1-aenet/checkpoints/last.ckpt").write_bytes(b"")
    with pytest.raises(ConfigError, match=r"last\.ckpt is of an unknown fit, for stage\.json is missing"):
        main_raising(command(data, tmp_path))
    (tmp_path / "stage1-aenet/checkpoints/last.ckpt").rename(tmp_path / "stage1-aenet/checkpoints/best.ckpt")
    with pytest.raises(ConfigError, match=r"best\.ckpt is of an unknown fit"):
        main_raising(command(data, tmp_path))


def test_a_trial_of_both_stages_leaves_nothing_to_go_on_from(data: Path, tmp_path: Path, capsys: Any) -> None:
    assert main(command(data, tmp_path, "--trainer.fast_dev_run=1")) == 0
    shown = capsys.readouterr().out
    assert "stage 1 of 2, aenet: begins" in shown
    assert "stage 2 of 2, acregnet: begins" in shown
    assert not list(tmp_path.rglob("stage.json"))


def test_a_mistake_in_the_last_stage_is_found_before_the_first_begins(
    data: Path, tmp_path: Path, capsys: Any
) -> None:
    assert main(command(data, tmp_path, "--model.smoothnes=bending")) == 2
    assert "smoothnes" in capsys.readouterr().err
    assert main(command(data, tmp_path, "--first_stage.model.length=3")) == 2
    assert "length" in capsys.readouterr().err
    assert (
        main(command(data, tmp_path, "--trainer.enable_checkpointing=false", "--trainer.callbacks=[]")) == 1
    )
    assert "leave trainer.enable_checkpointing on" in capsys.readouterr().err
    assert not list(tmp_path.rglob("*.ckpt"))


# ------------------------------------------------------------------------------- what goes to which stage


def plan(*options: str) -> list[Stage]:
    return stages_of(["fit", "--data.root=x", *options])


def test_options_reach_the_stages_that_they_are_for() -> None:
    first, second = plan(
        *CONFIG,
        *("--trainer.max_epochs", "3", "--seed_everything=7"),
        *("--data.batch_size=5", "--data.eval_pairs", "9", "--data.layout=folder"),
        *("--model.organs=[heart]", "--model.frame.fit=spacing", "--model.frame.spacing_mm=[2,2]"),
        *("--model.optim.lr=0.5", "--first_stage.model.optim.lr=0.25", "--first_stage.data.batch_size", "4"),
    )
    assert (first.method, first.fills, second.method, second.fills) == (
        "aenet", "objectives.source", "acregnet", None,
    )  # fmt: skip
    for stage in (first, second):
        settings = stage.settings
        assert (settings.trainer.max_epochs, settings.seed_everything) == (3, 7)
        assert (settings.data.root, settings.data.layout) == ("x", "folder")
        assert settings.model.organs == settings.data.organs == ["heart"]
        for frame in (settings.model.frame, settings.data.frame):
            assert (frame.size, frame.fit, frame.spacing_mm) == (64, "spacing", [2.0, 2.0])
    assert (first.settings.model.optim.lr, second.settings.model.optim.lr) == (0.25, 0.5)
    assert (first.settings.data.batch_size, second.settings.data.batch_size) == (4, 5)
    assert second.settings.data.eval_pairs == 9
    # Where nothing is said, each has what its own configuration says.
    first, second = plan(*CONFIG)
    assert (first.settings.data.batch_size, second.settings.data.batch_size) == (16, 32)
    assert first.settings.model.code == 32


@pytest.mark.parametrize(
    "options",
    [
        ("--objectives.source=aenet-jsrt",),
        ("--objectives.source", "aenet-jsrt"),
        ("--ckpt_path=run/last.ckpt",),
        ("--first_stage=null",),
        ("--objectives.weight=0",),
        ("--objectives.weight", "0.0"),
    ],
)
def test_what_is_given_needs_no_first_stage(options: tuple[str, ...]) -> None:
    assert plan(*CONFIG, *options) == []


def test_a_weight_above_zero_needs_it() -> None:
    assert len(plan(*CONFIG, "--objectives.weight=0.2")) == 2
    assert len(plan(*CONFIG, "--model.label_weight=0")) == 2
    assert len(plan(*CONFIG, "--objectives.weight=0", "--first_stage.weight=model.label_weight")) == 2


def test_measuring_has_no_stages() -> None:
    for name in ("validate", "test"):
        assert stages_of([name, *CONFIG, "--data.root=x"]) == []
    assert plan("--config", "acregnet/regnet.yaml") == []


def test_configurations_of_ones_own(tmp_path: Path) -> None:
    shipped = Path(__file__).resolve().parents[2] / "anatozoo/methods/aenet/configs/jsrt.yaml"
    mine = yaml.safe_load(shipped.read_text())
    mine["model"]["code"] = 5
    (tmp_path / "shape.yaml").write_text(yaml.safe_dump(mine))
    stage = {"config": "shape.yaml", "fills": "objectives.source"}
    (tmp_path / "mine.yaml").write_text(
        yaml.safe_dump({"method": "acregnet", "first_stage": stage, "objectives": PRIOR})
    )
    # Beside the file that names it.
    first, _ = plan("--config", str(tmp_path / "mine.yaml"))
    assert first.settings.model.code == 5
    first, _ = plan("--config", str(tmp_path / "mine.yaml"), "--first_stage.config=aenet/jsrt.yaml")
    assert first.settings.model.code == 32
    options = (f"--first_stage.config={tmp_path / 'shape.yaml'}", "--first_stage.fills=objectives.source")
    first, second = plan("--method=acregnet", "--objectives+=ShapePrior", *options)
    assert (first.settings.model.code, second.method) == (5, "acregnet")
    # A file that says what the option is needs no stage; one after it that says null does.
    (tmp_path / "given.yaml").write_text(
        "objectives: [{class_path: ShapePrior, init_args: {source: aenet-jsrt}}]\n"
    )
    given = ("--config", str(tmp_path / "mine.yaml"), "--config", str(tmp_path / "given.yaml"))
    assert plan(*given) == []
    assert len(plan(*given, "--objectives.source=null")) == 2


def test_stages_of_stages(tmp_path: Path) -> None:
    """A registration that starts from another one, which needs an autoencoder."""
    stage = {"config": "acregnet/jsrt.yaml", "fills": "model.init_weights"}
    own = {"method": "acregnet", "first_stage": stage}
    (tmp_path / "fine.yaml").write_text(yaml.safe_dump(own))
    stages = plan("--config", str(tmp_path / "fine.yaml"), "--model.frame.size=40")
    assert [(s.method, s.fills) for s in stages] == [
        ("aenet", "objectives.source"),
        ("acregnet", "model.init_weights"),
        ("acregnet", None),
    ]
    assert [s.settings.model.frame.size for s in stages] == [40] * 3


@pytest.mark.parametrize(
    ("first_stage", "words"),
    [
        ("aenet/jsrt.yaml", "must say a config and the option of the model"),
        ({"config": "aenet/jsrt.yaml"}, "must say a config and the option of the model"),
        ({"config": "aenet/jsrt.yaml", "fills": None}, "must say a config"),
        ({"config": "aenet/gone.yaml", "fills": "objectives.source"}, "no shipped configuration"),
        ({"config": "aenet/jsrt.yaml", "fills": "model.shape"}, "acregnet has no such setting here"),
        ({"config": "aenet/jsrt.yaml", "fills": "objectives.sauce"}, "acregnet has no such setting here"),
        (
            {"config": "aenet/jsrt.yaml", "fills": "data.root"},
            "the option of the model or of an objective that it fills",
        ),
        ({"config": "mine.yaml", "fills": "objectives.source"}, "names itself"),
    ],
)
def test_what_is_wrong_about_a_first_stage_is_said(first_stage: Any, words: str, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(
        yaml.safe_dump({"method": "acregnet", "first_stage": first_stage, "objectives": PRIOR})
    )
    out = f"--trainer.default_root_dir={tmp_path / 'out'}"
    with pytest.raises(ConfigError, match=words):
        plan("--config", str(tmp_path / "mine.yaml"), "--data.root=x", out)


def test_options_of_a_first_stage_that_is_none_are_refused() -> None:
    for options in (("--config=acregnet/regnet.yaml",), (*CONFIG, "--objectives.source=aenet-jsrt")):
        with pytest.raises(ConfigError, match=r"--first_stage\.model\.code=3: there is no first stage here"):
            plan(*options, "--first_stage.model.code=3")


def test_a_printed_configuration_is_that_of_the_last_stage(capsys: Any) -> None:
    assert main(["fit", *CONFIG, "--data.root=x", "--print_config"]) == 0
    config = yaml.safe_load(capsys.readouterr().out)
    assert config["method"] == "acregnet"
    assert config["first_stage"] == {
        "config": "aenet/jsrt.yaml",
        "fills": "objectives.source",
        "weight": "objectives.weight",
    }
    assert main(["fit", *CONFIG, "--help"]) == 0
    assert "--first_stage" in capsys.readouterr().out
