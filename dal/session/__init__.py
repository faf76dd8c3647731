"""The active learning session and its parts."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from dal.config.moved import renamed_attributes

if TYPE_CHECKING:
    from dal.session.session import Session

__all__ = ["Session"]

_renamed = renamed_attributes(__name__)


def __getattr__(name: str) -> Any:
    """Import `Session` on first access, so that the other modules can be imported without it."""
    return import_module("dal.session.session").Session if name == "Session" else _renamed(name)
