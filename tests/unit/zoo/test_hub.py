import os
import shutil
from pathlib import Path

import pytest
import torch

import anatozoo
from anatozoo.errors import (
    ChecksumMismatch,
    ConfigError,
    DownloadError,
    OfflineMiss,
    OutputError,
    UnknownCheckpoint,
    WeightsError,
)
from anatozoo.zoo.hub import download, is_local, resolve
from tests.support.zoo_fixtures import (
    COMMIT,
    OTHER_COMMIT,
    TinyModule,
    entry,
    file_record,
    published,
    write_manifest,
    write_tiny,
)


def flip_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def test_list_and_info(package: Path, bundled: TinyModule) -> None:
    assert anatozoo.list_models() == ["tiny-toy"]
    assert anatozoo.list_models("hybrid*") == []
    assert anatozoo.list_models(method="tiny", anatomy="chest", modality="x-ray", commercial=False) == [
        "tiny-toy"
    ]
    for other in ({"method": "x"}, {"anatomy": "knee"}, {"modality": "mr"}, {"commercial": True}):
        assert anatozoo.list_models(**other) == []
    assert anatozoo.info("tiny-toy").output.classes == ("heart",)


def test_a_bundled_checkpoint_loads(package: Path, bundled: TinyModule) -> None:
    module = anatozoo.load("tiny-toy")
    assert module.checkpoint_name == "tiny-toy"
    assert torch.equal(module.offsets, bundled.offsets.half().float())
    assert resolve("tiny-toy") == package / "checkpoints" / "tiny-toy"


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "golden.safetensors"])
def test_one_flipped_byte_is_refused_with_both_digests(package: Path, bundled: TinyModule, name: str) -> None:
    path = package / "checkpoints" / "tiny-toy" / name
    expected = file_record(path)["sha256"]
    flip_byte(path)
    with pytest.raises(ChecksumMismatch) as caught:
        anatozoo.load("tiny-toy")
    assert str(expected) in str(caught.value)
    assert str(file_record(path)["sha256"]) in str(caught.value)
    assert "Install anatozoo again" in str(caught.value)


def test_a_misspelt_name_gets_close_matches(package: Path, bundled: TinyModule) -> None:
    with pytest.raises(UnknownCheckpoint, match="did you mean tiny-toy"):
        anatozoo.load("tiny-toi")


@pytest.mark.parametrize("name", ["./nowhere", "some/where", Path("nowhere"), "~/nowhere-at-all"])
def test_a_folder_that_is_not_there_is_said_to_be_missing(package: Path, name: str | Path) -> None:
    with pytest.raises(UnknownCheckpoint, match="there is no folder"):
        anatozoo.load(name)


def test_a_local_folder_loads(package: Path, tmp_path: Path) -> None:
    module = write_tiny(tmp_path / "mine", name="tiny-mine")
    for name in (tmp_path / "mine", str(tmp_path / "mine")):
        loaded = anatozoo.load(name)
        assert loaded.checkpoint_name == "tiny-mine"
        assert torch.equal(loaded.offsets, module.offsets.half().float())


def test_a_file_or_an_empty_folder_is_no_checkpoint(package: Path, tmp_path: Path) -> None:
    (tmp_path / "model.pt").write_bytes(b"\x80\x04.")
    with pytest.raises(WeightsError, match="is a file; give the folder"):
        anatozoo.load(tmp_path / "model.pt")
    (tmp_path / "last.ckpt").write_bytes(b"\x80\x04.")
    with pytest.raises(ConfigError, match="not a checkpoint that `anatozoo fit` wrote"):
        anatozoo.load(tmp_path / "last.ckpt")
    (tmp_path / "empty").mkdir()
    with pytest.raises(WeightsError, match="not a checkpoint folder"):
        anatozoo.load(tmp_path / "empty")


