"""Finding a service by its entry point and running it: `python -m penstock.runtime.launch planner`.

`shared` never imports a service; whoever is installed under the group `penstock.services` can be
run. Extras carry the services' names, so a missing one is easy to explain.
"""

import sys
from collections.abc import Mapping
from importlib.metadata import EntryPoint, entry_points

from penstock.errors import Invalid, NotFound, PenstockError
from penstock.ids import did_you_mean

GROUP = "penstock.services"
OURS = "penstock"


def services() -> dict[str, EntryPoint]:
    """Return the installed services by name; third parties may add their own."""
    return {point.name: point for point in entry_points(group=GROUP)}


def serve(service: str, flags: Mapping[str, str]) -> int:
    """Run a service until it is told to stop; return its exit code.

    `service` is a name, or `name=module:function` for a caller that has looked it up already: reading
    the metadata of everything installed takes 40 ms.

    Raises:
        NotFound: E_NO_SERVICE, none of that name is installed.
        Invalid: E_EXTRA, its extra packages are missing.
    """
    name, given, value = service.partition("=")
    point = EntryPoint(name, value, GROUP) if given else _installed(name)
    try:
        main = point.load()
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if missing.startswith(OURS):
            raise  # our own module is missing: a broken install, not an absent extra
        raise Invalid(
            f"the package {missing!r} is not installed",
            code="E_EXTRA",
            where=f"serve {name}",
            hint=f"pip install 'penstock[{name}]'",
        ) from error
    code: int = main(flags)
    return code


def _installed(name: str) -> EntryPoint:
    known = services()
    if name not in known:
        raise NotFound(
            f"no service {name!r}; installed: {', '.join(sorted(known))}",
            code="E_NO_SERVICE",
            hint=did_you_mean(name, known),
        )
    return known[name]


if __name__ == "__main__":
    # structlog loads rich for the tracebacks of terminals, which takes 80 ms of every service's start;
    # a supervised service writes to a pipe.
    sys.modules["rich"] = None  # type: ignore[assignment]
    try:
        sys.exit(serve(sys.argv[1], {}))
    except PenstockError as failure:
        sys.exit(str(failure))
