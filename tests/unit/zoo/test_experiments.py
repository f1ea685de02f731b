"""Weights of experiments: in `experiments/` of a source checkout, found by name, listed when asked for."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image as PILImage
from safetensors.torch import load_file

import anatozoo
from anatozoo.cli.main import main
from anatozoo.errors import ChecksumMismatch, ConfigError, DownloadError, ManifestError, UnknownCheckpoint
from anatozoo.methods.hybridgnet.model import HybridGNetModel
from anatozoo.zoo import maintain, private
from anatozoo.zoo.catalogue import PACKAGE
from anatozoo.zoo.checkpoint import write_checkpoint_folder
from anatozoo.zoo.hub import locate
from anatozoo.zoo.manifest import FILE_NAME, read_manifest
from anatozoo.zoo.verification import verify
from tests.support.hybridgnets import small_hybridgnet
from tests.support.phantoms import make_chest_phantom
from tests.support.zoo_fixtures import entry, file_record, write_manifest, write_tiny

Capture = pytest.CaptureFixture[str]


def row(folder: Path | None = None, name: str = "tiny-row", **changes: Any) -> dict[str, Any]:
    """An entry of the manifest of experiments, without a golden test."""
    values = entry(folder, name, **{"status": "experiment", **changes})
    del values["hub"]["files"]["golden.safetensors"]
    return values


def write_row(folder: Path, name: str = "tiny-row") -> dict[str, Any]:
    """Fill a row's folder with weights and settings alone; returns its entry."""
    write_tiny(folder, name=name)
    values = row(folder, name)
    (folder / "golden.safetensors").unlink()
    return values


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_method: None) -> Path:
    """A source checkout: the package has `tiny-toy`, experiments have `tiny-row`."""
    project = tmp_path / "checkout"
    own = project / "anatozoo" / "checkpoints" / "tiny-toy"
    write_tiny(own)
    write_manifest(project / FILE_NAME, entry(own))
    values = write_row(project / "experiments" / "checkpoints" / "tiny-row")
    write_manifest(project / "experiments" / FILE_NAME, values)
    monkeypatch.setattr("anatozoo.zoo.catalogue.PACKAGE", project / "anatozoo")
    monkeypatch.setenv("ANATOZOO_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv(private.VARIABLE, raising=False)
    return project


def weights_of(project: Path) -> Path:
    return project / "experiments" / "checkpoints" / "tiny-row"


# --- found --------------------------------------------------------------------------------------------------


def test_a_row_is_loaded_and_described_by_its_name_alone(checkout: Path) -> None:
    model = anatozoo.load("tiny-row", offline=True)
    assert (model.checkpoint_name, model.offsets.dtype) == ("tiny-row", torch.float32)
    stored = load_file(weights_of(checkout) / "model.safetensors")["offsets"]
    assert stored.dtype == torch.float16
    assert torch.equal(model.offsets, stored.float())
    assert anatozoo.info("tiny-row").status == "experiment"
    assert locate("tiny-toy").folder == checkout / "anatozoo" / "checkpoints" / "tiny-toy"


def test_an_installed_package_knows_no_row(checkout: Path) -> None:
    (checkout / FILE_NAME).rename(checkout / "anatozoo" / FILE_NAME)  # as in the wheel
    with pytest.raises(UnknownCheckpoint, match="no checkpoint is called 'tiny-row'"):
        anatozoo.load("tiny-row")
    assert anatozoo.list_models(experiments=True) == ["tiny-toy"]


def test_a_checkout_without_experiments_works(checkout: Path) -> None:
    shutil.rmtree(checkout / "experiments")
    assert anatozoo.load("tiny-toy").checkpoint_name == "tiny-toy"
    assert anatozoo.list_models(experiments=True) == ["tiny-toy"]


def test_a_real_network_is_stored_in_half_and_predicts_from_the_command_line(
    checkout: Path, tmp_path: Path, capsys: Capture
) -> None:
    network = small_hybridgnet(HybridGNetModel)
    folder = checkout / "experiments" / "checkpoints" / "hybridgnet-toy-row"
    write_checkpoint_folder(network, folder, name=folder.name, version="1.0.0")
    values = row(name=folder.name, method="hybridgnet")
    values["hub"]["files"] = {path.name: file_record(path) for path in folder.iterdir()}
    values["output"] = {
        "kind": "contours",
        "classes": list(network.organs),
        "landmarks": dict(network.organs),
    }
    write_manifest(checkout / "experiments" / FILE_NAME, values)
    loaded = anatozoo.load("hybridgnet-toy-row", trainable=False)
    kept = loaded.state_dict()
    for key, stored in load_file(folder / "model.safetensors").items():
        assert stored.dtype == torch.float16 or not stored.is_floating_point()
        assert torch.equal(kept[key], stored.to(kept[key].dtype)), key
    assert {value.dtype for value in loaded.parameters()} == {torch.float32}
    PILImage.fromarray(make_chest_phantom(60, 70).image).save(tmp_path / "phantom.png")
    source = str(tmp_path / "phantom.png")
    assert main(["predict", "hybridgnet-toy-row", source, "--out", str(tmp_path / "out")]) == 0
    capsys.readouterr()
    landmarks = json.loads((tmp_path / "out" / "phantom.json").read_text("utf-8"))["landmarks"]
    assert set(landmarks) == set(network.organs)


# --- listed -------------------------------------------------------------------------------------------------


def test_rows_are_listed_only_when_asked_for(checkout: Path, capsys: Capture) -> None:
    assert anatozoo.list_models() == ["tiny-toy"]
    assert anatozoo.list_models(experiments=True) == ["tiny-toy", "tiny-row"]
    assert anatozoo.list_models("*row", experiments=True) == ["tiny-row"]
    assert main(["list"]) == 0
    assert "tiny-row" not in capsys.readouterr().out
    assert main(["list", "--experiments"]) == 0
    captured = capsys.readouterr()
    assert [line.split()[:2] for line in captured.out.splitlines()[1:]] == [
        ["tiny-toy", "chest"],
        ["tiny-row", "(experiment)"],
    ]
    assert captured.err == ""
    assert main(["list", "*row"]) == 0
    assert "--experiments those of experiments too" in capsys.readouterr().out
    assert main(["list", "--json", "--experiments", "*row"]) == 0
    (found,) = json.loads(capsys.readouterr().out)
    assert list(found["hub"]["files"]) == ["model.safetensors", "config.json"]


def test_asked_for_in_an_installed_package_it_says_where_they_are(checkout: Path, capsys: Capture) -> None:
    (checkout / FILE_NAME).rename(checkout / "anatozoo" / FILE_NAME)
    assert main(["list", "--experiments"]) == 0
    captured = capsys.readouterr()
    assert "tiny-toy" in captured.out
    assert captured.err == "anatozoo is installed here without experiments: a source checkout has them.\n"


def test_what_goes_through_all_checkpoints_leaves_rows_out(
    checkout: Path, tmp_path: Path, capsys: Capture
) -> None:
    shutil.rmtree(weights_of(checkout))
    assert main(["verify", "--all", "--golden"]) == 0
    assert "1 of 1 checkpoints" in capsys.readouterr().out
    assert main(["download", "--all", "--to", str(tmp_path / "usb")]) == 0
    assert [path.name for path in (tmp_path / "usb").iterdir()] == ["tiny-toy"]


def test_commands_about_one_row(checkout: Path, tmp_path: Path, capsys: Capture) -> None:
    for arguments, words in [
        (["info", "tiny-row"], "1.0.0, experiment"),
        (["card", "tiny-row"], "part of a source checkout of anatozoo, not of the Python package"),
        (["verify", "tiny-row"], "files: as in the manifest"),
        (["verify", "tiny-row", "--golden"], "golden test: none is stored"),
        (["download", "tiny-row", "--to", str(tmp_path / "usb")], "tiny-row: verified"),
    ]:
        assert main(arguments) == 0, arguments
        assert words in capsys.readouterr().out
    assert anatozoo.load(tmp_path / "usb" / "tiny-row").checkpoint_name == "tiny-row"
    assert verify("tiny-row", golden=True).golden is None
    with pytest.raises(ConfigError, match="no golden test; leave golden_check out"):
        anatozoo.load("tiny-row", golden_check=True)


def test_a_row_may_have_a_golden_test(checkout: Path) -> None:
    folder = weights_of(checkout)
    write_tiny(folder, name="tiny-row")
    values = entry(folder, "tiny-row", status="experiment")
    write_manifest(checkout / "experiments" / FILE_NAME, values)
    outcome = verify("tiny-row", golden=True).golden
    assert outcome is not None
    assert outcome.difference < 0.1


# --- mistakes -----------------------------------------------------------------------------------------------


def test_a_missing_folder_is_asked_for_at_its_place(checkout: Path) -> None:
    shutil.rmtree(weights_of(checkout))
    with pytest.raises(
        DownloadError,
        match=r"beside the manifest of experiments, in .*experiments/checkpoints/tiny-row; copy "
        r"model\.safetensors, config\.json there",
    ):
        anatozoo.load("tiny-row")


def test_what_may_not_be_passed_on_says_how_it_is_built(checkout: Path) -> None:
    path = checkout / "experiments" / FILE_NAME
    values = write_row(weights_of(checkout)) | {"build": "`anatozoo fit --config x.yaml`"}
    write_manifest(path, values)
    assert anatozoo.load("tiny-row").checkpoint_name == "tiny-row"  # once it is built
    stated = path.read_text("utf-8")
    shutil.rmtree(weights_of(checkout))
    with pytest.raises(DownloadError, match=r"may not be passed on.* `anatozoo fit --config x\.yaml`"):
        anatozoo.load("tiny-row")
    assert maintain.main(["hashes"], checkout) == 0
    assert path.read_text("utf-8") == stated
    write_manifest(checkout / FILE_NAME, entry() | {"build": "x"})
    with pytest.raises(ManifestError, match="only for status experiment"):
        anatozoo.list_models()


def test_a_changed_file_is_refused_with_what_to_do(checkout: Path) -> None:
    (weights_of(checkout) / "config.json").write_text("{}")
    with pytest.raises(ChecksumMismatch, match=r"maintain hashes --manifest .*experiments/checkpoints_man"):
        anatozoo.load("tiny-row")


def test_a_name_of_the_package_is_refused_with_both_places(checkout: Path) -> None:
    path = write_manifest(checkout / "experiments" / FILE_NAME, row(name="tiny-toy"))
    with pytest.raises(ManifestError) as caught:
        anatozoo.load("tiny-toy")
    assert str(caught.value) == (
        f"{path}:4: tiny-toy stands in {checkout / FILE_NAME}:4 already; rename one."
    )


def test_a_name_of_a_private_zoo_is_refused(
    checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = write_manifest(tmp_path / "ours.yaml", entry(name="tiny-row"))
    monkeypatch.setenv(private.VARIABLE, str(ours))
    with pytest.raises(ManifestError, match=r"ours\.yaml:4: tiny-row stands in .*experiments/check"):
        anatozoo.info("tiny-toy")


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (entry(name="tiny-row"), "tiny-row.status: must be experiment in this manifest, not bundled"),
        (row() | {"bundled": False}, "must be true where status is experiment"),
    ],
)
def test_a_manifest_of_experiments_holds_experiments_alone(
    checkout: Path, values: dict[str, Any], words: str
) -> None:
    write_manifest(checkout / "experiments" / FILE_NAME, values)
    with pytest.raises(ManifestError, match=words):
        anatozoo.load("tiny-toy")


