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
    """The network of a model as a function of tensors, see `anatozoo.tasks.base.Predictor.signature`.

    Args:
        method: name of the method of the model that an engine stands in for. It takes the inputs and gives
            the output, or a tuple of the outputs.
        inputs: in the order of the method's arguments.
        outputs: in order.
    """

    method: str
    inputs: tuple[Tensors, ...]
    outputs: tuple[Tensors, ...]
