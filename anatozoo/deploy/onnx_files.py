"""What is done to ONNX files after torch has written them."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from anatozoo.io.quiet import quiet

FIRST = 10
"""One of so many convolutions, the first ones, stays in float32 in 8-bit graphs."""
LEAST = 256
"""Weights of fewer numbers stay in float32: they take no room."""


def simplified(path: Path) -> None:
    """Fold constants, and normalisation into convolutions; the file stays plain ONNX."""
    import onnx
    import onnxruntime
    from onnxruntime.quantization.quant_utils import add_pre_process_metadata

    model = onnx.load(path)
    stored = {weight.name for weight in model.graph.initializer}
    for node in model.graph.node:
        # Where a convolution has no bias, the exporter computes zeros, in 3-D of a shape that is not allowed.
        if node.op_type == "Conv" and len(node.input) == 3 and node.input[2] not in stored:
            del node.input[2]
    onnx.save(model, path)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.log_severity_level = 3
    simple = path.with_suffix(".simple")
    options.optimized_model_filepath = str(simple)
    onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    simple.replace(path)
    model = onnx.load(path)
    add_pre_process_metadata(model)  # what quantisation asks for has been done
    domains = {node.domain for node in model.graph.node}
    used = [each for each in model.opset_import if each.domain in domains]
    del model.opset_import[:]  # it names more, which other programs may not know
    model.opset_import.extend(used)
    onnx.save(model, path)


def with_half_weights(path: Path) -> None:
    """Store weights in float16; the graph turns them into float32 before it computes."""
    import onnx

    model = onnx.load(path)
    graph, casts = model.graph, []
    for weight in graph.initializer:
        values = onnx.numpy_helper.to_array(weight)
        if values.dtype != np.float32 or values.size < LEAST or np.abs(values).max() > 65504:
            continue
        name = weight.name
        weight.CopyFrom(onnx.numpy_helper.from_array(values.astype(np.float16), f"{name}_half"))
        casts.append(onnx.helper.make_node("Cast", [f"{name}_half"], [name], to=onnx.TensorProto.FLOAT))
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    onnx.save(model, path)


def in_eight_bits(path: Path, names: Sequence[str], samples: Sequence[Sequence[npt.NDArray[Any]]]) -> None:
    """Compute convolutions in 8-bit integers, with ranges that samples show; all else stays in float32.

    So do the first convolutions, whose rounding moves contours most.

    Static quantisation with a scale for each channel of weights, as Jacob et al., CVPR 2018, describe it.

    Args:
        path: the file, which is replaced.
        names: of the inputs.
        samples: batches of the inputs.
    """
    import onnx
    from onnxruntime import quantization

    class Samples(quantization.CalibrationDataReader):
        def __init__(self) -> None:
            self.left: Iterator[Sequence[npt.NDArray[Any]]] = iter(samples)

        def get_next(self) -> dict[str, npt.NDArray[Any]] | None:
            given = next(self.left, None)
            return None if given is None else dict(zip(names, given, strict=True))

    small, nodes = path.with_suffix(".small"), onnx.load(path).graph.node
    convolutions = [node.name for node in nodes if node.op_type == "Conv"]
    with quiet():
        quantization.quantize_static(
            path,
            small,
            Samples(),
            # With the clip behind a convolution, its range is what counts, and not what is cut off.
            op_types_to_quantize=["Conv", "Clip", "Relu"],
            nodes_to_exclude=convolutions[: len(convolutions) // FIRST],
            per_channel=True,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
            # Sums of two products of 8 bits overflow on processors without VNNI.
            reduce_range=True,
        )
    small.replace(path)
