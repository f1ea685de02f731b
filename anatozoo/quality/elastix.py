"""Registration by elastix, under the name that it has here; see `anatozoo.tasks.elastix`."""

from anatozoo.tasks.elastix import elastix, version

__all__ = ["elastix", "version"]
