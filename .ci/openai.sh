#!/usr/bin/env bash
# OpenAI's own clients, as published, against a horde of ours with its built-in models.
#
#   .ci/openai.sh ORDU        ORDU is the binary that is server and worker
#
# The clients are pinned in tests/openai/python/requirements.txt and tests/openai/node/package.json.
# What is missing of Python and Node comes from Debian's packages where the caller is root; otherwise
# that client is skipped, which fails under ORDU_TEST_NO_SKIP=1.
. "$(dirname "$0")/beside.sh"
trips=$PWD/tests/openai

start server "$ordu" up --listen 127.0.0.1:0 --data "$work/data"
url=$(line_of server "$process" '^listening on [^ ]+')

if have_python; then
    python=$(python_with "$trips/python/requirements.txt")
    run python "$python" -B "$trips/python/trips.py" "$url"
else
    skip "the client for Python" "python3 with venv" || failures=1
fi
if have_node; then
    home=$(node_with "$trips/node")
    run node node "$trips/node/trips.mjs" "$url" "$home"
else
    skip "the client for Node" "node and npm" || failures=1
fi

tell_trips
