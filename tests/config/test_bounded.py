"""Documents of strangers are read within limits."""

import pytest

from dal.config.bounded_yaml import BoundedTextLoader, parse_yaml
from dal.store.bounded_json import MAX_DEPTH, parse_json

BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 40)
)
MERGE_BOMB = "a0: &a0 {x: 1, y: 2}\n" + "".join(
    f"a{i}: &a{i} {{<<: [{', '.join([f'*a{i - 1}'] * 10)}]}}\n" for i in range(1, 40)
)
CHAIN = "- &a0 [x]\n" + "".join(f"- &a{i} [*a{i - 1}]\n" for i in range(1, 5000))


@pytest.mark.parametrize("text", [BOMB, MERGE_BOMB, CHAIN], ids=["aliases", "merges", "chain"])
def test_yaml_that_grows_when_it_is_walked_is_refused(text: str) -> None:  # walking it would never end
    with pytest.raises(ValueError, match=r"line \d+: .*(values|nested deeper)"):
        parse_yaml(text)


@pytest.mark.parametrize("opening", ["[", "{a: ", "- ", "? "])
def test_yaml_nested_too_deep_is_refused(opening: str) -> None:
    with pytest.raises(ValueError, match="nested deeper than 64 levels"):
        parse_yaml(opening * 5000)


def test_yaml_as_deep_as_the_limit_is_read() -> None:
    assert parse_yaml("[" * MAX_DEPTH + "]" * MAX_DEPTH) is not None


def test_yaml_that_contains_itself_is_refused() -> None:
    with pytest.raises(ValueError, match="contains itself"):
        parse_yaml("&a [1, *a]")


def test_aliases_are_read() -> None:
    assert parse_yaml("a: &x {b: 1}\nc: *x\nd: {<<: *x}") == {"a": {"b": 1}, "c": {"b": 1}, "d": {"b": 1}}


@pytest.mark.parametrize("text", ["9" * 5000, "2001-99-99", "!!int x", "!!timestamp x", "!!bool x", "{[a]: b}", "a\0b"])
def test_values_that_yaml_cannot_make_are_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        parse_yaml(text)


def test_long_yaml_is_refused_before_it_is_read() -> None:
    with pytest.raises(ValueError, match="1,000,001 characters"):
        parse_yaml("a" * 1_000_001, max_length=1_000_000)


def test_a_text_loader_makes_nothing_but_text() -> None:
    assert parse_yaml("a: 1\nb: [yes, 2001-99-99]", loader=BoundedTextLoader) == {"a": "1", "b": ["yes", "2001-99-99"]}


@pytest.mark.parametrize("text", ["[" * 100_000, "[" * 100 + "]" * 100, '{"a":' * 65 + "1" + "}" * 65])
def test_json_nested_too_deep_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="nested deeper than 64 levels"):
        parse_json(text)


def test_json_as_deep_as_the_limit_and_full_of_brackets_is_read() -> None:
    assert parse_json("[" * MAX_DEPTH + "]" * MAX_DEPTH) is not None
    assert parse_json("[" + ",".join(["[]"] * 1000) + "]") == [[]] * 1000


def test_json_numbers_of_many_digits_are_refused_in_plain_words() -> None:
    with pytest.raises(ValueError, match="more than 4,300 digits"):
        parse_json("9" * 5000)


def test_json_that_is_not_text_names_the_byte() -> None:
    with pytest.raises(ValueError, match="byte 2 is not UTF-8"):
        parse_json(b'"\xff"')
