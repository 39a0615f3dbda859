"""Products of neighbouring sites and blocks of product states: dense references, bad input."""

from itertools import product as places

import numpy as np
import pytest
from catalogue import trained
from hypothesis import given
from hypothesis import strategies as st
from laws import Chain, assert_close, dense, mps

import ftnn
from ftnn.nonlinear import BlockMap, Gated, ProductMap
from ftnn.nonlinear.feature_map import coordinates

backends = st.sampled_from(["numpy", "torch"])
SHIFTS = ((0, 0), (0, 1), (1, 0), (-1, 1), (0, -2))
JOINED = {"product": np.multiply, "sum": np.add, "tanh": lambda u, v: np.tanh(u + v)}


@st.composite
def grids(draw):
    """A grid, its batch of site vectors (sites, batch, phys), and a generator."""
    rows, columns = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    p, batch = draw(st.integers(2, 4)), draw(st.integers(1, 3))
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    x = rng.standard_normal((rows * columns, batch, p))
    x[:, :, 0] = np.where(x[:, :, 0] < 0, -1.0, 1.0) * rng.uniform(0.5, 2.0, x.shape[:2])
    return (rows, columns), x, rng


def states(x, backend="numpy"):
    return mps(list(x[:, :, None, :, None]), backend)


def sites(y):
    """The site vectors (sites, batch, phys) of a product state, as coordinates after a one."""
    x = np.stack([np.asarray(core)[:, 0, :, 0] for core in y.to("numpy").cores])
    return x[..., 1:] / x[..., :1]


def unit(xi):
    return xi / np.sqrt((xi**2).mean(axis=-1, keepdims=True) + 1e-6)


