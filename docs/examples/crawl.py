"""Fetch every page below an address, by as many of these programs as you start.

    python crawl.py http://localhost:8765/ pages.tracker

Stop it, kill it, start it three times at once: no page is fetched twice at a time, and none is forgotten.
"""

import sys
from html.parser import HTMLParser
from urllib.parse import urldefrag, urljoin
from urllib.request import urlopen

from tastypy import Tracker


class Links(HTMLParser):
    """What a page links to."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keep the address of a link."""
        if tag == "a":
            self.found += [value for name, value in attrs if name == "href" and value]


def fetch(address: str) -> tuple[str, int, set[str]]:
    """Return the kind and the size of a page, and the addresses that it links to."""
    with urlopen(address, timeout=30) as answer:  # noqa: S310 - below START, whose scheme the user typed
        page, kind = answer.read(), answer.headers.get_content_type()
    found = Links(page.decode("latin-1")).found if kind == "text/html" else []
    return kind, len(page), {urldefrag(urljoin(address, link)).url for link in found}


def main(start: str, path: str) -> None:
    """Begin with `start`, or go on with whatever is not done yet."""
    with Tracker[str](path, max_tries=3) as tracker:
        tracker.add_if_absent(start)
        for task in tracker.claims(wait=True):
            try:
                with task:
                    task["kind"], task["bytes"], links = fetch(task.key)
                    below = sorted(link for link in links if link.startswith(start))
                    tracker.add_many_if_absent(below)
            except Exception as error:  # noqa: BLE001 - it is stored with its page; the others go on
                print(task.key, error)
        print(tracker.percent_done(), "of", len(tracker), "pages")


if __name__ == "__main__":
    main(*sys.argv[1:])
