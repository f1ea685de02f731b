"""One progress bar for all files of a checkpoint or images of a slow model, and none where nobody looks."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from anatozoo.text import unfiltered
from anatozoo.zoo.ranks import rank


class Progress:
    """The bar, or nothing.

    Args:
        bar: huggingface_hub's tqdm.
    """

    def __init__(self, bar: Any) -> None:
        self.bar = bar

    def expect(self, size: int | None) -> None:
        """Say that a file of `size` bytes will come."""
        self.bar.total = (self.bar.total or 0) + (size or 0)
        self.bar.refresh()

    def move(self, size: int) -> None:
        """Say that `size` bytes, or other units, came; a file that starts again takes its bytes back."""
        self.bar.update(size)


@contextmanager
def progress_bar(title: str, *, total: int = 0, unit: str = "B") -> Iterator[Progress]:
    """One bar on the error stream; none in files and pipes, and only the first rank of a job shows one.

    None is shown where a command draws one of its own either.

    Args:
        title: what is done.
        total: how much of it there will be, in `unit`, if that is known.
        unit: what is counted; default is bytes.
    """
    from huggingface_hub.utils import tqdm  # type: ignore[attr-defined]

    drawn = hasattr(sys.stderr, "rich_proxied_file")
    hidden = drawn or not sys.stderr.isatty() or rank() > 0
    options = {"unit": unit, "unit_scale": unit == "B", "file": unfiltered(sys.stderr)}
    with tqdm(desc=title, total=total, disable=hidden, leave=False, **options) as bar:
        yield Progress(bar)
