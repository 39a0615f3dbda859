"""Tables to MPS, against features written out entry by entry."""

import datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from laws import assert_close, dense

import ftnn
from ftnn.encoding import TableEncoder
from ftnn.encoding.columns import Schema
from ftnn.encoding.features import FEATURES, count_features, expand, invert


class Frame:
    """As much of a data frame as the encoder asks for."""

    def __init__(self, **columns):
        self.data = {name: np.asarray(column) for name, column in columns.items()}
        self.columns = list(columns)

    def __len__(self):
        return len(self.data[self.columns[0]])

    def __getitem__(self, name):
        column = self.data[name]
        return type("Series", (), {"to_numpy": lambda self: column})()


def numeric_table(seed, n=8, columns=3, gaps=False):
    rng = np.random.default_rng(seed)
    table = rng.standard_normal((n, columns)) * 10.0 ** rng.integers(-3, 4, columns) + 5.0
    if gaps:
        table[rng.random(table.shape) < 0.3] = np.nan
        table[0] = 1.0
    return table


def mixed_table(seed, n=8):
    rng = np.random.default_rng(seed)
    table = np.empty((n, 4), dtype=object)
    table[:, 0] = rng.standard_normal(n)
    table[:, 1] = rng.choice(["a", "b", "c"], n)
    table[:, 2] = rng.integers(0, 50, n)
    table[:, 3] = rng.choice(np.array([1, 2.0, "x"], object), n)
    return table


def entries(value, features, degree, clip):
    """Features of one standardized number, by their definition."""
    v = np.clip(value, -clip, clip) / clip
    if features == "linear":
        return [v * clip]
    if features == "trig":
        return [np.cos(np.pi / 4 * (1 + v)), np.sin(np.pi / 4 * (1 + v))]
    if features == "fourier":
        waves = [(np.cos(m * np.pi / 2 * (1 + v)), np.sin(m * np.pi / 2 * (1 + v))) for m in (1, 2)]
        return [part / np.sqrt(2) for pair in waves[:degree] for part in pair]
    legendre = [v, (3 * v**2 - 1) / 2]
    return [np.sqrt((2 * m + 1) / degree) * legendre[m - 1] for m in (1, 2)][:degree]


@given(
    st.integers(0, 99),
    st.sampled_from(["linear", "trig", "fourier", "polynomial"]),
    st.integers(1, 5),
    st.integers(1, 4),
    st.sampled_from([0.5, 3.0]),
)
def test_states_are_products_of_site_vectors(seed, features, columns, group, clip):
    table = numeric_table(seed, columns=columns)
    group = 1 if features == "trig" else group
    encoder = TableEncoder(features=features, clip=clip, scale=0.3, group=group).fit(table)
    z = (table - table.mean(axis=0)) / table.std(axis=0)
    expected = np.ones((len(table), 1))
    for start in range(0, columns, group):
        sites = []
        for row in z[:, start : start + group]:
            blocks = [entries(value, features, 2, clip) for value in row]
            flat = np.array([f for block in blocks for f in block])
            sites.append(flat if features == "trig" else [1, *(0.3 / np.sqrt(len(blocks)) * flat)])
        expected = np.einsum("bi,bj->bij", expected, sites).reshape(len(table), -1)
    assert_close(dense(encoder(table)), expected, condition=1e4)


names = st.sampled_from(list(FEATURES))


@given(names, st.integers(1, 5), st.floats(0.5, 4.0), st.integers(0, 99))
def test_features_have_an_inverse_and_a_norm_of_about_one(name, degree, clip, seed):
    degree = degree if FEATURES[name] else 1
    z = np.random.default_rng(seed).uniform(-clip, clip, (50, 3))
    z[0] = [-clip, 0.0, clip]
    values = expand(z, name, degree, clip)
    assert values.shape == (50, 3, count_features(name, degree))
    np.testing.assert_allclose(invert(values, name, degree, clip), z, atol=1e-12 * clip)
    norms = np.linalg.norm(expand(z * np.sqrt(3) / clip, name, degree, np.sqrt(3)), axis=-1)
    assert 0.5 < np.sqrt(np.mean(norms**2)) < 1.3


def test_splines_are_a_partition_of_one_and_local():
    values = expand(np.linspace(-3, 3, 101), "spline", 4, 3.0)
    np.testing.assert_allclose(values.sum(axis=1), 1.0)
    assert ((values > 0).sum(axis=1) <= 4).all()
    assert values.min() >= 0.0


