"""Registration as it was done before networks, with SimpleITK: the baselines of the registration benchmarks.

Both methods work at the resolution of the images that they are given, on grey levels between the percentiles
0.5 and 99.5, start with the images centre on centre, as the networks do, and share an affine registration.
See `bspline` and `demons` for the rest.
"""

from dataclasses import dataclass, replace

import numpy as np
import SimpleITK as sitk

from anatozoo.errors import GeometryError
from anatozoo.io.grid import Grid, GridImage, itk_image
from anatozoo.io.images import normalize_intensity
from anatozoo.results_registration import RegistrationResult


@dataclass(frozen=True)
class Affine:
    """Settings of the affine registration: correlation, coarse to fine, regular steps along the gradient."""

    shrink: tuple[int, ...] = (4, 2, 1)
    smooth_px: tuple[float, ...] = (2.0, 1.0, 0.0)
    iterations: int = 200
    step: float = 1.0
    least_step: float = 1e-3


@dataclass(frozen=True)
class BSpline:
    """Settings of free-form deformation.

    Attributes:
        affine: what goes before.
        mesh_mm: distance of the control points on the finest level.
        levels: resolutions; images and mesh are coarser by 2 on each.
        smooth_px: blurring on each level, coarse to fine.
        iterations: of L-BFGS on each level.
        bins: of the joint histogram; 0 takes the correlation for a metric.
    """

    affine: Affine = Affine()
    mesh_mm: float = 22.4
    levels: int = 3
    smooth_px: tuple[float, ...] = (2.0, 1.0, 0.0)
    iterations: int = 100
    bins: int = 0


@dataclass(frozen=True)
class Demons:
    """Settings of diffeomorphic demons.

    Attributes:
        affine: what goes before.
        shrink: resolutions, coarse to fine.
        iterations: on each.
        field_px: blurring of the field after each iteration.
        update_px: blurring of its update; 0 for none.
    """

    affine: Affine = Affine()
    shrink: tuple[int, ...] = (4, 2, 1)
    iterations: tuple[int, ...] = (100, 100, 100)
    field_px: float = 1.5
    update_px: float = 0.0
    step_px: float = 2.0


def bspline(moving: GridImage, fixed: GridImage, settings: BSpline) -> RegistrationResult:
    """Affine, then free-form deformation by cubic B-splines.

    Rueckert et al., IEEE TMI 1999.
    """
    a, b = centred(moving), centred(fixed)
    affine = affine_transform(a, b, settings.affine)
    coarse = 2 ** (settings.levels - 1)
    extent = [size * spacing for size, spacing in zip(b.GetSize(), b.GetSpacing(), strict=True)]
    mesh = [max(1, round(length / settings.mesh_mm / coarse)) for length in extent]
    spline = sitk.BSplineTransformInitializer(b, mesh)
    method = sitk.ImageRegistrationMethod()
    if settings.bins:
        method.SetMetricAsMattesMutualInformation(settings.bins)
    else:
        method.SetMetricAsCorrelation()
    method.SetInterpolator(sitk.sitkLinear)
    method.SetMovingInitialTransform(affine)
    factors = [2**level for level in range(settings.levels)]
    method.SetInitialTransformAsBSpline(spline, inPlace=True, scaleFactors=factors)
    method.SetShrinkFactorsPerLevel(factors[::-1])
    method.SetSmoothingSigmasPerLevel(settings.smooth_px)
    method.SmoothingSigmasAreSpecifiedInPhysicalUnitsOff()
    method.SetOptimizerAsLBFGS2(
        solutionAccuracy=1e-7, numberOfIterations=settings.iterations, deltaConvergenceTolerance=1e-5
    )
    method.Execute(b, a)
    print('   ', method.GetOptimizerStopConditionDescription(), method.GetOptimizerIteration(), method.GetMetricValue())
    return result("SimpleITK affine + B-spline", moving, fixed, sitk.CompositeTransform([affine, spline]))


