"""Every fault of a manifest names the line, and no text at all makes the reader stumble."""

import re
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from anatozoo.errors import ManifestError
from anatozoo.zoo.manifest import read_manifest
from tests.support.zoo_fixtures import entry, write_manifest

pytestmark = pytest.mark.usefixtures("tiny_method")

VALID = yaml.safe_dump(
    {"schema_version": 1, "hub_organisation": None, "checkpoints": [entry(), entry(name="tiny-two")]},
    sort_keys=False,
)
LINES = VALID.splitlines()
quick = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def at(text: str, occurrence: int = 0) -> int:
    """Line of a text in the valid manifest, counted from 1."""
    return [i for i, line in enumerate(LINES, 1) if text in line][occurrence]


def without(first: int, count: int = 1) -> list[str]:
    return LINES[: first - 1] + LINES[first - 1 + count :]


def changed(line: int, old: str, new: str) -> list[str]:
    assert old in LINES[line - 1]
    return [*LINES[: line - 1], LINES[line - 1].replace(old, new), *LINES[line:]]


LICENSE = at("license:")
SOURCE = at("source:")
HASH = at("sha256:", 2)


@pytest.mark.parametrize(
    ("lines", "line", "words"),
    [
        pytest.param(
            [*LINES[:LICENSE], "    shared: true", *LINES[LICENSE:]],
            LICENSE + 1,
            "tiny-toy.license.shared: unknown key",
            id="unknown key",
        ),
        pytest.param(changed(HASH, "0000", "000g"), HASH, "sha256: must be a SHA-256", id="bad hash"),
        pytest.param(changed(HASH, "0000", "000"), HASH, "sha256: must be a SHA-256", id="short hash"),
        pytest.param(
            changed(at("name: tiny-two"), "tiny-two", "tiny-toy"),
            at("name: tiny-two"),
            "tiny-toy stands in line 4 already",
            id="duplicate name",
        ),
        pytest.param(without(LICENSE, 6), 4, "license missing", id="missing licence"),
        pytest.param(
            without(LICENSE + 1), LICENSE + 1, "license: weights missing", id="missing licence of the weights"
        ),
        pytest.param(
            changed(LICENSE + 1, "CC-BY-NC-4.0", "null"),
            LICENSE + 1,
            "license.weights: must be text",
            id="null licence",
        ),
        pytest.param(without(SOURCE), at("dataset: Toy set"), "measured[0]: source missing", id="no source"),
        pytest.param(
            changed(SOURCE, LINES[SOURCE - 1].split("source: ")[1], "''"),
            SOURCE,
            "measured[0].source: must not be blank",
            id="blank source",
        ),
        pytest.param(
            changed(at("size: 1"), "  size", "\tsize"), at("size: 1"), "a tab stands in this line", id="tab"
        ),
    ],
)
def test_a_fault_names_its_line(tmp_path: Path, lines: list[str], line: int, words: str) -> None:
    path = tmp_path / "m.yaml"
    path.write_text("\n".join(lines), encoding="utf-8")
    with pytest.raises(ManifestError) as caught:
        read_manifest(path)
    assert str(caught.value).startswith(f"{path}:{line}: ")
    assert words in str(caught.value)


def test_bytes_that_are_no_text_name_their_line(tmp_path: Path) -> None:
    path = tmp_path / "m.yaml"
    path.write_bytes(VALID.replace("A toy.", "Grüße.", 1).encode("latin-1"))
    with pytest.raises(ManifestError, match=rf"m\.yaml:{at('A toy.')}: not UTF-8 text; save it as UTF-8"):
        read_manifest(path)


def test_many_checkpoints_that_share_one_long_list_are_refused(tmp_path: Path) -> None:
    limitations = ["It is a toy."] * 6000
    path = write_manifest(
        tmp_path / "m.yaml", *[entry(name=f"tiny-{i}", limitations=limitations) for i in range(60)]
    )
    assert path.stat().st_size < 1_000_000
    with pytest.raises(ManifestError, match=r"m\.yaml:\d+: aliases"):
        read_manifest(path)


def test_three_dimensions_are_a_size(tmp_path: Path) -> None:
    values = entry()
    values["input"] |= {"size": [64, 48, 32]}
    (spec,) = read_manifest(write_manifest(tmp_path / "m.yaml", values)).checkpoints
    assert spec.input.size == (64, 48, 32)


def check(tmp_path: Path, data: bytes) -> None:
    """Reads it, or refuses it with a line that is there."""
    path = tmp_path / "m.yaml"
    path.write_bytes(data)
    if message := complaint(path):
        match = re.match(re.escape(str(path)) + r":(\d+): ", message)
        assert match, message
        assert 1 <= int(match[1]) <= len(data.splitlines()) + 2, message


def complaint(path: Path) -> str | None:
    try:
        read_manifest(path)
    except ManifestError as error:
        return str(error)
    return None


SYNTAX = [
    "&a ",
    "*a",
    "!!bool ",
    "!!int ",
    "!!binary ",
    "<<: ",
    "? ",
    "- ",
    "[",
    "]",
    "{",
    "}",
    ":",
    "'",
    '"',
]
ODD = [
    "|",
    ">",
    "#",
    "%",
    "---",
    "null",
    "~",
    ".nan",
    "1e999",
    "0x",
    "1:2",
    "\t",
    "\r",
    "\x00",
    "\ufeff",
    "\ud7ff",
]
SCRAPS = st.text(max_size=5) | st.sampled_from(SYNTAX + ODD)


@quick
@given(st.integers(0, len(VALID)), st.integers(0, 40), SCRAPS)
def test_a_scrap_anywhere_is_read_or_refused_with_a_line(
    tmp_path: Path, position: int, gone: int, scrap: str
) -> None:
    text = VALID[:position] + scrap + VALID[position + gone :]
    check(tmp_path, text.encode("utf-8", "surrogatepass"))


@quick
@given(st.lists(st.integers(0, len(LINES) - 1), min_size=1, max_size=3), st.booleans())
def test_lines_may_be_lost_or_stand_twice(tmp_path: Path, numbers: list[int], twice: bool) -> None:
    copies = [(2 if twice else 0) if i in numbers else 1 for i in range(len(LINES))]
    lines = [line for line, count in zip(LINES, copies, strict=True) for _ in range(count)]
    check(tmp_path, "\n".join(lines).encode())


@quick
@given(st.binary(max_size=60))
def test_any_bytes_are_refused_with_a_line(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "m.yaml"
    path.write_bytes(data)
    with pytest.raises(ManifestError, match=r"m\.yaml:\d+: "):
        read_manifest(path)
