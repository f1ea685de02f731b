"""Constant sparse matrices that take part in networks."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from scipy import sparse


class _Product(torch.autograd.Function):
    """A constant sparse matrix times a dense one; torch's own gradient would make the matrix dense."""

    @staticmethod
    def forward(ctx: Any, matrix: Tensor, transposed: Tensor, x: Tensor) -> Tensor:
        ctx.transposed = transposed
        return matrix @ x

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, None, Tensor]:
        return None, None, ctx.transposed @ gradients[0]


class SparseMatrix(nn.Module):
    """Multiplies node features by a constant sparse matrix, without parameters and nothing to store.

    Args:
        matrix: (M, N), dense or sparse.
    """

    values: Tensor

    def __init__(self, matrix: Tensor) -> None:
        super().__init__()
        whole = matrix.to_sparse_coo().float().coalesce()
        self.size, self.places = tuple(whole.shape), whole.indices().clone()
        # The entries by columns, which the gradient takes.
        self.order = (self.places[1] * self.size[0] + self.places[0]).argsort()
        # The places are no buffers: an average of weights would average them, too.
        self.register_buffer("values", whole.values().clone(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Features (M, ...) of features `x` (N, ...)."""
        flat, values = x.flatten(1), self.values.to(x.dtype)
        if torch.compiler.is_compiling():  # which knows no sparse matrices
            rows, columns = self.places
            found = flat.new_zeros(self.size[0], flat.shape[1])
            found = found.index_add(0, rows, values[:, None] * flat[columns])
        else:
            matrix = _sparse(self.places, values, self.size)
            back = _sparse(self.places.flip(0)[:, self.order], values[self.order], self.size[::-1])
            found = _Product.apply(matrix, back, flat)
        return found.view(-1, *x.shape[1:])

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        super()._apply(fn, recurse)
        self.places, self.order = self.places.to(self.values.device), self.order.to(self.values.device)
        return self


def _sparse(places: Tensor, values: Tensor, size: tuple[int, ...]) -> Tensor:
    return torch.sparse_coo_tensor(places, values, size, is_coalesced=True, check_invariants=False)


def sparse_tensor(matrix: "sparse.spmatrix") -> Tensor:
    """A sparse matrix of SciPy as a sparse tensor of torch."""
    found = matrix.tocoo()
    places = torch.from_numpy(np.stack([found.row, found.col]).astype(np.int64))
    return torch.sparse_coo_tensor(places, torch.from_numpy(found.data), found.shape, check_invariants=True)
