"""Steps of several processes: as Azure ML starts them on its machines, but all on one.

The step's command becomes a small bash program that starts it once for every rank, side by side, with
the variables by which the processes find each other. It ends well when all of them do. When one fails, the
others are ended: they would wait for it.
"""

import json
from collections.abc import Mapping, Sequence

from penstock.errors import Invalid

PROCESSES_MAX = 64
_END = "PENSTOCK_END_OF_COMMAND"
_HEAD = f"""\
IFS= read -r -d '' penstock_command <<'{_END}' || true
%s
{_END}
export MASTER_ADDR=127.0.0.1 MASTER_PORT=$((20000 + RANDOM %% 30000))
penstock_pids=()
penstock_start() {{ "$@" bash -c "$penstock_command" & penstock_pids+=($!); }}
"""
# `wait -n` would do without looking every 0.1 s, but it overlooks a process that has ended already.
_TAIL = """\
penstock_code=0
exec {penstock_never}<> <(:)
while [ ${#penstock_pids[@]} != 0 ] && [ $penstock_code = 0 ]; do
  for penstock_rank in "${!penstock_pids[@]}"; do
    kill -0 "${penstock_pids[penstock_rank]}" 2> /dev/null && continue
    wait "${penstock_pids[penstock_rank]}" || penstock_code=$?
    unset "penstock_pids[penstock_rank]"
  done
  read -r -t 0.1 -u $penstock_never
done
[ ${#penstock_pids[@]} = 0 ] || kill "${penstock_pids[@]}" 2> /dev/null
wait
exit $penstock_code
"""


def side_by_side(command: str, processes: Sequence[Mapping[str, str]], where: str) -> str:
    """Return the command that runs `command` once for each of some processes, with its variables.

    Raises:
        Invalid: E_RANGE, more processes than one machine should have.
    """
    if len(processes) > PROCESSES_MAX:
        raise Invalid(
            f"{len(processes)} processes on one machine; allowed: {PROCESSES_MAX}",
            code="E_RANGE",
            where=where,
        )
    starts = [
        "penstock_start env " + " ".join(f"{name}={_quoted(value)}" for name, value in one.items())
        for one in processes
    ]
    return _HEAD % command.rstrip("\n") + "\n".join(starts) + "\n" + _TAIL


def ranked(kind: str, count: int, each: int, instances: int) -> list[dict[str, str]]:
    """Return the variables of `count` processes of pytorch or mpi, `each` of them on an instance."""
    return [_rank(kind, rank, count, each, instances) for rank in range(count)]


def tensorflow(workers: int, servers: int) -> list[dict[str, str]]:
    """Return the variables of TensorFlow's workers and parameter servers."""
    hosts = {
        kind: [f"127.0.0.1:$((MASTER_PORT + {first + number}))" for number in range(count)]
        for kind, count, first in (("worker", workers, 0), ("ps", servers, workers))
        if count
    }
    return [
        {
            "TF_CONFIG": json.dumps(
                {"cluster": hosts, "task": {"type": kind, "index": number}, "environment": "cloud"}
            ),
            "AZUREML_PROCESS_NAME": f"{kind}_{number}",
        }
        for kind, names in hosts.items()
        for number in range(len(names))
    ]


def _rank(kind: str, rank: int, count: int, each: int, instances: int) -> dict[str, str]:
    local, node = rank % each, rank // each
    found = {
        "RANK": str(rank),
        "LOCAL_RANK": str(local),
        "NODE_RANK": str(node),
        "WORLD_SIZE": str(count),
        "LOCAL_WORLD_SIZE": str(each),
        "NODE_COUNT": str(instances),
        "AZUREML_PROCESS_NAME": f"rank_{rank}",
    }
    if kind == "mpi":
        found |= {
            "OMPI_COMM_WORLD_RANK": str(rank),
            "OMPI_COMM_WORLD_SIZE": str(count),
            "OMPI_COMM_WORLD_LOCAL_RANK": str(local),
            "OMPI_COMM_WORLD_LOCAL_SIZE": str(each),
        }
    return found


def _quoted(value: str) -> str:
    """Return a word of bash in which only arithmetic is still worked out."""
    escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("`", "\\`")
    return f'"{escaped}"'
