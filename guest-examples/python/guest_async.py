"""The guest of guest.py for the asynchronous world: many handlers wait in one instance."""

from componentize_py_types import Err
from quickstart import Wish, message, variable, wants_events, wish
from wit_world import exports
from wit_world.imports import closing_async, connections, publishing_async, redis_async, registry
from wit_world.imports.connections import Connection
from wit_world.imports.errors import Error_NotFound
from wit_world.imports.publishers import Publisher
from wit_world.imports.requests import Request


class LifecycleAsync(exports.LifecycleAsync):
    async def start(self) -> None:
        if registry.has("publisher"):
            return
        url = variable("redis-url")
        if url is None:
            publisher = Publisher.in_memory()
        else:
            publisher = Publisher.redis(await redis_async.connect(url), "quickstart")
        await publishing_async.start(publisher)
        registry.set_publisher("publisher", publisher)


class HandlerAsync(exports.HandlerAsync):
    async def handle(self, request: Request) -> None:
        if wants_events(request):
            await events(request, wish(request))


async def events(request: Request, wish: Wish) -> None:
    stream = connections.upgrade(request, wish.options)
    try:
        publisher = registry.get_publisher("publisher")
        await publishing_async.register(publisher, stream, wish.channel)
        await count_to_ten(publisher, stream, wish)
    except BaseException:
        # A stream that hears a channel outlives its handler: after a mistake nobody else would close it.
        stream.close()
        raise


async def count_to_ten(publisher: Publisher, stream: Connection, wish: Wish) -> None:
    for index in range(10):
        await publishing_async.publish(publisher, wish.channel, message(wish.name, str(index)))
        # A pause that ends when the client leaves; then there is a reason. `asyncio.sleep` would trap.
        if await closing_async.closed(stream, wish.interval) is not None:
            return
    try:
        await publishing_async.remove(publisher, stream.id(), wish.channel)
    except Err as error:
        # The client may leave at any moment, this one included.
        if not isinstance(error.value, Error_NotFound):
            raise
