"""What a language model's reply says, read tolerantly and without inventing anything."""

import json
import math
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import yaml

from dal.config.bounded_yaml import BoundedTextLoader, parse_yaml
from dal.llm.prompting.fence import named
from dal.store.bounded_json import parse_json

_LONGEST = 20_000  # characters that are looked at
_TRIED, _DEEPEST = 8, 40  # values that are looked at, brackets inside one another
_MENDED = 2 * _LONGEST  # characters of one reply that are read as YAML, which takes 10 microseconds each
_FENCED = re.compile(r"```[\w-]*\s*\n?(.*?)(?:```|\Z)", re.DOTALL)
_NUMBER = re.compile(r"(?<![\w.,])[-+]?(?:\d+(?:[.,]\d+)?|\.\d+)(?:[eE][-+]?\d{1,3})?(?![\w])")
# What is allowed between the word and its number is bounded everywhere, so that no text takes more than a linear time.
_CONFIDENCE = re.compile(r"confiden\w{0,40}+[^\d\n%]{0,30}?([-+]?\d++(?:[.,]\d++)?\s{0,9}%?)", re.IGNORECASE)
_PERCENTAGE = re.compile(r"(?<![\w.,-])\d++(?:[.,]\d++)?\s*+%")
_LONG_RUN = re.compile(r"([^\w\s]{30})[^\w\s]+")
_NEGATED = re.compile(r"(?:\b(?:not|no|never|neither|nor|without|cannot|isnt|wasnt)|n t)(?: \w+)?$")
_ITEMS = ("answers", "items", "results", "texts", "labels", "classifications")
_LABELS = ("label", "class", "category", "answer", "classification", "prediction")
_OTHERS = ("alternatives", "alternative", "others")
_REASONS, _DOUBTS = ("reason", "reasoning", "explanation", "why"), ("ambiguity", "ambiguous")


@dataclass(frozen=True)
class Parsed:
    """What one reply says of one text.

    Attributes:
        verbatim: the reply, or the item of it, as it came.
        label: code of the stated label; None where none of the labels can be read.
        confidence: as stated, 0 to 1; None where none can be read.
        alternatives: code -> rough probability, 0 to 1, of other labels.
        reason: why, in the model's words.
        ambiguity: what makes the text hard to decide.
        dollars: what the reply cost, or its share of a reply to several texts.
    """

    verbatim: str
    label: int | None = None
    confidence: float | None = None
    alternatives: Mapping[int, float] = field(default_factory=dict)
    reason: str = ""
    ambiguity: str = ""
    dollars: float = 0.0


def parse(reply: str, labels: Sequence[str]) -> Parsed:
    """What a reply to one text says. Never raises, and never gives a label that is not written there.

    Code fences, text around the JSON, other case, spaces, quotes and punctuation in a label, percent signs, trailing
    commas and single quotes are put up with. A reply that was cut off keeps what was whole. Without JSON, a reply that
    names one label alone, not negated, has that label.

    >>> found = parse('Sure! ```json\\n{"label": "Not Spam", "confidence": "85%",}```', ["spam", "not_spam"])
    >>> found.label, found.confidence
    (1, 0.85)
    """
    known = tuple(labels)
    for found in _structures(reply):
        item = _one(found)
        if item is not None:
            return _parsed(item, reply, known)
    return Parsed(reply, label_in_prose(reply, known), confidence_in_prose(reply))


def parse_many(reply: str, labels: Sequence[str], count: int) -> list[Parsed]:
    """What a reply to `count` texts says of each, in their order. Never raises.

    Items carry the number of their text, counted from 1; where none has a number and there are as many as texts, they
    are taken in order. A text without an item, or with two that differ in number alone, is unparsed.

    >>> [item.label for item in parse_many('[{"number": 2, "label": "b"}]', ["a", "b"], 2)]
    [None, 1]
    """
    known = tuple(labels)
    for found in _structures(reply):
        items = _items(found)
        if items is not None:
            placed = _placed(items, count)
            return [
                _parsed(placed[n], _shown(placed[n]), known) if n in placed else Parsed(reply) for n in range(count)
            ]
    if count == 1:
        return [parse(reply, known)]
    return [Parsed(reply) for _ in range(count)]


# -- labels


