import json
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from anatozoo.cli.main import main
from tests.support.fairness_data import scores

QUICK = ["--permutations", "199"]


@pytest.fixture
def table(tmp_path: Path) -> Path:
    scores(60).to_csv(tmp_path / "val.csv", index=False)
    return tmp_path / "val.csv"


def test_a_report_is_written(table: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    out = tmp_path / "report"
    arguments = ["--groups", "sex,age_bin", "--controls", "age_bin", "--metrics", "dice/*", *QUICK]
    assert main(["audit", str(table), *arguments, "--out", str(out)]) == 0
    printed = capsys.readouterr()
    assert "Dice of the heart is worse in female patients" in printed.out
    command = (
        "anatozoo audit val.csv --groups sex,age_bin --metrics 'dice/*' --controls age_bin --permutations 199"
    )
    assert f"`{command}`" in printed.out
    names = {path.name for path in out.iterdir()}
    assert names >= {
        "audit.html",
        "audit.md",
        "audit.json",
        "audit_sex_groups.png",
        "audit_intersections.png",
    }
    assert {Path(line).name for line in printed.err.splitlines()} == names
    stored = json.loads((out / "audit.json").read_text())
    assert set(stored["versions"]) == {"anatozoo", "numpy", "scipy", "pandas", "python"}
    assert str(tmp_path) not in (out / "audit.html").read_text()


def test_json_is_printed(table: Path, capsys: pytest.CaptureFixture) -> None:
    arguments = ["--groups", "sex", "--estimated", "dice/heart=dice_rca/heart", "--json", *QUICK]
    assert main(["audit", str(table), *arguments]) == 0
    value = json.loads(capsys.readouterr().out)
    assert value["groupings"]["sex"]["summary"]["dice/heart"]["worst"] == "F"
    assert value["estimates"][0]["gaps"][0]["a"] == "M"
    assert value["findings"][0]["kind"] == "gap"


def test_groups_from_a_second_table(table: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    rows = scores(60)
    rows.drop(columns=["sex", "age"]).to_csv(table, index=False)
    rows["File"] = rows["id"] + ".png"
    rows["Age"] = [f"{age:03}Y" for age in rows["age"]]
    rows[["File", "sex", "Age"]].iloc[:-2].to_csv(tmp_path / "clinical.csv", index=False)
    more = ["--with", str(tmp_path / "clinical.csv"), "--on", "File", "--bins", "age=50"]
    assert main(["audit", str(table), "--groups", "sex,age_bin", "--json", *more, *QUICK]) == 0
    value = json.loads(capsys.readouterr().out)
    assert value["left_out"] == [{"reason": "not in clinical.csv, so its columns are empty there", "rows": 2}]
    groups = {mean["group"] for mean in value["groupings"]["age_bin"]["groups"]}
    assert groups == {"0–49", "50+"}


def test_what_evaluate_writes_can_be_audited(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    for side in ("p", "r"):
        (tmp_path / side).mkdir()
    for k in range(8):
        for side, shift in (("p", 1 + 3 * (k % 2)), ("r", 0)):
            labels = np.zeros((30, 40), np.uint8)
            labels[5 : 20 + k // 2, 5 + shift : 25 + shift] = 1
            PIL.Image.fromarray(labels).save(tmp_path / side / f"{k}.png")
    files = ["--pred", str(tmp_path / "p"), "--ref", str(tmp_path / "r"), "--classes", "heart"]
    assert main(["evaluate", *files, "--out", str(tmp_path)]) == 0
    (tmp_path / "sex.csv").write_text("id;sex\n" + "".join(f"{k};{'MF'[k % 2]}\n" for k in range(8)))
    capsys.readouterr()
    groups = ["--groups", "sex", "--with", str(tmp_path / "sex.csv"), "--on", "id"]
    assert main(["audit", str(tmp_path / "p_against_r.csv"), *groups, "--json"]) == 0
    value = json.loads(capsys.readouterr().out)
    assert list(value["metrics"]) == ["dice/heart", "hd_px/heart"]
    distance = value["groupings"]["sex"]["summary"]["hd_px/heart"]
    assert (distance["gap"], distance["ser"], distance["worst"]) == (3.0, 4.0, "F")


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["nowhere.csv", "--groups", "sex"], 1, "cannot be read as a table"),
        (["T", "--groups", "race"], 1, "the table has no column race"),
        (["T", "--groups", "sex", "--metrics", "dice/hart"], 1, "did you mean dice/heart?"),
        (["T", "--groups", "sex", "--metrics", "age"], 1, "say it by `higher` or `lower`"),
        (["T", "--groups", "sex", "--out", "T"], 1, "cannot be written"),
        (["T"], 2, "--groups"),
        (["T", "--groups", "sex", "--on", "id"], 2, "--with and --on belong together"),
        (["T", "--groups", "sex", "--bins", "age=old"], 2, "must be as age=50,65"),
        (["T", "--groups", "sex,sex"], 2, "different names"),
    ],
)
def test_what_goes_wrong_is_said(
    arguments: list[str], code: int, message: str, table: Path, capsys: pytest.CaptureFixture
) -> None:
    assert main(["audit", *(str(table) if word == "T" else word for word in arguments)]) == code
    assert message in capsys.readouterr().err
