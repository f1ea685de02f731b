from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from anatozoo.errors import ConfigError, OutputError, WeightsError
from anatozoo.zoo.checkpoint import build_module, read_config, write_checkpoint_folder
from anatozoo.zoo.files import write_atomically
from tests.support.zoo_fixtures import TinyModule, read_json, write_tiny

pytestmark = pytest.mark.usefixtures("tiny_method")


def rewrite(folder: Path, change: Any) -> None:
    """Change the tensors of a folder by a function of the dict."""
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors")


def test_a_folder_gives_back_the_module(tmp_path: Path) -> None:
    module = write_tiny(tmp_path, half=False)
    loaded = build_module(tmp_path)
    assert isinstance(loaded, TinyModule)
    assert torch.equal(loaded.offsets, module.offsets)
    assert (loaded.checkpoint_name, loaded.checkpoint_version) == ("tiny-toy", "1.0.0")
    assert not loaded.training
    assert loaded.offsets.requires_grad


def test_half_precision_is_storage_only(tmp_path: Path) -> None:
    module = write_tiny(tmp_path, half=True)
    stored = load_file(tmp_path / "model.safetensors")
    assert (stored["offsets"].dtype, stored["counts"].dtype) == (torch.float16, torch.int64)
    loaded = build_module(tmp_path)
    assert loaded.offsets.dtype == torch.float32
    assert torch.equal(loaded.offsets, module.offsets.half().float())


def test_start_settings_are_not_stored(tmp_path: Path) -> None:
    assert write_tiny(tmp_path).hparams["init_weights"] == "somewhere"
    assert read_json(tmp_path / "config.json")["settings"] == {"nodes": 5, "init_weights": None}


def test_other_files_of_the_folder_stay_and_nothing_temporary_does(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("mine")
    write_tiny(tmp_path)
    write_tiny(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "README.md",
        "config.json",
        "golden.safetensors",
        "model.safetensors",
    ]


def test_loading_leaves_the_random_numbers_alone(tmp_path: Path) -> None:
    write_tiny(tmp_path)
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    build_module(tmp_path)
    assert torch.equal(torch.rand(2), expected)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: t.pop("counts"), "missing counts"),
        (lambda t: t.update(more=torch.ones(1)), "unexpected more"),
        (lambda t: t.update(offsets=torch.ones(4, 2)), r"misshapen offsets \(4, 2\) instead of \(5, 2\)"),
    ],
)
def test_tensors_are_strict(tmp_path: Path, change: Any, words: str) -> None:
    write_tiny(tmp_path)
    rewrite(tmp_path, change)
    with pytest.raises(WeightsError, match=words):
        build_module(tmp_path)


def test_all_differences_are_listed_at_once(tmp_path: Path) -> None:
    write_tiny(tmp_path)
    rewrite(
        tmp_path, lambda t: (t.pop("counts"), t.update({f"more{i:02}": torch.ones(1) for i in range(12)}))
    )
    with pytest.raises(WeightsError, match=r"missing counts; unexpected more00, .*more09 and 2 more"):
        build_module(tmp_path)


@pytest.mark.parametrize("content", [b"", b"\x80\x04.", b"PK\x03\x04 a pickle in a zip", b"\xff" * 64])
def test_what_is_no_safetensors_file_is_refused(tmp_path: Path, content: bytes) -> None:
    write_tiny(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(content)
    with pytest.raises(WeightsError, match="not a whole safetensors file"):
        build_module(tmp_path)


def test_a_file_cut_short_is_refused(tmp_path: Path) -> None:
    write_tiny(tmp_path)
    path = tmp_path / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(WeightsError, match="not a whole safetensors file"):
        build_module(tmp_path)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "cannot be read as JSON"),
        ("[]", "no schema_version 2"),
        ('{"schema_version": 1}', "no schema_version 2"),
        ('{"schema_version": 2, "method": "tiny"}', "lacks name, version, anatozoo_version, settings"),
    ],
)
def test_a_broken_configuration_is_refused(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(WeightsError, match=words):
        read_config(tmp_path)


@pytest.mark.parametrize("name", ["../../x-y", "/etc/x-y", "x", "a-b\n"])
def test_a_name_that_is_no_name_is_refused(tmp_path: Path, name: str) -> None:
    write_tiny(tmp_path)
    config = tmp_path / "config.json"
    values = read_json(config) | {"name": name}
    config.write_text(__import__("json").dumps(values))
    with pytest.raises(WeightsError, match="is not <method>-<data>"):
        read_config(tmp_path)


def test_hyperparameters_of_another_time_are_explained(tmp_path: Path) -> None:
    write_tiny(tmp_path)
    config = tmp_path / "config.json"
    config.write_text(config.read_text().replace('"nodes"', '"knots"'))
    with pytest.raises(ConfigError, match=r"TinyModule does not take.*knots.*anatozoo 0\."):
        build_module(tmp_path)


@pytest.mark.parametrize(
    ("value", "half", "words"),
    [(float("nan"), False, "NaN or infinity"), (1e5, True, "1e\\+05, too large for float16")],
)
def test_weights_not_worth_keeping_are_refused(tmp_path: Path, value: float, half: bool, words: str) -> None:
    module = TinyModule()
    with torch.no_grad():
        module.offsets[0, 0] = value
    with pytest.raises(WeightsError, match=words):
        write_checkpoint_folder(module, tmp_path, name="tiny-toy", version="1.0.0", half=half)
    assert list(tmp_path.iterdir()) == []


def test_a_name_of_another_method_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="must be tiny-<data>"):
        write_checkpoint_folder(TinyModule(), tmp_path, name="hybridgnet-toy", version="1.0.0")


def test_a_module_of_no_method_is_refused(tmp_path: Path) -> None:
    class Stranger(TinyModule):
        pass

    with pytest.raises(ConfigError, match="no registered method"):
        write_checkpoint_folder(Stranger(), tmp_path, name="tiny-toy", version="1.0.0")


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")

    def fail(temporary: Path) -> None:
        temporary.write_text("half")
        raise OSError(28, "No space left on device")

    with pytest.raises(OutputError, match="the disk is full"):
        write_atomically(path, fail)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_disk_without_room_for_the_weights_is_an_error(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
    try:
        with pytest.raises(OutputError, match="cannot write"):
            write_tiny(tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot write"):
        write_tiny(tmp_path / "file" / "folder")
