#!/usr/bin/env bash
# Is the README enough on a minimal Debian? Creates one, installs what the README and the Makefile name,
# and runs the commands as a plain user whose home has a space and a non-ASCII letter in its path.
#
#   sudo -E tests/bare_machine.sh [FOLDER]   # where the system is made, a path without spaces; else /tmp
#
#   COMMANDS="leaderboard test"              # make targets, in this order
#   SUITE=bookworm MIRROR=http://...         # for debootstrap; without MIRROR its own default
#   BIND="/wheels /etc/ssl/certs"            # folders that the plain user sees too, read-only
#
# The commit checked out is cloned, so that only tracked files are there. PIP_* and proxy variables are
# handed in; what they point to, such as wheels or certificates, belongs in BIND. Needs root, debootstrap
# and git. All of it is removed at the end, also after an interrupt.
#
# Prints one line per step with its seconds, then sizes, the end of the board, and what git finds changed.
# Exits 1 after the last lines of a step that fails, or if a tracked file is changed or a new one there.
set -euo pipefail
cd "$(dirname "$0")/.."

COMMANDS=${COMMANDS-leaderboard test} SUITE=${SUITE:-bookworm} MIRROR=${MIRROR:-} BIND=${BIND:-}
[ "$(id -u)" = 0 ] || { echo "run this as root: it makes a system in a folder"; exit 1; }
command -v debootstrap >/dev/null || { echo "debootstrap is missing: run 'apt-get install debootstrap'"; exit 1; }
readme=$(sed -n 's/^sudo apt-get install -y \([^#]*[^# ]\).*/\1/p' README.md)
makefile=$(sed -n 's/^GL_PACKAGES := //p' Makefile)
[ -n "$readme" ] && [ -n "$makefile" ] || { echo "no packages are named in README.md or Makefile"; exit 1; }
[[ " $COMMANDS " != *" test "* ]] || makefile+=" $(sed -n 's/^BROWSER_PACKAGES := //p' Makefile)"
mapfile -t given < <(env | grep -iE '^(PIP_[a-z_]+|[a-z]+_proxy)=')

system=$(mktemp -d -p "${1:-/tmp}" bare.XXXXXX)
chmod 755 "$system" # the plain user's root folder
home="/home/Zoë Müller"
log=$(mktemp)
running=''
clean() {
    if [ -n "$running" ]; then kill -KILL "$running"; wait "$running" || sleep 1; fi 2>/dev/null
    rm -rf --one-file-system "$system" "$log"
}
trap clean EXIT
trap 'exit 130' INT TERM HUP

# A step's mounts and processes are its own and end with it, however it ends.
step() { # NAME COMMAND...
    local begin=$SECONDS code=0
    unshare --mount --pid --fork --kill-child --mount-proc "${@:2}" >"$log" 2>&1 </dev/null &
    running=$!
    wait "$running" || code=$?
    running=''
    printf '%5d s  %s\n' $((SECONDS - begin)) "$1"
    [ "$code" = 0 ] || { tail -n 30 "$log"; echo "FAILED with $code: $1"; exit 1; }
}
inside() { # USER HOME PATH FOLDERS COMMAND: a step in the system
    step "$1: $5" bash -euc '
        system=$1 user=$2 home=$3 path=$4 folders=$5 command=$6
        for folder in /proc /sys; do mount --rbind "$folder" "$system$folder"; done
        mount -t tmpfs tmpfs "$system/dev/shm"
        for folder in $folders; do
            mkdir -p "$system$folder"
            mount --bind "$folder" "$system$folder"
            mount -o remount,bind,ro "$system$folder"
        done
        # No exec: who changes user is no longer killed with the parent, but this shell is, and all with it.
        chroot --userspec="$user:$user" "$system" env -i "${@:7}" USER="$user" HOME="$home" PATH="$path" \
            sh -euc "if [ -d ~/an8Flower ]; then cd ~/an8Flower; fi; $command" || exit
    ' - "$system" "$@" "${given[@]}" DEBIAN_FRONTEND=noninteractive
}
root() { inside root /root /usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "" "$1"; }
plain() { inside plain "$home" /usr/local/bin:/usr/bin:/bin "$BIND" "$1"; }

step "debootstrap $SUITE" debootstrap --variant=minbase "$SUITE" "$system" ${MIRROR:+"$MIRROR"}
cp -L /etc/resolv.conf /etc/hosts "$system/etc/"
root "apt-get update"
root "apt-get install -y git ca-certificates $readme"
root "apt-get install -y --no-install-recommends $makefile"
root "useradd --create-home --home-dir '$home' plain"
git clone --quiet --no-hardlinks . "$system$home/an8Flower"
root "chown -R plain: '$home'"

board=''
for target in $COMMANDS; do
    plain "make $target"
    [ "$target" != leaderboard ] || board=$(tail -n 30 "$log")
done
plain ".venv/bin/an8flower --help"
plain ".venv/bin/an8flower generate --variant part-2c --viewpoints 1 --root /tmp/x"

environment="$system$home/an8Flower/.venv"
echo "$(grep -c '^Status: install ok' "$system/var/lib/dpkg/status") packages of the system," \
    "$(find "$environment" -name '*.dist-info' | wc -l) of Python;" \
    "$(du -sm "$system" | cut -f1) MB in all, $(du -sm "$environment" | cut -f1) MB of them .venv"
[ -z "$board" ] || echo "$board"
plain "git status --porcelain"
[ ! -s "$log" ] || { echo "changed:"; head -n 20 "$log"; exit 1; }
