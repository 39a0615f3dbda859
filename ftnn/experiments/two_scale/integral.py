r"""The integral of (1 - y) f(y) from 0 to x, as an MPO."""

import numpy as np


def integral_cores(sites: int) -> list[np.ndarray]:
    r"""Return the MPO of :math:`f \mapsto \int_0^x (1 - y) f(y)\,dy` at midpoints of 2^sites cells.

    Cells before that of x count in full, its own by half,

    .. math:: u_j = h \Big(\sum_{i < j} (1 - x_i) f_i + \tfrac12 (1 - x_j) f_j\Big), \qquad
              x_i = (i + \tfrac12) h, \quad h = 2^{-L},

    which differs from the integral by :math:`O(h^2)`.

    Parameters
    ----------
    sites : int
        L.

    Returns
    -------
    list of array (left, out, in, right)
        float64; bond dimension 4.

    Notes
    -----
    From the coarsest bit on, two questions are answered. Is i < j? As long as the bits of both
    are the same it is open; at the first that differs, 0 of i and 1 of j, it is yes, whatever
    follows. And :math:`1 - x_i = \sum_k c_k(i_k)` is a sum over bits: :math:`c_k(b) = -b\,2^{-k}`,
    and :math:`1 - h/2` more at the first one; its bond says whether a bit has contributed. The MPO
    is the product of the two, and every core has a factor 1/2 of h.

    Examples
    --------
    >>> import ftnn
    >>> kernel = ftnn.MPO(integral_cores(2)).to_dense()
    >>> print(kernel @ np.ones(4))  # x - x^2/2 at 1/8, 3/8, 5/8, 7/8, and h^2/8 more
    [0.109375 0.296875 0.421875 0.484375]
    """
    order = np.zeros((2, 2, 2, 2))  # (question, out, in, question); 0 is open
    order[0, [0, 1], [0, 1], 0] = 1.0
    order[0, 1, 0, 1] = 1.0
    order[1, :, :, 1] = 1.0
    cores = []
    for k in range(sites):
        weight = np.zeros((2, 2, 2))  # (contributed, in, contributed)
        weight[0, :, 0] = weight[1, :, 1] = 1.0
        weight[0, :, 1] = [0.0, -(0.5 ** (k + 1))]
        if k == 0:
            weight[0, :, 1] += 1.0 - 0.5 ** (sites + 1)
        core = 0.5 * np.einsum("aoib,cid->acoibd", order, weight)
        cores.append(core.reshape(4, 2, 2, 4))
    cores[0] = cores[0][:1]
    cores[-1] = cores[-1] @ np.array([[0.0], [0.5], [0.0], [1.0]])
    return cores
