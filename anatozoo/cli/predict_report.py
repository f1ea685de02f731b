"""What a run over many inputs says: a bar while it works, and a sentence or JSON at its end."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from anatozoo.cli.output import error_console
from anatozoo.errors import ConfigError

if TYPE_CHECKING:
    from anatozoo.serve.engine import RunSummary
    from anatozoo.serve.manifest import Row
    from anatozoo.serve.tasks import Task

EXIT_SOME_FAILED = 3
EXIT_INTERRUPTED = 130
_MOST_REASONS = 5


def run_reported(
    args: argparse.Namespace,
    make: Callable[[], Task[Any, Any, Any]],
    also: Callable[[RunSummary], list[str]] = lambda summary: [],
) -> int:
    """Make a task and do it into ``args.out``, with a bar meanwhile and a report at the end.

    Args:
        args: with ``out``, ``formats``, ``overwrite``, ``json``, ``quiet``, and ``batch_size`` where inputs
            are computed together.
        make: finds the inputs and loads what is needed, which may be interrupted too.
        also: lines about the results, printed below the sentence.

    Returns:
        0 if all inputs were done, 3 if some failed or were done in part, 130 if interrupted.

    Raises:
        AnatozooError: nothing could be done.
        SystemExit: the formats are not those of the results.
    """
    from anatozoo.serve.engine import run_task

    try:
        task = make()
        try:
            task.formats.check(args.formats)
        except ConfigError as error:
            args.usage_error(f"argument --format: {error}")
        with progress(task, shown=sys.stderr.isatty() and not args.quiet) as (on_start, on_row):
            summary = run_task(
                task,
                args.out,
                formats=args.formats,
                batch_size=getattr(args, "batch_size", 1),
                overwrite=args.overwrite,
                on_start=on_start,
                on_row=on_row,
            )
    except KeyboardInterrupt:
        print("anatozoo: interrupted; run the same command again to do the rest.", file=sys.stderr)
        return EXIT_INTERRUPTED
    report(summary, task, as_json=args.json, quiet=args.quiet)
    for line in [] if args.json or args.quiet else also(summary):
        print(line)
    return EXIT_SOME_FAILED if summary.failed or summary.partly else 0


@contextmanager
def progress(
    task: Task[Any, Any, Any], *, shown: bool
) -> Iterator[tuple[Callable[[int, int], None], Callable[[Row], None]]]:
    """Call-backs that move a progress bar on standard error, or do nothing."""
    if not shown:
        yield (lambda total, done: None), (lambda row: None)
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    bar = Progress(
        TextColumn(task.doing),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[failed]}", style="yellow"),
        console=error_console(),
    )
    line = bar.add_task(task.doing, total=None, failed="")
    failures = 0

    def on_start(total: int, done: int) -> None:
        bar.update(line, total=total, completed=done)

    def on_row(row: Row) -> None:
        nonlocal failures
        failures += row.status == "failed"
        bar.update(line, advance=1, failed=f"{failures} failed" if failures else "")

    with bar:
        yield on_start, on_row


def report(summary: RunSummary, task: Task[Any, Any, Any], *, as_json: bool, quiet: bool) -> None:
    """Say what a run did: failures on standard error, a sentence or JSON on standard output."""
    for row in summary.failed[:_MOST_REASONS]:
        print(f"anatozoo: failed: {row.file!r}: {row.reason}", file=sys.stderr)
    if len(summary.failed) > _MOST_REASONS:
        more = len(summary.failed) - _MOST_REASONS
        print(f"anatozoo: failed: {more} more; their reasons are in {summary.manifest}", file=sys.stderr)
    if summary.partly:
        first = summary.partly[0]
        lacking = f"not {task.done[-1]}: {len(summary.partly)} {task.one}{'s' * (len(summary.partly) > 1)}"
        print(f"anatozoo: {lacking}, first {first.file!r}: {first.reason}", file=sys.stderr)
    if as_json:
        print(json.dumps(_as_json(summary, task), indent=2))
    elif not quiet:
        print(_sentence(summary, task))
        for note in task.notes[:_MOST_REASONS]:
            print(f"  {note}")
        if len(task.notes) > _MOST_REASONS:
            print(f"  and {len(task.notes) - _MOST_REASONS} more such remarks (--json has all).")


def _sentence(summary: RunSummary, task: Task[Any, Any, Any]) -> str:
    total, failed, before = len(summary.rows), len(summary.failed), summary.already_done
    new = total - failed - before
    parts = [f"{new} {' and '.join(task.done)}"]
    if summary.partly:
        *whole, last = task.done
        parts = [*(f"{new} {word}" for word in whole), f"{new - len(summary.partly)} {last}"]
    parts += [f"{before} done already"] if before else []
    parts += [f"{failed} failed"] if failed else []
    inputs = f"1 {task.one}" if total == 1 else f"{total} {task.one}s"
    return f"{inputs}: {', '.join(parts)} in {summary.seconds:.1f} s. Table: {summary.manifest}"


def _as_json(summary: RunSummary, task: Task[Any, Any, Any]) -> dict[str, Any]:
    failed, before = len(summary.failed), summary.already_done
    named = [{"checkpoint": m.checkpoint_name, "version": m.checkpoint_version} for m in task.models]
    translators, (first, *others) = named[: task.translators], named[task.translators :]
    return {
        **first,
        **({"before": translators} if translators else {}),
        **({"then": others[0]} if others else {}),
        "out": str(summary.out),
        "manifest": str(summary.manifest),
        **({"measurements": str(summary.measurements)} if task.measures else {}),
        **({"notes": list(task.notes)} if task.notes else {}),
        "total": len(summary.rows),
        task.done[-1]: len(summary.rows) - failed - before - len(summary.partly),
        "already_done": before,
        "failed": failed,
        "seconds": round(summary.seconds, 3),
        f"{task.one}s": [_row_as_json(row, task) for row in summary.rows],
    }


def _row_as_json(row: Row, task: Task[Any, Any, Any]) -> dict[str, Any]:
    numbers = {column: row.more.get(column) for column in task.layout.numbers}
    return {
        task.layout.key: row.file,
        "status": row.status,
        "reason": row.reason,
        "seconds": round(row.seconds, 3),
        "flags": list(row.flags),
        "outputs": list(row.outputs),
        "stem": row.stem,
        **{column: row.more.get(column) or None for column in task.layout.details},
        **{column: float(text) if text else None for column, text in numbers.items()},
    }
