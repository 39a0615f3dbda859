"""Nonlinear layers and normalization: laws, dense references, gradients, bad input."""

import importlib.util
import math

import numpy as np
import pytest
import torch
from catalogue import trained
from hypothesis import given
from hypothesis import strategies as st
from laws import (
    KINDS,
    OTHERS,
    Chain,
    assert_close,
    chains,
    dense,
    dense_operator,
    mps,
)

import ftnn
from ftnn.arrays.backend import convert, to_numpy
from ftnn.layers.calibration import update_grids
from ftnn.nonlinear import (
    KAN,
    CoreNorm,
    Elementwise,
    FeatureMap,
    Gated,
    LayerNorm,
    Pointwise,
    Polynomial,
    RMSNorm,
    SketchGauge,
    SVDGauge,
)
from ftnn.nonlinear.cross import pivots
from ftnn.nonlinear.functions import FUNCTIONS, scaled_entries
from ftnn.training.module import TorchModule

backends = st.sampled_from(["numpy", "torch"])


def run(layer, cores, backend):
    return dense(layer.to(backend)(mps(cores, backend)))


@pytest.mark.parametrize("backend", ["numpy", "torch"])
@pytest.mark.parametrize("scale", [1e-17, 1e-9, 1e9])
def test_norms_see_vectors_of_any_scale(scale, backend):
    """In single precision, where the square of a core may be all that can be represented."""
    cores = Chain(3, (2,) * 12, (2,) * 11, "generic", 1).cores("float32")
    x, scaled = (
        ftnn.MPS([convert((factor * c).astype("float32"), backend) for c in cores])
        for factor in (1.0, scale)
    )
    for layer in (RMSNorm(), LayerNorm((2,) * 12, 4)):
        layer.to(backend, "float32")
        expected = to_numpy(layer(x).to_dense())
        assert_close(layer(scaled).to_dense(), expected, "float32", 1e3)


# ---- dense references ----------------------------------------------------------------------------


@given(
    chains(max_sites=4, kinds=("generic", "padded", "repeated")),
    st.sampled_from([0.0, 1e-5, 0.1]),
    st.integers(1, 3),
    backends,
)
def test_law_8_layer_norm_equals_torch(chain, eps, bond_dim, backend):
    layer = trained(LayerNorm(chain.dims, 1000, bond_dim, eps))
    vectors = torch.from_numpy(dense(chain.mps()))
    gain, shift = (
        torch.from_numpy(dense([layer.params[f"{name}.{k}"] for k in range(chain.L)])[0])
        for name in ("gain", "shift")
    )
    got = run(layer, chain.cores(), backend)
    deviation = vectors.std(dim=1, correction=0)
    usual = (deviation > 1e-3 * vectors.norm(dim=1)).numpy()  # else rounding is what is divided
    expected = torch.nn.functional.layer_norm(vectors, vectors.shape[1:], gain, shift, eps)
    expected = expected[usual]
    assert_close(got[usual], expected, condition=1e9, scale=1 + float(expected.norm()))


@pytest.mark.parametrize("bond_dim", [1, 2, 3])
def test_layer_norm_starts_with_gain_one_and_shift_zero(bond_dim):
    dims = (2, 3, 2, 2)
    x = ftnn.MPS(Chain(3, dims, (2, 3, 2), "generic", 0).cores())
    plain = LayerNorm(dims, 64, affine=False)(x).to_dense()
    assert_close(LayerNorm(dims, 64, bond_dim, seed=1)(x).to_dense(), plain)


def test_gated_starts_near_its_linear_part():
    dims = (3, 2, 4, 2, 3)
    for offset, ratio in ((True, 0.1), (False, 1.0)):
        layer = Gated(dims, dims, 2, 4, offset=offset)
        gate, value = (np.linalg.norm(ftnn.MPO(layer.operators()[n]).to_dense()) for n in "AB")
        assert gate == pytest.approx(ratio * value)


def test_elementwise_by_tolerance_cuts_to_the_rank():
    wave = ftnn.MPS.from_dense(np.sin(7 * np.linspace(0, 1, 256))[None], (2,) * 8, rtol=1e-12)
    square = Elementwise(lambda u: u * u, rtol=1e-8)(wave)
    assert max(wave.bond_dims) == 2
    assert max(square.bond_dims) == 3  # 1 - cos 14x


