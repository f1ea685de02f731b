"""Cheap quality signals in latent space.

* `LatentDistance`: distance of a code from those of good cases.
* `predictive_spread`: spread of HybridGNet's contours when its latent code is resampled (CheXmask-U).
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self, runtime_checkable

import numpy as np
import numpy.typing as npt

from anatozoo.errors import ConfigError, DataError
from anatozoo.organs import PAIRS
from anatozoo.quality.organs import OrganMasks, has_organ, labels_for, pair_of, read_organs
from anatozoo.quality.selectors import Latents, LatentSource

if TYPE_CHECKING:
    from torch import Tensor

    from anatozoo.frames.geometry import Geometry

Vector = npt.NDArray[np.float64]
SAMPLES = 50
"""Samples of the latent code, as in CheXmask-U."""
_FLAT = 1e-12
"""Directions whose variance is a smaller share of the largest one contain only rounding errors."""


@runtime_checkable
class CodesImages(Protocol):
    """A network that encodes the maps of an image as a distribution and decodes contours from codes."""

    encoder: Any
    """Feature extractor: the maps of an image, by level."""

    def encode(self, maps: Any) -> tuple["Tensor", "Tensor"]:
        """Mean and log-variance of the code, (B, K) each."""

    def sample(self, image: "Tensor", noise: "Tensor", *, refined: bool = True) -> tuple["Tensor", "Tensor"]:
        """Landmarks (B, n, N, 2) from 0 to 1 of drawn codes, and the codes' standard deviations (B, K)."""


def latent_code(sample: Any, model: Any, classes: Sequence[str] | None = None) -> Vector:
    """The code of a mask, or of an image, in a network's latent space.

    Args:
        sample: for an autoencoder of masks (`aenet-*`) a segmentation, see `read_organs`; for `hybridgnet-*`
            an image, see `anatozoo.read_image`.
        model: checkpoint name or module.
        classes: names of the values, where `sample` is a label map.

    Returns:
        (K,) float64; for HybridGNet the mean of the latent code.

    Raises:
        ConfigError: the model gives no codes.
        DataError: the mask lacks an organ of the model.
        GeometryError: the model works in millimetres and the spacing is unknown.
        ImageError: the sample cannot be read.
    """
    from anatozoo.tasks.codes import CodeTask

    model = loaded(model)
    if isinstance(getattr(model, "network", None), CodesImages):
        batch, _ = _network_input(sample, model)
        with _evaluating(model):
            code = model.network.encode(model.network.encoder(batch))[0]
    elif isinstance(model, CodeTask):
        planes = _planes(read_organs(sample, classes), model)
        with _evaluating(model):
            code = model.encode(planes)
    else:
        raise ConfigError(f"{type(model).__name__} gives no codes; take a checkpoint of aenet or hybridgnet.")
    found: Vector = code[0].double().cpu().numpy()
    return found


