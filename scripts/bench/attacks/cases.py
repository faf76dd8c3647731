"""Bad inputs, generated from tables: every argument with every bad value, every file with every damage."""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from attacks import damage
from attacks.damage import BYTES, KINDS, Damage

REFUSED = frozenset({2})
EITHER = frozenset({0, 2})

#: What stands in every folder that a case is tried in.
COMMON = ("tickets.csv", "pool.csv", "run.yaml", "ask.yaml", "todo.csv")


@dataclass(frozen=True)
class Case:
    """One bad input.

    Attributes:
        command: whose input it is.
        kind: of the file, or "arguments".
        name: what is wrong.
        arguments: of `dal`.
        needs: files and folders that it needs besides `COMMON`.
        prepare: what is done to a copy of them.
        codes: exit codes that are allowed.
        imports: whether the user's own command line names a module of the folder, which may then be imported.
        begins: whether it may fail after it has begun to work, and so have written and printed something.
    """

    command: str
    kind: str
    name: str
    arguments: tuple[str, ...]
    needs: tuple[str, ...] = ()
    prepare: Damage | None = None
    codes: frozenset[int] = REFUSED
    imports: bool = False
    begins: bool = False

    @property
    def title(self) -> str:
        """What identifies it."""
        return f"{self.command}: {self.kind}: {self.name}"


def all_cases() -> list[Case]:
    """Every case, in a fixed order, each with a title of its own."""
    makers = (_help, _options, _paths, _numbers, _names, _data, _sheets, _configs, _stores, _run_folders, _folders)
    found: dict[str, Case] = {}
    for case in (case for maker in makers for case in maker()):
        count = 2
        one = case
        while one.title in found:
            one, count = replace(case, name=f"{case.name} ({count})"), count + 1
        found[one.title] = one
    return list(found.values())


# -- arguments ---------------------------------------------------------------------------------------------------------

COMMANDS = {
    "run": ("run", "run.yaml"),
    "compare": ("compare", "run.yaml", "--strategies", "Random"),
    "ask": ("ask", "mine"),
    "tell": ("tell", "mine", "todo.csv"),
    "audit": ("audit", "audited"),
    "autolabel": ("autolabel", "mine", "--max-error", "0.1"),
    "estimate": ("estimate", "mine"),
    "predict": ("predict", "mine", "pool.csv"),
    "report": ("report", "ran"),
    "list": ("list", "strategies"),
    "check": ("check", "Margin"),
    "llm preview": ("llm", "preview", "llm.yaml"),
}
NEEDS = {
    "ask": ("mine",),
    "tell": ("mine",),
    "autolabel": ("mine",),
    "estimate": ("mine",),
    "predict": ("mine",),
    "audit": ("audited",),
    "report": ("ran",),
    "llm preview": ("llm.yaml",),
}


def _help() -> Iterator[Case]:
    for name, words in COMMANDS.items():
        base = ("llm", "preview") if name == "llm preview" else words[:1]
        for at, arguments in {
            "alone": (*base, "--help"),
            "short": (*base, "-h"),
            "after bad words": (*base, "nowhere", "--help"),
        }.items():
            yield Case(name, "help", at, arguments, codes=EITHER)
    for words in (("--help",), ("help",), ("-h",), (), ("--version",)):
        yield Case("dal", "help", " ".join(words) or "nothing", words, codes=EITHER)
    for word in (
        "rnu",
        "",
        " ",
        "--",
        "-",
        "---",
        "--nothing",
        "-x",
        "RUN",
        "run ",
        "\x1b[31mrun",
        "r" * 100_000,
        "rün",
    ):
        yield Case("dal", "arguments", f"command {word[:20]!r}", (word,))
    yield Case("dal", "arguments", "command is not UTF-8", (os.fsdecode(b"caf\xe9"),))


