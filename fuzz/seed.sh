#!/usr/bin/env bash
# Fills the corpora that fuzzing starts from: every spec of the project, every formula in one, what was found before, and of what fuzzing grew a small part.
set -euo pipefail
cd "$(dirname "$0")"
mkdir -p corpus/spec corpus/formula corpus/compile
find ../ops ../programs ../tests/reference/{ops,instances} ../crates/*/tests ../crates/cotangent-programs/programs ../examples/*/ops \
  -name '*.yaml' -size -8k | sort | while read -r file; do
  name=$(sha256sum "$file" | cut -c1-16)
  cp "$file" "corpus/spec/$name"
  cp "$file" "corpus/compile/$name"
  # What stands after `- ` or a key, unquoted: formulas, mostly.
  sed -n 's/^ *- *//p; s/^  [A-Za-z]*: *//p' "$file" | tr -d "\"'" | while IFS= read -r formula; do
    [[ -n $formula ]] || continue
    printf %s "$formula" > "corpus/formula/$(printf %s "$formula" | sha256sum | cut -c1-16)"
  done
done
# One a line; separated by lines of `%%`.
while IFS= read -r formula; do
  printf %s "$formula" > "corpus/formula/$(printf %s "$formula" | sha256sum | cut -c1-16)"
done < kept/formula.txt
awk 'BEGIN { n = 1 } /^%%$/ { n++; next } { print > ("corpus/spec/kept" n) }' kept/spec.txt
cp corpus/spec/kept* corpus/compile/
