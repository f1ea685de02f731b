import csv
import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from anatozoo.cli.main import main
from anatozoo.data.layouts.registry import find_cases
from tests.support.fake_model import FakeSegmenter
from tests.support.phantoms import make_chest_phantom
from tests.support.tracer import ORGANS, Tracer, chest, label_map


@pytest.fixture(autouse=True)
def models(monkeypatch: pytest.MonkeyPatch) -> None:
    known: dict[str, Any] = {"seg2graph-jsrt": Tracer(), "fake-segmenter": FakeSegmenter()}
    monkeypatch.setattr("anatozoo.zoo.hub.load", lambda name, **settings: known[name])


def save(path: Path, values: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values.astype(np.uint8)).save(path)
    return path


@pytest.fixture
def maps(tmp_path: Path) -> Path:
    for name, size in (("a", 200), ("b", 300)):
        save(tmp_path / "maps" / f"{name}_mask.png", label_map("lung_right", "lung_left", "heart", size=size))
    return tmp_path / "maps"


def landmarks(*arguments: object) -> int:
    return main(["landmarks", *map(str, arguments)])


def rows(out: Path) -> dict[str, dict[str, str]]:
    with (out / "manifest.csv").open() as file:
        return {row["stem"]: row for row in csv.DictReader(file)}


GREY = np.arange(300 * 300).reshape(300, 300) % 256
"""A picture that is no mask."""
LABELS = ("--labels", "lung_right=1,lung_left=2,heart=3")


def test_label_maps_become_landmarks_and_a_table(maps: Path, tmp_path: Path, capsys: Any) -> None:
    out = tmp_path / "out"
    assert landmarks(maps, "--out", out, *LABELS) == 0
    said = capsys.readouterr().out
    assert said.startswith("2 masks: 2 traced in ")
    assert "lung_right: Dice 0.9" in said
    assert "flagged for a look: 0 of 2" in said
    found = rows(out)
    assert found.keys() == {"a", "b"}
    assert float(found["a"]["dice/lung_right"]) > 0.95
    assert float(found["b"]["hd_px/lung_right"]) < 5
    assert found["a"]["hd_mm/lung_right"] == ""
    assert found["a"]["dice/clavicle_left"] == ""
    assert "unseen_clavicle_left" in found["a"]["flags"].split(";")
    result = json.loads((out / "b.json").read_text())
    assert list(result["landmarks"]) == ["lung_right", "lung_left", "heart"]
    assert result["size"] == [300, 300]


def test_the_result_is_a_data_set_to_train_on(maps: Path, tmp_path: Path) -> None:
    root = tmp_path / "data"
    for name, size in (("a", 200), ("b", 300)):
        save(
            root / "images" / f"{name}.png",
            make_chest_phantom(size, size).image,
        )
    assert landmarks(maps, "--out", root / "annotations", *LABELS, "--quiet") == 0
    cases = find_cases(str(root), "folder", list(ORGANS), dims=2).cases
    assert [case.id for case in cases] == ["a", "b"]
    for case in cases:
        drawn = case.read_drawn(list(ORGANS), case.read_image(2).grid)
        assert {organ: len(points) for organ, points in drawn.landmarks.items()} == {
            organ: ORGANS[organ] for organ in ("lung_right", "lung_left", "heart")
        }
        assert drawn.free == frozenset()


def test_one_folder_per_organ_and_lungs_in_one(tmp_path: Path) -> None:
    masks = chest("lung_right", "lung_left", "heart")
    save(tmp_path / "m" / "lungs" / "x.png", 255 * (masks["lung_right"] | masks["lung_left"]))
    save(tmp_path / "m" / "heart" / "x.png", 255 * masks["heart"])
    save(tmp_path / "m" / "lungs" / "y.png", 255 * (masks["lung_right"] | masks["lung_left"]))
    out = tmp_path / "out"
    assert landmarks(tmp_path / "m", "--out", out, "--spacing-mm", 2, "--format", "json,png") == 0
    found = rows(out)
    assert float(found["x"]["hd_mm/heart"]) == pytest.approx(2 * float(found["x"]["hd_px/heart"]))
    assert found["x"]["dice/lungs"]
    assert not found["x"]["dice/lung_left"]
    assert "unseen_heart" in found["y"]["flags"]
    assert (out / "x_overlay.png").is_file()
    assert (out / "y_mask.png").is_file()


def test_a_second_run_does_only_what_is_missing(maps: Path, tmp_path: Path, capsys: Any) -> None:
    out = tmp_path / "out"
    assert landmarks(maps, "--out", out, *LABELS) == 0
    (out / "a.json").unlink()
    capsys.readouterr()
    assert landmarks(maps, "--out", out, *LABELS) == 0
    assert capsys.readouterr().out.startswith("2 masks: 1 traced, 1 done already in ")
    assert landmarks(maps, "--out", out, "--labels", "lungs=1+2,heart=3") == 0
    assert capsys.readouterr().out.startswith("2 masks: 2 traced in ")


