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

# Then a worker that looks at pictures, in front of a program that does. Before, it would be in the way of
# those who take any model.
if [ -n "${python:-}" ]; then
    start seer "$python" -B "$trips/python/seer.py"
    seer=$(line_of seer "$process" '^listening on [^ ]+')
    start scribe "$ordu" work --data "$work/data" --scribe --name seer --engine "openai=$seer"
    run python "$python" -B "$trips/python/sight.py" "$url"
    if [ -n "${home:-}" ]; then
        run node node "$trips/node/sight.mjs" "$url" "$home"
    fi
fi

tell_trips
