"""The manifest `checkpoints_manifest.yaml`: its schema, and its validation by line.

Top level: ``schema_version``, ``hub_organisation``, ``checkpoints``. The keys of a checkpoint are the
fields of `anatozoo.zoo.spec.CheckpointSpec`; those with a default may be left out, unknown ones are refused.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path

from anatozoo.errors import ConfigError
from anatozoo.zoo.kinds import find_kind
from anatozoo.zoo.marked_yaml import Marked
from anatozoo.zoo.registry import MethodEntry, check_prefix, find_method
from anatozoo.zoo.spec import (
    CHOSEN,
    STATUSES,
    CheckpointSpec,
    FileRecord,
    HubSpec,
    InputSpec,
    LicenseSpec,
    Metric,
    OutputSpec,
    Selection,
    Training,
    TrainingData,
)

SCHEMA_VERSION = 1
VERSION = (r"\d+\.\d+\.\d+", "three numbers, as 1.0.0")
FILE_NAME = "checkpoints_manifest.yaml"
NAME = r"[a-z0-9]+(-[a-z0-9][a-z0-9._]*)+"
COMMIT = r"[0-9a-f]{40}"
SHA256 = r"[0-9a-f]{64}"
REPO_ID = r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*"
FILES = ("model.safetensors", "config.json", "golden.safetensors")
"""What every checkpoint consists of, besides its card. Anything else, above all a pickle, is refused."""


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
    top = Marked.read(path).fields(("schema_version", "hub_organisation", "checkpoints"))
    version = top["schema_version"].natural()
    if version != SCHEMA_VERSION:
        top["schema_version"].fail(f"this anatozoo reads version {SCHEMA_VERSION}, not {version}.")
    checkpoints = []
    lines: dict[str, int] = {}
    for item in top["checkpoints"].items():
        spec = _checkpoint(item)
        if spec.name in lines:
            item.mapping()["name"].fail(f"{spec.name} stands in line {lines[spec.name]} already; rename one.")
        if alone and spec.bundled:
            bundled = item.mapping()["bundled"]
            bundled.where = f"{spec.name}.bundled"
            bundled.fail("must be false: no folder of weights comes with a manifest from the Hub.")
        lines[spec.name] = item.line
        checkpoints.append(spec)
    organisation = top["hub_organisation"].or_null(lambda v: v.matching(r"[\w.-]+", "an organisation's name"))
    return Manifest(path, organisation, tuple(checkpoints), lines)


def _keys(record: type) -> tuple[str, ...]:
    """The keys of a record that must be there."""
    return tuple(item.name.rstrip("_") for item in fields(record) if item.default is MISSING)


def _more_keys(record: type) -> tuple[str, ...]:
    """Those that may be left out."""
    return tuple(item.name for item in fields(record) if item.default is not MISSING)


def _checkpoint(item: Marked) -> CheckpointSpec:
    values = item.fields(_keys(CheckpointSpec), _more_keys(CheckpointSpec))
    name = values["name"].matching(NAME, "<method>-<data>[-<variant>] in lower case")
    for key, value in values.items():
        value.where = f"{name}.{key}"
    method = _method(values["method"], name)
    spec = CheckpointSpec(
        name=name,
        method=method,
        version=values["version"].matching(*VERSION),
        status=values["status"].one_of(STATUSES),
        summary=values["summary"].text(),
        hub=_hub(values["hub"]),
        bundled=values["bundled"].of_type(bool),
        license=_license(values["license"]),
        input=_input(values["input"]),
        output=_output(values["output"], find_method(method)),
        metrics=values["metrics"].list_of(_metric),
        training_data=values["training_data"].list_of(_training_data, least=1),
        training=_training(values["training"]),
        intended_use=values["intended_use"].text(),
        out_of_scope=values["out_of_scope"].list_of(Marked.text, least=1),
        limitations=values["limitations"].list_of(Marked.text, least=1),
        citation=values["citation"].text(),
        remarks=values["remarks"].or_null(Marked.text) if "remarks" in values else None,
        selection=values["selection"].or_null(_selection) if "selection" in values else None,
    )
    if spec.status == "bundled" and not spec.bundled:
        values["bundled"].fail("must be true where status is bundled, for there is no other source.")
    if not spec.bundled and spec.hub.revision is None:
        values["hub"].fail("needs repo_id and revision, for the weights are not bundled.")
    if spec.status == "published" and spec.hub.revision is None:
        values["hub"].fail("needs repo_id and revision where status is published.")
    if not spec.citation.startswith("@"):
        values["citation"].fail("must be BibTeX, starting with '@'.")
    return spec


def _method(value: Marked, name: str) -> str:
    method = value.text()
    try:
        entry = find_method(method)
    except ConfigError as error:
        value.fail(f"{error} Other packages' methods are known once the package is installed.")
    try:
        check_prefix(name, entry)
    except ConfigError as error:
        value.fail(str(error))
    return method


def _hub(item: Marked) -> HubSpec:
    values = item.fields(_keys(HubSpec))
    repo_id = values["repo_id"].or_null(lambda v: v.matching(REPO_ID, "organisation/name"))
    revision = values["revision"].or_null(
        lambda v: v.matching(COMMIT, "a full commit of 40 hex digits (a branch or tag can move)")
    )
    if (repo_id is None) != (revision is None):
        values["revision"].fail("repo_id and revision are either both given or both null.")
    files = values["files"].dict_of(_file)
    for name in files.keys() - set(FILES):
        values["files"].mapping()[name].fail(f"unknown file; a checkpoint consists of {', '.join(FILES)}.")
    for name in (name for name in FILES if name not in files):
        values["files"].fail(f"{name} missing.")
    return HubSpec(repo_id, revision, files)


def _file(item: Marked) -> FileRecord:
    values = item.fields(_keys(FileRecord))
    sha256 = values["sha256"].matching(SHA256, "a SHA-256 of 64 lower-case hex digits")
    return FileRecord(sha256, values["size"].natural(least=1))


def _license(item: Marked) -> LicenseSpec:
    values = item.fields(_keys(LicenseSpec))
    return LicenseSpec(
        weights=values["weights"].text(),
        training_data=values["training_data"].text(),
        code_origin=values["code_origin"].text(),
        commercial_use=values["commercial_use"].of_type(bool),
        note=values["note"].or_null(Marked.text),
    )


def _input(item: Marked) -> InputSpec:
    values = item.fields(_keys(InputSpec))
    size = values["size"].list_of(lambda v: v.natural(least=1))
    if len(size) not in (2, 3):
        values["size"].fail("must be [width, height] in pixels, or [width, height, depth].")
    spacing = values["spacing_mm"].or_null(lambda v: v.of_type(float))
    if spacing is not None and not 0 < spacing < math.inf:
        values["spacing_mm"].fail("must be positive, or null where any spacing will do.")
    return InputSpec(
        modality=values["modality"].text(),
        anatomy=values["anatomy"].text(),
        views=values["views"].list_of(Marked.text),
        size=size,
        fit=values["fit"].one_of(("pad", "stretch", "spacing", "slices")),
        intensity=values["intensity"].text(),
        polarity=values["polarity"].one_of(("bone-white", "bone-black", "any")),
        spacing_mm=spacing,
    )


def _output(item: Marked, method: MethodEntry) -> OutputSpec:
    values = item.fields(_keys(OutputSpec))
    try:
        kind = find_kind(values["kind"].text())
    except ConfigError as error:
        values["kind"].fail(str(error))
    if method.kind not in (None, kind):
        values["kind"].fail(f"must be {method.kind.name}, for that is what {method.name} gives.")
    classes = values["classes"].list_of(Marked.text, least=int(kind.names_organs))
    landmarks = values["landmarks"].or_null(lambda v: v.dict_of(lambda n: n.natural(least=1)))
    if landmarks is not None and tuple(landmarks) != classes:
        values["landmarks"].fail("must name the classes in their order, each with its number of landmarks.")
    return OutputSpec(kind=kind.name, classes=classes, landmarks=landmarks)


def _metric(item: Marked) -> Metric:
    values = item.fields(_keys(Metric), _more_keys(Metric))
    value = values["value"].or_null(lambda v: v.of_type(float))
    if value is not None and not math.isfinite(value):
        values["value"].fail("must be finite, or null where not measured.")
    return Metric(
        dataset=values["dataset"].text(),
        split=values["split"].text(),
        n=values["n"].or_null(lambda v: v.natural(least=1)),
        metric=values["metric"].matching(r"[a-z][a-z0-9_]*", "a name such as dice or hd_mm, with its unit"),
        class_=values["class"].text(),
        value=value,
        source=values["source"].text(),
        report=values["report"].or_null(Marked.text),
        version=values["version"].or_null(lambda v: v.matching(*VERSION)) if "version" in values else None,
    )


def _selection(item: Marked) -> Selection:
    values = item.fields(_keys(Selection))
    return Selection(split=values["split"].text(), chose=values["chose"].one_of(CHOSEN))


def _training_data(item: Marked) -> TrainingData:
    values = item.fields(_keys(TrainingData))
    return TrainingData(
        name=values["name"].text(),
        url=values["url"].matching(r"https?://\S+", "a web address"),
        license=values["license"].text(),
        n=values["n"].or_null(lambda v: v.natural(least=1)),
    )


def _training(item: Marked) -> Training:
    values = item.fields(_keys(Training))
    return Training(
        config=values["config"].text(),
        git_sha=values["git_sha"].or_null(lambda v: v.matching(COMMIT, "a full commit of 40 hex digits")),
        versions=values["versions"].dict_of(Marked.text),
        hardware=values["hardware"].text(),
        seed=values["seed"].or_null(lambda v: v.natural()),
    )


def is_name(text: str) -> bool:
    """Whether a text has the form of a checkpoint's name."""
    return re.fullmatch(NAME, text) is not None
