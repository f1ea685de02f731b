"""Where the voxels of a NIfTI file lie: units, sform and qform, and what to think of missing ones."""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

UNIT_ASSUMED = "spacing_unit_assumed_mm"
FORMS_DIFFER = "sform_qform_differ"
# Offsets and struct formats of pixdim, xyzt_units, the two codes, quatern_b to qoffset_z and srow by the
# header's own size.
_LAYOUTS = {
    348: ((76, "8f"), (123, "b"), (252, "2h"), (256, "6f"), (280, "12f")),
    540: ((104, "8d"), (500, "i"), (344, "2i"), (352, "6d"), (400, "12d")),
}
_UNIT_BITS = 0b111
_UNITS = (1, 2, 3)  # metres, millimetres, micrometres: ITK gives millimetres of each
_TOLERANCE = 1e-2
_ORTHOGONAL = 1e-3

Affine = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class NiftiSpace:
    """What a NIfTI header says of space.

    Attributes:
        has_unit: whether the unit of length is one that the standard knows.
        qform: (3, 4) affine of the quaternion, None where its code is 0.
        sform: (3, 4) affine that is written out, None where its code is 0.
        pixdim: steps along the first three axes, as stored.
    """

    has_unit: bool
    qform: Affine | None
    sform: Affine | None
    pixdim: tuple[float, float, float]

    @classmethod
    def read(cls, head: bytes, length: int, order: str) -> Self:
        """Read the fields.

        Args:
            head: the header.
            length: its own size, 348 or 540.
            order: of its bytes, ``"<"`` or ``">"``.
        """
        pixdim, (units,), (qcode, scode), quaternion, rows = (
            struct.unpack_from(order + form, head, at) for at, form in _LAYOUTS[length]
        )
        steps = (pixdim[1], pixdim[2], pixdim[3])
        return cls(
            (units & _UNIT_BITS) in _UNITS,
            _of_quaternion(quaternion, steps, pixdim[0]) if qcode > 0 else None,
            np.asarray(rows, np.float64).reshape(3, 4) if scode > 0 else None,
            steps,
        )

    @property
    def has_place(self) -> bool:
        """Whether the file says where its voxels lie; of one that does not, ITK makes something up."""
        return self.qform is not None or self.sform is not None

    @property
    def is_blank(self) -> bool:
        """Whether there is nothing but ones: what programs write that know neither spacing nor place."""
        for affine in (self.qform, self.sform):
            if affine is not None and not np.array_equal(np.abs(affine), np.eye(3, 4)):
                return False
        return all(step in (0.0, 1.0) for step in self.pixdim)

    @property
    def is_sheared(self) -> bool:
        """Whether the axes of the affine that is written out are not at right angles."""
        if self.sform is None or not np.isfinite(self.sform).all():
            return False
        steps = np.linalg.norm(self.sform[:, :3], axis=0)
        if not (steps > 0).all():
            return False
        axes = self.sform[:, :3] / steps
        return bool(np.abs(axes.T @ axes - np.eye(3)).max() > _ORTHOGONAL)

    @property
    def forms_differ(self) -> bool:
        """Whether sform, qform and the steps contradict one another: programs then disagree on the place."""
        if self.sform is None:
            return False
        lengths = np.linalg.norm(self.sform[:, :3], axis=0)
        if all(step > 0 for step in self.pixdim) and not np.allclose(lengths, self.pixdim, rtol=_TOLERANCE):
            return True
        step = max(float(lengths.max()), 1e-9)
        return self.qform is not None and not np.allclose(self.sform, self.qform, atol=_TOLERANCE * step)

    def unit_is_assumed(self, spacing: Sequence[float]) -> bool:
        """Whether steps are taken for millimetres though no unit is stated: NIfTI's readers all do.

        Not where there is nothing but ones, which says nothing.
        """
        return not self.has_unit and not (self.is_blank and all(step == 1 for step in spacing))

    def remarks(self, spacing: Sequence[float]) -> tuple[str, ...]:
        """Flags of what is in doubt."""
        assumed = (UNIT_ASSUMED,) if self.unit_is_assumed(spacing) else ()
        return assumed + ((FORMS_DIFFER,) if self.forms_differ else ())


def _of_quaternion(quaternion: Sequence[float], steps: Sequence[float], factor: float) -> Affine | None:
    """The affine of ``quatern_b`` to ``qoffset_z``; NIfTI-1, nifti1.h, method 2."""
    b, c, d, *offset = quaternion
    if not all(map(math.isfinite, (*quaternion, *steps))):
        return None
    a = math.sqrt(max(0.0, 1 - b * b - c * c - d * d))
    turn = np.array(
        [
            [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
            [2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)],
            [2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - c * c - b * b],
        ]
    )
    scaled = turn * np.asarray(steps) * (1, 1, -1 if factor < 0 else 1)
    return np.column_stack([scaled, offset])
