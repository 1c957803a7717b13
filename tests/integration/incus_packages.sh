#!/bin/bash
# Unpacks Incus as Debian has it (Debian 12: of its backports) into DIRECTORY, and installs nothing.
# usage: incus_packages.sh DIRECTORY
# apt works with lists of its own below DIRECTORY; where Debian's archive is, this machine's apt knows.
set -euo pipefail
directory=$1
mkdir -p "$directory/apt/lists/partial" "$directory/apt/cache/archives/partial" "$directory/debs" \
  "$directory/root"
# shellcheck source=/dev/null
codename=$(. /etc/os-release && echo "$VERSION_CODENAME")
# shellcheck disable=SC2016  # the names are apt's
archive=$(apt-get indextargets --format '$(CODENAME) $(COMPONENT) $(SITE)' 'Created-By: Packages' |
  awk -v codename="$codename" '$1 == codename && $2 == "main" { print $3; exit }')
[ -n "$archive" ] || { echo "apt knows no archive of $codename: run apt-get update" >&2; exit 1; }
for suite in "$codename" "$codename-backports"; do
  echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $archive $suite main"
done >"$directory/apt/sources.list"
apt=(-o "Dir::Etc::sourcelist=$directory/apt/sources.list" -o Dir::Etc::sourceparts=/dev/null
  -o Dir::Etc::preferencesparts=/dev/null -o "Dir::State::lists=$directory/apt/lists"
  -o "Dir::Cache=$directory/apt/cache" -o APT::Sandbox::User=root
  -o "APT::Default-Release=$codename-backports")
apt-get "${apt[@]}" -q update
# With what they need and this machine lacks; files of other names than those of Debian are none.
apt-get "${apt[@]}" -q -y --no-install-recommends --print-uris install \
  incus-base incus-client busybox-static dropbear-bin | awk -F"'" '/\.deb/ { print $2 }' |
  sed 's|.*/||; s|_.*||' | sort -u >"$directory/names"
(cd "$directory/debs" && xargs apt-get "${apt[@]}" -q download <"$directory/names")
for file in "$directory"/debs/*.deb; do dpkg-deb -x "$file" "$directory/root"; done
rm -r "$directory/apt" "$directory/debs"
touch "$directory/complete"
