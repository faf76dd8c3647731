"""The annotation service in memory: the contract of `Service` without files and without a trainer."""

import re
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from threading import RLock
from typing import Any

from dal.annotate.service_contract import ADJUDICATE, CLASSES, OutdatedAnswerError, Reply
from dal.errors import AnswerError

UNDOABLE = ("answered", "skipped", "deferred", "noted", "adjudicated")


@dataclass
class Event:
    event: int
    kind: str
    row: str
    who: str
    key: str
    classes: tuple[int, ...] = ()
    text: str = ""
    seconds: float | None = None
    seen: Mapping[str, bool] = field(default_factory=dict)
    at: float = field(default_factory=time.time)
    retracted: bool = False
    reply: Reply = field(default_factory=dict)

    def answer(self) -> Reply:
        source = "adjudicated" if self.kind == "adjudicated" else "person"
        names = {"event": self.event, "classes": list(self.classes), "skipped": self.kind == "skipped"}
        return {**names, "at": self.at, "who": self.who, "source": source}


def words(text: str) -> set[str]:
    return set(re.findall(r"\w+", text.lower()))


class MemoryService:
    """Questions and answers in memory.

    Args:
        texts: id -> text, or a row with `text`, `pair`, `fields`, `read_up_to`.
        classes: names of the classes.
        people: name -> rights; people that are not listed have all.
        wanted: id -> number of people that the text wants, where it is not one.
    """

    def __init__(
        self,
        texts: Mapping[str, Any],
        classes: Sequence[str] = (),
        *,
        multilabel: bool = False,
        name: str = "drugs",
        people: Mapping[str, Sequence[str]] | None = None,
        wanted: Mapping[str, int] | None = None,
    ) -> None:
        self.texts = {row: text if isinstance(text, dict) else {"text": text} for row, text in texts.items()}
        self.classes: list[dict[str, Any]] = []
        self.events: list[Event] = []
        self.project = {"name": name, "multilabel": multilabel, "guide": ""}
        self.people = people or {}
        self.wanted = wanted or {}
        self.order = list(self.texts)
        self.first: dict[str, list[str]] = {}
        self.leases: dict[str, str] = {}
        self.ranked_at: int | None = None
        self.trainer: Reply = {"state": "idle", "stage": None, "done": 0, "total": 0, "left": None, "error": None}
        self.stop: Reply | None = None
        self.recall = ""
        self.similar: list[str] = []  # rows that a search by meaning finds
        self.why: str | None = None  # why it finds none
        self.searches: list[tuple[str, str]] = []
        self.before: Callable[[str], None] = lambda call: None  # a test may raise errors there
        self._lock = RLock()
        for each in classes:
            self._add_class(each)

    # What a test reads.

    def current(self, row: str, who: str) -> Event | None:
        kinds = ("answered", "skipped")
        found = [e for e in self.events if e.row == row and e.who == who and e.kind in kinds and not e.retracted]
        return found[-1] if found else None

    def labels(self, who: str = "ana") -> dict[str, tuple[str, ...]]:
        """Id -> names of the classes of a person's current answers."""
        found = {row: self.current(row, who) for row in self.texts}
        names = {each["id"]: each["name"] for each in self.classes}
        return {row: tuple(names[c] for c in e.classes) for row, e in found.items() if e and e.kind == "answered"}

    def stored(self, kind: str) -> list[Event]:
        return [event for event in self.events if event.kind == kind]

    def rank(self, rows: Sequence[str]) -> None:
        """Receive a ranking: the rows that come next."""
        with self._lock:
            self.order = [*rows, *(row for row in self.order if row not in set(rows))]
            self.ranked_at = len(self.events)

    # The contract.

    def rights(self, who: str) -> Sequence[str]:
        return self.people.get(who, (CLASSES, ADJUDICATE))

    def state(self, who: str, *, shown: str | None = None, replaces: int | None = None) -> Reply:
        with self._lock:
            self.before("state")
            stands = None if shown is None else self.current(shown, who)
            known = shown is None or (None if stands is None else stands.event) == replaces
            used = [c for e in reversed(self.stored("answered")) if e.who == who for c in e.classes]
            return {
                "project": dict(self.project),
                "me": {"who": who, "rights": list(self.rights(who))},
                "classes": self._active(),
                "rows": self._rows(who),
                "header": self._header(who),
                "recent": list(dict.fromkeys(used)),
                "gone": None if known else "this text was answered elsewhere, as in another tab",
            }

    def answer(
        self,
        who: str,
        *,
        row: str,
        classes: Sequence[int],
        key: str,
        replaces: int | None,
        seconds: float | None,
        seen: Mapping[str, bool],
    ) -> Reply:
        with self._lock:
            self.before("answer")
            self._check(row, classes)
            saved = self._by_key(key) or self._store(
                "answered", row, who, key, replaces, classes=tuple(classes), seconds=seconds, seen=dict(seen)
            )
            return {"saved": saved.answer(), "rows": self._rows(who), "header": self._header(who)}

    def skip(self, who: str, *, row: str, key: str, replaces: int | None, how: str) -> Reply:
        with self._lock:
            self.before("skip")
            self._check(row)
            saved = self._by_key(key)
            if saved is None:
                saved = self._store("skipped" if how == "decline" else "deferred", row, who, key, replaces)
                if how == "later":
                    self.order = [*(each for each in self.order if each != row), row]
            return {"saved": saved.answer(), "rows": self._rows(who), "header": self._header(who)}

    def flag(self, who: str, *, row: str, key: str, text: str) -> Reply:
        with self._lock:
            self.before("flag")
            self._check(row)
            if self._by_key(key) is None:
                self._append(Event(0, "noted", row, who, key, text=text))
            return {"saved": True, "header": self._header(who)}

    def undo(self, who: str, *, key: str) -> Reply:
        with self._lock:
            self.before("undo")
            known = self._by_key(key)
            if known is None:
                mine = [e for e in self.events if e.who == who and e.kind in UNDOABLE and not e.retracted]
                if not mine:
                    return {"undone": None, "rows": self._rows(who), "header": self._header(who)}
                mine[-1].retracted = True
                known = self._append(Event(0, "retracted", mine[-1].row, who, key))
                known.reply = {"kind": mine[-1].kind, "row": mine[-1].row, "was": mine[-1].answer()}
                self._put_first(who, known.row)
            rows = self._rows(who)
            undone = known.reply
            if rows and undone["kind"] in ("answered", "skipped"):
                rows[0]["was"] = undone["was"]
            return {
                "undone": {"kind": undone["kind"], "row": undone["row"]},
                "rows": rows,
                "header": self._header(who),
            }

    def hints(self, who: str, *, row: str) -> Reply:
        with self._lock:
            self._check(row)
            near = self._near(row, who)[:3]
            counts = Counter(c for each in near for c in each["classes"])
            guesses = [[c, count / counts.total()] for c, count in counts.most_common(3)]
            why = "picked at random: there is no model yet" if self.ranked_at is None else "the model is unsure"
            return {"why": why, "guesses": guesses, "near": near}

    def change_classes(self, who: str, *, change: Mapping[str, Any], key: str) -> Reply:
        with self._lock:
            if self._by_key(key) is None:
                self._change(change)
                self._append(Event(0, "class", "", who, key))
            return {"classes": self._active(), "project": dict(self.project), "event": len(self.events)}

    def history(
        self,
        who: str,
        *,
        q: str,
        class_id: int | None,
        person: str | None,
        since: float | None,
        disagree: bool,
        before: int | None,
        limit: int,
    ) -> Reply:
        with self._lock:
            people = {e.who for e in self.events} if ADJUDICATE in self.rights(who) else {who}
            answers = [e for row in self.texts for each in people if (e := self.current(row, each))]
            wanted = [
                e
                for e in sorted(answers, key=lambda e: -e.event)
                if words(q) <= words(self.texts[e.row]["text"])
                and (class_id is None or class_id in e.classes)
                and (person is None or e.who == person)
                and (since is None or e.at >= since)
                and (before is None or e.event < before)
                and (not disagree or self._guess(e) not in (None, e.classes))
            ]
            rows = [{"row": self._row(e.row, who), "answer": e.answer()} for e in wanted[:limit]]
            return {"rows": rows, "more": len(wanted) > limit}

    def search(self, who: str, *, q: str, limit: int, by: str) -> Reply:
        with self._lock:
            self.searches.append((by, q))
            if by == "meaning":
                rows = [self._row(row, who) for row in self.similar[:limit]]
                return {"rows": rows, "why": self.why, "again": self.why is not None}
            found = [row for row, each in self.texts.items() if words(q) & words(each["text"])]
            found.sort(key=lambda row: -len(words(q) & words(self.texts[row]["text"])))
            return {"rows": [self._row(row, who) for row in found[:limit]], "why": None, "again": False}

    def take(self, who: str, *, row: str) -> Reply:
        with self._lock:
            self._check(row)
            if self.leases.get(row, who) != who:
                raise AnswerError("another person is reading this text")
            self._put_first(who, row)
            return {"rows": self._rows(who)}

    def progress(self, who: str) -> Reply:
        with self._lock:
            answers = [e for e in self.stored("answered") if not e.retracted]
            per_class = Counter(c for e in answers for c in e.classes)
            days = Counter(time.strftime("%Y-%m-%d", time.gmtime(e.at)) for e in answers)
            return {
                "answers_by_day": sorted(days.items()),
                "per_class": [[each["id"], per_class[each["id"]]] for each in self._active()],
                "without": [each["id"] for each in self._active() if not per_class[each["id"]]],
                "people": [{"who": name, "answers": n} for name, n in Counter(e.who for e in answers).items()],
                "total": {"people": len({e.who for e in answers}), "answers": len(answers), "seconds": 0},
                "agreement": None,
                "curve": [],
                "forecast": None,
            }

    def disputes(self, who: str) -> Reply:
        with self._lock:
            rows = []
            for row in self._disputed():
                answers = sorted(self._answers(row), key=lambda e: hash((row, e.who)))
                rows.append({"row": self._row(row, who), "answers": [{"classes": list(e.classes)} for e in answers]})
            return {"rows": rows}

    def adjudicate(self, who: str, *, row: str, classes: Sequence[int], key: str, replaces: int | None) -> Reply:
        with self._lock:
            self.before("adjudicate")
            self._check(row, classes)
            decided = [e for e in self.stored("adjudicated") if e.row == row and not e.retracted]
            if self._by_key(key) is None and (decided[-1].event if decided else None) != replaces:
                raise OutdatedAnswerError(decided[-1].answer() if decided else None)
            saved = self._by_key(key) or self._append(Event(0, "adjudicated", row, who, key, tuple(classes)))
            return {"saved": saved.answer(), "left": len(self._disputed())}

    def copies(self, who: str, *, row: str) -> Reply:
        with self._lock:
            self._check(row)
            plain = words(self.texts[row]["text"])
            same = [each for each in self.texts if each != row and words(self.texts[each]["text"]) == plain]
            return {"rows": [self._row(each, who) for each in same]}

    def close(self) -> None:
        """Nothing is held."""

    # Inside a transaction.

    def _check(self, row: str, classes: Sequence[int] = ()) -> None:
        if row not in self.texts:
            raise AnswerError(f"no text has the id {row!r}")
        unknown = set(classes) - {each["id"] for each in self._active()}
        if unknown:
            raise AnswerError(f"no class has the id {min(unknown)}")
        if len(classes) > 1 and not self.project["multilabel"]:
            raise AnswerError("a text has one class in this project")

    def _by_key(self, key: str) -> Event | None:
        return next((event for event in self.events if event.key == key), None)

    def _store(self, kind: str, row: str, who: str, key: str, replaces: int | None, **more: Any) -> Event:
        stands = self.current(row, who)
        if (stands and stands.event) != replaces:
            raise OutdatedAnswerError(stands.answer() if stands else None)
        self.first[who] = [each for each in self.first.get(who, []) if each != row]
        self.leases.pop(row, None)
        return self._append(Event(0, kind, row, who, key, **more))

    def _append(self, event: Event) -> Event:
        event.event = len(self.events) + 1
        self.events.append(event)
        return event

    def _put_first(self, who: str, row: str) -> None:
        self.first[who] = [row, *(each for each in self.first.get(who, []) if each != row)]
        self.leases[row] = who

    def _answers(self, row: str) -> list[Event]:
        people = {e.who for e in self.events}
        return [e for who in people if (e := self.current(row, who)) and e.kind == "answered"]

    def _disputed(self) -> list[str]:
        settled = {e.row for e in self.stored("adjudicated") if not e.retracted}
        return [r for r in self.texts if r not in settled and len({e.classes for e in self._answers(r)}) > 1]

    def _is_open(self, row: str, who: str) -> bool:
        people = {e.who for e in self.events}
        done = [each for each in people if self.current(row, each)]
        return who not in done and len(done) < self.wanted.get(row, 1) and self.leases.get(row, who) == who

    def _rows(self, who: str) -> list[Reply]:
        rows = [*self.first.get(who, []), *(row for row in self.order if self._is_open(row, who))]
        rows = list(dict.fromkeys(rows))[:2]
        self.leases.update(dict.fromkeys(rows, who))
        return [self._row(row, who) for row in rows]

    def _row(self, row: str, who: str) -> Reply:
        current = self.current(row, who)
        given = {"pair": None, "fields": {}, "read_up_to": None, **self.texts[row]}
        more = {"answer": current and current.answer(), "round": 0, "top_up": self.ranked_at is None}
        return {"id": row, **given, **more}

    def _header(self, who: str) -> Reply:
        answered = {e.row for row in self.texts for e in self._answers(row)}
        mine = [e for e in self.stored("answered") if e.who == who and not e.retracted]
        ranking = None
        if self.ranked_at is not None:
            later = [e for e in self.events[self.ranked_at :] if e.kind == "answered"]
            names = {
                "strategy": "Margin",
                "reason": "smallest difference of two classes",
                "age_seconds": 5.0,
                "recall": self.recall,
            }
            ranking = {"event": self.ranked_at, "answers_since": len(later), **names}
        return {
            "answered": len(answered),
            "mine": len(mine),
            "pending": len(self.order) - len(answered),
            "declined": sum(1 for row in self.texts if (e := self.current(row, who)) and e.kind == "skipped"),
            "disputed": len(self._disputed()),
            "rows": len(self.texts),
            "per_hour": 92 if len(mine) > 1 else None,
            "dollars": None,
            "ranking": ranking,
            "trainer": dict(self.trainer),
            "stop": self.stop,
        }

    def _near(self, row: str, who: str) -> list[Reply]:
        plain = words(self.texts[row]["text"])
        others = [(each, self.current(each, who)) for each in self.texts if each != row]
        answered = [(each, event) for each, event in others if event and event.kind == "answered"]
        answered.sort(key=lambda pair: -len(plain & words(self.texts[pair[0]]["text"])))
        return [{"id": r, "text": self.texts[r]["text"], "classes": list(e.classes)} for r, e in answered]

    def _guess(self, event: Event) -> tuple[int, ...] | None:
        near = self._near(event.row, event.who)
        return tuple(near[0]["classes"]) if near else None

    def _active(self) -> list[Reply]:
        keys = ("id", "name", "description", "examples", "letter")
        return [{key: each[key] for key in keys} for each in self.classes if not each["gone"]]

    def _add_class(self, name: str, description: str = "") -> None:
        if any(each["name"] == name and not each["gone"] for each in self.classes):
            raise AnswerError(f"there is a class {name!r} already")
        given = {"id": len(self.classes), "name": name, "description": description}
        self.classes.append({**given, "examples": [], "letter": None, "gone": False})

    def _change(self, change: Mapping[str, Any]) -> None:
        does = change["do"]
        if does == "add":
            self._add_class(change["name"], change.get("description", ""))
            return
        if does == "guide":
            self.project["guide"] = change["text"]
            return
        if change["id"] >= len(self.classes):
            raise AnswerError(f"no class has the id {change['id']}")
        entry = self.classes[change["id"]]
        if does == "rename":
            entry["name"] = change["name"]
        elif does == "describe":
            entry["description"] = change.get("text", entry["description"])
            entry["examples"] = change.get("examples", entry["examples"])
        elif does == "bind":
            if change["letter"] and any(each["letter"] == change["letter"] for each in self.classes):
                raise AnswerError(f"the letter {change['letter']} is taken")
            entry["letter"] = change["letter"]
        else:
            entry["gone"] = does != "restore"
            if does == "merge":
                for event in self.events:
                    swapped = (change["into"] if c == change["id"] else c for c in event.classes)
                    event.classes = tuple(dict.fromkeys(swapped))
