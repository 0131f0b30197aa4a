#!/usr/bin/env bash
# What a change of one formula costs: takes nothing, writes a crate with thirty of the bundled ops at their bundled instances and at those of
# tests/reference/instances (target/edit-loop/crate), builds it, changes a formula of a small op (relu) and of a large one (matmul) and back, and
# prints how long each build after it takes, in dev and in release, as cargo is and with the settings of docs/edit-loop.md. What is printed is
# the least of three.
#
#   ci/edit-loop.sh
set -euo pipefail
export LC_ALL=C
unset CARGO_INCREMENTAL CARGO_BUILD_TARGET
cd "$(dirname "$0")/.."
root=$PWD
crate=$root/target/edit-loop/crate

ops=(add bias_add broadcast conv cos div exp layer_norm log logistic logsumexp matmul matvec max min mul neg pad pow reduce_max reduce_mean reduce_sum relu
    sin softmax softmax_cross_entropy sqrt sub tanh transpose)
rm -rf "$crate"
mkdir -p "$crate/src" "$crate/ops"
cp Cargo.lock "$crate"
# An op with both lists of its instances.
spec() { { cat "ops/$1.yaml"; sed '1,/^instances:/d' "tests/reference/instances/$1.yaml"; } > "$crate/ops/$1.yaml"; }
for op in "${ops[@]}"; do spec "$op"; done
echo 'fn main() { cotangent_build::Build::new().ops("ops").compile(); }' > "$crate/build.rs"
echo 'pub mod kernels { cotangent::include_kernels!(); }' > "$crate/src/lib.rs"

manifest() {
    cat > "$crate/Cargo.toml" <<END
[package]
name = "edit-loop"
version = "0.0.0"
edition = "2024"
[workspace]
[dependencies]
cotangent = { path = "$root", default-features = false, features = ["std"] }
[build-dependencies]
cotangent-build = { path = "$root/crates/cotangent-build" }
$1
END
}
now() { echo "${EPOCHREALTIME/,/.}"; }
build() { (cd "$crate" && cargo build --quiet --target-dir "$root/target/edit-loop/$1" ${2:+"$2"}); }

# The seconds of the build after a change: of the file of an op, from a text to another.
edit() { # FOLDER PROFILE OP FROM TO
    local least='' from=$4 to=$5 begin took
    for _ in 1 2 3; do
        sed -i "s|$from|$to|" "$crate/ops/$3.yaml"
        grep --quiet --fixed-strings "${to//\\/}" "$crate/ops/$3.yaml"
        begin=$(now)
        build "$1" "$2"
        took=$(awk -v a="$begin" -v b="$(now)" 'BEGIN { printf "%.1f", b - a }')
        least=$(awk -v a="${least:-$took}" -v b="$took" 'BEGIN { print (b < a ? b : a) }')
        [[ $from == "$4" ]] && from=$5 to=$4 || from=$4 to=$5
    done
    # As it was.
    spec "$3"
    build "$1" "$2"
    printf ' %5s |' "$least"
}
row() { # NAME FOLDER PROFILE
    build "$2" "$3"
    printf '| %-46s |' "$1"
    edit "$2" "$3" relu 'x\[i\] <= 0' '0 >= x\[i\]'
    edit "$2" "$3" matmul 'sum(j) x\[i,j\] \* y\[j,k\]' 'sum(j) y\[j,k\] \* x\[i,j\]'
    echo
}

echo "$(awk -F ': ' '/model name/ { print $2; exit }' /proc/cpuinfo), $(nproc) cores; seconds"
echo
echo '| build                                          |  relu | matmul |'
echo '| ---                                            |   --- |    --- |'
manifest ''
row 'dev' plain ''
row 'release' plain --release
manifest '[profile.dev.build-override]
opt-level = 2
[profile.release.build-override]
opt-level = 2
[profile.release]
incremental = true'
row 'dev, `build-override` at `opt-level = 2`' set ''
row 'release, `build-override`, `incremental = true`' set --release
