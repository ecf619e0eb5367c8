"""One example of every message, with every field set; its bytes are kept in golden/."""

from penstock.contracts import (
    artifacts,
    computes,
    data,
    dead_letters,
    events,
    inbox,
    plans,
    queries,
    registry,
    requests,
    schedules,
    work,
)
from penstock.contracts.base import Message, Strict
from penstock.contracts.resources import Offer, Resources
from penstock.contracts.spec import (
    BuildContext,
    EnvironmentSpec,
    GitInfo,
    Input,
    Limits,
    Output,
    PipelineSpec,
    Settings,
    StepSpec,
)

DIGEST = "ab" * 32
OTHER = "cd" * 32
RUN = "6q9c8w0k3f7m2ax"
TREE = artifacts.TreeRef(digest=DIGEST, size_bytes=1797, files=3)
GIT = GitInfo(commit="1f" * 20, branch="main", dirty=True, remote="example.org/digits")
RESOURCES = Resources(
    instance_count=2,
    cores=1.5,
    memory="2g",
    gpus=1,
    shm_size="512m",
    docker_args=("--ulimit", "nofile=4096"),
    labels=("zone=eu",),
    instance_type="Standard_DS3_v2",
    locations=("westeurope",),
    properties={"a": 1},
    max_instance_count=4,
)
COMPUTE = computes.Compute(
    kind="docker",
    slots=2,
    image="python:3.12-slim",
    network="bridge",
    cores=2,
    memory="8g",
    labels=("ssd",),
    description="containers",
)
FAILURE = work.Failure(
    code="E_EXIT",
    message="the command ended with exit code 3",
    where="steps.train",
    hint="read the log",
    exit_code=3,
    signal="",
    log_tail="ValueError: C must be positive\n",
)
SPEC = PipelineSpec(
    name="digits",
    display_name="Handwritten digits",
    description="prepare, train",
    experiment="digits",
    tags={"team": "vision"},
    inputs={
        "gamma": Input(type="number", default=0.001, min=0, max=1, description="kernel width"),
        "labels": Input(type="uri_file", path=f"artifact:{OTHER}"),
        "seed": 7,
    },
    outputs={"model": Output(type="uri_folder")},
    steps={
        "prepare": StepSpec(
            command="python prepare.py ${{inputs.labels}} ${{outputs.data}}",
            code=f"artifact:{DIGEST}",
            inputs={"labels": "${{parent.inputs.labels}}"},
            outputs={"data": Output(type="uri_folder")},
        ),
        "train": StepSpec(
            command="python train.py ${{inputs.data}} ${{inputs.gamma}} ${{outputs.model}}",
            code=f"artifact:{DIGEST}",
            hash_paths=("train.py",),
            hash_digest=OTHER,
            inputs={
                "data": "${{parent.jobs.prepare.outputs.data}}",
                "gamma": "${{parent.inputs.gamma}}",
            },
            outputs={"model": "${{parent.outputs.model}}"},
            environment_variables={"OMP_NUM_THREADS": "1"},
            compute="gpu",
            limits=Limits(timeout=60, retries=2, retry_delay=0.5, deadline=600, expected=30),
            resources=RESOURCES,
            needs=("prepare",),
            is_deterministic=False,
            display_name="Train",
            description="fits",
        ),
    },
    settings=Settings(
        default_compute="cpu", continue_on_step_failure=True, force_rerun=True, deadline=3600
    ),
    git=GIT,
)
HEAD = plans.PlanHead(
    run=RUN,
    pipeline="digits",
    version="3",
    spec=DIGEST,
    experiment="digits",
    display_name="nightly",
    tags={"team": "vision"},
    parameters={"gamma": 0.001},
    outputs={"model": ("train", "model")},
    reuse="refresh",
    priority=5,
    continue_on_step_failure=True,
    deadline_s=3600,
    requested_at=1_795_228_800.5,
    who="ada@lab",
    git=GIT,
    rerun_of="6q9c8w0aaaaaaaa",
    traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    trigger="nightly",
)
PART = events.Part(part="code", changed=True, old=DIGEST, new=OTHER)
FORECAST = queries.StepForecast(
    step="train", decision="run", reason="code changed", needs=("prepare",)
)
STEP_VIEW = queries.StepView(
    step="train",
    state="succeeded",
    attempts=2,
    seconds=1.5,
    reused_from=RUN,
    outputs={"model": TREE},
    metrics={"accuracy": 0.97},
    error=FAILURE,
    needs=("prepare",),
    reason="code changed",
    fingerprint=DIGEST,
    compared_with=RUN,
    parts=(PART,),
    logs=TREE,
    executor="executor-a",
    target="cpu",
    tags={"kind": "svc"},
    queued_at=1.0,
    started_at=2.0,
    ended_at=3.5,
    overdue_at=3.0,
    expected_s=0.5,
)
LETTER = dead_letters.DeadLetter(
    id=7,
    stream="requests",
    subject="penstock.request.run",
    code="E_TRANSIENT",
    reason="no artifact service",
    at=1_795_228_801.5,
    deliveries=5,
    size_bytes=2,
    truncated=True,
    obstacle="only its beginning was kept",
)
SCHEDULE = schedules.Schedule(
    name="nightly",
    pipeline="digits@3",
    cron="30 2 * * 1-5",
    time_zone="Europe/Berlin",
    start="2026-11-21T00:00:00Z",
    end="2027-11-21T00:00:00Z",
    catch_up="all",
    catch_up_max=3,
    overlap="queue",
    paused=True,
    parameters={"gamma": 0.01},
    experiment="digits",
    tags={"team": "vision"},
    reuse="refresh",
    priority=1,
    description="every working night",
    created_at=1.0,
    revision=2,
)
MANIFEST = artifacts.Manifest(
    entries=(
        artifacts.Entry(path="empty/"),
        artifacts.Entry(path="run.sh", size=12, digest=DIGEST, executable=True),
    )
)
SUMMARY = queries.RunSummary(
    run=RUN,
    pipeline="digits",
    state="succeeded",
    version="3",
    spec=DIGEST,
    experiment="digits",
    display_name="nightly",
    tags={"team": "vision"},
    parameters={"gamma": 0.001},
    who="ada@lab",
    trigger="nightly",
    rerun_of=RUN,
    reuse="use",
    git=GIT,
    accepted_at=1.0,
    ended_at=2.0,
    seconds=1.0,
    steps=2,
    counts={"succeeded": 2},
)

