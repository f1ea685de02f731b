import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image as PILImage

from anatozoo.cli.main import main
from anatozoo.errors import UnknownCheckpoint
from tests.support.fake_model import FakeSegmenter
from tests.support.phantoms import make_chest_phantom


@pytest.fixture
def model(monkeypatch):
    fake = FakeSegmenter()
    loaded = []

    def load(name, *, device="cpu", trainable=True):
        if name != fake.checkpoint_name:
            raise UnknownCheckpoint(f"there is no checkpoint {name!r}.")
        loaded.append(device)
        return fake

    monkeypatch.setattr("anatozoo.zoo.hub.load", load)
    fake.loaded = loaded
    return fake


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "in").mkdir()
    for name in ("a.png", "b.png"):
        PILImage.fromarray(make_chest_phantom(60, 70).image).save(tmp_path / "in" / name)
    return tmp_path / "in"


def predict(*arguments):
    return main(["predict", "fake-phantom", *map(str, arguments)])


def test_a_folder_is_segmented_and_summed_up(model, folder, tmp_path, capsys):
    assert predict(folder, "--out", tmp_path / "out") == 0
    captured = capsys.readouterr()
    assert captured.out.startswith("2 images: 2 segmented in ")
    assert str(tmp_path / "out" / "manifest.csv") in captured.out
    assert captured.err == ""
    assert {p.name for p in (tmp_path / "out").iterdir() if p.name[0] != "."} == {
        "a_mask.png",
        "a_overlay.png",
        "a.json",
        "b_mask.png",
        "b_overlay.png",
        "b.json",
        "manifest.csv",
        "measurements.csv",
    }
    assert predict(folder, "--out", tmp_path / "out") == 0
    assert "0 segmented, 2 done already" in capsys.readouterr().out
    assert predict(folder, "--out", tmp_path / "out", "--overwrite") == 0
    assert "2 segmented in" in capsys.readouterr().out


def test_failed_images_give_code_3_and_their_reasons(model, folder, tmp_path, capsys):
    for i in range(7):
        (folder / f"empty{i}.png").write_bytes(b"")
    assert predict(folder, "--out", tmp_path / "out", "--quiet") == 3
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("zero bytes") == 5
    assert "2 more" in captured.err


def test_json_is_all_that_goes_to_standard_output(model, folder, tmp_path, capsys):
    (folder / "empty.png").write_bytes(b"")
    assert predict(folder, "--out", tmp_path / "out", "--json") == 3
    values = json.loads(capsys.readouterr().out)
    assert (values["total"], values["segmented"], values["failed"], values["already_done"]) == (3, 2, 1, 0)
    assert (values["checkpoint"], values["version"]) == ("fake-phantom", "1.0.0")
    by_name = {Path(image["file"]).name: image for image in values["images"]}
    assert by_name["a.png"]["outputs"] == ["a_mask.png", "a_overlay.png", "a.json"]
    assert "zero bytes" in by_name["empty.png"]["reason"]


def test_options_reach_the_reader_and_the_model(model, folder, tmp_path):
    options = "--spacing-mm 0.5 0.25 --format json,nifti,csv --invert --device cuda:1 --batch-size 1"
    out = tmp_path / "out"
    code = predict(folder / "a.png", "--out", out, *options.split(), "--allow-any-modality")
    assert code == 0
    assert model.loaded == ["cuda:1"]
    assert json.loads((tmp_path / "out" / "a.json").read_text())["spacing_mm"] == [0.5, 0.25]
    assert (tmp_path / "out" / "a_mask.nii.gz").exists()
    assert (tmp_path / "out" / "a_landmarks.csv").exists()
    assert not (tmp_path / "out" / "a_mask.png").exists()


def test_one_spacing_is_for_both_directions(model, folder, tmp_path):
    assert predict(folder / "a.png", "--out", tmp_path / "out", "--spacing-mm", "0.5") == 0
    assert json.loads((tmp_path / "out" / "a.json").read_text())["spacing_mm"] == [0.5, 0.5]


