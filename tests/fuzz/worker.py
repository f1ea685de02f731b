"""The process that reads mutated files: one line of JSON in, one out; it may die, which is counted."""

from __future__ import annotations

import json
import os
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from anatozoo.errors import AnatozooError
from anatozoo.io import children
from anatozoo.io.annotations import find_annotations
from anatozoo.io.dicom_groups import read_groups
from anatozoo.io.images import read_image
from anatozoo.io.landmarks import read_landmarks
from anatozoo.io.raw import read_raw_volume
from anatozoo.io.read import read_grid_image, read_labels

_ORGANS = ("lung_right", "lung_left")


def _annotations(path: Path) -> None:
    for entry in find_annotations(path).entries.values():
        stored = entry.read()
        stored.annotation(stored.grid.size if stored.grid else (64, 72), {}, None)


def _all_2d(path: Path) -> list[Callable[[], Any]]:
    return [
        lambda: read_image(path),
        lambda: read_labels(path, 2),
        lambda: _annotations(path),
    ]


def _all_3d(path: Path) -> list[Callable[[], Any]]:
    return [
        lambda: read_grid_image(path, 3),
        lambda: read_labels(path, 3),
        lambda: read_grid_image(path, 2),
        lambda: _annotations(path),
    ]


def _of_methods(kind: str, path: Path) -> list[Callable[[], Any]]:
    """Readers of single methods, whose import brings torch along."""
    from anatozoo.io.masks import read_mask
    from anatozoo.io.read import read_stack

    stack = path.parent if kind == "dicom-series" else path
    return [lambda: read_stack(stack), *(lambda n=n: read_mask(path, _ORGANS, n) for n in (2, 3))]


def readers_of(kind: str, path: Path) -> list[Callable[[], Any]]:
    """Every way in which the package reads files of a format."""
    if kind == "dicom-series":
        return [lambda: read_grid_image(path.parent, 3), lambda: read_raw_volume(path.parent)]
    if kind.startswith("dicom"):
        # Samples are of all modalities.
        return [
            lambda: read_image(path, allow_any_modality=True),
            lambda: read_raw_volume(path),
            lambda: read_groups(path),
        ]
    if kind in ("nifti", "mha", "mhd", "nrrd"):
        return _all_3d(path)
    if kind in ("npy", "json", "csv"):
        return [lambda: read_landmarks(path), lambda: _annotations(path)]
    return [lambda: _annotations(path)] if kind == "chexmask" else _all_2d(path)


def _processes() -> list[int]:
    return [os.getpid(), *(child.process.pid for child in children._pool.all)]


def _forget_peaks() -> None:
    for process in _processes():
        try:
            Path(f"/proc/{process}/clear_refs").write_text("5")
        except OSError:
            continue  # it ended


def _peak_bytes() -> int:
    """The most memory that this process and its decoders held, each at its worst."""
    total = 0
    for process in _processes():
        try:
            text = Path(f"/proc/{process}/status").read_text()
        except OSError:
            continue
        total += sum(int(line.split()[1]) * 1024 for line in text.splitlines() if line.startswith("VmHWM"))
    return total


def outcome(read: Callable[[], Any]) -> dict[str, Any]:
    """What becomes of one reading: what it ended in, seconds and bytes."""
    _forget_peaks()
    start, what, text = time.monotonic(), "read", ""
    try:
        read()
    except AnatozooError as error:
        what, text = "refused", str(error)
    except BaseException as error:
        what, text = "raw", f"{type(error).__name__}: {error}"
    return {"what": what, "text": text, "seconds": time.monotonic() - start, "bytes": _peak_bytes()}


def main() -> None:
    """Read what standard input names until it ends."""
    warnings.simplefilter("ignore")
    # What is imported when a file asks for it, is not to count as time of that file.
    import anatozoo.io.dicom_volume  # noqa: F401

    print("ready", flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        kind, path = asked["kind"], Path(asked["path"])
        readers = [*readers_of(kind, path), *(_of_methods(kind, path) if asked["methods"] else ())]
        answers = [outcome(read) for read in readers]
        print(json.dumps(answers), flush=True)


if __name__ == "__main__":
    main()
