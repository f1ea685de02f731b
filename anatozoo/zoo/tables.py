"""Markdown tables of the checkpoints, generated from the manifest for README and documentation."""

from collections.abc import Iterable, Sequence

from anatozoo.text import one_line
from anatozoo.zoo.spec import WITHHELD, CheckpointSpec, Metric

NOT_MEASURED = "not measured"
README_BEGIN = "<!-- checkpoints:begin -->"
README_END = "<!-- checkpoints:end -->"

_CHOSE = {"weights": "chosen on this split", "settings": "settings chosen on this split"}

_OPTIMISTIC = {
    "weights": (
        "The weights that were best on the split {split} were kept, and settings were compared there, so "
        "that its numbers are optimistic."
    ),
    "settings": (
        "Settings were compared on the split {split}, so that its numbers are somewhat optimistic; the "
        "weights are the last of the training."
    ),
}

_LEGEND = """\
*Chosen on this split*: the weights that were best on these images were kept, and settings were compared
there, so that the numbers are optimistic. *Settings chosen on this split*: the weights are the last of the
training. *Withheld from development*: nobody who trained or chose anything has had these cases. *Exclusive
label maps*: each pixel has one label, and heart and clavicles cut the lungs. *Damaged*: by the generator
that Post-DAE was trained with. Every model was trained with one seed only.
"""

_DOCS_HEAD = """\
# Checkpoints

Generated from `checkpoints_manifest.yaml` by `python -m anatozoo.zoo.maintain all`: edit the manifest, not
this page.
`anatozoo card NAME` prints training data, terms, limitations and the commands behind the numbers.

"""


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; bars and line breaks in cells are escaped."""
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    lines += ["| " + " | ".join(cell(text) for text in row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def readme_table(specs: Sequence[CheckpointSpec]) -> str:
    """The table of the README: name, input, organs, size, main metrics, those of a withheld test, licence."""
    if not specs:
        return "No checkpoint is part of this release.\n"
    header = (
        "checkpoint",
        "input",
        "organs",
        "size",
        "main metrics",
        WITHHELD,
        "licence of the weights",
    )
    rows = [
        (
            f"`{spec.name}`",
            input_words(spec),
            organ_words(spec),
            f"{megabytes(spec)} MB",
            main_metrics(spec),
            withheld_metrics(spec),
            license_words(spec),
        )
        for spec in specs
    ]
    return f"{markdown_table(header, rows)}\n{_LEGEND}"


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
        (
            m.dataset,
            split_words(spec, m.split),
            "" if m.n is None else str(m.n),
            m.metric,
            m.class_,
            measured_words(spec, m),
            _source(m),
        )
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

    Where an output names none, what it is, as ``"volume"``.
    """
    classes = spec.output.classes
    words = []
    for name in classes:
        organ, _, side = name.rpartition("_")
        other = {"right": f"{organ}_left", "left": f"{organ}_right"}.get(side)
        word = f"{organ}s" if other in classes else name
        if word not in words:
            words.append(word)
    return ", ".join(words) or spec.output.record.gives


def license_words(spec: CheckpointSpec) -> str:
    """Licence of the weights, and whether commercial use is excluded."""
    return spec.license.weights if spec.license.commercial_use else f"{spec.license.weights}, non-commercial"


def value_words(metric: Metric) -> str:
    """A number with the digits that its size deserves."""
    if metric.value is None:
        return NOT_MEASURED
    return f"{metric.value:.3f}" if abs(metric.value) < 10 else f"{metric.value:.1f}"


def split_words(spec: CheckpointSpec, split: str) -> str:
    """A split, and whether something was chosen by looking at it: ``"val, chosen on this split"``."""
    if spec.selection is None or spec.selection.split != split:
        return split
    return f"{split}, {_CHOSE[spec.selection.chose]}"


def training_words(spec: CheckpointSpec) -> str:
    """Data sets that the weights have seen, with their images: ``"JSRT (174); ImageNet-1k (1,281,167)"``."""
    words = [(data.name.partition(" (")[0], data.n) for data in spec.training_data]
    return "; ".join(name if n is None else f"{name} ({n:,})" for name, n in words)


def limitations(spec: CheckpointSpec) -> tuple[str, ...]:
    """The limitations that the entry names, and what follows from how its weights were chosen."""
    if spec.selection is None:
        return spec.limitations
    return (*spec.limitations, _OPTIMISTIC[spec.selection.chose].format(split=spec.selection.split))


def main_metrics(spec: CheckpointSpec) -> str:
    """The first metric of the first data set that has values, for all classes.

    Of a repair, before and after it. A withheld test stands elsewhere.
    """
    measured = [m for m in spec.metrics if m.value is not None and not m.withheld]
    if not measured:
        return NOT_MEASURED
    first = measured[0]
    return f"{_values(measured, first)} ({first.dataset}; {split_words(spec, first.split)}{_count(first)})"


def withheld_metrics(spec: CheckpointSpec) -> str:
    """The first metric of each data set that development never had, for all classes; empty without any."""
    measured = [m for m in spec.metrics if m.value is not None and m.withheld]
    firsts = {m.dataset: m for m in reversed(measured)}
    return "; ".join(
        f"{_values(measured, m)} ({m.dataset}{_count(m)}){_other_version(spec, m)}"
        for m in reversed(firsts.values())
    )


def _values(measured: Sequence[Metric], first: Metric) -> str:
    """A metric's name, and each class with its value, of the data set and split of the first."""
    alike = [m for m in measured if (m.dataset, m.split) == (first.dataset, first.split)]
    name, _, when = first.metric.rpartition("_")
    before = {m.class_: value_words(m) for m in alike if when == "after" and m.metric == f"{name}_before"}
    words = []
    for m in alike:
        if m.metric == first.metric:
            value = value_words(m)
            if m.class_ in before:
                value = f"{before[m.class_]} before, {value} after"
            words.append(f"{m.class_} {value}")
    return f"{name if before else first.metric} {', '.join(words)}"


def measured_words(spec: CheckpointSpec, metric: Metric) -> str:
    """A number, and the version that was measured where it is another one than the entry's."""
    return value_words(metric) + _other_version(spec, metric)


def _count(metric: Metric) -> str:
    return "" if metric.n is None else f"; n = {metric.n}"


def _other_version(spec: CheckpointSpec, metric: Metric) -> str:
    """What to say where the number is of other weights than those that the entry is about."""
    return "" if metric.version in (None, spec.version) else f" (version {metric.version})"


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


def cell(text: str) -> str:
    """A text as it may stand in a table: on one line, with its bars escaped."""
    return one_line(text).replace("|", "\\|")
