"""What the property tests share: chains, transformations of them, one rule of tolerance."""

import importlib.util
from dataclasses import dataclass

import numpy as np
from hypothesis import strategies as st

import ftnn
from ftnn.arrays.backend import convert, to_numpy
from ftnn.chains.overlap import overlap

EPS = {"float32": 1.2e-7, "float64": 2.3e-16, "complex64": 1.2e-7, "complex128": 2.3e-16}

# The tolerances, as multiples of the rounding of the dtype: how badly conditioned a comparison is.
ROUNDING = 1e3
"""A few contractions."""
EXACT = 1e5
"""A compression or a layer with enough bond against the dense computation."""
PLACES = 1e8
"""A truncated result on another backend, in another batch, or with padded bonds: a sketch of
nearly parallel columns amplifies rounding."""
GAUGES = 1e9
"""A truncated result in another gauge, which is itself conditioned up to 10 a bond."""


def _others():
    """Backends to compare with NumPy: torch, and JAX and CuPy where they can run."""
    names = ["torch"]
    if importlib.util.find_spec("jax"):
        import jax

        jax.config.update("jax_enable_x64", True)
        names.append("jax")
    if importlib.util.find_spec("cupy"):
        import cupy

        if cupy.cuda.is_available():
            names.append("cupy")
    return names


OTHERS = _others()
KINDS = ("generic", "padded", "deficient", "repeated", "product", "zero")


def assert_close(actual, expected, dtype="float64", condition=ROUNDING, scale=None):
    """Relative distance in the Euclidean norm below eps of the dtype times the condition."""
    actual, expected = to_numpy(actual), to_numpy(expected)
    assert actual.shape == expected.shape
    size = np.linalg.norm(expected) if scale is None else scale
    error = np.linalg.norm(actual - expected)
    assert error <= condition * EPS[dtype] * size + 1e-300, f"{error / max(size, 1e-300):.2e}"


