"""``anatozoo roots``: masks of root systems become lines, RSML and growth over time."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from anatozoo.cli.evaluate_options import positive
from anatozoo.cli.predict_report import EXIT_SOME_FAILED
from anatozoo.cli.run_options import add_report_options
from anatozoo.errors import ConfigError, DataError, ImageError

_DESCRIPTION = """\
Trace the roots of plants in masks, from the seed of each plant: the main root,
its laterals, their lengths, and their growth over the frames of a time lapse.

MASKS are files, or folders of them, in the order of their names (frame 2
before frame 10); of one that `anatozoo predict` wrote, its label maps. Every
pixel that is not 0 is root. Several are the frames of one camera, in which
roots keep their names.

DIR receives frames.csv (lengths in pixels and number of laterals, a row for
each plant and frame), roots.rsml (the last frame that shows it, a plant each),
roots.png (a picture of them) and, of frames over an hour or more, growth.csv
(hourly lengths, speed and densities). A frame without a root is a row that
says so, and stops nothing."""
_EPILOG = """\
flags:
  loop            roots touch, and the shortest way was taken
  leaves_picture  a root ends at the border: what is measured is too short
  fills_picture   over a fifth of the picture is root: is this a mask?
  seed_moved      no root is at the seed; the nearest place was taken
  tip_lost        nothing is near the main tip of the frame before

examples:
  anatozoo roots plate.png --seed 412,98 --pixel-mm 0.04 --out roots
  anatozoo roots frames/ --seed 150,60 --seed 480,62 --minutes 15 --out roots

Needs the extra "roots": pip install "anatozoo[roots]".

exit codes: 0 all done, 1 error, 2 wrong usage, 3 some frames failed"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``anatozoo roots``."""
    parser.description, parser.epilog = _DESCRIPTION, _EPILOG
    parser.set_defaults(usage_error=parser.error)
    parser.add_argument("masks", metavar="MASKS", nargs="+", help="files or folders of masks")
    parser.add_argument(
        "--seed",
        dest="seeds",
        metavar="X,Y",
        type=_place,
        action="append",
        required=True,
        help="column and row of a plant's seed in pixels, from the upper left; once for each plant",
    )
    parser.add_argument("--out", metavar="DIR", required=True, help="write the results to this folder")
    parser.add_argument(
        "--minutes", type=positive, default=15.0, help="between two frames, at most 60 (default: 15)"
    )
    parser.add_argument(
        "--pixel-mm", type=positive, help="side of a pixel in mm; growth.csv and RSML are then in mm"
    )
    parser.add_argument(
        "--memory",
        metavar="SHARE",
        type=float,
        default=0.0,
        help="add this share of the frames before to each frame, 0.8 in ChronoRoot: gaps of single frames "
        "close, and noise adds up (default: 0)",
    )
    add_report_options(parser)


