"""The code of a process: versions of packages and the source of `dal`, which processes of one run must share."""

import functools
import sys
from collections.abc import Mapping
from hashlib import blake2b
from importlib import metadata
from pathlib import Path
from typing import Any

#: Packages that must have the same version in all processes.
_PACKAGES = ("deep-active-learning", "torch", "transformers", "lightning", "numpy")

#: Folder of the source code of `dal`.
SOURCE = Path(__file__).parents[1]


def versions() -> dict[str, str]:
    """Versions that must be the same in all processes."""
    return {"Python": sys.version.split()[0]} | {name: metadata.version(name) for name in _PACKAGES}


@functools.cache
def source_digest(folder: Path = SOURCE) -> str:
    """Digest of the names and contents of all Python files in a folder, which takes some milliseconds.

    The version alone says nothing of a checkout that somebody works in.
    """
    digest = blake2b(digest_size=16)
    files = [file for file in folder.rglob("*.py") if file.is_file()]  # locks of editors are links that lead nowhere
    for file in sorted(files):
        content = file.read_bytes()
        digest.update(f"{file.relative_to(folder).as_posix()}\0{len(content)}\0".encode(errors="surrogateescape"))
        digest.update(content)
    return digest.hexdigest()


def code_facts() -> dict[str, Any]:
    """Versions, source and place of the code of this process, for `code_difference` in another one."""
    return {"versions": versions(), "source": source_digest(), "folder": str(SOURCE)}


def code_difference(facts: Mapping[str, Any], other: str, this: str) -> str | None:
    """What another process has that differs from this one, and what to do; None if nothing does.

    Args:
        facts: the `code_facts` of the other process.
        other: name of the other process, such as "rank 3 on node7".
        this: name of this process.
    """
    own = versions()
    for name, version in facts["versions"].items():
        if own.get(name) != version:
            return f"{other} has {name} {version}, and {this} has {own.get(name)}: install the same version on all"
    if facts.get("source") != source_digest():
        return (
            f"{other} runs other source code of dal ({facts.get('folder')}) than {this} ({SOURCE}), under the same "
            "version number: install the same code on all"
        )
    return None
