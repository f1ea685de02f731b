"""Whether a graph computes what torch computes: the same `predict`, on the golden input."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from anatozoo.errors import ConfigError, DataError, WeightsError
from anatozoo.io.phantoms import chest_phantom
from anatozoo.tasks.base import Predictor
from anatozoo.training.export import golden_question
from anatozoo.zoo.golden import golden_result, read_golden, spacing_settings
from anatozoo.zoo.golden_results import Golden
from anatozoo.zoo.spec import GOLDEN

BOUNDS = {
    "fp32": {"px": 0.05, "share": 0.001, "range": 0.001, "probability": 0.001},
    "fp16": {"px": 0.5, "share": 0.001, "range": 0.001, "probability": 0.01},
    "int8": {"px": 16.0, "share": 0.02, "range": 0.02, "probability": 0.1},
}
"""How far a result may be from torch's, by precision and the unit of the result: pixels of the source for
landmarks and fields, shares of pixels for label maps."""


@dataclass(frozen=True)
class Question:
    """An input of `predict` to compare two ways of computing.

    Args:
        inputs: arrays, in the order of the arguments.
        settings: other arguments.
        source: what the input is, in words.
    """

    inputs: tuple[np.ndarray, ...]
    settings: Mapping[str, Any]
    source: str


@dataclass(frozen=True)
class Parity:
    """How far a result is from torch's.

    Args:
        what: what was compared.
        difference: the largest one, in the unit.
        unit: ``"px"``, ``"share"`` of pixels, ``"range"``, or ``"probability"``.
        bound: what it may be.
        source: what was predicted.
    """

    what: str
    difference: float
    unit: str
    bound: float
    source: str

    @property
    def holds(self) -> bool:
        """Whether it is within its bound; NaN is not."""
        return self.difference <= self.bound

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)


def question_of(model: Predictor, folder: Path | None) -> Question:
    """The golden input of a checkpoint, or one that its method offers.

    Args:
        model: the model.
        folder: of its checkpoint; None for one without.

    Raises:
        ConfigError: there is none.
        WeightsError: the golden test is broken.
    """
    if folder is not None and (folder / GOLDEN).is_file():
        inputs, _, _, _, settings = read_golden(folder / GOLDEN)
        return Question(tuple(inputs.values()), settings, "golden input")
    try:
        given, spacing = golden_question(model, model.checkpoint_name)
    except DataError:  # the free radiograph is an extra
        drawn = chest_phantom().image.astype(np.uint8)
        shifted = [np.roll(drawn, 8 * number, (0, 1)) for number in range(len(model.signature().inputs))]
        return Question(tuple(shifted), {}, "drawn chest")
    arrays = given if isinstance(given, Mapping) else {"image": given}
    settings = spacing_settings(tuple(arrays), None if spacing is None else tuple(spacing))
    return Question(tuple(arrays.values()), settings, "input that the method offers")


def answer_of(model: Predictor, question: Question) -> tuple[Golden, dict[str, np.ndarray]]:
    """The part of a prediction that golden tests compare.

    Raises:
        ConfigError: it has no such part.
    """
    form, arrays = golden_result(model.predict(*question.inputs, **question.settings))  # type: ignore[operator]
    if form is None:
        raise ConfigError(f"the results of {model.checkpoint_name} cannot be compared.")
    return form, arrays


def compared(
    model: Predictor, question: Question, expected: tuple[Golden, dict[str, np.ndarray]], precision: str
) -> Parity:
    """Compare what a model predicts by its engine with what it predicted by torch.

    Args:
        model: with the engine.
        question: the input.
        expected: `answer_of` of the model without it.
        precision: of the engine's graph, one of `BOUNDS`.

    Raises:
        WeightsError: the difference is larger than the bound.
    """
    form, before = expected
    _, after = answer_of(model, question)
    inputs = {str(number): each for number, each in enumerate(question.inputs)}
    differences = [form.difference(before[key], after[key], inputs) for key in before]
    worst = max(differences, key=lambda each: (math.isnan(each), each))
    found = Parity(form.attribute, worst, form.unit, BOUNDS[precision][form.unit], question.source)
    if not found.holds:
        raise WeightsError(
            f"the graph of {model.checkpoint_name} does not compute what torch does: on the {found.source}, "
            f"{found.what} differs by {worst:.4g} {form.unit}, and {found.bound:g} is allowed. Nothing was "
            "written; report it with the output of `anatozoo doctor`."
        )
    return found
