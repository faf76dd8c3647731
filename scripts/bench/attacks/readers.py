"""What the mutated items are read by, and what must hold of what was read."""

import csv
import io
import json
import math
import random
import re
import shutil
import unicodedata
from pathlib import Path
from typing import Any

from attacks import folders
from attacks.mutated import Trial
from attacks.mutation import ENCODED, TOKENS, changed_rows, mutated


def _plain(text: str) -> str:
    """A text as two readers may both have it: composed, and without what surrounds it."""
    return unicodedata.normalize("NFC", text).replace("\r\n", "\n").strip().removeprefix("'").strip()


# -- data files --------------------------------------------------------------------------------------------------------


class Data:
    """Data files of every kind, read as a pool, twice."""

    KINDS = ("csv", "csv", "csv", "csv", "tsv", "tsv", "tsv", "jsonl", "jsonl", "jsonl", "json", "parquet", "parquet")

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._made = 0
        folders.write_data(folder, 6)

    def __call__(self, point: random.Random) -> Trial:
        kind = "datasets" if point.random() < 0.03 else point.choice(self.KINDS)
        self._made += 1
        path = self._folder / f"data{self._made}.{kind}"
        options: dict[str, Any] = {"text": "text", "label": point.choice(("label", "label", None))}
        options["id"] = point.choice(("id", None))
        options["multilabel"] = multilabel = point.random() < 0.25
        if options["label"] is None or point.random() < 0.3:
            options["classes"] = ["a", "b", "c"] if point.random() < 0.5 else [*folders.CLASSES]
        if options["label"] is not None and point.random() < 0.2:
            options["test"] = 0.3
        if point.random() < 0.2:
            options["seed"] = point.randrange(5)
        if kind == "datasets":
            content = self._saved(path, point)
        else:
            content = self._file(kind, point, multilabel)
            path.write_bytes(content)
        return Trial(kind, content, lambda: self._read(path, kind, content, options))

    def _file(self, kind: str, point: random.Random, multilabel: bool) -> bytes:
        rows = self._rows(point, multilabel, lists=kind not in ("csv", "tsv"))
        if point.random() < 0.6:
            rows = changed_rows(rows, point)
        head = list(dict.fromkeys(key for row in rows for key in row)) or ["text"]
        if kind == "parquet":
            content = _parquet(rows, head)
        elif kind in ("jsonl", "json"):
            written = [json.dumps(row, ensure_ascii=point.random() < 0.5) for row in rows]
            text = "\n".join(written) + "\n" if kind == "jsonl" else "[" + ", ".join(written) + "]"
            content = text.encode("utf-8", "surrogatepass")
        else:
            cells = [head, *([_cell(row.get(key)) for key in head] for row in rows)]
            content = _delimited(cells, kind, point)
        if point.random() < 0.7:
            content = mutated(content, point)
        if point.random() < 0.03:
            content = ENCODED(content, point, TOKENS)
        return content

    @staticmethod
    def _rows(point: random.Random, multilabel: bool, *, lists: bool) -> list[dict[str, Any]]:
        found = []
        vectors = multilabel and point.random() < 0.2
        for number in range(point.randint(2, 8)):
            label: Any = point.choice("abc")
            if multilabel:
                label = point.sample("abc", point.randrange(3))
                if vectors:
                    label = [int(name in label) for name in "abc"]
                    label = label if lists else str(label)
                elif point.random() < 0.05:
                    label = str(label)
                else:
                    label = label if lists and point.random() < 0.8 else ";".join(label)
            elif point.random() < 0.1:
                label = point.choice((None, 0, 1, ""))
            text = " ".join(point.choice(folders.FILLING) for _ in range(point.randint(1, 6)))
            if point.random() < 0.15:
                text += point.choice((', "so"', "\nmore", " é", " e\u0301", '"', " it's", " a;b", " x|y"))
            found.append({"id": f"r{number}", "text": text, "label": label})
        return found

    def _saved(self, path: Path, point: random.Random) -> bytes:
        shutil.copytree(self._folder / "saved", path)
        file = point.choice(sorted(path.iterdir()))
        content = mutated(file.read_bytes(), point)
        file.write_bytes(content)
        return content

    def _read(self, path: Path, kind: str, content: bytes, options: dict[str, Any]) -> list[str]:
        from dal.data import TextData

        try:
            first, again = (TextData(str(path), **options).load() for _ in range(2))
            return [
                *_of_rows(first.pool, first.test),
                *(["reading twice gives other rows"] if _facts(first.pool) != _facts(again.pool) else []),
                *_of_text(first.pool, kind, content, options),
                *(_of_vectors(first.pool, content) if kind == "jsonl" and options["multilabel"] else []),
            ]
        finally:
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()


