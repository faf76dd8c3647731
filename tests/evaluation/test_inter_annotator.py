import random
import subprocess
import sys

import pytest
from reference import agreement as reference

from dal.evaluation.inter_annotator import (
    annotator_agreement,
    class_agreement,
    gwet_ac1,
    krippendorff_alpha,
    raw_agreement,
)

#: Four observers and twelve units with missing values: Krippendorff 2011, "Computing Krippendorff's Alpha-Reliability",
#: section C; also the data set cac.raw4raters of Gwet's R package irrCAC.
KRIPPENDORFF = [
    [1, 1, 1],
    [2, 2, 3, 2],
    [3, 3, 3, 3],
    [3, 3, 3, 3],
    [2, 2, 2, 2],
    [1, 2, 3, 4],
    [4, 4, 4, 4],
    [1, 1, 2, 1],
    [2, 2, 2, 2],
    [5, 5, 5],
    [1, 1],
    [3],
]


def made(seed: int, texts: int = 60, names: str = "abcd") -> list[list[str]]:
    """Answers of up to four people, three quarters of whom give the true class."""
    generator = random.Random(seed)
    answers = []
    for _ in range(texts):
        true = generator.choice(names)
        people = generator.randint(0, 4)
        answers.append([true if generator.random() < 0.75 else generator.choice(names) for _ in range(people)])
    return answers


def test_published_example_has_its_published_figures() -> None:
    assert round(krippendorff_alpha(KRIPPENDORFF), 3) == 0.743  # Krippendorff 2011, section C
    # The vignette "Calculating Chance-corrected Agreement Coefficients" of irrCAC 1.0.
    assert round(krippendorff_alpha(KRIPPENDORFF), 5) == 0.74342
    assert round(gwet_ac1(KRIPPENDORFF), 5) == 0.77544
    assert round(raw_agreement(KRIPPENDORFF), 7) == 0.8181818


def test_two_observers_without_missing_answers_have_the_published_alpha() -> None:
    # Krippendorff 2011, section B: twelve articles, two observers, nominal data: alpha 0.692.
    first, second = "aabbdcccedda", "babbbccceddd"
    assert round(krippendorff_alpha(list(zip(first, second, strict=True))), 3) == 0.692


@pytest.mark.parametrize("seed", range(8))
def test_coefficients_equal_those_by_loops_over_pairs(seed: int) -> None:
    answers = made(seed)
    assert raw_agreement(answers) == pytest.approx(reference.raw_agreement(answers))
    assert krippendorff_alpha(answers) == pytest.approx(reference.krippendorff_alpha(answers))
    assert gwet_ac1(answers, 6) == pytest.approx(reference.gwet_ac1(answers, 6))


@pytest.mark.parametrize("seed", range(4))
def test_agreement_on_a_class_is_that_of_having_it(seed: int) -> None:
    answers = made(seed)
    found = class_agreement([[[name] for name in given] for given in answers], "abcd")
    for name, figures in found.items():
        binary = [[each == name for each in given] for given in answers]
        assert figures.raw.value == pytest.approx(reference.raw_agreement(binary))
        assert figures.alpha.value == pytest.approx(reference.krippendorff_alpha(binary))
        assert figures.ac1.value == pytest.approx(reference.gwet_ac1(binary, 2))
        direct = annotator_agreement(binary, 2)
        assert (figures.texts, figures.answers) == (direct.texts, direct.answers)


def test_class_of_several_in_an_answer_is_counted_alone() -> None:
    answers = [[["a", "b"], ["a"]], [["b"], ["b"]], [[], ["b"]], [[], []]]
    found = class_agreement(answers, ["a", "b", "c"])
    assert found["a"].raw.value == 1
    assert found["b"].raw.value == 0.5
    assert found["c"].raw.value == 1
    assert found["c"].alpha.value is None  # nobody chose it: chance explains all


def test_order_of_texts_and_names_of_classes_change_nothing() -> None:
    answers = made(3)
    renamed = [[{"a": "z", "b": "y", "c": "x", "d": "w"}[name] for name in given] for given in answers]
    assert krippendorff_alpha(renamed[::-1]) == pytest.approx(krippendorff_alpha(answers))
    assert gwet_ac1(renamed[::-1]) == pytest.approx(gwet_ac1(answers))


def test_interval_covers_the_value_of_many_texts_about_as_often_as_it_says() -> None:
    true = krippendorff_alpha(made(99, texts=40_000))
    assert true is not None
    found = [annotator_agreement(made(seed, texts=80), samples=300).alpha for seed in range(60)]
    covered = sum(each.low <= true <= each.high for each in found if each.low is not None and each.high is not None)
    assert len(found) >= covered >= 50  # 57 of 60 expected; below 50 with a probability of 0.001


def test_agreement_without_any_difference_still_has_an_interval() -> None:
    found = annotator_agreement([["a", "a"], ["b", "b"]] * 10, 2)
    assert (found.raw.value, found.alpha.value, found.ac1.value) == (1, 1, 1)
    assert found.raw.low is not None
    assert 0.8 < found.raw.low < 1  # Wilson: 20 of 20
    assert found.alpha.low is not None
    assert 0.6 < found.alpha.low < found.raw.low
    assert found.raw.high == found.alpha.high == 1


def test_few_texts_have_no_interval_and_none_have_no_value() -> None:
    few = annotator_agreement([["a", "b"], ["a", "a"]])
    assert few.raw.value == 0.5
    assert few.raw.low is few.alpha.low is None
    none = annotator_agreement([["a"], ["b"]])
    assert none.texts == 0
    assert none.raw.value is none.alpha.value is none.ac1.value is None


def test_one_class_only_has_a_raw_agreement_and_no_alpha() -> None:
    found = annotator_agreement([["a", "a"]] * 8, classes=3)
    assert found.raw.value == 1
    assert found.alpha.value is None
    assert found.ac1.value == 1


def test_module_is_imported_without_numpy() -> None:
    program = "import sys, dal.evaluation.inter_annotator; print([n for n in ('numpy', 'torch') if n in sys.modules])"
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
