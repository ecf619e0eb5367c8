"""All services in one seeded world: their real decisions, and everything else modelled.

Real: every pure function (`decide`, `state`, `effects`, `transitions` of each service, the codecs).
Modelled: what stands around them, one file per actor, in the order in which the shells do it:

    clockwork    processes, tasks, pauses, crashes, words to the server that get lost
    server       nats-server: streams, compare-and-set, leases, duplicate windows, timers, buckets
    store        the object store: write-once, away at times, losing bytes at times
    faults       what goes wrong and how often; each seed draws its own mix
    wishes       what users want: graphs, behaviour of steps, keys, cancels, reruns
    client       penstock.sdk: submit, ask again, cancel, rerun
    planner      mirrors penstock_planner/shell/intake.py and runs.py
    scheduler    mirrors penstock_scheduler/owner.py, shell.py
    term         mirrors penstock_scheduler/partition.py and runlog.py
    performing   mirrors penstock_scheduler/performer.py and projection.py
    looks        mirrors penstock_scheduler/lookups.py
    executor     mirrors penstock_executor/shell.py, attempt.py, preparing.py, storing.py
    artifact     mirrors penstock_artifact/shell.py and store.py
    trigger      mirrors penstock_trigger/keeper.py and outside.py
    model        a naive interpreter of a graph: what must come out
    auditor      promises that are checked at every durable fact
    invariants   promises that are checked when everything is over
    mutants      bugs put in on purpose
    twists       the same world told otherwise
    fate         misfortunes from outside
    ending       when is everything over?
    play         the world itself: picks what happens next

A task is a generator that stops before every durable effect, so a crash, a pause or somebody else's
step may come between any two of them: every read-decide-write is at least two actions.
"""