def run(args: argparse.Namespace) -> int:
    """Run ``anatozoo roots``.

    Returns:
        0 if every plant was traced in every frame, 3 if some were not.

    Raises:
        AnatozooError: there is no mask, no root at all, or nowhere to write.
    """
    import pandas as pd
    from rich.console import Console
    from rich.progress import track

    from anatozoo.io.writers import make_folder, write_bytes, write_csv
    from anatozoo.roots.draw import picture_of
    from anatozoo.roots.growth import frame_table, growth_table
    from anatozoo.roots.rsml import write_rsml
    from anatozoo.roots.system import RootSystem
    from anatozoo.roots.tracking import Follower, accumulated

    _need_skimage()
    paths = find_frames(args.masks)
    if args.minutes > 60:
        args.usage_error("--minutes must be at most 60: growth is told by the hour.")
    if len(set(args.seeds)) < len(args.seeds):
        args.usage_error("a --seed is given twice; each is a plant.")
    folder = make_folder(args.out)
    plants = [Follower(seed, f"plant {number}") for number, seed in enumerate(args.seeds, start=1)]
    found: list[list[RootSystem | DataError]] = [[] for _ in plants]
    shown: Any = None
    quiet = args.quiet or args.json or not sys.stderr.isatty()
    masks = track(_masks(paths), "frames", len(paths), console=Console(stderr=True), disable=quiet)
    # Frames are read once for all plants, and none is kept: a time lapse has thousands.
    for mask in accumulated(masks, memory=args.memory):
        for plant, systems in zip(plants, found, strict=True):
            systems.append(plant.add(mask))
        shown = shown if isinstance(mask, DataError) else mask
    tables, hourly = [], []
    for plant, systems in zip(plants, found, strict=True):
        table = frame_table(systems)
        table.insert(0, "plant", plant.name)
        table.insert(1, "file", [path.name for path in paths])
        tables.append(table)
        if plant.last is None:
            print(f"anatozoo: {plant.name}: {systems[-1]}", file=sys.stderr)
            continue
        try:
            growth = growth_table(table, minutes=args.minutes, pixel_mm=args.pixel_mm)
        except DataError as error:
            if len(paths) > 1:
                print(f"anatozoo: {plant.name}: no growth: {error}", file=sys.stderr)
            continue
        growth.insert(0, "plant", plant.name)
        hourly.append(growth)
    last = [plant.last for plant in plants if plant.last is not None]
    if not last:
        where = paths[0].name if len(paths) == 1 else f"any of {len(paths)} frames"
        raise DataError(f"no plant has a root in {where}.")
    frames = pd.concat(tables)
    write_csv(folder / "frames.csv", list(map(str, frames)), _rows(frames))
    write_rsml(folder / "roots.rsml", last, pixel_mm=args.pixel_mm)
    write_bytes(folder / "roots.png", picture_of(shown, last))
    if hourly:
        growth = pd.concat(hourly)
        write_csv(folder / "growth.csv", list(map(str, growth)), _rows(growth))
    else:
        (folder / "growth.csv").unlink(missing_ok=True)  # of an earlier run, about other masks
    failed = int((frames["status"] == "failed").sum())
    if args.json:
        numbers = [
            {"name": s.name, "main_px": s.main.length_px, "laterals_px": s.laterals_px}
            | {"laterals": len(s.laterals), "flags": list(s.flags)}
            for s in last
        ]
        print(json.dumps({"out": args.out, "frames": len(paths), "failed": failed, "plants": numbers}))
    elif not args.quiet:
        what = f"{_many(len(paths), 'frame')}, {_many(len(plants), 'plant')}"
        print(f"{what}, {failed} without a root. Results: {args.out}")
        print("\n".join(_words(system, args.pixel_mm) for system in last))
    return EXIT_SOME_FAILED if failed else 0


def find_frames(given: list[str]) -> list[Path]:
    """The masks of files and folders, those of a folder by their names with numbers as numbers.

    Of a folder that `anatozoo predict` wrote, these are its label maps, one of each image.

    Raises:
        DataError: an argument leads to none.
    """
    from anatozoo.io.files import is_hidden
    from anatozoo.serve.inputs import MASK_SUFFIXES, image_suffix, label_maps
    from anatozoo.serve.manifest import has_manifest

    found: dict[Path, None] = {}
    for text in given:
        path = Path(text).expanduser()
        inside = [path] * path.is_file()
        if path.is_dir():
            names = [each.name for each in path.iterdir()]
            names = label_maps(names) if has_manifest(path) else names
            inside = [path / name for name in sorted(names, key=_by_number) if not is_hidden(name)]
        masks = [each for each in inside if image_suffix(each.name) in MASK_SUFFIXES and each.is_file()]
        if not masks:
            raise DataError(f"{text!r} is no mask and no folder with any ({', '.join(MASK_SUFFIXES)}).")
        found.update(dict.fromkeys(masks))
    return list(found)


def _by_number(name: str) -> list[tuple[int, str]]:
    import re

    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name)]


def _masks(paths: list[Path]) -> Iterator[Any]:
    from anatozoo.io.read import read_labels

    for path in paths:
        try:
            yield read_labels(str(path), 2)[0] != 0
        except ImageError as error:
            yield DataError(str(error))


def _need_skimage() -> None:
    try:
        import skimage  # noqa: F401
    except ImportError as error:
        raise ConfigError(
            "roots are traced by scikit-image, which is not installed: pip install 'anatozoo[roots]'."
        ) from error


def _place(text: str) -> tuple[float, float]:
    try:
        x, y = (float(part) for part in text.split(","))
    except ValueError:
        x = y = float("nan")
    if not (0 <= x < 1e6 and 0 <= y < 1e6):
        raise argparse.ArgumentTypeError(f"{text!r} must be a column and a row, such as 150,60.")
    return x, y


def _rows(table: Any) -> list[list[Any]]:
    rows: list[list[Any]] = table.astype(object).where(table.notna(), None).to_numpy().tolist()
    return [[round(value, 4) if isinstance(value, float) else value for value in row] for row in rows]


def _many(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def _words(system: Any, pixel_mm: float | None) -> str:
    factor, unit = (1.0, "px") if pixel_mm is None else (pixel_mm, "mm")
    flags = f"; {', '.join(system.flags)}" if system.flags else ""
    return (
        f"  {system.name}: main root {factor * system.main.length_px:.1f} {unit}, "
        f"{_many(len(system.laterals), 'lateral')} of together {factor * system.laterals_px:.1f} {unit}"
        f"{flags}"
    )
