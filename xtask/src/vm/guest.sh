# Second stage of the guest, in the machine's root: makes it look like a booted system, runs the command, tells its status.
exec < /dev/null > /dev/hvc0 2>&1
stty raw -echo < /dev/hvc0 2> /dev/null
PATH=$(cat /run/lab/path)
export PATH HOME=/root TERM=dumb
mkdir -p /dev/shm /dev/pts
mount -t tmpfs -o mode=1777 tmpfs /dev/shm
mount -t devpts devpts /dev/pts
mount -t cgroup2 cgroup2 /sys/fs/cgroup
for kind in bpf:/sys/fs/bpf tracefs:/sys/kernel/tracing debugfs:/sys/kernel/debug securityfs:/sys/kernel/security; do
    mount -t "${kind%%:*}" "${kind%%:*}" "${kind#*:}" 2> /dev/null
done
ln -sfn /proc/self/fd /dev/fd
ln -sf /proc/self/fd/0 /dev/stdin
ln -sf /proc/self/fd/1 /dev/stdout
ln -sf /proc/self/fd/2 /dev/stderr
busybox ip link set lo up
busybox ip address add 127.0.0.1/8 dev lo 2> /dev/null
ulimit -n 65536
cut -d' ' -f1 /proc/uptime > /run/lab/booted
cd "$(cat /run/lab/folder)" || cd /
bash /run/lab/command
echo $? > /run/lab/status
cut -d' ' -f1 /proc/uptime > /run/lab/ended
sync
exec > /dev/null 2>&1
echo o > /proc/sysrq-trigger
sleep 5
echo b > /proc/sysrq-trigger
