"""The bus on a real nats-server keeps every promise of the port, also while the server is killed."""

import asyncio
import logging
import secrets
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Iterator
from pathlib import Path

import msgspec
import nats as library
import pytest
from tests.conftest import needs_binary
from tests.contract.bus_conformance import (
    DENIED_PUBLISH,
    DENIED_SUBSCRIBE,
    WAIT_S,
    Heard,
    plain,
    queue,
    reader,
)
from tests.contract.bus_consume_cases import ConsumeCases, PinnedCases
from tests.contract.bus_core_cases import CoreCases
from tests.contract.bus_fault_cases import FaultCases
from tests.contract.bus_stream_cases import StreamCases

from penstock.bus import Bus, ConsumerSpec, Delivery, Received, Stored, topology
from penstock.bus.buckets import Bucket, bucket_spec
from penstock.bus.nats import NatsBus, connect, connection, publisher
from penstock.contracts.subjects import Subjects
from penstock.errors import BusUnavailable, Invalid, NotAllowed, NotFound
from penstock.testing.servers import NATS_BINARY, NatsServer

pytestmark = pytest.mark.server

USERS = f"""
authorization {{ users: [
  {{ user: admin, password: "s3cret" }}
  {{ user: limited, password: "s3cret", permissions: {{
      publish: {{ deny: {msgspec.json.encode(DENIED_PUBLISH).decode()} }}
      subscribe: {{ deny: {msgspec.json.encode(DENIED_SUBSCRIBE).decode()} }} }} }}
] }}
"""


def as_user(server: NatsServer, user: str) -> str:
    """Return the server's URL with credentials."""
    return server.url.replace("//", f"//{user}:s3cret@")


