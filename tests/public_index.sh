#!/usr/bin/env bash
# Do the README's installations resolve with pip's default index alone, and with the pinned versions?
#
#   tests/public_index.sh                      # python3.11, python3.12 and python3.13 of PATH
#   tests/public_index.sh python3.12 /path/to/python
#
# Nothing is installed: pip resolves with --dry-run in a fresh environment per interpreter. Settings
# that add packages or constraints are left out; PIP_INDEX_URL and PIP_CERT stay. fast-deps reads the
# metadata out of the wheels, so a few megabytes are loaded instead of gigabytes, if the index allows
# range requests.
#
# Prints one line per interpreter and installation: 'resolved N packages', or 'FAILED' and pip's last
# lines. Missing interpreters are 'not tested'. Exits 1 if anything failed or no interpreter was found.
set -euo pipefail
cd "$(dirname "$0")/.."

[ $# -gt 0 ] || set -- python3.11 python3.12 python3.13
installations=("-e ." "-e .[dev]" "--no-deps quantus cachetools") # as in the Makefile

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/tmp" "$work/source"
# A copy of the project files, because pip writes next to them.
cp pyproject.toml constraints.txt README.md LICENSE "$work/source"

export TMPDIR="$work/tmp" PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
export PIP_CONFIG_FILE=/dev/null PIP_FIND_LINKS='' PIP_EXTRA_INDEX_URL='' PIP_CONSTRAINT=''
unset PIP_NO_INDEX PIP_PRE PIP_REQUIREMENT PYTHONPATH

cd "$work/source"
tested=0
failed=0
for python in "$@"; do
    if ! "$python" -c "" 2>/dev/null; then
        echo "$python: not tested, it does not run here"
        continue
    fi
    tested=$((tested + 1))
    rm -rf "$work/venv"
    "$python" -m venv "$work/venv"
    pip="$work/venv/bin/python -m pip"
    $pip install --quiet --upgrade pip
    version=$("$work/venv/bin/python" -c 'import platform; print(platform.python_version())')
    for installation in "${installations[@]}"; do
        # shellcheck disable=SC2086  # an installation is several words
        if $pip install --dry-run --ignore-installed --use-feature=fast-deps \
            --report "$work/report.json" -c constraints.txt $installation >"$work/log" 2>&1; then
            count=$("$work/venv/bin/python" -c \
                'import json, sys; print(len(json.load(open(sys.argv[1]))["install"]))' "$work/report.json")
            echo "Python $version: pip install $installation: resolved $count packages"
        else
            failed=$((failed + 1))
            echo "Python $version: pip install $installation: FAILED"
            grep -v '^ *$' "$work/log" | tail -n 12 | sed 's/^/    /'
        fi
    done
done
[ "$tested" -gt 0 ] && [ "$failed" -eq 0 ]
