"""Rate limiting: requests and tokens per minute, and pauses requested by the server."""


class Pacer:
    """Rate limiter that spaces requests evenly, because providers reject bursts even within a limit per minute.

    It has no clock: the current time in seconds is an argument of each call.

    Args:
        requests_per_minute: maximum number of requests per minute; None for no limit.
        tokens_per_minute: maximum number of tokens per minute; None for no limit.

    Example:
        >>> pacer = Pacer(requests_per_minute=60)
        >>> [pacer.book(now=0.0) for _ in range(3)]
        [0.0, 1.0, 2.0]
    """

    def __init__(self, requests_per_minute: float | None = None, tokens_per_minute: float | None = None) -> None:
        self._per_request = 60 / requests_per_minute if requests_per_minute else 0.0
        self._per_token = 60 / tokens_per_minute if tokens_per_minute else 0.0
        self._request_at = self._tokens_at = self._paused_until = 0.0

    def book(self, now: float, tokens: int = 0) -> float:
        """Schedule a request with this number of tokens and return the seconds to wait before sending it."""
        start = max(now, self._request_at, self._tokens_at, self._paused_until)
        self._request_at = start + self._per_request
        self._tokens_at = start + tokens * self._per_token
        return start - now

    def settle(self, booked: int, used: int) -> None:
        """Replace the booked number of tokens of a completed request by the number used, which is usually lower."""
        self._tokens_at -= (booked - used) * self._per_token

    def pause(self, now: float, seconds: float) -> None:
        """Pause all requests for this number of seconds."""
        self._paused_until = max(self._paused_until, now + seconds)

    def paused(self, now: float) -> float:
        """Return the remaining seconds of the pause; 0 if there is none."""
        return max(0.0, self._paused_until - now)
