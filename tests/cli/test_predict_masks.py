import json
import subprocess
import sys

import pytest
from PIL import Image as PILImage

from anatozoo.cli.main import main
from anatozoo.errors import UnknownCheckpoint
from anatozoo.frames.spec import FrameSpec
from anatozoo.serve.outputs import EVERY
from anatozoo.zoo.checkpoint import write_checkpoint_folder
from tests.support.fake_model import FakeSegmenter
from tests.support.phantoms import make_chest_phantom
from tests.unit.serve.fakes import FakeRegistrar, FakeRepairer, labels, write_mask, write_volume

FAST = ("--format", "json")


@pytest.fixture
def models(monkeypatch):
    known = {model.checkpoint_name: model for model in (FakeSegmenter(), FakeRepairer(), FakeRegistrar())}
    known["fakedae-liver"] = FakeRepairer(["liver"])
    known["fakedae-volume"] = FakeRepairer(["x", "y"], (8, 32, 32))

    def load(name, *, device="cpu", trainable=True):
        if name not in known:
            raise UnknownCheckpoint(f"there is no checkpoint {name!r}.")
        return known[name]

    monkeypatch.setattr("anatozoo.zoo.hub.load", load)
    return known


@pytest.fixture
def folder(tmp_path):
    for name in ("a_mask.png", "b_mask.png"):
        write_mask(tmp_path / "masks" / name, labels())
    (tmp_path / "scans").mkdir()
    for name in ("a.png", "b.png"):
        PILImage.fromarray(make_chest_phantom(60, 70).image).save(tmp_path / "scans" / name)
    return tmp_path


def predict(*arguments):
    return main(["predict", *map(str, arguments)])


def visible(out):
    return {p.name for p in out.iterdir() if p.name[0] != "."}


def test_masks_are_repaired_and_summed_up(models, folder, capsys):
    out = folder / "out"
    assert predict("fakedae-phantom", folder / "masks", "--out", out) == 0
    captured = capsys.readouterr()
    assert captured.out.startswith("2 masks: 2 repaired in ")
    assert captured.err == ""
    assert visible(out) == {
        "manifest.csv",
        "measurements.csv",
        *(f"{name}{ending}" for name in "ab" for ending in ("_mask.png", "_repair.png", ".json")),
    }
    assert predict("fakedae-phantom", folder / "masks", "--out", out) == 0
    assert "0 repaired, 2 done already" in capsys.readouterr().out


def test_a_bad_mask_gives_code_3(models, folder, capsys):
    write_mask(folder / "masks" / "c.png", 100 + labels())
    assert predict("fakedae-phantom", folder / "masks", "--out", folder / "out", *FAST) == 3
    captured = capsys.readouterr()
    assert "3 masks: 2 repaired, 1 failed" in captured.out
    assert "c.png" in captured.err
    assert "labels 100" in captured.err


def test_segment_then_repair(models, folder, capsys):
    arguments = ("fake-phantom", folder / "scans", "--then", "fakedae-phantom", "--out", folder / "out")
    assert predict(*arguments, *FAST) == 0
    assert "2 images: 2 segmented and repaired in" in capsys.readouterr().out
    assert predict(*arguments, *FAST, "--json") == 0
    summary = json.loads(capsys.readouterr().out)
    assert (summary["checkpoint"], summary["version"]) == ("fake-phantom", "1.0.0")
    assert summary["then"] == {"checkpoint": "fakedae-phantom", "version": "2.0.0"}
    assert (summary["repaired"], summary["already_done"]) == (0, 2)
    assert summary["images"][0]["models"] == "fake-phantom 1.0.0;fakedae-phantom 2.0.0"
    about = json.loads((folder / "out" / "a.json").read_text())
    assert about["segmenter"]["checkpoint"] == "fake-phantom"


def test_json_of_a_run_over_masks(models, folder, capsys):
    assert predict("fakedae-phantom", folder / "masks", "--out", folder / "out", *FAST, "--json") == 0
    summary = json.loads(capsys.readouterr().out)
    assert "then" not in summary
    assert summary["repaired"] == 2
    assert summary["masks"][0]["outputs"] == ["a.json"]


def test_options_reach_the_model(models, folder):
    options = ("--classes", "heart, lung_left", "--spacing-mm", "0.5", "--format", "json,nifti,png")
    assert predict("fakedae-phantom", "--out", folder / "out", folder / "masks", *options) == 0
    about = json.loads((folder / "out" / "a.json").read_text())
    assert about["spacing_mm"] == [0.5, 0.5]
    assert {organ for organ, found in about["after"].items() if found["pixels"]} == {"heart", "lung_left"}
    assert {"a_mask.nii.gz", "a_mask.png"} < visible(folder / "out")


