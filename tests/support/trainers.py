"""Settings of Lightning's trainer in tests that fit."""

from typing import Any

QUIET: dict[str, Any] = {
    "accelerator": "cpu",
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "log_every_n_steps": 1,
}
"""On the processor, without any output; every step is logged."""
