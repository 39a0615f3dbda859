"""Layers: laws, dense references, gradients, initialization, memory."""

import math
import subprocess
import sys
from pathlib import Path

import initial_scales
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from laws import (
    Chain,
    assert_close,
    chains,
    dense,
    dense_operator,
    mps,
)

import ftnn
from ftnn.encoding import ProductEncoder
from ftnn.measure.memory import kept_bytes, peak_bytes
from ftnn.nonlinear import KAN, RMSNorm
from ftnn.training.module import TorchModule

backends = st.sampled_from(["numpy", "torch"])


def names(layer):
    return [type(child).__name__ for _, child in layer.walk()]


def network(dims, kind, seed=0):
    """Networks whose every layer is covered, by kind."""
    _L, wide = len(dims), tuple(d + 1 for d in dims)
    if kind == "linear":
        return ftnn.Linear(dims, wide, 2, 3, seed=seed)
    if kind == "norm":
        return RMSNorm()
    if kind == "residual":
        return ftnn.Residual(ftnn.Linear(dims, dims, 2, 3, seed=seed), 4, seed=seed)
    if kind == "kan":
        return ftnn.Sequential(ftnn.Linear(dims, wide, 2, 3, seed=seed), KAN(wide, dims, seed=seed))
    if kind == "readout":
        return ftnn.Readout(dims, 4, 3, seed=seed)
    if kind == "expectation":
        return ftnn.Expectation(dims, 4, 3, seed=seed)
    return ftnn.Sequential(
        ftnn.Linear(dims, wide, 2, 3, seed=seed),
        KAN(wide, seed=seed),
        RMSNorm(),
        ftnn.Residual(ftnn.Linear(wide, wide, 2, 3, seed=seed + 1), 3),
        RMSNorm(),
        ftnn.Readout(wide, 4, 3, seed=seed),
    )


def with_bias(layer, seed=0):
    """A bias that starts at zero hides mistakes in it."""
    rng = np.random.default_rng(seed)
    for _, part in layer.walk():
        for name, array in part.params.items():
            if name.startswith("bias"):
                part.params[name] = 0.5 * rng.standard_normal(array.shape)
    return layer


def run(layer, cores, backend):
    layer.to(backend)
    out = layer(mps(cores, backend))
    return dense(out) if isinstance(out, ftnn.MPS) else np.asarray(out)


@given(chains(max_sites=4), st.booleans())
def test_law_4_and_8_linear_and_readout_equal_dense_layers(chain, bias):
    out = tuple(d + 1 for d in chain.dims)
    layer = with_bias(ftnn.Linear(chain.dims, out, 3, 1000, bias=bias))
    x, got = chain.mps(), layer(chain.mps())
    weight = dense_operator([layer.params[f"weight.{k}"] for k in range(chain.L)])
    expected = dense(x) @ weight.T
    if bias:
        expected = expected + dense([layer.params[f"bias.{k}"] for k in range(chain.L)])
    assert_close(dense(got), expected, condition=1e5, scale=1 + np.linalg.norm(expected))
    readout = ftnn.Readout(chain.dims, 4, 3)
    matrix = dense_operator([readout.params[f"weight.{k}"] for k in range(chain.L)])
    assert_close(readout(x), dense(x) @ matrix.T, condition=1e5, scale=1 + np.linalg.norm(matrix))


@given(chains(max_sites=4), st.sampled_from(["float64", "complex128"]), backends)
def test_law_4_and_8_expectations_equal_dense_ones(chain, dtype, backend):
    layer = ftnn.Expectation(chain.dims, 3, 2, seed=chain.seed).to("numpy", dtype)
    rng = np.random.default_rng(chain.seed)
    for name, core in layer.params.items():  # away from the real operators that it starts with
        layer.params[name] = core + 0.3 * Chain._draw(rng, core.shape, dtype)
    weights = [layer.params[f"weight.{k}"] for k in range(chain.L)]
    flat = dense_operator(weights)  # the output index within the rows, on the middle site
    n = flat.shape[1]
    before = int(np.prod(chain.dims[: layer.center]))
    matrices = flat.reshape(before, 3, -1, n).swapaxes(0, 1).reshape(3, n, n)
    cores = chain.cores(dtype)
    x = dense(mps(cores))
    norms = np.sum(np.abs(x) ** 2, axis=1)
    expected = np.einsum("bi,cij,bj->bc", x.conj(), matrices, x, optimize=True).real
    expected = expected / np.where(norms > 0, norms, 1.0)[:, None]
    got = layer.to(backend)(mps(cores, backend))
    assert not np.iscomplexobj(np.asarray(got))
    assert_close(got, expected, condition=1e5, scale=1 + np.linalg.norm(matrices))


