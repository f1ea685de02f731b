"""What a checkpoint is, told by the manifest or by its files, without its weights."""

from dataclasses import dataclass
from pathlib import Path

from anatozoo.zoo.catalogue import checkpoints
from anatozoo.zoo.checkpoint import CONFIG, CheckpointConfig, read_config
from anatozoo.zoo.files import fingerprint
from anatozoo.zoo.kinds import Kind
from anatozoo.zoo.published_card import CARD, files_card
from anatozoo.zoo.registry import describe_method
from anatozoo.zoo.spec import FILES, FileRecord


@dataclass(frozen=True)
class FolderFacts:
    """What files tell about a checkpoint that no manifest describes.

    Args:
        path: its folder, or the file of a training run.
        config: method, name, version and settings.
        files: size and SHA-256 of each file.
    """

    path: Path
    config: CheckpointConfig
    files: dict[str, FileRecord]

    def card(self) -> str:
        """The card in the folder, or one that says what the files tell."""
        if (self.path / CARD).is_file():
            return (self.path / CARD).read_text(encoding="utf-8")
        return files_card(
            self.config, self.files, f'model = anatozoo.load("{self.path}")', "Nobody has described it yet"
        )


def is_folder(name: str) -> bool:
    """Whether this names a checkpoint's folder, and not a checkpoint of the manifest."""
    return (Path(name).expanduser() / CONFIG).is_file() and all(spec.name != name for spec in checkpoints())


def read_folder(name: str) -> FolderFacts:
    """What the files in a checkpoint's folder tell.

    Raises:
        WeightsError: its configuration cannot be read.
    """
    folder = Path(name).expanduser()
    present = [file for file in FILES if (folder / file).is_file()]
    return FolderFacts(folder, read_config(folder), {file: fingerprint(folder / file) for file in present})


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
    return describe_method(read_config(Path(name).expanduser()).method).kind if is_folder(name) else None
