"""Ways in which a file can be wrong: its bytes, its kind, what stands in it."""

import contextlib
import json
import os
import random
import shutil
import socket
import sqlite3
import zlib
from collections.abc import Callable
from pathlib import Path

Damage = Callable[[Path], None]

DEEP = 100_000
LONG = "9" * 5000


def content(new: bytes | Callable[[bytes], bytes]) -> Damage:
    """Other bytes in the file."""

    def damage(path: Path) -> None:
        path.write_bytes(new(path.read_bytes()) if callable(new) else new)

    return damage


def text(new: str) -> Damage:
    """Another text in the file."""
    return content(new.encode("utf-8", "surrogatepass"))


def _noise(old: bytes) -> bytes:
    return random.Random(0).randbytes(4096)


def _sprinkled(old: bytes) -> bytes:
    point, found = random.Random(1), bytearray(old)
    for _ in range(max(1, len(found) // 50)):
        found[point.randrange(len(found))] = point.randrange(256)
    return bytes(found)


#: Damage to the bytes of any file. Where the first of a pair is true, no reader can make sense of it.
BYTES: dict[str, tuple[bool, Damage]] = {
    "empty": (True, content(b"")),
    "one NUL": (True, content(b"\0")),
    "NULs": (True, content(b"\0" * 5000)),
    "noise": (True, content(_noise)),
    "PNG": (True, content(b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 4)),
    "gzip": (True, content(lambda old: b"\x1f\x8b\x08\0" + zlib.compress(old))),
    "zip": (True, content(b"PK\x03\x04" + bytes(range(256)) * 4)),
    "UTF-32": (True, content(lambda old: old.decode("utf-8", "replace").encode("utf-32"))),
    "mark alone": (False, content(b"\xef\xbb\xbf")),
    "UTF-16": (False, content(lambda old: old.decode("utf-8", "replace").encode("utf-16"))),
    "UTF-16 without a mark": (False, content(lambda old: old.decode("utf-8", "replace").encode("utf-16-le"))),
    "half": (False, content(lambda old: old[: len(old) // 2])),
    "ten bytes": (False, content(lambda old: old[:10])),
    "first byte gone": (False, content(lambda old: old[1:])),
    "sprinkled": (False, content(_sprinkled)),
    "NULs at the end": (False, content(lambda old: old + b"\0" * 100)),
    "NUL in the middle": (False, content(lambda old: old[: len(old) // 2] + b"\0" + old[len(old) // 2 :])),
    "Latin-1 at the end": (False, content(lambda old: old + b"caf\xe9\n")),
    "twice": (False, content(lambda old: old + old)),
    "two megabytes of a": (False, content(b"a" * 2_000_000)),
    "deep brackets": (False, content(b"[" * DEEP)),
    "deep objects": (False, content(b'{"a":' * DEEP)),
    "quotes": (False, content(b'"' * 9999)),
    "line breaks": (False, content(b"\n" * 9999)),
    "carriage returns": (False, content(lambda old: old.replace(b"\n", b"\r"))),
    "doubled line ends": (False, content(lambda old: old.replace(b"\n", b"\r\r\n"))),
    "control characters": (False, content(lambda old: b"\x1b[31m\x07\x08\x0b\x0c" + old)),
    "long number": (False, content(LONG.encode())),
    "HTML": (False, content(b"<!doctype html><title>404</title><p>not found, \x1b[2J sorry</p>\n")),
}


def _instead(make: Callable[[Path], None]) -> Damage:
    def damage(path: Path) -> None:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
        make(path)

    return damage


def _socket(path: Path) -> None:
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as opened:
        here = os.getcwd()
        os.chdir(path.parent)  # the whole path may be too long for a socket
        try:
            opened.bind(path.name)
        finally:
            os.chdir(here)


def _device(path: Path) -> None:
    try:
        os.mknod(path, 0o600 | 0o020000, os.makedev(1, 3))  # as /dev/null
    except OSError:
        os.mkfifo(path)


#: Something else under the file's name.
KINDS: dict[str, Damage] = {
    "gone": _instead(lambda path: None),
    "a folder": _instead(lambda path: path.mkdir()),
    "a pipe": _instead(lambda path: os.mkfifo(path)),
    "a device": _instead(_device),
    "a socket": _instead(_socket),
    "a link to nothing": _instead(lambda path: path.symlink_to("nowhere/at-all")),
    "a loop of links": _instead(lambda path: path.symlink_to(path.name)),
    "unreadable": lambda path: path.chmod(0),
    "read only": lambda path: path.chmod(0o444),
}


def rows(head: str, *lines: str) -> Damage:
    """A delimited file of these lines."""
    return text("\n".join((head, *lines)) + "\n")


_MANY = "\n".join(f't{i},"a text {i}",class{i}' for i in range(1000))

CSV: dict[str, Damage] = {
    "head alone": rows("id,text,label"),
    "no text column": rows("id,body,label", "1,a,x", "2,b,y"),
    "no label column": rows("id,text", "1,a", "2,b"),
    "no id column": rows("text,label", "a,x", "b,y"),
    "text column twice": rows("id,text,text,label", "1,a,a,x", "2,b,b,y"),
    "column name is not UTF-8": content(b"id,text,label,\xff\xfe\n1,a,x,1\n2,b,y,2\n"),
    "column name of a million": rows("id,txt,label," + "n" * 1_000_000, "1,a,x,", "2,b,y,"),
    "ten thousand columns": rows(",".join(f"c{i}" for i in range(10_000)), ",".join("1" for _ in range(10_000))),
    "ids twice": rows("id,text,label", "1,a,x", "1,b,y", "2,c,x"),
    "empty ids": rows("id,text,label", ",a,x", ",b,y"),
    "id of a million": rows("id,text,label", f"{'i' * 1_000_000},a,x", f"{'i' * 1_000_000},b,y"),
    "ragged": rows("id,text,label", "1,a,x", "2,b", "3,c,y,z"),
    "quote never closed": rows("id,text,label", '1,"a,x', "2,b,y", "3,c,x"),
    "quote inside": rows("id,text,label", '1,"a"b,x', "2,b,y"),
    "semicolons": rows("id;text;label", "1;a;x", "2;b;y"),
    "bars": rows("id|text|label", "1|a|x", "2|b|y"),
    "spaces": rows("id text label", "1 a x", "2 b y"),
    "one class": rows("id,text,label", "1,a,x", "2,b,x", "3,c,x"),
    "no label at all": rows("id,text,label", "1,a,", "2,b,", "3,c,"),
    "one row": rows("id,text,label", "1,a,x"),
    "texts all empty": rows("id,text,label", "1,,x", "2,,y", "3,  ,x"),
    "texts all alike": rows("id,text,label", *(f"{i},a text,{'xy'[i % 2]}" for i in range(40))),
    "texts without words": rows("id,text,label", *(f"{i},{'!?.'[i % 3]},{'xy'[i % 2]}" for i in range(40))),
    "a thousand classes": content(("id,text,label\n" + _MANY + "\n").encode()),
    "class of a million": rows("id,text,label", f"1,a,{'c' * 1_000_000}", "2,b,y", "3,c,y"),
    "class with NUL": content(b"id,text,label\n1,a,x\0y\n2,b,y\n3,c,y\n"),
    "class with escape": rows("id,text,label", "1,a,\x1b[31mred", "2,b,y", "3,c,y"),
    "class with line break": rows("id,text,label", '1,a,"x\ny"', "2,b,y", "3,c,y"),
    "class with bidi marks": rows("id,text,label", "1,a,\u202ex", "2,b,x", "3,c,y"),
    "lists as labels": rows("id,text,label", "1,a,\"['x','y']\"", "2,b,\"['y']\"", "3,c,x"),
    "0/1 vectors as labels": rows("id,text,label", '1,a,"[0,1,0]"', '2,b,"[1,0,0]"', '3,c,"[0,0,0]"'),
    "numbers as labels": rows("id,text,label", "1,a,1e999", "2,b,nan", "3,c,-1", f"4,d,{LONG}"),
}
TSV: dict[str, Damage] = {
    "quote begins a text": rows("id\ttext\tlabel", '1\t"a\tx', "2\tb\ty", '3\tc"\tx'),
    "tab in a text": rows("id\ttext\tlabel", "1\ta\tb\tx", "2\tb\ty"),
    "commas": rows("id,text,label", "1,a,x", "2,b,y"),
    "ragged": rows("id\ttext\tlabel", "1\ta", "2\tb\ty"),
    "head alone": rows("id\ttext\tlabel"),
    "ids twice": rows("id\ttext\tlabel", "1\ta\tx", "1\tb\ty"),
}
_LINE = '{"id": "%s", "text": "%s", "label": %s}'
JSONL: dict[str, Damage] = {
    "a list a line": rows("[1, 2]", "[3]"),
    "a word a line": rows('"a"', '"b"'),
    "cut line": rows(_LINE % (1, "a", '"x"'), '{"id": "2", "te'),
    "text is a number": rows('{"id": "1", "text": 5, "label": "x"}', _LINE % (2, "b", '"y"')),
    "text is an object": rows('{"id": "1", "text": {"a": 1}, "label": "x"}', _LINE % (2, "b", '"y"')),
    "text is null": rows('{"id": "1", "text": null, "label": "x"}', '{"id": "2", "text": null, "label": "y"}'),
    "label is infinite": rows(_LINE % (1, "a", "1e999"), _LINE % (2, "b", '"y"')),
    "label is not a number": rows(_LINE % (1, "a", "NaN"), _LINE % (2, "b", '"y"')),
    "label of 5,000 digits": rows(_LINE % (1, "a", LONG), _LINE % (2, "b", '"y"')),
    "label is an object": rows(_LINE % (1, "a", '{"x": 1}'), _LINE % (2, "b", '"y"')),
    "label is a list": rows(_LINE % (1, "a", '["x"]'), _LINE % (2, "b", '"y"')),
    "label is deep": rows(_LINE % (1, "a", "[" * 5000 + "]" * 5000), _LINE % (2, "b", '"y"')),
    "label is true": rows(_LINE % (1, "a", "true"), _LINE % (2, "b", '"y"')),
    "half a surrogate": rows(_LINE % (1, "a\\ud800", '"x"'), _LINE % (2, "b", '"y"')),
    "half a surrogate as label": rows(_LINE % (1, "a", '"\\udc00"'), _LINE % (2, "b", '"y"')),
    "half a surrogate as id": rows(_LINE % ("\\udc00", "a", '"x"'), _LINE % (2, "b", '"y"')),
    "NUL in a text": rows(_LINE % (1, "a\\u0000b", '"x"'), _LINE % (2, "b", '"y"')),
    "key twice": rows('{"id": "1", "text": "a", "text": "b", "label": "x"}', _LINE % (2, "b", '"y"')),
    "keys of a million": rows('{"%s": 1}' % ("k" * 1_000_000), '{"a": 1}'),
    "deep elsewhere": rows('{"id": "1", "text": "a", "label": "x", "z": ' + "[" * 5000 + "]" * 5000 + "}"),
    "deep line": rows("[" * DEEP, _LINE % (2, "b", '"y"')),
}
JSON: dict[str, Damage] = {
    "array never closed": text("[" + _LINE % (1, "a", '"x"') + ",\n" + _LINE % (2, "b", '"y"')),
    "comma missing": text("[" + _LINE % (1, "a", '"x"') + "\n" + _LINE % (2, "b", '"y"') + "]"),
    "empty array": text("[]"),
    "array of numbers": text("[1, 2, 3]"),
    "array of arrays": text("[[1], [2]]"),
    "something after it": text("[" + _LINE % (1, "a", '"x"') + "] and more"),
    "an object of columns": text('{"id": ["1", "2"], "text": ["a", "b"], "label": ["x", "y"]}'),
    "a number": text("5"),
    "deep": text("[" + "[" * DEEP),
    "label of 5,000 digits": text("[" + _LINE % (1, "a", LONG) + "," + _LINE % (2, "b", '"y"') + "]"),
    "label is infinite": text("[" + _LINE % (1, "a", "1e999") + "," + _LINE % (2, "b", '"y"') + "]"),
}


def table(columns: dict[str, list[object]], metadata: dict[bytes, bytes] | None = None, **types: str) -> Damage:
    """A Parquet file of these columns."""

    def damage(path: Path) -> None:
        import pyarrow as pa
        import pyarrow.parquet

        arrays = {name: pa.array(values, types.get(name)) for name, values in columns.items()}
        pa.parquet.write_table(pa.table(arrays).replace_schema_metadata(metadata), path)

    return damage


_ROWS: dict[str, list[object]] = {"id": ["1", "2", "3"], "text": ["a", "b", "c"], "label": ["x", "y", "x"]}
_FEATURE = '{"info": {"features": {"label": {"names": %s, "_type": "ClassLabel"}}}}'
PARQUET: dict[str, Damage] = {
    "no rows": table({name: [] for name in _ROWS}, id="string", text="string", label="string"),
    "texts are numbers": table({**_ROWS, "text": [1, 2, 3]}),
    "texts are lists": table({**_ROWS, "text": [["a"], ["b"], []]}),
    "texts are bytes": table({**_ROWS, "text": [b"a", b"\xff", b"c"]}),
    "texts are null": table({**_ROWS, "text": [None, None, None]}),
    "ids are numbers": table({**_ROWS, "id": [1.5, 2.5, float("nan")]}),
    "ids are null": table({**_ROWS, "id": [None, None, None]}),
    "labels are fractions": table({**_ROWS, "label": [0.5, 1.0, float("inf")]}),
    "labels are not a number": table({**_ROWS, "label": [float("nan"), 1.0, 2.0]}),
    "labels are bytes": table({**_ROWS, "label": [b"x", b"\xff", b"y"]}),
    "labels are true": table({**_ROWS, "label": [True, False, True]}),
    "labels are lists": table({**_ROWS, "label": [["x"], ["y"], []]}),
    "labels are lists of lists": table({**_ROWS, "label": [[["x"]], [["y"]], []]}),
    "labels are objects": table({**_ROWS, "label": [{"a": 1}, {"a": 2}, {"a": 3}]}),
    "labels are vectors": table({**_ROWS, "label": [[0, 1], [1, 0], [0, 0]]}),
    "metadata is no JSON": table(_ROWS, {b"huggingface": b"{"}),
    "metadata is not UTF-8": table(_ROWS, {b"huggingface": b"\xff\xfe\xff"}),
    "metadata is a list": table(_ROWS, {b"huggingface": b"[1]"}),
    "metadata is a number": table(_ROWS, {b"huggingface": b"5"}),
    "metadata is null": table(_ROWS, {b"huggingface": b'{"info": null}'}),
    "metadata is deep": table(_ROWS, {b"huggingface": b"[" * DEEP}),
    "metadata has many digits": table(_ROWS, {b"huggingface": LONG.encode()}),
    "features are a list": table(_ROWS, {b"huggingface": b'{"info": {"features": [1]}}'}),
    "names are a number": table(_ROWS, {b"huggingface": (_FEATURE % 5).encode()}),
    "names are null": table({**_ROWS, "label": [0, 1, 0]}, {b"huggingface": (_FEATURE % "[null, 1]").encode()}),
    "names are a word": table({**_ROWS, "label": [0, 1, 0]}, {b"huggingface": (_FEATURE % '"xy"').encode()}),
    "names are too few": table({**_ROWS, "label": [0, 7, 0]}, {b"huggingface": (_FEATURE % '["x", "y"]').encode()}),
    "names twice": table({**_ROWS, "label": [0, 1, 0]}, {b"huggingface": (_FEATURE % '["x", "x"]').encode()}),
    "code is negative": table({**_ROWS, "label": [0, -2, 0]}, {b"huggingface": (_FEATURE % '["x", "y"]').encode()}),
}


def inside(name: str, new: bytes | Callable[[bytes], bytes]) -> Damage:
    """Other bytes in the files of a folder that the pattern names."""

    def damage(path: Path) -> None:
        for file in path.glob(name):
            content(new)(file)

    return damage


SAVED: dict[str, Damage] = {
    f"{name}: {how}": inside(name, new)
    for name in ("state.json", "dataset_info.json", "data-*.arrow")
    for how, new in {
        "empty": b"",
        "a list": b"[]",
        "null": b"null",
        "empty object": b"{}",
        "half": lambda old: old[: len(old) // 2],
        "noise": b"\xff\x00" * 400,
        "deep": b"[" * DEEP,
        "digits": LONG.encode(),
    }.items()
}
SAVED |= {
    "no data files": inside("state.json", lambda old: json.dumps({**json.loads(old), "_data_files": []}).encode()),
    "a file elsewhere": inside(
        "state.json",
        lambda old: json.dumps({**json.loads(old), "_data_files": [{"filename": "../tickets.csv"}]}).encode(),
    ),
    "features are words": inside(
        "dataset_info.json", lambda old: json.dumps({**json.loads(old), "features": {"text": "string"}}).encode()
    ),
    "features are unknown": inside(
        "dataset_info.json", lambda old: json.dumps({**json.loads(old), "features": {"text": {"_type": "X"}}}).encode()
    ),
    "a file among them is a folder": lambda path: KINDS["a folder"](path / "state.json"),
    "unreadable": lambda path: path.chmod(0),
}

_BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 12)
)
_MERGES = "m0: &m0 {k: 1}\n" + "".join(f"m{i}: &m{i} {{<<: [*m{i - 1}, *m{i - 1}], k{i}: 1}}\n" for i in range(1, 30))


def added(more: str) -> Damage:
    """The text at the end of the file."""
    return content(lambda old: old + more.encode("utf-8", "surrogatepass"))


def swapped(before: str, after: str) -> Damage:
    """A part of the file, changed."""
    return content(lambda old: old.replace(before.encode(), after.encode("utf-8", "surrogatepass"), 1))


CONFIG: dict[str, Damage] = {
    "a list": text("- a\n- b\n"),
    "a word": text("word\n"),
    "two documents": added("---\na: 1\n"),
    "aliases that double": added(_BOMB),
    "merges that double": added(_MERGES),
    "alias of itself": added("x: &x [*x]\n"),
    "alias of itself as strategy": swapped("Margin", "&x {Phases: {first: *x, then: *x}}"),
    "unknown alias": added("x: *nothing\n"),
    "deep flow": added("x: " + "[" * 5000 + "]" * 5000 + "\n"),
    "deep flow, open": added("x: " + "[" * DEEP + "\n"),
    "deep block": added("x:\n" + "".join(" " * i + "a:\n" for i in range(1, 1500))),
    "deep dashes": added("x:\n  " + "- " * 5000 + "a\n"),
    "object": added("x: !!python/object/apply:os.getcwd []\n"),
    "name": added("x: !!python/name:os.system\n"),
    "module": swapped("Margin", "!!python/module:this"),
    "binary": added("x: !!binary aGVsbG8=\n"),
    "set": added("x: !!set {a, b}\n"),
    "unknown tag": added("x: !nothing a\n"),
    "integer of words": added("start: !!int many\n"),
    "date": added("start: 2001-99-99\n"),
    "number of 5,000 digits": added(f"batch: {LONG}\n"),
    "base 60": added("pool_sample: 190:20:30\n"),
    "key is a list": added("? [a, b]\n: 1\n"),
    "key is null": added("? \n: 1\n"),
    "key is a number": added("5: 1\n"),
    "key of a million": added("k" * 1_000_000 + ": 1\n"),
    "value of a million": added("weak: " + "v" * 1_000_000 + "\n"),
    "key twice": added("start: 5\nstart: 6\n"),
    "tab": added("x:\n\ty: 1\n"),
    "NUL in a value": swapped(".csv", '.csv\\0"'),
    "path with NUL": swapped("path: tickets.csv", 'path: "a\\0b.csv"'),
    "path is empty": swapped("path: tickets.csv", "path: ''"),
    "path is a dot": swapped("path: tickets.csv", "path: ."),
    "path is a list": swapped("path: tickets.csv", "path: [a, b]"),
    "path is null": swapped("path: tickets.csv", "path: null"),
    "path is a half surrogate": swapped("path: tickets.csv", 'path: "\\ud800.csv"'),
    "path of 5,000": swapped("path: tickets.csv", "path: " + "p" * 5000 + ".csv"),
    "path is this config": swapped("path: tickets.csv", "path: run.yaml"),
    "folder with NUL": added('folder: "a\\0b"\n'),
    "folder is empty": added("folder: ''\n"),
    "folder of 5,000": added("folder: " + "f" * 5000 + "\n"),
    "folder is a file": added("folder: tickets.csv\n"),
    "folder in a file": added("folder: tickets.csv/x\n"),
    "folder is a half surrogate": added('folder: "\\udcff"\n'),
    "folder is a number": added("folder: 5\n"),
    "learner is a list": swapped("learner: TfidfLearner", "learner: [TfidfLearner]"),
    "learner is null": swapped("learner: TfidfLearner", "learner: null"),
    "learner is a module": swapped("learner: TfidfLearner", "learner: os"),
    "learner is a function": swapped("learner: TfidfLearner", "learner: os.getcwd"),
    "learner is in the folder": swapped("learner: TfidfLearner", "learner: planted_plugin.Nothing"),
    "learner with two names": swapped("learner: TfidfLearner", "learner: {TfidfLearner: {}, ProbeLearner: {}}"),
    "learner with odd options": swapped("learner: TfidfLearner", "learner: {TfidfLearner: {C: [1], ngrams: {a: 1}}}"),
    "ngrams of 5,000 digits": swapped("learner: TfidfLearner", "learner: {TfidfLearner: {ngrams: " + LONG + "}}"),
    "C is infinite": swapped("learner: TfidfLearner", "learner: {TfidfLearner: {C: .inf}}"),
    "C is not a number": swapped("learner: TfidfLearner", "learner: {TfidfLearner: {C: .nan}}"),
    "ngrams are zero": swapped("learner: TfidfLearner", "learner: {TfidfLearner: {ngrams: 0}}"),
    "Phases in Phases": swapped("Margin", "{Phases: {first: Random, then: " * 30 + "Margin" + "}}" * 30),
    "Phases in Phases, 300": swapped("Margin", "{Phases: {first: Random, then: " * 300 + "Margin" + "}}" * 300),
    "one class named": swapped("id: id", "id: id, classes: [a]"),
    "class named twice": swapped("id: id", "id: id, classes: [a, a]"),
    "classes are nested": swapped("id: id", "id: id, classes: [[a], [b]]"),
    "classes are empty": swapped("id: id", "id: id, classes: ['', ' ']"),
    "classes are others": swapped("id: id", "id: id, classes: [u, v]"),
    "classes are ten thousand": swapped("id: id", "id: id, classes: [" + ", ".join(map(str, range(10_000))) + "]"),
    "seeds are many": added("seeds: [" + ", ".join(["1"] * 100_000) + "]\n"),
    "seeds are huge": added("seeds: [99999999999999999999999999]\n"),
    "loggers are odd": added("loggers: [{Nothing: {}}]\n"),
    "escape in a key": added('"\\e[31mred": 1\n'),
    "line breaks in a key": added('"a\\nb\\nc": 1\n'),
    "YAML 9": content(lambda old: b"%YAML 9.0\n---\n" + old),
    "unprintable": added("x: \x07\n"),
}

SHEET: dict[str, Damage] = {
    "head alone": rows("id,text,label"),
    "no id column": rows("text,label", "a,billing"),
    "no label column": rows("id,text", "t1,a"),
    "two label columns": rows("id,text,label,label", "t1,a,billing,billing"),
    "unknown ids": rows("id,text,label", "z1,a,billing", "z2,b,billing"),
    "id of a million": rows("id,text,label", f"{'i' * 1_000_000},a,billing"),
    "unknown class": swapped("billing", "biling"),
    "class of a million": swapped("billing", "b" * 1_000_000),
    "class with NUL": content(lambda old: old.replace(b"billing", b"bill\0ing", 1)),
    "class with escape": swapped("billing", "\x1b[31mbilling"),
    "every class unknown": content(lambda old: old.replace(b"billing", b"x").replace(b"access", b"y")),
    "quote never closed": swapped("billing", '"billing'),
    "deep in a cell": swapped("billing", "[" * 50_000),
    "formula": swapped("billing", "=1+1"),
    "lines twice, contradicting": content(lambda old: old + old.partition(b"\n")[2].replace(b"billing", b"access")),
    "semicolon in the head": content(lambda old: old.replace(b",", b";", 1)),
    "first line is sep": content(lambda old: b"sep=;\n" + old),
    "answers shifted": content(lambda old: _shifted(old)),
    "ids sorted": content(lambda old: _sorted_ids(old)),
    "ten thousand unknown": rows("id,text,label", *(f"z{i},a{i},class{i}" for i in range(10_000))),
}


def _lines(old: bytes) -> tuple[str, list[list[str]]]:
    head, *lines = old.decode("utf-8-sig").splitlines()
    return head, [line.split(",") for line in lines]


def _shifted(old: bytes) -> bytes:
    head, lines = _lines(old)
    texts = [line[1] for line in lines]
    moved = [[line[0], said, *line[2:]] for line, said in zip(lines, [*texts[1:], texts[0]], strict=True)]
    return "\n".join([head, *(",".join(line) for line in moved)]).encode() + b"\n"


def _sorted_ids(old: bytes) -> bytes:
    head, lines = _lines(old)
    names = sorted(line[0] for line in lines)
    moved = [[name, *line[1:]] for line, name in zip(lines, names, strict=True)]
    return "\n".join([head, *(",".join(line) for line in moved)]).encode() + b"\n"


def statements(*lines: str, **values: object) -> Damage:
    """SQL that is run in a database whose checks are off."""

    def damage(path: Path) -> None:
        with contextlib.closing(sqlite3.connect(path)) as base:
            base.execute("PRAGMA ignore_check_constraints = 1")
            for line in lines:
                base.execute(line, values if ":" in line else {})
            base.commit()

    return damage


def _another(path: Path) -> None:
    for name in (path.name, path.name + "-wal", path.name + "-shm"):
        path.with_name(name).unlink(missing_ok=True)
    with contextlib.closing(sqlite3.connect(path)) as base:
        base.execute("CREATE TABLE moz_places (id INTEGER PRIMARY KEY, url TEXT)")
        base.commit()


_DEEP_JSON = "[" * DEEP + "]" * DEEP
DATABASE: dict[str, Damage] = {
    "another program's": _another,
    "newer": statements("PRAGMA user_version = 99"),
    "negative version": statements("PRAGMA user_version = -1"),
    "other application": statements("PRAGMA application_id = 7"),
    "page missing": content(lambda old: old[: max(4096, len(old) - 4096)]),
    "page of noise": content(lambda old: old[:4096] + random.Random(2).randbytes(4096) + old[8192:]),
    "header of noise": content(lambda old: old[:40] + random.Random(3).randbytes(60) + old[100:]),
}
LABELS: dict[str, Damage] = DATABASE | {
    "no events": statements("DROP TABLE events"),
    "no batches": statements("DROP TABLE batches"),
    "batches emptied": statements("DELETE FROM batches"),
    "column missing": statements("ALTER TABLE events DROP COLUMN who"),
    "unknown kind": statements("UPDATE events SET kind = 'eaten' WHERE event = 3"),
    "value is no JSON": statements("UPDATE events SET value = '{' WHERE kind = 'answered'"),
    "value is a number": statements("UPDATE events SET value = '5' WHERE kind = 'answered'"),
    "value is null": statements("UPDATE events SET value = NULL WHERE kind = 'answered'"),
    "value is an object": statements("UPDATE events SET value = '{\"a\": 1}' WHERE kind = 'answered'"),
    "value is a list": statements("UPDATE events SET value = '[\"billing\"]' WHERE kind = 'answered'"),
    "value is deep": statements("UPDATE events SET value = :deep WHERE kind = 'answered'", deep=_DEEP_JSON),
    "value has many digits": statements(f"UPDATE events SET value = '{LONG}' WHERE kind = 'answered'"),
    "value is an unknown class": statements("UPDATE events SET value = '\"zzz\"' WHERE kind = 'answered'"),
    "value of a million": statements(
        "UPDATE events SET value = :long WHERE kind = 'answered'", long='"' + "z" * 1_000_000 + '"'
    ),
    "value has half a surrogate": statements("UPDATE events SET value = '\"\\ud800\"' WHERE kind = 'answered'"),
    "row is unknown": statements("UPDATE events SET row = 'zzz' WHERE event = 1"),
    "row is not UTF-8": statements("UPDATE events SET row = CAST(X'fffe' AS TEXT) WHERE event = 1"),
    "row has NUL": statements("UPDATE events SET row = 'a' || char(0) || 'b' WHERE event = 1"),
    "row of a million": statements("UPDATE events SET row = :long WHERE event = 1", long="r" * 1_000_000),
    "retracts nothing": statements(
        "INSERT INTO events (kind, at, round, row, retracts) VALUES ('retracted', 0, 1, 't1', 9999)"
    ),
    "answer to no question": statements(
        "INSERT INTO events (kind, at, round, row, value) VALUES ('answered', 0, 1, 'zzz', '\"billing\"')"
    ),
    "round is negative": statements("UPDATE events SET round = -5"),
    "round is huge": statements("UPDATE events SET round = 9223372036854775807"),
    "score is infinite": statements("UPDATE events SET score = 9e999"),
    "confidence is infinite": statements("UPDATE events SET confidence = 9e999"),
    "details are no JSON": statements("UPDATE batches SET details = '{'"),
    "details are a list": statements("UPDATE batches SET details = '[1]'"),
    "details are deep": statements("UPDATE batches SET details = :deep", deep=_DEEP_JSON),
    "details have many digits": statements(f"UPDATE batches SET details = '{LONG}'"),
    "budget is negative": statements("INSERT INTO budgets (round, tokens) VALUES (1, -5)"),
    "budget is zero": statements("INSERT INTO budgets (round, tokens) VALUES (1, 0)"),
}
REPLIES: dict[str, Damage] = {
    how: damage for how, damage in DATABASE.items() if how not in {"page missing", "page of noise", "header of noise"}
}

_KEYS = ("round", "labels", "metrics", "strategy", "seed", "test", "rows")


def _rewritten(change: Callable[[dict[str, object]], object]) -> Damage:
    def damage(path: Path) -> None:
        lines = [change(json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]
        path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")

    return damage


METRICS: dict[str, Damage] = {
    "lists": _rewritten(lambda line: [line]),
    "numbers": _rewritten(lambda line: 5),
    "empty objects": _rewritten(lambda line: {}),
    "values are null": _rewritten(lambda line: dict.fromkeys(line)),
    "values are words": _rewritten(lambda line: dict.fromkeys(line, "word")),
    "values are lists": _rewritten(lambda line: {key: [1, "a", None] for key in line}),
    "values are objects": _rewritten(lambda line: {key: {"a": {"b": 1}} for key in line}),
    "values are huge": _rewritten(lambda line: dict.fromkeys(line, 10**300)),
    "values are negative": _rewritten(lambda line: dict.fromkeys(line, -1)),
    "values are infinite": content(lambda old: old.replace(b": 0.", b': 1e999, "x": 0.')),
    "values are not numbers": content(lambda old: old.replace(b": 0.", b': NaN, "x": 0.')),
    "digits": content(lambda old: old.replace(b": 0.", b": " + LONG.encode() + b', "x": 0.', 1)),
    "deep line": content(lambda old: b'{"round": ' + b"[" * DEEP + b"]" * DEEP + b"}\n" + old),
    "torn last line": content(lambda old: old + b'{"round": 3, "la'),
    "a line twice": content(lambda old: old + old.splitlines(keepends=True)[-1]),
    "lines in reverse": content(lambda old: b"".join(old.splitlines(keepends=True)[::-1])),
    "escape in the strategy": content(lambda old: old.replace(b'"Margin"', b'"\\u001b[31m\\u0000Margin"')),
    "script in the strategy": content(lambda old: old.replace(b'"Margin"', b'"</script><script>x"')),
}


def _checked(change: Callable[[dict[str, object]], object]) -> Damage:
    def damage(path: Path) -> None:
        stored = json.loads(path.read_text(encoding="utf-8"))
        path.write_text(json.dumps(change(stored)), encoding="utf-8")

    return damage


CHECK: dict[str, Damage] = {
    "a list": text("[]"),
    "a number": text("5"),
    "empty object": text("{}"),
    "unknown key": _checked(lambda old: {**old, "zzz": 1}),
    "key missing": _checked(lambda old: {key: value for key, value in old.items() if key != "of"}),
    "ids are a word": _checked(lambda old: {**old, "ids": "word"}),
    "ids are numbers": _checked(lambda old: {**old, "ids": list(range(len(old["ids"])))}),  # type: ignore[arg-type]
    "ids are lists": _checked(lambda old: {**old, "ids": [[1]] * len(old["ids"])}),  # type: ignore[arg-type]
    "ids are unknown": _checked(lambda old: {**old, "ids": ["zz"] * len(old["ids"])}),  # type: ignore[arg-type]
    "probabilities are zero": _checked(lambda old: {**old, "probabilities": [0.0] * len(old["ids"])}),  # type: ignore[arg-type]
    "probabilities are infinite": _checked(
        lambda old: {**old, "probabilities": [float("inf")] * len(old["ids"])}  # type: ignore[arg-type]
    ),
    "probabilities are words": _checked(lambda old: {**old, "probabilities": ["x"] * len(old["ids"])}),  # type: ignore[arg-type]
    "guesses are numbers": _checked(lambda old: {**old, "guesses": [1] * len(old["ids"])}),  # type: ignore[arg-type]
    "guesses are null": _checked(lambda old: {**old, "guesses": [None] * len(old["ids"])}),  # type: ignore[arg-type]
    "answers are a list": _checked(lambda old: {**old, "answers": []}),
    "answers are numbers": _checked(lambda old: {**old, "answers": {"t1": 5}}),
    "number is a word": _checked(lambda old: {**old, "number": "one"}),
    "number is negative": _checked(lambda old: {**old, "number": -7}),
    "number is huge": _checked(lambda old: {**old, "number": 10**400}),
    "of is a fraction": _checked(lambda old: {**old, "of": 0.5}),
    "of is negative": _checked(lambda old: {**old, "of": -3}),
    "uniform is a word": _checked(lambda old: {**old, "uniform": "x"}),
    "deep": text("[" * DEEP),
    "digits": text('{"number": ' + LONG + "}"),
}

MODEL: dict[str, Damage] = {
    "no files": lambda path: [file.unlink() for file in path.iterdir()] and None,  # type: ignore[func-returns-value]
    "a file": KINDS["gone"],
    "marker is deep": inside("trained_on.json", b"[" * DEEP),
    "marker is a list": inside("trained_on.json", b"[]"),
    "marker has many digits": inside("trained_on.json", b'{"trained_on": ' + LONG.encode() + b', "seconds": 1}'),
    "marker is noise": inside("trained_on.json", b"\xff\x00\xfe"),
    "everything is empty": inside("*", b""),
    "everything is noise": inside("*", random.Random(4).randbytes(3000)),
    "everything is half": inside("*", lambda old: old[: len(old) // 2]),
    "weights are noise": inside("*.safetensors", random.Random(5).randbytes(3000)),
    "weights are cut": inside("*.safetensors", lambda old: old[: len(old) // 2]),
    "facts are deep": inside("tfidf.json", b"[" * DEEP),
    "facts are a list": inside("tfidf.json", b"[]"),
    "facts lack terms": inside("tfidf.json", b'{"classes": [], "multilabel": false}'),
    "classes differ": inside("tfidf.json", lambda old: old.replace(b"billing", b"bxlling")),
}
