"""What error messages are made of."""

import difflib
from typing import Any

import pytest

from dal.errors import did_you_mean, printable, shortened


def test_the_most_similar_name_is_suggested_regardless_of_case() -> None:
    assert did_you_mean("margn", ["Random", "Margin"]) == "; did you mean 'Margin'?"
    assert did_you_mean("zzz", ["Random", "Margin"]) == ""
    assert did_you_mean("tfidf", ["ProbeLearner", "TfidfLearner"]) == "; did you mean 'TfidfLearner'?"
    assert did_you_mean("tf", ["ProbeLearner", "TfidfLearner"]) == ""


def test_of_ten_thousand_names_a_hundred_are_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[int] = []

    def counted(word: str, candidates: list[str], **options: Any) -> list[str]:
        compared.append(len(candidates))
        return difflib.get_close_matches(word, candidates, **options)

    monkeypatch.setattr("dal.errors.get_close_matches", counted)
    names = [f"class number {i:05d} of many" for i in range(10_000)]
    assert did_you_mean("class numbr 04711 of many", names) == "; did you mean 'class number 04711 of many'?"
    assert compared == [100]


def test_nothing_is_suggested_for_a_word_of_a_million_letters() -> None:
    assert did_you_mean("a" * 1_000_000, ["a", "b" * 1_000_000]) == ""


def test_a_long_text_is_shortened_in_its_middle() -> None:
    assert shortened("ab", 2) == "ab"
    assert len(shortened("x" * 10**6)) == 80


def test_escapes_do_not_make_a_name_longer_than_the_limit() -> None:
    assert printable("caf\u00e9") == "caf\u00e9"
    assert printable("a\nb") == r"a\nb"
    assert len(printable("\ud800" * 1000, 120)) <= 120
