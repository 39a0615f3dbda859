"""Trainable features of product states, and dropout: laws, dense references, bad input."""

from functools import reduce

import numpy as np
import pytest
import torch
from autoray import lazy
from hypothesis import given
from hypothesis import strategies as st
from laws import Chain, assert_close, chains, dense, insert_gauges, mps

import ftnn
from ftnn.arrays.backend import to_numpy
from ftnn.nonlinear import Dropout, FeatureMap
from ftnn.nonlinear.feature_map import coordinates
from ftnn.training.module import TorchModule

backends = st.sampled_from(["numpy", "torch"])


@st.composite
def problems(draw):
    """A feature map with biases, and site vectors (sites, batch, phys) with a constant channel."""
    L, p, q = draw(st.integers(1, 5)), draw(st.integers(2, 5)), draw(st.integers(2, 4))
    share, hidden = draw(st.booleans()), draw(st.integers(1, 6))
    fn, batch = draw(st.sampled_from(["relu", "tanh", "gelu"])), draw(st.integers(1, 4))
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    layer = feature_map(p, q, L, rng, hidden=hidden, fn=fn, share=share)
    x = rng.standard_normal((L, batch, p))
    x[:, :, 0] = np.where(x[:, :, 0] < 0, -1.0, 1.0) * rng.uniform(0.3, 2.0, (L, batch))
    return layer, x


def feature_map(p, q, L, rng, **arguments):
    layer = FeatureMap((p,) * L, (q,) * L, **arguments)
    for name in ("inner_bias", "outer_bias"):  # they start at zero, which would hide mistakes
        layer.params[name] = rng.standard_normal(layer.params[name].shape)
    return layer


def product(x, backend="numpy"):
    return mps(list(x[:, :, None, :, None]), backend)


def reference(layer, x):
    """The dense output, site by site, in the words of the documentation."""
    fn = {"relu": lambda u: np.maximum(u, 0.0), "tanh": np.tanh}.get(layer.fn)
    if fn is None:
        fn = lambda u: torch.nn.functional.gelu(torch.from_numpy(u)).numpy()  # noqa: E731
    sites = []
    for k, site in enumerate(x):
        inner, b, outer, c = (layer.params[n][0 if layer.share else k] for n in layer.params)
        a = site[:, :1]
        phi = fn(site[:, 1:] / a @ inner + b) @ outer + c
        sites.append(a * np.concatenate([np.ones_like(a), phi], axis=1))
    outer_product = lambda u, v: np.einsum("bi,bj->bij", u, v).reshape(len(u), -1)  # noqa: E731
    return reduce(outer_product, sites)


@given(problems(), backends)
def test_features_equal_the_dense_reference(problem, backend):
    layer, x = problem
    expected = reference(layer, x)
    found = dense(layer.to(backend)(product(x, backend)))
    # xi is kept up to 1e-6 |xi|^2, relatively
    far = 1e-6 * (x[:, :, 1:] ** 2).sum(axis=2).max() / 0.09
    size = np.abs(expected).max() + np.prod([np.abs(site).max() + 5.0 for site in x])
    np.testing.assert_allclose(found, expected, rtol=0, atol=(1e-10 + 10 * far) * size)
    assert found.shape == (x.shape[1], layer.out_dims[0] ** len(x))


@given(problems(), backends, st.integers(0, 99))
def test_law_2_factors_between_the_sites_change_nothing(problem, backend, seed):
    layer, x = problem
    rng = np.random.default_rng(seed)
    factors = rng.uniform(0.2, 5.0, (*x.shape[:2], 1)) * rng.choice([-1.0, 1.0], (*x.shape[:2], 1))
    factors[-1] = 1.0 / factors[:-1].prod(axis=0)
    layer.to(backend)
    plain, moved = (dense(layer(product(y, backend))) for y in (x, factors * x))
    assert_close(moved, plain, condition=1e4, scale=np.abs(plain).max())
    doubled = dense(layer(product(np.concatenate([2.0 * x[:1], x[1:]]), backend)))
    assert_close(doubled, 2.0 * plain, condition=1e4, scale=np.abs(plain).max())


@pytest.mark.parametrize("scale", [0.0, 1e-30, 1e-16, 1.0, 1e8])
@pytest.mark.parametrize("constant", [0.0, 1e-30, 1e-4, 1.0, -1.0])
def test_law_7_gradients_are_finite_for_every_input(scale, constant):
    rng = np.random.default_rng(0)
    module = TorchModule(feature_map(4, 3, 3, rng, hidden=5), "float32")
    x = rng.standard_normal((3, 2, 4))
    x[:, 0, 0], x[:, 1] = constant, 0.0  # the second sample is zero
    cores = [torch.from_numpy(c.astype("float32")) for c in product(scale * x).cores]
    cores = [core.requires_grad_() for core in cores]
    out = module.apply_cores(tuple(cores))
    assert all(bool(torch.isfinite(o).all()) for o in out)
    sum(o.sum() for o in out).backward()
    for tensor in (*cores, *module.parameters()):
        assert bool(torch.isfinite(tensor.grad).all())


@given(st.floats(1e-3, 300.0), st.floats(-2.0, 2.0).filter(lambda a: abs(a) > 1e-6))
def test_coordinates_are_kept_to_the_stated_error(length, a):
    v = np.array([0.6, -0.8]) * length
    constant, xi = coordinates(np.array([[[a, *(a * v)]]]))
    assert constant.item() == a
    np.testing.assert_allclose(xi[0, 0], v / (1.0 + 1e-6 * length**2), rtol=1e-9)


