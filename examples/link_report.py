"""The report of a link check: which pages have a link and where redirects end, as a table or as JSON lines."""

import argparse
import json
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import NotRequired, TextIO, TypedDict

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

LISTED_PAGES = 10  # in the JSON, of those that have a link; the others are counted
SHOWN_PAGES = 3  # in the table
WORDS = {
    "ok": "fine",
    "redirected": "redirected",
    "skipped": "skipped",
    "unchecked": "not checked yet",
    "broken": "broken",
}


class Outcome(TypedDict):
    """The outcome of checking a link: the result of its item."""

    url: str
    state: str  # ok, redirect, broken or skipped
    redirects: int  # how many led here
    problem: str
    status: NotRequired[int]
    to: NotRequired[str]
    links: NotRequired[list[str]]
    invalid: NotRequired[list[str]]  # links that aren't valid URLs


@dataclass
class Checked:
    """What the report says about one link: a line of the JSON."""

    url: str
    state: str  # ok, redirected, broken, skipped or unchecked
    status: int | None  # of the HTTP answer; None if there was none
    problem: str
    redirects: list[str]  # the addresses that it redirects to, in order
    pages: int  # how many pages have it
    found_on: list[str]  # the first of them


class Report:
    """Collects the outcomes of all links."""

    def __init__(self) -> None:
        self.outcomes: dict[str, Outcome] = {}
        self.pages: Counter[str] = Counter()  # how many have a link
        self.pages_read = 0
        self.found_on: defaultdict[str, list[str]] = defaultdict(list)

    def add(self, outcome: Outcome) -> None:
        kept = outcome.copy()  # the links are only needed for `found_on`
        links, invalid = kept.pop("links", []), kept.pop("invalid", [])
        self.outcomes[kept["url"]] = kept
        self.pages_read += "links" in outcome
        for link in invalid:
            self.outcomes[link] = Outcome(url=link, state="broken", problem="not a valid URL", redirects=0)
        for link in links + invalid:
            self.pages[link] += 1
            if len(self.found_on[link]) < LISTED_PAGES:
                self.found_on[link].append(kept["url"])

    def links(self) -> Iterator[Checked]:
        """Yield every link that is on a page or was given; the target of a redirect only belongs to its link."""
        given = {url for url, outcome in self.outcomes.items() if not outcome["redirects"]}
        for url in sorted(given | self.pages.keys()):
            yield self.follow(Checked(url, "", None, "", [], self.pages[url], self.found_on.get(url, [])))

    def follow(self, link: Checked) -> Checked:
        """Fill in the final outcome of a link, after all redirects."""
        url = link.url
        while (outcome := self.outcomes.get(url)) and outcome["state"] == "redirect":
            url = outcome["to"]
            if url in {link.url, *link.redirects}:
                link.redirects.append(url)
                link.state, link.problem = "broken", "redirect loop"
                return link
            link.redirects.append(url)
        if outcome is None:
            link.state = "unchecked"
            return link
        link.status = outcome.get("status")
        link.problem = outcome["problem"]
        link.state = "redirected" if link.redirects and outcome["state"] != "broken" else outcome["state"]
        return link


def show(links: list[Checked], states: tuple[str, ...], console: Console) -> None:
    """Print a table of the links in some of the states."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, header_style="bold")
    table.add_column("Problem", max_width=min(40, max(16, console.width // 4)), overflow="fold")
    table.add_column("Link and the pages it is on")
    rows = sorted((link for link in links if link.state in states), key=lambda link: states.index(link.state))
    for link in rows:
        cell = Table.grid(padding=(0, 1))
        cell.add_column(min_width=2)
        cell.add_column(overflow="fold")
        cell.add_row("", Text(link.url))
        for url in link.redirects:
            cell.add_row("to", Text(url))
        for url in link.found_on[:SHOWN_PAGES]:
            cell.add_row("on", Text(url), style="dim")
        if link.pages > SHOWN_PAGES:
            cell.add_row("on", f"{link.pages - SHOWN_PAGES:,} more", style="dim")
        problem = link.problem or f"{WORDS[link.state]} (HTTP {link.status})"
        table.add_row(Text(problem, style="red" if link.state == "broken" else ""), cell)
    if rows:
        with console.capture() as captured:
            console.print(table)
        console.file.write("\n".join(line.rstrip() for line in captured.get().splitlines()) + "\n\n")


def tell(report: Report, options: argparse.Namespace, lines: TextIO) -> bool:
    """Write the JSON lines, the table and the summary; return whether links were checked and none is broken."""
    links = list(report.links())
    if options.json:
        lines.writelines(f"{json.dumps(asdict(link))}\n" for link in links)
    console = Console(stderr=options.json == "-", highlight=False)
    if not console.is_terminal:
        console.width = 10_000  # so that grep finds URLs on one line
    if options.json != "-":
        show(links, ("skipped", "redirected", "broken") if options.verbose else ("broken",), console)
    counts = Counter(link.state for link in links)
    is_fine = not counts["broken"] and counts["ok"] + counts["redirected"] > 0
    shares = ", ".join(f"{counts[state]:,} {word}" for state, word in WORDS.items() if counts[state])
    pages = f"{report.pages_read:,} page{'s' * (report.pages_read != 1)}"
    console.print(f"{len(links):,} links on {pages}: {shares}", style="bold green" if is_fine else "bold red")
    return is_fine
