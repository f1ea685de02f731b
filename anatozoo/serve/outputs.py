"""What the files of a run are called: the formats of every kind of result, and their endings."""

from __future__ import annotations

from dataclasses import replace

from anatozoo.results.base import Formats
from anatozoo.results.field import RegistrationResult
from anatozoo.results.quality import QualityResult
from anatozoo.results.repair import RepairResult
from anatozoo.results.restored import RestoredVolume
from anatozoo.results.segmentation import SegmentationResult
from anatozoo.results.volume import VolumeResult

__all__ = ["ENDINGS", "EVERY", "PROPAGATED", "Formats"]

PROPAGATED = "_mask.nii.gz"
"""Ending of a label map that a registration brought to the fixed image, in every format of a pair."""

SEGMENTATIONS = SegmentationResult.formats
REPAIRS, REPAIRED_VOLUMES = RepairResult.formats, RepairResult.volume_formats
REGISTRATIONS = RegistrationResult.formats
VOLUMES, RESTORED = VolumeResult.formats, RestoredVolume.formats
QUALITIES = replace(QualityResult.formats, default=("json",))
"""A run judges many images; their pictures are drawn where they are asked for."""
EVERY = (SEGMENTATIONS, VOLUMES, REPAIRS, REPAIRED_VOLUMES, REGISTRATIONS, RESTORED, QUALITIES)

ENDINGS = tuple(
    dict.fromkeys([*(e for kind in EVERY for files in kind.writers.values() for e in files), PROPAGATED])
)
"""Endings of all files that a run writes."""
