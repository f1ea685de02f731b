"""A checkpoint of super-resolution in the zoo: its output is a volume of grey values."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import anatozoo
from anatozoo.cli.main import main
from anatozoo.errors import ManifestError, WeightsError
from anatozoo.frames.spec import FrameSpec
from anatozoo.methods.acnnsr.module import AcnnSRModule
from anatozoo.zoo.card import card
from anatozoo.zoo.checkpoint import WEIGHTS, build_module, read_config, write_checkpoint_folder
from anatozoo.zoo.golden import run_golden, write_golden
from anatozoo.zoo.maintain import cards
from anatozoo.zoo.manifest import read_manifest
from anatozoo.zoo.published_entry import Release, new_entry
from anatozoo.zoo.verification import verify
from docs.pages import docs_page
from tests.support.zoo_fixtures import entry, write_manifest

NAME = "acnn-sr-toy"
VOLUME = {"kind": "restored", "classes": [], "landmarks": None}


def listing(folder: Path | None = None, output: dict[str, Any] = VOLUME) -> dict[str, Any]:
    values = entry(folder, NAME, method="acnnsr", output=output)
    seen = {"modality": "mri", "anatomy": "hippocampus", "views": [], "size": [16, 16, 16], "fit": "spacing"}
    return values | {"input": values["input"] | seen | {"spacing_mm": 1.0}}


def write_checkpoint(folder: Path, *, seed: int = 0) -> None:
    """A small network that adds something to what it interpolates."""
    torch.manual_seed(seed)
    module = AcnnSRModule(
        width=4, depth=1, frame=FrameSpec([16, 16, 16], fit="spacing", spacing_mm=[1.0, 1.0, 1.0])
    )
    torch.nn.init.normal_(module.network.head.weight, 0, 0.1)  # type: ignore[arg-type, union-attr]
    write_checkpoint_folder(module, folder, name=NAME, version="1.0.0")


@pytest.fixture
def listed(package: Path) -> Path:
    """The folder of a checkpoint that the package's manifest lists."""
    folder = package / "checkpoints" / NAME
    write_checkpoint(folder)
    stored: Any = build_module(folder)
    write_golden(stored, stored.golden_input(), folder)
    write_manifest(package / "checkpoints_manifest.yaml", listing(folder))
    return folder


def test_it_loads_by_its_name_and_passes_its_golden_test(listed: Path) -> None:
    model = anatozoo.load(NAME, golden_check=True)
    assert isinstance(model, AcnnSRModule)
    assert model.predict(np.random.default_rng(0).random((3, 16, 16), np.float32)).checkpoint == NAME
    golden = verify(NAME, golden=True).golden
    assert golden is not None
    assert (golden.form.unit, golden.difference) == ("range", pytest.approx(0, abs=1e-4))


def test_other_weights_fail_the_golden_test(listed: Path) -> None:
    before = (listed / WEIGHTS).read_bytes()
    write_checkpoint(listed, seed=1)
    assert (listed / WEIGHTS).read_bytes() != before
    with pytest.raises(WeightsError, match=r"a voxel differs by [0-9.]+% of the range"):
        run_golden(build_module(listed), listed)


def test_the_commands_show_it(listed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list"]) == 0
    assert capsys.readouterr().out.splitlines()[1].split()[-3] == "volume"
    assert main(["info", NAME]) == 0
    shown = capsys.readouterr().out
    assert "ACNN-SR" in shown
    assert "volume: " not in shown
    assert main(["verify", NAME, "--golden"]) == 0
    assert "of the range" in capsys.readouterr().out


def test_cards_and_pages_say_what_comes_out(tmp_path: Path) -> None:
    manifest = write_manifest(tmp_path / "m.yaml", listing())
    [spec] = read_manifest(manifest).checkpoints
    assert spec.output.record.hub_tag == "image-to-image"
    text = card(spec)
    for words in (
        'result = model.predict("patient.nii.gz")',
        "result.volume  # (D, H, W) float32",
        f"anatozoo predict {NAME} scans/ --out out/",
        "| output | volume |",
    ):
        assert words in text
    assert "organs" not in text
    assert list(cards(manifest, tmp_path, private=True).values()) == [card(spec, private=True)]
    assert f"{NAME}/README.md) | hippocampus mri, 16×16×16 | volume |" in docs_page([spec])


def test_only_a_volume_may_name_no_classes(tmp_path: Path, tiny_method: None) -> None:
    named = VOLUME | {"classes": ["hippocampus"]}
    [spec] = read_manifest(write_manifest(tmp_path / "m.yaml", listing(output=named))).checkpoints
    assert "| organs, the patient's sides | hippocampus |" in card(spec)
    for kind in ("labels", "field"):
        wrong = VOLUME | {"kind": kind}
        with pytest.raises(ManifestError, match=r"output\.classes: must not be empty"):
            read_manifest(write_manifest(tmp_path / "m.yaml", entry(output=wrong)))
        with pytest.raises(ManifestError, match=r"kind: must be restored, which is what acnnsr gives"):
            read_manifest(write_manifest(tmp_path / "m.yaml", listing(output=wrong)))


def test_its_entry_tells_the_kind_from_the_golden_test(listed: Path) -> None:
    text = new_entry(read_config(listed), listed, Release("toys/sr", "a" * 40, {}))
    assert "      kind: restored\n      classes: []\n      landmarks: null\n" in text
