"""Restriction of the code that class paths may run: installed packages, and one folder that the user allows.

A command of `dal` never imports from the current folder by itself, because its files may come from somebody else. A
finder at the end of `sys.meta_path` loads the modules that the user's class paths name, and those that they import,
from one folder: the current one for the user's own config and command line, or that of `--allow-code`. Installed
packages take precedence, so that no file of the folder can replace them.
"""

import ast
import contextlib
import importlib
import importlib.util
import os
import re
import shlex
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType

from dal.errors import ConfigError, shortened

#: Largest number of source files of one package that are searched for imports.
_MAX_FILES = 1000
#: Largest numbers of characters and dots of an import path.
_MAX_LENGTH, _MAX_DOTS = 1000, 50


class _Folder(MetaPathFinder):
    """Finder of the admitted modules of one folder."""

    def __init__(self, allowed: Path | None) -> None:
        self.allowed = allowed
        self.names: set[str] = set()

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Spec of an admitted top-level module; submodules are found by the path of their package."""
        return self.look(fullname) if path is None and fullname in self.names else None

    def look(self, top: str) -> ModuleSpec | None:
        """Spec of a module in the folder, admitted or not."""
        return None if self.allowed is None else PathFinder.find_spec(top, [str(self.allowed)])

    def admit(self, top: str) -> None:
        """Admit a module of the folder, and the modules of the folder that it imports, recursively."""
        importlib.invalidate_caches()
        waiting = [top]
        while waiting:
            name = waiting.pop()
            if name in self.names or _is_installed(name):
                continue
            spec = self.look(name)
            if spec is not None:
                self.names.add(name)
                waiting += _imported_by(spec)

    def forget(self) -> None:
        """Unload the admitted modules, since another command in this process may use another folder."""
        for name in [name for name in sys.modules if name.partition(".")[0] in self.names]:
            del sys.modules[name]


_folder: _Folder | None = None


@contextmanager
def restricted_imports(allowed: Path | None = None) -> Iterator[None]:
    """Context in which the current folder is not on the import path and class paths may name only code in `allowed`.

    Raises:
        ConfigError: `allowed` is not a folder.
    """
    global _folder
    before, path = _folder, list(sys.path)
    _folder = _Folder(None if allowed is None else _checked(allowed))
    sys.path[:] = without_current_folder(path)
    sys.meta_path.append(_folder)
    try:
        yield
    finally:
        sys.meta_path.remove(_folder)
        _folder.forget()
        sys.path[:] = path + [entry for entry in sys.path if entry not in path]
        _folder = before


@contextmanager
def stored_config_imports() -> Iterator[None]:
    """Context for reading a stored config from a program: class paths name installed packages or imported modules.

    In a command of `dal`, its own restriction and `--allow-code` apply.
    """
    if _folder is not None:
        yield
        return
    with restricted_imports():
        yield


def without_current_folder(path: Iterable[str]) -> list[str]:
    """The entries of an import path except the current folder and relative paths."""
    given = "" if sys.flags.ignore_environment else os.environ.get("PYTHONPATH", "")
    kept = []
    for entry in path:
        is_hook = entry.endswith("__path_hook__") and not os.path.exists(entry)  # the marker of an editable install
        if os.path.isabs(entry) or is_hook:
            kept.append(entry)
    for entry in given.split(os.pathsep) if given else []:
        # Python makes the entries of PYTHONPATH absolute; an empty one, as in ":/lib", means the current folder.
        if not os.path.isabs(entry) and os.path.abspath(entry) in kept:
            kept.remove(os.path.abspath(entry))
    return kept


def safe_environment() -> dict[str, str]:
    """Environment variables for a Python process that must not import from its current folder."""
    kept = [entry for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if os.path.isabs(entry)]
    root = Path(__file__).absolute().parents[2]
    if str(root) in sys.path and not _is_of_python(root):  # this package runs from its source folder
        kept.append(str(root))
    return {**os.environ, "PYTHONPATH": os.pathsep.join(kept), "PYTHONSAFEPATH": "1"}


def allow_current_folder() -> None:
    """Allow class paths to name code in the current folder, for the user's own config or command line.

    `--allow-code` takes precedence. Outside of a command of `dal` the program's own import path applies.
    """
    if _folder is not None and _folder.allowed is None:
        with contextlib.suppress(OSError):  # the current folder was removed
            _folder.allowed = Path.cwd()


def admitted() -> tuple[Path | None, frozenset[str]]:
    """The folder of the user's own code, and the modules of it that class paths have named, with those they import."""
    return (None, frozenset()) if _folder is None else (_folder.allowed, frozenset(_folder.names))


def take_over(folder: Path | None, names: Iterable[str]) -> None:
    """Admit what another process of the same command has admitted, as `admitted` says it there."""
    global _folder
    if _folder is None:
        _folder = _Folder(folder)
        sys.meta_path.append(_folder)
    _folder.allowed = folder
    _folder.names.update(names)


