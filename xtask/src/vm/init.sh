#!/bin/sh
# First process of the guest: mounts the machine's root (read-only, below a RAM disk that takes the writes) and hands over.
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev

fail() {
    echo "lab: $*"
    echo b > /proc/sysrq-trigger
    sleep 5
}

share() { # TAG WHERE OPTIONS
    mount -t 9p -o "trans=virtio,version=9p2000.L,msize=512000$3" "$1" "$2" 2>/dev/null \
        || mount -t 9p -o "trans=virtio,version=9p2000.L,msize=131072$3" "$1" "$2" \
        || fail "cannot mount $1"
}

for module in /modules/*; do
    insmod "$module" || echo "lab: insmod $module failed"
done
share root /lower ,ro,cache=loose
mount -t tmpfs -o mode=755 tmpfs /upper
mkdir /upper/changes /upper/work
mount -t overlay -o lowerdir=/lower,upperdir=/upper/changes,workdir=/upper/work overlay /new || fail "cannot mount the overlay"
mount --move /proc /new/proc
mount --move /sys /new/sys
mount --move /dev /new/dev
mount -t tmpfs tmpfs /new/run
mkdir /new/run/lab
share job /new/run/lab ""
grep -q lab.out /new/proc/cmdline && share out /new/mnt ""
exec switch_root /new /bin/bash /run/lab/guest.sh
