"""Schmidt values are those of the weight, and ranks fall to what a budget and the data leave."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from ftnn.tensorized import Conv2d, Linear, RankAdaptation, schmidt_values
from ftnn.tensorized.adaptation import _sweep

TREES = st.sampled_from(["svd", "mpo", "tt", "tree"])


def layer_of(format, ranks, seed, count=3):
    torch.manual_seed(seed)
    count = 1 if format == "svd" else count
    dims = ((3, 2, 4)[:count], (2, 5, 3)[:count]) if format != "svd" else ((24,), (30,))
    sizes = [int(torch.tensor(part).prod()) for part in reversed(dims)]
    return Linear(*sizes, format, dims, ranks).double()


def unfolded(module, bond):
    """The weight as a matrix from the legs on one side of a bond to the others."""
    graph = module.graph
    weight = module.matrix().detach().reshape([graph.sizes[leg] for leg in graph.legs])
    here = [graph.legs.index(leg) for leg in graph.legs_behind(bond)]
    there = [n for n in range(len(graph.legs)) if n not in here]
    rows = weight.permute(*here, *there)
    return rows.reshape(int(torch.tensor(rows.shape[: len(here)]).prod()), -1)


@settings(max_examples=25)
@given(TREES, st.integers(1, 6), st.integers(0, 99))
def test_schmidt_values_are_those_of_the_dense_weight_in_any_gauge(format, ranks, seed):
    module = layer_of(format, ranks, seed)
    before = module.matrix().detach()
    found = schmidt_values(module)
    assert found.keys() == set(module.graph.bonds)
    for bond, values in found.items():
        expected = torch.linalg.svdvals(unfolded(module, bond))[: len(values)]
        torch.testing.assert_close(values, expected, rtol=1e-9, atol=1e-12)
    assert torch.equal(module.matrix(), before)
    first, (second, bond) = next(iter(module.graph.parents.items()))
    size = module.graph.sizes[bond]
    gauge = torch.eye(size).double() + torch.triu(torch.ones(size, size).double(), 1)
    for core, matrix in ((first, gauge), (second, torch.linalg.inv(gauge).T)):
        axis = module.graph.cores[core].index(bond)
        new = torch.tensordot(module.cores[core].detach(), matrix, dims=([axis], [0]))
        module.cores[core].data = new.movedim(-1, axis).contiguous()
    for bond, values in schmidt_values(module).items():
        torch.testing.assert_close(values, found[bond], rtol=1e-7, atol=1e-10)


@settings(max_examples=25)
@given(st.sampled_from(["svd", "mpo"]), st.integers(2, 6), st.integers(0, 99), st.floats(0.05, 0.9))
def test_a_threshold_at_one_bond_is_the_proximal_step_of_the_nuclear_norm(
    format, ranks, seed, share
):
    module = layer_of(format, ranks, seed, count=2)
    (bond,) = module.graph.bonds
    matrix = unfolded(module, bond)
    u, s, vh = torch.linalg.svd(matrix, full_matrices=False)
    threshold = float(share * s[0])
    cores = [core.detach() for core in module.cores]
    for _ in _sweep(cores, module.graph, {bond: threshold}):
        pass
    for old, new in zip(module.cores, cores, strict=True):
        assert old.shape == new.shape
        old.data = new
    expected = u * (s - threshold).clamp(min=0) @ vh
    torch.testing.assert_close(unfolded(module, bond), expected, rtol=1e-9, atol=1e-12)


@settings(max_examples=15)
@given(TREES, st.integers(2, 6), st.integers(0, 99), st.floats(0.2, 1.0))
def test_a_budget_is_met_and_what_is_cut_off_was_zero(format, ranks, seed, share):
    module = layer_of(format, ranks, seed)
    least = module.graph.with_ranks(dict.fromkeys(module.graph.bonds, 1)).num_params
    params = max(least, int(share * module.graph.num_params))
    adaptation = RankAdaptation(nn.Sequential(module), params, steps=3, every=1)
    for _ in range(3):
        adaptation.step()
    before = module.matrix().detach()
    assert before.norm() > 0  # at rank 1, too
    adaptation.finish()
    assert sum(core.numel() for core in module.cores) <= params
    assert module.graph.num_params == sum(core.numel() for core in module.cores)
    torch.testing.assert_close(module.matrix(), before, rtol=1e-9, atol=1e-12)
    assert all(isinstance(core, nn.Parameter) and core.requires_grad for core in module.cores)


def test_a_budget_that_holds_everything_changes_nothing():
    module = layer_of("mpo", 4, 0)
    before = [core.detach().clone() for core in module.cores]
    adaptation = RankAdaptation(module, 10**6, steps=2, every=1)
    adaptation.step()
    adaptation.finish()
    assert all(torch.equal(a, b) for a, b in zip(before, module.cores, strict=True))


def test_training_finds_the_rank_of_the_data():
    """Of two layers, one of rank 2 and one of rank 6, the budget goes where it is needed."""
    torch.manual_seed(0)
    weights = [torch.randn(24, rank) @ torch.randn(rank, 30) / 10 for rank in (2, 6)]
    layers = nn.ModuleList([Linear(30, 24, "svd", ranks=10, bias=False) for _ in weights])
    optimizer = torch.optim.Adam(layers.parameters(), 0.02)
    adaptation = RankAdaptation(layers, 8 * 54, steps=600, every=20, optimizer=optimizer)
    for step in range(900):
        x = torch.randn(64, 30)
        gaps = (layer(x) - x @ w.T for layer, w in zip(layers, weights, strict=True))
        loss = sum(gap.square().mean() for gap in gaps)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step < 600:
            adaptation.step()
    adaptation.finish()
    assert [layer.ranks for layer in layers] == [(2,), (6,)]
    assert loss < 1e-2 * sum(float(w.square().sum(1).mean()) for w in weights)


def test_what_cannot_adapt_is_told():
    with pytest.raises(ValueError, match="format 'ring' has loops"):
        schmidt_values(Linear(8, 8, "ring", ranks=2))
    with pytest.raises(ValueError, match="no tensorized layer whose ranks could adapt"):
        RankAdaptation(nn.Sequential(nn.Linear(4, 4), Linear(8, 8, "ring")), 10, 5)
    with pytest.raises(ValueError, match="params is 3, but cores of rank 1 have 16 entries"):
        RankAdaptation(Linear(8, 8, "svd"), 3, 5)
    with pytest.raises(ValueError, match="expected at least 1 of each"):
        RankAdaptation(Linear(8, 8, "svd"), 30, 0)
    assert schmidt_values(Conv2d(4, 6, 3)).keys() == {"r0", "r1"}
