"""The golden test of a checkpoint: stored raw images must give the stored result.

It starts from raw pixels, so it covers reading, preprocessing, network and the way back to source pixels.
``golden.safetensors`` holds

* the input: ``image``, or ``moving`` and ``fixed`` of a registration, for which the module's
  ``predict(image)`` or ``predict(moving, fixed)`` is called. Raw source pixels, (H, W) or (D, H, W), uint8,
  uint16 or int16;
* one kind of result, the first of these that the module's answer has:
  ``landmarks/ORGAN`` (N, 2) or (N, 3) float64 in pixels, from ``result.landmarks``;
  ``mask`` uint8 label map of the input's shape, from ``result.mask``;
  ``displacement_px`` float32, the fixed image's shape with an axis for x, y[, z] before or after it, from
  ``result.displacement_px``;
  ``volume`` float32 (D, H, W), finite and not constant, on any grid, from ``result.volume``;
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
from anatozoo.zoo import hub
from anatozoo.zoo.checkpoint import read_config, read_tensors
from anatozoo.zoo.files import fingerprint, write_atomically
from anatozoo.zoo.manifest import FILES
from anatozoo.zoo.spec import FileRecord

if TYPE_CHECKING:
    import numpy as np

GOLDEN = "golden.safetensors"
PREFIX = "landmarks/"
MASK = "mask"
DISPLACEMENT = "displacement_px"
VOLUME = "volume"
SPACING = "spacing_mm"
_UNITS = {MASK: "share", VOLUME: "range"}
"""Units of what is no distance in pixels, see `Golden`."""
INPUTS = (("image",), ("moving", "fixed"))
"""The arguments of ``predict``, as the file names them."""
PIXELS = ("uint8", "uint16", "int16")
TOLERANCE_PX = 0.5
"""Room for float16 storage and other processors' rounding, far below what anyone sees in a contour."""
TOLERANCE_SHARE = 0.001
"""The same for masks, where a pixel on the border may change sides, and for the grey values of volumes."""


@dataclass(frozen=True)
class Golden:
    """How far a result is from the stored one.

    Args:
        difference: the largest distance in pixels, the share of pixels that differ, or the largest
            difference of a voxel as a share of the volume's range.
        tolerance: what it may be.
        unit: ``"px"``, ``"share"`` or ``"range"``, in this order.
    """

    difference: float
    tolerance: float
    unit: str

    def __str__(self) -> str:
        if self.unit == "px":
            return f"{self.difference:.4f} px away at most, {self.tolerance:g} px allowed"
        if self.unit == "range":
            return f"voxels differ by {self.difference:.4%} of the range, {100 * self.tolerance:g}% allowed"
        return f"{self.difference:.4%} of the pixels differ, {100 * self.tolerance:g}% allowed"


@dataclass(frozen=True)
class Verification:
    """What `verify` found; a difference is an error, so this is always good news.

    Args:
        name: the checkpoint's name.
        folder: where its files lie.
        files: fingerprint of each file.
        checked: whether the manifest lists the files, so that the fingerprints were compared.
        golden: outcome of the golden test, None where it was not run.
    """

    name: str
    folder: Path
    files: dict[str, FileRecord]
    checked: bool
    golden: Golden | None

    @property
    def golden_px(self) -> float | None:
        """Largest distance of the golden test in pixels, None where it was not run or compares no places."""
        return self.golden.difference if self.golden and self.golden.unit == "px" else None

    @property
    def tolerance_px(self) -> float | None:
        """What `golden_px` may be."""
        return self.golden.tolerance if self.golden and self.golden.unit == "px" else None


