"""Which code a class path may run: that of installed packages, and of one folder where the user said so.

A command of `dal` never imports from the current folder by itself, because the folder may be somebody else's. A finder
at the end of `sys.meta_path` serves the modules that a class path of the user names, and those that they import in
turn, from one folder: the current one for the user's own config and command line, or that of `--allow-code`. Installed
packages come first, so that no file of the folder can take their place.
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

#: Source files of one package that are searched for imports.
_MOST_FILES = 1000
#: Characters and dots of an import path.
_LONGEST, _MOST_DOTS = 1000, 50


class _Folder(MetaPathFinder):
    """Serves the admitted modules of one folder, and no others."""

    def __init__(self, allowed: Path | None) -> None:
        self.allowed = allowed
        self.names: set[str] = set()

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The admitted top-level module of this name; what is inside a package is found by the package's own path."""
        return self.look(fullname) if path is None and fullname in self.names else None

    def look(self, top: str) -> ModuleSpec | None:
        """The module of this name in the folder."""
        return None if self.allowed is None else PathFinder.find_spec(top, [str(self.allowed)])

    def admit(self, top: str) -> None:
        """Serve a module of the folder, and those of the folder that it imports in turn."""
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
        """Unload what was served: another command in this process may be given another folder."""
        for name in [name for name in sys.modules if name.partition(".")[0] in self.names]:
            del sys.modules[name]


_folder: _Folder | None = None


@contextmanager
def isolated(allowed: Path | None = None) -> Iterator[None]:
    """Keep the current folder off the import path meanwhile, and let class paths name code in `allowed` alone.

    Raises:
        ConfigError: `allowed` is no folder.
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


def without_current_folder(path: Iterable[str]) -> list[str]:
    """The entries of an import path but for those that mean the current folder, or lie in it by a relative name."""
    given = "" if sys.flags.ignore_environment else os.environ.get("PYTHONPATH", "")
    kept = [entry for entry in path if os.path.isabs(entry) or _is_hook(entry)]
    for entry in given.split(os.pathsep) if given else []:
        # Python makes the entries of PYTHONPATH absolute; an empty one, as in ":/lib", means the current folder.
        if not os.path.isabs(entry) and os.path.abspath(entry) in kept:
            kept.remove(os.path.abspath(entry))
    return kept


def safe_environment() -> dict[str, str]:
    """This process's environment for a Python that must not import from its current folder."""
    kept = [entry for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if os.path.isabs(entry)]
    root = Path(__file__).absolute().parents[2]
    if str(root) in sys.path and not _is_of_python(root):  # this package runs from its source folder
        kept.append(str(root))
    return {**os.environ, "PYTHONPATH": os.pathsep.join(kept), "PYTHONSAFEPATH": "1"}


def allow_current_folder() -> None:
    """Let class paths name code in the current folder: they come from the user's own config or command line.

    `--allow-code` takes its place. Outside of a command of `dal` the program's own import path decides.
    """
    if _folder is not None and _folder.allowed is None:
        with contextlib.suppress(OSError):  # a current folder that was removed holds no code
            _folder.allowed = Path.cwd()


def admit(path: str) -> None:
    """Make sure that the module of a class path may be imported. Nothing is imported.

    Args:
        path: such as `my_package.parts.Spread` or `my_package.parts:Spread`.

    Raises:
        ConfigError: it is too long, in the standard library, or in no installed package while the config is stored.
    """
    if len(path) > _LONGEST or path.count(".") > _MOST_DOTS:  # importing takes a call for each package
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
    """Whether the code at a class path is the user's: of the allowed folder, or imported by the user's own program."""
    return _folder is None or re.split("[.:]", path.strip(), maxsplit=1)[0] in _folder.names


def hidden(module: str) -> str:
    """What to add to an error about an installed module that hides one of the same name in the user's folder."""
    top = module.partition(".")[0]
    if _folder is None or not top.isidentifier() or top in _folder.names or _folder.look(top) is None:
        return ""
    return f"; the installed package {top} hides {top} in {_folder.allowed}: give yours another name"


def allow_option() -> str:
    """What a command that goes on with a stored config must add, where code of a folder was used; else nothing."""
    return f" --allow-code {shlex.quote(str(_folder.allowed))}" if _folder is not None and _folder.names else ""


def code_folder(config: object) -> Path | None:
    """The folder, outside of installed packages, that a worker process needs to import the classes of a config.

    In a command of `dal` it is the allowed folder, if it was used. In another program it is that of the first class or
    function whose module lies directly in an entry of the import path which a fresh Python would not have.
    """
    if _folder is not None:
        if _folder.allowed is not None and isinstance(config, dict):
            for text in _texts(config.get("loggers")):  # which are imported when the first cell begins
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
    if isinstance(config, str):
        yield config
    elif isinstance(config, dict | list | tuple):
        for value in config.values() if isinstance(config, dict) else config:
            yield from _texts(value)


def _is_hook(entry: str) -> bool:
    """Whether an entry of the import path is no place but the mark of an editable install."""
    return entry.endswith("__path_hook__") and not os.path.exists(entry)


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


def _is_of_python(folder: Path) -> bool:
    """Whether a fresh Python has the folder on its path anyhow."""
    import site
    import sysconfig

    given = [entry for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if os.path.isabs(entry)]
    known = [*sysconfig.get_paths().values(), *site.getsitepackages(), site.getusersitepackages(), *given]
    return str(folder) in {os.path.abspath(entry) for entry in known}


def _imported_by(spec: ModuleSpec) -> set[str]:
    """The top-level names of all imports in the source of a module, or in all sources of a package."""
    files = [Path(spec.origin)] if spec.origin and spec.origin.endswith(".py") else []
    for place in spec.submodule_search_locations or ():
        files += [file for file, _ in zip(Path(place).rglob("*.py"), range(_MOST_FILES), strict=False)]
    found: set[str] = set()
    for file in files:
        with contextlib.suppress(OSError, SyntaxError, ValueError, RecursionError, MemoryError):  # importing it says so
            found |= set(_imports(ast.parse(file.read_bytes())))
    return found


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
