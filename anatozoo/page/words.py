"""What the page says, as HTML: pictures side by side, a table of numbers, remarks, files, and errors.

All that comes from files is escaped. Colours are those of the page's theme.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any
from urllib.parse import quote

from anatozoo.metrics.measurements import Measurement
from anatozoo.page.answers import Answered, size_words
from anatozoo.page.flags import sentence
from anatozoo.results.draw.style import display_name, organ_colors
from anatozoo.results.quality import QualityResult
from anatozoo.text import printable

_UNITS = {"1": "", "mm2": "mm²", "px": "px", "px2": "px²", "voxels": "voxels"}
_NAMES = {"sigma": "standard deviation of landmarks"}
_ESTIMATES = ("estimated_dice", "estimated_dice_low", "estimated_dice_high")
_WHAT = {
    "_overlay.png": "picture",
    "_slices.png": "picture of all slices",
    "_repair.png": "picture of the repair",
    "_translated.png": "translated image",
    "_translation.png": "picture of the translation",
    "_mask.png": "labels",
    "_mask.nii.gz": "labels",
    "_landmarks.csv": "landmarks",
    "_seg.dcm": "DICOM segmentation",
    "measurements.csv": "table of the measurements",
    ".json": "everything in numbers",
}
"""What a file is, by the end of its name."""
ALL = "all.zip"

_ON_THE_PAGE = {
    "pass allow_any_modality=True (--allow-any-modality)": (
        "tick “Take DICOM that is not declared as a chest X-ray” under “How the file is read”"
    ),
    "spacing_mm must": "“Spacing in mm” must",
    "spacing_mm takes": "“Spacing in mm” takes",
}
"""What sentences for programs and command lines call things -> what the page calls them."""

EMPTY = (
    '<div class="az-empty"><p>Drop an image on the left, or take a sample.</p>'
    "<p>Its segmentation, measurements and files appear here.</p></div>"
)
NOTE = (
    "Research software: not a medical device, and not to be used to diagnose or treat anybody. "
    "What you drop stays in the memory of the computer that shows this page, until you close it; while it is "
    "computed, it also lies in a temporary folder there."
)


def safe(text: str) -> str:
    """Text as HTML."""
    return escape(printable(text))


def error(words: str) -> str:
    """A sentence on what went wrong, in the page's own terms."""
    for name, own in _ON_THE_PAGE.items():
        words = words.replace(name, own)
    words = words[:1].upper() + words[1:]
    return f'<div class="az-error" role="alert"><b>This did not work.</b> {safe(words)}</div>'


def failed(sentences: Mapping[str, str], *, all_of_them: bool) -> str:
    """What went wrong with models; each is named, but where all of them say the same.

    Args:
        sentences: by the name of the model.
        all_of_them: whether no model has answered.
    """
    said = list(sentences.values())
    if all_of_them and len(set(said)) == 1:
        return error(said[0])
    return "".join(error(f"by {name}: {words}") for name, words in sentences.items())


def figures(answers: Sequence[Answered], pictures: Sequence[bytes], about: str) -> str:
    """Pictures side by side; the name of its model stands in each.

    Args:
        answers: what the models said.
        pictures: WebP of each.
        about: what was sent.
    """
    shown = []
    for answered, picture in zip(answers, pictures, strict=True):
        data = base64.b64encode(picture).decode("ascii")
        named = f"{safe(about)}, by {safe(answered.model)}"
        shown.append(f'<figure><img alt="{named}" src="data:image/webp;base64,{data}"></figure>')
    return f'<div class="az-figures">{"".join(shown)}</div>'


def report(answers: Sequence[Answered], token: str, about: str) -> str:
    """Everything below the pictures: numbers, estimated quality, remarks, files.

    Args:
        answers: what the models said.
        token: of the addresses of the files.
        about: what was sent.
    """
    parts = [
        f'<p class="az-quiet">{safe(about)} · {safe(answers[0].result.about)}</p>',
        _remarks(answers),
        _table(answers),
        *(_quality(each.quality, each.model, alone=len(answers) == 1) for each in answers if each.quality),
        _files(answers, token),
    ]
    return f'<div class="az-report">{"".join(parts)}</div>'


def _table(answers: Sequence[Answered]) -> str:
    """Measurements, one column for each model."""
    columns = [{(m.name, m.organ): m for m in each.measurements} for each in answers]
    rows = dict.fromkeys(key for column in columns for key in column if key[0] not in _ESTIMATES)
    if not rows:
        return ""
    heads = [each.model for each in answers] if len(answers) > 1 else ["Value"]
    head = "".join(f'<th class="az-number">{safe(name)}</th>' for name in heads)
    body = []
    for key in rows:
        cells = "".join(f'<td class="az-number">{_value(column.get(key))}</td>' for column in columns)
        body.append(f"<tr><th>{_chip(key[1], answers)}{_quantity(*key)}</th>{cells}</tr>")
    return f'<h3>Measurements</h3><table class="az-table"><tr><th></th>{head}</tr>{"".join(body)}</table>'


