"""Print how many lines of code each package has, without docstrings, comments and blank lines: ``make size``."""

import ast
import io
import tokenize
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[2]
SOURCES = {"aqueue": "src", "aqueue_reporters": "reporters", "aqueue_migrations": "migrations"}
NO_CODE = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}


def code_lines(text: str) -> int:
    """Return how many lines of `text`, the source of a module, have code."""
    lines = {
        line
        for token in tokenize.generate_tokens(io.StringIO(text).readline)
        if token.type not in NO_CODE
        for line in range(token.start[0], token.end[0] + 1)
    }
    for node in ast.walk(ast.parse(text)):
        # Docstrings, and the strings that describe a constant: statements that do nothing.
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            lines -= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return len(lines)


def main() -> None:
    """Print a line per package and top-level module of aqueue, the largest first, and the sum."""
    sizes: Counter[str] = Counter()
    for package, folder in SOURCES.items():
        for path in (ROOT / folder / package).rglob("*.py"):
            inner = path.relative_to(ROOT / folder / package).parts[0].removesuffix(".py")
            sizes[f"aqueue.{inner}" if package == "aqueue" else package] += code_lines(path.read_text(encoding="utf-8"))
    for name, lines in sizes.most_common():
        print(f"{lines:7,}  {name}")
    print(f"{sizes.total():7,}  in all")


if __name__ == "__main__":
    main()
