"""Ways to register an image to an atlas image, behind one interface."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any, Protocol

from anatozoo.errors import ConfigError
from anatozoo.io.grid import Grid, GridImage
from anatozoo.results_registration import RegistrationResult

LEARNED = "acregnet-jsrt"
"""The engine that is taken unless another one is named."""


class Engine(Protocol):
    """What registers one image to another.

    Attributes:
        name: what results call it.
        version: changes where the same images may give another field.
    """

    name: str
    version: str

    def register(self, moving: GridImage, fixed: GridImage) -> RegistrationResult:
        """Register a moving image to a fixed one; grids of both have a spacing, or neither has."""


class Bspline:
    """Affine registration and then B-splines, both by mutual information: SimpleITK, seconds for a pair."""

    name = "bspline"

    def __init__(self) -> None:
        self.version = _version_of_simpleitk()

    def register(self, moving: GridImage, fixed: GridImage) -> RegistrationResult:
        """Register; the mesh has control points about 45 mm apart on a chest that is 360 mm wide."""
        from anatozoo.quality.classical import BSPLINE, bspline

        return _in_millimetres(bspline, BSPLINE, moving, fixed)


class Demons:
    """Affine registration and then diffeomorphic demons on grey levels: SimpleITK."""

    name = "demons"

    def __init__(self) -> None:
        self.version = _version_of_simpleitk()

    def register(self, moving: GridImage, fixed: GridImage) -> RegistrationResult:
        """Register; the images must have the same modality."""
        from anatozoo.quality.classical import DEMONS, demons

        return _in_millimetres(demons, DEMONS, moving, fixed)


class Learned:
    """A registration network of the zoo, tens of milliseconds for a pair.

    Args:
        model: a loaded checkpoint that registers images.
    """

    def __init__(self, model: Any) -> None:
        self.model = model
        self.name, self.version = str(model.checkpoint_name), str(model.checkpoint_version)

    def register(self, moving: GridImage, fixed: GridImage) -> RegistrationResult:
        """Register in the network's own frame."""
        result: RegistrationResult = self.model.predict(moving, fixed)
        return result


ENGINES: dict[str, type[Bspline] | type[Demons]] = {"bspline": Bspline, "demons": Demons}
"""Engines that need no checkpoint."""

_ASSUMED_WIDTH_MM = {2: 360.0, 3: 50.0}
"""What an image of unknown spacing is taken to be wide, so that settings in millimetres suit it."""


def engine_of(engine: "str | Engine") -> Engine:
    """The engine of this name: one of ``ENGINES``, or any registration checkpoint of the zoo.

    Args:
        engine: a name, a folder with a checkpoint, or an engine, which is returned as it is.

    Raises:
        UnknownCheckpoint: there is none of this name.
        ConfigError: the checkpoint registers no images.
    """
    if not isinstance(engine, str):
        return engine
    return ENGINES[engine]() if engine in ENGINES else _learned(engine)


def _version_of_simpleitk() -> str:
    import SimpleITK as sitk

    return str(sitk.Version_VersionString())


@cache
def _learned(name: str) -> Learned:
    import anatozoo
    from anatozoo.methods.acregnet.predict import PairModule

    model = anatozoo.load(name)
    if not isinstance(model, PairModule):
        raise ConfigError(
            f"{name} is a {type(model).__name__}, which registers no images; engines are "
            f"{', '.join(ENGINES)} and checkpoints such as {LEARNED}."
        )
    return Learned(model)


def _in_millimetres(
    register: Callable[..., RegistrationResult], settings: Any, moving: GridImage, fixed: GridImage
) -> RegistrationResult:
    """Register with settings in millimetres; where spacings are unknown, the field stays one in pixels."""
    dims = fixed.grid.dims
    if fixed.grid.spacing_mm is not None:
        return register(moving, fixed, settings[dims])
    assumed = [
        replace(image, grid=Grid(image.grid.size, (_ASSUMED_WIDTH_MM[dims] / max(fixed.grid.size),) * dims))
        for image in (moving, fixed)
    ]
    result = register(*assumed, settings[dims])
    return replace(result, moving_grid=moving.grid.in_pixels(), fixed_grid=fixed.grid.in_pixels())