def test_volumes(models, folder, capsys):
    write_volume(folder / "v.nii.gz", labels((9, 40, 48)))
    out = ("--out", folder / "out")
    assert predict("fakedae-volume", folder / "v.nii.gz", *out, *FAST, "--spacing-mm", "1", "2", "3") == 0
    assert json.loads((folder / "out" / "v.json").read_text())["spacing_mm"] == [1.0, 2.0, 3.0]
    assert predict("fakedae-volume", folder / "v.nii.gz", *out, "--spacing-mm", "1", "2") == 2
    assert "one number or 3 here" in capsys.readouterr().err
    assert predict("fakedae-volume", folder / "v.nii.gz", *out, "--format", "png") == 2
    assert "repaired volumes have no format png; use nifti" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (
            ["fakedae-phantom", "masks", "--invert"],
            "is for radiographs; fakedae-phantom takes masks",
        ),
        (["fakedae-phantom", "masks", "--no-invert"], "is for radiographs"),
        (["fakedae-phantom", "masks", "--allow-any-modality"], "is for radiographs"),
        (["fakedae-phantom", "masks", "--format", "csv"], "repaired masks have no format csv"),
        (["fakedae-phantom", "masks", "--classes", "a,,b"], "different names"),
        (["fakedae-phantom", "masks", "--classes", "a,a"], "different names"),
        (["fake-phantom", "scans", "--classes", "a"], "names the labels of masks; fake-phantom"),
        (["fake-phantom", "scans", "--then", "fakedae-phantom", "--format", "csv"], "no format csv"),
        (["fake-phantom", "scans", "--format", "picture"], "segmentations have no format picture"),
        (["fake-phantom", "scans", "--ignore-spacing"], "is for pairs of images"),
        (["fakedae-phantom", "masks", "--then", "fakedae-liver"], "only a segmentation can be followed"),
        (["fake-phantom"], "give files, folders or patterns"),
    ],
)
def test_what_does_not_go_together_gives_code_2(models, folder, capsys, monkeypatch, arguments, match):
    monkeypatch.chdir(folder)
    assert predict(*arguments, "--out", "out") == 2
    printed = capsys.readouterr().err
    assert match in printed
    assert "usage: anatozoo predict" in printed
    assert not (folder / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (["fake-phantom", "scans", "--then", "fakedae-liver"], "draws lung_right"),
        (["fake-phantom", "scans", "--then", "fakedae-volume"], "repairs volumes"),
        (["fake-phantom", "scans", "--then", "fakereg-phantom"], "repairs no masks"),
        (["fake-phantom", "scans", "--then", "gone-model"], "no checkpoint 'gone-model'"),
        (["fakereg-phantom", "scans"], "columns moving and fixed, and give it by --pairs"),
        (["fakedae-phantom", "empty"], "no mask in this folder"),
        (["fakedae-phantom", "photos"], "no mask in this folder"),
    ],
)
def test_what_cannot_be_done_gives_code_1_before_anything_is_written(
    models, folder, capsys, monkeypatch, arguments, match
):
    monkeypatch.chdir(folder)
    (folder / "empty").mkdir()
    (folder / "photos").mkdir()
    (folder / "photos" / "a.jpg").write_bytes(b"x")
    assert predict(*arguments, "--out", "out") == 1
    assert match in capsys.readouterr().err
    assert not (folder / "out").exists()


def test_the_kind_of_a_real_checkpoint_is_known(folder, capsys):
    from anatozoo.methods.postdae.module import PostDAEModule

    module = PostDAEModule(organs=["a", "b"], widths=[4, 8], code=8, skips=[2], frame=FrameSpec(32))
    checkpoint = write_checkpoint_folder(module, folder / "w", name="postdae-test", version="1.0.0")
    assert predict(checkpoint, folder / "masks", "--out", folder / "out", *FAST) == 0
    assert "2 masks: 2 repaired" in capsys.readouterr().out
    assert json.loads((folder / "out" / "b.json").read_text())["checkpoint"] == "postdae-test"


def test_progress_says_what_is_happening(models, folder, capsys, monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    assert predict("fakedae-phantom", folder / "masks", "--out", folder / "out", *FAST) == 0
    printed = capsys.readouterr().err
    assert "repairing" in printed
    assert "2/2" in printed


def test_help_names_every_format_and_fits_the_screen():
    done = subprocess.run(
        [sys.executable, "-m", "anatozoo", "predict", "--help"], capture_output=True, text=True, check=True
    )
    text = done.stdout.partition("formats (")[2].partition("pairs.csv")[0]
    words = set(text.replace("*", " ").replace(",", " ").replace("(", " ").split())
    assert {name for formats in EVERY for name in formats.writers} <= words
    assert max(map(len, done.stdout.splitlines())) <= 80


def test_what_a_listed_checkpoint_does_is_known_before_it_is_loaded(folder, capsys, monkeypatch):
    def load(name, **options):
        raise AssertionError("loaded")

    monkeypatch.setattr("anatozoo.zoo.hub.load", load)
    monkeypatch.chdir(folder)
    (folder / "photos").mkdir()
    for arguments, code, words in (
        (["postdae-jsrt", "photos"], 1, "no mask in this folder"),
        (["acnn-acdc", "scans", "--invert"], 2, "--invert is for radiographs; acnn-acdc takes volumes"),
        (["hybridgnet-jsrt", "scans", "--classes", "a"], 2, "hybridgnet-jsrt takes images"),
        (["acregnet-jsrt", "scans"], 1, "list the pairs in a CSV file"),
        (["aenet-jsrt", "masks"], 1, "no command runs checkpoints that give codes"),
        (["unet-jsrt", "--pairs", "gone.csv"], 1, "unet-jsrt registers no images"),
    ):
        assert predict(*arguments, "--out", "out") == code
        assert words in capsys.readouterr().err
    assert not (folder / "out").exists()
