"""`dal annotate`: answer in the browser or in the terminal."""

import getpass
import sys
from argparse import ArgumentTypeError, Namespace
from collections.abc import Callable
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING

from dal.commands.annotate_in_terminal import answer_in_terminal
from dal.commands.annotate_ways import add_ways, check_ways, last_words, opened
from dal.commands.paths import path_of
from dal.commands.people import day_of
from dal.commands.terminal import Parser, escape_controls, line_input, say
from dal.errors import ConfigError, require
from dal.store.atomic_files import typed

if TYPE_CHECKING:
    from dal.annotate.admissions import Entrance
    from dal.annotate.connections import ListeningSocket
    from dal.annotate.network_options import Network
    from dal.annotate.request_guard import Application
    from dal.annotate.service import AnnotationService

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
    parser.add_argument("--port", type=port_of, metavar="N", help=about)
    parser.add_argument("--no-open", action="store_true", help="show the address only, do not open a browser")
    about = "your name, stored with each answer [that of your account]"
    parser.add_argument("--who", type=_name, metavar="NAME", help=about)
    about = "share of the texts that several people answer, and their number, as in 0.1:2"
    parser.add_argument("--overlap", metavar="SHARE:PEOPLE", help=about)
    add_ways(parser)
    _add_network_options(parser)
    options = parser.parse_args(arguments)
    check_ways(options)
    options.port = PORT if options.port is None else options.port
    if options.terminal is not None:
        with opened(options) as service:
            answer_in_terminal(service, options.who or _account(), options.terminal, options.folder)
    else:
        require("starlette", "annotate")
        require("uvicorn", "annotate")
        from dal.annotate.network_options import network_of
        from dal.annotate.server import listen

        network = network_of(options)
        with listen(options.port, network.address) as listening, opened(options) as service:
            _serve(service, listening, options, network)
    print(escape_controls(last_words(options, arguments)))
    return 0


def _add_network_options(parser: Parser) -> None:
    """Add the options that concern several people and other computers."""
    group = parser.add_argument_group("several people, and other computers (docs/over_a_network.md)")
    about = "names of everybody who may enter, as in ana,ben; each gets a login, which is shown once"
    group.add_argument("--people", metavar="NAMES", help=about)
    about = "who of them settles disputes, changes classes and reads all answers [the first one]"
    group.add_argument("--adjudicators", metavar="NAMES", help=about)
    about = "address by which other computers reach this one, 0.0.0.0 for all; needs --people and TLS [none]"
    group.add_argument("--host", metavar="ADDRESS", help=about)
    group.add_argument("--certfile", type=path_of, metavar="FILE", help="certificate of this computer, for TLS (PEM)")
    group.add_argument("--keyfile", type=path_of, metavar="FILE", help="its private key")
    about = "a proxy adds TLS and passes Host on; needs --people and --allow-host"
    group.add_argument("--behind-proxy", action="store_true", help=about)
    about = "further address that people open, as of a proxy or the end of a tunnel; can be repeated"
    group.add_argument("--allow-host", action="append", metavar="NAME[:PORT]", help=about)


def _serve(service: "AnnotationService", listening: "ListeningSocket", options: Namespace, network: "Network") -> None:
    """Show who can enter and how, and answer requests until Ctrl-C."""
    from dal.annotate.page_routes import application
    from dal.annotate.server import serve

    port = listening.getsockname()[1]

    def app(admissions: "Entrance") -> "Application":
        return application(
            service,
            admissions,
            hosts=network.hosts(port),
            project=str(options.folder.absolute()),
            scheme=network.scheme,
        )

    if network.people:
        serve(app(_logins(service, network, port, options.folder)), listening, network.tls)
    else:
        _serve_one(app, service, listening, options, network)


def _serve_one(
    app: "Callable[[Entrance], Application]",
    service: "AnnotationService",
    listening: "ListeningSocket",
    options: Namespace,
    network: "Network",
) -> None:
    """Show the link for one person, open the browser and answer requests until Ctrl-C."""
    from dal.annotate.admissions import Admissions
    from dal.annotate.browser_opening import BrowserOpening
    from dal.annotate.server import serve

    opening = BrowserOpening(options.folder)
    admissions = Admissions(on_use=opening.close)
    origin, who = network.origin(listening.getsockname()[1]), options.who or _account()

    def new_link() -> str:
        return f"{origin}/?token={admissions.new_token(who)}"

    link = new_link()
    print(f"{link}\nThis link opens the page once. Ctrl-C ends dal annotate; answers are stored as they are given.")
    if not service.rights(who):
        shows = f"dal people {typed(options.folder)} shows who may"
        say(f"{who} may not change classes or settle disputes here: {shows}, --who is your name")
    sys.stdout.flush()
    try:
        opens = not (options.no_open or network.named)  # a name of --allow-host leads here from elsewhere
        if opens and not opening.show(link):
            say("no browser with windows was found: open the link yourself")
        if sys.stdin is not None and sys.stdin.isatty():
            print("Enter shows a further link, as for another browser.")
            Thread(target=_links_on_enter, args=(new_link,), daemon=True).start()
        serve(app(admissions), listening, network.tls)
    finally:
        opening.close()


def _logins(service: "AnnotationService", network: "Network", port: int, folder: Path) -> "Entrance":
    """Give the people their logins, and show them."""
    from dal.annotate.logins import DAYS, Logins, admit_people

    made = admit_people(service.log, network.people, network.adjudicators)
    until = {each.who: each.until for each in service.log.people()}
    origin = network.origin(port)
    lines = [f"{origin}/"]
    for who in network.people:
        if who in made:
            lines.append(f"{who}: {origin}/#login={made[who]}")
        else:
            lines.append(f"{who}: has a login until {day_of(until[who])}")
    if made:
        lines.append(f"Give each person their own link: it is shown once, and valid for {DAYS} days in any browser.")
    command = f"dal people {typed(folder)}"
    lines.append(f"{command} login NAME makes a new login, {command} remove NAME ends one at once.")
    lines.append("Ctrl-C ends dal annotate; answers are stored as they are given.")
    print(escape_controls("\n".join(lines)), flush=True)
    return Logins(service.log, network.people, on_many_wrong=say)


def _links_on_enter(new_link: Callable[[], str]) -> None:
    for _ in line_input():
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
    from dal.annotate.person_names import checked_name

    try:
        return checked_name(given)
    except ConfigError as error:
        raise ArgumentTypeError(str(error)) from None
