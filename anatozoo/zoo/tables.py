"""Tables and words about checkpoints, from the manifest."""

from collections.abc import Iterable, Sequence

from anatozoo.text import one_line
from anatozoo.zoo.spec import CheckpointSpec, Metric

NOT_MEASURED = "not measured"
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


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; bars and line breaks in cells are escaped."""
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    lines += ["| " + " | ".join(cell(text) for text in row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


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


def limitations(spec: CheckpointSpec) -> tuple[str, ...]:
    """The limitations that the entry names, and what follows from how its weights were chosen."""
    if spec.selection is None:
        return spec.limitations
    return (*spec.limitations, _OPTIMISTIC[spec.selection.chose].format(split=spec.selection.split))


def measured_words(spec: CheckpointSpec, metric: Metric) -> str:
    """A number, and the version that was measured where it is another one than the entry's."""
    return value_words(metric) + other_version(spec, metric)


def other_version(spec: CheckpointSpec, metric: Metric) -> str:
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
