"""Annotate whole archives, every image exactly once, on one machine or a cluster."""

from __future__ import annotations

import argparse
import json
import re
import shlex
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anatozoo.cli.evaluate_options import at_least_one, names_list
from anatozoo.cli.judging import add_quality
from anatozoo.cli.output import error_console
from anatozoo.cli.predict_report import EXIT_INTERRUPTED, EXIT_SOME_FAILED
from anatozoo.cli.run_options import add_device, add_report_options, add_spacing

if TYPE_CHECKING:
    from anatozoo.annotate import Annotation, Plan, Settings

ENGINES = ("local", "ray", "slurm")
PLANNED = ("model", "quality", "selector", "registration", "count", "spacing_mm", "invert", "column")
"""Options that belong to a plan, and have no default that is not None."""
EXIT_TERMINATED = 143

_USAGE = "anatozoo annotate [-h] [SOURCE ...] --out DIR [--model NAME] [options]"
_DESCRIPTION = """\
Segment every radiograph of an archive, estimate the quality of each
segmentation, and write tables of all: run lengths and landmarks as CheXmask
publishes them, in the images' own pixels and at 1024 x 1024, and images.csv
with status, flags, areas and estimates.

SOURCE is a folder, a pattern, a CSV or Parquet table of paths, a plain tar
file (WebDataset), or a URL that fsspec knows, such as s3://bucket/folder.

The images are listed once, into DIR/plan.jsonl. What is done is in
DIR/shards. Run the same command again, or `anatozoo annotate --out DIR`, after
any interruption: it does what is missing, and no image twice."""
_EPILOG = """\
engines:
  local   this machine; --workers processes
  ray     a cluster, or this machine; --workers actors that hold the model
  slurm   writes DIR/annotate.sbatch, an array for `sbatch`

examples:
  anatozoo annotate scans/ --model hybridgnet-chexmask --quality ATLAS --out out
  anatozoo annotate list.csv --model hybridgnet-chexmask --out out --workers 4
  anatozoo annotate scans/ --model hybridgnet-chexmask --out out --engine slurm
  anatozoo annotate --out out

exit codes: 0 all images done, 1 error, 2 wrong usage, 3 some images failed
(images.csv says why), 130 or 143 interrupted; what is done stays done"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``anatozoo annotate``."""
    parser.usage, parser.description, parser.epilog = _USAGE, _DESCRIPTION, _EPILOG
    parser.set_defaults(usage_error=parser.error)
    sources = parser.add_argument(
        "sources", metavar="SOURCE", nargs="+", help="the images; without any, go on with the plan of DIR"
    )
    # With nargs="*" they would have to stand in one place.
    sources.required = False
    parser.add_argument("--out", metavar="DIR", required=True, help="folder of plan, shards and tables")
    parser.add_argument("--model", metavar="NAME", help="checkpoint that segments radiographs")
    add_quality(parser, "estimate Dice", "--registration")
    listing = parser.add_argument_group("listing and reading")
    listing.add_argument(
        "--ids",
        choices=("path", "content"),
        default="path",
        help="what names an image: its path below SOURCE (default), or the SHA-256 of its file",
    )
    listing.add_argument("--column", metavar="NAME", help="tables: the column with the paths (default: path)")
    add_spacing(listing, "x and y")
    listing.add_argument(
        "--invert",
        action=argparse.BooleanOptionalAction,
        help="state that air is stored bright (or dark), whatever the files say",
    )
    listing.add_argument(
        "--allow-any-modality",
        action="store_true",
        help="accept DICOM files that are not declared as chest X-rays",
    )
    computing = parser.add_argument_group("computing")
    computing.add_argument(
        "--engine", choices=ENGINES, default="local", help="what computes; see below (default: local)"
    )
    computing.add_argument(
        "--workers",
        metavar="N",
        type=at_least_one,
        help="processes, of slurm for each task, or actors (default: the cores, at most 8, of ray all of the "
        "cluster; 1 on a GPU and of slurm)",
    )
    add_device(computing)
    computing.add_argument(
        "--batch-size",
        metavar="N",
        type=at_least_one,
        help="images that the network computes together (default: 1 on a CPU, 8 on a GPU)",
    )
    computing.add_argument(
        "--shard-size", metavar="N", type=at_least_one, help="images of a shard (default: 100)"
    )
    computing.add_argument(
        "--address", metavar="HOST:PORT", help="ray: the cluster (default: $RAY_ADDRESS, or this machine)"
    )
    computing.add_argument(
        "--tasks",
        metavar="N",
        type=at_least_one,
        help="slurm: tasks of the array (default: one per 10 shards)",
    )
    computing.add_argument(
        "--shards", metavar="A:B", type=_range, help="do the shards A to B - 1 of the plan, as tasks do"
    )
    computing.add_argument(
        "--retry-failed", action="store_true", help="also do shards again in which images have failed"
    )
    output = parser.add_argument_group("output")
    output.add_argument(
        "--format",
        dest="formats",
        metavar="LIST",
        type=names_list,
        help="tables beside images.csv: chexmask (default), parquet, png (label maps)",
    )
    add_report_options(output)


