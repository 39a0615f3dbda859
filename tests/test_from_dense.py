"""Layers on states from dense ones: equal at full bonds, errors told, refusals."""

import re
from math import prod

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from laws import EXACT, assert_close, insert_gauges, mps, pad_bonds
from torch import nn

import ftnn
from ftnn.arrays.backend import to_numpy

BACKENDS = pytest.mark.parametrize("backend", ["numpy", "torch"])


class Conv1D(nn.Module):
    """The linear layer of transformers: its weight is (in, out)."""

    def __init__(self, nf, nx):
        super().__init__()
        self.nf = nf
        self.weight = nn.Parameter(torch.randn(nx, nf))
        self.bias = nn.Parameter(torch.randn(nf))

    def forward(self, x):
        return x @ self.weight + self.bias


@st.composite
def dense_layers(draw, readout=False):
    """A dense layer of drawn kind in double precision, its dims, and states with their vectors."""
    L = draw(st.integers(1, 4))
    parts = st.lists(st.integers(1, 4 if L < 4 else 3), min_size=L, max_size=L).map(tuple)
    in_dims, out_dims = draw(parts), draw(parts)
    inn, out = prod(in_dims), draw(st.integers(1, 7)) if readout else prod(out_dims)
    seed = draw(st.integers(0, 999))
    torch.manual_seed(seed)
    kind = draw(st.sampled_from(["bias", "none", "zero", "conv1d", "low rank"]))
    layer = Conv1D(out, inn) if kind == "conv1d" else nn.Linear(inn, out, kind != "none")
    with torch.no_grad():
        if kind == "zero":
            layer.bias.zero_()
        if kind == "low rank":
            layer.weight.copy_(torch.randn(out, 1) @ torch.randn(1, inn))
    x = np.random.default_rng(seed).standard_normal((3, inn))
    return layer.double(), in_dims, out_dims, x


def placed(layer, x, dims, backend):
    """What a layer returns for dense vectors, dense, by way of a backend."""
    y = layer.to(backend)(ftnn.MPS.from_dense(x, dims).to(backend))
    return to_numpy(y.to_dense() if isinstance(y, ftnn.MPS) else y)


def scale(dense, x):
    """Norm of the outputs without cancellation."""
    y = dense(torch.from_numpy(x)).detach()
    shift = dense(torch.zeros(1, x.shape[1], dtype=torch.float64)).detach()
    return float((y - shift).norm() + len(x) ** 0.5 * shift.norm()) + 1e-3


@BACKENDS
@given(st.data())
def test_at_full_bonds_a_layer_on_states_is_its_dense_one(backend, data):
    dense, in_dims, out_dims, x = data.draw(dense_layers())
    layer = ftnn.Linear.from_dense(dense, in_dims, out_dims, None, None)
    expected = dense(torch.from_numpy(x)).detach()
    assert_close(
        placed(layer, x, in_dims, backend), expected, condition=EXACT, scale=scale(dense, x)
    )
    assert layer.bias == (dense.bias is not None)
    assert max(vars(layer.dense_error).values()) < 1e-12
    weight, bias = layer.to_dense()
    exact = dense.weight.T if isinstance(dense, Conv1D) else dense.weight
    assert_close(weight, exact.detach())
    if layer.bias:
        assert_close(bias, dense.bias.detach())


@BACKENDS
@given(st.data())
def test_at_full_bonds_a_readout_is_its_dense_layer(backend, data):
    dense, dims, _, x = data.draw(dense_layers(readout=True))
    readout = ftnn.Readout.from_dense(dense, dims, None)
    expected = dense(torch.from_numpy(x)).detach()
    assert_close(
        placed(readout, x, dims, backend), expected, condition=EXACT, scale=scale(dense, x)
    )
    assert readout.dense_error.weight < 1e-12


