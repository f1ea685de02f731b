"""The mesh VAE: from meshes to few numbers and back."""

from anatozoo.methods.meshvae.network import MeshVAE
from anatozoo.tasks.meshes import MeshTask, Units


class MeshVAEModel(MeshTask):
    """Codes and reconstructions of meshes. Bonazzola et al., Nature Machine Intelligence 2024.

    Args:
        rings: of each sheet of hearts, at least 8.
        angles: points of a ring, at least 8.
        units: of the vertices, ``"mm"`` or ``"px"``.
        latents: length of the code.
        widths: of the layers, finest first.
        order: number of Chebyshev terms K.
        graph_conv: ``"sparse"``, ``"static"`` or ``"pyg"``, which differ in speed alone.
        template: None for hearts; for other anatomy see `anatozoo.tasks.meshes.MeshTask`.

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
        template: str | None = None,
    ) -> None:
        super().__init__(rings, angles, units, template)
        self.latents, self.widths, self.order, self.graph_conv = latents, tuple(widths), order, graph_conv
        levels, stored = self.meshes(len(self.widths))
        self.network = MeshVAE(
            levels,
            latents=latents,
            widths=self.widths,
            order=order,
            graph_conv=graph_conv,
            stored=stored,
        )
