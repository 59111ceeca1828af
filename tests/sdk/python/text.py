"""Text requests: asked, written by a worker of our own, read."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

from horde import ASKER, NOBODY, OWNER, SIMPLE, call, refused, waiting_for, wire
from horde_sdk.ai_horde_api.apimodels import (
    DeleteTextGenerateRequest,
    HordeStatusModelsAllRequest,
    HordeStatusModelsAllResponse,
    JobSubmitResponse,
    ModelGenerationInputKobold,
    TextGenerateAsyncRequest,
    TextGenerateAsyncResponse,
    TextGenerateJobPopRequest,
    TextGenerateJobPopResponse,
    TextGenerateStatusRequest,
    TextGenerateStatusResponse,
    TextGenerationJobSubmitRequest,
)

AGENT = "KoboldCppEmbedWorker:2:https://example.org"
MODEL = "koboldcpp/tiny-1b"


def request(**changes: Any) -> TextGenerateAsyncRequest:
    params = {"max_length": 16, "max_context_length": 1024, "temperature": 0.7}
    if "n" in changes:
        params["n"] = changes.pop("n")
    fields: dict[str, Any] = {
        "prompt": "Once upon a time",
        "models": [MODEL],
        "params": ModelGenerationInputKobold(**params),
    }
    return TextGenerateAsyncRequest(apikey=ASKER, **(fields | changes))


def pop_request() -> TextGenerateJobPopRequest:
    return TextGenerateJobPopRequest(
        apikey=OWNER,
        name="sdk scribe",
        models=[MODEL],
        bridge_agent=AGENT,
        max_length=128,
        max_context_length=2048,
        nsfw=True,
        amount=1,
        threads=1,
    )


def pop() -> TextGenerateJobPopResponse:
    return call(pop_request(), TextGenerateJobPopResponse)


def submission(job: Any, **changes: Any) -> TextGenerationJobSubmitRequest:
    fields = {"generation": " there was a horde.", "state": "ok"}
    return TextGenerationJobSubmitRequest(apikey=OWNER, id=job, **(fields | changes))


def status_of(asked: Any) -> TextGenerateStatusResponse:
    return call(TextGenerateStatusRequest(id=asked.id_), TextGenerateStatusResponse)


def write_next() -> None:
    popped = waiting_for("text job", lambda: (job := pop()).id_ and job)
    call(submission(popped.id_), JobSubmitResponse)


def asked_written_read() -> None:
    """text: two texts are asked, popped, submitted and fetched"""
    asked = call(request(n=2), TextGenerateAsyncResponse)
    assert status_of(asked).waiting == 2
    for _ in range(2):
        popped = pop()
        assert popped.id_ is not None and popped.ids == [popped.id_]
        assert popped.model == MODEL and isinstance(popped.ttl, int)
        assert popped.payload.prompt == "Once upon a time"
        assert popped.payload.max_length == 16 and popped.payload.n == 1
        assert call(submission(popped.id_), JobSubmitResponse).reward > 0
    status = status_of(asked)
    assert status.done and status.finished == 2 and len(status.generations) == 2
    for generation in status.generations:
        assert generation.text == " there was a horde." and generation.state == "ok"
        assert generation.seed == 0 and generation.worker_name == "sdk scribe"


def simple_client() -> None:
    """text: the simple client asks, waits and reads"""
    with ThreadPoolExecutor(1) as pool:
        worker = pool.submit(write_next)
        # It waits for exactly one generation, whatever `n` is.
        status, _ = SIMPLE.text_generate_request(request(n=1))
        worker.result()
    assert [generation.text for generation in status.generations] == [" there was a horde."]


def price() -> None:
    """text: a dry run tells the price and queues nothing"""
    assert SIMPLE.text_generate_request_dry_run(request(dry_run=True)).kudos > 1
    assert pop().id_ is None


def censored() -> None:
    """text: a censored result arrives as such"""
    asked = call(request(), TextGenerateAsyncResponse)
    call(submission(pop().id_, state="censored"), JobSubmitResponse)
    assert status_of(asked).generations[0].state == "censored"


def refusals() -> None:
    """text: a second submit, an unknown job and an unknown request are refused by code"""
    call(request(), TextGenerateAsyncResponse)
    job = pop().id_
    call(submission(job), JobSubmitResponse)
    assert "already submitted" in refused(submission(job), JobSubmitResponse, "DuplicateGen")
    refused(submission(NOBODY), JobSubmitResponse, "InvalidJobID")
    unknown = TextGenerateStatusRequest(id=NOBODY)
    refused(unknown, TextGenerateStatusResponse, "RequestNotFound")


def cancelled() -> None:
    """text: a deleted request is not handed out"""
    asked = call(request(), TextGenerateAsyncResponse)
    call(DeleteTextGenerateRequest(id=asked.id_), TextGenerateStatusResponse)
    assert pop().id_ is None


def idle_pop() -> None:
    """text: an idle pop has a null id, no ids, a payload and no model"""
    popped = pop()
    assert popped.id_ is None and popped.ids == [] and popped.model is None
    body = pop_request().model_dump(mode="json", exclude_none=True)
    status, idle = wire("POST", "/generate/text/pop", OWNER, body)
    # KoboldCpp indexes `id` without looking.
    assert status == 200 and idle["id"] is None and idle["ids"] == [] and idle["model"] is None
    assert isinstance(idle["payload"], dict) and isinstance(idle["skipped"], dict)


def details() -> None:
    """text: the worker's and the model's details are read after the work is done"""
    call(request(), TextGenerateAsyncResponse)
    write_next()
    worker = SIMPLE.worker_details_by_name("sdk scribe")
    assert worker.type_ == "text" and worker.models == [MODEL] and worker.max_length == 128
    assert worker.requests_fulfilled is not None and worker.requests_fulfilled > 0
    listed = call(HordeStatusModelsAllRequest(type="text"), HordeStatusModelsAllResponse)
    assert [model.name for model in listed.root] == [MODEL]


TRIPS = [
    asked_written_read,
    simple_client,
    price,
    censored,
    refusals,
    cancelled,
    idle_pop,
    details,
]
