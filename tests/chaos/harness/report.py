"""The tally of all episodes ever played here, and the report made of it."""

from collections import Counter
from pathlib import Path

import msgspec
from tests.chaos.harness.episode import Result

COUNTED = (
    "steps",
    "executions",
    "duplicates",
    "redelivered",
    "retried",
    "reused",
    "ticks",
    "orphans",
)


class Sums(msgspec.Struct, kw_only=True):
    """All episodes together, without those that the harness itself spoiled."""

    episodes: int
    spoiled: int
    minutes: float
    commits: list[str]
    stores: dict[str, int]
    kills: dict[str, int]
    points: dict[str, int]
    faults: dict[str, int]
    exits: dict[str, int]
    runs: dict[str, int]
    counts: dict[str, int]
    quiesced_s_max: float
    violations: list[dict[str, object]]

    @property
    def landed(self) -> int:
        """All kills that landed."""
        return sum(self.kills.values())


def add(tally: Path, result: Result) -> None:
    """Append an episode."""
    tally.parent.mkdir(parents=True, exist_ok=True)
    with tally.open("ab") as file:
        file.write(msgspec.json.encode(result) + b"\n")


def written(tally: Path, report: Path) -> None:
    """Write the sums as JSON and as Markdown."""
    results = [msgspec.json.decode(line, type=Result) for line in tally.read_bytes().splitlines()]
    sums = total(results)
    document = msgspec.json.format(msgspec.json.encode(sums), indent=2)
    report.with_suffix(".json").write_bytes(document + b"\n")
    report.with_suffix(".md").write_text(text_of(sums), encoding="utf-8")


def total(results: list[Result]) -> Sums:
    """Return the sums."""
    good = [result for result in results if not result.harness]

    def added(name: str) -> dict[str, int]:
        counts = Counter[str]()
        for result in good:
            counts.update(getattr(result, name))
        return dict(sorted(counts.items()))

    return Sums(
        episodes=len(good),
        spoiled=len(results) - len(good),
        minutes=round(sum(result.seconds for result in good) / 60, 1),
        commits=list(dict.fromkeys(result.commit for result in good)),
        stores=dict(Counter(result.store for result in good)),
        kills=added("kills"),
        points=added("points"),
        faults=added("faults"),
        exits=added("exits"),
        runs=added("runs"),
        counts={name: sum(getattr(result, name) for result in good) for name in COUNTED},
        quiesced_s_max=max((result.quiesced_s for result in good), default=0),
        violations=[
            {
                "seed": result.seed,
                "store": result.store,
                "commit": result.commit,
                "told": result.violations,
            }
            for result in good
            if result.violations
        ],
    )


def text_of(sums: Sums) -> str:
    """Return the sums as a page."""
    stores = ", ".join(f"{name} {count}" for name, count in sums.stores.items())
    lines = [
        (
            f"{sums.landed:,} kills landed in {sums.episodes} episodes of {sums.minutes:g} minutes "
            f"altogether ({stores}); commits {', '.join(sums.commits)}."
        ),
        "",
        sentence(sums),
        "",
    ]
    for title, table in (
        ("kills that landed", sums.kills),
        ("of these at a crash point", sums.points),
        ("other faults that were seen to harm", sums.faults),
        ("runs, by end", sums.runs),
        ("work", sums.counts),
        ("services that ended by themselves, with exit code", sums.exits),
    ):
        if table:
            lines += [f"| {title} | count |", "|---|---:|"]
            lines += [f"| {key} | {count:,} |" for key, count in table.items()]
            lines.append("")
    lines.append(
        f"Longest wait from the end of a storm to the end of every run: {sums.quiesced_s_max:g} s."
    )
    return "\n".join(lines) + "\n"


def sentence(sums: Sums) -> str:
    """Return what so many trials without a violation say, and no more than that."""
    if sums.violations:
        seeds = ", ".join(str(violation["seed"]) for violation in sums.violations)
        return f"**{len(sums.violations)} episodes broke a promise** (seeds {seeds})."
    if not sums.landed:
        return "Nothing landed, so nothing is known."
    percent = 300 / sums.landed
    return (
        f"Zero violations in {sums.landed:,} landed kills bounds the rate at 3/n (95 %): "
        f"below {percent:.2g} % per kill."
    )
