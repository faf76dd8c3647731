"""Logins: stored digests, their end, their replacement, and wrong ones."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from dal.annotate.logins import DAYS, MOST_WRONG, Logins, admit_people, new_login
from dal.errors import ConfigError
from dal.store.label_log import LabelLog


@pytest.fixture
def log(tmp_path: Path) -> Iterator[LabelLog]:
    with LabelLog(tmp_path / "labels.db") as log:
        yield log


def test_login_is_stored_as_a_digest_and_valid_for_thirty_days(log: LabelLog, tmp_path: Path) -> None:
    made = admit_people(log, ["ana", "ben"], ["ana"])
    assert made.keys() == {"ana", "ben"}
    logins = Logins(log, ["ana", "ben"])
    assert {who: logins.person(secret) for who, secret in made.items()} == {"ana": "ana", "ben": "ben"}
    assert logins.exchange(made["ben"]) == ("ben", made["ben"])
    assert DAYS * 86_400 - 60 < logins.lifetime("ana") <= DAYS * 86_400
    assert {each.who: each.rights for each in log.people()} == {"ana": ("adjudicate", "classes"), "ben": ()}
    stored = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert made["ana"].encode() not in stored
    for wrong in ("", "ana", made["ana"][:-1], made["ana"] + "x", "x" * 43, made["ana"].swapcase()):
        assert logins.person(wrong) is None
        assert logins.exchange(wrong) is None


def test_second_start_keeps_logins_and_takes_new_rights(log: LabelLog) -> None:
    made = admit_people(log, ["ana", "ben"], ["ana"])
    before = {each.who: (each.token, each.since, each.until) for each in log.people()}
    assert admit_people(log, ["ana", "ben", "cem"], ["ben"]).keys() == {"cem"}
    assert {each.who: (each.token, each.since, each.until) for each in log.people() if each.who != "cem"} == before
    assert {each.who: each.rights for each in log.people()}["ben"] == ("adjudicate", "classes")
    assert Logins(log, ["ana"]).person(made["ana"]) == "ana"


def test_only_people_who_are_named_enter(log: LabelLog) -> None:
    made = admit_people(log, ["ana", "ben"], [])
    assert Logins(log, ["ana"]).person(made["ben"]) is None


def test_new_login_replaces_the_earlier_one_and_keeps_the_rights(log: LabelLog) -> None:
    first = admit_people(log, ["ana"], ["ana"])["ana"]
    logins = Logins(log, ["ana"])
    second = new_login(log, "ana", days=1)
    assert (logins.person(first), logins.person(second)) == (None, "ana")
    assert logins.lifetime("ana") <= 86_400
    assert log.people()[0].rights == ("adjudicate", "classes")


def test_person_who_was_removed_is_refused_at_once_also_by_another_process(log: LabelLog) -> None:
    made = admit_people(log, ["ana", "ben"], [])
    logins = Logins(log, ["ana", "ben"])
    with LabelLog(log.path) as other:
        other.remove_person("ben")
    assert (logins.person(made["ana"]), logins.person(made["ben"])) == ("ana", None)
    assert logins.lifetime("ben") == 0
    with pytest.raises(ConfigError, match="ben was removed: leave out the name, or give a login with dal people"):
        admit_people(log, ["ana", "ben"], [])
    again = new_login(log, "ben")
    assert logins.person(again) == "ben"


def test_login_ends_and_the_next_start_makes_another(log: LabelLog, monkeypatch: pytest.MonkeyPatch) -> None:
    made = admit_people(log, ["ana"], ["ana"])
    logins = Logins(log, ["ana"])
    later = time.time() + DAYS * 86_400 + 1
    monkeypatch.setattr(time, "time", lambda: later)
    assert logins.person(made["ana"]) is None
    again = admit_people(log, ["ana"], ["ana"])
    assert logins.person(again["ana"]) == "ana"


def test_login_given_by_a_clock_that_was_years_ahead_lasts_no_longer(
    log: LabelLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 10 * 365 * 86_400)
    made = admit_people(log, ["ana"], [])
    monkeypatch.setattr(time, "time", lambda: now)
    assert admit_people(log, ["ana"], []) == {}
    logins = Logins(log, ["ana"])
    assert logins.person(made["ana"]) == "ana"
    assert logins.lifetime("ana") == pytest.approx(DAYS * 86_400, abs=1)
    monkeypatch.setattr(time, "time", lambda: now + DAYS * 86_400 + 1)
    assert logins.person(made["ana"]) is None


def test_name_like_that_of_somebody_in_the_project_makes_no_login(log: LabelLog) -> None:
    log.change_classes({"do": "add", "name": "x"})
    log.answer("a", "x", who="Ana", key="1", replaces=None)
    with pytest.raises(ConfigError, match="looks like 'Ana', who is in this project"):
        admit_people(log, ["ben", "ana"], [])
    assert log.people() == []


def test_many_wrong_logins_are_counted_and_reported_once(log: LabelLog, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    said: list[str] = []
    logins = Logins(log, ["ana"], on_many_wrong=said.append)
    assert [logins.are_too_many_wrong() for _ in range(MOST_WRONG + 5)] == [False] * MOST_WRONG + [True] * 5
    assert said == ["more than 10 wrong logins within a minute: somebody may be guessing"]
    now[0] += 61
    assert not logins.are_too_many_wrong()
