"""Finds in a module's syntax tree what it does by hand although CodeLupe has one mechanism for it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import NamedTuple

RENAMES = "a rename or a link by hand; codelupe.storage.atomic puts things into their place on disk"
SYNCS = "an fsync by hand; codelupe.storage.atomic knows the order"
LOCKS = "a lock by hand; codelupe.storage.locks has open_lock()"
TEMPORARY = (
    "a temporary file by hand; codelupe.storage.atomic writes beside the target, codelupe.postgres.spool for COPY"
)
GIT = "git started by hand; codelupe_git.process starts it"
COPY = "a COPY by hand; codelupe.postgres.spool has copy_into()"
OUTAGES = "an absent database caught by hand; codelupe.postgres.retry pauses and tries again"
TEXT = "an expression of its own for what Postgres cannot hold; codelupe.postgres.text has one"
GRAMMARS = "a grammar of its own; codelupe_text.grammars has them"

_NAMES = {
    **dict.fromkeys(("os.rename", "os.renames", "os.replace", "os.link", "os.symlink", "shutil.move"), RENAMES),
    **dict.fromkeys(("Path.replace", "pathlib.Path.replace"), RENAMES),
    **dict.fromkeys(("os.sync", "os.fsync", "os.fdatasync"), SYNCS),
    **dict.fromkeys(("os.lockf", "os.O_EXCL"), LOCKS),
    **dict.fromkeys(("NamedTemporaryFile", "SpooledTemporaryFile", "TemporaryFile", "TemporaryDirectory"), TEMPORARY),
    **dict.fromkeys(("mkstemp", "mkdtemp", "mktemp"), TEMPORARY),
}
_METHODS = {
    **dict.fromkeys(("rename", "renames", "symlink_to", "hardlink_to", "link_to"), RENAMES),
    **dict.fromkeys(("fsync", "fdatasync", "syncfs"), SYNCS),
    **dict.fromkeys(("flock", "lockf"), LOCKS),
    **dict.fromkeys(("clone_from", "iter_commits", "create_remote", "remotes"), GIT),
    **dict.fromkeys(("copy_to_table", "copy_records_to_table", "copy_from_table", "copy_from_query"), COPY),
    **dict.fromkeys(("copy_expert", "copy_from", "copy_to"), COPY),
}
_MODULES = {
    **dict.fromkeys(("fcntl", "filelock", "portalocker"), LOCKS),
    **dict.fromkeys(("pygit2", "dulwich"), GIT),
    "tempfile": TEMPORARY,
}
_GIT_NAMES = ("Repo", "SymbolicReference", "InvalidGitRepositoryError", "NoSuchPathError")
"""What reads a repository's files without starting git."""
_NO_COMMANDS = ("shutil.which", "Finding", "codelupe.Finding")
"""May be called with git's name: it is looked for, and reported on."""
_SHELLS = {
    *("system", "popen", "Popen", "run", "call", "check_call", "check_output", "getoutput", "getstatusoutput"),
    *("create_subprocess_shell", "run_process", "open_process", "split"),
}
_WRAPPERS = ("env", "nice", "sudo", "timeout", "setsid", "sh", "bash", "/bin/sh")
_TESTS = ("isinstance", "issubclass", "suppress")
_WIDER = {"DatabaseUnavailable", "CodelupeError", "Exception", "BaseException"}


class Breach(NamedTuple):
    line: int
    scope: str
    """The function or class, as in ``Class.method``; empty in the module itself."""
    reason: str


def breaches(source: str) -> Iterator[Breach]:
    """Where a module does itself what has a home."""
    finder = _Finder(ast.parse(source))
    finder.visit(finder.tree)
    yield from finder.found