def test_a_name_of_the_manifest_wins_over_a_folder_of_the_same_name(
    package: Path, bundled: TinyModule, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_tiny(tmp_path / "here" / "tiny-toy", name="tiny-other")
    monkeypatch.chdir(tmp_path / "here")
    assert anatozoo.load("tiny-toy").checkpoint_name == "tiny-toy"
    assert anatozoo.load("./tiny-toy").checkpoint_name == "tiny-other"


@pytest.mark.parametrize("device", ["cuda:99", "gpu", "cuda:x"])
def test_a_device_that_is_not_there_is_named(package: Path, bundled: TinyModule, device: str) -> None:
    with pytest.raises(ConfigError, match=device):
        anatozoo.load("tiny-toy", device=device)


def test_cuda_without_a_gpu_says_so(
    package: Path, bundled: TinyModule, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(ConfigError, match=r"device 'cuda' is not available: .* sees 0 CUDA devices"):
        anatozoo.load("tiny-toy", device="cuda")


def test_downloaded_folder_serves_a_machine_without_the_bundle(
    package: Path, bundled: TinyModule, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (package / "checkpoints" / "tiny-toy" / "README.md").write_text("card")
    copy = download("tiny-toy", tmp_path / "usb")
    assert copy == tmp_path / "usb" / "tiny-toy"
    assert (copy / "README.md").read_text() == "card"
    shutil.rmtree(package / "checkpoints")
    assert not is_local(anatozoo.info("tiny-toy"))
    assert anatozoo.load("tiny-toy", cache_dir=tmp_path / "usb", offline=True).checkpoint_name == "tiny-toy"
    monkeypatch.setenv("ANATOZOO_HOME", str(tmp_path / "usb"))
    assert resolve("tiny-toy") == copy
    flip_byte(copy / "model.safetensors")
    with pytest.raises(ChecksumMismatch, match=r"Delete .*tiny-toy and run `anatozoo download tiny-toy`"):
        resolve("tiny-toy")


def test_a_whole_copy_is_not_written_again_and_a_broken_one_is(
    package: Path, bundled: TinyModule, tmp_path: Path
) -> None:
    weights = download("tiny-toy", tmp_path / "usb") / "model.safetensors"
    os.utime(weights, ns=(1, 1))
    download("tiny-toy", tmp_path / "usb")
    assert weights.stat().st_mtime_ns == 1
    flip_byte(weights)
    download("tiny-toy", tmp_path / "usb")
    assert file_record(weights) == file_record(package / "checkpoints" / "tiny-toy" / "model.safetensors")


def test_download_to_a_place_that_is_a_file_is_an_error(
    package: Path, bundled: TinyModule, tmp_path: Path
) -> None:
    (tmp_path / "usb").write_text("")
    with pytest.raises(OutputError, match="cannot write"):
        download("tiny-toy", tmp_path / "usb")


def test_a_bundle_that_is_missing_is_not_looked_for_on_the_network(package: Path) -> None:
    write_manifest(package / "checkpoints_manifest.yaml", entry())
    with pytest.raises(DownloadError, match=r"never published.*install anatozoo again"):
        resolve("tiny-toy")


@pytest.mark.parametrize("by_environment", [True, False])
def test_offline_names_the_files_that_are_expected(
    package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by_environment: bool
) -> None:
    write_tiny(tmp_path / "source")
    write_manifest(package / "checkpoints_manifest.yaml", published(tmp_path / "source"))
    if by_environment:
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(OfflineMiss) as caught:
        resolve("tiny-toy", offline=None if by_environment else True)
    assert str(tmp_path / "cache" / "tiny-toy" / "model.safetensors") in str(caught.value)
    assert "anatozoo download tiny-toy --to DIR" in str(caught.value)


@pytest.mark.parametrize(
    "name",
    [
        "hf:toys/tiny",
        "hf:toys/tiny@main",
        f"hf:toys/tiny@{COMMIT[:10]}",
        f"hf:toys@{COMMIT}",
        f"hf:a/../b@{COMMIT}",
    ],
)
def test_a_repository_needs_its_full_commit(package: Path, name: str) -> None:
    with pytest.raises(UnknownCheckpoint, match="40 hex digits"):
        resolve(name, offline=True)


def test_revision_is_checked_before_anything_is_fetched(
    package: Path, bundled: TinyModule, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="40 hex digits"):
        resolve("tiny-toy", revision="main")
    with pytest.raises(ConfigError, match="never published"):
        resolve("tiny-toy", revision=OTHER_COMMIT)
    with pytest.raises(ConfigError, match="names its commit already"):
        resolve(f"hf:toys/tiny@{COMMIT}", revision=OTHER_COMMIT)
    with pytest.raises(ConfigError, match="is a folder"):
        resolve(tmp_path, revision=COMMIT)
