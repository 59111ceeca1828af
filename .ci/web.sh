#!/usr/bin/env bash
# The web page in a real browser, against a horde of ours with its built-in models.
#
#   .ci/web.sh ORDU        ORDU is the binary that is server and worker
#
# What is missing (Chromium, Node) comes from Debian's packages where the caller is root; otherwise the
# check is skipped, which fails under ORDU_TEST_NO_SKIP=1. Screenshots are kept where ORDU_WEB_OUT says.
. "$(dirname "$0")/beside.sh"
trips=$PWD/tests/web
limit=900

have_chromium() { have 'chromium --version' chromium; }

if have_node && have_chromium; then
    home=$(node_with "$trips")
    out=${ORDU_WEB_OUT:-$cache/out}
    rm -rf "$out"
    mkdir -p "$out"
    run browser node "$trips/trips.mjs" "$ordu" "$(command -v chromium)" "$home" "$out"
    cp "$out/server.log" "$work/server.log" 2>/dev/null || true
    say "screenshots lie in $out/screenshots"
else
    skip "the web page" "chromium, node and npm" || failures=1
fi

tell_trips
