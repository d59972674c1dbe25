"""Container registries for tests: Debian's docker-registry on a free port of the loopback."""

from __future__ import annotations

import json
import os
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import bcrypt

from tests.servers import free_port


@dataclass(frozen=True, slots=True)
class RegistryUnderTest:
    """`host` is its address as references have it; `blobs` the folder of what was pushed."""

    host: str
    process: subprocess.Popen[bytes]
    folder: Path

    @property
    def url(self) -> str:
        return f"http://{self.host}"

    def copy(self, source: str, name: str, *options: str) -> None:
        """Push an image that skopeo reads, such as oci:FOLDER."""
        command = ["skopeo", "copy", "--insecure-policy", "--dest-tls-verify=false", *options]
        subprocess.run([*command, source, f"docker://{self.host}/{name}"], check=True, capture_output=True)

    def inspect(self, name: str) -> dict[str, object]:
        """What skopeo says of an image."""
        command = ["skopeo", "inspect", "--tls-verify=false", f"docker://{self.host}/{name}"]
        told: dict[str, object] = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
        return told


@contextmanager
def run_registry(folder: Path, login: tuple[str, str] | None = None) -> Iterator[RegistryUnderTest]:
    """A registry that keeps its blobs in a folder; with a login, only who knows it may read or write."""
    folder.mkdir()
    port = free_port()
    settings: dict[str, object] = {
        "version": "0.1",
        "log": {"level": "error"},
        "storage": {"filesystem": {"rootdirectory": str(folder / "blobs")}},
        "http": {"addr": f"127.0.0.1:{port}"},
    }
    if login is not None:
        password = bcrypt.hashpw(login[1].encode(), bcrypt.gensalt(4)).decode()
        (folder / "passwords").write_text(f"{login[0]}:{password}\n")
        settings["auth"] = {"htpasswd": {"realm": "test", "path": str(folder / "passwords")}}
    (folder / "config.json").write_text(json.dumps(settings))
    process = subprocess.Popen(
        ["docker-registry", "serve", folder / "config.json"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "OTEL_TRACES_EXPORTER": "none"},
    )
    try:
        registry = RegistryUnderTest(f"127.0.0.1:{port}", process, folder)
        _await(registry)
        yield registry
    finally:
        process.kill()
        process.wait()


def _await(registry: RegistryUnderTest) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            urllib.request.urlopen(f"{registry.url}/v2/", timeout=1)
            return
        except urllib.error.HTTPError:
            return
        except OSError:
            time.sleep(0.05)
    raise TimeoutError("the registry does not answer")
