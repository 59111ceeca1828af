#!/usr/bin/env bash
# Round trips of the published clients, unmodified, against a server of our own.
#
#   .ci/sdk.sh ORDU        ORDU is the binary to serve with
#
# The clients are pinned in tests/sdk/python/requirements.txt and tests/sdk/node/package.json; they
# are kept in the cache between runs. What is missing of Python and Node comes from Debian's
# packages where the caller is root; otherwise that client is skipped, which fails under
# ORDU_TEST_NO_SKIP=1.
. "$(dirname "$0")/beside.sh"
trips=$PWD/tests/sdk
serve

if have_python; then
    python=$(python_with "$trips/python/requirements.txt")
    run python env AI_HORDE_URL="$url/api/" "$python" -B "$trips/python/round_trips.py"
else
    skip "the client for Python" "python3 with venv" || failures=1
fi
if have_node; then
    home=$(node_with "$trips/node")
    run node node "$trips/node/round_trips.mjs" "$url" "$home"
else
    skip "the client for Node" "node and npm" || failures=1
fi

tell_trips
