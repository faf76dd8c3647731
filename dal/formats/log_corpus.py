"""The corpus of a folder: its rows, with what its label log holds about them."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from hashlib import blake2b
from typing import Any

from dal.data.rows import Rows
from dal.errors import SessionError
from dal.formats.corpus import ANSWERED, DECLINED, Corpus, CorpusAnswer, CorpusNote, CorpusRow
from dal.formats.exported_answers import ORIGIN
from dal.store.bounded_json import parse_json
from dal.store.events import Answer, Event, Skip, Value, shown_strategy
from dal.store.label_log import IMPORTED, LabelLog
from dal.store.label_store import LabelStore
from dal.store.row_state import ADJUDICATED, DISPUTED, PENDING, RETIRED, RowState

_BLOCK = 8192  # rows whose texts and states are in memory at a time

_PROVENANCE = ("source", "at", "round", "strategy", "seen")


def corpus_of_log(
    rows: Iterable[CorpusRow], log: LabelStore, classes: Sequence[str], *, multilabel: bool
) -> tuple[Corpus, int]:
    """The corpus of rows, and the number of answered rows of the log that are not among them.

    Args:
        rows: rows without the answers of the log, in order; with the label that came with the data, if they have one.
        log: log of the folder.
        classes: class names, in order. Further ones of stored answers are added.
        multilabel: whether a row may have several classes.
    """
    given, notes = _current(log)
    strategies = {number: shown_strategy(*log.batch_details(number)) for number in range(1, log.round + 1)}
    names, filled = dict.fromkeys(classes), list[CorpusRow]()
    for block in _blocks(rows):
        states = log.states([row.id for row in block])
        for row in block:
            state = states.get(row.id, RowState())
            row = _with_answers(row, given.pop(row.id, ()), state, log, strategies)
            filled.append(replace(row, notes=tuple(notes.get(row.id, ()))))
            names |= dict.fromkeys(name for answer in row.answers for name in answer.classes or ())
    return Corpus(filled, tuple(names), multilabel), len(given)


def pool_rows(pool: Rows, *, hide_labels: bool, fields: Mapping[str, Mapping[str, Any]]) -> Iterator[CorpusRow]:
    """The rows of a pool, with the labels in the data as answers of the source "data".

    Args:
        pool: the rows.
        hide_labels: leave out the labels, which a simulated annotator answers from.
        fields: id -> foreign columns of the row.
    """
    for start in range(0, len(pool), _BLOCK):
        block = pool.take(slice(start, min(start + _BLOCK, len(pool))))
        labels, known = pool_labels(block), block.known.tolist()
        for row, (id, text) in enumerate(zip(block.ids.arrow().to_pylist(), block.texts(), strict=True)):
            one, pair = text if isinstance(text, tuple) else (text, None)
            answers = (CorpusAnswer(labels[row], source="data"),) if known[row] and not hide_labels else ()
            yield CorpusRow(id, one, pair, "new", answers, (), fields.get(id, {}))


def pool_labels(rows: Rows) -> list[tuple[str, ...]]:
    """Class names of the labels of rows."""
    return [() if value is None else _names(value) for value in rows.names_of(rows.labels)]


def _blocks(rows: Iterable[CorpusRow]) -> Iterator[list[CorpusRow]]:
    block: list[CorpusRow] = []
    for row in rows:
        block.append(row)
        if len(block) == _BLOCK:
            yield block
            block = []
    yield block


#: An answer or a skip, and the batch in which its row had been asked; None if it had not.
_Given = tuple[Event, int | None]


def _current(log: LabelStore) -> tuple[dict[str, list[_Given]], dict[str, list[CorpusNote]]]:
    """Current answers and skips by row id, one per person and source, in order; and the notes."""
    events = list(log.events())
    retracted = {event.retracts for event in events if event.kind == "retracted"}
    given: dict[str, dict[tuple[str | None, str | None], _Given]] = {}
    asked: dict[str, int | None] = {}
    notes: dict[str, list[CorpusNote]] = {}
    for event in events:
        if event.event in retracted:
            continue
        if event.kind in ("asked", "withdrawn"):
            asked[event.row] = event.round if event.kind == "asked" else None
        elif event.kind == "noted":
            notes.setdefault(event.row, []).append(CorpusNote(str(event.value), event.who or ""))
        elif event.kind in ("answered", "skipped") and log.reading(event) is not None:
            answers = given.setdefault(event.row, {})
            answers.pop((event.who, event.source), None)  # the new one is the last in order
            answers[event.who, event.source] = event, asked.get(event.row)
    return {row: list(answers.values()) for row, answers in given.items()}, notes


def _with_answers(
    row: CorpusRow, given: Iterable[_Given], state: RowState, log: LabelStore, strategies: Mapping[int, str]
) -> CorpusRow:
    """The row with the answers of the log. One that is not answered there keeps the label of the data."""
    named = state.state
    stands = state.answer.event if state.answer is not None and named in (ANSWERED, DECLINED) else None
    answers = [_answer(log.renamed(event), asked, strategies, stands=event.event == stands) for event, asked in given]
    if row.answers and stands is None and named in ("new", "pending"):
        answers = [replace(row.answers[0], stands=True), *answers]
        named = ANSWERED
    else:
        answers = [*row.answers, *answers]
    return replace(row, state=named, answers=tuple(answers))


def _answer(event: Event, round: int | None, strategies: Mapping[int, str], *, stands: bool) -> CorpusAnswer:
    seen = {} if event.seen is None else parse_json(event.seen)
    seen = seen if isinstance(seen, dict) else {}
    answer = CorpusAnswer(
        None if event.value is None else _names(event.value),
        who=event.who or "",
        source=event.source or "",
        at=event.at,
        seconds=event.seconds,
        confidence=event.confidence,
        round=round,
        strategy="" if round is None else strategies.get(round, ""),
        seen=seen,
        stands=stands,
    )
    origin = seen.get(ORIGIN)
    if not isinstance(origin, dict):
        return answer
    known = CorpusAnswer(answer.classes)
    return replace(answer, **{name: origin.get(name, getattr(known, name)) for name in _PROVENANCE})


def _names(value: Any) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(value)


# -- import ----------------------------------------------------------------------------------------------------------


def store_corpus(log: LabelLog, corpus: Corpus, *, multilabel: bool) -> int:
    """Store the answers and notes of a corpus in a log, all or none, and return the number of answers.

    The events have the source "import" and today's time, since that is when the log got them. Their provenance is kept
    in `seen`, and `corpus_of_log` gives it back. Rows in dispute are asked of as many people as answered them, rows
    that waited for a further person of one more, and rows that were taken out are taken out. Rows that were asked and
    that nobody answered are not asked again.

    Args:
        log: log in which the rows have no answers yet. Some may be asked.
        corpus: the corpus; its classes are those of the log.
        multilabel: whether the rows of the folder may have several classes.

    Raises:
        SessionError: a row has several classes and the folder allows one.
    """
    answers: list[Answer] = []
    for row in corpus.rows:
        for answer in sorted(row.answers, key=lambda answer: answer.stands):  # the last one stands
            answers.append(
                Answer(
                    row.id,
                    _value(row.id, answer, multilabel),
                    answer.who,
                    ADJUDICATED if answer.source == ADJUDICATED else IMPORTED,
                    answer.seconds,
                    None,
                    answer.confidence,
                    None,
                    {ORIGIN: {name: getattr(answer, name) for name in _PROVENANCE}},
                )
            )
    wanted = {row.id: _wanted(row) for row in corpus.rows if row.state in (DISPUTED, PENDING) and row.answers}
    retired = [row.id for row in corpus.rows if row.state == RETIRED]
    with log.changing():
        if wanted:
            states = log.states(list(wanted))
            log.withdraw([row for row in wanted if row in states and states[row].state == PENDING])
            log.ask(list(wanted), strategy="Import", wanted=wanted)
        log.tell(answers)
        for row in corpus.rows:
            for number, note in enumerate(row.notes):
                log.note(row.id, note.text, who=note.who, key=_note_key(row.id, number, note))
        if retired:
            log.retire(retired)
    return len(answers)


def _wanted(row: CorpusRow) -> int:
    """Number of people who are to answer a row, so that its state is that in the file."""
    people = len({answer.who for answer in row.answers})
    return people + 1 if row.state == PENDING else max(2, people)


def _note_key(row: str, number: int, note: CorpusNote) -> str:
    """Key of an imported note: the same note of the same file is stored once."""
    content = repr((row, number, note.who, note.text)).encode("utf-8", "surrogatepass")
    return f"import:{blake2b(content, digest_size=16).hexdigest()}"


def _value(row: str, answer: CorpusAnswer, multilabel: bool) -> Value | Skip:
    if answer.classes is None:
        return Skip.SKIP
    if multilabel:
        return answer.classes
    if len(answer.classes) != 1:
        raise SessionError(f"the row {row!r} has {len(answer.classes)} classes, and the folder allows one")
    return answer.classes[0]
