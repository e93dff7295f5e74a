"""The crawler in the documentation, on a site of its own: it is killed, three go on at once, and no page is forgotten."""

import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from tastypy import Tracker

SCRIPT = Path(__file__).resolve().parent.parent / "docs/examples/crawl.py"


def test_a_crawl_that_is_killed_goes_on_and_fetches_each_page_once(tmp_path: Path) -> None:
    site = tmp_path / "site"
    for number in range(40):
        directory = site / str(number % 5)
        directory.mkdir(parents=True, exist_ok=True)
        (directory / f"{number}.txt").write_text("text\n" * number)
    fetched: Counter[str] = Counter()

    class Handler(SimpleHTTPRequestHandler):
        def __init__(self, *arguments: object) -> None:
            super().__init__(*arguments, directory=str(site))  # type: ignore[arg-type] # passed on as they came

        def do_GET(self) -> None:
            fetched[self.path] += 1
            time.sleep(0.02)
            super().do_GET()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        start, path = f"http://127.0.0.1:{server.server_port}/", tmp_path / "pages.tracker"
        command = [sys.executable, str(SCRIPT), start, str(path)]
        first = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 60
        while sum(fetched.values()) < 10:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        first.kill()
        assert first.wait(timeout=60) == -signal.SIGKILL
        with Tracker[str](path) as tracker:
            assert 0 < tracker.num_done() < 46
        others = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
        assert [other.communicate(timeout=60)[0] for other in others] == ["100.00 % of 46 pages\n"] * 3
        server.shutdown()

    with Tracker[str](path, mode="r") as tracker:
        assert tracker[f"{start}3/38.txt"]["bytes"] == 5 * 38
        assert tracker.num_done() == len(tracker) == 1 + 5 + 40
    assert len(fetched) == 46
    assert sum(fetched.values()) <= 47, "the page that the killed one had in hand may be fetched twice"
