"""Images as programs describe them, built by the server: one real program for each way."""

from __future__ import annotations

import hashlib
import io
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import zstandard
from modal.mount import PYTHON_STANDALONE_VERSIONS

from tests.conftest import ProgramFolder
from tests.oci import LayoutWriter, Member, make_layer
from tests.registries import RegistryUnderTest
from tests.servers import Outcome, ServerUnderTest

HEAD = """
import os, subprocess, sys
from pathlib import Path
import modal

slim = modal.Image.debian_slim()
app = modal.App("built")

def read(path):
    return Path(path).read_text().strip()
"""

TAIL = """
@app.function(image=image)
def look():
    return inside()

@app.local_entrypoint()
def main():
    print("inside:", repr(look.remote()))
"""


class Programs:
    """Runs a program whose `image` is built, and whose `inside` says what a container of it sees."""

    def __init__(self, server: ServerUnderTest, program: ProgramFolder) -> None:
        self._server = server
        self._program = program

    def write(self, text: str, name: str = "program.py") -> Path:
        (self._program.folder / name).parent.mkdir(parents=True, exist_ok=True)
        return self._program(text, name)

    def run(self, image: str, inside: str, **variables: str) -> Outcome:
        text = HEAD + image + f"\n\ndef inside():\n    return {inside}\n" + TAIL
        return self._server.run(self.write(text), **variables)

    def check(self, image: str, inside: str, expected: object, **variables: str) -> Outcome:
        outcome = self.run(image, inside, **variables)
        assert outcome.code == 0, outcome.output
        assert f"inside: {expected!r}" in outcome.output, outcome.output
        return outcome


@pytest.fixture
def no_python_image(registry: RegistryUnderTest, python_layout: LayoutWriter) -> str:
    """An image of Debian from which Python was removed."""
    gone = make_layer(
        *[Member(f"usr/{folder}.wh.python3.11") for folder in ("bin/", "lib/")], Member("usr/local/bin/.wh.python")
    )
    base = zstandard.decompress(python_layout.layers[0].read_bytes(), 2**30)
    python_layout.image([base, gone], name="no-python", compression="zstd")
    registry.copy(f"oci:{python_layout.root}:no-python", "example/no-python:1")
    return f"{registry.host}/example/no-python:1"


