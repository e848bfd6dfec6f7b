#!/bin/bash
# The first process of the guest: a kernel in user mode whose root is the host's, read-only. It serves one folder, over
# NFSv4.1, by GlusterFS or by sshfs, and is its clients, then runs the cases and switches itself off.
#
# From the kernel's command line: ON (nfs, glusterfs or sshfs), TOOLS (unpacked Debian packages), WORK (a folder of the host's that
# both sides write to), RUN (what runs the cases), PILLION_BIN.
#   /mnt/export  what is served      /mnt/a  a client that writes      /mnt/b  another one that reads
#   /mnt/slow    one more, which believes what it knows of a file for ten minutes
#   /mnt/fresh   one more, which forgets names when it is asked: FUSE without a cache of names; with NFS the reader's
set -e
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
HERE=$(dirname "$0")
tool() { LD_LIBRARY_PATH="$TOOLS/lib/x86_64-linux-gnu:$TOOLS/usr/lib/x86_64-linux-gnu" "$@"; }

mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev || true
for folder in /tmp /run /mnt /var/lib; do mount -t tmpfs tmpfs "$folder"; done
mkdir -p /var/lib/nfs/v4recovery /mnt/host /mnt/export /mnt/a /mnt/b /mnt/slow /mnt/fresh
touch /var/lib/nfs/etab /var/lib/nfs/rmtab
mount -t hostfs none /mnt/host -o "$WORK"
exec >/mnt/host/init.log 2>&1
finish() { echo "${1:-1}" >/mnt/host/code.new; mv /mnt/host/code.new /mnt/host/code; sync; echo o >/proc/sysrq-trigger; sleep 60; }
trap 'finish 1' EXIT

load() { (exec -a modprobe "$TOOLS/bin/kmod" -d "$TOOLS" "$1"); }

serve_nfs() {
  load nfsv4
  load nfsd
  mount -t nfsd nfsd /proc/fs/nfsd
  # No delegations, as with EFS: to the server all mounts of one kernel are one client, which it would promise that nobody
  # else writes.
  echo 0 >/proc/sys/fs/leases-enable
  # Nobody has state to claim back from a server that has just been made.
  echo 10 >/proc/fs/nfsd/nfsv4gracetime
  echo 10 >/proc/fs/nfsd/nfsv4leasetime
  tool "$TOOLS/usr/sbin/exportfs" -o rw,no_root_squash,insecure,fsid=0,no_subtree_check 127.0.0.1:/mnt/export || true # no /etc/exports
  tool "$TOOLS/usr/sbin/rpc.nfsd" -N 3 -H 127.0.0.1 4
  tool "$TOOLS/usr/sbin/rpc.mountd" -N 3
  # Without the helper of mount(8), which Debian keeps in another package: the kernel wants the addresses then.
  common=vers=4.1,nosharecache,addr=127.0.0.1,clientaddr=127.0.0.1
  mount -i -t nfs4 -o "$common" 127.0.0.1:/ /mnt/a
  mount -i -t nfs4 -o "$common" 127.0.0.1:/ /mnt/b
  mount -i -t nfs4 -o "$common,actimeo=600" 127.0.0.1:/ /mnt/slow
  mount --bind /mnt/b /mnt/fresh
}

# The modules of GlusterFS are looked for in one place alone, which is made to be there by links to all else that is.
link_glusterfs() {
  local lib=/usr/lib/x86_64-linux-gnu
  mkdir /run/host-lib /run/lib
  mount --bind "$lib" /run/host-lib
  ln -s /run/host-lib/* "$TOOLS$lib/glusterfs" /run/lib/
  mount --bind /run/lib "$lib"
}

# How long a client believes attributes and names, in seconds.
glusterfs_at() {
  (exec -a glusterfs "$TOOLS/usr/sbin/glusterfsd" -N -f "$HERE/client.vol" -l "/run/$1.log" -p "/run/$1.pid" \
    --attribute-timeout="$2" --entry-timeout="$3" "/mnt/$1") &
  for _ in $(seq 200); do mountpoint -q "/mnt/$1" && return; sleep 0.05; done
  cat "/run/$1.log"
  return 1
}

serve_glusterfs() {
  load fuse
  link_glusterfs
  export LD_LIBRARY_PATH="$TOOLS/lib/x86_64-linux-gnu:$TOOLS/usr/lib/x86_64-linux-gnu"
  "$TOOLS/usr/sbin/glusterfsd" -N -f "$HERE/server.vol" -l /run/server.log -p /run/server.pid &
  glusterfs_at a 1 1
  glusterfs_at b 1 1
  glusterfs_at slow 600 1
  glusterfs_at fresh 1 0
  unset LD_LIBRARY_PATH
}

# A server of its own for each client, as ssh starts one for each connection; without the ssh between them.
sshfs_at() {
  mkfifo "/run/$1.to" "/run/$1.from"
  # Not by `tool`: the process id is to be the server's.
  "$TOOLS/usr/lib/openssh/sftp-server" <"/run/$1.to" >"/run/$1.from" &
  echo $! >"/run/sftp-$1.pid"
  tool "$TOOLS/usr/bin/sshfs" -f -o "passive$2" :/mnt/export "/mnt/$1" >"/run/$1.to" <"/run/$1.from" &
  for _ in $(seq 200); do mountpoint -q "/mnt/$1" && return; sleep 0.05; done
  return 1
}

serve_sshfs() {
  load fuse
  sshfs_at a ''
  sshfs_at b ''
  sshfs_at slow ,dcache_timeout=600
  sshfs_at fresh ,dir_cache=no
}

ip link set lo up
mount -t ext4 /dev/ubda /mnt/export
chmod 777 /mnt/export
"serve_$ON"

export HOME=/tmp TMPDIR=/tmp PILLION_BIN ON
code=0
"$RUN" e2e nfs --inside >/mnt/host/cases.log 2>&1 || code=$?
trap - EXIT
finish "$code"
