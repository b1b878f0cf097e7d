#!/bin/bash
# Installs what the tests need and runs them. The one command for all tests:
#
#     bash test/run.sh [LAYER...] [arguments of pytest]
#
# LAYER is one or more of lint, unit, render, host; without one, all of them run. ``bench`` is none
# of them: it measures, as test/bench/__main__.py says.
#
#     SALT_VERSION        the Salt to test with; by default the last of test/salt_versions.txt, and
#                         each of them for render and for what of unit calls Salt; tests of
#                         host choose others too
#     ORTHANC_TEST_CACHE  where the roots of the test hosts are kept
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

mapfile -t versions < test/salt_versions.txt
[ -z "${SALT_VERSION:-}" ] || versions=("$SALT_VERSION")
layers=()
while [[ ${1:-} =~ ^(lint|unit|render|host|bench)$ ]]; do
  layers+=("$1")
  shift
done
[ ${#layers[@]} -gt 0 ] || layers=(lint unit render host)
wants() { [[ " ${layers[*]} " == *" $1 "* ]]; }
say() { printf '== %s\n' "$*"; }

# Packages of the machine, where they are missing and can be installed.
packages=(gcc git libc6-dev python3 python3-dev python3-venv)
wants host || wants bench && packages+=(curl dcmtk iproute2 mmdebstrap nftables openssh-client systemd-container util-linux)
missing=()
for package in "${packages[@]}"; do
  [ "$(dpkg-query -Wf '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] \
    || missing+=("$package")
done
if [ ${#missing[@]} -gt 0 ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
  say "Installing ${missing[*]}"
  export DEBIAN_FRONTEND=noninteractive
  apt-get update -qq
  apt-get install -qq --no-install-recommends "${missing[@]}" >/dev/null
fi

# bring VERSION: install the tools of this version of Salt.
bring() {
  local venv=test/.venv-$1
  [ -e "$venv/installed" ] && [ ! test/requirements.txt -nt "$venv/installed" ] && return
  say "Installing Salt $1 and the test tools into $venv"
  python3 -m venv "$venv"
  "$venv/bin/pip" install --quiet --disable-pip-version-check \
    "salt==$1" -r test/requirements.txt
  touch "$venv/installed"
}

# use VERSION: take these tools.
use() {
  export SALT_VERSION=$1
  venv=test/.venv-$1
}

# run WORKERS ARGUMENTS...: tests, so many side by side.
run() {
  say "Tests with Salt $SALT_VERSION: ${*:2}"
  "$venv/bin/python" -m pytest --capture=no --numprocesses="$1" "${@:2}" "${arguments[@]}"
}

arguments=("$@")
folders=()
for layer in unit render; do
  wants "$layer" && folders+=("test/$layer")
done

# Side by side, because they wait for their downloads.
[ ${#folders[@]} -gt 0 ] || versions=("${versions[-1]}")
bringing=()
for version in "${versions[@]}"; do
  bring "$version" &
  bringing+=($!)
done
for pid in "${bringing[@]}"; do
  wait "$pid"
done

if wants lint; then
  use "${versions[-1]}"
  say 'Lint: ruff'
  "$venv/bin/ruff" check .
  "$venv/bin/ruff" format --check .
fi
if [ ${#folders[@]} -gt 0 ]; then
  for version in "${versions[@]}"; do
    use "$version"
    # What calls nothing of Salt is the same with each.
    only=()
    [ "$version" = "${versions[-1]}" ] || only=(-m "render or each_salt")
    run "$(nproc)" "${only[@]}" "${folders[@]}"
  done
fi
if wants host; then
  use "${versions[-1]}"
  # Hosts wait now and then. Files as a whole, because the tests of one share a host; begun in their
  # order.
  run 4 --dist=loadfile --no-loadscope-reorder test/host
fi
if wants bench; then
  use "${versions[-1]}"
  "$venv/bin/python" test/bench "${arguments[@]}"
fi
