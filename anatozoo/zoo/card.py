"""The model card of a checkpoint, from the manifest: the Hub's page and its folder's `README.md`."""

import re
from collections.abc import Mapping
from typing import Any

import yaml

from anatozoo.text import printable
from anatozoo.zoo import tables
from anatozoo.zoo.registry import describe_method
from anatozoo.zoo.spec import CheckpointSpec, FileRecord

_HUB_LICENSES = re.compile(
    r"[al]?gpl-3\.0|apache-2\.0|bsd-[23]-clause|cc-by(-nc)?(-nd|-sa)?-4\.0|cc0-1\.0|mit|mpl-2\.0"
)
"""Identifiers that the Hub's front matter accepts (lower-case SPDX); all else is "other" with a name."""

_FILES = {"image": "patient", "volume": "patient"}
"""How an example calls the file of an argument, where not by the argument's name."""
_ENDINGS: Mapping[tuple[str, ...], str] = {("mask",): ".png", ("shape",): ".csv"}
"""What that file's name ends in, by what a kind takes."""


def card(spec: CheckpointSpec, *, private: bool = False) -> str:
    """The card as Markdown with the Hub's front matter.

    Args:
        spec: the manifest's entry.
        private: whether the entry comes from a private manifest, not from this package's.

    Raises:
        ConfigError: the method's package says about it what it must not.
    """
    kind, classes, landmarks = spec.output.record, spec.output.classes, spec.output.landmarks
    volumes = len(spec.input.size) == 3
    end = ".nii.gz" if volumes else _ENDINGS.get(kind.takes, ".dcm")
    text = render(
        "card.md.j2",
        front_matter(_metadata(spec)),
        spec=spec,
        kind=kind,
        method=describe_method(spec.method),
        private=private,
        volumes=volumes,
        arguments=", ".join(f'"{_FILES.get(name, name)}{end}"' for name in kind.takes),
        answer=_answer(spec),
        organs=", ".join(f"{c} ({landmarks[c]} landmarks)" if landmarks else c for c in classes),
        commands=any(tables.is_command(m.source) for m in spec.metrics),
    )
    return printable(text)


def render(template: str, front: str, **values: Any) -> str:
    """Fill a template of this folder, which begins with the front matter."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("anatozoo.zoo", ""),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # Markdown, and what goes into tables is escaped by the filter `cell`
    )
    own = (
        tables.input_words,
        tables.license_words,
        tables.limitations,
        tables.megabytes,
        tables.metrics_table,
    )
    environment.filters |= {"cell": tables.cell, "files_table": _files, **{f.__name__: f for f in own}}
    return environment.get_template(template).render(front=front, **values)


def front_matter(values: Mapping[str, Any]) -> str:
    """Metadata as the YAML at the head of a card."""
    text: str = yaml.safe_dump(dict(values), sort_keys=False, allow_unicode=True, width=1000)
    return text


def _metadata(spec: CheckpointSpec) -> dict[str, Any]:
    words = [_slug(word) for word in (spec.input.anatomy, spec.input.modality)]
    tags = ["anatozoo", spec.method, *words, "medical-imaging", "pytorch"]
    tag = spec.output.record.hub_tag
    values: dict[str, Any] = {
        "library_name": "anatozoo",
        **({"pipeline_tag": tag} if tag else {}),
        **_hub_license(spec),
        "tags": list(dict.fromkeys(tags)),
    }
    results = _model_index(spec, tag)
    if results:
        values["model-index"] = [{"name": spec.name, "results": results}]
    return values


def _hub_license(spec: CheckpointSpec) -> dict[str, str]:
    identifier = spec.license.weights.lower()
    if _HUB_LICENSES.fullmatch(identifier):
        return {"license": identifier}
    values = {"license": "other", "license_name": _slug(identifier)}
    # The Hub takes a web address here, or a file LICENSE, which a checkpoint does not have.
    if spec.hub.repo_id is not None:
        values["license_link"] = f"https://huggingface.co/{spec.hub.repo_id}#licences"
    return values


def _slug(text: str) -> str:
    """A text as the Hub's identifiers are: lower case, no spaces or brackets."""
    return re.sub(r"[^a-z0-9._]+", "-", text.lower()).strip("-") or "unnamed"


def _model_index(spec: CheckpointSpec, tag: str | None) -> list[dict[str, Any]]:
    """The Hub's form of the measured numbers: one result for each data set and split."""
    # A result needs a task, even where the Hub has no word for it.
    task = tag or "other"
    results: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for m in spec.metrics:
        if m.value is not None:
            entry = {"type": m.metric, "name": f"{m.metric} {m.class_}", "value": m.value}
            results.setdefault((m.dataset, m.split), []).append(entry)
    return [
        {
            "task": {"type": task, "name": task.replace("-", " ").capitalize()},
            "dataset": {"type": _slug(dataset), "name": _name(spec, dataset, split), "split": split},
            "metrics": metrics,
        }
        for (dataset, split), metrics in results.items()
    ]


def _name(spec: CheckpointSpec, dataset: str, split: str) -> str:
    """A data set's name on the Hub, whose tables do not show the card: what was chosen there goes with it."""
    words = tables.split_words(spec, split)
    return dataset if words == split else f"{dataset} ({words})"


def _answer(spec: CheckpointSpec) -> str:
    """The line of the example about what `predict` gives."""
    axes, classes = len(spec.input.size), spec.output.classes
    organ = classes[0] if classes else ""
    return spec.output.record.example.format(
        axes=axes,
        axis_names=", ".join("xyz"[:axes]),
        grid="(H, W)" if axes == 2 else "(D, H, W)",
        organ=organ,
        count=(spec.output.landmarks or {}).get(organ),
        labels=", ".join(f"{value} {name}" for value, name in enumerate(classes, start=1)),
    )


def _files(files: Mapping[str, FileRecord]) -> str:
    rows = [(f"`{name}`", str(record.size), f"`{record.sha256}`") for name, record in files.items()]
    return tables.markdown_table(("file", "bytes", "SHA-256"), rows)
