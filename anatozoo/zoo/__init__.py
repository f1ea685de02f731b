"""The list of checkpoints: described, found, verified, loaded and documented.

Nothing here imports torch to list, describe, verify or download; methods are known by the string
``"package.module:Class"``.
"""
