"""When the next request may go: requests and tokens per minute, and pauses that a server asks for."""


class Pacer:
    """Spaces requests evenly, so that no minute holds more requests or tokens than are allowed.

    Evenly, because providers refuse bursts that a minute as a whole would allow. It holds no clock: every call is told
    the time in seconds.

    Args:
        requests_per_minute: None for no limit.
        tokens_per_minute: None for no limit.

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
        """How many seconds a request of so many tokens must wait; its place is taken."""
        start = max(now, self._request_at, self._tokens_at, self._paused_until)
        self._request_at = start + self._per_request
        self._tokens_at = start + tokens * self._per_token
        return start - now

    def settle(self, booked: int, used: int) -> None:
        """Correct the tokens of a request that is answered: fewer, as a rule, than were booked."""
        self._tokens_at -= (booked - used) * self._per_token

    def pause(self, now: float, seconds: float) -> None:
        """Let nothing go for so many seconds."""
        self._paused_until = max(self._paused_until, now + seconds)

    def paused(self, now: float) -> float:
        """How many seconds the pause still lasts, 0 when there is none."""
        return max(0.0, self._paused_until - now)
