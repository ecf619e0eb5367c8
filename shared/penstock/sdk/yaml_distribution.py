"""`distribution` of a step in YAML: how many processes it has."""

from penstock.sdk.distribution import ranked, side_by_side, tensorflow
from penstock.sdk.yaml_reading import Reading
from penstock.sdk.yaml_section import Section


def distributed(command: str, section: Section, instances: int, reading: Reading) -> str:
    """Return the command that runs `command` as the distribution of a section says, on `instances` machines.

    Raises:
        Invalid: E_UNSUPPORTED (ray), E_RANGE (more processes than one machine should have).
    """
    entry = section.section("distribution")
    if not entry.value:
        return command
    reading.meet(entry, "distribution")
    kind = entry.text("type", required=True).lower()
    each = max(1, entry.whole("process_count_per_instance"))
    match kind:
        case "pytorch" | "mpi":
            count = entry.whole("process_count") or each * instances
            processes = ranked(kind, count, each, instances)
        case "tensorflow":
            workers = entry.whole("worker_count") or instances
            processes = tensorflow(workers, entry.whole("parameter_server_count"))
        case "ray":
            raise entry.refusal(
                "type", "E_UNSUPPORTED", "a ray cluster is not started for a step",
                "start ray inside the command",
            )  # fmt: skip
        case _:
            raise entry.unknown_choice("type", ("pytorch", "mpi", "tensorflow"))
    return side_by_side(command, processes, entry.where())
