"""Registries are asked as their specification says, also when they are slow to answer, break off, or want a login."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest
from aiohttp import web

from jiffy.errors import CorruptError, InvalidError, NotFoundError, UnauthenticatedError, UnavailableError
from jiffy.image.manifest import Descriptor
from jiffy.image.reference import parse_reference
from jiffy.image.registry import Credentials, Registry

BLOB = bytes(range(256)) * 4096
DIGEST = f"sha256:{hashlib.sha256(BLOB).hexdigest()}"
MANIFEST = b'{"schemaVersion":2}'


@dataclass
class Peer:
    """A registry that does what a test wants: `cuts` answers break off, `failures` are errors, `scheme` wants a login."""

    port: int = 0
    cuts: int = 0
    failures: int = 0
    scheme: str = ""
    asked: list[str] = field(default_factory=list)
    uploaded: dict[str, bytes] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return f"127.0.0.1:{self.port}/some/name"

    def registry(self, credentials: Credentials | None = None, *, can_push: bool = False) -> Registry:
        return Registry(parse_reference(f"{self.name}:1"), credentials, can_push=can_push)

    @web.middleware
    async def guard(self, request: web.Request, handler: object) -> web.StreamResponse:
        login = request.headers.get("Authorization", "")
        self.asked.append(f"{request.method} {request.path} {request.headers.get('Range', '')}".strip())
        if request.path == "/token":
            known = base64.b64encode(b"me:sesame").decode()
            if login not in ("", f"Basic {known}"):
                return web.Response(status=401)
            return web.json_response({"token": "secret" if login else "anonymous"})
        wanted = {"Bearer": "Bearer secret", "Basic": f"Basic {base64.b64encode(b'me:sesame').decode()}"}
        if self.scheme and login != wanted[self.scheme]:
            realm = f'{self.scheme} realm="http://127.0.0.1:{self.port}/token",service="here",scope="repository:some/name:pull"'
            errors = {"errors": [{"code": "UNAUTHORIZED", "message": "log in first"}]}
            return web.json_response(errors, status=401, headers={"WWW-Authenticate": realm})
        if self.failures:
            self.failures -= 1
            return web.Response(status=503)
        answer: web.StreamResponse = await handler(request)  # type: ignore[operator]
        return answer

    async def blob(self, request: web.Request) -> web.StreamResponse:
        start = int(request.headers.get("Range", "bytes=0-")[6:].split("-")[0])
        end = request.headers.get("Range", "").rpartition("-")[2]
        data = BLOB[start : int(end) + 1 if end else None]
        if self.cuts:
            self.cuts -= 1
            response = web.StreamResponse(status=206 if start else 200, headers={"Content-Length": str(len(data))})
            await response.prepare(request)
            await response.write(data[: len(data) // 2])
            assert request.transport is not None
            request.transport.abort()
            return response
        return web.Response(status=206 if "Range" in request.headers else 200, body=data)

    async def manifest(self, request: web.Request) -> web.StreamResponse:
        if request.match_info["name"] == "nothing":
            return web.json_response({"errors": [{"message": "manifest unknown"}]}, status=404)
        return web.Response(body=MANIFEST, content_type="application/vnd.oci.image.manifest.v1+json")

    async def begin(self, request: web.Request) -> web.StreamResponse:
        return web.Response(status=202, headers={"Location": "/v2/upload?state=a%2Fb"})

    async def upload(self, request: web.Request) -> web.StreamResponse:
        self.uploaded[request.query["digest"]] = await request.read()
        assert request.query["state"] == "a/b"
        return web.Response(status=201)

    async def missing(self, request: web.Request) -> web.StreamResponse:
        return web.Response(status=404)


@pytest.fixture
async def peer() -> AsyncIterator[Peer]:
    peer = Peer()
    application = web.Application(middlewares=[peer.guard], client_max_size=2**30)
    application.router.add_get("/token", peer.missing)
    application.router.add_get("/v2/some/name/blobs/{digest}", peer.blob, allow_head=False)
    application.router.add_head("/v2/some/name/blobs/{digest}", peer.missing)
    application.router.add_get("/v2/some/name/manifests/{name}", peer.manifest)
    application.router.add_post("/v2/some/name/blobs/uploads/", peer.begin)
    application.router.add_put("/v2/upload", peer.upload)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    peer.port = runner.addresses[0][1]
    yield peer
    await runner.cleanup()


async def read(registry: Registry) -> bytes:
    return b"".join([chunk async for chunk in registry.stream(Descriptor("", DIGEST, len(BLOB)))])


async def test_a_manifest_is_had_with_its_digest(peer: Peer) -> None:
    async with peer.registry() as registry:
        fetched = await registry.manifest("1")
    assert fetched.data == MANIFEST and fetched.digest == f"sha256:{hashlib.sha256(MANIFEST).hexdigest()}"


async def test_a_manifest_with_another_digest_is_refused(peer: Peer) -> None:
    async with peer.registry() as registry:
        with pytest.raises(CorruptError, match="has the wrong manifest"):
            await registry.manifest(DIGEST)


async def test_what_a_registry_does_not_know_is_told_in_its_words(peer: Peer) -> None:
    async with peer.registry() as registry:
        with pytest.raises(NotFoundError, match="manifest unknown"):
            await registry.manifest("nothing")


async def test_a_blob_that_breaks_off_is_taken_up_where_it_was(peer: Peer) -> None:
    peer.cuts = 2
    async with peer.registry() as registry:
        assert await read(registry) == BLOB
    ranges = [asked.rpartition(" ")[2] for asked in peer.asked]
    assert ranges[1].startswith("bytes=") and ranges[2] > ranges[1]


async def test_a_registry_that_fails_for_a_while_is_asked_again(peer: Peer) -> None:
    peer.failures = 2
    async with peer.registry() as registry:
        assert await read(registry) == BLOB


async def test_one_that_goes_on_failing_is_given_up(peer: Peer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jiffy.image.registry._FIRST_PAUSE", 0.001)
    peer.failures = 1000
    async with peer.registry() as registry:
        with pytest.raises(UnavailableError, match="answered 503"):
            await read(registry)


async def test_one_that_is_not_there_is_told_with_what_to_do() -> None:
    async with Registry(parse_reference("127.0.0.1:9/x")) as registry:
        with pytest.raises(UnavailableError, match="--registry-mirror"):
            await registry.manifest("1")


async def test_a_part_of_a_blob_is_had(peer: Peer) -> None:
    async with peer.registry() as registry:
        assert await registry.read(DIGEST, 10, 5) == BLOB[10:15]


async def test_a_part_that_breaks_off_is_asked_for_again(peer: Peer) -> None:
    async with peer.registry() as registry:
        peer.cuts = 2
        assert await registry.read(DIGEST, 10, 5000) == BLOB[10:5010]
        peer.failures = 3
        with pytest.raises(UnavailableError, match="503"):
            await registry.read(DIGEST, 10, 5)


async def test_a_small_blob_is_verified(peer: Peer) -> None:
    async with peer.registry() as registry:
        assert await registry.blob(Descriptor("", DIGEST, len(BLOB)), 2**21) == BLOB
        with pytest.raises(CorruptError):
            await registry.blob(Descriptor("", "sha256:" + "0" * 64, len(BLOB)), 2**21)
        with pytest.raises(InvalidError):
            await registry.blob(Descriptor("", DIGEST, len(BLOB)), 10)


async def test_one_that_is_longer_than_announced_is_refused(peer: Peer) -> None:
    async with peer.registry() as registry:
        with pytest.raises(CorruptError, match="longer than announced"):
            async for _ in registry.stream(Descriptor("", DIGEST, 100)):
                pass


@pytest.mark.parametrize("scheme", ["Bearer", "Basic"])
async def test_a_login_is_given_when_it_is_wanted(peer: Peer, scheme: str) -> None:
    peer.scheme = scheme
    async with peer.registry(Credentials("me", "sesame")) as registry:
        assert (await registry.manifest("1")).data == MANIFEST
        asked = len(peer.asked)
        await registry.manifest("1")
        assert len(peer.asked) == asked + 1, "a login holds"


@pytest.mark.parametrize("credentials", [None, Credentials("me", "wrong")])
@pytest.mark.parametrize("scheme", ["Bearer", "Basic"])
async def test_a_wrong_login_is_told_without_the_password(
    peer: Peer, scheme: str, credentials: Credentials | None
) -> None:
    peer.scheme = scheme
    async with peer.registry(credentials) as registry:
        with pytest.raises(UnauthenticatedError) as caught:
            await registry.manifest("1")
    assert "wrong" not in str(caught.value)


async def test_a_blob_is_uploaded_to_where_the_registry_says(peer: Peer) -> None:
    async def content() -> AsyncIterator[bytes]:
        yield BLOB

    async with peer.registry(can_push=True) as registry:
        await registry.upload(Descriptor("", DIGEST, len(BLOB)), content)
    assert peer.uploaded == {DIGEST: BLOB}


async def test_a_mirror_is_asked_in_place_of_a_host(peer: Peer) -> None:
    mirrors = {"registry.example.com": f"http://127.0.0.1:{peer.port}"}
    async with Registry(parse_reference("registry.example.com/some/name:1"), None, mirrors) as registry:
        assert (await registry.manifest("1")).data == MANIFEST