def _options() -> Iterator[Case]:
    wrong = {
        "unknown option": ("--nothing", "1"),
        "unknown flag": ("-z",),
        "option without a value": ("--nothing",),
        "unknown option of a million": ("--" + "n" * 1_000_000, "1"),
        "option with an escape": ("--\x1b[31mred", "1"),
        "dotted option": ("--a.b.c.d.e", "1"),
        "deep option": ("--" + ".".join(["a"] * 3000), "1"),
        "empty option": ("--=1",),
        "dots": ("--...", "1"),
        "one argument more": ("more",),
        "many arguments more": tuple(f"m{i}" for i in range(2000)),
        "empty argument more": ("",),
        "argument that is not UTF-8": (os.fsdecode(b"caf\xe9"),),
        "option that is not UTF-8": ("--" + os.fsdecode(b"caf\xe9"), "1"),
        "Unicode dash": ("—help",),
    }
    for name, words in COMMANDS.items():
        for what, more in wrong.items():
            several = name == "report"  # which makes the reports of the other folders
            yield Case(name, "arguments", what, (*words, *more), NEEDS.get(name, ()), begins=several)
        if len(words) > 1:
            yield Case(name, "arguments", "nothing", words[:1], codes=EITHER)


def _none(folder: Path) -> None:
    pass


def _closed(folder: Path) -> None:
    (folder / "closed").mkdir()
    (folder / "closed" / "x").write_text("id,text,label\n1,a,billing\n", encoding="utf-8")
    (folder / "closed").chmod(0)


def _kept(folder: Path) -> None:
    (folder / "kept").mkdir()
    (folder / "kept").chmod(0o555)


def _put(name: str, how: str) -> Damage:
    return lambda folder: KINDS[how](folder / name)


#: Bad paths, and what must lie in the folder for them.
PATHS: dict[str, tuple[str, Damage]] = {
    "missing": ("nothing.csv", _none),
    "in a missing folder": ("nowhere/x.csv", _none),
    "empty": ("", _none),
    "a space": (" ", _none),
    "a dot": (".", _none),
    "two dots": ("..", _none),
    "nobody's home": ("~nobody_here/x.csv", _none),
    "name too long": ("n" * 300 + ".csv", _none),
    "path too long": ("d/" * 3000 + "x.csv", _none),
    "a million": ("d" * 1_000_000, _none),
    "not UTF-8": (os.fsdecode(b"caf\xe9.csv"), _none),
    "NUL": ("a\0b.csv", _none),
    "file as folder": ("tickets.csv/x.csv", _none),
    "slash after a file": ("tickets.csv/", _none),
    "line break": ("a\nb.csv", _none),
    "escape": ("\x1b[31mred.csv", _none),
    "a format": ("%s{x}%(a)s.csv", _none),
    "a pattern": ("*.csv", _none),
    "an address": ("http://127.0.0.1:9/x.csv", _none),
    "a file address": ("file:///tmp/x.csv", _none),
    "another system's": ("C:\\x\\y.csv", _none),
    "unknown type": ("tickets.xlsx", _put("tickets.xlsx", "a link to nothing")),
    "an empty folder": ("a_folder", _put("a_folder", "a folder")),
    "a pipe": ("pipe.csv", _put("pipe.csv", "a pipe")),
    "a device": ("device.csv", _put("device.csv", "a device")),
    "a socket": ("socket.csv", _put("socket.csv", "a socket")),
    "a link to nothing": ("link.csv", _put("link.csv", "a link to nothing")),
    "a loop of links": ("loop.csv", _put("loop.csv", "a loop of links")),
    "in a closed folder": ("closed/x", _closed),
    "in a folder that is read only": ("kept/x.csv", _kept),
    "a dash": ("-", _none),
}

