"""Cards against huggingface_hub's own reading of them, and for every kind of output."""

import ast
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import EvalResult, ModelCard, ModelCardData, metadata_load
from huggingface_hub.repocard_data import eval_results_to_model_index, model_index_to_eval_results

from anatozoo.zoo.card import card
from anatozoo.zoo.catalogue import manifest
from anatozoo.zoo.kinds import KINDS
from anatozoo.zoo.manifest import read_manifest
from anatozoo.zoo.spec import CheckpointSpec
from tests.support.zoo_fixtures import COMMIT, entry, number, write_manifest

POINTS = entry()["output"]
CLASSES: dict[str, list[str]] = {"contours": ["heart"], "restored": []}


def output(kind: str) -> dict[str, Any]:
    classes = CLASSES.get(kind, ["heart", "aorta"])
    return POINTS if kind == "contours" else {"kind": kind, "classes": classes, "landmarks": None}


# Those of the Hub's list of tasks that a method here may be given.
TAGS = ("image-segmentation", "image-to-image", "keypoint-detection", "image-classification")


@pytest.fixture(autouse=True)
def _tiny(tiny_method: None) -> None:
    pass


def spec_of(tmp_path: Path, values: dict[str, Any]) -> CheckpointSpec:
    return read_manifest(write_manifest(tmp_path / "m.yaml", values)).checkpoints[0]


def metadata(tmp_path: Path, spec: CheckpointSpec) -> dict[str, Any]:
    """The front matter as the Hub's client finds it in a file."""
    path = tmp_path / "README.md"
    path.write_text(card(spec), encoding="utf-8")
    found = metadata_load(path)
    assert found is not None
    return found


@pytest.mark.parametrize("name", [spec.name for spec in manifest().checkpoints])
def test_the_cards_of_this_package_are_the_hub_s(tmp_path: Path, name: str) -> None:
    (spec,) = (spec for spec in manifest().checkpoints if spec.name == name)
    values = metadata(tmp_path, spec)
    assert {"library_name", "license", "tags", "model-index"} <= values.keys()
    assert values.get("pipeline_tag") in {None, *TAGS}
    data = ModelCardData(**values)
    assert data.to_dict() == values
    measured = [metric for metric in spec.metrics if metric.value is not None]
    assert [r.metric_value for r in data.eval_results or []] == [m.value for m in measured]
    # What the client writes back differs in the order of keys alone.
    (tmp_path / "again.md").write_text(ModelCard(card(spec)).content, encoding="utf-8")
    assert metadata_load(tmp_path / "again.md") == values


def test_the_model_index_makes_the_round_trip(tmp_path: Path) -> None:
    more = number(2.5, "hd_mm", "all", dataset="Other set (2nd)")
    values = metadata(tmp_path, spec_of(tmp_path, entry(measured=[*entry()["measured"], more])))
    name, results = model_index_to_eval_results(values["model-index"])
    assert name == "tiny-toy"
    assert all(isinstance(result, EvalResult) for result in results)
    assert [(r.dataset_type, r.metric_type, r.metric_name) for r in results] == [
        ("toy-set", "dice", "dice heart"),
        ("other-set-2nd", "hd_mm", "hd_mm all"),
    ]
    assert eval_results_to_model_index(name, results) == values["model-index"]


@pytest.mark.parametrize(
    ("terms", "expected"),
    [
        ("MIT", {"license": "mit"}),
        ("CC-BY-NC-SA-4.0", {"license": "cc-by-nc-sa-4.0"}),
        (
            "JSRT terms (research, education)",
            {"license": "other", "license_name": "jsrt-terms-research-education"},
        ),
    ],
)
def test_a_licence_is_an_identifier_or_other_with_a_name(
    tmp_path: Path, terms: str, expected: dict[str, str]
) -> None:
    values = metadata(tmp_path, spec_of(tmp_path, entry(license=entry()["license"] | {"weights": terms})))
    assert {key: text for key, text in values.items() if key.startswith("license")} == expected


def test_the_link_of_another_licence_is_a_web_address(tmp_path: Path) -> None:
    values = entry(license=entry()["license"] | {"weights": "our terms"}, status="published")
    values["hub"] |= {"repo_id": "toys/tiny", "revision": COMMIT}
    link = metadata(tmp_path, spec_of(tmp_path, values))["license_link"]
    assert link == "https://huggingface.co/toys/tiny#licences"


@pytest.mark.parametrize("kind", [*KINDS, "scores"])
def test_the_pipeline_tag_fits_the_kind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    # Another package's kind, for which the Hub has no word.
    monkeypatch.setitem(KINDS, "scores", replace(KINDS["labels"], name="scores", hub_tag=None))
    expected = dict.fromkeys(("contours", "labels", "volume", "mask-contours", "volume-mesh"), TAGS[0]) | {
        "shapes": None,
        "mesh": None,
        "scores": None,
    }
    tag = expected.get(kind, TAGS[1])
    values = metadata(tmp_path, spec_of(tmp_path, entry(output=output(kind))))
    assert values.get("pipeline_tag") == tag
    assert values["model-index"][0]["results"][0]["task"]["type"] == (tag or "other")
    ModelCardData(**values)


@pytest.mark.parametrize(
    ("kind", "size", "words", "absent"),
    [
        ("contours", [30, 20], 'result.landmarks["heart"]  # (5, 2): x, y', "result.mask"),
        ("contours", [9, 9, 9], 'result.landmarks["heart"]  # (5, 3): x, y, z', ""),
        ("labels", [30, 20], "(H, W) uint8 on the source grid: 0 background, 1 heart, 2 ao", "landmarks["),
        ("volume", [9, 9, 9], "(D, H, W) uint8", "landmarks["),
        ("field", [30, 20], 'model.predict("moving.dcm", "fixed.dcm")', "anatozoo predict"),
        ("field", [30, 20], "result.displacement_px", "result.mask"),
        ("repair", [30, 20], 'model.predict("mask.png")', "patient.dcm"),
        ("repair", [30, 20], "anatozoo predict tiny-toy masks/", "patient.dcm"),
        ("codes", [30, 20], 'model.predict("mask.png")', "anatozoo predict"),
        ("restored", [9, 9, 9], "result.volume  # (D, H, W) float32", "result.mask"),
        ("restored", [9, 9, 9], "anatozoo predict tiny-toy scans/", ".dcm"),
    ],
)
def test_the_example_fits_what_comes_out(
    tmp_path: Path, kind: str, size: list[int], words: str, absent: str
) -> None:
    text = card(spec_of(tmp_path, entry(output=output(kind), input=entry()["input"] | {"size": size})))
    assert words in text
    assert not absent or absent not in text.split("## Measured")[0]
    for code in re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL):
        ast.parse(code)


def test_tags_are_words_and_none_stands_twice(tmp_path: Path) -> None:
    values = entry(input=entry()["input"] | {"modality": "Fundus photograph", "anatomy": "tiny"})
    tags = metadata(tmp_path, spec_of(tmp_path, values))["tags"]
    assert tags == ["anatozoo", "tiny", "fundus-photograph", "medical-imaging", "pytorch"]
