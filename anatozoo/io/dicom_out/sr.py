"""Structured reports of measurements: DICOM's template 1500 as a Comprehensive SR."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from anatozoo.io.dicom_out.codes import (
    OURS,
    PROCEDURE,
    REMARK,
    UNITS,
    Code,
    Measured,
    measure_code,
    organ_code,
)
from anatozoo.io.dicom_out.reference import Reference, carried_over
from anatozoo.io.dicom_out.stamp import MANUFACTURER, Maker, concept, finished, own_scheme, uid_for
from anatozoo.io.quiet import quiet

_SERIES = 9004


def report(
    reference: Reference,
    maker: Maker,
    organs: Sequence[str],
    measures: Sequence[Measured],
    with_other: tuple[Reference, Sequence[Measured]] | None = None,
) -> bytes:
    """A measurement report: a group for the image as a whole, and one for each organ.

    The group of the whole has the measures of none of the organs, and each flag of the result as a remark.
    Groups name their source images, their algorithm and, by SNOMED CT, their organ.

    Args:
        reference: the source.
        maker: what measured.
        organs: in their order.
        measures: numbers with their units.
        with_other: a second source and what follows from both, as the function of a heart does from its two
            phases; a further group for each organ, which names the images of both.

    Raises:
        GeometryError: the source cannot be referred to.
    """
    from highdicom import sr

    with quiet(), carried_over(reference.label):
        groups = [
            _group([reference], maker, organ, found) for organ, found in _by_organ(organs, measures).items()
        ]
        evidence = list(reference.headers)
        if with_other is not None:
            other, together = with_other
            groups += [
                _group([reference, other], maker, organ, found)
                for organ, found in _by_organ(organs, together).items()
                if found
            ]
            known = set(reference.source.instances)
            evidence += [header for header in other.headers if header.SOPInstanceUID not in known]
        device = sr.ObserverContext(
            observer_type=sr.CodedConcept("121007", "DCM", "Device"),
            observer_identifying_attributes=sr.DeviceObserverIdentifyingAttributes(
                uid=uid_for("device", maker.checkpoint, maker.version),
                name=MANUFACTURER,
                manufacturer_name=MANUFACTURER,
                model_name=maker.checkpoint[:64],
                serial_number=maker.name,
            ),
        )
        content = sr.MeasurementReport(
            observation_context=sr.ObservationContext(observer_device_context=device),
            procedure_reported=concept(PROCEDURE),
            imaging_measurements=groups,
        )
        dataset = sr.ComprehensiveSR(
            evidence=evidence,
            content=content,
            is_complete=True,
            coding_schemes=own_scheme(),
            **maker.identity(reference, "measurements", _SERIES),
            **maker.equipment(),
        )
        return finished(dataset, reference)


def _by_organ(organs: Sequence[str], measures: Sequence[Measured]) -> dict[str, list[Measured]]:
    """Measures by their organ; under "" those of the whole, and of none of these organs."""
    found: dict[str, list[Measured]] = {organ: [] for organ in ("", *organs)}
    for each in measures:
        found[each.organ if each.organ in found else ""].append(each)
    return found


def _group(references: Sequence[Reference], maker: Maker, organ: str, measures: Sequence[Measured]) -> Any:
    """The measures of one organ, or those of the whole and, of one source, the remarks."""
    from highdicom import sr

    site, flags = _site(organ), () if organ or len(references) > 1 else maker.flags
    instances = [instance for reference in references for instance in reference.source.instances]
    return sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=sr.TrackingIdentifier(
            uid=uid_for(*instances, organ, maker.checkpoint, maker.version),
            identifier=(organ or "image")[:64],
        ),
        algorithm_id=sr.AlgorithmIdentification(name=maker.checkpoint, version=maker.version),
        finding_sites=[site] if site is not None else None,
        measurements=[
            sr.Measurement(
                name=concept(measure_code(each)),
                value=round(float(each.value), 4),
                unit=concept(UNITS[each.unit]),
            )
            for each in measures
        ],
        qualitative_evaluations=[
            sr.QualitativeEvaluation(name=concept(REMARK), value=concept(Code(flag, OURS, flag[:64])))
            for flag in flags
        ],
        source_images=[
            sr.SourceImageForMeasurementGroup(
                header.SOPClassUID, header.SOPInstanceUID, _frames(reference, header)
            )
            for reference in references
            for header in reference.headers
        ],
    )


def _frames(reference: Reference, header: Any) -> list[int] | None:
    """The frames of a file of several."""
    if not reference.frames:
        return None
    return sorted(number for own, number in reference.of_slice if own is header)


def _site(organ: str) -> Any:
    from highdicom import sr

    if not organ:
        return None
    code = organ_code(organ)
    modifier = None if code.modifier is None else concept(code.modifier)
    if code.is_side:
        return sr.FindingSite(concept(code.type), laterality=modifier)
    return sr.FindingSite(concept(code.type), topographical_modifier=modifier)
