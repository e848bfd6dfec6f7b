#!/bin/sh
# What a Job's main container does: it writes log files, and then the completion flag with its exit code.
# Usage: job.sh DIR [LINES]
set -eu
dir=$1
lines=${2:-5000}
i=0
while [ "$i" -lt "$lines" ]; do
    i=$((i + 1))
    echo "INFO order $i accepted, total $((i * 37 % 1000)).00" >> "$dir/orders.log"
    if [ "$i" -eq $((lines / 2)) ]; then
        mv "$dir/orders.log" "$dir/orders.log.1" # rotated midway
    fi
    if [ $((i % 100)) -eq 0 ]; then
        printf 'ERROR order %d failed\n  at Orders.accept(Orders.java:%d)\n  at Main.run(Main.java:7)\nCaused by: out of stock\n' \
            "$i" $((i % 300)) >> "$dir/errors.log" # stack traces
    fi
done
printf 'accepted %d orders\nthe last line has no newline' "$lines" > "$dir/summary.log"
echo 0 > "$dir/completion-flag"
