"""Means over images that do not change with the number of processes."""

import torch
import torchmetrics
from torch import Tensor


class PerImageMean(torchmetrics.Metric):
    """Mean of each column over distinct images.

    A distributed sampler repeats images to fill the last batch, and averaging the processes' means weighs
    them alike whatever they hold. Here every process contributes its rows, keyed by the image's index in
    the data set; each index counts once. NaN means "not applicable" and leaves the image out of that
    column's mean. An image of negative index has no place in the data set, and counts each time.

    Args:
        columns: number of values per image.
    """

    full_state_update = False
    index: list[Tensor]
    values: list[Tensor]

    def __init__(self, columns: int) -> None:
        super().__init__()
        self.columns = columns
        self.add_state("index", default=[], dist_reduce_fx="cat")
        self.add_state("values", default=[], dist_reduce_fx="cat")

    def update(self, index: Tensor, values: Tensor) -> None:
        """Add images.

        Args:
            index: (B,) integer index of each image in the data set.
            values: (B, columns), kept as float32.

        Raises:
            ValueError: the shapes do not match.
        """
        if values.shape != (len(index), self.columns):
            raise ValueError(f"values must be ({len(index)}, {self.columns}), got {tuple(values.shape)}.")
        self.index.append(index.detach().long().reshape(-1))
        self.values.append(values.detach().float())

    def sync(self, *args: object, **kwargs: object) -> None:
        """Gather the rows of all processes, those without any image included.

        torchmetrics stands in for a process without data with an empty float vector, whose type and
        dimensions differ from what the other processes send, so that the gathering would fail.
        """
        if isinstance(self.index, list) and not self.index:
            self.index.append(torch.empty(0, dtype=torch.long, device=self.device))
            self.values.append(torch.empty(0, self.columns, device=self.device))
        super().sync(*args, **kwargs)  # type: ignore[arg-type]

    def rows(self) -> tuple[Tensor, Tensor]:
        """Sorted distinct indices (n,) and values (n, columns) on the CPU; of repeats the first counts."""
        if isinstance(self.index, list) and not self.index:
            return torch.empty(0, dtype=torch.long), torch.empty(0, self.columns)
        # After gathering, a list has become one tensor.
        index = (torch.cat(self.index) if isinstance(self.index, list) else self.index).cpu()
        values = (torch.cat(self.values) if isinstance(self.values, list) else self.values).cpu()
        index = torch.where(index < 0, -1 - torch.arange(len(index)), index)
        distinct, inverse = index.unique(return_inverse=True)
        first = torch.full((len(distinct),), len(index))
        first = first.scatter_reduce(0, inverse, torch.arange(len(index)), "amin")
        return distinct, values[first]

    def compute(self) -> Tensor:
        """Mean of each column, (columns,) float32, summed in double; NaN for a column without any value."""
        return self.rows()[1].double().nanmean(0).float().to(self.device)
