"""fit_operator: exact recovery, least squares, Eckart and Young, scales, refusals."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ftnn
from ftnn.layers.operator_fit import fit_operator

DTYPES = ("float64", "complex128")


def draw(rng, shape, dtype):
    real = rng.standard_normal(shape)
    return real + 1j * rng.standard_normal(shape) if dtype == "complex128" else real


def states(rng, n, dims, bond, dtype):
    """Random states, whose cores are drawn independently."""
    bonds = [1, *[bond] * (len(dims) - 1), 1]
    shapes = [(n, bonds[k], p, bonds[k + 1]) for k, p in enumerate(dims)]
    return ftnn.MPS([draw(rng, shape, dtype) / np.sqrt(np.prod(shape[1:])) for shape in shapes])


def operator(rng, in_dims, out_dims, bond, dtype):
    bonds = [1, *[bond] * (len(in_dims) - 1), 1]
    shapes = [
        (bonds[k], o, i, bonds[k + 1])
        for k, (i, o) in enumerate(zip(in_dims, out_dims, strict=True))
    ]
    return ftnn.MPO([draw(rng, shape, dtype) for shape in shapes])


def targets_of(dense, inputs, dims):
    """Images of states under a dense matrix."""
    return ftnn.MPS.from_dense(inputs.to_dense() @ dense.T, dims)


def squares(dense, inputs, targets):
    """Relative squared distances, by dense algebra."""
    found, exact = inputs.to_dense() @ dense.T, targets.to_dense()
    return (np.abs(found - exact) ** 2).sum(1) / (np.abs(exact) ** 2).sum(1)


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_hidden_operators_are_found(data):
    L = data.draw(st.integers(2, 4))
    dims = st.lists(st.integers(1, 3), min_size=L, max_size=L).map(tuple)
    in_dims, out_dims = data.draw(dims), data.draw(dims)
    bond, m = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 2))
    dtype = data.draw(st.sampled_from(DTYPES))
    rng = np.random.default_rng(data.draw(st.integers(0, 10**6)))
    hidden = operator(rng, in_dims, out_dims, bond, dtype)
    x = states(rng, 4 * int(np.prod(in_dims)) + 20, in_dims, m, dtype)
    y = targets_of(hidden.to_dense(), x, out_dims)
    start = operator(rng, in_dims, out_dims, bond, dtype)
    fit = fit_operator(x, y, start, bond, sweeps=200, rtol=0.0)
    exact, found = hidden.to_dense(), fit.operator.to_dense()
    assert found.dtype == dtype
    assert max((1, *fit.operator.bond_dims)) <= bond
    assert np.linalg.norm(found - exact) < 1e-4 * np.linalg.norm(exact)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("m", [1, 3])
def test_without_truncation_it_is_linear_least_squares(dtype, m):
    """Targets that no operator reaches; weights are those of relative errors."""
    rng, in_dims, out_dims = np.random.default_rng(3), (2, 3, 2), (3, 2, 2)
    x = states(rng, 60, in_dims, m, dtype)
    y = ftnn.MPS.from_dense(draw(rng, (60, 12), dtype) * rng.uniform(0.1, 9, (60, 1)), out_dims)
    fit = fit_operator(x, y, operator(rng, in_dims, out_dims, 2, dtype), 99, 300, rtol=0.0)
    weights = 1 / np.linalg.norm(y.to_dense(), axis=1, keepdims=True)
    best = np.linalg.lstsq(x.to_dense() * weights, y.to_dense() * weights)[0].T
    np.testing.assert_allclose(fit.operator.to_dense(), best, atol=1e-4 * np.abs(best).max())
    error = squares(best, x, y).mean()
    assert error > 0.1
    assert fit.errors[-1] == pytest.approx(error, rel=1e-6)


@pytest.mark.parametrize("dtype", DTYPES)
def test_on_all_basis_states_two_sites_are_truncated_by_singular_values(dtype):
    rng = np.random.default_rng(0)
    dense = draw(rng, (6, 6), dtype) * np.exp(-np.arange(6))
    dense /= np.linalg.norm(dense, axis=0)  # all relative errors weigh the same
    x = ftnn.MPS.from_dense(np.eye(6), (2, 3))
    y = targets_of(dense, x, (3, 2))
    fit = fit_operator(x, y, operator(rng, (2, 3), (3, 2), 1, dtype), 2, sweeps=3, rtol=0.0)
    rows = dense.reshape(3, 2, 2, 3).transpose(0, 2, 1, 3).reshape(6, 6)
    u, s, v = np.linalg.svd(rows)
    best = ((u[:, :2] * s[:2]) @ v[:2]).reshape(3, 2, 2, 3).transpose(0, 2, 1, 3).reshape(6, 6)
    np.testing.assert_allclose(fit.operator.to_dense(), best, atol=1e-7)


def test_small_singular_values_are_found():
    """A perturbation of 1e-4 of the identity comes out to a thousandth of itself."""
    rng, dims = np.random.default_rng(5), (2,) * 6
    small = operator(rng, dims, dims, 2, "float64").to_dense()
    dense = np.eye(64) + 1e-4 * small * 8 / np.linalg.norm(small)
    x = states(rng, 100, dims, 1, "float64")
    start = ftnn.MPO([np.eye(2).reshape(1, 2, 2, 1)] * 6)
    found = fit_operator(x, targets_of(dense, x, dims), start, 3).operator.to_dense()
    assert np.linalg.norm(found - dense) < 1e-3 * np.linalg.norm(dense - np.eye(64))


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_scales_do_not_matter(scale):
    """Samples far from the range of their products, a long chain, targets of different norms."""
    rng, L = np.random.default_rng(2), 120
    eye = np.eye(2).reshape(1, 2, 2, 1)
    hidden = ftnn.MPO([eye + 0.05 * rng.standard_normal(eye.shape) for _ in range(L)])
    x = states(rng, 30, (2,) * L, 1, "float64")
    y = ftnn.compress(hidden @ x, method="direct")
    wide = [ftnn.MPS([scale * core for core in chain.cores]) for chain in (x, y)]
    start = ftnn.MPO([eye] * L)
    plain, found = (fit_operator(*pair, start, 1, sweeps=6) for pair in ((x, y), wide))
    assert found.errors[-1] < 0.5 * found.errors[0]
    np.testing.assert_allclose(found.errors, plain.errors, rtol=1e-3, atol=1e-12)
    for core, other in zip(found.operator.cores, plain.operator.cores, strict=True):
        np.testing.assert_allclose(core, other, atol=1e-5)


def test_images_of_single_precision_and_torch_are_taken():
    pytest.importorskip("torch")
    rng, dims = np.random.default_rng(1), (2, 2, 2)
    hidden = operator(rng, dims, dims, 2, "complex128")
    x = states(rng, 40, dims, 1, "complex128")
    y = ftnn.compress(hidden @ x, method="direct")
    start = operator(rng, dims, dims, 1, "float64")
    fit = fit_operator(x.to("torch", "complex64"), y.to("torch", "complex64"), start, 2)
    assert np.linalg.norm(fit.operator.to_dense() - hidden.to_dense()) < 1e-3


def test_each_cut_has_its_bond():
    rng, dims = np.random.default_rng(0), (2, 2, 2, 2)
    x = states(rng, 30, dims, 1, "float64")
    y = ftnn.compress(operator(rng, dims, dims, 4, "float64") @ x, method="direct")
    fit = fit_operator(x, y, operator(rng, dims, dims, 1, "float64"), (1, 3, 2), sweeps=2)
    assert fit.operator.bond_dims == (1, 3, 2)


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"inputs": 3}, TypeError, "inputs is a int, expected an ftnn.MPS"),
        ({"start": 3}, TypeError, "start is a int, expected an ftnn.MPO"),
        ({"targets": ftnn.MPS([np.ones((5, 1, 2, 1))] * 3)}, ValueError, "5 targets"),
        (
            {"targets": ftnn.MPS([np.ones((4, 1, 3, 1))] * 3)},
            ValueError,
            r"targets have dimensions \(3, 3, 3\), expected \(2, 2, 2\)",
        ),
        ({"targets": ftnn.MPS([np.zeros((4, 1, 2, 1))] * 3)}, ValueError, "a target is zero"),
        ({"inputs": ftnn.MPS([np.full((4, 1, 2, 1), np.nan)] * 3)}, ValueError, "not finite"),
        ({"start": ftnn.MPO.random((2,), (2,), 1)}, ValueError, "a single site"),
        ({"max_bond": 0}, ValueError, "max_bond is 0"),
        ({"sweeps": 0}, ValueError, "sweeps is 0, expected at least 1"),
        ({"rtol": 1.0}, ValueError, "rtol is 1.0"),
    ],
)
def test_refusals(changes, error, words):
    given = {
        "inputs": ftnn.MPS([np.ones((4, 1, 2, 1))] * 3),
        "targets": ftnn.MPS([np.ones((4, 1, 2, 1))] * 3),
        "start": ftnn.MPO.random((2,) * 3, (2,) * 3, 1),
        "max_bond": 2,
    }
    with pytest.raises(error, match=words):
        fit_operator(**given | changes)
