"""The command `anatozoo publish`, in-process, against a Hub on this machine."""

import re
from dataclasses import replace
from pathlib import Path

import lightning as L
import pytest
import torch

import anatozoo
from anatozoo.cli.main import main
from anatozoo.zoo import registry
from anatozoo.zoo.golden_file import read_arrays
from anatozoo.zoo.kinds import CONTOURS
from tests.support.hub_server import HubServer
from tests.support.zoo_fixtures import TINY, TinyModule, published, write_manifest, write_tiny

Capture = pytest.CaptureFixture[str]
REPO = "toys/new"


@pytest.fixture(autouse=True)
def _token(package: Path, empty_hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_writer")
    # A method for radiographs, for which anatozoo has a free one.
    monkeypatch.setitem(registry.METHODS, "tiny", replace(TINY, kind=CONTOURS))


def write_run(path: Path, module: TinyModule, **more: object) -> Path:
    """A file as `anatozoo fit` writes it."""
    stored = {
        "state_dict": module.state_dict(),
        "hyper_parameters": dict(module.hparams),
        "pytorch-lightning_version": L.__version__,
        "anatozoo_method": "tiny",
    }
    torch.save(stored | more, path)
    return path


def test_a_checkpoint_of_the_manifest(
    package: Path, bundled: TinyModule, empty_hub: HubServer, capsys: Capture
) -> None:
    assert main(["publish", "tiny-toy", "--repo-id", REPO, "--private"]) == 0
    captured = capsys.readouterr()
    repo = empty_hub.repos[REPO]
    assert repo.private
    assert captured.err == ""
    for words in [
        f"tiny-toy v1.0.0: {empty_hub.url}/{REPO}, new commit, card written",
        "read back and verified",
        "golden test: 0.00",
        f'anatozoo.load("hf:{REPO}@{repo.head}")',
        f"revision: {repo.head}",
        "status: published",
    ]:
        assert words in captured.out
    assert main(["publish", "tiny-toy", "--repo-id", REPO]) == 0
    assert "nothing to send, all was there, card unchanged" in capsys.readouterr().out


def test_the_manifest_is_written_on_request(
    package: Path, bundled: TinyModule, empty_hub: HubServer, capsys: Capture
) -> None:
    assert main(["publish", "tiny-toy", "--repo-id", REPO, "--write-manifest"]) == 0
    out = capsys.readouterr().out
    assert f"entry written to {package / 'checkpoints_manifest.yaml'}" in out
    assert "Entry for the manifest" not in out
    assert anatozoo.info("tiny-toy").hub.repo_id == REPO


def test_a_training_run(package: Path, empty_hub: HubServer, tmp_path: Path, capsys: Capture) -> None:
    module = TinyModule(nodes=7)
    ckpt = write_run(tmp_path / "last.ckpt", module)
    arguments = ["publish", str(ckpt), "--as", "tiny-hospital", "--repo-id", REPO, "--version", "1.2.0"]
    assert main(arguments) == 0
    repo = empty_hub.repos[REPO]
    assert repo.tags == {"v1.2.0": repo.head}
    loaded = anatozoo.load(f"hf:{REPO}@{repo.head}", golden_check=True)
    assert (loaded.checkpoint_name, loaded.checkpoint_version) == ("tiny-hospital", "1.2.0")
    assert torch.equal(loaded.offsets, module.offsets.half().float())
    assert "# tiny-hospital" in repo.files["README.md"].content.decode()
    entry = capsys.readouterr().out
    assert "landmarks: {heart: 7}" in entry
    assert "summary: null # to be written" in entry
    # The same run again gives the same bytes, so there is nothing to send.
    assert main(arguments) == 0
    assert "nothing to send" in capsys.readouterr().out
    assert len(repo.commits) == 2


def test_the_last_weights_of_a_run(package: Path, empty_hub: HubServer, tmp_path: Path) -> None:
    module = TinyModule(nodes=5)
    last = {key: value + 1 for key, value in module.state_dict().items()}
    ckpt = write_run(tmp_path / "last.ckpt", module, current_model_state=last)
    assert main(["publish", str(ckpt), "--as", "tiny-last", "--repo-id", REPO, "--last-weights"]) == 0
    loaded = anatozoo.load(f"hf:{REPO}@{empty_hub.repos[REPO].head}")
    assert torch.equal(loaded.offsets, last["offsets"].half().float())


def test_a_picture_of_ones_own_for_the_golden_test(
    package: Path, empty_hub: HubServer, tmp_path: Path
) -> None:
    import numpy as np
    from PIL import Image

    picture = np.zeros((40, 30), np.uint8)
    picture[5:9, 20:24] = 200
    Image.fromarray(picture).save(tmp_path / "free.png")
    ckpt = write_run(tmp_path / "last.ckpt", TinyModule())
    image = ["--golden-image", str(tmp_path / "free.png")]
    assert main(["publish", str(ckpt), "--as", "tiny-own", "--repo-id", REPO, *image]) == 0
    (tmp_path / "golden").write_bytes(empty_hub.repos[REPO].files["golden.safetensors"].content)
    stored = read_arrays(tmp_path / "golden")[0]["image"]
    assert stored.shape == picture.shape
    assert (stored > 100).sum() == 16


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["RUN"], "is a training run: name the checkpoint by --as METHOD-DATA"),
        (["RUN", "--as", "tiny"], "must be <method>-<data>[-<variant>] in lower case"),
        (["RUN", "--as", "tini-x"], "no method is called 'tini'; did you mean tiny"),
        (["RUN", "--as", "../tiny-x"], "must be <method>-<data>[-<variant>]"),
        (["RUN", "--as", "tiny-x", "--last-weights"], "holds no average of weights"),
        (["RUN", "--as", "tiny-x", "--golden-image", "a", "b", "c"], "cannot be read|no such file|a"),
        (["nowhere.ckpt", "--as", "tiny-x"], "nowhere.ckpt"),
        (["DIR", "--as", "tiny-x"], "--as is for the .ckpt file of a training run"),
        (["./nowhere"], "there is no folder"),
        (["tiny-nowhere"], "no checkpoint is called 'tiny-nowhere'"),
        (["DIR", "--card", "nowhere.md"], "the card nowhere.md cannot be read"),
        (["DIR", "--write-manifest"], "no manifest file lists tiny-mine"),
    ],
)
def test_what_cannot_be_published_is_one_sentence_and_nothing_is_sent(
    package: Path,
    empty_hub: HubServer,
    tmp_path: Path,
    capsys: Capture,
    arguments: list[str],
    words: str,
) -> None:
    write_tiny(tmp_path / "mine", name="tiny-mine")
    ckpt = write_run(tmp_path / "last.ckpt", TinyModule())
    places = {"RUN": str(ckpt), "DIR": str(tmp_path / "mine")}
    chosen = [places.get(argument, argument) for argument in arguments]
    assert main(["publish", *chosen, "--repo-id", REPO]) == 1
    error = capsys.readouterr().err
    assert error.startswith("anatozoo: error: ")
    assert error.count("\n") == 1
    assert any(part in error for part in words.split("|"))
    assert empty_hub.requests == []


