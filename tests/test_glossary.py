"""The names of modules and public classes are words of the glossary, and the glossary has no other words."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.project import DOCS, ROOT, read

SOURCE = ROOT / "src/orgrealtime"
ENTRY = re.compile(r"^- \*\*(?P<term>[^*]+)\*\*(?: \((?P<forms>[^)]+)\))?: (?P<meaning>.+)$", re.MULTILINE)

# Django's, Channels', ASGI's, HTTP's and SQL's own words, and Python's for what it has.
OTHERS = {
    *("admin", "apps", "checks", "conf", "config", "database", "django", "management", "meta", "models"),
    *("receivers", "serializer", "signals", "templatetags", "testing", "urls", "user", "view"),
    *("asgi", "http", "json", "query", "queue", "request", "answer", "row", "columns", "socket", "string"),
    *("insertion", "postgresql", "sqlite", "uvicorn"),
    *("form", "rest", "framework"),
    *("background", "concurrency", "error", "key", "mixin", "settings", "thread", "type"),
    *("bench", "benchmark", "operations", "report"),
}
# Plain English in the names of classes and modules.
ENGLISH = {
    *(
        "deleted",
        "edited",
        "followed",
        "found",
        "governed",
        "joined",
        "kind",
        "large",
        "left",
        "lossy",
        "notify",
    ),
    *("reading", "sending", "sent", "shape", "summary", "text", "too", "writing"),
}
OURS = {"realtime", "orgrealtime"}
WHOLE = {"PostgreSQL", "SQLite"}  # names that aren't made of words

OLD = {
    "door",
    "turnstile",
    "desk",
    "reception",
    "census",
    "guard",
    "trial",
    "stepping",
    "hook",
    "queries",
    "bucket",
}
OLD_IN_DOCS = re.compile(r"\b(?:doors?|turnstiles?|desks?|receptions?|stepping)\b")


def terms() -> dict[str, str]:
    return {entry["term"]: entry["meaning"] for entry in ENTRY.finditer(read("explanation/glossary.md"))}


def known_words() -> set[str]:
    words = set()
    for entry in ENTRY.finditer(read("explanation/glossary.md")):
        for text in (entry["term"], *(entry["forms"] or "").split(", ")):
            words |= set(words_of(text))
    return words | {singular(word) for word in OTHERS | ENGLISH | OURS}


def words_of(name: str) -> list[str]:
    """The words of a name in one of the ways of writing: `close_code`, `CloseCode`, `catch-up`, `JSONSerializer`."""
    parts = [name] if name in WHOLE else re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)
    return [singular(part.lower()) for part in parts]


def singular(word: str) -> str:
    if word.endswith(("ss", "us")) or word in {"queries", "asgi"}:
        return word
    for ending, instead in (("ies", "y"), ("sses", "ss"), ("xes", "x"), ("s", "")):
        if word.endswith(ending) and len(word) > 3:
            return word.removesuffix(ending) + instead
    return word


def paths() -> list[Path]:
    return [path for path in SOURCE.rglob("*.py") if "migrations" not in path.parts]


def modules() -> set[str]:
    inside = [path.relative_to(SOURCE) for path in paths()]
    return {name for path in inside for name in (*path.parts[:-1], path.stem)} - {"__init__"}


def defined(kinds: tuple[type[ast.AST], ...]) -> set[str]:
    trees = [ast.parse(path.read_text()) for path in paths()]
    return {getattr(node, "name", "") for tree in trees for node in ast.walk(tree) if isinstance(node, kinds)}


def public_classes() -> set[str]:
    return {name for name in defined((ast.ClassDef,)) if not name.startswith("_")}


def names_in_code() -> Iterator[str]:
    for path in paths():
        yield path.stem
        for token in tokenize.generate_tokens(io.StringIO(path.read_text()).readline):
            if token.type == tokenize.NAME:
                yield token.string
    for path in (SOURCE / "static").rglob("*.js"):
        without_comments = re.sub(r"^\s*(?://|/?\*).*$", "", path.read_text(), flags=re.MULTILINE)
        yield from re.findall(r"[A-Za-z_]\w*", without_comments)


IN_CODE = {f" {' '.join(words_of(name))} " for name in set(names_in_code())}


@pytest.mark.parametrize("name", sorted(modules() | public_classes()))
def test_name_is_made_of_words_of_the_glossary(name: str) -> None:
    assert set(words_of(name)) - known_words() == set()


@pytest.mark.parametrize("term", sorted(terms()))
def test_term_of_the_glossary_occurs_in_a_name(term: str) -> None:
    # The code is written in Django's English, the docs in another.
    words = " ".join(words_of(term.replace("organisation", "organization")))
    assert any(f" {words} " in name for name in IN_CODE)


def test_words_of_others_are_in_use() -> None:
    used = {word for name in modules() | public_classes() for word in words_of(name)}
    assert {singular(word) for word in OTHERS | ENGLISH | OURS} - used == set()


def test_no_word_is_both_a_term_and_somebody_else_s() -> None:
    assert {singular(word) for word in OTHERS | ENGLISH} & {
        " ".join(words_of(term)) for term in terms()
    } == set()


def test_glossary_has_each_term_once_in_one_sentence_and_in_order() -> None:
    entries = [entry["term"] for entry in ENTRY.finditer(read("explanation/glossary.md"))]
    assert len(entries) == read("explanation/glossary.md").count("\n- ")
    assert entries == sorted(entries)
    assert [term for term, count in Counter(entries).items() if count > 1] == []
    assert [
        term for term, meaning in terms().items() if not re.fullmatch(r"[^.]+(?:\.<?\w[^.]*)*\.", meaning)
    ] == []


def test_no_name_has_a_word_of_before() -> None:
    names = modules() | defined((ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef))
    assert {name for name in names if OLD.intersection(words_of(name)) and name != "TokenBucket"} == set()


@pytest.mark.parametrize("page", sorted(DOCS.rglob("*.md")), ids=lambda page: str(page.relative_to(DOCS)))
def test_page_has_no_word_of_before(page: Path) -> None:
    assert OLD_IN_DOCS.findall(page.read_text()) == []
