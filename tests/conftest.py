"""Fixtures that every test may use. Real tiny models, no mocks, no network."""

import gc
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import hypothesis
import material
import pytest
from command import Command, write_tickets
from llm_server import KEY, Server
from page_visit import browser, visit

__all__ = ["browser", "visit"]  # fixtures of the annotation page

if TYPE_CHECKING:
    from dal.llm.clients.hosted import HostedClient

hypothesis.settings.register_profile("dal", deadline=None)  # a busy machine is no failure
hypothesis.settings.load_profile("dal")


def pytest_collection_finish() -> None:
    """Exempt what is alive after the collection from garbage collection.

    Every full collection, such as that after a fit, would search the million objects of the imported packages and of
    the tests, for half a second each time.
    """
    gc.collect()
    gc.freeze()


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test marked `gpu` where there is no GPU."""
    if item.get_closest_marker("gpu"):
        import torch

        if not torch.cuda.is_available():
            pytest.skip("there is no GPU")


@pytest.fixture(scope="session")
def tiny_bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a randomly initialised BERT and its tokenizer."""
    return material.write_tiny_bert(tmp_path_factory.mktemp("tiny") / "bert")


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tokens and embeddings of a test are cached in a folder of the test run, never in the user's."""
    monkeypatch.setenv("DAL_CACHE", str(tmp_path_factory.getbasetemp() / "dal-cache"))


@pytest.fixture
def write_ahead_log(monkeypatch: pytest.MonkeyPatch) -> None:
    """Databases have a write-ahead log, also where the tests run with `DAL_JOURNAL=rollback`."""
    monkeypatch.setenv("DAL_JOURNAL", "wal")


@pytest.fixture
def with_tickets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """The `dal` command in a folder of its own that holds 60 tickets with labels, `tickets.csv`."""
    monkeypatch.chdir(tmp_path)
    write_tickets(tmp_path / "tickets.csv", 60)
    return Command(capsys)


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The folder of real data sets named by DAL_TEST_DATA; the test is skipped without it."""
    folder = os.environ.get("DAL_TEST_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("DAL_TEST_DATA does not name a folder of data sets")
    return Path(folder)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A server that speaks the protocols of both providers."""
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    with Server().running() as running:
        yield running


#: Dollars per million tokens, in and out, of every model in these tests.
RATES = (1.0, 5.0)


@pytest.fixture(params=["anthropic", "openai"])
def asking(request: pytest.FixtureRequest, server: Server, tmp_path: Path) -> "Callable[..., HostedClient]":
    """Makes a client of one provider, or of the other, for the server."""

    from dal.llm import AnthropicClient, OpenAIClient

    def make(model: str | None = None, **options: Any) -> "HostedClient":
        url = server.url if request.param == "anthropic" else f"{server.url}/v1"
        options = {"cache": str(tmp_path / "replies.db"), "first_wait": 0.01, "base_url": url} | options
        options = {"poll_seconds": 0.02} | options
        rates = dict(zip(("input", "output"), RATES, strict=True))
        options = {"prices": {"claude-haiku-4-5": rates, "gpt-4o-mini": rates}} | options
        if request.param == "anthropic":
            return AnthropicClient(model or "claude-haiku-4-5-20251001", **options)
        options = {"key_variable": "OPENAI_API_KEY"} | options
        return OpenAIClient(model or "gpt-4o-mini", **options)

    return make
