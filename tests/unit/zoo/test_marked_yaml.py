from pathlib import Path

import pytest

from anatozoo.errors import ManifestError
from anatozoo.zoo import marked_yaml
from anatozoo.zoo.marked_yaml import Marked


def read(tmp_path: Path, text: str | bytes) -> Marked:
    path = tmp_path / "m.yaml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return Marked.parse(path)


def refusal(tmp_path: Path, text: str | bytes) -> str:
    """The complaint after the file's name: line and reason."""
    with pytest.raises(ManifestError) as caught:
        read(tmp_path, text)
    start = f"{tmp_path / 'm.yaml'}:"
    assert str(caught.value).startswith(start)
    return str(caught.value).removeprefix(start)


def test_a_byte_order_mark_is_no_part_of_the_text(tmp_path: Path) -> None:
    assert read(tmp_path, b"\xef\xbb\xbfa: 1\n").mapping()["a"].read(int) == 1


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (b"a: 1\nb: \xff\n", "2: not UTF-8 text"),
        ("a: 1\nb:\tx\n\tc: 2\n", "3: not valid YAML"),
        ("a: 1\nb: \x07\n", "2: holds the control character '\\x07'"),
        ("a: 1\nb: 'open\n", "3: not valid YAML"),
        ("a: 1\nb: *nowhere\n", "2: not valid YAML: found undefined alias"),
        ("a: 1\n---\nb: 2\n", "2: not valid YAML"),
        ("", "1: the manifest is empty"),
        ("# nothing but this\n", "1: the manifest is empty"),
        ("a:\n- " + "[" * 100_000, "2: not valid YAML"),
    ],
)
def test_a_file_that_is_no_yaml_is_refused_with_the_line(
    tmp_path: Path, text: str | bytes, complaint: str
) -> None:
    assert refusal(tmp_path, text).startswith(complaint)


def test_a_tab_is_called_one(tmp_path: Path) -> None:
    message = refusal(tmp_path, "a:\n\tb: 1\n")
    assert message.startswith("2: ")
    assert "a tab stands in this line, and YAML is indented with spaces" in message


def test_a_folder_is_no_manifest(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="cannot read the manifest"):
        Marked.parse(tmp_path)


@pytest.mark.parametrize(
    "text", ["a: &x\n  b: 1\n  c: *x\n", "a:\n- &x [1, *x]\n", "&x\na: 1\nb: {c: [*x]}\n"]
)
def test_an_alias_to_what_it_stands_in_is_refused(tmp_path: Path, text: str) -> None:
    assert "an alias (*name) stands inside of what it repeats" in refusal(tmp_path, text)


def test_a_bomb_of_aliases_is_refused_at_once(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 30)]
    message = refusal(tmp_path, "\n".join(lines))
    assert message.startswith("6: aliases (*name) repeat this to more than 300000 values")


def test_a_list_that_is_named_again_and_again_counts_each_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "a: &a [1, 2, 3]\n" + "".join(f"b{i}: *a\n" for i in range(10))
    monkeypatch.setattr(marked_yaml, "_MOST_VALUES", 54)
    assert "more than 54 values" in refusal(tmp_path, text)
    monkeypatch.setattr(marked_yaml, "_MOST_VALUES", 56)
    assert read(tmp_path, text).mapping()["b9"].read(tuple[int, ...]) == (1, 2, 3)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("!!bool maybe", "not of a type"),
        ("!!int ''", "not of a type"),
        ("!!timestamp soon", "not of a type"),
        ("!!python/name:os.system ''", "not of a type"),
        ("!!set ''", "must be text"),
        ("9" * 5000, "not of a type"),
        ("2026-01-01", "must be text, not '2026-01-01'; put it in quotes"),
        ("null", "must be text; a value is needed here"),
        ('"a\\e[31mb"', "must not hold the control character '\\x1b'"),
        ('"a\\0b"', "must not hold the control character"),
        ("[a]", "must be a single value"),
    ],
)
def test_a_value_that_is_no_text_is_refused_with_the_line(tmp_path: Path, text: str, words: str) -> None:
    value = read(tmp_path, f"# first\na: {text}\n").mapping()["a"]
    with pytest.raises(ManifestError) as caught:
        value.read(str)
    assert str(caught.value).startswith(f"{tmp_path / 'm.yaml'}:2: a: ")
    assert words in str(caught.value)


def test_line_feeds_and_tabs_may_stand_in_a_text(tmp_path: Path) -> None:
    assert read(tmp_path, 'a: "x\\n\\ty"\n').mapping()["a"].read(str) == "x\n\ty"


def test_an_unknown_key_is_named_at_its_own_line(tmp_path: Path) -> None:
    value = read(tmp_path, "a: 1\nextra:\n  # far\n  # away\n  b: 2\n")
    with pytest.raises(ManifestError, match=r"m\.yaml:2: extra: unknown key; the keys here are a\."):
        value.fields(["a"])


def test_a_misspelt_key_gets_a_hint(tmp_path: Path) -> None:
    value = read(tmp_path, "license: 1\nlicence: 2\n")
    with pytest.raises(ManifestError, match=r"m\.yaml:2: licence: unknown key; .* Did you mean license\?"):
        value.fields(["license"])


def test_a_key_that_is_no_word_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"m\.yaml:1: a key must be a plain word"):
        read(tmp_path, "? [a, b]\n: 1\n").mapping()
