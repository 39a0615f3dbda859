"""Laws of modules of torch whose weights are networks: they are their dense layers, all ways."""

import copy
import pickle
from dataclasses import replace
from math import prod

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from laws import EPS, ROUNDING, assert_close
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from ftnn.tensorized import Conv1d, Conv2d, Conv3d, Embedding, Linear, plans
from ftnn.tensorized import halves as factors_in_turn
from ftnn.tensorized.halves import WIDE, cuts

FEW = 1e2
"""A weight contracted of exact cores: float32 to 1e-5."""
CONVS = {1: (nn.Conv1d, Conv1d), 2: (nn.Conv2d, Conv2d), 3: (nn.Conv3d, Conv3d)}
DTYPES = st.sampled_from(["float32", "float64"])
SEEDS = st.integers(0, 99)
SIZES = st.sampled_from([1, 2, 3, 4, 5, 7, 9, 12, 13, 16, 23])

pytestmark = pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel:UserWarning")


class Case:
    """A dense layer with drawn numbers, its tensorized module, and inputs of both."""

    def __init__(self, kind, layer, options, shape, dtype, seed):
        self.kind, self.options, self.dtype = kind, options, dtype
        generator = torch.Generator().manual_seed(seed)
        for parameter in layer.parameters():
            nn.init.normal_(parameter, generator=generator)
        self.layer = layer.to(getattr(torch, dtype))
        if isinstance(layer, nn.Embedding):
            if layer.padding_idx is not None:
                layer.weight.data[layer.padding_idx] = 0  # as torch initializes it
            self.x = torch.randint(layer.num_embeddings, shape, generator=generator)
        else:
            self.x = torch.randn(shape, generator=generator).to(getattr(torch, dtype))

    def module(self, **wanted):
        return self.kind.from_dense(self.layer, **self.options, **wanted)

    def small(self):
        """A module of rank at most 2."""
        return self.module(ranks=2)

    @property
    def flat(self):
        """Inputs as ``multiply`` takes them: rows, images, or positions."""
        if self.kind is Linear:
            return self.x.reshape(-1, self.x.shape[-1])
        return self.x.reshape(-1) if self.kind is Embedding else self.x

    @property
    def scale(self):
        """Norm of the outputs without cancellation."""
        layer, x = copy.deepcopy(self.layer), self.x
        with torch.no_grad():
            for parameter in layer.parameters():
                parameter.abs_()
            size = float(layer(x.abs() if x.is_floating_point() else x).norm())
        return size + float(layer.weight.detach().norm()) * (self.kind is Embedding)

    def check(self, actual, expected, condition=FEW):
        assert_close(actual.detach(), expected.detach(), self.dtype, condition, self.scale)


@st.composite
def linears(draw):
    format = draw(st.sampled_from(["svd", "mpo", "tt", "ring", "tree"]))
    dims = None
    out, inn = draw(SIZES), draw(SIZES)
    if draw(st.booleans()):
        count = 1 if format == "svd" else draw(st.integers(1, 4))
        other = draw(st.integers(1, 4)) if format == "tt" else count
        outs, ins = (
            tuple(draw(st.lists(st.integers(1, 3 if n > 2 else 7), min_size=n, max_size=n)))
            for n in (count, other)
        )
        out, inn = draw(st.integers(1, prod(outs))), draw(st.integers(1, prod(ins)))  # padded
        dims = outs, ins
    layer = nn.Linear(inn, out, draw(st.booleans()))
    shape = (*draw(st.sampled_from([(), (1,), (5,), (2, 3)])), inn)
    return Case(Linear, layer, {"format": format, "dims": dims}, shape, draw(DTYPES), draw(SEEDS))


