"""Ensembles as checkpoints: made, loaded, predicting the members' mean, and what cannot be one."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import torch

import anatozoo
from anatozoo.cli.main import main
from anatozoo.errors import AnatozooError, ConfigError, GeometryError
from anatozoo.frames.spec import FrameSpec
from anatozoo.methods.acnn.model import AcnnModel
from anatozoo.methods.ensemble.model import EnsembleModel
from anatozoo.methods.unet.model import UNetModel
from anatozoo.metrics.ensembles import disagreement, variance_on_errors, vote_variance
from anatozoo.results.labels import LabelResult
from anatozoo.training.export import export_ensemble
from anatozoo.zoo.checkpoint import write_checkpoint_folder
from tests.support.phantoms import make_chest_phantom


def unet(folder: Path, seed: int, **settings: Any) -> str:
    """A random U-Net of 64 pixels, in a checkpoint's folder."""
    torch.manual_seed(seed)
    small = {"organs": ["a", "b"], "decoder_widths": [4, 4, 8, 8, 8], "frame": FrameSpec(64)}
    model = UNetModel(**(small | settings))
    with torch.no_grad():  # so that random networks find all organs
        model.network.head.weight.mul_(20)
    path = folder / f"{seed}{'x' * len(settings)}"
    return str(write_checkpoint_folder(model, path, name=f"unet-m{seed}", version="1.0.0", half=False))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], Path]:
    """Three members and the folder of their ensemble."""
    folder = tmp_path_factory.mktemp("ensemble")
    members = [unet(folder, seed) for seed in range(3)]
    to = folder / "unet-test-oen"
    assert main(["ensemble", *members, "--name", "unet-test-oen", "--to", str(to)]) == 0
    return members, to


def test_it_predicts_the_mean_of_its_members(made: tuple[list[str], Path]) -> None:
    members, folder = made
    config = json.loads((folder / "config.json").read_text())
    assert config["method"] == "ensemble"
    assert [m["name"] for m in config["settings"]["members"]] == ["unet-m0", "unet-m1", "unet-m2"]
    assert all(len(m["sha256"]) == 64 for m in config["settings"]["members"])
    ensemble, singles = anatozoo.load(folder), [anatozoo.load(path) for path in members]
    image = torch.rand(2, 1, 64, 64)
    with torch.no_grad():
        votes = torch.stack([single(image).softmax(1) for single in singles])
        torch.testing.assert_close(ensemble(image).softmax(1), votes.mean(0), rtol=0, atol=0.02)
    picture = make_chest_phantom(64, 64, noise=20.0).image
    result = ensemble.predict(picture)
    assert isinstance(result, LabelResult)
    labels = np.stack([single.predict(picture).mask for single in singles])
    assert result.members == 3
    assert result.disagreement == pytest.approx(disagreement(labels), abs=0.02)
    assert result.shares is not None
    shares = result.shares()
    assert list(shares) == list(result.organs)
    for organ, share in shares.items():
        assert result.masks[organ][share > 0.51].all()
        assert share.shape == result.mask.shape
    assert result.variance.shape == (64, 64)
    assert 0 < result.variance.max() <= 0.25
    batch = list(ensemble.predict_batch([picture, picture], 2))
    np.testing.assert_allclose(batch[1].variance, result.variance, rtol=0, atol=1e-5)
    assert (batch[1].mask != result.mask).mean() < 1e-3


def test_the_folder_needs_its_members_no_more(made: tuple[list[str], Path], tmp_path: Path) -> None:
    import shutil

    moved = shutil.copytree(made[1], tmp_path / "unet-test-oen")
    assert main(["verify", str(moved), "--golden"]) == 0
    assert main(["info", str(moved)]) == 0
    assert main(["card", str(moved)]) == 0
    with (moved / "model.safetensors").open("r+b") as file:
        file.seek(-100, 2)
        file.write(b"\xff" * 100)
    assert main(["verify", str(moved), "--golden"]) == 1


def test_members_of_an_ensemble_become_members(made: tuple[list[str], Path], tmp_path: Path) -> None:
    folder = export_ensemble([made[1], unet(tmp_path, 7)], "ensemble-four", tmp_path / "four")
    members = json.loads((folder / "config.json").read_text())["settings"]["members"]
    assert [member["name"] for member in members] == ["unet-m0", "unet-m1", "unet-m2", "unet-m7"]


def test_files_of_a_run(made: tuple[list[str], Path], tmp_path: Path) -> None:
    picture = sitk.GetImageFromArray(make_chest_phantom(80, 60, noise=20.0).image)
    picture.SetSpacing((0.5, 0.5))
    sitk.WriteImage(picture, str(tmp_path / "a.nii.gz"))
    given = [str(made[1]), str(tmp_path / "a.nii.gz"), "--out", str(tmp_path / "out")]
    assert main(["predict", *given, "--format", "png,json,variance"]) == 0
    written = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"a_mask.png", "a_overlay.png", "a_variance.nii.gz", "a.json"} <= written
    variance = sitk.ReadImage(str(tmp_path / "out" / "a_variance.nii.gz"))
    assert (variance.GetSize(), variance.GetSpacing()) == ((80, 60), (0.5, 0.5))
    said = json.loads((tmp_path / "out" / "a.json").read_text())
    assert said["members"] == 3
    assert said["largest_variance"] == pytest.approx(sitk.GetArrayFromImage(variance).max(), abs=1e-5)
    with (tmp_path / "out" / "manifest.csv").open() as file:
        [row] = csv.DictReader(file)
    assert float(row["disagreement"]) == pytest.approx(said["disagreement"], abs=1e-4)
    single = [made[0][0], str(tmp_path / "a.nii.gz"), "--out", str(tmp_path / "one"), "--format", "variance"]
    assert main(["predict", *single]) == 2  # one network has no variance


