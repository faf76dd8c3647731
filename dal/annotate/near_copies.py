"""Near-copies of a text: rows with the same words, whatever their case, digits and punctuation."""

import re

from dal.store.project_rows import ProjectRow, ProjectRows

_WORD = re.compile(r"[^\W\d_]+")
_WHOLE_WORD = re.compile(r"(?<![\w])[^\W\d_]+(?![\w])")  # a word of the search index, too, which splits no "5mg"
_SOUGHT = 8  # words of the text that a search asks for
_FOUND = 500  # rows of a search that are compared
_LONGER, _MORE = 2, 40  # a near-copy has at most twice the characters and 40 more: digits and punctuation


def normal_words(row: ProjectRow) -> tuple[str, ...]:
    """The words of a row in order: lower case, without digits and punctuation; the parts of a pair are kept apart.

    Example:
        >>> normal_words(ProjectRow("a", "Patient 12: no effect (n=7)."))
        ('patient', 'no', 'effect', 'n')
    """
    words = tuple(_WORD.findall(row.text.casefold()))
    return words if row.pair is None else (*words, "|", *_WORD.findall(row.pair.casefold()))


def near_copies(rows: ProjectRows, row: str, limit: int = 50) -> list[str]:
    """Ids of other rows with the same words as a row, at most `limit` of them.

    The search index finds rows with the longest words of the text that are not much longer, and their words are
    compared. Texts of numbers alone have no near-copies.

    Args:
        rows: rows of the project.
        row: id of a row of the project.
        limit: largest number of ids.
    """
    (given,) = rows.get([row])
    if given is None:
        return []
    text = given.text if given.pair is None else f"{given.text}\n{given.pair}"
    longest = sorted(set(_WHOLE_WORD.findall(text)), key=lambda word: (-len(word), word))[:_SOUGHT]
    if not longest:
        return []
    found = rows.containing(longest, _FOUND, longest=_LONGER * len(given.text) + _MORE)
    words = normal_words(given)
    same = (each for each in rows.get(found) if each is not None and each.id != row and normal_words(each) == words)
    return [each.id for each in same][:limit]
