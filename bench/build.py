"""What a build costs beyond what its step does: one small package installed with pip on an image of 500 MB, from the
client's call until the image is there, less the time that pip took. Beside it, the same step with `podman build`."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import Final

from bench.figures import Figure, Report
from bench.hosts import scratch_directory
from bench.podman import Storage, serve_registry
from jiffy.cli.running import find_server
from jiffy.datadir import DataDirectory
from jiffy.errors import JiffyError, UnsupportedError

_BASE: Final = "scikit-learn"
_STEP: Final = (
    "date +at-%s.%N; python3 -m pip install --no-cache-dir --disable-pip-version-check six==1.16.0; date +at-%s.%N; : "
)
_PROGRAM: Final = """
import time
import modal

base = modal.Image.debian_slim().pip_install("{base}")
app = modal.App("bench-build")

@app.local_entrypoint()
def main(step: str):
    base.build(app)
    print("base", base.object_id)
    started = time.time()
    base.run_commands(step).build(app)
    print("took", time.time() - started)
"""
_TIME: Final = re.compile(r"^(?:.*[ \t])?at-(\d+\.\d+)$", re.M)


def run(data: DataDirectory, samples: int) -> Report:
    """Needs root, and a server that runs on the data directory; podman, docker-registry and skopeo for the peer."""
    with scratch_directory(data) as scratch:
        program = scratch.root / "program.py"
        program.write_text(_PROGRAM.format(base=_BASE))
        base, *_ = _build(data, program)
        ours, pips = [], []
        for _ in range(samples):
            _, overhead, pip = _build(data, program)
            ours.append(overhead)
            pips.append(pip)
        peers = _measure_podman(data, scratch.root, base, samples)
    figures = [Figure("a build beyond its step", "s", ours, "one second", [1.0] * samples, 1.0)]
    figures.append(Figure("a build beyond its step", "s", ours, "pip itself", pips))
    if peers:
        figures.append(Figure("a build beyond its step", "s", ours, "podman build beyond its step", peers))
    return Report(figures)


def _build(data: DataDirectory, program: Path) -> tuple[str, float, float]:
    """The base's id, the seconds beyond the step, and those of the step."""
    server = find_server(data)
    variables = {
        **os.environ,
        "MODAL_SERVER_URL": server.url,
        "MODAL_TOKEN_ID": server.token_id,
        "MODAL_TOKEN_SECRET": server.token_secret,
    }
    command = [sys.executable, "-m", "modal", "run", str(program), "--step", _STEP + uuid.uuid4().hex]
    done = subprocess.run(command, env=variables, capture_output=True, text=True, check=False)
    took = re.search(r"^took (\S+)$", done.stdout, re.M)
    base = re.search(r"^base (\S+)$", done.stdout, re.M)
    if done.returncode or took is None or base is None:
        raise JiffyError("the build failed", why=(done.stdout + done.stderr)[-500:])
    step = _step_seconds(done.stdout)
    return base[1], float(took[1]) - step, step


def _step_seconds(output: str) -> float:
    """Between the two times that the step printed last."""
    first, last = [float(text) for text in _TIME.findall(output)][-2:]
    return last - first


def _measure_podman(data: DataDirectory, scratch: Path, base: str, samples: int) -> list[float]:
    try:
        with serve_registry(scratch / "registry") as port:
            name = f"127.0.0.1:{port}/bench/build:1"
            command = [sys.executable, "-m", "jiffy", "image", "push", base, name, "--data", str(data.root)]
            subprocess.run(command, check=True, capture_output=True)
            storage = Storage(scratch)
            storage.pull(name)
            return [_build_with_podman(storage, scratch / "context", name) for _ in range(samples)]
    except UnsupportedError:
        return []


def _build_with_podman(storage: Storage, context: Path, name: str) -> float:
    context.mkdir(exist_ok=True)
    certificate = "ENV PIP_CERT=/etc/ssl/certs/ca-certificates.crt"
    nonce = json.dumps(str(time.time()))
    (context / "Containerfile").write_text(f"FROM {name}\n{certificate}\nRUN {_STEP} {nonce}\n")
    took, output = storage.build(context, "bench-built")
    return took - _step_seconds(output)
