#!/usr/bin/env bash
# The cost model against a simulation of cores that are not at hand: compiles every product and convolution of the roofline with its candidates,
# for AVX-512 and AVX2, and lets LLVM's machine code analyser count the cycles of their inner loops on each core of the class.
# Prints what each chosen schedule loses; exits with 1 if one loses more than 10%.
#   bash ci/mca.sh [CLASS...]     Debian 12 as root (it installs LLVM 19's tools), on x86-64
set -euo pipefail
cd "$(dirname "$0")/.."
classes=(widest wide)
(($#)) && classes=("$@")

command -v llvm-mca-19 >/dev/null || { apt-get update --quiet=2 && apt-get install --quiet=2 --yes --no-install-recommends llvm-19 >/dev/null; }
declare -A cores=(
  [widest]="znver4=zen4 znver5=zen5 sapphirerapids=sapphirerapids"
  [wide]="skylake=skylake haswell=haswell alderlake=alderlake znver3=zen3"
)
declare -A sets=([widest]=avx512 [wide]=avx2)
failed=0
for class in "${classes[@]}"; do
  printf '\n== %s\n' "$class"
  target=${CARGO_TARGET_DIR:-$PWD/target}/mca
  rm -f "$target"/release/deps/candidates-*.s
  COTANGENT_CANDIDATES=$class cargo rustc --quiet --release --target-dir "$target" -p cotangent-candidates --bench candidates -- \
    --emit asm -C codegen-units=1 -C symbol-mangling-version=v0 -C debuginfo=0
  COTANGENT_CANDIDATES=$class cargo build --quiet --release --target-dir "$target" -p cotangent-candidates --bin mca
  # shellcheck disable=SC2086
  "$target/release/mca" "$target"/release/deps/candidates-*.s "${sets[$class]}" llvm-mca-19 ${cores[$class]} || failed=1
done
exit $failed
