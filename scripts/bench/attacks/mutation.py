"""Random changes of bytes and of values, drawn so that a number names each."""

import random
from collections.abc import Callable, Sequence
from typing import Any

_SYMBOLS = "\"',;|\t\n\r:#&*!%@`=+-[](){}<>\\/ "
_PAIRS = '\\n \\u0000 \\ud800 \\x "" """ \'\' ,, [] {} [[ }} ``` \\\\ %s {0} ${x} ../ ~x C:\\ --- ... *a ?'
_NUMBERS = "null None NaN nan inf -inf 1e999 -1 0 1.0 1e-400 true false NA yes ~ 0x1F 1_000 ٣ ² 1,5 150% -0"
_LETTERS = "é e\u0301 ﬁ ＡＢ İ ı ß 😀 👩\u200d💻 \U0010ffff العربية ़ １２"
_CELLS = "=1+1 @SUM(A1) +1 ' sep=; id label text skip none !!int !!python/name:os.x"
_INVISIBLE = "\r\n|\t\t|\n\n|\0|\0\0|\x1b[31m|\x7f|\x85|\xa0|\ufeff|\u2028|\u200b|\u202e|\ufffd|\ud800"
_LONG = ("9" * 30, "9" * 400, "[" * 60, "{" * 60, '{"a":' * 50, "[" * 1200, "- " * 300, "a" * 300, "word " * 80)
_YAML = ("&a [*a]", "<<: *a", "&a ", "? ", "--- ")
_BROKEN = (
    b"\xff",
    b"\xfe\xff",
    b"\xff\xfe",
    b"\xc3",
    b"\xe9",
    b"\xed\xa0\x80",
    b"\xf4\x90\x80\x80",
    b"\xc0\x80",
    b"\x80",
)

#: What readers trip over, put in anywhere.
TOKENS: tuple[bytes, ...] = (
    *(
        token.encode("utf-8", "surrogatepass")
        for token in (
            *_SYMBOLS,
            *(token for group in (_PAIRS, _NUMBERS, _LETTERS, _CELLS) for token in group.split(" ")),
            *_INVISIBLE.split("|"),
            *_LONG,
            *_YAML,
        )
    ),
    *_BROKEN,
)

#: What a cell or a value may turn into.
VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 2, 1.5, 1e308, -0.0, float("nan"), float("inf"), 10**25, 2**63, -(2**63)),
    *("", " ", "\0", "a\0b", "\n", "\t", '"', "'", ",", ";", "|", "null", "nan", "-1", "0", "1", "1.0", "é", "e\u0301"),
    *("x" * 500, "\ufeff", "\u200b", "\ud800", "\u202e", "[]", "['a']", "[0, 1]", "a|b", "a;b", "=1", "none", "skip"),
    *([], [""], [None], ["a"], ["a", "a"], [0, 1], [[1]], [[]], {}, {"a": 1}, {"label": "a"}, [{"a": []}]),
)


def mutated(data: bytes, point: random.Random, tokens: Sequence[bytes] = TOKENS) -> bytes:
    """The bytes with one to five changes, mostly one or two."""
    for _ in range(1 + min(point.randrange(5), point.randrange(5), point.randrange(5))):
        data = point.choice(_CHANGES)(data, point, tokens)
    return data


def _somewhere(data: bytes, point: random.Random) -> int:
    return point.randrange(len(data) + 1)


def _insert(data: bytes, point: random.Random, tokens: Sequence[bytes]) -> bytes:
    at = _somewhere(data, point)
    return data[:at] + point.choice(tokens) * point.choice((1, 1, 1, 2, 7)) + data[at:]


def _overwrite(data: bytes, point: random.Random, tokens: Sequence[bytes]) -> bytes:
    at, token = _somewhere(data, point), point.choice(tokens)
    return data[:at] + token + data[at + len(token) :]


def _flip(data: bytes, point: random.Random, tokens: Sequence[bytes]) -> bytes:
    if not data:
        return data
    at = point.randrange(len(data))
    return data[:at] + bytes([data[at] ^ 1 << point.randrange(8)]) + data[at + 1 :]


def _cut(data: bytes, point: random.Random, tokens: Sequence[bytes]) -> bytes:
    begin, end = sorted((_somewhere(data, point), _somewhere(data, point)))
    return data[:begin] + data[min(end, begin + point.choice((1, 3, 20, 10**9))) :]


def _truncate(data: bytes, point: random.Random, tokens: Sequence[bytes]) -> bytes:
    return data[: _somewhere(data, point)]


def _repeat(data: bytes, point: random.Random, tokens: Sequence[bytes]) -> bytes:
    begin, end = sorted((_somewhere(data, point), _somewhere(data, point)))
    return data[:end] + data[begin : min(end, begin + 300)] * point.choice((1, 2, 30)) + data[end:]


def _swap_lines(data: bytes, point: random.Random, tokens: Sequence[bytes]) -> bytes:
    lines = data.split(b"\n")
    one, other = point.randrange(len(lines)), point.randrange(len(lines))
    lines[one], lines[other] = lines[other], lines[one]
    return b"\n".join(lines)


def _drop_line(data: bytes, point: random.Random, tokens: Sequence[bytes]) -> bytes:
    lines = data.split(b"\n")
    del lines[point.randrange(len(lines))]
    return b"\n".join(lines)


def _replace_all(data: bytes, point: random.Random, tokens: Sequence[bytes]) -> bytes:
    if not data:
        return data
    found = data[(at := point.randrange(len(data))) : at + 1]
    new = point.choice(tokens)
    return data if len(data) * len(new) > 300_000 else data.replace(found, new)


def _encode(data: bytes, point: random.Random, tokens: Sequence[bytes]) -> bytes:
    encoding = point.choice(("utf-16", "utf-16-le", "utf-8-sig", "cp1252", "utf-32"))
    return data.decode("utf-8", "replace").encode(encoding, "replace")


Change = Callable[[bytes, random.Random, Sequence[bytes]], bytes]
_CHANGES: tuple[Change, ...] = (
    *(_insert, _insert, _insert, _overwrite, _overwrite, _flip, _flip, _cut, _cut, _truncate, _repeat),
    *(_swap_lines, _drop_line, _replace_all),
)
ENCODED: Change = _encode


def changed_value(value: Any, point: random.Random) -> Any:
    """One value replaced by another."""
    if isinstance(value, str) and point.random() < 0.5:
        token = point.choice(TOKENS).decode("utf-8", "replace")
        at = point.randrange(len(value) + 1)
        return value[:at] + token + value[at:]
    return point.choice(VALUES)


def changed_rows(rows: list[dict[str, Any]], point: random.Random) -> list[dict[str, Any]]:
    """The rows with up to four changes: of a value, of a key, of the order."""
    rows = [dict(row) for row in rows]
    for _ in range(point.randrange(5)):
        row = point.choice(rows)
        how = point.randrange(8)
        if how < 4 and row:
            key = point.choice(list(row))
            row[key] = changed_value(row[key], point)
        elif how == 4 and row:
            del row[point.choice(list(row))]
        elif how == 5:
            rows.append(dict(point.choice(rows)))
        elif how == 6:
            other, key = point.choice(rows), point.choice(("id", "text", "label"))
            row[key], other[key] = other.get(key), row.get(key)
        else:
            row[point.choice(("extra", "", "text ", "\ufefftext", "label\0"))] = changed_value("a", point)
    return rows
