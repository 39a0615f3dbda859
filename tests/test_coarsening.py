"""Coarsen: laws, the dense reference, gradients, one graph, bad input."""

from functools import reduce

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from laws import KINDS, Chain, assert_close, chains, dense, mps

import ftnn

backends = st.sampled_from(["numpy", "torch"])
dtypes = st.sampled_from(["float32", "float64", "complex64", "complex128"])


@st.composite
def problems(draw, kinds=KINDS):
    """A drawn chain, how many of its sites make a block, and what the blocks become."""
    chain = draw(chains(max_sites=6, kinds=kinds, max_bond=5))
    size = draw(st.sampled_from([s for s in range(1, chain.L + 1) if chain.L % s == 0]))
    n = chain.L // size
    out = tuple(draw(st.lists(st.integers(1, 3), min_size=n, max_size=n)))
    return chain, ftnn.Coarsen(chain.dims, out, draw(st.integers(1, 4)), seed=chain.seed)


def matrices(layer):
    """The dense matrix (out, in) of every block, by a loop that shares no code with ftnn."""
    size, found = len(layer.in_dims) // len(layer.out_dims), []
    for first in range(0, len(layer.in_dims), size):
        block = np.ones((1, 1))
        for k in range(first, first + size):
            block = np.einsum("xl,loir->xior", block, layer.params[f"weight.{k}"])
            block = block.reshape(-1, block.shape[2] * block.shape[3])
        found.append(block.T)
    return found


@given(problems(), backends, dtypes)
def test_law_4_coarsening_equals_a_dense_matrix(problem, backend, dtype):
    chain, layer = problem
    cores = chain.cores(dtype)
    matrix = reduce(np.kron, matrices(layer))
    expected = dense(cores) @ matrix.T
    found = layer.to(backend, dtype)(mps(cores, backend))
    size = len(layer.in_dims) // len(layer.out_dims)
    assert found.phys_dims == layer.out_dims
    assert found.bond_dims == chain.bonds[size - 1 :: size]  # those between blocks, as they were
    scale = np.linalg.norm(matrix) * np.prod([np.linalg.norm(c) for c in cores]) + 1e-30
    assert_close(dense(found), expected, dtype, scale=scale)


@given(problems())
def test_blocks_start_with_the_norm_that_keeps_the_mean_square(problem):
    _, layer = problem
    for matrix, out in zip(matrices(layer), layer.out_dims, strict=True):
        np.testing.assert_allclose(np.linalg.norm(matrix) ** 2, out, rtol=1e-10)


def test_networks_of_patches_are_calibrated_saved_and_loaded(tmp_path):
    chain = Chain(21, (4,) * 6, (1,) * 5, "generic", 0)
    model = ftnn.Sequential(
        ftnn.Coarsen((4,) * 6, (3, 3), 4, seed=3),
        ftnn.Linear((3, 3), (3, 3), 2, 3),
        ftnn.Readout((3, 3), 2, 3),
    )
    big = tuple(1e3 * core for core in chain.cores())
    ftnn.calibrate(model, big)
    coarse = dense(model.layers[0].apply(big))
    rms = np.sqrt(np.mean(np.abs(coarse) ** 2, axis=1))
    np.testing.assert_allclose(np.median(rms), 1.0, rtol=1e-6)
    np.testing.assert_allclose(np.sqrt(np.mean(model.apply(big) ** 2)), 1.0, rtol=1e-6)
    ftnn.save(model, tmp_path / "model.safetensors")
    again = ftnn.load(tmp_path / "model.safetensors")
    np.testing.assert_array_equal(again.apply(big), model.apply(big))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (((2,) * 6, (2,) * 4, 3), "in_dims has 6 sites and out_dims 4; the second must divide"),
        (((2,) * 6, (2,) * 7, 3), "in_dims has 6 sites and out_dims 7"),
        (((2,) * 6, (), 3), r"out_dims is \(\), expected at least one"),
        (((2, 0), (2,), 3), "in_dims is .*positive"),
        (((2, 2), (2,), 0), "bond_dim is 0, expected a positive integer"),
    ],
)
def test_bad_blocks_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        ftnn.Coarsen(*arguments)