#: Where a path is an argument: what reads it.
READ = {
    "run": {
        "CONFIG": lambda path: ("run", path),
        "--resume": lambda path: ("run", "--resume", path),
        "--data.path": lambda path: ("run", "run.yaml", "--data.path", path),
        "--data.test": lambda path: ("run", "run.yaml", "--data.test", path),
    },
    "compare": {
        "CONFIG": lambda path: ("compare", path, "--strategies", "Random"),
        "--resume": lambda path: ("compare", "--resume", path),
    },
    "ask": {
        "--config": lambda path: ("ask", "new", "--config", path),
        "FOLDER": lambda path: ("ask", path),
    },
    "tell": {
        "FOLDER": lambda path: ("tell", path, "todo.csv"),
        "FILE": lambda path: ("tell", "mine", path),
    },
    "audit": {"FOLDER": lambda path: ("audit", path)},
    "autolabel": {"FOLDER": lambda path: ("autolabel", path, "--max-error", "0.1")},
    "estimate": {
        "FOLDER": lambda path: ("estimate", path),
        "FILE": lambda path: ("estimate", "mine", path),
    },
    "predict": {
        "FOLDER": lambda path: ("predict", path, "pool.csv"),
        "FILE": lambda path: ("predict", "mine", path),
    },
    "report": {"FOLDER": lambda path: ("report", path)},
    "llm preview": {"CONFIG": lambda path: ("llm", "preview", path)},
    "check": {"NAME": lambda path: ("check", path)},
    "list": {"KIND": lambda path: ("list", path)},
}
#: And what writes it.
WRITTEN = {
    "run": {"--folder": lambda path: ("run", "run.yaml", "--folder", path)},
    "compare": {"--folder": lambda path: ("compare", "run.yaml", "--strategies", "Random", "--folder", path)},
    "ask": {
        "-o": lambda path: ("ask", "mine", "-o", path, "--force"),
        "-o of a new one": lambda path: ("ask", "new", "--config", "ask.yaml", "-o", path, "--force"),
        "new FOLDER": lambda path: ("ask", path, "--config", "ask.yaml", "-o", "new.csv"),
    },
    "audit": {"--merge": lambda path: ("audit", "audited", "--merge", path)},
    "autolabel": {"-o": lambda path: ("autolabel", "mine", "--max-error", "0.5", "-o", path, "--force")},
    "estimate": {"-o": lambda path: ("estimate", "mine", "-o", path, "--force")},
    "predict": {"-o": lambda path: ("predict", "mine", "pool.csv", "-o", path, "--force")},
}
#: A device is no data, a folder is no file; a name that is odd but possible may be written.
_MUST_FAIL = {
    "empty",
    "a dot",
    "two dots",
    "name too long",
    "path too long",
    "a million",
    "NUL",
    "file as folder",
    "an empty folder",
    "a pipe",
    "a device",
    "a socket",
    "a loop of links",
    "in a closed folder",
    "in a folder that is read only",
    "in a missing folder",
}


def _paths() -> Iterator[Case]:
    for command, slots in READ.items():
        for slot, words in slots.items():
            for what, (path, prepare) in PATHS.items():
                codes = EITHER if what == "slash after a file" else REFUSED
                yield Case(command, "path", f"{slot} is {what}", words(path), NEEDS.get(command, ()), prepare, codes)
    for command, slots in WRITTEN.items():
        for slot, words in slots.items():
            for what, (path, prepare) in PATHS.items():
                if slot in {"--folder", "new FOLDER"} and what == "two dots":
                    continue  # it may be written to, and is not the case's own
                file = slot.startswith("-") and slot != "--folder"
                codes = REFUSED if file and what in _MUST_FAIL else EITHER
                yield Case(command, "path", f"{slot} is {what}", words(path), NEEDS.get(command, ()), prepare, codes)


