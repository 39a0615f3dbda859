"""Laws of models whose layers become networks: budgets hold, the rest is as it was."""

import copy
import importlib
import itertools
import math
import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from laws import assert_close
from torch import nn
from torch.nn.utils.prune import l1_unstructured

import ftnn
from ftnn.tensorized import Conv1d, Conv2d, Embedding, Linear, Tensorizer, tensorize
from ftnn.tensorized.budget import Choice, hull, spend
from ftnn.tensorized.module import TensorizedModule
from ftnn.tensorized.neurons import permute
from ftnn.tensorized.places import call, find_places, observe, put_layer

SAME = 1e2
"""The same weights, contracted in another order."""


def size(model):
    return sum(parameter.numel() for parameter in model.parameters())


def seeded(make, seed=0):
    """A model of torch's own initialization, which repeats."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return make()


def random(seed, *shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def low_rank(model, rank=2):
    """Give linear layers weights of a low rank: far fewer parameters lose nothing."""
    for n, layer in enumerate(model.modules()):
        if isinstance(layer, nn.Linear):
            out, inn = layer.weight.shape
            weight = random(n, out, rank) @ random(n + 50, rank, inn)
            layer.weight.data = weight / (rank * inn) ** 0.5
    return model


def output(model, x):
    with torch.no_grad():
        return model(x).double()


def check_report(found, model, original):
    """What the result says of itself is so."""
    assert found.dense_params == size(original)
    assert found.params == size(found.model)
    original = copy.deepcopy(original)
    for names, neurons in found.model.neuron_orders.items():
        permute(original, names, neurons)
    modules = dict(found.model.named_modules())
    before = dict(original.named_modules())
    for row in found.rows:
        layer, dense = modules[row.name], before[row.name]
        assert row.kind == type(dense).__name__
        assert row.dense_params == dense.weight.numel()
        if row.format == "dense":
            assert not isinstance(layer, TensorizedModule)
            assert torch.equal(layer.weight, dense.weight)
            assert row.params == row.dense_params
        else:
            assert (layer.format, layer.ranks) == (row.format, row.ranks)
            assert sum(core.numel() for core in layer.cores) == row.params < row.dense_params
            assert abs(layer.error - row.error) < 1e-12
    kept = sum(row.dense_params - row.params for row in found.rows)
    assert found.params == found.dense_params - kept
    lines = str(found).splitlines()
    few = sum(bool(row.ranks and row.remark) for row in found.rows)
    assert len(lines) == len(found.rows) + 2 + few
    assert f"{found.params:,} of {found.dense_params:,}" in lines[-1]


# ---- budgets -------------------------------------------------------------------------------------


CHOICES = st.lists(
    st.lists(
        st.builds(Choice, st.integers(1, 30), st.integers(0, 20).map(lambda n: n / 16)),
        min_size=1,
        max_size=5,
    ),
    min_size=1,
    max_size=4,
)


@settings(max_examples=200)
@given(CHOICES, st.integers(0, 130))
def test_a_budget_is_spent_as_well_as_by_all_combinations(layers, params):
    least = sum(min(own).params for own in layers)
    if params < least:
        with pytest.raises(ValueError, match=f"have {least} parameters, more than {params}"):
            spend(layers, params)
        return
    chosen = spend(layers, params)
    picked = [own[n] for own, n in zip(layers, chosen, strict=True)]
    assert sum(choice.params for choice in picked) <= params
    error = sum(choice.error for choice in picked)
    best = min(
        sum(choice.error for choice in every)
        for every in itertools.product(*layers)
        if sum(choice.params for choice in every) <= params
    )
    assert abs(error - best) <= 1e-12
    with pytest.MonkeyPatch.context() as patch:  # of budgets in few parts, sizes are rounded up
        patch.setattr(importlib.import_module("ftnn.tensorized.budget"), "UNITS", 5)
        rough = [own[n] for own, n in zip(layers, spend(layers, params), strict=True)]
    assert sum(choice.params for choice in rough) <= params
    assert sum(choice.error for choice in rough) >= best - 1e-12


@settings(max_examples=100)
@given(CHOICES, st.integers(0, 60))
def test_budgets_from_the_least_to_the_largest(layers, first):
    """What was not spent was not needed; the ends are the smallest and the best of all."""
    least = sum(min(own).params for own in layers)
    chosen = spend(layers, least + first)
    spent = sum(own[n].params for own, n in zip(layers, chosen, strict=True))
    error = sum(own[n].error for own, n in zip(layers, chosen, strict=True))
    again = spend(layers, spent)
    assert sum(own[n].error for own, n in zip(layers, again, strict=True)) <= error + 1e-12
    everything = spend(layers, 10**6)
    lowest = sum(min(choice.error for choice in own) for own in layers)
    assert sum(own[n].error for own, n in zip(layers, everything, strict=True)) == lowest
    smallest = spend(layers, least)
    assert sum(own[n].params for own, n in zip(layers, smallest, strict=True)) == least


@settings(max_examples=200)
@given(CHOICES.map(lambda layers: [choice for own in layers for choice in own]))
def test_the_hull_has_what_no_mixture_beats(choices):
    kept = [choices[n] for n in hull(choices)]
    assert kept[0] == min(choices)
    assert min(choice.error for choice in choices) == kept[-1].error
    for before, after in itertools.pairwise(kept):
        assert before.params < after.params
        assert before.error > after.error
    gains = [(a.error - b.error) / (b.params - a.params) for a, b in itertools.pairwise(kept)]
    assert all(a > b for a, b in itertools.pairwise(gains))  # steps gain less and less
    for choice in choices:  # and none is below
        if choice.params <= kept[-1].params:
            last = max(n for n, one in enumerate(kept) if one.params <= choice.params)
            least = kept[last].error
            if last + 1 < len(kept):
                least -= gains[last] * (choice.params - kept[last].params)
            assert choice.error >= least - 1e-12


@settings(max_examples=12)
@given(st.floats(0.05, 0.95), st.sampled_from(["params", "number", "ratio"]), st.booleans())
def test_the_budget_of_a_model_is_kept(share, how, calibrated):
    model = seeded(lambda: nn.Sequential(nn.Linear(16, 24), nn.ReLU(), nn.Linear(24, 8)))
    total = size(model)
    wanted = {"params": {"params": share}, "number": {"params": max(2, int(share * total))},
              "ratio": {"ratio": 1 / share}}[how]  # fmt: skip
    calibration = [random(1, 40, 16)] if calibrated else None
    try:
        found = tensorize(model, calibration, formats=("svd", "mpo"), **wanted)
    except ValueError as error:
        least = int(re.search(r"can be met is (\d+)", str(error))[1])
        assert least > share * total - 1
        found = tensorize(model, calibration, formats=("svd", "mpo"), params=least)
        assert found.params == least  # the nearest that it names can be met
        with pytest.raises(ValueError, match=f"the smallest that can be met is {least}"):
            tensorize(model, calibration, formats=("svd", "mpo"), params=least - 1)
    else:
        assert found.params <= share * total + 1e-6
    check_report(found, model, model)
    assert math.isnan(found.error) == (not calibrated)


@settings(max_examples=8)
@given(st.sampled_from([0.9, 0.5, 0.2, 0.03, 1e-3]), st.integers(0, 9))
def test_the_error_that_is_allowed_is_met(max_error, seed):
    def make():
        return nn.Sequential(nn.Linear(16, 24), nn.Tanh(), nn.Linear(24, 8), nn.Linear(8, 16))

    model, x = seeded(make, seed), random(seed, 50, 16)
    found = tensorize(model, [x[:30], x[30:]], max_error=max_error, formats=("svd", "mpo"))
    error = (output(found.model, x) - output(model, x)).norm() / output(model, x).norm()
    assert found.error <= max_error
    assert abs(found.error - float(error)) <= 1e-5
    check_report(found, model, model)


def test_what_is_of_low_rank_costs_little():
    model = low_rank(nn.Sequential(nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 32)))
    found = tensorize(model, [random(1, 100, 32)], max_error=1e-2, formats=("svd",))
    assert found.params <= 2 * (32 * 2 * 2 + 32)
    assert found.error <= 1e-3
    assert [row.ranks for row in found.rows] == [(2,), (2,)]


def test_the_errors_of_a_row_are_those_of_its_outputs_and_of_the_model_with_it_alone():
    model = seeded(lambda: nn.Sequential(*(nn.Linear(16, 16, bias=False) for _ in range(3))))
    x = random(1, 20_000, 16) * 10 ** random(2, 16)  # far from a metric of the identity
    found = tensorize(model, [x], params=0.5, formats=("svd",), order=False)
    assert all(row.format == "svd" for row in found.rows)
    for n, row in enumerate(found.rows):
        given = output(model[:n], x).float()
        expected = output(model[n], given)
        gap = (output(found.model[n], given) - expected).norm() / expected.norm()
        assert abs(row.error - float(gap)) <= 2e-3  # but for the ridge
        alone = copy.deepcopy(model)
        alone[n] = found.model[n]
        gap = (output(alone, x) - output(model, x)).norm() / output(model, x).norm()
        assert abs(row.output_error - float(gap)) <= 1e-4
    found = tensorize(model, params=0.5, formats=("svd",))
    for n, row in enumerate(found.rows):
        weight = model[n].weight.detach()
        gap = (found.model[n].weight.detach() - weight).norm() / weight.norm()
        assert abs(row.error - float(gap)) <= 1e-5


def test_a_mean_of_the_inputs_is_made_up_for_by_biases():
    """On inputs far from zero, biases take what rank 1 would."""
    model = seeded(lambda: nn.Sequential(nn.Linear(12, 20)))
    x = random(1, 60, 12) + 20 * random(2, 12)
    found = tensorize(model, [x], params=80)
    gap = (output(found.model, x) - output(model, x)).mean(0)
    assert float(gap.norm()) <= 1e-4 * float(output(model, x).mean(0).norm())


# ---- models --------------------------------------------------------------------------------------


class Normalized(nn.Module):
    """Layers without bias: before a normalization of their own, a shared one, and none."""

    def __init__(self):
        super().__init__()
        self.own, self.norm = nn.Conv2d(2, 12, 3, bias=False), nn.BatchNorm2d(12)
        self.first, self.second = (nn.Linear(12, 12, bias=False) for _ in range(2))
        self.shared, self.last = nn.BatchNorm1d(12), nn.Linear(12, 12, bias=False)

    def forward(self, x):
        x = self.norm(self.own(x)).mean((2, 3))
        return self.last(self.shared(self.first(x)) + self.shared(self.second(x)))


def test_a_mean_of_the_inputs_is_made_up_for_by_normalizations():
    model = seeded(Normalized).eval()
    x = random(1, 60, 2, 5, 5).float() + 3.0
    before = {name: value.clone() for name, value in model.state_dict().items()}
    found = tensorize(model, [x], ratio=3)
    assert {row.name for row in found.rows if row.format != "dense"} >= {"own", "first"}
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])
    changed = dict(found.model.named_buffers())
    for name in ("shared.running_mean", "norm.running_var", "shared.running_var"):
        assert torch.equal(changed[name], before[name])
    with torch.no_grad():
        means = [one.norm(one.own(x)).mean((0, 2, 3)) for one in (model, found.model)]
        raw = [one.own(x).mean((0, 2, 3)) for one in (model, found.model)]
    assert_close(means[1], means[0], "float32", scale=float(raw[0].norm()))
    assert float((raw[1] - raw[0]).norm()) > 1e-2  # which the convolution itself does not keep


def test_a_layer_that_is_only_tried_leaves_the_normalization_as_it_was():
    model = seeded(Normalized).eval()
    x = random(1, 60, 2, 5, 5).float() + 3.0
    places = find_places(model)
    observe(model, places, [x], call)
    (own,) = (place for place in places if place.names == ("own",))
    assert own.norms == ("norm",)
    assert not any(place.norms for place in places if place is not own)
    before, mean = model.own, model.norm.running_mean.clone()
    back = put_layer(model, own, Conv2d.from_dense(model.own, "tucker", ranks=1))
    assert not torch.equal(model.norm.running_mean, mean)
    back()
    assert model.own is before
    assert torch.equal(model.norm.running_mean, mean)


def test_fits_that_are_kept_meet_budget_after_budget():
    model = seeded(lambda: nn.Sequential(nn.Linear(24, 30), nn.Tanh(), nn.Linear(30, 9)))
    batches = [random(1, 200, 24).float()]
    tensorizer = Tensorizer(model, batches)
    for ratio in (1.5, 6, 3):
        found = tensorizer.tensorize(ratio=ratio)
        assert ratio * found.params <= found.dense_params
        first = tensorize(model, batches, ratio=ratio)
        assert (found.rows, found.error) == (first.rows, first.error)  # whatever was before


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(13, 16, padding_idx=0)
        self.attend = nn.MultiheadAttention(16, 2, batch_first=True)
        self.head = nn.Linear(16, 16)

    def forward(self, x):
        x = self.embed(x)
        return self.head(x + self.attend(x, x, x)[0])


class Twice(nn.Module):
    """A layer that is called twice, and has two names; a table that is tied to the head."""

    def __init__(self):
        super().__init__()
        self.table, self.layer, self.head = nn.Embedding(11, 16), nn.Linear(16, 16), None
        self.again = nn.ModuleDict({"same": self.layer})
        self.head = nn.Linear(16, 11, bias=False)
        self.head.weight = self.table.weight

    def forward(self, x):
        x = torch.relu(self.layer(self.table(x)))
        return self.head(torch.relu(self.again["same"](x)))


class Conv1D(nn.Module):
    """As in Hugging Face's transformers: the weight is (in, out)."""

    def __init__(self, nf, nx):
        super().__init__()
        self.nf = nf
        self.weight, self.bias = nn.Parameter(torch.randn(nx, nf)), nn.Parameter(torch.randn(nf))

    def forward(self, x):
        return torch.addmm(self.bias, x.reshape(-1, x.shape[-1]), self.weight).reshape(
            *x.shape[:-1], self.nf
        )


