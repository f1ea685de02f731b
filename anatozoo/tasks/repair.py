"""From a mask of any form and size to a `RepairResult`."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from anatozoo.errors import ConfigError, GeometryError
from anatozoo.frames.frame import Frame
from anatozoo.frames.planes import in_one_part, labels_on_grid, largest_plane, organ_planes, to_frame
from anatozoo.frames.spec import FrameSpec
from anatozoo.io.masks import Classes, MaskInput, read_mask
from anatozoo.metrics.cases import case_numbers
from anatozoo.nn.labels import check_labels
from anatozoo.tasks.base import Predictor, in_batches
from anatozoo.tasks.cases import label_dice
from anatozoo.tasks.signature import Signature, Tensors

if TYPE_CHECKING:
    from anatozoo.data.case import Case as DataCase
    from anatozoo.metrics.cases import Case
    from anatozoo.results.repair import RepairResult
    from anatozoo.tasks.trials import Conditions, Judge, Trial

Labels = npt.NDArray[np.uint8]

LARGE_CHANGE = 0.7
"""Dice between before and after below which a result is flagged."""
TRACE = 0.05
"""An organ counts as restored if at most this share of it existed before."""


class RepairTask(Predictor):
    """A model that takes a mask and gives a plausible one, 2-D or 3-D.

    Subclasses set `network`, which gives logits, or implement `forward`.

    Args:
        organs: names of the organs, in the order of their labels 1, 2, ...
        frame: frame of the network; its fit is ``"pad"``, ``"stretch"`` or ``"spacing"``.
        one_part: organs of which only the largest connected component is kept after the repair, mapped to the
            organs that may cover them: parts that are connected behind those count as one.

    Raises:
        ConfigError: settings that are not possible.
    """

    offers: ClassVar = frozenset({"maps"})
    needs = frozenset({"organs"})

    def __init__(
        self,
        organs: Sequence[str],
        frame: FrameSpec | Mapping[str, Any],
        one_part: Mapping[str, Sequence[str]] = MappingProxyType({}),
    ) -> None:
        super().__init__(frame)
        self.frame.require((2, 3), ("pad", "stretch", "spacing"))
        self.organs = check_labels(organs)
        if not 1 <= len(self.organs) <= 254:
            raise ConfigError(f"organs={self.organs} must be 1 to 254 names.")
        self.one_part = {organ: list(covers) for organ, covers in one_part.items()}
        named = {*self.one_part, *(name for names in self.one_part.values() for name in names)}
        if strangers := sorted(named - {*self.organs}):
            raise ConfigError(
                f"one_part names {', '.join(strangers)}, but the organs are {', '.join(self.organs)}."
            )
        number = {organ: value for value, organ in enumerate(self.organs, start=1)}
        self.behind = [
            (number[organ], [number[c] for c in covers]) for organ, covers in self.one_part.items()
        ]

    def forward(self, probability: Tensor) -> Tensor:
        """Logits (B, 1 + organs, ...), background first, of one-hot or soft labels of that shape."""
        raise TypeError(f"{type(self).__name__} does not define forward.")

    def signature(self) -> Signature:
        """Logits of the shares of a mask."""
        shape = (1 + len(self.organs), *self.shape)
        return Signature(
            (Tensors("shares", shape, "share of each pixel that background and organs cover"),),
            (Tensors("logits", shape, "logits of the labels, background first; the largest one counts"),),
        )

    def predict(
        self,
        x: Any,
        *,
        classes: Classes = None,
        spacing_mm: float | Sequence[float] | None = None,
        precision: str | None = None,
    ) -> "RepairResult":
        """Repair one mask of any size.

        Args:
            x: path, bytes, binary file object, array, tensor, PIL or SimpleITK image, or the result of
                a segmenter: a label map, one plane per organ, or probabilities; see
                `anatozoo.io.masks.read_mask`.
            classes: names of its labels 1, 2, ..., or value -> name; None takes the model's organs. The
                result of a segmenter has its own names.
            spacing_mm: millimetres per pixel, one number or (x, y[, z]), if the source has none.
            precision: ``"32"``, ``"bf16"`` or, on CUDA, ``"16"``; None takes the attribute of this name.

        Returns:
            The mask before and after, on its own grid.

        Raises:
            ImageError: this model cannot repair the mask; the message says why.
            GeometryError: the model works in millimetres and the spacing is unknown.
            ConfigError: the precision is not possible.
        """
        return self._repair([self._read(x, classes, spacing_mm)], precision)[0]

    def predict_batch(
        self,
        xs: Iterable[Any],
        batch_size: int = 8,
        *,
        classes: Classes = None,
        spacing_mm: float | Sequence[float] | None = None,
        precision: str | None = None,
        on_error: str = "raise",
    ) -> Iterator["RepairResult"]:
        """Repair many masks, `batch_size` at a time; yields results in order, the same as `predict`'s.

        Args:
            xs: whatever `predict` takes.
            batch_size: how many are computed together.
            classes: see `predict`.
            spacing_mm: see `predict`.
            precision: see `predict`.
            on_error: ``"raise"``, or ``"record"``: a mask that fails gives an
                `anatozoo.tasks.base.FailedInput` in its place, which is false, and the others their results.

        Raises:
            ConfigError: `batch_size` is below 1, or on_error is neither of the two.
            ImageError: a mask cannot be repaired; the ones before it have been yielded.
            GeometryError: the model works in millimetres and the spacing of a mask is unknown.
        """
        return in_batches(
            xs,
            batch_size,
            lambda x: self._read(x, classes, spacing_mm),
            lambda masks: self._repair(masks, precision),
            on_error,
        )

    def trials(self, cases: Sequence["DataCase"], how: "Conditions") -> "list[Trial]":
        """Each mask as the data hold it: what a repair loses of what needs none."""
        from anatozoo.tasks.trials import Trial, identity_of

        return [Trial(identity_of(case), partial(self._trial, case, how)) for case in cases]

    def ask(self, question: Any) -> Labels:
        """The repaired label map of a mask, or of shares (1 + organs, ...) in the frame, background first."""
        return self.repaired(question) if isinstance(question, Tensor) else self.predict(question).after

    @torch.inference_mode()
    def repaired(self, shares: Tensor) -> Labels:
        """The repaired label map (...) in the frame, of shares (1 + organs, ...) in it, background first."""
        device, dtype = self.place()
        with self.answering():
            [logits] = self.computed(shares[None].to(device, dtype))
        return largest_plane(list(in_one_part(logits.float().softmax(1)[0].cpu().numpy(), self.behind)))

    def _trial(self, case: "DataCase", how: "Conditions") -> "tuple[Any, Judge]":
        from anatozoo.tasks.trials import as_mask, read_truth

        truth, grid = read_truth(case, self.organs, how)
        return as_mask(truth, grid), self.judge(truth, truth, grid.spacing_mm, how)

    def judge(
        self, before: Labels, truth: Labels, spacing_mm: tuple[float, ...] | None, how: "Conditions"
    ) -> "Judge":
        """What makes a case of a repaired label map: its numbers are those of the mask before the repair.

        Args:
            before: label map that was given.
            truth: of the same grid.
            spacing_mm: of that grid.
            how: what is measured.
        """
        from anatozoo.tasks.trials import labels_beside

        def made(after: Labels) -> "Case":
            given = case_numbers(labels_beside(before, truth, self.organs, spacing_mm), how.measures)
            numbers = {name.replace("/", "_before/", 1): value for name, value in given.items()}
            numbers |= {
                "dice_before": label_dice(before, truth, count),
                "dice": label_dice(after, truth, count),
            }
            return labels_beside(after, truth, self.organs, spacing_mm, numbers)

        count = len(self.organs)

        return made

    def golden_input(self) -> np.ndarray:
        """A label map that is free to share, for the golden test."""
        from anatozoo.io.samples import sample_label_map

        return sample_label_map(self.shape, len(self.organs))

    def _read(self, x: Any, classes: Classes, spacing_mm: float | Sequence[float] | None) -> MaskInput:
        mask = read_mask(x, self.organs, len(self.shape), classes=classes, spacing_mm=spacing_mm)
        if self.frame.fit == "spacing" and mask.grid.spacing_mm is None:
            raise GeometryError(
                f"this model works at {self.frame.spacing_mm} mm, but the spacing of the mask "
                f"{mask.name!r} is unknown; give spacing_mm."
            )
        return mask

    @torch.inference_mode()
    def _repair(self, masks: Sequence[MaskInput], precision: str | None = None) -> list["RepairResult"]:
        frames = [Frame.fit(mask.grid, self.frame) for mask in masks]
        batch = np.empty((len(masks), 1 + len(self.organs), *self.shape), np.float32)
        # The work on single masks takes about as long as the network.
        with ThreadPoolExecutor(torch.get_num_threads()) as pool:
            list(pool.map(self._fill, batch, masks, frames))
            with self.answering(precision):
                [logits] = self.computed(self.tensor(batch))
            probability = logits.float().softmax(1).cpu().numpy()
            return list(pool.map(self._result, masks, frames, probability))

    def _fill(self, item: np.ndarray, mask: MaskInput, frame: Frame) -> None:
        """Write a mask's shares of background and organs into a batch."""
        if mask.planes is None:
            item[1:] = organ_planes(mask.labels, len(self.organs), frame)
        else:
            item[1:] = to_frame(list(mask.planes), frame)
        item[0] = np.maximum(1 - item[1:].sum(0), 0)

    def _result(self, mask: MaskInput, frame: Frame, probability: np.ndarray) -> "RepairResult":
        from anatozoo.results.repair import RepairResult

        after = labels_on_grid(in_one_part(probability, self.behind), frame)
        return RepairResult(
            checkpoint=self.checkpoint_name,
            version=self.checkpoint_version,
            image=mask.name,
            grid=mask.grid,
            dicom=mask.dicom,
            classes=tuple(self.organs),
            before=mask.labels,
            after=after,
            flags=self._flags(mask.labels, after, frame),
        )

    def _flags(self, before: np.ndarray, after: np.ndarray, frame: Frame) -> tuple[str, ...]:
        """Flags of results that a person should check."""
        from anatozoo.results.repair import change_in_dice, label_table

        table = label_table(before, after, len(self.organs))
        flags = ["larger_than_the_models_frame"] if frame.cuts else []
        for value, (organ, dice) in enumerate(change_in_dice(table, self.organs).items(), start=1):
            had, has, kept = table[value].sum(), table[:, value].sum(), table[value, value]
            if not has:
                flags.append(f"removed_{organ}" if had else f"missing_{organ}")
            elif kept <= TRACE * has:
                flags.append(f"restored_{organ}")
            elif dice < LARGE_CHANGE:
                flags.append(f"large_change_{organ}")
        return tuple(flags)
