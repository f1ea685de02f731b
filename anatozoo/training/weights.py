"""Weights that a fit starts from or holds fixed: of a checkpoint's name, its folder or a run's file."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from anatozoo.errors import ConfigError, WeightsError
from anatozoo.zoo.checkpoint import WEIGHTS, build, method_of, read_config, read_tensors
from anatozoo.zoo.hub import load, resolve
from anatozoo.zoo.registry import find_method
from anatozoo.zoo.runs import is_run, read_run


def read_settings(source: str) -> tuple[str, dict[str, Any]]:
    """Method and settings of a checkpoint name, a folder or a Lightning ``.ckpt`` file.

    Raises:
        ConfigError: there is no such file, or `anatozoo fit` did not write it.
        AnatozooError: no such checkpoint.
    """
    if is_run(source):
        run = read_run(source)
        return run.method, dict(run.settings)
    config = read_config(resolve(source))
    return config.method, dict(config.settings)


def read_weights(source: str, method: str, *others: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """State dict and settings of a checkpoint of this method.

    Args:
        source: checkpoint name, folder or ``.ckpt`` file.
        method: name of the method that it must be of.
        others: names of other methods that it may be of.

    Raises:
        ConfigError: the source is not a checkpoint, or one of another method.
    """
    if is_run(source):
        run = read_run(source)
        found, state, settings = run.method, dict(run.state), dict(run.settings)
    else:
        folder = resolve(source)
        config = read_config(folder)
        found, settings = config.method, dict(config.settings)
        state = {} if found not in (method, *others) else read_tensors(folder / WEIGHTS)
    if found not in (method, *others):
        raise ConfigError(f"{source} is a {found} checkpoint, not a {find_method(method).title}.")
    return state, settings


def read_state(source: str) -> Mapping[str, Tensor]:
    """Tensors of a checkpoint name, a folder or a Lightning ``.ckpt`` file, of whatever method.

    Raises:
        ConfigError: there is no such file, or `anatozoo fit` did not write it.
        AnatozooError: no such checkpoint.
    """
    return read_run(source).state if is_run(source) else read_tensors(resolve(source) / WEIGHTS)


def frozen(source: str, needs: str) -> Any:
    """A model that a fit looks at and does not change: in evaluation mode, without gradients.

    Args:
        source: checkpoint name, folder or ``.ckpt`` file.
        needs: name of a method that the model has, such as ``"encode"``.

    Raises:
        ConfigError: it does not exist, or the model has no such method.
    """
    model = load(source, trainable=False)
    if not callable(getattr(model, needs, None)):
        raise ConfigError(f"{source} is a {type(model).__name__}, which cannot {needs.replace('_', ' ')}.")
    return model.requires_grad_(False)


def stored(model: Any) -> dict[str, Any]:
    """A frozen model as a training checkpoint holds it, in what files without pickle may hold.

    Args:
        model: of `frozen`.
    """
    state = {key: value.cpu() for key, value in model.state_dict().items()}
    return {"method": method_of(model), "settings": model.settings(), "state": state}


def restored(state: Mapping[str, Any], what: str) -> Any:
    """The frozen model of `stored`.

    Args:
        state: what it gave.
        what: the model in words, for messages.
    """
    where = f"{what} of the checkpoint"
    settings, weights = state["settings"], state["state"]
    model = build(state["method"], settings, weights, trainable=False, where=(where, Path(where)))
    return model.requires_grad_(False)


def fill_in(module: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Load starting weights into a module, all of them and nothing else; it keeps its number formats.

    Raises:
        WeightsError: tensors are missing, unexpected or misshapen.
    """
    own = module.state_dict()
    wrong = sorted(set(own) ^ set(state))
    wrong += [name for name in own if name in state and state[name].shape != own[name].shape]
    refuse_other_shapes(wrong)
    module.load_state_dict({name: value.to(own[name].dtype) for name, value in state.items()})


def refuse_other_shapes(wrong: Sequence[str]) -> None:
    """Refuse starting weights whose tensors are not those of the network to fill.

    Args:
        wrong: what is missing, unexpected or misshapen.

    Raises:
        WeightsError: there is any; the message lists the first.
    """
    if wrong:
        raise WeightsError(
            "the starting weights are of another architecture; "
            f"{len(wrong)} tensors do not fit: {'; '.join(wrong[:5])}"
        )
