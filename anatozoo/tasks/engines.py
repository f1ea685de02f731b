"""Registration engines for atlases, behind one interface."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cache
from threading import Lock
from typing import Any, Protocol

import numpy as np

from anatozoo.errors import ConfigError, GeometryError
from anatozoo.io.grid import Grid, GridImage
from anatozoo.io.orientation import Orientation
from anatozoo.results.field import RegistrationResult

LEARNED = "acregnet-jsrt"
"""The default engine."""

Pairs = Sequence[tuple[GridImage, GridImage]]
"""Moving and fixed images."""
Results = list[RegistrationResult]


class Engine(Protocol):
    """Registers one image to another.

    Attributes:
        name: name in results.
        version: changes whenever the same images may give another field.
        axes: dimensions of the images that it registers, 2 or 3; None where it takes both.
    """

    name: str
    version: str
    axes: int | None

    def register(self, moving: GridImage, fixed: GridImage) -> RegistrationResult:
        """Register a moving image to a fixed one; either both have a spacing, or neither."""


class Bspline:
    """Affine registration and then B-splines, both by mutual information: SimpleITK, seconds for a pair."""

    name = "bspline"
    axes: int | None = None

    def __init__(self) -> None:
        self.version = _version_of_simpleitk()

    def register(self, moving: GridImage, fixed: GridImage) -> RegistrationResult:
        """Register; the mesh has control points about 45 mm apart on a chest that is 360 mm wide."""
        from anatozoo.tasks.classical import BSPLINE, bspline

        return _in_millimetres(bspline, BSPLINE, moving, fixed)


class Demons:
    """Affine registration and then diffeomorphic demons on grey levels: SimpleITK."""

    name = "demons"
    axes: int | None = None

    def __init__(self) -> None:
        self.version = _version_of_simpleitk()

    def register(self, moving: GridImage, fixed: GridImage) -> RegistrationResult:
        """Register; the images must have the same modality."""
        from anatozoo.tasks.classical import DEMONS, demons

        return _in_millimetres(demons, DEMONS, moving, fixed)


class Elastix:
    """Affine registration and then B-splines with a bending penalty, by elastix.

    Raises:
        ConfigError: itk-elastix is not installed.
    """

    name = "elastix"
    axes: int | None = None

    def __init__(self) -> None:
        from anatozoo.tasks.elastix import version

        self.version = version()

    def register(self, moving: GridImage, fixed: GridImage) -> RegistrationResult:
        """Register; the control points have the same distance as those of `Bspline`."""
        from anatozoo.tasks.classical import BSPLINE
        from anatozoo.tasks.elastix import elastix

        return _in_millimetres(elastix, BSPLINE, moving, fixed)


class Learned:
    """A registration network of the zoo, tens of milliseconds for a pair.

    Args:
        model: a loaded checkpoint that registers images.
    """

    def __init__(self, model: Any) -> None:
        self.model = model
        self.name, self.version = str(model.checkpoint_name), str(model.checkpoint_version)
        self.weights_digest = str(getattr(model, "weights_digest", ""))
        self.axes: int | None = len(model.shape)

    def register(self, moving: GridImage, fixed: GridImage) -> RegistrationResult:
        """Register in the network's own frame."""
        result: RegistrationResult = self.model.predict(moving, fixed)
        return result

    def register_pairs(self, pairs: Pairs) -> Results:
        """Register several pairs, moving image first, by one run of the network."""
        results: Results = self.model.predict_pairs(pairs)
        return results


