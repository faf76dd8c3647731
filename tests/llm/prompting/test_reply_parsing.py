"""What a reply says is read tolerantly, and nothing is invented."""

import json
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dal.llm.prompting.reply_parsing import Parsed, confidence_of, label_in_prose, match_label, parse, parse_many

LABELS = ("spam", "not spam", "product_question", "Billing")

READ = [
    ('{"label": "spam", "confidence": 85}', 0, 0.85),
    ('```json\n{"label": "spam", "confidence": 0.85}\n```', 0, 0.85),
    ('Sure! Here it is: {"label": "SPAM", "confidence": "85%"} Hope it helps.', 0, 0.85),
    ("{'label': 'not spam', 'confidence': '85 %',}", 1, 0.85),
    ('{"label": "Not-Spam.", "confidence": "about 85"}', 1, 0.85),
    ('{"label": " \\"product question\\" ", "confidence": "85/100"}', 2, 0.85),
    ("{label: billing, confidence: 0,85}", 3, 0),
    ('{"Label": "billing", "Confidence": "0,85"}', 3, 0.85),
    ('{"label": "spam", "confidence": 850}', 0, None),
    ('{"label": "spam", "confidence": -3}', 0, None),
    ('{"label": "spam", "confidence": "high"}', 0, None),
    ('{"label": "spam", "confidence": NaN}', 0, None),
    ('{"label": "eggs", "confidence": 90}', None, 0.9),
    ('{"label": "spam", "confidence": 85, "reason": "it sells', 0, 0.85),
    ('{"label": "spam", "confidence": 8', 0, None),
    ('{"label": "not sp', None, None),
    ('{"label": "spam', None, None),
    ('{"label": "spam", "conf', 0, None),
    ('{"label":', None, None),
    ('As [1] says, {"label": "spam", "confidence": 85}', 0, 0.85),
    ('[{"label": "spam", "confidence": 85}]', 0, 0.85),
    ('{"answer": {"label": "spam", "confidence": 85}}', None, None),
    ('{"result": {"label": "spam", "confidence": 85}}', 0, 0.85),
    ('{"sentiment": "spam", "confidence": 85}', 0, 0.85),
    ('{"confidence": 40, "alternatives": {"spam": 40}}', None, 0.4),
    ('{"confidence": 40, "alternatives": [{"label": "spam", "probability": 40}]}', None, 0.4),
    ('{"label": "spam", "reason": "it\'s so"}', 0, None),
    ("{'label': 'spam', 'reason': 'it's so', 'confidence': 85}", 0, 0.85),
    ("spam", 0, None),
    ("The label is: **Not spam** (85%).", 1, 0.85),
    ("Label: spam\nConfidence: 85%", 0, 0.85),
    ("This is not billing.", None, None),
    ("It isn't really spam", None, None),
    ("spam or billing, who knows", None, None),
    ("spammer", None, None),
    ("", None, None),
    ("[" * 5000, None, None),
    ('{"a":' * 5000, None, None),
    ("&a [*a]", None, None),
    ('{"confidence": ' + "9" * 6000 + "}", None, None),
]


@pytest.mark.parametrize(("reply", "label", "confidence"), READ, ids=[reply[:40] for reply, *_ in READ])
def test_a_reply_is_read(reply: str, label: int | None, confidence: float | None) -> None:
    found = parse(reply, LABELS)
    assert (found.label, found.confidence) == (label, confidence)
    assert found.verbatim == reply


def test_alternatives_reason_and_ambiguity_are_kept() -> None:
    reply = json.dumps(
        {
            "label": "spam",
            "confidence": 60,
            "alternatives": {"Not Spam": "30%", "billing": 0.1, "eggs": 5, "spam": 60},
            "reason": "it sells",
            "ambiguity": "it is polite",
        }
    )
    found = parse(reply, LABELS)
    assert found.alternatives == {1: 0.3, 3: 0.1}
    assert (found.reason, found.ambiguity) == ("it sells", "it is polite")
    listed = '{"label": "spam", "alternatives": [{"label": "billing", "probability": 20}, {"not spam": "5%"}, 3]}'
    assert parse(listed, LABELS).alternatives == {3: 0.2, 1: 0.05}