def _cell(value: Any) -> str:
    return "" if value is None else value if isinstance(value, str) else str(value)


def _delimited(cells: list[list[str]], kind: str, point: random.Random) -> bytes:
    if kind == "tsv":
        lines = ["\t".join(cell.replace("\t", " ").replace("\n", " ") for cell in row) for row in cells]
        return ("\n".join(lines) + "\n").encode("utf-8", "surrogatepass")
    written = io.StringIO()
    delimiter = ";" if point.random() < 0.1 else ","
    quoting = csv.QUOTE_ALL if point.random() < 0.3 else csv.QUOTE_MINIMAL
    csv.writer(written, delimiter=delimiter, quoting=quoting, lineterminator="\n").writerows(cells)
    return written.getvalue().encode("utf-8", "surrogatepass")


def _parquet(rows: list[dict[str, Any]], head: list[str]) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet

    columns = {}
    for key in head:
        values = [row.get(key) for row in rows]
        try:
            columns[key.encode("utf-8", "replace").decode()] = pa.array(values)
        except (pa.ArrowException, OverflowError, UnicodeError, ValueError, TypeError):
            columns[key.encode("utf-8", "replace").decode()] = pa.array(
                [None if value is None else str(value).encode("utf-8", "replace").decode() for value in values]
            )
    sink = pa.BufferOutputStream()
    try:
        pa.parquet.write_table(pa.table(columns), sink)
    except pa.ArrowException:  # an empty struct cannot be written
        pa.parquet.write_table(pa.table({"text": ["a", "b"]}), sink)
    return sink.getvalue().to_pybytes()  # type: ignore[no-any-return]


def _facts(rows: Any) -> tuple[Any, ...]:
    return list(rows.ids), rows.texts(), rows.labels.tolist(), rows.known.tolist(), tuple(rows.classes)


def _of_rows(*parts: Any) -> list[str]:
    """What does not hold of rows, whatever they were read from."""
    faults = []
    for rows in parts:
        if rows is None:
            continue
        names = list(rows.ids)
        if len(set(names)) != len(names):
            faults.append("an id stands twice")
        if any(not isinstance(name, str) for name in names):
            faults.append("an id is no text")
        if any(not isinstance(text, str) or not text.strip() for text in rows.texts()):
            faults.append("a text is empty or no text")
        composed = [unicodedata.normalize("NFC", name) for name in rows.classes]
        if len(set(composed)) != len(composed):
            faults.append("two classes are the same but for their accents' form")
        if any(not name.strip() for name in rows.classes):
            faults.append("a class is empty")
        if rows.multilabel and any(name.startswith(("['", '["', "[0", "[1")) for name in rows.classes):
            faults.append("a list that is written as text has become a class")
        shape = (len(names), len(rows.classes)) if rows.multilabel else (len(names),)
        if tuple(rows.labels.shape) != shape:
            faults.append("labels have another shape than rows and classes")
        elif not rows.multilabel and len(names) and int(rows.labels.max()) >= len(rows.classes):
            faults.append("a label is no class")
    return faults


