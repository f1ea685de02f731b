"""What a reader of an audit must know before acting on it."""

from __future__ import annotations

from anatozoo.fairness.audit import Audit
from anatozoo.fairness.wording import listing

_ESTIMATE_CAVEATS = (
    "Estimated quality, such as that of Reverse Classification Accuracy (RCA), comes from a comparison with "
    "atlases. It does not see errors that the atlases share, nor a plausible shape in the wrong place, and "
    "where the atlases lack a group of patients, its estimate for that group is worse.",
    "An estimated gap has not the size of the true one, but may be much smaller or larger, and the sign of "
    "one below 0.01 is not reliable.",
)


def caveats(audit: Audit) -> list[str]:
    """What a reader must know before acting on a finding."""
    frames = audit.frames
    lines = [
        "A gap that could not be shown is not shown to be absent: intervals say how large it may still be.",
        f"{audit.comparisons} comparisons were made. Their p-values are corrected within each grouping "
        f"({frames[0].correction}), not over the whole report.",
        _confounders(audit),
    ]
    if any(frame.small for frame in frames):
        lines.append(
            f"In groups of fewer than {frames[0].least_words} patients, which are marked, one patient can "
            "make a gap."
        )
    if audit.scores.left_out or any(frame.left_out for frame in frames):
        lines.append(
            "Rows were left out (see the tables). That need not be by chance: images that fail and missing "
            "data may be more frequent in one group."
        )
    estimated = {estimate.estimated for estimate in audit.estimates}
    estimated |= {metric for metric in audit.metrics if "rca" in metric.lower()}
    if set(audit.metrics) - estimated:
        lines.append("Scores are only as fair as the reference that they were measured against.")
    if estimated:
        lines += _ESTIMATE_CAVEATS
    lines.append("This is research software, not a medical device; it must not be used to treat anybody.")
    return lines


def _confounders(audit: Audit) -> str:
    if not audit.controls:
        return (
            "Nothing was controlled for. Groups may differ in age, disease, view or device, which may be the "
            "reason of a gap, or hide one."
        )
    how = {
        "standardise": "averaged over them as in both groups together",
        "match": "weighted as by matching patients one to one",
    }
    return (
        f"Adjusted gaps compare within {listing(list(audit.controls))}, {how[audit.frames[0].adjustment]}. "
        "Anything else in which the groups differ may still be the reason of a gap, or hide one."
    )
