"""A real active learning loop on a small task, for what a check on synthetic outputs cannot find.

Sessions with a folder ask, take the true answers, fit a linear head and are opened again, as in a run. An error that a
stub would swallow, a choice in file order and a choice that a resumed run does not repeat show up here.
"""

import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dal.errors import DalError
from dal.learner import Learner
from dal.outputs import closure
from dal.session import Session
from dal.strategy import Strategy, all_needs
from dal.testing.conformance_report import CheckFailure, CheckSkipped, error_summary

ROWS, CLASSES, LABELED, BATCH, ROUNDS = 60, 3, 12, 5, 3


def small_task(rows: int = ROWS, seed: int = 0) -> Any:
    """A `dal.data.Splits` of vectors around three centers, in random order: pool, test and validation rows.

    The first twelve rows of the pool are labeled; the labels of the others are known too, for the answers.
    """
    from dal.data import Rows, Splits

    generator = torch.Generator().manual_seed(seed)
    centers = 1.5 * torch.randn(CLASSES, 12, generator=generator)

    def part(count: int, name: str) -> Rows:
        labels = torch.randint(CLASSES, (count,), generator=generator)
        labels[:CLASSES] = torch.arange(CLASSES)  # every class has a label from the start
        inputs = centers[labels] + torch.randn(count, 12, generator=generator)
        ids = [f"{name}{row}" for row in range(count)]
        return Rows.from_inputs(inputs, labels.tolist(), ["one", "two", "three"], ids=ids)

    return Splits(pool=part(rows, "pool"), test=part(20, "test"), validation=part(20, "validation"))


def small_learner() -> Learner:
    """A linear head on the vectors themselves, with samples of its posterior: fitted in milliseconds."""
    from dal.learners.probe_learner import ProbeLearner

    return ProbeLearner(model=None, samples=8, device="cpu")


def quick_learner(rows: Any) -> Learner:
    """A learner without a pretrained model that fits a `dal.data.Rows`: of word counts for texts, else linear."""
    from dal.data import TextColumn
    from dal.learners.tfidf_learner import TfidfLearner

    return TfidfLearner() if isinstance(rows.inputs, TextColumn) else small_learner()


Watch = Callable[[Session], None]


def run_loop(open_session: Callable[[], Session], start: Tensor, *, interrupted: bool, watch: Watch) -> list[list[str]]:
    """Run three rounds with true answers and return the ids of the rows asked in each.

    Args:
        open_session: opens the session on its folder, or opens it again.
        start: (L,) int64 rows of the pool that are answered before the first round.
        interrupted: whether the session is closed and opened again after asking and after answering.
        watch: called with the session at the end of every round.
    """
    session = open_session()

    def step() -> Session:
        nonlocal session
        if interrupted:
            session.close()
            session = open_session()
        return session

    asked = []
    try:
        batch = min(BATCH, (len(session.pool) - len(start)) // ROUNDS)
        if len(start):
            session.ask_these(start, strategy="start")
            session.tell(session.pending, session.pool.labels[session.pending])
        for _ in range(ROUNDS):
            asked.append(list(session.pool.ids.take(step().ask(batch))))
            pending = step().pending
            session.tell(pending, session.pool.labels[pending])
            watch(step())
    finally:
        session.close()
    return asked


def check_loop(
    strategy: Strategy,
    learner: Learner | None = None,
    data: Any = None,
    *,
    start: Tensor | None = None,
    watch: Watch = lambda session: None,
    **options: Any,
) -> list[list[str]]:
    """Run a loop of three rounds twice, in one piece and opened again at every step, and compare the choices.

    Args:
        strategy: query strategy.
        learner: learner of the session; None for `small_learner`.
        data: a `dal.data.Splits` with known labels in its pool; None for `small_task`.
        start: (L,) int64 rows that are labeled from the start; None for the first twelve.
        watch: called with the session at the end of every round of both loops.
        options: further options of the session, such as `candidates`.

    Returns:
        Ids of the rows asked in each round.

    Raises:
        CheckSkipped: the learner does not provide what the strategy reads.
        CheckFailure: the loop raised an error, or the two loops chose other rows.
    """
    learner = small_learner() if learner is None else learner
    data = small_task() if data is None else data
    start = torch.arange(LABELED) if start is None else start
    lacking = sorted(all_needs(strategy) - closure(learner.provides))
    if lacking:
        raise CheckSkipped(f"the learner of this check does not provide {', '.join(lacking)}")
    runs = []
    for interrupted in (False, True):
        with tempfile.TemporaryDirectory() as folder:
            opened = partial(
                Session, data, learner, strategy, folder=Path(folder) / "loop", hide_labels=True, **options
            )
            try:
                runs.append(run_loop(opened, start, interrupted=interrupted, watch=watch))
            except (CheckFailure, CheckSkipped):
                raise
            except DalError as error:
                raise CheckFailure(f"in a real loop: {error}") from error
            except Exception as error:
                raise CheckFailure(f"in a real loop: {error_summary(error)}") from error
    for number, (whole, again) in enumerate(zip(*runs, strict=True), 1):
        if whole != again:
            same = len(set(whole) & set(again))
            raise CheckFailure(
                f"round {number} of a real loop: {same} of {len(whole)} rows are the same after the session was opened "
                "again: nothing but the query may decide, and no state may be kept between calls"
            )
    return runs[0]


def check_not_file_order(asked: list[list[str]], ids: list[str], labeled: int = LABELED) -> None:
    """Check that the rounds do not simply ask the rows in the order of the data."""
    flat = [row for batch in asked for row in batch]
    if flat == ids[labeled : labeled + len(flat)]:
        raise CheckFailure(
            "a real loop asked the rows in the order of the file: is an error caught inside, or are all scores equal?"
        )
