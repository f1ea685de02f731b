"""Atlases: images with good label maps in one frame, by which other segmentations are judged."""

import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from anatozoo.data.case import Case
from anatozoo.data.layouts.registry import find_cases
from anatozoo.errors import ConfigError, DataError
from anatozoo.frames.frame import Frame
from anatozoo.frames.spec import FrameSpec
from anatozoo.io.grid import Grid, GridImage
from anatozoo.quality.intervals import DiceIntervals
from anatozoo.quality.selectors import LatentSource, Selector, likeness, selector_of
from anatozoo.results.base import read_only
from anatozoo.tasks.likeness import embed

SCHEMA_VERSION = 1
EMBEDDING = "thumbnail-32"
"""Method by which images are compared; stored in the file, so that old atlases are not misread."""
SUFFIX = ".safetensors"
_WHITE = 255


@dataclass(frozen=True, eq=False)
class AtlasImage:
    """One image of an atlas.

    Attributes:
        id: name of the image, unique in the atlas.
        image: the image in the atlas's frame, grey levels 0 … 1, with the frame's spacing if it is known.
        labels: label map on the same grid, uint8.
        embedding: (K,) float32 of length 1, the thumbnail by which images are compared.
        latent: (K,) float32 of another selector, or None.
    """

    id: str
    image: GridImage
    labels: npt.NDArray[np.uint8]
    embedding: npt.NDArray[np.float32]
    latent: npt.NDArray[np.float32] | None = None

    @cached_property
    def in_pixels(self) -> GridImage:
        """The image without its spacing, for images whose own is unknown."""
        return replace(self.image, grid=self.image.grid.in_pixels())


