"""What all contract classes share: clauses, their messages, temporary folders, and the two runs that are compared.

A clause is a method ``test_...`` of a contract class. The first line of its docstring states the clause, the paragraph
``Way out:`` says what to do when a component breaks it. pytest runs the clauses of a class whose name begins with
``Test``; `clauses` enumerates them for everybody else.
"""

from __future__ import annotations

import functools
import inspect
import re
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from automl_nas.testing.observation import Observation, observe
from automl_nas.testing.second_process import Origin, class_origin, second_process

_SEPARATOR = "Way out:"


@dataclass(frozen=True)
class Clause:
    """One promise of a contract.

    Attributes:
        name: of the method.
        contract: the name of the class that defines it.
        statement: the promise, in one sentence.
        way_out: what to do if a component breaks it.
        process: whether it starts a process.
    """

    name: str
    contract: str
    statement: str
    way_out: str
    process: bool

    @property
    def title(self) -> str:
        """The name as words."""
        return self.name.removeprefix("test_").replace("_", " ")

    def run(self, contract: Contract) -> None:
        """Run the clause.

        Args:
            contract: a new instance of the contract class.

        Raises:
            BrokenClauseError: the component breaks the clause.
        """
        getattr(contract, self.name)()


class BrokenClauseError(AssertionError):
    """A component breaks a clause of its contract; the message says which, what was found and what to do.

    Attributes:
        clause: the clause.
        finding: what was found.
    """

    def __init__(self, clause: Clause, finding: str, contract: str = "") -> None:
        super().__init__(
            f"{contract or clause.contract}: {clause.title}\n  promise: {clause.statement}\n  found: {finding}\n"
            f"  way out: {clause.way_out}"
        )
        self.clause, self.finding = clause, finding


def require(condition: object, finding: str) -> None:
    """Raise AssertionError with what was found unless the condition is true."""
    if not condition:
        raise AssertionError(finding)


class Contract(ABC):
    """The base of all contract classes.

    A contract class has a constructor without arguments. It is at the top level of a module, since a second process
    imports the module and makes the same contract; a class that is made in a function overrides `origin`.

    Attributes:
        other_dtype: whether the second process has another default dtype. False for components that train networks,
            which have the default dtype of the process in which they are built.
        other_threads: whether the second process has another number of threads. False for components that compute
            with torch, since the rounding of sums depends on the number of threads.
    """

    other_dtype: ClassVar[bool] = True
    other_threads: ClassVar[bool] = True

    _folders: ExitStack | None = None
    _observations: ClassVar[dict[type, Observation]] = {}

    def __init_subclass__(cls, **arguments: Any) -> None:
        super().__init_subclass__(**arguments)
        for name, function in list(vars(cls).items()):
            if name.startswith("test_") and inspect.isfunction(function) and _SEPARATOR in (function.__doc__ or ""):
                setattr(cls, name, _checked(function, cls.__name__))

    def origin(self) -> Origin:
        """Return how another process makes this contract (default: by the module and the name of its class)."""
        return class_origin(type(self))

    def folder(self) -> Path:
        """Return a new empty folder, which is removed when the clause ends."""
        if self._folders is None:
            self._folders = ExitStack()
        return Path(self._folders.enter_context(tempfile.TemporaryDirectory(prefix="contract-")))

    @abstractmethod
    def use(self, store: Path) -> Mapping[str, Any]:
        """Construct the component, use all of it, and return what it gives, as JSON: topic -> value.

        The result is the same in every process.

        Args:
            store: a folder for the component. In the second process it has the files that the first one left there.
        """

    def _observed(self) -> Observation:
        """Return the record of one use in this process; it is made once for each class."""
        kind = type(self)
        if kind not in self._observations:
            self._observations[kind] = observe(self.use)
        observation = self._observations[kind]
        if observation.error is not None:
            raise observation.error
        return observation

    def test_it_can_be_used(self) -> None:
        """The component is constructed and used as in a run, without an error.

        Way out: the traceback shows where the component raised; make the call work, or correct the contract class.
        """
        self._observed()

    def test_the_global_generators_are_left_alone(self) -> None:
        """The component neither draws from nor seeds the global generators of Python, NumPy and torch.

        Way out: draw from `automl_nas.streams.stream(seed, purpose, counter)`, and give torch a Generator of your own.
        """
        self._require_unchanged("generator")

    def test_global_settings_are_left_alone(self) -> None:
        """Afterwards all settings of the process are as before: torch, NumPy, directory, environment, logging, signals.

        Way out: remove the call that sets it, or set it in a context manager that restores it, whatever happens.
        """
        self._require_unchanged("setting")

    def test_other_modules_are_left_alone(self) -> None:
        """No function of another module is replaced, and no thread or process is left running.

        Way out: call a function of your own instead of replacing one; join threads and processes before returning.
        """
        self._require_unchanged("module")

    def test_nothing_is_printed(self) -> None:
        """Nothing is written to the standard output and the standard error output.

        Way out: use `logging.getLogger(__name__)`, or `Services.log` for numbers that describe the progress.
        """
        printed = self._observed().printed
        require(not printed, f"it printed {_short(printed)}")

    def test_no_file_is_written_elsewhere(self) -> None:
        """The component writes no file outside the folder that it is given, and removes none.

        Way out: write into the folder that the component receives; put temporary files into
        `tempfile.TemporaryDirectory()`, which removes them.
        """
        files = self._observed().files
        require(not files, f"it changed {', '.join(files[:5])}")

    def test_another_process_gives_the_same(self) -> None:
        """A second process with another hash seed, directory, clock, dtype and number of threads gives the same.

        Way out: nothing may depend on `hash()` of text, the order of a set, `id()`, the process id, the clock, the
        working directory, the default dtype or a global variable: sort what comes from a set, seed with
        `automl_nas.streams`, name the dtype of every tensor.
        """
        observation = self._observed()
        other = second_process(self, observation.store)
        for topic, value in observation.values.items():
            require(topic in other, f"the second process gives no {topic}")
            if other[topic] != value:
                raise AssertionError(f"{topic}: {_difference(value, other[topic])}")

    def _require_unchanged(self, kind: str) -> None:
        changes = self._observed().changes.get(kind, [])
        require(not changes, "it changed " + "; ".join(changes))