@given(
    st.integers(0, 99),
    names,
    st.sampled_from(["standard", "quantile", "none"]),
    st.integers(1, 4),
    st.booleans(),
)
def test_the_inverse_gives_the_table_back(seed, features, normalize, group, gaps):
    table = numeric_table(seed, gaps=gaps)
    clip = 2.0 * np.nanmax(np.abs(table)) if normalize == "none" else 1000.0
    group = 1 if features == "trig" else group
    encoder = TableEncoder(
        features=features, normalize=normalize, group=group, clip=clip, missing="channel"
    ).fit(table)
    back = encoder.reconstruct(encoder(table))
    np.testing.assert_array_equal(np.isnan(back), np.isnan(table))
    scale = np.nanmax(np.abs(table), axis=0)
    np.testing.assert_allclose(back / scale, table / scale, atol=1e-9 if clip < 1e3 else 1e-7)
    assert encoder.reconstruction_error(table).max() < 1e-5


@given(st.integers(0, 99), st.integers(1, 4), st.sampled_from(["zeros", "channel"]))
def test_categories_come_back(seed, group, unknown):
    table = mixed_table(seed)
    encoder = TableEncoder(
        ["numeric", "category"] * 2, group=group, unknown=unknown, clip=10.0
    ).fit(table)
    back = encoder.reconstruct(encoder(table))
    back[:, [0, 2]] = back[:, [0, 2]].astype(float).round(12)
    np.testing.assert_allclose(back[:, [0, 2]].astype(float), table[:, [0, 2]].astype(float))
    assert back[:, 1].tolist() == table[:, 1].tolist()
    assert back[:, 3].tolist() == [{1: "1", 2.0: "2", "x": "x"}[v] for v in table[:, 3]]


def test_clipping_is_told_by_the_reconstruction_error():
    table = np.array([[0.0], [0.0], [0.0], [0.0], [100.0]])
    encoder = TableEncoder(clip=1.5).fit(table)
    z = (table[4] - 20) / 40
    np.testing.assert_allclose(encoder.reconstruction_error(table), [0, 0, 0, 0, z[0] - 1.5])


@pytest.mark.parametrize("columns", [1, 1000])
def test_one_and_a_thousand_columns(columns):
    table = numeric_table(0, n=20, columns=columns).astype(np.float32)
    x = TableEncoder(clip=10.0, scale=1.0).fit(table)(table)
    assert len(x.phys_dims) == columns
    assert x.cores[0].dtype == np.float32
    site = np.stack([core[:, 0, 1, 0] for core in x.cores])
    np.testing.assert_allclose(site.mean(axis=1), 0.0, atol=1e-4)
    np.testing.assert_allclose(site.std(axis=1), 1.0, atol=1e-3)


@pytest.mark.parametrize("features", ["linear", "polynomial", "fourier"])
@given(columns=st.integers(1, 40), group=st.integers(1, 5), seed=st.integers(0, 99))
def test_by_default_the_features_of_a_row_have_norm_one_together(features, columns, group, seed):
    table = np.random.default_rng(seed).uniform(size=(200, columns))
    encoder = TableEncoder(features=features, group=group, clip=3**0.5).fit(table)
    sites = [core[:, 0, 1:, 0] for core in encoder.encode(table)]
    squares = sum((site**2).sum(axis=1) for site in sites)
    assert 0.5 < np.sqrt(squares.mean()) < 1.3
    assert np.isclose(encoder.site_scale, len(sites) ** -0.5)
    assert TableEncoder(scale=0.3).site_scale == 0.3


@pytest.mark.parametrize("normalize", ["standard", "quantile", "none"])
def test_constant_empty_and_huge_columns_are_encoded(normalize):
    table = np.ones((6, 6))
    table[:, 1] = np.nan
    table[:, 2] = [1e300, -1e300, 0, 1e300, 1e305, 1.7e308]
    table[:, 3] = [1e-300, 2e-300, 0, 0, 0, 0]
    table[:, 4] = 0.1 + 1e-17 * np.arange(6)
    table[:, 5] = [0, 0, 0, 0, 0, 1e-320]
    encoder = TableEncoder(normalize=normalize).fit(table)
    for rows in (table, -table, np.zeros_like(table)):
        assert all(np.isfinite(core).all() for core in encoder.encode(rows))
    if normalize != "none":
        assert encoder.constant == (0, 1, 4, 5)
        assert (encoder.encode(table + 1)[0][:, 0, 1] == 0.0).all()
        back = encoder.reconstruct(encoder(table))
        assert (back[:, 0] == 1.0).all()
        assert np.isnan(back[:, 1]).all()


