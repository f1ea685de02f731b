"""``anatozoo phenotypes``: meshes become a table of a few numbers each."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from anatozoo.cli.predict_report import EXIT_SOME_FAILED
from anatozoo.cli.run_options import add_device, add_report_options, load_named
from anatozoo.errors import AnatozooError, ConfigError, DataError

if TYPE_CHECKING:
    import numpy.typing as npt

    from anatozoo.metrics.latents import Phenotype
    from anatozoo.tasks.meshes import MeshTask, Phenotypes

CHECKPOINT = "meshvae-acdc"
LATENTS = "_latents.csv"
_DESCRIPTION = """\
Describe meshes of hearts, or of another organ in correspondence, by a few
numbers, which a variational autoencoder has learned from meshes alone.

MESHES are files NAME_mesh.safetensors or folders of them, as `anatozoo meshes`
writes them; for a checkpoint of other anatomy PLY, STL, OBJ or VTK files with
the triangles of its template, in millimetres. FILE receives a row for each:
status, why it failed, flags, the distance between the mesh and its
reconstruction, and the code z1, z2, ... One that cannot be used does not stop
the others.

No two trainings find the same numbers. With several checkpoints, latents that
correlate over the meshes are one phenotype: FILE has p1, p2, ... instead, those
that most runs found first, and FILE_latents.csv says what belongs to which."""
_EPILOG = """\
examples:
  anatozoo meshes acdc/ --out meshes
  anatozoo phenotypes meshes/ --out z.csv --traversals z.png
  anatozoo phenotypes meshes/ --checkpoint run{1..10}/last.ckpt --out p.csv

exit codes: 0 all meshes done, 1 error, 2 wrong usage, 3 some meshes failed"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``anatozoo phenotypes``."""
    parser.description, parser.epilog = _DESCRIPTION, _EPILOG
    parser.add_argument("meshes", metavar="MESHES", nargs="+", help="folders or files of meshes")
    parser.add_argument("--out", metavar="FILE", required=True, help="write the table to this CSV file")
    parser.add_argument(
        "--checkpoint",
        metavar="NAME",
        nargs="+",
        default=[CHECKPOINT],
        help=f"use this checkpoint, or several runs (default: {CHECKPOINT})",
    )
    parser.add_argument(
        "--alike",
        type=float,
        metavar="R",
        help="latents of two runs are one phenotype from this absolute correlation on (default: 0.8)",
    )
    parser.add_argument(
        "--traversals",
        metavar="PICTURE",
        help="draw in this PNG what each latent of one checkpoint changes",
    )
    add_device(parser)
    add_report_options(parser)


class _Row(NamedTuple):
    """A mesh: what each run says of it, or why it failed."""

    mesh: str
    found: list[Phenotypes]
    reason: str = ""


def run(args: argparse.Namespace) -> int:
    """Run ``anatozoo phenotypes``.

    Returns:
        0 if all meshes were described, 3 if some failed.

    Raises:
        AnatozooError: there is no mesh, no such checkpoint, or nowhere to write.
    """
    from anatozoo.io.figures import figure_bytes
    from anatozoo.io.writers import check_plain, write_bytes, write_csv
    from anatozoo.metrics.latents import ALIKE, match_latents

    out, several = Path(args.out), len(args.checkpoint) > 1
    beside = out.with_name(out.name.removesuffix(".csv") + LATENTS)
    for path in (out, *[beside] * several, *[args.traversals] * bool(args.traversals)):
        check_plain(path)
    if several and args.traversals:
        raise ConfigError("--traversals draws the latents of one checkpoint; name one.")
    if not several and args.alike is not None:
        raise ConfigError("--alike matches latents of several checkpoints; name more than one.")
    if len(set(args.checkpoint)) < len(args.checkpoint):
        raise ConfigError("a checkpoint is named twice; its latents would match themselves.")
    if args.traversals and not args.traversals.lower().endswith(".png"):
        raise ConfigError(f"--traversals {args.traversals} must end in .png.")
    alike = ALIKE if args.alike is None else args.alike
    if not 0 < alike <= 1:
        raise ConfigError(f"--alike {alike} must be above 0 and at most 1.")
    models = _models(args.checkpoint, args.device)
    if args.traversals and models[0].template is not None:
        raise ConfigError("--traversals draws hearts alone; leave it out for meshes of other anatomy.")
    paths = find_meshes(args.meshes, models[0].endings)
    _enough(len(paths), several=several, traversals=args.traversals)
    rows = _described(paths, models)
    good = [row for row in rows if row.found]
    failed = len(rows) - len(good)
    done = {"out": str(out), "total": len(rows), "described": len(good), "failed": failed}
    about: dict[str, Any]
    counts: list[int] = []
    if not several:
        [model] = models
        names = [f"z{number}" for number in range(1, model.latents + 1)]
        numbers = [_cells(row.found[0].code) for row in good]
        about = {"checkpoint": model.checkpoint_name, "version": model.checkpoint_version}
    else:
        _enough(len(good), several=True)
        _check_different(args.checkpoint, _codes(good))
        found = match_latents(_codes(good), alike)
        names = [f"p{number}" for number in range(1, len(found) + 1)]
        numbers = [_cells([each.values[place] for each in found]) for place in range(len(good))]
        write_csv(beside, _LATENTS_HEADER, _latent_rows(found, args.checkpoint, models, good))
        counts = [len(each.latents) for each in found]
        about = {"checkpoints": args.checkpoint, "latents": str(beside), "runs_of_phenotypes": counts}
    cells = iter(numbers)
    table = [
        [row.mesh, "ok", "", _flags(row.found), _rms(row.found), *next(cells)]
        if row.found
        else [row.mesh, "failed", row.reason, "", None]
        for row in rows
    ]
    write_csv(out, ("mesh", "status", "reason", "flags", models[0].columns()[0], *names), table)
    if args.traversals:
        _enough(len(good), traversals=args.traversals)
        [codes] = _codes(good)
        write_bytes(args.traversals, figure_bytes(models[0].plot_traversals(codes)))
        done["traversals"] = args.traversals
    if args.json:
        print(json.dumps({**about, **done}))
    elif not args.quiet:
        meshes = f"{len(rows)} mesh{'es' * (len(rows) > 1)}"
        print(f"{meshes}: {len(good)} described, {failed} failed. Table: {args.out}")
        if several:
            most, half = counts.count(len(models)), sum(2 * count >= len(models) for count in counts)
            print(
                f"{len(counts)} phenotypes of {len(models)} runs: {half} in at least half of them, {most} in "
                f"all. Latents: {beside}"
            )
    return EXIT_SOME_FAILED if failed else 0