@st.composite
def factors_of(draw, size, count):
    """Factors whose product is a number or somewhat more."""
    found = [draw(st.integers(1, 2)) for _ in range(count - 1)]
    return (*found, -(-size // prod(found)) + draw(st.integers(0, 1)))


@st.composite
def convolutions(draw):
    dims = draw(st.integers(1, 3))
    dense, kind = CONVS[dims]
    kernel = tuple(draw(st.integers(1, 3)) for _ in range(dims))
    padding = draw(st.sampled_from(["same", "valid", "numbers"]))
    stride = tuple(1 if padding == "same" else draw(st.integers(1, 2)) for _ in range(dims))
    if padding == "numbers":
        padding = tuple(draw(st.integers(0, 2)) for _ in range(dims))
    groups = draw(st.sampled_from([1, 1, 2, 3]))
    layer = dense(
        groups * draw(st.integers(1, 4)),
        groups * draw(st.integers(1, 4)),
        kernel,
        stride,
        padding,
        tuple(draw(st.integers(1, 2)) for _ in range(dims)),
        groups,
        draw(st.booleans()),
        draw(st.sampled_from(["zeros", "reflect", "replicate", "circular"])),
    )
    sizes = tuple(draw(st.integers(5, 7)) for _ in range(dims))
    shape = (*draw(st.sampled_from([(), (1,), (2,)])), layer.in_channels, *sizes)
    options = {"format": draw(st.sampled_from(["tucker", "cp", "tt", "mpo"])), "dims": None}
    if draw(st.booleans()):
        count = draw(st.integers(1, 3))
        other = count if options["format"] == "mpo" else draw(st.integers(1, 3))
        options["dims"] = (
            draw(factors_of(layer.out_channels // groups, count)),
            draw(factors_of(layer.in_channels // groups, other)),
        )
    return Case(kind, layer, options, shape, draw(DTYPES), draw(SEEDS))


@st.composite
def embeddings(draw):
    rows, columns, dims = draw(SIZES), draw(SIZES), None
    if draw(st.booleans()):
        count = draw(st.integers(1, 4))
        parts = st.lists(st.integers(1, 3), min_size=count, max_size=count).map(tuple)
        dims = draw(parts), draw(parts)
        columns, rows = (draw(st.integers(1, prod(own))) for own in dims)
    padding = draw(st.none() | st.integers(-rows, rows - 1))
    layer = nn.Embedding(rows, columns, padding)
    shape = draw(st.sampled_from([(), (6,), (2, 5)]))
    return Case(Embedding, layer, {"dims": dims}, shape, draw(DTYPES), draw(SEEDS))


ALL = {"linear": linears(), "convolution": convolutions(), "embedding": embeddings()}
FORMATS = pytest.mark.parametrize("name", list(ALL))


def applied(case, module, x, weight):
    """The function of a module by torch's own operations, on a weight of torch's layout."""
    if case.kind is Linear:
        return nn.functional.linear(x, weight, module.bias)
    if case.kind is Embedding:
        y = nn.functional.embedding(x, weight)
        return y if module.padding_idx is None else y * (x != module.padding_idx)[..., None]
    layer = copy.deepcopy(case.layer)
    return layer._conv_forward(x if x.ndim == len(layer.kernel_size) + 2 else x[None], weight,
                               module.bias).reshape(layer(case.x).shape)  # fmt: skip


class chosen:
    """Every multiplication is of this kind."""

    def __init__(self, module, kind, recompute=False):
        self.module, self.kind, self.recompute = module, kind, recompute

    def __enter__(self):
        self.module.__dict__.pop("_plans", None)
        self.patch = pytest.MonkeyPatch()
        found = plans.Plan(self.kind, self.recompute, {}, (1,), True)
        self.patch.setattr(
            plans, "_plan", lambda layer, shape, gradients: replace(found, gradients=gradients)
        )

    def __exit__(self, *error):
        self.module.__dict__.pop("_plans", None)
        self.patch.undo()


# ---- exact ---------------------------------------------------------------------------------------


@FORMATS
@settings(max_examples=30)
@given(st.data())
def test_at_full_rank_a_module_is_its_dense_layer_however_it_multiplies(name, data):
    case = data.draw(ALL[name])
    module, expected = case.module(), case.layer(case.x)
    assert module.error <= 1e-10
    assert module.cores[0].dtype == case.layer.weight.dtype
    case.check(module(case.x), expected)
    with torch.no_grad():
        case.check(module(case.x), expected)
        for kind in module.kinds:
            ways = [module.multiply(kind, case.flat, kept) for kept in (False, True, True)]
            assert torch.equal(ways[1], ways[2])  # the same weights again
            for y in ways:
                if getattr(module, "bias", None) is not None:
                    y = y + module.bias.reshape(-1, *(1,) * (len(case.layer.weight.shape) - 2))
                if case.kind is Embedding and module.padding_idx is not None:
                    y = torch.where((case.flat == module.padding_idx)[:, None], 0, y)
                case.check(y.reshape(expected.shape), expected)
    dense = module.to_dense()
    assert type(dense) is type(case.layer)
    assert str(dense) == str(case.layer)
    case.check(dense(case.x), expected)


@FORMATS
@settings(max_examples=15)
@given(st.data())
def test_every_way_to_a_weight_is_the_same(name, data):
    """Also below full rank: torch's layout, a dense module, a network of quimb, all kinds."""
    case = data.draw(ALL[name])
    module = case.small()
    matrix = module.matrix().detach()
    rows, columns = matrix.shape
    network = module.to_quimb()
    assert network.num_tensors == len(module.cores)
    array = network.contract(all, output_inds=module.graph.legs, optimize="greedy").data
    groups = getattr(case.layer, "groups", 1)
    width = prod(module.graph.sizes[leg] for leg in module.graph.in_legs)
    array = torch.as_tensor(array).reshape(groups, -1, width)[:, : rows // groups, :columns]
    array = array.reshape(rows, columns)
    assert_close(array, matrix, case.dtype, FEW, float(matrix.norm()) + 1e-30)
    kernel = matrix.T if case.kind is Embedding else matrix.reshape(case.layer.weight.shape)
    assert torch.equal(module.weight, kernel)
    dense = module.to_dense().weight
    if case.kind is Embedding and module.padding_idx is not None:
        assert not dense[module.padding_idx].any()
        kept = torch.arange(rows if case.kind is not Embedding else columns) != module.padding_idx
        dense, kernel = dense[kept], kernel[kept]
    assert torch.equal(dense, kernel)
    with torch.no_grad():
        ways = [module.multiply(kind, case.flat, False) for kind in module.kinds]
    for way in ways[1:]:
        assert_close(way, ways[0], case.dtype, FEW, case.scale)


@settings(max_examples=15)
@given(linears(), st.integers(1, 4))
def test_rows_are_mapped_one_by_one(case, rows):
    """A batch is its stacked rows, and an empty batch is none."""
    module = case.small()
    x = torch.randn(rows, case.x.shape[-1], dtype=case.x.dtype)
    with torch.no_grad():
        stacked = torch.stack([module(row) for row in x])
        assert_close(module(x), stacked, case.dtype, FEW, case.scale + float(x.norm()) * 10)
        assert module(x[:0]).shape == (0, case.layer.out_features)
        assert module(x[:, None]).shape == (rows, 1, case.layer.out_features)


@FORMATS
@settings(max_examples=10)
@given(st.data(), st.floats(0, 1), st.sampled_from([0.5, 0.1]))
def test_sizes_and_errors_that_are_asked_for_are_met(name, data, share, rtol):
    """Entries of cores count, the bias does not."""
    case = data.draw(ALL[name])
    graph = case.module().graph
    least = graph.with_ranks(dict.fromkeys(graph.bonds, 1)).num_params
    params = least + int(share * (graph.num_params - least))
    module = case.module(params=params)
    bias = 0 if getattr(module, "bias", None) is None else module.bias.numel()
    assert sum(core.numel() for core in module.cores) == module.num_params - bias <= params
    module = case.module(rtol=rtol)
    assert module.error <= rtol
    weight = case.layer.weight.detach().double()
    gap = module.weight.detach().double() - weight
    assert float(gap.norm()) <= (rtol + FEW * EPS[case.dtype]) * float(weight.norm())


@settings(max_examples=10)
@given(st.integers(2, 13), st.integers(1, 9), st.integers(0, 99), DTYPES)
def test_a_padding_row_that_is_not_zero_is_kept(rows, columns, seed, dtype):
    """Torch leaves the row out of the gradient, but does not set it to zero."""
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(rows, columns, generator=generator).to(getattr(torch, dtype))
    dense = nn.Embedding.from_pretrained(weight, padding_idx=seed % rows)
    module, x = Embedding.from_dense(dense), torch.arange(rows)
    assert_close(module(x).detach(), dense(x), dtype, FEW)
    assert_close(module.to_dense()(x).detach(), dense(x), dtype, FEW)
    weight[seed % rows] = 0  # and one that is zero stays so, whatever the cores are
    module = Embedding.from_dense(dense, ranks=1)
    assert module.padding_idx == seed % rows
    assert not module(x)[seed % rows].any()


# ---- gradients -----------------------------------------------------------------------------------


@FORMATS
@settings(max_examples=15)
@given(st.data())
def test_gradients_are_those_of_the_dense_weight_pulled_back(name, data):
    case = data.draw(ALL[name])
    module = case.small()
    matrix = module.weight
    weight = matrix.detach().requires_grad_()
    x = case.x
    leaves = [weight]
    if x.is_floating_point():
        x = x.clone().requires_grad_()
        leaves.append(x)
    bias = [] if getattr(module, "bias", None) is None else [module.bias]
    expected_y = applied(case, module, x, weight)
    towards = torch.randn(expected_y.shape, dtype=expected_y.dtype)
    dense, *expected = torch.autograd.grad((expected_y * towards).sum(), leaves + bias)
    expected = [*torch.autograd.grad(matrix, list(module.cores), dense), *expected]
    wanted = [*module.cores, *leaves[1:], *bias]
    sizes = [float(e.norm()) + case.scale for e in expected]
    for kind in module.kinds:
        for recompute in (False, True):
            with chosen(module, kind, recompute):
                y = module(x)
            assert_close(y.detach(), expected_y.detach(), case.dtype, ROUNDING, case.scale)
            found = torch.autograd.grad((y * towards).sum(), wanted)
            for one, other, size in zip(found, expected, sizes, strict=True):
                assert_close(one, other, case.dtype, ROUNDING, size)


def test_a_layer_that_stores_much_is_recomputed():
    """With many rows of a small weight, what the cores make of them is not stored."""
    layer = Linear(4, 4, "mpo", ranks=4)
    assert layer.stores_much("cores", (64, 4))
    assert not layer.stores_much("cores", (2, 4))
    assert not layer.stores_much("dense", (64, 4))
    calls = []
    multiply = layer.multiply
    layer.multiply = lambda kind, x, kept, bias: calls.append(kept) or multiply(kind, x, kept, bias)
    with chosen(layer, "cores", recompute=True):
        layer(torch.randn(64, 4)).sum().backward()
    assert calls == [False, False]
    assert all(core.grad is not None for core in layer.cores)


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning", "ignore::DeprecationWarning")
@FORMATS
def test_traces_and_graphs_are_the_module(name):
    make = {
        "linear": (Linear(8, 6, "mpo", ranks=2), torch.randn(3, 8), torch.randn(5, 8)),
        "convolution": (
            Conv2d(3, 4, 3, ranks=2), torch.randn(1, 3, 5, 5), torch.randn(2, 3, 6, 6)
        ),
        "embedding": (Embedding(9, 4, ranks=2), torch.randint(9, (3,)), torch.randint(9, (5,))),
    }  # fmt: skip
    module, x, other = make[name]
    with torch.no_grad():
        traced = torch.jit.trace(module, x)
        assert_close(traced(other), module(other), "float32", FEW)
        graph = torch.export.export(module, (x,)).module()
        assert_close(graph(x), module(x), "float32", FEW)


# ---- plans ---------------------------------------------------------------------------------------


def flops(step):
    with FlopCounterMode(display=False) as counter:
        step()
    return counter.get_total_flops()


@settings(max_examples=30)
@given(st.data(), st.integers(1, 5))
def test_two_factors_take_as_many_operations_as_they_say_and_no_other_two_fewer(data, rows):
    """However the cores are parted, and whichever factor comes first."""
    sites = data.draw(st.integers(2, 4))
    outs, ins = (
        tuple(data.draw(st.lists(st.integers(2, 5), min_size=sites, max_size=sites)))
        for _ in range(2)
    )
    format = data.draw(st.sampled_from(["mpo", "tt", "tree", "ring"]))
    layer = Linear(prod(ins), prod(outs), format, (outs, ins), ranks=3, bias=False)
    x = torch.randn(rows, prod(ins))
    cores = [core.detach() for core in layer.cores]
    found = {}
    for cut in cuts(layer.graph):
        factors = cut.factors(layer.graph, cores)
        assert sum(factor.numel() for factor in factors) == cut.entries
        found[cut.left] = flops(lambda: cut.multiply(x, factors))  # noqa: B023
        assert found[cut.left] == 2 * rows * min(cut.costs)
        assert_close(cut.multiply(x, factors), x @ layer.weight.detach().T, "float32", FEW)
    assert layer.halves.left in found
    wide = [cut for cut in cuts(layer.graph) if not 1 < cut.columns < WIDE]
    if layer.halves in wide:
        assert found[layer.halves.left] == min(found[cut.left] for cut in wide)


@pytest.mark.parametrize("wide", [1, 10**9])
@pytest.mark.parametrize("format", ["svd", "mpo", "tt", "ring", "tree"])
def test_gradients_of_two_factors_are_right_for_few_and_many_columns(wide, format, monkeypatch):
    """Products a sample, and products for all of them, have gradients of their own."""
    monkeypatch.setattr(factors_in_turn, "WIDE", wide)
    torch.manual_seed(0)
    dims = ((6,), (12,)) if format == "svd" else ((2, 3), (4, 3))
    for out, inn in ((6, 12), (5, 11)):
        layer = Linear(inn, out, format, dims, ranks=2).double()
        x = torch.randn(3, inn, dtype=torch.float64, requires_grad=True)

        def both(x, *cores):
            with chosen(layer, "halves"):  # noqa: B023
                return torch.func.functional_call(layer, names(cores), (x,))  # noqa: B023

        def names(cores):
            return {f"cores.{n}": core for n, core in enumerate(cores)}

        inputs = (x, *layer.cores)
        assert torch.autograd.gradcheck(both, inputs)
        assert torch.autograd.gradgradcheck(both, inputs)
        frozen = [core.detach() for core in layer.cores]
        (gradient,) = torch.autograd.grad(both(x, *frozen).sum(), x)
        expected = layer.weight.detach().sum(0).expand(3, inn)
        assert_close(gradient, expected, "float64", ROUNDING)


def test_two_factors_follow_the_ranks():
    layer = Linear(36, 36, "mpo", ((6, 6), (6, 6)), ranks=2)
    assert layer.kept_bytes("halves") == 4 * (2 * 36 + 36 * 2)
    state = Linear(36, 36, "mpo", ((6, 6), (6, 6)), ranks=5).state_dict()
    layer.load_state_dict(state)
    assert layer.halves.rank == 5
    assert layer.kept_bytes("halves") == 4 * (5 * 36 + 36 * 5)
    assert layer.kept_bytes("dense") == 4 * 36 * 36


def test_the_fastest_way_is_taken_and_what_would_fill_the_memory_is_not(monkeypatch):
    layer, clock = Linear(36, 36, "mpo", ranks=3), {"dense": 3.0, "halves": 2.0, "cores": 4.0}
    monkeypatch.setattr(plans, "_timer", lambda layer, x, kind, again: lambda calls: clock[kind])
    monkeypatch.setattr(plans, "_chosen", {})
    with torch.no_grad():
        assert plans.plan(layer, 5).kind == "halves"
        assert plans.plan(layer, 5).shape == (8, 36)
        assert len(plans._chosen) == len({plans.plan(layer, rows).shape for rows in (5, 8)}) == 1
        monkeypatch.setattr(plans, "CACHE_BYTES", layer.kept_bytes("halves") - 1)
        assert plans.plan(layer, 9).kind == "cores"
    assert plans.plan(layer, 9).kind == "halves"  # in training nothing is kept


def test_a_call_that_is_known_is_found_out_anew_for_other_threads(monkeypatch):
    layer, x = Linear(36, 36, "mpo", ranks=3), torch.randn(2, 36)
    asked = []
    plan = plans._plan
    monkeypatch.setattr(plans, "_plan", lambda *args: asked.append(args) or plan(*args))
    with torch.no_grad():
        for _ in range(3):
            layer(x)
        assert len(asked) == 1
        monkeypatch.setattr(torch, "get_num_threads", lambda: 7)
        layer(x)
    assert len(asked) == 2


# ---- weights that are kept -----------------------------------------------------------------------


def step(module):
    """A step of an optimizer."""
    for parameter in module.parameters():
        parameter.grad = torch.ones_like(parameter)
    torch.optim.SGD(module.parameters(), 0.1).step()


def adam(module, **options):
    """Steps of Adam, whose operations on all parameters at once are counted, too."""
    optimizer = torch.optim.Adam(module.parameters(), 0.1, **options)
    for parameter in module.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()


def foreach(module):
    adam(module, foreach=True)


def fused(module):
    adam(module, fused=True)


def averaged(module):
    """An average of weights, as torch makes it, copied back."""
    other = copy.deepcopy(module)
    in_place(other)
    for own, new in zip(module.parameters(), other.parameters(), strict=True):
        own.detach().copy_(new.detach())


def through_vectors(module):
    vector = nn.utils.parameters_to_vector(module.parameters())
    nn.utils.vector_to_parameters(vector * 1.5, module.parameters())


def load(module):
    module.load_state_dict({k: v + 0.3 for k, v in module.state_dict().items()})


def in_place(module):
    with torch.no_grad():
        for core in module.cores:
            core.mul_(1.5).add_(0.1)


def replaced(module):
    for core in module.cores:
        core.data = core.data * 1.5


def replaced_twice(module):
    """The second time, what was there at first is free, and its place could be taken again."""
    for core in module.cores:
        for _ in range(3):
            core.data = core.data * 1.5


def other_parameters(module):
    for n, core in enumerate(module.cores):
        module.cores[n] = nn.Parameter(core.detach() * 1.5)


def forgotten(module):
    for core in module.cores:
        core.data.mul_(1.5)
    module.forget()


def one_core(module):
    with torch.no_grad():
        module.cores[-1][...] += 1.0


def there_and_back(module):
    """To another dtype, changed, and back: a core may get its old place in memory."""
    module.to(torch.bfloat16).to(torch.float64)


def uncounted(module):
    """Torch does not count what is written through ``data``; training ends with ``eval``."""
    for core in module.cores:
        core.data.mul_(1.5)
    module.eval()


CHANGES = [
    uncounted,
    forgotten,
    step,
    foreach,
    fused,
    averaged,
    through_vectors,
    load,
    in_place,
    replaced,
    replaced_twice,
    other_parameters,
    one_core,
    there_and_back,
]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
@FORMATS
@settings(max_examples=2)
@given(st.data())
def test_kept_weights_follow_the_cores(name, change, data):
    case = data.draw(ALL[name].filter(lambda case: case.dtype == "float64"))
    module = case.small()
    for kind in module.kinds:
        with chosen(module, kind), torch.no_grad():
            for _ in range(2):  # the second time, what is ready is used
                module(case.x)
            first = module.weights(kind, True)[0]
            assert module.weights(kind, True)[0] is first  # they are kept
            change(module)
            expected = applied(case, module, case.x, module.weight)
            size = float(module.weight.norm()) + case.scale
            size *= 1 + float(case.x.double().norm())
            assert_close(module(case.x), expected, "float64", ROUNDING, size)


@FORMATS
@settings(max_examples=10)
@given(st.data())
def test_under_autocast_cores_keep_their_precision(name, data):
    """Contractions of half precision would not match; what is kept is used without autocast."""
    case = data.draw(ALL[name])
    module = case.small()
    expected = module(case.x).detach()
    half = case.x.bfloat16() if case.x.is_floating_point() else case.x
    for kind in module.kinds:
        for _ in range(2):
            with torch.autocast("cpu", dtype=torch.bfloat16), chosen(module, kind):
                with torch.no_grad():
                    case.check(module(case.x), expected, ROUNDING)
                    assert module(half).dtype == expected.dtype
                case.check(module.weight.sum() * 0 + module(case.x), expected, ROUNDING)
                module(case.x).sum().backward()
            with torch.no_grad(), chosen(module, kind):
                case.check(module(case.x), expected, ROUNDING)
    assert all(core.grad.isfinite().all() for core in module.cores)


def test_no_other_core_gets_the_place_of_one_that_was_contracted():
    """Places in memory tell cores apart: they are not given away while weights are kept."""
    layer, x = Linear(64, 64, "svd", ranks=8), torch.ones(2, 64)
    with torch.no_grad(), chosen(layer, "dense"):
        layer(x)
        places = [core.data_ptr() for core in layer.cores]
        for core in layer.cores:
            core.data = torch.zeros(1)
        others = [torch.zeros(64 * 8) for _ in range(50)]
        assert not {other.data_ptr() for other in others} & set(places)


def test_cores_changed_in_inference_mode_are_followed():
    with torch.inference_mode():
        layer, x = Linear(12, 9, "mpo", ranks=3, bias=False), torch.randn(5, 12)
        for kind in layer.kinds:
            with chosen(layer, kind):
                layer(x)
                layer.cores[0].mul_(2.0)
                expected = nn.functional.linear(x, layer.weight)
                assert_close(layer(x), expected, "float32", FEW)


@FORMATS
@settings(max_examples=8)
@given(st.data())
def test_without_gradients_the_outputs_are_the_same(name, data):
    case = data.draw(ALL[name])
    module = case.small()
    expected = module(case.x)
    with torch.no_grad():
        quiet = module(case.x)
    assert not quiet.requires_grad
    with torch.inference_mode():
        assert_close(module(case.x), expected.detach(), case.dtype, ROUNDING, case.scale)
    case.check(quiet, expected, ROUNDING)
    case.check(module(case.x), expected, ROUNDING)  # what was kept in inference mode is no obstacle
    y = module(case.x)
    y.sum().backward()
    assert all(core.grad is not None for core in module.cores)


# ---- copies and states ---------------------------------------------------------------------------


@FORMATS
@settings(max_examples=10)
@given(st.data())
def test_copies_after_use_are_apart_and_equal(name, data):
    case = data.draw(ALL[name])
    module = case.small().eval()
    with torch.no_grad():
        for kind in module.kinds:
            module.multiply(kind, case.flat, True)
        expected = module(case.x)
        for twin in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
            assert "_kept" not in twin.__dict__
            assert type(twin) is type(module)
            assert (twin.ranks, twin.dims, twin.error) == (module.ranks, module.dims, module.error)
            case.check(twin(case.x), expected, ROUNDING)
            for core in twin.cores:
                core.zero_()
            case.check(module(case.x), expected, ROUNDING)


@FORMATS
@settings(max_examples=15)
@given(st.data(), st.integers(1, 5), st.integers(1, 5))
def test_a_state_is_loaded_into_a_module_of_other_ranks(name, data, first, second):
    case = data.draw(ALL[name])
    module = case.module(ranks=first)
    other = case.module(ranks=second)
    twin = nn.ModuleDict({"a": nn.Sequential(other)})
    found = twin.load_state_dict({f"a.0.{k}": v for k, v in module.state_dict().items()})
    assert not found.missing_keys
    assert not found.unexpected_keys
    assert other.ranks == module.ranks
    assert other.num_params == module.num_params
    with torch.no_grad():
        assert torch.equal(other.matrix(), module.matrix())
        case.check(other(case.x), module(case.x), ROUNDING)
    assert sum(p.numel() for p in other.parameters()) == module.num_params


def test_a_state_of_other_sizes_is_refused():
    state = Linear(12, 9, "mpo", ranks=3).state_dict()
    for other in (Linear(12, 16, "mpo", ranks=3), Linear(15, 9, "mpo"), Linear(12, 9, "tt")):
        with pytest.raises(RuntimeError, match=r"size mismatch|Missing|Unexpected"):
            other.load_state_dict(state)


@FORMATS
@settings(max_examples=10)
@given(st.data(), st.integers(1, 6))
def test_drawn_modules_have_the_shapes_and_the_variance_of_dense_layers(name, data, rank):
    case = data.draw(ALL[name])
    module = case.module(ranks=rank)
    drawn = copy.deepcopy(module)
    if case.kind is Linear:
        layer = case.layer
        drawn = Linear(layer.in_features, layer.out_features, ranks=rank, **case.options)
    elif case.kind is Embedding:
        layer = case.layer
        drawn = Embedding(
            layer.num_embeddings, layer.embedding_dim, ranks=rank, padding_idx=layer.padding_idx,
            **case.options,
        )  # fmt: skip
    else:
        layer = case.layer
        drawn = case.kind(
            layer.in_channels, layer.out_channels, layer.kernel_size, layer.stride, layer.padding,
            layer.dilation, layer.groups, True, layer.padding_mode, ranks=rank, **case.options,
        )  # fmt: skip
    assert drawn.ranks == module.ranks
    assert drawn.dims == module.dims
    y = drawn(case.x if case.kind is Embedding else case.x.float())
    assert y.shape == case.layer(case.x).shape
    assert y.isfinite().all()


def test_the_variance_of_drawn_weights_is_that_of_torch():
    torch.manual_seed(0)
    for format in ("svd", "mpo", "tt", "ring", "tree"):
        layers = [Linear(64, 64, format, ranks=8) for _ in range(20)]
        squares = [layer.weight.detach().square().mean() for layer in layers]
        assert 0.7 < float(torch.stack(squares).mean()) * 3 * 64 < 1.3
    layers = [Embedding(64, 64, ranks=8) for _ in range(20)]
    squares = [layer.weight.detach().square().mean() for layer in layers]
    assert 0.7 < float(torch.stack(squares).mean()) < 1.3


def test_tolerances_are_as_narrow_as_they_are_said_to_be():
    assert FEW * EPS["float32"] <= 1.2e-5
    assert ROUNDING * EPS["float64"] <= 1e-10
