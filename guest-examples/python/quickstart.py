"""What the two guests of this folder share: everything that does not wait."""

import sys
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qs

from componentize_py_types import Err
from wit_world.imports import store
from wit_world.imports.connections import UpgradeOptions
from wit_world.imports.errors import Error_Invalid, Error_Other
from wit_world.imports.events import Message, Payload_Text
from wit_world.imports.requests import Request, Response

# Read when the component is built, as all that a module does when it is imported: a guest has no files.
PAGE = next(path for folder in sys.path if (path := Path(folder, "page.html")).exists()).read_bytes()


@dataclass
class Wish:
    """What a request for the stream asks for, and what the variables say about it."""

    channel: str
    name: str
    interval: int
    options: UpgradeOptions


def wish(request: Request) -> Wish:
    query = parse_qs(request.query() or "", keep_blank_values=True)
    return Wish(
        channel=query.get("channel", ["quickstart"])[0],
        name=query.get("name", [""])[0],
        interval=milliseconds("interval-ms", 2000),
        options=UpgradeOptions(origins("allowed-origins"), None, None),
    )


def message(name: str, data: str) -> Message:
    return Message(event=None, id=None, event_type=name, data=Payload_Text(data), retry=None)


def wants_events(request: Request) -> bool:
    """Answers what is no request for the stream. False: it is answered."""
    method, path = request.method(), request.path()
    if path == "/events" and method in ("GET", "OPTIONS"):
        # OPTIONS too: a browser may ask before it opens a stream of another origin, and the host answers it.
        return True
    if path == "/" and method in ("GET", "HEAD"):
        respond(request, 200, PAGE, ("content-type", b"text/html; charset=utf-8"))
    elif method == "GET":
        respond(request, 404, b"not found\n")
    else:
        respond(request, 405, b"allowed here: GET\n", ("allow", b"GET"))
    return False


def respond(request: Request, status: int, body: bytes, *headers: tuple[str, bytes]) -> None:
    if not any(name == "content-type" for name, _ in headers):
        headers = (("content-type", b"text/plain; charset=utf-8"), *headers)
    request.respond(Response(status, list(headers), body))


def variable(name: str) -> str | None:
    """A variable of the app. An error of `wasi:config` is of another type than those of the contract."""
    try:
        return store.get(name)
    except Err as error:
        raise Err(Error_Other(error.value.value)) from error


def milliseconds(name: str, otherwise: int) -> int:
    """A variable in milliseconds. The error does not name the value, which could be a secret."""
    value = variable(name)
    if value is None:
        return otherwise
    try:
        number = int(value)
    except ValueError:
        number = -1
    if not 0 <= number < 2**64:
        raise Err(Error_Invalid(f"the app's variable `{name}`: not a number of milliseconds"))
    return number


def origins(name: str) -> list[str] | None:
    """The parts of a variable that is separated by commas; None where there are none."""
    parts = (part.strip() for part in (variable(name) or "").split(","))
    return [part for part in parts if part] or None
