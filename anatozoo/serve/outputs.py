"""What the files of a run are called: the formats of every kind of result, and their endings."""

from __future__ import annotations

from dataclasses import replace

from anatozoo.results.contours import ContourResult
from anatozoo.results.field import RegistrationResult
from anatozoo.results.labels import LabelResult
from anatozoo.results.mesh import MeshResult
from anatozoo.results.quality import QualityResult
from anatozoo.results.repair import RepairResult
from anatozoo.results.restored import RestoredVolume
from anatozoo.results.scores import ScoreResult
from anatozoo.results.segmentation import SegmentationResult
from anatozoo.results.translated import TranslatedImage
from anatozoo.results.volume import VolumeResult

PROPAGATED = "_mask.nii.gz"
"""Ending of a label map that a registration brought to the fixed image, in every format of a pair."""

QUALITIES = replace(QualityResult.formats, default=("json",))
"""A run judges many images; their pictures are drawn where they are asked for."""
EVERY = (
    SegmentationResult.formats,
    ContourResult.dual_formats,
    LabelResult.voted_formats,
    VolumeResult.formats,
    VolumeResult.voted_formats,
    RepairResult.formats,
    RepairResult.volume_formats,
    RegistrationResult.formats,
    RestoredVolume.formats,
    ScoreResult.formats,
    TranslatedImage.formats,
    QUALITIES,
)
"""What `anatozoo predict` writes."""
RUNS = (*EVERY, MeshResult.formats)
"""What any run writes."""

ENDINGS = tuple(
    dict.fromkeys([*(e for kind in RUNS for files in kind.writers.values() for e in files), PROPAGATED])
)
"""Endings of all files that a run writes."""
