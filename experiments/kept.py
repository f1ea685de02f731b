"""Runs that are kept in a folder: each is done once, by one of the processes that share the folder."""

import argparse
import hashlib
import json
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from anatozoo.errors import ConfigError, DataError
from anatozoo.metrics.tables import provenance
from anatozoo.zoo.files import write_text

Runs = list[dict[str, Any]]
Name = tuple[str, int]
"""An arm and the seed of a run."""


def add_run_options(parser: argparse.ArgumentParser, arms: Mapping[str, Sequence[int]]) -> None:
    """Declare ``--work``, ``--only`` and ``--report``.

    Args:
        parser: where.
        arms: name -> seeds of its runs. ``--only`` becomes a list of arms and seeds; by default all, seeds
            first, so that there are pairs of all arms as early as possible.
    """
    seeds = sorted({seed for own in arms.values() for seed in own})
    every = [(arm, seed) for seed in seeds for arm, own in arms.items() if seed in own]

    def chosen(text: str) -> list[Name]:
        arm, _, seed = text.partition(":")
        if arm not in arms or not (seed.isdecimal() or text == arm):
            raise argparse.ArgumentTypeError(
                f"{text!r} must be an arm or ARM:SEED, such as {every[0][0]}:{every[0][1]}; arms: "
                f"{', '.join(arms)}."
            )
        return [(arm, int(seed))] if seed else [name for name in every if name[0] == arm]

    class Flat(argparse.Action):
        def __call__(self, parser: Any, namespace: Any, values: Any, option_string: Any = None) -> None:
            setattr(namespace, self.dest, [name for names in values for name in names])

    parser.add_argument("--work", type=Path, required=True, help="folder of the runs, which processes share")
    parser.add_argument(
        "--only",
        nargs="+",
        type=chosen,
        action=Flat,
        default=every,
        metavar="ARM[:SEED]",
        help=f"these runs (default: all); arms: {', '.join(arms)}",
    )
    parser.add_argument("--report", action="store_true", help="write the report of the runs that there are")


def parse_run_options(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """The options; without ``--report``, data are needed."""
    options = parser.parse_args()
    if options.root is None and not options.report:
        parser.error("--root DIR is needed, the folder of the data; without, --report alone is possible.")
    return options


@contextmanager
def locked(path: Path, *, wait: bool = False) -> Iterator[bool]:
    """Hold a lock beside a file, which ends with the process; gives whether it could be had.

    Args:
        path: the file, or folder, that is being made.
        wait: wait for another process that holds it.
    """
    from filelock import FileLock, Timeout

    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path.with_name(f"{path.name}.lock"), timeout=-1 if wait else 0)
    try:
        lock.acquire()
    except Timeout:
        yield False
        return
    try:
        yield True
    finally:
        lock.release()


def keep(
    path: Path, title: str, settings: Mapping[str, Any], run: Callable[[], Mapping[str, Any]], *packages: str
) -> None:
    """Do a run and write its record, unless its file is there or another process is at it.

    The record also holds the settings, the commit, versions of the packages and ``cpu_s``.

    Args:
        path: of the record.
        title: of the run, printed when it begins.
        settings: what all runs of the folder share.
        run: does it.
        packages: beside torch and numpy.

    Raises:
        ConfigError: the file is of a run with other settings.
    """
    with locked(path) as mine:
        if not mine:
            return
        if path.is_file():
            if json.loads(path.read_text(encoding="utf-8"))["settings"] != settings:
                raise ConfigError(
                    f"{path} is of a run with other settings; choose another folder for --work."
                )
            return
        print(title, flush=True)
        start = time.process_time()
        found = run()
        seconds = round(time.process_time() - start, 1)
        about = {"settings": dict(settings), **provenance(("torch", "numpy", *packages)), "cpu_s": seconds}
        write_text(path, json.dumps({**about, **found}) + "\n")
        print(f"  done in {seconds:.0f} s of CPU", flush=True)


def make_once(folder: Path, settings: Mapping[str, Any], make: Callable[[], object]) -> float:
    """Make a folder that several runs use, unless it is there; other processes wait.

    Args:
        folder: that `make` fills; one that a killed process left unfinished is made anew.
        settings: what it depends on.
        make: fills it.

    Returns:
        Seconds of CPU that it took.

    Raises:
        ConfigError: it was made with other settings.
    """
    note = folder / "kept.json"
    with locked(folder, wait=True):
        if note.is_file():
            found = json.loads(note.read_text(encoding="utf-8"))
            if found["settings"] != settings:
                raise ConfigError(f"{folder} is of other settings; choose another folder for --work.")
            return float(found["cpu_s"])
        shutil.rmtree(folder, ignore_errors=True)
        start = time.process_time()
        make()
        seconds = round(time.process_time() - start, 1)
        write_text(note, json.dumps({"settings": dict(settings), "cpu_s": seconds}) + "\n")
    return seconds


def design_of(*records: object) -> str:
    """Twelve hexadecimal digits that tell these settings from others; part of what runs must share."""
    return hashlib.sha256(repr(records).encode()).hexdigest()[:12]


def commits_of(runs: Sequence[Mapping[str, Any]]) -> list[str]:
    """The commits of the source that did the runs."""
    return sorted({str(run.get("commit")) for run in runs})


def read_runs(work: Path, reference: str | None = None, key: str = "arm", pattern: str = "*.json") -> Runs:
    """The records of a folder.

    Args:
        work: the folder.
        reference: the arm with which the others are compared.
        key: what a record calls its arm.
        pattern: of the files' names.

    Raises:
        DataError: there are none, none of the reference, or their settings differ.
    """
    found = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(work.glob(pattern))]
    if not found or (reference is not None and all(run[key] != reference for run in found)):
        raise DataError(f"{work} holds no run{'' if reference is None else f' of {reference}'} yet.")
    if any(run["settings"] != found[0]["settings"] for run in found):
        raise DataError(f"{work} holds runs with different settings; give each setting a folder.")
    return found
