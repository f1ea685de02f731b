"""The golden test of a checkpoint: a stored raw image must give the stored landmarks.

It starts from raw pixels, so it covers reading, preprocessing, network and the way back to source pixels.
"""

import math
import os
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
TOLERANCE_PX = 0.5
"""Room for float16 storage and other processors' rounding, far below what anyone sees in a contour."""


@dataclass(frozen=True)
class Verification:
    """What `verify` found; a difference is an error, so this is always good news.

    Args:
        name: the checkpoint's name.
        folder: where its files lie.
        files: fingerprint of each file.
        checked: whether the manifest lists the files, so that the fingerprints were compared.
        golden_px: largest distance of a landmark of the golden test in pixels, None where it was not run.
        tolerance_px: what it may be.
    """

    name: str
    folder: Path
    files: dict[str, FileRecord]
    checked: bool
    golden_px: float | None
    tolerance_px: float | None


def write_golden(
    module: Any, image: "np.ndarray", directory: str | os.PathLike[str], *, tolerance_px: float = TOLERANCE_PX
) -> Path:
    """Store an image and what the module makes of it.

    Args:
        module: the module as users will load it, that is after storage in float16.
        image: raw source pixels, (H, W) uint8. Its terms must allow redistribution.
        directory: the checkpoint's folder.
        tolerance_px: largest accepted distance of a landmark, in pixels of `image`.

    Returns:
        The file.

    Raises:
        ConfigError: the image is not (H, W) uint8.
        OutputError: the folder cannot be written.
    """
    import numpy as np
    from safetensors.numpy import save_file

    if image.ndim != 2 or image.dtype != np.uint8:
        raise ConfigError(f"a golden image is (H, W) uint8, not {image.shape} {image.dtype}.")
    tensors = {"image": np.ascontiguousarray(image)}
    for organ, points in module.predict(image).landmarks.items():
        tensors[PREFIX + organ] = np.ascontiguousarray(points, dtype=np.float64)
    path = Path(directory) / GOLDEN
    metadata = {"tolerance_px": str(tolerance_px)}
    write_atomically(path, lambda temporary: save_file(tensors, temporary, metadata=metadata))
    return path


def golden_distance(module: Any, folder: Path) -> tuple[float, float]:
    """Run the golden test of a folder.

    Returns:
        Largest distance of a landmark to the stored one and the tolerance, both in pixels.

    Raises:
        WeightsError: the landmarks are further away than the tolerance, or the file is missing or broken.
    """
    import numpy as np
    from safetensors import safe_open

    path = folder / GOLDEN
    tensors = {key: value.numpy() for key, value in read_tensors(path).items()}
    with safe_open(path, framework="np") as stream:
        tolerance = float((stream.metadata() or {}).get("tolerance_px", "nan"))
    stored = {key.removeprefix(PREFIX): value for key, value in tensors.items() if key.startswith(PREFIX)}
    if "image" not in tensors or not stored or not math.isfinite(tolerance):
        raise WeightsError(f"{path} is no golden test: it needs an image, landmarks and tolerance_px.")
    found = module.predict(tensors["image"]).landmarks
    if {organ: points.shape for organ, points in found.items()} != {k: v.shape for k, v in stored.items()}:
        stored_organs, found_organs = ", ".join(stored), ", ".join(found)
        raise WeightsError(f"{path} holds other landmarks ({stored_organs}) than predicted ({found_organs}).")
    distances = {organ: np.linalg.norm(found[organ] - stored[organ], axis=1).max() for organ in stored}
    worst = max(distances, key=lambda organ: (math.isnan(distances[organ]), distances[organ]))
    distance = float(distances[worst])
    # Written so that NaN fails too.
    if not distance <= tolerance:
        raise WeightsError(
            f"{folder.name} fails its golden test: a landmark of {worst} is {distance:.3f} px from where it "
            f"was, more than {tolerance:g} px. This installation does not compute what was published; report "
            "it with the output of `anatozoo doctor`."
        )
    return distance, tolerance


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
    distance = tolerance = None
    if golden:
        module = hub.load(name, cache_dir=cache_dir, offline=True)
        distance, tolerance = golden_distance(module, located.folder)
    present = [located.folder / name for name in FILES if (located.folder / name).is_file()]
    files = {path.name: fingerprint(path) for path in present}
    return Verification(located.name, located.folder, files, spec is not None, distance, tolerance)
