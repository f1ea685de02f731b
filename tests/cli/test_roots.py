"""`anatozoo roots`: masks become tables, RSML and a picture; a damaged frame is named and stops nothing."""

import csv
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from anatozoo.cli.main import main
from anatozoo.cli.roots import find_frames
from anatozoo.roots.rsml import read_rsml
from anatozoo.roots.simulate import drawn, example, grown
from anatozoo.serve.manifest import COLUMNS

pytest.importorskip("skimage")
PLANT = example(3, size=(240, 200), laterals=2)
SEED = "{:.0f},{:.0f}".format(*PLANT.main.points[0])


def roots(*arguments: object) -> int:
    return main(["roots", *map(str, arguments)])


def save(path: Path, system: Any = PLANT) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), (drawn(system, (240, 200)) > 0.5).astype(np.uint8) * 255)
    return path


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_mask_becomes_lengths_rsml_and_a_picture(tmp_path: Path, capsys: Any) -> None:
    out = tmp_path / "out"
    assert roots(save(tmp_path / "a.png"), "--seed", SEED, "--pixel-mm", 0.5, "--out", out) == 0
    said = capsys.readouterr()
    assert said.out.startswith("1 frame, 1 plant, 0 without a root. Results: ")
    assert "2 laterals of together" in said.out
    assert said.err == ""
    (row,) = rows(out / "frames.csv")
    assert float(row["main_px"]) == pytest.approx(PLANT.main.length_px, rel=0.02)
    assert (row["plant"], row["file"], row["laterals"]) == ("plant 1", "a.png", "2")
    (system,) = read_rsml(out / "roots.rsml")
    assert system.main.length_px == pytest.approx(0.5 * PLANT.main.length_px, rel=0.02)
    assert cv2.imread(str(out / "roots.png")).shape == (720, 600, 3)
    assert not (out / "growth.csv").exists()


def test_frames_become_growth_and_a_damaged_one_is_named(tmp_path: Path, capsys: Any) -> None:
    frames, out = tmp_path / "frames", tmp_path / "out"
    for hour in range(8, 20):
        save(frames / f"f{hour}.png", grown(PLANT, 4.0 * hour, speed=3))
    (frames / "f11.png").write_bytes(b"\x89PNG\r\n\x1a\n nothing")
    given = (frames, "--seed", SEED, "--minutes", 60, "--out", out)
    assert roots(*given, "--json") == 3
    said = json.loads(capsys.readouterr().out)
    assert (said["frames"], said["failed"]) == (12, 1)
    assert said["plants"][0]["laterals"] == 2
    table = rows(out / "frames.csv")
    assert [row["file"] for row in table] == [f"f{hour}.png" for hour in range(8, 20)]
    assert [row["status"] for row in table].count("failed") == 1
    assert table[3]["reason"]
    assert (table[3]["laterals"], table[-1]["laterals"]) == ("", "2")
    lengths = [float(row["main"]) for row in rows(out / "growth.csv")]
    assert len(lengths) == 12
    assert lengths == sorted(lengths)


def test_a_plant_without_a_root_stops_no_other_and_no_growth_of_before_stays(
    tmp_path: Path, capsys: Any
) -> None:
    mask, out = save(tmp_path / "a.png"), tmp_path / "out"
    out.mkdir()
    (out / "growth.csv").write_text("of other masks")
    assert roots(mask, "--seed", "190,200", "--seed", SEED, "--out", out) == 3
    said = capsys.readouterr()
    assert "plant 1: no root is within 30 px of the seed (190.0, 200.0)." in said.err
    assert said.out.startswith("1 frame, 2 plants, 1 without a root.")
    assert [row["status"] for row in rows(out / "frames.csv")] == ["failed", "ok"]
    assert [system.name for system in read_rsml(out / "roots.rsml")] == ["plant 2"]
    assert not (out / "growth.csv").exists()


def test_bad_input_is_refused_with_a_sentence(tmp_path: Path, capsys: Any) -> None:
    mask, out = save(tmp_path / "a.png"), tmp_path / "out"
    for given, words in (
        ((mask, "--seed", "190,200", "--out", out), "no root is within 30 px of the seed"),
        ((mask, "--seed", "900,20", "--out", out), "is outside the picture of 200 x 240"),
        ((tmp_path / "none", "--seed", SEED, "--out", out), "is no mask and no folder with any"),
        ((mask, "--seed", SEED, "--memory", 1, "--out", out), "memory=1.0 must be at least 0"),
    ):
        assert roots(*given) == 1
        assert words in capsys.readouterr().err
        assert not (out / "frames.csv").exists()
    for given, words in (
        ((mask, "--seed", "middle", "--out", out), "must be a column and a row, such as 150,60"),
        ((mask, "--seed", SEED, "--minutes", 90, "--out", out), "--minutes must be at most 60"),
        ((mask, "--seed", SEED, "--seed", SEED, "--out", out), "a --seed is given twice; each is a plant"),
    ):
        assert roots(*given) == 2
        assert words in capsys.readouterr().err


def test_frames_stand_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    for name in ("f10.png", "f9.png", "notes.txt", "f100.png"):
        (tmp_path / name).touch()
    assert [path.name for path in find_frames([str(tmp_path)])] == ["f9.png", "f10.png", "f100.png"]


def test_of_answers_of_predict_the_masks_are_taken(tmp_path: Path) -> None:
    names = ["a_mask.png", "a_overlay.png", "b.png", "b_mask.nii.gz", "b_mask.png"]
    for name in (*names, "._b.png"):
        (tmp_path / name).touch()
    assert [path.name for path in find_frames([str(tmp_path)])] == names
    (tmp_path / "manifest.csv").write_text(",".join(COLUMNS) + "\n")
    assert [path.name for path in find_frames([str(tmp_path)])] == ["a_mask.png", "b_mask.nii.gz"]
