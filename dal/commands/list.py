"""`dal list`: the installed parts that a config can name."""

import shutil
import textwrap
from typing import Any

from dal.commands.terminal import Parser
from dal.objective import WORDS as OBJECTIVES

#: Metrics that every round records, as `dal.evaluation.own_metrics.BUILT_IN`, which needs torch.
METRICS = (
    "accuracy", "macro_f1", "micro_f1", "balanced_accuracy", "label_accuracy", "matthews", "auroc",
    "average_precision", "log_loss", "ece", "ace", "brier",
)  # fmt: skip


def listing(arguments: list[str]) -> int:
    """`dal list`."""
    from dal.config import plugins

    groups = {group.partition(".")[2]: group for group in (*plugins.NOUNS, plugins.METRICS)}
    about = "Lists the installed parts that a config can name."
    parser = Parser("dal list", description=about, allow_abbrev=False)
    parser.add_argument("kind", nargs="?", choices=list(groups))
    chosen = parser.parse_args(arguments).kind
    for title, group in groups.items():
        if chosen in {None, title}:
            print(title)
            if group == plugins.METRICS:
                print(f"  built in, recorded in every round: {', '.join(METRICS)}")
                print(f"  objectives: {', '.join(OBJECTIVES)}, or {{recall_of: CLASS, precision: 0.9}}\n")
            for each in plugins.describe(group):
                print(_entry(each))
    return 0


def _entry(each: Any) -> str:
    lines = [each.summary, _reads(each)]
    if not each.built_in:
        lines.append(f"from {each.distribution}: {each.path}")
    lines += [f"paper: {each.paper}"] if each.paper else []
    lines += [f"advice: {each.advice}"] if each.advice else []
    lines = [f"broken: {each.broken}"] if each.broken else [line for line in lines if line]
    width = max(60, shutil.get_terminal_size((110, 24)).columns - 1)
    body = "\n".join(textwrap.fill(line, width, initial_indent=" " * 6, subsequent_indent=" " * 8) for line in lines)
    return f"  {each.name}\n{body}\n"


def _reads(each: Any) -> str:
    from dal.config.plugins import CANDIDATES, LEARNERS, STRATEGIES, found

    if each.name in found(LEARNERS):
        provides = "depends on its options" if each.provides is None else ", ".join(sorted(each.provides))
        free = "depends on its options" if each.label_free is None else ", ".join(sorted(each.label_free)) or "nothing"
        return f"provides: {provides}; without training: {free}"
    if each.name in found(CANDIDATES):
        if each.needs is None or each.keeps is None:
            return "reads: depends on its options"
        read = f"{', '.join(sorted(each.needs))}, before any training" if each.needs else ""
        kept = f"{', '.join(sorted(each.keeps))} of the model of an earlier round" if each.keeps else ""
        return f"reads: {'; '.join(part for part in (read, kept) if part) or 'nothing'}"
    if each.name not in found(STRATEGIES):
        return ""
    sets = [("", each.needs), ("labeled ", each.labeled_needs), ("target ", each.target_needs)]
    if any(names is None for _, names in sets):
        return "reads: depends on its options"
    names = [f"{of}{name}" for of, group in sets for name in sorted(group)]
    multilabel = {True: "; multi-label too", None: "; multi-label depends on its options"}.get(each.multilabel, "")
    return f"reads: {', '.join(names) or 'nothing'}{multilabel}"
