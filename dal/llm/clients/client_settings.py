"""Settings of a hosted client that sending and batching read, as plain values."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Endpoint:
    """Model at a server.

    Attributes:
        provider: name of the provider, part of the cache key.
        model: name of the model.
        address: address of the server; None for the provider's own.
        key_variable: name of the environment variable with the API key; None if no key is sent.
        extra_size: number of bytes that every request body has in addition to the prompt.
    """

    provider: str
    model: str
    address: str | None = None
    key_variable: str | None = None
    extra_size: int = 0

    @property
    def place(self) -> str:
        """Name of the server in messages."""
        return self.address or self.provider


@dataclass(frozen=True)
class Limits:
    """Limits of one call: rates, attempts, waiting times in seconds, and money.

    Attributes:
        concurrency: maximum number of concurrent requests.
        requests_per_minute, tokens_per_minute: rate limits; None for no limit.
        retries: maximum number of retries of a request.
        first_wait: seconds before the first retry.
        timeout: seconds to wait for an answer.
        ledger: account that is charged.
        cap: maximum total spending of the account in dollars; None for no cap.
        batch: whether to send requests as batches.
        poll_seconds: seconds between checks whether a batch has ended.
    """

    concurrency: int
    requests_per_minute: float | None
    tokens_per_minute: float | None
    retries: int
    first_wait: float
    timeout: float
    ledger: str
    cap: float | None
    batch: bool
    poll_seconds: float
