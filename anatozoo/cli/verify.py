"""``anatozoo verify``: check that files are the published ones, and that they give the stored results."""

import argparse
import sys

from anatozoo.errors import AnatozooError
from anatozoo.zoo.catalogue import select
from anatozoo.zoo.hub import is_local
from anatozoo.zoo.verification import verify


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command's arguments."""
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "names",
        metavar="NAME",
        nargs="*",
        default=[],
        help="names or folders of checkpoints (default: all on this machine but those of experiments)",
    )
    which.add_argument(
        "--all",
        action="store_true",
        help="check every checkpoint of the zoo; one that is not on this machine counts as failed",
    )
    parser.add_argument(
        "--golden", action="store_true", help="also run the stored inputs and compare with the stored results"
    )


def run(args: argparse.Namespace) -> int:
    """Check each checkpoint; one that fails does not stop the others."""
    specs = () if args.names else select()
    names = args.names or [spec.name for spec in specs if args.all or is_local(spec)]
    absent = [spec.name for spec in specs if spec.name not in names]
    failed = 0
    for name in names:
        try:
            found = verify(name, golden=args.golden)
        except AnatozooError as error:
            print(f"{name}: FAILED: {error}", file=sys.stderr)
            failed += 1
            continue
        compared = (
            "as in the manifest" if found.checked else "not in the manifest, so nothing to compare with"
        )
        print(f"{found.name} {found.folder}")
        for file, record in found.files.items():
            print(f"  {file:<20}{record.size:>10} bytes  {record.sha256[:16]}...")
        print(f"  files: {compared}")
        if found.golden is not None:
            print(f"  golden test: {found.golden}")
        elif args.golden:
            print("  golden test: none is stored for these weights of an experiment")
    for name in absent:
        print(f"{name}: not on this machine; `anatozoo download {name}` fetches it")
    if args.all:
        print(f"{len(names) - failed} of {len(names)} checkpoints are as the manifest says")
    return 1 if failed else 0
