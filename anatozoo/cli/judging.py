"""Options of Reverse Classification Accuracy that commands share."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from anatozoo.cli.evaluate_options import at_least_one, names_list

if TYPE_CHECKING:
    from anatozoo.quality.atlas import Atlas
    from anatozoo.serve.quality import Judge

JUDGING = ("engine", "count")
"""The options of `add_judging`; None where not given."""
Options = argparse.ArgumentParser | argparse._ArgumentGroup


def add_judging(options: Options, engine: str = "--engine") -> None:
    """Declare the registration engines, by an option of this name, and the number of atlas images."""
    options.add_argument(
        engine,
        type=names_list,
        metavar="A,B,...",
        help="registration methods in order (default: acregnet-jsrt)",
    )
    options.add_argument(
        "--count", type=at_least_one, metavar="N", help="use the N most similar atlas images (default: 5)"
    )


def add_selector(options: Options) -> None:
    """Declare the selector of atlas images."""
    options.add_argument(
        "--selector", metavar="NAME", help="how similar atlas images are found (default: thumbnail)"
    )


def add_quality(parser: argparse.ArgumentParser, effect: str, engine: str = "--engine") -> None:
    """Declare ``--quality`` and the options above, for commands that segment.

    Args:
        parser: where.
        effect: what the command does with the atlas.
        engine: option that names the registration engines.
    """
    quality = parser.add_argument_group("estimated quality of each segmentation")
    quality.add_argument(
        "--quality", metavar="ATLAS", help=f"{effect} by this atlas of `anatozoo quality build-atlas`"
    )
    add_selector(quality)
    add_judging(quality, engine)


def judge_of(args: argparse.Namespace, atlas: Atlas, classes: tuple[str, ...] | None = None) -> Judge:
    """The judge of segmentations that the options above describe.

    Args:
        args: the parsed arguments.
        atlas: the atlas.
        classes: names of the values 1, 2, ... of label maps without names.

    Raises:
        DataError: the atlas has no latents of the selector.
    """
    from anatozoo.quality.rca import COUNT
    from anatozoo.quality.selectors import selector_of
    from anatozoo.serve.quality import Judge
    from anatozoo.tasks.engines import LEARNED, engine_of

    engine, selector = engine_of(args.engine or LEARNED), selector_of(args.selector)
    judge = Judge(atlas, engine, args.count or COUNT, classes, selector)
    if judge.count > len(atlas):
        print(
            f"anatozoo: the atlas {atlas.name} has {len(atlas)} images, fewer than the {judge.count} of "
            "--count; each image is compared with all of them.",
            file=sys.stderr,
        )
    if judge.no_intervals:
        print(f"anatozoo: no intervals of Dice: {judge.no_intervals}.", file=sys.stderr)
    return judge