def match_label(written: Any, labels: Sequence[str]) -> int | None:
    """The code of the label that is written, None when it is none of them or could be several.

    As it stands first, then without regard to case, spaces, underscores, hyphens, quotes and punctuation.

    >>> match_label(' "Product-Question." ', ["billing", "product question"])
    1
    """
    if not isinstance(written, str):
        return None
    for keyed in _KEYINGS:
        places = _index(tuple(labels), keyed)
        key = keyed(written)
        if key in places:
            return places[key]
        if len(written) > _LONGEST:
            return None
    return None


def label_in_prose(text: str, labels: Sequence[str]) -> int | None:
    """The code of the one label that a text names, None when it names none, several, or says that it is not that one.

    >>> label_in_prose("The review is clearly positive.", ["negative", "positive"])
    1
    >>> label_in_prose("This is not positive at all.", ["negative", "positive"]) is None
    True
    """
    known = tuple(labels)
    whole = match_label(text, known)
    if whole is not None:
        return whole
    tree = _tree(known)
    if tree is None:
        return None
    plain = _plain(text[:_LONGEST])
    words = plain.split()
    codes, at, start = set[int](), 0, 0  # `start` is the place of the word `at` in `plain`
    while at < len(words):
        code, count = _longest(tree, words, at)
        if code is not None:
            if codes - {code} or _NEGATED.search(plain[max(0, start - 40) : start].strip()):
                return None
            codes.add(code)
        start += sum(map(len, words[at : at + count])) + count
        at += count
    return codes.pop() if codes else None


@lru_cache(maxsize=64)
def _index(labels: tuple[str, ...], keyed: Callable[[str], str]) -> Mapping[str, int | None]:
    """Key -> code of the label that has it, None where several have."""
    keys = [keyed(label) for label in labels]
    count = Counter(keys)
    return {key: code if count[key] == 1 else None for code, key in enumerate(keys) if key}


@lru_cache(maxsize=64)
def _tree(labels: tuple[str, ...]) -> Mapping[str, Any] | None:
    """The labels by their words, one level for each; "" leads to a code. None where some cannot be told apart."""
    places = _index(labels, _plain)
    if not places or len(places) < len(labels):
        return None
    tree: dict[str, Any] = {}
    for key, code in places.items():
        level = tree
        for word in key.split():
            level = level.setdefault(word, {})
        level[""] = code
    return tree


def _longest(tree: Mapping[str, Any], words: Sequence[str], at: int) -> tuple[int | None, int]:
    """The code of the longest label that begins with the word `at`, and how many words it has; None, 1 without one."""
    found, level, end = None, tree, at
    count = 1
    while end < len(words) and words[end] in level:
        level, end = level[words[end]], end + 1
        if "" in level:
            found, count = level[""], end - at
    return found, count


def _folded(text: str) -> str:
    # Sorting a run of accents takes the square of its length, so that a run of signs is cut.
    return unicodedata.normalize("NFKC", _LONG_RUN.sub(r"\1", text)).casefold().strip()


def _plain(text: str) -> str:
    """Words alone, in one case, with one space between them."""
    return re.sub(r"[\W_]+", " ", _folded(text)).strip()


#: Ways to compare a label with what is written, the strictest first.
_KEYINGS: tuple[Callable[[str], str], ...] = (str, str.strip, named, _folded, _plain)


# -- numbers


def confidence_of(written: Any) -> float | None:
    """A share from 0 to 1 of what is written: 0.85, 85, "85%", "85 / 100", "about 85". None when out of range.

    Up to 1 it is a share, unless a percent sign follows; above it is a percentage.

    >>> [confidence_of(each) for each in (0.85, 85, "85%", "1%", "150%", -1, "high")]
    [0.85, 0.85, 0.85, 0.01, None, None, None]
    """
    if isinstance(written, bool) or written is None:
        return None
    if isinstance(written, int | float):
        return _share(float(written) if abs(written) < 1e300 else math.nan, percent=False)
    if not isinstance(written, str) or len(written) > 100:
        return None
    numbers = list(_NUMBER.finditer(written))
    out_of = re.sub(r"\s*(?:/|out of)\s*100\b", " %", written)
    if out_of != written:
        return confidence_of(out_of)
    if len(numbers) != 1:
        return None
    percent = bool(re.match(r"\s*(?:%|percent|per cent)", written[numbers[0].end() :], re.IGNORECASE))
    return _share(float(numbers[0][0].replace(",", ".")), percent)


