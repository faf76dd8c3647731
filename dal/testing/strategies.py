"""Conformance checks for strategies: one function per requirement."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from dal.errors import NeedError, SelectionError
from dal.strategy import Query, RoundState, ScoreStrategy, Selection, Strategy, all_needs, choose, name_of
from dal.testing.allocation import AllocationWatch, TooLarge
from dal.testing.conformance_report import Check, CheckFailure, CheckSkipped, Report, Result, error_summary, run_checks
from dal.testing.real_loop import check_loop, check_not_file_order, small_task
from dal.testing.shard_checks import check_shards
from dal.testing.synthetic import KNOWN, Extra, Setting, permuted, tensors
from dal.testing.values import (
    check_names,
    check_plain,
    check_untouched,
    check_value,
    construct,
    drawn_from,
    global_randomness,
    state_of,
)

NEEDS = ("needs", "labeled_needs", "target_needs")
PLAIN = (*NEEDS, "multilabel", "rowwise", "exact_on_shards", "paper", "advice")
LABELS_SEEN = (0, 1, 10, 100, 1_000, 10_000, 1_000_000)


@dataclass(frozen=True)
class Bench:
    """Environment of the checks: device, rows of the memory check, and generators of names that dal does not know."""

    device: str = "cpu"
    rows: int = 20_000
    extra: Extra = field(default_factory=dict)

    def setting(self, **changes: Any) -> Setting:
        """Return a synthetic pool on this device."""
        return replace(Setting(device=self.device, extra=self.extra), **changes)

    def choices(self, strategy: Strategy, setting: Setting) -> "Choices":
        """Return the selections of a strategy in a setting."""
        return Choices(strategy, setting)


@dataclass(frozen=True)
class Choices:
    """Selections of one strategy in one setting."""

    strategy: Strategy
    setting: Setting

    def query(self, seed: int = 1) -> Query:
        """Return a new query with the same tensors in each call, and a generator seeded by `seed`."""
        return self.setting.query(self.strategy, seed)

    def choose(self, seed: int = 1) -> Selection:
        """Return the selection for a new query; errors mention the setting."""
        return chosen(self.strategy, self.query(seed), str(self.setting))


def chosen(strategy: Strategy, query: Query, where: str) -> Selection:
    """Return the validated selection of a strategy, or raise a `CheckFailure` that names the setting."""
    try:
        return choose(strategy, query)
    except (NeedError, SelectionError) as error:
        raise CheckFailure(f"{error} ({where})") from error
    except Exception as error:
        raise CheckFailure(f"{error_summary(error)} ({where})") from error


def acting(strategy: Strategy, state: RoundState | None = None) -> list[Strategy]:
    """Strategies that act for a strategy: itself, or for a schedule all that it resolves to as labels increase."""
    states = [
        RoundState(
            round=round,
            labels=labels,
            per_class=tuple((labels + code) // 4 for code in range(4)),
            budget=LABELS_SEEN[-1] - labels,
            metrics=({"accuracy": 0.5},) * round,
        )
        for round, labels in enumerate(LABELS_SEEN)
    ]
    resolved: list[Strategy] = []
    for each in [state] if state else states:
        acting_one = strategy.resolve(each)
        if not isinstance(acting_one, Strategy):
            raise CheckFailure(f"{name_of(strategy)}.resolve returned {type(acting_one).__name__}, expected a Strategy")
        if all(acting_one is not other and acting_one != other for other in resolved):
            resolved.append(acting_one)
    return resolved


def check_declaration(strategy: Strategy, bench: Bench) -> None:
    """Needs are sets of names in plain, unannotated attributes, and every name is available."""
    if not isinstance(strategy, Strategy):
        raise CheckFailure(
            f"{type(strategy).__name__} is not a dal.strategy.Strategy: derive from Strategy or ScoreStrategy"
        )
    check_plain(strategy, PLAIN)
    check_names(strategy, NEEDS)
    for flag in ("multilabel", "rowwise", "exact_on_shards"):
        if not isinstance(getattr(strategy, flag), bool):
            raise CheckFailure(f"{name_of(strategy)}.{flag} must be True or False, not {getattr(strategy, flag)!r}")
    unknown = sorted(all_needs(strategy) - KNOWN - frozenset(bench.extra))
    if unknown:
        listing = ", ".join(sorted(KNOWN))
        raise CheckFailure(
            f"unknown outputs {', '.join(map(repr, unknown))}: pass extra={{{unknown[0]!r}: function of (rows, "
            f"generator)}} if your learner provides them; dal itself knows {listing}"
        )


def check_resolve(strategy: Strategy, bench: Bench) -> str:
    """A schedule resolves deterministically, to strategies whose needs it declares itself."""
    first, again = acting(strategy), acting(strategy)
    if first != again:
        raise CheckFailure(f"{name_of(strategy)}.resolve gives different strategies for the same round")
    for part in first:
        check_declaration(part, bench)
        for needs in NEEDS:
            missing = frozenset(getattr(part, needs)) - frozenset(getattr(strategy, needs))
            if missing:
                raise CheckFailure(f"{name_of(strategy)}.{needs} lacks {sorted(missing)}, which {name_of(part)} reads")
    return "" if first == [strategy] else "acts as " + ", then ".join(map(name_of, first))


def check_values(strategy: Strategy, bench: Bench) -> None:
    """A frozen dataclass, equal by value and hashable, whose repr shows its options, unchanged by `select`."""
    check_value(strategy)
    before = state_of(strategy)
    for part in acting(strategy):
        inner = state_of(part)
        bench.choices(part, bench.setting()).choose()
        if state_of(part) != inner:
            raise CheckFailure(f"select modified {name_of(part)}: keep no state between calls")
    if state_of(strategy) != before:
        raise CheckFailure(f"select modified {name_of(strategy)}: keep no state between calls")


def check_choice(strategy: Strategy, bench: Bench, **setting: Any) -> None:
    """The selection consists of n distinct int64 positions of the pool, in one setting."""
    bench.choices(strategy, bench.setting(**setting)).choose()


def check_reads(strategy: Strategy, bench: Bench) -> None:
    """Only declared names are read, with and without labeled rows, with few and many classes and rows."""
    settings: list[dict[str, Any]] = [{"labeled": labeled} for labeled in (0, 1, 12)]
    settings += [{"n": 1}, {"rows": 20, "n": 20}, {"rows": 1, "n": 1}, {"classes": 2}, {"classes": 150}]
    settings += [{"multilabel": True}] if strategy.multilabel else []
    for setting in settings:
        try:
            choose(strategy, bench.setting(**setting).query(strategy))
        except NeedError as error:
            raise CheckFailure(str(error)) from error
        except Exception:
            continue  # reported by the other checks


def check_same_seed(strategy: Strategy, bench: Bench) -> None:
    """The same query gives the same positions and scores twice, with another query in between."""
    choices = bench.choices(strategy, bench.setting())
    first = choices.choose()
    bench.choices(strategy, bench.setting(seed=5, rows=30)).choose(seed=9)
    again = choices.choose()
    if not torch.equal(first.positions, again.positions):
        raise CheckFailure("the same query and seed gave two different selections: draw from query.generator only")
    one, other = first.scores, again.scores
    same = one is other if one is None or other is None else torch.equal(one, other)
    if not same:
        raise CheckFailure("the same query and seed gave the same rows with different scores")


def check_global_randomness(strategy: Strategy, bench: Bench) -> None:
    """Global random generators are not used."""
    picks = []
    for seed in (3, 4):
        choices = bench.choices(strategy, bench.setting())
        query = choices.query()
        with global_randomness(seed):
            before = drawn_from()
            picks.append(chosen(strategy, query, str(choices.setting)).positions)
            check_untouched(before, "select")
    if not torch.equal(*picks):
        raise CheckFailure("the selection depends on the global random state: use query.generator or query.rand")


def check_inputs_kept(strategy: Strategy, bench: Bench) -> None:
    """The tensors of the query are not modified."""
    query = bench.setting().query(strategy)
    inputs = {
        **{f"pool[{name!r}]": tensor for name, tensor in tensors(query.pool).items()},
        **{f"labeled[{name!r}]": tensor for name, tensor in tensors(query.labeled).items()},
        **{f"target[{name!r}]": tensor for name, tensor in tensors(query.target).items()},
        "labels": query.labels,
    }
    before = {name: tensor.clone() for name, tensor in inputs.items()}
    chosen(strategy, query, str(bench.setting()))
    written = [name for name, tensor in inputs.items() if not torch.equal(tensor, before[name])]
    if written:
        raise CheckFailure(f"select modified query.{written[0]}: work on a copy, and avoid in-place tensor methods")


def check_permutation(strategy: Strategy, bench: Bench) -> str:
    """Reordering the rows does not change which rows are selected, unless the selection depends on the generator."""
    query = bench.setting().query(strategy)
    order = torch.randperm(len(query.pool), generator=torch.Generator().manual_seed(11))
    shuffled = _in_order(query, order)
    if isinstance(strategy, ScoreStrategy) and _scores_follow(strategy, query, shuffled, order):
        return "by its scores"
    picks = [set(bench.choices(strategy, bench.setting()).choose(seed).positions.tolist()) for seed in (1, 2, 3)]
    if any(pick != picks[0] for pick in picks):
        raise CheckSkipped("its choice depends on the generator")
    mapped = set(order[chosen(strategy, shuffled, "rows in another order").positions.cpu()].tolist())
    if mapped != picks[0]:
        raise CheckFailure(
            f"the same rows in another order gave another selection ({len(mapped & picks[0])} of {query.n} in common): "
            "the selection must not depend on the order of the pool"
        )
    return ""


def _scores_follow(strategy: ScoreStrategy, query: Query, shuffled: Query, order: Tensor) -> bool:
    """Whether scores move with their rows; False if they depend on the generator, `CheckFailure` otherwise."""
    plain, other = (strategy.score(_seeded(query, seed)) for seed in (1, 2))
    if not _close(plain, other):
        return False
    if not _close(strategy.score(_seeded(shuffled, 1)), plain[order.to(plain.device)]):
        raise CheckFailure(
            "the same rows in another order got other scores: they must not depend on the order of the pool"
        )
    return True


def check_rowwise(strategy: Strategy, bench: Bench) -> None:
    """A `rowwise` strategy gives a row the same score among any other rows."""
    if not strategy.rowwise:
        raise CheckSkipped("does not claim rowwise")
    if not isinstance(strategy, ScoreStrategy):
        raise CheckFailure("rowwise = True needs a score for every row: derive from ScoreStrategy")
    query = bench.setting().query(strategy)
    some = torch.arange(0, len(query.pool), 3)
    whole = strategy.score(_seeded(query, 1))
    part = strategy.score(_seeded(replace(query, pool=permuted(query.pool, some), n=1), 1))
    if not _close(part, whole[some.to(whole.device)]):
        raise CheckFailure("rowwise is True, but the score of a row depends on the other rows")


def check_finite(strategy: Strategy, bench: Bench) -> None:
    """Scores and notes are finite, also for a model that is certain of every row and for rows of zeros."""
    for changes in ({}, {"scale": 1e3}, {"empty": 5}, {"scale": 1e-6}):
        setting = bench.setting(**changes)
        selection = bench.choices(strategy, setting).choose()
        sure = f" ({setting}, features and logits times {setting.scale:g}, {setting.empty} rows of zeros)"
        if selection.scores is not None and not torch.isfinite(selection.scores).all():
            raise CheckFailure("a score is NaN or infinite" + sure)
        for name, value in selection.notes.items():
            if not isinstance(value, (int, float)) or not abs(value) < float("inf"):
                raise CheckFailure(f"the note {name!r} is {value!r}, expected a finite number" + sure)


def check_multilabel(strategy: Strategy, bench: Bench) -> str:
    """Multi-label outputs work if the strategy claims to support them, and are refused otherwise."""
    if not strategy.multilabel:
        try:
            choose(strategy, bench.setting(multilabel=True).query(strategy))
        except NeedError:
            return "refused, as declared"
        raise CheckFailure("multilabel is False, but accepts multi-label outputs")
    for changes in ({}, {"classes": 2}, {"classes": 150}, {"labeled": 0}, {"rows": 1, "n": 1}, {"scale": 1e3}):
        setting = bench.setting(multilabel=True, **changes)
        selection = bench.choices(strategy, setting).choose()
        if selection.scores is not None and not torch.isfinite(selection.scores).all():
            raise CheckFailure(f"a score is NaN or infinite ({setting})")
    return ""


def check_memory(strategy: Strategy, bench: Bench) -> str:
    """No allocation grows like N x N or N x (C*D) with the number of rows N.

    With N = 20,000, C = 20 and D = 128, no tensor may be larger than a third of the smaller of N*N and N*C*D
    float32 numbers (65 MiB); nor may what Python and NumPy hold at their peak.
    """
    rows, classes, features = bench.rows, 20, 128
    setting = bench.setting(rows=rows, labeled=64, n=20, target=64, classes=classes, features=features, samples=10)
    limit = min(rows * rows, rows * classes * features) * 4 // 3
    query = setting.query(strategy)
    watch = AllocationWatch(limit)
    shown = f"N x N or N x (C*D) must never be held; at most {limit / 2**20:.0f} MiB at N = {rows}"
    try:
        with watch:
            choose(strategy, query)
    except TooLarge as error:
        raise CheckFailure(f"{error}: {shown}") from error
    if watch.python_peak > limit:
        raise CheckFailure(f"Python and NumPy held {watch.python_peak / 2**20:.0f} MiB: {shown}")
    return f"N = {rows}, no allocation above {limit / 2**20:.0f} MiB"


def check_strategy_loop(strategy: Strategy, bench: Bench) -> None:
    """A real session repeats the choices after it is opened again, and they are not the rows in file order."""
    if bench.device != "cpu":
        raise CheckSkipped("runs on the CPU only")
    asked = check_loop(strategy)
    check_not_file_order(asked, list(small_task().pool.ids))


def _in_order(query: Query, order: Tensor) -> Query:
    back = torch.arange(len(query.labeled) - 1, -1, -1)
    return replace(
        query,
        pool=permuted(query.pool, order),
        labeled=permuted(query.labeled, back),
        labels=query.labels[back.to(query.labels.device)],
    )


def _seeded(query: Query, seed: int) -> Query:
    return replace(query, generator=torch.Generator().manual_seed(seed))


def _close(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and torch.allclose(one.double(), other.double(), rtol=1e-4, atol=1e-5)


def each_acting(check: Callable[..., str | None]) -> Check:
    """Apply a check to every strategy that acts for the given one."""

    def checked(strategy: Strategy, bench: Bench) -> str | None:
        skipped, messages = [], []
        for part in acting(strategy):
            alias = "" if part is strategy or part == strategy else f"as {name_of(part)}: "
            try:
                message = check(part, bench)
            except CheckSkipped as reason:
                skipped.append(f"{alias}{reason}")
                continue
            except CheckFailure as failure:
                raise CheckFailure(f"{alias}{failure}") from failure
            messages.append(f"{alias}{message}" if message else "")
        if not messages:
            raise CheckSkipped("; ".join(skipped))
        return "; ".join(filter(None, [*messages, *skipped]))

    return checked


def _case(**setting: Any) -> Check:
    return each_acting(partial(check_choice, **setting))


#: Name -> check, in order of execution. Those of `_FIRST` must pass before the others run.
STRATEGY_CHECKS: Mapping[str, Check] = {
    "declaration": check_declaration,
    "resolve": check_resolve,
    "undeclared reads": each_acting(check_reads),
    "an ordinary pool": _case(),
    "n = 1": _case(n=1),
    "n = N": _case(rows=20, n=20),
    "N = 1": _case(rows=1, n=1),
    "two classes": _case(classes=2),
    "150 classes": _case(classes=150),
    "one labeled": _case(labeled=1),
    "nothing labeled": _case(labeled=0),
    "all rows equal": _case(rows=20, n=13, distinct=1),
    "many duplicates": _case(rows=60, n=30, distinct=5),
    "same seed, same choice": each_acting(check_same_seed),
    "global randomness": each_acting(check_global_randomness),
    "inputs not written to": each_acting(check_inputs_kept),
    "order of rows": each_acting(check_permutation),
    "rowwise": each_acting(check_rowwise),
    "shards": each_acting(check_shards),
    "finite scores": each_acting(check_finite),
    "multi-label": each_acting(check_multilabel),
    "memory": each_acting(check_memory),
    "real loop": check_strategy_loop,
    "value": check_values,
}

#: Checks without which the others say nothing, or say the same again.
_FIRST = ("declaration", "resolve", "undeclared reads")


def strategy_report(
    strategy: Strategy | type[Strategy],
    *,
    extra: Extra | None = None,
    rows: int = 20_000,
    cuda: bool | None = None,
) -> Report:
    """Run all checks on a strategy and return the report. Failed checks do not raise.

    Args:
        strategy: instance, or class that can be created without arguments. A schedule such as `Phases` is checked as
            each of the strategies that it resolves to.
        extra: generators of names that dal does not know: name -> function of (rows, generator) -> tensor (rows, ...).
        rows: number of rows in the memory check.
        cuda: whether to run the checks on CUDA as well; `None` for whether it is available.

    Example:
        >>> from dal.testing import strategy_report
        >>> print(strategy_report(MyStrategy()))  # doctest: +SKIP
    """
    subject = strategy.__name__ if inspect.isclass(strategy) else repr(strategy)
    try:
        made = construct(strategy)
    except CheckFailure as failure:
        return Report(subject, (Result("declaration", "failed", str(failure)),))
    bench = Bench(rows=rows, extra=extra or {})
    on_cpu = run_checks(subject, STRATEGY_CHECKS, made, bench, first=_FIRST)
    if any(on_cpu[name].verdict == "failed" for name in _FIRST):
        return on_cpu
    results = on_cpu.results
    if cuda is False or not (cuda or torch.cuda.is_available()):
        return Report(
            subject, (*results, Result("cuda", "skipped", "not requested" if cuda is False else "no CUDA device here"))
        )
    rest = {name: check for name, check in STRATEGY_CHECKS.items() if name not in _FIRST}
    on_device = run_checks(subject, rest, made, replace(bench, device="cuda")).results
    return Report(subject, results + tuple(replace(result, name=f"{result.name} (cuda)") for result in on_device))


def check_strategy(
    strategy: Strategy | type[Strategy],
    *,
    extra: Extra | None = None,
    rows: int = 20_000,
    cuda: bool | None = None,
) -> Report:
    """Run `strategy_report` and raise if a check failed.

    Raises:
        ConformanceError: a check failed; the message lists the failures, `error.report` holds all results.

    Example:
        >>> from dal.testing import check_strategy
        >>> check_strategy(MyStrategy(weight=2.0))  # doctest: +SKIP
    """
    return strategy_report(strategy, extra=extra, rows=rows, cuda=cuda).require()
