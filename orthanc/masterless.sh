#!/bin/bash
# Makes this machine an Orthanc server, without a Salt master:
#
#     bash orthanc/masterless.sh [PILLAR FILE] [further arguments of salt-call, such as test=True]
#     bash orthanc/masterless.sh FUNCTION [ARGUMENTS]
#     bash orthanc/masterless.sh --restore REPOSITORY PASSWORD-FILE [HOST]
#
# The second line calls a function, such as orthanc.access or state.apply, in the place of salt-call.
# The third makes an empty machine the server of a backup: pillar, configuration and images. The
# repository is an address or a folder, or a file with the address, where that has a password in it.
#
# Uses the salt-call that is installed, or brings Salt into a folder of its own. Without a pillar
# file it takes that of the last run; the first time it makes one for trying out. Applied again, it
# changes only what is not as the pillar asks.
set -euo pipefail

formula=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
venv=/opt/orthanc-formula/salt
# Salt's own folders of this script, apart from those of a minion that may be installed as well.
state=/var/lib/orthanc-formula
default_pillar=/etc/orthanc-formula/orthanc.sls
# The path of the pillar of the last run.
last=$state/pillar
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
    [ -n "$function" ] || say "Using the installed $("$salt_call" --version)."
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
  mkdir -p "$(dirname "$1")"
  password=$(od -An -N12 -tx1 /dev/urandom | tr -d ' \n')
  cat > "$1" <<PILLAR
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
}

# Of what Salt says of a run: what changed, failed or is warned about, and the summary.
told() {
  awk 'BEGIN { RS = "\n----------\n" }
    {
      at = index($0, "\n\nSummary for ")
      summary = at ? substr($0, at) : ""
      if (at) $0 = substr($0, 1, at - 1)
      changes = /Changes: *\n              [^ ]/ || /\n *Warnings: /
      if (NR == 1) print
      else if (changes || !/Result: True/) print "----------\n" $0
      if (at) print summary
    }'
}

# call CONFIG ARGUMENT...: salt-call without a master and with this configuration.
call() { "$salt_call" --local --config-dir="$1" "${@:2}"; }
# access NAME: what the function orthanc.access has told.
access() { sed -n "s/.*\"$1\": \"\(.*\)\",*$/\1/p" "$work/access"; }

[ "$(id -u)" = 0 ] || fail "This needs root: sudo bash $0 $*"
restore='' host=''
if [ "${1-}" = --restore ]; then
  [ $# -ge 3 ] || fail "Say of what: bash $0 --restore REPOSITORY PASSWORD-FILE [HOST]"
  [ -f "$3" ] || fail "There is no file $3."
  restore=$2 password=$(realpath "$3") host=${4-}
  [ ! -e "$restore" ] || restore=$(realpath "$restore")
  set --
fi
pillar='' function=''
if [[ ${1-} =~ ^(orthanc[a-z_]*|state|sys)\.[a-z_]+$ && ! $1 =~ \.(sls|ya?ml)$ && ! -e $1 ]]; then
  function=$1
fi
if [ -z "$function" ] && [ $# -gt 0 ] && [[ $1 != *=* ]]; then
  [ -f "$1" ] || fail "There is no file $1."
  pillar=$(realpath "$1")
  shift
elif [ -s "$last" ]; then
  pillar=$(cat "$last")
  [ -f "$pillar" ] || fail "The pillar of the last run, $pillar, is gone. Bring it back, or name another:
bash $0 PILLAR-FILE"
elif [ -f "$default_pillar" ]; then
  pillar=$default_pillar
fi
[ -n "$pillar" ] || [ -z "$function" ] ||
  fail "$function takes the pillar of the last run, and there was none. Begin with: bash $0"
tries=''
[[ " $* " != *' test=True '* ]] || tries=yes
bring_salt

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/pillar" "$work/roots" "$work/bare" "$state"
chmod 700 "$state"
cat > "$work/bare/minion" <<MINION
file_client: local
root_dir: $work/bare
module_dirs: ['$formula/_modules']
MINION
if [ -n "$restore" ]; then
  [ -z "$pillar" ] || fail "This machine has a pillar already, $pillar. Apply that, then call
bash $0 orthanc.restore host=${host:-HOST-OF-THE-BACKUP}"
  command -v restic >/dev/null || install_packages restic
  address=$restore
  [ ! -f "$restore" ] || address=$(cat "$restore")
  if [[ $address == sftp:* ]] && ! command -v ssh >/dev/null; then
    command -v apt-get >/dev/null && install_packages openssh-client || install_packages openssh-clients
  fi
  call "$work/bare" --log-level=quiet --out=json --retcode-passthrough \
    orthanc_restore.settings "$restore" "$password" ${host:+"$host"} > "$work/access" ||
    fail "$(cat "$work/access")"
  pillar=$(access pillar) host=$(access host)
  [ -n "$pillar" ] || fail "This backup is of a server with a master: apply the pillar that it has there,
then call orthanc.restore. The password is in /etc/orthanc-backup already."
  say "The pillar is back: $pillar"
fi
if [ -z "$pillar" ]; then
  call "$work/bare" --log-level=quiet --out=json orthanc.access /etc/orthanc > "$work/access" || :
  [ -z "$(access users)" ] || fail "The Orthanc of this machine has users already ($(access users)),
and no pillar of an earlier run is known. A pillar for trying out would take them away, so nothing was
done. Write a pillar with all that this server needs, and name it: bash $0 PILLAR-FILE
What the server has now stands in /etc/orthanc; all keys: $formula/pillar.example"
  pillar=$default_pillar
  [ -z "$tries" ] || pillar=$work/trial.sls
  make_pillar "$pillar"
  if [ -z "$tries" ]; then
    say "No pillar file was given. Made one for trying out: $pillar"
  else
    say "No pillar file was given. Trying what one for trying out would do; it is not kept."
  fi
fi
# What Salt would answer with a traceback.
if ! call "$work/bare" --log-level=quiet --no-color orthanc_pillar_file.check "$pillar" \
  > "$work/checked"; then
  sed -n 's/^ *- //p' "$work/checked" >&2
  [ -s "$work/checked" ] || say "$pillar cannot be read." >&2
  exit 1
fi
sed -n 's/^ *- /Note: /p' "$work/checked"
[ -n "$tries$function" ] || (umask 077; printf '%s\n' "$pillar" > "$last")

# A pillar tree of this one file, readable by root only, for as long as this script runs.
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

if [ -n "$function" ]; then
  call "$work" --retcode-passthrough "$@"
  exit
fi
say "Applying the formula with the pillar $pillar."
code=0
call "$work" --retcode-passthrough --state-output=full \
  state.apply orthanc sync_mods=all "$@" | tee "$work/output" | told || code=$?
if [ "$code" != 0 ]; then
  say
  say 'What failed by itself, and not only because something else did:'
  awk 'BEGIN { RS = "----------\n" }
    /Result: False/ && !/One or more requisite failed/ { sub(/\n*Summary for .*/, ""); print }' \
    "$work/output"
  fail "
Not everything could be done; what failed stands above. The pillar is $pillar.
Call this again when it is put right: bash $0 $pillar"
fi
[ -z "$tries" ] || exit 0
if [ -n "$restore" ]; then
  say "Restoring the images; this takes as long as copying them."
  call "$work" --retcode-passthrough orthanc.restore host="$host" ||
    fail "The images are not back yet. When it is put right: bash $0 orthanc.restore host=$host"
fi

call "$work" --out=json orthanc.access > "$work/access"

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