def _of_text(pool: Any, kind: str, content: bytes, options: dict[str, Any]) -> list[str]:
    """Whether the texts of the pool are those of the file, where an independent reader can say which these are."""
    if "test" in options:
        return []
    try:
        decoded = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return []
    expected: list[str] | None = None
    if kind == "tsv":
        if "\r" in decoded or "\t" not in decoded.partition("\n")[0]:
            return []
        lines = [line.split("\t") for line in decoded.split("\n") if line.strip()]
        if any(len(line) != len(lines[0]) for line in lines):
            return ["a file whose lines have more or fewer cells than its head is accepted"]
        expected = [line[lines[0].index("text")] for line in lines[1:]] if lines[0].count("text") == 1 else None
    elif kind == "jsonl":
        try:
            objects = [json.loads(line) for line in decoded.split("\n") if line.strip()]
        except (ValueError, RecursionError):
            return ["a file with a line that is no JSON is accepted"]
        labels = [each.get("label") for each in objects if isinstance(each, dict)]
        if options["label"] and any(isinstance(label, float) and not math.isfinite(label) for label in labels):
            return ["a label that is infinite or not a number is accepted"]
        expected = [each.get("text") if isinstance(each, dict) else None for each in objects]
    elif kind == "csv":
        expected = _csv_texts(decoded)
    if expected is None or not all(isinstance(text, str | None) for text in expected):
        return []
    wanted = [_plain(text) for text in expected if text is not None and text.strip()]
    given = [_plain(text) for text in pool.texts()]
    if wanted == given:
        return []
    return ["the texts are not those that the file holds"]


def _of_vectors(pool: Any, content: bytes) -> list[str]:
    """Whether labels that are vectors of zeros and ones, one for each class, were read as anything else."""
    try:
        rows = [json.loads(line) for line in content.splitlines() if line.strip()]
    except (ValueError, RecursionError):
        return []
    count = len(pool.classes)
    said = {}
    for row in rows:
        label = row.get("label") if isinstance(row, dict) else None
        if isinstance(label, list) and len(label) == count > 1 and all(type(each) is int for each in label):
            said[_plain(str(row.get("text")))] = label
    if not said or any(max(label) > 1 or min(label) < 0 for label in said.values()):
        return []
    for text, label, known in zip(pool.texts(), pool.labels.int().tolist(), pool.known.tolist(), strict=True):
        if known and _plain(text) in said and said[_plain(text)] != label:
            return ["a vector of zeros and ones is read as numbers of classes"]
    return []


def _csv_texts(decoded: str) -> list[str] | None:
    """The texts of a CSV file that can be read in one way only; None otherwise."""
    if "\r" in decoded or "\0" in decoded:
        return None
    for line in decoded.split("\n"):  # a quote in the middle of a cell is read in several ways
        stripped = line.replace('""', "")
        if stripped.count('"') % 2:
            return None
    delimiter = max(",;\t|", key=decoded.partition("\n")[0].count)
    try:
        rows = [row for row in csv.reader(io.StringIO(decoded, newline=""), delimiter=delimiter, strict=True) if row]
    except csv.Error:
        return None
    if not rows or rows[0].count("text") != 1 or any(len(row) != len(rows[0]) for row in rows):
        return None
    at = rows[0].index("text")
    bare = [cell for row in rows for cell in row if '"' in cell]
    return None if bare else [row[at] for row in rows[1:]]


# -- sheets ------------------------------------------------------------------------------------------------------------