NUMBERS = {
    "zero": "0",
    "minus one": "-1",
    "not a number": "nan",
    "YAML's not a number": ".nan",
    "infinite": "inf",
    "YAML's infinite": ".inf",
    "too big": "1e999",
    "5,000 digits": damage.LONG,
    "twenty digits": "9" * 20,
    "empty": "",
    "a fraction": "1.5",
    "half": "0.5",
    "a word": "many",
    "true": "true",
    "null": "null",
    "a list": "[1, 2]",
    "an object": "{a: 1}",
    "deep": "[" * 3000,
    "other digits": "٣",
    "superscript": "²",
    "with an underscore": "1_0",
    "hexadecimal": "0x10",
    "with spaces": " 3 ",
    "with an escape": "\x1b[31m3",
    "an alias": "*x",
    "a tag": "!!python/name:os.system",
}
#: Where a number is an argument. With `{}`, the value is part of a word.
NUMBERED: dict[str, list[tuple[str, ...]]] = {
    "run": [
        ("run", "run.yaml", option)
        for option in ("--batch", "--start", "--rounds", "--seeds", "--candidates", "--pool_sample", "--stop")
    ]
    + [("run", "run.yaml", f"--data.{option}") for option in ("test", "validation", "limit", "test_limit", "seed")]
    + [("run", "run.yaml", f"--learner.{option}") for option in ("C", "ngrams")],
    "compare": [
        ("compare", "run.yaml", "--strategies", "Random", "--seeds"),
        ("compare", "run.yaml", "--strategies", "Random", "--seeds", "1", "--jobs"),
        ("compare", "run.yaml", "--seeds", "1", "--strategies"),
    ],
    "ask": [("ask", "mine", "-o", "new.csv", "-n"), ("ask", "new", "--config", "ask.yaml", "-o", "new.csv", "-n")],
    "autolabel": [
        ("autolabel", "mine", "--max-error"),
        ("autolabel", "mine", "--max-error", "0.5", "--delta"),
        ("autolabel", "ran", "--max-error", "0.5", "--cell"),
    ],
    "estimate": [("estimate", "mine", "-o", "new.csv", "-n"), ("estimate", "ran", "-o", "new.csv", "--cell")],
    "llm preview": [("llm", "preview", "llm.yaml", "--row"), ("llm", "preview", "llm.yaml", "--place")],
    "check": [("check", "TfidfLearner", "--C"), ("check", "TfidfLearner", "--ngrams")],
}


def _numbers() -> Iterator[Case]:
    for command, slots in NUMBERED.items():
        for words in slots:
            needs = (*NEEDS.get(command, ()), *(("ran",) if "ran" in words else ()))
            codes = EITHER | ({1} if command == "check" else set())
            for what, value in NUMBERS.items():
                yield Case(command, "numbers", f"{words[-1]} is {what}", (*words, value), needs, codes=frozenset(codes))


NAMES = {
    "empty": "",
    "unknown": "Nothing",
    "null": "null",
    "a number": "5",
    "a list": "[Margin]",
    "empty object": "{}",
    "two names": "{Margin: {}, Random: {}}",
    "unknown options": "{Margin: {zzz: 1}}",
    "a module": "os",
    "a function": "os.system",
    "a function by colon": "os:system",
    "a built-in": "builtins.eval",
    "a class of Python": "collections.OrderedDict",
    "a module that prints": "this.that",
    "a module that is not there": "no_such_module.Thing",
    "a module of this folder": "planted_plugin.Nothing",
    "half a path": "dal.strategies.",
    "dots": "...",
    "a colon": ":",
    "a file": "tickets.csv",
    "a path": "../x",
    "a million": "N" * 1_000_000,
    "million dots": "a." * 500_000 + "b",
    "deep": "{Phases: {first: " * 3000,
    "deep and closed": "{Phases: {first: " * 200 + "Margin" + "}}" * 200,
    "alias of itself": "&x [*x]",
    "aliases": damage._BOMB,
    "an object of Python": "!!python/object/apply:os.getcwd []",
    "an escape": "\x1b[31mMargin",
    "NUL": "Mar\0gin",
    "not UTF-8": os.fsdecode(b"Margin\xe9"),
    "full-width": "Ｍａｒｇｉｎ",
    "a class path of nothing": "{class_path: null}",
    "a class path of a list": "{class_path: [a], init_args: 5}",
    "arguments of a list": "{class_path: Margin, init_args: [1]}",
}
NAMED = {
    "run": [
        ("run", "run.yaml", f"--{option}")
        for option in ("strategy", "learner", "oracle", "stop", "baseline", "cold_start", "weak_labels", "successor")
    ]
    + [("run", "run.yaml", "--loggers")],
    "compare": [("compare", "run.yaml", "--strategies")],
    "check": [("check",)],
    "ask": [("ask", "new", "--config", "ask.yaml", "-o", "new.csv", "--strategy")],
}


