"""New texts that are nearly the same as texts of a project, as a corrected text is to the one before."""

import re
from collections.abc import Collection, Sequence

from dal.store.project_rows import ProjectRow, ProjectRows

#: Least Jaccard similarity of the words of a text and its edited form.
SHARED_WORDS = 0.8
#: New rows that are compared at most.
MOST_COMPARED = 2_000

_WORD = re.compile(r"\w+")
_SEARCHED = 8  # longest words, which few texts have
_CANDIDATES = 5  # texts of the project that are compared with a new one


def edited_texts(new: Sequence[ProjectRow], rows: ProjectRows, file_ids: Collection[str]) -> list[tuple[str, str]]:
    """New rows that look like edited forms of rows of the project that the file no longer has.

    Args:
        new: rows that are not in the project, of which the first `MOST_COMPARED` are compared.
        rows: rows of the project.
        file_ids: ids of all rows of the file.

    Returns:
        Pairs of the id of a new row and that of the row of the project, in the order of the new rows.
    """
    found = []
    for row in new[:MOST_COMPARED]:
        words = _words(row)
        longest = sorted(words, key=lambda word: (-len(word), word))[:_SEARCHED]
        for known in rows.get(rows.search(" ".join(f'"{word}"' for word in longest), _CANDIDATES)):
            if known is None or known.id in file_ids:
                continue
            other = _words(known)
            if len(words & other) >= SHARED_WORDS * len(words | other):
                found.append((row.id, known.id))
                break
    return found


def _words(row: ProjectRow) -> set[str]:
    return set(_WORD.findall(f"{row.text} {row.pair or ''}".lower()))
