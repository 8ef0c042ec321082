"""Ten events, two seconds apart, for everybody who opens the stream: what ../rust/quickstart does, in Python."""

from componentize_py_types import Err
from quickstart import Wish, message, variable, wants_events, wish
from wit_world import exports
from wit_world.imports import closing, connections, publishing, redis, registry
from wit_world.imports.connections import Connection
from wit_world.imports.errors import Error_NotFound
from wit_world.imports.publishers import Publisher
from wit_world.imports.requests import Request


class Lifecycle(exports.Lifecycle):
    def start(self) -> None:
        if registry.has("publisher"):
            return
        url = variable("redis-url")
        publisher = Publisher.in_memory() if url is None else Publisher.redis(redis.connect(url), "quickstart")
        publishing.start(publisher)
        registry.set_publisher("publisher", publisher)


class Handler(exports.Handler):
    def handle(self, request: Request) -> None:
        if wants_events(request):
            events(request, wish(request))


def events(request: Request, wish: Wish) -> None:
    stream = connections.upgrade(request, wish.options)
    try:
        publisher = registry.get_publisher("publisher")
        publishing.register(publisher, stream, wish.channel)
        count_to_ten(publisher, stream, wish)
    except BaseException:
        # A stream that hears a channel outlives its handler: after a mistake nobody else would close it.
        stream.close()
        raise


def count_to_ten(publisher: Publisher, stream: Connection, wish: Wish) -> None:
    for index in range(10):
        publishing.publish(publisher, wish.channel, message(wish.name, str(index)))
        # A pause that ends when the client leaves; then there is a reason.
        if closing.closed(stream, wish.interval) is not None:
            return
    try:
        publishing.remove(publisher, stream.id(), wish.channel)
    except Err as error:
        # The client may leave at any moment, this one included.
        if not isinstance(error.value, Error_NotFound):
            raise