def _names() -> Iterator[Case]:
    for command, slots in NAMED.items():
        for words in slots:
            for what, value in NAMES.items():
                codes = EITHER if what in {"null", "empty object", "a list", "empty", "deep and closed"} else REFUSED
                own = "this folder" in what
                yield Case(command, "names", f"{words[-1]} is {what}", (*words, value), codes=codes, imports=own)
    for command in ("autolabel", "estimate", "predict"):
        for what in ("empty", "unknown", "a path", "a million", "an escape", "NUL", "not UTF-8"):
            arguments = (*COMMANDS[command], "--cell", NAMES[what])
            yield Case(command, "names", f"--cell is {what}", arguments, ("mine",))
    for option in ("--text", "--id", "--delimiter"):
        for what in ("empty", "unknown", "a million", "an escape", "NUL", "not UTF-8", "a list"):
            arguments = (*COMMANDS["predict"], option, NAMES[what])
            yield Case("predict", "names", f"{option} is {what}", arguments, ("mine",), codes=EITHER)
    for what in ("empty", "unknown", "a million", "an escape", "NUL", "not UTF-8", "full-width"):
        yield Case("list", "names", f"KIND is {what}", ("list", NAMES[what]))
        yield Case("llm preview", "names", f"word is {what}", ("llm", NAMES[what]))
    for option in ("text", "label", "id", "group", "text_pair", "classes", "label_separator", "multilabel"):
        for what in ("empty", "unknown", "a million", "an escape", "NUL", "not UTF-8", "a list", "empty object"):
            arguments = ("run", "run.yaml", f"--data.{option}", NAMES[what])
            yield Case("run", "names", f"--data.{option} is {what}", arguments, codes=EITHER)


# -- files -------------------------------------------------------------------------------------------------------------


def _on(name: str, how: Damage) -> Damage:
    return lambda folder: how(folder / name)


def _damages(special: dict[str, Damage], *, strict: bool = True) -> Iterator[tuple[str, Damage, frozenset[int]]]:
    """The special damages, those of the bytes, and those of the kind of file, each with the codes that are allowed."""
    for what, how in special.items():
        yield what, how, EITHER
    for what, (hopeless, how) in BYTES.items():
        yield what, how, REFUSED if hopeless and strict else EITHER
    for what, how in KINDS.items():
        yield what, how, REFUSED if strict and what != "read only" else EITHER


DATA_FILES = {
    "tickets.csv": damage.CSV,
    "tickets.tsv": damage.TSV,
    "tickets.jsonl": damage.JSONL,
    "tickets.json": damage.JSON,
    "tickets.parquet": damage.PARQUET,
}


def _data() -> Iterator[Case]:
    for file, special in DATA_FILES.items():
        kind = file.partition(".")[2]
        for what, how, codes in _damages(special):
            arguments = ("run", "run.yaml", "--data.path", file, "--start", "4", "--rounds", "1", "--baseline", "null")
            yield Case("run", kind, what, arguments, (file,), _on(file, how), codes)
        for what, how in special.items():
            arguments = ("ask", "new", "--config", "ask.yaml", "--data.path", file, "-o", "new.csv")
            yield Case("ask", kind, what, arguments, (file,), _on(file, how), EITHER)
            if what == "a thousand classes":
                continue  # a head for each of them takes minutes, and is allowed to
            more = ("--data.multilabel", "true", "--start", "4", "--rounds", "1", "--baseline", "null")
            many = ("run", "run.yaml", "--data.path", file, *more)
            yield Case("run", kind, f"{what}, several classes", many, (file,), _on(file, how), EITHER)
    for what, how in damage.SAVED.items():
        arguments = ("run", "run.yaml", "--data.path", "saved", "--rounds", "1", "--baseline", "null")
        codes = EITHER if what.startswith("dataset_info") or "elsewhere" in what or "empty object" in what else REFUSED
        yield Case("run", "datasets", what, arguments, ("saved",), _on("saved", how), codes)
    for what, (_, how) in BYTES.items():
        arguments = ("run", "run.yaml", "--data.test", "test.csv", "--rounds", "1", "--baseline", "null")
        yield Case("run", "test csv", what, arguments, (), _both(how), EITHER)


