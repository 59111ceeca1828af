"""A program that speaks KoboldAI's API as KoboldCpp does, in front of llama.cpp.

    python kobold.py --model FILE.gguf --name NAME [--port PORT] [--context TOKENS] [--pause SECONDS] [--no-stream]

It has the doors of KoboldCpp's public API documentation that a worker uses: who it is, its limits,
texts at once, texts as events, looking at a text by its key, aborting one. One text at a time, as
KoboldCpp: who comes meanwhile is told that it is busy. `--pause` is waited after each token, so that a
tiny model is as slow as a large one. With `--no-stream` it lacks the door for
events, as old versions do.
"""

import argparse
import asyncio
import json
import threading
import time

import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, StreamingResponse
from llama_cpp import Llama

arguments = argparse.ArgumentParser()
arguments.add_argument("--model", required=True)
arguments.add_argument("--name", required=True)
arguments.add_argument("--port", type=int, default=0)
arguments.add_argument("--context", type=int, default=512)
arguments.add_argument("--pause", type=float, default=0)
arguments.add_argument("--no-stream", action="store_true")
arguments = arguments.parse_args()

llama = Llama(arguments.model, n_ctx=arguments.context, n_threads=1, verbose=False)
app = FastAPI(docs_url=None, redoc_url=None)
busy = threading.Lock()
BUSY = {"detail": {"msg": "Server is busy; please try again later.", "type": "service_unavailable"}}


class Now:
    """The text that is being written."""

    key = None
    text = ""
    aborted = False


def number(payload, name, usual):
    value = payload.get(name)
    return usual if value is None else value


def pieces(payload):
    """Yields (piece, reason): the text token by token, then why it ended."""
    Now.key, Now.text, Now.aborted = payload.get("genkey"), "", False
    stops = payload.get("stop_sequence") or []
    trims = number(payload, "trim_stop", True)
    length = number(payload, "max_length", 80)
    context = min(number(payload, "max_context_length", arguments.context), arguments.context)
    prompt = llama.tokenize(payload["prompt"].encode())[-max(1, context - length) :]
    stream = llama.create_completion(
        prompt,
        max_tokens=length,
        temperature=number(payload, "temperature", 0.75),
        top_k=number(payload, "top_k", 100),
        top_p=number(payload, "top_p", 0.92),
        min_p=number(payload, "min_p", 0),
        typical_p=number(payload, "typical", 1),
        repeat_penalty=number(payload, "rep_pen", 1),
        seed=payload.get("sampler_seed"),
        stream=True,
    )
    sent = 0
    reason = "length"
    for event in stream:
        time.sleep(arguments.pause)
        choice = event["choices"][0]
        Now.text += choice["text"]
        reason = choice["finish_reason"] or reason
        met = [Now.text.find(stop) for stop in stops if stop in Now.text]
        if met:
            if trims:
                Now.text = Now.text[: min(met)]
            reason = "stop"
        elif trims and any(
            Now.text.endswith(stop[:size]) for stop in stops for size in range(1, len(stop))
        ):
            # What may become a stop sequence is held back.
            continue
        if len(Now.text) > sent:
            yield Now.text[sent:], None
            sent = len(Now.text)
        if met or Now.aborted:
            break
    if len(Now.text) > sent:
        yield Now.text[sent:], None
    yield "", reason


async def in_a_thread(steps):
    """The same, without holding up who asks meanwhile."""
    loop = asyncio.get_running_loop()
    while (step := await loop.run_in_executor(None, next, steps, None)) is not None:
        yield step


@app.get("/api/v1/model")
@app.get("/api/latest/model")
async def model():
    return {"result": f"koboldcpp/{arguments.name}"}


@app.get("/api/extra/version")
async def version():
    return {"result": "KoboldCpp", "version": "2025.06.03", "protected": False}


@app.get("/api/extra/true_max_context_length")
@app.get("/api/v1/config/max_context_length")
async def context():
    return {"value": arguments.context}


@app.get("/api/v1/config/max_length")
async def length():
    return {"value": arguments.context // 2}


@app.post("/api/v1/generate")
@app.post("/api/latest/generate")
async def generate(request: Request):
    payload = await request.json()
    if not busy.acquire(blocking=False):
        return JSONResponse(BUSY, 503)
    try:
        reason = None
        async for _, reason in in_a_thread(pieces(payload)):
            pass
        print("wrote at once", flush=True)
        return {"results": [{"text": Now.text, "finish_reason": reason}]}
    finally:
        Now.key = None
        busy.release()


async def stream(request: Request):
    payload = await request.json()
    if not busy.acquire(blocking=False):
        return JSONResponse(BUSY, 503)

    async def events():
        try:
            async for token, reason in in_a_thread(pieces(payload)):
                data = json.dumps({"token": token, "finish_reason": reason})
                yield f"event: message\ndata: {data}\n\n"
            print("wrote as a stream", flush=True)
        finally:
            Now.key = None
            busy.release()

    return StreamingResponse(events(), media_type="text/event-stream")


if not arguments.no_stream:
    app.post("/api/extra/generate/stream")(stream)


@app.post("/api/extra/generate/check")
async def check(request: Request):
    payload = await request.json()
    known = Now.key is not None and payload.get("genkey") == Now.key
    print("was looked at", flush=True)
    return {"results": [{"text": Now.text if known else ""}]}


@app.post("/api/extra/abort")
async def abort(request: Request):
    payload = await request.json()
    known = Now.key is not None and payload.get("genkey") == Now.key
    Now.aborted = Now.aborted or known
    return {"success": str(known).lower()}


uvicorn.run(app, host="127.0.0.1", port=arguments.port, log_level="info")
