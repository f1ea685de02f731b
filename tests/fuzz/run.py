"""Mutate files, let a watched process read them, and count what becomes of them."""

from __future__ import annotations

import json
import os
import queue
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import zlib
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.fuzz.mutate import mutated
from tests.fuzz.seeds import SEEDS, Files

SECONDS = 10.0
BYTES = 2**31
_HANGS_AFTER = 120.0
GOOD = ("read", "refused")


@dataclass
class Tally:
    """What became of the files of a format.

    Attributes:
        kind: the format.
        counts: outcome -> readings; a file may be read in several ways.
        files: how many were read.
        kept: files that are to be mended, with what happened.
        slowest: seconds.
        largest: bytes.
    """

    kind: str
    counts: Counter[str] = field(default_factory=Counter)
    files: int = 0
    kept: list[tuple[Path, str]] = field(default_factory=list)
    slowest: float = 0.0
    largest: int = 0

    @property
    def is_good(self) -> bool:
        """Whether every reading ended in an image or in a sentence."""
        return set(self.counts) <= {*GOOD, "crash caught", "time-out caught", "memory caught"}


class Reader:
    """The watched process; replaced when it died."""

    def __init__(self, methods: bool = False) -> None:
        self.process: subprocess.Popen[str] | None = None
        self.methods = methods

    def ask(self, kind: str, path: Path) -> list[dict[str, Any]]:
        """What became of one file; a single outcome where the process died or hung."""
        if self.process is None:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.fuzz.worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            )
            assert self.process.stdout is not None
            if self.process.stdout.readline() != "ready\n":
                raise RuntimeError("the process that reads does not start: python -m tests.fuzz.worker")
        pipes: Any = self.process
        lines: queue.Queue[str] = queue.Queue()
        try:
            pipes.stdin.write(json.dumps({"kind": kind, "path": str(path), "methods": self.methods}) + "\n")
            pipes.stdin.flush()
        except OSError:
            lines.put("")
        else:
            threading.Thread(target=lambda: lines.put(pipes.stdout.readline()), daemon=True).start()
        try:
            line = lines.get(timeout=_HANGS_AFTER)
        except queue.Empty:
            line = None
        if line:
            found: list[dict[str, Any]] = json.loads(line)
            return found
        what = "hangs" if line is None else "dead process"
        return [{"what": what, "text": f"status {self.end()}", "seconds": 0.0, "bytes": 0}]

    def end(self) -> int:
        """End the process; give its status."""
        if self.process is None:
            return 0
        process, self.process = self.process, None
        process.kill()
        status = process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with suppress(BrokenPipeError):  # what a dead process was still to be told
                    pipe.close()
        return status


def fuzz(
    kind: str, count: int, seed: int, keep: Path, reader: Reader, share: tuple[int, int] = (0, 1)
) -> Tally:
    """Read `count` mutated files of a format; the same seed gives the same files.

    Args:
        kind: one of `SEEDS`.
        count: how many files.
        seed: of the mutations.
        keep: folder for files that are to be mended.
        reader: the watched process.
        share: (which, of how many) parts of the files are read, for several runs at once.
    """
    seeds = SEEDS[kind]()
    tally = Tally(kind)
    with tempfile.TemporaryDirectory(prefix="fuzz") as folder:
        place = Path(folder) / "case"
        for whole in seeds:
            # Whole files have to be read; and what is imported for them is not counted as slow later.
            path = _written(whole, place)
            if all(answer["what"] != "read" for answer in reader.ask(kind, path)):
                raise RuntimeError(f"the whole {path.name} of {kind} is not read")
        for number in range(share[0], count, share[1]):
            random_ = random.Random(zlib.crc32(f"{kind} {seed} {number}".encode()))
            path = _written(_mutated(seeds, random_), place)
            tally.files += 1
            for answer in reader.ask(kind, path):
                _count(tally, answer, place, keep / f"{kind}-{seed}-{number}")
    return tally


def _written(case: Files, place: Path) -> Path:
    """Write the files into an empty folder; the path of the first one."""
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    for name, content in case.items():
        (place / name).write_bytes(content)
    return place / next(iter(case))


def _mutated(seeds: list[Files], random_: random.Random) -> Files:
    case = dict(random_.choice(seeds))
    other = random_.choice(list(random_.choice(seeds).values()))
    # Mostly the file that is opened; sometimes the one beside it.
    name = next(iter(case)) if random_.random() < 0.9 else random_.choice(list(case))
    case[name] = mutated(case[name], other, random_)
    return case


def _count(tally: Tally, answer: dict[str, Any], place: Path, kept: Path) -> None:
    what, text = answer["what"], answer["text"]
    tally.slowest, tally.largest = max(tally.slowest, answer["seconds"]), max(tally.largest, answer["bytes"])
    if what == "refused":
        for mark, name in _CAUGHT.items():
            if mark in text:
                what = name
    if answer["seconds"] > SECONDS:
        what = "over 10 s"
    if answer["bytes"] > BYTES:
        what = "over 2 GB"
    tally.counts[what] += 1
    if what not in GOOD:
        shutil.copytree(place, kept, dirs_exist_ok=True)
        tally.kept.append((kept, f"{what}: {text[:300]}"))


_CAUGHT = {
    "the decoder crashed": "crash caught",
    "was not decoded within": "time-out caught",
    "bytes of memory": "memory caught",
}
