"""`tastypy doctor`: what it finds on this host alone and between two real processes, what it concludes, and what it leaves."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers import in_child

from tastypy import POD, PeerError, PermissionDeniedError, check, doctor
from tastypy.dialogue import Room
from tastypy.doctor import BAD, GOOD

TASTYPY = [sys.executable, "-m", "tastypy"]
PATIENCE = 60
QUICK = """
from tastypy import examination
examination._LOOKS, examination._RACE, examination._COMMITS = 5, 0.5, 20
"""


def start(*arguments: object, program: str = "", **options: Any) -> subprocess.Popen[str]:
    """Start the command, in an interpreter that runs `program` before."""
    run = f"import sys\nfrom tastypy import cli\n{program}\nsys.exit(cli.main(sys.argv[1:]))"
    command = [sys.executable, "-c", run] if program else TASTYPY
    return subprocess.Popen(
        [*command, "doctor", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        **options,
    )


def end(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """The status of a command, and what it printed."""
    try:
        output, errors = process.communicate(timeout=PATIENCE)
    finally:
        process.kill()
    return process.returncode, output, errors


def run(*arguments: object, **options: Any) -> tuple[int, str, str]:
    return end(start(*arguments, **options))


def both(directory: Path, program: str = "", other: str | None = None) -> list[tuple[int, str, str]]:
    """Run both sides in one directory; what each printed, as JSON."""
    commands = [
        start(directory, "--peer", "both", "--json", program=each)
        for each in (program, program if other is None else other)
    ]
    return [end(command) for command in commands]


def verdicts(ends: list[tuple[int, str, str]]) -> list[dict[str, Any]]:
    assert all(output for _, output, _ in ends), ends
    return [json.loads(output) for _, output, _ in ends]


@pytest.fixture(autouse=True)
def _nothing_is_left(tmp_path: Path) -> Iterator[None]:
    yield
    assert not list(tmp_path.rglob(".doctor-*"))


# --- alone


def test_a_local_directory_is_good_for_the_processes_of_this_host(tmp_path: Path) -> None:
    code, output, errors = run(tmp_path)
    assert (code, errors) == (0, "")
    told = subprocess.run(["stat", "-c", "%m", tmp_path], check=True, capture_output=True, text=True).stdout.strip()
    assert f"mount        {told} (" in output
    assert "verdict: good" in output
    assert list(tmp_path.iterdir()) == []


def test_json_has_the_mount_with_its_options_and_the_verdict(tmp_path: Path) -> None:
    code, output, _ = run(tmp_path, "--json")
    found = json.loads(output)
    assert (code, output.count("\n")) == (0, 1)
    assert list(found) == ["path", "verdict", "reasons", "remedies", "notes", "code", "sides", "measured"]
    assert (found["path"], found["verdict"], found["code"], found["measured"]) == (str(tmp_path), GOOD, None, None)
    (side,) = found["sides"]
    assert (side["kind"], side["flock"], side["path"]) == ("local", "", str(tmp_path))
    assert set(side["mount"]) == {"point", "type", "source", "options"}
    assert side["free"] > 0


TWO_HAVE_THE_LOCK = "from tastypy import examination\nexamination.attempt = lambda _: True"
NOBODY_GETS_THE_LOCK = "from tastypy import examination\nexamination.Holder._PROGRAM = 'print()'"
THERE_ARE_NO_LOCKS = """
import errno, os
from tastypy import examination
examination.Holder._PROGRAM = ""
def attempt(_):
    raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))
