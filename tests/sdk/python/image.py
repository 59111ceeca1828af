"""Image requests: asked, painted by a worker of our own, fetched."""

import base64
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from horde import (
    ASKER,
    CLIENT,
    GREEN,
    NOBODY,
    OWNER,
    RED,
    SIMPLE,
    Colour,
    call,
    refused,
    shows,
    upload,
    waiting_for,
    webp,
    wire,
)
from horde_sdk.ai_horde_api.ai_horde_clients import AIHordeAPIClientSession
from horde_sdk.ai_horde_api.apimodels import (
    GenMetadataEntry,
    ImageGenerateAsyncRequest,
    ImageGenerateAsyncResponse,
    ImageGenerateJobPopRequest,
    ImageGenerateJobPopResponse,
    ImageGenerateStatusRequest,
    ImageGenerateStatusResponse,
    ImageGenerationInputPayload,
    ImageGenerationJobSubmitRequest,
    JobSubmitResponse,
)

AGENT = "AI Horde Worker reGen:10.0.0:https://example.org"
MODEL = "stable_diffusion"


def request(key: str = "", **changes: Any) -> ImageGenerateAsyncRequest:
    params = {"width": 512, "height": 512, "steps": 20, "seed": "7", "sampler_name": "k_euler"}
    params["n"] = changes.pop("n", 1)
    fields: dict[str, Any] = {
        "prompt": "a red square",
        "models": [MODEL],
        "params": ImageGenerationInputPayload(**params),
    }
    return ImageGenerateAsyncRequest(apikey=key or ASKER, **(fields | changes))


def pop_request(key: str = "", amount: int = 1) -> ImageGenerateJobPopRequest:
    return ImageGenerateJobPopRequest(
        apikey=key or OWNER,
        name="sdk dreamer",
        models=[MODEL],
        bridge_agent=AGENT,
        max_pixels=1024 * 1024,
        nsfw=True,
        amount=amount,
        threads=1,
    )


def pop(amount: int = 1) -> ImageGenerateJobPopResponse:
    return call(pop_request(amount=amount), ImageGenerateJobPopResponse)


def submission(job: Any, **changes: Any) -> ImageGenerationJobSubmitRequest:
    fields = {"generation": "R2", "state": "ok", "seed": 7}
    return ImageGenerationJobSubmitRequest(apikey=OWNER, id=job, **(fields | changes))


def deliver(popped: ImageGenerateJobPopResponse, *colours: Colour) -> None:
    """What a worker does with a popped batch: upload each picture, submit each job."""
    assert len(popped.r2_uploads) == len(popped.ids)
    for job, link, colour in zip(popped.ids, popped.r2_uploads, colours or (RED,), strict=True):
        upload(link, webp(colour))
        seed = int(popped.payload.seed)
        assert call(submission(job, seed=seed), JobSubmitResponse).reward > 0


def paint_next() -> None:
    deliver(waiting_for("image job", lambda: (job := pop()).id_ and job))


def asked_painted_fetched() -> None:
    """image: two pictures are asked, popped as a batch, uploaded, submitted and fetched"""
    asked = call(request(n=2), ImageGenerateAsyncResponse)
    assert asked.kudos > 1
    waiting = CLIENT.get_generate_check(asked.id_)
    assert (waiting.waiting, waiting.finished, waiting.done) == (2, 0, False)

    popped = pop(amount=2)
    assert len(popped.ids) == 2 and popped.id_ in popped.ids
    assert popped.model == MODEL and isinstance(popped.ttl, int)
    assert popped.payload.n_iter == 2 and popped.payload.prompt == "a red square"
    # The SDK sorts ids and links each for itself: they must still belong together.
    colours = dict(zip(popped.ids, (RED, GREEN), strict=True))
    deliver(popped, *colours.values())

    waiting_for("done", lambda: CLIENT.get_generate_check(asked.id_).done)
    status = CLIENT.get_generate_status(asked.id_)
    assert status.finished == 2 and len(status.generations) == 2
    for generation in status.generations:
        assert generation.state == "ok" and generation.censored is False
        assert generation.gen_metadata == [] and generation.worker_name == "sdk dreamer"
        picture = SIMPLE.download_image_from_generation(generation)
        assert shows(picture, colours[generation.id_])
    # The seed is a string here and a number at submit.
    assert status.generations[0].seed == str(int(popped.payload.seed))


