"""Images to MPS."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from laws import assert_close, dense

import ftnn
from ftnn.encoding import AmplitudeEncoder, Encoder, ProductEncoder, site_order


def images(n, height, width, seed=0, dtype="float64"):
    return np.random.default_rng(seed).random((n, height, width)).astype(dtype)


@given(st.sampled_from([(1, 1), (3, 4), (8, 8), (4, 4)]), st.sampled_from(["row-major", "snake"]))
def test_orders_are_permutations(shape, order):
    assert sorted(site_order(*shape, order)) == list(range(shape[0] * shape[1]))


def test_quantics_sites_are_blocks_of_one_scale():
    order = site_order(8, 8, "quantics").reshape(4, 4, 4)
    rows, cols = order // 8, order % 8
    for coarse in range(4):  # the slowest site chooses a quadrant
        assert set((rows[coarse] // 4).ravel()) == {coarse // 2}
        assert set((cols[coarse] // 4).ravel()) == {coarse % 2}
    assert (rows[..., :] % 2 == [0, 0, 1, 1]).all()  # the fastest, a pixel of a 2 x 2 block
    assert (cols[..., :] % 2 == [0, 1, 0, 1]).all()


def test_snake_neighbours_are_neighbouring_pixels():
    order = site_order(5, 7, "snake")
    step = np.abs(np.diff(order // 7)) + np.abs(np.diff(order % 7))
    assert (step == 1).all()


@given(st.integers(1, 9), st.integers(1, 9), st.sampled_from(["quantics", "row-major", "snake"]))
def test_amplitude_encoding_is_exact(height, width, order):
    x = images(3, height, width)
    encoder = AmplitudeEncoder((height, width), order)
    side = encoder.padded
    padded = np.zeros((3, *side))
    top, left = (side[0] - height) // 2, (side[1] - width) // 2
    padded[:, top : top + height, left : left + width] = x
    expected = padded.reshape(3, -1)[:, site_order(*side, order)]
    assert_close(dense(encoder(x)), expected, condition=1e4)
    assert int(np.prod(encoder.phys_dims)) == side[0] * side[1]


def test_amplitude_encoding_truncates_to_the_tolerance():
    x = images(4, 16, 16)
    full, cut = (dense(AmplitudeEncoder((16, 16), rtol=r)(x)) for r in (0.0, 0.2))
    assert (np.linalg.norm(full - cut, axis=1) <= 0.2 * np.linalg.norm(full, axis=1)).all()
    assert max(AmplitudeEncoder((16, 16), max_bond=3)(x).bond_dims) == 3


@given(
    st.sampled_from([(1, 1), (2, 2), (2, 4)]),
    st.sampled_from([None, (1, 1), (2, 1)]),
    st.sampled_from(["row-major", "snake"]),
)
def test_patches_are_sites(patch, stride, order):
    down, right = stride or patch
    height, width = patch[0] + 2 * down, patch[1] + 4 * right
    x = images(3, height, width)
    encoder = ProductEncoder((height, width), patch, order, standardize="none", stride=stride)
    assert encoder.grid == (3, 5)
    cores = encoder.encode(x)
    sites = site_order(*encoder.grid, order)
    scale = 1 / np.sqrt(patch[0] * patch[1])
    for core, site in zip(cores, sites, strict=True):
        row, col = divmod(site, encoder.grid[1])
        block = x[:, row * down :, col * right :][:, : patch[0], : patch[1]]
        assert (core[:, 0, 0, 0] == 1).all()
        assert_close(core[:, 0, 1:, 0], scale * block.reshape(3, -1))


def test_trigonometric_features_have_norm_one():
    x = ProductEncoder((3, 3), features="trig", standardize="none")(images(2, 3, 3))
    assert_close(x.norm(), np.ones(2))


@pytest.mark.parametrize("standardize", ["pixel", "global"])
def test_standardization_comes_from_the_training_images_and_is_saved(standardize, tmp_path):
    train, test = 3 + 2 * images(50, 4, 4), images(5, 4, 4, seed=1)
    encoder = ProductEncoder((4, 4), (2, 2), standardize=standardize).fit(train)
    cores = encoder.encode(train)
    pixels = np.concatenate([core[:, 0, 1:, 0] for core in cores], axis=1) * 2  # scale 1/sqrt(4)
    assert abs(pixels.mean()) < 1e-10
    assert 0.8 < pixels.std() < 1.01
    model = ftnn.Readout((5,) * 4, 2, 2)
    ftnn.save(model, tmp_path / "model.safetensors", encoder)
    again = ftnn.load_encoder(tmp_path / "model.safetensors")
    for a, b in zip(encoder.encode(test), again.encode(test), strict=True):
        assert (a == b).all()


def test_blank_and_constant_images_are_encoded():
    blank = np.zeros((3, 4, 4))
    for encoder in (AmplitudeEncoder((4, 4)), ProductEncoder((4, 4)).fit(blank)):
        for core in encoder.encode(blank):
            assert np.isfinite(core).all()


shapes = st.tuples(st.integers(1, 6), st.integers(1, 6), st.sampled_from([(), (1,), (3,)]))


@given(
    shapes.map(lambda s: (*s[:2], *s[2])),
    st.sampled_from(["none", "global", "pixel"]),
    st.sampled_from(["quantics", "row-major", "snake"]),
    st.integers(0, 99),
)
def test_the_inverse_gives_the_image_back(shape, standardize, order, seed):
    x = 2 + np.random.default_rng(seed).random((3, *shape))
    encoders = [AmplitudeEncoder(shape, order, standardize=standardize)]
    if order != "quantics":
        encoders.append(ProductEncoder(shape, (1, shape[1]), order, standardize=standardize))
        encoders.append(ProductEncoder(shape, shape[:2], order, standardize=standardize))
    for encoder in encoders:
        state = encoder.fit(x)(x)
        assert state.phys_dims == encoder.phys_dims
        assert_close(encoder.reconstruct(state), x, condition=1e4)
        assert encoder.reconstruction_error(x).max() < 1e-11


@pytest.mark.parametrize("stride", [(1, 1), (3, 1), (3, 3)])
def test_overlapping_and_sparse_patches_have_an_inverse(stride):
    x = np.random.default_rng(0).random((4, 5, 5, 2))
    encoder = ProductEncoder((5, 5, 2), (2, 2), stride=stride).fit(x)
    back = encoder.reconstruct(encoder(x))
    covered = np.zeros((5, 5), bool)
    for row in range(0, 4, stride[0]):
        for col in range(0, 4, stride[1]):
            covered[row : row + 2, col : col + 2] = True
    assert_close(back[:, covered], x[:, covered], condition=1e4)
    blank = np.broadcast_to(x.mean(axis=0), x.shape)
    assert_close(back[:, ~covered], blank[:, ~covered])


def test_colours_are_entries_of_a_patch_and_a_site_of_a_vector():
    x = np.random.default_rng(0).random((2, 4, 4, 3))
    vector = dense(AmplitudeEncoder((4, 4, 3), "row-major")(x))
    assert_close(vector, x.reshape(2, -1), condition=1e4)
    merged = AmplitudeEncoder((4, 4, 3), "row-major", dims=(4, 12))
    assert_close(dense(merged(x)), x.reshape(2, -1), condition=1e4)
    cores = ProductEncoder((4, 4, 3), (2, 2), "row-major", standardize="none").encode(x)
    expected = x[:, :2, 2:].reshape(2, 12) / np.sqrt(12)
    assert_close(cores[1][:, 0, 1:, 0], expected)


def test_the_error_of_a_truncated_image_is_reported():
    x = images(5, 16, 16)
    encoder = AmplitudeEncoder((16, 16), max_bond=4)
    error = np.linalg.norm(encoder.reconstruct(encoder(x)) - x, axis=(1, 2))
    expected = error / np.linalg.norm(x, axis=(1, 2))
    assert expected.min() > 0.1
    assert_close(encoder.reconstruction_error(x), expected)


def test_trigonometric_features_have_an_inverse():
    encoder = ProductEncoder((3, 3), features="trig", standardize="none")
    assert encoder.reconstruction_error(images(4, 3, 3)).max() < 1e-12


class Doubled(Encoder):
    """An encoder of a user's own."""

    def __init__(self, sites, factor=2.0):
        super().__init__()
        self.sites, self.factor = sites, factor
        self.phys_dims = (1,) * sites
        self.buffers = {"mean": np.zeros(sites)}

    def fit(self, data):
        self.buffers["mean"] = data.mean(axis=0)
        return self

    def encode(self, data):
        values = self.factor * (self.check(data) - self.buffers["mean"])
        return tuple(column[:, None, None, None] for column in values.T)


