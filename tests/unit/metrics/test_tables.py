import csv
import json
import math
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from anatozoo.io.annotation import Annotation
from anatozoo.metrics.cases import Case, Measures, case_row
from anatozoo.metrics.statistics import (
    bootstrap_interval,
    bootstrap_interval_of,
    holm,
    paired_test,
    rank_biserial,
)
from anatozoo.metrics.tables import (
    describe,
    in_mm,
    markdown,
    markdown_table,
    metric_names,
    provenance,
    ranked,
    source_commit,
    summarise,
    write_tables,
)

ROWS = [
    {"id": "a", "view": "PA", "sex": "M", "dice/lungs": 0.9, "mse_px2": 100.0},
    {"id": "b", "view": "AP", "sex": "M", "dice/lungs": 0.6, "mse_px2": math.nan},
    {"id": "c", "view": "AP", "sex": None, "dice/lungs": 0.7},
]


def test_statistics_count_the_images_that_have_the_value() -> None:
    statistics = describe(ROWS)
    assert statistics["dice/lungs"] == {
        "n": 3,
        "mean": pytest.approx(2.2 / 3),
        "sd": pytest.approx(np.std([0.9, 0.6, 0.7])),
        "median": 0.7,
        "min": 0.6,
        "max": 0.9,
        "ci_low": pytest.approx(0.6),
        "ci_high": pytest.approx(0.9),
    }
    # One value: the mean of every sample drawn from it.
    assert statistics["mse_px2"]["ci_low"] == statistics["mse_px2"]["ci_high"] == 100.0
    assert statistics["mse_px2"]["n"] == 1
    assert list(statistics) == ["dice/lungs", "mse_px2"]


def test_summary_has_failures_and_groups_with_several_values() -> None:
    summary = summarise(ROWS)
    assert summary["images"] == 3
    assert (summary["failures"]["failed"], summary["failures"]["n"]) == (1, 3)
    assert list(summary["groups"]) == ["view"]
    assert summary["groups"]["view"]["AP"]["failures"]["rate"] == 0.5
    assert summary["groups"]["view"]["PA"]["metrics"]["dice/lungs"]["median"] == 0.9
    assert summarise([{"id": "a", "mse_px2": 1.0}])["failures"] is None


def test_tables_are_written_and_agree(tmp_path: Path) -> None:
    head = {
        "checkpoint": "net",
        "version": "1",
        "data": "covid",
        "split": "val",
        "command": "run",
        "versions": {},
    }
    summary = head | summarise(ROWS)
    paths = write_tables(tmp_path, "net_covid", ROWS, summary)
    assert [path.name for path in paths] == ["net_covid.csv", "net_covid.json", "net_covid.md"]
    rows = list(csv.DictReader(paths[0].read_text().splitlines()))
    assert [row["mse_px2"] for row in rows] == ["100.0", "", ""]
    assert json.loads(paths[1].read_text()) == json.loads(json.dumps(summary))
    text = paths[2].read_text()
    assert text == markdown(summary)
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines()]
    assert [
        "dice/lungs", "3", "", "0.7333 ± 0.1247", "0.6000 – 0.9000", "0.7000", "0.6000", "0.9000"
    ] in cells  # fmt: skip
    assert "dice/lungs below 0.7: 1 of 3 images (33.3%)." in text
    assert ["AP", "2", "0.6500 ± 0.0500", "0.6500", "–", "–", "1 of 2"] in cells


def missed_rows() -> list[dict]:
    return [
        {
            "id": str(i),
            "dice/heart": d,
            "hd_px/heart": h,
            "missed/heart": int(d == 0),
            "holes/heart": int(i == 1),
        }
        for i, (d, h) in enumerate([(0.9, 4.0), (0.8, 6.0), (0.0, math.nan)])
    ]


def test_every_mean_stands_beside_the_number_missed() -> None:
    statistics = describe(missed_rows())
    assert (statistics["dice/heart"]["n"], statistics["dice/heart"]["missed"]) == (3, 1)
    assert (statistics["hd_px/heart"]["n"], statistics["hd_px/heart"]["missed"]) == (2, 1)
    assert statistics["hd_px/heart"]["mean"] == 5.0
    assert statistics["missed/heart"]["mean"] == pytest.approx(1 / 3)
    assert "missed" not in statistics["missed/heart"]
    found = describe(missed_rows()[:2])
    assert found["dice/heart"]["missed"] == 0
    assert "missed/heart" not in found


def head(**more: object) -> dict:
    return {"prediction": "a", "reference": "b", "command": "run", "versions": {"x": "1"}, **more}


def lines_of(rows: list[dict], **more: object) -> list[list[str]]:
    text = markdown(head(**more) | summarise(rows))
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()]


