"""Dollar caps over cells on several nodes: a cap holds only if all cells charge the same file."""

import hashlib
import os
import platform
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dal.errors import ConfigError
from dal.experiments.config_parts import config_parts
from dal.experiments.experiment import Experiment
from dal.llm.clients.hosted import HostedClient
from dal.store.atomic_files import make_folder, named, write_whole

#: Environment variable of a worker: name and content of the mark next to each ledger.
VARIABLE = "DAL_LEDGER_MARK"


@contextmanager
def marked_ledgers(experiment: Experiment, folder: Path) -> Iterator[dict[str, str]]:
    """Put a mark next to each file that a cap is charged in, and remove it after the block.

    Args:
        experiment: settings shared by the cells.
        folder: folder of the grid.

    Yields:
        Environment variables for the workers, by which `check_ledgers` recognises the mark.
    """
    ledgers = _capped_files(experiment)
    if not ledgers:
        yield {}
        return
    place = f"{platform.node()}:{folder.absolute()}"
    name, content = hashlib.sha256(place.encode()).hexdigest()[:12], uuid.uuid4().hex
    for ledger in ledgers:
        make_folder(ledger.absolute().parent)
        write_whole(_mark(ledger, name), content, private=True)
    try:
        yield {VARIABLE: f"{name}:{content}"}
    finally:
        for ledger in ledgers:
            _mark(ledger, name).unlink(missing_ok=True)


def check_ledgers(experiment: Experiment) -> None:
    """Check in a worker that each cap is charged in the file of the process that started it.

    Raises:
        ConfigError: it is another file, as on the disk of this node.
    """
    name, _, content = os.environ.get(VARIABLE, "").partition(":")
    if not name:
        return
    for ledger in _capped_files(experiment):
        try:
            found = _mark(ledger, name).read_text(encoding="utf-8")
        except OSError:
            found = ""
        if found != content:
            raise ConfigError(
                f"the cap of a language model is charged in {named(ledger)}, and {platform.node()} has another such "
                "file than the computer that runs the comparison, so that the cap would not hold: give the client a "
                "`cache` in a folder that all nodes see"
            )


def _capped_files(experiment: Experiment) -> list[Path]:
    """The files that clients with a cap charge."""
    clients = [part for _, part in config_parts(experiment) if isinstance(part, HostedClient) and part.cap is not None]
    return list(dict.fromkeys(client.file() for client in clients))


def _mark(ledger: Path, name: str) -> Path:
    return ledger.with_name(f"{ledger.name}.{name}.shared")