@dataclass(frozen=True, eq=False)
class LatentDistance:
    """Mahalanobis distance of a code to those of good cases, made by `fit` or read by `load`.

    For `aenet-*` it judges a mask. For `hybridgnet-*` it judges the image alone, whatever its masks: whether
    it resembles the reference cases.

    The covariance is shrunk towards a multiple of the identity, by the share of Ledoit & Wolf, "A
    well-conditioned estimator for large-dimensional covariance matrices", J. Multivariate Analysis 2004.

    Attributes:
        model: the module that gives the codes.
        codes: (N, K) float64 of the reference cases, N at least 3.

    Raises:
        DataError: fewer than three codes, codes that are not finite, or codes too similar for a covariance.
    """

    model: Any = field(repr=False)
    codes: Vector = field(repr=False)

    def __post_init__(self) -> None:
        codes = np.asarray(self.codes, np.float64)
        if codes.ndim != 2 or len(codes) < 3 or not np.isfinite(codes).all():
            raise DataError(f"reference codes must be finite, (N, K) with N at least 3, not {codes.shape}.")
        object.__setattr__(self, "codes", codes)
        variances = np.linalg.eigvalsh(self.covariance)
        if variances[0] <= _FLAT * variances[-1]:
            raise DataError("the reference codes are too much alike; take more and different cases.")

    @classmethod
    def fit(cls, model: Any, samples: Iterable[Any], classes: Sequence[str] | None = None) -> Self:
        """Encode the reference cases; errors are those of `latent_code`.

        Args:
            model: checkpoint name or module.
            samples: good masks, such as the labels of an atlas, or images that the model segments well;
                preferably more than the length of the code.
            classes: names of the values, if the samples are label maps.
        """
        module = loaded(model)
        codes = [latent_code(sample, module, classes) for sample in samples]
        return cls(module, np.stack(codes) if codes else np.zeros((0, 0)))

    @cached_property
    def mean(self) -> Vector:
        """Mean of the codes, (K,)."""
        mean: Vector = self.codes.mean(0)
        return mean

    @cached_property
    def covariance(self) -> Vector:
        """Shrunk covariance of the codes, (K, K), positive definite."""
        return shrunk_covariance(self.codes)

    def __call__(self, sample: Any, classes: Sequence[str] | None = None) -> float:
        """The distance of a mask or image, at least 0, without unit; arguments are those of `latent_code`."""
        return self.of_code(latent_code(sample, self.model, classes))

    def of_code(self, code: npt.ArrayLike) -> float:
        """The distance of a code (K,).

        Raises:
            DataError: the code has another length.
        """
        if np.shape(code) != self.mean.shape:
            raise DataError(f"the code has the shape {np.shape(code)}, the reference {self.mean.shape}.")
        offset = np.asarray(code, np.float64) - self.mean
        return float(np.sqrt(offset @ np.linalg.solve(self.covariance, offset)))

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the codes and the name of their checkpoint as one ``.safetensors`` file.

        Raises:
            OutputError: the file cannot be written.
        """
        from safetensors.numpy import save

        from anatozoo.io.writers import write_bytes

        source = LatentSource.of(Latents(self.model))
        return write_bytes(path, save({"codes": self.codes}, metadata=dict(vars(source))))

    @classmethod
    def load(cls, path: str | os.PathLike[str], model: Any) -> Self:
        """Read what `save` wrote.

        Args:
            path: the file.
            model: the checkpoint of the codes, by name or as module.

        Raises:
            DataError: the file cannot be read, or its codes are of another checkpoint, version or weights.
        """
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(os.fspath(path), "numpy") as file:
                about, codes = file.metadata() or {}, file.get_tensor("codes")
            source = LatentSource(about["name"], about["version"], about["digest"])
        except (OSError, KeyError, SafetensorError) as error:
            raise DataError(f"{path} holds no reference codes ({error}).") from error
        module = loaded(model)
        source.check(Latents(module), Path(path).name)
        return cls(module, codes)


def shrunk_covariance(values: npt.ArrayLike) -> Vector:
    """Covariance of rows (N, K), shrunk after Ledoit & Wolf (2004); see `LatentDistance`."""
    x = np.asarray(values, np.float64)
    x = x - x.mean(0)
    count, length = x.shape
    sample = x.T @ x / count
    target = np.trace(sample) / length * np.eye(length)
    distance = np.square(sample - target).sum()
    error = (np.square(np.square(x).sum(1)).mean() - np.square(sample).sum()) / count
    share = min(error / distance, 1.0) if distance else 1.0
    result: Vector = share * target + (1 - share) * sample
    return result


@dataclass(frozen=True, eq=False)
class LandmarkSpread:
    """Spread of a HybridGNet's landmarks under its latent distribution, made by `predictive_spread`.

    Attributes:
        mean: organ -> (N, 2) mean position (x, y) in pixels of the source.
        std_px: organ -> (N, 2) standard deviations of x and y in pixels of the source.
        latent_std: (K,) standard deviations of the latent code, from the encoder.
        samples: number of sampled codes.
    """

    mean: dict[str, Vector] = field(repr=False)
    std_px: dict[str, Vector] = field(repr=False)
    latent_std: Vector = field(repr=False)
    samples: int

    def per_landmark(self, organ: str) -> Vector:
        """Mean of the deviations of x and y of each landmark, (N,) pixels; for ``lungs``, both sides.

        Raises:
            ConfigError: the organ is unknown.
        """
        parts = [organ] if organ in self.std_px else [p for p in PAIRS.get(organ, ()) if p in self.std_px]
        if not parts:
            raise ConfigError(f"there are no landmarks of {organ}, but of {', '.join(self.std_px)}.")
        spread: Vector = np.concatenate([self.std_px[part] for part in parts]).mean(1)
        return spread

    def of(self, organ: str) -> float:
        """Mean over the landmarks of an organ, in pixels of the source."""
        return float(self.per_landmark(organ).mean())


def predictive_spread(
    image: Any, model: Any, *, samples: int = SAMPLES, seed: int = 0, refined: bool = True
) -> LandmarkSpread:
    """Spread of a HybridGNet's contours under its own latent distribution, as CheXmask-U measures it.

    The image is encoded once; codes are sampled from the encoder's normal distribution and decoded as one
    batch. The spread describes the network's own contours of the image; it uses no mask.

    Warning:
        CheXmask-U (Gaggion et al., MIDL 2026) trains for this: its KL weight rises from 1e-5 to 1e-2 over 200
        epochs. A network with 1e-5 throughout, as HybridGNet was published, has codes of almost no variance,
        and a spread of some 1e-4 pixels. The package's checkpoints were trained with a larger weight since
        version 1.2.0: their spread rises with noise and hidden parts, but it is far smaller than errors and
        does not find bad contours among undamaged images. Thresholds of CheXmask-U do not apply.

    Args:
        image: see `anatozoo.read_image`.
        model: checkpoint name or module of `hybridgnet`.
        samples: number of codes to sample, at least 2.
        seed: seed of the samples, which use a separate random generator.
        refined: use the contours after the refinement steps, as ``predict`` does. False uses those of the
            graph decoder, as in the papers; the refinement pulls contours back to the edges.

    Raises:
        ConfigError: the model is not a HybridGNet, or there are fewer than two samples.
        ImageError: the image cannot be read.
    """
    import torch

    from anatozoo.nn.graphs import organ_slices

    module = loaded(model)
    if not isinstance(getattr(module, "network", None), CodesImages) or samples < 2:
        raise ConfigError(
            f"{samples} samples of {type(module).__name__}: at least two, of a HybridGNet, are needed."
        )
    (batch, geometry), network = _network_input(image, module), module.network
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn((samples, module.latents), generator=generator)
    with _evaluating(module):
        [landmarks], deviation = network.sample(batch, noise, refined=refined)
    positions = landmarks.double().cpu().numpy() * module.side
    points = geometry.points_to_source(positions.reshape(-1, 2)).reshape(samples, -1, 2)
    parts = organ_slices(module.organs)
    return LandmarkSpread(
        mean={organ: points[:, part].mean(0) for organ, part in parts.items()},
        std_px={organ: points[:, part].std(0, ddof=1) for organ, part in parts.items()},
        latent_std=deviation[0].double().cpu().numpy(),
        samples=samples,
    )


def _planes(found: OrganMasks, model: Any) -> "Tensor":
    """One-hot label map (1, C, ...) in an autoencoder's frame."""
    import torch

    from anatozoo.frames.frame import Frame
    from anatozoo.nn.labels import one_hot

    unknown = [o for o in model.organs if not has_organ(found.masks, o) and pair_of(o) not in found.masks]
    if unknown:
        raise DataError(
            f"the mask has {', '.join(found.masks)}, but the code needs {unknown[0]} too; it is of the whole."
        )
    frame = Frame.fit(found.grid, model.frame)
    labels = frame.labels(labels_for(found, model.organs)).astype(np.int64)
    parameter = next(model.parameters())
    planes: Tensor = one_hot(torch.from_numpy(labels)[None].to(parameter.device), len(model.organs) + 1)
    return planes.to(parameter.dtype)


def _network_input(image: Any, model: Any) -> tuple["Tensor", "Geometry"]:
    """Batch (1, 1, S, S), and the geometry from the image to it."""
    import torch

    from anatozoo.frames.square import to_network
    from anatozoo.io.images import read_image

    pixels, geometry = to_network(read_image(image), model.side, model.frame.intensity)
    parameter = next(model.parameters())
    return torch.from_numpy(pixels)[None, None].to(parameter), geometry


@contextmanager
def _evaluating(model: Any) -> Iterator[None]:
    """The module in evaluation mode and without gradients; its mode is restored afterwards."""
    import torch

    was_training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        model.train(was_training)


def loaded(model: Any) -> Any:
    """The checkpoint of this name, read once, or the module itself."""
    return _by_name(model) if isinstance(model, str) else model


@cache
def _by_name(name: str) -> Any:
    from anatozoo.zoo.hub import load

    return load(name)
