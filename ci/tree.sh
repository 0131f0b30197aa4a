#!/usr/bin/env bash
# What may stand in the repository: no binary, and no file above 256 KiB, but data of examples and tests, and images of the docs. Looks at what is tracked.
set -euo pipefail
cd "$(dirname "$0")/.."

free=(':!examples/data' ':!tests' ':!crates/*/tests' ':!docs/images')
nothing=$(git hash-object -t tree /dev/null)
binary=$(git diff --cached --numstat "$nothing" -- . "${free[@]}" | awk -F '\t' '$1 == "-" { print $3 ": binary" }')
large=$(git ls-files -z -- . "${free[@]}" | xargs -0 -I{} find {} -maxdepth 0 -type f -size +256k -printf '%p: %s bytes\n')
if [[ -n "$binary$large" ]]; then
  printf "files that do not belong here:\n%s\n%s\n" "$binary" "$large" >&2
  exit 1
fi
