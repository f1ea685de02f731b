import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from anatozoo.errors import ManifestError
from anatozoo.zoo import maintain
from anatozoo.zoo.manifest import read_manifest
from anatozoo.zoo.spec import WITHHELD, CheckpointSpec
from docs.results_page import WITHHELD_FILE, read_evaluations, read_withheld, results_page, training_words

EVIDENCE = maintain.PROJECT / "docs" / "evidence"
TABLE: dict[str, Any] = {
    "title": "Toys",
    "data": "toys",
    "exclusive": False,
    "training": "blocks (7)",
    "checkpoints": ["hybridgnet-jsrt", "hybridgnet-chexmask", "never-made"],
    "columns": {"dice/lungs": "Dice, lungs", "hd_mm/lungs": "HD, mm"},
    "note": "Wooden ones.",
    "source": "A catalogue.",
    "rows": [{"model": "Old", "split": "test", "n": 51, "values": [[0.9, 0.1], None]}],
}
EVALUATION: dict[str, Any] = {
    "checkpoint": "hybridgnet-jsrt",
    "version": "1.0.0",
    "data": "toys",
    "split": "val",
    "images": 3,
    "command": "anatozoo evaluate hybridgnet-jsrt --data toys",
    "versions": {"torch": "2"},
    "metrics": {
        "dice/lungs": {"n": 3, "mean": 0.95, "sd": 0.02, "median": 0.96, "min": 0.9, "max": 1.0, "missed": 1}
    },
}


@pytest.fixture
def specs() -> tuple[CheckpointSpec, ...]:
    return tuple(read_manifest(maintain.PROJECT / "checkpoints_manifest.yaml").checkpoints)


def write(docs: Path, tables: list[dict[str, Any]], **evaluations: dict[str, Any]) -> Path:
    (docs / "evidence").mkdir(parents=True)
    (docs / "published.yaml").write_text(yaml.safe_dump(tables))
    for name, evaluation in evaluations.items():
        (docs / "evidence" / f"{name}.json").write_text(json.dumps(evaluation))
    return docs


def test_ours_stand_beside_published_and_gaps_are_named(tmp_path: Path, specs: Any) -> None:
    text = results_page(write(tmp_path, [TABLE], one=EVALUATION), specs)
    lines = text.splitlines()
    ours = training_words(specs[0])
    assert "| Old | test | blocks (7) | 51 | 0.900 (0.100) | – |" in lines
    assert (
        f"| **hybridgnet-jsrt 1.0.0** | val, chosen on this split | {ours} | 3 | 0.950 (0.020), 1 missed "
        "| not measured |" in lines
    )
    assert f"| **hybridgnet-chexmask** |  | {ours} |  | not measured | not measured |" in lines
    assert "never-made" not in text
    assert "`anatozoo evaluate hybridgnet-jsrt --data toys` (torch 2)" in lines
    assert "Without a published counterpart" not in text


def test_other_evaluations_have_tables_of_their_own(tmp_path: Path, specs: Any) -> None:
    other = EVALUATION | {"data": "zoo", "occlusion": {"side_px": 200.0}}
    text = results_page(write(tmp_path, [TABLE], one=EVALUATION, two=other, note={"unrelated": 1}), specs)
    title = "### hybridgnet-jsrt 1.0.0 on zoo, split val, chosen on this split, with a black square of 200 px"
    assert title in text
    assert "| dice/lungs | 3 | 1 | 0.950 (0.020) |" in text


def test_cut_and_uncut_organs_never_share_a_table(tmp_path: Path, specs: Any) -> None:
    cut = EVALUATION | {"command": "anatozoo evaluate hybridgnet-jsrt --data toys --exclusive"}
    cut["metrics"] = {"dice/lungs": EVALUATION["metrics"]["dice/lungs"] | {"mean": 0.7}}
    tables = [TABLE, TABLE | {"title": "Cut toys", "exclusive": True, "rows": []}]
    text = results_page(write(tmp_path, tables, one=EVALUATION, two=cut), specs)
    whole, exclusive = text.split("## Toys")[1].split("## Cut toys")
    assert "0.950 (0.020)" in whole
    assert "0.700" not in whole
    assert "0.700 (0.020)" in exclusive
    assert "0.950" not in exclusive
    assert "Published rows" not in exclusive
    alone = results_page(write(tmp_path / "alone", [TABLE], two=cut), specs)
    assert "on toys, split val, chosen on this split, organs cut where they overlap" in alone


