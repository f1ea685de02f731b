"""The mesh VAE: from meshes of hearts to few numbers and back."""

from anatozoo.methods.meshvae.network import MeshVAE
from anatozoo.tasks.meshes import MeshTask, Units


class MeshVAEModel(MeshTask):
    """Codes and reconstructions of meshes of hearts. Bonazzola et al., Nature Machine Intelligence 2024.

    Args:
        rings: of each sheet, at least 8.
        angles: points of a ring, at least 8.
        units: of the vertices, ``"mm"`` or ``"px"``.
        latents: length of the code.
        widths: of the layers, finest first.
        order: number of Chebyshev terms K.
        graph_conv: ``"sparse"``, ``"static"`` or ``"pyg"``, which differ in speed alone.

    Raises:
        ConfigError: settings that are not possible.
    """

    network: MeshVAE

    def __init__(
        self,
        rings: int = 16,
        angles: int = 32,
        units: Units = "mm",
        latents: int = 8,
        widths: tuple[int, ...] = (16, 32, 64, 128),
        order: int = 6,
        graph_conv: str = "sparse",
    ) -> None:
        super().__init__(rings, angles, units)
        self.latents, self.widths, self.order, self.graph_conv = latents, tuple(widths), order, graph_conv
        self.network = MeshVAE(
            self.size, latents=latents, widths=self.widths, order=order, graph_conv=graph_conv
        )
