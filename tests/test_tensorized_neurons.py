"""Laws of the order of hidden neurons: the function stays, and chains fit better."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from laws import assert_close
from torch import nn

from ftnn.tensorized import Tensorizer, heal, tensorize
from ftnn.tensorized.neurons import leaves, order_of, pairs, permute

SEEDS = st.integers(0, 99)


def random(seed, *shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.double)


def clustered(neurons=64, inputs=16, kinds=4, seed=0):
    """A network whose hidden neurons are of few kinds, in no order."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = nn.Sequential(
            nn.Linear(inputs, neurons), nn.ReLU(), nn.Dropout(), nn.Linear(neurons, 32)
        ).double()
    with torch.no_grad():
        mixed = torch.randperm(neurons, generator=torch.Generator().manual_seed(seed)) % kinds
        prototypes, bias = random(seed, kinds, inputs), random(seed + 1, kinds)
        model[0].weight.copy_(prototypes[mixed] + 0.05 * random(seed + 2, neurons, inputs))
        model[0].bias.copy_(bias[mixed])
    return model.eval()


def test_pairs_have_nothing_but_functions_of_single_neurons_between_them():
    shared, relu = nn.Linear(4, 4), nn.ReLU()
    hooked = nn.Linear(4, 4)
    hooked.register_forward_hook(lambda *_: None)
    seen = nn.ReLU()
    seen.register_forward_pre_hook(lambda *_: None)
    model = nn.Sequential(
        nn.Flatten(),
        nn.Linear(4, 4),
        nn.Sequential(nn.Tanh(), nn.Sequential(nn.Dropout(), nn.Linear(4, 4))),
        nn.Linear(4, 4),
        nn.Softmax(-1),
        nn.Linear(4, 4),
        relu,
        nn.Linear(4, 4),
        shared,
        shared,
        nn.Linear(4, 4),
        hooked,
        nn.BatchNorm1d(4),
        nn.Linear(4, 4),
        nn.GELU(),
        nn.Linear(4, 4),
        seen,
        nn.Linear(4, 4),
    )
    expected = [("1", "2.1.1"), ("2.1.1", "3"), ("5", "7"), ("13", "15")]
    assert list(pairs(model)) == expected
    assert list(pairs(nn.ModuleDict({"a": model}))) == [
        (f"a.{first}", f"a.{second}") for first, second in expected
    ]
    assert not list(pairs(nn.Sequential(nn.Linear(4, 4), relu, nn.Conv1d(4, 4, 1))))


@settings(max_examples=20)
@given(st.integers(1, 9), st.integers(1, 9), st.booleans(), SEEDS)
def test_neurons_in_another_order_make_the_same_function(neurons, inputs, bias, seed):
    model = nn.Sequential(nn.Linear(inputs, neurons, bias), nn.Tanh(), nn.Linear(neurons, 3))
    model = model.double()
    x = random(seed, 5, inputs)
    expected = model(x).detach()
    order = torch.randperm(neurons, generator=torch.Generator().manual_seed(seed))
    before = model[0].weight.detach().clone()
    permute(model, "0", "2", order)
    assert torch.equal(model[0].weight, before[order])
    assert_close(model(x).detach(), expected)


@settings(max_examples=20)
@given(st.integers(1, 12), SEEDS)
def test_an_order_has_every_neuron_once_and_joins_those_that_are_alike(neurons, seed):
    x = random(seed, 40, 5)
    first = random(seed + 1, neurons, 5)
    first = torch.cat([first, first])[torch.randperm(2 * neurons)]  # everyone has a twin
    y = (x @ first.T).tanh()
    order = order_of(first, x.T @ x / 40, y.T @ y / 40)
    assert sorted(order.tolist()) == list(range(2 * neurons))
    found = first[order]
    assert_close(found[::2], found[1::2])


def test_one_neuron_has_one_order():
    assert leaves(random(0, 1, 1).numpy()).tolist() == [0]


@pytest.mark.parametrize("format", ["mpo", "tt"])
def test_ordered_neurons_are_fitted_better_and_the_given_model_stays(format):
    model = clustered()
    before = copy.deepcopy(model.state_dict())
    x = random(3, 400, 16)
    plain, found = (
        tensorize(model, [x], ratio=4, formats=(format,), order=order) for order in (False, True)
    )
    assert found.error < 0.8 * plain.error
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])


@pytest.mark.parametrize("skip", ["0", "3", "4"])
def test_neurons_beside_a_layer_that_is_skipped_have_an_order_too(skip):
    model = nn.Sequential(*clustered(), nn.Linear(32, 2).double())
    x = random(3, 400, 16)
    model = model.eval()
    found = Tensorizer(model, [x], skip=skip).tensorize(ratio=1.01).model
    assert set(found.neuron_orders) == {("0", "3"), ("3", "4")}
    changed = copy.deepcopy(model)
    for names, order in found.neuron_orders.items():
        permute(changed, *names, order)
    assert torch.equal(found.get_submodule(skip).weight, changed.get_submodule(skip).weight)
    assert_close(changed(x).detach(), model(x).detach())
    if skip == "4":
        plain, better = (
            tensorize(model, [x], ratio=3, formats=("mpo",), skip=skip, order=order).error
            for order in (False, True)
        )
        assert better < plain
    with_both = Tensorizer(model, [x], skip=("0", "3")).tensorize(ratio=1.01).model
    assert set(with_both.neuron_orders) == {("3", "4")}  # nothing to gain between two dense layers


def test_healing_knows_the_order():
    model, x = clustered(), random(3, 400, 16)
    found = tensorize(model, [x], ratio=8, formats=("mpo",))
    assert found.model.neuron_orders
    healed = heal(found, model, [x])
    assert healed.errors["3"] < healed.errors["start"]
    given = heal(found.model, model, [x])  # without the report, too
    assert given.errors == healed.errors
    ordered, plain = copy.deepcopy(model), copy.deepcopy(found.model)
    for names, order in plain.neuron_orders.items():
        permute(ordered, *names, order)
    plain.neuron_orders = {}
    assert heal(plain, ordered, [x]).errors == healed.errors  # as of a teacher of the same order
    assert heal(plain, model, [x]).errors["3"] > healed.errors["3"]


def test_an_order_is_wanted_or_not():
    with pytest.raises(TypeError, match="order is 3, expected True or False"):
        tensorize(clustered(), [random(3, 40, 16)], ratio=2, order=3)
