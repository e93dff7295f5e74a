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

from tastypy import POD, cli, demo

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


def test_the_demo_kills_a_worker_goes_on_from_what_is_stored_and_verifies_it(tree: Path, tmp_path: Path) -> None:
    result = tastypy("demo", tree, "--pod", tmp_path / "my.pod", "--workers", "3")
    assert (result.returncode, result.stderr) == (0, "")
    assert "run 1: 200 files to do, 3 workers" in result.stdout
    assert re.search(r"worker \d+ was killed with SIGKILL", result.stdout)
    assert ", 0 of them are lost" in result.stdout
    stored, left = re.findall(r"run 2: (\d+) results of run 1 are stored, (\d+) files to do", result.stdout)[0]
    assert (int(stored) + int(left), int(stored) >= 66, int(left) > 0) == (200, True, True)
    assert re.search(r"files with an entry +200 of 200", result.stdout)
    assert re.search(r"computed again +200 of 200 agree", result.stdout)
    with POD[str, Any](tmp_path / "my.pod", mode="r") as pod:
        assert {entry["run"] for entry in pod.values()} == {1, 2}
        assert all(pod[str(file)]["lines"] == int(file.stem) for file in tree.rglob("*.txt"))


def test_the_demo_with_the_pod_of_an_earlier_one_does_only_what_changed(tree: Path, tmp_path: Path) -> None:
    assert tastypy("demo", tree, "--pod", tmp_path / "my.pod").returncode == 0
    again = tastypy("demo", tree, "--pod", tmp_path / "my.pod")
    assert again.returncode == 0
    assert "200 of them are in" in again.stdout
    assert "run 3" not in again.stdout
    (tree / "0" / "0.txt").write_text("changed\n")
    (tree / "new.txt").write_text("new\n")
    changed = tastypy("demo", tree, "--pod", tmp_path / "my.pod")
    assert changed.returncode == 0
    assert "run 3: 2 files to do" in changed.stdout


def test_what_the_demo_says_about_looking_at_the_pod_works(tree: Path) -> None:
    result = tastypy("demo", tree)
    commands = re.findall(r"^  (.+)$", result.stdout.partition("Look at it:")[2], re.MULTILINE)
    pod_path = re.findall(r"The POD: (.*)", result.stdout)[0]
    try:
        assert len(commands) >= 4
        for command in commands:
            shown = bash(command)
            assert (shown.returncode, shown.stderr) == (0, ""), command
            assert shown.stdout
    finally:
        subprocess.run(["rm", "-r", str(Path(pod_path).parent)], check=True)


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
    assert (result.returncode, result.stderr) == (0, "")
    assert "left out: pipes, sockets or devices, 1 in all" in result.stdout
    with POD[Any, Any](tree / "my.pod", mode="r") as pod:
        assert pod[str(tree / "broken")]["error"] == "No such file or directory"
        lines = {key if isinstance(key, tuple) else Path(key).name: entry.get("lines") for key, entry in pod.items()}
    odd = ("bytes", f"{tree}/caf%E9%20%5Cxe9")
    assert lines == {"broken": None, "empty": 0, "new\nline": 1, "naïve \U0001f600": 2, odd: 1, "binary": 9000}


def test_a_wrong_entry_is_found_and_makes_the_demo_fail(tree: Path, tmp_path: Path) -> None:
    assert tastypy("demo", tree, "--pod", tmp_path / "my.pod").returncode == 0
    with POD[str, Any](tmp_path / "my.pod") as pod, pod.edit(str(tree / "1" / "1.txt")) as entry:
        entry["lines"] = 17
    result = tastypy("demo", tree, "--pod", tmp_path / "my.pod")
    assert result.returncode == 1
    assert f"wrong: {tree}/1/1.txt" in result.stdout


def test_a_file_that_changed_after_it_was_read_is_not_taken_for_a_wrong_entry(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("one\n")
    known = next(iter(demo.list_files(str(tmp_path), None).files.values()))
    assert demo.describe(known)["lines"] == 1
    file.write_text("one\ntwo\n")
    assert demo._recompute(known) is None
    file.unlink()
    assert demo._recompute(known) is None
    assert demo.describe(known)["error"] == "No such file or directory"


def test_ctrl_c_in_the_demo_keeps_what_is_done_and_says_how_to_go_on(tree: Path, tmp_path: Path) -> None:
    for number in range(20_000):
        (tree / f"more {number}").touch()
    command = [*TASTYPY, "demo", str(tree), "--pod", str(tmp_path / "my.pod")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, process_group=0)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:  # until workers are at work
        try:
            with POD[str, Any](tmp_path / "my.pod", mode="r") as pod:
                if pod:
                    break
        except FileNotFoundError:
            time.sleep(0.01)
    os.killpg(process.pid, signal.SIGINT)
    output, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (130, "")
    assert shlex.join(command) in output
    with POD[str, Any](tmp_path / "my.pod", mode="r") as pod:
        assert pod


def test_the_demo_on_a_pipe_whose_reader_goes_ends_without_a_traceback(tree: Path, tmp_path: Path) -> None:
    result = bash(shlex.join([*TASTYPY, "demo", str(tree), "--pod", str(tmp_path / "my.pod")]) + " | head -n 1")
    assert (result.stdout, result.stderr) == (f"200 files below {tree}\n", "")


def test_on_a_terminal_the_demo_draws_a_bar_over_and_over(tree: Path, tmp_path: Path) -> None:
    leader, follower = os.openpty()
    command = [*TASTYPY, "demo", str(tree), "--pod", str(tmp_path / "my.pod")]
    with subprocess.Popen(command, stdout=follower, stderr=follower, env={**os.environ, "COLUMNS": "60"}):
        os.close(follower)
        shown = b""
        try:
            while part := os.read(leader, 1 << 16):
                shown += part
        except OSError:  # how a terminal says that nobody writes to it any more
            pass
    os.close(leader)
    bars = re.findall(rb"\r  \[(#*)(\.*)\] ([\d,]+) of ([\d,]+)", shown)
    assert len(bars) >= 2
    assert {len(full) + len(rest) for full, rest, *_ in bars} <= set(range(30, 50))
    assert bars[-1][1] == b""
    assert bars[-1][2] == bars[-1][3]


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


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (["demo", "/nonexistent"], "/nonexistent is not a directory"),
        (["demo", "/etc/passwd"], "/etc/passwd is not a directory"),
        (["demo", "{empty}"], "there is no file to read below {empty}"),
        (["demo", "{tree}", "--pod", "{tree}"], "{tree} is a directory with other things in it"),
        (["demo", "{tree}", "--pod", "{other}"], "{other} has other things in it"),
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
