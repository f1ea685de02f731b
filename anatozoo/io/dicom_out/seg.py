"""DICOM segmentations: a mask, or a probability map, of each organ on the frames of the source."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from anatozoo.io.dicom_out.codes import organ_code
from anatozoo.io.dicom_out.reference import Reference, carried_over
from anatozoo.io.dicom_out.stamp import MANUFACTURER, Maker, concept, finished, own_scheme, uid_for
from anatozoo.io.quiet import quiet

BINARY, FRACTIONAL = "segmentation", "probability"
_SERIES = {BINARY: 9001, FRACTIONAL: 9002}
Color = tuple[int, int, int]


def segmentation(
    reference: Reference,
    maker: Maker,
    masks: Mapping[str, npt.NDArray[Any]],
    colors: Mapping[str, Color],
) -> bytes:
    """A DICOM segmentation, with the organs in their order as segments 1, 2, ...

    Frames without a pixel of a segment are left out. Segments may overlap, as the heart does a lung.

    Args:
        reference: the source.
        maker: what found the organs.
        masks: organ -> (D, H, W) on the slices of the source: booleans give a binary segmentation, floats in
            0..1 a fractional one of probabilities, in steps of 1/255.
        colors: organ -> red, green and blue, 0..255.

    Raises:
        GeometryError: the slices of a volume have no place, or the source cannot be referred to.
    """
    import highdicom

    if reference.shape[0] > 1:
        reference.placed("a DICOM segmentation")
    is_binary = all(mask.dtype == np.bool_ for mask in masks.values())
    what = BINARY if is_binary else FRACTIONAL
    stack = reference.stack(list(masks.values()))
    with quiet(), carried_over(reference.label):
        dataset = highdicom.seg.Segmentation(
            source_images=list(reference.headers),
            pixel_array=stack.astype(np.uint8) if is_binary else stack.astype(np.float32),
            segmentation_type="BINARY" if is_binary else "FRACTIONAL",
            segment_descriptions=[
                _segment(number, organ, maker, reference, colors[organ])
                for number, organ in enumerate(masks, start=1)
            ],
            content_label="SEGMENTATION" if is_binary else "PROBABILITY",
            content_description=f"Organs by {maker.name}"[:64],
            coding_schemes=own_scheme(),
            **maker.identity(reference, what, _SERIES[what]),
            **maker.equipment(),
        )
        if "FrameOfReferenceUID" not in dataset:
            dataset.PatientOrientation = reference.headers[0].PatientOrientation
        return finished(dataset, reference)


def _segment(number: int, organ: str, maker: Maker, reference: Reference, color: Color) -> Any:
    import highdicom
    from pydicom.sr.codedict import codes

    code = organ_code(organ)
    described = highdicom.seg.SegmentDescription(
        segment_number=number,
        segment_label=organ[:64],
        segmented_property_category=concept(code.category),
        segmented_property_type=concept(code.type),
        algorithm_type="AUTOMATIC",
        algorithm_identification=highdicom.AlgorithmIdentificationSequence(
            name=maker.checkpoint[:64],
            family=codes.DCM.ArtificialIntelligence,
            version=maker.version[:64],
            source=MANUFACTURER,
        ),
        tracking_id=f"{organ} {maker.checkpoint}"[:64],
        tracking_uid=uid_for(*reference.source.instances, organ, maker.checkpoint, maker.version),
        display_color=highdicom.color.CIELabColor.from_rgb(*color),
    )
    if code.modifier is not None:
        described.SegmentedPropertyTypeCodeSequence[0].SegmentedPropertyTypeModifierCodeSequence = [
            concept(code.modifier)
        ]
    return described
