"""Round trips of the published Python SDK, `horde_sdk`, against a running server.

    AI_HORDE_URL=http://127.0.0.1:7001/api/ python round_trips.py [WORD]

With a WORD, only the trips that have it in their name. The server must mint test users
(`ORDU_TEST_APIKEYS=1`), and nobody else may use it. The package is used as published; where it
hides what was on the wire, `horde.wire` looks for itself. Each trip is a function whose
documentation is its name; it leaves the queues empty.
"""

import sys
import time
import traceback
from pathlib import Path

import alchemy
import image
import text
import together
import views

TRIPS = image.TRIPS + text.TRIPS + alchemy.TRIPS + together.TRIPS + views.TRIPS
HERE = Path(__file__).parent
# Between trips, in seconds: an address may ask ten times a second at most.
PAUSE = 0.2


def where(fault: Exception) -> str:
    """The lines of ours that led to the failure, the trip's own first."""
    frames = traceback.extract_tb(fault.__traceback__)[1:]
    ours = [frame for frame in frames if Path(frame.filename).parent == HERE]
    return "".join(
        f"    {Path(frame.filename).name}:{frame.lineno}: {frame.line}\n" for frame in ours
    )


def main() -> int:
    word = sys.argv[1] if len(sys.argv) > 1 else ""
    named = [(trip.__doc__ or "", trip) for trip in TRIPS]
    chosen = [(name, trip) for name, trip in named if word in name]
    failed = 0
    for name, trip in chosen:
        time.sleep(PAUSE)
        try:
            trip()
            print(f"ok python {name}", flush=True)
        except Exception as fault:
            failed += 1
            print(f"FAILED python {name}\n{where(fault)}    {fault!r}", flush=True)
    print(f"python: {len(chosen) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
