#!/bin/bash
# Makes this machine an Orthanc server, without a Salt master:
#
#     bash orthanc/masterless.sh [PILLAR FILE] [further arguments of salt-call, such as test=True]
#
# Uses the salt-call that is installed, or brings Salt into a folder of its own. Without a pillar
# file it makes one for trying out. Applied again, it changes only what is not as the pillar asks.
set -euo pipefail

formula=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
venv=/opt/orthanc-formula/salt
# Salt's own folders of this script, apart from those of a minion that may be installed as well.
state=/var/lib/orthanc-formula
default_pillar=/etc/orthanc-formula/orthanc.sls
salt_versions='salt>=3006,<3009'

say() { printf '%s\n' "$*"; }
fail() { say "$*" >&2; exit 1; }

# Packages that a virtual environment for Salt needs: one of Salt's own requirements, timelib,
# comes as C source only.
install_packages() {
  if command -v apt-get >/dev/null; then
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq || fail 'apt-get update failed; see above.'
    apt-get install -qq --no-install-recommends "$@" >/dev/null
  elif command -v zypper >/dev/null; then
    zypper --non-interactive --quiet install --no-recommends "$@" >/dev/null
  else
    fail 'This script knows apt-get and zypper only. Install Salt, then call it again.'
  fi
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
  rm -rf "$venv"
  python3 -m venv "$venv"
  "$venv/bin/pip" install --quiet --disable-pip-version-check "$salt_versions"
  say "Installed $("$salt_call" --version)."
}

# A pillar for trying out: one administrator with a password that only this machine knows.
make_pillar() {
  umask 077
  mkdir -p "$(dirname "$default_pillar")"
  password=$(od -An -N12 -tx1 /dev/urandom | tr -d ' \n')
  cat > "$default_pillar" <<PILLAR
# The pillar of this machine's Orthanc, made for trying out. All keys: pillar.example in
# $formula
orthanc:
  users:
    admin:
      password: '$password'
      role: admin
  # Let other machines in, and switch the DICOM server on:
  # remote_access: true
  # dicom:
  #   enabled: true
  #   aet: ORTHANC
PILLAR
  umask 022
  say "No pillar file was given. Made one for trying out: $default_pillar"
}

[ "$(id -u)" = 0 ] || fail "This needs root: sudo bash $0 $*"
pillar=$default_pillar
if [ $# -gt 0 ] && [[ $1 != *=* ]]; then
  pillar=$1
  shift
  [ -f "$pillar" ] || fail "There is no file $pillar."
fi
if [ "$pillar" != "$default_pillar" ] && ! grep -q orthanc "$pillar"; then
  fail "$pillar has no key orthanc: at its top, below which all settings stand."
fi
[ "$pillar" != "$default_pillar" ] || [ -f "$pillar" ] || make_pillar
bring_salt

# A pillar tree of this one file, readable by root only, for as long as this script runs.
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/pillar" "$work/roots" "$state"
chmod 700 "$state"
cp "$pillar" "$work/pillar/orthanc.sls"
printf "base:\n  '*': [orthanc]\n" > "$work/pillar/top.sls"
for part in orthanc _modules _states; do
  ln -s "$formula/$part" "$work/roots/$part"
done
cat > "$work/minion" <<MINION
file_client: local
file_roots: {base: ['$work/roots']}
pillar_roots: {base: ['$work/pillar']}
root_dir: $state
log_file: $state/log
log_level_logfile: warning
fileserver_followsymlinks: true
fileserver_list_cache_time: 0
MINION

say "Applying the formula with the pillar $pillar."
code=0
"$salt_call" --local --config-dir="$work" --retcode-passthrough --state-output=changes \
  state.apply orthanc sync_mods=all "$@" | tee "$work/output" || code=$?
if [ "$code" != 0 ]; then
  fail "
Not everything could be done; what failed stands above. The pillar is $pillar.
Call this again when it is put right: bash $0 $pillar"
fi
if [[ " $* " == *' test=True '* ]]; then
  exit 0
fi

"$salt_call" --local --config-dir="$work" --out=json orthanc.access > "$work/access"
access() { sed -n "s/.*\"$1\": \"\(.*\)\",*$/\1/p" "$work/access"; }

say
if grep -q '^Succeeded: .*changed=' "$work/output"; then
  say 'Orthanc serves with the pillar as it is now.'
else
  say 'Nothing changed: Orthanc already serves with the pillar as it is.'
fi
users=$(access users)
say "
Open        $(access url)/   (reachable from $(access 'reachable from'))
Log in      ${users:-without a user: anybody on this host may}
            ${users:+passwords: orthanc:users in $pillar}
DICOM       $(access dicom)
Edit next   $pillar, then call this again: bash $0 $pillar
            All keys with their meaning: $formula/pillar.example"
