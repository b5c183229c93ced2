#!/usr/bin/env python3
"""Check that the text in the tree uses plain technical English.

Many operators and contributors are not native speakers. This check finds phrases that they have to read
twice: pronouns without a noun, metaphors, and short forms of negation. It reads docstrings, comments and
messages in ``.py`` files, and all text in ``.rst`` and ``.yaml`` files except literal blocks.

A phrase that it finds is not always wrong, so each file may have a few. A failure shows each place; replace
the phrase by a sentence that names the actor and the object.

    python .ci/wording.py [PATH ...]
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
import io
import pathlib
import re
import sys
import tokenize

#: Name of a rule, to the phrases that it finds.
RULES = {
    'name the person or the process': r'\b(?:nobody|somebody|everybody|anybody|whoever|whomever|whom)\b',
    'name the actor before "who"': r'(?:^|[.;:,(] |\b(?:to|by|from|for|of|with|than|and) )who\b',
    'name the thing instead of "what"': (
        r'(?:^|[.;:(] |\b(?:of|by|with|from|to|for|than|about|after|before|behind|beside) )what '
        r'(?:is|was|were|are|has|had|have|comes?|came|goes|went|remains|follows|becomes|became|it|they|he)\b'
    ),
    'use a noun instead of "ours" or "theirs"': r'\b(?:ours|theirs|of its own kind)\b',
    'use "does not exist" or "any longer"': r'\bis no more(?=[.;:,)]|$)|\b(?:no|any) more(?=[.;:)]|$)',
    'use "is available" or "exists"': (
        r'\b(?:is|are|was|were) (?:not )?there(?=[.;:,)]|$)|\bthere (?:is|are|was|were) none\b'
    ),
    'use "is not a"': r'\b(?:is|was) no (?!(?:longer|more|access|way)\b)[a-z]+\b',
    'a text does not speak': r'\b(?:says|(?:is|was|are|were) (?:said|told)|say so|has to say)\b',
    'use the technical word for this picture': (
        r'\b(?:by heart|for good|in vain|let(?:s|ting)? go of|in hand|on (?:its|their) way|signs? of life|'
        r'br(?:ing|ought) forward|comes? up for|sees? to what|(?:fast|plain) road|courier|keeper|'
        r'stands? (?:in for|so|beside)|in the dark|the whole truth|at home|piles? up|'
        r'speaks? (?:HTTP|TLS|HTTPS))\b'
    ),
    'name the thing instead of "that of"': (
        r'\b(?:that of the|those of the|those that|the one that|one that is)\b'
    ),
}
_PATTERNS = {rule: re.compile(phrase, re.IGNORECASE | re.MULTILINE) for rule, phrase in RULES.items()}

#: Findings that each file may have, in addition to a rate per 1,000 words by the start of its path. The
#: longest start applies.
FREE = 2
RATES = {
    '': 1.0,
    # Its examples are findings.
    'tests/unit/test_wording.py': 200.0,
}

#: Searched if no path is given.
DEFAULT = (
    'README.rst',
    'CONTRIBUTING.rst',
    'bench',
    'doc/source',
    'etc',
    'external_events_router',
    'releasenotes',
    'tests',
)
SUFFIXES = ('.py', '.rst', '.yaml')

#: A string in the code with fewer words is not treated as text.
FEWEST_WORDS = 4


def texts(path: pathlib.Path) -> Iterator[tuple[int, str]]:
    """Yield the number and the text of lines that a person reads."""
    source = path.read_text(encoding='utf-8')
    if path.suffix == '.py':
        yield from _of_strings(source)
        yield from _of_comments(source)
    else:
        yield from _of_prose(source)


def _of_strings(source: str) -> Iterator[tuple[int, str]]:
    for node in ast.walk(ast.parse(source)):
        value = node.value if isinstance(node, ast.Constant) else None
        if isinstance(value, str) and len(value.split()) >= FEWEST_WORDS:
            for offset, line in enumerate(value.splitlines()):
                yield node.lineno + offset, line.strip()


def _of_comments(source: str) -> Iterator[tuple[int, str]]:
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string.lstrip('#: ')


def _of_prose(source: str) -> Iterator[tuple[int, str]]:
    literal_in: int | None = None
    for number, line in enumerate(source.splitlines(), 1):
        indent = len(line) - len(line.lstrip())
        if literal_in is not None and line.strip() and indent <= literal_in:
            literal_in = None
        if literal_in is None:
            yield number, line.strip()
            if line.rstrip().endswith('::'):
                literal_in = indent


def findings(path: pathlib.Path) -> tuple[list[str], int]:
    """Return the findings in a file, one line each, and the number of its words."""
    found, words = [], 0
    for number, text in texts(path):
        words += len(text.split())
        for rule, pattern in _PATTERNS.items():
            found += [f'{path}:{number}: {match[0]!r}: {rule}' for match in pattern.finditer(text)]
    return found, words


def allowed(path: pathlib.PurePath, words: int) -> int:
    """Return how many findings a file may have."""
    start = max((start for start in RATES if path.as_posix().startswith(start)), key=len)
    return FREE + int(RATES[start] * words / 1000)


def files(paths: list[str]) -> Iterator[pathlib.Path]:
    """Yield the files to check."""
    for root in map(pathlib.Path, paths):
        below = sorted(root.rglob('*')) if root.is_dir() else [root]
        yield from (path for path in below if path.suffix in SUFFIXES and path.is_file())


def main(paths: list[str]) -> int:
    """Check files; print the findings of each file with too many.

    :returns: exit status
    """
    total = total_words = 0
    failed = False
    for path in files(paths or list(DEFAULT)):
        found, words = findings(path)
        total, total_words = total + len(found), total_words + words
        if len(found) > allowed(path, words):
            failed = True
            print(*found, sep='\n')
            print(
                f'{path}: {len(found)} findings in {words} words; at most {allowed(path, words)} are allowed'
            )
    print(f'{total} findings in {total_words} words')
    return int(failed)


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
