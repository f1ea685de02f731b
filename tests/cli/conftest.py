"""The zoo of the tests: one tiny method, one bundled checkpoint, a manifest of its own."""

from tests.support.annotating import model
from tests.support.hub_server_fixtures import empty_hub, hub, source
from tests.support.zoo_fixtures import bundled, package, tiny_method

__all__ = ["bundled", "empty_hub", "hub", "model", "package", "source", "tiny_method"]
