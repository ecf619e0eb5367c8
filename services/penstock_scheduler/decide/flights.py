"""Two equal steps in flight run once: one leads, the others follow and look again when it landed.

    follower's partition                          leader's partition
    LOOKING ──bucket: in flight──▶ FOLLOWING ──FollowFlight──▶ noted, or landed already
    LOOKING ◀── FlightLanded ──────────────────────────────── when the leading step has ended

A leader that does not hold the claim it is said to hold (its process died between claim and commit,
or its run is long gone) answers at once, and the follower's next look may take the claim over.
"""

from penstock.contracts.inbox import FlightLanded, FollowFlight
from penstock_scheduler.decide.attempts import step_of
from penstock_scheduler.decide.turn import Turn
from penstock_scheduler.effects import TellFlight
from penstock_scheduler.state import IN_FLIGHT, Follower, StepStatus
from penstock_scheduler.transitions import FlightFollowed, StepReady


def follow(turn: Turn, message: FollowFlight) -> None:
    """Note a follower of one of our steps, or tell it that there is nothing to wait for."""
    found = step_of(turn, message.run, message.step)
    if found is not None:
        run, step = found
        state = run.steps[step]
        flying = state.status in IN_FLIGHT and (state.holds or state.status is StepStatus.LOOKING)
        if flying and state.fingerprint == message.fingerprint:
            follower = Follower(message.follower_run, message.follower_step, message.look)
            if follower not in run.followers.get(step, ()):
                turn.record(
                    FlightFollowed(
                        run=message.run,
                        step=step,
                        follower_run=message.follower_run,
                        follower_step=message.follower_step,
                        look=message.look,
                    )
                )
            return
    turn.ask(
        TellFlight(
            FlightLanded(
                run=message.follower_run,
                step=message.follower_step,
                fingerprint=message.fingerprint,
                leader_run=message.run,
                leader_step=message.step,
                look=message.look,
            )
        )
    )


def look_again(turn: Turn, message: FlightLanded) -> None:
    """Look again: the leader is no longer in flight."""
    found = step_of(turn, message.run, message.step)
    if found is None:
        return
    run, step = found
    state = run.steps[step]
    leader = (message.leader_run, message.leader_step)
    if (
        state.status is StepStatus.FOLLOWING
        and state.leader == leader
        and state.look == message.look
    ):
        turn.record(
            StepReady(
                run=message.run,
                step=step,
                fingerprint=state.fingerprint,
                look=state.look + 1,
                stale_run=message.leader_run,
                stale_step=message.leader_step,
            )
        )
