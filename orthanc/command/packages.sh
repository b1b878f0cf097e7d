# Prints the names of the packages that are installed.
if command -v apt-get >/dev/null; then
  dpkg-query -Wf '${db:Status-Status} ${Package}\n' | sed -n 's/^installed //p'
else
  rpm -qa --qf '%{NAME}\n'
fi | LC_ALL=C sort -u