def test_layer_norm_of_constant_vectors_is_the_shift():
    dims = (3, 2, 4)
    layer = trained(LayerNorm(dims, 10))
    shift = dense([layer.params[f"shift.{k}"] for k in range(3)])
    module = TorchModule(layer)
    cores = [torch.full((2, 1, d, 1), 0.7, dtype=torch.float64, requires_grad=True) for d in dims]
    out = module.apply_cores(tuple(cores))
    assert_close(dense([o.detach() for o in out]), np.concatenate([shift] * 2), condition=1e4)
    sum(o.square().sum() for o in out).backward()
    assert all(bool(torch.isfinite(core.grad).all()) for core in cores)


@given(chains(max_sites=4, kinds=("generic", "padded")), backends)
def test_law_8_rms_norm_with_gain_equals_torch(chain, backend):
    layer = trained(RMSNorm(0.1, chain.dims))
    vectors = torch.from_numpy(dense(chain.mps()))
    gain = torch.from_numpy(dense([layer.params[f"gain.{k}"] for k in range(chain.L)])[0])
    expected = torch.nn.functional.rms_norm(vectors, vectors.shape[1:], gain, 0.1)
    got = run(layer, chain.cores(), backend)
    assert_close(got, expected, condition=1e6, scale=1 + float(expected.norm()))


@given(
    chains(max_sites=4),
    st.booleans(),
    st.sampled_from(["sketch", "cross"]),
    st.sampled_from(["float64", "complex128"]),
    backends,
)
def test_law_8_gated_equals_dense(chain, offset, product, dtype, backend):
    out = tuple(d % 3 + 1 for d in chain.dims)
    layer = Gated(chain.dims, out, 2, 1000, inner_bond=1000, offset=offset, product=product)
    a, b = (dense_operator(layer.operators()[name]) for name in "AB")
    x = dense(chain.mps(dtype))
    expected = (offset + x @ a.T) * (x @ b.T)
    layer.to(backend, dtype)
    got = dense(layer(mps(chain.cores(dtype), backend)))
    assert_close(got, expected, condition=1e6, scale=1 + np.linalg.norm(expected))


@given(
    chains(max_sites=4, max_bond=4),
    st.lists(st.floats(-2, 2), min_size=2, max_size=4),
    st.sampled_from(["float64", "complex128"]),
    backends,
)
def test_law_8_polynomial_equals_dense(chain, coefficients, dtype, backend):
    x = dense(chain.mps(dtype))
    layer = Polynomial(chain.dims, coefficients, 1000).to(backend, dtype)
    got = dense(layer(mps(chain.cores(dtype), backend)))
    expected = sum(c * x**n for n, c in enumerate(coefficients))
    assert_close(got, expected, condition=1e6, scale=10 + np.linalg.norm(expected))


REFERENCES = {
    "relu": torch.relu,
    "gelu": torch.nn.functional.gelu,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "silu": torch.nn.functional.silu,
    "sin": torch.sin,
}


@given(chains(max_sites=5), st.sampled_from(sorted(REFERENCES)), backends)
def test_law_8_elementwise_with_enough_bond_equals_torch(chain, name, backend):
    layer = Elementwise(name, 1000)
    expected = REFERENCES[name](torch.from_numpy(dense(chain.mps())))
    x = chain.mps(backend=backend)
    y = layer(x)
    assert_close(dense(y), expected, condition=1e7, scale=1e-3 + float(expected.norm()))
    assert layer.sampled_error(x).max() < 1e-6


