#!/bin/bash
# images.sh OUT: the node's own images, made by hand: OUT/pause (the executable too), OUT/pause.tar, OUT/busybox.tar.
#
# Needs cc and a static busybox. busybox has the name that people's manifests give it.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
out=$1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# image NAME ENTRYPOINT CMD: what lies in $work/fs, as a docker archive of one layer.
image() {
    local id
    tar -C "$work/fs" --sort=name --owner=0 --group=0 --numeric-owner --mtime=@0 -cf "$work/layer.tar" .
    id=$(sha256sum "$work/layer.tar" | cut -c1-64)
    cat >"$work/config.json" <<JSON
{"architecture": "$(dpkg --print-architecture)", "os": "linux", "created": "1970-01-01T00:00:00Z",
 "config": {"Env": ["PATH=/bin:/usr/bin:/sbin:/usr/sbin"], "Entrypoint": $2, "Cmd": $3},
 "rootfs": {"type": "layers", "diff_ids": ["sha256:$id"]}}
JSON
    echo "[{\"Config\": \"config.json\", \"RepoTags\": [\"$1\"], \"Layers\": [\"layer.tar\"]}]" >"$work/manifest.json"
    tar -C "$work" -cf "$work/image.tar" config.json layer.tar manifest.json
    rm -rf "$work/fs"
}

mkdir -p "$work/fs"
cc -Os -static -s -o "$out/pause" "$here/pause.c"
cp "$out/pause" "$work/fs/pause"
image localhost/pause:1 '["/pause"]' null
mv "$work/image.tar" "$out/pause.tar"

mkdir -p "$work"/fs/{bin,etc,tmp}
chmod 1777 "$work/fs/tmp"
cp /bin/busybox "$work/fs/bin/busybox"
busybox --list | grep -vx busybox | while read -r applet; do ln -sf busybox "$work/fs/bin/$applet"; done
echo 'root:x:0:0:root:/:/bin/sh' >"$work/fs/etc/passwd"
image docker.io/library/busybox:1 null '["sh"]'
mv "$work/image.tar" "$out/busybox.tar"
