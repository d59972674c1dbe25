"""Volumes: files that programs, containers and commands share."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import ProgramFolder
from tests.servers import ServerUnderTest

HEAD = """
    import os, time
    from pathlib import Path
    import modal

    app = modal.App("{name}", image=modal.Image.debian_slim())
    volume = modal.Volume.from_name("{name}", create_if_missing=True{more})
    data = Path("/data")
"""


def test_what_a_container_commits_the_next_one_finds(server: ServerUnderTest, program: ProgramFolder) -> None:
    outcome = server.run(
        program(
            HEAD.format(name="committed", more="")
            + """
    @app.function(volumes={"/data": volume})
    def write():
        (data / "deep" / "er").mkdir(parents=True)
        (data / "deep" / "er" / "file").write_text("text")
        (data / "large").write_bytes(os.urandom(2**20) * 30)
        (data / "link").symlink_to("deep/er/file")
        (data / "program").write_text("#!/bin/sh")
        (data / "program").chmod(0o755)
        volume.commit()

    @app.function(volumes={"/data": volume})
    def change():
        assert (data / "deep/er/file").read_text() == (data / "link").read_text() == "text"
        assert (data / "large").stat().st_size == 30 * 2**20
        assert os.access(data / "program", os.X_OK)
        (data / "deep/er/file").write_text("other")
        (data / "large").unlink()
        (data / "deep").rename(data / "moved")
        volume.commit()

    @app.function(volumes={"/data": volume})
    def read():
        return sorted(str(path.relative_to(data)) for path in data.rglob("*")), (data / "moved/er/file").read_text()

    @app.local_entrypoint()
    def main():
        write.remote()
        change.remote()
        paths, text = read.remote()
        assert paths == ["link", "moved", "moved/er", "moved/er/file", "program"], paths
        assert text == "other"
        assert b"".join(volume.read_file("moved/er/file")) == b"other"
        print("found")
        """
        )
    )
    assert outcome.code == 0, outcome.output
    assert "found" in outcome.output
    server.modal("volume", "delete", "committed", "--yes")


def test_a_container_sees_what_others_commit_once_it_reloads(server: ServerUnderTest, program: ProgramFolder) -> None:
    outcome = server.run(
        program(
            HEAD.format(name="reloaded", more="")
            + """
    def names() -> list:
        return sorted(path.name for path in data.iterdir())

    @app.function(volumes={"/data": volume})
    def write(name: str):
        (data / name).write_text(name)
        volume.commit()

    @app.function(volumes={"/data": volume})
    def watch() -> list:
        seen = [names()]
        for name in ("one", "two"):
            write.remote(name)
            seen.append(names())
            volume.reload()
            seen.append(names())
        (data / "mine").write_text("mine")
        with open(data / "one") as held:
            try:
                volume.reload()
            except RuntimeError as error:
                print("refused:", error)
        volume.reload()
        return [*seen, names()]

    @app.local_entrypoint()
    def main():
        seen = watch.remote()
        assert seen == [[], [], ["one"], ["one"], ["one", "two"], ["mine", "one", "two"]], seen
        print("seen")
        """
        )
    )
    assert outcome.code == 0, outcome.output
    assert "seen" in outcome.output
    assert "refused: there are open files preventing the operation" in outcome.output
    server.modal("volume", "delete", "reloaded", "--yes")


def test_files_are_committed_in_the_background_and_when_a_container_is_killed(
    server: ServerUnderTest, program: ProgramFolder
) -> None:
    outcome = server.run(
        program(
            HEAD.format(name="background", more="")
            + """
    @app.function(volumes={"/data": volume})
    def write():
        (data / "early").write_text("early")
        time.sleep(12)
        (data / "late").write_text("late")
        os.kill(os.getpid(), 9)

    def await_file(name: str, seconds: float):
        deadline = time.time() + seconds
        while name not in [entry.path for entry in volume.listdir("/")]:
            assert time.time() < deadline, name
            time.sleep(0.2)

    @app.local_entrypoint()
    def main():
        call = write.spawn()
        await_file("early", 11)
        print("while it runs")
        await_file("late", 60)
        call.cancel()
        print("at the end")
        """
        )
    )
    assert outcome.code == 0, outcome.output
    assert "at the end" in outcome.output
    server.modal("volume", "delete", "background", "--yes")


def test_writers_of_different_files_disturb_each_other_not(server: ServerUnderTest, program: ProgramFolder) -> None:
    outcome = server.run(
        program(
            HEAD.format(name="writers", more="")
            + """
    @app.function(volumes={"/data": volume}, max_containers=4)
    def write(number: int):
        for step in range(5):
            (data / f"{number}-{step}").write_text(str(step))
            (data / f"{number}-now").write_text(str(step))
            volume.commit()

    @app.local_entrypoint()
    def main():
        list(write.map(range(8)))
        names = {entry.path for entry in volume.listdir("/")}
        assert len(names) == 8 * 6, names
        assert {b"".join(volume.read_file(f"{number}-now")) for number in range(8)} == {b"4"}
        print("undisturbed")
        """
        )
    )
    assert outcome.code == 0, outcome.output
    assert "undisturbed" in outcome.output
    server.modal("volume", "delete", "writers", "--yes")


@pytest.mark.since("1.4")
def test_a_volume_may_be_read_only_or_show_a_part_of_it(server: ServerUnderTest, program: ProgramFolder) -> None:
    outcome = server.run(
        program(
            HEAD.format(name="partly", more=", version=2")
            + """
    @app.function(volumes={"/data": volume.with_mount_options(read_only=True)})
    def read() -> str:
        try:
            (data / "new").write_text("")
        except OSError as error:
            return f"{(data / 'part' / 'file').read_text()} {error.strerror}"

    @app.function(volumes={"/data": volume.with_mount_options(sub_path="/part")})
    def extend() -> list:
        (data / "more").write_text("more")
        volume.commit()
        return sorted(path.name for path in data.iterdir())

    @app.local_entrypoint()
    def main():
        with volume.batch_upload() as batch:
            batch.put_file(__file__, "/whole")
            import io
            batch.put_file(io.BytesIO(b"inside"), "/part/file")
        print(read.remote())
        assert extend.remote() == ["file", "more"]
        assert sorted(entry.path for entry in volume.listdir("/", recursive=True)) == [
            "part", "part/file", "part/more", "whole"
        ]
        """
        )
    )
    assert outcome.code == 0, outcome.output
    assert "inside Read-only file system" in outcome.output
    server.modal("volume", "delete", "partly", "--yes")


@pytest.mark.since("1.3")
def test_a_volume_is_passed_on_by_its_id(server: ServerUnderTest, program: ProgramFolder) -> None:
    outcome = server.run(
        program("""
            import io
            import modal

            app = modal.App("volume-by-id", image=modal.Image.debian_slim())

            @app.function()
            def look(volume_id: str) -> list[str]:
                volume = modal.Volume.from_id(volume_id)
                return [entry.path for entry in volume.listdir("/")] + [b"".join(volume.read_file("note")).decode()]

            @app.local_entrypoint()
            def main():
                with modal.Volume.ephemeral() as passing:
                    with passing.batch_upload() as batch:
                        batch.put_file(io.BytesIO(b"written"), "/note")
                    print("passed", look.remote(passing.object_id))
                named = modal.Volume.from_name("by-id", create_if_missing=True).hydrate()
                print("named", modal.Volume.from_id(named.object_id).info().name)
                modal.Volume.objects.delete("by-id")
                for volume_id in (named.object_id, "vo-nobodys"):
                    try:
                        modal.Volume.from_id(volume_id).hydrate()
                    except modal.exception.NotFoundError as error:
                        print(error)
        """)
    )
    assert outcome.code == 0, outcome.output
    assert "passed ['note', 'written']" in outcome.output
    assert "named by-id" in outcome.output
    assert outcome.output.count("no volume vo-") == 2 and "no volume vo-nobodys" in outcome.output


def test_a_step_of_a_build_fills_a_volume(server: ServerUnderTest, program: ProgramFolder) -> None:
    outcome = server.run(
        program("""
            from pathlib import Path
            import modal

            weights = modal.Volume.from_name("weights", create_if_missing=True)

            def download():
                Path("/weights/model.bin").write_bytes(b"model")

            image = modal.Image.debian_slim().run_function(download, volumes={"/weights": weights})
            app = modal.App("filled", image=image)

            @app.function(volumes={"/weights": weights})
            def size() -> int:
                return Path("/weights/model.bin").stat().st_size

            @app.local_entrypoint()
            def main():
                print("bytes:", size.remote())
        """)
    )
    assert outcome.code == 0, outcome.output
    assert "bytes: 5" in outcome.output
    server.modal("volume", "delete", "weights", "--yes")


@pytest.mark.parametrize("version", [1, 2])
def test_commands_put_list_get_copy_and_remove_files(server: ServerUnderTest, tmp_path: Path, version: int) -> None:
    large = tmp_path / "large"
    large.write_bytes(bytes(range(256)) * 100_000 + bytes(1000))
    (tmp_path / "folder" / "sub").mkdir(parents=True)
    (tmp_path / "folder" / "sub" / "small").write_text("small")
    server.modal("volume", "create", f"files{version}", "--version", str(version))
    server.modal("volume", "put", f"files{version}", str(large), "/a/large")
    server.modal("volume", "put", f"files{version}", str(tmp_path / "folder"), "/b")
    again = server.modal("volume", "put", f"files{version}", str(large), "/a/large", code=None)
    assert "there is a file /a/large already" in again
    server.modal("volume", "put", f"files{version}", str(large), "/a/large", "--force")
    server.modal("volume", "get", f"files{version}", "a/large", str(tmp_path / "back"))
    assert (tmp_path / "back").read_bytes() == large.read_bytes()
    server.modal("volume", "cp", f"files{version}", "b/sub/small", "c")
    listed = server.listed("volume", "ls", f"files{version}")
    assert sorted(Path(entry["filename"]).name for entry in listed) == ["a", "b", "c"]
    assert "is a folder" in server.modal("volume", "rm", f"files{version}", "b", code=1)
    server.modal("volume", "rm", f"files{version}", "b", "--recursive")
    renamed = f"renamed{version}"
    server.modal("volume", "rename", f"files{version}", renamed, "--yes")
    assert renamed in server.modal("volume", "list")
    server.modal("volume", "delete", renamed, "--yes")
    assert renamed not in server.modal("volume", "list")
