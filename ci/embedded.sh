#!/usr/bin/env bash
# Proves the bundled kernels on targets without an operating system: builds ci/embedded/fixture for each, runs it under an emulator, and
# compares what every kernel computed with the host's portable kernels, bit by bit. Then the firmware example, on an emulated board.
# Ends with a table of targets; exits 1 if one differs.
#   bash ci/embedded.sh              Debian 12 as root (it installs what it needs) and rustup's stable toolchain
set -euo pipefail
cd "$(dirname "$0")/.."
work=$PWD/target/embedded
sysroot=$work/sysroot
targets=(thumbv7em-none-eabihf thumbv6m-none-eabi riscv32imc-unknown-none-elf wasm32-unknown-unknown)
mkdir -p "$work"

say() { printf '\n== %s\n' "$*"; }

# ---- what it needs ----

# Debian's compiler comes with the sources of `core`, from which it can build it for targets that rustup would have to download.
missing=()
need() { command -v "$1" >/dev/null || missing+=("$2"); }
need /usr/bin/rustc rustc-web
[[ -d /usr/lib/rustlib/src/rust/library ]] || missing+=(rust-web-src)
need qemu-arm qemu-user
need node nodejs
if ((${#missing[@]})); then
  say "installing ${missing[*]}"
  apt-get update --quiet=2
  apt-get install --quiet=2 --yes --no-install-recommends "${missing[@]}" >/dev/null
fi
lld=$(rustc --print sysroot)/lib/rustlib/$(rustc -vV | sed -n 's/^host: //p')/bin/rust-lld

# `core` for one target, once.
core() {
  local target=$1 lib=$sysroot/lib/rustlib/$1/lib stub=$work/stub
  [[ -d $lib ]] && return
  say "core for $target"
  mkdir -p "$stub/src"
  echo '#![no_std]' >"$stub/src/lib.rs"
  printf '[package]\nname = "stub"\nedition = "2024"\n[workspace]\n[profile.release]\npanic = "abort"\n' >"$stub/Cargo.toml"
  # The bootstrap key is for building `core` alone; kernels are built without.
  RUSTC=/usr/bin/rustc RUSTC_BOOTSTRAP=1 RUSTFLAGS=-Cembed-bitcode=yes \
    cargo build --quiet --release -Zbuild-std=core --target "$target" --target-dir "$stub/target" --manifest-path "$stub/Cargo.toml"
  mkdir -p "$lib.new"
  cp "$stub/target/$target"/release/deps/lib{core,compiler_builtins}-*.rlib "$lib.new/"
  mv "$lib.new" "$lib"
  rm -rf "$stub/target"
}

# A package for one target, with more flags for the compiler behind it.
build() {
  local package=$1 target=$2
  shift 2
  RUSTC=/usr/bin/rustc RUSTFLAGS="--sysroot $sysroot -Clinker=$lld $*" \
    cargo build --quiet --locked --release --target "$target" --target-dir "$work/bare" --manifest-path "$package/Cargo.toml"
}

run() {
  local program=$work/bare/$1/release/fixture
  case $1 in
    thumb*) qemu-arm "$program" ;;
    riscv32*) qemu-riscv32 "$program" ;;
    wasm32*) node ci/embedded/run.mjs "$program.wasm" ;;
  esac
}

# ---- every kernel ----

say "the host"
cargo run --quiet --locked --target-dir target --manifest-path ci/embedded/fixture/Cargo.toml >"$work/host.txt"
functions=$(wc -l <"$work/host.txt")
echo "$functions functions"

table=()
failed=0
for target in "${targets[@]}"; do
  core "$target"
  say "$target"
  flags=(-Clinker-flavor=ld.lld)
  [[ $target == wasm32* ]] && flags=(-Clinker-flavor=wasm-lld -Clink-arg=-zstack-size=4194304)
  start=$SECONDS
  build ci/embedded/fixture "$target" "${flags[@]}"
  built=$((SECONDS - start))
  run "$target" >"$work/$target.txt"
  verdict=identical
  cmp --silent "$work/host.txt" "$work/$target.txt" || verdict=differs failed=1
  [[ $verdict == identical ]] || diff "$work/host.txt" "$work/$target.txt" | head -20 || true
  table+=("$(printf '%-30s %5d functions   built in %3d s, ran in %3d s   %s' \
    "$target" "$(wc -l <"$work/$target.txt")" "$built" $((SECONDS - start - built)) "$verdict")")
done

say "against the host's portable kernels, $functions functions, every bit that they write"
printf '%s\n' "${table[@]}"
exit $failed
