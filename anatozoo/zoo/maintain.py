"""Keep manifest and cards in step: ``python -m anatozoo.zoo.maintain hashes|cards|all|check``.

Hashes are written from bytes, never by hand; cards are generated. ``check`` tells which cards differ.
Weights of experiments have hashes and no card. ``--manifest FILE`` is for a private zoo, whose weights lie in
``checkpoints/NAME`` beside the file.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml

from anatozoo.errors import AnatozooError, ManifestError
from anatozoo.zoo.card import card
from anatozoo.zoo.catalogue import EXPERIMENTS, PACKAGE
from anatozoo.zoo.edits import Edit, by_key, edited, entries
from anatozoo.zoo.files import fingerprint, write_text
from anatozoo.zoo.manifest import FILE_NAME, read_manifest
from anatozoo.zoo.private import WEIGHTS_FOLDER
from anatozoo.zoo.spec import EXPERIMENT

PROJECT = PACKAGE.parent
"""A source checkout; an installed package has nothing to maintain."""


def refresh_hashes(path: Path, folders: Path) -> list[str]:
    """Write size and SHA-256 of every bundled file into a manifest, leaving all other text as it is.

    Args:
        path: the manifest.
        folders: where the folders of its checkpoints lie.

    Returns:
        What changed, one line a file.

    Raises:
        ManifestError: a listed file is missing in its folder, or the manifest is not valid.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        read_manifest(path)  # says precisely what is wrong where
        raise
    edits: list[Edit] = []
    changed = []
    for name, file, node in _listed_files(text, path):
        source = folders / name / file
        line = node.start_mark.line + 1
        if not source.is_file():
            raise ManifestError(f"{path}:{line}: {source} is missing; export the checkpoint.")
        record = fingerprint(source)
        values = by_key(node)
        for key, value in {"sha256": record.sha256, "size": str(record.size)}.items():
            if key not in values:
                raise ManifestError(f"{path}:{line}: {file} needs {key}; write 0.")
            if values[key].value != value:
                edits.append((values[key], value))
                changed.append(f"{name}/{file}: {key} {value}")
    if edits:
        write_text(path, edited(text, edits))
    read_manifest(path)
    return changed


def cards(path: Path, folders: Path, *, private: bool) -> dict[Path, str]:
    """The cards of a manifest's bundled checkpoints with the text that they should hold.

    Those of experiments have none: they are many and alike, and `anatozoo card` prints it.

    Args:
        path: the manifest.
        folders: where the folders of its checkpoints lie.
        private: whether it is of a private zoo.

    Raises:
        ManifestError: the manifest is not valid.
    """
    bundled = [spec for spec in read_manifest(path).checkpoints if spec.bundled and spec.status != EXPERIMENT]
    return {folders / spec.name / "README.md": card(spec, private=private) for spec in bundled}


def differing(files: Mapping[Path, str]) -> list[Path]:
    """Those of the files that hold another text, or are missing."""
    return [
        path for path, text in files.items() if not path.is_file() or path.read_text(encoding="utf-8") != text
    ]


def main(argv: Sequence[str] | None = None, project: Path = PROJECT) -> int:
    """Run one of the tasks; 0 where all is well, 1 where `check` finds a difference or an error occurs."""
    parser = argparse.ArgumentParser(prog="python -m anatozoo.zoo.maintain", description=__doc__)
    parser.add_argument("task", choices=("hashes", "cards", "all", "check"))
    parser.add_argument("--manifest", metavar="FILE", type=Path, help="the manifest of a private zoo")
    args = parser.parse_args(argv)
    task, private, evidence = args.task, args.manifest is not None, project / EXPERIMENTS / FILE_NAME
    path = args.manifest or project / FILE_NAME
    folders = (path.parent if private else project / "anatozoo") / WEIGHTS_FOLDER
    try:
        if task in ("hashes", "all"):
            changed = refresh_hashes(path, folders)
            if not private and evidence.is_file():
                changed += refresh_hashes(evidence, evidence.parent / WEIGHTS_FOLDER)
            print("\n".join(changed) or "hashes: nothing changed")
        if task == "hashes":
            return 0
        texts = cards(path, folders, private=private)
        stale = differing(texts)
        for card_path in stale:
            short = card_path.relative_to(project) if card_path.is_relative_to(project) else card_path
            if task == "check":
                print(f"{short} is out of date; run `maintain all`", file=sys.stderr)
            else:
                write_text(card_path, texts[card_path])
                print(f"wrote {short}")
    except AnatozooError as error:
        print(f"maintain: error: {error}", file=sys.stderr)
        return 1
    return int(task == "check" and bool(stale))


def _listed_files(text: str, path: Path) -> list[tuple[str, str, yaml.Node]]:
    """(checkpoint, file, record node) of every bundled entry, not validated: hashes may be blank yet.

    Those that users build are left out: nothing of them lies in the repository.
    """
    try:
        found = []
        for entry in entries(text):
            if entry["bundled"].value == "true" and "build" not in entry:
                files = by_key(by_key(entry["hub"])["files"])
                found += [(entry["name"].value, file, node) for file, node in files.items()]
    except (yaml.YAMLError, KeyError, AttributeError) as error:
        read_manifest(path)  # says precisely what is wrong where
        raise ManifestError(f"{path}: {error}") from error
    return found


if __name__ == "__main__":
    sys.exit(main())
