"""Ground states of open chains of spins, dense: data whose right order is known."""

import numpy as np
from scipy.sparse import csr_matrix, identity, kron
from scipy.sparse.linalg import eigsh

CHAINS = {
    "ising": "Ising in a transverse field, 0.6 to 1.4",
    "random": "Ising with drawn couplings, 0.5 to 1.5",
    "heisenberg": "Heisenberg, antiferromagnetic",
}
FIELDS = (0.6, 0.8, 1.0, 1.2, 1.4)
X = np.array([[0.0, 1.0], [1.0, 0.0]])
Y = np.array([[0.0, 1.0], [-1.0, 0.0]])  # times i: YY = -Y Y^T
Z = np.diag([1.0, -1.0])


def ground_states(chain: str, sites: int, seed: int) -> np.ndarray:
    """Return ground states (batch, 2, 2, ...) of a chain with open ends.

    "ising" has one at every field, "random" as many drawn chains at a field of 1, "heisenberg" one.
    """
    rng = np.random.default_rng(seed)
    if chain == "heisenberg":
        bonds = [(1.0, pair) for pair in ((X, X), (Y, -Y), (Z, Z))]
        h = sum(factor * placed(pair, k, sites) for k in range(sites - 1) for factor, pair in bonds)
        return lowest(h, sites, seed)
    states = []
    for field in FIELDS:
        couplings = rng.uniform(0.5, 1.5, sites - 1) if chain == "random" else np.ones(sites - 1)
        strength = 1.0 if chain == "random" else field
        h = -sum(c * placed((Z, Z), k, sites) for k, c in enumerate(couplings))
        h = h - strength * sum(placed((X,), k, sites) for k in range(sites))
        states.append(lowest(h, sites, seed))
    return np.concatenate(states)


def placed(operators: tuple[np.ndarray, ...], k: int, sites: int) -> csr_matrix:
    """Return the operators on the sites from k on, as a sparse matrix."""
    whole = identity(2**k, format="csr")
    for operator in operators:
        whole = kron(whole, csr_matrix(operator), format="csr")
    return kron(whole, identity(2 ** (sites - k - len(operators)), format="csr"), format="csr")


def lowest(h: csr_matrix, sites: int, seed: int) -> np.ndarray:
    """Return the ground state (1, 2, 2, ...)."""
    start = np.random.default_rng(seed).standard_normal(2**sites)
    vectors = eigsh(h, 1, which="SA", v0=start, tol=1e-10)[1]
    return vectors.T.reshape(1, *(2,) * sites)
