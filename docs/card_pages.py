"""Model cards as pages of the documentation, each with a picture, written when it is built.

Pictures are made from the radiograph of pydicom-data and from the phantoms of `anatozoo.io.phantoms`, which
anybody may have. `docs/cards` is not part of the repository: the cards are in `anatozoo/checkpoints`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from anatozoo.zoo.card import card
from anatozoo.zoo.files import write_text
from anatozoo.zoo.manifest import FILE_NAME, read_manifest
from anatozoo.zoo.spec import CheckpointSpec
from docs.example_pages import FOLDER, page_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PROJECT = Path(__file__).resolve().parents[1]
CARDS = "../anatozoo/checkpoints"
"""Where cards lie in the repository, seen from `docs`; built pages link to `docs/cards` instead."""
_RADIOGRAPH = (
    "The radiograph `RG1_UNCR` of the MIT-licensed package `pydicom-data`{more}. Nobody has drawn its "
    "organs, so that nothing is measured here."
)
_HEART = (
    "A generated heart, a phantom{more}. It is no patient, the network has not been trained on phantoms, "
    "and its accuracy here says nothing about patients."
)
_NONE = (
    "*There is no picture: no image of a hippocampus comes with the package, because those of the data set "
    "stay with it.*"
)


def write_cards(folder: Path, *, pictures: bool = True) -> list[Path]:
    """Write the page of every checkpoint of the manifest; gives their paths.

    Args:
        folder: where the pages go, with their pictures beside them. A picture that is there is kept, as its
            name holds the hash of the weights.
        pictures: whether pictures are made; without, a page still says whether there could be one.
    """
    folder.mkdir(parents=True, exist_ok=True)
    specs = read_manifest(PROJECT / FILE_NAME).checkpoints
    texts = {folder / f"{spec.name}.md": page(spec, folder, pictures) for spec in specs}
    for path, text in texts.items():
        write_text(path, text)
    return list(texts)


def page(spec: CheckpointSpec, folder: Path, pictures: bool = True) -> str:
    """The card as a page: without the Hub's front matter, and with the picture below the summary."""
    _, _, text = card(spec).removeprefix("---\n").partition("---\n")
    head, sentence, rest = text.partition(f"{spec.summary}\n")
    found = PICTURES.get((spec.output.record.name, spec.input.anatomy))
    if found is None:
        shown = f"{_NONE}\n"
    else:
        draw, caption = found
        name = f"{spec.name}-{spec.hub.files['model.safetensors'].sha256[:8]}.png"
        if pictures and not (folder / name).is_file():
            draw(spec.name).savefig(folder / name, dpi=90)
        shown = f"```{{figure}} {name}\n:alt: What {spec.name} gives\n:width: 100%\n\n{caption}\n```\n"
    return f"{head}{sentence}\n{shown if pictures or found is None else ''}{_without_repeats(rest)}"


def linked(text: str) -> str:
    """A page of `docs` whose links to cards and examples in the repository lead to their pages."""
    text = re.sub(rf"\]\({re.escape(CARDS)}/([a-z0-9-]+)/README\.md\)", r"](cards/\1.md)", text)
    text = re.sub(r"\]\(\.\./examples/(plot_\w+)\.py\)", lambda m: f"](/{page_of(m[1])}.rst)", text)
    return text.replace("](../examples)", f"](/{FOLDER}/index.rst)")


def _without_repeats(text: str) -> str:
    """The same with a source said once, where the rows of a table below have the same: pages are narrow."""
    lines, before = [], ""
    for line in text.split("\n"):
        head, bar, source = line.removesuffix(" |").rpartition(" | ")
        same = bar and line.startswith("| ") and source == before and source.startswith("`")
        lines.append(f'{head} | " |' if same else line)
        before = source if bar else ""
    return "\n".join(lines)


def _load(name: str) -> Any:
    import anatozoo

    return anatozoo.load(name, trainable=False)


def _radiograph() -> Path:
    from anatozoo.io.samples import sample_radiograph

    return sample_radiograph()


def _segmented(name: str) -> Figure:
    return _load(name).predict(_radiograph()).plot()


