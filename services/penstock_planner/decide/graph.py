"""The graph of a pipeline: its order, its cycles, what lies behind a step. Linear, never recursive."""

from collections.abc import Iterable, Mapping, Sequence

SHOWN_MAX = 12
"""Steps of a cycle written out; a longer cycle is cut in the middle."""

Needs = Mapping[str, Sequence[str]]
"""Step → the steps it needs. Every step needed is a key too."""


def depths_of(needs: Needs) -> dict[str, int]:
    """Return for each step how many steps at most come one after another before it.

    Steps on a cycle, and steps behind one, are left out.
    """
    waiting = {name: len(needed) for name, needed in needs.items()}
    behind = behind_each(needs)
    depths: dict[str, int] = {name: 0 for name, count in waiting.items() if count == 0}
    ready = list(depths)
    for name in ready:  # grows while it is walked
        for later in behind[name]:
            waiting[later] -= 1
            if waiting[later] == 0:
                depths[later] = 1 + max(depths[need] for need in needs[later])
                ready.append(later)
    return depths


def order_of(needs: Needs) -> list[str]:
    """Return the steps so that needs come first: by depth, then by name. The graph has no cycle."""
    depths = depths_of(needs)
    return sorted(depths, key=lambda name: (depths[name], name))


def cycle_of(needs: Needs) -> list[str]:
    """Return one cycle in the direction work flows, first step again at the end; empty if there is none.

    The cycle begins with its smallest name, so equal graphs give equal cycles.
    """
    depths = depths_of(needs)
    left = {name for name in needs if name not in depths}
    if not left:
        return []
    path: list[str] = []
    seen: dict[str, int] = {}
    name = min(left)
    while name not in seen:
        seen[name] = len(path)
        path.append(name)
        name = min(need for need in needs[name] if need in left)
    cycle = path[seen[name] :][
        ::-1
    ]  # walked from a step to what it needs; work flows the other way
    first = cycle.index(min(cycle))
    cycle = cycle[first:] + cycle[:first]
    return [*cycle, cycle[0]]


def cycle_text(cycle: Sequence[str]) -> str:
    """Return a cycle as "a -> b -> a"."""
    if len(cycle) <= SHOWN_MAX:
        return " -> ".join(cycle)
    half = SHOWN_MAX // 2
    left_out = len(cycle) - 2 * half
    return " -> ".join([*cycle[:half], f"({left_out:,} more)", *cycle[-half:]])


def behind_each(needs: Needs) -> dict[str, list[str]]:
    """Return for each step the steps that need it directly."""
    behind: dict[str, list[str]] = {name: [] for name in needs}
    for name, needed in needs.items():
        for need in needed:
            behind[need].append(name)
    return behind


def closure(starts: Iterable[str], behind: Mapping[str, Sequence[str]]) -> set[str]:
    """Return `starts` and everything behind them."""
    found = set(starts)
    queue = list(found)
    for name in queue:  # grows while it is walked
        for later in behind[name]:
            if later not in found:
                found.add(later)
                queue.append(later)
    return found
