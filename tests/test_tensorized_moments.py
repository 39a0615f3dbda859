"""Laws of second moments: they are those of what a layer multiplies, however it is called."""

from itertools import accumulate, pairwise
from math import prod

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from laws import EXACT, ROUNDING, assert_close
from torch import nn

from ftnn.tensorized import Conv1d, Conv2d, Conv3d, Embedding, Linear, Moments
from ftnn.tensorized import moments as moments_module
from ftnn.tensorized import places as places_module
from ftnn.tensorized import rows as rows_module
from ftnn.tensorized.places import call, find_places, observe
from ftnn.tensorized.rows import add_inputs, moments_of, patches

CONVS = {1: (nn.Conv1d, Conv1d), 2: (nn.Conv2d, Conv2d), 3: (nn.Conv3d, Conv3d)}
SEEDS = st.integers(0, 99)

pytestmark = pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel:UserWarning")


def random(seed, *shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.double)


def drawn_as(layer, seed):
    """A layer in double precision with drawn numbers."""
    with torch.no_grad():
        for parameter in layer.double().parameters():
            parameter.copy_(random(seed, *parameter.shape))
    return layer


@st.composite
def convolutions(draw, max_groups=3):
    dims = draw(st.integers(1, 3))
    padding = draw(st.sampled_from(["same", "valid", "numbers"]))
    stride = tuple(1 if padding == "same" else draw(st.integers(1, 2)) for _ in range(dims))
    if padding == "numbers":
        padding = tuple(draw(st.integers(0, 2)) for _ in range(dims))
    groups = draw(st.integers(1, max_groups))
    layer = CONVS[dims][0](
        groups * draw(st.integers(1, 3)),
        groups * draw(st.integers(1, 3)),
        tuple(draw(st.integers(1, 3)) for _ in range(dims)),
        stride,
        padding,
        tuple(draw(st.integers(1, 2)) for _ in range(dims)),
        groups,
        True,
        draw(st.sampled_from(["zeros", "reflect", "replicate", "circular"])),
    )
    seed = draw(SEEDS)
    drawn_as(layer, seed)
    sizes = tuple(draw(st.integers(5, 7)) for _ in range(dims))
    return layer, random(seed + 1, draw(st.integers(1, 3)), layer.in_channels, *sizes) + 0.5


# ---- streams -------------------------------------------------------------------------------------


