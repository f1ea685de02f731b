"""The methods of the zoo, known by name without importing them."""

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from anatozoo.errors import ConfigError
from anatozoo.zoo.classes import import_class
from anatozoo.zoo.kinds import (
    CODES,
    CONTOURS,
    FIELD,
    LABELS,
    MASK_CONTOURS,
    MESH,
    REPAIR,
    RESTORED,
    SCORES,
    SHAPES,
    TRANSLATED,
    VOLUME,
    VOLUME_MESH,
    Kind,
    find_kind,
)

MODULE_GROUP = "anatozoo.methods"
"""Entry points ``method = "package.module:LightningModuleClass"`` of other packages."""
DATA_GROUP = "anatozoo.datamodules"
"""Entry points ``method = "package.module:LightningDataModuleClass"`` of the same methods, optional."""
ABOUT_GROUP = "anatozoo.about"
"""Entry points ``method = "package.module:MAPPING"`` of the same methods, optional: what cards say about one.

The mapping holds texts under ``title``, ``paper`` and ``kind``, each of which may be left out. Its module is
imported when a card is made, so it should import nothing heavy.
"""

_CLASS_PATH = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")
_METHOD_NAME = re.compile(r"[a-z0-9]+")


@dataclass(frozen=True)
class MethodEntry:
    """One method.

    Args:
        name: short name, the first part of its checkpoints' names.
        module: ``"package.module:Class"`` of its LightningModule.
        data: that of its LightningDataModule, or None where users bring their own.
        kind: what its models answer with, None where its package does not say.
        title: its name in prose.
        paper: the publication, one line.
        about: ``"package.module:MAPPING"`` with better texts for the last three, see `ABOUT_GROUP`.
        model: that of the model alone, which needs no Lightning; None where there is none but the module.
        variants: other names that a checkpoint's may start with, such as those that its publication gives to
            variants of the method; they may hold hyphens, and the longest one that fits counts.
        any_prefix: whether its checkpoints may also be named as those of any other method: an ensemble of
            ``unet`` may be called ``unet-lgg-oen``.
    """

    name: str
    module: str
    data: str | None
    kind: Kind | None
    title: str
    paper: str
    about: str | None = None
    model: str | None = None
    variants: tuple[str, ...] = ()
    any_prefix: bool = False

    @property
    def package(self) -> str:
        """Where the method's other modules are, such as ``convert``: the package that holds its module."""
        return self.module.partition(":")[0].removesuffix(".module")

    @property
    def prefixes(self) -> tuple[str, ...]:
        """What the names of its checkpoints may start with: its own name or a variant's."""
        return (self.name, *self.variants)

    def prefix_of(self, checkpoint: str) -> str:
        """The longest of `prefixes` that a checkpoint's name starts with, and a hyphen; empty for none."""
        fitting = (prefix for prefix in self.prefixes if checkpoint.startswith(f"{prefix}-"))
        return max(fitting, key=len, default="")

    def module_class(self) -> Any:
        """Import and return the LightningModule class."""
        return import_class(self.module)

    def model_class(self) -> Any:
        """Import and return the class of the model alone, which predicts; else the LightningModule class."""
        return import_class(self.model or self.module)

    def data_class(self) -> Any:
        """Import and return the LightningDataModule class.

        Raises:
            ConfigError: the method names none.
        """
        if self.data is None:
            raise ConfigError(
                f"method {self.name} names no data module, so that no command trains or validates it: train "
                "the members of an ensemble one by one; for your own method write a LightningDataModule."
            )
        return import_class(self.data)