@pytest.mark.parametrize("recompute", [False, True])
def test_memory_of_a_step_grows_linearly_with_depth_and_length(recompute):
    def peak(depth, length):
        dims = (3,) * length
        layers = [
            part
            for n in range(depth)
            for part in (ftnn.Linear(dims, dims, 2, 4, seed=n), KAN(dims, seed=n), RMSNorm())
        ]
        model = ftnn.Sequential(*layers, ftnn.Readout(dims, 2, 3))
        module = TorchModule(model, "float64", recompute=recompute)
        cores = Chain(32, dims, (4,) * (length - 1), "generic", 0).mps(backend="torch").cores
        return peak_bytes(lambda: module.apply_cores(cores).square().sum().backward())

    for sizes in ([(n, 6) for n in (2, 3, 4)], [(1, n) for n in (10, 15, 20)]):
        first, second, third = (peak(*size) for size in sizes)
        assert third - second < 1.05 * (second - first)


def test_recomputed_is_the_same_with_less_memory():
    dims = (3,) * 5
    cores = Chain(64, dims, (3,) * 4, "generic", 0).mps(backend="torch").cores
    found, kept, peaks = [], [], []
    for recompute in (False, True):
        model = ftnn.Sequential(
            ftnn.Linear(dims, dims, 2, 3, seed=1),
            KAN(dims, seed=1),
            ftnn.nonlinear.CoreNorm(product="running"),  # running statistics move once a step
            ftnn.nonlinear.Dropout(0.3),
            ftnn.Sequential(ftnn.Linear(dims, dims, 2, 3, seed=2), RMSNorm()),
            ftnn.Readout(dims, 2, 3),
        )
        module = TorchModule(model, recompute=recompute).train()
        for step in range(3):
            torch.manual_seed(step)
            module.zero_grad()
            module.apply_cores(cores).square().sum().backward()
        found.append([*(p.grad for p in module.parameters()), *model.named_buffers().values()])
        kept.append(kept_bytes(lambda module=module: module.apply_cores(cores)))
        peaks.append(peak_bytes(lambda m=module: m.apply_cores(cores).square().sum().backward()))
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))
    assert kept[1] < 0.5 * kept[0]
    assert peaks[1] < 0.6 * peaks[0]
    with pytest.raises(ValueError, match="recompute is True, but the model has no Sequential"):
        TorchModule(ftnn.Readout(dims, 2, 3), recompute=True)
    x = mps([core.numpy() for core in cores])
    model.to("numpy").eval()
    plain = model(x)
    model.recompute = True  # no use, no harm
    np.testing.assert_array_equal(model(x), plain)


def test_expectations_of_a_thousand_sites_ignore_sign_and_scale():
    rng = np.random.default_rng(0)
    L = 1000
    dims = [1] + [4] * (L - 1) + [1]
    cores = [rng.standard_normal((2, dims[k], 2, dims[k + 1])).astype("float32") for k in range(L)]
    layer = ftnn.Expectation((2,) * L, 3, 2).to("numpy", "float32")
    plain = layer.apply(tuple(cores))
    assert np.isfinite(plain).all()
    assert np.abs(plain).max() > 1e-3
    scaled = [cores[0] * np.float32(-1e-12), *cores[1:]]
    np.testing.assert_allclose(layer.apply(tuple(scaled)), plain, rtol=1e-4)


@given(chains(max_sites=4, kinds=("generic", "padded", "repeated")), st.sampled_from([0.0, 0.1]))
def test_law_8_rms_norm_equals_torch(chain, eps):
    x = chain.mps()
    vectors = torch.from_numpy(dense(x))
    expected = torch.nn.functional.rms_norm(vectors, vectors.shape[1:], eps=eps)
    assert_close(dense(RMSNorm(eps)(x)), expected, condition=1e6, scale=1 + float(expected.norm()))