def test_the_package_holds_no_experiment_and_none_without_a_golden_test(checkout: Path) -> None:
    write_manifest(checkout / FILE_NAME, row())
    with pytest.raises(ManifestError, match=r"status: must not be experiment in this manifest"):
        anatozoo.list_models()
    write_manifest(checkout / FILE_NAME, row(status="bundled"))
    with pytest.raises(ManifestError, match=r"hub\.files: golden\.safetensors missing"):
        anatozoo.list_models()


# --- kept in step -------------------------------------------------------------------------------------------


def test_maintain_writes_hashes_of_rows_that_share_blocks_and_no_cards(
    checkout: Path, capsys: Capture
) -> None:
    first = row()
    hub = {"hub": row()["hub"], "name": "tiny-other"}
    path = write_manifest(checkout / "experiments" / FILE_NAME, first, {**first, **hub})
    write_row(path.parent / "checkpoints" / "tiny-other", "tiny-other")
    text = path.read_text("utf-8")
    assert "license: &" in text  # the test is about these
    assert "license: *" in text
    assert maintain.main(["all"], checkout) == 0
    assert "tiny-other/config.json: sha256" in capsys.readouterr().out
    assert maintain.main(["check"], checkout) == 0
    for spec in read_manifest(path).checkpoints:
        folder = path.parent / "checkpoints" / spec.name
        assert {name: file_record(folder / name) for name in spec.hub.files} == {
            name: vars(record) for name, record in spec.hub.files.items()
        }
        assert not (folder / "README.md").exists()
    assert len(path.read_text("utf-8").splitlines()) == len(text.splitlines())
    assert (checkout / "anatozoo" / "checkpoints" / "tiny-toy" / "README.md").is_file()


def test_this_projects_rows_are_as_their_manifest_says_and_stay_small() -> None:
    home = PACKAGE.parent / "experiments"
    names = anatozoo.list_models(experiments=True)
    size = 0
    for spec in read_manifest(home / FILE_NAME).checkpoints:
        assert spec.name in names
        folder = home / "checkpoints" / spec.name
        if spec.build is not None and not folder.is_dir():
            continue
        assert set(verify(spec.name).files) == set(spec.hub.files)
        if spec.build is None:  # others are made here, and no part of the repository
            size += sum(path.stat().st_size for path in folder.rglob("*.safetensors"))
    assert 40e6 < size <= 60e6
