import json

import pytest

from anatozoo.cli.main import main
from anatozoo.frames.spec import FrameSpec
from anatozoo.zoo.checkpoint import write_checkpoint_folder
from tests.support.fake_model import FakeSegmenter
from tests.unit.serve.fakes import FakeRegistrar, FakeRepairer, labels, write_mask, write_scan

FAST = ("--format", "json")


@pytest.fixture
def model(monkeypatch):
    known = {m.checkpoint_name: m for m in (FakeRegistrar(), FakeSegmenter(), FakeRepairer())}
    monkeypatch.setattr("anatozoo.zoo.hub.load", lambda name, *, device="cpu", trainable=True: known[name])
    return known["fakereg-phantom"]


@pytest.fixture
def pairs(tmp_path):
    for number, name in enumerate("abc"):
        write_scan(tmp_path / f"{name}.png", seed=number)
        write_mask(tmp_path / f"{name}_m.png", labels(column=10 + 2 * number))
    path = tmp_path / "pairs.csv"
    path.write_text(
        "moving,fixed,moving_mask,fixed_mask,name\nb.png,a.png,b_m.png,a_m.png,one\nc.png,b.png,,,\n"
    )
    return path


def predict(*arguments):
    return main(["predict", *map(str, arguments)])


def test_pairs_are_registered_and_summed_up(model, pairs, tmp_path, capsys):
    out = tmp_path / "out"
    assert predict("fakereg-phantom", "--pairs", pairs, "--out", out) == 0
    captured = capsys.readouterr()
    assert captured.out.startswith("2 pairs: 2 registered in ")
    assert captured.err == ""
    endings = ("_displacement.nii.gz", "_warped.nii.gz", ".json", "_registration.png")
    assert {p.name for p in out.iterdir() if p.name[0] != "."} == {
        "manifest.csv",
        "one_mask.nii.gz",
        *(f"{stem}{ending}" for stem in ("one", "c_to_b") for ending in endings),
    }
    assert predict("fakereg-phantom", "--pairs", pairs, "--out", out) == 0
    assert "0 registered, 2 done already" in capsys.readouterr().out


def test_json_holds_the_measures(model, pairs, tmp_path, capsys):
    assert predict("fakereg-phantom", "--pairs", pairs, "--out", tmp_path / "out", *FAST, "--json") == 0
    summary = json.loads(capsys.readouterr().out)
    assert (summary["registered"], summary["total"], summary["checkpoint"]) == (2, 2, "fakereg-phantom")
    other, one = summary["pairs"]
    assert (one["name"], one["dice_before"], one["dice_after"], one["folding_percent"]) == (
        "one",
        0.8,
        1.0,
        0.0,
    )
    assert one["moving_mask"] == "b_m.png"
    assert (other["name"], other["moving_mask"], other["dice_after"]) == ("c_to_b", None, None)


def test_bad_lines_give_code_3_and_their_reasons(model, pairs, tmp_path, capsys):
    pairs.write_text(pairs.read_text() + "gone.png,a.png,,,two\na.png,c.png,,,one\n")
    assert predict("fakereg-phantom", "--pairs", pairs, "--out", tmp_path / "out", *FAST) == 3
    captured = capsys.readouterr()
    assert "4 pairs: 2 registered, 2 failed" in captured.out
    assert "failed: 'two': moving image: " in captured.err
    assert "failed: 'pairs.csv:5': the name 'one' of line 2 again" in captured.err


def test_options_reach_reader_and_model(model, pairs, tmp_path):
    options = ("--spacing-mm", "0.5", "0.25", "--ignore-spacing", "--no-invert")
    assert predict("fakereg-phantom", "--pairs", pairs, "--out", tmp_path / "out", *FAST, *options) == 0
    assert model.ignored == [True, True]
    assert predict("fakereg-phantom", "--pairs", pairs, "--out", tmp_path / "out", *FAST, *options[:3]) == 0
    about = json.loads((tmp_path / "out" / "one.json").read_text())
    assert about["fixed_grid"]["spacing_mm"] == [0.5, 0.25]


@pytest.mark.parametrize(
    ("arguments", "code", "match"),
    [
        (["fakereg-phantom", "a.png", "--pairs", "pairs.csv"], 2, "leave IN out"),
        (
            ["fakereg-phantom", "--pairs", "pairs.csv", "--then", "fakedae-phantom"],
            2,
            "--then cannot be: fakereg-phantom registers",
        ),
        (["fakereg-phantom", "--pairs", "pairs.csv", "--classes", "a"], 2, "--classes"),
        (
            ["fakereg-phantom", "--pairs", "pairs.csv", "--format", "csv"],
            2,
            "registrations have no format csv",
        ),
        (["fakereg-phantom", "--pairs", "pairs.csv", "--spacing-mm", "1", "1", "1"], 2, "one number or 2"),
        (["fakereg-phantom", "--pairs", "gone.csv"], 1, "cannot be read"),
        (["fakereg-phantom", "--pairs", "a.png"], 1, "neither UTF-8 nor Windows-1252"),
        (["fakereg-phantom", "a.png"], 1, "--pairs"),
        (["fake-phantom", "--pairs", "pairs.csv"], 1, "fake-phantom registers no images"),
        (["fakedae-phantom", "--pairs", "pairs.csv"], 1, "fakedae-phantom registers no images"),
    ],
)
def test_what_does_not_go_together(model, pairs, tmp_path, capsys, monkeypatch, arguments, code, match):
    monkeypatch.chdir(tmp_path)
    assert predict(*arguments, "--out", "out") == code
    assert match in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_mistyped_table_is_answered_without_the_model(tmp_path, capsys, monkeypatch):
    def load(name, **options):
        raise AssertionError("the model was loaded")

    monkeypatch.setattr("anatozoo.zoo.hub.load", load)
    (tmp_path / "pairs.csv").write_text("moving,target\na,b\n")
    assert predict("fakereg-phantom", "--pairs", tmp_path / "pairs.csv", "--out", tmp_path / "out") == 1
    assert "needs moving and fixed" in capsys.readouterr().err


def test_an_interrupt_says_how_to_go_on(model, pairs, tmp_path, capsys, monkeypatch):
    def interrupt(moving, fixed, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(model, "predict", interrupt)
    assert predict("fakereg-phantom", "--pairs", pairs, "--out", tmp_path / "out") == 130
    assert "run the same command again" in capsys.readouterr().err


def test_the_kind_of_a_real_checkpoint_is_known(pairs, tmp_path, capsys):
    from anatozoo.methods.acregnet.module import AcRegNetModule

    module = AcRegNetModule(normalization="none", organs=["x"], label_weight=0.0, frame=FrameSpec(32))
    checkpoint = write_checkpoint_folder(module, tmp_path / "w", name="acregnet-test", version="1.0.0")
    assert predict(checkpoint, "--pairs", pairs, "--out", tmp_path / "out", *FAST) == 0
    assert "2 pairs: 2 registered" in capsys.readouterr().out
    about = json.loads((tmp_path / "out" / "one.json").read_text())
    assert about["checkpoint"] == "acregnet-test"
    assert about["propagation"]["dice_before"] == {"1": 0.8, "2": 0.8}
