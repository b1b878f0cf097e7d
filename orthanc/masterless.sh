#!/bin/bash
# Makes this machine an Orthanc server, without a Salt master:
#
#     bash orthanc/masterless.sh [PILLAR FILE] [further arguments of salt-call, such as test=True]
#     bash orthanc/masterless.sh --restore REPOSITORY PASSWORD-FILE [HOST]
#
# The second makes an empty machine the server of a backup: pillar, configuration and images. The
# repository is an address or a folder, or a file with the address, where that has a password in it.
#
# Uses the salt-call that is installed, or brings Salt into a folder of its own; puts a copy of the
# formula beside that, and the program orthanc-formula, which does the rest. It is no state that
# installs the program: it is there for the run that fails, and for what comes after it.
set -euo pipefail

formula=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# All that is brought here, but for packages; `orthanc-formula remove` takes it away again.
own=/opt/orthanc-formula
program=/usr/local/sbin/orthanc-formula
venv=$own/salt
copy=$own/formula
state=/var/lib/orthanc-formula
run=/run/orthanc-formula
salt_versions='salt>=3006,<3009'

say() { printf '%s\n' "$*"; }
fail() { say "$*" >&2; exit 1; }

# Prints a point now and then for as long as a command runs.
patiently() {
  (while sleep 5 && kill -0 $$ 2>/dev/null; do printf .; done) >&2 9>&- &
  local points=$! code=0
  "$@" 9>&- || code=$?
  kill "$points" 2>/dev/null || :
  return "$code"
}

# Packages that a virtual environment for Salt needs: one of Salt's own requirements, timelib,
# comes as C source only.
install_packages() {
  sh "$formula/orthanc/command/packages.sh" > "$state/before"
  if command -v apt-get >/dev/null; then
    export DEBIAN_FRONTEND=noninteractive
    patiently apt-get update -qq || fail 'apt-get update failed; see above.'
    patiently apt-get install -qq --no-install-recommends "$@" >/dev/null ||
      fail 'apt-get could not install what Salt needs; see above.'
  elif command -v zypper >/dev/null; then
    patiently zypper --non-interactive --quiet install --no-recommends "$@" >/dev/null ||
      fail 'zypper could not install what Salt needs; see above.'
  else
    fail 'This script knows apt-get and zypper only. Install Salt, then call it again.'
  fi
}

# Notes which packages came, also those of a run that was ended before it was done.
note_packages() {
  [ -f "$state/before" ] || return 0
  sh "$formula/orthanc/command/packages.sh" | LC_ALL=C comm -13 "$state/before" - >> "$state/for-salt"
  rm "$state/before"
}

bring_salt() {
  if command -v salt-call >/dev/null; then
    salt_call=$(command -v salt-call)
    say "Using the installed $("$salt_call" --version)."
    return
  fi
  salt_call=$venv/bin/salt-call
  [ -x "$salt_call" ] && "$salt_call" --version >/dev/null 2>&1 && return
  say "There is no salt-call here. Bringing Salt into $venv; this takes a minute or two."
  if command -v zypper >/dev/null && ! command -v apt-get >/dev/null; then
    install_packages python3 python3-devel gcc
  else
    install_packages python3 python3-venv python3-dev gcc libc6-dev ca-certificates
  fi
  note_packages
  rm -rf "$venv"
  python3 -m venv "$venv" || fail 'Python could not make a folder for Salt; see above.'
  # Python compiles what is used, which is a small part of it.
  PIP_CACHE_DIR=${PIP_CACHE_DIR-$own/pip} patiently \
    "$venv/bin/pip" install --quiet --disable-pip-version-check --no-compile "$salt_versions" ||
    fail 'pip could not bring Salt; see above. Nothing of Orthanc was changed. Call this again.'
  rm -rf "$own/pip"
  say "Installed $("$salt_call" --version)."
}

# Puts a copy of the formula in place, so that the program works when this folder is gone.
bring_formula() {
  [ "$formula" != "$copy" ] || return 0
  local said
  rm -rf "$copy.new"
  said=$(mkdir "$copy.new" 2>&1 &&
    cp -r "$formula"/{orthanc,_modules,_states,pillar.example} "$copy.new" 2>&1) || {
    rm -rf "$copy.new"
    fail "The formula could not be copied; nothing of Orthanc was changed: ${said%%$'\n'*}"
  }
  find "$copy.new" -name __pycache__ -prune -exec rm -rf {} +
  if diff -r --exclude=__pycache__ "$copy.new" "$copy" >/dev/null 2>&1; then
    rm -rf "$copy.new"
    return
  fi
  rm -rf "$copy"
  mv "$copy.new" "$copy"
}

# Writes the program: one line that calls the copy with the Salt of this run.
bring_program() {
  local each python=''
  for each in "$venv/bin/python" python3 python3.1{3,2,1,0} /opt/saltstack/salt/bin/python3; do
    if "$each" -c 'import sys; sys.exit(sys.version_info < (3, 8))' 2>/dev/null; then
      python=$(command -v "$each")
      break
    fi
  done
  [ -n "$python" ] || fail 'No Python of this machine is 3.8 or newer. Install one: package python3'
  mkdir -p "${program%/*}"
  cat > "$program.new" <<PROGRAM || fail "The program $program could not be written; see above."
#!/bin/sh
# The formula on this machine, with the Salt of the last run of orthanc/masterless.sh, which wrote
# this.
exec $python -I -B $copy/orthanc/command $salt_call "\$@"
PROGRAM
  chmod 755 "$program.new"
  mv "$program.new" "$program"
}

# What it says of itself stands above, and needs nothing to be brought.
case ${1-} in -h | --help) sed -n '2,/^set/s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; exit ;; esac
[ "$(id -u)" = 0 ] || fail "This needs root: sudo bash $0 $*"
umask 022
mkdir -p "$own" "$run" "$state"
chmod 700 "$run" "$state"
exec 9<>"$run/lock"
flock -n 9 || fail "Another run goes on: process $(cat "$run/lock"), or its Salt where that was" \
  'killed. Wait until it has ended.'
echo $$ > "$run/lock"
note_packages
bring_salt
bring_formula
bring_program
exec 9>&-
[ $# -gt 0 ] || set -- apply
exec "$program" "$@"
