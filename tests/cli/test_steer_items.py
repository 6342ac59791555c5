"""``aqueue retry``, ``skip`` and ``cancel``: what they show and ask before they change anything, and what they print of it.

The options that select are `cli._selector`'s; which commands reach the run is tested with `aqueue.steering`.
"""

import io
import sys
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest

from aqueue import steering
from aqueue._verbs import Answer, AnyCommand, Cancel, Retry, Skip
from aqueue.errors import SteeringError
from aqueue.events import ErrorInfo
from aqueue.testing._scripted_runs import BOOM
from tests.cli.conftest import Aqueue
from tests.cli.scripted import Script, write_journal, write_log
from tests.journal.writing import write

OnItems = Retry | Skip | Cancel


class Run:
    """Stands for the run: notes the commands, and answers.

    Attributes:
        commands: what it got.
        answer: makes the answer to a command.
    """

    def __init__(self) -> None:
        self.commands: list[OnItems] = []
        self.answer: Callable[[int], Answer] = lambda count: Answer(count=count)

    def carry_out(self, run: object, command: AnyCommand) -> Answer:
        """Carry out a command on all that it names."""
        assert isinstance(command, OnItems)
        self.commands.append(command)
        return self.answer(sum(map(len, command.items.values())))


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    """Return what gets the commands."""
    one = Run()
    monkeypatch.setattr(steering, "_carry_out", one.carry_out)
    return one


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return the journal of a run: items 2 and 3 failed below item 1, which has a hook; 4 is running, 5 queued, 6 completed."""
    script = Script(host=None, pid=None)
    top = script.enqueue("shop:Shop", hook=True)
    script.start(top, "shop:Shop")
    for number in range(2, 7):
        script.enqueue("shop:Page", parent=top, key=f"https://example.org/{number}", group="example.org")
    script.complete(top)
    for item, error in ((2, ErrorInfo("httpx:HTTPStatusError", "404 Not Found\nmore")), (3, BOOM)):
        script.start(item, "shop:Page")
        script.fail(item, error, "shop:Page")
    script.start(4, "shop:Page")
    script.start(6, "shop:Page", worker=2)
    script.complete(6, worker=2)
    write(tmp_path / "run.db", script.events)
    return tmp_path / "run.db"


@pytest.fixture
def answer(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Return a function after which a terminal has this answer to the question."""

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    return lambda text: monkeypatch.setattr(sys, "stdin", Terminal(text))


SKIPPED = """\
2 failed items (Page), for example 2 https://example.org/2 (HTTPStatusError: 404 Not Found)
They will count as successful without a result; the hook of an ancestor will run once everything below has succeeded.
"""


def test_count_and_example_come_before_the_question(
    aqueue: Aqueue, run: Run, path: Path, answer: Callable[[str], None]
) -> None:
    """Only a yes changes something."""
    for text in ("", "n\n"):
        answer(text or "\n")
        done = aqueue("skip", path, "--state", "failed")
        assert (done.code, done.err) == (0, "")
        assert done.out == f"{SKIPPED}Skip them? [y/N] nothing was changed\n"
    assert run.commands == []
    answer("y\n")
    done = aqueue("skip", path, "--state", "failed")
    assert (done.code, done.err) == (0, "")
    assert done.out == f"{SKIPPED}Skip them? [y/N] skipped 2 items\n"
    [command] = run.commands
    assert isinstance(command, Skip)
    assert (command.items, command.selector) == ({"failed": [2, 3]}, "--state failed")
    assert command.by.endswith(" via command")


def test_end_of_input_at_the_question_is_no_yes(
    aqueue: Aqueue, run: Run, path: Path, answer: Callable[[str], None]
) -> None:
    """As Ctrl-C: the command ends, and nothing was changed."""
    answer("")
    assert aqueue("skip", path, "2").code == 130
    assert run.commands == []


@pytest.mark.parametrize("verb", ["retry", "skip", "cancel"])
def test_without_a_terminal_it_takes_yes(aqueue: Aqueue, run: Run, path: Path, verb: str) -> None:
    """A script that would wait for an answer is refused instead, before anything is read."""
    done = aqueue(verb, path, "--subtree", 1)
    assert (done.code, done.out) == (2, "")
    assert "standard input isn't a terminal, so nobody can be asked; add --yes, or --dry-run" in done.err
    assert run.commands == []
    assert aqueue(verb, path, "--subtree", 1, "--yes").code == 0
    assert aqueue(verb, path, "--subtree", 1, "-y").code == 0
    assert len(run.commands) == 2


