"""Print which broken components are rejected: ``PYTHONPATH=tests python -m broken_plugins [KIND ...]``."""

from __future__ import annotations

import sys
from collections import Counter

from broken_plugins.cases import all_cases


def main(kinds: list[str]) -> int:
    """Print a line for each component, and the numbers; return the number of components that pass."""
    rejected, total = Counter[str](), Counter[str]()
    for case in all_cases():
        if not case.clause or (kinds and case.kind not in kinds):
            continue
        message = case.rejection()
        total[case.kind] += 1
        rejected[case.kind] += bool(message)
        found = message.partition("found: ")[2].partition("\n")[0][:90]
        print(f"{case.kind:11} {case.name:28} {'rejected' if message else 'PASSES':9} {case.clause}: {found}")
    for kind, count in total.items():
        print(f"{kind:11} {rejected[kind]} of {count}")
    print(f"{rejected.total()} of {total.total()}")
    return total.total() - rejected.total()


if __name__ == "__main__":
    sys.exit(1 if main(sys.argv[1:]) else 0)