def test_a_withheld_test_comes_first_and_beside_the_published_rows(tmp_path: Path, specs: Any) -> None:
    statistics = {"n": 5, "mean": 0.8, "sd": 0.1, "median": 0.85, "worst": 0.4, "ci_low": 0.7, "ci_high": 0.9}
    found = {
        "checkpoint": "hybridgnet-jsrt",
        "version": "0.9.0",
        "dataset": "Toys",
        "data": "toys",
        "exclusive": False,
        "reference": "as carved",
        "n": 5,
        "metrics": {"dice/lungs": statistics, "dice/heart": statistics},
    }
    sets = [found, found | {"exclusive": True, "version": "0.8.0"}, found | {"checkpoint": "never-made"}]
    record = {"split": WITHHELD, "measured": "today", "commit": "0" * 40, "scoring": "By hand.", "sets": sets}
    docs = write(tmp_path, [TABLE], one=EVALUATION)
    (docs / "evidence" / WITHHELD_FILE).write_text(json.dumps(record))
    text = results_page(docs, specs)
    ours = training_words(specs[0])
    first, toys = text.split("## Toys\n")
    row = "0.800 (0.100) | 0.700 – 0.900 | 0.850 | 0.400 |"
    assert f"| **hybridgnet-jsrt 0.9.0** | Toys: as carved | {ours} | 5 | dice/lungs | {row}" in first
    assert f"|  |  |  | 5 | dice/heart | {row}" in first
    assert "never-made" not in text
    rows = [line for line in toys.splitlines() if line.startswith("| ")][1:]
    assert (
        rows[0] == f"| **hybridgnet-jsrt 0.9.0** | {WITHHELD} | {ours} | 5 | 0.800 (0.100) | not measured |"
    )
    assert rows[1].startswith("| Old |")
    assert "0.8.0" not in toys

    (docs / "evidence" / WITHHELD_FILE).write_text("[]")
    with pytest.raises(ManifestError, match="not the record of a withheld test"):
        results_page(docs, specs)


def test_all_numbers_of_a_withheld_test_are_those_of_its_record(specs: Any) -> None:
    record = read_withheld(EVIDENCE / WITHHELD_FILE)
    expected = {
        (s["checkpoint"], s["version"], s["dataset"], *name.split("/"), value["mean"], value["n"])
        for s in record["sets"]
        for name, value in s["metrics"].items()
    }
    shown = {
        (spec.name, m.version, m.dataset, m.metric, m.class_.replace(" and ", "_"), m.value, m.n)
        for spec in specs
        for m in spec.metrics
        if m.withheld
    }
    assert shown == expected
    assert len(shown) > 10


def test_every_checkpoint_says_what_its_validation_split_chose(specs: Any) -> None:
    # No number says which translation is good, and the settings of roots were fixed beforehand.
    chosen_nothing = ["unet-roots", "cyclegan-lgg-ht2du"]
    assert [spec.name for spec in specs if spec.selection is None] == chosen_nothing
    for spec in specs:
        # Its weights were not chosen on covid-cxr.
        other = {"val of covid-cxr"} if spec.name == "seg2graph-jsrt" else set()
        assert {m.split for m in spec.metrics} <= {"val", WITHHELD, "test of that study", *other}, spec.name
    with_val = [spec for spec in specs if spec.selection and any(m.split == "val" for m in spec.metrics)]
    assert [spec.name for spec in with_val if spec.selection.split != "val"] == []


def test_models_of_the_chest_are_compared_on_equal_terms(specs: Any) -> None:
    """A label map has no lung behind the heart, so the contours of the other model are cut too."""
    main = {}
    for spec in specs:
        if {"lung_left", "heart", "clavicle_left"} <= set(spec.output.classes):
            first = next(m for m in spec.metrics if not m.withheld)
            main[spec.name] = (first.dataset, first.metric, "--exclusive" in first.source)
    assert main["unet-jsrt"] == main["hybridgnet-jsrt"] == ("JSRT, exclusive label maps", "dice", True)
    for spec in specs:
        if spec.name == "unet-jsrt":
            assert {m.dataset for m in spec.metrics} == {"JSRT, exclusive label maps"}


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (TABLE | {"rows": [{"model": "Old", "split": "test", "n": 1, "values": [[0.9]]}]}, "1 values for 2"),
        ({"title": "Toys"}, "has the keys"),
    ],
)
def test_incomplete_tables_are_refused(tmp_path: Path, table: Any, message: str, specs: Any) -> None:
    with pytest.raises(ManifestError, match=message):
        results_page(write(tmp_path, [table]), specs)