class Sheets:
    """Sheets that `dal ask` wrote, filled in and mutated, read for a session that is left as it was."""

    CLASSES = ("billing", "café", "-1", "=x", "none of it", "[b]")
    TEXTS = (
        *("plain words", "plain words", "=1+1", "-5 degrees", "'quoted'", 'with "quotes" in it', "a, b; c\td"),
        *("two\nlines", "cafe\u0301 au lait", "café au lait", "日本語の文", "😀 smile", "skip", "id", "x" * 200),
        *("+49 30 123", "@home", "1e5", "0012", "1.50", "TRUE", "  spaces  ", "a|b", "null"),
    )

    def __init__(self, folder: Path) -> None:
        from dal.data import TextData
        from dal.learners.tfidf_learner import TfidfLearner
        from dal.session import Session
        from dal.strategies.random import Random

        self._path = folder / "sheet.csv"
        texts = [*self.TEXTS, *(text for text, _ in folders.texts(20))]
        names = [*(f"t{i}" for i in range(30)), "007", "1e3", "é", "-4", "=A1", *(f"{i}" for i in range(100, 120))]
        self._sessions = []
        for multilabel in (False, True):
            data = TextData.from_lists(
                texts, ids=names[: len(texts)], classes=list(self.CLASSES), multilabel=multilabel
            )
            session = Session(data, TfidfLearner(), Random())
            rows = session.ask(8)
            session.tell(rows[:6], [["billing"] if multilabel else "billing"] * 6)
            session.tell(rows[6:], [["café"] if multilabel else "café"] * 2)
            session.ask(24)
            self._sessions.append(session)

    def __call__(self, point: random.Random) -> Trial:
        from dal.annotate.sheet import questions

        how = point.random()
        if how < 0.1:
            return self._whole(point)
        if how < 0.2:
            return self._written(point)
        session = self._sessions[multilabel := int(point.random() < 0.3)]
        rows = list(csv.reader(io.StringIO(questions(session, session.pending), newline="")))
        head, lines = rows[0], rows[1:]
        lines = [dict(zip(head, line, strict=True)) for line in point.sample(lines, point.randint(1, len(lines)))]
        for line in lines:
            if point.random() < 0.85:
                line["label"] = point.choice((*self.CLASSES, "skip", "BILLING", "cafe\u0301", " billing "))
                if multilabel and point.random() < 0.4:
                    line["label"] = point.choice(("none", "billing|café", "-1 | =x", "|", "none|billing"))
        if point.random() < 0.5:
            lines = self._rearranged(lines, point)
        if point.random() < 0.3:
            lines = changed_rows(lines, point)
        head = list(dict.fromkeys([*head, *(str(key) for line in lines for key in line)]))
        written = io.StringIO()
        delimiter = point.choice(",,,,;\t|")
        cells = [head, *([_cell(line.get(key)) for key in head] for line in lines)]
        csv.writer(written, delimiter=delimiter, lineterminator=point.choice(("\n", "\r\n"))).writerows(cells)
        content = written.getvalue().encode("utf-8", "surrogatepass")
        content = b"\xef\xbb\xbf" * (point.random() < 0.5) + content
        if point.random() < 0.6:
            content = mutated(content, point)
        if point.random() < 0.05:
            content = ENCODED(content, point, TOKENS)
        correct = point.random() < 0.2
        return Trial(
            "sheet of several" if multilabel else "sheet", content, lambda: self._read(session, content, correct)
        )

    def _whole(self, point: random.Random) -> Trial:
        """A sheet filled in as it should be, its lines in another order: every answer must be taken."""
        from dal.annotate.sheet import questions, read_answers

        session = self._sessions[0]
        head, *lines = csv.reader(io.StringIO(questions(session, session.pending), newline=""))
        lines = point.sample(lines, point.randint(1, len(lines)))
        wanted = {}
        for line in lines:
            line[-1] = wanted[line[0]] = point.choice((*self.CLASSES, "skip"))
        written = io.StringIO()
        csv.writer(written, delimiter=point.choice(",,;\t"), lineterminator="\r\n").writerows([head, *lines])
        content = b"\xef\xbb\xbf" + written.getvalue().encode()

        def read() -> list[str]:
            self._path.write_bytes(content)
            told = read_answers(self._path, session)
            ids = [session.pool.ids[int(row)] for row in told.rows]
            given = [value if isinstance(value, str) else "skip" for value in told.values]
            found = {_plain(name): value for name, value in zip(ids, given, strict=True)}
            return [] if found == {_plain(name): value for name, value in wanted.items()} else ["answers are not taken"]

        return Trial("sheet as it should be", content, read)

    @staticmethod
    def _written(point: random.Random) -> Trial:
        """Cells as dal writes them: no spreadsheet may run one, whatever it takes for the separator."""
        from dal.store.spreadsheet import as_csv

        cells = [_formula(point) for _ in range(point.randint(1, 4))]
        content = as_csv([["id", "text", "label"], *([f"t{i}", cell, cell] for i, cell in enumerate(cells))])
        return Trial("sheet as written", content.encode("utf-8", "surrogatepass"), lambda: _formulas(content))

    @staticmethod
    def _rearranged(lines: list[dict[str, str]], point: random.Random) -> list[dict[str, str]]:
        """One column sorted or moved by a line, as a spreadsheet does where one column was marked."""
        key = point.choice(("id", "text", "label"))
        values = [line[key] for line in lines]
        moved = sorted(values) if point.random() < 0.5 else [*values[1:], values[0]]
        if point.random() < 0.3:
            one, other = point.randrange(len(values)), point.randrange(len(values))
            moved = list(values)
            moved[one], moved[other] = moved[other], moved[one]
        return [{**line, key: value} for line, value in zip(lines, moved, strict=True)]

    def _read(self, session: Any, content: bytes, correct: bool) -> list[str]:
        from dal.annotate.sheet import read_answers

        before = (session.store.answers, session.store.pending, session.round)
        self._path.write_bytes(content)
        told = read_answers(self._path, session, correct=correct)
        faults = []
        if (session.store.answers, session.store.pending, session.round) != before:
            faults.append("reading a sheet changed the session")
        rows = [int(row) for row in told.rows]
        if len(set(rows)) != len(rows):
            faults.append("a row is answered twice")
        pending = set(session.pending.tolist())
        for row, value in zip(rows, told.values, strict=True):
            for name in [value] if isinstance(value, str) else value if isinstance(value, list) else []:
                if name not in session.pool.classes:
                    faults.append("an answer is no class")
            if row not in pending and not correct and session.store.answer_to(session.pool.ids[row]) is None:
                faults.append("a row that was not asked is answered")
        return [*faults, *self._unsupported(session, content, rows, told.values)]

    @staticmethod
    def _unsupported(session: Any, content: bytes, rows: list[int], values: list[Any]) -> list[str]:
        """Whether a row has got an answer although every line that could mean it has another row's id or text."""
        pool = session.pool
        by_id = {_plain(name): row for row, name in enumerate(pool.ids)}
        by_text: dict[str, set[int]] = {}
        for row, text in enumerate(pool.texts()):
            by_text.setdefault(_plain(text), set()).add(row)
        readings = [list(_readings(content, delimiter)) for delimiter in ",;\t|"]
        if not any(readings):
            return []
        for row in rows:
            supported = False
            for lines in readings:
                for line in lines:
                    meant, same = by_id.get(_plain(line["id"])), by_text.get(_plain(line.get("text", "")), set())
                    right = meant == row or row in same
                    wrong = (meant not in (None, row)) or (bool(same) and row not in same)
                    supported |= right and not wrong and bool(line["label"].strip())
            if not supported:
                return ["an answer is taken for a row whose line has another row's id or text"]
        return []


