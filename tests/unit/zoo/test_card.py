import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import ModelCard

from anatozoo.zoo.card import card
from anatozoo.zoo.manifest import read_manifest
from anatozoo.zoo.spec import WITHHELD, CheckpointSpec
from anatozoo.zoo.tables import limitations, markdown_table, organ_words
from docs import pages
from docs.card_pages import page
from docs.pages import (
    checkpoint_table,
    docs_page,
    insert_between_markers,
    main_metrics,
    readme_table,
    withheld_metrics,
)
from docs.results_page import training_words
from tests.support.zoo_fixtures import entry, number, write_manifest

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
    text = card(spec_of(tmp_path, entry(measured=[])))
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


def test_the_row_of_a_checkpoint_holds_name_input_organs_size_metrics_and_licence(tmp_path: Path) -> None:
    table = checkpoint_table([spec_of(tmp_path, entry())])
    assert table.splitlines()[2] == (
        "| [`tiny-toy`](../anatozoo/checkpoints/tiny-toy/README.md) "
        "| chest x-ray (PA), 30×20 | heart | 0.0 MB | dice heart 0.912 (Toy set; val; n = 3) "
        "|  | CC-BY-NC-4.0, non-commercial |"
    )


@pytest.mark.parametrize(
    ("chose", "mark", "sentence"),
    [
        ("weights", "val, chosen on this split", "weights that were best on the split val were kept"),
        ("settings", "val, settings chosen on this split", "the weights are the last of the training"),
    ],
)
def test_numbers_on_the_split_that_chose_are_marked_everywhere(
    tmp_path: Path, chose: str, mark: str, sentence: str
) -> None:
    values = entry(
        measured=[*entry()["measured"], number(0.9, split="test")], selection={"split": "val", "chose": chose}
    )
    spec = spec_of(tmp_path, values)
    text = card(spec)
    assert text.count(f"| Toy set | {mark} | 3 | dice | heart |") == 1
    assert text.count("| Toy set | test | 3 | dice | heart |") == 1
    assert sentence in text.split("## Limitations")[1].split("\n## ")[0]
    assert [result["dataset"]["name"] for result in front_matter(text)["model-index"][0]["results"]] == [
        f"Toy set ({mark})",
        "Toy set",
    ]
    assert main_metrics(spec) == f"dice heart 0.912 (Toy set; {mark}; n = 3)"
    assert f"{mark}; n = 3)" in docs_page([spec])


def test_without_a_known_choice_nothing_is_claimed(tmp_path: Path) -> None:
    spec = spec_of(tmp_path, entry())
    assert "chosen on this split" not in card(spec)
    assert limitations(spec) == spec.limitations


def test_a_withheld_test_has_a_column_of_its_own_and_names_the_version_it_measured(tmp_path: Path) -> None:
    of_old = {"split": WITHHELD, "n": 9, "version": "0.9.0"}
    withheld = number(0.8, **of_old)
    withheld["values"] = {"dice": {"heart": 0.8, "lung": 0.7}, "hd_px": {"heart": 4.0}}
    elsewhere = number(0.6, **{**of_old, "version": "1.0.0"}, dataset="Elsewhere")
    spec = spec_of(tmp_path, entry(measured=[withheld, elsewhere, *entry()["measured"]]))
    assert main_metrics(spec) == "dice heart 0.912 (Toy set; val; n = 3)"
    assert withheld_metrics(spec) == (
        "dice heart 0.800, lung 0.700 (Toy set; n = 9) (version 0.9.0); dice heart 0.600 (Elsewhere; n = 9)"
    )
    text = card(spec)
    assert f"| Toy set | {WITHHELD} | 9 | dice | heart | 0.800 (version 0.9.0) |" in text
    assert f"| Elsewhere | {WITHHELD} | 9 | dice | heart | 0.600 |" in text


def test_a_repair_is_shown_before_and_after(tmp_path: Path) -> None:
    after, before = number(0.9, "dice_after"), number(0.7, "dice_before")
    elsewhere = number(0.1, "dice_before", dataset="Elsewhere")
    spec = spec_of(tmp_path, entry(measured=[after, elsewhere, before]))
    assert main_metrics(spec) == "dice heart 0.700 before, 0.900 after (Toy set; val; n = 3)"
    alone = spec_of(tmp_path, entry(measured=[after]))
    assert main_metrics(alone) == "dice_after heart 0.900 (Toy set; val; n = 3)"


def test_training_data_are_named_in_short(tmp_path: Path) -> None:
    toys = entry()["training_data"][0]
    data = [toys | {"name": "Toys (train split)", "n": 1281}, toys | {"name": "Dolls", "n": None}]
    assert training_words(spec_of(tmp_path, entry(training_data=data))) == "Toys (1,281); Dolls"


def test_nothing_is_shown_as_measured_that_was_not(tmp_path: Path) -> None:
    assert main_metrics(spec_of(tmp_path, entry(measured=[number(None)]))) == "not measured"


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
    output = {"kind": "labels", "classes": classes, "landmarks": None}
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


def test_the_readme_keeps_what_people_need(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    withheld = number(0.8, split=WITHHELD, n=9, version="0.9.0")
    spec = spec_of(tmp_path, entry(measured=[*entry()["measured"], withheld]))
    assert f"| `tiny-toy` | {spec.summary} |" in readme_table([spec])
    monkeypatch.setattr(pages, "README_ROWS", {"tiny-toy": "toys"})
    rows = [line for line in readme_table([spec]).splitlines() if line.startswith("| `")]
    assert rows == [
        "| `tiny-toy` | toys | dice heart 0.912, n = 3 | dice heart 0.800, n = 9 (version 0.9.0) "
        "| CC-BY-NC-4.0 |"
    ]


def test_a_cards_page_shows_every_number_and_says_a_source_once(tmp_path: Path) -> None:
    text = page(spec_of(tmp_path, entry()), tmp_path, pictures=False)
    assert text.startswith("\n# tiny-toy\n")
    assert "pipeline_tag" not in text
    assert text.count("`anatozoo evaluate tiny-toy --data toy`") == 1
    assert re.search(r"\| 0\.912 \| `anatozoo evaluate.*\n.*\| not measured \| \" \|", text)
