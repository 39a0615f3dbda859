"""What other libraries stumble over: odd sizes, large kernels, small layers, and missing data."""

import re
import time
from math import prod

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from laws import ROUNDING, assert_close
from test_tensorized_modules import chosen
from torch import nn

from ftnn.measure.memory import peak_bytes
from ftnn.tensorized import (
    Conv1d,
    Conv2d,
    Conv3d,
    Embedding,
    Linear,
    Moments,
    load,
    save,
    tensorize,
)

PRIMES = st.sampled_from([29, 31, 37, 41, 43])
LINEARS = ["svd", "mpo", "tt", "ring", "tree"]
KERNELS = ["tucker", "cp", "tt", "mpo"]


def same(module, x, size=1.0):
    """However it multiplies, a module is the layer that it says it is."""
    expected = module.to_dense()(x).detach()
    scale = size * (float(expected.norm()) + float(module.weight.detach().norm()) * 10)
    for kind in module.kinds:
        with chosen(module, kind), torch.no_grad():
            assert_close(module(x), expected, "float64", ROUNDING, scale)
        with chosen(module, kind):
            assert_close(module(x).detach(), expected, "float64", ROUNDING, scale)


# ---- sizes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("format", LINEARS)
@settings(max_examples=4)
@given(PRIMES, PRIMES, st.integers(0, 99))
def test_prime_sizes_are_compressed(format, out, inn, seed):
    torch.manual_seed(seed)
    dense = nn.Linear(inn, out).double()
    module = Linear.from_dense(dense, format, params=out * inn // 3)
    assert module.num_params - out <= out * inn // 3
    assert module.error < 1
    same(module, torch.randn(3, inn).double())
    exact = Linear.from_dense(dense, format)
    assert_close(exact.weight.detach(), dense.weight.detach(), "float64", ROUNDING)


@pytest.mark.parametrize("format", KERNELS)
@pytest.mark.parametrize("dims", [None, ((3, 4), (3, 3))])
@settings(max_examples=3)
@given(st.integers(0, 99))
def test_kernels_of_prime_channels_are_compressed(format, dims, seed):
    """Eleven outputs of seven channels: 3 x 4 and 3 x 3 hold them."""
    torch.manual_seed(seed)
    dense = nn.Conv2d(7, 11, 3).double()
    module = Conv2d.from_dense(dense, format, dims, ranks=3)
    assert module.dims == (dims or (((4, 3), (4, 2)) if format == "mpo" else ((11,), (7,))))
    same(module, torch.randn(2, 7, 6, 5).double())
    if format != "cp":
        exact = Conv2d.from_dense(dense, format, dims)
        assert_close(exact.weight.detach(), dense.weight.detach(), "float64", ROUNDING)


@pytest.mark.parametrize("format", KERNELS)
@settings(max_examples=6)
@given(st.sampled_from([1, 2, 3]), st.integers(1, 3), st.integers(1, 3), st.integers(0, 99))
def test_dilation_groups_and_strides_are_those_of_the_dense_layer(
    format, groups, dilation, stride, seed
):
    """Where groups have padded dimensions, too: every group has its own rows of zeros."""
    torch.manual_seed(seed)
    dense = nn.Conv2d(
        5 * groups, 3 * groups, (3, 2), stride, 2, dilation, groups, padding_mode="circular"
    ).double()
    x = torch.randn(2, 5 * groups, 9, 8).double()
    for dims in (None, ((2, 2), (3, 2))):
        module = Conv2d.from_dense(dense, format, dims)
        y = dense(x).detach()
        assert_close(module(x).detach(), y, "float64", ROUNDING, float(y.norm()))
        same(Conv2d.from_dense(dense, format, dims, ranks=2), x)


def test_groups_of_prime_channels_are_exact_in_a_model():
    """Rows of groups follow each other: a model is tensorized without rows between them."""
    torch.manual_seed(0)
    dense = nn.Sequential(nn.Conv2d(12, 22, 3, groups=2)).double()
    taps = torch.randn(9, 1).double().expand(9, 6)
    weight = torch.einsum("o,kc->okc", torch.randn(22).double(), taps)
    dense[0].weight.data = weight.transpose(1, 2).reshape(22, 6, 3, 3)  # of rank 1
    found = tensorize(dense, ratio=2, formats=("mpo",))
    assert found.rows[0].format == "mpo"
    assert prod(found.model[0].dims[0]) == 11
    x = torch.randn(2, 12, 5, 5).double()
    assert_close(found.model(x).detach(), dense(x).detach(), "float64", ROUNDING)


def test_convolutions_know_their_ways_and_what_they_store():
    """By cores where there are no groups; the taps of every channel are many."""
    assert Conv2d(4, 4, 3, groups=2).kinds == ("dense",)
    assert Conv2d(4, 4, 3).kinds == ("dense", "cores")
    mpo = Conv2d(16, 16, 3, format="mpo", ranks=9)
    assert mpo.stores_much("cores", (8, 16, 32, 32))
    assert not mpo.stores_much("dense", (8, 16, 32, 32))
    assert not Conv2d(16, 16, 3, format="tt", ranks=4).stores_much("cores", (8, 16, 32, 32))


@pytest.mark.parametrize("format", KERNELS)
@pytest.mark.parametrize("groups", [1, 3])
def test_factored_channels_are_saved_and_loaded(format, groups, tmp_path):
    torch.manual_seed(0)
    dense = nn.Sequential(nn.Conv2d(15, 21, 3, groups=groups), nn.ReLU())
    dims = ((4, 2), (3, 2)) if groups > 1 else ((6, 4), (4, 4))
    module = nn.Sequential(Conv2d.from_dense(dense[0], format, dims, ranks=3), nn.ReLU())
    save(module, tmp_path / "model.safetensors")
    twin = load(dense, tmp_path / "model.safetensors")
    assert (twin[0].dims, twin[0].ranks, twin[0].format) == (dims, module[0].ranks, format)
    x = torch.randn(2, 15, 6, 6)
    with torch.no_grad():
        assert torch.equal(twin(x), module(x))
    drawn = Conv2d(15, 21, 3, groups=groups, format=format, dims=dims, ranks=1)
    drawn.load_state_dict(module[0].state_dict())
    assert torch.equal(drawn.weight, module[0].weight)


# ---- memory and time -----------------------------------------------------------------------------


@pytest.mark.parametrize("format", KERNELS)
def test_kernels_in_three_dimensions_are_never_expanded(format):
    """The product of all factors of 64 channels and 5 x 5 x 5 at rank 48 would be 100 MB a sample.

    The dense kernel has 2 MB, the images 0.4.
    """
    torch.manual_seed(0)
    layer = Conv3d(64, 64, 5, padding=2, format=format, ranks=48)
    x = torch.randn(1, 64, 8, 8, 8)
    dense = nn.Conv3d(64, 64, 5, padding=2)
    bound = 1.5 * peak_bytes(lambda: dense(x)) + 4 * layer.weight.numel()

    def train():
        layer(x).sum().backward()

    def evaluate():
        with torch.no_grad():
            layer(x)

    for step in (evaluate, train):
        for kind in layer.kinds:
            if kind == "cores" and format == "mpo":
                continue  # its taps are applied to every channel: a plan that is fast or not taken
            with chosen(layer, kind):
                layer.zero_grad()
                assert peak_bytes(step) <= (1 if step is evaluate else 3) * bound


@pytest.mark.parametrize("kind", [Conv1d, Conv2d, Conv3d])
def test_one_channel_and_one_tap_are_enough(kind):
    x = torch.randn(2, 1, *(3,) * (int(kind.__name__[4])), dtype=torch.float64)
    for format in KERNELS:
        same(kind(1, 1, 1, format=format).double(), x)


def operations(layer, x):
    """Number of calls of torch below a call of a layer."""
    with torch.no_grad():
        layer(x)
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as trace:
            layer(x)
    return sum(event.cpu_parent is None for event in trace.events() if event.name[:4] == "aten")


def test_a_tiny_layer_is_one_operation():
    """16 inputs, 10 outputs: what is kept is the dense weight, and a call does nothing else."""
    layer, x = Linear(16, 10, "mpo", ranks=2), torch.randn(4, 16)
    with chosen(layer, "dense"):
        assert operations(layer, x) == operations(nn.Linear(16, 10), x) == 1


@pytest.mark.parametrize(("gradients", "times"), [(False, 4), (True, 12)])
def test_a_tiny_layer_is_not_many_times_slower_than_a_dense_one(gradients, times):
    """Others take 70 times as long; bounds are wide, as machines are shared."""
    layers = [nn.Linear(16, 10), Linear(16, 10, "mpo", ranks=2)]
    x = torch.randn(8, 16, requires_grad=gradients)

    def seconds(layer):
        begin = time.perf_counter()
        for _ in range(50):
            y = layer(x)
            if gradients:
                y.sum().backward()
        return time.perf_counter() - begin

    with torch.set_grad_enabled(gradients):
        rounds = [[seconds(layer) for layer in layers] for _ in range(8)][1:]
    dense, ours = (min(column) for column in zip(*rounds, strict=True))
    assert ours < times * dense


# ---- inputs and data -----------------------------------------------------------------------------


def test_sequences_are_rows():
    """(B, T, C): moments, outputs and gradients are those of (B T, C)."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(24, 40), nn.GELU(), nn.Linear(40, 24)).double()
    x = torch.randn(6, 5, 24).double()
    found = [tensorize(model, [batch], params=0.4).model for batch in (x, x.reshape(-1, 24))]
    for one, other in zip(*(model.parameters() for model in found), strict=True):
        assert_close(one.detach(), other.detach(), "float64", 1e6)
    y = found[0](x)
    assert y.shape == (6, 5, 24)
    assert_close(y.reshape(-1, 24).detach(), found[0](x.reshape(-1, 24)).detach(), "float64", 1e3)
    moments = Moments(24), Moments(24)
    moments[0].add(x)
    moments[1].add(x.reshape(-1, 24))
    assert torch.equal(moments[0].second(), moments[1].second())


def model():
    return nn.Sequential(nn.Conv1d(4, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(48, 32))


@pytest.mark.parametrize(
    "batches",
    [[], iter(()), torch.utils.data.DataLoader(torch.zeros(0, 4, 8))],
    ids=["list", "iterator", "loader"],
)
def test_a_calibration_set_without_batches_is_refused(batches):
    with pytest.raises(ValueError, match="the calibration set is empty"):
        tensorize(model(), batches, params=0.5)


@pytest.mark.parametrize("place", ["0", "3"])
def test_activations_that_are_not_finite_are_told_with_their_layer(place):
    dense = model()
    x = torch.zeros(2, 4, 8)
    if place == "0":
        x[0, 0, 0] = float("nan")
    else:
        dense[0].bias.data[0] = float("inf")
    with pytest.raises(ValueError, match=f"layer '{place}': inputs have values that are not fin"):
        tensorize(dense, [x], params=0.5)


def test_what_is_not_finite_passes_through_layers_as_through_dense_ones():
    x = torch.randn(3, 16)
    x[1, 3] = float("nan")
    for layer in (Linear(16, 10, "mpo", ranks=2), nn.Linear(16, 10)):
        with torch.no_grad():
            assert layer(x).isnan().any(1).tolist() == [False, True, False]


def test_the_nearest_budget_that_can_be_met_is_told_and_can_be_met():
    dense = model()
    with pytest.raises(ValueError, match="the smallest that can be met") as told:
        tensorize(dense, params=5)
    nearest = int(re.search(r"can be met is ([\d,]+)", str(told.value))[1].replace(",", ""))
    found = tensorize(dense, params=nearest)
    assert found.params == nearest
    with pytest.raises(ValueError, match="the smallest that can be met"):
        tensorize(dense, params=nearest - 1)


@pytest.mark.parametrize(
    ("kind", "dense"),
    [
        (Linear, nn.Linear(17, 19)),
        (Conv2d, nn.Conv2d(6, 6, 3, groups=2)),
        (Embedding, nn.Embedding(19, 7)),
    ],
    ids=["linear", "convolution", "embedding"],
)
def test_the_fewest_entries_of_a_layer_are_told_and_suffice(kind, dense):
    with pytest.raises(ValueError, match="cores of rank 1 have") as told:
        kind.from_dense(dense, params=2)
    fewest = int(re.search(r"rank 1 have (\d+)", str(told.value))[1])
    assert sum(core.numel() for core in kind.from_dense(dense, params=fewest).cores) == fewest
