"""`dal serve-label-studio`: a machine-learning backend of Label Studio."""

import argparse
import os
import secrets
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from dal.commands.annotate import port_of
from dal.commands.paths import path_of, require_project
from dal.commands.terminal import Parser, say
from dal.errors import ConfigError, require
from dal.store.atomic_files import named

if TYPE_CHECKING:
    from dal.annotate.connections import ListeningSocket
    from dal.annotate.label_studio_client import LabelStudioClient
    from dal.annotate.label_studio_service import LabelStudioService

#: Port that Label Studio suggests for a backend.
PORT = 9090
#: Environment variable that holds the password.
PASSWORD = "DAL_LABEL_STUDIO_PASSWORD"

_MOST_SECRET = 4096  # bytes of a file with a password or a token


def serve_label_studio(arguments: list[str]) -> int:
    """`dal serve-label-studio`."""
    options = _options(arguments)
    require_project(options.folder)
    given = _password(options)
    client = _client(options)
    require("starlette", "annotate")
    require("uvicorn", "annotate")
    from dal.annotate.label_studio_service import open_label_studio_service
    from dal.annotate.server import listen

    with listen(options.port) as listening:
        service = open_label_studio_service(options.folder, suggest=options.suggest)
        try:
            _serve(service, client, listening, options, given)
        except KeyboardInterrupt:
            pass  # the ordinary end
        finally:
            service.close()
    print("Stopped; all answers that were read are stored.")
    return 0


def _serve(
    service: "LabelStudioService",
    client: "LabelStudioClient | None",
    listening: "ListeningSocket",
    options: argparse.Namespace,
    given: str | None,
) -> None:
    """Show what to enter in Label Studio, and answer its requests until Ctrl-C."""
    from dal.annotate.label_studio_exchange import LabelStudioExchange
    from dal.annotate.label_studio_server import backend_application
    from dal.annotate.server import hosts_of, serve

    port, password = listening.getsockname()[1], given or secrets.token_urlsafe(18)
    exchange = None if client is None else LabelStudioExchange(client, service, say, imports=options.imports)
    projects: list[int] = [] if client is None or client.project is None else [client.project]

    def use_project(number: int) -> None:
        if projects and number != projects[0]:
            raise ConfigError(
                f"project {number} of Label Studio asks, and this folder serves its project {projects[0]}: connect "
                "another folder to it"
            )
        projects[:] = [number]
        if exchange is not None and exchange.project is None:
            exchange.project = number
            exchange.hint()

    if exchange is not None:
        service.on_ranking = exchange.hint
    failures = [""]

    def show_failure(line: str) -> None:
        if line != failures[-1]:  # each further answer may cause the same one
            say(f"no new ranking: {line}")
        failures[:] = [line]

    service.on_failure = show_failure
    app = backend_application(
        service,
        user=options.user,
        password=password,
        hosts=hosts_of(port),
        hint=(lambda: None) if exchange is None else exchange.hint,
        use_project=use_project,
        show=say,
    )
    print(f"In Label Studio, under Settings, Model: http://127.0.0.1:{port} with basic authentication")
    print(f"  user      {options.user}")
    print(f"  password  {password if given is None else 'the one that was given'}")
    if exchange is None:
        print(
            "Answers are not read, since --label-studio is missing: export them as JSON and dal tell them afterwards."
        )
    print("Ctrl-C ends it.")
    sys.stdout.flush()
    try:
        if exchange is not None:
            exchange.start()
        serve(app, listening)
    finally:
        if exchange is not None:
            exchange.close()


def _password(options: argparse.Namespace) -> str | None:
    """The password that was given; None for none.

    Raises:
        ConfigError: it is given twice, or is too short to protect anything.
    """
    given = os.environ.get(PASSWORD)
    if given is not None and options.password_file is not None:
        raise ConfigError(f"--password-file and {PASSWORD} are both given: omit one")
    if options.password_file is not None:
        given = _secret(options.password_file, "--password-file")
    if given is not None and len(given) < 8:
        raise ConfigError("a password has at least 8 characters: choose a longer one, or none for a random one")
    return given


def _client(options: argparse.Namespace) -> "LabelStudioClient | None":
    """The client of the API; None if no address was given."""
    if options.label_studio is None and options.token_file is None:
        if options.imports:
            raise ConfigError("--import needs --label-studio URL and --token-file FILE: where the texts are imported")
        return None
    if options.label_studio is None or options.token_file is None:
        raise ConfigError("--label-studio and --token-file belong together: give both, or none to answer requests only")
    from dal.annotate.label_studio_client import LabelStudioClient

    client = LabelStudioClient(options.label_studio, _secret(options.token_file, "--token-file"))
    if not client.is_encrypted:
        say(f"warning: the token goes to {client.server} without encryption: use https, or a tunnel to a port here")
    return client


def _secret(file: Path, option: str) -> str:
    """The only line of a file.

    Raises:
        ConfigError: it cannot be read, or is not one line of text.
    """
    try:
        with file.open("rb") as stream:
            text = stream.read(_MOST_SECRET + 1).decode()
    except OSError as error:
        raise ConfigError(f"{option}: {named(file)} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{option}: {named(file)} is not text") from None
    lines = text.strip().splitlines()
    if len(lines) != 1 or len(text) > _MOST_SECRET:
        raise ConfigError(f"{option}: {named(file)} must have one line, and nothing else")
    return lines[0].strip()


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = Parser(
        "dal serve-label-studio",
        description="Serves a project to Label Studio as a machine-learning backend on this computer. Requests are "
        "answered at once from the stored ranking, while a model is trained in the background. With --label-studio, "
        "annotations become answers as they are made, and each new ranking becomes the order of the tasks.",
        allow_abbrev=False,
    )
    parser.add_argument("folder", type=path_of, help="the project, made by dal init")
    about = f"port on this computer [{PORT}]; 0 takes a free one"
    parser.add_argument("--port", type=port_of, default=PORT, metavar="N", help=about)
    parser.add_argument("--user", type=_user, default="dal", metavar="NAME", help="user that Label Studio gives [dal]")
    about = f"file with the password that Label Studio gives, or set {PASSWORD} [a random one, which is shown]"
    parser.add_argument("--password-file", type=path_of, metavar="FILE", help=about)
    about = "address of the project in Label Studio, such as http://127.0.0.1:8080/projects/7"
    parser.add_argument("--label-studio", metavar="URL", help=about)
    about = "file with a token of a user who may change that project: a personal access token or a legacy token"
    parser.add_argument("--token-file", type=path_of, metavar="FILE", help=about)
    about = "first import the texts of the project that are not in Label Studio, with their answers"
    parser.add_argument("--import", dest="imports", action="store_true", help=about)
    about = "let predictions name the class that the model expects; without it, they only order the tasks"
    parser.add_argument("--suggest", action="store_true", help=about)
    return parser.parse_args(arguments)


def _user(given: str) -> str:
    if not given or ":" in given or not given.isprintable() or len(given) > 200:
        raise argparse.ArgumentTypeError("a user has 1 to 200 printable characters without a colon")
    return given
