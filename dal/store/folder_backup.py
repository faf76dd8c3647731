"""Backups of a project or a run folder as ZIP files: written while people work, checked before they are unpacked."""

import os
import shutil
import sqlite3
import stat
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from dal.errors import ConfigError, SessionError
from dal.store.atomic_files import (
    check_output,
    named,
    recover,
    replacing,
    synchronise,
    synchronise_folder,
    temporary_name,
)
from dal.store.run_folder import LABELS, LOCK, METRICS, ROWS, check_folder, reason_of
from dal.store.sqlite_files import BUSY_SECONDS, is_database, leave_log, reading_address

_MANIFEST = "config.yaml"
_SKIPPED = ("-wal", "-shm", "-journal")  # what they hold is in the copy of the database
_MAX_FILES, _MAX_RATIO, _SLACK = 10_000, 200, 100 << 20  # more is no backup, but an attack on the disk
_BLOCK = 1 << 20
_EPOCH = (1980, 1, 1, 0, 0, 0)


def write_backup(folder: Path, output: Path, *, force: bool = False) -> list[str]:
    """Write a consistent copy of a folder to a ZIP file, atomically, also while other processes write to the folder.

    Databases are copied as SQLite copies them, the answers before the rows: a row that is added meanwhile has no
    answer in the copy, and no answer lacks its row.

    Args:
        folder: project, or folder of a run, of a comparison or of `dal ask`.
        output: file to write, outside the folder.
        force: replace an existing file.

    Returns:
        Names of the files in the copy.

    Raises:
        ConfigError: the folder is none of these, or `output` cannot be written or exists.
        SessionError: a database is damaged, or the disk is full.
    """
    if not (folder / _MANIFEST).is_file():
        raise ConfigError(f"{named(folder)} is not a project or a run folder: it has no {_MANIFEST}")
    for name in (_MANIFEST, LABELS, ROWS):
        if (folder / name).is_symlink():
            raise ConfigError(
                f"{named(folder / name)} is a link, and a backup holds files only: put the file itself in its place"
            )
    final = check_output(output)
    if Path(os.path.realpath(folder)) in final.parents:
        raise ConfigError(f"{named(output)} is inside the folder that is copied: choose another place")
    if final.exists() and not force:
        raise ConfigError(f"{named(output)} already exists: choose another name, or replace it with --force")
    recover(final)
    partial = final.with_name(temporary_name(final.name, "new"))
    names: list[str] = []
    try:
        opened = os.open(partial, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        with open(opened, "r+b") as file, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            for path in _files(folder):
                name = path.relative_to(folder).as_posix()
                if _add(archive, path, name):
                    names.append(name)
        with zipfile.ZipFile(partial) as archive:
            broken = archive.testzip()
        if broken is not None:
            raise SessionError(f"{named(output)} could not be written: {broken} in it is damaged")
        synchronise(partial)
        partial.replace(final)
        synchronise_folder(final.parent)
    except (sqlite3.Error, OSError) as error:
        raise SessionError(f"{named(output)} could not be written: {reason_of(error)}") from error
    finally:
        partial.unlink(missing_ok=True)
    return names


def _files(folder: Path) -> Iterator[Path]:
    """Regular files of a folder to copy, those with answers first."""
    found = [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
    kept = [path for path in found if path.name != LOCK and not path.name.endswith(_SKIPPED)]
    return iter(sorted(kept, key=lambda path: (path.name != LABELS, path.as_posix())))


def _add(archive: zipfile.ZipFile, path: Path, name: str) -> bool:
    """Add a file to the archive; False if it was removed meanwhile."""
    entry = zipfile.ZipInfo(name, _EPOCH)
    entry.external_attr = (stat.S_IFREG | 0o600) << 16
    # Weights do not get smaller, and compressing them takes a minute.
    entry.compress_type = zipfile.ZIP_STORED if path.suffix == ".safetensors" else zipfile.ZIP_DEFLATED
    try:
        if not is_database(path):
            entry.file_size = path.stat().st_size
            with path.open("rb") as source, archive.open(entry, "w", force_zip64=True) as target:
                left = (
                    entry.file_size if path.name == METRICS else None
                )  # lines that are appended meanwhile are left out
                while block := source.read(_BLOCK if left is None else min(_BLOCK, left)):
                    target.write(block)
                    left = None if left is None else left - len(block)
            return True
    except FileNotFoundError:
        return False
    with tempfile.TemporaryDirectory(prefix="dal-backup-") as temporary:
        copy = Path(temporary) / "copy"
        leave_log(path)
        source_db = sqlite3.connect(reading_address(path), uri=True, timeout=BUSY_SECONDS)
        target_db = sqlite3.connect(copy)
        try:
            source_db.backup(target_db)
            fault = target_db.execute("PRAGMA quick_check(1)").fetchone()[0]
            target_db.execute("PRAGMA journal_mode = DELETE")  # one file, without a log next to it
        finally:
            target_db.close()
            source_db.close()
        if fault != "ok":
            raise SessionError(f"{named(path)} is damaged ({fault}): put a backup in its place")
        with copy.open("rb") as source, archive.open(entry, "w", force_zip64=True) as target:
            shutil.copyfileobj(source, target, _BLOCK)
    return True


def restore_backup(file: Path, folder: Path) -> list[str]:
    """Unpack a backup into a new folder, after a check of all its names and sizes.

    Args:
        file: ZIP file that `write_backup` has written, perhaps one from somebody else.
        folder: folder to create, which is empty or does not exist.

    Returns:
        Names of the files.

    Raises:
        ConfigError: the file is no backup, or has absolute names, names outside the folder, links, or more data than
            it may hold. Nothing is written.
        SessionError: the file is damaged, or the disk is full. Nothing is left.
    """
    check_folder(folder)
    if folder.exists() and any(folder.iterdir()):
        raise ConfigError(f"{named(folder)} is not empty: choose a new folder")
    try:
        with zipfile.ZipFile(file) as archive:
            entries = archive.infolist()
            _check_entries(file, entries)
            with replacing(folder) as new:
                for entry in entries:
                    _unpack(archive, entry, new)
    except zipfile.BadZipFile as error:
        raise ConfigError(f"{named(file)} is not a backup: {error}") from error
    except NotImplementedError as error:
        raise ConfigError(f"{named(file)} is not a backup of dal: {error}") from error
    except (OSError, RuntimeError) as error:  # RuntimeError: it is encrypted
        raise SessionError(f"{named(file)} could not be unpacked: {reason_of(error)}") from error
    return [entry.filename for entry in entries]


def _check_entries(file: Path, entries: list[zipfile.ZipInfo]) -> None:
    """Check names, kinds and sizes of the entries of an archive.

    Raises:
        ConfigError: an entry is one that a backup does not have.
    """

    def refuse(reason: str) -> ConfigError:
        return ConfigError(f"{named(file)} was not unpacked: {reason}")

    if len(entries) > _MAX_FILES:
        raise refuse(f"it holds {len(entries)} files, which no backup does")
    seen: set[str] = set()
    for entry in entries:
        name = entry.orig_filename
        shown = repr(name[:100])
        path = PurePosixPath(name)
        if not name or "\\" in name or ":" in name or "\0" in name or path.is_absolute() or ".." in path.parts:
            raise refuse(f"the name {shown} leads outside the folder")
        mode = entry.external_attr >> 16
        if entry.is_dir() or (stat.S_IFMT(mode) not in (0, stat.S_IFREG)):
            raise refuse(f"{shown} is a link or a folder, not a file")
        if name.casefold() in seen or any(str(parent).casefold() in seen for parent in path.parents):
            raise refuse(f"the name {shown} occurs twice")
        seen.add(name.casefold())
        if entry.flag_bits & 1:
            raise refuse("it is encrypted")
    if _MANIFEST not in seen:
        raise refuse(f"it holds no {_MANIFEST}, so it is not a backup of dal")
    size, packed = sum(entry.file_size for entry in entries), sum(entry.compress_size for entry in entries)
    if packed > file.stat().st_size:
        raise refuse("its entries overlap, which those of no backup do")
    if size > _MAX_RATIO * packed + _SLACK:
        raise refuse(f"{packed} bytes would become {size}, which no backup does")


def _unpack(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, folder: Path) -> None:
    """Write one entry to the folder, at most as many bytes as it declares."""
    path = folder / entry.filename
    path.parent.mkdir(parents=True, exist_ok=True)
    left = entry.file_size
    with (
        archive.open(entry) as source,
        open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as target,
    ):
        while block := source.read(_BLOCK):
            left -= len(block)
            if left < 0:
                raise zipfile.BadZipFile(f"{entry.filename!r} is larger than it says")
            target.write(block)
