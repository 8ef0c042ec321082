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

# find_python: sets $python to one that is new enough and makes environments with pip in them. The first in PATH may
# lack venv while another has it.
find_python() {
  for python in python3 /usr/bin/python3 python3.14 python3.13 python3.12 python3.11 python3.10; do
    if "$python" -c 'import sys, venv, ensurepip; assert sys.version_info >= (3, 10)' >/dev/null 2>&1; then return 0; fi
  done
  return 1
}

# node_found: whether the node in PATH is as new as the lock files ask for.
node_found() {
  node -e 'const [major, minor] = process.versions.node.split(".").map(Number)
    process.exit(major > 20 || (major === 20 && minor >= 19) ? 0 : 1)' >/dev/null 2>&1
}

# === Tools of npm and pip: a copy of the pinned list lies in what was installed from it, and tells whether to install
# again ===

# npm_install FOLDER INTO: what FOLDER/package-lock.json lists, into INTO/node_modules.
npm_install() (
  installed=$2/node_modules/.installed-lock.json
  mkdir -p "$2"
  only_one "$2/.npm.lock"
  if cmp -s "$1/package-lock.json" "$installed"; then exit 0; fi
  node_found || fail "there is no Node.js of version 20.19 or newer; scripts/setup installs it, or says what to do"
  have npm || fail "npm is missing; scripts/setup installs it"
  say "installing $1/package.json with npm"
  [ "$1" = "$2" ] || cp "$1/package.json" "$1/package-lock.json" "$2/"
  (cd "$2" && npm ci --no-audit --no-fund >&2) || fail "npm ci failed for $1"
  cp "$1/package-lock.json" "$installed"
)

# pip_install LIST VENV: what the list names, into an environment.
pip_install() (
  mkdir -p "$(dirname "$2")"
  only_one "$2.lock"
  if cmp -s "$1" "$2/installed.txt" && "$2/bin/python" -c '' 2>/dev/null; then exit 0; fi
  find_python || fail "there is no Python of version 3.10 or newer with venv; scripts/setup installs it"
  say "installing $1 with pip"
  rm -rf "$2"
  "$python" -m venv "$2" >&2 || fail "$python could not make the environment $2"
  "$2/bin/python" -m pip install --quiet --disable-pip-version-check --requirement "$1" >&2 ||
    fail "pip could not install $1"
  cp "$1" "$2/installed.txt"
)

# === Guests of other languages than Rust ===

# guest_folder LANGUAGE: where its components go: into target/guests, or into FANFARE_GUEST_TARGET_DIR (from the current
# directory, if relative), and there into a folder of the language. The path is absolute.
guest_folder() {
  local folder=${FANFARE_GUEST_TARGET_DIR:-$root/target/guests}
  case $folder in /*) ;; *) folder=$PWD/$folder ;; esac
  mkdir -p "$folder/$1"
  echo "$folder/$1"
}

# make_component FILE COMMAND SOURCE...: runs `COMMAND NEW`, which makes NEW, if FILE is older than a source or what is
# in it, or is not there; then prints FILE. What changes while it runs counts as newer.
make_component() {
  local file=$1 command=$2 new=$1.new
  shift 2
  if [ ! -e "$file" ] || [ -n "$(find "$@" -newer "$file" -print)" ]; then
    say "building ${file##*/}"
    : >"$file.begun"
    "$command" "$new" >&2 || fail "not built: $file"
    touch -r "$file.begun" "$new"
    mv "$new" "$file"
    rm "$file.begun"
  fi
  echo "$file"
}
