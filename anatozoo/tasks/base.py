"""The base class of all models: settings that can be read back, prediction, plain torch."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, is_dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from anatozoo.errors import AnatozooError, ConfigError
from anatozoo.frames.spec import FrameSpec
from anatozoo.io.memory import input_name, is_series, memory_name
from anatozoo.nn.half_precision import full_where_small
from anatozoo.tasks.precision import autocast_type, warn_of_half

if TYPE_CHECKING:
    from anatozoo.data.case import Case as DataCase
    from anatozoo.metrics.cases import Case
    from anatozoo.tasks.signature import Signature
    from anatozoo.tasks.trials import Conditions, Trial

Given = TypeVar("Given")
Answer = TypeVar("Answer")

FRAGMENT = 0.05
"""Results are flagged if more than this share of an organ lies outside its largest part."""


class Predictor(nn.Module):
    """A model of the zoo without its training: a network, its frame, and the prediction from an input.

    A subclass keeps each argument of its constructor in an attribute of the same name, as JSON values or
    frozen records: `settings` reads them back. A checkpoint consists of these settings and the weights.

    Args:
        frame: frame of the network.

    Attributes:
        checkpoint_name: name of the checkpoint that it was loaded from.
        checkpoint_version: version of the checkpoint.
        weights_digest: SHA-256 of the file of the weights; empty without one.
        precision: default precision of predictions, see `anatozoo.tasks.precision`.
        engine: what computes the network: ``"torch"``, ``"compile"``, or the words of another engine, see
            `anatozoo.deploy.engines`.
        offers: outputs for training objectives: ``"maps"``, ``"points"``, ``"images"``.
        needs: what a case must have in an evaluation: ``"image"``, ``"organs"``.
        conditions: options of `anatozoo evaluate` that the model uses, beside the common ones.
        batched: whether `answers` asks several inputs at a time, by ``predict_batch``.
        unit: what one trial is about, in a word, such as ``"image"``.
    """

    offers: ClassVar[frozenset[str]] = frozenset()
    conditions: ClassVar[frozenset[str]] = frozenset()
    needs: frozenset[str] = frozenset({"image", "organs"})
    batched: ClassVar[bool] = False
    unit: ClassVar[str] = "image"

    checkpoint_name: str = "untrained"
    checkpoint_version: str = "0"
    weights_digest: str = ""
    precision: str = "32"
    engine: str = "torch"

    def __init__(self, frame: FrameSpec | Mapping[str, Any]) -> None:
        super().__init__()
        self.frame = FrameSpec.of(frame)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the network's frame, (H, W) or (D, H, W)."""
        return self.frame.shape

    @classmethod
    def setting_names(cls) -> tuple[str, ...]:
        """Names of the settings of the model, those of its constructor."""
        return parameters_of(model_class(cls))

    def settings(self) -> dict[str, Any]:
        """The settings of the model as JSON values, enough to build the same network."""
        return {name: plain(getattr(self, name)) for name in self.setting_names()}

    def place(self) -> tuple[torch.device, torch.dtype]:
        """Device and number format of the weights."""
        weight = next(self.parameters())
        return weight.device, weight.dtype

    def tensor(self, array: npt.NDArray[Any]) -> Tensor:
        """An array as a tensor with the device and number format of the weights."""
        device, dtype = self.place()
        return torch.from_numpy(np.ascontiguousarray(array)).to(device, dtype)

    @contextmanager
    def answering(self, precision: str | None = None) -> Iterator[None]:
        """Run this block in evaluation mode and in a precision; the mode is restored afterwards.

        Weights, positions, graphs and fields stay in float32.

        Args:
            precision: ``"32"``, ``"bf16"`` or, on CUDA, ``"16"``; None takes the attribute.

        Raises:
            ConfigError: the precision is unknown, or not possible on this device.
        """
        was_training = self.training
        with self.in_precision(precision):
            # To set the mode of each layer takes longer than to look at it.
            changes = was_training or any(module.training for module in self.modules())
            if changes:
                self.eval()
            try:
                yield
            finally:
                if changes:
                    self.train(was_training)

    @contextmanager
    def in_precision(self, precision: str | None = None) -> Iterator[None]:
        """Run this block in a precision, see `answering`.

        Raises:
            ConfigError: the precision is unknown, or not possible on this device.
        """
        weights = [value for value in (*self.parameters(), *self.buffers()) if value.is_floating_point()]
        device = weights[0].device.type if weights else "cpu"
        chosen = self.precision if precision is None else precision
        if chosen != "32" and self.engine not in ("torch", "compile"):
            raise ConfigError(
                f"{self.engine} computes as its graph was exported; leave the precision {chosen!r} out."
            )
        kind = autocast_type(chosen, device)
        warn_of_half(weights, kind, device)
        if kind is None:
            yield
            return
        full_where_small(self)
        with torch.autocast(device, kind):
            yield

    # The network alone.

    def signature(self) -> Signature:
        """What the network takes and gives as bare tensors, for exports and engines.

        Raises:
            ConfigError: the network is no such function.
        """
        raise ConfigError(
            f"{self.checkpoint_name} is a {type(self).__name__}, whose network cannot be exported; what it "
            "computes depends on more than one input of one size."
        )

    def computed(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """The outputs of the network, as `signature` lists them; engines stand in for this method."""
        return (self(*inputs),)

    # Evaluation on a data set.

    def usable(self, case: DataCase) -> bool:
        """Whether a case has what the model needs."""
        organs = self.organs if "organs" in self.needs else ()
        return ("image" not in self.needs or case.image is not None) and all(map(case.has, organs))  # type: ignore[arg-type]

    def trials(self, cases: Sequence[DataCase], how: Conditions) -> list[Trial]:
        """The inputs that the cases give the model, each with the reference for its output.

        Args:
            cases: cases that are `usable`.
            how: metrics and conditions of the evaluation.

        Raises:
            ConfigError: models of this task cannot be evaluated on a data set.
        """
        raise ConfigError(
            f"{self.checkpoint_name} cannot be evaluated on a data set; write its results to files, and "
            "compare these by --pred and --ref."
        )

    def summary(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """What rows of an evaluation say together beside the statistics of each metric, as JSON values.

        Args:
            rows: those that could be measured.
        """
        return {}

    def ask(self, question: Any) -> Any:
        """The output for the input of one `Trial`."""
        return self.predict(question)  # type: ignore[operator]

    def answers(self, questions: Iterable[Any], batch_size: int) -> Iterator[Any]:
        """The outputs for many inputs, in order; an input that fails gives its `AnatozooError`.

        Args:
            questions: inputs of trials.
            batch_size: largest number of inputs at a time, where the model takes several.
        """
        given = iter(questions)
        while batch := list(islice(given, batch_size if self.batched else 1)):
            if self.batched:
                try:
                    yield from list(self.predict_batch(batch, batch_size))  # type: ignore[operator]
                    continue
                except AnatozooError:
                    pass  # one fails the whole batch; one by one, the others have their results
            for question in batch:
                try:
                    answer = self.ask(question)
                except AnatozooError as error:
                    answer = error
                yield answer

    # Validation.

    def columns(self) -> list[str]:
        """Names of the numbers of each case that are logged; the first one selects the weights."""
        return []

    def infer(self, batch: Mapping[str, Tensor]) -> Any:
        """The network's output for a validation batch."""
        raise TypeError(f"{type(self).__name__} does not define infer.")

    def cases(self, output: Any, batch: Mapping[str, Tensor]) -> list[Case]:
        """Predictions with their references, one case per image of the batch, on the CPU.

        The ``numbers`` of an `anatozoo.metrics.cases.Case` hold what needs neither masks nor landmarks.

        Args:
            output: the result of `infer`.
            batch: the validation batch; its ``spacing_mm`` (B, n), NaN where unknown, gives millimetres.
        """
        raise TypeError(f"{type(self).__name__} does not define cases.")


@dataclass(frozen=True)
class FailedInput:
    """What ``predict_batch(..., on_error="record")`` gives for an input that fails; false, as no result is.

    Attributes:
        image: path or name of the input, or ``"array"``.
        error: why it failed.
    """

    image: str
    error: AnatozooError

    def __bool__(self) -> bool:
        return False


def in_batches(
    xs: Iterable[Any],
    batch_size: int,
    read: Callable[[Any], Given],
    answer: Callable[[Sequence[Given]], Iterable[Answer]],
    on_error: str = "raise",
) -> Iterator[Answer]:
    """Read and predict many inputs, `batch_size` at a time; yields results in order.

    Args:
        xs: the inputs.
        batch_size: how many are predicted together.
        read: reads one.
        answer: predicts those that were read.
        on_error: ``"raise"``, or ``"record"`` to yield a `FailedInput` for an input that fails, and go on.
            What is wrong with the call rather than with an input (`ConfigError`) is raised either way.

    Raises:
        ConfigError: `batch_size` is below 1, `on_error` is neither, or `xs` is a single input.
        AnatozooError: an input cannot be read; the results of those before it have been yielded.
    """
    if batch_size < 1:
        raise ConfigError(f"batch_size={batch_size} must be at least 1.")
    if on_error not in ("raise", "record"):
        raise ConfigError(f"on_error={on_error!r} must be 'raise' or 'record'.")
    if isinstance(xs, str | os.PathLike) or (memory_name(xs) is not None and not is_series(xs)):
        raise ConfigError("predict_batch takes several inputs; put a single one into a list, or use predict.")
    if on_error == "record":
        return _recorded(xs, batch_size, read, answer)
    return _raised(xs, batch_size, read, answer)


def _raised(
    xs: Iterable[Any],
    batch_size: int,
    read: Callable[[Any], Given],
    answer: Callable[[Sequence[Given]], Iterable[Answer]],
) -> Iterator[Answer]:
    batch: list[Given] = []
    for x in xs:
        try:
            batch.append(read(x))
        except AnatozooError:
            if batch:
                yield from answer(batch)
            raise
        if len(batch) == batch_size:
            yield from answer(batch)
            batch = []
    if batch:
        yield from answer(batch)


def _recorded(
    xs: Iterable[Any],
    batch_size: int,
    read: Callable[[Any], Given],
    answer: Callable[[Sequence[Given]], Iterable[Answer]],
) -> Iterator[Any]:
    inputs = iter(xs)
    while batch := list(islice(inputs, batch_size)):
        given = [_result_or_error(read, x) for x in batch]
        good = [each for each in given if not isinstance(each, AnatozooError)]
        found = _result_or_error(lambda several: list(answer(several)), good) if good else []
        if isinstance(found, AnatozooError):
            # One fails the whole batch; one by one, the others have their results.
            found = [_result_or_error(lambda one: next(iter(answer([one]))), each) for each in good]
        answers = iter(found)
        for x, each in zip(batch, given, strict=True):
            outcome = each if isinstance(each, AnatozooError) else next(answers)
            is_failure = isinstance(outcome, AnatozooError)
            yield FailedInput(input_name(x), outcome) if is_failure else outcome


def _result_or_error(function: Callable[[Any], Any], x: Any) -> Any:
    """What a function gives, or the error of the input that it raises."""
    try:
        return function(x)
    except ConfigError:
        raise
    except AnatozooError as error:
        return error


def model_class(cls: type) -> type[Predictor]:
    """The class of the model without training, for a model or module class."""
    for each in cls.__mro__:
        if issubclass(each, Predictor) and not hasattr(each, "training_step"):
            return each
    raise TypeError(f"{cls.__name__} is not a model.")


def parameters_of(cls: type) -> tuple[str, ...]:
    """Names of a constructor's arguments, including those that it passes on to its base classes."""
    found: dict[str, None] = {}
    for each in cls.__mro__:
        if "__init__" not in vars(each) or not issubclass(each, nn.Module):
            continue
        parameters = list(inspect.signature(vars(each)["__init__"]).parameters.values())[1:]
        found |= dict.fromkeys(p.name for p in parameters if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL))
        if not any(p.kind == p.VAR_KEYWORD for p in parameters):
            break
    return tuple(found)


def plain(value: Any) -> Any:
    """A setting as JSON values: records become mappings, tuples lists."""
    if is_dataclass(value) and not isinstance(value, type):
        return {key: plain(item) for key, item in asdict(value).items()}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value