@given(chains(max_sites=4), st.integers(1, 4), backends, st.booleans())
def test_law_4_residual_equals_dense(chain, seed, backend, has_shortcut):
    wide = tuple(d + 1 for d in chain.dims) if has_shortcut else chain.dims
    inner = with_bias(ftnn.Linear(chain.dims, wide, 2, 1000, seed=seed))
    shortcut = with_bias(ftnn.Linear(chain.dims, wide, 1, 1000, seed=seed + 9))
    layer = ftnn.Residual(inner, 1000, shortcut=shortcut if has_shortcut else None)
    inside = run(inner, chain.cores(), backend)
    other = run(shortcut, chain.cores(), backend) if has_shortcut else dense(chain.mps())
    expected = other + inside
    got = run(layer, chain.cores(), backend)
    assert_close(got, expected, condition=1e5, scale=1 + np.linalg.norm(expected))


def test_a_network_with_enough_bond_equals_the_dense_torch_network():
    # value and the gradient of every parameter
    dims, wide = (2, 3, 2), (3, 2, 2)
    first = with_bias(ftnn.Linear(dims, wide, 3, 100, seed=1))
    second = with_bias(ftnn.Linear(wide, wide, 2, 100, seed=2))
    model = ftnn.Sequential(
        first, RMSNorm(0.1), ftnn.Residual(second, 100), RMSNorm(0.1), ftnn.Readout(wide, 5, 3)
    )
    module = TorchModule(model)
    x = Chain(4, dims, (3, 3), "generic", 0).mps(backend="torch")
    labels = torch.tensor([0, 1, 2, 4])

    def matrix(layer, prefix="weight"):
        out = torch.ones(1, 1, 1, dtype=torch.float64)
        for k in range(3):
            core = layer.params[f"{prefix}.{k}"]
            if prefix == "bias":
                core = core[0].unsqueeze(2)
            out = torch.einsum("xyl,loir->xoyir", out, core)
            a, o, b, i, r = out.shape
            out = out.reshape(a * o, b * i, r)
        return out[..., 0]

    def reference(vectors):
        norm = torch.nn.functional.rms_norm
        h = vectors @ matrix(first).T + matrix(first, "bias").T
        h = norm(h, h.shape[1:], eps=0.1)
        h = h + h @ matrix(second).T + matrix(second, "bias").T
        h = norm(h, h.shape[1:], eps=0.1)
        return h @ matrix(model.layers[-1]).T

    outs = module(x), reference(torch.from_numpy(dense(x)))
    assert_close(outs[0].detach(), outs[1].detach(), condition=1e6)
    grads = [
        torch.autograd.grad(
            torch.nn.functional.cross_entropy(o, labels), tuple(module.parameters())
        )
        for o in outs
    ]
    for a, b in zip(*grads, strict=True):
        assert_close(a, b, condition=1e7, scale=1e-3 + float(b.norm()))


def test_kan_reads_out_its_functions_and_vanishes_at_zero():
    for odd in (True, False):
        layer = KAN((3, 2), (2, 4), grid=4, odd=odd, seed=1)
        t = np.linspace(-1.9, 1.9, 7)
        for n, values in zip((1, 3, 5, 7) if odd else (1, 2, 3, 4), layer.values(t), strict=True):
            polynomial = np.polynomial.Chebyshev.basis(n)
            assert_close(values, polynomial(np.tanh(t)) - polynomial(0.0), condition=1e3)
        u = np.linspace(-2, 2, 9)
        functions = layer.functions(u, site=1)
        assert functions.shape == (9, 2, 4)
        assert np.abs(layer.functions(np.zeros(1))).max() < 1e-15
        if odd:
            assert_close(functions[::-1], -functions)
        # a product state: the layer applies exactly these functions, in units of the norm
        core = np.random.default_rng(0).standard_normal((1, 1, 2, 1))
        norm = np.linalg.norm(core) / np.sqrt(2)
        first = np.ones((1, 1, 3, 1))
        got = layer.apply((first, core))[1][0, 0, :, 0]
        table = layer.functions(core[0, 0, :, 0] / norm, site=1)
        assert_close(got, norm * sum(table[p, p] for p in range(2)))


