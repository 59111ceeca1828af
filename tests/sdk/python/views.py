"""What is read beside requests: accounts, workers, the horde's state, refusals."""

import image
from horde import ANONYMOUS, ASKER, CLIENT, NOBODY, OWNER, SIMPLE, UNKNOWN_KEY, call, refused, wire
from horde_sdk.ai_horde_api.apimodels import (
    AIHordeHeartbeatRequest,
    AIHordeHeartbeatResponse,
    AllWorkersDetailsRequest,
    AllWorkersDetailsResponse,
    DeleteWorkerRequest,
    DeleteWorkerResponse,
    FindUserRequest,
    HordePerformanceRequest,
    HordePerformanceResponse,
    HordeStatusModelsSingleRequest,
    HordeStatusModelsSingleResponse,
    ImageGenerateAsyncResponse,
    ImageGenerateJobPopResponse,
    ImageGenerateStatusRequest,
    ImageGenerateStatusResponse,
    ImageGenerationInputPayload,
    ModifyWorkerRequest,
    ModifyWorkerResponse,
    SingleUserDetailsRequest,
    SingleWorkerDetailsRequest,
    SingleWorkerDetailsResponse,
    UserDetailsResponse,
)
from horde_sdk.ai_horde_api.exceptions import AIHordePayloadValidationError, AIHordeRequestError


def user_details() -> None:
    """user: the key finds its user, who is found by number too"""
    user = call(FindUserRequest(apikey=ASKER), UserDetailsResponse)
    assert user.username == f"sdk asker#{user.id_}"
    assert user.kudos is not None and user.trusted is True
    found = call(SingleUserDetailsRequest(user_id=str(user.id_)), UserDetailsResponse)
    assert found.username == user.username


def worker_details() -> None:
    """worker: details are read by name and by id after the work is done"""
    call(image.request(), ImageGenerateAsyncResponse)
    image.paint_next()
    worker = SIMPLE.worker_details_by_name("sdk dreamer")
    assert worker.online and worker.requests_fulfilled > 0 and worker.bridge_agent == image.AGENT
    by_id = call(SingleWorkerDetailsRequest(worker_id=worker.id_), SingleWorkerDetailsResponse)
    assert by_id.name == "sdk dreamer" and by_id.models == [image.MODEL]
    # A list may be minutes old, so that the worker need not be in it.
    call(AllWorkersDetailsRequest(), AllWorkersDetailsResponse)


def worker_in_maintenance() -> None:
    """worker: maintenance shows in a refused pop, and ends"""
    assert image.pop().id_ is None
    worker = SIMPLE.worker_details_by_name("sdk dreamer").id_
    request = ModifyWorkerRequest(apikey=OWNER, worker_id=worker, maintenance=True)
    assert call(request, ModifyWorkerResponse).maintenance is True
    # Details may be half a minute old: only the pop tells. Workers look for these words.
    message = refused(image.pop_request(), ImageGenerateJobPopResponse, "WorkerMaintenance")
    assert "maintenance mode" in message.lower()
    request = ModifyWorkerRequest(apikey=OWNER, worker_id=worker, maintenance=False)
    assert call(request, ModifyWorkerResponse).maintenance is False
    assert image.pop().id_ is None


def worker_deleted() -> None:
    """worker: who has a job in hand cannot be deleted, who has done its work can"""
    call(image.request(), ImageGenerateAsyncResponse)
    job = image.pop()
    worker = SIMPLE.worker_details_by_name("sdk dreamer").id_
    request = DeleteWorkerRequest(apikey=OWNER, worker_id=worker)
    refused(request, DeleteWorkerResponse, "Locked")
    image.deliver(job)
    assert call(request, DeleteWorkerResponse).deleted_name == "sdk dreamer"


def status_views() -> None:
    """status: heartbeat, performance, models and modes"""
    beat = call(AIHordeHeartbeatRequest(), AIHordeHeartbeatResponse)
    assert beat.message == "OK" and beat.version
    _, beat = wire("GET", "/status/heartbeat")
    members = {"message", "version", "queue", "threads", "active_count", "db_connection"}
    assert set(beat) == members, beat
    performance = call(HordePerformanceRequest(), HordePerformanceResponse)
    assert performance.queued_requests == 0
    # Who pops offers a model.
    assert image.pop().id_ is None
    single = HordeStatusModelsSingleRequest(model_name=image.MODEL)
    models = call(single, HordeStatusModelsSingleResponse).root
    assert [model.name for model in models] == [image.MODEL] and models[0].count >= 1
    assert isinstance(SIMPLE.image_status_models_all().root, list)
    # Without a key everybody may look; a key that is no moderator's may not.
    assert wire("GET", "/status/modes")[0] == 200
    status, refusal = wire("GET", "/status/modes", ASKER)
    assert status == 403 and refusal["rc"] == "NotModerator"


def error_answers() -> None:
    """errors: refusals carry a code, faults in the payload name the field"""
    answer = ImageGenerateAsyncResponse
    refused(image.request(key=UNKNOWN_KEY), answer, "InvalidAPIKey")
    try:
        SIMPLE.image_generate_request(image.request(key=UNKNOWN_KEY))
        raise AssertionError("an unknown key was accepted")
    except AIHordeRequestError:
        pass
    wrong = ImageGenerationInputPayload.model_construct(width=500, height=512)
    try:
        CLIENT.submit_request(image.request(params=wrong), answer)
        raise AssertionError("a width of 500 was accepted")
    except AIHordePayloadValidationError:
        pass
    body = {"prompt": "x", "params": {"width": 500}}
    status, refusal = wire("POST", "/generate/async", ASKER, body)
    assert status == 400 and set(refusal) == {"errors", "message"}
    assert list(refusal["errors"]) == ["params.width"]
    unknown = ImageGenerateStatusRequest(id=NOBODY)
    refused(unknown, ImageGenerateStatusResponse, "RequestNotFound")
    anonymous = image.pop_request(key=ANONYMOUS)
    refused(anonymous, ImageGenerateJobPopResponse, "AnonForbiddenWorker")


TRIPS = [
    user_details,
    worker_details,
    worker_in_maintenance,
    worker_deleted,
    status_views,
    error_answers,
]
