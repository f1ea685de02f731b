"""``anatozoo phenotypes``: meshes of hearts become a table of a few numbers each."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from anatozoo.cli.predict_report import EXIT_SOME_FAILED
from anatozoo.cli.run_options import add_device, add_report_options, load_named
from anatozoo.errors import AnatozooError, ConfigError, DataError

CHECKPOINT = "meshvae-acdc"
_DESCRIPTION = """\
Describe meshes of hearts by a few numbers, which a variational autoencoder
has learned from meshes alone.

MESHES are files NAME_mesh.safetensors or folders of them, as `anatozoo meshes`
writes them. FILE receives a row for each: status, why it failed, flags, the
distance between the mesh and its reconstruction, and the code z1, z2, ... One
that cannot be used does not stop the others."""
_EPILOG = """\
examples:
  anatozoo meshes acdc/ --out meshes
  anatozoo phenotypes meshes/ --out z.csv

exit codes: 0 all meshes done, 1 error, 2 wrong usage, 3 some meshes failed"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``anatozoo phenotypes``."""
    parser.description, parser.epilog = _DESCRIPTION, _EPILOG
    parser.add_argument("meshes", metavar="MESHES", nargs="+", help="folders or files of meshes")
    parser.add_argument("--out", metavar="FILE", required=True, help="write the table to this CSV file")
    parser.add_argument(
        "--checkpoint",
        metavar="NAME",
        default=CHECKPOINT,
        help=f"use this checkpoint (default: {CHECKPOINT})",
    )
    add_device(parser)
    add_report_options(parser)


def run(args: argparse.Namespace) -> int:
    """Run ``anatozoo phenotypes``.

    Returns:
        0 if all meshes were described, 3 if some failed.

    Raises:
        AnatozooError: there is no mesh, no such checkpoint, or nowhere to write.
    """
    from anatozoo.io.writers import check_plain, write_csv
    from anatozoo.tasks.meshes import MeshTask

    check_plain(args.out)
    paths = find_meshes(args.meshes)
    model = load_named(args.checkpoint, args.device)
    if not isinstance(model, MeshTask):
        raise ConfigError(f"{args.checkpoint} describes no meshes; use {CHECKPOINT}.")
    rows, failed, count = [], 0, 0
    for path in paths:
        try:
            found = model.phenotypes(path)
        except AnatozooError as error:
            failed += 1
            rows.append([str(path), "failed", str(error), "", None])
            print(f"anatozoo: failed: {str(path)!r}: {error}", file=sys.stderr)
            continue
        count = len(found.code)
        code = [f"{value:.6g}" for value in found.code]
        rows.append([str(path), "ok", "", ";".join(found.flags), f"{found.rms:.4f}", *code])
    names = (f"z{number}" for number in range(1, count + 1))
    write_csv(args.out, ("mesh", "status", "reason", "flags", *model.columns()[:1], *names), rows)
    done = {"out": args.out, "total": len(rows), "described": len(rows) - failed, "failed": failed}
    if args.json:
        print(json.dumps({"checkpoint": model.checkpoint_name, "version": model.checkpoint_version} | done))
    elif not args.quiet:
        print(f"{len(rows)} meshes: {len(rows) - failed} described, {failed} failed. Table: {args.out}")
    return EXIT_SOME_FAILED if failed else 0


def find_meshes(given: list[str]) -> list[Path]:
    """The meshes that files and folders stand for, each once.

    Raises:
        DataError: an argument leads to none.
    """
    from anatozoo.meshes.files import ENDING

    found: dict[Path, None] = {}
    for text in given:
        path = Path(text).expanduser()
        whole = path.is_file() and path.name.endswith(ENDING)
        meshes = sorted(path.rglob(f"*{ENDING}")) if path.is_dir() else [path] * whole
        if not meshes:
            raise DataError(
                f"{text!r} is no file NAME{ENDING} and no folder with any; build meshes by `anatozoo meshes`."
            )
        found.update(dict.fromkeys(meshes))
    return list(found)
