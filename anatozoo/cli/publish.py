"""``anatozoo publish``: upload a checkpoint to the Hugging Face Hub, and verify what arrived."""

import argparse
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from anatozoo.errors import ConfigError

if TYPE_CHECKING:
    from anatozoo.zoo.publish import Published

TRAINING_SUFFIX = ".ckpt"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command's arguments."""
    parser.add_argument(
        "source",
        metavar="NAME|DIR|CKPT",
        help="checkpoint: a name, a folder, or the .ckpt file of a training run",
    )
    parser.add_argument(
        "--repo-id", metavar="ORG/NAME", required=True, help="repository; created if it does not exist"
    )
    parser.add_argument("--private", action="store_true", help="create a private repository")
    parser.add_argument(
        "--message", metavar="TEXT", help="commit message (default: name and version of the checkpoint)"
    )
    parser.add_argument(
        "--write-manifest",
        action="store_true",
        help="also write commit, sizes and hashes into the manifest that lists NAME (default: print them)",
    )
    card = parser.add_argument_group("model card (README.md)")
    card.add_argument(
        "--card", metavar="FILE", type=Path, help="publish this card instead of the generated one"
    )
    edited = card.add_mutually_exclusive_group()
    edited.add_argument(
        "--replace-card", action="store_true", help="overwrite the card even if it was edited on the Hub"
    )
    edited.add_argument("--keep-card", action="store_true", help="leave the card on the Hub as it is")
    run_ = parser.add_argument_group("only for a training run (CKPT)")
    run_.add_argument(
        "--as", dest="name", metavar="NAME", help="name of the checkpoint: METHOD-DATA[-VARIANT]"
    )
    run_.add_argument("--version", metavar="X.Y.Z", help="version of the checkpoint (default: 1.0.0)")
    run_.add_argument(
        "--golden-image",
        metavar="FILE",
        type=Path,
        nargs="+",
        help="image of the golden test; two for registration. It is published: never name a patient's image "
        "(default: an image that is free to share)",
    )
    run_.add_argument(
        "--last-weights", action="store_true", help="publish the weights of the last step, not their average"
    )
    parser.epilog = (
        "Log in first: set HF_TOKEN or run `hf auth login`. After an interruption run the\n"
        "same command again; files that have arrived are not sent twice.\n\n"
        "example:\n"
        "  anatozoo publish last.ckpt --as unet-clinic --repo-id our-clinic/unet-clinic"
    )


def run(args: argparse.Namespace) -> int:
    """Publish and print what is on the Hub now, then the manifest's entry."""
    from anatozoo.zoo.publish import publish

    options = {
        key: getattr(args, key)
        for key in ("private", "card", "replace_card", "keep_card", "message", "write_manifest")
    }
    if args.source.endswith(TRAINING_SUFFIX):
        found = _publish_run(args, options)
    else:
        used = [
            option
            for option, value in (
                ("--as", args.name),
                ("--version", args.version),
                ("--golden-image", args.golden_image),
                ("--last-weights", args.last_weights),
            )
            if value
        ]
        if used:
            raise ConfigError(f"{', '.join(used)} is for the .ckpt file of a training run; leave it out.")
        found = publish(args.source, args.repo_id, **options)
    release = found.release
    state = "new commit" if found.new_commit else "nothing to send, all was there"
    print(f"{found.name} {found.tag}: {found.page}, {state}, card {found.card}")
    for name, record in release.files.items():
        print(f"  {name:<20}{record.size:>10} bytes  {record.sha256[:16]}...")
    print("  read back and verified")
    print(f"  golden test: {found.golden}")
    print(f'  load it: anatozoo.load("hf:{release.repo_id}@{release.revision}")')
    if found.manifest is not None:
        print(f"  entry written to {found.manifest}; `python -m anatozoo.zoo.maintain all` renews the cards")
    else:
        print(f"\nEntry for the manifest:\n\n{found.entry}", end="")
    return 0


def _publish_run(args: argparse.Namespace, options: dict[str, object]) -> "Published":
    from anatozoo.training.export import export_run
    from anatozoo.zoo.publish import publish

    if args.name is None:
        raise ConfigError(f"{args.source} is a training run: name the checkpoint by --as METHOD-DATA.")
    with TemporaryDirectory(prefix="anatozoo-") as folder:
        target = Path(folder) / args.name
        export_run(
            args.source,
            args.name,
            target,
            version=args.version or "1.0.0",
            averaged=not args.last_weights,
            images=args.golden_image or (),
        )
        return publish(target, args.repo_id, **options)  # type: ignore[arg-type]