@settings(max_examples=30)
@given(
    st.lists(st.integers(0, 9), min_size=1, max_size=4), st.integers(1, 5), st.integers(1, 3),
    st.booleans(), st.sampled_from(["float32", "float64", "bfloat16"]), SEEDS,
)  # fmt: skip
def test_a_stream_of_rows_has_the_moments_of_all_rows(sizes, size, groups, diagonal, dtype, seed):
    moments = Moments(size, groups, diagonal)
    x = random(seed, sum(sizes) + 1, groups * size).to(getattr(torch, dtype))
    edges = [0, *accumulate(sizes), len(x)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(moments_module, "ROWS", 4)  # of many rows, a few at once
        for begin, end in pairwise(edges):
            rows = x[begin:end]
            moments.add(rows if len(rows) % 2 else rows[None])  # the axes before do not matter
    assert moments.rows == len(x)
    parts = x.double().reshape(-1, groups, size)
    second = torch.einsum("ngi,ngj->gij", parts, parts) / len(x)
    if diagonal:
        second = second.diagonal(dim1=-2, dim2=-1)
    first = parts.mean(0)
    name = "float32" if dtype == "bfloat16" else dtype
    for found, expected in ((moments.second(), second), (moments.first(), first)):
        assert found.dtype == torch.float64
        expected = expected if groups > 1 else expected[0]
        scale = float(expected.norm()) + float(x.double().square().mean()) ** 0.5
        assert_close(found, expected, name, ROUNDING / 10, scale)


def test_moments_refuse_what_is_none():
    moments = Moments(3, groups=2)
    with pytest.raises(ValueError, match="empty"):
        moments.second()
    with pytest.raises(ValueError, match=r"shape \(4, 3\), expected \(\.\.\., 6\)"):
        moments.add(torch.ones(4, 3))
    for bad in (float("nan"), float("inf")):
        with pytest.raises(ValueError, match="not finite"):
            moments.add(torch.full((2, 6), bad))
    assert moments.rows == 0
    with pytest.raises(ValueError, match="rank is 0, expected an integer >= 1"):
        Moments(3, rank=0)
    with pytest.raises(ValueError, match="rank is 2, but a diagonal has no factor"):
        Moments(3, diagonal=True, rank=2)
    large = Moments(3)  # whose fourth powers overflow
    large.add(1e100 * torch.eye(3).double())
    assert torch.isfinite(large.metric()).all()
    moments.add(torch.ones(2, 6))
    assert torch.equal(moments.second(), torch.ones(2, 3, 3).double())


@settings(max_examples=20)
@given(st.integers(1, 9), st.integers(1, 5), st.integers(1, 2), st.booleans(), SEEDS)
def test_moments_in_another_order_are_those_of_rows_in_another_order(n, size, groups, single, seed):
    x = random(seed, n, groups, size) + 0.5
    order = torch.randperm(size, generator=torch.Generator().manual_seed(seed))
    found, expected = (Moments(size, groups, diagonal=single) for _ in range(2))
    found.add(x.flatten(1))
    found.permute(order)
    expected.add(x[..., order].flatten(1))
    assert_close(found.first(), expected.first())
    for centered in (False, True):
        scale = float(x.square().sum())
        assert_close(found.metric(centered), expected.metric(centered), scale=scale)
    with pytest.raises(ValueError, match="factored or empty"):
        Moments(3).permute(order)


# ---- what layers multiply ------------------------------------------------------------------------


@settings(max_examples=50)
@given(convolutions())
def test_a_convolution_is_its_weight_times_patches(drawn):
    layer, x = drawn
    rows = patches(layer, x[:1])
    groups = layer.groups
    parts = rows.reshape(len(rows), groups, -1)
    weight = layer.weight.detach().flatten(1).reshape(groups, -1, parts.shape[-1])
    y = torch.einsum("ngi,goi->gon", parts, weight).reshape(layer.out_channels, -1)
    expected = layer(x[:1])[0].detach()
    y = y.reshape(expected.shape) + layer.bias.detach().reshape(-1, *(1,) * (x.ndim - 2))
    assert_close(y, expected)


@settings(max_examples=30)
@given(convolutions(), st.booleans())
def test_moments_of_a_convolution_give_the_error_of_its_outputs(drawn, single):
    """The mean square of W x is tr(W S W^T): of the dense layer, and of the error of a fit."""
    layer, x = drawn
    moments = moments_of(layer)
    for sample in x if single else [x]:  # with or without the axis of samples
        add_inputs(moments, layer, sample)
    assert moments.size * moments.groups == layer.in_channels * prod(layer.kernel_size)
    second = moments.second().reshape(layer.groups, moments.size, moments.size)
    weight = layer.weight.detach().flatten(1)
    parts = weight.reshape(layer.groups, -1, moments.size)
    y = (layer(x) - layer.bias.reshape(-1, *(1,) * (x.ndim - 2))).detach()
    places = y.numel() // layer.out_channels
    assert moments.rows == places
    expected = y.square().sum() / places
    found = torch.einsum("goi,gij,goj->", parts, second, parts)
    assert_close(found, expected)
    kind = CONVS[x.ndim - 2][1]
    module = kind.from_dense(layer, "tucker", ranks=1, moments=moments.second())
    gap = float((module(x) - layer(x)).detach().square().sum())
    relative = (gap / float(y.square().sum())) ** 0.5
    assert abs(module.error - relative) <= 2e-3  # but for the ridge


@settings(max_examples=20)
@given(st.integers(1, 12), st.lists(st.integers(0, 11), min_size=1, max_size=30), st.booleans())
def test_moments_of_a_table_are_the_frequencies_of_its_rows(rows, indices, split):
    indices = torch.tensor([n % rows for n in indices])
    layer = drawn_as(nn.Embedding(rows, 6), rows)
    moments = moments_of(layer)
    for part in indices.split(2) if split else [indices[None]]:
        add_inputs(moments, layer, part)
    expected = torch.stack([(indices == n).double().mean() for n in range(rows)])
    assert_close(moments.second(), expected)
    dims = (3, 2), (4, 3)  # rows are padded, columns are not
    module = Embedding.from_dense(layer, dims=dims, ranks=1, moments=moments.second())
    gap = (module(indices) - layer(indices)).detach().square().sum()
    size = layer(indices).detach().square().sum()
    assert abs(module.error - float(gap / size) ** 0.5) <= 2e-3  # but for the ridge


@settings(max_examples=20)
@given(st.integers(1, 16), st.integers(1, 9), st.integers(1, 4), SEEDS)
def test_the_error_of_a_linear_layer_is_that_of_its_outputs(out, inn, rank, seed):
    layer, x = drawn_as(nn.Linear(inn, out, bias=False), seed), random(seed, 5, 4, inn)
    moments = moments_of(layer)
    add_inputs(moments, layer, x)
    for dims in (((4, 4), (3, 3)), ((out,), (3, 3)), None):
        module = Linear.from_dense(layer, "tt", dims, ranks=rank, moments=moments.second())
        gap = float((module(x) - layer(x)).detach().norm() / layer(x).detach().norm())
        assert abs(gap - module.error) <= 2e-3  # but for the ridge


def test_large_layers_have_factored_moments():
    def is_factored(layer, **how):
        return moments_of(layer, **how)._sketch is not None

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rows_module, "FULL", 5)
        assert is_factored(nn.Linear(6, 2))
        assert not is_factored(nn.Linear(5, 2))
        assert is_factored(nn.Linear(5, 2), factored=True)
        assert is_factored(nn.Conv1d(4, 4, 3, groups=2))
        assert not is_factored(nn.Conv1d(4, 4, 2, groups=2))
    assert moments_of(nn.Embedding(3, 2)).diagonal