examination.attempt = attempt
"""


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        (TWO_HAVE_THE_LOCK, "two processes of this host at once"),
        (NOBODY_GETS_THE_LOCK, "a lock that nobody had"),
        (THERE_ARE_NO_LOCKS, "No locks available"),
    ],
)
def test_locks_that_fail_on_this_host_already_make_it_bad(tmp_path: Path, program: str, reason: str) -> None:
    code, output, _ = run(tmp_path, program=program)
    assert code == 1
    assert "verdict: bad" in output
    assert re.search(f"reason .*{reason}", output)
    assert "to do" in output
    assert list(tmp_path.iterdir()) == []


def test_a_pod_in_use_is_not_disturbed(tmp_path: Path) -> None:
    with POD[str, int](tmp_path / "my.pod") as pod:
        pod["a"] = 1
        with Room(str(tmp_path / "my.pod")):
            pod["b"] = 2
            pod.sync()
            assert pod.check() == []
        assert run(tmp_path / "my.pod")[0] == 0
        pod["c"] = 3
    assert check(tmp_path / "my.pod") == []
    with POD[str, int](tmp_path / "my.pod", mode="r") as pod:
        assert pod == {"a": 1, "b": 2, "c": 3}


def test_a_pod_can_be_made_in_a_directory_that_is_being_examined(tmp_path: Path) -> None:
    with Room(str(tmp_path)), POD[str, int](tmp_path) as pod:
        pod["a"] = 1
    assert check(tmp_path) == []


# --- two sides


def test_two_processes_on_a_local_directory_find_everything_right(tmp_path: Path) -> None:
    ends = both(tmp_path)
    assert [code for code, _, _ in ends] == [0, 0]
    for found in verdicts(ends):
        assert (found["verdict"], found["remedies"], found["code"]) == (GOOD, [], "both")
        assert len(found["sides"]) == 2
        measured = found["measured"]
        assert list(measured) == [
            *("exclusion", "freshness", "release_ms", "commit_ms", "commits_lost", "troubles"),
        ]
        exclusion, freshness = measured["exclusion"], measured["freshness"]
        assert (exclusion["attempts"], exclusion["let_in"], exclusion["met"], exclusion["counts_lost"]) == (52, 0, 0, 0)
        assert exclusion["turns"] > 20
        assert freshness == {"looks": freshness["looks"], "old_growth": 0, "old_locked": 0, "old_names": 0}
        assert freshness["looks"] > 2
        assert len(measured["release_ms"]) == 2
        assert all(0 < time < 8000 for time in measured["release_ms"])
        for times in measured["commit_ms"].values():
            assert 0 < times["median"] <= times["longest"]
        assert (measured["commits_lost"], measured["troubles"]) == (0, [])
    assert list(tmp_path.iterdir()) == []


def test_the_printed_command_is_that_of_the_other_side(tmp_path: Path) -> None:
    place = tmp_path / "two words"
    place.mkdir()
    first = start(place, "--peer")
    assert first.stdout is not None
    first.stdout.readline()
    command = shlex.split(first.stdout.readline())
    assert command[:2] == ["tastypy", "doctor"]
    for code, output, _ in (run(*command[2:]), end(first)):
        assert code == 0
        assert re.search(r"exclusion    0 of 52", output)
        assert "verdict: good" in output


EVERY_LOCK_IS_GRANTED = """
from tastypy import examination
examination.Examination._take = lambda *_: True
examination.release = lambda _: None
examination.examine_alone = lambda _: ""
examination.attempt = lambda _: True
"""
THE_LOCKED_FILE_IS_OLD = """
from tastypy import files
seen, read_at = {}, files.read_at
files.read_at = lambda *which: seen.setdefault(which, read_at(*which))
"""
A_FILE_DOES_NOT_GROW = """
from tastypy import files
read_file = files.read_file
files.read_file = lambda path, offset=0: b"" if "growing" in path and offset else read_file(path, offset)
"""
NEW_NAMES_ARE_MISSING = """
from tastypy import files
read_file = files.read_file
def read_but_no_new_ones(path, offset=0):
    if "/new-" in path:
        raise FileNotFoundError(path)
    return read_file(path, offset)
