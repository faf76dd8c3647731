"""Prices: the table, the bound that a cap reserves, and the bill."""

from fractions import Fraction
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

import dal.llm.clients.prices
from dal.errors import ConfigError
from dal.llm import Request
from dal.llm.clients.prices import Rates, Usage, rates_of, size_of

counts = st.integers(0, 10**6)
dollars = st.integers(0, 10**5).map(lambda cents: cents / 100)


@given(counts, counts, counts, counts, dollars, dollars, dollars, dollars)
def test_the_bill_is_the_sum_of_tokens_times_their_rates(
    tokens_in: int, out: int, cached: int, written: int, a: float, b: float, c: float, d: float
) -> None:
    exact = sum(
        Fraction(n) * Fraction(rate) for n, rate in ((tokens_in, a), (out, b), (cached, c), (written, d))
    ) / Fraction(10**6)
    assert Rates(a, b, c, d).dollars(Usage(tokens_in, out, cached, written)) == pytest.approx(float(exact))


def test_tokens_of_the_provider_s_cache_cost_as_input_where_no_rate_is_given() -> None:
    assert Rates(2.0, 0.0).dollars(Usage(0, 0, cached=500_000, written=500_000)) == pytest.approx(2.0)


def test_a_long_request_costs_more_as_a_whole() -> None:
    rates = Rates(0.1, 0.5, long_above=100_000, long_factor=5)
    assert rates.dollars(Usage(100_000, 100)) == pytest.approx(0.01005)
    assert rates.dollars(Usage(100_001, 100)) == pytest.approx(5 * (0.0100001 + 0.00005))


@given(st.text(max_size=50), st.text(max_size=50), st.integers(1, 500), st.integers(0, 1024), st.booleans())
def test_no_answer_within_its_limits_costs_more_than_the_bound(
    prompt: str, system: str, limit: int, extra: int, written: bool
) -> None:
    request = Request(prompt, system, {"type": "object"}, max_tokens=limit)
    rates = Rates(1.0, 5.0, cached=0.1, written=1.25)
    tokens = size_of(request) + extra
    usage = Usage(0, limit, written=tokens) if written else Usage(tokens, limit)
    price = rates.price(request)
    assert rates.dollars(usage) <= price.high
    assert price.low <= price.high


def test_the_size_counts_bytes_of_every_part_even_of_broken_text() -> None:
    assert size_of(Request("ä", "bc", {"d": 1})) == 2 + 2 + len('{"d": 1}')
    assert size_of(Request("\ud800")) == 1


def test_a_dated_name_has_the_price_of_the_name_without_its_date() -> None:
    assert rates_of("claude-haiku-4-5-20251001") == rates_of("claude-haiku-4-5") == Rates(1.0, 5.0, 0.1, 1.25)
    assert rates_of("gpt-4o-mini-2024-07-18") == rates_of("gpt-4o-mini")


def test_an_unknown_model_has_no_price_not_that_of_a_similar_name() -> None:
    assert rates_of("claude-haiku-4-5-turbo") is None


def test_every_line_of_the_table_is_a_price_with_a_date_and_a_source() -> None:
    table = yaml.safe_load(Path(dal.llm.clients.prices.__file__).with_name("prices.yaml").read_text())
    assert table["read_on"]
    assert set(table["sources"]) == {"anthropic", "openai"}
    for model in table["models"]:
        rates = rates_of(model)
        assert rates is not None
        assert 0 < (rates.cached or rates.input) <= rates.input < rates.output


@pytest.mark.parametrize(
    "wrong", [{"input": 1.0}, {"input": 1.0, "output": -1.0}, {"input": 1, "output": 1, "x": 1}, 3]
)
def test_a_table_that_is_none_is_refused(wrong: object) -> None:
    with pytest.raises(ConfigError, match="prices: mine must have dollars per million tokens"):
        rates_of("mine", {"mine": wrong})  # type: ignore[dict-item]
