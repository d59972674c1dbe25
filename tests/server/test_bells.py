import asyncio

from jiffy.server.bells import Bells


async def test_a_ring_between_looking_and_waiting_is_not_missed() -> None:
    bells = Bells()
    with bells.listen("call") as bell:
        bells.ring("call")
        assert await bell.wait(0.01)
        assert not await bell.wait(0.01)


async def test_everyone_who_listens_hears_it() -> None:
    bells = Bells()

    async def listener() -> bool:
        with bells.listen("call") as bell:
            return await bell.wait(5)

    waiting = [asyncio.ensure_future(listener()) for _ in range(3)]
    await asyncio.sleep(0)
    bells.ring("call")
    assert await asyncio.gather(*waiting) == [True, True, True]


async def test_other_names_are_not_disturbed() -> None:
    bells = Bells()
    with bells.listen("one") as bell:
        bells.ring("two")
        assert not await bell.wait(0.01)
