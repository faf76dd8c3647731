"""`dal cache`: show and remove what is cached on disk."""

import os
import re
import time
from pathlib import Path

from dal.commands.terminal import Parser, escape_controls, say
from dal.errors import ConfigError, shortened
from dal.store.atomic_files import named
from dal.store.cache_contents import CacheEntry, cache_entries, trim
from dal.store.cache_folder import cache_folder
from dal.store.run_folder import reason_of

_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_UNITS |= {"KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40}

_INSTALLED = re.compile(r"^.*[/\\](?:site|dist)-packages[/\\]")  # models of packages, which configs call package:NAME


def cache(arguments: list[str]) -> int:
    """`dal cache`."""
    about = (
        "Shows what is cached on disk, the least recently used first: tokens, embeddings and token states of texts, "
        "and encoders adapted to them. All of these are computed again when they are missing. The folder is that of "
        "the environment variable DAL_CACHE, otherwise ~/.cache/dal. Replies of language models in it were paid for, "
        "and are never removed here."
    )
    parser = Parser("dal cache", description=about, allow_abbrev=False)
    chosen = parser.add_mutually_exclusive_group()
    size = (
        "remove the least recently used entries, each with all of its rows, until the others fit into SIZE, such as "
        "2GB or 500MB; an entry larger than SIZE is removed, even if it was used just now"
    )
    chosen.add_argument("--trim", metavar="SIZE", type=_bytes, help=size)
    chosen.add_argument("--clear", action="store_true", help="remove all entries")
    options = parser.parse_args(arguments)
    folder = cache_folder()
    most = -1 if options.clear else options.trim
    try:
        if most is not None:
            _trim(folder, most)
            return 0
        entries = cache_entries(folder)
    except OSError as error:
        where = "" if error.filename is None else f"{named(Path(error.filename))}: "
        raise ConfigError(f"the cache {named(folder)} cannot be changed: {where}{reason_of(error)}") from error
    source = "set by DAL_CACHE" if os.environ.get("DAL_CACHE") else "DAL_CACHE sets another folder"
    print(f"{named(folder)}: {_size(sum(entry.size for entry in entries))} ({source})")
    if entries:
        print(f"\n{'kind':<12}{'rows':>12}{'size':>10}  {'last used':<12}model")
    for entry in entries:
        rows = "" if entry.rows is None else f"{entry.rows:,}"
        used = time.strftime("%Y-%m-%d", time.localtime(entry.used)) if entry.used else "-"
        print(f"{entry.kind:<12}{rows:>12}{_size(entry.size):>10}  {used:<12}{_about(entry)}")
    if any(entry.kind == "earlier" for entry in entries):
        say("files of an earlier version are never read: dal cache --trim SIZE removes them before all others")
    return 0


def _trim(folder: Path, most: int) -> None:
    """Trim the cache, and print what was removed and what could not be.

    Raises:
        ConfigError: so much was kept that the cache is larger than `most` bytes.
    """
    trimming = trim(folder, most)
    for entry in trimming.removed:
        print(f"removed {_described(entry)}, {_size(entry.size)}")
    for entry, error in trimming.kept.items():
        busy = "another process writes to it" if isinstance(error, TimeoutError) else reason_of(error)
        place = named(Path(error.filename or entry.path))
        say(f"kept {_described(entry)}, {_size(entry.size)}: {place}: {busy}")
    if not trimming.removed and not trimming.kept:
        print("nothing to remove")
    if trimming.kept and trimming.left > most:
        count = "an entry" if len(trimming.kept) == 1 else f"{len(trimming.kept)} entries"
        raise ConfigError(f"{_size(trimming.left)} are left in the cache {named(folder)}: {count} could not be removed")


def _described(entry: CacheEntry) -> str:
    return f"{entry.kind}: {_about(entry)}" if entry.rows is None else f"{entry.rows:,} {entry.kind}: {_about(entry)}"


def _about(entry: CacheEntry) -> str:
    about = _INSTALLED.sub("package:", entry.about)
    return shortened(escape_controls(about).replace("\n", " "), 100)


def _size(count: int) -> str:
    """Bytes for people, with three digits."""
    if count < 1000:
        return f"{count} B"
    value, units = count / 1000, ["kB", "MB", "GB", "TB"]
    while value >= 999.5 and len(units) > 1:
        value, units = value / 1000, units[1:]
    return f"{value:.3g} {units[0]}"


def _bytes(text: str) -> int:
    match = re.fullmatch(r"\s*(\d{1,15}(?:\.\d{1,6})?)\s*([a-zA-Z]*)\s*", text)
    unit = _UNITS.get(match[2].upper()) if match else None
    if match is None or unit is None:
        raise ConfigError(f"--trim {shortened(text)!r} is not a size: give a number and a unit, such as 2GB or 500MB")
    return int(float(match[1]) * unit)
