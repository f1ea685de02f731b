"""Pictures of surfaces in space: by VTK where PyVista is installed, else by Matplotlib."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from anatozoo.io.figures import shares
from anatozoo.meshes.surface import Faces, Vertices
from anatozoo.results.draw.style import display_name, organ_colors

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SIDE = 700
_SEE_THROUGH = 0.35
_FROM = np.array([-0.25, -1.0, 0.35])
"""Where the pictures are seen from."""
_DARKEST = 0.35
Drawn = Mapping[str, tuple[Vertices, Faces, Any, float]]
"""Organ -> vertices, triangles, colour, opacity."""


def plot_meshes(meshes: Mapping[str, tuple[Vertices, Faces]], organs: Sequence[str]) -> Figure:
    """Draw surfaces as seen along y, with x to the right and z upwards.

    Of several, the myocardium is transparent, for the cavity lies inside.

    Args:
        meshes: organ -> (N, 3) vertices and (F, 3) triangles.
        organs: all organs, by which colours are chosen.
    """
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    colors = {organ: shares(color) for organ, color in organ_colors(organs).items()}
    drawn = {
        organ: (*mesh, colors[organ], _SEE_THROUGH if organ == "myocardium" and len(meshes) > 1 else 1.0)
        for organ, mesh in meshes.items()
    }
    figure = Figure(figsize=(6, 6), layout="constrained")
    try:
        import pyvista  # noqa: F401
    except ImportError:
        _draw_flat(figure, drawn)
    else:
        ax = figure.subplots()
        ax.imshow(_rendered(drawn))
        ax.set_axis_off()
    handles = [Patch(fc=colors[organ], label=display_name(organ)) for organ in meshes]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), fontsize=8, frameon=False)
    return figure


def _rendered(drawn: Drawn) -> npt.NDArray[np.uint8]:
    """(H, W, 3) by VTK, without a screen."""
    import pyvista

    with pyvista.vtk_verbosity("off"):  # it looks for a screen, and says that there is none
        plotter = pyvista.Plotter(off_screen=True, window_size=[_SIDE, _SIDE])
        for vertices, faces, color, opacity in drawn.values():
            surface = pyvista.PolyData.from_regular_faces(vertices, faces)
            plotter.add_mesh(
                surface, color=color, opacity=opacity, smooth_shading=True, split_sharp_edges=True
            )
        plotter.set_background("white")
        plotter.view_vector(_FROM, viewup=(0, 0, 1))
        picture = np.asarray(plotter.screenshot(return_img=True))
        plotter.close()
    return picture


def _draw_flat(figure: Figure, drawn: Drawn) -> None:
    """By Matplotlib: triangle by triangle, the nearest last."""
    from mpl_toolkits.mplot3d.art3d import Poly3DCollection

    corners = np.concatenate([vertices[faces] for vertices, faces, _, _ in drawn.values()])
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    lengths = np.linalg.norm(normals, axis=1)
    facing = np.abs(normals @ _FROM) / np.maximum(lengths, 1e-12) / np.linalg.norm(_FROM)
    light = _DARKEST + (1 - _DARKEST) * facing[:, None]
    colors = np.concatenate([np.tile([*color[:3], a], (len(f), 1)) for _, f, color, a in drawn.values()])
    colors[:, :3] *= light
    ax: Any = figure.add_subplot(projection="3d")
    ax.add_collection3d(Poly3DCollection(corners, facecolors=colors, edgecolors="none"))
    low, high = corners.min(axis=(0, 1)), corners.max(axis=(0, 1))
    ax.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]), zlim=(low[2], high[2]))
    ax.set_box_aspect(high - low, zoom=1.1)
    ax.view_init(elev=20, azim=-76)
    ax.set_axis_off()
