"""``anatozoo publish``: put a checkpoint on the Hugging Face Hub, and check what arrived."""

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
        help="a checkpoint's name, its folder, or the .ckpt file of `anatozoo fit`",
    )
    parser.add_argument("--repo-id", metavar="ORG/NAME", required=True, help="repository, made where missing")
    parser.add_argument("--private", action="store_true", help="make it a private repository")
    parser.add_argument("--message", metavar="TEXT", help="first line of the commit (default: name, version)")
    parser.add_argument(
        "--write-manifest",
        action="store_true",
        help="write commit, sizes and hashes into the manifest that lists NAME, not only print the entry",
    )
    card = parser.add_argument_group("the card (README.md)")
    card.add_argument("--card", metavar="FILE", type=Path, help="publish this one, not the generated one")
    edited = card.add_mutually_exclusive_group()
    edited.add_argument(
        "--replace-card", action="store_true", help="overwrite a card that was edited on the Hub"
    )
    edited.add_argument("--keep-card", action="store_true", help="leave the card on the Hub as it is")
    run_ = parser.add_argument_group("a training run (CKPT)")
    run_.add_argument("--as", dest="name", metavar="NAME", help="name of the checkpoint, METHOD-...")
    run_.add_argument("--version", metavar="X.Y.Z", help="its version (default: 1.0.0)")
    run_.add_argument(
        "--golden-image",
        metavar="FILE",
        type=Path,
        nargs="+",
        help="picture of the golden test, which is published: never a patient's "
        "(default: a free radiograph; a registration takes two)",
    )
    run_.add_argument(
        "--last-weights", action="store_true", help="the last step's weights in place of their average"
    )
    parser.epilog = (
        "The token comes from HF_TOKEN or `hf auth login`. After an interruption run\n"
        "the same command again: what is there already is not sent twice."
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
