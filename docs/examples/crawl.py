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
        self.found += [value for name, value in attrs if (tag, name) == ("a", "href") and value]


def main(start: str, path: str) -> None:
    """Begin with `start`, or go on with whatever is not done yet."""
    with Tracker[str](path, max_tries=3) as tracker:
        tracker.add_if_absent(start)
        for task in tracker.claims(wait=True):
            try:
                with task, urlopen(task.key, timeout=30) as answer:  # noqa: S310 - the address is the user's
                    page = answer.read()
                    task["kind"], task["bytes"] = answer.headers.get_content_type(), len(page)
                    if task["kind"] == "text/html":
                        links = {urldefrag(urljoin(task.key, link)).url for link in Links(page.decode("latin-1")).found}
                        tracker.add_many_if_absent(sorted(link for link in links if link.startswith(start)))
            except Exception as error:  # noqa: BLE001 - whatever is wrong with a page, it is one page's
                print(task.key, error)
        print(tracker.percent_done(), "of", len(tracker), "pages")


if __name__ == "__main__":
    main(*sys.argv[1:])
