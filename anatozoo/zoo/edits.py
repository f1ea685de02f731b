"""Change values in the text of a manifest, and leave all other text as it is."""

from collections.abc import Iterable

import yaml

Edit = tuple[yaml.Node, str]
"""A value's node, and the text that is to stand in its place."""


def entries(text: str) -> list[dict[str, yaml.Node]]:
    """The checkpoints of a manifest that need not be valid yet, each by its keys.

    Raises:
        yaml.YAMLError: it is not YAML.
        KeyError: it lists no checkpoints.
    """
    # PyYAML's own parser: its marks count characters of the text, which the edits rely on.
    return [by_key(node) for node in by_key(yaml.compose(text, Loader=yaml.SafeLoader))["checkpoints"].value]


def by_key(node: yaml.Node | None) -> dict[str, yaml.Node]:
    """The values of a mapping; empty for what is none."""
    return {key.value: value for key, value in node.value} if isinstance(node, yaml.MappingNode) else {}


def edited(text: str, edits: Iterable[Edit]) -> str:
    """The text with new values."""
    # From the end, so that earlier positions stay right.
    for node, value in sorted(edits, key=lambda edit: edit[0].start_mark.index, reverse=True):
        text = text[: node.start_mark.index] + value + text[node.end_mark.index :]
    return text