@pytest.fixture
def pythons(tmp_path: Path, python_layout: LayoutWriter) -> Iterator[str]:
    """A server with a release of relocatable Pythons: Debian's own, moved to another place."""
    base = zstandard.decompress(python_layout.layers[0].read_bytes(), 2**30)
    release, version = PYTHON_STANDALONE_VERSIONS["2026.10"]["3.11"]
    folder = tmp_path / "releases" / release
    folder.mkdir(parents=True)
    file = folder / f"cpython-{version}+{release}-x86_64-unknown-linux-gnu-install_only.tar.gz"
    with tarfile.open(fileobj=io.BytesIO(base)) as root, tarfile.open(file, "w:gz", compresslevel=1) as archive:
        for member in root:
            if member.name.startswith(("usr/lib/python3.11", "usr/bin/python3.11")):
                content = root.extractfile(member) if member.isreg() else None
                member.name = member.name.replace("usr/", "python/", 1)
                archive.addfile(member, content)
        link = tarfile.TarInfo("python/bin/python")
        link.type, link.linkname = tarfile.SYMTYPE, "python3.11"
        archive.addfile(link)
    checksum = hashlib.sha256(file.read_bytes()).hexdigest()
    (folder / "SHA256SUMS").write_text(f"{checksum}  {file.name}\n")
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(SimpleHTTPRequestHandler, directory=folder.parent)) as served:
        threading.Thread(target=served.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{served.server_port}"
        served.shutdown()


@pytest.fixture
def programs(server: ServerUnderTest, program: ProgramFolder) -> Programs:
    return Programs(server, program)


def download(package: str, folder: Path) -> Path:
    """A wheel, from the package index."""
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", str(folder), package]
    subprocess.run(command, check=True, timeout=120)
    (wheel,) = folder.iterdir()
    return wheel


def test_pip_install_and_its_options(programs: Programs) -> None:
    programs.check(
        'image = slim.pip_install("six==1.16.0", extra_options="--no-deps", pre=True)',
        '__import__("six").__version__',
        "1.16.0",
    )


def test_pip_install_from_requirements_and_pyproject(programs: Programs) -> None:
    programs.write("six==1.16.0\n", "requirements.txt")
    programs.write(
        """
        [project]
        name = "x"
        version = "1"
        dependencies = ["toolz"]
        [project.optional-dependencies]
        more = ["iniconfig"]
        """,
        "pyproject.toml",
    )
    programs.check(
        'image = slim.pip_install_from_requirements("requirements.txt")'
        '.pip_install_from_pyproject("pyproject.toml", optional_dependencies=["more"])',
        '[__import__(name).__name__ for name in ("six", "toolz", "iniconfig")]',
        ["six", "toolz", "iniconfig"],
    )


def test_pip_install_from_an_index_of_ones_own(programs: Programs, tmp_path: Path) -> None:
    """A folder of wheels that the image carries stands for a private index."""
    download("six", tmp_path / "wheels")
    programs.check(
        'image = slim.add_local_dir("wheels", "/wheels", copy=True)'
        '.pip_install("six", find_links="/wheels", extra_options="--no-index")',
        '__import__("six").__name__',
        "six",
    )


@pytest.mark.since("1.1")
def test_uv_pip_install_and_uv_sync(programs: Programs) -> None:
    programs.write(
        '[project]\nname = "x"\nversion = "1"\nrequires-python = ">=3.11"\ndependencies = ["toolz"]\n', "pyproject.toml"
    )
    programs.write("iniconfig\n", "more.txt")
    programs.check(
        'image = slim.uv_pip_install("six", requirements=["more.txt"]).uv_sync()',
        '[__import__("toolz").__file__.startswith("/.uv/.venv/"), sys.executable]',
        [True, "/.uv/.venv/bin/python"],
    )


def test_poetry_install(programs: Programs, tmp_path: Path) -> None:
    wheel = download("toolz", tmp_path / "wheels")
    programs.write(
        f"""
        [tool.poetry]
        name = "x"
        version = "1"
        description = ""
        authors = []
        package-mode = false
        [tool.poetry.dependencies]
        python = "^3.11"
        toolz = {{path = "/wheels/{wheel.name}"}}
        """,
        "pyproject.toml",
    )
    programs.check(
        'image = slim.add_local_dir("wheels", "/wheels", copy=True)'
        '.poetry_install_from_file("pyproject.toml", ignore_lockfile=True)',
        '__import__("toolz").__name__',
        "toolz",
    )


def test_apt_install_and_commands(programs: Programs) -> None:
    programs.check(
        'image = slim.apt_install("tree").run_commands("tree --version > /version", "rm -rf /var/lib/apt/lists/*")',
        '[read("/version").split()[0], os.listdir("/var/lib/apt/lists"), os.path.exists("/run/jiffy/certificates.pem")]',
        ["tree", [], False],
    )


def test_run_function_with_arguments_and_secrets(programs: Programs) -> None:
    outcome = programs.check(
        """
def prepare(count, word="x"):
    print("preparing with", os.environ["TOKEN"])
    Path("/made").write_text(word * count + str(len(os.environ["TOKEN"])))

image = slim.run_function(prepare, args=(3,), kwargs={"word": "y"}, secrets=[modal.Secret.from_dict({"TOKEN": "geheim12"})])
""",
        '[read("/made"), os.environ.get("TOKEN"), os.path.exists("/pkg/made")]',
        ["yyy8", None, False],
    )
    assert "preparing with ***" in outcome.output
    assert "geheim12" not in outcome.output


def test_files_are_copied_with_and_without_a_layer(programs: Programs) -> None:
    programs.write("one", "files/a.txt")
    programs.write("two", "files/sub/b.txt")
    programs.write("VALUE = 42", "helper.py")
    programs.check(
        'image = (slim.add_local_dir("files", "/copied", copy=True).add_local_file("files/a.txt", "/etc/single", copy=True)'
        '.add_local_python_source("helper", copy=True).run_commands("cat /copied/sub/b.txt > /seen")'
        '.add_local_dir("files", "/mounted"))',
        '[read("/seen"), read("/etc/single"), __import__("helper").VALUE, sorted(os.listdir("/mounted"))]',
        ["two", "one", 42, ["a.txt", "sub"]],
    )


def test_settings_of_an_image(programs: Programs) -> None:
    programs.check(
        'image = (slim.shell(["/bin/bash", "-c"]).run_commands("echo ${BASH_VERSION:0:1} > /shell").env({"A": "b c"})'
        '.workdir("/made/for/it").entrypoint(["/usr/bin/env", "B=d"]).cmd(["x"]))',
        '[read("/shell"), os.environ["A"], os.environ["B"], os.getcwd()]',
        ["5", "b c", "d", "/made/for/it"],
    )


@pytest.mark.since("1.1")
def test_dockerfile_commands(programs: Programs) -> None:
    programs.write("context", "data.txt")
    programs.check(
        'image = slim.dockerfile_commands(["ARG WHAT=none", "COPY data.txt /data", "RUN echo $WHAT > /what"], '
        'build_args={"WHAT": "given"})',
        '[read("/data"), read("/what")]',
        ["context", "given"],
    )


DOCKERFILE = r"""# syntax=docker/dockerfile:1
ARG BASE=python:3.11-slim-bookworm
FROM ${BASE} AS build
ARG GREETING
ENV WHERE=/opt/built
RUN mkdir -p $WHERE && echo "$GREETING" > $WHERE/greeting \
    # a comment within
    && ln -s greeting $WHERE/link

FROM ${BASE} AS unused
RUN exit 1

FROM ${BASE}
SHELL ["/bin/bash", "-euo", "pipefail", "-c"]
COPY --from=build --chown=nobody:nogroup --chmod=u=rw,go=r /opt/built /opt/
COPY --chmod=0700 <<EOF <<"EOT" /docs/
expanded ${WHERE:-nowhere}
EOF
kept ${WHERE}
EOT
COPY include/*.txt /included/
COPY archive.tar.gz /archives/
ADD archive.tar.gz /unpacked
RUN <<EOF
for i in 1 2; do echo $i; done > /script
EOF
RUN <<EOF
#!/usr/bin/env python3
print("from python", file=open("/python", "w"))
EOF
RUN --mount=type=cache,target=/cache,id=shared echo again >> /cache/count && wc -l < /cache/count > /count
RUN --mount=type=bind,target=/context cp /context/include/a.txt /bound && ls /context > /listing
RUN --mount=type=tmpfs,target=/scratch touch /scratch/x && ls /scratch > /tmpfs
RUN --mount=type=secret,id=KEY cp /run/secrets/KEY /tmp/key && md5sum < /tmp/key > /key && rm /tmp/key
RUN --network=none ls /sys/class/net | wc -l > /network
RUN useradd -m ana
USER ana
WORKDIR /home/ana/work
RUN whoami > /tmp/who; pwd >> /tmp/who; echo $HOME >> /tmp/who
USER root
"""


@pytest.mark.since("1.1")
def test_a_dockerfile_with_nearly_everything(programs: Programs, tmp_path: Path) -> None:
    programs.write(DOCKERFILE, "Dockerfile")
    programs.write("a", "include/a.txt")
    programs.write("b", "include/b.txt")
    programs.write("c", "include/c.md")
    programs.write("ignored", "ignored.txt")
    programs.write("ignored.txt\n*.py\n", ".dockerignore")
    (tmp_path / "packed").mkdir()
    (tmp_path / "packed/inside").write_text("inside")
    subprocess.run(["tar", "czf", "archive.tar.gz", "packed/inside"], cwd=tmp_path, check=True)
    programs.check(
        """
image = modal.Image.from_dockerfile(
    "Dockerfile", build_args={"GREETING": "good day"}, secrets=[modal.Secret.from_dict({"KEY": "abc"})]
)
""",
        """[
        read("/opt/link"), os.stat("/opt/greeting").st_uid, oct(os.stat("/opt/greeting").st_mode),
        read("/docs/EOF"), read("/docs/EOT"), sorted(os.listdir("/included")), read("/unpacked/packed/inside"),
        read("/script").split(), read("/python"), read("/bound"), "ignored.txt" in read("/listing"),
        os.listdir("/cache") if os.path.exists("/cache") else None, os.path.exists("/context"), read("/tmpfs"),
        read("/key")[:8], read("/network"), read("/tmp/who").split(), os.getcwd(), os.stat("/tmp/who").st_uid,
    ]""",
        [
            *("good day", 65534, "0o100644", "expanded nowhere", "kept ${WHERE}", ["a.txt", "b.txt"], "inside"),
            *(["1", "2"], "from python", "a", False, None, False, "x", "900150983"[:8], "1"),
            *(["ana", "/home/ana/work", "/home/ana"], "/home/ana/work", 1000),
        ],
    )


def test_an_image_of_a_registry_and_what_it_says_of_itself(programs: Programs, python_image: str) -> None:
    programs.check(
        f'image = modal.Image.from_registry("{python_image}").run_commands("echo $FROM_IMAGE > /seen")',
        '[read("/seen"), os.environ["FROM_IMAGE"], os.getcwd(), sys.version_info[:2]]',
        ["yes", "yes", "/srv", (3, 11)],
    )


@pytest.mark.parametrize(
    ("secret", "outcome"),
    [
        ('{"REGISTRY_USERNAME": "somebody", "REGISTRY_PASSWORD": "sesame"}', "inside: 'it is there'"),
        ('{"REGISTRY_USERNAME": "somebody", "REGISTRY_PASSWORD": "wrong"}', "cannot be had"),
        pytest.param('{"REGISTRY_USERNAME": "somebody"}', "Registry Secret", marks=pytest.mark.since("1.6")),
    ],
)
def test_an_image_of_a_private_registry(
    programs: Programs, private_registry: RegistryUnderTest, python_layout: LayoutWriter, secret: str, outcome: str
) -> None:
    private_registry.copy(f"oci:{python_layout.root}:base", "team/base:1", "--dest-creds=somebody:sesame")
    image = f'modal.Image.from_registry("{private_registry.host}/team/base:1", secret=modal.Secret.from_dict({secret}))'
    ran = programs.run(f"image = {image}", '"it is there"')
    assert outcome in ran.words, ran.output
    assert "sesame" not in ran.output


@pytest.mark.since("1.1")
def test_an_image_of_a_registry_without_python_says_so(
    programs: Programs, registry: RegistryUnderTest, tmp_path: Path
) -> None:
    layout = LayoutWriter(tmp_path / "layout")
    layout.image([make_layer(Member("file", b"x"))], name="x")
    registry.copy(f"oci:{layout.root}:x", "no/python:1")
    outcome = programs.run(f'image = modal.Image.from_registry("{registry.host}/no/python:1")', "1")
    assert outcome.code != 0
    assert "has no Python" in outcome.words


@pytest.mark.since("1.6")  # the folder of Pythons has only the release that later clients name
def test_a_python_is_added_to_an_image_that_has_none(
    server: ServerUnderTest,
    unstarted_server: ServerUnderTest,
    program: ProgramFolder,
    no_python_image: str,
    pythons: str,
) -> None:
    unstarted_server.start("--python-builds", pythons)
    Programs(unstarted_server, program).check(
        f'image = modal.Image.from_registry("{no_python_image}", add_python="3.11")',
        "[sys.executable, sys.version_info[:2]]",
        ["/usr/local/bin/python", (3, 11)],
    )


@pytest.mark.since("1.5")
def test_the_lines_of_builds_are_had_later(server: ServerUnderTest, programs: Programs) -> None:
    program = """
    import modal

    app = modal.App("lines")

    @app.local_entrypoint()
    def main():
        first = modal.Image.debian_slim().run_commands("echo said-$((20 + 1))")
        image = first.run_commands("echo said-$((20 + 2))")
        image.build(app)
        found = modal.Image.from_id(image.object_id)
        for layers in (1, None):
            print("later:", [e.message.strip() for e in found.logs.fetch(layers=layers) if e.message.startswith("said")])
    """
    outcome = server.run(programs.write(program, "lines.py"))
    assert "later: ['said-22']" in outcome.output, outcome.output
    assert "later: ['said-21', 'said-22']" in outcome.output, outcome.output


def test_from_scratch_has_what_is_copied_to_it(programs: Programs) -> None:
    programs.check(
        """
image = slim.dockerfile_commands([
    "FROM scratch", "COPY --from=base / /", "RUN echo whole > /whole",
])
""",
        'read("/whole")',
        "whole",
    )


@pytest.mark.parametrize(
    ("image", "message"),
    [
        ('slim.run_commands("echo one", "echo before; echo oops >&2; exit 3")', "line 3: `RUN echo before; echo oops"),
        ('slim.run_commands("echo before; echo oops >&2; exit 3")', "exited with code 3. It said last:"),
        ('slim.dockerfile_commands(["RUNN x"])', "line 2: unknown instruction RUNN (did you mean RUN?)"),
        ('slim.dockerfile_commands(["COPY --from=nothing a b"])', "line 2: docker.io/library/nothing:latest"),
        ('slim.dockerfile_commands(["COPY nothing /x"])', "nothing"),
        ('slim.dockerfile_commands(["RUN --mount=type=cache,target=/c,mode=rwx x"])', "line 2: 'rwx' is no number"),
        ('slim.run_commands("true", gpu="any")', "asks for a GPU"),
        ("modal.Image.micromamba()", "docker.io/mambaorg/micromamba"),
        ("slim.run_function(fail)", "ZeroDivisionError"),
    ],
)
def test_a_failing_build_says_where_and_why(programs: Programs, image: str, message: str) -> None:
    outcome = programs.run(f"def fail():\n    1 / 0\n\nimage = {image}", "1")
    assert outcome.code != 0
    assert message in outcome.words, outcome.output


def test_a_step_is_done_once_and_again_when_it_is_forced(programs: Programs) -> None:
    image = 'image = slim.run_commands("cat /proc/sys/kernel/random/uuid > /id"{})'
    first = programs.run(image.format(""), 'read("/id")')
    again = programs.run(image.format("") + '.env({"A": "1"})', 'read("/id")')
    assert first.output.rpartition("inside: ")[2].split()[0] == again.output.rpartition("inside: ")[2].split()[0]
    forced = programs.run(image.format(", force_build=True"), 'read("/id")')
    assert first.output.rpartition("inside: ")[2].split()[0] != forced.output.rpartition("inside: ")[2].split()[0]


def test_a_changed_secret_is_a_changed_step_and_is_kept_nowhere(server: ServerUnderTest, programs: Programs) -> None:
    image = """
token = modal.Secret.from_dict({"TOKEN": os.environ.get("GIVEN", "")})
image = slim.run_commands("echo $TOKEN; echo ${#TOKEN} > /length", secrets=[token])
"""
    for value in ("geheim-eins", "geheim-fuenf"):
        outcome = programs.check(image, 'read("/length")', str(len(value)), GIVEN=value)
        assert value not in outcome.output
    command = ["grep", "-rl", "--exclude=jiffy.db*", "geheim-", str(server.data.root)]
    assert subprocess.run(command, capture_output=True, text=True, check=False).stdout == ""


BUILDERS = [
    *("2023.12", "2024.04", "2024.10", "PREVIEW"),
    pytest.param("2025.06", marks=pytest.mark.since("1.1")),
    pytest.param("2026.10", marks=pytest.mark.since("1.6.4")),
]


@pytest.mark.parametrize("builder", BUILDERS)
def test_each_version_of_the_builder(programs: Programs, builder: str) -> None:
    programs.check(
        'image = slim.pip_install("six")',
        '[__import__("six").__name__, os.environ.get("MODAL_IMAGE_BUILDER_VERSION")]',
        ["six", None],
        MODAL_IMAGE_BUILDER_VERSION=builder,
    )