@pytest.mark.parametrize("backend", ["numpy", "torch"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_elementwise_keeps_to_its_tolerance_on_a_fine_grid(backend, dtype):
    grid = np.linspace(0.0, 1.0, 2**12)
    values = np.stack([np.sin(9 * grid), grid**2 - 0.3, np.exp(-30 * (grid - 0.5) ** 2)])
    cores = ftnn.MPS.from_dense(values, (2,) * 12, rtol=1e-13).cores
    x = mps([core.astype(dtype) for core in cores], backend)
    rtol = 1e-4 if dtype == "float32" else 1e-8
    layer = Elementwise("tanh", rtol=rtol)
    error = dense(layer(x)) - np.tanh(values)
    assert (np.linalg.norm(error, axis=1) <= 3 * rtol * np.linalg.norm(values, axis=1)).all()
    assert (layer.sampled_error(x) <= 3 * rtol).all()
    assert max(layer(x).bond_dims) < 30
    rough = Elementwise("relu", max_bond=3)
    found = dense(rough(x)) - np.maximum(values, 0)
    true = np.linalg.norm(found, axis=1) / np.linalg.norm(np.maximum(values, 0), axis=1)
    sampled = rough.sampled_error(x)
    assert (np.abs(sampled - true) < 0.3 * true + 1e-5).all()  # the error it reports is the error


def test_pivots_are_those_of_complete_pivoting():
    rng = np.random.default_rng(0)
    a = rng.standard_normal((3, 7, 2)) @ rng.standard_normal((3, 2, 5))
    rows, columns, live = pivots(a, 4)
    assert (live == [[1, 1, 0, 0]] * 3).all()
    for n in range(3):
        assert len(set(rows[n])) == len(set(columns[n])) == 4
        assert abs(a[n, rows[n, 0], columns[n, 0]]) == np.abs(a[n]).max()
        i, j = rows[n, :2], columns[n, :2]
        assert_close(a[n][:, j] @ np.linalg.inv(a[n][np.ix_(i, j)]) @ a[n][i], a[n], condition=1e4)


@pytest.mark.parametrize("name", REFERENCES)
def test_functions_equal_those_of_torch_on_every_backend(name):
    u = np.linspace(-30, 30, 101)
    expected = REFERENCES[name](torch.from_numpy(u))
    for backend in ("numpy", *OTHERS):
        assert_close(FUNCTIONS[name](convert(u, backend)), expected)


@pytest.mark.parametrize("name", REFERENCES)
def test_functions_do_not_hide_nan(name):
    for backend in ("numpy", *OTHERS):
        assert np.isnan(to_numpy(FUNCTIONS[name](convert(np.full(2, np.nan), backend)))).all()


@pytest.mark.parametrize("name", REFERENCES)
@pytest.mark.parametrize("residual", [False, True])
def test_pointwise_acts_on_scaled_entries(name, residual):
    core = np.random.default_rng(0).standard_normal((2, 1, 5, 1))
    norm = frobenius(core)[:, None, None, None] / np.sqrt(5)
    u = torch.from_numpy(core / norm)
    zero = REFERENCES[name](torch.zeros(1, dtype=torch.float64))
    expected = norm * (REFERENCES[name](u) - zero + (u if residual else 0)).numpy()
    assert_close(Pointwise(name, residual)(mps([core])).cores[0], expected)


def test_a_network_of_linear_gated_and_layer_norm_equals_the_dense_torch_network():
    dims, wide = (2, 3, 2), (3, 2, 2)
    first = ftnn.Linear(dims, wide, 3, 100, seed=1)
    gated = Gated(wide, wide, 2, 100, inner_bond=100, seed=2)
    norm = trained(LayerNorm(wide, 100, bond_dim=2, eps=0.1))
    second = Gated(wide, dims, 2, 100, inner_bond=100, offset=False, seed=4)
    last = ftnn.Readout(dims, 5, 3)
    first.params["bias.2"] = first.params["bias.2"] + 0.5
    model = ftnn.Sequential(first, gated, norm, second, RMSNorm(0.1, dims), last)
    module = TorchModule(model)
    x = Chain(4, dims, (2, 2), "generic", 0).mps(backend="torch")
    labels = torch.tensor([0, 1, 2, 4])

    def whole(layer, prefix):
        cores = [layer.params[f"{prefix}.{k}"] for k in range(3)]
        if cores[0].shape[0] == 1 and prefix in ("bias", "gain", "shift"):
            cores = [core[0].unsqueeze(2) for core in cores]
        out = torch.ones(1, 1, 1, dtype=torch.float64)
        for core in cores:
            out = torch.einsum("xyl,loir->xoyir", out, core)
            a, o, b, i, r = out.shape
            out = out.reshape(a * o, b * i, r)
        return out[..., 0]

    def reference(h):
        functional = torch.nn.functional
        h = h @ whole(first, "weight").T + whole(first, "bias").T
        h = (1 + h @ whole(gated, "A").T) * (h @ whole(gated, "B").T)
        gain, shift = whole(norm, "gain")[:, 0], whole(norm, "shift")[:, 0]
        h = functional.layer_norm(h, h.shape[1:], gain, shift, eps=0.1)
        h = (h @ whole(second, "A").T) * (h @ whole(second, "B").T)
        gain = whole(model.layers[4], "gain")[:, 0]
        h = functional.rms_norm(h, h.shape[1:], gain, eps=0.1)
        return h @ whole(last, "weight").T

    outs = module(x), reference(torch.from_numpy(dense(x)))
    assert (outs[0] - outs[1]).detach().norm() <= 1e-8 * outs[1].detach().norm()
    grads = [
        torch.autograd.grad(torch.nn.functional.cross_entropy(o, labels), [*module.parameters()])
        for o in outs
    ]
    size = max(float(g.norm()) for g in grads[1])
    for a, b in zip(*grads, strict=True):
        assert float((a - b).norm()) <= 1e-8 * size


# ---- gauges --------------------------------------------------------------------------------------


@given(chains(max_sites=5, kinds=KINDS), st.sampled_from(["float64", "complex128"]), backends)
def test_gauges_keep_the_vector(chain, dtype, backend):
    x = mps(chain.cores(dtype), backend)
    vector = dense(x)
    for layer in (SVDGauge(), SketchGauge(chain.dims, 1000).to(backend, dtype)):
        assert_close(dense(layer(x)), vector, condition=1e6, scale=np.linalg.norm(vector))


def test_the_svd_gauge_is_balanced_in_singular_values():
    x = Chain(3, (3, 2, 3, 2), (3, 4, 2), "generic", 1).mps()
    cores = [core / np.exp(0.25 * x.log_norm())[:, None, None, None] for core in x.cores]
    out = SVDGauge()(mps(cores)).cores
    for k in (1, 2, 3):
        matrix = dense(cores).reshape(3, math.prod(x.phys_dims[:k]), -1)
        singular = np.linalg.svd(matrix, compute_uv=False)[:, : out[k].shape[1]]
        left, right = dense_halves(out, k)
        expected = singular[:, :, None] * np.eye(singular.shape[1])
        assert_close(np.einsum("bxl,bxm->blm", left, left), expected, condition=1e6)
        assert_close(np.einsum("blx,bmx->blm", right, right), expected, condition=1e6)


def frobenius(core):
    return np.sqrt(np.sum(to_numpy(core) ** 2, axis=(1, 2, 3)))


def dense_halves(cores, cut):
    left = cores[0][:, 0]
    for core in cores[1:cut]:
        left = np.einsum("bxl,blpr->bxpr", left.reshape(3, -1, left.shape[-1]), core)
    right = cores[-1][..., 0]
    for core in cores[cut:-1][::-1]:
        right = np.einsum("blpr,brx->blpx", core, right.reshape(3, right.shape[1], -1))
    return left.reshape(3, -1, left.shape[-1]), right.reshape(3, right.shape[1], -1)


# ---- KAN -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("basis", ["radial", "spline", "chebyshev"])
@pytest.mark.parametrize("odd", [True, False])
@pytest.mark.parametrize("grid", [1, 2, 5])
def test_bases_vanish_at_zero_and_keep_their_parity(basis, odd, grid):
    layer = KAN((2, 3), basis=basis, grid=grid, odd=odd)
    u = np.linspace(-2.7, 2.7, 41)
    values = layer.values(u).T
    assert np.abs(layer.values(np.zeros(1))).max() < 1e-15
    assert values.shape[1] == layer.params["curve.0"].shape[1]
    # B-splines add up to one; less their values at 0, to zero
    dependent = basis == "spline" and not odd
    assert np.linalg.matrix_rank(values) == values.shape[1] - dependent
    if odd:
        assert_close(values[::-1], -values)


def test_splines_are_those_of_scipy_and_represent_cubics():
    from scipy.interpolate import BSpline

    from ftnn.nonlinear.bases import bsplines, uniform_knots

    knots = uniform_knots(4, 3, odd=False)
    u = np.linspace(-2.9, 2.9, 50)
    expected = BSpline.design_matrix(u, knots, 3).toarray()
    assert_close(np.stack(bsplines(u, knots, 3), 1), expected)
    layer = KAN((2,), basis="spline", grid=3)
    values = np.concatenate([layer.values(u).T, u[:, None]], axis=1)
    for target in (u, u**3):
        fitted = values @ np.linalg.lstsq(values, target, rcond=None)[0]
        assert_close(fitted, target, condition=1e5)


@pytest.mark.parametrize("odd", [True, False])
def test_adapted_knots_are_quantiles_mixed_with_an_even_grid(odd):
    from ftnn.nonlinear.bases import adapted_knots

    samples = np.random.default_rng(0).standard_normal(2000) ** 3
    inner = adapted_knots(samples, 4, 3, odd, uniform=1e-9)[3:-3]
    seen = np.abs(samples) if odd else samples
    share = np.histogram(seen, inner[-5:])[0] / len(seen)
    assert np.allclose(share, 0.25, atol=0.01)
    even = adapted_knots(samples, 4, 3, odd, uniform=1.0)[3:-3]
    assert np.allclose(np.diff(even), even[1] - even[0])
    mixed = adapted_knots(samples, 4, 3, odd, uniform=0.3)[3:-3]
    assert np.allclose(mixed, 0.3 * even + 0.7 * inner, atol=1e-6)


@pytest.mark.parametrize("order", [1, 2, 3, 4])
@pytest.mark.parametrize("grid", [1, 2, 5])
def test_odd_splines_are_differences_of_mirror_images(order, grid):
    from ftnn.nonlinear.bases import adapted_knots, bsplines, spline

    rng = np.random.default_rng(order)
    knots = adapted_knots(rng.standard_cauchy(50), grid, order, odd=True, uniform=0.2)
    u = np.concatenate([rng.uniform(1.2 * knots[0], 1.2 * knots[-1], 60), knots, [0.0]])
    full, mirrored = (np.stack(bsplines(v, knots, order)) for v in (u, -u))
    expected = (full - mirrored)[(2 * grid + order + 1) // 2 :]
    assert_close(spline(u, knots, order, odd=True), expected)


@pytest.mark.parametrize("order", [2, 3])
@pytest.mark.parametrize("odd", [True, False])
def test_gradients_of_splines_are_right_at_knots_and_at_zero(order, odd):
    from scipy.interpolate import BSpline

    from ftnn.nonlinear.bases import adapted_knots, spline

    rng = np.random.default_rng(order)
    knots = adapted_knots(rng.standard_normal(50), 3, order, odd, uniform=0.2)
    u = torch.tensor(np.concatenate([rng.uniform(-1, 1, 20), knots[order:-order], [0.0]]))
    u.requires_grad_(True)
    values = spline(u, torch.tensor(knots), order, odd)
    weights = rng.standard_normal(len(values))
    (torch.tensor(weights) @ values).sum().backward()
    coefficients = weights
    if odd:
        coefficients = np.zeros(len(knots) - order - 1)
        coefficients[-len(weights) :] += weights
        coefficients[: len(weights)] -= weights[::-1]
    slopes = BSpline(knots, coefficients, order).derivative()(u.detach().numpy())
    assert_close(u.grad.numpy(), slopes)


@pytest.mark.parametrize("odd", [True, False])
@pytest.mark.parametrize("share", [True, False])
@pytest.mark.parametrize("backend", ["numpy", "torch"])
def test_grids_follow_the_data_and_refine_without_changing_the_functions(odd, share, backend):
    dims = (3, 3, 3)
    layer = KAN(dims, basis="spline", grid=3, odd=odd, share=share, seed=1)
    model = ftnn.Sequential(SketchGauge(dims, 3), layer).to(backend)
    x = Chain(20, dims, (3, 3), "generic", 2).mps(backend=backend)
    inside = model.layers[0](x)
    before, y = to_numpy(layer.buffers["knots.0"]), layer(inside)
    layer.refine(12)
    refined = layer(inside)
    assert layer.params["curve.0"].shape[1] == (13 if odd else 15)
    assert_close(dense(refined), dense(y), condition=1e5)  # old knots are among the new ones
    update_grids(model, x.cores)
    after = to_numpy(layer.buffers["knots.0"])
    assert (np.diff(after) > 0).all()
    assert len(before) == (6 if odd else 3) + 7
    assert len(after) == (24 if odd else 12) + 7
    entries = np.concatenate([to_numpy(scaled_entries(c)[0]).ravel() for c in inside.cores])
    first = to_numpy(scaled_entries(inside.cores[0])[0]).ravel()
    seen = entries if share else first
    assert np.abs(after[3:-3]).max() == pytest.approx(np.abs(seen).max())  # ends at the data
    if odd:
        assert_close(after, -after[::-1])
    assert_close(dense(layer(inside)), dense(y), condition=1e13)  # a fit: to a per mille


def test_zeros_of_padded_bonds_do_not_draw_the_knots():
    rng = np.random.default_rng(0)
    core = rng.standard_normal((30, 1, 3, 4))
    padded = np.concatenate([core, np.zeros((30, 1, 3, 60))], axis=3)
    layers = [KAN((3,), basis="spline", grid=4) for _ in range(2)]
    for layer, each in zip(layers, (core, padded), strict=True):
        layer.update_grid((each,))
    assert_close(layers[1].buffers["knots.0"], layers[0].buffers["knots.0"])


def test_grids_of_a_torch_module_are_updated_in_place():
    layer = KAN((3, 3), basis="spline", grid=3)
    module = TorchModule(layer)
    parameters = dict(module.named_parameters())
    before = parameters["curve:0"].detach().clone()
    cores = tuple(torch.randn(50, 1, 3, 1, dtype=torch.float64) for _ in range(2))
    with torch.no_grad():
        layer.update_grid(cores)
    assert module.get_parameter("curve:0") is parameters["curve:0"]
    assert not torch.equal(parameters["curve:0"], before)
    assert torch.equal(module.get_buffer("knots:0"), layer.buffers["knots.0"])


@pytest.mark.parametrize("build", [lambda d: Pointwise("gelu"), lambda d: KAN(d, basis="radial")])
def test_functions_of_cores_do_not_see_padding(build):
    core = np.random.default_rng(0).standard_normal((2, 3, 4, 2))
    padded = np.zeros((2, 5, 4, 7))
    padded[:, :3, :, :2] = core
    (new,), (wide,) = build((4,)).apply((core,)), build((4,)).apply((padded,))
    assert_close(wide[:, :3, :, :2], new)
    wide[:, :3, :, :2] = 0.0
    assert not wide.any()


def test_scaled_entries_have_mean_square_one_per_physical_entry():
    core = 1e-3 * np.random.default_rng(0).standard_normal((5, 3, 4, 2))
    u, norm = scaled_entries(core)
    assert_close((u**2).sum((1, 2, 3)), np.full(5, 4.0))
    assert_close(u * norm, core)


def test_refining_a_trained_function_can_only_help():
    dims, rng = (3,), np.random.default_rng(0)
    core = rng.standard_normal((200, 1, 3, 1))
    core *= np.sqrt(3) / np.linalg.norm(core, axis=2, keepdims=True)
    target = np.sin(3 * core)

    def train(layer, steps):
        module = TorchModule(layer)
        x, y = torch.from_numpy(core), torch.from_numpy(target)
        optimizer = torch.optim.LBFGS(module.parameters(), max_iter=steps)

        def closure():
            optimizer.zero_grad()
            loss = (module.apply_cores((x,))[0] - y).square().mean()
            loss.backward()
            return loss

        optimizer.step(closure)
        return closure().item()

    layer = KAN(dims, basis="spline", grid=2, share=True)
    coarse = train(layer, 100)
    layer.refine(8)
    assert train(layer, 200) < 0.1 * coarse


# ---- running statistics --------------------------------------------------------------------------


@pytest.mark.parametrize("backend", ["numpy", "torch"])
def test_core_norm_keeps_a_running_mean(backend):
    layer = CoreNorm(product="running", momentum=0.25).to(backend)
    chain = Chain(6, (2, 3, 2), (2, 2), "generic", 0)
    logs = []
    for n in range(10):
        cores = [core * (1.0 + n) for core in chain.cores()]
        x = mps(cores, backend)
        norms = [frobenius(c) / np.sqrt(c.shape[2]) for c in cores]
        logs.append(np.log(norms).sum(0).mean())
        y = layer.train()(x)
        total = np.log([frobenius(c) for c in y.cores]).sum(0)
        size = 0.5 * np.log(2 * 3 * 2)
        assert abs(total.mean() - size) < 1e-10  # geometric mean one over the batch
    expected, share = 0.0, 0.0
    for n, one in enumerate(logs):
        share = max(1.0 / (n + 1), 0.25)
        expected += share * (one - expected)
    assert abs(float(layer.buffers["log_product"][0]) - expected) < 1e-10
    alone, together = layer.eval()(mps([c[2:3] for c in cores], backend)), layer(x)
    assert_close(dense(alone), dense(together)[2:3])


def test_running_statistics_live_in_the_torch_module():
    module = TorchModule(ftnn.Sequential(SketchGauge((2, 2), 2), CoreNorm(product="running")))
    x = Chain(4, (2, 2), (2,), "generic", 0).mps(backend="torch")
    module.train()
    module(x)
    state = module.state_dict()
    assert float(state["1:batches"]) == 1.0
    module.eval()
    module(x)
    assert float(module.state_dict()["1:batches"]) == 1.0
    other = TorchModule(ftnn.Sequential(SketchGauge((2, 2), 2), CoreNorm(product="running")))
    other.load_state_dict(state)
    other.eval()
    assert_close(other(x).to_dense().detach(), module(x).to_dense().detach())


# ---- saving, bad input ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: Pointwise("ReLU"), ValueError, "fn is 'ReLU'"),
        (lambda: Pointwise(3), TypeError, "fn is a int"),
        (lambda: Pointwise(np.log), ValueError, "not finite at 0"),
        (lambda: Pointwise(lambda u: 1 / u), ValueError, "not finite at 0"),
        (
            lambda: Pointwise(lambda u: u @ u),
            TypeError,
            "fails on an array of shape",
        ),
        (lambda: Pointwise(lambda u: u.sum()), TypeError, r"maps an array \(2, 3\)"),
        (lambda: ftnn.save(Pointwise(lambda u: u**3), "x"), ValueError, "named functions"),
        (lambda: Elementwise("tanh"), ValueError, "max_bond is None and rtol 0"),
        (lambda: Elementwise("tanh", max_bond=0), ValueError, "max_bond"),
        (lambda: Elementwise("tanh", rtol=-1.0), ValueError, "rtol"),
        (lambda: Elementwise(lambda u: u * np.nan, 3), ValueError, "not finite at 1"),
        (lambda: Elementwise(np.log, rtol=0.1)(negative()), ValueError, "NaN or infinity"),
        (lambda: KAN((2, 2), basis="fourier"), ValueError, "basis is 'fourier'"),
        (lambda: KAN((2, 2), basis="spline", grid=0), ValueError, "grid"),
        (lambda: KAN((2, 2), basis="spline", order=0), ValueError, "order"),
        (lambda: KAN((2, 2)).update_grid(()), ValueError, "needs basis 'spline'"),
        (lambda: KAN((2, 2), basis="radial").refine(9), ValueError, "needs basis 'spline'"),
        (
            lambda: KAN((2, 2), basis="spline").update_grid(negative().cores, uniform=0.0),
            ValueError,
            "uniform is 0.0",
        ),
        (lambda: Gated((2, 2), (2,), 2, 2), ValueError, "both need the same"),
        (lambda: Gated((2, 2), (2, 2), 2, 2, inner_bond=0), ValueError, "inner_bond"),
        (lambda: Gated((2, 2), (2, 2), 2, 2, product="dense"), ValueError, "choose one of sketch"),
        (lambda: Polynomial((2, 2), [1.0], 3), ValueError, "coefficients"),
        (lambda: Polynomial((2, 2), [1.0, math.nan], 3), ValueError, "coefficients"),
        (lambda: LayerNorm((2, 2), 0), ValueError, "max_bond"),
        (lambda: LayerNorm((2, 2), 3, eps=-1.0), ValueError, "eps is -1.0"),
        (lambda: LayerNorm((2, 3), 3)(negative()), ValueError, "takes"),
        (lambda: CoreNorm(scale=0.0), ValueError, "scale is 0.0"),
        (lambda: CoreNorm(product="sum"), ValueError, "product is 'sum'"),
        (lambda: CoreNorm(product="running", momentum=0.0), ValueError, "momentum is 0.0"),
        (lambda: CoreNorm(momentum=0.1), ValueError, "only product 'running'"),
        (lambda: KAN((2, 2), order=2), ValueError, "only the basis 'spline'"),
        (lambda: LayerNorm((2, 2), 3, bond_dim=2, affine=False), ValueError, "affine=False"),
        (
            lambda: SVDGauge()(mps([np.full((1, 1, 2, 2), np.nan), np.ones((1, 2, 2, 1))])),
            ValueError,
            "NaN or infinite",
        ),
        (lambda: SketchGauge((2, 2), 0), ValueError, "max_bond"),
        (lambda: Pointwise("tanh")(mps([np.ones((1, 1, 2, 1), complex)])), TypeError, "complex"),
        (lambda: Elementwise("tanh", 2)(mps([np.ones((1, 1, 2, 1), complex)])), TypeError, "comp"),
    ],
)
def test_bad_input_is_named(call, error, words):
    with pytest.raises(error, match=words), np.errstate(all="ignore"):
        call()


def negative():
    return ftnn.MPS.from_dense(-np.ones((1, 4)), (2, 2))


def own_functions():
    """The hyperbolic tangent as people write it, and the backend it is a function of."""
    yield np.tanh, "numpy"
    yield torch.tanh, "torch"
    yield torch.nn.Tanh(), "torch"
    yield torch.nn.functional.tanh, "torch"
    yield (lambda u: torch.tanh(u)), "torch"
    if importlib.util.find_spec("jax"):
        import jax

        yield jax.numpy.tanh, "jax"


MAKERS = {
    "Pointwise": lambda fn: Pointwise(fn, normalize=False),
    "Elementwise": lambda fn: Elementwise(fn, 4),
    "FeatureMap": lambda fn: FeatureMap((2, 2), (3, 3), 4, fn),
}


@pytest.mark.parametrize("name", MAKERS)
def test_a_function_of_a_backend_works_on_it_and_is_refused_on_others(name):
    cores = [np.array([[1.0, 0.3], [1.0, -2.0]]).reshape(2, 1, 2, 1) for _ in range(2)]
    x = mps(cores)
    expected = MAKERS[name]("tanh")(x).to_dense()
    for fn, backend in own_functions():
        layer = MAKERS[name](fn).to(backend)
        assert_close(layer(mps(cores, backend)).to_dense(), expected)
        other = "torch" if backend == "numpy" else "numpy"
        with pytest.raises(TypeError, match=f"is a function of {backend} arrays, but x lives"):
            layer.to(other).apply(mps(cores, other).cores)


def test_gradients_pass_through_functions_of_torch():
    core = torch.tensor([[[[0.3], [-2.0]]]], dtype=torch.float64, requires_grad=True)
    (out,) = Pointwise(torch.tanh, normalize=False).apply((core,))
    out.sum().backward()
    assert_close(core.grad, 1.0 - np.tanh(core.detach().numpy()) ** 2)


@given(chains(1, 6, kinds=("generic", "padded", "product")), st.integers(1, 2))
def test_layer_norm_truncates_nothing_by_default(chain, bond_dim):
    x = chain.mps()
    layer = trained(LayerNorm(chain.dims, bond_dim=bond_dim, eps=0.1))
    enough = trained(LayerNorm(chain.dims, 200, bond_dim=bond_dim, eps=0.1))
    assert_close(layer(x).to_dense(), enough(x).to_dense(), condition=1e5)
    widest = [bond_dim * (bond + 2) for bond in x.bond_dims]
    assert all(new <= old for new, old in zip(layer(x).bond_dims, widest, strict=True))
    assert not layer.buffers  # drawn for the bond that comes
