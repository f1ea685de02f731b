"""The golden test of a checkpoint: stored raw images must give the stored result.

It starts from raw pixels, so it covers reading, preprocessing, network and the way back to source pixels.
``golden.safetensors`` holds, written as `anatozoo.zoo.golden_file` says,

* the input: ``image``, or ``moving`` and ``fixed`` of a registration, for which the module's
  ``predict(image)`` or ``predict(moving, fixed)`` is called. Raw source pixels, (H, W) or (D, H, W), uint8,
  uint16 or int16;
* one kind of result, the first of these that the module's answer has:
  ``landmarks/ORGAN`` (N, 2) or (N, 3) float64 in pixels, from ``result.landmarks``;
  ``mask`` uint8 label map of the input's shape, from ``result.mask``;
  ``displacement_px`` float32, the fixed image's shape with an axis for x, y[, z] before or after it, from
  ``result.displacement_px``;
  ``volume`` float32 (D, H, W), finite and not constant, on any grid, from ``result.volume``;
  ``translated`` float32 (H, W), likewise, from ``result.translated``;
* in its metadata ``tolerance_px``, the largest accepted distance of a landmark or between displacements in
  pixels, or ``tolerance``, of masks the largest accepted share of differing pixels and of volumes the largest
  accepted difference of a voxel as a share of their range; and ``spacing_mm``, where ``predict`` is to be
  called with one, as models that work in millimetres need it.
"""

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anatozoo.errors import ConfigError, WeightsError
from anatozoo.zoo.golden_file import read_arrays, write_arrays
from anatozoo.zoo.golden_results import Golden
from anatozoo.zoo.kinds import goldens
from anatozoo.zoo.spec import GOLDEN

if TYPE_CHECKING:
    import numpy as np

SPACING = "spacing_mm"
INPUTS = (("image",), ("moving", "fixed"))
"""The arguments of ``predict``, as the file names them."""
PIXELS = ("uint8", "uint16", "int16")


@dataclass(frozen=True)
class Difference:
    """How far a result is from the stored one.

    Args:
        difference: in the unit of `form`.
        tolerance: what it may be.
        form: what was compared.
    """

    difference: float
    tolerance: float
    form: Golden

    def __str__(self) -> str:
        return self.form.outcome.format(d=self.difference, t=self.tolerance, p=100 * self.tolerance)


def write_golden(
    module: Any,
    image: "np.ndarray | Mapping[str, np.ndarray]",
    directory: str | os.PathLike[str],
    *,
    tolerance_px: float | None = None,
    tolerance: float | None = None,
    spacing_mm: Sequence[float] | None = None,
) -> Path:
    """Store raw images and what the module makes of them.

    Args:
        module: the module as users will load it, that is after storage in float16.
        image: raw source pixels, (H, W) or (D, H, W), uint8, uint16 or int16; of a registration
            ``{"moving": ..., "fixed": ...}``. Their terms must allow redistribution.
        directory: the checkpoint's folder.
        tolerance_px: largest accepted distance of a landmark or between displacements, in pixels; None takes
            the default.
        tolerance: largest accepted share of pixels that differ between masks, or difference between volumes
            as a share of their range; None takes the default.
        spacing_mm: (x, y[, z]) of the image, or of both, for models that work in millimetres; None states
            none.

    Returns:
        The file.

    Raises:
        ConfigError: the images are of another form, a tolerance is not finite, a spacing not positive,
            or the result is of no kind that can be stored.
        OutputError: the folder cannot be written.
    """
    import numpy as np

    given = dict(image) if isinstance(image, Mapping) else {"image": image}
    names = next((names for names in INPUTS if set(names) == set(given)), None)
    if names is None:
        raise ConfigError(f"golden inputs are image, or moving and fixed, not {', '.join(given) or 'none'}.")
    inputs = {name: np.asarray(given[name]) for name in names}
    if not (0 <= (tolerance_px or 0.0) < math.inf and 0 <= (tolerance or 0.0) < 1):
        raise ConfigError("a tolerance must be finite and not negative, and a share below 1.")
    for name, pixels in inputs.items():
        _check_pixels(name, pixels)
    spacing = None if spacing_mm is None else tuple(float(value) for value in spacing_mm)
    if spacing is not None and not all(0 < value < math.inf for value in spacing):
        raise ConfigError(f"spacing_mm={spacing_mm} must be positive numbers.")
    form, result = golden_result(module.predict(*inputs.values(), **spacing_settings(names, spacing)))
    if form is None:
        raise ConfigError(f"{type(module).__name__}.predict gives no {_forms()}; nothing to store.")
    form.check(result, inputs)
    path = Path(directory) / GOLDEN
    chosen = tolerance_px if form.unit == "px" else tolerance
    metadata = {form.tolerance_key: str(form.tolerance if chosen is None else chosen)}
    metadata |= {} if spacing is None else {SPACING: " ".join(map(str, spacing))}
    return write_arrays(path, {**inputs, **result}, metadata)


