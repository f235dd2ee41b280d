"""Tables that pandas has made, as the pages show them."""

import pandas as pd
import pytest
from bs4 import BeautifulSoup

from tests.browser import BOOK, load

tidy = load("tables", BOOK / "_ext").tidy


def rows(html):
    """Return the texts of a table's cells."""
    table = BeautifulSoup(html, "html.parser").table
    return [[cell.get_text() for cell in row.find_all(["th", "td"])] for row in table("tr")]


@pytest.fixture
def losses():
    index = pd.MultiIndex.from_product([["plain", "warm-up"], [0, 1]], names=["training", "seed"])
    return pd.DataFrame({"loss": [1.5, -2.25, 3.0, 4.0], "name": list("abcd")}, index=index)


def test_names_of_the_index_stand_in_the_one_header_row(losses):
    head, first, *_ = rows(tidy(losses.to_html()))
    assert head == ["training", "seed", "loss", "name"]
    assert first == ["plain", "0", "1.50", "a"]


def test_the_name_of_the_columns_is_kept():
    frame = pd.DataFrame([[1, 2]], index=pd.Index([0.5], name="β")).rename_axis(columns="seed")
    assert rows(tidy(frame.to_html())) == [["β ↓ seed →", "0", "1"], ["0.5", "1", "2"]]


def test_headers_without_a_name_are_cells(losses):
    soup = BeautifulSoup(tidy(losses.reset_index(drop=True).to_html()), "html.parser")
    assert all(header.get_text() for header in soup("th"))
    assert len(soup.table.thead("td")) == 1


def test_numbers_stand_right_and_text_left(losses):
    soup = BeautifulSoup(tidy(losses.to_html()), "html.parser")
    right = {cell.get_text() for cell in soup.select(".number")}
    assert {"loss", "1.50", "−2.25", "seed", "0", "1"} <= right
    assert right.isdisjoint({"name", "a", "training", "plain"})


@pytest.mark.parametrize(
    ("typed", "shown"),
    [("-2.5", "−2.5"), ("1e-05", "1e-05"), ("784-400", "784-400"), ("a-b", "a-b")],
)
def test_only_a_minus_becomes_one(typed, shown):
    assert rows(tidy(pd.DataFrame({"x": [typed]}).to_html()))[1][1] == shown
