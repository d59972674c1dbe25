"""The peer that people have: `podman pull` from a registry on this host, then `podman run`, with storage of its own."""

from __future__ import annotations

import gzip
import hashlib
import json
import shutil
import socket
import subprocess
import tarfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.hosts import PATH, PAUSE
from jiffy.errors import JiffyError, UnsupportedError
from jiffy.fs.mount import private_mount_namespace
from jiffy.runtime.oci import hide_empty_hierarchy

PROGRAMS: Final = ("podman", "docker-registry", "skopeo")
_NAME: Final = "bench/image:latest"
_READY_SECONDS: Final = 10.0
_LIMITS: Final = ("--ulimit=nofile=1024:1024", "--ulimit=nproc=1024:1024")
"""Podman's own are above what a process without CAP_SYS_RESOURCE may have."""


@dataclass(frozen=True, slots=True)
class Pulled:
    """Milliseconds."""

    pull: float
    run: float


@contextmanager
def serve_registry(folder: Path) -> Iterator[int]:
    """The port of a registry on the loopback. Raises UnsupportedError when one of the programs is missing."""
    for program in PROGRAMS:
        if shutil.which(program) is None:
            raise UnsupportedError(f"{program} is not installed", hint=f"apt install {' '.join(PROGRAMS)}")
    folder.mkdir(parents=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    configuration = folder / "registry.yml"
    settings = {
        "version": "0.1",
        "log": {"level": "error", "accesslog": {"disabled": True}},
        "storage": {"filesystem": {"rootdirectory": str(folder / "registry")}},
        "http": {"addr": f"127.0.0.1:{port}"},
    }
    configuration.write_text(json.dumps(settings))
    with subprocess.Popen(["docker-registry", "serve", str(configuration)], stderr=subprocess.DEVNULL) as registry:
        try:
            _await(f"http://127.0.0.1:{port}/v2/")
            yield port
        finally:
            registry.terminate()


def push_image(layers: Sequence[Path], folder: Path, port: int) -> None:
    """Push an image whose layers have the content of these folders, bottom first."""
    blobs = folder / "image" / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    packed = [_pack(layer, blobs) for layer in layers]
    configuration = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Env": [f"PATH={PATH}"]},
        "rootfs": {"type": "layers", "diff_ids": [content for content, _ in packed]},
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": _put(json.dumps(configuration).encode(), "application/vnd.oci.image.config.v1+json", blobs),
        "layers": [descriptor for _, descriptor in packed],
    }
    described = _put(json.dumps(manifest).encode(), "application/vnd.oci.image.manifest.v1+json", blobs)
    (folder / "image" / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [described]}))
    (folder / "image" / "oci-layout").write_text(json.dumps({"imageLayoutVersion": "1.0.0"}))
    _run(
        "skopeo",
        "copy",
        "--quiet",
        "--dest-tls-verify=false",
        f"oci:{folder / 'image'}",
        f"docker://127.0.0.1:{port}/{_NAME}",
    )


def pull_and_run(folder: Path, port: int, argv: Sequence[str]) -> Pulled:
    """On storage that is empty before, and is left to be deleted by the caller."""
    time.sleep(PAUSE)
    storage = folder / f"storage-{time.monotonic_ns()}"
    roots = ("--root", str(storage / "root"), "--runroot", str(storage / "run"))
    podman = ("podman", *roots, "--storage-driver", "overlay", "--cgroup-manager", "cgroupfs")
    image = f"127.0.0.1:{port}/{_NAME}"
    started = time.perf_counter()
    _run_apart(storage, *podman, "pull", "--quiet", "--tls-verify=false", image)
    pulled = time.perf_counter()
    _run_apart(storage, *podman, "run", "--rm", "--cgroups=disabled", "--network=none", *_LIMITS, image, *argv)
    return Pulled((pulled - started) * 1000, (time.perf_counter() - pulled) * 1000)


class Storage:
    """Podman's own place for images, empty at first; the caller deletes it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / f"storage-{time.monotonic_ns()}"
        roots = ("--root", str(self._folder / "root"), "--runroot", str(self._folder / "run"))
        self._podman = ("podman", *roots, "--storage-driver", "overlay", "--cgroup-manager", "cgroupfs")

    def pull(self, image: str) -> float:
        """Seconds."""
        started = time.perf_counter()
        _run_apart(self._folder, *self._podman, "pull", "--quiet", "--tls-verify=false", image)
        return time.perf_counter() - started

    def run(self, image: str, argv: Sequence[str]) -> float:
        """Seconds."""
        started = time.perf_counter()
        options = ("--rm", "--cgroups=disabled", "--network=none", *_LIMITS)
        _run_apart(self._folder, *self._podman, "run", *options, image, *argv)
        return time.perf_counter() - started

    def build(self, folder: Path, tag: str) -> tuple[float, str]:
        """Seconds, and what the steps printed. Steps have the host's network and certificates."""
        started = time.perf_counter()
        certificates = "/etc/ssl/certs:/etc/ssl/certs:ro"
        options = (
            "--isolation=chroot",
            "--network=host",
            "--no-cache",
            "--layers",
            "--volume",
            certificates,
            "-t",
            tag,
        )
        output = _run_apart(self._folder, *self._podman, "build", *options, *_LIMITS, str(folder))
        return time.perf_counter() - started, output


def _pack(layer: Path, blobs: Path) -> tuple[str, dict[str, object]]:
    """The digest of the layer as a tar archive, and the description of it compressed."""
    archive, compressed = blobs.parent / "layer.tar", blobs.parent / "layer.tar.gz"
    with tarfile.open(archive, "w") as tar:
        tar.add(layer, arcname=".")
    with archive.open("rb") as source:
        content = hashlib.file_digest(source, "sha256").hexdigest()
        source.seek(0)
        with gzip.open(compressed, "wb", compresslevel=6) as target:
            shutil.copyfileobj(source, target, 2**20)
    archive.unlink()
    with compressed.open("rb") as source:
        digest = hashlib.file_digest(source, "sha256").hexdigest()
    size = compressed.stat().st_size
    compressed.rename(blobs / digest)
    kind = "application/vnd.oci.image.layer.v1.tar+gzip"
    return f"sha256:{content}", {"mediaType": kind, "digest": f"sha256:{digest}", "size": size}


def _put(data: bytes, kind: str, blobs: Path) -> dict[str, object]:
    digest = hashlib.sha256(data).hexdigest()
    (blobs / digest).write_bytes(data)
    return {"mediaType": kind, "digest": f"sha256:{digest}", "size": len(data)}


def _run_apart(storage: Path, *command: str) -> str:
    """What it printed. Where its mounts are its own, and crun finds a layout of control groups that it likes."""
    scratch = storage / "groups"
    scratch.mkdir(parents=True, exist_ok=True)

    def enter() -> None:
        private_mount_namespace()
        hide_empty_hierarchy(scratch)

    done = subprocess.run(command, capture_output=True, text=True, check=False, preexec_fn=enter)
    _check(command, done)
    return done.stdout + done.stderr


def _run(*command: str) -> None:
    _check(command, subprocess.run(command, capture_output=True, text=True, check=False))


def _check(command: Sequence[str], done: subprocess.CompletedProcess[str]) -> None:
    if done.returncode != 0:
        raise JiffyError(f"{command[0]} failed", why=done.stderr.strip()[-300:])


def _await(url: str) -> None:
    deadline = time.monotonic() + _READY_SECONDS
    while True:
        try:
            with urllib.request.urlopen(url, timeout=1):
                return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
