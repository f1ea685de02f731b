"""The same weights give the same file, byte for byte, so that publishing them again makes no new version."""

import json
import struct
from pathlib import Path

_LENGTH = struct.Struct("<Q")


def sort_metadata(path: Path) -> None:
    """Put the metadata of a safetensors file that was just written into alphabetical order.

    The library writes them in an order that differs from one process to the next. Nothing moves: the header
    keeps its length.
    """
    with path.open("r+b") as stream:
        (length,) = _LENGTH.unpack(stream.read(_LENGTH.size))
        header = json.loads(stream.read(length))
        if "__metadata__" in header:
            header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
        # Other spellings of the same JSON are possible, but not shorter ones.
        if len(text) > length:
            raise ValueError(f"{path}: a safetensors header of {len(text)} bytes in place of {length}.")
        stream.seek(_LENGTH.size)
        stream.write(text.ljust(length))