def demons(moving: GridImage, fixed: GridImage, settings: Demons) -> RegistrationResult:
    """Affine, then diffeomorphic demons on grey levels matched by their histograms.

    Vercauteren et al., NeuroImage 2009.
    """
    a, b = centred(moving), centred(fixed)
    affine = affine_transform(a, b, settings.affine)
    lowest = float(sitk.GetArrayViewFromImage(a).min())
    warped = sitk.Resample(a, b, affine, sitk.sitkLinear, lowest)
    warped = sitk.HistogramMatching(warped, b, numberOfHistogramLevels=256, numberOfMatchPoints=16)
    method = sitk.DiffeomorphicDemonsRegistrationFilter()
    method.SetStandardDeviations(settings.field_px)
    method.SetSmoothUpdateField(settings.update_px > 0)
    method.SetUpdateFieldStandardDeviations(settings.update_px)
    method.SetMaximumUpdateStepLength(settings.step_px)
    field = None
    for shrink, iterations in zip(settings.shrink, settings.iterations, strict=True):
        small_fixed, small_moving = (reduced(image, shrink) for image in (b, warped))
        method.SetNumberOfIterations(iterations)
        if field is None:
            field = method.Execute(small_fixed, small_moving)
        else:
            field = method.Execute(small_fixed, small_moving, sitk.Resample(field, small_fixed))
    warping = sitk.DisplacementFieldTransform(sitk.Cast(field, sitk.sitkVectorFloat64))
    return result("SimpleITK demons", moving, fixed, sitk.CompositeTransform([affine, warping]))


def affine_transform(moving: sitk.Image, fixed: sitk.Image, settings: Affine) -> sitk.Transform:
    """The affine transform that takes positions of the fixed image to those of the moving one."""
    method = sitk.ImageRegistrationMethod()
    method.SetMetricAsCorrelation()
    method.SetInterpolator(sitk.sitkLinear)
    method.SetInitialTransform(sitk.AffineTransform(fixed.GetDimension()), inPlace=False)
    method.SetShrinkFactorsPerLevel(settings.shrink)
    method.SetSmoothingSigmasPerLevel(settings.smooth_px)
    method.SmoothingSigmasAreSpecifiedInPhysicalUnitsOff()
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetOptimizerAsRegularStepGradientDescent(
        settings.step, settings.least_step, settings.iterations, relaxationFactor=0.5
    )
    return method.Execute(fixed, moving)


def reduced(image: sitk.Image, factor: int) -> sitk.Image:
    """An image with fewer pixels, blurred against aliasing."""
    if factor == 1:
        return image
    blurred = sitk.SmoothingRecursiveGaussian(image, [0.5 * factor * s for s in image.GetSpacing()])
    return sitk.Shrink(blurred, [factor] * image.GetDimension())


def centred(image: GridImage) -> sitk.Image:
    """An image with grey levels 0 … 1 along its own axes, in millimetres from its centre."""
    grid = image.grid
    if grid.spacing_mm is None:
        raise GeometryError(f"the spacing of {image.name} is unknown; the settings are in millimetres.")
    flat = normalize_intensity(image.pixels.reshape(image.pixels.shape[0], -1))
    origin = tuple(-s * (n - 1) / 2 for s, n in zip(grid.spacing_mm, grid.size, strict=True))
    return itk_image(flat.reshape(image.pixels.shape), Grid(grid.size, grid.spacing_mm, origin))


def result(
    name: str, moving: GridImage, fixed: GridImage, transform: sitk.Transform | None
) -> RegistrationResult:
    """What a transform between `centred` images does to their pixels; None leaves them centre on centre."""
    if not np.allclose(moving.grid.axes, fixed.grid.axes, atol=1e-3):
        raise GeometryError(f"{moving.name} and {fixed.name} have different directions; turn one of them.")
    a, b = centred(moving), centred(fixed)
    alignment = np.diag(np.array(b.GetSpacing()) / a.GetSpacing())
    axes = np.meshgrid(*(np.arange(side, dtype=float) for side in fixed.grid.shape), indexing="ij")
    index = np.stack(axes[::-1], -1)
    shift = 0.0
    if transform is not None:
        field = sitk.TransformToDisplacementField(
            transform, sitk.sitkVectorFloat64, b.GetSize(), b.GetOrigin(), b.GetSpacing(), b.GetDirection()
        )
        shift = sitk.GetArrayFromImage(field)
    position = (index * b.GetSpacing() + b.GetOrigin() + shift - a.GetOrigin()) / a.GetSpacing()
    return RegistrationResult(
        checkpoint=name,
        version=sitk.Version_VersionString(),
        moving=moving.name,
        fixed=fixed.name,
        moving_grid=moving.grid,
        fixed_grid=fixed.grid,
        displacement_px=(position - index).astype(np.float32),
        alignment=alignment,
        moving_pixels=moving.pixels,
        fixed_pixels=fixed.pixels,
    )
