"""Which operator of a run made a tensor, and which ones read it."""

from __future__ import annotations

from typing import final

from automl_nas.channels.trace import Step, Trace, TracedTensor


@final
class Flow:
    """The tensors of a run as a graph.

    Args:
        trace: of the run.
    """

    def __init__(self, trace: Trace) -> None:
        self._makers: dict[TracedTensor, Step] = {}
        self._readers: dict[TracedTensor, list[Step]] = {}
        self._aliased: dict[TracedTensor, TracedTensor] = {}
        self._steps = {step: number for number, step in enumerate(trace.steps)}
        for step in trace.steps:
            for operand in dict.fromkeys(step.operands):
                self._readers.setdefault(operand, []).append(step)
            for result in step.results:
                self._makers[result] = step
        for step, before, after in trace.aliases:
            self._makers[after] = step
            self._aliased[after] = before

    def maker(self, tensor: TracedTensor) -> Step | None:
        """Return the operator that made a tensor, or changed its memory last; None: it is an input or a parameter."""
        return self._makers.get(tensor)

    def readers(self, tensor: TracedTensor) -> tuple[Step, ...]:
        """Return the operators that read a tensor."""
        return tuple(self._readers.get(tensor, ()))

    def before(self, tensor: TracedTensor) -> TracedTensor | None:
        """Return what a tensor was before another one of the same memory was changed; None: that did not happen."""
        return self._aliased.get(tensor)

    def ancestors(self, tensor: TracedTensor) -> frozenset[Step]:
        """Return the operators from whose results a tensor was computed."""
        steps: set[Step] = set()
        waiting = [tensor]
        while waiting:
            each = waiting.pop()
            if (before := self._aliased.get(each)) is not None:
                waiting.append(before)
            maker = self._makers.get(each)
            if maker is not None and maker not in steps:
                steps.add(maker)
                waiting.extend(maker.operands)
        return frozenset(steps)
