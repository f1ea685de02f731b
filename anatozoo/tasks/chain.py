"""Models one after another on one image: translators, a segmenter, a repair of its masks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from anatozoo.errors import ConfigError
from anatozoo.tasks.base import in_batches
from anatozoo.tasks.translate import TranslateTask, in_the_look

if TYPE_CHECKING:
    from anatozoo.io.images import Image


@dataclass(frozen=True)
class Chained:
    """What the models of a chain made of one image.

    Attributes:
        image: what was read.
        results: the segmentation, then the repair where there is one.
    """

    image: Image
    results: tuple[Any, ...]

    @property
    def result(self) -> Any:
        """The result of the last model."""
        return self.results[-1]

    @property
    def flags(self) -> tuple[str, ...]:
        """Remarks on the image and of the last model."""
        return tuple(dict.fromkeys([*self.image.flags, *self.result.flags]))


class Chain:
    """Models one after another, as ``--before`` and ``--then`` of `anatozoo predict` put them together.

    Results have the pixels of the image that was given, and say in `translated_by` who translated it.

    Args:
        *steps: loaded checkpoints or their names: any number of translators, one that segments 2-D images,
            and perhaps one that repairs what it draws.

    Raises:
        ConfigError: the steps do not follow one another so, or neighbours do not go together.
    """

    def __init__(self, *steps: Any) -> None:
        self.steps = tuple(_loaded(step) for step in steps)
        count = sum(isinstance(step, TranslateTask) for step in self.steps)
        self.translators, rest = self.steps[:count], self.steps[count:]
        if not 1 <= len(rest) <= 2 or any(isinstance(step, TranslateTask) for step in rest):
            names = ", ".join(step.checkpoint_name for step in self.steps)
            raise ConfigError(
                f"a chain is translators, one segmenter, and perhaps one repair, in this order, not {names}."
            )
        self.model, self.repairs = rest[0], rest[1:]
        for translator in self.translators:
            check_translator(translator, self.model)
        for repair in self.repairs:
            check_organs(self.model, repair)

    def predict(self, x: Any, **reading: Any) -> Any:
        """The result of the last model for one image.

        Args:
            x: whatever `anatozoo.io.images.read_image` reads.
            **reading: its arguments: `spacing_mm` as (x, y), `invert`, `allow_any_modality`.

        Raises:
            ImageError: the image cannot be read.
        """
        from anatozoo.io.images import read_image

        return self.run([read_image(x, **reading)])[0].result

    def predict_batch(
        self, xs: Iterable[Any], batch_size: int = 8, *, on_error: str = "raise", **reading: Any
    ) -> Iterator[Any]:
        """The results for many images, `batch_size` at a time, in order.

        Args:
            xs: whatever `predict` takes.
            batch_size: how many are computed together.
            on_error: ``"raise"``, or ``"record"``, see `anatozoo.tasks.base.in_batches`.
            **reading: see `predict`.

        Raises:
            ConfigError: `batch_size` is below 1, or on_error is neither.
            ImageError: an image cannot be read.
        """
        from anatozoo.io.images import read_image

        return in_batches(
            xs,
            batch_size,
            lambda x: read_image(x, **reading),
            lambda images: [each.result for each in self.run(images)],
            on_error,
        )

    def run(self, images: Sequence[Image], *, together: bool = True) -> list[Chained]:
        """What all models make of images that are read.

        Args:
            images: the images.
            together: compute them together; else one by one, by the models' ``predict``.
        """
        seen = list(images)
        for translator in self.translators:
            found = _ask(translator, seen, together)
            seen = [in_the_look(image, each) for image, each in zip(seen, found, strict=True)]
        drawn = _ask(self.model, seen, together)
        by = tuple(f"{each.checkpoint_name} {each.checkpoint_version}" for each in self.translators)
        if by:
            drawn = [
                replace(each, pixels=image.pixels, translated_by=by)
                for image, each in zip(images, drawn, strict=True)
            ]
        results = [drawn]
        for repair in self.repairs:
            repaired = _ask(repair, results[-1], together)
            if by:
                # A repair sees masks alone, so that what a translation is flagged for is added here.
                repaired = [
                    replace(each, translated_by=by, flags=(*_added(image, look), *each.flags))
                    for image, look, each in zip(images, seen, repaired, strict=True)
                ]
            results.append(repaired)
        return [Chained(image, tuple(own)) for image, *own in zip(images, *results, strict=True)]


def check_translator(translator: TranslateTask, model: Any) -> None:
    """Refuse a translator of other images than those that a segmenter takes.

    Modality and anatomy are compared where the manifest says them of both.

    Raises:
        ConfigError: the segmenter takes volumes or crops, or images of another modality or part of the body.
    """
    first, second = translator.checkpoint_name, model.checkpoint_name
    if len(getattr(model, "shape", (0, 0))) != 2:
        raise ConfigError(f"{first} translates 2-D images, and {second} segments volumes.")
    fit = getattr(getattr(model, "frame", None), "fit", translator.frame.fit)
    if fit != translator.frame.fit:
        raise ConfigError(
            f"{first} was trained on whole images (fit {translator.frame.fit}), and {second} sees them in a "
            f"frame of fit {fit}; take a translator of that frame."
        )
    seen = [_what_it_takes(each) for each in (first, second)]
    if None not in seen and seen[0] != seen[1]:
        raise ConfigError(
            f"{first} translates {seen[0]}, and {second} segments {seen[1]}; take a translator of that."
        )


def check_organs(model: Any, repair: Any) -> None:
    """Make sure that masks of one model can be given to the other: organs have names, and names must match.

    A repair that knows more organs than there are is none the worse; pairs such as ``"lungs"`` take their two
    parts.

    Raises:
        ConfigError: they cannot.
    """
    from anatozoo.organs import PAIRS

    first, second = model.checkpoint_name, repair.checkpoint_name
    if len(repair.shape) != 2:
        raise ConfigError(f"{second} repairs volumes, and {first} segments 2-D images.")
    known = list(repair.organs)
    accepted = {*known, *(part for organ in known for part in PAIRS.get(organ, ()))}
    if unknown := [organ for organ in model.organs if organ not in accepted]:
        raise ConfigError(
            f"{first} draws {', '.join(unknown)}, which {second} does not know; that repairs "
            f"{', '.join(known)}. Choose a checkpoint for these organs."
        )


def _added(image: Image, look: Image) -> list[str]:
    """The flags that translations have added to those of an image."""
    return [flag for flag in look.flags if flag not in image.flags]


def _ask(model: Any, given: Sequence[Any], together: bool) -> list[Any]:
    """What a model makes of images, or of segmentations."""
    if together:
        return list(model.predict_batch(given, batch_size=len(given)))
    return [model.predict(each) for each in given]


def _loaded(step: Any) -> Any:
    if not isinstance(step, str):
        return step
    from anatozoo.zoo.hub import load

    return load(step, trainable=False)


def _what_it_takes(name: str) -> str | None:
    """Modality and anatomy of a checkpoint's input, as the manifest has them."""
    from anatozoo.zoo.catalogue import checkpoints

    spec = next((spec for spec in checkpoints() if spec.name == name), None)
    return None if spec is None else f"{spec.input.modality} of the {spec.input.anatomy}"
