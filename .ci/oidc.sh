#!/usr/bin/env bash
# An OpenID provider for the tests of signing in: installs the version that is pinned in tests/oidc
# and prints the folder that has it. It is kept in the cache between runs.
#
# Exits 3 where Node is missing and cannot be installed: the tests are skipped then, which fails
# under ORDU_TEST_NO_SKIP=1.
set -euo pipefail
shopt -s inherit_errexit
cd "$(dirname "$0")/.."
pins=$PWD/tests/oidc/package-lock.json
cache=${ORDU_CI_CACHE:-$HOME/.cache/ordu-ci}/oidc

have() { node --version >/dev/null 2>&1 && npm --version >/dev/null 2>&1; }

if ! have; then
    if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
        echo "oidc.sh: node and npm are missing" >&2
        exit 3
    fi
    {
        apt-get update -qq &&
            DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends nodejs npm
    } >&2 || exit 3
    hash -r
    have || exit 3
fi

mkdir -p "$cache"
# Tests run at the same time; one of them installs.
exec 9>"$cache/lock"
flock 9
home=$cache/$({ node --version && cat "$pins"; } | sha256sum | cut -c1-16)
if [ ! -e "$home/ready" ]; then
    rm -rf "$home"
    mkdir -p "$home"
    cp tests/oidc/package.json "$pins" "$home"
    npm ci --prefix "$home" --silent --no-audit --no-fund >&2
    touch "$home/ready"
fi
echo "$home"
