"""What steps ask for and executors offer: sizes, bounds, and what is missing, in words."""

import pytest

from penstock.contracts.resources import (
    Offer,
    Resources,
    check_resources,
    in_words,
    missing,
    size_of,
)
from penstock.errors import Invalid
from penstock.units import GIB, MIB


@pytest.mark.parametrize(
    ("text", "size"),
    [("", 0), ("2g", 2 * GIB), ("512M", 512 * MIB), ("1.5GiB", 3 * GIB // 2), ("4096", 4096)],
)
def test_a_size_is_what_docker_means_by_it(text: str, size: int) -> None:
    assert size_of(text, "memory") == size


@pytest.mark.parametrize("text", ["lots", "-1g", "0", "1e3g", "9999999t", "2 gx"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(Invalid, match="is no size") as refused:
        size_of(text, "steps.a.resources.memory")
    assert (refused.value.code, refused.value.where) == ("E_RANGE", "steps.a.resources.memory")


@pytest.mark.parametrize(
    ("asked", "place"),
    [
        (Resources(instance_count=0), "r.instance_count"),
        (Resources(cores=-1), "r.cores"),
        (Resources(cores=float("nan")), "r.cores"),
        (Resources(gpus=65), "r.gpus"),
        (Resources(memory="much"), "r.memory"),
        (Resources(shm_size="0"), "r.shm_size"),
        (Resources(labels=("with blank",)), "r.labels"),
        (Resources(labels=tuple(f"l{i}" for i in range(65))), "r.labels"),
    ],
)
def test_what_cannot_be_asked_for_is_refused_with_its_place(asked: Resources, place: str) -> None:
    with pytest.raises(Invalid) as refused:
        check_resources(asked, "r")
    assert refused.value.where == place


def test_what_an_executor_lacks_is_said_in_words() -> None:
    asked = Resources(cores=4, memory="8g", gpus=1, labels=("ssd", "zone=eu"))
    offer = Offer(cores=2, memory_bytes=4 * GIB, labels=("ssd",))
    assert missing(asked, offer) == [
        "4 cores (2 offered)",
        "8 GiB of memory (4 GiB offered)",
        "1 GPUs (0 offered)",
        "label zone=eu",
    ]
    assert missing(asked, Offer(cores=8, memory_bytes=16 * GIB, gpus=2, labels=asked.labels)) == []


def test_an_executor_that_does_not_say_what_it_has_takes_what_is_asked() -> None:
    assert missing(Resources(cores=4, memory="8g"), Offer()) == []
    assert missing(Resources(cores=1), Offer(cores=0), all_of=False) == ["1 cores (0 free)"]


def test_sizes_are_told_in_the_largest_unit_that_fits() -> None:
    assert [in_words(n) for n in (0, 1000, 1536, 3 * GIB // 2)] == [
        "0 B",
        "1000 B",
        "1.5 KiB",
        "1.5 GiB",
    ]
