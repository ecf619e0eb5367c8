"""The Docker engine, asked over its Unix socket: as much of its HTTP interface as an executor needs.

Written here rather than taken from the SDK: that one blocks, wants a thread and a client per step,
takes 60 ms to import, and cuts long waits (research/bus.md, 7). Paths carry no version, so the engine
speaks its own. Every error becomes ours: `Transient` E_ENGINE when it is away or troubled, `Invalid` E_ENGINE
when it refuses, `NotFound` E_ENGINE when it knows no such thing.
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Mapping
from typing import Any
from urllib.parse import quote, urlencode

from penstock.errors import Invalid, NotFound, PenstockError, Transient

SOCKET = "/var/run/docker.sock"
CODE = "E_ENGINE"
ANSWER_S = 60.0
LINE_BYTES_MAX = 1024 * 1024
TROUBLE, REFUSED, UNKNOWN = 500, 400, 404


class Engine:
    """One engine. Each call has a connection of its own; connecting takes a fraction of a millisecond."""

    def __init__(self, socket: str = SOCKET) -> None:
        self.socket = socket.removeprefix("unix://")
        if "://" in self.socket:
            raise Invalid(
                f"{socket[:80]!r}; allowed: the path of a Unix socket",
                code="E_CONFIG",
                where="engine",
                hint="steps' folders are mounted into containers, so the engine must be on this machine",
            )

    # -- what is asked ---------------------------------------------------------------------------
    async def create(self, name: str, spec: Mapping[str, Any]) -> str:
        """Create a container and return its id."""
        return str((await self.json("POST", "/containers/create", {"name": name}, spec))["Id"])

    async def begun(self, name: str, spec: Mapping[str, Any]) -> str:
        """Create and start a container and return its id. Whoever does not get the id leaves no container."""
        # The engine makes it whether or not anybody waits for the answer: without it none would remove it.
        creating = asyncio.ensure_future(self.create(name, spec))
        try:
            container = await asyncio.shield(creating)
        except asyncio.CancelledError:
            with contextlib.suppress(PenstockError):
                await asyncio.shield(self._unmade(creating))
            raise
        try:
            await self.start(container)
        except BaseException:
            await asyncio.shield(self.remove(container))
            raise
        return container

    async def _unmade(self, creating: "asyncio.Future[str]") -> None:
        await self.remove(await creating)

    async def start(self, container: str) -> None:
        """Start a container."""
        await self.call("POST", f"/containers/{container}/start")

    async def inspect(self, container: str) -> dict[str, Any]:
        """Return everything about a container."""
        return dict(await self.json("GET", f"/containers/{container}/json"))

    async def wait(self, container: str) -> int:
        """Return a container's exit code when it has ended, however long that takes."""
        answer = await self.json("POST", f"/containers/{container}/wait", wait_s=None)
        return int(answer["StatusCode"])

    async def kill(self, container: str, signal: str = "KILL") -> None:
        """Send a signal to a container; one that has ended is left alone."""
        with contextlib.suppress(NotFound, Invalid):
            await self.call("POST", f"/containers/{container}/kill", {"signal": signal})

    async def remove(self, container: str) -> None:
        """Kill and remove a container with its anonymous volumes, if it is there."""
        with contextlib.suppress(NotFound, Invalid):  # being removed already is "refused"
            await self.call("DELETE", f"/containers/{container}", {"force": "1", "v": "1"})

    async def containers(self, *labels: str) -> list[dict[str, Any]]:
        """Return all containers, running or not, that have these labels (`name=value`)."""
        filters = json.dumps({"label": list(labels)})
        return list(await self.json("GET", "/containers/json", {"all": "1", "filters": filters}))

    async def written(self, container: str) -> bytes:
        """Return the end of what a container wrote, both streams, without the frames' headers."""
        query = {"stdout": "1", "stderr": "1", "tail": "50"}
        data, found = await self.call("GET", f"/containers/{container}/logs", query), b""
        while len(data) >= 8:  # noqa: PLR2004 - the length of a frame's header
            size = int.from_bytes(data[4:8])
            found, data = found + data[8 : 8 + size], data[8 + size :]
        return found

    async def image(self, name: str) -> dict[str, Any]:
        """Return everything about an image that is here."""
        return dict(await self.json("GET", f"/images/{quote(name, safe='/:@')}/json"))

    async def commit(self, container: str, tag: str, changes: list[str]) -> str:
        """Make an image of a container and return its id."""
        repository, _, version = tag.rpartition(":")
        query: list[tuple[str, str]] = [
            ("container", container),
            ("repo", repository),
            ("tag", version),
            *(("changes", change) for change in changes),
        ]
        return str((await self.json("POST", "/commit", query, {}))["Id"])

    def pulled(self, image: str) -> AsyncIterator[dict[str, Any]]:
        """Pull an image, and iterate over what the engine says meanwhile."""
        name, tag = image, ""
        if "@" not in image and ":" in image.rpartition("/")[2]:
            name, _, tag = image.rpartition(":")
        query = {"fromImage": name, **({} if "@" in image else {"tag": tag or "latest"})}
        return self._lines("POST", "/images/create", query, b"")

    def built(
        self, context: bytes, tag: str, dockerfile: str, labels: Mapping[str, str]
    ) -> AsyncIterator[dict[str, Any]]:
        """Build an image from a tar of its context, and iterate over what the engine says meanwhile."""
        query = {
            "t": tag,
            "dockerfile": dockerfile,
            "labels": json.dumps(labels),
            "rm": "1",
            "forcerm": "1",
        }
        return self._lines("POST", "/build", query, context, "application/x-tar")

    # -- HTTP ------------------------------------------------------------------------------------
    async def json(
        self,
        method: str,
        path: str,
        query: Any = None,
        body: Any = None,
        wait_s: float | None = ANSWER_S,
    ) -> Any:
        """Ask, and return what the answer says."""
        data = await self.call(method, path, query, body, wait_s)
        try:
            return json.loads(data)
        except ValueError as error:
            raise Transient(f"no JSON: {data[:80]!r}", code=CODE, where=path) from error

    async def call(
        self,
        method: str,
        path: str,
        query: Any = None,
        body: Any = None,
        wait_s: float | None = ANSWER_S,
    ) -> bytes:
        """Ask, and return the answer's bytes.

        Raises:
            NotFound, Invalid, Transient: E_ENGINE, with the engine's own words.
        """
        sent = b"" if body is None else json.dumps(body).encode()
        try:
            async with asyncio.timeout(wait_s):
                async with self._asked(method, path, query, sent) as (status, chunks):
                    data = b"".join([chunk async for chunk in chunks])
        except TimeoutError as error:
            raise Transient(f"no answer within {wait_s} s", code=CODE, where=path) from error
        if status >= REFUSED:
            raise refusal(status, data, path)
        return data

    async def _lines(
        self, method: str, path: str, query: Any, body: bytes, kind: str = "application/json"
    ) -> AsyncIterator[dict[str, Any]]:
        async with self._asked(method, path, query, body, kind) as (status, chunks):
            rest = b""
            async for chunk in chunks:
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines if status < REFUSED else ():
                    if line.strip():
                        yield json.loads(line)
                if status >= REFUSED:
                    rest = b"".join([chunk, rest])
            if status >= REFUSED:
                raise refusal(status, rest, path)

    @contextlib.asynccontextmanager
    async def _asked(
        self, method: str, path: str, query: Any, body: bytes, kind: str = "application/json"
    ) -> AsyncIterator[tuple[int, AsyncIterator[bytes]]]:
        target = f"{path}?{urlencode(query)}" if query else path
        head = (
            f"{method} {target} HTTP/1.1\r\nHost: docker\r\nConnection: close\r\n"
            f"Content-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
        ).encode()
        writer: asyncio.StreamWriter | None = None
        try:
            reader, writer = await asyncio.open_unix_connection(self.socket, limit=LINE_BYTES_MAX)
            writer.write(head + body)
            await writer.drain()
            status = int((await reader.readline()).split()[1])
            headers = {}
            while line := (await reader.readline()).strip():
                name, _, value = line.decode("latin-1").partition(":")
                headers[name.lower()] = value.strip().lower()
            yield status, _chunks(reader, headers)
        except (OSError, EOFError, ValueError, IndexError) as error:
            text = str(error) or type(error).__name__
            raise Transient(
                f"the Docker engine does not answer: {text}",
                code=CODE,
                where=self.socket,
                hint="is it running, and may this user use its socket? `docker info` says so",
            ) from error
        finally:
            if writer is not None:
                writer.close()


async def _chunks(reader: asyncio.StreamReader, headers: Mapping[str, str]) -> AsyncIterator[bytes]:
    if headers.get("transfer-encoding") != "chunked":
        while data := await reader.read(LINE_BYTES_MAX):
            yield data
        return
    while size := int((await reader.readline()).split(b";")[0], 16):
        yield await reader.readexactly(size)
        await reader.readline()


def refusal(status: int, data: bytes, path: str) -> PenstockError:
    """Return the error that an answer of the engine is."""
    try:
        text = str(json.loads(data)["message"])
    except (ValueError, KeyError, TypeError):
        text = data.decode(errors="replace")
    kind: type[PenstockError] = Invalid
    if status >= TROUBLE:
        kind = Transient
    elif status == UNKNOWN:
        kind = NotFound
    return kind(text.strip()[:2000] or f"status {status}", code=CODE, where=path)
