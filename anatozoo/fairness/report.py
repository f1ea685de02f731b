"""The report of an audit: HTML with its pictures inside, Markdown, and JSON."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anatozoo.fairness.audit import Audit
from anatozoo.fairness.blocks import Block, Bullets, Heading, Paragraph, Picture, Table, to_html, to_markdown
from anatozoo.fairness.caveats import caveats
from anatozoo.fairness.draw import plot_agreement, plot_estimate, plot_gaps, plot_groups, plot_means
from anatozoo.fairness.estimates import Estimate
from anatozoo.fairness.findings import findings
from anatozoo.fairness.frame import GroupFrame
from anatozoo.fairness.groups import LeftOut
from anatozoo.fairness.report_tables import adjusted_table, means_table, pairs_table, summary_table
from anatozoo.fairness.tables import Joined
from anatozoo.fairness.wording import metric_words, number
from anatozoo.io.figures import figure_bytes
from anatozoo.io.writers import write_bytes, write_json, write_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STEM = "audit"
_DPI = 150
_DEFINITIONS = (
    "The value of a group is the mean over its images. Gap: largest minus smallest of these means. Ratio: "
    "smallest over largest. SD: standard deviation over the groups. SER, the skewed error rate: largest over "
    "smallest error, which is 1 − Dice or the distance itself; 1 is equal. Equity-scaled: the value of all, "
    "divided by 1 + the sum of its distances to those of the groups. The gap of two groups is the "
    "first minus the second; * marks fewer than {least} patients. Intervals are 95 % percentile bootstrap "
    "intervals, p-values those of two-sided permutation tests; both draw patients, not images."
)


def report_blocks(audit: Audit, head: Mapping[str, Any]) -> list[Block]:
    """What the report says, in order.

    Args:
        audit: the numbers.
        head: ``command`` and ``versions``, see `anatozoo.metrics.tables.provenance`.
    """
    count = len(audit.scores.table)
    versions = ", ".join(f"{name} {version}" for name, version in head["versions"].items())
    blocks: list[Block] = [
        Heading(f"Fairness audit of {audit.name}", 1),
        Paragraph(
            f"{count} images. Compared by {', '.join(frame.name for frame in audit.frames)}; measured by "
            f"{', '.join(metric_words(metric) for metric in audit.metrics)}."
        ),
        Paragraph(str(head["command"]), code=True),
        Paragraph(versions),
        Heading("Findings"),
        Bullets(tuple((finding.kind, finding.text) for finding in findings(audit))),
        Heading("Before acting on them"),
        Bullets(tuple(("caveat", text) for text in [*caveats(audit), *audit.notes])),
        *_left_out("Rows left out of the whole report", audit.scores.left_out, audit.scores.rows),
        *(block for each in audit.scores.joined for block in _joined(each)),
    ]
    for frame in audit.frames:
        blocks += _frame_blocks(frame)
    if audit.crossed is not None:
        blocks += _crossed_blocks(audit.crossed)
    for index, estimate in enumerate(audit.estimates):
        blocks += _estimate_blocks(audit, estimate, index)
    return [
        *blocks,
        Heading("What the numbers are"),
        Paragraph(_DEFINITIONS.format(least=audit.frames[0].least_words)),
    ]


def _left_out(title: str, entries: tuple[LeftOut, ...], rows: int) -> list[Block]:
    if not entries:
        return []
    cells = tuple((entry.reason, f"{entry.rows} of {rows}") for entry in entries)
    return [Heading(title, 3), Table(("reason", "rows"), cells)]


def _joined(joined: Joined) -> list[Block]:
    """How the second table met the scores; what was passed over stands here even where it is nothing."""
    own, on = ", ".join(joined.own), ", ".join(joined.on)
    cells = (
        (f"rows of the scores with a partner, by {own} and {on}", f"{joined.with_partner} of {joined.rows}"),
        ("rows of the scores without", str(joined.without_partner)),
        (f"names of {joined.table} that the scores do not have", str(joined.unused)),
        (f"rows of {joined.table} without a name, passed over", str(joined.unnamed)),
        (f"rows of {joined.table} that repeat another, passed over", str(joined.repeated)),
    )
    return [Heading(f"What {joined.table} added", 3), Table(("rows", "number"), cells)]


def _frame_blocks(frame: GroupFrame) -> list[Block]:
    name = _slug(frame.name)
    blocks: list[Block] = [
        Heading(f"By {frame.name}"),
        Picture(f"{STEM}_{name}_groups.png", f"Scores of each group by {frame.name}"),
        Heading("Groups", 3),
        means_table(frame),
        Heading("All groups together", 3),
        summary_table(frame),
        Heading("Every two groups", 3),
        Picture(f"{STEM}_{name}_gaps.png", f"Gaps between groups by {frame.name}, with intervals"),
        pairs_table(frame),
    ]
    if frame.adjusted:
        blocks += [Heading(f"Between patients alike in {', '.join(frame.control_names)}", 3)]
        blocks += [adjusted_table(frame)]
    return blocks + _left_out(f"Rows left out by {frame.name}", frame.left_out, len(frame.labels))


def _crossed_blocks(frame: GroupFrame) -> list[Block]:
    return [
        Heading(f"By {frame.name} together"),
        Paragraph(
            "Described, not tested: so many groups would need many more patients. The dashed line is the "
            f"mean of all; hollow dots are groups of fewer than {frame.least_words}."
        ),
        Picture(f"{STEM}_intersections.png", f"Means by {frame.name}, with intervals"),
        means_table(frame),
        summary_table(frame),
        *_left_out("Rows left out here", frame.left_out, len(frame.labels)),
    ]


def _estimate_blocks(audit: Audit, estimate: Estimate, index: int) -> list[Block]:
    if estimate.true is None or not estimate.gaps:
        return []
    name = f"Estimated quality: {metric_words(estimate.estimated)}"
    rows = tuple(
        (
            f"{gap.a} vs {gap.b}",
            gap.grouping,
            number(gap.true, estimate.true, sign=True),
            number(gap.estimated, estimate.true, sign=True),
            "yes" if gap.same_sign else "no",
        )
        for gap in estimate.gaps
    )
    blocks: list[Block] = [
        Heading(name),
        Picture(f"{STEM}_estimate{index + 1}.png", "Estimated against true quality of each image"),
        Table(("groups", "by", "true gap", "estimated gap", "same sign"), rows),
    ]
    fit = estimate.agreement
    if fit is not None and fit.r == fit.r:
        blocks.append(Picture(f"{STEM}_estimate{index + 1}_gaps.png", "Estimated against true gaps"))
        signs = "; ".join(
            f"{sign.accuracy:.0%} of {sign.n} where one of the two is at least {sign.threshold:g}"
            for sign in fit.signs
            if sign.n
        )
        blocks.append(
            Paragraph(
                f"Over the {fit.n} gaps: correlation {fit.r:.3f}, estimated = {fit.slope:.2f} · true "
                f"{'+' if fit.intercept >= 0 else '−'} {abs(fit.intercept):.3f}. Same sign: {signs}."
            )
        )
    return blocks


def draw_pictures(audit: Audit) -> dict[str, bytes]:
    """PNG by file name."""
    figures: dict[str, Figure] = {}
    for frame in audit.frames:
        figures[f"{STEM}_{_slug(frame.name)}_groups.png"] = plot_groups(frame)
        figures[f"{STEM}_{_slug(frame.name)}_gaps.png"] = plot_gaps(frame)
    if audit.crossed is not None:
        figures[f"{STEM}_intersections.png"] = plot_means(audit.crossed)
    for index, estimate in enumerate(audit.estimates):
        if estimate.true is not None and estimate.gaps:
            picture = plot_estimate(audit.frames[0], estimate.true, estimate.estimated)
            figures[f"{STEM}_estimate{index + 1}.png"] = picture
        if estimate.agreement is not None and estimate.agreement.r == estimate.agreement.r:
            gaps = ([gap.true for gap in estimate.gaps], [gap.estimated for gap in estimate.gaps])
            figures[f"{STEM}_estimate{index + 1}_gaps.png"] = plot_agreement(
                *gaps, "Gaps of every two groups"
            )
    return {name: figure_bytes(figure, _DPI) for name, figure in figures.items()}


def write_report(folder: Path, audit: Audit, head: Mapping[str, Any]) -> list[Path]:
    """Write ``audit.html``, ``audit.md``, ``audit.json`` and the pictures, which the HTML also has inside.

    Raises:
        OutputError: a file cannot be written.
    """
    blocks, pictures = report_blocks(audit, head), draw_pictures(audit)
    return [
        write_text(folder / f"{STEM}.html", to_html(blocks, pictures)),
        write_text(folder / f"{STEM}.md", to_markdown(blocks)),
        write_json(folder / f"{STEM}.json", report_json(audit, head)),
        *(write_bytes(folder / name, picture) for name, picture in pictures.items()),
    ]


def report_text(audit: Audit, head: Mapping[str, Any]) -> str:
    """The report as Markdown without pictures, for a terminal."""
    return to_markdown([block for block in report_blocks(audit, head) if not isinstance(block, Picture)])


def report_json(audit: Audit, head: Mapping[str, Any]) -> dict[str, Any]:
    """All numbers and sentences, as JSON."""
    sentences = [{"kind": finding.kind, "text": finding.text} for finding in findings(audit)]
    return audit.to_dict() | {"findings": sentences, "caveats": caveats(audit)} | dict(head)


def _slug(name: str) -> str:
    """A name that is safe in a file name."""
    return "".join(letter if letter.isalnum() else "-" for letter in name.lower()).strip("-") or "groups"
