"""`dal audit`: error rates and costs of a router's models."""

from dataclasses import dataclass
from pathlib import Path

from dal.commands.terminal import escape_controls
from dal.errors import ConfigError
from dal.evaluation.cost import LLM, WEAK
from dal.evaluation.labeler_audit import Audit, Share, audits, merged
from dal.experiments.stored_experiments import stored_config
from dal.oracle import Oracle
from dal.oracles.model_answers import model_answers, unmerged_answers
from dal.oracles.router import Router
from dal.store.label_store import LabelStore
from dal.store.log_state import current_answers
from dal.store.run_folder import LABELS
from dal.store.spreadsheet import as_csv, write_csv


@dataclass(frozen=True)
class _Answering:
    """The part of a config that names the oracle."""

    oracle: Oracle


def report(folder: Path, merge: Path | None = None) -> int:
    """Print the audit of each model, write the consensus of all answers to `merge`, and return the exit code."""
    router = _router(folder)
    cells = _cells(folder)
    if merge is not None and len(cells) > 1:
        raise ConfigError(f"--merge takes one cell: name one of {', '.join(str(cell) for cell in cells)}")
    for cell in cells:
        with LabelStore(cell / LABELS) as store:
            lines = _report(cell, store, router)
            if merge is not None:  # before printing, since it fails where there is nothing to merge
                _write(merge, store)
                lines.append(f"merged answers: {merge}")
            print(escape_controls("\n".join(lines)))
    return 0


def _router(folder: Path) -> Router:
    """The router in the config of the folder."""
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
    """The lines to print for one cell. Weak labels, which no router asked for, are left out."""
    answers = [event for event in current_answers(store.events()).values() if event.kind == "answered"]
    current = [event.source or "person" for event in answers]
    counts = "".join(f", {current.count(name)} by {name}" for name in dict.fromkeys(current))
    lines = [f"{cell}: {len(current)} answers{counts}"]
    person = _person(store)
    drawn = {row for row in person if router.audited(row)}
    proposals = [proposal for proposal in store.proposals if proposal.source != WEAK]
    unread = [each for each in store.unread if each.source != WEAK]
    classes = sorted({*person.values(), *(str(p.value) for p in proposals)})
    for audit in audits(model_answers(proposals, unread), person, drawn, classes, router.threshold):
        lines += _audit_lines(audit, router)
    return lines


def _person(store: LabelStore) -> dict[str, str]:
    """The current answers that were not given by a model, by row id.

    Raises:
        ConfigError: the answers are multi-label.
    """
    answers = {}
    for row, event in current_answers(store.events()).items():
        if isinstance(event.value, tuple):
            raise ConfigError("an audit needs answers of one class each; these are multi-label")
        if event.value is not None and event.source != LLM:
            answers[row] = event.value
    return answers


def _audit_lines(audit: Audit, router: Router) -> list[str]:
    lines = [f"  {audit.who}: answered {audit.answered} rows, for {audit.dollars:.2f} dollars"]
    if audit.unread:
        total = audit.answered + audit.unread
        lines.append(f"    {audit.unread} of {total} answers could not be read ({audit.unread / total:.0%})")
    if not audit.error.trials:
        return [*lines, "    none of them was audited: set `audit` of the Router above 0"]
    lines.append(f"    wrong on {_words(audit.error)} of the audited rows")
    if audit.sure.trials:
        lines.append(f"    wrong on {_words(audit.sure)} of those with a confidence of at least {router.threshold:.0%}")
    for name, share in sorted(audit.per_class.items(), key=lambda item: -item[1].share):
        lines.append(f"      {name}: {_words(share)}")
    return lines


def _words(share: Share) -> str:
    return f"{share.successes} of {share.trials} ({share.share:.0%}; 95 % interval {share.low:.0%} to {share.high:.0%})"


def _write(path: Path, store: LabelStore) -> None:
    """Write the most probable class and its probability for each row that a model answered."""
    person = _person(store)
    classes = sorted({*person.values(), *(str(p.value) for p in store.proposals)})
    if not classes:
        raise ConfigError(f"{store.path} holds no answer of a person or a model: there is nothing to merge")
    rows, consensus = merged(unmerged_answers(store.proposals), person, classes)
    lines: list[list[object]] = [["id", "label", "probability", "by"]]
    for row, posterior in zip(rows, consensus.posterior, strict=True):
        best = int(posterior.argmax())
        lines.append([row, classes[best], float(posterior[best]), "person" if row in person else "machines"])
    write_csv(path, as_csv(lines))
