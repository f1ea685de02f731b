"""Fits that need another fit first, such as a registration that needs an autoencoder, run by one command.

A configuration names the stage before it and the option that takes the checkpoint of that stage::

    first_stage:
      config: aenet/jsrt.yaml
      fills: objectives.source

`anatozoo fit` runs that configuration first, unless the option is given, or the setting that a third line may
name, ``weight: objectives.weight``, is 0 and nothing would come of it. What is on the command line is for
both: ``--trainer.*``, ``--seed_everything``, and of ``--data.*`` what the first stage's data module has. What
the two models must agree on, organs and frame, is taken from the later one. ``--first_stage.*`` is for the
first stage alone.

Each stage has a folder of its own below ``trainer.default_root_dir`` with its checkpoints and a record. So
the same command, given again, goes on where it was interrupted and repeats no stage that is finished.
"""

import inspect
import json
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from lightning.pytorch.utilities import rank_zero_only

from anatozoo.cli.settings import configs_of, setting_of, shipped_config, split_options
from anatozoo.cli.train import Plan, ZooCLI, in_order, keep_last, run_plan, savers_of
from anatozoo.errors import ConfigError
from anatozoo.text import one_line
from anatozoo.training.module import links_of
from anatozoo.zoo.files import fingerprint, write_text
from anatozoo.zoo.registry import find_method

OPTION = "first_stage"
RECORD = "stage.json"
CHECKPOINTS = "checkpoints"
LAST = "last.ckpt"
DRY_RUN = "fast_dev_run.ckpt"
"""What a stage under ``trainer.fast_dev_run``, which writes no checkpoints, hands on."""
SCHEMA_VERSION = 1
HOW_LONG = (
    "accumulate_grad_batches",
    "gradient_clip_algorithm",
    "gradient_clip_val",
    "limit_train_batches",
    "max_epochs",
    "max_steps",
    "max_time",
    "min_epochs",
    "min_steps",
    "overfit_batches",
    "precision",
)
"""Settings of the trainer that decide what a fit comes to; the others say where and how it runs."""
_NULL = ("", "null", "None")


class FirstStage(NamedTuple):
    """What a configuration says about the stage before it.

    Attributes:
        config: path of the first stage's configuration.
        fills: option of this stage that takes its checkpoint.
    """

    config: str
    fills: str


@dataclass(frozen=True)
class Stage:
    """One fit of several.

    Attributes:
        arguments: of `anatozoo fit`, for this stage alone.
        method: its method.
        settings: all of its settings, as Lightning's command line reads them.
        fills: option of the next stage that takes the checkpoint of this one; None for the last.
    """

    arguments: tuple[str, ...]
    method: str
    settings: Any
    fills: str | None = None

    @property
    def is_dry(self) -> bool:
        """Whether this is a trial of a few batches."""
        return bool(self.settings.trainer.fast_dev_run)


class _SettingsRead(Exception):
    def __init__(self, settings: Any) -> None:
        super().__init__()
        self.settings = settings


class _Reader(ZooCLI):
    """Reads the settings of a fit and goes no further."""

    def before_instantiate_classes(self) -> None:
        raise _SettingsRead(self.config[self.subcommand])


