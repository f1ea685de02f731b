import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import wilcoxon

from anatozoo.errors import DataError
from anatozoo.metrics.compare import (
    REMARKS,
    compare_rows,
    comparison_markdown,
    read_rows,
    write_comparison,
)
from anatozoo.metrics.compare_draw import MOST_PANELS, plot_comparison
from anatozoo.metrics.paired import COLUMNS, Comparison, p_words

N = 20


def table(shift: float = 0.0, seed: int = 0, n: int = N, **columns: object) -> pd.DataFrame:
    draw = np.random.default_rng(seed)
    base = np.random.default_rng(99).uniform(0.8, 0.9, n)
    values = {
        "id": [f"c{i:02d}" for i in range(n)],
        "sex": "F",
        "dice/heart": base + shift + draw.normal(0, 0.01, n),
        "hd_px/heart": 10 - 20 * shift + draw.normal(0, 1, n),
        "hd_mm/heart": 5 - 10 * shift + draw.normal(0, 1, n),
        "missed/heart": 0,
    }
    return pd.DataFrame(values | columns)


def compare(a: pd.DataFrame, b: pd.DataFrame, wanted: list[str] | None = None) -> Comparison:
    return compare_rows(a, b, ("one", "two"), wanted)


def test_numbers_are_those_of_the_pairs() -> None:
    a, b = table(seed=1), table(0.02, seed=2)
    shuffled = b.sample(frac=1, random_state=0)
    comparison = compare(a, shuffled)
    # What never varies is left out, and pixels where there are millimetres.
    assert list(comparison.metrics) == ["dice/heart", "hd_mm/heart"]
    d = b["dice/heart"] - a["dice/heart"]
    numbers = comparison.metrics["dice/heart"].numbers()
    assert numbers["n"] == comparison.images == N
    assert numbers["mean_a"] == pytest.approx(a["dice/heart"].mean())
    assert numbers["mean_b"] == pytest.approx(b["dice/heart"].mean())
    assert numbers["difference"] == pytest.approx(d.mean())
    assert numbers["ci_low"] < d.mean() < numbers["ci_high"]
    assert numbers["p"] == wilcoxon(d).pvalue
    other = comparison.metrics["hd_mm/heart"].numbers()
    # Holm over two: the smaller p counts twice.
    assert numbers["p_holm"] == pytest.approx(2 * numbers["p"])
    assert other["p_holm"] == pytest.approx(max(other["p"], numbers["p_holm"]))
    assert 0.8 < numbers["effect"] <= 1


def test_swapping_the_sides_turns_the_signs() -> None:
    a, b = table(seed=1), table(0.02, seed=2)
    forth, back = (
        compare(*sides, ["dice/heart"]).metrics["dice/heart"].numbers() for sides in ((a, b), (b, a))
    )
    assert forth["difference"] == pytest.approx(-back["difference"])
    assert forth["effect"] == -back["effect"]
    assert forth["p"] == back["p"] == forth["p_holm"]


def test_images_of_one_side_are_listed() -> None:
    a, b = table(), table(0.01, seed=3)
    b.loc[0, "id"] = "other"
    a["error"] = [None] * (N - 1) + ["unreadable"]
    comparison = compare(a, b)
    assert comparison.images == N - 2
    assert comparison.only == (("c00",), ("c19", "other"))
    text = comparison_markdown(comparison)
    assert "Only in A, or only there readable: 1: c00." in text
    assert comparison.to_dict()["only_b"] == ["c19", "other"]


def test_values_of_one_side_are_counted() -> None:
    a, b = table(), table(0.01, seed=3)
    a.loc[:2, "dice/heart"] = np.nan
    b.loc[2:3, "dice/heart"] = np.nan
    comparison = compare(a, b)
    pairs = comparison.metrics["dice/heart"]
    # Both lack c02, which is then no image with a value on one side.
    assert (pairs.test.n, pairs.without_pair) == (N - 4, 3)
    assert pairs.ids[0] == "c04"
    assert "not used: dice/heart (3)" in comparison_markdown(comparison)


def test_no_difference_has_p_of_one() -> None:
    a = table()
    comparison = compare(a, a)
    numbers = comparison.metrics["dice/heart"].numbers()
    assert (numbers["p"], numbers["p_holm"], numbers["effect"], numbers["zeros"]) == (1.0, 1.0, 0.0, N)
    assert "No image differs, so that p is 1: dice/heart, hd_mm/heart." in comparison_markdown(comparison)


