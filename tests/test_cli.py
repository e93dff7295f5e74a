"""The command, in processes of its own: what it prints, and what it exits with."""

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tastypy import POD, Tracker, cli

TASTYPY = [sys.executable, "-m", "tastypy"]


def tastypy(*arguments: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
    command = [*TASTYPY, *map(str, arguments)]
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=60, **options)


def bash(command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["bash", "-c", command], check=False, capture_output=True, text=True, timeout=60)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A directory of 200 files in 10 directories."""
    for number in range(200):
        file = tmp_path / "tree" / str(number % 10) / f"{number}.txt"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("a line\n" * number + "and a last one without its end")
    return tmp_path / "tree"


# --- demo


def results(path: Path) -> dict[Any, Any]:
    with Tracker[Any](path, mode="r") as tracker:
        assert tracker.percent_done() == "100.00 %"
        return {key: entry["result"] for key, entry in tracker.items()}


def test_the_demo_kills_a_worker_goes_on_and_verifies_it(tree: Path, tmp_path: Path) -> None:
    result = tastypy("demo", tree, "--pod", tmp_path / "my.pod", "--workers", "3")
    assert result.returncode == 0
    assert re.fullmatch(r".*: worker \d+ died with status -9; another one takes its place\n", result.stderr)
    assert f"200 files below {tree}, 200 of them to do" in result.stdout
    assert re.search(r"200 done in \d+\.\d s, 0 failed", result.stdout)
    assert re.search(r"'.*\.txt' was tried 2 times", result.stdout)
    assert "200 of them were computed again by other means; 0 problems" in result.stdout
    assert {key: entry["lines"] for key, entry in results(tmp_path / "my.pod").items()} == {
        str(file): int(file.stem) for file in tree.rglob("*.txt")
    }
    with Tracker[str](tmp_path / "my.pod", mode="r") as tracker:
        assert sorted(entry["_tries"] for entry in tracker.values()) == [1] * 199 + [2]


def test_the_demo_with_the_tracker_of_an_earlier_one_does_only_what_changed(tree: Path, tmp_path: Path) -> None:
    assert tastypy("demo", tree, "--pod", tmp_path / "my.pod").returncode == 0
    again = tastypy("demo", tree, "--pod", tmp_path / "my.pod")
    assert (again.returncode, again.stderr) == (0, "")
    assert "0 of them to do" in again.stdout
    for number in range(5):  # more often than a task is tried
        (tree / "0" / "0.txt").write_text("changed\n" * number)
        (tree / f"new {number}.txt").write_text("new\n")
        changed = tastypy("demo", tree, "--pod", tmp_path / "my.pod")
        assert changed.returncode == 0
        assert f"{201 + number} files below {tree}, 2 of them to do" in changed.stdout
        assert results(tmp_path / "my.pod")[str(tree / "0" / "0.txt")]["lines"] == number


def test_what_the_demo_says_about_looking_at_the_tracker_works(tree: Path) -> None:
    result = tastypy("demo", tree)
    commands = re.findall(r"^  (.+)$", result.stdout.partition("Look at it:")[2], re.MULTILINE)
    path = re.findall(r"to do, in (.*)", result.stdout)[0]
    try:
        assert len(commands) == 3
        for command in commands:
            shown = bash(command)
            assert (shown.returncode, shown.stderr) == (0, ""), command
            assert shown.stdout
    finally:
        subprocess.run(["rm", "-r", str(Path(path).parent)], check=True)


def test_the_demo_reads_a_tree_with_every_kind_of_odd_thing_in_it(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "folder").mkdir(parents=True)
    (tree / "broken").symlink_to("nowhere")
    (tree / "loop").symlink_to(tree)
    (tree / "empty").touch()
    (tree / "new\nline").write_text("1\n")
    (tree / "naïve \U0001f600").write_text("1\n2\n")
    (tree / os.fsdecode(b"caf\xe9 \\xe9")).write_bytes(b"not UTF-8\xff\n")
    (tree / "binary").write_bytes(bytes(range(256)) * 9000)
    os.mkfifo(tree / "pipe")
    result = tastypy("demo", tree, "--pod", tree / "my.pod", env={**os.environ, "LC_ALL": "C"})
    assert result.returncode == 0
    assert f"left out: '{tree}/pipe' is no file" in result.stdout
    found = results(tree / "my.pod")
    assert found[str(tree / "broken")]["error"] == "No such file or directory"
    lines = {key if isinstance(key, tuple) else Path(key).name: result.get("lines") for key, result in found.items()}
    odd = ("bytes", f"{tree}/caf%E9%20%5Cxe9")
    assert lines == {"broken": None, "empty": 0, "new\nline": 1, "naïve \U0001f600": 2, odd: 1, "binary": 9000}


def test_a_wrong_result_is_found_and_makes_the_demo_fail(tree: Path, tmp_path: Path) -> None:
    assert tastypy("demo", tree, "--pod", tmp_path / "my.pod").returncode == 0
    with Tracker[str](tmp_path / "my.pod") as tracker, tracker.edit(str(tree / "1" / "1.txt")) as entry:
        entry["result"]["lines"] = 17
    result = tastypy("demo", tree, "--pod", tmp_path / "my.pod")
    assert result.returncode == 1
    assert f"wrong: {tree}/1/1.txt" in result.stdout


def test_ctrl_c_in_the_demo_keeps_what_is_done_and_says_how_to_go_on(tree: Path, tmp_path: Path) -> None:
    for number in range(20_000):
        (tree / f"more {number}").touch()
    command = [*TASTYPY, "demo", str(tree), "--pod", str(tmp_path / "my.pod")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, process_group=0)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:  # until workers are at work
        try:
            with Tracker[str](tmp_path / "my.pod", mode="r") as tracker:
                if tracker.num_done():
                    break
        except FileNotFoundError:
            time.sleep(0.01)
    os.killpg(process.pid, signal.SIGINT)
    output, errors = process.communicate(timeout=60)
    assert (process.returncode, re.sub(".* died with status -9; .*\n", "", errors)) == (130, "")
    assert shlex.join(command) in output
    with Tracker[str](tmp_path / "my.pod", mode="r") as tracker:
        counts = tracker.counts()
        assert (counts.done > 0, counts.claimed, counts.failed) == (True, 0, 0)


def test_the_demo_on_a_pipe_whose_reader_goes_ends_without_a_traceback(tree: Path, tmp_path: Path) -> None:
    result = bash(shlex.join([*TASTYPY, "demo", str(tree), "--pod", str(tmp_path / "my.pod")]) + " | head -n 1")
    assert result.stdout.startswith(f"200 files below {tree}")
    assert "Traceback" not in result.stderr


# --- check and repair


@pytest.fixture
def damaged(tmp_path: Path) -> Path:
    """A POD of two shards, one of which has a flipped bit."""
    with POD[str, str](tmp_path / "my.pod", shard_bytes=1000) as pod:
        pod.update({f"key {number}": "x" * 100 for number in range(16)})
        pod.sync()
        assert pod.stats().shards == 2
    shard = next((tmp_path / "my.pod").glob("0001-*"))
    data = bytearray(shard.read_bytes())
    data[40] ^= 1
    shard.write_bytes(data)
    return tmp_path / "my.pod"


def test_check_of_a_good_pod_exits_with_0(tmp_path: Path) -> None:
    POD[str, int](tmp_path / "my.pod")["foo"] = 1
    result = tastypy("check", tmp_path / "my.pod")
    assert (result.returncode, result.stdout, result.stderr) == (0, f"{tmp_path}/my.pod: no problem\n", "")


def test_check_names_the_damaged_file_and_exits_with_1(damaged: Path) -> None:
    result = tastypy("check", damaged)
    assert result.returncode == 1
    assert re.search(r"^0001-\d+\.json: damaged", result.stdout)
    assert result.stdout.endswith(": 1 problem\n")


def test_repair_keeps_the_good_shard_and_is_done_when_what_was_set_aside_is_removed(damaged: Path) -> None:
    result = tastypy("repair", damaged)
    assert result.returncode == 1
    assert re.search(r"^0001-\d+\.json: damaged.* set aside in aside-", result.stdout)
    assert "left: aside-" in result.stdout
    with POD[str, str](damaged) as pod:
        assert 0 < len(pod) < 16
    for aside in damaged.glob("aside-*"):
        aside.unlink()
    result = tastypy("repair", damaged)
    assert (result.returncode, result.stdout) == (0, f"{damaged}: nothing to repair\n")


# --- mistakes


def test_the_name_of_a_file_is_shown_and_not_obeyed(tree: Path, tmp_path: Path) -> None:
    """Whoever may write in a directory must not reach the terminal of who looks at it."""
    name, shown = "\x1b]0;title\x07\x9b2J", r"\x1b]0;title\x07\x9b2J"
    POD[str, int](tmp_path / "my.pod")["foo"] = 1
    (tmp_path / "my.pod" / f"aside-00000000-{name}").touch()
    for command in ("check", "repair"):
        assert f"aside-00000000-{shown}: set aside; remove it" in tastypy(command, tmp_path / "my.pod").stdout
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / f"{name}\n").touch()
    result = tastypy("demo", tree, "--pod", tmp_path / "other")
    assert f"{tmp_path}/other is a directory with other things in it ({shown}\\n)" in result.stderr
    assert (result.returncode, result.stderr.count("\n")) == (2, 1)


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (["demo", "/nonexistent"], "/nonexistent is not a directory"),
        (["demo", "/etc/passwd"], "/etc/passwd is not a directory"),
        (["demo", "{empty}"], "there is no file to read below {empty}"),
        (["demo", "{tree}", "--pod", "{tree}"], "{tree} is a directory with other things in it"),
        (["demo", "{tree}", "--pod", "{other}"], "{other} is not a tracker"),
        (["demo", "--workers", "0"], "0 is less than 1"),
        (["demo", "--workers", "many"], "many"),
        (["check", "/nonexistent"], "there is no POD at /nonexistent"),
        (["check", "{tree}"], "there is no POD at {tree}"),
        (["repair", "{tree}"], "there is no POD at {tree}"),
        (["repair", "{empty}/nothing"], "there is no POD at {empty}/nothing"),
        (["frobnicate"], "frobnicate"),
        ([], "COMMAND"),
    ],
)
def test_a_mistake_gets_one_line_and_exits_with_2(arguments: list[str], what: str, tree: Path, tmp_path: Path) -> None:
    places = {"tree": str(tree), "empty": str(tmp_path / "empty"), "other": str(tmp_path / "other")}
    (tmp_path / "empty").mkdir()
    POD[str, int](tmp_path / "other")["foo"] = 1
    result = tastypy(*[argument.format(**places) for argument in arguments])
    assert result.returncode == 2
    assert result.stderr.count("\n") == 1
    assert result.stderr.startswith("tastypy")
    assert what.format(**places) in result.stderr
    assert not list((tmp_path / "empty").iterdir())


def test_help_tells_the_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["--help"], ["demo", "--help"], ["check", "--help"], ["repair", "--help"]):
        with pytest.raises(SystemExit) as end:
            cli.main(arguments)
        assert end.value.code == 0
        assert "exit codes:\n  0 " in capsys.readouterr().out


def test_the_installed_command_is_the_module() -> None:
    installed = Path(sys.executable).with_name("tastypy")
    if not installed.exists():
        pytest.skip("tastypy is not installed beside this Python")
    version = subprocess.run([installed, "--version"], capture_output=True, text=True, check=True).stdout
    assert version == tastypy("--version").stdout
