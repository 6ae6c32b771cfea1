# Shell functions that deploy/run, tests/run and tests/bench share: messages, Debian packages, builds, ports and processes.
# Sourced, never run. It keeps no state of its own and writes nothing but what its callers name.
# shellcheck shell=bash
: "${root:?set root to the top of the source tree before sourcing this file}"

# Debian's own python and tools first: a private interpreter in front of them lacks Debian's modules.
PATH=/usr/bin:/bin:/usr/sbin:/sbin:$PATH
export PATH

# What compiling and running take. openssl and procps are not among them on purpose: coreutils and /proc do.
# shellcheck disable=SC2034 # read by the scripts that source this file
BUILD_PACKAGES=(gcc libc6-dev meson ninja-build pkg-config python3 libevent-dev libssl-dev libgmime-3.0-dev libpq-dev
	libsodium-dev libjansson-dev libc-ares-dev libzstd-dev libxxhash-dev libidn2-dev libunistring-dev libpsl-dev)
# shellcheck disable=SC2034
RUN_PACKAGES=(postgresql curl ca-certificates)
# shellcheck disable=SC2034
TEST_PACKAGES=(libcmocka-dev python3-pytest python3-psycopg2 python3-jsonschema swaks libnet-ssleay-perl openssl python3-dkim python3-nacl msmtp nodejs
	node-nodemailer uidmap)
# Postfix, Exim and OpenSMTPD exclude one another, and no service is wanted of the proxies: tests/support/packages.py unpacks them beside the
# libraries that they need, whose names change with Debian's releases. An ordinary user needs uidmap to run mail servers.
# shellcheck disable=SC2034
UNPACKED_PACKAGES=(postfix exim4-daemon-light opensmtpd nginx haproxy)
# shellcheck disable=SC2034
BENCH_PACKAGES=(postfix wrk nginx-light)

# Progress goes to standard error; standard output belongs to results.
say() {
	printf '%s: %s\n' "${program:-minutemail}" "$*" >&2
}

die() {
	say "$*"
	exit 1
}

as_root() {
	if [ "$(id -u)" -eq 0 ]; then
		"$@"
	else
		sudo -- "$@"
	fi
}

package_installed() {
	[ "$(dpkg-query -W -f='${Status}' "$1" 2>/dev/null)" = "install ok installed" ]
}

apt_get() {
	as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -o Dpkg::Use-Pty=0 -o DPkg::Lock::Timeout=300 "$@" >&2
}

# Installs the packages that are missing, saying which. PostgreSQL comes without a cluster of its own, postfix without a
# configuration, and no service is started: all are used as programs here, never as this machine's services.
install_packages() {
	local missing=() package
	for package in "$@"; do
		package_installed "$package" || missing+=("$package")
	done
	[ ${#missing[@]} -gt 0 ] || return 0
	command -v apt-get >/dev/null ||
		die "these Debian packages are missing and there is no apt-get to install them with: ${missing[*]}"
	say "installing with apt-get: ${missing[*]}"
	as_root true || die "sudo does not let us install packages; as root: apt-get install --no-install-recommends ${missing[*]}"
	apt_get update || say "apt-get update failed; going on with the package lists at hand"

	local quiet_cluster=/etc/postgresql-common/createcluster.d/minutemail-install.conf policy=/usr/sbin/policy-rc.d own_policy=no
	as_root mkdir -p "${quiet_cluster%/*}"
	printf 'create_main_cluster = false\n' | as_root tee "$quiet_cluster" >/dev/null
	printf 'postfix postfix/main_mailer_type select No configuration\n' | as_root debconf-set-selections || true
	if [ ! -e "$policy" ]; then
		own_policy=yes
		printf '#!/bin/sh\nexit 101\n' | as_root tee "$policy" >/dev/null
		as_root chmod 755 "$policy"
	fi
	local status=0
	apt_get install -y --no-install-recommends "${missing[@]}" || status=$?
	as_root rm -f "$quiet_cluster"
	[ $own_policy = no ] || as_root rm -f "$policy"
	[ $status -eq 0 ] || die "apt-get could not install: ${missing[*]}"
	for package in "${missing[@]}"; do
		case $package in
		nginx-light) disable_service nginx ;;
		postfix) disable_service postfix ;;
		esac
	done
}