@given(st.data(), st.integers(1, 4), st.integers(1, 3))
def test_errors_told_are_those_of_the_dense_arrays(data, bond_dim, bias_bond):
    dense, in_dims, out_dims, _ = data.draw(dense_layers())
    layer = ftnn.Linear.from_dense(dense, in_dims, out_dims, bond_dim, 2, bias_bond=bias_bond)
    assert max((1, *(core.shape[3] for core in layer.operators()["weight"][:-1]))) <= bond_dim
    weight, bias = layer.to_dense()
    exact = (dense.weight.T if isinstance(dense, Conv1D) else dense.weight).detach().numpy()
    error = np.linalg.norm(weight - exact) / np.linalg.norm(exact)
    assert abs(layer.dense_error.weight - layer.dense_error.outputs) < 1e-14
    assert abs(layer.dense_error.weight - error) < 1e-10
    if layer.bias and (size := float(dense.bias.detach().norm())):
        error = np.linalg.norm(bias - dense.bias.detach().numpy()) / size
        assert abs(layer.dense_error.bias - error) < 1e-10
    assert layer.num_params() == sum(array.size for array in layer.params.values())


@pytest.mark.parametrize(("seed", "with_mean"), [(0, False), (1, True), (2, False), (3, True)])
def test_moments_lower_the_error_of_outputs_and_a_mean_corrects_the_bias(seed, with_mean):
    rng = np.random.default_rng(seed)
    W, b = rng.standard_normal((16, 24)), rng.standard_normal(16)
    x = (
        rng.standard_normal((200, 24)) @ (rng.standard_normal((24, 24)) * 0.7 ** np.arange(24))
        + 1.0
    )
    second, mean = x.T @ x / len(x), x.mean(0) if with_mean else None
    errors = []
    for moments in (None, torch.from_numpy(second)):
        layer = ftnn.Linear.from_dense(W, (4, 6), (4, 4), 3, None, moments, mean, bias=b)
        weight, bias = layer.to_dense()
        difference = x @ (weight - W).T + bias - b
        errors.append(np.linalg.norm(difference))
        if with_mean:
            assert abs(difference.mean(0)).max() < 1e-10
    assert errors[1] < 0.95 * errors[0]
    spread = x - x.mean(0) if with_mean else x
    told = np.linalg.norm(spread @ (weight - W).T) / np.linalg.norm(spread @ W.T)
    assert layer.dense_error.outputs == pytest.approx(told, rel=1e-6)
    diagonal = ftnn.Linear.from_dense(W, (4, 6), (4, 4), 3, None, second.diagonal(), bias=b)
    assert diagonal.dense_error.outputs < diagonal.dense_error.weight + 0.2


def test_a_layer_with_a_larger_bias_obeys_the_laws_and_is_saved(tmp_path):
    rng = np.random.default_rng(0)
    W, b = rng.standard_normal((27, 8)), rng.standard_normal(27)
    layer = ftnn.Linear.from_dense(W, (2, 2, 2), (3, 3, 3), 4, 3, bias=b, seed=7)
    model = ftnn.Sequential(layer, ftnn.Readout.from_dense(W.T, (3, 3, 3), None, bias=b[:8]))
    assert layer.bias_bond == 3
    cores = ftnn.MPS.from_dense(rng.standard_normal((4, 8)), (2, 2, 2)).cores
    y = model(mps(cores))
    for other in (insert_gauges(cores, 1), pad_bonds(cores)):
        np.testing.assert_allclose(model(mps(other)), y, atol=1e-8)
    alone = [model(mps([core[n : n + 1] for core in cores])) for n in range(4)]
    np.testing.assert_allclose(np.concatenate(alone), y, atol=1e-8)
    ftnn.save(model, tmp_path / "model.safetensors")
    again = ftnn.load(tmp_path / "model.safetensors")
    assert np.array_equal(again(mps(cores)), y)
    assert again.num_params() == model.num_params()
    exact = layer.to_dense()
    layer.rescale(np.log(3.0))
    for scaled, before in zip(layer.to_dense(), exact, strict=True):
        np.testing.assert_allclose(scaled, 3.0 * before)
    before = model.layers[1](mps(model.layers[0](mps(cores)).cores))
    model.layers[1].rescale(np.log(2.0))
    np.testing.assert_allclose(model.layers[1](model.layers[0](mps(cores))), 2.0 * before)


