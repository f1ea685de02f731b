"""The manifest `checkpoints_manifest.yaml`, read and validated.

Top level: ``schema_version``, ``hub_organisation``, ``checkpoints``. The keys of a checkpoint are the fields
of `anatozoo.zoo.spec.CheckpointSpec`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from anatozoo.zoo.marked_yaml import Marked
from anatozoo.zoo.rules import Form
from anatozoo.zoo.spec import CheckpointSpec, Name

SCHEMA_VERSION = 1
FILE_NAME = "checkpoints_manifest.yaml"
Organisation = Annotated[str, Form(r"[\w.-]+", "an organisation's name")]


@dataclass(frozen=True)
class Manifest:
    """A validated manifest.

    Args:
        path: its file.
        hub_organisation: the organisation that publishes, None where there is none.
        checkpoints: the entries in the file's order.
        lines: line of each entry by its name, for messages.
    """

    path: Path
    hub_organisation: str | None
    checkpoints: tuple[CheckpointSpec, ...]
    lines: Mapping[str, int] = field(default_factory=dict)


def read_manifest(path: Path, *, alone: bool = False) -> Manifest:
    """Read and validate a manifest.

    Args:
        path: the file.
        alone: it came without the folders beside it, as from the Hub, so nothing in it can be bundled.

    Raises:
        ManifestError: anything breaks the schema; the message names file and line and says what is expected.
    """
    top = Marked.parse(path).fields(("schema_version", "hub_organisation", "checkpoints"))
    version = top["schema_version"].read(int)
    if version != SCHEMA_VERSION:
        top["schema_version"].fail(f"this anatozoo reads version {SCHEMA_VERSION}, not {version}.")
    checkpoints = []
    lines: dict[str, int] = {}
    for item in top["checkpoints"].items():
        keys = item.mapping()
        if "name" in keys:
            item.where = keys["name"].read(Name)
        spec: CheckpointSpec = item.read(CheckpointSpec)
        if spec.name in lines:
            keys["name"].fail(f"{spec.name} stands in line {lines[spec.name]} already; rename one.")
        if alone and spec.bundled:
            message = "must be false: no folder of weights comes with a manifest from the Hub."
            item.mapping()["bundled"].fail(message)
        lines[spec.name] = item.line
        checkpoints.append(spec)
    organisation = top["hub_organisation"].read(Organisation | None)
    return Manifest(path, organisation, tuple(checkpoints), lines)