@dataclass(frozen=True)
class Chain:
    """Shapes of a drawn chain, and the seed and kind of its numbers."""

    batch: int
    dims: tuple[int, ...]
    bonds: tuple[int, ...]
    kind: str
    seed: int

    @property
    def L(self):
        return len(self.dims)

    def cores(self, dtype="float64"):
        """Core arrays on NumPy."""
        rng = np.random.default_rng(self.seed)
        edges = (1, *self.bonds, 1)
        cores = [
            self._draw(rng, (self.batch, left, p, right), dtype) / np.sqrt(left * p)
            for left, p, right in zip(edges[:-1], self.dims, edges[1:], strict=True)
        ]
        for k in range(self.L):
            left, right = cores[k].shape[1], cores[k].shape[3]
            if self.kind == "padded":  # only a corner of every bond is used
                cores[k][:, left // 2 + 1 :] = 0
                cores[k][..., right // 2 + 1 :] = 0
            elif self.kind == "deficient" and left > 1:  # a bond direction twice
                cores[k][:, -1] = cores[k][:, 0]
            elif self.kind == "repeated":  # all samples equal
                cores[k][:] = cores[k][:1]
            elif self.kind == "product":  # padded product state: quimb issue 355
                cores[k][:, 1:] = 0
                cores[k][..., 1:] = 0
            elif self.kind == "zero" and k == self.L // 2:
                cores[k][0] = 0
        return [core.astype(dtype) for core in cores]

    @staticmethod
    def _draw(rng, shape, dtype):
        x = rng.standard_normal(shape)
        return x + 1j * rng.standard_normal(shape) if "complex" in dtype else x

    def mps(self, dtype="float64", backend="numpy"):
        return mps(self.cores(dtype), backend)


def mps(cores, backend="numpy"):
    return ftnn.MPS([convert(core, backend) for core in cores])


def mpo(cores, backend="numpy"):
    return ftnn.MPO([convert(core, backend) for core in cores])


MAX_ENTRIES = 2**12
"""Largest dense vector that a drawn chain may have."""


@st.composite
def chains(draw, min_sites=1, max_sites=12, kinds=KINDS, max_batch=5, max_bond=8):
    L = draw(st.integers(min_sites, max_sites))
    dims, entries = [], 1
    for _ in range(L):
        dims.append(draw(st.integers(1, max(1, min(5, MAX_ENTRIES // entries)))))
        entries *= dims[-1]
    bonds = draw(st.lists(st.integers(1, max_bond), min_size=L - 1, max_size=L - 1))
    return Chain(
        draw(st.integers(1, max_batch)),
        tuple(dims),
        tuple(bonds),
        draw(st.sampled_from(kinds)),
        draw(st.integers(0, 2**16)),
    )


def insert_gauges(cores, seed, condition=3.0):
    """Insert X and its inverse on every bond, well conditioned."""
    rng = np.random.default_rng(seed)
    cores = list(cores)
    for k in range(len(cores) - 1):
        n = cores[k].shape[3]
        u, _ = np.linalg.qr(rng.standard_normal((n, n)))
        v, _ = np.linalg.qr(rng.standard_normal((n, n)))
        x = (u * rng.uniform(1.0, condition, n)) @ v
        cores[k] = np.einsum("blpr,rs->blps", cores[k], x).astype(cores[k].dtype)
        after = np.einsum("sl,blpr->bspr", np.linalg.inv(x), cores[k + 1])
        cores[k + 1] = after.astype(cores[k].dtype)
    return cores


def pad_bonds(cores, extra=2):
    """Pad every inner bond with zeros."""
    out = []
    for k, core in enumerate(cores):
        left = extra if k > 0 else 0
        right = extra if k < len(cores) - 1 else 0
        out.append(np.pad(core, ((0, 0), (0, left), (0, 0), (0, right))))
    return out


def dense(x):
    """Dense vectors of an MPS or cores, by a plain loop that shares no code with ftnn."""
    cores = [to_numpy(c) for c in (x.cores if isinstance(x, ftnn.MPS) else x)]
    out = cores[0][:, 0]
    for core in cores[1:]:
        out = np.einsum("bxl,blpr->bxpr", out.reshape(len(out), -1, out.shape[-1]), core)
    return out.reshape(len(out), -1)


def dense_operator(cores):
    """Dense matrix of MPO cores, by a plain loop that shares no code with ftnn."""
    out = np.ones((1, 1, 1))
    for core in cores:
        out = np.einsum("xyl,loir->xoyir", out, to_numpy(core))
        x, o, y, i, r = out.shape
        out = out.reshape(x * o, y * i, r)
    return out[..., 0]


def unit_vectors(x):
    """Dense vectors of an MPS, cores or a dense output, in log scale: no cores are too large.

    Returns
    -------
    vectors : array (batch, n)
        In double precision, with a largest entry of one; or zero.
    log_scale : float64 array (batch,)
        -inf for a zero vector.
    """
    if not isinstance(x, (ftnn.MPS, tuple, list)):
        vectors = to_numpy(x)
        return _unit(vectors.astype(np.result_type(vectors, np.float64)), 0.0)
    cores = [to_numpy(core) for core in (x.cores if isinstance(x, ftnn.MPS) else x)]
    env, log_scale = np.ones((len(cores[0]), 1, 1)), np.zeros(len(cores[0]))
    for core in cores:
        core, log_scale = _unit(core.astype(np.result_type(core, np.float64)), log_scale)
        env = np.einsum("bxl,blpr->bxpr", env, core)
        env, log_scale = _unit(env.reshape(len(env), -1, env.shape[-1]), log_scale)
    return env[..., 0], log_scale


def _unit(x, log_scale):
    peak = np.abs(x).reshape(len(x), -1).max(axis=1)
    with np.errstate(divide="ignore"):
        log_scale = log_scale + np.log(peak)
    return x / np.where(peak > 0, peak, 1.0).reshape(-1, *[1] * (x.ndim - 1)), log_scale


def assert_same(actual, expected, condition, dtype="float64", shift=0.0, size=None):
    """Compare vectors of any scale, relative to the largest of the batch.

    Parameters
    ----------
    actual, expected : MPS, cores, dense array (batch, n), or what :func:`unit_vectors` returns
    condition : float
        One of the tolerances above.
    shift : float or array (batch,)
        ``actual`` is expected to be larger by a factor of exp(shift).
    size : float, optional
        What the rounding is relative to, in the log scale of ``expected``; by default its norm.
    """
    (a, log_a), (b, log_b) = (
        x if isinstance(x, tuple) and np.ndim(x[1]) == 1 else unit_vectors(x)
        for x in (actual, expected)
    )
    log_a = log_a - shift
    top = max(log_a.max(), log_b.max())
    if np.isneginf(top):
        return  # both are zero
    assert np.isfinite(top), "an entry is not finite"
    a, b = (x * np.exp(log - top)[:, None] for x, log in ((a, log_a), (b, log_b)))
    scale = None if size is None else size * np.exp(log_b.max() - top)
    if dtype in ("float32", "complex64"):  # worked on in double precision inside
        condition = max(ROUNDING, condition**0.5)
    assert_close(a, b, dtype, condition, scale)


def cancellation(cores):
    """Norm of the vector of moduli, relative to that of the vector: what its rounding is like.

    The largest of the batch, at least 1. A sum of products of random signs is as large as its
    terms, unless the vector has few entries, all of which may nearly cancel.
    """
    arrays = tuple(np.asarray(core, "complex128") for core in cores)
    (own, log), (most, log_most) = (overlap(x, x) for x in (arrays, tuple(map(np.abs, arrays))))
    live = own.real > 0
    ratios = most.real[live] / own.real[live] * np.exp(log_most[live] - log[live])
    return float(np.sqrt(ratios.max(initial=1.0)))


def random_operator(out_dims, in_dims, bond_dim, seed, dtype="float64"):
    cores = ftnn.MPO.random(out_dims, in_dims, bond_dim, seed=seed).cores
    if "complex" in dtype:
        other = ftnn.MPO.random(out_dims, in_dims, bond_dim, seed=seed + 1).cores
        cores = [a + 1j * b for a, b in zip(cores, other, strict=True)]
    return [core.astype(dtype) for core in cores]
