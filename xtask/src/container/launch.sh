# launch.sh ROOT DATA STATE READ_ONLY WORD…: what a container runtime does before a container's first process runs, in a
# mount namespace that is this script's own. The process stays the same from here to what the words start.
set -eu
root=$1 data=$2 state=$3 read_only=$4
shift 4
mount --bind "$root" "$root"
mount --rbind /dev "$root/dev"
mount -t proc proc "$root/proc"
mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
mount --bind "$data" "$root/data"
[ "$state" = none ] || mount --bind "$state" "$root/usr/share/filebeat/data"
[ "$read_only" = no ] || mount -o remount,bind,ro "$root"
exec /usr/bin/setpriv --no-new-privs "$@"