def simple_client() -> None:
    """image: the simple client asks, waits and downloads"""
    with ThreadPoolExecutor(1) as pool:
        worker = pool.submit(paint_next)
        status, _ = SIMPLE.image_generate_request(request())
        worker.result()
    assert shows(SIMPLE.download_image_from_generation(status.generations[0]), RED)


def as_base64() -> None:
    """image: without r2 the worker still uploads, and the requester gets base64"""
    asked = call(request(r2=False), ImageGenerateAsyncResponse)
    popped = pop()
    assert popped.r2_uploads and len(popped.r2_uploads) == 1
    deliver(popped)
    image = CLIENT.get_generate_status(asked.id_).generations[0].img
    assert not image.startswith("http")
    assert shows(SIMPLE.parse_image_from_base64(image), RED)


def from_image() -> None:
    """image: the source picture reaches the worker with the job, every time"""
    source = base64.b64encode(webp(GREEN)).decode()
    for _ in range(3):
        asked = request(source_image=source, source_processing="img2img")
        call(asked, ImageGenerateAsyncResponse)
        popped = pop()
        assert popped.source_image and popped.source_processing == "img2img"
        assert shows(SIMPLE.download_image_from_url(popped.source_image), GREEN)
        deliver(popped)


def price() -> None:
    """image: a dry run tells the price and queues nothing"""
    assert SIMPLE.image_generate_request_dry_run(request(dry_run=True)).kudos > 1
    assert pop().id_ is None


def censored() -> None:
    """image: a result marked as censored arrives as such"""
    asked = call(request(), ImageGenerateAsyncResponse)
    popped = pop()
    upload(popped.r2_upload, webp(RED))
    mark = GenMetadataEntry(type="censorship", value="csam")
    call(submission(popped.id_, gen_metadata=[mark], state="censored"), JobSubmitResponse)
    generation = CLIENT.get_generate_status(asked.id_).generations[0]
    assert generation.censored is True and generation.state == "ok"
    assert generation.gen_metadata == [mark]


def faulted() -> None:
    """image: a faulted job goes back and is painted by the next pop"""
    asked = call(request(), ImageGenerateAsyncResponse)
    job = pop().id_
    fault = submission(job, state="faulted", generation="faulted", seed=0)
    assert call(fault, JobSubmitResponse).reward == 0
    again = pop()
    assert again.id_ is not None and again.id_ != job
    deliver(again)
    status = CLIENT.get_generate_status(asked.id_)
    assert (status.restarted, status.finished, status.done) == (1, 1, True)


def cancelled() -> None:
    """image: a deleted request is not handed out, and deleting twice does no harm"""
    asked = call(request(), ImageGenerateAsyncResponse)
    assert CLIENT.delete_pending_image(asked.id_).generations == []
    CLIENT.delete_pending_image(asked.id_)
    assert pop().id_ is None


def session_broken_off() -> None:
    """image: a session that breaks off cancels what it asked"""

    class BrokenOff(Exception):
        pass

    try:
        with AIHordeAPIClientSession() as session:
            asked = session.submit_request(request(), ImageGenerateAsyncResponse)
            raise BrokenOff
    except BrokenOff:
        pass
    status = call(ImageGenerateStatusRequest(id=asked.id_), ImageGenerateStatusResponse)
    assert (status.waiting, status.processing) == (0, 0)
    assert pop().id_ is None


def idle_pop() -> None:
    """image: an idle pop has a null id, no ids, a payload and the reasons"""
    popped = pop()
    assert popped.id_ is None and popped.ids == [] and popped.model is None
    assert popped.payload.width == 512 and popped.skipped.models == 0
    body = pop_request().model_dump(mode="json", exclude_none=True)
    status, idle = wire("POST", "/generate/pop", OWNER, body)
    # Workers index these members without looking.
    assert status == 200 and idle["id"] is None and idle["ids"] == [] and idle["model"] is None
    assert isinstance(idle["payload"], dict) and isinstance(idle["skipped"], dict)


def refused_submits() -> None:
    """image: refused submits say what workers look for"""
    call(request(), ImageGenerateAsyncResponse)
    popped = pop()
    deliver(popped)
    again = submission(popped.id_)
    assert "already submitted" in refused(again, JobSubmitResponse, "DuplicateGen")
    message = refused(submission(NOBODY), JobSubmitResponse, "InvalidJobID")
    assert "Processing Job with ID" in message and "does not exist" in message


TRIPS = [
    asked_painted_fetched,
    simple_client,
    as_base64,
    from_image,
    price,
    censored,
    faulted,
    cancelled,
    session_broken_off,
    idle_pop,
    refused_submits,
]
