"""`dal audit`: what the audit of a router says of its machines."""

from dataclasses import dataclass
from pathlib import Path

from dal.commands.experiment_settings import stored_config
from dal.commands.terminal import visible
from dal.errors import ConfigError
from dal.evaluation.cost import MACHINE, WEAK
from dal.evaluation.labeler_audit import Audit, Share, audits, merged
from dal.oracle import Oracle
from dal.oracles.router import Router
from dal.store.events import standing
from dal.store.label_store import LabelStore
from dal.store.run_folder import LABELS
from dal.store.spreadsheet import as_csv, write_csv


@dataclass(frozen=True)
class _Answering:
    """The part of a config that says who answers."""

    oracle: Oracle


def report(folder: Path, merge: Path | None = None) -> int:
    """The exit code; prints what is known of the machines, and writes what all answers say together to `merge`."""
    router = _router(folder)
    cells = _cells(folder)
    if merge is not None and len(cells) > 1:
        raise ConfigError(f"--merge takes one cell: name one of {', '.join(str(cell) for cell in cells)}")
    for cell in cells:
        with LabelStore(cell / LABELS) as store:
            lines = _report(cell, store, router)
            if merge is not None:  # before anything is printed, since there may be nothing to merge
                _write(merge, store)
                lines.append(f"merged answers: {merge}")
            print(visible("\n".join(lines)))
    return 0


def _router(folder: Path) -> Router:
    """The router that the config of the folder, or of the run that it belongs to, names."""
    from dal.config import settings_tree as tree
    from dal.config.build import build

    oracle = tree.read(stored_config(folder)).value.get("oracle")
    if oracle is None or oracle.value is None:
        raise ConfigError(f"the config of {folder} names no oracle; an audit needs a Router")
    answering, _ = build(_Answering, tree.Node({"oracle": oracle}))
    if not isinstance(answering.oracle, Router):
        raise ConfigError(f"the oracle of {folder} is {type(answering.oracle).__name__}; an audit needs a Router")
    return answering.oracle


def _cells(folder: Path) -> list[Path]:
    """The folder itself, or its cells."""
    if (folder / LABELS).is_file():
        return [folder]
    found = sorted(path.parent for path in folder.glob(f"*/{LABELS}"))
    if not found:
        raise ConfigError(f"{folder} holds no answers yet")
    return found


def _report(cell: Path, store: LabelStore, router: Router) -> list[str]:
    """What is known of the machines, line by line. Weak labels, which no router asked for, are left out."""
    sources = _sources(store)
    total = sum(sources.values())
    lines = [f"{cell}: {total} answers" + "".join(f", {count} by {name}" for name, count in sources.items())]
    person = _person(store)
    drawn = {row for row in person if router.audited(row)}
    said = [proposal for proposal in store.proposals if proposal.source != WEAK]
    unread = [each for each in store.unread if each.source != WEAK]
    classes = sorted({*person.values(), *(str(p.value) for p in said)})
    for audit in audits(said, person, drawn, classes, router.threshold, unread):
        lines += _said(audit, router)
    return lines


def _sources(store: LabelStore) -> dict[str, int]:
    """source -> how many answers that stand."""
    found = [event.source or "person" for event in standing(store.events()).values() if event.kind == "answered"]
    return {name: found.count(name) for name in dict.fromkeys(found)}


def _person(store: LabelStore) -> dict[str, str]:
    """row id -> the answer that stands and is not a machine's.

    Raises:
        ConfigError: the answers are multi-label.
    """
    found = {}
    for row, event in standing(store.events()).items():
        if isinstance(event.value, tuple):
            raise ConfigError("an audit reads answers of one class each; these are multi-label")
        if event.value is not None and event.source != MACHINE:
            found[row] = event.value
    return found


def _said(audit: Audit, router: Router) -> list[str]:
    lines = [f"  {audit.who}: said something of {audit.answered} rows, for {audit.dollars:.2f} dollars"]
    if audit.unread:
        total = audit.answered + audit.unread
        lines.append(f"    {audit.unread} of {total} answers could not be read ({audit.unread / total:.0%})")
    if not audit.error.of:
        return [*lines, "    none of them was audited: set `audit` of the Router above 0"]
    lines.append(f"    wrong on {_words(audit.error)} of the audited rows")
    if audit.sure.of:
        lines.append(f"    wrong on {_words(audit.sure)} of those that it was at least {router.threshold:.0%} sure of")
    for name, share in sorted(audit.per_class.items(), key=lambda item: -item[1].share):
        lines.append(f"      {name}: {_words(share)}")
    return lines


def _words(share: Share) -> str:
    return f"{share.found} of {share.of} ({share.share:.0%}; 95 % interval {share.low:.0%} to {share.high:.0%})"


def _write(path: Path, store: LabelStore) -> None:
    """A line for each row that a machine said something of: the merged class and its probability."""
    person = _person(store)
    classes = sorted({*person.values(), *(str(p.value) for p in store.proposals)})
    if not classes:
        raise ConfigError(f"{store.path} holds no answer of a person or a model: there is nothing to merge")
    rows, found = merged(store.proposals, person, classes)
    lines: list[list[object]] = [["id", "label", "probability", "by"]]
    for row, posterior in zip(rows, found.posterior, strict=True):
        best = int(posterior.argmax())
        lines.append([row, classes[best], float(posterior[best]), "person" if row in person else "machines"])
    write_csv(path, as_csv(lines))