@BACKENDS
@pytest.mark.parametrize("exponent", [-300, -20, 0, 20, 300])
def test_a_readout_adds_its_bias_to_states_of_any_scale(backend, exponent):
    """Norms of 10^exponent: the bias, or the state, is lost beside the other, not both."""
    readout = ftnn.Readout((2,) * 40, 3, 2, seed=1, bias=True)
    plain = ftnn.Readout((2,) * 40, 3, 2, seed=1)
    readout.params["bias"] = np.array([1.0, -2.0, 3.0])
    rng = np.random.default_rng(0)
    x = ftnn.MPS([10.0 ** (exponent / 40) * rng.standard_normal((2, 1, 2, 1)) for _ in range(40)])
    expected = plain(x) + readout.params["bias"]
    found = readout.to(backend)(x.to(backend))
    np.testing.assert_allclose(to_numpy(found), expected, rtol=1e-8)
    value, log_scale = readout.contract(x.to(backend).cores)
    assert np.isfinite(to_numpy(value)).all()
    assert (to_numpy(log_scale) >= 0).all()


def test_a_bias_of_zero_can_be_trained():
    layer = ftnn.Linear.from_dense(np.eye(4), (2, 2), (2, 2), None, None, bias=np.zeros(4))
    assert not layer.to_dense()[1].any()
    assert all(layer.params[f"bias.{k}"].any() for k in range(1))


LINEAR = nn.Linear(12, 8)
BROKEN = nn.Linear(12, 8)
BROKEN.weight.data[0, 0] = torch.nan


def of(linear=LINEAR, in_dims=(3, 4), out_dims=(2, 4), bond_dim=2, max_bond=2, **more):
    return lambda: ftnn.Linear.from_dense(linear, in_dims, out_dims, bond_dim, max_bond, **more)


REFUSALS = {
    "in_dims": (of(in_dims=(3, 3)), ValueError, r"in_dims \(3, 3\) multiply to 9.*\(4, 3\)"),
    "out_dims": (of(out_dims=(3, 3)), ValueError, r"out_dims \(3, 3\) multiply to 9.*\(4, 2\)"),
    "sites": (of(in_dims=(12,)), ValueError, "both need the same"),
    "bond_dim": (of(bond_dim=0), ValueError, "bond_dim is 0"),
    "max_bond": (of(max_bond=0), ValueError, "max_bond is 0"),
    "bias_bond": (of(bias_bond=0), ValueError, "bias_bond is 0"),
    "method": (of(method="svd"), ValueError, "method is 'svd'"),
    "class": (of(nn.Conv1d(12, 8, 1)), TypeError, "linear is a Conv1d, expected a torch.nn.Linear"),
    "NaN": (of(BROKEN), ValueError, "the weight has values that are not finite"),
    "NaN in the bias": (
        of(np.ones((8, 12)), bias=np.full(8, np.inf)), ValueError, "the bias has values"
    ),
    "complex": (of(np.ones((8, 12), complex)), TypeError, "of complex128, expected real"),
    "complex torch": (
        of(nn.Linear(12, 8, dtype=torch.complex64)), TypeError, "of complex64, expected real"
    ),
    "vector": (of(np.ones(12)), ValueError, r"shape \(12,\), expected \(out, in\)"),
    "bias": (of(np.ones((8, 12)), bias=np.ones(3)), ValueError, r"shape \(3,\), expected \(8,\)"),
    "two biases": (of(bias=np.ones(8)), ValueError, "linear has its own"),
    "moments": (of(moments=np.ones(3)), ValueError, r"moments have shape \(3,\)"),
    "mean": (of(mean=np.ones(3)), ValueError, r"mean has shape \(3,\), expected \(12,\)"),
    "mean of moments": (
        of(mean=np.ones(3), moments=np.eye(12)), ValueError, r"mean has shape \(3,\)"
    ),
    "readout": (lambda: ftnn.Readout.from_dense(LINEAR, (3, 3), 2), ValueError, "multiply to 9"),
    "bond of a readout": (
        lambda: ftnn.Readout.from_dense(LINEAR, (3, 4), 0), ValueError, "bond_dim is 0"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", list(REFUSALS))
def test_what_cannot_be_is_refused(name):
    make, error, words = REFUSALS[name]
    with pytest.raises(error, match=re.compile(words, re.DOTALL)):
        make()


def test_half_precision_is_converted():
    dense = nn.Linear(6, 4).to(torch.bfloat16)
    layer = ftnn.Linear.from_dense(dense, (2, 3), (2, 2), None, None)
    assert layer.params["weight.0"].dtype == np.float64
    assert_close(layer.to_dense()[0], dense.weight.detach().double())
