"""The files of a new plugin, from the templates beside this module."""

from __future__ import annotations

import importlib
import importlib.util
import keyword
import re
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from automl_nas.errors import ConfigurationError
from automl_nas.plugin.api import API_VERSION
from automl_nas.plugin.component import NAME
from automl_nas.plugin.discovery import normalized

if TYPE_CHECKING:
    from automl_nas.plugin.manager import PluginManager

TEMPLATES = Path(__file__).with_name("plugin_templates")

_DISTRIBUTION = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?")  # PEP 508
_PREFIX = "automl-nas-"
_COMMON = {
    "pyproject.toml": "pyproject.toml",
    "README.md": "README.md",
    ".gitignore": "gitignore",
    ".pre-commit-config.yaml": "pre-commit.yaml",
    ".github/workflows/ci.yml": "ci.yml",
}
_PUBLIC = ("", ".space", ".evaluation", ".strategy", ".plugin", ".run", ".testing", ".errors")


@dataclass(frozen=True)
class Template:
    """What the templates of a kind of plugin have in common.

    Attributes:
        noun: the kind in sentences.
        hook: the kind of component that is registered; empty for commands.
        module: the module with the component.
        suffix: the end of the name of the class or function.
        function: whether the component is a function.
        summary: one line for listings.
        usage: how it is used, as Markdown; ``{name}`` is the name of the component.
    """

    noun: str
    hook: str
    module: str
    suffix: str
    summary: str
    usage: str
    function: bool = False


def _yaml(text: str) -> str:
    return f"```yaml\n{text}\n```"


KINDS: Mapping[str, Template] = {
    "strategy": Template(
        "strategy",
        "strategies",
        "strategy",
        "Strategy",
        "changes the best network, one decision at a time",
        _yaml(
            "stages:\n"
            "  - {{name: supernet, strategy: single_path}}\n"
            "  - name: search\n"
            "    strategy: {{name: {name}, restart: 0.2}}\n"
            "    evaluator: {{name: supernet_weights, weights: supernet}}\n"
            "    budget: {{trials: 100}}"
        ),
    ),
    "one-shot": Template(
        "one-shot strategy",
        "strategies",
        "strategy",
        "Strategy",
        "trains a supernet and the weights of its options in turns (first-order DARTS)",
        _yaml("stages:\n  - {{name: search, strategy: {{name: {name}, train: {{epochs: 50}}}}}}"),
    ),
    "space": Template(
        "space",
        "spaces",
        "space",
        "space",
        "residual convolutional networks with a choice of the convolution in every block",
        _yaml("space: {{name: {name}, width: 32, blocks: 6}}"),
        function=True,
    ),
    "evaluator": Template(
        "evaluator",
        "evaluators",
        "evaluator",
        "Evaluator",
        "the norm of the gradient with fresh weights, without training",
        _yaml(
            "problem:\n"
            "  objectives: {{gradient_norm: maximize}}\n"
            "stages:\n"
            "  - {{name: search, strategy: random, evaluator: {name}, budget: {{trials: 100}}}}"
        ),
    ),
    "cost": Template(
        "cost model",
        "cost_models",
        "cost",
        "Cost",
        "number of layers that compute",
        _yaml('problem:\n  constraints: {{{name}: "<= 20"}}'),
    ),
    "task": Template(
        "task",
        "tasks",
        "task",
        "task",
        "classification of images of a ring, a square or a cross",
        _yaml("task: {{name: {name}, samples: 3000, size: 16}}"),
        function=True,
    ),
    "exporter": Template(
        "exporter",
        "exporters",
        "exporter",
        "Exporter",
        "weights as NumPy arrays, architecture as JSON",
        _yaml("final:\n  export: [safetensors, {{name: {name}, compress: true}}]"),
    ),
    "executor": Template(
        "executor",
        "executors",
        "executor",
        "Executor",
        "evaluates in this process, with a pause after each evaluation",
        _yaml("executor: {{name: {name}, pause: 5.0}}"),
    ),
    "observer": Template(
        "observer",
        "observers",
        "observer",
        "Observer",
        "appends a line of JSON for every trial to a file",
        _yaml("observers:\n  - {{name: {name}, file: trials.jsonl}}"),
    ),
    "command": Template(
        "command",
        "",
        "command",
        "",
        "count the options of the best trials of a run",
        "```\nautoml-nas {name} runs/quickstart-1 --top 20\n```",
        function=True,
    ),
}
"""Kind of plugin -> what its templates have in common."""


