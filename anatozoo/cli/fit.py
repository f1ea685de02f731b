"""``anatozoo fit | validate | test``: Lightning's own command line, one fit or several in a row.

A method may be named at once, ``anatozoo fit METHOD``, or by any of the options that tell it.
"""

import sys

from anatozoo.cli.stages import fit_stages, stages_of
from anatozoo.cli.train import in_order, run_plan
from anatozoo.zoo.registry import METHODS, find_method, methods


def main(argv: list[str] | None = None) -> int:
    """Run one of Lightning's subcommands on a list of arguments; returns the exit code.

    Raises:
        AnatozooError: what the user can correct; the message says how.
    """
    given = list(sys.argv[1:] if argv is None else argv)
    if len(given) > 1 and not given[1].startswith("-"):
        given[1] = f"--method={find_method(given[1]).name}"
    if {"-h", "--help"} & set(given) and not _names_a_method(given):
        # Help needs a method; the first one is the example.
        given.append(f"--method={next(iter(METHODS))}")
        print(f"These are the options of {given[-1].partition('=')[2]}.")
        print(f"`anatozoo {given[0]} METHOD --help` shows those of another method: {_others()}.\n")
    if stages := stages_of(given):
        fit_stages(stages)
    else:
        run_plan(in_order(given))
    return 0


def _names_a_method(argv: list[str]) -> bool:
    options = ("--method", "--config", "--ckpt_path", "--model.init_weights")
    return any(argument.split("=")[0] in options for argument in argv)


def _others() -> str:
    return ", ".join(name for name in methods() if name != next(iter(METHODS)))
