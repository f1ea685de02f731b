"""``anatozoo card``: the model card of a checkpoint."""

import argparse

from anatozoo.zoo.card import card
from anatozoo.zoo.catalogue import info, is_private


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command's arguments."""
    parser.add_argument("name", metavar="NAME", help="a checkpoint's name; `anatozoo list` shows them")


def run(args: argparse.Namespace) -> int:
    """Print the card as Markdown."""
    print(card(info(args.name), private=is_private(args.name)), end="")
    return 0
