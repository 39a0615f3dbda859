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
        Added to the mean square; a zero vector stays zero, with finite gradients.

    Examples
    --------
    >>> import numpy as np, ftnn
    >>> x = ftnn.MPS.from_dense(np.array([[3.0, 4.0, 0.0, 0.0]]), (2, 2))
    >>> print(ftnn.nonlinear.RMSNorm(eps=0.0)(x).to_dense().round(6))
    [[1.2 1.6 0.  0. ]]
    """

    def __init__(self, eps: float = 1e-6):
        if not eps >= 0.0:
            raise ValueError(f"eps is {eps!r}, expected a number >= 0")
        super().__init__()
        self.eps = eps

    def apply(self, cores: Cores) -> Cores:
        """Map cores ``(batch, left, phys, right)`` to cores of the same shape."""
        value, log_scale = overlap(cores, cores)  # value * exp(log_scale) = sum of squares
        value = do("real", value) if is_complex(value) else value
        log_scale = log_scale - sum(math.log(core.shape[2]) for core in cores)
        # log(mean + eps) = peak + log(value e^(log_scale - peak) + eps e^(-peak)); with the peak
        # at the larger of the two exponents nothing overflows, however long the chain is
        log_eps = math.log(max(self.eps, 1e-300))
        peak = do("where", log_scale > log_eps, log_scale, do("zeros_like", log_scale) + log_eps)
        total = value * do("exp", log_scale - peak) + do("exp", log_eps - peak)
        return spread(list(cores), -0.5 * (peak + do("log", total)))

    def config(self) -> dict[str, Any]:
        """Arguments of the constructor."""
        return {"eps": self.eps}
