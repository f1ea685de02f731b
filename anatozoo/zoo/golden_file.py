"""The arrays of a golden file, compressed without loss: label maps take a hundredth of their size.

An array is stored as its bytes in a zlib stream, if that is shorter: a tensor (n,) of uint8 by its name,
whose metadata ``packed/NAME`` have the type and the shape, such as ``uint8 16 128 128``. The first bytes of
all numbers come first, then the second ones, and so on, so that those which are alike stand together. Other
arrays, and those of files that were written without compression, are tensors as they are.
"""

import json
import math
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from anatozoo.errors import WeightsError
from anatozoo.zoo.checkpoint import read_tensors
from anatozoo.zoo.files import write_atomically

if TYPE_CHECKING:
    import numpy as np

_PACKED = "packed/"
_TYPES = ("uint8", "uint16", "int16", "float32", "float64")
_MOST_BYTES = 2**28


def write_arrays(path: Path, arrays: "Mapping[str, np.ndarray]", metadata: Mapping[str, str]) -> Path:
    """Write arrays and texts.

    Raises:
        OutputError: the file cannot be written.
    """
    import numpy as np
    from safetensors.numpy import save

    tensors, texts = {}, dict(metadata)
    for name, array in arrays.items():
        whole = np.ascontiguousarray(array)
        tensors[name] = whole
        apart = whole.reshape(-1).view(np.uint8).reshape(whole.size, -1).T if whole.size else whole
        stream = zlib.compress(apart.tobytes(), 9)
        if str(whole.dtype) in _TYPES and len(stream) < whole.nbytes:
            tensors[name] = np.frombuffer(stream, np.uint8)
            texts[_PACKED + name] = " ".join(map(str, (whole.dtype, *whole.shape)))
    content = _ordered(save(tensors, metadata=texts))
    write_atomically(path, lambda temporary: temporary.write_bytes(content))
    return path


def read_arrays(path: Path) -> "tuple[dict[str, np.ndarray], dict[str, str]]":
    """Arrays and texts of a file.

    Raises:
        WeightsError: the file is missing or broken, or a stream does not hold what the metadata say.
    """
    from safetensors import safe_open

    arrays = {name: tensor.numpy() for name, tensor in read_tensors(path).items()}
    with safe_open(path, framework="np") as stream:
        texts: dict[str, str] = stream.metadata() or {}
    for name in [name for name in arrays if _PACKED + name in texts]:
        try:
            arrays[name] = _unpacked(arrays[name], texts.pop(_PACKED + name))
        except (ValueError, EOFError, zlib.error) as error:
            raise WeightsError(
                f"{path}: {name} is not what the file says; get it again ({error})."
            ) from error
    return arrays, texts


def _ordered(content: bytes) -> bytes:
    """A safetensors file with its metadata in order: the library writes them in another one each time."""
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:end])
    header["__metadata__"] = dict(sorted(header.get("__metadata__", {}).items()))
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # the numbers begin at a multiple of eight bytes
    return len(text).to_bytes(8, "little") + text + content[end:]


def _unpacked(packed: "np.ndarray", said: str) -> "np.ndarray":
    import numpy as np

    from anatozoo.io.untrusted import inflate

    dtype, *sides = said.split()
    shape = tuple(int(side) for side in sides)
    if dtype not in _TYPES or str(packed.dtype) != "uint8" or not shape or min(shape) < 1:
        raise ValueError(f"{said!r} of {packed.dtype}")
    needed = math.prod(shape) * np.dtype(dtype).itemsize
    if needed > _MOST_BYTES:
        raise ValueError(f"{needed} bytes are too many")
    content = inflate(packed.tobytes(), needed, zlib.MAX_WBITS)
    if content is None or len(content) != needed:
        raise ValueError(f"not {needed} bytes")
    apart = np.frombuffer(content, np.uint8).reshape(np.dtype(dtype).itemsize, -1)
    found = np.ascontiguousarray(apart.T).reshape(-1).view(dtype).reshape(shape)
    if not np.isfinite(found).all():
        raise ValueError("it holds NaN or infinity")
    return found
