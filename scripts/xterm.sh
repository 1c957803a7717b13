#!/usr/bin/env bash
# Fetches the terminal of `labctl open` (xterm.js and its addon-fit) into labctl/page/static/xterm/.
# For developers: the files are in the repository and in the wheel, so that users need no npm and no
# network. The registry is whichever npm is set up for; the archives are checked by their hashes.
set -euo pipefail
cd "$(dirname "$0")/.."

# package, version, SHA-256 of its archive
PACKAGES=(
    '@xterm/xterm 6.0.0 908e66e04af6c8dc6b00dd3b54de088e2e81e5ed866284fd6c2fb3c2d1c7a3f6'
    '@xterm/addon-fit 0.11.0 26003b4517a132b64e4ff228fd88a5fda3fff5e606c76093f6dcff772e9ecec0'
)

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
for line in "${PACKAGES[@]}"; do
    read -r package version hash <<<"$line"
    folder=$work/${package#@xterm/}
    mkdir "$folder"
    archive=$folder/$(npm pack --silent --pack-destination "$folder" "$package@$version")
    echo "$hash  $archive" | sha256sum --check --quiet
    tar --extract --gzip --file "$archive" --directory "$folder"
done

to=labctl/page/static/xterm
rm -rf "$to"
mkdir -p "$to"
# The last line of each names a source map, which is not carried.
for name in xterm addon-fit; do
    sed '/^\/\/# sourceMappingURL=/d' "$work/$name/package/lib/$name.mjs" >"$to/$name.mjs"
    install -m 644 "$work/$name/package/LICENSE" "$to/LICENSE.$name"
done
install -m 644 "$work/xterm/package/css/xterm.css" "$to/"
ls -l "$to"