def test_odd_kan_is_blind_to_signs_of_bonds():
    cores = Chain(2, (3, 3), (2,), "generic", 0).cores()
    signs = np.array([1.0, -1.0])
    flipped = [cores[0] * signs, cores[1] * signs[:, None, None]]
    odd, even = KAN((3, 3), seed=1), KAN((3, 3), odd=False, seed=1)
    assert_close(dense(odd.apply(tuple(flipped))), dense(odd.apply(tuple(cores))))
    assert not np.allclose(dense(even.apply(tuple(flipped))), dense(even.apply(tuple(cores))))


@pytest.mark.parametrize("L", initial_scales.LENGTHS)
@pytest.mark.parametrize("depth", initial_scales.DEPTHS)
@pytest.mark.parametrize("states", initial_scales.STATES)
def test_initial_scales_are_of_order_one_for_any_length_and_depth(L, depth, states):
    scales, logits = initial_scales.measure(states, L, depth)
    assert all(0.5 < s < 2.0 for s in scales), scales
    assert 0.5 < logits < 2.0, logits


@pytest.mark.parametrize("L", initial_scales.LENGTHS)
@pytest.mark.parametrize("states", initial_scales.STATES)
def test_a_layer_keeps_the_scale_of_its_input_even_without_calibration(L, states):
    (scale,), _ = initial_scales.measure(states, L, depth=1, calibrated=False)
    assert 0.5 < scale < 2.0


@pytest.mark.parametrize("L", [5, 20, 100])
def test_isotropic_inputs_keep_their_scale_without_calibration(L):
    # ||W||_F^2 = prod(out_dims), checked through random product inputs for short chains
    layer = ftnn.Linear((4,) * L, (6,) * L, 5, 8, seed=3)
    weights = [layer.params[f"weight.{k}"] for k in range(L)]
    flat = ftnn.MPS([w.reshape(1, w.shape[0], -1, w.shape[3]) for w in weights])
    assert float(flat.log_norm()[0]) == pytest.approx(0.5 * L * math.log(6), rel=1e-12)


