#!/bin/bash
# Boots a real systemd in a throw-away overlay of this machine's root, as a container, and stays until it ends.
#
# usage: unshare --mount --propagation private --pid --mount-proc --fork --kill-child boot.sh \
#            SCRATCH CGROUP MOUNT_NAMESPACE NSPAWN_OPTION...
#
# SCRATCH is a folder with etc/ and reachable, CGROUP the name of the container and its cgroups, MOUNT_NAMESPACE the
# one of the caller. Mounts and processes live in namespaces of this process, so they are gone with it however it ends.
# Nothing is ever booted on the machine's own root: its tmpfiles step would empty /tmp.
set -euo pipefail
scratch=$1 cgroup=$2 outside=$3
shift 3
root=$scratch/root

unsupported() {
    echo "$1"
    exit 9
}

[ "$(readlink /proc/self/ns/mnt)" != "$outside" ] || unsupported "not in a mount namespace of its own"
mkdir "$scratch/disk" "$root"
mount -t tmpfs -o mode=755,size=1g tmpfs "$scratch/disk" || unsupported "no right to mount"
mkdir "$scratch/disk/upper" "$scratch/disk/work"
mount -t overlay overlay -o "lowerdir=/,upperdir=$scratch/disk/upper,workdir=$scratch/disk/work" "$root" ||
    unsupported "no overlay can be mounted"
[ "$(findmnt -no FSTYPE "$root")" = overlay ] || unsupported "$root is not an overlay"

units=$root/etc/systemd/system
rm -rf "$units"/*.wants "$units"/codelupe.service* "$root/var/lib/codelupe" "$root/var/lib/private/codelupe"
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
    if [ -d "$hierarchy/$cgroup" ]; then
        echo $$ >"$hierarchy/$cgroup/cgroup.procs"
    fi
done
export SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1
exec systemd-nspawn --quiet --directory "$root" --machine "$cgroup" --register=no --keep-unit --link-journal=no \
    --resolv-conf=off --timezone=off --console=pipe "$@" --boot -- --unit=test.target --show-status=no </dev/null
