#!/usr/bin/env bash
# What kernels cost before they run: takes nothing (the bundled ops) or a folder of specs, prints
#   - the generated text, in lines and bytes: of every op, of the ten largest kernels, of all;
#   - the time of a cold release build with two jobs, dependencies apart: build script, its run, the crate itself;
#   - the time of the compiler's stages.
# It builds in a target folder of its own (target/compile-cost) and leaves no other file behind.
#
#   ci/compile-cost.sh [FOLDER]
set -euo pipefail
export LC_ALL=C

[[ $# -le 1 ]] || { echo "usage: ci/compile-cost.sh [FOLDER]" >&2; exit 2; }
specs=${1:+$(realpath "$1")}
cd "$(dirname "$0")/.."
root=$PWD
target=$root/target/compile-cost

if [[ -z $specs ]]; then
    specs=$root/ops package=cotangent manifest=$root/Cargo.toml
else
    # A crate that has nothing but the kernels.
    crate=$target/crate package=compile-cost manifest=$target/crate/Cargo.toml
    mkdir -p "$crate/src"
    cp Cargo.lock "$crate"
    cat > "$manifest" <<END
[package]
name = "compile-cost"
version = "0.0.0"
edition = "2024"
[workspace]
[dependencies]
cotangent = { path = "$root" }
[build-dependencies]
cotangent-build = { path = "$root/crates/cotangent-build" }
END
    echo "fn main() { cotangent_build::Build::new().ops(r\"$specs\").compile(); }" > "$crate/build.rs"
    echo "pub mod kernels { cotangent::include_kernels!(); }" > "$crate/src/lib.rs"
fi

now() { echo "${EPOCHREALTIME/,/.}"; }
since() { awk -v a="$1" -v b="$(now)" 'BEGIN { printf "%.2f", b - a }'; }

# ---- the build ----

cargo clean --quiet --release --package "$package" --manifest-path "$manifest" --target-dir "$target"
begin=$(now)
cargo build --quiet --release --jobs 2 --timings --package "$package" --manifest-path "$manifest" --target-dir "$target"
all=$(since "$begin")

# ---- the text ----

# The newest, should there be others of old builds.
out=$(ls -td "$target/release/build/$package"-*/out/cotangent | awk 'NR == 1')

# A kernel is its module with the documentation before it: it ends where that of the next one begins.
sizes=$(awk '
    # What stands before the first kernel of an op is counted to it.
    function put() { if (name != "") { printf "%d %d %s::%s\n", bytes, lines, op, name; lines = bytes = 0; name = "" } }
    FNR == 1 { put(); op = FILENAME; sub(".*/", "", op); sub("[.]rs$", "", op) }
    op == "mod" || op == "test.mod" { next }
    /^\/\/\/ The instance of / { put(); starts = 1 }
    { lines++; bytes += length($0) + 1 }
    starts && /^pub mod / { name = $3; starts = 0 }
    END { put() }
' "$out"/*.rs)

table() { awk '{ printf "  %-44s %9d lines %11d bytes%s\n", $3, $2, $1, $4 ? sprintf(" %5d kernels", $4) : "" }'; }

echo "generated text, by op"
awk '{ op = $3; sub("::.*", "", op); b[op] += $1; l[op] += $2; n[op]++ }
    END { for (op in b) print b[op], l[op], op, n[op] }' <<< "$sizes" | sort -rn | table
echo "the ten largest kernels"
sort -rn <<< "$sizes" | awk 'NR <= 10' | table
echo "in all"
awk '{ b += $1; l += $2 } END { print b, l, "total", NR; print b / NR, l / NR, "mean" }' <<< "$sizes" | table

# ---- the times ----

echo
echo "release build, two jobs"
# The report of cargo has one field a line.
awk -v package="$package" -v all="$all" '
    function value(line) { sub("^[^:]*: ", "", line); gsub("[\",]", "", line); return line }
    function put(what, seconds) { printf "  %-44s %9.2f s\n", what, seconds }
    /^const UNIT_DATA/ { on = 1 }
    /^const CONCURRENCY_DATA/ { on = 0 }
    !on { next }
    /"name":/ { name = value($0) }
    /"target":/ { unit = value($0); sub("^ ", "", unit) }
    /"duration":/ {
        duration = value($0)
        if (name == package && (unit == "" || unit ~ "^build-script")) { seconds[unit] = duration }
    }
    name == package && unit == "" && /^ *"(frontend|codegen)",?$/ { part = $0; gsub("[ \",]", "", part) }
    name == package && unit == "" && /"start":/ && part { from = value($0) }
    name == package && unit == "" && /"end":/ && part { parts[part] = value($0) - from; part = "" }
    END {
        own = seconds["build-script"] + seconds["build-script (run)"] + seconds[""]
        put("build script, compiled", seconds["build-script"])
        put("build script, run", seconds["build-script (run)"])
        put("the crate, by rustc", seconds[""])
        if ("frontend" in parts) put("  of it types, borrows and the like", parts["frontend"])
        if ("codegen" in parts) put("  of it machine code", parts["codegen"])
        put("in all", own)
        put("dependencies, those not yet built", all > own ? all - own : 0)
    }
' "$target/cargo-timings/cargo-timing.html"

# Not optimised, like a build script.
cargo build --quiet --jobs 2 --package cotangent-build --target-dir "$target"
shown() {
    local begin
    begin=$(now)
    "$target/debug/cotangent" show "$specs" --stage "$1" > /dev/null
    since "$begin"
}
index=$(shown index) plain=$(shown plain) rust=$(shown rust)
echo "the compiler, not optimised"
awk -v index_="$index" -v plain="$plain" -v rust="$rust" '
    function put(what, seconds) { printf "  %-44s %9.2f s\n", what, (seconds > 0 ? seconds : 0) }
    BEGIN {
        put("read, derive, certify", index_)
        put("specialise", plain - index_)
        put("schedule, emit", rust - plain)
    }'
