"""Who answered: people and machines, what each took, how often machines were wrong, and people alone instead."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from dal.evaluation import Curve
from dal.evaluation.cost import MACHINE, WEAK
from dal.evaluation.labeler_audit import Audit, Share, audits
from dal.oracles.router import drawn
from dal.report.measures import METRICS, MONEY, figure_of, number
from dal.report.page_parts import Fold, Part, Plot, Section, Side, Statement, Table, TableColumn
from dal.report.plots.curve_plot import curves
from dal.report.price import dollars, people_price
from dal.report.run_reading import Record, Run, class_name, options, sources_of
from dal.report.sections import unread
from dal.report.series import Series, of_run
from dal.report.verdict import listed
from dal.report.wording import share
from dal.store.proposals import Proposal


def section(run: Run, shown: str | None) -> Section | None:
    """For every strategy the answers and dollars of each source at the end; the audit of a Router; people alone."""
    told = {name: _sources(run, name) for name in run.strategies}
    told = {name: sources for name, sources in told.items() if sources}
    if not told:
        return None
    parts = [Statement(_words(told), "lead"), _table(told), *unread.parts(run), *_audit(run)]
    parts += _people_alone(run, shown, told)
    return Section("answered", "Who answered", "Who answered", tuple(parts))


# -- the sources -----------------------------------------------------------------------------------------------------

Sources = Mapping[str, dict[str, float | None]]


def _sources(run: Run, name: str) -> Sources:
    """Source -> its figures at the end, means over the seeds of a strategy; 0 where a seed has none of it."""
    lasts = [told for cell in run.of(name) if (told := sources_of(cell))]
    names = dict.fromkeys(source for told in lasts for source in told)
    keys = ("answers", "proposals", "dollars", "seconds")
    return {source: {key: _mean([told.get(source) for told in lasts], key) for key in keys} for source in names}


def _mean(said: Sequence[Record | None], key: str) -> float | None:
    """Over the seeds; None where nothing is known in any."""
    known = [value for each in said if each is not None and (value := figure_of(each, key)) is not None]
    return sum(known) / len(said) if known else None


def _answers(sources: Sources, of: Iterable[str]) -> float:
    return sum(sources[name]["answers"] or 0.0 for name in of if name in sources)


def _people(sources: Sources) -> list[str]:
    return [name for name in sources if name not in (MACHINE, WEAK)]


def _words(told: Mapping[str, Sources]) -> str:
    """Who gave the answers, in a sentence for each strategy, or in one where all are alike."""
    kinds = {name for sources in told.values() for name, said in sources.items() if said["answers"]}
    if kinds == {"simulated"}:
        return "All answers were simulated, from labels that stand in the data: they are counted as people’s."
    if kinds and not kinds & {MACHINE}:
        return f"All answers came from people ({listed(sorted(kinds))})."
    sentences = []
    for name, sources in told.items():
        people, total = _answers(sources, _people(sources)), _answers(sources, sources)
        if total:
            sentences.append(f"{name} sent {people:,.0f} of {total:,.0f} answers ({share(people / total)}) to people.")
    stand_in = " Simulated answers stand for people’s." if "simulated" in kinds else ""
    return " ".join(sentences) + stand_in


def _table(told: Mapping[str, Sources]) -> Table:
    beside = any(said["proposals"] for sources in told.values() for said in sources.values())
    known = {key for sources in told.values() for said in sources.values() for key in said if said[key] is not None}
    columns = (
        TableColumn("strategy", "Strategy", "text"),
        TableColumn("source", "Source", "text"),
        TableColumn("answers", "Answers", "whole"),
        TableColumn("share", "Share", "share"),
        *((TableColumn("proposals", "Proposed", "whole"),) if beside else ()),
        *((TableColumn("dollars", "Dollars", "money"),) if "dollars" in known else ()),
        *((TableColumn("seconds", "Seconds", "whole"),) if "seconds" in known else ()),
    )
    rows: list[tuple[object, ...]] = []
    for name, sources in told.items():
        total = _answers(sources, sources)
        for source, said in sources.items():
            figures = said | {"share": (said["answers"] or 0.0) / total if total else None}
            rows.append((name, source, *(figures[column.key] for column in columns[2:])))
    caption = (
        "One run of each strategy, mean over its seeds. Answers are those that stand; dollars and seconds count all."
    )
    if beside:
        caption += " What is proposed, such as weak labels or a machine’s word where a person’s counts, is no answer."
    return Table("sources", "Answers by source", columns, rows, caption)


# -- the audit -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Rules:
    """What a router's config says of its audit."""

    threshold: float
    audit: float
    seed: int

    @classmethod
    def of(cls, run: Run) -> "_Rules | None":
        """None where the run has no router."""
        oracle = run.config.get("oracle")
        if class_name(oracle) != "Router":
            return None
        given = options(oracle)
        threshold, audit, seed = given.get("threshold", 0.9), given.get("audit", 0.1), given.get("seed", 0)
        if not (number(threshold) and number(audit) and isinstance(seed, int)):
            return None
        return cls(float(threshold), float(audit), seed)


def _audit(run: Run) -> list[Part]:
    """What the rows that people answered at random say of each machine, by strategy."""
    rules = _Rules.of(run)
    said = {name: [p for cell in run.of(name) for p in cell.proposals if p.source != WEAK] for name in run.strategies}
    if rules is None or not any(said.values()):
        return []
    if any(not isinstance(proposal.value, str) for each in said.values() for proposal in each):
        return [Statement("Answers of several classes are not audited.")]
    found = [(name, audit) for name in run.strategies for audit in _audits(run, name, said[name], rules)]
    if not any(audit.error.of for _, audit in found):
        return [
            Statement("No row was audited: set audit of the Router above 0 to learn how often its machines are wrong.")
        ]
    return [_audit_table(found, rules), _by_class(found)]


