"""Normalization of whole vectors by contraction."""

import math
from typing import Any

from autoray import do

from ..backend import is_complex
from ..chain import Cores
from ..layer import Layer
from ..linalg import spread
from ..states import overlap


class RMSNorm(Layer):
    r"""Divide every vector by its root mean square entry.

    :math:`y = x / \sqrt{\mathrm{mean}|x|^2 + \epsilon}`, with the mean over all
    ``prod(phys_dims)`` entries taken exactly, by contraction. Equals
    :func:`torch.nn.functional.rms_norm` of the dense vector, of which nothing is formed.

    Parameters
    ----------
    eps : float
        Added to the mean square. Zero by default: the mean square entry of a long chain is
        legitimately as small as 0.4**100, which any fixed eps would drown. A zero vector stays
        zero in any case, with zero gradient.

    Examples
    --------
    >>> import numpy as np, ftnn
    >>> x = ftnn.MPS.from_dense(np.array([[3.0, 4.0, 0.0, 0.0]]), (2, 2))
    >>> print(ftnn.nonlinear.RMSNorm()(x).to_dense().round(6))
    [[1.2 1.6 0.  0. ]]
    """

    def __init__(self, eps: float = 0.0):
        if not eps >= 0.0:
            raise ValueError(f"eps is {eps!r}, expected a number >= 0")
        super().__init__()
        self.eps = eps

    def apply(self, cores: Cores) -> Cores:
        """Map cores ``(batch, left, phys, right)`` to cores of the same shape."""
        value, log_scale = overlap(cores, cores)  # value * exp(log_scale) = sum of squares
        value = do("real", value) if is_complex(value) else value
        log_scale = log_scale - sum(math.log(core.shape[2]) for core in cores)
        live = value > 0.0
        value = do("where", live, value, do("ones_like", value))
        if self.eps == 0.0:
            log_mean = log_scale + do("log", value)
        else:
            # log(mean + eps) = peak + log(value e^(log_scale - peak) + eps e^(-peak)); with the
            # peak at the larger of the two exponents nothing overflows, however long the chain is
            log_eps = math.log(self.eps)
            floor = do("zeros_like", log_scale) + log_eps
            peak = do("where", log_scale > log_eps, log_scale, floor)
            total = value * do("exp", log_scale - peak) + do("exp", floor - peak)
            log_mean = peak + do("log", total)
        return spread(list(cores), do("where", live, -0.5 * log_mean, do("zeros_like", log_mean)))

    def config(self) -> dict[str, Any]:
        """Arguments of the constructor."""
        return {"eps": self.eps}
