"""Registration models: from two images of any size to a `RegistrationResult`, and validation."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import chain
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

import numpy as np
import torch
from torch import Tensor

from anatozoo.errors import ConfigError, GeometryError, ImageError
from anatozoo.frames.frame import displacement_between
from anatozoo.frames.framed import Framed, framed
from anatozoo.frames.spec import FrameSpec
from anatozoo.io.orientation import Orientation
from anatozoo.nn.labels import check_labels, one_hot
from anatozoo.nn.registration_losses import similarity_loss
from anatozoo.nn.warp import folding_fraction, warp
from anatozoo.tasks.base import Predictor
from anatozoo.tasks.cases import bare_cases, label_cases, label_dices, with_numbers
from anatozoo.tasks.signature import Signature, Tensors
from anatozoo.tasks.views import Maps

if TYPE_CHECKING:
    from anatozoo.data.case import Case as DataCase
    from anatozoo.io.grid import GridImage
    from anatozoo.metrics.cases import Case
    from anatozoo.results.field import RegistrationResult
    from anatozoo.tasks.trials import Conditions, Trial

Spacing = float | Sequence[float] | None

LARGEST_RATIO, NOTABLE_RATIO = 2.5, 1.5
"""Largest ratio of the fields of view of two images, and the ratio above which a result is flagged."""
OPPOSITE = -0.3
"""Two images with a lower correlation before registration have opposite polarity."""
NOTABLE_FOLDING = 0.005


class Answer(Protocol):
    """Minimal output of a registration network."""

    @property
    def warped(self) -> Tensor:
        """(B, 1, ...), the moving image on the fixed one's grid."""

    @property
    def field(self) -> Tensor:
        """(B, n, ...) pixels."""

    @property
    def inverse(self) -> Tensor | None:
        """The inverse field; None if the network gives none."""


Similarity = Literal["ncc", "lncc", "mse", "mi"]


