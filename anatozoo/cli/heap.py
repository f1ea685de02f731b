"""How a command's process keeps its memory."""

from __future__ import annotations

import ctypes
import os
import sys

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8
"""As glibc's ``malloc.h`` numbers them."""
_LARGE, _NEVER = 2**25, 2**30
"""Bytes: 2**25 is what every glibc accepts, and more than the largest map of a frame of 512 x 512."""


def keep_freed_memory() -> None:
    """Keep memory that was freed for the next layer, and share it between threads; of glibc alone.

    By default the maps of each layer come from the system and go back to it, which fills every page with
    zeros first; ``benchmarks/hybridgnet_training.py`` measures what that costs a step of training. One heap
    for all threads needs less than one for each. Who sets a variable ``MALLOC_...`` has decided otherwise.
    """
    if sys.platform != "linux" or any(name.startswith("MALLOC_") for name in os.environ):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        for option, value in ((_ARENA_MAX, 1), (_MMAP_THRESHOLD, _LARGE), (_TRIM_THRESHOLD, _NEVER)):
            mallopt(option, value)
