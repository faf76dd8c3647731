"""Names of people: two that look alike would let one person pass for another."""

import unicodedata
from collections.abc import Iterable, Sequence

from dal.errors import ConfigError, printable
from dal.store.visible_names import seen

MAX_NAME = 200

# Letters of other scripts with the shape of a Latin letter, out of the data of Unicode Technical Standard 39
# ("confusables"), in small and capital letters: those of Cyrillic and of Greek.
_SHAPES = str.maketrans(
    "асеһіјорѕхуԁԛԝӏАВЕЅІЈКМНОРСТХУԚԜ" + "αγινορυΑΒΕΖΗΙΚΜΝΟΡΤΥΧ",
    "acehijopsxydqwlABESIJKMHOPCTXYQW" + "ayivopuABEZHIKMNOPTYX",
)


def checked_name(given: str) -> str:
    """A name without spaces around it.

    Raises:
        ConfigError: it is empty or too long, or has characters that cannot be seen, such as those that reverse the
            direction of writing.
    """
    name = given.strip()
    if not name or len(name) > MAX_NAME or not name.isprintable() or not appearance(name):
        raise ConfigError(f"a name has 1 to {MAX_NAME} printable characters, not {printable(repr(given))}")
    return name


def people_of(text: str) -> tuple[str, ...]:
    """The names of a list such as `ana,ben`.

    Raises:
        ConfigError: a name is none, or two are the same or look alike.

    Example:
        >>> people_of("ana, Zoë")
        ('ana', 'Zoë')
    """
    names = tuple(checked_name(each) for each in text.split(","))
    check_names(names, ())
    return names


def appearance(name: str) -> str:
    """What of a name tells it from others: letters without case, width, compatibility forms and repeated spaces.

    Example:
        >>> appearance("Ａna  Lee") == appearance("ana lee")
        True
    """
    plain = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())
    return " ".join(seen(plain).split())


def wrong_names(given: Iterable[tuple[str, str]], known: Iterable[str]) -> dict[str, str]:
    """What is wrong with the names in a file: they cannot be seen, or look like others in the file or the project.

    Args:
        given: name and place in the file of each answer or note. An empty name is nobody's.
        known: names of people in the project, which are accepted as they are.

    Returns:
        Wrong name -> message, which begins with the first place of the name.
    """
    found: dict[str, str] = {}
    taken = {name for name in known if name}
    looks = {look: name for name in sorted(taken) for look in _looks(name)}
    for name, place in given:
        if not name or name in taken:
            continue
        taken.add(name)
        other = next((looks[look] for look in _looks(name) if look in looks), name)
        looks = dict.fromkeys(_looks(name), name) | looks
        try:
            if checked_name(name) != name:
                raise ConfigError(f"the name {printable(repr(name))} has spaces around it")
        except ConfigError as error:
            found[name] = f"{place}: {error}"
            continue
        if other != name:
            looks_like = f"the name {printable(repr(name))} looks like {printable(repr(other))}"
            found[name] = f"{place}: {looks_like}: each person needs a name of her own"
    return found


def skeleton(name: str) -> str:
    """The appearance of a name, with Latin letters for those of other scripts that have their shape.

    Two names with the same skeleton look alike, as in section 4 of Unicode Technical Standard 39.

    Example:
        >>> skeleton("\u0430n\u0430") == skeleton("ana")
        True
    """
    return appearance(unicodedata.normalize("NFKD", name).translate(_SHAPES))


def _looks(name: str) -> frozenset[str]:
    """The forms of a name: names that share one look alike. Capital letters may have a shape that small ones lack."""
    return frozenset({appearance(name), skeleton(name)})


def check_names(names: Sequence[str], known: Iterable[str]) -> None:
    """Refuse names that look like each other, or like that of somebody else.

    Args:
        names: names that people are to have.
        known: names of people in the project, which may be the same.

    Raises:
        ConfigError: two look alike, or a name occurs twice.
    """
    seen: dict[str, str] = {}
    for name in names:
        other = next((seen[look] for look in _looks(name) if look in seen), None)
        if other is not None:
            what = "occurs twice" if other == name else f"looks like {printable(repr(other))}"
            raise ConfigError(f"the name {printable(repr(name))} {what}: each person needs a name of her own")
        seen |= dict.fromkeys(_looks(name), name)
    taken = set(known)
    for name in taken:
        for mine in {seen[look] for look in _looks(name) if look in seen}:
            if mine != name and mine not in taken:
                raise ConfigError(
                    f"the name {printable(repr(mine))} looks like {printable(repr(name))}, who is in this project: "
                    "type that name, or another one"
                )
