"""The process that decodes: it runs C++ readers on untrusted bytes, and may die of them.

Started by `anatozoo.io.children`, never by hand. It reads requests from standard input and answers on
standard output: a length of four bytes, that many bytes of JSON, and then as many raw bytes as that says. It
ends when its input ends, so when the process that asks ends. It imports nothing but numpy and the decoder.
"""

from __future__ import annotations

import io
import json
import os
import signal
import struct
import warnings
from collections.abc import Callable
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from anatozoo.io.limits import MEMORY_BYTES

# What to say, an array to send, and what owns its memory.
Answer = tuple[dict[str, Any], "npt.NDArray[Any] | None", Any]

_LENGTH = struct.Struct("<I")
_SLACK_SECONDS = 2.0
WAITING = 10.0
"""How many times as long as it may compute, a process may take by the clock."""


def send(stream: BinaryIO, message: dict[str, Any], content: Any = b"") -> None:
    """Write a message; `content` is an array or anything else with the buffer interface."""
    raw = _bytes_of(content)
    text = json.dumps({**message, "bytes": raw.nbytes}).encode("ascii")
    stream.write(_LENGTH.pack(len(text)) + text)
    while raw.nbytes:
        raw = raw[stream.write(raw) :]


def receive(stream: BinaryIO) -> dict[str, Any] | None:
    """Read a message without its raw bytes; None where the stream ends.

    Raises:
        EOFError: it ends within the message.
    """
    head = stream.read(_LENGTH.size)
    if not head:
        return None
    head += bytes(take(stream, bytearray(_LENGTH.size - len(head))))
    message: dict[str, Any] = json.loads(bytes(take(stream, bytearray(*_LENGTH.unpack(head)))))
    return message


def take(stream: BinaryIO, into: Any) -> Any:
    """Fill a writable buffer from a stream, and give it back.

    Raises:
        EOFError: the stream ends before.
    """
    left = _bytes_of(into)
    while left.nbytes:
        count = stream.readinto(left)  # type: ignore[attr-defined]  # raw files have it
        if not count:
            raise EOFError
        left = left[count:]
    return into


def _bytes_of(content: Any) -> memoryview:
    """The bytes of an array of any type, or of a buffer, not copied."""
    if isinstance(content, np.ndarray):
        content = content.reshape(-1).view(np.uint8)
    view = memoryview(content)
    return view.cast("B") if view.nbytes else memoryview(bytearray())


def _itk_reader(arguments: dict[str, Any]) -> Any:
    import SimpleITK as sitk

    reader = sitk.ImageFileReader()
    reader.SetImageIO(arguments["kind"])
    reader.SetFileName(arguments["path"])
    return reader


def _itk_information(arguments: dict[str, Any], content: bytearray) -> Answer:
    """What a header says, as ITK understands it."""
    reader = _itk_reader(arguments)
    reader.ReadImageInformation()
    return _place(reader, reader.GetNumberOfComponents()), None, None


def _itk_read(arguments: dict[str, Any], content: bytearray) -> Answer:
    """The same, and the voxels, the last axis first; channels are the last axis of the array."""
    import SimpleITK as sitk

    image = _itk_reader(arguments).Execute()
    return _place(image, image.GetNumberOfComponentsPerPixel()), sitk.GetArrayViewFromImage(image), image


def _place(image: Any, channels: int) -> dict[str, Any]:
    return {
        "size": image.GetSize(),
        "spacing": image.GetSpacing(),
        "origin": image.GetOrigin(),
        "direction": image.GetDirection(),
        "channels": channels,
    }


def _dicom_pixels(arguments: dict[str, Any], content: bytearray) -> Answer:
    """Decompress the frames of a data set that holds the Image Pixel module alone."""
    import pydicom
    from pydicom.pixels.utils import pixel_array

    return {}, pixel_array(pydicom.dcmread(io.BytesIO(content)), correct_unused_bits=False), None


def _opencv(arguments: dict[str, Any], content: bytearray) -> Answer:
    """Decode the first page of a picture; nothing where OpenCV does not know it."""
    import cv2

    array = cv2.imdecode(np.frombuffer(content, dtype=np.uint8), cv2.IMREAD_UNCHANGED)
    return {}, array, None


OPERATIONS: dict[str, tuple[Callable[[dict[str, Any], bytearray], Answer], tuple[str, ...]]] = {
    "itk_information": (_itk_information, ("SimpleITK",)),
    "itk_read": (_itk_read, ("SimpleITK",)),
    "dicom_pixels": (_dicom_pixels, ("pydicom", "pydicom.pixels.utils", "openjpeg", "PIL.Image")),
    "opencv": (_opencv, ("cv2",)),
}
"""What can be asked, and the modules that it needs."""


def _load(names: tuple[str, ...]) -> None:
    from importlib import import_module

    for name in names:
        import_module(name)


def _limit_memory() -> None:
    """Bound the address space to what is taken now and `MEMORY_BYTES`; only where the system can."""
    try:
        import resource

        with open("/proc/self/statm", "rb") as file:
            taken = int(file.read().split()[0]) * resource.getpagesize()
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        wanted = taken + MEMORY_BYTES
        resource.setrlimit(
            resource.RLIMIT_AS, (wanted if hard == resource.RLIM_INFINITY else min(wanted, hard), hard)
        )
    except (ImportError, OSError, ValueError):
        # Windows and macOS have no such limit; there, sizes are bounded by the checks of headers alone.
        return


def _limit_time(seconds: float) -> None:
    """End this process when it has computed for so long, or waited for many times as long; 0 ends the limit.

    Computing counts, for on a busy computer whole files take long too. That one that waits ends
    is for the case that the asking process is gone.
    """
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_PROF, seconds)
        signal.setitimer(signal.ITIMER_REAL, WAITING * seconds + _SLACK_SECONDS if seconds else 0)


def _answer(message: dict[str, Any], content: bytearray, output: BinaryIO) -> None:
    run, modules = OPERATIONS[message["operation"]]
    try:
        if message.get("load"):
            _load(modules)
            send(output, {"error": None})
            return
        _limit_memory()
        # The owner has to live until the array is sent.
        answer, array, _owner = run(message, content)
        if array is None:
            send(output, {**answer, "error": None})
            return
        values = np.ascontiguousarray(array)
        send(output, {**answer, "dtype": values.dtype.str, "shape": values.shape, "error": None}, values)
    except BrokenPipeError:
        raise
    except Exception as error:  # decoders of hostile files fail in any way they like: the asker says what
        name = "MemoryError" if "bad alloc" in str(error).replace("_", " ") else type(error).__name__
        send(output, {"error": name, "text": str(error)[:2000]})


def own_streams() -> tuple[BinaryIO, BinaryIO]:
    """Streams of requests and of answers, which nothing else reads or writes.

    Libraries print to the standard streams: these lead nowhere afterwards.
    """
    warnings.simplefilter("ignore")
    # Ctrl+C reaches every process of a terminal; the one that asks decides what becomes of it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    requests = os.fdopen(os.dup(0), "rb", buffering=0)
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nowhere, stream)
    return requests, answers


def main() -> None:
    """Answer until the input ends."""
    for name in ("SIGALRM", "SIGPROF"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_DFL)
    requests, answers = own_streams()
    try:
        while (message := receive(requests)) is not None:
            content = take(requests, bytearray(message["bytes"]))
            _limit_time(message["seconds"])
            _answer(message, content, answers)
            del content
            _limit_time(0)
    except (EOFError, BrokenPipeError):
        pass  # the one that asked is gone, and nobody is left to be told
    os._exit(0)


if __name__ == "__main__":
    main()
