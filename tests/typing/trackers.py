"""What checkers know of a tracker, its tasks and runs. Nothing in here runs; see `pods`."""

from typing import Any, assert_type

from tastypy import Counts, Summary, Task, Tracker


def work(key: str) -> int:
    """Do a task."""
    return len(key)


def tracker_of_texts(tracker: Tracker[str]) -> None:
    """The keys are of the type that is said; entries are dicts."""
    assert_type(tracker["a"], dict[str, Any])
    assert_type(tracker.add_many(["a", "b"], depth=1), int)
    assert_type(tracker.add_if_absent("a"), bool)
    assert_type(list(tracker.todo_keys()), list[str])
    assert_type(list(tracker.failed_items()), list[tuple[str, dict[str, Any]]])
    assert_type(tracker.counts(), Counts)
    assert_type(tracker.counts().done, int)
    assert_type(tracker.run(work, workers=2), Summary)
    tracker.add(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    tracker.run(print, workers="2")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    Tracker[str]("x.tracker", type=int)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


def claims(tracker: Tracker[str]) -> None:
    """A task knows the type of its key."""
    for task in tracker.claims(batch=3):
        with task:
            assert_type(task, Task[str])
            assert_type(task.key, str)
            assert_type(task["status"], Any)
            task["status"] = 200
    claimed = tracker.claim()
    assert_type(claimed, Task[str] | None)
    if claimed is not None:
        claimed.done(status=200)
        assert_type(claimed.tries, int)


def opening() -> None:
    """The keys' type is said, or a checker asks for it."""
    with Tracker[int]("x.tracker", max_tries=3) as tracker:
        assert_type(tracker, Tracker[int])
        assert_type([task.key for task in tracker.claims()], list[int])
    with tracker.edit(1) as entry:
        assert_type(entry, dict[str, Any])