@pytest.mark.parametrize("verb", ["retry", "skip", "cancel"])
@pytest.mark.parametrize("options", [["--yes"], ["--dry-run"], [], ["--completed", "-y"]])
def test_no_selector_is_never_everything(aqueue: Aqueue, run: Run, path: Path, verb: str, options: list[str]) -> None:
    """It is a wrong call, whatever else is given."""
    done = aqueue(verb, path, *(options if verb == "retry" or "--completed" not in options else ["-y"]))
    assert (done.code, done.out) == (2, "")
    assert "select something: " in done.err
    assert run.commands == []


def test_dry_run_shows_the_same_and_changes_nothing(aqueue: Aqueue, run: Run, path: Path) -> None:
    """As JSON it has the numbers."""
    assert aqueue("skip", path, "--state", "failed", "--dry-run").out == SKIPPED
    assert aqueue("skip", path, "6", "--dry-run").out == "nothing to skip (1 has completed)\n"
    assert aqueue("skip", path, "--key", "none", "--dry-run").out == "no items match\n"
    shown = aqueue("skip", path, "2", "3", "6", "99", "--dry-run", "--json").json
    assert shown == {
        "selector": "2 3 6 99 --state failed",
        "items": {"failed": [2, 3]},
        "types": {"shop:Page": 2},
        "sample": {
            "item": 2,
            "type": "shop:Page",
            "state": "failed",
            "label": "https://example.org/2",
            "error": {"type": "httpx:HTTPStatusError", "message": "404 Not Found\nmore", "traceback": ""},
        },
        "hooks": 1,
        "unknown": [99],
        "is_live": True,
        "count": 2,
        "others": {"completed": 1, "unknown": 1},
    }
    assert run.commands == []


def test_verbs_select_what_they_apply_to(aqueue: Aqueue, run: Run, path: Path) -> None:
    """Unless states or numbers are given; what these have beyond that is said before the question, and in the answer."""
    aqueue("retry", path, "--type", "Page", "-y")
    aqueue("retry", path, "--type", "Page", "--completed", "-y")
    aqueue("skip", path, "--type", "Page", "-y", "--result", '{"price": 12}')
    aqueue("cancel", path, "--group", "example.org", "-y")
    assert [command.items for command in run.commands] == [
        {"failed": [2, 3]},
        {"completed": [6]},
        {"queued": [5], "running": [4], "failed": [2, 3]},
        {"queued": [5], "running": [4]},
    ]
    again, skipped = run.commands[1:3]
    assert isinstance(again, Retry)
    assert again.completed
    assert isinstance(skipped, Skip)
    assert bytes(skipped.result) == b'{"price":12}'
    lines = aqueue("retry", path, "2", "4", "5", "6", "99", "-y").out.splitlines()
    assert lines == [
        "1 failed item (Page): 2 https://example.org/2 (HTTPStatusError: 404 Not Found)",
        "It will run again, with fresh attempts.",
        "Not included: 1 doesn't exist; 1 is running; 1 is queued; 1 has completed.",
        "retried 1 of 5 items (1 is running; 1 is queued; 1 has completed; 1 doesn't exist)",
    ]


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        (
            ["cancel", "--type", "Page"],
            (
                "2 items: 1 running, 1 queued (Page), for example 4 https://example.org/4\n"
                "They will fail, and stay failed until aqueue retry; running ones are cancelled.\n"
            ),
        ),
        (
            ["retry", "--completed", "--state", "completed"],
            "2 completed items (1 Shop, 1 Page), for example 1\nThey will run again; the result so far holds until then.\n",
        ),
        (
            ["skip", "4", "--result", '"a\x9bb"'],
            (
                "1 running item (Page): 4 https://example.org/4\n"
                'It will count as successful with the result "a\\x9bb"; running ones are interrupted.\n'
            ),
        ),
    ],
)
def test_what_will_become_of_the_items_is_said(
    aqueue: Aqueue, run: Run, path: Path, words: list[str], shown: str
) -> None:
    """Also that running ones are cut short."""
    assert aqueue(words[0], path, *words[1:], "--dry-run").out == shown


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (Answer(count=2), "retried 2 items"),
        (Answer(count=2, is_live=False), "retried 2 items (no process runs the run: they run when it is resumed)"),
        (
            Answer(count=1, is_stopping=True, others={"completed": 1}),
            "retried 1 of 2 items (1 has completed; the run is stopping: it runs when it is resumed)",
        ),
        (Answer(changed=False, others={"queued": 2}), "nothing to retry (2 are queued)"),
        (
            Answer(changed=False, others={"hook": 1, "cluster": 1, "cancelled": 2}),
            (
                "nothing to retry (1 is below an item whose hook is running: repeat the command once it has ended; "
                "1 runs in another process and can't be reached; 2 are being cancelled)"
            ),
        ),
        (
            Answer(changed=False, others={"class": 1}),
            "nothing to retry (1 has a class that the program lacks, or that can't restore it)",
        ),
        (Answer(count=1, others={"dreamt\x1b[2J": 1}), "retried 1 of 2 items (1 dreamt\\x1b[2J)"),
    ],
)
def test_answer_is_said_in_words(aqueue: Aqueue, run: Run, path: Path, given: Answer, said: str) -> None:
    """What didn't apply, why, and when the items run; all of that exits with 0."""
    run.answer = lambda count: given
    done = aqueue("retry", path, "--state", "failed", "-y")
    assert (done.code, done.out.splitlines()[-1]) == (0, said)


