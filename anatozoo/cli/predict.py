"""``anatozoo predict``: segment files, folders and patterns into a folder."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from anatozoo.errors import AnatozooError
from anatozoo.results import DEFAULT_FORMATS, FORMATS, check_formats

if TYPE_CHECKING:
    from anatozoo.serve.manifest import Row
    from anatozoo.serve.runner import RunSummary, Segmenter

EXIT_SOME_FAILED = 3
EXIT_INTERRUPTED = 130

_MOST_REASONS = 5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``anatozoo predict``."""
    parser.add_argument("name", metavar="NAME", help="checkpoint, as `anatozoo list` shows, or its folder")
    parser.add_argument("inputs", metavar="IN", nargs="+", help="image, folder or quoted pattern")
    parser.add_argument("--out", metavar="DIR", required=True, help="folder of the results and manifest.csv")
    parser.add_argument(
        "--format",
        dest="formats",
        metavar="LIST",
        type=_formats,
        default=DEFAULT_FORMATS,
        help=f"comma-separated, of {', '.join(FORMATS)} (default: {','.join(DEFAULT_FORMATS)})",
    )
    parser.add_argument("--batch-size", metavar="N", type=_positive_int, default=4, help="default: 4")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1, mps ... (default: cpu)")
    parser.add_argument(
        "--spacing-mm",
        metavar=("X", "Y"),
        type=_positive_float,
        nargs="+",
        action=_Spacing,
        help="millimetres per pixel, across and down, where the files do not say",
    )
    parser.add_argument(
        "--invert",
        action=argparse.BooleanOptionalAction,
        help="take stored values as air bright (or not), whatever the files say",
    )
    parser.add_argument(
        "--allow-any-modality", action="store_true", help="take DICOM files that say they are no chest X-ray"
    )
    parser.add_argument("--overwrite", action="store_true", help="do images again that are done already")
    parser.add_argument("--json", action="store_true", help="print a summary as JSON on standard output")
    parser.add_argument("--quiet", action="store_true", help="print errors only")


def run(args: argparse.Namespace) -> int:
    """Run ``anatozoo predict``.

    Returns:
        0 if all images were segmented, 3 if some failed, 130 if interrupted.

    Raises:
        AnatozooError: nothing could be done: no image, no such checkpoint, nowhere to write.
    """
    from anatozoo.serve.inputs import find_images
    from anatozoo.serve.plan import ReadOptions, check_found

    try:
        # Before torch is imported, so that a mistyped path is answered at once.
        found = find_images(args.inputs, args.out)
        check_found(found)
        from anatozoo.serve.runner import run_folder

        model = _load(args.name, args.device)
        with _progress(shown=sys.stderr.isatty() and not args.quiet) as (on_start, on_row):
            summary = run_folder(
                model,
                found,
                args.out,
                formats=args.formats,
                batch_size=args.batch_size,
                options=ReadOptions(args.spacing_mm, args.invert, args.allow_any_modality),
                overwrite=args.overwrite,
                on_start=on_start,
                on_row=on_row,
            )
    except KeyboardInterrupt:
        print("anatozoo: interrupted; run the same command again to do the rest.", file=sys.stderr)
        return EXIT_INTERRUPTED
    _report(summary, model, as_json=args.json, quiet=args.quiet)
    return EXIT_SOME_FAILED if summary.failed else 0


def _load(name: str, device: str) -> Segmenter:
    from anatozoo.zoo.hub import load

    model: Any = load(name, device=device)
    return model


@contextmanager
def _progress(*, shown: bool) -> Iterator[tuple[Callable[[int, int], None], Callable[[Row], None]]]:
    """Call-backs that move a progress bar on standard error, or do nothing."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    bar = Progress(
        TextColumn("segmenting"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[failed]}", style="yellow"),
        console=Console(stderr=True),
        disable=not shown,
    )
    task = bar.add_task("images", total=None, failed="")
    failures = 0

    def on_start(total: int, done: int) -> None:
        bar.update(task, total=total, completed=done)

    def on_row(row: Row) -> None:
        nonlocal failures
        failures += row.status == "failed"
        bar.update(task, advance=1, failed=f"{failures} failed" if failures else "")

    with bar:
        yield on_start, on_row


def _report(summary: RunSummary, model: Segmenter, *, as_json: bool, quiet: bool) -> None:
    for row in summary.failed[:_MOST_REASONS]:
        print(f"anatozoo: failed: {row.file!r}: {row.reason}", file=sys.stderr)
    if len(summary.failed) > _MOST_REASONS:
        more = len(summary.failed) - _MOST_REASONS
        print(f"anatozoo: failed: {more} more; their reasons are in {summary.manifest}", file=sys.stderr)
    if as_json:
        print(json.dumps(_as_json(summary, model), indent=2))
    elif not quiet:
        print(_sentence(summary))


def _sentence(summary: RunSummary) -> str:
    total, failed, before = len(summary.rows), len(summary.failed), summary.already_done
    parts = [f"{total - failed - before} segmented"]
    parts += [f"{before} done already"] if before else []
    parts += [f"{failed} failed"] if failed else []
    images = "1 image" if total == 1 else f"{total} images"
    return f"{images}: {', '.join(parts)} in {summary.seconds:.1f} s. Table: {summary.manifest}"


def _as_json(summary: RunSummary, model: Segmenter) -> dict[str, Any]:
    failed, before = len(summary.failed), summary.already_done
    return {
        "checkpoint": model.checkpoint_name,
        "version": model.checkpoint_version,
        "out": str(summary.out),
        "manifest": str(summary.manifest),
        "total": len(summary.rows),
        "segmented": len(summary.rows) - failed - before,
        "already_done": before,
        "failed": failed,
        "seconds": round(summary.seconds, 3),
        "images": [
            {
                "file": row.file,
                "status": row.status,
                "reason": row.reason,
                "seconds": round(row.seconds, 3),
                "flags": list(row.flags),
                "outputs": list(row.outputs),
                "stem": row.stem,
            }
            for row in summary.rows
        ],
    }


def _formats(text: str) -> tuple[str, ...]:
    try:
        return check_formats([part.strip() for part in text.split(",") if part.strip()])
    except AnatozooError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _positive_int(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number above 0")
    return int(text)


def _positive_float(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is no positive number of millimetres")
    return value


class _Spacing(argparse.Action):
    """One number for square pixels, or two: across and down."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        if len(values) > 2:
            parser.error(f"{option_string} takes one number or two; give the images before it.")
        setattr(namespace, self.dest, (values[0], values[-1]))
