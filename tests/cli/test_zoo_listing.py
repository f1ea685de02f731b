"""What `anatozoo list` and `info` print for people and for programs, whatever the manifest holds."""

import json
from pathlib import Path

import pytest
import torch
import yaml

from anatozoo.cli.main import main
from anatozoo.cli.table import format_table
from anatozoo.frames.spec import FrameSpec
from anatozoo.methods.acnn.module import AcnnModule
from anatozoo.methods.unet.module import UNetModule
from anatozoo.zoo.checkpoint import write_checkpoint_folder
from tests.support.zoo_fixtures import TinyModule, entry, write_manifest, write_tiny

Capture = pytest.CaptureFixture[str]


def long_lines(text: str, width: int = 80) -> list[str]:
    return [line for line in text.splitlines() if len(line) > width]


def test_list_stays_readable_with_long_names_deprecated_ones_and_many(
    package: Path, tiny_method: None, capsys: Capture
) -> None:
    longest = "tiny-" + "x" * 60
    organs = {"kind": "labels", "classes": ["vertebral_column_lumbar", "heart"], "landmarks": None}
    entries = [entry(name=f"tiny-{i:03}", output=organs) for i in range(40)]
    manifest = package / "checkpoints_manifest.yaml"
    write_manifest(manifest, *entries, entry(name="tiny-old-and-kept-for-tables", status="deprecated"))
    assert main(["list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert long_lines("\n".join(lines)) == []
    names = [line.split()[0] for line in lines[1:] if not line.startswith(" ")]
    assert names == [*(f"tiny-{i:03}" for i in range(40)), "tiny-old-and-kept-for-tables", "(deprecated)"]
    # A name that leaves no room stands above its row.
    write_manifest(manifest, *entries, entry(name=longest, status="deprecated"))
    assert main(["list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert long_lines("\n".join(lines)) == []
    assert lines[-2] == f"{longest} (deprecated)"
    assert lines[-1].split() == ["chest", "x-ray,", "30×20", "heart", "0.0", "no"]


JSON_KEYS = {
    "": "name method version status summary hub bundled license input output metrics training_data training "
    "intended_use out_of_scope limitations citation remarks selection build",
    "hub": "repo_id revision files",
    "hub.files": "model.safetensors config.json golden.safetensors",
    "hub.files.config.json": "sha256 size",
    "license": "weights training_data code_origin commercial_use note",
    "input": "modality anatomy views size fit intensity polarity spacing_mm",
    "output": "kind classes landmarks",
    "metrics": "dataset split n metric class value source report version",
    "training_data": "name url license n",
    "training": "config git_sha versions hardware seed",
}
"""What programs read: keys may be added at the end of a line, never renamed or taken away."""


@pytest.mark.parametrize("arguments", [["list", "--json"], ["info", "tiny-toy", "--json"]])
def test_the_keys_of_json_are_fixed(
    package: Path, bundled: TinyModule, capsys: Capture, arguments: list[str]
) -> None:
    assert main(arguments) == 0
    found = json.loads(capsys.readouterr().out)
    values = found[0] if isinstance(found, list) else found
    inner = {
        **{key: values[key] for key in ("hub", "license", "input", "output", "training")},
        "": values,
        "hub.files": values["hub"]["files"],
        "hub.files.config.json": values["hub"]["files"]["config.json"],
        "metrics": values["metrics"][0],
        "training_data": values["training_data"][0],
    }
    assert {place: " ".join(value) for place, value in inner.items()} == JSON_KEYS


def test_a_word_that_is_longer_than_its_column_is_broken() -> None:
    text = format_table(("NAME", "A", "B"), [("x", "y" * 60, "z" * 60)])
    assert long_lines(text) == []
    assert text.count("y") == text.count("z") == 60


def test_a_name_longer_than_the_screen_is_all_that_sticks_out() -> None:
    text = format_table(("NAME", "A"), [("n" * 90, "word " * 30), ("b", "")])
    assert long_lines(text) == ["n" * 90]
    assert text.splitlines()[:2] == ["NAME", "  A"]
    assert text.count("word") == 30


def test_info_shows_nested_settings_as_yaml(package: Path, tmp_path: Path, capsys: Capture) -> None:
    organs = ["lung_right", "lung_left", "heart", "clavicle_right", "clavicle_left"]
    frame = FrameSpec([8, 32, 32], "slices", long_side=40)
    module = AcnnModule(organs=organs, frame=frame, widths=[4, 8])
    write_checkpoint_folder(module, tmp_path / "own", name="acnn-own", version="1.0.0")
    assert main(["info", str(tmp_path / "own")]) == 0
    text = capsys.readouterr().out
    assert long_lines(text) == []
    block = text[text.index("settings") : text.index("\nfiles")]
    lines = [line[10:] for line in block.splitlines()]
    assert yaml.safe_load("\n".join(lines)) == module.settings()
    assert "  size: [8, 32, 32]" in lines
    assert not set("'\"") & set(block)


def test_info_and_card_of_a_folder_say_what_its_files_tell(
    package: Path, tmp_path: Path, tiny_method: None, capsys: Capture
) -> None:
    folder = tmp_path / "mine"
    write_tiny(folder, name="tiny-mine")
    assert main(["info", str(folder)]) == 0
    text = capsys.readouterr().out
    for words in (
        "tiny-mine",
        "1.0.0",
        "Tiny (none)",
        "nodes: 5",
        "golden.safetensors: ",
        "no manifest lists it",
    ):
        assert words in text
    assert long_lines(text) == []
    assert main(["info", str(folder), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["path"], told["config"]["method"]) == (str(folder), "tiny")
    assert told["files"]["config.json"]["size"] == (folder / "config.json").stat().st_size
    assert main(["card", str(folder)]) == 0
    text = capsys.readouterr().out
    for words in ("# tiny-mine", "license: unknown", f'anatozoo.load("{folder}")', "Nobody has described it"):
        assert words in text
    write_tiny(folder, name="tiny-toy")
    write_manifest(package / "checkpoints_manifest.yaml", entry(folder))
    assert main(["info", str(folder)]) == 0
    assert capsys.readouterr().out.endswith("of this name: anatozoo info tiny-toy\n")
    (folder / "README.md").write_text("# My own\n")
    assert main(["card", str(folder)]) == 0
    assert capsys.readouterr().out == "# My own\n"


def test_info_and_card_of_a_training_run(package: Path, tmp_path: Path, capsys: Capture) -> None:
    module = UNetModule(organs=["heart"], frame=FrameSpec(64))
    stored = {"state_dict": module.state_dict(), "hyper_parameters": dict(module.hparams)}
    torch.save(stored | {"anatozoo_method": "unet"}, tmp_path / "last.ckpt")
    for command in ("info", "card"):
        assert main([command, str(tmp_path / "last.ckpt")]) == 0
        text = capsys.readouterr().out
        assert "U-Net" in text
        assert "last.ckpt" in text
        assert main([command, str(tmp_path / "none.ckpt")]) == 1
        assert "there is no such file" in capsys.readouterr().err
