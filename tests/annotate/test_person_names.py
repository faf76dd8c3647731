"""Names of people that could be taken for those of others."""

import pytest

from dal.annotate.person_names import appearance, check_names, checked_name, people_of, wrong_names
from dal.errors import ConfigError


def test_names_of_a_list_are_separated_by_commas() -> None:
    assert people_of("ana, ben ,Zoë Lee") == ("ana", "ben", "Zoë Lee")
    assert people_of("आ कुमार,आ कमार,민지,민자") == ("आ कुमार", "आ कमार", "민지", "민자")  # marks are letters there


@pytest.mark.parametrize(
    "name",
    ["", "  ", "a\tb", "a\x00", "a\u202eb", "a\u200bb", "a\u2028b", "a\u00a0b", "\u3164", "\ufe0f", "x" * 201],
)
def test_name_that_cannot_be_seen_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="a name has 1 to 200 printable characters") as caught:
        checked_name(name)
    assert "\n" not in str(caught.value)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    "other",
    ["ana lee", "ANA LEE", "Ana  Lee", "Ana Lee ", "\uff21na Lee", "Ana\u034f Lee", "Ana Lee\ufe0e"],
)
def test_names_that_look_alike_are_refused(other: str) -> None:
    with pytest.raises(ConfigError, match=r"the name .* (looks like 'Ana Lee'|occurs twice): each person needs a name"):
        people_of(f"Ana Lee,ben,{other}")


def test_composed_and_decomposed_letters_are_the_same() -> None:
    assert appearance("Zoe\u0308") == appearance("zo\u00eb")
    assert appearance("Zoe") != appearance("Zo\u00eb")
    assert appearance("stra\u00dfe") == appearance("STRASSE")


@pytest.mark.parametrize("name", ["a,a", "ana,ana", "ana,ben,ana"])
def test_name_that_occurs_twice_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="occurs twice"):
        people_of(name)


def test_new_name_must_not_look_like_somebody_in_the_project() -> None:
    check_names(["ana", "ben"], ["ana", "cem"])
    with pytest.raises(ConfigError, match="the name 'ana' looks like 'Ana', who is in this project"):
        check_names(["ana"], ["Ana", "cem"])
    check_names(["ana"], ["Ana", "ana"])  # both have answered already


def test_wrong_names_of_a_file_are_found_with_their_first_place() -> None:
    given = [("ana", "row 'a'"), ("", "row 'a'"), ("Ana", "row 'b'"), ("Ana", "row 'c'"), ("b\u202een", "row 'd'")]
    given += [(" cid", "row 'e'"), ("\uff24an", "row 'f'"), ("eve", "row 'g'")]
    found = wrong_names(given, ["dan", "EVE", "eve", ""])
    assert list(found) == ["Ana", "b\u202een", " cid", "\uff24an"]
    assert found["Ana"] == "row 'b': the name 'Ana' looks like 'ana': each person needs a name of her own"
    assert found["b\u202een"].startswith("row 'd': a name has 1 to 200 printable characters, not ")
    assert found[" cid"] == "row 'e': the name ' cid' has spaces around it"
    assert "looks like 'dan'" in found["\uff24an"]
    assert all(message.isprintable() for message in found.values())


def test_wrong_name_is_found_wherever_it_comes_first() -> None:
    assert list(wrong_names([("Ana", "1"), ("ana", "2")], ())) == ["ana"]
    assert list(wrong_names([("Ana", "1")], ["ana"])) == ["Ana"]
    assert wrong_names([("Ana", "1"), ("ana", "2")], ["ana", "Ana"]) == {}


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("ana", "\u0430n\u0430"),  # Cyrillic small a
        ("Zo\u00eb", "Zo\u0451"),  # Cyrillic io
        ("Bob", "\u0412\u041e\u0412"),  # Cyrillic capital letters only
        ("oscar", "\u03bfscar"),  # Greek omicron
        ("\u0441\u0430\u0440\u0430", "capa"),
    ],
)
def test_letters_of_another_script_with_the_same_shape_are_no_other_name(name: str, other: str) -> None:
    with pytest.raises(ConfigError, match="looks like"):
        people_of(f"{name},{other}")
    with pytest.raises(ConfigError, match="who is in this project"):
        check_names([other], [name])


def test_names_of_other_scripts_differ_as_they_look() -> None:
    names = (
        "\u0410\u043d\u043d\u0430,Anna,\u0412\u043e\u0432\u0430,\u0421\u0430\u0448\u0430,\u0396\u03c9\u03ae,Zo\u00e9"
    )
    assert len(people_of(names)) == 6
    with pytest.raises(ConfigError, match="looks like"):
        people_of("\u0412\u043e\u0432\u0430,\u0432\u043e\u0432\u0430")  # the same in another case
