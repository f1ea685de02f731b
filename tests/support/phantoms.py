"""Generated pictures that look enough like radiographs to test with, and whose truth is known exactly."""

from anatozoo.io.phantoms import NODES, ChestPhantom
from anatozoo.io.phantoms import chest_phantom as make_chest_phantom

__all__ = ["NODES", "ChestPhantom", "make_chest_phantom"]
