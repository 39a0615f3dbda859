r"""Second moments as a diagonal and few rows: :math:`\Sigma = \mathrm{diag}(d) + F^T F`."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Factored:
    r"""Second moments :math:`\mathrm{diag}(d) + F^T F` of many inputs.

    Attributes
    ----------
    diagonal : Tensor
        d, (size,), after any groups.
    factor : Tensor
        F, (rank, size), after any groups.

    Examples
    --------
    >>> import torch
    >>> Factored(torch.ones(2), torch.tensor([[1.0, 2.0]])).dense()
    tensor([[2., 2.],
            [2., 5.]])
    """

    diagonal: Tensor
    factor: Tensor

    @property
    def shape(self) -> torch.Size:
        """Shape of the dense matrices."""
        return torch.Size((*self.diagonal.shape, self.diagonal.shape[-1]))

    def dense(self) -> Tensor:
        """Return the matrices."""
        return torch.diag_embed(self.diagonal) + self.factor.mT @ self.factor

    def squares(self) -> Tensor:
        """Return the diagonals of the matrices."""
        return self.diagonal + self.factor.square().sum(-2)

    def norm(self) -> Tensor:
        """Return the Frobenius norms of the matrices."""
        inner = self.factor @ self.factor.mT
        both = self.diagonal * (self.diagonal + 2 * self.factor.square().sum(-2))
        return (both.sum(-1) + inner.square().sum((-2, -1))).sqrt()


class Sketch:
    """Leading right singular vectors of a stream of rows, times their singular values.

    Rows are collected up to twice the rank, and cut to it by a singular value decomposition
    (incremental PCA; Levey and Lindenbaum, IEEE Trans. Image Process. 9, 1371 (2000)). What is cut
    is never more than the stream has: the squares of the sketch are at most those of the rows.
    The shrunk singular values of Frequent Directions have a bound for the worst case, and were
    worse on the activations of networks.

    Parameters
    ----------
    rank : int
    """

    def __init__(self, rank: int):
        self.rank = rank
        self._kept: Tensor | None = None

    def add(self, rows: Tensor) -> None:
        """Add rows (groups, rows, size)."""
        for part in rows.double().split(self.rank, dim=1):
            kept = part if self._kept is None else torch.cat([self._kept, part], dim=1)
            self._kept = self._cut(kept) if kept.shape[1] > 2 * self.rank else kept

    def rows(self) -> Tensor:
        """Return at most ``rank`` rows, (groups, rows, size)."""
        assert self._kept is not None
        return self._cut(self._kept) if self._kept.shape[1] > self.rank else self._kept

    def _cut(self, rows: Tensor) -> Tensor:
        _, vectors = torch.linalg.eigh(rows @ rows.mT)
        return vectors[..., -self.rank :].mT @ rows