def _chip(organ: str, answers: Sequence[Answered]) -> str:
    """The colour that an organ has in the picture, where the legend may be too small to be read."""
    for each in answers:
        colors = organ_colors(getattr(each.result, "organs", ()))
        if organ in colors:
            return f'<i class="az-chip" style="background:rgb({",".join(map(str, colors[organ]))})"></i>'
    return ""


def _quantity(name: str, organ: str) -> str:
    what = _NAMES.get(name, name).replace("_", " ")
    return safe(f"{display_name(organ)}, {what}" if organ else what.capitalize())


def _value(measurement: Measurement | None) -> str:
    if measurement is None:
        return "–"
    unit = _UNITS.get(measurement.unit, measurement.unit)
    return f"{measurement.short} <small>{safe(unit)}</small>"


def _quality(quality: QualityResult, model: str, *, alone: bool) -> str:
    """Estimated Dice of each organ, with a bar for its interval."""
    rows = []
    for organ in quality.organs:
        found = {m.name: m.value for m in quality.measurements if m.organ == organ}
        if _ESTIMATES[0] not in found:
            continue
        dice, low, high = (found.get(name) for name in _ESTIMATES)
        between = "" if low is None or high is None else f"{low:.2f} to {high:.2f}"
        rows.append(
            f'<tr><th>{safe(display_name(organ))}</th><td class="az-number">{dice:.2f}</td>'
            f'<td class="az-number">{between}</td><td class="az-bar">{_bar(dice, low, high)}</td></tr>'
        )
    title = "Estimated Dice" if alone else f"Estimated Dice, {safe(model)}"
    words = f"By {len(quality.matches)} images of the atlas {safe(quality.atlas)}, without ground truth."
    if quality.coverage is not None and quality.intervals:
        words += (
            f" The interval holds the true Dice of {quality.coverage:.0%} of segmentations like those that "
            "the atlas was calibrated on."
        )
    elif quality.no_intervals:
        words += f" No intervals: {safe(quality.no_intervals)}."
    return (
        f'<h3>{title}</h3><table class="az-table az-estimates">{"".join(rows)}</table>'
        f'<p class="az-quiet">{words}</p>'
    )


def _bar(dice: float | None, low: float | None, high: float | None) -> str:
    if dice is None:
        return ""
    start, end = (dice, dice) if low is None or high is None else (low, high)
    band = f'<i style="left:{start:.1%};width:{end - start:.1%}"></i>'
    return f'<span>{band}<b style="left:{dice:.1%}"></b></span>'


def _remarks(answers: Sequence[Answered]) -> str:
    """Flags and notes, those of all models once."""
    found: dict[str, list[str]] = {}
    for each in answers:
        for words in [*map(sentence, each.flags), *each.notes]:
            found.setdefault(words, []).append(each.model)
    if not found:
        return '<p class="az-good">Nothing was flagged.</p>'
    lines = []
    for words, models in found.items():
        whose = f" <small>{safe(models[0])}</small>" if len(models) < len(answers) else ""
        lines.append(f"<li>{safe(words)}{whose}</li>")
    return f'<h3>To look at</h3><ul class="az-flags">{"".join(lines)}</ul>'


def _files(answers: Sequence[Answered], token: str) -> str:
    parts = []
    for number, each in enumerate(answers):
        links = "".join(_link(token, number, name, len(content)) for name, content in each.files.items())
        title = f"<h4>{safe(each.model)}</h4>" if len(answers) > 1 else ""
        parts.append(f'{title}<ul class="az-files">{links}</ul>')
    every = f'<a class="az-all" href="page/files/{token}/{ALL}" download>Download all (ZIP)</a>'
    return f"<h3>Files</h3>{''.join(parts)}<p>{every}</p>"


def _link(token: str, number: int, name: str, size: int) -> str:
    kind = next((what for end, what in _WHAT.items() if name.endswith(end)), "")
    words = ", ".join(filter(None, [kind, size_words(size)]))
    address = f"page/files/{token}/{number}/{quote(name)}"
    return f'<li><a href="{address}" download>{safe(name)}</a> <small>{words}</small></li>'


def model_words(about: Mapping[str, Any], described: Mapping[str, Any]) -> str:
    """What a model takes and finds, and on what terms, as text.

    Args:
        about: of the manifest, see `anatozoo.service.about.about_checkpoint`; may be empty.
        described: see `anatozoo.service.models.Model.describe`.
    """
    organs = ", ".join(display_name(organ).lower() for organ in described["organs"])
    takes = {"image": "a radiograph", "mask": "a mask", "volume": "a volume"}[described["takes"]]
    if described["takes"] == "mask" and described["axes"] == 3:
        takes = "a mask of a volume"
    words = f"Takes {takes}" + (f"; finds {organs}." if organs else ".")
    terms = f" Licence: {about['license']}." if about.get("license") else ""
    return printable(words + terms)