def test_pictures_show_where_members_differ(made: tuple[list[str], Path]) -> None:
    result = anatozoo.load(made[1]).predict(make_chest_phantom(70, 50, noise=20.0).image)
    flat = LabelResult(
        *(getattr(result, name) for name in ("checkpoint", "version", "image", "size", "spacing_mm")),
        label_map=result.mask,
        classes=result.classes,
        pixels=result.pixels,
    )
    assert result._repr_png_() != flat._repr_png_()
    assert len(result.plot().axes[0].images) == len(flat.plot().axes[0].images) + 1
    with pytest.raises(GeometryError, match="belong together"):
        LabelResult(
            "a", "1", "b", (4, 4), None, label_map=np.zeros((4, 4), np.uint8), classes=("a",), members=2
        )


def test_volumes(tmp_path: Path) -> None:
    cubes = []
    for seed in range(2):
        torch.manual_seed(seed)
        model = AcnnModel(organs=["a"], architecture="unet", widths=[4, 8], frame=FrameSpec([8, 16, 16]))
        path = tmp_path / str(seed)
        cubes.append(write_checkpoint_folder(model, path, name=f"acnn-{seed}", version="1.0.0", half=False))
    folder = export_ensemble(cubes, "volumeensemble-test", tmp_path / "both")
    model, image = anatozoo.load(folder), np.random.default_rng(0).random((8, 24, 20), np.float32)
    result = model.predict(image, whole=False)
    with torch.no_grad():
        votes = torch.stack([anatozoo.load(cube)(torch.zeros(1, 1, 8, 16, 16)).softmax(1) for cube in cubes])
        mean = model(torch.zeros(1, 1, 8, 16, 16)).softmax(1)
    torch.testing.assert_close(mean, votes.mean(0), rtol=0, atol=2e-3)
    assert result.variance.shape == (8, 24, 20)
    assert 0 <= result.disagreement <= 1
    assert [path.name for path in result.save(tmp_path, ["variance"], "v")] == ["v_variance.nii.gz"]
    assert len(result.plot().axes[0].images) == 2


def test_what_cannot_be_members(made: tuple[list[str], Path], tmp_path: Path) -> None:
    one, to = made[0][0], tmp_path / "to"

    def refused(words: str, *others: str, name: str = "ensemble-x") -> None:
        with pytest.raises(ConfigError, match=words):
            export_ensemble([one, *others], name, to)

    refused("differ in their organs, a, b and b, a", unet(tmp_path, 4, organs=["b", "a"]))
    refused("differ in their frame", unet(tmp_path, 5, frame=FrameSpec(96), decoder_widths=[4] * 5))
    refused("differ in their output", unet(tmp_path, 6, output="organs", check_view=True, organs=["a", "b"]))
    refused("hold the same network", one)
    refused("hold the same network", str(made[1]))  # of which it is a member
    with pytest.raises(ConfigError, match="version 'two' must be three numbers"):
        export_ensemble([one, one], "ensemble-x", to, version="two")
    with pytest.raises(ConfigError, match="holds the checkpoint unet-m0, not ensemble-x"):
        export_ensemble([one, one], "ensemble-x", Path(one))
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "image.png").touch()
    with pytest.raises(ConfigError, match="holds other files"):
        export_ensemble([one, one], "ensemble-x", tmp_path / "data")
    refused("2 to 100 members, not 1")
    refused("method acnn, which cannot be a member", "acnn-acdc")
    refused("must be|must start", unet(tmp_path, 8), name="nothing-x")
    assert not to.exists()
    with pytest.raises(ConfigError, match="lacks its method"):
        EnsembleModel([{"method": "unet"}, {}])
    with pytest.raises(ConfigError, match="cannot be a member"):
        EnsembleModel([{"method": "ensemble", "settings": {"members": []}}] * 2)
    import lightning as L

    trainer = L.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    module = anatozoo.load(made[1])
    module.trainer = trainer
    with pytest.raises(ConfigError, match="not trained: fit its members"):
        module.setup("fit")


def test_a_picture_that_cannot_be_read_leaves_the_folder_as_it_is(
    made: tuple[list[str], Path], tmp_path: Path
) -> None:
    with pytest.raises(AnatozooError, match=r"no\.png"):
        export_ensemble(made[0], "ensemble-toy", tmp_path / "to", images=[tmp_path / "no.png"])
    assert not (tmp_path / "to").exists()


def test_how_far_members_differ_in_numbers() -> None:
    labels = np.array([[0, 0, 1, 1], [0, 1, 1, 0], [0, 1, 1, 1]])
    # The first pixel is background to all; pairs differ in 2, 1 and 1 of the other three.
    assert disagreement(labels) == pytest.approx((2 + 1 + 1) / 9)
    assert disagreement(np.zeros((2, 5))) == 0
    with pytest.raises(GeometryError, match="two or more"):
        disagreement(labels[:1])
    probabilities = np.zeros((4, 2, 3), np.float32)
    probabilities[:2, 1, 0] = 1
    probabilities[:, 0, 1] = [0.1, 0.2, 0.3, 0.4]
    variance = vote_variance(probabilities)
    assert variance == pytest.approx([0.25, 0.0125, 0])
    assert variance_on_errors(variance, [1, 0, 0], [0, 1, 0]) == pytest.approx(0.13125)
    assert np.isnan(variance_on_errors(variance, [0, 0, 0], [0, 0, 0]))