def _contoured(name: str) -> Figure:
    return _load(name).predict(_load("unet-jsrt").predict(_radiograph())).plot()


def _repaired(name: str) -> Figure:
    labels = np.array(_load("unet-jsrt").predict(_radiograph()).mask)
    height, width = labels.shape
    labels[int(0.5 * height) : int(0.58 * height), : width // 2] = 0
    labels[int(0.02 * height) : int(0.07 * height), int(0.45 * width) : int(0.6 * width)] = 1
    return _load(name).predict(labels).plot()


def _registered(name: str) -> Figure:
    from anatozoo.io.images import read_image

    pixels = read_image(_radiograph()).pixels[::3, ::3]
    height, width = pixels.shape
    smaller = np.pad(pixels, ((height // 12,) * 2, (width // 8, width // 16)), mode="edge")
    return _load(name).predict(pixels, smaller).plot()


def _drawn_shapes(name: str) -> Figure:
    return _load(name).sample(16, seed=0).plot()


def _coded_chest(name: str) -> Figure:
    model = _load(name)
    found = _load("unet-jsrt").predict(_radiograph()).masks
    labels = np.zeros(found["heart"].shape, np.uint8)
    for value, organ in enumerate(model.organs, start=1):
        sides = [mask for part, mask in found.items() if part.startswith(organ.removesuffix("s"))]
        labels[np.logical_or.reduce(sides)] = value
    return _before_and_after(labels, model.predict(labels).mask)


def _heart(name: str) -> Figure:
    from anatozoo.io.phantoms import heart_phantom

    return _load(name).predict(heart_phantom().image).plot()


def _coded_heart(name: str) -> Figure:
    from anatozoo.io.grid import grid_of_itk, itk_image
    from anatozoo.io.phantoms import heart_phantom

    heart = heart_phantom()
    found = _load(name).predict(itk_image(heart.labels, grid_of_itk(heart.image)))
    return _before_and_after(heart.labels[3], found.mask[3])


def _repaired_heart(name: str) -> Figure:
    from anatozoo.io.phantoms import heart_phantom

    labels = heart_phantom().labels[3].copy()
    labels[60:70, 60:100] = 0
    labels[30:40, 100:112] = 3
    return _load(name).predict(labels).plot()


def _before_and_after(given: np.ndarray, found: np.ndarray) -> Figure:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 3.6), layout="constrained")
    for ax, labels, title in zip(
        figure.subplots(1, 2), (given, found), ("label map", "what comes back from its code"), strict=True
    ):
        ax.imshow(labels, interpolation="nearest")
        ax.set(title=title, xticks=[], yticks=[])
    return figure


PICTURES: dict[tuple[str, str], tuple[Callable[[str], Figure], str]] = {
    ("contours", "chest"): (_segmented, _RADIOGRAPH.format(more="")),
    ("labels", "chest"): (_segmented, _RADIOGRAPH.format(more="")),
    ("field", "chest"): (
        _registered,
        _RADIOGRAPH.format(more=", registered to a smaller, shifted copy of it"),
    ),
    ("repair", "chest"): (
        _repaired,
        _RADIOGRAPH.format(more=": what `unet-jsrt` labels, damaged and repaired"),
    ),
    ("mask-contours", "chest"): (
        _contoured,
        _RADIOGRAPH.format(more=": landmarks of what `unet-jsrt` labels"),
    ),
    ("codes", "chest"): (
        _coded_chest,
        _RADIOGRAPH.format(more=": what `unet-jsrt` labels, and its reconstruction"),
    ),
    ("shapes", "chest"): (_drawn_shapes, "Chests drawn from the model; they belong to nobody."),
    ("volume", "heart"): (_heart, _HEART.format(more="")),
    ("codes", "heart"): (_coded_heart, _HEART.format(more=": its labels, and their reconstruction")),
    ("repair", "heart"): (
        _repaired_heart,
        _HEART.format(more=": a slice of its labels, damaged and repaired"),
    ),
}
"""Kind of answer and anatomy -> what draws the picture, and the words below it."""
