"""Text from files, where it leaves the program."""

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anatozoo.errors import ImageError
from anatozoo.io.tables import read_text_table
from anatozoo.io.writers import write_csv
from anatozoo.text import alike, cell, from_cell, in_figure, one_line, printable

HOSTILE = {
    "a title": "\x1b]0;pwned\x07",
    "a colour": "\x9b31m",
    "delete": "\x7f",
    "return": "safe\rrm -rf",
    "right to left": "\u202egpj.exe",
    "isolate": "\u2066x\u2069",
    "no width": "a\u200bb",
    "a byte of another encoding": "\udce9",
    "a tag": "\U000e0041",
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_nothing_commands_a_terminal(text: str) -> None:
    for made in (printable(text), one_line(text), cell(text), str(ImageError(text))):
        assert made.isprintable()
        made.encode("utf-8")


def test_harmless_text_stays() -> None:
    for text in ("心臓.png", "Müller, Jörg", "a\tb\n", "می‌خواهم", "👩‍⚕️", "C:\\scans\\x.png", "−1.5 × 2"):
        assert printable(text) == text
    assert one_line(" a\n\tb ") == "a b"


@pytest.mark.parametrize(
    "text", ["=1+1", "+1;2", "-a.png", "@SUM(A1)", "\t=1", "  =1", "\uff1d1", "'=1", "=\n"]
)
def test_a_spreadsheet_computes_nothing(text: str) -> None:
    assert cell(text).startswith("'")
    assert from_cell(cell(text)) == text


@pytest.mark.parametrize("number", ["-1", "+2.5", "-.5", "-1e-9", "-inf", "3"])
def test_numbers_stay_numbers(number: str) -> None:
    assert cell(number) == number


@given(st.text(st.sampled_from("ab\\u0043'=+-@\n\t\x1b\u202e\udc80\U000e0041ü 1.e"), max_size=8))
def test_a_cell_gives_its_text_back(text: str) -> None:
    made = cell(text)
    assert made.isprintable()
    assert from_cell(made) == text


@given(st.text(max_size=8))
def test_fields_of_other_programs_stay_or_are_texts_of_ours(field: str) -> None:
    assert from_cell(field) == field or cell(from_cell(field)) == field


def test_errors_import_nothing_heavy() -> None:
    code = "import sys, anatozoo.errors; sys.exit(bool({'numpy', 'torch', 'yaml'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_tables_that_we_write_give_their_texts_back(tmp_path: Path) -> None:
    names = ["=a.png", "-b", "c\x1b[31m\nd", "'e", "\udcff.png", "0007"]
    path = write_csv(tmp_path / "t.csv", ["id", "x"], [[name, -0.5] for name in names])
    assert path.read_text(encoding="utf-8").replace("\n", "").isprintable()
    table = read_text_table(path)
    assert [row["id"] for row in table.records()] == names
    assert table.frame(["id"])["x"].tolist() == [-0.5] * len(names)


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("haert", "heart"),
        ("Heart", "heart"),
        ("Lung_Right", "lung_right"),
        ("lung_rigth", "lung_right"),
        ("LUNG_LEFTT", "lung_left"),
        ("left_ventricel", "left_ventricle"),
        ("right_ventricle", None),
        ("kidney_l", None),
        ("rib 2", None),
        ("vertebra_l4", None),
        ("spleen", None),
    ],
)
def test_names_that_may_be_misspelt(name: str, near: str | None) -> None:
    names = ["heart", "lung_right", "lung_left", "left_ventricle", "kidney_r", "rib 1", "vertebra_l5"]
    assert alike(name, names) == near


def test_text_in_a_figure_is_no_formula() -> None:
    from matplotlib.figure import Figure

    for name in ("$\\frac{x$.png", "a$b", "\\$ $x_1$", "$$", "plain", "\x1b$"):
        figure = Figure(figsize=(2, 2))
        figure.suptitle(in_figure(name))
        figure.draw_without_rendering()
