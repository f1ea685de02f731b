"""The zoo of the tests: one tiny method, one bundled checkpoint, a manifest of its own."""

from tests.zoo_fixtures import bundled, package, tiny_method

__all__ = ["bundled", "package", "tiny_method"]
