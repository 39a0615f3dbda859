"""Fixed bonds have static shapes: torch.compile takes the whole graph, once."""

import pytest
import torch
import torch._dynamo.testing
from laws import Chain, assert_close, random_operator

import ftnn
from ftnn.backend import convert
from ftnn.chain import Apply, State, Term
from ftnn.truncation.src import compress_src, seeded
from ftnn.truncation.sweep import output_bonds

pytestmark = pytest.mark.filterwarnings("ignore")  # of torch's compiler about itself
CHAIN = Chain(3, (2, 3, 2, 3), (2, 4, 3), "generic", 0)


def compiled(function):
    torch._dynamo.reset()
    counter = torch._dynamo.testing.CompileCounterWithBackend("aot_eager")
    return torch.compile(function, fullgraph=True, backend=counter), counter


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_src_is_one_graph_with_the_same_result_and_gradient(dtype):
    def terms(w, x):
        return (Term(Apply(tuple(w), State(tuple(x)))), Term(State(tuple(x)), 0.5))

    def arrays(seed):
        w = random_operator(CHAIN.dims, CHAIN.dims, 2, seed, dtype)
        both = [convert(a, "torch") for a in (*w, *CHAIN.cores(dtype))]
        return [a.requires_grad_() for a in both]

    first = arrays(0)
    omegas = seeded(terms(first[:4], first[4:]), output_bonds(terms(first[:4], first[4:]), 3), 0)

    def function(*a):
        return compress_src(terms(a[:4], a[4:]), omegas, 3)

    expected = function(*first)  # autoray looks its functions up at the first call
    graph, counter = compiled(function)
    for a in (first, arrays(1)):
        expected, found = function(*a), graph(*a)
        weights = [torch.linspace(-1, 1, c.numel(), dtype=c.dtype).view_as(c) for c in expected]
        for one, other in zip(expected, found, strict=True):
            assert_close(other, one, dtype)
        want, got = (
            torch.autograd.grad(sum((c * v).sum() for c, v in zip(out, weights, strict=True)), a)
            for out in (expected, found)
        )
        scale = max(float(g.norm()) for g in want)
        for one, other in zip(want, got, strict=True):
            assert_close(other, one, dtype, scale=scale)
    assert counter.frame_count == 1  # not compiled again for other values


def test_a_network_is_one_graph():
    dims = (4,) * 4
    model = ftnn.Sequential(
        ftnn.Linear(dims, dims, 2, 3),
        ftnn.nonlinear.KAN(dims),
        ftnn.nonlinear.RMSNorm(),
        ftnn.Residual(ftnn.Linear(dims, dims, 2, 3, bias=False), 3),
        ftnn.Readout(dims, 3, 2),
    ).to("torch", "float32")
    x = tuple(
        convert(core, "torch", "float32") for core in Chain(5, dims, (3,) * 3, "generic", 0).cores()
    )
    expected = model.apply(x)
    graph, counter = compiled(model.apply)
    assert_close(graph(x), expected, "float32")
    graph(tuple(core + 0.1 for core in x))
    assert counter.frame_count == 1
