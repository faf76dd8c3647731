"""Logins of people: a secret per person that is valid in any browser, until it ends, is withdrawn or is replaced.

A login is 256 random bits, which people do not choose, so that it cannot be guessed or tried out from a list. The
table `people` of the log holds its SHA-256 digest only: a copy of the project lets nobody in. The browser keeps the
login itself as a cookie that scripts cannot read. Nothing else has to be stored, and a cookie therefore survives a
restart of the program and ends with the login, at the very next request. A link holds the login after `#`, which
browsers send to no server: it is in no log of a proxy and in no referer.
"""

import hmac
import secrets
import shlex
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from importlib import resources

from dal.annotate.admissions import digest
from dal.annotate.person_names import check_names
from dal.annotate.service_contract import ADJUDICATE, CLASSES
from dal.errors import ConfigError, printable
from dal.store.atomic_files import typed
from dal.store.label_log import LabelLog
from dal.store.label_reader import Person
from dal.store.log_figures import work_of

#: Days for which a login is valid.
DAYS = 30

#: Wrong logins within a minute after which further ones are refused with another status, and reported.
MOST_WRONG = 10

_SECRET = 43  # characters of a login
_MINUTE = 60.0


def new_login(log: LabelLog, who: str, *, days: float = DAYS, rights: Iterable[str] | None = None) -> str:
    """Give a person a login, which replaces an earlier one, and return it. Only its digest is stored.

    Args:
        log: log of the project.
        who: person.
        days: days for which it is valid.
        rights: rights of the person; None for those that she has.
    """
    secret = secrets.token_urlsafe(32)
    with log.changing():
        if rights is None:
            rights = next((each.rights for each in log.people() if each.who == who), ())
        log.set_person(who, token=digest(secret), rights=rights, until=time.time() + days * 24 * 3600)
    return secret


def admit_people(log: LabelLog, people: Sequence[str], adjudicators: Iterable[str]) -> dict[str, str]:
    """Give people their rights, and a login to each that has none or whose login has ended.

    Args:
        log: log of the project.
        people: everybody who may enter.
        adjudicators: who of them may settle disputes, change classes and read all answers.

    Returns:
        Person -> new login.

    Raises:
        ConfigError: two names look alike, or the access of a person was withdrawn.
    """
    with log.changing():
        known = {each.who: each for each in log.people()}
        check_names(people, [*known, *(work.who for work in work_of(log))])
        made = {}
        for who in people:
            person = known.get(who)
            if person is not None and person.token is None and person.until is not None:
                folder = "FOLDER" if log.path is None else typed(log.path.parent)
                raise ConfigError(
                    f"{printable(who)} was removed: leave out the name, or give a login with dal people {folder} login "
                    f"{shlex.quote(printable(who))}"
                )
            rights = (ADJUDICATE, CLASSES) if who in adjudicators else ()
            if person is not None and person.token is not None and person.has_access():
                # A login that begins later than now was given by a clock that was ahead, and would last as much longer.
                ahead = max(0.0, person.since - time.time())
                until = None if person.until is None else person.until - ahead
                log.set_person(who, token=person.token, rights=rights, until=until, since=person.since - ahead)
            else:
                made[who] = new_login(log, who, rights=rights)
    return made


class Logins:
    """The people that may use the page by their login.

    Each request looks up the table `people`, so that another process can withdraw a login while the page is served.

    Args:
        log: log of the project.
        people: everybody who may enter; others may not, even with a login.
        on_many_wrong: called with a message when there are many wrong logins, at most once a minute.
    """

    def __init__(
        self, log: LabelLog, people: Iterable[str], on_many_wrong: Callable[[str], None] = lambda words: None
    ) -> None:
        self._log = log
        self._people = frozenset(people)
        self._on_many_wrong = on_many_wrong
        self._wrong: deque[float] = deque()  # times of wrong logins within the last minute
        self._reported = -_MINUTE
        self.login_page = (resources.files("dal.annotate") / "page" / "login.html").read_text(encoding="utf-8")

    def exchange(self, token: str) -> tuple[str, str] | None:
        """The person of a login, and her cookie, which is the login; None for a wrong one."""
        who = self.person(token)
        return None if who is None else (who, token)

    def person(self, cookie: str) -> str | None:
        """The person of a login; None for a wrong one, and for one that has ended."""
        if len(cookie) != _SECRET:
            return None
        given, found = digest(cookie), None
        for each in self._admitted():
            if each.token is not None and hmac.compare_digest(each.token, given):
                found = each.who
        return found

    def lifetime(self, who: str) -> int | None:
        """Seconds until the login of a person ends; None if it does not."""
        until = next((each.until for each in self._admitted() if each.who == who), 0.0)
        return None if until is None else max(0, int(until - time.time()))

    def are_too_many_wrong(self) -> bool:
        """Count a wrong login, and return whether there were more than `MOST_WRONG` within a minute."""
        now = time.monotonic()
        while self._wrong and self._wrong[0] < now - _MINUTE:
            self._wrong.popleft()
        if len(self._wrong) < MOST_WRONG:
            self._wrong.append(now)
            return False
        if now - self._reported >= _MINUTE:
            self._reported = now
            self._on_many_wrong(f"more than {MOST_WRONG} wrong logins within a minute: somebody may be guessing")
        return True

    def _admitted(self) -> list[Person]:
        return [each for each in self._log.people() if each.who in self._people and each.has_access()]