def images():
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding="same", padding_mode="reflect"),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, stride=2, dilation=2, groups=2),
        nn.Flatten(),
        nn.Dropout(0.5),
        nn.Linear(8 * 2 * 2, 5),
    )


MODELS = {
    "sequences of vectors": (
        lambda: nn.Sequential(nn.Linear(16, 24), nn.GELU(), nn.Linear(24, 16)),
        lambda: random(1, 4, 5, 16),
    ),
    "images": (images, lambda: random(1, 6, 3, 8, 8)),
    "signals": (
        lambda: nn.Sequential(nn.Conv1d(4, 6, 5, stride=2), nn.ReLU(), nn.Conv1d(6, 9, 3)),
        lambda: random(1, 3, 4, 21),
    ),
    "volumes": (
        lambda: nn.Sequential(nn.Conv3d(2, 6, 3, padding=1), nn.ReLU(), nn.Conv3d(6, 4, 2)),
        lambda: random(1, 2, 2, 4, 4, 4),
    ),
    "attention": (Attention, lambda: torch.randint(13, (3, 6))),
    "encoder": (
        lambda: nn.TransformerEncoder(nn.TransformerEncoderLayer(16, 2, 32, batch_first=True), 2),
        lambda: random(1, 3, 6, 16),
    ),
    "encoder with time first": (
        lambda: nn.TransformerEncoderLayer(16, 4, 32, norm_first=True),
        lambda: random(1, 6, 3, 16),
    ),
    "transposed": (
        lambda: nn.Sequential(Conv1D(24, 16), nn.GELU(), Conv1D(8, 24)),
        lambda: random(1, 4, 5, 16),
    ),
    "twice": (Twice, lambda: torch.randint(11, (4, 5))),
    "recurrent": (
        lambda: nn.Sequential(nn.Linear(6, 12), First(nn.GRU(12, 8)), nn.Linear(8, 16)),
        lambda: random(1, 5, 2, 6),
    ),
}


