"""What people see of a project: hints, lists of rows and answers, disputes and figures, read from its log."""

import time
from collections.abc import Collection, Sequence
from functools import partial
from hashlib import blake2b

from dal.annotate.near_copies import near_copies
from dal.annotate.overlap import MAX_PEOPLE
from dal.annotate.progress_figures import PACED, agreement, guessed, learning_curve, pace
from dal.annotate.project_settings import ProjectSettings
from dal.annotate.rankings import EVENT, FOUND_BY_SEARCH, Rankings
from dal.annotate.reply_parts import ReplyParts
from dal.annotate.retraining import Retraining
from dal.annotate.service_contract import ADJUDICATE, CLASSES, Reply
from dal.errors import AnswerError, shown
from dal.store.events import Event, Value, shown_strategy
from dal.store.label_log import LabelLog
from dal.store.log_figures import (
    AnswersSince,
    answers_by_day,
    batches_with,
    recent_answers,
    rounds_of,
    seconds_worked,
    standing_classes,
    work_of,
)
from dal.store.project_rows import ProjectRows
from dal.store.row_state import ADJUDICATED, ANSWERED, DECLINED, DISPUTED, PENDING, RETIRED

#: Longest time in seconds for which a search by meaning waits for the model.
MEANING_WAIT = 4.0

_SEARCHED = 1_000  # rows that a search within the history finds
_RANKINGS = 2_000  # latest rankings that are compared with the answers
_DISAGREEING = 100  # rows of which the answers are read together
_SPARE = 1_000  # retired rows that a search by meaning may find in vain
_DISPUTES = 200  # disputed rows of a reply


