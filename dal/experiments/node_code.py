"""Check that the cells of a comparison on other nodes run the code of the computer that compares them."""

import json
import os
import platform

from dal.errors import ConfigError
from dal.store.installed_code import code_difference, code_facts

#: Environment variable of a worker: the code of the process that runs the comparison, and its computer.
VARIABLE = "DAL_COMPARISON_CODE"


def code_variables() -> dict[str, str]:
    """Environment variables for the workers of a comparison, which `check_code` reads."""
    return {VARIABLE: json.dumps({**code_facts(), "host": platform.node()})}


def check_code() -> None:
    """Check in a worker that its code is that of the process that runs the comparison.

    Raises:
        ConfigError: another version of a package, or other source code of `dal`, with which figures may differ.
    """
    stored = os.environ.get(VARIABLE)
    if not stored:
        return
    facts = json.loads(stored)
    comparing = f"the comparison on {facts['host']}"
    difference = code_difference(facts, comparing, f"the cell on {platform.node()}")
    if difference is not None:
        raise ConfigError(difference)
