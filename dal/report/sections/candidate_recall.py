"""Section on the candidates: the passes and rows that they saved, and the share of the batches that they contain."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean

from dal.report.measures import figure_of
from dal.report.page_parts import Part, Section, Statement, Subheading, Table, TableColumn
from dal.report.run_reading import Record, Run, options
from dal.report.sections.quality import mean as mean_of
from dal.report.series import color_name_of
from dal.report.wording import share

#: Mean recall below which the section advises more candidates, where the generator has no `min_recall`.
LEAST_RECALL = 0.9

_COLUMNS = (
    TableColumn("labels", "Labels", "whole"),
    TableColumn("candidates", "Candidates", "whole"),
    TableColumn("scored", "Rows scored", "whole"),
    TableColumn("of", "of rows", "whole"),
    TableColumn("recall", "Recall"),
)


@dataclass(frozen=True)
class _Round:
    """Figures of one round with a candidate generator.

    Attributes:
        labels: number of labels after the batch.
        count: number of candidates; None where none were drawn.
        of: number of rows that could be asked.
        scored: number of rows that a model scored to select the batch; None in records of earlier versions.
        recall: measured recall of the candidates; None where it was not measured.
    """

    labels: float | None
    count: float | None
    of: float
    scored: float | None
    recall: float | None

    @property
    def is_whole(self) -> bool:
        """Whether the batch was selected from all rows."""
        return self.scored == self.of

    @property
    def is_repeated(self) -> bool:
        """Whether a further pass over all rows measured the recall."""
        return self.recall is not None and not self.is_whole

    @property
    def all_scored(self) -> float | None:
        """Number of rows that were scored, with those of a further pass."""
        return None if self.scored is None else self.scored + self.of * self.is_repeated


def section(run: Run) -> Section | None:
    """Sentences for each strategy with candidates, and a table of its rounds by number of labels."""
    rounds = {name: [each for c in run.of(name) for r in c.records if (each := _round(r))] for name in run.strategies}
    # A strategy that reads no model, such as Random, has candidates too, but saves no pass by them.
    rounds = {name: of for name, of in rounds.items() if any(each.scored or each.recall is not None for each in of)}
    if not rounds:
        return None
    wanted = _min_recall(run)
    leads = [Statement(_sentences(name, of, wanted), "lead") for name, of in rounds.items()]
    tables: list[Part] = []
    exported: list[tuple[object, ...]] = []
    for name, of in rounds.items():
        rows = _rows(of)
        exported += [(name, *row) for row in rows]
        if len(rounds) > 1:
            tables.append(Subheading(name, color_name_of(run, name)))
        tables.append(Table("", f"Candidates of {name}", _COLUMNS, [row[:-1] for row in rows], _caption(of)))
    columns = (TableColumn("strategy", "Strategy", "text"), *_COLUMNS, TableColumn("seeds", "Seeds", "whole"))
    tables.append(Table("candidates", "Candidates of all strategies", columns, exported, hidden=True))
    return Section("candidates", "What the candidates save and leave out", "Candidates", (*leads, *tables))


def _round(record: Record) -> _Round | None:
    """The figures of a record; None without valid ones."""
    found = record.get("candidates")
    if not isinstance(found, Mapping):
        return None
    count, of, scored, recall = (figure_of(found, key) for key in ("count", "of", "scored", "recall"))
    if not of or (count is None and scored is None):
        return None
    return _Round(figure_of(record, "labels"), count, of, scored, None if count is None else recall)


def _min_recall(run: Run) -> float | None:
    """The option `min_recall` of the candidate generator in the config; None without one."""
    return figure_of(options(run.config.get("candidates")), "min_recall")


def _rows(rounds: Sequence[_Round]) -> list[tuple[object, ...]]:
    """Means over the seeds and the number of seeds, by number of labels."""
    by_labels: dict[float, list[_Round]] = {}
    for each in rounds:
        if each.labels is not None:
            by_labels.setdefault(each.labels, []).append(each)
    return [
        (
            labels,
            mean_of(each.count for each in of),
            mean_of(each.all_scored for each in of),
            mean_of(each.of for each in of),
            mean_of(each.recall for each in of),
            len(of),
        )
        for labels, of in sorted(by_labels.items())
    ]


def _caption(rounds: Sequence[_Round]) -> str:
    text = "Means over the seeds."
    if any(each.recall is not None for each in rounds):
        text += " Recall: share of the batch of the whole pool that is among the candidates."
    if any(each.is_repeated for each in rounds):
        text += " Rows scored: with those of the pass that measures it."
    return text


def _sentences(name: str, rounds: Sequence[_Round], wanted: float | None) -> str:
    """What the candidates saved and what they contained, with advice."""
    parts = [_saving(rounds)]
    for group in ([r for r in rounds if r.is_whole], [r for r in rounds if not r.is_whole]):
        measured = [each for each in group if each.recall is not None]
        if measured:
            parts.append(_contained(measured))
    recalls = [(each.recall, each.count / each.of) for each in rounds if each.recall is not None and each.count]
    if recalls:
        found, chances = (mean(values) for values in zip(*recalls, strict=True))
        parts.append(_advice(found, chances, wanted))
    elif any(each.count for each in rounds):
        parts.append("What they leave out was not measured: set recall_every.")
    text = " ".join(filter(None, parts))
    return f"{name}: {text[:1].lower()}{text[1:]}"


def _saving(rounds: Sequence[_Round]) -> str:
    """How many passes over the whole pool and how many of their rows were saved; empty where that is not recorded."""
    if any(each.scored is None for each in rounds):  # by an earlier version, which did not record whole passes
        return ""
    passes = [each for each in rounds if each.scored]
    if not passes:
        return ""
    saved = sum(not each.is_whole and not each.is_repeated for each in passes)
    rows = 1 - sum(each.all_scored or 0 for each in passes) / sum(each.of for each in passes)
    text = f"{saved:,} of {len(passes):,} passes over the whole pool {'was' if saved == 1 else 'were'} saved"
    if not saved:
        text = "No pass over the whole pool was saved"
    if rows > 0:
        text += f", {share(rows)} of the rows"
    elif rows < 0:
        text += f", and {share(-rows)} more rows were scored than without candidates"
    if measuring := sum(each.is_repeated for each in passes):
        passes_were = "one pass was" if measuring == 1 else f"{measuring:,} passes were"
        text += f"; {passes_were} made only to measure the recall"
    return f"{text}."


def _contained(measured: Sequence[_Round]) -> str:
    """The mean recall of rounds that all scored the whole pool, or all scored the candidates first."""
    where = "one round" if len(measured) == 1 else f"{len(measured)} rounds"
    chance = share(mean((each.count or 0) / each.of for each in measured))
    recall = share(mean(each.recall or 0 for each in measured))
    if measured[0].is_whole:
        return (
            f"In {where} that scored the whole pool, candidates, {chance} of the rows, would have contained {recall} "
            "of the batch."
        )
    return (
        f"In {where} the candidates, {chance} of the rows, contained {recall} of the batch that the whole pool "
        "would have given."
    )


def _advice(recall: float, chance: float, wanted: float | None) -> str:
    """What to do about a low recall; empty where it is high enough."""
    if recall >= (LEAST_RECALL if wanted is None else wanted):
        return ""
    if recall <= 1.5 * chance:
        return "Random rows would contain about as much: use another generator, or a number of random rows."
    if wanted is None:
        return "More candidates would contain more."
    return (
        f"That is less than min_recall, {share(wanted)}: more candidates would contain more, and a lower min_recall "
        "would save more passes."
    )
