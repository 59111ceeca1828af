"""Alchemy requests: asked, answered by a worker of our own, read."""

import base64
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from horde import (
    ASKER,
    CLIENT,
    GREEN,
    OWNER,
    RED,
    SIMPLE,
    call,
    refused,
    shows,
    upload,
    waiting_for,
    webp,
    wire,
)
from horde_sdk.ai_horde_api.apimodels import (
    AlchemyAsyncRequest,
    AlchemyAsyncRequestFormItem,
    AlchemyAsyncResponse,
    AlchemyDeleteRequest,
    AlchemyJobSubmitRequest,
    AlchemyJobSubmitResponse,
    AlchemyPopRequest,
    AlchemyPopResponse,
    AlchemyStatusRequest,
    AlchemyStatusResponse,
)
from horde_sdk.ai_horde_api.exceptions import AIHordePayloadValidationError


class ObjectSubmit(AlchemyJobSubmitRequest):
    """The SDK types `result` as a string; the protocol wants an object."""

    result: dict[str, Any]  # type: ignore[assignment]


# Workers wrap an interrogation as `{"interrogation": {…}}`, which this SDK cannot read back: the
# npm trips have that form.
RESULTS: dict[str, dict[str, Any]] = {
    "caption": {"caption": "a green square"},
    "nsfw": {"nsfw": False},
}


def request(*forms: str) -> AlchemyAsyncRequest:
    return AlchemyAsyncRequest(
        apikey=ASKER,
        forms=[AlchemyAsyncRequestFormItem(name=form) for form in forms],
        source_image=base64.b64encode(webp(GREEN)).decode(),
    )


def pop_form(*forms: str) -> Any:
    """The popped form, or nothing."""
    request = AlchemyPopRequest(
        apikey=OWNER, name="sdk alchemist", priority_usernames=[], forms=list(forms)
    )
    popped = call(request, AlchemyPopResponse)
    return popped.forms[0] if popped.forms else None


def submission(job: Any, result: dict[str, Any]) -> ObjectSubmit:
    return ObjectSubmit(apikey=OWNER, id=job, result=result, state="ok")


def status_of(asked: Any) -> AlchemyStatusResponse:
    return call(AlchemyStatusRequest(id=asked.id_), AlchemyStatusResponse)


def caption_next() -> None:
    form = waiting_for("form", lambda: pop_form("caption"))
    call(submission(form.id_, RESULTS["caption"]), AlchemyJobSubmitResponse)


def asked_answered_read() -> None:
    """alchemy: two forms are asked, popped one by one, submitted and fetched"""
    asked = call(request(*RESULTS), AlchemyAsyncResponse)
    # A null `result` breaks the SDK: it must be absent until the form is done.
    assert {form.result for form in status_of(asked).forms} == {None}
    _, waiting = wire("GET", f"/interrogate/status/{asked.id_}")
    assert [form["state"] for form in waiting["forms"]] == ["waiting"] * 2
    assert all("result" not in form for form in waiting["forms"])

    for _ in RESULTS:
        form = pop_form(*RESULTS)
        assert shows(SIMPLE.download_image_from_url(form.source_image), GREEN)
        assert form.r2_upload is None
        done = submission(form.id_, RESULTS[form.form])
        assert call(done, AlchemyJobSubmitResponse).reward > 0

    status = status_of(asked)
    assert status.state == "done" and {form.state for form in status.forms} == {"done"}
    results = {form.form: form.result for form in status.forms}
    assert results["caption"].caption == "a green square"
    assert results["nsfw"].nsfw is False


def simple_client() -> None:
    """alchemy: the simple client asks, waits and reads"""
    with ThreadPoolExecutor(1) as pool:
        worker = pool.submit(caption_next)
        status, _ = SIMPLE.alchemy_request(request("caption"))
        worker.result()
    assert status.forms[0].result.caption == "a green square"


def upscaled() -> None:
    """alchemy: an upscaled picture is uploaded and comes back as a link"""
    asked = call(request("RealESRGAN_x4plus"), AlchemyAsyncResponse)
    form = pop_form("RealESRGAN_x4plus")
    upload(form.r2_upload, webp(RED))
    done = submission(form.id_, {"RealESRGAN_x4plus": "R2"})
    assert call(done, AlchemyJobSubmitResponse).reward > 0
    result = status_of(asked).forms[0].result
    assert result.upscaler_used == "RealESRGAN_x4plus"
    assert shows(SIMPLE.download_image_from_url(result.url), RED)


def result_as_text() -> None:
    """alchemy: a result that is a text is refused, the object afterwards is taken"""
    call(request("caption"), AlchemyAsyncResponse)
    form = pop_form("caption")
    text = AlchemyJobSubmitRequest(apikey=OWNER, id=form.id_, result="a thing", state="ok")
    try:
        got = CLIENT.submit_request(text, AlchemyJobSubmitResponse)
        raise AssertionError(f"a text was taken: {got}")
    except AIHordePayloadValidationError:
        pass
    done = submission(form.id_, RESULTS["caption"])
    call(done, AlchemyJobSubmitResponse)
    refused(done, AlchemyJobSubmitResponse, "DuplicateGen")


def cancelled() -> None:
    """alchemy: a deleted request is not handed out, and an idle pop has null forms"""
    asked = call(request("caption", "nsfw"), AlchemyAsyncResponse)
    deleted = call(AlchemyDeleteRequest(id=asked.id_), AlchemyStatusResponse)
    assert {form.state for form in deleted.forms} == {"cancelled"}
    assert pop_form("caption", "nsfw") is None
    body = {"name": "sdk alchemist", "forms": ["caption", "nsfw"]}
    status, idle = wire("POST", "/interrogate/pop", OWNER, body)
    assert status == 200 and idle == {"forms": None, "skipped": {}}


def details() -> None:
    """alchemy: the worker's details are read after the work is done"""
    call(request("caption"), AlchemyAsyncResponse)
    caption_next()
    worker = SIMPLE.worker_details_by_name("sdk alchemist")
    assert worker.type_ == "interrogation" and worker.forms == ["caption"]
    assert worker.requests_fulfilled is not None and worker.requests_fulfilled > 0


TRIPS = [
    asked_answered_read,
    simple_client,
    upscaled,
    result_as_text,
    cancelled,
    details,
]