def _audits(run: Run, name: str, said: Sequence[Proposal], rules: _Rules) -> list[Audit]:
    """Over all seeds of a strategy, each row once: whether it is audited depends on the row alone."""
    person = {
        row: label
        for cell in run.of(name)
        for row, label in cell.given.items()
        if label is not None and cell.by.get(row) not in (None, MACHINE)
    }
    lot = {row for row in person if drawn(row, rules.audit, rules.seed)}
    classes = sorted({*person.values(), *(str(proposal.value) for proposal in said)})
    lost = [each for cell in run.of(name) for each in cell.unread if each.source != WEAK]
    return audits(said, person, lot, classes, rules.threshold, lost)


def _audit_table(found: Sequence[tuple[str, Audit]], rules: _Rules) -> Table:
    sure = f"sure ({share(rules.threshold)})"
    columns = (
        TableColumn("strategy", "Strategy", "text"),
        TableColumn("machine", "Machine", "text"),
        TableColumn("answered", "Rows", "whole"),
        TableColumn("audited", "Audited", "whole"),
        *_columns("wrong", "Wrong"),
        TableColumn("sure", f"Audited and {sure}", "whole"),
        *_columns("sure_wrong", "Wrong of these"),
        TableColumn("dollars", "Dollars", "money"),
    )
    rows = [
        (name, a.who, a.answered, a.error.of, *_ends(a.error), a.sure.of, *_ends(a.sure), a.dollars)
        for name, a in found
    ]
    caption = (
        "How often each machine was wrong on the rows that people answered at random, over all seeds, each row once; "
        "exact 95 % intervals (Clopper and Pearson)."
    )
    return Table("audit", "What the audit says of each machine", columns, rows, caption)


def _by_class(found: Sequence[tuple[str, Audit]]) -> Fold:
    columns = (
        TableColumn("strategy", "Strategy", "text"),
        TableColumn("machine", "Machine", "text"),
        TableColumn("class", "Class", "text"),
        TableColumn("audited", "Audited", "whole"),
        *_columns("wrong", "Wrong"),
    )
    rows = [(name, a.who, label, s.of, *_ends(s)) for name, a in found for label, s in a.per_class.items()]
    return Fold("By class", (Table("audit-classes", "The audit by class", columns, rows, "By people’s answer."),))


def _columns(key: str, head: str) -> tuple[TableColumn, ...]:
    ends = (TableColumn(f"{key}_low", "from", "share"), TableColumn(f"{key}_high", "to", "share"))
    return (TableColumn(key, head, "share"), *ends)


def _ends(found: Share) -> tuple[float | None, float | None, float | None]:
    return (found.share, found.low, found.high) if found.of else (None, None, None)


# -- people alone ----------------------------------------------------------------------------------------------------


def _people_alone(run: Run, shown: str | None, told: Mapping[str, Sources]) -> list[Part]:
    """The curves over money next to those that people's price for every label would make, where a machine answered."""
    price = people_price(run)
    if not price or not any(MACHINE in sources or WEAK in sources for sources in told.values()):
        return []
    columns = (
        TableColumn("strategy", "Strategy", "text"),
        TableColumn("answers", "Answers", "whole"),
        TableColumn("dollars", "Dollars", "money"),
        TableColumn("people", "People alone", "money"),
        TableColumn("share", "Share of that", "share"),
    )
    rows: list[tuple[object, ...]] = []
    for name, sources in told.items():
        answers, alone = _answers(sources, sources), price * _answers(sources, sources)
        spent = sum(said["dollars"] or 0.0 for said in sources.values())
        rows.append((name, answers, spent, alone, spent / alone if alone else None))
    caption = f"What it cost, and what as many answers of people alone would have cost at {dollars(price)} each."
    plots = [] if shown is None else [_plot(run, name, shown, price) for name in told]
    drawn_ = tuple(plot for plot in plots if plot is not None)
    note = (
        "“People alone” moves the same scores to people’s price for every answer; what the scores would be with "
        "people’s answers in the place of the machine’s is not known."
    )
    table = Table("people-alone", "Against people alone", columns, rows, caption)
    return [table, *((Side(drawn_), Statement(note)) if drawn_ else ())]


def _plot(run: Run, name: str, metric: str, price: float) -> Plot | None:
    own = next((s for s in of_run(run, metric, "money") if s.name == name), None)
    alone = Series("people alone", tuple(_priced(run, name, metric, price)), None)
    if own is None or not any(len(c) for c in alone.curves):
        return None
    words = f"{METRICS[metric]}, {name}"
    color = len(run.challengers) if own.color is None else own.color  # grey is for people alone
    both = [Series(name, own.curves, color), alone]
    return Plot(f"people-alone-{name}", curves(both, words, axis=MONEY, width=456, height=300), None)


def _priced(run: Run, name: str, metric: str, price: float) -> Iterable[Curve]:
    """A curve for each seed over what people would have taken; labels that came with the data cost nothing."""
    for cell in run.of(name):
        answers = sum(figure_of(said, "answers") or 0.0 for said in sources_of(cell).values())
        given = (figure_of(cell.last, "labels") or 0.0) - answers
        curve = cell.curve(metric)
        yield Curve(tuple(price * max(0.0, x - given) for x in curve.labels), curve.scores)
