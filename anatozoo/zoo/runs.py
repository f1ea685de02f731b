"""The ``.ckpt`` file of a training run: read without running code in it."""

import os
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anatozoo.errors import ConfigError
from anatozoo.io.quiet import quiet
from anatozoo.text import first_line
from anatozoo.zoo.bounds import check_hparams
from anatozoo.zoo.checkpoint import refuse_no_numbers

if TYPE_CHECKING:
    from torch import Tensor

SUFFIX = ".ckpt"
METHOD_KEY = "anatozoo_method"
"""Where a training checkpoint names its method."""
_BROKEN = (RuntimeError, EOFError, ValueError, KeyError, IndexError, TypeError, AttributeError)
"""What torch's reader raises on damaged files, depending on where the damage is."""
LAST_STEP = "current_model_state"
"""Where Lightning keeps the weights of a run's last step, if the file's own are their average."""


@dataclass(frozen=True)
class Run:
    """What the file of a training run says.

    Args:
        path: the file.
        method: name of its method.
        settings: those of model and training.
        state: the weights; of a run that kept an average of them, the average.
        last: the weights of the last step, where `state` is an average; else None.
    """

    path: Path
    method: str
    settings: Mapping[str, Any]
    state: Mapping[str, "Tensor"]
    last: Mapping[str, "Tensor"] | None = None


def is_run(source: object) -> bool:
    """Whether this names the file of a training run rather than a checkpoint's name or folder."""
    return isinstance(source, str | os.PathLike) and os.fspath(source).endswith(SUFFIX)


def read_run(source: str | os.PathLike[str]) -> Run:
    """Read the file of a training run.

    Raises:
        ConfigError: there is no such file, or `anatozoo fit` did not write it.
        WeightsError: its weights hold NaN or infinity, or its settings ask for sizes that no network has.
    """
    import torch

    path = Path(source).expanduser()
    if not os.path.isfile(path):
        raise ConfigError(f"{source}: there is no such file.")
    try:
        with quiet():  # remarks on how odd the file is; what is odd about it is refused below
            stored = torch.load(path, map_location="cpu", weights_only=True)
        settings, state = dict(stored["hyper_parameters"]), dict(stored["state_dict"])
        last = dict(stored[LAST_STEP]) if LAST_STEP in stored else None
    except (pickle.UnpicklingError, *_BROKEN) as error:
        reason = first_line(error)
        raise ConfigError(f"{source} is not a checkpoint that `anatozoo fit` wrote ({reason}).") from error
    if not isinstance(stored.get(METHOD_KEY), str):
        raise ConfigError(f"{source} does not say which method it is of; `anatozoo fit` did not write it.")
    check_hparams(settings, str(path))
    refuse_no_numbers(state, path)
    return Run(path, stored[METHOD_KEY], settings, state, last)
