"""The network of the Burgers equation: its blocks, and their way to finer grids."""

import numpy as np
import pytest

import ftnn
from ftnn.encoding.functions import from_function
from ftnn.experiments import get_experiment
from ftnn.experiments.burgers.data import gaussian
from ftnn.experiments.burgers.model import carry
from ftnn.experiments.splits import Data
from ftnn.training.options import replace_values

EXPERIMENT = get_experiment("burgers")
COARSE, FINE = 4, 7


def built(sites, **changes):
    """Build a network whose bonds are large enough to truncate nothing."""
    tuned = EXPERIMENT.tuned_options()
    small = {"coarse": COARSE, "sites": sites, "max_bond": 16, "channels": 3, "bond_dim": 3}
    parts = 2 * (from_function(gaussian(2, 0), sites, 9, 10, 1e-4).cores,)
    data = Data(*3 * parts)
    return EXPERIMENT.build(replace_values(tuned, small | changes), data)[1]


@pytest.mark.parametrize("features", ["sine", "linear"])
@pytest.mark.parametrize(("blocks", "depth"), [(1, 0), (1, 2), (3, 0), (2, 1)])
def test_a_network_is_as_many_blocks_of_as_many_gated_layers(blocks, depth, features):
    model = built(COARSE, blocks=blocks, depth=depth, features=features)
    kinds = [type(layer) for _, layer in model.walk()]
    assert kinds.count(ftnn.Residual) == len(model.layers) == blocks
    assert kinds.count(ftnn.nonlinear.Gated) == blocks * depth
    assert kinds.count(ftnn.nonlinear.Elementwise) == blocks * (features == "sine")


def test_blocks_have_weights_of_their_own():
    first, second = built(COARSE, blocks=3).layers[:2]
    for name, array in first.named_params().items():
        if "bias" not in name or name.endswith(".0"):  # others start as ones
            assert not np.array_equal(array, second.named_params()[name]), name


def test_shortcuts_start_near_the_identity_and_the_last_near_the_mean():
    model = built(COARSE, blocks=3)
    x = ftnn.MPS.from_dense(np.random.default_rng(0).standard_normal((5, 2**COARSE)), (2,) * COARSE)
    dense = x.to_dense()
    mean = np.broadcast_to(dense.mean(axis=1, keepdims=True), dense.shape)
    found = [block.children["shortcut"](x).to_dense() for block in model.layers]
    for near, far, expected in [(0, mean, dense), (1, mean, dense), (2, dense, mean)]:
        gap = np.linalg.norm(found[near] - expected)
        assert gap < 0.5 * np.linalg.norm(found[near] - far)


@pytest.mark.parametrize(("blocks", "depth"), [(1, 1), (3, 0), (2, 1)])
def test_every_block_is_carried_to_a_finer_grid(blocks, depth):
    """A function that repeats on the new sites has the coarse result on each copy."""
    coarse = built(COARSE, blocks=blocks, depth=depth)
    fine = carry(coarse, built(FINE, blocks=blocks, depth=depth, max_bond=32))
    values = 0.3 * np.random.default_rng(1).standard_normal((3, 2**COARSE))
    repeated = np.repeat(values, 2 ** (FINE - COARSE), axis=1)
    small = ftnn.MPS.from_dense(values, (2,) * COARSE)
    large = ftnn.MPS.from_dense(repeated, (2,) * FINE)
    expected = np.repeat(coarse(small).to_dense(), 2 ** (FINE - COARSE), axis=1)
    np.testing.assert_allclose(fine(large).to_dense(), expected, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("other", [{"blocks": 3}, {"depth": 1}, {"features": "linear"}])
def test_a_network_of_other_layers_is_refused(other):
    with pytest.raises(ValueError, match="its layers are"):
        carry(built(COARSE, blocks=2, depth=0), built(FINE, **{"blocks": 2, "depth": 0} | other))


@pytest.mark.slow
def test_blocks_train_in_two_stages(tmp_path):
    options = replace_values(
        EXPERIMENT.tuned_options(quick=True),
        {"blocks": 2, "depth": 0, "limit": 32, "epochs": 2, "fine_epochs": 1, "sites": 8},
    )
    result = ftnn.experiments.run(EXPERIMENT, options, tmp_path / "run", quiet=True)
    assert result.outcome == "completed"
    assert len(result.model.layers) == 2
    assert np.isfinite(result.summary["test_error"])