class First(nn.Module):
    """The first output of a module."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        return self.inner(x)[0]


@pytest.fixture(params=MODELS)
def drawn(request):
    make, inputs = MODELS[request.param]
    return seeded(lambda: (make(), inputs()))


ENCODERS = pytest.mark.filterwarnings(
    "ignore:enable_nested_tensor is True:UserWarning",
    "ignore:The PyTorch API of nested tensors:UserWarning",
)


@ENCODERS
def test_the_given_model_is_as_it_was_and_the_copy_runs(drawn):
    model, x = drawn
    model.train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    kinds = [type(module) for module in model.modules()]
    found = tensorize(model, [x], params=0.85)
    check_report(found, model, model)
    assert found.params <= 0.85 * size(model)
    assert any(isinstance(module, TensorizedModule) for module in found.model.modules())
    assert [type(module) for module in model.modules()] == kinds
    assert model.state_dict().keys() == before.keys()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(module.training for module in model.modules())
    assert all(module.training for module in found.model.modules())
    assert not any(module._forward_pre_hooks for module in model.modules())
    assert not any(module._forward_pre_hooks for module in found.model.modules())
    shared = {id(p) for p in model.parameters()} & {id(p) for p in found.model.parameters()}
    assert not shared
    memory = {p.data_ptr() for p in model.parameters()}
    assert not memory & {p.data_ptr() for p in found.model.parameters()}
    found.model.eval()
    expected = output(copy.deepcopy(model).eval(), x)
    gap = (output(found.model, x) - expected).norm() / expected.norm()
    assert abs(found.error - float(gap)) <= 1e-4
    found.model.train()(x).square().sum().backward()
    for name, parameter in found.model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all()
    assert tensorize(model.eval(), [x], params=0.85).model.training is False


@ENCODERS
def test_exact_layers_leave_a_model_as_it_is_in_train_and_eval(drawn):
    """Every layer replaced by cores of full rank, as ``tensorize`` puts them in."""
    model, x = drawn
    model.eval()
    new = copy.deepcopy(model)
    for place in find_places(new):
        if place.reason:
            continue
        layer = place.kind.from_dense(place.layer)
        for name in place.names:
            parent, _, own = name.rpartition(".")
            setattr(new.get_submodule(parent), own, layer)
    assert any(isinstance(module, TensorizedModule) for module in new.modules())
    scale = float(output(model, x).norm())
    for gradients in (False, True):  # encoders of torch have a fast path of their own
        with torch.set_grad_enabled(gradients):
            y, expected = new(x), model(x)
        assert y.shape == expected.shape
        assert_close(y.detach(), expected.detach(), "float32", SAME, scale)
    with torch.no_grad():
        new.train(), model.train()
        ys = []
        for one in (new, model):
            torch.manual_seed(3)  # of dropout
            ys.append(one(x))
    assert_close(*ys, "float32", SAME, scale)
    state = copy.deepcopy(new.state_dict())
    new.load_state_dict(state)


def test_a_large_budget_changes_little():
    """With low ranks inside, budgets that hold them lose nothing: train and eval agree."""
    for make, inputs in (MODELS["sequences of vectors"], MODELS["encoder with time first"]):
        model, x = seeded(lambda make=make, inputs=inputs: (low_rank(make()).eval(), inputs()))
        found = tensorize(model, [x], params=0.9, formats=("svd",))
        assert found.error <= 1e-4
        assert_close(output(found.model, x), output(model, x), "float32", 1e3)
        with torch.enable_grad():
            y = found.model(x)
        assert_close(y.detach().double(), output(model, x), "float32", 1e3)


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors:UserWarning")
def test_encoders_are_observed_without_the_padding_of_their_masks():
    def make():
        return nn.TransformerEncoder(nn.TransformerEncoderLayer(16, 2, 32, batch_first=True), 1)

    model, x = seeded(make).eval(), random(1, 4, 5, 16)
    mask = torch.zeros(4, 5, dtype=torch.bool)
    mask[0, 3:] = True
    found = tensorize(
        model,
        [{"src": x, "src_key_padding_mask": mask}],
        params=0.8,
        formats=("svd", "mpo"),
    )
    with torch.no_grad():
        y = found.model(x, src_key_padding_mask=mask)
        expected = model(x, src_key_padding_mask=mask)
    assert abs(float((y - expected).norm() / expected.norm()) - found.error) <= 1e-4


def test_one_layer_under_two_names_stays_one():
    model = seeded(Twice)
    x = torch.randint(11, (4, 5))
    found = tensorize(model, [x], params=0.6)
    new = found.model
    assert isinstance(new.layer, Linear)
    assert new.again["same"] is new.layer
    assert new.head.weight is new.table.weight
    rows = {row.name: row for row in found.rows}
    assert set(rows) == {"table", "layer", "head"}
    assert rows["table"].remark == rows["head"].remark == "weight tied to another layer"
    assert not rows["layer"].remark


def test_two_modules_that_share_a_layer_share_its_cores():
    inner = seeded(lambda: nn.Sequential(nn.Linear(16, 16), nn.ReLU()))
    model = nn.ModuleDict({"a": inner, "b": inner, "c": nn.Sequential(inner, nn.Linear(16, 16))})
    found = tensorize(model, [random(0, 9, 16)], params=0.5, forward=lambda m, x: m["c"](m["a"](x)))
    new = found.model
    assert new["a"] is new["b"] is new["c"][0]
    assert isinstance(new["a"][0], Linear)
    assert [row.name for row in found.rows] == ["a.0", "c.1"]
    assert found.params == size(new) <= 0.5 * size(model)


@pytest.mark.parametrize("skip", [("0",), ("2", "0"), ("body",), ("body.0",)])
def test_what_is_skipped_stays_dense(skip):
    def make():
        model = nn.Sequential(nn.Linear(16, 24), nn.ReLU(), nn.Linear(24, 16))
        model.add_module("body", nn.Sequential(nn.Linear(16, 16), nn.Linear(16, 16)))
        return model.append(nn.Linear(16, 16))

    model = seeded(make)
    found = tensorize(model, [random(0, 30, 16)], params=0.8, skip=skip)
    for row in found.rows:
        if any(row.name == name or row.name.startswith(name + ".") for name in skip):
            assert (row.format, row.remark) == ("dense", "skipped")
        else:
            assert row.remark == ""


class Scaled(nn.Linear):
    """A subclass that uses its weight in its own way."""

    def forward(self, x):
        return nn.functional.linear(x, 2 * self.weight, self.bias)


def test_weights_that_are_used_in_other_ways_stay_dense():
    def make():
        pruned, parametrized = nn.Linear(16, 16), nn.Linear(16, 16)
        with torch.no_grad():
            l1_unstructured(pruned, "weight", 0.5)
            nn.utils.parametrizations.weight_norm(parametrized)
        clipped = nn.Embedding(9, 16, max_norm=1.0)
        hooked, plain = nn.Linear(16, 16), nn.Linear(16, 16)
        hooked.register_forward_hook(lambda module, given, y: y + 1)
        return nn.Sequential(clipped, Scaled(16, 16), pruned, parametrized, plain, hooked)

    model = seeded(make)
    found = tensorize(model, [torch.randint(9, (4, 5))], params=0.95)
    remarks = {row.name: row.remark for row in found.rows}
    assert remarks == {
        "0": "norms are clipped", "2": "weight is computed from others", "4": "", "5": "has hooks",
    }  # fmt: skip
    assert type(found.model[1]) is Scaled
    assert isinstance(found.model[4], Linear)
    found.model(torch.randint(9, (4, 5))).sum().backward()


def test_formats_are_those_that_are_asked_for():
    model = seeded(images)
    x = random(1, 6, 3, 8, 8)
    for formats in (("cp", "svd"), ["tt"], ("tucker",), "svd", ("ring", "tree")):
        names = {formats} if isinstance(formats, str) else set(formats)
        found = tensorize(model, [x], params=0.9, formats=formats)
        assert {row.format for row in found.rows} <= names | {"dense"}
        assert any(row.format in names for row in found.rows)


def test_batches_are_tensors_tuples_or_mappings_and_gone_through_once():
    model = seeded(lambda: nn.Sequential(nn.Linear(16, 24), nn.ReLU(), nn.Linear(24, 8)))
    x = random(3, 40, 16)
    expected = tensorize(model, [x], params=0.5)
    twins = (
        [(x, torch.zeros(40))],
        [[x, "label"]],
        [{"input": x}],
        iter([x]),
        torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x), batch_size=40),
    )
    for calibration in twins:
        found = tensorize(model, calibration, params=0.5)
        assert [row[1:] for row in map(astuple, found.rows)] == [
            row[1:] for row in map(astuple, expected.rows)
        ]
    count = []

    def stream():
        for n in range(7):
            count.append(n)
            yield x

    tensorize(model, stream(), params=0.5)
    assert count == list(range(7))


def astuple(row):
    return (row.name, row.kind, row.format, row.ranks, row.params)


class Tupled(nn.Module):
    """Returns what models of transformers return: named logits, or a tuple."""

    def __init__(self, how):
        super().__init__()
        self.how, self.layer = how, seeded(lambda: nn.Linear(16, 16))

    def forward(self, x):
        y = self.layer(x)
        if self.how == "mapping":
            return {"index": torch.arange(3), "y": y}
        if self.how == "logits":
            return type("Output", (), {"logits": y, "loss": None})()
        return (torch.arange(3), y) if self.how == "tuple" else None


@pytest.mark.parametrize("how", ["tuple", "mapping", "logits"])
def test_outputs_are_found_in_what_a_model_returns(how):
    x = random(0, 30, 16)
    found = tensorize(Tupled(how), [x], params=0.5, difference="l2")
    expected = Tupled(how).layer(x).detach()
    gap = (found.model.layer(x).detach() - expected).norm() / expected.norm()
    assert abs(found.error - float(gap)) <= 1e-4
    seen = tensorize(Tupled(how), [x], params=0.5).difference
    assert seen == ("kl" if how == "logits" else "l2")
    with pytest.raises(TypeError, match="the model returned NoneType, expected a tensor"):
        tensorize(Tupled("none"), [x], params=0.5)


def test_progress_is_told_and_models_repeat():
    model = seeded(lambda: nn.Sequential(nn.Linear(16, 24), nn.ReLU(), nn.Linear(24, 8)))
    lines = []
    first = tensorize(model, [random(0, 30, 16)], ratio=2, progress=lines.append)
    assert [line.split(":")[0] for line in lines] == ["0", "2"]
    second = ftnn.tensorize(model, [random(0, 30, 16)], ratio=2)
    assert first.rows == second.rows
    states = first.model.state_dict(), second.model.state_dict()
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_kinds_are_those_of_the_layers():
    def make():
        return nn.Sequential(nn.Embedding(40, 16), nn.Conv1d(7, 9, 3), nn.Conv1d(9, 16, 3))

    model = seeded(make)
    found = tensorize(model, [torch.randint(40, (4, 7))], params=0.4)
    assert isinstance(found.model[0], Embedding)
    assert isinstance(found.model[2], Conv1d)
    model = seeded(lambda: nn.Sequential(nn.Conv2d(4, 16, 3), nn.Conv2d(16, 16, 3)))
    assert isinstance(tensorize(model, params=0.4).model[1], Conv2d)


@settings(max_examples=5)
@given(st.integers(0, 99))
def test_precision_and_gradients_of_the_model_are_kept(seed):
    model = seeded(lambda: nn.Sequential(nn.Linear(16, 16), nn.Tanh(), nn.Linear(16, 16)), seed)
    model.double()
    found = tensorize(model, [random(seed, 30, 16).double()], params=0.6)
    assert {p.dtype for p in found.model.parameters()} == {torch.float64}
    assert found.model(random(1, 2, 16).double()).dtype == torch.float64


class Branch(nn.Module):
    """The second layer is for inputs of another kind."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(16, 16), nn.Linear(16, 16)

    def forward(self, x):
        return self.second(x) if x.dtype == torch.float64 else self.first(x)


def test_a_layer_that_no_batch_reaches_stays_as_it_is():
    model = seeded(Branch)
    found = tensorize(model, [random(0, 30, 16)], params=0.8)
    assert [row.format == "dense" for row in found.rows] == [False, True]
    assert found.rows[1].remark == "not reached by the calibration batches"
    assert torch.equal(found.model.second.weight, model.second.weight)
    with pytest.raises(ValueError, match="the calibration batches reach no layer"):
        tensorize(model, [torch.zeros(0, 16)], params=0.8)


def test_one_name_may_be_skipped_as_a_text():
    model = seeded(Branch)
    found = tensorize(model, [random(0, 30, 16)], params=0.8, skip="second")
    assert found.rows[1].remark == "skipped"
    with pytest.raises(ValueError, match="skip has 'none', but the model has no module"):
        tensorize(model, [random(0, 30, 16)], params=0.8, skip="none")
