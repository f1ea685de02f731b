"""How large a radiograph, a volume or a file may be: one table for all readers.

Every reader looks at these before it takes the memory. The largest radiographs are digitised films
(8,608 x 7,168) and stitched long-leg pictures (about 3,000 x 12,000); the largest volumes that the models see
are computed tomographies of 512 x 512 x 500.
"""

from anatozoo.errors import ImageError

MAX_SIDE = 16_384
"""Pixels along the longer side of a radiograph."""
MAX_PIXELS = 2**26
"""Pixels of a radiograph or of a 2-D mask."""
MAX_VOXELS = 2**27
"""Voxels of a volume, all its frames or channels together."""
MAX_BYTES = 2**29
"""Bytes of stored values, decompressed: 2**27 voxels of four bytes."""
MAX_FILE_BYTES = 2**30
"""Bytes of a file; larger ones are refused before they are read."""
MAX_TEXT_BYTES = 2**28
"""Bytes of a table or JSON file, decompressed."""
MEMORY_BYTES = 3 * 2**29
"""What a process that decodes may take beyond what it needs to run."""
MOST_PIXELS_PER_BYTE = 1_000
"""Pixels that a byte of a compressed picture may stand for: beyond, most of the picture is missing."""


def check_volume_size(sizes: tuple[int, ...], value_bytes: int, label: str) -> None:
    """Refuse what would not fit into memory; called on headers, before anything is decoded.

    Args:
        sizes: voxels along each axis, channels being an axis.
        value_bytes: bytes of a value.
        label: what it is, for the message.

    Raises:
        ImageError: over 2**27 voxels, or over 2**29 bytes.
    """
    count = 1
    for size in sizes:
        count *= size
    if count > MAX_VOXELS or count * value_bytes > MAX_BYTES:
        raise ImageError(
            f"{label} is {' x '.join(map(str, sizes))} voxels of {value_bytes} bytes; at most {MAX_VOXELS} "
            f"(2**27) voxels and {MAX_BYTES} (2**29) bytes are read. Crop or shrink it first."
        )
