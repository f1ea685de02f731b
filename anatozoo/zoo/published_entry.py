"""The manifest's entry of a checkpoint that was published: printed, or written into the manifest."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml

from anatozoo.errors import ConfigError, ManifestError
from anatozoo.zoo import catalogue, private
from anatozoo.zoo.checkpoint import CheckpointConfig
from anatozoo.zoo.edits import Edit, by_key, edited, entries
from anatozoo.zoo.files import write_text
from anatozoo.zoo.golden import INPUTS
from anatozoo.zoo.golden_file import read_arrays
from anatozoo.zoo.golden_results import LANDMARKS
from anatozoo.zoo.kinds import kind_of_golden
from anatozoo.zoo.manifest import read_manifest
from anatozoo.zoo.registry import describe_method
from anatozoo.zoo.spec import GOLDEN, CheckpointSpec, FileRecord

TO_WRITE = "null # to be written"


@dataclass(frozen=True)
class Release:
    """Where files lie on the Hub, from the bytes that came back from there.

    Args:
        repo_id: ``"organisation/name"``.
        revision: full commit.
        files: record of each file.
    """

    repo_id: str
    revision: str
    files: Mapping[str, FileRecord]

    def hub(self) -> dict[str, Any]:
        """The manifest's key `hub`."""
        files = {name: {"sha256": r.sha256, "size": r.size} for name, r in self.files.items()}
        return {"repo_id": self.repo_id, "revision": self.revision, "files": files}


def entry_of(spec: CheckpointSpec, release: Release) -> str:
    """The entry of a listed checkpoint as YAML, with what publishing made known."""
    values = {**asdict(spec), "status": spec.status_on_hub, "hub": release.hub()}
    # What may be left out is left out where it says nothing.
    values = {key: value for key, value in values.items() if value is not None}
    for measured in values["measured"]:
        if measured["version"] is None:
            del measured["version"]
    return _item(values)


def new_entry(config: CheckpointConfig, folder: Path, release: Release) -> str:
    """The entry of a checkpoint that no manifest lists: what its files tell, and a mark for the rest.

    Args:
        config: its ``config.json``.
        folder: its files.
        release: where it was published.
    """
    keys = ("name", "method", "version")
    known = {key: getattr(config, key) for key in keys}
    head = _item({**known, "status": "published"}) + f"    summary: {TO_WRITE}\n"
    hub = _indented({"hub": release.hub(), "bundled": False})
    frame = config.settings.get("frame")
    size = frame.get("size") if isinstance(frame, dict) else None
    shown = f"[{size}, {size}]" if isinstance(size, int) else TO_WRITE
    blank = {
        "license": ("weights", "training_data", "code_origin", "commercial_use", "note"),
        "input": ("modality", "anatomy", "views", "size", "fit", "intensity", "polarity", "spacing_mm"),
        "output": ("kind", "classes", "landmarks"),
        "measured": (),
        "training_data": (),
        "training": ("config", "git_sha", "versions", "hardware", "seed"),
        "intended_use": None,
        "out_of_scope": None,
        "limitations": None,
        "citation": None,
    }
    told = {("input", "size"): shown, **_output(config, folder)}
    lines = []
    for key, inner in blank.items():
        if inner is None:
            lines.append(f"    {key}: {TO_WRITE}\n")
        elif not inner:
            lines.append(f"    {key}: [] # to be written\n")
        else:
            lines.append(f"    {key}:\n")
            lines += [f"      {part}: {told.get((key, part), TO_WRITE)}\n" for part in inner]
    return head + hub + "".join(lines)


def _output(config: CheckpointConfig, folder: Path) -> dict[tuple[str, str], str]:
    """What the method and the golden result tell about the output."""
    tensors, _ = read_arrays(folder / GOLDEN)
    axes = next(tensors[name].ndim for names in INPUTS for name in names if name in tensors)
    kind = describe_method(config.method).kind or kind_of_golden(tensors, axes)
    if kind is None:
        return {}
    told = {"kind": kind.name, "landmarks": "null"}
    if not kind.names_organs:
        told["classes"] = "[]"
    if kind.golden is LANDMARKS:
        counts = {
            key.removeprefix(LANDMARKS.key): len(tensors[key]) for key in filter(LANDMARKS.holds, tensors)
        }
        told["classes"] = f"[{', '.join(counts)}]"
        told["landmarks"] = "{" + ", ".join(f"{name}: {count}" for name, count in counts.items()) + "}"
    return {("output", key): text for key, text in told.items()}


def manifest_of(name: str) -> Path:
    """The manifest file that lists a checkpoint.

    Raises:
        ConfigError: none does; its entry has to be written by hand, from what is printed.
    """
    manifests = (catalogue.manifest(), *private.file_manifests())
    found = next((manifest.path for manifest in manifests if name in manifest.lines), None)
    if found is None:
        raise ConfigError(
            f"--write-manifest: no manifest file lists {name}; publish without it, complete the entry that "
            "is printed, and put it into a manifest."
        )
    return found


def write_entry(spec: CheckpointSpec, release: Release, path: Path) -> None:
    """Write repository, commit, sizes and hashes into a manifest; all other text stays as it is.

    Raises:
        ManifestError: the manifest would not be valid; it is left as it was.
        OutputError: it cannot be written.
    """
    text = path.read_text(encoding="utf-8")
    text = edited(text, _edits(text, spec, release, path))
    with TemporaryDirectory() as folder:
        trial = Path(folder) / path.name
        write_text(trial, text)
        try:
            read_manifest(trial)
        except ManifestError as error:
            raise ManifestError(f"{path} was not changed, for it would not be valid: {error}") from error
    write_text(path, text)


def _edits(text: str, spec: CheckpointSpec, release: Release, path: Path) -> list[Edit]:
    """Every value that publishing made known."""
    entry = next(keys for keys in entries(text) if keys["name"].value == spec.name)
    hub = by_key(entry["hub"])
    files = by_key(hub["files"])
    fresh = [
        (entry["status"], spec.status_on_hub),
        (hub["repo_id"], release.repo_id),
        # Quoted: forty digits alone would be a number.
        (hub["revision"], f'"{release.revision}"'),
    ]
    for name, record in release.files.items():
        values = by_key(files[name])
        fresh += [(values["sha256"], f'"{record.sha256}"'), (values["size"], str(record.size))]
    edits = [(node, value) for node, value in fresh if str(node.value) != value.strip('"')]
    if any(node.end_mark.index <= node.start_mark.index for node, _ in edits):
        raise ManifestError(f"{path}: {spec.name}.hub has keys without values; write null first.")
    return edits


def _item(values: dict[str, Any]) -> str:
    """A mapping as an item of the manifest's list."""
    return f"  - {_indented(values)[4:]}"


def _indented(values: dict[str, Any]) -> str:
    text: str = yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=100)
    return "".join(f"    {line}" for line in text.splitlines(keepends=True))