class NatsRig:
    """A server with users, and the connections of one test."""

    def __init__(self, server: NatsServer, names: Subjects) -> None:
        self.server = server
        self.names = names
        self.buses: list[NatsBus] = []
        self.kills = 0

    async def connect(self, name: str = "test") -> NatsBus:
        bus = await connect(as_user(self.server, "admin"), name=name)
        self.buses.append(bus)
        return bus

    async def limited(self) -> NatsBus:
        bus = await connect(as_user(self.server, "limited"), name="limited")
        assert "s3cret" not in bus.address
        self.buses.append(bus)
        return bus

    async def kill(self) -> None:
        assert self.server.kill() == -signal.SIGKILL
        self.kills += 1

    async def start(self) -> None:
        await asyncio.to_thread(self.server.start)

    async def crash(self, bus: Bus) -> None:
        assert isinstance(bus, NatsBus)
        bus.connection.closing = True  # nobody says goodbye, nobody comes back
        client = bus.connection.client
        client.options["allow_reconnect"] = False
        transport = client._transport
        assert transport is not None
        transport._io_writer.transport.abort()  # type: ignore[attr-defined]

    def now(self) -> float:
        return time.time()

    async def wait(self, awaitable: Awaitable[object], within_s: float = WAIT_S) -> None:
        await asyncio.wait_for(awaitable, within_s)

    async def pass_time(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    """A server of this module's own, for it is killed."""
    needs_binary(NATS_BINARY)
    server = NatsServer(tmp_path_factory.mktemp("bus"), accounts=USERS)
    server.start()
    yield server
    server.stop()


@pytest.fixture
async def rig(server: NatsServer, names: Subjects) -> AsyncIterator[NatsRig]:
    logging.getLogger("penstock.bus").setLevel(logging.CRITICAL)
    rig = NatsRig(server, names)
    yield rig
    if server.process is None:
        server.start()
    for bus in rig.buses:
        await bus.close()
    cleaner = await connect(as_user(server, "admin"), name="cleaner")
    client = cleaner.connection.client.jetstream()
    for stream in await client.streams_info():
        await client.delete_stream(str(stream.config.name))
    await cleaner.close()


class TestCore(CoreCases):
    """Core NATS."""


class TestStreams(StreamCases):
    """JetStream."""


class TestConsuming(ConsumeCases):
    """Durable consumers."""


class TestPinned(PinnedCases):
    """Priority groups."""


class TestFaults(FaultCases):
    """SIGKILL to the server."""

    @pytest.fixture(autouse=True)
    async def _landed(self, rig: NatsRig) -> AsyncIterator[None]:
        """A test of kills without a kill proves nothing."""
        starts = rig.server.starts
        yield
        assert rig.kills > 0
        assert rig.server.starts == starts + rig.kills


class TestConnecting:
    """What happens before there is a bus."""

    async def test_nobody_there_is_said_at_once(self) -> None:
        began = time.monotonic()
        with pytest.raises(BusUnavailable) as caught:
            await connect("nats://127.0.0.1:1", name="x")
        assert caught.value.code == "E_BUS"
        assert time.monotonic() - began < 2

    async def test_a_wrong_password_is_no_reason_to_wait(self, server: NatsServer) -> None:
        with pytest.raises(NotAllowed) as caught:
            await connect(as_user(server, "admin").replace("s3cret", "wrong"), name="x")
        assert "admin" in caught.value.message
        assert "wrong" not in str(caught.value)

    @pytest.mark.parametrize("url", ["", "nats://", "nats://host:port", "nats://:4222"])
    async def test_a_url_that_is_none_is_refused(self, url: str) -> None:
        with pytest.raises(Invalid) as caught:
            await connect(url, name="x")
        assert caught.value.code == "E_CONFIG"

    async def test_any_of_several_servers_will_do(self, server: NatsServer) -> None:
        url = as_user(server, "admin")
        dead = "nats://admin:s3cret@127.0.0.1:1"
        for urls in (f"{dead}, {url}", f"{url},{dead}"):
            bus = await connect(urls, name="x")
            assert bus.address == server.url
            await bus.close()


class TestServerSide:
    """What others see of us on the server."""

    async def test_every_stream_of_a_workspace_is_made_as_specified(self, rig: NatsRig) -> None:
        bus = await rig.connect()
        names = rig.names
        wanted = (*topology.streams(names), *topology.buckets(names))
        await topology.ensure(bus, names, wanted)
        await topology.ensure(bus, names, wanted)
        found = {}
        for spec in (*topology.streams(names).values(), *topology.buckets(names).values()):
            answer = await bus.request(f"$JS.API.STREAM.INFO.{spec.name}", b"")
            config = found[spec.name] = msgspec.json.decode(answer.data)["config"]
            assert config["max_bytes"] == spec.max_bytes
            assert config["retention"] == spec.retention
            assert config["discard"] == spec.discard
            assert config.get("no_ack", False) == spec.no_ack
            assert config.get("allow_direct", False) == spec.allow_direct
            assert config.get("allow_msg_schedules", False) == spec.allow_schedules
            assert (config.get("persist_mode") == "async") == spec.persist_async
            assert (config["compression"] == "s2") == spec.compression
        assert found[names.stream("work")]["discard_new_per_subject"] is True
        for consumer in (
            topology.inbox_consumer(names, 3),
            topology.due_consumer(names, 3),
            topology.work_consumer(names, "local"),
            topology.requests_consumer(names),
        ):
            await bus.ensure_consumer(consumer)
            await bus.ensure_consumer(consumer)
        verb = f"$JS.API.CONSUMER.INFO.{names.stream('inbox')}.partition-3"
        config = msgspec.json.decode((await bus.request(verb, b"")).data)["config"]
        assert (config["priority_policy"], config["priority_groups"]) == ("pinned_client", ["s"])

    async def test_the_tools_of_nats_read_our_buckets(self, rig: NatsRig) -> None:
        bus = await rig.connect()
        name = rig.names.bucket("kv")
        await bus.ensure_stream(bucket_spec(name, max_bytes=1024 * 1024))
        bucket = Bucket(bus, name, dict[str, int])
        await bucket.put("a.b", {"n": 1})
        client = await library.connect(as_user(rig.server, "admin"))
        kv = await client.jetstream().key_value(name)
        assert (await kv.get("a.b")).value == b'{"n":1}'
        await kv.put("c", b'{"n":2}')
        await kv.purge("a.b")
        found = await bucket.get("c")
        assert found is not None
        assert found.value == {"n": 2}
        assert await bucket.get("a.b") is None
        await client.close()


class TestLimits:
    """Everything has one."""

    async def test_more_appends_than_may_wait_are_held_back_and_all_stored(
        self, rig: NatsRig, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(publisher, "WAITING_MAX", 16)
        bus = await rig.connect()
        await bus.ensure_stream(plain(rig.names, persist_async=True))
        root = f"{rig.names.workspace}.s"

        async def burst(name: str) -> list[int]:
            futures = [await bus.append_soon(f"{root}.{name}", b"") for _ in range(200)]
            assert len(bus.publisher.waiting) <= 20
            return [appended.sequence for appended in await asyncio.gather(*futures)]

        results = await asyncio.gather(*(burst(name) for name in "abc"))
        assert all(sequences == sorted(sequences) for sequences in results)
        assert sorted(n for sequences in results for n in sequences) == list(range(1, 601))

    async def test_whoever_is_held_back_learns_of_the_end(
        self, rig: NatsRig, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(publisher, "WAITING_MAX", 4)
        bus = await rig.connect()
        await bus.ensure_stream(plain(rig.names))
        await rig.kill()

        async def one(number: int) -> None:
            await (await bus.append_soon(f"{rig.names.workspace}.s.a", b"", message_id=f"{number}"))

        tasks = [asyncio.ensure_future(one(number)) for number in range(20)]
        await asyncio.sleep(0.1)
        await bus.close()
        results = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 10)
        assert all(isinstance(result, BusUnavailable) for result in results)

    async def test_a_full_backlog_refuses(
        self, rig: NatsRig, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        bus = await rig.connect()
        await rig.kill()
        await asyncio.wait_for(_until_lost(bus), 10)
        monkeypatch.setattr(connection, "BACKLOG_MAX", 3)
        for _ in range(3):
            await bus.publish("x", b"")
        with pytest.raises(BusUnavailable):
            await bus.publish("x", b"")


async def _until_lost(bus: NatsBus) -> None:
    """Return when a request says that there is no connection."""
    while True:
        try:
            await bus.request("nobody", b"")
        except BusUnavailable:
            return
        except NotFound:
            await asyncio.sleep(0)


class TestChaos:
    """Several things at once while the server dies again and again."""

    async def test_nothing_acknowledged_is_lost_over_ten_kills(self, rig: NatsRig) -> None:
        writer, worker, watcher = [await rig.connect(name) for name in "abc"]
        names = rig.names
        root = f"{names.workspace}.s"
        await writer.ensure_stream(queue(names, duplicate_window_s=120))
        log = plain(names, name=names.stream("log"), subjects=(f"{names.workspace}.log",))
        await writer.ensure_stream(log)
        taken: Heard[int] = Heard()
        seen: Heard[int] = Heard()
        repeated = 0

        async def take(delivery: Delivery) -> None:
            nonlocal repeated
            repeated += delivery.deliveries > 1
            number = int(delivery.message.data)
            await worker.append(
                log.subjects[0], b"%d" % number, message_id=f"{number}", timeout_s=30
            )
            await delivery.ack()
            taken.add(number)

        async def watch(stored: Stored) -> None:
            seen.add(int(stored.data))

        await watcher.follow(log.name, log.subjects, watch)
        await worker.consume(reader(names, ack_wait_s=1), take, batch=32)
        number = 0
        acknowledged = []
        for _ in range(10):
            futures = []
            for _ in range(60):
                futures.append(
                    await writer.append_soon(f"{root}.a", b"%d" % number, message_id=f"w{number}")
                )
                number += 1
            await rig.wait(taken.count(max(1, number // 2)), 30)
            await rig.kill()
            await rig.start()
            acknowledged += await asyncio.wait_for(asyncio.gather(*futures), 30)
        await rig.wait(seen.count(600), 60)
        await rig.pass_time(1.5)
        assert [a.sequence for a in acknowledged] == list(range(1, 601))
        assert len(seen.items) == 600, "the log holds each number once"
        assert sorted(seen.items) == list(range(600))
        assert rig.kills == 10
        assert all(bus.connection.reconnects == 10 for bus in rig.buses)
        assert await writer.purge(names.stream("s"), ">") == 0

    async def test_a_silent_server_is_noticed(self, rig: NatsRig) -> None:
        bus = await rig.connect()
        await bus.ensure_stream(plain(rig.names))
        asked: Heard[bytes] = Heard()

        async def ignore(message: Received) -> None:
            asked.add(message.data)

        await bus.subscribe(f"{rig.names.workspace}.silent", ignore)
        asking = asyncio.ensure_future(
            bus.request(f"{rig.names.workspace}.silent", b"", timeout_s=60)
        )
        await rig.wait(asked.count(1))
        rig.server.pause()
        try:
            appending = asyncio.ensure_future(
                bus.append(f"{rig.names.workspace}.s.a", b"", message_id="i", timeout_s=30)
            )
            with pytest.raises(BusUnavailable) as caught:
                await asyncio.wait_for(asking, 15)
            assert caught.value.code == "E_BUS"
        finally:
            rig.server.resume()
        await rig.wait(asyncio.wait({appending}), 15)
        assert appending.result().sequence == 1

    async def test_a_frozen_member_is_replaced_and_its_late_commit_refused(
        self, rig: NatsRig
    ) -> None:
        """SIGSTOP, the zombie of the books: it wakes up and still believes."""
        bus = await rig.connect()
        names = rig.names
        await bus.ensure_stream(queue(names))
        truth = plain(names, name=names.stream("r"), subjects=(f"{names.workspace}.r.>",))
        await bus.ensure_stream(truth)
        script = Path(__file__).with_name("pinned_member.py")
        url = as_user(rig.server, "admin")

        async def member() -> asyncio.subprocess.Process:
            return await asyncio.create_subprocess_exec(
                sys.executable, str(script), url, names.workspace, stdout=asyncio.subprocess.PIPE
            )

        async def says(process: asyncio.subprocess.Process) -> str:
            assert process.stdout is not None
            return (await asyncio.wait_for(process.stdout.readline(), 15)).decode().strip()

        one = await member()
        try:
            assert await says(one) == "ready"
            await bus.append(f"{names.workspace}.s.x", b"0")
            assert await says(one) == "elected"
            assert await says(one) == "committed 0"
            two = await member()
            try:
                assert await says(two) == "ready"
                one.send_signal(signal.SIGSTOP)
                began = time.monotonic()
                await bus.append(f"{names.workspace}.s.x", b"1")
                assert await says(two) == "elected"
                assert time.monotonic() - began < 10
                assert await says(two) == "committed 1"
                one.send_signal(signal.SIGCONT)
                line = await says(one)
                while line != "refused E_CONFLICT":  # its own clock makes it try again
                    assert line.startswith("committed") is False, line
                    line = await says(one)
            finally:
                two.kill()
                await two.wait()
        finally:
            one.kill()
            await one.wait()
        found: list[bytes] = []
        await bus.replay(truth.name, [f"{names.workspace}.r.log"], lambda s: found.append(s.data))
        assert found == [b"0", b"1"]

    async def test_a_member_killed_outright_is_replaced_within_seconds(self, rig: NatsRig) -> None:
        bus = await rig.connect()
        names = rig.names
        await bus.ensure_stream(queue(names))
        truth = plain(names, name=names.stream("r"), subjects=(f"{names.workspace}.r.>",))
        await bus.ensure_stream(truth)
        script = Path(__file__).with_name("pinned_member.py")
        url = as_user(rig.server, "admin")
        one = await asyncio.create_subprocess_exec(
            sys.executable, str(script), url, names.workspace, stdout=asyncio.subprocess.PIPE
        )
        assert one.stdout is not None
        assert await asyncio.wait_for(one.stdout.readline(), 15) == b"ready\n"
        await bus.append(f"{names.workspace}.s.x", b"0")
        assert await asyncio.wait_for(one.stdout.readline(), 5) == b"elected\n"
        log: Heard[str] = Heard()

        async def elected() -> None:
            log.add("elected")

        async def take(delivery: Delivery) -> None:
            log.add(delivery.message.data.decode())
            await delivery.ack()

        spec = ConsumerSpec(
            names.stream("s"), "c", (f"{names.workspace}.s.>",), pinned=True, ack_wait_s=2
        )
        await bus.consume(spec, take, on_elected=elected)
        one.kill()
        assert await one.wait() == -signal.SIGKILL
        began = time.monotonic()
        await bus.append(f"{names.workspace}.s.x", b"1")
        await rig.wait(log.until(lambda items: "1" in items), 10)
        assert time.monotonic() - began < 4
        assert log.items[0] == "elected"

    async def test_a_server_on_the_wrong_port_is_never_taken_for_ours(self, tmp_path: Path) -> None:
        needs_binary(NATS_BINARY)
        one = NatsServer(tmp_path / "one")
        one.start()
        two = NatsServer(tmp_path / secrets.token_hex(4))
        two.port = one.port
        try:
            with pytest.raises(RuntimeError):
                two.start()
        finally:
            one.stop()
