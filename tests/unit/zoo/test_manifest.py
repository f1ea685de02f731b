import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from anatozoo.errors import ManifestError
from anatozoo.zoo.catalogue import manifest_path
from anatozoo.zoo.manifest import read_manifest
from anatozoo.zoo.spec import Selection
from tests.support.zoo_fixtures import COMMIT, entry, number, write_manifest

pytestmark = pytest.mark.usefixtures("tiny_method")


def refusal(path: Path) -> str:
    with pytest.raises(ManifestError) as caught:
        read_manifest(path)
    return str(caught.value)


def with_value(keys: tuple[str | int, ...], value: object) -> dict[str, Any]:
    """A valid entry but for the value at this place."""
    values: Any = entry()
    inner = values
    for key in keys[:-1]:
        inner = inner[key]
    inner[keys[-1]] = value
    return values


def line_of(path: Path, text: str) -> int:
    return next(i for i, line in enumerate(path.read_text().splitlines(), 1) if text in line)


def test_own_manifest_is_valid() -> None:
    read_manifest(manifest_path())


def test_a_valid_entry_becomes_a_record(tmp_path: Path) -> None:
    (spec,) = read_manifest(write_manifest(tmp_path / "m.yaml", entry())).checkpoints
    assert spec.name == "tiny-toy"
    assert spec.input.size == (30, 20)
    assert spec.output.landmarks == {"heart": 5}
    assert spec.metrics[0].class_ == "heart"
    assert spec.metrics[1].value is None
    assert spec.size_bytes == 3
    with pytest.raises(AttributeError):
        spec.version = "2.0.0"  # type: ignore[misc]


def test_a_record_has_the_manifests_own_keys_and_values(tmp_path: Path) -> None:
    (spec,) = read_manifest(write_manifest(tmp_path / "m.yaml", entry())).checkpoints
    measured = [{**each, "version": None} for each in entry()["measured"]]
    found = json.loads(json.dumps(dataclasses.asdict(spec)))
    left_out = {"remarks": None, "selection": None, "build": None}
    assert found == {**entry(), "measured": measured, **left_out}


def test_json_has_the_numbers_one_by_one(tmp_path: Path) -> None:
    (spec,) = read_manifest(write_manifest(tmp_path / "m.yaml", entry())).checkpoints
    assert [(row["metric"], row["class"], row["value"]) for row in spec.to_dict()["metrics"]] == [
        ("dice", "heart", 0.912345),
        ("hd_px", "heart", None),
    ]
    assert "measured" not in spec.to_dict()


def test_what_a_split_has_chosen_and_which_version_was_measured_are_read(tmp_path: Path) -> None:
    values = with_value(("measured", 0, "version"), "0.9.0") | {
        "selection": {"split": "val", "chose": "weights"},
    }
    values["measured"].append(number(0.5))
    (spec,) = read_manifest(write_manifest(tmp_path / "m.yaml", values)).checkpoints
    assert spec.selection == Selection("val", "weights")
    assert [metric.version for metric in spec.metrics] == ["0.9.0", "0.9.0", None]
    assert spec.to_dict()["selection"] == values["selection"]


@pytest.mark.parametrize(
    ("keys", "value", "words"),
    [
        (("selection",), {"split": "val", "chose": "luck"}, "one of weights, settings"),
        (("selection",), {"split": "val"}, "chose missing"),
        (("selection",), {"split": "val", "chose": "weights", "when": "late"}, "unknown key"),
        (("selection",), "val", "must be a mapping"),
        (("measured", 0, "version"), "1.0", "three numbers"),
        (("measured", 0, "versions"), "1.0.0", "unknown key"),
        (("name",), "Tiny-Toy", "<method>-<data>[-<variant>]"),
        (("name",), "tiny", "<method>-<data>[-<variant>]"),
        (("name",), "tiny-../x", "<method>-<data>[-<variant>]"),
        (("name",), "other-toy", "must start with the method: tiny-"),
        (("method",), "tinny", "did you mean tiny"),
        (("version",), "1.0", "three numbers"),
        (("version",), 1.0, "three numbers"),
        (("status",), "done", "one of bundled, published, deprecated"),
        (("status",), "published", "repo_id and revision"),
        (("bundled",), False, "must be true where status is bundled"),
        (("bundled",), "yes", "must be true or false"),
        (("summary",), "  ", "must not be blank"),
        (("summary",), 3, "in quotes"),
        (("hub", "revision"), "main", "full commit of 40 hex digits"),
        (("hub", "revision"), COMMIT, "both given or both null"),
        (("hub", "repo_id"), "https://example.org/x", "organisation/name"),
        (("hub", "files", "model.safetensors", "sha256"), "0" * 63, "64 lower-case hex digits"),
        (("hub", "files", "model.safetensors", "sha256"), "G" * 64, "64 lower-case hex digits"),
        (("hub", "files", "model.safetensors", "size"), "12", "a whole number"),
        (("hub", "files", "model.safetensors", "size"), 0, "at least 1"),
        (("hub", "files", "weights.pkl"), {"sha256": "0" * 64, "size": 1}, "unknown file"),
        (("hub", "files", "../config.json"), {"sha256": "0" * 64, "size": 1}, "unknown file"),
        (("license", "weights"), None, "must be text"),
        (("license", "commercial_use"), "no", "must be true or false"),
        (("input", "size"), [30], "[width, height]"),
        (("input", "fit"), "crop", "one of pad, stretch, spacing"),
        (("input", "polarity"), "white", "one of bone-white"),
        (("input", "spacing_mm"), 0, "must be positive"),
        (("input", "spacing_mm"), True, "a number"),
        (("output", "classes"), [], "must not be empty"),
        (("output", "landmarks"), {"lung": 5}, "must name the classes"),
        (("measured", 0, "values", "dice", "heart"), float("nan"), "must be finite"),
        (("measured", 0, "values", "dice"), 0.9, "must be a mapping"),
        (("measured", 0, "values", "dice", " "), 0.9, "must not be blank"),
        (("measured", 0, "source"), "", "must not be blank"),
        (("measured", 0, "values", "HD (mm)"), {"heart": 1.0}, "with its unit"),
        (("training_data",), [], "must not be empty"),
        (("training_data", 0, "url"), "ftp://x", "a web address"),
        (("training", "git_sha"), "abc", "full commit"),
        (("limitations",), "none", "must be a list"),
        (("input",), "x-ray", "must be a mapping"),
        (("citation",), "Toy et al.", "BibTeX"),
        (("extra",), 1, "unknown key; the keys here are name, method"),
        (("license", "weight"), "MIT", "unknown key; the keys here are weights"),
    ],
)
def test_a_wrong_value_is_refused_with_its_line(
    tmp_path: Path, keys: tuple[str | int, ...], value: object, words: str
) -> None:
    message = refusal(write_manifest(tmp_path / "m.yaml", with_value(keys, value)))
    assert words in message
    assert message.startswith(f"{tmp_path / 'm.yaml'}:")