@given(st.integers(0, 99))
def test_quantiles_spread_evenly_whatever_the_distribution(seed):
    rng = np.random.default_rng(seed)
    table = np.exp(3 * rng.standard_normal((2000, 2)))
    z = np.stack(
        [
            core[:, 0, 1, 0]
            for core in TableEncoder(normalize="quantile", scale=1.0).fit(table).encode(table)
        ]
    )
    np.testing.assert_allclose(z.mean(axis=1), 0.0, atol=0.01)
    np.testing.assert_allclose(z.std(axis=1), 1.0, atol=0.02)
    order = np.argsort(table[:, 0])
    assert (np.diff(z[0, order]) >= 0).all()


def test_missing_values_have_a_channel_or_the_mean():
    table = np.array([[1.0, 2.0], [np.nan, 4.0], [3.0, 6.0]])
    new = np.array([[np.nan, np.nan]])
    encoder = TableEncoder(scale=1.0).fit(table)
    first, second = encoder.encode(new)
    assert first[0, 0, :, 0].tolist() == [1.0, 0.0, 1.0]
    assert second[0, 0, :, 0].tolist() == [1.0, 0.0]  # none in training data: imputed
    assert TableEncoder(missing="impute").fit(table).phys_dims == (2, 2)
    first, _ = TableEncoder(missing="impute").fit(table).encode(new)
    assert first[0, 0, :, 0].tolist() == [1.0, 0.0]
    with pytest.raises(ValueError, match="data: column 0 has a missing value; fill it in"):
        TableEncoder(missing="error").fit(table)
    with pytest.raises(ValueError, match="column 1, row 0, has a missing value"):
        TableEncoder(missing="error").fit(table[::2]).encode(np.array([[1.0, np.nan]]))


def test_missing_and_unknown_categories():
    table = np.array([["a"], ["b"], ["b"], [None]], dtype=object)
    new = np.array([["c"], [""], ["b"]], dtype=object)

    def vectors(**options):
        return TableEncoder(**options).fit(table).encode(new)[0][:, 0, 1:, 0].tolist()

    assert vectors() == [[0, 0, 0], [0, 0, 1], [0, 1, 0]]
    assert vectors(unknown="channel") == [[0, 0, 1, 0], [0, 0, 0, 1], [0, 1, 0, 0]]
    assert vectors(missing="impute") == [[0, 0], [0, 1], [0, 1]]
    encoder = TableEncoder(unknown="channel").fit(table)
    assert encoder.reconstruct(encoder(new))[:, 0].tolist() == [None, None, "b"]
    with pytest.raises(ValueError, match="column 0 holds 'c' in row 0, which is not in the train"):
        TableEncoder(unknown="error").fit(table).encode(new)
    empty = np.array([[None], [""]], dtype=object)
    for options in ({}, {"missing": "impute"}, {"missing": "impute", "unknown": "channel"}):
        encoder = TableEncoder(["category"], **options).fit(empty)
        assert encoder.reconstruct(encoder(empty))[:, 0].tolist() == [None, None]


def test_text_is_read_as_numbers_where_it_can_be():
    table = np.array([["1.5", "x"], ["2", "y"], ["?", "1"]])
    encoder = TableEncoder().fit(table)
    assert encoder.schema == Schema(
        None, ["numeric", "category"], [[], ["1", "x", "y"]], [True, False]
    )
    with pytest.raises(ValueError, match="rows: column 0 holds 'red' in row 1, expected numbers"):
        encoder.check(np.array([["1", "x"], ["red", "y"]]), "rows")


DATES = ["2024-05-31", "31.5.2024", "2024/5/31 12:30", "2024-05-31T12:30:00Z", ""]


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        (DATES, r"column 1 .'when'. holds dates such as '2024-05-31'; turn them into numbers"),
        (
            ["3,14", "-2", "", ",5", "1,5e3"],
            r"column 1 .'when'. holds '3,14', a decimal comma",
        ),
        ([datetime.date(2024, 5, 31)] * 5, "holds dates such as '2024-05-31'"),
    ],
)
def test_dates_and_decimal_commas_are_no_categories(entries, words):
    frame = Frame(width=np.arange(5.0), when=np.array(entries, object))
    with pytest.raises(ValueError, match=words):
        TableEncoder().fit(frame)
    encoder = TableEncoder({"width": "numeric", "when": "category"}).fit(frame)
    assert len(encoder.schema.categories[1]) == len({*entries} - {""})