def run_golden(module: Any, folder: Path) -> Difference:
    """Run the golden test of a folder.

    Raises:
        WeightsError: the result is further away than the tolerance, or the file is missing or broken.
    """
    path = folder / GOLDEN
    inputs, form, stored, tolerance, settings = read_golden(path)
    _, found = golden_result(module.predict(*inputs.values(), **settings))
    shapes = {key: value.shape for key, value in stored.items()}
    if {key: value.shape for key, value in found.items()} != shapes:
        raise WeightsError(
            f"{path} holds other landmarks or shapes ({_words(stored)}) than predicted ({_words(found)})."
        )
    differences = {key: form.difference(stored[key], found[key], inputs) for key in stored}
    worst = max(differences, key=lambda key: (math.isnan(differences[key]), differences[key]))
    outcome = Difference(differences[worst], tolerance, form)
    # Written so that NaN fails too.
    if not outcome.difference <= tolerance:
        raise WeightsError(
            f"{folder.name} fails its golden test: {form.complain(worst, outcome.difference, tolerance)}. "
            "This installation does not compute what was published; report it with the output of "
            "`anatozoo doctor`."
        )
    return outcome


def spacing_settings(names: Sequence[str], spacing: tuple[float, ...] | None) -> dict[str, tuple[float, ...]]:
    """Arguments of `predict` that say the spacing, of the one image or of each."""
    if spacing is None:
        return {}
    return {SPACING if name == "image" else f"{name}_{SPACING}": spacing for name in names}


def _check_pixels(name: str, pixels: "np.ndarray") -> None:
    colour = pixels.ndim == 3 and pixels.shape[-1] <= 4
    if pixels.ndim not in (2, 3) or colour or not pixels.size or str(pixels.dtype) not in PIXELS:
        raise ConfigError(
            f"a golden {name} is grey, (H, W) or (D, H, W), and {', '.join(PIXELS)}, not {pixels.shape} "
            f"{pixels.dtype}."
        )


def read_golden(
    path: Path,
) -> tuple[dict[str, "np.ndarray"], Golden, dict[str, "np.ndarray"], float, dict[str, tuple[float, ...]]]:
    """Inputs in the order of `predict`'s arguments, form of the result, itself, tolerance, other arguments.

    Raises:
        WeightsError: the file is missing or broken.
    """
    tensors, metadata = read_arrays(path)
    names = next((names for names in INPUTS if tensors.keys() >= set(names)), ())
    inputs = {name: tensors.pop(name) for name in names}
    form = next((form for form in goldens() if tensors and all(map(form.holds, tensors))), None)
    key = form.tolerance_key if form else "a tolerance"
    spacing = None
    try:
        tolerance = float(metadata.get(key, "nan"))
        if SPACING in metadata:
            spacing = tuple(float(value) for value in metadata[SPACING].split())
    except ValueError:
        tolerance = math.nan
    if not inputs or form is None or not math.isfinite(tolerance):
        raise WeightsError(
            f"{path} is not a golden test: it needs an image, or moving and fixed, one kind of result "
            f"({_forms()}), and {key}."
        )
    try:
        form.check(tensors, inputs)
    except ConfigError as error:
        raise WeightsError(f"{path} is not a golden test: {error}") from error
    return inputs, form, tensors, tolerance, spacing_settings(names, spacing)


def golden_result(result: Any) -> tuple[Golden | None, dict[str, "np.ndarray"]]:
    """The first form that a result has, and its arrays."""
    for form in goldens():
        if arrays := form.of(result):
            return form, arrays
    return None, {}


def _forms() -> str:
    *first, last = (form.attribute for form in goldens())
    return f"{', '.join(first)} or {last}"


def _words(result: Mapping[str, "np.ndarray"]) -> str:
    words = [f"{key.rpartition('/')[2]} {value.shape}" for key, value in result.items()]
    return ", ".join(words) or "nothing"
