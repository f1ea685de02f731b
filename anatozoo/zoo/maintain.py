"""Keep manifest, cards and tables in step: ``python -m anatozoo.zoo.maintain hashes|cards|readme|all|check``.

Hashes are written from bytes, never by hand; cards and tables are generated. ``check`` tells what differs.
"""

import argparse
import sys
from pathlib import Path

import yaml

from anatozoo.errors import AnatozooError, ManifestError
from anatozoo.zoo.card import card
from anatozoo.zoo.catalogue import PACKAGE
from anatozoo.zoo.files import fingerprint, write_text
from anatozoo.zoo.manifest import FILE_NAME, read_manifest
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
    path = project / FILE_NAME
    text = path.read_text(encoding="utf-8")
    edits: list[tuple[int, int, str]] = []
    changed = []
    for name, file, node in _listed_files(text, path):
        source = project / "anatozoo" / "checkpoints" / name / file
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
    """All generated files with the text that they should hold: cards, README, page of the documentation.

    Raises:
        ManifestError: the manifest is not valid, or the README lacks the markers of its table.
    """
    specs = read_manifest(project / FILE_NAME).checkpoints
    bundled = [spec for spec in specs if spec.bundled]
    files = {project / "anatozoo" / "checkpoints" / spec.name / "README.md": card(spec) for spec in bundled}
    files[project / "docs" / "checkpoints.md"] = docs_page(specs)
    readme = project / "README.md"
    text = insert_between_markers(readme.read_text(encoding="utf-8"), readme_table(specs))
    if text is None:
        raise ManifestError(f"{readme} needs the lines {README_BEGIN} and {README_END} around its table.")
    files[readme] = text
    return files


def stale(project: Path = PROJECT) -> list[Path]:
    """Generated files that differ from what the manifest says now."""
    return [path for path, text in generated(project).items() if not _holds(path, text)]


def main(argv: list[str] | None = None) -> int:
    """Run one of the tasks; 0 where all is well, 1 where `check` finds a difference or an error occurs."""
    parser = argparse.ArgumentParser(prog="python -m anatozoo.zoo.maintain", description=__doc__)
    parser.add_argument("task", choices=("hashes", "cards", "readme", "all", "check"))
    task = parser.parse_args(argv).task
    try:
        if task in ("hashes", "all"):
            print("\n".join(refresh_manifest_hashes()) or "hashes: nothing changed")
        differing = [] if task == "hashes" else stale()
        texts = generated() if differing else {}
    except AnatozooError as error:
        print(f"maintain: error: {error}", file=sys.stderr)
        return 1
    if task == "check":
        for path in differing:
            print(
                f"{path.relative_to(PROJECT)} is out of date; run `maintain all`",
                file=sys.stderr,
            )
        return 1 if differing else 0
    for path in differing:
        is_card = path.parent.parent.name == "checkpoints"
        if task == "all" or is_card == (task == "cards"):
            write_text(path, texts[path])
            print(f"wrote {path.relative_to(PROJECT)}")
    return 0


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
