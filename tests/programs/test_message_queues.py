"""Programs with queues: first in, first out, in partitions, with waiting."""

import pytest

from tests.conftest import ProgramFolder
from tests.servers import ServerUnderTest


def test_a_queue_passes_values_from_containers_on(server: ServerUnderTest, program: ProgramFolder) -> None:
    outcome = server.run(
        program("""
            import queue, time
            import modal

            app = modal.App("queue", image=modal.Image.debian_slim())
            line = modal.Queue.from_name("line", create_if_missing=True)

            @app.function()
            def produce(number: int):
                for value in range(number):
                    line.put(value)
                line.put_many(["x", "y"], partition="other")

            @app.local_entrypoint()
            def main():
                line.clear(all=True)
                produce.spawn(5)
                assert [line.get(timeout=30) for _ in range(5)] == [0, 1, 2, 3, 4]
                assert line.get_many(5, partition="other", timeout=10)[0] == "x"
                started = time.time()
                try:
                    line.get(timeout=1)
                except queue.Empty:
                    assert 0.9 < time.time() - started < 3
                assert line.get(block=False) is None
                print("passed on")
        """)
    )
    assert outcome.code == 0, outcome.output
    assert "passed on" in outcome.output


def test_a_queue_is_read_without_taking_and_is_full_at_its_limit(
    server: ServerUnderTest, program: ProgramFolder
) -> None:
    outcome = server.script(
        program("""
            import queue
            import modal

            with modal.Queue.ephemeral() as line:
                line.put_many([1, 2, 3])
                assert list(line.iterate()) == [1, 2, 3] and line.len() == 3
                line.put_many(list(range(2000)), partition="p")
                assert line.len(total=True) == 2003
                for _ in range(2):
                    line.put_many([0] * 1500, partition="p")
                try:
                    line.put(1, partition="p", block=False)
                except queue.Full:
                    print("full")
                line.clear(partition="p")
                assert line.len(partition="p") == 0
        """)
    )
    assert outcome.code == 0, outcome.output
    assert "full" in outcome.output


@pytest.mark.since("1.3")
def test_a_queue_is_passed_on_by_its_id(server: ServerUnderTest, program: ProgramFolder) -> None:
    outcome = server.run(
        program("""
            import modal

            app = modal.App("queue-by-id", image=modal.Image.debian_slim())

            @app.function()
            def produce(queue_id: str):
                modal.Queue.from_id(queue_id).put("from the container")

            @app.local_entrypoint()
            def main():
                with modal.Queue.ephemeral() as passing:
                    produce.remote(passing.object_id)
                    print("passed", passing.get())
                named = modal.Queue.from_name("by-id", create_if_missing=True).hydrate()
                print("named", modal.Queue.from_id(named.object_id).info().name)
                modal.Queue.objects.delete("by-id")
                for queue_id in (named.object_id, "qu-nobodys"):
                    try:
                        modal.Queue.from_id(queue_id).hydrate()
                    except modal.exception.NotFoundError as error:
                        print(error)
        """)
    )
    assert outcome.code == 0, outcome.output
    assert "passed from the container" in outcome.output
    assert "named by-id" in outcome.output
    assert outcome.output.count("no queue qu-") == 2 and "no queue qu-nobodys" in outcome.output


def test_queues_are_listed_peeked_into_and_deleted_by_commands(server: ServerUnderTest, program: ProgramFolder) -> None:
    server.modal("queue", "create", "orders")
    outcome = server.script(program("import modal\nmodal.Queue.from_name('orders').put_many(['tea', 'cake'])\n"))
    assert outcome.code == 0, outcome.output
    assert "tea" in server.modal("queue", "peek", "orders", "2")
    assert server.modal("queue", "len", "orders").strip() == "2"
    assert "orders" in server.modal("queue", "list")
    server.modal("queue", "clear", "orders", "--yes")
    server.modal("queue", "delete", "orders", "--yes")
    assert "orders" not in server.modal("queue", "list")
