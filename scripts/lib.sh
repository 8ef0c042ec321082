# shellcheck shell=bash
# What the scripts beside this file share. Sourced, never run; written for the bash 3.2 of macOS too.

say() { echo "${0##*/}: $*" >&2; }
fail() {
  say "$*"
  exit 1
}
have() { command -v "$1" >/dev/null 2>&1; }

# as_root COMMAND...: runs it as root, through sudo where we are not root.
as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }

deb_installed() { [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]; }

# apt_install PACKAGE...: removes nothing to make room, and starts no service that it installs. Its many words are
# shown only if it fails. (Descriptor 9 is only_one's, and no business of apt's.)
apt_install() {
  if [ "$(id -u)" != 0 ] && ! have sudo; then
    fail "not root, and there is no sudo; run this as root, then try again: apt-get install $*"
  fi
  say "installing with apt-get: $*"
  as_root apt-get update -qq >&2 9>&- || say "apt-get update failed; trying with the package lists at hand"
  (
    policy=/usr/sbin/policy-rc.d # while it says no (101), Debian's packages start nothing
    if [ ! -e "$policy" ]; then
      trap 'as_root rm -f "$policy"' EXIT
      printf '#!/bin/sh\nexit 101\n' | as_root tee "$policy" >/dev/null
      as_root chmod 755 "$policy"
    fi
    words=$(as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends --no-remove \
      -o DPkg::Lock::Timeout=600 "$@" 2>&1 9>&-) || {
      echo "$words" >&2
      exit 1
    }
  ) || fail "apt-get could not install: $*"
}

# only_one FILE: from here to its end, this process is the only one holding FILE's lock. Without flock (macOS)
# it does nothing.
only_one() {
  have flock || return 0
  exec 9>"$1"
  flock -n 9 && return 0
  say "waiting for another run of it to finish"
  flock 9
}

# Forgets what an outer cargo, or rustup's proxy in front of it, tells the programs it runs about its own build.
# The toolchain it ran with is kept only where rustup has no other to offer.
forget_outer_cargo() {
  local outer=${RUSTUP_TOOLCHAIN:-} name
  while read -r name; do
    case $name in
      CARGO | CARGO_BUILD_* | CARGO_CFG_* | CARGO_ENCODED_* | CARGO_FEATURE_* | CARGO_MAKEFLAGS | CARGO_MANIFEST_* | \
        CARGO_PKG_* | CARGO_PRIMARY_PACKAGE | CARGO_TARGET_DIR | CLIPPY_ARGS | MAKEFLAGS | MFLAGS | OUT_DIR | \
        RUSTC | RUSTC_* | RUSTDOC | RUSTDOCFLAGS | RUSTFLAGS | RUSTUP_TOOLCHAIN) unset "$name" ;;
    esac
  done < <(compgen -e)
  if [ -n "$outer" ] && have rustup && ! rustup show active-toolchain >/dev/null 2>&1; then
    export RUSTUP_TOOLCHAIN=$outer
  fi
}
