"""Laws of freeze and thaw: frozen arrays are not trained, wherever the model goes."""

import numpy as np
import pytest
import torch
from growth_laws import arrays_of, assert_apart, assert_same_function, assert_unchanged, networks
from hypothesis import given, settings
from hypothesis import strategies as st

import ftnn
from ftnn import growth
from ftnn.growth import freeze, thaw
from ftnn.layers.surgery import parameter_map, replace
from ftnn.training import TorchModule, TrainConfig, Trainer, TrainingData

DIMS = (4, 4)


def network():
    return ftnn.Sequential(
        ftnn.Linear(DIMS, DIMS, 2, 4),
        ftnn.Residual(ftnn.Linear(DIMS, DIMS, 2, 4, seed=1), 4),
        ftnn.nonlinear.RMSNorm(),
        ftnn.Readout(DIMS, 3, 3),
    )


@settings(max_examples=20)
@given(networks(), st.data())
def test_any_array_can_be_frozen_and_thawed(case, data):
    model, chain = case
    before = arrays_of(model)
    names = data.draw(st.lists(st.sampled_from(sorted(model.named_params())), min_size=1))
    frozen = freeze(model, names)
    assert_unchanged(model, before)
    assert_apart(model, frozen)
    assert frozen.named_params().keys() == model.named_params().keys() - set(names)
    assert frozen.named_buffers().keys() == model.named_buffers().keys() | set(names)
    assert frozen.num_params() == model.num_params()
    assert_same_function(frozen, model, chain)
    assert thaw(frozen, names).named_params().keys() == model.named_params().keys()
    assert frozen.named_params().keys() == model.named_params().keys() - set(names)


PLACES = {
    "0": {"0.weight.0", "0.weight.1", "0.bias.0", "0.bias.1"},
    "0.weight": {"0.weight.0", "0.weight.1"},
    "0.weight.1": {"0.weight.1"},
    "1": {"1.layer.weight.0", "1.layer.weight.1", "1.layer.bias.0", "1.layer.bias.1"},
    "3": {"3.weight.0", "3.weight.1"},
}


@pytest.mark.parametrize("place", PLACES)
def test_places(place):
    model = network()
    assert model.named_params().keys() - freeze(model, place).named_params().keys() == PLACES[place]
    assert freeze(model, "").named_params() == {}
    assert thaw(freeze(model, "")).named_params().keys() == model.named_params().keys()
    function = freeze(model, lambda m: m.layers[3])
    assert function.layers[3].frozen == {"weight.0", "weight.1"}
    some = thaw(freeze(model, ""), place)
    assert some.named_params().keys() == PLACES[place]


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_the_trainer_leaves_frozen_arrays_alone(tmp_path, optimizer):
    rng = np.random.default_rng(0)
    images, labels = rng.standard_normal((48, 4, 4)), rng.integers(0, 3, 48)
    data = TrainingData(images[:32], labels[:32], images[32:], labels[32:])
    model = freeze(network().to("numpy", "float32"), ["0.weight.1", "1", "3.weight.0"])
    before = arrays_of(model)
    config = TrainConfig(
        epochs=2, batch_size=16, lr=0.05, weight_decay=0.5, optimizer=optimizer, threads=1
    )
    encoder = ftnn.encoding.AmplitudeEncoder((4, 4))
    trainer = Trainer(model, encoder, config, tmp_path / "run", quiet=True)
    result = trainer.fit(data)
    loaded = ftnn.load(result.model_path)
    assert loaded.named_params().keys() == model.named_params().keys()
    after = arrays_of(loaded)
    still = {name for name in before if np.array_equal(before[name], after[name])}
    assert still == model.named_buffers().keys()


def test_files_copies_and_moves_keep_what_is_frozen(tmp_path):
    model = freeze(network(), ["0.weight.1", "1"])
    names = model.named_params().keys()
    ftnn.save(model, tmp_path / "model.safetensors")
    loaded = ftnn.load(tmp_path / "model.safetensors")
    assert loaded.named_params().keys() == names
    for name, array in loaded.named_arrays().items():
        np.testing.assert_array_equal(array, model.named_arrays()[name])
    moved = freeze(network(), ["0.weight.1", "1"]).to("torch", "float32").to("numpy")
    assert moved.named_params().keys() == names
    other = replace(model, "3", ftnn.Readout(DIMS, 5, 2))
    assert other.named_params().keys() == names
    assert parameter_map(model, model).keys() == names


def test_a_file_that_freezes_what_is_not_there(tmp_path):
    model = network()
    model.layers[3].frozen = frozenset({"weight.7"})
    ftnn.save(model, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match=r"Readout has no array 'weight.7', which is said to be"):
        ftnn.load(tmp_path / "model.safetensors")


def test_a_module_has_no_parameters_for_them():
    module = TorchModule(freeze(network(), "0"))
    names = {name for name, _ in module.named_parameters()}
    assert not any(name.startswith("0:") for name in names)
    assert {"0:weight:0", "0:omega:0"} <= {name for name, _ in module.named_buffers()}
    assert module.names_of(ftnn.Linear) == PLACES["1"]
    x = ftnn.MPS.from_dense(torch.ones(2, 16, dtype=torch.float64), DIMS)
    module(x).sum().backward()
    assert all(p.grad is not None for p in module.parameters())
    assert not module.model.layers[0].params["weight.0"].requires_grad
    # parameters of an old module that did train it do not leak into the new one
    again = TorchModule(thaw(module.model, "0"))
    assert len(list(again.parameters())) == 10


@pytest.mark.parametrize(
    ("where", "error", "words"),
    [
        ("9", ValueError, r"where is '9', but the model has no parameters there; it has '0.weight"),
        ("2", ValueError, "has no parameters there"),
        ("0.weight.3", ValueError, "has no parameters there"),
        ("0.omega", ValueError, "has no parameters there"),
        (None, TypeError, "where is None, expected the dotted path"),
        ([], TypeError, r"where is \[\], expected"),
    ],
)
@pytest.mark.parametrize("operation", [freeze, thaw])
def test_unknown_places(operation, where, error, words):
    with pytest.raises(error, match=words):
        operation(network(), where)


def test_arrays_that_keep_their_shapes_stay_frozen():
    model = freeze(network(), ["0.bias", "1.layer.bias.0", "3.weight.1"])
    assert growth.inflate(model, 3, where="0").layers[0].frozen == {"bias.0", "bias.1"}
    deeper = growth.deepen(model, growth.identity(DIMS, max_bond=4), "1.layer")
    assert deeper.layers[1].children["layer"].layers[0].frozen == {"bias.0"}
    assert deeper.layers[3].frozen == {"weight.1"}
