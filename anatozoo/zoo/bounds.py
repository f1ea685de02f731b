"""How much a checkpoint's configuration may ask for, checked before any memory is taken.

Whoever writes a ``config.json`` chooses numbers that become sizes of tensors. What no network has is refused
when the file is read; what goes far beyond the weights beside it is refused while the module is built.
"""

import math
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from anatozoo.errors import WeightsError

if TYPE_CHECKING:
    from torch.utils._python_dispatch import TorchDispatchMode

LARGEST_SIZE = 8192
"""Pixels of a side of a network's frame."""
LARGEST_FRAME = 2**27
"""Pixels of a frame, as of an image that is read."""
LARGEST_COUNT = 2**16
"""Channels, layers, landmarks and anything else that is counted."""
LARGEST_NUMBER = 1e12
"""Steps, seeds and real numbers, which take no memory."""
MOST_VALUES = 10_000
"""Values of all hyper-parameters together."""
DEEPEST = 20

_ROOM_VALUES, _ROOM_TENSORS = 2**26, 2000
"""What a module may make besides its weights: grids, matrices of graphs, and what it starts from."""
_TIMES = 3
"""How often a module may make each weight anew: the empty one, its start, copies in other types."""
_SIZES = re.compile(r"size|shape|side", re.IGNORECASE)
_NO_SIZES = re.compile(r"step|epoch|seed|iter|period|patience", re.IGNORECASE)


def check_hparams(hparams: Mapping[str, Any], where: str) -> None:
    """Refuse hyper-parameters that no network has.

    Args:
        hparams: JSON values.
        where: what the message calls their file.

    Raises:
        WeightsError: a number is not finite or far too large, or there are far too many values; the message
            names the first.
    """
    left = MOST_VALUES
    stack: list[tuple[str, Any, int]] = [(key, value, 0) for key, value in hparams.items()]
    while stack:
        key, value, depth = stack.pop()
        left -= 1
        if left < 0 or depth > DEEPEST:
            raise WeightsError(
                f"{where}: more than {MOST_VALUES} hyper-parameters, or more than {DEEPEST} in one another; "
                "no network has them. Get the checkpoint again."
            )
        if isinstance(value, Mapping):
            stack += [(f"{key}.{name}", each, depth + 1) for name, each in value.items()]
        elif isinstance(value, list | tuple):
            if _SIZES.search(key) and _product(value) > LARGEST_FRAME:
                _refuse(where, key, value, f"a frame of {LARGEST_FRAME} pixels")
            stack += [(f"{key}[{i}]", each, depth + 1) for i, each in enumerate(value)]
        elif isinstance(value, int | float) and not isinstance(value, bool):
            most: float = LARGEST_NUMBER
            if isinstance(value, int) and not _NO_SIZES.search(key):
                most = LARGEST_SIZE if _SIZES.search(key) else LARGEST_COUNT
            # Whole numbers first: one of thousands of digits is not a float.
            if not isinstance(value, int) and not math.isfinite(value):
                raise WeightsError(f"{where}: {key} = {value} is no finite number. Get the checkpoint again.")
            if not -most <= value <= most:
                _refuse(where, key, value, f"{most:.0f}")


def _product(values: "list[Any] | tuple[Any, ...]") -> int:
    return math.prod(abs(each) for each in values if isinstance(each, int) and abs(each) <= LARGEST_SIZE)


def _refuse(where: str, key: str, value: Any, most: str) -> None:
    text = str(value) if not isinstance(value, int) or abs(value) < 10**30 else "a number of over 30 digits"
    raise WeightsError(
        f"{where}: {key} = {text[:60]} is more than any network here has (at most {most}). Get the "
        "checkpoint again."
    )


def tensor_budget(values: int, tensors: int, where: str) -> "TorchDispatchMode":
    """A context in which a module cannot make many more tensors than there are weights for.

    What goes beyond is refused before it is allocated.

    Args:
        values: number of values in the file of weights.
        tensors: number of tensors in it.
        where: what the message calls the configuration.

    Raises:
        WeightsError: within the context, where the module asks for more.
    """
    from torch.utils._python_dispatch import TorchDispatchMode

    class Budget(TorchDispatchMode):
        def __init__(self) -> None:
            super().__init__()
            self.values = _TIMES * values + _ROOM_VALUES
            self.calls = _TIMES * tensors + _ROOM_TENSORS

        def spend(
            self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
        ) -> Any:
            # Factories alone, such as `empty`, `arange` or `new_full`: all else works on their tensors.
            size = _asked(func, args)
            if size:
                self.values -= size
                self.calls -= 1
                if self.values < 0 or self.calls < 0:
                    raise WeightsError(
                        f"{where} asks for far more tensors than the {values} values of the weights "
                        "beside it. Get the checkpoint again."
                    )
            return func(*args, **(kwargs or {}))

    # Set afterwards: torch wraps a method of this name in the body of a class so that it is never compiled,
    # for which it imports its compiler, and that takes longer than to import torch.
    Budget.__torch_dispatch__ = Budget.spend  # type: ignore[assignment, method-assign]
    return Budget()


_FACTORY = re.compile(
    r"(new_)?(empty|zeros|ones|full|rand|normal)|arange|linspace|logspace|eye|tri[lu]_indices"
)


def _asked(func: Any, args: tuple[Any, ...]) -> int:
    """How many values a call makes, 0 where it is no factory."""
    if not _FACTORY.match(func._schema.name.partition("::")[2]):
        return 0
    sizes = [arg for arg in args if isinstance(arg, list | tuple)]
    if sizes:
        return math.prod(int(each) for each in sizes[0])
    numbers = [arg for arg in args if isinstance(arg, int | float) and not isinstance(arg, bool)]
    name = func._schema.name
    if "eye" in name:
        return math.prod(int(each) for each in (numbers * 2)[:2])
    return int(max(map(abs, numbers), default=0)) if math.isfinite(sum(numbers)) else 0
