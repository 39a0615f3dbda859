"""Fixed bonds have static shapes: torch.compile takes the whole graph, once."""

import subprocess
import sys
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
import torch._dynamo.testing
from laws import Chain, assert_close, random_operator

import ftnn
from ftnn.arrays.backend import convert
from ftnn.chains.terms import Apply, Hadamard, State, Term
from ftnn.truncation import METHODS

pytestmark = pytest.mark.filterwarnings("ignore")  # of torch's compiler about itself
CHAIN = Chain(3, (2, 3, 2), (2, 2), "generic", 0)


def compiled(function):
    torch._dynamo.reset()
    counter = torch._dynamo.testing.CompileCounterWithBackend("aot_eager")
    return torch.compile(function, fullgraph=True, backend=counter), counter


def problem(seed, dtype="float64", batch=3):
    chain = Chain(batch, CHAIN.dims, CHAIN.bonds, "generic", seed)
    w = random_operator(CHAIN.dims, CHAIN.dims, 2, seed, dtype)
    arrays = [convert(a, "torch").requires_grad_() for a in (*w, *chain.cores(dtype))]
    state = State(tuple(arrays[3:]))
    product, square = Apply(tuple(arrays[:3]), state), Hadamard(state, state)
    return arrays, (Term(product), Term(square, 0.1))


@pytest.mark.parametrize(
    ("method", "dtype"),
    [*((method, "float64") for method in METHODS), ("src", "float32"), ("src", "complex64")],
)
def test_every_method_is_one_graph_with_the_same_result_and_gradient(method, dtype, monkeypatch):
    monkeypatch.setattr("ftnn.truncation.fit.SWEEPS", 1)  # each is the same

    def function(terms):
        return METHODS[method](terms, 3, 0.0, 0)[0]

    first, second = problem(0, dtype), problem(1, dtype)
    graph, counter = compiled(function)
    for arrays, terms in (first, second):
        expected, found = function(terms), graph(terms)
        weights = [torch.linspace(-1, 1, c.numel()).to(c.dtype).view_as(c) for c in expected]
        for one, other in zip(expected, found, strict=True):
            assert_close(other, one, dtype, 100)
        want, got = (
            torch.autograd.grad(
                sum((c * v).real.sum() for c, v in zip(out, weights, strict=True)), arrays
            )
            for out in (expected, found)
        )
        scale = max(float(g.abs().max()) for g in want)
        for one, other in zip(want, got, strict=True):
            assert_close(other, one, dtype, 1e3, scale=scale)
    assert counter.frame_count == 1  # not compiled again for other values


@pytest.mark.parametrize("max_bond", [2, (2, 3)])
def test_compiled_compresses_what_it_is_given(max_bond, monkeypatch):
    torch._dynamo.reset()
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))
    fast = ftnn.truncation.compiled(max_bond)
    x = ftnn.MPS.from_dense(torch.randn(3, 24, dtype=torch.float64), (2, 3, 4))
    w = ftnn.MPO.random((2, 3, 4), (2, 3, 4), 2, seed=0)
    w = ftnn.MPO(tuple(torch.from_numpy(core) for core in w.cores))
    for lazy in (w @ x, w @ x + 2.0 * x, x * x, x):
        expected = ftnn.compress(lazy, max_bond)
        assert_close(fast(lazy).to_dense(), expected.to_dense())


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"max_bond": 0}, ValueError, "max_bond"),
        ({"method": "svd"}, ValueError, "method is 'svd'"),
        ({}, TypeError, "only torch compiles"),
    ],
)
def test_compiled_refuses_what_it_cannot_do(options, error, words):
    x = ftnn.MPS.from_dense(np.ones((2, 8)), (2, 2, 2))
    with pytest.raises(error, match=words):
        ftnn.truncation.compiled(**options)(x)


@pytest.mark.parametrize("head", [ftnn.Readout, ftnn.Expectation])
def test_a_network_is_one_graph(head):
    dims = (4,) * 4
    model = ftnn.Sequential(
        ftnn.Linear(dims, dims, 2, 3),
        ftnn.nonlinear.KAN(dims),
        ftnn.nonlinear.RMSNorm(),
        ftnn.Residual(ftnn.Linear(dims, dims, 2, 3, bias=False), 3),
        head(dims, 3, 2),
    ).to("torch", "float32")
    x = tuple(
        convert(core, "torch", "float32") for core in Chain(5, dims, (3,) * 3, "generic", 0).cores()
    )
    expected = model.apply(x)
    graph, counter = compiled(model.apply)
    assert_close(graph(x), expected, "float32")
    graph(tuple(core + 0.1 for core in x))
    assert counter.frame_count == 1


