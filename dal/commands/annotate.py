"""`dal annotate`: answer in the browser or in the terminal."""

import getpass
import sys
from argparse import ArgumentTypeError, Namespace
from collections.abc import Callable
from socket import socket
from threading import Thread
from typing import TYPE_CHECKING

from dal.commands.annotate_in_terminal import answer_in_terminal
from dal.commands.annotate_ways import add_ways, check_ways, last_words, opened
from dal.commands.paths import path_of
from dal.commands.terminal import Parser, escape_controls, say
from dal.errors import require

if TYPE_CHECKING:
    from dal.annotate.service_contract import Service

#: Port of the page. It stays the same from start to start, so that an open tab finds the server again.
PORT = 8765


def annotate(arguments: list[str]) -> int:
    """`dal annotate`."""
    parser = Parser(
        "dal annotate",
        description="Opens a page in the browser on which a person answers one text after the other; --terminal asks "
        "here. Every answer is on disk before the next text is shown; a model is trained in the background. Ctrl-C "
        "ends it.",
        allow_abbrev=False,
    )
    parser.add_argument("folder", type=path_of, help="the project, made by dal init")
    about = f"port of the page on this computer [{PORT}]; 0 takes a free one"
    parser.add_argument("--port", type=port_of, default=PORT, metavar="N", help=about)
    parser.add_argument("--no-open", action="store_true", help="show the address only, do not open a browser")
    about = "your name, stored with each answer [that of your account]"
    parser.add_argument("--who", type=_name, metavar="NAME", help=about)
    about = "share of the texts that several people answer, and their number, as in 0.1:2"
    parser.add_argument("--overlap", metavar="SHARE:PEOPLE", help=about)
    add_ways(parser)
    options = parser.parse_args(arguments)
    check_ways(options)
    if options.terminal is not None:
        with opened(options) as service:
            answer_in_terminal(service, options.who or _account(), options.terminal)
    else:
        require("starlette", "annotate")
        require("uvicorn", "annotate")
        from dal.annotate.server import listen

        with listen(options.port) as listening, opened(options) as service:
            _serve(service, listening, options)
    print(escape_controls(last_words(options)))
    return 0


def _serve(service: "Service", listening: socket, options: Namespace) -> None:
    """Show the address, open the browser and answer requests until Ctrl-C."""
    from dal.annotate.browser_opening import BrowserOpening
    from dal.annotate.request_guard import Admissions
    from dal.annotate.server import application, hosts_of, serve

    opening = BrowserOpening(options.folder)
    admissions = Admissions(on_use=opening.close)
    port = listening.getsockname()[1]
    who = options.who or _account()

    def new_link() -> str:
        return f"http://127.0.0.1:{port}/?token={admissions.new_token(who)}"

    app = application(service, admissions, hosts=hosts_of(port), project=str(options.folder.absolute()))
    link = new_link()
    print(f"{link}\nThis link opens the page once. Ctrl-C ends dal annotate; answers are stored as they are given.")
    sys.stdout.flush()
    try:
        if not options.no_open and not opening.show(link):
            say("no browser with windows was found: open the link yourself")
        if sys.stdin is not None and sys.stdin.isatty():
            print("Enter shows a further link, as for another browser.")
            Thread(target=_links_on_enter, args=(new_link,), daemon=True).start()
        serve(app, listening)
    finally:
        opening.close()


def _links_on_enter(new_link: Callable[[], str]) -> None:
    for _ in sys.stdin:
        print(new_link(), flush=True)


def _account() -> str:
    """The name of the account; empty where the system has none."""
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):
        return ""


def port_of(given: str) -> int:
    """The number of a port."""
    if not (given.isascii() and given.isdigit() and len(given) < 6 and int(given) < 2**16):
        raise ArgumentTypeError(f"a port is a number from 0 to 65,535, got {given!r}")
    return int(given)


def _name(given: str) -> str:
    if not given.strip() or len(given) > 200 or not given.isprintable():
        raise ArgumentTypeError("a name has 1 to 200 printable characters")
    return given.strip()
