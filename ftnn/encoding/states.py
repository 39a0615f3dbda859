"""Quantum states as batches: basis states, product states, state vectors.

Batches of quimb's own states come from :meth:`ftnn.MPS.from_quimb`.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..arrays.backend import check_dtype, check_finite
from ..chains.bonds import MaxBond
from ..chains.dims import check_dims, check_positive
from ..chains.states import MPS
from ..chains.terms import Cores
from .encoder import site_vectors


def basis_states(
    digits: Sequence[str] | np.ndarray, phys_dim: int = 2, dtype: str = "float64"
) -> MPS:
    """Return computational basis states, one for each row of digits.

    Parameters
    ----------
    digits : sequence of str or int array (n, L)
        Bit strings such as ["0110", "1010"], or the digits of every site.
    phys_dim : int
        Dimension of every site; at most 10 for strings.
    dtype : str

    Returns
    -------
    MPS
        States of norm 1 and bond 1.

    Raises
    ------
    ValueError
        If strings differ in length, or a digit is beyond the dimension.

    Examples
    --------
    >>> x = basis_states(["011", "100"])
    >>> x.to_dense().argmax(axis=1).tolist()
    [3, 4]
    """
    check_positive(phys_dim, "phys_dim")
    check_dtype(dtype)
    if isinstance(digits, str):
        digits = [digits]
    if not isinstance(digits, np.ndarray):
        lengths = {len(row) for row in digits}
        if len(lengths) != 1 or lengths == {0}:
            raise ValueError(
                f"digits have lengths {sorted(lengths)}, expected at least one string or row, all "
                "of the same length"
            )
        if not all(str(digit).isdigit() for row in digits for digit in row):
            raise ValueError(f"digits is {list(digits)!r}, expected digits 0 ... {phys_dim - 1}")
        digits = np.array([[int(digit) for digit in row] for row in digits])
    if digits.ndim != 2 or digits.size == 0 or digits.dtype.kind not in "iub":
        raise ValueError(
            f"digits has shape {digits.shape} and dtype {digits.dtype}, expected integers (n, L)"
        )
    if digits.min() < 0 or digits.max() >= phys_dim:
        raise ValueError(
            f"digits go from {digits.min()} to {digits.max()}, expected 0 ... {phys_dim - 1}"
        )
    sites = np.eye(phys_dim, dtype=dtype)[digits.astype(np.int64)]  # (n, L, phys)
    return MPS([sites[:, k, None, :, None] for k in range(digits.shape[1])])


def bloch_states(theta: np.ndarray, phi: np.ndarray | None = None) -> MPS:
    r"""Return product states of qubits from their angles on the Bloch sphere.

    Every site is :math:`\cos\tfrac{\theta}{2}|0\rangle + e^{i\phi}\sin\tfrac{\theta}{2}|1\rangle`.

    Parameters
    ----------
    theta, phi : array (n, L)
        In radians. Without ``phi`` the states are real.

    Returns
    -------
    MPS
        States of norm 1 and bond 1; float64, or complex128 with ``phi``.

    Examples
    --------
    >>> x = bloch_states(np.array([[0.0, np.pi], [np.pi / 2, np.pi / 2]]))
    >>> print(x.to_dense().round(3) + 0.0)
    [[0.  1.  0.  0. ]
     [0.5 0.5 0.5 0.5]]
    """
    theta = _angles(theta, "theta")
    down = np.sin(theta / 2)
    if phi is not None:
        phi = _angles(phi, "phi")
        if phi.shape != theta.shape:
            raise ValueError(f"phi has shape {phi.shape}, but theta has {theta.shape}")
        down = np.exp(1j * phi) * down
    sites = np.stack([np.cos(theta / 2).astype(down.dtype), down], axis=2)  # (n, L, phys)
    return MPS([sites[:, k, None, :, None] for k in range(theta.shape[1])])


def bloch_angles(x: MPS | Cores) -> tuple[np.ndarray, np.ndarray]:
    """Return the angles of product states of qubits: invert :func:`bloch_states`.

    Parameters
    ----------
    x : MPS or tuple of array (n, 1, 2, 1)
        Product states without zero site vectors.

    Returns
    -------
    theta, phi : float64 array (n, L)
        In [0, pi] and (-pi, pi]; phi is 0 at the poles.

    Examples
    --------
    >>> theta, phi = bloch_angles(bloch_states(np.array([[0.3, 2.0]]), np.array([[1.0, -2.0]])))
    >>> theta.round(6).tolist(), phi.round(6).tolist()
    ([[0.3, 2.0]], [[1.0, -2.0]])
    """
    cores = x.cores if isinstance(x, MPS) else x
    sites = np.stack(site_vectors(x, (2,) * len(cores)), axis=1)  # (n, L, 2)
    up, down = sites[..., 0], sites[..., 1]
    theta = 2.0 * np.arctan2(np.abs(down), np.abs(up))
    poles = (up == 0) | (down == 0)
    return theta, np.where(poles, 0.0, np.angle(down * np.conj(up)))


def from_statevectors(
    vectors: Any,
    phys_dims: Sequence[int] | None = None,
    max_bond: MaxBond | None = None,
    rtol: float = 0.0,
) -> MPS:
    """Return state vectors, such as those of an exact solver or a simulator, as MPS.

    Parameters
    ----------
    vectors : array (n, dim), or sequence of array (dim,) or (dim, 1)
        Real or complex; kets of quimb have shape (dim, 1). The first site is the slowest index.
    phys_dims : sequence of int, optional
        By default qubits: dim is a power of two.
    max_bond : int or sequence of int, optional
    rtol : float
        Relative error allowed for each state.

    Returns
    -------
    MPS
        In the dtype of the vectors, on NumPy.

    Examples
    --------
    >>> import quimb as qu
    >>> from_statevectors([qu.ghz_state(5), qu.w_state(5)]).bond_dims
    (2, 2, 2, 2)
    """
    rows = [np.asarray(vector) for vector in vectors]
    sizes = {row.size for row in rows}
    flat = all(row.ndim == 1 or (row.ndim == 2 and row.shape[1] == 1) for row in rows)
    if len(sizes) != 1 or not flat:
        raise ValueError(
            f"vectors have shapes {sorted({row.shape for row in rows})}, expected (dim,) or "
            "(dim, 1), all of the same size"
        )
    array = np.stack([row.ravel() for row in rows])
    if array.dtype.kind in "iub":
        array = array.astype(np.float64)
    (size,) = sizes
    if phys_dims is None:
        if size < 2 or size & (size - 1):
            raise ValueError(
                f"vectors have {size} entries, which is not a power of two; give phys_dims"
            )
        phys_dims = (2,) * (size.bit_length() - 1)
    return MPS.from_dense(array, check_dims(phys_dims, "phys_dims"), max_bond, rtol)


def _angles(angles: Any, argument: str) -> np.ndarray:
    angles = np.asarray(angles, dtype=np.float64)
    if angles.ndim != 2 or angles.size == 0:
        raise ValueError(f"{argument} has shape {angles.shape}, expected (n, L)")
    check_finite(angles, argument)
    return angles