METHODS: dict[str, MethodEntry] = {
    "hybridgnet": MethodEntry(
        name="hybridgnet",
        module="anatozoo.methods.hybridgnet.module:HybridGNetModule",
        model="anatozoo.methods.hybridgnet.model:HybridGNetModel",
        data="anatozoo.methods.hybridgnet.data:HybridGNetDataModule",
        kind=CONTOURS,
        title="HybridGNet",
        paper="Gaggion et al., IEEE Transactions on Medical Imaging 2022, doi:10.1109/TMI.2022.3224660",
    ),
    "unet": MethodEntry(
        name="unet",
        module="anatozoo.methods.unet.module:UNetModule",
        model="anatozoo.methods.unet.model:UNetModel",
        data="anatozoo.methods.unet.data:UNetDataModule",
        kind=LABELS,
        title="U-Net",
        paper="Ronneberger et al., MICCAI 2015; here as in Gaggion et al., doi:10.1109/TMI.2022.3224660",
    ),
    "landmarkvae": MethodEntry(
        name="landmarkvae",
        module="anatozoo.methods.landmarkvae.module:LandmarkVAEModule",
        model="anatozoo.methods.landmarkvae.model:LandmarkVAEModel",
        data="anatozoo.methods.hybridgnet.data:HybridGNetDataModule",
        kind=CONTOURS,
        title="PCA and FC baselines of HybridGNet",
        paper="the baselines of Gaggion et al., doi:10.1109/TMI.2022.3224660",
        variants=("pca", "fc"),
    ),
    "seg2graph": MethodEntry(
        name="seg2graph",
        module="anatozoo.methods.seg2graph.module:Seg2GraphModule",
        model="anatozoo.methods.seg2graph.model:Seg2GraphModel",
        data="anatozoo.methods.seg2graph.data:Seg2GraphDataModule",
        kind=MASK_CONTOURS,
        title="Seg2Graph",
        paper="landmarks from masks as in Gaggion et al., doi:10.1109/TMI.2022.3224660",
    ),
    "maskhybridgnet": MethodEntry(
        name="maskhybridgnet",
        module="anatozoo.methods.maskhybridgnet.module:MaskHybridGNetModule",
        model="anatozoo.methods.maskhybridgnet.model:MaskHybridGNetModel",
        data="anatozoo.methods.maskhybridgnet.data:MaskHybridGNetDataModule",
        kind=CONTOURS,
        title="Mask-HybridGNet",
        paper="Gaggion et al., arXiv:2602.21179",
    ),
    "shapevae": MethodEntry(
        name="shapevae",
        module="anatozoo.methods.shapevae.module:ShapeVAEModule",
        model="anatozoo.methods.shapevae.model:ShapeVAEModel",
        data="anatozoo.methods.shapevae.data:ShapeVAEDataModule",
        kind=SHAPES,
        title="Graph spectral VAE",
        paper="the landmark autoencoder of Gaggion et al., doi:10.1109/TMI.2022.3224660",
    ),
    "meshvae": MethodEntry(
        name="meshvae",
        module="anatozoo.methods.meshvae.module:MeshVAEModule",
        model="anatozoo.methods.meshvae.model:MeshVAEModel",
        data="anatozoo.methods.meshvae.data:MeshDataModule",
        kind=MESH,
        title="Mesh VAE",
        paper="Bonazzola et al., doi:10.1038/s42256-024-00801-1",
    ),
    "hybridvnet": MethodEntry(
        name="hybridvnet",
        module="anatozoo.methods.hybridvnet.module:HybridVNetModule",
        model="anatozoo.methods.hybridvnet.model:HybridVNetModel",
        data="anatozoo.methods.hybridvnet.data:HybridVNetDataModule",
        kind=VOLUME_MESH,
        title="HybridVNet",
        paper="Gaggion et al., arXiv:2311.13706",
    ),
    "multiatlas": MethodEntry(
        name="multiatlas",
        module="anatozoo.methods.multiatlas.module:MultiAtlasModule",
        model="anatozoo.methods.multiatlas.model:MultiAtlasModel",
        data="anatozoo.methods.hybridgnet.data:HybridGNetDataModule",
        kind=CONTOURS,
        title="Multi-atlas segmentation",
        paper="the baseline MultiAtlas of Gaggion et al., doi:10.1109/TMI.2022.3224660",
    ),
    "acregnet": MethodEntry(
        name="acregnet",
        module="anatozoo.methods.acregnet.module:AcRegNetModule",
        model="anatozoo.methods.acregnet.model:AcRegNetModel",
        data="anatozoo.methods.acregnet.data:AcRegNetDataModule",
        kind=FIELD,
        title="AC-RegNet",
        paper="Mansilla et al., Neural Networks 2020",
        variants=("regnet", "ceregnet", "aeregnet"),
    ),
    "affinereg": MethodEntry(
        name="affinereg",
        module="anatozoo.methods.affinereg.module:AffineRegModule",
        model="anatozoo.methods.affinereg.model:AffineRegModel",
        data="anatozoo.methods.acregnet.data:AcRegNetDataModule",
        kind=FIELD,
        title="Siamese affine registration",
        paper="the affine network of Gaggion et al., CheXmask, Scientific Data 2024",
    ),
    "aenet": MethodEntry(
        name="aenet",
        module="anatozoo.methods.aenet.module:AeNetModule",
        model="anatozoo.methods.aenet.model:AeNetModel",
        data="anatozoo.methods.aenet.data:AeNetDataModule",
        kind=CODES,
        title="AENet",
        paper="the label autoencoder of Mansilla et al., Neural Networks 2020",
    ),
    "postdae": MethodEntry(
        name="postdae",
        module="anatozoo.methods.postdae.module:PostDAEModule",
        model="anatozoo.methods.postdae.model:PostDAEModel",
        data="anatozoo.methods.postdae.data:PostDAEDataModule",
        kind=REPAIR,
        title="Post-DAE",
        paper="Larrazabal et al., IEEE Transactions on Medical Imaging 2020",
    ),
    "acnn": MethodEntry(
        name="acnn",
        module="anatozoo.methods.acnn.module:AcnnModule",
        model="anatozoo.methods.acnn.model:AcnnModel",
        data="anatozoo.methods.acnn.data:AcnnDataModule",
        kind=VOLUME,
        title="ACNN",
        paper="Oktay et al., IEEE Transactions on Medical Imaging 2018",
    ),
    "acnnprior": MethodEntry(
        name="acnnprior",
        module="anatozoo.methods.acnnprior.module:AcnnPriorModule",
        model="anatozoo.methods.acnnprior.model:AcnnPriorModel",
        data="anatozoo.methods.acnn.data:AcnnDataModule",
        kind=CODES,
        title="ACNN's shape prior",
        paper="the autoencoder of label maps of Oktay et al., IEEE Transactions on Medical Imaging 2018",
        variants=("acnn-prior",),
    ),
    "acnntl": MethodEntry(
        name="acnntl",
        module="anatozoo.methods.acnntl.module:AcnnTLModule",
        model="anatozoo.methods.acnntl.model:AcnnTLModel",
        data="anatozoo.methods.acnn.data:AcnnDataModule",
        kind=VOLUME,
        title="T-L network of ACNN",
        paper="Girdhar et al., ECCV 2016; here as in Oktay et al., IEEE Transactions on Medical Imaging 2018",
        variants=("acnn-tl",),
    ),
    "acnnsr": MethodEntry(
        name="acnnsr",
        module="anatozoo.methods.acnnsr.module:AcnnSRModule",
        model="anatozoo.methods.acnnsr.model:AcnnSRModel",
        data="anatozoo.methods.acnnsr.data:AcnnSRDataModule",
        kind=RESTORED,
        title="ACNN-SR",
        paper="Oktay et al., IEEE Transactions on Medical Imaging 2018",
        variants=("acnn-sr",),
    ),
    "cyclegan": MethodEntry(
        name="cyclegan",
        module="anatozoo.methods.cyclegan.module:CycleGANModule",
        model="anatozoo.methods.cyclegan.model:CycleGANModel",
        data="anatozoo.methods.cyclegan.data:CycleGANDataModule",
        kind=TRANSLATED,
        title="CycleGAN",
        paper="Zhu et al., ICCV 2017; for lesions across centres Palladino et al., SIPAIM 2020",
    ),
    "classifier": MethodEntry(
        name="classifier",
        module="anatozoo.methods.classifier.module:ClassifierModule",
        model="anatozoo.methods.classifier.model:ClassifierModel",
        data="anatozoo.methods.classifier.data:ClassifierDataModule",
        kind=SCORES,
        title="Classifier",
        paper="the classifiers of Larrazabal et al., PNAS 2020, doi:10.1073/pnas.1919012117",
    ),
    "ensemble": MethodEntry(
        name="ensemble",
        module="anatozoo.methods.ensemble.module:EnsembleModule",
        model="anatozoo.methods.ensemble.model:EnsembleModel",
        data=None,
        kind=LABELS,
        title="Ensemble",
        paper="Larrazabal et al., MICCAI 2021, for orthogonal ones",
        any_prefix=True,
    ),
    "volumeensemble": MethodEntry(
        name="volumeensemble",
        module="anatozoo.methods.ensemble.module:VolumeEnsembleModule",
        model="anatozoo.methods.ensemble.model:VolumeEnsembleModel",
        data=None,
        kind=VOLUME,
        title="Ensemble of volumes",
        paper="Larrazabal et al., MICCAI 2021, for orthogonal ones",
        any_prefix=True,
    ),
}
"""The methods of this package, by name."""


