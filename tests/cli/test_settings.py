"""Configuration files of fits with mistakes: one sentence, with file and line."""

import os
from pathlib import Path

import pytest

from anatozoo.cli.main import main
from anatozoo.cli.settings import read_settings
from anatozoo.cli.train import in_order
from anatozoo.errors import ConfigError

MISTAKES = {
    "syntax": (b"model:\n  a: [1\n", ":3: not valid YAML"),
    "a tab": (b"model:\n\ta: 1\n", ":2: not valid YAML"),
    "a tag": (b"a: 1\nb: !!python/name:os.system\n", ":2: could not determine a constructor"),
    "a date": (b"a: 2020-99-99\n", ":1: cannot be read"),
    "latin-1": (b"a: 1\nb: \xe9\n", ":2: not UTF-8 text"),
    "utf-16": ("a: 1".encode("utf-16"), ":1: not UTF-8 text"),
    "nested": (b"[" * 20_000, ":1: "),
    "a list": (b"- a\n- b\n", ":1: must be a mapping"),
    "a word": (b"hello\n", ":1: must be a mapping"),
    "empty": (b"", ":1: the configuration is empty"),
    "a comment": (b"# nothing\n", ":1: the configuration is empty"),
    "two documents": (b"a: 1\n---\nb: 1\n", ":2: not valid YAML"),
    "twice": (b"a: 1\na: 2\n", ":2: a: this key stands twice"),
    "a bomb": (
        b"a: &a [x, x]\n"
        + b"".join(b"%c: &%c [*%c, *%c]\n" % (98 + i, 98 + i, 97 + i, 97 + i) for i in range(24)),
        "repeat this to more",
    ),
    "itself": (b"a: &a [*a]\n", "stands inside of what it repeats"),
    "numbers": (b"1: 2\n", "must be words"),
    "zero bytes": (b"a: \0\n", ":1: "),
}


@pytest.mark.parametrize(("content", "words"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_a_sentence_with_file_and_line(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "c.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        in_order(["fit", "--config", str(path)])
    text = str(caught.value)
    assert text.startswith(str(path))
    assert words in text
    assert text.isprintable()


def test_what_is_no_file_is_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ConfigError, match="no such file, and no shipped configuration"):
        in_order(["fit", "--config", str(tmp_path / "gone.yaml")])
    with pytest.raises(ConfigError, match="a folder, a device or a pipe"):
        in_order(["fit", "--config", str(tmp_path)])
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe.yaml")
        with pytest.raises(ConfigError, match="a folder, a device or a pipe"):
            in_order(["fit", "--config", str(tmp_path / "pipe.yaml")])
    assert main(["fit", "--config", str(tmp_path)]) == 1
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_settings_of_a_good_file_are_read(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_bytes(b"\xef\xbb\xbfmethod: unet\nmodel: {lr: 1e-3}\nnone:\n")
    assert read_settings(path) == {"method": "unet", "model": {"lr": "1e-3"}, "none": None}