def test_json_is_the_answer_alone(aqueue: Aqueue, run: Run, path: Path, answer: Callable[[str], None]) -> None:
    """What is shown before goes to standard error, so that a program can read the answer."""
    assert aqueue("skip", path, "2", "3", "-y", "--json").json["count"] == 2
    nothing = aqueue("skip", path, "6", "-y", "--json").json
    assert (nothing["changed"], nothing["others"]) == (False, {"completed": 1})
    answer("y\n")
    done = aqueue("skip", path, "2", "3", "--json")
    assert done.json["changed"] is True
    assert done.err == f"{SKIPPED}Skip them? [y/N] "


def test_nothing_that_matches_is_no_error(aqueue: Aqueue, run: Run, path: Path) -> None:
    """A command that is repeated finds nothing to do."""
    done = aqueue("retry", path, "--error", "none", "-y")
    assert (done.code, done.out, done.err) == (0, "no items match\n", "")
    assert run.commands == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["skip", "--type", "Paeg"], "no item is of type 'Paeg'; known types: shop:Shop, shop:Page"),
        (["skip", "--subtree", "99"], "no item has the number 99"),
        (["skip", "0"], "'0' is not a whole number (1 or more)"),
        (["skip", "2", "--result", "gone"], "--result: 'gone' is not JSON"),
        (["skip", "2", "--result", "NaN"], "skip(result=…) is nan; it must be data"),
        (["skip", "--error", ""], "it is empty; leave the option out, or give some text"),
        (["skip", "--state", "done"], "'done' is not one of"),
        (["skip", "--completed", "2"], "No such option '--completed'"),
    ],
)
def test_wrong_arguments_change_nothing(aqueue: Aqueue, run: Run, path: Path, words: list[str], said: str) -> None:
    """The exit code is 2, and the line says what is wrong."""
    done = aqueue(words[0], path, *words[1:], "-y")
    assert done.code == 2
    assert said in done.err
    assert run.commands == []


def test_what_the_run_refuses_is_an_error(
    aqueue: Aqueue, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As is a log, which can't be steered."""

    def refuse(*_: object) -> Answer:
        raise SteeringError("not on a cluster")

    monkeypatch.setattr(steering, "_carry_out", refuse)
    done = aqueue("retry", path, "--state", "completed", "--completed", "-y")
    assert (done.code, done.err) == (2, "aqueue: not on a cluster\n")
    log = aqueue("retry", write_log(tmp_path, Script().events), "1", "-y")
    assert log.code == 2
    assert "isn't a journal" in log.err


def test_nothing_of_a_run_is_printed_raw(
    aqueue: Aqueue, run: Run, tmp_path: Path, answer: Callable[[str], None]
) -> None:
    """Classes, keys, descriptions and errors come from pages and programs."""
    text = "a\x1b[2J\x9b\u202e\u2028\r\nb"
    script = Script()
    for number in range(5):
        script.enqueue(f"{text}:{text}{number}", key=f"{text}{number}")
        script.start(number + 1, f"{text}:{text}{number}")
        script.fail_hostile(number + 1, f"{text}:{text}{number}", text)
    path = write_journal(tmp_path, script.events)
    answer("y\n")
    done = aqueue("retry", path, "--error", "*", "--text", text)
    assert "retried 5 items" in done.out
    assert "2 more types" in done.out
    printed = (done.out + done.err).replace("\n", "")
    assert not {c for c in printed if unicodedata.category(c) in {"Cc", "Cf", "Cs", "Zl", "Zp"}}


def test_many_items_go_in_several_commands(
    aqueue: Aqueue, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One answer is printed for all of them."""
    monkeypatch.setattr(steering, "MAX_ITEMS", 1_000)
    script = Script()
    for item in [script.enqueue() for _ in range(1_050)]:
        script.start(item)
        script.fail(item, BOOM)
    path = write_journal(tmp_path, script.events)
    assert aqueue("skip", path, "--state", "failed", "--yes").out.splitlines()[-1] == "skipped 1,050 items"
    assert [len(command.items["failed"]) for command in run.commands] == [1_000, 50]
