"""Images that kill the process: found by what it had in hand when it died, so that the others go on.

A decoder may crash and memory may run out, and neither can be caught. A shard that is begun leaves a file
that goes when it ends in any way that Python knows of. Where the file is still there, the process died: the
next one goes image by image and notes each. An image at which two such processes died is not tried again.
"""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from pathlib import Path
from types import TracebackType

FOLDER = "tries"
MOST_DEATHS = 2
"""Processes that may die of an image, after one that died of its shard."""
REASON = "the process died twice while it worked on this image"
_BEGUN = "begun"


class Tries:
    """What happened to a shard before, and what happens now; use it as a context.

    Where the folder cannot be written, nothing is noted and nothing is known.

    Args:
        folder: of the results; None knows and notes nothing.
        shard: the shard.

    Attributes:
        careful: whether a process died of the shard, so that each image is to be noted.
        deadly: numbers of images in the shard that are not to be tried.
    """

    def __init__(self, folder: Path | None = None, shard: int = 0) -> None:
        self._path = None if folder is None else folder / FOLDER / f"{shard:06d}"
        lines: list[str] = []
        with suppress(OSError):
            if self._path is not None:
                lines = self._path.read_text(encoding="ascii").split()
        self.careful = bool(lines)
        ends = [*lines[1:], _BEGUN] if lines else []
        lasts = [before for before, after in zip(lines, ends, strict=True) if after == _BEGUN]
        deaths = Counter(int(each) for each in lasts if each.isdecimal())
        self.deadly = frozenset(number for number, count in deaths.items() if count >= MOST_DEATHS)

    def __enter__(self) -> Tries:
        self._note(_BEGUN)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._path is not None:
            with suppress(OSError):
                self._path.unlink(missing_ok=True)

    def begin(self, *numbers: int) -> None:
        """Note that an image is in hand; of several at once, none can be blamed."""
        if self.careful:
            self._note(str(numbers[0]) if len(numbers) == 1 else "several")

    def _note(self, text: str) -> None:
        if self._path is None:
            return
        with suppress(OSError):
            self._path.parent.mkdir(exist_ok=True)  # not its parents: no node makes a folder of results
            with self._path.open("a", encoding="ascii") as file:
                file.write(f"{text}\n")
