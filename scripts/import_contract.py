"""A contract for import-linter: a package imports what is on its list and nothing else of ours.

import-linter's own contract ``forbidden`` names what must not be imported, and so lets everything new pass.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from grimp import ImportGraph
from importlinter import Contract, ContractCheck, fields, output


class AllowListContract(Contract):
    """Of the root packages, each package may import itself and what is allowed.

    Configuration options:
        - packages:         The importing packages; by default all root packages.
        - except_packages:  Those among them that have a contract of their own. (Optional.)
        - allowed_packages: Packages that may be imported with all that lies in them. (Optional.)
        - allowed_modules:  Modules that may be imported, without those that lie in them. (Optional.)

    It is also broken by a package that lies beside a root package and is none itself, which no contract would see.
    """

    type_name = "allow_list"

    packages = fields.SetField(subfield=fields.StringField(), required=False, default=set())
    except_packages = fields.SetField(subfield=fields.StringField(), required=False, default=set())
    allowed_packages = fields.SetField(subfield=fields.StringField(), required=False, default=set())
    allowed_modules = fields.SetField(subfield=fields.StringField(), required=False, default=set())

    def check(self, graph: ImportGraph, verbose: bool) -> ContractCheck:  # noqa: ARG002, FBT001
        """Look for imports that are not on the list, and for packages that are on none."""
        roots = set(self.session_options["root_packages"])
        named = {*self.packages, *self.except_packages, *self.allowed_packages, *self.allowed_modules}
        faults = [
            *(f"{name} is on the list, but there is no such module" for name in sorted(named - graph.modules)),
            *(f"{name} is missing in root_packages" for name in sorted(_neighbours(roots) - roots)),
            *self._forbidden_imports(graph, (self.packages or roots) - self.except_packages),
        ]
        return ContractCheck(kept=not faults, metadata={"faults": faults})

    def render_broken_contract(self, check: ContractCheck) -> None:
        """Print what was found."""
        for fault in check.metadata["faults"]:
            output.print_error(f"- {fault}", bold=False)
        output.new_line()

    def _forbidden_imports(self, graph: ImportGraph, packages: set[str]) -> Iterator[str]:
        for importer in sorted(name for name in graph.modules if _package(name) in packages):
            for imported in sorted(graph.find_modules_directly_imported_by(importer)):
                is_allowed = _package(imported) in {_package(importer), *self.allowed_packages}
                if not is_allowed and imported not in self.allowed_modules:
                    lines = graph.get_import_details(importer=importer, imported=imported)
                    numbers = ", ".join(str(line["line_number"]) for line in lines)
                    yield f"{importer} imports {imported} (line {numbers})"


def _package(module: str) -> str:
    return module.partition(".")[0]


def _neighbours(packages: set[str]) -> set[str]:
    """All packages of ours in the folders where these lie."""
    origins = [spec.origin for name in packages if (spec := find_spec(name)) and spec.origin]
    folders = {Path(origin).parent.parent for origin in origins}
    return {path.parent.name for folder in folders for path in folder.glob("codelupe*/__init__.py")}