def _formula(point: random.Random) -> str:
    """A text with a formula somewhere."""
    before = point.choice(("", "a", '"', "'", "a b", "é", "1"))
    apart = point.choice(
        ("", " ", "\u00a0", "\u3000", "\u200b", "\ufeff", ";", "; ", "\t", "|", ",", "\n", "\r", "\r\n", '"')
    )
    sign = point.choice(("=", "+", "-", "@", "＝", "＋", "－", "＠"))
    return before + apart * point.choice((1, 1, 2)) + sign + point.choice(("1+1", "cmd|' /C calc'!A0", "SUM(A1)", "x"))


def _formulas(content: str) -> list[str]:
    """Whether a cell begins as a formula does for a spreadsheet that takes one of the usual separators."""
    try:
        rows = list(csv.reader(io.StringIO(content, newline="")))
    except csv.Error:
        return ["a sheet is written that is no CSV"]
    if any(len(row) != len(rows[0]) for row in rows):
        return ["a sheet is written whose lines have more or fewer cells than its head"]
    for delimiter in ",;\t|":
        for row in csv.reader(content.splitlines(keepends=True), delimiter=delimiter):
            for cell in row:
                if cell.lstrip(" \t\r\n\u00a0\u3000\u200b\ufeff").startswith(
                    ("=", "+", "-", "@", "＝", "＋", "－", "＠")
                ):
                    return [f"a cell that is a formula where {delimiter!r} separates is written"]
    return []