def test_labels_that_are_alike_but_for_punctuation_are_matched_exactly_or_not_at_all() -> None:
    labels = ("a-b", "a b", "C", "c")
    assert [match_label(name, labels) for name in ("a-b", "a b", "C", "c", "A_B", "c.")] == [0, 1, 2, 3, None, None]
    assert label_in_prose("it is C", labels) is None


def test_a_label_without_letters_is_matched_as_it_stands_only() -> None:
    assert match_label("+", ("+", "-")) == 0
    assert match_label("!", ("+", "-")) is None
    assert parse("+", ("+", "-")).label == 0
    assert parse('{"label": "-"}', ("+", "-")).label == 1


MANY = [
    ('[{"number": 2, "label": "spam"}, {"number": 1, "label": "billing"}]', 2, [3, 0]),
    ('{"answers": [{"number": 1, "label": "spam"}, {"number": 3, "label": "billing"}]}', 3, [0, None, 3]),
    ('{"answers": [{"label": "spam"}, {"label": "billing"}]}', 2, [0, 3]),
    ('{"answers": [{"label": "spam"}, {"label": "billing"}]}', 3, [None, None, None]),
    ('[{"number": 1, "label": "spam"}, {"number": 1, "label": "billing"}]', 2, [None, None]),
    ('[{"number": 1, "label": "spam"}, {"number": 9, "label": "billing"}]', 2, [0, None]),
    ('["spam", "billing"]', 2, [0, 3]),
    ('{"1": "spam", "2": {"label": "billing"}}', 2, [0, 3]),
    ('[{"number": 1, "label": "spam"}, {"number": 2, "label": "bill', 2, [0, None]),
    ('{"label": "spam"}', 1, [0]),
    ("spam", 1, [0]),
    ("nothing", 2, [None, None]),
]


@pytest.mark.parametrize(("reply", "count", "labels"), MANY, ids=[reply[:40] for reply, *_ in MANY])
def test_a_reply_to_many_texts_is_put_in_their_order(reply: str, count: int, labels: list[int | None]) -> None:
    assert [item.label for item in parse_many(reply, LABELS, count)] == labels


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(LABELS),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.text() | st.sampled_from(["label", "answers", "number", "confidence", "alternatives", "reason"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)
pieces = st.sampled_from(
    [
        "{",
        "}",
        "[",
        "]",
        '"',
        "'",
        ":",
        ",",
        "label",
        "confidence",
        "spam",
        "not",
        "85",
        "%",
        "\\",
        "```json\n",
        "```",
        " ",
        "&a",
        "*a",
        "!!python",
        "\n",
        "#",
        "|",
        "?",
        "- ",
    ]
)
replies = st.text() | values.map(json.dumps) | st.lists(pieces, max_size=30).map("".join)


@settings(max_examples=300, deadline=None)
@given(replies, st.integers(0, 60), st.integers(0, 4))
def test_nothing_raises_and_no_label_is_invented(reply: str, cut: int, count: int) -> None:
    for text in (reply, reply[:cut]):
        for found in [parse(text, LABELS), *parse_many(text, LABELS, count)]:
            assert found.verbatim is not None
            assert found.confidence is None or 0 <= found.confidence <= 1
            assert all(0 < share <= 1 for share in found.alternatives.values())
            written = {found.label, *found.alternatives} - {None}
            said = plain(json.dumps(text, ensure_ascii=False) + text + unescaped(text))
            assert all(plain(LABELS[code]) in said for code in written)
            assert found.label not in found.alternatives


def plain(text: str) -> str:
    return "".join(letter for letter in text.casefold() if letter.isalnum())


def unescaped(text: str) -> str:
    return re.sub(r"\\u([0-9a-fA-F]{4})", lambda match: chr(int(match[1], 16)), text)


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(range(4)), st.integers(0, 100), st.text(max_size=20), st.integers(1, 200))
def test_a_cut_off_answer_says_what_the_whole_one_says_or_nothing(code: int, sure: int, why: str, cut: int) -> None:
    whole = json.dumps({"label": LABELS[code], "confidence": sure, "reason": why})
    found = parse(whole[:cut], LABELS)
    assert found.label in (code, None)
    assert found.confidence in (confidence_of(sure), None)


