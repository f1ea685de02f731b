"""From an image to one probability for each finding."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from anatozoo.data.findings import as_numbers, check_findings, check_known, finding_of
from anatozoo.errors import DataError
from anatozoo.frames.spec import FrameSpec
from anatozoo.io.annotation import Annotation
from anatozoo.metrics.cases import Case
from anatozoo.metrics.classification import finding_numbers
from anatozoo.tasks.images import AnsweringTask
from anatozoo.tasks.signature import Signature, Tensors
from anatozoo.tasks.temperature import Probabilities, checked_temperature

if TYPE_CHECKING:
    from anatozoo.data.case import Case as DataCase
    from anatozoo.io.images import Image
    from anatozoo.results.scores import ScoreResult
    from anatozoo.tasks.trials import Conditions, Judge, Trial


class ScoreTask(AnsweringTask["ScoreResult"]):
    """A model that says how probable findings are in a 2-D image; findings do not exclude one another.

    Images in colour become luminance and are flagged.

    Subclasses set `network`, which gives logits (B, findings).

    Args:
        findings: names of the findings, which are those of columns in tables.
        frame: frame of the network; its size is one side, its fit ``"pad"``.
        check_view: whether `predict` flags images that are not upright frontal chest radiographs, see
            `anatozoo.tasks.chest_view`.
        temperature: what logits are divided by; `anatozoo calibrate` fits it. The order of images by their
            scores, and so every AUC, does not depend on it.

    Raises:
        ConfigError: a setting is not possible.
    """

    needs = frozenset({"image"})

    network: Any

    def __init__(
        self,
        findings: Sequence[str],
        frame: FrameSpec | Mapping[str, Any],
        check_view: bool = False,
        temperature: float = 1.0,
    ) -> None:
        super().__init__(frame)
        self.findings = check_findings(findings)
        self.check_view, self.temperature = check_view, checked_temperature(temperature)

    def forward(self, image: Tensor) -> Tensor:
        """Logits (B, findings) float32 of images (B, 1, S, S) in [0, 1], before the temperature."""
        logits: Tensor = self.network(image)
        return logits

    def signature(self) -> Signature:
        """Logits of an image."""
        seen = Tensors("image", (1, *self.shape), "grey values in [0, 1], 0 around the image")
        meaning = f"logits of {', '.join(self.findings)}, before the temperature {self.temperature:g}"
        return Signature((seen,), (Tensors("findings", (len(self.findings),), meaning),))

    # Evaluation.

    def usable(self, case: DataCase) -> bool:
        """Whether there is an image; of findings that nobody states there is a score and no truth."""
        return case.image is not None

    def trials(self, cases: Sequence[DataCase], how: Conditions) -> list[Trial]:
        """Each image, judged by what the table says of it.

        A row holds for each finding its truth, 0, 1 or nothing, under the finding's name, and its probability
        as ``score/FINDING``: `anatozoo audit --classifier FINDING=score/FINDING` reads them. ``nll`` and
        ``brier`` are means over the findings that are known.

        Raises:
            DataError: a finding is known of no case.
        """
        from anatozoo.tasks.trials import Trial, identity_of

        check_known(cases, self.findings, "the data")
        return [Trial(identity_of(case), lambda case=case: self._trial(case)) for case in cases]  # type: ignore[misc]

    def summary(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """AUC and calibration of each finding, see `anatozoo.metrics.classification.finding_numbers`."""
        columns = {finding: (finding, *as_numbers({finding: 0})) for finding in self.findings}
        return {"findings": finding_numbers(rows, columns)}  # type: ignore[arg-type]

    def asked(self, case: DataCase) -> tuple[Probabilities, npt.NDArray[np.uint8]]:
        """The known findings of a case and whether they are there, for a fit of the temperature.

        Each finding counts as a pixel of two classes.

        Raises:
            DataError: no finding is known, or a cell cannot be read.
            ImageError: the image cannot be read.
        """
        truth = np.array([finding_of(case, finding) for finding in self.findings])
        known = ~np.isnan(truth)
        if not known.any():
            raise DataError("no finding is known.")
        logits = self._logits([case.read_flat()], None)[0][0][known]
        scores = torch.stack([torch.zeros_like(logits), logits])
        return Probabilities(scores, self.temperature, lambda labels: labels), truth[known].astype(np.uint8)

    # Validation.

    def columns(self) -> list[str]:
        """Negative log-likelihood and Brier score; the first selects the weights, the lower the better."""
        return ["nll", "brier"]

    def infer(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Logits (B, findings) of the batch's ``image``."""
        return self(batch["image"])

    def cases(self, output: Tensor, batch: Mapping[str, Tensor]) -> list[Case]:
        """Truth and score of each finding; ``findings`` (B, findings) holds 1, 0 or NaN."""
        scores = (output.float() / self.temperature).sigmoid().cpu().double().tolist()
        truths = batch["findings"].cpu().double().tolist()
        images = batch["image"][:, 0].float().cpu().numpy()
        nothing = Annotation((self.side, self.side))
        return [
            Case(nothing, nothing, image, self._numbers(*each))
            for image, *each in zip(images, scores, truths, strict=True)
        ]

    def _trial(self, case: DataCase) -> tuple[Image, Judge]:
        from anatozoo.tasks.trials import numbers_case

        truth = [finding_of(case, finding) for finding in self.findings]
        return case.read_flat(), lambda result: numbers_case(
            self._numbers(list(result.scores.values()), truth)
        )

    def _numbers(self, scores: Sequence[float], truth: Sequence[float]) -> dict[str, float]:
        y, p = torch.tensor(truth, dtype=torch.float64), torch.tensor(scores, dtype=torch.float64)
        known = ~y.isnan()
        numbers = dict(zip(self.findings, truth, strict=True))
        numbers |= as_numbers(dict(zip(self.findings, scores, strict=True)))
        losses = F.binary_cross_entropy(p[known], y[known]), (p - y)[known].square().mean()
        return numbers | {name: float(value) for name, value in zip(self.columns(), losses, strict=True)}

    @torch.inference_mode()
    def _logits(self, images: Sequence[Image], precision: str | None) -> tuple[Tensor, list[Image]]:
        """Logits (B, findings) of images, and these with what their view is flagged for."""
        from anatozoo.frames.square import to_network

        frames = [to_network(image, self.side, self.frame.intensity)[0] for image in images]
        if self.check_view:
            from anatozoo.tasks.chest_view import with_view_flags

            seen = frames
            if self.frame.intensity != "percentiles":
                seen = [to_network(image, self.side)[0] for image in images]
            images = with_view_flags(images, seen)
        with self.answering(precision):
            logits = self.computed(self.tensor(np.stack(frames)[:, None]))[0].float().cpu()
        return logits, list(images)

    def results(self, images: Sequence[Image], precision: str | None = None) -> list[ScoreResult]:
        """The scores of each image."""
        from anatozoo.results.scores import ScoreResult

        logits, seen = self._logits(images, precision)
        scores = (logits.double() / self.temperature).sigmoid().tolist()
        return [
            ScoreResult(
                checkpoint=self.checkpoint_name,
                version=self.checkpoint_version,
                image=image.source or image.name,
                size=image.size,
                spacing_mm=image.spacing_mm,
                scores=dict(zip(self.findings, values, strict=True)),
                flags=image.flags,
                dicom=image.dicom,
                pixels=image.pixels,
            )
            for image, values in zip(seen, scores, strict=True)
        ]
