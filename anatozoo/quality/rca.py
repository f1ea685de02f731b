"""Reverse Classification Accuracy: judge a segmentation by how well it segments an atlas.

Valindria et al., "Reverse Classification Accuracy", IEEE TMI 2017; with registration for the reverse
classifier and a choice of similar atlases, Gaggion et al., "CheXmask", Scientific Data 2024.
"""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from anatozoo.errors import AnatozooError, AnatozooWarning, DataError, GeometryError
from anatozoo.frames.frame import Frame
from anatozoo.frames.spec import FrameSpec
from anatozoo.io.annotation import Annotation, join_pairs
from anatozoo.io.grid import Grid, GridImage
from anatozoo.io.label_codes import check_known
from anatozoo.io.read import read_grid_image, read_labels
from anatozoo.metrics.functional import dice, surface_distances
from anatozoo.quality.atlas import Atlas, AtlasImage, in_frame
from anatozoo.quality.organs import read_organs
from anatozoo.quality.selectors import Selector, selector_of
from anatozoo.results.field import RegistrationResult
from anatozoo.results.quality import AtlasMatch, Judging, QualityResult
from anatozoo.tasks.engines import LEARNED, Engine, EngineLike, engine_of, register_pairs

if TYPE_CHECKING:
    from anatozoo.results.segmentation import SegmentationResult

Masks = Mapping[str, npt.NDArray[Any]]
COUNT = 5
"""Default number of atlas images, as in CheXmask."""


def rca(
    image: Any,
    mask: "Any | Masks | Annotation | SegmentationResult",
    atlas: Atlas,
    *,
    engine: EngineLike = LEARNED,
    selector: str | Selector | None = None,
    count: int = COUNT,
    classes: Sequence[str] | None = None,
    exclude: Sequence[str] = (),
    spacing_mm: float | Sequence[float] | None = None,
    invert: bool | None = None,
    allow_any_modality: bool = False,
) -> QualityResult:
    """Estimate the quality of a segmentation without ground truth.

    The image is registered to the `count` most similar atlas images; its label map is warped by the nearest
    neighbour and compared with theirs. If the segmentation is good, at least one atlas image agrees with it.
    An organ that the segmentation lacks, but the atlas has, gets a Dice of 0 and the frame's diagonal as
    distance; it is never left out of a mean.

    If the atlas is calibrated (`Atlas.with_intervals`), the result has an interval of Dice for each
    calibrated organ. Another engine, selector or number of atlas images than those of the calibration gives
    none, and an `AnatozooWarning`.

    Args:
        image: path, array, tensor, PIL or SimpleITK image; (H, W), or (D, H, W) for an atlas in 3-D.
        mask: the segmentation on the image's grid: a label map for `anatozoo.io.read.read_labels`,
            organ -> mask, an `Annotation`, or a model's result. Of overlapping organs, the later one in the
            atlas has the pixel.
        atlas: the atlas.
        engine: registration method: ``"bspline"``, ``"demons"``, a registration checkpoint, or an engine; in
            a list, each refines the result of the one before, such as affine and then deformable.
        selector: how similar atlas images are found: None by thumbnails, or by the checkpoint whose latents
            the atlas has.
        count: number of atlas images.
        classes: names of the label map's values 1, 2, ...; None takes the atlas's organs.
        exclude: names of atlas images that must not be used, such as the image's own.
        spacing_mm: spacing of the image, if the source has none.
        invert: whether to flip the polarity of a radiograph; None follows the file.
        allow_any_modality: accept DICOM files that are not declared as chest radiographs.

    Raises:
        DataError: image and atlas share no organ, labels have no name, all atlas images are excluded, or they
            have no latents of the selector.
        GeometryError: the mask lies on another grid than the image.
        ImageError: image or mask cannot be read; see also the engine.
    """
    registered = register_to_atlas(
        image,
        atlas,
        engine=engine,
        selector=selector,
        count=count,
        exclude=exclude,
        spacing_mm=spacing_mm,
        invert=invert,
        allow_any_modality=allow_any_modality,
    )
    return registered.judge(mask, classes)