@given(st.text(), st.lists(st.text(), max_size=4))
def test_any_labels_will_do(reply: str, labels: list[str]) -> None:
    assert isinstance(parse(reply, labels), Parsed)


# What follows took from seconds to forever: the tests that end show that it does not any more.


BOMB = "{a: &a [x, x, x, x, x, x, x, x, x, x], " + ", ".join(
    f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    "reply",
    [
        BOMB + ", label: *i}",
        BOMB + ", label: spam}",
        "{label: &a spam, reason: *a}",
        "{label: spam, reason: &a [*a]}",
        "{<<: &a {label: spam}, x: *a}",
    ],
    ids=lambda text: text[-24:],
)
def test_a_reply_with_aliases_is_read_as_prose(reply: str) -> None:
    assert parse(reply, LABELS) == Parsed(reply, label_in_prose(reply, LABELS))
    assert parse_many(reply, LABELS, 2) == [Parsed(reply)] * 2


@pytest.mark.parametrize("depth", [60, 300, 900, 5000])
@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}"), ('[{"a":', "}]"), ("{'a':", "}")])
def test_a_reply_that_is_nested_deep_says_nothing(depth: int, opening: str, closing: str) -> None:
    reply = opening * depth + '"x"' + closing * depth
    assert parse(reply, LABELS) == parse_many(reply, LABELS, 1)[0] == Parsed(reply)


@pytest.mark.parametrize(
    "piece",
    [
        "confiden",
        "confidence:",
        "1",
        "1,",
        "9%",
        "% ",
        "[",
        "[1,",
        "{a:",
        "'",
        '"',
        "\\",
        "```",
        "\u0323\u0301",
        "not ",
    ],
    ids=ascii,
)
@pytest.mark.parametrize("before", ["", "[", "{", "confidence: ", "```json\n{'label': '"], ids=ascii)
def test_a_reply_of_megabytes_is_read(piece: str, before: str) -> None:
    reply = before + piece * (2_000_000 // len(piece))
    for found in (parse(reply, LABELS), *parse_many(reply, LABELS, 3)):
        assert found.confidence is None or 0 <= found.confidence <= 1


def test_a_number_of_thousands_of_digits_is_no_confidence() -> None:
    digits = "9" * 5000
    for reply in (
        f'{{"label": "spam", "confidence": {digits}}}',
        f"{{label: spam, confidence: {digits}}}",
        f"spam, confidence: {digits}",
        f'{{"label": "spam", "confidence": 1e{digits}}}',
        f'{{"label": "spam", "confidence": -1e{digits}}}',
    ):
        assert (parse(reply, LABELS).label, parse(reply, LABELS).confidence) == (0, None)


def test_a_digit_that_belongs_to_a_word_is_no_confidence() -> None:
    assert parse("spam, confidence85", LABELS).confidence is None
    assert parse("spam, confidence_1: 85", LABELS).confidence == 0.85


def test_a_reply_names_one_of_many_labels() -> None:
    labels = tuple(f"class {n}" for n in range(10_000))
    assert parse("I think that it is Class_9999.", labels).label == 9999
    assert parse('{"label": "class-77"}', labels).label == 77
    assert parse("class 1 or class 2", labels).label is None
    assert parse("class 1, yes, class 1", labels).label == 1


def test_the_longest_label_that_is_written_counts() -> None:
    labels = ("order", "order status", "order status change")
    assert parse("an order status change, clearly", labels).label == 2
    assert parse("the order status", labels).label == 1
    assert parse("the order status and an order", labels).label is None


def test_little_of_a_reply_is_read_as_yaml(monkeypatch: pytest.MonkeyPatch) -> None:
    read = 0

    def count(text: str, **options: object) -> object:
        nonlocal read
        read += len(text)
        raise ValueError

    monkeypatch.setattr("dal.llm.prompting.json_in_text.parse_yaml", count)
    for reply in ("[" * 8 + "a," * 30_000, "```\n[a, b]\n" * 10_000 + "[" * 8):
        read = 0
        parse(reply, LABELS)
        assert 0 < read <= 40_000


def test_a_class_name_is_read_as_it_was_shown() -> None:
    labels = ("two\nlines", "</text>", "x")
    assert match_label("two lines", labels) == 0
    assert match_label("&lt;/text>", labels) == 1
