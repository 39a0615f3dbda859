"""Dropout of physical channels, as a random operator on the state."""

import math

import numpy as np

from ..arrays.backend import as_dtype_of
from ..arrays.functions import concat
from ..arrays.random import random_generator, random_uniform
from ..chains.terms import Cores
from ..layers.layer import Layer


class Dropout(Layer):
    r"""Dropout of physical channels other than the constant one, active in training.

    On site k the vector index is multiplied by
    :math:`D_k = \mathrm{diag}(1, m_{k1} / (1 - p), m_{k2} / (1 - p), \dots)`, where every :math:`m`
    is drawn independently for every sample: 0 with probability p, the ``rate``, and 1 otherwise. In
    evaluation mode it is the identity.

    Parameters
    ----------
    rate : float
        In [0, 1).
    seed : int
        Seed of the generator on NumPy. Torch and CuPy use their own generators, which the trainer
        seeds before every step.

    Notes
    -----
    :math:`D = \bigotimes_k D_k` is an operator on the state, of bond dimension 1: the
    result does not depend on the gauge of the bonds. Its mean is the identity, so the mean of any
    linear function of the state, such as a :class:`ftnn.Readout`, equals its value in evaluation
    mode exactly; for a dense network with dropout between its nonlinearities this holds only
    approximately.

    Channel 0 is kept, because it is the constant channel of features
    (:class:`ftnn.encoding.ProductEncoder`): without it a single site could set the whole state to
    zero.

    Examples
    --------
    >>> import numpy as np, ftnn
    >>> x = ftnn.MPS([np.ones((1, 1, 6, 1))])
    >>> layer = ftnn.nonlinear.Dropout(0.5)
    >>> print(layer.train()(x).to_dense(), layer.eval()(x).to_dense())
    [[1. 0. 2. 0. 0. 0.]] [[1. 1. 1. 1. 1. 1.]]
    """

    def __init__(self, rate: float, seed: int = 0):
        super().__init__()
        if isinstance(rate, bool) or not isinstance(rate, (int, float, np.number)):
            raise TypeError(f"rate is a {type(rate).__name__}, expected a number in [0, 1)")
        if not (math.isfinite(rate) and 0.0 <= rate < 1.0):
            raise ValueError(f"rate is {rate!r}, expected a number in [0, 1); 0 is off")
        self.rate, self.seed = float(rate), seed
        self._rng = random_generator(seed, 5)

    def apply(self, cores: Cores) -> Cores:
        """Map cores ``(batch, left, phys, right)`` to cores of the same shape."""
        if not self.training or self.rate == 0.0:
            return cores
        free = [core.shape[2] - 1 for core in cores]
        batch = cores[0].shape[0]
        first, total = self.batch_share or (0, batch)
        uniform = random_uniform((total, sum(free)), cores[0], self._rng)
        uniform = uniform[first : first + batch]  # of processes that share a batch, each its rows
        factors = as_dtype_of(uniform >= self.rate, cores[0]) / (1.0 - self.rate)
        out, start = [], 0
        for core, p in zip(cores, free, strict=True):
            factor = factors[:, None, start : start + p, None]
            out.append(concat((core[:, :, :1], core[:, :, 1:] * factor), 2))
            start += p
        return tuple(out)
