"""Random test matrices of sketches."""

from functools import lru_cache

import numpy as np


def test_matrices(dims: tuple[int, ...], size: int, seed: int) -> tuple[np.ndarray, ...]:
    r"""Draw the random test matrices :math:`\Omega_k` of successive randomized compression.

    Parameters
    ----------
    dims : tuple of int
        Physical dimension of every site of the chain to compress.
    size : int
        Number of columns of the sketch; the first ``s`` rows are the same for every
        ``size >= s``.
    seed : int

    Returns
    -------
    tuple of array (size, dims[k]), float64, on NumPy; one for every site but the last.
        Drawn once and cached: they are not writeable.

    Examples
    --------
    >>> [omega.shape for omega in test_matrices((2, 3, 4), size=5, seed=0)]
    [(5, 2), (5, 3)]
    """
    return gaussians(int(size), int(seed), *map(int, dims))


@lru_cache(maxsize=64)
def gaussians(size: int, seed: int, *dims: int) -> tuple[np.ndarray, ...]:
    """Draw :func:`test_matrices`, with the arguments that ``draw_arrays`` takes."""
    omegas = []
    for site, dim in enumerate(dims[:-1]):
        omegas.append(np.random.default_rng((seed, site)).standard_normal((size, dim)))
        omegas[-1].flags.writeable = False
    return tuple(omegas)


test_matrices.__test__ = False  # type: ignore[attr-defined]  # pytest: not a test
