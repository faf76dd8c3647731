"""Who may use the annotation page: what its guard must know, and links that open the page once."""

import hashlib
import hmac
import secrets
from collections.abc import Callable
from typing import Protocol


def digest(secret: str) -> bytes:
    """What is kept of a secret."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()


class Entrance(Protocol):
    """Knows who may use the page.

    Attributes:
        login_page: HTML of the page on which people log in; "" where a link with a token opens the page.
    """

    login_page: str

    def exchange(self, token: str) -> tuple[str, str] | None:
        """The person of a token, and the cookie for it; None for an unknown token."""

    def person(self, cookie: str) -> str | None:
        """The person of a cookie; None for an unknown one."""

    def lifetime(self, who: str) -> int | None:
        """Seconds for which the cookie of a person is kept; None for as long as the browser is open."""

    def are_too_many_wrong(self) -> bool:
        """Count a wrong token, and return whether there were too many of late."""


class Admissions:
    """The people that may use the page: links that open it once, and the cookies that they became.

    Only digests are kept.

    Args:
        on_use: called when a link is used.
    """

    login_page = ""

    def __init__(self, on_use: Callable[[], None] = lambda: None) -> None:
        self._on_use = on_use
        self._links: dict[bytes, str] = {}
        self._cookies: dict[bytes, str] = {}

    def new_token(self, who: str) -> str:
        """A token that opens the page once, for the person `who`."""
        token = secrets.token_urlsafe(32)
        self._links[digest(token)] = who
        return token

    def exchange(self, token: str) -> tuple[str, str] | None:
        """The person and the cookie for a token, which is used up; None for an unknown one."""
        who = self._links.pop(digest(token), None)
        if who is None:
            return None
        cookie = secrets.token_urlsafe(32)
        self._cookies[digest(cookie)] = who
        self._on_use()
        return who, cookie

    def person(self, cookie: str) -> str | None:
        """The person of a cookie; None for an unknown one."""
        given = digest(cookie)
        found = [who for known, who in list(self._cookies.items()) if hmac.compare_digest(known, given)]
        return found[0] if found else None

    def lifetime(self, who: str) -> None:
        """None: cookies end with the browser, and with the program."""

    def are_too_many_wrong(self) -> bool:
        """False: a link that is used up is not an attempt to guess."""
        return False
