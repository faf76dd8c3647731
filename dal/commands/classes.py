"""`dal classes`: list and change the classes of a project."""

from pathlib import Path

from dal.commands.paths import path_of, require_project
from dal.commands.shared_options import add_person, with_shared_options
from dal.commands.terminal import Parser, escape_controls, wants_help
from dal.errors import ConfigError, counted, did_you_mean, printable, shortened
from dal.store.class_table import ClassEntry, ClassTable
from dal.store.folder_lock import held
from dal.store.label_log import LabelLog
from dal.store.run_folder import LABELS

HELP = with_shared_options("""\
usage: dal classes FOLDER                       list the classes of a project
       dal classes FOLDER add NAME [NAME ...]
       dal classes FOLDER rename OLD NEW
       dal classes FOLDER describe NAME TEXT [EXAMPLE ...]
       dal classes FOLDER merge NAME INTO      answers of NAME count for INTO
       dal classes FOLDER retire NAME          NAME cannot be chosen any more, and its answers do not count
       dal classes FOLDER restore NAME         undo merge or retire
       dal classes FOLDER bind NAME LETTER     key on the annotation page; "" for none
       dal classes FOLDER guide TEXT           guideline for all texts

Each change is stored with its time and person, and no answer is rewritten: a renamed class keeps its answers, and a
merge can be undone. Descriptions train the model, as data.descriptions of a config does, and are shown while people
answer. While `dal annotate` runs, classes are changed there.

options:
  --who NAME        who changes them
  @debug
""")

#: Words after the change -> smallest and largest number; None for any.
_WORDS: dict[str, tuple[int, int | None]] = {
    "add": (1, None),
    "rename": (2, 2),
    "describe": (2, None),
    "merge": (2, 2),
    "retire": (1, 1),
    "restore": (1, 1),
    "bind": (2, 2),
    "guide": (1, 1),
}


def classes(arguments: list[str]) -> int:
    """`dal classes`."""
    if wants_help(arguments):
        print(HELP, end="")
        return 0
    parser = Parser("dal classes", add_help=False, allow_abbrev=False)
    parser.add_argument("folder", type=path_of)
    parser.add_argument("change", nargs="?", choices=list(_WORDS))
    parser.add_argument("words", nargs="*")
    add_person(parser)
    options = parser.parse_intermixed_args(arguments)
    require_project(options.folder)
    if options.change is None:
        with LabelLog(options.folder / LABELS, access="read") as log:
            print("\n".join(_listing(log)))
        return 0
    least, most = _WORDS[options.change]
    if len(options.words) < least or (most is not None and len(options.words) > most):
        usage = next(line for line in HELP.splitlines() if f"FOLDER {options.change}" in line).split("  ")[0]
        raise ConfigError(f"{options.change} takes other words: {usage.strip() or options.change} (dal classes --help)")
    print(change_classes(options.folder, options.change, options.words, options.who))
    return 0


def change_classes(folder: Path, change: str, words: list[str], who: str) -> str:
    """Make a change and return the line that says so.

    Raises:
        ConfigError: there is no class of a name.
        AnswerError: the change is impossible.
        BusyError: another process, such as `dal annotate`, works in the folder.
    """
    with held(folder), LabelLog(folder / LABELS) as log, log.changing():
        table, name = log.classes, words[0]
        if change == "add":
            for each in words:
                log.change_classes({"do": "add", "name": each}, who=who)
            return f"added {', '.join(map(printable, words))}; {counted(len(log.classes.active), 'class', 'classes')}"
        if change == "guide":
            log.change_classes({"do": "guide", "text": name}, who=who)
            return "the guideline is stored"
        if change == "restore":
            entry = _removed(table, name)
            log.change_classes({"do": "restore", "id": entry.id}, who=who)
            return f"{printable(name)} can be chosen again, and its answers count for it"
        entry, rows = _active(table, name), log.class_counts()
        n = rows.get(entry.id, 0)
        count = counted(n, "answer")
        if change == "rename":
            log.change_classes({"do": "rename", "id": entry.id, "name": words[1]}, who=who)
            return f"{printable(name)} is called {printable(words[1])} now, with its {count}"
        if change == "describe":
            told = {"do": "describe", "id": entry.id, "text": words[1]}
            log.change_classes(told | ({"examples": words[2:]} if len(words) > 2 else {}), who=who)
            return f"the description of {printable(name)} is stored"
        if change == "merge":
            log.change_classes({"do": "merge", "id": entry.id, "into": _active(table, words[1]).id}, who=who)
            verb = "counts" if n == 1 else "count"
            return f"{count} of {printable(name)} {verb} for {printable(words[1])} now; restore undoes it"
        if change == "bind":
            log.change_classes({"do": "bind", "id": entry.id, "letter": words[1] or None}, who=who)
            return (
                f"{printable(name)} has the key {words[1]}" if words[1] else f"{printable(name)} has no key of its own"
            )
        log.change_classes({"do": "retire", "id": entry.id}, who=who)
        kept = "is kept and does not count" if n == 1 else "are kept and do not count"
        return f"{printable(name)} cannot be chosen any more; its {count} {kept}; restore undoes it"


def _listing(log: LabelLog) -> list[str]:
    table, counts = log.classes, log.class_counts()
    if not len(table):
        return ["no classes yet: add NAME makes the first one, or do so while answering"]
    width = max(len(printable(entry.name, 40)) for entry in table.entries.values())
    lines = []
    for entry in table.entries.values():
        note = ""
        if entry.merged_into is not None:
            note = f"merged into {printable(table.entries[entry.merged_into].name, 40)}"
        elif entry.retired:
            note = "retired"
        elif entry.description:
            note = shortened(" ".join(entry.description.split()), 60)
        number = f"{counts.get(entry.id, 0):>7,}" if entry.is_active else " " * 7
        letter = f" [{entry.letter}]" if entry.letter else ""
        lines.append(f"{printable(entry.name, 40):{width}} {number}{letter}  {escape_controls(note)}".rstrip())
    if table.guide:
        lines.append(f"guideline: {shortened(' '.join(escape_controls(table.guide).split()), 100)}")
    return lines


def _active(table: ClassTable, name: str) -> ClassEntry:
    found = next((entry for entry in table.active if entry.name == name), None)
    if found is None:
        names = [entry.name for entry in table.active]
        raise ConfigError(f"there is no class {shortened(repr(name))}{did_you_mean(name, names)}; {_names(names)}")
    return found


def _removed(table: ClassTable, name: str) -> ClassEntry:
    removed = [entry for entry in table.entries.values() if not entry.is_active]
    found = next((entry for entry in reversed(removed) if entry.name == name), None)
    if found is None:
        names = [entry.name for entry in removed]
        what = "merged or retired are" if names else "none was merged or retired"
        raise ConfigError(f"{shortened(repr(name))} was neither merged nor retired; {what} {', '.join(names)}".rstrip())
    return found


def _names(names: list[str]) -> str:
    shown = ", ".join(printable(name, 40) for name in names[:20])
    return f"classes are {shown}" if names else "there are none yet"
