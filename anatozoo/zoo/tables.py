"""Markdown tables of the checkpoints, generated from the manifest for README and documentation."""

from collections.abc import Iterable, Sequence

from anatozoo.zoo.spec import CheckpointSpec, Metric

NOT_MEASURED = "not measured"
README_BEGIN = "<!-- checkpoints:begin -->"
README_END = "<!-- checkpoints:end -->"

_DOCS_HEAD = """\
# Checkpoints

Generated from `checkpoints_manifest.yaml` by `python -m anatozoo.zoo.maintain all`: edit the manifest, not
this page.
`anatozoo card NAME` prints training data, terms, limitations and the commands behind the numbers.

"""


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; bars and line breaks in cells are escaped."""
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    lines += ["| " + " | ".join(_cell(text) for text in row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def readme_table(specs: Sequence[CheckpointSpec]) -> str:
    """The table of the README: name, input, organs, size, main metrics, licence."""
    if not specs:
        return "No checkpoint is part of this release.\n"
    header = ("checkpoint", "input", "organs", "size", "main metrics", "licence of the weights")
    rows = [
        (
            f"`{spec.name}`",
            input_words(spec),
            organ_words(spec),
            f"{megabytes(spec)} MB",
            main_metrics(spec),
            license_words(spec),
        )
        for spec in specs
    ]
    return markdown_table(header, rows)


def docs_page(specs: Sequence[CheckpointSpec]) -> str:
    """The page `docs/checkpoints.md`: the README's table, then every number of every checkpoint."""
    parts = [_DOCS_HEAD, readme_table(specs)]
    for spec in specs:
        parts += [f"\n## {spec.name}\n\n{spec.summary}\n\n", metrics_table(spec)]
    return "".join(parts)


def metrics_table(spec: CheckpointSpec) -> str:
    """All numbers of a checkpoint, each with where it comes from."""
    if not spec.metrics:
        return "Nothing has been measured yet.\n"
    header = ("data set", "split", "n", "metric", "class", "value", "source")
    rows = [
        (m.dataset, m.split, "" if m.n is None else str(m.n), m.metric, m.class_, value_words(m), _source(m))
        for m in spec.metrics
    ]
    return markdown_table(header, rows)


def insert_between_markers(text: str, table: str) -> str | None:
    """The README with its table replaced; None where it lacks the two markers in their order."""
    head, begin, rest = text.partition(README_BEGIN)
    _, end, tail = rest.partition(README_END)
    return f"{head}{begin}\n\n{table}\n{end}{tail}" if begin and end else None


def megabytes(spec: CheckpointSpec) -> str:
    """Size of all files in MB (10⁶ bytes), one digit after the point."""
    return f"{spec.size_bytes / 1e6:.1f}"


def input_words(spec: CheckpointSpec, *, views: bool = True) -> str:
    """Input in a few words, as ``"chest x-ray (PA, AP), 1024×1024"``."""
    seen = f" ({', '.join(spec.input.views)})" if views and spec.input.views else ""
    return f"{spec.input.anatomy} {spec.input.modality}{seen}, {'×'.join(map(str, spec.input.size))}"


def organ_words(spec: CheckpointSpec) -> str:
    """Classes in a few words: ``lung_right`` and ``lung_left`` together are ``"lungs"``.

    Where an output names none, its kind, as ``"volume"``.
    """
    classes = spec.output.classes
    words = []
    for name in classes:
        organ, _, side = name.rpartition("_")
        other = {"right": f"{organ}_left", "left": f"{organ}_right"}.get(side)
        word = f"{organ}s" if other in classes else name
        if word not in words:
            words.append(word)
    return ", ".join(words) or spec.output.kind


def license_words(spec: CheckpointSpec) -> str:
    """Licence of the weights, and whether commercial use is excluded."""
    return spec.license.weights if spec.license.commercial_use else f"{spec.license.weights}, non-commercial"


def value_words(metric: Metric) -> str:
    """A number with the digits that its size deserves."""
    if metric.value is None:
        return NOT_MEASURED
    return f"{metric.value:.3f}" if abs(metric.value) < 10 else f"{metric.value:.1f}"


def main_metrics(spec: CheckpointSpec) -> str:
    """The first metric of the first data set that has values, for all classes."""
    measured = [m for m in spec.metrics if m.value is not None]
    if not measured:
        return NOT_MEASURED
    first = measured[0]
    same = (first.dataset, first.split, first.metric)
    values = [f"{m.class_} {value_words(m)}" for m in measured if (m.dataset, m.split, m.metric) == same]
    count = "" if first.n is None else f", n = {first.n}"
    return f"{first.metric} {', '.join(values)} ({first.dataset} {first.split}{count})"


def is_command(source: str) -> bool:
    """Whether a metric's source is the command that reproduces it."""
    return source.startswith(("anatozoo ", "python "))


def _source(metric: Metric) -> str:
    source = f"`{metric.source}`" if is_command(metric.source) else metric.source
    if metric.report is None:
        return source
    return (
        f"{source} ([report]({metric.report}))" if "://" in metric.report else f"{source} (`{metric.report}`)"
    )


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
