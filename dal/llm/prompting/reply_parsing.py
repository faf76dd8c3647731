"""Parse replies of language models: tolerant of malformed JSON, but without guessing labels."""

import json
import math
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from dal.llm.prompting.fence import named
from dal.llm.prompting.json_in_text import LONGEST, json_values

_NUMBER = re.compile(r"(?<![\w.,])[-+]?(?:\d+(?:[.,]\d+)?|\.\d+)(?:[eE][-+]?\d{1,3})?(?![\w])")
# All repetitions between the word and its number are bounded, so that matching takes linear time for any text.
_CONFIDENCE = re.compile(r"confiden\w{0,40}+[^\d\n%]{0,30}?([-+]?\d++(?:[.,]\d++)?\s{0,9}%?)", re.IGNORECASE)
_PERCENTAGE = re.compile(r"(?<![\w.,-])\d++(?:[.,]\d++)?\s*+%")
_LONG_RUN = re.compile(r"([^\w\s]{30})[^\w\s]+")
_NEGATED = re.compile(r"(?:\b(?:not|no|never|neither|nor|without|cannot|isnt|wasnt)|n t)(?: \w+)?$")
_ITEMS = ("answers", "items", "results", "texts", "labels", "classifications")
_LABELS = ("label", "class", "category", "answer", "classification", "prediction")
_OTHERS = ("alternatives", "alternative", "others")
_REASONS, _AMBIGUITIES = ("reason", "reasoning", "explanation", "why"), ("ambiguity", "ambiguous")


@dataclass(frozen=True)
class Parsed:
    """Parsed answer to one text.

    Attributes:
        verbatim: the reply, or the item of it for this text, as received.
        label: code of the stated label; None if no label could be parsed.
        confidence: stated confidence, 0 to 1; None if none could be parsed.
        alternatives: code -> approximate probability, 0 to 1, of other labels.
        reason: the model's reason for the label.
        ambiguity: the model's statement of what makes the text ambiguous.
        dollars: cost of the reply in dollars, divided equally over its texts.
    """

    verbatim: str
    label: int | None = None
    confidence: float | None = None
    alternatives: Mapping[int, float] = field(default_factory=dict)
    reason: str = ""
    ambiguity: str = ""
    dollars: float = 0.0


def parse(reply: str, labels: Sequence[str]) -> Parsed:
    """Parse a reply to one text. Never raises, and never returns a label that is not in the reply.

    Tolerates code fences, text around the JSON, differences in case, spaces, quotes and punctuation of a label, percent
    signs, trailing commas and single quotes. Of a truncated reply, the complete parts are used. Without JSON, a reply
    that mentions exactly one label, not negated, has that label.

    >>> found = parse('Sure! ```json\\n{"label": "Not Spam", "confidence": "85%",}```', ["spam", "not_spam"])
    >>> found.label, found.confidence
    (1, 0.85)
    """
    known = tuple(labels)
    for value in json_values(reply):
        item = _single_item(value)
        if item is not None:
            return _parsed(item, reply, known)
    return Parsed(reply, label_in_prose(reply, known), confidence_in_prose(reply))


def parse_many(reply: str, labels: Sequence[str], count: int) -> list[Parsed]:
    """Parse a reply to `count` texts, in the order of the texts. Never raises.

    Items are assigned by the number of their text, counted from 1, or in order if no item has a number and there are as
    many items as texts. A text with no item, or with several items of its number, is unparsed.

    >>> [item.label for item in parse_many('[{"number": 2, "label": "b"}]', ["a", "b"], 2)]
    [None, 1]
    """
    known = tuple(labels)
    for value in json_values(reply):
        items = _items(value)
        if items is not None:
            by_text = _by_text(items, count)
            return [
                _parsed(by_text[n], json.dumps(by_text[n], ensure_ascii=False, default=str), known)
                if n in by_text
                else Parsed(reply)
                for n in range(count)
            ]
    if count == 1:
        return [parse(reply, known)]
    return [Parsed(reply) for _ in range(count)]


# -- labels