def confidence_in_prose(text: str) -> float | None:
    """The confidence in a reply without JSON: the one number after that word, or the one percentage there is."""
    after = _CONFIDENCE.search(text[:_LONGEST])
    if after:
        return confidence_of(after[1])
    percentages = _PERCENTAGE.findall(text[:_LONGEST])
    return confidence_of(percentages[0]) if len(percentages) == 1 else None


def _share(number: float, percent: bool) -> float | None:
    if percent or number > 1:
        number /= 100
    return number if 0 <= number <= 1 else None


# -- JSON


def _structures(reply: str) -> Iterator[Any]:
    """Objects and lists that the reply holds, one after the other: in code fences first, then anywhere."""
    text = reply[:_LONGEST]
    places = [match[1] for match in _FENCED.finditer(text)] if "```" in text else []
    mendable = _MENDED
    for place in [*places, text]:
        at, tried = _next_bracket(place, 0), 0
        while at >= 0 and tried < _TRIED:
            found, length, mended = _read(place[at:], mendable)
            mendable -= mended
            if isinstance(found, dict | list):
                yield found
            elif place[at] == "{":  # what lies inside what cannot be read may mean something else
                break
            at, tried = _next_bracket(place, at + length), tried + 1


def _next_bracket(text: str, start: int) -> int:
    return min((at for at in (text.find("{", start), text.find("[", start)) if at >= 0), default=-1)


def _read(text: str, mendable: int) -> tuple[Any, int, int]:
    """The first value of a text that begins with a bracket, None when it cannot be read, and its length.

    The last number says how many characters were read as YAML, of which at most `mendable` are.
    """
    try:
        found, length = json.JSONDecoder().raw_decode(text)
        if text.count("[", 0, length) + text.count("{", 0, length) <= _DEEPEST:
            return found, length, 0
        return parse_json(text[:length], max_depth=_DEEPEST), length, 0
    except (ValueError, RecursionError):
        pass
    whole, length = _balanced(text)
    if whole is None or len(whole) > mendable:
        return None, 1, 0
    try:  # YAML's flow style is JSON with single quotes, bare words and trailing commas; all its scalars stay text
        return parse_yaml(whole, loader=_FlowLoader), length, len(whole)
    except ValueError:
        return None, 1, len(whole)


