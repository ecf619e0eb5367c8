"""Checking what the event stream keeps of a run: nothing left out, nothing changed."""

import msgspec

from penstock.bus import Stored
from penstock.contracts.chain import HEADER, Check, Told, checked
from penstock.errors import NotFound
from penstock.sdk.async_client import AsyncClient


async def check_of(client: AsyncClient, run: str) -> Check:
    """Return whether a run's stored events have every number and fit their chain of hashes.

    Raises:
        NotFound: the stream keeps no event of such a run.
    """
    talk = await client.open()
    subjects = [talk.names.run_events(run)]
    told = [_told(stored) async for stored in talk.followed("events", subjects, live=False)]
    if not told:
        raise NotFound(f"no event of run {run} is stored", where="run", hint="penstock run list")
    return checked(told)


class _Numbered(msgspec.Struct):
    seq: int = 0


def _told(stored: Stored) -> Told:
    try:
        seq = msgspec.json.decode(stored.data, type=_Numbered).seq
    except msgspec.DecodeError:  # somebody else wrote here, and that is what the check is about
        seq = 0
    return Told(stored.sequence, seq, stored.headers.get(HEADER, ""), stored.data)