disable_service() {
	[ ! -d /run/systemd/system ] || as_root systemctl disable --quiet "$1" || true
}

package_known() {
	package_installed "$1" || { command -v apt-cache >/dev/null && apt-cache show "$1" >/dev/null 2>&1; }
}

# The llhttp parser: C source in node-llhttp on Debian 12, a library from Debian 13 on. Images of containers come without package lists.
llhttp_package() {
	package_known node-llhttp || package_known libllhttp-dev || apt_get update || true
	if package_known libllhttp-dev; then
		echo libllhttp-dev
	else
		echo node-llhttp
	fi
}

# The libraries that packages depend on, as this release calls them; nothing without package lists.
libraries_of() {
	apt-cache depends --important "$@" 2>/dev/null | sed -n 's/^ *Depends: \(lib[^ ]*\)$/\1/p' | sort -u
}

# build_dir DIRECTORY MESON-OPTION...: configures once, compiles what is out of date. Output is shown only when it fails. Another release of
# Debian has other libraries: what was made on the last one cannot be brought up to date there.
build_dir() {
	local dir=$1 log
	shift
	[ ! -e "$root/$dir" ] || [ -w "$root/$dir" ] ||
		die "$root/$dir belongs to the user '$(stat -c %U -- "$root/$dir")' (a start with sudo?): delete it, or start as that user"
	if [ -f "$root/$dir/build.ninja" ] && ! grep -qF "\"meson_version\": {\"full\": \"$(meson --version)\"" "$root/$dir/meson-info/meson-info.json"; then
		say "$dir was made by another meson, before an upgrade of this system: deleting it"
		rm -rf "${root:?}/$dir"
	fi
	log=$(mktemp)
	if [ ! -f "$root/$dir/build.ninja" ]; then
		say "configuring $dir"
		if ! meson setup "$root/$dir" "$root" "$@" >"$log" 2>&1; then
			cat "$log" >&2
			rm -rf "$log" "${root:?}/$dir"
			die "meson could not configure $dir"
		fi
	fi
	say "building $dir"
	if ! ninja -C "$root/$dir" >"$log" 2>&1; then
		cat "$log" >&2
		rm -f "$log"
		die "$dir does not compile"
	fi
	rm -f "$log"
}

# The directory of the newest PostgreSQL server's programs; with an argument, of that major version.
postgres_bin() {
	local found
	# shellcheck disable=SC2086 # a pattern, unless a version is given
	found=$(printf '%s\n' /usr/lib/postgresql/${1:-*}/bin/initdb | sort -V | tail -n 1)
	[ -x "$found" ] || die "no PostgreSQL server${1:+ of version $1} is installed under /usr/lib/postgresql"
	dirname "$found"
}

port_taken() {
	(exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null
}

# A process is its number and its start time, since numbers are used again: field 22 of its stat line, counted after the name in
# brackets, which may hold blanks. A zombie has ended.
process_start() {
	local stat
	stat=$(cat "/proc/$1/stat" 2>/dev/null) || return 1
	stat=${stat##*) }
	# shellcheck disable=SC2086 # split on purpose
	set -- $stat
	[ "$1" != Z ] || return 1
	echo "${20}"
}

process_alive() {
	[ "$(process_start "$1")" = "$2" ]
}

# wait_gone PID START TENTHS
wait_gone() {
	local i
	for ((i = 0; i < $3; i++)); do
		process_alive "$1" "$2" || return 0
		sleep 0.1
	done
	! process_alive "$1" "$2"
}
