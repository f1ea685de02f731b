"""Multi-atlas segmentation: landmarks by registration to the most similar images of an atlas."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from anatozoo.errors import AnatozooError, ConfigError, ImageError, UnknownCheckpoint
from anatozoo.frames.spec import FrameSpec
from anatozoo.io.grid import Grid, GridImage
from anatozoo.nn.graphs import organ_counts
from anatozoo.tasks.contours import ContourTask
from anatozoo.tasks.likeness import embed, mutual_information
from anatozoo.text import first_line

if TYPE_CHECKING:
    from anatozoo.frames.geometry import Geometry
    from anatozoo.io.images import Image
    from anatozoo.results.segmentation import SegmentationResult
    from anatozoo.tasks.engines import Engine
    from anatozoo.tasks.propagate import Method

UNLIKE = "unlike_atlas"
"""Flag of an image that no image of the atlas resembles."""
BUILD = "anatozoo fit --config multiatlas/jsrt.yaml --data.root DIR"
FUSIONS: "dict[str, Method | None]" = {"landmarks": None, "voting": "majority", "staple": "staple"}
"""How the answers of the atlas images become one, and the method of `anatozoo.tasks.propagate.fuse`."""
SELECTORS = ("mutual_information", "thumbnail")
STEPS = 2**20
"""Landmarks of the atlas are stored in whole steps, so many in the frame: exact, and half the size."""

Levels = npt.NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Votes:
    """What the chosen images of the atlas say.

    Attributes:
        points: (count, N, 2) landmarks in pixels of the frame, those of the most similar image first.
        resemblance: correlation of the image with the one that resembles it most, both at 32 x 32 pixels.
    """

    points: npt.NDArray[np.float64]
    resemblance: float


class MultiAtlasModel(ContourTask):
    """Segments an image by the landmarks of the most similar images of an atlas.

    Each chosen image of the atlas is registered to the given one, which says where its landmarks lie there;
    the answer is their mean. As Gaggion et al., IEEE TMI 2022, do for the row "MultiAtlas" of their table.
    The weights are the atlas: its images and landmarks.

    Args:
        organs: a set (``"lungs"``, ``"lungs_heart"``, ``"lungs_heart_clavicles"``) or landmarks per organ.
        frame: square frame of the atlas, in which images are registered.
        atlas: names of the images of the atlas; empty until a fit has built it.
        count: images of the atlas that are registered.
        selector: how similar images are found: ``"mutual_information"`` of all grey levels, or
            ``"thumbnail"``, the correlation at 32 x 32 pixels.
        engine: what registers: ``"bspline"``, ``"demons"``, ``"elastix"``, or a registration checkpoint such
            as ``"acregnet-jsrt"``; see `anatozoo.tasks.engines`.
        fusion: ``"voting"`` and ``"staple"`` also fuse the label maps that the landmarks of each image
            enclose, see `anatozoo.tasks.propagate`, to the result's `label_map`; ``"landmarks"`` gives none.
        least_resemblance: an image is flagged whose correlation with all images of the atlas, at 32 x 32
            pixels, is below this; -1 flags none. A fit finds it.
        check_view: whether `predict` flags images that are not upright frontal chest radiographs, see
            `anatozoo.tasks.chest_view`.

    Raises:
        ConfigError: a setting is unknown, or `count` is not possible.
    """

    atlas_images: Tensor
    atlas_landmarks: Tensor

    def __init__(
        self,
        organs: str | dict[str, int] = "lungs_heart",
        frame: FrameSpec = FrameSpec(256),
        atlas: list[str] = [],  # noqa: B006 - jsonargparse shows it, nothing changes it
        count: int = 5,
        selector: Literal["mutual_information", "thumbnail"] = "mutual_information",
        engine: str = "bspline",
        fusion: Literal["landmarks", "voting", "staple"] = "landmarks",
        least_resemblance: float = -1.0,
        check_view: bool = False,
    ) -> None:
        super().__init__(organ_counts(organs), frame, check_view)
        self.count, self.selector, self.engine, self.fusion = count, selector, engine, fusion
        self.least_resemblance = least_resemblance
        self.atlas: list[str] = []
        self.check()
        nodes = sum(self.organs.values())
        self.put(
            list(atlas),
            torch.zeros(len(atlas), *self.shape, dtype=torch.uint8),
            torch.zeros(len(atlas), nodes, 2, dtype=torch.int32),
        )

    def check(self) -> None:
        """Refuse settings that cannot be; they may be changed on a loaded model.

        Raises:
            ConfigError: a setting is unknown, or `count` is not possible.
        """
        for name, known in (("selector", SELECTORS), ("fusion", tuple(FUSIONS))):
            if (value := getattr(self, name)) not in known:
                raise ConfigError(f"{name}={value!r} is unknown; choose one of {', '.join(known)}.")
        most = len(self.atlas)
        if type(self.count) is not int or self.count < 1 or (most and self.count > most):
            raise ConfigError(
                f"count={self.count!r} images are to be registered, and the atlas has {most}; choose 1 to "
                f"{most or 'as many as it will have'}."
            )
        if not isinstance(self.engine, str) or not self.engine:
            raise ConfigError(f"engine={self.engine!r} must be a name, such as bspline or acregnet-jsrt.")

    def put(self, names: list[str], images: Tensor, landmarks: Tensor) -> None:
        """Take these images as the atlas.

        Args:
            names: of the images.
            images: (K, S, S) uint8, grey levels in the frame.
            landmarks: (K, N, 2) int32, in steps of 2**-20 of the frame.

        Raises:
            ConfigError: they are fewer than `count`, or that is below 1.
        """
        before, self.atlas = self.atlas, names
        try:
            self.check()
        except ConfigError:
            self.atlas = before
            raise
        self.register_buffer("atlas_images", images)
        self.register_buffer("atlas_landmarks", landmarks)

    def place(self) -> tuple[torch.device, torch.dtype]:
        """Device of the atlas, and float32: it has no weights of its own."""
        return self.atlas_images.device, torch.float32

    def forward_landmarks(self, image: Tensor) -> Tensor:
        """Mean landmarks (B, N, 2) in [0, 1] of the frame, for images (B, 1, S, S) in [0, 1]."""
        found = np.stack([votes.points.mean(0) for votes in self.votes(image)])
        return torch.from_numpy(found / self.side).to(image.device, torch.float32)

    @property
    def has_masks(self) -> bool:
        """Whether label maps are fused beside the landmarks."""
        return FUSIONS[self.fusion] is not None

    @property
    def facts(self) -> tuple[str, ...]:
        """What answers depend on beside the atlas, and may be changed on a loaded model."""
        engine = found_engine(self.engine)
        return (self.selector, str(self.count), engine.name, engine.version, self.fusion)

    def votes(self, image: Tensor) -> list[Votes]:
        """What the most similar images of the atlas say about images (B, 1, S, S) in [0, 1].

        Raises:
            ConfigError: the atlas is empty, or there is no such engine.
            ImageError: an image cannot be registered.
        """
        from anatozoo.tasks.engines import ENGINES
        from anatozoo.zoo.progress import progress_bar

        if not self.atlas:
            raise ConfigError(f"the atlas of {self.checkpoint_name} is empty; build it: `{BUILD}`.")
        self.check()
        engine = found_engine(self.engine)
        slow = ", seconds to minutes an image" if engine.name in ENGINES else ""
        title, total = f"{self.count} registrations by {engine.name} an image{slow}", self.count * len(image)
        planes = image[:, 0].float().cpu().numpy()
        # A network that registers is another model, on the CPU, which takes no part in this one's autocast.
        with torch.autocast("cpu", enabled=False), progress_bar(title, total=total, unit="pair") as bar:
            return [self._votes(each, engine, bar.move) for each in planes]

    def _votes(self, pixels: npt.NDArray[np.float32], engine: "Engine", done: Callable[[int], None]) -> Votes:
        from anatozoo.tasks.engines import register_pairs

        levels = np.round(255 * pixels).astype(np.uint8)
        chosen = np.argsort(-self.likeness(levels), kind="stable")[: self.count].tolist()
        # Registered in reverse, as a field says where the pixels of the fixed image come from.
        moving = _image(levels, "the image")
        pairs = [(moving, _image(self.atlas_images[i].cpu().numpy(), self.atlas[i])) for i in chosen]
        try:
            results = register_pairs(engine, pairs, done)
        except (AnatozooError, RuntimeError) as error:  # ITK's errors are RuntimeErrors
            names = ", ".join(self.atlas[i] for i in chosen)
            raise ImageError(
                f"{engine.name} cannot register the image (moving) to {names} of the atlas (fixed): "
                f"{first_line(error)}"
            ) from error
        marks = self.atlas_landmarks[chosen].cpu().numpy() * (self.side / STEPS)
        points = np.stack([r.points_to_moving(each) for r, each in zip(results, marks, strict=True)])
        return Votes(points, float(resemblance(levels, self.atlas_images.cpu().numpy()).max()))

    def likeness(self, levels: Levels) -> npt.NDArray[np.float64]:
        """Likeness of an image (S, S) uint8 to each of the atlas, (K,), by the selector."""
        atlas = self.atlas_images.cpu().numpy()
        if self.selector == "thumbnail":
            return resemblance(levels, atlas)
        return np.array([mutual_information(levels, each) for each in atlas])

    def _answers(self, batch: Tensor) -> list[Votes]:
        return self.votes(batch)

    def _result(self, image: "Image", geometry: "Geometry", answer: Votes) -> "SegmentationResult":
        from anatozoo.io.landmarks import draw_label_map
        from anatozoo.results.contours import ContourResult
        from anatozoo.tasks.propagate import fuse

        result = super()._result(image, geometry, (answer.points.mean(0), None))
        if answer.resemblance < self.least_resemblance:
            result = replace(result, flags=(*result.flags, UNLIKE))
        if (method := FUSIONS[self.fusion]) is None:
            return result
        assert isinstance(result, ContourResult)
        contours = (geometry.points_to_source(points) for points in answer.points)
        drawn = [
            draw_label_map({o: xy[part] for o, part in self.parts.items()}, image.size) for xy in contours
        ]
        result = replace(result, label_map=fuse(drawn, method))
        return replace(result, flags=(*result.flags, *result.disagreements))


def resemblance(levels: Levels, others: Levels) -> npt.NDArray[np.float64]:
    """Correlation of an image (S, S) with each of others (K, S, S), (K,), all at 32 x 32 pixels.

    Mutual information finds what can be registered, but is high for many an image that shows no chest.
    """
    small = [embed(each.astype(np.float32)) for each in (levels, *others)]
    found: npt.NDArray[np.float64] = np.stack(small[1:]).astype(np.float64) @ small[0]
    return found


def found_engine(name: str) -> "Engine":
    """The engine of this name.

    Raises:
        ConfigError: there is none, or it registers no radiographs.
    """
    from anatozoo.tasks.engines import ENGINES, engine_of

    try:
        engine = engine_of(name)
    except UnknownCheckpoint as error:
        raise ConfigError(
            f"engine={name!r} is unknown; choose one of {', '.join(ENGINES)}, or a checkpoint that registers "
            f"images, such as acregnet-jsrt ({first_line(error)})."
        ) from error
    if engine.axes == 3:
        raise ConfigError(f"engine={name!r} registers volumes; an atlas of radiographs needs another.")
    return engine


def _image(levels: Levels, name: str) -> GridImage:
    return GridImage((levels / np.float32(255)).astype(np.float32), Grid(levels.shape[::-1]), name)
