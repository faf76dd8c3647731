"""Conformance checks for clients of language models: one function per requirement."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from dal.errors import DalError
from dal.llm.clients.client import Bill, Client, PriceBound, Reply, Request
from dal.testing.conformance_report import Check, CheckFailure, CheckSkipped, Report, error_summary, run_checks
from dal.testing.values import check_untouched, check_value, drawn_from, report_on, state_of

_SCHEMA = {"type": "object", "properties": {"label": {"enum": ["red", "blue"]}}, "required": ["label"]}

#: Short requests: two texts, a repetition of the first, an independent sample of it, and one with a schema.
REQUESTS = (
    Request("Name a colour.", max_tokens=8),
    Request("Count to three.", max_tokens=8),
    Request("Name a colour.", max_tokens=8),
    Request("Name a colour.", max_tokens=8, temperature=1.0, sample=1),
    Request("Is the sky red or blue?", system="Answer in JSON.", schema=_SCHEMA, max_tokens=32),
)


@dataclass(frozen=True, eq=False)
class ClientTrial:
    """A client, and whether requests may be sent that cost money.

    Attributes:
        client: the client.
        spend: whether requests with a price above 0 are sent.
        sent: replies of `REQUESTS`, after the check that sends them.
    """

    client: Client
    spend: bool
    sent: list[Reply] = field(default_factory=list)

    def complete(self, requests: Sequence[Request]) -> list[Reply]:
        """Replies to these requests, checked for their number and types."""
        try:
            replies = self.client.complete(list(requests))
        except DalError as error:
            raise CheckFailure(str(error)) from error
        except Exception as error:
            raise CheckFailure(f"{error_summary(error)}: without an answer, raise LLMError with one line") from error
        if not isinstance(replies, list) or len(replies) != len(requests):
            raise CheckFailure(f"complete must return a list of {len(requests)} replies, one per request, in order")
        for reply in replies:
            if not isinstance(reply, Reply) or not isinstance(reply.text, str):
                raise CheckFailure(f"each reply must be a Reply with a text, got {type(reply).__name__}")
            counts = (reply.input_tokens, reply.output_tokens)
            if any(type(count) is not int or count < 0 for count in counts):
                raise CheckFailure(f"token counts must be integers of at least 0, got {counts}")
            figures = (reply.dollars, reply.seconds)
            if any(not 0 <= figure < math.inf for figure in figures):
                raise CheckFailure(f"dollars and seconds must be finite and at least 0, got {figures}")
        return replies


def check_client_declaration(trial: ClientTrial) -> None:
    """`model` names the model."""
    if not isinstance(getattr(trial.client, "model", None), str) or not trial.client.model:
        raise CheckFailure(f"{type(trial.client).__name__}.model must be the name of the model")


def check_prices(trial: ClientTrial) -> str:
    """Prices are known before anything is sent: an estimate and an upper bound, 0 for no request."""
    try:
        each, total, none = (
            trial.client.price_each(list(REQUESTS)),
            trial.client.price(list(REQUESTS)),
            trial.client.price([]),
        )
    except DalError as error:
        raise CheckFailure(str(error)) from error
    if len(each) != len(REQUESTS):
        raise CheckFailure(f"price_each returned {len(each)} prices of {len(REQUESTS)} requests")
    for bound in (*each, total, none):
        if not isinstance(bound, PriceBound) or not 0 <= bound.low <= bound.high < math.inf:
            raise CheckFailure(f"a price must be a PriceBound with 0 <= low <= high, got {bound!r}")
    if none.high:
        raise CheckFailure("no request has a price")
    return f"at most ${total.high:.4f} for the requests of this check"


def check_no_request(trial: ClientTrial) -> None:
    """No request gives no reply."""
    trial.complete([])


def check_replies(trial: ClientTrial) -> str:
    """One reply per request, in order."""
    price = trial.client.price(list(REQUESTS)).high
    if price and not trial.spend:
        raise CheckSkipped(f"its requests cost up to ${price:.4f}: --spend sends them")
    before = drawn_from()
    trial.sent[:] = trial.complete(REQUESTS)
    check_untouched(before, "complete")
    return f"{sum(bool(reply.text) for reply in trial.sent)} of {len(REQUESTS)} replies have a text"


def check_repetition(trial: ClientTrial) -> None:
    """A repeated request at temperature 0 gets the same reply, also when it is sent later."""
    if not trial.sent:
        raise CheckSkipped("nothing was sent")
    first, repeated = trial.sent[0].text, trial.sent[2].text
    if first != repeated or trial.complete(REQUESTS[:1])[0].text != first:
        raise CheckSkipped("this model's answers at temperature 0 vary; a cache would repeat them")


def check_bill(trial: ClientTrial) -> None:
    """The bill adds up what was spent."""
    bill = trial.client.bill()
    if not isinstance(bill, Bill) or not 0 <= bill.spent < math.inf:
        raise CheckFailure(f"bill must return a Bill of at least 0 dollars, got {bill!r}")
    paid = math.fsum(reply.dollars for reply in trial.sent if not reply.cached)
    if paid > bill.spent * (1 + 1e-9):
        raise CheckFailure(f"the replies cost ${paid:.6f}, and the bill says ${bill.spent:.6f}")


def check_client_value(trial: ClientTrial) -> None:
    """A frozen dataclass, equal by value, which a request does not change."""
    check_value(trial.client, uncompared=True, hashable=False)
    before = state_of(trial.client)
    trial.client.price(list(REQUESTS))
    if state_of(trial.client) != before:
        raise CheckFailure("the client changed: keep no state in its fields")


#: Name -> check, in order of execution.
CLIENT_CHECKS: Mapping[str, Check] = {
    "declaration": check_client_declaration,
    "prices": check_prices,
    "no request": check_no_request,
    "replies": check_replies,
    "repetition": check_repetition,
    "bill": check_bill,
    "value": check_client_value,
}


def client_report(client: Client | type[Client], *, spend: bool = False) -> Report:
    """Run all checks on a client and return the report. Failed checks do not raise.

    Args:
        client: instance, or class that can be created without arguments.
        spend: whether to send the five short requests of the check if they have a price.
    """

    def run(subject: str, made: Client) -> Report:
        return run_checks(subject, CLIENT_CHECKS, ClientTrial(made, spend), first=("declaration", "prices"))

    return report_on(client, Client, "dal.llm.Client", run)


def check_client(client: Client | type[Client], *, spend: bool = False) -> Report:
    """Run `client_report` and raise if a check failed.

    Raises:
        ConformanceError: a check failed; the message lists the failures, `error.report` holds all results.
    """
    return client_report(client, spend=spend).require()
