"""Graphs in files: how a network becomes one, and what runs it."""

import io
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from anatozoo.errors import ConfigError, turned_into
from anatozoo.io.cores import allowed_cores
from anatozoo.io.quiet import quiet

if TYPE_CHECKING:
    from anatozoo.tasks.base import Predictor

Arrays = Sequence[npt.NDArray[Any]]
Run = Callable[[Arrays], list[npt.NDArray[np.float32]]]
"""What computes the outputs of a graph from its inputs."""
PRECISIONS = ("fp32", "fp16", "int8")
"""Weights and numbers in float32; weights stored in float16; convolutions in 8-bit integers."""


class Network(nn.Module):
    """The network of a model from tensors to tensors, as `anatozoo.tasks.base.Predictor.signature` says."""

    def __init__(self, model: "Predictor") -> None:
        super().__init__()
        self.model = model

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """The outputs for the inputs."""
        return self.model.computed(*inputs)


def traced(model: "Predictor", batch: int | None) -> Any:
    """The network of a model as a program of `torch.export`.

    Args:
        model: in evaluation mode, on the CPU.
        batch: size of a batch; None leaves it open.

    Raises:
        ConfigError: the model has no such network, or it takes no batches of an open size.
    """
    signature = model.signature()
    inputs = tuple(torch.rand(batch or 3, *each.shape) for each in signature.inputs)
    sizes = None
    if batch is None:
        open_size = torch.export.Dim("batch", min=1)
        sizes = {"inputs": tuple({0: open_size} for _ in inputs)}
    how = "take batches of an open size; give a number, as --batch 1" if batch is None else "be traced"

    def say(reason: str) -> str:
        return f"the network of {model.checkpoint_name} cannot {how} ({reason[:200]})."

    with torch.no_grad(), quiet(), turned_into(ConfigError, say):
        # The compiler's front end leaves sizes open that tracing alone would fix, but it takes longer.
        network = Network(model).eval()
        return torch.export.export(network, inputs, dynamic_shapes=sizes, strict=batch is None)


class Format(ABC):
    """One format of graphs, and the engine that runs it.

    Attributes:
        name: its name, as ``--to`` takes it.
        file: name of the graph's file in an export.
        packages: distributions that write and run it, beside torch.
        extra: the extra of anatozoo that installs them.
        precisions: those of `PRECISIONS` that it has.
        is_engine: whether `anatozoo.load` offers it by its name.
    """

    name: ClassVar[str]
    file: ClassVar[str]
    packages: ClassVar[tuple[str, ...]] = ()
    extra: ClassVar[str] = ""
    precisions: ClassVar[tuple[str, ...]] = PRECISIONS
    is_engine: ClassVar[bool] = True

    def versions(self) -> dict[str, str]:
        """Versions of what writes and runs it.

        Raises:
            ConfigError: a package is not installed.
        """
        found = {"torch": str(torch.__version__)}
        for package in self.packages:
            try:
                found[package] = version(package)
            except PackageNotFoundError as error:
                raise ConfigError(
                    f"{self.name} needs the package {package}; install it by "
                    f"`pip install 'anatozoo[{self.extra}]'`."
                ) from error
        return found

    def check(self, precision: str) -> None:
        """Refuse what cannot be written here.

        Raises:
            ConfigError: the format has no such precision, or a package is not installed.
        """
        if precision not in self.precisions:
            raise ConfigError(
                f"{self.name} is written in {' or '.join(self.precisions)}, not in {precision}."
            )
        self.versions()

    @abstractmethod
    def write(
        self, program: Any, model: "Predictor", path: Path, precision: str, samples: Sequence[Arrays]
    ) -> None:
        """Write a graph.

        Args:
            program: of `traced`.
            model: whose network it is.
            path: the file; others may lie beside it.
            precision: one of `precisions`.
            samples: inputs of the network by which ``"int8"`` finds the ranges of its numbers.
        """

    @abstractmethod
    def opened(self, path: Path, threads: int) -> Run:
        """What runs a graph with so many threads; several threads may call it at once."""


