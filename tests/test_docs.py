"""Tables in docs/ that are made from the code say what the code says."""

from claims_table import PATH, table


def test_the_table_of_claims_is_current():
    assert PATH.read_text() == table(), "run `python tests/claims_table.py`"
