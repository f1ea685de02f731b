"""Selectors: find similar atlas images by latents instead of thumbnails."""

import hashlib
from dataclasses import dataclass
from functools import cache
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from anatozoo.errors import ConfigError, DataError
from anatozoo.io.grid import GridImage

THUMBNAIL = "thumbnail"
"""Name of the selector that needs no checkpoint: correlation at 32 pixels along each axis."""

Vector = npt.NDArray[np.float32]


class Selector(Protocol):
    """Gives images the latents by which they are compared.

    Attributes:
        name: name of the checkpoint.
        version: version of the checkpoint.
        digest: hexadecimal hash of its weights.
    """

    name: str
    version: str
    digest: str

    def embed(self, image: GridImage) -> Vector:
        """The latent of an image, (K,) float32."""


@dataclass(frozen=True)
class LatentSource:
    """Source of an atlas's latents; see `Selector` for the fields."""

    name: str
    version: str
    digest: str

    @classmethod
    def of(cls, selector: Selector) -> "LatentSource":
        """The source that identifies a selector."""
        return cls(selector.name, selector.version, selector.digest)

    def check(self, selector: Selector, atlas: str) -> None:
        """Refuse to compare latents of this source with those of another.

        Args:
            selector: the other source.
            atlas: name of the atlas, for the message.

        Raises:
            DataError: checkpoint, version or weights differ.
        """
        asked = LatentSource.of(selector)
        if asked == self:
            return
        found, wanted = (f"{each.name} {each.version}" for each in (self, asked))
        if found == wanted:
            found, wanted = (
                f"{each} (weights {s.digest[:8]})" for each, s in ((found, self), (wanted, asked))
            )
        raise DataError(
            f"the atlas {atlas} holds latents of {found}, the selector is {wanted}: they cannot be compared. "
            f"Build the atlas again with the selector {selector.name}, or choose by {self.name}."
        )


class Latents:
    """Selects by the latents of a checkpoint, such as those of the Siamese affine network.

    Args:
        model: a loaded checkpoint with a method ``embed`` that gives an image's latent.
    """

    def __init__(self, model: Any) -> None:
        self.model = model
        self.name, self.version = str(model.checkpoint_name), str(model.checkpoint_version)
        self.digest = _digest(model)

    def embed(self, image: GridImage) -> Vector:
        """The latent of an image in the network's own frame, (K,) float32."""
        latent: Vector = self.model.embed(image)
        return latent


def likeness(latents: Vector, latent: Vector) -> Vector:
    """Similarity of an image to others: the cosine of their latents, centred on the others' mean.

    Plain inner products, as in the pipeline of CheXmask (Gaggion et al., Scientific Data 2024), prefer long
    latents, whatever the image.

    Args:
        latents: (N, K) of the others.
        latent: (K,) of the image.

    Returns:
        (N,) in [-1, 1]; 0 for a latent equal to the mean.
    """
    mean = latents.mean(0)
    others, own = latents - mean, latent - mean
    lengths = np.linalg.norm(others, axis=1) * np.linalg.norm(own)
    found: Vector = np.divide(others @ own, lengths, out=np.zeros_like(lengths), where=lengths > 0)
    return found


def selector_of(selector: "str | Selector | None") -> Selector | None:
    """The selector of this name: a checkpoint that gives latents, or None for thumbnails.

    Args:
        selector: ``"thumbnail"`` or None, a checkpoint's name or folder, or a selector, which is returned as
            it is.

    Raises:
        UnknownCheckpoint: there is no checkpoint of this name.
        ConfigError: the checkpoint gives no latents.
    """
    if selector is None or selector == THUMBNAIL:
        return None
    return _learned(selector) if isinstance(selector, str) else selector


@cache
def _learned(name: str) -> Latents:
    from anatozoo.zoo.hub import load

    model = load(name)
    if not callable(getattr(model, "embed", None)):
        raise ConfigError(
            f"{name} is a {type(model).__name__}, which gives no latents; selectors are {THUMBNAIL} and "
            "checkpoints of affinereg."
        )
    return Latents(model)


def _digest(model: Any) -> str:
    found = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        found.update(name.encode())
        found.update(value.detach().cpu().float().numpy().tobytes())
    return found.hexdigest()
