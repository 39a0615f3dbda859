"""Laws of the fits of cores: the error in the metric, its optima, budgets of parameters."""

import importlib
from itertools import pairwise
from math import prod

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from laws import EXACT, assert_close
from torch import nn

from ftnn.tensorized import Conv2d, Embedding, Linear
from ftnn.tensorized.decompose import affordable, decompose, fitted_at, given_ranks
from ftnn.tensorized.factored import Factored
from ftnn.tensorized.fit import fit_cores
from ftnn.tensorized.formats import CONV, LINEAR
from ftnn.tensorized.pairs import fit_pairs
from ftnn.tensorized.start import tree_start
from ftnn.tensorized.target import RIDGE, target_of

fit = importlib.import_module("ftnn.tensorized.fit")
pairs = importlib.import_module("ftnn.tensorized.pairs")

SEEDS = st.integers(0, 99)
SQUARES = 1e-7
"""Root of the rounding of a squared error, relative to the weight."""
TREES = ("svd", "mpo", "tt", "tree", "tucker", "kernel tt")


def random(seed, *shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.double)


def moments_of(kind, size, groups, seed, rows=None):
    """Second moments of drawn inputs of very different scales; of few rows, singular."""
    ahead = (groups,) if groups > 1 else ()
    if kind == "none":
        return None
    scales = 10.0 ** random(seed + 1, *ahead, 1, size).clamp(-1.5, 1.5)
    x = random(seed, *ahead, rows or 3 * size + 1, size) * scales
    full = x.mT @ x / x.shape[-2]
    if kind == "factored":
        return Factored(scales[..., 0, :].square(), x[..., : size // 2 + 1, :])
    return full if kind == "full" else full.diagonal(dim1=-2, dim2=-1)


def dense_metric(moments, size, groups=1):
    """The regularized moments as matrices (groups, size, size), by NumPy."""
    if moments is None:
        return np.broadcast_to(np.eye(size), (groups, size, size))
    moments = moments.dense() if isinstance(moments, Factored) else moments
    s = moments.numpy().reshape(groups, *moments.shape[-(moments.ndim - (groups > 1)) :])
    s = np.stack([np.diag(own) for own in s]) if s.ndim == 2 else s
    here = s.shape[-1]
    mean = np.mean([np.diag(own).mean() for own in s])
    padded = np.zeros((groups, size, size))
    padded[:, :here, :here] = s
    return padded + (RIDGE * mean if mean > 0 else 1.0) * np.eye(size)


def norm_in(metric, w):
    """Norm of a matrix (out, in), or of the rows of every group, in a metric."""
    w = np.asarray(w).reshape(len(metric), -1, metric.shape[-1])
    return np.sqrt(sum(np.trace(own @ s @ own.T) for own, s in zip(w, metric, strict=True)))


class Problem:
    """A weight, a graph and a metric that are drawn."""

    def __init__(self, format, outs, ins, metric, groups, seed):
        self.format, self.metric, self.groups, self.seed = format, metric, groups, seed
        if format in ("tucker", "cp", "kernel tt"):
            self.graph = CONV[format.split()[-1]](outs, ins[:1], ins[1:], groups)
        else:
            self.graph = LINEAR[format](outs, ins)
        self.weight = random(seed, groups * prod(outs), prod(ins))
        self.moments = moments_of(metric, prod(ins), groups, seed)
        self.shared = self.graph.out_legs[:1] if groups > 1 else ()
        self.dense = dense_metric(self.moments, prod(ins), groups)

    def __repr__(self):
        sizes = dict(self.graph.sizes)
        return f"Problem({self.format}, {sizes}, {self.metric}, {self.groups}, {self.seed})"

    @property
    def target(self):
        return target_of(self.weight, self.graph, self.moments, self.shared)

    def decompose(self, **wanted):
        return decompose(self.weight, self.graph, self.moments, self.shared, **wanted)

    def matrix(self, graph, cores):
        """The weight of cores, by NumPy."""
        names = {name: n for n, name in enumerate(graph.sizes)}
        terms = []
        for core, roles in zip(cores, graph.cores, strict=True):
            terms += [core.numpy(), [names[name] for name in roles]]
        dense = np.einsum(*terms, [names[leg] for leg in graph.legs], optimize=True)
        return dense.reshape(self.weight.shape)

    def error(self, graph, cores):
        gap = self.weight.numpy() - self.matrix(graph, cores)
        return norm_in(self.dense, gap) / norm_in(self.dense, self.weight)


@st.composite
def problems(draw, formats=("svd", "mpo", "tt", "ring", "tree", "tucker", "cp", "kernel tt")):
    format = draw(st.sampled_from(formats))
    metric = draw(st.sampled_from(["none", "diagonal", "full", "factored"]))
    groups = 1
    if format in ("tucker", "cp", "kernel tt"):
        outs = (draw(st.integers(1, 6)),)
        ins = (draw(st.integers(1, 6)), *draw(st.lists(st.integers(1, 3), min_size=1, max_size=3)))
        groups = draw(st.sampled_from([1, 1, 2, 3]))
    else:
        count = {"svd": 1}.get(format) or draw(st.integers(1, 4))
        dims = st.lists(st.integers(1, 3 if count > 2 else 7), min_size=count, max_size=count)
        outs, ins = tuple(draw(dims)), tuple(draw(dims))
    return Problem(format, outs, ins, metric, groups, draw(SEEDS))


RANKS = st.integers(1, 4)

# ---- the error -----------------------------------------------------------------------------------


@settings(max_examples=60)
@given(problems(), RANKS)
def test_the_error_is_that_of_the_dense_weights_in_the_metric(problem, rank):
    found = problem.decompose(ranks=rank)
    assert abs(found.error - problem.error(found.graph, found.cores)) <= SQUARES
    assert 0 <= found.error <= 1 + SQUARES  # no cores at all have 1


@settings(max_examples=25)
@given(st.data())
def test_the_error_of_a_module_is_in_the_metric_of_given_moments(data):
    """Of a padded layer, in groups, and in that of covariances where a mean is given."""
    seed = data.draw(SEEDS)
    groups, mean = 1, None
    metric = data.draw(st.sampled_from(["none", "diagonal", "full"]))
    kind = data.draw(st.sampled_from([Linear, Conv2d, Embedding]))
    if kind is Linear:
        layer = nn.Linear(data.draw(st.integers(1, 11)), data.draw(st.integers(1, 11)))
        options = {"format": "mpo", "dims": ((3, 4), (4, 3))}
    elif kind is Conv2d:
        groups = data.draw(st.integers(1, 3))
        layer = nn.Conv2d(2 * groups, 3 * groups, (2, 1), groups=groups)
        options = {"format": data.draw(st.sampled_from(["tucker", "tt", "cp"]))}
    else:
        layer, metric = nn.Embedding(11, 5), data.draw(st.sampled_from(["none", "diagonal"]))
        options = {}
    for parameter in layer.double().parameters():
        parameter.data = random(seed, *parameter.shape)
    weight = layer.weight.detach()
    weight = weight.T if kind is Embedding else weight.flatten(1)
    size = weight.shape[1]
    moments = moments_of(metric, size, groups, seed)
    own = moments
    if kind is not Embedding and moments is not None and data.draw(st.booleans()):
        mean = 0.1 * random(seed + 2, *((groups,) if groups > 1 else ()), size)
        squares = mean[..., :, None] * mean[..., None, :] if metric == "full" else mean.square()
        own, moments = moments, moments + squares
    wanted = {"mean": mean} if mean is not None else {}
    module = kind.from_dense(layer, ranks=2, moments=moments, **options, **wanted)
    graph = module.graph
    outs, dims = (
        prod(graph.sizes[leg] for leg in legs) for legs in (graph.out_legs, graph.in_legs)
    )
    # columns beyond the layer are cores' too, and cost the ridge only; rows beyond do not count
    rows = len(weight) // groups
    full = torch.zeros(groups, rows, dims, dtype=torch.double)
    full[..., :size] = weight.reshape(groups, rows, size)
    cores = [core.detach() for core in module.cores]
    dense = target_of(torch.zeros(outs, dims), graph).dense(cores)
    gap = full - dense.reshape(groups, -1, dims)[:, :rows]
    metric_full = dense_metric(own, dims, groups)
    expected = norm_in(metric_full, gap.numpy()) / norm_in(metric_full, full.numpy())
    assert abs(module.error - expected) <= SQUARES
    padded = metric_full[:, :size, :size]
    seen = norm_in(padded, (weight - module.matrix().detach()).numpy())
    assert seen / norm_in(padded, weight.numpy()) <= module.error + SQUARES


@settings(max_examples=40)
@given(problems(), RANKS, st.booleans())
def test_sweeps_never_raise_the_error(problem, rank, drawn):
    graph = given_ranks(problem.graph, rank)
    target = problem.target.at(graph)
    shapes = [graph.shape(n) for n in range(len(graph.cores))]
    cores = [random(problem.seed + n, *shape) for n, shape in enumerate(shapes)]
    if not drawn:
        cores = fitted_at(target, graph, 0).cores
    fitted = fit_cores(target, cores, sweeps=6, rtol=0.0)
    for before, after in pairwise(fitted.errors):
        assert after <= before * (1 + 1e-6) + SQUARES
    assert fitted.error <= fitted.errors[0]
    assert abs(fitted.error - problem.error(graph, fitted.cores)) <= SQUARES
    assert [core.shape for core in fitted.cores] == shapes


@settings(max_examples=30)
@given(problems(), RANKS)
def test_a_solved_core_is_stationary_and_the_residual_is_orthogonal(problem, rank):
    graph = given_ranks(problem.graph, rank)
    target = problem.target.at(graph)
    cores = [random(problem.seed + n, *graph.shape(n)) for n in range(len(graph.cores))]
    metric = torch.tensor(problem.dense)
    for core in range(len(cores)):
        cores[core] = fit.solve_core(target, cores, core).clone().requires_grad_()
        dense = target.dense(cores).reshape(len(metric), -1, metric.shape[-1])
        gap = problem.weight.reshape(dense.shape) - dense
        error = ((gap @ metric) * gap).sum()
        (gradient,) = torch.autograd.grad(error, cores[core])
        cores[core] = cores[core].detach()
        # of the scale of a gradient, which the dense weight has at no cores
        others = [*cores[:core], torch.zeros_like(cores[core]).requires_grad_(), *cores[core + 1 :]]
        none = problem.weight.reshape(dense.shape) - target.dense(others).reshape(dense.shape)
        (at_none,) = torch.autograd.grad(((none @ metric) * none).sum(), others[core])
        size = max(target.square / max(float(cores[core].norm()), 1e-6), float(at_none.norm()))
        condition = 1e-5 if target.is_full or target.moments is not None else 1e-8
        assert float(gradient.norm()) <= condition * size
        inner = float(((gap @ metric) * dense).sum().detach())
        assert abs(inner) <= condition * target.square


# ---- optima --------------------------------------------------------------------------------------


@settings(max_examples=40)
@given(problems(["svd"]), RANKS)
def test_two_matrices_are_the_truncated_svd_of_the_whitened_weight(problem, rank):
    """The theorem of Eckart, Young and Mirsky, in the metric."""
    found = problem.decompose(ranks=rank)
    root = np.linalg.cholesky(problem.dense[0])
    values = np.linalg.svd(problem.weight.numpy() @ root, compute_uv=False)
    best = np.sqrt((values[rank:] ** 2).sum() / (values**2).sum())
    assert best - SQUARES <= found.error <= best * (1 + 1e-5) + SQUARES


@settings(max_examples=30)
@given(problems(["svd"]))
def test_more_rank_is_never_worse(problem):
    """Of two matrices; and exact where it is full."""
    most = min(problem.weight.shape)
    errors = [problem.decompose(ranks=rank).error for rank in range(1, most + 1)]
    for fewer, more in pairwise(errors):
        assert more <= fewer * (1 + 1e-5) + SQUARES
    assert errors[-1] <= SQUARES


@settings(max_examples=30)
@given(st.data(), SEEDS, RANKS)
def test_two_cores_are_the_truncated_svd_of_the_rearranged_matrix(data, seed, rank):
    sizes = st.integers(1, 7)
    (o0, i0), (o1, i1) = (data.draw(st.tuples(sizes, sizes)) for _ in range(2))
    problem = Problem("mpo", (o0, o1), (i0, i1), "none", 1, seed)
    found = problem.decompose(ranks=rank)
    tensor = problem.weight.numpy().reshape(o0, o1, i0, i1).transpose(0, 2, 1, 3)
    u, s, vh = np.linalg.svd(tensor.reshape(o0 * i0, o1 * i1), full_matrices=False)
    best = (u[:, :rank] * s[:rank]) @ vh[:rank]
    best = best.reshape(o0, i0, o1, i1).transpose(0, 2, 1, 3).reshape(problem.weight.shape)
    error = np.sqrt((s[rank:] ** 2).sum() / (s**2).sum())
    assert abs(found.error - error) <= SQUARES
    gap = s[rank - 1] - s[rank] if rank < len(s) else s[-1]
    assume(gap > 1e-2 * s[0])  # else others are as good
    assert_close(problem.matrix(found.graph, found.cores), best, condition=EXACT)


@settings(max_examples=30)
@given(problems(TREES), RANKS)
def test_the_start_along_a_tree_is_bounded_by_what_is_cut(problem, rank):
    """Theorem 2.2 of Oseledets (2011), in the Frobenius norm; and a fit only improves on it."""
    problem = Problem(problem.format, *shape_of(problem), "none", problem.groups, problem.seed)
    graph = given_ranks(problem.graph, rank)
    target = problem.target.at(graph)
    cut = sum(
        float(values[graph.sizes[bond] :].square().sum()) for bond, values in target.spectra.items()
    )
    bound = (cut / target.square) ** 0.5
    start = problem.error(graph, tree_start(target))
    assert start <= bound + SQUARES
    assert problem.decompose(ranks=rank).error <= start + SQUARES
    for bond, values in target.spectra.items():  # no weight of these ranks is closer
        tail = values[graph.sizes[bond] :].square().sum()
        assert start >= float(tail / target.square) ** 0.5 - SQUARES


def shape_of(problem):
    sizes, graph = problem.graph.sizes, problem.graph
    outs = tuple(sizes[leg] for leg in graph.out_legs)[problem.groups > 1 :]
    return outs, tuple(sizes[leg] for leg in graph.in_legs)


@settings(max_examples=40)
@given(problems())
def test_full_ranks_are_exact_in_every_metric(problem):
    found = problem.decompose()
    assert found.error <= 1e-10
    size = float(problem.weight.norm())
    assert_close(
        problem.matrix(found.graph, found.cores), problem.weight, condition=EXACT, scale=size
    )


@settings(max_examples=10)
@given(problems())
def test_a_weight_of_low_ranks_is_found(problem):
    """Cores are recovered from their weight: trees, by their start alone."""
    graph = given_ranks(problem.graph, 2)
    assume(graph.is_tree)
    cores = [random(problem.seed + n, *graph.shape(n)) for n in range(len(graph.cores))]
    problem.weight = torch.tensor(problem.matrix(graph, cores))
    assume(float(problem.weight.norm()) > 0.1)
    assert problem.decompose(ranks=2, sweeps=0).error <= 1e-6
    found = problem.decompose(rtol=1e-5)
    assert found.error <= 1e-5
    assert all(found.graph.ranks[bond] <= rank for bond, rank in graph.ranks.items())


@settings(max_examples=40)
@given(problems(TREES), RANKS)
def test_sweeps_over_pairs_are_never_worse_and_repeat(problem, rank):
    one, two, again = (problem.decompose(ranks=rank, sites=sites) for sites in (1, 2, 2))
    assert two.error <= one.error + SQUARES
    assert two.error == again.error
    assert abs(two.error - problem.error(two.graph, two.cores)) <= SQUARES
    assert two.graph.ranks == one.graph.ranks


def test_pairs_leave_what_single_cores_cannot():
    """From drawn cores, with as many sweeps over single ones."""
    gains = []
    for seed in range(8):
        problem = Problem("mpo", (4, 4, 4), (4, 4, 4), "full", 1, seed)
        graph = given_ranks(problem.graph, 3)
        target = problem.target.at(graph)
        start = [random(seed + n, *graph.shape(n)) for n in range(3)]
        one, two = fit_cores(target, start, 2), fit_pairs(target, start, 2)
        assert two.error <= one.error
        gains.append(one.error - two.error)
    assert max(gains) > 1e-3
    ring = Problem("ring", (3, 3, 3), (3, 3, 3), "none", 1, 0)
    with pytest.raises(ValueError, match=r"two-site sweeps need a tree.*use sites=1"):
        ring.decompose(ranks=2, sites=2)
    with pytest.raises(ValueError, match="sites is 3, expected 1 or 2"):
        ring.decompose(ranks=2, sites=3)


@settings(max_examples=30)
@given(problems(("mpo", "tt", "tree", "tucker")))
def test_a_pair_that_is_parted_at_full_rank_is_solved_for(problem):
    graph = given_ranks(problem.graph, problem.graph.full_ranks())
    target = problem.target.at(graph)
    cores = [random(problem.seed + n, *graph.shape(n)) for n in range(len(graph.cores))]
    for core, neighbours in ((n, graph.neighbours(n)) for n in range(len(cores))):
        for other, bond in neighbours:
            rows = prod(graph.shape(core)) // graph.sizes[bond]
            if graph.sizes[bond] < min(rows, prod(graph.shape(other)) // graph.sizes[bond]):
                continue  # something is cut
            before = target.error(cores)
            pairs._step(target, cores, core, other, bond)
            single = fit.solve_core(target, cores, core)
            best = target.error([*cores[:core], single, *cores[core + 1 :]])
            assert target.error(cores) <= before + SQUARES
            assert target.error(cores) <= best + 1e-4  # nothing is left for a single core


def test_equal_ranks_are_taken_where_they_are_better():
    gains = []
    for seed in range(10):
        problem = Problem("mpo", (4, 4, 4), (4, 4, 4), "full", 1, seed)
        target = problem.target
        by_threshold = fitted_at(target, affordable(target, 200), 12)
        found = problem.decompose(params=200)
        assert found.graph.num_params <= 200
        assert found.error <= by_threshold.error + SQUARES
        gains.append(by_threshold.error - found.error)
    assert max(gains) > 1e-3
    assert min(gains) < SQUARES  # and only there


# ---- large systems -------------------------------------------------------------------------------


@settings(max_examples=40)
@given(problems(), RANKS)
def test_conjugate_gradients_solve_what_is_solved_directly(problem, rank):
    """In a metric that is not too ill-conditioned for a few steps."""
    graph = given_ranks(problem.graph, rank)
    if problem.moments is not None:
        eye = torch.eye(problem.dense.shape[-1], dtype=torch.double)
        mild = random(problem.seed, *problem.dense.shape) * 0.1
        mild = eye + mild @ mild.mT
        if problem.metric == "diagonal":
            mild = mild.diagonal(dim1=-2, dim2=-1)
        mild = mild if problem.groups > 1 else mild[0]
        if problem.metric == "factored":
            mild = Factored(torch.ones_like(mild[..., 0]), mild * 0.3)
        problem.moments = mild
    target = problem.target.at(graph)
    cores = [random(problem.seed + n, *graph.shape(n)) for n in range(len(graph.cores))]
    for core in range(len(cores)):
        direct = fit.solve_core(target, cores, core)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(fit, "DIRECT", 0)
            patch.setattr(fit, "STEPS", 300)
            patch.setattr(fit, "_positive_solve", None)  # is not called
            steps = fit.solve_core(target, cores, core)
        others = [*cores[:core], direct, *cores[core + 1 :]]
        with_steps = [*cores[:core], steps, *cores[core + 1 :]]
        assert abs(target.error(with_steps) - target.error(others)) <= 1e-5


@settings(max_examples=15)
@given(problems(TREES), RANKS)
def test_fits_by_conjugate_gradients_are_as_good(problem, rank):
    assume(problem.metric == "none" or problem.format == "svd")
    graph = given_ranks(problem.graph, rank)
    direct = fitted_at(problem.target, graph, 5)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fit, "DIRECT", 0)
        steps = fitted_at(problem.target, graph, 5)
    assert steps.error <= direct.error * (1 + 1e-2) + SQUARES
    assert abs(steps.error - problem.error(graph, steps.cores)) <= SQUARES


# ---- ranks, parameters, errors that are asked for ------------------------------------------------


WEIGHTS = {
    "random": lambda shape: random(0, *shape),
    "zero": lambda shape: torch.zeros(shape, dtype=torch.double),
    "ones": lambda shape: torch.ones(shape, dtype=torch.double),
    "identity": lambda shape: torch.eye(*shape, dtype=torch.double),  # all values are equal
}


@settings(max_examples=80)
@given(problems(), st.sampled_from(sorted(WEIGHTS)), st.floats(0, 1.2))
def test_a_budget_of_parameters_is_kept(problem, kind, share):
    problem.weight = WEIGHTS[kind](problem.weight.shape)
    graph, target = problem.graph, problem.target
    least = graph.with_ranks(dict.fromkeys(graph.bonds, 1)).num_params
    full = given_ranks(graph, graph.full_ranks()).num_params
    params = least + int(share * max(full - least, 0))
    found = affordable(target, params)
    assert least <= found.num_params <= params
    assert given_ranks(found, found.ranks).ranks == found.ranks  # none that gains nothing
    more = affordable(target, params + max(full, 1))
    assert more.num_params >= found.num_params
    if graph.is_tree:
        assert more.ranks == given_ranks(graph, graph.full_ranks()).ranks
        assert all(found.ranks[bond] <= more.ranks[bond] for bond in graph.bonds)
    with pytest.raises(ValueError, match=f"params is {least - 1}, .* have {least} entries"):
        affordable(target, least - 1)


@settings(max_examples=20)
@given(problems(), st.floats(0, 1))
def test_more_parameters_are_not_worse(problem, share):
    """Of trees with singular values along them: larger ranks contain smaller ones."""
    assume(problem.graph.is_tree)
    graph = problem.graph
    least = graph.with_ranks(dict.fromkeys(graph.bonds, 1)).num_params
    full = given_ranks(graph, graph.full_ranks()).num_params
    params = least + int(share * max(full - least, 0))
    found = problem.decompose(params=params, sweeps=0)
    assert sum(core.numel() for core in found.cores) == found.graph.num_params <= params
    more = problem.decompose(params=params + 10 + full // 4, sweeps=0)
    if problem.metric == "none":
        assert more.error <= found.error + SQUARES


@settings(max_examples=40)
@given(problems(), st.sampled_from([0.9, 0.5, 0.2, 0.05, 1e-3]))
def test_an_error_that_is_asked_for_is_reached(problem, rtol):
    found = problem.decompose(rtol=rtol)
    assert found.error <= rtol
    assert problem.error(found.graph, found.cores) <= rtol + SQUARES
    exact = problem.decompose(rtol=0.0)
    assert exact.error <= 1e-10
    assert found.graph.num_params <= exact.graph.num_params


@settings(max_examples=40)
@given(problems(), st.data())
def test_ranks_are_a_number_a_sequence_or_a_mapping_and_capped(problem, data):
    graph = problem.graph
    rank = data.draw(st.integers(1, 60))
    by_number = given_ranks(graph, rank)
    assert given_ranks(graph, [rank] * len(graph.bonds)).ranks == by_number.ranks
    assert given_ranks(graph, dict.fromkeys(graph.bonds, rank)).ranks == by_number.ranks
    drawn = data.draw(st.lists(st.integers(1, 60), min_size=len(graph.bonds),
                               max_size=len(graph.bonds)))  # fmt: skip
    found = given_ranks(graph, drawn)
    assert found.ranks == given_ranks(graph, dict(zip(graph.bonds, drawn, strict=True))).ranks
    most = graph.most_ranks()
    for bond, given_rank in zip(graph.bonds, drawn, strict=True):
        assert 1 <= found.ranks[bond] <= min(given_rank, most[bond])
    if graph.is_tree:
        assert given_ranks(graph, 10**6).ranks == given_ranks(graph, graph.full_ranks()).ranks
        for n, core in enumerate(found.cores):  # no core is wider than high
            for bond in set(core) & set(graph.bonds):
                assert found.sizes[bond] ** 2 <= prod(found.shape(n))


@settings(max_examples=20)
@given(problems(), RANKS, st.floats(1e-3, 1e3))
def test_a_scaled_metric_and_a_scaled_weight_have_the_same_error(problem, rank, scale):
    first = problem.decompose(ranks=rank, sweeps=2)
    problem.weight = problem.weight * scale
    if isinstance(problem.moments, Factored):
        diagonal, factor = problem.moments.diagonal, problem.moments.factor
        problem.moments = Factored(scale * diagonal, scale**0.5 * factor)
    elif problem.moments is not None:
        problem.moments = problem.moments * scale
    second = problem.decompose(ranks=rank, sweeps=2)
    assert abs(first.error - second.error) <= 1e-5
    assert first.graph.ranks == second.graph.ranks


def test_a_ring_is_not_larger_than_the_exact_chain():
    """A last bond costs more than it gains where the error is to be small."""
    problem = Problem("ring", (3, 3, 3), (3, 3, 3), "none", 1, 0)
    exact = problem.decompose(rtol=0.0)
    assert exact.graph.ranks == {"r0": 9, "r1": 9, "r2": 1}
    found = problem.decompose(rtol=1e-9)
    assert found.error <= 1e-9
    assert found.graph.num_params <= exact.graph.num_params


@settings(max_examples=30)
@given(problems(), RANKS)
def test_factored_moments_are_their_dense_matrices(problem, rank):
    problem.moments = moments_of("factored", prod(problem.graph.sizes[n] for n in
        problem.graph.in_legs), problem.groups, problem.seed)  # fmt: skip
    found = problem.decompose(ranks=rank, sweeps=2)
    problem.moments = problem.moments.dense()
    expected = problem.decompose(ranks=rank, sweeps=2)
    assert abs(found.error - expected.error) <= 1e-5


def test_an_identity_metric_is_none():
    for seed in range(3):
        problem = Problem("tt", (3, 4), (4, 3), "none", 1, seed)
        expected = problem.decompose(ranks=2)
        for moments in (torch.ones(12), torch.eye(12), 5.0 * torch.eye(12)):
            problem.moments = moments.double()
            found = problem.decompose(ranks=2)
            assert abs(found.error - expected.error) <= 1e-6


def test_weights_and_metrics_of_zero_have_no_error():
    for format in LINEAR:
        layer = nn.Linear(12, 8, bias=False)
        nn.init.zeros_(layer.weight)
        module = Linear.from_dense(layer, format, ranks=2)
        assert module.error == 0
        assert not module.weight.any()
        nn.init.normal_(layer.weight)
        module = Linear.from_dense(layer, format, moments=torch.zeros(12, 12))
        assert_close(module.weight.detach(), layer.weight.detach(), "float32", 1e2)


def test_sweeps_lower_the_error_of_a_start_that_is_not_optimal():
    """A start sees the metric leg by leg; sweeps see all of it."""
    cases = {
        "mpo": ((4, 4), (4, 4)),
        "tt": ((4, 4), (4, 4)),
        "tree": ((3, 3, 3), (3, 3, 3)),
        "ring": ((3, 3, 3), (3, 3, 3)),
        "tucker": ((6,), (5, 3, 3)),
        "cp": ((6,), (5, 3)),
    }
    for format, (outs, ins) in cases.items():
        problem = Problem(format, outs, ins, "full", 1, 0)
        start, after = (problem.decompose(ranks=2, sweeps=sweeps).error for sweeps in (0, 12))
        assert after < 0.995 * start


@settings(max_examples=15)
@given(problems(), RANKS)
def test_a_fit_that_fails_keeps_its_start(problem, rank):
    """The best cores so far are returned, and their error."""
    graph = given_ranks(problem.graph, rank)
    target = problem.target.at(graph)
    cores = fitted_at(target, graph, 1).cores
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            fit, "solve_core", lambda target, cores, core: 3 * torch.ones_like(cores[core])
        )
        fitted = fit_cores(target, cores, 2)
    assert fitted.error <= target.error(cores) + SQUARES
    assert abs(fitted.error - problem.error(graph, fitted.cores)) <= SQUARES