def _readings(content: bytes, delimiter: str) -> list[dict[str, str]]:
    """The lines of a sheet as an independent reader has them; none when it has no head."""
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        text = content.decode("utf-16", "replace")
    else:
        try:
            text = content.decode("utf-8-sig")
        except UnicodeDecodeError:
            text = content.decode("cp1252", "replace")
    if text.lower().startswith("sep="):
        text = text.partition("\n")[2]
    try:
        rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter))
    except csv.Error:
        return []
    rows = [row for row in rows if row]
    if not rows:
        return []
    head = [cell.strip().lower() for cell in rows[0]]
    if head.count("id") != 1 or head.count("label") != 1:
        return []
    return [dict.fromkeys(head, "") | dict(zip(head, row, strict=False)) for row in rows[1:]]


# -- replies -----------------------------------------------------------------------------------------------------------


class Replies:
    """Replies of language models, to one text or to several."""

    LABELS = (
        ("spam", "not spam", "product_question", "Billing"),
        ("positive", "negative"),
        ("-1", "0", "1"),
        ("café", "日本", "a b", "A-B", "none"),
        ("yes", "no", "null", "true"),
        tuple(f"class {i}" for i in range(50)),
    )

    #: Small replies that take a careless reader minutes.
    BOMBS = (
        "{a0: &a0 [x, x, x, x, x, x, x, x, x], "
        + ", ".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 10))
        + ", label: spam}",
        "{label: &x {label: *x}}",
        "confidence " * 1800,
        "confiden" + "confiden" * 2400,
        "confidence: " + " " * 19_000 + "%",
        "[" * 19_000,
        '{"a": ' * 3000,
        "```" * 6000,
        "{'" * 9000,
        '{"label": "spam", "confidence": ' + "9" * 15_000 + "}",
        "not " * 5000 + "spam",
        "{a: b, " * 2800,
        "{? " * 3000,
        "- " * 9000,
    )

    def __init__(self, folder: Path) -> None:
        pass

    def __call__(self, point: random.Random) -> Trial:
        labels = point.choice(self.LABELS)
        count = point.choice((0, 0, 0, 1, 2, 5))
        text = self._reply(labels, count, point) if point.random() < 0.98 else point.choice(self.BOMBS)
        content = mutated(text.encode("utf-8", "surrogatepass"), point) if point.random() < 0.9 else text.encode()
        reply = content.decode("utf-8", "replace" if point.random() < 0.5 else "surrogateescape")
        kind = f"reply to {'several texts' if count else 'one text'}"
        return Trial(kind, content, lambda: self._read(reply, labels, count))

    @staticmethod
    def _reply(labels: tuple[str, ...], count: int, point: random.Random) -> str:
        def one(number: int) -> dict[str, Any]:
            found: dict[str, Any] = {
                "label": point.choice(labels),
                "confidence": point.choice((80, 0.8, "80%", "high")),
            }
            if point.random() < 0.5:
                found["alternatives"] = {point.choice(labels): 20, point.choice(labels): "10%"}
            if point.random() < 0.5:
                found |= {"reason": "it says so", "ambiguity": ""}
            return found if not count else {"number": number, **found}

        if count:
            items: Any = [one(number + 1) for number in range(count)]
            items = items if point.random() < 0.6 else {"answers": items}
            return json.dumps(items, ensure_ascii=False)
        name = point.choice(labels)
        return point.choice(
            (
                json.dumps(one(0), ensure_ascii=False),
                f"```json\n{json.dumps(one(0), indent=1)}\n```",
                f"Sure! Here it is: {one(0)}. Hope it helps.",
                f"The text is clearly {name}. Confidence: 85 %",
                f"{name}",
                f"It is not {name}, rather {point.choice(labels)} (confidence 0,7)",
                f"{{label: {name}, confidence: 70}}",
                f"label: {name}\nconfidence: 70\nalternatives:\n- {point.choice(labels)}: 10\n",
            )
        )

    def _read(self, reply: str, labels: tuple[str, ...], count: int) -> list[str]:
        from dal.llm.confidence.verbalized import logits_of
        from dal.llm.prompting.reply_parsing import parse, parse_many

        found = parse_many(reply, labels, count) if count else [parse(reply, labels)]
        faults = []
        if len(found) != max(1, count):
            faults.append("there are more or fewer answers than texts")
        for answer in found:
            if answer.label is not None and not 0 <= answer.label < len(labels):
                faults.append("a label is no class")
            elif answer.label is not None and _words(labels[answer.label]) not in _words(reply):
                faults.append("a label does not stand in the reply")
            if answer.confidence is not None and not 0 <= answer.confidence <= 1:
                faults.append("a confidence is no share")
            for code, share in answer.alternatives.items():
                if not 0 <= code < len(labels) or not 0 <= share <= 1:
                    faults.append("an alternative is no class, or its probability no share")
        logits = logits_of(found, len(labels))
        if not bool(logits.isfinite().all()):
            faults.append("a log-probability is not finite")
        return faults