def _both(how: Damage) -> Damage:
    def damaged(folder: Path) -> None:
        (folder / "test.csv").write_bytes((folder / "tickets.csv").read_bytes())
        how(folder / "test.csv")

    return damaged


def _sheets() -> Iterator[Case]:
    for what, how, codes in _damages(damage.SHEET):
        codes = EITHER if what == "UTF-32" else codes  # which is read as what it is
        allowed = EITHER if what == "empty" else codes
        yield Case("tell", "sheet", what, ("tell", "mine", "todo.csv"), ("mine",), _on("todo.csv", how), allowed)
        arguments = ("tell", "mine", "todo.csv", "--correct")
        yield Case("tell", "sheet", f"{what}, --correct", arguments, ("mine",), _on("todo.csv", how), allowed)
        arguments = ("estimate", "mine", "check.csv")
        yield Case("estimate", "sheet", what, arguments, ("mine", "check.csv"), _on("check.csv", how), codes)


def _configs() -> Iterator[Case]:
    for what, how, codes in _damages(damage.CONFIG):
        arguments = ("run", "run.yaml", "--rounds", "1")
        yield Case("run", "config", what, arguments, (), _on("run.yaml", how), codes, imports="in the folder" in what)
    for what, how, codes in _damages(damage.CONFIG):
        arguments = ("compare", "run.yaml", "--strategies", "Random", "--rounds", "1")
        yield Case("compare", "config", what, arguments, (), _on("run.yaml", how), codes, "in the folder" in what)
        arguments = ("ask", "new", "--config", "ask.yaml", "-o", "new.csv")
        yield Case("ask", "config", what, arguments, (), _on("ask.yaml", how), codes, "in the folder" in what)
        arguments = ("llm", "preview", "llm.yaml")
        yield Case(
            "llm preview",
            "config",
            what,
            arguments,
            ("llm.yaml",),
            _on("llm.yaml", how),
            codes,
            "in the folder" in what,
        )


# -- what lies in run folders ------------------------------------------------------------------------------------------

READERS: dict[str, dict[str, tuple[str, ...]]] = {
    "mine": {
        "ask": ("ask", "mine", "-o", "new.csv"),
        "tell": ("tell", "mine", "todo.csv"),
        "autolabel": ("autolabel", "mine", "--max-error", "0.5", "--dry-run"),
        "estimate": ("estimate", "mine", "-n", "4", "-o", "new.csv"),
    },
    "ran": {
        "report": ("report", "ran"),
        "run": ("run", "--resume", "ran"),
        "autolabel": ("autolabel", "ran", "--max-error", "0.5", "--dry-run"),
        "estimate": ("estimate", "ran", "-n", "4", "-o", "new.csv"),
    },
    "grid": {"report": ("report", "grid"), "compare": ("compare", "--resume", "grid")},
    "audited": {"audit": ("audit", "audited")},
}


def _stores() -> Iterator[Case]:
    for folder, file in (("mine", "labels.db"), ("audited", "labels.db"), ("ran", "Margin-seed0/labels.db")):
        for command, arguments in READERS[folder].items():
            for what, how, codes in _damages(damage.LABELS, strict=False):
                yield Case(command, "labels.db", what, arguments, (folder,), _on(f"{folder}/{file}", how), codes)
    for what, how, codes in _damages(damage.REPLIES, strict=False):
        arguments = ("run", "llm.yaml", "--folder", "asked")
        prepare, codes = _replies(how), codes - {0}
        yield Case("run", "replies.db", what, arguments, ("llm.yaml",), prepare, codes, begins=True)


def _replies(how: Damage) -> Damage:
    def damaged(folder: Path) -> None:
        from dal.llm.clients.replies_and_spending import ReplyCache

        ReplyCache(folder / "replies.db", "default").close()
        how(folder / "replies.db")

    return damaged