class Onnx(Format):
    """ONNX, run by ONNX Runtime."""

    name, file, extra = "onnx", "model.onnx", "onnx"
    packages = ("onnx", "onnxscript", "onnxruntime")

    def write(
        self, program: Any, model: "Predictor", path: Path, precision: str, samples: Sequence[Arrays]
    ) -> None:
        """See `Format.write`."""
        from anatozoo.deploy.onnx_files import in_eight_bits, simplified, with_half_weights

        signature = model.signature()
        with torch.no_grad(), quiet():
            # ONNX Runtime simplifies graphs faster than the exporter does.
            written = torch.onnx.export(
                program,
                dynamo=True,
                optimize=False,
                verbose=False,
                input_names=[each.name for each in signature.inputs],
                output_names=[each.name for each in signature.outputs],
            )
            assert written is not None
            written.save(path)
        simplified(path)
        if precision == "fp16":
            with_half_weights(path)
        elif precision == "int8":
            in_eight_bits(path, [each.name for each in signature.inputs], samples)

    def opened(self, path: Path, threads: int) -> Run:
        """See `Format.opened`."""
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = threads, 3
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        names = [each.name for each in session.get_inputs()]
        return lambda arrays: list(session.run(None, dict(zip(names, arrays, strict=True))))


class OpenVino(Format):
    """OpenVINO's own format, made of ONNX."""

    name, file, extra = "openvino", "model.xml", "openvino"
    packages = ("onnx", "onnxscript", "onnxruntime", "openvino")

    def write(
        self, program: Any, model: "Predictor", path: Path, precision: str, samples: Sequence[Arrays]
    ) -> None:
        """See `Format.write`."""
        import openvino

        between = path.with_suffix(".onnx")
        Onnx().write(program, model, between, "int8" if precision == "int8" else "fp32", samples)
        # Not by `convert_model`, which asks for leave to report over the network.
        graph = openvino.Core().read_model(between)
        openvino.save_model(graph, path, compress_to_fp16=precision == "fp16")
        del graph  # it may hold the file
        between.unlink()

    def opened(self, path: Path, threads: int) -> Run:
        """See `Format.opened`."""
        import openvino

        cores = max(threads, allowed_cores())
        settings = {
            # Left alone, it computes in half precision where the processor has it.
            "INFERENCE_PRECISION_HINT": "f32",
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": threads * (cores // threads),
            "NUM_STREAMS": cores // threads,
        }
        core = openvino.Core()
        compiled = core.compile_model(core.read_model(path), "CPU", settings)
        own = threading.local()

        def run(arrays: Arrays) -> list[npt.NDArray[np.float32]]:
            # A request belongs to one thread at a time.
            if not hasattr(own, "request"):
                own.request = compiled.create_infer_request()
            return list(own.request.infer(list(arrays)).values())

        return run


class Pt2(Format):
    """The program of `torch.export`, run by torch."""

    name, file, precisions, is_engine = "pt2", "model.pt2", ("fp32",), False

    def write(
        self, program: Any, model: "Predictor", path: Path, precision: str, samples: Sequence[Arrays]
    ) -> None:
        """See `Format.write`."""
        packed = io.BytesIO()
        with quiet():
            torch.export.save(program, packed)
        # Not by torch, which ends the process where the disk is full.
        path.write_bytes(packed.getbuffer())

    def opened(self, path: Path, threads: int) -> Run:
        """See `Format.opened`."""
        with quiet():
            run: Any = torch.export.load(path).module()

        def answer(arrays: Arrays) -> list[npt.NDArray[np.float32]]:
            with torch.inference_mode():
                return [each.numpy() for each in run(*map(torch.from_numpy, arrays))]

        return answer


FORMATS: dict[str, Format] = {each.name: each for each in (Onnx(), OpenVino(), Pt2())}
"""Formats by name."""


def find_format(name: str) -> Format:
    """The format of this name.

    Raises:
        ConfigError: there is none.
    """
    if name not in FORMATS:
        raise ConfigError(f"no graph is written as {name!r}; use {', '.join(FORMATS)}.")
    return FORMATS[name]
