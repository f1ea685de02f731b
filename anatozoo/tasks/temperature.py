"""Probabilities of a segmenter in its frame, and the one number that calibrates them: the temperature.

Guo et al., "On calibration of modern neural networks", ICML 2017: the logits of every pixel are divided by T
before the softmax, and T minimises the negative log-likelihood on cases that trained nothing. T > 1 makes a
network less sure. Its label maps stay as they are, because they are made of the probabilities at T = 1.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from anatozoo.errors import ConfigError, DataError
from anatozoo.metrics.calibration import BINS, Reliability, calibration_numbers, ece, nll, reliability
from anatozoo.metrics.cases import Case

Link = Callable[[Tensor], Tensor]
RANGE = (0.05, 20.0)
"""Temperatures among which a fit looks for the best."""
PIXELS = 2**18
"""Most pixels of a case that a fit takes, drawn at random, the same in every run."""
STRATA = ("all", "foreground")
"""The pixels that are counted: every one within the image, or those whose true label is an organ."""


def checked_temperature(value: Any) -> float:
    """A temperature.

    Raises:
        ConfigError: it is not a finite number above 0.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise ConfigError(f"temperature={value!r} must be a finite number above 0; 1 changes nothing.")
    return float(value)


def softmax(scores: Tensor) -> Tensor:
    """Probabilities of labels from their logits, (1 + organs, ...)."""
    return scores.softmax(0)


@dataclass(frozen=True, eq=False)
class Probabilities:
    """The probabilities of the labels in the network's frame.

    Attributes:
        scores: (C, ...) float32 on the CPU, logits, or logarithms of probabilities.
        temperature: the model's temperature.
        into_frame: brings a label map of the source grid into the frame by its nearest pixels, 0 beyond.
        link: from scores to probabilities (1 + organs, ...), background first.
    """

    scores: Tensor
    temperature: float
    into_frame: Callable[[npt.NDArray[np.uint8]], npt.NDArray[np.uint8]]
    link: Link = softmax

    def at(self, temperature: float | None = None) -> npt.NDArray[np.float32]:
        """Probabilities (1 + organs, ...), which sum to one, at a temperature; None is the model's."""
        chosen = self.temperature if temperature is None else checked_temperature(temperature)
        values: npt.NDArray[np.float32] = self.link(self.scores / chosen).numpy()
        return values

    def truth(self, labels: npt.NDArray[np.uint8]) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.bool_]]:
        """A label map of the source grid in the frame, and which pixels of the frame show no image."""
        # 254 organs at most, so that one more fits in a byte.
        shifted = self.into_frame(labels + np.uint8(1))
        return np.maximum(shifted.astype(np.intp) - 1, 0), shifted == 0


@dataclass
class Calibrations:
    """What the cases of an evaluation say together of a model's probabilities, at its temperature and at 1.

    Attributes:
        sums: stratum and temperature -> the bins over all cases so far.
        cases: number of cases.
    """

    sums: dict[tuple[str, float], Reliability] = field(default_factory=dict)
    cases: int = 0

    def add(self, found: Probabilities, labels: npt.NDArray[np.uint8]) -> dict[str, float]:
        """Count a case; gives its own numbers, see `anatozoo.metrics.calibration.calibration_numbers`.

        Args:
            found: the probabilities.
            labels: the reference on the source grid.
        """
        truth, beyond = found.truth(labels)
        self.cases += 1
        for temperature in dict.fromkeys((1.0, found.temperature)):
            values = found.at(temperature)
            for stratum, left_out in zip(STRATA, (beyond, beyond | (truth == 0)), strict=True):
                bins = reliability(values, truth, bins=BINS, ignore=left_out)
                key = stratum, temperature
                self.sums[key] = self.sums[key] + bins if key in self.sums else bins
        return calibration_numbers(found.at(), truth, ignore=beyond)

    def record(self) -> dict[str, Any]:
        """The bins of all cases together, as JSON values."""
        curves = [
            {"pixels": stratum, "temperature": temperature, **bins.to_dict()}
            for (stratum, temperature), bins in self.sums.items()
        ]
        return {"cases": self.cases, "bins": BINS, "curves": curves}


