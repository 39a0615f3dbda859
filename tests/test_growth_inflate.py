"""Laws of inflate: the same function with larger bonds, whose new entries have gradients."""

import numpy as np
import pytest
from growth_laws import (
    COMPLEX,
    ENOUGH,
    REAL,
    arrays_of,
    assert_apart,
    assert_close,
    assert_same_function,
    assert_unchanged,
    gradients,
    make_network,
    networks,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from laws import Chain

import ftnn
from ftnn.growth import freeze, inflate
from ftnn.interpret import truncation_errors
from ftnn.layers.surgery import parameter_map
from ftnn.nonlinear import KAN, BlockMap, Elementwise, LayerNorm, Polynomial, RMSNorm, SketchGauge


@settings(max_examples=40)
@given(networks(), st.integers(4, 6))
def test_larger_bonds_of_weights_are_the_same_function(case, bond):
    model, chain = case
    before = arrays_of(model)
    larger = inflate(model, bond_dim=bond)
    assert_unchanged(model, before)
    assert_apart(model, larger)
    assert_same_function(larger, model, chain)
    assert larger.num_params() > model.num_params()
    blocks = parameter_map(model, larger)
    for name, block in blocks.items():
        np.testing.assert_array_equal(larger.named_params()[name][block.target], before[block.name])


@settings(max_examples=30)
@given(networks(lossy=False), st.integers(65, 70))
def test_larger_bonds_of_activations_are_the_same_function_where_nothing_was_lost(case, bond):
    model, chain = case
    exact = inflate(model, max_bond=bond)
    assert exact.layers[0].max_bond == bond
    assert_same_function(exact, model, chain)


@settings(max_examples=25)
@given(st.integers(0, 99), st.integers(1, 4), st.integers(1, 4))
def test_a_larger_bond_keeps_the_gauge_and_loses_less(seed, old, more):
    """The first site to be cut, the last, keeps its directions: a larger bond can only add some."""
    dims = (3, 3, 3)
    model = ftnn.Sequential(ftnn.Linear(dims, dims, 4, old, seed=seed))
    x = Chain(4, dims, (3, 3), "generic", seed).mps()
    larger = inflate(model, max_bond=old + more)
    few, many = model(x).cores[-1], larger(x).cores[-1]
    np.testing.assert_allclose(many[:, : few.shape[1]], few * _ratio(many, few), atol=1e-9)
    before, after = (truncation_errors(m, x.cores)["0"] for m in (model, larger))
    assert np.mean(after) <= np.mean(before) + 1e-12


def _ratio(many, few):
    """Cores carry a scale per sample."""
    first, other = (np.linalg.norm(c[:, 0], axis=(1, 2)) for c in (many, few))
    return (first / other)[:, None, None, None]


@settings(max_examples=12)
@given(st.sampled_from(["float32", "complex64", "complex128"]), st.integers(0, 99), st.data())
def test_dtypes(dtype, seed, data):
    kinds = data.draw(
        st.lists(st.sampled_from(COMPLEX if "complex" in dtype else REAL), max_size=2)
    )
    model = make_network(kinds, (3, 2, 2), 2, 5, seed, "expectation", dtype)
    larger = inflate(model, bond_dim=5, max_bond=8 if not kinds else None)
    assert {a.dtype.name for a in larger.named_arrays().values()} == {dtype}
    if kinds:
        assert_same_function(larger, model, Chain(3, (3, 2, 2), (2, 2), "generic", seed), dtype)


@settings(max_examples=8)
@given(networks(heads=("readout",)), st.integers(4, 6))
def test_torch(case, bond):
    model, chain = case
    expected = model(chain.mps())
    larger = inflate(model.to("torch"), bond_dim=bond)
    assert_close(larger(chain.mps(backend="torch")), expected)


@settings(max_examples=12)
@given(
    st.lists(st.sampled_from([k for k in REAL if k != "layer-norm"]), max_size=2),
    st.integers(0, 99),
    st.sampled_from(["readout", "expectation"]),
)
def test_new_entries_have_gradients(kinds, seed, head):
    dims = (3, 3, 3)
    model = make_network(kinds, dims, 1, ENOUGH, seed, head)
    larger = inflate(model, bond_dim=3)
    grads = gradients(larger, Chain(4, dims, (2, 2), "generic", seed))
    blocks = parameter_map(model, larger)
    checked = 0
    for name, block in blocks.items():
        grad, old = grads[name], model.named_params()[block.name]
        assert np.isfinite(grad).all()
        left, right = old.shape[0], old.shape[-1]
        if grad.shape[0] > left and name.split(".")[-2] in ("weight", "A", "B"):
            new = np.abs(grad[left:, ..., :right])
            assert (new.max(axis=tuple(range(1, new.ndim))) > 1e-12).all(), name
            checked += 1
    assert checked > 0


def test_a_step_of_an_optimizer_uses_all_of_a_new_bond():
    import torch

    from ftnn.training import TorchModule

    dims = (3,) * 4
    model = inflate(make_network([], dims, 1, 9, 0), bond_dim=4)
    module = TorchModule(model)
    optimizer = torch.optim.Adam(module.parameters(), 1e-2)
    x = Chain(6, dims, (2, 2, 2), "generic", 0).mps(backend="torch")
    for _ in range(2):
        optimizer.zero_grad()
        (module(x) ** 2).sum().backward()
        optimizer.step()
    spectra = np.linalg.svd(
        ftnn.MPO(model.layers[-1].operators()["weight"]).cores[2].detach().numpy().reshape(4, -1),
        compute_uv=False,
    )
    assert (spectra > 1e-4).all()
    assert all((p.grad != 0).any() for p in module.parameters())


def test_a_hundred_sites_in_single_precision():
    dims = (2,) * 100
    model = ftnn.Sequential(
        ftnn.Linear(dims, dims, 2, 6, seed=1), KAN(dims), RMSNorm(), ftnn.Readout(dims, 3, 2)
    ).to("numpy", "float32")
    x = Chain(3, dims, (2,) * 99, "generic", 0).mps("float32")
    larger = inflate(model, bond_dim=8)
    y, z = (
        m.layers[-1].contract(ftnn.Sequential(*m.layers[:-1])(x).cores) for m in (model, larger)
    )
    np.testing.assert_allclose(z[1], y[1], atol=1e-2)
    np.testing.assert_allclose(z[0], y[0] * np.exp(y[1] - z[1])[:, None], rtol=1e-2, atol=1e-3)


def test_other_layers():
    dims = (3, 3, 3, 3)
    x = Chain(3, dims, (2, 2, 2), "generic", 0)
    product = Chain(3, dims, (1, 1, 1), "generic", 0)
    tree = ftnn.Coarsen(dims, (4, 4), 2)
    assert_same_function(inflate(tree, 3), tree, x)
    blocks = BlockMap(dims, 4, 2, (2, 2))
    assert_same_function(inflate(blocks, 5), blocks, product)
    for layer in (SketchGauge(dims, ENOUGH), Polynomial(dims, [0.0, 1.0, 0.5], ENOUGH)):
        assert_same_function(inflate(layer, max_bond=70), layer, x)
    norm = LayerNorm(dims, ENOUGH, 2)
    assert_same_function(inflate(norm, 3, 70), norm, x)
    flat = ftnn.Sequential(LayerNorm(dims, 5), ftnn.Linear(dims, dims, 2, 5))
    assert inflate(flat, 3).layers[0].bond_dim == 1
    assert inflate(flat, 3, where=["0", "1"]).layers[0].bond_dim == 3
    assert inflate(Elementwise("sin", 4), max_bond=8).max_bond == 8


def test_where_and_bonds_of_single_cuts():
    dims = (3, 3, 3)
    model = make_network(["residual"], dims, 2, 5, 0)
    one = inflate(model, 4, where="1.layer.0")
    assert [layer.bond_dim for layer in (model.layers[0], one.layers[0])] == [2, 2]
    assert one.layers[1].children["layer"].layers[0].bond_dim == 4
    assert inflate(model, [2, 5], where=lambda m: m.layers[0]).layers[0].bond_dim == (2, 5)
    assert inflate(model, bias_bond=3, where="0").layers[0].bias_bond == 3
    assert model.layers[0].bias_bond == 1
    larger = inflate(freeze(model.train(), "0"), 4, where=["1", "2"])
    assert larger.training
    assert larger.layers[0].frozen == model.layers[0].params.keys()


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({}, ValueError, "none of bond_dim, max_bond and bias_bond is given"),
        ({"bond_dim": 1}, ValueError, r"bond_dim is 1, but that of Linear '0' is 2 already"),
        ({"max_bond": 4, "where": "0"}, ValueError, "max_bond is 4, but that of Linear"),
        ({"bond_dim": [3, 1], "where": "0"}, ValueError, r"bond_dim is \[3, 1\], but that"),
        ({"bond_dim": [3], "where": "0"}, ValueError, "expected 2 positive integers"),
        ({"bond_dim": 2.5}, ValueError, "bond_dim is 2.5, expected a positive integer"),
        ({"max_bond": 9, "where": "2"}, ValueError, "has no such bond, only Readout"),
        ({"bond_dim": 3, "where": "9"}, ValueError, "where is '9', but the model has the layers"),
        ({"bond_dim": 3, "where": 3}, TypeError, "where is 3, expected the dotted path"),
        ({"bond_dim": 3, "where": []}, TypeError, r"where is \[\], expected"),
    ],
)
def test_what_cannot_grow_is_named(options, error, words):
    model = make_network(["kan"], (3, 3, 3), 2, 5, 0)
    with pytest.raises(error, match=words):
        inflate(model, **options)


def test_frozen_arrays_do_not_grow():
    model = freeze(make_network([], (3, 3, 3), 2, 5, 0), "0.weight.1")
    with pytest.raises(ValueError, match=r"array '0.weight.1' is frozen, but its shape would"):
        inflate(model, 3)
    assert inflate(model, 4, where="1").layers[0].frozen == {"weight.1"}
    with pytest.raises(TypeError, match=r"model is a int, expected an ftnn\.Layer"):
        inflate(3, 4)
