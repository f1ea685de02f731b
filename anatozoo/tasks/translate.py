"""From a 2-D image of one domain to the same image in the look of another, on the same grid."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from anatozoo.errors import ConfigError
from anatozoo.frames.spec import FrameSpec
from anatozoo.tasks.images import AnsweringTask
from anatozoo.tasks.signature import Signature, Tensors

if TYPE_CHECKING:
    from anatozoo.io.images import Image
    from anatozoo.results.translated import TranslatedImage

LARGE, SHARE = 0.3, 0.01
"""A translation is flagged where more than this share of the pixels changes by more than this."""


class TranslateTask(AnsweringTask["TranslatedImage"]):
    """A model that gives images of one domain the look of another.

    The network sees the whole image in a small frame. What it changes there is resampled and added to the
    image, so that details which the frame does not show stay as they are. An answer is flagged
    ``"large_change"`` where it differs much from what was given: something may have been made up or erased.

    Subclasses set `network`, which gives images (B, 1, S, S) about [0, 1] of such images.

    Args:
        domains: names of two domains: images of the first become like those of the second.
        frame: its size is one side, its fit ``"pad"``.

    Raises:
        ConfigError: settings that are not possible.
    """

    needs = frozenset({"image"})

    network: nn.Module

    def __init__(self, domains: Sequence[str], frame: FrameSpec | Mapping[str, Any]) -> None:
        super().__init__(frame)
        self.domains = check_domains(domains)

    def forward(self, image: Tensor) -> Tensor:
        """Images (B, 1, S, S) of the first domain, in [0, 1], in the look of the second, about [0, 1]."""
        return self.network(image)

    def signature(self) -> Signature:
        """The translated image of an image."""
        given = Tensors("image", (1, *self.shape), "grey values in [0, 1], 0 around the image")
        made = Tensors("translated", (1, *self.shape), "grey values of the other domain, about [0, 1]")
        return Signature((given,), (made,))

    def golden_input(self) -> npt.NDArray[np.uint8]:
        """An image that is free to share, for the golden test: a disc with a brighter spot in noise."""
        y, x = np.mgrid[-1:1:128j, -1:1:128j]
        shown = 110.0 * (x**2 + y**2 < 0.6) + 90.0 * ((x - 0.3) ** 2 + y**2 < 0.04)
        noise = np.random.default_rng(0).integers(0, 30, shown.shape)
        return np.asarray(shown + noise, np.uint8)

    @torch.inference_mode()
    def results(self, images: "Sequence[Image]", precision: str | None = None) -> "list[TranslatedImage]":
        """Each image in the look of the second domain, on its own grid."""
        from anatozoo.frames.square import to_network
        from anatozoo.io.intensity import to_unit_range

        frames, geometries = zip(
            *(to_network(image, self.side, self.frame.intensity) for image in images), strict=True
        )
        batch = self.tensor(np.stack(frames)[:, None])
        with self.answering(precision):
            changes = (self.computed(batch)[0].float() - batch.float())[:, 0].cpu().numpy()
        results = []
        for image, geometry, change in zip(images, geometries, changes, strict=True):
            given = to_unit_range(image.pixels, self.frame.intensity, image.black_white)
            made = np.clip(given + geometry.image_to_source(change), 0, 1, dtype=np.float32)
            results.append(self._result(image, given, made))
        return results

    def _result(
        self, image: "Image", given: npt.NDArray[np.float32], made: npt.NDArray[np.float32]
    ) -> "TranslatedImage":
        from anatozoo.io.grid import Grid
        from anatozoo.results.translated import TranslatedImage

        large = float(np.mean(np.abs(made - given) > LARGE)) > SHARE
        return TranslatedImage(
            checkpoint=self.checkpoint_name,
            version=self.checkpoint_version,
            image=image.source or image.name,
            grid=Grid(image.size, image.spacing_mm, aspect=image.aspect),
            flags=(*image.flags, *(["large_change"] if large else [])),
            dicom=image.dicom,
            domains=(self.domains[0], self.domains[1]),
            translated=made,
            given=given,
        )


def in_the_look(image: "Image", found: "TranslatedImage") -> "Image":
    """An image as read, with its pixels as they were translated: 0 is black and 1 white."""
    return replace(image, pixels=found.translated, black_white=(0.0, 1.0), flags=found.flags)


def check_domains(domains: Sequence[str]) -> list[str]:
    """The names of two domains.

    Raises:
        ConfigError: they are not two different names.
    """
    found = list(domains)
    if len(set(found)) != 2 or len(found) != 2 or not all(isinstance(name, str) and name for name in found):
        raise ConfigError(f"domains={domains!r} must be two different names, such as [HT, DU].")
    return found
