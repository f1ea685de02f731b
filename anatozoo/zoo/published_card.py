"""The card that is published with a checkpoint, and how to know later that nobody has edited it.

The last line of a published card is a comment with the SHA-256 of the lines before. A card whose comment is
right is as anatozoo wrote it and may be replaced; any other one has been edited, or is somebody's own.
"""

import dataclasses
import hashlib
import re
from collections.abc import Mapping
from pathlib import Path

import yaml

from anatozoo.errors import ConfigError
from anatozoo.zoo import catalogue
from anatozoo.zoo.card import card, front_matter, render
from anatozoo.zoo.checkpoint import CheckpointConfig
from anatozoo.zoo.registry import describe_method
from anatozoo.zoo.spec import CheckpointSpec, FileRecord

CARD = "README.md"
_SEAL = re.compile(r"\n<!-- written by anatozoo, sha256 (?P<sha256>[0-9a-f]{64}) -->\n\Z")
_FRONT = re.compile(r"---\n(?P<values>.*?)^---\n", re.DOTALL | re.MULTILINE)


def sealed(text: str) -> str:
    """The card with its comment; a comment that it has already is renewed."""
    body = unsealed(text)
    return f"{body}\n<!-- written by anatozoo, sha256 {_digest(body)} -->\n"


def unsealed(text: str) -> str:
    """The card without its comment, whether that is right or not."""
    return _SEAL.sub("", _plain(text))


def is_untouched(text: str) -> bool:
    """Whether a card is as anatozoo published it."""
    found = _SEAL.search(_plain(text))
    return found is not None and found["sha256"] == _digest(unsealed(text))


def _digest(body: str) -> str:
    return hashlib.sha256(body.encode()).hexdigest()


def _plain(text: str) -> str:
    return text.replace("\r\n", "\n")


def card_of(spec: CheckpointSpec, repo_id: str) -> str:
    """The manifest's card, as of a checkpoint that is published in this repository.

    The commit cannot be in a file that belongs to it, so the tag of the version stands in its place.
    """
    hub = dataclasses.replace(spec.hub, repo_id=repo_id, revision="0" * 40)
    listed = dataclasses.replace(spec, status=spec.status_on_hub, hub=hub)
    text = card(listed, private=catalogue.is_private(spec.name))
    return text.replace(f"at commit `{'0' * 40}`", f"with the tag `v{spec.version}`")


def plain_card(config: CheckpointConfig, files: Mapping[str, FileRecord], repo_id: str) -> str:
    """A card for a checkpoint that no manifest describes, as it is published.

    Args:
        config: its ``config.json``.
        files: records of its files.
        repo_id: where it is published.
    """
    use = (
        '# COMMIT: the full commit of 40 hex digits, from "Files and versions"\n'
        f'model = anatozoo.load("hf:{repo_id}@COMMIT")'
    )
    return files_card(config, files, use, "Those who published it have not described it yet")


def files_card(config: CheckpointConfig, files: Mapping[str, FileRecord], use: str, remark: str) -> str:
    """What the files of a checkpoint tell, and what nobody told.

    Args:
        config: its configuration.
        files: records of its files.
        use: the lines that load it.
        remark: why the card says no more, the start of a sentence.
    """
    method = describe_method(config.method)
    word = method.kind.hub_tag if method.kind else None
    tag = {"pipeline_tag": word} if word else {}
    values = {
        "library_name": "anatozoo",
        **tag,
        "license": "unknown",
        "tags": ["anatozoo", config.method, "medical-imaging", "pytorch"],
    }
    front = front_matter(values)
    return render(
        "files_card.md.j2", front, config=config, method=method, files=files, use=use, remark=remark
    )


def read_card(path: Path) -> str:
    """A card of the user's own.

    Raises:
        ConfigError: it cannot be read, or lacks the front matter that the Hub needs.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"the card {path} cannot be read: {error}.") from error
    check_front_matter(text, path)
    return text


def check_front_matter(text: str, path: Path | str) -> None:
    """Refuse a card that does not begin with YAML which names a licence.

    Raises:
        ConfigError: it does not; the message shows how it begins.
    """
    match = _FRONT.match(_plain(text))
    try:
        values = yaml.safe_load(match["values"]) if match else None
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise ConfigError(
            f"the front matter of {path} is not YAML: {' '.join(str(error).split())}."
        ) from error
    if not isinstance(values, dict) or "license" not in values:
        raise ConfigError(
            f"the card {path} must begin with front matter that names a licence: lines `---`, "
            "`license: cc-by-4.0`, `library_name: anatozoo`, `---`."
        )