def register_to_atlas(
    image: Any,
    atlas: Atlas,
    *,
    engine: EngineLike = LEARNED,
    selector: str | Selector | None = None,
    count: int = COUNT,
    exclude: Sequence[str] = (),
    spacing_mm: float | Sequence[float] | None = None,
    invert: bool | None = None,
    allow_any_modality: bool = False,
) -> "RegisteredImage":
    """The part of `rca` without the segmentation: register an image to the most similar atlas images.

    Any number of its segmentations, such as those of several models, can then be judged quickly. Arguments
    and errors are those of `rca`.
    """
    read = read_grid_image(
        image, len(atlas.shape), spacing_mm=spacing_mm, invert=invert, allow_any_modality=allow_any_modality
    )
    seen, registrar, chooser = in_frame(read, atlas.shape), engine_of(engine), selector_of(selector)
    nearest = atlas.nearest(seen, count, exclude=exclude, selector=chooser)
    judging = judging_of(atlas, registrar, chooser, len(nearest))
    refusal = "" if atlas.intervals is None else atlas.intervals.refusal(judging)
    if refusal:
        warnings.warn(f"no intervals of Dice: {refusal}.", AnatozooWarning, stacklevel=2)
    fields = _register(seen, nearest, registrar)
    return RegisteredImage(
        read, atlas, registrar.name, seen, tuple(zip(nearest, fields, strict=True)), judging, refusal
    )


def judging_of(atlas: Atlas, engine: Engine, selector: Selector | None, count: int) -> Judging:
    """What estimates by this atlas, engine, selector and number of atlas images depend on."""
    weights = str(getattr(engine, "weights_digest", ""))
    chosen = "" if selector is None else f"{selector.name} {selector.version} {selector.digest[:8]}"
    return Judging(atlas.digest, engine.name, engine.version, weights, chosen, count)


@dataclass(frozen=True, eq=False)
class RegisteredImage:
    """An image registered to atlas images, made by `register_to_atlas`.

    Attributes:
        image: the image on its own grid.
        atlas: the atlas.
        engine: the registration engine.
        seen: the image in the atlas's frame.
        registrations: atlas images, the most similar first, with the registration of the image to each.
        judging: what estimates depend on besides the segmentation.
        no_intervals: why the calibration of the atlas does not apply; empty if it does, or if there is none.
    """

    image: GridImage
    atlas: Atlas
    engine: str
    seen: GridImage
    registrations: tuple[tuple[AtlasImage, RegistrationResult], ...]
    judging: Judging
    no_intervals: str = ""

    def judge(
        self, mask: "Any | Masks | Annotation | SegmentationResult", classes: Sequence[str] | None = None
    ) -> QualityResult:
        """Estimate the quality of a segmentation of the image; arguments and errors are those of `rca`."""
        atlas, grid = self.atlas, self.image.grid
        # Each pixel of the frame shows the nearest of the image, which needs not be drawn beside it.
        frame = Frame.fit(grid, FrameSpec(list(atlas.shape)))
        masks = {
            organ: frame.labels(each)
            for organ, each in _masks(mask, self.image, classes or atlas.organs).items()
        }
        organs = tuple(organ for organ in atlas.organs if organ in masks)
        if not organs:
            raise DataError(
                f"the segmentation has {', '.join(masks) or 'no organ'}, the atlas {atlas.name} "
                f"{', '.join(atlas.organs)}: none of them is the same. Name the mask's values by `classes`, "
                "or take an atlas of these organs."
            )
        drawn = _label_map(masks, atlas.organs, atlas.shape)
        matches = tuple(self._match(each, result, drawn, organs) for each, result in self.registrations)
        flags = [*self.image.flags, *(flag for match in matches for flag in match.flags)]
        result = QualityResult(
            image=self.image.source or self.image.name,
            engine=self.engine,
            atlas=atlas.name,
            organs=organs,
            matches=matches,
            pixels=self.seen.pixels,
            labels=drawn,
            judging=self.judging,
            no_intervals=self.no_intervals,
            flags=tuple(dict.fromkeys(flags)),
        )
        if atlas.intervals is None or self.no_intervals:
            return result
        return replace(
            result, intervals=atlas.intervals.of(result), coverage=round(1 - atlas.intervals.alpha, 9)
        )

    def true_dice(self, mask: Any, truth: Any, classes: Sequence[str] | None = None) -> dict[str, float]:
        """Dice of each organ of the atlas between a segmentation of the image and its ground truth.

        Pixels belong to one organ, as in `judge`.

        Args:
            mask: the segmentation, as for `judge`.
            truth: its ground truth, likewise.
            classes: names of the values 1, 2, ... of label maps; None takes the atlas's organs.

        Returns:
            Organ -> Dice, for organs that both sides name; NaN where the truth is empty.

        Raises:
            GeometryError: a mask lies on another grid than the image.
        """
        names, shape = self.atlas.organs, self.image.grid.shape
        sides = [_masks(side, self.image, classes or names) for side in (mask, truth)]
        found, there = (_label_map(side, names, shape) for side in sides)
        return {
            organ: dice(found == value, there == value) if (there == value).any() else float("nan")
            for value, organ in enumerate(names, start=1)
            if all(organ in side for side in sides)
        }

    def _match(
        self,
        atlas_image: AtlasImage,
        result: RegistrationResult,
        labels: npt.NDArray[np.uint8],
        organs: Sequence[str],
    ) -> AtlasMatch:
        warped = result.warp(labels, "labels").astype(np.uint8)
        values = _agreement(warped, atlas_image, organs, self.atlas.organs)
        return AtlasMatch(
            atlas_image.id,
            atlas_image.image.pixels,
            atlas_image.labels,
            warped,
            values,
            result.flags,
            result,
        )


