"""From landmarks of organs to landmarks: reconstruct shapes, draw new ones, vary them along a direction."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from anatozoo.errors import ConfigError, DataError
from anatozoo.frames.frame import Frame
from anatozoo.io.grid import Grid
from anatozoo.io.landmarks import read_landmarks, split_landmarks
from anatozoo.io.untrusted import read_json
from anatozoo.metrics.chest import FRAME
from anatozoo.nn.raster import polygon_inside
from anatozoo.tasks.cases import landmark_cases
from anatozoo.tasks.contours import Contours

if TYPE_CHECKING:
    from anatozoo.data.case import Case as DataCase
    from anatozoo.metrics.cases import Case
    from anatozoo.results.contours import ContourResult
    from anatozoo.results.shapes import ShapeSet
    from anatozoo.tasks.trials import Conditions, Judge, Trial

POOR_FIT = 0.02
"""Root mean square distance of a shape from its reconstruction, as a share of the frame, that is flagged."""
NEAR = 0.3
"""Spread of samples around a given shape, in standard deviations of the training codes."""
MOST_SHAPES = 10_000


class ShapeTask(Contours):
    """A model that encodes the landmarks of organs and decodes landmarks.

    Subclasses set `network`, which has ``encode``, ``decode`` and ``codes``, and the buffers ``prior_mean``
    and ``prior_root``; see `anatozoo.methods.shapevae.network.ShapeVAE`.

    Args:
        organs: landmarks per organ, in order.
        frame: a square that shows the whole image in which the landmarks lie.
    """

    needs = frozenset({"organs"})

    network: Any

    def predict(
        self,
        x: Any,
        *,
        size: Sequence[int] | None = None,
        spacing_mm: float | Sequence[float] | None = None,
        precision: str | None = None,
    ) -> "ContourResult":
        """Encode the landmarks of one image and decode them.

        Args:
            x: organ -> (N, 2) pixels, one array (N, 2) or (2 N,) of all organs in the model's order, the
                result of a segmenter, or a file of landmarks: CSV, JSON or ``.npy``.
            size: (width, height) in pixels of the image in which they lie. None takes that of a result or of
                its JSON, else 1024 x 1024.
            spacing_mm: millimetres per pixel, one number or (x, y); None takes that of a result, else none.
            precision: see `anatozoo.tasks.precision`; graphs are computed in float32 in all of them.

        Returns:
            The reconstruction, in the pixels of the given landmarks. A flag ``poor_reconstruction`` says that
            the shape is unlike those of the training, or that the size is another one.

        Raises:
            DataError: landmarks of an organ are missing, or more or fewer than the model's.
            GeometryError: a coordinate is NaN or infinite, or the size is not possible.
            ConfigError: the precision is not possible.
        """
        from anatozoo.results.contours import ContourResult

        points, grid, image, flags = self._read(x, size, spacing_mm)
        geometry = Frame.fit(grid, self.frame).geometry
        given = geometry.points_to_target(points) / self.side
        with torch.inference_mode(), self.answering(precision):
            found = self.forward_landmarks(self.tensor(given)[None])[0].double().cpu().numpy()
        contours, untangled = self._contours(found * self.side, geometry)
        whole = (grid.size[0], grid.size[1])
        poor = np.sqrt(np.square(found - given).sum(1).mean()) > POOR_FIT
        return ContourResult(
            checkpoint=self.checkpoint_name,
            version=self.checkpoint_version,
            image=image,
            size=whole,
            spacing_mm=None if grid.spacing_mm is None else (grid.spacing_mm[0], grid.spacing_mm[1]),
            landmarks=contours,
            flags=(
                *flags,
                *self._flags(contours, whole),
                *untangled,
                *["poor_reconstruction"] * bool(poor),
            ),
        )

    def sample(self, n: int, *, seed: int = 0, like: Any = None, spread: float | None = None) -> "ShapeSet":
        """Draw shapes: codes that are distributed as those of the training shapes, decoded.

        Args:
            n: how many, or with `like` how many for each given shape.
            seed: of the random numbers; the same seed gives the same shapes.
            like: a shape, or a list of shapes, as for `predict`, around whose codes to draw; None draws
                around the mean code.
            spread: standard deviation of the codes, in those of the training codes; None takes 1, and with
                `like` 0.3.

        Returns:
            The shapes, in pixels of a frame of 1024 x 1024, as they are decoded: loops stay.

        Raises:
            ConfigError: a number is out of range.
            DataError, GeometryError: a given shape is not as `predict` takes it.
        """
        count, width = (
            _whole("n", n, 1, MOST_SHAPES),
            _positive("spread", spread, 1.0 if like is None else NEAR),
        )
        centres = self.network.prior_mean[None] if like is None else self._codes_of(like)
        total = _whole("n times the number of shapes", count * len(centres), 1, MOST_SHAPES)
        noise = torch.randn(total, self.network.latents, generator=torch.Generator().manual_seed(seed))
        offsets = self.network.codes(width * noise.to(centres)) - self.network.prior_mean
        captions = [f"sample {i + 1}" for i in range(count)]
        if len(centres) > 1:
            captions = [f"shape {k + 1}, {caption}" for k in range(len(centres)) for caption in captions]
        return self.decoded(centres.repeat_interleave(count, 0) + offsets, captions)

    def traverse(
        self, component: int = 0, *, steps: int = 7, reach: float = 2.0, like: Any = None
    ) -> "ShapeSet":
        """Vary a shape along one principal direction of the training codes.

        Args:
            component: the direction, from 0, in the order of how much the training codes vary along them.
            steps: how many shapes, at equal distances.
            reach: the first and the last lie so many standard deviations below and above the middle.
            like: the shape in the middle, as for `predict`; None takes the mean code's.

        Returns:
            The shapes, in pixels of a frame of 1024 x 1024, as they are decoded.

        Raises:
            ConfigError: a number is out of range.
            DataError, GeometryError: the given shape is not as `predict` takes it.
        """
        direction = _whole("component", component, 0, self.network.latents - 1)
        count, far = _whole("steps", steps, 2, MOST_SHAPES), _positive("reach", reach, 2.0)
        centres = self.network.prior_mean[None] if like is None else self._codes_of(like)
        if len(centres) != 1:
            raise ConfigError(f"like holds {len(centres)} shapes; a traversal is of one.")
        places = torch.linspace(-far, far, count).round(decimals=6).to(centres)
        codes = centres + places[:, None] * self.network.prior_root[:, direction]
        return self.decoded(
            codes, [f"component {direction}: {place + 0.0:+.1f}" for place in places.tolist()]
        )

    @torch.no_grad()
    def decoded(self, codes: Tensor, captions: Sequence[str]) -> "ShapeSet":
        """The shapes of codes (n, latents), in pixels of a frame of 1024 x 1024.

        Args:
            codes: as the network's ``encode`` gives them.
            captions: what each shape is.
        """
        from anatozoo.results.shapes import ShapeSet

        with self.answering():
            found = self.network.decode(codes).double().cpu().numpy() * self.side
        # Whole numbers are pixel centres: the half pixel keeps points in place in another frame.
        points = (found + 0.5) * (FRAME / self.side) - 0.5
        return ShapeSet(
            self.checkpoint_name,
            self.checkpoint_version,
            (FRAME, FRAME),
            dict(self.organs),
            points,
            tuple(captions),
        )

    def forward_landmarks(self, image: Tensor) -> Tensor:
        """Reconstructions (B, N, 2) in [0, 1] of landmarks (B, N, 2) in [0, 1]."""
        found: Tensor = self(image).landmarks
        return found

    def usable(self, case: "DataCase") -> bool:
        """Whether all organs are annotated; no image is needed."""
        return all(map(case.has, self.organs))

    def trials(self, cases: Sequence["DataCase"], how: "Conditions") -> "list[Trial]":
        """The landmarks of each case, judged by how well they come back from their code.

        Raises:
            ConfigError: the spacing of the conditions is more than one number.
        """
        from anatozoo.tasks.chest_cases import chest_trials

        return chest_trials(cases, how, self._trial)

    def ask(self, question: Any) -> "ContourResult":
        """The reconstruction of landmarks in an image of a size."""
        landmarks, size = question
        return self.predict(landmarks, size=size)

    def golden_input(self) -> np.ndarray:
        """The shape of the mean code in whole pixels, (N, 2) int16, for the golden test."""
        [shape] = self.decoded(self.network.prior_mean[None], ["mean"]).points
        return np.rint(shape).clip(-FRAME, 2 * FRAME).astype(np.int16)

    def infer(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Reconstructions (B, N, 2) in [0, 1] of the batch's ``landmarks``."""
        return self.forward_landmarks(batch["landmarks"])

    def cases(self, output: Tensor, batch: Mapping[str, Tensor]) -> "list[Case]":
        """Contours in pixels of the 1024 x 1024 frame; the picture shows the given shapes, filled."""
        given, side = batch["landmarks"], self.side
        drawn = [polygon_inside(given[:, part].float(), side, side) for part in self.parts.values()]
        picture = torch.stack(drawn, 1).float().mean(1, keepdim=True)
        return landmark_cases(output, {**batch, "image": picture}, self.organs)

    def _trial(self, case: "DataCase", how: "Conditions") -> "tuple[Any, Judge]":
        from anatozoo.tasks.chest_cases import compared

        drawn = case.read_drawn(tuple(self.organs))
        known = {organ: points for organ, points in drawn.landmarks.items() if organ in self.organs}
        return (known, drawn.grid.size), lambda result: compared(drawn, result, how)

    def _read(
        self, x: Any, size: Sequence[int] | None, spacing_mm: float | Sequence[float] | None
    ) -> tuple[np.ndarray, Grid, str, list[str]]:
        """Landmarks (N, 2) of all organs, the grid in which they lie, their name, and remarks."""
        name, known, spacing = "array", getattr(x, "size", None), getattr(x, "spacing_mm", None)
        if isinstance(x, str | os.PathLike):
            name, known = os.fspath(x), None
            found = read_landmarks(name, self.organs)
            if Path(name).suffix.lower() == ".json":
                stored = read_json(Path(name))
                known, spacing = stored.get("size"), stored.get("spacing_mm")
        elif isinstance(x, Mapping):
            found, known, spacing = {str(k): np.asarray(v, float) for k, v in x.items()}, None, None
        elif hasattr(x, "landmarks"):
            name, found = getattr(x, "image", name), dict(x.landmarks)
        else:
            array = x.detach().cpu().numpy() if isinstance(x, Tensor) else np.asarray(x)
            found, known, spacing = split_landmarks(array, self.organs), None, None
        wrong = [
            f"{organ} ({len(found[organ]) if organ in found else 'none'}, not {count})"
            for organ, count in self.organs.items()
            if organ not in found or found[organ].shape != (count, 2)
        ]
        if wrong:
            raise DataError(
                f"{name}: the landmarks do not fit {self.checkpoint_name}: {', '.join(wrong)}. It takes all "
                f"of its organs, {', '.join(self.organs)}, with corresponding landmarks."
            )
        points = np.concatenate([found[organ] for organ in self.organs])
        if not np.isfinite(points).all():
            raise DataError(f"{name}: a landmark is NaN or infinite.")
        whole = tuple(size if size is not None else known if known is not None else (FRAME, FRAME))
        grid = Grid(whole, None if spacing is None else tuple(spacing))
        grid = grid if spacing_mm is None else grid.with_spacing(spacing_mm)
        return points, grid, name, [f"ignored_{organ}" for organ in found if organ not in self.organs]

    @torch.no_grad()
    def _codes_of(self, like: Any) -> Tensor:
        """Codes (n, latents) of one shape or a list of shapes."""
        shapes = like if isinstance(like, list | tuple) else [like]
        if not shapes:
            raise ConfigError("like is an empty list; give a shape, or leave it out.")
        given = []
        for shape in shapes:
            points, grid, _, _ = self._read(shape, None, None)
            given.append(Frame.fit(grid, self.frame).geometry.points_to_target(points) / self.side)
        with self.answering():
            codes: Tensor = self.network.encode(self.tensor(np.stack(given)))[0]
        return codes


def _whole(name: str, value: Any, low: int, high: int) -> int:
    """A whole number in a range.

    Raises:
        ConfigError: it is none.
    """
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or not low <= value <= high:
        raise ConfigError(f"{name}={value!r} must be a whole number from {low} to {high}.")
    return int(value)


def _positive(name: str, value: Any, default: float) -> float:
    """A positive number; None is the default.

    Raises:
        ConfigError: it is none.
    """
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 100:
        raise ConfigError(f"{name}={value!r} must be a number above 0, at most 100.")
    return float(value)
