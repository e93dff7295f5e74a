"""What `tastypy doctor` concludes from what it found."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tastypy import doctor
from tastypy.doctor import BAD, GOOD, UNPROVEN, Report, Side
from tastypy.findings import Findings
from tastypy.mounts import Mount

NFS = Mount("/shared", "nfs4", "server:/", ("rw", "vers=4.2", "hard", "local_lock=none"))
RIGHT = Findings(attempts=52, turns=100, looks=50, releases=[0.01, 0.01], alone=[0.001], together=[0.001])


def side(host: str = "one", mount: Mount | None = NFS, *, device: int = 1, flock: str = "") -> Side:
    return Side("1.0", host, f"boot of {host}", "/shared/pods", mount, device, flock, 10**9)


def judged(one: Side, two: Side | None = None, **faults: Any) -> Report:
    findings = Findings(**{**vars(RIGHT), **faults}) if two else None
    report = Report(one, two, "code" if two else None, findings)
    doctor.judge(report)
    return report


def test_a_network_file_system_is_unproven_until_two_hosts_have_examined_it() -> None:
    report = judged(side())
    assert report.verdict == UNPROVEN
    assert "tastypy doctor /shared/pods --peer" in report.remedies[0]


def test_two_hosts_that_find_everything_right_make_it_good() -> None:
    assert judged(side(), side("two")).verdict == GOOD
    assert judged(side(), side(device=2)).verdict == GOOD  # one host, but two mounts of their own


@pytest.mark.parametrize("few", [{"turns": 9}, {"looks": 3}])
def test_a_few_looks_at_a_slow_file_system_prove_nothing(few: dict[str, int]) -> None:
    report = judged(side(), side("two"), **few)
    assert report.verdict == UNPROVEN
    assert "run it again" in report.remedies[0]


def test_two_sides_through_one_mount_prove_nothing_about_a_network_file_system() -> None:
    assert judged(side(), side()).verdict == UNPROVEN


def test_an_unknown_mount_is_treated_as_a_network_one() -> None:
    assert judged(side(mount=None)).verdict == UNPROVEN
    report = judged(side(mount=None), side("two", None), let_in=1)
    assert report.verdict == BAD
    assert report.lines()


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ({"let_in": 1}, "locks do not exclude"),
        ({"met": 1}, "locks do not exclude"),
        ({"lost": 1}, "1 counts were lost"),
        ({"old_growth": 1}, "not seen under the lock"),
        ({"old_locked": 1}, "not seen under the lock"),
        ({"old_names": 1}, "not seen under the lock"),
        ({"releases": [0.1, -1.0]}, "stays taken"),
        ({"lost_commits": 1}, "1 commits to a POD were lost"),
        ({"troubles": ["a lock"]}, "a lock"),
    ],
)
def test_each_thing_that_goes_wrong_between_two_hosts_makes_it_bad(fault: dict[str, Any], reason: str) -> None:
    report = judged(side(), side("two"), **fault)
    assert report.verdict == BAD
    assert any(reason in text for text in report.reasons)
    assert all(text.startswith("/shared (NFS 4.2) on one and /shared (NFS 4.2) on two: ") for text in report.reasons)
    assert "vers=4.2" in report.remedies[0]
    assert not Findings(**{**vars(RIGHT), **fault}).flawless
    assert json.loads(report.as_json())["verdict"] == BAD


def test_an_option_that_breaks_locks_is_named_at_once_for_the_host_that_has_it() -> None:
    bad = NFS._replace(options=("rw", "vers=3", "nolock", "local_lock=all"))
    assert judged(side(mount=bad)).verdict == BAD
    report = judged(side(), side("two", bad))
    assert report.verdict == BAD
    assert report.reasons == [
        "/shared (NFS 3) on two: nolock keeps flock within each host, so that two hosts get one lock"
    ]


def test_what_to_change_is_the_option_where_one_is_known_to_be_wrong_and_what_such_a_mount_needs_elsewhere() -> None:
    bad = NFS._replace(options=("rw", "vers=4.2", "nocto"))
    report = judged(side(mount=bad), side("two"), old_growth=1)
    assert report.remedies == [
        "/shared (NFS 4.2) on one: mount it without nocto",
        "/shared (NFS 4.2) on two: mount it with vers=4.2, and without nolock, local_lock= or nocto, on every host",
    ]


def test_a_mount_without_flock_may_do_with_leases() -> None:
    lustre = Mount("/shared", "lustre", "server:volume", ("rw",))
    report = judged(side(mount=lustre, flock="flock does not work (Function not implemented)"))
    assert report.verdict == BAD
    assert [text.partition(": ")[2][:30] for text in report.remedies] == [
        "mount it with -o flock on ever",
        "or, if it cannot have flock, m",
    ]
    assert 'lock="lease"' in report.remedies[1]


def test_what_was_tried_out_needs_no_warning() -> None:
    gluster = Mount("/shared", "fuse.glusterfs", "server:volume", ("rw",))
    assert judged(side(mount=gluster)).notes
    assert judged(side(mount=gluster), side("two", gluster)).notes == []


def test_a_side_survives_the_journey_through_a_message() -> None:
    for one in (side(), side(mount=None)):
        assert Side.from_dict(json.loads(json.dumps(one.as_dict()))) == one
