"""`dal people`: the logins of the people of a project."""

import time
from argparse import ArgumentTypeError
from pathlib import Path

from dal.annotate.logins import DAYS, new_login
from dal.annotate.person_names import check_names, checked_name
from dal.commands.paths import path_of, require_project
from dal.commands.shared_options import with_shared_options
from dal.commands.terminal import Parser, escape_controls, wants_help
from dal.errors import ConfigError, did_you_mean, printable
from dal.store.atomic_files import typed
from dal.store.label_log import LabelLog
from dal.store.label_reader import Person
from dal.store.log_figures import work_of
from dal.store.run_folder import LABELS

HELP = with_shared_options(f"""\
usage: dal people FOLDER                    list the people of a project: their logins, rights and numbers of answers
       dal people FOLDER login NAME         make a login, which replaces an earlier one and is shown once
       dal people FOLDER remove NAME [NAME ...]
                                            end logins at once; the answers are kept

A login is a secret that lets one person answer on the page of `dal annotate FOLDER --people NAMES`, in any browser.
This command works while people answer: a person who was removed is refused at the next request.

options:
  --days N          days for which a new login is valid [{DAYS}]
  @debug
""")

_MOST_DAYS = 3650


def people(arguments: list[str]) -> int:
    """`dal people`."""
    if wants_help(arguments):
        print(HELP, end="")
        return 0
    parser = Parser("dal people", add_help=False, allow_abbrev=False)
    parser.add_argument("folder", type=path_of)
    parser.add_argument("change", nargs="?", choices=["login", "remove"])
    parser.add_argument("names", nargs="*")
    parser.add_argument("--days", type=_days, default=DAYS)
    options = parser.parse_intermixed_args(arguments)
    require_project(options.folder)
    if options.change is None:
        with LabelLog(options.folder / LABELS, access="read") as log:
            print("\n".join(_listing(log, options.folder)))
        return 0
    if not options.names or (options.change == "login" and len(options.names) != 1):
        wanted = "one NAME" if options.change == "login" else "NAME [NAME ...]"
        raise ConfigError(
            f"{options.change} takes {wanted}, as in dal people {typed(options.folder)} {options.change} ana"
        )
    if options.change == "login":
        print(make_login(options.folder, checked_name(options.names[0]), options.days))
    else:
        print(remove_people(options.folder, options.names))
    return 0


def make_login(folder: Path, who: str, days: int) -> str:
    """Make a login and return the lines that say so.

    The folder is not locked: people may be answering, and a login is one line of a table that nothing else changes.
    """
    with LabelLog(folder / LABELS) as log:
        known = {each.who for each in log.people()}
        check_names([who], known | {work.who for work in work_of(log)})
        secret = new_login(log, who, days=days)
        until = next(each.until for each in log.people() if each.who == who)
    lines = [
        f"{printable(who)}: #login={secret}",
        f"It is shown once, is valid until {day_of(until)}, and replaces an earlier one.",
        "Paste it on the page where people log in, or open the address of the page with it at the end.",
    ]
    if who not in known:
        lines.append(f"{printable(who)} is new: name everybody in --people when you start dal annotate again.")
    return "\n".join(lines)


def remove_people(folder: Path, names: list[str]) -> str:
    """End the access of people and return the line that says so.

    Raises:
        ConfigError: the project does not know a name; nobody was removed.
    """
    with LabelLog(folder / LABELS) as log, log.changing():
        known = [each.who for each in log.people()]
        for name in names:
            if name not in known:
                listed = ", ".join(printable(each, 40) for each in known[:20])
                which = f"logins are of {listed}" if listed else "there are no logins here"
                raise ConfigError(f"there is no login of {printable(repr(name))}{did_you_mean(name, known)}; {which}")
        for name in names:
            log.remove_person(name)
    removed = ", ".join(map(printable, names))
    return f"{removed} can no longer log in; the answers are kept"


def day_of(until: float | None) -> str:
    """A time as a date; "further notice" for None."""
    try:
        return "further notice" if until is None else time.strftime("%Y-%m-%d", time.localtime(until))
    except (OverflowError, OSError, ValueError):  # in a log from a stranger
        return "further notice"


def _listing(log: LabelLog, folder: Path) -> list[str]:
    answers = {work.who: work.rows for work in work_of(log)}
    listed = log.people()
    if not listed:
        return [f"no logins yet: dal annotate {escape_controls(typed(folder))} --people ana,ben makes them"]
    width = max(len(printable(each.who, 40)) for each in listed)
    lines = []
    for each in listed:
        rights = ", ".join(escape_controls(right) for right in each.rights)
        line = f"{printable(each.who, 40):{width}} {answers.get(each.who, 0):>7,}  {_state(each):<28}  {rights}"
        lines.append(line.rstrip())
    return lines


def _state(person: Person) -> str:
    if person.has_access():
        return f"login until {day_of(person.until)}" if person.token is not None else "no login"
    return f"{'removed' if person.token is None else 'login ended'} {day_of(person.until)}"


def _days(given: str) -> int:
    if not (given.isascii() and given.isdigit() and len(given) < 5 and 0 < int(given) <= _MOST_DAYS):
        raise ArgumentTypeError(f"days are a number from 1 to {_MOST_DAYS:,}, got {given!r}")
    return int(given)