@pytest.mark.parametrize(
    "entries",
    [["1,2,3", "2"], ["1.2.3", "1.2.4"], ["3,14", "red"], ["2024-05-31", "red"], ["192.168.1.1"]],
)
def test_other_text_is_a_category(entries):
    encoder = TableEncoder().fit(np.array(entries, object)[:, None])
    assert encoder.schema.categories == [sorted(entries)]


def test_columns_in_which_most_entries_differ_are_told():
    names = np.array([f"name {n}" for n in range(60)], object)
    with pytest.warns(UserWarning, match="column 0 has 60 categories in 60 rows, such as 'name 0'"):
        TableEncoder().fit(names[:, None])
    TableEncoder().fit(names[np.arange(120) % 60, None])
    TableEncoder(["category"]).fit(names[:, None])
    TableEncoder().fit(names[:20, None])


def test_data_frames_are_read_by_name():
    frame = Frame(age=[30.0, 40.0, 50.0], city=np.array(["Rom", "Ulm", None], object), id=[1, 2, 3])
    encoder = TableEncoder({"city": "category", "age": "numeric"}, scale=1.0).fit(frame)
    assert encoder.phys_dims == (4, 2)
    other = Frame(id=[9], age=[40.0], city=["Ulm"])
    city, age = encoder.encode(other)
    assert city[0, 0, :, 0].tolist() == [1, 0, 1, 0]
    assert age[0, 0, :, 0].tolist() == [1, 0]
    by_position = TableEncoder(scale=1.0).fit(frame)
    assert by_position.schema.names == ["age", "city", "id"]
    np.testing.assert_array_equal(by_position.encode(other)[2][0, 0, :, 0], [1, 3.0])
    with pytest.raises(ValueError, match="data has no column 'age'; it has city"):
        by_position.encode(Frame(city=["Rom"]))
    with pytest.raises(ValueError, match=r"batch: column 1 .'age'. is infinite in row 0"):
        encoder.check(Frame(city=["Rom"], age=[np.inf]), "batch")


@given(
    st.integers(0, 99),
    names,
    st.sampled_from(["standard", "quantile", "none"]),
    st.booleans(),
    st.booleans(),
)
def test_a_saved_table_encoder_gives_the_same(seed, features, normalize, mixed, gaps):
    table = mixed_table(seed) if mixed else numeric_table(seed, gaps=gaps)
    encoder = TableEncoder(features=features, normalize=normalize).fit(table)
    again = TableEncoder(**encoder.config())
    again.set_buffers(encoder.buffers)
    assert again.phys_dims == encoder.phys_dims
    for a, b in zip(encoder.encode(table), again.encode(table), strict=True):
        np.testing.assert_array_equal(a, b)


def test_files_keep_a_table_encoder(tmp_path):
    frame = Frame(age=[30.0, 40.0, np.nan], city=["Rom", "Ulm", "Rom"])
    encoder = TableEncoder({"age": "numeric", "city": "category"}, unknown="channel").fit(frame)
    path = tmp_path / "model"
    ftnn.save(ftnn.Readout(encoder.phys_dims, 2, 2), path, encoder)
    again = ftnn.load_encoder(path)
    assert again.schema == encoder.schema
    assert repr(again) == repr(encoder)
    for a, b in zip(encoder.encode(frame), again.encode(frame), strict=True):
        np.testing.assert_array_equal(a, b)


DAMAGED = [
    (b"{", "description of the columns is damaged"),
    (b"\xff\xfe", "description of the columns is damaged"),
    (b"[" * 10000, "description of the columns is damaged"),
    (b'{"kinds": ["numeric"]}', "do not fit together"),
    (b'{"kinds": ["x"], "categories": [[]], "missing": [false]}', "do not fit together"),
    (b'{"kinds": ["numeric"], "categories": [[1]], "missing": [false]}', "do not fit"),
    (b'{"kinds": ["numeric"], "categories": 3, "missing": [false]}', "damaged"),
    (b'{"kinds": [[]], "categories": [[]], "missing": [false]}', "damaged"),
    (b'{"bogus": 1}', "damaged"),
]


@pytest.mark.parametrize(("text", "words"), DAMAGED)
def test_a_damaged_schema_is_named(text, words):
    with pytest.raises(ValueError, match=words):
        TableEncoder().set_buffers({"schema": np.frombuffer(text, np.uint8)})


