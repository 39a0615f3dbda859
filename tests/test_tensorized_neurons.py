"""Laws of the order of hidden neurons: the function stays, and chains fit better."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from laws import assert_close
from torch import nn

from ftnn.tensorized import Tensorizer, heal, load, save, tensorize
from ftnn.tensorized.neurons import hidden, leaves, order_of, permute

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


def call(model, x):
    return model(x)


def linear_layers(model):
    return [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]


def test_hidden_neurons_have_only_functions_of_single_neurons_behind_them():
    shared = nn.Linear(4, 4)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = nn.Sequential(
            nn.Flatten(),
            nn.Linear(4, 4),
            nn.Sequential(nn.Tanh(), nn.Sequential(nn.Dropout(), nn.Linear(4, 4))),
            nn.Linear(4, 4),
            nn.LayerNorm(4),
            nn.Linear(4, 4),
            nn.Softmax(-1),  # of all neurons alike, though not of single ones
            nn.Linear(4, 4),
            shared,
            shared,
            nn.Linear(4, 4),
            nn.BatchNorm1d(4),
            nn.Linear(4, 4),
            nn.GELU(),
            nn.Linear(4, 4),
            nn.Flatten(0),
            nn.Unflatten(0, (-1, 4)),
            nn.Linear(4, 4),
            nn.MaxPool1d(2),
            nn.Linear(2, 4),
        ).double()
        nn.init.uniform_(model[4].weight)
        nn.init.uniform_(model[11].weight)
    x, before = random(0, 50, 4), copy.deepcopy(model.state_dict())
    names = [name for name in linear_layers(model) if name not in ("8", "9")]
    expected = [("1", "2.1.1"), ("2.1.1", "3"), ("5", "7"), ("12", "14"), ("14", "17")]
    assert hidden(model.eval(), names, x, call) == expected
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])
    nn.init.zeros_(model[1].bias)
    assert hidden(model, ["1", "2.1.1"], 0 * x, call) == []  # tells no order from another


class Block(nn.Module):
    """A block as transformers have it: normalized, gated if wanted, with a residual."""

    def __init__(self, gated, width=6, neurons=24):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.gate = nn.Linear(width, neurons) if gated else None
        self.up, self.down = nn.Linear(width, neurons), nn.Linear(neurons, width)
        self.seen = False

    def forward(self, x):
        y = self.norm(x)
        h = self.up(y)
        h = nn.functional.gelu(h) if self.gate is None else nn.functional.silu(self.gate(y)) * h
        found = x + self.down(h)
        return found + h[..., : found.shape[-1]] if self.seen else found


@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_blocks_of_any_code_have_hidden_neurons(gated, dtype):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(Block(gated), Block(gated)).to(dtype).eval()
    x = random(1, 7, 5, 6).to(dtype)
    makers = ["up", "gate"] if gated else ["up"]
    expected = [(*(f"{n}.{name}" for name in makers), f"{n}.down") for n in range(2)]
    assert hidden(model, linear_layers(model), x, call) == expected
    found = Tensorizer(model, [x]).tensorize(ratio=1.1).model
    assert list(found.neuron_orders) == expected
    changed = copy.deepcopy(model)
    for names, order in found.neuron_orders.items():
        permute(changed, names, order)
    assert not torch.equal(changed[0].up.weight, model[0].up.weight)
    assert_close(changed(x).detach(), model(x).detach(), str(dtype).removeprefix("torch."))
    model[0].seen = True  # something else sees the neurons, too
    assert hidden(model, linear_layers(model), x, call) == expected[1:]


def test_layers_with_hooks_and_shared_layers_keep_their_neurons():
    hooked, shared = clustered(), nn.Linear(32, 32).double()
    x = random(3, 400, 16)
    hooked[0].register_forward_hook(lambda *_: None)
    assert not Tensorizer(hooked, [x]).tensorize(ratio=1.01).model.neuron_orders
    model = nn.Sequential(*clustered(), shared, nn.ReLU(), shared).eval()
    assert list(Tensorizer(model, [x]).tensorize(ratio=1.01).model.neuron_orders) == [("0", "3")]


def test_a_saved_model_keeps_its_order_for_healing(tmp_path):
    model, x = clustered(), random(3, 400, 16)
    found = tensorize(model, [x], ratio=8, formats=("mpo",))
    save(found.model, tmp_path / "model.safetensors")
    loaded = load(model, tmp_path / "model.safetensors")
    assert heal(loaded, model, [x]).errors == heal(found, model, [x]).errors


@settings(max_examples=20)
@given(st.integers(1, 9), st.integers(1, 9), st.booleans(), SEEDS)
def test_neurons_in_another_order_make_the_same_function(neurons, inputs, bias, seed):
    model = nn.Sequential(nn.Linear(inputs, neurons, bias), nn.Tanh(), nn.Linear(neurons, 3))
    model = model.double()
    x = random(seed, 5, inputs)
    expected = model(x).detach()
    order = torch.randperm(neurons, generator=torch.Generator().manual_seed(seed))
    before = model[0].weight.detach().clone()
    permute(model, ("0", "2"), order)
    assert torch.equal(model[0].weight, before[order])
    assert_close(model(x).detach(), expected)


@settings(max_examples=20)
@given(st.integers(1, 12), SEEDS)
def test_an_order_has_every_neuron_once_and_joins_those_that_are_alike(neurons, seed):
    x = random(seed, 40, 5)
    first = random(seed + 1, neurons, 5)
    first = torch.cat([first, first])[torch.randperm(2 * neurons)]  # everyone has a twin
    y = (x @ first.T).tanh()
    order = order_of([(first, x.T @ x / 40)], y.T @ y / 40)
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
        permute(changed, names, order)
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
        permute(ordered, names, order)
    plain.neuron_orders = {}
    assert heal(plain, ordered, [x]).errors == healed.errors  # as of a teacher of the same order
    assert heal(plain, model, [x]).errors["3"] > healed.errors["3"]


def test_an_order_is_wanted_or_not():
    with pytest.raises(TypeError, match="order is 3, expected True or False"):
        tensorize(clustered(), [random(3, 40, 16)], ratio=2, order=3)
