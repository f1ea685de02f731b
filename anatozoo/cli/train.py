"""Lightning's own command line with short method names, for one fit.

The method follows from ``--method NAME``, the ``method`` of a configuration file, a shipped configuration's
folder, the checkpoint in ``--ckpt_path`` or ``--model.init_weights``, or else from settings that only one
method has. They may not contradict one another.

A configuration may name a stage that has to run before it; see `anatozoo.cli.stages`.

What decides a setting, from weakest to strongest: the defaults, the architecture of ``--model.init_weights``,
the ``--config`` files in their order, the hyper-parameters in ``--ckpt_path``, the other options.
"""

import errno
import json
import logging
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import lightning as L
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.cli import LightningCLI
from lightning.pytorch.utilities.exceptions import SIGTERMException

from anatozoo.cli.heap import keep_freed_memory
from anatozoo.cli.refused import check_objectives, nulls, own_error
from anatozoo.cli.settings import (
    configs_of,
    differing,
    setting_of,
    shipped_config,
    split_options,
    without_base,
)
from anatozoo.errors import ConfigError, OutputError
from anatozoo.tasks.base import parameters_of
from anatozoo.text import one_line
from anatozoo.training.module import links_of
from anatozoo.training.objective import Objective
from anatozoo.training.weights import read_settings as read_run_settings
from anatozoo.zoo.checkpoint import OF_WEIGHTS, START_SETTINGS, WEIGHTS, read_tensors
from anatozoo.zoo.hub import resolve
from anatozoo.zoo.registry import METHODS, MethodEntry, find_method, methods

EXIT_TERMINATED = 143
"""128 + 15, as a shell counts a process that SIGTERM has ended."""
LAST = ModelCheckpoint.CHECKPOINT_NAME_LAST
LIGHTNING_NAMES = ("best", "last", "hpc", "registry")
"""Values of ``--ckpt_path`` that Lightning resolves itself."""

NOT_FOR_USERS = (
    # How Lightning calls jsonargparse and torch.
    r"(?s).*JSONARGPARSE_DEPRECATION_WARNINGS",
    r"(?s).*was deprecated in v4\.\d+\.\d+ and will be removed in v5",
    r"`isinstance\(treespec, LeafSpec\)` is deprecated",
    # The batch normalisation of timm encoders, which stays in evaluation mode on purpose.
    r"Found \d+ module\(s\) in eval mode at the start of training",
    # Images are kept in memory once read: more processes would only read them again.
    r"The '\w+_dataloader' does not have many workers",
)
"""Warnings about what no user can or should change."""
NOT_FOR_MEASURING = (
    r"Be aware that when using `ckpt_path`, callbacks used to create the checkpoint",
    r"The dirpath has changed from",
)
"""Warnings that matter where a fit is resumed: measuring needs no callbacks and writes no checkpoints."""


class LastCheckpoint(ModelCheckpoint):
    """Stores ``last.ckpt`` after every epoch, with all that a fit needs to go on; there is one, of this name.

    Args:
        dirpath: folder of the checkpoints; None takes Lightning's.
    """

    def __init__(self, dirpath: Any = None) -> None:
        super().__init__(dirpath, filename=LAST, save_on_train_epoch_end=True, enable_version_counter=False)


class Plan(NamedTuple):
    """What a command line comes to."""

    method: str
    """Name of the method."""
    arguments: list[str]
    """Arguments for Lightning: the subcommand, then settings from weak to strong."""
    weights: Path | None
    """Folder of the zoo's checkpoint that ``--ckpt_path`` names."""


