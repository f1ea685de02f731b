"""Calibrate an atlas: intervals of Dice from segmentations whose ground truth is known."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from anatozoo.errors import AnatozooError, DataError
from anatozoo.io.annotations import Entry
from anatozoo.io.files import stem_of
from anatozoo.io.tables import composed
from anatozoo.quality.intervals import DiceIntervals
from anatozoo.results.quality import QualityResult
from anatozoo.serve.quality import Judge


@dataclass
class Calibrator:
    """Judges segmentations with ground truth, and calibrates on them.

    Args:
        judge: what judges; segmentations that others judge otherwise get no intervals.
        images: the images.
        masks: one mapping for each set of segmentations, such as those of one model: image -> segmentation.
        truth: image -> ground truth.
        subject: the patient of an image's name.

    Attributes:
        left_out: file and reason for everything that was not used.
    """

    judge: Judge
    images: Sequence[Path]
    masks: Sequence[Mapping[str, Entry]]
    truth: Mapping[str, Entry]
    subject: Callable[[str], str] = str
    left_out: list[tuple[str, str]] = field(default_factory=list)
    _results: list[QualityResult] = field(default_factory=list)
    _dice: list[dict[str, float]] = field(default_factory=list)
    _patients: list[str] = field(default_factory=list)

    def __iter__(self) -> Iterator[Path]:
        """Judge the segmentations of one image after another; gives the image when it is done.

        Raises:
            DataError: a name has no patient.
        """
        for path in self.images:
            patient = self.subject(stem_of(path))
            try:
                self._add(path, patient)
            except AnatozooError as error:
                self.left_out.append((str(path), " ".join(str(error).split())))
            yield path

    def intervals(self, alpha: float, about: str) -> DiceIntervals:
        """The intervals, after all images.

        Args:
            alpha: share of segmentations whose true Dice may lie outside.
            about: what the segmentations are, in words.

        Raises:
            ConfigError: `alpha` is not within 0 … 1.
            DataError: there are too few segmentations or patients for an organ; see `DiceIntervals.fit`.
        """
        organs = [
            organ
            for organ in self.judge.atlas.organs
            if any(not math.isnan(dice.get(organ, math.nan)) for dice in self._dice)
        ]
        if not organs:
            raise DataError("no segmentation has an estimate and a true Dice, which a calibration needs.")
        dice = {organ: [each.get(organ, math.nan) for each in self._dice] for organ in organs}
        return DiceIntervals.fit(self._results, dice, self._patients, alpha=alpha, about=about)

    def _add(self, path: Path, patient: str) -> None:
        name = composed(stem_of(path))
        truth, entries = self.truth.get(name), [each[name] for each in self.masks if name in each]
        if truth is None or not entries:
            raise DataError(f"there is no {'ground truth' if truth is None else 'mask'} called {name}.")
        image = self.judge.read_image(path)
        reference = self.judge.read_mask(truth, image)
        registered = self.judge.register(image)
        for entry in entries:
            try:
                mask = self.judge.read_mask(entry, image)
                result, dice = registered.judge(mask), registered.true_dice(mask, reference)
            except AnatozooError as error:
                shown = next(iter(entry.paths), path)
                self.left_out.append((str(shown), " ".join(str(error).split())))
                continue
            self._results.append(result)
            self._dice.append(dice)
            self._patients.append(patient)
