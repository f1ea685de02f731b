"""Atlas segmentation: segment an image by registering images with known masks to it."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from anatozoo.errors import AnatozooError, ConfigError, DataError, GeometryError
from anatozoo.io.annotation import shown_box
from anatozoo.io.grid import GridImage
from anatozoo.io.read import read_grid_image, read_labels

if TYPE_CHECKING:
    from anatozoo.results.field import RegistrationResult
    from anatozoo.results.segmentation import SegmentationResult
    from anatozoo.results.volume import VolumeResult

Labels = npt.NDArray[np.uint8]
Method = Literal["majority", "staple"]
METHODS = ("majority", "staple")

_WHITE = 255
_UNDECIDED = 2**16 - 1
_STAPLE_ROUNDS = 100


class Registrar(Protocol):
    """A model for `propagate`."""

    checkpoint_name: str
    checkpoint_version: str
    shape: tuple[int, ...]

    def predict(self, moving: Any, fixed: Any) -> "RegistrationResult":
        """Register one image to another."""


def propagate(
    model: Registrar,
    atlas_images: Sequence[Any],
    atlas_masks: Sequence[Any],
    image: Any,
    *,
    method: Method = "majority",
    classes: Sequence[str] | None = None,
) -> "SegmentationResult | VolumeResult":
    """Segment an image by atlases: register each to it, warp its mask, and fuse the warped masks.

    ``"majority"`` gives each pixel its most frequent label. ``"staple"`` weighs the masks by their agreement
    with the consensus (Warfield et al., IEEE TMI 2004; of several labels, Rohlfing et al., IPMI 2003), within
    the bounding box of all labels: pixels far from any organ tell nothing about an atlas. Both are filters of
    SimpleITK.

    A tie between labels is decided by the atlas whose warped image correlates best with the image; so of two
    atlases the better one decides wherever they differ. Undecided pixels of STAPLE are decided the same way.

    Args:
        model: a loaded checkpoint that registers images, such as an `AcRegNetModule`.
        atlas_images: any input of ``model.predict``; at least one. Images that need options are read by
            `anatozoo.io.read.read_grid_image` first.
        atlas_masks: a label map for each, on its grid: path, array, tensor, PIL or SimpleITK image, 0 for
            background, values 1 ... 254; a mask of 0 and 255 becomes one of 0 and 1. May be empty.
        image: the image to segment, any input of ``model.predict``.
        method: how the masks are fused.
        classes: names of the labels 1, 2, ...; None takes the model's ``labels`` if there are enough, else
            ``class_1``, ``class_2``, ...

    Returns:
        In 2-D a `LabelResult`, which can be plotted, saved and measured like that of
        a network; in 3-D a `VolumeResult`.

    Raises:
        ConfigError: the method is unknown.
        DataError: no atlas, masks that are too many or too few, or labels that have no class.
        GeometryError: a mask lies on another grid than its image; see also ``model.predict``.
        ImageError: an image or mask cannot be read; see also ``model.predict``.
    """
    if method not in METHODS:
        raise ConfigError(f"method={method!r} is unknown; choose one of {', '.join(METHODS)}.")
    if not len(atlas_images) or len(atlas_images) != len(atlas_masks):
        raise DataError(
            f"{len(atlas_images)} atlas images and {len(atlas_masks)} masks: give at least one image, and a "
            "mask for each."
        )
    fixed = read_grid_image(image, len(model.shape))
    votes, likeness, flags = [], [], [*fixed.flags]
    for number, (atlas, mask) in enumerate(zip(atlas_images, atlas_masks, strict=True), start=1):
        try:
            result = model.predict(atlas, fixed)
            votes.append(result.warp(_read_mask(mask, result), "labels"))
        except AnatozooError as error:
            raise type(error)(f"atlas {number}: {error}") from error
        likeness.append(_correlation(result.warped, fixed.pixels))
        flags += result.flags
    # Stable sort: of equally good atlases the first one decides.
    best_first = [votes[i] for i in np.argsort(-np.asarray(likeness), kind="stable")]
    labels = fuse(best_first, method)
    return _result(model, fixed, labels, _names(model, classes, int(labels.max())), tuple(flags))


def fuse(votes: Sequence[npt.NDArray[Any]], method: Method = "majority") -> Labels:
    """Fuse several label maps, see `propagate`.

    Args:
        votes: uint8, of one shape; the first map with one of the tied labels decides a tie.
        method: ``"majority"`` or ``"staple"``.
    """
    import SimpleITK as sitk

    stack = np.stack(votes)
    fused = np.zeros(stack.shape[1:], np.uint16)
    shown = shown_box(np.asarray((stack > 0).any(0)))
    if len(votes) == 1 or shown is None:
        return stack[0].astype(np.uint8)
    box = tuple(slice(max(part.start - 1, 0), part.stop + 1) for part in shown)
    inside = (slice(None), *box)
    images = [sitk.GetImageFromArray(vote.astype(np.uint16)) for vote in stack[inside]]
    if method == "staple":
        staple = sitk.MultiLabelSTAPLEImageFilter()
        staple.SetLabelForUndecidedPixels(_UNDECIDED)
        staple.SetMaximumNumberOfIterations(_STAPLE_ROUNDS)
        answer = staple.Execute(images)
    else:
        answer = sitk.LabelVoting(images, _UNDECIDED)
    fused[box] = sitk.GetArrayFromImage(answer)
    undecided = fused == _UNDECIDED
    fused[undecided] = _first_of_the_most(stack[:, undecided])
    return fused.astype(np.uint8)


def _first_of_the_most(votes: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The most frequent label of each column of (atlases, pixels); of ties the one that comes first."""
    counts = np.stack([(votes == vote).sum(0) for vote in votes])
    # argmax takes the first of equals.
    chosen: npt.NDArray[Any] = np.take_along_axis(votes, counts.argmax(0)[None], axis=0)[0]
    return chosen


