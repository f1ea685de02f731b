"""Checkpoints and caches that somebody prepared: nothing is loaded, filled, followed or waited for."""

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from anatozoo.errors import AnatozooError, ChecksumMismatch, ManifestError, WeightsError
from anatozoo.frames.spec import FrameSpec
from anatozoo.methods.unet.module import UNetModule
from anatozoo.zoo.bounds import LARGEST_SIZE, check_hparams, tensor_budget
from anatozoo.zoo.checkpoint import build_module, read_config, read_tensors, write_checkpoint_folder
from anatozoo.zoo.files import fingerprint, read_regular
from anatozoo.zoo.manifest import read_manifest
from anatozoo.zoo.remote import fetch_file
from anatozoo.zoo.spec import FileRecord
from tests.support.zoo_fixtures import write_tiny

COMMIT = "a" * 40


@pytest.fixture
def at_once() -> Iterator[None]:
    """A test that waits for a pipe ends with an error instead."""

    def stop(number: int, frame: Any) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(10)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def change_config(folder: Path, **hparams: Any) -> None:
    path = folder / "config.json"
    values = json.loads(path.read_text())
    values["settings"].update(hparams)
    path.write_text(json.dumps(values))


# --- weights ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda v: torch.full_like(v, float("nan")), "NaN or infinity in offsets"),
        (lambda v: v.index_fill(0, torch.tensor([3]), float("inf")), "NaN or infinity in offsets"),
        (lambda v: v.double().mul(1e300), "NaN or infinity in offsets"),
        (lambda v: (v * 100).long(), r"another kind of number offsets torch\.int64"),
        (lambda v: v > 0, r"offsets \(torch\.bool\)"),
        (lambda v: v.to(torch.complex64), r"offsets \(torch\.complex64\)"),
        (lambda v: v.to(torch.float8_e4m3fn), r"offsets \(torch\.float8_e4m3fn\)"),
    ],
    ids=["nan", "infinity", "too large", "integer", "bool", "complex", "float8"],
)
def test_weights_that_are_no_numbers_are_refused(
    tmp_path: Path, tiny_method: None, change: Callable[[torch.Tensor], torch.Tensor], words: str
) -> None:
    write_tiny(tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    try:
        save_file(state | {"offsets": change(state["offsets"])}, tmp_path / "model.safetensors")
    except KeyError as error:  # of safetensors before it knew complex numbers
        pytest.skip(f"this safetensors writes no {error}")
    with pytest.raises(WeightsError, match=words):
        build_module(tmp_path)


def test_counts_that_are_real_numbers_are_refused(tmp_path: Path, tiny_method: None) -> None:
    write_tiny(tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    save_file(state | {"counts": state["counts"].float()}, tmp_path / "model.safetensors")
    with pytest.raises(WeightsError, match=r"another kind of number counts torch\.float32"):
        build_module(tmp_path)


def test_names_of_tensors_command_no_terminal(tmp_path: Path, tiny_method: None) -> None:
    write_tiny(tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    save_file(state | {"\x1b[2J\u202e": torch.zeros(1)}, tmp_path / "model.safetensors")
    with pytest.raises(WeightsError, match=r"unexpected \\u001b\[2J\\u202e") as caught:
        build_module(tmp_path)
    assert str(caught.value).isprintable()


# --- sizes ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "hparams",
    [
        {"channels": 10**12},
        {"frame": {"size": 10**6}},
        {"frame": {"size": LARGEST_SIZE + 1}},
        {"frame": {"size": [8000, 8000, 8000]}},
        {"widths": [64, 10**9]},
        {"nested": {"depth": -(10**9)}},
        {"lr": float("nan")},
        {"lr": float("inf")},
        {"lr": 1e300},
        {"lr_step": 10**400},
        {"widths": [1] * 20_000},
        {"a": [[[[[[[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]]]]]]]},
    ],
    ids=str,
)
def test_sizes_that_no_network_has_are_refused_at_once(hparams: dict[str, Any]) -> None:
    start = time.process_time()
    with pytest.raises(WeightsError, match=r"config\.json: .*(more than|network|finite)"):
        check_hparams(hparams, "config.json")
    assert time.process_time() - start < 0.1


def test_sizes_of_real_networks_pass() -> None:
    check_hparams(
        {
            "seed": 2**32,
            "widths": [2048],
            "frame": {"size": [128, 256, 256]},
            "optim": {"lr_step": 10**6, "lr": 1e-6},
        },
        "x",
    )
    check_hparams({"name": "x" * 1000, "flag": True, "none": None, "size": 8192}, "x")


@pytest.mark.parametrize("widths", [[60000] * 5, [4, 60000, 60000, 4, 4]], ids=str)
def test_a_network_far_larger_than_its_weights_is_refused_before_it_is_made(
    tmp_path: Path, widths: list[int]
) -> None:
    module = UNetModule(encoder="residual", decoder_widths=[4, 4, 4, 4, 4], frame=FrameSpec(64))
    write_checkpoint_folder(module, tmp_path, name="unet-toy", version="1.0.0")
    change_config(tmp_path, decoder_widths=widths)
    with pytest.raises(WeightsError, match="asks for far more tensors"):
        build_module(tmp_path)


def test_a_budget_is_kept_before_memory_is_taken() -> None:
    with tensor_budget(100, 1, "config.json"), pytest.raises(WeightsError, match="asks for far more tensors"):
        torch.empty(2**20, 2**20)
    with tensor_budget(100, 1, "config.json"), pytest.raises(WeightsError, match="asks for far more tensors"):
        torch.arange(10**12)
    with tensor_budget(100, 1, "config.json"), pytest.raises(WeightsError, match="asks for far more tensors"):
        list(map(torch.zeros, [1] * 10_000))
    with tensor_budget(100, 1, "config.json"):
        assert torch.nn.Linear(1000, 1000)(torch.randn(2, 1000)).shape == (2, 1000)


@pytest.mark.parametrize(
    "text", ["[" * 200_000, '{"a":' * 200_000, "1" * 10_000, "{}" + " " * 2**21], ids=lambda text: text[:5]
)
def test_a_configuration_of_bombs_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(WeightsError, match=r"cannot be read"):
        read_config(tmp_path)


def test_hyperparameters_that_break_the_constructor_are_a_sentence(tmp_path: Path, tiny_method: None) -> None:
    write_tiny(tmp_path)
    for nodes in (-5, "x", [[]], {"a": 1}, 1.5):
        change_config(tmp_path, nodes=nodes)
        with pytest.raises(AnatozooError, match=r"does not take these settings|network has|does not fit"):
            build_module(tmp_path)


@pytest.mark.parametrize("opening", ["[", "- ", "{a: ", "? "])
def test_a_nested_manifest_is_refused_with_a_line(tmp_path: Path, opening: str) -> None:
    path = tmp_path / "m.yaml"
    path.write_text(opening * 100_000)
    with pytest.raises(ManifestError, match=r"m\.yaml:1: not valid YAML"):
        read_manifest(path)


# --- pipes and devices ------------------------------------------------------------------------------------


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes")
@pytest.mark.usefixtures("at_once")
def test_nobody_waits_for_a_pipe(tmp_path: Path) -> None:
    for name in ("config.json", "m.yaml", "model.safetensors"):
        os.mkfifo(tmp_path / name)
    with pytest.raises(WeightsError, match="not a regular file"):
        read_config(tmp_path)
    with pytest.raises(ManifestError, match="not a regular file"):
        read_manifest(tmp_path / "m.yaml")
    with pytest.raises(WeightsError, match="not a regular file"):
        read_tensors(tmp_path / "model.safetensors")
    with pytest.raises(OSError, match="not a regular file"):
        fingerprint(tmp_path / "model.safetensors")


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="there are no devices")
@pytest.mark.usefixtures("at_once")
def test_devices_are_not_read(tmp_path: Path) -> None:
    for name in ("config.json", "m.yaml"):
        (tmp_path / name).symlink_to("/dev/zero")
    with pytest.raises(WeightsError, match="not a regular file"):
        read_config(tmp_path)
    with pytest.raises(ManifestError, match="not a regular file"):
        read_manifest(tmp_path / "m.yaml")


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(bytes(11))
    assert read_regular(tmp_path / "x", most=11) == bytes(11)
    with pytest.raises(OSError, match="larger than 10 bytes"):
        read_regular(tmp_path / "x", most=10)


# --- links in a cache -------------------------------------------------------------------------------------


def fetch(cache: Path) -> None:
    wrong = FileRecord("0" * 64, 1)
    fetch_file("org/name", COMMIT, "model.safetensors", cache, expected=wrong, offline=True)


def test_a_planted_link_makes_us_remove_nothing_elsewhere(tmp_path: Path) -> None:
    victim = tmp_path / "thesis.doc"
    victim.write_text("precious")
    snapshot = tmp_path / "cache/models--org--name/snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    (snapshot / "model.safetensors").symlink_to(victim)
    with pytest.raises(ChecksumMismatch):
        fetch(tmp_path / "cache")
    assert victim.read_text() == "precious"


@pytest.mark.parametrize("level", ["models--org--name", "snapshots", "commit", "blobs"])
def test_a_planted_folder_makes_us_remove_nothing_elsewhere(tmp_path: Path, level: str) -> None:
    repository = tmp_path / "cache/models--org--name"
    where = {
        "models--org--name": repository,
        "snapshots": repository / "snapshots",
        "commit": repository / "snapshots" / COMMIT,
        "blobs": repository / "blobs",
    }[level]
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    where.parent.mkdir(parents=True)
    where.symlink_to(elsewhere)
    snapshot = repository / "snapshots" / COMMIT
    snapshot.mkdir(parents=True, exist_ok=True)
    blob = elsewhere / "blob"
    blob.write_text("precious")
    (snapshot / "model.safetensors").symlink_to(blob)
    with pytest.raises((ChecksumMismatch, WeightsError)):
        fetch(tmp_path / "cache")
    assert blob.read_text() == "precious"
    if level != "blobs":
        assert (snapshot / "model.safetensors").is_symlink()


def test_a_wrong_blob_of_the_cache_is_removed_also_where_the_cache_is_a_link(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "cache").symlink_to(tmp_path / "disk")
    repository = tmp_path / "cache/models--org--name"
    snapshot = repository / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    (repository / "blobs").mkdir()
    (repository / "blobs/b").write_text("wrong")
    (snapshot / "model.safetensors").symlink_to(Path("../../blobs/b"))
    with pytest.raises(ChecksumMismatch):
        fetch(tmp_path / "cache")
    assert not (repository / "blobs/b").exists()
    assert not (snapshot / "model.safetensors").is_symlink()