def test_markdown_says_that_a_split_was_dealt() -> None:
    text = markdown(head(split_origin={"dealt": 3, "listed": 0, "lists": []}) | summarise(missed_rows()))
    assert "The split was dealt: no list names 3 of the images" in text
    listed = markdown(head(split_origin={"dealt": 0, "listed": 3, "lists": ["splits.json"]}) | summarise([]))
    assert "dealt" not in listed


def test_markdown_shows_counts_only_where_something_is_wrong() -> None:
    lines = lines_of(missed_rows())
    assert ["# a against b"] in lines
    assert next(line for line in lines if line[0] == "dice/heart")[1:3] == ["3", "1"]
    assert next(line for line in lines if line[0] == "missed/heart")[-3:] == ["0", "0", "1"]
    assert next(line for line in lines if line[0] == "holes/heart")[-3:] == ["0", "0", "1"]
    fine = [
        row | {"holes/heart": 0, "components/lungs": 2, "components/heart": 1} for row in missed_rows()[:2]
    ]
    lines = lines_of(fine)
    assert not any(line[0].startswith(("missed", "holes/", "components/")) for line in lines)
    sentence = "As it should be in every image, and not listed: components, holes of every organ."
    assert [sentence] in lines
    fine[0]["components/lungs"] = 1
    lines = lines_of(fine)
    assert next(line for line in lines if line[0] == "components/lungs")[-3:] == ["1.500", "1", "2"]
    assert any("components of heart;" in line[0] for line in lines)


def test_markdown_leaves_out_pixels_where_there_are_millimetres() -> None:
    rows = [{"id": "a", "hd_px/heart": 4.0, "hd_mm/heart": 2.0, "assd_px/heart": 1.0}]
    lines = lines_of(rows, commit="0123456789abcdef", unmatched={"prediction": [], "reference": ["c"]})
    assert [line[0] for line in lines if "/heart" in line[0]] == ["hd_mm/heart", "assd_px/heart"]
    assert ["x 1, commit 0123456789ab"] in lines
    assert ["Images left out: without counterpart: 1 of the reference."] in lines
    assert in_mm("hd_px") == "hd_mm"
    assert in_mm("mse_px2") is in_mm("dice/heart") is None


def test_markdown_leaves_out_what_masks_had_before_where_they_were_the_reference() -> None:
    rows = [
        {"id": name, "dice_before": 1.0, "dice": 0.9, "dice_before/heart": 1.0, "dice/heart": 0.9}
        for name in ("a", "b")
    ]
    lines = lines_of(rows)
    assert [line[0] for line in lines if "dice" in line[0]] == ["dice", "dice/heart", "dice_before"]
    said = ["Every mask was the reference itself: what it had before is in the JSON and CSV."]
    assert said in lines
    rows[1] |= {"dice_before": 0.8, "dice_before/heart": 0.8}
    lines = lines_of(rows)
    assert "dice_before/heart" in [line[0] for line in lines]
    assert said not in lines


def test_names_cover_every_column_of_a_case() -> None:
    square = np.array([[5.0, 5.0], [20.0, 5.0], [20.0, 20.0], [5.0, 20.0]])
    side = Annotation((30, 30), {"heart": square, "clavicle_left": square}, spacing_mm=(0.5, 0.5))
    numbers = {"folding_percent": 0.5, "similarity": 0.9}
    row = case_row(Case(side, side, numbers=numbers), Measures(tolerance=1.0))
    assert metric_names([{"id": "a", "age": 40, "position": 1, "error": ""} | row]) == list(row)
    assert set(describe([{"id": "a"} | row])) == {name for name in row if not name.startswith("missed")}


def test_metrics_are_ranked_by_what_people_look_for() -> None:
    names = [
        "missed/a",
        "own",
        "holes/a",
        "hd_px/a",
        "hd_mm/a",
        "dice/b",
        "dice/a",
        "mse_px2",
        "components/a",
    ]
    expected = [
        "dice/b",
        "dice/a",
        "hd_mm/a",
        "hd_px/a",
        "mse_px2",
        "own",
        "components/a",
        "holes/a",
        "missed/a",
    ]
    assert ranked(names) == expected


def test_a_table_is_aligned_and_its_rule_is_markdown() -> None:
    assert markdown_table(["m", "n"], [["dice/heart", 1], ["x", 1000]]) == [
        "| m          |    n |",
        "| ---------- | ---: |",
        "| dice/heart |    1 |",
        "| x          | 1000 |",
    ]
    assert markdown_table(["m", "n"], [])[1] == "| --- | --: |"


def test_bootstrap_interval_is_that_of_the_mean() -> None:
    values = np.random.default_rng(1).normal(5, 2, (400, 3))
    low, high = bootstrap_interval(values)
    error = 1.96 * values.std(0) / 20
    np.testing.assert_allclose(low, values.mean(0) - error, atol=0.03)
    np.testing.assert_allclose(high, values.mean(0) + error, atol=0.03)
    np.testing.assert_array_equal(bootstrap_interval(values), (low, high))
    # In pieces the draws are the same.
    assert bootstrap_interval(values[:, :1])[0] == pytest.approx(low[:1])
    assert (bootstrap_interval(values, seed=1)[0] != low).all()