@pytest.mark.parametrize(
    ("keys", "owner"),
    [
        (("license",), "tiny-toy"),
        (("license", "weights"), "license"),
        (("measured", 0, "source"), "measured[0]"),
        (("hub", "files", "golden.safetensors"), "files"),
        (("limitations",), "tiny-toy"),
    ],
)
def test_a_missing_key_is_named(tmp_path: Path, keys: tuple[str | int, ...], owner: str) -> None:
    values: Any = entry()
    inner = values
    for key in keys[:-1]:
        inner = inner[key]
    del inner[keys[-1]]
    message = refusal(write_manifest(tmp_path / "m.yaml", values))
    assert f"{keys[-1]} missing" in message
    assert owner in message


def test_the_line_is_that_of_the_value(tmp_path: Path) -> None:
    path = write_manifest(
        tmp_path / "m.yaml", entry(), with_value(("input", "fit"), "crop") | {"name": "tiny-b"}
    )
    assert refusal(path).startswith(f"{path}:{line_of(path, 'fit: crop')}: tiny-b.input.fit: ")


def test_a_repeated_name_names_both_lines(tmp_path: Path) -> None:
    path = write_manifest(tmp_path / "m.yaml", entry(), entry())
    lines = [i for i, line in enumerate(path.read_text().splitlines(), 1) if "name: tiny-toy" in line]
    message = refusal(path)
    assert message.startswith(f"{path}:{lines[1]}:")
    assert f"stands in line {lines[0]} already" in message


def test_a_repeated_key_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.yaml"
    path.write_text("schema_version: 1\nhub_organisation: null\ncheckpoints: []\ncheckpoints: []\n")
    assert refusal(path) == f"{path}:4: checkpoints: this key stands twice; keep one."


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is empty"),
        ("a: [1\nb: 2\n", "not valid YAML"),
        ("- 1\n", "must be a mapping"),
        ("schema_version: 2\nhub_organisation: null\ncheckpoints: []\n", "reads version 1, not 2"),
        ("schema_version: 1\ncheckpoints: []\n", "hub_organisation missing"),
        ("schema_version: 1\nhub_organisation: null\ncheckpoints: !!python/object:os.system []\n", ""),
        ("a: " + "[" * 5000, "not valid YAML"),
    ],
)
def test_a_file_that_is_no_manifest_is_refused(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "m.yaml"
    path.write_text(text)
    if "python/object" in text:
        # A tag that other loaders would run: composed as a plain list, nothing is constructed.
        assert read_manifest(path).checkpoints == ()
    else:
        assert words in refusal(path)


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    (tmp_path / "m.yaml").write_bytes(b"\xff\xfe\x00")
    assert "not UTF-8" in refusal(tmp_path / "m.yaml")


def test_digits_alone_are_a_hash_and_not_a_number(tmp_path: Path) -> None:
    path = write_manifest(
        tmp_path / "m.yaml", with_value(("hub", "files", "config.json", "sha256"), "1" * 64)
    )
    path.write_text(path.read_text().replace(f"'{'1' * 64}'", "1" * 64))
    assert isinstance(
        yaml.safe_load(path.read_text())["checkpoints"][0]["hub"]["files"]["config.json"]["sha256"], int
    )
    assert read_manifest(path).checkpoints[0].hub.files["config.json"].sha256 == "1" * 64
