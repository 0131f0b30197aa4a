#!/usr/bin/env bash
# Trains the network of examples/data_parallel on two ranks and on four, and compares each loss with that of one process.
#   bash ci/data-parallel.sh     Debian 12 as root (it installs Open MPI and libclang) and rustup
set -euo pipefail
cd "$(dirname "$0")/.."

# `mpi` finds the library by `mpicc`, and makes its bindings with libclang.
packages=(libopenmpi-dev openmpi-bin libclang-dev)
dpkg-query --show "${packages[@]}" >/dev/null 2>&1 || {
  apt-get update --quiet=2 && apt-get install --quiet=2 --yes --no-install-recommends "${packages[@]}" >/dev/null
}
# Containers have no other user.
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
manifest=examples/data_parallel/Cargo.toml
folder=${CARGO_TARGET_DIR:-target}
# The compiler runs in build scripts: optimised a little it takes a fraction of the time.
options=(--release --locked --manifest-path "$manifest" --target-dir "$folder" --config profile.release.build-override.opt-level=1)
cargo fmt --manifest-path "$manifest" --all --check
cargo clippy "${options[@]}" --quiet -- -D warnings
cargo build "${options[@]}"
for ranks in 2 4; do
  timeout 300 "$folder/release/data_parallel" --ranks "$ranks" --epochs 6 --check
done
