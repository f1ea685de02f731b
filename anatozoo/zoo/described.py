"""What a checkpoint is, told by the manifest or by its files, without its weights."""

from pathlib import Path

from anatozoo.zoo.catalogue import checkpoints
from anatozoo.zoo.checkpoint import CONFIG, read_config
from anatozoo.zoo.kinds import Kind
from anatozoo.zoo.registry import describe_method


def kind_of_name(name: str) -> Kind | None:
    """What a checkpoint takes and gives; None where only `anatozoo.load` can tell, or knows no such name.

    Args:
        name: as for `anatozoo.load`.

    Raises:
        ManifestError: a manifest breaks its schema.
        WeightsError: the configuration in the folder cannot be read.
        ConfigError: its method is unknown.
    """
    spec = next((spec for spec in checkpoints() if spec.name == name), None)
    if spec is not None:
        return spec.output.record
    folder = Path(name).expanduser()
    return describe_method(read_config(folder).method).kind if (folder / CONFIG).is_file() else None
