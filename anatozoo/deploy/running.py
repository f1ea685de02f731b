"""A graph in the place of a model's network, and the folders that such graphs lie in."""

import hashlib
import json
import threading
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from anatozoo.deploy.formats import FORMATS, Format, Run
from anatozoo.errors import ConfigError, WeightsError
from anatozoo.tasks.base import Predictor
from anatozoo.zoo.files import fingerprint

MANIFEST = "manifest.json"


class Engine:
    """A graph that computes the network of a model, for tensors on the CPU.

    It runs with as many threads as torch has where it is called, and several threads may call it at once.

    Args:
        form: format of the graph.
        path: its file.
        batch: size of its batch; None for any.
    """

    def __init__(self, form: Format, path: Path, batch: int | None) -> None:
        self.form, self.path, self.batch = form, path, batch
        self._runs: dict[int, Run] = {}
        self._lock = threading.Lock()

    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """The outputs for inputs (B, ...), with any B."""
        run = self._run(torch.get_num_threads())
        arrays = [np.ascontiguousarray(each.detach().cpu().float().numpy()) for each in inputs]
        count, step = len(arrays[0]), self.batch or len(arrays[0])
        parts = [
            run([_padded(each[first : first + step], step) for each in arrays])
            for first in range(0, count, step)
        ]
        return tuple(torch.from_numpy(np.concatenate(each)[:count]) for each in zip(*parts, strict=True))

    def _run(self, threads: int) -> Run:
        with self._lock:
            if threads not in self._runs:
                self._runs[threads] = self.form.opened(self.path, threads)
            return self._runs[threads]


def _padded(items: npt.NDArray[Any], size: int) -> npt.NDArray[Any]:
    """Items of a batch, the last one repeated where there are too few."""
    missing = size - len(items)
    return np.concatenate([items, np.repeat(items[-1:], missing, 0)]) if missing else items


def runs_on(model: Predictor, form: Format, path: Path, batch: int | None) -> None:
    """Let a graph compute the network of a model from here on."""
    model.computed = Engine(form, path, batch)  # type: ignore[method-assign]
    model.engine = f"the engine {form.name}"


def opened_export(folder: Path, model: Predictor) -> tuple[Format, Path, int | None]:
    """The format, file and batch of an export of the weights that a model has.

    Raises:
        ConfigError: the folder is no export, or what runs it is not installed.
        WeightsError: it is damaged, or of other weights.
    """
    record = read_manifest(folder)
    form = FORMATS[record["to"]]
    form.versions()
    if record["weights"] != state_digest(model):
        raise WeightsError(
            f"{folder} was exported from {record['checkpoint']} {record['version']} with other weights than "
            f"{model.checkpoint_name} {model.checkpoint_version}; export this one."
        )
    return form, folder / form.file, record["batch"]


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of an export, whose files are whole.

    Raises:
        ConfigError: the folder is no export.
        WeightsError: it is damaged.
    """
    try:
        record: dict[str, Any] = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        files, _ = record["files"], (record["to"], record["weights"], record["checkpoint"], record["version"])
        batch = record["batch"]
        whole = isinstance(files, dict) and FORMATS[record["to"]].file in files
        if not whole or not (batch is None or (type(batch) is int and batch > 0)):
            raise ValueError(MANIFEST)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{folder} is no export of a network: it holds no whole {MANIFEST}.") from error
    for name, digest in files.items():
        path = folder / Path(name).name
        if not path.is_file() or fingerprint(path).sha256 != digest:
            raise WeightsError(f"{path} is not the file that was exported; export it again.")
    return record


def state_digest(model: Predictor) -> str:
    """SHA-256 of the settings and weights that a model has now."""
    digest = hashlib.sha256(json.dumps(model.settings(), sort_keys=True).encode())
    for name, value in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
