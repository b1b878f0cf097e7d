#!/bin/sh
# Written by Salt. Removes the logs of Orthanc's earlier starts: those that were last written to
# longer ago than so many days, and the oldest ones beyond so many bytes.
#
# A log that a program has open stays, and so does the last one, which the link leads to. So does all
# that is not named as Orthanc names its logs: it is of others.
#
# Arguments: folder, name of the link, days, bytes.
set -eu
cd -P -- "$1"
last=$(readlink -- "$2" || :)
oldest=$(($(date +%s) - $3 * 86400))
# Not by following them: what is behind a link may be on a disk that does not answer.
here=$(printf '%s\n' "$PWD" | sed 's/[][*?\\]/\\&/g')
open=$(find /proc/[0-9]*/fd -maxdepth 1 -lname "$here/$2.*" -printf '%l\n' 2>/dev/null || :)
kept=0
find . -maxdepth 1 -type f -regextype posix-extended \
  -regex "\./$2\.[0-9]{8}-[0-9]{6}\.[0-9]+" -printf '%T@ %s %f\n' | sort -rn |
  while read -r time size name; do
    kept=$((kept + size))
    case "
$last
$open
" in *"
$name
"* | *"
$PWD/$name
"*) continue ;; esac
    if [ "${time%.*}" -lt "$oldest" ] || [ "$kept" -gt "$4" ]; then
      rm -- "$name"
      echo "removed $PWD/$name"
    fi
  done