@dataclass(frozen=True, eq=False)
class Atlas:
    """Images with label maps in one frame, built by `build_atlas` or read by `Atlas.load`.

    Attributes:
        name: name of the atlas in results.
        organs: names of the labels 1, 2, ...
        shape: (H, W) or (D, H, W) of the frame.
        images: at least one.
        left_out: cases that were left out, with the reason.
        latents_of: source of the images' latents, see `with_latents`; None without latents.
        intervals: intervals of Dice, see `with_intervals`; None for an atlas that is not calibrated.

    Raises:
        DataError: there is no image, two have the same name, or only some have a spacing or a latent.
    """

    name: str
    organs: tuple[str, ...]
    shape: tuple[int, ...]
    images: tuple[AtlasImage, ...]
    left_out: tuple[tuple[str, str], ...] = ()
    latents_of: LatentSource | None = None
    intervals: DiceIntervals | None = None

    def __post_init__(self) -> None:
        ids = [image.id for image in self.images]
        if not ids:
            raise DataError(f"the atlas {self.name} has no images.")
        if len(set(ids)) < len(ids):
            raise DataError(f"two images of the atlas {self.name} have one name.")
        spaced = [image.id for image in self.images if image.image.grid.spacing_mm is not None]
        if 0 < len(spaced) < len(ids):
            bare = next(each for each in ids if each not in spaced)
            raise DataError(
                f"the atlas {self.name} mixes images with a spacing, such as {spaced[0]}, and without one, "
                f"such as {bare}; their distances could not be compared."
            )

        lengths = {None if each.latent is None else each.latent.shape for each in self.images}
        if len(lengths) > 1 or (lengths == {None}) != (self.latents_of is None):
            raise DataError(f"the images of the atlas {self.name} do not all have latents of one kind.")

    def __len__(self) -> int:
        return len(self.images)

    @property
    def is_metric(self) -> bool:
        """Whether the spacings of the images are known."""
        return self.images[0].image.grid.spacing_mm is not None

    @cached_property
    def digest(self) -> str:
        """Hexadecimal hash of the images, label maps and their names."""
        found = hashlib.sha256(json.dumps([self.organs, [each.id for each in self.images]]).encode())
        for each in self.images:
            found.update(_to_bytes(each.image.pixels).tobytes() + each.labels.tobytes())
            found.update(repr(each.image.grid.spacing_mm).encode())
        return found.hexdigest()

    def with_latents(self, selector: str | Selector) -> Self:
        """A copy of the atlas whose images have the latents of a selector.

        Args:
            selector: a checkpoint that gives latents, see `anatozoo.quality.selectors.selector_of`.

        Raises:
            ConfigError: the checkpoint gives no latents; thumbnails need none.
            UnknownCheckpoint: there is no checkpoint of this name.
            ImageError: the checkpoint cannot take these images.
        """
        found = selector_of(selector)
        if found is None:
            raise ConfigError(f"every atlas can be searched by {selector}; name a checkpoint for latents.")
        images = tuple(replace(each, latent=found.embed(each.image)) for each in self.images)
        return replace(self, images=images, latents_of=LatentSource.of(found))

    def with_intervals(self, intervals: DiceIntervals | None) -> Self:
        """A copy of the atlas with these intervals of Dice; None removes them.

        Raises:
            DataError: the intervals were calibrated with another atlas, or for organs that this one lacks.
        """
        if intervals is not None:
            if intervals.judging.atlas != self.digest:
                raise DataError(
                    f"the intervals were calibrated with another atlas than {self.name}; calibrate this one."
                )
            if strange := [organ for organ in intervals.organs if organ not in self.organs]:
                raise DataError(f"the atlas {self.name} has no {strange[0]}, which the intervals are for.")
        return replace(self, intervals=intervals)

    def check_selector(self, selector: Selector | None) -> None:
        """Refuse a selector whose latents the images do not have.

        Raises:
            DataError: the images have no latents, or those of another checkpoint or version.
        """
        if selector is None:
            return
        if self.latents_of is None:
            raise DataError(
                f"the atlas {self.name} holds no latents; build it with the selector {selector.name} "
                "(`anatozoo quality build-atlas --selector`, or `Atlas.with_latents`)."
            )
        self.latents_of.check(selector, self.name)

    def nearest(
        self,
        image: GridImage,
        count: int,
        *,
        exclude: Sequence[str] = (),
        selector: str | Selector | None = None,
    ) -> list[AtlasImage]:
        """The images that are most similar to this one, the most similar first.

        Args:
            image: image in the atlas's frame, as `in_frame` gives it.
            count: number of images; fewer if the atlas has fewer.
            exclude: names to leave out, such as the image's own.
            selector: source of the latents to compare; None, or ``"thumbnail"``, compares thumbnails.

        Raises:
            ConfigError: `count` is not positive, or the selector gives no latents.
            DataError: nothing is left, or the atlas has no latents of the selector.
        """
        if count < 1:
            raise ConfigError(f"{count} atlas images: at least one is needed.")
        left = [each for each in self.images if each.id not in set(exclude)]
        if not left:
            raise DataError(f"all images of the atlas {self.name} are excluded.")
        found = selector_of(selector)
        self.check_selector(found)
        if found is None:
            alike = np.stack([each.embedding for each in left]) @ embed(image.pixels)
        else:
            latents = np.stack([each.latent for each in left if each.latent is not None])
            alike = likeness(latents, found.embed(image))
        # Stable sort: of equally similar images, the first one is always taken.
        return [left[i] for i in np.argsort(-alike, kind="stable")[:count]]

    def save(self, path: str | os.PathLike[str]) -> list[Path]:
        """Write ``NAME.safetensors`` with the arrays, and ``NAME.json`` with everything else.

        Args:
            path: path of the files, with or without suffix.

        Raises:
            OutputError: a file cannot be written.
        """
        from safetensors.numpy import save

        from anatozoo.io.writers import write_bytes, write_json
        from anatozoo.zoo.files import fingerprint

        tensors, about = _files(path)
        arrays: dict[str, npt.NDArray[Any]] = {
            "images": np.stack([_to_bytes(each.image.pixels) for each in self.images]),
            "labels": np.stack([each.labels for each in self.images]),
            "embeddings": np.stack([each.embedding for each in self.images]),
        }
        if self.latents_of is not None:
            arrays["latents"] = np.stack([each.latent for each in self.images if each.latent is not None])
        write_bytes(tensors, save(arrays))
        spacings = [each.image.grid.spacing_mm for each in self.images]
        content = {
            "schema_version": SCHEMA_VERSION,
            "name": self.name,
            "organs": list(self.organs),
            "shape": list(self.shape),
            "embedding": EMBEDDING,
            "latents_of": None if self.latents_of is None else asdict(self.latents_of),
            "images": [each.id for each in self.images],
            "spacing_mm": [None if s is None else list(s) for s in spacings],
            "left_out": [list(each) for each in self.left_out],
            "intervals": None if self.intervals is None else self.intervals.to_dict(),
            "sha256": fingerprint(tensors).sha256,
        }
        return [tensors, write_json(about, content)]

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read what `save` wrote.

        Args:
            path: path of either file, or of both without suffix.

        Raises:
            DataError: a file is missing or damaged, or the two do not belong together.
        """
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        from anatozoo.zoo.files import fingerprint

        tensors, about = _files(path)
        try:
            known: dict[str, Any] = json.loads(about.read_text(encoding="utf-8"))
            if known["schema_version"] != SCHEMA_VERSION or known["embedding"] != EMBEDDING:
                raise DataError(f"{about} is an atlas of another release of anatozoo; build it again.")
            if fingerprint(tensors).sha256 != known["sha256"]:
                raise DataError(
                    f"{tensors} is not the file that {about.name} describes; build the atlas again."
                )
            arrays = load_file(tensors)
            # Atlases of earlier releases have no latents.
            given = known.get("latents_of")
            images = [
                AtlasImage(
                    name,
                    _image(name, pixels, None if spacing is None else tuple(spacing)),
                    labels,
                    embedding,
                    latent,
                )
                for name, spacing, pixels, labels, embedding, latent in zip(
                    known["images"],
                    known["spacing_mm"],
                    arrays["images"],
                    arrays["labels"],
                    arrays["embeddings"],
                    [None] * len(known["images"]) if given is None else arrays["latents"],
                    strict=True,
                )
            ]
            left_out = tuple((str(name), str(why)) for name, why in known["left_out"])
            organs, shape = tuple(known["organs"]), tuple(known["shape"])
            source = None if given is None else LatentSource(**given)
            atlas = cls(known["name"], organs, shape, tuple(images), left_out, source)
            # Atlases of earlier releases have no intervals.
            bands = known.get("intervals")
            try:
                return atlas if bands is None else atlas.with_intervals(DiceIntervals.from_dict(bands))
            except DataError as error:
                raise DataError(f"{about}: {error}") from error
        except OSError as error:
            raise DataError(f"the atlas {about} cannot be read: {error.strerror or error}.") from error
        except (ValueError, KeyError, TypeError, RecursionError, SafetensorError) as error:
            raise DataError(f"{about} and {tensors.name} are not an atlas of anatozoo ({error}).") from error


def build_atlas(
    root: str | os.PathLike[str],
    organs: Sequence[str],
    *,
    name: str,
    layout: str = "folder",
    split: str | None = "train",
    image_size: int | Sequence[int] = 256,
    exclude: Sequence[str] = (),
    selector: str | Selector | None = None,
) -> Atlas:
    """An atlas from a folder of images with label maps.

    Args:
        root: the folder, see `anatozoo.data.layouts.registry.find_cases`.
        organs: names of the labels; cases that lack one are left out.
        name: name of the atlas in results.
        layout: ``"jsrt"`` or ``"folder"``.
        split: split of the cases to use; None uses all.
        image_size: side of the square frame, [H, W] or [D, H, W]. Images keep their proportions in it.
        exclude: names of cases to leave out.
        selector: checkpoint whose latents are stored beside the thumbnails; None stores none.

    Raises:
        DataError: no case is left, or an excluded one does not exist; see also `find_cases`.
        ImageError: an image cannot be read.
        ConfigError: the selector gives no latents.
    """
    # Cheap checks first.
    found = selector_of(selector)
    shape = FrameSpec(image_size if isinstance(image_size, int) else list(image_size)).shape
    cases = find_cases(Path(root), layout, organs, dims=len(shape)).complete(organs)
    if unknown := sorted(set(exclude) - {case.id for case in cases}):
        raise DataError(f"{root} has no case {unknown[0]}, which is to be excluded.")
    chosen = [c for c in cases if split in (None, c.split) and c.id not in set(exclude)]
    if not chosen:
        raise DataError(f"{root} has no case for the atlas, split {split or 'any'}.")
    atlas = atlas_of(chosen, organs, name=name, shape=shape)
    return atlas if found is None else atlas.with_latents(found)


def atlas_of(cases: Iterable[Case], organs: Sequence[str], *, name: str, shape: tuple[int, ...]) -> Atlas:
    """An atlas of the given cases; see `build_atlas`."""
    taken, left_out = [], []
    for case in cases:
        image, labels = case.read(organs, len(shape))
        frame, there = in_frame(image, shape), set() if labels is None else set(np.unique(labels).tolist())
        lacking = [organ for value, organ in enumerate(organs, 1) if value not in there]
        if labels is None or lacking:
            left_out.append((case.id, f"no {', '.join(lacking)}"))
            continue
        drawn = Frame.fit(image.grid, FrameSpec(list(shape))).labels(labels).astype(np.uint8)
        # Rounded as in the file.
        pixels = _to_bytes(frame.pixels)
        image = _image(case.id, pixels, frame.grid.spacing_mm)
        taken.append(AtlasImage(case.id, image, drawn, embed(image.pixels)))
    if not taken:
        raise DataError(f"no case has all of {', '.join(organs)}; {left_out[0][0]} has {left_out[0][1]}.")
    return Atlas(name, tuple(organs), shape, tuple(taken), tuple(left_out))


def in_frame(image: GridImage, shape: tuple[int, ...]) -> GridImage:
    """The whole image in an atlas's frame, with its proportions and grey levels stretched to 0 … 1."""
    frame = Frame.fit(image.grid, FrameSpec(list(shape)))
    grid = Grid(shape[::-1], frame.spacing_mm)
    return GridImage(frame.image(image.pixels), grid, image.name, image.source, image.flags)


def _image(name: str, pixels: npt.NDArray[np.uint8], spacing: tuple[float, ...] | None) -> GridImage:
    # Read-only, so that what networks see of it is kept, see `anatozoo.frames.framed`.
    levels = read_only((pixels / _WHITE).astype(np.float32))
    return GridImage(levels, Grid(pixels.shape[::-1], spacing), name)


def _to_bytes(pixels: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    levels: npt.NDArray[np.uint8] = np.round(pixels * _WHITE).clip(0, _WHITE).astype(np.uint8)
    return levels


def _files(path: str | os.PathLike[str]) -> tuple[Path, Path]:
    given = Path(path)
    stem = given.with_suffix("") if given.suffix in (SUFFIX, ".json") else given
    return stem.with_name(stem.name + SUFFIX), stem.with_name(stem.name + ".json")
