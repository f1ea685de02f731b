"""From a training run to a checkpoint folder."""

from pathlib import Path

import lightning as L
import numpy as np
import pytest
import torch

import anatozoo
from anatozoo.cli.main import main
from anatozoo.errors import ConfigError
from anatozoo.frames.spec import FrameSpec
from anatozoo.methods.hybridgnet.export import restrict_organs
from anatozoo.methods.hybridgnet.module import HybridGNetModule
from anatozoo.methods.unet.module import UNetModule
from anatozoo.training.export import export_run, read_run
from anatozoo.zoo.golden_pictures import golden_radiograph
from anatozoo.zoo.runs import METHOD_KEY


def small_module(**settings: object) -> HybridGNetModule:
    torch.manual_seed(0)
    return HybridGNetModule(template=True, refine=[0.05], **settings, frame=FrameSpec(64)).eval()  # type: ignore[arg-type]


def write_run(path: Path, module: HybridGNetModule, **more: object) -> Path:
    """A file as Lightning writes it."""
    stored = {
        "state_dict": module.state_dict(),
        "hyper_parameters": dict(module.hparams),
        METHOD_KEY: "hybridgnet",
        "pytorch-lightning_version": L.__version__,
    }
    torch.save(stored | more, path)
    return path


def test_contours_of_kept_organs_do_not_change() -> None:
    whole = small_module()
    part = restrict_organs(whole, ["lung_right", "lung_left", "heart"])
    image = torch.rand(2, 1, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(
            part.forward_landmarks(image), whole.forward_landmarks(image)[:, :120], atol=1e-5, rtol=0
        )


def test_an_organ_that_is_not_there_is_named() -> None:
    with pytest.raises(ConfigError, match="spleen"):
        restrict_organs(small_module(), ["spleen"])


def test_average_or_last_weights_of_a_run(tmp_path: Path) -> None:
    module = small_module()
    last = {key: value + 1 for key, value in module.state_dict().items()}
    ckpt = write_run(tmp_path / "run.ckpt", module, current_model_state=last)
    key = "network.template"
    assert torch.equal(read_run(ckpt, "hybridgnet").state_dict()[key], module.state_dict()[key])
    assert torch.equal(read_run(ckpt, "hybridgnet", averaged=False).state_dict()[key], last[key])


def test_a_run_without_an_average_says_so(tmp_path: Path) -> None:
    ckpt = write_run(tmp_path / "run.ckpt", small_module())
    with pytest.raises(ConfigError, match="holds no average of weights"):
        read_run(ckpt, "hybridgnet", averaged=False)


def test_the_folder_loads_and_its_golden_result_holds(tmp_path: Path) -> None:
    ckpt = write_run(tmp_path / "run.ckpt", small_module())
    folder = tmp_path / "folder"
    given = ["export", str(ckpt), "hybridgnet-test", "--to", str(folder)]
    code = main([*given, "--organs", "lung_right,lung_left,heart"])
    assert code == 0
    model = anatozoo.load(str(folder))
    assert list(model.organs) == ["lung_right", "lung_left", "heart"]
    from anatozoo.zoo.golden import run_golden

    found = run_golden(model, folder)
    assert found.difference <= found.tolerance


def test_a_missing_run_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", str(tmp_path / "none.ckpt"), "hybridgnet-test", "--to", str(tmp_path / "x")]) == 1
    assert "none.ckpt" in capsys.readouterr().err


def test_a_method_without_a_choice_of_organs_says_so(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = UNetModule(organs=["heart"], frame=FrameSpec(64))
    ckpt = write_run(tmp_path / "run.ckpt", module, **{METHOD_KEY: "unet"})  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="unet cannot be cut down to some of its organs"):
        export_run(ckpt, "unet-test", tmp_path / "folder", organs=["heart"])


def test_the_golden_radiograph_is_small_and_bone_white() -> None:
    image = golden_radiograph()
    assert image.dtype == np.uint8
    assert max(image.shape) == 512
    height, width = image.shape
    spine = image[height // 4 : height // 2, int(0.48 * width) : int(0.52 * width)].mean()
    lung = image[height // 4 : height // 2, int(0.2 * width) : int(0.3 * width)].mean()
    assert spine > lung