class Record:
    """What is known about the fit in a stage's folder.

    Args:
        folder: the folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.values: dict[str, Any] = {}
        path = folder / RECORD
        if path.is_file():
            try:
                self.values = dict(json.loads(path.read_text(encoding="utf-8")))
            except (OSError, ValueError, TypeError, RecursionError) as error:
                raise ConfigError(f"{path} cannot be read ({error}); delete {folder}.") from error

    @property
    def checkpoint(self) -> Path | None:
        """The checkpoint that the stage hands on; None where it is not finished."""
        name = self.values.get("checkpoint")
        path = self.folder / str(name)
        return path if name and path.is_file() else None

    @property
    def last(self) -> Path | None:
        """The checkpoint that an interrupted fit goes on from.

        Raises:
            ConfigError: there are checkpoints, but no record that says of what.
        """
        stored = self._stored
        path = self.folder / CHECKPOINTS / LAST
        if stored and not self.values:
            known = path if path in stored else stored[0]
            raise ConfigError(f"{known} is of an unknown fit, for {RECORD} is missing; delete {self.folder}.")
        return path if path in stored else None

    @property
    def _stored(self) -> list[Path]:
        return sorted((self.folder / CHECKPOINTS).glob("*.ckpt"))

    @rank_zero_only
    def clear(self) -> None:
        """Delete the checkpoints of a fit that was interrupted in its first epoch, and so begins again."""
        if self.values and self.values.get("checkpoint") is None and self.last is None:
            for path in self._stored:
                path.unlink(missing_ok=True)

    def require(self, settings: Mapping[str, Any]) -> None:
        """Refuse a fit with other settings than those in the folder.

        Settings that only one of the two has are of another release of anatozoo, and no difference.

        Raises:
            ConfigError: a setting differs.
        """
        stored, wanted = dict(_flat(self.values.get("settings", {}))), dict(_flat(settings))
        for key in sorted(stored.keys() & wanted.keys()):
            if stored[key] != wanted[key]:
                raise ConfigError(
                    f"{self.folder} holds a fit with {key}={_text(stored[key])}, not {_text(wanted[key])}; "
                    "choose another --trainer.default_root_dir, or delete that folder to fit it again."
                )

    @rank_zero_only
    def write(self, settings: Mapping[str, Any], checkpoint: Path | None = None) -> None:
        """Note what is fitted here and, once it is finished, its checkpoint."""
        name = None if checkpoint is None else checkpoint.relative_to(self.folder).as_posix()
        self.values = {"schema_version": SCHEMA_VERSION, "settings": settings, "checkpoint": name}
        write_text(self.folder / RECORD, json.dumps(self.values, indent=2) + "\n")


class StageCLI(ZooCLI):
    """Runs one stage, with its checkpoints in a folder that is known beforehand.

    Args:
        *args: passed on.
        record: of the stage's folder.
        described: settings to note in it; None for a trial, which is not noted.
        **kwargs: passed on.

    Attributes:
        checkpoint: what the stage hands on, once it has run.
    """

    checkpoint: Path

    def __init__(
        self, *args: Any, record: Record, described: Mapping[str, Any] | None, **kwargs: Any
    ) -> None:
        self.record, self.described = record, described
        super().__init__(*args, **kwargs)

    def before_fit(self) -> None:
        """Say where checkpoints go, and note that the fit begins."""
        savers = savers_of(self.trainer)
        if not savers:
            raise ConfigError("a stage is handed on as a checkpoint; leave trainer.enable_checkpointing on.")
        self.keeper = savers[0]
        last = keep_last(self.trainer)  # what an interrupted fit goes on from
        for saver in (*savers, last):
            saver.dirpath = str((self.record.folder / CHECKPOINTS).resolve())
        warnings.filterwarnings("ignore", r"Checkpoint directory .* exists and is not empty")
        if self.described is not None:
            self.record.write(self.described)

    def after_fit(self) -> None:
        """Note that the fit is finished, and its checkpoint: the best, where one is chosen, or the last."""
        if self.described is None:
            self.checkpoint = self.record.folder / DRY_RUN
            self.trainer.save_checkpoint(self.checkpoint)
            return
        best = self.keeper.best_model_path if self.keeper.monitor else ""
        folder = self.record.folder
        self.checkpoint = folder / CHECKPOINTS / (Path(best).name if best else LAST)
        self.trainer.strategy.barrier()
        self.record.write(self.described, self.checkpoint)


def stages_of(argv: list[str]) -> list[Stage]:
    """The fits that a command line comes to, first to last; empty where it is one alone.

    The settings of all of them are read, so that a mistake in the last is found before the first begins.

    Args:
        argv: subcommand and options.

    Raises:
        ConfigError: what is said about a first stage is incomplete or cannot be; see also
            `anatozoo.cli.train.in_order`.
    """
    first, _, early = _first_stage(argv)
    if first is None:
        if early:
            raise ConfigError(
                f"--{OPTION}.{early[0].removeprefix('--')}: there is no first stage here. The configuration "
                "names none, or the option that takes its checkpoint is given."
            )
        return []
    return _chain(argv, ())


def fit_stages(stages: list[Stage]) -> None:
    """Run fits one after the other, each with the checkpoint of the one before.

    Raises:
        ConfigError: a stage's folder holds a fit with other settings, or checkpoints are switched off.
    """
    root = Path(stages[-1].settings.trainer.default_root_dir or ".")
    taken: dict[str, Path] = {}
    for number, stage in enumerate(stages, 1):
        folder = root / f"stage{number}-{stage.method}"
        checkpoint = _fit(stage, folder, taken, f"stage {number} of {len(stages)}, {stage.method}")
        taken = {stage.fills: checkpoint} if stage.fills else {}


def _fit(stage: Stage, folder: Path, taken: Mapping[str, Path], title: str) -> Path:
    """Run a stage, or what is left of it; returns its checkpoint."""
    record, described = Record(folder), _described(stage, taken)
    resume: list[str] = []
    if not stage.is_dry:
        record.require(described)
        if record.checkpoint is not None:
            _say(f"{title}: finished before, {record.checkpoint}")
            return record.checkpoint
        record.clear()
        resume = [f"--ckpt_path={last}"] if (last := record.last) else []
    _say(f"{title}: {'goes on' if resume else 'begins'} in {folder}")
    options = [f"--{option}={path}" for option, path in taken.items()]
    plan = in_order([*stage.arguments, *options, f"--trainer.default_root_dir={folder}", *resume])
    noted = None if stage.is_dry else described
    cli = run_plan(plan, partial(StageCLI, record=record, described=noted))
    assert isinstance(cli, StageCLI)
    return cli.checkpoint


@rank_zero_only
def _say(text: str) -> None:
    print(f"anatozoo: {text}", flush=True)


def _described(stage: Stage, taken: Mapping[str, Path]) -> dict[str, Any]:
    """What a fit comes from, in JSON values: other values, and another model would come out."""
    settings = stage.settings.as_dict()
    # What is linked stands in the model's settings already.
    left_out = {"num_workers", *(name.partition(".")[0] for name in _links(stage.method).values())}
    data = {key: value for key, value in settings["data"].items() if key not in left_out}
    described = {
        "method": stage.method,
        "seed_everything": settings["seed_everything"],
        "model": settings["model"],
        "objectives": settings.get("objectives"),
        "data": data,
        "trainer": {key: settings["trainer"].get(key) for key in HOW_LONG},
    }
    plain: dict[str, Any] = json.loads(json.dumps(described, default=str))
    return plain | {"sha256": {option: fingerprint(path).sha256 for option, path in taken.items()}}


def _chain(argv: list[str], above: tuple[str, ...]) -> list[Stage]:
    """The stages of a command line, one or several; `above` are the configurations that led here."""
    first, own, early = _first_stage(argv)
    plan = in_order(own)
    last = Stage(tuple(own), plan.method, _settings(plan))
    if first is None:
        return [last]
    if first.config in above:
        raise ConfigError(f"{first.config} names itself as its {OPTION}.")
    if not _takes(last.settings, first.fills):
        raise ConfigError(f"{OPTION}.fills={first.fills}: {plan.method} has no such setting here.")
    begin = ["fit", f"--config={first.config}"]
    before = in_order(begin).method
    data_settings = inspect.signature(find_method(before).data_class()).parameters
    shared = [*_shared(own, data_settings), *_agreed(last, before)]
    earlier = _chain([*begin, *shared, *early], (*above, first.config))
    return [*earlier[:-1], replace(earlier[-1], fills=first.fills), last]


def _takes(settings: Any, option: str) -> bool:
    """Whether a fit has this option of its model, or of its last objective."""
    where, _, name = option.partition(".")
    if where == "model":
        return name in settings.model
    objectives = settings.get("objectives") or []
    return bool(objectives) and name in (objectives[-1].get("init_args") or {})


def _settings(plan: Plan) -> Any:
    try:
        run_plan(plan, _Reader)
    except _SettingsRead as read:
        return read.settings
    raise AssertionError("Lightning's command line has read no settings")


def _first_stage(argv: list[str]) -> tuple[FirstStage | None, list[str], list[str]]:
    """What is to run first, the options without those about it, and those that are for it."""
    names, _ = split_options(argv[1:], "--config")
    files = configs_of(names)
    declared, home = None, None
    for file in files:
        if (found := setting_of([file], OPTION)) is not None:
            declared, home = found, Path(file).parent
    own, about, early = argv[:1], {}, []
    for name, value in _options(argv[1:]):
        written = name if value is None else f"{name}={value}"
        if name == f"--{OPTION}":
            declared, home = _value_of(name, value or ""), None
        elif name in (f"--{OPTION}.config", f"--{OPTION}.fills", f"--{OPTION}.weight"):
            about[name.rpartition(".")[2]] = value
        elif name.startswith(f"--{OPTION}."):
            early.append("--" + written.removeprefix(f"--{OPTION}."))
        else:
            own.append(written)
    if argv[:1] != ["fit"] or (declared is None and not about):
        return None, own, early
    if declared is not None and not isinstance(declared, Mapping):
        declared = {}
    stated = {**(declared or {}), **about}
    texts = all(isinstance(text, str) for text in stated.values())
    complete = set(stated) - {"weight"} == {"config", "fills"}
    if not complete or not texts or not stated["fills"].startswith(("model.", "objectives.")):
        raise ConfigError(
            f"{OPTION} must say a config and the option of the model or of an objective that it fills, such "
            "as {config: aenet/jsrt.yaml, fills: objectives.source}."
        )
    if _is_given(own, files, stated["fills"]) or _is_given(own, files, "ckpt_path"):
        return None, own, early
    if "weight" in stated and _is_zero(own, files, stated["weight"]):
        return None, own, early
    beside = home / stated["config"] if home is not None and "config" not in about else None
    config = str(beside) if beside is not None and beside.is_file() else shipped_config(stated["config"])
    return FirstStage(config, stated["fills"]), own, early


def _is_given(options: list[str], files: list[str], name: str) -> bool:
    """Whether an option has a value, on the command line or else in a configuration file."""
    given, _ = split_options(options, f"--{name}")
    return given[-1] not in _NULL if given else setting_of(files, *name.split(".")) is not None


def _is_zero(options: list[str], files: list[str], name: str) -> bool:
    """Whether a setting is 0, on the command line or else in a configuration file."""
    given, _ = split_options(options, f"--{name}")
    value = _value_of(name, given[-1]) if given else setting_of(files, *name.split("."))
    return isinstance(value, int | float) and value == 0


def _value_of(name: str, text: str) -> Any:
    """The value that an option's text stands for."""
    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(f"{name} {one_line(text)[:80]}: not valid YAML: {one_line(str(error))}.") from error