def test_moments_of_a_model_stay_within_a_limit_of_memory():
    model = nn.Sequential(nn.Linear(64, 16), nn.Linear(16, 64), nn.Linear(64, 3))
    x = random(0, 40, 64).float()
    full = 8 * (64**2 + 16**2 + 64**2)
    for limit, kinds in ((full, [False] * 3), (full - 1, [True, False, False]), (0, [True] * 3)):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(places_module, "BYTES", limit)
            patch.setattr(rows_module, "RANK", 4)
            places = find_places(model)
            observe(model, places, [x], call)
        assert [place.moments._sketch is not None for place in places] == kinds
        for place in places:
            second = place.moments.second()
            if place.moments._sketch is not None:
                assert second.factor.shape[0] <= 5  # and the mean
                second = second.dense()
            assert second.shape == (place.layer.in_features,) * 2


@settings(max_examples=30)
@given(
    st.lists(st.integers(1, 9), min_size=1, max_size=5), st.integers(1, 6), st.integers(1, 3),
    st.integers(1, 30), st.booleans(), SEEDS,
)  # fmt: skip
def test_factored_moments_have_the_exact_diagonal_and_of_enough_rank_all(
    sizes, size, groups, rank, centered, seed
):
    """What is not in the factor is on the diagonal, which is exact; with rank, nothing is."""
    x = random(seed, sum(sizes), groups * size) + 0.7
    full, moments = Moments(size, groups), Moments(size, groups, rank=rank)
    for rows in x.split(sizes):
        full.add(rows)
        moments.add(rows)
    expected, found = full._second(centered), moments._second(centered)
    squares = expected.diagonal(dim1=-2, dim2=-1)
    assert_close(found.squares(), squares, scale=float(squares.norm()))
    assert float(found.diagonal.min()) >= 0
    if rank >= size:
        assert_close(found.dense(), expected, scale=float(squares.norm()))
    rest = expected - found.factor.mT @ found.factor  # the factor never has too much
    assert float(torch.linalg.eigvalsh(rest).min()) >= -1e-9 * float(squares.norm())


