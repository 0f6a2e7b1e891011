#!/bin/bash
# Boots a real systemd in a throw-away overlay of this machine's root, as a container, and stays until it ends.
#
# usage: unshare --mount --propagation private --fork --kill-child boot.sh SCRATCH CGROUP NSPAWN_OPTION...
#
# SCRATCH is an empty folder. Everything is mounted in this process's own mount namespace, so it is gone with the
# process however that ends. Nothing is ever booted on the machine's own root: its tmpfiles step would empty /tmp.
set -euo pipefail
scratch=$1 cgroup=$2
shift 2
root=$scratch/root

[ "$(readlink /proc/self/ns/mnt)" != "$(readlink /proc/1/ns/mnt)" ] || { echo "not in a mount namespace of its own"; exit 9; }
mkdir "$scratch/disk" "$root"
mount -t tmpfs -o mode=755,size=1g tmpfs "$scratch/disk"
mkdir "$scratch/disk/upper" "$scratch/disk/work"
mount -t overlay overlay -o "lowerdir=/,upperdir=$scratch/disk/upper,workdir=$scratch/disk/work" "$root"
[ "$(findmnt -no FSTYPE "$root")" = overlay ] || { echo "$root is not an overlay"; exit 9; }

units=$root/etc/systemd/system
rm -rf "$units"/*.wants "$units"/codelupe.service*
: >"$root/etc/machine-id"
for unit in systemd-tmpfiles-setup.service systemd-tmpfiles-clean.timer systemd-sysctl.service \
    systemd-timesyncd.service systemd-update-utmp.service systemd-logind.service timers.target getty.target; do
    ln -sf /dev/null "$units/$unit"
done
printf '[Unit]\nRequires=basic.target\nAfter=basic.target\nAllowIsolate=yes\n' >"$units/test.target"
cp -r "$scratch/etc/." "$root/etc/"

# The service's user must be able to reach the virtual environment, wherever it lies.
while read -r path; do
    while [ "$path" != / ]; do
        [ ! -d "$root$path" ] || chmod a+rx "$root$path"
        path=$(dirname "$path")
    done
done <"$scratch/reachable"

for hierarchy in /sys/fs/cgroup /sys/fs/cgroup/unified /sys/fs/cgroup/systemd; do
    [ -d "$hierarchy/$cgroup" ] && echo $$ >"$hierarchy/$cgroup/cgroup.procs"
done
export SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1
exec systemd-nspawn --quiet --directory "$root" --machine "$cgroup" --register=no --keep-unit --link-journal=no \
    --resolv-conf=off --timezone=off --console=pipe "$@" --boot -- --unit=test.target --show-status=no </dev/null
