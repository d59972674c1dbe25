"""Where one jiffy instance keeps everything, and the names it uses on its host."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path


def default_data_directory() -> Path:
    """JIFFY_DATA, else /var/lib/jiffy for root, else the user's own data folder."""
    if configured := os.environ.get("JIFFY_DATA"):
        return Path(configured)
    if os.geteuid() == 0:
        return Path("/var/lib/jiffy")
    return Path(os.environ.get("XDG_DATA_HOME", "~/.local/share")).expanduser() / "jiffy"


def read_token(path: Path) -> str:
    """`id:secret` from a token file."""
    token = json.loads(path.read_text())
    return f"{token['token_id']}:{token['token_secret']}"


@dataclass(frozen=True, slots=True)
class DataDirectory:
    """The layout of a data directory. Everything is on one filesystem, so that rename publishes."""

    root: Path

    @property
    def instance(self) -> str:
        """Six hex digits that name this instance on the host: namespaces, cgroups, interfaces, tables."""
        return hashlib.sha256(os.fsencode(self.root.resolve())).hexdigest()[:6]

    @property
    def database(self) -> Path:
        return self.root / "jiffy.db"

    @property
    def objects(self) -> Path:
        """Complete, verified objects: aa/bbcc..., named by their sha256."""
        return self.root / "objects"

    @property
    def incoming(self) -> Path:
        """Objects being written; emptied at start."""
        return self.root / "incoming"

    @property
    def partial(self) -> Path:
        """Large objects of which some chunks are here."""
        return self.root / "partial"

    @property
    def containers(self) -> Path:
        """One folder per live container: upper, work."""
        return self.root / "containers"

    @property
    def layers(self) -> Path:
        """What imported layers change, by their digests."""
        return self.root / "layers"

    @property
    def remote(self) -> Path:
        """Descriptions of layers that stay in their registries, some with a password."""
        return self.root / "remote"

    @property
    def caches(self) -> Path:
        """Folders that steps of builds leave for later ones."""
        return self.root / "caches"

    @property
    def mounts(self) -> Path:
        """Where the worker mounts what containers share; the mounts themselves only it can see."""
        return self.root / "mounts"

    @property
    def runtime(self) -> Path:
        """Where the worker, in memory, has containers' bundles and what the OCI runtime remembers of them. Only it can see
        what is there, and it goes with it."""
        return self.root / "runtime"

    @property
    def roots(self) -> Path:
        """Where the worker mounts containers' roots, in memory too."""
        return self.runtime / "roots"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    @property
    def token(self) -> Path:
        """The first token, minted by `jiffy serve`: JSON, readable by its owner only."""
        return self.root / "token.json"

    @property
    def synced(self) -> Path:
        """When the objects of a cache were synced last."""
        return self.root / "synced.json"

    @property
    def layer_use(self) -> Path:
        """When each layer was last part of a root."""
        return self.root / "layers.json"

    @property
    def quarantine(self) -> Path:
        """Objects whose bytes were wrong and could not be had anew."""
        return self.root / "quarantine"

    @property
    def signing_key(self) -> Path:
        """Signs the short-lived tokens that clients are given; readable by its owner only."""
        return self.root / "signing.key"

    @property
    def certificate(self) -> Path:
        """Of the server's gate, with its key; readable by its owner only."""
        return self.root / "gate.pem"

    def container_socket(self, service: str) -> Path:
        """Where the server answers containers of workers elsewhere, by `grpc` or `http`: for the gate. By `channel` it takes
        connections to containers."""
        return self.root / f"containers-{service}.sock"

    @property
    def join_token(self) -> Path:
        """The token with which a worker joined a server elsewhere: JSON, readable by its owner only."""
        return self.root / "join.json"

    @property
    def server_lock(self) -> Path:
        """Held by `jiffy serve`; its content is the pid, as of the other locks."""
        return self.root / "server.lock"

    @property
    def serving_lock(self) -> Path:
        """Held by the process that answers."""
        return self.root / "serving.lock"

    @property
    def worker_lock(self) -> Path:
        """Held by the worker that runs here."""
        return self.root / "worker.lock"

    @property
    def workers(self) -> Path:
        """Ids of the workers that ran here, the last one first: JSON."""
        return self.root / "workers.json"

    @property
    def address(self) -> Path:
        """Where the running server listens: JSON, removed when it stops."""
        return self.root / "server.json"

    def create(self) -> None:
        """Make the folders. Only the owner may enter: the store holds secrets."""
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        for folder in self._folders():
            folder.mkdir(exist_ok=True)

    def _folders(self) -> tuple[Path, ...]:
        return (
            self.objects,
            self.incoming,
            self.partial,
            self.containers,
            self.layers,
            self.remote,
            self.caches,
            self.mounts,
            self.runtime,
            self.logs,
        )