_LATENTS_HEADER = ("checkpoint", "latent", "phenotype", "runs", "sign", "r", "spread")


def _models(names: list[str], device: str) -> list[MeshTask]:
    from anatozoo.tasks.meshes import MeshTask

    models: list[MeshTask] = []
    for name in names:
        model = load_named(name, device)
        if not isinstance(model, MeshTask):
            raise ConfigError(f"{name} describes no meshes; use {CHECKPOINT}.")
        models.append(model)
    if len({model.endings for model in models}) > 1:
        raise ConfigError("some of the checkpoints describe hearts, some meshes of other anatomy.")
    if len(units := sorted({model.units for model in models})) > 1:
        raise ConfigError(f"the checkpoints work in different units, {' and '.join(units)}.")
    return models


def _described(paths: list[Path], models: list[MeshTask]) -> list[_Row]:
    rows = []
    for path in paths:
        try:
            rows.append(_Row(str(path), [model.phenotypes(path) for model in models]))
        except AnatozooError as error:
            rows.append(_Row(str(path), [], str(error)))
            print(f"anatozoo: failed: {str(path)!r}: {error}", file=sys.stderr)
    return rows


def _cells(values: Any) -> list[str]:
    return [f"{value:.6g}" for value in values]


def _flags(found: list[Phenotypes]) -> str:
    return ";".join(dict.fromkeys(flag for each in found for flag in each.flags))


def _rms(found: list[Phenotypes]) -> str:
    """The distance from the reconstruction, of several runs their mean."""
    return f"{sum(each.rms for each in found) / len(found):.4f}"


def _codes(rows: list[_Row]) -> list[npt.NDArray[Any]]:
    """Of each run the codes (n, latents)."""
    import numpy as np

    return [np.stack(each) for each in zip(*([p.code for p in row.found] for row in rows), strict=True)]


def _enough(count: int, *, several: bool = False, traversals: str | None = None) -> None:
    """Make sure that there are meshes enough for what is asked."""
    from anatozoo.metrics.latents import FEWEST_SHAPES

    if several and count < FEWEST_SHAPES:
        raise DataError(
            f"of {count} meshes nothing can be matched; latents of several runs are matched over at least "
            f"{FEWEST_SHAPES}, because over fewer some correlate by chance."
        )
    if traversals and count < 2:
        raise DataError("--traversals needs the codes of at least two meshes.")


def _check_different(names: list[str], codes: list[npt.NDArray[Any]]) -> None:
    """Make sure that no training is there twice under two names."""
    import numpy as np

    for number, (name, code) in enumerate(zip(names, codes, strict=True)):
        for other, before in zip(names[:number], codes, strict=False):
            if np.array_equal(code, before):
                raise ConfigError(f"{other} and {name} are one training; its latents would match themselves.")


def _latent_rows(
    found: list[Phenotype], names: list[str], models: Sequence[MeshTask], rows: list[_Row]
) -> list[list[object]]:
    """A row for each latent of each run; one that varies too little to be in use has no phenotype."""
    import numpy as np

    codes = _codes(rows)
    owner = {
        (each.run, each.number): (number, phenotype, each.sign)
        for number, phenotype in enumerate(found, start=1)
        for each in phenotype.latents
    }
    table: list[list[object]] = []
    for run_number, (name, model) in enumerate(zip(names, models, strict=True)):
        for latent in range(model.latents):
            values = codes[run_number][:, latent]
            spread = f"{values.std():.4f}"
            if (run_number, latent) not in owner:
                table.append([name, f"z{latent + 1}", "", 0, "", "", spread])
                continue
            number, phenotype, sign = owner[run_number, latent]
            r = sign * float(np.corrcoef(values, phenotype.values)[0, 1])
            runs = len(phenotype.latents)
            table.append([name, f"z{latent + 1}", f"p{number}", runs, sign, f"{r:.4f}", spread])
    return table


def find_meshes(given: list[str], endings: tuple[str, ...]) -> list[Path]:
    """The meshes that files and folders stand for, each once.

    Args:
        given: files and folders.
        endings: what names of meshes end in.

    Raises:
        DataError: an argument leads to none.
    """
    found: dict[Path, None] = {}
    for text in given:
        path = Path(text).expanduser()
        files = sorted(path.rglob("*")) if path.is_dir() else [path]
        meshes = [each for each in files if each.name.lower().endswith(endings) and each.is_file()]
        if not meshes:
            raise DataError(
                f"{text!r} is no file NAME{' or NAME'.join(endings)} and no folder with any; see "
                "`anatozoo meshes`."
            )
        found.update(dict.fromkeys(meshes))
    return list(found)
