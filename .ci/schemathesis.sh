#!/usr/bin/env bash
# Calls by the thousand, made from our own description of the API, against a server of our own.
#
#   .ci/schemathesis.sh ORDU        ORDU is the binary to serve with
#
# schemathesis is pinned in tests/schemathesis/requirements.txt and kept in the cache between runs.
# All of its checks are on, and it makes the same calls each time: as nobody, a user, a moderator.
. "$(dirname "$0")/beside.sh"
home=$PWD/tests/schemathesis
# Seconds until one run must be done.
limit=180

if ! have_python; then
    skip "schemathesis" "python3 with venv"
    exit
fi
tool=$(dirname "$(python_with "$home/requirements.txt")")
serve --no-rate-limits --json-registration --accounts-per-address 0

# Prints the key of a new user. Moderators are trusted, so that they may make teams and styles.
mint() {
    local body="{\"username\": \"$1\", \"oauth_id\": \"$1\", \"moderator\": $2, \"trusted\": $2, \"kudos\": 1000}"
    python3 - "$url/api/v2/dev/test-user" "$body" <<'PYTHON'
import json, sys, urllib.request
headers = {"Content-Type": "application/json"}
request = urllib.request.Request(sys.argv[1], sys.argv[2].encode(), headers)
print(json.load(urllib.request.urlopen(request))["api_key"])
PYTHON
}

failures=0
# Tries every operation as somebody.
try() {
    local who=$1
    shift
    echo "== as $who"
    if ! (cd "$work" && timeout "$limit" "$tool/st" --config-file "$home/schemathesis.toml" \
        run "$url/api/openapi.json" --no-color "$@") >"$work/$who.log" 2>&1; then
        failures=$((failures + 1))
        cat "$work/$who.log"
        return
    fi
    grep -A 2 '^Test cases' "$work/$who.log"
}

user=$(mint user false)
moderator=$(mint moderator true)
try nobody
# With a key, schemathesis takes it away and insists on 401 or 403; the protocol says 400, and 404 of
# an unknown key. What each operation says then is in the test of the privileges.
try user --exclude-checks ignored_auth -H "apikey: $user"
try moderator --exclude-checks ignored_auth -H "apikey: $moderator"
if grep -q 'panicked\|must not happen' "$work/server.log"; then
    say "the server complains:"
    grep 'panicked\|must not happen' "$work/server.log" >&2
    failures=$((failures + 1))
fi
echo "schemathesis: $((3 - failures)) passed, $failures failed"
[ "$failures" -eq 0 ]
