"""Growth as a whole: operations one after another, files, and the public names."""

import numpy as np
import pytest
from growth_laws import REAL, assert_close, gradients, make_network
from hypothesis import given, settings
from hypothesis import strategies as st
from laws import Chain
from test_growth_insert_sites import with_constants

import ftnn
from ftnn import growth
from ftnn.layers.surgery import parameter_map
from ftnn.training import TorchModule

DIMS = (2, 3, 2)
OPERATIONS = ("inflate", "widen", "insert", "deepen", "freeze", "merge")


def grown(model, x, operations, seed):
    """Apply operations; return the model and its input."""
    rng = np.random.default_rng(seed)
    for n, operation in enumerate(operations):
        first = model.layers[0]
        match operation:
            case "inflate":
                bond = max(first.operators()["weight"], key=lambda c: c.shape[3]).shape[3]
                model = growth.inflate(model, bond_dim=bond + 1, where="0", seed=n)
            case "widen":
                model = growth.widen(model, max(first.out_dims) + 1, where="0", seed=n)
            case "insert":
                position = int(rng.integers(0, x.L))
                model = growth.insert_sites(model, position, 2, seed=n)
                x = with_constants(x, position, (2,))
            case "deepen":
                layer = growth.identity(first.out_dims, 2, gauge=first, seed=n)
                model = growth.deepen(model, layer, after="0")
            case "freeze":
                model = growth.thaw(growth.freeze(model, "0"), "0")
            case "merge":
                layer = growth.identity(first.in_dims, 2, max_bond=64, seed=n)
                model = ftnn.Sequential(layer, *model.layers)
                model = growth.merge(model, "0", "1")
    return model, x


@settings(max_examples=40)
@given(
    st.lists(st.sampled_from(REAL), min_size=1, max_size=2),
    st.lists(st.sampled_from(OPERATIONS), min_size=2, max_size=4),
    st.integers(0, 99),
)
def test_operations_follow_each_other(kinds, operations, seed):
    model = make_network(kinds, DIMS, 2, 4, seed)
    x = Chain(3, DIMS, (2, 2), "generic", seed).mps()
    larger, z = grown(model, x, operations, seed)
    assert_close(larger(z), model(x))


@pytest.mark.parametrize("operation", OPERATIONS)
def test_files_hold_what_has_grown(tmp_path, operation):
    model = make_network(["pointwise", "rms", "layer-norm", "kan", "residual"], DIMS, 2, 4, 1)
    x = Chain(3, DIMS, (2, 2), "generic", 0).mps()
    larger, z = grown(model, x, [operation] * 2, 0)
    if operation == "freeze":
        larger = growth.freeze(larger, "0")
    ftnn.save(larger, tmp_path / "model.safetensors")
    loaded = ftnn.load(tmp_path / "model.safetensors")
    np.testing.assert_array_equal(loaded(z), larger(z))
    assert loaded.named_params().keys() == larger.named_params().keys()
    assert repr(loaded) == repr(larger)
    pruned = growth.prune(growth.thaw(loaded), z, rtol=0.1).model
    ftnn.save(pruned, tmp_path / "pruned.safetensors")
    np.testing.assert_array_equal(ftnn.load(tmp_path / "pruned.safetensors")(z), pruned(z))


@pytest.mark.parametrize("operation", ["inflate", "widen", "insert", "deepen"])
def test_models_that_are_being_trained_grow(operation):
    """Parameters of a TorchModule: the new model has its own, and no gradient graph."""
    import torch

    model = make_network(["rms", "residual"], DIMS, 2, 4, 1).to("numpy", "float32")
    x = Chain(3, DIMS, (2, 2), "generic", 0).mps("float32")
    module = TorchModule(model)
    y = module(x.to("torch"))
    larger, _ = grown(module.model, x, [operation], 0)
    assert not any(array.requires_grad for array in larger.named_arrays().values())
    assert {str(array.dtype) for array in larger.named_arrays().values()} == {"torch.float32"}
    old = {id(p) for p in module.parameters()}
    other = TorchModule(larger)
    assert not old & {id(p) for p in other.parameters()}
    with torch.no_grad():
        for p in other.parameters():
            p.zero_()
    torch.testing.assert_close(module(x.to("torch")), y)


def test_every_operation_can_be_given_a_growing_optimizer():
    """Moments of Adam follow the blocks of old entries."""
    import torch

    from ftnn.training.transfer import check_blocks, transfer_optimizer

    model = make_network(["rms"], DIMS, 2, 4, 1)
    chain = Chain(4, DIMS, (2, 2), "generic", 0)
    old = TorchModule(model)
    optimizer = torch.optim.Adam(old.parameters(), 1e-2)
    (old(chain.mps(backend="torch")) ** 2).sum().backward()
    optimizer.step()
    layer = growth.identity((3, 4, 3), 2, gauge=old.model.layers[0])
    for larger, paths in (
        (growth.inflate(old.model, 5), {}),
        (growth.widen(old.model, 6), {}),
        (growth.deepen(old.model, layer, "0"), growth.deepened_paths(old.model, "0")),
        (growth.insert_sites(old.model, 1, 2), growth.inserted_paths(old.model, 1)),
    ):
        blocks = parameter_map(old.model, larger, paths)
        new = TorchModule(larger)
        named = [
            {name.replace(":", "."): p for name, p in module.named_parameters()}
            for module in (old, new)
        ]
        check_blocks(blocks, *named)
        target = torch.optim.Adam(new.parameters(), 1e-2)
        transfer_optimizer(blocks, *named, optimizer, target)
        for name, block in blocks.items():
            moment = target.state[named[1][name]]["exp_avg"]
            before = optimizer.state[named[0][block.name]]["exp_avg"]
            assert torch.equal(moment[block.target], before[block.source])
            sizes = [float(x.abs().sum()) for x in (moment, before)]
            assert sizes[0] == pytest.approx(sizes[1])
            assert sizes[1] > 0


def test_seeds_repeat_and_differ():
    model = make_network([], DIMS, 2, 4, 1)
    first, same, other = (growth.inflate(model, 4, seed=seed) for seed in (1, 1, 2))
    for name, array in first.named_params().items():
        np.testing.assert_array_equal(array, same.named_params()[name])
    assert not np.array_equal(
        first.named_params()["0.weight.1"], other.named_params()["0.weight.1"]
    )
    second = growth.inflate(make_network([], (3, 3, 3, 3), 2, 4, 1), 5).layers[0].params
    assert not np.array_equal(second["weight.1"][:2, :, :, 2:], second["weight.2"][:2, :, :, 2:])


def test_public_names():
    assert set(growth.__all__) >= {
        "inflate",
        "widen",
        "insert_sites",
        "deepen",
        "freeze",
        "thaw",
        "prune",
        "merge",
    }
    assert ftnn.growth is growth
    assert "growth" in dir(ftnn)
    assert all(getattr(growth, name).__doc__ for name in growth.__all__)


def test_gradients_do_not_explode():
    model = make_network(["residual", "rms"], DIMS, 2, 4, 1)
    larger, _ = grown(model, Chain(3, DIMS, (2, 2), "generic", 0).mps(), ["inflate", "widen"], 0)
    grads = gradients(larger, Chain(3, DIMS, (2, 2), "repeated", 0))
    assert all(np.isfinite(g).all() for g in grads.values())
