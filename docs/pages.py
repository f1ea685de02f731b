"""The pages that are generated from the manifest: ``python -m docs.pages`` in a source checkout writes them.

They are the table of the README, `docs/checkpoints.md`, and `docs/results.md` with the evidence. ``--check``
tells what differs and writes nothing. Hashes and cards are written by `anatozoo.zoo.maintain`.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from anatozoo.errors import AnatozooError, ManifestError
from anatozoo.zoo.files import write_text
from anatozoo.zoo.maintain import PROJECT, differing
from anatozoo.zoo.manifest import FILE_NAME, read_manifest
from anatozoo.zoo.spec import WITHHELD, CheckpointSpec, Metric
from anatozoo.zoo.tables import (
    NOT_MEASURED,
    input_words,
    license_words,
    markdown_table,
    megabytes,
    metrics_table,
    organ_words,
    other_version,
    split_words,
    value_words,
)
from docs.results_page import results_page

README_BEGIN = "<!-- checkpoints:begin -->"
README_END = "<!-- checkpoints:end -->"

_LEGEND = """\
*Chosen on this split*: the weights that were best on these images were kept, and settings were compared
there, so that the numbers are optimistic. *Settings chosen on this split*: the weights are the last of the
training. *Withheld from development*: nobody who trained or chose anything has had these cases. *Exclusive
label maps*: each pixel has one label, and heart and clavicles cut the lungs. *Damaged*: by the generator
that Post-DAE was trained with. Every model was trained with one seed only.
"""

_DOCS_HEAD = """\
# Checkpoints

Generated from `checkpoints_manifest.yaml` by `python -m docs.pages`: edit the manifest, not this page.
`anatozoo card NAME` prints training data, terms, limitations and the commands behind the numbers.

A source checkout has more weights, those of the rows of experiments: evidence that anybody can run again,
not models for use. They lie in `experiments/checkpoints`, are listed in
`experiments/checkpoints_manifest.yaml`, and are not in the installed package. In a checkout
(`pip install -e .`) `anatozoo.load` and every command find them by name without any setting;
`anatozoo list --experiments` and `anatozoo.list_models(experiments=True)` show them. For another machine,
`anatozoo download NAME --to DIR` copies one, and `anatozoo.load("DIR/NAME")` reads it.

"""


def pages(project: Path = PROJECT) -> dict[Path, str]:
    """All generated pages with the text that they should hold.

    Raises:
        ManifestError: the manifest is not valid, or the README lacks the markers of its table.
    """
    specs = read_manifest(project / FILE_NAME).checkpoints
    readme, docs = project / "README.md", project / "docs"
    text = insert_between_markers(readme.read_text(encoding="utf-8"), readme_table(specs))
    if text is None:
        raise ManifestError(f"{readme} needs the lines {README_BEGIN} and {README_END} around its table.")
    return {
        docs / "checkpoints.md": docs_page(specs),
        docs / "results.md": results_page(docs, specs),
        readme: text,
    }


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


def insert_between_markers(text: str, table: str) -> str | None:
    """The README with its table replaced; None where it lacks the two markers in their order."""
    head, begin, rest = text.partition(README_BEGIN)
    _, end, tail = rest.partition(README_END)
    return f"{head}{begin}\n\n{table}\n{end}{tail}" if begin and end else None


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
        f"{_values(measured, m)} ({m.dataset}{_count(m)}){other_version(spec, m)}"
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


def _count(metric: Metric) -> str:
    return "" if metric.n is None else f"; n = {metric.n}"


def main(argv: Sequence[str] | None = None, project: Path = PROJECT) -> int:
    """Write what differs; 1 where `--check` finds something or an error occurs, else 0."""
    parser = argparse.ArgumentParser(prog="python -m docs.pages", description=__doc__)
    parser.add_argument("--check", action="store_true", help="tell what differs and write nothing")
    check = parser.parse_args(argv).check
    try:
        texts = pages(project)
        stale = differing(texts)
        for path in stale:
            if check:
                print(
                    f"{path.relative_to(project)} is out of date; run `python -m docs.pages`", file=sys.stderr
                )
            else:
                write_text(path, texts[path])
                print(f"wrote {path.relative_to(project)}")
    except AnatozooError as error:
        print(f"pages: error: {error}", file=sys.stderr)
        return 1
    return int(check and bool(stale))


if __name__ == "__main__":
    sys.exit(main())