class FieldTask(Predictor):
    """A model that registers a moving image to a fixed one.

    Subclasses implement `forward`.

    Args:
        organs: names of the organs, in the order of their labels 1, 2, ...; may be empty.
        frame: frame of the network; its fit is ``"pad"``, ``"stretch"`` or ``"spacing"``.
        similarity: similarity of images: ``"ncc"``, ``"lncc"`` (in windows), ``"mse"``, or ``"mi"`` for two
            modalities.
        window: side of the windows of ``"lncc"``, odd.

    Raises:
        ConfigError: settings that are not possible.
    """

    offers: ClassVar = frozenset({"maps"})
    conditions: ClassVar = frozenset({"pairs", "side"})
    unit: ClassVar = "pair"
    refines: ClassVar[bool] = False
    """Whether the field of a pair can be refined."""
    instance_steps: int = 0

    def __init__(
        self,
        organs: Sequence[str],
        frame: FrameSpec | Mapping[str, Any],
        similarity: Similarity = "ncc",
        window: int = 9,
    ) -> None:
        super().__init__(frame)
        self.frame.require((2, 3), ("pad", "stretch", "spacing"))
        self.organs = check_labels(organs)
        self.needs = frozenset({"image", "organs"} if self.organs else {"image"})
        if window < 1 or window % 2 == 0:
            raise ConfigError(f"window={window} must be odd and positive.")
        self.similarity, self.window = similarity, window

    def forward(self, moving: Tensor, fixed: Tensor) -> Answer:
        """Register images (B, 1, ...) in [0, 1]."""
        raise TypeError(f"{type(self).__name__} does not define forward.")

    def signature(self) -> Signature:
        """The field between two images."""
        pair = ("moving", "fixed")
        meaning = "from each fixed pixel to its place in the moving image, in pixels of the frame, rows first"
        return Signature(
            tuple(Tensors(name, (1, *self.shape), "grey values in [0, 1], 0 around it") for name in pair),
            (Tensors("field", (len(self.shape), *self.shape), meaning),),
        )

    def computed(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """The field; how it is found does not depend on whether images of a batch are equal."""
        moving, fixed = inputs
        return (self(moving, fixed).field,)

    def infer(self, batch: Mapping[str, Tensor]) -> Answer:
        """The registration of the batch's ``moving`` to its ``fixed``."""
        answer: Answer = self(batch["moving"], batch["fixed"])
        return answer

    def trials(self, cases: Sequence["DataCase"], how: "Conditions") -> "list[Trial]":
        """All ordered pairs of two cases, or some that are always the same; see `anatozoo.tasks.pairs`.

        Raises:
            DataError: there are less than two cases.
        """
        from anatozoo.tasks.pairs import pair_trials

        return pair_trials(cases, tuple(self.organs), len(self.shape), how)

    def ask(self, question: Any) -> "RegistrationResult":
        """The registration of a moving image to a fixed one."""
        return self.predict(*question)

    def golden_input(self) -> dict[str, np.ndarray]:
        """Two images that are free to share, for the golden test: one is a shifted copy of the other.

        A free radiograph, or soft balls for volumes.
        """
        if len(self.shape) == 2:
            from anatozoo.zoo.golden_pictures import golden_radiograph

            fixed = golden_radiograph()[::2, ::2]
        else:
            from scipy.ndimage import gaussian_filter

            from anatozoo.io.samples import sample_label_map

            balls = sample_label_map(self.shape, 3).astype(np.float32)
            fixed = np.round(60 * gaussian_filter(balls, 1.5)).astype(np.uint8)
        step = fixed.shape[-1] // 20
        return {"moving": np.roll(fixed, step, axis=range(fixed.ndim)), "fixed": fixed}

    def dissimilarity(self, warped: Tensor, fixed: Tensor) -> Tensor:
        """The similarity loss of the settings, in float32 even under autocast.

        Correlation in windows takes differences of large sums, for which bfloat16 is too coarse.

        Args:
            warped: (B, 1, ...) in [0, 1].
            fixed: (B, 1, ...) in [0, 1].
        """
        with torch.autocast(fixed.device.type, enabled=False):
            return similarity_loss(self.similarity, warped, fixed, window=self.window)

    def columns(self) -> list[str]:
        """Dice after and before registration, of each organ, similarity and folding."""
        dice = ["dice", "dice_before", *(f"dice/{name}" for name in self.organs)] if self.organs else []
        return [*dice, "similarity", "folding_percent"]

    def cases(self, output: Answer, batch: Mapping[str, Tensor]) -> "list[Case]":
        """Warped beside fixed labels, where there are any, with the numbers of the deformation."""
        pairs = zip(output.warped, batch["fixed"], strict=True)
        similarity = torch.stack([-self.dissimilarity(a[None], b[None]) for a, b in pairs])
        numbers = {
            "similarity": similarity.tolist(),
            "folding_percent": (100 * folding_fraction(output.field)).tolist(),
        }
        if not self.organs or "fixed_labels" not in batch:
            return with_numbers(bare_cases(batch["fixed"]), numbers)
        moving, fixed = batch["moving_labels"], batch["fixed_labels"]
        before = {"dice_before": label_dices(moving, fixed, len(self.organs))}
        found = self._warped_labels(output, batch)
        cases = label_cases(found, fixed, self.organs, batch, image=batch["fixed"])
        return with_numbers(cases, before | numbers)

    def _warped_labels(self, output: Answer, batch: Mapping[str, Tensor]) -> Tensor:
        """Linear interpolation of each organ, then the largest, as in the paper's evaluation."""
        return self._warped_maps(output, batch).argmax(1)

    def _warped_maps(self, output: Answer, batch: Mapping[str, Tensor]) -> Tensor:
        moving = one_hot(batch["moving_labels"], len(self.organs) + 1)
        # Beyond the border, its own label is repeated; without a label no organ would be the largest.
        return warp(moving, output.field, padding="border")

    def maps(self, output: Answer, batch: Mapping[str, Tensor]) -> Maps:
        """The moving image's labels, warped in a differentiable way, with the fixed ones."""
        truth = one_hot(batch["fixed_labels"], len(self.organs) + 1)
        return Maps(self._warped_maps(output, batch), truth)

    def predict(
        self,
        moving: Any,
        fixed: Any,
        *,
        moving_spacing_mm: Spacing = None,
        fixed_spacing_mm: Spacing = None,
        moving_invert: bool | None = None,
        fixed_invert: bool | None = None,
        ignore_spacing: bool = False,
        allow_any_modality: bool = False,
        instance_steps: int | None = None,
        precision: str | None = None,
    ) -> "RegistrationResult":
        """Register one image to another, each of any size and spacing.

        Both are first centred in the network's frame, according to ``fit``. If origins and directions are
        known, the result is correct in that space, but the network does not start from them.

        Args:
            moving: path, array, tensor, PIL or SimpleITK image; (H, W) for a 2-D model, (D, H, W) in 3-D.
            fixed: fixed image, like `moving`; the result lies on its grid.
            moving_spacing_mm: one number or (x, y[, z]) in mm, if the moving image has none.
            fixed_spacing_mm: one number or (x, y[, z]) in mm, if the fixed image has none.
            moving_invert: flip the polarity of the moving radiograph; None follows the file.
            fixed_invert: flip the polarity of the fixed radiograph; None follows the file.
            ignore_spacing: ignore spacings, origins and directions and work in pixels, for pairs of which
                only one has a spacing.
            allow_any_modality: accept DICOM files that are not declared as chest radiographs.
            instance_steps: steps that refine the field of this pair; None takes the model's setting.
            precision: ``"32"``, ``"bf16"`` or, on CUDA, ``"16"``; None takes the attribute of this name.

        Raises:
            ImageError: an image cannot be read, is constant, has another number of dimensions than the
                model, or the two have opposite polarity.
            GeometryError: the spacing of only one image is known, or their fields of view differ by a factor
                of more than 2.5.
            ConfigError: the precision is not possible.
        """
        from anatozoo.io.read import read_grid_image

        dims = len(self.shape)
        a = read_grid_image(
            moving,
            dims,
            spacing_mm=moving_spacing_mm,
            invert=moving_invert,
            allow_any_modality=allow_any_modality,
        )
        b = read_grid_image(
            fixed,
            dims,
            spacing_mm=fixed_spacing_mm,
            invert=fixed_invert,
            allow_any_modality=allow_any_modality,
        )
        if ignore_spacing:
            a, b = (_without_space(image) for image in (a, b))
        with self.answering(precision):
            return self._register([(a, b)], instance_steps)[0]

    def predict_pairs(self, pairs: "Sequence[tuple[GridImage, GridImage]]") -> "list[RegistrationResult]":
        """Register several pairs of images, all by one run of the network.

        Args:
            pairs: moving and fixed images, as `anatozoo.io.read.read_grid_image` gives them.

        Raises:
            ImageError, GeometryError: see `predict`.
        """
        if self.instance_steps:  # which refine the field of one pair
            return [self.predict(*pair) for pair in pairs]
        with self.answering():
            return self._register(pairs, None)

    def _register(
        self, pairs: "Sequence[tuple[GridImage, GridImage]]", instance_steps: int | None
    ) -> "list[RegistrationResult]":
        from anatozoo.results.field import RegistrationResult

        steps = self.instance_steps if instance_steps is None else instance_steps
        if steps < 0:
            raise ConfigError(f"instance_steps={steps} must not be negative.")
        if steps and not self.refines:
            raise ConfigError(f"{type(self).__name__} refines no field; leave instance_steps out.")
        flags = [_field_of_view_flags(*pair) for pair in pairs]
        # An image of several pairs is brought to the frame once.
        each = {image: framed(image, self.frame) for image in dict.fromkeys(chain(*pairs))}
        seen = [(each[moving], each[fixed]) for moving, fixed in pairs]
        for both, remarks in zip(seen, flags, strict=True):
            if any(image.frame.cuts for image in both):
                remarks.append("larger_than_the_models_frame")
            if self.similarity != "mi":
                _refuse_opposite_polarity(*both)
        tensors = [
            self.tensor(np.stack([image.pixels for image in side]))[:, None]
            for side in zip(*seen, strict=True)
        ]
        fields = self._fields(tensors[0], tensors[1], steps, flags)
        return [
            RegistrationResult(
                checkpoint=self.checkpoint_name,
                version=self.checkpoint_version,
                moving=moving.source or moving.name,
                fixed=fixed.source or fixed.name,
                moving_grid=moving.grid,
                fixed_grid=fixed.grid,
                displacement_px=displacement_between(field, a.frame, b.frame),
                alignment=np.linalg.inv(a.frame.matrix) @ b.frame.matrix,
                moving_pixels=moving.pixels,
                fixed_pixels=fixed.pixels,
                flags=(*moving.flags, *fixed.flags, *remarks),
            )
            for (moving, fixed), (a, b), field, remarks in zip(pairs, seen, fields, flags, strict=True)
        ]

    def field_of(self, moving: Tensor, fixed: Tensor) -> Tensor:
        """The field (B, n, ...) for images (B, 1, ...) alone, without what only a loss or `refined` needs."""
        return self(moving, fixed).field

    def refined(self, moving: Tensor, fixed: Tensor, answer: Any, steps: int) -> Tensor:
        """The field (1, n, ...) in pixels after `steps` optimisation steps on this pair."""
        raise TypeError(f"{type(self).__name__} does not define refined.")

    @torch.no_grad()
    def _fields(self, moving: Tensor, fixed: Tensor, steps: int, flags: Sequence[list[str]]) -> np.ndarray:
        """The fields (B, n, ...) in pixels of the frame; adds the flags of each pair to its `flags`."""
        if steps:
            field = self.refined(moving, fixed, self(moving, fixed), steps)
        elif self.engine == "torch":
            field = self.field_of(moving, fixed)
        else:
            [field] = self.computed(moving, fixed)
        if not bool(field.isfinite().all()):
            raise ImageError("the model's field is not finite; report it with both images.")
        warped, folds = warp(moving, field), folding_fraction(field)
        for own, a, b, share, remarks in zip(
            warped[:, None], moving[:, None], fixed[:, None], folds.tolist(), flags, strict=True
        ):
            if float(self.dissimilarity(own, b)) >= float(self.dissimilarity(a, b)):
                remarks.append("not_more_similar_than_before")
            if share > NOTABLE_FOLDING:
                remarks.append("field_folds")
        found: np.ndarray = field.float().cpu().numpy()
        return found


def _refuse_opposite_polarity(moving: Framed, fixed: Framed) -> None:
    """Refuse two images of opposite polarity.

    Only the common field of view is compared: the black around the images is the same in all frames and would
    hide their difference.

    Raises:
        ImageError: one shows bright what the other shows dark.
    """
    inside = moving.inside & fixed.inside
    a, b = (image.pixels[inside] for image in (moving, fixed))
    if not a.size or not np.ptp(a) or not np.ptp(b):
        return
    if np.corrcoef(a, b)[0, 1] < OPPOSITE:
        advice = "give moving_invert or fixed_invert" if inside.ndim == 2 else "turn one's intensities round"
        raise ImageError(
            "moving and fixed image have opposite polarity: one shows bright what the other shows dark. To "
            f"register them all the same, {advice}, or use a model for two modalities (similarity 'mi')."
        )


def _without_space(image: "GridImage") -> "GridImage":
    return replace(image, grid=image.grid.in_pixels())


def _field_of_view_flags(moving: "GridImage", fixed: "GridImage") -> list[str]:
    """Refuse pairs whose fields of view do not match, and flag doubtful ones.

    With spacings, the extents in millimetres are compared, without them the proportions.
    """
    known = [image.grid.spacing_mm is not None for image in (moving, fixed)]
    if known[0] != known[1]:
        which = "moving" if known[1] else "fixed"
        raise GeometryError(
            f"the spacing of the {which} image is unknown and that of the other is known. Give "
            f"{which}_spacing_mm, or ignore_spacing=True to work in pixels alone."
        )
    grids = [image.grid for image in (moving, fixed)]
    if known[0]:
        sizes = [np.abs(grid.steps) @ np.asarray(grid.size, float) for grid in grids]
    else:
        sizes = [np.asarray(Orientation.to_patient(g).size(g.size), float) * g.proportions for g in grids]
    ratios = sizes[0] / sizes[1]
    if not known[0]:
        ratios = ratios / np.exp(np.log(ratios).mean())
    ratio = float(np.maximum(ratios, 1 / ratios).max())
    if ratio > LARGEST_RATIO:
        what = "fields of view" if known[0] else "proportions"
        raise GeometryError(
            f"the {what} of moving and fixed image differ by a factor of {ratio:.1f}; crop the larger one to "
            "the part that both show, or correct the spacings."
        )
    return ["field_of_view_differs"] if ratio > NOTABLE_RATIO else []