files.read_file = read_but_no_new_ones
"""


@pytest.mark.parametrize(
    ("program", "part", "count", "reason"),
    [
        (EVERY_LOCK_IS_GRANTED, "exclusion", "let_in", "locks do not exclude"),
        (EVERY_LOCK_IS_GRANTED, "exclusion", "met", "locks do not exclude"),
        (THE_LOCKED_FILE_IS_OLD, "freshness", "old_locked", "not seen under the lock"),
        (A_FILE_DOES_NOT_GROW, "freshness", "old_growth", "not seen under the lock"),
        (NEW_NAMES_ARE_MISSING, "freshness", "old_names", "not seen under the lock"),
    ],
)
def test_a_file_system_that_fails_between_the_two_is_bad(
    tmp_path: Path, program: str, part: str, count: str, reason: str
) -> None:
    ends = both(tmp_path, QUICK + program)
    assert [code for code, _, _ in ends] == [1, 1]
    for found in verdicts(ends):
        assert found["verdict"] == BAD
        measured = found["measured"]
        assert measured[part][count] > 0
        if count == "let_in":
            assert measured[part]["attempts"] == measured[part]["let_in"] == 52
        assert any(reason in text for text in found["reasons"])
        assert found["remedies"]
        assert found["measured"]["commit_ms"]["alone"]["commits"] == 0  # a POD is not made there
    assert list(tmp_path.iterdir()) == []


THE_POD_STOPS = """
from tastypy import IncoherentFileSystemError, PersistentOrderedDict
def incr(*_):
    raise IncoherentFileSystemError("out of line")
PersistentOrderedDict.incr = incr
"""


def test_a_pod_that_stops_with_an_error_makes_it_bad_on_both_sides(tmp_path: Path) -> None:
    ends = both(tmp_path, QUICK + THE_POD_STOPS, QUICK)
    assert [code for code, _, _ in ends] == [1, 1]
    for found in verdicts(ends):
        assert found["measured"]["troubles"] == ["a POD stopped: out of line"]
    assert list(tmp_path.iterdir()) == []


THE_FIRST_IS_LATE = """
import time
from tastypy.examination import Examination
run = Examination.run
def run_and_rest(self):
    findings = run(self)
    time.sleep(1 if self._room.side == 1 else 0)
    return findings