def match_label(written: Any, labels: Sequence[str]) -> int | None:
    """Return the code of a written label; None if it matches no label or several.

    Tries an exact match first, then ignores case, spaces, underscores, hyphens, quotes and punctuation.

    >>> match_label(' "Product-Question." ', ["billing", "product question"])
    1
    """
    if not isinstance(written, str):
        return None
    for normalize in _NORMALIZERS:
        codes = _index(tuple(labels), normalize)
        key = normalize(written)
        if key in codes:
            return codes[key]
        if len(written) > LONGEST:
            return None
    return None


def label_in_prose(text: str, labels: Sequence[str]) -> int | None:
    """Return the code of the only label mentioned in a text; None if there are none or several, or it is negated.

    >>> label_in_prose("The review is clearly positive.", ["negative", "positive"])
    1
    >>> label_in_prose("This is not positive at all.", ["negative", "positive"]) is None
    True
    """
    known = tuple(labels)
    whole = match_label(text, known)
    if whole is not None:
        return whole
    trie = _trie(known)
    if trie is None:
        return None
    plain = _plain(text[:LONGEST])
    words = plain.split()
    codes, at, start = set[int](), 0, 0  # word number `at` begins at character `start` of `plain`
    while at < len(words):
        code, count = _longest_match(trie, words, at)
        if code is not None:
            if codes - {code} or _NEGATED.search(plain[max(0, start - 40) : start].strip()):
                return None
            codes.add(code)
        start += sum(map(len, words[at : at + count])) + count
        at += count
    return codes.pop() if codes else None


@lru_cache(maxsize=64)
def _index(labels: tuple[str, ...], normalize: Callable[[str], str]) -> Mapping[str, int | None]:
    """Normalised label -> code; None if several labels have the same normal form."""
    keys = [normalize(label) for label in labels]
    count = Counter(keys)
    return {key: code if count[key] == 1 else None for code, key in enumerate(keys) if key}


@lru_cache(maxsize=64)
def _trie(labels: tuple[str, ...]) -> Mapping[str, Any] | None:
    """A trie of the labels' words, with codes under the key "". None if two labels have the same words."""
    codes = _index(labels, _plain)
    if not codes or len(codes) < len(labels):
        return None
    trie: dict[str, Any] = {}
    for key, code in codes.items():
        node = trie
        for word in key.split():
            node = node.setdefault(word, {})
        node[""] = code
    return trie


def _longest_match(trie: Mapping[str, Any], words: Sequence[str], at: int) -> tuple[int | None, int]:
    """The code and number of words of the longest label that begins at word `at`; (None, 1) if there is none."""
    code, node, end = None, trie, at
    count = 1
    while end < len(words) and words[end] in node:
        node, end = node[words[end]], end + 1
        if "" in node:
            code, count = node[""], end - at
    return code, count


def _folded(text: str) -> str:
    # Normalising a run of combining characters takes quadratic time, so long runs of non-word characters are cut.
    return unicodedata.normalize("NFKC", _LONG_RUN.sub(r"\1", text)).casefold().strip()


def _plain(text: str) -> str:
    """The words of a text, case-folded and separated by single spaces."""
    return re.sub(r"[\W_]+", " ", _folded(text)).strip()


#: Normal forms for comparing labels, the strictest first.
_NORMALIZERS: tuple[Callable[[str], str], ...] = (str, str.strip, named, _folded, _plain)


# -- numbers


