"""``anatozoo card``: the model card of a checkpoint."""

import argparse

from anatozoo.cli.described import SOURCE_HELP, facts_of_files
from anatozoo.text import printable
from anatozoo.zoo.card import card
from anatozoo.zoo.catalogue import info, is_private


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command's arguments."""
    parser.add_argument("name", metavar="NAME", help=SOURCE_HELP)


def run(args: argparse.Namespace) -> int:
    """Print the card as Markdown."""
    facts = facts_of_files(args.name)
    text = card(info(args.name), private=is_private(args.name)) if facts is None else printable(facts.card())
    print(text, end="")
    return 0
