"""Presentation states: contours and other lines that a viewer draws upon the source image."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from anatozoo.io.dicom_out.reference import Reference, carried_over
from anatozoo.io.dicom_out.stamp import Maker, finished
from anatozoo.io.quiet import quiet

_SERIES = 9005
_MOST_POINTS = 8000
"""Of one line: its coordinates, of four bytes, must fit into 64 KiB."""
Color = tuple[int, int, int]
Line = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Layer:
    """Lines of one colour.

    Attributes:
        name: of an organ, or of what is drawn.
        color: red, green and blue, 0..255.
        lines: for each slice its lines (N, 2), x and y, whole numbers being centres of pixels.
        closed: whether each line ends where it begins.
        text: words beside the first line; empty for none.
    """

    name: str
    color: Color
    lines: Sequence[Sequence[Line]]
    closed: bool = True
    text: str = ""


def presentation(reference: Reference, maker: Maker, layers: Sequence[Layer]) -> bytes:
    """A grayscale softcopy presentation state.

    It shows the image with its own windows and tables, and each layer upon it. What lies outside the image is
    moved to its border.

    Args:
        reference: the source.
        maker: what found the organs.
        layers: the later cover the earlier.

    Raises:
        GeometryError: the source cannot be referred to.
    """
    import highdicom
    from highdicom import pr

    with quiet(), carried_over(reference.label):
        named = dict(zip(_names([layer.name for layer in layers]), layers, strict=True))
        declared = {
            name: pr.GraphicLayer(
                layer_name=name,
                order=order,
                description=layer.name[:64],
                display_color=highdicom.color.CIELabColor.from_rgb(*layer.color),
            )
            for order, (name, layer) in enumerate(named.items(), start=1)
        }
        drawn = [
            each for name, layer in named.items() for each in _annotations(reference, declared[name], layer)
        ]
        dataset = pr.GrayscaleSoftcopyPresentationState(
            referenced_images=list(reference.headers),
            content_label="ANATOZOO",
            content_description=f"Contours by {maker.name}"[:64],
            graphic_layers=list(declared.values()) if drawn else None,
            graphic_annotations=drawn or None,
            presentation_lut_transformation=highdicom.PresentationLUTTransformation(
                presentation_lut_shape=_shape(reference.headers[0])
            ),
            **maker.identity(reference, "contours", _SERIES),
            **maker.equipment(),
        )
        _settle_area(dataset, reference.headers[0])
        dataset.Laterality = ""
        return finished(dataset, reference)


def _annotations(reference: Reference, layer: Any, drawn: Layer) -> Iterator[Any]:
    """The lines of a layer, slice by slice."""
    from highdicom import pr

    limit = np.array(reference.shape[:0:-1], float)
    text = drawn.text
    for index, lines in enumerate(drawn.lines):
        # A pixel's corner is the origin, not its centre.
        points = [np.clip(line + 0.5, 0, limit) for line in lines if len(line)]
        if not points:
            continue
        words = [
            pr.TextObject(text, units="PIXEL", anchor_point=tuple(points[0][0]), anchor_point_visible=False)
        ]
        yield pr.GraphicAnnotation(
            referenced_images=[reference.of_slice[index][0]],
            referenced_frame_number=reference.frame_number(index),
            graphic_layer=layer,
            graphic_objects=[
                pr.GraphicObject("POLYLINE", piece, units="PIXEL")
                for line in points
                for piece in _pieces(np.concatenate([line, line[:1]]) if drawn.closed else line)
            ],
            text_objects=words if text else None,
        )
        text = ""


def _pieces(line: Line) -> Iterator[Line]:
    """A line in pieces that are not too long."""
    for start in range(0, max(len(line) - 1, 1), _MOST_POINTS - 1):
        yield line[start : start + _MOST_POINTS]


def _names(names: Sequence[str]) -> list[str]:
    """Names as DICOM allows for layers: upper case, at most 16 characters, each once."""
    found: list[str] = []
    for name in names:
        short = re.sub(r"[^A-Z0-9_ ]", "_", name.upper())[:16]
        found.append(short if short not in found else f"{short[:13]}_{len(found) % 100}")
    return found


def _shape(header: Any) -> str:
    """IDENTITY, or INVERSE where the image is to be turned round."""
    inverse = header.PhotometricInterpretation == "MONOCHROME1"
    return "INVERSE" if inverse or header.get("PresentationLUTShape") == "INVERSE" else "IDENTITY"


def _settle_area(dataset: Any, header: Any) -> None:
    """Say how wide a pixel is beside its height, where that is known."""
    for area in dataset.DisplayedAreaSelectionSequence:
        area.pop("PixelOriginInterpretation", None)  # of tiled images alone
        if "PresentationPixelSpacing" in header:
            area.pop("PresentationPixelAspectRatio", None)
            area.PresentationPixelSpacing = header.PresentationPixelSpacing
        elif "PixelAspectRatio" in header:
            area.PresentationPixelAspectRatio = header.PixelAspectRatio