def test_a_changed_file_of_one_organ_is_done_again(tmp_path: Path, capsys: Any) -> None:
    masks = chest("lung_right", "heart")
    for organ, mask in masks.items():
        save(tmp_path / "m" / organ / "x.png", mask)
    out = tmp_path / "out"
    assert landmarks(tmp_path / "m", "--out", out) == 0
    save(tmp_path / "m" / "heart" / "x.png", np.roll(masks["heart"], 3, axis=0))
    capsys.readouterr()
    assert landmarks(tmp_path / "m", "--out", out) == 0
    assert capsys.readouterr().out.startswith("1 mask: 1 traced in ")


@pytest.fixture
def by_organ(tmp_path: Path) -> Path:
    for organ, mask in chest("lung_right", "lung_left", "heart").items():
        save(tmp_path / "m" / organ / "a.png", mask)
    return tmp_path / "m"


@pytest.mark.parametrize("first", [("heart", "lung_left"), ("heart", "lung_left", "lung_right")])
def test_organs_that_come_or_go_leave_nothing_old_behind(
    by_organ: Path, tmp_path: Path, first: tuple[str, ...], capsys: Any
) -> None:
    """The folder of the right lung, whose file comes first, is added or removed between two runs."""
    out, aside = tmp_path / "out", tmp_path / "aside"
    added = "lung_right" not in first
    if added:
        (by_organ / "lung_right").rename(aside)
    assert landmarks(by_organ, "--out", out) == 0
    assert set(json.loads((out / "a.json").read_text())["landmarks"]) == set(first)
    if added:
        aside.rename(by_organ / "lung_right")
    else:
        (by_organ / "lung_right").rename(aside)
    capsys.readouterr()
    assert landmarks(by_organ, "--out", out) == 0
    assert capsys.readouterr().out.startswith("1 mask: 1 traced in ")
    assert [path.name for path in out.glob("*.json")] == ["a.json"]
    assert rows(out).keys() == {"a"}
    expected = {"heart", "lung_left"} | ({"lung_right"} if added else set())
    assert set(json.loads((out / "a.json").read_text())["landmarks"]) == expected