def test_damaged_statistics_are_named():
    buffers = TableEncoder().fit(numeric_table(0)).buffers
    for name, words in (("schema", "encoder.schema is missing"), ("scale", "encoder.scale is")):
        with pytest.raises(ValueError, match=words):
            TableEncoder().set_buffers({k: v for k, v in buffers.items() if k != name})
    with pytest.raises(ValueError, match=r"encoder.center has shape \(2,\), expected \(3,\)"):
        TableEncoder().set_buffers(buffers | {"center": np.zeros(2)})


TABLE = np.arange(6.0).reshape(3, 2)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: TableEncoder("numeric"), TypeError, "expected a sequence of kinds"),
        (lambda: TableEncoder(3), TypeError, "expected a sequence of kinds"),
        (lambda: TableEncoder(["number"]), ValueError, "columns holds 'number'; expected 'num"),
        (lambda: TableEncoder([]), ValueError, "columns is empty"),
        (lambda: TableEncoder(features="cubic"), ValueError, "features is 'cubic'; choose one"),
        (lambda: TableEncoder(degree=2), ValueError, "features 'linear' have none; leave it out"),
        (lambda: TableEncoder(features="spline", degree=0), ValueError, "degree is 0, expected"),
        (lambda: TableEncoder(normalize="z"), ValueError, "normalize is 'z'; choose one of"),
        (lambda: TableEncoder(missing="drop"), ValueError, "missing is 'drop'; choose one of"),
        (lambda: TableEncoder(unknown="drop"), ValueError, "unknown is 'drop'; choose one of"),
        (lambda: TableEncoder(clip=0), ValueError, "clip is 0, expected a positive number"),
        (lambda: TableEncoder(scale=np.nan), ValueError, "scale is nan, expected a positive"),
        (lambda: TableEncoder(group=0), ValueError, "group is 0, expected a positive integer"),
        (lambda: TableEncoder(features="trig", group=2), ValueError, "fill a site; use group=1"),
        (lambda: TableEncoder()(TABLE), ValueError, "the encoder is not fitted; call encoder.fit"),
        (lambda: TableEncoder().fit(TABLE)(TABLE[:, :1]), ValueError, "has 1 columns, expected 2"),
        (lambda: TableEncoder(["numeric"]).fit(TABLE), ValueError, "has 2 columns, expected 1"),
        (lambda: TableEncoder().fit(TABLE[:0]), ValueError, "2 columns and 0 rows"),
        (lambda: TableEncoder().fit(TABLE[:, :0]), ValueError, "0 columns and 0 rows"),
        (lambda: TableEncoder().fit(TABLE[:, 0]), ValueError, r"reshape\(-1, 1\) for a single"),
        (lambda: TableEncoder().fit(TABLE[None]), ValueError, r"shape \(1, 3, 2\), expected"),
        (lambda: TableEncoder().fit([[1.0]]), TypeError, "data is a list, expected an array"),
        (lambda: TableEncoder().fit(TABLE + 1j), TypeError, "column 0 has dtype complex128"),
        (lambda: TableEncoder().fit(TABLE / 0.0), ValueError, "column 0 is infinite in row 1"),
        (
            lambda: TableEncoder().fit(Frame(day=np.array(["2024-01-01"], "datetime64[D]"))),
            TypeError,
            "column 0 .'day'. has dtype datetime64.*turn dates into numbers",
        ),
    ],
)
def test_bad_tables_are_named(call, error, words):
    with np.errstate(all="ignore"), pytest.raises(error, match=words):
        call()


def test_the_trainer_takes_a_table(tmp_path):
    from ftnn.training import TrainConfig, Trainer, TrainingData

    rng = np.random.default_rng(0)
    table = np.empty((60, 3), dtype=object)
    table[:, 0], table[:, 1] = rng.standard_normal((2, 60))
    table[:, 2] = rng.choice(["a", "b"], 60)
    labels = (table[:, 2] == "a").astype(np.int64)
    encoder = TableEncoder().fit(table)
    model = ftnn.Readout(encoder.phys_dims, 2, 2)
    config = TrainConfig(epochs=8, batch_size=10, lr=0.05)
    trainer = Trainer(model, encoder, config, tmp_path / "run", quiet=True)
    trainer.fit(TrainingData(table, labels))
    assert trainer.evaluate(table, labels).score == 1.0
    with pytest.raises(ValueError, match="inputs: column 0 holds 'x' in row 0, expected numbers"):
        trainer.evaluate(np.array([["x", 1, "a"]], dtype=object), labels[:1])
