"""A model without a network, and scans for it."""

import pytest

from tests.support.annotating import model
from tests.support.runs import write_scans

__all__ = ["model"]


@pytest.fixture
def scans(tmp_path):
    """Seven images, of which one is damaged."""
    folder = write_scans(tmp_path / "scans", 6)
    (folder / "scan3b.png").write_bytes(b"\x89PNG\r\n\x1a\n nothing")
    return folder