class Composed:
    """Engines one after another, such as an affine and a deformable one; each refines the result so far.

    Images are interpolated between the engines, but the result is one field, so that images and labels that
    are warped by it are interpolated once.

    Args:
        engines: at least one, in the order in which they register.

    Raises:
        ConfigError: the list is empty, or its engines register images of different dimensions.
    """

    def __init__(self, engines: Sequence[Engine]) -> None:
        if not engines:
            raise ConfigError("name at least one engine.")
        takers = {engine.axes: engine.name for engine in engines if engine.axes is not None}
        if len(takers) > 1:
            said = ", ".join(f"{name} registers images of {axes} dimensions" for axes, name in takers.items())
            raise ConfigError(f"{said}: these engines cannot follow one another.")
        self.axes = next(iter(takers), None)
        self.engines = tuple(engines)
        self.name = "+".join(engine.name for engine in engines)
        self.version = "+".join(engine.version for engine in engines)
        self.weights_digest = "+".join(getattr(engine, "weights_digest", "") for engine in engines)

    def register(self, moving: GridImage, fixed: GridImage) -> RegistrationResult:
        """Register; flags of all engines are kept."""
        return self._chained([(moving, fixed)], lambda engine, pairs: [engine.register(*pairs[0])])[0]

    def register_pairs(self, pairs: Pairs) -> Results:
        """Register several pairs, moving image first: each engine all of them, see `register_pairs`."""
        return self._chained(pairs, register_pairs)

    def _chained(self, pairs: Pairs, register: Callable[[Engine, Pairs], Results]) -> Results:
        results = register(self.engines[0], pairs)
        for engine in self.engines[1:]:
            warped = [
                (GridImage(result.warped, fixed.grid, moving.name, moving.source), fixed)
                for result, (moving, fixed) in zip(results, pairs, strict=True)
            ]
            results = [composed(*both) for both in zip(results, register(engine, warped), strict=True)]
        return [replace(result, checkpoint=self.name, version=self.version) for result in results]


_ONE_THREAD = Lock()
"""Held while SimpleITK's number of threads, which is one of the process, is 1."""


def register_pairs(
    engine: Engine,
    pairs: Pairs,
    done: Callable[[int], None] = lambda count: None,
) -> Results:
    """Register pairs of images, moving image first.

    A network takes all of them at once. SimpleITK gets one thread for each pair: sums of several threads
    differ from one run to the next, and a B-spline by a pixel.

    Args:
        engine: what registers.
        pairs: moving and fixed images.
        done: is told how many more pairs are registered.
    """
    results = []
    if isinstance(engine, Learned | Composed):
        results = engine.register_pairs(pairs)
        done(len(pairs))
    elif not isinstance(engine, Bspline | Demons):
        for pair in pairs:
            results.append(engine.register(*pair))
            done(1)
    else:
        import SimpleITK as sitk

        with _ONE_THREAD:
            threads = sitk.ProcessObject.GetGlobalDefaultNumberOfThreads()
            sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
            try:
                with ThreadPoolExecutor(threads) as pool:
                    for result in pool.map(lambda pair: engine.register(*pair), pairs):
                        results.append(result)
                        done(1)
            finally:
                sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(threads)
    return results


def composed(first: RegistrationResult, second: RegistrationResult) -> RegistrationResult:
    """The result that warps like `first` followed by `second`, but with one interpolation.

    Beyond the border of its image, the displacement of `first` keeps its value at the border.

    Args:
        first: registration of the moving image to a grid.
        second: registration of an image on that grid.

    Raises:
        GeometryError: the grids differ.
    """
    if difference := first.fixed_grid.differs_from(second.moving_grid):
        raise GeometryError(f"the two registrations do not follow one another: {difference}.")
    axes = np.meshgrid(
        *(np.arange(side, dtype=np.float64) for side in second.fixed_grid.shape), indexing="ij"
    )
    here = np.stack(axes[::-1], -1).reshape(-1, second.dims)
    there = first.points_to_moving(here + second.displacement_px.reshape(here.shape))
    return replace(
        second,
        checkpoint=f"{first.checkpoint}+{second.checkpoint}",
        version=f"{first.version}+{second.version}",
        moving=first.moving,
        moving_grid=first.moving_grid,
        moving_pixels=first.moving_pixels,
        displacement_px=(there - here).reshape(second.displacement_px.shape).astype(np.float32),
        alignment=first.alignment @ second.alignment,
        flags=(*first.flags, *second.flags),
    )


ENGINES: dict[str, type[Bspline] | type[Demons] | type[Elastix]] = {
    "bspline": Bspline,
    "demons": Demons,
    "elastix": Elastix,
}
"""Engines that need no checkpoint."""

