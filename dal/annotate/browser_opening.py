"""Opening of a link with a token in the browser, without the link in the list of processes."""

import html
import os
import webbrowser
from pathlib import Path

#: File of a project that leads to the page until the link is used.
OPENING = "open.html"


class BrowserOpening:
    """Opens a link through a file that only its owner can read: arguments of a process can be read by all users.

    Args:
        folder: folder of the file, which is removed by `close`.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / OPENING

    def show(self, link: str) -> bool:
        """Open a link in a browser with windows; return whether there is one."""
        browser = _browser()
        if browser is None:
            return False
        self.close()
        content = f'<!doctype html><meta http-equiv="refresh" content="0; url={html.escape(link)}"><title>dal</title>\n'
        try:
            file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(file, "w", encoding="utf-8") as opened:
                opened.write(content)
            return browser.open_new_tab(self._path.absolute().as_uri())
        except (OSError, webbrowser.Error):
            return False

    def close(self) -> None:
        """Remove the file."""
        self._path.unlink(missing_ok=True)


def _browser() -> webbrowser.BaseBrowser | None:
    """The default browser if it opens a window. One for a terminal would take over that of the command."""
    try:
        browser = webbrowser.get()
    except webbrowser.Error:
        return None
    in_terminal = isinstance(browser, webbrowser.GenericBrowser) and not isinstance(
        browser, webbrowser.BackgroundBrowser
    )
    return None if in_terminal else browser
