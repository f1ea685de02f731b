"""The version of the package, on the lowest floor, where every module may ask for it."""

__version__ = "0.1.0"
