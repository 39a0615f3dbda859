"""The floor of a run: which matrix products are counted, and how often."""

import cupy_standin
import numpy as np
import pytest

import ftnn
from ftnn.arrays.backend import synchronize
from ftnn.measure.floor import Floor, Product, flops, products
from ftnn.measure.speed import training_speed

torch = pytest.importorskip("torch")


def test_products_are_counted_by_shape():
    a, b, one = torch.ones(5, 2, 3), torch.ones(5, 3, 4), torch.ones(3, 4)

    def run():
        a @ b
        a @ b
        torch.mm(torch.ones(2, 3), one)
        torch.bmm(a, one.expand(5, 3, 4))

    found = products(run)
    assert found == {
        Product(5, 2, 3, 4, (False, False), "float32"): 2,
        Product(1, 2, 3, 4, (False, False), "float32"): 1,
        Product(5, 2, 3, 4, (False, True), "float32"): 1,
    }
    assert flops(found) == 2 * 2 * 3 * 4 * (5 + 5 + 1 + 5)


@pytest.mark.parametrize("place", ["torch-cpu", "numpy-cpu"])
def test_a_floor_is_timed_in_the_library_of_the_run(place, monkeypatch):
    monkeypatch.setattr("ftnn.measure.floor.SECONDS", 1e-4)
    small = Floor(products(lambda: torch.ones(4, 2, 2) @ torch.ones(4, 2, 2)), place)
    large = Floor(products(lambda: torch.ones(4, 300, 300) @ torch.ones(4, 300, 300)), place)
    assert 0.0 < small.seconds() < large.seconds()


def test_a_step_counts_forward_and_backward():
    dims = (4,) * 3
    layer = ftnn.Linear(dims, dims, 3, 4)
    x = ftnn.MPS.from_dense(np.random.default_rng(0).standard_normal((6, 64)), dims)
    before = layer.params["weight.1"].copy()
    found = training_speed(layer, x.cores)
    cores = tuple(torch.from_numpy(core.astype("float32")) for core in x.cores)
    forward = flops(products(lambda: layer.apply(cores)))
    assert 2 * forward < found.flops < 4 * forward
    assert found.samples_per_s == 6 / found.seconds
    assert found.multiple == found.seconds / found.floor_seconds > 1.0
    assert not np.array_equal(layer.params["weight.1"].detach().numpy(), before)


DEVICES = [("cpu", []), ("cuda", [0]), ("cuda:1", [1])]


@pytest.mark.parametrize(("device", "expected"), DEVICES)
def test_the_device_of_the_place_is_waited_for(device, expected, monkeypatch):
    waited = []
    monkeypatch.setattr(
        torch.cuda, "synchronize", lambda where: waited.append(torch.device(where).index or 0)
    )
    synchronize(f"torch-{device}")
    assert waited == expected


@pytest.mark.parametrize(("device", "expected"), DEVICES)
def test_the_device_of_the_place_is_waited_for_on_cupy(device, expected, monkeypatch):
    waited = []
    monkeypatch.setattr(
        cupy_standin.Device, "synchronize", lambda self: waited.append(self.id), raising=False
    )
    with cupy_standin.installed():
        synchronize(f"cupy-{device}")
    assert waited == expected