class ZooCLI(LightningCLI):
    """LightningCLI that links what module and data must agree on.

    Args:
        method: the method to train.
        weights: a checkpoint's folder whose weights the module starts with, for measuring them.
        **kwargs: passed on.
    """

    def __init__(self, method: MethodEntry, *, weights: Path | None = None, **kwargs: Any) -> None:
        self.method, self.weights = method, weights
        super().__init__(method.module_class(), method.data_class(), **kwargs)

    def add_arguments_to_parser(self, parser: Any) -> None:
        """What model and data share is given once, on the model."""
        for ours, theirs in links_of(self.method.module_class(), self.method.data_class()).items():
            parser.link_arguments(f"model.{ours}", f"data.{theirs}")
        parser.add_argument(
            "--objectives",
            type=list[Objective] | None,
            default=None,
            help="further terms of the loss, such as ShapePrior, added to those of the method",
        )
        parser.add_argument(
            "--method", type=str, default=self.method.name, help="name of the method to train"
        )
        parser.add_argument(
            "--first_stage",
            type=dict[str, str] | None,
            default=None,
            help="fit that runs first: its `config`, and the option that its checkpoint `fills`",
        )
        parser.set_defaults({"trainer.log_every_n_steps": 1})

    def instantiate_classes(self) -> None:
        """Make data, model and trainer of their settings.

        Raises:
            ConfigError: a setting is null, which its class does not take.
        """
        try:
            super().instantiate_classes()
        except (TypeError, ValueError) as error:
            named = [] if own_error(error) else nulls(self.config[self.subcommand], self.method)
            if not named:
                raise
            raise ConfigError(
                f"a setting cannot be null: {', '.join(named)}. Give a value, or leave it out."
            ) from error

    def instantiate_trainer(self, **kwargs: Any) -> L.Trainer:
        """The trainer with its objectives, whose ``last.ckpt`` is that of the last epoch.

        Raises:
            ConfigError: two objectives would share one place in checkpoints.
        """
        trainer = super().instantiate_trainer(**kwargs)
        objectives = self._get(self.config_init, "objectives") or []
        keys = Counter(o.state_key for o in objectives if type(o).state_dict is not L.Callback.state_dict)
        if shared := [key for key, count in keys.items() if count > 1]:
            raise ConfigError(
                f"two objectives remember something under the name {shared[0]!r}, and a checkpoint has room "
                "for one: leave one of them out, or give their class a `state_key` that tells them apart."
            )
        # Before the callbacks that store checkpoints, which come last.
        trainer.callbacks[:0] = objectives  # type: ignore[attr-defined]
        if any(saver.save_last for saver in savers_of(trainer)):
            keep_last(trainer)
        return trainer

    def parse_arguments(self, parser: Any, args: Any) -> None:
        """Parse `args` alone; Lightning warns where the process has arguments of its own, as notebooks do."""
        for name, command in self._subcommand_parsers.items():
            _own_settings_first(command, f"anatozoo {name} [METHOD] [--config CONFIG ...] [options]")
        self.config = parser.parse_args(args)

    def _parse_ckpt_path(self) -> None:
        """Do nothing: Lightning would let a checkpoint overrule the command line; see `in_order`."""

    def after_instantiate_classes(self) -> None:
        """Fill in the weights of a checkpoint of the zoo."""
        if self.weights is not None:
            state = read_tensors(self.weights / WEIGHTS)
            own = self.model.state_dict()
            self.model.load_state_dict({k: v.to(own[k].dtype) if k in own else v for k, v in state.items()})


def _own_settings_first(parser: Any, usage: str) -> None:
    """Let the help of a command begin with the settings of model and data; Lightning's are hundreds.

    Args:
        parser: of the command.
        usage: its usage, in place of a list of all options.
    """
    parser.usage = usage
    own = [parser.groups[name] for name in ("model", "data") if name in parser.groups]
    parser._action_groups = own + [group for group in parser._action_groups if group not in own]


def savers_of(trainer: L.Trainer) -> list[ModelCheckpoint]:
    """The callbacks that store checkpoints, in their order."""
    found = trainer.checkpoint_callbacks
    return [
        each for each in found if isinstance(each, ModelCheckpoint) and not isinstance(each, LastCheckpoint)
    ]


