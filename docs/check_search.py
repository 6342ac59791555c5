"""Check that the search of the built site finds what docs/search.toml says: ``python docs/check_search.py FOLDER``.

It ranks pages as the site's own searchtools.js does, by the same index. The exit code is 1 if a page that must be among
the first results isn't.
"""

import json
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sphinx.search.en import SearchEnglish

TABLE = Path(__file__).with_name("search.toml")
FIRST = 3  # this many results a reader looks at


def read_index(folder: Path) -> dict[str, Any]:
    """Return the index that the site's search reads."""
    text = (folder / "searchindex.js").read_text(encoding="utf-8")
    index: dict[str, Any] = json.loads(text.removeprefix("Search.setIndex(").rstrip().removesuffix(")"))
    return index


def search(index: dict[str, Any], query: str) -> list[str]:
    """Return the pages that a reader who types `query` gets, the best first, each once."""
    scores: dict[int, float] = {}
    for page, score in [*by_titles(index, query.lower()), *by_entries(index, query.lower()), *by_words(index, query)]:
        scores[page] = max(score, scores.get(page, 0))
    names: list[str] = index["docnames"]
    ranked = sorted(scores, key=lambda page: (-scores[page], index["titles"][page].lower()))
    return [names[page] for page in ranked]


def by_titles(index: dict[str, Any], query: str) -> Iterator[tuple[int, float]]:
    """Yield the pages that have the query in a heading that isn't much longer."""
    for title, places in index["alltitles"].items():
        if query in title.lower() and len(query) >= len(title) / 2:
            for page, _ in places:
                yield page, round(15 * len(query) / len(title)) + (index["titles"][page] == title)


def by_entries(index: dict[str, Any], query: str) -> Iterator[tuple[int, float]]:
    """Yield the pages that have the query as a main entry of the index."""
    for entry, places in index["indexentries"].items():
        if query in entry and len(query) >= len(entry) / 2:
            for page, _, is_main in places:
                if is_main:
                    yield page, round(100 * len(query) / len(entry))


def by_words(index: dict[str, Any], query: str) -> Iterator[tuple[int, float]]:
    """Yield the pages that have all words of the query, in their text or in headings."""
    language = SearchEnglish({})
    words = {
        language.stem(word.lower()) for word in re.findall(r"\w+", query) if word.lower() not in language.stopwords
    }
    found = [scores_of(index, word) for word in words if not word.isdigit()]
    for page in set.intersection(*map(set, found)) if found else ():
        yield page, max(scores[page] for scores in found)


def scores_of(index: dict[str, Any], word: str) -> dict[int, float]:
    """Return the pages that have a word, or one that contains it, with what that counts."""
    scores: dict[int, float] = {}
    for table, whole, partial in (("terms", 5, 2), ("titleterms", 15, 7)):
        terms = index[table]
        matching = [word] if word in terms else [term for term in terms if len(word) > 2 and word in term]
        for term in matching:
            pages = terms[term] if isinstance(terms[term], list) else [terms[term]]
            scores |= dict.fromkeys(pages, whole if term == word else partial)
    return scores


def main() -> int:
    """Check each query, and return the exit code."""
    index = read_index(Path(sys.argv[1]))
    pages: dict[str, list[str]] = tomllib.loads(TABLE.read_text(encoding="utf-8"))["pages"]
    wrong = [f"{TABLE.name} names {page}, which doesn't exist" for page in pages if page not in index["docnames"]]
    checked = [(page, query) for page, queries in pages.items() if page in index["docnames"] for query in queries]
    for page, query in checked:
        results = search(index, query)
        if page not in results[:FIRST]:
            wrong.append(f"{query!r} finds {', '.join(results[:FIRST]) or 'nothing'}, and not {page}")
    print(*wrong, f"{len(checked)} searches: {len(checked) - len(wrong)} fine", sep="\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
