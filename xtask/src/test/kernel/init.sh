#!/bin/busybox sh
# The first process of the guest, see the module `kernel`. Mounts this machine's files below what is written in memory, with
# cgroup version 2 alone and a bpffs, and becomes the script that the results' folder has.
b=/bin/busybox
fail() {
    echo "guest: $1"
    $b poweroff -f
}
$b mount -t proc proc /proc
$b mount -t sysfs sys /sys
$b mount -t devtmpfs dev /dev
while read -r module; do
    $b insmod "/modules/$module" || fail "no module $module"
done </modules/order

share=trans=virtio,version=9p2000.L,msize=512000
$b mount -t 9p -o "$share,ro,cache=loose" host /host || fail "no files of the host"
$b mount -t tmpfs -o size=60% written /written
$b mkdir /written/upper /written/work
$b mount -t overlay -o lowerdir=/host,upperdir=/written/upper,workdir=/written/work root /new || fail "no overlay"
new=/new
$b mount -t proc proc $new/proc
$b mount -t sysfs sys $new/sys
$b mount -t devtmpfs dev $new/dev
$b mkdir -p $new/dev/pts $new/dev/shm
$b mount -t devpts devpts $new/dev/pts
$b mount -t tmpfs shm $new/dev/shm
$b mount -t tmpfs tmp $new/tmp
$b mount -t tmpfs run $new/run
$b mount -t cgroup2 cgroup $new/sys/fs/cgroup || fail "no cgroup2"
$b mount -t bpf bpf $new/sys/fs/bpf || fail "no bpffs"
$b mkdir -p $new/run/results
$b mount -t 9p -o "$share" results $new/run/results || fail "no folder for results"

# The kernel loads its own modules by this program, wherever the host has its own.
modules=$new/usr/lib/modules/$($b uname -r)
$b mkdir -p "$modules"
$b mount -o bind "/host$($b cat /modules/all)" "$modules" || fail "no modules"
$b mkdir -p $new/lib
[ -e $new/lib/modules ] || $b ln -s ../usr/lib/modules $new/lib/modules
$b cp $b $new/run/busybox
$b ln -s busybox $new/run/modprobe
echo /run/modprobe >/proc/sys/kernel/modprobe
exec $b switch_root $new /run/results/run