@cache
def _third_party() -> Mapping[str, MethodEntry]:
    # Only here: no command about this package's own methods needs it.
    from importlib.metadata import entry_points

    data = {point.name: point.value for point in entry_points(group=DATA_GROUP)}
    about = {point.name: point.value for point in entry_points(group=ABOUT_GROUP)}
    found: dict[str, MethodEntry] = {}
    for point in entry_points(group=MODULE_GROUP):
        owner = point.dist.name if point.dist else "an installed package"
        if not _CLASS_PATH.fullmatch(point.value):
            raise ConfigError(
                f"{owner} registers method {point.name} as {point.value!r}; write 'package.module:Class'."
            )
        if not _METHOD_NAME.fullmatch(point.name):
            raise ConfigError(
                f"{owner} registers a method as {point.name!r}; the names of checkpoints start with it, so "
                "write lower-case letters and digits only."
            )
        if point.name in found and found[point.name].module != point.value:
            raise ConfigError(
                f"two packages offer method {point.name!r}: {found[point.name].module} and {point.value}; "
                "uninstall one."
            )
        found[point.name] = MethodEntry(
            name=point.name,
            module=point.value,
            data=data.get(point.name),
            kind=None,
            title=point.name,
            paper=f"see the package {owner}",
            about=about.get(point.name),
        )
    return found