def keep_last(trainer: L.Trainer) -> LastCheckpoint:
    """Store ``last.ckpt`` after every epoch.

    A callback that stores the best by a metric stores ``save_last`` only when it stores a better one: a fit
    that is stopped hours after its best would go on from there. One that stores weights alone would store a
    file from which no fit can go on, and a second one of that name beside it.

    Raises:
        ConfigError: a callback stores something else under this name.
    """
    for known in trainer.checkpoint_callbacks:
        if isinstance(known, LastCheckpoint):
            return known
    savers = savers_of(trainer)
    for saver in savers:
        saver.save_last = None
        if saver.filename == LAST:
            raise ConfigError(
                f"a ModelCheckpoint has the filename {LAST!r}, which is that of the checkpoint that a fit "
                "goes on from; give it another filename, and save_last: true if that is meant."
            )
    last = LastCheckpoint(savers[0].dirpath)
    trainer.callbacks.append(last)  # type: ignore[attr-defined]
    return last


def in_order(argv: list[str]) -> Plan:
    """Find the method and arrange arguments by strength, with the settings of checkpoints in between.

    Args:
        argv: subcommand and options.

    Raises:
        ConfigError: a configuration or checkpoint does not exist, a fit is to resume a zoo checkpoint, or the
            method cannot be told.
    """
    names, options = split_options(argv[1:], "--config")
    files = configs_of(names)
    said, options = split_options(options, "--method")
    # Where each method comes from, for the message if they differ.
    found = {f"--method {name}": name for name in said[-1:]}
    if named := setting_of(files, "method"):
        found["the configuration file"] = str(named)
    shipped = [name for name in names if shipped_config(name) != name]
    found |= {f"--config {name}": name.partition("/")[0] for name in shipped}
    weak: dict[str, Any] = {}
    strong: dict[str, Any] = {}
    weights = None

    given, _ = split_options(options, "--model.init_weights")
    start = given[-1] if given else setting_of(files, "model", "init_weights")
    if start and start != "null" and argv[:1] == ["fit"]:
        begun, weak = read_run_settings(start)
        shared = _shared_with(begun, set(found.values()))
        if shared is None:
            found[f"--model.init_weights {start}"] = begun
        else:
            weak = {name: value for name, value in weak.items() if name in shared}

    given, others = split_options(options, "--ckpt_path")
    checkpoint = given[-1] if given else setting_of(files, "ckpt_path")
    if checkpoint and checkpoint != "null" and checkpoint not in LIGHTNING_NAMES:
        if not checkpoint.endswith(".ckpt"):
            if argv[0] == "fit":
                raise ConfigError(
                    f"--ckpt_path {checkpoint} resumes a run and needs its .ckpt file; to start a new run "
                    f"from published weights use --model.init_weights {checkpoint}."
                )
            weights, options = resolve(checkpoint), [*others, "--ckpt_path=null"]
        found[f"--ckpt_path {checkpoint}"], strong = read_run_settings(checkpoint)
        if argv[0] == "fit":
            note_others(files, strong, checkpoint)
    check_objectives(files, options)
    method = _one_method(found, files, options)
    module = find_method(method).module_class()
    if strong:
        strong |= {key: None for key in START_SETTINGS if key in parameters_of(module)}
    kept = set(module.setting_names() if hasattr(module, "setting_names") else ())
    weak = {k: v for k, v in weak.items() if k in kept and k not in OF_WEIGHTS}
    levels = [_as_config(weak), *map(without_base, files), _as_config(strong)]
    options = [*options, f"--method={method}"]
    return Plan(method, [*argv[:1], *(f"--config={level}" for level in levels if level), *options], weights)


def note_others(files: list[str], stored: Mapping[str, Any], checkpoint: str) -> None:
    """Say on standard error which settings of the model a configuration has that the checkpoint overrules."""
    stored = {name: value for name, value in stored.items() if name not in START_SETTINGS}
    others = differing(files, "model", stored)
    if others:
        told = ", ".join(f"{name} is {there!r}, not {here!r}" for name, (here, there) in others.items())
        print(
            f"anatozoo: note: the fit goes on with the settings of {checkpoint}, not with those of the "
            f"configuration: model.{told}. To begin another fit from its weights, use --model.init_weights.",
            file=sys.stderr,
        )


