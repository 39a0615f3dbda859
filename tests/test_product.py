"""The steps of an MPO-MPS product, against einsum, and their gradients."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ftnn.chains import product

SIZES = st.fixed_dictionaries(
    {name: st.integers(1, 4) for name in ("batch", "s", "xl", "xr", "wl", "wr", "inn", "out", "r")}
)


def draw(sizes, shared, dtype):
    """Environments, core, weight and sketched weight; one core for the batch if ``shared``."""
    n = sizes
    generator = torch.Generator().manual_seed(0)
    shapes = {
        "left": (n["batch"], n["s"], n["xl"] * n["wl"]),
        "right": (n["batch"], n["xr"] * n["wr"], n["r"]),
        "core": (1 if shared else n["batch"], n["xl"], n["inn"], n["xr"]),
        "weight": (n["wl"], n["out"], n["inn"], n["wr"]),
        "sketched": (1, n["s"], n["wl"] * n["inn"], n["wr"]),
    }
    return {
        name: torch.randn(shape, dtype=dtype, generator=generator, requires_grad=True)
        for name, shape in shapes.items()
    }


@given(SIZES, st.booleans(), st.sampled_from([torch.float64, torch.complex128]))
def test_extend_is_an_einsum_and_has_its_gradient(sizes, shared, dtype):
    x, n = draw(sizes, shared, dtype), sizes
    env = x["left"].reshape(n["batch"], n["s"], n["xl"], n["wl"])
    weight = x["sketched"].reshape(n["s"], n["wl"], n["inn"], n["wr"])
    core = x["core"].expand(n["batch"], -1, -1, -1)
    expected = torch.einsum("bsxw,bxiy,swiv->bsyv", env, core, weight).flatten(2)
    inputs = x["left"], x["core"], x["sketched"]
    torch.testing.assert_close(product.extend(*inputs), expected)
    arrays = (t.detach().numpy() for t in inputs)
    np.testing.assert_allclose(product.extend(*arrays), expected.detach().numpy(), atol=1e-12)
    assert_same_gradients(product.extend(*inputs), expected, inputs)


@given(SIZES, st.booleans(), st.sampled_from([torch.float64, torch.complex128]))
def test_absorb_is_an_einsum_and_has_its_gradient(sizes, shared, dtype):
    x, n = draw(sizes, shared, dtype), sizes
    env = x["right"].reshape(n["batch"], n["xr"], n["wr"], n["r"])
    core = x["core"].expand(n["batch"], -1, -1, -1)
    expected = torch.einsum("woiv,bxiy,byvr->bxwor", x["weight"], core, env).flatten(1, 2)
    inputs = x["weight"], x["core"], x["right"]
    torch.testing.assert_close(product.absorb(*inputs), expected)
    arrays = (t.detach().numpy() for t in inputs)
    np.testing.assert_allclose(product.absorb(*arrays), expected.detach().numpy(), atol=1e-12)
    assert_same_gradients(product.absorb(*inputs), expected, inputs)


def assert_same_gradients(output, expected, inputs):
    upstream = torch.randn(output.shape, dtype=output.dtype)
    ours = torch.autograd.grad(output, inputs, upstream)
    for a, b in zip(ours, torch.autograd.grad(expected, inputs, upstream), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("r", [1, 9])  # both ways to the gradient of the weight
def test_gradients_with_a_state_that_needs_none(r):
    sizes = {"batch": 2, "s": 3, "xl": 2, "xr": 3, "wl": 2, "wr": 2, "inn": 6, "out": 5, "r": r}
    x = draw(sizes, False, torch.float64)
    x["core"] = x["core"].detach()
    assert torch.autograd.gradcheck(product.extend, (x["left"], x["core"], x["sketched"]))
    assert torch.autograd.gradcheck(product.absorb, (x["weight"], x["core"], x["right"]))


def test_nothing_between_the_products_is_kept():
    sizes = {"batch": 7, "s": 4, "xl": 3, "xr": 3, "wl": 8, "wr": 8, "inn": 4, "out": 2, "r": 2}
    x, kept = draw(sizes, False, torch.float64), []
    with torch.autograd.graph.saved_tensors_hooks(kept.append, lambda tensor: tensor):
        product.extend(x["left"], x["core"], x["sketched"])
        product.absorb(x["weight"], x["core"], x["right"])
    assert {id(t) for t in kept} <= {id(t) for t in x.values()} or all(
        any(t.data_ptr() == own.data_ptr() for own in x.values()) for t in kept
    )
