"""The command line ``anatozoo``: one binary, each command imported only when it is chosen.

A command is a module with ``add_arguments(parser)`` and ``run(args) -> int``. Exit codes: 0 ok, 1 error,
2 usage, 3 finished with failed images, 130 interrupted, 143 ended by SIGTERM (fits).
"""

import argparse
import difflib
import importlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass

import anatozoo
from anatozoo.cli.completion import SHELLS, script
from anatozoo.cli.output import safe_streams
from anatozoo.errors import AnatozooError

EXIT_ERROR = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130
EXIT_BROKEN_PIPE = 141


@dataclass(frozen=True)
class Command:
    """A command: where it lives and what it does, one line."""

    module: str
    summary: str


GROUPS: dict[str, dict[str, Command]] = {
    "Predict": {
        "predict": Command("anatozoo.cli.predict", "segment images, repair masks or register pairs"),
        "annotate": Command("anatozoo.cli.annotate", "annotate whole archives, on one machine or a cluster"),
        "landmarks": Command("anatozoo.cli.landmarks", "turn masks into landmarks with correspondences"),
        "meshes": Command("anatozoo.cli.meshes", "turn masks of hearts into surfaces with correspondences"),
        "roots": Command("anatozoo.cli.roots", "trace roots of plants in masks, and their growth"),
        "app": Command("anatozoo.cli.app", "show a page in the browser, to look at one image at a time"),
        "serve": Command("anatozoo.cli.serve", "answer images over HTTP, for programs of a hospital"),
        "demo": Command("anatozoo.cli.demo", "segment a chest radiograph that comes with the demo"),
    },
    "Measure": {
        "evaluate": Command("anatozoo.cli.evaluate", "compare predictions with the ground truth"),
        "quality": Command("anatozoo.cli.quality", "estimate the quality of masks without ground truth"),
        "phenotypes": Command(
            "anatozoo.cli.phenotypes", "describe meshes of hearts and other organs by a few numbers"
        ),
        "compare": Command("anatozoo.cli.compare", "compare two evaluations image by image"),
        "audit": Command("anatozoo.cli.audit", "test whether accuracy differs between groups of patients"),
    },
    "Checkpoints": {
        "list": Command("anatozoo.cli.list", "list the available checkpoints"),
        "info": Command("anatozoo.cli.info", "describe a checkpoint: input, output, accuracy, licence"),
        "card": Command("anatozoo.cli.card", "print the model card of a checkpoint"),
        "download": Command(
            "anatozoo.cli.download", "download checkpoints, also for a machine without internet"
        ),
        "verify": Command(
            "anatozoo.cli.verify", "check the files of checkpoints and, on demand, their results"
        ),
        "export": Command(
            "anatozoo.cli.export", "make a checkpoint of a training run, or a graph of a network"
        ),
        "ensemble": Command("anatozoo.cli.ensemble", "put several checkpoints together as one"),
        "calibrate": Command("anatozoo.cli.calibrate", "fit the temperature of a segmenter's probabilities"),
        "publish": Command("anatozoo.cli.publish", "upload a checkpoint to the Hugging Face Hub"),
        "convert": Command("anatozoo.cli.convert", "turn weights that others released into a checkpoint"),
    },
    "Check": {
        "doctor": Command("anatozoo.cli.doctor", "check this installation, or the folder of a data set"),
    },
    "Train (options of PyTorch Lightning)": {
        "fit": Command("anatozoo.cli.fit", "train or fine-tune a method"),
        "validate": Command("anatozoo.cli.fit", "measure a trained model on the validation split"),
        "test": Command("anatozoo.cli.fit", "measure a trained model on the test split"),
    },
}
COMMANDS = {name: command for group in GROUPS.values() for name, command in group.items()}
FORWARDED = ("fit", "validate", "test")

_EXAMPLES = """\
examples:
  anatozoo demo --out demo
  anatozoo predict hybridgnet-chexmask scans/ --out out
  anatozoo list --anatomy chest

`anatozoo COMMAND --help` explains a command."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: arguments without the program's name; default is ``sys.argv[1:]``.

    Returns:
        The exit code.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    name = arguments[0] if arguments else ""
    # Lightning and the Hub's client draw progress bars, whose commands to the terminal are their own.
    with safe_streams(output=name not in FORWARDED, errors=name not in (*FORWARDED, "publish")):
        return _answer(arguments)


def _answer(arguments: list[str]) -> int:
    try:
        code = _dispatch(arguments)
        # Flushed here, where a closed pipe or a full disk can still be answered.
        sys.stdout.flush()
        return code
    except AnatozooError as error:
        print(f"anatozoo: error: {error}", file=sys.stderr)
        return EXIT_ERROR
    except KeyboardInterrupt:
        print("anatozoo: interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # `anatozoo list | head -1`: nobody reads on, and nothing is wrong.
        return EXIT_BROKEN_PIPE
    except SystemExit as stop:
        # argparse ends the process after --help and usage errors; callers of `main` get a number instead.
        if isinstance(stop.code, str):
            print(stop.code, file=sys.stderr)
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)


def _dispatch(arguments: list[str]) -> int:
    if not arguments:
        _top_parser().print_help()
        return EXIT_USAGE
    name, *rest = arguments
    if name not in COMMANDS:
        if not name.startswith("-"):
            close = difflib.get_close_matches(name, COMMANDS, n=1)
            hint = f"did you mean {close[0]}?" if close else "see `anatozoo --help`."
            _top_parser().error(f"there is no command {name!r}; {hint}")
        shell = _top_parser().parse_args(arguments).print_completion
        if shell is not None:
            print(script(shell, COMMANDS, FORWARDED))
            return 0
        _top_parser().error("write a command first; see `anatozoo --help`.")
    command = importlib.import_module(COMMANDS[name].module)
    if name in FORWARDED:
        return int(command.main(arguments) or 0)
    parser = argparse.ArgumentParser(
        prog=f"anatozoo {name}",
        description=_sentence(COMMANDS[name].summary),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    command.add_arguments(parser)
    return int(command.run(parser.parse_args(rest)))


def _top_parser() -> argparse.ArgumentParser:
    lines = [
        "Segment and register medical images with anatomically plausible results.",
        "Not a medical device: for research only.",
        "",
    ]
    for title, commands in GROUPS.items():
        lines += [f"{title}:", *(f"  {name:<10}{c.summary}" for name, c in commands.items()), ""]
    parser = argparse.ArgumentParser(
        prog="anatozoo",
        usage="anatozoo COMMAND [options]",
        description="\n".join(lines).rstrip(),
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--print-completion",
        choices=SHELLS,
        help="print what completes commands, options and names of checkpoints in this shell",
    )
    parser.add_argument("--version", action="version", version=f"anatozoo {anatozoo.__version__}")
    return parser


def _sentence(summary: str) -> str:
    return f"{summary[0].upper()}{summary[1:]}."