@dataclass(frozen=True)
class NewPlugin:
    """The names of a new plugin.

    Attributes:
        kind: one of `KINDS`.
        distribution: the name of the distribution.
        package: the name of the package.
        plugin: the name of the entry point.
        name: the name of the component or command.
        object: the name of its class or function.
    """

    kind: str
    distribution: str
    package: str
    plugin: str
    name: str
    object: str

    @classmethod
    def named(cls, distribution: str, kind: str, name: str | None) -> NewPlugin:
        """Return the names that follow from the name of a distribution.

        Args:
            distribution: e.g. ``automl-nas-climber``.
            kind: one of `KINDS`.
            name: of the component; None: the name of the distribution without ``automl-nas-``.

        Raises:
            ConfigurationError: a name is not one that Python, package indices and configurations accept.
        """
        if not _DISTRIBUTION.fullmatch(distribution):
            raise ConfigurationError(
                f"'{distribution}' is not the name of a distribution: letters, digits, '-', '_' and '.', with a letter "
                "or digit at both ends, such as automl-nas-climber",
                path="NAME",
            )
        plain = normalized(distribution)
        package = plain.replace("-", "_")
        _check_package(package, distribution)
        rest = plain.removeprefix(_PREFIX)
        if name is None:
            name = rest if kind == "command" else rest.replace("-", "_")
        if not NAME.fullmatch(name):
            raise ConfigurationError(
                f"'{name}' is not a name for a configuration: lower case letters, digits, '_' and '-', starting with a "
                "letter; choose one with --name",
                path="--name",
            )
        template = KINDS[kind]
        return cls(kind, distribution, package, rest.replace("-", "_"), name, _object_name(name, template))

    def check_free(self, manager: PluginManager) -> None:
        """Check that no installed plugin uses one of the names.

        Raises:
            ConfigurationError: one does; the message names it.
        """
        for plugin in manager.plugins:
            source = plugin.source
            if normalized(source.distribution) == normalized(self.distribution):
                raise ConfigurationError(f"the distribution '{source.distribution}' is installed", path="NAME")
            if source.plugin == self.plugin:
                raise ConfigurationError(f"{source} has this name; choose another one", path="NAME")
            if self.kind == "command" and self.name in plugin.commands:
                raise ConfigurationError(f"{source} has a command '{self.name}'; choose another --name", path="--name")
        hook = KINDS[self.kind].hook
        if hook and self.name in manager.registry.names(hook):
            taken = manager.registry.get(hook, self.name)
            raise ConfigurationError(f"{taken} has this name; choose another --name", path="--name")
        spec = importlib.util.find_spec(self.package)
        if spec is not None:
            raise ConfigurationError(
                f"Python has a module '{self.package}' already ({spec.origin or 'a folder'}); choose another name",
                path="NAME",
            )

    def files(self) -> dict[str, str]:
        """Return relative path -> text of every file of the distribution."""
        import jinja2

        environment = jinja2.Environment(
            loader=jinja2.FileSystemLoader(TEMPLATES),
            undefined=jinja2.StrictUndefined,
            # Not the usual braces, which Python, TOML and workflows use themselves.
            variable_start_string="<<",
            variable_end_string=">>",
            block_start_string="<%",
            block_end_string="%>",
            trim_blocks=True,
            keep_trailing_newline=True,
            autoescape=False,
        )
        environment.filters["imports"] = _imports
        template = KINDS[self.kind]
        values = {
            "kind": self.kind,
            "distribution": self.distribution,
            "package": self.package,
            "plugin": self.plugin,
            "name": self.name,
            "object": self.object,
            "class_name": self.object,
            "function": self.object,
            "module": template.module,
            "hook": template.hook,
            "noun": template.noun,
            "article": "an" if template.noun[0] in "aeio" and not template.noun.startswith("one") else "a",
            "summary": template.summary,
            "usage": template.usage.format(name=self.name),
            "api": API_VERSION,
            "dependencies": ["automl-nas", *_DEPENDENCIES.get(self.kind, ())],
        }
        sources = {
            **{path: f"common/{name}.jinja" for path, name in _COMMON.items()},
            f"{self.package}/__init__.py": "common/init.py.jinja",
            f"{self.package}/{template.module}.py": f"components/{self.kind}.py.jinja",
            f"tests/test_{self.package}.py": f"tests/{self.kind}.py.jinja",
        }
        texts = {path: environment.get_template(source).render(values) for path, source in sources.items()}
        return {**texts, f"{self.package}/py.typed": ""}