def test_bootstrap_agrees_with_scipy() -> None:
    from scipy.stats import bootstrap

    values = np.random.default_rng(2).gamma(2, 3, 60)
    theirs = bootstrap(
        (values,), np.mean, method="percentile", n_resamples=20000, rng=np.random.default_rng(0)
    ).confidence_interval
    low, high = bootstrap_interval(values[:, None], resamples=20000)
    assert low[0] == pytest.approx(theirs.low, abs=0.03)
    assert high[0] == pytest.approx(theirs.high, abs=0.03)


def test_images_of_one_patient_are_drawn_together() -> None:
    values = np.random.default_rng(3).normal(size=(100, 1))
    repeated, patients = np.repeat(values, 4, axis=0), np.repeat(np.arange(100), 4).tolist()
    low, high = bootstrap_interval(repeated, patients)
    np.testing.assert_allclose((low, high), bootstrap_interval(values), atol=1e-12)
    narrow = bootstrap_interval(repeated)
    assert (narrow[1] - narrow[0])[0] == pytest.approx((high - low)[0] / 2, rel=0.1)
    rows = [{"id": str(i), "patient": str(i // 4), "mse_px2": float(v)} for i, v in enumerate(repeated[:, 0])]
    assert describe(rows)["mse_px2"]["ci_low"] == pytest.approx(low[0])
    assert describe([row | {"id": row["patient"], "patient": None} for row in rows])["mse_px2"][
        "ci_low"
    ] == pytest.approx(low[0])


@pytest.mark.parametrize(
    ("values", "clusters"), [(np.empty((0, 2)), None), ([1.0], None), ([[math.nan]], None), ([[1.0]], [1, 2])]
)
def test_bootstrap_refuses_what_has_no_mean(values: object, clusters: object) -> None:
    with pytest.raises(ValueError, match=r"values must be|clusters for"):
        bootstrap_interval(values, clusters)


def test_the_bootstrap_of_any_number_is_that_of_the_mean_for_the_mean() -> None:
    values, patients = np.random.default_rng(0).gamma(2, size=30), [i // 3 for i in range(30)]
    expected = np.ravel(bootstrap_interval(values[:, None], patients, resamples=500))
    found = bootstrap_interval_of(lambda rows: float(values[rows].mean()), patients, resamples=500)
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    some = bootstrap_interval_of(lambda rows: math.nan if 0 in rows else float(values[rows].min()), patients)
    assert values[3:].min() <= some[0] <= some[1]
    assert np.isnan(bootstrap_interval_of(lambda rows: math.nan, patients, resamples=3)).all()


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([]) == []


def test_rank_biserial_by_hand() -> None:
    assert rank_biserial([1.0, 2.0, 3.0]) == 1.0
    assert rank_biserial([-1.0, -5.0, 0.0]) == -1.0
    assert rank_biserial([0.0, 0.0]) == 0.0
    # Ranks 1, 2.5, 2.5, 4: the sum 5 above and 5 below.
    assert rank_biserial([1.0, 2.0, -2.0, 4.0]) == pytest.approx((1 + 2.5 - 2.5 + 4) / 10)


def test_paired_test_agrees_with_scipy_and_knows_no_difference() -> None:
    from scipy.stats import wilcoxon

    d = np.random.default_rng(4).normal(0.3, 1, 30)
    test = paired_test(d)
    assert test.p == wilcoxon(d).pvalue
    assert (test.n, test.zeros) == (30, 0)
    assert test.ci_low < test.difference == d.mean() < test.ci_high
    same = paired_test(np.zeros(5))
    assert (same.p, same.effect, same.difference, same.zeros) == (1.0, 0.0, 0.0, 5)
    assert paired_test([0.0, 0.5]).p == 1.0


def git(folder: Path, *arguments: str) -> str:
    name = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
    command = ["git", "-C", str(folder), *name, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_commit_is_known_only_for_a_clean_checkout(tmp_path: Path) -> None:
    package = tmp_path / "source/package"
    package.mkdir(parents=True)
    assert source_commit(package) is None
    git(package.parent, "init", "-q")
    (package / "__init__.py").write_text("")
    # An installed package in an environment inside somebody's repository.
    assert source_commit(package) is None
    git(package.parent, "add", ".")
    git(package.parent, "commit", "-q", "-m", "first")
    assert source_commit(package) == git(package.parent, "rev-parse", "HEAD")
    (package.parent / "notes.txt").write_text("beside the package")
    assert source_commit(package) is not None
    (package / "new.py").write_text("")
    assert source_commit(package) is None


def test_without_git_there_is_no_commit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert source_commit() is None
    assert provenance(("numpy",)) == {
        "versions": {**provenance(())["versions"], "numpy": np.__version__},
        "commit": None,
    }
