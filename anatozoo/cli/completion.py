"""Completion in shells: a script that knows all commands, their options, and the names of checkpoints."""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from anatozoo.errors import ConfigError

SHELLS = ("bash", "zsh", "tcsh")
_FOLDERS = ("DIR",)
_FILES = ("IN", "CSV", "FILE", "PATH", "ATLAS", "MASKS", "IMAGES", "RUN.ckpt", "SCORES.csv", "TABLE.csv")
_TABLES = ("A.csv", "B.csv", "NAME|DIR|CKPT")
_FREE_NAMES = ("export", "publish", "landmarks")
"""Commands whose NAME is a new one, or none of a checkpoint of the zoo."""


def script(shell: str, commands: Mapping[str, Any], forwarded: Collection[str]) -> str:
    """The completion script of a shell.

    Args:
        shell: one of `SHELLS`.
        commands: name -> `anatozoo.cli.main.Command`.
        forwarded: commands whose options Lightning reads.

    Raises:
        ConfigError: the package shtab is not installed.
    """
    try:
        import shtab
    except ImportError as error:
        raise ConfigError(
            "completion needs the package shtab; install it by `pip install 'anatozoo[completion]'`."
        ) from error
    words = {"names": _checkpoints(), "methods": _methods(), "configs": _configs()}
    root = argparse.ArgumentParser(prog="anatozoo")
    root.add_argument("--version", action="store_true", help="show the version")
    subparsers = root.add_subparsers(dest="command")
    for name, command in commands.items():
        parser = subparsers.add_parser(name, help=command.summary)
        if name in forwarded:
            _add_training(parser)
        else:
            importlib.import_module(command.module).add_arguments(parser)
        for action in parser._actions:
            _complete(action, name, words)
    functions = "\n".join(_function(shell, key, found) for key, found in words.items())
    text: str = shtab.complete(root, shell, preamble=functions)
    return text


def _add_training(parser: argparse.ArgumentParser) -> None:
    """The options that a fit usually has; those of models and trainers depend on the method."""
    parser.add_argument("--method", metavar="METHOD", help="name of the method")
    parser.add_argument("--config", metavar="CONFIG", help="a configuration, shipped or of your own")
    parser.add_argument("--data.root", metavar="DIR", help="folder of the data set")
    parser.add_argument("--ckpt_path", metavar="FILE", help="checkpoint of a run to go on from")
    parser.add_argument("--model.init_weights", metavar="NAME", help="weights to start from")
    parser.add_argument("--trainer.max_epochs", metavar="N", help="number of epochs")
    parser.add_argument("--print_config", action="store_true", help="print the complete configuration")


def _complete(action: argparse.Action, command: str, words: Mapping[str, Sequence[str]]) -> None:
    import shtab

    metavar = action.metavar
    kind = {"METHOD": "methods", "CONFIG": "configs", "MEMBER": "names"}.get(str(metavar))
    if metavar == "NAME" and (command not in _FREE_NAMES) and action.dest != "selector":
        kind = "names"
    found: object = None
    if kind is not None:
        found = {
            "bash": f"_anatozoo_{kind}",
            "zsh": f"_anatozoo_{kind}",
            "tcsh": f"`echo {' '.join(words[kind])}`",
        }
    elif metavar in _FOLDERS:
        found = shtab.DIRECTORY
    elif metavar in (*_FILES, *_TABLES):
        found = shtab.FILE
    if found is not None:
        action.complete = found  # type: ignore[attr-defined]


def _function(shell: str, key: str, words: Sequence[str]) -> str:
    """What completes these words, and files, which stand in their place everywhere."""
    listed = " ".join(words)
    if shell == "bash":
        return f'_anatozoo_{key}() {{\n  compgen -W "{listed}" -- "$1"\n  compgen -f -- "$1"\n}}'
    if shell == "zsh":
        return f"_anatozoo_{key}() {{\n  local -a known=({listed})\n  compadd -a known\n  _files\n}}"
    return ""


def _checkpoints() -> list[str]:
    from anatozoo.zoo.catalogue import select

    return [spec.name for spec in select("*")]


def _methods() -> list[str]:
    from anatozoo.zoo.registry import methods

    return list(methods())


def _configs() -> list[str]:
    from anatozoo.cli.settings import shipped_configs

    return shipped_configs()