def test_inversion_changes_what_is_drawn(model, folder, tmp_path):
    for name, flag in (("plain", "--no-invert"), ("inverted", "--invert")):
        assert predict(folder / "a.png", "--out", tmp_path / name, flag) == 0
    plain, inverted = (PILImage.open(tmp_path / n / "a_overlay.png") for n in ("plain", "inverted"))
    with plain, inverted:
        # The air beside the body is the darkest part of the picture, or the brightest.
        assert sum(plain.getpixel((4, 4))) < 60
        assert sum(inverted.getpixel((4, 4))) > 700


@pytest.mark.parametrize(
    "wrong",
    [
        ["--format", "bmp"],
        ["--format", ""],
        ["--batch-size", "0"],
        ["--batch-size", "x"],
        ["--spacing-mm", "0"],
        ["--spacing-mm", "nan"],
        ["--spacing-mm", "1", "1", "1"],
        ["--no-such-option"],
    ],
)
def test_wrong_usage_gives_code_2(model, folder, tmp_path, capsys, wrong):
    assert predict(folder, "--out", tmp_path / "out", *wrong) == 2
    assert "usage: anatozoo predict" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_missing_arguments_give_code_2(model, folder, capsys):
    assert predict(folder) == 2
    assert "--out" in capsys.readouterr().err


def test_errors_give_code_1_and_a_sentence(model, folder, tmp_path, capsys):
    assert main(["predict", "fake-fantom", str(folder), "--out", str(tmp_path / "out")]) == 1
    assert "there is no checkpoint 'fake-fantom'" in capsys.readouterr().err
    assert predict(tmp_path / "gone", "--out", tmp_path / "out") == 1
    assert "no such file or folder" in capsys.readouterr().err
    (tmp_path / "file").write_text("x")
    assert predict(folder, "--out", tmp_path / "file") == 1
    assert "is a file, not a folder" in capsys.readouterr().err


def test_an_interrupt_gives_code_130_and_says_how_to_go_on(model, folder, tmp_path, capsys, monkeypatch):
    def interrupt(xs, batch_size=8):
        raise KeyboardInterrupt

    monkeypatch.setattr(model, "predict_batch", interrupt)
    assert predict(folder, "--out", tmp_path / "out") == 130
    assert "run the same command again" in capsys.readouterr().err


def test_progress_is_shown_on_a_terminal_only(model, folder, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert predict(folder, "--out", tmp_path / "out") == 0
    assert "2/2" in capsys.readouterr().err
    assert predict(folder, "--out", tmp_path / "out2", "--quiet") == 0
    assert capsys.readouterr().err == ""


def test_help_needs_no_torch():
    code = (
        "import sys; from anatozoo.cli.main import main; code = main(['predict', '--help']);"
        "assert 'torch' not in sys.modules and 'matplotlib' not in sys.modules; sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "--spacing-mm X [Y ...]" in done.stdout


def test_what_images_do_not_need_is_not_imported():
    code = (
        "import sys, anatozoo.serve.engine, anatozoo.methods.hybridgnet.model;"
        "print({'scipy.ndimage', 'scipy.sparse', 'scipy.interpolate', 'matplotlib'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "set()\n", done.stderr


def test_demo_segments_the_radiograph_and_says_where_things_are(model, tmp_path, capsys, monkeypatch):
    radiograph = tmp_path / "data" / "RG1_UNCR.dcm"
    radiograph.parent.mkdir()
    PILImage.fromarray(make_chest_phantom(60, 70).image).save(radiograph, format="PNG")
    monkeypatch.setattr("pydicom.data.get_testdata_file", lambda name, download: str(radiograph))
    out = tmp_path / "out"
    assert main(["demo", "fake-phantom", "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    for name in ("_overlay.png", "_mask.png", "_landmarks.csv", ".json"):
        assert str(out / f"RG1_UNCR{name}") in printed
        assert (out / f"RG1_UNCR{name}").is_file()


def test_demo_without_the_radiograph_says_what_to_install(model, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("pydicom.data.get_testdata_file", lambda name, download: None)
    assert main(["demo", "--out", str(tmp_path / "out")]) == 1
    assert "pip install pydicom-data" in capsys.readouterr().err