def test_usage(capsys: Capture) -> None:
    assert main(["publish", "tiny-toy"]) == 2
    assert "--repo-id" in capsys.readouterr().err
    assert main(["publish", "x", "--repo-id", REPO, "--keep-card", "--replace-card"]) == 2
    assert re.search("not allowed with argument", capsys.readouterr().err)


def test_an_edited_card_says_how_to_go_on(
    package: Path, bundled: TinyModule, empty_hub: HubServer, capsys: Capture
) -> None:
    assert main(["publish", "tiny-toy", "--repo-id", REPO]) == 0
    empty_hub.repos[REPO].put({"README.md": b"---\nlicense: mit\n---\nMine.\n"})
    capsys.readouterr()
    assert main(["publish", "tiny-toy", "--repo-id", REPO]) == 1
    error = capsys.readouterr().err
    assert (
        "was edited there, so nothing was published: --keep-card leaves it as it is, --replace-card" in error
    )
    assert main(["publish", "tiny-toy", "--repo-id", REPO, "--keep-card"]) == 0
    assert "card kept" in capsys.readouterr().out


def test_download_of_several_goes_on_after_one_that_fails(
    hub: HubServer, package: Path, tmp_path: Path, capsys: Capture
) -> None:
    there, gone = published(tmp_path / "source"), published(tmp_path / "source", "tiny-gone")
    gone["hub"]["repo_id"] = "toys/gone"
    write_manifest(package / "checkpoints_manifest.yaml", gone, there)
    assert main(["download", "--all", "--to", str(tmp_path / "usb")]) == 1
    captured = capsys.readouterr()
    assert captured.err.startswith(f"tiny-gone: FAILED: {hub.url}/toys/gone does not exist or is private")
    assert captured.out == f"tiny-toy: verified, in {tmp_path / 'usb' / 'tiny-toy'}\n"
    assert main(["download", "tiny-gone"]) == 1
    assert capsys.readouterr().err.startswith(f"anatozoo: error: {hub.url}/toys/gone does not exist")