def _read_mask(mask: Any, result: "RegistrationResult") -> Labels:
    labels, grid = read_labels(mask, result.dims)
    if difference := result.moving_grid.differs_from(grid):
        raise GeometryError(
            f"the mask lies on another grid than its image ({difference}); resample it to that first."
        )
    values = np.unique(labels)
    if set(values.tolist()) <= {0, _WHITE}:
        labels = labels == _WHITE
    elif values[0] < 0 or values[-1] >= _WHITE:
        raise DataError(
            f"the mask holds labels from {values[0]} to {values[-1]}; number them from 1 to {_WHITE - 1}."
        )
    return labels.astype(np.uint8)


def _correlation(a: npt.NDArray[np.float32], b: npt.NDArray[np.float32]) -> float:
    """Correlation of grey values, -1 … 1; -1 where one image is constant."""
    x, y = (v.ravel() - v.mean(dtype=np.float64) for v in (a, b))
    scale = float(np.linalg.norm(x) * np.linalg.norm(y))
    return float(x @ y) / scale if scale else -1.0


def _names(model: Any, classes: Sequence[str] | None, largest: int) -> tuple[str, ...]:
    if classes is not None:
        if len(classes) < max(largest, 1):
            raise DataError(f"labels up to {largest} need {largest} classes, not {', '.join(classes)}.")
        return tuple(classes)
    own = tuple(getattr(model, "organs", ()))
    return own if len(own) >= max(largest, 1) else tuple(f"class_{i}" for i in range(1, max(largest, 1) + 1))


def _result(
    model: Registrar, fixed: GridImage, labels: Labels, classes: tuple[str, ...], flags: tuple[str, ...]
) -> "SegmentationResult | VolumeResult":
    from anatozoo.results.labels import LabelResult
    from anatozoo.results.volume import VolumeResult

    name, version = model.checkpoint_name, model.checkpoint_version
    image, flags = fixed.source or fixed.name, tuple(dict.fromkeys(flags))
    if fixed.grid.dims == 3:
        return VolumeResult(
            name, version, image, fixed.grid, classes, labels, flags=flags, pixels=fixed.pixels
        )
    width, height = fixed.grid.size
    spacing = fixed.grid.spacing_mm
    return LabelResult(
        checkpoint=name,
        version=version,
        image=image,
        size=(width, height),
        spacing_mm=None if spacing is None else (spacing[0], spacing[1]),
        flags=flags,
        pixels=fixed.pixels,
        label_map=labels,
        classes=classes,
    )