@settings(max_examples=30)
@given(st.integers(1, 12), st.integers(1, 6), st.integers(1, 2), st.booleans(), SEEDS)
def test_correlations_of_few_rows_are_shrunk_as_expected_to_be_best(n, size, groups, about, seed):
    x = random(seed, n, groups, size) * random(seed + 1, size) + 1.3
    full, factored = Moments(size, groups), Moments(size, groups, rank=20)
    for rows in x.split(5):
        full.add(rows.flatten(1))
        factored.add(rows.flatten(1))
    found, other = full.metric(about), factored.metric(about)
    other = other.dense()
    for group in range(groups):
        rows = x[:, group] - (x[:, group].mean(0) if about else 0)
        second = rows.T @ rows / n
        beside = ~torch.eye(size, dtype=torch.bool)
        each = sum((torch.outer(row, row) - second).square() for row in rows)[beside].sum() / n**2
        size_beside = second[beside].square().sum()
        share = float((each / size_beside).clamp(max=1)) if size_beside > 1e-20 else 0.0
        expected = torch.where(beside, (1 - share) * second, second)
        for one in (found, other):
            one = one[group] if groups > 1 else one
            assert_close(one, expected, scale=1e2 * float(second.norm()) + 1e-9)


def test_metrics_of_many_rows_are_their_moments_and_diagonals_stay():
    x = random(0, 4000, 5) @ random(1, 5, 5)
    gaps = []
    for rows in (40, 4000):
        moments = Moments(5)
        moments.add(x[:rows])
        gaps.append(float((moments.metric() - moments.second()).norm() / moments.second().norm()))
    assert 0 < 30 * gaps[1] < gaps[0] < 0.3  # as the inverse of their number
    diagonal = Moments(5, diagonal=True)
    diagonal.add(x[:3])
    assert torch.equal(diagonal.metric(), diagonal.second())


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors:UserWarning")
@settings(max_examples=10)
@given(st.integers(1, 4), SEEDS)
def test_nested_rows_count_once_and_padding_does_not(count, seed):
    layer = nn.Linear(3, 2)
    parts = [random(seed + n, n + 1, 3) for n in range(count)]
    moments, expected = moments_of(layer), moments_of(layer)
    add_inputs(moments, layer, torch.nested.nested_tensor(parts))
    expected.add(torch.cat(parts))
    assert moments.rows == expected.rows
    assert_close(moments.second(), expected.second())


# ---- the mean ------------------------------------------------------------------------------------


@settings(max_examples=20)
@given(
    st.integers(1, 9), st.integers(1, 9), st.sampled_from(["svd", "mpo", "tt", "ring", "tree"]),
    st.sampled_from(["none", "diagonal", "full"]), st.booleans(), SEEDS,
)  # fmt: skip
def test_with_a_mean_the_average_output_is_exact(out, inn, format, metric, single, seed):
    dtype = torch.float32 if single else torch.float64
    layer = drawn_as(nn.Linear(inn, out), seed).to(dtype)
    x = (random(seed, 7, inn) + 2 * random(seed + 1, inn)).to(dtype)
    moments = Moments(inn, diagonal=metric == "diagonal")
    moments.add(x)
    second = None if metric == "none" else moments.second()
    module = Linear.from_dense(layer, format, ranks=1, moments=second, mean=moments.first())
    average = layer(x).mean(0).detach()
    scale = float(average.norm()) + float(x.norm() * layer.weight.detach().norm())
    name = "float32" if single else "float64"
    assert_close(module(x).mean(0).detach(), average, name, ROUNDING / 10, scale)
    plain = Linear.from_dense(layer, format, ranks=1, moments=second)
    assert torch.equal(plain.bias, layer.bias)
    assert (module.bias is None) == (layer.bias is None)


@settings(max_examples=30)
@given(convolutions(), st.sampled_from(["tucker", "cp", "tt"]))
def test_with_a_mean_the_average_of_every_channel_is_exact(drawn, format):
    layer, x = drawn
    moments = moments_of(layer)
    add_inputs(moments, layer, x)
    kind = CONVS[x.ndim - 2][1]
    options = {"ranks": 1, "moments": moments.second(), "mean": moments.first()}
    module = kind.from_dense(layer, format, **options)
    axes = (0, *range(2, x.ndim))
    average = layer(x).mean(axes).detach()
    scale = float(average.norm() + layer.weight.detach().norm() * x.norm())
    assert_close(module(x).mean(axes).detach(), average, condition=ROUNDING, scale=scale)


