"""Calibrate an atlas: intervals of Dice from segmentations whose ground truth is known."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from anatozoo.errors import AnatozooError, DataError
from anatozoo.io.annotations import Entry
from anatozoo.io.files import stem_of
from anatozoo.io.tables import composed
from anatozoo.quality.intervals import ALPHA, DiceIntervals, refuse_too_few
from anatozoo.results.quality import QualityResult
from anatozoo.serve.quality import Judge


class _Known(NamedTuple):
    """An image with its patient, ground truth and segmentations."""

    path: Path
    patient: str
    truth: Entry
    masks: list[Entry]


class Calibrator:
    """Judges segmentations with ground truth, and calibrates on them.

    What can be found wrong without a registration is found here.

    Args:
        judge: what judges; segmentations that others judge otherwise get no intervals.
        images: the images.
        masks: one mapping for each set of segmentations, such as those of one model: image -> segmentation.
        truth: image -> ground truth.
        subject: the patient of an image's name.
        alpha: share of segmentations whose true Dice may lie outside.

    Raises:
        ConfigError: `alpha` is not within 0 … 1.
        DataError: a name has no patient, or there are too few patients or segmentations.

    Attributes:
        left_out: file and reason for everything that was not used.
    """

    def __init__(
        self,
        judge: Judge,
        images: Sequence[Path],
        masks: Sequence[Mapping[str, Entry]],
        truth: Mapping[str, Entry],
        subject: Callable[[str], str] = str,
        alpha: float = ALPHA,
    ) -> None:
        self.judge, self.alpha = judge, alpha
        self.left_out: list[tuple[str, str]] = []
        self._known: list[_Known] = []
        for path in images:
            stem = stem_of(path)
            name, patient = composed(stem), subject(stem)
            entries = [each[name] for each in masks if name in each]
            if name not in truth or not entries:
                what = "mask" if name in truth else "ground truth"
                self.left_out.append((str(path), f"there is no {what} called {name}."))
            elif reason := judge.shortage(stem):
                self.left_out.append((str(path), f"{reason}; take a lower count."))
            else:
                self._known.append(_Known(path, patient, truth[name], entries))
        try:
            refuse_too_few([each.patient for each in self._known for _ in each.masks], alpha)
        except DataError as error:
            if not self.left_out:
                raise
            first, reason = self.left_out[0]
            lacking = f"Images left out: {len(self.left_out)}, first {first}: {reason}"
            raise DataError(f"{error} {lacking}") from error
        self._results: list[QualityResult] = []
        self._dice: list[dict[str, float]] = []
        self._patients: list[str] = []

    def __len__(self) -> int:
        """Number of images to judge."""
        return len(self._known)

    def __iter__(self) -> Iterator[Path]:
        """Judge the segmentations of one image after another; gives the image when it is done."""
        for each in self._known:
            try:
                self._add(each)
            except AnatozooError as error:
                self.left_out.append((str(each.path), " ".join(str(error).split())))
            yield each.path

    def intervals(self, about: str) -> DiceIntervals:
        """The intervals, after all images.

        Args:
            about: what the segmentations are, in words.

        Raises:
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
        return DiceIntervals.fit(self._results, dice, self._patients, alpha=self.alpha, about=about)

    def _add(self, known: _Known) -> None:
        image = self.judge.read_image(known.path)
        reference = self.judge.read_mask(known.truth, image)
        registered = self.judge.register(image)
        for entry in known.masks:
            try:
                mask = self.judge.read_mask(entry, image)
                result, dice = registered.judge(mask), registered.true_dice(mask, reference)
            except AnatozooError as error:
                shown = next(iter(entry.paths), known.path)
                self.left_out.append((str(shown), " ".join(str(error).split())))
                continue
            self._results.append(result)
            self._dice.append(dice)
            self._patients.append(known.patient)
