"""The model card of a checkpoint, from the manifest: the Hub's page and its folder's `README.md`."""

import re
from typing import Any

import yaml

from anatozoo.text import printable
from anatozoo.zoo.registry import describe_method
from anatozoo.zoo.spec import CheckpointSpec
from anatozoo.zoo.tables import (
    input_words,
    is_command,
    license_words,
    limitations,
    markdown_table,
    megabytes,
    metrics_table,
    split_words,
)

# The Hub's front matter accepts these identifiers (lower-case SPDX); all else is "other" with a name.
_HUB_LICENSES = frozenset(
    {
        "agpl-3.0",
        "apache-2.0",
        "bsd-2-clause",
        "bsd-3-clause",
        "cc-by-4.0",
        "cc-by-nc-4.0",
        "cc-by-nc-nd-4.0",
        "cc-by-nc-sa-4.0",
        "cc-by-nd-4.0",
        "cc-by-sa-4.0",
        "cc0-1.0",
        "gpl-3.0",
        "lgpl-3.0",
        "mit",
        "mpl-2.0",
    }
)


_FILES = {"image": "patient", "volume": "patient"}
"""How an example calls the file of an argument, where not by the argument's name."""


def card(spec: CheckpointSpec, *, private: bool = False) -> str:
    """The card as Markdown with the Hub's front matter.

    Args:
        spec: the manifest's entry.
        private: whether the entry comes from a private manifest, not from this package's.

    Raises:
        ConfigError: the method's package says about it what it must not.
    """
    sections = [
        f"---\n{_front_matter(spec)}---\n",
        f"# {spec.name}\n\n{spec.summary}\n\n{_status(spec, private)}",
        *([f"{spec.remarks}\n"] if spec.remarks else []),
        f"## Use\n\n{_example(spec)}",
        f"## What goes in and what comes out\n\n{_input_output(spec)}",
        f"## Intended use\n\n{spec.intended_use}\n",
        f"## Out of scope\n\n{_bullets(spec.out_of_scope)}",
        f"## Limitations\n\n{_bullets(limitations(spec))}",
        f"## Measured\n\n{_measured(spec)}",
        f"## Training data\n\n{_training_data(spec)}",
        f"## Training\n\n{_training(spec)}",
        f"## Licences\n\n{_licenses(spec)}",
        f"## Files\n\n{_files(spec)}",
        f"## Cite\n\n```bibtex\n{spec.citation}\n```\n",
    ]
    return printable("\n".join(sections))


def _front_matter(spec: CheckpointSpec) -> str:
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
    text: str = yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=1000)
    return text


def _hub_license(spec: CheckpointSpec) -> dict[str, str]:
    identifier = spec.license.weights.lower()
    if identifier in _HUB_LICENSES:
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
    words = split_words(spec, split)
    return dataset if words == split else f"{dataset} ({words})"


def _status(spec: CheckpointSpec, private: bool) -> str:
    method = describe_method(spec.method)
    home = "a private zoo" if private else "the Python package anatozoo"
    where = {
        "bundled": f"Part of {home}; never published anywhere else.",
        "published": f"Published as `{spec.hub.repo_id}` at commit `{spec.hub.revision}`.",
        "deprecated": "**Deprecated**: kept so that old results can be reproduced; use a newer checkpoint.",
    }[spec.status]
    return f"Version {spec.version}. Method: {method.title} ({method.paper}). {where}\n"


def _example(spec: CheckpointSpec) -> str:
    kind = spec.output.record
    volumes = len(spec.input.size) == 3
    end = ".nii.gz" if volumes else ".png" if kind.takes == ("mask",) else ".dcm"
    arguments = ", ".join(f'"{_FILES.get(name, name)}{end}"' for name in kind.takes)
    taken = "path, array or SimpleITK image" if volumes else "path, array, tensor, PIL or SimpleITK image"
    lines = [
        "```python",
        "import anatozoo",
        "",
        f'model = anatozoo.load("{spec.name}")',
        f"result = model.predict({arguments})  # {taken} of any size",
        _answer(spec),
        'result.save("out/")',
        "```",
        "",
    ]
    if kind.job and len(kind.takes) == 1:  # folders hold no pairs
        folder = "masks" if kind.takes == ("mask",) else "scans"
        command = f"anatozoo predict {spec.name} {folder}/ --out out/"
        lines += ["or, on a folder:", "", "```bash", command, "```", ""]
    return "\n".join(lines)


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


def _input_output(spec: CheckpointSpec) -> str:
    spacing = "any, also unknown" if spec.input.spacing_mm is None else f"{spec.input.spacing_mm} mm"
    landmarks = spec.output.landmarks
    classes = [f"{c} ({landmarks[c]} landmarks)" if landmarks else c for c in spec.output.classes]
    rows = [
        ("input", input_words(spec)),
        ("fit to the network's frame", spec.input.fit),
        ("grey values", spec.input.intensity),
        ("polarity", spec.input.polarity),
        ("pixel spacing", spacing),
        ("output", spec.output.record.gives),
        *([("organs, the patient's sides", ", ".join(classes))] if classes else []),
    ]
    return markdown_table(("", ""), rows)


def _measured(spec: CheckpointSpec) -> str:
    text = metrics_table(spec)
    if any(is_command(m.source) for m in spec.metrics):
        text += "\nA source in `this type` is the command that reproduces the number.\n"
    return text


def _training_data(spec: CheckpointSpec) -> str:
    rows = [(f"[{d.name}]({d.url})", "" if d.n is None else str(d.n), d.license) for d in spec.training_data]
    return markdown_table(("data set", "images", "terms"), rows)


def _training(spec: CheckpointSpec) -> str:
    rows = [
        ("configuration", spec.training.config),
        ("commit of the code", spec.training.git_sha or "not recorded"),
        ("versions", ", ".join(f"{name} {version}" for name, version in spec.training.versions.items())),
        ("hardware", spec.training.hardware),
        ("seed", "not fixed" if spec.training.seed is None else str(spec.training.seed)),
    ]
    return markdown_table(("", ""), rows)


def _licenses(spec: CheckpointSpec) -> str:
    rows = [
        ("weights", license_words(spec)),
        ("training data", spec.license.training_data),
        ("code", spec.license.code_origin),
        ("commercial use of the weights", "allowed" if spec.license.commercial_use else "not allowed"),
    ]
    note = f"\n{spec.license.note}\n" if spec.license.note else ""
    return markdown_table(("", ""), rows) + note


def _files(spec: CheckpointSpec) -> str:
    rows = [(f"`{name}`", str(r.size), f"`{r.sha256}`") for name, r in spec.hub.files.items()]
    return markdown_table(("file", "bytes", "SHA-256"), rows) + f"\nTogether {megabytes(spec)} MB.\n"


def _bullets(items: tuple[str, ...]) -> str:
    return "".join(f"- {' '.join(item.split())}\n" for item in items)
