"""The log of an accuracy check that people answer on the page or in a terminal.

It has the format of `labels.db` and lies next to the sample, as `checks/N.db`: a question for each drawn text, in the
order of drawing, and the answers with their people, keys and leases, so that a check loses nothing either. The answers
of the sample, `checks/N.json`, follow it. No answer of it is a label.
"""

from collections.abc import Mapping
from pathlib import Path

from dal.store.accuracy_samples import CHECKS, AccuracySample
from dal.store.class_table import ClassTable
from dal.store.events import SKIP, Answer, Skip, Value
from dal.store.label_log import LabelLog
from dal.store.row_state import ANSWERED, DECLINED


def check_log_path(folder: Path, number: int) -> Path:
    """The file of the log of a sample."""
    return folder / CHECKS / f"{number}.db"


def open_check_log(folder: Path, sample: AccuracySample, classes: ClassTable) -> LabelLog:
    """Open the log of a sample. It is made at the first call, with the answers that the sample has by then.

    Args:
        folder: folder of the project.
        sample: the sample.
        classes: classes of the project. The check keeps those that were there when its log was made.
    """
    log = LabelLog(check_log_path(folder, sample.number))
    try:
        with log.changing():
            if not log.last_event:
                _copy_classes(log, classes)
                log.ask(sample.ids, strategy="AccuracyCheck", details={"check": sample.number})
                values = {row: SKIP if value is None else value for row, value in sample.answers.items()}
                log.tell([Answer(row, value) for row, value in values.items() if row in sample.ids])
    except BaseException:
        log.close()
        raise
    return log


def _copy_classes(log: LabelLog, classes: ClassTable) -> None:
    """Give a new log the classes of a table, with the same numbers."""
    for entry in classes.entries.values():
        name = entry.name if entry.is_active else f"{entry.name} ({entry.id}, removed)"
        log.change_classes({"do": "add", "name": name, "description": entry.description}, imported=True)
        if not entry.is_active:
            log.change_classes({"do": "retire", "id": entry.id})
            continue
        if entry.examples:
            log.change_classes({"do": "describe", "id": entry.id, "examples": list(entry.examples)})
        if entry.letter is not None:
            log.change_classes({"do": "bind", "id": entry.id, "letter": entry.letter})
    if classes.guide:
        log.change_classes({"do": "guide", "text": classes.guide})


def answers_of(log: LabelLog, sample: AccuracySample) -> dict[str, Value | None]:
    """Answers that the log has to the texts of a sample, by id; None if declined."""
    states = log.states(sample.ids)
    given = {row: states[row].answer for row in sample.ids if row in states}
    return {
        row: log.renamed(event).value if states[row].state == ANSWERED else None
        for row, event in given.items()
        if event is not None and states[row].state in (ANSWERED, DECLINED)
    }


def tell_check_log(folder: Path, number: int, answers: Mapping[str, Value | Skip], *, who: str = "") -> None:
    """Store answers of a file in the log of a sample, if people have answered it elsewhere, too."""
    path = check_log_path(folder, number)
    if not path.exists():
        return
    with LabelLog(path) as log:
        states = log.states(list(answers))
        standing = {row: state.answer for row, state in states.items()}

        def is_new(row: str, value: Value | Skip) -> bool:
            event = standing.get(row)
            return event is None or log.reading(event) != value

        log.tell([Answer(row, value, who=who) for row, value in answers.items() if is_new(row, value)])