def confidence_of(written: Any) -> float | None:
    """Convert a stated confidence to a share from 0 to 1: 0.85, 85, "85%", "85 / 100", "about 85". None if invalid.

    Numbers up to 1 are shares, unless followed by a percent sign; larger numbers are percentages.

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
    """Return the confidence in a reply without JSON: the number after that word, or the only percentage."""
    after = _CONFIDENCE.search(text[:LONGEST])
    if after:
        return confidence_of(after[1])
    percentages = _PERCENTAGE.findall(text[:LONGEST])
    return confidence_of(percentages[0]) if len(percentages) == 1 else None


def _share(number: float, percent: bool) -> float | None:
    if percent or number > 1:
        number /= 100
    return number if 0 <= number <= 1 else None


# -- answers in JSON


def _single_item(value: Any) -> dict[str, Any] | None:
    """The answer to one text: an object, also as the only element of a list or the only value of another object."""
    if isinstance(value, list):
        return _single_item(value[0]) if len(value) == 1 and isinstance(value[0], dict) else None
    if not isinstance(value, dict) or not value:
        return None
    inner = next(iter(value.values()))
    if len(value) == 1 and isinstance(inner, dict | list) and _key(value, _LABELS) is None:
        return _single_item(inner) if isinstance(inner, list) or _key(inner, _LABELS) else value
    return value


def _items(value: Any) -> list[Any] | None:
    """The answers to several texts: a list, also as a value of an object, or an object keyed by text numbers."""
    if isinstance(value, list):
        return value
    if not isinstance(value, dict):
        return None
    for name, inner in value.items():
        if isinstance(inner, list) and _plain(str(name)) in _ITEMS:
            return inner
    numbered = {str(name).strip(): inner for name, inner in value.items() if str(name).strip().isdecimal()}
    if numbered and len(numbered) == len(value):
        objects = [inner if isinstance(inner, dict) else {"label": inner} for inner in numbered.values()]
        return [{**item, "number": name} for name, item in zip(numbered, objects, strict=True)]
    return [value] if _key(value, _LABELS) else None


def _by_text(items: Sequence[Any], count: int) -> dict[int, Any]:
    """Index of the text (from 0) -> its item, without duplicate numbers and numbers out of range."""
    numbers = []
    for item in items:
        written = item.get("number", item.get("id", item.get("index"))) if isinstance(item, dict) else None
        digits = str(written).strip()  # a number, or text that spells one; longer ones cannot be positions
        numbers.append(int(digits) if digits.isdecimal() and len(digits) < 10 else None)
    if all(number is None for number in numbers):
        return dict(enumerate(items)) if len(items) == count else {}
    once = {number for number, times in Counter(numbers).items() if times == 1}
    return {
        n - 1: item for n, item in zip(numbers, items, strict=True) if n in once and n is not None and 1 <= n <= count
    }


def _key(item: Mapping[Any, Any], names: Sequence[str]) -> str | None:
    """The key of an object that matches the first of the names that any key matches."""
    keys = {_plain(str(key)): key for key in item}
    return next((keys[name] for name in names if name in keys), None)


def _parsed(item: Any, verbatim: str, labels: tuple[str, ...]) -> Parsed:
    if not isinstance(item, dict):
        return Parsed(verbatim, match_label(item, labels))
    confidence, label = _key(item, ("confidence", "probability", "certainty")), _label(item, labels)
    others = _key(item, _OTHERS)
    return Parsed(
        verbatim,
        label,
        None if confidence is None else confidence_of(item[confidence]),
        {} if others is None else _alternatives(item[others], labels, label),
        _string(item, _REASONS),
        _string(item, _AMBIGUITIES),
    )


def _label(item: Mapping[Any, Any], labels: tuple[str, ...]) -> int | None:
    """The stated label, also under another key if only one value is a label, such as {"sentiment": "positive"}."""
    key = _key(item, _LABELS)
    if key is not None:
        return match_label(item[key], labels)
    excluded = {_key(item, (name,)) for name in (*_OTHERS, *_REASONS, *_AMBIGUITIES)}
    codes = {match_label(value, labels) for name, value in item.items() if name not in excluded} - {None}
    return codes.pop() if len(codes) == 1 else None


def _alternatives(written: Any, labels: tuple[str, ...], stated: int | None) -> dict[int, float]:
    """Other labels with approximate probabilities, from an object or a list of objects, without unparsed ones."""
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
    alternatives: dict[int, float] = {}
    for name, share in pairs:
        code, probability = match_label(name, labels), confidence_of(share)
        if code is not None and code != stated and probability:
            alternatives[code] = max(probability, alternatives.get(code, 0.0))
    return alternatives


def _string(item: Mapping[Any, Any], names: Sequence[str]) -> str:
    key = _key(item, names)
    return item[key] if key is not None and isinstance(item[key], str) else ""
