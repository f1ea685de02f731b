"""What the network of a model takes and gives as bare tensors: what exports hold and engines compute."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Tensors:
    """One input or output of a network.

    Args:
        name: its name in a graph.
        shape: of one item, without the batch.
        meaning: what the numbers are, in words.
    """

    name: str
    shape: tuple[int, ...]
    meaning: str


@dataclass(frozen=True)
class Signature:
    """The network of a model as a function of tensors, `anatozoo.tasks.base.Predictor.computed`.

    Args:
        inputs: in the order of its arguments.
        outputs: in the order of what it gives.
    """

    inputs: tuple[Tensors, ...]
    outputs: tuple[Tensors, ...]