def test_an_encoder_of_ones_own_is_saved_and_loaded(tmp_path):
    data = np.random.default_rng(0).standard_normal((5, 3))
    encoder = Doubled(np.int64(3)).fit(data)
    assert repr(encoder) == "Doubled(sites=3)"
    ftnn.save(ftnn.Readout((1,) * 3, 2, 2), tmp_path / "model", encoder)
    again = ftnn.load_encoder(tmp_path / "model")
    assert type(again) is Doubled
    assert again.config() == {"sites": 3, "factor": 2.0}
    for a, b in zip(encoder.encode(data), again.encode(data), strict=True):
        np.testing.assert_array_equal(a, b)
    with pytest.raises(NotImplementedError, match="Doubled has no inverse"):
        encoder.reconstruct(encoder(data))
    with pytest.raises(TypeError, match="there is an encoder AmplitudeEncoder already"):
        type("AmplitudeEncoder", (Encoder,), {"__module__": "mine"})
    with pytest.raises(ValueError, match="unknown encoder type 'Tripled'; define the class"):
        Encoder.named("Tripled")


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (
            lambda: ProductEncoder((4, 4)).reconstruct(ftnn.MPS.from_dense(np.eye(4), (2, 2))),
            ValueError,
            "x has phys_dims",
        ),
        (
            lambda: ProductEncoder((1, 2)).reconstruct(
                ftnn.MPS([np.ones((1, 1, 2, 2)), np.ones((1, 2, 2, 1))])
            ),
            ValueError,
            "only product states",
        ),
        (lambda: AmplitudeEncoder((4, 4, 3))(np.ones((2, 4, 4))), ValueError, "batch, 4, 4, 3"),
        (lambda: ProductEncoder((4, 4), (3, 3)), ValueError, "do not end where an image"),
        (lambda: ProductEncoder((4, 4), (5, 5)), ValueError, "do not end where an image"),
        (lambda: ProductEncoder((4, 4), (1, 1), stride=(2, 1)), ValueError, "do not end where"),
        (lambda: ProductEncoder((4, 4), (2, 2, 2)), ValueError, "expected .height, width. each"),
        (lambda: ProductEncoder((4, 4), features="cubic"), ValueError, "choose one of"),
        (lambda: ProductEncoder((4, 4), (2, 2), features="trig"), ValueError, "patch=.1, 1."),
        (lambda: ProductEncoder((4, 4), scale=0.0), ValueError, "scale is 0.0"),
        (lambda: ProductEncoder((3, 4), order="quantics"), ValueError, "power of two"),
        (lambda: AmplitudeEncoder((4, 4), dims=(4, 5)), ValueError, "multiply to 20"),
        (lambda: AmplitudeEncoder((4, 4), "spiral"), ValueError, "order is 'spiral'"),
        (lambda: AmplitudeEncoder((4,)), ValueError, "height, width"),
        (lambda: AmplitudeEncoder((4, 4), standardize="z"), ValueError, "standardize is 'z'"),
        (lambda: AmplitudeEncoder((4, 4))(np.ones((2, 4, 5))), ValueError, "expected .batch, 4, 4"),
        (lambda: AmplitudeEncoder((4, 4))(np.ones((0, 4, 4))), ValueError, "at least one image"),
        (lambda: AmplitudeEncoder((4, 4))(np.ones((2, 4, 4), "uint8")), TypeError, "uint8"),
        (lambda: AmplitudeEncoder((4, 4))(np.full((1, 4, 4), np.nan)), ValueError, "NaN"),
    ],
)
def test_bad_input_is_named(call, error, words):
    with pytest.raises(error, match=words):
        call()
