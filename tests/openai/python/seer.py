"""A llama.cpp with a model that sees, as its documentation describes it: it names the colour in the
middle of each picture that it is shown.

    python seer.py

It prints `listening on URL`, and has the doors that a worker uses: who it is, what it can do, and its
own completions with pictures in the prompt.
"""

import base64
import io
import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from PIL import Image

MARKER = "<__media_of_the_seer__>"
FACTS = {
    "/v1/models": {"data": [{"id": "ordu/seer"}]},
    "/props": {
        "default_generation_settings": {"n_ctx": 4096},
        "modalities": {"vision": True, "audio": False},
        "media_marker": MARKER,
    },
}
COLOURS = {"red": (230, 40, 40), "blue": (30, 60, 220)}


def colour(file: str) -> str:
    picture = Image.open(io.BytesIO(base64.b64decode(file, validate=True)))
    assert picture.format == "JPEG", picture.format
    pixel = picture.getpixel((picture.width // 2, picture.height // 2))

    def distance(name: str) -> int:
        return sum(abs(one - other) for one, other in zip(pixel, COLOURS[name], strict=True))

    return min(COLOURS, key=distance)


class Doors(BaseHTTPRequestHandler):
    def answer(self, status: int, kind: str, body: str) -> None:
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body.encode())))
        self.end_headers()
        self.wfile.write(body.encode())

    def do_GET(self) -> None:
        fact = FACTS.get(self.path)
        self.answer(200 if fact else 404, "application/json", json.dumps(fact or {}))

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        prompt = body.get("prompt")
        shown = prompt["multimodal_data"] if isinstance(prompt, dict) else []
        # The real one refuses a wrong number of markers as well.
        if self.path != "/completion" or prompt["prompt_string"].count(MARKER) != len(shown):
            self.answer(400, "application/json", '{"error": {"type": "invalid_request_error"}}')
            return
        words = [{"content": f"{colour(file)} ", "stop": False} for file in shown]
        end = {"content": "", "stop": True, "stop_type": "eos"}
        events = [f"data: {json.dumps(event)}\n\n" for event in [*words, end]]
        self.answer(200, "text/event-stream", "".join(events))


server = ThreadingHTTPServer(("127.0.0.1", 0), Doors)
print(f"listening on http://127.0.0.1:{server.server_port}", flush=True)
server.serve_forever()
