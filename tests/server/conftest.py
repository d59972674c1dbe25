from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import pytest
from grpclib.client import Channel
from modal_proto import api_grpc

from jiffy.datadir import DataDirectory
from jiffy.objects.local import LocalObjects
from jiffy.server.listeners import Listeners, open_listener
from jiffy.server.serve import run_server
from jiffy.store.stores import Stores, open_stores
from tests.objects.conftest import make_objects


@pytest.fixture
def objects(tmp_path: Path) -> LocalObjects:
    return make_objects(tmp_path / "store")


@pytest.fixture
def stores(tmp_path: Path) -> Iterator[Stores]:
    opened = open_stores(tmp_path / "jiffy.db")
    yield opened
    opened.close()


@dataclass
class Api:
    """A server in this process, without workers, and a channel to it. `metadata` is a client's."""

    data: DataDirectory
    listeners: Listeners
    channel: Channel
    stub: Any
    metadata: dict[str, str]

    @property
    def http_url(self) -> str:
        return self.listeners.http_url

    def keyed(self, key: str) -> dict[str, str]:
        """The metadata of a request that may be repeated."""
        return {**self.metadata, "x-idempotency-key": key}


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Api]:
    data = DataDirectory(tmp_path / "data")
    data.create()
    with open_listener("127.0.0.1", 0) as grpc, open_listener("127.0.0.1", 0) as http:
        listeners = Listeners(grpc, http)
        async with run_server(data, listeners):
            address = urlparse(listeners.url)
            channel = Channel(address.hostname, address.port)
            token = json.loads(data.token.read_text())
            metadata = {
                "x-modal-token-id": token["token_id"],
                "x-modal-token-secret": token["token_secret"],
                "x-modal-client-version": "1.6.4",
                "x-modal-host": f"127.0.0.1:{address.port}",
            }
            yield Api(data, listeners, channel, api_grpc.ModalClientStub(channel), metadata)
            channel.close()
