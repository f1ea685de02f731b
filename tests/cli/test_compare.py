import json
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from anatozoo.cli.main import main
from anatozoo.io.writers import write_csv


def write(path: Path, shift: float, ids: list[str]) -> Path:
    draw = np.random.default_rng(len(ids))
    rows = [[name, 0.8 + shift + 0.01 * draw.normal(), 9 + draw.normal()] for name in ids]
    return write_csv(path, ["id", "dice/heart", "hd_px/heart"], rows)


@pytest.fixture
def tables(tmp_path: Path) -> list[str]:
    names = [f"n{i}" for i in range(12)]
    a = write(tmp_path / "first.csv", 0.0, [*names, "extra"])
    return [str(a), str(write(tmp_path / "second.csv", 0.05, names))]


def test_two_tables_are_compared(tables: list[str], tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    out = tmp_path / "out"
    assert main(["compare", *tables, "--out", str(out)]) == 0
    text = capsys.readouterr().out
    assert "# A: first, B: second" in text
    assert "Images in both: 12." in text
    assert "Only in A, or only there readable: 1: extra." in text
    assert "`anatozoo compare first.csv second.csv`" in text
    assert sorted(path.name for path in out.iterdir()) == [
        f"first_vs_second.{suffix}" for suffix in ("csv", "json", "md", "png")
    ]
    assert (out / "first_vs_second.md").read_text() == text.rstrip("\n") + "\n"
    stored = json.loads((out / "first_vs_second.json").read_text())
    assert set(stored["versions"]) == {"anatozoo", "numpy", "scipy", "python"}
    assert stored["metrics"]["dice/heart"]["p_holm"] < 0.01
    assert str(tmp_path) not in (out / "first_vs_second.json").read_text()


def test_json_of_chosen_metrics(tables: list[str], capsys: pytest.CaptureFixture) -> None:
    assert main(["compare", *tables, "--metric", "dice/*", "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert list(summary["metrics"]) == ["dice/heart"]
    assert summary["command"] == "anatozoo compare first.csv second.csv --metric 'dice/*'"
    numbers = summary["metrics"]["dice/heart"]
    assert numbers["p"] == numbers["p_holm"]
    assert numbers["n"] == 12


def test_files_of_one_name_are_told_apart_by_their_folder(
    tables: list[str], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    (tmp_path / "old").mkdir()
    other = Path(tables[1]).rename(tmp_path / "old/first.csv")
    assert main(["compare", tables[0], str(other), "--out", str(tmp_path / "out")]) == 0
    assert f"# A: {tmp_path.name}/first, B: old/first" in capsys.readouterr().out
    assert (tmp_path / f"out/{tmp_path.name}-first_vs_old-first.md").exists()


def test_what_evaluate_writes_can_be_compared(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    for side, shift in (("p", 2), ("q", 4), ("r", 0)):
        (tmp_path / side).mkdir()
        for k in range(6):
            labels = np.zeros((30, 40), np.uint8)
            labels[5 : 20 + k, 5 + shift : 25 + shift] = 1
            PIL.Image.fromarray(labels).save(tmp_path / side / f"{k}.png")
    for side in "pq":
        command = ["evaluate", "--pred", str(tmp_path / side), "--ref", str(tmp_path / "r")]
        assert main([*command, "--classes", "heart", "--out", str(tmp_path)]) == 0
    capsys.readouterr()
    tables = [str(tmp_path / f"{side}_against_r.csv") for side in "pq"]
    assert main(["compare", *tables, "--json"]) == 0
    numbers = json.loads(capsys.readouterr().out)["metrics"]["hd_px/heart"]
    assert (numbers["mean_a"], numbers["mean_b"], numbers["difference"]) == (2.0, 4.0, 2.0)
    assert numbers["effect"] == 1.0
    assert numbers["p"] == pytest.approx(2 / 2**6)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["A", "nowhere.csv"], 1, "cannot be read as a table"),
        (["A", "B", "--metric", "dice/hart"], 1, "did you mean dice/heart?"),
        (["A", "B", "--out", "A"], 1, "cannot be written"),
        (["A"], 2, "B.csv"),
    ],
)
def test_what_goes_wrong_is_said(
    arguments: list[str], code: int, message: str, tables: list[str], capsys: pytest.CaptureFixture
) -> None:
    named = dict(zip("AB", tables, strict=True))
    assert main(["compare", *(named.get(word, word) for word in arguments)]) == code
    assert message in capsys.readouterr().err