_DEPENDENCIES = {
    "one-shot": ("torch",),
    "space": ("torch",),
    "evaluator": ("torch",),
    "cost": ("torch",),
    "task": ("numpy",),
    "exporter": ("numpy",),
    "command": ("click>=8.1",),
}


def _imports(names: Sequence[str]) -> str:
    """Return names as an import lists them: constants first, then classes, then the rest."""
    return ", ".join(sorted(names, key=lambda name: (not name.isupper(), not name[0].isupper(), name)))


def write_plugin(folder: Path, files: Mapping[str, str]) -> None:
    """Write the files into a new folder, all of them or none.

    Raises:
        ConfigurationError: the folder exists, or cannot be written.
    """
    if folder.exists() or folder.is_symlink():
        raise ConfigurationError(f"{folder} exists, and nothing is overwritten; choose another --out", path="--out")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as name:
            staged = Path(name) / folder.name
            for path, text in files.items():
                file = staged / path
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(text, encoding="utf-8")
            staged.rename(folder)
    except OSError as error:
        raise ConfigurationError(f"cannot write {folder}: {error.strerror or error}", path="--out") from error


def _check_package(package: str, distribution: str) -> None:
    reason = ""
    if not package.isidentifier():
        reason = "is not a name that Python can import"
    elif keyword.iskeyword(package) or keyword.issoftkeyword(package):
        reason = "is a keyword of Python"
    elif package in sys.stdlib_module_names:
        reason = "is a module of Python's standard library"
    elif package in ("automl_nas", "tests"):
        reason = "is taken"
    if reason:
        raise ConfigurationError(
            f"the package of '{distribution}' would be '{package}', which {reason}; choose another name, such as "
            f"automl-nas-{'climber' if package == 'automl_nas' else normalized(package)}",
            path="NAME",
        )


def _object_name(name: str, template: Template) -> str:
    """Return the name of the class or function of a component.

    Raises:
        ConfigurationError: automl_nas has a class or function of this name, which the module imports or might import.
    """
    words = [word for word in re.split(r"[-_]+", name) if word]
    if template.function:
        end = [template.suffix] if template.suffix and words[-1] != template.suffix else []
        result = "_".join([*words, *end])
        if not template.suffix and (keyword.iskeyword(result) or result in ("click", "json", "count", "table")):
            result += "_command"
        return result
    if words[-1] != template.suffix.lower():
        words.append(template.suffix.lower())
    result = "".join(word.capitalize() for word in words)
    for package in _PUBLIC:
        module = importlib.import_module(f"automl_nas{package}")
        if result in getattr(module, "__all__", vars(module)):
            raise ConfigurationError(
                f"the class of '{name}' would be called {result}, like the one of automl_nas{package}; choose another "
                "--name",
                path="--name",
            )
    return result
