"""Checks shared by strategies and learners: value semantics, plain declarations and global randomness."""

import copy
import dataclasses
import inspect
import random
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from dal.testing.conformance_report import CheckFailure, Report, Result, error_summary


def check_value(thing: Any, *, uncompared: bool = False, hashable: bool = True) -> None:
    """Check that an object is a frozen dataclass, equal by value, whose fields are its entire configuration.

    With `uncompared`, fields declared with compare=False are allowed, for factories without a useful equality. Without
    `hashable`, options such as dictionaries are allowed, for kinds that are never keys.
    """
    kind, name = type(thing), type(thing).__name__
    parameters = vars(kind).get("__dataclass_params__")
    if parameters is None or not parameters.frozen:
        raise CheckFailure(f"{name} must be a frozen dataclass: put @dataclass(frozen=True) above the class itself")
    fields = dataclasses.fields(thing)
    options = {field.name for field in fields if field.init}
    hidden = sorted({field.name for field in fields} - options)
    if hidden:
        raise CheckFailure(f"{name} has fields that are not options: {', '.join(hidden)}; make them options")
    wanted = set(inspect.signature(kind).parameters)
    if wanted != options:
        raise CheckFailure(f"the constructor of {name} takes {sorted(wanted)}, but its fields are {sorted(options)}")
    values = {option: getattr(thing, option) for option in options}
    twin = kind(**values)
    if twin != thing or copy.deepcopy(thing) != thing:
        raise CheckFailure(f"two {name} with the same options must be equal")
    try:
        same_hash = not hashable or hash(twin) == hash(thing)
    except TypeError as error:
        raise CheckFailure(f"{name} must be hashable, for use in sets and as a key: {error}") from error
    if not same_hash:
        raise CheckFailure(f"two equal {name} must have the same hash")
    free = {field.name for field in fields if uncompared and not field.compare}
    for option in sorted(options - free):
        other = copy.copy(thing)
        object.__setattr__(other, option, object())
        if other == thing:
            raise CheckFailure(f"two {name} that differ in {option} must differ: do not pass eq=False or compare=False")
    unseen = [option for option, value in values.items() if f"{option}={value!r}" not in repr(thing)]
    if unseen:
        raise CheckFailure(f"the repr of {name} must show every option; {', '.join(sorted(unseen))} are missing")
    for option in sorted(options):
        try:
            setattr(thing, option, values[option])
        except AttributeError:
            continue
        raise CheckFailure(f"{name}.{option} can be changed: options must be read-only")


def check_plain(thing: Any, attributes: Iterable[str]) -> None:
    """Check that attributes are unannotated class attributes or properties, so that none becomes an option."""
    name = type(thing).__name__
    for kind in type(thing).__mro__:
        for attribute in attributes:
            if attribute in vars(kind).get("__annotations__", {}):
                raise CheckFailure(
                    f"{kind.__name__}.{attribute} is annotated, which makes it a constructor option: "
                    f"write `{attribute} = ...`, or a property"
                )
    for attribute in attributes:
        if attribute in getattr(thing, "__dict__", {}):
            raise CheckFailure(f"{name}.{attribute} is set on the instance: make it a class attribute or a property")


def check_names(thing: Any, attributes: Iterable[str]) -> None:
    """Check that each attribute is a set of names, equal on every read."""
    name = type(thing).__name__
    for attribute in attributes:
        value = getattr(thing, attribute)
        if not isinstance(value, (set, frozenset)) or not all(isinstance(item, str) for item in value):
            raise CheckFailure(f'{name}.{attribute} must be a set of names such as {{"probs"}}, not {value!r}')
        if getattr(thing, attribute) != value:
            raise CheckFailure(f"{name}.{attribute} changes between two reads")


def state_of(thing: Any) -> tuple[Any, ...]:
    """Snapshot of all attributes of an instance; compare two snapshots to detect a change."""
    held = dict(getattr(thing, "__dict__", {}))
    held |= {field.name: getattr(thing, field.name) for field in dataclasses.fields(thing)}
    return tuple(sorted((name, repr(value)) for name, value in held.items()))


@contextmanager
def global_randomness(seed: int) -> Iterator[None]:
    """Seed the global generators of Python, NumPy and torch inside the block, and restore them afterwards."""
    python, numpy_state = random.getstate(), np.random.get_state()
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices=devices):
        try:
            random.seed(seed)
            np.random.seed(seed)
            torch.manual_seed(seed)
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy_state)


def drawn_from() -> dict[str, bytes]:
    """State of each global generator; a draw changes the entry of its generator."""
    states = {
        "random": repr(random.getstate()).encode(),
        "numpy.random": repr([part.tobytes() if hasattr(part, "tobytes") else part for part in _numpy()]).encode(),
        "torch": torch.get_rng_state().numpy().tobytes(),
    }
    if torch.cuda.is_available():
        states["torch.cuda"] = b"".join(state.numpy().tobytes() for state in torch.cuda.get_rng_state_all())
    return states


def _numpy() -> tuple[Any, ...]:
    return tuple(np.random.get_state())


def check_untouched(before: dict[str, bytes], what: str) -> None:
    """Check that no global generator has been used or reseeded since `before`."""
    touched = [name for name, state in drawn_from().items() if state != before[name]]
    if touched:
        raise CheckFailure(
            f"{what} changed the global random state of {' and '.join(touched)}: use the given seed only"
        )


def construct(thing: Any) -> Any:
    """Return the object itself, or for a class an instance with its default options."""
    if not inspect.isclass(thing):
        return thing
    try:
        return thing()
    except Exception as error:
        raise CheckFailure(
            f"{thing.__name__} needs options ({error_summary(error)}): pass an instance (dal check: --option "
            "value), or add defaults"
        ) from error


def _with_changed_options(thing: Any) -> str:
    """The class of a plugin with the options that differ from their defaults; other objects by their repr."""
    if not dataclasses.is_dataclass(thing):
        return repr(thing)
    changed = []
    for field in dataclasses.fields(thing):
        value = getattr(thing, field.name, dataclasses.MISSING)
        default = field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
        if field.repr and (type(value) is not type(default) or repr(value) != repr(default)):
            changed.append(f"{field.name}={value!r}")
    return f"{type(thing).__name__}({', '.join(changed)})"


def report_on(thing: Any, kind: type, contract: str, run: Callable[[str, Any], Report]) -> Report:
    """Construct a plugin and return the report of its checks; a plugin that cannot be made fails the declaration.

    Args:
        thing: instance, or class that can be created without arguments.
        kind: class from which it must derive.
        contract: name of that class in messages.
        run: runs the checks, given the name of the plugin and the instance.
    """
    subject = thing.__name__ if inspect.isclass(thing) else _with_changed_options(thing)
    try:
        made = construct(thing)
        if not isinstance(made, kind):
            raise CheckFailure(f"{type(made).__name__} is not a {contract}")
        return run(subject, made)
    except CheckFailure as failure:
        return Report(subject, (Result("declaration", "failed", str(failure)),))
