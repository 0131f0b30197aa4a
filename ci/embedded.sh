#!/usr/bin/env bash
# Proves the bundled kernels, and those of tests/reference/instances, on targets without an operating system: builds ci/embedded/fixture for each,
# runs it under an emulator, and compares what every kernel computed with the host's portable kernels, bit by bit. Then the firmware example, on
# an emulated board.
# Ends with a table of targets; exits 1 if one differs.
#   bash ci/embedded.sh [TARGET...]     Debian 12 as root (it installs what it needs) and rustup's stable toolchain
set -euo pipefail
cd "$(dirname "$0")/.."
work=$PWD/target/embedded
sysroot=$work/sysroot
targets=(thumbv7em-none-eabihf thumbv6m-none-eabi riscv32imc-unknown-none-elf wasm32-unknown-unknown)
(($#)) && targets=("$@")
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
need arm-none-eabi-gcc gcc-arm-none-eabi
if ((${#missing[@]})); then
  say "installing ${missing[*]}"
  apt-get update --quiet=2
  apt-get install --quiet=2 --yes --no-install-recommends "${missing[@]}" >/dev/null
fi
# The board's emulator would take the place of other packages: it is unpacked beside, not installed.
qemu=$work/qemu
if [[ ! -x $qemu/usr/bin/qemu-system-arm ]]; then
  say "unpacking qemu-system-arm"
  ((${#missing[@]})) || apt-get update --quiet=2
  mkdir -p "$work/debs"
  (cd "$work/debs" && apt-get download --quiet=2 \
    $(apt-get install --simulate --no-install-recommends qemu-system-arm | awk '/^Inst/ { print $2 }') 2>/dev/null)
  for package in "$work"/debs/*.deb; do dpkg -x "$package" "$qemu"; done
  rm -rf "$work/debs"
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
  RUSTC=/usr/bin/rustc RUSTC_BOOTSTRAP=1 RUSTFLAGS="-Cembed-bitcode=yes -Zemit-stack-sizes" \
    cargo build --quiet --release -Zbuild-std=core --target "$target" --target-dir "$stub/target" --manifest-path "$stub/Cargo.toml"
  mkdir -p "$lib.new"
  cp "$stub/target/$target"/release/deps/lib{core,compiler_builtins}-*.rlib "$lib.new/"
  mv "$lib.new" "$lib"
  rm -rf "$stub/target"
}

# A package for one target, with flags for its last step behind it. Gives the messages of cargo, which name every file that it is linked from.
build() {
  local package=$1 target=$2
  shift 2
  # The bootstrap key is for the sizes of stack frames, a table beside the code; the code is the same without.
  RUSTC=/usr/bin/rustc RUSTC_BOOTSTRAP=1 RUSTFLAGS="--sysroot $sysroot -Clinker=$lld -Zemit-stack-sizes" \
    cargo rustc --quiet --locked --release --target "$target" --target-dir "$work/bare" --manifest-path "$package/Cargo.toml" \
    --message-format json-render-diagnostics -- "$@"
}

# What each function takes: code, constants, stack, workspace, instructions. The program that counts must compute the same.
report() {
  local target=$1 program=$work/bare/$1/release/fixture object runtime
  object=$(ls -t "$work/bare/$target"/release/deps/fixture-*.o | head -1)
  # Other programs have crates of that name too, with other features.
  runtime=$(grep -o '"[^"]*/'"$target"'/release/deps/libcotangent-[^"]*\.rlib"' "$work/$target.messages" | tr -d '"')
  case $target in
    wasm32*)
      "$footprint" count "$program.wasm" "$work/$target.counting.wasm"
      emulate "$target" "$work/$target.counting" 2>"$work/$target.counts" >"$work/$target.counting.txt"
      ;;
    *)
      "$footprint" table "$program" >"$work/$target.table"
      emulate "$target" -plugin "$work/libinstructions.so,table=$work/$target.table" "$program" 2>"$work/$target.counts" \
        >"$work/$target.counting.txt"
      ;;
  esac
  cmp "$work/$target.txt" "$work/$target.counting.txt" || failed=1
  "$footprint" report "$work/$target.counts" ${HAND_OBJECT:-} "$object" "$runtime" \
    "$sysroot/lib/rustlib/$target"/lib/*.rlib >"$work/$target.report"
}

emulate() {
  local target=$1
  shift
  case $target in
    thumb*) qemu-arm "$@" ;;
    riscv32*) qemu-riscv32 "$@" ;;
    wasm32*) node ci/embedded/run.mjs "$1.wasm" ;;
  esac
}

# ---- every kernel ----

gcc -O2 -Wall -shared -fPIC -o "$work/libinstructions.so" ci/embedded/instructions.c
cargo build --quiet --locked --target-dir target --manifest-path ci/embedded/footprint/Cargo.toml
cargo test --quiet --locked --target-dir target --manifest-path ci/embedded/footprint/Cargo.toml >"$work/footprint.txt" ||
  { cat "$work/footprint.txt"; exit 1; }
footprint=target/debug/footprint

# The loops that the kernels' instructions are counted against.
hand=$work/hand.o
arm-none-eabi-gcc -O3 -mcpu=cortex-m4 -mthumb -mfpu=fpv4-sp-d16 -mfloat-abi=hard -Wall -c ci/embedded/fixture/hand.c -o "$hand"

say "the host"
cargo run --quiet --locked --target-dir target --manifest-path ci/embedded/fixture/Cargo.toml >"$work/host.txt"
functions=$(wc -l <"$work/host.txt")
echo "$functions functions"

table=()
failed=0
for target in "${targets[@]}"; do
  core "$target"
  say "$target"
  start=$SECONDS
  [[ $target == thumbv7em* ]] && export HAND_OBJECT=$hand || unset HAND_OBJECT
  build ci/embedded/fixture "$target" --emit=obj,link >"$work/$target.messages"
  built=$((SECONDS - start))
  emulate "$target" "$work/bare/$target/release/fixture" >"$work/$target.txt"
  verdict=identical
  cmp --silent "$work/host.txt" "$work/$target.txt" || verdict=differs failed=1
  [[ $verdict == identical ]] || diff "$work/host.txt" "$work/$target.txt" | head -20 || true
  report "$target"
  table+=("$(printf '%-30s %5d functions   built in %3d s, ran in %3d s   %s' \
    "$target" "$(wc -l <"$work/$target.txt")" "$built" $((SECONDS - start - built)) "$verdict")")
done

if [[ " ${targets[*]} " == *" thumbv7em-none-eabihf "* ]]; then
  say "instructions of one call on a Cortex-M4F: generated, and hand-written in C (gcc -O3)"
  awk '/^(matmul::i16_j16_k16|matvec::i64_j64|conv::s8x8_t3x3_c4_c8|tanh::i256)::forward/ { split($1, name, ":"); generated[name[1]] = $6 }
    /^hand_/ { hand[substr($1, 6)] = $6 }
    END { for (op in hand) { printf "%-8s %8d %8d   %s\n", op, generated[op], hand[op], generated[op] <= hand[op] ? "at or below" : "above"
                             worse += generated[op] > hand[op] }
          exit worse > 0 }' "$work/thumbv7em-none-eabihf.report" || failed=1

  say "the firmware: training on a Cortex-M4F"
  unset HAND_OBJECT
  build examples/firmware thumbv7em-none-eabihf >"$work/firmware.messages"
  # FLASH and RAM of the emulated board are larger than the budget that the program was linked for.
  LD_LIBRARY_PATH=$qemu/usr/lib/x86_64-linux-gnu:$qemu/lib/x86_64-linux-gnu "$qemu/usr/bin/qemu-system-arm" -L "$qemu/usr/share/qemu" \
    -machine mps2-an386 -nographic -semihosting-config enable=on,target=native \
    -kernel "$work/bare/thumbv7em-none-eabihf/release/firmware" </dev/null || failed=1
fi

say "what each function takes"
for target in "${targets[@]}"; do
  [[ -f $work/$target.report ]] && echo "${work#"$PWD"/}/$target.report"
done

say "against the host's portable kernels, $functions functions, every bit that they write"
printf '%s\n' "${table[@]}"
exit $failed