def test_positions_are_joined_and_an_image_counts_once() -> None:
    a, b = table(), table(0.01, seed=3)
    parts = [(a.assign(position=k), b.assign(position=k)) for k in range(3)]
    for k, (_, other) in enumerate(parts):
        other["dice/heart"] += 0.001 * k
    long_a, long_b = (pd.concat(side, ignore_index=True) for side in zip(*parts, strict=True))
    comparison = compare(long_a, long_b.sample(frac=1, random_state=1))
    assert comparison.images == N
    expected = b["dice/heart"] + 0.001 - a["dice/heart"]
    pairs = comparison.metrics["dice/heart"]
    np.testing.assert_allclose(pairs.b - pairs.a, expected)
    with pytest.raises(DataError, match="only one of one and two was evaluated with --occlusion"):
        compare(a, long_b)


def test_images_of_a_patient_widen_the_interval() -> None:
    a = pd.concat([table(seed=5)] * 4, ignore_index=True)
    b = pd.concat([table(0.02, seed=6)] * 4, ignore_index=True)
    patients = a["id"].copy()
    a["id"] = b["id"] = [f"i{k}" for k in range(len(a))]
    apart = compare(a, b, ["dice/heart"]).metrics["dice/heart"].test
    together = compare(a.assign(patient=patients), b, ["dice/heart"]).metrics["dice/heart"].test
    assert together.ci_high - together.ci_low == pytest.approx(2 * (apart.ci_high - apart.ci_low), rel=0.15)


def test_patients_come_from_either_table_and_may_not_contradict() -> None:
    a = pd.concat([table(seed=5)] * 2, ignore_index=True)
    b = pd.concat([table(0.02, seed=6)] * 2, ignore_index=True)
    patients = a["id"].copy()
    a["id"] = b["id"] = [f"i{k}" for k in range(len(a))]
    known_a, known_b = a.assign(patient=patients), b.assign(patient=patients)
    tests = [
        compare(*sides, ["dice/heart"]).metrics["dice/heart"].test
        for sides in ((known_a, b), (a, known_b), (known_a, known_b))
    ]
    assert tests[0].ci_low == tests[1].ci_low == tests[2].ci_low
    assert tests[0].ci_low != compare(a, b, ["dice/heart"]).metrics["dice/heart"].test.ci_low
    known_b.loc[4, "patient"] = "x"
    with pytest.raises(DataError, match="i4 is of patient c04 in one and of patient x in two"):
        compare(known_a, known_b)


def test_positions_and_metrics_of_one_side_are_named() -> None:
    a = pd.concat([table(position=k) for k in (0, 1)], ignore_index=True)
    b = pd.concat([table(0.01, seed=3, position=k) for k in (1, 2)], ignore_index=True)
    comparison = compare(a.drop(columns="hd_px/heart"), b.drop(columns="hd_mm/heart"))
    assert comparison.images == N
    assert comparison.rows_only == (
        tuple(f"c{i:02d} at 0" for i in range(N)),
        tuple(f"c{i:02d} at 2" for i in range(N)),
    )
    assert comparison.metrics_only == (("hd_mm/heart",), ("hd_px/heart",))
    text = comparison_markdown(comparison)
    assert "Positions of these in A only, not used: 20: c00 at 0, " in text
    assert "Metrics with values in B only, not compared: 1: hd_px/heart." in text
    stored = comparison.to_dict()
    assert (stored["rows_only_b"][0], stored["metrics_only_a"]) == ("c00 at 2", ["hd_mm/heart"])
    chosen = compare(a.drop(columns="hd_px/heart"), b, ["dice/*"])
    assert chosen.metrics_only == ((), ())


def test_metrics_are_chosen_by_name_and_pattern() -> None:
    a, b = table(), table(0.01, seed=3)
    assert list(compare(a, b, ["hd_*", "dice/heart"]).metrics) == ["hd_px/heart", "hd_mm/heart", "dice/heart"]
    with pytest.raises(
        DataError, match=r"no metric 'dice/hart' has values in both; did you mean dice/heart\?"
    ):
        compare(a, b, ["dice/hart"])
    with pytest.raises(DataError, match=r"no metric 'zzz' .* there are dice/heart"):
        compare(a, b, ["zzz"])


def test_tables_without_common_ground() -> None:
    a, b = table(), table()
    with pytest.raises(DataError, match=r"share no image: the first has c00, .* the second x0"):
        compare(a, b.assign(id=[f"x{i}" for i in range(N)]))
    with pytest.raises(DataError, match=r"two has two rows for c03. If they are of different images"):
        compare(a, pd.concat([b, b.iloc[3:4]]))
    with pytest.raises(DataError, match="no metric in common that varies"):
        compare(a[["id", "dice/heart"]], b[["id", "hd_px/heart"]])


