"""The page `docs/cite.md`: how to cite the software, and the paper of each method with its BibTeX."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from anatozoo.errors import ManifestError
from anatozoo.zoo.registry import METHODS, describe_method
from anatozoo.zoo.spec import CheckpointSpec

CITATION = "CITATION.cff"

_HEAD = """\
# Cite

Generated from `CITATION.cff`, the registry of methods and the manifest by `python -m docs.pages`: edit those,
not this page. Please cite the paper of the method that you used, the data sets that its weights learned from
(they are in its [card](checkpoints.md)), and this software, with its version and, for weights, the name and
version of the checkpoint.

## The software

```bibtex
@software{{anatozoo,
  title   = {{{title}}},
  author  = {{{{{authors}}}}},
  version = {{{version}}},
  license = {{{license}}}
}}
```

## The methods
"""


def cite_page(citation: Path, specs: Sequence[CheckpointSpec]) -> str:
    """The page's text.

    Args:
        citation: the file ``CITATION.cff``.
        specs: checkpoints of the manifest, whose entries hold BibTeX.

    Raises:
        ManifestError: the file cannot be read, or lacks a key.
    """
    try:
        facts: Mapping[str, Any] = yaml.safe_load(citation.read_text(encoding="utf-8"))
        authors = " and ".join(author["name"] for author in facts["authors"])
        parts = [_HEAD.format(authors=authors, **{k: facts[k] for k in ("title", "version", "license")})]
    except (OSError, yaml.YAMLError, KeyError, TypeError) as error:
        raise ManifestError(f"{citation}: no citation of the software ({error!r}).") from error
    for name in METHODS:
        entry = describe_method(name)
        ours = [spec for spec in specs if spec.method == name]
        parts.append(f"\n### {entry.title}\n\n{entry.paper[:1].upper()}{entry.paper[1:]}.")
        if ours:
            parts.append(f" Checkpoints: {', '.join(f'`{spec.name}`' for spec in ours)}.")
        parts.append("\n")
        for bibtex in dict.fromkeys(spec.citation.strip() for spec in ours if spec.citation):
            parts.append(f"\n```bibtex\n{bibtex}\n```\n")
    return "".join(parts)
