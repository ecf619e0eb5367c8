"""Compute targets as people write them: Azure ML's YAML, with what is ours.

name: cpu-cluster
type: amlcompute            # Azure's size, instances and tier mean nothing on this machine
kind: docker                # ours: process (default) or docker, and image, network, slots, cores, …
image: python:3.12-slim
"""

from dataclasses import dataclass
from pathlib import Path

from penstock.contracts.codec import converted
from penstock.contracts.computes import Compute
from penstock.ids import checked_name
from penstock.sdk.yaml_reading import file_read
from penstock.sdk.yaml_section import Section

_OURS = ("kind", "image", "network", "memory", "description")
_KNOWN = ("$schema", "name", "slots", "cores", "labels", *_OURS)
_UNUSED = (
    "type", "size", "tier", "location", "min_instances", "max_instances", "identity", "tags",
    "idle_time_before_scale_down", "network_settings", "ssh_settings", "properties",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Named:
    """A compute target and its name; `notes` are worth a line on the terminal each."""

    name: str
    compute: Compute
    notes: tuple[str, ...] = ()


def read_compute(file: str | Path) -> Named:
    """Return the compute target in a YAML file.

    Raises:
        NotFound: E_NOT_FOUND, no such file.
        Invalid: E_ID, E_TYPE, E_UNKNOWN_FIELD … at file:line:column.
    """
    document, _ = file_read(file)
    if document.repeated:
        raise document.repeated[0]
    top = Section(document, (), document.value)
    notes = tuple(top.unknown_notes(_KNOWN, _UNUSED))
    name = checked_name(top.text("name", required=True), top.where("name"))
    values: dict[str, object] = {key: text for key in _OURS if (text := top.text(key))}
    values |= {"slots": top.whole("slots"), "cores": top.number("cores")}
    values["labels"] = [str(label) for label in top.items("labels")]
    return Named(name, converted(values, Compute, top.where()), notes)