def admit(path: str) -> None:
    """Check that the module of a class path may be imported, without importing it.

    Args:
        path: import path such as `my_package.parts.Spread` or `my_package.parts:Spread`.

    Raises:
        ConfigError: the path is too long, in the standard library, or not in an installed package while no folder is
            allowed.
    """
    if len(path) > _MAX_LENGTH or path.count(".") > _MAX_DOTS:  # importing recurses into each package
        raise ConfigError(f"{shortened(path)} is too long for an import path")
    top = re.split("[.:]", path.strip(), maxsplit=1)[0]
    if top in sys.stdlib_module_names:
        raise ConfigError(f"{shortened(path)} is in Python's standard library, which has no class for a config")
    if _folder is None or not top.isidentifier() or top in _folder.names or _is_installed(top):
        return
    if _folder.allowed is not None:
        _folder.admit(top)
    elif top != path.strip():
        raise ConfigError(
            f"{shortened(path)} is not in an installed package, and a config that is stored in a folder may name other "
            f"code only with --allow-code FOLDER, the folder that holds {shortened(top)}, such as --allow-code . "
            "(the code is run: look at it first)"
        )


def is_own(path: str) -> bool:
    """Whether the code at a class path belongs to the user: to the allowed folder, or to the user's own program."""
    return _folder is None or re.split("[.:]", path.strip(), maxsplit=1)[0] in _folder.names


def hidden_module_note(module: str) -> str:
    """Addition to an error about an installed module that hides one of the same name in the user's folder."""
    top = module.partition(".")[0]
    if _folder is None or not top.isidentifier() or top in _folder.names:
        return ""
    own = _folder.look(top)
    if own is None or _places(own) == _places(_installed(top)):  # an editable install of that folder hides nothing
        return ""
    return f"; the installed package {top} hides {top} in {_folder.allowed}: give yours another name"


def allow_option() -> str:
    """The `--allow-code` option that a command for a stored config needs; empty where no code of a folder was used."""
    return f" --allow-code {shlex.quote(str(_folder.allowed))}" if _folder is not None and _folder.names else ""


def import_folder(config: object) -> Path | None:
    """The folder outside of installed packages from which a worker process must import the classes of a config.

    In a command of `dal` it is the allowed folder, if it was used. In another program it is that of the first class or
    function whose module is directly in an entry of the import path which a new Python process would not have.
    """
    if _folder is not None:
        if _folder.allowed is not None and isinstance(config, dict):
            # Loggers and metrics are imported only when the first cell starts.
            for text in _texts([config.get("loggers"), config.get("metrics")]):
                with contextlib.suppress(ConfigError):
                    admit(text)
        return _folder.allowed if _folder.names else None
    for text in _texts(config):
        module = sys.modules.get(text.partition(".")[0]) if "." in text else None
        places = [*getattr(module, "__path__", ()), getattr(module, "__file__", None)]
        if module is not None and places[0] is not None:
            folder = Path(places[0]).absolute().parent
            if str(folder) in map(os.path.abspath, sys.path) and not _is_of_python(folder):
                return folder
    return None


def _texts(config: object) -> Iterator[str]:
    """All strings in a nested config."""
    if isinstance(config, str):
        yield config
    elif isinstance(config, dict | list | tuple):
        for value in config.values() if isinstance(config, dict) else config:
            yield from _texts(value)


def _checked(folder: Path) -> Path:
    try:
        if folder.is_dir():
            return folder.absolute()
    except (OSError, ValueError):  # a name that is too long, a NUL
        pass
    raise ConfigError(f"--allow-code {shortened(str(folder))}: there is no such folder")


def _is_installed(top: str) -> bool:
    try:
        return importlib.util.find_spec(top) is not None
    except (ImportError, ValueError):  # ValueError: a module without a spec, such as __main__
        return top in sys.modules


def _installed(top: str) -> ModuleSpec | None:
    """Spec of an installed top-level module; None without one."""
    with contextlib.suppress(ImportError, ValueError):
        return importlib.util.find_spec(top)
    return None


def _places(spec: ModuleSpec | None) -> set[str]:
    """Resolved paths of the file of a module and of the folders of a package."""
    if spec is None:
        return set()
    origin = [spec.origin] if spec.has_location and spec.origin else []
    return {os.path.realpath(place) for place in (*origin, *(spec.submodule_search_locations or ()))}


def _is_of_python(folder: Path) -> bool:
    """Whether a new Python process has the folder on its path."""
    import site
    import sysconfig

    given = [entry for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if os.path.isabs(entry)]
    known = [*sysconfig.get_paths().values(), *site.getsitepackages(), site.getusersitepackages(), *given]
    return str(folder) in {os.path.abspath(entry) for entry in known}


def _imported_by(spec: ModuleSpec) -> set[str]:
    """Top-level names of all imports in the source of a module or package."""
    files = [Path(spec.origin)] if spec.origin and spec.origin.endswith(".py") else []
    for place in spec.submodule_search_locations or ():
        files += [file for file, _ in zip(Path(place).rglob("*.py"), range(_MAX_FILES), strict=False)]
    imported: set[str] = set()
    for file in files:
        # Importing the file reports these errors.
        with contextlib.suppress(OSError, SyntaxError, ValueError, RecursionError, MemoryError):
            imported |= set(_imports(ast.parse(file.read_bytes())))
    return imported


def _imports(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            yield node.module.partition(".")[0]
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in _IMPORTERS:
            given = [each.value for each in node.args[:1] if isinstance(each, ast.Constant)]
            yield from (str(name).partition(".")[0] for name in given)


_IMPORTERS = {"__import__", "import_module", "importlib.import_module"}
