"""Predicates against texts that are read by hand."""

import numpy as np
import pytest

from sparse_jax.inputs import InputError
from sparse_jax.meaning.predicates import PREDICATES, find_predicate, places_of, token_predicates, truth

TOKENS = ["for", " x", " in", " [", "'a", "\\'", "b", "',", " \"c'", '"', "]:\n"]
TOKENS += ["   ", " print", "(x", ")", "\n", "x"]


def test_the_state_of_a_text_is_that_of_its_last_character():
    places = places_of(TOKENS)
    assert [place.string for place in places] == [*[""] * 4, *["'"] * 3, "", '"', *[""] * 8]
    assert [place.brackets for place in places] == ["", "", "", *["["] * 7, "", "", "", "(", "", "", ""]
    assert [place.indentation for place in places] == [*[0] * 11, 3, 4, 4, 4, 0, 0]
    assert "for" in places[9].words and places[9].words == {"for", "in"}
    assert places[11].words == frozenset() and places[14].words == {"print"}
    assert [i for i, place in enumerate(places) if place.line_begins] == [0, 11, 12, 16]
    assert [i for i, place in enumerate(places) if place.seen] == []
    assert places_of(["a", "b", "a"])[2].seen and places_of(["a", "b", "a"])[2].previous == "b"


def test_a_keyword_counts_as_a_whole_word_outside_of_strings():
    def words(*tokens):
        return places_of(tokens)[-1].words

    assert words("fo", "r", " x") == {"for"}
    assert words("form", " x") == frozenset() == words("x_if", " y")
    assert words("'for", " x") == frozenset()
    assert words("elif", " x") == {"elif"}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("inside a string", {4, 5, 6, 8}),
        ("inside a '...' string", {4, 5, 6}),
        ('inside a "..." string', {8}),
        ("bracket depth at least 1", {3, 4, 5, 6, 7, 8, 9, 13}),
        ("bracket depth at least 2", set()),
        ("inside ()", {13}),
        ("position below 2", {0, 1}),
        ("indentation at least 4", {12, 13, 14}),
        ("after for on its line", set(range(11)) - {10}),
        ("ends a line", {10, 15}),
        ("begins a line", {0, 11, 12, 16}),
        ("is a number", set()),
        ("token is ' in'", {2}),
        ("previous token is ' in'", {3}),
        ("begins with a space", {1, 2, 3, 8, 11, 12}),
    ],
)
def test_predicates(name, expected):
    found = truth([name], [TOKENS])
    assert found.shape == (1, len(TOKENS)) and set(np.flatnonzero(found[0]).tolist()) == expected


def test_texts_do_not_know_of_each_other():
    assert truth(["inside a string", "seen before"], [["'a"], ["b", "'a"]]).tolist() == [
        [True, False, True],
        [False, False, False],
    ]


def test_unknown_names_are_refused():
    with pytest.raises(InputError, match=r"^predicate: 'inside a sting' is unknown; .*'inside a string'"):
        find_predicate("inside a sting")
    for wrong in ("token is in", "previous token is 3", "token is '"):
        with pytest.raises(InputError, match=r"valid: a token in quotes"):
            find_predicate(wrong)
    assert token_predicates(["'"]) == ['token is "\'"', 'previous token is "\'"']
    assert all(find_predicate(name) for name in PREDICATES)


def test_a_line_that_ends_with_a_backslash_ends_its_string():
    *_, last = places_of(["'a\\", "\n", "''", " b"])
    assert last.string == ""
