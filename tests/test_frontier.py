"""The study of whole networks: its peers keep budgets, and its pages tell what rows say."""

import pytest
import torch
from torch import nn

from benchmarks.studies import frontier_pages
from benchmarks.studies.frontier_pages import STAGES, behind, draw, level, page, score
from benchmarks.studies.peers import METHODS, compressed, even, peers
from ftnn.tensorized.formats import CONV


class Half:
    """A layer of rank-one steps of ten parameters, or dense."""

    def __init__(self, dense):
        self.dense = dense

    def size(self, params):
        """Return the largest multiple of ten that is affordable, ten at least."""
        return max(int(params) // 10, 1) * 10


@pytest.fixture(autouse=True)
def formats_of_the_library():
    """Methods of peers add a format; other tests have those of the library."""
    yield
    CONV.pop("unfolded", None)


def network():
    """Return a convolution, a linear layer, and a classifier."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(4, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 16, 32), nn.Linear(32, 4)
    )


def test_a_ratio_is_the_same_for_all_layers_and_keeps_the_budget():
    layers = [Half(1000), Half(4000)]
    first, second = even(layers, 500)
    assert first is not None
    assert second is not None
    sizes = layers[0].size(first) + layers[1].size(second)
    assert 480 <= sizes <= 500
    assert second / first == pytest.approx(4, rel=0.05)


def test_layers_that_would_not_shrink_stay_dense():
    assert even([Half(5), Half(4000)], 500)[0] is None


def test_a_budget_below_the_smallest_layers_is_refused():
    with pytest.raises(ValueError, match="smallest layers have 20"):
        even([Half(1000), Half(4000)], 19)


@pytest.mark.parametrize("name", METHODS)
def test_networks_keep_the_budget_and_one_has_a_dense_classifier(name):
    model, batch = network(), torch.randn(64, 4, 6, 6)
    layers = peers(model, [batch])[name]()
    total = sum(p.numel() for p in model.parameters())
    found = compressed(model, layers, total // 5)
    assert [isinstance(one[-1], nn.Linear) for one in found] == [False, True]
    for one in found:
        assert sum(p.numel() for p in one.parameters()) <= total // 5
        assert one(batch).shape == (64, 4)
    (found,) = compressed(model, layers, total // 2)  # a small classifier is not tried
    assert isinstance(found[-1], nn.Linear)


def test_methods_that_look_at_inputs_are_better_on_them():
    model = network()
    batch = torch.randn(512, 4, 6, 6) * torch.tensor([5, 0.1, 0.1, 2.0])[:, None, None]
    ways, total = peers(model, [batch]), sum(p.numel() for p in model.parameters())
    goal = model(batch)
    errors = {
        name: float((compressed(model, ways[name](), total // 3)[-1](batch) - goal).norm().detach())
        for name in ("SVD", "whitened SVD")
    }
    assert errors["whitened SVD"] < 0.9 * errors["SVD"]


def rows(ours, other):
    """Return made-up rows of two methods over seeds, and the dense networks."""
    known = {f"mlp, dense, {seed}": {"test": 0.9} for seed in range(3)}
    for name, values in (("ftnn.tensorize", ours), ("SVD", other)):
        for seed, value in enumerate(values):
            known[f"mlp, {name}, 8, {seed}"] = {
                "params": dict.fromkeys(STAGES, 100),
                "val": dict.fromkeys(STAGES, value),
                "test": dict.fromkeys(STAGES, value),
            }
    return known | {"mlp, TT-SVD, 8, 0": {"refused": "too small"}}


def test_scores_tell_mean_deviation_and_missing_seeds():
    known = rows([0.8, 0.82], [0.5, 0.6, 0.7])
    assert str(score(known, "mlp", "ftnn.tensorize", 8, "untouched")) == "81.0 ± 1.4 (2)"
    assert str(score(known, "mlp", "SVD", 8, "untouched")) == "60.0 ± 10.0"
    assert score(known, "mlp", "SVD", 16, "untouched") is None
    assert score(known, "mlp", "TT-SVD", 8, "untouched") is None


def test_healing_that_lowers_the_accuracy_on_validation_images_is_not_taken():
    known = rows([0.8], [0.5])
    row = known["mlp, SVD, 8, 0"]
    row["val"] = dict(zip(STAGES, (0.5, 0.4, 0.6), strict=True))
    row["test"] = dict(zip(STAGES, (0.51, 0.9, 0.61), strict=True))
    found = [score(known, "mlp", "SVD", 8, stage) for stage in STAGES]
    assert [one.mean for one in found if one] == pytest.approx([51, 51, 61])


def test_the_best_within_the_spread_is_bold_and_losses_are_told():
    won, lost = rows([0.8, 0.82, 0.81], [0.7, 0.7, 0.7]), rows([0.7, 0.7, 0.7], [0.8, 0.81, 0.82])
    tied = rows([0.80, 0.82, 0.81], [0.81, 0.82, 0.83])
    assert "| `ftnn.tensorize` | **81.0 ± 1.0** |" in page(won, "mlp")
    assert "| SVD | 70.0 ± 0.0 |" in page(won, "mlp")
    assert page(tied, "mlp").count("**8") == 2 * len(STAGES)
    assert behind(won, "mlp") == behind(tied, "mlp") == []
    assert behind(lost, "mlp") == [f"{stage}, 8 times, SVD by 11.0" for stage in STAGES]
    one = score(won, "mlp", "SVD", 8, "untouched")
    assert level([one, one]) == [True, True]


def test_a_picture_is_drawn_of_what_there_is(tmp_path):
    draw(rows([0.8], [0.5, 0.6]), tmp_path / "frontier.png")
    assert (tmp_path / "frontier.png").stat().st_size > 10_000


def test_the_report_writes_a_page_for_every_network_with_rows(tmp_path, monkeypatch, capsys):
    (tmp_path / "images").mkdir()
    monkeypatch.setattr(frontier_pages, "DOCS", tmp_path)
    frontier_pages.report(rows([0.8], [0.5]))
    assert [path.name for path in tmp_path.glob("*.md")] == ["tensorize-frontier-mlp.md"]
    assert "nowhere" in capsys.readouterr().out


def test_a_whitened_convolution_is_the_best_of_its_rank():
    model, batch = nn.Sequential(nn.Conv2d(4, 8, 3)), torch.randn(512, 4, 6, 6).cumsum(-1)
    layer = peers(model, [batch])["whitened SVD"]()[0]
    made = layer.made(2 * (8 + 36))
    patches = nn.functional.unfold(batch, 3).movedim(1, 2).reshape(-1, 36)
    outputs = patches @ model[0].weight.detach().flatten(1).T
    found = (made(batch) - model(batch)).detach().square().sum()
    least = torch.linalg.svdvals(outputs)[2:].square().sum()
    assert float(found) == pytest.approx(float(least), rel=1e-2)
