"""GPUs: placed by what the owners of hosts declare, injected by the Container Device Interface.

The devices are made up: their specification gives containers /dev/zero under another name, a variable and a file.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.bases import make_base, share_images
from tests.conftest import ProgramFolder
from tests.servers import ServerUnderTest

PROGRAM = """
    import os, time
    from pathlib import Path
    import modal

    app = modal.App("gpus", image=modal.Image.debian_slim())

    @app.function(gpu={gpu}, timeout=60)
    def look(seconds: float = 0.0) -> list:
        with open("/dev/fake-gpu", "rb") as device:
            assert device.read(4) == bytes(4)
        assert Path("/usr/lib/fake-driver").read_text() == "driver"
        started = time.time()
        time.sleep(seconds)
        return [sorted(name for name in os.environ if name.startswith("FAKE_GPU")), started, time.time()]

    @app.function()
    def plain() -> list:
        return [os.path.exists("/dev/fake-gpu"), sorted(name for name in os.environ if name.startswith("FAKE_GPU"))]

    @app.local_entrypoint()
    def main(many: int = 1):
        assert plain.remote() == [False, []]
        results = list(look.map([1.0] * many))
        print("given", sorted(set(name for names, _, _ in results for name in names)))
        spans = sorted((started, ended) for _, started, ended in results)
        most = max(sum(s <= at < e for s, e in spans) for at, _ in spans)
        print("at once", most)
"""


@pytest.fixture(scope="module")
def gpus(
    server: ServerUnderTest, disk_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ServerUnderTest]:
    folder = tmp_path_factory.mktemp("cdi")
    (folder / "driver").write_text("driver")
    node = {"path": "/dev/fake-gpu", "hostPath": "/dev/zero"}
    specification = {
        "cdiVersion": "0.6.0",
        "kind": "test.example/gpu",
        "containerEdits": {"mounts": [{"hostPath": str(folder / "driver"), "containerPath": "/usr/lib/fake-driver"}]},
        "devices": [
            {"name": str(number), "containerEdits": {"deviceNodes": [node], "env": [f"FAKE_GPU_{number}=1"]}}
            for number in range(2)
        ],
    }
    (folder / "fake.json").write_text(json.dumps(specification))
    make_base(server, tmp_path_factory.mktemp("base"))
    fresh = ServerUnderTest(disk_folder / "gpus", disk_folder / "gpus-home")
    share_images(server, fresh)
    declared = [word for number in range(2) for word in ("--gpu", f"H100=test.example/gpu={number}")]
    fresh.start(*declared, JIFFY_CDI_FOLDERS=str(folder))
    yield fresh
    fresh.stop()
    shutil.rmtree(fresh.data.root)


def run(gpus: ServerUnderTest, program: ProgramFolder, gpu: str, *arguments: str) -> str:
    outcome = gpus.run(program(PROGRAM.format(gpu=gpu)), *arguments)
    assert outcome.code == 0, outcome.output
    return outcome.output


def test_a_function_has_the_gpus_that_it_asks_for_and_others_have_none(
    gpus: ServerUnderTest, program: ProgramFolder
) -> None:
    assert run(gpus, program, '"H100"').count("FAKE_GPU_") == 1
    assert "given ['FAKE_GPU_0', 'FAKE_GPU_1']" in run(gpus, program, '"h100:2"')
    assert "given ['FAKE_GPU_" in run(gpus, program, '"any"')


def test_of_several_kinds_the_one_that_is_there_is_taken(gpus: ServerUnderTest, program: ProgramFolder) -> None:
    assert "given ['FAKE_GPU_" in run(gpus, program, '["B200", "H100"]')


def test_who_finds_none_free_waits(gpus: ServerUnderTest, program: ProgramFolder) -> None:
    output = run(gpus, program, '"H100"', "--many", "5")
    assert "given ['FAKE_GPU_0', 'FAKE_GPU_1']" in output
    assert "at once 2" in output


@pytest.mark.parametrize(
    ("gpu", "told"),
    [
        ('"A100"', "no worker has 1 free A100 GPU"),
        ('"H100:3"', "no worker has 3 free H100 GPUs"),
        ('["H100:1", "A100:2"]', "different numbers of GPUs"),
    ],
)
def test_what_is_not_there_is_refused_in_a_sentence(
    gpus: ServerUnderTest, program: ProgramFolder, gpu: str, told: str
) -> None:
    outcome = gpus.run(program(PROGRAM.format(gpu=gpu)))
    assert outcome.code == 1
    assert told in outcome.words


def test_a_step_of_a_build_has_the_gpu_that_it_asks_for(gpus: ServerUnderTest, program: ProgramFolder) -> None:
    outcome = gpus.run(
        program("""
            import os
            from pathlib import Path
            import modal

            def tune():
                found = [name for name in os.environ if name.startswith("FAKE_GPU")]
                Path("/tuned").write_text(f"{len(found)} {os.path.exists('/dev/fake-gpu')}")

            image = modal.Image.debian_slim().run_function(tune, gpu="H100")
            app = modal.App("tuned", image=image)

            @app.function()
            def read() -> str:
                return Path("/tuned").read_text()

            @app.local_entrypoint()
            def main():
                print("tuned with", read.remote())
        """)
    )
    assert outcome.code == 0, outcome.output
    assert "tuned with 1 True" in outcome.output