def methods() -> dict[str, MethodEntry]:
    """All methods by name: this package's, then those that installed packages register.

    Raises:
        ConfigError: an installed package takes a name that is in use or writes no class path.
    """
    others = _third_party()
    for name in METHODS.keys() & others.keys():
        raise ConfigError(
            f"two packages offer method {name!r}: anatozoo and {others[name].module}; uninstall one."
        )
    return {**METHODS, **others}


def find_method(name: str) -> MethodEntry:
    """The method of this name.

    Raises:
        ConfigError: there is none; the message lists close matches.
    """
    # The own table first: looking for other packages reads every installed distribution's metadata.
    if name in METHODS:
        return METHODS[name]
    known = methods()
    if name in known:
        return known[name]
    close = difflib.get_close_matches(name, known, n=3) or sorted(known)
    raise ConfigError(f"no method is called {name!r}; did you mean {' or '.join(close)}?")


def find_method_of(checkpoint: str) -> MethodEntry:
    """The method in a checkpoint's name, which starts with it or with one of its variants.

    Of several that fit, the longest counts: ``acnn-sr-hippocampus`` is of ``acnnsr``, not of ``acnn``.

    Raises:
        ConfigError: there is none; the message lists close matches.
    """
    nearest = max(METHODS.values(), key=lambda entry: len(entry.prefix_of(checkpoint)))
    return nearest if nearest.prefix_of(checkpoint) else find_method(checkpoint.partition("-")[0])


def check_prefix(checkpoint: str, method: MethodEntry) -> None:
    """Make sure that a checkpoint's name is of this method.

    Raises:
        ConfigError: it starts with no name of the method, or with one of another method.
    """
    own = method.prefix_of(checkpoint)
    if not own and method.any_prefix and any(other.prefix_of(checkpoint) for other in METHODS.values()):
        return
    if not own:
        raise ConfigError(f"the name must start with the method: {'-... or '.join(method.prefixes)}-...")
    for other in METHODS.values():
        if len(prefix := other.prefix_of(checkpoint)) > len(own):
            raise ConfigError(f"a name that starts with {prefix}- is of the method {other.name}.")


def describe_method(name: str) -> MethodEntry:
    """The method of this name with what its package says about it, which may import a module of that package.

    Raises:
        ConfigError: there is none, or what the package says is not as `ABOUT_GROUP` asks.
    """
    entry = find_method(name)
    if entry.about is None:
        return entry
    about = import_class(entry.about)
    keys = ("title", "paper", "kind")
    if not isinstance(about, Mapping) or not all(
        key in keys and isinstance(text, str) and text.strip() for key, text in about.items()
    ):
        raise ConfigError(f"{entry.about} must be a mapping with texts under {', '.join(keys)}.")
    told: dict[str, Any] = dict(about)
    if "kind" in told:
        try:
            told["kind"] = find_kind(told["kind"])
        except ConfigError as error:
            raise ConfigError(f"{entry.about}: {error}") from error
    return replace(entry, **told)