def write_golden(
    module: Any,
    image: "np.ndarray | Mapping[str, np.ndarray]",
    directory: str | os.PathLike[str],
    *,
    tolerance_px: float = TOLERANCE_PX,
    tolerance: float = TOLERANCE_SHARE,
    spacing_mm: Sequence[float] | None = None,
) -> Path:
    """Store raw images and what the module makes of them.

    Args:
        module: the module as users will load it, that is after storage in float16.
        image: raw source pixels, (H, W) or (D, H, W), uint8, uint16 or int16; of a registration
            ``{"moving": ..., "fixed": ...}``. Their terms must allow redistribution.
        directory: the checkpoint's folder.
        tolerance_px: largest accepted distance of a landmark or between displacements, in pixels.
        tolerance: largest accepted share of pixels that differ between masks, or difference between volumes
            as a share of their range.
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
    from safetensors.numpy import save_file

    given = dict(image) if isinstance(image, Mapping) else {"image": image}
    names = next((names for names in INPUTS if set(names) == set(given)), None)
    if names is None:
        raise ConfigError(f"golden inputs are image, or moving and fixed, not {', '.join(given) or 'none'}.")
    inputs = {name: np.asarray(given[name]) for name in names}
    if not (0 <= tolerance_px < math.inf and 0 <= tolerance < 1):
        raise ConfigError("a tolerance must be finite and not negative, and a share below 1.")
    for name, pixels in inputs.items():
        _check_pixels(name, pixels)
    spacing = None if spacing_mm is None else tuple(float(value) for value in spacing_mm)
    if spacing is not None and not all(0 < value < math.inf for value in spacing):
        raise ConfigError(f"spacing_mm={spacing_mm} must be positive numbers.")
    result = _result(module.predict(*inputs.values(), **_settings(names, spacing)))
    if not result:
        raise ConfigError(
            f"{type(module).__name__}.predict gives no landmarks, mask, displacement_px or volume; nothing "
            "to store."
        )
    _check_result(result, inputs)
    tensors = {key: np.ascontiguousarray(value) for key, value in {**inputs, **result}.items()}
    path = Path(directory) / GOLDEN
    accepted = tolerance if _tolerance_key(result) == "tolerance" else tolerance_px
    metadata = {_tolerance_key(result): str(accepted)}
    metadata |= {} if spacing is None else {SPACING: " ".join(map(str, spacing))}
    write_atomically(path, lambda temporary: save_file(tensors, temporary, metadata=metadata))
    return path


def run_golden(module: Any, folder: Path) -> Golden:
    """Run the golden test of a folder.

    Raises:
        WeightsError: the result is further away than the tolerance, or the file is missing or broken.
    """
    path = folder / GOLDEN
    inputs, stored, tolerance, settings = _read(path)
    found = _result(module.predict(*inputs.values(), **settings))
    shapes = {key: value.shape for key, value in stored.items()}
    if {key: value.shape for key, value in found.items()} != shapes:
        raise WeightsError(
            f"{path} holds other landmarks or shapes ({_words(stored)}) than predicted ({_words(found)})."
        )
    differences = {key: _difference(key, stored[key], found[key], inputs) for key in stored}
    worst = max(differences, key=lambda key: (math.isnan(differences[key]), differences[key]))
    golden = Golden(differences[worst], tolerance, _UNITS.get(worst, "px"))
    # Written so that NaN fails too.
    if not golden.difference <= tolerance:
        raise WeightsError(
            f"{folder.name} fails its golden test: {_complaint(worst, golden)}. This installation does not "
            "compute what was published; report it with the output of `anatozoo doctor`."
        )
    return golden


def _settings(names: Sequence[str], spacing: tuple[float, ...] | None) -> dict[str, tuple[float, ...]]:
    """Arguments of `predict` that say the spacing, of the one image or of each."""
    if spacing is None:
        return {}
    return {SPACING if name == "image" else f"{name}_{SPACING}": spacing for name in names}


def golden_distance(module: Any, folder: Path) -> tuple[float, float]:
    """The difference and the tolerance of `run_golden`, in the unit that `Golden` has for the result."""
    golden = run_golden(module, folder)
    return golden.difference, golden.tolerance


def _check_pixels(name: str, pixels: "np.ndarray") -> None:
    colour = pixels.ndim == 3 and pixels.shape[-1] <= 4
    if pixels.ndim not in (2, 3) or colour or not pixels.size or str(pixels.dtype) not in PIXELS:
        raise ConfigError(
            f"a golden {name} is grey, (H, W) or (D, H, W), and {', '.join(PIXELS)}, not {pixels.shape} "
            f"{pixels.dtype}."
        )


def _check_result(result: Mapping[str, "np.ndarray"], inputs: Mapping[str, "np.ndarray"]) -> None:
    shape = list(inputs.values())[-1].shape
    if MASK in result and result[MASK].shape != shape:
        raise ConfigError(f"the mask {result[MASK].shape} is not on the grid of the image {shape}.")
    if DISPLACEMENT in result and _component_axis(result[DISPLACEMENT].shape, shape) is None:
        raise ConfigError(
            f"displacement_px {result[DISPLACEMENT].shape} is not the fixed image's shape {shape} with an "
            f"axis of {len(shape)} before or after it."
        )
    if VOLUME in result:
        _check_volume(result[VOLUME])


def _check_volume(volume: "np.ndarray") -> None:
    import numpy as np

    if volume.ndim != 3 or not np.isfinite(volume).all():
        raise ConfigError(f"the volume {volume.shape} is not (D, H, W), or holds NaN or infinity.")
    # What differs is compared with the range; and a constant answer says nothing about the weights.
    if not np.ptp(volume) > 0:
        raise ConfigError("every voxel of the volume has the same value, which tests nothing.")


def _tolerance_key(result: Mapping[str, "np.ndarray"]) -> str:
    """Key of the metadata for what a result may differ by."""
    return "tolerance" if _UNITS.keys() & result.keys() else "tolerance_px"


def _read(
    path: Path,
) -> tuple[dict[str, "np.ndarray"], dict[str, "np.ndarray"], float, dict[str, tuple[float, ...]]]:
    """Inputs in the order of `predict`'s arguments, stored result, tolerance, other arguments."""
    from safetensors import safe_open

    tensors = {key: value.numpy() for key, value in read_tensors(path).items()}
    with safe_open(path, framework="np") as stream:
        metadata = stream.metadata() or {}
    names = next((names for names in INPUTS if tensors.keys() >= set(names)), ())
    inputs = {name: tensors.pop(name) for name in names}
    landmarks = all(key.startswith(PREFIX) for key in tensors)
    alone = len(tensors) == 1 and tensors.keys() <= {MASK, DISPLACEMENT, VOLUME}
    key = _tolerance_key(tensors)
    spacing = None
    try:
        tolerance = float(metadata.get(key, "nan"))
        if SPACING in metadata:
            spacing = tuple(float(value) for value in metadata[SPACING].split())
    except ValueError:
        tolerance = math.nan
    if not inputs or not tensors or not (landmarks or alone) or not math.isfinite(tolerance):
        raise WeightsError(
            f"{path} is no golden test: it needs an image, or moving and fixed, one kind of result "
            f"(landmarks, mask, displacement_px or volume), and {key}."
        )
    try:
        _check_result(tensors, inputs)
    except ConfigError as error:
        raise WeightsError(f"{path} is no golden test: {error}") from error
    return inputs, tensors, tolerance, _settings(names, spacing)


