"""A project's modules and what each of them imports, read from the source: nothing is run.

Parts are the files and folders of the package's first level: `tinymvit.engine.lowering` belongs to `engine`. The
package itself, its front, belongs to none.
"""

import ast
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
HOMES = {"tinymvit": ROOT / "tinymvit", "tinymvit.kernels": ROOT / "kernels", "tinymvit.weights": ROOT / "weights"}
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
CALLS = ("import_module", "__import__")


class Project:
    """The modules of a package, given the folder of each package in it that has one of its own."""

    def __init__(self, homes):
        self.front = next(iter(homes))
        self.modules = {}
        for home, folder in homes.items():
            for path in folder.rglob("*.py"):
                steps = path.relative_to(folder).with_suffix("").parts
                self.modules[".".join([home, *(step for step in steps if step != "__init__")])] = path
        self.tree = cache(self.tree)
        self.lazy_names = cache(self.lazy_names)
        self.imports = cache(self.imports)

    def tree(self, module):
        return ast.parse(self.modules[module].read_text("utf-8"))

    def part(self, module):
        return module.split(".")[1] if "." in module else None

    def lazy_names(self, package):
        """The names that a package imports when they are used, by its table `_HOMES`, each with the module it is in."""
        if package not in self.modules:
            return {}
        for node in self.tree(package).body:
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "_HOMES":
                return {name: f"{package}.{home}" for name, home in ast.literal_eval(node.value).items()}
        return {}

    def named(self, module):
        """What the imports of a module name: (names, whether they wait until a function is called or are for types)."""
        parents = {child: node for node in ast.walk(self.tree(module)) for child in ast.iter_child_nodes(node)}
        for node in ast.walk(self.tree(module)):
            if names := self._names(node, module):
                deferred, above = False, node
                while above in parents:
                    child, above = above, parents[above]
                    deferred = deferred or isinstance(above, FUNCTIONS) or _is_for_types(above, child)
                yield names, deferred

    def _names(self, node, module):
        """The dotted names that an import names, with those of what it takes from a module."""
        if isinstance(node, ast.Import):
            return [alias.name for alias in node.names]
        if isinstance(node, ast.ImportFrom):
            base = self._absolute("." * node.level + (node.module or ""), module)
            return [base, *(f"{base}.{alias.name}" for alias in node.names)]
        if is_import_call(node) and isinstance(node.args[0], ast.Constant):
            return [self._absolute(node.args[0].value, module)]
        return []

    def _absolute(self, name, module):
        """A name, which may begin with dots, as it is without them."""
        below = name.lstrip(".")
        if below == name:
            return name
        steps = module.split(".")
        is_package = self.modules[module].name == "__init__.py"
        package = steps[: len(steps) + is_package - (len(name) - len(below))]
        return ".".join([*package, *([below] if below else [])])

    def imports(self, module):
        """The project's modules that a module imports: when it is loaded, and later."""
        loaded, later = set(), set()
        for names, deferred in self.named(module):
            for name in names:
                package, _, last = name.rpartition(".")
                steps = self.lazy_names(package).get(last, name).split(".")
                known = {".".join(steps[:end]) for end in range(1, len(steps) + 1)} & self.modules.keys()
                (later if deferred else loaded).update(known)
        return loaded, later

    def loads(self, module):
        """All modules that are loaded with a module, itself included."""
        seen, todo = set(), [module]
        while todo:
            name = todo.pop()
            if name not in seen:
                seen.add(name)
                todo += self.imports(name)[0]
        return seen

    def reached(self, part):
        """The modules of other parts that the modules of a part reach, as (module, module): those that are loaded with
        it, and those that it imports later or that are loaded with these."""
        loaded, later = set(), set()
        for module in self.modules:
            if self.part(module) == part:
                loaded |= {(module, name) for name in self.loads(module)}
                later |= {(module, name) for start in self.imports(module)[1] for name in self.loads(start)}
        return self._elsewhere(loaded, part), self._elsewhere(later, part)

    def _elsewhere(self, pairs, part):
        """Without the part's own modules, the front, and what is loaded with that each time."""
        free = self.loads(self.front)
        return {(module, name) for module, name in pairs if self.part(name) != part and name not in free}

    def surplus(self, may_load, may_load_later):
        """What no row allows, a sentence each; `may_load_later` is beside `may_load`, for what a function imports."""
        for part, allowed in may_load.items():
            loaded, later = self.reached(part)
            for module, name in sorted(loaded):
                if self.part(name) not in allowed:
                    yield f"{module} loads {name}"
            for module, name in sorted(later):
                if self.part(name) not in allowed | may_load_later.get(part, set()):
                    yield f"{module} loads {name} when a function is called"

    def unused(self, may_load, may_load_later):
        """What a row allows and no module needs, a sentence each."""
        for part, allowed in may_load.items():
            loaded, later = ({self.part(name) for _, name in pairs} for pairs in self.reached(part))
            yield from (f"{part} need not load {name}" for name in sorted(allowed - loaded))
            yield from (
                f"{part} need not load {name} later" for name in sorted(may_load_later.get(part, set()) - later)
            )

    def through_the_front(self):
        """Where a module takes the package itself, or a name that the package only shows, a sentence each: it depends
        on the module that has it, and must say so."""
        shown = {f"{self.front}.{name}" for name in self.lazy_names(self.front)}
        for module in sorted(self.modules):
            for node in ast.walk(self.tree(module)):
                whole = isinstance(node, ast.Import) and any(
                    alias.name.split(".")[0] == self.front and not (alias.asname and "." in alias.name)
                    for alias in node.names
                )
                names = self._names(node, module)
                if whole or names == [self.front] or shown.intersection(names) or f"{self.front}.*" in names:
                    yield f"{module}: {ast.unparse(node)}"

    def computed(self):
        """The modules that import what is not written out there."""
        return {
            module
            for module in self.modules
            for node in ast.walk(self.tree(module))
            if is_import_call(node) and not isinstance(node.args[0], ast.Constant)
        }


def is_import_call(node):
    return isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] in CALLS and bool(node.args)


def _is_for_types(node, child):
    return isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING") and child in node.body


PROJECT = Project(HOMES)
