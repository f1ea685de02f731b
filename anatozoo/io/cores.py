"""How many cores of the machine this process may use."""

import os


def allowed_cores() -> int:
    """Cores that the process is allowed, where the system tells; else those of the machine."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1
