"""Schedules: published pipelines by the clock."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec

from penstock.azureml.core.experiment import Experiment
from penstock.azureml.core.pipeline_run import PipelineRun
from penstock.azureml.exceptions import UserErrorException, unsupported
from penstock.azureml.pipeline.core.published import values_of
from penstock.contracts.schedules import Schedule as OurSchedule
from penstock.contracts.schedules import ScheduleView
from penstock.sdk.client import client_of
from penstock.sdk.names import name_from
from penstock.sdk.pipeline import continues_as
from penstock.sdk.recurrence import TimeZone, moment, recurring, spelled, zone_of


class ScheduleRecurrence:
    """When a schedule fires."""

    def __init__(
        self,
        frequency: str,
        interval: int,
        start_time: datetime | str | None = None,
        time_zone: TimeZone | str | None = None,
        hours: Sequence[int] | None = None,
        minutes: Sequence[int] | None = None,
        week_days: Sequence[str] | None = None,
        time_of_day: str | None = None,
    ) -> None:
        if time_of_day is not None:
            if hours or minutes:
                raise UserErrorException(
                    "time_of_day with hours or minutes",
                    code="E_REQUEST",
                    where="ScheduleRecurrence",
                )
            hour, _, minute = time_of_day.partition(":")
            hours, minutes = [int(hour)], [int(minute or 0)]
        self.frequency = frequency
        self.interval = interval
        self.start_time = start_time
        self.time_zone = time_zone
        self.hours = list(hours or ())
        self.minutes = list(minutes or ())
        self.week_days = list(week_days or ())
        self.validate()

    def validate(self) -> None:
        """Say what is wrong with it, if anything is.

        Raises:
            Invalid: E_RANGE, E_UNSUPPORTED.
        """
        self.fields()

    def fields(self) -> dict[str, Any]:
        """Return the fields of one of our schedules."""
        where = "ScheduleRecurrence"
        zone = self.time_zone.value if isinstance(self.time_zone, TimeZone) else self.time_zone
        zone = zone_of(zone or "UTC")
        start = moment(self.start_time, zone, where) if self.start_time is not None else None
        found = recurring(
            self.frequency,
            self.interval,
            hours=self.hours,
            minutes=self.minutes,
            week_days=self.week_days,
            start=start,
            zone=zone,
            where=where,
        )
        return {**found, "time_zone": zone, "start": "" if start is None else spelled(start)}


class Schedule:
    """A schedule of a published pipeline. Creating one of a name that exists changes that one."""

    def __init__(self, workspace: Any, view: ScheduleView) -> None:
        self.workspace = workspace
        self._schedule = view.schedule
        self._last_run = view.last_run

    def __repr__(self) -> str:
        return f"Schedule(Name: {self.name}, Id: {self.id}, Status: {self.status})"

    @property
    def id(self) -> str:
        """Its name."""
        return self._schedule.name

    @property
    def name(self) -> str:
        """Its name."""
        return self._schedule.name

    @property
    def description(self) -> str:
        """What it is for."""
        return self._schedule.description

    @property
    def pipeline_id(self) -> str:
        """The published pipeline that it runs."""
        return self._schedule.pipeline

    pipeline_endpoint_id = pipeline_id

    @property
    def status(self) -> str:
        """Active or Disabled."""
        return "Disabled" if self._schedule.paused else "Active"

    @property
    def recurrence(self) -> str:
        """When it fires: five fields of cron, or seconds."""
        return self._schedule.cron or f"every {self._schedule.every:g} s"

    @staticmethod
    def create(
        workspace: Any,
        name: str,
        pipeline_id: str,
        experiment_name: str,
        recurrence: ScheduleRecurrence | None = None,
        description: str | None = None,
        pipeline_parameters: Mapping[str, Any] | None = None,
        wait_for_provisioning: bool = False,
        wait_timeout: int = 3600,
        datastore: Any = None,
        polling_interval: int = 5,
        data_path_parameter_name: str | None = None,
        continue_on_step_failure: bool | None = None,
        path_on_datastore: str | None = None,
        **unused: Any,
    ) -> "Schedule":
        """Make a schedule; it is durable when this returns.

        Raises:
            UserErrorException: E_UNSUPPORTED, one that watches a datastore; E_MISSING, no recurrence.
            Invalid: E_UNSUPPORTED, a `continue_on_step_failure` that its runs would not have.
        """
        if datastore is not None:
            raise unsupported(
                "a schedule that watches a datastore",
                "let whoever writes the data request the run: `penstock submit NAME`",
            )
        if recurrence is None:
            raise UserErrorException("no recurrence", code="E_MISSING", where="Schedule.create")
        if continue_on_step_failure is not None:
            if "@" not in pipeline_id:  # its newest version, which may be another one at each tick
                raise unsupported(
                    "continue_on_step_failure of a schedule of an endpoint",
                    "publish its versions with it",
                )
            continues_as(client_of(workspace).pipeline(pipeline_id), continue_on_step_failure)
        wish = OurSchedule(
            name=name_from(name),
            pipeline=pipeline_id,
            experiment=experiment_name,
            description=description or "",
            parameters=values_of(pipeline_parameters),
            **recurrence.fields(),
        )
        view = client_of(workspace).schedule("create", schedule=wish, replace=True)
        return Schedule(workspace, view)

    @staticmethod
    def create_for_pipeline_endpoint(
        workspace: Any,
        name: str,
        pipeline_endpoint_id: str,
        experiment_name: str,
        recurrence: ScheduleRecurrence | None = None,
        **more: Any,
    ) -> "Schedule":
        """Make a schedule that runs an endpoint's newest version."""
        return Schedule.create(
            workspace, name, pipeline_endpoint_id, experiment_name, recurrence, **more
        )

    @staticmethod
    def get(workspace: Any, id: str, **unused: Any) -> "Schedule":
        """Return a schedule by name.

        Raises:
            Refused: E_NOT_FOUND.
        """
        return Schedule(workspace, client_of(workspace).schedule("show", id))

    @staticmethod
    def list(
        workspace: Any,
        active_only: bool = True,
        pipeline_id: str | None = None,
        pipeline_endpoint_id: str | None = None,
        **unused: Any,
    ) -> "Sequence[Schedule]":
        """Return schedules."""
        wanted = pipeline_id or pipeline_endpoint_id
        return [
            Schedule(workspace, view)
            for view in client_of(workspace).schedules()
            if not (active_only and view.schedule.paused)
            and wanted in (None, view.schedule.pipeline)
        ]

    get_all = list

    @staticmethod
    def get_schedules_for_pipeline_id(workspace: Any, pipeline_id: str) -> "Sequence[Schedule]":
        """Return the schedules of a published pipeline."""
        return Schedule.list(workspace, active_only=False, pipeline_id=pipeline_id)

    get_schedules_for_pipeline_endpoint_id = get_schedules_for_pipeline_id

    def enable(self, wait_for_provisioning: bool = False, wait_timeout: int = 3600) -> None:
        """Let it fire (again)."""
        self._take(client_of(self.workspace).schedule("resume", self.name))

    activate = enable

    def disable(self, wait_for_provisioning: bool = False, wait_timeout: int = 3600) -> None:
        """Let it not fire."""
        self._take(client_of(self.workspace).schedule("pause", self.name))

    def update(
        self,
        name: str | None = None,
        description: str | None = None,
        recurrence: ScheduleRecurrence | None = None,
        pipeline_parameters: Mapping[str, Any] | None = None,
        status: str | None = None,
        wait_for_provisioning: bool = False,
        wait_timeout: int = 3600,
        **unused: Any,
    ) -> None:
        """Change what is given.

        Raises:
            UserErrorException: E_UNSUPPORTED, its name.
        """
        if name is not None and name_from(name) != self.name:
            raise unsupported("to rename a schedule", "create one and disable the other")
        changed: dict[str, Any] = {}
        if description is not None:
            changed["description"] = description
        if pipeline_parameters is not None:
            changed["parameters"] = values_of(pipeline_parameters)
        if recurrence is not None:
            changed |= {"cron": "", "every": 0.0, **recurrence.fields()}
        if status is not None:
            changed["paused"] = status.lower() != "active"
        wish = msgspec.structs.replace(self._schedule, **changed)
        self._take(client_of(self.workspace).schedule("create", schedule=wish, replace=True))

    def get_pipeline_runs(self) -> "Sequence[PipelineRun]":
        """Return the runs that it has started, newest first."""
        return [
            PipelineRun(Experiment(self.workspace, run.experiment or run.pipeline), run.run)
            for run in client_of(self.workspace).every_run()
            if run.trigger == self.name
        ]

    def get_last_pipeline_run(self) -> PipelineRun | None:
        """Return the newest run that it has started."""
        runs = self.get_pipeline_runs()
        return runs[0] if runs else None

    def _take(self, view: ScheduleView) -> None:
        self._schedule, self._last_run = view.schedule, view.last_run


__all__ = ["Schedule", "ScheduleRecurrence", "TimeZone"]