@given(grids(), backends, st.integers(1, len(SHIFTS)), st.sampled_from(list(JOINED)), st.data())
def test_products_equal_a_loop_over_sites_and_channels(problem, backend, n, join, data):
    grid, x, _ = problem
    residual, normalize = data.draw(st.booleans()), data.draw(st.booleans())
    p, L = x.shape[2], len(x)
    q, shifts = (p if residual else data.draw(st.integers(2, 4))), SHIFTS[:n]
    hidden = n * data.draw(st.integers(1, 2))
    layer = trained(ProductMap((p,) * L, (q,) * L, hidden, grid, shifts, join, residual, normalize))
    w, xi = layer.params, coordinates(x)[1]
    zeta = unit(xi) if normalize else xi
    second = zeta @ w["second"] + w["second_bias"]
    expected = []
    for row, column in places(range(grid[0]), range(grid[1])):
        k, v = row * grid[1] + column, np.zeros((x.shape[1], hidden))
        for channel in range(hidden):
            down, right = shifts[channel * n // hidden]
            i, j = row + down, column + right
            if 0 <= i < grid[0] and 0 <= j < grid[1]:
                v[:, channel] = second[i * grid[1] + j, :, channel]
        u = zeta[k] @ w["first"] + w["first_bias"]
        phi = JOINED[join](u, v) @ w["outer"] + w["outer_bias"]
        expected.append(xi[k] + phi if residual else phi)
    y = layer.to(backend)(states(x, backend))
    assert_close(sites(y), np.stack(expected), condition=1e6, scale=1.0 + np.abs(expected).max())
    constants = np.stack([np.asarray(core)[:, 0, 0, 0] for core in y.to("numpy").cores])
    np.testing.assert_allclose(constants, x[:, :, 0], rtol=1e-12)


@given(grids(), backends)
def test_products_within_a_site_are_a_gate_of_bond_dimension_one(problem, backend):
    """The same weights in ftnn.nonlinear.Gated, which knows no coordinates, give the products."""
    _, x, _ = problem
    x, p, h = x[:5], x.shape[2], 3
    x[:, :, 0] = 1.0
    L = len(x)
    layer = trained(ProductMap((p,) * L, (h + 1,) * L, h, normalize=False))
    layer.params["outer"], layer.params["outer_bias"] = np.eye(h), np.zeros(h)
    gate = Gated((p,) * L, (h + 1,) * L, bond_dim=1, max_bond=1, offset=False)
    size = np.ones((L, x.shape[1], h + 1))  # of the terms of every entry, without their signs
    for name, prefix in (("A", "first"), ("B", "second")):
        weight = np.zeros((h + 1, p))
        weight[0, 0] = 1.0
        weight[1:, 0], weight[1:, 1:] = layer.params[f"{prefix}_bias"], layer.params[prefix].T
        gate.params |= {f"{name}.{k}": weight[None, :, :, None] for k in range(L)}
        size *= np.abs(x) @ np.abs(weight.T)
    found, expected = (dense(each.to(backend)(states(x, backend))) for each in (layer, gate))
    far = 1e-6 * max(1.0, (x[:, :, 1:] ** 2).sum(axis=2).max())  # coordinates are kept up to this
    atol = (1e-9 + 4 * L * far) * size.max(axis=(1, 2)).prod()
    np.testing.assert_allclose(found, expected, rtol=0, atol=atol)


@given(grids(), backends, st.booleans(), st.data())
def test_blocks_equal_a_dense_tensor(problem, backend, normalize, data):
    grid, x, _ = problem
    block = tuple(data.draw(st.sampled_from([n for n in (1, 2) if s % n == 0])) for s in grid)
    p, bond, out = x.shape[2], data.draw(st.integers(1, 3)), data.draw(st.integers(2, 4))
    layer = trained(BlockMap((p,) * len(x), out, bond, grid, block, normalize))
    tensor = np.ones((1, 1))  # (indices of the block, bond)
    for k in range(block[0] * block[1]):
        tensor = np.einsum("xl,lpr->xpr", tensor, layer.params[f"weight.{k}"])
        tensor = tensor.reshape(-1, tensor.shape[2])
    xi = coordinates(x)[1]
    zeta = np.concatenate([np.ones_like(x[..., :1]), unit(xi) if normalize else xi], axis=2)
    expected, constants = [], []
    for row, column in places(range(0, grid[0], block[0]), range(0, grid[1], block[1])):
        inputs, constant = np.ones((x.shape[1], 1)), 1.0
        for i, j in places(range(block[0]), range(block[1])):
            k = (row + i) * grid[1] + column + j
            inputs = np.einsum("bx,bp->bxp", inputs, zeta[k]).reshape(x.shape[1], -1)
            constant = constant * x[k, :, 0]
        expected.append(inputs @ tensor)
        constants.append(constant)
    y = layer.to(backend)(states(x, backend))
    assert y.phys_dims == (out,) * len(expected)
    assert_close(sites(y), np.stack(expected), condition=1e6, scale=1.0 + np.abs(expected).max())
    first = [np.asarray(core)[:, 0, 0, 0] for core in y.to("numpy").cores]
    np.testing.assert_allclose(np.prod(first, 0), np.prod(constants, 0), rtol=1e-9)


@given(grids(), st.integers(0, 99))
def test_law_2_factors_between_the_sites_change_nothing(problem, seed):
    grid, x, _ = problem
    rng = np.random.default_rng(seed)
    factors = rng.uniform(0.2, 5.0, (*x.shape[:2], 1)) * rng.choice([-1.0, 1.0], (*x.shape[:2], 1))
    factors[-1] = 1.0 / factors[:-1].prod(axis=0)
    dims = (x.shape[2],) * len(x)
    for layer in (
        ProductMap(dims, dims, 4, grid, SHIFTS[:2]),
        BlockMap(dims, 3, 2, grid, (1, grid[1])),
    ):
        plain, moved = (layer(states(y)) for y in (x, factors * x))
        assert_close(sites(moved), sites(plain), condition=1e6)
        first, second = (np.prod([c[:, 0, 0, 0] for c in y.cores], 0) for y in (plain, moved))
        np.testing.assert_allclose(first, second, rtol=1e-9)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (((3, 4), (2, 2), 4), "phys_dims is .*the same dimension on every site"),
        (((3, 3), (1, 1), 4), "out_dims is .*at least 2"),
        (((3, 3), (2, 2), 0), "hidden is 0"),
        (((3, 3), (2, 2), 4, (3, 1)), r"grid is \(3, 1\), expected .*product is 2"),
        (((3, 3), (2, 2), 3, None, ((0, 0), (0, 1))), "hidden is 3, expected a multiple of the 2"),
        (((3, 3), (2, 2), 4, None, ()), "hidden is 4, expected a multiple of the 0"),
        (((3, 3), (2, 2), 4, None, ((0, 0.5),)), "shifts has .*pairs of integers"),
        (((3, 3), (2, 2), 4, None, (1,)), "shifts has 1, expected pairs"),
        (((3, 3), (2, 2), 4, None, ((0, 0),), "difference"), "fn is 'difference'"),
        (((3, 3), (2, 2), 4, None, ((0, 0),), "sum", True), "a residual needs"),
    ],
)
def test_bad_products_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        ProductMap(*arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (((3, 4), 2, 2, (1, 2)), "phys_dims is .*the same dimension on every site"),
        (((3, 3), 1, 2, (1, 2)), "out_dim is 1, expected at least 2"),
        (((3, 3), 2, 0, (1, 2)), "bond_dim is 0"),
        (((3, 3), 2, 2, (2, 2)), r"grid is \(2, 2\), expected .*product is 2"),
        (((3, 3), 2, 2, (1, 2), (2, 2)), r"block is \(2, 2\), expected .*divide"),
        (((3, 3), 2, 2, (1, 2), (1,)), r"block is \(1,\), expected"),
    ],
)
def test_bad_blocks_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        BlockMap(*arguments)


def test_entangled_and_complex_states_are_refused():
    entangled = Chain(1, (2, 2), (2,), "generic", 0).mps()
    for layer in (ProductMap((2, 2), (3, 3), 4), BlockMap((2, 2), 3, 2, (1, 2), (1, 2))):
        with pytest.raises(ValueError, match=r"bond_dims \(2,\), but .* takes product states"):
            layer(entangled)
        with pytest.raises(TypeError, match="real"):
            layer.to("numpy", "complex128")(ftnn.MPS([np.ones((1, 1, 2, 1), "complex128")] * 2))
