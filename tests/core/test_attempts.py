from jiffy.core.attempts import Attempt, accepts, next_retry

HELD = Attempt("ta-1", 0, is_finished=False)


def test_the_holders_result_counts() -> None:
    assert accepts(HELD, "ta-1", 0)


def test_a_result_of_another_container_is_refused() -> None:
    assert not accepts(HELD, "ta-2", 0)
    assert not accepts(HELD, None, 0)


def test_a_result_of_an_earlier_try_is_refused() -> None:
    assert not accepts(Attempt("ta-1", 1, is_finished=False), "ta-1", 0)


def test_a_second_result_is_refused() -> None:
    assert not accepts(Attempt("ta-1", 0, is_finished=True), "ta-1", 0)


def test_the_platform_answers_for_what_nobody_holds() -> None:
    assert accepts(Attempt(None, 0, is_finished=False), None, 0)


def test_what_is_finished_is_tried_again_once_for_each_number() -> None:
    finished = Attempt("ta-1", 1, is_finished=True)
    assert next_retry(finished, None) == 2
    assert next_retry(finished, 2) == 2
    assert next_retry(finished, 1) is None
    assert next_retry(HELD, None) is None