class _FlowLoader(BoundedTextLoader):
    """Makes nothing but text, lists and dicts, and knows no aliases: no answer has one, and they multiply."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        """Compose a node that is no alias."""
        if self.check_event(yaml.events.AliasEvent):
            raise yaml.composer.ComposerError(None, None, "an alias", self.peek_event().start_mark)
        return super().compose_node(parent, index)


def _balanced(text: str) -> tuple[str | None, int]:
    """The first value of the text up to its last bracket; of one that was cut off, what was whole, and brackets."""
    closers: list[str] = []
    quote, value, at = "", 0, 0
    while at < len(text):
        character = text[at]
        if quote:
            if character == "\\" and quote == '"':
                at += 1
            elif character == quote and not (quote == "'" and _inside_word(text, at)):
                quote, value = "", at + 1
        elif character in "\"'" and not _inside_word(text, at):
            quote, value = character, at
        elif character in "{[":
            closers.append("}" if character == "{" else "]")
            value = at + 1
        elif character in "}]":
            if not closers or closers.pop() != character:
                return None, 1
            value = at + 1
            if not closers:
                return text[: at + 1], at + 1
        elif character in ",:":
            value = at + 1
        at += 1
        if len(closers) > _DEEPEST:
            return None, 1
    return text[:value] + _ending(text[:value]) + "".join(reversed(closers)), len(text)


def _inside_word(text: str, at: int) -> bool:
    return 0 < at < len(text) - 1 and text[at - 1].isalnum() and text[at + 1].isalnum()


def _ending(text: str) -> str:
    """What must follow so that a cut-off text can be closed: nothing in the place of a value that is missing."""
    return ' ""' if text.rstrip().endswith(":") else ""


def _one(found: Any) -> dict[str, Any] | None:
    """The answer to one text: an object, or the only one of a list, or under the only name of another."""
    if isinstance(found, list):
        return _one(found[0]) if len(found) == 1 and isinstance(found[0], dict) else None
    if not isinstance(found, dict) or not found:
        return None
    inner = next(iter(found.values()))
    if len(found) == 1 and isinstance(inner, dict | list) and _key(found, _LABELS) is None:
        return _one(inner) if isinstance(inner, list) or _key(inner, _LABELS) else found
    return found


def _items(found: Any) -> list[Any] | None:
    """The answers to several texts: a list, alone or under a name, or an object of numbers."""
    if isinstance(found, list):
        return found
    if not isinstance(found, dict):
        return None
    for name, value in found.items():
        if isinstance(value, list) and _plain(str(name)) in _ITEMS:
            return value
    numbered = {str(name).strip(): value for name, value in found.items() if str(name).strip().isdecimal()}
    if numbered and len(numbered) == len(found):
        inner = [value if isinstance(value, dict) else {"label": value} for value in numbered.values()]
        return [{**value, "number": name} for name, value in zip(numbered, inner, strict=True)]
    return [found] if _key(found, _LABELS) else None


def _placed(items: Sequence[Any], count: int) -> dict[int, Any]:
    """Text number (from 0) -> its item. Numbers that occur twice, or belong to no text, are left out."""
    numbers = [_number(item) for item in items]
    if all(number is None for number in numbers):
        return dict(enumerate(items)) if len(items) == count else {}
    once = {number for number, times in Counter(numbers).items() if times == 1}
    return {
        n - 1: item for n, item in zip(numbers, items, strict=True) if n in once and n is not None and 1 <= n <= count
    }


def _number(item: Any) -> int | None:
    written = item.get("number", item.get("id", item.get("index"))) if isinstance(item, dict) else None
    digits = str(written).strip()
    return int(digits) if digits.isdecimal() and len(digits) < 10 else None


def _key(found: Mapping[Any, Any], names: Sequence[str]) -> str | None:
    """The key among those of an object that one of the names means."""
    keys = {_plain(str(key)): key for key in found}
    return next((keys[name] for name in names if name in keys), None)


def _parsed(item: Any, verbatim: str, labels: tuple[str, ...]) -> Parsed:
    if not isinstance(item, dict):
        return Parsed(verbatim, match_label(item, labels))
    sure, label = _key(item, ("confidence", "probability", "certainty")), _label(item, labels)
    others = _key(item, _OTHERS)
    return Parsed(
        verbatim,
        label,
        None if sure is None else confidence_of(item[sure]),
        {} if others is None else _alternatives(item[others], labels, label),
        _words(item, _REASONS),
        _words(item, _DOUBTS),
    )


def _label(item: Mapping[Any, Any], labels: tuple[str, ...]) -> int | None:
    """The stated label; under another name where one value alone is a label, such as {"sentiment": "positive"}."""
    key = _key(item, _LABELS)
    if key is not None:
        return match_label(item[key], labels)
    beside = {_key(item, (name,)) for name in (*_OTHERS, *_REASONS, *_DOUBTS)}
    codes = {match_label(value, labels) for name, value in item.items() if name not in beside} - {None}
    return codes.pop() if len(codes) == 1 else None


def _alternatives(written: Any, labels: tuple[str, ...], stated: int | None) -> dict[int, float]:
    """Other labels with rough probabilities, from an object or a list of objects; those that cannot be read are out."""
    pairs: list[tuple[Any, Any]] = []
    if isinstance(written, dict):
        pairs = list(written.items())
        if (name := _key(written, _LABELS)) is not None:
            written = [written] if match_label(name, labels) is None else []
    if isinstance(written, list):
        pairs = []
        for item in written[:1000]:
            if isinstance(item, dict) and (name := _key(item, _LABELS)) is not None:
                share = _key(item, ("probability", "confidence", "percent"))
                pairs.append((item[name], None if share is None else item[share]))
            elif isinstance(item, dict) and len(item) == 1:
                pairs += item.items()
    found: dict[int, float] = {}
    for name, share in pairs:
        code, probability = match_label(name, labels), confidence_of(share)
        if code is not None and code != stated and probability:
            found[code] = max(probability, found.get(code, 0.0))
    return found


def _words(item: Mapping[Any, Any], names: Sequence[str]) -> str:
    key = _key(item, names)
    return item[key] if key is not None and isinstance(item[key], str) else ""


def _shown(item: Any) -> str:
    return json.dumps(item, ensure_ascii=False, default=str)
