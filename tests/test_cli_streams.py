"""Where the command's output goes, and what stops it: pipes, full and closed ones, other encodings, terminals, Ctrl-C."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import helpers
import pytest
from cli_helpers import PATIENCE, TASTYPY, alone, bash, environment
from helpers import in_child

from tastypy import POD, cli


@pytest.fixture
def full(path: Path) -> Path:
    """A POD with more than a pipe takes at once."""
    with POD[str, Any](path) as pod:
        pod.update({f"key {number}": "x" * 9 for number in range(20_000)})
        pod["odd"] = {"snow": "☃", "smile": "\U0001f600", "café": True}
    return path


# ---------------------------------------------------------------------------------------------------------------- pipes


def test_a_reader_that_goes_ends_it_silently(full: Path) -> None:
    done = bash(f"for command in ls keys; do tastypy $command {full} | head -n 1; echo ${{PIPESTATUS[0]}}; done")
    assert (done.stdout, done.stderr) == (f'key 0\t"{"x" * 9}"\n141\nkey 0\n141\n', "")
    done = bash("tastypy --help | true; echo ${PIPESTATUS[0]}")
    assert (done.stdout in ("141\n", "0\n"), done.stderr) == (True, "")


@pytest.mark.parametrize("command", ["keys {}", "get {} odd", "--help", "check {}", "log {}", "info {} --json"])
def test_a_full_disk_behind_the_output_gets_one_line(full: Path, command: str) -> None:
    done = bash(f"tastypy {command.format(full)} > /dev/full")
    assert (done.returncode, done.stdout, done.stderr) == (2, "", "tastypy: writing failed: No space left on device\n")


def test_closed_streams_are_no_reason_to_fail(full: Path) -> None:
    done = bash(
        f"tastypy get {full} odd >&-; echo $?; tastypy get {full} nope 2>&-; echo $?; tastypy set {full} x - <&-; echo $?"
    )
    assert done.stdout == "0\n1\n2\n"
    assert (
        done.stderr
        == "tastypy: '' is no JSON: Expecting value: line 1 column 1 (char 0); --str stores a text as it is\n"
    )
    assert bash(f"tastypy info {full} >&- 2>&- <&-").returncode == 0


def test_a_shells_tools_read_what_is_printed(full: Path) -> None:
    done = bash(
        f"""
        tastypy keys {full} | wc -l
        tastypy keys {full} --pattern 'key 199??' -0 | xargs -0 {" ".join(TASTYPY)} del {full} --
        tastypy keys {full} | tail -n 1
        tastypy get {full} odd --raw | {sys.executable} -c 'import json, sys; print(json.load(sys.stdin)["snow"])'
        name=$(tastypy get {full} nope --raw) || echo none
        """
    )
    assert done.stdout == "20001\nodd\n☃\nnone\n"
    assert done.stderr == f"tastypy: nope: there is no such key in {full}\n"
    with POD[str, Any](full, mode="r") as pod:
        assert len(pod) == 19901


# ------------------------------------------------------------------------------------------------------------ encodings


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_json_is_json_whatever_the_encoding(full: Path, encoding: str) -> None:
    for command in (["get", full, "odd"], ["ls", full, "--tail", "1", "--json"]):
        out = alone(*command, encoding=encoding, env=environment(PYTHONIOENCODING=encoding)).stdout
        value = json.loads(out)
        assert value.get("value", value) == {"snow": "☃", "smile": "\U0001f600", "café": True}
    assert alone("status", full, env=environment(PYTHONIOENCODING=encoding)).stderr.count("\n") == 1


def test_a_path_that_is_no_text_is_a_path_like_others(tmp_path: Path) -> None:
    place = os.path.join(os.fsencode(tmp_path), b"caf\xe9 \x1b[31m.pod")

    def run(command: str, *arguments: str) -> subprocess.CompletedProcess[bytes]:
        line = [*map(os.fsencode, TASTYPY), command.encode(), place, *map(os.fsencode, arguments)]
        return subprocess.run(line, check=False, capture_output=True, timeout=PATIENCE, env=environment())

    assert run("set", "foo", "1", "--create").returncode == 0
    shown = re.escape(str(tmp_path)) + r"/caf\\udce9 (\x1b|\\x1b)\[31m\.pod"
    for command in (["info"], ["info", "--json"], ["sync"], ["sync", "--json"], ["check"], ["check", "--json"]):
        done = run(*command)
        assert (done.returncode, done.stderr) == (0, b"")
        text = done.stdout.decode()
        path = json.loads(text)["path"] if command[-1] == "--json" else text
        assert re.search(shown, path), command
    done = run("get", "nope")
    assert (done.returncode, done.stderr.count(b"\n")) == (1, 1)


# ------------------------------------------------------------------------------------------------------------ terminals


class Screen:
    """A terminal on which a command runs."""

    def __init__(self) -> None:
        self.here, self.there = pty.openpty()

    def run(self, *arguments: object, columns: int = 80, **variables: str) -> str:
        """What is written on it, which may have so many columns."""
        process = self.start(*arguments, columns=columns, **variables)
        text = self.read(process)
        assert process.wait(PATIENCE) == 0, text
        return text

    def start(self, *arguments: object, columns: int = 80, **variables: str) -> subprocess.Popen[bytes]:
        """Start a command on it."""
        fcntl.ioctl(self.there, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        command = [*TASTYPY, *map(str, arguments)]
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=self.there,
            env=environment(**{"TERM": "xterm-256color", **variables}),
        )
        helpers._started.append(process)
        return process

    def read(self, process: subprocess.Popen[bytes] | None, until: str = "\0") -> str:
        """What is written until the process ends, or until that text comes."""
        text = ""
        while until not in text:
            if select.select([self.here], [], [], 0.02)[0]:
                text += os.read(self.here, 1 << 16).decode()
            elif process is not None and process.poll() is not None:
                break
        return text.replace("\r\n", "\n")


@pytest.fixture
def screen() -> Iterator[Screen]:
    """A terminal."""
    screen = Screen()
    yield screen
    helpers.end_all()
    os.close(screen.here)
    os.close(screen.there)


def plain(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


@pytest.mark.parametrize("columns", [80, 40, 12])
def test_ls_fits_the_width_of_a_terminal(screen: Screen, path: Path, columns: int) -> None:
    with POD[Any, Any](path) as pod:
        pod.update({"short": 1, "a much longer key of a URL, it seems" * 3: "v" * 200, "雪" * 50: "雪" * 50})
    lines = plain(screen.run("ls", path, columns=columns)).splitlines()
    assert len(lines) == 3
    assert max(len(line) + line.count("雪") for line in lines) < columns
    assert all("..." in line for line in lines[1:])


def test_there_are_colours_on_a_terminal_unless_no_color_is_set(screen: Screen, full: Path) -> None:
    for command in (["get", full, "odd"], ["ls", full, "--limit", "1"], ["info", full]):
        coloured, bare = screen.run(*command), screen.run(*command, NO_COLOR="1")
        assert re.search(r"\x1b\[[0-9;]*3[0-9]", coloured), command
        assert "\x1b[3" not in bare
        assert plain(coloured) == plain(bare)
        assert "\x1b" not in screen.run(*command, TERM="dumb")


def test_without_rich_there_is_the_same_text(screen: Screen, full: Path, tmp_path: Path) -> None:
    (tmp_path / "without").mkdir()
    (tmp_path / "without" / "rich.py").write_text("raise ImportError('not installed')")
    without = os.pathsep.join([str(tmp_path / "without"), *filter(None, sys.path)])
    for command in (["get", full, "odd"], ["ls", full, "--limit", "2"]):
        bare = screen.run(*command, PYTHONPATH=without)
        assert "\x1b" not in bare
        assert bare == plain(screen.run(*command))


def test_a_value_on_a_terminal_is_laid_out_and_a_line_in_a_pipe(screen: Screen, full: Path) -> None:
    shown = plain(screen.run("get", full, "odd", columns=12))
    assert shown == '{\n  "snow": "☃",\n  "smile": "\U0001f600",\n  "café": true\n}\n'
    assert alone("get", full, "odd").stdout.count("\n") == 1


def test_what_a_terminal_would_obey_is_shown(screen: Screen, path: Path) -> None:
    evil = "\x1b]0;title\x07\x9b31m\u202e\u2028\x7f"
    with POD[str, Any](path) as pod:
        pod[evil] = {evil: evil}
        pod.update({"_": {"_error": evil}})
    for command in (["ls", path], ["keys", path], ["get", path, "--", evil], ["log", path]):
        shown = plain(screen.run(*command))
        assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e\u2028]", shown), command
    assert json.loads(plain(screen.run("get", path, "--", evil))) == {evil: evil}


# --------------------------------------------------------------------------------------------------------------- Ctrl-C


def test_ctrl_c_while_it_waits_for_the_lock_ends_it(full: Path) -> None:
    holder = helpers.start("stand_in_transaction", full)
    assert helpers.hear(holder)
    process = subprocess.Popen(
        [*TASTYPY, "set", str(full), "foo", "1"], stderr=subprocess.PIPE, stdin=subprocess.PIPE, env=environment()
    )
    helpers._started.append(process)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(1)
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=PATIENCE)[1] == b""
    assert process.returncode == 130
    done = alone("set", full, "foo", "1", "--timeout", "0.1")
    assert (done.returncode, done.stderr.count("\n"), "lock" in done.stderr) == (2, 1, True)
    for command in (["del", full, "odd"], ["sync", full], ["repair", full]):
        assert alone(*command, "--timeout", "0.1").returncode == 2
    assert alone("get", full, "odd").returncode == 0, "who reads does not wait"


def test_ctrl_c_in_a_command_is_130_and_no_traceback(
    full: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("tastypy.by_hand.opened", interrupted)
    assert cli.main(["ls", str(full)]) == 130
    monkeypatch.setattr("tastypy.cli.parser", interrupted)
    assert cli.main(["ls", str(full)]) == 130
    assert capsys.readouterr() == ("", "")


# ---------------------------------------------------------------------------------------------------------- permissions


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_who_may_not_write_can_read_and_is_told(public_directory: Path) -> None:
    place = public_directory / "my.pod"
    POD[str, int](place)["foo"] = 1
    (public_directory / "secret").mkdir(mode=0o700)

    def body() -> None:
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
        for command in ("ls", "keys", "info", "log", "check"):
            assert cli.main([command, str(place)]) == 0
        for arguments in (
            ["set", str(place), "foo", "1"],
            ["del", str(place), "foo"],
            ["sync", str(place)],
            ["repair", str(place)],
        ):
            assert cli.main(arguments) == 2
        for path in (public_directory / "secret" / "my.pod", public_directory / "secret"):
            for arguments in (["ls"], ["set", "--create"], ["log"], ["info"]):
                values = ["foo", "1"] if arguments[0] == "set" else []
                assert cli.main([*arguments, str(path), *values]) == 2

    before = helpers.files(place)
    place.chmod(0o555)
    assert in_child(body) == 0
    place.chmod(0o755)
    assert helpers.files(place) == before
