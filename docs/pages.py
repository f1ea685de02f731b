"""The pages that are generated from the manifest: ``python -m docs.pages`` in a source checkout writes them.

They are the short table of the README, `docs/checkpoints.md`, `docs/cite.md`, and `docs/results.md` and
`docs/performance.md` with the evidence. ``--check`` tells what differs and writes nothing. Hashes and cards
are written by `anatozoo.zoo.maintain`, cards as pages by `docs.card_pages` when the documentation is built.
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
    organ_words,
    other_version,
    split_words,
    value_words,
)
from docs.card_pages import CARDS
from docs.cite_page import CITATION, cite_page
from docs.performance_page import performance_page
from docs.results_page import results_page

README_BEGIN = "<!-- checkpoints:begin -->"
README_END = "<!-- checkpoints:end -->"

README_ROWS = {
    "hybridgnet-chexmask": "contours of lungs and heart in frontal chest radiographs",
    "hybridgnet-jsrt": "the same with clavicles, for images like JSRT",
    "unet-jsrt": "labels of lungs, heart and clavicles, pixel by pixel",
    "seg2graph-jsrt": "landmarks from masks of a chest",
    "postdae-jsrt": "repair of masks of a chest",
    "acregnet-jsrt": "registration of two radiographs",
    "acnn-dynunet-acdc": "ventricles and myocardium in cardiac MR",
    "acnn-hippocampus": "both parts of the hippocampus in MR",
}
"""What most people look for, each with what it is for; all others are in `docs/checkpoints.md`."""
_README_LEGEND = """\
\\* The weights that were best on these images were kept, or settings were compared there, so that the numbers
are optimistic. *Withheld*: nobody who trained or chose anything has had these cases. Every model was trained
with one seed. The other {others} are in [Checkpoints](docs/checkpoints.md), with all numbers in their cards.
"""
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
Names lead to their cards, which `anatozoo card NAME` prints too: all numbers with the commands behind them,
training data, terms and limitations. [Which model?](which-model.md) helps to choose.

A source checkout has more weights, those of the rows of experiments: evidence that anybody can run again,
not models for use. They lie in `experiments/checkpoints`, are listed in
`experiments/checkpoints_manifest.yaml`, and are not in the installed package. In a checkout
(`pip install -e .`) `anatozoo.load` and every command find them by name without any setting;
`anatozoo list --experiments` and `anatozoo.list_models(experiments=True)` show them. For another machine,
`anatozoo download NAME --to DIR` copies one, and `anatozoo.load("DIR/NAME")` reads it.

"""

_DOCS_TAIL = """
```{toctree}
:hidden:
:glob:

cards/*
```
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
    texts = {
        docs / "checkpoints.md": docs_page(specs),
        docs / "results.md": results_page(docs, specs),
        readme: text,
    }
    if (project / "benchmarks").is_dir():
        texts[docs / "performance.md"] = performance_page(docs)
    if (project / CITATION).is_file():
        texts[docs / "cite.md"] = cite_page(project / CITATION, specs)
    return texts


def readme_table(specs: Sequence[CheckpointSpec]) -> str:
    """The table of the README: of `README_ROWS`, or of all where none of these is there, what people need.

    That is name, what for, main number, that of a withheld test, licence.
    """
    if not specs:
        return "No checkpoint is part of this release.\n"
    chosen = [spec for spec in specs if spec.name in README_ROWS] or specs
    rows = [
        (
            f"`{spec.name}`",
            README_ROWS.get(spec.name, spec.summary),
            short_metrics(spec, withheld=False),
            short_metrics(spec, withheld=True),
            spec.license.weights,
        )
        for spec in chosen
    ]
    header = ("checkpoint", "for", "validation*", "test, withheld", "licence")
    return f"{markdown_table(header, rows)}\n{_README_LEGEND.format(others=len(specs) - len(chosen))}"


def checkpoint_table(specs: Sequence[CheckpointSpec]) -> str:
    """The wide table: name, input, organs, size, main metrics, those of a withheld test, licence."""
    if not specs:
        return "No checkpoint is part of this release.\n"
    header = (
        "checkpoint, its card",
        "input",
        "organs",
        "size",
        "main metrics",
        WITHHELD,
        "licence of the weights",
    )
    rows = [
        (
            f"[`{spec.name}`]({CARDS}/{spec.name}/README.md)",
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
    """The page `docs/checkpoints.md`: the wide table. The cards have every number of every checkpoint."""
    return f"{_DOCS_HEAD}{checkpoint_table(specs)}{_DOCS_TAIL}"


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


def short_metrics(spec: CheckpointSpec, *, withheld: bool) -> str:
    """What the README shows: as `main_metrics` and `withheld_metrics`, without the words about data sets."""
    measured = [m for m in spec.metrics if m.value is not None and m.withheld == withheld]
    if not measured:
        return "" if withheld else NOT_MEASURED
    first = measured[0]
    return f"{_values(measured, first)}{_count(first).replace(';', ',')}{other_version(spec, first)}"


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
