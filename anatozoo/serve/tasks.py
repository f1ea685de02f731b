"""What a kind of run is: how it reads its inputs, computes, and names and writes what comes out."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Protocol, TypeVar

from anatozoo.errors import ConfigError
from anatozoo.io.writers import write_json
from anatozoo.metrics.measurements import Measurement
from anatozoo.results.base import Formats
from anatozoo.serve.manifest import Layout, Row
from anatozoo.serve.measured import Measured
from anatozoo.serve.options import OptionError
from anatozoo.serve.plan import Job, Source

if TYPE_CHECKING:
    from anatozoo.serve.hearts import Heart
    from anatozoo.zoo.kinds import Kind

Item = TypeVar("Item")
Result = TypeVar("Result")


class Model(Protocol):
    """What every model says of itself."""

    checkpoint_name: str
    checkpoint_version: str


class Predictor(Model, Protocol):
    """What a model needs to work on files; which of it follows from its kind.

    Attributes:
        organs: names of the organs in the order of their labels 1, 2, ...
        shape: of the network's frame, (H, W) or (D, H, W).
        predict: does one input: a path, an array or what was read.
        predict_batch: does several; results in order, the same as from `predict`.
    """

    organs: Any
    shape: tuple[int, ...]
    predict: Callable[..., Any]
    predict_batch: Callable[..., Iterable[Any]]


class Task(ABC, Generic[Source, Item, Result]):
    """One kind of run, over inputs that are known; `anatozoo.serve.engine.run_task` does the rest.

    `read` and `save` are called by several threads at a time, `compute` by one unless it is `side_by_side`.

    Attributes:
        one: an input, in a word.
        done: what has become of it in the end, a word for each part; `lacks` speaks of the last.
        doing: what is happening to it.
        layout: columns of the table.
        accepts: options of `ReadOptions` that it takes.
        alone: why no repair can follow, a sentence about ``name`` and ``then``; empty where one can.
        largest_batch: how many inputs are computed together at most; None where there is no limit.
        side_by_side: whether several threads may call `compute` at a time.
        plotting: held while pictures are drawn, for Matplotlib promises nothing to threads.
        formats: of the results.
        models: the checkpoints that compute, in this order.
        translators: how many of them change images before the next one sees them; they come first.
        measures: whether ``measurements.csv`` is written.
        notes: lines on what became of several inputs together; after `relate`.
    """

    one: ClassVar[str]
    done: ClassVar[tuple[str, ...]]
    doing: ClassVar[str]
    layout: ClassVar[Layout]
    accepts: ClassVar[tuple[str, ...]]
    alone: ClassVar[str] = ""
    largest_batch: ClassVar[int | None] = None
    side_by_side: ClassVar[bool] = False
    plotting: ClassVar = threading.Lock()
    measures: ClassVar[bool] = False
    notes: tuple[str, ...] = ()
    translators: int = 0
    formats: Formats
    models: tuple[Model, ...]

    @property
    @abstractmethod
    def refused(self) -> Mapping[str, Row]:
        """Rows of inputs that cannot even be tried, by key; after `jobs`."""

    def identify(self, job: Job[Source]) -> Mapping[str, str]:
        """What a row says so that its input is known again, found by reading the files; called by threads."""
        return {}

    @abstractmethod
    def jobs(self, earlier: Mapping[str, Row], formats: Sequence[str]) -> list[Job[Source]]:
        """A job for each input, with names that no other has.

        Args:
            earlier: rows of earlier runs.
            formats: what will be written.
        """

    @abstractmethod
    def read(self, job: Job[Source]) -> Item:
        """Read what belongs to one input."""

    def compute(self, items: Sequence[Item]) -> list[Result]:
        """Compute a batch, results in order. Where this fails, its inputs are done by `compute_one`."""
        return [self.compute_one(item) for item in items]

    @abstractmethod
    def compute_one(self, item: Item) -> Result:
        """Compute one input."""

    @abstractmethod
    def save(self, result: Result, job: Job[Source], folder: Path, formats: Sequence[str]) -> dict[str, str]:
        """Write the files that the job names; returns what its row says besides."""

    def flags(self, result: Result) -> tuple[str, ...]:
        """Remarks on a result."""
        found: Any = result
        return tuple(found.flags)

    def lacks(self, result: Result) -> str:
        """Why the last part of `done` could not be done with a result that is kept; empty where it was."""
        return ""

    def measure(self, result: Result) -> Sequence[Measurement]:
        """What is measured of a result, where the run `measures`."""
        measured: Sequence[Measurement] = getattr(result, "measurements", ())
        return measured

    def relate(self, measured: Mapping[str, Measured], earlier: Sequence[Measured]) -> list[Measured]:
        """What follows from the measurements of several inputs, at the end of a run.

        Args:
            measured: of all inputs, those of earlier runs included, by key.
            earlier: what earlier runs made of several inputs, see `Measured.parts`.
        """
        return [each for each in earlier if each.parts(measured)]

    def set_hearts(self, hearts: Sequence[Heart]) -> None:
        """Say which volumes are which phase of a heart.

        Raises:
            OptionError: the run is over something else.
        """
        raise OptionError("phases", f"pairs volumes of hearts; {names_of(self.models)} takes {self.one}s.")

    def finish(self, folder: Path, rows: Sequence[Row]) -> None:
        """Write what is of all inputs together, at the end of a run.

        Args:
            folder: of the results.
            rows: of all inputs, those of earlier runs included.
        """

    def forgets(self, row: Row) -> bool:
        """Whether an earlier failure, of an input that is not among these, is of no interest any more."""
        return False


def names_of(models: Iterable[Model]) -> str:
    """Names and versions of checkpoints for a table."""
    return ";".join(f"{model.checkpoint_name} {model.checkpoint_version}" for model in models)


def facts_of(model: Model) -> tuple[str, ...]:
    """What tells a checkpoint, and how it computes, from others in a fingerprint.

    The weights themselves too: a folder or a run that was trained on has the name and version of before.
    """
    precision, samples = getattr(model, "precision", "32"), getattr(model, "samples", None)
    facts = (model.checkpoint_name, model.checkpoint_version, getattr(model, "weights_digest", ""))
    how = () if precision == "32" else (precision,)
    own = getattr(model, "facts", ())  # of settings that may be changed on a loaded model
    return (*facts, *how, *own, *(() if samples is None else (f"{samples} samples",)))


def kind_of(model: Any) -> Kind:
    """What a model takes and gives.

    A model's own attribute ``kind`` says it, a `Kind` or the name of one, else the registered method whose
    module it is. A model of which neither is known segments images or volumes, if it has ``predict_batch``.

    Raises:
        ConfigError: nothing of this is there.
    """
    from anatozoo.zoo.checkpoint import method_of
    from anatozoo.zoo.kinds import LABELS, VOLUME, find_kind
    from anatozoo.zoo.registry import describe_method

    kind = getattr(model, "kind", None)
    if isinstance(kind, str):
        kind = find_kind(kind)
    if kind is None:
        with suppress(ConfigError):
            kind = describe_method(method_of(model)).kind
    if kind is None and hasattr(model, "predict_batch"):
        kind = VOLUME if dims_of(model) == 3 else LABELS
    if kind is None:
        raise ConfigError(
            f"{model.checkpoint_name} is of a method that does not say what it takes and gives, and has no "
            "predict_batch; set its attribute kind."
        )
    found: Kind = kind
    return found


def dims_of(model: Any) -> int:
    """Dimensions of what a model takes: those of its frame, or 2 where it has none, as for radiographs."""
    return len(getattr(model, "shape", (0, 0)))


def add_to_json(path: Path, more: Mapping[str, Any]) -> None:
    """Add keys to a JSON file that a result has written.

    Raises:
        OutputError: the file cannot be written.
    """
    import json

    write_json(path, json.loads(path.read_text(encoding="utf-8")) | dict(more))
