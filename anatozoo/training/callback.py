"""A Lightning callback that writes a table with one row per image after every validation and test."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lightning as L
import numpy as np
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_warn

from anatozoo.errors import ConfigError, OutputError
from anatozoo.io.writers import atomic_path, write_bytes, write_csv
from anatozoo.metrics.cases import Measures, Row
from anatozoo.organs import parts_of
from anatozoo.training.collected import Collection, identity_of
from anatozoo.training.module import ZooModule

if TYPE_CHECKING:
    from rich.table import Table

FORMATS = ("csv", "parquet")
FOUR_DECIMALS = ("dice", "nsd", "similarity")
WIDEST = 200
"""Width of the summary in characters."""


class MetricsCallback(L.Callback):
    """Writes one row per image after every validation and test, whatever the method.

    The rows are those of `anatozoo.metrics.cases.case_row` for the module's `cases`, with the identity of the
    image (``id`` first) and, if the trainer knows them, ``epoch`` and ``step`` of the weights. The module
    logs the means of the same rows: ``val/dice/heart`` is the mean of the column ``dice/heart``. A
    distributed run collects the rows of all processes; each image counts once.

    ``val_metrics.csv`` and ``test_metrics.csv`` hold the last validation and test. They lie in `folder`, or
    else beside the checkpoints, or else in the logger's folder. The commands ``validate`` and ``test``, but
    not the validations of a fit, also print a summary and draw ``val_worst_best.png`` or
    ``test_worst_best.png``: the cases with the lowest and the highest mean Dice of the organs or, without
    masks, with the largest and the smallest ``mse_px2``. A run with ``fast_dev_run`` writes no files.

    Args:
        folder: where to write.
        formats: ``"csv"``, ``"parquet"`` (needs pyarrow), or both.
        measures: fields of `anatozoo.metrics.cases.Measures` that differ from its defaults.
        pictures: how many of the worst and of the best cases to draw; 0 draws none.

    Raises:
        ConfigError: a setting is not possible, pyarrow is missing, or the module is not a `ZooModule`.
        OutputError: the tables cannot be written. During a fit this is a warning, and an error at its end,
            when all weights are saved.
    """

    def __init__(
        self,
        folder: str | None = None,
        formats: list[str] = ["csv"],  # noqa: B006 - jsonargparse shows it, nothing changes it
        measures: dict[str, Any] | None = None,
        pictures: int = 3,
    ) -> None:
        if not formats or set(formats) - set(FORMATS):
            raise ConfigError(f"formats={formats} must be some of {', '.join(FORMATS)}.")
        if pictures < 0:
            raise ConfigError(f"pictures={pictures} must be at least 0.")
        self.folder, self.formats, self.pictures = folder, list(formats), pictures
        self.measures = read_measures(measures or {})
        self._collected = Collection(0)
        self._failure: str | None = None

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Check that the formats can be written, and tell the module what to measure.

        Raises:
            ConfigError: pyarrow is missing.
        """
        if "parquet" in self.formats and importlib.util.find_spec("pyarrow") is None:
            raise ConfigError(
                "MetricsCallback: Parquet needs pyarrow; `pip install pyarrow`, or set formats to [csv]."
            )
        self._failure = None
        if isinstance(pl_module, ZooModule):
            pl_module.measures = self.measures

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Begin with no rows."""
        self._collected = Collection(self.pictures if _measuring(trainer) else 0)

    def on_test_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Begin with no rows."""
        self._collected = Collection(self.pictures)

    def on_validation_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Measure the images of a batch; nothing in the sanity check."""
        if not trainer.sanity_checking:
            self._collect(pl_module, outputs, batch, trainer.val_dataloaders)

    def on_test_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Measure the images of a batch."""
        self._collect(pl_module, outputs, batch, trainer.test_dataloaders)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write the tables; nothing in the sanity check."""
        if not trainer.sanity_checking:
            self._finish(trainer, "val")

    def on_test_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write the tables."""
        self._finish(trainer, "test")

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Raise the error of the last tables, now that the weights are saved.

        Raises:
            OutputError: the last tables could not be written.
        """
        if self._failure is not None:
            raise OutputError(self._failure)

    def _collect(self, module: Any, outputs: Any, batch: Mapping[str, Any], loaders: Any) -> None:
        if not isinstance(outputs, Mapping) or not {"cases", "rows"} <= set(outputs):
            raise ConfigError(
                f"MetricsCallback works with modules on ZooModule: the step of {type(module).__name__} does "
                "not return {'cases': ..., 'rows': ...}."
            )
        loader = loaders[0] if isinstance(loaders, list | tuple) else loaders
        found = zip(batch["index"].tolist(), outputs["cases"], outputs["rows"], strict=True)
        for index, case, row in found:
            self._collected.add(index, identity_of(loader.dataset, index), case, row)

    def _finish(self, trainer: L.Trainer, stage: str) -> None:
        # Both need all processes.
        folder = self._place(trainer)
        self._collected.gather(trainer.world_size)
        failure = None
        if trainer.is_global_zero and len(self._collected):
            rows = self._collected.rows(_when(trainer))
            if _measuring(trainer):
                self._print_summary(rows, stage)
            if not trainer.fast_dev_run:  # type: ignore[attr-defined]
                try:
                    self._write(folder, stage, rows)
                except OutputError as error:
                    failure = str(error)
        self._failure = trainer.strategy.broadcast(failure)
        self._collected = Collection(0)
        if self._failure is None:
            return
        if _measuring(trainer):
            raise OutputError(self._failure)
        # Lightning saves the weights after this callback's turn.
        rank_zero_warn(f"The metrics of this validation are not on disk. {self._failure}")

    def _place(self, trainer: L.Trainer) -> Path:
        if self.folder is not None:
            return Path(self.folder)
        saver = trainer.checkpoint_callback
        beside = saver.dirpath if isinstance(saver, ModelCheckpoint) else None
        return Path(beside or trainer.log_dir or trainer.default_root_dir)

    def _write(self, folder: Path, stage: str, rows: Sequence[Row]) -> None:
        columns = list(dict.fromkeys(name for row in rows for name in row))
        cells = [[None if _is_nan(row.get(name)) else row.get(name) for name in columns] for row in rows]
        if "csv" in self.formats:
            write_csv(folder / f"{stage}_metrics.csv", columns, cells)
        if "parquet" in self.formats:
            import pandas as pd

            with atomic_path(folder / f"{stage}_metrics.parquet") as temporary:
                pd.DataFrame(cells, columns=columns).to_parquet(temporary, index=False)
        drawn = self._collected.drawn()
        if drawn["worst"]:
            from anatozoo.io.figures import figure_bytes
            from anatozoo.results.draw.cases import draw_cases

            write_bytes(folder / f"{stage}_worst_best.png", figure_bytes(draw_cases(drawn), dpi=None))

    def _print_summary(self, rows: Sequence[Row], stage: str) -> None:
        from rich.console import Console

        console, table = Console(), summary_table(rows, f"{stage}: {len(rows)} images")
        # Wrapped lines can be read; digits that are cut off cannot.
        needed = console.measure(table, options=console.options.update(max_width=WIDEST)).maximum
        console = Console(width=max(console.width, needed))
        console.print()  # separates it from the progress bar
        console.print(table)


def summary_table(rows: Sequence[Row], title: str) -> Table:
    """The statistics of rows as a table for the terminal.

    The statistics, with bootstrap intervals, are those of `anatozoo.metrics.tables.describe`, as in every
    evaluation. Each metric of an organ stands beside the number of images in which the organ was missed. The
    table leaves out counts that are right in all images, such as one part and no hole, and distances in
    pixels that exist in millimetres.

    Args:
        rows: one per image.
        title: printed above.
    """
    from rich import box
    from rich.table import Table

    from anatozoo.metrics.tables import COUNTS, describe, ranked

    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    table.add_column("metric", no_wrap=True)
    for head in ("mean ± sd", "median", "95 % interval", "n", "missed"):
        table.add_column(head, justify="right", no_wrap=True)
    statistics = describe(rows)
    for name in ranked(statistics):
        s, (kind, _, organ) = statistics[name], name.partition("/")
        unremarkable = {"components": len(parts_of(organ))}.get(kind, 0)
        # Missed organs have a column of their own.
        if kind == "missed" or (kind in COUNTS and s["min"] == s["max"] == unremarkable):
            continue
        metric = kind.removesuffix("_px")
        if metric != kind and statistics.get(f"{metric}_mm/{organ}", {}).get("n") == s["n"]:
            continue
        mean, sd, median, low, high = (
            _in_words(kind, s[key]) for key in ("mean", "sd", "median", "ci_low", "ci_high")
        )
        # Metrics without an organ, such as the folding of a field, have no missed images.
        missed = str(s.get("missed", ""))
        table.add_row(name, f"{mean} ± {sd}", median, f"{low} … {high}", str(s["n"]), missed)
    return table


def read_measures(settings: Mapping[str, Any]) -> Measures:
    """The measures from plain values.

    Raises:
        ConfigError: a field is unknown or its value not possible.
    """
    known = [field.name for field in fields(Measures)]
    if unknown := sorted(set(settings) - set(known)):
        raise ConfigError(f"measures does not know {', '.join(unknown)}; it has {', '.join(known)}.")
    measures = Measures(**settings)
    wrong = []
    if measures.missing not in ("worst", "nan") and not _is_number(measures.missing):
        wrong.append(f"missing={measures.missing!r} must be worst, nan or a number")
    if measures.tolerance is not None and not (_is_number(measures.tolerance) and measures.tolerance >= 0):
        wrong.append(f"tolerance={measures.tolerance!r} must be a number from 0 on, or null")
    if measures.rounding not in ("truncate", "nearest"):
        wrong.append(f"rounding={measures.rounding!r} must be truncate or nearest")
    for name in ("plausibility", "distances"):
        value: object = getattr(measures, name)
        if not isinstance(value, bool):
            wrong.append(f"{name}={value!r} must be true or false")
    if wrong:
        raise ConfigError(f"measures: {'; '.join(wrong)}.")
    return measures


def _in_words(kind: str, value: float) -> str:
    if kind in FOUR_DECIMALS:
        return f"{value:.4f}"
    return f"{value:.3f}" if abs(value) < 1e4 else f"{value:.0f}"


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_nan(value: object) -> bool:
    return isinstance(value, float) and bool(np.isnan(value))


def _measuring(trainer: L.Trainer) -> bool:
    """Whether this is a run of ``validate`` or ``test``, not a validation within a fit."""
    return trainer.state.fn is not TrainerFn.FITTING


def _when(trainer: L.Trainer) -> Row:
    """Epoch and step of the weights; None if they come from a checkpoint or were not trained."""
    # `validate` and `test` load a checkpoint without its counters.
    if trainer.global_step == 0 or (_measuring(trainer) and trainer.ckpt_path is not None):
        return {"epoch": None, "step": None}
    return {"epoch": trainer.current_epoch, "step": trainer.global_step}