class ProjectViews:
    """Replies that change nothing. See `Service` for their contents.

    Args:
        log: questions and answers.
        rows: texts.
        settings: settings of the project.
        retraining: the trainer.
    """

    def __init__(self, log: LabelLog, rows: ProjectRows, settings: ProjectSettings, retraining: Retraining) -> None:
        self._log, self._rows, self._settings, self._retraining = log, rows, settings, retraining
        self._rankings = Rankings(log)
        self._parts = ReplyParts(log, rows, self._rankings, settings)
        self._mine: dict[str, int] = {}  # rows that each person has answered, see `_rows_answered`
        self._seconds = seconds_worked(log)
        self._since = AnswersSince(log)
        self._agreement: tuple[int, Reply | None] = (-1, None)  # with the event up to which it was computed

    def rights(self, who: str) -> Collection[str]:
        """Rights of a person. Without anybody on the list of people, as on one's own computer, all have all of them."""
        people = self._log.people()
        valid = {each.who: each.rights for each in people if each.has_access()}
        if not valid and who not in {each.who for each in people}:
            return (CLASSES, ADJUDICATE)
        return valid.get(who, ())

    # -- hints and lists -----------------------------------------------------------------------------------------------

    def hints(self, who: str, *, row: str) -> Reply:
        """Why a row was chosen, what the model thinks, and the nearest answered rows."""
        self._require_row(row)
        round = rounds_of(self._log, [row]).get(row, 0)
        hint = self._rankings.hint(row, round)
        why = str(hint.get("why") or "")
        if not why:
            why = "found by a search, not asked by a strategy"
            batch = self._rankings.batch(round) if round else None
            if batch is not None and batch.strategy != FOUND_BY_SEARCH:
                why = str(batch.details.get("why") or f"selected by {shown_strategy(batch.strategy, batch.details)}")
            if self._rankings.is_top_up(round):
                why = "taken in random order, since no ranking of the model was ready"
        finals = [(self._log.classes.final(number), p) for number, p in hint.get("guesses") or []]
        near = list(hint.get("near") or [])
        states = self._log.states(near)
        texts = {each.id: each.text for each in self._rows.get(near) if each is not None}
        answers = {id: states[id].answer for id in near if id in texts and id in states}
        return {
            "why": why,
            "guesses": [[entry.id, p] for entry, p in finals if entry is not None],
            "near": [
                {"id": id, "text": texts[id], "classes": self._parts.class_ids(self._log.renamed(event))}
                for id, event in answers.items()
                if event is not None and event.kind == "answered" and not self._is_blind(event, who)
            ],
        }

    def history(
        self,
        who: str,
        *,
        q: str = "",
        class_id: int | None = None,
        person: str | None = None,
        since: float | None = None,
        disagree: bool = False,
        before: int | None = None,
        limit: int = 50,
    ) -> Reply:
        """Answers, latest first, or those that the model disagreed with, surest first; others' only with the right.

        On a disputed row the names of others are hidden until it is decided, also from a search by name.
        """
        if ADJUDICATE not in self.rights(who):
            if person not in (None, who):
                return {"rows": [], "more": False}
            person = who
        ids = self._rows.search(q, _SEARCHED) if q.strip() else None
        order: dict[str, float] = {}
        if disagree:
            order = self._disagreements()
            sought = order if ids is None else set(ids)
            ids = sorted((row for row in order if row in sought), key=lambda row: (-order[row], row))
        found_in = partial(
            self._log.history,
            who=person,
            class_id=class_id,
            since=since,
            # What must stay hidden does not count either: whether there is more would tell its class.
            visible=lambda event: (
                not (self._is_blind(event, who) or (person not in (None, who) and self._is_disputed(event)))
            ),
        )
        if not disagree:
            events = found_in(rows=ids, before=before, limit=limit + 1)
        else:
            events = []
            while ids and len(events) <= limit:  # surest first: a page needs a few of them
                some, ids = ids[:_DISAGREEING], ids[_DISAGREEING:]
                events += found_in(rows=some, limit=_DISAGREEING * MAX_PEOPLE)
        if disagree:
            events.sort(key=lambda event: (-order[event.row], -event.event))
        more, shown_events = len(events) > limit, events[:limit]
        rows = {row["id"]: row for row in self._parts.rows([event.row for event in shown_events], who)}
        found = [(rows[event.row], event) for event in shown_events if event.row in rows]
        return {"rows": [{"row": row, "answer": self._listed(event, who)} for row, event in found], "more": more}

    def _listed(self, event: Event, who: str) -> Reply | None:
        """An answer in the history; without the name of another person as long as people disagree on the row."""
        answer = self._parts.answer(event)
        if answer is not None and event.who != who and self._is_disputed(event):
            answer["who"] = ""
        return answer

    def _is_disputed(self, event: Event) -> bool:
        return self._log.row(event.row).state == DISPUTED

    def _is_blind(self, event: Event, who: str) -> bool:
        """Whether a person must not see the answer of another one, because she may still be asked the same text."""
        if event.who == who or event.source == ADJUDICATED:
            return False
        state = self._log.row(event.row)
        return state.state == PENDING and state.wanted > 1 and who not in self._log.answers_by(event.row)

    def _disagreements(self) -> dict[str, float]:
        """Id -> probability of the wrong guess that the model made before the answer, in the latest rankings."""
        found: dict[str, float] = {}
        table = self._log.classes
        for batch in batches_with(self._log, EVENT, latest=_RANKINGS):
            hints = {row: hint for row, hint in (batch.details.get("rows") or {}).items() if hint.get("guesses")}
            for row, (event, answered) in standing_classes(self._log, list(hints)).items():
                if event <= batch.details[EVENT]:
                    continue
                guesses = hints[row]["guesses"]
                finals = [table.final(number) for number in guessed(guesses, self._settings.multilabel)]
                if answered != {entry.id for entry in finals if entry is not None}:
                    found[row] = float(guesses[0][1])
        return found

    def search(self, who: str, *, q: str, limit: int = 20, by: str = "words", timeout: float = MEANING_WAIT) -> Reply:
        """Rows that match the words, or with `by` "meaning" are most like the text as the model reads it; best first.

        By meaning it waits for the model, at most `timeout` seconds, and tells why there is no result yet.
        """
        if by != "meaning":
            return {"rows": self._open_rows(self._rows.search(q, limit), who)[:limit], "why": None, "again": False}
        # The model may not know yet that rows are gone.
        spare = min(_SPARE, self._log.counts().get(RETIRED, 0))
        reply = self._retraining.search(q, limit + spare, timeout)
        rows = self._open_rows([str(each[0]) for each in reply.get("found", [])], who)[:limit]
        return {"rows": rows, "why": reply.get("why"), "again": bool(reply.get("again"))}

    def _open_rows(self, ids: Sequence[str], who: str) -> list[Reply]:
        """The rows with these ids that were not retired."""
        states = self._log.states(ids)
        return self._parts.rows([row for row in ids if row not in states or states[row].state != RETIRED], who)

    def copies(self, who: str, *, row: str) -> Reply:
        """Near-copies of an answered row that this person may answer, too."""
        self._require_row(row)
        found, leases = near_copies(self._rows, row), self._log.readers()
        states = self._log.states(found)
        free = [
            each
            for each in found
            if (each not in states or states[each].state == PENDING)
            and leases.get(each, [who]) == [who]
            and who not in self._log.answers_by(each)
        ]
        return {"rows": self._parts.rows(free, who)}

    def disputes(self, who: str) -> Reply:
        """Rows on which people disagree, with their answers but without their names."""
        self._require_right(who, ADJUDICATE)
        rows = []
        for row in self._parts.rows(self._log.disputes()[:_DISPUTES], who):
            answers = self._log.answers_by(row["id"])
            # In an order that tells nothing about the people, and stays the same from request to request.
            order = sorted(answers, key=lambda each: blake2b(f"{row['id']}\0{each}".encode()).digest())
            given = [answers[each] for each in order]
            row["answer"] = None
            rows.append(
                {
                    "row": row,
                    "answers": [
                        {"classes": self._parts.class_ids(event), "skipped": event.kind == "skipped"} for event in given
                    ],
                }
            )
        return {"rows": rows}

    # -- figures -------------------------------------------------------------------------------------------------------

    def progress(self, who: str) -> Reply:
        """Figures of the project. The work of others is shown to people with the right to adjudicate only."""
        counts = self._log.class_counts()
        per_class = [[entry.id, counts.get(entry.id, 0)] for entry in self._log.classes.active]
        event = self._log.labels_event
        if self._agreement[0] != event:
            self._agreement = (event, agreement(self._log, self._parts, multilabel=self._settings.multilabel))
        everybody = work_of(self._log)
        shown_people = everybody if ADJUDICATE in self.rights(who) else [each for each in everybody if each.who == who]
        people = [
            {
                "who": each.who,
                "answers": each.rows,
                "seconds": round(each.seconds, 1),
                "per_hour": pace(recent_answers(self._log, each.who, PACED)),
            }
            for each in shown_people
        ]
        total = {
            "people": len(everybody),
            "answers": sum(each.rows for each in everybody),
            "seconds": round(sum(each.seconds for each in everybody), 1),
        }
        latest = self._rankings.latest
        figures = {} if latest is None else latest.figures
        return {
            "answers_by_day": [[day, n] for day, n in answers_by_day(self._log)],
            "per_class": per_class,
            "without": [number for number, n in per_class if not n],
            "people": people,
            "total": total,
            "agreement": self._agreement[1],
            "curve": learning_curve(self._log, self._rankings, multilabel=self._settings.multilabel),
            "accuracy": figures.get("accuracy"),
            "forecast": figures.get("gain"),
            "dollars": self._dollars,
        }

    @property
    def _dollars(self) -> float | None:
        price = self._settings.price_per_hour
        return None if price is None else round(self._seconds / 3600 * price, 2)

    def _rows_answered(self, who: str) -> int:
        """Number of rows that a person has answered: counted in the log at her first request, then kept."""
        if who not in self._mine:
            counted = sum(each.rows for each in work_of(self._log, who))
            self._mine.setdefault(who, counted)  # unless another request of hers was faster, and has stored an answer
        return self._mine[who]

    def _header(self, who: str) -> Reply:
        """Figures about all answers and about the last ranking of a model."""
        counts, latest = self._log.counts(), self._rankings.latest
        ranking = None
        if latest is not None:
            ranking = {
                "event": latest.event,
                "answers_since": self._since.count(latest.event),
                "strategy": latest.strategy,
                "reason": latest.reason,
                "age_seconds": round(max(0.0, time.time() - latest.at), 1),
                "recall": latest.recall,
            }
        return {
            "answered": counts.get(ANSWERED, 0),
            "mine": self._rows_answered(who),
            "pending": counts.get(PENDING, 0),
            "declined": counts.get(DECLINED, 0),
            "disputed": counts.get(DISPUTED, 0),
            "rows": len(self._rows) - counts.get(RETIRED, 0),
            "per_hour": pace(recent_answers(self._log, who, PACED)),
            "dollars": self._dollars,
            "ranking": ranking,
            "trainer": self._retraining.state,
            "waiting": self._retraining.is_round_awaited,
            "stop": None if latest is None else latest.stop,
        }

    @property
    def labels_event(self) -> int:
        """Number of the last event that changed an answer, a class or the rows that count."""
        return self._log.labels_event

    def labels(self) -> dict[str, Value]:
        """Answers that stand, by id, with the current names of their classes."""
        found: dict[str, Value] = {}
        after = ""
        while ids := self._log.in_state(ANSWERED, after=after):
            states, after = self._log.states(ids), ids[-1]
            answers = ((id, states[id].answer) for id in ids if id in states)
            named = ((id, self._log.renamed(event).value) for id, event in answers if event is not None)
            found |= {id: value for id, value in named if value is not None}
        return found

    def state_of_classes(self) -> list[Reply]:
        """The classes that can be chosen, in the order of addition."""
        return self._parts.classes()

    # -- checks --------------------------------------------------------------------------------------------------------

    def _require_row(self, row: str) -> None:
        if self._rows.get([row])[0] is None:
            raise AnswerError(f"there is no text with the id {shown(row)}")

    def _require_right(self, who: str, right: str) -> None:
        if right not in self.rights(who):
            raise AnswerError(f"this needs the right {right!r}")
