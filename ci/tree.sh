#!/usr/bin/env bash
# What may stand in the repository: Cargo.lock as cargo would write it, beside each workspace; no binary, and no file above 256 KiB, but data of examples and tests, and images of the docs. Looks at what is tracked.
set -euo pipefail
cd "$(dirname "$0")/.."

free=(':!examples/data' ':!tests' ':!crates/*/tests' ':!docs/images')
nothing=$(git hash-object -t tree /dev/null)
binary=$(git diff --cached --numstat "$nothing" -- . "${free[@]}" | awk -F '\t' '$1 == "-" { print $3 ": binary" }')
large=$(git ls-files -z -- . "${free[@]}" | while IFS= read -r -d '' file; do
  # Links are small, and lead to folders. `find -printf` and `stat` differ between systems; `wc` does not.
  if [[ -f $file && ! -L $file ]] && (($(wc -c <"$file") > 256 * 1024)); then printf '%s: %d bytes\n' "$file" "$(wc -c <"$file")"; fi
done)
if [[ -n "$binary$large" ]]; then
  printf "files that do not belong here:\n%s\n%s\n" "$binary" "$large" >&2
  exit 1
fi
# Scripts that nobody runs each day build with `--locked`.
git ls-files -- '*Cargo.lock' | while IFS= read -r lock; do
  cargo update --quiet --workspace --locked --manifest-path "${lock%lock}toml"
done