def test_what_cannot_be_taken_stops_no_other_folder(by_organ: Path, maps: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert landmarks(by_organ, maps, "--out", out) == 3
    with (out / "manifest.csv").open() as file:
        failed = [row for row in csv.DictReader(file) if row["status"] == "failed"]
    assert [row["file"] for row in failed] == ["maps"]
    assert "nothing says what the values of a_mask.png, b_mask.png are" in failed[0]["reason"]
    assert (out / "a.json").is_file()
    assert landmarks(by_organ, maps, "--out", out, *LABELS) == 0
    assert "failed" not in (out / "manifest.csv").read_text()


def test_rows_of_run_lengths_stop_no_mask(maps: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    (maps / "runs.csv").write_text("ImageID,Heart,Height,Width\nc.png,3 4,20,20\n")
    assert landmarks(maps, "--out", out, *LABELS) == 3
    found = rows(out)
    assert found["a"]["status"] == found["b"]["status"] == "ok"
    assert "rows of a table of run lengths (c) hold landmarks already" in found[""]["reason"]


def test_masks_are_not_read_from_the_folder_of_results(maps: Path, tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "link").symlink_to(maps)
    assert landmarks(tmp_path / "link", "--out", maps, *LABELS) == 1
    assert "is also --out" in capsys.readouterr().err


def test_a_mask_is_judged_once(maps: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import anatozoo.metrics.functional

    calls = []
    right = anatozoo.metrics.functional.dice
    monkeypatch.setattr(
        anatozoo.metrics.functional, "dice", lambda *pair: (calls.append(pair), right(*pair))[1]
    )
    assert landmarks(maps, "--out", tmp_path / "out", *LABELS) == 0
    assert len(calls) == 2 * 3


def test_bad_masks_fail_with_a_sentence_each(maps: Path, tmp_path: Path, capsys: Any) -> None:
    save(maps / "empty.png", np.zeros((50, 50)))
    save(maps / "colour.png", np.random.default_rng(0).integers(0, 255, (50, 50, 3)))
    save(maps / "other.png", 9 * label_map("heart"))
    (maps / "torn.png").write_bytes((maps / "a_mask.png").read_bytes()[:60])
    out = tmp_path / "out"
    assert landmarks(maps, "--out", out, *LABELS) == 3
    found = rows(out)
    reasons = {name: row["reason"] for name, row in found.items() if row["status"] == "failed"}
    assert reasons.keys() == {"empty", "colour", "other", "torn"}
    assert "shows no organ" in reasons["empty"]
    assert "colour picture" in reasons["colour"]
    assert "9" in reasons["other"]
    assert "damaged or truncated" in reasons["torn"]
    for reason in reasons.values():
        assert "\n" not in reason
        assert reason.endswith(".")
    assert found["a"]["status"] == found["b"]["status"] == "ok"


def test_values_need_names(maps: Path, tmp_path: Path, capsys: Any) -> None:
    assert landmarks(maps, "--out", tmp_path / "out") == 1
    assert "nothing says what the values of a_mask.png, b_mask.png are" in capsys.readouterr().err
    assert landmarks(maps, "--out", tmp_path / "out", "--labels", "lungs=1:2") == 2
    assert "there is one side here" in capsys.readouterr().err
    assert landmarks(maps, "--out", tmp_path / "out", *LABELS, "--classes", "a,b") == 2
    assert landmarks(tmp_path / "nowhere", "--out", tmp_path / "out") == 1
    assert "there is no such file or folder" in capsys.readouterr().err
    assert landmarks(maps, "--out", maps, *LABELS) == 1
    assert "is also --out" in capsys.readouterr().err


def test_only_what_finds_landmarks_of_masks_can_do_it(maps: Path, tmp_path: Path, capsys: Any) -> None:
    assert landmarks(maps, "--out", tmp_path / "out", *LABELS, "--checkpoint", "fake-segmenter") == 1
    assert "finds no landmarks of masks; use seg2graph-jsrt" in capsys.readouterr().err


def test_predict_takes_masks_too(maps: Path, tmp_path: Path, capsys: Any) -> None:
    out = tmp_path / "out"
    assert main(["predict", "seg2graph-jsrt", str(maps), "--out", str(out)]) == 0
    assert capsys.readouterr().out.startswith("2 masks: 2 traced in ")
    assert float(rows(out)["a"]["dice/lung_right"]) > 0.95
    out = tmp_path / "named"
    assert main(["predict", "seg2graph-jsrt", str(maps), "--classes", "heart", "--out", str(out)]) == 3
    assert "holds the values" in rows(out)["a"]["reason"]
    assert main(["predict", "seg2graph-jsrt", str(maps), "--out", str(out), "--then", "seg2graph-jsrt"]) == 2
    assert "only a segmentation can be followed" in capsys.readouterr().err


def test_masks_of_organs_that_the_model_does_not_know_fail(tmp_path: Path, capsys: Any) -> None:
    masks = chest("heart", "lung_right", "lung_left")
    for folder, name in (("Heart", "a"), ("lungz", "a"), ("Heart", "b"), ("images", "b"), ("images", "d")):
        save(tmp_path / "m" / folder / f"{name}.png", 255 * masks["heart"])
    save(tmp_path / "m" / "previews" / "c.png", GREY)
    assert landmarks(tmp_path / "m", "--out", tmp_path / "out") == 3
    found = rows(tmp_path / "out")
    assert found.keys() == {"a", "b", "c"}  # a folder of images holds no organ
    assert found["b"]["status"] == "ok"
    reasons = {name: row["reason"] for name, row in found.items() if row["status"] == "failed"}
    assert reasons.keys() == {"a", "c"}
    assert "has lungz, which this model does not know" in reasons["a"]
    assert "lungz looks like lungs. Leave other organs out." in reasons["a"]
    assert "has previews, which this model does not know" in reasons["c"]  # whatever its values
    assert "looks like" not in reasons["c"]
    assert "is left out" not in capsys.readouterr().err  # each of the folders is in a reason


def test_folders_of_other_names_are_left_out_and_said_once(
    by_organ: Path, tmp_path: Path, capsys: Any
) -> None:
    for organ in ("lung_right", "lung_left", "heart"):
        (by_organ / organ / "b.png").write_bytes((by_organ / organ / "a.png").read_bytes())
    # The name of the last is alike, but both lungs are there.
    for folder, name in itertools.product(("previews", "liver", "lungz"), "ab"):
        save(by_organ / folder / f"{name}.png", GREY)
    assert landmarks(by_organ, "--out", tmp_path / "out") == 0
    said = capsys.readouterr().err.splitlines()
    assert [line.removeprefix(f"anatozoo: {by_organ}/") for line in said] == [
        f"{folder}/ is no organ of the model and is left out." for folder in ("liver", "lungz", "previews")
    ]
    assert set(json.loads((tmp_path / "out" / "b.json").read_text())["landmarks"]) == {
        "lung_right",
        "lung_left",
        "heart",
    }


def test_an_organ_of_the_model_needs_no_name_that_is_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("anatozoo.zoo.hub.load", lambda name, **settings: Tracer({"liver": 20}))
    save(tmp_path / "m" / "liver" / "a.png", 255 * chest("heart")["heart"])
    assert landmarks(tmp_path / "m", "--out", tmp_path / "out") == 0
    assert list(json.loads((tmp_path / "out" / "a.json").read_text())["landmarks"]) == ["liver"]