def judged_too(
    judge: Callable[[Any], Case],
    calibration: Calibrations,
    look: Callable[[], Probabilities],
    labels: npt.NDArray[np.uint8],
) -> Callable[[Any], Case]:
    """What judges a result, and beside it the probabilities of the model, which is asked once more.

    Args:
        judge: makes a case of the result.
        calibration: takes the case.
        look: asks the model.
        labels: the reference on the source grid.
    """

    def both(result: Any) -> Case:
        case = judge(result)
        return replace(case, numbers={**case.numbers, **calibration.add(look(), labels)})

    return both


@dataclass(frozen=True)
class Fitted:
    """A temperature with what it changes on the pixels that it was fitted to.

    Attributes:
        temperature: the best.
        cases: number of cases.
        pixels: number of pixels.
        before: ``nll`` and ``ece`` without a temperature.
        after: the same with it.
    """

    temperature: float
    cases: int
    pixels: int
    before: Mapping[str, float]
    after: Mapping[str, float]


class TemperatureFit:
    """Finds the temperature of a model by the pixels of some cases; each case counts by its pixels.

    Of a case with more than 2^18 pixels in the frame so many are drawn at random, the same in every run.
    """

    def __init__(self) -> None:
        self._scores: list[Tensor] = []
        self._labels: list[Tensor] = []
        self._link: Link = softmax

    def __len__(self) -> int:
        """Number of cases."""
        return len(self._labels)

    def add(self, name: str, found: Probabilities, labels: npt.NDArray[np.uint8]) -> None:
        """Take the pixels of a case.

        Args:
            name: name of the case, which seeds the draw.
            found: the probabilities.
            labels: the reference on the source grid.
        """
        truth, beyond = found.truth(labels)
        places = np.flatnonzero(~beyond)
        if len(places) > PIXELS:
            draw = np.random.default_rng(zlib.crc32(name.encode()))
            places = draw.choice(places, PIXELS, replace=False)
        self._scores.append(found.scores.flatten(1)[:, places])
        self._labels.append(torch.from_numpy(truth.ravel()[places]))
        self._link = found.link

    def fit(self) -> Fitted:
        """The temperature with the least negative log-likelihood, and what it changes.

        Raises:
            DataError: there is no case, or the likelihood has no optimum between 0.05 and 20.
        """
        if not self._labels or not sum(map(len, self._labels)):
            raise DataError("no case has a pixel to fit a temperature to.")
        from scipy.optimize import minimize_scalar

        scores, labels = torch.cat(self._scores, 1), torch.cat(self._labels)
        smallest = torch.finfo(torch.float32).tiny

        def likelihood(log_t: float) -> float:
            p = self._link(scores / math.exp(log_t)).gather(0, labels[None])
            return -float(p.clamp_min(smallest).log().mean(dtype=torch.float64))

        # Convex in 1 / T, so that a search along one number finds what L-BFGS would.
        low, high = map(math.log, RANGE)
        best = float(minimize_scalar(likelihood, bounds=(low, high), method="bounded").x)
        least = likelihood(best)
        if min(best - low, high - best) < 1e-2 or min(map(likelihood, (low, high))) <= least + 1e-9:
            raise DataError(
                f"no temperature between {RANGE[0]:g} and {RANGE[1]:g} is better than both ends: the model "
                "is right at every pixel of these cases, or knows nothing of them. Take other cases."
            )
        before, after = (
            {"nll": nll(p, labels), "ece": ece(p, labels, bins=BINS)}
            for p in (self._link(scores).numpy(), self._link(scores / math.exp(best)).numpy())
        )
        return Fitted(math.exp(best), len(self), len(labels), before, after)
