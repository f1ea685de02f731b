"""The model card of a checkpoint, from the manifest: the Hub's page and its folder's `README.md`."""

from typing import Any

import yaml

from anatozoo.zoo.registry import find_method
from anatozoo.zoo.spec import CheckpointSpec
from anatozoo.zoo.tables import (
    input_words,
    is_command,
    license_words,
    markdown_table,
    megabytes,
    metrics_table,
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


def card(spec: CheckpointSpec) -> str:
    """The card as Markdown with the Hub's front matter."""
    sections = [
        f"---\n{_front_matter(spec)}---\n",
        f"# {spec.name}\n\n{spec.summary}\n\n{_status(spec)}",
        *([f"{spec.remarks}\n"] if spec.remarks else []),
        f"## Use\n\n{_example(spec)}",
        f"## What goes in and what comes out\n\n{_input_output(spec)}",
        f"## Intended use\n\n{spec.intended_use}\n",
        f"## Out of scope\n\n{_bullets(spec.out_of_scope)}",
        f"## Limitations\n\n{_bullets(spec.limitations)}",
        f"## Measured\n\n{_measured(spec)}",
        f"## Training data\n\n{_training_data(spec)}",
        f"## Training\n\n{_training(spec)}",
        f"## Licences\n\n{_licenses(spec)}",
        f"## Files\n\n{_files(spec)}",
        f"## Cite\n\n```bibtex\n{spec.citation}\n```\n",
    ]
    return "\n".join(sections)


def _front_matter(spec: CheckpointSpec) -> str:
    tags = ["anatozoo", spec.method, spec.input.anatomy, spec.input.modality, "medical-imaging", "pytorch"]
    values: dict[str, Any] = {
        "library_name": "anatozoo",
        "pipeline_tag": "image-segmentation",
        **_hub_license(spec),
        "tags": tags,
    }
    results = _model_index(spec)
    if results:
        values["model-index"] = [{"name": spec.name, "results": results}]
    text: str = yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=1000)
    return text


def _hub_license(spec: CheckpointSpec) -> dict[str, str]:
    identifier = spec.license.weights.lower()
    if identifier in _HUB_LICENSES:
        return {"license": identifier}
    return {"license": "other", "license_name": "-".join(identifier.split()), "license_link": "README.md"}


def _model_index(spec: CheckpointSpec) -> list[dict[str, Any]]:
    """The Hub's form of the measured numbers: one result for each data set and split."""
    results: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for m in spec.metrics:
        if m.value is not None:
            entry = {"type": m.metric, "name": f"{m.metric} {m.class_}", "value": m.value}
            results.setdefault((m.dataset, m.split), []).append(entry)
    return [
        {
            "task": {"type": "image-segmentation", "name": "Image segmentation"},
            "dataset": {"type": "-".join(dataset.lower().split()), "name": dataset, "split": split},
            "metrics": metrics,
        }
        for (dataset, split), metrics in results.items()
    ]


def _status(spec: CheckpointSpec) -> str:
    method = find_method(spec.method)
    where = {
        "bundled": "Part of the Python package anatozoo; never published anywhere else.",
        "published": f"Published as `{spec.hub.repo_id}` at commit `{spec.hub.revision}`.",
        "deprecated": "**Deprecated**: kept so that old results can be reproduced; use a newer checkpoint.",
    }[spec.status]
    return f"Version {spec.version} of a {method.title} ({method.paper}). {where}\n"


def _example(spec: CheckpointSpec) -> str:
    organ = spec.output.classes[0]
    lines = [
        "```python",
        "import anatozoo",
        "",
        f'model = anatozoo.load("{spec.name}")',
        'result = model.predict("patient.dcm")  # path, array, tensor, PIL or SimpleITK image of any size',
    ]
    if spec.output.landmarks is not None:
        count = spec.output.landmarks[organ]
        lines.append(f'result.landmarks["{organ}"]  # ({count}, 2): x, y in pixels of the source image')
    lines += ['result.save("out/")', "```", "", "or, on a folder:", "", "```bash"]
    lines += [f"anatozoo predict {spec.name} scans/ --out out/", "```", ""]
    return "\n".join(lines)


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
        ("output", spec.output.kind),
        ("organs, the patient's sides", ", ".join(classes)),
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
