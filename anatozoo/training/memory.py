"""Memory that one training step frees stays with the process, for the next."""

import ctypes
import sys

_TRIM, _MAP = -1, -3
"""M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of malloc.h."""
_LARGEST_MAP = 2**30


def keep_memory() -> None:
    """Ask the C library to keep large blocks that are freed; of use on Linux with glibc, else without effect.

    Every step allocates the same large maps. glibc returns them to the system, which clears each page anew
    when it is touched: half the time of a step in float32, a tenth in bfloat16. The largest memory that the
    process takes does not change, but it does not fall between steps.
    """
    if not sys.platform.startswith("linux"):
        return
    adjust = getattr(ctypes.CDLL(None), "mallopt", None)
    if adjust is not None:  # musl has none
        adjust(_MAP, _LARGEST_MAP)
        adjust(_TRIM, 2**31 - 1)