def _register(
    moving: GridImage, atlas_images: Sequence[AtlasImage], engine: Engine
) -> list[RegistrationResult]:
    """Register an image to several of an atlas; a network takes them as one batch."""
    fixed = [each.image for each in atlas_images]
    if (moving.grid.spacing_mm is None) != (fixed[0].grid.spacing_mm is None):
        # Registration needs the spacings of both or of neither; without them the frames are equal.
        moving = replace(moving, grid=moving.grid.in_pixels())
        fixed = [each.in_pixels for each in atlas_images]
    pairs = [(moving, each) for each in fixed]
    try:
        return register_pairs(engine, pairs)
    except (AnatozooError, RuntimeError):  # ITK's errors are RuntimeErrors
        # Each alone says which of them it is.
        return [_register_one(*pair, engine) for pair in pairs]


def _register_one(moving: GridImage, fixed: GridImage, engine: Engine) -> RegistrationResult:
    try:
        return engine.register(moving, fixed)
    except (AnatozooError, RuntimeError) as error:
        kind = type(error) if isinstance(error, AnatozooError) else DataError
        raise kind(f"{moving.name} could not be registered to {fixed.name}: {error}") from error


def _agreement(
    labels: npt.NDArray[np.uint8], atlas_image: AtlasImage, organs: Sequence[str], names: Sequence[str]
) -> dict[str, float]:
    """Metrics on the atlas image for each organ, and their means."""
    spacing = atlas_image.image.grid.spacing_mm
    unit = "px" if spacing is None else "mm"
    each: dict[str, dict[str, float]] = {"dice": {}, f"hd_{unit}": {}, f"assd_{unit}": {}}
    for organ in organs:
        value = names.index(organ) + 1
        found, truth = labels == value, atlas_image.labels == value
        away = surface_distances(found, truth)
        if spacing is not None:
            away = away.in_mm(spacing)
        for values, number in zip(
            each.values(), (dice(found, truth), away.hausdorff(), away.assd()), strict=True
        ):
            values[organ] = number
    values = {}
    for metric, of in each.items():
        values |= {metric: float(np.mean(list(of.values())))}
        values |= {f"{metric}/{organ}": number for organ, number in of.items()}
    return values


def _masks(mask: Any, image: GridImage, classes: Sequence[str]) -> dict[str, npt.NDArray[np.bool_]]:
    """Organ -> mask on the image's grid, with pairs of organs."""
    if isinstance(mask, Mapping) or hasattr(mask, "masks"):
        masks = read_organs(mask).masks
    else:
        masks = _named(mask, image, classes)
    for organ, values in masks.items():
        if values.shape != image.grid.shape:
            raise GeometryError(
                f"the mask of {organ} has the shape {values.shape}, the image {image.name} "
                f"{image.grid.shape}; resample it to the image first."
            )
    return join_pairs(masks)


def _named(mask: Any, image: GridImage, classes: Sequence[str]) -> dict[str, npt.NDArray[np.bool_]]:
    values, grid = read_labels(mask, image.grid.dims)
    # A mask without spacing lies on the grid of its image.
    known = Grid(grid.size) if image.grid.spacing_mm is None or grid.spacing_mm is None else grid
    there = image.grid if known.spacing_mm is not None else Grid(image.grid.size)
    if difference := there.differs_from(known):
        raise GeometryError(
            f"the mask lies on another grid than {image.name} ({difference}); resample it to the image first."
        )
    check_known(
        values, dict(enumerate(classes, 1)), "the mask", "give `classes`, the names of the values 1, 2, ..."
    )
    return {organ: values == value for value, organ in enumerate(classes, start=1)}


def _label_map(masks: Masks, organs: Sequence[str], shape: tuple[int, ...]) -> npt.NDArray[np.uint8]:
    labels = np.zeros(shape, np.uint8)
    for value, organ in enumerate(organs, start=1):
        if organ in masks:
            labels[np.asarray(masks[organ]) != 0] = value
    return labels