def _shared_with(begun: str, told: set[str]) -> tuple[str, ...] | None:
    """The settings that a fit takes over from weights of another method.

    Args:
        begun: the method of the weights.
        told: the methods that everything else names.

    Returns:
        None where these weights must be of the same method.
    """
    if len(told) != 1 or begun in told:
        return None
    module = find_method(next(iter(told))).module_class()
    shared: tuple[str, ...] | None = getattr(module, "init_methods", {}).get(begun)
    return shared


def _one_method(found: Mapping[str, str], files: list[str], options: list[str]) -> str:
    """The method that all sources name, or the only one that has the settings given."""
    if len(set(found.values())) > 1:
        told = "; ".join(f"{source} means {name}" for source, name in found.items())
        raise ConfigError(f"the method is not clear: {told}. Leave all but one of them out.")
    if found:
        return find_method(next(iter(found.values()))).name
    names = {
        o.removeprefix("--model.").split("=")[0].split(".")[0] for o in options if o.startswith("--model.")
    }
    for file in files:
        names |= set(setting_of([file], "model") or {})
    able = [entry.name for entry in methods().values() if names and names <= _settings(entry)]
    if len(able) == 1:
        return able[0]
    if not able and names:
        # Lightning's own message on an unknown option is the better one, whatever the method.
        return next(iter(METHODS))
    raise ConfigError(
        f"which method? Say --method NAME with one of {', '.join(able or methods())}, or start from a "
        "configuration such as --config hybridgnet/jsrt.yaml."
    )


def _settings(entry: MethodEntry) -> set[str]:
    """Names of the settings of a method's module, none where another package's does not import."""
    try:
        return set(parameters_of(entry.module_class()))
    except ConfigError:
        return set()


def _no_advertisement(record: logging.LogRecord) -> bool:
    return "Tip: For seamless cloud" not in record.getMessage()


def _as_config(hparams: Mapping[str, Any]) -> str:
    return json.dumps({"model": dict(hparams)}) if hparams else ""


def run_plan(plan: Plan, cli: Callable[..., ZooCLI] = ZooCLI) -> ZooCLI:
    """Carry out a plan, without the warnings that are not for users.

    Args:
        plan: what to do.
        cli: makes the command line, from the arguments of `ZooCLI`.

    Raises:
        ConfigError: the trainer's settings are not possible.
        OutputError: the disk is full.
        SystemExit: SIGTERM has ended it, with 143; Lightning's own exit would say that all was done.
    """
    torch.set_float32_matmul_precision("high")
    keep_freed_memory()
    logging.getLogger("lightning.pytorch.utilities.rank_zero").addFilter(_no_advertisement)
    # For good, since the process is here for this: others could not be restored where threads are at work.
    measuring = plan.arguments[:1] != ["fit"]
    for message in (*NOT_FOR_USERS, *NOT_FOR_MEASURING) if measuring else NOT_FOR_USERS:
        warnings.filterwarnings("ignore", message)
    try:
        return cli(
            find_method(plan.method),
            args=plan.arguments,
            weights=plan.weights,
            seed_everything_default=0,
            trainer_class=L.Trainer,
            save_config_kwargs={"overwrite": True},
            parser_kwargs={"prog": "anatozoo"},
        )
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"a package is missing: {one_line(str(error)).rstrip('.')}. Install it, which for TensorBoard is "
            "`pip install 'anatozoo[track]'`, or choose another logger."
        ) from error
    except MisconfigurationException as error:
        raise ConfigError(str(error)) from error
    except ValueError as error:
        if (own := own_error(error)) is not None:
            raise own from error
        raise
    except SIGTERMException as stop:
        print("anatozoo: ended by SIGTERM; go on with --ckpt_path and the newest last.ckpt.", file=sys.stderr)
        raise SystemExit(EXIT_TERMINATED) from stop
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise OutputError(
            f"the disk is full ({error}); checkpoints of before are as they were. Free space and go on "
            "with --ckpt_path and the newest last.ckpt."
        ) from error
