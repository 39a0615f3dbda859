"""Laws of surgery on models: nothing is shared, the rest is unchanged, parameters are followed."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from laws import Chain, assert_close, dense

import ftnn
from ftnn.layers.surgery import duplicate, parameter_map, prolong, replace
from ftnn.nonlinear import KAN, CoreNorm, Dropout, Elementwise, Gated, Pointwise, RMSNorm

DIMS = (3, 2, 4)


def network(bond=2, max_bond=3, seed=0):
    inner = ftnn.Sequential(ftnn.Linear(DIMS, DIMS, bond, max_bond, seed=seed), RMSNorm())
    return ftnn.Sequential(
        Gated(DIMS, DIMS, bond, max_bond, seed=seed),
        ftnn.Residual(inner, max_bond, seed=seed),
        KAN(DIMS),
        ftnn.Readout(DIMS, 4, bond, seed=seed),
    )


def arrays_of(model):
    return {name: array.copy() for name, array in model.named_arrays().items()}


def assert_apart(first, second):
    """No array of one is in the memory of the other."""
    for a in first.named_arrays().values():
        for b in second.named_arrays().values():
            assert not np.shares_memory(a, b)
    kept = {id(layer) for _, layer in first.walk()}
    assert not any(id(layer) in kept for _, layer in second.walk())


def test_a_duplicate_is_equal_and_shares_nothing():
    model = network().train()
    twin, x = duplicate(model), Chain(3, DIMS, (2, 2), "generic", 0).mps()
    np.testing.assert_array_equal(twin(x), model(x))
    assert twin.training
    assert_apart(model, twin)
    dropout = Dropout(0.5)
    other = duplicate(dropout.train())
    np.testing.assert_array_equal(dense(dropout(x)), dense(other(x)))  # generators of their own


def test_a_duplicate_on_torch_leaves_the_graph_alone():
    torch = pytest.importorskip("torch")
    from ftnn.training import TorchModule

    module = TorchModule(network())
    twin = duplicate(module.model)
    assert not any(array.requires_grad for array in twin.named_arrays().values())
    for array in twin.params.values():
        array.zero_()
    assert all(bool(p.any()) for p in module.parameters() if p.ndim == 4 and p.shape[0] > 1)
    assert isinstance(next(module.parameters()), torch.nn.Parameter)


PATHS = {
    "0": lambda seed: Gated(DIMS, DIMS, 1, 3, seed=seed + 9),
    "1.layer.0": lambda seed: ftnn.Linear(DIMS, DIMS, 3, 2, seed=seed + 9),
    "1.layer": lambda seed: ftnn.Linear(DIMS, DIMS, 3, 2, seed=seed + 9),
    "2": lambda seed: Pointwise("tanh"),
    "3": lambda seed: ftnn.Readout(DIMS, 7, 3, seed=seed + 9),
}


@settings(max_examples=20)
@given(st.sampled_from(sorted(PATHS)), st.integers(0, 20), st.booleans())
def test_replace_changes_one_layer_and_no_other(path, seed, by_function):
    rng = np.random.default_rng(seed)
    model = network(seed=seed)
    model.set_arrays({k: rng.standard_normal(a.shape) for k, a in arrays_of(model).items()})
    before, new = arrays_of(model), PATHS[path](seed)
    where = (lambda m: dict((p.rstrip("."), v) for p, v in m.walk())[path]) if by_function else path
    other = replace(model, where, new)
    for name, array in model.named_arrays().items():
        np.testing.assert_array_equal(array, before[name])
    assert_apart(model, other)
    assert_apart(new, other)
    inside = {f"{path}.{name}" for name in new.named_arrays()}
    assert other.named_arrays().keys() == inside | {
        name for name in before if not name.startswith(f"{path}.")
    }
    for name, array in other.named_arrays().items():
        if name in inside:
            np.testing.assert_array_equal(array, new.named_arrays()[name[len(path) + 1 :]])
        else:
            np.testing.assert_array_equal(array, before[name])
    # back again, the model is what it was
    again = replace(other, path, dict((p.rstrip("."), v) for p, v in model.walk())[path])
    x = Chain(2, DIMS, (2, 2), "generic", seed).mps()
    np.testing.assert_array_equal(again(x), model(x))


def test_replace_keeps_settings_and_takes_functions():
    model = network()
    model.recompute = True
    other = replace(model.train(), "0", lambda old: Gated(DIMS, DIMS, 5, old.max_bond))
    assert (other.recompute, other.training, other.layers[0].bond_dim) == (True, True, 5)
    whole = replace(model, "", RMSNorm())
    assert isinstance(whole, RMSNorm)


@pytest.mark.parametrize(
    ("where", "new", "error", "words"),
    [
        ("4", RMSNorm(), ValueError, "where is '4', but the model has the layers '0', '1'"),
        (lambda m: RMSNorm(), RMSNorm(), ValueError, "which is not a layer of the model"),
        ("0", "RMSNorm", TypeError, "is not callable"),
        ("0", lambda old: 3, TypeError, "new is a int, expected a Layer"),
        ("0", ftnn.Linear(DIMS, (2, 2, 2), 1, 1), ValueError, "takes phys_dims"),
        ("0", ftnn.Readout(DIMS, 2, 2), ValueError, "it must be the last layer"),
        ("1.layer", ftnn.Linear(DIMS, (2, 2, 2), 1, 1), ValueError, "a residual needs the same"),
    ],
)
def test_what_does_not_fit_is_refused(where, new, error, words):
    with pytest.raises(error, match=words):
        replace(network(), where, new)


@settings(max_examples=20)
@given(st.integers(1, 4), st.integers(1, 6), st.integers(0, 9))
def test_the_map_of_parameters_carries_a_model_over(bond, larger, seed):
    """Zero elsewhere, the larger bond holds the same operators."""
    old, new = network(bond, 6, seed), network(bond + larger, 6, seed + 1)
    before = old.named_params()
    blocks = parameter_map(old, new)
    assert {block.name for block in blocks.values()} == before.keys()
    for name, block in blocks.items():
        array = np.zeros_like(new.named_params()[name])
        array[block.target] = before[block.name][block.source]
        new.set_arrays({name: array})
    omegas = {name: a for name, a in old.named_buffers().items()}
    assert omegas.keys() == new.named_buffers().keys()
    new.set_arrays(omegas)
    x = Chain(3, DIMS, (2, 2), "generic", seed).mps()
    assert_close(new(x), old(x), condition=1e6)


def test_the_map_follows_layers_that_moved_and_parameters_that_shrank():
    old = network()
    new = ftnn.Sequential(RMSNorm(), *duplicate(old).layers)
    blocks = parameter_map(old, new, {str(n + 1): str(n) for n in range(4)})
    assert blocks["1.A.0"].name == "0.A.0"
    assert blocks["2.layer.0.weight.1"].name == "1.layer.0.weight.1"
    assert len(blocks) == len(old.named_params())
    small, large = (ftnn.Linear((3, 3), (3, 3), d, 4, bias=False) for d in (2, 5))
    block = parameter_map(large, small)["weight.0"]
    assert block.source == block.target == tuple(slice(0, n) for n in (1, 3, 3, 2))
    assert parameter_map(CoreNorm(), small) == {}
    swapped = parameter_map(small, small, {"weight.0": "weight.1"})
    assert swapped["weight.0"].name == "weight.1"


@settings(max_examples=15)
@given(st.integers(0, 4), st.integers(0, 9), st.booleans())
def test_new_sites_are_identities(more, seed, nested):
    """On x times a product state y, the layers act on x and leave y as it is."""
    dims = (2, 2, 2)
    layer = ftnn.Linear(dims, dims, 3, 8, bias=False, seed=seed)
    model = ftnn.Sequential(ftnn.Sequential(layer)) if nested else layer
    before = arrays_of(model)
    longer = prolong(model, 3 + more)
    x = Chain(2, dims, (2, 2), "generic", seed)
    y = np.random.default_rng(seed).standard_normal((2, 1, 2, 1))
    z = ftnn.MPS([*x.cores(), *[y] * more])
    expected = dense(model.apply(tuple(x.cores())))
    for _ in range(more):
        expected = np.einsum("bi,bj->bij", expected, y[:, 0, :, 0]).reshape(2, -1)
    assert_close(longer(z).to_dense(), expected, condition=1e5)
    for name, array in model.named_arrays().items():
        np.testing.assert_array_equal(array, before[name])
    assert_apart(model, longer)


@settings(max_examples=10, deadline=None)
@given(st.integers(1, 3), st.integers(0, 9))
def test_shortcuts_and_functions_of_entries_are_prolonged(more, seed):
    """On x times a product of ones, every point of a cell has the output of the cell."""
    dims, inner = (2, 2, 2), (4, 2, 2)
    model = ftnn.Sequential(
        ftnn.Residual(
            ftnn.Sequential(
                ftnn.Linear(dims, inner, 2, [4, 2], seed=seed),
                Elementwise("sin", max_bond=4),
                ftnn.nonlinear.Gated(inner, inner, 2, [4, 2], seed=seed),
                ftnn.Linear(inner, dims, 2, [2, 2], bias=False, seed=seed + 1),
            ),
            [2, 2],
            shortcut=ftnn.Linear(dims, dims, 2, [2, 2], bias=False, seed=seed + 2),
        )
    )
    longer = prolong(model, 3 + more)
    assert longer.layers[0].max_bond == (2,) * (2 + more)
    x = Chain(2, dims, (2, 2), "generic", seed)
    z = ftnn.MPS([*x.cores(), *[np.ones((2, 1, 2, 1))] * more])
    expected = np.repeat(dense(model.apply(tuple(x.cores()))), 2**more, axis=1)
    assert_close(longer(z).to_dense(), expected, condition=1e6)


def test_what_cannot_be_prolonged_is_named():
    with pytest.raises(ValueError, match=r"Linear maps \(2, 2\) to \(3, 3\)"):
        prolong(ftnn.Linear((2, 2), (3, 3), 1, 1), 4)
    with pytest.raises(TypeError, match="has a Readout"):
        prolong(ftnn.Readout((2, 2), 3, 1), 4)