_ASSUMED_WIDTH_MM = {2: 360.0, 3: 50.0}
"""Assumed width of images without spacing, so that settings in millimetres apply."""


EngineLike = str | Engine | Sequence[str | Engine]
"""The arguments of `engine_of`."""


def engine_of(engine: EngineLike) -> Engine:
    """The engine of this name: one of ``ENGINES``, or any registration checkpoint of the zoo.

    Args:
        engine: a name, a folder with a checkpoint, or an engine, which is returned as it is; a list of them
            becomes one engine, see `Composed`.

    Raises:
        UnknownCheckpoint: there is no checkpoint of this name.
        ConfigError: the checkpoint registers no images, the engine does not say its ``axes``, or the list
            cannot be composed, see `Composed`.
    """
    if isinstance(engine, Sequence) and not isinstance(engine, str):
        engines = [engine_of(each) for each in engine]
        return engines[0] if len(engines) == 1 else Composed(engines)
    if not isinstance(engine, str):
        if not hasattr(engine, "axes"):
            raise ConfigError(
                f"the engine {type(engine).__name__} does not say which images it registers: give it axes = "
                "2, 3, or None for both."
            )
        return engine
    return ENGINES[engine]() if engine in ENGINES else _learned(engine)


def _version_of_simpleitk() -> str:
    import SimpleITK as sitk

    return str(sitk.Version_VersionString())


@cache
def _learned(name: str) -> Learned:
    from anatozoo.tasks.field import FieldTask
    from anatozoo.zoo.hub import load

    model = load(name)
    if not isinstance(model, FieldTask):
        raise ConfigError(
            f"{name} is a {type(model).__name__}, which registers no images; engines are "
            f"{', '.join(ENGINES)} and checkpoints such as {LEARNED}."
        )
    return Learned(model)


def _in_millimetres(
    register: Callable[..., RegistrationResult], settings: Any, moving: GridImage, fixed: GridImage
) -> RegistrationResult:
    """Register with settings in millimetres; without spacings, the field is in pixels.

    Volumes are registered along the patient's axes, whatever their order of storage.
    """
    turns = [Orientation.to_patient(image.grid) for image in (moving, fixed)]
    if not all(turn.is_unchanged for turn in turns):
        turned = [
            replace(image, pixels=turn.apply(image.pixels), grid=turn.grid(image.grid))
            for image, turn in zip((moving, fixed), turns, strict=True)
        ]
        return _turned_back(_in_millimetres(register, settings, *turned), moving, fixed, *turns)
    dims = fixed.grid.dims
    if fixed.grid.spacing_mm is not None:
        return register(moving, fixed, settings[dims])
    step = _ASSUMED_WIDTH_MM[dims] / max(fixed.grid.size)
    assumed = [
        replace(image, grid=Grid(image.grid.size, tuple(step * image.grid.proportions)))
        for image in (moving, fixed)
    ]
    result = register(*assumed, settings[dims])
    return replace(result, moving_grid=moving.grid.in_pixels(), fixed_grid=fixed.grid.in_pixels())


def _turned_back(
    result: RegistrationResult,
    moving: GridImage,
    fixed: GridImage,
    turn: Orientation,
    fixed_turn: Orientation,
) -> RegistrationResult:
    """The registration of two images from that of both in another order of axes."""
    shape, dims = fixed.grid.shape, fixed.grid.dims
    there = np.moveaxis(result.displacement_px, -1, 0) + np.indices(result.fixed_grid.shape)[::-1]
    there = np.moveaxis(fixed_turn.undo(there), 0, -1)
    position = turn.inverse.points(there, result.moving_grid.size)
    grids = [moving.grid, fixed.grid]
    if result.fixed_grid.spacing_mm is None:
        grids = [grid.in_pixels() for grid in grids]
    return replace(
        result,
        moving_grid=grids[0],
        fixed_grid=grids[1],
        displacement_px=(position - np.moveaxis(np.indices(shape)[::-1], 0, dims)).astype(np.float32),
        alignment=turn.inverse.turn @ result.alignment @ fixed_turn.turn,
        moving_pixels=moving.pixels,
        fixed_pixels=fixed.pixels,
    )