def test_features_and_dropout_are_one_graph():
    model = ftnn.Sequential(
        ftnn.nonlinear.FeatureMap((4,) * 3, (3,) * 3, hidden=5),
        ftnn.nonlinear.Dropout(0.5),
        ftnn.Readout((3,) * 3, 2, 2),
    ).to("torch", "float32")
    x = tuple(torch.randn(6, 1, 4, 1) for _ in range(3))
    expected = model.apply(x)
    graph, counter = compiled(model.apply)
    assert_close(graph(x), expected, "float32", 1e4)
    model.train()
    graph, counter = compiled(model.apply)
    first, second = graph(x), graph(x)
    assert counter.frame_count == 1
    assert not torch.equal(first, second)


@pytest.mark.parametrize("bonds", [(1,) * 5, (2, 3, 2, 3, 2)])
def test_coarsening_is_one_graph(bonds):
    layer = ftnn.Coarsen((3,) * 6, (2, 2, 2), 3).to("torch", "float32")
    chain = Chain(4, (3,) * 6, bonds, "generic", 0)
    x = tuple(convert(core, "torch", "float32") for core in chain.cores())
    expected = layer.apply(x)
    graph, counter = compiled(layer.apply)
    for found, want in zip(graph(x), expected, strict=True):
        assert_close(found, want, "float32")
    assert counter.frame_count == 1


def test_training_compiled_is_training(tmp_path, monkeypatch):
    from test_callbacks import Grow
    from test_trainer import CONFIG, make_data, make_model, make_trainer

    with pytest.raises(ValueError, match="compile and recompute are both True; choose one"):
        replace(CONFIG, compile=True, recompute=True)
    calls = []
    plain = torch.compile

    def traced(function, **options):  # the inductor would take a minute
        calls.append(options)
        return plain(function, backend="aot_eager", **options)

    monkeypatch.setattr(torch, "compile", traced)
    torch._dynamo.reset()
    histories = []
    for compile in (False, True):
        config = replace(CONFIG, epochs=2, dtype="float64", ema_decay=0.5, compile=compile)
        trainer = make_trainer(tmp_path / str(compile), config, make_model(), callbacks=[Grow(1)])
        histories.append(trainer.fit(make_data()).history)
        assert trainer.model.layers[0].bond_dim == 5
    # the model that replaces the first one is compiled, too
    assert calls == [{"fullgraph": True, "dynamic": False}] * 2
    for one, other in zip(*histories, strict=True):
        for name in ("train_loss", "val_loss", "grad_norm"):
            assert one[name] == pytest.approx(other[name], rel=1e-9)


def test_what_cannot_be_one_graph_is_named(tmp_path):
    from test_trainer import CLASSES, CONFIG, DIMS, make_data, make_trainer

    model = ftnn.Sequential(
        ftnn.nonlinear.Elementwise("tanh", max_bond=4, rtol=1e-3), ftnn.Readout(DIMS, CLASSES, 3)
    )
    trainer = make_trainer(tmp_path, replace(CONFIG, compile=True), model)
    with pytest.raises(ValueError, match="compile is True, but the network is not one graph"):
        trainer.fit(make_data())


FRESH = """
import numpy as np, torch, ftnn
from ftnn.nonlinear import KAN, Gated, LayerNorm, Pointwise, RMSNorm
from ftnn.training import TorchModule

dims, hidden = (2, 3, 2), (3, 3, 3)
model = ftnn.Sequential(
    ftnn.Linear(dims, hidden, 2, 3), KAN(hidden, basis="spline"), KAN(hidden, basis="radial"),
    RMSNorm(), Gated(hidden, hidden, 1, 3), LayerNorm(hidden, 3), Pointwise("gelu"),
    ftnn.Readout(hidden, 4, 2),
)
module = TorchModule(model, dtype="float32")
rng = np.random.default_rng(0)
x = ftnn.MPS.from_dense(rng.standard_normal((5, 12)), dims)
cores = tuple(torch.tensor(core, dtype=torch.float32) for core in x.cores)
graph = torch.compile(module.apply_cores, fullgraph=True, dynamic=False, backend="aot_eager")
logits = graph(cores)  # nothing has run before
logits.square().sum().backward()
found = [p.grad.clone() for p in module.parameters()]
module.zero_grad()
expected = module.apply_cores(cores)
expected.square().sum().backward()
assert torch.allclose(logits, expected, rtol=1e-4, atol=1e-5)
for p, grad in zip(module.parameters(), found, strict=True):
    assert torch.allclose(grad, p.grad, rtol=1e-3, atol=1e-4 * float(expected.abs().max()))
"""


def test_a_network_is_one_graph_in_a_process_where_nothing_has_run():
    done = subprocess.run([sys.executable, "-c", FRESH], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
