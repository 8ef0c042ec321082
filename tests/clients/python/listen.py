"""Listens with httpx-sse and prints what it hears, a line of JSON each, until the server ends the stream:

    python listen.py URL [LAST-EVENT-ID]
"""

import json
import sys

import httpx
from httpx_sse import connect_sse

headers = {"last-event-id": sys.argv[2]} if len(sys.argv) > 2 else {}
with httpx.Client(timeout=20, trust_env=False) as client:
    with connect_sse(client, "GET", sys.argv[1], headers=headers) as source:
        for event in source.iter_sse():
            line = {"type": event.event, "data": event.data, "id": event.id}
            print(json.dumps(line), flush=True)
