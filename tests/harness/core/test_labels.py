"""What tells two labels apart stays; how they are written doesn't count."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.core.labels import Labels, label_form

OTHERS = [
    ("-1", "1"), ("3.14", "314"), ("3,14", "314"), ("C", "C++"), ("C", "C#"), ("10", "10%"),
    ("1/2", "12"), ("+", "-"), ("<", ">"), ("<=", "<"), ("!=", "="), ("->", "<-"), ("?", "!"),
    ("10\u00b2", "102"), ("1\u00bd", "11/2"), ("\u00bd", "12"), ("10\u2082", "102"),
    ("x\u00b2", "x2"), ("$10", "10"), ("\u20ac5", "\u00a35"), (".5", "5"), ("5!", "5"), ("n!", "n"),
    ("1e5", "1e-5"), ("a*b", "ab"), ("x_1", "x1"), ("(0,1)", "[0,1]"), ("(5)", "5"),
    ("1:30", "130"), ("10\u00b0", "10"), ("A+", "A"), ("A-", "A"), ("B+", "B-"), (".NET", "NET"),
    ("a-b", "ab"), ("0,125", "0125"), ("2^3", "23"), ("5'", '5"'), ("~5", "5"), ("\u00b11", "1"),
    ("\u2212\u221e", "\u221e"), ("x'", "x"), ("__init__", "init"), ("{}", "[]"), ("\u00e9", "e"),
    ("\u0915\u0940", "\u0915\u093e"), ("10 m", "10 cm"), ("1.000", "1000"), ("R&D", "RD"),
    ("5 > 3", "5 < 3"), ("@me", "me"), ("p-value", "pvalue"), ("a|b", "a&b"), ("1..2", "1.2"),
    ("[1,200]", "[1200]"), ("{1,200}", "{1200}"), ("(1,200)", "(1200)"), ("[1]", "1"),
    ("f''", "f'"), ("x++", "++x"), ("#1", "1"),
    ("p?", "p"), ("$x", "x"), ("\u0410", "A"), ("\u4e0d\u662f", "\u662f"), ("\u672a", "\u672b"),
    ("1:20", "1:2"), ("1.10", "1.1"), ("10\u207b\u00b3", "10\u00b3"), ("O(n)", "O(n^2)"),
    ("\U0001f44d\U0001f3fd", "\U0001f44d"), ("\u304c", "\u304b"), ("[0,1)", "(0,1]"), ("1st", "1"),
]  # fmt: skip
ALIKE = [
    ("Paris.", "paris"), ('"Paris."', "Paris"), ("\u201c\u5317\u4eac\u201d\u3002", "\u5317\u4eac"),
    ("\uff21\uff22\uff23\uff11\uff12\uff13", "abc123"), ("**Paris**", "Paris"), ("`x`", "x"),
    ("(A)", "A"), ("A)", "A"), ("A.", "A"), ("\u22121", "-1"), ("- 1", "-1"), ("1,000", "1000"),
    ("1,234,567.89", "1234567.89"), ("U.S.", "US"), ("Paris, France", "Paris France"),
    ("Yes!", "yes"), ("\u00bd", "1/2"), ("10\u00b2", "10^2"), ("5.", "5"), ("**-1**", "-1"),
    ("\uff0b\uff15", "+5"), ("C++.", "C++"), ("don\u2019t", "don't"), ("  a   b ", "a b"),
    ("\u0939\u093e\u0901\u0964", "\u0939\u093e\u0901"), ("10%.", "10%"), ("e\u0301", "\u00e9"),
    ("\u00abOui\u00bb", "oui"), ("Paris\u2026", "Paris"), ("\u300e\u6771\u300f", "\u6771"),
    ("( A )", "A"), ("[A]", "A"), ("$A$", "A"), (r"\(-1\)", "-1"), ("$5$.", "5"),
    ("\u662f\uff01", "\u662f"), ("\u2764\ufe0f", "\u2764"), ("**(B)**", "B"),
    ("\uff08\u6b63\u9762\uff09", "\u6b63\u9762"), ("\u2160", "I"), ("\uff8a\uff9f", "\u30d1"),
]  # fmt: skip


@pytest.mark.parametrize(("left", "right"), OTHERS)
def test_what_distinguishes_labels_stays(left, right):
    for case, articles in itertools.product((False, True), repeat=2):
        form = [label_form(text, case=case, articles=articles) for text in (left, right)]
        assert form[0] != form[1]
    assert not Labels().is_one_of(left, (right,))
    assert not Labels().is_one_of(right, (left,))


@pytest.mark.parametrize(("left", "right"), ALIKE)
def test_how_a_label_is_written_does_not_count(left, right):
    assert Labels().is_one_of(left, (right,))
    assert Labels().is_one_of(right, (left,))


LABEL = st.text(
    st.sampled_from("aAbC+-.,!<>()[]$\\%/ 12\u00b2\u2212\"'*`_\uff11the\u662f\uff01"),
    min_size=1,
    max_size=6,
)


@settings(max_examples=300, deadline=None)
@given(LABEL)
def test_a_form_is_its_own_form(text):
    for case, articles in itertools.product((False, True), repeat=2):
        form = label_form(text, case=case, articles=articles)
        assert label_form(form, case=case, articles=articles) == form


@settings(max_examples=300, deadline=None)
@given(st.lists(LABEL, min_size=2, max_size=6, unique_by=str.strip), LABEL)
def test_no_answer_is_two_labels_and_each_label_is_itself(known, answer):
    labels = Labels(tuple(known))
    assert sum(labels.is_one_of(answer, (label,)) for label in known) <= 1
    for label in known:
        assert labels.is_one_of(label, (label,))
        assert not any(labels.is_one_of(label, (x,)) for x in known if x.strip() != label.strip())


def test_labels_that_only_case_or_an_article_tells_apart():
    labels = Labels(("C", "c", "C++", "The Who", "Who", "May", "Paris"))
    assert labels.told_apart() == [("C", "c"), ("The Who", "Who")]
    assert labels.is_one_of("C.", ("C",))
    assert not labels.is_one_of("C.", ("c",))
    assert not labels.is_one_of("c", ("C",))
    assert labels.is_one_of("the who!", ("The Who",))
    assert not labels.is_one_of("the who!", ("Who",))
    assert labels.is_one_of("may", ("May",))
    assert labels.is_one_of("PARIS", ("Paris",))


def test_other_names_of_one_answer_may_be_alike():
    labels = Labels(("USA", "U.S.A.", "Chad"))
    assert labels.is_one_of("usa.", ("USA", "U.S.A."))
    assert not labels.is_one_of("usa.", ("Chad",))