@settings(max_examples=20)
@given(st.integers(1, 9), st.integers(2, 9), SEEDS)
def test_the_error_with_a_mean_is_that_of_what_varies(out, inn, seed):
    layer = drawn_as(nn.Linear(inn, out), seed)
    x = random(seed, 40, inn) + 5 * random(seed + 1, inn)
    moments = Moments(inn)
    moments.add(x)
    means = {"moments": moments.second(), "mean": moments.first()}
    module = Linear.from_dense(layer, "svd", ranks=1, **means)
    y, centered = layer(x).detach(), (layer(x) - layer(x).mean(0)).detach()
    gap = (module(x).detach() - y).norm() / centered.norm()
    assert abs(module.error - float(gap)) <= 2e-3  # but for the ridge
    plain = Linear.from_dense(layer, "svd", ranks=1, moments=moments.second())
    errors = [float((one(x) - y).detach().norm() / y.norm()) for one in (module, plain)]
    assert errors[0] <= errors[1] + 2e-3


@settings(max_examples=20)
@given(convolutions(), SEEDS)
def test_moments_themselves_tell_the_metric_and_the_mean(drawn, seed):
    conv, images = drawn
    linear, x = drawn_as(nn.Linear(7, 6), seed), random(seed, 9, 7) + 1.0
    for layer, inputs, format in ((linear, x, "mpo"), (conv, images, "tucker")):
        for rank in (None, 3):
            moments = moments_of(layer)
            moments = Moments(moments.size, moments.groups, rank=rank)
            add_inputs(moments, layer, inputs)
            module = Linear if layer is linear else CONVS[images.ndim - 2][1]
            found = module.from_dense(layer, format, ranks=2, moments=moments)
            metric = moments.metric(centered=True)
            metric = metric if rank is None else metric.dense()
            about = moments.first()
            outer = about[..., :, None] * about[..., None, :]
            given = module.from_dense(layer, format, ranks=2, moments=metric + outer, mean=about)
            assert abs(found.error - given.error) <= 1e-4
            assert found.bias is not None
            with pytest.raises(ValueError, match="mean is given, but moments know it"):
                module.from_dense(layer, format, ranks=2, moments=moments, mean=about)
    with pytest.raises(ValueError, match=r"moments are of 1 x 5 inputs, expected 1 x 7"):
        Linear.from_dense(linear, "svd", ranks=2, moments=Moments(5))
    factored = Moments(7, rank=2)
    factored.add(x)
    bare = drawn_as(nn.Linear(7, 6, bias=False), seed)
    assert Linear.from_dense(bare, "svd", ranks=2, moments=factored.second()).error < 1
    with pytest.raises(ValueError, match="factored, and cannot be centered; give Moments"):
        Linear.from_dense(linear, "svd", ranks=2, moments=factored.second(), mean=x.mean(0))


def test_a_layer_without_bias_has_no_use_for_a_mean():
    layer = nn.Linear(5, 4, bias=False)
    module = Linear.from_dense(layer, ranks=1, mean=torch.ones(5))
    plain = Linear.from_dense(layer, ranks=1)
    assert module.bias is None
    assert torch.equal(module.weight, plain.weight)


# ---- models --------------------------------------------------------------------------------------


def test_observing_counts_every_call_and_leaves_no_hooks():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.table, self.layer = nn.Embedding(6, 4), nn.Linear(4, 4)
            self.unused = nn.Linear(4, 4)

        def forward(self, x):
            return self.layer(input=torch.tanh(self.layer(self.table(x))))  # also by name

    model = Twice()
    places = find_places(model)
    batches = [torch.randint(6, (3, 5)), torch.randint(6, (2, 5))]
    assert observe(model, places, batches, call) == 2
    table, layer, unused = places
    assert (table.moments.rows, layer.moments.rows, unused.moments.rows) == (25, 50, 0)
    rows = torch.cat([batch.reshape(-1) for batch in batches])
    with torch.no_grad():
        first = model.table(rows)
        inputs = torch.cat([first, torch.tanh(model.layer(first))]).double()
    assert_close(layer.moments.second(), inputs.T @ inputs / len(inputs), "float32")
    assert_close(layer.moments.first(), inputs.mean(0), "float32", EXACT / 100)
    assert not any(module._forward_pre_hooks for module in model.modules())
    model.table.weight.data[:] = float("nan")
    with pytest.raises(ValueError, match=r"layer 'layer': inputs have values that are not finite"):
        observe(model, places, batches, call)
    assert not any(module._forward_pre_hooks for module in model.modules())
