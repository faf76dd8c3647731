"""Section on the sources of answers: counts and costs, the audit of models, and a comparison with people alone."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from dal.evaluation import Curve
from dal.evaluation.cost import LLM, WEAK
from dal.evaluation.labeler_audit import Audit, Share, audits, in_audit_sample
from dal.oracles.model_answers import model_answers
from dal.report.measures import MONEY, figure_of, metric_name, number
from dal.report.page_parts import Details, Part, Plot, PlotRow, Section, Statement, Table, TableColumn
from dal.report.plots.curve_plot import curves
from dal.report.price import dollars, people_price
from dal.report.run_reading import Record, Run, class_name, options, sources_of
from dal.report.sections import unread
from dal.report.series import Series, of_run
from dal.report.wording import listed, share
from dal.store.proposals import Proposal


def section(run: Run, shown: str | None) -> Section | None:
    """Answers and dollars of each source by strategy, the audit of a Router, and the cost of people alone."""
    by_strategy = {name: _sources(run, name) for name in run.strategies}
    by_strategy = {name: sources for name, sources in by_strategy.items() if sources}
    if not by_strategy:
        return None
    parts = [Statement(_words(by_strategy), "lead"), _table(by_strategy), *unread.parts(run), *_audit(run)]
    parts += _people_alone(run, shown, by_strategy)
    return Section("answered", "Who answered", "Who answered", tuple(parts))


# -- the sources -----------------------------------------------------------------------------------------------------

Sources = Mapping[str, dict[str, float | None]]


def _sources(run: Run, name: str) -> Sources:
    """Final totals of each source, averaged over the seeds of a strategy; missing sources count as 0."""
    lasts = [totals for cell in run.of(name) if (totals := sources_of(cell))]
    names = dict.fromkeys(source for totals in lasts for source in totals)
    keys = ("answers", "proposals", "dollars", "seconds")
    return {source: {key: _mean([totals.get(source) for totals in lasts], key) for key in keys} for source in names}


def _mean(totals: Sequence[Record | None], key: str) -> float | None:
    """Mean over the seeds; None where no seed has a value."""
    known = [value for each in totals if each is not None and (value := figure_of(each, key)) is not None]
    return sum(known) / len(totals) if known else None


def _answers(sources: Sources, names: Iterable[str]) -> float:
    return sum(sources[name]["answers"] or 0.0 for name in names if name in sources)


def _words(by_strategy: Mapping[str, Sources]) -> str:
    """Who gave the answers: one sentence for each strategy, or a single one if all are alike."""
    kinds = {name for sources in by_strategy.values() for name, totals in sources.items() if totals["answers"]}
    if kinds == {"simulated"}:
        return "All answers were simulated from the labels in the data; they count as people’s."
    if kinds and not kinds & {LLM}:
        return f"All answers came from people ({listed(sorted(kinds))})."
    sentences = []
    for name, sources in by_strategy.items():
        people = _answers(sources, [source for source in sources if source not in (LLM, WEAK)])
        total = _answers(sources, sources)
        if total:
            sentences.append(f"{name} sent {people:,.0f} of {total:,.0f} answers ({share(people / total)}) to people.")
    simulated = " Simulated answers count as people’s." if "simulated" in kinds else ""
    return " ".join(sentences) + simulated


def _table(by_strategy: Mapping[str, Sources]) -> Table:
    every = [totals for sources in by_strategy.values() for totals in sources.values()]
    proposed = any(totals["proposals"] for totals in every)
    known = {key for totals in every for key in totals if totals[key] is not None}
    columns = (
        TableColumn("strategy", "Strategy", "text"),
        TableColumn("source", "Source", "text"),
        TableColumn("answers", "Answers", "whole"),
        TableColumn("share", "Share", "share"),
        *((TableColumn("proposals", "Proposed", "whole"),) if proposed else ()),
        *((TableColumn("dollars", "Dollars", "money"),) if "dollars" in known else ()),
        *((TableColumn("seconds", "Seconds", "whole"),) if "seconds" in known else ()),
    )
    rows: list[tuple[object, ...]] = []
    for name, sources in by_strategy.items():
        total = _answers(sources, sources)
        for source, totals in sources.items():
            figures = totals | {"share": (totals["answers"] or 0.0) / total if total else None}
            rows.append((name, source, *(figures[column.key] for column in columns[2:])))
    caption = (
        "One run of each strategy, mean over its seeds. Answers are the current ones; dollars and seconds count all."
    )
    if proposed:
        caption += " Proposals, such as weak labels or a model’s answer next to a person’s, do not count as answers."
    return Table("sources", "Answers by source", columns, rows, caption)


# -- the audit -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Rules:
    """Audit options of a router in the config."""

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
    """Error rates of each model by strategy, on the rows drawn at random for people."""
    rules = _Rules.of(run)
    proposals = {
        name: [p for cell in run.of(name) for p in cell.proposals if p.source != WEAK] for name in run.strategies
    }
    if rules is None or not any(proposals.values()):
        return []
    if any(not isinstance(proposal.value, str) for each in proposals.values() for proposal in each):
        return [Statement("Answers of several classes are not audited.")]
    results = [(name, audit) for name in run.strategies for audit in _audits(run, name, proposals[name], rules)]
    if not any(audit.error.trials for _, audit in results):
        return [Statement("No row was audited: set audit of the Router above 0 to measure the error of its models.")]
    return [_audit_table(results, rules), _by_class(results)]


def _audits(run: Run, name: str, proposals: Sequence[Proposal], rules: _Rules) -> list[Audit]:
    """Audits over all seeds of a strategy, each row once: whether a row is audited depends on the row alone."""
    person = {
        row: label
        for cell in run.of(name)
        for row, label in cell.given.items()
        if label is not None and cell.by.get(row) not in (None, LLM)
    }
    audited = {row for row in person if in_audit_sample(row, rules.audit, rules.seed)}
    classes = sorted({*person.values(), *(str(proposal.value) for proposal in proposals)})
    unreadable = [each for cell in run.of(name) for each in cell.unread if each.source != WEAK]
    return audits(model_answers(proposals, unreadable), person, audited, classes, rules.threshold)


def _audit_table(results: Sequence[tuple[str, Audit]], rules: _Rules) -> Table:
    sure = f"confident ({share(rules.threshold)})"
    columns = (
        TableColumn("strategy", "Strategy", "text"),
        TableColumn("machine", "Model", "text"),
        TableColumn("answered", "Rows", "whole"),
        TableColumn("audited", "Audited", "whole"),
        *_columns("wrong", "Wrong"),
        TableColumn("sure", f"Audited and {sure}", "whole"),
        *_columns("sure_wrong", "Wrong of these"),
        TableColumn("dollars", "Dollars", "money"),
    )
    rows = [
        (name, a.who, a.answered, a.error.trials, *_ends(a.error), a.sure.trials, *_ends(a.sure), a.dollars)
        for name, a in results
    ]
    caption = (
        "Error rate of each model on the rows drawn at random for people, over all seeds, each row once; exact 95 % "
        "intervals (Clopper and Pearson)."
    )
    return Table("audit", "Audit of each model", columns, rows, caption)


def _by_class(results: Sequence[tuple[str, Audit]]) -> Details:
    columns = (
        TableColumn("strategy", "Strategy", "text"),
        TableColumn("machine", "Model", "text"),
        TableColumn("class", "Class", "text"),
        TableColumn("audited", "Audited", "whole"),
        *_columns("wrong", "Wrong"),
    )
    rows = [(name, a.who, label, s.trials, *_ends(s)) for name, a in results for label, s in a.per_class.items()]
    return Details("By class", (Table("audit-classes", "The audit by class", columns, rows, "By people’s answer."),))


def _columns(key: str, head: str) -> tuple[TableColumn, ...]:
    ends = (TableColumn(f"{key}_low", "from", "share"), TableColumn(f"{key}_high", "to", "share"))
    return (TableColumn(key, head, "share"), *ends)


def _ends(rate: Share) -> tuple[float | None, float | None, float | None]:
    return (rate.share, rate.low, rate.high) if rate.trials else (None, None, None)


# -- people alone ----------------------------------------------------------------------------------------------------


def _people_alone(run: Run, shown: str | None, by_strategy: Mapping[str, Sources]) -> list[Part]:
    """Where a model answered: curves over money compared with the cost of people answering everything."""
    price = people_price(run)
    if not price or not any(LLM in sources or WEAK in sources for sources in by_strategy.values()):
        return []
    columns = (
        TableColumn("strategy", "Strategy", "text"),
        TableColumn("answers", "Answers", "whole"),
        TableColumn("dollars", "Dollars", "money"),
        TableColumn("people", "People alone", "money"),
        TableColumn("share", "Share of that", "share"),
    )
    rows: list[tuple[object, ...]] = []
    for name, sources in by_strategy.items():
        answers, alone = _answers(sources, sources), price * _answers(sources, sources)
        spent = sum(totals["dollars"] or 0.0 for totals in sources.values())
        rows.append((name, answers, spent, alone, spent / alone if alone else None))
    caption = f"Actual cost, and the cost of as many answers of people alone at {dollars(price)} each."
    plots = [] if shown is None else [_plot(run, name, shown, price) for name in by_strategy]
    pictures = tuple(plot for plot in plots if plot is not None)
    note = (
        "“People alone” shows the same scores at people’s price for every answer; what the scores would be with "
        "people’s answers instead of the model’s is not known."
    )
    table = Table("people-alone", "Against people alone", columns, rows, caption)
    return [table, *((PlotRow(pictures), Statement(note)) if pictures else ())]


def _plot(run: Run, name: str, metric: str, price: float) -> Plot | None:
    own = next((s for s in of_run(run, metric, "money") if s.name == name), None)
    alone = Series("people alone", tuple(_priced(run, name, metric, price)), None)
    if own is None or not any(len(c) for c in alone.curves):
        return None
    words = f"{metric_name(metric)}, {name}"
    color = len(run.challengers) if own.color is None else own.color  # grey is for people alone
    both = [Series(name, own.curves, color), alone]
    return Plot(f"people-alone-{name}", curves(both, words, axis=MONEY, width=456, height=300), None)


def _priced(run: Run, name: str, metric: str, price: float) -> Iterable[Curve]:
    """Curves of the seeds over the cost of people alone; labels that came with the data cost nothing."""
    for cell in run.of(name):
        answers = sum(figure_of(totals, "answers") or 0.0 for totals in sources_of(cell).values())
        given = (figure_of(cell.last, "labels") or 0.0) - answers
        curve = cell.curve(metric)
        yield Curve(tuple(price * max(0.0, x - given) for x in curve.labels), curve.scores)