MESSAGES: dict[str, Message | Strict | object] = {
    "spec": SPEC,
    "request.run": requests.RunRequest(
        pipeline="digits@3",
        parameters={"gamma": 0.001, "seed": 7, "fast": True, "label": "x"},
        experiment="digits",
        tags={"team": "vision"},
        idempotency_key="order-66",
        reuse="refresh",
        priority=5,
        compute="cpu",
        deadline=3600,
        name="nightly",
        who="ada@lab",
    ),
    "request.cancel": requests.CancelRequest(run=RUN, reason="wrong data", who="ada@lab"),
    "request.rerun": requests.RerunRequest(
        run=RUN, from_=("train",), parameters={"gamma": 0.1}, idempotency_key="again", who="ada@lab"
    ),
    "answer.run": requests.RunAnswer(run=RUN, state="queued", notes=("environment ignored",)),
    "answer.error": requests.RunAnswer(
        error=requests.ErrorBody(
            code="E_REF",
            message="no step 'prepar'",
            where="steps.train.inputs.data",
            hint="did you mean 'prepare'?",
        )
    ),
    "plan.part": plans.PlanPart(
        head=HEAD,
        part=0,
        parts=2,
        steps=(
            plans.PlannedStep(
                name="train",
                command="python train.py",
                code=DIGEST,
                code_digest=OTHER,
                inputs={
                    "data": plans.Bound(type="uri_folder", step="prepare", output="data"),
                    "gamma": plans.Bound(value=0.001),
                    "labels": plans.Bound(type="uri_file", artifact=OTHER),
                },
                outputs={"model": plans.PlannedOutput(type="uri_file", file="model.bin")},
                resources=RESOURCES,
                needs=("prepare",),
                environment=EnvironmentSpec(
                    name="sklearn",
                    version="3",
                    image="python:3.11",
                    build=BuildContext(context=f"artifact:{DIGEST}", dockerfile="docker/File"),
                    conda={"dependencies": ["python=3.11", {"pip": ["joblib"]}]},
                    pip=("scikit-learn<2",),
                    python="3.11",
                    variables={"OMP_NUM_THREADS": "1"},
                ),
                environment_variables={"A": "b"},
                compute="cpu",
                timeout_s=60,
                deadline_s=600,
                expected_s=30,
                attempts_max=3,
                retry_delay_s=0.5,
                deterministic=False,
                fresh=True,
                given=plans.Given(
                    run=RUN,
                    outputs={"model": DIGEST},
                    metrics={"accuracy": 0.97},
                    fingerprint=OTHER,
                    logs=DIGEST,
                ),
            ),
        ),
    ),
    "work.item": work.WorkItem(
        run=RUN,
        step="train",
        attempt=2,
        pipeline="digits",
        experiment="digits",
        target="cpu",
        command="python train.py",
        code=DIGEST,
        inputs={
            "data": work.WorkInput(type="uri_folder", artifact=OTHER),
            "gamma": work.WorkInput(value=0.001),
        },
        outputs={"model": plans.PlannedOutput(type="uri_file", file="model.bin")},
        environment=EnvironmentSpec(pip=("scikit-learn<2",)),
        environment_variables={"A": "b"},
        resources=RESOURCES,
        timeout_s=60,
        parameters={"gamma": 0.001},
        tags={"team": "vision"},
        traceparent=HEAD.traceparent,
    ),
    "work.import": work.WorkItem(
        run=RUN,
        step="import--titanic",
        attempt=1,
        pipeline="digits",
        kind="import",
        source=data.Location(datastore="lake", root="s3://bucket/prefix", path="titanic/*.csv"),
        outputs={"data": plans.PlannedOutput()},
    ),
    "work.copy": work.WorkItem(
        run=RUN,
        step="train--model",
        attempt=1,
        pipeline="digits",
        kind="copy",
        inputs={"data": work.WorkInput(type="uri_file", artifact=OTHER)},
        outputs={"data": plans.PlannedOutput(type="uri_file", mode="upload")},
        destination=data.Location(datastore="workspaceblobstore", path="models/model.bin"),
        asset=data.Asset(
            name="model", kind="model", type="custom_model", version="3", file="model.bin"
        ),
    ),
    "attempts.reported": inbox.Reports(
        run=RUN,
        reports=(
            work.AttemptStarted(run=RUN, step="train", attempt=1, executor="executor-1"),
            work.AttemptSucceeded(run=RUN, step="train", attempt=1, executor="executor-1"),
        ),
    ),
    "attempt.started": work.AttemptStarted(
        run=RUN, step="train", attempt=2, executor="executor-a", delivery=3, asking=True
    ),
    "attempt.succeeded": work.AttemptSucceeded(
        run=RUN,
        step="train",
        attempt=2,
        executor="executor-a",
        delivery=3,
        outputs={"model": TREE},
        logs=TREE,
        metrics={"accuracy": 0.97, "loss": [1.0, 0.5]},
        tags={"kind": "svc"},
        seconds=1.5,
    ),
    "attempt.failed": work.AttemptFailed(
        run=RUN,
        step="train",
        attempt=2,
        executor="executor-a",
        failure=FAILURE,
        delivery=3,
        logs=TREE,
        metrics={"accuracy": 0.1},
        tags={"kind": "svc"},
        seconds=1.5,
        retriable=False,
    ),
    "attempt.stop": work.StopAttempt(
        before=2, run=RUN, step="train", attempt=2, reason="timeout", grace_s=2.0
    ),
    "executor.presence": work.ExecutorPresence(
        executor="executor-a",
        targets=("cpu", "gpu"),
        slots=2,
        busy=1,
        host="lab",
        pid=7,
        draining=True,
        waiting=(
            work.Waiting(run=RUN, step="train", since=1.5, code="E_STORE", message="refused"),
        ),
        offer=Offer(kind="docker", cores=2, memory_bytes=1024, gpus=1, labels=("zone=eu",)),
    ),
    "run.cancel": inbox.CancelRun(run=RUN, reason="wrong data", who="ada@lab"),
    "flight.follow": inbox.FollowFlight(
        run=RUN,
        step="train",
        fingerprint=DIGEST,
        follower_run=RUN,
        follower_step="again",
        look=2,
    ),
    "flight.landed": inbox.FlightLanded(
        run=RUN,
        step="again",
        fingerprint=DIGEST,
        leader_run=RUN,
        leader_step="train",
        look=2,
    ),
    "partition.wake": inbox.Wake(partition=3),
    "timer.due": inbox.TimerDue(run=RUN, step="train", attempt=2, kind="retry"),
    "event.run": events.RunEvent(
        seq=1,
        run=RUN,
        pipeline="digits",
        what="accepted",
        at=1_795_228_800.5,
        version="3",
        spec=DIGEST,
        experiment="digits",
        display_name="nightly",
        tags={"team": "vision"},
        parameters={"gamma": 0.001},
        steps=2,
        graph={"prepare": (), "train": ("prepare",)},
        who="ada@lab",
        trigger="nightly",
        rerun_of=RUN,
        git=GIT,
        reuse="use",
        reason="asked",
        seconds=1.5,
        outputs={"model": TREE},
        counts={"succeeded": 2},
        error=requests.ErrorBody(code="E_REF", message="no step"),
    ),
    "event.step": events.StepEvent(
        seq=2,
        run=RUN,
        pipeline="digits",
        step="train",
        what="succeeded",
        at=1_795_228_801.5,
        attempt=1,
        target="cpu",
        executor="executor-a",
        seconds=1.5,
        fingerprint=DIGEST,
        reason="code changed",
        compared_with=RUN,
        parts=(PART,),
        reused_from=RUN,
        outputs={"model": TREE},
        logs=TREE,
        metrics={"accuracy": 0.97},
        tags={"kind": "svc"},
        failure=FAILURE,
        retry_at=1_795_228_802.5,
        expected_s=30,
    ),
    "query.dead-letters": dead_letters.DeadLettersQuestion(stream="inbox", limit=10, before=9),
    "query.dead-letters.answer": dead_letters.DeadLettersAnswer(letters=(LETTER,), more=True),
    "query.dead-letter": dead_letters.DeadLetterCommand(id=7),
    "query.dead-letter.answer": dead_letters.DeadLetterView(
        letter=LETTER, headers={"ce-id": "1"}, body="{}", answer=f"run {RUN} queued"
    ),
    "event.trigger": events.TriggerEvent(
        trigger="nightly",
        what="skipped",
        at=2.0,
        due=1.0,
        run=RUN,
        pipeline="digits",
        reason="the run before is still going",
    ),
    "event.data": events.DataEvent(
        dataset="labels", what="committed", at=1.0, tree=TREE, owner="data/labels"
    ),
    "schedule": SCHEDULE,
    "schedule.state": schedules.ScheduleState(
        name="nightly", revision=2, last_due=1.0, last_run=RUN, queued=(2.0, 3.0)
    ),
    "schedule.state.pending": schedules.ScheduleState(
        name="nightly",
        revision=2,
        last_due=4.0,
        pending=(
            schedules.Firing(
                what="missed", due=3.0, key="2026-11-21T02:30", after=1.0, count=2, reason="late"
            ),
            schedules.Firing(what="fire", due=4.0, key="2026-11-22T02:30", replace=True),
        ),
        definition=SCHEDULE,
        by="trigger-1",
    ),
    "schedule.view": schedules.ScheduleView(
        schedule=SCHEDULE,
        last_due=1.0,
        last_run=RUN,
        next_due=(2.0, 3.0),
        notes=("DST",),
        run=RUN,
    ),
    "schedule.command": schedules.ScheduleCommand(
        name="nightly", schedule=SCHEDULE, replace=True, who="ada@lab"
    ),
    "query.runs": queries.RunsQuestion(
        pipeline="digits", experiment="digits", state="failed", limit=10, before=RUN
    ),
    "query.runs.answer": queries.RunsAnswer(runs=(SUMMARY,), more=True),
    "query.run": queries.RunQuestion(run=RUN, steps=False, first=1000),
    "query.run.answer": queries.RunView(
        run=RUN, pipeline="digits", state="succeeded", steps=(STEP_VIEW,), steps_total=1
    ),
    "query.executors": queries.ExecutorsQuestion(),
    "query.why": queries.WhyQuestion(run=RUN, step="train"),
    "query.why.answer": queries.WhyAnswer(
        run=RUN,
        step="train",
        reused=False,
        reason="code changed",
        compared_with=RUN,
        parts=(PART,),
        fingerprint=DIGEST,
        reused_from="",
    ),
    "query.plan.answer": queries.PlanForecast(steps=(FORECAST,), pipeline="digits", notes=("n",)),
    "query.compute": computes.ComputeCommand(name="boxes", compute=COMPUTE, who="ada@lab"),
    "query.compute.answer": computes.ComputeView(
        name="boxes", compute=COMPUTE, created_at=1.0, who="ada@lab"
    ),
    "query.datastore": queries.DatastoreCommand(
        name="lake",
        datastore=data.Datastore(
            url="s3://bucket/lake",
            type="azure_blob",
            aliases=("https://account.blob.core.windows.net/container/",),
            description="raw data",
        ),
        who="ada@lab",
    ),
    "query.datastore.answer": queries.DatastoreView(
        name="lake",
        datastore=data.Datastore(url="s3://bucket/lake"),
        created_at=1.0,
        who="ada@lab",
    ),
    "query.asset": registry.AssetCommand(
        kind="data",
        name="titanic",
        version="2026-11-26",
        data=registry.DataContent(type="uri_file", path=f"artifact:{DIGEST}"),
        description="passengers",
        tags={"source": "public"},
        git=GIT,
        who="ada@lab",
    ),
    "query.asset.answer": registry.AssetView(
        kind="environment",
        name="sklearn",
        version="1.5",
        content=DIGEST,
        created_at=1.0,
        archived_at=2.0,
        who="ada@lab",
        environment=EnvironmentSpec(pip=("scikit-learn",), python="3.11"),
    ),
    "query.assets.answer": registry.AssetsAnswer(
        assets=(
            registry.AssetView(
                kind="component",
                name="prep",
                version="3",
                component=StepSpec(command="python prep.py"),
            ),
        )
    ),
    "query.pipeline": queries.PipelineCommand(name="digits", version="3", who="ada@lab"),
    "query.pipeline.answer": queries.PipelineView(
        name="digits",
        version="3",
        spec=DIGEST,
        created_at=1.0,
        who="ada@lab",
        description="prepare, train",
        git=GIT,
        definition=SPEC,
        created=True,
    ),
    "refusal": queries.Refusal(error=requests.ErrorBody(code="E_NOT_FOUND", message="no run")),
    "bucket.reuse": queries.ReuseEntry(
        run=RUN,
        step="train",
        outputs={"model": TREE},
        metrics={"accuracy": 0.97},
        logs=TREE,
        seconds=1.5,
        ended_at=3.0,
    ),
    "bucket.latest": queries.LatestEntry(
        run=RUN, fingerprint=DIGEST, parts={"code": OTHER}, at=1.0, typical_s=1.5, samples=3
    ),
    "artifact.manifest": MANIFEST,
    "artifact.stage": artifacts.StageRequest(digest=DIGEST, size=9),
    "artifact.stage.answer": artifacts.StageAnswer(grant=artifacts.Grant(key="staging/ab/x")),
    "artifact.upload": artifacts.UploadRequest(
        tree=artifacts.Named(manifest=MANIFEST), owner="snapshot", after="cas/ab/x"
    ),
    "artifact.upload.declared": artifacts.UploadRequest(
        tree=artifacts.Named(digest=DIGEST, size=9),
        declares=True,
        checksums={"cas/ab/x": ("LhXk2w==",)},
    ),
    "artifact.upload.wanted": artifacts.UploadAnswer(digest=DIGEST, wanted=("cas/ab/x",)),
    "artifact.upload.parts": artifacts.UploadAnswer(
        digest=DIGEST,
        grants=(
            artifacts.Grant(
                key="cas/ab/x",
                url="http://s3/x?uploadId=1",
                headers={"if-none-match": "*"},
                parts=(
                    artifacts.GrantedPart(
                        url="http://s3/x?partNumber=1&uploadId=1", headers={"content-length": "9"}
                    ),
                ),
            ),
        ),
    ),
    "artifact.upload.answer": artifacts.UploadAnswer(
        digest=DIGEST,
        grants=(artifacts.Grant(key="cas/ab/x", url="file:///x", headers={"if-none-match": "*"}),),
        more=True,
    ),
    "artifact.commit": artifacts.CommitRequest(
        tree=artifacts.Named(digest=DIGEST, size=9), owner="run/x"
    ),
    "artifact.commit.carried": artifacts.CommitRequest(
        tree=artifacts.Named(digest=DIGEST, size=9), owner="run/x", carried={"pack/ab/x.0": b"ab"}
    ),
    "artifact.commit.answer": artifacts.CommitAnswer(tree=TREE),
    "artifact.fetch": artifacts.FetchRequest(digest=DIGEST, paths=("*.csv",), after="cas/ab/x"),
    "artifact.fetch.doubts": artifacts.FetchRequest(digest=DIGEST, doubts=("cas/ab/x",)),
    "artifact.fetch.answer": artifacts.FetchAnswer(
        manifest=MANIFEST, manifest_grant=artifacts.Grant(key="tree/ab/x"), more=True
    ),
    "artifact.exist": artifacts.ExistRequest(digests=(DIGEST,)),
    "artifact.exist.answer": artifacts.ExistAnswer(digests=(DIGEST,)),
    "artifact.problem": artifacts.Problem(error=requests.ErrorBody(code="E_X", message="no")),
    "bucket.artifacts": artifacts.ArtifactRecord(
        tree=TREE, owner="data/digits", at=2.5, owners=("data/digits", "snapshot")
    ),
}
