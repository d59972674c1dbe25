"""Images that were built once: found again by name or id, with what a name meant before, until they are deleted."""

from __future__ import annotations

import json

import pytest

from tests.conftest import ProgramFolder
from tests.servers import ServerUnderTest

PUBLISHER = """
    import modal

    app = modal.App("publisher")

    @app.local_entrypoint()
    def main(note: str):
        image = modal.Image.debian_slim().run_commands(f"echo {note} > /note")
        image.build(app)
        image.publish("noted:v1")
        print("id", image.object_id)
"""

USER = """
    import sys
    import modal

    app = modal.App("user")

    @app.function(image=modal.Image.%s)
    def read() -> str:
        return open("/note").read().strip()

    @app.local_entrypoint()
    def main():
        print("note:", read.remote())
"""


def publish(server: ServerUnderTest, program: ProgramFolder, note: str) -> str:
    """Gives the image's id."""
    outcome = server.run(program(PUBLISHER, "publisher.py"), "--note", note)
    assert outcome.code == 0, outcome.output
    return next(line.split()[1] for line in outcome.output.splitlines() if line.startswith("id "))


@pytest.mark.since("1.5")
def test_images_are_published_by_name_and_found_by_it(server: ServerUnderTest, program: ProgramFolder) -> None:
    publish(server, program, "published")
    outcome = server.run(program(USER % 'from_name("noted:v1")', "user.py"))
    assert "note: published" in outcome.output, outcome.output
    derived = USER % 'from_name("noted:v1").run_commands("echo and changed >> /note")'
    assert "note: published\nand changed" in server.run(program(derived, "user.py")).output
    server.modal("image", "names", "delete", "noted:v1", "--yes")
    outcome = server.run(program(USER % 'from_name("noted:v1")', "user.py"))
    assert outcome.code == 1
    assert "no image is named noted:v1" in outcome.words


@pytest.mark.since("1.5")
def test_each_image_that_a_name_meant_is_told(server: ServerUnderTest, program: ProgramFolder) -> None:
    first, second = publish(server, program, "first"), publish(server, program, "second")
    history = json.loads(server.modal("image", "names", "history", "noted:v1", "--json"))
    assert [each["image_id"] for each in history] == [second, first]
    assert history[0]["published_at"] >= history[1]["published_at"]
    outcome = server.run(program(USER % 'from_name("noted:v1")', "user.py"))
    assert "note: second" in outcome.output, outcome.output
    server.modal("image", "names", "delete", "noted:v1", "--yes")
    for name in ("noted:v1", "never"):
        assert "no image is named" in server.modal("image", "names", "history", name, code=1)


@pytest.mark.since("1.5")
def test_an_image_is_used_by_its_id_until_it_is_deleted(server: ServerUnderTest, program: ProgramFolder) -> None:
    image_id = publish(server, program, "deleted")
    by_id = program(USER % f'from_id("{image_id}")', "user.py")
    assert "note: deleted" in server.run(by_id).output
    deletion = program(
        """
        import sys
        import modal
        from modal.experimental import image_delete

        image_delete(sys.argv[1])
        try:
            image_delete(sys.argv[1])
        except modal.exception.NotFoundError as error:
            print(error)
        """,
        "deletion.py",
    )
    outcome = server.script(deletion, image_id)
    assert outcome.code == 0, outcome.output
    assert f"no image {image_id}" in outcome.words
    outcome = server.run(by_id)
    assert outcome.code == 1
    assert f"no image {image_id}" in outcome.words
    assert "no image is named noted:v1" in server.modal("image", "names", "history", "noted:v1", code=1)
    assert publish(server, program, "deleted") == image_id, "what was deleted is built again when it is asked for"
    server.modal("image", "names", "delete", "noted:v1", "--yes")