def test_damaged_evaluations_are_named(tmp_path: Path, specs: Any) -> None:
    docs = write(tmp_path, [TABLE])
    (docs / "evidence" / "half.json").write_text('{"checkpoint"')
    with pytest.raises(ManifestError, match=r"half\.json: no JSON"):
        results_page(docs, specs)


def test_numbers_of_the_manifest_are_those_of_their_reports(specs: Any) -> None:
    evaluations = {f"docs/evidence/{path.name}": e for path, e in read_evaluations(EVIDENCE).items()}
    compared = 0
    for spec in specs:
        for metric in spec.metrics:
            if metric.report in evaluations:
                value, n = reported(evaluations[metric.report], metric.metric, metric.class_)
                assert metric.value == pytest.approx(value, abs=6e-5), metric
                assert metric.n == n, metric
                compared += 1
    assert compared > 10


def test_numbers_of_repairs_are_those_of_their_reports(specs: Any) -> None:
    compared = 0
    for spec in specs:
        for metric in spec.metrics:
            name, _, when = metric.metric.rpartition("_")
            if when not in ("before", "after"):
                continue
            report = json.loads((maintain.PROJECT / metric.report).read_text(encoding="utf-8"))
            masks = metric.dataset.partition(", ")[2]
            found = report["kinds"][masks] if "kinds" in report else report["segmenters"][masks]["Post-DAE"]
            assert metric.value == pytest.approx(found[name][when], abs=6e-5), metric
            assert metric.n == found["n"], metric
            assert metric.source == report["command"], metric
            compared += 1
    assert compared > 10


def test_numbers_of_registrations_are_those_of_their_reports(specs: Any) -> None:
    compared = 0
    for spec in specs:
        for metric in spec.metrics:
            if not (metric.report or "").startswith("docs/evidence/registration-"):
                continue
            report = json.loads((maintain.PROJECT / metric.report).read_text(encoding="utf-8"))
            every_pair = next(iter(report["means"].values()))
            found = report["autoencoders"][spec.name] if spec.method == "aenet" else every_pair[spec.name]
            whole = metric.class_ in ("mean of the organs", "whole field")
            name = metric.metric if whole else f"{metric.metric}/{metric.class_}"
            assert metric.value == pytest.approx(found[name], abs=6e-5), metric
            assert metric.n == found["n"], metric
            assert metric.source == report["command"], metric
            compared += 1
    assert compared > 10


def test_numbers_of_estimated_quality_are_those_of_the_report(specs: Any) -> None:
    report = json.loads((EVIDENCE / "rca_experiment.json").read_text(encoding="utf-8"))
    compared = 0
    for spec in specs:
        for metric in spec.metrics:
            if metric.report != "docs/evidence/rca_experiment.json":
                continue
            _, kind, name = metric.metric.split("_")
            found = report["engines"][spec.name]["organs"][metric.class_][kind]
            assert metric.value == pytest.approx(found[name], abs=6e-5), metric
            assert metric.n == found["n"], metric
            assert metric.source == report["command"], metric
            compared += 1
    assert compared == 8


def reported(evaluation: dict[str, Any], metric: str, organ: str) -> tuple[float, int]:
    """A number of the manifest as its report has it, and of how many images."""
    metrics = evaluation["metrics"]
    if metric == "failures_percent":
        return 100 * evaluation["failures"]["rate"], evaluation["failures"]["n"]
    if metric in ("auc", "ece"):
        return evaluation["findings"][organ][metric], evaluation["findings"][organ]["images"]
    name = {"all": metric, "lungs and heart": f"{metric}/lungs_heart"}.get(organ, f"{metric}/{organ}")
    name = name.replace("_median", "")
    # Without clavicles, lungs and heart are all there is.
    statistics = metrics.get(name) or metrics[metric]
    return statistics["median" if metric.endswith("_median") else "mean"], statistics["n"]
