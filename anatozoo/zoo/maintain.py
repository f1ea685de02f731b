"""Keep manifest, cards and tables in step: ``python -m anatozoo.zoo.maintain hashes|cards|readme|all|check``.

Hashes are written from bytes, never by hand; cards and tables are generated. ``check`` tells what differs.
``--manifest FILE`` does the same for a private zoo, whose weights lie in ``checkpoints/NAME`` beside the file
and which has cards only.
"""

import argparse
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

import yaml

from anatozoo.errors import AnatozooError, ManifestError
from anatozoo.zoo.card import card
from anatozoo.zoo.catalogue import PACKAGE
from anatozoo.zoo.files import fingerprint, write_text
from anatozoo.zoo.manifest import FILE_NAME, read_manifest
from anatozoo.zoo.private import WEIGHTS_FOLDER
from anatozoo.zoo.results_page import results_page
from anatozoo.zoo.spec import CheckpointSpec
from anatozoo.zoo.tables import README_BEGIN, README_END, docs_page, insert_between_markers, readme_table

PROJECT = PACKAGE.parent
"""A source checkout; an installed package has nothing to maintain."""


def refresh_manifest_hashes(project: Path = PROJECT) -> list[str]:
    """Write size and SHA-256 of every bundled file into the manifest, leaving all other text as it is.

    Args:
        project: root of a source checkout.

    Returns:
        What changed, one line a file.

    Raises:
        ManifestError: a listed file is missing in its folder, or the manifest is not valid.
    """
    return _refresh(project / FILE_NAME, project / "anatozoo" / WEIGHTS_FOLDER)


def _refresh(path: Path, folders: Path) -> list[str]:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        read_manifest(path)  # says precisely what is wrong where
        raise
    edits: list[tuple[int, int, str]] = []
    changed = []
    for name, file, node in _listed_files(text, path):
        source = folders / name / file
        if not source.is_file():
            raise ManifestError(
                f"{path}:{node.start_mark.line + 1}: {source} is missing; export the checkpoint."
            )
        record = fingerprint(source)
        values = _children(node)
        fresh = {"sha256": record.sha256, "size": str(record.size)}
        for key, value in fresh.items():
            if key not in values:
                raise ManifestError(f"{path}:{node.start_mark.line + 1}: {file} needs {key}; write 0.")
            if values[key].value != value:
                edits.append((values[key].start_mark.index, values[key].end_mark.index, value))
                changed.append(f"{name}/{file}: {key} {value}")
    # From the end, so that earlier positions stay right.
    for start, end, value in sorted(edits, reverse=True):
        text = text[:start] + value + text[end:]
    if edits:
        write_text(path, text)
    read_manifest(path)
    return changed


def generated(project: Path = PROJECT) -> dict[Path, str]:
    """All generated files with the text that they should hold: cards, README, pages of the documentation.

    Raises:
        ManifestError: the manifest is not valid, or the README lacks the markers of its table.
    """
    specs = read_manifest(project / FILE_NAME).checkpoints
    files = _cards(specs, project / "anatozoo" / WEIGHTS_FOLDER, private=False)
    files[project / "docs" / "checkpoints.md"] = docs_page(specs)
    files[project / "docs" / "results.md"] = results_page(project / "docs", specs)
    readme = project / "README.md"
    text = insert_between_markers(readme.read_text(encoding="utf-8"), readme_table(specs))
    if text is None:
        raise ManifestError(f"{readme} needs the lines {README_BEGIN} and {README_END} around its table.")
    files[readme] = text
    return files


def private_cards(path: Path) -> dict[Path, str]:
    """The cards of a private zoo's bundled checkpoints with the text that they should hold.

    Raises:
        ManifestError: the manifest is not valid.
    """
    return _cards(read_manifest(path).checkpoints, path.parent / WEIGHTS_FOLDER, private=True)


def _cards(specs: Iterable[CheckpointSpec], folders: Path, *, private: bool) -> dict[Path, str]:
    bundled = [spec for spec in specs if spec.bundled]
    return {folders / spec.name / "README.md": card(spec, private=private) for spec in bundled}


def stale(project: Path = PROJECT) -> list[Path]:
    """Generated files that differ from what the manifest says now."""
    return _differing(generated(project))


def _differing(files: Mapping[Path, str]) -> list[Path]:
    return [path for path, text in files.items() if not _holds(path, text)]


def main(argv: list[str] | None = None) -> int:
    """Run one of the tasks; 0 where all is well, 1 where `check` finds a difference or an error occurs."""
    parser = argparse.ArgumentParser(prog="python -m anatozoo.zoo.maintain", description=__doc__)
    parser.add_argument("task", choices=("hashes", "cards", "readme", "all", "check"))
    parser.add_argument("--manifest", metavar="FILE", type=Path, help="the manifest of a private zoo")
    args = parser.parse_args(argv)
    task, path = args.task, args.manifest
    if path is not None and task == "readme":
        parser.error("a private zoo has no README to fill; write cards or all.")
    try:
        if task in ("hashes", "all"):
            if path is None:
                changed = refresh_manifest_hashes()
            else:
                changed = _refresh(path, path.parent / WEIGHTS_FOLDER)
            print("\n".join(changed) or "hashes: nothing changed")
        if task == "hashes":
            return 0
        texts = generated() if path is None else private_cards(path)
        return _complain(texts) if task == "check" else _write(texts, task)
    except AnatozooError as error:
        print(f"maintain: error: {error}", file=sys.stderr)
        return 1


def _complain(texts: Mapping[Path, str]) -> int:
    differing = _differing(texts)
    for path in differing:
        print(f"{_short(path)} is out of date; run `maintain all`", file=sys.stderr)
    return 1 if differing else 0


def _write(texts: Mapping[Path, str], task: str) -> int:
    for path in _differing(texts):
        is_card = path.parent.parent.name == WEIGHTS_FOLDER
        if task == "all" or is_card == (task == "cards"):
            write_text(path, texts[path])
            print(f"wrote {_short(path)}")
    return 0


def _short(path: Path) -> Path:
    return path.relative_to(PROJECT) if path.is_relative_to(PROJECT) else path


def _holds(path: Path, text: str) -> bool:
    return path.is_file() and path.read_text(encoding="utf-8") == text


def _listed_files(text: str, path: Path) -> list[tuple[str, str, yaml.Node]]:
    """(checkpoint, file, record node) of every bundled entry, not validated: hashes may be blank yet."""
    try:
        # PyYAML's own parser: its marks count characters of the text, which the edits rely on.
        entries = _children(yaml.compose(text, Loader=yaml.SafeLoader))["checkpoints"].value
        found = []
        for entry in map(_children, entries):
            if entry["bundled"].value == "true":
                files = _children(_children(entry["hub"])["files"])
                found += [(entry["name"].value, file, node) for file, node in files.items()]
    except (yaml.YAMLError, KeyError, AttributeError) as error:
        read_manifest(path)  # says precisely what is wrong where
        raise ManifestError(f"{path}: {error}") from error
    return found


def _children(node: yaml.Node | None) -> dict[str, yaml.Node]:
    return {key.value: value for key, value in node.value} if isinstance(node, yaml.MappingNode) else {}


if __name__ == "__main__":
    sys.exit(main())