class _Finder(ast.NodeVisitor):
    def __init__(self, tree: ast.Module) -> None:
        self.tree = tree
        self.found: list[Breach] = []
        self._scope: list[str] = []
        self._origins = dict(_origins(tree))
        self._programs: set[str] = set()
        self._programs = {
            target.id
            for node in ast.walk(tree)
            if isinstance(node, ast.Assign) and self._is_git(node.value)
            for target in node.targets
            if isinstance(target, ast.Name)
        }

    def visit(self, node: ast.AST) -> None:
        reasons = {self._of_name(node), self._of_git(node), self._of_call(node), self._of_constant(node)}
        if self._is_outage(node):
            reasons.add(OUTAGES)
        for reason in filter(None, reasons):
            self.found.append(Breach(getattr(node, "lineno", 0), ".".join(self._scope), reason))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            self._scope.append(node.name)
            self.generic_visit(node)
            self._scope.pop()
        else:
            self.generic_visit(node)

    def _name(self, node: ast.AST) -> str:
        """The name with its module, whatever the import called it; a value without a name is ``?``."""
        match node:
            case ast.Name(id=name):
                return self._origins.get(name, name)
            case ast.Attribute(value=value, attr=attribute):
                return f"{self._name(value)}.{attribute}"
            case _:
                return "?"

    # --- by name ---

    def _of_name(self, node: ast.AST) -> str | None:
        if isinstance(node, ast.Import | ast.ImportFrom):
            return next(filter(None, (_of_import(name) for _, name in _imported(node))), None)
        name = self._name(node)
        if name in _NAMES:
            return _NAMES[name]
        if not isinstance(node, ast.Attribute):
            return None
        if name.endswith((".head.commit", "Repo.init", "Repo.clone")) or self._is_command_of_a_repository(node):
            return GIT
        return _METHODS.get(node.attr)

    def _is_command_of_a_repository(self, node: ast.Attribute) -> bool:
        """Such as ``repository.git.log``, unless a module is called git."""
        root: ast.AST = node
        while isinstance(root, ast.Attribute):
            root = root.value
        is_module = isinstance(root, ast.Name) and root.id in self._origins
        return not is_module and isinstance(node.value, ast.Attribute) and node.value.attr == "git"

    # --- by shape ---

    def _of_call(self, node: ast.AST) -> str | None:
        if not isinstance(node, ast.Call):
            return None
        if any(isinstance(word, ast.Attribute) and self._is_replace_of_path(word) for word in node.args):
            return RENAMES
        if not isinstance(node.func, ast.Attribute) or not self._is_replace_of_path(node.func):
            return None
        names = [keyword.arg for keyword in node.keywords]
        return RENAMES if names == ["target"] or (len(node.args) == 1 and not names) else None

    def _is_replace_of_path(self, function: ast.Attribute) -> bool:
        return function.attr == "replace" and self._name(function) not in ("dataclasses.replace", "copy.replace")

    def _of_git(self, node: ast.AST) -> str | None:
        match node:
            case ast.List(elts=[program, *rest]) | ast.Tuple(elts=[program, *rest]):
                is_version = [ast.unparse(word) for word in rest] == ["'--version'"]
                is_command = self._is_git(program) and not is_version
                is_inside = _line(program) in _WRAPPERS and any(
                    self._is_git(word) or _line(word).startswith("git ") for word in rest
                )
                return GIT if is_command or is_inside else None
            case ast.Call(func=function, args=arguments, keywords=keywords):
                name = self._name(function)
                values = [*arguments[:1], *(keyword.value for keyword in keywords)]
                is_command = name not in _NO_COMMANDS and any(self._is_git(value) for value in values)
                words = [*values, function.value] if isinstance(function, ast.Attribute) else values
                is_line = name.split(".")[-1] in _SHELLS and any(_line(word).startswith("git ") for word in words)
                return GIT if is_command or is_line or any(_line(it).startswith("git -") for it in words) else None
            case _:
                return None

    def _is_git(self, node: ast.AST) -> bool:
        match node:
            case ast.Constant(value=str() as text):
                return text == "git" or (text.startswith("/") and text.endswith("/git"))
            case ast.Name(id=name):
                return name in self._programs
            case ast.BoolOp(values=values):
                return any(self._is_git(value) for value in values)
            case ast.Call(func=function, args=[program, *_]):
                return self._name(function) in ("shutil.which", "which") and self._is_git(program)
            case _:
                return False

    # --- outages ---

    def _is_outage(self, node: ast.AST) -> bool:
        """Whether it asks for DatabaseUnavailable, or pauses after an error that may be one."""
        if isinstance(node, ast.ExceptHandler) and any(self._is_sleep(one) for one in ast.walk(node)):
            return node.type is None or not _WIDER.isdisjoint(self._kinds(node.type))
        return "DatabaseUnavailable" in self._kinds(*self._asked_for(node))

    def _asked_for(self, node: ast.AST) -> list[ast.expr]:
        match node:
            case ast.ExceptHandler(type=ast.expr() as kind) | ast.MatchClass(cls=kind):
                return [kind]
            case ast.Assign(value=ast.Tuple() as kinds):
                return [kinds]
            case ast.Call(func=function, args=kinds) if self._name(function).split(".")[-1] in _TESTS:
                return kinds
            case _:
                return []

    def _kinds(self, *kinds: ast.expr) -> set[str]:
        flat = [one for kind in kinds for one in (kind.elts if isinstance(kind, ast.Tuple) else [kind])]
        return {self._name(kind).split(".")[-1] for kind in flat}

    def _is_sleep(self, node: ast.AST) -> bool:
        return isinstance(node, ast.Call) and self._name(node.func).split(".")[-1] == "sleep"

    @staticmethod
    def _of_constant(node: ast.AST) -> str | None:
        return TEXT if isinstance(node, ast.Constant) and "\ud800-\udfff" in str(node.value) else None


def _origins(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """What each imported name stands for."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            yield from _imported(node)
        elif isinstance(node, ast.Import):
            for alias in node.names:
                top = alias.name.split(".")[0]
                yield (alias.asname, alias.name) if alias.asname else (top, top)


def _imported(node: ast.Import | ast.ImportFrom) -> Iterator[tuple[str, str]]:
    prefix = f"{'.' * node.level}{node.module or ''}." if isinstance(node, ast.ImportFrom) else ""
    for alias in node.names:
        yield alias.asname or alias.name, f"{prefix}{alias.name}"


def _of_import(name: str) -> str | None:
    top, _, rest = name.partition(".")
    if top == "git":
        return None if rest in _GIT_NAMES or rest.startswith("exc.") else GIT
    if top.startswith("tree_sitter_"):
        return GRAMMARS
    return _MODULES.get(top) or _NAMES.get(name)


def _line(node: ast.AST) -> str:
    """The text that a string or an f-string begins with."""
    match node:
        case ast.Constant(value=str() as text):
            return text
        case ast.JoinedStr(values=[ast.Constant(value=str() as text), *_]):
            return text
        case _:
            return ""
