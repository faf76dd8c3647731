"""The link with its token is opened through a file that only the owner can read."""

import webbrowser
from pathlib import Path

import pytest

from dal.annotate.browser_opening import OPENING, BrowserOpening

LINK = "http://127.0.0.1:8765/?token=secret&x=<>"


class Browser(webbrowser.BaseBrowser):
    """Stands for a browser with windows, and records what it is started with."""

    def __init__(self) -> None:
        super().__init__()
        self.opened: list[str] = []

    def open(self, url: str, new: int = 0, autoraise: bool = True) -> bool:
        self.opened.append(url)
        return True


@pytest.fixture
def browser(monkeypatch: pytest.MonkeyPatch) -> Browser:
    browser = Browser()
    monkeypatch.setattr(webbrowser, "get", lambda: browser)
    return browser


def test_arguments_of_the_browser_hold_no_token(tmp_path: Path, browser: Browser) -> None:
    opening = BrowserOpening(tmp_path)
    assert opening.show(LINK)
    path = tmp_path / OPENING
    assert browser.opened == [path.absolute().as_uri()]
    assert path.stat().st_mode & 0o777 == 0o600
    assert "token=secret&amp;x=&lt;&gt;" in path.read_text()
    opening.close()
    assert not path.exists()
    opening.close()


@pytest.mark.parametrize("default", [webbrowser.GenericBrowser("lynx"), webbrowser.Error("none")])
def test_browser_in_the_terminal_is_not_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, default: webbrowser.BaseBrowser | Exception
) -> None:
    def get() -> webbrowser.BaseBrowser:
        if isinstance(default, Exception):
            raise default
        return default

    monkeypatch.setattr(webbrowser, "get", get)
    assert not BrowserOpening(tmp_path).show(LINK)
    assert list(tmp_path.iterdir()) == []


def test_symbolic_link_with_the_name_of_the_file_is_not_followed(tmp_path: Path, browser: Browser) -> None:
    victim = tmp_path / "victim"
    victim.write_text("mine")
    (tmp_path / OPENING).symlink_to(victim)
    assert BrowserOpening(tmp_path).show(LINK)
    assert victim.read_text() == "mine"
