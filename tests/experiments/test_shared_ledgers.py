"""A cap in dollars over cells on several nodes: one file for all, or none of them runs."""

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from test_experiment import experiment

from dal.errors import ConfigError
from dal.experiments.experiment import Experiment
from dal.experiments.shared_ledgers import VARIABLE, check_ledgers, marked_ledgers
from dal.llm import OpenAIClient
from dal.llm.clients import replies_and_spending
from dal.llm.clients.client import Reply
from dal.llm.clients.replies_and_spending import BudgetExceeded, ReplyCache, RequestedElsewhere, Reservation
from dal.llm.llm_learner import LLMLearner
from dal.oracles.llm_oracle import LLMOracle


def capped(folder: Path, **options: Any) -> Experiment:
    """An experiment whose oracle is a language model with a cap."""
    client = OpenAIClient("gpt-4o-mini", cache=str(folder / "replies.db"), cap=1.0, **options)
    return experiment(oracle=LLMOracle(LLMLearner(client)))


@pytest.fixture
def marked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Folder of a marked ledger."""
    with marked_ledgers(capped(tmp_path), tmp_path / "grid") as variables:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        yield tmp_path


def test_worker_that_charges_the_same_file_may_run(marked: Path) -> None:
    check_ledgers(capped(marked))
    assert len(list(marked.glob("replies.db.*.shared"))) == 1


def test_worker_that_charges_a_file_of_its_own_node_is_refused_in_one_line(marked: Path, tmp_path: Path) -> None:
    other = tmp_path / "disk"
    other.mkdir()
    with pytest.raises(ConfigError, match="the cap would not hold: give the client a `cache`") as refused:
        check_ledgers(capped(other))
    assert "\n" not in str(refused.value)
    for mark in marked.glob("*.shared"):  # that of an earlier comparison in a folder of the same name
        (other / mark.name).write_text("another")
    with pytest.raises(ConfigError, match="the cap would not hold"):
        check_ledgers(capped(other))


def test_mark_is_removed_and_without_a_cap_there_is_none(tmp_path: Path) -> None:
    with marked_ledgers(capped(tmp_path), tmp_path / "grid") as variables:
        assert list(variables) == [VARIABLE]
    assert not list(tmp_path.iterdir())
    with marked_ledgers(experiment(), tmp_path / "grid") as variables:
        assert variables == {}


# -- the file of all -----------------------------------------------------------------------------------------------


def node(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Let this process run on another node."""
    monkeypatch.setattr(replies_and_spending.platform, "node", lambda: name)


def test_request_of_another_node_is_awaited_until_it_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether its process has ended cannot be seen from here: the process ids are those of that node."""
    with ReplyCache(tmp_path / "replies.db", "mine") as cache:
        node(monkeypatch, "node-1")
        monkeypatch.setattr(os, "getpid", lambda: 1 << 22)  # no process of this computer
        assert isinstance(cache.reserve("a", 0.25, 1.0, time.time() + 60), Reservation)
        assert isinstance(cache.reserve("a", 0.25, 1.0, time.time() + 60), Reservation)  # that process has ended
        node(monkeypatch, "node-2")
        assert isinstance(cache.reserve("a", 0.25, 1.0, time.time() + 60), RequestedElsewhere)
        assert isinstance(cache.reserve("b", 0.75, 1.0, time.time() + 60), BudgetExceeded)
        later = time.time() + 120.0
        monkeypatch.setattr(time, "time", lambda: later)
        assert isinstance(cache.reserve("a", 0.25, 1.0, time.time() + 60), Reservation)


def test_process_number_fits_the_file_and_tells_nodes_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = set()
    for name in ("node-1", "node-2", "node-3"):
        node(monkeypatch, name)
        numbers.add(replies_and_spending._this_process())
    assert len(numbers) == 3
    assert all(0 < number < 1 << 63 for number in numbers)


def spend(path: Path, name: str, cap: float) -> None:
    """Buy answers of 1 cent on the node of this name until the cap is reached."""
    replies_and_spending.platform.node = lambda: name
    with ReplyCache(path, "all") as cache:
        for number in range(1000):
            digest = f"{name} {number}"
            leave = cache.reserve(digest, 0.02, cap, time.time() + 60)
            if isinstance(leave, Reservation):
                cache.settle(leave.number, digest, "provider", "model", Reply("x", 1, 1, 0.01, False, False, 0.1))
            elif not (isinstance(leave, BudgetExceeded) and leave.awaited):
                return


@pytest.mark.skipif(sys.platform == "win32", reason="forks")
def test_cap_holds_over_nodes_that_charge_one_file_with_a_rollback_journal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DAL_JOURNAL", "rollback")
    path, started = tmp_path / "replies.db", []
    for name in ("node-1", "node-2", "node-3"):
        child = os.fork()
        if not child:
            try:
                spend(path, name, 0.3)
            finally:
                os._exit(0 if sys.exception() is None else 1)
        started.append(child)
    assert [os.waitpid(child, 0)[1] for child in started] == [0, 0, 0]
    with ReplyCache(path, "all") as cache:
        bill = cache.bill()
        assert 0.27 < bill.spent <= 0.3
        assert bill.unsettled == 0
        assert bill.requests == round(bill.dollars / 0.01)
    assert path.read_bytes()[18:20] == b"\1\1"
