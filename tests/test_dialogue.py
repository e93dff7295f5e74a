"""The two sides of an examination: their directory, what they say to each other there, and what dead ones left."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from tastypy import PeerError, dialogue, files
from tastypy.dialogue import Dialogue, Room

# --- what killed ones left


def test_the_examination_of_another_host_is_left_alone_for_a_day(tmp_path: Path) -> None:
    room = tmp_path / ".doctor-elsewhere"
    room.mkdir()
    (room / "owner-1").write_text(json.dumps(["another boot", "pid:[1]", 2, 3]))
    hours = time.time() - 20 * 3600
    os.utime(room, (hours, hours))
    dialogue.sweep(str(tmp_path))
    assert [entry.name for entry in tmp_path.iterdir()] == [room.name]
    days = time.time() - 2 * 86400
    os.utime(room, (days, days))
    dialogue.sweep(str(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_a_process_that_has_the_id_of_a_dead_one_is_another_one() -> None:
    mine = dialogue._identity(os.getpid())
    assert not dialogue._is_dead(json.dumps(mine).encode())
    assert dialogue._is_dead(json.dumps([*mine[:3], mine[3] - 1]).encode())
    assert not dialogue._is_dead(json.dumps(["another boot", *mine[1:3], mine[3] - 1]).encode())
    assert not dialogue._is_dead(json.dumps(mine).encode()[:5])


# --- messages


def test_messages_come_in_order_whoever_is_first(tmp_path: Path) -> None:
    with Room(str(tmp_path), "one") as one, Room(str(tmp_path), "one") as two:
        here, there = Dialogue(one, patience=0.05), Dialogue(two, patience=0.05)
        here.say("a")
        here.say("b")
        assert [there.hear(), there.hear()] == ["a", "b"]
        with pytest.raises(PeerError, match="did not come"):  # some turns are used up now
            here.hear()
        there.say({"c": None})
        assert here.hear() == {"c": None}
        with pytest.raises(PeerError, match="was silent"):
            here.hear()


def test_a_side_hears_why_the_other_one_failed(tmp_path: Path) -> None:
    with Room(str(tmp_path), "one") as one, Room(str(tmp_path), "one") as two:
        Dialogue(one, patience=1).fail(ValueError("of this"))
        with pytest.raises(PeerError, match="the other side failed: of this"):
            Dialogue(two, patience=1).hear()


def test_a_side_whose_room_is_gone_stops_waiting(tmp_path: Path) -> None:
    with Room(str(tmp_path)) as room:
        files.remove_directory(room.path)
        with pytest.raises(PeerError, match="has ended the examination"):
            Dialogue(room, patience=10).hear()


def test_a_room_has_the_permissions_of_its_directory_whatever_the_umask_is(tmp_path: Path) -> None:
    tmp_path.chmod(0o770)
    umask = os.umask(0o077)
    try:
        with Room(str(tmp_path)) as room:
            assert os.stat(room.path).st_mode & 0o777 == 0o770
    finally:
        os.umask(umask)