def run(args: argparse.Namespace) -> int:
    """Run ``anatozoo annotate``.

    Returns:
        0 if all images were done or others are to do them, 3 if some failed, 130 or 143 if interrupted.

    Raises:
        AnatozooError: there is nothing to do, or it cannot go on.
        SystemExit: the arguments do not go together.
    """
    _check_together(args)
    try:
        with _ended_by_sigterm(), _progress(not args.quiet and sys.stderr.isatty()) as (on_plan, on_shard):
            from anatozoo.annotate import annotate

            found = annotate(
                args.out,
                _settings(args) if args.sources else None,
                engine=_engine(args),
                formats=args.formats,
                shards=args.shards,
                retry_failed=args.retry_failed,
                on_plan=on_plan,
                on_shard=on_shard,
            )
    except KeyboardInterrupt as stop:
        from anatozoo.annotate.plan import PLAN_NAME

        planned = (Path(args.out) / PLAN_NAME).is_file()
        rest = f"`anatozoo annotate --out {shlex.quote(args.out)}`, which does the rest"
        print(
            f"anatozoo: interrupted; go on with {rest if planned else 'the same command'}.", file=sys.stderr
        )
        return EXIT_TERMINATED if isinstance(stop, _Terminated) else EXIT_INTERRUPTED
    _report(args, found)
    return EXIT_SOME_FAILED if found.summary and found.summary["failed"] else 0


def _check_together(args: argparse.Namespace) -> None:
    if args.sources and args.model is None:
        args.usage_error("--model is needed with SOURCE.")
    if not args.sources:
        given = [name for name in (*PLANNED, "batch_size", "shard_size") if getattr(args, name) is not None]
        given += ["ids"] if args.ids != "path" else []
        given += ["allow_any_modality"] if args.allow_any_modality else []
        if given:
            option = given[0].replace("_", "-")
            args.usage_error(f"--{option} is in the plan already; leave it out, or give SOURCE too.")
    if args.quality is None and args.sources:
        for name in ("selector", "registration", "count"):
            if getattr(args, name) is not None:
                args.usage_error(f"--{name} is for estimates by --quality.")
    if args.address is not None and args.engine != "ray":
        args.usage_error("--address is for --engine ray.")
    if args.tasks is not None and args.engine != "slurm":
        args.usage_error("--tasks is for --engine slurm.")
    if args.shards is not None and args.engine != "local":
        args.usage_error("--shards is what a task does by itself; leave --engine out.")
    if args.spacing_mm is not None and len(args.spacing_mm) > 2:
        args.usage_error("--spacing-mm takes one or two numbers here.")


def _settings(args: argparse.Namespace) -> Settings:
    from anatozoo.annotate.plan import SHARD_SIZE, Settings
    from anatozoo.serve.cores import ON_ACCELERATOR

    spacing = args.spacing_mm
    return Settings(
        sources=tuple(args.sources),
        model=args.model,
        quality=args.quality,
        registration=args.registration,
        selector=args.selector,
        count=args.count,
        spacing_mm=None if spacing is None else (spacing[0], spacing[-1]),
        invert=args.invert,
        allow_any_modality=args.allow_any_modality,
        ids=args.ids,
        column=args.column,
        batch_size=args.batch_size or (1 if args.device == "cpu" else ON_ACCELERATOR),
        shard_size=args.shard_size or SHARD_SIZE,
        formats=args.formats or ("chexmask",),
    )


def _engine(args: argparse.Namespace) -> Any:
    from anatozoo.annotate.engines import Local, Slurm
    from anatozoo.annotate.on_ray import OnRay

    if args.engine == "ray":
        return OnRay(args.workers, args.device, args.address)
    if args.engine == "slurm":
        return Slurm(args.tasks, args.workers, args.device, args.formats)
    return Local(args.workers, args.device)


def _range(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d{1,9}):(\d{1,9})", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not A:B, as 0:100.")
    first, end = int(match[1]), int(match[2])
    if first >= end:
        raise argparse.ArgumentTypeError(f"{text!r} holds no shard; B must be above A.")
    return first, end


class _Terminated(KeyboardInterrupt):
    """SIGTERM came, which clusters send before they end a task."""


@contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """Let SIGTERM stop the work as Ctrl-C does, so that nothing half written stays."""

    def stop(*about: object) -> None:
        raise _Terminated

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def _progress(shown: bool) -> Iterator[tuple[Callable[[Plan, int], None], Callable[[int], None]]]:
    """Call-backs that move a bar of shards on standard error, or do nothing."""
    if not shown:
        yield (lambda plan, todo: None), (lambda shard: None)
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("shards"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=error_console()) as bar:
        line = bar.add_task("shards", total=None)

        def on_plan(plan: Plan, todo: int) -> None:
            bar.update(line, total=len(plan.shards), completed=len(plan.shards) - todo)

        yield on_plan, lambda shard: bar.advance(line)


def _report(args: argparse.Namespace, found: Annotation) -> None:
    for remark in found.plan.remarks:
        print(f"anatozoo: {remark}", file=sys.stderr)
    summary, plan = found.summary, found.plan
    for reason, count in list((summary or {}).get("failures", {}).items())[:5]:
        print(f"anatozoo: failed: {count} images: {reason}", file=sys.stderr)
    if args.json:
        left = {"out": str(plan.folder), "images": plan.total, "shards_left": found.left}
        print(json.dumps(left | dict(summary or {}) | {"seconds": round(found.seconds, 3)}, indent=2))
    elif args.quiet:
        return
    elif summary is not None:
        parts = [f"{summary['ok']} annotated", f"{summary['failed']} failed"]
        parts += [f"{summary['duplicates']} duplicates"] if summary["duplicates"] else []
        print(f"{plan.total} images: {', '.join(parts)}. Tables: {plan.folder}")
    elif args.engine == "slurm":
        script = shlex.quote(f"{plan.folder}/annotate.sbatch")
        print(f"{plan.total} images in {len(plan.shards)} shards. Now: sbatch {script}")
    else:
        print(f"{plan.total} images: {found.left} of {len(plan.shards)} shards are left to others.")