def test_features_are_saved_with_their_function(tmp_path):
    rng = np.random.default_rng(0)
    layer = feature_map(4, 3, 3, rng, hidden=5, fn="silu", share=True)
    assert layer.num_params() == 3 * 5 + 5 + 5 * 2 + 2
    x = product(rng.standard_normal((3, 2, 4)))
    model = ftnn.Sequential(layer, Dropout(0.3), ftnn.Readout((3,) * 3, 2, 2))
    ftnn.save(model, tmp_path / "model.safetensors")
    again = ftnn.load(tmp_path / "model.safetensors")
    assert_close(again(x), model(x))
    assert again.layers[1].rate == 0.3
    with pytest.raises(ValueError, match="callable"):
        FeatureMap((2, 2), (2, 2), 3, fn=lambda u: u**3).config()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (((3, 4), (2, 2), 5), "phys_dims is .*the same dimension on every site"),
        (((3, 3), (2, 1), 5), "out_dims is .*the same dimension"),
        (((3, 3), (1, 1), 5), "out_dims is .*at least 2"),
        (((3, 3), (2, 2), 0), "hidden is 0"),
        (((3, 3), (2, 2), 5, "sqrt"), "fn is 'sqrt'; choose one of"),
        (((3, 3), (2,), 5), "2 sites"),
    ],
)
def test_bad_features_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        FeatureMap(*arguments)


def test_entangled_and_complex_states_are_refused():
    layer = FeatureMap((2, 2), (3, 3), 4)
    with pytest.raises(ValueError, match=r"bond_dims \(2,\), but FeatureMap takes product states"):
        layer(Chain(1, (2, 2), (2,), "generic", 0).mps())
    with pytest.raises(TypeError, match="real"):
        layer.to("numpy", "complex128")(ftnn.MPS([np.ones((1, 1, 2, 1), "complex128")] * 2))


# ---- dropout -------------------------------------------------------------------------------------


@given(chains(max_sites=5), backends, st.floats(0.0, 0.95))
def test_dropout_is_an_operator_that_keeps_the_constant_channel(chain, backend, rate):
    cores = chain.mps().cores
    layer = Dropout(rate).to(backend)
    assert all(
        a is b for a, b in zip(layer.apply(cores), cores, strict=True)
    )  # in evaluation, at no cost
    torch.manual_seed(0)
    found = [to_numpy(c) for c in layer.train().apply(mps(cores, backend).cores)]
    for before, after in zip(cores, found, strict=True):
        np.testing.assert_array_equal(after[:, :, 0], before[:, :, 0])
        for b, p in np.ndindex(before.shape[0], before.shape[2]):
            kept = np.allclose(after[b, :, p], before[b, :, p] / (1.0 - rate if p else 1.0))
            assert kept or not after[b, :, p].any()


@given(chains(max_sites=4, kinds=("generic",)))
def test_law_2_dropout_does_not_see_the_gauge(chain):
    layer = Dropout(0.5).train()
    found = []
    for cores in (chain.cores(), insert_gauges(chain.cores(), 1)):
        torch.manual_seed(0)
        found.append(dense(layer(mps(cores, "torch"))))
    assert_close(found[1], found[0], condition=1e6, scale=1 + np.linalg.norm(found[0]))


@pytest.mark.parametrize("backend", ["numpy", "torch"])
@pytest.mark.parametrize("rate", [0.2, 0.5])
def test_the_mean_over_dropout_is_the_result_of_evaluation(backend, rate):
    """Exactly in the mean: within five standard errors of 40,000 draws."""
    torch.manual_seed(0)
    chain = Chain(1, (3, 2, 3), (2, 2), "generic", 0)
    readout = ftnn.Readout((3, 2, 3), 2, 3)
    model = ftnn.Sequential(Dropout(rate), readout).to(backend)
    many = mps([np.repeat(core, 40_000, axis=0) for core in chain.cores()], backend)
    expected = to_numpy(model(many))[0]
    outputs = to_numpy(model.train()(many))
    error = outputs.std(axis=0) / 200.0
    assert (error > 0).all()
    assert (np.abs(outputs.mean(axis=0) - expected) < 5.0 * error).all()


def test_draws_of_dropout_are_fresh_and_seeded():
    x = ftnn.MPS([np.ones((4, 1, 9, 1))] * 3)
    first, second = Dropout(0.5, seed=1).train(), Dropout(0.5, seed=1).train()
    a, b = dense(first(x)), dense(first(x))
    assert not np.array_equal(a, b)
    np.testing.assert_array_equal(dense(second(x)), a)
    assert first(ftnn.MPS([c.astype("float32") for c in x.cores])).cores[0].dtype == "float32"


@pytest.mark.parametrize("rate", [-0.1, 1.0, float("nan"), float("inf")])
def test_bad_rates_are_named(rate):
    with pytest.raises(ValueError, match=r"rate is .*expected a number in \[0, 1\)"):
        Dropout(rate)


def test_dropout_without_a_generator_is_refused():
    with pytest.raises(TypeError, match="rate is a str"):
        Dropout("0.5")
    core = lazy.Variable((1, 1, 2, 1), backend="numpy")  # of a backend that registers none
    with pytest.raises(NotImplementedError, match="not available on autoray"):
        Dropout(0.5).train().apply((core,))