def _run_folders() -> Iterator[Case]:
    for folder, cell in (("ran", "Margin-seed0/"), ("grid", "Margin-seed0/"), ("mine", "")):
        for command, arguments in READERS[folder].items():
            for kind, special in (("config.yaml", damage.CONFIG), ("metrics.jsonl", damage.METRICS)):
                inner = "" if kind == "config.yaml" else cell
                if folder == "mine" and kind == "metrics.jsonl":
                    continue  # it has none
                if folder == "grid" and kind == "config.yaml":
                    special = {what: special[what] for what in list(special)[:12]}
                for what, how, codes in _damages(special, strict=False):
                    prepare = _on(f"{folder}/{inner}{kind}", how)
                    yield Case(command, kind, f"{folder}: {what}", arguments, (folder,), prepare, codes)
    for command in ("report", "run"):
        for what, how, codes in _damages({}, strict=False):
            prepare = _on("ran/environment.json", how)
            yield Case(command, "environment.json", what, READERS["ran"][command], ("ran",), prepare, codes)
            prepare = _on("ran/Margin-seed0/config.yaml", how)
            yield Case(command, "a cell's config.yaml", what, READERS["ran"][command], ("ran",), prepare, codes)
    for folder, model in (("mine", "mine/model"), ("ran", "ran/Margin-seed0/model")):
        for command in ("estimate", "autolabel"):
            for what, how in damage.MODEL.items():
                arguments = READERS[folder][command]
                yield Case(command, "model", f"{folder}: {what}", arguments, (folder,), _on(model, how), EITHER)
    for command, arguments in {
        "estimate": READERS["mine"]["estimate"],
        "estimate FILE": ("estimate", "mine", "check.csv"),
        "autolabel": READERS["mine"]["autolabel"],
    }.items():
        for what, how, codes in _damages(damage.CHECK, strict=False):
            prepare = _on("mine/checks/1.json", how)
            name = command.partition(" ")[0]
            told = f"{what}, read" if "FILE" in command else what
            yield Case(name, "checks/N.json", told, arguments, ("mine", "check.csv"), prepare, codes)


def _swap(folder: Path) -> None:
    (folder / "mine" / "labels.db").write_bytes((folder / "audited" / "labels.db").read_bytes())


def _folders() -> Iterator[Case]:
    """The wrong folder for a command, and folders that changed."""
    kinds = {"mine": ("mine",), "ran": ("ran",), "ran/Margin-seed0": ("ran",), "grid": ("grid",)}
    kinds |= {"audited": ("audited",), "saved": ("saved",), "mine/model": ("mine",), "mine/checks": ("mine",)}
    tries: dict[str, Callable[[str], tuple[str, ...]]] = {
        "ask": lambda path: ("ask", path, "-o", "new.csv"),
        "tell": lambda path: ("tell", path, "todo.csv"),
        "audit": lambda path: ("audit", path),
        "autolabel": lambda path: ("autolabel", path, "--max-error", "0.5", "--dry-run"),
        "estimate": lambda path: ("estimate", path, "-n", "4", "-o", "new.csv"),
        "report": lambda path: ("report", path),
        "run": lambda path: ("run", "--resume", path),
        "compare": lambda path: ("compare", "--resume", path),
    }
    for command, words in tries.items():
        for path, needs in kinds.items():
            yield Case(command, "folder", f"{path}", words(path), needs, codes=EITHER | {3})
        yield Case(command, "folder", "of another person's data", words("mine"), ("mine", "audited"), _swap, EITHER)
        gone = _on("pool.csv", KINDS["gone"])
        yield Case(command, "folder", "whose data are gone", words("mine"), ("mine",), gone, EITHER)
        other = _on("pool.csv", damage.rows("id,text", *(f"x{i},text {i}" for i in range(30))))
        yield Case(command, "folder", "whose data are others", words("mine"), ("mine",), other, EITHER)
        closed = _on("mine", KINDS["unreadable"])
        yield Case(command, "folder", "closed", words("mine"), ("mine",), closed)
        kept = _on("mine", lambda path: path.chmod(0o555))
        yield Case(command, "folder", "read only", words("mine"), ("mine",), kept, EITHER)
