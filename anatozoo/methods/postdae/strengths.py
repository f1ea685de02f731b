"""Probabilities and strengths of the degradation of label maps."""

from dataclasses import dataclass


@dataclass(frozen=True)
class DegradeConfig:
    """How often and how strongly label maps are degraded; a probability of 0 switches a kind off.

    Each kind is applied to an item with its own probability, so that several may come together. Sizes are
    shares of the frame's mean side, those of shapes and occlusions of the anatomy's extent, at a severity of
    1; each item has a random severity.

    Attributes:
        clean_p: share of items that stay as they are.
        shapes_p: ellipsoids, boxes and bars of any label, background included.
        shapes: largest number of them.
        shape_size: largest radius.
        morphology_p: dilation, erosion, opening or closing of organs.
        morphology: largest radius.
        swap_p: pixels near a border take the label of a pixel nearby.
        swap: how far it may lie.
        elastic_p: local deformation.
        elastic: its size.
        missing_p: an organ is absent, or all but remains of it.
        occlusion_p: a band or an end of the anatomy is blank.
        occlusion: its largest width.
        confusion_p: an organ, or a part of it, has another organ's label.
        blobs_p: irregular patches of wrong labels.
        blobs: largest share of the frame that they cover.
        speckle_p: many small parts and holes, as a classifier of single pixels leaves them.
        speckle: largest share of pixels.
        classifier_p: what a classifier of single pixels finds that is not sure of itself.
        classifier: how far around a pixel it looks.
        coarse_p: borders of a much lower resolution.
        coarse: largest width of a cell.
        soften_p: borders are blurred.
        soften: width of the transition.
        hard_p: borders are hard; those of other items are as soft as deforming the shapes made them.
        soft_p: shares become those of a network that is not sure: flatter, with smooth errors. Off by
            default; for denoisers of soft labels, see `anatozoo.objectives.denoising`.
        soft_temperature: largest temperature that makes them flat.
        soft_noise: largest standard deviation of the noise of their logits.
    """

    clean_p: float = 0.15
    shapes_p: float = 0.3
    shapes: int = 5
    shape_size: float = 0.3
    morphology_p: float = 0.25
    morphology: float = 0.03
    swap_p: float = 0.25
    swap: float = 0.03
    elastic_p: float = 0.15
    elastic: float = 0.012
    missing_p: float = 0.25
    occlusion_p: float = 0.4
    occlusion: float = 0.5
    confusion_p: float = 0.15
    blobs_p: float = 0.15
    blobs: float = 0.25
    speckle_p: float = 0.2
    speckle: float = 0.4
    classifier_p: float = 0.4
    classifier: float = 0.06
    coarse_p: float = 0.1
    coarse: float = 0.06
    soften_p: float = 0.4
    soften: float = 0.02
    hard_p: float = 0.25
    soft_p: float = 0.0
    soft_temperature: float = 4.0
    soft_noise: float = 3.0