def test_a_blank_batch_of_equal_rows_trains():
    model = network((5,) * 4, "whole")
    blank = np.zeros((8, 2, 8))
    cores = ProductEncoder((2, 8), (1, 4), order="row-major").fit(blank).encode(blank)
    module = TorchModule(model)
    loss = module.apply_cores(tuple(torch.from_numpy(c) for c in cores)).square().mean()
    loss.backward()
    for parameter in module.parameters():
        assert bool(torch.isfinite(parameter.grad).all())


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak from /proc")
def test_a_training_step_on_forty_sites_of_dimension_four_fits_in_two_gib():
    # 4^40 = 1.2e24 entries a sample; peak memory of the whole process, torch included
    script = Path(__file__).parents[1] / "benchmarks" / "memory.py"
    done = subprocess.run([sys.executable, script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout.split()[0]) < 2.0


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: ftnn.Linear((2, 2), (2,), 2, 2), ValueError, "2 sites and out_dims 1"),
        (lambda: ftnn.Linear((2,), (2,), 0, 2), ValueError, "bond_dim is 0"),
        (lambda: ftnn.Linear((2,), (2,), 2, 0), ValueError, "max_bond is 0"),
        (lambda: ftnn.Linear((2,), (2,), 2, 2, method="svd"), ValueError, "method is 'svd'"),
        (lambda: ftnn.Readout((2,), 0, 2), ValueError, "num_outputs is 0"),
        (lambda: ftnn.Residual(ftnn.Linear((2,), (3,), 1, 1), 2), ValueError, "same dims"),
        (lambda: ftnn.Residual(RMSNorm(), 2), ValueError, "no in_dims"),
        (
            lambda: ftnn.Residual(
                ftnn.Linear((2,), (3,), 1, 1), 2, shortcut=ftnn.Linear((3,), (2,), 1, 1)
            ),
            ValueError,
            r"shortcut maps \(3,\) to \(2,\), but layer maps \(2,\) to \(3,\)",
        ),
        (
            lambda: ftnn.Residual(ftnn.Linear((2,), (2,), 1, 1), 2, shortcut=np.tanh),
            TypeError,
            "shortcut is a ufunc, expected a Layer",
        ),
        (lambda: ftnn.Sequential(), ValueError, "layers is empty"),
        (lambda: ftnn.Sequential(3), TypeError, "layers.0. is a int"),
        (
            lambda: ftnn.Sequential(ftnn.Linear((2,), (3,), 1, 1), ftnn.Readout((2,), 2, 1)),
            ValueError,
            "takes phys_dims",
        ),
        (
            lambda: ftnn.Sequential(ftnn.Readout((2,), 2, 1), RMSNorm()),
            ValueError,
            "must be the last layer",
        ),
        (lambda: KAN((2,), grid=0), ValueError, "grid is 0"),
        (lambda: KAN((2, 3), share=True), ValueError, "share=True"),
        (lambda: KAN((2, 3), (2,)), ValueError, "both need the same"),
        (lambda: RMSNorm(-1.0), ValueError, "eps is -1.0"),
        (lambda: ftnn.Readout((2,), 2, 1)(np.ones((3, 2))), TypeError, "expected an ftnn.MPS"),
        (
            lambda: ftnn.Readout((2,), 2, 1)(ftnn.MPS([np.ones((3, 1, 3, 1))])),
            ValueError,
            "phys_dims .3,.",
        ),
        (
            lambda: ftnn.Readout((2,), 2, 1)(ftnn.MPS([torch.ones((3, 1, 2, 1))])),
            ValueError,
            "lives on torch",
        ),
        (
            lambda: ftnn.Readout((2,), 2, 1)(ftnn.MPS([np.ones((3, 1, 2, 1), "float32")])),
            ValueError,
            "dtype float32",
        ),
        (lambda: ftnn.Readout((2,), 2, 1).to("tensorflow"), ValueError, "choose one of"),
        (lambda: ftnn.Readout((2,), 2, 1).to("torch", "int8"), ValueError, "dtype is 'int8'"),
        (lambda: ftnn.Readout((2,), 2, 1).to("numpy", device="cuda"), ValueError, "only 'cpu'"),
        (
            lambda: KAN((2,)).apply((np.ones((1, 1, 2, 1), complex),)),
            TypeError,
            "acts on real cores",
        ),
    ],
)
def test_bad_input_is_named(call, error, words):
    with pytest.raises(error, match=words):
        call()


X = ftnn.MPS.from_dense(np.random.default_rng(0).standard_normal((3, 64)), (4, 4, 4))
MAPPED = ftnn.Linear((4, 4, 4), (4, 4, 4), 2, 3)


@pytest.mark.parametrize(
    ("call", "kind", "words"),
    [
        (lambda: ftnn.MPS([np.ones((2, 1, 0, 1))]), ValueError, r"cores\[0\] .* dimension of 0"),
        (lambda: X.inner(X[:2]), ValueError, "other has 2 samples, expected 3"),
        (lambda: ftnn.MPO.random((4,), (4,), 2) @ np.ones(4), TypeError, "MPO @ ndarray: expected"),
        (lambda: ftnn.MPO.random((4,), (4,), 2, seed=-1), ValueError, "seed is -1, expected"),
        (lambda: ftnn.Linear((4,), (4,), 2, 3, seed=-1), ValueError, "seed is -1, expected"),
        (lambda: ftnn.Linear((4,), (4,), 2, 3, bias="no"), TypeError, "bias is 'no', expected"),
        (lambda: ftnn.compress(X, rtol="1"), ValueError, "rtol is '1', expected a number"),
        (lambda: ftnn.Residual(np.tanh, 4), TypeError, "layer is a ufunc, expected a Layer"),
        (lambda: MAPPED(X + X), TypeError, "x is a Lazy, .* evaluate it with ftnn.compress"),
        (lambda: ftnn.calibrate(MAPPED, X), TypeError, "cores is a MPS, expected .* its .cores"),
        (lambda: ftnn.calibrate(MAPPED, X.cores[0]), TypeError, "cores is a ndarray, expected"),
        (lambda: MAPPED.to("torch", device="gpu"), ValueError, "device is 'gpu', which torch can"),
        (lambda: ftnn.save(MAPPED, "."), IsADirectoryError, "is a folder; give the path of a file"),
    ],
)
def test_wrong_arguments_are_named(call, kind, words):
    with pytest.raises(kind, match=words):
        call()
