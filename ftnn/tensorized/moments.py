"""Second moments of the inputs of a layer, gathered batch by batch."""

from typing import Any

import torch
from torch import Tensor

from .factored import Factored, Sketch

ROWS = 8192
"""Rows that are multiplied at once: patches of images are many."""


class Moments:
    r"""Means of :math:`x x^T`, or of its diagonal, and of x, over all rows so far.

    Parameters
    ----------
    size : int
        Number of inputs, of one group.
    groups : int
    diagonal : bool
        Whether to keep the diagonal alone.
    rank : int, optional
        Keep the diagonal, and so many rows of a factor of the rest, see :class:`Factored`; by
        default the whole matrix.

    Examples
    --------
    >>> import torch
    >>> moments = Moments(3)
    >>> moments.add(torch.eye(3)); moments.add(torch.ones(1, 3))
    >>> moments.second()
    tensor([[0.5000, 0.2500, 0.2500],
            [0.2500, 0.5000, 0.2500],
            [0.2500, 0.2500, 0.5000]], dtype=torch.float64)
    """

    def __init__(self, size: int, groups: int = 1, diagonal: bool = False, rank: int | None = None):
        if rank is not None and rank < 1:
            raise ValueError(f"rank is {rank}, expected an integer >= 1, or None for all moments")
        if rank is not None and diagonal:
            raise ValueError(f"rank is {rank}, but a diagonal has no factor; leave one of them out")
        self.size, self.groups, self.diagonal = size, groups, diagonal
        self.rows = 0
        self._sketch = None if rank is None else Sketch(rank)
        self._sum: Tensor | None = None
        self._first: Tensor | None = None
        self._higher: Tensor | None = None

    @property
    def bytes(self) -> int:
        """Memory of the moments."""
        if self._sketch is not None:
            return 16 * self.groups * self.size * self._sketch.rank
        return 8 * self.groups * self.size * (1 if self.diagonal else self.size)

    def add(self, x: Tensor) -> None:
        """Add rows (..., groups * size).

        Raises
        ------
        ValueError
            If they have another size, or values that are not finite.
        """
        if x.shape[-1] != self.groups * self.size:
            raise ValueError(
                f"rows have shape {tuple(x.shape)}, expected (..., {self.groups * self.size})"
            )
        rows = x.detach().reshape(-1, self.groups, self.size)
        for part in rows.split(ROWS):
            self._add(part.float() if part.dtype in (torch.float16, torch.bfloat16) else part)

    def _add(self, part: Tensor) -> None:
        columns = part.transpose(0, 1)  # (groups, rows, size)
        single = self.diagonal or self._sketch is not None
        new = columns.square().sum(1) if single else columns.mT @ columns
        if not torch.isfinite(new).all():
            raise ValueError(
                "inputs have values that are not finite; check the calibration batches"
            )
        first = columns.sum(1).double()
        wide = columns.double()
        squares = wide.square()
        norms = squares.sum(-1)  # (groups, rows)
        fourth = norms.square().sum(1, keepdim=True).expand_as(first)
        third = (norms[:, None] @ wide)[:, 0]
        higher = torch.stack([fourth, third, squares.square().sum(1), (squares * wide).sum(1)])
        if self._sketch is not None:
            self._sketch.add(columns - first.to(columns)[:, None] / len(part))
            if self._first is not None:  # the means of both, as in covariances of parts
                weight = self.rows * len(part) / (self.rows + len(part))
                gap = self._first / self.rows - first / len(part)
                self._sketch.add(weight**0.5 * gap[:, None])
        found = (new.double(), first, higher)
        before = (self._sum, self._first, self._higher)
        self._sum, self._first, self._higher = (
            value if old is None else old + value for old, value in zip(before, found, strict=True)
        )
        self.rows += len(part)

    def count(self, indices: Tensor) -> None:
        """Add rows that are unit vectors, given by the positions of their ones."""
        counts = torch.bincount(indices.detach().reshape(-1), minlength=self.size).double()[None]
        self._sum = counts if self._sum is None else self._sum + counts
        self.rows += indices.numel()

    def permute(self, order: Tensor) -> None:
        """Give the inputs another order."""
        if self._sketch is not None or self._sum is None:
            raise ValueError("moments are factored or empty, expected whole matrices")
        self._sum = self._sum[..., order] if self.diagonal else self._sum[:, order][..., order]
        if self._first is not None and self._higher is not None:
            self._first, self._higher = self._first[:, order], self._higher[..., order]

    def second(self) -> Tensor | Factored:
        """Return the means of products or squares: (size, size) or (size,), after any groups."""
        return self._ungrouped(self._second(False))

    def first(self) -> Tensor:
        """Return the mean of the inputs, (size,), after any groups."""
        return self._ungrouped(self._mean(self._first))

    def metric(self, centered: bool = False) -> Tensor | Factored:
        r"""Return second moments, or covariances, as they are best estimated from few rows.

        What is beside the diagonal is multiplied by :math:`1 - \rho`, where :math:`\rho` minimizes
        the expected squared error for independent rows (Ledoit and Wolf, J. Multivar. Anal. 88, 365
        (2004); with the diagonal as the target, Schäfer and Strimmer, Stat. Appl. Genet. Mol. Biol.
        4, 32 (2005)):

        .. math:: \rho = \sum_{i \ne j} \mathrm{Var}\, \Sigma_{ij} / \sum_{i \ne j}
            \Sigma_{ij}^2, \qquad n\,\mathrm{Var}\, \Sigma_{ij} = E\, x_i^2 x_j^2 - \Sigma_{ij}^2 .
        """
        second = self._second(centered)
        if self.diagonal:
            return self._ungrouped(second)
        keep = 1 - self._shrinkage(second, centered)[:, None]
        if isinstance(second, Factored):
            rest = second.diagonal + (1 - keep) * second.factor.square().sum(1)
            return self._ungrouped(Factored(rest, keep[..., None].sqrt() * second.factor))
        shrunk = keep[..., None] * second
        shrunk.diagonal(dim1=-2, dim2=-1).copy_(second.diagonal(dim1=-2, dim2=-1))
        return self._ungrouped(shrunk)

    def _shrinkage(self, second: Tensor | Factored, centered: bool) -> Tensor:
        r"""Return :math:`\rho` of every group."""
        if isinstance(second, Factored):
            squares, norm = second.squares(), second.norm().square()
        else:
            squares, norm = second.diagonal(dim1=-2, dim2=-1), second.square().sum((-2, -1))
        fourth, third, fourths, thirds = self._mean(self._higher)
        fourth = fourth[:, 0]
        if centered:  # moments of x - m, from those of x
            m = self._mean(self._first)
            s, trace = m.square().sum(-1), squares.sum(-1)
            if isinstance(second, Factored):
                along = (second.factor @ m[..., None])[..., 0].square().sum(-1)
                along = along + (second.diagonal * m.square()).sum(-1)
            else:
                along = (m[:, None, :] @ second @ m[:, :, None])[:, 0, 0]
            # with C the covariance, s = |m|^2: E (m x)^2 = m C m + s^2, E |x|^2 = tr C + s
            fourth = fourth + 4 * along + s.square() - 4 * (third * m).sum(-1)
            fourth = fourth + 2 * s * (trace + s)
            fourths = fourths - 4 * m * thirds + 6 * m.square() * squares + 3 * m**4
        own = squares.square().sum(-1)
        noise = (fourth - fourths.sum(-1) - norm + own) / self.rows
        beside = (norm - own).clamp(min=torch.finfo(norm.dtype).tiny)
        share = noise / beside  # fourth powers may overflow where squares do not
        return share.where(share.isfinite(), torch.zeros_like(share)).clamp(0, 1)

    def _second(self, centered: bool) -> Tensor | Factored:
        """Return second moments or covariances with an axis of groups."""
        second = self._mean(self._sum)
        if not centered and self._sketch is None:
            return second
        mean = self._mean(self._first)
        if self._sketch is None:
            if self.diagonal:
                return (second - mean.square()).clamp(min=0)
            return second - mean[:, :, None] * mean[:, None, :]
        factor = self._sketch.rows() / self.rows**0.5
        rest = second - mean.square() - factor.square().sum(1)
        if not centered:
            factor = torch.cat([factor, mean[:, None]], dim=1)
        return Factored(rest.clamp(min=0), factor)

    def _mean(self, total: Tensor | None) -> Tensor:
        if total is None or not self.rows:
            raise ValueError("no rows were added; the calibration set is empty")
        return total / self.rows

    def _ungrouped(self, found: Any) -> Any:
        """Leave the axis of groups out if there is one group."""
        if self.groups > 1:
            return found
        if isinstance(found, Factored):
            return Factored(found.diagonal[0], found.factor[0])
        return found[0]
