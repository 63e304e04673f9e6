# Sourced by tools/run, tools/test, tools/check and tools/install: what a fresh Debian machine lacks. POSIX sh.
#
# Sets ROOT, VENV and PYTHON; `setup_packages` and `setup_venv EXTRAS` install, each at once if nothing is missing.

ROOT=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd -P)
VENV=${STRATUM_VENV:-$ROOT/.venv}
PYTHON=$VENV/bin/python

# libisal2 is the fast coder, the compiler and the two headers build pyfuse3, which is published as source alone.
PACKAGES='python3 python3-venv python3-dev fuse3 libfuse3-dev pkg-config gcc libc6-dev libisal2'

# What tests use beside: real programs on the mount, an HTTP/2 client, the formatter of the manual.
TEST_PACKAGES='git rsync curl attr make vim groff-base restic borgbackup'

say() {
    printf '%s\n' "$*" >&2
}

die() {
    say "$(basename -- "$0"): $*"
    exit 1
}

missing_packages() {
    for package in $PACKAGES; do
        status=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null) || status=
        [ "$status" = installed ] || printf '%s ' "$package"
    done
}

# As root: name what is missing and install it. Otherwise: one line to give to root, and stop.
setup_packages() {
    command -v dpkg-query >/dev/null || die "this is no Debian: install what corresponds to $PACKAGES, then .venv by hand"
    missing=$(missing_packages)
    [ -n "$missing" ] || return 0
    install="apt-get install -y --no-install-recommends ${missing% }"
    if [ "$(id -u)" -ne 0 ]; then
        say "Debian packages are missing. Give this line to root, then come back:"
        say "    apt-get update && $install"
        exit 1
    fi
    say "installing Debian packages: ${missing% }"
    export DEBIAN_FRONTEND=noninteractive
    # A fresh machine or container has no lists yet; an old one may have lists that name vanished files.
    apt-get update -qq || die "apt-get update failed: is the network there?"
    # shellcheck disable=SC2086
    apt-get install -qq -y --no-install-recommends $missing >/dev/null || die "failed: $install"
}

# A virtual environment with the versions of tools/requirements.lock; $1 names the extras, as in "clients,test".
setup_venv() {
    wanted="$1 $(cat "$ROOT/pyproject.toml" "$ROOT/tools/requirements.lock" | cksum)"
    stamp=$VENV/.installed
    # Also what was installed with more extras is enough, and asked for again it is not taken away.
    for done in "$wanted" "clients,test ${wanted#* }"; do
        if [ -x "$PYTHON" ] && [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$done" ]; then
            return 0
        fi
    done
    if ! [ -x "$PYTHON" ] || ! "$PYTHON" -m pip --version >/dev/null 2>&1; then
        python3 -m venv --clear "$VENV" || die "python3 -m venv failed"
    fi
    say "installing Python packages into $VENV (a minute or two)"
    "$PYTHON" -m pip install --quiet --disable-pip-version-check --no-cache-dir --constraint "$ROOT/tools/requirements.lock" \
        --editable "$ROOT[$1]" || die "pip install failed: is the network there?"
    printf '%s' "$wanted" >"$stamp"
}

# One more than there are cores, for the longest tests wait a third of their time; but no more than four: what tests
# start and mount is limited by more than cores.
run_tests() {
    "$PYTHON" -m pytest --numprocesses "$(($(nproc) + 1))" --maxprocesses 4 --dist worksteal "$@"
}
