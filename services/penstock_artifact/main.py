"""Read settings, open adapters, serve; nothing else."""

import asyncio
import contextlib
import os
from collections.abc import Mapping
from pathlib import Path

from penstock.blob.open import SHAPES, open_store
from penstock.bus.topology import ensure
from penstock.errors import Invalid, PenstockError, Transient
from penstock.runtime.service import Context, run
from penstock.runtime.settings import FILE_NAME, load, refuse_unknown_variables
from penstock_artifact.audit import Audit
from penstock_artifact.settings import Settings
from penstock_artifact.shell import Shell
from penstock_artifact.store import Store

SERVICE = "artifact"
PROBE_KEY = "tree/probe"
UPLOAD_S_MAX = 86_400.0
"""Parts that lie in the store for longer belong to nobody any more."""


def main(flags: Mapping[str, str]) -> int:
    """Serve until told to stop; return the exit code."""
    refuse_unknown_variables(os.environ, {SERVICE: Settings})
    file = Path(os.environ.get("PENSTOCK_CONFIG") or FILE_NAME)
    settings, _ = load(SERVICE, Settings, flags, os.environ, file)
    if not settings.store:
        raise Invalid(
            "no object store is named", code="E_CONFIG", where="store", hint=f"--store {SHAPES}"
        )
    return run(SERVICE, settings, serve)


async def serve(context: Context[Settings]) -> None:
    """Answer requests until the process is told to stop."""
    settings = context.settings
    blobs = open_store(settings.store)
    store = Store(
        blobs,
        context.log,
        context.clock,
        grant_s=settings.grant_s,
        patience_s=settings.store_patience_s,
    )
    shell = Shell(
        bus=context.bus,
        names=context.names,
        store=store,
        log=context.log,
        clock=context.clock,
        verify_max=settings.verify_max,
        crash=context.crash,
    )
    audit = Audit(
        context.bus,
        context.names,
        context.log,
        context.clock,
        instance=context.instance,
        recent_s=settings.audit_s,
        trees_max=settings.audit_trees_max,
        doubt=shell.doubts.add,
    )
    try:
        try:
            await blobs.size(PROBE_KEY)
        except Transient as error:  # it may come later; whoever asks meanwhile is told E_STORE
            context.log.warning("the store does not answer", code=error.code, message=error.message)
        with contextlib.suppress(PenstockError):  # they take room, nothing else
            count = await blobs.abandon_uploads(UPLOAD_S_MAX)
            if count:
                context.log.info("forgot uploads that nobody finished", count=count)
        await ensure(context.bus, context.names, ("artifacts", "events"))
        await audit.begin()
        service = await context.bus.serve(
            "penstock-artifact", shell.endpoints(), metadata={"store": blobs.address}
        )
        context.ready()
        keeping = asyncio.ensure_future(audit.keep(shell.doubts.settle_all))
        await context.stopping.wait()
        keeping.cancel()
        await service.close()
        await shell.close()
        if not shell.doubts:
            await audit.end()
    finally:
        with contextlib.suppress(PenstockError):
            await blobs.close()
