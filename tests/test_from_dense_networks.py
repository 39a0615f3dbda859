"""Networks on states from dense ones: equal at full bonds, errors told, refusals; fit_kan."""

import re
from math import prod

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from laws import assert_close
from torch import nn

import ftnn
from ftnn.arrays.backend import to_numpy
from ftnn.nonlinear import KAN, fit_kan
from ftnn.tensorized.counterparts import NAMES
from ftnn.tensorized.ordering import ordered
from ftnn.tensorized.states import ENTRYWISE

NAMED = [*NAMES, nn.GELU, lambda: nn.ReLU(inplace=True)]
ONLY_TORCH = [kind for kind in ENTRYWISE if kind not in (nn.GELU, nn.Threshold)]
ONLY_TORCH += [lambda: nn.GELU("tanh"), lambda: nn.Threshold(0.1, 0.5)]


@st.composite
def networks(draw, kinds):
    """A network in double precision, dims of its input or None, and inputs."""
    torch.manual_seed(draw(st.integers(0, 999)))
    L = draw(st.integers(1, 3))
    in_dims = tuple(draw(st.lists(st.integers(1, 4), min_size=L, max_size=L)))
    width = first = draw(st.integers(1, prod(in_dims)))  # the rest is padded
    shape = (4, first)
    modules = []
    if draw(st.booleans()) and first % 2 == 0:
        modules.append(nn.Flatten())
        shape = (4, 2, first // 2)
    for _ in range(draw(st.integers(1, 3))):
        after = draw(st.sampled_from([1, 2, 5, 7, 12, 16]))
        modules += [nn.Linear(width, after, draw(st.booleans())), nn.Dropout()]
        width = after
        for kind in draw(st.lists(st.sampled_from(kinds), max_size=2)):
            modules.append(nn.Sequential(nn.Identity(), kind()))
    if draw(st.booleans()):
        modules.append(nn.Linear(width, draw(st.integers(1, 4))))
    dims = in_dims if draw(st.booleans()) else None
    return nn.Sequential(*modules).double().eval(), dims, torch.randn(shape).double()


def outputs(found, x, backend="numpy"):
    """Outputs of a network on states, dense."""
    found.model.to(backend)
    y = found.model(found.encode(x))
    return to_numpy(y.to_dense() if isinstance(y, ftnn.MPS) else y)


@pytest.mark.parametrize(
    ("kinds", "backend"), [(NAMED, "numpy"), (NAMED, "torch"), (ONLY_TORCH, "torch")]
)
@settings(max_examples=12)
@given(st.data())
def test_at_full_bonds_a_network_on_states_is_its_dense_one(kinds, backend, data):
    dense, dims, x = data.draw(networks(kinds))
    inputs = x if data.draw(st.booleans()) else None
    found = ftnn.from_dense(dense, dims, None, None, inputs)
    expected = dense(x).detach()
    size = float(expected.norm()) + 0.1
    y = outputs(found, x, backend)
    if isinstance(found.model.layers[-1], ftnn.Readout):
        assert_close(y, expected, condition=1e6, scale=size)
    else:  # padded, in the order of the dense network, as no layer follows
        assert_close(y[:, : expected.shape[1]], expected, condition=1e6, scale=size)
    if inputs is not None:
        assert max(max(row.own, row.error) for row in found.rows) < 1e-8
    assert found.params == found.model.num_params()
    assert found.dense_params == sum(p.numel() for p in dense.parameters())


def mlp(kind=nn.Tanh, seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(48, 36), kind(), nn.Linear(36, 24), kind(), nn.Linear(24, 10))


INPUTS = torch.randn(80, 48, generator=torch.Generator().manual_seed(1))


def test_errors_are_those_of_the_layers():
    """Recomputed from the layers of the network, by dense algebra."""
    dense = mlp().double()
    found = ftnn.from_dense(dense, (4, 3, 4), 4, 3, INPUTS, order=False)
    assert [row.kind for row in found.rows] == ["input", *(type(m).__name__ for m in dense)]
    assert [row.layer for row in found.rows[1:]] == [type(m).__name__ for m in found.model.layers]
    state, exact = found.encode(INPUTS), INPUTS.double()
    assert max(state.bond_dims) <= 3
    for row, module, layer in zip(found.rows[1:], dense, found.model.layers, strict=True):
        before = torch.from_numpy(state.to_dense())[:, : exact.shape[1]]
        with torch.no_grad():
            own, exact = module(before).numpy(), module(exact)
        state = layer(state)
        y = (state if isinstance(state, np.ndarray) else state.to_dense())[:, : exact.shape[1]]
        far = np.linalg.norm(y - exact.numpy()) / float(exact.norm())
        assert row.error == pytest.approx(far, rel=1e-6)
        by_itself = np.linalg.norm(y - own) / np.linalg.norm(own)
        assert row.own == pytest.approx(by_itself, rel=1e-6, abs=1e-12)
    assert found.error == found.rows[-1].error > 0.01
    assert f"{found.error:.2%}" in str(found)
    assert found.params < found.dense_params


def test_larger_bonds_have_smaller_errors_and_moments_lower_them():
    errors = [ftnn.from_dense(mlp(), None, None, bond, INPUTS).error for bond in (1, 3, 6)]
    assert errors[0] > 1.2 * errors[1] > 1.4 * errors[2]
    x = INPUTS.double() @ torch.diag(0.8 ** torch.arange(48).double()) + 0.5
    plain, fitted = (
        ftnn.from_dense(mlp(), None, 4, None, x, moments=moments).error for moments in (False, True)
    )
    assert fitted < 0.8 * plain


def test_an_order_of_neurons_changes_no_function_and_lowers_the_truncation():
    torch.manual_seed(0)
    alike = torch.randn(6, 48).repeat(6, 1)[torch.randperm(36)]  # rows of six kinds
    dense = mlp().double()
    dense[0].weight.data = 0.3 * alike.double() + 0.01 * torch.randn(36, 48).double()
    modules = [(str(n), module) for n, module in enumerate(dense)]
    before = dense[0].weight.clone()
    new = nn.Sequential(*(module for _, module in ordered(modules, INPUTS.double().numpy())))
    assert not torch.equal(new[0].weight, before)
    assert torch.equal(dense[0].weight, before)
    torch.testing.assert_close(new(INPUTS.double()), dense(INPUTS.double()))
    own, other = (
        ftnn.from_dense(dense, (8, 6), None, 2, INPUTS, ((6, 6), (6, 4)), order=order)
        for order in (False, True)
    )
    assert other.rows[1].truncation < 0.5 * own.rows[1].truncation
    assert other.error < own.error


def test_a_network_with_named_functions_is_saved_and_trained(tmp_path):
    found = ftnn.from_dense(mlp(nn.ReLU), (4, 3, 4), 4, 4, INPUTS)
    ftnn.save(found.model, tmp_path / "model.safetensors")
    again = ftnn.load(tmp_path / "model.safetensors")
    x = found.encode(INPUTS)
    np.testing.assert_allclose(again(x), found.model(x), atol=1e-10)
    module = ftnn.training.TorchModule(found.model, "float32")
    x = found.encode(INPUTS)
    assert str(x.cores[0].dtype) == "torch.float32"
    module(x).square().mean().backward()
    assert all(bool(torch.isfinite(p.grad).all()) for p in module.parameters())
    assert sum(bool(p.grad.any()) for p in module.parameters()) > 10


def test_tensorized_layers_and_conv1d_are_linear_layers():
    dense = mlp().double()
    new = nn.Sequential(*dense)
    new[3] = new[1]  # one module in two places
    new[2] = ftnn.tensorized.Linear.from_dense(dense[2], "svd")
    found = ftnn.from_dense(new, (4, 12), None, None)
    np.testing.assert_allclose(outputs(found, INPUTS), dense(INPUTS.double()).detach(), atol=1e-8)


# ---- a KAN in place of a function ----------------------------------------------------------------


@settings(max_examples=12)
@given(st.integers(0, 99), st.integers(1, 3), st.booleans())
def test_no_sweep_of_a_fit_raises_the_error_which_is_that_of_the_layer(seed, L, odd):
    rng, dims = np.random.default_rng(seed), (3, 2, 4)[:L]
    x = ftnn.Linear(dims, dims, 2, 3, seed=seed)(
        ftnn.MPS.from_dense(rng.standard_normal((20, prod(dims))), dims)
    )
    y = np.maximum(x.to_dense(), 0)
    layer = KAN(dims, odd=odd, seed=seed)
    fit = fit_kan(layer, x, ftnn.MPS.from_dense(y, dims), sweeps=5, rtol=-1.0)
    assert all(b <= a + 1e-7 for a, b in zip(fit.errors, fit.errors[1:], strict=False))
    error = np.linalg.norm(layer(x).to_dense() - y) / np.linalg.norm(y)
    assert fit.error == pytest.approx(error, abs=1e-6)
    if odd:  # an odd function of the vector can be no better than the half of ReLU that is linear
        assert fit.error < 0.75


def test_on_one_site_a_fit_is_linear_least_squares():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((40, 3))
    x *= np.sqrt(3) / np.linalg.norm(x, axis=1, keepdims=True)  # scaled entries are the entries
    layer = KAN((3,), (2,), grid=4, odd=False)
    y = rng.standard_normal((40, 2))
    basis = np.concatenate([x, layer.values(x).transpose(1, 2, 0).reshape(40, -1)], axis=1)
    best = basis @ np.linalg.lstsq(basis, y)[0]
    fit = fit_kan(layer, ftnn.MPS.from_dense(x, (3,)), ftnn.MPS.from_dense(y, (2,)))
    np.testing.assert_allclose(layer(ftnn.MPS.from_dense(x, (3,))).to_dense(), best, atol=1e-4)
    assert fit.error == pytest.approx(np.linalg.norm(best - y) / np.linalg.norm(y), rel=1e-5)


def test_a_hidden_kan_is_found_next_to_where_the_fit_starts():
    dims = (3, 4)
    x = ftnn.Linear(dims, dims, 2, 3)(
        ftnn.MPS.from_dense(np.random.default_rng(0).standard_normal((100, 12)), dims)
    )
    hidden = KAN(dims, seed=5)
    fit = fit_kan(KAN(dims, seed=6), x, hidden(x), sweeps=100, rtol=0.0)
    assert fit.error < 0.01 * fit.errors[0]


def test_a_network_with_kans_tells_their_errors():
    found = ftnn.from_dense(mlp(), (4, 12), None, 4, INPUTS, nonlinearity="kan")
    kans = [row for row in found.rows if row.layer == "KAN"]
    assert len(kans) == 2
    y = outputs(found, INPUTS)
    expected = mlp()(INPUTS).detach().numpy()
    assert found.error == pytest.approx(
        np.linalg.norm(y - expected) / np.linalg.norm(expected), rel=1e-3
    )
    assert found.error < 1.0


# ---- refusals ------------------------------------------------------------------------------------


def of(*modules, in_dims=(4, 12), bond_dim=2, max_bond=2, **more):
    model = nn.Sequential(*modules) if modules else mlp()
    return lambda: ftnn.from_dense(model, in_dims, bond_dim, max_bond, **more)


BROKEN = nn.Linear(48, 4)
BROKEN.weight.data[0, 0] = torch.nan
X = KAN((3, 2))
STATES = ftnn.MPS.from_dense(np.ones((4, 6)), (3, 2))
REFUSALS = {
    "class": (lambda: ftnn.from_dense(nn.Linear(4, 4), None, 2, 2), TypeError, "model is a Linear"),
    "module": (of(nn.Linear(48, 4), nn.Softmax(1)), ValueError, "model has '1', Softmax.*no count"),
    "norm": (of(nn.Linear(48, 4), nn.BatchNorm1d(4)), ValueError, "'1', BatchNorm1d.*fuse_linear"),
    "flatten": (of(nn.Linear(48, 4), nn.Flatten()), ValueError, "model has '1', Flatten"),
    "nested": (of(nn.Sequential(nn.Conv1d(4, 4, 1))), ValueError, "model has '0.0', Conv1d"),
    "empty": (of(nn.ReLU()), ValueError, "no linear layer"),
    "widths": (of(nn.Linear(48, 4), nn.Linear(5, 4)), ValueError, "'1' with 5 inputs, but gets 4"),
    "NaN": (of(BROKEN), ValueError, "model has '0'.* values that are not finite"),
    "in_dims": (of(in_dims=(4, 4)), ValueError, r"in_dims \(4, 4\) multiply to 16"),
    "hidden_dims": (of(hidden_dims=((4, 4), (6, 4))), ValueError, r"hidden_dims\[0\] \(4, 4\) mul"),
    "few hidden_dims": (of(hidden_dims=((6, 6),)), ValueError, "hidden_dims are 1, expected 2"),
    "sites": (of(hidden_dims=((36,), (24,))), ValueError, r"hidden_dims\[0\] has 1 sites"),
    "bond_dim": (of(bond_dim=0), ValueError, "bond_dim is 0"),
    "max_bond": (of(max_bond=0), ValueError, "max_bond is 0"),
    "function_bond": (of(function_bond=0), ValueError, "function_bond is 0"),
    "nonlinearity": (of(nonlinearity="relu"), ValueError, "nonlinearity is 'relu'"),
    "kan": (of(nonlinearity="kan"), ValueError, "need calibration inputs"),
    "moments": (of(moments=True), ValueError, "need calibration inputs"),
    "inputs": (of(inputs=INPUTS[:, :5]), ValueError, r"inputs have shape \(80, 5\)"),
    "array": (of(inputs=INPUTS.numpy()), TypeError, "inputs is a ndarray"),
    "NaN inputs": (of(inputs=INPUTS * torch.nan), ValueError, "inputs have values that are not"),
    "encode": (lambda: of()().encode(INPUTS[:, :5]), ValueError, r"x has shape \(80, 5\)"),
    "fit: layer": (lambda: fit_kan(1, STATES, STATES), TypeError, "layer is a int"),
    "fit: states": (lambda: fit_kan(X, 1, STATES), TypeError, "inputs is a int"),
    "fit: dims": (lambda: fit_kan(KAN((2, 3)), STATES, STATES), ValueError, r"expected \(2, 3\)"),
    "fit: sweeps": (lambda: fit_kan(X, STATES, STATES, 0), ValueError, "sweeps is 0"),
    "fit: share": (
        lambda: fit_kan(KAN((3, 3), share=True), STATES, STATES), ValueError, "share=False"
    ),
    "fit: samples": (
        lambda: fit_kan(X, STATES, ftnn.MPS.from_dense(np.ones((3, 6)), (3, 2))),
        ValueError, "4 inputs and 3 targets",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", list(REFUSALS))
def test_what_cannot_be_is_refused(name):
    make, error, words = REFUSALS[name]
    with pytest.raises(error, match=re.compile(words, re.DOTALL)):
        make()


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_inputs_that_do_not_vary_are_taken(value):
    dense = mlp()
    found = ftnn.from_dense(dense, None, None, None, torch.full((60, 48), value), moments=True)
    assert found.error < 1e-6
    layer = ftnn.Linear.from_dense(
        dense[0], (8, 6), (6, 6), 36, None, np.full((48, 48), value), np.full(48, value)
    )
    assert layer.dense_error.weight < 1e-6
