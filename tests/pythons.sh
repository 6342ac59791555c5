#!/usr/bin/env bash
# Run `make test` on newer Pythons: in minimal Debian systems, and as a user who isn't root.
#
#   tests/pythons.sh [--first] SUITE…        trixie has Python 3.13, sid has 3.14
#   TESTS="tests/codec" tests/pythons.sh sid
#
# A system takes a minute to make and is kept in build/pythons for a week. With --first, only the first suite that can be
# made is used. What can't be made is skipped, and the message says why: it takes Linux, root, debootstrap and the network.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
systems=build/pythons

skip() {
    echo "skipped, the tests did not run on other Pythons: $1"
    exit 0
}

# Everything that mounts, debootstrap too, runs in a mount namespace of its own: its mounts end with its last process,
# however that ends, and a clean-up outside of it never sees them, so that nothing is ever deleted through a mount. The
# process namespace does the same for processes that tests leave behind.
isolated() {
    unshare --mount --propagation private --pid --fork --kill-child bash "tests/pythons.sh" "$@"
}

make_system() { # suite
    local system=$systems/$1
    if [[ -n $(find "$system" -maxdepth 0 -mtime -7 2>/dev/null) ]]; then
        return
    fi
    rm -rf --one-file-system "$system" "$system.new"
    debootstrap --variant=minbase --include=ca-certificates,make,python3,python3-venv "$1" "$system.new"
    chroot "$system.new" useradd --create-home tester
    touch "$system.new"
    mv "$system.new" "$system"
}

run_tests() { # suite
    local system=$systems/$1 certificates=${PIP_CERT:-/etc/ssl/certs/ca-certificates.crt}
    # So that pip reaches the package index by the same names, proxies and certificates.
    cp /etc/resolv.conf /etc/hosts "$system/etc/"
    [[ ! -e $certificates ]] || cp "$certificates" "$system/etc/ssl/certs/ca-certificates.crt"
    mount -t proc proc "$system/proc"
    mount -t tmpfs -o mode=755 tmpfs "$system/dev"
    for device in null zero full random urandom tty; do
        cp --archive "/dev/$device" "$system/dev/"
    done
    mkdir "$system"/dev/{pts,shm}
    mount -t devpts -o newinstance,ptmxmode=0666,mode=620,gid=5 devpts "$system/dev/pts"
    mount -t tmpfs -o mode=1777 tmpfs "$system/dev/shm"
    mount -t tmpfs -o mode=1777 tmpfs "$system/tmp" # as Debian does
    ln -s pts/ptmx "$system/dev/ptmx"
    ln -s /proc/self/fd "$system/dev/fd"

    local home=$system/home/tester
    mkdir -p "$home/aqueue"
    # The environment is kept: make sees by its stamp whether it still fits.
    find "$home/aqueue" -mindepth 1 -maxdepth 1 ! -name .venv -exec rm -rf {} +
    git ls-files -z --cached --others --exclude-standard | tar --create --null --files-from=- --ignore-failed-read |
        tar --extract --directory "$home/aqueue"
    chroot "$system" chown --recursive tester: /home/tester
    local passed_on=(CI PIP_INDEX_URL PIP_DEFAULT_TIMEOUT http_proxy https_proxy no_proxy TESTS)
    local variables=(PIP_CERT=/etc/ssl/certs/ca-certificates.crt)
    for name in "${passed_on[@]}"; do
        [[ -z ${!name:-} ]] || variables+=("$name=${!name}")
    done
    echo "Debian $1: $(chroot "$system" python3 -c 'import sys, sqlite3; print(f"Python {sys.version.split()[0]}, SQLite {sqlite3.sqlite_version}")'), as a user who isn't root"
    chroot --userspec=tester:tester "$system" env --ignore-environment HOME=/home/tester PATH=/usr/bin:/bin \
        "${variables[@]}" make --no-print-directory -C /home/tester/aqueue PYTHON=python3 test
}

case ${1:-} in
--make) make_system "$2" ;;
--test) run_tests "$2" ;;
*)
    only_first=false
    if [[ ${1:-} == --first ]]; then
        only_first=true
        shift
    fi
    [[ $(uname) == Linux ]] || skip "that needs Linux"
    ((EUID == 0)) || skip "that needs root, to make minimal systems (try: sudo -E make test-pythons)"
    command -v debootstrap >/dev/null || skip "debootstrap is missing; install it"
    unshare --mount --pid --fork true 2>/dev/null || skip "this system allows no namespaces (a container may need more rights)"
    mkdir -p $systems
    exec 9>"$systems/lock" # two at once would remove each other's systems
    flock 9
    trap 'exit 130' INT # else bash would go on with the next suite: the first process in a namespace ends with a plain code
    failed=false
    for suite in "$@"; do
        if ! isolated --make "$suite" >"$systems/$suite.log" 2>&1; then
            echo "skipped: Debian $suite can't be made; $systems/$suite.log says why"
            continue
        fi
        isolated --test "$suite" || failed=true
        ! $only_first || break
    done
    ! $failed
    ;;
esac