def clauses(contract: type[Contract]) -> tuple[Clause, ...]:
    """Return the clauses of a contract class, those of its base classes first, in the order of definition."""
    by_name: dict[str, Clause] = {}
    for base in reversed(contract.__mro__):
        for name, function in vars(base).items():
            clause = getattr(function, "clause", None)
            if clause is not None:
                by_name[name] = clause
    return tuple(by_name.values())


def _checked(function: Callable[..., object], contract: str) -> Callable[..., object]:
    """Return a clause that raises `BrokenClauseError` for every error, and removes its folders."""
    statement, _, way_out = inspect.cleandoc(function.__doc__ or "").partition(_SEPARATOR)
    clause = Clause(
        function.__name__,
        contract,
        statement.strip().splitlines()[0],
        " ".join(way_out.split()),
        function.__name__ in PROCESS_CLAUSES,
    )

    @functools.wraps(function)
    def checked(self: Contract, *args: Any, **kwargs: Any) -> None:
        try:
            function(self, *args, **kwargs)
        except BrokenClauseError:
            raise
        except AssertionError as error:
            raise BrokenClauseError(clause, str(error) or _place(error), _contract_name(type(self))) from error
        except Exception as error:
            finding = f"it raised {type(error).__name__}: {error}"
            raise BrokenClauseError(clause, finding, _contract_name(type(self))) from error
        finally:
            folders, self._folders = self._folders, None
            if folders is not None:
                folders.close()

    checked.clause = clause  # type: ignore[attr-defined]
    return checked


PROCESS_CLAUSES = (
    "test_another_process_gives_the_same",
    "test_its_top_module_imports_nothing_heavy",
    "test_its_import_has_no_effects",
)
"""Clauses that start a process, of whatever component."""

# The clauses of the base class itself: __init_subclass__ is not called for it.
for _name, _function in list(vars(Contract).items()):
    if _name.startswith("test_"):
        setattr(Contract, _name, _checked(_function, "Contract"))


def _contract_name(kind: type) -> str:
    """Return the name of the contract that a class of tests is derived from."""
    names = [base.__name__ for base in kind.__mro__ if base.__module__.startswith("automl_nas.testing.")]
    return next((name for name in names if name.endswith("Contract")), kind.__name__)


def _place(error: BaseException) -> str:
    """Return the line that raised an AssertionError without a message."""
    frames = inspect.getinnerframes(error.__traceback__) if error.__traceback__ else []
    line = (frames[-1].code_context or [""])[0].strip() if frames else ""
    return f"{frames[-1].filename}:{frames[-1].lineno}: {line}" if frames else "an assertion failed"


def _short(value: object) -> str:
    text = value if isinstance(value, str) else repr(value)
    text = re.sub(r"\s+", " ", text).strip()
    return repr(text if len(text) <= 160 else text[:157] + "...")


def _difference(first: Any, second: Any, path: str = "") -> str:
    """Return where two JSON values differ first."""
    if isinstance(first, dict) and isinstance(second, dict) and list(first) == list(second):
        name = next(name for name in first if first[name] != second[name])
        return _difference(first[name], second[name], f"{path}[{name!r}]")
    if isinstance(first, list) and isinstance(second, list) and len(first) == len(second):
        index = next(index for index, (a, b) in enumerate(zip(first, second, strict=True)) if a != b)
        return _difference(first[index], second[index], f"{path}[{index}]")
    return f"{_short(first)} here and {_short(second)} there{path and f', at {path}'}"