Examination.run = run_and_rest
"""


def test_the_side_that_is_done_first_leaves_the_last_message_for_the_other(tmp_path: Path) -> None:
    ends = both(tmp_path, QUICK + THE_FIRST_IS_LATE)
    assert [code for code, _, _ in ends] == [0, 0]


def test_the_other_side_that_never_comes_is_an_error_in_time(tmp_path: Path) -> None:
    started = time.monotonic()
    code, _, errors = run(tmp_path, "--peer", "--wait", "0.5")
    assert time.monotonic() - started < 20
    assert code == 2
    assert errors.startswith("tastypy: the other side did not come for 0.5 s; ")
    assert list(tmp_path.iterdir()) == []


def test_another_version_is_refused_by_name(tmp_path: Path) -> None:
    ends = both(tmp_path, "from tastypy import doctor\ndoctor.__version__ = '9.9'", "")
    for code, _, errors in ends:
        assert code == 2
        assert "has tastypy 9.9" in errors
    assert list(tmp_path.iterdir()) == []


def test_a_third_side_is_turned_away_and_disturbs_nobody(tmp_path: Path) -> None:
    with Room(str(tmp_path), "one"), Room(str(tmp_path), "one") as second:
        assert second.side == 2
        with pytest.raises(PeerError, match="two sides are at this examination already"), Room(str(tmp_path), "one"):
            pass
        assert os.path.exists(second.file("owner-1"))


def test_a_side_that_is_killed_is_missed_and_what_both_made_is_removed(tmp_path: Path) -> None:
    first = announced(tmp_path, program="from tastypy import doctor\ndoctor._SILENCE = 4")
    second = start(tmp_path, "--peer", "wait")
    wait_for(tmp_path / ".doctor-wait" / "lock")
    second.kill()
    end(second)
    code, _, errors = end(first)
    assert code == 2
    assert re.search(r"the other side \(.*\) was silent for 4 s", errors)
    assert list(tmp_path.iterdir()) == []


# --- its end, however it comes


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    while not path.exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def announced(directory: Path, **options: Any) -> subprocess.Popen[str]:
    """The first side, waiting for the second."""
    process = start(directory, "--peer", "wait", **options)
    assert process.stdout is not None
    process.stdout.readline()
    assert list(directory.iterdir())
    return process


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_to_the_waiting_side_leaves_nothing_behind(
    tmp_path: Path, number: signal.Signals, status: int
) -> None:
    process = announced(tmp_path)
    process.send_signal(number)
    code, _, errors = end(process)
    assert (code, errors) == (status, "")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("number", "seconds"), [(signal.SIGINT, 0), (signal.SIGTERM, 0.7), (signal.SIGINT, 1.5), (signal.SIGTERM, 3)]
)
def test_a_signal_to_one_side_at_work_ends_both_and_leaves_nothing_behind(
    tmp_path: Path, number: signal.Signals, seconds: float
) -> None:
    first = announced(tmp_path)
    second = start(tmp_path, "--peer", "wait")
    wait_for(tmp_path / ".doctor-wait" / "owner-2")
    time.sleep(seconds)
    second.send_signal(number)
    started = time.monotonic()
    assert end(second)[0] == 128 + number
    code, output, errors = end(first)
    assert time.monotonic() - started < 15
    assert (code, output.count("verdict")) == (2, 0)
    assert re.search("tastypy: the other side.* (failed: it was stopped|has ended)", errors)
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_doctor_left_is_removed_by_the_next_one(tmp_path: Path) -> None:
    process = announced(tmp_path)
    process.kill()
    end(process)
    assert [entry.name for entry in tmp_path.iterdir()] == [".doctor-wait"]
    assert run(tmp_path)[0] == 0
    assert list(tmp_path.iterdir()) == []


def test_the_examination_of_a_live_process_is_left_alone(tmp_path: Path) -> None:
    process = announced(tmp_path)
    assert run(tmp_path)[0] == 0
    assert (tmp_path / ".doctor-wait").is_dir()
    process.send_signal(signal.SIGINT)
    assert end(process)[0] == 130


# --- bad input


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (["/nonexistent"], "/nonexistent is no directory"),
        (["/etc/passwd"], "/etc/passwd is no directory"),
        (["/proc"], "/proc cannot be examined|/proc: the file system failed"),
        (["{}", "--peer", "../other"], "'../other' is no code"),
        (["{}", "--peer", "--wait", "0"], "0 is not more than 0"),
        ([], "DIR"),
    ],
)
def test_bad_input_gets_one_line_and_exits_with_2(tmp_path: Path, arguments: list[str], what: str) -> None:
    code, output, errors = run(*[argument.format(tmp_path) for argument in arguments])
    assert (code, output) == (2, "")
    assert errors.count("\n") == 1
    assert re.search(what, errors)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of .*fork:DeprecationWarning")  # a test runner has threads
def test_a_directory_without_permission_to_write_is_refused_by_name(public_directory: Path) -> None:
    public_directory.chmod(0o555)

    def body() -> None:
        if os.geteuid() == 0:
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
        with pytest.raises(PermissionDeniedError, match=f"{public_directory} cannot be examined: no permission"):
            doctor.examine(str(public_directory))

    assert in_child(body) == 0
    assert list(public_directory.iterdir()) == []


def test_a_read_only_mount_is_refused_by_name(tmp_path: Path) -> None:
    if os.geteuid() != 0 or subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "t", tmp_path], check=False).returncode:
        pytest.skip("mounting takes root")
    try:
        code, _, errors = run(tmp_path)
    finally:
        subprocess.run(["umount", tmp_path], check=True)
    assert code == 2
    assert f"{tmp_path} cannot be examined: no permission to write there (Read-only file system)" in errors
