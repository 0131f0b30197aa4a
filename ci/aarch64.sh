#!/usr/bin/env bash
# Proves the kernels on 64-bit ARM, whose NEON is the one instruction set without a choice at run time: the crate's own tests of the lanes, of the
# elementary functions, of every bundled kernel and of the instances that tests list, under an emulator.
#   bash ci/aarch64.sh     Debian 12 as root (it installs the emulator) and rustup
set -euo pipefail
cd "$(dirname "$0")/.."
target=aarch64-unknown-linux-musl

command -v qemu-aarch64 >/dev/null || { apt-get update --quiet=2 && apt-get install --quiet=2 --yes --no-install-recommends qemu-user >/dev/null; }
rustup target add "$target"

# The toolchain's own linker and C library: no compiler of C is needed.
linker=$(rustc --print sysroot)/lib/rustlib/$(rustc -vV | sed -n 's/^host: //p')/bin/rust-lld
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_MUSL_RUSTFLAGS="-Clinker=$linker -Clinker-flavor=ld.lld -Clink-self-contained=yes"
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_MUSL_RUNNER=qemu-aarch64
# The skipped tests start themselves again for each instruction set, which the emulator cannot; there is but one.
cargo test --locked --no-fail-fast --target "$target" --target-dir target/embedded/aarch64 --manifest-path ci/aarch64/Cargo.toml -- \
  --skip every_instruction_set