def _words(text: str) -> str:
    """Letters and digits alone, in one case: escapes and separators do not count."""
    text = re.sub(r"\\u([0-9a-fA-F]{4})", lambda found: chr(int(found[1], 16)), text)
    folded = unicodedata.normalize("NFKC", text).casefold()
    return "".join(character for character in folded if character.isalnum())


# -- configs -----------------------------------------------------------------------------------------------------------


class Configs:
    """Configs: parsed and checked; one in four of those that pass is built as well."""

    BASES = (
        folders.RUN,
        folders.ASK,
        folders.RUN + "oracle: {Simulated: {noise: 0.1}}\nstop: {MaxLabels: {labels: 100}}\nseeds: [0, 1]\n",
        folders.RUN.replace(
            "Margin", "{Phases: {first: ClusterCenters, then: {BADGE: {seeding: k-center}}, until: 20}}"
        ),
        "data:\n  path: tickets.csv\n  classes: [yes, no]\n  test: 0.2\nlearner:\n  class_path: TfidfLearner\n"
        "  init_args:\n    C: 1.0\n    ngrams: 1\nstrategy:\n  BADGE:\n    seeding: kmeans++\nseeds: [0, 1, 2]\n"
        "candidates: 1000\nbaseline: null\nfolder: runs/x\nreport: false\n",
    )
    TOKENS = (
        *TOKENS,
        *(b"strategy", b"learner", b"data.path: x\n", b"Margin", b"BADGE", b"Random", b"class_path: ", b"init_args: "),
        *(b"os.getcwd", b"subprocess.getoutput", b"dal.cli.main", b"canary.Nothing", b"  ", b"    ", b"\n  - ", b"- "),
        *(b"seeds: ", b"[0, 1]", b"null", b"1e3", b"!!binary ", b"!!set ", b"!!python/object/apply:os.getcwd []"),
        *(b"| \n", b"> \n", b"{", b"{Phases: {first: ", b"{Committee: ", b"TfidfLearner", b"ProbeLearner", b"oracle: "),
    )

    def __init__(self, folder: Path) -> None:
        self._path = folder / "run.yaml"
        self._canary = folder / folders.CANARY
        (folder / "canary.py").write_text(f"open({str(self._canary)!r}, 'w')\n", encoding="utf-8")

    def __call__(self, point: random.Random) -> Trial:
        content = mutated(point.choice(self.BASES).encode(), point, self.TOKENS)
        built = point.random() < 0.25
        return Trial("config", content, lambda: self._read(content, built))

    def _read(self, content: bytes, built: bool) -> list[str]:
        from dal.commands.experiment_settings import build_experiment
        from dal.config import settings_tree as tree
        from dal.config import without_imports as static

        self._path.write_bytes(content)
        settings = tree.read(self._path)
        static.check(settings, tree.Override())
        if built:
            experiment = build_experiment(settings, tree.Override(), Path("x"))
            return self._again(experiment)
        return ["code of a config's folder was run"] if self._canary.exists() else []

    def _again(self, experiment: Any) -> list[str]:
        """What is stored of an experiment makes the same experiment."""
        import yaml

        from dal.commands.experiment_settings import read_experiment
        from dal.config import settings_tree as tree
        from dal.config.stored import describe

        described = describe(experiment)
        stored = yaml.safe_dump(described, sort_keys=False, allow_unicode=True)
        self._path.write_text(stored, encoding="utf-8")
        again = describe(read_experiment(self._path, tree.Override(), Path("x")))
        return [] if json.dumps(again) == json.dumps(described) else ["a stored config makes another experiment"]
