from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import ModelCard

from anatozoo.zoo.card import card
from anatozoo.zoo.manifest import read_manifest
from anatozoo.zoo.spec import CheckpointSpec
from anatozoo.zoo.tables import (
    docs_page,
    insert_between_markers,
    main_metrics,
    markdown_table,
    organ_words,
    readme_table,
)
from tests.zoo_fixtures import entry, write_manifest

pytestmark = pytest.mark.usefixtures("tiny_method")


def spec_of(tmp_path: Path, values: dict[str, Any]) -> CheckpointSpec:
    return read_manifest(write_manifest(tmp_path / "m.yaml", values)).checkpoints[0]


def front_matter(text: str) -> Any:
    return yaml.safe_load(text.split("---\n")[1])


def test_front_matter_is_the_hubs(tmp_path: Path) -> None:
    data = ModelCard(card(spec_of(tmp_path, entry()))).data
    assert (data.library_name, data.pipeline_tag, data.license) == (
        "anatozoo",
        "image-segmentation",
        "cc-by-nc-4.0",
    )
    (result,) = data.eval_results or []
    assert (result.dataset_type, result.dataset_split, result.metric_type) == ("toy-set", "val", "dice")
    assert result.metric_value == pytest.approx(0.912345)


def test_without_measured_numbers_there_is_no_model_index(tmp_path: Path) -> None:
    text = card(spec_of(tmp_path, entry(metrics=[])))
    assert "model-index" not in front_matter(text)
    assert "Nothing has been measured yet." in text


def test_a_licence_the_hub_does_not_know_gets_a_name(tmp_path: Path) -> None:
    terms = entry()["license"] | {"weights": "JSRT research terms"}
    values = front_matter(card(spec_of(tmp_path, entry(license=terms))))
    assert (values["license"], values["license_name"]) == ("other", "jsrt-research-terms")


def test_the_card_says_what_a_user_must_know(tmp_path: Path) -> None:
    text = card(spec_of(tmp_path, entry(remarks="**Our own** weights.")))
    for words in [
        "never published anywhere else",
        "**Our own** weights.",
        'anatozoo.load("tiny-toy")',
        'result.landmarks["heart"]  # (5, 2)',
        "`anatozoo evaluate tiny-toy --data toy`",
        "| 0.912 |",
        "| not measured |",
        "[Toy set](https://example.org/toy) | 7 | CC0-1.0",
        "commercial use of the weights | not allowed",
        "- It is a toy.",
        "- All else.",
        "@misc{toy",
        "0" * 64,
    ]:
        assert words in text


def test_a_published_card_names_its_commit(tmp_path: Path) -> None:
    values = entry()
    values |= {"status": "published", "hub": {**values["hub"], "repo_id": "toys/tiny", "revision": "a" * 40}}
    assert f"Published as `toys/tiny` at commit `{'a' * 40}`" in card(spec_of(tmp_path, values))


def test_the_readme_row_holds_name_input_organs_size_metrics_and_licence(tmp_path: Path) -> None:
    table = readme_table([spec_of(tmp_path, entry())])
    assert table.splitlines()[2] == (
        "| `tiny-toy` | chest x-ray (PA), 30×20 | heart | 0.0 MB | dice heart 0.912 (Toy set val, n = 3) "
        "| CC-BY-NC-4.0, non-commercial |"
    )


def test_nothing_is_shown_as_measured_that_was_not(tmp_path: Path) -> None:
    metrics = [m | {"value": None} for m in entry()["metrics"]]
    assert main_metrics(spec_of(tmp_path, entry(metrics=metrics))) == "not measured"


@pytest.mark.parametrize(
    ("classes", "words"),
    [
        (["lung_right", "lung_left", "heart"], "lungs, heart"),
        (["clavicle_left", "heart", "clavicle_right"], "clavicles, heart"),
        (["lung_right", "heart"], "lung_right, heart"),
        (["left", "right"], "left, right"),
    ],
)
def test_pairs_of_organs_are_named_once(tmp_path: Path, classes: list[str], words: str) -> None:
    output = {"kind": "mask", "classes": classes, "landmarks": None}
    assert organ_words(spec_of(tmp_path, entry(output=output))) == words


def test_cells_cannot_break_a_table() -> None:
    assert markdown_table(("a",), [("x|y\nz",)]).splitlines()[2] == "| x\\|y z |"


def test_the_readme_keeps_its_own_text() -> None:
    text = "before\n<!-- checkpoints:begin -->\nold\n<!-- checkpoints:end -->\nafter\n"
    once = insert_between_markers(text, "new\n")
    assert once == "before\n<!-- checkpoints:begin -->\n\nnew\n\n<!-- checkpoints:end -->\nafter\n"
    assert insert_between_markers(once, "new\n") == once


@pytest.mark.parametrize(
    "text", ["", "<!-- checkpoints:begin -->", "<!-- checkpoints:end --><!-- checkpoints:begin -->"]
)
def test_a_readme_without_markers_is_not_touched(text: str) -> None:
    assert insert_between_markers(text, "new\n") is None


def test_the_docs_page_shows_every_number(tmp_path: Path) -> None:
    page = docs_page([spec_of(tmp_path, entry())])
    assert "## tiny-toy" in page
    assert page.count("`anatozoo evaluate tiny-toy --data toy`") == 2