def _result(result: Any) -> dict[str, "np.ndarray"]:
    """The arrays of the first kind that a result has; empty where it has none."""
    import numpy as np

    if landmarks := getattr(result, "landmarks", None):
        return {PREFIX + organ: np.asarray(points, np.float64) for organ, points in landmarks.items()}
    if (mask := getattr(result, "mask", None)) is not None:
        labels = np.asarray(mask)
        if labels.dtype not in (np.uint8, np.bool_):
            raise ConfigError(f"result.mask must be a uint8 label map, not {labels.dtype}.")
        return {MASK: labels.astype(np.uint8)}
    if (field := getattr(result, "displacement_px", None)) is not None:
        return {DISPLACEMENT: np.asarray(field, np.float32)}
    if (volume := getattr(result, "volume", None)) is not None:
        return {VOLUME: np.asarray(volume, np.float32)}
    return {}


def _difference(
    key: str, stored: "np.ndarray", found: "np.ndarray", inputs: Mapping[str, "np.ndarray"]
) -> float:
    import numpy as np

    if key == MASK:
        return float(np.mean(stored != found))
    if key == VOLUME:
        return float(np.abs(found.astype(np.float64) - stored).max() / np.ptp(stored))
    axis = -1
    if key == DISPLACEMENT:
        component = _component_axis(stored.shape, list(inputs.values())[-1].shape)
        axis = -1 if component is None else component
    distances = np.linalg.norm(found.astype(np.float64) - stored, axis=axis)
    return float(distances.max(initial=0.0)) if not np.isnan(distances).any() else math.nan


def _component_axis(field: tuple[int, ...], image: tuple[int, ...]) -> int | None:
    """Which axis of a displacement field holds x, y[, z]: the last or the first; None where neither fits."""
    if field == (*image, len(image)):
        return -1
    return 0 if field == (len(image), *image) else None


def _complaint(key: str, golden: Golden) -> str:
    if key == MASK:
        return f"{golden.difference:.3%} of the mask's pixels differ, more than {golden.tolerance:.3%}"
    if key == VOLUME:
        return f"a voxel differs by {golden.difference:.3%} of the range, more than {golden.tolerance:.3%}"
    what = "a displacement" if key == DISPLACEMENT else f"a landmark of {key.removeprefix(PREFIX)}"
    return f"{what} is {golden.difference:.3f} px from where it was, more than {golden.tolerance:g} px"


def _words(result: Mapping[str, "np.ndarray"]) -> str:
    words = [f"{key.removeprefix(PREFIX)} {value.shape}" for key, value in result.items()]
    return ", ".join(words) or "nothing"


def verify(
    name: hub.Name, *, golden: bool = False, cache_dir: str | os.PathLike[str] | None = None
) -> Verification:
    """Check the files of a checkpoint that is on this machine; reaches no network.

    Args:
        name: as for `anatozoo.load`.
        golden: also run the golden test, which imports torch.
        cache_dir: as for `anatozoo.load`.

    Raises:
        ChecksumMismatch: a file is not the one that the manifest describes.
        OfflineMiss: the checkpoint is not on this machine; download it first.
        WeightsError: the configuration is another checkpoint's, or the golden test fails.
    """
    located = hub.locate(name, cache_dir=cache_dir, offline=True)
    config, spec = read_config(located.folder), located.spec
    if spec and (config.name, config.version, config.method) != (spec.name, spec.version, spec.method):
        raise WeightsError(
            f"{located.folder} says that it is {config.name} {config.version}, but the manifest lists it as "
            f"{spec.name} {spec.version}; correct the manifest."
        )
    outcome = None
    if golden:
        module = hub.load(name, cache_dir=cache_dir, offline=True)
        outcome = run_golden(module, located.folder)
    present = [located.folder / name for name in FILES if (located.folder / name).is_file()]
    files = {path.name: fingerprint(path) for path in present}
    return Verification(located.name, located.folder, files, spec is not None, outcome)
