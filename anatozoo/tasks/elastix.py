"""Registration by elastix; needs ITK's package ``itk-elastix``.

Klein et al., IEEE TMI 29(1), 2010: affine, then B-splines with a bending penalty, both by mutual information
at random points. The settings are elastix's defaults, except for the distance of the control points, a seed,
and a border that is repeated beyond the image.
"""

from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import SimpleITK as sitk

from anatozoo.errors import ConfigError
from anatozoo.io.grid import GridImage
from anatozoo.results.field import RegistrationResult
from anatozoo.tasks.classical import BSpline, centred, centred_result, with_surroundings

NAME = "elastix affine + B-spline"
LEVELS = 3


def elastix(moving: GridImage, fixed: GridImage, settings: BSpline) -> RegistrationResult:
    """Affine registration, then B-splines.

    Args:
        moving: moving image, with a spacing.
        fixed: fixed image, with a spacing.
        settings: only `mesh_mm` is used, the distance of the control points on the finest level.

    Raises:
        ConfigError: itk-elastix is not installed.
        GeometryError: a spacing is unknown, or the axes have different directions.
        RuntimeError: elastix fails.
    """
    itk = _itk()
    a, b = (_to_itk(itk, image) for image in (with_surroundings(centred(moving)), centred(fixed)))
    parameters = itk.ParameterObject.New()
    for kind in ("affine", "bspline"):
        values = parameters.GetDefaultParameterMap(kind, LEVELS, settings.mesh_mm)
        values["RandomSeed"] = ("1",)
        values["WriteResultImage"] = ("false",)
        parameters.AddParameterMap(values)
    _, found = itk.elastix_registration_method(b, a, parameter_object=parameters, log_to_console=False)
    # elastix also writes the field into a file, by default in the working directory.
    with TemporaryDirectory() as folder:
        field = itk.transformix_deformation_field(b, found, output_directory=folder)
    transform = sitk.DisplacementFieldTransform(_to_sitk(itk, field))
    return centred_result(NAME, moving, fixed, transform)


def version() -> str:
    """Version of itk-elastix.

    Raises:
        ConfigError: it is not installed.
    """
    from importlib.metadata import version as of

    _itk()
    return of("itk-elastix")


def _itk() -> Any:
    try:
        import itk

        itk.ParameterObject  # noqa: B018 - found only where elastix is there too
    except (ImportError, AttributeError) as error:
        raise ConfigError("the engine elastix needs ITK's package: `pip install itk-elastix`.") from error
    return itk


def _to_itk(itk: Any, image: sitk.Image) -> Any:
    made = itk.image_from_array(sitk.GetArrayFromImage(image).astype(np.float32))
    made.SetSpacing(list(image.GetSpacing()))
    made.SetOrigin(list(image.GetOrigin()))
    return made


def _to_sitk(itk: Any, field: Any) -> sitk.Image:
    made = sitk.GetImageFromArray(itk.array_from_image(field).astype(np.float64), isVector=True)
    made.SetSpacing([float(x) for x in field.GetSpacing()])
    made.SetOrigin([float(x) for x in field.GetOrigin()])
    return made
