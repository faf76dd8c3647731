"""Clients that are killed at random moments: nothing is paid for twice, and the cap holds over all of them."""

import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence

import pytest
from llm_process import CAPPED, INTERRUPTED, Nursery, nursery
from llm_server import Hit, Misdeed, Server

from dal.llm import Reply, Request
from dal.llm.clients.hosted import HostedClient

Asking = Callable[..., HostedClient]

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")


@pytest.fixture(scope="module")
def processes() -> Iterator[Nursery]:
    with nursery() as started:
        yield started


def texts(count: int) -> list[Request]:
    return [Request(f"text {i}", max_tokens=100) for i in range(count)]


def run_killed(
    server: Server,
    processes: Nursery,
    client: HostedClient,
    requests: Sequence[Request],
    moments: Sequence[int],
    seed: int,
) -> tuple[int, int]:
    """Run a client again and again, killed when the server sees these requests; how it ended at last, and the kills.

    The kill comes when a request arrives, or a few milliseconds later: while it is answered, received or stored.
    """
    draw, left = random.Random(seed), sorted(moments)
    lock, kills = threading.Lock(), 0

    def misbehave(hit: Hit) -> Misdeed | None:
        with lock:
            due = bool(left) and hit.number >= left[0]
            if due:
                left.pop(0)
                delay = draw.choice([0.0, 0.002, 0.005, 0.01, 0.02])
        if due:
            time.sleep(delay)
            processes.kill()
        return None

    server.misbehave = misbehave
    while True:
        processes.start(client, requests)
        code = processes.ended()
        if code != -signal.SIGKILL:
            return code, kills
        kills += 1


@pytest.mark.slow
def test_a_thousand_texts_are_paid_for_once_but_for_those_on_their_way_at_a_kill(
    asking: Asking, server: Server, processes: Nursery
) -> None:
    concurrency, count = 4, 1000 if asking().provider() == "anthropic" else 200
    moments = random.Random(0).sample(range(5, count), 8)
    client = asking(concurrency=concurrency, cap=10.0)
    code, kills = run_killed(server, processes, client, texts(count), moments, seed=1)
    assert code == 0
    assert kills >= 6  # two moments may fall into one process's last milliseconds
    paid = server.answered()
    assert len(paid) == count
    assert sum(paid.values()) - count <= kills * concurrency
    bill = client.bill()
    assert bill.requests == count
    assert bill.dollars <= server.dollars(1.0, 5.0) <= bill.spent
    # Everything is there now: asking again sends nothing.
    before = len(server.hits)
    assert [reply.text for reply in client.complete(texts(count))] == [f"answer to text {i}" for i in range(count)]
    assert len(server.hits) == before


def test_the_cap_holds_over_kills(asking: Asking, server: Server, processes: Nursery) -> None:
    server.tokens = lambda hit: (len(hit.prompt.encode()) + 1024, 100)
    cap = 60.5 * asking().price([Request("text 100", max_tokens=100)]).high
    moments = random.Random(2).sample(range(3, 55), 5)
    code, kills = run_killed(server, processes, asking(concurrency=4, cap=cap), texts(150), moments, seed=3)
    assert code == CAPPED
    assert kills >= 3
    assert 0.5 * cap < server.dollars(1.0, 5.0) <= cap
    assert asking().bill().spent <= cap


def test_ctrl_c_waits_for_what_is_on_its_way_and_sends_no_more(
    asking: Asking, server: Server, processes: Nursery
) -> None:
    def misbehave(hit: Hit) -> Misdeed:
        if hit.number == 8:
            processes.kill(signal.SIGINT)
        return Misdeed(seconds=0.2)

    server.misbehave = misbehave
    processes.start(asking(concurrency=4), texts(40))
    assert processes.ended() == INTERRUPTED
    assert len(server.hits) <= 12
    assert len(asking().complete(texts(40))) == 40
    assert set(server.answered().values()) == {1}
    assert asking().bill().unsettled == 0


def test_a_second_ctrl_c_leaves_at_once_and_keeps_the_money_set_aside(
    asking: Asking, server: Server, processes: Nursery
) -> None:
    hanging, left = threading.Event(), threading.Event()

    def misbehave(hit: Hit) -> Misdeed | None:
        hanging.set()
        left.wait(100)
        return None

    server.misbehave = misbehave
    processes.start(asking(concurrency=2), texts(2))
    hanging.wait()
    for _ in range(2):
        time.sleep(0.3)
        processes.kill(signal.SIGINT)
    assert processes.ended() == INTERRUPTED  # although the server has not answered
    left.set()
    assert asking().bill().unsettled > 0


@pytest.mark.parametrize("moment", ["before its name is known", "while it is waited for"])
def test_a_killed_process_goes_on_with_the_batch_that_it_has_sent(
    asking: Asking, server: Server, processes: Nursery, moment: str
) -> None:
    def around(what: str) -> Misdeed | None:
        if moment == "before its name is known":
            processes.kill()
        else:
            threading.Timer(0.3, processes.kill).start()
        return None

    server.polls = 10**9 if moment == "while it is waited for" else 1
    server.around = around
    client = asking(batch=True)
    processes.start(client, texts(8))
    assert processes.ended() == -signal.SIGKILL
    while not server.batches:
        time.sleep(0.005)
    server.polls = 1
    assert client.bill().unsettled > 0
    assert [reply.text for reply in client.complete(texts(8))] == [f"answer to text {i}" for i in range(8)]
    assert len(server.batches) == 1
    assert set(server.answered().values()) == {1}
    assert client.bill().unsettled == 0


def test_batch_that_the_server_creates_after_its_process_was_killed_is_not_sent_again(
    asking: Asking, server: Server, processes: Nursery
) -> None:
    killed = threading.Event()

    def around(what: str) -> Misdeed | None:
        if not killed.is_set():
            processes.kill()
            killed.set()
            while not any(path.startswith("GET") for path in server.others):  # the other client looks for the batch
                time.sleep(0.005)
            time.sleep(0.3)
        return None

    server.around = around
    client = asking(batch=True)
    processes.start(client, texts(8))
    assert processes.ended() == -signal.SIGKILL
    assert killed.wait(100)
    assert not server.batches
    assert [reply.text for reply in client.complete(texts(8))] == [f"answer to text {i}" for i in range(8)]
    time.sleep(0.6)  # the first batch is created by then
    assert len(server.batches) == 1
    assert set(server.answered().values()) == {1}


@pytest.mark.parametrize("moment", ["before its name is known", "while it is waited for"])
def test_who_waits_for_the_batch_of_a_process_that_is_killed_gets_it(
    asking: Asking, server: Server, processes: Nursery, moment: str
) -> None:
    hanging, left = threading.Event(), threading.Event()

    def around(what: str) -> Misdeed | None:
        hanging.set()
        if moment == "before its name is known":
            left.wait(100)
        return None

    server.polls, server.around = 10**9, around
    client = asking(batch=True, cap=1.0)
    processes.start(client, texts(8))
    hanging.wait()
    replies: list[Reply] = []
    other = threading.Thread(target=lambda: replies.extend(client.complete(texts(8))))
    other.start()
    time.sleep(0.5)
    processes.kill()
    assert processes.ended() == -signal.SIGKILL
    left.set()
    server.polls = 1
    other.join()
    assert [reply.text for reply in replies] == [f"answer to text {i}" for i in range(8)]
    assert set(server.answered().values()) == {1}
    assert (client.bill().requests, client.bill().unsettled) == (8, 0)