def _options(arguments: Iterable[str]) -> Iterator[tuple[str, str | None]]:
    """Names and values of options, however they are written; no value where none follows."""
    rest = list(arguments)
    while rest:
        name, equals, value = rest.pop(0).partition("=")
        if equals:
            yield name, value
        elif rest and not rest[0].startswith("--"):
            yield name, rest.pop(0)
        else:
            yield name, None


def _shared(own: list[str], data_settings: Iterable[str]) -> list[str]:
    """Those options of the command line that are for all stages."""
    known = {f"--data.{name}" for name in data_settings}
    return [
        name if value is None else f"{name}={value}"
        for name, value in _options(own[1:])
        if name.split(".")[0] == "--trainer"
        or name == "--seed_everything"
        or ".".join(name.split(".")[:2]).rstrip("+") in known
    ]


def _agreed(later: Stage, earlier: str) -> list[str]:
    """What the model of an earlier stage, of this method, must have as the later one has it."""
    common = [key for key in _links(earlier) if key in _links(later.method)]
    return [f"--model.{key}={_text(later.settings.model[key])}" for key in common]


def _links(method: str) -> Mapping[str, str]:
    entry = find_method(method)
    return links_of(entry.module_class(), entry.data_class())


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str)


def _flat(values: Mapping[str, Any], start: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{start}{key}.")
        else:
            yield f"{start}{key}", value