def test_reading_refuses_what_is_no_evaluation(tmp_path: Path) -> None:
    for text, message in [
        ("", "cannot be read as a table"),
        ("name,dice/heart\na,1\n", "needs a column id and metrics"),
        ("id,age\na,1\n", "needs a column id and metrics"),
        ("id,dice/heart\na,good\n", "the column dice/heart holds words, such as 'good' in the row of a;"),
    ]:
        path = tmp_path / "t.csv"
        path.write_text(text)
        with pytest.raises(DataError, match=message):
            read_rows(path)
    with pytest.raises(DataError, match="cannot be read as a table"):
        read_rows(tmp_path / "absent.csv")


def test_names_stay_words(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("id,patient,dice/heart\n007,NA,0.5\nnan,0012,\n")
    rows = read_rows(tmp_path / "t.csv")
    assert rows["id"].tolist() == ["007", "nan"]
    assert rows["patient"].tolist() == ["NA", "0012"]
    assert np.isnan(rows["dice/heart"][1])


def test_files_agree(tmp_path: Path) -> None:
    comparison = compare(table(), table(0.01, seed=3))
    paths = write_comparison(tmp_path, "x", comparison, comparison.to_dict(), "text")
    assert [path.name for path in paths] == ["x.csv", "x.json", "x.md", "x.png"]
    written = pd.read_csv(paths[0])
    assert tuple(written.columns) == COLUMNS
    stored = json.loads(paths[1].read_text())
    for name, row in written.set_index("metric").iterrows():
        assert stored["metrics"][name] == pytest.approx(row.to_dict())
    assert paths[3].read_bytes().startswith(b"\x89PNG")


def test_p_values_keep_their_digits() -> None:
    assert [p_words(p) for p in (1.0, 0.0456, 0.001, 0.00012)] == ["1.000", "0.046", "0.001", "1.2e-04"]


def test_every_image_is_a_line_between_two_boxes() -> None:
    comparison = compare(table(), table(0.01, seed=3))
    figure = plot_comparison(comparison)
    assert [ax.get_title() for ax in figure.axes] == ["dice/heart", "hd_mm/heart"]
    pairs = comparison.metrics["dice/heart"]
    lines = [line for line in figure.axes[0].lines if len(line.get_xdata()) == 2][-N:]
    drawn = np.array([line.get_ydata() for line in lines])
    np.testing.assert_allclose(drawn, np.stack([pairs.a, pairs.b], 1))
    assert all(0.1 < x < 0.9 for line in lines for x in line.get_xdata())
    assert "Holm p" in figure.axes[0].get_xlabel()
    assert "one" in figure.get_suptitle()


def test_the_picture_has_room_for_few_metrics_and_says_so() -> None:
    many = {f"own/{k}": np.arange(N) * k for k in range(1, 11)}
    comparison = compare(table(**many), table(0.01, **many))
    figure = plot_comparison(comparison)
    assert len(figure.axes) == MOST_PANELS
    assert figure.get_supxlabel() == f"{len(comparison.metrics) - MOST_PANELS} more metrics are in the table"
    single = plot_comparison(compare(table(n=1), table(0.01, n=1), ["dice/heart"]))
    assert len(single.axes) == 1


def test_names_are_texts_and_what_a_spreadsheet_did_to_them_is_an_error(tmp_path: Path) -> None:
    ids = [f"{i:03}" if i < 10 else f"x{i}" for i in range(N)]
    table(id=ids).to_csv(tmp_path / "a.csv", index=False)
    table(seed=1, id=ids).to_csv(tmp_path / "b.csv", index=False, sep=";", decimal=",", encoding="cp1252")
    a, b = read_rows(tmp_path / "a.csv"), read_rows(tmp_path / "b.csv")
    assert a["id"].tolist() == b["id"].tolist() == ids
    assert compare(a, b).images == N
    b["id"] = [name.lstrip("0") or "0" for name in ids]
    with pytest.raises(
        DataError, match=r"10 names differ only as numbers are written, such as 000 .* 0 in the second"
    ):
        compare(a, b)


def test_rows_without_an_id_are_passed_over_and_counted(tmp_path: Path) -> None:
    rows = table()
    rows.loc[[3, 7], "id"] = None
    rows.to_csv(tmp_path / "a.csv", index=False)
    found = read_rows(tmp_path / "a.csv")
    assert found.attrs[REMARKS][-1] == "a.csv: rows without an id, passed over: 2."
    assert compare(found, table(0.01, seed=3)).images == N - 2
    rows.assign(id=None).to_csv(tmp_path / "none.csv", index=False)
    with pytest.raises(DataError, match="no row has an id"):
        read_rows(tmp_path / "none.csv")
