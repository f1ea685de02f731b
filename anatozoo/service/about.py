"""What the manifest says of the checkpoints that are served."""

from __future__ import annotations

from typing import Any


def about_checkpoint(name: str) -> dict[str, Any]:
    """What the manifest says of a checkpoint's use; finds it, but loads no weights.

    Raises:
        AnatozooError: there is none of this name, or its files are not those of the manifest.
        ConfigError: it takes no single files.
    """
    from anatozoo.service.models import check_kind
    from anatozoo.zoo.described import kind_of_name
    from anatozoo.zoo.hub import locate
    from anatozoo.zoo.runs import is_run
    from anatozoo.zoo.tables import license_words

    if is_run(name):
        return {}
    kind = kind_of_name(name)
    if kind is not None:
        check_kind(kind, name)
    spec = locate(name).spec
    if spec is None:
        return {}
    return {
        "summary": spec.summary,
        "license": license_words(spec),
        "commercial_use": spec.license.commercial_use,
        "intended_use": spec.intended_use,
        "out_of_scope": list(spec.out_of_scope),
        "limitations": list(spec.limitations),
    }
