"""What is wrong is refused early, with the name of the argument and what it got."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from ftnn.tensorized import Conv1d, Conv2d, Embedding, Linear, plan, tensorize
from ftnn.tensorized.dims import BALANCED, MOST_PADDING, factors

NAN, INF = float("nan"), float("inf")


def linear(out=6, inn=8, bias=True, fill=None):
    layer = nn.Linear(inn, out, bias)
    if fill is not None:
        layer.weight.data[0, 0] = fill
    return layer


def conv(groups=1):
    return nn.Conv2d(4, 6, 3, groups=groups)


def model():
    return nn.Sequential(nn.Linear(16, 24), nn.ReLU(), nn.Linear(24, 16))


def of(kind, layer, *args, **options):
    return lambda: kind.from_dense(layer(), *args, **options)


def batches(value=1.0):
    return [torch.full((4, 16), value)]


EYE = torch.eye(8)

REFUSED = {
    # weights
    "complex": (of(Linear, lambda: nn.Linear(4, 4, dtype=torch.complex64)), TypeError, "complex64"),
    "complex kernel": (
        of(Conv1d, lambda: nn.Conv1d(4, 4, 2, dtype=torch.complex64)), TypeError, "complex64",
    ),
    "nan": (of(Linear, lambda: linear(fill=NAN)), ValueError, "weight .* not finite"),
    "infinite": (of(Linear, lambda: linear(fill=-INF)), ValueError, "weight .* not finite"),
    "no linear": (of(Linear, conv), TypeError, "layer is Conv2d, expected torch.nn.Linear"),
    "no conv": (of(Conv2d, lambda: nn.Conv1d(4, 4, 2)), TypeError, "layer is Conv1d"),
    "transposed": (
        of(Conv2d, lambda: nn.ConvTranspose2d(4, 4, 2)), TypeError, "layer is ConvTranspose2d",
    ),
    "no table": (of(Embedding, linear), TypeError, "layer is Linear"),
    "clipped": (
        of(Embedding, lambda: nn.Embedding(4, 4, max_norm=1.0)), ValueError, "max_norm is 1.0",
    ),
    # formats, dims
    "format": (of(Linear, linear, "tucker"), ValueError, "format is 'tucker', expected one of svd"),
    "format of a conv": (of(Conv2d, conv, "svd"), ValueError, "format is 'svd', expected one of"),
    "format of a table": (
        lambda: Embedding(5, 5, "svd"), ValueError, "format is 'svd', expected one of mpo",
    ),
    "small dims": (
        of(Linear, linear, "mpo", ((2, 2), (4, 2))), ValueError,
        r"out_dims \(2, 2\) multiply to 4, .* at least 6",
    ),
    "small in dims": (
        lambda: Linear(9, 6, "mpo", ((3, 2), (4, 2))), ValueError, r"in_dims \(4, 2\) multiply to 8"
    ),
    "zero dims": (
        lambda: Linear(8, 6, "mpo", ((6, 0), (4, 2))), ValueError, r"out_dims \(6, 0\)",
    ),
    "negative dims": (
        lambda: Linear(8, 6, "mpo", ((-3, -2), (4, 2))), ValueError, r"out_dims \(-3, -2\)",
    ),
    "broken dims": (
        lambda: Linear(8, 6, "mpo", ((1.5, 4), (4, 2))), ValueError, r"out_dims \(1.5, 4\)",
    ),
    "no dims": (lambda: Linear(1, 1, "mpo", ((), ())), ValueError, r"out_dims \(\)"),
    "unequal dims": (
        lambda: Linear(8, 6, "mpo", ((6,), (4, 2))), ValueError, "give as many of each",
    ),
    "unequal table": (
        lambda: Embedding(8, 6, dims=((6,), (4, 2))), ValueError, "as many factors of columns",
    ),
    "svd dims": (
        lambda: Linear(8, 6, "svd", ((3, 2), (4, 2))), ValueError, "'svd' has one factor of each",
    ),
    "small conv dims": (
        of(Conv2d, conv, "mpo", ((3, 1), (2, 2))), ValueError,
        r"out_dims \(3, 1\) multiply to 3, .* at least 6",
    ),
    "small channels": (
        of(Conv2d, lambda: conv(2), "tt", ((3,), (1,))), ValueError, r"in_dims \(1,\) multiply to 1"
    ),
    "unequal conv dims": (
        of(Conv2d, conv, "mpo", ((6,), (2, 2))), ValueError, "'mpo' has an output and an input on",
    ),
    # ranks, params, rtol
    "rank 0": (lambda: Linear(8, 6, "mpo", ranks=0), ValueError, "rank of r0 is 0, .* >= 1"),
    "rank -1": (of(Linear, linear, "tt", ranks=-1), ValueError, "rank of r0 is -1"),
    "rank true": (of(Linear, linear, "mpo", ranks=True), ValueError, "rank of r0 is True"),
    "broken ranks": (of(Linear, linear, "tt", ranks=(2, 1.5, 2)), ValueError, "rank of r1 is 1.5"),
    "broken rank": (of(Linear, linear, "tt", ranks=2.5), ValueError, "rank of r0 is 2.5"),
    "few ranks": (of(Linear, linear, "tt", ranks=(2, 2)), ValueError, "are 2, expected 3"),
    "other ranks": (
        of(Linear, linear, "mpo", ranks={"r7": 2}), ValueError, r"name \['r7'\], expected \['r0'\]",
    ),
    "rank of a conv": (lambda: Conv2d(4, 4, 3, ranks=0), ValueError, "rank of r0 is 0"),
    "two sizes": (
        of(Linear, linear, ranks=2, params=90), ValueError, "ranks and params are given; choose",
    ),
    "three sizes": (
        of(Conv2d, conv, ranks=2, params=90, rtol=0.1), ValueError, "ranks and params and rtol",
    ),
    "few params": (of(Linear, linear, "svd", params=13), ValueError, "params is 13, .* have 14"),
    "no params": (of(Linear, linear, "svd", params=0), ValueError, "params is 0"),
    "rtol": (of(Linear, linear, rtol=1.0), ValueError, "rtol is 1.0"),
    "negative rtol": (of(Linear, linear, rtol=-0.1), ValueError, "rtol is -0.1"),
    "rtol nan": (of(Linear, linear, rtol=NAN), ValueError, "rtol is nan"),
    # moments, means
    "moments": (
        of(Linear, linear, moments=torch.eye(7)), ValueError,
        r"moments have shape \(7, 7\), expected \(8, 8\), or their diagonal \(8,\)",
    ),
    "list of moments": (of(Linear, linear, moments=[1.0] * 8), TypeError, "moments are list"),
    "complex moments": (of(Linear, linear, moments=EYE * 1j), TypeError, "moments are .*complex64"),
    "list as mean": (of(Linear, linear, mean=[1.0] * 8), TypeError, "mean is list"),
    "moments of rows": (of(Linear, linear, moments=torch.ones(3, 8)), ValueError, r"\(3, 8\)"),
    "moments of one": (of(Linear, linear, moments=torch.tensor(1.0)), ValueError, r"shape \(\)"),
    "moments of no group": (
        of(Conv2d, lambda: conv(2), moments=torch.eye(18)), ValueError, r"expected \(2, 18, 18\)",
    ),
    "moments of a table": (
        of(Embedding, lambda: nn.Embedding(5, 3), moments=torch.ones(3)), ValueError, r"\(3,\)",
    ),
    "nan moments": (of(Linear, linear, moments=EYE * NAN), ValueError, "moments .* not finite"),
    "negative": (of(Linear, linear, moments=-torch.ones(8)), ValueError, "negative squares"),
    "negative diagonal": (of(Linear, linear, moments=-EYE), ValueError, "negative squares"),
    "lopsided": (
        of(Linear, linear, moments=EYE + torch.ones(8, 8).triu(1)), ValueError,
        r"moments are not symmetric: .* differ by up to 1, .* \(moments \+ moments.mT\) / 2",
    ),
    "lopsided group": (
        of(Conv2d, lambda: conv(2), moments=torch.eye(18) + torch.ones(2, 18, 18).triu(1)),
        ValueError, "moments are not symmetric",
    ),
    "impossible": (
        of(Linear, linear, moments=EYE + 2 * torch.ones(8, 8)[::1] * (1 - EYE)), ValueError,
        "moments have products of inputs that are larger than their squares allow",
    ),
    "mean": (
        of(Linear, linear, moments=EYE, mean=torch.ones(6)), ValueError,
        r"mean has shape \(6,\), expected \(8,\)",
    ),
    "mean of groups": (
        of(Conv2d, lambda: conv(2), mean=torch.ones(36)), ValueError, r"expected \(2, 18\)",
    ),
    "nan mean": (of(Linear, linear, mean=torch.full((8,), NAN)), ValueError, "mean .* not finite"),
    # inputs
    "features": (lambda: Linear(8, 6)(torch.ones(2, 7)), ValueError, r"\(2, 7\), expected \(..., "),
    "no axes": (lambda: Linear(8, 6)(torch.tensor(1.0)), ValueError, r"shape \(\)"),
    "channels": (
        lambda: Conv2d(4, 4, 3)(torch.ones(1, 3, 9, 9)), ValueError, r"expected \(batch, 4, size",
    ),
    "axes": (lambda: Conv2d(4, 4, 3)(torch.ones(4, 9)), ValueError, r"\(4, 9\), expected \(batch,"),
    "row": (lambda: Embedding(7, 4)(torch.tensor([7])), IndexError, "to 7, expected 0 to 6"),
    "negative row": (lambda: Embedding(7, 4)(torch.tensor([-1])), IndexError, "rows are from -1"),
    "plan": (lambda: plan(Linear(8, 6), 0), ValueError, "batch is 0"),
    "plan of a conv": (lambda: plan(Conv2d(4, 4, 3), 8), ValueError, r"expected the shape"),
    # models
    "no model": (lambda: tensorize(str, params=0.5), TypeError, "model is type, expected a torch"),
    "function": (lambda: tensorize(lambda x: x, params=0.5), TypeError, "model is function"),
    "no layers": (
        lambda: tensorize(nn.Sequential(nn.ReLU(), nn.BatchNorm1d(3)), params=0.5), ValueError,
        "the model has no layer to tensorize, expected Linear",
    ),
    "skipped": (
        lambda: tensorize(model(), params=0.5, skip=("0", "2")), ValueError,
        "no layer .* not skipped",
    ),
    "a layer": (
        lambda: tensorize(nn.Linear(16, 16), params=0.5), ValueError, "the model itself: use from_d"
    ),
    "no budget": (lambda: tensorize(model()), ValueError, "none of params, ratio and max_error is"),
    "two budgets": (
        lambda: tensorize(model(), params=0.5, ratio=2), ValueError, "params and ratio are given",
    ),
    "all budgets": (
        lambda: tensorize(model(), params=0.5, ratio=2, max_error=0.1), ValueError,
        "params and ratio and max_error are given",
    ),
    "params 0": (lambda: tensorize(model(), params=0), ValueError, "params is 0"),
    "params < 0": (lambda: tensorize(model(), params=-0.5), ValueError, "params is -0.5"),
    "params nan": (lambda: tensorize(model(), params=NAN), ValueError, "params is nan"),
    "ratio 1": (lambda: tensorize(model(), ratio=1), ValueError, "ratio is 1"),
    "ratio nan": (lambda: tensorize(model(), ratio=NAN), ValueError, "ratio is nan"),
    "error 0": (lambda: tensorize(model(), batches(), max_error=0), ValueError, "max_error is 0"),
    "error 1": (lambda: tensorize(model(), batches(), max_error=1.0), ValueError, "max_error is 1"),
    "error nan": (lambda: tensorize(model(), batches(), max_error=NAN), ValueError, "is nan"),
    "error of nothing": (
        lambda: tensorize(model(), max_error=0.1), ValueError, "max_error needs calibration",
    ),
    "no batches": (
        lambda: tensorize(model(), [], params=0.5), ValueError, "the calibration set is empty",
    ),
    "no more batches": (
        lambda: tensorize(model(), iter(()), params=0.5), ValueError, "calibration set is empty",
    ),
    "nan batches": (
        lambda: tensorize(model(), batches(NAN), params=0.5), ValueError,
        "layer '0': inputs have values that are not finite",
    ),
    "infinite batches": (
        lambda: tensorize(model(), batches(INF), params=0.5), ValueError, "layer '0': inputs",
    ),
    "nan between": (
        lambda: tensorize(nn.Sequential(model(), Blow(), nn.Linear(16, 4)), batches(), params=0.5),
        ValueError, "layer '2': inputs have values that are not finite",
    ),
    "nan weights": (
        lambda: tensorize(nn.Sequential(linear(16, 16, fill=NAN)), params=0.5), ValueError,
        "the weight of '0' has values that are not finite",
    ),
    "format of a model": (
        lambda: tensorize(model(), params=0.5, formats="best"), ValueError, "formats has 'best'",
    ),
    "formats of a model": (
        lambda: tensorize(model(), params=0.5, formats=("svd", "auto")), ValueError, "has 'auto'",
    ),
    "name": (
        lambda: tensorize(model(), params=0.5, skip=("head",)), ValueError,
        "skip has 'head', but the model has no module of this name",
    ),
    "unmeetable": (
        lambda: tensorize(model(), batches(), params=3), ValueError,
        "the budget is 3 parameters, but the smallest that can be met is .* 40 of them in what",
    ),
    "unmeetable ratio": (
        lambda: tensorize(model(), ratio=1e9), ValueError, "the budget is 0 parameters, but",
    ),
    "formats of no layer": (
        lambda: tensorize(model(), params=0.5, formats=("tucker",)), ValueError,
        "the budget is 404 parameters, but the smallest that can be met is 808",
    ),
}  # fmt: skip


class Blow(nn.Module):
    """Values that are not finite come from within."""

    def forward(self, x):
        return x / 0.0 * 0.0


@pytest.mark.parametrize("name", list(REFUSED))
def test_what_is_wrong_is_refused(name):
    make, error, message = REFUSED[name]
    with pytest.raises(error, match=message):
        make()


@settings(max_examples=100)
@given(st.integers(1, 600), st.integers(1, 4))
def test_factors_are_ordered_and_hold_a_number_with_little_padding(number, count):
    found = factors(number, count)
    assert len(found) == count
    assert list(found) == sorted(found, reverse=True)
    product = 1
    for factor in found:
        assert factor >= 1
        product *= factor
    assert number <= product <= max(int(number * MOST_PADDING), number + 2)
    if count == 2:  # as equal as any within the padding, or equal enough
        padded = range(number, max(int(number * MOST_PADDING), number + 2) + 1)
        ratios = [
            (n // d) / d for n in padded for d in range(1, n + 1) if n % d == 0 and d * d <= n
        ]
        assert found[0] / found[1] <= max(BALANCED, min(ratios))
